"""The ensembles of Poehls et al. (2024): what their members learn, share, refuse and keep."""

import numpy as np
import pandas as pd
import pytest
import torch

from soilkit.errors import ContractError, DivergedError, LeakageError, UnitError
from soilkit.metrics import splits
from soilkit.models.tabular import (
    DenseEnsemble,
    ProbEnsemble,
    SmapLinear,
    TextureForest,
    WideDeepEnsemble,
    cross_predict,
    ensembles,
)
from soilkit.models.tabular.estimators import as_classes, learn_bins

SMALL = {"widths": (8,), "epochs": 5, "batch_size": 32}
PAPER_STRATA = ["texture", "clay", "sand", "koeppen", "land_cover", "ph"]
NETWORKS = [DenseEnsemble, ProbEnsemble, WideDeepEnsemble]


def table(n=240, seed=0):
    """Predictors, moisture that follows the first of them, and the paper's six characteristics."""
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(rng.normal(size=(n, 3)), columns=["smap", "ndvi", "lst"])
    y = 0.2 + 0.05 * np.tanh(X["smap"].to_numpy()) + rng.normal(0, 0.005, n)
    clay = rng.uniform(5, 45, n)
    strata = pd.DataFrame(
        {
            "texture": rng.choice(["Loam", "Loam", "Loam", "Sand"], n),
            "clay": clay,
            "sand": 90 - clay,
            "koeppen": rng.choice(["Cfa", "BSk"], n),
            "land_cover": rng.choice([40, 111, 20], n),
            "ph": rng.uniform(4.5, 8, n),
        }
    )
    return X, y, strata


def small(kind):
    return TextureForest(n_trees=5) if kind is TextureForest else kind(**SMALL)


def test_seven_members_are_six_characteristics_and_an_unweighted_one():
    X, y, strata = table()
    for kind in NETWORKS:
        model = small(kind).fit(X, y, strata=strata)
        assert model.member_names_ == [*PAPER_STRATA, "unweighted"]
        members = model.predict_members(X, strata=strata)
        assert members.columns.tolist() == model.member_names_
        assert members.index.equals(X.index)
        np.testing.assert_allclose(members.mean(axis=1), model.predict(X, strata=strata))
        assert members.std(axis=1).min() > 0


def test_a_balanced_member_serves_the_rare_class_better():
    """Nothing tells the classes apart, so a member can only lean to one: weights say to which."""
    rng = np.random.default_rng(1)
    rare = np.arange(400) < 20
    X, y = rng.normal(size=(400, 1)), np.where(rare, 0.4, 0.1)
    strata = pd.DataFrame({"texture": np.where(rare, "Peat", "Loam")})
    model = DenseEnsemble(widths=(8,), epochs=40, batch_size=32).fit(X, y, strata=strata)
    members = model.predict_members(X).mean()
    assert members["texture"] == pytest.approx(0.25, abs=0.04)
    assert members["unweighted"] == pytest.approx(0.115, abs=0.02)


def test_bins_are_of_equal_width_and_codes_of_classes_are_no_amounts():
    strata = pd.DataFrame({"clay": [0.0, 10.0, 50.0, np.nan], "land_cover": [40, 111, 40, np.nan]})
    bins = learn_bins(strata)
    assert bins == {"clay": pytest.approx([10, 20, 30, 40]), "land_cover": None}
    classes = as_classes(strata, bins)
    assert classes["clay"].tolist() == ["0", "1", "4", ""]
    assert classes["land_cover"].tolist() == ["40", "111", "40", ""]
    beyond = as_classes(pd.DataFrame({"clay": [-5, 90], "land_cover": [40, 40]}), bins)
    assert beyond["clay"].tolist() == ["0", "4"]
    assert beyond["land_cover"].tolist() == ["40", "40"]


@pytest.mark.parametrize("kind", NETWORKS)
def test_members_trained_side_by_side_equal_members_trained_alone(kind, monkeypatch):
    X, y, strata = table()
    together = small(kind).fit(X, y, strata=strata)
    train = ensembles.train

    def one_by_one(rows, model, *, shape, seeds):
        alone = []
        for k, seed in enumerate(seeds):
            own = rows._replace(weights=rows.weights[k : k + 1])
            alone += train(own, model, shape=shape, seeds=[seed])
        return alone

    monkeypatch.setattr(ensembles, "train", one_by_one)
    apart = small(kind).fit(X, y, strata=strata)
    for a, b in zip(together.members_, apart.members_, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            torch.testing.assert_close(a[name], b[name], atol=1e-5, rtol=1e-4)


class BytewiseDropout(torch.nn.Module):
    """Dropout of a tenth in 256ths: a unit stays where its random byte is 26 and more."""

    def forward(self, x):
        words = torch.empty(-(-x.numel() // 8) if self.training else 0, dtype=torch.int64)
        kept = words.random_(-(2**63), None).view(torch.uint8)[: x.numel()] >= 26
        return x * kept.view(x.shape) * (256 / 230) if self.training else x


def test_dropout_keeps_its_share_and_the_mean():
    """26 of 256 units go, so that the mean stays 1; members alone draw what they draw together."""
    streams = [torch.Generator().manual_seed(k) for k in range(3)]
    masks = ensembles._masks(streams, 500, units=(64, 32), dropout=0.1)
    assert [mask.shape for mask in masks] == [(3, 500, 64), (3, 500, 32)]
    for mask in masks:
        assert mask.unique().tolist() == pytest.approx([0.0, 256 / 230])
        assert mask.mean(dim=(1, 2)).tolist() == pytest.approx([1.0] * 3, abs=0.01)
    alone = ensembles._masks([torch.Generator().manual_seed(2)], 500, units=(64, 32), dropout=0.1)
    assert all(torch.equal(a[0], b[2]) for a, b in zip(alone, masks, strict=True))


def test_a_member_is_what_a_plain_training_loop_makes_of_it():
    """Linear layers, SiLU, dropout, AdamW and half a cosine, written out with torch's modules."""
    X, y, _ = table()
    model = DenseEnsemble(n_members=1, **SMALL, seed=3).fit(X.to_numpy(), y)
    seed = int(np.random.SeedSequence(3).generate_state(1)[0])
    order = torch.Generator().manual_seed(seed)
    inputs = torch.as_tensor(
        ((X - X.mean()) / X.std(ddof=0)).to_numpy().copy(), dtype=torch.float32
    )
    target = torch.as_tensor((y - y.mean()) / y.std(), dtype=torch.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [torch.nn.Linear(3, 8), torch.nn.SiLU(), BytewiseDropout()]
        net = torch.nn.Sequential(*layers, torch.nn.Linear(8, 1))
        optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=1e-2)
        rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 5)
        for _ in range(5):
            for rows in torch.randperm(240, generator=order).split(32):
                optimizer.zero_grad()
                ((net(inputs[rows])[:, 0] - target[rows]) ** 2).mean().backward()
                optimizer.step()
            rate.step()
    with torch.no_grad():
        wanted = net.eval()(inputs)[:, 0].numpy() * y.std() + y.mean()
    np.testing.assert_allclose(model.predict(X.to_numpy()), wanted, atol=1e-6)


def test_dense_and_prob_have_almost_the_same_number_of_parameters():
    X, y, _ = table()
    sizes = []
    for kind in (DenseEnsemble, ProbEnsemble):
        member = kind(n_members=1, epochs=0).fit(X, y).members_[0]
        sizes.append(sum(tensor.numel() for tensor in member.values()))
    assert sizes == [3 * 64 + 64 + 64 * 32 + 32 + 33, 3 * 64 + 64 + 64 * 32 + 32 + 66]


def test_prob_knows_where_the_target_is_noisy():
    """Noise of 0.01 on one side and 0.05 on the other: the stated uncertainty follows."""
    rng = np.random.default_rng(2)
    X = rng.uniform(-1, 1, size=(3000, 1))
    noise = np.where(X[:, 0] > 0, 0.05, 0.01)
    y = 0.25 + 0.05 * X[:, 0] + rng.normal(0, noise)
    model = ProbEnsemble(n_members=2, widths=(16,), epochs=40, dropout=0.0).fit(X, y)
    _, std = model.predict(np.array([[-0.5], [0.5]]), return_std=True)
    assert std[0] < 0.02
    assert std[1] == pytest.approx(0.05, rel=0.25)
    members = DenseEnsemble(n_members=2, widths=(16,), epochs=40).fit(X, y)
    assert members.predict(X, return_std=True)[1].mean() < 0.01


def test_a_crossing_tells_what_no_single_class_does():
    """Wet where texture and climate agree, dry where not: only their pair knows."""
    rng = np.random.default_rng(3)
    texture, climate = rng.choice(["Loam", "Sand"], 600), rng.choice(["Cfa", "BSk"], 600)
    y = np.where((texture == "Loam") == (climate == "Cfa"), 0.35, 0.1)
    strata = pd.DataFrame({"texture": texture, "koeppen": climate})
    X = rng.normal(size=(600, 1))
    model = WideDeepEnsemble(widths=(4,), epochs=30, batch_size=32, learning_rate=3e-2)
    model.fit(X, y, strata=strata)
    assert list(model.crosses_) == ["texture", "koeppen", "texture x koeppen"]
    assert np.abs(model.predict(X, strata=strata) - y).max() < 0.03


def test_an_unknown_class_adds_nothing_and_is_counted():
    X, y, strata = table()
    model = small(WideDeepEnsemble).fit(X, y, strata=strata)
    new = strata.assign(texture=["Peat"] * 3 + [None] + ["Loam"] * 236)
    with pytest.warns(UserWarning, match=r"4 of 240 rows have a texture.*Peat \(3 rows\)") as told:
        predicted = model.predict(X, strata=new)
    assert len(told) == 1 and "unknown (1 rows)" in str(told[0].message)
    assert np.isfinite(predicted).all()
    nothing = strata.assign(**dict.fromkeys(("texture", "koeppen", "land_cover"), "?"))
    nothing[["clay", "sand", "ph"]] = np.nan
    with pytest.warns(UserWarning, match="held"):
        bare = model.predict_members(X, strata=nothing)
    for member in model.members_:
        member["wide"].zero_()
    np.testing.assert_allclose(bare, model.predict_members(X, strata=strata), atol=1e-7)


def test_a_texture_forest_averages_classes_whatever_their_rows():
    """300 dry rows of loam and 20 wet ones of sand: the prediction stands half-way."""
    rng = np.random.default_rng(4)
    texture = np.repeat(["Loam", "Sand"], [300, 20])
    X, y = rng.normal(size=(320, 2)), np.where(texture == "Loam", 0.1, 0.3)
    model = TextureForest(n_trees=5).fit(X, y, strata=pd.DataFrame({"texture": texture}))
    assert model.member_names_ == ["Loam", "Sand"]
    mean, spread = model.predict(X, return_std=True)
    np.testing.assert_allclose(mean, 0.2)
    np.testing.assert_allclose(spread, 0.1)
    assert model.predict_members(X.tolist()).iloc[0].tolist() == pytest.approx([0.1, 0.3])


def test_a_texture_with_one_site_joins_the_nearest_class():
    rng = np.random.default_rng(5)
    texture = np.repeat(["Clay", "Loam", "Sand"], [30, 60, 60])
    site = np.concatenate([np.repeat(["a"], 30), np.tile(["b", "c"], 30), np.tile(["d", "e"], 30)])
    X = np.where(texture == "Sand", 5.0, 0.0)[:, None] + rng.normal(size=(150, 2))
    y = rng.random(150)
    strata = pd.DataFrame({"texture": texture})
    with pytest.warns(UserWarning, match=r"1 of 3 texture classes .* Clay \(1 sites\) with Loam"):
        model = TextureForest(n_trees=2).fit(X, y, strata, stations=site)
    assert model.member_names_ == ["Loam", "Sand"]
    assert model.merged_ == {"Clay": "Loam"}
    assert TextureForest(n_trees=2).fit(X, y, strata).member_names_ == ["Clay", "Loam", "Sand"]
    with pytest.warns(UserWarning, match="with all"):
        alone = TextureForest(n_trees=2).fit(X, y, strata, stations=np.full(150, "a"))
    assert alone.member_names_ == ["all"]


@pytest.mark.parametrize("kind", [*NETWORKS, TextureForest])
def test_bad_input_is_refused_by_name(kind):
    X, y, strata = table(60)
    with pytest.raises(UnitError, match="divide by 100"):
        small(kind).fit(X, 100 * y, strata=strata)
    with pytest.raises(ContractError, match="1 values are infinity in predictor ndvi"):
        small(kind).fit(X.assign(ndvi=[np.inf] + [0.0] * 59), y, strata=strata)
    with pytest.raises(ValueError, match="y contains NaN"):
        small(kind).fit(X, np.where(np.arange(60) == 3, np.nan, y), strata=strata)
    with pytest.raises(ContractError, match="59 rows for 60 rows"):
        small(kind).fit(X, y, strata=strata[:59])
    with pytest.raises(ContractError, match="different indices"):
        small(kind).fit(X, y, strata=strata[::-1])
    fitted = small(kind).fit(X, y, strata=strata)
    with pytest.raises(ContractError, match="infinity in predictor lst"):
        fitted.predict(X.assign(lst=-np.inf), strata=strata)


def test_strata_that_are_needed_are_asked_for():
    X, y, strata = table(60)
    for kind in (WideDeepEnsemble, TextureForest):
        with pytest.raises(ContractError, match="strata"):
            small(kind).fit(X, y)
    with pytest.raises(ContractError, match="lacks texture"):
        small(TextureForest).fit(X, y, strata[["clay"]])
    model = small(WideDeepEnsemble).fit(X, y, strata=strata)
    with pytest.raises(ContractError, match="give strata"):
        model.predict(X)
    with pytest.raises(ContractError, match="lacks ph"):
        model.predict(X, strata=strata.drop(columns="ph"))


@pytest.mark.parametrize("kind", [*NETWORKS, TextureForest])
def test_a_predictor_constant_in_training_has_no_effect(kind):
    X, y, strata = table(60)
    with pytest.warns(UserWarning, match="1 of 4 predictors never vary in training.*: flat"):
        model = small(kind).fit(X.assign(flat=0.1), y, strata=strata)
    known = model.predict(X.assign(flat=0.1), strata=strata)
    np.testing.assert_array_equal(known, model.predict(X.assign(flat=9.0), strata=strata))


@pytest.mark.parametrize("kind", [*NETWORKS, TextureForest])
def test_missing_predictors_cost_no_row(kind):
    """Missing here and there, missing always, missing at prediction alone: all are predicted."""
    X, y, strata = table(60)
    X.loc[::3, "ndvi"] = np.nan
    with pytest.warns(UserWarning, match="never vary"):
        model = small(kind).fit(X.assign(never=np.nan), y, strata=strata)
    new = X.assign(never=1.0, smap=np.nan, lst=np.nan)
    assert np.isfinite(model.predict(new, strata=strata)).all()


@pytest.mark.parametrize(
    ("options", "n_rows", "passes"),
    [({}, 100_000, (60, 256)), ({}, 500_000, (12, 2048)), ({"batch_size": 4096}, 10**7, (1, 4096))],
)
def test_large_tables_are_passed_fewer_times_and_small_ones_as_told(options, n_rows, passes):
    model = DenseEnsemble(epochs=60, **options)
    model._set_passes(n_rows)
    assert (model.epochs_, model.batch_size_) == passes


def test_a_diverging_member_stops_the_training():
    X, y, _ = table(60)
    with pytest.raises(DivergedError, match="Lower the learning rate"):
        DenseEnsemble(**SMALL, learning_rate=1e30).fit(X, y)


def test_the_number_of_threads_changes_no_digit_and_stays_as_it_was():
    X, y, _ = table()
    predicted, before = [], torch.get_num_threads()
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            predicted.append(DenseEnsemble(widths=(64,), epochs=2).fit(X, y).predict(X))
            assert torch.get_num_threads() == n
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(*predicted)


def test_a_row_alone_is_predicted_as_among_others():
    """Single precision and chunks change the last digits only."""
    X, y, _ = table()
    model = small(DenseEnsemble).fit(X, y)
    alone = np.concatenate([model.predict(X[k : k + 1]) for k in range(20)])
    np.testing.assert_allclose(model.predict(X)[:20], alone, rtol=1e-6)
    networks_rows = ensembles.PREDICT_ROWS
    many = pd.concat([X] * (networks_rows // len(X) + 2), ignore_index=True)
    np.testing.assert_allclose(model.predict(many)[-240:], model.predict(X), rtol=1e-6)


def test_a_station_on_both_sides_is_refused():
    """Folds of single rows part stations; whole stations pass the audit as unseen."""
    X, y, strata = table(120)
    station = np.array([f"N__{k}" for k in np.arange(120) % 6])
    by_row, by_station = (splits.folds(g, n_folds=3) for g in (np.arange(120), station))
    tables = {"strata": strata, "stations": station}
    model = TextureForest(n_trees=2)
    with pytest.raises(LeakageError, match="6 of 6 stations stand in two folds"):
        cross_predict(model, X, y=y, n_folds=3, **tables)
    predicted = cross_predict(model, X, y=y, groups=station, n_folds=3, **tables)
    assert np.isfinite(predicted).all()

    samples = pd.DataFrame(
        {
            "sample_id": np.arange(120).astype(str),
            "sensor_id": station,
            "station_id": station,
            "time": pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(120) * 20, unit="D"),
            "soil_moisture_m3_m3": y,
        }
    )
    with pytest.raises(LeakageError, match="unseen stations"):
        splits.audit(samples, by_row, stations=None).require("unseen stations")
    splits.audit(samples, by_station, stations=None).require("unseen stations")


def test_strata_of_a_fold_travel_with_its_rows():
    """The held-out fold is predicted by a wide part that crossed the other folds' classes only."""
    X, y, strata = table(90)
    groups = np.arange(90) % 3
    model = small(WideDeepEnsemble)
    predicted = cross_predict(model, X, y=y, groups=groups, strata=strata)
    out = groups == 1
    by_hand = small(WideDeepEnsemble).fit(X[~out], y[~out], strata=strata[~out])
    np.testing.assert_allclose(predicted[out], by_hand.predict(X[out], strata=strata[out]))
    assert not hasattr(model, "members_")
    line = cross_predict(SmapLinear(), X, y=y, groups=groups)
    assert np.isfinite(line).all()

"""Distances from training data, the area inside their threshold, and the skill there."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist, pdist
from sklearn.neighbors import KNeighborsRegressor

from soilkit.errors import ContractError
from soilkit.metrics.evaluation import applicability
from soilkit.metrics.evaluation import applicability as area_module
from soilkit.metrics.evaluation.applicability import _scores
from soilkit.metrics.splits import block_ids

DATA = Path(os.environ.get("SOILKIT_TEST_DATA") or "no-data") / "us_10day" / "matched_10day.parquet"


def table(*rows, names="ab"):
    return pd.DataFrame(rows, columns=list(names), dtype=float)


def cloud(n, *, seed=0, shift=0.0, names="abc"):
    values = np.random.default_rng(seed).normal(size=(n, len(names))) + shift
    return pd.DataFrame(values, columns=list(names))


def test_the_index_is_the_nearest_over_the_mean_distance():
    """Three points on a line: distances by hand."""
    training = table((0,), (1,), (5,), names="a")
    area = applicability.fit(training, predictors=["a"])
    # Pairs are 1, 4 and 5 apart, 10/3 on average; the standard deviation cancels in the ratio.
    found = area.measure(table((0.5,), (5,), (9,), names="a"))
    assert found["dissimilarity_index"].tolist() == pytest.approx([0.15, 0, 1.2])
    # Each training row against the others: 1, 1 and 4 over 10/3.
    assert area.training_index.tolist() == pytest.approx([0.3, 0.3, 1.2])
    # Quartiles 0.3 and 0.75: the whisker may reach 0.75 + 1.5 * 0.45 = 1.425, so to 1.2.
    assert area.threshold == pytest.approx(1.2)
    assert found["status"].tolist()[:2] == ["inside", "inside"]


def test_an_outlier_does_not_widen_the_area():
    """Ten even steps and one far row: that row is beyond the whisker."""
    training = table(*[(float(i),) for i in range(10)], (100.0,), names="a")
    area = applicability.fit(training, predictors=["a"])
    assert area.training_index.max() > 5 * area.threshold
    assert area.threshold == pytest.approx(area.training_index[0])


def test_groups_measure_to_others_and_open_the_area():
    """A station's own neighbours in time are no evidence for an unseen station."""
    training = table((0,), (0.1,), (1,), (1.1,), (3,), (3.1,), names="a")
    alone = applicability.fit(training, predictors=["a"])
    apart = applicability.fit(training, predictors=["a"], groups=["p", "p", "q", "q", "r", "r"])
    unit = apart.mean_distance * apart.scale[0]
    np.testing.assert_allclose(apart.training_index * unit, [1, 0.9, 0.9, 1, 1.9, 2])
    np.testing.assert_allclose(alone.training_index * unit, 0.1)
    assert apart.threshold > 5 * alone.threshold


@pytest.mark.parametrize(("n_groups", "n_values"), [(3, 100), (3, 7_000), (40, 100), (150, 10**6)])
def test_the_search_for_other_groups_agrees_with_all_pairs(monkeypatch, n_groups, n_values):
    """Few large groups or many small ones; how many rows are searched at once changes nothing."""
    monkeypatch.setattr(area_module, "CHUNK_VALUES", n_values)
    training = cloud(300)
    groups = np.random.default_rng(1).integers(0, n_groups, 300)
    centres = np.random.default_rng(2).normal(scale=3, size=(n_groups, 3))
    training += centres[groups]
    area = applicability.fit(training, predictors=list("abc"), groups=groups)
    scaled = ((training - training.mean()) / training.std()).to_numpy()
    distance = cdist(scaled, scaled)
    slow = np.where(groups[:, None] == groups, np.inf, distance).min(axis=1)
    assert area.mean_distance == pytest.approx(pdist(scaled).mean(), rel=1e-12)
    np.testing.assert_allclose(area.training_index, slow / pdist(scaled).mean(), rtol=1e-9)
    new = cloud(50, seed=3)
    scaled_new = ((new - training.mean()) / training.std()).to_numpy()
    far = cdist(scaled_new, scaled)
    found = area.measure(new)
    slow_index = far.min(axis=1) / pdist(scaled).mean()
    np.testing.assert_allclose(found["dissimilarity_index"], slow_index, rtol=1e-9)
    near = (far <= area.threshold * area.mean_distance).sum(axis=1)
    assert found["is_inside"].tolist() == (near > 0).tolist()


def test_units_do_not_matter():
    """Metres or kilometres are alike."""
    training = cloud(60)
    plain = applicability.fit(training, predictors=list("abc"))
    scaled = applicability.fit(training.assign(a=1000 * training["a"]), predictors=list("abc"))
    assert scaled.threshold == pytest.approx(plain.threshold)
    strange = pd.DataFrame({"a": [50.0], "b": [0.0], "c": [0.0]})
    assert plain.measure(strange)["status"].tolist() == ["outside"]


def test_missing_predictors_have_a_status_and_no_distance():
    training = cloud(30)
    training.loc[4, "b"] = np.nan
    area = applicability.fit(training, predictors=list("abc"))
    assert len(area.training_index) == 29
    new = table((0, 0, 0), (np.nan, 0, np.inf), (0, np.nan, 0), names="abc")
    found = area.measure(new.set_index(pd.Index([7, 8, 9])))
    assert found["status"].tolist() == ["inside", "missing: a, c", "missing: b"]
    assert found["is_inside"].tolist() == [True, False, False]
    assert found["dissimilarity_index"].isna().tolist() == [False, True, True]
    assert found.index.tolist() == [7, 8, 9]
    assert area.measure(new[:0]).empty


def test_a_value_never_seen_in_a_constant_predictor_is_told():
    """Trained under one land-cover code, a model knows nothing of another."""
    area = applicability.fit(cloud(30).assign(code=40.0), predictors=["a", "b", "code"])
    new = pd.DataFrame({"a": 0.0, "b": 0.0, "code": [40.0, 114.0, np.nan]})
    found = area.measure(new)
    assert found["status"].tolist() == ["inside", "unseen value: code", "missing: code"]
    assert found["is_inside"].tolist() == [True, False, False]


def test_what_makes_no_area_is_refused():
    training = cloud(20)
    with pytest.raises(ContractError, match="No predictors z in the table; it has a, b, c"):
        applicability.fit(training, predictors=["a", "z"])
    with pytest.raises(ContractError, match="One group alone"):
        applicability.fit(training, predictors=["a"], groups=["x"] * 20)
    with pytest.raises(ContractError, match="3 groups for 20"):
        applicability.fit(training, predictors=["a"], groups=["x"] * 3)
    with pytest.raises(ContractError, match="varies in training"):
        applicability.fit(training.assign(a=1.0), predictors=["a"])
    with pytest.raises(ContractError, match="found 2 of 20"):
        applicability.fit(training.reindex(range(2)).reindex(range(20)), predictors=["a"])


def test_the_mean_distance_of_many_rows_is_drawn_and_close():
    """6,000 rows: 5,000 of them, the same for one seed, tell the mean within 1 %."""
    training = cloud(6000)
    area = applicability.fit(training, predictors=list("abc"), seed=1)
    again = applicability.fit(training, predictors=list("abc"), seed=1)
    assert area.mean_distance == again.mean_distance
    scaled = (training - training.mean()) / training.std()
    assert area.mean_distance == pytest.approx(pdist(scaled).mean(), rel=0.01)
    assert area.mean_distance != pdist(scaled).mean()


def test_the_threshold_of_many_rows_is_drawn_and_close(monkeypatch):
    """Of 3,000 rows 1,000 are searched, among all of them: the threshold moves by few percent."""
    training = cloud(3000)
    groups = np.arange(3000) % 300
    whole = applicability.fit(training, predictors=list("abc"), groups=groups)
    monkeypatch.setattr(area_module, "MOST_SEARCHES", 1000)
    drawn = applicability.fit(training, predictors=list("abc"), groups=groups)
    assert (len(whole.training_index), len(drawn.training_index)) == (3000, 1000)
    assert np.isin(drawn.training_index, whole.training_index).all()
    assert drawn.threshold == pytest.approx(whole.threshold, rel=0.05)


def simulated(n, *, seed, reach):
    """Stations of 20 rows with a trait and a wetness, moisture a curve of both, and noise."""
    rng = np.random.default_rng(seed)
    trait = np.repeat(rng.uniform(-1, reach, n // 20), 20)
    wet = rng.uniform(-1, 1, n)
    moisture = 0.25 + 0.08 * wet + 0.05 * np.sin(2 * trait) + 0.02 * trait**2
    return pd.DataFrame(
        {
            "trait": trait, "wet": wet, "observed_m3_m3": moisture + rng.normal(0, 0.02, n),
            "station": np.repeat(np.arange(n // 20), 20),
        }
    )  # fmt: skip


def test_error_grows_with_distance_and_inside_is_what_cross_validation_promised():
    """Trained on traits from -1 to 1, asked from -1 to 4: the claim of Meyer and Pebesma."""
    predictors = ["trait", "wet"]
    training, new = simulated(2000, seed=0, reach=1), simulated(4000, seed=1, reach=4)
    model = KNeighborsRegressor(10).fit(training[predictors], training["observed_m3_m3"])
    area = applicability.fit(training, predictors=predictors, groups=training["station"])
    new = new.assign(predicted_m3_m3=model.predict(new[predictors]), model="m", split="test")
    measured = area.measure(new)
    share = (new["trait"] < 1).mean()
    assert measured["is_inside"].mean() == pytest.approx(share, abs=0.1)
    found = applicability.skill_by_dissimilarity(
        new, measured, clusters=new["station"], n_bins=2
    ).set_index(["side", "bin"])
    rmse = found["rmse_m3_m3"]
    assert rmse["outside", "2"] > 2 * rmse["outside", "1"] > 2 * rmse["inside", "all"]
    assert found.loc[("outside", "all"), "rmse_m3_m3_lower"] > rmse["inside", "all"]
    folds = training["station"] % 5
    errors = []
    for fold in range(5):
        seen, out = training[folds != fold], training[folds == fold]
        model = KNeighborsRegressor(10).fit(seen[predictors], seen["observed_m3_m3"])
        errors.append(model.predict(out[predictors]) - out["observed_m3_m3"])
    promised = np.sqrt(np.mean(np.concatenate(errors) ** 2))
    assert rmse["inside", "all"] == pytest.approx(promised, rel=0.15)


def test_scores_of_a_bin_are_those_of_its_rows():
    """RMSE and R by numpy; every prediction stands in one bin; models apart."""
    rng = np.random.default_rng(0)
    observed = rng.uniform(0, 0.5, 400)
    predictions = pd.DataFrame(
        {
            "observed_m3_m3": observed, "predicted_m3_m3": observed + rng.normal(0, 0.05, 400),
            "model": np.repeat(["m", "w"], 200), "split": "test",
        }
    )  # fmt: skip
    predictions.loc[:3, "observed_m3_m3"] = np.nan
    status = np.where(np.arange(400) % 4 == 0, "outside", "inside").astype(object)
    status[5], status[6] = "missing: a, b", "missing: c"
    measured = pd.DataFrame({"dissimilarity_index": rng.random(400), "status": status})
    clusters = rng.integers(0, 30, 400)
    found = applicability.skill_by_dissimilarity(predictions, measured, clusters=clusters, n_bins=3)
    bins = found[found["bin"] != "all"]
    assert bins.groupby("model")["n"].sum().to_dict() == {"m": 200 - 4 - 2, "w": 200}
    whole = found[(found["model"] == "w") & (found["bin"] == "all")].set_index("side")
    rows = predictions[(predictions["model"] == "w") & (status == "inside")]
    error = rows["predicted_m3_m3"] - rows["observed_m3_m3"]
    assert whole.loc["inside", "rmse_m3_m3"] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-12)
    r = np.corrcoef(rows["predicted_m3_m3"], rows["observed_m3_m3"])[0, 1]
    assert whole.loc["inside", "r"] == pytest.approx(r, rel=1e-12)
    assert whole.loc["inside", "r_lower"] < r < whole.loc["inside", "r_upper"]
    assert whole.loc["inside", "status"] == "ok"
    missing = found[found["side"] == "missing"]
    assert missing["status"].tolist() == ["fewer than 3 pairs"]
    again = applicability.skill_by_dissimilarity(predictions, measured, clusters=clusters, n_bins=3)
    pd.testing.assert_frame_equal(found, again)
    with pytest.raises(ContractError, match="one row a prediction"):
        applicability.skill_by_dissimilarity(predictions, measured[1:], clusters=clusters)


def test_bins_run_by_number_and_clusters_of_any_kind_are_names():
    """Ten bins and more, and clusters of which some are numbers, some names, some missing."""
    rng = np.random.default_rng(1)
    observed = rng.uniform(0, 0.5, 240)
    predictions = pd.DataFrame(
        {"observed_m3_m3": observed, "predicted_m3_m3": observed + rng.normal(0, 0.05, 240),
         "model": "m", "split": "test"}
    )  # fmt: skip
    measured = pd.DataFrame({"dissimilarity_index": rng.random(240), "status": "inside"})
    clusters = [*range(9), "nine", np.nan, None] * 20
    found = applicability.skill_by_dissimilarity(
        predictions, measured, clusters=clusters, n_bins=11
    )
    assert found["bin"].tolist() == ["all", *map(str, range(1, 12))]
    assert found["index_from"][1:].is_monotonic_increasing
    assert found["n_clusters"][0] == 12 and np.isfinite(found["rmse_m3_m3_lower"]).all()


def rows_of(observed, predicted, cluster):
    columns = {"observed_m3_m3": observed, "predicted_m3_m3": predicted, "cluster": cluster}
    return pd.DataFrame(columns)


def test_a_bin_that_has_no_score_or_interval_says_why():
    observed = np.linspace(0.1, 0.3, 12)
    few = _scores(rows_of(observed, observed + 0.1, [0, 1] * 6), seed=0)
    assert few["status"] == "no interval: fewer than 5 clusters"
    assert few["rmse_m3_m3"] == pytest.approx(0.1) and np.isnan(few["rmse_m3_m3_lower"])
    flat = _scores(rows_of(observed, np.full(12, 0.1), range(12)), seed=0)
    assert flat["status"] == "no R: a series is constant"
    assert np.isnan(flat["r"]) and flat["rmse_m3_m3_upper"] > flat["rmse_m3_m3"]
    exact = _scores(rows_of(observed, observed, range(12)), seed=0)
    assert exact["status"].startswith("no interval of r")
    assert (exact["rmse_m3_m3"], exact["r"]) == (0, pytest.approx(1))
    lifted = _scores(rows_of(observed + 1e4, observed**2 + 1e4, range(12)), seed=0)
    assert lifted["r"] == pytest.approx(np.corrcoef(observed, observed**2)[0, 1], abs=1e-9)


def coverage(n_trials, *, n_clusters=40):
    """How often the interval holds the true RMSE, errors of a station going together."""
    truth, hits = np.hypot(0.04, 0.03), 0
    for seed in range(n_trials):
        rng = np.random.default_rng(seed)
        cluster = np.repeat(np.arange(n_clusters), 20)
        error = rng.normal(0, 0.04, n_clusters)[cluster] + rng.normal(0, 0.03, len(cluster))
        observed = rng.uniform(0, 0.5, len(cluster))
        found = _scores(rows_of(observed, observed + error, cluster), seed=seed)
        hits += found["rmse_m3_m3_lower"] <= truth <= found["rmse_m3_m3_upper"]
    return hits / n_trials


def test_intervals_know_that_errors_of_a_station_go_together():
    """40 stations: intervals of 95 % hold the truth in about 92 of 100."""
    assert 0.84 <= coverage(100) <= 0.99


@pytest.mark.slow
def test_intervals_hold_their_promise_in_many_trials():
    assert 0.90 <= coverage(2000) <= 0.96


@pytest.mark.skipif(not DATA.is_file(), reason="SOILKIT_TEST_DATA holds no us_10day table")
def test_real_stations_of_another_network_lie_farther_out():
    """Trained without TxSON, the area by blocks holds fewer of its rows than of training's own."""
    samples = pd.read_parquet(DATA)
    predictors = ["VV", "VH", "angle", "B4", "B8", "B11", "mtpi", "field_capacity_pct"]
    blocks = block_ids(samples.rename(columns={"lat": "latitude", "lon": "longitude"}))
    held_out = samples["network"] == "TxSON"
    area = applicability.fit(samples[~held_out], predictors=predictors, groups=blocks[~held_out])
    found = area.measure(samples[held_out])
    complete = samples.loc[held_out, predictors].notna().all(axis=1)
    assert (found["status"].str.startswith("missing") == ~complete).all()
    inside = found.loc[complete, "is_inside"].mean()
    assert 0 < inside < (area.training_index <= area.threshold).mean() + 0.05

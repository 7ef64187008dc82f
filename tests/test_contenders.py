"""The two-part model, its neighbours and the choice inside training, on made-up stations."""

import numpy as np
import pandas as pd
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from soilkit.errors import ContractError, UnitError
from soilkit.metrics import splits
from soilkit.models.tabular.two_part import Chosen, GapRidge, Neighbours, TwoPart, block_weights


def made_up(n_stations=16, n_windows=30, seed=0, level_slope=0.2):
    """Moisture = 0.2 + slope * soil + 0.05 * z, z told by the column ``moving`` with noise."""
    rng = np.random.default_rng(seed)
    station, window = np.divmod(np.arange(n_stations * n_windows), n_windows)
    soil = rng.uniform(-0.5, 0.5, n_stations)[station]
    z = rng.normal(size=len(station))
    X = pd.DataFrame(
        {"moving": z + rng.normal(0, 0.3, len(z)), "soil": soil, "idle": rng.normal(size=len(z))}
    )
    at = pd.DataFrame(
        {
            "sensor_id": [f"s{i}" for i in station],
            "time": (pd.Timestamp("2020-01-01") + pd.to_timedelta(window, unit="D")).astype(
                "datetime64[us]"
            ),
            "latitude": 30.0 + 2 * (station % 4),
            "longitude": -100.0 + 2 * (station // 4),
            "block": station,
        }
    )
    return X, 0.25 + level_slope * soil + 0.05 * z, at


PARTS = TwoPart(("moving", "idle"), ("soil",), ("soil",), penalty=1.0, level_penalty=0.1)


def test_the_two_parts_learn_level_and_movement():
    X, y, at = made_up()
    train = at["block"].to_numpy() < 12
    fitted = PARTS.fit(X[train], y[train], at=at[train])
    predicted = fitted.predict(X[~train], at=at[~train])
    by = at.loc[~train, "sensor_id"].to_numpy()
    table = pd.DataFrame({"p": predicted, "o": y[~train]})
    means = table.groupby(by).mean()
    np.testing.assert_allclose(means["p"], means["o"], atol=0.02)
    assert table.groupby(by).corr().loc[(slice(None), "p"), "o"].min() > 0.9


def test_without_a_static_signal_the_level_is_the_mean_of_stations():
    X, y, at = made_up()
    X["soil"] = 1.0
    X[["moving", "idle"]] = 0.0
    fitted = PARTS.fit(X, y, at=at)
    means = pd.Series(y).groupby(at["sensor_id"]).mean()
    np.testing.assert_allclose(fitted.predict(X, at=at), means.mean())


def test_a_dense_block_does_not_outvote_the_others():
    """Nine rows of one block and one of another: weights 1/3 and 1, whatever the scale."""
    weights = block_weights(["dense"] * 9 + ["single"])
    assert weights[-1] / weights[0] == pytest.approx(3.0)
    assert weights.mean() == pytest.approx(1.0)


def test_the_ridge_takes_gaps_and_constants_as_no_news():
    rng = np.random.default_rng(0)
    x = rng.normal(size=200)
    X = np.stack([x, np.ones(200), np.full(200, np.nan)], axis=1)
    line = GapRidge(penalty=1e-6).fit(X, 2 * x)
    assert line.coef_[1:].tolist() == [0.0, 0.0]
    assert line.predict([[np.nan, 5.0, 3.0]]) == pytest.approx([np.mean(2 * x)], abs=1e-9)


UNWEIGHTED = {
    "check_sample_weight_equivalence_on_dense_data": "rows are standardised without weights",
}


@parametrize_with_checks([GapRidge(penalty=1e-3)], expected_failed_checks=lambda _: UNWEIGHTED)
def test_the_ridge_keeps_scikit_learns_contract(estimator, check):
    check(estimator)


def test_neighbours_bring_the_residual_of_the_same_time_only():
    X, _, at = made_up(n_stations=4)
    residual = np.where(at["time"] == at["time"].iloc[3], 1.0, 0.0)
    model = Neighbours(reach_km=500.0).fit(at, residual)
    new = at.iloc[[3, 4]].assign(latitude=31.0)
    near, other = model.predict(new)
    assert 0.2 < near < 1
    assert other == pytest.approx(0.0)
    later = new.assign(time=pd.Timestamp("2030-01-01"))
    assert model.predict(later).tolist() == [0.0, 0.0]
    far = new.assign(latitude=-30.0)
    assert np.abs(model.predict(far)).max() < 1e-3


def test_a_regional_residual_improves_a_new_station():
    """A weekly wet spell that no predictor sees: neighbours see it."""
    X, y, at = made_up()
    spell = np.random.default_rng(5).normal(0, 0.05, 30)[np.arange(len(y)) % 30]
    train = at["block"].to_numpy() < 12
    errors = []
    for reach_km in (0.0, 800.0):
        model = TwoPart(**{**PARTS.get_params(), "reach_km": reach_km})
        fitted = model.fit(X[train], (y + spell)[train], at=at[train])
        errors.append(np.std(fitted.predict(X[~train], at=at[~train]) - (y + spell)[~train]))
    assert errors[1] < 0.8 * errors[0]


def test_the_choice_never_sees_a_test_row():
    """Whatever the rows outside training hold, choice and fit stay to the last bit."""
    X, y, at = made_up()
    train = at["block"].to_numpy() < 12
    stages = (("penalty", (1.0, 1e4)),)
    one = Chosen(PARTS, stages).fit(X[train], y[train], at=at[train])
    X2, y2 = X.copy(), y.copy()
    X2.loc[~train] = 7.0
    y2[~train] = 0.5
    two = Chosen(PARTS, stages).fit(X2[train], y2[train], at=at[train])
    np.testing.assert_array_equal(one.predict(X, at=at), two.predict(X, at=at))
    assert one.model_.penalty == 1.0  # a penalty of ten thousand rows flattens 360


def test_inner_folds_hold_whole_blocks(monkeypatch):
    from soilkit.models.tabular import two_part

    seen = []
    real = two_part.cross_predict

    def spy(model, X, **rest):
        folds = splits.folds(rest["groups"], seed=rest["seed"])
        seen.append((rest["at"]["block"].to_numpy(), folds))
        return real(model, X, **rest)

    monkeypatch.setattr(two_part, "cross_predict", spy)
    X, y, at = made_up()
    two_part.Chosen(PARTS, (("penalty", (1.0,)),)).fit(X, y, at=at.assign(block=at["block"] // 2))
    ((block, folds),) = seen
    assert pd.Series(folds).groupby(block).nunique().max() == 1
    assert len(set(folds)) == 5


def test_between_two_times_the_regional_residual_is_interpolated():
    """Windows that start three days later than the network's keep seven tenths of its news."""
    X, _, at = made_up(n_stations=4)
    at["time"] = pd.Timestamp("2020-01-01") + 10 * (at["time"] - pd.Timestamp("2020-01-01"))
    model = Neighbours(reach_km=500.0).fit(at, np.where(at["time"] == at["time"][3], 1.0, 0.0))
    new = at.iloc[[3, 3, 3]].assign(latitude=31.0)
    new["time"] += pd.to_timedelta([0, 3, 11], unit="D")
    on_the_day, later, too_late = model.predict(new)
    assert later == pytest.approx(0.7 * on_the_day)
    assert on_the_day > 0.2 and too_late == 0.0


def test_wrong_input_is_refused_by_name():
    X, y, at = made_up()
    with pytest.raises(UnitError, match="percent"):
        PARTS.fit(X, 100 * y, at=at)
    with pytest.raises(ContractError, match="latitude"):
        PARTS.fit(X, y, at=at.drop(columns="latitude"))
    with pytest.raises(ContractError, match="5 labelled rows"):
        PARTS.fit(X[::30], y[::30], at=at[::30])
    with pytest.raises(ContractError, match="lack soil"):
        PARTS.fit(X, y, at=at).predict(X.drop(columns="soil"), at=at)
    broken = X.assign(moving=np.inf)
    with pytest.raises(ValueError, match="infinity"):
        PARTS.fit(broken, y, at=at)

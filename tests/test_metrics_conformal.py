"""Intervals for unseen stations cover what they promise; the row-wise ones do not."""

import numpy as np
import pandas as pd
import pytest

from soilkit import metrics
from soilkit.errors import ContractError
from soilkit.metrics import calibration as conformal


def stations_of(rng, n_stations, *, effect=0.06, noise=0.03, first=0, std=None):
    """Predictions whose error is a station's offset plus noise; records of 5 to 200 readings."""
    lengths = rng.choice([5, 20, 200], n_stations)
    station = np.repeat(np.arange(n_stations), lengths)
    error = np.repeat(rng.normal(0, effect, n_stations), lengths)
    error = error + rng.normal(0, noise, len(station))
    names = np.array([f"N__S{first + i}" for i in range(n_stations)])[station]
    table = pd.DataFrame(
        {
            "sample_id": [f"{first}-{i}" for i in range(len(station))],
            "sensor_id": names,
            "station_id": names,
            "network": "N",
            "time": np.datetime64("2020-01-01", "us"),
            "observed_m3_m3": 0.25 + error,
            "predicted_m3_m3": 0.25,
            "model": "m",
            "split": "test",
        }
    )
    return table if std is None else table.assign(predicted_std_m3_m3=std)


def simulated(n_trials, *, n_stations, coverage=0.9):
    """(promise by row, row-wise quantile, promise by station, row-wise for stations)."""
    kept = []
    for seed in range(n_trials):
        rng = np.random.default_rng(seed)
        groups = np.repeat(np.arange(n_stations), rng.choice([5, 20, 200], n_stations))
        offsets = rng.normal(0, 0.06, n_stations)
        scores = np.abs(offsets[groups] + rng.normal(0, 0.03, len(groups)))
        by_row = conformal.row_threshold(scores, groups, coverage=coverage)
        by_station = conformal.station_threshold(scores, groups, coverage=coverage, share=0.8)
        level = min(np.ceil(coverage * (len(scores) + 1)) / len(scores), 1)
        naive = np.quantile(scores, level, method="higher")
        new = rng.normal(0, 0.06) + rng.normal(0, 0.03, rng.choice([5, 20, 200]))
        inside = [np.mean(np.abs(new) <= q) for q in (by_row, naive, by_station)]
        kept.append([*inside[:2], inside[2] >= coverage, inside[1] >= coverage])
    return np.mean(kept, axis=0)


def check_simulation(found, *, margin):
    by_row, naive, by_station, naive_stations = found
    assert by_row >= 0.9 - margin
    assert naive < by_row - 0.01 and naive < 0.9 - margin / 2
    assert by_station >= 0.8 - margin
    assert naive_stations < by_station


def test_unseen_stations_are_covered_as_promised():
    """12 stations of unequal length, 600 worlds: a standard error of the mean is about 0.01."""
    check_simulation(simulated(600, n_stations=12), margin=0.025)


@pytest.mark.slow
def test_unseen_stations_are_covered_as_promised_in_many_worlds():
    """6,000 worlds: standard errors of 0.004; row-wise quantiles lose several percent."""
    check_simulation(simulated(6000, n_stations=12), margin=0.012)


def test_the_promise_is_not_bought_with_endless_width():
    """With 99 stations the weighted quantile is nearly the true one: coverage 0.90 to 0.92."""
    by_row = simulated(300, n_stations=99)[0]
    assert 0.88 <= by_row <= 0.94


def test_thresholds_by_hand():
    """Three groups of 2, 1 and 1 readings: weights 1/8, 1/8, 1/4, 1/4, and 1/4 at infinity."""
    scores, groups = np.array([1.0, 4.0, 2.0, 3.0]), np.array(["a", "a", "b", "c"])
    # Sorted 1 2 3 4: cumulative 1/8, 3/8, 5/8, 6/8.
    assert conformal.row_threshold(scores, groups, coverage=0.375) == 2
    assert conformal.row_threshold(scores, groups, coverage=0.38) == 3
    assert conformal.row_threshold(scores, groups, coverage=0.6) == 3  # rows alike: 9/16, so 4
    assert conformal.row_threshold(scores, groups, coverage=0.75) == 4
    with pytest.raises(ContractError, match="need 4 calibration groups .* found 3"):
        conformal.row_threshold(scores, groups, coverage=0.8)
    # Own medians (the ceil(n / 2)-th smallest): 1, 2, 3; maxima: 4, 2, 3.
    # ceil(0.5 x 4) = 2nd smallest, ceil(0.75 x 4) = 3rd.
    assert conformal.station_threshold(scores, groups, coverage=0.5, share=0.5) == 2
    assert conformal.station_threshold(scores, groups, coverage=1, share=0.5) == 3
    assert conformal.station_threshold(scores, groups, coverage=1, share=0.75) == 4


def test_nine_stations_are_just_enough_for_ninety_percent():
    """K / (K + 1) = 0.9 exactly: the largest score, whatever floating point makes of it."""
    scores = np.arange(9.0)
    assert conformal.row_threshold(scores, np.arange(9), coverage=0.9) == 8
    with pytest.raises(ContractError, match="need 9 calibration groups"):
        conformal.row_threshold(scores[:8], np.arange(8), coverage=0.9)


def test_intervals_are_the_prediction_plus_minus_the_threshold():
    """Applied to new stations, with a status where a prediction is missing."""
    rng = np.random.default_rng(0)
    fitted = conformal.fit(stations_of(rng, 30))
    new = stations_of(rng, 3, first=100)
    new.loc[1, "predicted_m3_m3"] = np.nan
    found = conformal.apply(fitted, new)
    np.testing.assert_allclose(
        found["upper_m3_m3"].drop(1), 0.25 + fitted.threshold, rtol=0, atol=1e-15
    )
    assert found["interval_status"].tolist()[:3] == ["ok", "no prediction", "ok"]
    assert np.isnan(found.loc[1, "lower_m3_m3"])


def _covered(intervals, new):
    """Mean coverage of the stations with small and with large errors."""
    inside = intervals["observed_m3_m3"].between(intervals["lower_m3_m3"], intervals["upper_m3_m3"])
    of_station = inside.groupby([new["predicted_std_m3_m3"], new["station_id"]]).mean()
    return of_station.groupby(level=0).mean().to_numpy()


def test_a_predicted_std_makes_intervals_wider_where_it_is_larger():
    """Half of the stations err twice as much and say so: both halves are covered alike."""
    rng = np.random.default_rng(1)
    n = 400
    parts = [
        stations_of(rng, 1, effect=s, noise=s / 2, first=i, std=s)
        for i, s in enumerate(np.tile([0.02, 0.08], n // 2))
    ]
    calibration, new = pd.concat(parts[: n // 2]), pd.concat(parts[n // 2 :])
    fitted = conformal.fit(calibration)
    assert fitted.is_normalised
    found = conformal.apply(fitted, new)
    width = (found["upper_m3_m3"] - found["lower_m3_m3"]) / 2
    np.testing.assert_allclose(width, fitted.threshold * new["predicted_std_m3_m3"], atol=1e-12)
    plain = conformal.apply(
        conformal.fit(calibration.drop(columns="predicted_std_m3_m3")),
        new.drop(columns="predicted_std_m3_m3"),
    )
    # Standard error of a half's coverage over 100 stations: about 0.03.
    assert abs(np.diff(_covered(found, new))) < 0.1
    assert abs(np.diff(_covered(plain, new))) > 0.12
    with pytest.raises(ContractError, match="which these predictions lack"):
        conformal.apply(fitted, new.drop(columns="predicted_std_m3_m3"))
    found = conformal.apply(fitted, new.assign(predicted_std_m3_m3=np.nan))
    assert set(found["interval_status"]) == {"no predicted spread"}


def test_stations_may_not_play_two_parts():
    """Trained and calibrating, or calibrating and tested: the guarantee would be void."""
    rng = np.random.default_rng(2)
    table = stations_of(rng, 20)
    with pytest.raises(ContractError, match="1 groups trained the model and calibrate it"):
        conformal.fit(table, training_stations=["N__S3", "N__S99"])
    fitted = conformal.fit(table)
    with pytest.raises(ContractError, match="20 groups calibrated these intervals"):
        conformal.apply(fitted, table)
    with pytest.raises(ContractError, match="one model, found m, other"):
        conformal.fit(pd.concat([table, table.assign(model="other")]))
    with pytest.raises(ContractError, match="Calibrated for 'm', found predictions of 'o'"):
        conformal.apply(fitted, stations_of(rng, 2, first=50).assign(model="o"))


def test_neighbours_in_one_pixel_count_as_one_group():
    """30 stations in 10 groups are 10 chances, and a neighbour of a calibration station leaks."""
    rng = np.random.default_rng(3)
    table = stations_of(rng, 30)
    groups = pd.Series([i % 10 for i in range(31)], index=[f"N__S{i}" for i in range(31)])
    fitted = conformal.fit(table, groups=groups)
    assert (fitted.n_groups, fitted.n_rows) == (10, len(table))
    with pytest.raises(ContractError, match="1 groups calibrated"):  # S30 shares S0's group
        conformal.apply(fitted, stations_of(rng, 1, first=30))
    with pytest.raises(ContractError, match="names no group for N__S31"):
        conformal.apply(fitted, stations_of(rng, 1, first=31))
    with pytest.raises(ContractError, match="1 groups trained"):
        conformal.fit(table[table["station_id"] != "N__S30"], groups=groups,
                      training_stations=["N__S30"])  # fmt: skip


def test_the_promise_is_said_in_words():
    """Which readings, how sure, and where it ends."""
    rng = np.random.default_rng(4)
    text = str(conformal.fit(stations_of(rng, 30)))
    assert "random reading of a new group" in text and ">= 0.9" in text
    assert "single station may be covered far less" in text
    text = str(conformal.fit(stations_of(rng, 30), guarantee="station", share_of_stations=0.8))
    assert "probability >= 0.8" in text and "at least 0.9" in text
    with pytest.raises(ContractError, match="one of row, station"):
        conformal.fit(stations_of(rng, 30), guarantee="pixel")


def test_wrong_predictions_without_spread_leave_no_finite_interval():
    """std 0 and an error divide to infinity: an error that counts them, no silent infinity."""
    rng = np.random.default_rng(5)
    with pytest.raises(ContractError, match="wrong predictions have a std of zero"):
        conformal.fit(stations_of(rng, 20, std=0.0))


def test_coverage_of_intervals_by_hand():
    """One of four readings lies 0.1 above an interval of 0.2: coverage 3/4, score 0.2 + 0.5."""
    rng = np.random.default_rng(6)
    lines = stations_of(rng, 6).groupby("station_id").head(5)
    table = pd.concat([lines] * 4).sort_values("station_id", ignore_index=True)
    inside = np.arange(len(table)) % 4 != 0
    table = table.assign(
        lower_m3_m3=0.1, upper_m3_m3=0.3, observed_m3_m3=np.where(inside, 0.2, 0.4)
    )
    found = metrics.interval_coverage(table, nominal=0.9).set_index("metric")["observed"]
    assert found["coverage"] == pytest.approx(0.75)
    assert found["covered_sensors"] == 0
    assert found["width_m3_m3"] == pytest.approx(0.2)
    assert found["interval_score_m3_m3"] == pytest.approx(0.2 + 0.25 * 20 * 0.1)
    assert (
        metrics.interval_coverage(table, nominal=0.7).set_index("metric")["observed"][
            "covered_sensors"
        ]
        == 1
    )

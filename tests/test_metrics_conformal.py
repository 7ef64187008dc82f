"""Intervals for unseen stations cover what they promise; the row-wise ones do not."""

import numpy as np
import pandas as pd
import pytest

from soilkit.errors import ContractError
from soilkit.metrics.calibration import row_threshold


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
    """Shares of new readings inside: by the threshold of groups, by the row-wise quantile."""
    kept = []
    for seed in range(n_trials):
        rng = np.random.default_rng(seed)
        groups = np.repeat(np.arange(n_stations), rng.choice([5, 20, 200], n_stations))
        offsets = rng.normal(0, 0.06, n_stations)
        scores = np.abs(offsets[groups] + rng.normal(0, 0.03, len(groups)))
        by_row = row_threshold(scores, groups, coverage=coverage)
        level = min(np.ceil(coverage * (len(scores) + 1)) / len(scores), 1)
        naive = np.quantile(scores, level, method="higher")
        new = rng.normal(0, 0.06) + rng.normal(0, 0.03, rng.choice([5, 20, 200]))
        kept.append([np.mean(np.abs(new) <= q) for q in (by_row, naive)])
    return np.mean(kept, axis=0)


def check_simulation(found, *, margin):
    by_row, naive = found
    assert by_row >= 0.9 - margin
    assert naive < by_row - 0.01 and naive < 0.9 - margin / 2


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
    assert row_threshold(scores, groups, coverage=0.375) == 2
    assert row_threshold(scores, groups, coverage=0.38) == 3
    assert row_threshold(scores, groups, coverage=0.6) == 3  # rows alike: 9/16, so 4
    assert row_threshold(scores, groups, coverage=0.75) == 4
    with pytest.raises(ContractError, match="need 4 calibration groups .* found 3"):
        row_threshold(scores, groups, coverage=0.8)


def test_nine_stations_are_just_enough_for_ninety_percent():
    """K / (K + 1) = 0.9 exactly: the largest score, whatever floating point makes of it."""
    scores = np.arange(9.0)
    assert row_threshold(scores, np.arange(9), coverage=0.9) == 8
    with pytest.raises(ContractError, match="need 9 calibration groups"):
        row_threshold(scores[:8], np.arange(8), coverage=0.9)


def _covered(intervals, new):
    """Mean coverage of the stations with small and with large errors."""
    inside = intervals["observed_m3_m3"].between(intervals["lower_m3_m3"], intervals["upper_m3_m3"])
    of_station = inside.groupby([new["predicted_std_m3_m3"], new["station_id"]]).mean()
    return of_station.groupby(level=0).mean().to_numpy()

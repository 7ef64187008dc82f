"""Scores of other kinds: ranks, Kling-Gupta, anomalies, rescaled values, seasons, places."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from soilkit import contracts, metrics
from soilkit.errors import ContractError

DAY = np.timedelta64(1, "D")
START = np.datetime64("2019-01-01", "us")


def predictions(observed, predicted, *, days=None, sensors=None, model="m"):
    """A predictions table; rows of ``observed`` are sensors, columns are days."""
    observed = np.atleast_2d(observed).astype(float)
    predicted = np.atleast_2d(predicted).astype(float)
    m, n = observed.shape
    names = sensors or [f"N__S{i:04d}__P__0__5" for i in range(m)]
    days = np.arange(n) if days is None else np.asarray(days)
    ids = np.repeat(names, n)
    hours = np.round(np.tile(days, m) * 24).astype("timedelta64[h]")
    return pd.DataFrame(
        {
            "sample_id": [f"{name}@{t}" for name in names for t in range(n)],
            "sensor_id": ids,
            "station_id": [i.split("__P")[0] for i in ids],
            "network": "N",
            "time": START + hours,
            "observed_m3_m3": observed.ravel(),
            "predicted_m3_m3": predicted.ravel(),
            "model": model,
            "split": "test",
        }
    )


def autoregressive(rng, *, shape, rho):
    """Unit-variance AR(1) series, (sensor, day)."""
    noise = rng.standard_normal(shape)
    series = np.empty(shape)
    series[:, 0] = noise[:, 0]
    for day in range(1, shape[1]):
        series[:, day] = rho * series[:, day - 1] + np.sqrt(1 - rho**2) * noise[:, day]
    return series


# Spearman and Kling-Gupta


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(3, 40), min_size=1, max_size=5))
def test_spearman_agrees_with_scipy_with_and_without_ties(seed, lengths):
    """To 1e-12 for ragged sensors in shuffled rows; rounding to 0.1 makes many ties."""
    rng = np.random.default_rng(seed)
    parts = []
    for i, n in enumerate(lengths):
        x, y = rng.uniform(0, 0.6, (2, n))
        x = np.round(x, 1) if i % 2 else x
        parts.append(predictions(x, y, sensors=[f"N__S{i}__P__0__5"]))
    table = pd.concat(parts, ignore_index=True).sample(frac=1, random_state=seed)
    ours = metrics.point_scores(table, metrics=("spearman",)).set_index("sensor_id")
    for part in parts:
        x, y = part["observed_m3_m3"], part["predicted_m3_m3"]
        with np.errstate(invalid="ignore"):
            expected = stats.spearmanr(x, y).statistic if x.nunique() > 1 else np.nan
        found = ours.loc[part["sensor_id"].iloc[0], "spearman"]
        assert found == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_kling_gupta_of_a_doubled_series_tells_the_two_forms_apart():
    """Twice the observation: R 1, alpha 2, beta 2, and equal coefficients of variation."""
    # 2009: 1 - sqrt(0 + (2 - 1)^2 + (2 - 1)^2) = 1 - sqrt(2); 2012: 1 - sqrt(0 + 0 + 1) = 0.
    x = np.linspace(0.1, 0.3, 30)
    row = metrics.point_scores(predictions(x, 2 * x), metrics=("kge_2009", "kge")).iloc[0]
    assert row["kge_2009"] == pytest.approx(1 - np.sqrt(2), abs=1e-12)
    assert row["kge_2012"] == pytest.approx(0, abs=1e-12)


def test_kling_gupta_follows_its_definition_and_stays_finite_or_says_why():
    """Against numpy, one sensor at a time; a zero mean has no score and a status."""
    rng = np.random.default_rng(1)
    x, y = rng.uniform(0.05, 0.4, (2, 4, 60))
    x[3], y[3] = np.tile([-1.0, 1.0], 30), rng.uniform(0, 1, 60)
    found = metrics.station_scores(predictions(x, y), metrics=("kge_2009", "kge_2012"))
    for i in range(3):
        r, alpha = np.corrcoef(x[i], y[i])[0, 1], y[i].std() / x[i].std()
        beta = y[i].mean() / x[i].mean()
        for form, ratio in (("kge_2009", alpha), ("kge_2012", alpha / beta)):
            expected = 1 - np.linalg.norm([r - 1, ratio - 1, beta - 1])
            assert found[form][i] == pytest.approx(expected, abs=1e-12)
    assert np.isnan(found["kge_2012"][3])
    assert found["status"][3].startswith("no kge_20")


def test_an_offset_of_ten_thousand_loses_nothing_of_spearman():
    """On a grid of 2^-20 the offset is exact in binary, so ranks must not change at all."""
    rng = np.random.default_rng(0)
    x, y = np.round(rng.uniform(0, 0.6, (2, 5, 200)) * 2**20) / 2**20
    near, far = (
        metrics.point_scores(predictions(x + c, y + c), metrics=["spearman"]) for c in (0, 1e4)
    )
    np.testing.assert_array_equal(far["spearman"], near["spearman"])


def test_further_scores_change_nothing_of_the_four():
    """Opt-in columns stand before n, and the stable columns keep their order and values."""
    rng = np.random.default_rng(2)
    table = predictions(*rng.uniform(0, 0.6, (2, 3, 50)))
    plain, more = metrics.station_scores(table), metrics.station_scores(table, metrics=["spearman"])
    pd.testing.assert_frame_equal(more[plain.columns], plain)
    assert [c for c in more.columns if c not in plain.columns] == [
        "spearman", "spearman_lower", "spearman_upper",
    ]  # fmt: skip


def test_further_scores_reach_summaries_and_the_long_table():
    """With a status where there is no analytic interval."""
    rng = np.random.default_rng(3)
    scores = metrics.station_scores(
        predictions(*rng.uniform(0, 0.6, (2, 6, 50))), metrics=["spearman", "kge"]
    )
    assert {"spearman", "kge_2012"} < set(metrics.summarize(scores)["metric"])
    long = metrics.to_scores_table(scores)
    assert (long[long["metric"] == "kge_2012"]["status"] == "no interval: no analytic form").all()


def test_an_unknown_metric_is_refused():
    """By name, and with the names there are."""
    with pytest.raises(ContractError, match="nse.*spearman"):
        metrics.station_scores(predictions([0.1, 0.2], [0.1, 0.2]), metrics=["nse"])


@pytest.mark.parametrize(("rho", "r"), [(0.0, 0.6), (0.9, 0.6), (0.95, 0.9)])
def test_spearman_intervals_cover_the_truth(rho, r):
    """A normal pair with correlation r has the rank correlation 6 / pi arcsin(r / 2)."""
    rng = np.random.default_rng(4)
    x, noise = (autoregressive(rng, shape=(400, 400), rho=rho) for _ in range(2))
    table = predictions(x, r * x + np.sqrt(1 - r**2) * noise)
    scores = metrics.station_scores(table, metrics=["spearman"])
    truth = 6 / np.pi * np.arcsin(r / 2)
    inside = (scores["spearman_lower"] < truth) & (truth < scores["spearman_upper"])
    assert 0.93 <= inside.mean() <= 0.99


def test_states_of_one_table_are_scored_apart():
    """Two states share sample ids; each has its row, its summary and its place in scores.csv."""
    rng = np.random.default_rng(5)
    raw = predictions(*rng.uniform(0, 0.6, (2, 5, 50)))
    both = pd.concat([raw.assign(state="raw"), raw.assign(state="b", predicted_m3_m3=0.2)])
    scores = metrics.station_scores(both)
    assert scores.groupby("state")["r"].count().to_dict() == {"b": 0, "raw": 5}
    assert (metrics.summarize(scores)["state"].value_counts() == 4).all()
    long = metrics.to_scores_table(scores)
    assert set(long["state"]) == {"raw", "b"}
    contracts.check(long, contracts.SCORES)
    with pytest.raises(ContractError, match="repeats"):
        metrics.station_scores(both.drop(columns="state"))

"""Scores agree with slow, known formulas, and intervals keep the rate that they promise."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import mean_squared_error

from soilkit import contracts, metrics
from soilkit.errors import ContractError
from soilkit.metrics.intervals import Steps, effective_size, memory_hours
from soilkit.metrics.points import group

DAY = np.timedelta64(1, "D")
START = np.datetime64("2020-01-01", "us")


def predictions(observed, predicted, *, time=None, model="m", sensors=None):
    """A predictions table; rows of ``observed`` are sensors, columns are days."""
    observed, predicted = np.atleast_2d(observed).astype(float), np.atleast_2d(predicted)
    m, n = observed.shape
    names = sensors or [f"N__S{i:04d}__P__0__5" for i in range(m)]
    time = START + np.arange(n) * DAY if time is None else time
    ids = np.repeat(names, n)
    return pd.DataFrame(
        {
            "sample_id": [f"{name}@{t}" for name in names for t in range(n)],
            "sensor_id": pd.Categorical(ids),
            "station_id": [i.split("__P")[0] for i in ids],
            "network": "N",
            "time": np.tile(time, m).astype("datetime64[us]"),
            "observed_m3_m3": observed.ravel(),
            "predicted_m3_m3": predicted.ravel().astype(float),
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


def correlated(rng, *, shape, rho, r):
    """A pair of AR(1) series with the same memory and the true correlation r."""
    x, noise = autoregressive(rng, shape=shape, rho=rho), autoregressive(rng, shape=shape, rho=rho)
    return x, r * x + np.sqrt(1 - r**2) * noise


def stations_of(scores, *, latitude, longitude, **columns):
    return pd.DataFrame(
        {"sensor_id": scores["sensor_id"], "station_id": scores["station_id"],
         "latitude": latitude, "longitude": longitude, **columns}
    )  # fmt: skip


# Point scores


def test_scores_of_a_hand_made_series():
    """Every score from numbers that fit on paper."""
    # observed 0.1 0.2 0.3 0.4, predicted 0.2 0.2 0.4 0.4: d = 0.1 0 0.1 0.
    # bias = 0.05; mean(d2) = 0.02 / 4, RMSE = 0.0707107; var(d) = 0.005 - 0.0025, ubRMSE = 0.05.
    # Sxx = 0.05, Syy = 0.04, Sxy = 0.04, so R = 0.04 / sqrt(0.002) = 0.8944272.
    row = metrics.point_scores(predictions([0.1, 0.2, 0.3, 0.4], [0.2, 0.2, 0.4, 0.4])).iloc[0]
    assert row["bias_m3_m3"] == pytest.approx(0.05, abs=1e-12)
    assert row["rmse_m3_m3"] == pytest.approx(0.07071067811865475, abs=1e-12)
    assert row["ubrmse_m3_m3"] == pytest.approx(0.05, abs=1e-12)
    assert row["r"] == pytest.approx(0.8944271909999159, abs=1e-12)


def test_ubrmse_of_a_shifted_copy_is_zero():
    """A constant offset is all bias: RMSE 0.1, ubRMSE 0, R 1."""
    observed = np.linspace(0.1, 0.4, 30)
    row = metrics.point_scores(predictions(observed, observed + 0.1)).iloc[0]
    assert row["bias_m3_m3"] == pytest.approx(0.1, abs=1e-12)
    assert row["rmse_m3_m3"] == pytest.approx(0.1, abs=1e-12)
    assert row["ubrmse_m3_m3"] < 1e-15
    assert row["r"] == pytest.approx(1, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(3, 40), min_size=1, max_size=6))
def test_scores_agree_with_scipy_and_sklearn(seed, lengths):
    """To 1e-12, for ragged sensors in shuffled rows."""
    rng = np.random.default_rng(seed)
    parts = [
        predictions(rng.uniform(0, 0.6, n), rng.uniform(0, 0.6, n), sensors=[f"N__S{i}__P__0__5"])
        for i, n in enumerate(lengths)
    ]
    table = pd.concat(parts, ignore_index=True).sample(frac=1, random_state=seed)
    ours = metrics.point_scores(table).set_index("sensor_id")
    for part in parts:
        row = ours.loc[part["sensor_id"].iloc[0]]
        x, y = part["observed_m3_m3"].to_numpy(), part["predicted_m3_m3"].to_numpy()
        assert row["r"] == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-12)
        assert row["rmse_m3_m3"] == pytest.approx(np.sqrt(mean_squared_error(x, y)), abs=1e-12)
        assert row["ubrmse_m3_m3"] == pytest.approx(np.std(y - x), abs=1e-12)
        assert row["bias_m3_m3"] == pytest.approx(np.mean(y - x), abs=1e-12)
        assert row["n"] == len(x)


def test_an_offset_of_ten_thousand_loses_nothing():
    """On a grid of 2^-20 the offset is exact in binary, so scores must not change at all."""
    rng = np.random.default_rng(0)
    x, y = np.round(rng.uniform(0, 0.6, (2, 5, 200)) * 2**20) / 2**20
    near, far = (metrics.point_scores(predictions(x + c, y + c)) for c in (0, 1e4))
    for metric in metrics.METRICS:
        np.testing.assert_allclose(far[metric], near[metric], rtol=0, atol=1e-12)


def test_rows_without_a_finite_pair_do_not_count():
    """A missing observation or prediction leaves the other rows' score as it is."""
    rng = np.random.default_rng(1)
    x, y = rng.uniform(0, 0.6, (2, 20))
    gappy_x, gappy_y = np.append(x, [np.nan, 0.2, 0.3]), np.append(y, [0.1, np.nan, np.inf])
    full = metrics.point_scores(predictions(x, y))
    gappy = metrics.point_scores(predictions(gappy_x, gappy_y))
    pd.testing.assert_frame_equal(full, gappy)


# Sensors without a score, and what the table holds


def test_every_sensor_without_a_score_says_why():
    """Too short, constant, all missing, too persistent: each has its words and its row."""
    rng = np.random.default_rng(2)
    noise = rng.uniform(0, 0.4, 60)
    flat = np.full(60, 0.3)
    slow = np.linspace(0.1, 0.4, 60)
    short = np.where(np.arange(60) < 5, noise, np.nan)
    table = predictions(
        [short, noise, flat, flat, np.full(60, np.nan), slow, noise],
        [noise, flat, noise, flat, noise, slow + 0.001 * noise, noise[::-1]],
    )
    scores = metrics.station_scores(table)
    status = scores["status"].tolist()
    assert status[:5] == [
        "too few samples: 5 < 13",
        "constant prediction",
        "constant observation",
        "constant observation and prediction",
        "too few samples: 0 < 13",
    ]
    assert status[5].startswith("too few effective samples: ") and status[5].endswith(" < 5")
    assert status[6] == "ok"
    assert scores["r"].isna().tolist() == [True] * 5 + [False] * 2
    assert scores["n"].tolist() == [5, 60, 60, 60, 0, 60, 60]


def test_a_constant_prediction_still_has_errors():
    """The training mean has no R, but its RMSE is the comparison that every model must pass."""
    observed = np.random.default_rng(0).uniform(0, 0.4, 100)
    row = metrics.station_scores(predictions(observed, np.full(100, 0.2))).iloc[0]
    assert np.isnan(row["r"])
    assert row["rmse_m3_m3_lower"] < row["rmse_m3_m3"] < row["rmse_m3_m3_upper"]


def test_few_effective_samples_give_a_score_and_no_interval():
    """Sixty days of one dry-down are one event, not sixty."""
    decay = 0.1 + 0.3 * np.exp(-np.arange(60) / 40)
    rng = np.random.default_rng(0)
    row = metrics.station_scores(predictions(decay, decay + 0.001 * rng.random(60))).iloc[0]
    assert row["r"] > 0.99
    assert row["n_effective"] < 5
    assert np.isnan(row["r_lower"]) and np.isnan(row["rmse_m3_m3_upper"])


def test_min_samples_is_a_bound_that_counts_itself():
    """Thirteen samples are enough where thirteen are asked for."""
    rng = np.random.default_rng(0)
    table = predictions(*rng.uniform(0, 0.4, (2, 13)))
    assert metrics.station_scores(table)["status"].item() == "ok"
    few = metrics.station_scores(table, min_samples=14)["status"].item()
    assert few == "too few samples: 13 < 14"


def test_models_and_splits_are_scored_apart():
    """One row a model, split and sensor, sorted, with the contract's columns."""
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 0.4, (2, 2, 30))
    table = pd.concat([predictions(x, y, model=name) for name in "ba"], ignore_index=True)
    table.loc[table.index % 2 == 0, "split"] = "train"
    scores = metrics.station_scores(table)
    assert list(zip(scores["model"], scores["split"], strict=True)) == [
        ("a", "test"), ("a", "test"), ("a", "train"), ("a", "train"),
        ("b", "test"), ("b", "test"), ("b", "train"), ("b", "train"),
    ]  # fmt: skip
    assert scores["n"].eq(15).all()
    assert list(scores.columns) == [
        "model", "split", "sensor_id", "station_id", "network",
        "r", "r_lower", "r_upper",
        "ubrmse_m3_m3", "ubrmse_m3_m3_lower", "ubrmse_m3_m3_upper",
        "rmse_m3_m3", "rmse_m3_m3_lower", "rmse_m3_m3_upper",
        "bias_m3_m3", "bias_m3_m3_lower", "bias_m3_m3_upper",
        "n", "n_effective", "ubrmse_m3_m3_n_effective", "rmse_m3_m3_n_effective",
        "bias_m3_m3_n_effective", "status",
    ]  # fmt: skip


def test_row_order_changes_no_score():
    """Memory is fitted along time, whatever the order of rows."""
    rng = np.random.default_rng(3)
    table = predictions(*correlated(rng, shape=(4, 80), rho=0.7, r=0.6))
    shuffled = table.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(
        metrics.station_scores(table), metrics.station_scores(shuffled), rtol=1e-9
    )


def test_bad_input_is_refused_and_empty_input_is_empty():
    """A duplicate sample, a wrong confidence; no rows give no scores."""
    table = predictions(*np.random.default_rng(0).uniform(0, 0.4, (2, 20)))
    with pytest.raises(ContractError, match="repeats"):
        metrics.station_scores(pd.concat([table, table]))
    with pytest.raises(ContractError, match="between 0 and 1"):
        metrics.station_scores(table, confidence=95)
    empty = metrics.station_scores(table.iloc[:0])
    assert len(empty) == 0 and "r_lower" in empty.columns


# Memory and intervals


def fitted_memory(series, hours):
    table = predictions(series, series, time=START + (hours * 3.6e9).astype("timedelta64[us]"))
    _, groups = group(table)
    return memory_hours(groups.centred(groups.observed), Steps.of(groups)), Steps.of(groups)


@pytest.mark.parametrize("tau_days", [2.0, 10.0])
def test_memory_is_fitted_in_time_not_by_row(tau_days):
    """A third of the rows of one process, at random gaps, tells the same tau."""
    rng = np.random.default_rng(4)
    series = autoregressive(rng, shape=(200, 1200), rho=np.exp(-1 / tau_days))
    hours = 24.0 * np.arange(1200)
    keep = np.sort(rng.choice(1200, 400, replace=False))
    daily, _ = fitted_memory(series, hours)
    sparse, _ = fitted_memory(series[:, keep], hours[keep])
    assert np.median(daily) / 24 == pytest.approx(tau_days, rel=0.1)
    assert np.median(sparse) / 24 == pytest.approx(tau_days, rel=0.1)


def test_effective_size_of_equal_steps_is_the_textbook_formula():
    """n (1 - q) / (1 + q) with q = rho_x rho_y."""
    rng = np.random.default_rng(0)
    _, steps = fitted_memory(rng.standard_normal((1, 100)), 24.0 * np.arange(100))
    # tau_x = 48 h and tau_y = 24 h at daily steps: q = exp(-0.5 - 1) = 0.22313;
    # 100 x 0.77687 / 1.22313 = 63.515.
    found = effective_size(np.array([1 / 48 + 1 / 24]), steps)
    assert found[0] == pytest.approx(63.515, abs=1e-3)


def test_a_gap_adds_no_more_than_one_independent_value():
    """Two bursts a year apart are not a year of data."""
    hours = np.concatenate([np.arange(50), 8760 + np.arange(50)]).astype(float)
    _, steps = fitted_memory(np.random.default_rng(0).standard_normal((1, 100)), hours)
    # tau 240 h: each hourly step gives tanh(1 / 480), the gap 1; (98 / 480 + 1) x 100 / 99.
    assert effective_size(np.array([1 / 240]), steps)[0] == pytest.approx(1.2163, abs=1e-3)


def covered(scores, truth):
    """The share of the intervals given that hold the truth, a metric each."""
    rates = {}
    for metric, value in truth.items():
        given = scores[scores[f"{metric}_lower"].notna()]
        assert len(given) > 0.9 * len(scores)
        inside = (given[f"{metric}_lower"] <= value) & (value <= given[f"{metric}_upper"])
        rates[metric] = inside.mean()
    return rates


def simulate(rng, *, n_series, n, rho, r, confidence=0.95):
    """Coverage of the four intervals for AR(1) pairs with a known truth."""
    x, y = correlated(rng, shape=(n_series, n), rho=rho, r=r)
    scores = metrics.station_scores(
        predictions(0.25 + 0.06 * x, 0.28 + 0.06 * y), confidence=confidence
    )
    scatter = 0.06 * np.sqrt(2 - 2 * r)  # var(y - x) of unit series is 2 - 2 r
    truth = {
        "r": r,
        "ubrmse_m3_m3": scatter,
        "rmse_m3_m3": np.hypot(scatter, 0.03),
        "bias_m3_m3": 0.03,
    }
    return covered(scores, truth), scores


@pytest.mark.parametrize(("n", "rho", "r"), [(100, 0.0, 0.7), (100, 0.5, 0.7), (300, 0.9, 0.5)])
def test_intervals_cover_the_truth_as_often_as_they_say(n, rho, r):
    """95 % intervals of autocorrelated pairs hold 95 %, within what 400 series can tell."""
    rate, scores = simulate(np.random.default_rng(7), n_series=400, n=n, rho=rho, r=r)
    # Three standard errors of a rate of 0.95 over 400 series are 0.033.
    assert all(0.91 <= value <= 0.99 for value in rate.values()), rate
    expected = n * (1 - rho**2) / (1 + rho**2)
    assert scores["n_effective"].median() == pytest.approx(expected, rel=0.1)


def test_intervals_that_ignore_memory_fail_where_ours_hold():
    """At rho = 0.9 an i.i.d. Fisher interval covers about half of what it promises."""
    rate, scores = simulate(np.random.default_rng(8), n_series=400, n=300, rho=0.9, r=0.0)
    half = 1.96 / np.sqrt(300 - 3)
    naive = np.mean(np.abs(np.arctanh(scores["r"])) < half)
    assert naive < 0.6
    assert rate["r"] > 0.91


def test_intervals_hold_for_the_uneven_steps_of_clear_overpasses():
    """A quarter of the days of a slow process, in runs with gaps, keeps the promised rate."""
    rng = np.random.default_rng(11)
    days = np.flatnonzero(rng.random(800) < np.where(np.arange(800) // 100 % 2, 0.45, 0.05))
    x, y = correlated(rng, shape=(400, 800), rho=0.9, r=0.5)
    table = predictions(0.06 * x[:, days], 0.06 * y[:, days] + 0.03, time=START + days * DAY)
    scores = metrics.station_scores(table)
    rate = covered(scores, {"r": 0.5, "ubrmse_m3_m3": 0.06, "bias_m3_m3": 0.03})
    assert all(0.91 <= value <= 0.99 for value in rate.values()), rate


def test_a_lower_confidence_gives_narrower_intervals():
    """Half of the 50 % intervals hold the truth."""
    rate, _ = simulate(
        np.random.default_rng(9), n_series=400, n=100, rho=0.3, r=0.5, confidence=0.5
    )
    assert all(0.42 <= value <= 0.58 for value in rate.values()), rate


@pytest.mark.slow
@pytest.mark.parametrize("n", [100, 200, 500])
@pytest.mark.parametrize("rho", [0.0, 0.3, 0.6, 0.8])
@pytest.mark.parametrize("r", [0.0, 0.7])
def test_coverage_holds_over_many_series(n, rho, r):
    """The same promise with 3,000 series a case."""
    rate, _ = simulate(np.random.default_rng(10), n_series=3000, n=n, rho=rho, r=r)
    # Where fewer than some twenty errors are independent, their memory is itself poorly known.
    lowest = 0.93 if n * (1 - rho) / (1 + rho) > 20 else 0.9
    assert all(lowest <= value <= 0.98 for value in rate.values()), rate


# Aggregates


def scattered_scores(*, n_sensors=60, seed=0, networks=6):
    rng = np.random.default_rng(seed)
    x, y = correlated(rng, shape=(n_sensors, 50), rho=0.3, r=0.7)
    scores = metrics.station_scores(predictions(0.2 + 0.05 * x, 0.2 + 0.05 * y))
    scores["network"] = [f"net{i % networks}" for i in range(n_sensors)]
    stations = stations_of(
        scores,
        latitude=rng.uniform(32, 44, n_sensors),
        longitude=rng.uniform(-104, -92, n_sensors),
        koeppen=np.where(np.arange(n_sensors) % 2, "Cfa", "Cfb"),
        land_cover=["Shrubs"] * 4 + ["Agriculture"] * (n_sensors - 5) + [""],
    )  # fmt: skip
    return scores, stations


def test_a_summary_holds_the_mean_the_median_and_the_quartiles():
    """As numpy has them, over sensors that have the score."""
    scores, stations = scattered_scores()
    scores.loc[0, "r"] = np.nan
    table = metrics.summarize(scores, stations).set_index("metric")
    values = scores["r"].dropna()
    assert table.loc["r", "mean"] == pytest.approx(values.mean(), abs=1e-12)
    quartiles = table.loc["r", ["q25", "median", "q75"]].to_numpy(float)
    np.testing.assert_allclose(quartiles, np.quantile(values, [0.25, 0.5, 0.75]))
    assert table["n_sensors"].to_dict() == {
        "r": 59, "ubrmse_m3_m3": 60, "rmse_m3_m3": 60, "bias_m3_m3": 60,
    }  # fmt: skip
    assert (table["mean_lower"] < table["mean"]).all()
    assert (table["median_upper"] >= table["median"]).all()


def test_strata_have_their_own_lines_and_small_ones_are_marked():
    """Unknown classes stand apart; Koeppen classes are two letters."""
    scores, stations = scattered_scores()
    table = metrics.summarize(scores, stations, by="land_cover")
    r = table[table["metric"] == "r"].set_index("land_cover")
    assert r["n_stations"].to_dict() == {"Agriculture": 55, "Shrubs": 4, "unknown": 1}
    assert r["is_small"].to_dict() == {"Agriculture": False, "Shrubs": True, "unknown": True}
    assert r.loc["Shrubs", "status"].startswith("no interval: ")
    koeppen = metrics.summarize(scores, stations, by="koeppen")
    assert set(koeppen["koeppen"]) == {"Cf"}
    networks = metrics.summarize(scores, by="network")
    assert set(networks["network"]) == {f"net{i}" for i in range(6)}
    with pytest.raises(ContractError, match="No column 'soil' to stratify by"):
        metrics.summarize(scores, stations, by="soil")


def test_no_scores_make_empty_tables_with_their_columns():
    """A split without stations writes a scores.csv without rows, not an error."""
    scores, stations = scattered_scores()
    none = scores.iloc[:0]
    summary = metrics.summarize(none, stations, by="koeppen")
    table = metrics.to_scores_table(none, summary, metrics.block_means(none, stations))
    assert len(table) == 0 and {"koeppen", "metric", "value"} <= set(table.columns)


def test_without_places_networks_are_the_clusters():
    """Six networks make an interval, four do not."""
    scores, stations = scattered_scores()
    assert metrics.summarize(scores)["status"].eq("ok").all()
    few, _ = scattered_scores(networks=4)
    table = metrics.summarize(few)
    assert table["status"].eq("no interval: 4 networks < 5").all()
    assert table["mean_lower"].isna().all() and table["mean"].notna().all()
    by_network = metrics.summarize(few, stations, clusters="network")
    assert by_network["n_clusters"].eq(4).all()
    with pytest.raises(ContractError, match="needs a stations table"):
        metrics.summarize(few, clusters="block")


def clustered_scores(rng, *, n_blocks=20):
    """Scores whose places matter: a shared effect of each block, and one block of many sensors."""
    sizes = np.r_[40, np.ones(n_blocks - 1, int)]
    blocks = np.repeat(np.arange(n_blocks), sizes)
    effect = rng.normal(0, 0.1, n_blocks)[blocks] + rng.normal(0, 0.01, len(blocks))
    scores = pd.DataFrame(
        {"model": "m", "split": "test", "sensor_id": [f"s{i}" for i in range(len(blocks))],
         "network": "N", "n": 99, "n_effective": 50.0, "status": "ok"}
    )  # fmt: skip
    scores["station_id"] = scores["sensor_id"]
    for metric in metrics.METRICS:
        scores[metric] = 0.5 + effect
    places = {"latitude": 33 + 2.0 * (blocks % 5), "longitude": -103 + 2.0 * (blocks // 5)}
    return scores, stations_of(scores, **places)


def test_a_dense_network_counts_as_one_block():
    """Forty sensors that share one place's error do not decide the mean of block means."""
    scores, stations = clustered_scores(np.random.default_rng(0))
    scores.loc[:39, list(metrics.METRICS)] = 0.9
    scores.loc[40:, list(metrics.METRICS)] = 0.5
    line = metrics.block_means(scores, stations).set_index("metric").loc["r"]
    # One block of 0.9 and nineteen of 0.5: (0.9 + 9.5) / 20 = 0.52.
    assert line["value"] == pytest.approx(0.52, abs=1e-12)
    assert line["n_blocks"] == 20 and line["n_stations"] == 59
    # Student's: sd of the means 0.4 / sqrt(20) = 0.0894427, t(0.975, 19) = 2.0930, / sqrt(20).
    assert line["upper"] - line["value"] == pytest.approx(
        2.0930 * 0.0894427 / np.sqrt(20), rel=1e-4
    )


def test_block_means_cover_the_truth():
    """95 % intervals over blocks hold the true mean; counting sensors as independent does not."""
    rng = np.random.default_rng(1)
    inside, naive = [], []
    for _ in range(300):
        scores, stations = clustered_scores(rng)
        line = metrics.block_means(scores, stations).iloc[0]
        inside.append(line["lower"] <= 0.5 <= line["upper"])
        error = scores["r"].std(ddof=1) / np.sqrt(len(scores))
        naive.append(abs(scores["r"].mean() - 0.5) < 1.96 * error)
    assert 0.91 <= np.mean(inside) <= 0.99
    assert np.mean(naive) < 0.6


def test_a_seed_repeats_a_bootstrap():
    """The same seed gives the same interval, another a slightly different one."""
    scores, stations = scattered_scores()
    first, again, other = (metrics.summarize(scores, stations, seed=s) for s in (0, 0, 1))
    pd.testing.assert_frame_equal(first, again)
    assert not first["mean_lower"].equals(other["mean_lower"])
    assert np.allclose(first["mean_lower"], other["mean_lower"], atol=0.02)


# Pairs of models


def paired_tables(*, seed=0, n_sensors=40, extra_noise=0.03):
    rng = np.random.default_rng(seed)
    x, y = correlated(rng, shape=(n_sensors, 60), rho=0.3, r=0.8)
    observed, good = 0.2 + 0.05 * x, 0.2 + 0.05 * y
    a = predictions(observed, good, model="a")
    b = predictions(observed, good + extra_noise * rng.standard_normal(good.shape), model="b")
    places = {
        "latitude": rng.uniform(32, 44, n_sensors),
        "longitude": rng.uniform(-104, -92, n_sensors),
    }
    sensors = a.drop_duplicates("sensor_id").astype({"sensor_id": "str"})
    return a, b, stations_of(sensors, **places)


def test_a_paired_difference_is_on_identical_samples():
    """What only one model predicts does not count, though it would change its mean."""
    a, b, stations = paired_tables()
    b.loc[b.index % 3 == 0, "predicted_m3_m3"] = np.nan
    extra = a.iloc[:100].assign(sample_id=lambda t: "only-a" + t["sample_id"], predicted_m3_m3=9.0)
    found = metrics.paired_difference(
        pd.concat([a, extra], ignore_index=True), b.sample(frac=1, random_state=0),
        stations=stations, metric="ubrmse_m3_m3",
    )  # fmt: skip
    both = a[(a.index % 3 != 0)]
    expected = metrics.point_scores(both)["ubrmse_m3_m3"].mean()
    assert found["mean_a"] == pytest.approx(expected, abs=1e-12)
    assert found["n_samples"] == len(both)
    assert found["difference"] == pytest.approx(found["mean_a"] - found["mean_b"], abs=1e-12)


def test_a_better_model_is_told_from_a_worse_one_and_not_from_itself():
    """The interval of a real difference excludes zero, that of none is zero."""
    a, b, stations = paired_tables()
    found = metrics.paired_difference(a, b, stations=stations)
    assert 0 < found["lower"] < found["difference"] < found["upper"]
    assert found["block_lower"] > 0 and found["share_a_higher"] > 0.9
    assert found["status"] == "ok" and (found["model_a"], found["model_b"]) == ("a", "b")
    same = metrics.paired_difference(a, a.assign(model="copy"), stations=stations, metric="r")
    assert same["difference"] == same["lower"] == same["upper"] == 0


def test_biases_are_compared_by_their_size():
    """A bias of -0.05 is worse than one of +0.01."""
    a, _, stations = paired_tables()
    shifted = a.assign(model="b", predicted_m3_m3=a["observed_m3_m3"] - 0.05)
    a["predicted_m3_m3"] = a["observed_m3_m3"] + 0.01
    found = metrics.paired_difference(a, shifted, stations=stations, metric="bias_m3_m3")
    assert found["difference"] == pytest.approx(0.01 - 0.05, abs=1e-12)


def test_pairs_that_are_no_pairs_are_refused():
    """Two models in one table, another observation, an unknown metric."""
    a, b, stations = paired_tables()
    with pytest.raises(ContractError, match="one model with one other"):
        metrics.paired_difference(pd.concat([a, b]), b, stations=stations)
    moved = b.assign(observed_m3_m3=b["observed_m3_m3"] + 0.01)
    with pytest.raises(ContractError, match="another observation"):
        metrics.paired_difference(a, moved, stations=stations)
    with pytest.raises(ContractError, match="No metric 'nse'"):
        metrics.paired_difference(a, b, stations=stations, metric="nse")


# The long table


def test_all_tables_become_rows_of_one_contract():
    """Sensors, strata and blocks stand in one scores.csv."""
    scores, stations = scattered_scores()
    table = metrics.to_scores_table(
        scores,
        metrics.summarize(scores, stations, by="land_cover"),
        metrics.block_means(scores, stations),
    )
    contracts.check(table, contracts.SCORES)
    assert len(table) == 4 * 60 + 3 * 4 * 2 + 4
    assert {"r", "r_mean", "r_median", "r_block_mean", "bias_m3_m3_mean"} <= set(table["metric"])
    shrubs = table[(table["land_cover"] == "Shrubs") & (table["metric"] == "r_mean")]
    assert shrubs["value"].item() == pytest.approx(scores["r"].iloc[:4].mean())
    assert (table.loc[table["metric"] == "r_block_mean", "land_cover"] == "").all()

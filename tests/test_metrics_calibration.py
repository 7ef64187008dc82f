"""A predicted spread is held to what it promises: PIT, CRPS, reliability, spread and skill."""

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

from soilkit import metrics
from soilkit.errors import ContractError


def forecasts(rng, *, n_networks=12, n_stations=3, n=60, true_over_said=1.0, effect=0.0):
    """Stations of normal forecasts whose true spread is a multiple of the predicted one."""
    m = n_networks * n_stations
    said = rng.uniform(0.02, 0.06, (m, n))
    shift = effect * np.repeat(rng.standard_normal(n_networks), n_stations)[:, None]
    predicted = rng.uniform(0.1, 0.4, (m, n))
    unit = (rng.standard_normal((m, n)) + shift) / np.sqrt(1 + effect**2)
    observed = predicted + true_over_said * said * unit
    return table(observed, predicted, std=said, n_stations=n_stations)


def table(observed, predicted, *, std, n_stations=1):
    observed, predicted, std = (np.atleast_2d(a).astype(float) for a in (observed, predicted, std))
    m, n = observed.shape
    networks = [f"N{i // n_stations}" for i in range(m)]
    stations = [f"{network}__S{i}" for i, network in enumerate(networks)]
    time = np.datetime64("2020-01-01", "us") + np.arange(n) * np.timedelta64(1, "D")
    return pd.DataFrame(
        {
            "sample_id": [f"{i}@{j}" for i in range(m) for j in range(n)],
            "sensor_id": np.repeat([f"{s}__P__0__5" for s in stations], n),
            "station_id": np.repeat(stations, n),
            "network": np.repeat(networks, n),
            "time": np.tile(time, m),
            "observed_m3_m3": observed.ravel(),
            "predicted_m3_m3": predicted.ravel(),
            "predicted_std_m3_m3": std.ravel(),
            "model": "m",
            "split": "test",
        }
    )


# CRPS and PIT


@pytest.mark.parametrize("observed", [0.05, 0.2, 0.21, 0.6])
def test_gaussian_crps_is_the_integral_that_defines_it(observed):
    """Integral of (F(x) - 1[x >= observed])^2 over x, by quadrature."""
    below = integrate.quad(lambda x: stats.norm.cdf(x, 0.2, 0.05) ** 2, -1, observed, epsabs=1e-13)
    above = integrate.quad(lambda x: stats.norm.sf(x, 0.2, 0.05) ** 2, observed, 2, epsabs=1e-13)
    ours = metrics.forecast_rows(table([[observed]], [[0.2]], std=[[0.05]]))["crps_m3_m3"]
    assert ours[0] == pytest.approx(below[0] + above[0], abs=1e-10)


def test_crps_without_spread_is_the_absolute_error():
    """A point forecast: 0.1 off costs 0.1, exactly right costs nothing, and nothing is NaN."""
    found = metrics.forecast_rows(table([[0.3, 0.2]], [[0.2, 0.2]], std=np.zeros((1, 2))))
    np.testing.assert_allclose(found["crps_m3_m3"], [0.1, 0], atol=1e-15)


def test_pit_is_the_forecasts_own_distribution_function():
    """Against scipy; a point forecast says 0, 1/2 or 1."""
    x, y = np.array([0.1, 0.2, 0.3]), np.full(3, 0.2)
    wide, none = (metrics.forecast_rows(table(x, y, std=np.full(3, s)))["pit"] for s in (0.07, 0))
    np.testing.assert_allclose(wide, stats.norm.cdf(x, y, 0.07), atol=1e-15)
    np.testing.assert_array_equal(none, [0, 0.5, 1])


def test_rows_without_observation_or_spread_are_named_and_left_out():
    """Each has its status; the rest is counted, none becomes a silent NaN."""
    predictions = table([[0.2, np.nan, 0.3, 0.4]], [[0.2] * 4], std=[[0.05, 0.05, np.nan, np.inf]])
    rows = metrics.forecast_rows(predictions)
    assert rows["status"].tolist() == [
        "ok", "no finite pair", "no predicted spread", "no predicted spread",
    ]  # fmt: skip
    assert rows["pit"].isna().tolist() == [False, True, True, True]


def test_a_forecast_without_spread_columns_is_refused_with_what_is_there():
    """A missing column and a negative std are errors, each with its count."""
    predictions = table([[0.2, 0.3]], [[0.2, 0.2]], std=[[0.05, -0.05]])
    with pytest.raises(ContractError, match="negative in 1 rows"):
        metrics.forecast_rows(predictions)
    with pytest.raises(ContractError, match="lack predicted_std_m3_m3"):
        metrics.forecast_rows(predictions.drop(columns="predicted_std_m3_m3"))


# Reliability


def test_too_narrow_a_spread_covers_less_than_it_says():
    """True spread twice the predicted: a 90 % interval covers 2 Phi(1.645 / 2) - 1 = 58.9 %."""
    rng = np.random.default_rng(1)
    rows = metrics.forecast_rows(forecasts(rng, true_over_said=2.0, n=200))
    found = metrics.reliability(rows, levels=(0.9,)).set_index("kind").loc["interval"]
    assert found["observed"] == pytest.approx(0.589, abs=0.02)
    assert found["lower"] < 0.589 < found["upper"]
    assert not found["is_consistent"]
    assert ((rows["pit"] - 0.5) ** 2).mean() > 1.5 / 12


def test_a_biased_forecast_shows_in_its_quantiles():
    """Shifted by one std, the median lies above Phi(-1) = 15.9 % of the observations."""
    rng = np.random.default_rng(2)
    predictions = forecasts(rng, n=200)
    predictions["predicted_m3_m3"] -= predictions["predicted_std_m3_m3"]
    rows = metrics.forecast_rows(predictions)
    found = metrics.reliability(rows, levels=(0.5,)).set_index("kind").loc["quantile"]
    assert found["observed"] == pytest.approx(stats.norm.cdf(-1), abs=0.02)


def test_a_long_record_counts_no_more_than_a_short_one():
    """20 sensors of 20 rows are calibrated to 100 %, one of 2000 rows misses always: 20 of 21."""
    short = table(np.full((20, 20), 0.2), np.full((20, 20), 0.2), std=np.full((20, 20), 0.1))
    long = table(np.full(2000, 0.9), np.full(2000, 0.2), std=np.full(2000, 0.01)).assign(
        sample_id=lambda t: "L" + t["sample_id"], sensor_id="L__L__P__0__5", station_id="L__L",
        network="L",
    )  # fmt: skip
    rows = metrics.forecast_rows(pd.concat([short, long], ignore_index=True))
    line = metrics.reliability(rows, levels=(0.9,)).iloc[0]
    assert line["observed"] == pytest.approx(20 / 21)
    assert (line["n"], line["n_sensors"]) == (2400, 21)


def test_classes_are_told_apart_and_small_ones_say_so():
    """Sand is calibrated, clay twice too sure; three stations of peat give no interval."""
    rng = np.random.default_rng(4)
    predictions = forecasts(rng, n_networks=20, n=100)
    ids = predictions["sensor_id"].unique()
    texture = np.array(["Sand", "Clay"])[np.arange(len(ids)) // 3 % 2].astype(object)
    texture[:3] = "Peat"
    stations = pd.DataFrame(
        {"sensor_id": ids, "station_id": [i.split("__P")[0] for i in ids], "texture": texture,
         "latitude": 30.0, "longitude": np.arange(len(ids)) // 3 * 2.0}
    )  # fmt: skip
    clay = predictions["sensor_id"].isin(ids[texture == "Clay"])
    predictions.loc[clay, "predicted_std_m3_m3"] /= 2
    rows, of_sensor = metrics.forecast_rows(predictions), dict(zip(ids, texture, strict=True))
    found = pd.DataFrame(
        {
            name: metrics.reliability(part, levels=(0.9,), stations=stations).iloc[0]
            for name, part in rows.groupby(rows["sensor_id"].map(of_sensor))
        }
    ).T
    assert found.loc["Sand", "is_consistent"]
    assert not found.loc["Clay", "is_consistent"]
    assert found.loc["Clay", "observed"] == pytest.approx(0.589, abs=0.04)
    assert found.loc["Peat", "status"] == "no interval: 3 stations < 5"
    assert found.loc["Peat", "is_small"] and np.isnan(found.loc["Peat", "lower"])
    assert found.loc["Peat", "is_consistent"] is pd.NA


def test_short_sensors_are_counted_as_left_out():
    """Twelve usable rows are too few for a coverage; the status says that nothing is left."""
    rng = np.random.default_rng(5)
    rows = metrics.forecast_rows(forecasts(rng, n=12))
    line = metrics.reliability(rows, levels=(0.5,)).iloc[0]
    assert line["status"] == "no sensor with 13 usable rows"
    assert (line["n"], line["n_left_out"]) == (0, 12 * 36)
    assert np.isnan(line["observed"])


def coverage_of_intervals(n_trials):
    """How often the interval of a 90 % level's coverage holds the true one; shared shifts."""
    held = []
    for seed in range(n_trials):
        rng = np.random.default_rng(seed)
        rows = metrics.forecast_rows(forecasts(rng, n_networks=30, n=30, effect=0.7))
        held.append(metrics.reliability(rows, levels=(0.9,))["is_consistent"].iloc[0])
    return np.mean(held)


def test_reliability_intervals_hold_the_truth():
    """40 worlds of 30 networks that share an error: binomial limits around 93 %."""
    assert coverage_of_intervals(40) >= 0.85


@pytest.mark.slow
def test_reliability_intervals_hold_the_truth_in_many_worlds():
    """95 % intervals over 30 clusters hold it in 90 to 97 % of 500 worlds (91 % when written)."""
    assert 0.90 <= coverage_of_intervals(500) <= 0.97


# Spread against skill


def test_a_calibrated_spread_lies_on_the_one_to_one_line():
    """RMSE / spread is 1 in every bin, and 2 where the spread is half of the truth."""
    rng = np.random.default_rng(6)
    honest = metrics.spread_skill(metrics.forecast_rows(forecasts(rng, n=300)), n_bins=4)
    assert (np.diff(honest["spread_m3_m3"]) > 0).all()
    np.testing.assert_allclose(honest["ratio"], 1, atol=0.05)
    assert honest["n"].tolist() == [2700] * 4
    sure = metrics.forecast_rows(forecasts(rng, n=300, true_over_said=2.0))
    found = metrics.spread_skill(sure, n_bins=4)
    assert (found["ratio_lower"] > 1.8).all() and (found["ratio_upper"] < 2.2).all()


def test_a_constant_spread_is_one_bin():
    """Nothing to rank: one bin; without any spread there is no ratio, and the status says why."""
    still = np.full((6, 20), 0.2)
    rng = np.random.default_rng(7)
    predictions = table(still + rng.normal(0, 0.05, still.shape), still, std=still)
    assert len(metrics.spread_skill(metrics.forecast_rows(predictions))) == 1
    none = metrics.forecast_rows(predictions.assign(predicted_std_m3_m3=0.0))
    line = metrics.spread_skill(none).iloc[0]
    assert line["status"] == "no ratio: the spread is zero"
    assert np.isnan(line["ratio"])

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


# Anomalies


def seasonal(rng, *, n_sensors=3, n_days=1096, noise=0.02):
    """A yearly wave with white noise, observed and predicted, (sensor, day) each."""
    day = np.arange(n_days)
    wave = 0.25 + 0.1 * np.sin(2 * np.pi * day / 365.2425)
    return tuple(wave + rng.normal(0, noise, (n_sensors, n_days)) for _ in range(2))


def test_window_anomalies_agree_with_pandas_on_uneven_steps():
    """Each sensor against pandas' own centred time window, hours apart and with gaps."""
    rng = np.random.default_rng(6)
    parts = []
    for i in range(3):
        days = np.sort(rng.choice(np.arange(0, 300, 0.25), 150, replace=False))
        table = predictions(rng.random(150), rng.random(150), days=days, sensors=[f"N__{i}__P__0"])
        parts.append(table)
    table = pd.concat(parts, ignore_index=True).sample(frac=1, random_state=0)
    found = metrics.window_anomalies(table)
    pd.testing.assert_index_equal(found.index, table.index)
    for part in parts:
        mine = found.loc[found["sensor_id"] == part["sensor_id"][0]].sort_values("time")
        for name in ("observed_m3_m3", "predicted_m3_m3"):
            series = part.set_index("time")[name]
            window = series.rolling("35D", center=True, closed="both", min_periods=10)
            np.testing.assert_allclose(mine[name], series - window.mean(), rtol=0, atol=1e-12)


def test_a_window_takes_time_and_not_rows():
    """Ten days of readings, a pause of a hundred days, nine days: the nine have no anomaly."""
    days = np.concatenate([np.arange(10), 110 + np.arange(9)])
    found = metrics.window_anomalies(predictions(np.arange(19.0), np.arange(19.0), days=days))
    assert (found["status"][:10] == "ok").all()
    assert (found["status"][10:] == "fewer than 10 values in the window").all()
    assert found["observed_m3_m3"][10:].isna().all()
    # The mean of 0 ... 9 is 4.5.
    np.testing.assert_allclose(found["observed_m3_m3"][:10], np.arange(10) - 4.5, atol=1e-12)


def test_ten_day_means_have_anomalies_from_70_days_and_from_their_other_years():
    """Seven of them fit into a window and five are needed; 35 days would hold four."""
    x = np.arange(110.0)
    x[50] += 7
    table = predictions(x, x, days=np.arange(110) * 10)
    found = metrics.window_anomalies(table)
    assert found["state"].unique().tolist() == ["anomaly: 70-day window"]
    assert (found["status"] != "ok").tolist() == [True] + [False] * 108 + [True]
    # A ramp less its centred mean is zero; the peak of 7 raises seven means by one.
    anomaly = found["observed_m3_m3"].to_numpy()
    np.testing.assert_allclose(anomaly[46:55], [0, -1, -1, -1, 6, -1, -1, -1, 0], atol=1e-9)
    assert (metrics.climatology_anomalies(table)["status"] == "ok").mean() > 0.9
    sparse = metrics.window_anomalies(predictions(x, x, days=np.arange(110) * 40))
    assert sparse["state"][0] == "anomaly: 280-day window"


def test_both_means_run_over_the_same_pairs():
    """A prediction that is missing takes its observation out of the window with it."""
    x = np.arange(30.0)
    y = x.copy()
    y[10] = np.nan
    found = metrics.window_anomalies(predictions(x, y))
    pd.testing.assert_series_equal(
        found["observed_m3_m3"], found["predicted_m3_m3"], check_names=False
    )
    assert found["status"][10] == "no finite pair"


def anomaly_kinds():
    return [metrics.window_anomalies, metrics.climatology_anomalies]


@pytest.mark.parametrize("anomalies", anomaly_kinds())
def test_an_offset_of_ten_thousand_loses_nothing_of_anomalies(anomalies):
    """On a grid of 2^-20 the offset is exact in binary."""
    x, y = (np.round(v * 2**20) / 2**20 for v in seasonal(np.random.default_rng(7)))
    near, far = (anomalies(predictions(x + c, y + c)) for c in (0, 1e4))
    for name in ("observed_m3_m3", "predicted_m3_m3"):
        np.testing.assert_allclose(far[name], near[name], rtol=0, atol=1e-12)


def slow_climatology(time, values, *, half_days=17.5):
    """Means of values at the same time of other years, one row at a time."""
    days = (time - time.min()) / pd.Timedelta(1, "D")
    found = []
    for day in days:
        away = (days - day) / 365.2425
        year = np.round(away)
        near = (np.abs(days - day - year * 365.2425) <= half_days) & (year != 0)
        found.append(values[near].mean() if near.sum() >= 10 else np.nan)
    return np.array(found)


def test_climatology_anomalies_agree_with_a_slow_loop():
    """For uneven steps over four years."""
    rng = np.random.default_rng(8)
    days = np.sort(rng.choice(1461, 500, replace=False))
    table = predictions(rng.random(500), rng.random(500), days=days)
    found = metrics.climatology_anomalies(table)
    for name in ("observed_m3_m3", "predicted_m3_m3"):
        expected = table[name] - slow_climatology(table["time"], table[name].to_numpy())
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=1e-12)


def test_a_sample_never_meets_its_own_season():
    """Half a year about New Year is made wet: its climatology stays what other years say."""
    x, y = seasonal(np.random.default_rng(9), n_sensors=1)
    wet = x.copy()
    wet[0, 640:820] += 0.3  # 180 days about the turn of 2020 to 2021, day 731
    before, after = (metrics.climatology(predictions(v, y)) for v in (x, wet))
    own = slice(640, 820)
    np.testing.assert_allclose(
        after["predicted_m3_m3"][own], before["predicted_m3_m3"][own], rtol=0, atol=1e-12
    )
    assert (after["predicted_m3_m3"][290:440] > before["predicted_m3_m3"][290:440] + 0.1).all()


def test_a_single_year_has_no_climatology():
    """Neither has a second year that holds nothing at that time of the year."""
    x, y = seasonal(np.random.default_rng(10), n_sensors=1, n_days=300)
    found = metrics.climatology_anomalies(predictions(x, y))
    assert (found["status"] == "no other year").all()
    days = np.concatenate([np.arange(60), 365 + 180 + np.arange(60)])
    found = metrics.climatology_anomalies(predictions(x[:, :120], y[:, :120], days=days))
    assert (found["status"] == "no other year").all()


def test_the_season_alone_earns_raw_skill_and_none_in_anomalies():
    """Two series that share nothing but the yearly wave: R 0.9 raw, about zero as anomalies."""
    table = predictions(*seasonal(np.random.default_rng(11), n_sensors=20))
    assert metrics.point_scores(table)["r"].mean() > 0.85
    for anomalies in anomaly_kinds():
        assert abs(metrics.point_scores(anomalies(table))["r"].mean()) < 0.05


def test_anomalies_name_their_state_down_to_the_long_table():
    """Climatological ones are labelled an oracle; Kling-Gupta's score of them is refused."""
    table = predictions(*seasonal(np.random.default_rng(12))).assign(predicted_std_m3_m3=0.1)
    found = metrics.climatology_anomalies(table)
    assert "oracle" in found["state"].unique().item()
    assert "predicted_std_m3_m3" not in found.columns
    scores = metrics.station_scores(found)
    assert "oracle" in metrics.to_scores_table(metrics.summarize(scores))["state"].unique().item()
    assert "oracle" in metrics.climatology(table)["model"].unique().item()
    with pytest.raises(ContractError, match="zero"):
        metrics.station_scores(found, metrics=["kge"])


# Rescaling

METHODS = {"mean_std": "mean and standard deviation", "linear": "line", "cdf": "percentiles"}


@pytest.mark.parametrize("method", METHODS)
def test_rescaling_undoes_a_straight_line(method):
    """Where the prediction is 0.3 + 2 x, every method gives x back, year by year."""
    x, _ = seasonal(np.random.default_rng(13))
    found = metrics.rescale(predictions(x, 0.3 + 2 * x), method=method)
    assert (found["status"] == "ok").all()
    np.testing.assert_allclose(
        found["predicted_m3_m3"], found["observed_m3_m3"], rtol=0, atol=1e-12
    )
    assert found["state"].unique().item().startswith(f"rescaled: {METHODS[method]}")


@pytest.mark.parametrize("method", METHODS)
def test_a_year_is_rescaled_without_its_own_observations(method):
    """Other observations in 2020 move the predictions of 2019 and 2021 and none of 2020."""
    x, y = seasonal(np.random.default_rng(14), n_sensors=1)
    raised = x.copy()
    raised[0, 365:731] += 0.2
    before, after = (metrics.rescale(predictions(v, y), method=method) for v in (x, raised))
    moved = (after["predicted_m3_m3"] - before["predicted_m3_m3"]).to_numpy()
    np.testing.assert_array_equal(moved[365:731], 0)
    assert (np.abs(moved[:365]) > 0).mean() > 0.9


def test_rescaling_agrees_with_numpy_and_scipy():
    """The year 2019 mapped by hand with what 2020 says."""
    x, y = seasonal(np.random.default_rng(15), n_sensors=1, n_days=731)
    new, fit_x, fit_y = y[0, :365], y[0, 365:], x[0, 365:]
    line = stats.linregress(fit_x, fit_y)
    percents = np.linspace(0, 100, 366 // 20 + 1)
    at, to = (np.percentile(v, percents, method="hazen") for v in (fit_x, fit_y))
    inside = (new >= fit_x.min()) & (new <= fit_x.max())
    expected = {
        "mean_std": (new - fit_x.mean()) / fit_x.std() * fit_y.std() + fit_y.mean(),
        "linear": line.intercept + line.slope * new,
        "cdf": np.where(inside, np.interp(new, at, to), np.nan),
    }
    for method, values in expected.items():
        found = metrics.rescale(predictions(x, y), method=method)["predicted_m3_m3"][:365]
        good = np.isfinite(values)
        np.testing.assert_allclose(found[good], values[good], rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_an_offset_of_ten_thousand_loses_nothing_of_rescaling(method):
    """Differences to the observations stay to the spacing of doubles near 1e4, 2e-12."""
    x, y = (np.round(v * 2**20) / 2**20 for v in seasonal(np.random.default_rng(16)))
    near, far = (metrics.rescale(predictions(x + c, y + c), method=method) for c in (0, 1e4))
    np.testing.assert_allclose(
        far["predicted_m3_m3"] - 1e4, near["predicted_m3_m3"], rtol=0, atol=4e-12
    )


def test_a_year_without_a_fit_says_why():
    """One year only, few pairs, a constant, and a falling line, each in its words."""
    x, y = seasonal(np.random.default_rng(17), n_sensors=1, n_days=380)

    def words(x, y, method="mean_std"):
        return metrics.rescale(predictions(x, y), method=method)["status"]

    assert set(words(x[:, :300], y[:, :300])) == {"no other year"}
    assert words(x, y)[0] == "too few pairs in other years: 15 < 20"
    assert words(x, y)[370] == "ok"
    assert set(words(np.tile(x, 2), np.full((1, 760), 0.2))) == {
        "constant prediction in other years"
    }
    falling = words(np.tile(x, 2), -np.tile(x, 2), "linear")
    assert set(falling) == {"no rising line in other years"}
    with pytest.raises(ContractError, match="cdf"):
        metrics.rescale(predictions(x, y), method="beta")


def test_a_map_fitted_in_sample_is_labelled_and_needs_one_year():
    """It gives the very mean and standard deviation of the observations that it is scored on."""
    x, y = seasonal(np.random.default_rng(15), n_sensors=1, n_days=300)
    assert (metrics.rescale(predictions(x, y))["status"] == "no other year").all()
    found = metrics.rescale(predictions(x, y), in_sample=True)
    assert found["state"].unique().tolist() == [
        "rescaled: mean and standard deviation in sample (fitted to what it scores)"
    ]
    scaled = found["predicted_m3_m3"]
    assert scaled.mean() == pytest.approx(x.mean()) and scaled.std(ddof=0) == pytest.approx(x.std())
    flat = metrics.rescale(predictions(x, np.full_like(x, 0.2)), in_sample=True)
    assert flat["status"].unique().tolist() == ["constant prediction in sample"]


def test_tied_percentiles_have_one_image():
    """A prediction of two levels maps each to one value, and none is lost."""
    rng = np.random.default_rng(18)
    y = rng.choice([0.1, 0.3], 800)
    found = metrics.rescale(predictions(y + rng.normal(0, 0.02, 800), y), method="cdf")
    in_2019 = found[found["time"].dt.year == 2019]
    assert in_2019["predicted_m3_m3"].notna().all()
    assert in_2019["predicted_m3_m3"].nunique() == 2


def test_states_follow_one_another():
    """An anomaly of rescaled values says both, and two states at once are refused."""
    table = predictions(*seasonal(np.random.default_rng(19)))
    scaled = metrics.rescale(table)
    both = metrics.window_anomalies(scaled)["state"].unique().item()
    assert both.startswith(f"rescaled: {METHODS['mean_std']}")
    assert both.endswith("> anomaly: 35-day window")
    mixed = scaled.assign(state=np.where(np.arange(len(scaled)) % 2, "a", "b"))
    with pytest.raises(ContractError, match="One state"):
        metrics.window_anomalies(mixed)


# Across stations


def field(rng, *, n_stations=40, n_days=30, n_blocks=10, noise=0.02):
    """A stations table of blocks and predictions whose errors neighbours share."""
    block = np.arange(n_stations) % n_blocks
    place = rng.normal(0, 0.05, n_blocks)[block] + rng.normal(0, 0.03, n_stations)
    day = rng.normal(0, 0.03, n_days)
    x = 0.25 + place[:, None] + day + rng.normal(0, noise, (n_stations, n_days))
    offset = rng.normal(0, 0.04, n_blocks)[block]
    y = 0.3 + 0.6 * place[:, None] + offset[:, None] + day + rng.normal(0, noise, x.shape)
    table = predictions(x, y)
    known = table.drop_duplicates("sensor_id")[["sensor_id", "station_id"]]
    return table, known.assign(latitude=31.0 + 4 * block, longitude=-100.0)


def test_spatial_scores_are_those_across_the_stations_of_a_date():
    """Each date against scipy and numpy; a date of nine stations has none and says so."""
    table, stations = field(np.random.default_rng(20))
    day = (table["time"] - table["time"].min()).dt.days
    station = table["sensor_id"].factorize()[0]
    table = table[(day != 7) | (station < 9)]
    found = metrics.spatial_scores(table, stations=stations)
    assert len(found) == 30
    for i in (0, 29):
        part = table[day[table.index] == i]
        x, y = part["observed_m3_m3"], part["predicted_m3_m3"]
        row = found.iloc[i]
        assert row["r"] == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-12)
        assert row["ubrmse_m3_m3"] == pytest.approx(np.std(y - x), abs=1e-12)
        assert row["bias_m3_m3"] == pytest.approx((y - x).mean(), abs=1e-12)
        assert (row["n_stations"], row["n_clusters"], row["status"]) == (40, 10, "ok")
        assert row["r_lower"] < row["r"] < row["r_upper"]
    assert found["status"][7] == "too few stations: 9 < 10"
    assert found[["r", "r_lower", "rmse_m3_m3"]].iloc[7].isna().all()


def test_replicate_probes_of_a_station_count_once():
    """Two probes at each station, one 0.02 up and one down, score as their mean does."""
    rng = np.random.default_rng(21)
    x, y = rng.uniform(0.1, 0.4, (2, 12, 5))
    names = [f"N__S{i:04d}__P2__0__5" for i in range(12)]
    one = metrics.spatial_scores(predictions(x, y))
    two = pd.concat([predictions(x + 0.02, y), predictions(x - 0.02, y, sensors=names)])
    pd.testing.assert_frame_equal(metrics.spatial_scores(two), one, check_exact=False, atol=1e-12)


def test_the_pool_is_parted_exactly_into_bias_places_and_days():
    """RMSE2 = bias2 + static2 + dynamic2 for ragged stations, and so for covariances."""
    rng = np.random.default_rng(22)
    table, stations = field(rng)
    table = table.sample(frac=0.6, random_state=0)
    found = metrics.spatial_parts(table, stations=stations).set_index("metric")
    value = found["value"]
    error = table["predicted_m3_m3"] - table["observed_m3_m3"]
    squares = [value[n] ** 2 for n in ("bias_m3_m3", "ubrmse_static_m3_m3", "ubrmse_dynamic_m3_m3")]
    assert value["rmse_m3_m3"] ** 2 == pytest.approx(sum(squares), abs=1e-15)
    assert value["rmse_m3_m3"] ** 2 == pytest.approx((error**2).mean(), abs=1e-15)
    assert value["bias_m3_m3"] == pytest.approx(error.mean(), abs=1e-15)
    columns = table[["observed_m3_m3", "predicted_m3_m3"]]
    means = columns.groupby(table["station_id"]).transform("mean")
    assert value["r"] == pytest.approx(columns.corr().iloc[0, 1], abs=1e-12)
    assert value["r_static"] == pytest.approx(means.corr().iloc[0, 1], abs=1e-12)
    assert value["r_dynamic"] == pytest.approx((columns - means).corr().iloc[0, 1], abs=1e-12)
    assert (found["status"] == "ok").all()
    assert ((found["lower"] < value) & (value < found["upper"])).all()


def test_a_map_of_places_has_no_dynamic_skill():
    """A prediction that is constant in time: static R 1, dynamic R none, with its words."""
    table, stations = field(np.random.default_rng(23), noise=0)
    mean = table.groupby("station_id")["observed_m3_m3"].transform("mean")
    found = metrics.spatial_parts(table.assign(predicted_m3_m3=mean), stations=stations)
    found = found.set_index("metric")
    assert found["value"]["r_static"] == pytest.approx(1, abs=1e-9)
    assert found["value"]["ubrmse_static_m3_m3"] == pytest.approx(0, abs=1e-9)
    assert np.isnan(found["value"]["r_dynamic"])
    assert found["status"]["r_dynamic"] == "constant"
    days = metrics.spatial_scores(table.assign(predicted_m3_m3=mean), part="dynamic")
    assert (days["status"] == "constant across stations").all()


def test_the_parts_of_a_date_can_be_scored_alone():
    """Good places and inverted days: static R high, dynamic R minus one."""
    table, stations = field(np.random.default_rng(24), noise=0.03)
    mean = table.groupby("station_id")["observed_m3_m3"].transform("mean")
    turned = table.assign(predicted_m3_m3=2 * mean - table["observed_m3_m3"])
    static, dynamic = (
        metrics.spatial_scores(turned, stations=stations, part=part)["r"]
        for part in ("static", "dynamic")
    )
    np.testing.assert_allclose(static, 1, atol=1e-9)
    np.testing.assert_allclose(dynamic, -1, atol=1e-9)


def test_an_offset_of_ten_thousand_loses_nothing_across_stations():
    """On a grid of 2^-20 the offset is exact in binary."""
    table, stations = field(np.random.default_rng(25))
    columns = ["observed_m3_m3", "predicted_m3_m3"]
    table[columns] = np.round(table[columns] * 2**20) / 2**20
    far = table.assign(**{name: table[name] + 1e4 for name in columns})
    for score in (metrics.spatial_scores, metrics.spatial_parts):
        near_found, far_found = score(table, stations=stations), score(far, stations=stations)
        pd.testing.assert_frame_equal(far_found, near_found, check_exact=False, rtol=0, atol=1e-12)


def test_few_clusters_give_spatial_scores_without_intervals():
    """Four blocks: a score, no interval, and the reason."""
    table, stations = field(np.random.default_rng(26), n_blocks=4)
    for score in (metrics.spatial_scores, metrics.spatial_parts):
        found = score(table, stations=stations)
        assert (found["status"] == "no interval: 4 clusters < 5").all()
        assert found.filter(like="lower").isna().all(axis=None)
    with pytest.raises(ContractError, match="static"):
        metrics.spatial_scores(table, part="both")


# By season


def test_the_hemisphere_turns_the_season_and_december_joins_january():
    """DJF is winter in the north, summer in the south; without a latitude it is DJF."""
    time = pd.Series(pd.to_datetime(["2020-12-31", "2021-01-01", "2021-03-01", "2021-08-31"]))
    north, south = metrics.season_of(time, 45.0), metrics.season_of(time, -45.0)
    assert north["season"].tolist() == ["winter", "winter", "spring", "summer"]
    assert south["season"].tolist() == ["summer", "summer", "autumn", "winter"]
    assert north["months"].tolist() == ["DJF", "DJF", "MAM", "JJA"]
    unknown = metrics.season_of(time, np.nan)
    assert unknown["season"].tolist() == unknown["months"].tolist()
    assert set(unknown["hemisphere"]) == {"unknown"}


def test_seasons_share_out_the_samples_and_are_scored_apart():
    """Skill that is there in winter alone shows in winter alone, on both hemispheres."""
    rng = np.random.default_rng(27)
    x, y = rng.uniform(0.1, 0.4, (2, 2, 731))
    table = predictions(x, y)
    known = table.drop_duplicates("sensor_id")[["sensor_id", "station_id"]]
    stations = known.assign(latitude=[40.0, -40.0], longitude=10.0)
    latitude = table["station_id"].map(stations.set_index("station_id")["latitude"])
    is_winter = metrics.season_of(table["time"], latitude)["season"] == "winter"
    table["predicted_m3_m3"] = table["predicted_m3_m3"].where(~is_winter, table["observed_m3_m3"])
    scores = metrics.season_scores(table, stations, metrics=["spearman"])
    assert len(scores) == 8
    assert scores["n"].sum() == len(table)
    winter = scores[scores["season"] == "winter"].set_index("hemisphere")
    assert winter["months"].to_dict() == {"north": "DJF", "south": "JJA"}
    np.testing.assert_allclose(winter["spearman"], 1, atol=1e-12)
    assert (scores[scores["season"] != "winter"]["r"].abs() < 0.3).all()
    by_season = metrics.summarize(scores, by="season").set_index(["season", "metric"])
    assert by_season.loc[("winter", "r"), "mean"] == pytest.approx(1, abs=1e-12)
    with pytest.raises(ContractError, match="latitude"):
        metrics.season_scores(table, stations.drop(columns="latitude"))


def clustered_places(rng, *, n_blocks, per_block=4, n_days=3):
    """Places and errors that blocks share, and what spatial scores of them would be in the end."""
    block = np.repeat(np.arange(n_blocks), per_block)
    place = rng.normal(0, 0.05, n_blocks)[block] + rng.normal(0, 0.03, len(block))
    error = rng.normal(0, 0.04, n_blocks)[block]
    noise = rng.normal(0, 0.02, (2, len(block), n_days))
    table = predictions(
        0.25 + place[:, None] + noise[0], 0.3 + (0.6 * place + error)[:, None] + noise[1]
    )
    known = table.drop_duplicates("sensor_id")[["sensor_id", "station_id"]]
    stations = known.assign(latitude=1 + 4.0 * (block // 10), longitude=1 + 4.0 * (block % 10))
    # Var(place) = 0.0034; a station's mean over the days has a third of the days' noise.
    truth = {"bias_m3_m3": 0.05}
    for name, noise2 in (("date", 0.02**2), ("r_static", 0.02**2 / n_days)):
        variances = (0.0034 + noise2) * (0.36 * 0.0034 + 0.04**2 + noise2)
        truth[name] = 0.6 * 0.0034 / np.sqrt(variances)
    truth["ubrmse_static_m3_m3"] = np.sqrt(0.16 * 0.0034 + 0.04**2 + 2 * 0.02**2 / n_days)
    return table, stations, truth


def spatial_hits(*, n_blocks, n_worlds):
    """How often the intervals of date, bias and both parts hold the truth; a world is a model."""
    worlds = []
    for seed in range(n_worlds):
        table, stations, truth = clustered_places(np.random.default_rng(seed), n_blocks=n_blocks)
        worlds.append(table.assign(model=f"{seed:04d}"))
    worlds = pd.concat(worlds, ignore_index=True)
    parts = metrics.spatial_parts(worlds, stations=stations)
    days = metrics.spatial_scores(worlds, stations=stations).drop_duplicates("model")
    days = days.rename(columns={"r_lower": "lower", "r_upper": "upper"}).assign(metric="date")
    limits = pd.concat([parts, days])
    limits = limits[limits["metric"].isin(list(truth))]
    expected = limits["metric"].map(truth)
    return (
        ((limits["lower"] < expected) & (expected < limits["upper"]))
        .groupby(limits["metric"])
        .mean()
    )


def test_spatial_intervals_know_that_neighbours_share_errors():
    """Twenty blocks of four stations: about 95 % of the intervals hold the truth."""
    covered = spatial_hits(n_blocks=20, n_worlds=40)
    assert (covered >= 0.82).all(), covered


@pytest.mark.slow
@pytest.mark.parametrize(("n_blocks", "least"), [(5, 0.85), (10, 0.85), (20, 0.90), (40, 0.90)])
def test_spatial_coverage_over_many_worlds(n_blocks, least):
    """The spread of station means is the hardest: 89 % at ten blocks, 93 % at forty."""
    covered = spatial_hits(n_blocks=n_blocks, n_worlds=500)
    assert covered.between(least, 0.99).all(), covered


# Beside pytesmo, where it is installed (the validation extra)


def test_scores_agree_with_pytesmo():
    """R, Spearman, ubRMSE, RMSE and bias to 1e-12; its bias is first less second."""
    theirs = pytest.importorskip("pytesmo.metrics", reason="needs the validation extra")
    rng = np.random.default_rng(30)
    x, y = rng.uniform(0.05, 0.5, (2, 5, 300))
    found = metrics.point_scores(predictions(x, y), metrics=["spearman"])
    for i in range(5):
        expected = {
            "r": theirs.pearson_r(x[i], y[i]),
            "spearman": theirs.spearman_r(x[i], y[i]),
            "ubrmse_m3_m3": theirs.ubrmsd(x[i], y[i]),
            "rmse_m3_m3": theirs.rmsd(x[i], y[i]),
            "bias_m3_m3": theirs.bias(y[i], x[i]),
        }
        for name, value in expected.items():
            assert found[name][i] == pytest.approx(value, abs=1e-12)


def test_window_anomalies_agree_with_pytesmo():
    """Its moving average of 35 days with at least ten values, over uneven days."""
    filtering = pytest.importorskip(
        "pytesmo.time_series.filtering", reason="needs the validation extra"
    )
    rng = np.random.default_rng(31)
    days = np.sort(rng.choice(700, 260, replace=False))
    table = predictions(rng.random(260), rng.random(260), days=days)
    found = metrics.window_anomalies(table)
    for name in ("observed_m3_m3", "predicted_m3_m3"):
        series = table.set_index(pd.DatetimeIndex(table["time"]))[name]
        mean = filtering.moving_average(series, window_size=35, min_obs=10)
        np.testing.assert_allclose(found[name], (series - mean).to_numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_rescaling_agrees_with_pytesmo(method):
    """Fitted on 2020 and applied to 2019, which pytesmo does in one step where it fits at all.

    Its CDF matching is ours with one bin for every 20 pairs and without its option to redraw the
    end pieces by a regression.
    """
    scaling = pytest.importorskip("pytesmo.scaling", reason="needs the validation extra")
    matching = pytest.importorskip("pytesmo.cdf_matching", reason="needs the validation extra")
    x, y = seasonal(np.random.default_rng(32), n_sensors=1, n_days=731)
    # The second year's predictions again in the first: its own fit then stands for the other's.
    x, y = x[0], y[0]
    y[:365] = y[365:730]
    found = metrics.rescale(predictions(x, y), method=method)["predicted_m3_m3"][:365]
    fit_x, fit_y = y[365:], x[365:]
    if method == "linear":
        slope, intercept = scaling.linreg_params(fit_x, fit_y)
        expected = scaling.linreg_stored_params(y[:365], slope, intercept)
    elif method == "mean_std":
        expected = scaling.mean_std(fit_x, fit_y)[:365]
    else:
        matcher = matching.CDFMatching(nbins=100, minobs=20, linear_edge_scaling=False)
        expected = matcher.fit(fit_x, fit_y).predict(y[:365])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_a_sorted_table_is_scored_without_sorting_and_alike():
    """Sorted, each sensor turned back in time, and interleaved: the same intervals to 1e-12."""
    rng = np.random.default_rng(33)
    x = autoregressive(rng, shape=(6, 80), rho=0.8)
    table = predictions(x, x + rng.standard_normal(x.shape))
    expected = metrics.station_scores(table)
    turned = table.sort_values(["sensor_id", "time"], ascending=[True, False])
    for other in (turned, table.sort_values("time"), table.astype({"sensor_id": "category"})):
        pd.testing.assert_frame_equal(metrics.station_scores(other), expected, rtol=0, atol=1e-12)

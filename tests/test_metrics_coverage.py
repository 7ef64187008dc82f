"""Intervals hold the truth as often as they say, on series made for it, and say where not."""

import numpy as np
import pandas as pd
import pytest
from scipy import special
from scipy.optimize import curve_fit

from soilkit import metrics
from soilkit.errors import ContractError
from soilkit.metrics import intervals
from soilkit.metrics.intervals import Steps, effective_size, longer, memory_hours
from soilkit.metrics.points import group
from soilkit.metrics.scores import correlation_size, error_sizes, lines
from tests.benchmarks import coverage

N_SHORT, DAY_END = 300, pd.Timedelta("23h59min")


def rates(kind, *, n, rho, r=0.7, method="product", n_series=N_SHORT):
    """Coverage a metric."""
    rng = np.random.default_rng([n, round(100 * rho)])
    x, y, truth = coverage.pairs(kind, rng, shape=(n_series, n), rho=rho, r=r)
    scores = coverage.scored(coverage.predictions(x, y), method)
    rows = coverage.coverages(scores, truth)
    return {row["metric"]: row["coverage"] for row in rows}


# The series that the study is made of


@pytest.mark.parametrize("rho", [0.5, 0.9])
def test_dry_downs_have_the_mean_variance_and_memory_that_are_claimed(rho):
    """A true R is worth nothing where the sawtooth's own moments are wrong."""
    series = coverage.dry_downs(np.random.default_rng(0), shape=(400, 1000), rho=rho)
    # 400,000 values hold at least 400,000 (1 - 0.9) / (1 + 0.9) = 21,000 independent ones.
    assert series.mean() == pytest.approx(0, abs=4 / np.sqrt(21_000))
    assert series.std() == pytest.approx(1, abs=0.02)
    assert np.mean(series[:, 1:] * series[:, :-1]) == pytest.approx(rho, abs=0.03)
    skewness = np.mean(series**3)
    assert abs(skewness) > 0.2  # no normal values


@pytest.mark.parametrize("kind", coverage.KINDS)
def test_the_truth_of_each_kind_is_what_long_series_score(kind):
    """The mean score of long series meets the truth that coverage is counted against."""
    rng = np.random.default_rng(1)
    x, y, truth = coverage.pairs(kind, rng, shape=(200, 3000), rho=0.8, r=0.7)
    scores = metrics.point_scores(coverage.predictions(x, y))
    for metric, value in truth.items():
        assert scores[metric].mean() == pytest.approx(np.mean(value), rel=0.02), metric


# Analytic intervals


@pytest.mark.parametrize(
    ("kind", "n", "rho"),
    [("autoregressive", 100, 0.8), ("autoregressive", 365, 0.95), ("seasonal", 365, 0.8),
     ("dry-down", 365, 0.9), ("dry-down", 100, 0.5)],
)  # fmt: skip
def test_intervals_cover_on_soil_like_series(kind, n, rho):
    """R, errors and bias hold 95 % within what 300 series can tell."""
    rate = rates(kind, n=n, rho=rho)
    # Three standard errors of 0.95 over 300 series are 0.038.
    assert all(0.912 <= value <= 0.99 for value in rate.values()), rate


@pytest.mark.parametrize(
    ("kind", "r", "least"), [("two-speed errors", 0.3, 0.9), ("drifting errors", 0.8, 0.85)]
)
def test_a_slow_part_of_errors_counts_in_their_intervals(kind, r, least):
    """One memory fitted to fast and slow errors together would hold the bias in two of three."""
    rng = np.random.default_rng(13)
    x, y, truth = coverage.pairs(kind, rng, shape=(N_SHORT, 1000), rho=0.95, r=r)
    table = coverage.predictions(x, y)
    scores = metrics.station_scores(table)
    rate = {row["metric"]: row["coverage"] for row in coverage.coverages(scores, truth)}
    # Measured with 400 series: 0.95 and 0.93 for the bias, 0.97 and 0.89 for the ubRMSE.
    assert rate["bias_m3_m3"] > least and rate["ubrmse_m3_m3"] > least - 0.05, rate
    _, groups = group(table)
    steps = Steps.of(groups)
    error = groups.centred(groups.predicted - groups.observed)
    alone = effective_size(1 / memory_hours(error, steps), steps)
    half = 1.96 * np.sqrt(groups.sum(error**2) / groups.counts / alone)
    miss = np.abs(scores["bias_m3_m3"].to_numpy() - truth["bias_m3_m3"])
    assert np.mean(miss <= half) < 0.8


def test_one_memory_is_kept_where_one_memory_fits():
    """On autoregressive errors the number of errors is n (1 - rho) / (1 + rho), a little less."""
    rng = np.random.default_rng(14)
    x, y, _ = coverage.pairs("autoregressive", rng, shape=(200, 1000), rho=0.8, r=0.5)
    _, groups = group(coverage.predictions(x, y))
    steps = Steps.of(groups)
    told, used, _ = error_sizes(groups, steps=steps, both=lines(groups, steps=steps))
    assert np.median(told) == pytest.approx(1000 * 0.2 / 1.8, rel=0.1)
    assert 0.8 < np.median(used) / np.median(told) < 1


def test_intervals_of_independent_pairs_fail_on_soil():
    """At a lag-1 of 0.95 an i.i.d. interval of R holds about a third of what it says."""
    rate = rates("autoregressive", n=365, rho=0.95, method="i.i.d.")
    assert rate["r"] < 0.5 and rate["bias_m3_m3"] < 0.5
    assert rates("autoregressive", n=365, rho=0.95)["r"] > 0.91


def test_errors_that_forget_faster_than_soil_count_more():
    """A signal of long memory under white errors is worth what the parts say, not their mix."""
    rng = np.random.default_rng(3)
    x, y, _ = coverage.pairs("two-speed errors", rng, shape=(100, 3000), rho=0.9, r=0.8)
    _, groups = group(coverage.predictions(x, y))
    steps = Steps.of(groups)
    found = np.median(correlation_size(lines(groups, steps=steps), groups=groups, steps=steps))
    # n_xe: q = 0.9 x 0.3 = 0.27, 3000 x 0.73 / 1.27 = 1724.4; n_xx: q = 0.81, 3000 x 0.19 / 1.81
    # = 314.9; n_ee: q = 0.09, 3000 x 0.91 / 1.09 = 2504.6.
    # 0.36 / 1724.4 + 0.64 (1 / 314.9 + 1 / 2504.6) / 2 = 1.3527e-3, so 739 pairs.
    assert found == pytest.approx(739, rel=0.08)


def published_n_corr(table):
    """The authors' recipe in pandas and scipy: daily last values, 90 lags, a bounded fit."""
    frame = table.set_index("time")[["observed_m3_m3", "predicted_m3_m3"]]
    daily, tau = frame.resample("1D").last(), []
    for column in daily:
        lags = [daily[column].corr(daily[column].shift(lag)) for lag in range(90)]
        lags = pd.Series(lags).dropna()
        fit = curve_fit(lambda t, a: np.exp(a * t), lags.index, lags, bounds=[-1, -1 / 90])
        tau.append(-1 / fit[0][0])
    spacing = np.median((frame.index[1:] - frame.index[:-1]).days)
    rho = np.sqrt(np.prod(np.exp(-spacing / np.array(tau))))
    return int(round(len(frame) * (1 - rho) / (1 + rho)))


@pytest.mark.parametrize(("rho", "every"), [(0.6, 1), (0.95, 1), (0.995, 1), (0.9, 3)])
def test_gruber_s_form_is_the_published_one(rho, every):
    """Gaps, two readings a day and memories beyond 90 days: the same whole number, its interval."""
    rng = np.random.default_rng(4)
    x, y, _ = coverage.pairs("seasonal", rng, shape=(1, 1200), rho=rho, r=0.5)
    table = coverage.predictions(x, y)[::every]
    table = table[rng.random(len(table)) > 0.2]
    table = table.assign(time=table["time"] + pd.to_timedelta(rng.integers(0, 23, len(table)), "h"))
    second = table[:20].assign(
        sample_id="b" + table["sample_id"][:20], time=table["time"][:20].dt.floor("D") + DAY_END
    )
    table = pd.concat([table, second]).sort_values("time", kind="stable")
    row = metrics.station_scores(table, r_interval="gruber").iloc[0]
    n = published_n_corr(table)
    assert row["n_effective"] == n
    ends = np.tanh(np.arctanh(row["r"]) + np.array([-1, 1]) * 1.959964 / np.sqrt(n - 3))
    np.testing.assert_allclose(row[["r_lower", "r_upper"]].to_numpy(float), ends, rtol=1e-6)


def test_a_published_size_needs_daily_lags_and_says_so():
    """A ten-day table has nine of the ninety lags: no fit, hence no interval of R."""
    rng = np.random.default_rng(4)
    x, y, _ = coverage.pairs("seasonal", rng, shape=(1, 1200), rho=0.8, r=0.5)
    row = metrics.station_scores(coverage.predictions(x, y)[::10], r_interval="gruber").iloc[0]
    assert np.isnan(row["r_lower"]) and "21 daily lags" in row["status"]
    with pytest.raises(ContractError, match="product, gruber"):
        metrics.station_scores(coverage.predictions(x, y), r_interval="fisher")


@pytest.mark.parametrize(("n", "least"), [(1000, 0.8), (3000, 0.88)])
def test_a_relation_that_changes_by_year_widens_the_interval_of_r(n, least):
    """Memory alone covers a third; slopes, levels and spreads of three to eight years tell."""
    rng = np.random.default_rng(1)
    x, y, truth = coverage.changing_years(rng, shape=(N_SHORT, n), rho=0.8, r=0.8)
    table = coverage.predictions(x, y)
    scores = metrics.station_scores(table)
    (row,) = coverage.coverages(scores, truth)
    assert least < row["coverage"] < 0.99
    _, groups = group(table)
    steps = Steps.of(groups)
    alone = correlation_size(lines(groups, steps=steps), groups=groups, steps=steps)
    miss = np.abs(np.arctanh(scores["r"]) - np.arctanh(truth["r"]))
    assert np.mean(miss <= 1.96 / np.sqrt(alone)) < 0.6


def test_an_interval_is_made_with_the_size_beside_it_and_never_spans_all():
    """By hand from each metric's own n_effective; five are needed, so none reaches from -1 to 1."""
    rng = np.random.default_rng(8)
    x, y, _ = coverage.pairs("autoregressive", rng, shape=(400, 100), rho=0.9, r=0.3)
    table = metrics.station_scores(coverage.predictions(x, y))
    span = table["r_upper"] - table["r_lower"]
    assert 0 < span.notna().sum() < 400 and span.max() < 1.9
    assert table.loc[span.isna(), "status"].str.startswith("too few effective samples").all()
    n = table["bias_m3_m3_n_effective"]
    half = special.stdtrit(n - 1, 0.975) * table["ubrmse_m3_m3"] / np.sqrt(n - 1)
    stands = table["bias_m3_m3_lower"].notna()
    np.testing.assert_allclose(
        (table["bias_m3_m3_upper"] - table["bias_m3_m3"])[stands], half[stands], rtol=1e-9
    )
    long = metrics.to_scores_table(table).set_index(["metric", "sensor_id"])["n_effective"]
    assert long["bias_m3_m3"].tolist() == n.tolist() != long["r"].tolist()


def test_a_perfect_copy_has_an_interval_without_width():
    """R is 1 and stays 1; no interval is lost without a word."""
    x = coverage.autoregressive(np.random.default_rng(5), shape=(1, 200), rho=0.3)
    row = metrics.station_scores(coverage.predictions(x, x + 0.1)).iloc[0]
    assert row["r_lower"] == pytest.approx(1, abs=1e-6) and row["r_upper"] == pytest.approx(1)


def test_a_cautious_memory_is_above_the_true_one_seven_times_in_ten():
    """Half a standard error is the 69th percentile of the normal distribution."""
    rng = np.random.default_rng(6)
    series = coverage.autoregressive(rng, shape=(1000, 365), rho=0.8)
    _, groups = group(coverage.predictions(series, series))
    steps = Steps.of(groups)
    tau = memory_hours(groups.centred(groups.observed), steps)
    share = np.mean(longer(tau, steps) > -24 / np.log(0.8))
    assert 0.63 < share < 0.75


@pytest.mark.slow
@pytest.mark.parametrize("n", coverage.LENGTHS)
@pytest.mark.parametrize("kind", coverage.KINDS[:3])
def test_r_covers_93_to_97_percent_and_errors_90_to_97(kind, n):
    """The whole promise, 2,000 series a case, from ten effective pairs on."""
    rows = coverage.study(n_series=2000, methods=("product",), kinds=(kind,), lengths=(n,))
    for row in rows:
        if row["n_effective"] < 10:
            continue
        slack = 3 * np.sqrt(0.05 * 0.95 / 2000)  # 0.015: what 2,000 series cannot tell
        low, high = (0.93, 0.97) if row["metric"] == "r" else (0.90, 0.97)
        if row["metric"] == "r" or n >= 365:
            assert low - slack <= row["coverage"] <= high + slack, row


# Moving blocks


def test_moving_blocks_cover_where_they_are_given():
    """From fifty effective pairs on they hold at least nine in ten."""
    rate = rates("autoregressive", n=1000, rho=0.7, method="moving block", n_series=200)
    # Three standard errors of 0.92 over 200 series are 0.058.
    assert all(0.86 <= value <= 0.99 for value in rate.values()), rate


def test_moving_blocks_hold_where_one_memory_does_not_fit():
    """Slow and fast errors together."""
    case = {"kind": "two-speed errors", "n": 1000, "rho": 0.9, "r": 0.3, "n_series": 200}
    assert rates(method="moving block", **case)["bias_m3_m3"] > 0.88


def test_too_few_effective_pairs_refuse_the_bootstrap():
    """Fifty, by name; the score stands, the interval does not."""
    rng = np.random.default_rng(7)
    x, y, _ = coverage.pairs("autoregressive", rng, shape=(20, 365), rho=0.95, r=0.7)
    scores = metrics.block_bootstrap(coverage.predictions(x, y))
    assert scores["status"].str.match(r"too few effective samples: [\d.]+ < 50").all()
    assert scores["r"].notna().all() and scores["r_lower"].isna().all()
    flat = metrics.block_bootstrap(coverage.predictions(x[:1], np.full((1, 365), 0.2)))
    assert flat["status"].item() == "constant series"
    short = metrics.block_bootstrap(coverage.predictions(x[:, :5], y[:, :5]))
    assert short["status"].eq("too few samples: 5 < 13").all()


def test_the_block_length_is_that_of_politis_and_white_for_one_memory():
    """(sqrt(6) rho / (1 - rho^2))^(2/3) n^(1/3), a row where nothing is remembered."""
    # rho 0.7, n 1000: (2.449490 x 0.7 / 0.51)^(2/3) x 10 = 3.362073^(2/3) x 10 = 22.44, so 23.
    _, groups = group(coverage.predictions(*np.random.default_rng(0).random((2, 2, 1000))))
    tau_hours = np.array([-24 / np.log(0.7), 1e-9])
    assert intervals.block_length(tau_hours, Steps.of(groups)).tolist() == [23, 1]


def test_a_draw_s_scores_are_those_of_the_rows_it_drew():
    """Sums from running sums equal the slow way, cut last block and all."""
    x, y = np.random.default_rng(8).standard_normal((2, 10))
    columns = np.array([x, y, x * y])
    means = intervals.block_means(columns, 4, n_draws=200, rng=np.random.default_rng(9))
    # 10 rows: two blocks of four, then two rows of a third; blocks run on at the beginning.
    starts = np.random.default_rng(9).integers(0, 10, (200, 3))
    rows = ((starts[:, :, None] + np.arange(4)).reshape(200, 12)[:, :10]) % 10
    np.testing.assert_allclose(means, columns[:, rows].mean(axis=2), atol=1e-12)


def test_a_sensor_s_blocks_do_not_depend_on_its_neighbours():
    """The same seed repeats it, alone or in company; another seed is another interval."""
    rng = np.random.default_rng(10)
    x, y, _ = coverage.pairs("autoregressive", rng, shape=(3, 400), rho=0.3, r=0.7)
    table = coverage.predictions(x, y)
    together = metrics.block_bootstrap(table)
    last = table[table["sensor_id"] == together["sensor_id"][2]]
    alone = metrics.block_bootstrap(last)
    pd.testing.assert_frame_equal(alone, together.iloc[2:].reset_index(drop=True))
    other = metrics.block_bootstrap(last, seed=1)
    assert other["r_lower"].item() != alone["r_lower"].item()
    assert other["r_lower"].item() == pytest.approx(alone["r_lower"].item(), abs=0.03)


def test_an_rmse_that_is_all_bias_is_as_uncertain_as_the_bias():
    """With a bias ten times the scatter both intervals of blocks have one width."""
    rng = np.random.default_rng(12)
    x = coverage.autoregressive(rng, shape=(1, 400), rho=0.3)
    y = x + 10 + rng.standard_normal(x.shape)
    row = metrics.block_bootstrap(coverage.predictions(x, y)).iloc[0]
    width = [row[f"{m}_upper"] - row[f"{m}_lower"] for m in ("rmse_m3_m3", "bias_m3_m3")]
    assert width[0] == pytest.approx(width[1], rel=0.1)


# Aggregates of stations that share errors


def test_clusters_cover_where_stations_as_independent_do_not():
    """Ten networks of five stations: the bootstrap holds, counting stations does not."""
    kind = "clusters of 5 stations"
    rows = coverage.cluster_study(n_tables=100, n_clusters=(10,), kinds=(kind,))
    rate = {row["method"]: row["coverage"] for row in rows}
    # Three standard errors of 0.95 over 100 tables are 0.065.
    assert rate["cluster bootstrap, mean"] > 0.88
    assert rate["cluster bootstrap, median"] > 0.88
    assert rate["stations as i.i.d., mean"] < 0.8


@pytest.mark.parametrize(
    "n_tables", [60, pytest.param(500, marks=pytest.mark.slow)], ids=["short", "full"]
)
def test_a_paired_difference_holds_the_true_one(n_tables):
    """Twenty clusters whose two models differ by an amount of the cluster's own."""
    rows = coverage.paired_study(n_tables=n_tables, n_clusters=(20,))
    assert {row["method"] for row in rows} == {
        "paired difference, mean", "paired difference, mean of cluster means",
    }  # fmt: skip
    slack = 3 * np.sqrt(0.05 * 0.95 / n_tables)
    assert all(0.95 - slack - 0.02 <= row["coverage"] <= 1 for row in rows), rows


def test_networks_are_clusters_as_blocks_are():
    """Where each block is a network, both ways give one interval."""
    scores, stations = coverage.clustered_scores(
        np.random.default_rng(11), n_clusters=12, sizes=coverage.SIZES["clusters of 5 stations"]
    )
    blocks, networks = (
        metrics.summarize(scores, stations, clusters=kind) for kind in ("block", "network")
    )
    assert networks["n_clusters"].eq(12).all()
    widths = [table["mean_upper"] - table["mean_lower"] for table in (blocks, networks)]
    np.testing.assert_allclose(*widths, rtol=0.1)

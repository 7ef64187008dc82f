"""Scores of every sensor with intervals, their summary by stratum, and the long table."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from scipy import special

from soilkit import contracts, strata
from soilkit.constants import CONFIDENCE, MIN_SAMPLES, OK
from soilkit.errors import ContractError
from soilkit.metrics import intervals
from soilkit.metrics.intervals import (
    Steps,
    effective_size,
    gruber_size,
    longer,
    memory_hours,
    student_interval,
)
from soilkit.metrics.points import (
    METRICS,
    ROWS_AT_ONCE,
    Groups,
    check_predictions,
    class_names,
    extra_names,
    metrics_of,
    of_stations,
    pieces,
    points,
    state_of,
)

MIN_EFFECTIVE = 5.0
CONSTANT_PREDICTION = "constant prediction"
CONSTANTS = ("constant observation and prediction", "constant observation", CONSTANT_PREDICTION)
R_INTERVALS = ("product", "gruber")
WITH_INTERVAL, ENDS = (*METRICS, "spearman"), ("", "_lower", "_upper")


def station_scores(
    predictions: pd.DataFrame,
    *,
    min_samples: int = MIN_SAMPLES,
    confidence: float = CONFIDENCE,
    metrics: Iterable[str] = (),
    r_interval: str = "product",
) -> pd.DataFrame:
    """R, ubRMSE, RMSE and bias of every sensor, with intervals that know about autocorrelation.

    With d = predicted - observed, and lag-1 correlations rho fitted in time as exp(-dt / tau), R's
    interval is Fisher's with n (1 - rho_x rho_y) / (1 + rho_x rho_y) [1]_ pairs, taken apart by
    signal and error (``correlation_size``), or with as few as its stretches of about a year
    disagree by (``r_error``); the bias's is Student's with n (1 - rho_d) / (1 + rho_d), those of
    ubRMSE and RMSE are chi-square's with n (1 - rho_d^2) / (1 + rho_d^2), where rho_d is half a
    standard error above what was fitted; with fewer errors where these are seen to have a slow part
    (``error_sizes``). Measured coverage, and where it falls short, stands in
    ``reports/coverage/coverage.csv``. Raises ``ContractError`` when the table breaks its contract,
    or an argument its range.

    Parameters
    ----------
    predictions : table of that contract; rows without a finite pair are left out
    min_samples : int, fewer pairs give no score
    confidence : float, of each interval alone
    metrics : further scores: "spearman", with the interval of Bonett and Wright at R's effective
        size; "kge" (Kling-Gupta of 2012) and "kge_2009", which have no analytic interval
    r_interval : "product", or "gruber": Fisher's with the published n_corr (``gruber_size``) [2]_;
        mostly wider, narrower where stretches disagree or memory is longer than 90 days

    Returns
    -------
    DataFrame, one row a model, split and sensor: ``model, split, sensor_id, station_id, network``,
    then ``r`` and ``ubrmse_m3_m3, rmse_m3_m3, bias_m3_m3``, each with ``_lower`` and ``_upper``,
    then ``n``, ``n_effective`` (what R's interval is made with; the number of errors where R does
    not exist), the same of each error as ``<error>_n_effective``, and ``status``: "ok", or why a
    score or an interval is missing: fewer than five effective give none. A score stands wherever
    it is no NaN. Further scores stand before ``n``; a column ``state`` of the predictions is kept,
    each state scored apart.

    References
    ----------
    .. [1] Bartlett (1935), doi:10.2307/2342284
    .. [2] Gruber et al. (2020), doi:10.1016/j.rse.2020.111806
    """
    check_predictions(predictions)
    if min_samples < 2 or not 0 < confidence < 1:
        raise ContractError(
            "Scores need min_samples >= 2 and a confidence between 0 and 1, "
            f"found {min_samples} and {confidence}."
        )
    if r_interval not in R_INTERVALS:
        raise ContractError(f"r_interval is one of {', '.join(R_INTERVALS)}, found {r_interval!r}.")
    names = extra_names(metrics, predictions)
    keys, parts = pieces(predictions, most_rows=ROWS_AT_ONCE)
    columns = [f"{m}{e}" for m in (*METRICS, *names) for e in ENDS if not e or m in WITH_INTERVAL]
    values = {name: np.full(len(keys), np.nan) for name in columns}
    sizes = ["n_effective", *(f"{error}_n_effective" for error in METRICS[1:])]
    values["n"] = np.zeros(len(keys), np.int64)
    values |= {name: np.full(len(keys), np.nan) for name in sizes}
    days = predictions["time"].to_numpy().astype("datetime64[D]").astype(int)
    values["status"] = np.full(len(keys), "", object)
    for groups in parts:
        values["n"][groups.which] = groups.counts
        scored = groups.take(groups.counts >= min_samples)
        if len(scored.counts):
            of_rows = days[scored.rows] if r_interval == "gruber" else None
            scores = _scores(scored, confidence, names=names, days=of_rows)
            for name, column in scores.items():
                values[name][scored.which] = column
    few = [f"too few samples: {k} < {min_samples}" for k in values["n"]]
    values["status"] = np.where(values["n"] < min_samples, few, values["status"])
    order = ["model", "split", "sensor_id", *state_of(predictions)]
    return keys.assign(**values).sort_values(order, ignore_index=True)


def _scores(
    groups: Groups, confidence: float, *, names: Iterable[str], days: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Scores of each group; ``days`` (row,) ask for R's interval in the published form."""
    scores = points(groups, names)
    r, ubrmse, rmse, bias = (scores[metric] for metric in METRICS)
    steps = Steps.of(groups)
    both = lines(groups, steps=steps)
    if days is None:
        error, freedom = r_error(both, groups=groups, steps=steps)
        n_r = 1 / error**2
    else:
        n_r = gruber_size(groups, days)
        error, freedom = intervals.fisher_error(n_r), np.full(len(n_r), np.inf)
    n_error, n_mean, n_square = error_sizes(groups, steps=steps, both=both)
    n_effective = np.where(np.isnan(r), n_error, n_r)
    interval = partial(student_interval, confidence=confidence)
    n_rmse = rmse_size(rmse, bias, n_mean=n_mean, n_square=n_square)
    limits = {
        "r": interval(r, error, freedom=freedom, scale="r"),
        "ubrmse_m3_m3": of_ubrmse(ubrmse, n_mean=n_mean, n_square=n_square, confidence=confidence),
        "rmse_m3_m3": _root_of_chi_square(rmse**2, n_rmse, confidence),
        "bias_m3_m3": interval(bias, ubrmse / np.sqrt(n_mean - 1), freedom=n_mean - 1),
    }
    if "spearman" in scores:
        rho = scores["spearman"]
        # Widened for ranks: Bonett and Wright (2000), doi:10.1007/BF02294183
        of_ranks = intervals.fisher_error(n_r) * np.sqrt(1 + rho**2 / 2)
        limits["spearman"] = interval(rho, of_ranks, freedom=np.inf, scale="r")
    enough_pairs = n_effective >= MIN_EFFECTIVE
    enough_errors = enough_pairs & (n_error >= MIN_EFFECTIVE)
    for metric, ends in limits.items():
        enough = enough_pairs if metric in ("r", "spearman") else enough_errors
        for end, values in zip(("lower", "upper"), ends, strict=True):
            scores[f"{metric}_{end}"] = np.where(enough, values, np.nan)
    status = _status(groups, n_effective, n_error)
    for name in (name for name in names if name.startswith("kge")):
        status = np.where(np.isnan(scores[name]) & (status == OK), f"no {name}: zero mean", status)
    sizes = zip(METRICS[1:], (n_square, n_rmse, n_mean), strict=True)
    scores |= {f"{error}_n_effective": size for error, size in sizes}
    return {**scores, "n_effective": n_effective, "status": status}


def _status(groups, n_effective, n_error):
    flat_x = groups.sum(np.abs(groups.centred(groups.observed))) == 0
    flat_y = groups.sum(np.abs(groups.centred(groups.predicted))) == 0
    few = [f"too few effective samples: {k:.1f} < {MIN_EFFECTIVE:g}" for k in n_effective]
    few_errors = [f"too few effective errors: {k:.1f} < {MIN_EFFECTIVE:g}" for k in n_error]
    unknown = f"no interval: fewer than {intervals.MIN_LAGS} daily lags tell the memory"
    return np.select(
        [flat_x & flat_y, flat_x, flat_y, np.isnan(n_effective), n_effective < MIN_EFFECTIVE]
        + [n_error < MIN_EFFECTIVE],
        [*CONSTANTS, unknown, np.array(few, dtype=object), np.array(few_errors, dtype=object)],
        default=OK,
    )


# How many independent pairs, and how many independent errors, two series are worth.

MIN_USED = 1.5  # a cautious size smaller than this would leave no freedom to a quantile
BATCH_ROWS, MOST_BATCHES, MIN_BATCHES = 8, 125, 40
SLOW = 2.0  # times the variance that is understood; half as much is seen by chance


@dataclass(frozen=True)
class Line:
    """The regression of one series on the other, the signal: its slope and what it leaves.

    ``slope`` and both rates, 1 / tau [h-1], are (group,); ``signal`` and ``error`` (row,), centred.
    """

    slope: np.ndarray
    signal: np.ndarray
    error: np.ndarray
    signal_rate: np.ndarray
    error_rate: np.ndarray

    def sizes(self, steps: Steps) -> list[np.ndarray]:
        """Effective sizes of the signal's squares, the error's squares, and their product."""
        rates = (2 * self.signal_rate, 2 * self.error_rate, self.signal_rate + self.error_rate)
        return [effective_size(rate, steps) for rate in rates]


def lines(groups: Groups, *, steps: Steps) -> list[Line]:
    """The predictions on the observations, and the other way round."""
    x, y = groups.centred(groups.observed), groups.centred(groups.predicted)
    xy, both = groups.sum(x * y), []
    for a, b in ((x, y), (y, x)):
        rate = 1 / memory_hours(a, steps)
        with np.errstate(invalid="ignore", divide="ignore"):
            slope = xy / groups.sum(a * a)
        error = b - groups.spread(slope) * a
        fitted = 1 / memory_hours(np.nan_to_num(error), steps)
        # No error at all: R is 1 whatever the size.
        both.append(Line(slope, a, error, rate, np.where(np.isnan(fitted), rate, fitted)))
    return both


def correlation_size(both: list[Line], *, groups: Groups, steps: Steps) -> np.ndarray:
    """How many independent normal pairs would know R as well as these do, (group,).

    With y = b x + e and s^2 the variance, arctanh R = arcsinh(b s_x / s_e), hence by the delta
    method its variance is (1 - R^2) / n_xe + R^2 (k_x / n_xx + k_e / n_ee) / 2, where
    n_ab = n (1 - rho_a rho_b) / (1 + rho_a rho_b) [1]_ and k = (kurtosis - 1) / 2, 1 for normal
    values [2]_. With one memory for all this is n (1 - rho_x rho_y) / (1 + rho_x rho_y) [3]_; it
    differs where errors forget faster than soil does, or values are skewed. The smaller size of
    both regressions is taken.

    References
    ----------
    .. [1] Bartlett (1946), doi:10.2307/2983611
    .. [2] Steiger and Hakstian (1982), doi:10.1111/j.2044-8317.1982.tb00653.x
    .. [3] Bartlett (1935), doi:10.2307/2342284
    """
    sizes = []
    with np.errstate(invalid="ignore", divide="ignore"):
        r2 = np.minimum(both[0].slope * both[1].slope, 1)
        for line in both:
            n_signal, n_error, n_product = line.sizes(steps)
            k_signal, k_error = ((_kurtosis(v, groups) - 1) / 2 for v in (line.signal, line.error))
            of_squares = k_signal / n_signal + k_error / n_error
            sizes.append(1 / ((1 - r2) / n_product + r2 * of_squares / 2))
        return np.minimum(*sizes)


MIN_STRETCHES, YEAR_HOURS = 4, 8766.0


def r_error(both: list[Line], *, groups: Groups, steps: Steps) -> tuple[np.ndarray, np.ndarray]:
    """Standard error of arctanh R, and its degrees of freedom, (group,) each.

    Memory knows nothing of a relation that itself changes, from one wet or dry year to the next:
    on halves of daily stations R then holds 85 to 94 % where 95 are promised. So the series is cut
    into stretches of equal length, of about a year and four at least, and the mean of a pair's
    influence on arctanh R, (x y - r (x^2 + y^2) / 2) / (1 - r^2) of standardised values [1]_, is
    taken of each. Where these k means vary more than the error 1 / sqrt(n) of ``correlation_size``
    says, their own error is taken, with k - 1 degrees of freedom [2]_.

    References
    ----------
    .. [1] Devlin, Gnanadesikan and Kettenring (1975), doi:10.2307/2335508
    .. [2] Schmeiser (1982), doi:10.1287/opre.30.3.556
    """
    n = np.maximum(correlation_size(both, groups=groups, steps=steps), 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        x, y = (
            line.signal / groups.spread(np.sqrt(groups.sum(line.signal**2) / groups.counts))
            for line in both
        )
        r = groups.spread(groups.sum(x * y) / groups.counts)
        influence = (x * y - r * (x * x + y * y) / 2) / (1 - r * r)
    years = np.round(steps.sum(steps.hours) / YEAR_HOURS).astype(int)
    k = np.clip(years, MIN_STRETCHES, groups.counts)
    means = _batches(np.where(np.isfinite(influence), influence, 0), groups, counts=k)
    of_stretches = means.sum(means.centred(means.observed) ** 2) / (k * (k - 1))
    is_larger = of_stretches > 1 / n
    variance, freedom = np.where(is_larger, (of_stretches, k - 1), (1 / n, n - 1))
    return np.sqrt(variance), freedom


def _kurtosis(values, groups):
    square = values**2
    kurtosis = groups.counts * groups.sum(square**2) / groups.sum(square) ** 2
    return np.where(np.isfinite(kurtosis), kurtosis, 3)


def error_sizes(groups: Groups, *, steps: Steps, both: list[Line]) -> np.ndarray:
    """How many independent errors there are, and for intervals: errors, and squares; (3, group).

    The variance of the mean error is the largest of three: with one memory fitted to the errors,
    half a standard error longer for an interval; and twice with a slow part and a fast one, since
    y = b x + e makes the error (b - 1) x + e, whose parts have memories of their own. Where means
    of eight rows and more vary twice as much as that and more, errors have a slow part that
    neither series shows, and the means' own variance and memory are taken.
    """
    error = groups.centred(groups.predicted - groups.observed)
    tau = memory_hours(error, steps)
    cautious = 1 / longer(tau, steps)
    stated = 1 / effective_size(1 / tau, steps)
    mean, square = (1 / effective_size(k * cautious, steps) for k in (1, 2))
    for line in both:
        of_mean, of_square = _two_speeds(line, groups, steps)
        # The largest of three guesses would tell too few where one memory fits.
        stated = np.where(of_mean > SLOW * stated, of_mean, stated)
        mean, square = np.fmax(mean, of_mean), np.fmax(square, of_square)
    slow, slow_tau = _slow(error, groups)
    is_slow = slow > SLOW * mean
    share = np.clip((slow - mean) * effective_size(1 / slow_tau, steps), 0, 1)
    slower = share**2 / effective_size(2 / slow_tau, steps) + (1 - share) ** 2 * square
    square = np.where(is_slow, np.fmax(square, slower), square)
    stated, mean = (np.where(is_slow, slow, inverse) for inverse in (stated, mean))
    sizes = 1 / np.array([stated, mean, square])
    sizes[1:] = np.maximum(sizes[1:], MIN_USED)
    return np.where(np.isnan(tau), np.nan, sizes)


def _two_speeds(line, groups, steps):
    """One over the numbers of errors and of their squares, with two memories, (group,) each."""
    slow = (1 - line.slope) ** 2 * groups.sum(line.signal**2)
    fast = groups.sum(line.error**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = slow / (slow + fast)
    n_signal, n_error, n_product = line.sizes(steps)
    of_signal, of_error = (effective_size(k, steps) for k in (line.signal_rate, line.error_rate))
    of_mean = share / of_signal + (1 - share) / of_error
    mixed = 2 * share * (1 - share) / n_product
    return of_mean, share**2 / n_signal + mixed + (1 - share) ** 2 / n_error


def _slow(error, groups):
    """One over the number of errors by the variance of batch means, and their memory, (group,)."""
    inverse, tau = np.full((2, len(groups.counts)), np.nan)
    counts = np.minimum(groups.counts // BATCH_ROWS, MOST_BATCHES)
    long = counts >= MIN_BATCHES
    if not long.any():
        return inverse, tau
    batches = _batches(error, groups, counts=np.where(long, counts, 0))
    steps = Steps.of(batches)
    means = batches.centred(batches.observed)
    tau[long] = memory_hours(means, steps)
    size = np.maximum(effective_size(1 / tau[long], steps), MIN_USED)
    of_batches = batches.sum(means**2) / batches.counts / (size - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = of_batches * (groups.counts / groups.sum(error**2))[long]
    inverse[long] = ratio / (1 + ratio)
    return inverse, tau


def _batches(values, groups, *, counts):
    """Means over ``counts`` (group,) runs of rows each, of the groups that have any."""
    which = np.flatnonzero(counts)
    n, first, counts = groups.counts[which], groups.starts[which], counts[which]
    place = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = np.repeat(first, counts) + np.repeat(n, counts) * place // np.repeat(counts, counts)
    ends = np.append(starts[1:], 0)
    ends[np.cumsum(counts) - 1] = first + n
    # A group that is not taken stands between two that are: each batch has its own end.
    sums = [np.append(0.0, np.cumsum(column)) for column in (values, groups.hours)]
    means, hours = ((run[ends] - run[starts]) / (ends - starts) for run in sums)
    return Groups(counts, means, means, hours, which, starts)


# Chi-square's intervals of the two errors.


def of_ubrmse(ubrmse, *, n_mean, n_square, confidence):
    """Chi-square interval of a standard deviation, same unit.

    The squared scatter has n_square = n (1 - rho2) / (1 + rho2) independent terms, and is too
    small by the factor 1 - 1 / n_mean because the sample's own mean was removed.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = ubrmse**2 * n_mean / (n_mean - 1)
    return _root_of_chi_square(variance, n_square - 1, confidence)


def rmse_size(rmse, bias, *, n_mean, n_square):
    """How many independent squares a mean square error is worth, the freedom of its chi-square.

    The mean square s2 + b2 has the variance 2 s4 / n_square + 4 b2 s2 / n_mean, where s2 is the
    scatter freed of the factor 1 - 1 / n_mean; the degrees of freedom are those that give a
    chi-square the same relative variance: Satterthwaite (1946), doi:10.2307/3002019.
    """
    scatter = np.maximum(rmse**2 - bias**2, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        scatter = scatter * n_mean / (n_mean - 1)
        variance = 2 * scatter**2 / n_square + 4 * bias**2 * scatter / n_mean
        freedom = np.where(variance > 0, 2 * rmse**4 / variance, np.inf)
    return np.where(np.isnan(n_mean), np.nan, freedom)


def _root_of_chi_square(square, freedom, confidence):
    # Beyond a million degrees of freedom the quantiles are the mean to three digits and more.
    freedom = np.minimum(freedom, 1e6)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        quantiles = (
            2 * special.gammaincinv(freedom / 2, (1 + k * confidence) / 2) for k in (1, -1)
        )
        return tuple(np.sqrt(square * freedom / quantile) for quantile in quantiles)


# From sensors to one line: means, medians and quartiles by stratum, and means of block means.

UNKNOWN = "unknown"


def summarize(
    station_scores: pd.DataFrame,
    stations: pd.DataFrame | None = None,
    *,
    by: str | None = None,
    clusters: str | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean, median and quartiles over sensors, with intervals that resample whole clusters.

    Sensors enter where their score is a number. Intervals of mean and median are percentiles of a
    bootstrap over 2-degree blocks where stations are given, else over networks; fewer than five
    clusters give none, and the status says so. Raises ``ContractError`` when no table has the
    column ``by``, or clusters need stations that are not given.

    Parameters
    ----------
    station_scores : from ``station_scores``
    stations : stations table, for places and strata
    by : column of either table that makes the strata; "koeppen" is cut to two letters
    clusters : "block" or "network"

    Returns
    -------
    DataFrame, one row a model, split, class of ``by`` and metric: ``mean, mean_lower, mean_upper,
    median, median_lower, median_upper, q25, q75, n_sensors, n_stations, n_clusters, is_small``
    (fewer than five stations) and ``status``
    """
    kind = clusters or ("network" if stations is None else "block")
    table = station_scores.assign(_cluster=intervals.clusters(station_scores, stations, kind=kind))
    keys = ["model", "split", *state_of(table)]
    if by is not None and by not in keys:
        table[by] = classes_of(station_scores, stations, by=by)
        keys.append(by)

    def line(scored, metric):
        values, cluster = scored[metric].to_numpy(float), scored["_cluster"].to_numpy()
        # the same draws for every line: comparable
        mean, median = intervals.mean_and_median(values, cluster, seed=seed)
        q25, middle, q75 = np.quantile(values, [0.25, 0.5, 0.75]) if len(values) else [np.nan] * 3
        n_stations, n_clusters = scored["station_id"].nunique(), scored["_cluster"].nunique()
        return {
            "mean": values.mean() if len(values) else np.nan,
            "mean_lower": mean[0], "mean_upper": mean[1],
            "median": middle, "median_lower": median[0], "median_upper": median[1],
            "q25": q25, "q75": q75, "n_sensors": len(values), "n_stations": n_stations,
            "n_clusters": n_clusters, "is_small": n_stations < strata.MIN_STATIONS,
            "status": _status_of_many(scored, n_clusters, kind),
        }  # fmt: skip

    return _lines(table, keys, line)


def _lines(table, keys, line):
    """A row a group of ``keys`` and metric: ``line`` of the sensors that have the score."""
    rows = [
        dict(zip(keys, key, strict=True)) | {"metric": metric} | line(scored, metric)
        for key, part in table.groupby(keys, observed=True, sort=True)
        for metric in metrics_of(table)
        for scored in [part[part[metric].notna()]]
    ]
    columns = [*keys, "metric", *line(table[:0], METRICS[0])]
    return pd.DataFrame(rows, columns=columns)


def _status_of_many(scored, n_clusters, kind):
    return intervals.few_clusters(n_clusters, kind) if len(scored) else "no sensor has this score"


def classes_of(scores, stations, *, by):
    """The class of each row in the stations' column ``by``, or the scores' own; text."""
    if stations is not None and by in stations.columns:
        classes = of_stations(scores, stations, column=by, key="sensor_id")
    elif by in scores.columns:
        classes = scores[by]
    else:
        have = ", ".join(() if stations is None else stations.columns)
        raise ContractError(
            f"No column {by!r} to stratify by: the stations have {have or 'no table here'}. "
            "Add the column to the stations table."
        )
    names = class_names(classes)
    if by == "koeppen":
        names = pd.Series(strata.koeppen_pair(names), index=names.index)
    return names.where(names != "", UNKNOWN)


def block_means(scores: pd.DataFrame, stations: pd.DataFrame) -> pd.DataFrame:
    """The mean of 2-degree blocks' means: what a dense network counts is one place.

    Each block's sensors are averaged first; the interval is Student's over the blocks' means. Of
    ``station_scores`` one row a model, split and metric: ``value, lower, upper, n_blocks,
    n_stations`` and ``status``; fewer than five blocks give no interval.
    """
    table = scores.assign(_cluster=intervals.clusters(scores, stations, kind="block"))

    def line(scored, metric):
        means = intervals.mean_of_means(scored[metric], scored["_cluster"])
        status = _status_of_many(scored, means["n_blocks"], "block")
        return means | {"n_stations": scored["station_id"].nunique(), "status": status}

    return _lines(table, ["model", "split", *state_of(table)], line)


# Scores in the long form of ``scores.csv``.

VALUES = ["metric", "value", "lower", "upper", "n", "n_effective", "status"]


def to_scores_table(*tables: pd.DataFrame) -> pd.DataFrame:
    """Any of this package's tables as rows of the SCORES contract, one below the other.

    Scores of sensors keep their metric's name; summaries give ``<metric>_mean`` and
    ``<metric>_median``, block means ``<metric>_block_mean``. ``n`` counts samples for a sensor and
    stations for an aggregate; ``n_effective`` is the sensor's, or the number of clusters. Tables
    are from ``station_scores``, ``summarize`` or ``block_means``; stratum columns that one lacks
    are empty text.
    """
    long = pd.concat([part for table in tables for part in _long(table)], ignore_index=True)
    words = [name for name in long.columns if name not in VALUES]
    long[words] = long[words].astype(object).fillna("").astype("str")
    kinds = dict.fromkeys(VALUES[1:-1], float) | dict.fromkeys(("metric", "status"), "str")
    long = long[[*words, *VALUES]].astype(kinds)
    contracts.check(long, contracts.SCORES)
    return long


def _long(table):
    """The long rows of one table, a part a metric or statistic."""
    if "r_lower" in table.columns:
        names = ["model", "split", *state_of(table), "network", "station_id", "sensor_id"]
        without = table["status"].where(table["status"] != OK, "no interval: no analytic form")
        for metric in metrics_of(table):
            size = f"{metric}_n_effective" if metric in METRICS[1:] else "n_effective"
            columns = [metric, f"{metric}_lower", f"{metric}_upper", "n", size]
            status = table["status"] if columns[1] in table.columns else without
            yield _part(table, names, columns, metric=metric, status=status)
        return
    names = list(table.columns[: list(table.columns).index("metric")])
    if "n_blocks" in table.columns:
        kinds = {"_block_mean": ["value", "lower", "upper", "n_stations", "n_blocks"]}
    else:
        kinds = {
            f"_{name}": [name, f"{name}_lower", f"{name}_upper", "n_stations", "n_clusters"]
            for name in ("mean", "median")
        }
    for kind, columns in kinds.items():
        yield _part(table, names, columns, metric=table["metric"] + kind, status=table["status"])


def _part(table, names, columns, **words):
    values = {
        name: table.get(column, np.nan) for name, column in zip(VALUES[1:-1], columns, strict=True)
    }
    return table[names].assign(**values, **words)

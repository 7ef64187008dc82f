"""Intervals that know about memory: effective sizes, whole clusters drawn anew, blocks of time."""

import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import pandas as pd
from scipy import optimize, special

from soilkit.constants import CONFIDENCE, MIN_CLUSTERS, MIN_SAMPLES, OK
from soilkit.errors import ContractError
from soilkit.metrics.points import (
    METRICS,
    Groups,
    Runs,
    check_predictions,
    correlation,
    correlation_of_sums,
    group,
    of_stations,
    points,
    state_of,
)
from soilkit.metrics.splits.folds import block_ids

# The search over tau: halvings of a longest memory, then golden sections of the best bracket.
LONGEST_STEPS, N_HALVINGS, N_SECTIONS = 2.0**13, 24, 9
GOLDEN = (np.sqrt(5) - 1) / 2
INFORMATIVE_TAUS = 3.0  # a step longer than this tells nothing about the memory
CAUTION = 0.5  # standard errors; the least that keeps ten effective errors honest in simulation


@dataclass(frozen=True)
class Steps(Runs):
    """The steps from one row to the next inside groups of at least two rows.

    ``hours`` and ``later`` (the later row's place) are (step,), ``counts`` (group,).
    """

    hours: np.ndarray
    later: np.ndarray

    @classmethod
    def of(cls, groups: Groups) -> "Steps":
        """The steps of groups that run in time."""
        is_later = np.ones(groups.counts.sum(), bool)
        is_later[groups.starts] = False
        later = np.flatnonzero(is_later)
        return cls(groups.counts - 1, groups.hours[later] - groups.hours[later - 1], later)

    @property
    def mean_hours(self) -> np.ndarray:
        """The mean step of each group, (group,), h."""
        return self.sum(self.hours) / self.counts


def memory_hours(deviations: np.ndarray, steps: Steps) -> np.ndarray:
    """The memory tau [h] of each group's series, (group,): its autocorrelation is exp(-dt / tau).

    Least squares of x(t + dt) - x(t) exp(-dt / tau) over the actual steps [1]_, which need not be
    equal, x being deviations from the group's mean; then lifted by the bias (1 + 3 rho) / n that
    centring brings into a first-order autocorrelation [2]_, with n and rho at the mean of the steps
    that are short enough to tell. NaN where the series is constant.

    References
    ----------
    .. [1] Mudelsee (2002), doi:10.1016/S0098-3004(01)00041-3
    .. [2] Kendall (1954), doi:10.1093/biomet/41.3-4.403
    """
    earlier, later = deviations[steps.later - 1], deviations[steps.later]
    longest = np.log(LONGEST_STEPS * np.maximum(steps.mean_hours, 1e-9))
    decay = np.exp(-steps.hours / steps.spread(np.exp(longest)))
    errors = []
    for _ in range(N_HALVINGS):
        errors.append(steps.sum((later - earlier * decay) ** 2))
        decay = decay * decay  # half the tau
    best = longest - np.log(2) * np.argmin(errors, axis=0)
    low, high = best - np.log(2), best + np.log(2)

    def error(log_tau):
        decay = np.exp(-steps.hours / steps.spread(np.exp(log_tau)))
        return steps.sum((later - earlier * decay) ** 2)

    for _ in range(N_SECTIONS):
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        is_left = error(left) < error(right)
        low, high = np.where(is_left, low, left), np.where(is_left, right, high)
    tau = _lifted(np.exp((low + high) / 2), steps, lambda rho, n: (1 + 3 * rho) / n)
    return np.where(steps.sum(earlier**2) > 0, tau, np.nan)


def _lifted(tau, steps, lift):
    """Memories whose autocorrelation rho over n steps is raised by ``lift(rho, n)``, (group,).

    n and rho are those of the steps that are short enough to tell, and of their mean.
    """
    is_short = steps.hours <= INFORMATIVE_TAUS * steps.spread(tau)
    n = steps.sum(is_short.astype(float))
    mean = steps.sum(np.where(is_short, steps.hours, 0)) / np.maximum(n, 1)
    is_known = (n >= 2) & (mean > 0)
    mean, n = np.where(is_known, mean, 1), np.maximum(n, 2)
    rho = np.exp(-mean / tau)
    raised = np.minimum(rho + lift(rho, n), 1 - 1 / n)
    return np.where(is_known, -mean / np.log(np.maximum(raised, rho)), tau)


def longer(tau: np.ndarray, steps: Steps) -> np.ndarray:
    """A fitted memory, half a standard error sqrt((1 - rho^2) / n) longer, (group,), h.

    Who divides by a number of effective errors that was fitted from those same few errors takes
    this one: seven in ten such memories are above the true one. The error is Bartlett's (1946),
    doi:10.2307/2983611.
    """
    return _lifted(tau, steps, lambda rho, n: CAUTION * np.sqrt((1 - rho**2) / n))


def effective_size(rate_per_hour: np.ndarray, steps: Steps) -> np.ndarray:
    """How many independent values are in series whose correlation falls as exp(-rate dt).

    n times the mean over steps of (1 - q) / (1 + q), q = exp(-rate dt): for equal steps this is
    n (1 - q) / (1 + q) [1]_, so the rate 1 / tau_x + 1 / tau_y [h-1] gives R's
    n (1 - rho_x rho_y) / (1 + rho_x rho_y) [2]_; for unequal ones it follows from the generalised
    least-squares mean of an Ornstein-Uhlenbeck process.

    References
    ----------
    .. [1] Bayley and Hammersley (1946), doi:10.2307/2983560
    .. [2] Bartlett (1935), doi:10.2307/2342284
    """
    gained = np.tanh(steps.hours * steps.spread(rate_per_hour) / 2)
    return (steps.counts + 1) * steps.sum(gained) / steps.counts


N_LAGS, MIN_LAGS = 90, 21  # days


def gruber_size(groups: Groups, days: np.ndarray) -> np.ndarray:
    """The published number of independent pairs n_corr, (group,), whole [1]_.

    n (1 - rho) / (1 + rho), rho = exp(-dt (1 / tau_x + 1 / tau_y) / 2) at the median whole days dt
    between pairs; each tau, of 1 to 90 days, is the least-squares fit of exp(-lag / tau) to the
    autocorrelations of a day's last values at lags of 0 to 89 days. ``days`` are (row,), since any
    day. NaN where fewer than 21 lags have an autocorrelation.

    References
    ----------
    .. [1] Gruber et al. (2020), doi:10.1016/j.rse.2020.111806, section 3.4, and the authors'
       validation_good_practice, ``metrics.correct_n``
    """
    n_corr = np.full(len(groups.counts), np.nan)
    for i, n in enumerate(groups.counts):
        rows = slice(groups.starts[i], groups.starts[i] + n)
        rates = [_daily_rate(v[rows], days[rows]) for v in (groups.observed, groups.predicted)]
        rho = np.exp(-np.median(np.diff(groups.hours[rows]) // 24) * np.mean(rates))
        n_corr[i] = np.round(n * (1 - rho) / (1 + rho))
    return n_corr


def _daily_rate(values, days):
    """1 / tau [d-1] of one series (row,) that runs in time."""
    series = np.full(days[-1] - days[0] + N_LAGS, np.nan)
    series[days - days[0]] = values - values[0]  # of a day's values the last one stays
    known, filled = np.isfinite(series), np.nan_to_num(series)
    sums = np.zeros((6, N_LAGS))
    for lag in range(N_LAGS):
        both = known[lag:] & known[: len(known) - lag]
        a, b = filled[lag:][both], filled[: len(known) - lag][both]
        sums[:, lag] = len(a), a.sum(), b.sum(), a @ a, b @ b, a @ b
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = correlation_of_sums(sums)
    lags = np.flatnonzero(np.isfinite(rho))
    if len(lags) < MIN_LAGS:
        return np.nan
    return optimize.minimize_scalar(
        lambda rate: ((rho[lags] - np.exp(-rate * lags)) ** 2).sum(),
        bounds=(1 / N_LAGS, 1), method="bounded", options={"xatol": 1e-9},
    ).x  # fmt: skip


# Student's interval, on the scale where a score is nearly normal.

# "r" is Fisher's scale; a "spread" is a standard deviation or another root of squares.
SCALES: dict[str, tuple[Callable, Callable]] = {
    "r": (np.arctanh, np.tanh),
    "spread": (np.log, np.exp),
    "mean": (np.positive, np.positive),
}


def scale_of(metric: str) -> str:
    """The scale of SCALES on which a score is nearly normal, by the score's name."""
    if metric.startswith("bias"):
        return "mean"
    return "spread" if "rmse" in metric else "r"


def student(freedom, confidence: float = CONFIDENCE):
    """Student's quantile of a two-sided interval; the normal one where freedom is infinite."""
    p = (1 + confidence) / 2
    return np.where(np.isinf(freedom), special.ndtri(p), special.stdtrit(freedom, p))


def tail_of_clusters(k):
    """The share of draws below the lower percentile of a 95 % interval over k clusters.

    Draws of k clusters vary too little by sqrt(1 - 1 / k), and know nothing of Student's t:
    percentiles are taken as far out as sqrt(k / (k - 1)) t would be: Hesterberg (2015),
    doi:10.1080/00031305.2015.1089789, section 5.3.
    """
    k = np.maximum(k, 2)
    return special.ndtr(-np.sqrt(k / (k - 1)) * student(k - 1))


def student_interval(value, error, *, freedom, scale="mean", confidence=CONFIDENCE):
    """value +- Student's quantile times its standard error, (lower, upper), on a scale of SCALES.

    ``error`` is on that scale; an infinite ``freedom`` takes the normal quantile.
    """
    to, back = SCALES[scale]
    with np.errstate(divide="ignore", invalid="ignore"):
        middle, half = to(value), student(freedom, confidence) * error
        return back(middle - half), back(middle + half)


def fisher_error(n):
    """Standard error of arctanh R over n independent pairs, 1 / sqrt(n - 3); NaN from three down.

    Fisher (1921), Metron 1, 3-32.
    """
    return 1 / np.sqrt(np.where(n > 3, n - 3, np.nan))


# Whole clusters of stations drawn anew: 2-degree blocks or networks, never single stations.

N_RESAMPLES = 2000


def clusters(rows: pd.DataFrame, stations: pd.DataFrame | None, *, kind: str = "") -> np.ndarray:
    """The cluster of each row: its 2-degree "block" or its "network"; "" takes what is known.

    Raises ``ContractError`` for another kind, or a station whose place is unknown.
    """
    kind = kind or ("network" if stations is None else "block")
    if kind == "network":
        return rows["network"].astype("str").to_numpy()
    if kind != "block" or stations is None:
        raise ContractError(
            "Scores cluster by 'block', which needs a stations table, or by 'network'; "
            f"found {kind!r}{' without stations' if stations is None else ''}."
        )
    places = stations.drop_duplicates("station_id")
    blocks = of_stations(rows, places.assign(block=block_ids(places)), column="block")
    if blocks.isna().any():
        lost = ", ".join(sorted(set(rows.loc[blocks.isna(), "station_id"].astype("str")))[:3])
        raise ContractError(f"No place is known for {lost}: give the stations table that has it.")
    return blocks.to_numpy()


def few_clusters(k: int, kind: str = "cluster") -> str:
    """Why there is no interval over k clusters; "ok" where they are enough."""
    return OK if k >= MIN_CLUSTERS else f"no interval: {k} {kind}s < {MIN_CLUSTERS}"


def cluster_weights(k: int, rng: np.random.Generator, *, n_draws: int = N_RESAMPLES) -> np.ndarray:
    """How often each of k clusters stands in a draw of k with replacement, (draw, cluster).

    Davison and Hinkley (1997), Bootstrap Methods and their Application, section 3.8.
    """
    return rng.multinomial(k, np.full(k, 1 / k), size=n_draws)


def cluster_sums(values: np.ndarray, cluster: np.ndarray) -> np.ndarray:
    """Sums of (row, column) or (row,) over each cluster, (cluster, column), by appearance."""
    codes, names = pd.factorize(np.asarray(cluster))
    columns = np.asarray(values, float).reshape(len(codes), -1).T
    return np.stack([np.bincount(codes, c, minlength=len(names)) for c in columns], axis=1)


def ratio_draws(
    numerator: np.ndarray, denominator: np.ndarray, *, cluster: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Sum of numerators over sum of denominators in each draw of whole clusters, (draw, column).

    Both are (row, column) or (row, 1). NaN where a draw's denominator is zero, and throughout a
    column where fewer than five clusters have one.
    """
    top, bottom = np.broadcast_arrays(
        cluster_sums(numerator, cluster), cluster_sums(denominator, cluster)
    )
    if len(top) < MIN_CLUSTERS:
        return np.full((N_RESAMPLES, top.shape[1]), np.nan)
    weights = cluster_weights(len(top), rng)
    with np.errstate(invalid="ignore", divide="ignore"):
        draws = (weights @ top) / (weights @ bottom)
    few = (bottom != 0).sum(axis=0) < MIN_CLUSTERS
    return np.where(few | ~np.isfinite(draws), np.nan, draws)


def limits(
    draws: np.ndarray, *, n_clusters: float, method: Literal["linear", "inverted_cdf"] = "linear"
) -> tuple[np.ndarray, np.ndarray]:
    """Expanded percentile limits over the draws (draw, ...) that have a value, two arrays (...).

    Percentiles are those of ``tail_of_clusters``, ``n_clusters`` being what was drawn, clusters of
    stations or blocks of time; ``method`` is numpy's for a quantile between two draws. Measured
    coverage stands in ``reports/coverage/coverage.csv``.
    """
    lower, upper = np.full((2, *draws.shape[1:]), np.nan)
    has = ~np.isnan(draws).all(axis=0)
    if has.any():
        tail = tail_of_clusters(n_clusters)
        ends = np.nanquantile(draws[:, has], [tail, 1 - tail], axis=0, method=method)
        lower[has], upper[has] = ends
    return lower, upper


def cluster_error(values: np.ndarray, cluster: np.ndarray) -> tuple[float, int]:
    """Standard error of a mean over values (row,) in whole clusters (row,), and their number k.

    sqrt(k / (k - 1) sum S2) / n, S the clusters' sums of deviations; NaN for one cluster: Cameron
    and Miller (2015), doi:10.3368/jhr.50.2.317.
    """
    sums = cluster_sums(values - values.mean(), cluster)
    k = len(sums)
    return (np.sqrt(k / (k - 1) * (sums**2).sum()) / len(values) if k > 1 else np.nan), k


@lru_cache(maxsize=4)
def _seeded_weights(k: int, seed: int) -> np.ndarray:
    """One draw for all lines of a table with so many clusters; it is most of their time."""
    return cluster_weights(k, np.random.default_rng(seed))


def mean_and_median(values, cluster, *, seed):
    """Limits of mean and median of values (station,) when whole clusters (station,) are drawn anew.

    Returns ((lower, upper) of the mean, (lower, upper) of the median); NaN below five clusters.
    """
    codes, names = pd.factorize(cluster)
    if len(names) < MIN_CLUSTERS:
        return (np.nan, np.nan), (np.nan, np.nan)
    weights = _seeded_weights(len(names), seed)
    means = (weights @ np.bincount(codes, values)) / (weights @ np.bincount(codes))
    order = np.argsort(values)
    running = np.cumsum(weights[:, codes[order]], axis=1)  # (draw, station)
    half = running[:, -1:] / 2
    low, high = np.argmax(running >= half, axis=1), np.argmax(running > half, axis=1)
    medians = (values[order][low] + values[order][high]) / 2
    draws = np.stack([means, medians], axis=1)
    lower, upper = limits(draws, n_clusters=len(names))
    return (lower[0], upper[0]), (lower[1], upper[1])


def mean_of_means(values, cluster):
    """The mean of the clusters' means with Student's interval over them, none below five clusters.

    Returns a dict of ``value, lower, upper, n_blocks``.
    """
    means = pd.Series(np.asarray(values, float)).groupby(np.asarray(cluster)).mean().to_numpy()
    k = len(means)
    value = means.mean() if k else np.nan
    error = means.std(ddof=1) / np.sqrt(k) if k >= MIN_CLUSTERS else np.nan
    lower, upper = student_interval(value, error, freedom=k - 1)
    return {"value": value, "lower": lower, "upper": upper, "n_blocks": k}


def jackknife(value, left_out, *, present=None, scale: str):
    """Student's interval with the jackknife's error over clusters [1]_ [2]_, two arrays (value,).

    With theta the value on its scale, theta_i the same without cluster i, k clusters:
    theta +- t(k - 1) sqrt((k - 1) / k sum (theta_i - mean(theta_i))2). Measured on stations that
    share errors by cluster, a spread of station means is covered in 89 % at five and ten clusters
    (percentiles of a bootstrap: 52 and 74 %) and 93 % at forty; R and bias in 93-97 %. ``left_out``
    and ``present``, whether a value has rows of the cluster, are (cluster, value). NaN below five
    clusters, or where one cluster's absence leaves no value.

    References
    ----------
    .. [1] Efron and Stein (1981), doi:10.1214/aos/1176345462
    .. [2] Cameron and Miller (2015), doi:10.3368/jhr.50.2.317
    """
    present = np.ones(np.shape(left_out), bool) if present is None else present
    k = present.sum(axis=0)
    to = SCALES[scale][0]
    with np.errstate(invalid="ignore", divide="ignore"):
        theta, thetas = to(value), to(left_out)
        mean = np.where(present, thetas, 0).sum(axis=0) / k
        squares = np.where(present, (thetas - mean) ** 2, 0).sum(axis=0)
        error = np.sqrt((k - 1) / k * squares)
    good = np.isfinite(error) & np.isfinite(theta) & (k >= MIN_CLUSTERS)
    ends = student_interval(value, error, freedom=k - 1, scale=scale)
    return tuple(np.where(good, end, np.nan) for end in ends)


# Blocks of a sensor's own time series, drawn anew.

MIN_EFFECTIVE = 50.0  # fewer independent pairs make too few blocks
N_DRAWS = 1000
COUNTED_ROWS = 4_000_000


def memory_of(series: Iterable[np.ndarray], steps: Steps) -> tuple[list[np.ndarray], np.ndarray]:
    """The memories of several series, and the longest, (group,), h; 1e-9 where all are constant."""
    taus = [memory_hours(values, steps) for values in series]
    return taus, np.maximum(np.nan_to_num(taus).max(axis=0), 1e-9)


def block_length(tau: np.ndarray, steps: Steps) -> np.ndarray:
    """Rows in a block, (sqrt(6) rho / (1 - rho^2))^(2/3) n^(1/3), between 1 and n / 4 [1]_ [2]_.

    rho = exp(-dt / tau) at the mean step dt of each group, tau [h] its longest memory.

    References
    ----------
    .. [1] Carlstein (1986), doi:10.1214/aos/1176350057; Olafsdottir and Mudelsee (2014),
       doi:10.1007/s11004-014-9523-4
    .. [2] Politis and White (2004), doi:10.1081/ETC-120028836; Patton, Politis and White (2009),
       doi:10.1080/07474930802459016
    """
    n = steps.counts + 1
    rho = np.minimum(np.exp(-steps.mean_hours / tau), 1 - 1e-6)
    best = (np.sqrt(6) * rho / (1 - rho**2)) ** (2 / 3) * n ** (1 / 3)
    return np.clip(np.ceil(best), 1, np.maximum(n // 4, 1)).astype(int)


def block_means(columns: np.ndarray, length: int, *, rng, n_draws: int = N_DRAWS) -> np.ndarray:
    """Means of columns (column, row) over draws of blocks of consecutive rows, (column, draw) [1]_.

    Blocks begin anywhere and run on from the end to the beginning, so that every row is drawn
    equally often; the last one is cut to the series' length. Sums of blocks are differences of
    running sums, so a draw costs n / length additions, not n.

    References
    ----------
    .. [1] Kuensch (1989), doi:10.1214/aos/1176347265; Politis and Romano (1992)
    """
    n = columns.shape[1]
    n_blocks = -(-n // length)
    starts = rng.integers(0, n, (n_draws, n_blocks))
    last = n - (n_blocks - 1) * length
    running = np.cumsum(np.concatenate([columns, columns[:, :length]], axis=1), axis=1)
    running = np.concatenate([np.zeros((len(columns), 1)), running], axis=1)
    whole, cut = running[:, length:][:, :n] - running[:, :n], running[:, last:][:, :n]
    cut = cut - running[:, :n]
    return (_summed(whole, starts[:, :-1]) + cut[:, starts[:, -1]]) / n


def _summed(values, places):
    """Sums over the places of every draw, (column, draw), of values (column, row)."""
    n_draws, n_places = places.shape
    n = values.shape[1]
    # Where most rows are drawn, counting them first is several times faster than gathering.
    if 4 * n_places < n or n_draws * n > COUNTED_ROWS:
        return np.stack([column[places].sum(axis=1) for column in values])
    cells = (places + n * np.arange(n_draws)[:, None]).ravel()
    return values @ np.bincount(cells, minlength=n_draws * n).reshape(n_draws, n).T.astype(float)


def block_bootstrap(predictions: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """The four scores of every sensor with 95 % intervals from 1,000 draws of blocks of its series.

    Blocks of ``block_length`` rows, at the longest memory among observed, predicted and difference
    [1]_, are drawn with replacement until the series is full. The interval is the score +-
    Student's quantile times the draws' standard deviation, on the scale where the score is nearly
    normal (arctanh R, the logarithms of both errors, the bias itself), with n / length - 1 degrees
    of freedom, widened by (1 - length / n)^(-1/2) because blocks vary about the series' own mean
    [2]_. Measured coverage stands in ``reports/coverage/coverage.csv``: on autoregressive series
    it holds a little less than ``station_scores`` does.

    Parameters
    ----------
    seed : int; every sensor draws from its own child of it, so its interval does not depend on
        which others are in the table

    Returns
    -------
    DataFrame, one row a model, split and sensor: ``model, split, sensor_id, station_id, network``,
    the four scores each with ``_lower`` and ``_upper``, ``n``, ``n_effective`` (the smaller of R's
    and the errors'), ``block_rows`` and ``status``: "ok", or why there is no interval; below fifty
    effective pairs it is refused

    References
    ----------
    .. [1] Gruber et al. (2020), doi:10.1016/j.rse.2020.111806
    .. [2] Flegal and Jones (2010), doi:10.1214/09-AOS735
    """
    check_predictions(predictions)
    keys, groups = group(predictions)
    ends = [f"{metric}{end}" for metric in METRICS for end in ("", "_lower", "_upper")]
    table = keys.assign(**dict.fromkeys(ends, np.nan), n=0, n_effective=np.nan, block_rows=1)
    for name, values in {**points(groups), "n": groups.counts}.items():
        table.loc[groups.which, name] = values
    table["status"] = [f"too few samples: {n} < {MIN_SAMPLES}" for n in table["n"]]
    long = groups.take(groups.counts >= MIN_SAMPLES)
    if len(long.counts):
        names = ["/".join(row) for row in keys.loc[long.which].astype(str).to_numpy()]
        rngs = [np.random.default_rng([seed, zlib.crc32(name.encode())]) for name in names]
        for name, values in _bootstrap(long, rngs).items():
            table.loc[long.which, name] = values
    order = ["model", "split", "sensor_id", *state_of(predictions)]
    return table.sort_values(order, ignore_index=True)


def _bootstrap(groups: Groups, rngs: list) -> dict[str, np.ndarray]:
    """Limits, effective sizes, block lengths and status of each group, (group,)."""
    steps, scores = Steps.of(groups), points(groups)
    x, y = groups.centred(groups.observed), groups.centred(groups.predicted)
    taus, longest = memory_of((x, y, groups.centred(groups.predicted - groups.observed)), steps)
    rate = 1 / taus[0] + 1 / taus[1]
    n = np.fmin(effective_size(rate, steps), effective_size(1 / taus[2], steps))
    length = np.minimum(block_length(longest, steps), groups.counts // 2)
    few = np.array([f"too few effective samples: {k:.1f} < {MIN_EFFECTIVE:g}" for k in n], object)
    status = np.select([np.isnan(scores["r"]), n >= MIN_EFFECTIVE], ["constant series", OK], few)
    columns = [f"{metric}_{end}" for metric in METRICS for end in ("lower", "upper")]
    ends = {name: np.full(len(n), np.nan) for name in columns}
    for k in np.flatnonzero(status == OK):
        rows = slice(groups.starts[k], groups.starts[k] + groups.counts[k])
        draws = _block_draws(x[rows], y[rows], length[k], scores["bias_m3_m3"][k], rng=rngs[k])
        blocks = groups.counts[k] / length[k]
        for metric, drawn in zip(METRICS, draws, strict=True):
            scale = scale_of(metric)
            with np.errstate(divide="ignore", invalid="ignore"):
                scaled = SCALES[scale][0](drawn)
            scaled = scaled[np.isfinite(scaled)]
            spread = scaled.std() if len(scaled) else 0.0  # a perfect copy never varies
            ends[f"{metric}_lower"][k], ends[f"{metric}_upper"][k] = student_interval(
                scores[metric][k], np.sqrt(blocks / (blocks - 1)) * spread,
                freedom=blocks - 1, scale=scale,
            )  # fmt: skip
    return {**ends, "n_effective": n, "block_rows": length, "status": status}


def _block_draws(x, y, length, bias, *, rng):
    """The four scores of each draw of centred series, (draw,) each."""
    products = np.stack([x, y, x * x, y * y, x * y])
    x, y, xx, yy, xy = block_means(products, int(length), rng=rng)
    xx, yy, xy = (np.maximum(xx - x * x, 0), np.maximum(yy - y * y, 0), xy - x * y)
    square, shift = np.maximum(xx + yy - 2 * xy, 0), y - x + bias
    return correlation(xy, xx=xx, yy=yy), np.sqrt(square), np.sqrt(square + shift**2), shift

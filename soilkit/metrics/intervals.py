"""Intervals that know about memory: effective sizes, whole clusters drawn anew, blocks of time."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from soilkit.errors import ContractError
from soilkit.metrics.points import METRICS, Groups, check_predictions, group, points, state_of
from soilkit.metrics.splits.folds import BLOCK_SIZE_DEG, block_ids

# The search over tau: halvings of a longest memory, then golden sections of the best bracket.
LONGEST_STEPS, N_HALVINGS, N_SECTIONS = 2.0**13, 24, 9
GOLDEN = (np.sqrt(5) - 1) / 2
INFORMATIVE_TAUS = 3.0  # a step longer than this tells nothing about the memory
CAUTION = 0.5  # standard errors; the least that keeps ten effective errors honest in simulation


@dataclass(frozen=True)
class Steps:
    """The steps from one row to the next inside groups of at least two rows.

    ``hours`` and ``later`` (the later row's place) are (step,), ``starts`` and ``counts`` (group,).
    """

    hours: np.ndarray
    later: np.ndarray
    starts: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, groups: Groups) -> "Steps":
        """The steps of groups that run in time."""
        is_later = np.ones(groups.counts.sum(), bool)
        is_later[groups.starts] = False
        later = np.flatnonzero(is_later)
        counts = groups.counts - 1
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.intp)
        return cls(groups.hours[later] - groups.hours[later - 1], later, starts, counts)

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Sums over each group's steps, (group,)."""
        return np.add.reduceat(values, self.starts)

    def spread(self, per_group: np.ndarray) -> np.ndarray:
        """A group's value on each of its steps, (step,)."""
        return np.repeat(per_group, self.counts)


def memory_hours(deviations: np.ndarray, steps: Steps) -> np.ndarray:
    """The memory tau of each group's series, its autocorrelation being exp(-dt / tau).

    Least squares of x(t + dt) - x(t) exp(-dt / tau) over the actual steps [1]_, which need not be
    equal; then lifted by the bias (1 + 3 rho) / n that centring brings into a first-order
    autocorrelation [2]_, with n and rho at the mean of the steps that are short enough to tell.

    Parameters
    ----------
    deviations : array (row,), centred by group
    steps : of the same groups

    Returns
    -------
    array (group,), h; NaN where the series is constant

    References
    ----------
    .. [1] Mudelsee (2002), doi:10.1016/S0098-3004(01)00041-3
    .. [2] Kendall (1954), doi:10.1093/biomet/41.3-4.403
    """
    earlier, later = deviations[steps.later - 1], deviations[steps.later]
    mean_hours = np.maximum(steps.sum(steps.hours) / steps.counts, 1e-9)
    log_tau = _search(earlier, later, steps, np.log(LONGEST_STEPS * mean_hours))
    tau = _unbiased(np.exp(log_tau), steps)
    return np.where(steps.sum(earlier**2) > 0, tau, np.nan)


def _search(earlier, later, steps, longest):
    """Logarithm of the tau that minimises the squared error, (group,)."""
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
    return (low + high) / 2


def _lag_one(tau, steps):
    """The mean step short enough to tell, the correlation over it, their number, and if any."""
    told = steps.hours <= INFORMATIVE_TAUS * steps.spread(tau)
    n = steps.sum(told.astype(float))
    mean = steps.sum(np.where(told, steps.hours, 0)) / np.maximum(n, 1)
    is_told = (n >= 2) & (mean > 0)
    mean, n = np.where(is_told, mean, 1), np.maximum(n, 2)
    return mean, np.exp(-mean / tau), n, is_told


def _lifted(tau, mean, rho, lift):
    n, is_told, by = lift
    lifted = np.minimum(rho + by, 1 - 1 / n)
    return np.where(is_told, -mean / np.log(np.maximum(lifted, rho)), tau)


def _unbiased(tau, steps):
    mean, rho, n, is_told = _lag_one(tau, steps)
    return _lifted(tau, mean, rho, (n, is_told, (1 + 3 * rho) / n))


def longer(tau: np.ndarray, steps: Steps) -> np.ndarray:
    """A fitted memory, half a standard error longer, (group,), h.

    A first-order autocorrelation has the standard error sqrt((1 - rho^2) / n) [1]_; rho and half
    of it are turned back into a memory. Who divides by a number of effective errors that was
    fitted from those same few errors takes this one: seven in ten such memories are above the
    true one.

    References
    ----------
    .. [1] Bartlett (1946), doi:10.2307/2983611
    """
    mean, rho, n, is_told = _lag_one(tau, steps)
    return _lifted(tau, mean, rho, (n, is_told, CAUTION * np.sqrt((1 - rho**2) / n)))


def effective_size(rate_per_hour: np.ndarray, steps: Steps) -> np.ndarray:
    """The number of independent values in series whose correlation falls as exp(-rate dt).

    n times the mean over steps of (1 - q) / (1 + q), q = exp(-rate dt): for equal steps this is
    n (1 - q) / (1 + q) [1]_, so the rate 1 / tau_x + 1 / tau_y gives R's
    n (1 - rho_x rho_y) / (1 + rho_x rho_y) [2]_; for unequal ones it follows from the generalised
    least-squares mean of an Ornstein-Uhlenbeck process.

    Parameters
    ----------
    rate_per_hour : array (group,), h-1
    steps : of the same groups

    Returns
    -------
    array (group,)

    References
    ----------
    .. [1] Bayley and Hammersley (1946), doi:10.2307/2983560
    .. [2] Bartlett (1935), doi:10.2307/2342284
    """
    gained = np.tanh(steps.hours * steps.spread(rate_per_hour) / 2)
    return (steps.counts + 1) * steps.sum(gained) / steps.counts


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


def lines(groups: Groups, *, steps: Steps) -> list[Line]:
    """The predictions on the observations, and the other way round."""
    x, y = groups.centred(groups.observed), groups.centred(groups.predicted)
    xy, found = groups.sum(x * y), []
    for a, b in ((x, y), (y, x)):
        rate = 1 / memory_hours(a, steps)
        with np.errstate(invalid="ignore", divide="ignore"):
            slope = xy / groups.sum(a * a)
        error = b - groups.spread(slope) * a
        fitted = 1 / memory_hours(np.nan_to_num(error), steps)
        # No error at all: R is 1 whatever the size.
        found.append(Line(slope, a, error, rate, np.where(np.isnan(fitted), rate, fitted)))
    return found


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
    with np.errstate(invalid="ignore", divide="ignore"):
        r2 = np.minimum(both[0].slope * both[1].slope, 1)
        return np.minimum(*(_size_one_way(r2, line, groups, steps) for line in both))


def _size_one_way(r2, line, groups, steps):
    sizes = _sizes(line, steps)
    k_signal, k_error = ((_kurtosis(v, groups) - 1) / 2 for v in (line.signal, line.error))
    own = k_signal / sizes[0] + k_error / sizes[1]
    return 1 / ((1 - r2) / sizes[2] + r2 * own / 2)


def _sizes(line, steps):
    """Effective sizes of the signal's squares, the error's squares, and their product."""
    rates = (2 * line.signal_rate, 2 * line.error_rate, line.signal_rate + line.error_rate)
    return [effective_size(rate, steps) for rate in rates]


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
    told = 1 / effective_size(1 / tau, steps)
    mean, square = (1 / effective_size(k * cautious, steps) for k in (1, 2))
    for line in both:
        of_mean, of_square = _two_speeds(line, groups, steps)
        # The largest of three guesses would tell too few where one memory fits.
        told = np.where(of_mean > SLOW * told, of_mean, told)
        mean, square = np.fmax(mean, of_mean), np.fmax(square, of_square)
    slow, slow_tau = _slow(error, groups, steps)
    is_slow = slow > SLOW * mean
    share = np.clip((slow - mean) * effective_size(1 / slow_tau, steps), 0, 1)
    slower = share**2 / effective_size(2 / slow_tau, steps) + (1 - share) ** 2 * square
    square = np.where(is_slow, np.fmax(square, slower), square)
    told, mean = (np.where(is_slow, slow, inverse) for inverse in (told, mean))
    sizes = 1 / np.array([told, mean, square])
    sizes[1:] = np.maximum(sizes[1:], MIN_USED)
    return np.where(np.isnan(tau), np.nan, sizes)


def _two_speeds(line, groups, steps):
    """One over the numbers of errors and of their squares, with two memories, (group,) each."""
    slow = (1 - line.slope) ** 2 * groups.sum(line.signal**2)
    fast = groups.sum(line.error**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = slow / (slow + fast)
    own, other, product = _sizes(line, steps)
    means = (effective_size(rate, steps) for rate in (line.signal_rate, line.error_rate))
    of_signal, of_error = means
    of_mean = share / of_signal + (1 - share) / of_error
    mixed = 2 * share * (1 - share) / product
    return of_mean, share**2 / own + mixed + (1 - share) ** 2 / other


def _slow(error, groups, steps):
    """One over the number of errors by the variance of batch means, and their memory, (group,)."""
    inverse, tau = np.full((2, len(groups.counts)), np.nan)
    long = groups.counts >= MIN_BATCHES * BATCH_ROWS
    if not long.any():
        return inverse, tau
    batches = _batches(error, groups, long)
    own = Steps.of(batches)
    means = batches.centred(batches.observed)
    tau[long] = memory_hours(means, own)
    size = np.maximum(effective_size(1 / tau[long], own), MIN_USED)
    of_batches = batches.sum(means**2) / batches.counts / (size - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = of_batches * (groups.counts / groups.sum(error**2))[long]
    inverse[long] = ratio / (1 + ratio)
    return inverse, tau


def _batches(error, groups, long):
    """Means over runs of eight rows or more, at most 125 of them, of the groups that are long."""
    n, first = groups.counts[long], groups.starts[long]
    counts = np.minimum(n // BATCH_ROWS, MOST_BATCHES)
    place = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = np.repeat(first, counts) + np.repeat(n, counts) * place // np.repeat(counts, counts)
    ends = np.append(starts[1:], 0)
    ends[np.cumsum(counts) - 1] = first + n
    # A group that is not long stands between two that are: each batch has its own end.
    sums = [np.append(0.0, np.cumsum(values)) for values in (error, groups.hours)]
    means, hours = ((run[ends] - run[starts]) / (ends - starts) for run in sums)
    return Groups(means, means, hours, counts, np.flatnonzero(long))


# Confidence intervals of the four scores from effective sample sizes.


def of_r(r, n_effective, *, confidence):
    """Fisher's interval tanh(arctanh(r) +- z / sqrt(n_effective - 3)) [1]_.

    References
    ----------
    .. [1] Fisher (1921), Metron 1, 3-32
    """
    z = stats.norm.ppf((1 + confidence) / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        half = z / np.sqrt(n_effective - 3)
        return np.tanh(np.arctanh(r) - half), np.tanh(np.arctanh(r) + half)


def of_r_like(r, n_pairs, *, confidence):
    """Fisher's interval as if of n_pairs independent normal pairs, tanh(arctanh(r) +- t / sqrt(n)).

    Student's t with n_pairs - 1 degrees of freedom stands for the normal quantile because the
    variance 1 / n_pairs is itself estimated; for independent pairs it is within 3 % of
    z / sqrt(n - 3) from n = 13 on.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        half = stats.t.ppf((1 + confidence) / 2, n_pairs - 1) / np.sqrt(n_pairs)
        return np.tanh(np.arctanh(r) - half), np.tanh(np.arctanh(r) + half)


def of_bias(bias, ubrmse, *, n_effective, confidence):
    """Student's interval with n_effective - 1 degrees of freedom, same unit as the bias."""
    with np.errstate(invalid="ignore", divide="ignore"):
        t = stats.t.ppf((1 + confidence) / 2, n_effective - 1)
        half = t * ubrmse / np.sqrt(n_effective - 1)
    return bias - half, bias + half


def of_ubrmse(ubrmse, *, n_mean, n_square, confidence):
    """Chi-square interval of a standard deviation, same unit.

    The squared scatter has n_square = n (1 - rho2) / (1 + rho2) independent terms, and is too
    small by the factor 1 - 1 / n_mean because the sample's own mean was removed.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = ubrmse**2 * n_mean / (n_mean - 1)
    return _root_of_chi_square(variance, n_square - 1, confidence)


def of_rmse(rmse, bias, *, n_mean, n_square, confidence):
    """Chi-square interval of a root mean square, same unit.

    The mean square s2 + b2 has the variance 2 s4 / n_square + 4 b2 s2 / n_mean, where s2 is the
    scatter freed of the factor 1 - 1 / n_mean; the degrees of freedom are those that give a
    chi-square the same relative variance [1]_.

    References
    ----------
    .. [1] Satterthwaite (1946), doi:10.2307/3002019
    """
    square = rmse**2
    scatter = np.maximum(square - bias**2, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        scatter = scatter * n_mean / (n_mean - 1)
        variance = 2 * scatter**2 / n_square + 4 * bias**2 * scatter / n_mean
        freedom = np.where(variance > 0, 2 * square**2 / variance, np.inf)
    return _root_of_chi_square(square, np.where(np.isnan(n_mean), np.nan, freedom), confidence)


def _root_of_chi_square(square, freedom, confidence):
    alpha = 1 - confidence
    # Beyond a million degrees of freedom the quantiles are the mean to three digits and more.
    freedom = np.minimum(freedom, 1e6)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        lower = square * freedom / stats.chi2.ppf(1 - alpha / 2, freedom)
        upper = square * freedom / stats.chi2.ppf(alpha / 2, freedom)
        return np.sqrt(lower), np.sqrt(upper)


# Whole clusters of stations drawn anew: 2-degree blocks or networks, never single stations.

N_RESAMPLES = 2000
MIN_CLUSTERS = 5  # fewer give no interval


def clusters(scores: pd.DataFrame, stations: pd.DataFrame | None, *, kind: str) -> np.ndarray:
    """The cluster of each row of scores: its 2-degree "block", or its "network".

    Raises
    ------
    ContractError
        For another kind, or a station whose place is unknown.
    """
    if kind == "network":
        return scores["network"].astype("str").to_numpy()
    if kind != "block" or stations is None:
        raise ContractError(
            "Scores cluster by 'block', which needs a stations table, or by 'network'; "
            f"found {kind!r}{' without stations' if stations is None else ''}."
        )
    places = stations.drop_duplicates("station_id")
    blocks = pd.Series(
        block_ids(places, size_deg=BLOCK_SIZE_DEG).to_numpy(),
        index=places["station_id"].astype("str"),
    )
    found = scores["station_id"].astype("str").map(blocks)
    if found.isna().any():
        lost = ", ".join(sorted(set(scores.loc[found.isna(), "station_id"].astype("str")))[:3])
        raise ContractError(f"No place is known for {lost}: give the stations table that has it.")
    return found.to_numpy()


def intervals(values, cluster, *, confidence, rng):
    """Percentile intervals of mean and median when whole clusters are drawn with replacement [1]_.

    Percentiles of k clusters alone are too narrow by sqrt(1 - 1 / k) and know nothing of Student's
    t; they are taken as far out as makes both good for a mean [2]_. Measured coverage stands in
    ``reports/coverage/coverage.csv``.

    Parameters
    ----------
    values : array (station,)
    cluster : array (station,), names
    confidence : float
    rng : numpy.random.Generator

    Returns
    -------
    ((lower, upper) of the mean, (lower, upper) of the median); NaN below five clusters

    References
    ----------
    .. [1] Davison and Hinkley (1997), Bootstrap Methods and their Application, section 3.8
    .. [2] Hesterberg (2015), doi:10.1080/00031305.2015.1089789
    """
    codes, names = pd.factorize(cluster)
    if len(names) < MIN_CLUSTERS:
        return (np.nan, np.nan), (np.nan, np.nan)
    k = len(names)
    weights = rng.multinomial(k, np.full(k, 1 / k), size=N_RESAMPLES)  # (resample, cluster)
    means = (weights @ np.bincount(codes, values)) / (weights @ np.bincount(codes))
    far = stats.norm.cdf(np.sqrt(k / (k - 1)) * stats.t.ppf((1 + confidence) / 2, k - 1))
    ends = [1 - far, far]
    medians = _weighted_medians(values, weights[:, codes])
    return tuple(np.quantile(means, ends)), tuple(np.quantile(medians, ends))


def _weighted_medians(values, weights):
    """Medians of values repeated ``weights`` times, (resample,)."""
    order = np.argsort(values)
    running = np.cumsum(weights[:, order], axis=1)  # (resample, station)
    half = running[:, -1:] / 2
    low, high = np.argmax(running >= half, axis=1), np.argmax(running > half, axis=1)
    return (values[order][low] + values[order][high]) / 2


# Ratios of sums when whole clusters are drawn anew: the one bootstrap behind several tables.

CONFIDENCE = 0.95


def ratio_draws(
    numerator: np.ndarray,
    denominator: np.ndarray,
    *,
    cluster: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Sum of numerators over sum of denominators in each resample of whole clusters.

    Parameters
    ----------
    numerator, denominator : array (row, column) or (row, 1)
    cluster : array (row,), names
    rng : numpy.random.Generator

    Returns
    -------
    array (resample, column); NaN where a resample's denominator is zero. With fewer than five
    clusters that have a denominator, the whole column is NaN.

    References
    ----------
    Davison and Hinkley (1997), Bootstrap Methods and their Application, section 3.8
    """
    codes, names = pd.factorize(np.asarray(cluster))
    k = len(names)
    top, bottom = (_by_cluster(v, codes, k) for v in (numerator, denominator))  # (cluster, column)
    top, bottom = np.broadcast_arrays(top, bottom)
    if k < MIN_CLUSTERS:
        return np.full((N_RESAMPLES, top.shape[1]), np.nan)
    weights = rng.multinomial(k, np.full(k, 1 / k), size=N_RESAMPLES)
    with np.errstate(invalid="ignore", divide="ignore"):
        draws = (weights @ top) / (weights @ bottom)
    few = (bottom != 0).sum(axis=0) < MIN_CLUSTERS
    return np.where(few | ~np.isfinite(draws), np.nan, draws)


def limits(
    draws: np.ndarray, *, n_clusters: int, confidence: float = CONFIDENCE
) -> tuple[np.ndarray, np.ndarray]:
    """Expanded percentile limits over the resamples that have a value, two arrays (column,).

    Percentiles of k clusters are too narrow by Student's against the normal quantile and by
    sqrt(k / (k - 1)); taken further out, at Phi(-sqrt(k / (k - 1)) t), they are not [1]_.

    References
    ----------
    .. [1] Hesterberg (2015), doi:10.1080/00031305.2015.1089789, section 5.3
    """
    lower, upper = np.full((2, draws.shape[1]), np.nan)
    has = np.isfinite(draws).any(axis=0)
    if has.any():
        k = max(n_clusters, 2)
        t = stats.t.ppf((1 + confidence) / 2, k - 1) * np.sqrt(k / (k - 1))
        lower[has], upper[has] = np.nanquantile(draws[:, has], stats.norm.cdf([-t, t]), axis=0)
    return lower, upper


def cluster_names(rows: pd.DataFrame, stations: pd.DataFrame | None) -> np.ndarray:
    """Each row's 2-degree block where stations are given, else its network, (row,)."""
    kind = "network" if stations is None else "block"
    keyed = rows.drop_duplicates("station_id")
    found = pd.Series(clusters(keyed, stations, kind=kind), index=keyed["station_id"].astype("str"))
    return rows["station_id"].astype("str").map(found).to_numpy()


def _by_cluster(values, codes, k):
    values = np.asarray(values, float).reshape(len(codes), -1)
    return np.stack([np.bincount(codes, column, minlength=k) for column in values.T], axis=1)


# Intervals from leaving whole clusters of stations out, one at a time.

# Each on the scale where its distribution is nearest to Student's.
SCALES: dict[str, tuple[Callable, Callable]] = {
    "r": (np.arctanh, np.tanh),
    "spread": (np.log, np.exp),
    "mean": (np.copy, np.copy),
}


def interval(
    value: np.ndarray, left_out: np.ndarray, *, present: np.ndarray, scale: str, confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """Student's interval with the jackknife's standard error over clusters [1]_ [2]_.

    With theta the value on its scale, theta_i the same without cluster i, k clusters:
    theta +- t(k - 1) sqrt((k - 1) / k sum (theta_i - mean(theta_i))2). Measured on stations that
    share errors by cluster, a spread of station means is covered in 89 % at five and ten clusters
    (percentiles of a bootstrap: 52 and 74 %) and 93 % at forty; R and bias in 93-97 %.

    Parameters
    ----------
    value : array (value,)
    left_out : array (cluster, value), the value without that cluster
    present : bool array (cluster, value), whether the value has rows of the cluster at all
    scale : "r" (arctanh), "spread" (log) or "mean"
    confidence : float

    Returns
    -------
    (lower, upper), each (value,); NaN where one cluster's absence leaves no value

    References
    ----------
    .. [1] Efron and Stein (1981), doi:10.1214/aos/1176345462
    .. [2] Cameron and Miller (2015), doi:10.3368/jhr.50.2.317
    """
    to, back = SCALES[scale]
    k = present.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        theta, thetas = to(value), to(left_out)
        mean = np.where(present, thetas, 0).sum(axis=0) / k
        squares = np.where(present, (thetas - mean) ** 2, 0).sum(axis=0)
        half = stats.t.ppf((1 + confidence) / 2, k - 1) * np.sqrt((k - 1) / k * squares)
        lower, upper = back(theta - half), back(theta + half)
    good = np.isfinite(half) & np.isfinite(theta)
    return np.where(good, lower, np.nan), np.where(good, upper, np.nan)


# Intervals of one sensor's scores from blocks of its own time series, drawn anew.

MIN_EFFECTIVE = 50.0  # fewer independent pairs make too few blocks
N_DRAWS = 1000
OK = "ok"
MIN_ROWS = 13  # as station_scores
CELLS_AT_ONCE = 4_000_000
SCALES_MOVING_BLOCK = {
    "r": (np.arctanh, np.tanh),
    "ubrmse_m3_m3": (np.log, np.exp),
    "rmse_m3_m3": (np.log, np.exp),
    "bias_m3_m3": (np.positive, np.positive),
}


def block_bootstrap(
    predictions: pd.DataFrame,
    *,
    n_draws: int = N_DRAWS,
    confidence: float = 0.95,
    block_rows: int | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """The four scores of every sensor with intervals from a moving-block bootstrap.

    Blocks of consecutive rows are drawn with replacement until the series is full [1]_. The
    length is the one that estimates a mean's variance best, (sqrt(6) rho / (1 - rho^2))^(2/3)
    n^(1/3) [2]_ [3]_ [4]_, at the longest memory among observed, predicted and difference. The
    interval is the score +- Student's quantile times the draws' standard deviation, on the scale
    where the score is nearly normal (arctanh R, the logarithms of both errors, the bias itself),
    with n / length - 1 degrees of freedom, widened by (1 - length / n)^(-1/2) because blocks vary
    about the series' own mean [5]_.

    Measured coverage stands in ``reports/coverage/coverage.csv``: on autoregressive series it
    holds a little less than ``station_scores`` does.

    Parameters
    ----------
    predictions : table of that contract
    n_draws : int
    confidence : float, of each interval alone
    block_rows : int, the same length for all instead of the automatic one
    seed : int; every sensor draws from its own child of it, so its interval does not depend on
        which others are in the table

    Returns
    -------
    DataFrame, one row a model, split and sensor: ``model, split, sensor_id, station_id, network``,
    the four scores each with ``_lower`` and ``_upper``, ``n``, ``n_effective`` (the smaller of R's
    and the errors'), ``block_rows`` and ``status``: "ok", or why there is no interval; below fifty
    effective pairs it is refused

    Raises
    ------
    ContractError
        When the table breaks its contract, or an argument its range.

    References
    ----------
    .. [1] Kuensch (1989), doi:10.1214/aos/1176347265
    .. [2] Politis and White (2004), doi:10.1081/ETC-120028836
    .. [3] Patton, Politis and White (2009), doi:10.1080/07474930802459016
    .. [4] Gruber et al. (2020), doi:10.1016/j.rse.2020.111806
    .. [5] Flegal and Jones (2010), doi:10.1214/09-AOS735
    """
    check_predictions(predictions)
    if n_draws < 100 or not 0 < confidence < 1 or (block_rows is not None and block_rows < 1):
        raise ContractError(
            "A block bootstrap needs n_draws >= 100, a confidence between 0 and 1 and blocks of a "
            f"row or more, found {n_draws}, {confidence} and {block_rows}."
        )
    keys, groups = group(predictions)
    columns = [f"{metric}{end}" for metric in METRICS for end in ("", "_lower", "_upper")]
    table = keys.assign(**dict.fromkeys(columns, np.nan), n=0, n_effective=np.nan)
    table = table.assign(block_rows=0, status=f"too few samples: 0 < {MIN_ROWS}")
    if len(groups.counts):
        values = _bootstrap(groups, keys, (n_draws, confidence, block_rows, seed))
        for name, column in values.items():
            table.loc[groups.which, name] = column
    order = ["model", "split", "sensor_id", *state_of(predictions)]
    return table.sort_values(order, ignore_index=True)


def _bootstrap(groups: Groups, keys: pd.DataFrame, how: tuple) -> dict[str, np.ndarray]:
    n_draws, confidence, block_rows, seed = how
    found = {**points(groups), "n": groups.counts}
    n_effective, automatic = _plan(groups)
    rows = automatic if block_rows is None else np.full(len(automatic), block_rows)
    rows = np.minimum(rows, np.maximum(groups.counts // 2, 1))
    status = _status(groups, found, n_effective)
    x, y = groups.centred(groups.observed), groups.centred(groups.predicted)
    limits = np.full((len(METRICS), 2, len(rows)), np.nan)
    for k in np.flatnonzero(status == OK):
        own = slice(groups.starts[k], groups.starts[k] + groups.counts[k])
        rng = _generator(seed, keys.iloc[groups.which[k]])
        moments = draw_moments(x[own], y[own], length=rows[k], n_draws=n_draws, rng=rng)
        draws = _scores(moments, found["bias_m3_m3"][k])
        blocks = groups.counts[k] / rows[k]
        t = stats.t.ppf((1 + confidence) / 2, blocks - 1) * np.sqrt(blocks / (blocks - 1))
        for i, metric in enumerate(METRICS):
            limits[i, :, k] = _limits(metric, found[metric][k], draws[metric], t)
    for i, metric in enumerate(METRICS):
        found[f"{metric}_lower"], found[f"{metric}_upper"] = limits[i]
    return {**found, "n_effective": n_effective, "block_rows": rows, "status": status}


def _plan(groups: Groups) -> tuple[np.ndarray, np.ndarray]:
    """The smaller of the effective numbers of pairs and errors, and the block's rows."""
    n_effective, rho = np.full((2, len(groups.counts)), np.nan)
    long = groups.take(groups.counts >= MIN_ROWS)
    if not len(long.counts):
        return n_effective, np.ones(len(rho), np.int64)
    steps = Steps.of(long)
    series = (long.observed, long.predicted, long.predicted - long.observed)
    tau = np.array([memory_hours(long.centred(values), steps) for values in series])
    sizes = effective_size(1 / tau[0] + 1 / tau[1], steps), effective_size(1 / tau[2], steps)
    where = groups.counts >= MIN_ROWS
    n_effective[where] = np.fmin(*sizes)
    longest = np.fmax(np.fmax(tau[0], tau[1]), tau[2])
    rho[where] = np.exp(-steps.sum(steps.hours) / steps.counts / longest)
    return n_effective, block_length(groups.counts, rho)


def block_length(n: np.ndarray, rho: np.ndarray) -> np.ndarray:
    """(sqrt(6) rho / (1 - rho^2))^(2/3) n^(1/3) rows, at least one, (group,)."""
    rho = np.nan_to_num(rho)
    rows = (np.sqrt(6) * rho / np.maximum(1 - rho**2, 1e-9)) ** (2 / 3) * n ** (1 / 3)
    return np.maximum(np.rint(np.minimum(rows, n)), 1).astype(np.int64)


def draw_moments(x, y, *, length, n_draws, rng) -> np.ndarray:
    """Means of x, y, x^2, y^2 and x y over each draw of blocks, (moment, draw).

    A draw holds as many rows as the series, its last block being cut. Sums of blocks are
    differences of running sums, so a draw costs n / length additions, not n.
    """
    products = np.stack([x, y, x * x, y * y, x * y])
    running = np.concatenate([np.zeros((len(products), 1)), np.cumsum(products, axis=1)], axis=1)
    n_blocks, rest = divmod(len(x), int(length))
    total = np.zeros((len(products), n_draws))
    for rows, times in ((int(length), n_blocks), (rest, 1)):
        if not rows:
            continue
        sums = running[:, rows:] - running[:, :-rows]  # (moment, start)
        at_once = max(CELLS_AT_ONCE // times, 1)
        for first in range(0, n_draws, at_once):
            part = slice(first, min(first + at_once, n_draws))
            starts = rng.integers(0, sums.shape[1], (part.stop - part.start, times))
            for moment, one in enumerate(sums):
                total[moment, part] += one[starts].sum(axis=1)
    return total / len(x)


def _scores(moments: np.ndarray, bias: float) -> dict[str, np.ndarray]:
    """The four scores of each draw from moments of centred series whose bias was ``bias``."""
    x, y, xx, yy, xy = moments
    xx, yy, xy = (np.maximum(xx - x * x, 0), np.maximum(yy - y * y, 0), xy - x * y)
    square = np.maximum(xx + yy - 2 * xy, 0)
    shift = y - x + bias
    with np.errstate(invalid="ignore", divide="ignore"):
        r = np.clip(xy / np.sqrt(xx * yy), -1, 1)
    return dict(zip(METRICS, (r, np.sqrt(square), np.sqrt(square + shift**2), shift), strict=True))


def _limits(metric, value, draws, t):
    """The score +- t standard deviations of its draws, on the scale where it is nearly normal."""
    to, back = SCALES_MOVING_BLOCK[metric]
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = to(draws)
        scaled = scaled[np.isfinite(scaled)]
        half = t * scaled.std() if len(scaled) else 0.0  # a perfect copy never varies
        return back(to(value) - half), back(to(value) + half)


def _generator(seed, key):
    return np.random.default_rng([seed, zlib.crc32("/".join(map(str, key)).encode())])


def _status(groups, found, n_effective):
    words = [f"too few effective samples: {k:.1f} < {MIN_EFFECTIVE:g}" for k in n_effective]
    short = [f"too few samples: {k} < {MIN_ROWS}" for k in groups.counts]
    return np.select(
        [groups.counts < MIN_ROWS, np.isnan(found["r"]), ~(n_effective >= MIN_EFFECTIVE)],
        [np.array(short, dtype=object), "constant series", np.array(words, dtype=object)],
        default=OK,
    ).astype(object)

"""How many independent pairs, and how many independent errors, two series are worth."""

from dataclasses import dataclass

import numpy as np

from soilkit.metrics.groups import Groups
from soilkit.metrics.memory import Steps, effective_size, longer, memory_hours

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

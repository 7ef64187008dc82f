"""How many independent values a series is worth: memory fitted in time, not by row."""

from dataclasses import dataclass

import numpy as np

from soilkit.metrics.groups import Groups

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

"""The algebra of triple collocation and its moving-block bootstrap."""

import numpy as np
import pandas as pd
from scipy import stats

from soilkit.metrics.groups import Groups
from soilkit.metrics.memory import Steps, effective_size, memory_hours
from soilkit.metrics.stations import OK

ESTIMATES = ("error_variance_m6_m6", "error_std_m3_m3", "r", "snr_db")
# Of a triplet's six covariances, those of each series with itself, with the other two, and
# between these: positions in (xx, yy, zz, xy, xz, yz).
ROLES = ((0, 3, 4, 5), (1, 3, 5, 4), (2, 4, 5, 3))
PAIRS = ((0, 1), (0, 2), (1, 2))
SQUARES = ((0, 0), (1, 1), (2, 2), *PAIRS)
ENDS = ("_lower", "_upper")
N_DRAWS = 1000
COUNTED_ROWS = 4_000_000
MIN_EFFECTIVE = 80.0  # below, 95 % intervals of R were seen to cover 83 %


def solve(q: np.ndarray) -> np.ndarray:
    """Error variance and squared R of the three series from covariances that are all positive.

    Parameters
    ----------
    q : array (..., 6), Qxx, Qyy, Qzz, Qxy, Qxz, Qyz

    Returns
    -------
    array (..., 3, 2): error variance, R^2 (above one where the error variance is negative); NaN
    where a covariance of two series, or a variance, is not positive
    """
    soluble = (q > 0).all(axis=-1, keepdims=True)
    q = np.where(soluble, q, np.nan)
    parts = []
    for own, with_one, with_other, between in ROLES:
        signal = q[..., with_one] * q[..., with_other] / q[..., between]
        parts.append(np.stack([q[..., own] - signal, signal / q[..., own]], axis=-1))
    return np.stack(parts, axis=-2)


def estimates(error: np.ndarray, square: np.ndarray) -> dict[str, np.ndarray]:
    """The four estimates, ESTIMATES, from error variances and squared R, same shape.

    The standard deviation of the error, R and SNR are NaN where the squared R is.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        std = np.sqrt(np.where(np.isnan(square), np.nan, np.maximum(error, 0)))
        snr_db = -10 * np.log10(1 / square - 1)
    return dict(zip(ESTIMATES, (error, std, np.sqrt(square), snr_db), strict=True))


def add_intervals(
    table: pd.DataFrame, series: np.ndarray, *, groups: Groups, confidence: float, seed: int
) -> None:
    """Write ``n_effective`` and the limits of every estimate into ``table``, and why one lacks.

    Parameters
    ----------
    table : three rows a sensor, with the estimates and ``status``
    series : array (3, row)
    groups : of the same rows, in time
    confidence : float
    seed : int, every sensor starts from it
    """
    size, length = _memory(series, groups)
    table["n_effective"] = np.repeat(size, 3)
    limits = {f"{name}{end}": np.full(len(table), np.nan) for name in ESTIMATES for end in ENDS}
    status = table["status"].to_numpy(object).copy()
    values = table[list(ESTIMATES)].to_numpy(float)
    for i, start in enumerate(groups.starts):
        rows = slice(3 * i, 3 * i + 3)
        if np.isnan(values[rows]).all():
            continue
        if size[i] < MIN_EFFECTIVE:
            why = f"no interval: {size[i]:.0f} effective triplets < {MIN_EFFECTIVE:.0f}"
        else:
            part = series[:, start : start + groups.counts[i]]
            drawn = solve(_drawn(part, length[i], np.random.default_rng(seed)))
            tail = _tail(groups.counts[i] / length[i], confidence)
            found, why = _percentiles(drawn, tail)
            for name, limit in found.items():
                limits[name][rows] = limit
        if why:
            status[rows] = [why if word == OK else f"{word}; {why}" for word in status[rows]]
    for name, column in limits.items():
        table[name] = np.where(table[name.rsplit("_", 1)[0]].isna(), np.nan, column)
    table["status"] = status


def _memory(series, groups):
    """Effective sizes and block lengths by the longest memory of the three, two (sensor,)."""
    size, length = np.full(len(groups.counts), np.nan), np.ones(len(groups.counts), int)
    long = groups.take(groups.counts >= 3)
    if not len(long.counts):
        return size, length
    rows = groups.spread(groups.counts >= 3)
    steps = Steps.of(long)
    z = [long.centred(one[rows]) for one in series]
    # The mean of the three, each divided by its spread, has the least noise: noise hides memory.
    spread = [np.sqrt(long.sum(one**2) / long.counts) for one in z]
    scaled = [one / long.spread(np.where(s > 0, s, 1)) for one, s in zip(z, spread, strict=True)]
    taus = [memory_hours(one, steps) for one in (*z, sum(scaled))]
    tau = np.nanmax([np.where(np.isnan(t), 0, t) for t in taus], axis=0)
    tau = np.maximum(tau, 1e-9)
    size[long.which] = np.maximum(effective_size(2 / tau, steps), 1)
    rho = np.exp(-steps.sum(steps.hours) / steps.counts / tau)
    length[long.which] = block_length(rho, long.counts)
    return size, length


def block_length(rho: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Rows in a block, (sqrt(6) rho / (1 - rho^2))^(2/3) n^(1/3), between 1 and n / 4 [1]_.

    Parameters
    ----------
    rho : array (sensor,), lag-1 correlation
    n : array (sensor,), rows

    References
    ----------
    .. [1] Carlstein (1986), doi:10.1214/aos/1176350057; Olafsdottir and Mudelsee (2014),
       doi:10.1007/s11004-014-9523-4
    """
    rho = np.minimum(rho, 1 - 1e-6)
    best = (np.sqrt(6) * rho / (1 - rho**2)) ** (2 / 3) * n ** (1 / 3)
    return np.clip(np.ceil(best), 1, np.maximum(n // 4, 1)).astype(int)


def _drawn(part, length, rng):
    """Covariances of N_DRAWS series made of blocks of rows, (draw, 6).

    Blocks begin anywhere and run on from the end to the beginning, so that every row is drawn
    equally often; the last one is cut to the series' length.
    """
    z = part - part[:, :1]
    z = z - z.mean(axis=1, keepdims=True)
    n = z.shape[1]
    columns = np.array([*z, *(z[i] * z[j] for i, j in SQUARES)])  # (9, row)
    n_blocks = -(-n // length)
    starts = rng.integers(0, n, (N_DRAWS, n_blocks))
    last = n - (n_blocks - 1) * length
    running = np.cumsum(np.concatenate([columns, columns[:, :length]], axis=1), axis=1)
    running = np.concatenate([np.zeros((len(columns), 1)), running], axis=1)
    whole, cut = running[:, length:][:, :n] - running[:, :n], running[:, last:][:, :n]
    cut = cut - running[:, :n]
    means = (_summed(whole, starts[:, :-1]) + cut[:, starts[:, -1]]) / n  # (9, draw)
    q = [means[3 + k] - means[i] * means[j] for k, (i, j) in enumerate(SQUARES)]
    return np.stack(q, axis=1)


def _summed(values, places):
    """Sums over the places of every draw, (column, draw), of values (column, row)."""
    n_draws, n_places = places.shape
    n = values.shape[1]
    # Where most rows are drawn, counting them first is several times faster than gathering.
    if 4 * n_places < n or n_draws * n > COUNTED_ROWS:
        return np.stack([column[places].sum(axis=1) for column in values])
    cells = (places + n * np.arange(n_draws)[:, None]).ravel()
    return values @ np.bincount(cells, minlength=n_draws * n).reshape(n_draws, n).T.astype(float)


def _tail(n_blocks, confidence):
    """The percentile that k blocks need, Phi(-sqrt(k / (k - 1)) t) with Student's t [1]_.

    References
    ----------
    .. [1] Hesterberg (2015), doi:10.1080/00031305.2015.1089789, section 5.3
    """
    k = max(n_blocks, 2)
    return stats.norm.cdf(-np.sqrt(k / (k - 1)) * stats.t.ppf((1 + confidence) / 2, k - 1))


def _percentiles(drawn, tail):
    """Limits of the estimates, name -> (series,), over the draws that can be solved."""
    soluble = np.isfinite(drawn[:, 0, 0])
    lost = 1 - soluble.mean()
    if lost > tail:
        return {}, f"no interval: {100 * lost:.0f} % of the draws have no common truth"
    drawn = drawn[soluble]
    values = estimates(drawn[..., 0], np.minimum(drawn[..., 1], 1))  # (draw, series)
    found = {}
    for name, column in values.items():
        # A quantile that is a draw: an infinite SNR is not averaged with a finite one.
        ends = np.quantile(column, [tail, 1 - tail], axis=0, method="inverted_cdf")
        for end, limit in zip(ENDS, ends, strict=True):
            found[f"{name}{end}"] = limit
    return found, ""

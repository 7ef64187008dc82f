"""Intervals of one sensor's scores from blocks of its own time series, drawn anew."""

import zlib

import numpy as np
import pandas as pd
from scipy import stats

from soilkit.errors import ContractError
from soilkit.metrics.groups import Groups, group, state_of
from soilkit.metrics.memory import Steps, effective_size, memory_hours
from soilkit.metrics.points import METRICS, points
from soilkit.metrics.rows import check_predictions

MIN_EFFECTIVE = 50.0  # fewer independent pairs make too few blocks
N_DRAWS = 1000
OK = "ok"
MIN_ROWS = 13  # as station_scores
CELLS_AT_ONCE = 4_000_000
SCALES = {
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
    to, back = SCALES[metric]
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

"""Maps against a known truth: by scale, by class of ground, by distance, and as probes see it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as default

import numpy as np
import pandas as pd
from scipy import fft

from soilkit.constants import CHIP_SIDE_M, MIN_CLUSTERS, OK
from soilkit.errors import ContractError
from soilkit.metrics import intervals
from soilkit.metrics.points import METRICS, Groups, correlation_of_sums, points

MIN_KNOWN = 0.5  # of the cells of a coarser one, for its mean to be known


def map_scores(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """R, ubRMSE, RMSE, bias and what is explained over the cells of one map, at one moment.

    With d = predicted - truth over the cells where both are known: bias = mean(d), RMSE =
    sqrt(mean(d2)), ubRMSE = sqrt(mean((d - bias)2)) [1]_. "explained" is the share of the truth's
    spatial variance that a straight line of the map explains: R squared, 0 where R is negative.
    "efficiency" is the share that the map explains as it stands, but for its bias: 1 - ubRMSE2 /
    var(truth) = R2 - (R - std(map) / std(truth))2 [2]_, never more. R is NaN for a map of one
    value, whose ubRMSE is the truth's own spatial standard deviation and whose efficiency is 0.
    Raises ``ContractError`` when the shapes differ, or no cell is known on both sides.

    Parameters
    ----------
    predicted, truth : array (row, col), m3 m-3, on one grid; NaN is unknown

    Returns
    -------
    {"r", "ubrmse_m3_m3", "rmse_m3_m3", "bias_m3_m3", "explained", "efficiency", "n"}

    References
    ----------
    .. [1] Entekhabi et al. (2010), doi:10.1175/2010JHM1223.1
    .. [2] Murphy (1988), doi:10.1175/1520-0493(1988)116<2417:SSBOTM>2.0.CO;2, equation 12
    """
    predicted, truth = _pair(predicted, truth)
    known = np.isfinite(predicted) & np.isfinite(truth)
    if not known.any():
        raise ContractError("The map and the truth share no known cell. Cut both over one region.")
    values = points(Groups.of(truth[known], predicted[known]))
    scores = {name: float(value.item()) for name, value in values.items()}
    variance = float(np.var(truth[known]))
    scores["explained"] = float(_explained(scores["r"]))
    scores["efficiency"] = 1 - scores["ubrmse_m3_m3"] ** 2 / variance if variance else np.nan
    return scores | {"n": int(known.sum())}


def _explained(r):
    """R squared, 0 below zero: a map that is upside down explains nothing."""
    return np.maximum(r, 0) ** 2


def ubrmse_difference(
    first: np.ndarray,
    second: np.ndarray,
    *,
    truth: np.ndarray,
    cell_size_m: float,
    block_m: float = CHIP_SIDE_M,
    seed: int = 0,
) -> dict[str, float]:
    """ubRMSE of one map minus another's at one moment, with an interval over blocks of ground.

    Windows of neighbouring cells overlap and moisture is smooth, so blocks of about one window are
    resampled, not cells. Below five blocks the interval is NaN, without a common cell all of it.
    Raises ``ContractError`` when the shapes differ.

    Parameters
    ----------
    first, second, truth : array (row, col), m3 m-3, on one grid; NaN is unknown
    cell_size_m, block_m : float, m
    seed : int, of the bootstrap

    Returns
    -------
    {"difference", "lower", "upper", "n_blocks"}, m3 m-3, a 95 % interval; negative is in favour of
    the first map
    """
    errors = np.stack([np.subtract(*_pair(one, truth)) for one in (first, second)])
    known = np.isfinite(errors).all(axis=0)  # (row, col)
    if not known.any():
        return dict.fromkeys(("difference", "lower", "upper"), np.nan) | {"n_blocks": 0}
    block, d = _blocks(known.shape, cell_size_m, block_m=block_m)[known], errors[:, known]
    sums = intervals.cluster_sums(np.stack([np.ones(len(block)), *d, *d**2], axis=1), block)
    k, lower, upper = len(sums), np.nan, np.nan

    def difference(sums: np.ndarray) -> np.ndarray:
        n, *totals = np.moveaxis(sums, -1, 0)
        means = np.stack(totals) / n  # (errors of both maps and their squares, draw)
        spread = np.sqrt(np.maximum(means[2:] - means[:2] ** 2, 0))
        return spread[0] - spread[1]

    if k >= MIN_CLUSTERS:
        draws = difference(intervals.cluster_weights(k, np.random.default_rng(seed)) @ sums)
        (lower,), (upper,) = intervals.limits(draws[:, None], n_clusters=k)
    return {
        "difference": float(difference(sums.sum(axis=0))), "lower": float(lower),
        "upper": float(upper), "n_blocks": k,
    }  # fmt: skip


def _pair(predicted, truth) -> tuple[np.ndarray, np.ndarray]:
    predicted, truth = np.asarray(predicted, float), np.asarray(truth, float)
    if predicted.shape != truth.shape:
        raise ContractError(
            f"The map has shape {predicted.shape} and the truth {truth.shape}. Average the truth "
            "over the map's own cells first."
        )
    return predicted, truth


def _blocks(shape: tuple[int, int], cell_size_m: float, *, block_m: float) -> np.ndarray:
    """The block of each cell, blocks as even as the sides allow, (row, col) of int."""
    counts = [max(round(side * cell_size_m / block_m), 1) for side in shape]
    row, col = (np.arange(s) * k // s for s, k in zip(shape, counts, strict=True))
    return row[:, None] * counts[1] + col[None, :]


# Many maps at once: sums of regions and moments, so that a region can be left out of every score.


@dataclass(frozen=True)
class Field:
    """A map and the truth over the same ground at one moment.

    Raises ``ContractError`` when the truth's sides are no whole multiple of the map's, or the
    classes' are others.

    Parameters
    ----------
    region : the ground's name; intervals leave out one region at a time, with all its moments
    predicted : array (row, col), m3 m-3, NaN unknown
    truth : array (row, col), m3 m-3, on the map's cells or a whole number of pixels a cell's side
    classes : {characteristic: array (row, col) of names on the map's cells}, "" unknown
    limits : arrays (row, col), the lower and the upper end of the map's intervals, or nothing
    """

    region: str
    predicted: np.ndarray
    truth: np.ndarray
    classes: Mapping[str, np.ndarray] = default(default_factory=dict)
    limits: Sequence[np.ndarray] = ()

    def __post_init__(self) -> None:
        (height, width), shape = self.predicted.shape, self.truth.shape
        if shape[0] % height or shape[1] % width or shape[0] // height != shape[1] // width:
            raise ContractError(
                f"{self.region}: a truth of shape {shape} has no whole number of pixels in each "
                f"of the map's {height} x {width} cells. Cut it over the map's own grid."
            )
        for name, values in self.classes.items():
            if values.shape != self.predicted.shape:
                raise ContractError(
                    f"{self.region}: {name} has shape {values.shape}, the map "
                    f"{self.predicted.shape}. Give one class a cell."
                )

    @property
    def factor(self) -> int:
        """Pixels of the truth along a cell's side."""
        return self.truth.shape[0] // self.predicted.shape[0]

    def at(self, ratio: float) -> tuple[np.ndarray, np.ndarray]:
        """Map and truth (row, col) on cells ``ratio`` times as wide as the map's.

        Of finer cells (1 / ratio is whole) each repeats the map's value. A coarser one is the mean
        of its known cells, the same for both, NaN where fewer than half of them are known; a rest
        at the south and east edges that fills no cell is left out.
        """
        if ratio < 1:
            n = round(1 / ratio)
            return _repeated(self.predicted, n), _block_mean(self.truth, self.factor // n)
        predicted, truth = self.predicted, _block_mean(self.truth, self.factor)
        unknown = ~(np.isfinite(predicted) & np.isfinite(truth))
        both = (np.where(unknown, np.nan, values) for values in (predicted, truth))
        predicted, truth = (_block_mean(values, round(ratio)) for values in both)
        return predicted, truth


def _repeated(values: np.ndarray, n: int) -> np.ndarray:
    return np.repeat(np.repeat(values, n, axis=0), n, axis=1)


def _block_mean(values: np.ndarray, n: int) -> np.ndarray:
    """Means of what is known in squares of n cells, NaN where less than half is."""
    if n == 1:
        return np.asarray(values, float)
    rows, cols = (side // n for side in values.shape)
    blocks = np.asarray(values, float)[: rows * n, : cols * n].reshape(rows, n, cols, n)
    known = np.isfinite(blocks)
    count = known.sum(axis=(1, 3))
    total = np.where(known, blocks, 0).sum(axis=(1, 3))
    return np.where(count >= MIN_KNOWN * n * n, total / np.maximum(count, 1), np.nan)


# What a line of the tables holds, and the scale of SCALES on which its interval is made.
QUANTITIES = {
    "r": "r", "explained": "", "efficiency": "mean", "ubrmse_m3_m3": "spread",
    "rmse_m3_m3": "spread", "bias_m3_m3": "mean", "std_map_m3_m3": "spread",
    "std_truth_m3_m3": "spread",
}  # fmt: skip


def scale_scores(
    fields: Iterable[Field],
    *,
    cell_size_m: float,
    scales_m: Sequence[float],
    within_m: float | None = None,
) -> pd.DataFrame:
    """How wrong maps are on cells of several sizes, all regions and moments together.

    Map and truth are averaged over the same cells. R, what is explained, ubRMSE and both standard
    deviations are of deviations from the mean of a region at a moment, pooled, so that no
    difference *between* regions or days counts as a pattern; RMSE and bias are of the values
    themselves. ``within_m`` takes deviations from the means of squares of about that size instead:
    with SMAP's 9 km, what stands below it, the detail that Figure 14 of [1]_ shows; with infinity,
    from one mean of all regions and moments. Intervals leave out one region at a time
    (``intervals.jackknife``); fewer than five give none. Raises ``ContractError`` when there is no
    field, a scale is finer than a truth's pixels, or no whole cell is known.

    Parameters
    ----------
    fields : of one cell size
    cell_size_m : of the maps, m
    scales_m : sizes of cells, m; each becomes the nearest whole multiple, or fraction, of a cell
    within_m : m; None takes whole regions, ``np.inf`` all of them as one

    Returns
    -------
    DataFrame, one row a scale and ``metric`` (r, explained, efficiency, ubrmse_m3_m3, rmse_m3_m3,
    bias_m3_m3, std_map_m3_m3, std_truth_m3_m3): ``scale_m, metric, value, lower, upper, n_cells,
    n_fields, n_regions, status``

    References
    ----------
    .. [1] Batchu et al. (2022), arXiv:2206.09649
    """
    fields = _some(fields)
    tables = []
    for scale_m in scales_m:
        ratio = _ratio(fields, scale_m / cell_size_m)
        size_m, parts = ratio * cell_size_m, []
        for one in fields:
            predicted, truth = one.at(ratio)
            square = _blocks(truth.shape, size_m, block_m=within_m or np.inf)
            of_all = within_m == np.inf
            parts.append((one.region, _columns(predicted, truth, None if of_all else square)))
        lines = _lines(parts).assign(scale_m=size_m, n_fields=len(fields))
        tables.append(lines)
    table = pd.concat(tables, ignore_index=True)
    return table[["scale_m", *LINE, "n_cells", "n_fields", "n_regions", "status"]]


def class_scores(fields: Iterable[Field]) -> pd.DataFrame:
    """How wrong maps are on each class of ground that their fields name, at their own cells.

    Deviations are from the mean of the whole region at the moment: a class that is shown too wet
    beside the others has a bias, whether or not its own pattern is right. R and ubRMSE are within
    the class, over all regions and moments. Intervals leave out one region at a time. Raises
    ``ContractError`` when there is no field, or none has classes.

    Parameters
    ----------
    fields : with ``classes``

    Returns
    -------
    DataFrame, one row a ``characteristic``, ``class`` and ``metric``: ``value, lower, upper,
    n_cells, share`` (of the known cells), ``n_regions, status``
    """
    fields, tables = _some(fields), []
    for characteristic in dict.fromkeys(name for one in fields for name in one.classes):
        rows: dict[str, list] = {}
        for one in fields:
            predicted, truth = one.at(1)
            columns = _columns(predicted, truth, _blocks(truth.shape, 1.0, block_m=np.inf))
            names = one.classes[characteristic][np.isfinite(predicted) & np.isfinite(truth)]
            for name in np.unique(names[names != ""]):
                rows.setdefault(str(name), []).append((one.region, columns[names == name]))
        lines = [_lines(parts).assign(**{"class": name}) for name, parts in sorted(rows.items())]
        tables.append(pd.concat(lines).assign(characteristic=characteristic))
    if not tables:
        raise ContractError("No field has classes: give each the names of its cells.")
    table = pd.concat(tables, ignore_index=True)
    of_all = table.groupby(["characteristic", "metric"])["n_cells"].transform("sum")
    table = table.assign(share=table["n_cells"] / of_all)
    first = ["characteristic", "class", *LINE, "n_cells", "share"]
    return table[[*first, "n_regions", "status"]]


LINE = ["metric", "value", "lower", "upper"]


def interval_coverage(fields: Iterable[Field], *, is_fine: bool = False) -> pd.DataFrame:
    """How often the intervals of maps hold the truth, in each region and on the mean of regions.

    A share of places, of those where interval and truth are known. The mean's own interval is over
    regions (``intervals.mean_of_means``), for within one the places are alike; fewer than five give
    none.

    Parameters
    ----------
    fields : with ``limits``
    is_fine : on the truth's own pixels instead of its means over the map's cells

    Returns
    -------
    DataFrame, one row a ``region`` and a last one "all": ``n_places, value, lower, upper``
    """
    sums: dict[str, np.ndarray] = {}
    for one in _some(fields):
        n = one.factor if is_fine else 1
        truth, (lower, upper) = one.at(1 / n)[1], (_repeated(end, n) for end in one.limits)
        known = np.isfinite(truth) & np.isfinite(lower)
        held = known & (lower <= truth) & (truth <= upper)
        sums[one.region] = sums.get(one.region, 0) + np.array([known.sum(), held.sum()])
    rows = [(region, n, held / n) for region, (n, held) in sums.items() if n]
    table = pd.DataFrame(rows, columns=["region", "n_places", "value"])
    mean = intervals.mean_of_means(table["value"], table["region"])
    mean |= {"region": "all", "n_places": table["n_places"].sum()}
    table = pd.concat([table, pd.DataFrame([mean])], ignore_index=True)
    table[["lower", "upper"]] = table[["lower", "upper"]].clip(0, 1)
    return table[["region", "n_places", "value", "lower", "upper"]]


def _some(fields: Iterable[Field]) -> list[Field]:
    fields = list(fields)
    if not fields:
        raise ContractError("No field to score: give at least one map with its truth.")
    return fields


def _ratio(fields: list[Field], ratio: float) -> float:
    """The nearest whole ratio of cell sizes, or one over it; the truth must resolve it."""
    ratio = float(max(round(ratio), 1)) if ratio >= 1 else 1 / round(1 / ratio)
    finest = min(one.factor for one in fields)
    if ratio < 1 and any(one.factor % round(1 / ratio) for one in fields):
        raise ContractError(
            f"A scale of 1/{round(1 / ratio)} of the map's cells is asked, the truth has {finest} "
            "pixels along a cell. Cut a finer truth, or ask for a coarser scale."
        )
    return ratio


def _columns(predicted: np.ndarray, truth: np.ndarray, square: np.ndarray | None) -> np.ndarray:
    """Of each known cell (cell, 8): 1, both deviations and their products, error and its square.

    Deviations are from the means of squares (row, col) of int; None leaves the values as they are.
    """
    known = np.isfinite(predicted) & np.isfinite(truth)
    x, y = predicted[known], truth[known]
    error = x - y
    if square is not None:
        _, code = np.unique(square[known], return_inverse=True)
        n = np.bincount(code)
        x, y = (v - (np.bincount(code, v) / n)[code] for v in (x, y))
    return np.stack([np.ones(len(x)), x, y, x * x, y * y, x * y, error, error**2], axis=1)


def _lines(parts: Sequence[tuple[str, np.ndarray]]) -> pd.DataFrame:
    """A row a quantity, of the cells' columns (cell, 8) of each field."""
    columns = np.stack([part.sum(axis=0) for _, part in parts])  # (field, 8)
    regions = np.array([region for region, _ in parts])
    has = columns[:, 0] > 0
    if not has.any():
        raise ContractError(
            "No whole cell is known on both sides. Ask for a finer scale, or cut larger regions."
        )
    sums = intervals.cluster_sums(columns[has], regions[has]).T[:, :, None]  # (8, region, 1)
    total, without = sums.sum(axis=1), sums.sum(axis=1)[:, None] - sums
    values, left_out = _quantities(total), _quantities(without)
    rows: list[tuple] = []
    k = sums.shape[1]
    for name, scale in QUANTITIES.items():
        value = values[name]
        if scale:
            ends = intervals.jackknife(value, left_out[name], scale=scale)
            lower, upper = (float(end.item()) for end in ends)
        else:  # R's own, squared, so that both say the same
            lower, upper = (float(_explained(end)) for end in (rows[0][2], rows[0][3]))
        status = intervals.few_clusters(k, "region")
        if np.isnan(value).any():
            status = "constant"
        elif status == OK and np.isnan(lower):
            status = "no interval: no score without one of the regions"
        rows.append((name, float(value.item()), lower, upper, status))
    table = pd.DataFrame(rows, columns=[*LINE, "status"])
    return table.assign(n_cells=int(total[0].item()), n_regions=k)


def _quantities(sums: np.ndarray) -> dict[str, np.ndarray]:
    """The values of QUANTITIES from sums (8, ...) of ``_columns``."""
    r = correlation_of_sums(sums[:6])
    with np.errstate(invalid="ignore", divide="ignore"):
        x, y, xx, yy, xy, error, square = sums[1:] / sums[0]
        var_x, var_y = np.maximum(xx - x * x, 0), np.maximum(yy - y * y, 0)
        scatter = np.maximum(xx + yy - 2 * xy - (x - y) ** 2, 0)
        efficiency = np.where(var_y > 0, 1 - scatter / var_y, np.nan)
    return {
        "r": r, "explained": _explained(r), "efficiency": efficiency,
        "ubrmse_m3_m3": np.sqrt(scatter), "rmse_m3_m3": np.sqrt(square), "bias_m3_m3": error,
        "std_map_m3_m3": np.sqrt(var_x), "std_truth_m3_m3": np.sqrt(var_y),
    }  # fmt: skip


# By distance: how alike two cells are.


def semivariogram(
    values: np.ndarray, *, cell_size_m: float, max_lag_m: float, n_lags: int = 16
) -> pd.DataFrame:
    """Half the mean squared difference of two cells by their distance, Matheron's estimator [1]_.

    gamma(h) = sum (z_i - z_j)2 / (2 N(h)) over the N(h) pairs of known cells whose centres are h
    apart, in classes of distance one cell wide and wider. All pairs count: their sums for every
    shift of the grid come from its Fourier transform [2]_. Raises ``ContractError`` when no two
    known cells lie within ``max_lag_m``.

    Parameters
    ----------
    values : array (row, col) or (field, row, col), m3 m-3, NaN unknown; pairs lie within a field
    cell_size_m : m
    max_lag_m : m
    n_lags : int, classes of distance at most; fewer where they would be narrower than a cell

    Returns
    -------
    DataFrame: ``lag_m`` (the pairs' mean distance), ``semivariance`` ((m3 m-3)2), ``n_pairs``

    References
    ----------
    .. [1] Matheron (1963), doi:10.2113/gsecongeo.58.8.1246
    .. [2] Marcotte (1996), doi:10.1016/S0098-3004(96)00026-X
    """
    stack = np.asarray(values, float)
    stack = stack[None] if stack.ndim == 2 else stack
    height, width = stack.shape[1:]
    shape = [fft.next_fast_len(2 * side) for side in (height, width)]
    squares, pairs = np.zeros(shape), np.zeros(shape)
    for z in stack:
        known = np.isfinite(z)
        z = np.where(known, z - z[known].mean() if known.any() else 0.0, 0.0)
        f_known, f_z, f_zz = (fft.rfft2(part, shape) for part in (known.astype(float), z, z * z))
        cross = np.conj(f_zz) * f_known + np.conj(f_known) * f_zz - 2 * np.abs(f_z) ** 2
        squares += fft.irfft2(cross, shape)
        pairs += np.rint(fft.irfft2(np.abs(f_known) ** 2, shape))
    shift = [np.minimum(np.arange(n), n - np.arange(n)) for n in shape]  # both ways round
    lag_m = cell_size_m * np.hypot(shift[0][:, None], shift[1][None, :])
    use = (lag_m > 0) & (lag_m <= max_lag_m) & (pairs > 0)
    if not use.any():
        raise ContractError(
            f"No two known cells of {cell_size_m:g} m lie within {max_lag_m:g} m of each other."
        )
    n_lags = max(1, min(n_lags, int(max_lag_m / cell_size_m)))
    code = np.minimum((lag_m[use] / max_lag_m * n_lags).astype(int), n_lags - 1)
    n, square, metres = (
        np.bincount(code, v, minlength=n_lags)
        for v in (pairs[use], squares[use], (lag_m * pairs)[use])
    )
    has = n > 0
    return pd.DataFrame(
        {"lag_m": metres[has] / n[has], "semivariance": square[has] / n[has] / 2,
         "n_pairs": (n[has] / 2).astype(int)}
    )  # fmt: skip


# As probes see it: what an evaluation at stations alone would have said of the same maps.


def sampled_scores(
    fields: Iterable[Field],
    *,
    n_stations: int,
    probe_std_m3_m3: float = 0.0,
    probe_offset_m3_m3: float = 0.0,
    n_draws: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    """Scores at random stations in the regions, beside those against the truth everywhere.

    A draw puts stations on pixels of the truth, the same at all moments of a region, and reads them
    with a constant offset each and noise each time, both normal. A reading meets the cell that
    holds it: what a pixel is more or less than its cell counts as the map's error, as it does at a
    real probe. Both scores pool all regions and moments. Raises ``ContractError`` when there is no
    field, or no pixel is known at a region's last moment.

    Parameters
    ----------
    fields : maps with truths, best of pixels as small as a probe's surroundings
    n_stations : a region
    probe_std_m3_m3, probe_offset_m3_m3 : standard deviations of noise and offset, m3 m-3
    n_draws : int

    Returns
    -------
    DataFrame, one row a ``metric`` (r, ubrmse_m3_m3, rmse_m3_m3, bias_m3_m3): ``dense`` (over all
    cells), ``value`` (the draws' median), ``lower, upper`` (95 % of the draws), ``n_stations``
    """
    fields, rng = _some(fields), np.random.default_rng(seed)
    maps, truths = (np.concatenate([v.ravel() for v in part]) for part in _at_cells(fields))
    known = np.isfinite(maps) & np.isfinite(truths)
    dense = points(Groups.of(truths[known], maps[known]))
    regions = {one.region: one for one in fields}  # its last field tells what is known
    places = {name: _places(one, rng, (n_draws, n_stations)) for name, one in regions.items()}
    offsets = {name: probe_offset_m3_m3 * rng.standard_normal((n_draws, n_stations))
               for name in regions}  # fmt: skip
    read, mapped = [], []
    for one in fields:
        row, col = places[one.region]
        noise = probe_std_m3_m3 * rng.standard_normal(row.shape)
        read.append(one.truth[row, col] + offsets[one.region] + noise)
        mapped.append(one.predicted[row // one.factor, col // one.factor])
    observed, predicted = (np.concatenate(part, axis=1) for part in (read, mapped))
    known = np.isfinite(observed) & np.isfinite(predicted)
    draw = np.nonzero(known)[0]
    scores = points(Groups.of(observed[known], predicted[known], codes=draw))
    lines = []
    for name in METRICS:
        lower, middle, upper = np.nanquantile(scores[name], [0.025, 0.5, 0.975])
        lines.append((name, float(dense[name].item()), middle, lower, upper))
    table = pd.DataFrame(lines, columns=["metric", "dense", "value", "lower", "upper"])
    return table.assign(n_stations=n_stations * len(regions))


def _at_cells(fields: list[Field]) -> Iterator[tuple[np.ndarray, ...]]:
    """All maps, then all truths, on the maps' own cells."""
    return zip(*(one.at(1) for one in fields), strict=True)


def _places(one: Field, rng: np.random.Generator, shape: tuple[int, int]) -> tuple:
    """Rows and columns of random known pixels of a field's truth."""
    known = np.isfinite(one.truth) & np.isfinite(_repeated(one.predicted, one.factor))
    index = np.flatnonzero(known)
    if not len(index):
        raise ContractError(f"{one.region}: no pixel is known on both sides.")
    return np.unravel_index(rng.choice(index, shape), known.shape)

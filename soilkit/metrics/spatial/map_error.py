"""A map against the truth at one moment: scores over its cells, and what fine detail is worth."""

import numpy as np

from soilkit.constants import CHIP_SIDE_M, MIN_CLUSTERS
from soilkit.errors import ContractError
from soilkit.metrics import intervals
from soilkit.metrics.points import Groups, points


def map_scores(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """R, ubRMSE, RMSE and bias over the cells of one map, at one moment.

    With d = predicted - truth over the cells where both are known: bias = mean(d), RMSE =
    sqrt(mean(d2)), ubRMSE = sqrt(mean((d - bias)2)) [1]_. R is NaN for a map of one value, whose
    ubRMSE is the truth's own spatial standard deviation.

    Parameters
    ----------
    predicted, truth : array (row, col), m3 m-3, on one grid; NaN is unknown

    Returns
    -------
    {"r", "ubrmse_m3_m3", "rmse_m3_m3", "bias_m3_m3", "n"}

    Raises
    ------
    ContractError
        When the shapes differ, or no cell is known on both sides.

    References
    ----------
    .. [1] Entekhabi et al. (2010), doi:10.1175/2010JHM1223.1
    """
    predicted, truth = _pair(predicted, truth)
    known = np.isfinite(predicted) & np.isfinite(truth)
    if not known.any():
        raise ContractError("The map and the truth share no known cell. Cut both over one region.")
    scores = points(Groups.of(truth[known], predicted[known]))
    return {name: float(value.item()) for name, value in scores.items()} | {"n": int(known.sum())}


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

    Parameters
    ----------
    first, second, truth : array (row, col), m3 m-3, on one grid; NaN is unknown
    cell_size_m, block_m : float, m
    seed : int, of the bootstrap

    Returns
    -------
    {"difference", "lower", "upper", "n_blocks"}, m3 m-3, a 95 % interval; negative is in favour of
    the first map

    Raises
    ------
    ContractError
        When the shapes differ.
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

"""A map against the truth at one moment: spatial scores, and what fine detail is worth."""

import numpy as np

from soilkit.errors import ContractError

MIN_BLOCKS = 5  # fewer blocks give no interval
N_DRAWS = 2000


def spatial_scores(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
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

    Examples
    --------
    >>> truth = np.array([[0.1, 0.2], [0.3, 0.4]])
    >>> scores = spatial_scores(truth + 0.05, truth)
    >>> [round(scores[name], 3) for name in ("r", "ubrmse_m3_m3", "bias_m3_m3")]
    [1.0, 0.0, 0.05]
    """
    predicted, truth = _pair(predicted, truth)
    known = np.isfinite(predicted) & np.isfinite(truth)
    if not known.any():
        raise ContractError("The map and the truth share no known cell. Cut both over one region.")
    x, y = truth[known], predicted[known]
    d = y - x
    constant = min(np.ptp(x), np.ptp(y)) == 0
    return {
        "r": float("nan") if constant else float(np.corrcoef(x, y)[0, 1]),
        "ubrmse_m3_m3": float(d.std()),
        "rmse_m3_m3": float(np.sqrt((d * d).mean())),
        "bias_m3_m3": float(d.mean()),
        "n": int(known.sum()),
    }


def ubrmse_difference(
    first: np.ndarray,
    second: np.ndarray,
    *,
    truth: np.ndarray,
    cell_size_m: float,
    block_m: float = 2560.0,
    seed: int = 0,
) -> dict[str, float]:
    """ubRMSE of one map minus another's at one moment, with an interval over blocks of ground.

    Windows of neighbouring cells overlap and moisture is smooth, so blocks of about one window are
    resampled, not cells. Below five blocks the interval is NaN.

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
    blocks = _blocks(known.shape, cell_size_m, block_m=block_m)[known]
    n = np.bincount(blocks).astype(float)  # (block,)
    d = np.stack([np.bincount(blocks, e[known], len(n)) for e in errors])
    d2 = np.stack([np.bincount(blocks, e[known] ** 2, len(n)) for e in errors])
    n, d, d2 = n[n > 0], d[:, n > 0], d2[:, n > 0]

    def difference(which: np.ndarray) -> np.ndarray:
        total = n[which].sum(-1)
        mean, square = d[:, which].sum(-1) / total, d2[:, which].sum(-1) / total
        spread = np.sqrt(np.maximum(square - mean**2, 0))  # (map, draw)
        return spread[0] - spread[1]

    draws = np.random.default_rng(seed).integers(len(n), size=(N_DRAWS, len(n)))
    enough = len(n) >= MIN_BLOCKS
    ends = np.quantile(difference(draws), [0.025, 0.975]) if enough else (np.nan, np.nan)
    return {
        "difference": float(difference(np.arange(len(n)))),
        "lower": float(ends[0]),
        "upper": float(ends[1]),
        "n_blocks": len(n),
    }


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

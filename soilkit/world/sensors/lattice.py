"""Hashed noise on a metric lattice: the same ground and scene give the same value in any grid.

A sensor's noise hangs on lattice points of the grid's own projection, so that two overlapping chips
of one scene agree byte for byte and no state is kept. Beside ``world.noise`` it serves scenes by
the hundred thousand: single precision, many seeds at once, axis-aligned grids.
"""

import numpy as np
from scipy.sparse import csr_matrix
from scipy.special import ndtri

from soilkit.world.noise import key as key

_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_ROW, _COL = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)
_NORMAL = ndtri((np.arange(65536) + 0.5) / 65536).astype(np.float32)


def keys(words: object, numbers) -> np.ndarray:
    """One key a number under common words, uint64 of the numbers' shape.

    Parameters
    ----------
    words : anything with a stable ``str``
    numbers : integer array

    Returns
    -------
    uint64 array
    """
    mixed = np.asarray(numbers).astype(np.int64).view(np.uint64) * _ROW
    return _mix(mixed ^ np.uint64(key(words)))


def _mix(bits: np.ndarray) -> np.ndarray:
    bits = (bits ^ (bits >> np.uint64(30))) * _MIX_1  # wraps by design
    bits = (bits ^ (bits >> np.uint64(27))) * _MIX_2
    return bits ^ (bits >> np.uint64(31))


def normals(seeds, *, rows, cols) -> np.ndarray:
    """Standard normal numbers at lattice points, float32, by the splitmix64 finaliser [1]_.

    Parameters
    ----------
    seeds : int or uint64 array
    rows, cols : integer arrays, lattice indices; all three broadcast together

    Returns
    -------
    float32 array of the broadcast shape, within +-4.2

    References
    ----------
    .. [1] Steele, Lea and Flood (2014), doi:10.1145/2660193.2660195
    """
    row = np.asarray(rows, dtype=np.int64).view(np.uint64) * _ROW
    col = np.asarray(cols, dtype=np.int64).view(np.uint64) * _COL
    bits = _mix(_mix(row ^ np.asarray(seeds, dtype=np.uint64)) + col)
    return _NORMAL[(bits >> np.uint64(48)).astype(np.int32)]


def smooth(seeds, place: tuple[np.ndarray, np.ndarray], *, scale_m: float) -> np.ndarray:
    """Smooth unit-variance noise on a grid: a cubic B-spline through hashed normals.

    Parameters
    ----------
    seeds : int or uint64 array (scene,)
    place : (y_m, x_m), arrays (row,) and (col,), m
    scale_m : float, m, spacing of the spline's knots

    Returns
    -------
    float32 array (row, col), or (scene, row, col) for an array of seeds
    """
    rows, weight_rows = _spline(place[0] / scale_m)
    cols, weight_cols = _spline(place[1] / scale_m)
    seeds = np.asarray(seeds, dtype=np.uint64)[..., None, None]
    knots = normals(seeds, rows=rows[:, None], cols=cols[None, :])  # (scene, knot row, knot col)
    return weight_rows @ knots @ weight_cols.T


def smooth_points(seeds, place: tuple[np.ndarray, np.ndarray], *, scale_m: float) -> np.ndarray:
    """The noise of ``smooth`` at scattered points.

    Parameters
    ----------
    seeds : uint64 array (scene,)
    place : (y_m, x_m), arrays (point,), m
    scale_m : float, m

    Returns
    -------
    float32 array (scene, point)
    """
    first_row, weight_row = cubic(np.asarray(place[0]) / scale_m)
    first_col, weight_col = cubic(np.asarray(place[1]) / scale_m)
    step = np.arange(4)
    row, col = np.broadcast_arrays(
        (first_row[:, None] + step)[:, :, None], (first_col[:, None] + step)[:, None, :]
    )  # (point, 4, 4)
    nodes, index = distinct(row.ravel(), col.ravel())
    weights = (weight_row[:, :, None] * weight_col[:, None, :]).ravel()
    starts = np.arange(0, 16 * len(first_row) + 1, 16)
    spline = csr_matrix((weights, index, starts), shape=(len(first_row), nodes.shape[1]))
    knots = normals(np.asarray(seeds)[None, :], rows=nodes[0][:, None], cols=nodes[1][:, None])
    return (spline @ knots).T  # (node, scene) to (scene, point)


def distinct(rows: np.ndarray, cols: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each pair of integers (point,) once, (2, pair), sorted, and which of them a point is."""
    code, index = np.unique((rows.astype(np.int64) << 32) + cols + (1 << 31), return_inverse=True)
    return np.stack([code >> 32, (code & 0xFFFFFFFF) - (1 << 31)]), index


def cubic(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First knot and the four cubic B-spline weights of each point, scaled to unit variance."""
    knot = np.floor(t).astype(np.int64)
    f = t - knot
    weights = np.stack(
        [(1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3], axis=-1
    )
    weights /= np.sqrt((weights**2).sum(axis=-1, keepdims=True))
    return knot - 1, weights.astype(np.float32)


def _spline(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All knots that a line of points touches and its dense weights (point, knot)."""
    first, weights = cubic(np.asarray(t, dtype=float))
    knots = np.arange(first.min(), first.max() + 4)
    dense = np.zeros((len(first), len(knots)), dtype=np.float32)
    point = np.arange(len(first))
    for i in range(4):
        dense[point, first - knots[0] + i] = weights[:, i]
    return knots, dense

"""Deterministic smooth noise: a function of coordinates and a key, with analytic derivatives.

White numbers hang on the points of a lattice by hashing (splitmix64 [1]_) and are smoothed by a
cubic B-spline [2]_. Nothing depends on the grid that asks, so overlapping grids agree.

References
----------
.. [1] Steele, Lea and Flood (2014), doi:10.1145/2660193.2660195
.. [2] Unser (1999), doi:10.1109/79.799930
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_ROW = np.uint64(0xD6E8FEB86659FD93)
_TO_UNIT = 2.0**-53


@dataclass(frozen=True)
class Jet:
    """A field with its first and second derivatives along u and v (m-1, m-2)."""

    value: np.ndarray
    du: np.ndarray
    dv: np.ndarray
    duu: np.ndarray
    dvv: np.ndarray


def key(*words) -> int:
    """A 64-bit number that is stable over runs and machines for the same words."""
    text = "\x1f".join(str(word) for word in words)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def _mixed(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * _MIX1
    x = (x ^ (x >> np.uint64(27))) * _MIX2
    return x ^ (x >> np.uint64(31))


def uniform(seed_key, node) -> np.ndarray:
    """Uniform white numbers in (0, 1), one for each pair of integers (i, j).

    Parameters
    ----------
    seed_key : int from ``key``, or a uint64 array of them that broadcasts against i and j
    node : (i, j), integer arrays that broadcast, or whole numbers as floats
    """
    i, j = (np.asarray(x).astype(np.int64).view(np.uint64) for x in node)
    bits = _mixed(_mixed(i * _GOLDEN + np.asarray(seed_key, np.uint64)) + j * _ROW)
    return ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * _TO_UNIT


def normal(seed_key, node) -> np.ndarray:
    """Standard normal white numbers, one for each pair of integers (i, j)."""
    return ndtri(uniform(seed_key, node))


def smooth(seed_key: int, place, *, scale_m: float, zero_mean: bool = False) -> np.ndarray:
    """Smooth Gaussian noise of unit variance with knots ``scale_m`` apart.

    n(u, v) = sum_ij h_ij B3(u / s - i) B3(v / s - j), divided by its standard deviation.

    Parameters
    ----------
    seed_key : int, from ``key``
    place : (u_m, v_m), arrays of one shape, m
    scale_m : float, m, the distance of the knots (half a wavelength, about)
    zero_mean : bool
        Take the discrete Laplacian of h: the mean over an area then vanishes but for its rim.

    Returns
    -------
    array of the input's shape, dimensionless
    """
    (weights_u, i), (weights_v, j) = (_weights(axis, scale_m) for axis in _axes(place))
    total = np.zeros(np.broadcast_shapes(i.shape, j.shape))
    for a, line in enumerate(_lines(seed_key, i, j, weights_v, zero_mean)):
        total += weights_u[a] * line
    return total / _STANDARD_DEVIATION[zero_mean]


def smooth_jet(seed_key: int, place, *, scale_m: float) -> Jet:
    """Smooth noise with its analytic first and second derivatives (see ``smooth``)."""
    place = _axes(place)
    (weights_u, i), (weights_v, j) = (_weights(axis, scale_m) for axis in place)
    (first_u, second_u), (first_v, second_v) = (_derivatives(axis, scale_m) for axis in place)
    terms = [np.zeros(np.broadcast_shapes(i.shape, j.shape)) for _ in range(5)]
    weights = weights_v, first_v, second_v
    for a, (line, slope, bend) in enumerate(_sums(seed_key, i, j, weights, False)):
        terms[0] += weights_u[a] * line
        terms[1] += first_u[a] * line
        terms[2] += weights_u[a] * slope
        terms[3] += second_u[a] * line
        terms[4] += weights_u[a] * bend
    return Jet(*(term / _STANDARD_DEVIATION[False] for term in terms))


def separable(seed_keys, place, *, scale_m: float) -> np.ndarray:
    """``smooth`` on a regular net for many keys at once: shape (key, row, col).

    Parameters
    ----------
    seed_keys : sequence of int
    place : (u_m, v_m), arrays (col,) and (row,), m
    """
    u_m, v_m = place
    left, basis_u = _basis(u_m, scale_m)
    low, basis_v = _basis(v_m, scale_m)
    i = np.arange(left, left + basis_u.shape[1])
    j = np.arange(low, low + basis_v.shape[1])
    each = np.array([int(k) for k in seed_keys], np.uint64)[:, None, None]
    nodes = normal(each, (i[:, None], j[None, :]))  # (key, i, j)
    values = np.einsum("ci,kij,rj->krc", basis_u, nodes, basis_v, optimize=True)
    return values / _STANDARD_DEVIATION[False]


def _basis(x_m, scale_m):
    weights, start = _weights(np.asarray(x_m, float), scale_m)
    low, high = int(start.min()), int(start.max()) + 4
    dense = np.zeros((len(start), high - low))
    for a in range(4):
        dense[np.arange(len(start)), start - low + a] = weights[a]
    return low, dense


def _weights(x_m, scale_m):
    x = np.asarray(x_m, dtype=float) / scale_m
    whole = np.floor(x)
    f = x - whole
    g = 1 - f
    f2, g2 = f * f, g * g
    weights = (g2 * g / 6, 2 / 3 - f2 * (1 - f / 2), 2 / 3 - g2 * (1 - g / 2), f2 * f / 6)
    return weights, whole.astype(np.int64) - 1


def _derivatives(x_m, scale_m):
    x = np.asarray(x_m, dtype=float) / scale_m
    f = x - np.floor(x)
    g = 1 - f
    first = (-g * g / 2, f * (1.5 * f - 2), -g * (1.5 * g - 2), f * f / 2)
    second = (g, 3 * f - 2, 3 * g - 2, f)
    return [w / scale_m for w in first], [w / scale_m**2 for w in second]


def _axes(place):
    """The place itself; of a net along u and v its axes, (1, col) and (row, 1).

    Nets are laid by all projections onto cylinders, up to what their rounding leaves.
    """
    u_m, v_m = (np.asarray(axis, float) for axis in place)
    if u_m.ndim == 2 and u_m.shape == v_m.shape and min(u_m.shape) > 1:
        off_u, off_v = np.abs(u_m - u_m[:1]).max(), np.abs(v_m - v_m[:, :1]).max()
        if max(off_u, off_v) < 1e-6:  # m
            return u_m[:1], v_m[:, :1]
    return u_m, v_m


def _lines(seed_key, i, j, weights_v, zero_mean):
    for (line,) in _sums(seed_key, i, j, (weights_v,), zero_mean):
        yield line


def _sums(seed_key, i, j, weights, zero_mean):
    """Yield for a = 0..3 the sums over b of each of some weights times the values (i + a, j + b).

    On a net each column of the lattice is summed once for all points in its reach: the same sums in
    the same order.
    """
    low_i, n_i = int(i.min()), int(i.max()) - int(i.min()) + 4
    low_j, n_j = int(j.min()), int(j.max()) - int(j.min()) + 4
    is_net = i.shape != j.shape and i.ndim == j.ndim == 2
    if is_net and n_i * n_j <= 4 * i.size * j.size + 4096 and n_i <= 2 * i.size + 64:
        columns, rows = np.arange(n_i) + low_i, np.arange(n_j)[:, None] + low_j
        patch = _lattice(seed_key, columns, rows, zero_mean)  # (n_j, n_i)
        sums = [_summed(w, [patch[j[:, 0] - low_j + b] for b in range(4)]) for w in weights]
        for a in range(4):
            yield [part[:, i[0] - low_i + a] for part in sums]
        return
    for nodes in _nodes(seed_key, i, j, zero_mean):
        yield [_summed(w, nodes) for w in weights]


def _summed(weights, nodes):
    line = weights[0] * nodes[0]
    for b in range(1, 4):
        line += weights[b] * nodes[b]
    return line


def _nodes(seed_key, i, j, zero_mean):
    """Yield for a = 0..3 the four lattice values (i + a, j + b), b = 0..3, at every point."""
    i, j = np.broadcast_arrays(i, j)
    low_i, low_j = int(i.min()), int(j.min())
    n_i, n_j = int(i.max()) - low_i + 4, int(j.max()) - low_j + 4
    if n_i * n_j <= 4 * i.size + 4096:
        patch = _lattice(
            seed_key, np.arange(n_i)[:, None] + low_i, np.arange(n_j) + low_j, zero_mean
        )
        flat, start = patch.ravel(), (i - low_i) * n_j + (j - low_j)
        for a in range(4):
            yield [flat[a * n_j + b :].take(start) for b in range(4)]
    else:  # points far apart: hash what each one needs
        for a in range(4):
            yield [_lattice(seed_key, i + a, j + b, zero_mean) for b in range(4)]


def _lattice(seed_key, i, j, zero_mean):
    here = normal(seed_key, (i, j))
    if not zero_mean:
        return here
    around = normal(seed_key, (i - 1, j)) + normal(seed_key, (i + 1, j))
    return here - (around + normal(seed_key, (i, j - 1)) + normal(seed_key, (i, j + 1))) / 4


def _standard_deviation(kernel: np.ndarray) -> float:
    """Of B-spline noise over white numbers filtered with ``kernel``, averaged over positions."""
    spline = np.array([1, 120, 1191, 2416, 1191, 120, 1]) / 5040  # B7: B3 correlated with itself
    n = kernel.shape[0]
    correlation = np.zeros((2 * n - 1, 2 * n - 1))
    for (a, b), weight in np.ndenumerate(kernel):
        for (c, d), other in np.ndenumerate(kernel):
            correlation[a - c + n - 1, b - d + n - 1] += weight * other
    around = spline[3 - (n - 1) : 3 + n]
    return float(np.sqrt((correlation * np.outer(around, around)).sum()))


_STANDARD_DEVIATION = {
    False: _standard_deviation(np.array([[1.0]])),
    True: _standard_deviation(np.array([[0, -0.25, 0], [-0.25, 1, -0.25], [0, -0.25, 0]])),
}

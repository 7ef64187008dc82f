"""Intervals from leaving whole clusters of stations out, one at a time."""

from collections.abc import Callable

import numpy as np
from scipy import stats

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

"""Means over sensors, and differences on the same sensors, that know of places and of seeds."""

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from soilkit.metrics.intervals import MIN_CLUSTERS

CONFIDENCE = 0.95
_NUMBERS = ("value", "lower", "upper", "se_blocks", "se_seeds")


def mean_with_interval(values: np.ndarray, blocks: np.ndarray) -> dict[str, Any]:
    """The mean over seeds and sensors, with an interval for other places and other seeds.

    Sensors stand in blocks whose errors go together, and every seed is one draw of weights and
    order, seen by all sensors: two ways of sampling that cross. The variance of the mean is the
    sum of that over blocks (of the seeds' mean) and that over seeds (of the sensors' mean), as in
    two-way clustering [1]_ without taking off what both count, which can only make the interval
    wider. Student's t has the degrees of freedom of such a sum [2]_, so that three seeds are not
    taken for a hundred.

    Parameters
    ----------
    values : array (seed, sensor), scores or differences; a sensor with a NaN at a seed is left out
    blocks : array (sensor,), names of 2-degree blocks

    Returns
    -------
    dict: ``value, lower, upper, se_blocks, se_seeds, n_seeds, n_sensors, n_blocks, status``. One
    seed gives an interval over blocks alone, and its status says so; fewer than five blocks give
    none.

    References
    ----------
    .. [1] Cameron, Gelbach and Miller (2011), doi:10.1198/jbes.2010.07136
    .. [2] Satterthwaite (1946), doi:10.2307/3002019

    Examples
    --------
    >>> found = mean_with_interval(np.full((3, 10), 0.1), np.arange(10))
    >>> [round(float(found[name]), 3) for name in ("value", "lower", "upper")]
    [0.1, 0.1, 0.1]
    """
    values = np.atleast_2d(np.asarray(values, float))
    known = np.isfinite(values).all(axis=0)
    values, blocks = values[:, known], np.asarray(blocks)[known]
    n_seeds, n_sensors = values.shape
    names = np.unique(blocks)
    counts = {"n_seeds": n_seeds, "n_sensors": n_sensors, "n_blocks": len(names)}
    if not values.size:
        none: dict[str, Any] = dict.fromkeys(
            ("value", "lower", "upper", "se_blocks", "se_seeds"), np.nan
        )
        return {**none, **counts, "status": "no sensor has this score at every seed"}
    of_blocks = _block_variance(values.mean(axis=0), blocks)
    of_seeds = values.mean(axis=1).var(ddof=1) / n_seeds if n_seeds > 1 else 0.0
    half = np.nan
    if len(names) >= MIN_CLUSTERS:
        freedom = _freedom((of_blocks, len(names) - 1), (of_seeds, max(n_seeds - 1, 1)))
        half = stats.t.ppf((1 + CONFIDENCE) / 2, freedom) * np.sqrt(of_blocks + of_seeds)
    value = values.mean()
    return {
        "value": value, "lower": value - half, "upper": value + half,
        "se_blocks": np.sqrt(of_blocks), "se_seeds": np.sqrt(of_seeds) if n_seeds > 1 else np.nan,
        **counts, "status": _status(n_seeds, len(names)),
    }  # fmt: skip


def _block_variance(values: np.ndarray, blocks: np.ndarray) -> float:
    """Of a mean over sensors whose whole blocks were drawn: squared sums of residuals by block."""
    sums = pd.Series((values - values.mean()) / len(values)).groupby(blocks).sum()
    k = len(sums)
    return float(k / (k - 1) * (sums**2).sum()) if k > 1 else np.nan


def _freedom(*parts: tuple[float, int]) -> float:
    """Degrees of freedom of a sum of variances, each with its own."""
    total = sum(variance for variance, _ in parts)
    weights = sum(variance**2 / freedom for variance, freedom in parts)
    return total**2 / weights if weights > 0 else min(freedom for _, freedom in parts)


def _status(n_seeds: int, n_blocks: int) -> str:
    if n_blocks < MIN_CLUSTERS:
        return f"no interval: fewer than {MIN_CLUSTERS} blocks"
    return "ok" if n_seeds > 1 else "one seed: the interval is over blocks alone"


def aligned(first: pd.DataFrame, second: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores (seed, sensor) of two lines at the seeds and sensors that both have."""
    seeds = first.index.intersection(second.index)
    sensors = first.columns.intersection(second.columns)
    return first.loc[seeds, sensors], second.loc[seeds, sensors]

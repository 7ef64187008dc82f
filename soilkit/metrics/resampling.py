"""Ratios of sums when whole clusters are drawn anew: the one bootstrap behind several tables."""

import numpy as np
import pandas as pd
from scipy import stats

from soilkit.metrics import bootstrap

CONFIDENCE = 0.95


def ratio_draws(
    numerator: np.ndarray,
    denominator: np.ndarray,
    *,
    cluster: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Sum of numerators over sum of denominators in each resample of whole clusters.

    Parameters
    ----------
    numerator, denominator : array (row, column) or (row, 1)
    cluster : array (row,), names
    rng : numpy.random.Generator

    Returns
    -------
    array (resample, column); NaN where a resample's denominator is zero. With fewer than five
    clusters that have a denominator, the whole column is NaN.

    References
    ----------
    Davison and Hinkley (1997), Bootstrap Methods and their Application, section 3.8
    """
    codes, names = pd.factorize(np.asarray(cluster))
    k = len(names)
    top, bottom = (_by_cluster(v, codes, k) for v in (numerator, denominator))  # (cluster, column)
    top, bottom = np.broadcast_arrays(top, bottom)
    if k < bootstrap.MIN_CLUSTERS:
        return np.full((bootstrap.N_RESAMPLES, top.shape[1]), np.nan)
    weights = rng.multinomial(k, np.full(k, 1 / k), size=bootstrap.N_RESAMPLES)
    with np.errstate(invalid="ignore", divide="ignore"):
        draws = (weights @ top) / (weights @ bottom)
    few = (bottom != 0).sum(axis=0) < bootstrap.MIN_CLUSTERS
    return np.where(few | ~np.isfinite(draws), np.nan, draws)


def limits(
    draws: np.ndarray, *, n_clusters: int, confidence: float = CONFIDENCE
) -> tuple[np.ndarray, np.ndarray]:
    """Expanded percentile limits over the resamples that have a value, two arrays (column,).

    Percentiles of k clusters are too narrow by Student's against the normal quantile and by
    sqrt(k / (k - 1)); taken further out, at Phi(-sqrt(k / (k - 1)) t), they are not [1]_.

    References
    ----------
    .. [1] Hesterberg (2015), doi:10.1080/00031305.2015.1089789, section 5.3
    """
    lower, upper = np.full((2, draws.shape[1]), np.nan)
    has = np.isfinite(draws).any(axis=0)
    if has.any():
        k = max(n_clusters, 2)
        t = stats.t.ppf((1 + confidence) / 2, k - 1) * np.sqrt(k / (k - 1))
        lower[has], upper[has] = np.nanquantile(draws[:, has], stats.norm.cdf([-t, t]), axis=0)
    return lower, upper


def cluster_names(rows: pd.DataFrame, stations: pd.DataFrame | None) -> np.ndarray:
    """Each row's 2-degree block where stations are given, else its network, (row,)."""
    kind = "network" if stations is None else "block"
    keyed = rows.drop_duplicates("station_id")
    found = pd.Series(
        bootstrap.clusters(keyed, stations, kind=kind), index=keyed["station_id"].astype("str")
    )
    return rows["station_id"].astype("str").map(found).to_numpy()


def _by_cluster(values, codes, k):
    values = np.asarray(values, float).reshape(len(codes), -1)
    return np.stack([np.bincount(codes, column, minlength=k) for column in values.T], axis=1)

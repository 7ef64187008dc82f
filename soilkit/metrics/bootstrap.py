"""Whole clusters of stations drawn anew: 2-degree blocks or networks, never single stations."""

import numpy as np
import pandas as pd
from scipy import stats

from soilkit.errors import ContractError
from soilkit.splits import BLOCK_SIZE_DEG, block_ids

N_RESAMPLES = 2000
MIN_CLUSTERS = 5  # fewer give no interval


def clusters(scores: pd.DataFrame, stations: pd.DataFrame | None, *, kind: str) -> np.ndarray:
    """The cluster of each row of scores: its 2-degree "block", or its "network".

    Raises
    ------
    ContractError
        For another kind, or a station whose place is unknown.
    """
    if kind == "network":
        return scores["network"].astype("str").to_numpy()
    if kind != "block" or stations is None:
        raise ContractError(
            "Scores cluster by 'block', which needs a stations table, or by 'network'; "
            f"found {kind!r}{' without stations' if stations is None else ''}."
        )
    places = stations.drop_duplicates("station_id")
    blocks = pd.Series(
        block_ids(places, size_deg=BLOCK_SIZE_DEG).to_numpy(),
        index=places["station_id"].astype("str"),
    )
    found = scores["station_id"].astype("str").map(blocks)
    if found.isna().any():
        lost = ", ".join(sorted(set(scores.loc[found.isna(), "station_id"].astype("str")))[:3])
        raise ContractError(f"No place is known for {lost}: give the stations table that has it.")
    return found.to_numpy()


def intervals(values, cluster, *, confidence, rng):
    """Percentile intervals of mean and median when whole clusters are drawn with replacement [1]_.

    Percentiles of k clusters alone are too narrow by sqrt(1 - 1 / k) and know nothing of Student's
    t; they are taken as far out as makes both good for a mean [2]_. Measured coverage stands in
    ``reports/coverage/coverage.csv``.

    Parameters
    ----------
    values : array (station,)
    cluster : array (station,), names
    confidence : float
    rng : numpy.random.Generator

    Returns
    -------
    ((lower, upper) of the mean, (lower, upper) of the median); NaN below five clusters

    References
    ----------
    .. [1] Davison and Hinkley (1997), Bootstrap Methods and their Application, section 3.8
    .. [2] Hesterberg (2015), doi:10.1080/00031305.2015.1089789
    """
    codes, names = pd.factorize(cluster)
    if len(names) < MIN_CLUSTERS:
        return (np.nan, np.nan), (np.nan, np.nan)
    k = len(names)
    weights = rng.multinomial(k, np.full(k, 1 / k), size=N_RESAMPLES)  # (resample, cluster)
    means = (weights @ np.bincount(codes, values)) / (weights @ np.bincount(codes))
    far = stats.norm.cdf(np.sqrt(k / (k - 1)) * stats.t.ppf((1 + confidence) / 2, k - 1))
    ends = [1 - far, far]
    medians = _weighted_medians(values, weights[:, codes])
    return tuple(np.quantile(means, ends)), tuple(np.quantile(medians, ends))


def _weighted_medians(values, weights):
    """Medians of values repeated ``weights`` times, (resample,)."""
    order = np.argsort(values)
    running = np.cumsum(weights[:, order], axis=1)  # (resample, station)
    half = running[:, -1:] / 2
    low, high = np.argmax(running >= half, axis=1), np.argmax(running > half, axis=1)
    return (values[order][low] + values[order][high]) / 2

"""From sensors to one line: means, medians and quartiles by stratum, and means of block means."""

import numpy as np
import pandas as pd
from scipy import stats

from soilkit import strata
from soilkit.errors import ContractError
from soilkit.metrics import bootstrap
from soilkit.metrics.groups import state_of
from soilkit.metrics.points import metrics_of
from soilkit.metrics.stations import OK

UNKNOWN = "unknown"
SUMMARY = (
    "mean", "mean_lower", "mean_upper", "median", "median_lower", "median_upper", "q25", "q75",
    "n_sensors", "n_stations", "n_clusters", "is_small", "status",
)  # fmt: skip
BLOCK_MEANS = ("value", "lower", "upper", "n_blocks", "n_stations", "status")


def summarize(
    station_scores: pd.DataFrame,
    stations: pd.DataFrame | None = None,
    *,
    by: str | None = None,
    clusters: str | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean, median and quartiles over sensors, with intervals that resample whole clusters.

    Sensors enter where their score is a number. Intervals of mean and median are percentiles of a
    bootstrap over 2-degree blocks where stations are given, else over networks; fewer than five
    clusters give none, and the status says so.

    Parameters
    ----------
    station_scores : from ``station_scores``
    stations : stations table, for places and strata
    by : column of either table that makes the strata; "koeppen" is cut to two letters
    clusters : "block" or "network"
    confidence : float
    seed : int

    Returns
    -------
    DataFrame, one row a model, split, class of ``by`` and metric: ``mean, mean_lower, mean_upper,
    median, median_lower, median_upper, q25, q75, n_sensors, n_stations, n_clusters, is_small``
    (fewer than five stations) and ``status``

    Raises
    ------
    ContractError
        When no table has the column ``by``, or clusters need stations that are not given.
    """
    kind = clusters or ("network" if stations is None else "block")
    table = station_scores.assign(_cluster=bootstrap.clusters(station_scores, stations, kind=kind))
    keys = ["model", "split", *state_of(table)]
    if by is not None and by not in keys:
        table[by] = classes_of(station_scores, stations, by=by)
        keys.append(by)
    rows = []
    for key, part in table.groupby(keys, observed=True, sort=True):
        for metric in metrics_of(table):
            rng = np.random.default_rng(seed)  # the same draws for every line: comparable
            row = _line(part, metric, confidence=confidence, rng=rng, kind=kind)
            rows.append({**dict(zip(keys, key, strict=True)), "metric": metric, **row})
    return pd.DataFrame(rows, columns=[*keys, "metric", *SUMMARY])


def classes_of(scores, stations, *, by):
    if stations is not None and by in stations.columns:
        known = stations.drop_duplicates("sensor_id")
        column = pd.Series(known[by].to_numpy(), index=known["sensor_id"].astype("str"))
        classes = scores["sensor_id"].astype("str").map(column)
    elif by in scores.columns:
        classes = scores[by]
    else:
        have = ", ".join(() if stations is None else stations.columns)
        raise ContractError(
            f"No column {by!r} to stratify by: the stations have {have or 'no table here'}. "
            "Add the column to the stations table."
        )
    names = classes.astype(object).where(classes.notna(), "").astype(str)
    if by == "koeppen":
        names = pd.Series(strata.koeppen_pair(names), index=names.index)
    return names.where(names.str.strip() != "", UNKNOWN)


def _line(part, metric, *, confidence, rng, kind):
    found = part[part[metric].notna()]
    values, n_stations = found[metric].to_numpy(float), found["station_id"].nunique()
    row = dict.fromkeys(("mean", "median", "q25", "q75"), np.nan)
    ends = ((np.nan, np.nan), (np.nan, np.nan))
    if len(values):
        q25, median, q75 = np.quantile(values, [0.25, 0.5, 0.75])
        row = {"mean": values.mean(), "median": median, "q25": q25, "q75": q75}
        ends = bootstrap.intervals(
            values, found["_cluster"].to_numpy(), confidence=confidence, rng=rng
        )
    n_clusters = found["_cluster"].nunique()
    return {
        "mean": row["mean"],
        "mean_lower": ends[0][0],
        "mean_upper": ends[0][1],
        "median": row["median"],
        "median_lower": ends[1][0],
        "median_upper": ends[1][1],
        "q25": row["q25"],
        "q75": row["q75"],
        "n_sensors": len(values),
        "n_stations": n_stations,
        "n_clusters": n_clusters,
        "is_small": n_stations < strata.MIN_STATIONS,
        "status": _status(len(values), n_clusters, kind),
    }


def _status(n, n_clusters, kind):
    if not n:
        return "no sensor has this score"
    if n_clusters < bootstrap.MIN_CLUSTERS:
        return f"no interval: {n_clusters} {kind}s < {bootstrap.MIN_CLUSTERS}"
    return OK


def block_means(
    scores: pd.DataFrame, stations: pd.DataFrame, *, confidence: float = 0.95
) -> pd.DataFrame:
    """The mean of 2-degree blocks' means: what a dense network counts is one place.

    Each block's sensors are averaged first; the interval is Student's over the blocks' means.

    Parameters
    ----------
    scores : from ``station_scores``
    stations : stations table, for places
    confidence : float

    Returns
    -------
    DataFrame, one row a model, split and metric: ``value, lower, upper, n_blocks, n_stations`` and
    ``status``; fewer than five blocks give no interval
    """
    table = scores.assign(_cluster=bootstrap.clusters(scores, stations, kind="block"))
    rows = []
    keys = ["model", "split", *state_of(table)]
    for key, part in table.groupby(keys, observed=True, sort=True):
        for metric in metrics_of(table):
            found = part[part[metric].notna()]
            line = mean_of_means(found[metric], found["_cluster"], confidence=confidence)
            line["n_stations"] = found["station_id"].nunique()
            line["status"] = _status(len(found), line["n_blocks"], "block")
            rows.append({**dict(zip(keys, key, strict=True)), "metric": metric, **line})
    return pd.DataFrame(rows, columns=[*keys, "metric", *BLOCK_MEANS])


def mean_of_means(values, cluster, *, confidence):
    """The mean of the clusters' means with Student's interval over them."""
    means = pd.Series(np.asarray(values, float)).groupby(np.asarray(cluster)).mean().to_numpy()
    k = len(means)
    value = means.mean() if k else np.nan
    half = np.nan
    if k >= bootstrap.MIN_CLUSTERS:
        half = stats.t.ppf((1 + confidence) / 2, k - 1) * means.std(ddof=1) / np.sqrt(k)
    return {"value": value, "lower": value - half, "upper": value + half, "n_blocks": k}

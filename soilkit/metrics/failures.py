"""Where a model fails: classes of land against other stations, models against each other."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from soilkit import strata
from soilkit.errors import ContractError
from soilkit.metrics import bootstrap
from soilkit.metrics.resampling import cluster_names, limits, ratio_draws
from soilkit.metrics.stations import OK

CLASSES = ("texture", "land_cover", "koeppen")
ERRORS = ("ubrmse_m3_m3", "rmse_m3_m3", "bias_m3_m3")  # of other scores, more is better
THRESHOLD = 0.1  # seed 004, 4.4


def site_means(station_scores: pd.DataFrame, *, metric: str) -> pd.DataFrame:
    """A station's mean over its sensors that have the score; of the bias, over its size.

    Returns
    -------
    DataFrame: ``model, split, station_id, network, value, n_sensors``

    Raises
    ------
    ContractError
        When the scores lack the metric.
    """
    states = sorted(set(station_scores["state"].astype("str"))) if "state" in station_scores else []
    if len(states) > 1:
        raise ContractError(f"Scores of several states ({', '.join(states)}): select one of them.")
    if metric not in station_scores.columns:
        have = ", ".join(c for c in station_scores if f"{c}_lower" in station_scores.columns)
        raise ContractError(f"The scores have no {metric!r}; they have {have}.")
    value = station_scores[metric].abs() if metric == "bias_m3_m3" else station_scores[metric]
    found = station_scores.assign(value=value)[value.notna()]
    keys = ["model", "split", "station_id", "network"]
    by_site = found.astype(dict.fromkeys(keys, "str")).groupby(keys)["value"]
    return by_site.agg(value="mean", n_sensors="size").reset_index()


def require_columns(stations, columns):
    """Raise ``ContractError`` unless the stations table has the columns."""
    missing = [name for name in columns if name not in stations.columns]
    if missing:
        raise ContractError(
            f"The stations table lacks {', '.join(missing)}; it has "
            f"{', '.join(map(str, stations.columns))}."
        )


def class_differences(
    station_scores: pd.DataFrame,
    stations: pd.DataFrame,
    *,
    metric: str = "ubrmse_m3_m3",
    by: Iterable[str] = CLASSES,
    threshold: float = THRESHOLD,
    seed: int = 0,
) -> pd.DataFrame:
    """Each class of land against all other stations: better or worse by more than ``threshold``?

    ``ratio`` is the mean of the class's stations over the mean of the rest; its interval resamples
    whole 2-degree blocks. Intervals are not adjusted for the number of classes: of twenty, one
    excludes 1 by chance.

    Parameters
    ----------
    station_scores : from ``station_scores``
    stations : stations table with the columns ``by``, and places
    metric : a score's name
    by : columns of ``stations``; unknown classes are left out of every class, not of the rest
    threshold : float, 0.1 as in [1]_
    seed : int

    Returns
    -------
    DataFrame: ``model, split, characteristic, class, label`` (with an asterisk below five
    stations), ``metric, mean, rest_mean, ratio, ratio_lower, ratio_upper, verdict`` ("better",
    "worse", "alike", or "" without a ratio), ``is_certain`` (the interval excludes 1),
    ``n_stations, n_rest, n_clusters, is_small, status``

    References
    ----------
    .. [1] Poehls et al. (2024), SSRN 4743411, section 4.4
    """
    parts = []
    for (model, split), sites in site_means(station_scores, metric=metric).groupby(
        ["model", "split"]
    ):
        values = sites["value"].to_numpy()[:, None]
        cluster = cluster_names(sites, stations)
        for characteristic in by:
            names, member = _membership(sites, stations, characteristic)
            table = _ratios(values, member, others=(values, ~member), cluster=cluster, seed=seed)
            table = table.rename(columns={"other_mean": "rest_mean", "n_other": "n_rest"})
            table.insert(0, "class", names)
            parts.append(
                table.assign(model=model, split=split, characteristic=characteristic, metric=metric)
            )
    return _judged(parts, metric, threshold, reference="rest")


def class_preferences(
    station_scores: pd.DataFrame,
    stations: pd.DataFrame,
    *,
    metric: str = "ubrmse_m3_m3",
    by: Iterable[str] = CLASSES,
    threshold: float = THRESHOLD,
    seed: int = 0,
) -> pd.DataFrame:
    """Each model on each class of land against the mean of all models there: Table 4 of [1]_.

    Only stations where every model has the score are compared.

    Returns
    -------
    DataFrame, as from ``class_differences`` with ``models_mean`` for ``rest_mean``

    Raises
    ------
    ContractError
        For one model only, or one model in several splits.

    References
    ----------
    .. [1] Poehls et al. (2024), SSRN 4743411, section 4.4
    """
    sites = site_means(station_scores, metric=metric)
    if sites.duplicated(["model", "station_id"]).any():
        raise ContractError("A model stands in several splits: select one before comparing.")
    wide = sites.pivot(index=["station_id", "network"], columns="model", values="value").dropna()
    if len(wide.columns) < 2:
        raise ContractError(f"Preferences need two models or more, found {len(wide.columns)}.")
    places = wide.index.to_frame(index=False)
    cluster, average = cluster_names(places, stations), wide.mean(axis=1).to_numpy()[:, None]
    parts = []
    for characteristic in by:
        names, member = _membership(places, stations, characteristic)
        for model in wide.columns:
            values = wide[model].to_numpy()[:, None]
            table = _ratios(values, member, others=(average, member), cluster=cluster, seed=seed)
            table = table.rename(columns={"other_mean": "models_mean"}).drop(columns="n_other")
            table.insert(0, "class", names)
            split = ", ".join(sorted(set(sites.loc[sites["model"] == model, "split"])))
            parts.append(
                table.assign(model=model, split=split, characteristic=characteristic, metric=metric)
            )
    return _judged(parts, metric, threshold, reference="models")


def _membership(sites, stations, characteristic):
    """The classes' names and who is in each, (station, class)."""
    require_columns(stations, [characteristic])
    known = stations.drop_duplicates("station_id")
    column = pd.Series(known[characteristic].to_numpy(), index=known["station_id"].astype("str"))
    classes = sites["station_id"].astype("str").map(column).astype(object)
    text = classes.where(classes.notna(), "").astype(str).str.strip()
    names = sorted(set(text) - {""})
    return names, text.to_numpy(object)[:, None] == np.array(names, dtype=object)[None, :]


def _ratios(values, member, *, others, cluster, seed):
    """Means of classes over means of others with limits; arrays (station, class)."""
    other_values, other_member = others
    pair = []
    for v, m in ((values, member), (other_values, other_member)):
        # One seed for both, so that a resample draws the same clusters above and below.
        rng = np.random.default_rng(seed)
        pair.append(ratio_draws(v * m, m.astype(float), cluster=cluster, rng=rng))
    n, n_other = member.sum(axis=0), other_member.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean, other_mean = (values * member).sum(0) / n, (other_values * other_member).sum(0)
        other_mean = other_mean / n_other
        ratio = np.where(other_mean > 0, mean / other_mean, np.nan)
        draws = np.where(pair[1] > 0, pair[0] / pair[1], np.nan)
    n_clusters = [len(set(cluster[column])) for column in member.T]
    ends = [
        limits(column, n_clusters=k) if np.isfinite(r) else np.full((2, 1), np.nan)
        for column, k, r in zip(draws.T[:, :, None], n_clusters, ratio, strict=True)
    ]
    lower, upper = np.reshape(ends, (-1, 2)).T
    return pd.DataFrame(
        {"mean": mean, "other_mean": other_mean, "ratio": ratio, "ratio_lower": lower,
         "ratio_upper": upper, "n_stations": n, "n_other": n_other, "n_clusters": n_clusters}
    )  # fmt: skip


def _judged(parts, metric, threshold, *, reference):
    first = ["model", "split", "characteristic", "class", "label", "metric", "mean",
             f"{reference}_mean", "ratio", "ratio_lower", "ratio_upper", "verdict",
             "is_certain"]  # fmt: skip
    if not parts:
        return pd.DataFrame(columns=first)
    table = pd.concat(parts, ignore_index=True)
    higher, lower = table["ratio"] >= 1 + threshold, table["ratio"] <= 1 - threshold
    worse, better = (higher, lower) if metric in ERRORS else (lower, higher)
    verdict = np.select([worse, better, table["ratio"].notna()], ["worse", "better", "alike"], "")
    certain = (table["ratio_lower"] > 1) | (table["ratio_upper"] < 1)
    small = table["n_stations"] < strata.MIN_STATIONS
    table = table.assign(
        label=strata.mark_small(table["class"], table["n_stations"]),
        verdict=verdict,
        is_certain=certain.where(table["ratio_lower"].notna(), None).astype("boolean"),
        is_small=small,
        status=[_status(row, reference) for _, row in table.iterrows()],
    )
    return table[[*first, *(name for name in table.columns if name not in first)]]


def _status(row, reference):
    if not np.isfinite(row["ratio"]):
        return f"no ratio: the mean of the {reference} is {row[f'{reference}_mean']:.3g}"
    if row["n_stations"] < strata.MIN_STATIONS:
        return f"no interval: {row['n_stations']:.0f} stations < {strata.MIN_STATIONS}"
    if not np.isfinite(row["ratio_lower"]):
        return f"no interval: fewer than {bootstrap.MIN_CLUSTERS} blocks in the class or outside"
    return OK

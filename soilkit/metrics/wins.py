"""Who wins where: stations won by each model, and wins that every class of land counts alike."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from soilkit import strata
from soilkit.errors import ContractError
from soilkit.metrics.paired import check_metrics, common_samples
from soilkit.metrics.points import METRICS, point_scores
from soilkit.metrics.stations import MIN_SAMPLES

CLASSES = ("texture", "land_cover", "koeppen")  # seed 004's three categorical characteristics
HIGHER_IS_BETTER = ("r",)


def site_scores(
    predictions: pd.DataFrame | Iterable[pd.DataFrame],
    *,
    metrics: Iterable[str] = METRICS,
    min_samples: int = MIN_SAMPLES,
) -> pd.DataFrame:
    """Every model's score at every station, on the samples that all models predict.

    A station's score is the mean over its sensors; of the bias, the mean of absolute values. A
    sensor counts where every model has the score, so that all are judged on the same series.

    Parameters
    ----------
    predictions : one table of several models, or several tables; each model in one split
    metrics : of "r", "ubrmse_m3_m3", "rmse_m3_m3", "bias_m3_m3"
    min_samples : int, common samples that a sensor needs

    Returns
    -------
    DataFrame, one row a metric and station, ``metric, station_id, n_sensors`` and one column a
    model; stations where a model has no score are absent, and the table's ``attrs`` say how many:
    ``{"n_stations": ..., "unscored": {metric: count}}``

    Raises
    ------
    ContractError
        For one model only, an unknown metric, repeated samples or unequal observations.
    """
    metrics = tuple(metrics)
    check_metrics(metrics)
    given = [predictions] if isinstance(predictions, pd.DataFrame) else list(predictions)
    table = pd.concat(given, ignore_index=True)
    parts = {str(m): part for m, part in table.groupby(table["model"].astype("str"), sort=False)}
    if len(parts) < 2:
        raise ContractError(f"Wins need at least two models, found {', '.join(parts) or 'none'}.")
    scores = [point_scores(part) for part in common_samples(parts.values())]
    found = [_sites(scores, list(parts), metric, min_samples) for metric in metrics]
    n_stations = table["station_id"].nunique()
    sites = pd.concat(found, ignore_index=True)
    unscored = {m: n_stations - len(part) for m, part in zip(metrics, found, strict=True)}
    sites.attrs = {"n_stations": n_stations, "unscored": unscored}
    return sites


def _sites(scores, names, metric, min_samples):
    values = pd.DataFrame({name: s[metric] for name, s in zip(names, scores, strict=True)})
    values = values.abs() if metric == "bias_m3_m3" else values
    keep = values.notna().all(axis=1) & (scores[0]["n"] >= min_samples)
    by_site = values[keep].groupby(scores[0].loc[keep, "station_id"].to_numpy(str))
    table = by_site.mean().rename_axis("station_id").reset_index()
    table.insert(1, "n_sensors", by_site.size().to_numpy())
    table.insert(0, "metric", metric)
    return table


def models_of(sites: pd.DataFrame) -> list[str]:
    """The models of a table from ``site_scores``."""
    return [c for c in sites.columns if c not in ("metric", "station_id", "n_sensors")]


def win_counts(sites: pd.DataFrame) -> pd.DataFrame:
    """Each pair of models head to head: on how many stations each is the better one [1]_.

    Parameters
    ----------
    sites : from ``site_scores``

    Returns
    -------
    DataFrame, one row a metric and pair: ``metric, model_a, model_b, wins_a, wins_b, ties,
    n_stations``

    References
    ----------
    .. [1] Poehls et al. (2024), SSRN 4743411, section 4.3 and Fig. 12a
    """
    names = models_of(sites)
    rows = []
    for metric, part in sites.groupby("metric", sort=False):
        better = _better(part[names].to_numpy(float), metric)
        for i, a in enumerate(names):
            for j in range(i + 1, len(names)):
                wins_a = int((better[:, i] > better[:, j]).sum())
                wins_b = int((better[:, i] < better[:, j]).sum())
                rows.append((metric, a, names[j], wins_a, wins_b, len(part) - wins_a - wins_b))
    columns = ["metric", "model_a", "model_b", "wins_a", "wins_b", "ties"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(n_stations=table["wins_a"] + table["wins_b"] + table["ties"])


def top_shares(sites: pd.DataFrame) -> pd.DataFrame:
    """The share of stations where a model is better than every other one [1]_.

    Returns
    -------
    DataFrame, one row a metric and model: ``metric, model, n_top, share, n_stations``; a tie for
    the first place is shared out in equal parts

    References
    ----------
    .. [1] Poehls et al. (2024), SSRN 4743411, Fig. 12b, top
    """
    names = models_of(sites)
    rows = [
        (metric, name, points, points / len(part), len(part))
        for metric, part in sites.groupby("metric", sort=False)
        for name, points in zip(names, _top(part, names, metric).sum(axis=0), strict=True)
    ]
    return pd.DataFrame(rows, columns=["metric", "model", "n_top", "share", "n_stations"])


def class_points(
    sites: pd.DataFrame, stations: pd.DataFrame, *, by: Iterable[str] = CLASSES
) -> pd.DataFrame:
    """Points of each model in each class of land, normalised so that every class weighs the same.

    As in the paper's Fig. 15 [1]_: (a) on each station of a class, the model that outperforms every
    other gets one point; (b) a class's points are divided by the highest of them, so that its top
    performer has one. What the paper leaves open is read so: a class is one value of one
    characteristic ("Loam" of texture), since section 5 normalises "for each texture/land
    cover/Koeppen class"; a tie for the first place is shared out in equal parts; the bias counts
    by its size; a station of unknown class counts in none; climate classes are as the stations
    table spells them (three letters in the paper's Table 1; cut them beforehand for two). With two
    models it is the head-to-head contest of Fig. 17.

    Parameters
    ----------
    sites : from ``site_scores``
    stations : stations table with the columns ``by``
    by : columns, the characteristics

    Returns
    -------
    DataFrame, one row a metric, characteristic, class and model: ``metric, characteristic, class,
    model, points, normalized, n_stations, is_small`` (fewer than five stations)

    Raises
    ------
    ContractError
        When the stations lack a characteristic.

    References
    ----------
    .. [1] Poehls et al. (2024), SSRN 4743411, sections 4.3 and 5, Figs. 12b, 15 and 17
    """
    by = tuple(by)
    lacking = [name for name in by if name not in stations.columns]
    if lacking:
        raise ContractError(f"The stations have no column {', '.join(lacking)}: add it, or leave "
                            "it out of `by`.")  # fmt: skip
    names, rows = models_of(sites), []
    known = stations.drop_duplicates("station_id")
    known = known.set_index(known["station_id"].astype("str"))
    for metric, part in sites.groupby("metric", sort=False):
        top = pd.DataFrame(_top(part, names, metric), columns=names)
        for characteristic in by:
            classes = known[characteristic].reindex(part["station_id"]).astype(object)
            classes = classes.where(classes.notna(), "").astype(str).str.strip()
            for name, points in top.groupby(np.asarray(classes)):
                if name:
                    rows += _class_rows((metric, characteristic, name), points)
    columns = ["metric", "characteristic", "class", "model", "points", "normalized", "n_stations"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(is_small=table["n_stations"] < strata.MIN_STATIONS)


def _class_rows(key, points):
    total = points.sum()
    return [(*key, model, p, p / total.max(), len(points)) for model, p in total.items()]


def normalized_wins(points: pd.DataFrame, *, include_small: bool = True) -> pd.DataFrame:
    """Normalised points summed over all classes: the paper's unbiased contest, Fig. 15c.

    Parameters
    ----------
    points : from ``class_points``
    include_small : bool; the paper counts every class, a class of one station like one of fifty

    Returns
    -------
    DataFrame, one row a metric and model: ``metric, model, total, share`` (of the classes, which
    is the most that a model can have), ``n_classes``
    """
    counted = points if include_small else points[~points["is_small"]]
    by_model = counted.groupby(["metric", "model"], sort=False)["normalized"]
    table = by_model.agg(total="sum", n_classes="size").reset_index()
    table["share"] = table["total"] / table["n_classes"]
    return table[["metric", "model", "total", "share", "n_classes"]]


def _better(values, metric):
    return values if metric in HIGHER_IS_BETTER else -values


def _top(part, names, metric):
    """Points for the first place, (station, model); a tie shares one point."""
    better = _better(part[names].to_numpy(float), metric)
    is_top = better == better.max(axis=1, keepdims=True)
    return is_top / is_top.sum(axis=1, keepdims=True)

"""Scores side by side where the stations stand, and where one model beats another."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from soilkit.errors import ContractError
from soilkit.plots import style
from soilkit.plots.places import (
    METRIC_COLOURS,
    beyond,
    draw_points,
    frame_map,
    width_to_height,
    window_around,
)

METRICS = ("r", "ubrmse_m3_m3", "bias_m3_m3")
HIGHER_IS_BETTER = ("r", "spearman", "kge_2009", "kge_2012")
MOST = 95  # percentile of sizes that a colour scale ends at
WIDTH_INCHES, HIGHEST_INCHES = 10.0, 4.4


def score_maps(
    scores: pd.DataFrame,
    stations: pd.DataFrame,
    *,
    metrics: Sequence[str] = METRICS,
    title: str = "",
) -> Figure:
    """Scores of every station of one model side by side; hollow where there is none.

    A station's score is the mean over its sensors.

    Parameters
    ----------
    scores : rows of ``metrics.station_scores`` of one model and split
    stations : stations table; those without a row are not drawn
    metrics : columns of the scores, a panel each
    """
    style.need(scores, metrics, maker="metrics.station_scores")
    models = list(dict.fromkeys(style.names_of(scores)))
    if len(models) > 1:
        raise ContractError(f"Maps are of one model, found {', '.join(models)}. Select its rows.")
    points = _placed(_by_station(scores, metrics), stations)
    if points.empty:
        return style.nothing("no scored station is in the stations table", title=title)
    if points[list(metrics)].isna().all(axis=None):
        return style.nothing(f"no station has a score ({_reasons(scores)})", title=title)
    looks = [METRIC_COLOURS.get(m) or _upwards(points[m]) for m in metrics]
    words = [style.label(m) for m in metrics]
    tops = [_counted(points[m]) for m in metrics]
    return _maps(points, metrics, looks=looks, words=words, tops=tops, title=title)


def _reasons(scores: pd.DataFrame) -> str:
    """What the scores say of themselves, the most frequent three."""
    words = scores["status"] if "status" in scores else pd.Series(dtype=str)
    return "; ".join(words.value_counts().index[:3]) or "no status is given"


def _counted(values: pd.Series) -> str:
    lost = int(values.isna().sum())
    return f"{len(values) - lost} stations" + (f", {lost} without (hollow)" if lost else "")


def difference_maps(
    scores: pd.DataFrame,
    stations: pd.DataFrame,
    *,
    models: tuple[str, str],
    metrics: Sequence[str] = METRICS,
    title: str = "",
) -> Figure:
    """Score of the first model minus that of the second, station by station; blue: it is better.

    Scales are symmetric about zero; the bias counts by its size. Stations where either has no score
    are hollow. Scores compare only where both are of the same samples.

    Parameters
    ----------
    scores : from ``metrics.station_scores``, of both models in one split each
    stations : stations table
    models : (a, b), names
    metrics : columns of the scores, a panel each
    """
    style.need(scores, metrics, maker="metrics.station_scores")
    tables = []
    for model in models:
        rows = scores[scores["model"].astype("str") == model]
        if rows.empty or len(set(style.names_of(rows))) > 1:
            have = ", ".join(dict.fromkeys(style.names_of(scores)))
            raise ContractError(f"Wanted {model!r} in one split and state, found {have}.")
        sized = rows.assign(**{m: rows[m].abs() for m in metrics if m.startswith("bias")})
        tables.append(_by_station(sized, metrics))
    points = _placed(tables[0] - tables[1], stations)
    if points.empty:
        return style.nothing("no station of both models is in the stations table", title=title)
    if points[list(metrics)].isna().all(axis=None):
        why = f"no station has scores of both models ({_reasons(scores)})"
        return style.nothing(why, title=title)
    looks = [_symmetric(points[m], is_better=m in HIGHER_IS_BETTER) for m in metrics]
    words = [_unit(m) for m in metrics]
    tops = [_winner(points[m], m, models=models) for m in metrics]
    return _maps(points, metrics, looks=looks, words=words, tops=tops, title=title)


def _unit(metric: str) -> str:
    words = style.label(metric).replace("bias, predicted − observed", "|bias|")
    return f"difference in {words}"


def _winner(values: pd.Series, metric: str, *, models: tuple[str, str]) -> str:
    """At how many stations the first model is the better one."""
    known = values.dropna() * (1 if metric in HIGHER_IS_BETTER else -1)
    a, b = (style.wrapped(model, letters=42, lines=1) for model in models)
    return (
        f"{a}\nminus {b}\nblue, the first is better: {(known > 0).sum()} of {len(known)} stations"
    )


def _by_station(scores: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    return scores.groupby(scores["station_id"].astype("str"))[list(metrics)].mean()


def _placed(table: pd.DataFrame, stations: pd.DataFrame) -> pd.DataFrame:
    places = stations.drop_duplicates("station_id")[["station_id", "latitude", "longitude"]]
    joined = places.astype({"station_id": "str"}).merge(
        table, left_on="station_id", right_index=True
    )
    return joined[joined[["latitude", "longitude"]].notna().all(axis=1)]


def _upwards(values: pd.Series) -> dict[str, Any]:
    known = values.dropna()
    top = float(np.percentile(known, MOST)) if len(known) else 1.0
    return {"cmap": "viridis_r", "vmin": 0.0, "vmax": top or 1.0}


def _symmetric(values: pd.Series, *, is_better: bool) -> dict[str, Any]:
    known = values.dropna().abs()
    top = float(np.percentile(known, MOST)) if len(known) else 1.0
    return {"cmap": "RdBu" if is_better else "RdBu_r", "vmin": -(top or 1.0), "vmax": top or 1.0}


def _maps(points, metrics, *, looks, words, tops, title) -> Figure:
    window = window_around(points)
    shape = width_to_height(window)
    across = min(len(metrics), 3 if shape < 1.4 else 2)
    down = -(-len(metrics) // across)
    height = min(HIGHEST_INCHES, (WIDTH_INCHES - 1.2 * across) / across / shape)
    figure, axes = plt.subplots(
        down, across, squeeze=False, layout="compressed",
        figsize=(max(across * (height * shape + 1.2), 5), down * (height + 1.1) + 0.4),
    )  # fmt: skip
    panels = list(axes.ravel())
    for axis, metric, look, word, top in zip(panels, metrics, looks, words, tops, strict=False):
        drawn = draw_points(axis, points, metric=metric, colours=look)
        frame_map(axis, window)
        bar = figure.colorbar(drawn, ax=axis, extend=beyond(points[metric], look))
        bar.set_label(word, fontsize="small" if len(word) < 40 else "x-small")
        axis.set_title(top, fontsize="small")
    for axis in panels[len(metrics) :]:
        axis.set_visible(False)
    style.head(figure, title)
    return figure

"""Scores and chips where the stations stand."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from soilkit import sources
from soilkit.contracts import Chip
from soilkit.errors import ContractError
from soilkit.export.features import cloudy
from soilkit.metrics.splits import block_ids
from soilkit.show.plots import style
from soilkit.show.plots.style import label

METRIC_COLOURS = {
    "r": {"cmap": "viridis", "vmin": 0.0, "vmax": 1.0},
    "bias_m3_m3": {"cmap": "RdBu", "vmin": -0.15, "vmax": 0.15},
}
TRUE_COLOUR = ("B4", "B3", "B2")
NARROWEST, WIDEST = 0.8, 2.2  # width over height of a map, on the ground
WIDEST_INSET = 1.2
MIN_SPAN_DEG = 0.1  # of a map of one place
MIN_CLUSTER = 8  # a block with more stations than this is drawn again, enlarged


def station_map(
    scores: pd.DataFrame, stations: pd.DataFrame, *, metric: str = "r", title: str = ""
) -> Figure:
    """One score a station where it stands; the densest 2-degree block is enlarged beside it.

    Parameters
    ----------
    scores : rows of ``metrics.station_scores`` of one model and split
    stations : stations table
    metric : a score's column; stations without a score are hollow

    Returns
    -------
    matplotlib Figure; longitude and latitude in degrees
    """
    places = stations.drop_duplicates("station_id")[["station_id", "latitude", "longitude"]]
    points = scores[["station_id", metric]].astype({"station_id": "str"})
    points = places.astype({"station_id": "str"}).merge(points, on="station_id")
    blocks = block_ids(points)
    counts = blocks.value_counts()
    crowded = blocks.eq(counts.index[0]).to_numpy() if len(counts) else np.zeros(0, bool)
    has_inset = bool(crowded.sum() > MIN_CLUSTER and crowded.sum() < len(points))
    windows = [window_around(points)] + has_inset * [
        window_around(points[crowded], widest=WIDEST_INSET)
    ]
    shapes = [width_to_height(window) for window in windows]
    height = min(3.6, 8.5 / sum(shapes))
    figure, axes = plt.subplots(
        1, len(shapes), figsize=(height * sum(shapes) + 0.9 * len(shapes) + 0.8, height + 1.0),
        squeeze=False, width_ratios=shapes, layout="compressed",
    )  # fmt: skip
    colours = METRIC_COLOURS.get(metric) or _range(points[metric])
    for axis, window in zip(axes[0], windows, strict=True):
        drawn = draw_points(axis, points, metric=metric, colours=colours)
        frame_map(axis, window)
    if has_inset:
        axes[0, 1].set_title(
            f"the {crowded.sum()} stations of the densest block", fontsize="medium"
        )
        _mark_window(axes[0, 0], windows[1])
    extend = beyond(points[metric], colours)
    figure.colorbar(drawn, ax=axes[0, -1], label=label(metric), extend=extend)
    figure.suptitle(title)
    return figure


def _range(values: pd.Series) -> dict[str, Any]:
    known = values.dropna()
    top = float(np.percentile(known, 95)) if len(known) else 1.0
    return {"cmap": "viridis_r", "vmin": 0.0, "vmax": top or 1.0}


def beyond(values: pd.Series, colours: dict[str, Any]) -> str:
    """Which end of the colour bar wants an arrow because values lie beyond it."""
    below, above = values.min() < colours["vmin"], values.max() > colours["vmax"]
    return {(True, True): "both", (True, False): "min", (False, True): "max"}.get(
        (bool(below), bool(above)), "neither"
    )


def draw_points(axis: Axes, points: pd.DataFrame, *, metric: str, colours: dict[str, Any]):
    """Coloured dots where a column is known and hollow ones where it is not, in degrees."""
    known = points[metric].notna()
    axis.scatter(
        points.longitude[~known], points.latitude[~known], s=28, facecolor="none", edgecolor="0.5"
    )
    drawn = axis.scatter(
        points.longitude[known], points.latitude[known], c=points[metric][known], s=42,
        edgecolor="0.25", linewidth=0.5, **colours,
    )  # fmt: skip
    axis.set(xlabel="longitude [degrees]", ylabel="latitude [degrees]")
    axis.grid(color="0.9")
    axis.set_axisbelow(True)
    return drawn


def window_around(
    points: pd.DataFrame, *, widest: float = WIDEST
) -> tuple[float, float, float, float]:
    """Left, right, low and high degrees around points, no flatter or steeper than the limits."""
    if points.empty:
        return (-180.0, 180.0, -60.0, 75.0)
    east, north = points.longitude, points.latitude
    shrink = np.cos(np.radians(north.mean()))
    width = max(1.12 * np.ptp(east) * shrink, MIN_SPAN_DEG)  # degrees of latitude
    height = max(1.12 * np.ptp(north), MIN_SPAN_DEG, width / widest)
    half_x, half_y = max(width, height * NARROWEST) / shrink / 2, height / 2
    x, y = (east.min() + east.max()) / 2, (north.min() + north.max()) / 2
    return (x - half_x, x + half_x, y - half_y, y + half_y)


def width_to_height(window: tuple[float, float, float, float]) -> float:
    """The shape of a window on the ground."""
    left, right, low, high = window
    return float((right - left) * np.cos(np.radians((low + high) / 2)) / (high - low))


def frame_map(axis: Axes, window: tuple[float, float, float, float]) -> None:
    """Limit a map to a window, a degree as long to the north as on the ground to the east."""
    left, right, low, high = window
    axis.set(xlim=(left, right), ylim=(low, high))
    axis.set_aspect(1 / np.cos(np.radians((low + high) / 2)))
    axis.ticklabel_format(useOffset=False)
    axis.locator_params(axis="x", nbins=4, steps=[1, 2, 5, 10])
    axis.locator_params(axis="y", nbins=7)


def _mark_window(axis: Axes, window: tuple[float, float, float, float]) -> None:
    left, right, low, high = window
    box = plt.Rectangle((left, low), right - left, high - low, fill=False, edgecolor="#D55E00")
    axis.add_patch(box)
    axis.annotate(
        "enlarged", (left, low), xytext=(0, -3), textcoords="offset points",
        ha="left", va="top", color="#D55E00", fontsize="small",
    )  # fmt: skip


def chip_panel(chip: Chip, *, source: str, title: str = "", columns: int = 4) -> Figure:
    """The bands of one chip in physical units; optical chips in true colour first.

    Parameters
    ----------
    chip : Chip with the stored values of the asset
    source : name in the catalogue, which knows the bands' units and scales
    columns : int, panels a row
    """
    layer = sources.get(source)
    has_colour = set(TRUE_COLOUR) <= set(chip.bands)
    n = len(chip.bands) + has_colour
    n_columns = min(columns, n)
    n_rows = -(-n // n_columns)
    figure, axes = plt.subplots(
        n_rows, n_columns, figsize=(3.1 * n_columns, 2.9 * n_rows), squeeze=False,
        sharex=True, sharey=True, layout="constrained",
    )  # fmt: skip
    panels = list(axes.ravel())
    if has_colour:
        panels[0].imshow(true_colour(chip), extent=_extent_km(chip))
        panels[0].set_title("true colour", fontsize="medium")
    for axis, name, values in zip(panels[has_colour:], chip.bands, chip.values, strict=False):
        band = layer.band(name)
        drawn = axis.imshow(values * band.scale + band.offset, extent=_extent_km(chip))
        axis.set_title(f"{name} [{band.unit}]", fontsize="medium")
        figure.colorbar(drawn, ax=axis, shrink=0.85)
    for axis in panels[n:]:
        axis.set_visible(False)
    figure.supxlabel("east of the station [km]", fontsize="medium")
    figure.supylabel("north of the station [km]", fontsize="medium")
    figure.suptitle(title)
    return figure


def _extent_km(chip: Chip) -> tuple[float, float, float, float]:
    half_x = chip.grid.width * chip.grid.pixel_size_m / 2000
    half_y = chip.grid.height * chip.grid.pixel_size_m / 2000
    return (-half_x, half_x, -half_y, half_y)


def true_colour(chip: Chip) -> np.ndarray:
    """Red, green and blue stretched to the 2nd-98th percentile of clear pixels, (row, col, 3).

    Pixels that QA60 flags as cloud do not decide the stretch, unless there are no others.
    """
    rgb = np.stack([chip.values[chip.bands.index(b)] for b in TRUE_COLOUR], axis=-1)
    known = np.isfinite(rgb).all(axis=-1)  # (row, col)
    clear = known & ~_is_cloud(chip)
    ground = rgb[clear if clear.any() else known]
    low, high = np.percentile(ground, [2, 98]) if ground.size else (0.0, 1.0)
    return np.nan_to_num(np.clip((rgb - low) / max(high - low, 1e-6), 0, 1))


def _is_cloud(chip: Chip) -> np.ndarray:
    flags = sources.get("sentinel2").cloud_band
    if flags is None or flags.name not in chip.bands:
        return np.zeros(chip.values.shape[1:], bool)
    return cloudy(chip.values[chip.bands.index(flags.name)], flags)


# Scores side by side where the stations stand, and where one model beats another.

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

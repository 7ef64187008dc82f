"""Static pictures of scores, series and chips: every axis with its unit, every title its data.

Each function takes tables of the contracts and returns a matplotlib figure. The caller writes the
title: it says "synthetic", or names the data that the numbers come from.
"""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from soilkit import sources
from soilkit.contracts import Chip
from soilkit.splits import block_ids

MOISTURE = "m³ m⁻³"
METRIC_LABELS = {
    "r": "correlation R [1]",
    "ubrmse_m3_m3": f"ubRMSE [{MOISTURE}]",
    "rmse_m3_m3": f"RMSE [{MOISTURE}]",
    "bias_m3_m3": f"bias, predicted − observed [{MOISTURE}]",
}
# Okabe and Ito's palette, told apart with any colour vision and in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")
METRIC_COLOURS = {
    "r": {"cmap": "viridis", "vmin": 0.0, "vmax": 1.0},
    "bias_m3_m3": {"cmap": "RdBu", "vmin": -0.15, "vmax": 0.15},
}
TRUE_COLOUR = ("B4", "B3", "B2")
MIN_CLUSTER = 8  # a block with more stations than this is drawn again, enlarged
GAP_DAYS = 15  # a line is not drawn across a longer gap


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
    figure, axes = plt.subplots(
        1, 2 if has_inset else 1, figsize=(10.5 if has_inset else 7.5, 3.9), squeeze=False,
        width_ratios=[2.1, 1] if has_inset else [1], layout="constrained",
    )  # fmt: skip
    colours = METRIC_COLOURS.get(metric) or _range(points[metric])
    drawn = _points(axes[0, 0], points, metric, colours)
    if has_inset:
        zoom = points[crowded]
        _points(axes[0, 1], zoom, metric, colours)
        axes[0, 1].set_title(f"the {len(zoom)} stations of the densest block", fontsize="medium")
        _mark_window(axes[0, 0], zoom)
    figure.colorbar(drawn, ax=axes[0, -1], label=METRIC_LABELS.get(metric, metric))
    figure.suptitle(title)
    return figure


def _range(values: pd.Series) -> dict[str, Any]:
    known = values.dropna()
    top = float(np.percentile(known, 95)) if len(known) else 1.0
    return {"cmap": "viridis_r", "vmin": 0.0, "vmax": top or 1.0}


def _points(axis: Axes, points: pd.DataFrame, metric: str, colours: dict[str, Any]):
    known = points[metric].notna()
    axis.scatter(
        points.longitude[~known], points.latitude[~known], s=28, facecolor="none", edgecolor="0.5"
    )
    drawn = axis.scatter(
        points.longitude[known], points.latitude[known], c=points[metric][known], s=42,
        edgecolor="0.25", linewidth=0.5, **colours,
    )  # fmt: skip
    axis.set(xlabel="longitude [degrees]", ylabel="latitude [degrees]")
    if len(points):
        axis.set_aspect(1 / np.cos(np.radians(points.latitude.mean())), adjustable="datalim")
    axis.grid(color="0.9")
    axis.set_axisbelow(True)
    return drawn


def _mark_window(axis: Axes, zoom: pd.DataFrame) -> None:
    left, right = zoom.longitude.min() - 0.5, zoom.longitude.max() + 0.5
    low, high = zoom.latitude.min() - 0.5, zoom.latitude.max() + 0.5
    box = plt.Rectangle((left, low), right - left, high - low, fill=False, edgecolor="#D55E00")
    axis.add_patch(box)
    axis.annotate(
        "enlarged", (left, low), xytext=(0, -3), textcoords="offset points",
        ha="left", va="top", color="#D55E00", fontsize="small",
    )  # fmt: skip


def series_panel(predictions: pd.DataFrame, sensor_ids: list[str], *, title: str = "") -> Figure:
    """Observed and predicted moisture over time, one panel a sensor, one line a model.

    Parameters
    ----------
    predictions : predictions table, one or more models
    sensor_ids : sensors to draw, in this order
    """
    n = len(sensor_ids)
    figure, axes = plt.subplots(
        n, 1, figsize=(10, 0.8 + 1.75 * n), sharex=True, sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    models = list(dict.fromkeys(predictions["model"].astype("str")))
    for axis, sensor_id in zip(axes[:, 0], sensor_ids, strict=True):
        rows = predictions[predictions["sensor_id"].astype("str") == sensor_id].sort_values("time")
        for model, colour in zip(models, _cycle(len(models)), strict=True):
            _line(axis, rows[rows["model"] == model], label=model, colour=colour)
        seen = rows.drop_duplicates("time")
        axis.plot(
            seen["time"], seen["observed_m3_m3"], ".", color="black", markersize=4, label="observed"
        )
        axis.set_title(sensor_id, loc="left", fontsize="medium")
        axis.grid(color="0.9")
    figure.supylabel(f"soil moisture [{MOISTURE}]", fontsize="medium")
    axes[-1, 0].set_xlabel("time [UTC]")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), fontsize="small")
    figure.suptitle(title, x=0.01, ha="left", fontsize="medium")
    return figure


def _line(axis: Axes, rows: pd.DataFrame, *, label: str, colour: str) -> None:
    predicted = rows["predicted_m3_m3"].astype(float).to_numpy(copy=True)
    time = rows["time"].to_numpy()
    gap = np.flatnonzero(np.diff(time) > np.timedelta64(GAP_DAYS, "D")) + 1
    axis.plot(
        np.insert(time, gap, time[gap]), np.insert(predicted, gap, np.nan),
        color=colour, linewidth=1.1, label=label,
    )  # fmt: skip


def _cycle(n: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(n)]


def density_scatter(predictions: pd.DataFrame, *, title: str = "") -> Figure:
    """Predicted against observed moisture as counts of samples, one panel a model."""
    known = predictions.dropna(subset=["observed_m3_m3"])
    models = list(dict.fromkeys(known["model"].astype("str")))
    n = max(len(models), 1)
    figure, axes = plt.subplots(
        1, n, figsize=(0.9 + 3.1 * n, 3.7), sharex=True, sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    top = float(known[["observed_m3_m3", "predicted_m3_m3"]].max().max()) if len(known) else 0.5
    for axis, model in zip(axes[0], models, strict=False):
        rows = known[known["model"] == model]
        drawn = axis.hexbin(
            rows["observed_m3_m3"], rows["predicted_m3_m3"], gridsize=40, bins="log", mincnt=1,
            extent=(0, top, 0, top), cmap="viridis", linewidths=0.1,
        )  # fmt: skip
        axis.plot([0, top], [0, top], color="0.3", linewidth=0.8)
        axis.set(aspect="equal", xlabel=f"observed [{MOISTURE}]")
        axis.set_title(f"{model} (n = {len(rows):,})", fontsize="medium")
    if models:
        figure.colorbar(drawn, ax=axes[0, -1], label="samples [count]")
    axes[0, 0].set_ylabel(f"predicted [{MOISTURE}]")
    figure.suptitle(title, fontsize="medium")
    return figure


def strata_bars(table: pd.DataFrame, *, by: str, metric: str = "r", title: str = "") -> Figure:
    """A score by class, one bar a model, whiskers for the interval, the number of stations beside.

    Parameters
    ----------
    table : scores table with the stratum column ``by``; rows of ``metric`` are drawn
    by : column of the classes
    """
    rows = table[table["metric"] == metric]
    classes = list(dict.fromkeys(rows[by].astype("str")))
    models = list(dict.fromkeys(rows["model"].astype("str")))
    height = 0.8 / max(len(models), 1)
    figure, axis = plt.subplots(
        figsize=(8, 1.4 + 0.24 * len(classes) * max(len(models), 1)), layout="constrained"
    )
    for i, (model, colour) in enumerate(zip(models, _cycle(len(models)), strict=True)):
        one = rows[rows["model"] == model].set_index(by).reindex(classes)
        y = np.arange(len(classes)) + (i - (len(models) - 1) / 2) * height
        axis.barh(y, one["value"], height=height * 0.92, color=colour, label=model)
        axis.errorbar(
            one["value"], y, xerr=_whiskers(one), fmt="none", ecolor="0.2", elinewidth=0.9
        )
    counts = rows.groupby(rows[by].astype("str"))["n"].max()
    axis.set_yticks(
        range(len(classes)), [f"{name or 'unknown'} ({counts[name]:.0f})" for name in classes]
    )
    axis.invert_yaxis()
    axis.set(xlabel=METRIC_LABELS.get(metric, metric), ylabel=f"{by} (number of stations)")
    axis.grid(axis="x", color="0.9")
    axis.set_axisbelow(True)
    figure.legend(loc="outside right upper", fontsize="small")
    figure.suptitle(title, fontsize="medium")
    return figure


def _whiskers(rows: pd.DataFrame) -> np.ndarray:
    """Distances from the value down and up to its interval, shape (2, row)."""
    value = rows["value"].to_numpy(float)
    ends = [value - rows["lower"].to_numpy(float), rows["upper"].to_numpy(float) - value]
    return np.nan_to_num(np.clip(ends, 0, None))


def interval_dots(table: pd.DataFrame, *, zero: bool = False, title: str = "") -> Figure:
    """Values with their intervals, one panel a metric, one row a model.

    Parameters
    ----------
    table : scores table
    zero : bool, draw the line of no difference
    """
    metrics = list(dict.fromkeys(table["metric"].astype("str")))
    models = list(dict.fromkeys(table["model"].astype("str")))
    figure, axes = plt.subplots(
        1, max(len(metrics), 1), figsize=(10, 1.3 + 0.34 * len(models)), sharey=True,
        squeeze=False, layout="constrained",
    )  # fmt: skip
    for axis, metric in zip(axes[0], metrics, strict=False):
        rows = table[table["metric"] == metric].set_index("model").reindex(models)
        y = np.arange(len(models))
        axis.errorbar(rows["value"], y, xerr=_whiskers(rows), fmt="o", color=COLOURS[0], capsize=3)
        if zero:
            axis.axvline(0, color="0.3", linewidth=0.8)
        axis.set_xlabel(METRIC_LABELS.get(metric, metric))
        axis.grid(axis="x", color="0.9")
    axes[0, 0].set_yticks(range(len(models)), models)
    axes[0, 0].set_ylim(len(models) - 0.5, -0.5)
    figure.suptitle(title, fontsize="medium")
    return figure


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
        panels[0].imshow(_true_colour(chip), extent=_extent_km(chip))
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


def _true_colour(chip: Chip) -> np.ndarray:
    """Red, green and blue stretched to the chip's own 2nd-98th percentile, (row, col, 3)."""
    rgb = np.stack([chip.values[chip.bands.index(b)] for b in TRUE_COLOUR], axis=-1)
    known = rgb[np.isfinite(rgb)]
    low, high = np.percentile(known, [2, 98]) if known.size else (0.0, 1.0)
    return np.nan_to_num(np.clip((rgb - low) / max(high - low, 1e-6), 0, 1))

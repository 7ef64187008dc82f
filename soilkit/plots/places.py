"""Scores and chips where they lie: every axis in degrees or kilometres."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from soilkit import sources
from soilkit.contracts import Chip
from soilkit.export.features import CLOUD_BITS
from soilkit.metrics.splits import block_ids
from soilkit.plots.style import label

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
    if "QA60" not in chip.bands:
        return np.zeros(chip.values.shape[1:], bool)
    flags = np.nan_to_num(chip.values[chip.bands.index("QA60")]).astype(int)
    return (flags & CLOUD_BITS) != 0

"""Maps beside the truth and their layers, and skill across stations by date."""

import base64
import io
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib import colormaps, image
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from soilkit import grids, sources, units
from soilkit.contracts import Chip, Grid
from soilkit.export import rasters
from soilkit.show.plots import style
from soilkit.show.plots.series import GAP_DAYS
from soilkit.show.plots.station_maps import TRUE_COLOUR, true_colour
from soilkit.show.plots.style import MOISTURE
from soilkit.strata import mark_small

WET, ERROR = "YlGnBu", "RdBu"
SPECKLE_PX = 8  # pixels of 10 m a side that are averaged for the eye
WEB_MERCATOR = "EPSG:3857"


class Overlay(NamedTuple):
    """A picture for a web map: a PNG as ``data:`` URL, ((south, west), (north, east)) degrees."""

    url: str
    bounds: tuple[tuple[float, float], tuple[float, float]]


def moisture_range(*arrays: Any) -> tuple[float, float]:
    """One colour scale for several maps: their common 1st-99th percentile, rounded to 0.01.

    Examples
    --------
    >>> moisture_range(np.array([0.104, 0.2]), np.array([0.31]))
    (0.1, 0.31)
    """
    values = np.concatenate([np.ravel(np.asarray(a, float)) for a in arrays])
    low, high = np.nanpercentile(values, [1, 99])
    return round(float(np.floor(low * 100)) / 100, 2), round(float(np.ceil(high * 100)) / 100, 2)


def map_and_truth(
    dataset: Any,
    truth: np.ndarray,
    *,
    title: str = "",
    place: tuple[float, float] | None = None,
    names: tuple[str, str] = ("model", "truth"),
) -> Figure:
    """A map beside the truth on one colour scale, and their difference.

    Parameters
    ----------
    dataset : Dataset of ``maps.predict_map``
    truth : array (row, col) on the map's cells, m3 m-3
    title : str; it says "synthetic", or names the data
    place : (longitude, latitude), degrees, marked on all panels; the axes count from it
    names : what the first two panels are called

    Returns
    -------
    matplotlib Figure, three panels; axes in km
    """
    from soilkit.models.maps import map_grid  # here, so that other pictures need not wait for torch

    grid, moisture = map_grid(dataset), dataset["soil_moisture"].values
    difference = moisture - truth
    low, high = moisture_range(moisture, truth)
    most = max(float(np.nanpercentile(np.abs(difference), 99)), 0.01)
    figure, axes = plt.subplots(
        1, 3, figsize=(12, 4.1), sharex=True, sharey=True, layout="constrained"
    )
    wet = {"cmap": WET, "vmin": low, "vmax": high}
    wrong = {"cmap": ERROR, "vmin": -most, "vmax": most}
    extent = _extent_km(grid, _origin(grid, place))
    drawn = [
        axis.imshow(values, extent=extent, interpolation="nearest", **style)
        for axis, values, style in zip(
            axes, (moisture, truth, difference), (wet, wet, wrong), strict=True
        )
    ]
    for axis, name in zip(axes, (*names, f"{names[0]} − {names[1]}"), strict=True):
        axis.set_title(name)
        _mark(axis, place)
    _moisture_bar(figure, drawn[1], axes[:2], words="soil moisture")
    _moisture_bar(figure, drawn[2], axes[2:], words="difference")
    _axis_words(figure, place)
    figure.suptitle(title)
    return figure


def region_panel(
    chips: Mapping[str, Chip], *, title: str = "", place: tuple[float, float] | None = None
) -> Figure:
    """What the model looks at: the first band of every layer, optics in true colour.

    Radar is shown as 80 m means of linear power.

    Parameters
    ----------
    chips : {source: Chip} of one region, stored values
    title : str; it says "synthetic", or names the data
    place : (longitude, latitude), degrees, marked on all panels; the axes count from it

    Returns
    -------
    matplotlib Figure, one panel a source; axes in km
    """
    figure, axes = plt.subplots(
        1, len(chips), figsize=(3 * len(chips), 4), squeeze=False,
        sharex=True, sharey=True, layout="constrained",
    )  # fmt: skip
    for axis, (name, chip) in zip(axes[0], chips.items(), strict=True):
        _layer(axis, chip, name=name, extent=_extent_km(chip.grid, _origin(chip.grid, place)))
        _mark(axis, place)
    _axis_words(figure, place)
    figure.suptitle(title)
    return figure


def overlay(
    values: np.ndarray, grid: Grid, *, limits: tuple[float, float], cmap: str = WET
) -> Overlay:
    """Colour an array and warp it to Web Mercator, where a web map stretches pictures evenly.

    Parameters
    ----------
    values : array (row, col) on ``grid``; NaN becomes transparent
    grid : Grid
    limits : the values at the two ends of the colour scale
    cmap : name of a matplotlib colour map

    Returns
    -------
    Overlay, which needs no network
    """
    target = _mercator_grid(grid)
    warped = rasters.reproject(values, grid, target=target, resampling="nearest")
    rgba = colormaps[cmap](Normalize(*limits)(np.nan_to_num(warped)), bytes=True)
    rgba[..., 3] = np.where(np.isfinite(warped), 255, 0)
    buffer = io.BytesIO()
    image.imsave(buffer, np.ascontiguousarray(rgba), format="png")
    left, bottom, right, top = target.bounds_m
    there = grids.transformer(WEB_MERCATOR, "EPSG:4326")
    (west, east), (south, north) = there.transform([left, right], [bottom, top])
    url = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    return Overlay(url, ((south, west), (north, east)))


def _mercator_grid(grid: Grid) -> Grid:
    """A Web Mercator grid around another one, its pixels a quarter as wide."""
    there = grids.transformer(grid.crs, WEB_MERCATOR)
    left, bottom, right, top = there.transform_bounds(*grid.bounds_m)
    size = grid.pixel_size_m / 4
    height, width = int(np.ceil((top - bottom) / size)), int(np.ceil((right - left) / size))
    return Grid(WEB_MERCATOR, left, top, size, height, width)


def _layer(axis: Axes, chip: Chip, *, name: str, extent) -> None:
    if set(TRUE_COLOUR) <= set(chip.bands):
        axis.imshow(true_colour(chip), extent=extent)
        axis.set_title(f"{name}: true colour", fontsize="medium")
        return
    band = sources.get(name).band(chip.bands[0])
    values = _shown(chip.values[0] * band.scale + band.offset, band.unit)
    low, high = np.nanpercentile(values, [2, 98])
    cmap = "gray" if band.unit == "dB" else "viridis"
    drawn = axis.imshow(values, extent=extent, vmin=low, vmax=high, cmap=cmap)
    words = ", 80 m means" if band.unit == "dB" else ""
    axis.set_title(f"{name}: {band.name} [{band.unit}]{words}", fontsize="medium")
    axis.figure.colorbar(drawn, ax=axis, shrink=0.8, extend="both", location="bottom")


def _shown(values: np.ndarray, unit: str) -> np.ndarray:
    """Backscatter as 80 m means of linear power, because speckle hides the ground; else as is."""
    if unit != "dB":
        return values
    height, width = (side // SPECKLE_PX * SPECKLE_PX for side in values.shape)
    power = units.linear_from_db(values[:height, :width])
    blocks = power.reshape(height // SPECKLE_PX, SPECKLE_PX, width // SPECKLE_PX, SPECKLE_PX)
    return units.db_from_linear(blocks.mean(axis=(1, 3)))  # (row, col)


def _origin(grid: Grid, place: tuple[float, float] | None) -> tuple[float, float]:
    """The projected point that the axes count from, m: the place, else the south-west corner."""
    if place is None:
        return grid.bounds_m[:2]
    return grids.transformer("EPSG:4326", grid.crs).transform(*place)


def _extent_km(grid: Grid, origin: tuple[float, float]) -> tuple[float, float, float, float]:
    left, bottom, right, top = grid.bounds_m
    x, y = origin
    return (left - x) / 1000, (right - x) / 1000, (bottom - y) / 1000, (top - y) / 1000


def _mark(axis: Axes, place: tuple[float, float] | None) -> None:
    if place is not None:
        axis.plot(0, 0, "^", color="white", markeredgecolor="black", markersize=8)


def _moisture_bar(figure: Figure, drawn: Any, axes: Any, *, words: str) -> None:
    label = f"{words} [{MOISTURE}]"
    figure.colorbar(drawn, ax=list(axes), label=label, shrink=0.8, extend="both")


def _axis_words(figure: Figure, place: tuple[float, float] | None) -> None:
    origin = "of the station" if place is not None else "of the corner"
    figure.supxlabel(f"east {origin} [km]", fontsize="medium")
    figure.supylabel(f"north {origin} [km]", fontsize="medium")


# Is the map right each day: skill across stations by date, and its static and dynamic parts.

PART_LOOKS: dict[str, dict[str, Any]] = {
    "all": {"color": "black", "linewidth": 1.6, "marker": "."},
    "static": {"color": style.COLOURS[1], "linewidth": 1.2, "marker": "", "linestyle": "--"},
    "dynamic": {"color": style.COLOURS[0], "linewidth": 1.2, "marker": ""},
}
PART_WORDS = {"all": "all", "static": "static part (places)", "dynamic": "dynamic part (days)"}
SQUARES = ("bias_m3_m3", "ubrmse_static_m3_m3", "ubrmse_dynamic_m3_m3")
SQUARE_WORDS = ("bias²", "static ubRMSE² (places)", "dynamic ubRMSE² (days)")
R_ENDS = ("r_lower", "r_upper")
CORRELATIONS = ("r", "r_static", "r_dynamic")


def spatial_skill(
    parts: Mapping[str, pd.DataFrame] | pd.DataFrame, *, metric: str = "r", title: str = ""
) -> Figure:
    """A score across the stations of each date over time, one panel a model, with its parts.

    The band is R's interval. No line crosses a gap of more than 15 days (three dates where dates
    are longer than five days); dates with too few stations are ticks at the bottom.

    Parameters
    ----------
    parts : {"all": ..., "static": ..., "dynamic": ...} from ``metrics.spatial_scores`` with that
        ``part``, any of them; or one table
    metric : "r", "ubrmse_m3_m3", "rmse_m3_m3" or "bias_m3_m3"
    """
    tables = {"all": parts} if isinstance(parts, pd.DataFrame) else dict(parts)
    for table in tables.values():
        style.need(table, ["date", metric, "n_stations", "status"], maker="metrics.spatial_scores")
    if not any(table[metric].notna().any() for table in tables.values()):
        words = {w for t in tables.values() for w in t["status"].astype("str")}
        why = "; ".join(sorted(words)[:3]) or "the table is empty"
        return style.nothing(f"no date has a score ({why})", title=title)
    names = {key: style.names_of(table) for key, table in tables.items()}
    models = list(dict.fromkeys(name for column in names.values() for name in column))
    figure, axes = style.panels(
        len(models), columns=1, size=(7.6, 1.75), aside=2, sharex=True, sharey=True
    )
    for axis, model in zip(axes, models, strict=True):
        for key, table in tables.items():
            _dates(axis, table[names[key] == model].sort_values("date"), key=key, metric=metric)
        axis.set_title(
            f"{style.wrapped(model, letters=56, lines=1)}, across the stations of each date",
            loc="left",
            fontsize="medium",
        )
        if metric != "r":
            axis.axhline(0, color="0.4", linewidth=0.8)
        style.quiet_grid(axis)
    _date_axis(axes[-1])
    figure.supylabel(style.label(metric), fontsize="medium")
    style.aside(figure)
    style.head(figure, title)
    return figure


def _date_axis(axis: Axes) -> None:
    locator = AutoDateLocator()
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axis.set_xlabel("date [UTC]")


def _dates(axis: Axes, rows: pd.DataFrame, *, key: str, metric: str) -> None:
    """One part's line with gaps, its band, and ticks for dates without a score."""
    known = rows[rows[metric].notna()]
    lost = rows.loc[rows[metric].isna(), "date"]
    look = PART_LOOKS.get(key, {"color": style.COLOURS[2]})
    if key == "all" and len(lost):
        axis.plot(lost, np.full(len(lost), 0.02), "|", color="0.5", markersize=6,
                  transform=axis.get_xaxis_transform(), label="too few stations")  # fmt: skip
    if known.empty:
        return
    time = known["date"].to_numpy()
    step = np.median(np.diff(time)) if len(time) > 1 else np.timedelta64(0, "D")
    longest = max(np.timedelta64(GAP_DAYS, "D"), 3 * step)
    cut = np.flatnonzero(np.diff(time) > longest) + 1
    x = np.insert(time, cut, time[cut])
    n = known["n_stations"].median()
    words = PART_WORDS.get(key, key)
    words += f"\n(about {n:.0f} stations a date)" if key == "all" else ""
    axis.plot(x, np.insert(known[metric].to_numpy(float), cut, np.nan), label=words, **look)
    if metric == "r" and key == "all":
        low, high = (np.insert(known[e].to_numpy(float), cut, np.nan) for e in R_ENDS)
        axis.fill_between(x, low, high, color="0.5", alpha=0.25, linewidth=0, label="95 % of all")


def error_parts(table: pd.DataFrame, *, title: str = "") -> Figure:
    """The mean square error of each model in its exact parts, and R of the parts with intervals.

    Parameters
    ----------
    table : from ``metrics.spatial_parts``
    """
    columns = ["metric", "value", "lower", "upper", "n_stations", "status"]
    style.need(table, columns, maker="metrics.spatial_parts")
    rows = table.assign(name=style.names_of(table))
    wide = rows.pivot_table(index="name", columns="metric", values="value", sort=False)
    if not set(SQUARES) <= set(wide.columns):
        return style.nothing("no station-date has a finite pair", title=title)
    names = list(wide.index)
    size = (3.9, 1.1 + 0.45 * len(names))
    figure, (left, right) = style.panels(2, columns=2, size=size, aside=2, sharey=True)
    _squares(left, wide, names=names)
    _correlations(right, rows, names=names)
    counts = rows.groupby("name", sort=False)["n_stations"].max()
    left.set_yticks(
        range(len(names)),
        [
            f"{style.wrapped(mark_small([n], [counts[n]])[0], lines=2)} ({counts[n]:.0f})"
            for n in names
        ],
    )
    left.set_ylabel("model (stations)")
    left.set_ylim(len(names) - 0.5, -0.5)
    for axis in (left, right):
        style.quiet_grid(axis, "x")
    style.aside(figure)
    style.head(figure, title)
    return figure


def _squares(left: Axes, wide: pd.DataFrame, *, names: list[str]) -> None:
    """Bars of the parts, in 1e-4, and the RMSE at their end."""
    start = np.zeros(len(names))
    shades = (style.COLOURS[4], style.COLOURS[1], style.COLOURS[0])
    for metric, words, colour in zip(SQUARES, SQUARE_WORDS, shades, strict=True):
        square = 1e4 * wide[metric].to_numpy(float) ** 2
        left.barh(range(len(names)), square, left=start, height=0.55, color=colour, label=words)
        start = start + square
    for i, rmse in enumerate(wide["rmse_m3_m3"]):
        left.text(start[i], i, f" RMSE {rmse:.3f}", va="center", fontsize="small")
    left.set_xlim(0, 1.5 * max(float(np.nanmax(start)), 1e-6))
    left.set_xlabel(f"mean square error [10⁻⁴ ({style.MOISTURE})²]")


def _correlations(axis: Axes, rows: pd.DataFrame, *, names: list[str]) -> None:
    words = ("R, all", "R, static part (places)", "R, dynamic part (days)")
    for k, (metric, word) in enumerate(zip(CORRELATIONS, words, strict=True)):
        one = rows[rows["metric"] == metric].set_index("name").reindex(names)
        colour = ("black", style.COLOURS[1], style.COLOURS[0])[k]
        axis.errorbar(
            one["value"], np.arange(len(names)) + 0.2 * (k - 1), xerr=style.whiskers(one),
            fmt=style.MARKERS[k], color=colour, capsize=2.5, markersize=5, label=word,
        )  # fmt: skip
    axis.set_xlabel(style.label("r") + ", 95 %")

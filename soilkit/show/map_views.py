"""A map for people: one page, the difference of two days, a cell through time, a short film.

Each function takes a map of ``models.maps``, of (y, x) or (time, y, x), and says "synthetic" where
the map's own comment does.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib.patheffects as effects
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib import colormaps
from matplotlib import pyplot as plt
from matplotlib.animation import PillowWriter
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.patches import Patch, PathPatch, Rectangle
from matplotlib.path import Path as Outline
from matplotlib.ticker import MaxNLocator
from pyproj import Geod

from soilkit import grids
from soilkit.contracts import Grid
from soilkit.errors import ContractError
from soilkit.files import temporary_folder, write_whole
from soilkit.show.plots import style
from soilkit.show.plots.outlines import BORDER, COAST, lines_in
from soilkit.show.plots.region_maps import (
    ERROR,
    WET,
    deviation_words,
    moisture_range,
    with_deviation,
)

MOISTURE, SPREAD, VALIDITY = "soil_moisture", "soil_moisture_std", "validity"
MISSING_COLOUR, VALID_COLOUR = "0.82", "#f4f1e6"
REASON_COLOURS = {
    "edge": "#b8b8b8", "cloud": "#9ecbe8", "water": "#0072B2", "snow_or_frozen": "#CC79A7",
    "radar_shadow": "#555555", "outside_applicability": "#E69F00", "no_source": "#D55E00",
    "no_value": "#b8b8b8",
}  # fmt: skip
COLOURS_OF = {MOISTURE: WET, SPREAD: "OrRd"}
DISTANCE = "applicability"
SHARE_COLOURS = "Greys"
LEAST_CHANGE = 0.01  # m3 m-3, that a scale of colours spans
NO_LIMITS = (0.0, 0.5)  # m3 m-3, of a map without a value
N_COLOURS = 24  # of a film: a GIF has 256 in all
MOST_DAYS = 6  # side by side on a page
SEA, LAND = "#dcebf5", "#f4f1e6"
OUTLINES_FROM_M = 150_000.0  # a side of a region that outlines of 1:50 million are fine enough for
WINDOWS_DEG = (1.5, 3.0, 6.0, 12.0, 24.0)  # half the height of the small map of the place
SMALL = 0.05  # of the small map's height: a place that wants a ring around it
NEAR_DEG = 2.0  # beyond a map's edge, to which outlines are drawn in its projection
LEAST_POINTS = 150  # of outlines, from which a place is recognised
WORDS_WIDTH, LINE = 42, 0.078  # letters; of the panel's height
AGE = "_age_hours"
HALO = [effects.withStroke(linewidth=2.5, foreground="white")]


def map_page(
    dataset: xr.Dataset, *, stations: pd.DataFrame | None = None, expected_error: str = "",
    title: str = "",
) -> Figure:  # fmt: skip
    """A map on one screen: the estimate, how sure it is, where not to believe it, and where it is.

    Grey cells have no value, hatched ones a value that a flag warns of. Of several days at most six
    stand side by side, evenly chosen, on one scale; the standard deviation is then their mean, and
    the flags become the share of all days on which one is set. The scale bar counts metres on the
    ground, the arrow points to true north.

    Parameters
    ----------
    dataset : map with ``soil_moisture`` [m3 m-3] and, where it has them, ``soil_moisture_std``,
        ``validity`` (CF flags) and ``<source>_age_hours``
    stations : table with ``latitude`` and ``longitude``, degrees; those on the map are marked
    expected_error : what is known of the map's error, in words with number, unit and data
    title : by default that of the map
    """
    days, grid = days_of(dataset), grid_of(dataset)
    figure = plt.figure(figsize=(12.5, 6.9), layout="constrained")
    halves: Any = figure.subfigures(1, 2, width_ratios=[1.2, 1])
    left, right = halves
    shown = days.isel(time=np.unique(np.linspace(0, days.sizes["time"] - 1, MOST_DAYS).round())
                      .astype(int))  # fmt: skip
    _moisture_panels(left, shown, grid, stations=stations)
    axes = right.subplots(2, 2, height_ratios=[1.6, 1])
    _spread_panel(axes[0, 0], days, grid)
    _validity_panel(axes[0, 1], days, grid)
    _locator(axes[1, 0], grid, is_synthetic=_is_synthetic(dataset))
    _words_panel(axes[1, 1], days, expected_error=expected_error)
    note = "Grey: no value. Hatched: a value with a flag. A cell may have several flags."
    note += " Outlines: Natural Earth."
    right.supxlabel(note, fontsize="x-small", color="0.4")
    return style.head(figure, title or title_of(dataset))


def difference_of(dataset: xr.Dataset, *, first: Any, second: Any) -> Figure:
    """Two days of a map on one scale, and the second minus the first: blue has become wetter.

    ``first`` and ``second`` are times; the map's nearest ones are taken.
    """
    grid, days = grid_of(dataset), days_of(dataset)
    earlier, later = (days.sel(time=t, method="nearest") for t in (first, second))
    change = later[MOISTURE].values - earlier[MOISTURE].values
    limits = limits_of(earlier[MOISTURE], later[MOISTURE])
    known = np.abs(change[np.isfinite(change)])
    most = max(float(np.percentile(known, 99)) if len(known) else 0.0, LEAST_CHANGE)
    figure, axes = style.panels(3, columns=3, size=(4, 3.9))
    for axis, day in zip(axes, (earlier, later), strict=False):
        drawn = _draw_map(axis, day[MOISTURE].values, grid, limits=limits)
        axis.set_title(day_words(day["time"].values))
    changed = _draw_map(axes[2], change, grid, limits=(-most, most), cmap=ERROR)
    axes[2].set_title("second − first")
    for k, axis in enumerate(axes):
        _furnish(axis, grid, n_ticks=2, arrow=k == 0)
    for part, image, words in ((axes[:2], drawn, "soil moisture"), (axes[2:], changed, "change")):
        figure.colorbar(image, ax=part, label=f"{words} [{style.MOISTURE}]", location="bottom",
                        extend="both", shrink=0.8)  # fmt: skip
    return style.head(figure, heading_of(dataset))


def cell_series(dataset: xr.Dataset, *, longitude: float, latitude: float) -> Figure:
    """The cell of a map that holds a point through time: estimate, standard deviation, flags.

    Raises ``ContractError`` when the point lies outside the map.
    """
    days, grid = days_of(dataset), grid_of(dataset)
    x, y = grids.transformer("EPSG:4326", grid.crs).transform(longitude, latitude)
    left, bottom, right, top = grid.bounds_m
    place = f"{_degrees(latitude, 'NS', 4)}, {_degrees(longitude, 'EW', 4)}"
    if not (left <= x <= right and bottom <= y <= top):
        raise ContractError(f"{place} lies outside the map. Choose a point on it.")
    cell = days.sel(x=x, y=y, method="nearest")
    time, moisture = cell["time"].values, cell[MOISTURE].values
    figure, axis = plt.subplots(figsize=(8, 2.8), layout="constrained")
    half = _spread(cell)
    if half is not None:
        spread = half.values
        look: dict[str, Any] = {"alpha": 0.25, "linewidth": 0, "label": f"± {half.name}"}
        axis.fill_between(
            time, moisture - spread, moisture + spread, color=style.COLOURS[0], **look
        )
    axis.plot(time, moisture, "o-", color=style.COLOURS[0], markersize=4, label="map")
    codes = cell[VALIDITY].values if VALIDITY in cell else np.isnan(moisture).astype(int)
    for name, bit in _reasons(days).items():
        at = time[(codes & bit) > 0]
        look = {"color": REASON_COLOURS.get(name, "0.3"), "clip_on": False, "markersize": 7}
        if len(at):
            axis.plot(at, np.zeros(len(at)), "s", transform=axis.get_xaxis_transform(),
                      label=name.replace("_", " "), **look)  # fmt: skip
    axis.set_ylabel(f"soil moisture [{style.MOISTURE}]")
    dates = AutoDateLocator(minticks=3, maxticks=8)
    axis.xaxis.set_major_locator(dates)
    axis.xaxis.set_major_formatter(ConciseDateFormatter(dates))
    style.quiet_grid(axis)
    synthetic = ", synthetic" if _is_synthetic(dataset) else ""
    title = f"{place}: one cell of {grid.pixel_size_m:g} m{synthetic}"
    return style.finish(figure, heading_of(dataset.assign_attrs(title=title)))


def layers_of(dataset: xr.Dataset) -> dict[str, str]:
    """What of a map is worth a picture, by name: moisture, its error, applicability and ages."""
    words = {
        MOISTURE: "soil moisture",
        SPREAD: "standard deviation",
        DISTANCE: "distance from training, 1 at the rim",
    }
    words |= {
        n: f"age of {n.removesuffix(AGE)}" for n in map(str, dataset.data_vars) if n.endswith(AGE)
    }
    return {name: of for name, of in words.items() if name in dataset and dataset[name].ndim >= 2}


def scale_of(name: str, values: Any) -> tuple[tuple[float, float], str, str]:
    """Ends, colours and unit of the colour scale of a layer; values (time, y, x) or (y, x)."""
    if name in COLOURS_OF:
        return limits_of(values), COLOURS_OF[name], style.MOISTURE
    known = np.asarray(values, float)
    known = known[np.isfinite(known)]
    least, most = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    unit = "hours" if name.endswith(AGE) else "1"
    return (least, max(most, least + LEAST_CHANGE)), "viridis", unit


def colour_scale(limits: tuple[float, float], cmap: str, *, words: str) -> Figure:
    """A colour bar alone, under words with their unit, for a map that has none."""
    figure, axis = plt.subplots(figsize=(5, 0.8), layout="constrained")
    colours = ScalarMappable(Normalize(*limits), cmap)
    figure.colorbar(colours, cax=axis, orientation="horizontal", extend="both", label=words)
    axis.ticklabel_format(axis="x", useOffset=False)  # "61.002", not "0.002 + 6.1e1"
    return figure


def animation(
    dataset: xr.Dataset, path: str | os.PathLike[str], *, frames_per_second: float = 1.0
) -> Path:
    """A map's days as a GIF on one colour scale, a frame a day, whole or not at all."""
    days, grid = days_of(dataset), grid_of(dataset)
    figure, axis = plt.subplots(figsize=(6.4, 5.6), layout="constrained")
    colours = {
        "limits": limits_of(days[MOISTURE]),
        "cmap": colormaps[WET].resampled(N_COLOURS),
    }
    drawn = _draw_map(axis, days[MOISTURE].values[0], grid, **colours)
    _furnish(axis, grid)
    figure.colorbar(drawn, ax=axis, label=f"soil moisture [{style.MOISTURE}]", extend="both")
    style.head(figure, heading_of(dataset))
    writer = PillowWriter(fps=frames_per_second)  # type: ignore[arg-type]
    with temporary_folder(path) as folder:
        whole = folder / "days.gif"
        with writer.saving(figure, str(whole), dpi=100):
            for values, time in zip(days[MOISTURE].values, days["time"].values, strict=True):
                drawn.set_data(values)
                axis.set_title(day_words(time))
                writer.grab_frame()
        plt.close(figure)
        return write_whole(path, lambda part: os.replace(whole, part))


# ---- what a map says of itself ------------------------------------------------------------------


def grid_of(dataset: xr.Dataset) -> Grid:
    """The cells of a map."""
    from soilkit.models.maps.windows import map_grid  # here: other pictures need not wait for torch

    return map_grid(dataset)


def days_of(dataset: xr.Dataset) -> xr.Dataset:
    """The map with a dimension of time, also where it is of one moment that it may not know."""
    if "time" in dataset.dims:
        return dataset
    known = (
        dataset
        if "time" in dataset.coords
        else dataset.assign_coords(time=np.datetime64("NaT", "us"))
    )
    return known.expand_dims("time")


def _is_synthetic(dataset: xr.Dataset) -> bool:
    return (
        "synthetic" in " ".join(str(dataset.attrs.get(k, "")) for k in ("comment", "title")).lower()
    )


def title_of(dataset: xr.Dataset) -> str:
    """What a map is called, and that it is synthetic where it is."""
    title = str(dataset.attrs.get("title") or "Surface soil moisture")
    return title if not _is_synthetic(dataset) or "ynthetic" in title else f"{title} (synthetic)"


def heading_of(dataset: xr.Dataset) -> str:
    """The title, and how far a dense map is from the exact one."""
    return with_deviation(title_of(dataset), dataset)


def day_words(time: Any) -> str:
    """A day in words, with its hour where it is not midnight; nothing where it is not known."""
    moment = pd.Timestamp(time)
    return "" if moment is pd.NaT else f"{moment:%Y-%m-%d %H:%M}".removesuffix(" 00:00")


def _degrees(value: float, sides: str, digits: int) -> str:
    return f"{abs(value):.{digits}f}° {sides[int(value < 0)]}"


def limits_of(*values: Any) -> tuple[float, float]:
    """The ends of one colour scale, also where no cell has a value or all have the same."""
    if not any(np.isfinite(np.asarray(one)).any() for one in values):
        return NO_LIMITS
    low, high = moisture_range(*values)
    return low, max(high, round(low + LEAST_CHANGE, 2))


def _reasons(days: xr.Dataset) -> dict[str, int]:
    """Names and bits of the flags; a map without flags has the one reason that it has no value."""
    if VALIDITY not in days:
        return {"no_value": 1}
    attrs = days[VALIDITY].attrs
    bits = np.atleast_1d(attrs["flag_masks"]).astype(int).tolist()
    return dict(zip(str(attrs["flag_meanings"]).split(), bits, strict=True))


def _spread(days: xr.Dataset) -> xr.DataArray | None:
    """Standard deviation, else half the width of the interval, by its name in words."""
    if SPREAD in days:
        return days[SPREAD].rename("standard deviation")
    lower, upper = (f"{MOISTURE}_{end}" for end in ("lower", "upper"))
    if lower not in days or upper not in days:
        return None
    return ((days[upper] - days[lower]) / 2).rename("half width of the interval")


def _codes(days: xr.Dataset) -> np.ndarray:
    """Flags (time, row, col)."""
    return days[VALIDITY].values if VALIDITY in days else days[MOISTURE].isnull().values.astype(int)


# ---- panels of the page -------------------------------------------------------------------------


def _moisture_panels(figure: Any, days: xr.Dataset, grid: Grid, *, stations: Any) -> None:
    n, limits = days.sizes["time"], limits_of(days[MOISTURE])
    across = 1 if n == 1 else 2 if n <= 4 else 3
    axes = figure.subplots(-(-n // across), across, squeeze=False).ravel()
    flags, values = _codes(days), days[MOISTURE].values
    for k, (axis, time) in enumerate(zip(axes, days["time"].values, strict=False)):
        drawn = _draw_map(axis, values[k], grid, limits=limits)
        warned = (flags[k] > 0) & np.isfinite(values[k])
        if warned.any() and min(warned.shape) > 1:
            axis.contourf(grid.x_m, grid.y_m, warned, levels=[0.5, 1.5], colors="none",
                          hatches=["////" if n == 1 else "//////"])  # fmt: skip
        axis.set_title(day_words(time))
        _furnish(axis, grid, n_ticks=4 if n == 1 else 2, arrow=k == 0)
        _stations(axis, grid, stations)
    for axis in axes[n:]:
        axis.set_axis_off()
    words = f"soil moisture, about 0-5 cm [{style.MOISTURE}]"
    figure.colorbar(drawn, ax=axes.tolist(), label=words, location="bottom", extend="both",
                    shrink=0.7, aspect=40, ticks=MaxNLocator(5))  # fmt: skip


def _draw_map(axis: Axes, values: np.ndarray, grid: Grid, *, limits: Any, cmap: Any = WET) -> Any:
    left, bottom, right, top = grid.bounds_m
    axis.set_facecolor(MISSING_COLOUR)
    look: dict[str, Any] = {"vmin": limits[0], "vmax": limits[1], "interpolation": "nearest"}
    return axis.imshow(values, extent=(left, right, bottom, top), cmap=cmap, **look)


def _spread_panel(axis: Axes, days: xr.Dataset, grid: Grid) -> None:
    spread = _spread(days)
    if spread is None or not np.isfinite(spread.values).any():
        axis.text(0.5, 0.5, "The map states no\nstandard deviation.", ha="center", va="center")
        axis.set_axis_off()
        return
    look = {"limits": limits_of(spread.mean("time")), "cmap": COLOURS_OF[SPREAD]}
    drawn = _draw_map(axis, spread.mean("time").values, grid, **look)
    mean = ", mean" if days.sizes["time"] > 1 else ""
    axis.set_title(f"{spread.name}{mean}", fontsize="medium")
    axis.set(xticks=[], yticks=[], anchor="N")
    _bar_below(axis, drawn, f"[{style.MOISTURE}]", extend="both")


def _validity_panel(axis: Axes, days: xr.Dataset, grid: Grid) -> None:
    """The reasons not to believe a map of one day; of several, the share of days with a reason."""
    codes, reasons = _codes(days), _reasons(days)  # (time, row, col)
    title = "where not to believe it" if VALIDITY in days else "where it has a value; no flags"
    axis.set_title(title, fontsize="medium")
    axis.set(xticks=[], yticks=[], anchor="N")
    if len(codes) > 1:
        share = 100 * (codes > 0).mean(axis=0)
        drawn = _draw_map(axis, share, grid, limits=(0, 100), cmap=SHARE_COLOURS)
        _bar_below(axis, drawn, "[% of days]")
        return
    good = "valid" if VALIDITY in days else "a_value"
    colours = {good: VALID_COLOUR} | {n: REASON_COLOURS.get(n, "0.3") for n in reasons}
    number = np.zeros(codes.shape[1:], int)
    for k, bit in reversed([*enumerate(reasons.values(), start=1)]):
        number[(codes[0] & bit) > 0] = k  # the first of several reasons is drawn
    look = {"limits": (-0.5, len(reasons) + 0.5), "cmap": ListedColormap([*colours.values()])}
    _draw_map(axis, number, grid, **look)
    handles = [
        Patch(facecolor=colours[name], edgecolor="0.6", label=f"{name.replace('_', ' ')}  {part}")
        for name, part in _percents(days).items()
    ]
    axis.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=2,
                fontsize="small", frameon=False, columnspacing=1.0, handlelength=1.0)  # fmt: skip


def _bar_below(axis: Axes, drawn: Any, words: str, **look: Any) -> None:
    """A bar of colours close below a picture, however high its panel is."""
    place = axis.inset_axes((0.1, -0.1, 0.8, 0.05))
    bar = axis.figure.colorbar(drawn, cax=place, orientation="horizontal", **look)
    bar.locator = MaxNLocator(3)
    bar.set_label(words, fontsize="small")
    bar.ax.tick_params(labelsize="small")


def _percents(days: xr.Dataset) -> dict[str, str]:
    """How much of the cells and days is valid, and how much each reason takes."""
    from soilkit.models.maps.validity import reason_shares  # here, as ``map_grid``

    missing = float(days[MOISTURE].isnull().mean())
    plain = {"a_value": 1 - missing, "no_value": missing}
    shares = reason_shares(days).items() if VALIDITY in days else plain.items()
    return {
        str(n): f"{100 * v:.0f} %" if v >= 0.005 else "< 1 %" for n, v in shares if v > 0
    }  # fmt: skip


def _words_panel(axis: Axes, days: xr.Dataset, *, expected_error: str) -> None:
    """What is known of the map's error and of its inputs, in words."""
    axis.set_axis_off()
    height = 1.0
    for name, text in _knowledge(days, expected_error).items():
        text = fill(text, WORDS_WIDTH)
        axis.text(0, height, name, va="top", fontsize="small", weight="bold")
        axis.text(0, height - LINE, text, va="top", fontsize="small", linespacing=1.2)
        height -= LINE * (text.count("\n") + 2.4)


def _knowledge(days: xr.Dataset, expected_error: str) -> dict[str, str]:
    """What a page says beside its pictures, {heading: text}."""
    attrs, moisture = days.attrs, days[MOISTURE]
    half = f"± {attrs.get('interval_half_width_m3_m3', np.nan):.3f} {style.MOISTURE} holds"
    interval = f"{half} {attrs['interval']}" if "interval" in attrs else ""
    words = {"Error": "; ".join(filter(None, (expected_error, interval)))}
    words["Error"] = words["Error"] or "not known: this map was not held against stations"
    if deviation := deviation_words(days):
        words["Dense way less the exact one"] = deviation
    if moisture.notnull().any():
        mean, spread = float(moisture.mean()), float(moisture.std(("y", "x")).mean())
        words["Map"] = f"mean {mean:.3f}, spatial SD {spread:.3f} {style.MOISTURE}"
    if days.sizes["time"] > 1:
        parts = (f"{name} {part}" for name, part in _percents(days).items())
        words[f"Cells on {days.sizes['time']} days"] = _listed(parts)
    unknown = str(days[VALIDITY].attrs.get("not_checked", "")) if VALIDITY in days else ""
    if unknown:
        words["Not looked for"] = _listed(unknown.split())
    ages = {str(k): float(days[k].median()) for k in days.data_vars if str(k).endswith(AGE)}
    if ages:
        times = (f"{h:.0f} h" if h < 48 else f"{h / 24:.0f} d" for h in ages.values())
        pairs = zip(ages, times, strict=True)
        words["Median age of its inputs"] = _listed(f"{k.removesuffix(AGE)} {t}" for k, t in pairs)
    return words


def _listed(parts: Iterable[str]) -> str:
    """Parts with commas between them, none of which a line's end cuts."""
    return ", ".join(part.replace("_", " ").replace(" ", "\u00a0") for part in parts)


# ---- what every map needs: ticks, scale, north, stations ----------------------------------------


def _furnish(axis: Axes, grid: Grid, *, n_ticks: int = 4, arrow: bool = True) -> None:
    """Degrees at the frame, a scale bar, an arrow to the north; outlines where they are sharp."""
    left, bottom, right, top = grid.bounds_m
    if min(right - left, top - bottom) >= OUTLINES_FROM_M:
        _outlines_on(axis, grid)
    _degree_ticks(axis, grid, n=n_ticks)
    axis.tick_params(labelsize="small")
    to_degrees = grids.transformer(grid.crs, "EPSG:4326")
    x, y = (left + right) / 2, (bottom + top) / 2
    (west, east), (low, high) = to_degrees.transform([x, x + 1000], [y, y])
    metres = Geod(ellps="WGS84").inv(west, low, east, high)[2] / 1000  # on the ground for one of it
    length = _nice((right - left) * metres / 4)
    start, height = left + 0.05 * (right - left), bottom + 0.05 * (top - bottom)
    (bar,) = axis.plot([start, start + length / metres], [height, height], color="black",
                       linewidth=3, solid_capstyle="butt")  # fmt: skip
    bar.set_path_effects([effects.withStroke(linewidth=5, foreground="white")])
    words = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    axis.text(start, height + 0.03 * (top - bottom), words, fontsize="small", path_effects=HALO)
    if arrow:
        longitude, latitude = to_degrees.transform(x, y)
        back = grids.transformer("EPSG:4326", grid.crs)
        step = np.subtract(back.transform(longitude, latitude + 0.001), (x, y))
        east, north = 0.12 * step / np.hypot(*step)
        tip = 0.93, 0.97
        axis.annotate("N", tip, (tip[0] - east, tip[1] - north), "axes fraction", ha="center",
                      va="center",
                      fontsize="small", path_effects=HALO,
                      arrowprops={"arrowstyle": "-|>", "color": "black"})  # fmt: skip
    axis.set(xlim=(left, right), ylim=(bottom, top))


def _nice(length: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is no longer.

    Examples
    --------
    >>> _nice(2600.0), _nice(99.0)
    (2000.0, 50.0)
    """
    unit = 10.0 ** np.floor(np.log10(length))
    return float(max(n * unit for n in (1, 2, 5) if n * unit <= length))


def _degree_ticks(axis: Axes, grid: Grid, *, n: int) -> None:
    """Longitudes along the lower edge, latitudes along the left one."""
    left, bottom, right, top = grid.bounds_m
    to_degrees = grids.transformer(grid.crs, "EPSG:4326")
    along, up = np.linspace(left, right, 65), np.linspace(bottom, top, 65)
    longitude = np.unwrap(to_degrees.transform(along, np.full(65, bottom))[0], period=360)
    latitude = np.asarray(to_degrees.transform(np.full(65, left), up)[1])
    for which, degrees, metres, sides in (("x", longitude, along, "EW"), ("y", latitude, up, "NS")):
        ticks = MaxNLocator(n, steps=[1, 2, 5, 10]).tick_values(degrees.min(), degrees.max())
        ticks = ticks[(ticks >= degrees.min()) & (ticks <= degrees.max())]
        step = np.diff(ticks).min() if len(ticks) > 1 else 0.01
        digits = max(0, int(np.ceil(-np.log10(step) - 1e-9)))
        words = [_degrees((t + 180) % 360 - 180, sides, digits) for t in ticks]
        order = np.argsort(degrees)
        places = np.interp(ticks, degrees[order], metres[order])
        getattr(axis, f"set_{which}ticks")(places, words)


def _stations(axis: Axes, grid: Grid, stations: pd.DataFrame | None) -> None:
    if stations is None:
        return
    places = stations.dropna(subset=["latitude", "longitude"])
    to_grid = grids.transformer("EPSG:4326", grid.crs)
    x, y = to_grid.transform(places["longitude"].to_numpy(), places["latitude"].to_numpy())
    left, bottom, right, top = grid.bounds_m
    on_map = (x >= left) & (x <= right) & (y >= bottom) & (y <= top)
    axis.plot(x[on_map], y[on_map], "^", color="white", markeredgecolor="black", markersize=7)


# ---- outlines -----------------------------------------------------------------------------------


def _outlines_on(axis: Axes, grid: Grid) -> None:
    """Coasts and borders over a large map, in its own projection."""
    left, bottom, right, top = grid.bounds_m
    window = grids.transformer(grid.crs, "EPSG:4326").transform_bounds(left, bottom, right, top)
    west, south, east, north = window
    window = (west, south, east + 360 if east < west else east, north)
    low, high = np.array(window[:2]), np.array(window[2:])
    to_grid = grids.transformer("EPSG:4326", grid.crs)
    for kind, colour in (("land", COAST), ("border", BORDER)):
        for line in lines_in(kind, window):
            near = np.all((line >= low - NEAR_DEG) & (line <= high + NEAR_DEG), axis=1)
            x, y = to_grid.transform(*np.where(near[:, None], line, np.nan).T)
            axis.plot(np.where(near, x, np.nan), np.where(near, y, np.nan), color=colour,
                      linewidth=1.0)  # fmt: skip


def _locator(axis: Axes, grid: Grid, *, is_synthetic: bool) -> None:
    """Where on Earth the map lies: coasts and borders around it, as wide as tells them apart."""
    left, bottom, right, top = grid.bounds_m
    to_degrees = grids.transformer(grid.crs, "EPSG:4326")
    longitude, latitude = to_degrees.transform((left + right) / 2, (bottom + top) / 2)
    size = (top - bottom) / 111_000
    for half in WINDOWS_DEG:
        wide = half / max(np.cos(np.radians(latitude)), 0.1) * 1.25
        window = (longitude - wide, latitude - half, longitude + wide, latitude + half)
        lines = {kind: [*lines_in(kind, window)] for kind in ("land", "border")}
        low, high = np.array(window[:2]), np.array(window[2:])
        points = sum(
            int(((line > low) & (line < high)).all(1).sum()) for each in lines.values()
            for line in each
        )  # fmt: skip
        if points >= LEAST_POINTS and half > 3 * size:
            break
    axis.set_facecolor(SEA)
    if lines["land"]:
        shape = Outline.make_compound_path(*(Outline(line) for line in lines["land"]))
        axis.add_patch(PathPatch(shape, facecolor=LAND, edgecolor=COAST, linewidth=0.7))
    for line in lines["border"]:
        axis.plot(*line.T, color=BORDER, linewidth=0.6, linestyle="--")
    side = size / np.cos(np.radians(latitude))
    red = style.COLOURS[1]
    axis.add_patch(Rectangle((longitude - side / 2, latitude - size / 2), side, size, fill=False,
                             edgecolor=red))  # fmt: skip
    if size < SMALL * half:
        axis.plot(longitude, latitude, "o", color="none", markeredgecolor=red, markersize=9)
    axis.set(xlim=window[::2], ylim=window[1::2], xticks=[], yticks=[])
    axis.set_aspect(1 / max(np.cos(np.radians(latitude)), 0.1))
    digits = 2 if size < 1 else 0
    place = f"{_degrees(latitude, 'NS', digits)}, {_degrees(longitude, 'EW', digits)}"
    axis.set_title(place + ("\n(synthetic ground)" if is_synthetic else ""), fontsize="small")

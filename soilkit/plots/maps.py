"""Maps beside the truth, the layers that they were made of, and pictures to lay over a web map."""

import base64
import io
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps, image
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from soilkit import grids, sources, units
from soilkit.contracts import Chip, Grid
from soilkit.export import rasters
from soilkit.plots.places import TRUE_COLOUR, true_colour
from soilkit.plots.style import MOISTURE

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

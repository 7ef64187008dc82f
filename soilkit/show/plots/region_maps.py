"""Chips and maps: what a model looks at, what it draws, and the truth beside it."""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib import colormaps, image
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from soilkit import grids, sources, units
from soilkit.contracts import Chip, Grid
from soilkit.errors import UnknownNameError
from soilkit.export.antecedents import CLOUD_B2
from soilkit.export.features import cloudy
from soilkit.show.plots import style
from soilkit.show.plots.score_charts import draw_readings

WET, GREEN, ERROR = "YlGnBu", "YlGn", "RdBu"
TRUE_COLOUR, SOIL_COLOUR = ("B4", "B3", "B2"), ("sand", "silt", "clay")
MOST_SOIL_G_KG = 700.0  # of one fraction, the full brightness of its colour
SHADOW, WHITE = 0.6, 1e4  # stored number of a reflectance of 1
PICTURES = {"Sentinel-2 RGB": "sentinel2", "VV": "sentinel1", "VH": "sentinel1",
            "SoilGrids": "soilgrids"}  # fmt: skip
LOOKS = 4  # radar pixels a side that are averaged for the eye
MERCATOR = (  # a web map's, about a longitude
    "+proj=merc +a=6378137 +b=6378137 +lon_0={} +units=m +nadgrids=@null +no_defs"
)
AGE = "_age_hours"
MISSING_COLOUR = "0.75"
LOOKS_OF_UNITS = {
    "dB": "gray", "m3 m-3": WET, "mm": WET, "mm d-1": WET, "kg m-2": WET, "K": "inferno",
    "m": "cividis",
}  # fmt: skip
LEAST_SPAN = 0.02  # of a value, that a scale of colours covers
FILLS_GRID = 0.97  # of the pixels in the region: the rest is a turned box's rim
MOST_OVERLAY_PX = 2048  # a side of a picture that a web map can carry
MOST_PX, MOST_WORDS = 600, 16  # a side of a panel that is drawn; columns that have room for numbers


class Overlay(NamedTuple):
    """A picture for a web map: a PNG as ``data:`` URL, ((south, west), (north, east)) degrees."""

    url: str
    bounds: tuple[tuple[float, float], tuple[float, float]]


def moisture_range(*arrays: Any) -> tuple[float, float]:
    """One colour scale for several maps: their common 1st-99th percentile, rounded to 0.01."""
    values = np.concatenate([np.ravel(np.asarray(a, float)) for a in arrays])
    if not np.isfinite(values).any():  # all of it under clouds
        return 0.0, 0.5
    low, high = np.nanpercentile(values, [1, 99])
    return round(float(np.floor(low * 100)) / 100, 2), round(float(np.ceil(high * 100)) / 100, 2)


def map_and_truth(
    dataset: Any, truth: np.ndarray, *, title: str = "",
    place: tuple[float, float] | None = None, names: tuple[str, str] = ("model", "truth"),
) -> Figure:  # fmt: skip
    """A map beside the truth on one colour scale, and their difference; axes in km.

    Parameters
    ----------
    dataset : Dataset of ``maps.predict_map``
    truth : array (row, col) on the map's cells, m3 m-3
    place : (longitude, latitude), degrees, marked on all panels; the axes count from it
    names : what the first two panels are called
    """
    from soilkit.models.maps import map_grid  # here, so that other pictures need not wait for torch

    grid, moisture = map_grid(dataset), dataset["soil_moisture"].values
    difference = moisture - truth
    low, high = moisture_range(moisture, truth)
    most = max(float(np.nanpercentile(np.abs(difference), 99)), 0.01)
    wet: dict[str, Any] = {"cmap": WET, "vmin": low, "vmax": high}
    wrong: dict[str, Any] = {"cmap": ERROR, "vmin": -most, "vmax": most}
    layers = (
        (names[0], moisture, wet), (names[1], truth, wet),
        (f"{names[0]} − {names[1]}", difference, wrong),
    )  # fmt: skip
    figure, axes = style.panels(3, columns=3, size=(4, 3.5), sharex=True, sharey=True)
    extent = _extent_km(grid, place)
    for axis, (name, values, look) in zip(axes, layers, strict=True):
        axis.imshow(values, extent=extent, interpolation="nearest", **look)
        axis.set_title(name)
        _mark(axis, place)
    for part, words in ((axes[:2], "soil moisture"), (axes[2:], "difference")):
        words = f"{words} [{style.MOISTURE}]"
        figure.colorbar(part[-1].images[0], ax=part, label=words, shrink=0.8, extend="both")
    return _in_km(figure, place, title=with_deviation(title, dataset))


def with_deviation(title: str, dataset: Any) -> str:
    """A title, and how far a dense map is from the exact one."""
    words = deviation_words(dataset)
    return f"{title}; dense less exact: {words}" if words else title


def deviation_words(dataset: Any) -> str:
    """How far a dense map is from the exact one; nothing of another map."""
    n = int(dataset.attrs.get("dense_deviation_n_cells", 0))
    rms = float(dataset.attrs.get("dense_deviation_m3_m3", np.nan))
    return f"RMS {rms:.4f} {style.MOISTURE} at {n} cells" if n else ""


def chip_panel(chip: Chip, *, source: str, title: str = "") -> Figure:
    """The bands of one chip in physical units; optical chips in true colour first; axes in km.

    ``source``, a name in the catalogue, knows units and scales of the chip's stored values.
    """
    has_colour = set(TRUE_COLOUR) <= set(chip.bands)
    n = len(chip.bands) + has_colour
    figure, axes = style.panels(n, columns=4, size=(3.1, 2.7), sharex=True, sharey=True)
    x, y = (side * chip.grid.pixel_size_m / 2000 for side in (chip.grid.width, chip.grid.height))
    extent = (-x, x, -y, y)
    if has_colour:
        axes[0].imshow(true_colours([chip])[0], extent=extent)
        axes[0].set_title("true colour", fontsize="medium")
    for i, axis in enumerate(axes[has_colour:]):
        axis.set_title(_layer(axis, chip, i, source=source, extent=extent), fontsize="medium")
    return _in_km(figure, (0, 0), title=title)


def _layer(axis: Axes, chip: Chip, i: int, *, source: str, extent) -> str:
    """Draw one band in physical units and say what it is."""
    band = sources.get(source).band(chip.bands[i])
    values, is_radar = chip.values[i] * band.scale + band.offset, band.unit == "dB"
    known = np.isfinite(values)
    ground = _ground(chip, known=known) if source == "sentinel2" else known
    low, high = np.percentile(values[ground], [2, 98]) if ground.any() else (0.0, 1.0)
    drawn = axis.imshow(values, extent=extent, vmin=low, vmax=high,
                        cmap="gray" if is_radar else "viridis")  # fmt: skip
    axis.figure.colorbar(drawn, ax=axis, shrink=0.8, extend="both", location="bottom")
    return f"{band.name} [{band.unit}]"


def overlay(
    values: np.ndarray, grid: Grid, *, limits: tuple[float, float], cmap: str = WET
) -> Overlay:
    """Colour an array and warp it to Web Mercator, where a web map stretches pictures evenly.

    Parameters
    ----------
    values : array (row, col) on ``grid``; NaN becomes transparent
    limits : the values at the two ends of the colour scale
    cmap : name of a matplotlib colour map

    Returns
    -------
    Overlay, which needs no network; across the antimeridian its east is beyond 180 degrees
    """
    from soilkit.export import rasters  # here, so that other pictures need no rasterio

    left, bottom, right, top = grid.bounds_m
    to_degrees = grids.transformer(grid.crs, "EPSG:4326")
    longitude, _ = to_degrees.transform((left + right) / 2, (bottom + top) / 2)
    mercator = MERCATOR.format(longitude)  # no antimeridian cuts it
    left, bottom, right, top = grids.transformer(grid.crs, mercator).transform_bounds(
        *grid.bounds_m
    )
    size = max(grid.pixel_size_m / 4, (right - left) / MOST_OVERLAY_PX)
    height, width = int(np.ceil((top - bottom) / size)), int(np.ceil((right - left) / size))
    target = Grid(mercator, left, top, size, height, width)
    warped = rasters.reproject(values, grid, target=target, resampling="nearest")
    rgba = colormaps[cmap](Normalize(*limits)(np.nan_to_num(warped)), bytes=True)
    rgba[..., 3] = np.where(np.isfinite(warped), 255, 0)
    buffer = io.BytesIO()
    image.imsave(buffer, np.ascontiguousarray(rgba), format="png")
    left, bottom, right, top = target.bounds_m
    west, east = (longitude + 180 * x / grids.WEB_MERCATOR_EDGE_M for x in (left, right))
    back = grids.transformer(mercator, "EPSG:4326")
    _, (south, north) = back.transform([left, right], [bottom, top])
    url = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    return Overlay(url, ((south, west), (north, east)))


def _extent_km(grid: Grid, place: tuple[float, float] | None) -> tuple[float, float, float, float]:
    """Left, right, low and high, counted from the place, else from the south-west corner."""
    left, bottom, right, top = grid.bounds_m
    to_grid = grids.transformer("EPSG:4326", grid.crs)
    x, y = (left, bottom) if place is None else to_grid.transform(*place)
    return (left - x) / 1000, (right - x) / 1000, (bottom - y) / 1000, (top - y) / 1000


def _mark(axis: Axes, place: tuple[float, float] | None) -> None:
    if place is not None:
        axis.plot(0, 0, "^", color="white", markeredgecolor="black", markersize=8)


def _in_km(figure: Figure, place: Any, *, title: str) -> Figure:
    origin = "of the station" if place is not None else "of the corner"
    figure.supxlabel(f"east {origin} [km]", fontsize="medium")
    figure.supylabel(f"north {origin} [km]", fontsize="medium")
    return style.head(figure, title)


# What a cube holds, and what it lacks.


class _Picture(NamedTuple):
    """A layer as drawn: numbers (row, col) or RGBA, its look, and the names of its classes."""

    title: str
    values: np.ndarray
    look: dict[str, Any]
    classes: Sequence[str] = ()


def cube_panel(cube: Any, time: Any = None, *, title: str = "") -> Figure:
    """Every layer of a cube at one time, with its age; axes in km.

    Grey is missing, and a line bounds a region that leaves more than a rim of its grid. Optics
    stand in true colour and as NDVI, flags as cloud or none, radar in means of linear power over
    some 80 m.

    Parameters
    ----------
    cube : as ``cubes.build`` returns it or ``xarray.open_zarr`` opens it
    time : the cube's nearest time is shown; by default its last
    """
    step = max(1, max(cube.sizes["y"], cube.sizes["x"]) // MOST_PX)  # of a large one fewer pixels
    moment = cube.isel(time=-1) if time is None else cube.sel(time=time, method="nearest")
    drawn = moment.isel(y=slice(None, None, step), x=slice(None, None, step)).load()
    side_km, inside = _pixel_m(cube) / 1000, drawn["inside"].values == 1
    looks = min(max(1, round(0.08 / side_km / step)), *inside.shape)
    pictures = [
        p for row in sources.CATALOGUE for p in _pictures_of(drawn, row, looks=looks, step=step)
    ]
    shared: dict[str, Any] = {"sharex": True, "sharey": True, "layout": "compressed"}
    figure, axes = style.panels(len(pictures), columns=4, size=(3.1, 3.4), **shared)
    extent = (0, cube.sizes["x"] * side_km, 0, cube.sizes["y"] * side_km)
    for axis, one in zip(axes, pictures, strict=True):
        _draw(axis, one, inside=inside, extent=extent)
    return _in_km(figure, None, title=title)


def _draw(axis: Axes, one: _Picture, *, inside: np.ndarray, extent) -> None:
    """A picture with its scale, stretched to the region."""
    look, is_map = dict(one.look), one.values.ndim == 2
    is_cut = one.values.shape == inside.shape and inside.any()  # or smaller than half a pixel
    known = one.values[inside] if is_cut else one.values
    if is_map and "vmin" not in look and np.isfinite(known).any():
        low, high = np.nanpercentile(known, [2, 98])
        spare = max(0.0, LEAST_SPAN * abs(low) - (high - low)) / 2  # no drama out of a rounding
        look["vmin"], look["vmax"], is_map = low - spare, high + spare, not np.isclose(low, high)
    drawn = axis.imshow(one.values, extent=extent, interpolation="nearest", **look)
    axis.set_facecolor(MISSING_COLOUR)
    constant = "" if is_map or "vmin" not in look else f", {np.nanmax(known):.4g} everywhere"
    axis.set_title(one.title + constant, fontsize="small")
    if inside.mean() < FILLS_GRID and min(inside.shape) > 1:
        axis.contour(inside[::-1], [0.5], extent=extent, colors="black", linewidths=0.8)
    if is_map and np.isfinite(one.values).any():
        ends: dict[str, Any] = {"ticks": [*range(len(one.classes))]} if one.classes else {}
        ends = ends or {"extend": "both", "ticks": MaxNLocator(3)}
        bar = axis.figure.colorbar(drawn, ax=axis, shrink=0.8, location="bottom", **ends)
        if one.classes:
            bar.ax.set_xticklabels(one.classes, fontsize="x-small", rotation=20)


def _pixel_m(cube: Any) -> float:
    return float(cube["spatial_ref"].attrs["GeoTransform"].split()[1])


def _pictures_of(
    drawn: Any, source: sources.Source, *, looks: int, step: int
) -> Iterator[_Picture]:
    """The pictures of what a source has in a cube at one time."""
    values = {
        band.name: drawn[f"{source.name}_{band.name}"].values
        for band in source.bands
        if f"{source.name}_{band.name}" in drawn
    }
    age = drawn.get(f"{source.name}{AGE}")
    age_text = "\nstatic" if age is None else "\n" + _age_text(age.values / 24)
    if set(TRUE_COLOUR) <= set(values):
        picture = _colours_of_cube(values, age=None if age is None else age.values)
        yield _Picture(f"{source.name}: true colour{age_text}", picture, {})
    if {"B4", "B8"} <= set(values):
        red, infrared = values.pop("B4"), values.pop("B8")
        ndvi = (infrared - red) / (infrared + red)
        yield _Picture(f"{source.name}: NDVI [1]{age_text}", ndvi, {"cmap": GREEN})
        values = {name: one for name, one in values.items() if not name.startswith("B")}
    for name, one in values.items():
        band, attributes = source.band(name), drawn[f"{source.name}_{name}"].attrs
        is_radar = band.unit == "dB" and looks > 1
        means = f", {looks * step * _pixel_m(drawn):.0f} m means" if is_radar else ""
        one = _multilook(one, looks) if is_radar else one
        words = f"{source.name}: {{}}{means}{age_text}"
        yield _picture(band, one, title=words, attributes=attributes)


def _colours_of_cube(values: Mapping[str, np.ndarray], *, age: np.ndarray | None) -> np.ndarray:
    """Red, green, blue and opacity (row, col, 4); the haze of each scene is its own."""
    bands = np.stack([*values.values()])
    grid = Grid(grids.WEB_MERCATOR_CRS, 0.0, 0.0, 1.0, *bands.shape[1:])
    ages = np.zeros(bands.shape[1:]) if age is None else age
    parts = [np.where(ages == one, bands, np.nan) for one in np.unique(ages[np.isfinite(ages)])]
    colours = true_colours([Chip(part, tuple(values), grid) for part in parts])
    whole = sum(colours, np.zeros((*bands.shape[1:], 3)))
    return np.dstack([whole, np.isfinite(bands).all(axis=0)])


def _picture(
    band: sources.Band, values: np.ndarray, *, title: str, attributes: Mapping[str, Any]
) -> _Picture:
    """One band: numbers on a scale, classes by name or code, flags as cloud or none."""
    if band.cloud_bits:
        clouds = np.where(np.isfinite(values), cloudy(values, band), np.nan)
        look = {"cmap": colormaps["Blues_r"].resampled(2), "vmin": -0.5, "vmax": 1.5}
        return _Picture(title.format(f"{band.name}, clouds"), clouds, look, ("clear", "cloud"))
    if not band.continuous:
        codes = np.unique(values[np.isfinite(values)])
        numbers = np.where(np.isfinite(values), np.searchsorted(codes, values), np.nan)
        look = {"cmap": colormaps["tab20"].resampled(max(len(codes), 1)), "vmin": -0.5}
        look["vmax"] = len(codes) - 0.5
        meanings = str(attributes.get("flag_meanings", "")).split()
        names = dict(zip(attributes.get("flag_values", []), meanings, strict=True))
        classes = [names.get(code, f"{code:.0f}").replace("_", " ") for code in codes]
        return _Picture(title.format("classes"), numbers, look, classes)
    words = title.format(f"{band.name.replace('_', ' ')} [{band.unit}]")
    colours = GREEN if band.name == "NDVI" else LOOKS_OF_UNITS.get(band.unit, "viridis")
    return _Picture(words, values, {"cmap": colours})


def _age_text(days: np.ndarray) -> str:
    if not np.isfinite(days).any():
        return "none"
    low, high = np.nanmin(days), np.nanmax(days)
    return f"{low:.1f} d old" if high - low < 0.05 else f"{low:.1f} to {high:.1f} d old"


def cube_ages(cube: Any, *, title: str = "") -> Figure:
    """How old the dated layers of a cube are at its times, and how much of the region they lack.

    Rows are sources and columns times: the mean age of what is there, and the share of the region's
    pixels that hold no value or, where flags tell, a cloud.
    """
    names = [str(name).removesuffix(AGE) for name in cube.data_vars if str(name).endswith(AGE)]
    inside, table = cube["inside"] == 1, np.full((2, len(names), cube.sizes["time"]), np.nan)
    inside = inside if inside.any() else ~inside  # smaller than half a pixel
    for row, source in enumerate(map(sources.get, names)):
        stored = {band: f"{source.name}_{band.name}" for band in source.bands}
        layers = {band: cube[name] for band, name in stored.items() if name in cube}
        lacks = next(iter(layers.values())).isnull()
        for band, layer in layers.items():
            mask = sum(1 << bit for bit in band.cloud_bits)
            lacks = lacks | ((layer.fillna(0).astype(int) & mask) != 0) if mask else lacks
        table[0, row] = cube[f"{source.name}{AGE}"].where(inside).mean(("y", "x")) / 24
        table[1, row] = 100 * lacks.where(inside).mean(("y", "x"))
    figure, axes = style.panels(2, columns=1, size=(9.5, 0.8 + 0.3 * len(names)), sharex=True)
    kinds = (("mean age [d]", "YlOrBr", None), ("missing or cloud [% of the region]", "Greys", 100))
    for axis, values, (words, colours, most) in zip(axes, table, kinds, strict=True):
        top = most or max([1.0, *values[np.isfinite(values)]])
        drawn = axis.imshow(values, aspect="auto", cmap=colours, vmin=0, vmax=top)
        figure.colorbar(drawn, ax=axis, pad=0.01)
        axis.set(yticks=range(len(names)), yticklabels=names)
        axis.set_title(words, fontsize="medium")
        for (row, k), value in np.ndenumerate(values):
            text = "none" if np.isnan(value) else f"{value:.{1 if most is None else 0}f}"
            dark = np.nan_to_num(drawn.norm(value)) > 0.6
            if len(values[0]) <= MOST_WORDS:
                axis.text(k, row, text, ha="center", va="center", fontsize="small",
                          color="white" if dark else "black")  # fmt: skip
    axes[0].tick_params(labelbottom=False)
    every = -(-table.shape[2] // MOST_WORDS)
    days = [f"{day:%Y-%m-%d}" for day in pd.DatetimeIndex(cube["time"].values)[::every]]
    axes[1].set_xticks(range(0, table.shape[2], every), days, rotation=30, ha="right")
    return style.head(figure, title)


# What the satellites saw at the samples.


def imagery_series(
    observations: pd.DataFrame, samples: pd.DataFrame, *, store: Any, sensor_id: str,
    n_scenes: int = 8, title: str = "",
) -> Figure:  # fmt: skip
    """A sensor's readings over time, and under them what the satellites saw at some of its samples.

    Optical chips share one stretch after their haze is taken off, radar chips one grey scale after
    averaging 4 x 4 pixels in linear power, so that panels compare. Raises ``UnknownNameError`` if
    the sensor has no sample.

    Parameters
    ----------
    observations, samples : tables of those contracts
    store : open chip store with sentinel1 and sentinel2
    sensor_id : the sensor to draw
    n_scenes : int, samples shown, evenly spread over the record
    """
    mine = samples[samples["sensor_id"].astype("str") == sensor_id].sort_values("time")
    if mine.empty:
        raise UnknownNameError(f"No sample of a sensor {sensor_id!r}.")
    rows = mine.iloc[np.unique(np.linspace(0, len(mine) - 1, n_scenes).round().astype(int))]
    readings = observations[observations["sensor_id"].astype("str") == sensor_id]
    figure = plt.figure(figsize=(11, 5.6), layout="constrained")
    cells = figure.add_gridspec(3, len(rows), height_ratios=[1.7, 1, 1])
    series = figure.add_subplot(cells[0, :])
    draw_readings(series, readings, samples=mine)
    axes = [[figure.add_subplot(cells[i, k]) for k in range(len(rows))] for i in (1, 2)]
    _pictures(axes, rows, store, kinds=("Sentinel-2 RGB", "VV"))
    for k, (_, row) in enumerate(rows.iterrows()):
        letter, moisture = chr(ord("a") + k), row["soil_moisture_m3_m3"]
        series.annotate(letter, (row["time"], moisture), xytext=(0, 6), ha="center",
                        textcoords="offset points")  # fmt: skip
        words = f"{letter} · {row['time']:%d %b}\n{moisture:.2f} {style.MOISTURE}"
        axes[0][k].set_title(words, fontsize="small")
    return style.head(figure, title or sensor_id)


def sample_gallery(samples: pd.DataFrame, store: Any, *, title: str = "") -> Figure:
    """Inputs and label of each sample, one column a sample: optics, VV, VH, soil; of one, in a row.

    Soil is a false colour of sand, silt and clay as red, green and blue. ``store`` is an open chip
    store with sentinel1, sentinel2 and soilgrids.
    """
    n = len(samples)
    columns, size, aside = (n, (1.4, 1.5), 0.8) if n > 1 else (4, (2.4, 2.4), 0.0)
    figure, axes = style.panels(4 * n, columns=columns, size=size, aside=aside)
    lines = [axes[n * k : n * (k + 1)] for k in range(4)]
    _pictures(lines, samples, store, kinds=tuple(PICTURES))
    for axis, moisture in zip(lines[0], samples["soil_moisture_m3_m3"], strict=True):
        axis.set_title(f"{moisture:.3f}\n{style.MOISTURE}", fontsize="small")
    return style.head(figure, title)


def _pictures(axes: Sequence[Sequence[Axes]], samples, store, *, kinds: Sequence[str]) -> None:
    """A row of axes a kind of picture, a column a sample; each row on one scale."""
    for line, kind in zip(axes, kinds, strict=True):
        source = PICTURES[kind]
        look: dict[str, Any] = {}
        chips = [
            store.read(source, str(row.get(f"{source}_scene", "static")), str(row["station_id"]))
            for _, row in samples.iterrows()
        ]
        if source == "sentinel2":
            images = true_colours(chips)
        elif source == "soilgrids":
            fractions = [_bands(chip, SOIL_COLOUR) / MOST_SOIL_G_KG for chip in chips]
            images = [np.nan_to_num(np.clip(rgb, 0, 1)) for rgb in fractions]
        else:
            images = [_multilook(chip.values[chip.bands.index(kind)], LOOKS) for chip in chips]
            low, high = np.nanpercentile(np.stack(images), [1, 99])
            look = {"cmap": "gray", "vmin": low, "vmax": high}
        for axis, picture in zip(line, images, strict=True):
            axis.imshow(picture, **look)
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(kind, fontsize="small")


def _bands(chip: Chip, names: Sequence[str]) -> np.ndarray:
    return np.stack([chip.values[chip.bands.index(n)] for n in names], axis=-1)  # (row, col, band)


def true_colours(chips: Sequence[Chip]) -> list[np.ndarray]:
    """Red, green and blue (row, col, 3) of each chip, one scale for all of them.

    Haze is taken off first: a band's darkest percentile in a chip counts as black [1]_. Cloud, and
    water and shadow, dark in the near infrared, have no say in the stretch.

    References
    ----------
    .. [1] Chavez (1988), doi:10.1016/0034-4257(88)90019-3
    """
    lit, bright = [], []
    for chip in chips:
        rgb = _bands(chip, TRUE_COLOUR)
        ground = rgb[_ground(chip, known=np.isfinite(rgb).all(axis=-1))]
        is_hidden = len(ground) == 0 or np.median(ground[:, -1]) >= CLOUD_B2  # all of it is cloud
        black = 0.0 if is_hidden else np.percentile(ground, 1, axis=0)
        lit.append(rgb - black)
        bright += [] if is_hidden else [np.percentile(ground - black, 98)]
    white = max(float(np.median(bright or [WHITE])), 1e-6)
    return [np.nan_to_num(np.clip(rgb / white, 0, 1)) for rgb in lit]


def _ground(chip: Chip, *, known: np.ndarray) -> np.ndarray:
    """Known pixels that are neither cloud (by its flag, else bright in the blue) nor shadow.

    All known ones where none is left, (row, col).
    """
    ground, flags = known.copy(), sources.get("sentinel2").cloud_band
    if flags is not None and flags.name in chip.bands:
        ground &= ~cloudy(chip.values[chip.bands.index(flags.name)], flags)
    elif "B2" in chip.bands:
        ground &= chip.values[chip.bands.index("B2")] < CLOUD_B2
    if "B8" in chip.bands:
        infrared = chip.values[chip.bands.index("B8")]
        ground &= infrared >= SHADOW * np.nanmedian(infrared)
    return ground if ground.any() else known


def _multilook(values_db: np.ndarray, looks: int) -> np.ndarray:
    """Means of ``looks`` x ``looks`` pixels in linear power, dB (row, col), against speckle."""
    rows, cols = (side // looks for side in values_db.shape)
    power = units.linear_from_db(values_db[: rows * looks, : cols * looks])
    return units.db_from_linear(power.reshape(rows, looks, cols, looks).mean(axis=(1, 3)))


def world_place(world: Any, place: tuple[float, float], *, time: Any, title: str = "") -> Figure:
    """A place of a synthetic world: the truth, and what radar, optics and SMAP see of it.

    Truth, radar and optics of the 2.56 km around it, SMAP of 72 km in which that is a small square.

    Parameters
    ----------
    world : ``soilkit.world.World``
    place : (longitude, latitude), WGS84 degrees
    time : datetime64 or str, UTC; of the optics the last clear day of two weeks
    """
    longitude, latitude = place
    moment = np.datetime64(time, "us")
    near = grids.chip_grid(latitude, longitude, size_px=256, pixel_size_m=10)
    wide = grids.chip_grid(latitude, longitude, size_px=8, pixel_size_m=9000)
    vv = _multilook(world.render("sentinel1", moment, near)[0], LOOKS)
    optics, age = _last_clear(world, near, moment)
    water_mm = sources.get("smap").bands[0].physical(world.render("smap", moment, wide)[0])
    smap = units.volumetric_from_water_depth(water_mm, layer_mm=50)
    truth = world.truth(moment, near)
    wet: dict[str, Any] = {"cmap": WET, "limits": moisture_range(truth, smap)}
    grey: dict[str, Any] = {"cmap": "gray", "limits": (-20, -5)}
    ago = f", {age} d before" if age else ""
    figure, axes = style.panels(4, columns=4, size=(3.0, 3.2))
    here, around = _extent_km(near, place), _extent_km(wide, place)
    _place_panel(axes[0], truth, extent=here, unit=style.MOISTURE, **wet)
    _place_panel(axes[1], vv, extent=here, unit="dB", **grey)
    _place_panel(axes[2], true_colours([optics])[0], extent=here, unit="")
    _place_panel(axes[3], smap, extent=around, unit=style.MOISTURE, **wet)
    names = ("truth, 0-5 cm", "Sentinel-1, VV, means of 40 m", f"Sentinel-2{ago}", "SMAP, 10 km")
    for axis, name in zip(axes, names, strict=True):
        axis.set_title(name, fontsize="medium")
    axes[3].plot(0, 0, "s", color="none", markeredgecolor="black", markersize=7)
    return _in_km(figure, place, title=title or f"{moment.astype('datetime64[m]')} UTC (synthetic)")


def _last_clear(world: Any, grid: Grid, moment: np.datetime64) -> tuple[Chip, int]:
    """Sentinel-2 of the last day with at most 30 % cloud and its age, days; else of today."""
    bands = tuple(band.name for band in sources.get("sentinel2").bands)
    for age in range(15):
        day = moment - np.timedelta64(age, "D")
        chip = Chip(world.render("sentinel2", day, grid), bands, grid)
        if (chip.values[bands.index("B2")] < CLOUD_B2).mean() >= 0.7:
            return chip, age
    return Chip(world.render("sentinel2", moment, grid), bands, grid), 0


def _place_panel(axis: Axes, values, *, extent, unit: str, cmap=None, limits=(None, None)) -> None:
    look = {"vmin": limits[0], "vmax": limits[1], "interpolation": "nearest"}
    drawn = axis.imshow(values, extent=extent, cmap=cmap, **look)
    if unit:
        axis.figure.colorbar(drawn, ax=axis, location="bottom", extend="both", label=f"[{unit}]",
                             ticks=MaxNLocator(4))  # fmt: skip
    if not np.isfinite(values).any():
        axis.text(0.5, 0.5, "no value here", ha="center", transform=axis.transAxes)


EXTENTS = (
    (100.0, 30.0, 128),
    (1100.0, 500.0, 64),
    (np.inf, 9000.0, 24),
)  # largest pixel, m, pixels


def layer_page(
    world: Any, views: Mapping[str, tuple[Any, tuple[float, float]]], *,
    names: Sequence[str] | None = None, n_bands: int = 3,
) -> Figure:  # fmt: skip
    """What each source sees of a synthetic world: one row a band, one column a view.

    Fine layers are drawn over 3.8 km, those of 250 m to 1 km over 32 km, coarse ones over 216 km;
    every row has one colour scale, in the band's unit.

    Parameters
    ----------
    views : {title: (time, (longitude, latitude))}
    names : sources; by default all that the world renders
    n_bands : int, bands drawn of each source, its first

    Returns
    -------
    Figure
    """
    from soilkit.world import sensors

    rows = []
    for name in names or sensors.SOURCES:
        source = sources.get(name)
        seen = [_rendered(world, source, *view) for view in views.values()]
        rows += [
            (f"{name}\n{band.name[:24]}\n[{band.unit}]", [band.physical(one[k]) for one in seen])
            for k, band in enumerate(source.bands[:n_bands])
        ]
    half, n = -(-len(rows) // 2), len(views)
    height = 1.1 * half + 0.8
    widths = {"width_ratios": [*[1] * n, 1.6, *[1] * n]}
    figure, axes = plt.subplots(
        half, 2 * n + 1, figsize=(1.15 * (2 * n + 3.4), height), squeeze=False, gridspec_kw=widths
    )
    figure.subplots_adjust(
        left=0.14, right=0.995, top=1 - 0.8 / height, bottom=0.002, wspace=0.05, hspace=0.06
    )
    for axis in axes.ravel():
        axis.set_axis_off()
    for k, (title, images) in enumerate(rows):
        line = axes[k % half, (k // half) * (n + 1) :][:n]
        _layer_row(line, images, title=title)
    for side in (0, n + 1):
        for axis, words in zip(axes[0, side:], views, strict=False):
            axis.set_title(words, fontsize=8)
    figure.suptitle(
        f"every layer of the world of seed {world.seed} (synthetic)",
        fontsize=12,
        y=1 - 0.15 / height,
        va="top",
    )
    return figure


def _rendered(world: Any, source: sources.Source, time: Any, place: tuple[float, float]) -> Any:
    longitude, latitude = place
    pixel_m, side = next((m, n) for limit, m, n in EXTENTS if source.pixel_size_m <= limit)
    grid = grids.chip_grid(latitude, longitude, size_px=side, pixel_size_m=pixel_m)
    return world.render(source.name, np.datetime64(time, "us"), grid)


def _layer_row(axes: Any, images: list[np.ndarray], *, title: str) -> None:
    known = np.concatenate([one[np.isfinite(one)] for one in images])
    low, high = np.percentile(known, [2, 98]) if len(known) else (0.0, 1.0)
    for axis, one in zip(axes, images, strict=True):
        axis.imshow(one, vmin=low, vmax=max(high, low + 1e-6), cmap="viridis")
    words = f"{title}\n{low:.3g} to {high:.3g}" if len(known) else f"{title}\nno value"
    axes[0].text(-0.08, 0.5, words, ha="right", va="center", fontsize=7,
                 transform=axes[0].transAxes)  # fmt: skip

"""A model of tables on a grid: layers of any pixel size, sampled tile by tile, predicted by row."""

import inspect
import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy.ndimage import map_coordinates

from soilkit import grids, sources, strata
from soilkit.contracts import Archive, Grid
from soilkit.errors import ContractError, UnknownNameError
from soilkit.export import antecedents, cubes, daily_table, ten_day_table
from soilkit.export.cubes.regions import Region
from soilkit.export.features import around, season_point
from soilkit.metrics.evaluation.applicability import Area
from soilkit.models.maps.scene import WIDE_PIXEL_M, RegionInputs, about, box_mean, stored_chip
from soilkit.models.maps.validity import APPLICABILITY, dissimilarity
from soilkit.models.maps.windows import map_dataset

RESAMPLINGS = ("nearest", "smooth")
NET_PX = 32  # projections are exact on a net of so many pixels
TILE_PX = 16 * NET_PX
SLACK_PX = 1e-3  # of a layer's pixel, for rounding
MAPS: dict[str, dict[str, str]] = {
    "soil_moisture": {},
    "soil_moisture_std": {
        "units": "m3 m-3",
        "long_name": "standard deviation of soil moisture, by the ensemble",
    },
    "known_fraction": {"units": "1", "long_name": "fraction of the predictors that are known"},
    "applicability": APPLICABILITY,
}


@dataclass(frozen=True)
class Layer:
    """One input of a map: ``values`` (row, col), numbers with NaN or class names, on ``grid``.

    ``source_m`` is the size of the source's pixels where the grid's are smaller and repeat them.

    Raises
    ------
    ContractError
        When values and grid have different shapes.
    """

    values: np.ndarray
    grid: Grid
    source_m: float = 0.0

    def __post_init__(self) -> None:
        wanted = (self.grid.height, self.grid.width)
        if self.values.shape != wanted:
            raise ContractError(f"A layer of shape {self.values.shape} has a grid of {wanted}.")

    def smoothed(self) -> "Layer":
        """The surface between the centres of the source's pixels, on the same grid."""
        side_px = round(self.source_m / self.grid.pixel_size_m)
        if side_px <= 1 or self.values.dtype.kind != "f":
            return self
        return replace(self, values=box_mean(self.values, side_px))


def predict_table_map(
    model: Any,
    layers: Mapping[str, Layer],
    *,
    grid: Grid,
    classes: Mapping[str, Layer] | None = None,
    resampling: str = "nearest",
    area: Area | None = None,
) -> xr.Dataset:
    """Soil moisture of every pixel of a grid, by a model that was trained on a table.

    Tiles follow each other, so that no more than one tile of rows is in memory; a pixel's value
    does not hang on the tile in which it lies.

    Parameters
    ----------
    model : fitted estimator with ``predict(X)``, and where it has them ``return_std``, ``strata``
    layers : {predictor: Layer} in the order of training; each covers the grid
    grid : Grid of the map, 90 m in the paper
    classes : {characteristic: Layer}, for models whose ``predict`` wants ``strata``; always nearest
    resampling : "nearest", as in the paper [1]_, or "smooth": bilinear between pixel centres,
        over the known corners; a pixel whose own cell is missing stays missing
    area : of ``applicability.fit`` on the training rows, for ``applicability``

    Returns
    -------
    Dataset of ``soil_moisture`` (y, x) float32 m3 m-3, ``soil_moisture_std`` where the model tells
    one, and ``known_fraction`` of the predictors, with CF metadata

    Raises
    ------
    ContractError
        When a layer does not cover the grid, or predictors differ from those of the training.
    UnknownNameError
        For another resampling.

    References
    ----------
    .. [1] Poehls et al. (2024), SSRN 4743411, section 3.2
    """
    if resampling not in RESAMPLINGS:
        raise UnknownNameError(f"No resampling {resampling!r}; there are 'nearest' and 'smooth'.")
    classes = classes or {}
    _check_names(model, layers)
    for name, layer in {**layers, **classes}.items():
        _check_cover(name, layer, grid)
    if resampling == "smooth":
        layers = {name: layer.smoothed() for name, layer in layers.items()}
    maps = {n: np.full((grid.height, grid.width), np.nan, np.float32) for n in MAPS}
    for rows, cols in _tiles(grid):
        points = _Points(grid, rows, cols)
        X = pd.DataFrame(
            {n: points.sample(one, smooth=resampling == "smooth") for n, one in layers.items()}
        )
        strata = pd.DataFrame({n: points.sample(one, smooth=False) for n, one in classes.items()})
        shape = rows.stop - rows.start, cols.stop - cols.start
        maps["known_fraction"][rows, cols] = X.notna().mean(axis=1).to_numpy().reshape(shape)
        answers = _predict(model, X, strata)
        if area is not None:
            answers["applicability"] = dissimilarity(area, X)
        for name, values in answers.items():
            maps[name][rows, cols] = np.reshape(values, shape)
    for name in ("soil_moisture_std", "applicability"):
        if np.isnan(maps[name]).all():
            del maps[name]
    return map_dataset({n: (maps[n], MAPS[n]) for n in maps}, grid, resampling=resampling)


def _tiles(grid: Grid) -> Iterator[tuple[slice, slice]]:
    sides = (grid.height, grid.width)
    rows, cols = ([slice(k, min(k + TILE_PX, n)) for k in range(0, n, TILE_PX)] for n in sides)
    return product(rows, cols)


class _Points:
    """The pixel centres of a tile, in whatever CRS a layer has."""

    def __init__(self, grid: Grid, rows: slice, cols: slice):
        self.shape = rows.stop - rows.start, cols.stop - cols.start
        on_net = (-(-side // NET_PX) * NET_PX + 1 for side in self.shape)
        left_m = grid.left_m + cols.start * grid.pixel_size_m
        top_m = grid.top_m - rows.start * grid.pixel_size_m
        self.grid = Grid(grid.crs, left_m, top_m, grid.pixel_size_m, *on_net)
        self.projected: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def sample(self, layer: Layer, *, smooth: bool) -> np.ndarray:
        """A layer's values at the points, (pixel,)."""
        if layer.grid.crs not in self.projected:
            x, y = grids.project(self.grid, layer.grid.crs, step_px=NET_PX)
            height, width = self.shape
            self.projected[layer.grid.crs] = x[:height, :width].ravel(), y[:height, :width].ravel()
        row, col = _position(layer.grid, *self.projected[layer.grid.crs])
        last_row, last_col = layer.values.shape[0] - 1, layer.values.shape[1] - 1
        nearest = layer.values[
            np.clip(np.floor(row).astype(np.intp), 0, last_row),
            np.clip(np.floor(col).astype(np.intp), 0, last_col),
        ]
        if not smooth or layer.values.dtype.kind != "f":  # class names are never averaged
            return nearest
        known, places = np.isfinite(layer.values), [row - 0.5, col - 0.5]
        bilinear = partial(map_coordinates, coordinates=places, order=1, mode="nearest")
        total, weight = bilinear(np.where(known, layer.values, 0.0)), bilinear(known.astype(float))
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(np.isnan(nearest), np.nan, total / weight)


def _position(grid: Grid, x_m, y_m):
    """Rows and columns of points, 0 at a grid's outer edge."""
    return (grid.top_m - y_m) / grid.pixel_size_m, (x_m - grid.left_m) / grid.pixel_size_m


def _predict(model: Any, X: pd.DataFrame, strata: pd.DataFrame) -> dict[str, np.ndarray]:
    takes = inspect.signature(model.predict).parameters
    options = {"strata": strata} if "strata" in takes and len(strata.columns) else {}
    rows = X if hasattr(model, "feature_names_in_") else X.to_numpy(float)
    if "return_std" not in takes:
        return {"soil_moisture": model.predict(rows, **options)}
    mean, std = model.predict(rows, return_std=True, **options)
    return {"soil_moisture": mean, "soil_moisture_std": std}


def _check_names(model: Any, layers: Mapping[str, Layer]) -> None:
    trained = getattr(model, "feature_names_in_", None)
    if trained is not None and list(trained) != list(layers):
        raise ContractError(
            f"The model was trained on {', '.join(trained)}, in this order; the layers are "
            f"{', '.join(layers)}."
        )
    n = getattr(model, "n_features_in_", len(layers))
    if n != len(layers):
        raise ContractError(f"The model was trained on {n} predictors; there are {len(layers)}.")


def _check_cover(name: str, layer: Layer, grid: Grid) -> None:
    """Corners and middles of the edges must lie on the layer."""
    left, bottom, right, top = grid.bounds_m
    x, y = np.meshgrid([left, (left + right) / 2, right], [top, (top + bottom) / 2, bottom])
    u, v = grids.transformer(grid.crs, layer.grid.crs).transform(x.ravel(), y.ravel())
    row, col = _position(layer.grid, np.asarray(u), np.asarray(v))
    inside = min(row.min(), col.min()) >= -SLACK_PX and row.max() <= layer.grid.height + SLACK_PX
    if not (inside and col.max() <= layer.grid.width + SLACK_PX):
        raise ContractError(
            f"The layer {name!r} does not cover the map: rows {row.min():.1f} to {row.max():.1f} "
            f"and columns {col.min():.1f} to {col.max():.1f} of its {layer.grid.height} x "
            f"{layer.grid.width} are wanted. Cut it wider, or the map smaller."
        )


# The layers of an archive over a region and a day, for a model of the daily table.

LAYER_PIXEL_M = 90.0  # MERIT's, the finest that the paper takes
MARGIN_M = 5_000.0  # beyond the map: half a SMAP cell, over which "smooth" reaches
SMAP_DAYS = 3  # how old a cell's last retrieval may be
# After a day's end: gridMET's has ended by then, and the next noon, which dates SMAP, is not there.
SEEN_AFTER = np.timedelta64(11, "h")


def daily_layers(
    archive: Archive,
    day: Any,
    *,
    grid: Grid,
    store: str | os.PathLike[str],
    progress: bool = True,
) -> tuple[dict[str, Layer], dict[str, Layer]]:
    """Predictors and classes of the daily table over a grid, from a cube of any archive.

    A SMAP cell shows its last retrieval of the three days up to ``day``. NDVI has pixels of 250 m
    where the archive has them, finer than in training, as in the paper.

    Parameters
    ----------
    archive : any that has the layers of ``daily_table.LAYERS``
    day : date, UTC
    grid : Grid of the map
    store : folder of the cube, 90 m and a margin about the map; a later call goes on there
    progress : whether the building of the cube shows its progress

    Returns
    -------
    {predictor: Layer} in the order of ``daily_table.PREDICTORS``, and {characteristic: Layer} of
    those that the archive has

    Raises
    ------
    CatalogueError
        Where the archive lacks layers.
    ContractError, StoreError, UnknownNameError
        As ``cubes.build``.
    """
    day = np.datetime64(day, "D")
    region = _box(grid)
    west, south, east, north = region
    middle = {"latitude": [(south + north) / 2], "longitude": [(west + east) / 2]}
    place = pd.DataFrame({"station_id": ["map"], **middle})
    chosen = _choose(archive, place, first=day, last=day)
    names = {one.source.name: one.bands for some in chosen.values() for one in some}
    cube = cubes.build(
        region, archive, store, sources=names, pixel_size_m=LAYER_PIXEL_M, crs=grid.crs,
        times=_times_of(day), bounds=_bounds(chosen), progress=progress,
    )  # fmt: skip
    area = cubes.region_of(region, pixel_size_m=LAYER_PIXEL_M, crs=grid.crs)
    return _day_layers(cube, chosen, area.grid)


def _day_layers(
    cube: xr.Dataset, chosen: Mapping[str, list[daily_table.Choice]], grid: Grid
) -> tuple[dict[str, Layer], dict[str, Layer]]:
    """Predictors and classes of a cube whose last but one moment is the day."""
    layers = _predictors(cube, chosen, grid)
    classes = {k: layers[f"{k}_percent"] for k in ("clay", "sand")} | {"ph": layers["ph"]}
    classes["texture"] = layers["texture"]
    for name in daily_table.CLASSES:
        for one in chosen[name]:
            codes = cube[f"{one.source.name}_{one.bands[0]}"].to_numpy()
            classes[name] = Layer(daily_table.class_names(name, codes), grid)
    characteristics = [name for name in ten_day_table.CHARACTERISTICS if name in classes]
    predictors = {name: layers[name] for name in daily_table.PREDICTORS}
    return predictors, {name: classes[name] for name in characteristics}


def _choose(
    archive: Archive, places: pd.DataFrame, *, first: np.datetime64, last: np.datetime64
) -> dict[str, list[daily_table.Choice]]:
    """The archive's layers of the daily table, NDVI the finest."""
    wanted = daily_table.LAYERS
    finest_first = {"ndvi": dict(reversed(wanted["ndvi"].items()))}
    return daily_table.choose(
        archive, places, start=first - SMAP_DAYS, end=last + 1, layers=wanted | finest_first
    )


def _times_of(day: np.datetime64) -> np.ndarray:
    """The moments that tell of a day: SMAP's of three days, composites', and when it has ended."""
    return np.arange(day - SMAP_DAYS + 1, day + 2).astype("datetime64[us]") + SEEN_AFTER


def _bounds(chosen: Mapping[str, list[daily_table.Choice]]) -> dict[str, str]:
    """Of daily sources only the day's own."""
    return {one.source.name: "1D" for name in daily_table.DAILY for one in chosen[name]}


def _box(grid: Grid) -> tuple[float, ...]:
    """West, south, east and north of a grid and its margin, degrees."""
    left, bottom, right, top = grid.bounds_m
    x = np.linspace(left - MARGIN_M, right + MARGIN_M, 9)
    y = np.linspace(bottom - MARGIN_M, top + MARGIN_M, 9)
    x, y = (part.ravel() for part in np.meshgrid(x, y))
    degrees = grids.transformer(grid.crs, "EPSG:4326").transform(x, y)
    return tuple(float(end(v)) for end in (np.min, np.max) for v in degrees)


def _predictors(
    cube: xr.Dataset, chosen: Mapping[str, list[daily_table.Choice]], grid: Grid
) -> dict[str, Layer]:
    """The predictors of a cube whose last but one moment is the day, and texture."""

    def values(column: str, at: int = 0) -> list[np.ndarray]:
        """Every band of a column's sources, (row, col); of dated ones at a moment."""
        images = []
        for one in chosen[column]:
            for band in map(one.source.band, one.bands):
                layer = cube[f"{one.source.name}_{band.name}"]
                layer = layer.isel(time=at) if "time" in layer.dims else layer
                images.append(daily_table.in_celsius(band, layer.to_numpy().astype(float)))
        return images

    layers = {}
    smap = np.full((grid.height, grid.width), np.nan)
    for moment in range(cube.sizes["time"]):  # the last retrieval stays
        today = _mean(values("smap_m3_m3", moment))
        smap = np.where(np.isfinite(today), today, smap)
    layers["smap_m3_m3"] = smap
    layers["precipitation_mm"] = values("precipitation_mm", -1)[0]
    layers |= {name: values(name, -2)[0] for name in daily_table.COMPOSITES}
    layers["elevation_m"] = values("elevation_m")[0]
    sizes = {n: chosen[n][0].source.pixel_size_m for n in layers}
    sides = {
        name: round(daily_table.SIDE_M[name] / grid.pixel_size_m) for name in ("texture", "ph")
    }
    sand, silt, clay = (box_mean(v, sides["texture"]) for v in values("texture"))
    layers |= {"sand_percent": sand, "clay_percent": clay,
               "ph": box_mean(values("ph")[0], sides["ph"]),
               "texture": strata.texture_class(sand, silt, clay=clay)}  # fmt: skip
    return {name: Layer(v, grid, sizes.get(name, 0.0)) for name, v in layers.items()}


def _mean(images: list[np.ndarray]) -> np.ndarray:
    """Mean of what is known, NaN where nothing is."""
    known = np.isfinite(images)
    total, n = np.where(known, images, 0).sum(axis=0), known.sum(axis=0)
    return np.where(n > 0, total / np.maximum(n, 1), np.nan)


# Models of tables by way of cubes: features of chips about each cell, or the daily table's layers.


class Rows(RegionInputs):
    """A model of features of chips and coarse products: each cell is a station without a probe.

    Statistics about a station become those about the cell's centre; a band of its own the mean of
    the cell's pixels. A model that looks back or forth in time is told all dates together.
    """

    def __init__(self, trained: Any, columns: Sequence[str], options: Mapping[str, Any]):
        self.trained, self.columns = trained, columns
        self.cell_m, rest = _sizes(options, known=("stride_m", "area"), cell_m=320.0)
        self.applicable = rest.get("area")
        self.is_series = getattr(trained, "kind", antecedents.GIVEN) != antecedents.GIVEN
        parts = {column: _layer_of(column) for column in columns}
        if self.is_series:
            parts |= {c: _layer_of(c) for name in columns for c in _context_of(name)}
        strange = [c for c, part in parts.items() if part is None and not _context_of(c)]
        if strange:
            raise ContractError(
                f"{', '.join(strange)}: predictors that come from no layer of the catalogue. Map "
                "by a model that was trained without."
            )
        self.parts = {column: part for column, part in parts.items() if part}
        chips = [int(m[3]) for m in map(sources.CHIP.fullmatch, self.parts) if m]
        self.halo_m = float(max(chips, default=0) + WIDE_PIXEL_M)

    @cached_property
    def bands(self) -> dict[float, dict[str, list[str]]]:
        """The bands of each source, by the pixel size of the cube that holds them."""
        wanted: dict[float, dict[str, list[str]]] = {}
        for name, bands in (part for part in self.parts.values() if part[0]):
            have = wanted.setdefault(self.size_m(name), {}).setdefault(name, [])
            have += [band for band in bands if band not in have]
        return wanted

    @cached_property
    def fingerprint(self) -> bytes:
        """What the maps hang on beside the layers."""
        return pickle.dumps((self.trained, list(self.parts), self.applicable))

    def reach_m(self, size: float) -> float:
        """How far about the cells a cube is wanted."""
        return self.halo_m

    def prepare(self, cuts: Mapping[float, xr.Dataset], cells: Grid, *, moment: Any) -> xr.Dataset:
        """The predictors of a tile's cells at a moment, (y, x) each."""
        x_m, y_m = np.meshgrid(cells.x_m, cells.y_m)
        values = dict(season_point(np.full(x_m.shape, moment, "datetime64[ns]")))
        for size, some in self.bands.items():
            cut = cuts[size]
            grid = about(cells, self.halo_m, pixel_size_m=size)
            for name, bands in some.items():
                chip = stored_chip(cut, name, bands=bands, grid=grid)
                points = {"x_m": x_m, "y_m": y_m}
                values |= around(chip, name, columns=self.parts, **points)
                values |= {
                    f"{name}_{band}": _cell_means(image, grid, cells=cells)
                    for band, image in zip(bands, chip.values, strict=True)
                }
        layers: dict[str, Any] = {c: (values[c].astype(float), {}) for c in self.parts}
        return map_dataset(layers, cells).assign_coords(time=pd.Timestamp(moment))

    def answer(self, eaten: Sequence[xr.Dataset], cells: Grid) -> list[xr.Dataset]:
        """The map of each moment; no value where no dated source is known."""
        names = list(self.parts)
        together = xr.concat(eaten, "time", data_vars=names, coords="minimal", compat="override")
        made = self._predicted(together)
        dated = [c for c in names if (s := self.parts[c][0]) and not sources.get(s).is_static]
        maps = []
        for k, one in enumerate(eaten):
            known = one[names].notnull().to_array().mean("variable").to_numpy()
            seen = one[dated].notnull().to_array().any("variable").to_numpy() if dated else True
            layers: dict[str, Any] = {
                n: (np.where(seen, v[k], np.nan).astype(np.float32), MAPS[n])
                for n, v in made.items()
            }
            layers["known_fraction"] = known.astype(np.float32), MAPS["known_fraction"]
            if self.applicable is not None:
                rows = pd.DataFrame({c: one[c].to_numpy().ravel() for c in names})
                index = dissimilarity(self.applicable, rows).reshape(known.shape)
                layers["applicability"] = index, MAPS["applicability"]
            maps.append(map_dataset(layers, cells))
        return maps

    def _predicted(self, together: xr.Dataset) -> dict[str, np.ndarray]:
        """What the model says of (time, y, x)."""
        if hasattr(self.trained, "map"):
            made = self.trained.map(together)
            return {name: made[name].to_numpy() for name in made.data_vars}
        shape = tuple(together.sizes[name] for name in ("time", "y", "x"))
        X = pd.DataFrame({c: together[c].to_numpy().ravel() for c in self.columns})
        made = _predict(self.trained, X, pd.DataFrame(index=X.index))
        return {name: np.reshape(values, shape) for name, values in made.items()}


def _layer_of(column: str) -> tuple[str, tuple[str, ...]] | None:
    """The source and bands behind a predictor; ("", ()) for the season, None where there is none.

    Examples
    --------
    >>> _layer_of("sentinel2_NDVI_mean_320m"), _layer_of("smap_ssm"), _layer_of("rank")
    (('sentinel2', ('B4', 'B8')), ('smap', ('ssm',)), None)
    """
    if column in ("season_sin", "season_cos"):
        return "", ()
    chip = sources.CHIP.fullmatch(column)
    stem = chip[1] if chip else column
    for row in sources.CATALOGUE:
        layer = stem.removeprefix(f"{row.name}_")
        if layer == stem:
            continue
        if layer in [b.name for b in row.bands]:
            return row.name, (layer,)
        if chip and layer == "NDVI" and row.colours:
            return row.name, (row.colours["red"], row.colours["infrared"])
        if chip and layer == "slope":
            return row.name, tuple(b.name for b in row.bands if "slope" in b.features)
    return None


def _context_of(column: str) -> list[str]:
    """The columns that ``antecedents.widen`` makes a predictor with context in time of."""
    for name in sorted(antecedents.SERIES, key=len, reverse=True):
        source, _, layer = name.partition("_")
        if column != name and not column.startswith(f"{name}_"):
            continue
        bands = {"ratio": ("VV", "VH"), "STR": ("B12",)} | antecedents.INDICES
        clear = ("B2",) if source == "sentinel2" else ()  # tells of clouds
        return [f"{source}_{band}" for band in (*bands.get(layer, (layer,)), *clear)]
    return []


def _cell_means(image: np.ndarray, grid: Grid, *, cells: Grid) -> np.ndarray:
    """The mean of what is known in each cell; of larger pixels the one at its centre."""
    values = np.asarray(image, float)
    side_px = round(cells.pixel_size_m / grid.pixel_size_m)
    values = box_mean(values, side_px) if side_px > 1 else values
    row, col = _position(grid, cells.x_m, cells.y_m)
    return values[np.floor(row).astype(int)][:, np.floor(col).astype(int)]


def _sizes(
    options: Mapping[str, Any], *, known: Sequence[str], cell_m: float
) -> tuple[float, dict[str, Any]]:
    """The size of cells, and the other options, which must be known."""
    strange = sorted(set(options) - set(known))
    if strange:
        raise UnknownNameError(
            f"A model of tables is mapped with {' and '.join(known)}; found {', '.join(strange)}."
        )
    rest = {name: value for name, value in options.items() if name != "stride_m"}
    return float(options.get("stride_m", cell_m)), rest


class DailyRows(RegionInputs):
    """A model of the daily table: its layers at 90 m, a date a day, as of ``daily_layers``."""

    def __init__(self, trained: Any, columns: Sequence[str], options: Mapping[str, Any]):
        known = ("stride_m", "resampling", "area")
        self.cell_m, self.options = _sizes(options, known=known, cell_m=LAYER_PIXEL_M)
        self.model = trained.models["train"] if hasattr(trained, "models") else trained
        self.columns = columns
        self.chosen: dict[str, list[daily_table.Choice]] = {}

    def size_m(self, name: str) -> float:
        """The pixel size of the one cube."""
        return LAYER_PIXEL_M

    @property
    def bands(self) -> dict[float, dict[str, list[str]]]:
        """The bands of each source, once the archive's are chosen."""
        some = [one for choices in self.chosen.values() for one in choices]
        return {LAYER_PIXEL_M: {one.source.name: list(one.bands) for one in some}}

    @property
    def limits(self) -> dict[str, dict[str, Any]]:
        """Of daily sources the day's own; composites as the catalogue says."""
        return {"bounds": _bounds(self.chosen), "max_cloud_fraction": {}}

    @cached_property
    def fingerprint(self) -> bytes:
        """What the maps hang on beside the layers."""
        return pickle.dumps((self.model, self.options))

    def reach_m(self, size: float) -> float:
        """How far about the cells a cube is wanted."""
        return MARGIN_M

    def moments(self, archive: Archive, area: Region, *, days: np.ndarray) -> pd.DatetimeIndex:
        """The days; the archive's layers are chosen for them.

        Raises
        ------
        CatalogueError
            Where the archive lacks layers.
        """
        days = np.unique(days.astype("datetime64[D]"))
        middle = area.stations.iloc[[len(area.tiles) // 2]]
        self.chosen = _choose(archive, middle, first=days[0], last=days[-1])
        return pd.DatetimeIndex(days.astype("datetime64[us]"))

    def cube_times(self, moments: pd.DatetimeIndex) -> pd.DatetimeIndex:
        """The moments that tell of the days."""
        times = [_times_of(day) for day in moments.to_numpy().astype("datetime64[D]")]
        return pd.DatetimeIndex(np.unique(np.concatenate(times)))

    def at(self, cube: xr.Dataset, moment: Any) -> xr.Dataset:
        """The moments that tell of a day."""
        return cube.sel(time=_times_of(np.datetime64(moment, "D")))

    def prepare(self, cuts: Mapping[float, xr.Dataset], cells: Grid, *, moment: Any) -> Any:
        """Predictors and classes about a tile's cells."""
        grid = about(cells, MARGIN_M, pixel_size_m=LAYER_PIXEL_M)
        predictors, classes = _day_layers(cuts[LAYER_PIXEL_M], self.chosen, grid)
        return {name: predictors[name] for name in self.columns}, classes

    def answer(self, eaten: Sequence[Any], cells: Grid) -> list[xr.Dataset]:
        """The map of each day."""
        return [
            predict_table_map(self.model, layers, grid=cells, classes=classes, **self.options)
            for layers, classes in eaten
        ]

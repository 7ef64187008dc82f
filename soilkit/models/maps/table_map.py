"""A model of tables on a grid: layers of any pixel size, sampled tile by tile, predicted by row."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy.ndimage import map_coordinates

from soilkit import grids, strata
from soilkit.contracts import Archive, Grid
from soilkit.errors import ContractError, UnknownNameError
from soilkit.export import daily_table, ten_day_table
from soilkit.models.maps.windows import map_dataset
from soilkit.world.sensors import coarse as products
from soilkit.world.sensors import composites

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
}


@dataclass(frozen=True)
class Layer:
    """One input of a map: ``values`` (row, col), numbers with NaN or class names, on ``grid``.

    Raises
    ------
    ContractError
        When values and grid have different shapes.
    """

    values: np.ndarray
    grid: Grid

    def __post_init__(self) -> None:
        wanted = (self.grid.height, self.grid.width)
        if self.values.shape != wanted:
            raise ContractError(f"A layer of shape {self.values.shape} has a grid of {wanted}.")


def predict_table_map(
    model: Any,
    layers: Mapping[str, Layer],
    *,
    grid: Grid,
    classes: Mapping[str, Layer] | None = None,
    resampling: str = "nearest",
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
    maps = {n: np.full((grid.height, grid.width), np.nan, np.float32) for n in MAPS}
    for rows, cols in _tiles(grid):
        points = _Points(grid, rows, cols)
        X = pd.DataFrame(
            {n: points.sample(one, smooth=resampling == "smooth") for n, one in layers.items()}
        )
        strata = pd.DataFrame({n: points.sample(one, smooth=False) for n, one in classes.items()})
        shape = rows.stop - rows.start, cols.stop - cols.start
        maps["known_fraction"][rows, cols] = X.notna().mean(axis=1).to_numpy().reshape(shape)
        for name, values in _predict(model, X, strata).items():
            maps[name][rows, cols] = np.reshape(values, shape)
    if not np.isfinite(maps["soil_moisture_std"]).any():
        del maps["soil_moisture_std"]
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


# The synthetic world's layers over a region and a day, for a model of the daily table.

NDVI_PIXEL_M = 250.0  # the finer product, as the paper takes for maps
SOIL_M, ELEVATION_M, COVER_M = 1000.0, 90.0, 100.0
SMAP_DAYS = 3  # how old a cell's last retrieval may be
EDGE_PX = 2  # pixels of each layer beyond the map
CELL_M = grids.EASE2_PIXEL_SIZE_M[9]


def daily_layers(
    archive: Archive, day: Any, *, grid: Grid
) -> tuple[dict[str, Layer], dict[str, Layer]]:
    """Predictors and classes of the daily table over a grid, each on its own pixels.

    A SMAP cell shows its last retrieval of the three days up to ``day``. NDVI has pixels of 250 m,
    finer than in training, as in the paper.

    Parameters
    ----------
    archive : synthetic archive
    day : date, UTC, within the world's period
    grid : Grid of the map

    Returns
    -------
    {predictor: Layer} in the order of ``daily_table.PREDICTORS``, and {characteristic: Layer}

    Raises
    ------
    UnknownNameError
        For another archive than the synthetic one.
    """
    if not hasattr(archive, "world"):
        raise UnknownNameError(f"The layers come from the synthetic world, found {archive.name!r}.")
    world: Any = archive.world
    day = np.datetime64(day, "D")
    cells, cell_grid = _around(grid, CELL_M)
    shape = (cell_grid.height, cell_grid.width)
    rain_days, rain = composites.rain_mm(world, cells)
    layers = {
        "smap_m3_m3": Layer(_smap(world, cells, day).reshape(shape), cell_grid),
        "precipitation_mm": Layer(
            rain[:, (day - rain_days[0]).astype(int)].reshape(shape), cell_grid
        ),
    }
    for name, size_m in (("ndvi", NDVI_PIXEL_M), ("lst_c", 1000.0), ("et_mm_8d", 500.0)):
        layers[name] = _composite(world, name, grid, day=day, size_m=size_m)
    ground, classes = _ground(world, grid)
    climate = world.cells(cells.rows, cells.cols).koeppen.astype(str).reshape(shape)
    layers |= {name: ground[name] for name in daily_table.STATIC}
    classes |= {"koeppen": Layer(climate, cell_grid), "ph": ground["ph"]}
    classes |= {"clay": ground["clay_percent"], "sand": ground["sand_percent"]}
    predictors = {name: layers[name] for name in daily_table.PREDICTORS}
    return predictors, {name: classes[name] for name in ten_day_table.CHARACTERISTICS}


def _covering(crs, x_m, y_m, *, size_m, left_m=0.0, top_m=0.0):
    """A grid of whole pixels from an origin on, over points and an edge; its rows and columns."""
    cols, rows = (np.floor(n / size_m).astype(int) for n in (x_m - left_m, top_m - y_m))
    cols = np.arange(cols.min() - EDGE_PX, cols.max() + EDGE_PX + 1)
    rows = np.arange(rows.min() - EDGE_PX, rows.max() + EDGE_PX + 1)
    left_m, top_m = left_m + cols[0] * size_m, top_m - rows[0] * size_m
    return Grid(crs, float(left_m), float(top_m), size_m, len(rows), len(cols)), rows, cols


def _around(grid: Grid, size_m: float) -> tuple[composites.Pixels, Grid]:
    """Pixels of the world's plane that cover a grid and an edge, and their grid."""
    left, bottom, right, top = grid.bounds_m
    x, y = np.meshgrid(np.linspace(left, right, 9), np.linspace(bottom, top, 9))
    u_m, v_m = grids.transformer(grid.crs, grids.EASE2_CRS).transform(x.ravel(), y.ravel())
    origin = {"left_m": grids.EASE2_LEFT_M, "top_m": grids.EASE2_TOP_M}
    cells, rows, cols = _covering(grids.EASE2_CRS, u_m, v_m, size_m=size_m, **origin)
    return composites.Pixels(size_m, np.repeat(rows, len(cols)), np.tile(cols, len(rows))), cells


def _smap(world, cells, day) -> np.ndarray:
    """Each cell's last retrieval of some days, (cell,)."""
    series = products.product(world, "smap_l3_005", rows=cells.rows, cols=cells.cols)
    when = series.periods.start.astype("datetime64[D]")
    out = np.full(len(cells.rows), np.nan)
    for back in range(SMAP_DAYS, -1, -1):
        today = series.values[:, when == day - back, 0]  # the first band, soil_moisture_am
        if today.shape[1]:
            out = np.where(np.isfinite(today[:, 0]), today[:, 0], out)
    return out


def _composite(world, name, grid, *, day, size_m) -> Layer:
    pixels, cells = _around(grid, size_m)
    values, _ = daily_table.composite_on(world, name, pixels=pixels, days=np.array([day]))
    return Layer(values[:, 0].reshape(cells.height, cells.width), cells)


def _ground(world, grid) -> tuple[dict[str, Layer], dict[str, Layer]]:
    """SoilGrids at 1 km, elevation at 90 m, pH; texture and land cover as classes."""
    coarse = _aligned(grid, SOIL_M)
    soil = _means(world, "soilgrids", coarse, daily_table.SOIL_PX)
    pixels, ph_grid = _around(grid, 1000.0)
    ph = composites.ph(world, pixels).reshape(ph_grid.height, ph_grid.width)
    fine = _aligned(grid, ELEVATION_M)
    cover = _aligned(grid, COVER_M)
    codes = world.render("land_cover", world.start, cover)[0]
    names = strata.land_cover_class(codes).reshape(codes.shape)
    texture = strata.texture_class(soil[0], soil[1], clay=soil[2])
    ground = {
        "sand_percent": Layer(soil[0] / 10, coarse),
        "clay_percent": Layer(soil[2] / 10, coarse),
        "ph": Layer(ph, ph_grid),
        "elevation_m": Layer(_means(world, "dem", fine, daily_table.DEM_PX)[0], fine),
    }
    return ground, {"texture": Layer(texture, coarse), "land_cover": Layer(names, cover)}


def _aligned(grid: Grid, size_m: float) -> Grid:
    """Pixels of a size on whole multiples of it that cover a grid and an edge."""
    left, bottom, right, top = grid.bounds_m
    return _covering(grid.crs, np.array([left, right]), np.array([bottom, top]), size_m=size_m)[0]


def _means(world, source, grid, factor) -> np.ndarray:
    """A rendered layer averaged over ``factor`` x ``factor`` pixels, (band, row, col)."""
    fine = Grid(grid.crs, grid.left_m, grid.top_m, grid.pixel_size_m / factor,
                grid.height * factor, grid.width * factor)  # fmt: skip
    image = world.render(source, world.start, fine).astype(float)
    return image.reshape(-1, grid.height, factor, grid.width, factor).mean(axis=(2, 4))

"""A model of tables on a grid: layers of any pixel size, sampled tile by tile, predicted by row."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from soilkit import grids, strata
from soilkit.contracts import Archive, Grid
from soilkit.errors import ContractError, UnknownNameError
from soilkit.export import daily_table, ten_day_table
from soilkit.models.maps.windows import map_dataset
from soilkit.world.sensors import coarse as products
from soilkit.world.sensors import composites

RESAMPLINGS = ("nearest", "smooth")
NET_PX = 32  # projections are exact on a net of so many pixels; tiles are whole numbers of it
SLACK_PX = 1e-3  # of a layer's pixel, for rounding


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

    @property
    def is_number(self) -> bool:
        """Whether values may be averaged: class names may not."""
        return self.values.dtype.kind == "f"


def predict_table_map(
    model: Any,
    layers: Mapping[str, Layer],
    *,
    grid: Grid,
    classes: Mapping[str, Layer] | None = None,
    resampling: str = "nearest",
    tile_px: int = 512,
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
    tile_px : int, a multiple of 32

    Returns
    -------
    Dataset
        ``soil_moisture`` (y, x) float32 m3 m-3, ``soil_moisture_std`` where the model tells one,
        and ``known_fraction`` of the predictors, with CF metadata.

    Raises
    ------
    ContractError
        When a layer does not cover the grid, predictors differ from those of the training, or the
        tile's side does not fit.
    UnknownNameError
        For another resampling.

    References
    ----------
    .. [1] Poehls et al. (2024), SSRN 4743411, section 3.2
    """
    if resampling not in RESAMPLINGS:
        raise UnknownNameError(f"No resampling {resampling!r}; there are 'nearest' and 'smooth'.")
    if tile_px < NET_PX or tile_px % NET_PX:
        raise ContractError(f"A tile's side is a multiple of {NET_PX} pixels, found {tile_px}.")
    classes = classes or {}
    _check_names(model, layers)
    for name, layer in {**layers, **classes}.items():
        _check_cover(name, layer, grid)
    sampler = _Sampler(layers, classes, resampling == "smooth")
    shape = grid.height, grid.width
    maps = {name: np.full(shape, np.nan, np.float32) for name in ("mean", "std", "known")}
    for rows, cols, tile in _tiles(grid, tile_px):
        X, strata = sampler.sample(tile)
        maps["known"][rows, cols] = X.notna().mean(axis=1).to_numpy().reshape(tile[1])
        for name, values in _predict(model, X, strata).items():
            maps[name][rows, cols] = values.reshape(tile[1])
    return _dataset(maps, grid, resampling)


@dataclass(frozen=True)
class _Sampler:
    layers: Mapping[str, Layer]
    classes: Mapping[str, Layer]
    smooth: bool

    def sample(self, tile: tuple[Grid, tuple[int, int]]) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Predictors and classes of a tile's pixels, one row a pixel."""
        where: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for layer in (*self.layers.values(), *self.classes.values()):
            if layer.grid.crs not in where:
                where[layer.grid.crs] = _coordinates(*tile, layer.grid.crs)
        X = {n: _sampled(one, where, smooth=self.smooth) for n, one in self.layers.items()}
        strata = {n: _sampled(one, where, smooth=False) for n, one in self.classes.items()}
        return pd.DataFrame(X), pd.DataFrame(strata)


def _coordinates(grid: Grid, shape: tuple[int, int], crs: str) -> tuple[np.ndarray, np.ndarray]:
    """Pixel centres in another CRS, (pixel,) each; ``grid`` ends on a knot of the net."""
    x, y = grids.project(grid, crs, step_px=NET_PX)
    return x[: shape[0], : shape[1]].ravel(), y[: shape[0], : shape[1]].ravel()


def _sampled(layer: Layer, where: Mapping[str, Any], *, smooth: bool) -> np.ndarray:
    row, col = _position(layer.grid, *where[layer.grid.crs])
    height, width = layer.values.shape
    own_row = np.clip(np.floor(row).astype(np.intp), 0, height - 1)
    own_col = np.clip(np.floor(col).astype(np.intp), 0, width - 1)
    nearest = layer.values[own_row, own_col]
    if not (smooth and layer.is_number):
        return nearest
    return np.where(np.isnan(nearest), np.nan, _bilinear(layer.values, row - 0.5, col - 0.5))


def _position(grid: Grid, x_m, y_m):
    """Rows and columns of points, 0 at a grid's outer edge."""
    return (grid.top_m - y_m) / grid.pixel_size_m, (x_m - grid.left_m) / grid.pixel_size_m


def _bilinear(values: np.ndarray, row: np.ndarray, col: np.ndarray) -> np.ndarray:
    """Between pixel centres, over the corners that are known; beyond the outer ones constant."""
    height, width = values.shape
    row, col = np.clip(row, 0, height - 1), np.clip(col, 0, width - 1)
    top, left = row.astype(np.intp), col.astype(np.intp)
    down, right = row - top, col - left
    low, far = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    corners = (
        (top, left, (1 - down) * (1 - right)),
        (top, far, (1 - down) * right),
        (low, left, down * (1 - right)),
        (low, far, down * right),
    )
    total, weight = np.zeros(row.shape), np.zeros(row.shape)
    for r, c, share in corners:
        corner = values[r, c]
        known = ~np.isnan(corner)
        total += np.where(known, share * corner, 0.0)
        weight += share * known
    return np.divide(total, weight, out=np.full(row.shape, np.nan), where=weight > 0)


def _predict(model: Any, X: pd.DataFrame, strata: pd.DataFrame) -> dict[str, np.ndarray]:
    takes = inspect.signature(model.predict).parameters
    options: dict[str, Any] = {"strata": strata} if len(strata.columns) else {}
    if "strata" not in takes:
        options = {}
    rows = X if hasattr(model, "feature_names_in_") else X.to_numpy(float)
    if "return_std" in takes:
        mean, std = model.predict(rows, return_std=True, **options)
        return {"mean": np.asarray(mean), "std": np.asarray(std)}
    return {"mean": np.asarray(model.predict(rows, **options))}


def _tiles(grid: Grid, size: int) -> Iterator[tuple[slice, slice, tuple[Grid, tuple[int, int]]]]:
    """Rows, columns, and (a grid that ends on a knot of the net, the tile's own shape)."""
    for top in range(0, grid.height, size):
        for left in range(0, grid.width, size):
            shape = min(size, grid.height - top), min(size, grid.width - left)
            whole = [-(-n // NET_PX) * NET_PX + 1 for n in shape]
            x_m = grid.left_m + left * grid.pixel_size_m
            y_m = grid.top_m - top * grid.pixel_size_m
            tile = Grid(grid.crs, x_m, y_m, grid.pixel_size_m, *whole)
            rows, cols = slice(top, top + shape[0]), slice(left, left + shape[1])
            yield rows, cols, (tile, shape)


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


def _dataset(maps: dict[str, np.ndarray], grid: Grid, resampling: str) -> xr.Dataset:
    """The maps with CF metadata; a spread that no model told is left out."""
    std = {"units": "m3 m-3", "long_name": "standard deviation of soil moisture, by the ensemble"}
    known = {"units": "1", "long_name": "fraction of the predictors that are known"}
    variables = {
        "soil_moisture": (maps["mean"], {}),
        "soil_moisture_std": (maps["std"], std),
        "known_fraction": (maps["known"], known),
    }
    if not np.isfinite(maps["std"]).any():
        del variables["soil_moisture_std"]
    return map_dataset(variables, grid, resampling=resampling)


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
    found = {
        "smap_m3_m3": Layer(_smap(world, cells, day).reshape(shape), cell_grid),
        "precipitation_mm": Layer(
            rain[:, (day - rain_days[0]).astype(int)].reshape(shape), cell_grid
        ),
    }
    for name, size_m in (("ndvi", NDVI_PIXEL_M), ("lst_c", 1000.0), ("et_mm_8d", 500.0)):
        found[name] = _composite(world, name, grid, day=day, size_m=size_m)
    ground, classes = _ground(world, grid)
    climate = world.cells(cells.rows, cells.cols).koeppen.astype(str).reshape(shape)
    found |= {name: ground[name] for name in daily_table.STATIC}
    classes |= {"koeppen": Layer(climate, cell_grid), "ph": ground["ph"]}
    classes |= {"clay": ground["clay_percent"], "sand": ground["sand_percent"]}
    predictors = {name: found[name] for name in daily_table.PREDICTORS}
    return predictors, {name: classes[name] for name in ten_day_table.CHARACTERISTICS}


def _around(grid: Grid, size_m: float) -> tuple[composites.Pixels, Grid]:
    """Pixels of the world's plane that cover a grid and an edge, and their grid."""
    left, bottom, right, top = grid.bounds_m
    side = np.linspace(0, 1, 9)
    x, y = np.meshgrid(left + side * (right - left), bottom + side * (top - bottom))
    u_m, v_m = grids.transformer(grid.crs, grids.EASE2_CRS).transform(x.ravel(), y.ravel())
    first_col = int(np.floor((np.min(u_m) - grids.EASE2_LEFT_M) / size_m)) - EDGE_PX
    last_col = int(np.floor((np.max(u_m) - grids.EASE2_LEFT_M) / size_m)) + EDGE_PX
    first_row = int(np.floor((grids.EASE2_TOP_M - np.max(v_m)) / size_m)) - EDGE_PX
    last_row = int(np.floor((grids.EASE2_TOP_M - np.min(v_m)) / size_m)) + EDGE_PX
    rows, cols = np.arange(first_row, last_row + 1), np.arange(first_col, last_col + 1)
    pixels = composites.Pixels(size_m, np.repeat(rows, len(cols)), np.tile(cols, len(rows)))
    left_m = grids.EASE2_LEFT_M + first_col * size_m
    top_m = grids.EASE2_TOP_M - first_row * size_m
    return pixels, Grid(grids.EASE2_CRS, left_m, top_m, size_m, len(rows), len(cols))


def _smap(world, cells, day) -> np.ndarray:
    """Each cell's last retrieval of some days, (cell,)."""
    series = products.product(world, "smap_l3", rows=cells.rows, cols=cells.cols)
    when = series.periods.start.astype("datetime64[D]")
    out = np.full(len(cells.rows), np.nan)
    for back in range(SMAP_DAYS, -1, -1):
        today = series.values[:, when == day - back]
        if today.shape[1]:
            out = np.where(np.isfinite(today[:, 0]), today[:, 0], out)
    return out


def _composite(world, name, grid, *, day, size_m) -> Layer:
    pixels, own = _around(grid, size_m)
    values, _ = daily_table.composite_on(world, name, pixels=pixels, days=np.array([day]))
    return Layer(values[:, 0].reshape(own.height, own.width), own)


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
    col, row = np.floor(left / size_m) - EDGE_PX, np.ceil(top / size_m) + EDGE_PX
    width = int(np.ceil(right / size_m) + EDGE_PX - col)
    height = int(row - np.floor(bottom / size_m) + EDGE_PX)
    return Grid(grid.crs, float(col * size_m), float(row * size_m), size_m, height, width)


def _means(world, source, grid, factor) -> np.ndarray:
    """A rendered layer averaged over ``factor`` x ``factor`` pixels, (band, row, col)."""
    fine = Grid(grid.crs, grid.left_m, grid.top_m, grid.pixel_size_m / factor,
                grid.height * factor, grid.width * factor)  # fmt: skip
    image = world.render(source, world.start, fine).astype(float)
    return image.reshape(-1, grid.height, factor, grid.width, factor).mean(axis=(2, 4))

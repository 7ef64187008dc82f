"""The synthetic world's layers over a region and a day, for a model of the daily table."""

from typing import Any

import numpy as np

from soilkit import grids, strata
from soilkit.contracts import Archive, Grid
from soilkit.errors import UnknownNameError
from soilkit.export import daily_table
from soilkit.maps.table_map import Layer
from soilkit.world.sensors import coarse as products
from soilkit.world.sensors import composites

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
    return predictors, {name: classes[name] for name in daily_table.CHARACTERISTICS}


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

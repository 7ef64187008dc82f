"""Coarse products of a world: one series a 9 km cell, and the cells that places belong to."""

from functools import lru_cache
from typing import Any

import numpy as np

from soilkit import grids
from soilkit.contracts import Grid
from soilkit.errors import UnknownNameError
from soilkit.world import schedule
from soilkit.world.sensors import lattice
from soilkit.world.sensors.coarse import land_models, passive, weather
from soilkit.world.sensors.coarse.forcing import Product, forcing

GLDAS_CELL_DEG = 0.25
CELL_DEG = {  # of products on a grid of degrees
    "gldas": GLDAS_CELL_DEG, "nldas2_noah": 1 / 8, "gridmet": 1 / 24, "chirps": 0.05, "imerg": 0.1,
}  # fmt: skip
NET_M = 5_000  # between points whose longitude and latitude are exact
MAX_CELLS = 1024  # whose series are held at once when an image is made
# Each source's series and its calendar: bands in the order of its row in the catalogue.
MODELS = {
    "smap": (land_models.smap, schedule.smap10km),
    "gldas": (land_models.gldas, schedule.gldas),
    "modis_lai": (land_models.modis_lai, schedule.modis_lai),
    "nldas2_noah": (land_models.nldas2_noah, schedule.nldas2_noah),
    "smap_l4": (land_models.smap_l4, schedule.smap_l4),
    "geos5_lst": (land_models.geos5_lst, schedule.geos5_lst),
    "gridmet": (weather.gridmet, schedule.gridmet),
    "chirps": (weather.chirps, schedule.chirps),
    "imerg": (weather.imerg, schedule.imerg),
    **{
        name: (passive.smap_l3(name, schedule.CALENDARS[name]), schedule.CALENDARS[name])
        for name in ("smap_l3_005", "smap_l3_006", "smap_l3_ancillary")
    },
}


def cells(source: str, longitude, *, latitude) -> tuple[np.ndarray, np.ndarray]:
    """EASE-Grid 9 km row and column whose weather a product uses at each point.

    Products on a grid of degrees take the cell in the middle of their pixel, the others the
    point's own.
    """
    longitude, latitude = np.asarray(longitude, float), np.asarray(latitude, float)
    if source in CELL_DEG:
        size = CELL_DEG[source]
        longitude = (np.floor(longitude / size) + 0.5) * size
        latitude = (np.floor(latitude / size) + 0.5) * size
    return grids.ease2_cell(longitude, latitude)


def product(world: Any, source: str, *, rows: np.ndarray, cols: np.ndarray) -> Product:
    """The whole series of a product over cells of the world, from its first day to its last.

    Raises ``UnknownNameError`` where the world renders no such series.
    """
    if source not in MODELS:
        raise UnknownNameError(
            f"The synthetic world has no series of {source!r}; it has {', '.join(MODELS)}."
        )
    state = world.cells(rows, cols)
    return MODELS[source][0](world, forcing(state, rows=rows, cols=cols), state=state)


def on_grid(world: Any, source: str, *, time: np.datetime64, grid: Grid) -> np.ndarray:
    """The latest value that ended at or before a time, on the pixels of a grid, (band, row, col).

    Nearest cell; NaN before the first period.
    """
    step_px = int(np.clip(NET_M // grid.pixel_size_m, 1, 32))
    longitude, latitude = grids.project(grid, "EPSG:4326", step_px=step_px)
    rows, cols = cells(source, longitude, latitude=latitude)
    pairs, inverse = lattice.distinct(rows.ravel(), cols.ravel())
    parts = np.array_split(pairs, max(1, -(-pairs.shape[1] // MAX_CELLS)), axis=1)
    latest = [_latest(world, source, pair, time) for pair in parts]
    values = np.concatenate(latest)[inverse]  # (pixel, band)
    return values.T.reshape(-1, *rows.shape).astype(np.float32)


@lru_cache(maxsize=12)  # a cube asks day by day, several products and parts of an image in turn
def _kept(world, source, cells_of_image):
    rows, cols = np.frombuffer(cells_of_image, np.int64).reshape(2, -1)
    return product(world, source, rows=rows, cols=cols)


def _latest(world, source, pair, time):
    series = _kept(world, source, np.ascontiguousarray(pair, np.int64).tobytes())
    last = np.searchsorted(series.periods.end, time.astype("datetime64[us]"), side="right") - 1
    if last >= 0:
        return series.values[:, last]
    n_cells, _, n_bands = series.values.shape
    return np.full((n_cells, n_bands), np.nan, np.float32)

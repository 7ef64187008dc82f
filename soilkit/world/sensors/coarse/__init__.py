"""Coarse products of a world: one series a 9 km cell, and the cells that places belong to."""

from typing import Any

import numpy as np

from soilkit import grids
from soilkit.contracts import Grid
from soilkit.errors import UnknownNameError
from soilkit.world import schedule
from soilkit.world.sensors.coarse import land_models, passive
from soilkit.world.sensors.coarse.forcing import Product, forcing

GLDAS_CELL_DEG = 0.25
CELL_DEG = {"gldas": GLDAS_CELL_DEG}  # of products on a grid of degrees
# Each source's series and its calendar: bands in the order of its row in the catalogue.
MODELS = {
    "smap": (land_models.smap, schedule.smap10km),
    "gldas": (land_models.gldas, schedule.gldas),
    "modis_lai": (land_models.modis_lai, schedule.modis_lai),
    "smap_l3": (passive.smap_l3, schedule.smap_l3),
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

    Raises
    ------
    UnknownNameError
        Where the world renders no such series.
    """
    if source not in MODELS:
        raise UnknownNameError(
            f"The synthetic world has no series of {source!r}; it has {', '.join(MODELS)}."
        )
    state = world.cells(rows, cols)
    return MODELS[source][0](world, forcing(state, rows=rows, cols=cols), state)


def on_grid(world: Any, source: str, *, time: np.datetime64, grid: Grid) -> np.ndarray:
    """The latest value that ended at or before a time, on the pixels of a grid, (band, row, col).

    Nearest cell; NaN before the first period.
    """
    longitude, latitude = grids.lonlat(grid)
    rows, cols = cells(source, longitude, latitude=latitude)
    pairs, inverse = np.unique(np.stack([rows.ravel(), cols.ravel()]), axis=1, return_inverse=True)
    series = product(world, source, rows=pairs[0], cols=pairs[1])
    last = np.searchsorted(series.periods.end, time.astype("datetime64[us]"), side="right") - 1
    n_bands = series.values.shape[2]
    if last < 0:
        return np.full((n_bands, *rows.shape), np.nan, dtype=np.float32)
    values = series.values[inverse.ravel(), last]  # (pixel, band)
    return values.T.reshape(n_bands, *rows.shape).astype(np.float32)

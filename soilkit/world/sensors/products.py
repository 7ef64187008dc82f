"""Coarse products of a world: one series a cell, and the cells that places belong to."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from soilkit import grids
from soilkit.contracts import Grid
from soilkit.errors import UnknownNameError
from soilkit.world import calendars
from soilkit.world.sensors import coarse, lattice
from soilkit.world.sensors import constants as c

GLDAS_CELL_DEG = 0.25
BANDS = {
    "smap": "ssm",
    "gldas": "SoilMoi0_10cm_inst",
    "modis_lai": "Lai",
    "smap_l3": "soil_moisture_am",
}


@dataclass(frozen=True)
class Product:
    """A product over cells: its periods and stored values (cell, time), NaN where none."""

    periods: calendars.Periods
    values: np.ndarray


def cells(source: str, longitude, *, latitude) -> tuple[np.ndarray, np.ndarray]:
    """EASE-Grid 9 km row and column whose weather a product uses at each point.

    GLDAS takes the cell in the middle of its quarter degree; the others the point's own.
    """
    longitude, latitude = np.asarray(longitude, float), np.asarray(latitude, float)
    if source == "gldas":
        longitude = (np.floor(longitude / GLDAS_CELL_DEG) + 0.5) * GLDAS_CELL_DEG
        latitude = (np.floor(latitude / GLDAS_CELL_DEG) + 0.5) * GLDAS_CELL_DEG
    return grids.ease2_cell(longitude, latitude)


def product(world: Any, source: str, *, rows: np.ndarray, cols: np.ndarray) -> Product:
    """The whole series of a product over cells of the world, from its first day to its last.

    Raises
    ------
    UnknownNameError
        Where the world renders no such series.
    """
    if source not in _MODELS:
        raise UnknownNameError(
            f"The synthetic world has no series of {source!r}; it has {', '.join(_MODELS)}."
        )
    state = world.cells(rows, cols)
    size = grids.EASE2_PIXEL_SIZE_M[9]
    forcing = coarse.Forcing(
        np.asarray(state.time).astype("datetime64[D]"),
        grids.EASE2_TOP_M - (np.asarray(rows) + 0.5) * size,
        grids.EASE2_LEFT_M + (np.asarray(cols) + 0.5) * size,
        state.precipitation_mm,
        state.pet_mm,
        state.temperature_c,
    )
    return _MODELS[source](world.seed, forcing, state)


def _span(forcing: coarse.Forcing) -> tuple[np.datetime64, np.datetime64]:
    return forcing.days[0], forcing.days[-1] + 1


def _smap_l3(seed: int, forcing: coarse.Forcing, state: Any) -> Product:
    ground = {"surface_m3_m3": state.surface_m3_m3, "ndvi": state.ndvi}
    values = coarse.smap_l3_m3_m3(forcing, seed=seed, ground=ground)
    return Product(calendars.smap_l3(*_span(forcing)), values)


def _smap(seed: int, forcing: coarse.Forcing, state: Any) -> Product:
    offset = int((calendars.SMAP10KM_EPOCH - forcing.days[0]).astype(int)) % 3
    retrieval = _smap_l3(seed, forcing, state).values
    values = coarse.smap10km_mm(forcing, seed=seed, retrieval_m3_m3=retrieval, skip=offset)
    first = forcing.days[offset] + 3
    periods = calendars.smap10km(first, first + 3 * values.shape[1])
    return Product(periods, values[:, : len(periods.end)])


def _gldas(seed: int, forcing: coarse.Forcing, state: Any) -> Product:
    return Product(calendars.gldas(*_span(forcing)), coarse.gldas_kg_m2(forcing, seed=seed))


def _modis_lai(seed: int, forcing: coarse.Forcing, state: Any) -> Product:
    first, last = _span(forcing)
    periods = calendars.modis_lai(first + calendars.MODIS_DAYS, last)
    begin = (periods.start.astype("datetime64[D]") - first).astype(int)
    days = np.minimum(begin[:, None] + np.arange(calendars.MODIS_DAYS), state.lai.shape[1] - 1)
    key = np.uint64(lattice.key(seed, "lai series"))
    where = np.round(forcing.y_m + 7 * forcing.x_m).astype(np.int64)[:, None]
    noise = lattice.normals(key, rows=where, cols=begin[None, :])
    mean = state.lai[:, days].mean(axis=2) * (1 + c.LAI_ERROR / 4 * noise)  # (cell, period)
    return Product(periods, np.clip(np.rint(10 * mean), 0, 100).astype(np.float32))


_MODELS = {"smap": _smap, "gldas": _gldas, "modis_lai": _modis_lai, "smap_l3": _smap_l3}


def on_grid(world: Any, source: str, *, time: np.datetime64, grid: Grid) -> np.ndarray:
    """The latest value that ended at or before a time, on the pixels of a grid, (1, row, col).

    Nearest cell; NaN before the first period.
    """
    longitude, latitude = grids.lonlat(grid)
    rows, cols = cells(source, longitude, latitude=latitude)
    pairs, inverse = np.unique(np.stack([rows.ravel(), cols.ravel()]), axis=1, return_inverse=True)
    found = product(world, source, rows=pairs[0], cols=pairs[1])
    last = np.searchsorted(found.periods.end, time.astype("datetime64[us]"), side="right") - 1
    if last < 0:
        return np.full((1, *rows.shape), np.nan, dtype=np.float32)
    return found.values[inverse.ravel(), last].reshape(1, *rows.shape).astype(np.float32)

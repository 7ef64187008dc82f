"""What each source would see of the synthetic world, in the stored values of its asset."""

from typing import Any

import numpy as np

from soilkit import grids
from soilkit.contracts import Grid
from soilkit.errors import UnknownNameError
from soilkit.world import schedule
from soilkit.world.sensors import coarse, composites, instruments, optics, radar, soil_maps
from soilkit.world.sensors.radar import view


def render(world: Any, source: str, time: Any, grid: Grid) -> np.ndarray:
    """What a source saw of the world, (band, row, col) float32, bands in catalogue order.

    Stored values of the asset: dB and degrees, digital numbers and QA60 bits, g/kg, mm, kg m-2.
    Radar and optical scenes are those of the pass that ended within ten minutes of ``time``, NaN
    outside its swath; where no pass was due, of a virtual one that covers everything. Composites
    and coarse products give the last one that ended at or before ``time``.

    Parameters
    ----------
    world : World
    source : str, a name of ``SOURCES``
    time : datetime64 or text, UTC; ignored by static sources
    grid : Grid

    Raises
    ------
    UnknownNameError
        For a source that the synthetic world does not render.
    """
    if source not in SOURCES:
        raise UnknownNameError(
            f"The synthetic world does not render {source!r}; it renders {', '.join(SOURCES)}."
        )
    return SOURCES[source](world, np.datetime64(time, "us"), grid)


def rain_at(world: Any, days: np.ndarray, *, longitude: float, latitude: float) -> np.ndarray:
    """Rain of the cell around a point on some days, shape (day,), mm; 0 beyond the world's time."""
    row, col = grids.ease2_cell(np.array([longitude]), np.array([latitude]))
    state = world.cells(row, col)
    first = np.asarray(state.time).astype("datetime64[D]")[0]
    index = (np.asarray(days, dtype="datetime64[D]") - first).astype(int)
    inside = (index >= 0) & (index < state.precipitation_mm.shape[1])
    rain = state.precipitation_mm[0, np.clip(index, 0, state.precipitation_mm.shape[1] - 1)]
    return np.where(inside, rain, 0.0)


def _sentinel1(world: Any, time: np.datetime64, grid: Grid) -> np.ndarray:
    seen = view(
        schedule.SENTINEL1,
        grid,
        time=time,
        default_incidence_deg=instruments.NOMINAL_INCIDENCE_DEG,
    )
    return radar.render(world.surface(time, grid), seed=world.seed, view=seen)


def _sentinel2(world: Any, time: np.datetime64, grid: Grid) -> np.ndarray:
    seen = view(schedule.SENTINEL2, grid, time=time, default_incidence_deg=0.0)
    longitude, latitude = middle(grid)
    rain = rain_at(world, np.array([time]), longitude=longitude, latitude=latitude)
    image = optics.render(
        world.surface(time, grid),
        seed=world.seed,
        scene=seen.scene,
        rain_mm=float(rain[0]),
        latitude_deg=latitude,
    )
    image[:, ~seen.covered] = np.nan
    return image


def middle(grid: Grid) -> tuple[float, float]:
    """Longitude and latitude of a grid's centre, degrees."""
    left, bottom, right, top = grid.bounds_m
    to_lonlat = grids.transformer(grid.crs, "EPSG:4326")
    longitude, latitude = to_lonlat.transform((left + right) / 2, (bottom + top) / 2)
    return float(longitude), float(latitude)


def _modis_lai(world: Any, time: np.datetime64, grid: Grid) -> np.ndarray:
    before = time - 2 * schedule.MODIS_DAYS * schedule.DAY
    last = schedule.modis_lai(before, time + np.timedelta64(1, "us"))
    return composites.modis_lai(world, grid, start=last.start[-1], end=last.end[-1])


def _coarse(source: str):
    return lambda world, time, grid: coarse.on_grid(world, source, time=time, grid=grid)


SOURCES = {
    "sentinel1": _sentinel1,
    "sentinel2": _sentinel2,
    "dem": lambda world, time, grid: soil_maps.elevation(world.seed, grid),
    "soilgrids": lambda world, time, grid: soil_maps.soilgrids(world.seed, grid),
    "land_cover": lambda world, time, grid: soil_maps.land_cover(world.seed, grid),
    "modis_lai": _modis_lai,
    "smap": _coarse("smap"),
    "gldas": _coarse("gldas"),
    "smap_l3": _coarse("smap_l3"),
}

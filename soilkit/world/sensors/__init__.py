"""What each source would see of the synthetic world, in the stored values of its asset."""

from typing import Any

import numpy as np

from soilkit import grids
from soilkit.contracts import Grid
from soilkit.errors import UnknownNameError
from soilkit.world import schedule
from soilkit.world.sensors import (
    coarse,
    composites,
    instruments,
    optics,
    radar,
    soil_maps,
)
from soilkit.world.sensors.radar import view


def render(world: Any, source: str, time: Any, grid: Grid) -> np.ndarray:
    """What a source saw of the world, (band, row, col) float32, bands in catalogue order.

    Stored values of the asset: dB and degrees, digital numbers and QA60 bits, g/kg, mm, kg m-2.
    Radar and optical scenes are those of the pass that ended within ten minutes of ``time``, NaN
    outside its swath; where no pass was due, of a virtual one that covers everything. Composites
    and coarse products give the last one that ended at or before ``time``. Raises
    ``UnknownNameError`` for a source that the synthetic world does not render.

    Parameters
    ----------
    source : str, a name of ``SOURCES``
    time : datetime64 or text, UTC; ignored by static sources
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


def _optical(make: Any, mission: schedule.Mission, native_m: float) -> Any:
    """A renderer of an optical mission's scenes; grids of finer pixels show its native ones."""

    def _rendered(world: Any, time: np.datetime64, grid: Grid) -> np.ndarray:
        if grid.pixel_size_m < native_m:
            native = soil_maps.native_grid(grid, pixel_size_m=native_m)
            return soil_maps.nearest(_rendered(world, time, native), native, grid=grid)
        seen = view(mission, grid, time=time, default_incidence_deg=0.0)
        longitude, latitude = middle(grid)
        rain = rain_at(world, np.array([time]), longitude=longitude, latitude=latitude)
        scene = optics.scene(
            world.surface(time, grid),
            seed=world.seed,
            name=seen.scene,
            rain_mm=float(rain[0]),
            latitude_deg=latitude,
        )
        image = make(scene)
        image[:, ~seen.covered] = np.nan
        return image

    return _rendered


def middle(grid: Grid) -> tuple[float, float]:
    """Longitude and latitude of a grid's centre, degrees."""
    left, bottom, right, top = grid.bounds_m
    to_lonlat = grids.transformer(grid.crs, "EPSG:4326")
    longitude, latitude = to_lonlat.transform((left + right) / 2, (bottom + top) / 2)
    return float(longitude), float(latitude)


def _modis(source: str):
    return lambda world, time, grid: composites.modis(world, source, grid=grid, time=time)


def _modis_land_cover(world: Any, time: np.datetime64, grid: Grid) -> np.ndarray:
    year = int(str(time.astype("datetime64[Y]"))) - 1  # the last that has ended
    return soil_maps.on_grid(soil_maps.igbp(year), grid, seed=world.seed)


def _map(source: str):
    layer = soil_maps.MAPS[source]
    return lambda world, time, grid: soil_maps.on_grid(layer, grid, seed=world.seed)


def _coarse(source: str):
    return lambda world, time, grid: coarse.on_grid(world, source, time=time, grid=grid)


SOURCES = {
    "sentinel1": _sentinel1,
    "smap_sentinel1": lambda world, time, grid: radar.smap_sentinel1(world, grid, time=time),
    "sentinel2": _optical(optics.sentinel2, schedule.SENTINEL2, 10.0),
    "landsat8": _optical(optics.landsat, schedule.LANDSAT8, 30.0),
    "landsat9": _optical(optics.landsat, schedule.LANDSAT9, 30.0),
    "modis_land_cover": _modis_land_cover,
    **{source: _map(source) for source in soil_maps.MAPS},
    **{source: _modis(source) for source in composites.MODIS},
    "smap_hydroblocks": lambda world, time, grid: composites.hydroblocks(world, grid, time=time),
    **{name: _coarse(name) for name in coarse.MODELS if name != "modis_lai"},
}

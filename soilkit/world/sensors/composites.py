"""Composites over days: leaf area, NDVI, surface temperature, evapotranspiration, rain; pH."""

from dataclasses import dataclass

import numpy as np

from soilkit import grids
from soilkit.contracts import Grid
from soilkit.world import surface
from soilkit.world.sensors import instruments as c
from soilkit.world.sensors import lattice
from soilkit.world.sensors.coarse.forcing import Forcing, observed_rain
from soilkit.world.sensors.soil_maps import native_grid, resample

OVERPASS_HOUR_UTC = 17  # half past ten in the morning at 98 W
POINTS_PER_SIDE = 3
NDVI_ERROR = 0.025  # Vermote and Kotchenova 2008, doi:10.1029/2007JD009662
LST_ERROR_K = 1.0  # Wan 2014, doi:10.1016/j.rse.2013.08.027
ET_ERROR = 0.2  # of the value: Mu et al. 2011, doi:10.1016/j.rse.2011.02.019
EXTINCTION = 0.5  # Beer's law share of the demand that leaves transpire
PH_DRY, PH_WET, PH_SCALE_MM = 8.2, 5.1, 250.0  # Slessarev et al. 2016, doi:10.1038/nature20139
PH_ERROR, PH_ERROR_SCALE_M = 0.4, 20_000.0
AT_ONCE = 24  # composites whose states are held in memory together


@dataclass(frozen=True)
class Pixels:
    """Pixels of one size in the world's plane (EASE-Grid 2.0): ``rows``, ``cols`` (pixel,) int."""

    size_m: float
    rows: np.ndarray
    cols: np.ndarray

    def points(self, per_side: int = POINTS_PER_SIDE) -> tuple[np.ndarray, np.ndarray]:
        """World coordinates of a net of points in each pixel: (u_m, v_m), (pixel, point)."""
        steps = (np.arange(per_side) + 0.5) / per_side
        down, right = (part.ravel() for part in np.meshgrid(steps, steps, indexing="ij"))
        u_m = grids.EASE2_LEFT_M + (self.cols[:, None] + right) * self.size_m
        v_m = grids.EASE2_TOP_M - (self.rows[:, None] + down) * self.size_m
        return u_m, v_m


def pixels_at(longitude, latitude, *, size_m: float) -> Pixels:
    """The pixel that holds each place.

    Examples
    --------
    >>> pixels_at([-98.0, -98.0], [38.0, 38.001], size_m=1000.0).cols.tolist()
    [7911, 7911]
    """
    there = grids.transformer("EPSG:4326", grids.EASE2_CRS)
    u_m, v_m = there.transform(np.atleast_1d(longitude), np.atleast_1d(latitude))
    rows = np.floor((grids.EASE2_TOP_M - np.asarray(v_m)) / size_m).astype(int)
    cols = np.floor((np.asarray(u_m) - grids.EASE2_LEFT_M) / size_m).astype(int)
    return Pixels(float(size_m), rows, cols)


def periods(start, end, *, days: int) -> tuple[np.ndarray, np.ndarray]:
    """First days of composites that restart with the year, and the days after their last.

    Those that start before ``end`` and end after ``start``: datetime64[D], (composite,) each.

    Examples
    --------
    >>> first, after = periods("2019-12-25", "2020-01-05", days=16)
    >>> first.astype(str).tolist(), after.astype(str).tolist()
    (['2019-12-19', '2020-01-01'], ['2020-01-01', '2020-01-17'])
    """
    start, end = np.datetime64(start, "D"), np.datetime64(end, "D")
    all_days = np.arange(start - days, end)
    year = all_days.astype("datetime64[Y]")
    first = all_days[(all_days - year.astype("datetime64[D]")).astype(int) % days == 0]
    after = np.minimum(first + days, (first.astype("datetime64[Y]") + 1).astype("datetime64[D]"))
    keep = after > start
    return first[keep], after[keep]


def ndvi(world, pixels: Pixels, *, starts, days: int = 16) -> np.ndarray:
    """NDVI of composites in the middle of their days, (composite, pixel)."""
    seen = _canopy(world, pixels, _middle(world, starts, days))[0]
    return np.clip(seen + NDVI_ERROR * _white(world, "ndvi", pixels, starts), -0.2, 1.0)


def lst_c(world, pixels: Pixels, *, starts, days: int = 8) -> np.ndarray:
    """Land surface temperature at half past ten, mean of a composite's days, (composite, pixel).

    The ground's own temperature under its canopy, degrees C. The world's ground does not warm as it
    dries, so this layer tells season and canopy, and nothing of the water itself.
    """
    moments = _moments(world, starts, days)  # (composite, day)
    centre = pixels.points(1)
    place = surface.place_at(world.seed, centre)
    out = np.empty((len(moments), len(pixels.rows)))
    for k, part in _chunks(moments):
        states = surface.point_states(world._cells, place, times=part.ravel())
        warm = states["soil_temperature"].reshape(*part.shape, -1).mean(axis=1)
        middle = _at(states, np.arange(len(part)) * part.shape[1] + part.shape[1] // 2)
        middle["soil_temperature"] = warm
        for j, (moment, state) in enumerate(zip(part[:, part.shape[1] // 2], _each(middle),
                                                strict=True)):  # fmt: skip
            out[k + j] = _surface(state, place, moment).soil_temperature_c.mean(axis=1)
    return out + LST_ERROR_K * _white(world, "lst", pixels, starts)


def et_mm(world, pixels: Pixels, *, starts, days: int = 8) -> np.ndarray:
    """Evapotranspiration of composites, mm per 8 days, (composite, pixel).

    The cell's atmospheric demand times the share of light that leaves take, 1 - exp(-K LAI): what a
    product made from leaf area and weather tells. It does not fall when the soil dries.
    """
    _, lai = _canopy(world, pixels, _middle(world, starts, days))
    u_m, v_m = (part[:, 0] for part in pixels.points(1))
    rows, cols = _cells_of(u_m, v_m)
    series = world.cells(rows, cols)
    day = np.asarray(series.time).astype("datetime64[D]")
    index = (_days_of(world, starts, days) - day[0]).astype(int)
    demand = series.pet_mm[:, index].sum(axis=-1).T  # (composite, pixel)
    noise = 1 + ET_ERROR * _white(world, "et", pixels, starts)
    return demand * (1 - np.exp(-EXTINCTION * lai)) * np.maximum(noise, 0.1)


def rain_mm(world, cells: Pixels) -> tuple[np.ndarray, np.ndarray]:
    """Rain as satellites and gauges tell it, on the world's 9 km cells: days, (cell, day) mm d-1.

    It has the errors of the rain that drives the world's SMAP10KM and GLDAS.
    """
    series = world.cells(cells.rows, cells.cols)
    days = np.asarray(series.time).astype("datetime64[D]")
    u_m, v_m = (part[:, 0] for part in cells.points(1))
    forcing = Forcing(days, v_m, u_m, series.precipitation_mm, series.pet_mm, series.temperature_c)
    return days, observed_rain(forcing, seed=world.seed)


def ph(world, pixels: Pixels) -> np.ndarray:
    """pH in water (pixel,): falls where rain exceeds demand; the world's soil has none of its own.

    References
    ----------
    Slessarev et al. (2016), doi:10.1038/nature20139
    """
    u_m, v_m = (part[:, 0] for part in pixels.points(1))
    series = world.cells(*_cells_of(u_m, v_m))
    years = len(series.time) / 365.25
    surplus = (series.precipitation_mm - series.pet_mm).sum(axis=1) / years  # mm per year
    middle, half = (PH_DRY + PH_WET) / 2, (PH_DRY - PH_WET) / 2
    error = world.noise("ph", (u_m, v_m), scale_m=PH_ERROR_SCALE_M)
    return middle - half * np.tanh(surplus / PH_SCALE_MM) + PH_ERROR * error


def _cells_of(u_m, v_m):
    size = grids.EASE2_PIXEL_SIZE_M[9]
    rows = np.floor((grids.EASE2_TOP_M - v_m) / size).astype(int)
    return rows, np.floor((u_m - grids.EASE2_LEFT_M) / size).astype(int)


def _canopy(world, pixels, times):
    """NDVI and leaf area, means over each pixel's points, (time, pixel)."""
    place = surface.place_at(world.seed, pixels.points())
    out = np.empty((2, len(times), len(pixels.rows)))
    for k, part in _chunks(times):
        states = surface.point_states(world._cells, place, times=part)
        for j, (moment, state) in enumerate(zip(part, _each(states), strict=True)):
            seen = _surface(state, place, moment)
            out[:, k + j] = seen.ndvi.mean(axis=1), seen.lai.mean(axis=1)
    return out


def _surface(state, place, moment):
    shape = place.u_m.shape
    shaped = {name: values.reshape(shape).astype(np.float32) for name, values in state.items()}
    return surface.surface(shaped, place, grid=None, time=moment)  # type: ignore[arg-type]


def _each(states):
    for k in range(len(next(iter(states.values())))):
        yield {name: values[k] for name, values in states.items()}


def _at(states, index):
    return {name: values[index] for name, values in states.items()}


def _chunks(times):
    for k in range(0, len(times), AT_ONCE):
        yield k, times[k : k + AT_ONCE]


def _days_of(world, starts, days):
    """Days of each composite, (composite, day) datetime64[D]: no later than its year's last."""
    first = np.asarray(starts, "datetime64[D]")
    last = (first.astype("datetime64[Y]") + 1).astype("datetime64[D]") - 1
    last = np.minimum(last, world.end.astype("datetime64[D]"))
    return np.minimum(first[:, None] + np.arange(days), last[:, None])


def _moments(world, starts, days):
    hour = np.timedelta64(OVERPASS_HOUR_UTC, "h")
    return _days_of(world, starts, days).astype("datetime64[us]") + hour


def _middle(world, starts, days):
    return _moments(world, starts, days)[:, days // 2]


def _white(world, name, pixels, starts):
    """Standard normal noise of each pixel and composite, (composite, pixel)."""
    number = np.asarray(starts, "datetime64[D]").astype(int)
    seeds = lattice.keys((world.seed, "daily", name), number)[:, None]
    return lattice.normals(seeds, rows=pixels.rows, cols=pixels.cols)


def modis_lai(world, grid: Grid, *, start: np.datetime64, end: np.datetime64) -> np.ndarray:
    """LAI x 10 of one composite on 500 m pixels, float32 (1, row, col).

    The mean of the ground's LAI on 4 x 4 points a pixel in the middle of the period, with a
    relative error that stays for the composite [1]_.

    References
    ----------
    .. [1] Yan et al. (2016), doi:10.3390/rs8050359
    """
    native = native_grid(grid, pixel_size_m=c.LAI_PIXEL_M, margin_px=1)
    points = Grid(
        native.crs, native.left_m, native.top_m, native.pixel_size_m / 4,
        native.height * 4, native.width * 4,
    )  # fmt: skip
    lai = world.surface(start + (end - start) / 2, points).lai
    mean = lai.reshape(native.height, 4, native.width, 4).mean(axis=(1, 3))
    rows, cols = np.round(native.y_m)[:, None], np.round(native.x_m)
    key = np.uint64(lattice.key(world.seed, "lai", str(start), native.crs))
    noise = lattice.normals(key, rows=rows.astype(np.int64), cols=cols.astype(np.int64))
    stored = np.clip(np.rint(10 * mean * (1 + c.LAI_ERROR * noise)), 0, 100)
    return resample(stored, native, grid=grid, order=0).astype(np.float32)[None]

"""Static maps and composites: SoilGrids, terrain, land cover, LAI, NDVI, LST, ET, rain, pH."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from soilkit import grids
from soilkit.contracts import Grid
from soilkit.world import fields, surface
from soilkit.world.sensors import lattice
from soilkit.world.sensors import instruments as c
from soilkit.world.sensors.coarse.forcing import Forcing, observed_rain

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
    forcing = Forcing(
        days, v_m, u_m, series.precipitation_mm, series.pet_mm, series.temperature_c
    )
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


# Static maps and the leaf-area composite: SoilGrids, elevation, land cover, MODIS LAI.

MARGIN_PX = 8  # of the native map around a grid, wider than the smoothing kernel


def native_grid(grid: Grid, *, pixel_size_m: float, margin_px: int) -> Grid:
    """The map's own pixels, aligned to multiples of their size, that cover a grid and a margin.

    Examples
    --------
    >>> native = native_grid(Grid("EPSG:32614", 500_010.0, 4e6, 10, 256, 256),
    ...                      pixel_size_m=250, margin_px=1)
    >>> native.bounds_m
    (499750.0, 3997000.0, 503000.0, 4000250.0)
    """
    left, bottom, right, top = grid.bounds_m
    size = float(pixel_size_m)
    first_col, last_col = np.floor(left / size) - margin_px, np.ceil(right / size) + margin_px
    first_row, last_row = np.ceil(top / size) + margin_px, np.floor(bottom / size) - margin_px
    shape = int(first_row - last_row), int(last_col - first_col)
    return Grid(grid.crs, float(first_col * size), float(first_row * size), size, *shape)


def resample(values: np.ndarray, native: Grid, *, grid: Grid, order: int) -> np.ndarray:
    """Sample a native map (row, col) at the pixel centres of a grid; order 0 nearest, 1 linear."""
    row = (native.top_m - grid.y_m) / native.pixel_size_m - 0.5
    col = (grid.x_m - native.left_m) / native.pixel_size_m - 0.5
    where = np.meshgrid(row, col, indexing="ij")
    return map_coordinates(values, where, order=order, mode="nearest")


def soilgrids(seed: int, grid: Grid) -> np.ndarray:
    """Sand, silt, clay [g/kg] and bulk density [cg cm-3] as SoilGrids maps them.

    The truth smoothed over half a kilometre plus errors of two scales, so that R2 against profiles
    is 0.55-0.75 [1]_.

    Parameters
    ----------
    seed : int
    grid : Grid

    Returns
    -------
    float32 array (4, row, col)

    References
    ----------
    .. [1] Hengl et al. (2017), doi:10.1371/journal.pone.0169748
    """
    native = native_grid(grid, pixel_size_m=c.SOILGRIDS_PIXEL_M, margin_px=MARGIN_PX)
    truth = fields.ground(seed, *grids.project(native, grids.EASE2_CRS))
    errors = {name: _error(name, seed, native) for name in ("sand", "clay", "bdod")}
    r = c.SOILGRIDS_ERROR_CORRELATION
    errors["clay"] = r * errors["sand"] + np.sqrt(1 - r**2) * errors["clay"]
    sand = _smoothed(truth.sand_percent) + c.SOILGRIDS_ERROR_PERCENT["sand"] * errors["sand"]
    clay = _smoothed(truth.clay_percent) + c.SOILGRIDS_ERROR_PERCENT["clay"] * errors["clay"]
    density = _smoothed(truth.bulk_density_g_cm3) + c.SOILGRIDS_DENSITY_ERROR * errors["bdod"]
    sand, clay = np.clip(sand, 2, 96), np.clip(clay, 1, 70)
    excess = np.maximum(sand + clay - 98, 0) / 2
    sand, clay = sand - excess, clay - excess
    stored = (10 * sand, 1000 - 10 * sand - 10 * clay, 10 * clay, 100 * density)
    return np.stack([resample(v, native, grid=grid, order=1) for v in stored]).astype(np.float32)


def _smoothed(truth: np.ndarray) -> np.ndarray:
    return gaussian_filter(truth, c.SOILGRIDS_SMOOTHING_PX, mode="nearest")


def _error(name: str, seed: int, native: Grid) -> np.ndarray:
    """Standard normal errors of two scales of equal variance, (row, col)."""
    total = np.zeros((native.height, native.width), dtype=np.float32)
    for scale in c.SOILGRIDS_ERROR_SCALES_M:
        key = lattice.key(seed, "soilgrids", name, scale, native.crs)
        total += lattice.smooth(key, (native.y_m, native.x_m), scale_m=scale)
    return total / np.sqrt(len(c.SOILGRIDS_ERROR_SCALES_M))


def elevation(seed: int, grid: Grid) -> np.ndarray:
    """Elevation on 30 m pixels with the error of a radar DEM, float32 (1, row, col), m.

    References
    ----------
    Buckley et al. (2020), NASADEM user guide, NASA LP DAAC
    """
    native = native_grid(grid, pixel_size_m=c.DEM_PIXEL_M, margin_px=2)
    truth = fields.ground(seed, *grids.project(native, grids.EASE2_CRS)).elevation_m
    key = lattice.key(seed, "dem", grid.crs)
    error = lattice.smooth(key, (native.y_m, native.x_m), scale_m=c.DEM_ERROR_SCALE_M)
    seen = resample(truth + c.DEM_ERROR_M * error, native, grid=grid, order=1)
    return seen.astype(np.float32)[None]


def land_cover(seed: int, grid: Grid) -> np.ndarray:
    """Copernicus class codes on their 100 m pixels, float32 (1, row, col)."""
    native = native_grid(grid, pixel_size_m=100, margin_px=1)
    truth = fields.ground(seed, *grids.project(native, grids.EASE2_CRS)).land_cover
    return resample(truth, native, grid=grid, order=0).astype(np.float32)[None]


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

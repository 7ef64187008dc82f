"""Products on pixels of their own: MODIS composites, HydroBlocks' moisture."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.special import expit, logit

from soilkit import grids
from soilkit.contracts import Grid
from soilkit.world import fields, schedule, surface
from soilkit.world.sensors import instruments as c
from soilkit.world.sensors import lattice, optics
from soilkit.world.sensors.coarse.forcing import Product

POINTS_PER_SIDE, SKIN_POINTS = 3, 2  # of the net whose mean is a pixel
DAY_HOUR_UTC, NIGHT_HOUR_UTC = 17, 29  # half past ten at 98 W, in the morning and at night
MAX_NET = 3  # native pixels a side whose mean is a coarser pixel
CODE = 1 << 24  # more than columns of any pixels
N_UNITS, THIRDS = 3 * len(fields.TYPES), (-0.43, 0.43)  # of a standard normal index
POINTS_AT_ONCE = 250_000  # whose states are held in memory together


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

    @property
    def centres(self) -> tuple[np.ndarray, ...]:
        """World coordinates of the pixels' centres, (pixel,) each."""
        return tuple(part[:, 0] for part in self.points(1))


def pixels_at(longitude, latitude, *, size_m: float) -> Pixels:
    """The pixel that holds each place."""
    there = grids.transformer("EPSG:4326", grids.EASE2_CRS)
    u_m, v_m = there.transform(np.atleast_1d(longitude), np.atleast_1d(latitude))
    return Pixels(float(size_m), *_rows_cols(u_m, v_m, size_m=size_m))


def ndvi(world, pixels: Pixels, *, starts, days: int = 16) -> np.ndarray:
    """NDVI of mean reflectances in the middle of composites, snow included, (composite, pixel)."""
    return _indices(world, pixels, starts=starts, days=days)[0]


def lst_c(world, pixels: Pixels, *, starts, days: int = 8, hour: int = DAY_HOUR_UTC) -> np.ndarray:
    """Land surface temperature: mean of a composite's clear days at an hour, (composite, pixel).

    The skin of ground and canopy, degrees C, so that it falls where bare ground is moist; NaN where
    clouds hid every day.
    """
    dates = _days_of(world, starts, days)
    unique, inverse = np.unique(dates, return_inverse=True)
    place = surface.place_at(world.seed, pixels.points(SKIN_POINTS))
    skin = np.empty((len(unique), len(pixels.rows)))
    times = unique.astype("datetime64[us]") + np.timedelta64(hour, "h")
    for k, seen in _surfaces(world, place, times):
        skin[k] = seen.skin_temperature_c.mean(axis=1)
    rain = _weather(world, pixels, unique, "precipitation_mm")
    skin[_overcast(world.seed, pixels, unique, hour=hour, rain_mm=rain)] = np.nan
    daily = np.where(
        (np.diff(dates, axis=1, prepend=dates[:, :1] - 1).astype(int) > 0)[:, :, None],
        skin[inverse.reshape(dates.shape)],
        np.nan,
    )
    return _mean(daily, axis=1) + c.LST_ERROR_K * _error(world, f"lst {hour}", pixels, starts)


def et_mm(world, pixels: Pixels, *, starts, days: int = 8) -> np.ndarray:
    """Evapotranspiration over the days of composites, mm, (composite, pixel).

    The cell's evaporation, shared out by the light that leaves take, 1 - exp(-K LAI) [1]_, against
    that of the cell's mean canopy; NaN over lakes.

    References
    ----------
    .. [1] Mu et al. (2011), doi:10.1016/j.rse.2011.02.019
    """
    dates = _days_of(world, starts, days)
    middle = dates[:, days // 2]
    lai, water = _canopies(world, pixels, middle)[3:]
    taken, mean = (
        c.ET_SOIL_SHARE + (1 - c.ET_SOIL_SHARE) * (1 - np.exp(-c.CANOPY_EXTINCTION * leaves))
        for leaves in (lai, _weather(world, pixels, middle, "lai"))
    )
    daily = _weather(world, pixels, dates.ravel(), "evaporation_mm").reshape(*dates.shape, -1)
    total = (
        daily * (np.diff(dates, axis=1, prepend=dates[:, :1] - 1).astype(int) > 0)[:, :, None]
    ).sum(axis=1)  # (composite, pixel)
    error = 1 + c.ET_ERROR * _error(world, "et", pixels, starts)
    return np.where(water > 0.5, np.nan, total * taken / mean * np.maximum(error, 0.1))


def _indices(world, pixels, *, starts, days):
    """NDVI and EVI, 2.5 (N - R) / (N + 6 R - 7.5 B + 1): Huete (2002),
    doi:10.1016/S0034-4257(02)00096-2."""
    blue, red, nir, *_ = _canopies(world, pixels, _days_of(world, starts, days)[:, days // 2])
    error = c.NDVI_ERROR * _error(world, "ndvi", pixels, starts)
    evi = 2.5 * (nir - red) / (nir + 6 * red - 7.5 * blue + 1)
    return np.clip([(nir - red) / (nir + red) + error, evi + error], -0.2, 1.0)


def _stored_indices(world, pixels, *, starts, days):
    return np.rint(1e4 * _indices(world, pixels, starts=starts, days=days))


def _stored_lai(world, pixels, *, starts, days):
    """LAI x 10 in the middle of the period, with the product's relative error [Yan 2016]."""
    *_, lai, water = _canopies(world, pixels, _days_of(world, starts, days)[:, days // 2])
    seen = lai * (1 + c.LAI_ERROR * _error(world, "lai", pixels, starts))
    return np.where(water > 0.5, np.nan, np.clip(np.rint(10 * seen), 0, 100))[None]


def _stored_lst(world, pixels, *, starts, days, hours=(DAY_HOUR_UTC, NIGHT_HOUR_UTC), step=1):
    """Kelvin in steps of 0.02, by day and by night; ``step`` is what one of them counts."""
    each = [lst_c(world, pixels, starts=starts, days=days, hour=hour) for hour in hours]
    return np.rint((np.stack(each) + c.ZERO_C_K) / c.LST_STEP_K) * step


_DAILY_LST = partial(_stored_lst, hours=(DAY_HOUR_UTC,), step=c.LST_STEP_K)
# Pixels in m, days of a composite (``schedule.CALENDARS``), stored values (band, composite, pixel).
MODIS: dict[str, tuple[float, int, Callable[..., np.ndarray]]] = {
    "modis_lai": (500.0, 4, _stored_lai),
    "modis_ndvi_500": (500.0, 16, _stored_indices),
    "modis_ndvi_250": (250.0, 16, _stored_indices),
    "modis_lst": (1000.0, 8, _stored_lst),
    "modis_lst_daily": (1000.0, 1, _DAILY_LST),
    "modis_et": (500.0, 8, lambda *a, **k: np.rint(10 * et_mm(*a, **k))[None]),
}


def modis(world, source: str, *, grid: Grid, time: np.datetime64) -> np.ndarray:
    """The last composite that ended at or before a time, stored values, float32 (band, row, col).

    Pixels of the world's plane, the nearest one's value; coarser grids show the mean of up to
    3 x 3 of them a pixel. NaN over lakes (LAI, evapotranspiration) and under clouds (temperature).
    """
    size_m, days, make = MODIS[source]
    last = schedule.CALENDARS[source](time - 2 * days * schedule.DAY, time + np.timedelta64(1))
    pixels, show = _pixels_of(grid, size_m=size_m)
    starts = last.start[-1:].astype("datetime64[D]")
    return show(make(world, pixels, starts=starts, days=days)[:, 0])


def series(
    world, source: str, longitude, *, latitude, period: tuple[np.datetime64, np.datetime64]
) -> Product:
    """The composites that end in a period at the pixels under places: (place, time, band)."""
    size_m, days, make = MODIS[source]
    periods = schedule.CALENDARS[source](*period)
    at = pixels_at(longitude, latitude, size_m=size_m)
    pixels, inverse = _distinct(at.rows, at.cols, size_m=size_m)
    starts = periods.start.astype("datetime64[D]")
    values = make(world, pixels, starts=starts, days=days)  # (band, composite, pixel)
    return Product(periods, values.astype(np.float32).transpose(2, 1, 0)[inverse])


def hydroblocks(world, grid: Grid, *, time: np.datetime64) -> np.ndarray:
    """SMAP-HydroBlocks: 0-5 cm moisture of hydrologic response units, m3 m-3, (1, row, col).

    A unit is the ground of one land cover and wetness class within a kilometre and has one value
    [1]_: the truth's mean over it, late on rain, with errors that stay and errors that pass [2]_.
    Every six hours; NaN over lakes.

    References
    ----------
    .. [1] Chaney et al. (2016), doi:10.1002/hyp.10891
    .. [2] Vergopolan et al. (2021), doi:10.1038/s41597-021-01050-2
    """
    stamp = time.astype("datetime64[h]").astype(int) // 6 * 6  # hours since 1970
    pixels, show = _pixels_of(grid, size_m=c.HYDROBLOCKS_PIXEL_M)
    place = pixels.centres
    blocks, block = _distinct(*_rows_cols(*place, size_m=c.UNIT_M), size_m=c.UNIT_M)
    ground = fields.ground(world.seed, *place)
    unit = block * N_UNITS + _unit_class(ground)
    key, col = lattice.key(world.seed, "unit"), blocks.cols[block] * CODE + unit % N_UNITS
    error = c.UNIT_STAYS * lattice.normals(key, rows=blocks.rows[block], cols=col)
    turn = 2 * np.pi * stamp / (24 * c.UNIT_ERROR_DAYS)
    parts = c.UNIT_PATCH, c.UNIT_PASSES * np.cos(turn), c.UNIT_PASSES * np.sin(turn)
    for name, part in enumerate(parts):
        error += part * world.noise(f"unit {name}", place, scale_m=c.UNIT_PATCH_SCALE_M)
    skill = np.tanh(world.noise("unit skill", place, scale_m=c.UNIT_ERROR_SCALE_M))
    share = c.UNIT_ERROR + c.UNIT_ERROR_SPAN * skill  # of saturation
    filled = np.clip(_unit_means(world, blocks, stamp)[unit] / ground.porosity, 0.02, 0.98)
    values = ground.porosity * expit(logit(filled) + 4 * share * error)  # of slope 1 / 4 half full
    return show(np.where(np.isin(ground.land_cover, optics.LAKES), np.nan, values)[None])


def _unit_class(ground: fields.Ground) -> np.ndarray:
    return ground.vegetation * 3 + np.searchsorted(THIRDS, ground.wetness)


def _unit_means(world, blocks: Pixels, stamp: int) -> np.ndarray:
    """Lagged truth of every unit, from a net of samples, (block x unit,); else its block's mean."""
    u_m, v_m = blocks.points(c.UNIT_SAMPLES)  # (block, point)
    unit = _unit_class(fields.ground(world.seed, u_m, v_m))
    unit = (np.arange(len(u_m))[:, None] * N_UNITS + unit).ravel()
    times = (stamp - np.array(c.UNIT_LAGS_H)).astype("datetime64[h]").astype("datetime64[us]")
    to_lonlat = grids.transformer(grids.EASE2_CRS, "EPSG:4326")
    longitude, latitude = to_lonlat.transform(u_m.ravel(), v_m.ravel())
    truth = np.mean(world.truth_at(times, longitude=longitude, latitude=latitude), axis=0)
    n = np.bincount(unit, minlength=len(u_m) * N_UNITS)
    total = np.bincount(unit, weights=truth, minlength=len(n))
    mean = np.repeat(truth.reshape(u_m.shape).mean(axis=1), N_UNITS)
    return np.where(n > 0, total / np.maximum(n, 1), mean)


def _rows_cols(u_m, v_m, *, size_m: float) -> tuple[np.ndarray, np.ndarray]:
    rows = np.floor((grids.EASE2_TOP_M - np.asarray(v_m)) / size_m).astype(int)
    return rows, np.floor((np.asarray(u_m) - grids.EASE2_LEFT_M) / size_m).astype(int)


def _distinct(rows, cols, *, size_m: float) -> tuple[Pixels, np.ndarray]:
    """Each pixel once, and which of them every (row, col) is."""
    pixels, inverse = lattice.distinct(rows, cols)
    return Pixels(float(size_m), *pixels), inverse


def _pixels_of(grid: Grid, *, size_m: float):
    """The pixels under a grid, and a function that shows their values (band, pixel) on it."""
    k = int(np.clip(round(grid.pixel_size_m / size_m), 1, MAX_NET))
    size = grid.pixel_size_m / k
    net = Grid(grid.crs, grid.left_m, grid.top_m, size, grid.height * k, grid.width * k)
    place = (part.ravel() for part in grids.project(net, grids.EASE2_CRS))
    pixels, inverse = _distinct(*_rows_cols(*place, size_m=size_m), size_m=size_m)

    def show(values: np.ndarray) -> np.ndarray:
        fine = values[:, inverse].reshape(-1, grid.height, k, grid.width, k)
        return _mean(_mean(fine, axis=4), axis=2).astype(np.float32)

    return pixels, show


def _mean(values, *, axis):
    """Mean of what there is, NaN where nothing is."""
    known = np.isfinite(values)
    n = known.sum(axis=axis)
    total = np.where(known, values, 0).sum(axis=axis)
    return np.where(n > 0, total / np.maximum(n, 1), np.nan)


def _weather(world, pixels: Pixels, days, name: str) -> np.ndarray:
    """A daily series of the pixels' 9 km cells on some days, (day, pixel)."""
    size = grids.EASE2_PIXEL_SIZE_M[9]
    cells, inverse = _distinct(*_rows_cols(*pixels.centres, size_m=size), size_m=size)
    series = world.cells(cells.rows, cells.cols)
    first = np.asarray(series.time).astype("datetime64[D]")[0]
    return getattr(series, name)[:, (days - first).astype(int)].T[:, inverse]


def _canopies(world, pixels: Pixels, days) -> np.ndarray:
    """Blue, red, near infrared, leaf area and share of water at the overpass, (5, day, pixel)."""
    place = surface.place_at(world.seed, pixels.points())
    times = days.astype("datetime64[us]") + np.timedelta64(DAY_HOUR_UTC, "h")
    out = np.empty((5, len(times), len(pixels.rows)))
    for k, seen in _surfaces(world, place, times):
        bands = optics.surface_reflectance(seen, seed=world.seed, bands=("B2", "B4", "B8"))
        water = np.isin(seen.land_cover, optics.LAKES)
        out[:, k] = np.stack([*bands, seen.lai, water]).mean(axis=2)
    return out


def _surfaces(world, place, times):
    """Number and surface, arrays (pixel, point), of each time."""
    shape = place.u_m.shape
    at_once = max(POINTS_AT_ONCE // place.u_m.size, 1)
    for start in range(0, len(times), at_once):
        part = times[start : start + at_once]
        states = surface.point_states(world._cells, place, times=part)
        for k, moment in enumerate(part):
            state = {n: v[k].reshape(shape).astype(np.float32) for n, v in states.items()}
            yield start + k, surface.surface(state, place, grid=None, time=moment)  # type: ignore[arg-type]


def _overcast(seed: int, pixels: Pixels, days, *, hour: int, rain_mm) -> np.ndarray:
    """Where clouds or cirrus hide pixels, bool (day, pixel)."""
    u_m, v_m = pixels.centres

    def field(name: str, scale_m: float) -> np.ndarray:
        seeds = lattice.keys((seed, name, "modis", hour), days.astype(int))
        return lattice.smooth_points(seeds, (v_m, u_m), scale_m=scale_m)

    sky = optics.clouds(field, rain_mm)
    return sky.opaque | sky.high


def _days_of(world, starts, days: int) -> np.ndarray:
    """Days of each composite, (composite, day) datetime64[D]: its year's last again and again."""
    first = np.asarray(starts, "datetime64[D]")
    year_end = (first.astype("datetime64[Y]") + 1).astype("datetime64[D]") - 1
    last = np.minimum(year_end, world.end.astype("datetime64[D]"))
    return np.minimum(first[:, None] + np.arange(days), last[:, None])


def _error(world, name: str, pixels: Pixels, starts) -> np.ndarray:
    """Unit-variance noise, (composite, pixel): of a region for ever, of a region, of a pixel."""
    number = np.asarray(starts, "datetime64[D]").astype(int)
    always, now = (lattice.keys((world.seed, name, k), k * number) for k in (0, 1))
    white = lattice.normals(now[:, None], rows=pixels.rows, cols=pixels.cols)
    u_m, v_m = pixels.centres
    for seeds in (always, now):
        white += lattice.smooth_points(seeds, (v_m, u_m), scale_m=c.COMPOSITE_ERROR_SCALE_M)
    return white / np.sqrt(np.float32(3))

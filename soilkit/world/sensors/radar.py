"""Sentinel-1: viewing geometry, bare-soil backscatter, water cloud, terrain, speckle, floor."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.special import gammaincinv, ndtr

from soilkit import grids
from soilkit.contracts import Grid
from soilkit.world import schedule
from soilkit.world.sensors import instruments as c
from soilkit.world.sensors import lattice
from soilkit.world.sensors.coarse import passive
from soilkit.world.sensors.coarse.forcing import forcing
from soilkit.world.surface import Surface

KNOTS = 9  # a side; a track bends by metres between them


@dataclass(frozen=True)
class View:
    """One pass over one grid, arrays (row, col); ``look_azimuth_rad`` is from radar to ground."""

    scene: str
    incidence_deg: np.ndarray
    covered: np.ndarray
    look_azimuth_rad: float


def view(
    mission: schedule.Mission, grid: Grid, *, time: np.datetime64, default_incidence_deg: float
) -> View:
    """How the pass that ended at ``time`` sees a grid.

    Where no pass was due, the scene is a virtual one of an ascending track that covers everything
    at ``default_incidence_deg``.

    Parameters
    ----------
    time : datetime64, UTC
    default_incidence_deg : float, degrees

    Returns
    -------
    View
    """
    knot_lon, knot_lat, row, col = _net(grid)
    middle_lon, middle_lat = (float(a.mean()) for a in (knot_lon, knot_lat))
    side = max(grid.height, grid.width) * grid.pixel_size_m
    overpass = schedule.pass_at(
        mission, time, longitude=middle_lon, latitude=middle_lat, side_m=side
    )
    shape = (grid.height, grid.width)
    if overpass is None:
        angle = np.full(shape, default_incidence_deg, dtype=np.float32)
        return View(f"virtual {time}", angle, np.ones(shape, dtype=bool), float(np.deg2rad(77)))
    distance = overpass.track.distance_m(knot_lon, knot_lat)
    angle = row @ schedule.incidence_deg(distance, height_m=mission.height_m) @ col.T
    along = row @ distance @ col.T  # (row, col)
    return View(
        overpass.scene_id,
        angle.astype(np.float32),
        (along >= mission.near_m) & (along <= mission.far_m),
        float(np.deg2rad(overpass.track.heading_deg(middle_lat) + 90)),
    )


def _net(grid: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Longitude and latitude of a few knots, and the bilinear weights (row, knot), (col, knot)."""
    rows, row_weights = _hats(grid.height)
    cols, col_weights = _hats(grid.width)
    x = grid.left_m + (cols + 0.5) * grid.pixel_size_m
    y = grid.top_m - (rows + 0.5) * grid.pixel_size_m
    longitude, latitude = grids.transformer(grid.crs, "EPSG:4326").transform(*np.meshgrid(x, y))
    return longitude, latitude, row_weights, col_weights


def _hats(n: int) -> tuple[np.ndarray, np.ndarray]:
    knots = np.linspace(0, max(n - 1, 1), KNOTS)
    distance = np.abs(np.arange(n)[:, None] - knots) / (knots[1] - knots[0])
    return knots, np.clip(1 - distance, 0, 1)


# Sentinel-1: bare-soil backscatter, the water cloud above it, terrain, speckle and noise floor.

PIXEL_M = 10.0
MAX_FINE_PX = 32  # coarser pixels than this average speckle by its variance alone
_DB = np.float32(np.log(10) / 10)


def soil_backscatter(moisture_percent, roughness_cm, *, incidence_rad, band: str) -> np.ndarray:
    """Backscatter of bare soil by the semi-empirical model fitted to Oh's form.

    sigma0 = 10^a cos(t)^b 10^(c cot(t) mv) (k s)^(d sin(t)), mv in volume percent [1]_.

    Parameters
    ----------
    moisture_percent : array, 100 m3 m-3
    roughness_cm : array, cm, root mean square height
    incidence_rad : array, rad, local
    band : "VV" or "VH"

    Returns
    -------
    array, m2 m-2, linear power

    References
    ----------
    .. [1] Baghdadi et al. (2016), doi:10.3390/rs8110920

    Examples
    --------
    >>> dry, wet = soil_backscatter(np.array([10, 30]), 1.0, incidence_rad=0.663, band="VV")
    >>> float(10 * np.log10(wet / dry).round(2))
    2.0
    """
    a, b, slope, rough = c.SOIL_BACKSCATTER[band]
    cosine, sine = np.cos(incidence_rad), np.sin(incidence_rad)
    log10 = (
        a
        + b * np.log10(cosine)
        + slope * (cosine / sine) * moisture_percent
        + rough * sine * np.log10(c.WAVENUMBER_CM * roughness_cm)
    )
    return np.exp(log10 * np.float32(np.log(10)))


def water_cloud(soil, ndvi, *, water_kg_m2, incidence_rad, band: str) -> np.ndarray:
    """Backscatter of soil under a canopy by the water cloud model.

    sigma0 = A V cos(t) (1 - T2) + T2 soil, T2 = exp(-2 (B V + b W) / cos(t)) [1]_, with V the NDVI
    and A, B of crops and grassland [2]_; the vegetation water W closes tall canopies [3]_.

    Parameters
    ----------
    soil : array, m2 m-2, linear power
    ndvi : array
    water_kg_m2 : array, kg m-2
    incidence_rad : array, rad
    band : "VV" or "VH"

    Returns
    -------
    array, m2 m-2, linear power

    References
    ----------
    .. [1] Attema and Ulaby (1978), doi:10.1029/RS013i002p00357
    .. [2] Baghdadi et al. (2017), doi:10.3390/rs9090969
    .. [3] Jackson and Schmugge (1991), doi:10.1016/0034-4257(91)90057-D
    """
    cosine = np.cos(incidence_rad)
    ndvi = np.maximum(ndvi, 0)
    depth = c.CANOPY_ATTENUATION[band] * ndvi + c.WATER_ATTENUATION_M2_KG * water_kg_m2
    through = np.exp(-2 * depth / cosine)
    return c.CANOPY_SCATTERING[band] * ndvi * cosine * (1 - through) + through * soil


def local_incidence(slope_east, slope_north, *, incidence_rad, look_azimuth_rad: float):
    """Angle between the radar's ray and the normal of the slope, rad.

    Parameters
    ----------
    slope_east, slope_north : arrays, m m-1
    incidence_rad : array, rad, on the ellipsoid
    look_azimuth_rad : float, rad clockwise from north, from the radar to the ground

    Returns
    -------
    array, rad, within 5 and 80 degrees
    """
    facing = slope_east * np.sin(look_azimuth_rad) + slope_north * np.cos(look_azimuth_rad)
    # A slope that rises along the look tilts its normal towards the radar.
    cosine = np.cos(incidence_rad) + np.sin(incidence_rad) * facing
    cosine = cosine / np.sqrt(1 + slope_east**2 + slope_north**2)
    return np.arccos(np.clip(cosine, np.cos(np.deg2rad(80)), np.cos(np.deg2rad(5))))


def speckle(grid: Grid, seed: int) -> np.ndarray:
    """Multiplicative speckle of mean one, equal ground giving equal speckle.

    A gamma variable of 4.4 equivalent looks, correlated over about 20 m [1]_; pixels coarser than
    10 m hold the mean over their 10 m pixels.

    Parameters
    ----------
    seed : int, of the scene and polarisation

    Returns
    -------
    float32 array (row, col)

    References
    ----------
    .. [1] ESA, Sentinel-1 product definition, S1-RS-MDA-52-7440, GRD IW high resolution
    """
    k = max(round(grid.pixel_size_m / PIXEL_M), 1)
    size = grid.pixel_size_m / k if k <= MAX_FINE_PX else grid.pixel_size_m
    repeat = k if k <= MAX_FINE_PX else 1
    left, top = round(grid.left_m / size), round(grid.top_m / size)
    rows = np.arange(top + 1, top - grid.height * repeat - 1, -1)
    cols = np.arange(left - 1, left + grid.width * repeat + 1)
    field = _smooth3(lattice.normals(np.uint64(seed), rows=rows[:, None], cols=cols[None, :]))
    if repeat != k:
        n_independent = k * k / _correlation_area()
        return (1 + field * (c.EQUIVALENT_LOOKS * n_independent) ** -0.5).astype(np.float32)
    power = _gamma(field)
    if k == 1:
        return power
    return power.reshape(grid.height, k, grid.width, k).mean(axis=(1, 3))  # (row, col)


def _smooth3(white: np.ndarray) -> np.ndarray:
    a, b, _ = np.array(c.SPECKLE_KERNEL, dtype=np.float32) / np.linalg.norm(c.SPECKLE_KERNEL)
    across = a * (white[:, :-2] + white[:, 2:]) + b * white[:, 1:-1]
    return a * (across[:-2] + across[2:]) + b * across[1:-1]


def _correlation_area() -> float:
    kernel = np.array(c.SPECKLE_KERNEL) / np.linalg.norm(c.SPECKLE_KERNEL)
    return float(kernel.sum() ** 4)


@lru_cache(maxsize=1)
def _gamma_table() -> np.ndarray:
    z = np.linspace(-6, 6, 4097)
    return (gammaincinv(c.EQUIVALENT_LOOKS, ndtr(z)) / c.EQUIVALENT_LOOKS).astype(np.float32)


def _gamma(normal: np.ndarray) -> np.ndarray:
    """A unit-mean gamma variable of the same rank as a standard normal one."""
    index = np.clip(np.rint((normal + 6) * (4096 / 12)), 0, 4096).astype(np.int32)
    return _gamma_table()[index]


def render(surface: Surface, *, seed: int, view: View) -> np.ndarray:
    """VV [dB], VH [dB] and ellipsoid incidence angle [deg] of one pass, (band, row, col) float32.

    NaN outside the swath.
    """
    angle = np.deg2rad(view.incidence_deg).astype(np.float32)
    local = local_incidence(
        surface.slope_east,
        surface.slope_north,
        incidence_rad=angle,
        look_azimuth_rad=view.look_azimuth_rad,
    ).astype(np.float32)
    gain = lattice.normals(
        lattice.key(seed, view.scene, "gain"), rows=[0, 1], cols=[0, 0]
    ) * np.float32(c.CALIBRATION_STD_DB)
    out = np.empty((3, *local.shape), dtype=np.float32)
    for i, band in enumerate(("VV", "VH")):
        power = sigma0(surface, local, band=band) + np.float32(10 ** (c.NOISE_FLOOR_DB / 10))
        noise = speckle(
            surface.grid, lattice.key(seed, view.scene, surface.grid.crs, band, "speckle")
        )
        out[i] = np.log(power * noise) / _DB + gain[i]
    out[2] = view.incidence_deg
    out[:, ~view.covered] = np.nan
    return out


def sigma0(surface: Surface, local_incidence_rad: np.ndarray, *, band: str) -> np.ndarray:
    """Backscatter of the synthetic ground before speckle and noise, linear power (row, col).

    Frozen soil holds little liquid water; wet snow absorbs.
    """
    f32 = np.float32
    percent = np.where(
        surface.frozen, f32(c.FROZEN_MOISTURE_PERCENT), surface.soil_moisture_m3_m3 * f32(100)
    ).astype(f32)
    soil = soil_backscatter(
        percent, surface.roughness_cm.astype(f32), incidence_rad=local_incidence_rad, band=band
    )
    total = water_cloud(
        soil,
        surface.ndvi.astype(f32),
        water_kg_m2=surface.vegetation_water_kg_m2.astype(f32),
        incidence_rad=local_incidence_rad,
        band=band,
    )
    if surface.wet_snow.any():
        total = np.where(surface.wet_snow, total * f32(10 ** (-c.WET_SNOW_LOSS_DB / 10)), total)
    cover = surface.land_cover
    total = np.where(cover == 50, total + f32(c.BUILT_UP_SIGMA0[band]), total)
    return np.where((cover == 80) | (cover == 200), f32(c.WATER_SIGMA0[band]), total)


# SMAP/Sentinel-1: SMAP's brightness temperature spread over 1 km by backscatter.

KM_M = grids.EASE2_PIXEL_SIZE_M[9] / 9  # of the 1 km EASE-Grid 2.0


def smap_sentinel1(world: Any, grid: Grid, *, time: np.datetime64) -> np.ndarray:
    """Moisture at 1 km, VV and VH in linear power, moisture at 3 km, (band, row, col) float32.

    TB(1 km) = TB(9 km) + beta ((VV - <VV>) - Gamma (VH - <VH>)), backscatter in dB and means over
    the 9 km, then SMAP's single-channel retrieval with the 9 km canopy and warmth (Das et al. 2019,
    doi:10.1016/j.rse.2019.111380). Of the last morning pass of SMAP within three days; NaN outside
    Sentinel-1's swath and where SMAP retrieved nothing.

    Parameters
    ----------
    time : datetime64, UTC, the end of Sentinel-1's pass
    """
    u_m, v_m = grids.project(grid, grids.EASE2_CRS)
    row = np.floor((grids.EASE2_TOP_M - v_m) / KM_M).astype(int)
    col = np.floor((u_m - grids.EASE2_LEFT_M) / KM_M).astype(int)
    top, left = row.min() // 9, col.min() // 9
    n_rows, n_cols = row.max() // 9 - top + 1, col.max() // 9 - left + 1
    left_m, top_m = grids.EASE2_LEFT_M + 9 * left * KM_M, grids.EASE2_TOP_M - 9 * top * KM_M
    whole = Grid(grids.EASE2_CRS, left_m, top_m, KM_M, 9 * int(n_rows), 9 * int(n_cols))
    seen = view(schedule.SENTINEL1, whole, time=time, default_incidence_deg=c.NOMINAL_INCIDENCE_DEG)
    both_db = _both_db(world.surface(time, whole), world.seed, (seen.scene, 9 * top, 9 * left))
    blocks = (
        (both_db[0] - c.GAMMA_VV_VH * both_db[1]).reshape(n_rows, 9, n_cols, 9).swapaxes(1, 2)
    )  # (row, col, y, x)
    blocks = blocks - blocks.mean(axis=(2, 3), keepdims=True)
    cells = np.indices((n_rows, n_cols)).reshape(2, -1) + np.array([[top], [left]])
    tb_v_k, known = _latest(world, *cells, time=time)  # (cell, 1)
    out = np.empty((4, *row.shape), dtype=np.float32)
    out[1:3] = 10 ** (both_db[:, row - 9 * top, col - 9 * left] / 10)
    for k, side in ((0, 1), (3, 3)):
        parts = blocks.reshape(-1, 9 // side, side, 9 // side, side).mean(axis=(2, 4))
        tb_k = tb_v_k + c.BETA_K_DB * parts.reshape(len(parts), -1)  # (cell, part)
        moisture = passive.single_channel(tb_k, known).reshape(n_rows, n_cols, *parts.shape[1:])
        image = moisture.swapaxes(1, 2).reshape(n_rows * 9 // side, n_cols * 9 // side)
        out[k] = image[(row - 9 * top) // side, (col - 9 * left) // side]
    covered = seen.covered[row - 9 * top, col - 9 * left]
    return np.where(covered, out, np.float32("nan"))


def _both_db(surface: Surface, seed: int, place: tuple[str, int, int]) -> np.ndarray:
    """VV and VH of 1 km pixels at 38 degrees with what noise is left, dB (band, row, col)."""
    scene, top, left = place
    shape = surface.ndvi.shape
    angle = np.full(shape, np.deg2rad(c.NOMINAL_INCIDENCE_DEG), dtype=np.float32)
    rows, cols = top + np.arange(shape[0])[:, None], left + np.arange(shape[1])
    keys = {band: np.uint64(lattice.key(seed, scene, "1 km", band)) for band in ("VV", "VH")}
    return np.stack([
        np.log(sigma0(surface, angle, band=band)) / _DB
        + c.KM_NOISE_DB * lattice.normals(key, rows=rows, cols=cols)
        for band, key in keys.items()
    ])  # fmt: skip


def _latest(world: Any, rows, cols, *, time: np.datetime64) -> tuple[np.ndarray, passive.Ancillary]:
    """TB V of each cell's last morning pass in three days, K, and what a retrieval knows of it.

    All (cell, 1); NaN without a pass that ended by ``time``, and where no retrieval is attempted.
    """
    state = world.cells(rows, cols)
    place = forcing(state, rows=rows, cols=cols)
    tb_k, known, surface = passive.observation(
        world, tuple(place.y_m), x_m=tuple(place.x_m), time="am"
    )
    skips = [surface[name] > skip for name, (_, _, skip) in c.SURFACE_FLAGS.items()]
    tb_v_k = np.where(np.any(skips, axis=0), np.nan, tb_k[1])
    last = int((time - state.time[0]) / np.timedelta64(12, "h") - 1) // 2  # passes end at noon
    seen = np.isfinite(tb_v_k[:, last - 2 : last + 1])
    day = last - np.argmax(seen[:, ::-1], axis=1)

    def then(values):
        return np.broadcast_to(values, tb_v_k.shape)[np.arange(len(day)), day][:, None]

    canopy = passive.Canopy(*(then(values) for values in vars(known.canopy).values()))
    warm, water, soil = then(known.kelvin), then(known.water_kg_m2), tuple(map(then, known.soil))
    return then(tb_v_k), passive.Ancillary(warm, water, soil, canopy, canopy)

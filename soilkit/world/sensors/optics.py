"""Sentinel-2 L1C: moist-soil darkening, fractional cover, atmosphere, clouds with their shadows."""

from dataclasses import dataclass

import numpy as np

from soilkit.contracts import Grid
from soilkit.world.sensors import instruments as c
from soilkit.world.sensors import lattice
from soilkit.world.surface import Surface

CLOUD_BIT, CIRRUS_BIT = 1 << 10, 1 << 11
DIGITAL_NUMBERS = np.float32(1e4)
SUN_HOUR_ANGLE_DEG = -22.5  # 10:30 local time


def _table(values: tuple[float, ...]) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def soil_reflectance(moisture_m3_m3, *, band: str) -> np.ndarray:
    """Reflectance of bare soil that darkens with water.

    R = Rs + (Rd - Rs) exp(-c moisture): the visible saturates near 0.20 m3 m-3, the shortwave
    infrared later [1]_.

    Parameters
    ----------
    moisture_m3_m3 : array, m3 m-3
    band : one of the Sentinel-2 bands

    Returns
    -------
    array, reflectance 0-1

    References
    ----------
    .. [1] Lobell and Asner (2002), doi:10.2136/sssaj2002.7220

    Examples
    --------
    >>> soil_reflectance(np.array([0.0, 0.2, 0.4]), band="B4").round(3)
    array([0.2  , 0.105, 0.1  ])
    """
    i = c.OPTICAL_BANDS.index(band)
    dry, wet = c.DRY_SOIL[i], c.DRY_SOIL[i] * c.SATURATED_TO_DRY[i]
    return wet + (dry - wet) * np.exp(-c.DARKENING[i] * np.asarray(moisture_m3_m3))


def fractional_cover(ndvi) -> np.ndarray:
    """Fraction of the ground under green leaves, 0-1.

    Red and near-infrared reflectances mix linearly between soil and a closed canopy [1]_; this is
    the cover at which the mixture with soil of 0.15 m3 m-3 has the given NDVI.

    Parameters
    ----------
    ndvi : array

    References
    ----------
    .. [1] Gutman and Ignatov (1998), doi:10.1080/014311698215333

    Examples
    --------
    >>> fractional_cover(np.array([0.1, 0.5, 0.95])).round(2)
    array([0.  , 0.31, 1.  ])
    """
    soil_red, soil_nir = (
        soil_reflectance(c.REFERENCE_MOISTURE_M3_M3, band=band) for band in ("B4", "B8")
    )
    red, nir = (c.CANOPY[c.OPTICAL_BANDS.index(band)] for band in ("B4", "B8"))
    soil_difference, soil_sum = soil_nir - soil_red, soil_nir + soil_red
    over = ndvi * soil_sum - soil_difference
    under = (nir - red - soil_difference) - ndvi * (nir + red - soil_sum)
    return np.clip(over / under, 0, 1)


def sun(time: np.datetime64, *, latitude_deg: float) -> tuple[float, float]:
    """Zenith angle and azimuth (clockwise from north) of the mid-morning sun, rad.

    Declination by Cooper's formula [1]_.

    References
    ----------
    .. [1] Cooper (1969), doi:10.1016/0038-092X(69)90047-4
    """
    day = int((time.astype("datetime64[D]") - time.astype("datetime64[Y]")).astype(int))
    declination = np.deg2rad(23.45) * np.sin(2 * np.pi * (284 + day) / 365)
    phi, hour = np.deg2rad(latitude_deg), np.deg2rad(SUN_HOUR_ANGLE_DEG)
    cosine = np.sin(phi) * np.sin(declination)
    cosine += np.cos(phi) * np.cos(declination) * np.cos(hour)
    east = -np.cos(declination) * np.sin(hour)
    north = np.cos(phi) * np.sin(declination) - np.sin(phi) * np.cos(declination) * np.cos(hour)
    return float(np.arccos(cosine)), float(np.arctan2(east, north))


@dataclass(frozen=True)
class Sky:
    """Clouds of many scenes over one grid: bool arrays (scene, row, col)."""

    opaque: np.ndarray
    cirrus: np.ndarray

    @property
    def fraction(self) -> np.ndarray:
        """Cloudy fraction of the grid, shape (scene,), 0-1: what QA60 flags."""
        return (self.opaque | self.cirrus).mean(axis=(1, 2))


def sky(
    grid: Grid, days, *, seed: int, rain_mm: np.ndarray, shift_m: tuple[float, float] = (0.0, 0.0)
) -> Sky:
    """Clouds over a grid on some days: smooth noise above a threshold that follows the weather.

    The logit of the cloudy fraction is the sum of a clear-sky mean, a synoptic field, and a term
    for rain; its distribution is that of daily cloudiness [1]_.

    Parameters
    ----------
    grid : Grid
    days : datetime64[D] array (scene,)
    seed : int
    rain_mm : array (scene,), mm, of each day
    shift_m : east and north offset at which the clouds are sought, m (for shadows)

    Returns
    -------
    Sky

    References
    ----------
    .. [1] Wilson and Jetz (2016), doi:10.1371/journal.pbio.1002415
    """
    number = np.asarray(days, dtype="datetime64[D]").astype(np.int64)
    place = grid.y_m + shift_m[1], grid.x_m + shift_m[0]

    def field(name: str, scale_m: float) -> np.ndarray:
        seeds = lattice.keys((seed, name, grid.crs), number)
        return lattice.smooth(seeds, place, scale_m=scale_m)

    logit = c.CLEAR_SKY_LOGIT + c.SYNOPTIC_LOGIT * field("synoptic", c.SYNOPTIC_SCALE_M)
    logit = logit + (c.RAIN_LOGIT * np.tanh(np.asarray(rain_mm) / 5))[:, None, None]
    texture = sum(
        weight * field(f"cloud {scale:.0f}", scale)
        for weight, scale in zip(c.CLOUD_WEIGHTS, c.CLOUD_SCALES_M, strict=True)
    )
    # The noise is standard normal; 1.702 turns its distribution function into a logistic one.
    opaque = texture * np.float32(1.702) > -logit
    cirrus = field("cirrus", c.CIRRUS_SCALE_M) > 1.405  # the upper 8 %
    return Sky(opaque, cirrus & ~opaque)


def surface_reflectance(surface: Surface, *, seed: int) -> np.ndarray:
    """Reflectance of soil, canopy, water, buildings and snow below the atmosphere.

    A linear mixture of moist soil and a closed canopy; soil brightness varies between fields.

    Returns
    -------
    float32 array (band, row, col), bands as in ``constants.OPTICAL_BANDS``
    """
    grid = surface.grid
    moisture = surface.soil_moisture_m3_m3.astype(np.float32)
    cover = fractional_cover(surface.ndvi.astype(np.float32))
    bright = lattice.smooth(
        lattice.key(seed, "soil brightness", grid.crs), (grid.y_m, grid.x_m), scale_m=400.0
    )
    bright = (1 + np.float32(c.SOIL_BRIGHTNESS_STD) * bright) * (1 - cover)
    out = np.empty((len(c.OPTICAL_BANDS), *cover.shape), dtype=np.float32)
    for i, band in enumerate(c.OPTICAL_BANDS):
        soil = soil_reflectance(moisture, band=band)
        out[i] = bright * soil + np.float32(c.CANOPY[i]) * cover
    special = (
        ((surface.land_cover == 80) | (surface.land_cover == 200), c.WATER_REFLECTANCE),
        (surface.land_cover == 50, c.BUILT_UP_REFLECTANCE),
        (surface.wet_snow, c.SNOW_REFLECTANCE),
    )
    for where, spectrum in special:
        if where.any():
            out[:, where] = _table(spectrum)[:, None]
    return out


def illumination(surface: Surface, *, zenith_rad: float, azimuth_rad: float) -> np.ndarray:
    """Direct sunlight on slopes relative to flat ground, (row, col), within 0.3 and 1.7."""
    facing = surface.slope_east * np.sin(azimuth_rad) + surface.slope_north * np.cos(azimuth_rad)
    normal = np.sqrt(1 + surface.slope_east**2 + surface.slope_north**2)
    relative = (1 - np.tan(zenith_rad) * facing) / normal
    return np.clip(relative, 0.3, 1.7).astype(np.float32)


def render(
    surface: Surface, *, seed: int, scene: str, rain_mm: float, latitude_deg: float
) -> np.ndarray:
    """Digital numbers (reflectance x 1e4) of B2-B8, B11, B12 and the bits of QA60.

    rho = path + transmittance x surface, with a path and two-way transmittance per band [1]_;
    opaque clouds hide the ground and cast shadows, cirrus brightens it.

    Returns
    -------
    float32 array (10, row, col)

    References
    ----------
    .. [1] Vermote et al. (1997), doi:10.1109/36.581987
    """
    zenith, azimuth = sun(surface.time, latitude_deg=latitude_deg)
    day = np.array([surface.time], dtype="datetime64[D]")
    rain = np.array([rain_mm])
    reach = c.CLOUD_HEIGHT_M * np.tan(zenith)
    towards_sun = (reach * np.sin(azimuth), reach * np.cos(azimuth))
    clouds = sky(surface.grid, day, seed=seed, rain_mm=rain)
    above = sky(surface.grid, day, seed=seed, rain_mm=rain, shift_m=towards_sun)
    light = illumination(surface, zenith_rad=zenith, azimuth_rad=azimuth)
    light = np.where(above.opaque[0], light * np.float32(c.SHADOW_TRANSMITTANCE), light)
    ground = surface_reflectance(surface, seed=seed) * light
    return _at_sensor(ground, clouds, grid=surface.grid, key=lattice.key(seed, scene))


def _at_sensor(ground: np.ndarray, clouds: Sky, *, grid: Grid, key: int) -> np.ndarray:
    """Atmosphere, clouds, noise and QA60 over the lit ground, in digital numbers."""
    opaque, cirrus = clouds.opaque[0], clouds.cirrus[0]
    haze = np.exp(0.25 * lattice.normals(key, rows=[0], cols=[0]))  # aerosol of the scene
    toa = ground * _table(c.TRANSMITTANCE)[:, None, None]
    toa += (_table(c.PATH_REFLECTANCE) * haze)[:, None, None]
    rows = np.round(grid.y_m[:, None]).astype(np.int64)
    cols = np.round(grid.x_m[None, :]).astype(np.int64)
    white = lattice.normals(key, rows=rows, cols=cols)
    toa += np.float32(c.OPTICAL_NOISE * min(1.0, 10 / grid.pixel_size_m)) * white
    if cirrus.any():
        toa[:, cirrus] += np.float32(0.04)
    if opaque.any():
        thick = 1 + np.float32(0.08) * white[opaque]
        toa[:, opaque] = _table(c.CLOUD_REFLECTANCE)[:, None] * thick
    out = np.empty((len(toa) + 1, *opaque.shape), dtype=np.float32)
    out[:-1] = np.rint(np.maximum(toa, 0.0001) * DIGITAL_NUMBERS)
    out[-1] = opaque * np.float32(CLOUD_BIT) + cirrus * np.float32(CIRRUS_BIT)
    return out

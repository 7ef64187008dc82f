"""Sentinel-2 and Landsat: moist soil, canopy, snow, lakes, atmosphere, clouds with shadows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from soilkit.contracts import Grid
from soilkit.world.sensors import instruments as c
from soilkit.world.sensors import lattice
from soilkit.world.surface import Surface

CLOUD_BIT, CIRRUS_BIT = 1 << 10, 1 << 11
DIGITAL_NUMBERS = np.float32(1e4)
SUN_HOUR_ANGLE_DEG = -22.5  # 10:30 local time; Landsat comes a quarter of an hour sooner
LAKES = (80, 200)  # Copernicus codes
# How far around its opaque clouds a mission flags pixels, in the logit of the cloud field.
FLAG_REACH = {"sentinel2": 0.0, "landsat8": c.DILATED_LOGIT, "landsat9": c.DILATED_LOGIT}
# Landsat's bands from Sentinel-2's, straight lines over wavelength, (band, band).
LANDSAT_WEIGHTS = np.stack(
    [np.interp(c.LANDSAT_NM, c.OPTICAL_NM, one) for one in np.eye(len(c.OPTICAL_NM))], axis=1
).astype(np.float32)
QA_LOW = 0b0101_0101_0000_0000  # low confidence of cloud, shadow, snow and cirrus


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
    """Clouds of many scenes over one grid, arrays (scene, row, col).

    ``excess`` is the logit by which the cloud field exceeds its threshold: opaque above zero.
    """

    excess: np.ndarray
    high: np.ndarray  # bool, cirrus, also above other clouds

    @property
    def opaque(self) -> np.ndarray:
        """Where no ground is seen, bool."""
        return self.excess > 0

    @property
    def cirrus(self) -> np.ndarray:
        """Where cirrus alone brightens the ground, bool."""
        return self.high & ~self.opaque

    def fraction(self, reach: float = 0.0) -> np.ndarray:
        """Cloudy fraction of the grid as a mission flags it (``FLAG_REACH``), (scene,), 0-1."""
        return ((self.excess > -reach) | self.high).mean(axis=(1, 2))


def sky(
    grid: Grid, days, *, seed: int, rain_mm: np.ndarray, shift_m: tuple[float, float] = (0.0, 0.0)
) -> Sky:
    """Clouds over a grid on days of some rain, (scene,) each; off by (east, north) for shadows."""
    number = np.asarray(days, dtype="datetime64[D]").astype(np.int64)
    place = grid.y_m + shift_m[1], grid.x_m + shift_m[0]

    def field(name: str, scale_m: float) -> np.ndarray:
        seeds = lattice.keys((seed, name, grid.crs), number)
        return lattice.smooth(seeds, place, scale_m=scale_m)

    return clouds(field, np.asarray(rain_mm)[:, None, None])


def clouds(field: Callable[[str, float], np.ndarray], rain_mm: np.ndarray) -> Sky:
    """Clouds: smooth noise above a threshold that follows the weather.

    The logit of the cloudy fraction is the sum of a clear-sky mean, a synoptic field, and a term
    for rain; its distribution is that of daily cloudiness [1]_.

    ``field`` gives unit-variance noise of a name and a scale [m]; the day's rain broadcasts.

    References
    ----------
    .. [1] Wilson and Jetz (2016), doi:10.1371/journal.pbio.1002415
    """
    logit = c.CLEAR_SKY_LOGIT + c.SYNOPTIC_LOGIT * field("synoptic", c.SYNOPTIC_SCALE_M)
    logit = logit + c.RAIN_LOGIT * np.tanh(rain_mm / 5)
    texture = sum(
        weight * field(f"cloud {scale:.0f}", scale)
        for weight, scale in zip(c.CLOUD_WEIGHTS, c.CLOUD_SCALES_M, strict=True)
    )
    # The noise is standard normal; 1.702 turns its distribution function into a logistic one.
    excess = texture * np.float32(1.702) + logit
    return Sky(excess, field("cirrus", c.CIRRUS_SCALE_M) > 1.405)  # the upper 8 %


def snow_share(surface: Surface) -> np.ndarray:
    """Fraction of each pixel that shows snow to a sensor above, float32, 0-1.

    Trees hide the snow below them: through a canopy of leaves and wood one sees exp(-K PAI) [1]_.
    Lakes carry snow when frozen.

    References
    ----------
    .. [1] Nilson (1971), doi:10.1016/0002-1571(71)90092-6
    """
    seen = np.asarray(surface.snow_cover, dtype=np.float32)
    wood = np.zeros(seen.shape, dtype=np.float32)
    for code, area in c.WOOD_AREA.items():
        wood[surface.land_cover == code] = area
    through = np.exp(-c.CANOPY_EXTINCTION * (surface.lai + wood))
    seen = np.where(wood > 0, seen * through, seen)
    thawed = np.isin(surface.land_cover, LAKES) & ~surface.frozen
    return np.where(thawed, 0, seen).astype(np.float32)


def surface_reflectance(
    surface: Surface, *, seed: int, bands: Sequence[str] = c.OPTICAL_BANDS
) -> np.ndarray:
    """Reflectance of soil, canopy, water, buildings and snow, float32 (band, row, col).

    A linear mixture of moist soil and a closed canopy; soil brightness varies between fields (not
    where the surface has no grid). Dry snow is bright beyond the visible, wet snow much less [1]_.

    References
    ----------
    .. [1] Wiscombe and Warren (1980), doi:10.1175/1520-0469(1980)037<2712:AMFTSA>2.0.CO;2
    """
    which = [c.OPTICAL_BANDS.index(band) for band in bands]
    moisture = surface.soil_moisture_m3_m3.astype(np.float32)
    cover = fractional_cover(surface.ndvi.astype(np.float32))
    bright = 1 - cover
    if (grid := surface.grid) is not None:
        key = lattice.key(seed, "soil brightness", grid.crs)
        field = lattice.smooth(key, (grid.y_m, grid.x_m), scale_m=400.0)
        bright = (1 + np.float32(c.SOIL_BRIGHTNESS_STD) * field) * (1 - cover)
    out = np.empty((len(bands), *cover.shape), dtype=np.float32)
    for i, band in enumerate(bands):
        soil = soil_reflectance(moisture, band=band)
        out[i] = bright * soil + np.float32(c.CANOPY[which[i]]) * cover
    for codes, spectrum in ((LAKES, c.WATER_REFLECTANCE), ((50,), c.BUILT_UP_REFLECTANCE)):
        out[:, np.isin(surface.land_cover, codes)] = _table(spectrum)[which, None]
    snow = snow_share(surface)
    if snow.any():
        dry, wet = (_table(s)[which] for s in (c.DRY_SNOW, c.WET_SNOW))
        white = np.where(surface.wet_snow[..., None], wet, dry)  # (row, col, band)
        out += snow * (np.moveaxis(white, -1, 0) - out)
    return out


def illumination(surface: Surface, *, zenith_rad: float, azimuth_rad: float) -> np.ndarray:
    """Direct sunlight on slopes relative to flat ground, (row, col), within 0.3 and 1.7."""
    facing = surface.slope_east * np.sin(azimuth_rad) + surface.slope_north * np.cos(azimuth_rad)
    normal = np.sqrt(1 + surface.slope_east**2 + surface.slope_north**2)
    relative = (1 - np.tan(zenith_rad) * facing) / normal
    return np.clip(relative, 0.3, 1.7).astype(np.float32)


@dataclass(frozen=True)
class Scene:
    """One pass over one grid: ``ground`` reflectance (band, row, col) as lit, its ``sky``."""

    grid: Grid
    ground: np.ndarray
    sky: Sky
    shadow: np.ndarray  # bool (row, col)
    key: int  # of the pass, on which its noise hangs
    day: np.datetime64


def scene(surface: Surface, *, seed: int, name: str, rain_mm: float, latitude_deg: float) -> Scene:
    """The lit ground under a day's clouds, which cast shadows; ``name`` is the pass's."""
    grid = surface.grid
    zenith, azimuth = sun(surface.time, latitude_deg=latitude_deg)
    day = np.array([surface.time], dtype="datetime64[D]")
    rain = np.array([rain_mm])
    reach = c.CLOUD_HEIGHT_M * np.tan(zenith)
    towards_sun = (reach * np.sin(azimuth), reach * np.cos(azimuth))
    above = sky(grid, day, seed=seed, rain_mm=rain)
    shadow = sky(grid, day, seed=seed, rain_mm=rain, shift_m=towards_sun).opaque[0]
    light = illumination(surface, zenith_rad=zenith, azimuth_rad=azimuth)
    light = np.where(shadow, light * np.float32(c.SHADOW_TRANSMITTANCE), light)
    ground = surface_reflectance(surface, seed=seed) * light
    return Scene(grid, ground, above, shadow, lattice.key(seed, name), day[0])


def sentinel2(view: Scene) -> np.ndarray:
    """Digital numbers (reflectance x 1e4) of B2-B8, B11, B12 and QA60's bits, (10, row, col).

    rho = path + transmittance x surface, with a path and two-way transmittance per band [1]_;
    opaque clouds hide the ground, cirrus brightens it.

    References
    ----------
    .. [1] Vermote et al. (1997), doi:10.1109/36.581987
    """
    haze = np.exp(0.25 * lattice.normals(view.key, rows=[0], cols=[0]))  # aerosol of the scene
    toa = view.ground * _table(c.TRANSMITTANCE)[:, None, None]
    toa += (_table(c.PATH_REFLECTANCE) * haze)[:, None, None]
    toa = _beneath(view, toa, cloud=_table(c.CLOUD_REFLECTANCE))
    flags = view.sky.opaque[0] * np.float32(CLOUD_BIT)
    flags += view.sky.cirrus[0] * np.float32(CIRRUS_BIT)
    return np.concatenate([np.rint(np.maximum(toa, 0.0001) * DIGITAL_NUMBERS), flags[None]])


def landsat(view: Scene) -> np.ndarray:
    """Digital numbers (2.75e-5 DN - 0.2 is reflectance) of SR_B2-B7, QA_PIXEL, (7, row, col).

    What the correction for the atmosphere leaves is smooth, as aerosol is, and of the size of the
    product's specification, 0.005 + 0.05 rho, towards the blue [1]_.

    References
    ----------
    .. [1] Vermote et al. (2016), doi:10.1016/j.rse.2016.04.008
    """
    view = replace(view, key=lattice.key(view.key, str(view.day)))  # a path's id has no date
    rho = np.tensordot(LANDSAT_WEIGHTS, view.ground, axes=1)  # (band, row, col)
    place = view.grid.y_m, view.grid.x_m
    aerosol = lattice.smooth(view.key, place, scale_m=c.AEROSOL_SCALE_M)
    floor, share = c.LANDSAT_SPECIFICATION
    bluer = (_table(c.LANDSAT_NM) / c.LANDSAT_NM[0]) ** np.float32(-c.ANGSTROM_EXPONENT)
    rho += aerosol * (np.float32(floor) + np.float32(share) * rho) * bluer[:, None, None]
    cloud = LANDSAT_WEIGHTS @ _table(c.CLOUD_REFLECTANCE)
    rho = np.clip(_beneath(view, rho, cloud=cloud), 0, 1)
    stored = np.rint((rho + np.float32(0.2)) / np.float32(2.75e-5))
    return np.concatenate([stored, qa_pixel(view, rho)[None]])


def qa_pixel(view: Scene, rho: np.ndarray) -> np.ndarray:
    """QA_PIXEL of Collection 2 [1]_, float32 (row, col); snow and water by the tests of Fmask [2]_.

    References
    ----------
    .. [1] USGS (2022), Landsat 8-9 Collection 2 Level 2 science product guide, LSDS-1619
    .. [2] Zhu and Woodcock (2012), doi:10.1016/j.rse.2011.10.028
    """
    _, green, red, nir, swir, _ = rho
    tiny = np.float32(1e-4)
    ndsi = (green - swir) / (green + swir + tiny)
    ndvi = (nir - red) / (nir + red + tiny)
    cloud = view.sky.opaque[0]
    near = (view.sky.excess[0] > -c.DILATED_LOGIT) & ~cloud
    snow = (ndsi > 0.15) & (nir > 0.11) & (green > 0.1) & ~cloud
    water = ((ndvi < 0.01) & (nir < 0.11)) | ((ndvi < 0.1) & (nir < 0.05))
    water &= ~cloud & ~snow
    flags = np.full(cloud.shape, QA_LOW, dtype=np.int64)
    for where, bits in (
        (near, 1 << 1), (view.sky.cirrus[0], 1 << 2 | 1 << 15), (cloud, 1 << 3 | 1 << 9),
        (view.shadow & ~cloud, 1 << 4 | 1 << 11), (snow, 1 << 5 | 1 << 13),
        (~cloud & ~near, 1 << 6), (water, 1 << 7),
    ):  # fmt: skip
        flags += where * bits
    return flags.astype(np.float32)


def _beneath(view: Scene, rho: np.ndarray, *, cloud: np.ndarray) -> np.ndarray:
    """Noise, and clouds over the ground, (band, row, col)."""
    opaque, cirrus, grid = view.sky.opaque[0], view.sky.cirrus[0], view.grid
    rows = np.round(grid.y_m[:, None]).astype(np.int64)
    cols = np.round(grid.x_m[None, :]).astype(np.int64)
    white = lattice.normals(view.key, rows=rows, cols=cols)
    rho += np.float32(c.OPTICAL_NOISE * min(1.0, 10 / grid.pixel_size_m)) * white
    if cirrus.any():
        rho[:, cirrus] += np.float32(0.04)
    if opaque.any():
        thick = 1 + np.float32(0.08) * white[opaque]
        rho[:, opaque] = cloud[:, None] * thick
    return rho

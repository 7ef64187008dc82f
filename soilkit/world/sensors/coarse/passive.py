"""SMAP: brightness temperature at L band by tau-omega, and soil moisture retrieved from it."""

from typing import Any

import numpy as np

from soilkit.world import schedule
from soilkit.world.sensors import instruments as c
from soilkit.world.sensors import lattice
from soilkit.world.sensors.coarse.forcing import Forcing, Product, cell_numbers, slow_noise

WATER_PERMITTIVITY = 78.0  # static to L band, 20 degrees C
SOLID_PERMITTIVITY = 4.7
MAX_MOISTURE = 0.62
STEM_FACTOR_KG_M2 = 3.0


def permittivity(moisture_m3_m3, *, porosity: float | np.ndarray = 0.45) -> np.ndarray:
    """Real permittivity of moist soil by the refractive mixing model.

    sqrt(e) = (1 - porosity) sqrt(e_solid) + mv sqrt(e_water) + (porosity - mv) [1]_.

    Parameters
    ----------
    moisture_m3_m3 : array, m3 m-3
    porosity : float or array, m3 m-3

    Returns
    -------
    array, relative permittivity

    References
    ----------
    .. [1] Birchak et al. (1974), doi:10.1109/PROC.1974.9388

    Examples
    --------
    >>> permittivity(np.array([0.05, 0.40])).round(1)
    array([ 4.1, 22.8])
    """
    moisture = np.asarray(moisture_m3_m3)
    root = (1 - porosity) * np.sqrt(SOLID_PERMITTIVITY) + moisture * np.sqrt(WATER_PERMITTIVITY)
    return (root + np.maximum(porosity - moisture, 0)) ** 2


def rough_reflectivity(moisture_m3_m3) -> np.ndarray:
    """Vertical-polarisation reflectivity of rough soil at 40 degrees.

    Fresnel's equation times exp(-h) [1]_.

    References
    ----------
    .. [1] Choudhury et al. (1979), doi:10.1029/JC084iC09p05699
    """
    cosine = np.cos(np.deg2rad(c.SMAP_INCIDENCE_DEG))
    e = permittivity(moisture_m3_m3)
    root = np.sqrt(e - (1 - cosine**2))
    return ((e * cosine - root) / (e * cosine + root)) ** 2 * np.exp(-c.ROUGHNESS_H)


def brightness_temperature(moisture_m3_m3, *, temperature_k, water_kg_m2) -> np.ndarray:
    """V-polarised brightness temperature of vegetated soil by the tau-omega model.

    TB = T ((1 - r) g + (1 - w) (1 - g) (1 + r g)), g = exp(-b VWC / cos(40 deg)) [1]_.

    Parameters
    ----------
    moisture_m3_m3 : array, m3 m-3
    temperature_k : array, K, of soil and canopy
    water_kg_m2 : array, kg m-2, vegetation water

    Returns
    -------
    array, K

    References
    ----------
    .. [1] Mo et al. (1982), doi:10.1029/JC087iC13p11229

    Examples
    --------
    >>> tb = brightness_temperature(np.array([0.1, 0.3]), temperature_k=295.0, water_kg_m2=1.0)
    >>> bool(tb[0] > tb[1])
    True
    """
    gamma = _transmissivity(water_kg_m2)
    r = rough_reflectivity(moisture_m3_m3)
    canopy = (1 - c.SINGLE_SCATTERING) * (1 - gamma)
    return temperature_k * ((1 - r) * gamma + canopy * (1 + r * gamma))


def retrieve(tb_k, *, temperature_k, water_kg_m2) -> np.ndarray:
    """Soil moisture that explains a brightness temperature (the single-channel algorithm) [1]_.

    Parameters
    ----------
    tb_k : array, K
    temperature_k, water_kg_m2 : arrays, ancillary estimates

    Returns
    -------
    array, m3 m-3, within 0.02 and 0.62

    References
    ----------
    .. [1] Jackson (1993), doi:10.1002/hyp.3360070205

    Examples
    --------
    >>> tb = brightness_temperature(np.array([0.25]), temperature_k=295.0, water_kg_m2=2.0)
    >>> retrieve(tb, temperature_k=295.0, water_kg_m2=2.0).round(3)
    array([0.25])
    """
    gamma = _transmissivity(water_kg_m2)
    canopy = (1 - c.SINGLE_SCATTERING) * (1 - gamma)
    # TB / T = gamma + canopy + r gamma (canopy - 1) is linear in r.
    r = (gamma + canopy - np.asarray(tb_k) / temperature_k) / (gamma * (1 - canopy))
    moisture = np.linspace(0.02, MAX_MOISTURE, 601)
    return np.interp(r, rough_reflectivity(moisture), moisture)


def _transmissivity(water_kg_m2):
    cosine = np.cos(np.deg2rad(c.SMAP_INCIDENCE_DEG))
    return np.exp(-c.TAU_PER_WATER_M2_KG * np.asarray(water_kg_m2) / cosine)


def vegetation_water(ndvi) -> np.ndarray:
    """Vegetation water from NDVI, 1.9134 NDVI2 - 0.3215 NDVI plus stems, kg m-2 [1]_.

    References
    ----------
    .. [1] O'Neill et al. (2020), SMAP algorithm theoretical basis document, level 2 and 3 passive

    Examples
    --------
    >>> vegetation_water(np.array([0.2, 0.8])).round(2)
    array([0.35, 3.3 ])
    """
    ndvi = np.clip(ndvi, 0.1, 1)
    return 1.9134 * ndvi**2 - 0.3215 * ndvi + STEM_FACTOR_KG_M2 * (ndvi - 0.1) / 0.9


def smap_l3_m3_m3(forcing: Forcing, *, seed: int, ground: dict[str, np.ndarray]) -> np.ndarray:
    """Morning retrievals of soil moisture, (cell, day), m3 m-3; NaN without an overpass or frozen.

    The skin that L band senses is wetter after rain and dries faster than the probe's layer [1]_;
    brightness temperature with noise is inverted under a wrong temperature and a canopy that is
    wrong for weeks, as a climatology is. About 42 % of the days have an overpass.

    Parameters
    ----------
    forcing : Forcing
    seed : int
    ground : "surface_m3_m3", "ndvi", arrays (cell, day)

    References
    ----------
    .. [1] Shellito et al. (2016), doi:10.1002/2016GL069946
    """
    cells = cell_numbers(forcing)[:, None]
    number = forcing.days.astype(np.int64)[None, :]

    def white(name: str, cols) -> np.ndarray:
        return lattice.normals(np.uint64(lattice.key(seed, name)), rows=cells, cols=cols)

    skin = np.clip(ground["surface_m3_m3"] + _skin(forcing.precipitation_mm), 0.02, 0.55)
    water = vegetation_water(ground["ndvi"])
    kelvin = forcing.temperature_c + 273.15
    tb = brightness_temperature(skin, temperature_k=kelvin, water_kg_m2=water)
    tb = tb + c.TB_NOISE_K * white("tb", number)
    slow = slow_noise("canopy", forcing, seed=seed, days=c.WATER_ERROR_DAYS)
    always = white("vwc", np.zeros((1, 1), dtype=np.int64))
    known_water = water * np.exp(c.WATER_ERROR_STD * always + c.WATER_SLOW_ERROR_STD * slow)
    known_kelvin = kelvin + c.TEMPERATURE_ERROR_STD_K * white("temperature", number)
    found = retrieve(tb, temperature_k=known_kelvin, water_kg_m2=known_water)
    overpass = np.isin((number + cells % 8) % 8, (0, 3, 5)) | ((number + cells % 8) % 24 == 1)
    return np.where(overpass & (forcing.temperature_c > 0), found, np.nan).astype(np.float32)


def _skin(rain_mm: np.ndarray) -> np.ndarray:
    """Extra water of the skin at each day's start: decaying rain about a mean of zero, m3 m-3."""
    keep = np.exp(-1 / c.SKIN_DAYS)
    out = np.empty(rain_mm.shape)
    state = np.zeros(len(rain_mm))
    for day in range(rain_mm.shape[1]):
        out[:, day] = state
        state = state * keep + c.SKIN_GAIN * np.minimum(rain_mm[:, day], 30)
    return out - out.mean(axis=1, keepdims=True)


def retrievals(world: Any, forcing: Forcing, state: Any) -> np.ndarray:
    """Morning retrievals over all days of a forcing, (cell, day), m3 m-3; NaN on past days."""
    kept = forcing.kept
    now = Forcing(
        forcing.days[kept], forcing.y_m, forcing.x_m, forcing.precipitation_mm[:, kept],
        forcing.pet_mm[:, kept], forcing.temperature_c[:, kept],
    )  # fmt: skip
    ground = {"surface_m3_m3": state.surface_m3_m3, "ndvi": state.ndvi}
    seen = smap_l3_m3_m3(now, seed=world.seed, ground=ground)
    return np.hstack([np.full((len(seen), forcing.n_past), np.nan, np.float32), seen])


def smap_l3(world: Any, forcing: Forcing, state: Any) -> Product:
    """Morning retrievals as a series: soil_moisture_am [m3 m-3]."""
    values = retrievals(world, forcing, state)[:, forcing.kept, None]
    return Product(schedule.smap_l3(*forcing.span), values)

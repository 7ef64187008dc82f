"""Coarse products over 9 km cells: SMAP10KM, GLDAS, and SMAP L3 by tau-omega and its inversion."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri

from soilkit import grids
from soilkit.contracts import Grid
from soilkit.errors import UnknownNameError
from soilkit.world import schedule
from soilkit.world.sensors import instruments as c
from soilkit.world.sensors import lattice

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


# Coarse products as daily series over cells: SMAP10KM, GLDAS and SMAP L3.

SPIN_UP_DAYS = 120
_NORMAL_MISSED, _NORMAL_FALSE = (float(ndtri(p)) for p in (c.RAIN_MISSED, 1 - c.RAIN_FALSE))


@dataclass(frozen=True)
class Forcing:
    """Daily weather of cells: arrays (cell, day); ``y_m``, ``x_m`` (cell,) place the errors."""

    days: np.ndarray  # datetime64[D], (day,)
    y_m: np.ndarray
    x_m: np.ndarray
    precipitation_mm: np.ndarray
    pet_mm: np.ndarray
    temperature_c: np.ndarray


def observed_rain(forcing: Forcing, *, seed: int) -> np.ndarray:
    """Rain as a satellite product gives it: scaled, missed and invented, (cell, day), mm.

    Errors are lognormal and correlated over about 100 km; 12 % of the wet days are missed and 4 %
    of the dry ones invented [1]_. One error field serves every model.

    References
    ----------
    .. [1] Maggioni et al. (2016), doi:10.1175/JHM-D-15-0190.1
    """
    number = forcing.days.astype(np.int64)

    def field(name: str, *, when=number) -> np.ndarray:
        seeds = lattice.keys((seed, name), when)
        place = forcing.y_m, forcing.x_m
        return lattice.smooth_points(seeds, place, scale_m=c.RAIN_ERROR_SCALE_M).T

    rain = forcing.precipitation_mm
    place = field("rain gain", when=np.zeros(1, dtype=np.int64))
    log = c.RAIN_LOG_STD * field("rain error") + c.RAIN_GAIN_STD * place
    chance = field("rain hit")
    seen = np.where(chance < _NORMAL_MISSED, 0, rain * np.exp(log - c.RAIN_LOG_STD**2 / 2))
    invented = np.where(chance > _NORMAL_FALSE, c.RAIN_FALSE_MM * np.exp(log), 0)
    return np.where(rain > 0.2, seen, invented)  # (cell, day)


def palmer_surface_mm(rain_mm, pet_mm, *, observed_mm=None) -> np.ndarray:
    """Water of Palmer's surface layer, day by day.

    The upper inch fills first and gives all of the potential evapotranspiration while it lasts; the
    lower layer gives the rest in proportion to what it holds [1]_. Where an observation of the
    surface comes, the state moves towards it by a constant gain, as the mean of a filter does [2]_.

    Parameters
    ----------
    rain_mm, pet_mm : arrays (cell, day), mm d-1
    observed_mm : array (cell, day), mm, optional; NaN where none

    Returns
    -------
    array (cell, day), mm, within 0 and 25.4

    References
    ----------
    .. [1] Palmer (1965), US Weather Bureau Research Paper 45
    .. [2] Bolten et al. (2010), doi:10.1109/JSTARS.2009.2037163

    Examples
    --------
    >>> palmer_surface_mm(np.array([[30.0, 0, 0]]), np.array([[5.0, 5, 5]])).round(1)
    array([[25.4, 20.4, 15.4]])
    """
    observed_mm = np.full(rain_mm.shape, np.nan) if observed_mm is None else observed_mm
    upper = np.full(len(rain_mm), c.PALMER_SURFACE_MM / 2)
    lower = np.full(len(rain_mm), c.PALMER_LOWER_MM / 2)
    out = np.empty(rain_mm.shape)
    for day in range(rain_mm.shape[1]):
        taken = np.minimum(upper + rain_mm[:, day], pet_mm[:, day])
        upper = upper + rain_mm[:, day] - taken
        lower = lower - (pet_mm[:, day] - taken) * lower / c.PALMER_LOWER_MM
        spill = np.maximum(upper - c.PALMER_SURFACE_MM, 0)
        lower = np.minimum(lower + spill, c.PALMER_LOWER_MM)
        innovation = np.nan_to_num(observed_mm[:, day] - (upper - spill))
        upper = upper - spill + c.ASSIMILATION_GAIN * innovation
        upper = np.clip(upper, 0, c.PALMER_SURFACE_MM)
        out[:, day] = upper
    return out


def noah_top_kg_m2(rain_mm, pet_mm) -> np.ndarray:
    """Water of a Noah-like 0-10 cm layer above a reservoir, day by day.

    Evaporation falls off linearly below field capacity, drainage above it is exponential, and the
    reservoir feeds the layer back by capillary rise [1]_. Its field capacity is wetter than the
    synthetic ground's: the bias of a coarse soil map.

    Parameters
    ----------
    rain_mm, pet_mm : arrays (cell, day), mm d-1

    Returns
    -------
    array (cell, day), kg m-2

    References
    ----------
    .. [1] Ek et al. (2003), doi:10.1029/2002JD003296
    """
    wilting, field, full = (
        w * c.NOAH_LAYER_MM for w in (c.NOAH_WILTING, c.NOAH_FIELD, c.NOAH_POROSITY)
    )
    top = np.full(len(rain_mm), (wilting + field) / 2)
    deep = np.full(len(rain_mm), 0.5)
    out = np.empty(rain_mm.shape)
    for day in range(rain_mm.shape[1]):
        wetness = np.clip((top - wilting) / (field - wilting), 0, 1)
        loss = c.NOAH_PET_FACTOR * pet_mm[:, day] * wetness
        drain = np.maximum(top - field, 0) / c.NOAH_DRAINAGE_DAYS
        rise = c.NOAH_RECHARGE * np.maximum(deep - wetness, 0) * pet_mm[:, day]
        top = np.clip(top + rain_mm[:, day] - loss - drain + rise, 0.5 * wilting, full)
        deep = deep + (wetness - deep) / 30  # a month's memory
        out[:, day] = top
    return out


def smap10km_mm(
    forcing: Forcing, *, seed: int, retrieval_m3_m3: np.ndarray, skip: int = 0
) -> np.ndarray:
    """NASA-USDA surface soil moisture: means over three days of an analysis, (cell, period), mm.

    Palmer's bucket under erroneous rain and evapotranspiration, nudged towards SMAP retrievals
    [1]_. Period k covers days skip + 3k to skip + 3k + 2; an incomplete last one is left out.

    Parameters
    ----------
    forcing : Forcing
    seed : int
    retrieval_m3_m3 : array (cell, day), m3 m-3; NaN where none
    skip : int, days before the first period

    References
    ----------
    .. [1] Bolten et al. (2010), doi:10.1109/JSTARS.2009.2037163
    """
    rain, pet = observed_rain(forcing, seed=seed), _erroneous_pet(forcing, seed=seed)
    low, high = c.ASSIMILATED_RANGE_M3_M3
    seen = np.clip((retrieval_m3_m3 - low) / (high - low), 0, 1) * c.PALMER_SURFACE_MM
    model = _spun_up(palmer_surface_mm, rain, pet, observed_mm=seen)[:, skip:]
    n = model.shape[1] // 3
    mean = model[:, : 3 * n].reshape(len(model), n, 3).mean(axis=2)  # (cell, period)
    return np.clip(mean, 0, c.SMAP10KM_MAX_MM).astype(np.float32)


def gldas_kg_m2(forcing: Forcing, *, seed: int) -> np.ndarray:
    """SoilMoi0_10cm_inst every three hours from 00:00, (cell, 8 day), kg m-2.

    Evapotranspiration is wrong for weeks [1]_. Drying goes on through the day; a day's rain enters
    at its end, so that no instant knows rain that has not fallen.

    References
    ----------
    .. [1] Mueller et al. (2011), doi:10.1029/2010GL046230
    """
    slow = _slow_noise("noah pet", forcing, seed=seed, days=c.NOAH_PET_ERROR_DAYS)
    pet = forcing.pet_mm * np.exp(c.NOAH_PET_LOG_STD * slow)
    daily = _spun_up(noah_top_kg_m2, observed_rain(forcing, seed=seed), pet)
    before = np.concatenate([daily[:, :1], daily[:, :-1]], axis=1)
    share = (np.arange(8) / 8)[None, None, :]
    drying = np.minimum(daily - before, 0)
    instant = before[:, :, None] + drying[:, :, None] * share  # (cell, day, 8)
    return instant.reshape(len(daily), -1).astype(np.float32)


def _erroneous_pet(forcing: Forcing, *, seed: int) -> np.ndarray:
    seeds = lattice.keys((seed, "pet"), np.zeros(1, dtype=np.int64))
    place = lattice.smooth_points(
        seeds, (forcing.y_m, forcing.x_m), scale_m=c.RAIN_ERROR_SCALE_M
    )  # (1, cell)
    return forcing.pet_mm * np.exp(c.PALMER_PET_LOG_STD * place[0])[:, None]


def _spun_up(model, rain: np.ndarray, pet: np.ndarray, **observed: np.ndarray) -> np.ndarray:
    """Run a bucket over the first days once beforehand, so that its start is forgotten."""
    n = min(SPIN_UP_DAYS, rain.shape[1])

    def twice(values: np.ndarray) -> np.ndarray:
        return np.hstack([values[:, :n], values])

    run = model(twice(rain), twice(pet), **{name: twice(v) for name, v in observed.items()})
    return run[:, n:]


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
    cells = _cell_numbers(forcing)[:, None]
    number = forcing.days.astype(np.int64)[None, :]

    def white(name: str, cols) -> np.ndarray:
        return lattice.normals(np.uint64(lattice.key(seed, name)), rows=cells, cols=cols)

    skin = np.clip(ground["surface_m3_m3"] + _skin(forcing.precipitation_mm), 0.02, 0.55)
    water = vegetation_water(ground["ndvi"])
    kelvin = forcing.temperature_c + 273.15
    tb = brightness_temperature(skin, temperature_k=kelvin, water_kg_m2=water)
    tb = tb + c.TB_NOISE_K * white("tb", number)
    slow = _slow_noise("canopy", forcing, seed=seed, days=c.WATER_ERROR_DAYS)
    always = white("vwc", np.zeros((1, 1), dtype=np.int64))
    known_water = water * np.exp(c.WATER_ERROR_STD * always + c.WATER_SLOW_ERROR_STD * slow)
    known_kelvin = kelvin + c.TEMPERATURE_ERROR_STD_K * white("temperature", number)
    found = retrieve(tb, temperature_k=known_kelvin, water_kg_m2=known_water)
    overpass = np.isin((number + cells % 8) % 8, (0, 3, 5)) | ((number + cells % 8) % 24 == 1)
    return np.where(overpass & (forcing.temperature_c > 0), found, np.nan).astype(np.float32)


def _cell_numbers(forcing: Forcing) -> np.ndarray:
    row, col = np.round(forcing.y_m / 9000), np.round(forcing.x_m / 9000)
    return row.astype(np.int64) * 4096 + col.astype(np.int64)


def _slow_noise(name: str, forcing: Forcing, *, seed: int, days: float) -> np.ndarray:
    """Standard normal noise that changes within ``days``, apart in every cell, (cell, day)."""
    seeds = lattice.keys((seed, name), _cell_numbers(forcing))
    line = np.zeros(1), forcing.days.astype(np.int64).astype(float)
    return lattice.smooth(seeds, line, scale_m=days)[:, 0]


def _skin(rain_mm: np.ndarray) -> np.ndarray:
    """Extra water of the skin at each day's start: decaying rain about a mean of zero, m3 m-3."""
    keep = np.exp(-1 / c.SKIN_DAYS)
    out = np.empty(rain_mm.shape)
    state = np.zeros(len(rain_mm))
    for day in range(rain_mm.shape[1]):
        out[:, day] = state
        state = state * keep + c.SKIN_GAIN * np.minimum(rain_mm[:, day], 30)
    return out - out.mean(axis=1, keepdims=True)


# Coarse products of a world: one series a cell, and the cells that places belong to.

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

    periods: schedule.Periods
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
    forcing = Forcing(
        np.asarray(state.time).astype("datetime64[D]"),
        grids.EASE2_TOP_M - (np.asarray(rows) + 0.5) * size,
        grids.EASE2_LEFT_M + (np.asarray(cols) + 0.5) * size,
        state.precipitation_mm,
        state.pet_mm,
        state.temperature_c,
    )
    return _MODELS[source](world.seed, forcing, state)


def _span(forcing: Forcing) -> tuple[np.datetime64, np.datetime64]:
    return forcing.days[0], forcing.days[-1] + 1


def _smap_l3(seed: int, forcing: Forcing, state: Any) -> Product:
    ground = {"surface_m3_m3": state.surface_m3_m3, "ndvi": state.ndvi}
    values = smap_l3_m3_m3(forcing, seed=seed, ground=ground)
    return Product(schedule.smap_l3(*_span(forcing)), values)


def _smap(seed: int, forcing: Forcing, state: Any) -> Product:
    offset = int((schedule.SMAP10KM_EPOCH - forcing.days[0]).astype(int)) % 3
    retrieval = _smap_l3(seed, forcing, state).values
    values = smap10km_mm(forcing, seed=seed, retrieval_m3_m3=retrieval, skip=offset)
    first = forcing.days[offset] + 3
    periods = schedule.smap10km(first, first + 3 * values.shape[1])
    return Product(periods, values[:, : len(periods.end)])


def _gldas(seed: int, forcing: Forcing, state: Any) -> Product:
    return Product(schedule.gldas(*_span(forcing)), gldas_kg_m2(forcing, seed=seed))


def _modis_lai(seed: int, forcing: Forcing, state: Any) -> Product:
    first, last = _span(forcing)
    periods = schedule.modis_lai(first + schedule.MODIS_DAYS, last)
    begin = (periods.start.astype("datetime64[D]") - first).astype(int)
    days = np.minimum(begin[:, None] + np.arange(schedule.MODIS_DAYS), state.lai.shape[1] - 1)
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

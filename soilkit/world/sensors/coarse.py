"""Coarse products as daily series over cells: SMAP10KM, GLDAS and SMAP L3.

SMAP10KM and GLDAS are driven by one erroneous rain and never see irrigation; SMAP L3 sees the
coarse ground itself through a radiometer.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from soilkit.world.sensors import constants as c
from soilkit.world.sensors import lattice, passive

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
    water = passive.vegetation_water(ground["ndvi"])
    kelvin = forcing.temperature_c + 273.15
    tb = passive.brightness_temperature(skin, temperature_k=kelvin, water_kg_m2=water)
    tb = tb + c.TB_NOISE_K * white("tb", number)
    slow = _slow_noise("canopy", forcing, seed=seed, days=c.WATER_ERROR_DAYS)
    always = white("vwc", np.zeros((1, 1), dtype=np.int64))
    known_water = water * np.exp(c.WATER_ERROR_STD * always + c.WATER_SLOW_ERROR_STD * slow)
    known_kelvin = kelvin + c.TEMPERATURE_ERROR_STD_K * white("temperature", number)
    found = passive.retrieve(tb, temperature_k=known_kelvin, water_kg_m2=known_water)
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

"""Coarse products that land models make of erroneous weather; none of them sees irrigation.

SMAP10KM is Palmer's bucket, GLDAS, NLDAS-2 and SMAP L4 are models of two layers; leaf area is a
mean of what MODIS sees.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from soilkit.world import parameters as world_constants
from soilkit.world import schedule
from soilkit.world.sensors import instruments as c
from soilkit.world.sensors import lattice
from soilkit.world.sensors.coarse import passive, weather
from soilkit.world.sensors.coarse.forcing import (
    Forcing,
    Product,
    constant_field,
    instants,
    observed_rain,
    slow_noise,
)


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


@dataclass(frozen=True)
class Layers:
    """Water of two layers at the days' ends, and what of it is that day's rain, (cell, day) mm."""

    top_mm: np.ndarray
    low_mm: np.ndarray
    top_rain_mm: np.ndarray
    low_rain_mm: np.ndarray


def two_layers(rain_mm, pet_mm, *, model: dict, scale=1.0, observed_mm=None) -> Layers:
    """Water of a thin layer above a thick one, day by day, as in Noah [1]_ or Catchment [2]_.

    Rain fills the top, then the layer below, and runs off where both are full; what stands above
    field capacity drains within days. Each layer evaporates in proportion to its wetness between
    wilting point and field capacity, and a wetter lower layer feeds the top by capillary rise. An
    observation of the top moves it, from the next day on, by a constant gain times what it differs
    by, less the mean of such differences in the past: a rescaling to the model's own climatology
    [3]_.

    Parameters
    ----------
    rain_mm, pet_mm : arrays (cell, day), mm d-1
    model : dict, a row of ``LAND_MODELS``
    scale : float or array (cell,), of field capacity
    observed_mm : array (cell, day), mm, of the top on the days' mornings, optional; NaN where none

    Returns
    -------
    Layers

    References
    ----------
    .. [1] Ek et al. (2003), doi:10.1029/2002JD003296
    .. [2] Koster et al. (2000), doi:10.1029/2000JD900327
    .. [3] Reichle et al. (2019), doi:10.1029/2019MS001729

    Examples
    --------
    >>> rain, pet = np.array([[40.0, 0, 0]]), np.full((1, 3), 4.0)
    >>> two_layers(rain, pet, model=c.LAND_MODELS["gldas"]).top_mm.round(1)
    array([[46. , 41.1, 37.4]])
    """
    depth = np.array([[model["top_mm"]], [model["low_mm"]]], dtype=float)
    wilting, full = model["wilting"] * depth, model["porosity"] * depth
    field = model["field"] * depth * np.ones(len(rain_mm)) * scale  # (layer, cell)
    days = np.array([[model["top_days"]], [model["low_days"]]], dtype=float)
    share = np.array([[model["top_share"]], [model["low_share"]]])
    water = (wilting + field) / 2
    update, usual = np.zeros((2, len(rain_mm)))
    out = np.empty((4, *rain_mm.shape))
    for day in range(rain_mm.shape[1]):
        water[0] += update
        if observed_mm is not None:
            update = _analysis(observed_mm[:, day] - water[0], usual)
        wet = np.clip((water - wilting) / (field - wilting), 0, 1)
        drain = np.maximum(water - field, 0) / days
        rise = model["rise"] * np.maximum(wet[1] - wet[0], 0) * pet_mm[:, day]
        water = water - drain - share * pet_mm[:, day] * wet
        water[0] += rise
        water[1] += drain[0] - rise
        water = np.clip(water, 0.5 * wilting, full)
        top_rain = np.minimum(rain_mm[:, day], full[0] - water[0])
        low_rain = np.minimum(rain_mm[:, day] - top_rain, full[1] - water[1])
        water = water + np.stack([top_rain, low_rain])
        out[:, :, day] = *water, top_rain, low_rain
    return Layers(*out)


def _analysis(innovation, usual):
    """What an observation adds to the top, (cell,) mm; the usual innovation is brought forward."""
    seen = np.isfinite(innovation)
    update = np.where(seen, c.L4_GAIN * (innovation - usual), 0)
    usual += np.where(seen, (innovation - usual) / c.L4_CLIMATOLOGY_OBSERVATIONS, 0)
    return update


def liquid_mm(rain_mm, temperature_c) -> np.ndarray:
    """Rain and melt that reach the soil, by a degree-day pack, (cell, day), mm d-1 [1]_.

    References
    ----------
    .. [1] Hock (2003), doi:10.1016/S0022-1694(03)00257-9
    """
    pack = np.zeros(len(rain_mm))
    cold = temperature_c < world_constants.SNOW_THRESHOLD_C
    could = world_constants.MELT_MM_PER_C_DAY * np.maximum(temperature_c, 0)
    out = np.where(cold, 0.0, rain_mm)
    for day in range(rain_mm.shape[1]):
        melt = np.minimum(pack, could[:, day])
        out[:, day] += melt
        pack = pack - melt + np.where(cold[:, day], rain_mm[:, day], 0)
    return out


def layers_of(name: str, forcing: Forcing, *, seed: int, rain_of: str, observed_mm=None) -> Layers:
    """Both layers of a model under its rain and evapotranspiration, wrong for weeks [1]_.

    Parameters
    ----------
    name : str, a row of ``LAND_MODELS``
    rain_of : str, a row of ``RAIN_ERRORS``
    observed_mm : as in ``two_layers``

    Returns
    -------
    Layers

    References
    ----------
    .. [1] Mueller et al. (2011), doi:10.1029/2010GL046230
    """
    slow = slow_noise(f"{name} pet", forcing, seed=seed, days=c.LAND_PET_ERROR_DAYS)
    pet = forcing.pet_mm * np.exp(c.LAND_PET_LOG_STD[name] * slow)
    rain = observed_rain(forcing, seed=seed, kind=rain_of)
    place = constant_field(forcing, f"{name} soil", seed=seed)[:, 0]
    return two_layers(
        liquid_mm(rain, forcing.temperature_c), pet, model=c.LAND_MODELS[name],
        scale=np.exp(c.LAND_SOIL_STD * place), observed_mm=observed_mm,
    )  # fmt: skip


def smap10km_mm(
    forcing: Forcing, *, seed: int, retrieval_m3_m3: np.ndarray, skip: int = 0
) -> np.ndarray:
    """NASA-USDA surface soil moisture: means over three days of an analysis, (cell, period), mm.

    Palmer's bucket under erroneous rain and evapotranspiration, nudged towards SMAP retrievals
    [1]_. Period k covers days skip + 3k to skip + 3k + 2; an incomplete last one is left out.

    Parameters
    ----------
    retrieval_m3_m3 : array (cell, day), m3 m-3; NaN where none
    skip : int, days before the first period

    References
    ----------
    .. [1] Bolten et al. (2010), doi:10.1109/JSTARS.2009.2037163
    """
    rain, pet = observed_rain(forcing, seed=seed), _erroneous_pet(forcing, seed=seed)
    low, high = c.ASSIMILATED_RANGE_M3_M3
    seen = np.clip((retrieval_m3_m3 - low) / (high - low), 0, 1) * c.PALMER_SURFACE_MM
    model = palmer_surface_mm(rain, pet, observed_mm=seen)[:, forcing.n_past + skip :]
    n = model.shape[1] // 3
    mean = model[:, : 3 * n].reshape(len(model), n, 3).mean(axis=2)  # (cell, period)
    return np.clip(mean, 0, c.SMAP10KM_MAX_MM).astype(np.float32)


def _erroneous_pet(forcing: Forcing, *, seed: int) -> np.ndarray:
    place = constant_field(forcing, "pet", seed=seed)
    return forcing.pet_mm * np.exp(c.PALMER_PET_LOG_STD * place)


def skin_k(forcing: Forcing, wetness, *, seed: int, times, name: str) -> np.ndarray:
    """Temperature of the ground's skin as a land model has it, (cell, time), K.

    Bulk transfer [1]_: above the air by r H / (rho cp), H being what evaporation leaves of the net
    radiation, so that dry ground is warmer by day; colder than the air at night.

    Parameters
    ----------
    wetness : array (cell, time), 0-1, between wilting point and field capacity
    times : datetime64 array (time,)
    name : str, of the model whose errors these are

    References
    ----------
    .. [1] Monteith (1965), Symposia of the Society for Experimental Biology 19, 205-234
    """
    day = (times.astype("datetime64[D]") - forcing.days[0]).astype(int)
    part = ((times - times.astype("datetime64[D]")) / weather.DAY).astype(np.float32)
    longitude, latitude = forcing.lonlat()
    hour = (24 * part + longitude[:, None].astype(np.float32) / 15) % 24  # local, (cell, time)
    sky = weather.air(forcing, seed=seed)
    _, length = weather.sun(latitude[:, None], weather.day_of_year(forcing.days))
    mean = _between(forcing.temperature_c, day, part)
    half = ((sky.maximum_c - sky.minimum_c) / 2).astype(np.float32)[:, day]
    warmth = mean + half * np.cos(2 * np.pi * (hour - 14) / 24)
    angle = np.pi * (hour - 12) / length.astype(np.float32)[:, day]
    shape = np.cos(np.clip(angle, -np.pi / 2, np.pi / 2))
    peak = (np.pi / 2 * 24 / length * sky.radiation_w_m2).astype(np.float32)[:, day]
    evaporated = c.EVAPORATIVE_LEAST + (c.EVAPORATIVE_MOST - c.EVAPORATIVE_LEAST) * wetness
    net = c.NET_OF_SOLAR * peak * shape
    heat = (1 - c.GROUND_SHARE) * (net * (1 - evaporated) - c.LONGWAVE_LOSS_W_M2)
    error = c.SKIN_ERROR_K * slow_noise(f"{name} skin", forcing, seed=seed, days=2.0)[:, day]
    error += c.SKIN_BIAS_K * constant_field(forcing, f"{name} skin", seed=seed)
    skin = warmth + c.SKIN_RESISTANCE_S_M / c.AIR_HEAT_J_M3_K * heat + error + weather.KELVIN
    return skin.astype(np.float32)


def _between(daily, day, part):
    """Between the days' starts in a straight line, as the world's own air, (cell, time) float32."""
    daily = daily.astype(np.float32)
    now, later = daily[:, day], daily[:, np.minimum(day + 1, daily.shape[1] - 1)]
    return now + (later - now) * part


def smap(world: Any, forcing: Forcing, *, state: Any) -> Product:
    """SMAP10KM as a series: ssm [mm]."""
    offset = int((schedule.SMAP10KM_EPOCH - forcing.span[0]).astype(int)) % 3
    retrieval = passive.retrievals(world, forcing, state=state)
    values = smap10km_mm(forcing, seed=world.seed, retrieval_m3_m3=retrieval, skip=offset)
    first = forcing.span[0] + offset + 3
    periods = schedule.smap10km(first, first + 3 * values.shape[1])
    return Product(periods, values[:, : len(periods.end), None])


def gldas(world: Any, forcing: Forcing, *, state: Any) -> Product:
    """GLDAS-2.1 Noah as a series: SoilMoi0_10cm_inst [kg m-2]."""
    periods = schedule.gldas(*forcing.span)
    layers = layers_of("gldas", forcing, seed=world.seed, rain_of="satellites")
    top = instants(forcing, layers.top_mm, jump=layers.top_rain_mm, times=periods.end)
    return Product(periods, top[:, :, None])


def nldas2_noah(world: Any, forcing: Forcing, *, state: Any) -> Product:
    """NLDAS-2 Noah as a series: SoilM_0_10cm, SoilM_10_40cm [kg m-2]."""
    periods = schedule.nldas2_noah(*forcing.span)
    layers = layers_of("nldas2_noah", forcing, seed=world.seed, rain_of="nldas2_noah")
    top = instants(forcing, layers.top_mm, jump=layers.top_rain_mm, times=periods.end)
    low = instants(forcing, layers.low_mm, jump=layers.low_rain_mm, times=periods.end)
    return Product(periods, np.stack([top, low], axis=-1))


def smap_l4(world: Any, forcing: Forcing, *, state: Any) -> Product:
    """SMAP Level 4 as a series: sm_surface, sm_rootzone [m3 m-3], surface_temp [K].

    A Catchment-like model under rain that gauges correct, and the analysis of SMAP's morning
    observations but for the days when the instrument was off. Its averages over three hours are
    the values in their middle.
    """
    periods = schedule.smap_l4(*forcing.span)
    middle = periods.start + (periods.end - periods.start) // 2
    seen = passive.retrievals(world, forcing, state=state).astype(float)
    for first, last in c.L4_MODEL_ONLY:
        off = (forcing.days >= np.datetime64(first)) & (forcing.days <= np.datetime64(last))
        seen[:, off] = np.nan
    model = c.LAND_MODELS["smap_l4"]
    layers = layers_of(
        "smap_l4", forcing, seed=world.seed, rain_of="smap_l4", observed_mm=model["top_mm"] * seen
    )
    surface = _surface(forcing, layers, times=middle)
    root = instants(
        forcing,
        layers.top_mm + layers.low_mm,
        jump=layers.top_rain_mm + layers.low_rain_mm,
        times=middle,
    )
    wet = _wetness(surface, model)
    skin = skin_k(forcing, wet, seed=world.seed, times=middle, name="smap_l4")
    root = root / (model["top_mm"] + model["low_mm"])
    return Product(periods, np.stack([surface, root, skin], axis=-1))


def geos5_lst(world: Any, forcing: Forcing, *, state: Any) -> Product:
    """GEOS-5 land surface temperature as a series: surface_temperature [K].

    The skin of a Catchment model without SMAP: its moisture, with the errors of its rain, decides
    how warm the ground becomes by day.
    """
    periods = schedule.geos5_lst(*forcing.span)
    layers = layers_of("smap_l4", forcing, seed=world.seed, rain_of="smap_l4")
    wet = _wetness(_surface(forcing, layers, times=periods.end), c.LAND_MODELS["smap_l4"])
    skin = skin_k(forcing, wet, seed=world.seed, times=periods.end, name="geos5")
    return Product(periods, skin[:, :, None])


def _surface(forcing, layers, *, times):
    depth = c.LAND_MODELS["smap_l4"]["top_mm"]
    return instants(forcing, layers.top_mm / depth, jump=layers.top_rain_mm / depth, times=times)


def _wetness(moisture_m3_m3, model):
    return np.clip((moisture_m3_m3 - model["wilting"]) / (model["field"] - model["wilting"]), 0, 1)


def modis_lai(world: Any, forcing: Forcing, *, state: Any) -> Product:
    """MCD15A3H's means over cells as a series: Lai, stored as ten times its value."""
    first, last = forcing.span
    periods = schedule.modis_lai(first + schedule.MODIS_DAYS, last)
    begin = periods.start.astype("datetime64[D]")
    days = (begin - first).astype(int)[:, None] + np.arange(schedule.MODIS_DAYS)
    key = np.uint64(lattice.key(world.seed, "lai series"))
    where = np.round(forcing.y_m + 7 * forcing.x_m).astype(np.int64)[:, None]
    noise = lattice.normals(key, rows=where, cols=begin.astype(np.int64)[None, :])
    mean = state.lai[:, days].mean(axis=2) * (1 + c.LAI_ERROR / 4 * noise)  # (cell, period)
    stored = np.clip(np.rint(10 * mean), 0, 100).astype(np.float32)
    return Product(periods, stored[:, :, None])

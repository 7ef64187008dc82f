"""Coarse products that land models make of erroneous weather: SMAP10KM, GLDAS, leaf area."""

from typing import Any

import numpy as np

from soilkit.world import schedule
from soilkit.world.sensors import instruments as c
from soilkit.world.sensors import lattice
from soilkit.world.sensors.coarse import passive
from soilkit.world.sensors.coarse.forcing import Forcing, Product, observed_rain, slow_noise


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
    model = palmer_surface_mm(rain, pet, observed_mm=seen)[:, forcing.n_past + skip :]
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
    slow = slow_noise("noah pet", forcing, seed=seed, days=c.NOAH_PET_ERROR_DAYS)
    pet = forcing.pet_mm * np.exp(c.NOAH_PET_LOG_STD * slow)
    daily = noah_top_kg_m2(observed_rain(forcing, seed=seed), pet)
    before = np.concatenate([daily[:, :1], daily[:, :-1]], axis=1)
    share = (np.arange(8) / 8)[None, None, :]
    drying = np.minimum(daily - before, 0)
    instant = before[:, :, None] + drying[:, :, None] * share  # (cell, day, 8)
    return instant[:, forcing.kept].reshape(len(daily), -1).astype(np.float32)


def _erroneous_pet(forcing: Forcing, *, seed: int) -> np.ndarray:
    seeds = lattice.keys((seed, "pet"), np.zeros(1, dtype=np.int64))
    place = lattice.smooth_points(
        seeds, (forcing.y_m, forcing.x_m), scale_m=c.RAIN_ERROR_SCALE_M
    )  # (1, cell)
    return forcing.pet_mm * np.exp(c.PALMER_PET_LOG_STD * place[0])[:, None]


def smap(world: Any, forcing: Forcing, state: Any) -> Product:
    """SMAP10KM as a series: ssm [mm]."""
    offset = int((schedule.SMAP10KM_EPOCH - forcing.span[0]).astype(int)) % 3
    retrieval = passive.retrievals(world, forcing, state)
    values = smap10km_mm(forcing, seed=world.seed, retrieval_m3_m3=retrieval, skip=offset)
    first = forcing.span[0] + offset + 3
    periods = schedule.smap10km(first, first + 3 * values.shape[1])
    return Product(periods, values[:, : len(periods.end), None])


def gldas(world: Any, forcing: Forcing, state: Any) -> Product:
    """GLDAS-2.1 Noah as a series: SoilMoi0_10cm_inst [kg m-2]."""
    values = gldas_kg_m2(forcing, seed=world.seed)
    return Product(schedule.gldas(*forcing.span), values[:, :, None])


def modis_lai(world: Any, forcing: Forcing, state: Any) -> Product:
    """MCD15A3H's means over cells as a series: Lai, stored as ten times its value."""
    first, last = forcing.span
    periods = schedule.modis_lai(first + schedule.MODIS_DAYS, last)
    begin = (periods.start.astype("datetime64[D]") - first).astype(int)
    days = np.minimum(begin[:, None] + np.arange(schedule.MODIS_DAYS), state.lai.shape[1] - 1)
    key = np.uint64(lattice.key(world.seed, "lai series"))
    where = np.round(forcing.y_m + 7 * forcing.x_m).astype(np.int64)[:, None]
    noise = lattice.normals(key, rows=where, cols=begin[None, :])
    mean = state.lai[:, days].mean(axis=2) * (1 + c.LAI_ERROR / 4 * noise)  # (cell, period)
    stored = np.clip(np.rint(10 * mean), 0, 100).astype(np.float32)
    return Product(periods, stored[:, :, None])

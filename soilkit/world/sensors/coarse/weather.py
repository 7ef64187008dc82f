"""Weather beside rain: what the world's air does each day, and products that observe or model it.

The range of temperature, humidity, sunshine and wind follow from the world's daily mean temperature
and rain; they are the truth to which gridMET adds its errors. Rain products are ``observed_rain``.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from soilkit.world import schedule
from soilkit.world.sensors import instruments as c
from soilkit.world.sensors.coarse.forcing import (
    Forcing,
    Product,
    error_field,
    observed_rain,
    slow_noise,
)

KELVIN = 273.15
DAY = np.timedelta64(1, "D")


@dataclass(frozen=True)
class Air:
    """Daily air at 2 m, wind at 10 m: arrays (cell, day)."""

    minimum_c: np.ndarray
    maximum_c: np.ndarray
    dew_c: np.ndarray
    radiation_w_m2: np.ndarray  # of the sun, mean over 24 hours
    wind_m_s: np.ndarray


def vapour_pressure_kpa(temperature_c) -> np.ndarray:
    """Saturation vapour pressure, 0.6108 exp(17.27 T / (T + 237.3)) [1]_.

    References
    ----------
    .. [1] Tetens (1930); Allen et al. (1998), FAO 56, equation 11

    Examples
    --------
    >>> vapour_pressure_kpa(np.array([0.0, 20.0])).round(2)
    array([0.61, 2.34])
    """
    return 0.6108 * np.exp(17.27 * temperature_c / (temperature_c + 237.3))


def sun(latitude_deg, day_of_year) -> tuple[np.ndarray, np.ndarray]:
    """Radiation above the air, W m-2, and the length of the day, h (FAO 56, equations 21-34).

    Examples
    --------
    >>> radiation, hours = sun(np.array(40.0), np.array([172, 355]))
    >>> radiation.round(), hours.round(1)
    (array([485., 157.]), array([14.8,  9.2]))
    """
    angle, latitude = 2 * np.pi * day_of_year / 365, np.radians(latitude_deg)
    tilt = 0.409 * np.sin(angle - 1.39)
    sunset = np.arccos(-np.tan(latitude) * np.tan(tilt))
    beam = sunset * np.sin(latitude) * np.sin(tilt)
    beam = beam + np.cos(latitude) * np.cos(tilt) * np.sin(sunset)
    return 1367 / np.pi * (1 + 0.033 * np.cos(angle)) * beam, 24 / np.pi * sunset


def reference_evapotranspiration_mm(air: Air, *, elevation_m, top_w_m2) -> np.ndarray:
    """Evapotranspiration of short grass by Penman and Monteith, mm d-1 (FAO 56, equation 6).

    Parameters
    ----------
    elevation_m : array that broadcasts, m
    top_w_m2 : array that broadcasts, radiation above the air (``sun``)
    """
    mean = (air.minimum_c + air.maximum_c) / 2
    ends = air.minimum_c, air.maximum_c
    saturated = sum(vapour_pressure_kpa(end) for end in ends) / 2
    vapour = vapour_pressure_kpa(air.dew_c)
    slope = 4098 * vapour_pressure_kpa(mean) / (mean + 237.3) ** 2
    psychrometric = 0.665e-3 * 101.3 * ((293 - 0.0065 * elevation_m) / 293) ** 5.26
    sunshine = 0.0864 * air.radiation_w_m2  # MJ m-2 d-1
    clear = np.clip(air.radiation_w_m2 / ((0.75 + 2e-5 * elevation_m) * top_w_m2), 0.3, 1)
    black = 4.903e-9 * sum((end + KELVIN) ** 4 for end in ends) / 2
    net = 0.77 * sunshine - black * (0.34 - 0.14 * np.sqrt(vapour)) * (1.35 * clear - 0.35)
    wind = air.wind_m_s * 4.87 / np.log(67.8 * 10 - 5.42)  # at 2 m
    aerodynamic = psychrometric * 900 / (mean + 273) * wind * (saturated - vapour)
    loss = 0.408 * slope * net + aerodynamic
    return np.maximum(loss / (slope + psychrometric * (1 + 0.34 * wind)), 0)


def day_of_year(days) -> np.ndarray:
    """1 to 366."""
    return (days - days.astype("datetime64[Y]").astype("datetime64[D]")).astype(int) + 1


def air(forcing: Forcing, *, seed: int) -> Air:
    """The world's air: a wider range on dry days, sunshine by it (Hargreaves), dew below the night.

    References
    ----------
    Allen et al. (1998), FAO 56, equations 48 and 50
    """
    mean = forcing.temperature_c
    dry = np.exp(-forcing.precipitation_mm / c.RANGE_RAIN_MM)
    spread = np.exp(c.RANGE_LOG_STD * error_field(forcing, "range", seed=seed))
    half = c.RANGE_C / 2 * (c.RANGE_WET + (c.RANGE_DRY - c.RANGE_WET) * dry) * spread
    top, _ = sun(forcing.lonlat()[1][:, None], day_of_year(forcing.days))
    below = np.maximum(
        c.DEW_BELOW_MINIMUM_C * dry + c.DEW_STD_C * error_field(forcing, "dew", seed=seed), -1
    )
    wind = slow_noise("wind", forcing, seed=seed, days=c.WIND_DAYS)
    return Air(
        mean - half, mean + half, mean - half - below, c.HARGREAVES * np.sqrt(2 * half) * top,
        c.WIND_M_S * np.exp(c.WIND_LOG_STD * wind - c.WIND_LOG_STD**2 / 2),
    )  # fmt: skip


def chirps(world: Any, forcing: Forcing, *, state: Any) -> Product:
    """CHIRPS as a series: precipitation [mm d-1]."""
    periods = schedule.chirps(*forcing.span)
    rain = observed_rain(forcing, seed=world.seed, kind="chirps")
    return Product(periods, rain[:, _days_of(forcing, periods), None].astype(np.float32))


def imerg(world: Any, forcing: Forcing, *, state: Any) -> Product:
    """IMERG as a series: precipitation [mm h-1], even over the hours in which the day's falls."""
    periods = schedule.imerg(*forcing.span)
    rain = observed_rain(forcing, seed=world.seed).astype(np.float32)
    day = _days_of(forcing, periods)
    begin = ((periods.start - periods.start.astype("datetime64[D]")) / DAY * 24).astype(np.float32)
    ends = forcing.rain_ends.astype(np.float32)[:, day]
    overlap = np.minimum(ends, begin + 0.5) - np.maximum(ends - c.RAIN_LASTS_HOURS, begin)
    rate = rain[:, day] / c.RAIN_LASTS_HOURS * np.maximum(overlap, 0) / 0.5
    return Product(periods, rate[:, :, None].astype(np.float32))


def gridmet(world: Any, forcing: Forcing, *, state: Any) -> Product:
    """gridMET as a series: its nine bands over days from 06:00 UTC.

    Rain, the extremes of temperature, dew point, sunshine and wind have errors; humidity, vapour
    pressure deficit and reference evapotranspiration are computed from them.
    """
    periods, seed = schedule.gridmet(*forcing.span), world.seed
    day = _days_of(forcing, periods)
    rain = observed_rain(forcing, seed=seed, kind="gridmet")
    late = np.clip((forcing.rain_ends - 6) / c.RAIN_LASTS_HOURS, 0, 1)  # part after 06:00
    pr = (rain * late)[:, day] + (rain * (1 - late))[:, day + 1]
    sky = air(forcing, seed=seed)
    seen = {}
    for name in c.GRIDMET_STD | c.GRIDMET_LOG_STD:
        error, true = error_field(forcing, f"gridmet {name}", seed=seed), getattr(sky, name)
        added, times = c.GRIDMET_STD.get(name, 0.0), np.exp(c.GRIDMET_LOG_STD.get(name, 0) * error)
        seen[name] = ((true + added * error) * times)[:, day]
    seen["maximum_c"] = np.maximum(seen["maximum_c"], seen["minimum_c"] + 0.5)
    seen["dew_c"] = np.minimum(seen["dew_c"], seen["minimum_c"])
    observed = Air(**seen)
    low, high, dew = (vapour_pressure_kpa(seen[name]) for name in c.GRIDMET_STD)
    top, _ = sun(forcing.lonlat()[1][:, None], day_of_year(forcing.days[day]))
    eto = reference_evapotranspiration_mm(
        observed, elevation_m=np.asarray(state.elevation_m)[:, None], top_w_m2=top
    )
    bands = (
        pr, observed.minimum_c + KELVIN, observed.maximum_c + KELVIN,
        100 * dew / high, 100 * dew / low,
        observed.radiation_w_m2, observed.wind_m_s, (low + high) / 2 - dew, eto,
    )  # fmt: skip
    return Product(periods, np.stack(bands, axis=-1).astype(np.float32))


def _days_of(forcing, periods):
    """Which of the forcing's days each period begins on."""
    return (periods.start.astype("datetime64[D]") - forcing.days[0]).astype(int)

"""Weather of the past as predictors: what fell, what the air asked for, what a bucket kept.

Arrays are (day, station), one row a calendar day. A value of day t uses days up to t only.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from soilkit.antecedents import antecedent_precipitation
from soilkit.features import DAYS_PER_YEAR

RETENTIONS = (0.70, 0.80, 0.85, 0.90, 0.93, 0.95, 0.97, 0.98, 0.99)  # of the index, a day
SUM_DAYS = (3, 7, 14, 30, 90)
CAPACITIES_MM = (20.0, 60.0, 150.0)
LEAST_KNOWN = 0.8  # of a window's days, for its mean to be known
LEAST_DAYS = 292  # four fifths of a year, for a mean so far to tell a climate
SNOW_BELOW_C, MELT_MM_C = 1.0, 3.0  # degree-day snow: ours, within the usual ranges
LATENT_HEAT_MJ_KG, SOLAR_MJ_M2_MIN = 2.45, 0.0820
WET_MM = 2.0  # a day with as much rain ends a dry spell


class Weather(NamedTuple):
    """Daily weather (day, station), NaN where unknown, of ``days`` (day,) at ``latitude``."""

    days: np.ndarray
    latitude: np.ndarray
    rain_mm: np.ndarray
    mean_c: np.ndarray
    low_c: np.ndarray
    high_c: np.ndarray
    humidity_percent: np.ndarray


def extraterrestrial_mm(day_of_year, latitude) -> np.ndarray:
    """Solar radiation above the air as the water it could evaporate, mm d-1, (day, station) [1]_.

    Parameters
    ----------
    day_of_year : array (day,)
    latitude : array (station,), degrees

    References
    ----------
    .. [1] Allen et al. (1998), FAO Irrigation and Drainage Paper 56, equations 20 to 25

    Examples
    --------
    >>> extraterrestrial_mm(np.array([246]), np.array([-20.0])).round(1)  # FAO-56, example 8
    array([[13.1]])
    """
    angle = 2 * np.pi * np.asarray(day_of_year, dtype=float)[:, None] / 365
    at = np.radians(np.asarray(latitude, dtype=float))[None, :]
    tilt = 0.409 * np.sin(angle - 1.39)
    sunset = np.arccos(np.clip(-np.tan(at) * np.tan(tilt), -1, 1))
    height = sunset * np.sin(at) * np.sin(tilt) + np.cos(at) * np.cos(tilt) * np.sin(sunset)
    distance = 1 + 0.033 * np.cos(angle)
    return 24 * 60 / np.pi * SOLAR_MJ_M2_MIN * distance * height / LATENT_HEAT_MJ_KG


def hargreaves_mm(mean_c, range_c, *, radiation_mm) -> np.ndarray:
    """Potential evapotranspiration 0.0023 Ra (T + 17.8) sqrt(Tmax - Tmin), mm d-1, not below 0.

    Parameters
    ----------
    mean_c, range_c : arrays, air temperature and its daily range, degrees C
    radiation_mm : array, of ``extraterrestrial_mm``

    References
    ----------
    Hargreaves and Samani (1985), doi:10.13031/2013.26773

    Examples
    --------
    >>> hargreaves_mm(20.0, 16.0, radiation_mm=10.0).round(3)
    np.float64(3.478)
    """
    spread = np.sqrt(np.maximum(range_c, 0))
    return np.maximum(0.0023 * radiation_mm * (mean_c + 17.8) * spread, 0)


def snowpack(rain_mm, mean_c) -> tuple[np.ndarray, np.ndarray]:
    """A degree-day snowpack: water held as snow, and rain plus melt of each day, mm.

    Below 1 degree C what falls is kept; above 0 degrees C up to 3 mm melt a degree and day. Both
    are modelled from weather, no snow is measured. Unknown weather neither falls nor melts.
    """
    fall, warm = np.nan_to_num(rain_mm), np.nan_to_num(mean_c)
    snow = np.where(np.isfinite(mean_c) & (mean_c < SNOW_BELOW_C), fall, 0.0)
    melting = MELT_MM_C * np.maximum(warm, 0)
    held, water = np.zeros_like(fall), fall - snow
    store = np.zeros(fall.shape[1])
    for t in range(len(fall)):
        store = store + snow[t]
        melt = np.minimum(store, melting[t])
        store = store - melt
        held[t] = store
        water[t] += melt
    return held, water


def bucket(water_mm, demand_mm, *, capacity_mm: float) -> np.ndarray:
    """Filling (0 to 1) of a bucket that rain and melt fill and evapotranspiration empties.

    It loses demand times its filling a day, and spills what exceeds its capacity. It starts half
    full. An unknown demand is the last known one.
    """
    water = np.nan_to_num(water_mm)
    demand = pd.DataFrame(demand_mm).ffill().fillna(0.0).to_numpy()
    filling, out = np.full(water.shape[1], 0.5), np.zeros_like(water)
    for t in range(len(water)):
        filling = filling * np.exp(-demand[t] / capacity_mm) + water[t] / capacity_mm
        filling = np.minimum(filling, 1.0)
        out[t] = filling
    return out


def past_mean(values, days: int) -> np.ndarray:
    """Mean of a day and the ``days`` - 1 before it; NaN where too few of them are known."""
    least = int(np.ceil(LEAST_KNOWN * days))
    return pd.DataFrame(values).rolling(days, min_periods=least).mean().to_numpy()


def past_share_known(values, days: int) -> np.ndarray:
    """Share of a day and the ``days`` - 1 before it that is known; none is before the first."""
    known = pd.DataFrame(np.isfinite(values).astype(float))
    return known.rolling(days, min_periods=1).sum().to_numpy() / days


def mean_so_far(values) -> np.ndarray:
    """Mean of a day and all before it; NaN until 292 days are known."""
    return pd.DataFrame(values).expanding(LEAST_DAYS).mean().to_numpy()


def indices(rain_mm) -> dict[str, np.ndarray]:
    """Antecedent precipitation index (day, station), mm, by each retention of the grid."""
    names = {k: f"api_{round(100 * k)}" for k in RETENTIONS}
    return {names[k]: antecedent_precipitation(rain_mm, retention=k) for k in RETENTIONS}


def build(weather: Weather) -> dict[str, np.ndarray]:
    """Every predictor (day, station) that weather gives, by name.

    Rain (today's, sums, antecedent precipitation indices, days since 2 mm fell), air temperature
    (mean, range, warm degree-days), humidity, demand of the air, a snowpack, three buckets, the
    climate so far (means of at least 292 days), and three series less their mean so far.
    """
    rain, mean = weather.rain_mm, weather.mean_c
    day_of_year = pd.DatetimeIndex(weather.days).dayofyear.to_numpy()
    radiation = extraterrestrial_mm(day_of_year, weather.latitude)
    spread = weather.high_c - weather.low_c
    demand = hargreaves_mm(mean, spread, radiation_mm=radiation)
    held, water = snowpack(rain, mean)
    out = {"rain_mm": rain, **indices(rain), "dry_days": _days_since(rain >= WET_MM)}
    out |= {f"rain_{n}d_mm": n * past_mean(rain, n) for n in SUM_DAYS}
    out |= {"air_c": mean, "air_range_c": spread, "demand_mm": demand}
    out |= {"snow_mm": held, "water_mm": water, "water_7d_mm": 7 * past_mean(water, 7)}
    out |= {f"air_{n}d_c": past_mean(mean, n) for n in (7, 30)}
    out["degree_days_30"] = 30 * past_mean(np.maximum(mean, 0), 30)
    out |= {f"humidity_{n}d_percent": past_mean(weather.humidity_percent, n) for n in (1, 7, 30)}
    out |= {f"demand_{n}d_mm": n * past_mean(demand, n) for n in (7, 30, 90)}
    out |= {f"surplus_{n}d_mm": n * past_mean(rain - demand, n) for n in (30, 90)}
    out |= {f"bucket_{c:.0f}": bucket(water, demand, capacity_mm=c) for c in CAPACITIES_MM}
    climate = {"rain": rain, "air": mean, "air_range": spread, "demand": demand, "bucket_60":
               out["bucket_60"], "humidity": weather.humidity_percent, "snow": held}  # fmt: skip
    out |= {f"{name}_mean_so_far": mean_so_far(v) for name, v in climate.items()}
    out["dryness_so_far"] = out["demand_mean_so_far"] / np.maximum(out["rain_mean_so_far"], 0.05)
    for name in ("bucket_20", "bucket_60", "air_7d_c"):
        out[f"{name}_above"] = out[name] - mean_so_far(out[name])
    return out | _season(weather.days, rain.shape[1])


def _season(days, n_stations: int) -> dict[str, np.ndarray]:
    """Season as a point on the circle, as ``features.season`` has it."""
    day = pd.DatetimeIndex(days).dayofyear.to_numpy() - 1
    angle = np.repeat((2 * np.pi * day / DAYS_PER_YEAR)[:, None], n_stations, axis=1)
    return {"season_sin": np.sin(angle), "season_cos": np.cos(angle)}


def _days_since(event: np.ndarray) -> np.ndarray:
    """Days since an event (day, station), at most 60, and 60 where none was."""
    at = np.arange(len(event))[:, None]
    last = np.maximum.accumulate(np.where(event, at, -60), axis=0)
    return np.minimum(at - last, 60).astype(float)

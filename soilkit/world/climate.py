"""Normals of the climate, and the daily weather of 9 km cells drawn around them."""

from dataclasses import dataclass

import numpy as np
from scipy.special import gamma, ndtr

from soilkit import strata
from soilkit.world import noise
from soilkit.world import parameters as c


@dataclass(frozen=True)
class Climate:
    """Normals at points, arrays of one shape."""

    latitude: np.ndarray  # degrees
    precipitation_mm: np.ndarray  # a year
    wet_day_probability: np.ndarray
    wet_seasonality: np.ndarray
    temperature_c: np.ndarray  # annual mean
    season_amplitude_c: np.ndarray


def climate(seed: int, place) -> Climate:
    """Climate normals at points of the world: drier to the west, colder to the north and uphill.

    Parameters
    ----------
    place : (u_m, v_m), arrays of one shape, m (EPSG:6933)
    """
    u_m, v_m = place
    east = (np.asarray(u_m) - c.CENTRE_U_M) / c.HALF_U_M
    north = (np.asarray(v_m) - c.CENTRE_V_M) / c.HALF_V_M
    ripple = noise.smooth(noise.key(seed, "climate"), place, scale_m=120_000)
    rain = c.PRECIPITATION_MM + c.PRECIPITATION_EAST_MM * east - 60 * north
    rise = -c.ELEVATION_RISE_WEST_M * east  # above the mean elevation
    mix = np.clip((north - east + 1) / 2, 0, 1)
    sine = np.clip(np.asarray(v_m) * np.cos(np.pi / 6) / c.EARTH_RADIUS_M, -1, 1)
    return Climate(
        latitude=np.degrees(np.arcsin(sine)),
        precipitation_mm=np.maximum(rain + c.PRECIPITATION_SD_MM * ripple, 230.0),
        wet_day_probability=np.clip(c.WET_DAY_PROBABILITY + c.WET_DAY_EAST * east, 0.1, 0.4),
        wet_seasonality=c.WET_SEASONALITY_SOUTHEAST
        + (c.WET_SEASONALITY_NORTHWEST - c.WET_SEASONALITY_SOUTHEAST) * mix,
        temperature_c=c.TEMPERATURE_C + c.TEMPERATURE_NORTH_C * north - c.LAPSE_C_M * rise,
        season_amplitude_c=c.SEASON_AMPLITUDE_C + c.SEASON_AMPLITUDE_NORTH_C * north,
    )


# Daily weather of EASE-Grid 9 km cells, and the climate class of the normals.


@dataclass(frozen=True)
class Weather:
    """Daily weather over cells, arrays (day, row, col) but for ``days`` and ``normals``."""

    days: np.ndarray  # (day,) days since 1970-01-01
    normals: Climate
    precipitation_mm: np.ndarray
    rain_hour: np.ndarray  # when the day's rain begins, UTC
    temperature_c: np.ndarray  # daily mean
    soil_temperature_c: np.ndarray  # daily mean at 5 cm
    pet_mm: np.ndarray
    liquid_mm: np.ndarray  # rain and melt that reach the soil
    melt_mm: np.ndarray
    snow_mm: np.ndarray  # water equivalent at the day's start


def weather(seed: int, days, *, u_m, v_m) -> Weather:
    """Daily weather of blocks of cells, stacked along the rows of the result.

    Parameters
    ----------
    days : int array (day,), days since 1970-01-01, in sequence
    u_m : array (block, col), m, cell centres
    v_m : array (block, row), m
    """
    nets = [np.meshgrid(u, v) for u, v in zip(u_m, v_m, strict=True)]
    normals = climate(seed, tuple(np.concatenate(axis) for axis in zip(*nets, strict=True)))
    phase = 2 * np.pi * _day_of_year(days)[:, None, None] / 365.25
    rain = _precipitation(seed, days, (u_m, v_m), (normals, phase))
    warmth = _temperature(seed, days, (u_m, v_m), (normals, phase))
    snow, melt, liquid = _snow(rain, warmth)
    hour = 20 * ndtr(_daily(seed, "rain hour", days, (u_m, v_m), 250_000))
    return Weather(
        days, normals, rain, hour, warmth, _soil_temperature(warmth, snow, normals),
        pet(warmth, normals.latitude, day_of_year=_day_of_year(days)), liquid, melt, snow,
    )  # fmt: skip


def _daily(seed, name, days, blocks, scale_m):
    """Smooth noise of unit variance, new every day: (day, row, col)."""
    keys = [noise.key(seed, name, scale_m, int(day)) for day in days]
    parts = [noise.separable(keys, net, scale_m=scale_m) for net in zip(*blocks, strict=True)]
    return np.concatenate(parts, axis=1)


def _day_of_year(days):
    dates = np.asarray(days).astype("datetime64[D]")
    return (dates - dates.astype("datetime64[Y]")).astype(int) + 1


def _precipitation(seed, days, place, season):
    normals, phase = season
    longer = np.append(days[0] - 1, days)
    latent = sum(
        weight * _daily(seed, "rain", longer, place, scale) for scale, weight in c.RAIN_OCTAVES_M
    )
    latent = (latent[1:] + c.RAIN_PERSISTENCE * latent[:-1]) / np.hypot(1, c.RAIN_PERSISTENCE)
    wettest = 2 * np.pi * c.WETTEST_DAY / 365.25
    chance = normals.wet_day_probability * (1 + normals.wet_seasonality * np.cos(phase - wettest))
    spell = c.SPELL_SD * _spells(seed, days, place)
    chance = np.clip(chance * np.exp(spell - c.SPELL_SD**2 / 2), 0.02, 0.65)
    rank = (ndtr(latent) - (1 - chance)) / chance  # uniform on wet days
    mean_mm = normals.precipitation_mm / (365.25 * normals.wet_day_probability)
    amount = (-np.log1p(-np.clip(rank, 0, 1 - 1e-9))) ** c.RAIN_TAIL / gamma(1 + c.RAIN_TAIL)
    return np.where(rank > 0, mean_mm * amount, 0.0)


def _spells(seed, days, blocks):
    """Wet and dry spells of weeks: smooth in space, straight between knots in time."""
    knots = np.arange(days[0] // c.SPELL_DAYS, days[-1] // c.SPELL_DAYS + 2)
    levels = _daily(seed, "spell", knots, blocks, c.SPELL_SCALE_M)
    part = days / c.SPELL_DAYS - knots[0]
    knot = np.floor(part).astype(int)
    weight = (part - knot)[:, None, None]
    mixed = levels[knot] * (1 - weight) + levels[knot + 1] * weight
    return mixed / np.hypot(weight, 1 - weight)


def _temperature(seed, days, place, season):
    from scipy.signal import lfilter  # here: it takes as long to load as pandas

    normals, phase = season
    warmest = 2 * np.pi * c.WARMEST_DAY / 365.25
    normal = normals.temperature_c + normals.season_amplitude_c * np.cos(phase - warmest)
    white = _daily(seed, "warmth", days, place, c.WEATHER_SCALE_M)
    memory = c.WEATHER_MEMORY
    red = lfilter([np.sqrt(1 - memory**2)], [1, -memory], white, axis=0)
    return normal + c.WEATHER_SD_C * (1.2 - 0.4 * np.cos(phase - warmest)) * red


def _soil_temperature(warmth, snow, normals):
    """Damped and late, and hardly colder than freezing under snow."""
    from scipy.signal import lfilter  # here: it takes as long to load as pandas

    keep = np.exp(-1 / c.SOIL_MEMORY_DAYS)
    anomaly = warmth - normals.temperature_c
    slow = lfilter([1 - keep], [1, -keep], anomaly, axis=0) * c.SOIL_DAMPING
    soil = normals.temperature_c + 1.0 + slow
    cover = np.exp(-snow / c.SNOW_INSULATION_MM)
    return np.where(soil < 0, soil * cover, soil)


def pet(temperature_c, latitude, *, day_of_year):
    """Potential evapotranspiration, Ra (T + 5) / (100 lambda rho) above -5 C (Oudin 2005).

    Parameters
    ----------
    temperature_c : array (day, row, col), C
    latitude : array (row, col), degrees
    day_of_year : int array (day,)

    Returns
    -------
    array (day, row, col), mm d-1
    """
    day = np.asarray(day_of_year)[:, None, None]
    angle = 2 * np.pi * day / 365
    lat = np.radians(latitude)
    tilt = 0.409 * np.sin(angle - 1.39)
    sunset = np.arccos(np.clip(-np.tan(lat) * np.tan(tilt), -1, 1))
    beam = sunset * np.sin(lat) * np.sin(tilt) + np.cos(lat) * np.cos(tilt) * np.sin(sunset)
    radiation = 24 * 60 / np.pi * 0.0820 * (1 + 0.033 * np.cos(angle)) * beam  # MJ m-2 d-1, FAO 56
    return np.maximum(radiation / 2.45 * (temperature_c + 5) / 100, 0.0)


def _snow(rain, warmth):
    cold = warmth < c.SNOW_THRESHOLD_C
    pack = np.zeros(rain.shape[1:])
    snow, melt = np.zeros(rain.shape), np.zeros(rain.shape)
    for day in range(len(rain)):
        snow[day] = pack
        melt[day] = np.minimum(pack, c.MELT_MM_PER_C_DAY * np.maximum(warmth[day], 0.0))
        pack = pack - melt[day] + np.where(cold[day], rain[day], 0.0)
    return snow, melt, np.where(cold, 0.0, rain) + melt


MONTH_DAYS = np.array([31, 28.25, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
MONTH_MIDDLES = np.cumsum(MONTH_DAYS) - MONTH_DAYS / 2  # days of the year


def koeppen_of(normals: Climate) -> np.ndarray:
    """Koeppen-Geiger classes of the climate's normals (see ``strata.koeppen``).

    Returns
    -------
    array of str of that shape, such as "Cfa"
    """
    rain, season = (
        np.asarray(getattr(normals, name))[..., None]
        for name in ("precipitation_mm", "wet_seasonality")
    )
    turn = 2 * np.pi / 365.25
    wet = 1 + season * np.cos(turn * (MONTH_MIDDLES - c.WETTEST_DAY))
    return strata.koeppen(_monthly_c(normals), rain * wet * MONTH_DAYS / 365.25)


def normal_pet_mm(normals: Climate) -> np.ndarray:
    """Potential evapotranspiration of the normals, mm a year, array of their shape."""
    monthly = pet(_monthly_c(normals).T, normals.latitude.T, day_of_year=MONTH_MIDDLES)
    return np.tensordot(MONTH_DAYS, monthly, 1).T


def _monthly_c(normals):
    """Normal temperature of each month, (..., 12)."""
    mean, amplitude = (
        np.asarray(getattr(normals, name))[..., None]
        for name in ("temperature_c", "season_amplitude_c")
    )
    return mean + amplitude * np.cos(2 * np.pi / 365.25 * (MONTH_MIDDLES - c.WARMEST_DAY))

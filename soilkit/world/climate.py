"""The climate's normals: what the weather is drawn around, smooth in world coordinates."""

from dataclasses import dataclass

import numpy as np

from soilkit.world import constants as c
from soilkit.world import noise


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
    seed : int
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

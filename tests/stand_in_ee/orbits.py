"""Where two radar and two optical satellites fly: circular sun-synchronous tracks that repeat."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tests.stand_in_ee.shapes import Convex, transformer

EARTH_RADIUS_KM = 6371.0
STEP_S = 25.0  # the length of a radar slice
DAY_S = 86400.0


@dataclass(frozen=True)
class Track:
    """A ground track: ``orbits`` turns in ``days`` days, then the same again."""

    orbits: int
    days: int
    inclination_degrees: float
    ascending_hour: float  # local mean time at the ascending node

    @property
    def cycle_s(self) -> float:
        return self.days * DAY_S

    @property
    def period_s(self) -> float:
        return self.cycle_s / self.orbits

    def position(self, time_s):
        """Unit vectors (..., 3) under the satellite, a time in seconds after the cycle's start."""
        time_s = np.asarray(time_s, float)
        u = 2 * np.pi * time_s / self.period_s
        tilt = np.radians(self.inclination_degrees)
        node = np.radians(15 * self.ascending_hour) - 2 * np.pi * time_s / DAY_S
        longitude = node + np.arctan2(np.cos(tilt) * np.sin(u), np.cos(u))
        sine = np.sin(tilt) * np.sin(u)
        cosine = np.sqrt(1 - sine**2)
        return np.stack([cosine * np.cos(longitude), cosine * np.sin(longitude), sine], axis=-1)

    def heading(self, time_s):
        """Unit vectors (..., 3) along the ground track."""
        step = self.position(np.asarray(time_s) + 0.5) - self.position(np.asarray(time_s) - 0.5)
        return step / np.linalg.norm(step, axis=-1, keepdims=True)

    def is_ascending(self, time_s: float) -> bool:
        return bool(self.heading(time_s)[2] > 0)

    @cached_property
    def steps(self) -> np.ndarray:
        """Unit vectors (step, 3) in the middle of every ``STEP_S`` of a cycle."""
        n = int(round(self.cycle_s / STEP_S))
        return self.position((np.arange(n) + 0.5) * STEP_S)

    def near(self, longitude: float, latitude: float, reach_km: float) -> np.ndarray:
        """The steps of a cycle whose middle lies within reach of a point."""
        cosine = self.steps @ vector(longitude, latitude)
        return np.flatnonzero(cosine > np.cos(reach_km / EARTH_RADIUS_KM))

    def closest(self, longitude: float, latitude: float, around_s: float) -> float:
        """The whole second within a step of ``around_s`` at which a point is closest."""
        times = np.round(around_s) + np.arange(-STEP_S, STEP_S + 1)
        return float(times[np.argmax(self.position(times) @ vector(longitude, latitude))])


RADAR = Track(orbits=175, days=12, inclination_degrees=98.18, ascending_hour=18.0)
OPTICAL = Track(orbits=143, days=10, inclination_degrees=98.62, ascending_hour=22.5)


def vector(longitude: float, latitude: float) -> np.ndarray:
    east, north = np.radians(longitude), np.radians(latitude)
    return np.array([np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)])


def lonlat(unit: np.ndarray) -> tuple[float, float]:
    return float(np.degrees(np.arctan2(unit[1], unit[0]))), float(np.degrees(np.arcsin(unit[2])))


def utm_zone(longitude: float) -> int:
    return int((longitude + 180) // 6) % 60 + 1


def utm(zone: int, latitude: float) -> str:
    return f"EPSG:{(32600 if latitude >= 0 else 32700) + zone}"


def frame(crs: str, centre: np.ndarray, along: np.ndarray):
    """A point, the unit vector of a heading and the one to its right, in a plane's metres."""
    to_plane = transformer("EPSG:4326", crs)
    ahead = centre + along * 1e-3
    here = np.array(to_plane.transform(*lonlat(centre)))
    there = np.array(to_plane.transform(*lonlat(ahead / np.linalg.norm(ahead))))
    forward = (there - here) / np.linalg.norm(there - here)
    return here, forward, np.array([forward[1], -forward[0]])


def slanted_box(centre, forward, right, *, length_m: float, width_m: float) -> Convex:
    """The rectangle of a slice: so long along the track, so wide across."""
    half_length, half_width = forward * length_m / 2, right * width_m / 2
    corners = [
        centre + s * half_length + t * half_width for s, t in ((-1, -1), (-1, 1), (1, 1), (1, -1))
    ]
    return Convex.of(corners)

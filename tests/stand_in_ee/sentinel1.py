"""The radar collection: slices of 25 seconds along two satellites' repeating tracks."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tests.stand_in_ee import orbits
from tests.stand_in_ee.fields import draw, wave
from tests.stand_in_ee.orbits import RADAR, STEP_S
from tests.stand_in_ee.scenes import Band, Query, Scene, Unbounded, milliseconds, moment

ASSET = "COPERNICUS/S1_GRD"
# Satellite: start of a cycle, first and last day of operation.
FLEET = {
    "S1A": ("2014-01-01", "2014-10-03", "2026-01-01"),
    "S1B": ("2014-01-07", "2016-09-26", "2021-12-23"),
}
SWATH_CENTRE_KM, SWATH_KM, EDGE_KM = 305.0, 250.0, 1.0
GROUND_SPEED_KM_S = 2 * np.pi * orbits.EARTH_RADIUS_KM / RADAR.period_s
OVERLAP_S = 2.0  # slices of one pass share this much
# Kind of pass: share, polarisations, mode, resolution, letters of the id.
KINDS = (
    (0.88, ("VV", "VH"), "IW", "H", "1SDV"),
    (0.06, ("VV",), "IW", "H", "1SSV"),
    (0.06, ("HH", "HV"), "EW", "M", "1SDH"),
)
LEVELS_DB = {"VV": -11.0, "VH": -17.5, "HH": -10.0, "HV": -17.0}


def _backscatter(name: str) -> Band:
    def value(scene, x, y):
        return LEVELS_DB[name] + 4.0 * wave((ASSET, name, scene.start_ms), x / 10, y / 10)

    return Band(name, "double", 10.0, value)


def _incidence(scene, x, y):
    return 38.0 + 7.0 * wave((ASSET, "angle", scene.start_ms), x / 400.0, y / 400.0)


ANGLE = Band("angle", "float", 10.0, _incidence)
POLARISATIONS = {name: _backscatter(name) for name in LEVELS_DB}


@dataclass(frozen=True)
class Sentinel1:
    """``COPERNICUS/S1_GRD``."""

    asset: str = ASSET
    kind: str = "IMAGE_COLLECTION"
    begins: str = "2014-10-03"
    ends: str = ""
    bands = (POLARISATIONS["VV"], POLARISATIONS["VH"], ANGLE)

    def list(self, query: Query) -> list[Scene]:
        if not query.is_bounded:
            raise Unbounded(self.asset)
        longitude, latitude = query.places[0].mean(axis=0)
        reach = SWATH_CENTRE_KM + SWATH_KM / 2 + GROUND_SPEED_KM_S * STEP_S + 60
        steps = RADAR.near(longitude, latitude, reach)
        found = []
        for satellite, (cycle, first, last) in FLEET.items():
            zero = milliseconds(cycle)
            low, high = max(query.start_ms, milliseconds(first)), milliseconds(last)
            for step in steps[_looked_at(steps, longitude, latitude)]:
                offset, turn = int(step * STEP_S * 1000), int(RADAR.cycle_s * 1000)
                n = -((zero + offset - low) // turn)
                for start in range(zero + offset + n * turn, min(query.end_ms, high), turn):
                    scene = _scene(satellite, start)
                    if scene is not None and query.admits(scene):
                        found.append(scene)
        return sorted(found, key=lambda scene: (scene.start_ms, scene.index))

    def get(self, index: str) -> Scene | None:
        words = index.split("_")
        if len(words) < 6 or words[0] not in FLEET:
            return None
        try:
            second = milliseconds(words[4])
        except ValueError:
            return None
        zero, step = milliseconds(FLEET[words[0]][0]), int(STEP_S * 1000)
        scene = _scene(words[0], zero + (second - zero) // step * step)
        return scene if scene is not None and scene.index == index else None


def _looked_at(steps, longitude, latitude):
    """The steps whose swath, to the right of the track, may hold the point."""
    place = orbits.vector(longitude, latitude)
    times = (steps + 0.5) * STEP_S
    position, heading = RADAR.position(times), RADAR.heading(times)
    right_km = np.cross(heading, position) @ place * orbits.EARTH_RADIUS_KM
    along_km = heading @ place * orbits.EARTH_RADIUS_KM
    across = abs(right_km - SWATH_CENTRE_KM) < SWATH_KM / 2 + 25
    return across & (abs(along_km) < GROUND_SPEED_KM_S * STEP_S / 2 + 60)


@lru_cache(maxsize=100_000)
def _scene(satellite: str, start_ms: int) -> Scene | None:
    """The slice that begins then; None where the satellite was switched off."""
    cycle, first, last = FLEET[satellite]
    if not milliseconds(first) <= start_ms < milliseconds(last):
        return None
    since_s = (start_ms - milliseconds(cycle)) / 1000
    turn, offset_s = divmod(since_s, RADAR.cycle_s)
    orbit = int(offset_s // RADAR.period_s)
    crs, origin, footprint, valid = _geometry(int(offset_s))
    upwards = RADAR.is_ascending(offset_s)
    half = int(offset_s // (RADAR.period_s / 2))
    chance = draw(ASSET, satellite, turn, half)
    shares = np.cumsum([kind[0] for kind in KINDS])
    _, polarisations, mode, letter, product = KINDS[int(np.searchsorted(shares, chance))]
    absolute = int(turn) * RADAR.orbits + orbit + 1
    end_ms = start_ms + int((STEP_S + OVERLAP_S) * 1000)
    mission = f"{int(draw(satellite, turn, half, 'take') * 2**24):06X}"
    unique = f"{int(draw(satellite, start_ms) * 2**16):04X}"
    index = (
        f"{satellite}_{mode}_GRD{letter}_{product}_{moment(start_ms)}_{moment(end_ms)}"
        f"_{absolute:06d}_{mission}_{unique}"
    )
    properties = {
        "instrumentMode": mode,
        "transmitterReceiverPolarisation": list(polarisations),
        "orbitProperties_pass": "ASCENDING" if upwards else "DESCENDING",
        "relativeOrbitNumber_start": orbit + 1,
        "orbitNumber_start": absolute,
        "platform_number": satellite[2:],
        "productType": "GRD",
        "resolution": letter,
        "resolution_meters": 10 if letter == "H" else 25,
        "sliceNumber": int(offset_s // STEP_S) % 40,
    }
    bands = (*(POLARISATIONS[name] for name in polarisations), ANGLE)
    return Scene(ASSET, index, start_ms, end_ms, crs, origin, bands, properties, footprint, valid)


@lru_cache(maxsize=50_000)
def _geometry(offset_s: int):
    """CRS, pixel origin, footprint and valid area of the slice at this moment of the cycle."""
    middle = offset_s + STEP_S / 2
    position, heading = RADAR.position(middle), RADAR.heading(middle)
    aside = SWATH_CENTRE_KM / orbits.EARTH_RADIUS_KM
    centre = np.cos(aside) * position + np.sin(aside) * np.cross(heading, position)
    longitude, latitude = orbits.lonlat(centre)
    crs = orbits.utm(orbits.utm_zone(longitude), latitude)
    here, forward, right = orbits.frame(crs, centre, heading)
    length_m = (STEP_S + OVERLAP_S) * GROUND_SPEED_KM_S * 1000
    footprint = orbits.slanted_box(here, forward, right, length_m=length_m, width_m=SWATH_KM * 1000)
    valid = orbits.slanted_box(
        here, forward, right, length_m=length_m, width_m=(SWATH_KM - 2 * EDGE_KM) * 1000
    )
    corner = np.floor(np.array([footprint.corners[:, 0].min(), footprint.corners[:, 1].max()]))
    shift = np.round(2.5 + 5 * draw("origin", offset_s, n=2), 4)  # pixels stand on no round number
    origin = (float(corner[0] // 10 * 10 + shift[0]), float(corner[1] // 10 * 10 + shift[1]))
    return crs, origin, footprint, valid

"""The optical collection: military-grid tiles under two satellites' passes, and its cloud masks."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tests.stand_in_ee import orbits
from tests.stand_in_ee.fields import clearness, draw, wave
from tests.stand_in_ee.orbits import OPTICAL, STEP_S
from tests.stand_in_ee.scenes import Band, Query, Scene, Unbounded, milliseconds, moment
from tests.stand_in_ee.shapes import Convex, transformer

ASSET = "COPERNICUS/S2_HARMONIZED"
SCORE = "GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED"
PROBABILITY = "COPERNICUS/S2_CLOUD_PROBABILITY"
FLEET = {
    "S2A": ("2015-01-01", "2015-06-27", "2026-01-01"),
    "S2B": ("2015-01-06", "2017-07-01", "2026-01-01"),
}
SWATH_KM = 290.0
TILE_M, SQUARE_M = 109_800, 100_000
QA60_MASKED = milliseconds("2022-01-25"), milliseconds("2024-02-28")
CLOUD, CIRRUS = 1024, 2048
STEPS_M = {"B2": 10, "B3": 10, "B4": 10, "B5": 20, "B6": 20, "B7": 20, "B8": 10, "B11": 20}
STEPS_M["B12"] = 20
COLUMNS = ("STUVWXYZ", "ABCDEFGH", "JKLMNPQR")  # by zone modulo 3
ROWS = "ABCDEFGHJKLMNPQRSTUV"
BANDS_OF_LATITUDE = "CDEFGHJKLMNPQRSTUVWX"


def cover(scene) -> float:
    """The share of the tile under cloud."""
    return scene.properties["CLOUDY_PIXEL_PERCENTAGE"] / 100


def clear(scene, x, y):
    """Clearness minus cover: below zero is cloud."""
    return clearness((ASSET, scene.properties["DATATAKE_IDENTIFIER"]), x, y) - cover(scene)


def _reflectance(name: str, step: int) -> Band:
    def value(scene, x, y):
        ground = 2200 + 1500 * wave((ASSET, name, scene.start_ms), x / step, y / step)
        return ground + np.where(clear(scene, x, y) < 0, 4000.0, 0.0)

    return Band(name, "uint16", step, value)


def _qa60(scene, x, y):
    margin = clear(scene, x, y)
    opaque = margin < -0.2 * cover(scene)
    return np.where(opaque, float(CLOUD), np.where(margin < 0, float(CIRRUS), 0.0))


def _qa60_known(scene, x, y):
    first, last = QA60_MASKED
    return np.full(np.broadcast(x, y).shape, not first <= scene.start_ms < last)


def _score(steepness: float):
    return lambda scene, x, y: np.clip(0.6 + steepness * clear(scene, x, y), 0, 1)


def _probability(scene, x, y):
    return np.clip(50 - 200 * clear(scene, x, y), 0, 100)


OPTICAL_BANDS = (
    *(_reflectance(name, step) for name, step in STEPS_M.items()),
    Band("QA60", "uint16", 60, _qa60, _qa60_known),
)
SCORE_BANDS = (Band("cs", "double", 10, _score(4)), Band("cs_cdf", "double", 10, _score(5)))
PROBABILITY_BANDS = (Band("probability", "uint8", 10, _probability),)


@dataclass(frozen=True)
class Sentinel2:
    """``COPERNICUS/S2_HARMONIZED``, or a mask of it that some scenes lack."""

    asset: str = ASSET
    bands: tuple[Band, ...] = OPTICAL_BANDS
    lacking: float = 0.0  # share of the scenes
    kind: str = "IMAGE_COLLECTION"
    begins: str = "2015-06-27"
    ends: str = ""

    def list(self, query: Query) -> list[Scene]:
        if not query.is_bounded:
            raise Unbounded(self.asset)
        names = {name for place in query.places for point in place for name in tiles_at(*point)}
        found = []
        for name in sorted(names):
            for satellite, (cycle, first, last) in FLEET.items():
                zero, turn = milliseconds(cycle), int(OPTICAL.cycle_s * 1000)
                low = max(query.start_ms, milliseconds(first))
                high = min(query.end_ms, milliseconds(last))
                for passing in passes(name):
                    offset = int(passing.time_s * 1000)
                    n = -((zero + offset - low) // turn)
                    for start in range(zero + offset + n * turn, high, turn):
                        scene = self._scene(satellite, name, passing, start)
                        if scene is not None and query.admits(scene):
                            found.append(scene)
        return sorted(found, key=lambda scene: (scene.start_ms, scene.index))

    def get(self, index: str) -> Scene | None:
        words = index.split("_")
        try:
            second = milliseconds(words[1])
            tile_corner(words[2][1:])
        except (IndexError, ValueError):
            return None
        for satellite, (cycle, _, _) in FLEET.items():
            offset_s = (second - milliseconds(cycle)) / 1000 % OPTICAL.cycle_s
            for passing in passes(words[2][1:]):
                if passing.time_s == offset_s:
                    scene = self._scene(satellite, words[2][1:], passing, second)
                    if scene is not None and scene.index == index:
                        return scene
        return None

    def _scene(self, satellite, name, passing, start_ms) -> Scene | None:
        _, first, last = FLEET[satellite]
        if not milliseconds(first) <= start_ms < milliseconds(last):
            return None
        take_ms = start_ms - int(passing.since_take_s * 1000)
        index = f"{moment(take_ms)}_{moment(start_ms)}_T{name}"
        if draw(self.asset, "lacking", index) < self.lacking:
            return None
        percentage = round(100 * draw(ASSET, "cover", take_ms, name) ** 1.3, 3)
        properties = {
            "CLOUDY_PIXEL_PERCENTAGE": percentage,
            "MGRS_TILE": name,
            "SPACECRAFT_NAME": f"Sentinel-{satellite[1:]}",
            "SENSING_ORBIT_DIRECTION": "DESCENDING",
            "SENSING_ORBIT_NUMBER": int(passing.time_s // OPTICAL.period_s) + 1,
            "DATATAKE_IDENTIFIER": f"GS{satellite}_{moment(take_ms)}_{passing.orbit:06d}_N02.09",
            "PRODUCT_ID": f"{satellite}_MSIL1C_{moment(take_ms)}_N0209_T{name}",
        }
        left, top = tile_corner(name)
        return Scene(
            self.asset, index, start_ms, start_ms, tile_crs(name), (left, top), self.bands,
            properties, passing.area, passing.area,
        )  # fmt: skip


@dataclass(frozen=True)
class Passing:
    """A pass over a tile: second of the cycle, seconds since its datatake began, area seen."""

    time_s: float
    since_take_s: float
    orbit: int
    area: Convex


@lru_cache(maxsize=4096)
def passes(name: str) -> tuple[Passing, ...]:
    """The daylight passes of one cycle that see some of a tile."""
    left, top = tile_corner(name)
    square = Convex.of(
        [(left, top - TILE_M), (left + TILE_M, top - TILE_M), (left + TILE_M, top), (left, top)]
    )
    crs = tile_crs(name)
    centre = transformer(crs, "EPSG:4326").transform(left + TILE_M / 2, top - TILE_M / 2)
    found = {}
    for step in OPTICAL.near(*centre, SWATH_KM / 2 + 180):
        time_s = OPTICAL.closest(*centre, (step + 0.5) * STEP_S)
        if OPTICAL.is_ascending(time_s) or int(time_s // OPTICAL.period_s) in found:
            continue
        position, heading = OPTICAL.position(time_s), OPTICAL.heading(time_s)
        here, _, right = orbits.frame(crs, position, heading)
        half = SWATH_KM * 500
        area = square.clip(here + right * half, right)
        area = area and area.clip(here - right * half, -right)
        if area is not None:
            orbit = int(time_s // OPTICAL.period_s)
            take_s = orbit * OPTICAL.period_s + OPTICAL.period_s / 2 + 137
            take_s = float(np.floor(take_s + (time_s - take_s) // 900 * 900))
            found[orbit] = Passing(time_s, time_s - take_s, orbit + 1, area)
    return tuple(found.values())


def tile_crs(name: str) -> str:
    return orbits.utm(int(name[:2]), 1 if name[2] >= "N" else -1)


@lru_cache(maxsize=4096)
def tile_corner(name: str) -> tuple[float, float]:
    """Left and top [m] of a tile: its square's corner, moved outwards to whole 60 m."""
    zone, band, column, row = int(name[:2]), name[2], name[3], name[4]
    east = (COLUMNS[zone % 3].index(column) + 1) * SQUARE_M
    order = (ROWS.index(row) - (0 if zone % 2 else 5)) % len(ROWS)
    south = -80 + 8 * BANDS_OF_LATITUDE.index(band)
    to_plane = transformer("EPSG:4326", tile_crs(name))
    lowest = to_plane.transform(zone * 6 - 183, south)[1] - 2 * SQUARE_M
    cycle = len(ROWS) * SQUARE_M
    north = order * SQUARE_M + np.ceil((lowest - order * SQUARE_M) / cycle) * cycle
    return float(east // 60 * 60), float(-(-(north + SQUARE_M) // 60) * 60)


@lru_cache(maxsize=65_536)
def tiles_at(longitude: float, latitude: float) -> tuple[str, ...]:
    """The names of the tiles that hold a point: of its square, of margins, of the next zone."""
    names = []
    home = orbits.utm_zone(longitude)
    for zone in (home - 1, home, home + 1):
        zone = (zone - 1) % 60 + 1
        to_plane = transformer("EPSG:4326", orbits.utm(zone, latitude))
        x, y = to_plane.transform(longitude, latitude)
        if not -200_000 < x < 1_200_000:
            continue
        column, row = int(x // SQUARE_M), int(y // SQUARE_M)
        for east in (column - 1, column):
            for north in (row, row + 1):
                name = _tile_name(zone, east, north, latitude)
                if name and _holds(name, x, y):
                    names.append(name)
    return tuple(names)


def _holds(name: str, x: float, y: float) -> bool:
    left, top = tile_corner(name)
    return left <= x < left + TILE_M and top - TILE_M < y <= top


def _tile_name(zone: int, east: int, north: int, latitude: float) -> str | None:
    """The tile of a square (in 100 km); None where the square lies outside its zone."""
    if not 1 <= east <= 8:
        return None
    to_degrees = transformer(orbits.utm(zone, latitude), "EPSG:4326")
    x = (np.array([0, 1, 0, 1, 0.5]) + east) * SQUARE_M
    y = (np.array([0, 0, 1, 1, 0.5]) + north) * SQUARE_M
    longitudes, latitudes = to_degrees.transform(x, y)
    west = zone * 6 - 186
    if not ((longitudes >= west) & (longitudes < west + 6)).any() or abs(latitudes[4]) > 79:
        return None
    band = BANDS_OF_LATITUDE[int((latitudes[4] + 80) // 8)]
    row = ROWS[(north + (0 if zone % 2 else 5)) % len(ROWS)]
    return f"{zone:02d}{band}{COLUMNS[zone % 3][east - 1]}{row}"

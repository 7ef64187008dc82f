"""Which scenes exist when: orbits of the radar and optical missions, calendars of products."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np

from soilkit import grids

EARTH_RADIUS_M = 6_371_000.0
EPOCH = np.datetime64("2019-01-01T00:00:00", "us")
DAY = np.timedelta64(86_400_000_000, "us")
DOMAIN_LATITUDES = (31.9, 44.1)
SAME_PASS = np.timedelta64(10 * 60 * 1_000_000, "us")


@dataclass(frozen=True)
class Mission:
    """A constellation on one repeat orbit; ``near_m`` and ``far_m`` bound its swath on the ground.

    Distances run to the right of the flight direction. ``satellites`` holds (name, days behind the
    first, absolute orbit of relative orbit 1 at the epoch). All fly at all times of the world.

    References
    ----------
    Torres et al. (2012), doi:10.1016/j.rse.2011.05.028; Drusch et al. (2012),
    doi:10.1016/j.rse.2011.11.026; USGS (2019), Landsat 8 data users handbook, LSDS-1574
    """

    name: str
    repeat_days: int
    n_orbits: int
    inclination_deg: float
    node_hour: float
    height_m: float
    near_m: float
    far_m: float
    satellites: tuple[tuple[str, int, int], ...]
    directions: tuple[str, ...]

    @property
    def period_days(self) -> float:
        """Time from node to node, days."""
        return self.repeat_days / self.n_orbits


# IW ground range from 30 to 45 degrees of incidence; 290 km of Sentinel-2 centred on its track.
SENTINEL1 = Mission(
    "sentinel1", 12, 175, 98.18, 18.0, 693_000, 360_000, 610_000,
    (("S1A", 0, 25_273), ("S1B", 6, 14_377)), ("ascending", "descending"),
)  # fmt: skip
SENTINEL2 = Mission(
    "sentinel2", 10, 143, 98.62, 22.5, 786_000, -145_000, 145_000,
    (("S2A", 0, 18_400), ("S2B", 5, 9_500)), ("descending",),
)  # fmt: skip
# A thousand kilometres wide: Entekhabi et al. (2010), doi:10.1109/JPROC.2010.2043918
SMAP = Mission(
    "smap", 8, 117, 98.12, 18.0, 685_000, -500_000, 500_000,
    (("SMAP", 0, 0),), ("ascending", "descending"),
)  # fmt: skip
# Days without data, from the first to before the second: the radiometer was off
SMAP_OUTAGES = (("2019-06-20", "2019-07-23"), ("2022-08-06", "2022-09-21"))
# 233 paths in 16 days, 185 km wide; the two satellites are eight days apart.
LANDSAT8, LANDSAT9 = (
    Mission(
        name, 16, 233, 98.2, 22.18, 705_000, -92_500, 92_500,
        ((satellite, behind, 0),), ("descending",),
    )
    for name, satellite, behind in (("landsat8", "LC08", 0), ("landsat9", "LC09", 8))
)  # fmt: skip
MISSIONS = {one.name: one for one in (SENTINEL1, SENTINEL2, LANDSAT8, LANDSAT9)}
MISSIONS["smap_sentinel1"] = SENTINEL1  # a scene for each of its passes
PATH_1_DEG, N_ROWS, ROW_OF_EQUATOR = -64.6, 248, 60  # of the second Worldwide Reference System


@dataclass(frozen=True)
class Track:
    """One relative orbit (0-based) of a mission in one flight direction."""

    mission: Mission
    orbit: int
    direction: str

    def ground(self, latitude) -> tuple[np.ndarray, np.ndarray]:
        """Longitude (degrees) where the track crosses a latitude, and days since the first node.

        Spherical orbit in the frame of the mean sun: sin(latitude) = sin(i) sin(u), and the Earth
        turns 360 degrees a day under it.
        """
        inclination = np.deg2rad(self.mission.inclination_deg)
        u = np.arcsin(np.sin(np.deg2rad(latitude)) / np.sin(inclination))
        if self.direction == "descending":
            u = np.pi - u
        days = (self.orbit + u / (2 * np.pi)) * self.mission.period_days
        node = self.mission.node_hour * 15 + np.rad2deg(
            np.arctan2(np.cos(inclination) * np.sin(u), np.cos(u))
        )
        return node - 360 * days, days

    def distance_m(self, longitude, latitude) -> np.ndarray:
        """Ground distance of points to the right of the track, m."""
        step = 0.01
        track, _ = self.ground(latitude)
        ahead, _ = self.ground(np.asarray(latitude) + step)
        cosine = np.cos(np.deg2rad(latitude))
        east = _wrap(np.asarray(longitude) - track) * cosine
        tilt = np.arctan2(_wrap(ahead - track) * cosine, step)  # of the track against north
        right = east * np.cos(tilt) * np.deg2rad(1) * EARTH_RADIUS_M
        return right if self.direction == "ascending" else -right

    def heading_deg(self, latitude: float) -> float:
        """Azimuth of flight at a latitude, degrees clockwise from north."""
        step = 0.01
        here, _ = self.ground(latitude)
        ahead, _ = self.ground(latitude + step)
        tilt = np.rad2deg(np.arctan2(_wrap(ahead - here) * np.cos(np.deg2rad(latitude)), step))
        return float(tilt) if self.direction == "ascending" else float(tilt + 180)

    def crossing(self, satellite: int) -> tuple[np.datetime64, np.datetime64]:
        """When a satellite enters and leaves the world in the cycle of the epoch, whole seconds."""
        days = np.sort([float(self.ground(lat)[1]) for lat in DOMAIN_LATITUDES])
        days = days + self.mission.satellites[satellite][1]
        first, last = (EPOCH + np.timedelta64(round(d * 86_400), "s") for d in days)
        return first, last


@dataclass(frozen=True)
class Pass:
    """One crossing of the world: all slices of a radar pass in one."""

    track: Track
    satellite: int
    cycle: int

    @property
    def start(self) -> np.datetime64:
        """First moment over the world, UTC."""
        return self.track.crossing(self.satellite)[0] + self.cycle * self._repeat

    @property
    def end(self) -> np.datetime64:
        """Last moment over the world, UTC."""
        return self.track.crossing(self.satellite)[1] + self.cycle * self._repeat

    @property
    def _repeat(self) -> np.timedelta64:
        return self.track.mission.repeat_days * DAY

    @property
    def scene_id(self) -> str:
        """An id in the manner of the mission's products, or its beginning (``place_id``)."""
        return _SCENE_IDS[self.track.mission.name](self)

    def place_id(self, *, longitude: float, latitude: float) -> str:
        """What follows the id where a product is cut into places: a tile, a row and its date."""
        naming = _PLACE_IDS.get(self.track.mission.name)
        return naming(self, longitude, latitude) if naming else ""


def _radar_id(one: Pass) -> str:
    name, _, absolute = one.track.mission.satellites[one.satellite]
    absolute += one.track.orbit + one.cycle * one.track.mission.n_orbits
    return (
        f"{name}_IW_GRDH_1SDV_{_stamp(one.start)}_{_stamp(one.end)}_{absolute:06d}"
        f"_{absolute * 7 // 6:06X}_{(absolute * 40_503) & 0xFFFF:04X}"
    )


def _landsat_id(one: Pass) -> str:
    node_deg = float(one.track.ground(0.0)[0])
    path = round((PATH_1_DEG - node_deg) * one.track.mission.n_orbits / 360)
    name = one.track.mission.satellites[one.satellite][0]
    return f"{name}_{path % one.track.mission.n_orbits + 1:03d}"


def _landsat_row(one: Pass, longitude: float, latitude: float) -> str:
    sine = np.sin(np.deg2rad(latitude)) / np.sin(np.deg2rad(one.track.mission.inclination_deg))
    row = ROW_OF_EQUATOR - round(float(np.rad2deg(np.arcsin(sine))) * N_ROWS / 360)
    return f"{row:03d}_{_stamp(one.end)[:8]}"


def tile(longitude: float, *, latitude: float) -> str:
    """The Military Grid tile of 100 km that holds a point, as in Sentinel-2 names."""
    zone = min(int((longitude + 180) // 6) + 1, 60)
    to_utm = grids.transformer("EPSG:4326", grids.utm_crs(latitude, longitude))
    x, y = to_utm.transform(longitude, latitude)
    band = "CDEFGHJKLMNPQRSTUVWX"[min(int((latitude + 80) // 8), 19)]
    column = ("ABCDEFGH", "JKLMNPQR", "STUVWXYZ")[(zone - 1) % 3][int(x // 100_000) - 1]
    row = "ABCDEFGHJKLMNPQRSTUV"[(int(y // 100_000) + (5 if zone % 2 == 0 else 0)) % 20]
    return f"T{zone}{band}{column}{row}"


_SCENE_IDS = {
    "sentinel1": _radar_id,
    "sentinel2": lambda one: f"{_stamp(one.start)}_{_stamp(one.end)}",
    "landsat8": _landsat_id,
    "landsat9": _landsat_id,
}
_PLACE_IDS = {
    "sentinel2": lambda one, longitude, latitude: "_" + tile(longitude, latitude=latitude),
    "landsat8": _landsat_row,
    "landsat9": _landsat_row,
}


def _wrap(degrees):
    return (np.asarray(degrees) + 180) % 360 - 180


def _stamp(time: np.datetime64) -> str:
    return str(time.astype("datetime64[s]")).replace("-", "").replace(":", "")


def incidence_deg(distance_m, *, height_m: float = SENTINEL1.height_m) -> np.ndarray:
    """Incidence angle on the sphere at a ground distance from the track.

    tan(theta) = (R + H) sin(g) / ((R + H) cos(g) - R), g = distance / R.

    Parameters
    ----------
    distance_m : array, m
    height_m : float, m

    Returns
    -------
    array, degrees

    Examples
    --------
    >>> incidence_deg(np.array([360_000.0, 610_000.0])).round(1)
    array([30.3, 45.6])
    """
    g = np.asarray(distance_m) / EARTH_RADIUS_M
    orbit = EARTH_RADIUS_M + height_m
    return np.rad2deg(np.arctan2(orbit * np.sin(g), orbit * np.cos(g) - EARTH_RADIUS_M))


def covered_fraction(track: Track, distance_m, *, side_m: float) -> np.ndarray:
    """The fraction of square footprints, centred at ``distance_m``, inside the swath, 0-1."""
    near, far = track.mission.near_m, track.mission.far_m
    inside = np.minimum(np.asarray(distance_m) - near, far - np.asarray(distance_m))
    return np.clip(inside / side_m + 0.5, 0, 1)


@lru_cache(maxsize=4)
def all_tracks(mission: Mission) -> tuple[Track, ...]:
    """Every relative orbit whose swath meets the world."""
    latitude, longitude = np.meshgrid(np.linspace(31, 45, 8), np.linspace(-105.5, -90.5, 16))

    def meets(track: Track) -> bool:
        distance = track.distance_m(longitude, latitude)
        return bool((covered_fraction(track, distance, side_m=100_000) > 0).any())

    tracks = (Track(mission, n, d) for d in mission.directions for n in range(mission.n_orbits))
    return tuple(track for track in tracks if meets(track))


@lru_cache(maxsize=4096)
def tracks_over(
    mission: Mission, longitude: float, *, latitude: float, side_m: float = 2560
) -> tuple[Track, ...]:
    """The tracks of a mission that see at least a part of a footprint."""
    return tuple(
        track
        for track in all_tracks(mission)
        if covered_fraction(track, track.distance_m(longitude, latitude), side_m=side_m) > 0
    )


def passes(
    track: Track, *, start, end, satellites: tuple[int, ...] | None = None
) -> Iterator[Pass]:
    """The passes of a track whose end lies in [start, end), in order of satellite and time."""
    satellites = tuple(range(len(track.mission.satellites))) if satellites is None else satellites
    repeat = track.mission.repeat_days * DAY
    start, end = np.datetime64(start, "us"), np.datetime64(end, "us")
    for satellite in satellites:
        _, first = track.crossing(satellite)
        cycle = -int((first - start) // repeat)
        while first + cycle * repeat < end:
            yield Pass(track, satellite, cycle)
            cycle += 1


def pass_at(
    mission: Mission, time: np.datetime64, *, longitude: float, latitude: float, side_m: float
) -> Pass | None:
    """The pass over a footprint that ended within ten minutes of a time, or None."""
    for track in tracks_over(mission, longitude, latitude=latitude, side_m=side_m):
        for satellite in range(len(mission.satellites)):
            _, end = track.crossing(satellite)
            cycle = round(float((time - end) / DAY) / mission.repeat_days)
            overpass = Pass(track, satellite, cycle)
            if abs(overpass.end - time) <= SAME_PASS:
                return overpass
    return None


# When composites and model fields are dated: periods and scene ids of products without orbits.

HOURS_3 = np.timedelta64(3 * 3_600_000_000, "us")
SMAP10KM_EPOCH = np.datetime64("2015-04-02", "D")
SMAP10KM_DAYS, MODIS_DAYS = 3, 4
SMAP_L3_VERSION_6 = "2023-12-04"  # its first day; version 5 ends before it


@dataclass(frozen=True)
class Periods:
    """Scenes in time: ``scene_id`` strings and ``start``, ``end`` datetime64[us], all (time,)."""

    scene_id: np.ndarray
    start: np.ndarray
    end: np.ndarray

    def ending_in(self, start, end) -> "Periods":
        """Those whose end lies in [start, end)."""
        keep = (self.end >= np.datetime64(start, "us")) & (self.end < np.datetime64(end, "us"))
        return Periods(self.scene_id[keep], self.start[keep], self.end[keep])


def _days(start, end) -> np.ndarray:
    return np.arange(np.datetime64(start, "D"), np.datetime64(end, "D") + 1)


def _words(days: np.ndarray, old: str = "-", new: str = "") -> np.ndarray:
    if not len(days):  # numpy cannot tell how wide no words are
        return np.zeros(0, "U10")
    return np.char.replace(days.astype("datetime64[D]").astype(str), old, new)


def smap10km(start, end) -> Periods:
    """Three-day analyses whose end lies in [start, end): [first, first + 3 d).

    Examples
    --------
    >>> smap10km("2019-01-01", "2019-01-06").scene_id.tolist()
    ['SM_SMAP_I_20181230_20190101', 'SM_SMAP_I_20190102_20190104']
    """
    days = _days(np.datetime64(start, "D") - SMAP10KM_DAYS, end)
    first = days[(days - SMAP10KM_EPOCH).astype(int) % SMAP10KM_DAYS == 0]
    last = first + SMAP10KM_DAYS - 1
    names = np.char.add(np.char.add("SM_SMAP_I_", _words(first)), np.char.add("_", _words(last)))
    us = "datetime64[us]"
    return Periods(names, first.astype(us), (last + 1).astype(us)).ending_in(start, end)


def _steps(start, end, *, name: str, hours: float = 3, begins: float = 0, lasts: float = 0):
    """Regular steps of every day whose end lies in [start, end); ``name`` formats their begin.

    Examples
    --------
    >>> gldas("2019-01-01", "2019-01-01T07").scene_id.tolist()
    ['A20190101_0000', 'A20190101_0300', 'A20190101_0600']
    >>> days = gridmet("2019-01-01", "2019-01-02")
    >>> days.scene_id.tolist(), str(days.start[0])
    (['20181231'], '2018-12-31T06:00:00.000000')
    """
    hour = 3_600_000_000 * np.timedelta64(1, "us")
    days = _days(np.datetime64(start, "D") - 2, end).astype("datetime64[us]")
    at = (days[:, None] + (begins + np.arange(0, 24, hours)) * hour).ravel()
    periods = Periods(at, at, at + lasts * hour).ending_in(start, end)
    names = [f"{time:{name}}" for time in periods.start.tolist()]
    return Periods(np.array(names), periods.start, periods.end)


# Instants in [start, end); of hourly fields every third: a year of all would not fit into memory.
gldas = partial(_steps, name="A%Y%m%d_%H%M")
nldas2_noah = partial(_steps, name="NLDAS_NOAH0125_H.A%Y%m%d.%H%M.020")
geos5_lst = partial(_steps, name="GEOS5_LST_%Y%m%d_%H%M")
smap_hydroblocks = partial(_steps, name="SMAP-HB_%Y%m%dT%H%M%S", hours=6)
# Spans that end in [start, end): days of CHIRPS and, from 06:00 UTC, of gridMET; every sixth of
# IMERG's half hours, which are rates: no day is their sum.
chirps = partial(_steps, name="%Y%m%d", hours=24, lasts=24)
gridmet = partial(_steps, name="%Y%m%d", hours=24, begins=6, lasts=24)
imerg = partial(_steps, name="%Y%m%d%H%M%S", lasts=0.5)


def smap_l4(start, end) -> Periods:
    """Means over three hours that end in [start, end), named by their middle.

    Examples
    --------
    >>> smap_l4("2019-01-01", "2019-01-01T07").scene_id.tolist()
    ['20181231_2230', '20190101_0130', '20190101_0430']
    """
    steps = _steps(start, end, name="%Y%m%d_%H", lasts=3)
    middle = [f"{time:%Y%m%d_%H%M}" for time in (steps.start + HOURS_3 // 2).tolist()]
    return Periods(np.array(middle), steps.start, steps.end)


def restarting_days(days: np.ndarray, *, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Those days that begin a composite that restarts with the year, and the days after its last.

    ``days`` are datetime64[D], (day,); a composite has ``length`` of them.
    """
    year = days.astype("datetime64[Y]")
    first = days[(days - year.astype("datetime64[D]")).astype(int) % length == 0]
    next_year = (first.astype("datetime64[Y]") + 1).astype("datetime64[D]")
    return first, np.minimum(first + length, next_year)


def modis(start, end, *, length: int, is_cut: bool = True) -> Periods:
    """MODIS composites that restart with every year and end in [start, end).

    Parameters
    ----------
    start, end : datetime64 or text
    length : int, days
    is_cut : bool
        Whether the year's last composite ends with the year; a vegetation index reaches beyond.

    Examples
    --------
    >>> modis("2018-12-28", "2019-01-06", length=4).scene_id.tolist()
    ['2018_12_27', '2018_12_31', '2019_01_01']
    """
    first, after = restarting_days(_days(np.datetime64(start, "D") - length, end), length=length)
    after = after if is_cut else first + length
    us = "datetime64[us]"
    names = _words(first, new="_")
    return Periods(names, first.astype(us), after.astype(us)).ending_in(start, end)


modis_lai = partial(modis, length=MODIS_DAYS)


def modis_land_cover(start, end) -> Periods:
    """Years that end in [start, end), each mapped from all of its days.

    Examples
    --------
    >>> modis_land_cover("2018-06-01", "2020-06-01").scene_id.tolist()
    ['2018_01_01', '2019_01_01']
    """
    first = np.arange(np.datetime64(start, "Y") - 1, np.datetime64(end, "Y") + 1)
    us = "datetime64[us]"
    periods = Periods(_words(first, new="_"), first.astype(us), (first + 1).astype(us))
    return periods.ending_in(start, end)


def smap_l3(start, end, *, begins: str = "2015-03-31", ends: str = "") -> Periods:
    """Granules of a day, dated 12:00 UTC, of a version that begins and ends on some days.

    Examples
    --------
    >>> smap_l3("2019-01-01", "2019-01-02").scene_id.tolist()
    ['SMAP_L3_SM_P_E_20190101']
    """
    days = _days(start, end)
    days = days[days >= np.datetime64(begins)]
    days = days[days < np.datetime64(ends)] if ends else days
    at = days.astype("datetime64[us]") + np.timedelta64(12 * 3_600_000_000, "us")
    names = np.char.add("SMAP_L3_SM_P_E_", _words(days))
    return Periods(names, at, at).ending_in(start, end)


def smap_overpasses(days: np.ndarray, place: tuple, *, direction: str) -> np.ndarray:
    """Whether SMAP passed over points on some days UTC, bool (point, day).

    Parameters
    ----------
    days : datetime64[D] array (day,)
    place : (longitude, latitude), arrays (point,), degrees
    direction : "descending" (6 h local time) or "ascending" (18 h)
    """
    number = (days - EPOCH.astype("datetime64[D]")).astype(int) % SMAP.repeat_days
    passed = np.zeros((len(place[0]), len(days)), dtype=bool)
    for track in all_tracks(SMAP):
        if track.direction == direction:
            near = np.abs(track.distance_m(*place)) <= SMAP.far_m
            middle = float(track.ground(np.mean(DOMAIN_LATITUDES))[1])
            passed |= near[:, None] & (number == int(middle // 1) % SMAP.repeat_days)
    for first, last in SMAP_OUTAGES:
        passed[:, (days >= np.datetime64(first)) & (days < np.datetime64(last))] = False
    return passed


CALENDARS: dict[str, Callable[..., Periods]] = {
    "smap": smap10km,
    "gldas": gldas,
    "nldas2_noah": nldas2_noah,
    "smap_l4": smap_l4,
    "geos5_lst": geos5_lst,
    "chirps": chirps,
    "gridmet": gridmet,
    "imerg": imerg,
    "smap_l3_005": partial(smap_l3, ends=SMAP_L3_VERSION_6),
    "smap_l3_006": partial(smap_l3, begins=SMAP_L3_VERSION_6),
    "smap_l3_ancillary": smap_l3,
    "smap_hydroblocks": smap_hydroblocks,
    "modis_lai": modis_lai,
    "modis_ndvi_500": partial(modis, length=16, is_cut=False),
    "modis_ndvi_250": partial(modis, length=16, is_cut=False),
    "modis_lst": partial(modis, length=8),
    "modis_lst_daily": partial(modis, length=1),
    "modis_land_cover": modis_land_cover,
    "modis_et": partial(modis, length=8),
}

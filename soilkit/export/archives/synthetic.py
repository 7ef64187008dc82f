"""The synthetic world as an archive: scenes, chips and series without files or network."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from soilkit import grids, sources
from soilkit.contracts import Chip, ChipRequest, Failure
from soilkit.errors import ContractError, UnknownNameError
from soilkit.export.archives.scenes import places as station_places
from soilkit.world import World, schedule, sensors
from soilkit.world.sensors import coarse, instruments, optics

SKY_PX = 24  # points a side at which a footprint's clouds are counted
Period = tuple[Any, Any]


def orbiting(
    world: Any,
    source: str,
    *,
    places: pd.DataFrame,
    period: Period,
    footprint_m: float,
    revisit_days: int | None,
) -> pd.DataFrame:
    """Scenes of a mission on orbits; one radar pass is one scene whatever its slices.

    Parameters
    ----------
    world : World
    source : "sentinel1" or "sentinel2"
    places : DataFrame with ``station_id``, ``longitude``, ``latitude``
    period : (start, end), UTC, half-open, of the scenes' ends
    footprint_m : float, m
    revisit_days : int or None, of Sentinel-1 (see ``SyntheticArchive``)
    """
    mission = MISSIONS[source]
    thin = revisit_days if source == "sentinel1" else None
    parts = []
    for place in places.itertuples(index=False):
        tracks = schedule.tracks_over(
            mission, float(place.longitude), latitude=float(place.latitude), side_m=footprint_m
        )
        kept = _thinned(tracks, place, revisit_days=thin, footprint_m=footprint_m)
        rows = _passes(kept, place, (period, footprint_m, thin))
        if source == "sentinel2" and len(rows):
            rows["cloud_fraction"] = _cloud_fraction(world, place, rows["end"], footprint_m)
            rows["scene_id"] += "_" + tile(place.longitude, latitude=place.latitude)
        parts.append(rows)
    return _scenes(source, pd.concat(parts, ignore_index=True) if parts else _empty())


def _thinned(tracks, place, *, revisit_days: int | None, footprint_m: float):
    """All tracks, or the one nearest to the nominal incidence that covers the footprint best."""
    if revisit_days is None or not tracks:
        return tracks

    def off(track) -> tuple[float, float]:
        distance = track.distance_m(place.longitude, place.latitude)
        covered = float(schedule.covered_fraction(track, distance, side_m=footprint_m))
        angle = float(schedule.incidence_deg(distance))
        return -covered, abs(angle - instruments.NOMINAL_INCIDENCE_DEG)

    return (min(tracks, key=off),)


def _passes(tracks, place, options) -> pd.DataFrame:
    (start, end), footprint_m, revisit_days = options
    satellites = (0, 1) if revisit_days in (None, 6) else (0,)
    rows = []
    for track in tracks:
        distance = track.distance_m(place.longitude, place.latitude)
        covered = float(schedule.covered_fraction(track, distance, side_m=footprint_m))
        for one in schedule.passes(track, start=start, end=end, satellites=satellites):
            if revisit_days in (None, 6) or one.cycle % (revisit_days // 12) == 0:
                rows.append((one.scene_id, one.start, one.end, track.direction, covered))
    table = pd.DataFrame(rows, columns=["scene_id", "start", "end", "orbit", "valid_fraction"])
    table = table.sort_values(["end", "scene_id"], ignore_index=True)
    return table.assign(station_id=place.station_id, cloud_fraction=np.nan)


def _empty() -> pd.DataFrame:
    columns = [
        "scene_id",
        "start",
        "end",
        "orbit",
        "valid_fraction",
        "station_id",
        "cloud_fraction",
    ]
    return pd.DataFrame(columns=columns)


def _cloud_fraction(world: Any, place: Any, times: pd.Series, footprint_m: float) -> np.ndarray:
    """Fraction of the footprint under cloud or cirrus, as QA60 of the chip would flag it."""
    grid = grids.chip_grid(
        float(place.latitude),
        float(place.longitude),
        size_px=SKY_PX,
        pixel_size_m=footprint_m / SKY_PX,
    )
    days = times.to_numpy().astype("datetime64[D]")
    rain = sensors.rain_at(world, days, longitude=place.longitude, latitude=place.latitude)
    return optics.sky(grid, days, seed=world.seed, rain_mm=rain).fraction


def tile(longitude: float, *, latitude: float) -> str:
    """The Military Grid tile of 100 km that holds a point, as in Sentinel-2 names.

    Examples
    --------
    >>> tile(-98.8, latitude=30.3)
    'T14RNU'
    """
    zone = min(int((longitude + 180) // 6) + 1, 60)
    to_utm = grids.transformer("EPSG:4326", grids.utm_crs(latitude, longitude))
    x, y = to_utm.transform(longitude, latitude)
    band = "CDEFGHJKLMNPQRSTUVWX"[min(int((latitude + 80) // 8), 19)]
    column = ("ABCDEFGH", "JKLMNPQR", "STUVWXYZ")[(zone - 1) % 3][int(x // 100_000) - 1]
    row = "ABCDEFGHJKLMNPQRSTUV"[(int(y // 100_000) + (5 if zone % 2 == 0 else 0)) % 20]
    return f"T{zone}{band}{column}{row}"


def periodic(source: str, *, places: pd.DataFrame, period: Period) -> pd.DataFrame:
    """Scenes of a product with a calendar: every period at every station."""
    times = schedule.CALENDARS[source](*period)
    n, m = len(places), len(times.end)
    table = pd.DataFrame(
        {
            "scene_id": _repeated(times.scene_id, np.tile(np.arange(m), n)),
            "station_id": _repeated(places.station_id, np.repeat(np.arange(n), m)),
            "start": np.tile(times.start, n),
            "end": np.tile(times.end, n),
            "cloud_fraction": np.nan,
            "orbit": _repeated([""], np.zeros(n * m, dtype=int)),
            "valid_fraction": 1.0,
        }
    )
    return _scenes(source, table)


def static(source: str, *, places: pd.DataFrame) -> pd.DataFrame:
    """One scene a station, called "static", without times."""
    nat = np.full(len(places), np.datetime64("NaT"), dtype="datetime64[us]")
    table = pd.DataFrame(
        {
            "scene_id": "static",
            "station_id": places.station_id,
            "start": nat,
            "end": nat,
            "cloud_fraction": np.nan,
            "orbit": "",
            "valid_fraction": 1.0,
        }
    )
    return _scenes(source, table)


def long_series(
    band: str, found: coarse.Product, *, places: pd.DataFrame, period: Period
) -> pd.DataFrame:
    """Rows (station, scene) with a value, from a product whose cells follow the places."""
    times = found.periods
    keep = (times.end >= period[0]) & (times.end < period[1])
    values = found.values[:, keep]
    station, scene = np.nonzero(np.isfinite(values))
    return pd.DataFrame(
        {
            "station_id": _repeated(places.station_id, station),
            "scene_id": _repeated(times.scene_id[keep], scene),
            "start": times.start[keep][scene],
            "end": times.end[keep][scene],
            band: values[station, scene],
        }
    )


def _repeated(names: Any, codes: np.ndarray) -> pd.Categorical:
    return pd.Categorical.from_codes(codes, categories=pd.Index(np.asarray(names), dtype="str"))


def _scenes(source: str, table: pd.DataFrame) -> pd.DataFrame:
    """Columns of the contract in their order and kinds."""
    order = ["source", "scene_id", "station_id", "start", "end"]
    order += ["cloud_fraction", "orbit", "valid_fraction"]
    kinds = dict.fromkeys(("source", "scene_id", "station_id", "orbit"), "category")
    kinds |= {"start": "datetime64[us]", "end": "datetime64[us]"}
    kinds |= {"cloud_fraction": "float64", "valid_fraction": "float64"}
    return table.assign(source=source)[order].astype(kinds)


# The synthetic world as an archive: scenes, chips and series without files or network.

MISSIONS = {"sentinel1": schedule.SENTINEL1, "sentinel2": schedule.SENTINEL2}


class SyntheticArchive:
    """What the synthetic world's satellites and models would have delivered.

    Parameters
    ----------
    seed, n_stations, start, end
        Of the ``World``, unless ``world`` is given.
    world : World, optional
    revisit_days : 6, 12 or a multiple of 12, optional
        Keep one Sentinel-1 track a station, the one nearest to 38 degrees of incidence, with both
        satellites (6) or one, every 12 or so many days: a few dozen anchors a year. All tracks of
        both satellites by default.
    footprint_m : float, m
        Side of the square for which ``cloud_fraction`` and ``valid_fraction`` are told.

    Examples
    --------
    >>> archive = SyntheticArchive(seed=0, n_stations=2, revisit_days=12)
    >>> archive.name
    'synthetic'
    """

    name = "synthetic"

    def __init__(
        self,
        *,
        world: World | None = None,
        revisit_days: int | None = None,
        footprint_m: float = 2560.0,
        **world_options: Any,
    ) -> None:
        if revisit_days not in (None, 6) and (revisit_days < 12 or revisit_days % 12):
            raise ContractError(
                f"revisit_days is 6 or a multiple of 12, the orbit's repeat; found {revisit_days}."
            )
        if world is not None and world_options:
            raise ContractError(
                f"Give a world or its options, not both; found {', '.join(world_options)}."
            )
        self.world = World(**world_options) if world is None else world
        self.revisit_days = revisit_days
        self.footprint_m = float(footprint_m)
        self.version = _version(self.world)

    def scenes(self, stations: pd.DataFrame, source: str, start: Any, end: Any) -> pd.DataFrame:
        """Scenes of one source over the stations whose end lies in [start, end) (contract SCENES).

        Raises
        ------
        UnknownNameError
            For a source that the synthetic world does not render.
        """
        places = station_places(stations)
        _known(source)
        if source in MISSIONS:
            table = orbiting(
                self.world,
                source,
                places=places,
                period=self._inside(start, end),
                footprint_m=self.footprint_m,
                revisit_days=self.revisit_days,
            )
        elif source in coarse.BANDS:
            table = periodic(source, places=places, period=self._inside(start, end))
        else:
            table = static(source, places=places)
        return table

    def chips(
        self, requests: Iterable[ChipRequest]
    ) -> Iterator[tuple[ChipRequest, Chip | Failure]]:
        """Yield every request with its chip or its failure, station by station.

        Requests of one station and grid follow each other, so that what stays is computed once.
        """
        ordered = sorted(requests, key=lambda r: (r.station_id, repr(r.grid), str(r.time)))
        for request in ordered:
            yield request, self._chip(request)

    def _chip(self, request: ChipRequest) -> Chip | Failure:
        reason = self._refusal(request)
        if reason:
            return Failure(reason, permanent=True)
        names = [band.name for band in sources.get(request.source).bands]
        image = self.world.render(request.source, self._moment(request), request.grid)
        values = image[[names.index(band) for band in request.bands]]  # (band, row, col)
        if not np.isfinite(values).any():
            return Failure(f"{request.scene_id} holds nothing over {request.station_id}.")
        return Chip(np.ascontiguousarray(values), tuple(request.bands), request.grid)

    def _moment(self, request: ChipRequest) -> np.datetime64:
        return self.world.start if np.isnat(request.time) else request.time.astype("datetime64[us]")

    def _refusal(self, request: ChipRequest) -> str:
        """Why a request cannot be met, or nothing."""
        if request.source not in sensors.SOURCES:
            return f"the synthetic world does not render {request.source!r}"
        if request.version and request.version != self.version:
            return f"asked of {request.version}, this is {self.version}"
        bands = {band.name for band in sources.get(request.source).bands}
        if not bands.issuperset(request.bands):
            return f"{request.source} has no band {', '.join(set(request.bands) - bands)}"
        if sources.get(request.source).is_static:
            return ""
        if np.isnat(request.time):
            return f"a scene of {request.source} needs a time"
        if request.source in MISSIONS:
            return self._no_pass(request)
        return ""

    def _no_pass(self, request: ChipRequest) -> str:
        longitude, latitude = sensors.middle(request.grid)
        grid = request.grid
        found = schedule.pass_at(
            MISSIONS[request.source],
            request.time,
            longitude=longitude,
            latitude=latitude,
            side_m=max(grid.height, grid.width) * grid.pixel_size_m,
        )
        if found is None or not request.scene_id.startswith(found.scene_id):
            return f"no scene {request.scene_id} over {request.station_id} at {request.time}"
        return ""

    def series(self, stations: pd.DataFrame, source: str, start: Any, end: Any) -> pd.DataFrame:
        """A coarse product at the stations: one row a station and scene with a value.

        Parameters
        ----------
        stations : stations table
        source : "smap" [mm], "gldas" [kg m-2], "modis_lai" [LAI x 10] or "smap_l3" [m3 m-3]
        start, end : datetime64 or text, UTC; scenes whose end lies in [start, end)

        Returns
        -------
        DataFrame
            ``station_id``, ``scene_id``, ``start``, ``end`` and the product's band, stored values.

        Raises
        ------
        UnknownNameError
            For a source without a series.
        """
        if source not in coarse.BANDS:
            raise UnknownNameError(
                f"The synthetic archive has no series of {source!r}; it has "
                f"{', '.join(coarse.BANDS)}. Ask chips for images."
            )
        places = station_places(stations)
        rows, cols = coarse.cells(source, places.longitude, latitude=places.latitude)
        found = coarse.product(self.world, source, rows=rows, cols=cols)
        return long_series(
            coarse.BANDS[source], found, places=places, period=self._inside(start, end)
        )

    def _inside(self, start: Any, end: Any) -> tuple[np.datetime64, np.datetime64]:
        """A period cut to the world's own."""
        start, end = np.datetime64(start, "us"), np.datetime64(end, "us")
        return max(start, self.world.start), min(end, self.world.end)


def _version(world: World) -> str:
    """The world's own version, the hash of the sensors' constants and the period."""
    first, last = (str(t.astype("datetime64[D]")) for t in (world.start, world.end))
    return f"{world.version}-{instruments.HASH[:12]}-{first}-{last}"


def _known(source: str) -> None:
    if source not in sensors.SOURCES:
        raise UnknownNameError(
            f"The synthetic archive has no {source!r}; it has {', '.join(sensors.SOURCES)}."
        )

"""The synthetic world as an archive: scenes, chips and series without files or network."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from soilkit import grids, sources
from soilkit.constants import CHIP_SIDE_M
from soilkit.contracts import Chip, ChipRequest, Failure
from soilkit.errors import ContractError, UnknownNameError
from soilkit.export.archives import scenes as tables
from soilkit.world import World, schedule, sensors
from soilkit.world.sensors import coarse, composites, instruments, optics

SKY_PX = 24  # points a side at which a footprint's clouds are counted
PASS_COLUMNS = ["scene_id", "start", "end", "orbit", "valid_fraction"]
SERIES = tuple(dict.fromkeys((*coarse.MODELS, *composites.MODIS)))
Period = tuple[np.datetime64, np.datetime64]


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
    """

    name = "synthetic"

    def __init__(
        self, *, world: World | None = None, revisit_days: int | None = None, **world_options: Any
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
        # the world's own version (seed and hash of all constants) and its period
        first, last = (str(t.astype("datetime64[D]")) for t in (self.world.start, self.world.end))
        self.version = f"{self.world.version}-{first}-{last}"

    def scenes(self, stations: pd.DataFrame, source: str, start: Any, end: Any) -> pd.DataFrame:
        """Scenes of one source over the stations whose end lies in [start, end) (contract SCENES).

        Raises ``UnknownNameError`` for a source that the synthetic world does not render.
        """
        places, period = tables.places_of(stations), self._inside(start, end)
        if source not in sensors.SOURCES:
            raise UnknownNameError(
                f"The synthetic archive has no {source!r}; it has {', '.join(sensors.SOURCES)}."
            )
        if source in schedule.MISSIONS:
            parts = [self._passes(source, place, period) for place in places.itertuples()]
            return tables.scenes_table(source, pd.concat(parts, ignore_index=True) if parts else [])
        images = tables.static_image()
        if source in schedule.CALENDARS:
            images = _images(schedule.CALENDARS[source](*period))
        return tables.scenes_everywhere(source, images, places=places, valid_fraction=1.0)

    def _passes(self, source: str, place: Any, period: Period) -> pd.DataFrame:
        """A mission's scenes over one place; one radar pass is one scene whatever its slices."""
        every = self.revisit_days if source == "sentinel1" else None
        at = {"longitude": float(place.longitude), "latitude": float(place.latitude)}
        tracks = _tracks(source, **at)[: 1 if every else None]
        satellites = None if every in (None, 6) else (0,)
        rows = [
            (one.scene_id + one.place_id(**at), one.start, one.end, track.direction, cover)
            for track, cover in tracks
            for one in schedule.passes(track, start=period[0], end=period[1], satellites=satellites)
            if every in (None, 6) or one.cycle % (every // 12) == 0
        ]
        table = pd.DataFrame(rows, columns=PASS_COLUMNS)
        table = table.sort_values(["end", "scene_id"], ignore_index=True)
        table = table.assign(station_id=place.station_id, cloud_fraction=np.nan)
        if source in optics.FLAG_REACH and len(table):
            sky = self._sky(table["end"], **at)
            table["cloud_fraction"] = sky.fraction(optics.FLAG_REACH[source])
        return table

    def _sky(self, times: pd.Series, *, longitude: float, latitude: float) -> optics.Sky:
        """Clouds over the footprint, as the flags of the chip would tell."""
        step_m = CHIP_SIDE_M / SKY_PX
        grid = grids.chip_grid(latitude, longitude, size_px=SKY_PX, pixel_size_m=step_m)
        days = times.to_numpy().astype("datetime64[D]")
        rain = sensors.rain_at(self.world, days, longitude=longitude, latitude=latitude)
        return optics.sky(grid, days, seed=self.world.seed, rain_mm=rain)

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
        if request.source not in sensors.SOURCES:
            return Failure(f"the synthetic world does not render {request.source!r}")
        reason = tables.refusal(request, self.version)
        if not reason and request.source in schedule.MISSIONS:
            reason = _no_pass(request)
        if reason:
            return Failure(reason)
        names = [band.name for band in sources.get(request.source).bands]
        time = self.world.start if np.isnat(request.time) else request.time
        image = self.world.render(request.source, time.astype("datetime64[us]"), request.grid)
        return tables.chip_of(request, image[[names.index(band) for band in request.bands]])

    def series(self, stations: pd.DataFrame, source: str, start: Any, end: Any) -> pd.DataFrame:
        """A coarse or MODIS product at the stations: one row a station and scene with a value.

        ``station_id``, ``scene_id``, ``start``, ``end`` and the product's bands, stored values.
        Raises ``UnknownNameError`` for a source without a series.
        """
        if source not in SERIES:
            raise UnknownNameError(
                f"The synthetic archive has no series of {source!r}; it has "
                f"{', '.join(SERIES)}. Ask chips for images."
            )
        places, (first, last) = tables.places_of(stations), self._inside(start, end)
        at = {"latitude": places.latitude.to_numpy()}
        longitude = places.longitude.to_numpy()
        if source in coarse.MODELS:
            rows, cols = coarse.cells(source, longitude, **at)
            product = coarse.product(self.world, source, rows=rows, cols=cols)
        else:
            period = first, last
            product = composites.series(self.world, source, longitude, period=period, **at)
        inside = (product.periods.end >= first) & (product.periods.end < last)
        images, bands = _images(product.periods)[inside], sources.get(source).bands
        names = [band.name for band in bands]
        return tables.series_table(images, product.values[:, inside], places=places, bands=names)

    def _inside(self, start: Any, end: Any) -> Period:
        """A period cut to the world's own."""
        start, end = np.datetime64(start, "us"), np.datetime64(end, "us")
        return max(start, self.world.start), min(end, self.world.end)


def _tracks(source: str, *, longitude: float, latitude: float) -> list[tuple[Any, float]]:
    """Tracks with their cover of the footprint.

    The first covers it best, and of those it is nearest to the nominal incidence.
    """
    tracks = []
    for track in schedule.tracks_over(
        schedule.MISSIONS[source], longitude, latitude=latitude, side_m=CHIP_SIDE_M
    ):
        distance_m = track.distance_m(longitude, latitude)
        cover = float(schedule.covered_fraction(track, distance_m, side_m=CHIP_SIDE_M))
        off = abs(float(schedule.incidence_deg(distance_m)) - instruments.NOMINAL_INCIDENCE_DEG)
        tracks.append((-cover, off, track))
    return [(track, -cover) for cover, _, track in sorted(tracks, key=lambda one: one[:2])]


def _no_pass(request: ChipRequest) -> str:
    """Why there is no pass for a request, or nothing."""
    grid, (longitude, latitude) = request.grid, sensors.middle(request.grid)
    side_m = max(grid.height, grid.width) * grid.pixel_size_m
    at = {"longitude": longitude, "latitude": latitude, "side_m": side_m}
    one = schedule.pass_at(schedule.MISSIONS[request.source], request.time, **at)
    if one is None or not request.scene_id.startswith(one.scene_id):
        return f"no scene {request.scene_id} over {request.station_id} at {request.time}"
    return ""


def _images(periods: Any) -> pd.DataFrame:
    """A calendar's scenes."""
    names = {"scene_id": periods.scene_id, "start": periods.start, "end": periods.end}
    return pd.DataFrame(names)

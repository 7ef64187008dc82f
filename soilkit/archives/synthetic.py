"""The synthetic world as an archive: scenes, chips and series without files or network."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from soilkit import sources
from soilkit.archives import synthetic_scenes
from soilkit.archives.places import places as station_places
from soilkit.contracts import Chip, ChipRequest, Failure
from soilkit.errors import ContractError, UnknownNameError
from soilkit.world import World, schedule, sensors
from soilkit.world.sensors import coarse, instruments

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
            table = synthetic_scenes.orbiting(
                self.world,
                source,
                places=places,
                period=self._inside(start, end),
                footprint_m=self.footprint_m,
                revisit_days=self.revisit_days,
            )
        elif source in coarse.BANDS:
            table = synthetic_scenes.periodic(
                source, places=places, period=self._inside(start, end)
            )
        else:
            table = synthetic_scenes.static(source, places=places)
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
        return synthetic_scenes.long_series(
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

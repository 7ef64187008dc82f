"""Any STAC catalogue as an archive: scenes, chips and series from its items."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from soilkit import grids, sources
from soilkit.constants import CHIP_SIDE_M
from soilkit.contracts import Chip, ChipRequest, Failure
from soilkit.errors import CatalogueError, SceneNotFoundError, StoreError, UnknownNameError
from soilkit.export.archives.scenes import chip_of, places_of, refusal, scenes_table
from soilkit.export.archives.stac import item_search
from soilkit.export.archives.stac.assets import Reader, serve
from soilkit.export.archives.stac.item_search import Item, Period, Record, Scene, grid_points
from soilkit.sources import Source

log = logging.getLogger(__name__)
POINTS_A_SIDE = 32  # a covered fraction is stated in steps of a thousandth
PASS_LENGTH = np.timedelta64(10 * 60, "s")  # how far a scene may reach beyond one of its slices
SAME_MOMENT = np.timedelta64(1, "s")  # a time that went through ages in hours comes back rounded


class StacArchive:
    """Scenes, chips and series from a STAC catalogue: files on disk, or an API.

    Collections and assets are found by their usual names (see ``served``); name them yourself where
    that fails. Chips are warped bilinearly, classes and flags by nearest pixel, coarse products
    sampled; backscatter is averaged in linear power. Where items state a scale and an offset, or
    their files do, values are converted to the stored units of ``soilkit.sources``; otherwise they
    are taken as stored. Sentinel-2 of processing baseline 04.00 and later without a stated offset
    is lowered by 1,000, as harmonised collections are.

    Parameters
    ----------
    catalogue : path of a ``catalog.json`` or of its folder, or an API's address
    collections : {source: collection id, or several}, optional
    assets : {source: {band: asset key, or (asset key, band number from 1)}}, optional
    units : {source: "power" or "dB"}, optional
        How backscatter is stored; dB unless the collection or the asset is known for another.
    footprint_m : side, m, of the square around a station that scenes must touch, and whose covered
        part is ``valid_fraction``. It is unknown where a scene's geometry is a mere bounding box.
    sign : turns an asset's address into one that may be opened, such as ``planetary_computer.sign``
    headers : sent with every request to an API
    timeout_s : float, s, for one request to an API
    cache_dir : folder where an API's items are kept, so that a resumed build need not ask again
    network : whether a catalogue on disk may have links to the network; else such are left out.
        Assets may lie there in any case.
    workers : int, files read at once

    Raises
    ------
    CatalogueError
        When the catalogue is absent, broken or does not answer.
    UnknownNameError
        When an option names a source, band or collection that does not exist.
    """

    name = "stac"

    def __init__(
        self,
        catalogue: str | os.PathLike[str],
        *,
        collections: Mapping[str, str | Sequence[str]] | None = None,
        assets: Mapping[str, Mapping[str, Any]] | None = None,
        units: Mapping[str, str] | None = None,
        footprint_m: float = CHIP_SIDE_M,
        sign: Callable[[str], str] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
        cache_dir: str | os.PathLike[str] | None = None,
        network: bool = False,
        workers: int = 4,
    ) -> None:
        self._catalogue: item_search.Service | item_search.StaticCatalogue
        if str(catalogue).startswith(("http://", "https://")):
            folder = Path(cache_dir) / item_search.digest(str(catalogue)) if cache_dir else None
            self._catalogue = item_search.Service(
                str(catalogue), headers=headers, timeout_s=timeout_s, folder=folder
            )
        else:
            self._catalogue = item_search.StaticCatalogue(catalogue, network=network)
        named = {"collections": collections, "assets": assets, "units": units}
        given: Any = {name: option or {} for name, option in named.items()}
        self._served = serve(list(self._catalogue.collections), **given)
        self.footprint_m, self.sign, self.workers = float(footprint_m), sign, int(workers)
        self._records: dict[tuple[str, str, str], Record | str] = {}  # or why an item is none
        self._doubts: dict[str, str] = {}
        # of what decides the data: items, times and options
        hashed = item_search.digest([given, self._catalogue.fingerprint()])
        self.version = f"stac-{self._catalogue.catalogue_id}-{hashed}"

    @property
    def served(self) -> pd.DataFrame:
        """One row a source: its collections, how they differ from the paper's, and doubts.

        Doubts of values arise as items are read: ask again after chips were made.
        """
        rows = []
        for name, one in self._served.items():
            note = "; ".join(filter(None, (one.note, self._doubts.get(name))))
            rows.append((name, ", ".join(one.collections), note))
        return pd.DataFrame(rows, columns=["source", "collections", "note"])

    @property
    def left_out(self) -> pd.DataFrame:
        """Items that were met and could not be used: ``source``, ``item_id``, ``reason``.

        Of what could not be read at all the source is empty, and the id the address.
        """
        rows = [("", name, why) for name, why in self._catalogue.refused.items()]
        rows += [(s, i, why) for (s, _, i), why in self._records.items() if isinstance(why, str)]
        return pd.DataFrame(rows, columns=["source", "item_id", "reason"])

    def scenes(self, stations: pd.DataFrame, source: str, start: Any, end: Any) -> pd.DataFrame:
        """Scenes of one source over the stations whose end lies in [start, end) (contract SCENES).

        Raises ``UnknownNameError`` for a source that the catalogue does not serve, and
        ``CatalogueError`` when a service does not answer.
        """
        scenes = self._over(places_of(stations), self._known(source), period=(start, end))
        rows = [{"station_id": station, **vars(scene)} for station, scene in scenes]
        return scenes_table(source, rows)

    def _over(
        self, places: pd.DataFrame, source: Source, *, period: tuple[Any, Any]
    ) -> list[tuple[str, Scene]]:
        """(station_id, scene) of all that end in the period, by place and time."""
        start, end = np.datetime64(period[0], "us"), np.datetime64(period[1], "us")
        wider: Any = start - PASS_LENGTH, end + PASS_LENGTH
        pixel_m = self.footprint_m / POINTS_A_SIDE

        def look(place: Any) -> list[tuple[str, Scene]]:
            at = float(place.latitude), float(place.longitude)
            points = grid_points(grids.chip_grid(*at, size_px=POINTS_A_SIDE, pixel_size_m=pixel_m))
            near = self._search(source, points, None if source.is_static else wider)
            near = [r for r in near if np.isnat(r.end) or wider[0] <= r.end < wider[1]]
            scenes = item_search.scenes_of(near, source, points=points)
            inside = [s for s in scenes if np.isnat(s.end) or start <= s.end < end]
            inside.sort(key=lambda s: (s.end, s.scene_id))
            return [(place.station_id, scene) for scene in inside]

        with ThreadPoolExecutor(self.workers) as pool:
            rows = [row for some in pool.map(look, places.itertuples(index=False)) for row in some]
        reasons = self.left_out.query("source == @source.name").reason.tolist()
        if reasons:
            log.warning("%s: %d items left out: %s ...", source.name, len(reasons), reasons[0])
        return rows

    def _search(self, source: Source, points: np.ndarray, period: Period | None) -> list[Record]:
        if period is not None and source.dated_by != "instant":
            # a composite is found by its own date, which may lie as far back as it is long
            period = period[0] - 2 * sources.duration(source.cadence), period[1]
        names = self._served[source.name].collections
        items = self._catalogue.search(names, box=item_search.box_of(points), period=period)
        return self._usable(items, source)

    def _usable(self, items: Iterable[Item], source: Source) -> list[Record]:
        records = []
        for item in items:
            key = source.name, item["collection"], item["id"]
            if key not in self._records:
                try:
                    self._records[key] = item_search.record_of(item, source)
                except Exception as error:  # words of another kind than STAC's cost one item
                    self._records[key] = item_search.explained(error)
            records.append(self._records[key])
        return [one for one in records if isinstance(one, Record)]

    def series(self, stations: pd.DataFrame, source: str, start: Any, end: Any) -> pd.DataFrame:
        """A coarse product at the stations: ``station_id``, ``scene_id``, ``start``, ``end`` and
        one column a band, stored values of the pixel that holds the station.

        Of several tiles the first that knows the pixel is taken; an item that cannot be read is
        left out by name. Raises ``UnknownNameError`` for a source without a series, or that the
        catalogue does not serve, and ``CatalogueError`` when a service does not answer.
        """
        row, places = self._known(source), places_of(stations)
        if row.is_static or row.resolution == "high":
            raise UnknownNameError(f"The catalogue has no series of {source!r}: ask for its chips.")
        scenes = self._over(places, row, period=(start, end))
        values = self._sampled(scenes, places, row)
        bands, rows = [band.name for band in row.bands], []
        for station, scene in scenes:
            tiles = [values[r, station] for r in scene.records if (r, station) in values]
            known = next((tile for tile in tiles if np.isfinite(tile).any()), None)
            if known is not None:
                rows.append((station, scene.scene_id, scene.start, scene.end, *known))
        kinds = dict.fromkeys(("station_id", "scene_id"), "category")
        kinds |= dict.fromkeys(("start", "end"), "datetime64[us]")
        kinds |= dict.fromkeys(bands, "float32")
        return pd.DataFrame(rows, columns=list(kinds)).astype(kinds)

    def _sampled(
        self, scenes: list[tuple[str, Scene]], places: pd.DataFrame, row: Source
    ) -> dict[tuple[Record, str], np.ndarray]:
        """Band values by record and station, each record read once."""
        wanted: dict[Record, list[str]] = {}
        for station, scene in scenes:
            for record in scene.records:
                wanted.setdefault(record, []).append(station)
        lonlat = places.set_index("station_id")[["longitude", "latitude"]]
        reader = self._reader(row.name)

        def sample(record: Record) -> np.ndarray | None:
            try:
                return reader.at_points(record, lonlat.loc[wanted[record]].to_numpy(float))
            except (CatalogueError, SceneNotFoundError, StoreError) as error:
                self._records[row.name, record.item["collection"], record.item_id] = str(error)
                log.warning("%s: item %s left out: %s", row.name, record.item_id, error)
                return None

        with ThreadPoolExecutor(self.workers) as pool:
            cubes = zip(wanted.items(), pool.map(sample, wanted), strict=True)
            return {
                (record, station): values
                for (record, stations), cube in cubes
                if cube is not None
                for station, values in zip(stations, cube.T, strict=True)  # (station, band)
            }

    def chips(
        self, requests: Iterable[ChipRequest]
    ) -> Iterator[tuple[ChipRequest, Chip | Failure]]:
        """Yield every request with its chip or its failure, as files come in."""
        asked = list(requests)
        lost = self._prepared(asked)
        for request in (r for r in asked if r.source in lost):
            yield request, Failure(lost[request.source], permanent=False)
        waiting = (r for r in asked if r.source not in lost)
        pool = ThreadPoolExecutor(self.workers)
        try:
            running = {pool.submit(self._answer, r) for r in islice(waiting, 2 * self.workers)}
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                running |= {pool.submit(self._answer, r) for r in islice(waiting, len(done))}
                yield from (one.result() for one in done)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _prepared(self, asked: list[ChipRequest]) -> dict[str, str]:
        """Fetch the items of many scenes together; what went wrong, by source."""
        errors = {}
        for name in dict.fromkeys(r.source for r in asked if r.source in self._served):
            scenes = dict.fromkeys(r.scene_id for r in asked if r.source == name)
            ids = dict.fromkeys(i for scene in scenes for i in item_search.item_ids(scene))
            try:
                if not sources.get(name).is_static:
                    self._catalogue.fetch(self._served[name].collections, list(ids))
            except (CatalogueError, StoreError) as error:
                errors[name] = str(error)
        return errors

    def _answer(self, request: ChipRequest) -> tuple[ChipRequest, Chip | Failure]:
        reason = f"the catalogue does not serve {request.source!r}"
        if request.source in self._served:
            reason = refusal(request, self.version)
        try:
            return request, Failure(reason) if reason else self._chip(request)
        except (CatalogueError, StoreError) as error:  # a file or a network may come back
            return request, Failure(str(error), permanent=False)
        except SceneNotFoundError as error:
            return request, Failure(str(error))

    def _chip(self, request: ChipRequest) -> Chip | Failure:
        records = self._records_of(request)
        end = max((r.end for r in records), default=np.datetime64("NaT", "us"))
        if not records or abs(end - request.time) > SAME_MOMENT:  # static: NaT compares as false
            return Failure(
                f"no scene {request.scene_id} over {request.station_id} at {request.time}"
            )
        return chip_of(request, self._reader(request.source).on_grid(records, request))

    def _records_of(self, request: ChipRequest) -> list[Record]:
        """The items of a request's scene in their order; none where one of them does not exist."""
        source = sources.get(request.source)
        if source.is_static:
            near = self._search(source, grid_points(request.grid), None)
            return sorted(near, key=lambda r: r.item_id)
        ids = item_search.item_ids(request.scene_id)
        items = self._catalogue.fetch(self._served[source.name].collections, ids)
        usable = self._usable(items, source)
        return usable if len(usable) == len(ids) else []

    def _reader(self, source: str) -> Reader:
        of_collections = self._catalogue.collections.items()
        defaults = {name: one.get("item_assets") or {} for name, one in of_collections}
        return Reader(self._served[source], defaults, self.sign, self._doubts)

    def _known(self, source: str) -> Source:
        if source not in self._served:
            raise UnknownNameError(
                f"The STAC catalogue {self._catalogue.catalogue_id!r} does not serve {source!r}. "
                f"It serves {', '.join(self._served) or 'nothing that soilkit knows'}; its "
                f"collections are {', '.join(self._catalogue.collections) or 'none'}. Name the "
                f"right one: collections={{{source!r}: ...}}."
            )
        return sources.get(source)

"""Any STAC catalogue as an archive: scenes, chips and series from its items."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from soilkit import sources
from soilkit.constants import CHIP_SIDE_M
from soilkit.contracts import Chip, ChipRequest, Failure
from soilkit.errors import CatalogueError, SceneNotFoundError, StoreError, UnknownNameError
from soilkit.export.archives.scenes import chip_of, places_of, refusal, scenes_table
from soilkit.export.archives.stac import items
from soilkit.export.archives.stac.assets import Options, Reader, serve
from soilkit.export.archives.stac.item_search import SceneIndex, Service, StaticCatalogue, digest
from soilkit.export.archives.stac.world_catalogue import export_world
from soilkit.sources import Source

__all__ = ["StacArchive", "export_world"]
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
    footprint_m : float, m
        Side of the square around a station that scenes must touch, and whose covered part is
        ``valid_fraction``. It is unknown where a scene's geometry is a mere bounding box.
    sign : callable, optional
        Turns an asset's address into one that may be opened, such as ``planetary_computer.sign``.
    headers : sent with every request to an API
    timeout_s : float, s, for one request to an API
    cache_dir : folder where an API's items are kept, so that a resumed build need not ask again
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
        workers: int = 4,
    ) -> None:
        self._catalogue: Service | StaticCatalogue
        if str(catalogue).startswith(("http://", "https://")):
            folder = Path(cache_dir) / digest(str(catalogue)) if cache_dir else None
            self._catalogue = Service(
                str(catalogue), headers=headers, timeout_s=timeout_s, folder=folder
            )
        else:
            self._catalogue = StaticCatalogue(catalogue)
        self._options = Options(collections or {}, assets or {}, units or {})
        self._served = serve(self._catalogue.collections, self._options)
        self._index = SceneIndex(
            self._catalogue, self._served, footprint_m=float(footprint_m), workers=int(workers)
        )
        self.sign, self.workers = sign, int(workers)

    @cached_property
    def version(self) -> str:
        """The catalogue's id and a hash of what decides its data: items, times and options."""
        options = [dict(vars(self._options)), self._catalogue.fingerprint()]
        return f"stac-{self._catalogue.catalogue_id}-{digest(options)}"

    @property
    def served(self) -> pd.DataFrame:
        """One row a source: its collections, and how they differ from what the paper used."""
        rows = [(s.source, ", ".join(s.collections), s.note) for s in self._served.values()]
        return pd.DataFrame(rows, columns=["source", "collections", "note"])

    @property
    def left_out(self) -> pd.DataFrame:
        """Items that were met and could not be used: ``source``, ``item_id``, ``reason``."""
        return self._index.left_out

    def scenes(self, stations: pd.DataFrame, source: str, start: Any, end: Any) -> pd.DataFrame:
        """Scenes of one source over the stations whose end lies in [start, end) (contract SCENES).

        Raises
        ------
        UnknownNameError
            For a source that the catalogue does not serve.
        CatalogueError
            When a service does not answer.
        """
        row, period = self._known(source), (np.datetime64(start, "us"), np.datetime64(end, "us"))
        scenes = self._index.over(places_of(stations), row, period=period)
        rows = [{"station_id": station, **vars(scene)} for station, scene in scenes]
        return scenes_table(source, rows)

    def series(self, stations: pd.DataFrame, source: str, start: Any, end: Any) -> pd.DataFrame:
        """A coarse product at the stations: ``station_id``, ``scene_id``, ``start``, ``end`` and
        one column a band, stored values of the pixel that holds the station.

        Of several tiles the first that knows the pixel is taken; an item that cannot be read is
        left out by name.

        Raises
        ------
        UnknownNameError
            For a source without a series, or that the catalogue does not serve.
        CatalogueError
            When a service does not answer.
        """
        row, places = self._known(source), places_of(stations)
        if not _has_series(row):
            have = [name for name in self._served if _has_series(sources.get(name))]
            raise UnknownNameError(
                f"The catalogue has no series of {source!r}; it has {', '.join(have) or 'none'}. "
                "Ask chips for images."
            )
        period = np.datetime64(start, "us"), np.datetime64(end, "us")
        scenes = self._index.over(places, row, period=period)
        values = self._sampled(scenes, places, row)
        bands, rows = [band.name for band in row.bands], []
        for station, scene in scenes:
            tiles = [values[r, station] for r in scene.records if (r, station) in values]
            known = next((tile for tile in tiles if np.isfinite(tile).any()), None)
            if known is not None:
                of_scene = {"station_id": station, **vars(scene)}
                rows.append(of_scene | dict(zip(bands, known, strict=True)))
        return items.series_table(bands, rows)

    def _sampled(
        self, scenes: list[tuple[str, items.Scene]], places: pd.DataFrame, row: Source
    ) -> dict[tuple[items.Record, str], np.ndarray]:
        """Band values by record and station, each record read once."""
        wanted: dict[items.Record, list[str]] = {}
        for station, scene in scenes:
            for record in scene.records:
                wanted.setdefault(record, []).append(station)
        lonlat = places.set_index("station_id")[["longitude", "latitude"]]
        reader = self._reader(row.name)

        def sample(record: items.Record) -> np.ndarray | None:
            try:
                return reader.at_points(record, lonlat.loc[wanted[record]].to_numpy(float))
            except (CatalogueError, SceneNotFoundError, StoreError) as error:
                self._index.leave_out(record, row, reason=str(error))
                return None

        with ThreadPoolExecutor(self.workers) as pool:
            cubes = zip(wanted.items(), pool.map(sample, wanted), strict=True)
            return {
                (record, station): cube[:, n]
                for (record, names), cube in cubes
                if cube is not None
                for n, station in enumerate(names)
            }

    def chips(
        self, requests: Iterable[ChipRequest]
    ) -> Iterator[tuple[ChipRequest, Chip | Failure]]:
        """Yield every request with its chip or its failure, as files come in."""
        asked = list(requests)
        lost = self._index.prepare(asked)
        for request in (r for r in asked if r.source in lost):
            yield request, Failure(lost[request.source], permanent=False)
        waiting = (r for r in asked if r.source not in lost)
        pool = ThreadPoolExecutor(self.workers)
        try:
            running = {pool.submit(self._answer, r) for r in islice(waiting, 2 * self.workers)}
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                running |= {pool.submit(self._answer, r) for r in islice(waiting, len(done))}
                for one in done:
                    yield one.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _answer(self, request: ChipRequest) -> tuple[ChipRequest, Chip | Failure]:
        try:
            return request, self._chip(request)
        except (CatalogueError, StoreError) as error:  # a file or a network may come back
            return request, Failure(str(error), permanent=False)
        except SceneNotFoundError as error:
            return request, Failure(str(error))

    def _chip(self, request: ChipRequest) -> Chip | Failure:
        if request.source not in self._served:
            return Failure(f"the catalogue does not serve {request.source!r}")
        reason = refusal(request, self.version)
        if reason:
            return Failure(reason)
        row = sources.get(request.source)
        records = self._index.records_of(request, row)
        end = max((r.end for r in records), default=np.datetime64("NaT", "us"))
        if not records or abs(end - request.time) > SAME_MOMENT:  # static: NaT compares as false
            return Failure(
                f"no scene {request.scene_id} over {request.station_id} at {request.time}"
            )
        values = self._reader(row.name).on_grid(records, request)
        return chip_of(request, values)

    def _reader(self, source: str) -> Reader:
        of_collections = self._catalogue.collections.items()
        defaults = {name: one.get("item_assets") or {} for name, one in of_collections}
        return Reader(self._served[source], defaults, self.sign)

    def _known(self, source: str) -> Source:
        if source not in self._served:
            raise UnknownNameError(
                f"The STAC catalogue {self._catalogue.catalogue_id!r} does not serve {source!r}. "
                f"It serves {', '.join(self._served) or 'nothing that soilkit knows'}; its "
                f"collections are {', '.join(self._catalogue.collections) or 'none'}. Name the "
                f"right one: collections={{{source!r}: ...}}."
            )
        return sources.get(source)


def _has_series(row: Source) -> bool:
    return not row.is_static and row.resolution != "high"

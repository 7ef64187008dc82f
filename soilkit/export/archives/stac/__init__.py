"""Any STAC catalogue as an archive: scenes, chips and series from its items."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from soilkit import sources
from soilkit.contracts import Chip, ChipRequest, Failure
from soilkit.errors import CatalogueError, SceneNotFoundError, StoreError, UnknownNameError
from soilkit.export.archives.scenes import places as station_places
from soilkit.export.archives.stac import catalogue as shelf
from soilkit.export.archives.stac import items
from soilkit.export.archives.stac.assets import Reader
from soilkit.export.archives.stac.catalogue import Finder, Service, StaticCatalogue
from soilkit.export.archives.stac.world_catalogue import Layout, export_world
from soilkit.sources import Source

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
        Side of the square around a station that scenes must touch, and for which
        ``valid_fraction`` is told. It is unknown where a scene's geometry is a mere bounding box.
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
        footprint_m: float = 2560.0,
        sign: Callable[[str], str] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
        cache_dir: str | os.PathLike[str] | None = None,
        workers: int = 4,
    ) -> None:
        self._shelf: shelf.Shelf
        if str(catalogue).startswith(("http://", "https://")):
            folder = Path(cache_dir) / shelf.digest(str(catalogue)) if cache_dir else None
            self._shelf = Service(
                str(catalogue), headers=headers, timeout_s=timeout_s, folder=folder
            )
        else:
            self._shelf = StaticCatalogue(catalogue)
        self._options = items.Options(collections or {}, assets or {}, units or {})
        self._served = items.serve(self._shelf.collections, self._options)
        self._finder = Finder(
            self._shelf, self._served, footprint_m=float(footprint_m), workers=int(workers)
        )
        self.sign, self.workers = sign, int(workers)

    @cached_property
    def version(self) -> str:
        """The catalogue's id and a hash of what decides its data: items, times and options."""
        options = [dict(vars(self._options)), self._shelf.fingerprint()]
        return f"stac-{self._shelf.catalogue_id}-{shelf.digest(options)}"

    @property
    def served(self) -> pd.DataFrame:
        """One row a source: its collections, and how they differ from what the paper used."""
        rows = [(s.source, ", ".join(s.collections), s.note) for s in self._served.values()]
        return pd.DataFrame(rows, columns=["source", "collections", "note"])

    @property
    def left_out(self) -> pd.DataFrame:
        """Items that were met and could not be used: ``source``, ``item_id``, ``reason``."""
        return self._finder.left_out

    # ---- scenes and series -------------------------------------------------------------------

    def scenes(self, stations: pd.DataFrame, source: str, start: Any, end: Any) -> pd.DataFrame:
        """Scenes of one source over the stations whose end lies in [start, end) (contract SCENES).

        Raises
        ------
        UnknownNameError
            For a source that the catalogue does not serve.
        CatalogueError
            When a service does not answer.
        """
        row, period = self._known(source), _period(start, end)
        found = self._finder.over(station_places(stations), row, period=period)
        rows = [{"station_id": station, **one} for station, some in found for _, one in some]
        return items.scenes_table(source, rows)

    def series(self, stations: pd.DataFrame, source: str, start: Any, end: Any) -> pd.DataFrame:
        """A coarse product at the stations: ``station_id``, ``scene_id``, ``start``, ``end`` and
        one column a band, stored values of the pixel that holds the station.

        Raises
        ------
        UnknownNameError
            For a source without a series, or that the catalogue does not serve.
        CatalogueError
            When a service does not answer.
        """
        row, places = self._known(source), station_places(stations)
        if row.is_static or row.resolution == "high":
            have = [name for name in self._served if _has_series(sources.get(name))]
            raise UnknownNameError(
                f"The catalogue has no series of {source!r}; it has {', '.join(have) or 'none'}. "
                "Ask chips for images."
            )
        found = self._finder.over(places, row, period=_period(start, end))
        wanted: dict[int, tuple[items.Record, list[str]]] = {}
        for station, some in found:
            for record in (r for group, _ in some for r in group):
                wanted.setdefault(id(record), (record, []))[1].append(station)
        values = self._sampled(list(wanted.values()), places, row)
        return items.series_table([b.name for b in row.bands], list(_rows(found, values, row)))

    def _sampled(self, wanted: list, places: pd.DataFrame, row: Source) -> dict:
        """Band values by record and station; an item that cannot be read is left out by name."""
        at = places.set_index("station_id")[["longitude", "latitude"]]
        reader = self._reader(row.name)

        def look(one: tuple[items.Record, list[str]]) -> tuple[int, list[str], np.ndarray] | None:
            record, stations = one
            try:
                values = reader.at_points(record, at.loc[stations].to_numpy(float))
            except (CatalogueError, SceneNotFoundError, StoreError) as error:
                self._finder.leave_out(record, row, reason=str(error))
                return None
            return id(record), stations, values

        with ThreadPoolExecutor(self.workers) as pool:
            found = [one for one in pool.map(look, wanted) if one]
        return {
            (key, s): v for key, names, cube in found for s, v in zip(names, cube.T, strict=True)
        }

    # ---- chips -------------------------------------------------------------------------------

    def chips(
        self, requests: Iterable[ChipRequest]
    ) -> Iterator[tuple[ChipRequest, Chip | Failure]]:
        """Yield every request with its chip or its failure, as files come in."""
        asked = list(requests)
        lost = self._finder.prepare(asked)
        waiting = iter([r for r in asked if r.source not in lost])
        for request in (r for r in asked if r.source in lost):
            yield request, Failure(lost[request.source], permanent=False)
        pool, running = ThreadPoolExecutor(self.workers), set[Future]()
        try:
            while True:
                for request in waiting:
                    running.add(pool.submit(self._answer, request))
                    if len(running) >= 2 * self.workers:
                        break
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
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
        reason = self._refusal(request)
        if reason:
            return Failure(reason)
        row = sources.get(request.source)
        records = self._finder.scene(request, row)
        if not records or not _is_at(records, request.time):
            return Failure(
                f"no scene {request.scene_id} over {request.station_id} at {request.time}"
            )
        values = self._reader(row.name).on_grid(records, request)
        if not np.isfinite(values).any():
            return Failure(f"{request.scene_id} holds nothing over {request.station_id}.")
        return Chip(values, tuple(request.bands), request.grid)

    def _refusal(self, request: ChipRequest) -> str:
        if request.source not in self._served:
            return f"the catalogue does not serve {request.source!r}"
        if request.version and request.version != self.version:
            return f"asked of {request.version}, this is {self.version}"
        row = sources.get(request.source)
        unknown = set(request.bands) - {band.name for band in row.bands}
        if unknown:
            return f"{request.source} has no band {', '.join(sorted(unknown))}"
        if not row.is_static and np.isnat(request.time):
            return f"a scene of {request.source} needs a time"
        return ""

    # ---- words -------------------------------------------------------------------------------

    def _reader(self, source: str) -> Reader:
        defaults = {
            name: one.get("item_assets") or {} for name, one in self._shelf.collections.items()
        }
        return Reader(self._served[source], defaults, self.sign)

    def _known(self, source: str) -> Source:
        if source not in self._served:
            raise UnknownNameError(
                f"The STAC catalogue {self._shelf.catalogue_id!r} does not serve {source!r}. It "
                f"serves {', '.join(self._served) or 'nothing that soilkit knows'}; its "
                f"collections are {', '.join(self._shelf.collections) or 'none'}. Name the right "
                f"one: collections={{{source!r}: ...}}."
            )
        return sources.get(source)


def _has_series(row: Source) -> bool:
    return not row.is_static and row.resolution != "high"


def _period(start: Any, end: Any) -> items.Period:
    return np.datetime64(start, "us"), np.datetime64(end, "us")


def _is_at(records: list[items.Record], time: np.datetime64) -> bool:
    end = max(r.end for r in records)
    return bool(np.isnat(end) or abs(end - time) <= SAME_MOMENT)


def _rows(found: list, values: dict, row: Source) -> Iterator[dict[str, Any]]:
    """One row a station and scene with a value; of several tiles the first that has one."""
    bands = [band.name for band in row.bands]
    for station, some in found:
        for group, scene in some:
            tiles = [values[(id(r), station)] for r in group if (id(r), station) in values]
            known = [tile for tile in tiles if np.isfinite(tile).any()]
            if known:
                keys = {key: scene[key] for key in ("scene_id", "start", "end")}
                yield {"station_id": station, **keys, **dict(zip(bands, known[0], strict=True))}


__all__ = ["Layout", "StacArchive", "export_world"]

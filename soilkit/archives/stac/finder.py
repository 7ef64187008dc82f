"""Which items of a catalogue serve a source over a station, at a time, or in a scene."""

import logging
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd

from soilkit import sources
from soilkit.archives.stac import geometry, items, tables
from soilkit.archives.stac.mapping import Served
from soilkit.archives.stac.shelf import Shelf
from soilkit.contracts import ChipRequest
from soilkit.errors import CatalogueError
from soilkit.sources import Source

log = logging.getLogger(__name__)
PASS_LENGTH = np.timedelta64(10 * 60, "s")  # how far a scene may reach beyond one of its slices
Scenes = list[tuple[list[items.Record], dict[str, Any]]]


class Finder:
    """Looks items up and remembers which of them could not be used, and why.

    Parameters
    ----------
    shelf : Shelf, the catalogue
    served : {source: Served}
    footprint_m : float, m, side of the square around a station that a scene must touch
    workers : int, searches at once
    """

    def __init__(
        self, shelf: Shelf, served: Mapping[str, Served], *, footprint_m: float, workers: int
    ) -> None:
        self.shelf, self.served = shelf, served
        self.footprint_m, self.workers = footprint_m, workers
        self._records: dict[tuple[str, str, str], items.Record | str] = {}

    def over(
        self, places: pd.DataFrame, row: Source, *, period: tables.Period
    ) -> list[tuple[str, Scenes]]:
        """(station_id, scenes that end in the period, by time) of each place."""
        start, end = period
        wider = start - PASS_LENGTH, end + PASS_LENGTH

        def look(place: Any) -> tuple[str, Scenes]:
            latitude, longitude = float(place.latitude), float(place.longitude)
            points = geometry.footprint_points(latitude, longitude, side_m=self.footprint_m)
            records = self._search(row, points, None if row.is_static else wider)
            found = tables.scenes_of(tables.ending_in(records, wider), row, points=points)
            inside = [s for s in found if np.isnat(s[1]["end"]) or start <= s[1]["end"] < end]
            return place.station_id, sorted(inside, key=lambda s: (s[1]["end"], s[1]["scene_id"]))

        with ThreadPoolExecutor(self.workers) as pool:
            found = list(pool.map(look, places.itertuples(index=False)))
        self._say_left_out(row.name)
        return found

    def scene(self, request: ChipRequest, row: Source) -> list[items.Record]:
        """The items of a scene in their order; none where one of them does not exist."""
        if row.is_static:
            near = self._search(row, geometry.grid_points(request.grid), None)
            return sorted(near, key=lambda r: r.item_id)
        ids = items.item_ids(request.scene_id)
        names = self.served[row.name].collections
        found = {str(one["id"]): one for one in self.shelf.fetch(names, ids)}
        records = [self._record(found[one], row) if one in found else "" for one in ids]
        usable = [r for r in records if isinstance(r, items.Record)]
        return usable if len(usable) == len(ids) else []

    def prepare(self, requests: Iterable[ChipRequest]) -> dict[str, str]:
        """Fetch the items of many scenes together; what went wrong, by source."""
        wanted: dict[str, dict[str, None]] = {}
        for request in requests:
            if request.source in self.served and not sources.get(request.source).is_static:
                ids = items.item_ids(request.scene_id)
                wanted.setdefault(request.source, {}).update(dict.fromkeys(ids))
        errors = {}
        for source, some in wanted.items():
            try:
                self.shelf.fetch(self.served[source].collections, list(some))
            except CatalogueError as error:
                errors[source] = str(error)
        return errors

    def leave_out(self, record: items.Record, row: Source, *, reason: str) -> None:
        """Remember that an item could not be used."""
        self._records[(row.name, record.collection, record.item_id)] = reason
        log.warning("%s: item %s left out: %s", row.name, record.item_id, reason)

    @property
    def left_out(self) -> pd.DataFrame:
        """``source``, ``item_id`` and ``reason`` of each item that could not be used."""
        rows = [(s, i, why) for (s, _, i), why in self._records.items() if isinstance(why, str)]
        return pd.DataFrame(rows, columns=["source", "item_id", "reason"])

    def _search(self, row: Source, points: np.ndarray, period: Any) -> list[items.Record]:
        if period is not None and row.dated_by != "instant":
            # a composite is found by its own date, which may lie as far back as it is long
            period = period[0] - 2 * sources.duration(row.cadence), period[1]
        names = self.served[row.name].collections
        found = self.shelf.search(names, box=geometry.box_of(points), period=period)
        records = (self._record(item, row) for item in found)
        return [r for r in records if isinstance(r, items.Record)]

    def _record(self, item: Mapping[str, Any], row: Source) -> items.Record | str:
        key = (row.name, str(item.get("collection") or ""), str(item["id"]))
        if key not in self._records:
            self._records[key] = items.record(item, row)
        return self._records[key]

    def _say_left_out(self, source: str) -> None:
        reasons = self.left_out.query("source == @source").reason
        if len(reasons):
            first = reasons.iloc[0]
            log.warning("%s: %d items left out, the first: %s", source, len(reasons), first)

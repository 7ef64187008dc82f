"""Static catalogues and APIs: how their items are kept, asked for and found."""

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import numpy as np
import pandas as pd

from soilkit import sources
from soilkit.contracts import ChipRequest
from soilkit.errors import CatalogueError
from soilkit.export.archives.stac import items
from soilkit.export.archives.stac.items import Box, Served, spans
from soilkit.files import write_text_whole
from soilkit.sources import Source

Item = dict[str, Any]


class Shelf(Protocol):
    """Items by place and time, or by id; items are GeoJSON with absolute links to their assets."""

    catalogue_id: str
    collections: Mapping[str, Mapping[str, Any]]

    def fingerprint(self) -> str:
        """What decides the data, as far as the catalogue can tell."""
        ...

    def search(
        self, collections: Sequence[str], *, box: Box, period: tuple[Any, Any] | None
    ) -> list[Item]:
        """Items that may meet a box (degrees) and a period (UTC); some more do no harm."""
        ...

    def fetch(self, collections: Sequence[str], ids: Sequence[str]) -> list[Item]:
        """Items by id; those that do not exist are left out."""
        ...


class KeptItems:
    """A static catalogue's items in memory, or an API's items of this session and of a cache."""

    def __init__(self, items: Iterable[Item] = (), *, folder: Path | None = None) -> None:
        self._items: dict[tuple[str, str], Item] = {}
        self._folder = folder
        self.add(items)

    def add(self, items: Iterable[Item]) -> None:
        """Keep items, on disk too where there is a folder."""
        for item in items:
            key = (str(item.get("collection") or ""), str(item["id"]))
            if key not in self._items and self._folder:
                _write(self._path(key), item)
            self._items[key] = item

    def get(self, collections: Sequence[str], item_id: str) -> Item | None:
        """The item of that id in one of the collections."""
        for collection in collections:
            key = (collection, item_id)
            path = self._path(key)
            if key not in self._items and path and path.exists():
                self._items[key] = json.loads(path.read_text(encoding="utf-8"))
            if key in self._items:
                return self._items[key]
        return None

    def __iter__(self):
        return iter(self._items.values())

    def _path(self, key: tuple[str, str]) -> Path | None:
        if self._folder is None:
            return None
        return self._folder / quote(key[0] or "_", safe="") / f"{quote(key[1], safe='')}.json"


def _write(path: Path | None, item: Item) -> None:
    if path is not None:
        write_text_whole(path, json.dumps(item))


def boxes(items: Iterable[Item]) -> np.ndarray:
    """Bounding boxes, (item, 4): west, south, east, north; the whole Earth where unknown."""
    found = [item.get("bbox") or (-180, -90, 180, 90) for item in items]
    return np.array([(*b[:2], *b[len(b) // 2 :][:2]) for b in found], dtype=float).reshape(-1, 4)


def digest(words: Any) -> str:
    """Twelve letters that change when any of the words does."""
    text = json.dumps(words, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


# All of pystac: a static catalogue on disk, read whole when it is first needed.

ROOT = "catalog.json"
_BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError)  # what pystac lets through
_DATES = ("datetime", "start_datetime", "end_datetime", "updated")


class StaticCatalogue:
    """A catalogue of files: ``catalog.json``, its collections and their items.

    Raises
    ------
    CatalogueError
        When there is no catalogue, or one of its files is absent or broken.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = _root(Path(path))
        root = _read(self.path)
        self.catalogue_id = str(root.id)
        self._found = list(_walk(root, str(self.path), met=set()))
        self.collections: Mapping[str, Mapping[str, Any]] = {
            **{str(item["collection"]): {} for kind, item in self._found if kind == "item"},
            **{str(one["id"]): one for kind, one in self._found if kind == "collection"},
        }

    @cached_property
    def _items(self) -> dict[str, list[Item]]:
        by_collection: dict[str, list[Item]] = {}
        for kind, item in self._found:
            if kind == "item":
                by_collection.setdefault(str(item["collection"]), []).append(item)
        return by_collection

    @cached_property
    def _boxes(self) -> dict[str, np.ndarray]:
        return {name: boxes(items) for name, items in self._items.items()}

    @cached_property
    def _by_id(self) -> KeptItems:
        return KeptItems(item for items in self._items.values() for item in items)

    def fingerprint(self) -> str:
        """The ids and times of all items."""
        rows = [
            [item["collection"], item["id"], *(item["properties"].get(d) for d in _DATES)]
            for items in self._items.values()
            for item in items
        ]
        return json.dumps(sorted(rows, key=str))

    def search(
        self, collections: Sequence[str], *, box: Box, period: tuple[Any, Any] | None
    ) -> list[Item]:
        """Items whose bounding box meets the box, whatever their time."""
        found: list[Item] = []
        for name in collections:
            west, south, east, north = self._boxes.get(name, np.empty((0, 4))).T
            in_line = west > east  # across 180 degrees
            for first, last in spans(box):
                in_line |= (west <= last) & (east >= first)
            near = in_line & (south <= box[3]) & (north >= box[1])
            found += [self._items[name][i] for i in np.flatnonzero(near)]
        return found

    def fetch(self, collections: Sequence[str], ids: Sequence[str]) -> list[Item]:
        """Items by id."""
        found = (self._by_id.get(collections, one) for one in ids)
        return [item for item in found if item is not None]


def _root(path: Path) -> Path:
    file = path / ROOT if path.is_dir() else path
    if not file.is_file():
        raise CatalogueError(
            f"There is no STAC catalogue at {path}: wanted a {ROOT}, or the folder that holds it. "
            "Give the file's path when it is named otherwise, or an API's address (https://...)."
        )
    return file


def _broken(path: str, error: Exception) -> CatalogueError:
    first = error.__cause__ or error
    said = str(first).splitlines()[0] if str(first) else ""
    return CatalogueError(
        f"{path} cannot be read as STAC ({type(first).__name__}: {said}). Repair or remove this "
        "file and the link to it."
    )


def _read(path: Path) -> Any:
    import pystac

    try:
        found = pystac.read_file(str(path))
        if not isinstance(found, pystac.Catalog):
            raise ValueError("it is an item, no catalogue")
        return found
    except (*_BROKEN, pystac.STACError, pystac.STACTypeError) as error:
        raise _broken(str(path), error) from error


def _walk(catalogue: Any, path: str, *, met: set[str]) -> Iterator[tuple[str, Item]]:
    """Every collection and item below a catalogue once, in the order of its links.

    Items are read without the catalogue that links to them: pystac searches all its links for each.
    """
    import pystac

    if isinstance(catalogue, pystac.Collection):
        yield "collection", catalogue.to_dict(include_self_link=False, transform_hrefs=False)
    met.add(path)
    for link in catalogue.get_links():
        if link.rel not in ("item", "child"):
            continue
        href = pystac.utils.make_absolute_href(str(link.href), path)
        if href in met:
            continue  # linked to twice, or a way back
        met.add(href)
        try:
            found = _item(href) if link.rel == "item" else pystac.read_file(href)
            plain = _plain(found, catalogue) if link.rel == "item" else {}
        except (*_BROKEN, pystac.STACError, pystac.STACTypeError) as error:
            raise _broken(href, error) from error
        if link.rel == "item":
            yield "item", plain
        else:
            yield from _walk(found, href, met=met)


def _item(href: str) -> Any:
    """An item of any version; without a copy of its words, of which a catalogue has many."""
    import pystac

    words = pystac.StacIO.default().read_json(href)
    return pystac.Item.from_dict(words, href=href, migrate=True, preserve_dict=False)


def _plain(item: Any, parent: Any) -> Item:
    """An item as GeoJSON, in the collection or else the catalogue that links to it."""
    assets = {
        key: {**asset.to_dict(), "href": asset.get_absolute_href() or asset.href}
        for key, asset in item.assets.items()
    }
    return {
        "id": item.id,
        "collection": item.collection_id or parent.id,
        "geometry": item.geometry,
        "bbox": item.bbox,
        "properties": item.properties,
        "assets": assets,
    }


# All of pystac-client: a STAC API, asked by place and time.

PAGE = 100  # items a page; most services allow more, some break on it
IDS_A_SEARCH = 50


class Service:
    """A STAC API; what it was once asked for is not asked again.

    Parameters
    ----------
    url : address of the API's root
    headers : sent with every request, such as an API key
    timeout_s : float, s, for one request
    folder : where items are kept for other sessions

    Raises
    ------
    CatalogueError
        When the service cannot be reached or is none.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
        folder: Path | None = None,
    ) -> None:
        from pystac_client import Client

        self.url, self.timeout_s = url, timeout_s
        self._kept = KeptItems(folder=folder)
        try:
            self._client = Client.open(url, headers=dict(headers or {}), timeout=timeout_s)
            self.catalogue_id = str(self._client.id)
            self.collections: Mapping[str, Mapping[str, Any]] = {
                one.id: one.to_dict(include_self_link=False, transform_hrefs=False)
                for one in self._client.get_collections()
            }
        except Exception as error:  # pystac-client hands on whatever json or requests raised
            raise self._unreachable("its collections", error) from error
        if not self._client.get_links("search"):
            raise CatalogueError(
                f"{url} is no API: it has no link to a search. Download a static catalogue with "
                "its assets, and give the path of its catalog.json."
            )

    def fingerprint(self) -> str:
        """The address: nobody can list a whole service."""
        return self.url

    def search(
        self, collections: Sequence[str], *, box: Box, period: tuple[Any, Any] | None
    ) -> list[Item]:
        """Items that meet the box and the period, page by page."""
        words: dict[str, Any] = {"collections": list(collections), "bbox": list(box)}
        if period is not None:
            words["datetime"] = "/".join(f"{np.datetime64(t, 's')}Z" for t in period)
        return self._ask(words)

    def fetch(self, collections: Sequence[str], ids: Sequence[str]) -> list[Item]:
        """Items by id, from what is kept or else from the service, some at a time."""
        missing = [one for one in ids if self._kept.get(collections, one) is None]
        for first in range(0, len(missing), IDS_A_SEARCH):
            some = missing[first : first + IDS_A_SEARCH]
            self._ask({"collections": list(collections), "ids": some})
        found = (self._kept.get(collections, one) for one in ids)
        return [item for item in found if item is not None]

    def _ask(self, words: dict[str, Any]) -> list[Item]:
        try:
            search = self._client.search(limit=PAGE, **words)
            found = list(_absolute(search.items_as_dicts()))
        except Exception as error:  # see above
            raise self._unreachable(f"{', '.join(words['collections'])}", error) from error
        self._kept.add(found)
        return found

    def _unreachable(self, what: str, error: Exception) -> CatalogueError:
        said = str(error).strip().splitlines()[0] if str(error).strip() else ""
        return CatalogueError(
            f"The STAC service {self.url} did not answer when asked for {what} "
            f"({type(error).__name__}: {said[:300]}). Wanted an answer within {self.timeout_s:g} s:"
            " check the address and the network, then try again."
        )


def _absolute(items: Iterable[Item]) -> Iterable[Item]:
    """Items whose assets can be opened: links are relative to the item's own address."""
    from urllib.parse import urljoin

    for item in items:
        base = next((k["href"] for k in item.get("links", []) if k.get("rel") == "self"), "")
        assets = {
            key: {**asset, "href": urljoin(base, asset["href"])}
            for key, asset in (item.get("assets") or {}).items()
            if asset.get("href")
        }
        yield {**item, "assets": assets}


# Which items of a catalogue serve a source over a station, at a time, or in a scene.

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
        self, places: pd.DataFrame, row: Source, *, period: items.Period
    ) -> list[tuple[str, Scenes]]:
        """(station_id, scenes that end in the period, by time) of each place."""
        start, end = period
        wider = start - PASS_LENGTH, end + PASS_LENGTH

        def look(place: Any) -> tuple[str, Scenes]:
            latitude, longitude = float(place.latitude), float(place.longitude)
            points = items.footprint_points(latitude, longitude, side_m=self.footprint_m)
            records = self._search(row, points, None if row.is_static else wider)
            found = items.scenes_of(items.ending_in(records, wider), row, points=points)
            inside = [s for s in found if np.isnat(s[1]["end"]) or start <= s[1]["end"] < end]
            return place.station_id, sorted(inside, key=lambda s: (s[1]["end"], s[1]["scene_id"]))

        with ThreadPoolExecutor(self.workers) as pool:
            found = list(pool.map(look, places.itertuples(index=False)))
        self._say_left_out(row.name)
        return found

    def scene(self, request: ChipRequest, row: Source) -> list[items.Record]:
        """The items of a scene in their order; none where one of them does not exist."""
        if row.is_static:
            near = self._search(row, items.grid_points(request.grid), None)
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
        found = self.shelf.search(names, box=items.box_of(points), period=period)
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

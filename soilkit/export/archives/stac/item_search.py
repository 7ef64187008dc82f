"""Items of static catalogues and APIs: how they are kept, asked for, and searched for scenes."""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin

import numpy as np
import pandas as pd

from soilkit import sources
from soilkit.contracts import ChipRequest
from soilkit.errors import CatalogueError
from soilkit.export.archives.stac import items
from soilkit.export.archives.stac.assets import Served
from soilkit.export.archives.stac.items import Box, Period, Record, Scene
from soilkit.files import write_text_whole
from soilkit.grids import chip_grid
from soilkit.sources import Source

log = logging.getLogger(__name__)
Item = dict[str, Any]  # GeoJSON with absolute links to its assets
ROOT = "catalog.json"
PAGE = 100  # items a page of a search; most services allow more, some break on it
IDS_A_SEARCH = 50
POINTS_A_SIDE = 32  # a covered fraction is stated in steps of a thousandth
PASS_LENGTH = np.timedelta64(10 * 60, "s")  # how far a scene may reach beyond one of its slices
_BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError)  # what pystac lets through
_DATES = ("datetime", "start_datetime", "end_datetime", "updated")


def digest(words: Any) -> str:
    """Twelve letters that change when any of the words does."""
    text = json.dumps(words, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class ItemCache:
    """Items by collection and id, in memory and, where there is a folder, for other sessions."""

    def __init__(self, folder: Path | None = None) -> None:
        self._items: dict[tuple[str, str], Item] = {}
        self._folder = folder

    def add(self, some: Iterable[Item]) -> None:
        """Keep items."""
        for item in some:
            key = (str(item.get("collection") or ""), str(item["id"]))
            if key not in self._items and self._folder:
                write_text_whole(self._path(*key), json.dumps(item))
            self._items[key] = item

    def fetch(self, collections: Sequence[str], ids: Sequence[str]) -> list[Item]:
        """The items of these ids in the collections; those that are not kept are left out."""
        kept = (next(filter(None, (self._get(c, i) for c in collections)), None) for i in ids)
        return [item for item in kept if item is not None]

    def _get(self, collection: str, item_id: str) -> Item | None:
        key = (collection, item_id)
        if key not in self._items and self._folder and self._path(*key).exists():
            self._items[key] = json.loads(self._path(*key).read_text(encoding="utf-8"))
        return self._items.get(key)

    def _path(self, collection: str, item_id: str) -> Path:
        folder = (self._folder or Path()) / quote(collection or "_", safe="")
        return folder / f"{quote(item_id, safe='')}.json"


# ---- a static catalogue on disk, read whole: all of pystac ---------------------------------------


class StaticCatalogue:
    """A catalogue of files: ``catalog.json``, its collections and their items.

    Raises
    ------
    CatalogueError
        When there is no catalogue, or one of its files is absent or broken.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        import pystac

        self.path = Path(path) / ROOT if Path(path).is_dir() else Path(path)
        if not self.path.is_file():
            raise CatalogueError(
                f"There is no STAC catalogue at {path}: wanted a {ROOT}, or the folder that holds "
                "it. Give the file's path when it is named otherwise, or an API's address "
                "(https://...)."
            )
        with _naming(str(self.path)):
            root = pystac.read_file(str(self.path))
            if not isinstance(root, pystac.Catalog):
                raise ValueError("it is an item, no catalogue")
        self.catalogue_id = str(root.id)
        self._items: dict[str, list[Item]] = {}
        read: dict[str, Mapping[str, Any]] = {}
        for one in _walk(root, str(self.path), met=set()):
            if one["type"] == "Collection":
                read[str(one["id"])] = one
            else:
                self._items.setdefault(str(one["collection"]), []).append(one)
        self.collections: Mapping[str, Mapping[str, Any]] = dict.fromkeys(self._items, {}) | read
        self._boxes = {name: items.BoxTree(some) for name, some in self._items.items()}
        self._cache = ItemCache()
        self._cache.add(item for some in self._items.values() for item in some)

    def fingerprint(self) -> str:
        """The ids and times of all items."""
        rows = [
            [item["collection"], item["id"], *(item["properties"].get(d) for d in _DATES)]
            for some in self._items.values()
            for item in some
        ]
        return json.dumps(sorted(rows, key=str))

    def search(self, collections: Sequence[str], *, box: Box, period: Period | None) -> list[Item]:
        """Items whose bounding box meets the box, whatever their time."""
        return [
            self._items[name][n]
            for name in collections
            if name in self._items
            for n in self._boxes[name].meeting(box)
        ]

    def fetch(self, collections: Sequence[str], ids: Sequence[str]) -> list[Item]:
        """Items by id; those that do not exist are left out."""
        return self._cache.fetch(collections, ids)


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
    """Whatever goes wrong with a file of a catalogue names it."""
    import pystac

    try:
        yield
    except (*_BROKEN, pystac.STACError, pystac.STACTypeError) as error:
        first = error.__cause__ or error
        words = str(first).splitlines()[0] if str(first) else ""
        raise CatalogueError(
            f"{path} cannot be read as STAC ({type(first).__name__}: {words}). Repair or remove "
            "this file and the link to it."
        ) from error


def _walk(catalogue: Any, path: str, *, met: set[str]) -> Iterator[Item]:
    """Every collection and item below a catalogue once, in the order of its links."""
    import pystac

    if isinstance(catalogue, pystac.Collection):
        yield catalogue.to_dict(include_self_link=False, transform_hrefs=False)
    met.add(path)
    for link in catalogue.get_links():
        if link.rel not in ("item", "child"):
            continue
        href = pystac.utils.make_absolute_href(str(link.href), path)
        if href in met:
            continue  # linked to twice, or a way back
        met.add(href)
        with _naming(href):
            child: Any = _item(href, catalogue) if link.rel == "item" else pystac.read_file(href)
        if link.rel == "item":
            yield child
        else:
            yield from _walk(child, href, met=met)


def _item(href: str, parent: Any) -> Item:
    """An item of any version, in its collection or else the catalogue that links to it.

    It is read without that catalogue, all of whose links pystac would search for each item, and
    without a copy of its words, of which a catalogue has many.
    """
    import pystac

    words = pystac.StacIO.default().read_json(href)
    item = pystac.Item.from_dict(words, href=href, migrate=True, preserve_dict=False)
    assets = {
        key: {**asset.to_dict(), "href": asset.get_absolute_href() or asset.href}
        for key, asset in item.assets.items()
    }
    return {
        "type": "Feature",
        "id": item.id,
        "collection": item.collection_id or parent.id,
        "geometry": item.geometry,
        "bbox": item.bbox,
        "properties": item.properties,
        "assets": assets,
    }


# ---- an API, asked by place and time: all of pystac-client ---------------------------------------


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
        self, url: str, *, headers: Mapping[str, str] | None, timeout_s: float, folder: Path | None
    ) -> None:
        from pystac_client import Client

        self.url, self.timeout_s = url, timeout_s
        self._cache = ItemCache(folder)
        with self._answering("its collections"):
            self._client = Client.open(url, headers=dict(headers or {}), timeout=timeout_s)
            self.catalogue_id = str(self._client.id)
            self.collections: Mapping[str, Mapping[str, Any]] = {
                one.id: one.to_dict(include_self_link=False, transform_hrefs=False)
                for one in self._client.get_collections()
            }
        if not self._client.get_links("search"):
            raise CatalogueError(
                f"{url} is no API: it has no link to a search. Download a static catalogue with "
                "its assets, and give the path of its catalog.json."
            )

    def fingerprint(self) -> str:
        """The address: nobody can list a whole service."""
        return self.url

    def search(self, collections: Sequence[str], *, box: Box, period: Period | None) -> list[Item]:
        """Items that meet the box (degrees) and the period (UTC), page by page."""
        words: dict[str, Any] = {"bbox": list(box)}
        if period is not None:
            words["datetime"] = "/".join(f"{t.astype('datetime64[s]')}Z" for t in period)
        return self._ask(collections, **words)

    def fetch(self, collections: Sequence[str], ids: Sequence[str]) -> list[Item]:
        """Items by id, from the cache or else from the service, some at a time."""
        kept = {str(item["id"]) for item in self._cache.fetch(collections, ids)}
        missing = [one for one in ids if one not in kept]
        for first in range(0, len(missing), IDS_A_SEARCH):
            self._ask(collections, ids=missing[first : first + IDS_A_SEARCH])
        return self._cache.fetch(collections, ids)

    def _ask(self, collections: Sequence[str], **words: Any) -> list[Item]:
        with self._answering(", ".join(collections)):
            search = self._client.search(limit=PAGE, collections=list(collections), **words)
            answer = [_with_absolute_links(item) for item in search.items_as_dicts()]
        self._cache.add(answer)
        return answer

    @contextlib.contextmanager
    def _answering(self, asked_for: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # pystac-client hands on whatever json or requests raised
            first = next(iter(str(error).strip().splitlines()), "")[:300]
            raise CatalogueError(
                f"The STAC service {self.url} did not answer when asked for {asked_for} "
                f"({type(error).__name__}: {first}). Wanted an answer within "
                f"{self.timeout_s:g} s: check the address and the network, then try again."
            ) from error


def _with_absolute_links(item: Item) -> Item:
    """An item whose assets can be opened: links are relative to the item's own address."""
    base = next((k["href"] for k in item.get("links", []) if k.get("rel") == "self"), "")
    assets = {
        key: {**asset, "href": urljoin(base, asset["href"])}
        for key, asset in (item.get("assets") or {}).items()
        if asset.get("href")
    }
    return {**item, "assets": assets}


# ---- which items serve a source over a station, at a time, or in a scene -------------------------


class SceneIndex:
    """Looks scenes up in a catalogue and remembers which items could not be used, and why.

    Parameters
    ----------
    catalogue : StaticCatalogue or Service
    served : {source: Served}
    footprint_m : float, m, side of the square around a station that a scene must touch
    workers : int, searches at once
    """

    def __init__(
        self,
        catalogue: StaticCatalogue | Service,
        served: Mapping[str, Served],
        *,
        footprint_m: float,
        workers: int,
    ) -> None:
        self.catalogue, self.served = catalogue, served
        self.footprint_m, self.workers = footprint_m, workers
        self._records: dict[tuple[str, str, str], Record | str] = {}

    def over(
        self, places: pd.DataFrame, source: Source, *, period: Period
    ) -> list[tuple[str, Scene]]:
        """(station_id, scene) of all that end in the period, by place and time."""
        start, end = period
        wider = start - PASS_LENGTH, end + PASS_LENGTH
        pixel_m = self.footprint_m / POINTS_A_SIDE

        def look(place: Any) -> list[tuple[str, Scene]]:
            at = float(place.latitude), float(place.longitude)
            points = items.grid_points(chip_grid(*at, size_px=POINTS_A_SIDE, pixel_size_m=pixel_m))
            near = self._search(source, points, None if source.is_static else wider)
            near = [r for r in near if np.isnat(r.end) or wider[0] <= r.end < wider[1]]
            scenes = items.scenes_of(near, source, points=points)
            inside = [s for s in scenes if np.isnat(s.end) or start <= s.end < end]
            inside.sort(key=lambda s: (s.end, s.scene_id))
            return [(place.station_id, scene) for scene in inside]

        with ThreadPoolExecutor(self.workers) as pool:
            rows = [row for some in pool.map(look, places.itertuples(index=False)) for row in some]
        reasons = self.left_out.query("source == @source.name").reason.tolist()
        if reasons:
            log.warning(
                "%s: %d items left out, the first: %s", source.name, len(reasons), reasons[0]
            )
        return rows

    def records_of(self, request: ChipRequest, source: Source) -> list[Record]:
        """The items of a request's scene in their order; none where one of them does not exist."""
        if source.is_static:
            near = self._search(source, items.grid_points(request.grid), None)
            return sorted(near, key=lambda r: r.item_id)
        ids = items.item_ids(request.scene_id)
        some = self.catalogue.fetch(self.served[source.name].collections, ids)
        by_id = {str(item["id"]): self._record(item, source) for item in some}
        records = [by_id.get(one) for one in ids]
        usable = [r for r in records if isinstance(r, Record)]
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
                self.catalogue.fetch(self.served[source].collections, list(some))
            except CatalogueError as error:
                errors[source] = str(error)
        return errors

    def leave_out(self, record: Record, source: Source, *, reason: str) -> None:
        """Remember that an item could not be used."""
        self._records[(source.name, record.collection, record.item_id)] = reason
        log.warning("%s: item %s left out: %s", source.name, record.item_id, reason)

    @property
    def left_out(self) -> pd.DataFrame:
        """``source``, ``item_id`` and ``reason`` of each item that could not be used."""
        rows = [(s, i, why) for (s, _, i), why in self._records.items() if isinstance(why, str)]
        return pd.DataFrame(rows, columns=["source", "item_id", "reason"])

    def _search(self, source: Source, points: np.ndarray, period: Period | None) -> list[Record]:
        if period is not None and source.dated_by != "instant":
            # a composite is found by its own date, which may lie as far back as it is long
            period = period[0] - 2 * sources.duration(source.cadence), period[1]
        names = self.served[source.name].collections
        some = self.catalogue.search(names, box=items.box_of(points), period=period)
        records = (self._record(item, source) for item in some)
        return [r for r in records if isinstance(r, Record)]

    def _record(self, item: Item, source: Source) -> Record | str:
        key = (source.name, str(item.get("collection") or ""), str(item["id"]))
        if key not in self._records:
            self._records[key] = items.record(item, source)
        return self._records[key]

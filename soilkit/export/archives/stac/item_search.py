"""Items of static catalogues and APIs, and the scenes of a source that they make at a place."""

import contextlib
import hashlib
import json
import logging
import math
import os
import re
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlparse

import numpy as np
import pandas as pd
import pystac
import shapely
import shapely.geometry

from soilkit import grids
from soilkit.constants import STATIC_SCENE
from soilkit.contracts import Grid
from soilkit.errors import CatalogueError
from soilkit.export.archives import scenes
from soilkit.files import write_text_whole
from soilkit.sources import Source, Stac

log = logging.getLogger(__name__)
Item = dict[str, Any]  # GeoJSON with absolute links to its assets
Box = tuple[float, float, float, float]
Period = tuple[np.datetime64, np.datetime64]
ROOT = "catalog.json"
PAGE = 100  # items a page of a search; most services allow more, some break on it
IDS_A_SEARCH = 50
HALF_WAY_DEG = 180.0  # nothing that a satellite sees at once is as wide
JOIN = "+"  # between the items of one scene
YEARS = range(1960, 2100)  # of images; 1, 9999 and the like stand for none
_SAFE = "-_.~ "  # ":" and "/" may not stand in a scene's id, and "+" joins
_NAT = np.datetime64("NaT", "us")
LINK_TIMEOUT_S = 60
MOST_BYTES = 2**28  # of one file of a catalogue: a million links are a third of it
# What ids tell of the platform where items do not, and what "LC08" as platform means.
PLATFORM_OF_ID = {r"L[A-Z]0?(\d)": r"landsat-\1", r"MOD\d": "terra", r"MYD\d": "aqua"}
_DATES = ("datetime", "start_datetime", "end_datetime", "updated")


def digest(words: Any) -> str:
    """Twelve letters that change when any of the words does."""
    text = json.dumps(words, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def plain(name: str) -> str:
    """A name in lower case without punctuation: "Sentinel-2 L2A" and "sentinel_2_l2a" are one."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


class ItemCache:
    """Items by collection and id, in memory and, where there is a folder, for other sessions.

    ``refused`` holds what is no item, by id or address, and why.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.refused: dict[str, str] = {}
        self._items: dict[tuple[str, str], Item] = {}
        self._folder = folder

    def keep(self, items: Iterable[Item]) -> None:
        """Keep items."""
        for item in items:
            key = (item["collection"], item["id"])
            if key not in self._items and self._folder:
                write_text_whole(self._path(*key), json.dumps(item))
            self._items[key] = item

    def fetch(self, collections: Sequence[str], ids: Sequence[str]) -> list[Item]:
        """The items of these ids in the collections; those that are not kept are left out."""
        items = (next(filter(None, (self._kept(c, i) for c in collections)), None) for i in ids)
        return [item for item in items if item is not None]

    def _kept(self, collection: str, item_id: str) -> Item | None:
        key = (collection, item_id)
        if key not in self._items and self._folder:
            with contextlib.suppress(Exception):  # what is damaged is asked for anew
                words = json.loads(self._path(*key).read_text(encoding="utf-8"))
                self._items[key] = _checked(words, "")
        return self._items.get(key)

    def _path(self, collection: str, item_id: str) -> Path:
        folder = (self._folder or Path()) / quote(collection or "_", safe="")
        return folder / f"{quote(item_id, safe='')}.json"


def _is_remote(href: str) -> bool:
    return "://" in href or href.startswith("/vsi")


def _absolute(href: str, address: str) -> str:
    """Where a link of the object at an address leads: a path, or an address on the network.

    Names on disk may hold what addresses escape, as it is or escaped: spaces, "#", "%".
    """
    if href.startswith("file:"):
        return urllib.request.url2pathname(urlparse(href).path)
    if _is_remote(href):
        return href.replace(" ", "%20")
    if _is_remote(address):
        return pystac.utils.make_absolute_href(href, address)
    paths = [os.path.normpath(Path(address).parent / name) for name in (href, unquote(href))]
    return next(filter(os.path.lexists, paths), paths[0])


def _checked(item: Mapping[str, Any], address: str) -> Item:
    """An item with texts, dictionaries and links that lead somewhere; whatever else it lacks.

    Of an object that is no item it raises what Python raises.
    """
    box_polygon(item.get("bbox") or ANYWHERE)
    assets = {
        key: {**asset, "href": _absolute(asset["href"], address)}
        for key, asset in (item.get("assets") or {}).items()
        if isinstance(asset, dict) and isinstance(asset.get("href"), str) and asset["href"]
    }
    texts = {"id": str(item["id"]), "collection": str(item.get("collection") or "")}
    return {**item, **texts, "properties": dict(item.get("properties") or {}), "assets": assets}


def explained(error: Exception) -> str:
    """An error in a line."""
    first = error.__cause__ or error
    return f"{type(first).__name__}: {str(first).strip()[:300]}"


# ---- a static catalogue on disk, read whole: all of pystac ---------------------------------------


class StaticCatalogue(ItemCache):
    """A catalogue of files: ``catalog.json``, its collections and their items.

    An item that is absent, broken or a second one of its id is refused, and so is a link to the
    network unless ``network``. Raises ``CatalogueError`` when there is no catalogue, or a
    collection of it is absent or broken.
    """

    def __init__(self, path: str | os.PathLike[str], *, network: bool = False) -> None:
        super().__init__()
        file = Path(path) / ROOT if Path(path).is_dir() else Path(path)
        if not file.is_file():
            raise CatalogueError(
                f"There is no STAC catalogue at {path}: wanted a {ROOT}, or the folder that holds "
                "it. Give the file's path when it is named otherwise, or an API's address "
                "(https://...)."
            )
        root, *words = self._walk(str(file), network=network)
        if root["type"] == "Feature":
            raise CatalogueError(f"{file} is an item of a STAC catalogue; wanted its {ROOT}.")
        self.catalogue_id = root["id"]
        self._of: dict[str, list[Item]] = {}
        for item in (one for one in words if one["type"] == "Feature"):
            if (item["collection"], item["id"]) in self._items:
                self.refused[item["id"]] = f"a second item of that id in {item['collection']}"
                continue
            self.keep([item])
            self._of.setdefault(item["collection"], []).append(item)
        read = {one["id"]: one for one in (root, *words) if one["type"] == "Collection"}
        self.collections: Mapping[str, Item] = dict.fromkeys(self._of, {}) | read
        self._boxes = {
            name: shapely.STRtree([box_polygon(one.get("bbox") or ANYWHERE) for one in items])
            for name, items in self._of.items()
        }
        for name, reason in self.refused.items():
            log.warning("%s: %s left out: %s", self.catalogue_id, name, reason)

    def fingerprint(self) -> str:
        """The ids and times of all items."""
        rows = [
            [*key, *(item["properties"].get(date) for date in _DATES)]
            for key, item in self._items.items()
        ]
        return json.dumps(sorted(rows, key=str))

    def search(self, collections: Sequence[str], *, box: Box, period: Period | None) -> list[Item]:
        """Items whose bounding box meets the box, whatever their time."""
        return [
            self._of[name][n]
            for name in collections
            if name in self._of
            for n in np.sort(self._boxes[name].query(box_polygon(box), predicate="intersects"))
        ]

    def _walk(self, root: str, *, network: bool) -> Iterator[Item]:
        """A catalogue, its collections and items, each once, in the order of their links.

        pystac's own walk would search all links of a catalogue for each of its items.
        """
        waiting, met = [("root", root, "")], set()
        while waiting:
            kind, href, parent = waiting.pop()
            is_closed = _is_remote(href) and not network
            is_name = not _is_remote(href) and "\0" not in href
            place = os.path.realpath(href) if is_name else href
            if place in met:
                continue
            met.add(place)
            try:
                if is_closed:
                    raise ValueError("it lies on the network; network=True lets links lead there")
                words, links = _read(href, parent)
            except Exception as error:  # json, pystac and the disk raise whatever they like
                reason = f"cannot be read as STAC ({explained(error)})"
                remedy = "Repair or remove this file and the link to it."
                if kind != "item" and not is_closed:
                    raise CatalogueError(f"{href} {reason}. {remedy}") from error
                self.refused[href] = f"it {reason}. {remedy}"
                continue
            yield words
            waiting += [(rel, link, words["id"]) for rel, link in reversed(links)]


def _read(href: str, parent: str) -> tuple[Item, list[tuple[str, str]]]:
    """A STAC object as of today's version, and the kind and place of each of its links.

    An item without a collection is the parent's.
    """
    if _is_remote(href):
        with urllib.request.urlopen(href, timeout=LINK_TIMEOUT_S) as answer:  # noqa: S310
            text = answer.read(MOST_BYTES + 1)
    else:
        if os.path.exists(href) and not os.path.isfile(href):
            raise ValueError("it is no regular file")
        with open(href, "rb") as file:
            text = file.read(MOST_BYTES + 1)
    if len(text) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES >> 20} MB: divide it")
    words = json.loads(text)
    about = pystac.serialization.identify_stac_object(words)
    words = pystac.serialization.migrate_to_latest(words, about)
    if words["type"] == "Feature":
        return _checked({**words, "collection": words.get("collection") or parent}, href), []
    links = [one for one in words["links"] if one["rel"] in ("item", "child")]
    places = [(one["rel"], _absolute(str(one.get("href")), href)) for one in links]
    return {**words, "id": str(words["id"])}, places


# ---- an API, asked by place and time: all of pystac-client ---------------------------------------


class Service(ItemCache):
    """A STAC API at the address of its root; what it was once asked for is not asked again.

    Raises ``CatalogueError`` when the service cannot be reached or is none.
    """

    def __init__(
        self, url: str, *, headers: Mapping[str, str] | None, timeout_s: float, folder: Path | None
    ) -> None:
        from pystac_client import Client

        super().__init__(folder)
        self.url, self.timeout_s = url, timeout_s
        with self._answering("its collections"):
            self._client = Client.open(url, headers=dict(headers or {}), timeout=timeout_s)
            self.catalogue_id = str(self._client.id)
            self.collections: Mapping[str, Item] = {
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
        kept = {item["id"] for item in super().fetch(collections, ids)}
        missing = [one for one in ids if one not in kept]
        for first in range(0, len(missing), IDS_A_SEARCH):
            self._ask(collections, ids=missing[first : first + IDS_A_SEARCH])
        return super().fetch(collections, ids)

    def _ask(self, collections: Sequence[str], **words: Any) -> list[Item]:
        with self._answering(", ".join(collections)):
            search = self._client.search(limit=PAGE, collections=list(collections), **words)
            answers = list(search.items_as_dicts())
        items = []
        for item in answers:
            try:
                links = {one.get("rel"): one.get("href") for one in item.get("links") or ()}
                items.append(_checked(item, links.get("self") or ""))
            except Exception as error:  # one bad item costs no other
                name = item.get("id") if isinstance(item, dict) else item
                self.refused[str(name)] = explained(error)
        self.keep(items)
        return items

    @contextlib.contextmanager
    def _answering(self, asked_for: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # pystac-client hands on whatever json or requests raised
            raise CatalogueError(
                f"The STAC service {self.url} did not answer when asked for {asked_for} "
                f"({explained(error)}). Wanted an answer within {self.timeout_s:g} s: check the "
                "address and the network, then try again."
            ) from error


# ---- where an item lies --------------------------------------------------------------------------

ANYWHERE = (-180.0, -90.0, 180.0, 90.0)


def grid_points(grid: Grid) -> np.ndarray:
    """The pixel centres of a grid, (point, 2) longitude and latitude."""
    return np.stack([degrees.ravel() for degrees in grids.lonlat(grid)], axis=1)


def box_of(points: np.ndarray) -> Box:
    """(west, south, east, north) of points that lie close together.

    West is larger than east where the antimeridian runs between them, as in GeoJSON.
    """
    x, y = points.T
    across = np.ptp(x) > HALF_WAY_DEG
    west, east = (x[x > 0].min(), x[x <= 0].max()) if across else (x.min(), x.max())
    return float(west), float(y.min()), float(east), float(y.max())


def box_polygon(box: Sequence[float]) -> Any:
    """A bounding box of four numbers, or six with heights; two polygons beyond 180 degrees.

    ``ValueError`` or ``TypeError`` for any other box.
    """
    west, south, east, north = (*box[:2], *box[len(box) // 2 :][:2])
    if len(box) not in (4, 6) or not all(map(math.isfinite, (west, south, east, north))):
        raise ValueError(f"its bounding box is {box}; wanted west, south, east, north in degrees")
    return _turned(shapely.box(west, south, east if west <= east else east + 360, north))


def _turned(area: Any) -> Any:
    """What reaches beyond 180 degrees, as it is and a turn to the west."""
    if area.bounds[2] <= HALF_WAY_DEG:
        return area
    west = shapely.transform(area, lambda v: v - (360.0, 0.0))
    return shapely.GeometryCollection([area, west])


def _area(geometry: Any) -> Any:
    """A GeoJSON polygon, or several; None for anything else."""
    try:
        area = shapely.geometry.shape(geometry)
    except Exception:  # shapely raises whatever its input provokes
        return None
    polygonal = area.geom_type in ("Polygon", "MultiPolygon") and not area.is_empty
    return area if polygonal and np.isfinite(area.bounds).all() else None


def _parted(area: Any) -> Any:
    """A scene's polygon across the antimeridian, once on either side of it.

    Many catalogues do not part such polygons, whose edges then seem to run around the Earth.
    """
    west, _, east, _ = area.bounds
    if east - west > HALF_WAY_DEG and area.geom_type != "MultiPolygon":
        area = shapely.transform(area, lambda v: np.stack([v[:, 0] % 360, v[:, 1]], axis=1))
    return _turned(area)


# ---- items of a source, and scenes over a place --------------------------------------------------


@dataclass(frozen=True, eq=False)
class Record:
    """One item of a catalogue, seen as imagery of one source; ``footprint`` is a polygon."""

    item: Item
    start: np.datetime64
    end: np.datetime64
    footprint: Any
    is_proper: bool  # the footprint is where the pixels are, and no mere bounding box

    @property
    def item_id(self) -> str:
        """The item's id, unique in its collection."""
        return self.item["id"]

    @property
    def cloud_fraction(self) -> float:
        """``eo:cloud_cover`` as a fraction; NaN where the item does not say, or no percentage."""
        try:
            percent = float(self.item["properties"]["eo:cloud_cover"])
        except (KeyError, TypeError, ValueError):
            return float("nan")
        return percent / 100 if 0 <= percent <= 100 else float("nan")

    def says(self, name: str) -> str:
        """A property in words, empty where unknown."""
        return str(self.item["properties"].get(name) or "")


def record_of(item: Item, source: Source) -> Record | str:
    """An item as a record of a source, or why it is none."""
    if reason := _unfit(item, source.stac):
        return reason
    area, box = _area(item.get("geometry")), item.get("bbox")
    if area is None and not box:
        return "it has neither a polygon nor a bounding box"
    imagery = source.resolution == "high" and not source.is_static
    proper = area is not None and not (imagery and area.equals(area.envelope))
    try:
        start, end = (_NAT, _NAT) if source.is_static else interval(item["properties"], source)
    except ValueError as error:
        return str(error)
    if area is None:
        return Record(item, start, end, box_polygon(box or ()), proper)
    return Record(item, start, end, _parted(area) if imagery else _turned(area), proper)


def _unfit(item: Item, wanted: Stac) -> str:
    """Radar comes in several modes and polarisations, and platforms share a collection."""
    properties = item["properties"]
    mode = properties.get("sar:instrument_mode") or properties.get("s1:instrument_mode")
    if wanted.mode and mode and str(mode).upper() != wanted.mode:
        return f"instrument mode {mode}, wanted {wanted.mode}"
    said, both = properties.get("sar:polarizations"), wanted.polarisations
    beams = re.findall("[HV]{2}", str(said).upper())  # of a list or a text
    if said and not set(both) <= set(beams):
        return f"polarisations {' '.join(beams) or said}, wanted {' and '.join(both)}"
    platform, usual = platform_of(item), {plain(one.id) for one in wanted.collections}
    if wanted.platform and platform and plain(platform) != plain(wanted.platform):
        return f"platform {platform}, wanted {wanted.platform}"
    if wanted.platform and not platform and plain(item["collection"]) in usual:
        return f"it states no platform, and several share its collection; wanted {wanted.platform}"
    return ""


def platform_of(item: Item) -> str:
    """The platform that an item states, or else its id; empty where neither does."""
    said = str(item["properties"].get("platform") or item["properties"].get("eo:platform") or "")
    known = (re.match(key, said or item["id"]) for key in PLATFORM_OF_ID)
    names = (one.expand(PLATFORM_OF_ID[one.re.pattern]) for one in known if one)
    return next(names, said)


def interval(properties: Mapping[str, Any], source: Source) -> Period:
    """Start and end of an item's acquisition or composite, UTC.

    ``start_datetime`` and ``end_datetime`` where they are given; a lone ``datetime`` is what the
    source is dated by: an instant, the start or the middle of a composite as long as its cadence.
    Raises ``ValueError`` without a time, with one that is none, or with an end before its start.
    """
    first, last = (properties.get(f"{end}_datetime") for end in ("start", "end"))
    if first and last:
        start, end = _utc(first), _utc(last)
        if start > end:
            raise ValueError(f"it ends ({last}) before it starts ({first})")
        return start, end
    if not properties.get("datetime"):
        raise ValueError("it has no datetime")
    span = scenes.interval(source, np.array([_utc(properties["datetime"])])).to_numpy()
    return span[0, 0], span[0, 1]


def _utc(text: str) -> np.datetime64:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            moment = moment.astimezone(UTC).replace(tzinfo=None)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is no time as in 2020-06-30T23:59:59Z ({error})") from error
    if moment.year not in YEARS:
        raise ValueError(f"{text} is no year of satellites")
    return np.datetime64(moment, "us")


def item_ids(scene_id: str) -> list[str]:
    """The items of a scene, whose ids stand in the scene's own."""
    return [unquote(part) for part in scene_id.split(JOIN)]


@dataclass(frozen=True, eq=False)
class Scene:
    """Records that make one scene over a station, and what the scenes table says of it."""

    records: list[Record]
    scene_id: str
    start: np.datetime64
    end: np.datetime64
    cloud_fraction: float
    orbit: str
    valid_fraction: float


def scenes_of(records: Iterable[Record], source: Source, *, points: np.ndarray) -> Iterator[Scene]:
    """The scenes that cover some of the points, (point, 2) longitude and latitude."""
    inside = {one: shapely.intersects_xy(one.footprint, *points.T) for one in records}
    for group in _grouped([one for one in inside if inside[one].any()], source):
        covered = np.any([inside[one] for one in group], axis=0).mean()
        # what a file name or the join mark would stumble over is escaped
        ids = JOIN.join(quote(one.item_id, safe=_SAFE) for one in group)
        yield Scene(
            records=group,
            scene_id=STATIC_SCENE if source.is_static else ids,
            start=min(one.start for one in group),
            end=max(one.end for one in group),
            cloud_fraction=float(np.max([one.cloud_fraction for one in group])),
            orbit=group[0].says("sat:orbit_state"),
            valid_fraction=float(covered) if all(one.is_proper for one in group) else np.nan,
        )


def _grouped(records: list[Record], source: Source) -> list[list[Record]]:
    """Records of one scene each: slices of a radar pass, tiles of a composite, static layers."""
    said = [(one.says("platform"), one.says("sat:orbit_state")) for one in records]
    rows = [(r, r.item_id, r.start, r.end, *more) for r, more in zip(records, said, strict=True)]
    table = pd.DataFrame(rows, columns=["record", "id", "start", "end", "platform", "orbit"])
    key = ["start", "end"]
    if source.sliced:
        table = table.sort_values(["platform", "orbit", "start", "id"])
        key = ["pass"]
        table = table.assign(**{"pass": scenes.pass_numbers(table, flight=["platform", "orbit"])})
    elif source.resolution == "high" and not source.is_static:
        key = ["id"]
    else:
        table = table.sort_values("id")
    groups = table.groupby(key, sort=False, dropna=False)["record"]
    return [list(rows) for _, rows in groups]

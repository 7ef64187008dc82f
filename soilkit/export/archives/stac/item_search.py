"""Items of static catalogues and APIs, and the scenes of a source that they make at a place."""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
import pandas as pd
import pystac
import shapely
import shapely.geometry

from soilkit import grids, sources
from soilkit.constants import STATIC_SCENE
from soilkit.contracts import ChipRequest, Grid
from soilkit.errors import CatalogueError
from soilkit.export.archives.scenes import pass_numbers
from soilkit.files import write_text_whole
from soilkit.sources import Source

log = logging.getLogger(__name__)
Item = dict[str, Any]  # GeoJSON with absolute links to its assets
Box = tuple[float, float, float, float]
Period = tuple[np.datetime64, np.datetime64]
ROOT = "catalog.json"
PAGE = 100  # items a page of a search; most services allow more, some break on it
IDS_A_SEARCH = 50
POINTS_A_SIDE = 32  # a covered fraction is stated in steps of a thousandth
PASS_LENGTH = np.timedelta64(10 * 60, "s")  # how far a scene may reach beyond one of its slices
HALF_WAY_DEG = 180.0  # nothing that a satellite sees at once is as wide
JOIN = "+"  # between the items of one scene
_SAFE = "-_.~ "  # ":" and "/" may not stand in a scene's id, and "+" joins
_NAT = np.datetime64("NaT", "us")
_WRONG = (OSError, ValueError, LookupError, TypeError, AttributeError)  # of a file or its words
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

    def keep(self, items: Iterable[Item]) -> None:
        """Keep items."""
        for item in items:
            key = (str(item.get("collection") or ""), str(item["id"]))
            if key not in self._items and self._folder:
                write_text_whole(self._path(*key), json.dumps(item))
            self._items[key] = item

    def fetch(self, collections: Sequence[str], ids: Sequence[str]) -> list[Item]:
        """The items of these ids in the collections; those that are not kept are left out."""
        items = (next(filter(None, (self._kept(c, i) for c in collections)), None) for i in ids)
        return [item for item in items if item is not None]

    def _kept(self, collection: str, item_id: str) -> Item | None:
        key = (collection, item_id)
        if key not in self._items and self._folder and self._path(*key).exists():
            self._items[key] = json.loads(self._path(*key).read_text(encoding="utf-8"))
        return self._items.get(key)

    def _path(self, collection: str, item_id: str) -> Path:
        folder = (self._folder or Path()) / quote(collection or "_", safe="")
        return folder / f"{quote(item_id, safe='')}.json"


def _with_absolute_links(item: Item, address: str) -> Item:
    """An item whose assets can be opened: links are relative to the item's own address."""
    assets = {
        key: {**asset, "href": pystac.utils.make_absolute_href(asset["href"], address)}
        for key, asset in (item.get("assets") or {}).items()
        if asset.get("href")
    }
    return {**item, "assets": assets}


# ---- a static catalogue on disk, read whole: all of pystac ---------------------------------------


class StaticCatalogue(ItemCache):
    """A catalogue of files: ``catalog.json``, its collections and their items.

    Raises
    ------
    CatalogueError
        When there is no catalogue, or one of its files is absent or broken.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        file = Path(path) / ROOT if Path(path).is_dir() else Path(path)
        if not file.is_file():
            raise CatalogueError(
                f"There is no STAC catalogue at {path}: wanted a {ROOT}, or the folder that holds "
                "it. Give the file's path when it is named otherwise, or an API's address "
                "(https://...)."
            )
        root, *words = _walk(str(file), "", met=set())
        if root["type"] == "Feature":
            raise CatalogueError(f"{file} is an item of a STAC catalogue; wanted its {ROOT}.")
        self.catalogue_id = root["id"]
        self.keep(one for one in words if one["type"] == "Feature")
        self._of: dict[str, list[Item]] = {}
        for (collection, _), item in self._items.items():
            self._of.setdefault(collection, []).append(item)
        read = {one["id"]: one for one in (root, *words) if one["type"] == "Collection"}
        self.collections: Mapping[str, Item] = dict.fromkeys(self._of, {}) | read
        self._boxes = {
            name: shapely.STRtree([box_polygon(one.get("bbox") or ANYWHERE) for one in items])
            for name, items in self._of.items()
        }

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


def _walk(href: str, parent: str, *, met: set[str]) -> Iterator[Item]:
    """A catalogue, its collections and items, each once, in the order of their links.

    Objects of older versions come as today's; items without a collection are the parent's. pystac's
    own walk would search all links of a catalogue for each of its items, and follow circles.
    """
    if href in met:
        return
    met.add(href)
    try:
        words = pystac.StacIO.default().read_json(href)
        about = pystac.serialization.identify_stac_object(words)
        words = pystac.serialization.migrate_to_latest(words, about)
        links = [one["href"] for one in words["links"] if one["rel"] in ("item", "child")]
        words["id"] = str(words["id"])
        if words["type"] == "Feature":
            words["collection"] = words.get("collection") or parent
            words["properties"] = dict(words["properties"])
            words, links = _with_absolute_links(words, href), []
    except (*_WRONG, pystac.STACError, pystac.STACTypeError) as error:
        first = error.__cause__ or error
        raise CatalogueError(
            f"{href} cannot be read as STAC ({type(first).__name__}: {str(first)[:300]}). Repair "
            "or remove this file and the link to it."
        ) from error
    yield words
    for link in links:
        yield from _walk(pystac.utils.make_absolute_href(link, href), words["id"], met=met)


# ---- an API, asked by place and time: all of pystac-client ---------------------------------------


class Service(ItemCache):
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
        kept = {str(item["id"]) for item in super().fetch(collections, ids)}
        missing = [one for one in ids if one not in kept]
        for first in range(0, len(missing), IDS_A_SEARCH):
            self._ask(collections, ids=missing[first : first + IDS_A_SEARCH])
        return super().fetch(collections, ids)

    def _ask(self, collections: Sequence[str], **words: Any) -> list[Item]:
        with self._answering(", ".join(collections)):
            search = self._client.search(limit=PAGE, collections=list(collections), **words)
            items = []
            for item in search.items_as_dicts():
                own = (one["href"] for one in item.get("links", []) if one.get("rel") == "self")
                items.append(_with_absolute_links(item, next(own, "")))
        self.keep(items)
        return items

    @contextlib.contextmanager
    def _answering(self, asked_for: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # pystac-client hands on whatever json or requests raised
            raise CatalogueError(
                f"The STAC service {self.url} did not answer when asked for {asked_for} "
                f"({type(error).__name__}: {str(error).strip()[:300]}). Wanted an answer within "
                f"{self.timeout_s:g} s: check the address and the network, then try again."
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
    """A bounding box of four numbers, or six with heights; two polygons across 180 degrees."""
    west, south, east, north = (*box[:2], *box[len(box) // 2 :][:2])
    if west <= east:
        return shapely.box(west, south, east, north)
    return shapely.MultiPolygon(
        [shapely.box(west, south, 180, north), shapely.box(-180, south, east, north)]
    )


def _area(geometry: Any) -> Any:
    """A GeoJSON polygon, or several; None for anything else."""
    try:
        area = shapely.geometry.shape(geometry)
    except (*_WRONG, shapely.errors.ShapelyError):
        return None
    polygonal = area.geom_type in ("Polygon", "MultiPolygon")
    return area if polygonal and not area.is_empty else None


def _parted(area: Any) -> Any:
    """A scene's polygon across the antimeridian, once on either side of it.

    Many catalogues do not part such polygons, whose edges then seem to run around the Earth.
    """
    west, _, east, _ = area.bounds
    if east - west <= HALF_WAY_DEG or area.geom_type == "MultiPolygon":
        return area
    eastern = shapely.transform(area, lambda v: np.stack([v[:, 0] % 360, v[:, 1]], axis=1))
    return shapely.MultiPolygon([eastern, shapely.transform(eastern, lambda v: v - (360.0, 0.0))])


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
        return str(self.item["id"])

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


def record(item: Item, source: Source) -> Record | str:
    """An item as a record of a source, or why it is none.

    Radar comes in several modes and polarisations, of which the row names the wanted.
    """
    properties = item["properties"]
    mode = properties.get("sar:instrument_mode") or properties.get("s1:instrument_mode")
    if source.stac.mode and mode and str(mode).upper() != source.stac.mode:
        return f"instrument mode {mode}, wanted {source.stac.mode}"
    beams, wanted = properties.get("sar:polarizations"), source.stac.polarisations
    if beams and not set(wanted) <= {str(beam).upper() for beam in beams}:
        return f"polarisations {' '.join(map(str, beams))}, wanted {' and '.join(wanted)}"
    area, box = _area(item.get("geometry")), item.get("bbox")
    if area is None and not box:
        return "it has neither a polygon nor a bounding box"
    footprint = box_polygon(box or ()) if area is None else area
    imagery = source.resolution == "high" and not source.is_static
    proper = area is not None and not (imagery and area.equals(area.envelope))
    try:
        start, end = (_NAT, _NAT) if source.is_static else interval(properties, source)
    except ValueError as error:
        return str(error)
    return Record(item, start, end, _parted(footprint) if imagery else footprint, proper)


def interval(properties: Mapping[str, Any], source: Source) -> Period:
    """Start and end of an item's acquisition or composite, UTC.

    ``start_datetime`` and ``end_datetime`` where they are given; a lone ``datetime`` is what the
    source is dated by: an instant, the start or the middle of a composite as long as its cadence.

    Raises
    ------
    ValueError
        Without a time, with one that is none, or with an end before its start.
    """
    first, last = (properties.get(f"{end}_datetime") for end in ("start", "end"))
    if first and last:
        start, end = _utc(first), _utc(last)
        if start > end:
            raise ValueError(f"it ends ({last}) before it starts ({first})")
        return start, end
    if not properties.get("datetime"):
        raise ValueError("it has no datetime")
    moment = _utc(properties["datetime"])
    if source.dated_by == "instant":
        return moment, moment
    length = sources.duration(source.cadence).astype("timedelta64[us]")
    start = moment if source.dated_by == "start" else moment - length // 2
    return start, start + length


def _utc(text: str) -> np.datetime64:
    return np.datetime64(pd.to_datetime(text, utc=True).tz_localize(None), "us")


def item_ids(scene_id: str) -> list[str]:
    """The items of a scene, whose ids stand in the scene's own.

    Examples
    --------
    >>> item_ids("a%3A1+b")
    ['a:1', 'b']
    """
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
    table = pd.DataFrame(
        {
            "record": records,
            "id": [one.item_id for one in records],
            "start": [one.start for one in records],
            "end": [one.end for one in records],
            "platform": [one.says("platform") for one in records],
            "orbit": [one.says("sat:orbit_state") for one in records],
        }
    )
    key = ["start", "end"]
    if source.sliced:
        table = table.sort_values(["platform", "orbit", "start", "id"])
        key = ["pass"]
        table = table.assign(**{"pass": pass_numbers(table, flight=["platform", "orbit"])})
    elif source.resolution == "high" and not source.is_static:
        key = ["id"]
    else:
        table = table.sort_values("id")
    groups = table.groupby(key, sort=False, dropna=False)["record"]
    return [list(rows) for _, rows in groups]


class SceneIndex:
    """Looks scenes up in a catalogue and remembers which items could not be used, and why.

    Parameters
    ----------
    catalogue : StaticCatalogue or Service
    collections : {source: ids of the collections that serve it}
    footprint_m : float, m, side of the square around a station that a scene must touch
    workers : int, searches at once
    """

    def __init__(
        self,
        catalogue: StaticCatalogue | Service,
        collections: Mapping[str, Sequence[str]],
        *,
        footprint_m: float,
        workers: int,
    ) -> None:
        self.catalogue, self.collections = catalogue, collections
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
            grid = grids.chip_grid(*at, size_px=POINTS_A_SIDE, pixel_size_m=pixel_m)
            near = self._search(source, grid_points(grid), None if source.is_static else wider)
            near = [r for r in near if np.isnat(r.end) or wider[0] <= r.end < wider[1]]
            scenes = scenes_of(near, source, points=grid_points(grid))
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
            near = self._search(source, grid_points(request.grid), None)
            return sorted(near, key=lambda r: r.item_id)
        ids = item_ids(request.scene_id)
        items = self.catalogue.fetch(self.collections[source.name], ids)
        records = [self._record(item, source) for item in items]
        usable = [one for one in records if isinstance(one, Record)]
        return usable if len(usable) == len(ids) else []

    def prepare(self, requests: Iterable[ChipRequest]) -> dict[str, str]:
        """Fetch the items of many scenes together; what went wrong, by source."""
        wanted: dict[str, dict[str, None]] = {}
        for request in requests:
            if request.source in self.collections and not sources.get(request.source).is_static:
                ids = item_ids(request.scene_id)
                wanted.setdefault(request.source, {}).update(dict.fromkeys(ids))
        errors = {}
        for source, names in wanted.items():
            try:
                self.catalogue.fetch(self.collections[source], list(names))
            except CatalogueError as error:
                errors[source] = str(error)
        return errors

    def leave_out(self, record: Record, source: Source, *, reason: str) -> None:
        """Remember that an item could not be used."""
        self._records[_key(record.item, source)] = reason
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
        names = self.collections[source.name]
        items = self.catalogue.search(names, box=box_of(points), period=period)
        records = (self._record(item, source) for item in items)
        return [one for one in records if isinstance(one, Record)]

    def _record(self, item: Item, source: Source) -> Record | str:
        key = _key(item, source)
        if key not in self._records:
            self._records[key] = record(item, source)
        return self._records[key]


def _key(item: Item, source: Source) -> tuple[str, str, str]:
    return source.name, str(item.get("collection") or ""), str(item["id"])

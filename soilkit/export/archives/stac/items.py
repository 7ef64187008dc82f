"""STAC items as records of a source, and records as scenes: where, when, and of what."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
import pandas as pd
import shapely
import shapely.geometry

from soilkit import grids, sources
from soilkit.constants import STATIC_SCENE
from soilkit.contracts import Grid
from soilkit.export.archives.scenes import pass_numbers
from soilkit.sources import Source

Box = tuple[float, float, float, float]
Period = tuple[np.datetime64, np.datetime64]
HALF_WAY_DEG = 180.0  # nothing that a satellite sees at once is as wide
JOIN = "+"  # between the items of one scene
_SAFE = "-_.~ "  # ":" and "/" may not stand in a scene's id, and "+" joins
_NAT = np.datetime64("NaT", "us")
_NO_POLYGON = (
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    AttributeError,
    shapely.errors.ShapelyError,
)
_SERIES = ["station_id", "scene_id", "start", "end"]


def grid_points(grid: Grid) -> np.ndarray:
    """The pixel centres of a grid, (point, 2) longitude and latitude."""
    longitude, latitude = grids.lonlat(grid)
    return np.stack([longitude.ravel(), latitude.ravel()], axis=1)


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


class BoxTree:
    """Bounding boxes, searched by another box; an item without one may lie anywhere."""

    def __init__(self, some: Iterable[Mapping[str, Any]]) -> None:
        boxes = (item.get("bbox") or (-180.0, -90.0, 180.0, 90.0) for item in some)
        self._tree = shapely.STRtree([box_polygon(box) for box in boxes])

    def meeting(self, box: Box) -> np.ndarray:
        """The positions of items whose box meets this one, ascending."""
        return np.sort(self._tree.query(box_polygon(box), predicate="intersects"))


def _area(geometry: Any) -> Any:
    """A GeoJSON polygon, or several; None for anything else."""
    try:
        area = shapely.geometry.shape(geometry)
    except _NO_POLYGON:
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


@dataclass(frozen=True, eq=False)
class Record:
    """One item of a catalogue, seen as imagery of one source; ``footprint`` is a polygon."""

    item_id: str
    collection: str
    start: np.datetime64
    end: np.datetime64
    footprint: Any
    is_proper: bool  # the footprint is where the pixels are, and no mere bounding box
    properties: Mapping[str, Any]
    assets: Mapping[str, Any]

    @property
    def cloud_fraction(self) -> float:
        """``eo:cloud_cover`` as a fraction; NaN where the item does not say, or no percentage."""
        try:
            percent = float(self.properties["eo:cloud_cover"])
        except (KeyError, TypeError, ValueError):
            return float("nan")
        return percent / 100 if 0 <= percent <= 100 else float("nan")

    @property
    def orbit(self) -> str:
        """ "ascending" or "descending", empty where unknown."""
        return str(self.properties.get("sat:orbit_state") or "")

    @property
    def flight(self) -> tuple[str, str]:
        """Items of one flight may be slices of one pass."""
        return str(self.properties.get("platform") or ""), self.orbit


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


def record(item: Mapping[str, Any], source: Source) -> Record | str:
    """An item as a record of a source, or why it is none."""
    properties = item.get("properties") or {}
    reason = _unfit(properties, source)
    if reason:
        return reason
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
    return Record(
        item_id=str(item["id"]),
        collection=str(item.get("collection") or ""),
        start=start,
        end=end,
        footprint=_parted(footprint) if imagery else footprint,
        is_proper=proper,
        properties=properties,
        assets=item.get("assets") or {},
    )


def _unfit(properties: Mapping[str, Any], source: Source) -> str:
    """Radar comes in several modes and polarisations, of which the row names the wanted."""
    mode = properties.get("sar:instrument_mode") or properties.get("s1:instrument_mode")
    if source.stac.mode and mode and str(mode).upper() != source.stac.mode:
        return f"instrument mode {mode}, wanted {source.stac.mode}"
    beams, wanted = properties.get("sar:polarizations"), source.stac.polarisations
    if beams and not set(wanted) <= {str(beam).upper() for beam in beams}:
        return f"polarisations {' '.join(map(str, beams))}, wanted {' and '.join(wanted)}"
    return ""


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
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return np.datetime64(moment, "us")


def item_ids(scene_id: str) -> list[str]:
    """The items of a scene, whose ids stand in the scene's own.

    Examples
    --------
    >>> item_ids("a%3A1+b")
    ['a:1', 'b']
    """
    return [unquote(part) for part in scene_id.split(JOIN)]


def scenes_of(records: Iterable[Record], source: Source, *, points: np.ndarray) -> Iterator[Scene]:
    """The scenes that cover some of the points, (point, 2) longitude and latitude."""
    x, y = points.T
    is_inside = {r: shapely.intersects_xy(r.footprint, x, y) for r in records}
    for group in _grouped([r for r in is_inside if is_inside[r].any()], source):
        covered = np.any([is_inside[r] for r in group], axis=0)
        yield Scene(
            records=group,
            # what a file name or the join mark would stumble over is escaped
            scene_id=STATIC_SCENE
            if source.is_static
            else JOIN.join(quote(r.item_id, safe=_SAFE) for r in group),
            start=min(r.start for r in group),
            end=max(r.end for r in group),
            cloud_fraction=float(np.max([r.cloud_fraction for r in group])),
            orbit=group[0].orbit,
            valid_fraction=float(covered.mean()) if all(r.is_proper for r in group) else np.nan,
        )


def _grouped(records: list[Record], source: Source) -> list[list[Record]]:
    """Records of one scene each: slices of a radar pass, tiles of a composite, static layers."""
    if source.resolution == "high" and not source.is_static and not source.sliced:
        return [[one] for one in records]
    if source.sliced:
        records = sorted(records, key=lambda r: (r.flight, r.start, r.item_id))
        rows = [(*one.flight, one.start, one.end) for one in records]
        images = pd.DataFrame(rows, columns=["platform", "orbit", "start", "end"])
        keys = pass_numbers(images, flight=["platform", "orbit"]).tolist()
    else:
        records = sorted(records, key=lambda r: r.item_id)
        keys = [(str(one.start), str(one.end)) for one in records]
    groups: dict[Any, list[Record]] = {}
    for key, one in zip(keys, records, strict=True):
        groups.setdefault(key, []).append(one)
    return list(groups.values())


def series_table(bands: list[str], rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows of stations, scenes and band values as a series table."""
    kinds: dict[str, str] = dict.fromkeys(("station_id", "scene_id"), "category")
    kinds |= dict.fromkeys(("start", "end"), "datetime64[us]")
    return pd.DataFrame(rows, columns=[*_SERIES, *bands]).astype(
        kinds | dict.fromkeys(bands, "float32")
    )

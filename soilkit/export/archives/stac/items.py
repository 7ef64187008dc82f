"""STAC items as records: where, when, and which of their assets serve which source and band."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
import pandas as pd

from soilkit import grids, sources
from soilkit.errors import ContractError, UnknownNameError
from soilkit.sources import Source

HALF_WAY_DEG = 180.0  # nothing that a satellite sees at once is as wide
POINTS_A_SIDE = 32  # a covered fraction is told in steps of a thousandth
Geometry = Mapping[str, Any]
Box = tuple[float, float, float, float]


def footprint_points(latitude: float, longitude: float, *, side_m: float) -> np.ndarray:
    """Points spread evenly over the square around a station, (point, 2) longitude and latitude."""
    grid = grids.chip_grid(
        latitude, longitude, size_px=POINTS_A_SIDE, pixel_size_m=side_m / POINTS_A_SIDE
    )
    return grid_points(grid)


def grid_points(grid) -> np.ndarray:
    """The pixel centres of a grid, (point, 2) longitude and latitude."""
    longitude, latitude = grids.lonlat(grid)
    return np.stack([longitude.ravel(), latitude.ravel()], axis=1)


def box_of(points: np.ndarray) -> Box:
    """(west, south, east, north) of points that lie close together.

    West is larger than east where the antimeridian runs between them, as in GeoJSON.
    """
    x, y = points.T
    if np.ptp(x) > HALF_WAY_DEG:
        return float(x[x > 0].min()), float(y.min()), float(x[x <= 0].max()), float(y.max())
    return float(x.min()), float(y.min()), float(x.max()), float(y.max())


def spans(box: Box) -> list[tuple[float, float]]:
    """The (west, east) of a box: one, or two on both sides of the antimeridian."""
    west, _, east, _ = box
    return [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]


def meets(one: Box, other: Box) -> bool:
    """Whether two boxes share a point."""
    in_line = any(a <= d and c <= b for a, b in spans(one) for c, d in spans(other))
    return in_line and one[1] <= other[3] and other[1] <= one[3]


def polygon(box: Sequence[float]) -> Geometry:
    """A box as GeoJSON; a bounding box with heights has six numbers."""
    west, south, east, north = (*box[:2], *box[len(box) // 2 :][:2])
    rings = [
        [[[w, south], [e, south], [e, north], [w, north], [w, south]]]
        for w, e in spans((west, south, east, north))
    ]
    if len(rings) == 1:
        return {"type": "Polygon", "coordinates": rings[0]}
    return {"type": "MultiPolygon", "coordinates": rings}


def parted(geometry: Geometry) -> Geometry:
    """A scene's polygon across the antimeridian, once on either side of it.

    Many catalogues do not part such polygons, whose edges then seem to run around the Earth.
    """
    west, _, east, _ = extent(geometry)
    if east - west <= HALF_WAY_DEG or geometry["type"] == "MultiPolygon":
        return geometry
    rings = next(_polygons(geometry))
    eastern = [np.stack([r[:, 0] % 360, r[:, 1]], axis=1) for r in rings]
    western = [r - (360.0, 0.0) for r in eastern]
    parts = [[ring.tolist() for ring in some] for some in (eastern, western)]
    return {"type": "MultiPolygon", "coordinates": parts}


def _polygons(geometry: Geometry) -> Iterator[list[np.ndarray]]:
    """The rings of each polygon, (vertex, 2)."""
    kind, coordinates = geometry.get("type"), geometry.get("coordinates", [])
    for rings in coordinates if kind == "MultiPolygon" else [coordinates]:
        yield [np.asarray([vertex[:2] for vertex in ring], dtype=float) for ring in rings]


def extent(geometry: Geometry) -> Box:
    """(west, south, east, north) of a polygon or several."""
    x, y = np.concatenate([ring for rings in _polygons(geometry) for ring in rings]).T
    return float(x.min()), float(y.min()), float(x.max()), float(y.max())


def is_area(geometry: Geometry | None) -> bool:
    """Whether a geometry is a polygon, or several, with vertices."""
    if not geometry or geometry.get("type") not in ("Polygon", "MultiPolygon"):
        return False
    return all(rings and len(rings[0]) > 3 for rings in _polygons(geometry))


def is_box(geometry: Geometry) -> bool:
    """Whether a geometry is no more than its own bounding box, which tells little of the pixels."""
    west, south, east, north = extent(geometry)
    vertices = np.concatenate([ring for rings in _polygons(geometry) for ring in rings])
    at_side = np.isin(vertices[:, 0], (west, east)) & np.isin(vertices[:, 1], (south, north))
    return bool(at_side.all())


def covered(geometry: Geometry, points: np.ndarray) -> np.ndarray:
    """Which points lie inside, (point,) bool; holes are outside (even-odd rule)."""
    inside = np.zeros(len(points), dtype=bool)
    for rings in _polygons(geometry):
        odd = np.zeros(len(points), dtype=bool)
        for ring in rings:
            odd ^= _crossings_are_odd(ring, points)
        inside |= odd
    return inside


def _crossings_are_odd(ring: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Whether a ray to the east crosses the ring an odd number of times."""
    x, y = points.T
    odd = np.zeros(len(points), dtype=bool)
    for (x1, y1), (x2, y2) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        if y1 != y2:
            straddles = (y1 > y) != (y2 > y)
            odd ^= straddles & (x < x1 + (y - y1) / (y2 - y1) * (x2 - x1))
    return odd


# STAC items as records: when, where, and what they are worth for a source.

JOIN = "+"  # between the items of one scene
_SAFE = "-_.~ "  # ":" and "/" may not stand in a scene's id, and "+" joins
SAME_PASS_GAP = np.timedelta64(60, "s")
RADAR = ("sentinel1",)
NAT = np.datetime64("NaT", "us")


@dataclass(frozen=True, eq=False)
class Record:
    """One item of a catalogue, seen as imagery of one source."""

    item_id: str
    collection: str
    start: np.datetime64
    end: np.datetime64
    footprint: Mapping[str, Any]
    is_proper: bool  # the footprint is where the pixels are, and no mere bounding box
    properties: Mapping[str, Any]
    assets: Mapping[str, Any]
    box: Box = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "box", extent(self.footprint))

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


def record(item: Mapping[str, Any], source: Source) -> Record | str:
    """An item as a record of a source, or why it is none."""
    properties = item.get("properties") or {}
    reason = _unfit(properties, source)
    if reason:
        return reason
    area: Any = item.get("geometry")
    box: Any = item.get("bbox")
    if not is_area(area) and not box:
        return "it has neither a polygon nor a bounding box"
    footprint = area if is_area(area) else polygon(box)
    imagery = source.resolution == "high" and not source.is_static
    if imagery:
        footprint = parted(footprint)
    proper = is_area(area) and not (imagery and is_box(footprint))
    try:
        start, end = (NAT, NAT) if source.is_static else interval(properties, source)
    except ValueError as error:
        return str(error)
    where = (str(item["id"]), str(item.get("collection") or ""))
    return Record(*where, start, end, footprint, proper, properties, item.get("assets") or {})


def _unfit(properties: Mapping[str, Any], source: Source) -> str:
    """Radar comes in several modes and polarisations; IW with VV and VH is what is wanted."""
    if source.name not in RADAR:
        return ""
    mode = properties.get("sar:instrument_mode") or properties.get("s1:instrument_mode")
    if mode and str(mode).upper() != "IW":
        return f"instrument mode {mode}, wanted IW"
    beams = properties.get("sar:polarizations")
    if beams and not {"VV", "VH"} <= {str(beam).upper() for beam in beams}:
        return f"polarisations {' '.join(map(str, beams))}, wanted VV and VH"
    return ""


def interval(properties: Mapping[str, Any], source: Source) -> tuple[np.datetime64, np.datetime64]:
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
    at = _utc(properties["datetime"])
    if source.dated_by == "instant":
        return at, at
    length = sources.duration(source.cadence).astype("timedelta64[us]")
    start = at if source.dated_by == "start" else at - length // 2
    return start, start + length


def _utc(text: str) -> np.datetime64:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return np.datetime64(moment, "us")


def scene_id(records: list[Record]) -> str:
    """The items' ids, joined; what a file name or the join mark would stumble over is escaped."""
    return JOIN.join(quote(r.item_id, safe=_SAFE) for r in records)


def item_ids(scene: str) -> list[str]:
    """The items of a scene.

    Examples
    --------
    >>> item_ids("a%3A1+b")
    ['a:1', 'b']
    """
    return [unquote(part) for part in scene.split(JOIN)]


def grouped(records: list[Record], source: Source) -> list[list[Record]]:
    """Items that make one scene: slices of a radar pass, tiles of one composite, static layers."""
    if source.is_static:
        return [sorted(records, key=lambda r: r.item_id)] if records else []
    if source.name in RADAR:
        return _passes(sorted(records, key=lambda r: (r.flight, r.start, r.item_id)))
    if source.resolution == "high":
        return [[one] for one in records]
    periods: dict[tuple[Any, Any], list[Record]] = {}
    for one in sorted(records, key=lambda r: r.item_id):
        periods.setdefault((one.start, one.end), []).append(one)
    return list(periods.values())


def _passes(records: list[Record]) -> list[list[Record]]:
    """Runs of slices of one flight that follow each other within a minute."""
    groups: list[list[Record]] = []
    for one in records:
        last = groups[-1] if groups else []
        if last and last[-1].flight == one.flight:
            gap = one.start - max(r.end for r in last)
            if gap < SAME_PASS_GAP:
                last.append(one)
                continue
        groups.append([one])
    return groups


# Which collections and assets of a STAC catalogue serve which source and band of soilkit.

POWER, DECIBEL = "power", "dB"


@dataclass(frozen=True)
class Offer:
    """A collection that is known to serve a source; ``note`` says how it differs from the paper's.

    ``unit`` is "power" where backscatter is stored as linear power.
    """

    source: str
    collection: str
    note: str = ""
    unit: str = ""


RTC = "gamma nought, terrain-flattened, in linear power (converted to dB), without incidence angle"
GRD = "as delivered by the agency: uncalibrated amplitude in radar geometry, which is refused"
L2A = "Level-2A surface reflectance without QA60, not the paper's Level-1C"

# In order of preference. A collection named like the source itself always comes first.
OFFERS = (
    Offer("sentinel1", "sentinel-1-rtc", RTC, POWER),
    Offer("sentinel1", "sentinel-1-grd", GRD),
    Offer("sentinel2", "sentinel-2-l1c", "Level-1C without QA60"),
    Offer("sentinel2", "sentinel-2-c1-l2a", L2A),
    Offer("sentinel2", "sentinel-2-l2a", L2A),
    Offer("dem", "nasadem"),
    Offer("modis_lai", "modis-15A3H-061"),
    Offer("soilgrids", "soilgrids250m"),
    Offer("landsat8", "landsat-c2-l2", "Landsat 4 to 9 in one collection: filter by platform"),
)

# Other names of a band, as asset keys, band names or common names.
ALIASES: dict[tuple[str, str], tuple[str, ...]] = {
    ("sentinel2", "B2"): ("B02", "B02_10m", "blue"),
    ("sentinel2", "B3"): ("B03", "B03_10m", "green"),
    ("sentinel2", "B4"): ("B04", "B04_10m", "red"),
    ("sentinel2", "B5"): ("B05", "B05_20m", "rededge1", "rededge071"),
    ("sentinel2", "B6"): ("B06", "B06_20m", "rededge2", "rededge075"),
    ("sentinel2", "B7"): ("B07", "B07_20m", "rededge3", "rededge078"),
    ("sentinel2", "B8"): ("B08", "B08_10m", "nir"),
    ("sentinel2", "B11"): ("B11_20m", "swir16"),
    ("sentinel2", "B12"): ("B12_20m", "swir22"),
    ("sentinel1", "angle"): ("incidence_angle", "local_incidence_angle"),
    ("dem", "elevation"): ("data", "dem"),
    ("modis_lai", "Lai"): ("Lai_500m",),
    **{("soilgrids", band): (f"{band}_0-5cm_mean", f"{band}_0-5cm", f"{band}_mean")
       for band in ("sand", "silt", "clay", "bdod")},
}  # fmt: skip


@dataclass(frozen=True)
class Served:
    """How a catalogue serves one source: its collections, and assets that were named by hand."""

    source: str
    collections: tuple[str, ...]
    assets: Mapping[str, Any]
    unit: str = ""
    note: str = ""


@dataclass(frozen=True)
class Options:
    """What a user said of a catalogue, each by source: collections, assets, units."""

    collections: Mapping[str, str | Sequence[str]]
    assets: Mapping[str, Mapping[str, Any]]
    units: Mapping[str, str]


def plain(name: str) -> str:
    """A name in lower case without punctuation: "Sentinel-2 L2A" and "sentinel_2_l2a" are one."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def serve(found: Iterable[str], options: Options) -> dict[str, Served]:
    """The sources that a catalogue with these collections serves.

    Parameters
    ----------
    found : ids of the catalogue's collections
    options : Options, which outweigh what is known of collections

    Raises
    ------
    UnknownNameError
        When an option names a source, a band or a collection that does not exist.
    ContractError
        For a unit other than "power" and "dB".

    Examples
    --------
    >>> serve(["sentinel-2-l2a", "nasadem"], Options({}, {}, {}))["dem"].collections
    ('nasadem',)
    """
    found = list(found)
    _check(found, options)
    by_name: dict[str, list[str]] = {}
    for collection in found:
        by_name.setdefault(plain(collection), []).append(collection)
    served = {}
    for source in sources.CATALOGUE:
        named = options.collections.get(source.name)
        ids = (named,) if isinstance(named, str) else tuple(named or ())
        offers = [o for o in OFFERS if o.source == source.name and plain(o.collection) in by_name]
        if not ids and plain(source.name) in by_name:
            ids = tuple(by_name[plain(source.name)])
        elif not ids and offers:
            ids = tuple(by_name[plain(offers[0].collection)])
        if ids:
            served[source.name] = _served(source.name, ids, options)
    return served


def _served(source: str, ids: tuple[str, ...], options: Options) -> Served:
    known = [
        o for o in OFFERS if o.source == source and plain(o.collection) in {plain(i) for i in ids}
    ]
    unit = options.units.get(source) or next((o.unit for o in known), "")
    note = "; ".join(o.note for o in known if o.note)
    return Served(source, ids, options.assets.get(source, {}), unit, note)


def _check(found: Sequence[str], options: Options) -> None:
    for name in (*options.collections, *options.assets, *options.units):
        sources.get(name)
    for name, assets in options.assets.items():
        for band in assets:
            sources.get(name).band(band)
    for name, unit in options.units.items():
        if unit not in (POWER, DECIBEL):
            raise ContractError(
                f"units={{{name!r}: {unit!r}}}: backscatter is stored as 'power' or 'dB'."
            )
    for name, ids in options.collections.items():
        missing = sorted(({ids} if isinstance(ids, str) else set(ids)) - set(found))
        if missing:
            raise UnknownNameError(
                f"The catalogue has no collection {', '.join(map(repr, missing))} for {name}; "
                f"it has {', '.join(found) or 'none'}."
            )


def names_of(source: str, band: str) -> set[str]:
    """All that a band may be called, in plain letters."""
    return {plain(name) for name in (band, *ALIASES.get((source, band), ()))}


def find_asset(assets: Mapping[str, Any], band: str, *, served: Served) -> tuple[str, int] | None:
    """The asset key and the band's number in its file, from 1; None where no asset has the band.

    An asset of that name comes first, then one that lists a band of that name or common name.
    """
    chosen = served.assets.get(band)
    if chosen is not None:
        key, number = (chosen, 1) if isinstance(chosen, str) else chosen
        return (key, int(number)) if key in assets else None
    wanted = names_of(served.source, band)
    for key in sorted(assets, key=lambda k: plain(k) != plain(band)):
        if plain(key) in wanted:
            return key, _number(assets[key], wanted) or 1
    for key, asset in assets.items():
        number = _number(asset, wanted)
        if number:
            return key, number
    return None


def bands_of(asset: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What an asset says of each band of its file, the lists of STAC 1.0 and 1.1 merged."""
    lists = [asset.get(name) or [] for name in ("eo:bands", "raster:bands", "bands")]
    merged: list[dict[str, Any]] = [{} for _ in range(max(map(len, lists)))]
    for one in lists:
        for into, more in zip(merged, one, strict=False):
            into.update(more)
    return merged


def _number(asset: Mapping[str, Any], wanted: set[str]) -> int | None:
    for key in ("name", "eo:common_name", "common_name"):
        for n, band in enumerate(bands_of(asset), start=1):
            if plain(str(band.get(key, ""))) in wanted:
                return n
    return None


# Scenes and series tables from records of items.

STATIC = "static"
SCENES = ["scene_id", "station_id", "start", "end", "cloud_fraction", "orbit", "valid_fraction"]
KEYS = ["station_id", "scene_id", "start", "end"]
Period = tuple[np.datetime64, np.datetime64]


def ending_in(records: Iterable[Record], period: Period) -> list[Record]:
    """Records whose end lies in [start, end); static ones always."""
    return [r for r in records if np.isnat(r.end) or period[0] <= r.end < period[1]]


def scenes_of(
    records: Iterable[Record], source: Source, *, points: np.ndarray
) -> Iterator[tuple[list[Record], dict[str, Any]]]:
    """The scenes that cover some of the points, each with its records and its row."""
    box = box_of(points)
    near = [r for r in records if meets(r.box, box)]
    inside = {id(r): covered(r.footprint, points) for r in near}
    for group in grouped([r for r in near if inside[id(r)].any()], source):
        proper = all(r.is_proper for r in group)
        is_covered = np.any([inside[id(r)] for r in group], axis=0)
        yield (
            group,
            {
                "scene_id": STATIC if source.is_static else scene_id(group),
                "start": min(r.start for r in group),
                "end": max(r.end for r in group),
                "cloud_fraction": float(np.max([r.cloud_fraction for r in group])),
                "orbit": group[0].orbit,
                "valid_fraction": float(is_covered.mean()) if proper else np.nan,
            },
        )


def scenes_table(source: str, rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Rows by station as the contract's scenes table."""
    table = pd.DataFrame(list(rows), columns=SCENES).assign(source=source)
    kinds = dict.fromkeys(("source", "scene_id", "station_id", "orbit"), "category")
    kinds |= {"start": "datetime64[us]", "end": "datetime64[us]"}
    kinds |= {"cloud_fraction": "float64", "valid_fraction": "float64"}
    return table[["source", *SCENES]].astype(kinds)


def series_table(bands: list[str], rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows of stations, scenes and band values as a series table."""
    table = pd.DataFrame(rows, columns=[*KEYS, *bands])
    kinds: dict[str, Any] = {"station_id": "category", "scene_id": "category"}
    kinds |= {"start": "datetime64[us]", "end": "datetime64[us]"}
    kinds |= dict.fromkeys(bands, "float32")
    return table.astype(kinds)

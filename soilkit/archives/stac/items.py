"""STAC items as records: when, where, and what they are worth for a source."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote

import numpy as np

from soilkit import sources
from soilkit.archives.stac import geometry
from soilkit.sources import Source

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
    box: geometry.Box = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "box", geometry.extent(self.footprint))

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
    if not geometry.is_area(area) and not box:
        return "it has neither a polygon nor a bounding box"
    footprint = area if geometry.is_area(area) else geometry.polygon(box)
    imagery = source.resolution == "high" and not source.is_static
    if imagery:
        footprint = geometry.parted(footprint)
    proper = geometry.is_area(area) and not (imagery and geometry.is_box(footprint))
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

"""The values that nodes pass to each other, beside images: times, geometries, filters, tables."""

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tests.stand_in_ee.errors import Answer
from tests.stand_in_ee.images import Image
from tests.stand_in_ee.scenes import Query
from tests.stand_in_ee.shapes import Convex, transformer

WGS84 = "EPSG:4326"


@dataclass(frozen=True)
class Date:
    """Milliseconds since 1970, UTC."""

    ms: float

    @classmethod
    def of(cls, value) -> "Date":
        if isinstance(value, Date):
            return value
        if isinstance(value, str):
            try:
                read = datetime.datetime.fromisoformat(value)
            except ValueError:
                raise Answer(f"Date: Cannot parse date/time: {value}.") from None
            zone = read.tzinfo or datetime.UTC
            return cls(read.replace(tzinfo=zone).timestamp() * 1000)
        return cls(float(value))


@dataclass(frozen=True)
class DateRange:
    """Times in [start, end), milliseconds."""

    start_ms: float
    end_ms: float

    def holds(self, value) -> bool:
        return value is not None and self.start_ms <= Date.of(value).ms < self.end_ms


@dataclass(frozen=True)
class Geometry:
    """A point, or a convex polygon: ``corners`` (corner, xy) of ``crs``."""

    kind: str
    corners: np.ndarray
    crs: str = WGS84

    def to(self, crs: str) -> np.ndarray:
        """The corners in another reference system; a polygon's edges are followed by many."""
        corners = self.corners
        if self.kind != "Point" and crs != self.crs:
            steps = np.linspace(0, 1, 8, endpoint=False)[:, None]
            following = np.roll(corners, -1, axis=0)
            corners = np.concatenate(
                [a + (b - a) * steps for a, b in zip(corners, following, strict=True)]
            )
        return np.stack(transformer(self.crs, crs).transform(*corners.T), 1)

    def as_json(self) -> dict:
        corners = np.stack(transformer(self.crs, WGS84).transform(*self.corners.T), 1).tolist()
        if self.kind == "Point":
            return {"type": "Point", "coordinates": corners[0]}
        return {"type": "Polygon", "coordinates": [[*corners, corners[0]]]}


@dataclass(frozen=True)
class Feature:
    """A geometry (None is allowed) and properties."""

    geometry: Geometry | None
    properties: dict
    id: str | None = None


def properties(element) -> dict:
    if isinstance(element, Image | Feature):
        return element.properties
    raise Answer(f"Expected an element with properties, found {kind_of(element)}.")


@dataclass(frozen=True)
class Reducer:
    """Named outputs, each a function of the valid pixels (pixel,) of a band."""

    outputs: dict[str, Callable[[np.ndarray], Any]]


@dataclass(frozen=True)
class Filter:
    """A test of an element; ``hints`` narrow a listing before it: (kind, value) pairs."""

    test: Callable[[Any], bool]
    hints: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Collection:
    """Elements made when they are asked for, after the filters on a listing are known."""

    load: Callable[[Sequence[tuple[str, Any]]], list]
    holds_images: bool
    filters: tuple[Filter, ...] = ()
    properties: dict = field(default_factory=dict)

    @classmethod
    def of(cls, elements: list, holds_images: bool) -> "Collection":
        return cls(lambda hints: elements, holds_images)

    def filtered(self, one: Filter) -> "Collection":
        return replace(self, filters=(*self.filters, one))

    def elements(self) -> list:
        hints = [hint for one in self.filters for hint in one.hints]
        found = self.load(hints)
        return [e for e in found if all(one.test(e) for one in self.filters)]


@dataclass(frozen=True)
class Function:
    """A function of the expression itself."""

    call: Callable[..., Any]
    n_arguments: int


def query_of(hints) -> Query:
    """What a listing can be narrowed to by the hints of its filters."""
    places = tuple(value for kind, value in hints if kind == "place")
    starts = [value.start_ms for kind, value in hints if kind == "dates"]
    ends = [value.end_ms for kind, value in hints if kind == "dates"]
    return Query(places, int(max(starts)) if starts else None, int(min(ends)) if ends else None)


def meets(element, geometry: Geometry) -> bool:
    """Whether an element's outline shares a point with a geometry."""
    if isinstance(element, Image):
        return element.covers is None or element.covers((geometry.to(WGS84),))
    if element.geometry is None:
        return False
    return Convex.of(element.geometry.to(WGS84)).meets(Convex.of(geometry.to(WGS84)))


KINDS = {
    type(None): "null", bool: "Boolean", int: "Number", float: "Number", np.float64: "Number",
    str: "String", list: "List", dict: "Dictionary",
}  # fmt: skip


def kind_of(value) -> str:
    """Earth Engine's name of a value's type."""
    if isinstance(value, Collection):
        return "ImageCollection" if value.holds_images else "FeatureCollection"
    if isinstance(value, Function):
        return "Algorithm"
    return KINDS.get(type(value), type(value).__name__)

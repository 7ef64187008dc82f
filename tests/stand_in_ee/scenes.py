"""Scenes and the collections that list them: for any place and any date, from the id alone."""

import datetime
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from tests.stand_in_ee.shapes import Convex, transformer

UTC = datetime.UTC


@dataclass(frozen=True)
class Band:
    """One band of an asset: ``value(scene, x, y)`` at native pixel centres, ``mask`` alike.

    ``kind`` is Earth Engine's pixel type; ``step`` the pixel size in units of the native CRS.
    """

    name: str
    kind: str
    step: float
    value: Callable
    mask: Callable | None = None


@dataclass(frozen=True)
class Scene:
    """One image: its bands lie on pixels that start at ``origin`` (left, top) of ``crs``.

    ``footprint`` bounds the image; pixels are valid inside ``valid``, both in native coordinates
    and None where the image covers the globe.
    """

    asset: str
    index: str
    start_ms: int | None
    end_ms: int | None
    crs: str
    origin: tuple[float, float]
    bands: tuple[Band, ...]
    properties: dict = field(default_factory=dict)
    footprint: Convex | None = None
    valid: Convex | None = None

    @property
    def id(self) -> str:
        return f"{self.asset}/{self.index}" if self.index else self.asset

    def band(self, name: str) -> Band:
        return next(band for band in self.bands if band.name == name)

    def pixels(self, band: Band, x, y):
        """Values and validity at native pixel centres, values rounded where they are integers."""
        values = band.value(self, x, y)
        if band.kind not in ("float", "double"):
            values = np.round(values)
        valid = np.True_ if self.valid is None else self.valid.contains(x, y)
        if band.mask is not None:
            valid = valid & band.mask(self, x, y)
        return values, valid

    def outline(self) -> Convex:
        """The footprint in longitude and latitude."""
        if self.footprint is None:
            return Convex(np.array([(-180.0, -90), (180, -90), (180, 90), (-180, 90)]))
        corners = self.footprint.corners
        return Convex.of(np.stack(transformer(self.crs, "EPSG:4326").transform(*corners.T), 1))

    def covers(self, places) -> bool:
        """Whether the footprint meets each of some polygons in longitude and latitude."""
        return self.footprint is None or all(
            self.footprint.meets(
                Convex.of(np.stack(transformer("EPSG:4326", self.crs).transform(*place.T), 1))
            )
            for place in places
        )


@dataclass(frozen=True)
class Query:
    """What a listing must meet: polygons (corner, lon/lat), starts in [start, end) ms."""

    places: tuple[np.ndarray, ...] = ()
    start_ms: int | None = None
    end_ms: int | None = None

    @property
    def is_bounded(self) -> bool:
        return bool(self.places) and self.start_ms is not None and self.end_ms is not None

    def admits(self, scene: Scene) -> bool:
        after = self.start_ms is None or scene.start_ms >= self.start_ms
        before = self.end_ms is None or scene.start_ms < self.end_ms
        return after and before and scene.covers(self.places)


class Unbounded(Exception):
    """A procedural collection was listed without a place and a span of dates."""


def milliseconds(text: str) -> int:
    """Of an ISO date or time, UTC."""
    return int(datetime.datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def moment(time_ms: float, pattern: str = "%Y%m%dT%H%M%S") -> str:
    return datetime.datetime.fromtimestamp(time_ms / 1000, UTC).strftime(pattern)


@dataclass(frozen=True)
class Single:
    """An asset that is one image."""

    asset: str
    crs: str
    bands: tuple[Band, ...]
    properties: dict = field(default_factory=dict)
    times: tuple[str, str] | None = None
    kind: str = "IMAGE"

    def get(self, index: str) -> Scene | None:
        start, end = (milliseconds(t) for t in self.times) if self.times else (None, None)
        scene = Scene(
            self.asset, "", start, end, self.crs, (-180.0, 90.0), self.bands, self.properties
        )
        return scene if index == "" else None


@dataclass(frozen=True)
class Periodic:
    """A collection of global images at regular times.

    ``every_ms`` steps from the first; ``yearly`` starts anew with each year (MODIS). ``end_ms`` is
    what an image's ``system:time_end`` adds to its start.
    """

    asset: str
    crs: str
    origin: tuple[float, float]
    bands: tuple[Band, ...]
    begins: str
    ends: str
    every_ms: int
    length_ms: int
    name: Callable[[int], str]
    yearly: bool = False
    kind: str = "IMAGE_COLLECTION"

    def starts(self, start_ms: int | None, end_ms: int | None) -> Iterator[int]:
        first, last = milliseconds(self.begins), milliseconds(self.ends or "2026-01-01")
        low = max(first, first if start_ms is None else start_ms)
        high = min(last, last if end_ms is None else end_ms)
        years = range(int(moment(low, "%Y")), int(moment(high, "%Y")) + 1) if self.yearly else (0,)
        for year in years:
            zero = milliseconds(f"{year}-01-01") if self.yearly else first
            stop = min(high, milliseconds(f"{year + 1}-01-01")) if self.yearly else high
            skipped = max(0, -((zero - low) // self.every_ms)) if zero < low else 0
            yield from range(zero + skipped * self.every_ms, stop, self.every_ms)

    def list(self, query: Query) -> list[Scene]:
        return [self._scene(t) for t in self.starts(query.start_ms, query.end_ms)]

    def get(self, index: str) -> Scene | None:
        found = re.search(r"((?:19|20)\d\d)(?:_?(\d\d)_?(\d\d))?", index)
        if not found:
            return None
        try:
            day = milliseconds("-".join(part or "01" for part in found.groups()))
        except ValueError:
            return None
        near = self.starts(day, day + 86_400_000)
        return next((self._scene(t) for t in near if self.name(t) == index), None)

    def _scene(self, start: int) -> Scene:
        end = start + self.length_ms
        return Scene(
            self.asset, self.name(start), start, end, self.crs, self.origin, self.bands, {}
        )

"""Lazy images: a recipe a band, evaluated at the points that are asked for.

As in Earth Engine, arithmetic happens at the asked points and its inputs are looked up there, by
the nearest native pixel unless ``resample`` marked them; ``resample`` interpolates between pixels
of the image's own projection, and a composite has none worth the name: WGS84 at one degree.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from tests.stand_in_ee.errors import Answer
from tests.stand_in_ee.scenes import Scene
from tests.stand_in_ee.shapes import METRES_PER_DEGREE, Convex, is_geographic, transformer

DTYPES = {
    "uint8": "u1", "int8": "i1", "uint16": "<u2", "int16": "<i2", "uint32": "<u4", "int32": "<i4",
    "int64": "<i8", "float": "<f4", "double": "<f8",
}  # fmt: skip


@dataclass(frozen=True)
class Projection:
    """A reference system and the affine (a, b, c, d, e, f): x = a col + b row + c."""

    crs: str
    transform: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)

    @property
    def nominal_scale(self) -> float:
        """Metres a pixel."""
        size = abs(self.transform[0])
        return size * METRES_PER_DEGREE if is_geographic(self.crs) else size

    def at_scale(self, scale: float) -> "Projection":
        """Pixels of another size, the origin kept."""
        a, b, c, d, e, f = self.transform
        ratio = scale / self.nominal_scale
        return replace(self, transform=(a * ratio, b * ratio, c, d * ratio, e * ratio, f))

    def pixel(self, x, y):
        """Column and row as decimals (0.5 is the first centre)."""
        a, _, c, _, e, f = self.transform
        return (x - c) / a, (y - f) / e

    def centre(self, col, row):
        """Coordinates of a pixel's centre."""
        a, _, c, _, e, f = self.transform
        return c + (col + 0.5) * a, f + (row + 0.5) * e


COMPOSITE = Projection("EPSG:4326")


class Points:
    """Places to evaluate at: ``x`` and ``y`` of one reference system, broadcast to ``shape``."""

    def __init__(self, crs: str, x, y):
        self.crs, self.x, self.y = crs, x, y
        self.shape = np.broadcast(x, y).shape
        self._known = {crs: self}

    def to(self, crs: str) -> "Points":
        if crs not in self._known:
            x, y = np.broadcast_arrays(self.x, self.y)
            self._known[crs] = Points(crs, *transformer(self.crs, crs).transform(x, y))
        return self._known[crs]

    @classmethod
    def of_grid(cls, projection: Projection, width: int, height: int) -> "Points":
        x, y = projection.centre(np.arange(width)[None, :], np.arange(height)[:, None])
        return cls(projection.crs, x, y)


Sampler = Callable[[Points], tuple[np.ndarray, np.ndarray]]


def everywhere(points: Points):
    """The footprint of an image without bounds."""
    return np.True_


@dataclass(frozen=True)
class ImageBand:
    """One band: ``sample`` gives values and validity at points, ``inside`` the footprint."""

    name: str
    kind: str
    projection: Projection
    sample: Sampler
    inside: Callable[[Points], np.ndarray] = everywhere


@dataclass(frozen=True)
class Image:
    """Bands in order and properties; a single image also has its ``outline`` in longitude and
    latitude, and ``covers`` tells whether it meets polygons (corner, lon/lat)."""

    bands: tuple[ImageBand, ...]
    properties: dict = field(default_factory=dict)
    id: str | None = None
    outline: Convex | None = None
    covers: Callable[[tuple[np.ndarray, ...]], bool] | None = None

    @property
    def names(self) -> list[str]:
        return [band.name for band in self.bands]

    def with_bands(self, bands) -> "Image":
        return replace(self, bands=tuple(bands), id=None)


def of_scene(scene: Scene, *, blank: bool = False) -> Image:
    """The image of a scene; a blank one has no valid pixel."""
    properties = {"system:index": scene.index, **scene.properties}
    if scene.start_ms is not None:
        properties["system:time_start"] = scene.start_ms
    if scene.end_ms is not None:
        properties["system:time_end"] = scene.end_ms
    bands = tuple(_native(scene, band, blank) for band in scene.bands)
    return Image(bands, properties, scene.id, scene.outline(), scene.covers)


def _native(scene: Scene, band, blank: bool) -> ImageBand:
    left, top = scene.origin
    projection = Projection(scene.crs, (band.step, 0.0, left, 0.0, -band.step, top))

    def sample(points):
        here = points.to(scene.crs)
        col, row = projection.pixel(here.x, here.y)
        values, valid = scene.pixels(band, *projection.centre(np.floor(col), np.floor(row)))
        return values, valid & (not blank)

    def inside(points):
        here = points.to(scene.crs)
        return np.True_ if scene.footprint is None else scene.footprint.contains(here.x, here.y)

    return ImageBand(band.name, band.kind, projection, sample, inside)


def constant(value: float, name: str = "constant") -> ImageBand:
    """A number everywhere."""
    if float(value).is_integer():
        kind = next((k for k in ("uint8", "int16", "int32") if _fits(value, k)), "double")
    else:
        kind = "double"
    return ImageBand(name, kind, COMPOSITE, lambda points: (np.float64(value), np.True_))


def _fits(value, kind: str) -> bool:
    limits = np.iinfo(DTYPES[kind])
    return limits.min <= value <= limits.max


def resampled(band: ImageBand) -> ImageBand:
    """Bilinear between the four native pixels around; masked where one with weight is masked."""

    def sample(points):
        here = points.to(band.projection.crs)
        col, row = band.projection.pixel(here.x, here.y)
        col, row = col - 0.5, row - 0.5
        left, up = np.floor(col), np.floor(row)
        right, down = col - left, row - up
        total, valid = 0.0, np.True_
        for i, across in ((0, 1 - right), (1, right)):
            for j, along in ((0, 1 - down), (1, down)):
                weight = across * along
                if not np.any(weight):
                    continue
                place = Points(here.crs, *band.projection.centre(left + i, up + j))
                value, known = band.sample(place)
                total = total + np.where(weight > 0, value * weight, 0.0)
                valid = valid & (known | (weight == 0))
        return total, valid

    kind = band.kind if band.kind in ("float", "double") else "float"
    return replace(band, kind=kind, sample=sample)


def mosaic(images: list[Image]) -> Image:
    """The last valid pixel of a band wins; no projection of its own, no properties."""
    if not images:
        return Image(())
    bands = []
    for name in images[0].names:
        layers = [band for image in images for band in image.bands if band.name == name]
        bands.append(_stacked(name, layers))
    return Image(tuple(bands))


def _stacked(name: str, layers: list[ImageBand]) -> ImageBand:
    def sample(points):
        value, valid = layers[-1].sample(points)
        for layer in layers[-2::-1]:
            if np.all(valid):
                break
            below, known = layer.sample(points)
            value, valid = np.where(valid, value, below), valid | known
        return value, valid

    def inside(points):
        found = np.False_
        for layer in layers:
            found = found | layer.inside(points)
        return found

    kinds = {layer.kind for layer in layers}
    kind = kinds.pop() if len(kinds) == 1 else "double"
    return ImageBand(name, kind, COMPOSITE, sample, inside)


def combined(function, bands: list[ImageBand], kind: str) -> ImageBand:
    """A function of some bands, pixel by pixel; valid where all are; named after the first."""

    def sample(points):
        parts = [band.sample(points) for band in bands]
        valid = np.True_
        for _, known in parts:
            valid = valid & known
        with np.errstate(all="ignore"):
            values = function(*(value for value, _ in parts))
        return values, valid & np.isfinite(values)

    def inside(points):
        found = np.True_
        for band in bands:
            found = found & band.inside(points)
        return found

    own = next((b.projection for b in bands if b.projection != COMPOSITE), COMPOSITE)
    return ImageBand(bands[0].name, kind, own, sample, inside)


def binary(one: Image, other: Image, function, kind) -> Image:
    """Bands of equal names or in order, or one band against all of the other image's."""
    left, right = list(one.bands), list(other.bands)
    if set(one.names) == set(other.names):
        right = [next(b for b in right if b.name == name) for name in one.names]
    elif len(right) == 1:
        right = right * len(left)
    elif len(left) == 1:
        left = [replace(left[0], name=band.name) for band in right]
    if len(left) != len(right):
        raise Answer(
            "Images must have the same number of bands, or one of them a single band: "
            f"found {one.names} and {other.names}."
        )
    bands = [
        combined(function, [a, b], kind(a.kind, b.kind)) for a, b in zip(left, right, strict=True)
    ]
    base = one if len(one.bands) == len(bands) else other
    return Image(tuple(bands), {}, None, base.outline, base.covers)


def pixels(image: Image, projection: Projection, width: int, height: int):
    """Values (row, col) and validity a band, on a grid."""
    points = Points.of_grid(projection, width, height)
    found = {}
    for band in image.bands:
        value, valid = band.sample(points)
        found[band.name] = (
            np.broadcast_to(value, points.shape), np.broadcast_to(valid, points.shape)
        )  # fmt: skip
    return found

"""Nodes of images."""

import re
from dataclasses import replace

import numpy as np

from tests.stand_in_ee.errors import Answer
from tests.stand_in_ee.graph import node
from tests.stand_in_ee.images import (
    COMPOSITE,
    DTYPES,
    Image,
    ImageBand,
    Points,
    Projection,
    binary,
    combined,
    constant,
    everywhere,
    of_scene,
    resampled,
)
from tests.stand_in_ee.nodes import projection_of
from tests.stand_in_ee.shapes import Convex
from tests.stand_in_ee.values import Filter, Reducer

FLOATING = ("float", "double")


@node("Image.load")
def load(earth, id, version):
    scene = earth.image(id)
    if scene is None:
        raise Answer(
            f"Image.load: Image asset '{id}' not found "
            "(does not exist or caller does not have access)."
        )
    return of_scene(scene, blank=scene.id in earth.blank)


@node("Image.constant")
def constant_image(earth, value):
    if isinstance(value, list):
        return Image(tuple(constant(v, f"constant_{i}") for i, v in enumerate(value)))
    if not isinstance(value, int | float):
        raise Answer("Image.constant: the stand-in takes numbers and lists of numbers.")
    return Image((constant(value),))


@node("Image.select")
def select(earth, input, bandSelectors, newNames):
    chosen = []
    for selector in bandSelectors:
        if isinstance(selector, str):
            found = [band for band in input.bands if re.fullmatch(selector, band.name)]
            if not found:
                raise Answer(
                    f"Image.select: Band pattern '{selector}' did not match any bands. "
                    f"Available bands: [{', '.join(input.names)}]"
                )
            chosen += found
        elif 0 <= selector < len(input.bands):
            chosen.append(input.bands[int(selector)])
        else:
            raise Answer(f"Image.select: Band index {selector} out of range.")
    made = input.with_bands(chosen)
    return made if newNames is None else rename(earth, made, newNames)


@node("Image.rename")
def rename(earth, input, names):
    if len(names) != len(input.bands) or len(set(names)) != len(names):
        raise Answer(
            f"Image.rename: The number of names ({len(names)}) must match the number of bands "
            f"({len(input.bands)}), and no name may repeat."
        )
    pairs = zip(input.bands, names, strict=True)
    return input.with_bands([replace(band, name=name) for band, name in pairs])


@node("Image.addBands")
def add_bands(earth, dstImg, srcImg, names, overwrite):
    added = [band for band in srcImg.bands if names is None or band.name in names]
    bands = {band.name: band for band in dstImg.bands}
    for band in added:
        name, n = band.name, 0
        while name in bands and not overwrite:
            n += 1
            name = f"{band.name}_{n}"
        bands[name] = replace(band, name=name)
    return dstImg.with_bands(bands.values())


@node("Image.bandNames")
def band_names(earth, image):
    return image.names


@node("Image.projection")
def projection(earth, image):
    found = {band.projection for band in image.bands}
    if len(found) != 1:
        raise Answer(
            "Image.projection: The bands of the specified image contains different projections. "
            "Use Image.select to pick a single band."
        )
    return found.pop()


@node("Image.resample")
def resample(earth, image, mode):
    if mode != "bilinear":
        raise Answer(f"The stand-in interpolates bilinearly only, not by {mode!r}.")
    return image.with_bands([resampled(band) for band in image.bands])


@node("Image.linkCollection")
def link(earth, input, imageCollection, linkedBands, linkedProperties, matchPropertyName):
    own = input.properties.get(matchPropertyName)
    hints = (("indices", (own,)),) if matchPropertyName == "system:index" else ()
    alike = Filter(lambda e: e.properties.get(matchPropertyName) == own, hints)
    found = imageCollection.filtered(alike).elements() if own is not None else []
    wanted = [linkedBands] if isinstance(linkedBands, str) else (linkedBands or [])
    if found:
        linked = select(earth, found[0], wanted, None)
    else:
        empty = [replace(constant(0, name), sample=lambda p: (np.float64(0), np.False_))
                 for name in wanted]  # fmt: skip
        linked = Image(tuple(empty))
    keys = [linkedProperties] if isinstance(linkedProperties, str) else (linkedProperties or [])
    source = found[0].properties if found else {}
    made = add_bands(earth, input, linked, None, True)
    return replace(made, properties={**input.properties, **{k: source.get(k) for k in keys}})


# --- arithmetic


def _floating(a: str, b: str) -> str:
    if a in FLOATING or b in FLOATING:
        return "float" if {a, b} == {"float"} else "double"
    return "int32"


def _truth(a, b):
    return "uint8"


def _integer(a, b):
    return "int32"


def _double(a, b):
    return "double"


def _as_bits(function):
    return lambda a, b: function(np.asarray(a, np.int64), np.asarray(b, np.int64)).astype(float)


def _one_or_zero(function):
    return lambda a, b: np.asarray(function(a, b), float)


BINARY = {
    "add": (np.add, _floating),
    "subtract": (np.subtract, _floating),
    "multiply": (np.multiply, _floating),
    "divide": (lambda a, b: np.where(b == 0, 0.0, np.divide(a, np.where(b == 0, 1, b))), _double),
    "pow": (np.power, _double),
    "max": (np.maximum, _floating),
    "min": (np.minimum, _floating),
    "eq": (_one_or_zero(np.equal), _truth),
    "neq": (_one_or_zero(np.not_equal), _truth),
    "lt": (_one_or_zero(np.less), _truth),
    "lte": (_one_or_zero(np.less_equal), _truth),
    "gt": (_one_or_zero(np.greater), _truth),
    "gte": (_one_or_zero(np.greater_equal), _truth),
    "and": (_one_or_zero(np.logical_and), _truth),
    "or": (_one_or_zero(np.logical_or), _truth),
    "bitwiseAnd": (_as_bits(np.bitwise_and), _integer),
    "bitwiseOr": (_as_bits(np.bitwise_or), _integer),
    "rightShift": (_as_bits(np.right_shift), _integer),
    "leftShift": (_as_bits(np.left_shift), _integer),
}
ALIASES = {"bitwiseAnd": ("bitwiseAnd", "bitwise_and"), "and": ("and",), "or": ("or",)}
UNARY = {
    "log10": (np.log10, "double"),
    "log": (np.log, "double"),
    "exp": (np.exp, "double"),
    "sqrt": (np.sqrt, "double"),
    "abs": (np.abs, None),
    "floor": (np.floor, "int32"),
    "round": (np.round, "int32"),
    "not": (lambda a: np.asarray(np.logical_not(a), float), "uint8"),
}
CASTS = {
    "Float": "float", "Double": "double", "Byte": "uint8", "Uint8": "uint8", "Int8": "int8",
    "Uint16": "uint16", "Int16": "int16", "Short": "int16", "Int32": "int32", "Int": "int32",
    "Uint32": "uint32", "Int64": "int64", "Long": "int64",
}  # fmt: skip


def _binary(name, function, kind):
    for alias in ALIASES.get(name, (name,)):

        @node(f"Image.{alias}")
        def apply(earth, image1, image2):
            return binary(image1, image2, function, kind)


def _unary(name, function, kind):
    @node(f"Image.{name}")
    def apply(earth, value):
        bands = [combined(function, [band], kind or band.kind) for band in value.bands]
        return value.with_bands(bands)


def _cast(name, kind):
    def convert(values):
        if kind in FLOATING:
            return np.asarray(values).astype(DTYPES[kind]).astype(float)
        limits = np.iinfo(DTYPES[kind])
        return np.clip(np.trunc(values), limits.min, limits.max)

    @node(f"Image.to{name}", f"Image.{name.lower()}")
    def apply(earth, value):
        return value.with_bands([combined(convert, [band], kind) for band in value.bands])


for _name, (_function, _kind) in BINARY.items():
    _binary(_name, _function, _kind)
for _name, (_function, _kind) in UNARY.items():
    _unary(_name, _function, _kind)
for _name, _kind in CASTS.items():
    _cast(_name, _kind)


@node("Image.clamp")
def clamp(earth, input, low, high):
    bands = [combined(lambda a: np.clip(a, low, high), [b], b.kind) for b in input.bands]
    return input.with_bands(bands)


@node("Image.where")
def where(earth, input, test, value):
    def chosen(band, condition, other):
        def sample(points):
            kept, valid = band.sample(points)
            found, known = condition.sample(points)
            new, new_valid = other.sample(points)
            swap = np.asarray(found != 0) & known & new_valid
            return np.where(swap, new, kept), valid

        return replace(band, kind=_floating(band.kind, other.kind), sample=sample)

    tests = list(test.bands) * (len(input.bands) if len(test.bands) == 1 else 1)
    others = list(value.bands) * (len(input.bands) if len(value.bands) == 1 else 1)
    return input.with_bands(map(chosen, input.bands, tests, others))


# --- masks


@node("Image.mask")
def mask(earth, image, mask):
    if mask is not None:
        return update_mask(earth, image, mask)

    def shown(band):
        def sample(points):
            _, valid = band.sample(points)
            return np.asarray(valid, float), np.True_ & band.inside(points)

        return replace(band, kind="uint8", sample=sample)

    return image.with_bands([shown(band) for band in image.bands])


@node("Image.updateMask")
def update_mask(earth, image, mask):
    def masked(band, cover):
        def sample(points):
            value, valid = band.sample(points)
            covered, known = cover.sample(points)
            return value, valid & known & np.asarray(covered > 0)

        return replace(band, sample=sample)

    covers = list(mask.bands) * (len(image.bands) if len(mask.bands) == 1 else 1)
    return image.with_bands(map(masked, image.bands, covers))


@node("Image.selfMask")
def self_mask(earth, image):
    return update_mask(earth, image, image)


@node("Image.unmask")
def unmask(earth, input, value, sameFootprint):
    """Masked pixels take a value: inside of the footprint, or everywhere."""

    def filled(band, filler):
        def sample(points):
            found, valid = band.sample(points)
            other, known = filler.sample(points)
            new_valid = valid | (known & (band.inside(points) if sameFootprint else np.True_))
            return np.where(valid, found, other), new_valid

        inside = band.inside if sameFootprint else everywhere
        return replace(band, sample=sample, inside=inside)

    fillers = list(value.bands if value is not None else (constant(0),))
    if len(fillers) == 1:
        fillers = fillers * len(input.bands)
    return input.with_bands(map(filled, input.bands, fillers))


@node("Image.clip")
def clip(earth, input, geometry):
    def clipped(band):
        crs = band.projection.crs
        area = Convex.of(geometry.to(crs))

        def inside(points):
            here = points.to(crs)
            return band.inside(points) & area.contains(here.x, here.y)

        def sample(points):
            value, valid = band.sample(points)
            return value, valid & inside(points)

        return replace(band, sample=sample, inside=inside)

    return input.with_bands([clipped(band) for band in input.bands])


# --- reducers


def _one(name, function):
    @node(f"Reducer.{name}")
    def make(earth):
        return Reducer({name: function})


_one("mean", np.mean)
_one("sum", np.sum)
_one("min", np.min)
_one("max", np.max)
_one("median", np.median)
_one("stdDev", np.std)
_one("first", lambda values: values[0])
_one("firstNonNull", lambda values: values[0])


@node("Reducer.count")
def reducer_count(earth):
    return Reducer({"count": len})


@node("Reducer.combine")
def combine(earth, reducer1, reducer2, outputPrefix, sharedInputs):
    if not sharedInputs:
        raise Answer("The stand-in combines reducers of shared inputs only.")
    more = {f"{outputPrefix}{name}": f for name, f in reducer2.outputs.items()}
    return Reducer({**reducer1.outputs, **more})


@node("Image.reduceRegion")
def reduce_region(
    earth, image, reducer, geometry, scale, crs, crsTransform, bestEffort, maxPixels, tileScale
):
    if not image.bands:
        raise Answer("Image.reduceRegion: The image has no bands.")
    work = _working(image.bands[0], scale, crs, crsTransform)
    if geometry is None:
        raise Answer("The stand-in reduces over a given geometry only.")
    points, chosen = _region(geometry, work, maxPixels)
    found = {}
    for band in image.bands:
        value, valid = band.sample(points)
        value = np.broadcast_to(value, points.shape)[chosen]
        valid = np.broadcast_to(valid, points.shape)[chosen]
        for output, function in reducer.outputs.items():
            name = band.name if len(reducer.outputs) == 1 else f"{band.name}_{output}"
            if valid.any() or output == "count":
                made = float(function(value[valid]))
                found[name] = int(made) if _is_whole(band, output) else made
            else:
                found[name] = 0 if output == "sum" else None
    return found


def _is_whole(band: ImageBand, output: str) -> bool:
    return output == "count" or (output in ("first", "min", "max") and band.kind not in FLOATING)


def _working(band: ImageBand, scale, crs, transform) -> Projection:
    """The pixels to reduce over: the band's own, another system's, or of another size."""
    work = band.projection if crs is None else projection_of(crs)
    if transform:
        return Projection(work.crs, tuple(transform))
    if scale is None:
        return work
    if crs is not None and work.transform == COMPOSITE.transform:
        work = replace(work, transform=(1.0, 0.0, 0.0, 0.0, -1.0, 0.0))
    return work.at_scale(scale)


def _region(geometry, work: Projection, max_pixels):
    """The pixels whose centre lies in a polygon, or the one around a point."""
    corners = geometry.to(work.crs)
    if geometry.kind == "Point":
        col, row = work.pixel(corners[:1, 0], corners[:1, 1])
        x, y = work.centre(np.floor(col), np.floor(row))
        return Points(work.crs, x, y), np.ones(1, bool)
    cols, rows = work.pixel(corners[:, 0], corners[:, 1])
    left, right = int(np.floor(cols.min())), int(np.ceil(cols.max()))
    top, bottom = int(np.floor(rows.min())), int(np.ceil(rows.max()))
    n = (right - left) * (bottom - top)
    if n > max_pixels:
        raise Answer(
            f"Image.reduceRegion: Too many pixels in the region. Found {n}, but maxPixels allows "
            f"only {int(max_pixels)}.\nEnsure that you are not aggregating at a higher resolution "
            "than you intended."
        )
    x, y = work.centre(np.arange(left, right)[None, :], np.arange(top, bottom)[:, None])
    inside = np.broadcast_to(Convex.of(corners).contains(x, y), (bottom - top, right - left))
    if not inside.any():
        col, row = work.pixel(*corners.mean(axis=0)[:, None])
        x, y = work.centre(np.floor(col), np.floor(row))
        return Points(work.crs, x, y), np.ones(1, bool)
    return Points(work.crs, x, y), inside

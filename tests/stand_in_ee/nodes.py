"""Nodes of values, features and collections."""

import datetime
from dataclasses import replace

import numpy as np

from tests.stand_in_ee.errors import Answer
from tests.stand_in_ee.graph import node
from tests.stand_in_ee.images import Image, Projection, mosaic, of_scene
from tests.stand_in_ee.scenes import Unbounded
from tests.stand_in_ee.shapes import transformer
from tests.stand_in_ee.values import (
    WGS84,
    Collection,
    Date,
    DateRange,
    Feature,
    Filter,
    Function,
    Geometry,
    meets,
    properties,
    query_of,
)

UNITS_MS = {"second": 1e3, "minute": 6e4, "hour": 3.6e6, "day": 8.64e7, "week": 6.048e8}


def projection_of(crs) -> Projection:
    """A projection, or the one of a name."""
    if crs is None or isinstance(crs, Projection):
        return crs or Projection(WGS84)
    if isinstance(crs, dict):
        return Projection(crs["crs"], tuple(crs["transform"]))
    try:
        transformer(WGS84, crs)
    except Exception:
        raise Answer(f"The CRS of a map projection could not be parsed: '{crs}'.") from None
    return Projection(crs)


@node("Projection")
def projection(earth, crs, transform, transformWkt):
    made = projection_of(crs)
    if not transform:
        return made
    a, b, c, d, e, f = transform
    return replace(made, transform=(a, b, c, d, e, f))


@node("Projection.atScale")
def at_scale(earth, projection, meters):
    return projection_of(projection).at_scale(meters)


@node("Projection.nominalScale")
def nominal_scale(earth, proj):
    return projection_of(proj).nominal_scale


@node("Projection.crs")
def crs_name(earth, projection):
    return projection_of(projection).crs


# --- times


@node("Date")
def date(earth, value, timeZone):
    return Date.of(value)


@node("DateRange")
def date_range(earth, start, end, timeZone):
    first = Date.of(start).ms
    return DateRange(first, first + 1 if end is None else Date.of(end).ms)


@node("Date.millis")
def millis(earth, date):
    return Date.of(date).ms


@node("Date.advance")
def advance(earth, date, delta, unit, timeZone):
    word = unit.rstrip("s")
    if word not in UNITS_MS:
        raise Answer(f"The stand-in advances dates by {', '.join(UNITS_MS)}, not by {unit!r}.")
    return Date(Date.of(date).ms + delta * UNITS_MS[word])


@node("Date.format")
def format_date(earth, date, format, timeZone):
    if format:
        raise Answer("The stand-in formats dates without a pattern only.")
    when = datetime.datetime.fromtimestamp(Date.of(date).ms / 1000, datetime.UTC)
    return when.replace(tzinfo=None).isoformat(timespec="seconds")


# --- numbers, lists, dictionaries


@node("If")
def if_else(earth, condition, trueCase, falseCase):
    return trueCase if condition else falseCase


@node("Number.add")
def add(earth, left, right):
    return left + right


@node("Number.subtract")
def subtract(earth, left, right):
    return left - right


@node("Number.multiply")
def multiply(earth, left, right):
    return left * right


@node("Number.divide")
def divide(earth, left, right):
    return left / right


@node("Number.gt")
def greater(earth, left, right):
    return int(left > right)


@node("List.map")
def map_list(earth, list, baseAlgorithm, dropNulls):
    found = [baseAlgorithm.call(value) for value in list]
    return [value for value in found if value is not None] if dropNulls else found


@node("List.get")
def list_get(earth, list, index):
    if not -len(list) <= index < len(list):
        raise Answer(f"List.get: List index must be between 0 and {len(list) - 1}: {index}.")
    return list[int(index)]


@node("List.size")
def list_size(earth, list):
    return len(list)


@node("Dictionary")
def dictionary(earth, input):
    return dict(input)


@node("Dictionary.get")
def dictionary_get(earth, dictionary, key, defaultValue):
    if key not in dictionary:
        if defaultValue is None:
            raise Answer(f"Dictionary.get: Dictionary does not contain key: '{key}'.")
        return defaultValue
    value = dictionary[key]
    return defaultValue if value is None else value


@node("Dictionary.set")
def dictionary_set(earth, dictionary, key, value):
    return {**dictionary, key: value}


@node("Dictionary.combine")
def dictionary_combine(earth, first, second, overwrite):
    return {**first, **second} if overwrite else {**second, **first}


# --- geometries


def _polygon(corners, crs) -> Geometry:
    corners = np.array(corners, float)
    if len(corners) > 3 and np.array_equal(corners[0], corners[-1]):
        corners = corners[:-1]
    edges = np.roll(corners, -1, 0) - corners
    following = np.roll(edges, -1, 0)
    turns = edges[:, 0] * following[:, 1] - edges[:, 1] * following[:, 0]
    if not ((turns >= 0).all() or (turns <= 0).all()):
        raise Answer("The stand-in knows convex polygons only.")
    return Geometry("Polygon", corners, projection_of(crs).crs)


@node("GeometryConstructors.Point")
def point(earth, coordinates, crs):
    return Geometry("Point", np.array([coordinates], float), projection_of(crs).crs)


@node("GeometryConstructors.Polygon")
def polygon(earth, coordinates, crs, geodesic, maxError, evenOdd):
    if len(coordinates) != 1:
        raise Answer("The stand-in knows polygons of one ring only.")
    return _polygon(coordinates[0], crs)


@node("GeometryConstructors.Rectangle")
def rectangle(earth, coordinates, crs, geodesic, evenOdd):
    west, south, east, north = np.ravel(coordinates)
    return _polygon([(west, south), (east, south), (east, north), (west, north)], crs)


@node("GeometryConstructors.BBox")
def bounding_box(earth, west, south, east, north):
    return _polygon([(west, south), (east, south), (east, north), (west, north)], None)


@node("Geometry.bounds")
def bounds(earth, geometry, maxError, proj):
    crs = projection_of(proj).crs
    corners = geometry.to(crs)
    (west, south), (east, north) = corners.min(axis=0), corners.max(axis=0)
    return _polygon([(west, south), (east, south), (east, north), (west, north)], crs)


@node("Geometry.buffer")
def buffer(earth, geometry, distance, maxError, proj):
    if geometry.kind != "Point" or proj is not None:
        raise Answer("The stand-in buffers points only, and in metres.")
    ((longitude, latitude),) = geometry.to(WGS84)
    zone = f"EPSG:{(32600 if latitude >= 0 else 32700) + int((longitude + 180) // 6) % 60 + 1}"
    ((x, y),) = geometry.to(zone)
    turn = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    ring = np.stack([x + distance * np.cos(turn), y + distance * np.sin(turn)], 1)
    return Geometry("Polygon", Geometry("Point", ring, zone).to(WGS84))


@node("Element.geometry", "Image.geometry", "Feature.geometry")
def geometry_of(earth, feature, maxError, proj, geodesics):
    if isinstance(feature, Feature):
        return feature.geometry
    if feature.outline is None:
        raise Answer("The stand-in gives the geometry of single images only.")
    return Geometry("Polygon", feature.outline.corners)


# --- features and elements


@node("Feature")
def feature(earth, geometry, metadata, geometryKey):
    if isinstance(geometry, Feature):
        return replace(geometry, properties={**geometry.properties, **metadata})
    return Feature(geometry, dict(metadata))


@node("Element.get", "Image.get", "Feature.get")
def get(earth, object, property):
    return properties(object).get(property)


@node("Element.set", "Image.set", "Feature.set")
def set_property(earth, object, key, value):
    return replace(object, properties={**properties(object), key: value})


@node("Element.setMulti")
def set_properties(earth, object, properties):
    return replace(object, properties={**object.properties, **properties})


@node("Element.copyProperties", "Image.copyProperties", "Feature.copyProperties")
def copy_properties(earth, destination, source, properties, exclude):
    chosen = {
        key: value
        for key, value in source.properties.items()
        if (key in properties if properties else not key.startswith("system:"))
        and key not in (exclude or ())
    }
    return replace(destination, properties={**destination.properties, **chosen})


@node("Element.propertyNames", "Image.propertyNames")
def property_names(earth, element):
    return list(properties(element))


@node("Element.toDictionary", "Image.toDictionary")
def to_dictionary(earth, element, properties):
    return {
        key: value
        for key, value in element.properties.items()
        if (key in properties if properties else not key.startswith("system:"))
    }


@node("Image.date", "Feature.date")
def image_date(earth, image):
    return Date(image.properties["system:time_start"])


# --- filters


def _compare(name: str, test):
    """Register a filter that compares two operands, each a property's or a value."""

    @node(name)
    def make(earth, leftField, rightValue, rightField, leftValue):
        def passes(element):
            own = properties(element)
            left = own.get(leftField) if leftField else leftValue
            right = own.get(rightField) if rightField else rightValue
            return left is not None and right is not None and bool(test(left, right))

        return Filter(passes, _hints(name, leftField, rightValue, rightField, leftValue))


def _hints(name, left_field, right_value, right_field, left_value):
    if name == "Filter.equals" and left_field == "system:index":
        return (("indices", (right_value,)),)
    if name == "Filter.listContains" and right_field == "system:index":
        return (("indices", tuple(left_value)),)
    if name == "Filter.dateRangeContains" and right_field == "system:time_start":
        return (("dates", left_value),)
    return ()


_compare("Filter.equals", lambda left, right: left == right)
_compare("Filter.lessThan", lambda left, right: left < right)
_compare("Filter.greaterThan", lambda left, right: left > right)
_compare("Filter.listContains", lambda left, right: right in left)
_compare("Filter.stringStartsWith", lambda left, right: left.startswith(right))
_compare("Filter.stringContains", lambda left, right: right in left)
_compare("Filter.dateRangeContains", lambda left, right: left.holds(right))


@node("Filter.intersects")
def intersects(earth, leftField, rightValue, rightField, leftValue, maxError):
    if leftField not in (".all", ".geo") or rightValue is None:
        raise Answer("The stand-in filters by the bounds of whole elements only.")
    place = rightValue.geometry if isinstance(rightValue, Feature) else rightValue
    if not isinstance(place, Geometry):
        raise Answer("Filter.intersects: the right value is no geometry.")
    return Filter(lambda element: meets(element, place), (("place", place.to(WGS84)),))


@node("Filter.and")
def filter_and(earth, filters):
    hints = tuple(hint for one in filters for hint in one.hints)
    return Filter(lambda element: all(one.test(element) for one in filters), hints)


@node("Filter.or")
def filter_or(earth, filters):
    return Filter(lambda element: any(one.test(element) for one in filters))


@node("Filter.not")
def filter_not(earth, filter):
    return Filter(lambda element: not filter.test(element))


# --- collections


@node("ImageCollection.load")
def load_collection(earth, id, version):
    asset = earth.asset(id)
    if asset is None or asset.kind != "IMAGE_COLLECTION":
        raise Answer(
            f"ImageCollection.load: ImageCollection asset '{id}' not found "
            "(does not exist or caller does not have access)."
        )

    def load(hints):
        indices = [set(value) for kind, value in hints if kind == "indices"]
        if indices:
            found = [earth.image(f"{id}/{index}") for index in sorted(set.intersection(*indices))]
            scenes = [scene for scene in found if scene is not None]
        else:
            try:
                scenes = earth.list(id, query_of(hints))
            except Unbounded:
                raise Answer(
                    f"The stand-in lists {id} within filterBounds and filterDate, "
                    "or by system:index."
                ) from None
        return [of_scene(scene, blank=scene.id in earth.blank) for scene in scenes]

    return Collection(load, True)


@node("ImageCollection.fromImages")
def from_images(earth, images):
    if any(image is None for image in images):
        raise Answer("ImageCollection.fromImages: a null image.")
    return Collection.of(list(images), True)


@node("Collection")
def from_features(earth, features):
    return Collection.of(list(features), False)


@node("Collection.filter")
def filter_collection(earth, collection, filter):
    if not isinstance(filter, Filter):
        raise Answer("The stand-in takes filters as objects only.")
    return collection.filtered(filter)


@node("Collection.map")
def map_collection(earth, collection, baseAlgorithm, dropNulls):
    if not isinstance(baseAlgorithm, Function):
        raise Answer("Collection.map: the algorithm is no function.")

    def load(hints):
        found = []
        for element in collection.elements():
            made = baseAlgorithm.call(element)
            if made is None and not dropNulls:
                raise Answer("Collection.map: A mapped algorithm must return a Feature or Image.")
            if made is not None:
                found.append(_keep_index(made, element))
        return found

    return Collection(load, collection.holds_images)


def _keep_index(made, element):
    if not isinstance(made, Image | Feature):
        raise Answer("Collection.map: A mapped algorithm must return a Feature or Image.")
    index = properties(element).get("system:index")
    if index is None:
        return made
    return replace(made, properties={**made.properties, "system:index": index})


@node("Collection.first")
def first(earth, collection):
    return next(iter(collection.elements()), None)


@node("Collection.size")
def size(earth, collection):
    return len(collection.elements())


@node("Collection.limit")
def limit(earth, collection, limit, key, ascending):
    def load(hints):
        found = collection.elements()
        if key is not None:
            known = [e for e in found if properties(e).get(key) is not None]
            found = sorted(known, key=lambda e: properties(e)[key], reverse=not ascending)
        return found if limit is None else found[: int(limit)]

    return Collection(load, collection.holds_images)


@node("Collection.toList")
def to_list(earth, collection, count, offset):
    return collection.elements()[int(offset) : int(offset) + int(count)]


@node("AggregateFeatureCollection.array")
def aggregate_array(earth, collection, property):
    found = [properties(element).get(property) for element in collection.elements()]
    return [value for value in found if value is not None]


@node("ImageCollection.merge", "FeatureCollection.merge", "Collection.merge")
def merge(earth, collection1, collection2):
    def load(hints):
        return [
            replace(e, properties={**e.properties, "system:index": f"{i}_{_index(e)}"})
            for i, part in ((1, collection1), (2, collection2))
            for e in part.elements()
        ]

    return Collection(load, collection1.holds_images)


def _index(element):
    return properties(element).get("system:index", "0")


@node("ImageCollection.mosaic")
def mosaicked(earth, collection):
    return mosaic(collection.elements())

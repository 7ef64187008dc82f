"""The methods of the service: from a request's body to its answer."""

import io
import threading
from collections import OrderedDict

import numpy as np

from tests.stand_in_ee import image_nodes, nodes  # noqa: F401  (they register the nodes)
from tests.stand_in_ee.errors import Answer
from tests.stand_in_ee.faults import MEMORY, Faults
from tests.stand_in_ee.graph import Evaluation
from tests.stand_in_ee.images import DTYPES, Image, Projection, of_scene, pixels
from tests.stand_in_ee.nodes import projection_of
from tests.stand_in_ee.rasters import Earth
from tests.stand_in_ee.scenes import milliseconds, moment
from tests.stand_in_ee.values import Collection, Date, DateRange, Feature, Geometry, kind_of

LARGEST_BYTES = 48 * 2**20
LARGEST_SIDE_PX = 32768
PAGE = 1000
AFFINE = ("scaleX", "shearX", "translateX", "shearY", "scaleY", "translateY")


def check_fields(body: dict, allowed: tuple[str, ...]) -> None:
    for name in body:
        if name not in allowed:
            raise Answer(
                f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.'
            )


# --- pixels


def compute_pixels(body: dict, earth: Earth, faults: Faults) -> bytes:
    """A structured array (row, col), one field a band, as a NumPy file; masked pixels are 0."""
    check_fields(body, ("expression", "fileFormat", "grid", "bandIds", "workloadTag"))
    if body.get("fileFormat") != "NPY":
        raise Answer(f"The stand-in writes NPY only, not {body.get('fileFormat')!r}.")
    projection, width, height = _grid(body.get("grid"))
    if faults.memory_limit_px is not None and width * height > faults.memory_limit_px:
        raise Answer(MEMORY)
    image = Evaluation(body.get("expression"), earth).result()
    if not isinstance(image, Image):
        raise Answer(f"Image.expression: expected an Image, found {kind_of(image)}.")
    if body.get("bandIds"):
        image = image_nodes.select(earth, image, body["bandIds"], None)
    if not image.bands:
        raise Answer("Expected a homogeneous image collection or an image with bands, got none.")
    dtype = np.dtype([(band.name, DTYPES[band.kind]) for band in image.bands])
    n_bytes = (dtype.itemsize + len(image.bands)) * width * height  # a byte of mask a band
    if n_bytes > LARGEST_BYTES:
        raise Answer(
            f"Total request size ({n_bytes} bytes) must be less than or equal to "
            f"{LARGEST_BYTES} bytes."
        )
    return _npy(image, dtype, pixels(image, projection, width, height), (height, width))


def _npy(image: Image, dtype: np.dtype, found: dict, shape) -> bytes:
    table = np.zeros(shape, dtype)
    for band in image.bands:
        values, valid = found[band.name]
        table[band.name] = np.where(valid, values, 0)
    file = io.BytesIO()
    np.save(file, table)
    return file.getvalue()


def _grid(grid) -> tuple[Projection, int, int]:
    if not isinstance(grid, dict):
        raise Answer("The stand-in needs a grid: crsCode, affineTransform and dimensions.")
    check_fields(grid, ("crsCode", "affineTransform", "dimensions"))
    affine, size = grid.get("affineTransform", {}), grid.get("dimensions", {})
    check_fields(affine, AFFINE)
    check_fields(size, ("width", "height"))
    width, height = size.get("width", 0), size.get("height", 0)
    if not (isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0):
        raise Answer("Pixel grid dimensions must be positive integers.")
    if max(width, height) > LARGEST_SIDE_PX:
        raise Answer(
            f"Pixel grid dimensions ({width}x{height}) must be less than or equal to "
            f"{LARGEST_SIDE_PX}."
        )
    numbers = [float(affine.get(name, 0.0)) for name in AFFINE]
    a, b, c, d, e, f = numbers
    if not a or not e or b or d:
        raise Answer("The stand-in knows north-up grids only, with scaleX and scaleY.")
    if "crsCode" not in grid:
        raise Answer("The stand-in needs the grid's crsCode.")
    return Projection(projection_of(grid["crsCode"]).crs, (a, b, c, d, e, f)), width, height


# --- tables


class Pages:
    """Tables computed once and read page by page."""

    def __init__(self, kept: int = 64):
        self._tables: OrderedDict = OrderedDict()
        self._kept, self._lock = kept, threading.Lock()

    def clear(self) -> None:
        with self._lock:
            self._tables.clear()

    def compute_features(self, body: dict, earth: Earth, key: str) -> dict:
        """One page of a table, its features as GeoJSON."""
        check_fields(body, ("expression", "pageSize", "pageToken", "workloadTag"))
        size = min(int(body.get("pageSize") or PAGE), PAGE)
        start = 0
        if token := body.get("pageToken"):
            owner, _, offset = token.partition(":")
            if owner != key or not offset.isdigit():
                raise Answer("Invalid page token.")
            start = int(offset)
        table = self._table(body.get("expression"), earth, key)
        page = {"type": "FeatureCollection", "features": table[start : start + size]}
        if start + size < len(table):
            page["nextPageToken"] = f"{key}:{start + size}"
        return page

    def _table(self, expression, earth: Earth, key: str) -> list:
        with self._lock:
            if key in self._tables:
                return self._tables[key]
        made = Evaluation(expression, earth).result()
        if not isinstance(made, Collection):
            raise Answer(f"Expected a FeatureCollection, found {kind_of(made)}.")
        table = [_feature(f, str(i)) for i, f in enumerate(made.elements())]
        with self._lock:
            self._tables[key] = table
            while len(self._tables) > self._kept:
                self._tables.popitem(last=False)
        return table


def _feature(feature: Feature, index: str) -> dict:
    if not isinstance(feature, Feature):
        raise Answer(f"Expected a Feature, found {kind_of(feature)}.")
    kept = {k: to_json(v) for k, v in feature.properties.items() if k != "system:index"}
    geometry = None if feature.geometry is None else feature.geometry.as_json()
    name = str(feature.properties.get("system:index", index))
    return {"type": "Feature", "geometry": geometry, "properties": kept, "id": name}


# --- values and assets


def to_json(value):
    """A value as the service writes it."""
    if isinstance(value, Date):
        return {"type": "Date", "value": value.ms}
    if isinstance(value, DateRange):
        return {"type": "DateRange", "dates": [value.start_ms, value.end_ms]}
    if isinstance(value, Geometry):
        return value.as_json()
    if isinstance(value, Projection):
        return {"type": "Projection", "crs": value.crs, "transform": list(value.transform)}
    if isinstance(value, Feature):
        return _feature(value, "0")
    if isinstance(value, Image):
        return image_json(value)
    if isinstance(value, Collection):
        elements = [to_json(element) for element in value.elements()]
        return {"type": kind_of(value), "features": elements}
    if isinstance(value, dict):
        return {key: to_json(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(entry) for entry in value]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise Answer(f"The stand-in cannot write a {kind_of(value)}.")


def _precision(kind: str) -> str:
    return kind if kind in ("float", "double") else "int"


def image_json(image: Image) -> dict:
    """An image's description, as ``getInfo`` shows it."""
    bands = [
        {
            "id": band.name,
            "data_type": {"type": "PixelType", "precision": _precision(band.kind)},
            "crs": band.projection.crs,
            "crs_transform": list(band.projection.transform),
        }
        for band in image.bands
    ]
    found = {"type": "Image", "bands": bands, "properties": to_json(image.properties)}
    return found if image.id is None else {**found, "id": image.id}


def get_asset(name: str, earth: Earth) -> dict:
    """The metadata of an asset by its full name."""
    owner, _, asset_id = name.partition("/assets/")
    asset = earth.asset(asset_id)
    if asset is not None:
        found = {
            "type": asset.kind,
            "name": name,
            "id": asset_id,
            "updateTime": "2025-01-01T00:00:00Z",
        }
        if asset.kind == "IMAGE":
            return {**found, **_image_asset(asset.get(""))}
        first, last = asset.begins, asset.ends or "2026-01-01"
        found["properties"] = {"date_range": [milliseconds(first), milliseconds(last)]}
        return found
    scene = earth.image(asset_id)
    if scene is not None:
        return {"type": "IMAGE", "name": name, "id": asset_id, **_image_asset(scene)}
    if owner in ("projects/earthengine-public", "projects/earthengine-legacy"):
        raise Answer(f'Asset "{name}" not found.', 404)
    raise Answer(
        f"Permission 'earthengine.assets.get' denied on resource '{name}' (or it may not exist).",
        403,
    )


def _image_asset(scene) -> dict:
    image = of_scene(scene)
    bands = [
        {
            "id": band.name,
            "dataType": {"precision": _precision(band.kind).upper()},
            "grid": {
                "crsCode": band.projection.crs,
                "affineTransform": dict(zip(AFFINE, _by_name(band.projection), strict=True)),
            },
        }
        for band in image.bands
    ]
    found = {"bands": bands, "properties": scene.properties}
    for key, time_ms in (("startTime", scene.start_ms), ("endTime", scene.end_ms)):
        if time_ms is not None:
            found[key] = moment(time_ms, "%Y-%m-%dT%H:%M:%SZ")
    return found


def _by_name(projection: Projection) -> tuple[float, ...]:
    a, b, c, d, e, f = projection.transform
    return a, b, c, d, e, f

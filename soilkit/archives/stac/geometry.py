"""Footprints in longitude and latitude: which points of a station's square an item covers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from soilkit import grids

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

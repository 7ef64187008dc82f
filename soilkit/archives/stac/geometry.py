"""Footprints in longitude and latitude: which points of a station's square an item covers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from soilkit import grids

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
    """(west, south, east, north) of some points."""
    (west, south), (east, north) = points.min(axis=0), points.max(axis=0)
    return float(west), float(south), float(east), float(north)


def meets(one: Box, other: Box) -> bool:
    """Whether two boxes share a point."""
    return bool(
        one[0] <= other[2] and other[0] <= one[2] and one[1] <= other[3] and other[1] <= one[3]
    )


def polygon(box: Sequence[float]) -> Geometry:
    """A box as GeoJSON; a bounding box with heights has six numbers."""
    west, south, east, north = (*box[:2], *box[len(box) // 2 :][:2])
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


def _polygons(geometry: Geometry) -> Iterator[list[np.ndarray]]:
    """The rings of each polygon, (vertex, 2)."""
    kind, coordinates = geometry.get("type"), geometry.get("coordinates", [])
    for rings in coordinates if kind == "MultiPolygon" else [coordinates]:
        yield [np.asarray([vertex[:2] for vertex in ring], dtype=float) for ring in rings]


def extent(geometry: Geometry) -> Box:
    """(west, south, east, north) of a polygon or several."""
    return box_of(np.concatenate([ring for rings in _polygons(geometry) for ring in rings]))


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

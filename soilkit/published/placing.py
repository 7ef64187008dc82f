"""Where a published image lies: its grid from the record's polygon, else around the sensor."""

import re
from typing import Any

import numpy as np

from soilkit import grids
from soilkit.contracts import Grid
from soilkit.errors import ContractError
from soilkit.published.schema import SIDE_PX
from soilkit.published.shards import Sample

PIXEL_M = 10.0
_SIDE_M = SIDE_PX * PIXEL_M
_SLACK_M = 2 * PIXEL_M  # a polygon through the outer pixels' centres is a pixel short
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


def grid_of(sample: Sample) -> tuple[Grid, bool]:
    """The 10 m grid of a record's images, and whether its polygon told it.

    The polygon's corners are eastings and northings in the record's UTM zone; their middle is the
    image's, to the metre (32-bit floats hold a northing to half a metre). That form is inferred:
    a polygon that does not enclose the sensor in a square of 5.12 km is passed over, and the image
    is taken to lie around the sensor, snapped to 10 m.

    Raises
    ------
    ContractError
        For a sensor outside all UTM zones.
    """
    around = grids.chip_grid(
        sample.latitude, sample.longitude, size_px=SIDE_PX, pixel_size_m=PIXEL_M
    )
    corners = _corners(sample.scalars.get("utm_easting_northing_image_polygon"))
    crs = _crs(sample.scalars.get("utm_zone"), sample.latitude)
    if corners is None or crs is None:
        return around, False
    low, high = corners.min(axis=0), corners.max(axis=0)
    x, y = grids.transformer("EPSG:4326", crs).transform(sample.longitude, sample.latitude)
    is_square = (np.abs(high - low - _SIDE_M) <= _SLACK_M).all()
    if not is_square or not ((low <= (x, y)) & ((x, y) <= high)).all():
        return around, False
    left, bottom = np.round((low + high) / 2) - _SIDE_M / 2
    return Grid(crs, float(left), float(bottom + _SIDE_M), PIXEL_M, SIDE_PX, SIDE_PX), True


def _corners(polygon: Any) -> np.ndarray | None:
    """Corners (corner, 2) of a polygon given as numbers or as a text of numbers."""
    if isinstance(polygon, list):
        polygon = " ".join(map(str, polygon))
    if isinstance(polygon, str):
        polygon = [float(word) for word in _NUMBER.findall(polygon)]
    numbers = np.asarray([] if polygon is None else polygon, float).ravel()
    if numbers.size < 4 or numbers.size % 2 or not np.isfinite(numbers).all():
        return None
    return numbers.reshape(-1, 2)


def _crs(zone: Any, latitude: float) -> str | None:
    """The EPSG code of a zone written "14", "14N", "UTM 14" or "EPSG:32614"; None where none is."""
    found = re.search(r"(?<!\d)(32[67])?([0-5]?\d|60)(?!\d)", str(zone))
    if found is None or not 1 <= int(found[2]) <= 60:
        return None
    return f"EPSG:{(32600 if latitude >= 0 else 32700) + int(found[2])}"


def cropped(grid: Grid, size_px: int) -> Grid:
    """The centre of a grid.

    Raises
    ------
    ContractError
        For a size that is larger, or no multiple of 32: chips at 160 m would not fit.
    """
    if size_px % 32 or not 0 < size_px <= grid.width:
        raise ContractError(
            f"Published images have {grid.width} pixels a side; wanted a multiple of 32 up to "
            f"that, so that pixels of 160 m cover the same ground. Found size_px={size_px}."
        )
    edge = (grid.width - size_px) // 2 * grid.pixel_size_m
    left, top = grid.left_m + edge, grid.top_m - edge
    return Grid(grid.crs, left, top, grid.pixel_size_m, size_px, size_px)

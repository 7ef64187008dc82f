"""Regions of a map: a box, a polygon, a file or a quadkey becomes one grid, cut into tiles."""

import json
import os
import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import shapely
import shapely.geometry

from soilkit import grids
from soilkit.contracts import Grid
from soilkit.errors import ContractError

TILE_PX = 256
REQUEST_PX = 4096  # a request costs about as much as so many pixels
QUADKEY_LENGTHS = (12, 14)  # tiles of about 9.8 and 2.4 km at the equator
ZONE_DEG = 6.0
EDGE_STEP_DEG = 0.1  # edges are straight in degrees: between such points they are so in metres too
EDGE_STEP_M = 5_000.0  # the other way round
TORN_M = 1e6  # neighbours on an edge that are projected so far apart lie on both ends of the map
OTHER_CRS = 'crs="EPSG:6933" (EASE-Grid 2.0, any longitude) or another CRS in metres'


@dataclass(frozen=True)
class Tile:
    """A square ``grid``, a station without a probe, and the ``part`` of it inside its region's.

    ``rows`` and ``cols`` are those of the region's grid.
    """

    name: str
    rows: slice
    cols: slice
    grid: Grid
    part: Grid


@dataclass(frozen=True)
class Region:
    """A grid with the outline of what is wanted of it, a shapely geometry in the grid's CRS.

    ``degrees`` is the outline in WGS84; its longitudes run on beyond 180 at the antimeridian.
    """

    grid: Grid
    tile_px: int
    outline: Any
    degrees: Any

    @cached_property
    def tiles(self) -> list[Tile]:
        """The tiles that the outline touches, row by row from the north-west."""
        whole, side = self.grid, self.tile_px
        tiles = []
        for i, j in np.ndindex(-(-whole.height // side), -(-whole.width // side)):
            height, width = min(side, whole.height - i * side), min(side, whole.width - j * side)
            left, top = (n * side * whole.pixel_size_m for n in (j, -i))
            grid = replace(whole, left_m=whole.left_m + left, top_m=whole.top_m + top)
            rows, cols = slice(i * side, i * side + height), slice(j * side, j * side + width)
            parts = (replace(grid, height=h, width=w) for h, w in ((side, side), (height, width)))
            tiles.append(Tile(f"r{i:03d}c{j:03d}", rows, cols, *parts))
        shapely.prepare(self.outline)
        boxes = shapely.box(*np.array([tile.part.bounds_m for tile in tiles]).T)
        touched = shapely.intersects(self.outline, boxes) & ~shapely.touches(self.outline, boxes)
        return [tile for tile, is_wanted in zip(tiles, touched, strict=True) if is_wanted]

    @property
    def stations(self) -> pd.DataFrame:
        """A station a tile, ``station_id``, ``latitude`` and ``longitude`` of its centre."""
        left, bottom, right, top = np.array([tile.part.bounds_m for tile in self.tiles]).T
        to_degrees = grids.transformer(self.grid.crs, "EPSG:4326")
        longitude, latitude = to_degrees.transform((left + right) / 2, (bottom + top) / 2)
        names = [tile.name for tile in self.tiles]
        return pd.DataFrame({"station_id": names, "latitude": latitude, "longitude": longitude})

    def inside(self, tile: Tile) -> np.ndarray:
        """Whether the centre of each pixel of a tile lies in the outline, (row, col) bool."""
        if shapely.covers(self.outline, shapely.box(*tile.part.bounds_m)):
            return np.ones((tile.part.height, tile.part.width), dtype=bool)
        return shapely.contains_xy(self.outline, *np.meshgrid(tile.part.x_m, tile.part.y_m))

    def touched(self, tile: Tile) -> np.ndarray:
        """Whether the outline reaches into each pixel of a tile, (row, col) bool."""
        if shapely.covers(self.outline, shapely.box(*tile.part.bounds_m)):
            return np.ones((tile.part.height, tile.part.width), dtype=bool)
        half_m = self.grid.pixel_size_m / 2
        x_m, y_m = np.meshgrid(tile.part.x_m, tile.part.y_m)
        boxes = shapely.box(x_m - half_m, y_m - half_m, x_m + half_m, y_m + half_m)
        shapely.prepare(self.outline)
        return shapely.intersects(self.outline, boxes) & ~shapely.touches(self.outline, boxes)

    def around(self, margin_m: float) -> Any:
        """All touched pixels and a square margin about each tile's, a geometry in degrees.

        Its edges are straight in the grid's metres; longitudes run on beyond 180 as the outline's.
        """
        boxes = []
        for tile in self.tiles:
            rows, cols = (np.flatnonzero(self.touched(tile).any(axis)) for axis in (1, 0))
            left, right = tile.part.x_m[cols[[0, -1]]]
            top, bottom = tile.part.y_m[rows[[0, -1]]]
            reach_m = margin_m + self.grid.pixel_size_m / 2
            boxes.append(
                shapely.box(left - reach_m, bottom - reach_m, right + reach_m, top + reach_m)
            )
        wide = shapely.segmentize(shapely.union_all(boxes), EDGE_STEP_M)
        to_degrees = grids.transformer(self.grid.crs, "EPSG:4326").transform
        middle = sum(self.degrees.bounds[::2]) / 2

        def unwrapped(xy: np.ndarray) -> np.ndarray:
            longitude, latitude = to_degrees(*xy.T)
            longitude = middle + (np.asarray(longitude) - middle + 180) % 360 - 180
            return np.column_stack([longitude, latitude])

        return shapely.transform(wide, unwrapped)


def region_of(
    where: Any, *, pixel_size_m: float, crs: str | None = None, tile_px: int = TILE_PX,
    widest_m: float = np.inf,
) -> Region:  # fmt: skip
    """The grid that holds a region, snapped to multiples of its pixel size, and its tiles.

    Raises ``ContractError`` for a region that is none: crossing itself, without extent, not in
    degrees, torn by the edge of the CRS or too wide for a zone; for a CRS in degrees; for a size
    that does not fit.

    Parameters
    ----------
    where : (west, south, east, north) in degrees, where a west above the east crosses the
        antimeridian; the path of a GeoJSON file; a geometry of shapely, GeoJSON or anything with
        ``__geo_interface__``; or a Web-Mercator quadkey of 12 or 14 digits
    pixel_size_m : float, m of the CRS. In EPSG:6933 nominal: 1000, 3000, 9000 and 36000 are cells
        of the global grids, which nest. A quadkey holds a whole number of pixels.
    crs : in metres; by default the UTM zone of the region's centre, EPSG:3857 for a quadkey
    tile_px : int, the longest side of a tile; it is less where that spares pixels beyond the grid
    widest_m : float, m, the longest side of a tile of more than one pixel
    """
    are_numbers = isinstance(pixel_size_m, Real) and isinstance(tile_px, Integral)
    if not (are_numbers and 0 < pixel_size_m < np.inf and tile_px >= 1):
        sizes = f"{pixel_size_m!r} and {tile_px!r}"
        raise ContractError(
            f"pixel_size_m is a number above 0, tile_px a whole one; found {sizes}."
        )
    tile_px = int(min(tile_px, max(1, widest_m / pixel_size_m)))
    crs = None if crs is None else grids.in_metres(crs)
    degrees = _degrees(where)
    if _is_quadkey(where) and crs in (None, grids.WEB_MERCATOR_CRS):
        grid = grids.quadkey_grid(where, pixel_size_m=pixel_size_m)
        return Region(grid, _side(grid, tile_px), shapely.box(*grid.bounds_m), degrees)
    crs = crs or _zone(degrees)
    outline = _projected(degrees, crs)
    grid = grids.cover(outline.bounds, crs, pixel_size_m=pixel_size_m)
    beyond_m = (np.subtract(grid.bounds_m, outline.bounds) * (1, 1, -1, -1)).max()
    if beyond_m > grid.pixel_size_m / 1000:  # EASE-Grid 2.0 ends before the poles
        raise ContractError(
            f"The region reaches {beyond_m:.0f} m beyond the grid of {crs}, which ends at 85.04 "
            "degrees of latitude. Cut it there, or give a polar CRS in metres such as EPSG:6931."
        )
    return Region(grid, _side(grid, tile_px), outline, degrees)


# ---- what users call a region --------------------------------------------------------------------


def _is_quadkey(where: Any) -> bool:
    """Whether a region is named by digits; ``ContractError`` for too few or too many of them."""
    is_number = isinstance(where, str) and where.isdecimal()
    if is_number and len(where) not in QUADKEY_LENGTHS:
        raise ContractError(f"A quadkey has 12 or 14 digits here, found {len(where)} in {where!r}.")
    return is_number


def _degrees(where: Any) -> Any:
    """A region's outline in WGS84 degrees, checked."""
    if _is_quadkey(where):
        left, bottom, right, top = grids.quadkey_bounds(where)
        to_degrees = grids.transformer(grids.WEB_MERCATOR_CRS, "EPSG:4326")
        (west, east), (south, north) = to_degrees.transform((left, right), (bottom, top))
        return shapely.box(west, south, east, north)
    if isinstance(where, str | os.PathLike):
        try:
            where = json.loads(Path(where).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ContractError(
                f"The region {where} cannot be read as GeoJSON ({error}). Give the path of a "
                "GeoJSON file, a bounding box, a geometry or a quadkey of 12 or 14 digits."
            ) from error
    if isinstance(where, dict) or hasattr(where, "__geo_interface__"):
        return _unwrapped(_checked(_shapes(getattr(where, "__geo_interface__", where))))
    return _box(where)


def _box(where: Any) -> Any:
    try:
        west, south, east, north = (float(edge) for edge in where)
    except (TypeError, ValueError) as error:
        raise ContractError(
            "A region is (west, south, east, north) in degrees, the path of a GeoJSON file, a "
            f"geometry or a quadkey; found {where!r}."
        ) from error
    east += 360 if west > east else 0
    if not (south < north and west < east):
        words = "wanted (west, south, east, north), the south below the north"
        raise ContractError(f"The box {where} has no extent: {words}.")
    return _checked(shapely.box(west, south, east, north))


def _shapes(content: Any) -> Any:
    """All geometries of a GeoJSON object as one; each is to be whole before they are united."""
    try:
        if content["type"] == "FeatureCollection":
            parts = [_checked(_shapes(feature)) for feature in content["features"]]
            return parts[0] if len(parts) == 1 else shapely.union_all(parts)
        geometry = content["geometry"] if content["type"] == "Feature" else content
        return shapely.force_2d(shapely.geometry.shape(geometry))
    except ContractError:
        raise
    except Exception as error:  # shapely raises whatever its input provokes
        raise ContractError(
            f"The region is no GeoJSON geometry ({type(error).__name__}: {error}). Give polygons, "
            "as a geometry, a Feature or a FeatureCollection."
        ) from error


def _checked(outline: Any) -> Any:
    """An outline that is a whole area in degrees."""
    if not outline.is_valid:
        why = shapely.is_valid_reason(outline)
        raise ContractError(f"The outline is no polygon: {why}. shapely.make_valid mends most.")
    if not outline.area > 0:
        raise ContractError(f"{outline.wkt[:80]} has no extent. Give an area around it.")
    west, south, east, north = outline.bounds
    if not (west >= -180 and east <= 540 and south >= -90 and north <= 90 and east - west <= 360):
        raise ContractError(
            f"The region reaches from {west:g}, {south:g} to {east:g}, {north:g}: wanted longitude "
            "and latitude in WGS84 degrees. Convert it, for instance to EPSG:4326."
        )
    return outline


def _unwrapped(outline: Any) -> Any:
    """Parts on both sides of the antimeridian, as GeoJSON cuts them, side by side."""
    parts = shapely.get_parts(outline)
    west, _, east, _ = shapely.bounds(parts).T
    if (east - west > 180).any():
        raise ContractError(
            f"A polygon runs from {west.min():g} to {east.max():g} degrees: which way round the "
            "Earth cannot be told. Cut it at the antimeridian (RFC 7946, 3.1.9), or give a "
            "bounding box."
        )
    by = np.where(west < 0, 360.0, 0.0)
    if np.ptp(np.r_[west + by, east + by]) >= np.ptp(np.r_[west, east]):
        return outline
    turned = [
        shapely.transform(part, lambda v, x=x: v + (x, 0))
        for part, x in zip(parts, by, strict=True)
    ]
    return shapely.union_all(turned)


# ---- from degrees to a grid ----------------------------------------------------------------------


def _zone(degrees: Any) -> str:
    """The UTM zone of a region's centre; a warning where it reaches into another."""
    west, south, east, north = degrees.bounds
    if east - west > ZONE_DEG or north > 84 or south < -80:
        raise ContractError(
            f"The region spans {east - west:g} degrees of longitude from {south:g} to {north:g} of "
            f"latitude, more than one UTM zone holds ({ZONE_DEG:g} degrees, 80 S to 84 N). Give "
            f"{OTHER_CRS}."
        )
    places = (west + east) / 2, west, east - 1e-9
    crs, *others = (grids.utm_crs((south + north) / 2, (x + 180) % 360 - 180) for x in places)
    if set(others) - {crs}:
        warnings.warn(
            f"The region lies in several UTM zones, {' and '.join(sorted({crs, *others}))}: its "
            f"cube is in {crs}, that of its centre. Give {OTHER_CRS} for another.",
            stacklevel=4,
        )
    return crs


def _projected(degrees: Any, crs: str) -> Any:
    """An outline in a CRS; its edges are straight in degrees."""
    project = grids.transformer("EPSG:4326", crs).transform
    dense = shapely.segmentize(degrees, EDGE_STEP_DEG)
    outline = shapely.transform(dense, lambda v: np.column_stack(project(*v.T)))
    lengths_m, steps_deg = (
        np.abs(np.diff(shapely.get_coordinates(one), axis=0)).max(axis=1)
        for one in (outline, dense)
    )
    along = steps_deg <= 2 * EDGE_STEP_DEG  # not from one part to the next
    if not (np.isfinite(lengths_m).all() and (lengths_m[along] < TORN_M).all()):
        raise ContractError(
            f"The region lies beyond the edge of {crs} or across it: a cube would be torn. Across "
            "the antimeridian leave crs out for UTM, or give two regions."
        )
    return outline


def _side(grid: Grid, longest: int) -> int:
    """The side of tiles, at least half the longest, that costs least beyond the grid and in all."""
    longest = min(int(longest), max(grid.height, grid.width))
    sides = np.arange(longest, longest // 2, -1)
    tiles = -(-grid.height // sides) * -(-grid.width // sides)
    return int(sides[(tiles * (sides**2 + REQUEST_PX)).argmin()])

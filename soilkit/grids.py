"""Pixel grids: station chips in UTM, and the EASE-Grid 2.0 cells of coarse products."""

from functools import lru_cache

import numpy as np
import pyproj

from soilkit.constants import HIGH_PIXEL_M
from soilkit.contracts import Grid
from soilkit.errors import ContractError

EASE2_CRS = "EPSG:6933"
# The global 9 km grid's pixel size and origin: Brodzik et al. (2012), doi:10.3390/ijgi1010032,
# with the 2014 correction of the exact cell size.
EASE2_PIXEL_SIZE_M = {
    1: 1000.895023350, 3: 3002.685070049, 9: 9008.055210146, 36: 36032.220840584,
}  # fmt: skip
EASE2_LEFT_M = -17367530.445161
EASE2_TOP_M = 7314540.830638
WEB_MERCATOR_CRS = "EPSG:3857"
WEB_MERCATOR_EDGE_M = np.pi * 6_378_137.0  # half of its square world
SNAP = 1e-6  # of a pixel: by so much an edge may miss the border of two


def utm_crs(latitude: float, longitude: float) -> str:
    """The EPSG code of the UTM zone that holds a point in WGS84 degrees.

    Raises ``ContractError`` beyond 84 N and 80 S, where UTM is undefined, and for no point.

    Examples
    --------
    >>> utm_crs(30.3, -98.8)
    'EPSG:32614'
    """
    if not (-80 <= latitude <= 84 and -180 <= longitude <= 180):
        raise ContractError(
            f"No UTM zone at latitude {latitude}, longitude {longitude}: "
            "latitudes run from -80 to 84 and longitudes from -180 to 180 degrees."
        )
    zone = min(int((longitude + 180) // 6) + 1, 60)
    return f"EPSG:{(32600 if latitude >= 0 else 32700) + zone}"


@lru_cache(maxsize=512)
def transformer(source_crs: str, target_crs: str) -> pyproj.Transformer:
    """A cached pyproj transformer with x before y on both sides."""
    return pyproj.Transformer.from_crs(source_crs, target_crs, always_xy=True)


@lru_cache(maxsize=512)
def in_degrees(crs: str) -> bool:
    """Whether a coordinate system counts degrees instead of metres."""
    return pyproj.CRS.from_user_input(crs).is_geographic


def in_metres(crs: str) -> str:
    """A projected CRS as its EPSG code, or as WKT where it has none.

    Raises ``ContractError`` for a CRS that is none, or no plane in metres.
    """
    try:
        known = pyproj.CRS.from_user_input(crs)
    except pyproj.exceptions.CRSError as error:
        raise ContractError(f"{crs!r} is no CRS ({error}). Give an EPSG code.") from error
    units = [axis.unit_name for axis in known.axis_info]
    if units != ["metre", "metre"] or not known.is_projected:
        raise ContractError(
            f"Wanted a projected CRS in metres; {crs} is a {known.type_name} that counts "
            f"{', '.join(units) or 'nothing'}. Give a UTM zone such as EPSG:32614, or EPSG:6933."
        )
    return f"EPSG:{known.to_epsg()}" if known.to_epsg() else known.to_wkt()


def chip_grid(latitude: float, longitude: float, *, size_px: int, pixel_size_m: float) -> Grid:
    """The square UTM grid around a station [WGS84 degrees], its origin snapped to 10 m.

    Grids of one station and one footprint (``size_px * pixel_size_m``) share their origin whatever
    their pixel size, so that 10 m and 160 m chips cover the same ground.

    Examples
    --------
    >>> chip_grid(30.3, -98.8, size_px=256, pixel_size_m=10).bounds_m
    (517950.0, 3350770.0, 520510.0, 3353330.0)
    """
    crs = utm_crs(latitude, longitude)
    x, y = transformer("EPSG:4326", crs).transform(longitude, latitude)
    half = size_px * pixel_size_m / 2
    left = round((x - half) / HIGH_PIXEL_M) * HIGH_PIXEL_M
    top = round((y + half) / HIGH_PIXEL_M) * HIGH_PIXEL_M
    return Grid(crs, float(left), float(top), float(pixel_size_m), size_px, size_px)


def lonlat(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Longitude and latitude of every pixel centre, each (row, col), WGS84 degrees."""
    return project(grid, "EPSG:4326")


def project(grid: Grid, crs: str, *, step_px: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of every pixel centre in another CRS, each (row, col), in its units.

    Exact on a net of every ``step_px`` pixels and bilinear between: over a chip the map projections
    bend by less than a centimetre, and the net costs a thousandth of all points.
    """
    rows = _net(grid.height, step_px)
    cols = _net(grid.width, step_px)
    x = grid.left_m + (cols + 0.5) * grid.pixel_size_m
    y = grid.top_m - (rows + 0.5) * grid.pixel_size_m
    along, across = transformer(grid.crs, crs).transform(*np.meshgrid(x, y))
    row, col = np.arange(grid.height), np.arange(grid.width)
    is_split = crs == "EPSG:4326" and np.ptp(along) > 180  # the antimeridian runs through the grid
    along = _bilinear(along % 360 if is_split else along, rows, cols, row, col)
    if is_split:
        along = np.where(along >= 180, along - 360, along)
    return along, _bilinear(across, rows, cols, row, col)


def _net(n: int, step: int) -> np.ndarray:
    knots = np.arange(0, n, step, dtype=float)
    return np.append(knots, n - 1.0) if knots[-1] < n - 1 else knots


def _bilinear(values, rows, cols, row, col):
    across = np.stack([np.interp(col, cols, line) for line in values])  # (knot, col)
    if len(rows) == 1:
        return np.repeat(across, len(row), axis=0)
    below = np.clip(np.searchsorted(rows, row, side="right") - 1, 0, len(rows) - 2)
    weight = ((row - rows[below]) / (rows[below + 1] - rows[below]))[:, None]
    return across[below] * (1 - weight) + across[below + 1] * weight  # (row, col)


def ease2_cell(longitude, latitude, *, pixel_size_km: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the global EASE-Grid 2.0 cell that holds each point [WGS84 degrees].

    Brodzik et al. (2012), doi:10.3390/ijgi1010032; ``pixel_size_km`` is 1, 3, 9 or 36.

    Examples
    --------
    >>> [int(i) for i in ease2_cell(-98.8, 30.3)]
    [402, 869]
    """
    size = EASE2_PIXEL_SIZE_M[pixel_size_km]
    x, y = transformer("EPSG:4326", EASE2_CRS).transform(longitude, latitude)
    row = np.floor((EASE2_TOP_M - np.asarray(y)) / size).astype(int)
    col = np.floor((np.asarray(x) - EASE2_LEFT_M) / size).astype(int)
    return row, col


def ease2_grid(row: int, col: int, *, height: int, width: int, pixel_size_km: int = 9) -> Grid:
    """A part of the global EASE-Grid 2.0; ``row`` and ``col`` are its upper left cell."""
    size = EASE2_PIXEL_SIZE_M[pixel_size_km]
    return Grid(EASE2_CRS, EASE2_LEFT_M + col * size, EASE2_TOP_M - row * size, size, height, width)


def ease2_shape(pixel_size_km: int) -> tuple[int, int]:
    """Rows and columns of the whole global EASE-Grid 2.0; each grid nests in the next.

    Examples
    --------
    >>> [ease2_shape(km) for km in (36, 9)]
    [(406, 964), (1624, 3856)]
    """
    size = EASE2_PIXEL_SIZE_M[pixel_size_km]
    return round(2 * EASE2_TOP_M / size), round(-2 * EASE2_LEFT_M / size)


def ease2_cover(bounds_m: tuple[float, float, float, float], *, pixel_size_m: float) -> Grid:
    """The cells of the global EASE-Grid 2.0 that hold (left, bottom, right, top) [m].

    Pixels of nominally 1000, 3000, 9000 or 36000 m, which stand for the exact sizes. Raises
    ``ContractError`` for another pixel size, which would nest in none of these.
    """
    sizes = EASE2_PIXEL_SIZE_M.items()
    kms = [km for km, m in sizes if np.isclose(pixel_size_m, (1000 * km, m), rtol=1e-6).any()]
    if not kms:
        raise ContractError(
            f"EASE-Grid 2.0 has pixels of nominally {', '.join(str(1000 * km) for km, _ in sizes)} "
            f"m, found {pixel_size_m:g} m, which nests in none. Give one of these, or another CRS."
        )
    size, (rows, cols) = EASE2_PIXEL_SIZE_M[kms[0]], ease2_shape(kms[0])
    left, bottom, right, top = bounds_m
    col, width = _span(left - EASE2_LEFT_M, right - EASE2_LEFT_M, size, cells=cols)
    row, height = _span(EASE2_TOP_M - top, EASE2_TOP_M - bottom, size, cells=rows)
    return ease2_grid(row, col, height=height, width=width, pixel_size_km=kms[0])


def cover(bounds_m: tuple[float, float, float, float], crs: str, *, pixel_size_m: float) -> Grid:
    """The grid that holds (left, bottom, right, top) [m], its edges multiples of the pixel size.

    In EPSG:6933 it is that of ``ease2_cover``.

    Examples
    --------
    >>> cover((1005.0, 0.0, 1030.0, 15.0), "EPSG:32614", pixel_size_m=10).bounds_m
    (1000.0, 0.0, 1030.0, 20.0)
    """
    if crs == EASE2_CRS:
        return ease2_cover(bounds_m, pixel_size_m=pixel_size_m)
    left, bottom, right, top = bounds_m
    col, width = _span(left, right, pixel_size_m)
    row, height = _span(-top, -bottom, pixel_size_m)
    size = float(pixel_size_m)
    return Grid(crs, col * size, -row * size, size, height, width)


def _span(low: float, high: float, size: float, *, cells: int | None = None) -> tuple[int, int]:
    """The first cell that [low, high] touches, and how many; within ``cells`` where given."""
    first, last = int(np.floor(low / size + SNAP)), int(np.ceil(high / size - SNAP))
    if cells is not None:
        first, last = max(0, min(first, cells - 1)), min(last, cells)
    return first, max(1, last - first)


def quadkey_bounds(quadkey: str) -> tuple[float, float, float, float]:
    """(left, bottom, right, top) of a Web-Mercator tile in EPSG:3857, m.

    Each digit halves the side: 0 and 1 are the upper, 0 and 2 the left quarters. Raises
    ``ContractError`` for anything but digits 0 to 3.

    Examples
    --------
    >>> [round(v) for v in quadkey_bounds("03")]
    [-10018754, 0, 0, 10018754]
    """
    if not quadkey or set(quadkey) - set("0123"):
        raise ContractError(f"A quadkey has digits 0 to 3 only; found {quadkey!r}.")
    col = row = 0
    for digit in map(int, quadkey):
        col, row = 2 * col + digit % 2, 2 * row + digit // 2
    side = 2 * WEB_MERCATOR_EDGE_M / 2 ** len(quadkey)
    left, top = col * side - WEB_MERCATOR_EDGE_M, WEB_MERCATOR_EDGE_M - row * side
    return left, top - side, left + side, top


def quadkey_grid(quadkey: str, *, pixel_size_m: float) -> Grid:
    """A Web-Mercator tile in the whole number of pixels whose size comes nearest, m of its CRS.

    Examples
    --------
    >>> quadkey_grid("02310102300231", pixel_size_m=9.55).width
    256
    """
    left, _, right, top = quadkey_bounds(quadkey)
    n = max(1, round((right - left) / pixel_size_m))
    return Grid(WEB_MERCATOR_CRS, left, top, (right - left) / n, n, n)


def ground_pixel_m(grid: Grid) -> float:
    """Side of a grid's pixels on the ground, m: in Web Mercator less than in metres of its CRS.

    Examples
    --------
    >>> round(ground_pixel_m(quadkey_grid("02313003121333", pixel_size_m=38.2)), 1)
    33.0
    """
    if grid.crs != WEB_MERCATOR_CRS:
        return grid.pixel_size_m
    middle_m = grid.top_m - grid.height * grid.pixel_size_m / 2
    return grid.pixel_size_m / float(np.cosh(np.pi * middle_m / WEB_MERCATOR_EDGE_M))


def quadkey_at(longitude: float, latitude: float, *, length: int) -> str:
    """The Web-Mercator tile of so many digits that holds a point, WGS84 degrees.

    Raises ``ContractError`` beyond 85.05 degrees of latitude, where the map ends.

    Examples
    --------
    >>> quadkey_at(-98.8, 30.3, length=14)
    '02313003121333'
    """
    x, y = transformer("EPSG:4326", WEB_MERCATOR_CRS).transform(longitude, latitude)
    n, edge = 2**length, WEB_MERCATOR_EDGE_M
    if not (abs(y) < edge and -180 <= longitude <= 180):
        raise ContractError(
            f"No Web-Mercator tile at latitude {latitude}, longitude {longitude}: the map reaches "
            "85.05 degrees to the north and the south and 180 to the east and the west."
        )
    col, row = (
        min(int((x + edge) / edge / 2 * n), n - 1),
        min(int((edge - y) / edge / 2 * n), n - 1),
    )
    return _quadkey(col, row, length)


def quadkeys_around(quadkey: str) -> list[str]:
    """A tile and its eight neighbours, row by row from the north-west.

    Raises ``ContractError`` for a tile at the edge of the map.

    Examples
    --------
    >>> quadkeys_around("0311")
    ['0132', '0133', '1022', '0310', '0311', '1200', '0312', '0313', '1202']
    """
    left, _, right, top = quadkey_bounds(quadkey)
    n, side = 2 ** len(quadkey), right - left
    col, row = round((left + WEB_MERCATOR_EDGE_M) / side), round((WEB_MERCATOR_EDGE_M - top) / side)
    if not (0 < col < n - 1 and 0 < row < n - 1):
        raise ContractError(f"Tile {quadkey} lies at the edge of the map and lacks neighbours.")
    return [_quadkey(col + j, row + i, len(quadkey)) for i in (-1, 0, 1) for j in (-1, 0, 1)]


def _quadkey(col: int, row: int, length: int) -> str:
    return "".join(str((col >> k & 1) + 2 * (row >> k & 1)) for k in range(length - 1, -1, -1))

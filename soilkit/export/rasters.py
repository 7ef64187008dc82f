"""All of rasterio: arrays between grids, windows of GeoTIFFs, cloud-optimised files."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.enums import Resampling
from rasterio.shutil import copy as copy_raster
from rasterio.transform import Affine
from rasterio.warp import reproject as warp
from rasterio.warp import transform as transform_points
from rasterio.windows import Window

from soilkit.contracts import Grid
from soilkit.errors import ContractError, SoilkitError, StoreError, UnknownNameError
from soilkit.files import write_whole

RESAMPLINGS = ("nearest", "bilinear", "cubic", "average", "mode", "max", "min", "med")
MOST_PIXELS = 2**27  # that are read at once: half a GB
_BORDER = 21  # points a side at which a grid's extent is looked up in another CRS
_KERNEL_PX = 2  # pixels beyond a grid's border that interpolation reaches
# Files on the network: no listing of the folder around them, patience with a busy server.
_REMOTE = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_TIMEOUT": 60,
    "GDAL_HTTP_MAX_RETRY": 4,
    "GDAL_HTTP_RETRY_DELAY": 1,
}


@dataclass(frozen=True)
class Patch:
    """A piece of a file on the file's own pixels, (band, row, col) float32, NaN where no data.

    ``values`` are as stored: the file's ``scales`` and ``offsets`` (one a band) are not applied,
    and ``dtypes`` are the types that it holds.
    """

    values: np.ndarray
    crs: Any
    transform: Affine
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    dtypes: tuple[str, ...]

    @classmethod
    def of(cls, values: np.ndarray, crs: str, *, transform: tuple[float, ...]) -> "Patch":
        """A patch of physical values (band, row, col) that lie in no raster file.

        ``transform`` are the affine coefficients (a, b, c, d, e, f).
        """
        n = len(values)
        place = Affine(*transform)
        return cls(values.astype("f4"), crs, place, (1.0,) * n, (0.0,) * n, ("float32",) * n)

    def on_grid(self, grid: Grid, *, resampling: str = "bilinear") -> np.ndarray:
        """The values on a grid, (band, row, col) float32; no data is left out of every mean."""
        return _warped(self.values, (self.crs, self.transform), grid, resampling)


def reproject(
    values: np.ndarray, source: Grid, *, target: Grid, resampling: str = "bilinear"
) -> np.ndarray:
    """Move an array from one grid to another; NaN is no data on both sides.

    Classes and flags want the resampling "nearest" or "mode"; means over larger pixels want
    "average" (of radar in linear power, never in dB).

    Returns
    -------
    array (row, col) or (band, row, col) as ``values``, on ``target``, float32, NaN outside

    Raises
    ------
    ContractError
        When the array does not have the grid's shape.
    UnknownNameError
        For a resampling that does not exist.
    """
    values = np.asarray(values, dtype=np.float32)
    _check_shape(values, source)
    return _warped(values, (source.crs, Affine(*source.transform)), target, resampling)


def _check_shape(values: np.ndarray, grid: Grid) -> None:
    if values.shape[-2:] != (grid.height, grid.width) or values.ndim not in (2, 3):
        raise ContractError(
            f"The array has shape {values.shape}; its grid has {grid.height} rows and "
            f"{grid.width} columns. Hand the grid that the array lies on."
        )


def _warped(values: np.ndarray, place: tuple, target: Grid, resampling: str) -> np.ndarray:
    out = np.full((*values.shape[:-2], target.height, target.width), np.nan, dtype=np.float32)
    method = _resampling(resampling)
    with _named(f"Pixels in {place[0]} cannot be moved to {target.crs}", "Check both places."):
        warp(
            values, out, src_crs=place[0], src_transform=place[1], src_nodata=np.nan,
            dst_crs=target.crs, dst_transform=Affine(*target.transform), dst_nodata=np.nan,
            resampling=method,
        )  # fmt: skip
    return out


@contextlib.contextmanager
def _named(failed: str, remedy: str) -> Iterator[None]:
    """Whatever rasterio, GDAL, the disk or the memory raise says what failed, and what to do."""
    try:
        yield
    except SoilkitError:
        raise
    except Exception as error:  # GDAL's own errors have no common base in rasterio's
        text = str(error) or type(error).__name__
        raise StoreError(f"{failed} ({text}). {remedy}") from error


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    """A georeferenced file; whatever goes wrong with it names it."""
    remedy = "It needs to be a georeferenced file with the bands that were asked for."
    with _named(f"{path} cannot be read as a raster", remedy):
        if Path(path).exists() and not (Path(path).is_file() or Path(path).is_dir()):
            raise ValueError("it is no regular file")
        place = Path(path) if os.path.exists(path) else path  # "#" and "?" are part of a name
        with rasterio.Env(**_REMOTE), rasterio.open(place) as file:
            if file.crs is None:
                points = ", only ground control points (radar geometry?)" if file.gcps[0] else ""
                raise ValueError(f"it has no CRS{points}")
            if not (file.crs.is_projected or file.crs.is_geographic):
                raise ValueError("its CRS is local, tied to no place on Earth")
            yield file


def cut(path: str | os.PathLike[str], grid: Grid, *, bands: Sequence[int] | None = None) -> Patch:
    """What a file holds under a grid, on the file's own pixels; one empty pixel where nothing.

    For what must happen before pixels are averaged: no data that the file does not know of, and
    radar in decibel, which is averaged in linear power. ``StoreError`` as from ``read``.
    """
    with _opened(path) as file:
        numbers, window = list(bands or file.indexes), _window(file, grid)
        values = _pixels(file, numbers, window or Window(0, 0, 1, 1))
        if window is None:
            return _patch(file, numbers, np.full_like(values, np.nan))
        return _patch(file, numbers, values, transform=file.window_transform(window))


def _pixels(file: Any, numbers: list[int], window: Window) -> np.ndarray:
    if len(numbers) * window.width * window.height > MOST_PIXELS:
        raise ValueError(f"{window.width:.0f} x {window.height:.0f} pixels lie under one grid")
    valid = file.read_masks(numbers, window=window) > 0
    return np.where(valid, file.read(numbers, window=window).astype(np.float32), np.float32(np.nan))


def _patch(file: Any, numbers: list[int], values: np.ndarray, *, transform=None) -> Patch:
    of_bands = (file.scales, file.offsets, file.dtypes)
    tags = (tuple(v[n - 1] for n in numbers) for v in of_bands)
    return Patch(values, file.crs, transform or file.transform, *tags)


def _window(file: Any, grid: Grid) -> Window | None:
    left, bottom, right, top = grid.bounds_m
    x, y = np.meshgrid(np.linspace(left, right, _BORDER), np.linspace(bottom, top, _BORDER))
    place = _place(file, grid.crs, x.ravel(), y.ravel())  # (2, point): col, row
    # A coarse grid's kernel reaches as many of the file's pixels as fit into one of the grid's;
    # on both sides of the meridian where a map of the Earth is cut, rows tell how many.
    extent = np.ptp(place, axis=1)
    is_cut = file.crs.is_geographic and extent[0] > file.width / 2
    reach = _KERNEL_PX + (extent[1] if is_cut else extent.max()) / min(grid.width, grid.height)
    first = np.maximum(np.floor(place.min(axis=1) - reach), 0).astype(int)
    last = np.minimum(np.ceil(place.max(axis=1) + reach), (file.width, file.height)).astype(int)
    size = last - first
    return Window(*first.tolist(), *size.tolist()) if (size > 0).all() else None


def _place(file: Any, crs: Any, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Column and row of points of another CRS, fractions of pixels, (2, point)."""
    east, north = (np.asarray(v) for v in transform_points(crs, file.crs, x, y)[:2])
    if file.crs.is_geographic:  # 254.6 E is 105.4 W: the turn that the file's middle is in
        middle = (file.bounds.left + file.bounds.right) / 2
        east = middle + (east - middle + 180) % 360 - 180
    t = ~file.transform
    return np.stack([t.a * east + t.b * north + t.c, t.d * east + t.e * north + t.f])


def sample(
    path: str | os.PathLike[str], points: np.ndarray, *, bands: Sequence[int] | None = None
) -> Patch:
    """The pixels that hold some points, as stored: a patch of (band, point, 1).

    ``points`` are (point, 2) longitude and latitude in degrees; ``StoreError`` as from ``read``.
    """
    with _opened(path) as file:
        numbers = list(bands or file.indexes)
        cols, rows = np.floor(_place(file, "EPSG:4326", *points.T)).astype(int)
        inside = (cols >= 0) & (cols < file.width) & (rows >= 0) & (rows < file.height)
        out = np.full((len(numbers), len(points), 1), np.nan, dtype=np.float32)
        for n in np.flatnonzero(inside):
            out[:, n] = _pixels(file, numbers, Window(int(cols[n]), int(rows[n]), 1, 1))[:, 0]
        return _patch(file, numbers, out)


@dataclass(frozen=True)
class Header:
    """What a raster file says of itself, one entry a band, empty where it says nothing.

    ``place`` is its CRS, left and top edge, steps along x and y, rows and columns.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    place: tuple[str, float, float, float, float, int, int]


def header(path: str | os.PathLike[str]) -> Header:
    """A raster file's names, units and place; ``StoreError`` as from ``read``, or if rotated."""
    with _opened(path) as file:
        t, texts = file.transform, (file.descriptions, file.units)
        if t.b or t.d:
            raise ValueError(f"it is rotated (transform {tuple(t)[:6]}): warp it first")
        names, units = (tuple(text or "" for text in some) for some in texts)
        place = (file.crs.to_string(), t.c, t.f, t.a, t.e, file.height, file.width)
        return Header(names, units, file.scales, file.offsets, place)


def read(
    path: str | os.PathLike[str],
    grid: Grid,
    *,
    bands: Sequence[int] | None = None,
    resampling: str = "bilinear",
) -> np.ndarray:
    """Read what a raster file holds on a grid, reprojected where it must be.

    Only the window that the grid touches is read. Scale and offset tags are applied; no-data and
    whatever lies outside the file becomes NaN. ``bands`` count from 1; None reads all. Raises
    ``StoreError`` when the file is absent, damaged or without a CRS.

    Returns
    -------
    array (band, row, col) float32
    """
    patch = cut(path, grid, bands=bands)
    scales, offsets = (np.array(v, dtype=np.float32) for v in (patch.scales, patch.offsets))
    values = patch.on_grid(grid, resampling=resampling)
    return values * scales[:, None, None] + offsets[:, None, None]


def grid_of(path: str | os.PathLike[str]) -> Grid:
    """The grid that a north-up raster file lies on.

    Raises ``StoreError`` when the file cannot be read, has no CRS, or its pixels are rotated or not
    square.
    """
    with _opened(path) as file:
        t, crs, height, width = file.transform, file.crs, file.height, file.width
    if t.b or t.d or not np.isclose(t.a, -t.e):
        raise StoreError(
            f"{path} is no north-up grid of square pixels (transform {tuple(t)[:6]}). Read it onto "
            "a grid of your own instead."
        )
    return Grid(crs.to_string(), t.c, t.f, t.a, height, width)


def write_cog(
    path: str | os.PathLike[str],
    values: np.ndarray,
    *,
    grid: Grid,
    names: Sequence[str] = (),
    units: Sequence[str] = (),
    tags: dict[str, str] | None = None,
) -> None:
    """Write a cloud-optimised GeoTIFF, whole or not at all.

    What is larger than a block of 512 pixels gets overviews: means of numbers, of whole numbers
    (classes, flags) the most frequent.

    Parameters
    ----------
    values : array (row, col) or (band, row, col); NaN is no data, and of a masked array the
        masked pixels, which are written as its ``fill_value``
    names, units : one a band
    tags : dataset tags, such as the model, the data's hash, or that it is synthetic

    Raises
    ------
    ContractError
        When the array does not have the grid's shape.
    StoreError
        When the disk refuses; what stood at ``path`` still stands.
    """
    path = Path(path)
    _check_shape(values, grid)
    cube = values if values.ndim == 3 else values[None]
    nodata = np.nan if cube.dtype.kind == "f" else None
    if isinstance(cube, np.ma.MaskedArray):
        nodata = cube.fill_value

    def write(part: Path) -> None:
        with rasterio.MemoryFile() as memory:
            size = {"count": len(cube), "height": grid.height, "width": grid.width}
            place = {"crs": grid.crs, "transform": Affine(*grid.transform)}
            kind = {"driver": "GTiff", "dtype": cube.dtype, "nodata": nodata}
            with memory.open(**kind, **size, **place) as file:
                file.write(np.ma.filled(cube))
                file.update_tags(**(tags or {}))
                file.descriptions = tuple(names) or file.descriptions
                file.units = tuple(units) or file.units
            with memory.open() as file:
                overview = "AVERAGE" if cube.dtype.kind == "f" else "MODE"
                packing = {"compress": "DEFLATE", "predictor": "YES", "resampling": overview}
                copy_raster(file, part, driver="COG", **packing)

    with _named(f"Cannot write {path}", "Free some space, or choose another folder."):
        write_whole(path, write)


def _resampling(name: str) -> Resampling:
    if name not in RESAMPLINGS:
        raise UnknownNameError(
            f"No resampling is called {name!r}; choose one of {', '.join(RESAMPLINGS)}."
        )
    return Resampling[name]

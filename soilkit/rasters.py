"""All of rasterio: arrays between grids, windows of GeoTIFFs, cloud-optimised files."""

import os
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
from rasterio import errors as rasterio_errors
from rasterio.enums import Resampling
from rasterio.shutil import copy as copy_raster
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT
from rasterio.warp import reproject as warp

from soilkit.contracts import Grid
from soilkit.errors import ContractError, StoreError, UnknownNameError

RESAMPLINGS = ("nearest", "bilinear", "cubic", "average", "mode", "max", "min", "med")
_READ_ERRORS = (rasterio_errors.RasterioIOError, rasterio_errors.CRSError)


def reproject(
    values: np.ndarray, source: Grid, *, target: Grid, resampling: str = "bilinear"
) -> np.ndarray:
    """Move an array from one grid to another; NaN is no data on both sides.

    Parameters
    ----------
    values : array (row, col) or (band, row, col) on ``source``
    source, target : Grid
    resampling : one of ``RESAMPLINGS``. Classes and flags want "nearest" or "mode"; means over
        larger pixels want "average" (of radar in linear power, never in dB).

    Returns
    -------
    array (row, col) or (band, row, col) on ``target``, float32, NaN outside ``source``

    Raises
    ------
    ContractError
        When the array does not have the grid's shape.
    UnknownNameError
        For a resampling that does not exist.
    """
    values = np.asarray(values, dtype=np.float32)
    if values.shape[-2:] != (source.height, source.width) or values.ndim not in (2, 3):
        raise ContractError(
            f"The array has shape {values.shape}; its grid has {source.height} rows and "
            f"{source.width} columns. Hand the grid that the array lies on."
        )
    out = np.full((*values.shape[:-2], target.height, target.width), np.nan, dtype=np.float32)
    warp(
        values,
        out,
        src_crs=source.crs,
        src_transform=Affine(*source.transform),
        src_nodata=np.nan,
        dst_crs=target.crs,
        dst_transform=Affine(*target.transform),
        dst_nodata=np.nan,
        resampling=_resampling(resampling),
    )
    return out


def read(
    path: str | os.PathLike[str],
    grid: Grid,
    *,
    bands: Sequence[int] | None = None,
    resampling: str = "bilinear",
) -> np.ndarray:
    """Read what a raster file holds on a grid, reprojected where it must be.

    Only the window that the grid touches is read. Scale and offset tags are applied; no-data and
    whatever lies outside the file becomes NaN.

    Parameters
    ----------
    path : file or URL that GDAL opens
    grid : Grid
    bands : band numbers counted from 1; None reads all
    resampling : one of ``RESAMPLINGS``

    Returns
    -------
    array (band, row, col) float32

    Raises
    ------
    StoreError
        When the file is absent, damaged or without a CRS.
    """
    try:
        with rasterio.open(path) as file:
            numbers = list(bands or file.indexes)
            values = _on_grid(file, grid, numbers=numbers, resampling=_resampling(resampling))
            scales = np.array([file.scales[n - 1] for n in numbers], dtype=np.float32)
            offsets = np.array([file.offsets[n - 1] for n in numbers], dtype=np.float32)
    except (*_READ_ERRORS, IndexError, ValueError) as error:
        raise StoreError(
            f"{path} cannot be read as a raster on {grid.crs} ({error}). It needs to be a "
            "georeferenced file with the bands that were asked for."
        ) from error
    return values * scales[:, None, None] + offsets[:, None, None]


def grid_of(path: str | os.PathLike[str]) -> Grid:
    """The grid that a north-up raster file lies on.

    Raises
    ------
    StoreError
        When the file cannot be read, has no CRS, or its pixels are rotated or not square.
    """
    try:
        with rasterio.open(path) as file:
            t, crs, height, width = file.transform, file.crs, file.height, file.width
    except _READ_ERRORS as error:
        raise StoreError(f"{path} cannot be read as a raster ({error}).") from error
    if crs is None or t.b or t.d or not np.isclose(t.a, -t.e):
        raise StoreError(
            f"{path} is no north-up grid of square pixels with a CRS (CRS {crs}, transform "
            f"{tuple(t)[:6]}). Read it onto a grid of your own instead."
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

    Parameters
    ----------
    path : file to write
    values : array (row, col) or (band, row, col); NaN is no data
    grid : Grid
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
    cube = np.atleast_3d(values) if values.ndim == 3 else values[None]
    if cube.shape[-2:] != (grid.height, grid.width):
        raise ContractError(
            f"The array has shape {values.shape}; the grid has {grid.height} rows and "
            f"{grid.width} columns."
        )
    temporary = path.with_name(f".{uuid.uuid4().hex}.{path.name}")
    try:
        with rasterio.MemoryFile() as memory:
            with memory.open(**_profile(cube, grid)) as file:
                file.write(cube)
                file.update_tags(**(tags or {}))
                for n, name in enumerate(names, start=1):
                    file.set_band_description(n, name)
                for n, unit in enumerate(units, start=1):
                    file.set_band_unit(n, unit)
            with memory.open() as file:
                copy_raster(file, temporary, driver="COG", compress="DEFLATE", predictor="YES")
        os.replace(temporary, path)
    except (OSError, rasterio_errors.RasterioError) as error:
        raise StoreError(
            f"Cannot write {path}: {error}. Free some space, or choose another folder."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _profile(cube: np.ndarray, grid: Grid) -> dict:
    return {
        "driver": "GTiff",
        "count": len(cube),
        "height": grid.height,
        "width": grid.width,
        "dtype": cube.dtype,
        "crs": grid.crs,
        "transform": Affine(*grid.transform),
        "nodata": np.nan if cube.dtype.kind == "f" else None,
    }


def _on_grid(file, grid: Grid, *, numbers: list[int], resampling: Resampling) -> np.ndarray:
    if file.crs is None:
        raise ValueError("it has no CRS")
    with WarpedVRT(
        file,
        crs=grid.crs,
        transform=Affine(*grid.transform),
        width=grid.width,
        height=grid.height,
        resampling=resampling,
        add_alpha=file.nodata is None and "alpha" not in {c.name for c in file.colorinterp},
    ) as vrt:
        values = vrt.read(numbers, masked=False).astype(np.float32)
        valid = vrt.read_masks(numbers) > 0
    return np.where(valid, values, np.float32(np.nan))


def _resampling(name: str) -> Resampling:
    if name not in RESAMPLINGS:
        raise UnknownNameError(
            f"No resampling is called {name!r}; choose one of {', '.join(RESAMPLINGS)}."
        )
    return Resampling[name]

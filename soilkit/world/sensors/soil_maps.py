"""Maps that stand still: SoilGrids, elevation, land cover, each on its native pixels."""

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from soilkit import grids
from soilkit.contracts import Grid
from soilkit.world import fields
from soilkit.world.sensors import instruments as c
from soilkit.world.sensors import lattice

MARGIN_PX = 8  # of the native map around a grid, wider than the smoothing kernel


def native_grid(grid: Grid, *, pixel_size_m: float, margin_px: int) -> Grid:
    """The map's own pixels, aligned to multiples of their size, that cover a grid and a margin.

    Examples
    --------
    >>> native = native_grid(Grid("EPSG:32614", 500_010.0, 4e6, 10, 256, 256),
    ...                      pixel_size_m=250, margin_px=1)
    >>> native.bounds_m
    (499750.0, 3997000.0, 503000.0, 4000250.0)
    """
    left, bottom, right, top = grid.bounds_m
    size = float(pixel_size_m)
    first_col, last_col = np.floor(left / size) - margin_px, np.ceil(right / size) + margin_px
    first_row, last_row = np.ceil(top / size) + margin_px, np.floor(bottom / size) - margin_px
    shape = int(first_row - last_row), int(last_col - first_col)
    return Grid(grid.crs, float(first_col * size), float(first_row * size), size, *shape)


def resample(values: np.ndarray, native: Grid, *, grid: Grid, order: int) -> np.ndarray:
    """Sample a native map (row, col) at the pixel centres of a grid; order 0 nearest, 1 linear."""
    row = (native.top_m - grid.y_m) / native.pixel_size_m - 0.5
    col = (grid.x_m - native.left_m) / native.pixel_size_m - 0.5
    where = np.meshgrid(row, col, indexing="ij")
    return map_coordinates(values, where, order=order, mode="nearest")


def soilgrids(seed: int, grid: Grid) -> np.ndarray:
    """Sand, silt, clay [g/kg] and bulk density [cg cm-3] as SoilGrids maps them.

    The truth smoothed over half a kilometre plus errors of two scales, so that R2 against profiles
    is 0.55-0.75 [1]_.

    Parameters
    ----------
    seed : int
    grid : Grid

    Returns
    -------
    float32 array (4, row, col)

    References
    ----------
    .. [1] Hengl et al. (2017), doi:10.1371/journal.pone.0169748
    """
    native = native_grid(grid, pixel_size_m=c.SOILGRIDS_PIXEL_M, margin_px=MARGIN_PX)
    truth = fields.ground(seed, *grids.project(native, grids.EASE2_CRS))
    errors = {name: _error(name, seed, native) for name in ("sand", "clay", "bdod")}
    r = c.SOILGRIDS_ERROR_CORRELATION
    errors["clay"] = r * errors["sand"] + np.sqrt(1 - r**2) * errors["clay"]
    sand = _smoothed(truth.sand_percent) + c.SOILGRIDS_ERROR_PERCENT["sand"] * errors["sand"]
    clay = _smoothed(truth.clay_percent) + c.SOILGRIDS_ERROR_PERCENT["clay"] * errors["clay"]
    density = _smoothed(truth.bulk_density_g_cm3) + c.SOILGRIDS_DENSITY_ERROR * errors["bdod"]
    sand, clay = np.clip(sand, 2, 96), np.clip(clay, 1, 70)
    excess = np.maximum(sand + clay - 98, 0) / 2
    sand, clay = sand - excess, clay - excess
    stored = (10 * sand, 1000 - 10 * sand - 10 * clay, 10 * clay, 100 * density)
    return np.stack([resample(v, native, grid=grid, order=1) for v in stored]).astype(np.float32)


def _smoothed(truth: np.ndarray) -> np.ndarray:
    return gaussian_filter(truth, c.SOILGRIDS_SMOOTHING_PX, mode="nearest")


def _error(name: str, seed: int, native: Grid) -> np.ndarray:
    """Standard normal errors of two scales of equal variance, (row, col)."""
    total = np.zeros((native.height, native.width), dtype=np.float32)
    for scale in c.SOILGRIDS_ERROR_SCALES_M:
        key = lattice.key(seed, "soilgrids", name, scale, native.crs)
        total += lattice.smooth(key, (native.y_m, native.x_m), scale_m=scale)
    return total / np.sqrt(len(c.SOILGRIDS_ERROR_SCALES_M))


def elevation(seed: int, grid: Grid) -> np.ndarray:
    """Elevation on 30 m pixels with the error of a radar DEM, float32 (1, row, col), m.

    References
    ----------
    Buckley et al. (2020), NASADEM user guide, NASA LP DAAC
    """
    native = native_grid(grid, pixel_size_m=c.DEM_PIXEL_M, margin_px=2)
    truth = fields.ground(seed, *grids.project(native, grids.EASE2_CRS)).elevation_m
    key = lattice.key(seed, "dem", grid.crs)
    error = lattice.smooth(key, (native.y_m, native.x_m), scale_m=c.DEM_ERROR_SCALE_M)
    seen = resample(truth + c.DEM_ERROR_M * error, native, grid=grid, order=1)
    return seen.astype(np.float32)[None]


def land_cover(seed: int, grid: Grid) -> np.ndarray:
    """Copernicus class codes on their 100 m pixels, float32 (1, row, col)."""
    native = native_grid(grid, pixel_size_m=100, margin_px=1)
    truth = fields.ground(seed, *grids.project(native, grids.EASE2_CRS)).land_cover
    return resample(truth, native, grid=grid, order=0).astype(np.float32)[None]

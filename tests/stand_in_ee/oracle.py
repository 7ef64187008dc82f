"""What an archive should hold: computed from the analytic Earth alone, by no node of the graph."""

import numpy as np
from scipy.ndimage import map_coordinates

from tests.stand_in_ee.rasters import Earth
from tests.stand_in_ee.shapes import transformer


def expected(asset: str, index: str, band: str, *, grid, method: str = "bilinear", earth=None):
    """The pixels of one image on a grid.

    Parameters
    ----------
    asset, index : str
        A collection and the ``system:index`` of its image; an image asset and "".
    band : str
    grid : soilkit.contracts.Grid
    method : "bilinear" or "nearest", between native pixels

    Returns
    -------
    array (row, col), float64, stored values; NaN where masked
    """
    scene = _scene(asset, index, earth)
    x, y = transformer(grid.crs, scene.crs).transform(*np.meshgrid(grid.x_m, grid.y_m))
    step = scene.band(band).step
    left, top = scene.origin
    col, row = (x - left) / step - 0.5, (top - y) / step - 0.5  # 0 is the first centre
    first_col, first_row = int(np.floor(col.min())) - 2, int(np.floor(row.min())) - 2
    cols = np.arange(first_col, int(np.ceil(col.max())) + 3)
    rows = np.arange(first_row, int(np.ceil(row.max())) + 3)
    centres = np.meshgrid(left + (cols + 0.5) * step, top - (rows + 0.5) * step)
    native, valid = scene.pixels(scene.band(band), *centres)
    native, valid = np.where(valid, native, 0.0), np.broadcast_to(valid, native.shape)
    if scene.id in (earth or _EARTH).blank:
        valid = np.zeros_like(valid)
    if method == "nearest":
        # A point on the edge of two pixels belongs to the eastern, the southern one.
        nearest = (
            np.floor(row + 0.5).astype(int) - rows[0],
            np.floor(col + 0.5).astype(int) - cols[0],
        )
        return np.where(valid[nearest], native[nearest], np.nan)
    at = [row - rows[0], col - cols[0]]
    found = map_coordinates(native.astype(float), at, order=1)
    whole = map_coordinates(valid.astype(float), at, order=1)
    return np.where(whole > 1 - 1e-9, found, np.nan)


def expected_mosaic(asset: str, indices, band: str, *, grid, method: str = "bilinear", earth=None):
    """Several images on a grid, the last of ``indices`` on top."""
    found = np.full((grid.height, grid.width), np.nan)
    for index in indices:
        layer = expected(asset, index, band, grid=grid, method=method, earth=earth)
        found = np.where(np.isnan(layer), found, layer)
    return found


def expected_at(asset: str, index: str, band: str, *, place, earth=None) -> float:
    """The native pixel that holds a place (longitude, latitude); NaN where it is masked."""
    scene = _scene(asset, index, earth)
    x, y = transformer("EPSG:4326", scene.crs).transform(*place)
    step = scene.band(band).step
    left, top = scene.origin
    col, row = np.floor((x - left) / step), np.floor((top - y) / step)
    centre = left + (col + 0.5) * step, top - (row + 0.5) * step
    value, valid = scene.pixels(scene.band(band), *map(np.atleast_1d, centre))
    return float(value[0]) if np.all(valid) else float("nan")


_EARTH = Earth()


def _scene(asset, index, earth):
    scene = (earth or _EARTH).image(f"{asset}/{index}" if index else asset)
    if scene is None:
        raise KeyError(f"{asset} has no image {index!r}")
    return scene

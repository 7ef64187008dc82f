"""Grids: the right zone, the right place, the same ground at two pixel sizes."""

import numpy as np
import pyproj
import pytest

from soilkit import grids
from soilkit.errors import ContractError


@pytest.mark.parametrize(
    ("latitude", "longitude", "crs"),
    [
        (30.3, -98.8, "EPSG:32614"),
        (-34.7, 146.1, "EPSG:32755"),
        (0.0, 180.0, "EPSG:32660"),
        (51.9, -0.001, "EPSG:32630"),
        (51.9, 0.0, "EPSG:32631"),
    ],
)
def test_a_station_lies_in_its_utm_zone(latitude, longitude, crs):
    """Zones are six degrees wide from 180 W; the south counts from 32700."""
    assert grids.utm_crs(latitude, longitude) == crs


def test_no_utm_zone_beyond_the_poles_or_for_swapped_coordinates():
    """Longitude in place of latitude is the classic mistake and must not pass."""
    with pytest.raises(ContractError, match="No UTM zone"):
        grids.utm_crs(-98.8, 30.3)


def test_high_and_low_resolution_cover_the_same_ground():
    """256 pixels of 10 m and 16 of 160 m are both 2.56 km, edge to edge."""
    high = grids.chip_grid(30.3, -98.8, size_px=256, pixel_size_m=10)
    low = grids.chip_grid(30.3, -98.8, size_px=16, pixel_size_m=160)
    assert high.bounds_m == low.bounds_m


def test_the_station_stands_within_half_a_snap_of_the_chip_centre():
    """Snapping to 10 m moves the chip by at most 5 m a side."""
    grid = grids.chip_grid(30.3, -98.8, size_px=256, pixel_size_m=10)
    x, y = pyproj.Transformer.from_crs(4326, grid.crs, always_xy=True).transform(-98.8, 30.3)
    left, bottom, right, top = grid.bounds_m
    assert abs((left + right) / 2 - x) <= 5
    assert abs((bottom + top) / 2 - y) <= 5
    assert left % 10 == 0 and top % 10 == 0


@pytest.mark.parametrize("size", [1, 16, 33, 362])
def test_projecting_by_a_net_agrees_with_every_pixel(size):
    """The bilinear net is within a centimetre of pyproj on each pixel, whatever the size."""
    grid = grids.chip_grid(38.0, -99.0, size_px=size, pixel_size_m=10)
    fast = grids.project(grid, "EPSG:6933")
    exact = grids.transformer(grid.crs, "EPSG:6933").transform(*np.meshgrid(grid.x_m, grid.y_m))
    assert np.abs(np.subtract(fast, exact)).max() < 0.01


def test_longitudes_do_not_run_around_the_earth_at_the_antimeridian():
    """A mean of 179.99 and -179.99 degrees is no longitude between them."""
    grid = grids.chip_grid(-17.0, 179.995, size_px=256, pixel_size_m=10)
    longitude, latitude = grids.lonlat(grid)
    x, y = grids.transformer("EPSG:4326", grid.crs).transform(longitude, latitude)
    assert np.abs(x - grid.x_m).max() < 0.02 and np.abs(y - grid.y_m[:, None]).max() < 0.02
    assert (longitude > 179.9).any() and (longitude < -179.9).any()


def test_ease_grid_cells_hold_their_own_centres():
    """A cell centre computed from the published origin falls back into that cell."""
    size = grids.EASE2_PIXEL_SIZE_M[36]
    x = grids.EASE2_LEFT_M + (100 + 0.5) * size
    y = grids.EASE2_TOP_M - (70 + 0.5) * size
    longitude, latitude = grids.transformer("EPSG:6933", "EPSG:4326").transform(x, y)
    row, col = grids.ease2_cell(longitude, latitude, pixel_size_km=36)
    assert (int(row), int(col)) == (70, 100)


def test_sixteen_ease_cells_of_9_km_fit_each_of_36():
    """The grids nest: four 9 km cells a side make one of 36 km (3856 x 1624 and 964 x 406)."""
    row9, col9 = grids.ease2_cell(-98.8, 30.3, pixel_size_km=9)
    row36, col36 = grids.ease2_cell(-98.8, 30.3, pixel_size_km=36)
    assert (int(row9) // 4, int(col9) // 4) == (int(row36), int(col36))

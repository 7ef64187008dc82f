"""Rasters land where they belong."""

import os
from pathlib import Path

import numpy as np
import pytest
import rasterio

from soilkit import grids
from soilkit.contracts import Grid
from soilkit.errors import ContractError, StoreError, UnknownNameError
from soilkit.export import rasters

GRID = Grid("EPSG:32614", 500_000.0, 4_000_000.0, 10.0, 64, 48)


def eastings_km(grid):
    return np.broadcast_to(grid.x_m / 1000, (grid.height, grid.width)).astype(np.float32)


def northings_km(grid):
    return np.broadcast_to(grid.y_m[:, None] / 1000, (grid.height, grid.width)).astype(np.float32)


def test_a_cog_reads_back_in_the_right_place(tmp_path):
    values = np.stack([eastings_km(GRID), northings_km(GRID)])
    values[0, 0, 0] = np.nan
    rasters.write_cog(
        tmp_path / "map.tif", values, grid=GRID, names=["east", "north"], tags={"data": "synthetic"}
    )
    assert rasters.grid_of(tmp_path / "map.tif") == GRID
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.tags()["data"] == "synthetic" and file.descriptions == ("east", "north")
        x, y = GRID.x_m[7], GRID.y_m[11]
        np.testing.assert_allclose(next(file.sample([(x, y)])), [x / 1000, y / 1000], rtol=1e-6)
    np.testing.assert_array_equal(rasters.read(tmp_path / "map.tif", GRID), values)


def test_a_window_is_read_and_what_lies_outside_is_unknown(tmp_path):
    rasters.write_cog(tmp_path / "a.tif", eastings_km(GRID), grid=GRID)
    shifted = Grid(GRID.crs, GRID.left_m + 400, GRID.top_m - 100, 10.0, 8, 16)
    window = rasters.read(tmp_path / "a.tif", shifted, resampling="nearest")
    assert window.shape == (1, 8, 16)
    np.testing.assert_array_equal(window[0, :, :8], eastings_km(shifted)[:, :8])
    assert np.isnan(window[0, :, 8:]).all()


def test_a_file_in_degrees_is_read_onto_a_utm_grid(tmp_path):
    target = grids.chip_grid(36.1, -98.9, size_px=32, pixel_size_m=30)
    size = 0.0005
    degrees = Grid("EPSG:4326", -98.95, 36.15, size, 200, 200)
    rasters.write_cog(tmp_path / "d.tif", degrees_east(degrees), grid=degrees)
    longitude, _ = grids.lonlat(target)
    found = rasters.read(tmp_path / "d.tif", target)[0]
    np.testing.assert_allclose(found, longitude, atol=0.2 * size)


def degrees_east(grid):
    return np.broadcast_to(grid.x_m, (grid.height, grid.width)).astype(np.float64)


def test_scale_offset_and_nodata_of_a_file_are_applied(tmp_path):
    profile = {"driver": "GTiff", "count": 1, "height": 64, "width": 48, "dtype": "int16"}
    with rasterio.open(
        tmp_path / "s.tif",
        "w",
        crs=GRID.crs,
        transform=rasterio.Affine(*GRID.transform),
        nodata=-1,
        **profile,
    ) as file:
        stored = np.full((1, 64, 48), 300, np.int16)
        stored[0, 5, 5] = -1
        file.write(stored)
        file.scales, file.offsets = (0.1,), (2.0,)
    found = rasters.read(tmp_path / "s.tif", GRID, resampling="nearest")[0]
    assert np.isnan(found[5, 5]) and found[0, 0] == pytest.approx(32.0)


def test_averaging_to_larger_pixels_keeps_the_mean():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(64, 48))
    coarse = Grid(GRID.crs, GRID.left_m, GRID.top_m, 160.0, 4, 3)
    found = rasters.reproject(values, GRID, target=coarse, resampling="average")
    expected = values.reshape(4, 16, 3, 16).mean(axis=(1, 3))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_reprojection_to_another_zone_and_back_returns_smooth_values():
    lon, lat = (c.mean() for c in grids.lonlat(GRID))
    x, y = grids.transformer("EPSG:4326", "EPSG:32613").transform(lon, lat)
    there = Grid("EPSG:32613", x - 1500, y + 1500, 10.0, 300, 300)
    plane = eastings_km(GRID) - 500
    moved = rasters.reproject(plane, GRID, target=there)
    back = rasters.reproject(moved, there, target=GRID)
    inner = back[4:-4, 4:-4]
    assert np.isfinite(inner).all()
    np.testing.assert_allclose(inner, plane[4:-4, 4:-4], atol=0.002)  # 2 m


@pytest.mark.parametrize("west", [0.0, -180.0])
@pytest.mark.parametrize("longitude", [-105.4, 10.0, 0.001, -0.001, 179.999, -179.999])
def test_a_map_of_the_earth_may_begin_at_any_meridian(tmp_path, west, longitude):
    """Pixels hold the cosine of their longitude, east of Greenwich or of the date line."""
    degrees = (west + np.arange(720) * 0.5 + 0.25) % 360
    values = np.tile(np.cos(np.radians(degrees)), (360, 1)).astype("float32")
    rasters.write_cog(tmp_path / "e.tif", values, grid=Grid("EPSG:4326", west, 90, 0.5, 360, 720))
    grid = grids.chip_grid(40.0, longitude, size_px=16, pixel_size_m=8000)
    wanted = np.cos(np.radians(grids.lonlat(grid)[0]))
    np.testing.assert_allclose(rasters.read(tmp_path / "e.tif", grid)[0], wanted, atol=1e-4)
    point = rasters.sample(tmp_path / "e.tif", np.array([[longitude, 40.0]])).values
    np.testing.assert_allclose(point.squeeze(), np.cos(np.radians(longitude)), atol=5e-3)


def test_bad_rasters_are_named(tmp_path):
    with pytest.raises(StoreError, match="absent"):
        rasters.read(tmp_path / "absent.tif", GRID)
    (tmp_path / "text.tif").write_text("no raster")
    with pytest.raises(StoreError, match="text.tif"):
        rasters.grid_of(tmp_path / "text.tif")
    rasters.write_cog(tmp_path / "a.tif", eastings_km(GRID), grid=GRID)
    (tmp_path / "half.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:-9000])
    with pytest.raises(StoreError, match="half.tif cannot be read"):
        rasters.read(tmp_path / "half.tif", GRID)
    with pytest.raises(StoreError, match="cannot be moved to EPSG:99999"):
        rasters.reproject(np.zeros((64, 48)), GRID, target=Grid("EPSG:99999", 0, 0, 1, 4, 4))
    with pytest.raises(ContractError, match="64 rows"):
        rasters.write_cog(tmp_path / "x.tif", np.zeros((3, 3)), grid=GRID)
    with pytest.raises(UnknownNameError, match="bilinear"):
        rasters.reproject(np.zeros((64, 48)), GRID, target=GRID, resampling="magic")


def test_a_write_that_fails_leaves_what_stood_there(tmp_path, monkeypatch):
    rasters.write_cog(tmp_path / "a.tif", eastings_km(GRID), grid=GRID)

    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rasters, "copy_raster", full)
    with pytest.raises(StoreError, match="Free some space"):
        rasters.write_cog(tmp_path / "a.tif", northings_km(GRID), grid=GRID)
    np.testing.assert_array_equal(rasters.read(tmp_path / "a.tif", GRID)[0], eastings_km(GRID))
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]


def real_radar():
    data = os.environ.get("SOILKIT_TEST_DATA", "")
    path = Path(data) / "chips/sen1floods11/S1/Spain_7370579_S1Hand.tif"
    if not data or not path.exists():
        pytest.skip("needs the sen1floods11 chip: set SOILKIT_TEST_DATA to the folder of real data")
    return path


def test_a_real_radar_chip_in_degrees_keeps_its_statistics_on_a_utm_grid():
    path = real_radar()
    with rasterio.open(path) as file:
        original = file.read().astype(float)
        longitude, latitude = file.lnglat()
    grid = grids.chip_grid(latitude, longitude, size_px=256, pixel_size_m=10)
    moved = rasters.read(path, grid, resampling="nearest")
    assert moved.shape == (2, 256, 256) and np.isfinite(moved).mean() > 0.99
    half = round(128 / np.cos(np.radians(latitude)))  # degrees of longitude are shorter
    middle = original[:, 128:384, 256 - half : 256 + half]
    np.testing.assert_allclose(
        np.nanmean(moved, axis=(1, 2)), np.nanmean(middle, axis=(1, 2)), atol=0.1
    )
    # the station's own pixel is the file's pixel there
    with rasterio.open(path) as file:
        lon, lat = (c[128, 128] for c in grids.lonlat(grid))
        expected = next(file.sample([(lon, lat)]))
    np.testing.assert_allclose(moved[:, 128, 128], expected, atol=1e-4)

"""Cubes: any region of any archive on one grid, resumable, and honest about what it lacks."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import tracemalloc
import warnings
from pathlib import Path

import cftime
import numpy as np
import pandas as pd
import pyproj
import pytest
import rasterio
import shapely
import xarray as xr

from soilkit import grids, sources
from soilkit.contracts import Chip, ChipRequest, Failure, Grid
from soilkit.errors import (
    BoundError,
    ContractError,
    ParameterError,
    StoreError,
    TimeZoneError,
    UnitError,
    UnknownNameError,
)
from soilkit.export import chips, cubes
from soilkit.export.archives import confirm, open_archive
from soilkit.export.archives.local import Layer
from soilkit.export.archives.scenes import places_of, scenes_everywhere, static_image
from tests.helpers_stac import raster
from tests.world_catalogue import export_world

WORLD = {"seed": 0, "n_stations": 2, "start": "2019-05-01", "end": "2019-07-01"}
BOX = (-99.205, 36.398, -99.199, 36.402)  # some 540 m x 440 m in zone 14
TIMES = ["2019-06-12", "2019-06-20 18:00"]
LAYERS = {"sentinel1": ["VV", "VH"], "sentinel2": ["B4", "QA60"], "dem": None, "smap": None}
OPTIONS = {"times": TIMES, "pixel_size_m": 10, "tile_px": 32, "progress": False}
ARCHIVES = ("synthetic", "earthengine", "stac", "local")


# ---- a small archive: the day of a scene and the place decide each value -------------------------


def plain_values(request):
    """Elevation rises by 1 m in 100 m eastward and 2 m in 100 m southward, and with the day."""
    grid = request.grid
    day = 0 if np.isnat(request.time) else (request.time - np.datetime64("2019-06-01")).astype(int)
    x, y = np.meshgrid(grid.x_m, grid.y_m)
    plane = (x % 10_000) / 100 - (y % 10_000) / 50 + day / 86_400e6
    return np.stack([plane + 20 * k for k, _ in enumerate(request.bands)]).astype(np.float32)


class Plain:
    """A scene at every midnight of June 2019 over all places; ``failures`` by source."""

    name, version = "plain", "1"

    def __init__(self, failures=None, without=()):
        self.failures, self.without, self.asked = failures or {}, without, []

    def scenes(self, stations, source, start, end):
        images = static_image()
        if not sources.get(source).is_static:
            days = pd.date_range("2019-06-01", "2019-07-01", unit="us", inclusive="left")
            days = days[(days >= pd.Timestamp(start)) & (days < pd.Timestamp(end))]
            names = [f"{source}_{day:%Y%m%d}" for day in days]
            images = pd.DataFrame({"scene_id": names, "start": days, "end": days})
        images = images.iloc[:0] if source in self.without else images
        return scenes_everywhere(source, images, places=places_of(stations))

    def chips(self, requests):
        for request in requests:
            self.asked.append(request)
            failure = self.failures.get(request.source)
            yield request, failure or Chip(plain_values(request), request.bands, request.grid)


PLAIN = {"sources": {"sentinel1": ["VV"], "dem": None}, "times": ["2019-06-10", "2019-06-11"],
         "pixel_size_m": 10, "tile_px": 16, "progress": False}  # fmt: skip


def grid_of(cube):
    size = float(cube.x[1] - cube.x[0])
    crs = f"EPSG:{pyproj.CRS.from_wkt(cube.spatial_ref.attrs['crs_wkt']).to_epsg()}"
    left, top = float(cube.x[0]) - size / 2, float(cube.y[0]) + size / 2
    return Grid(crs, left, top, size, cube.sizes["y"], cube.sizes["x"])


# ---- one test over all archives ------------------------------------------------------------------


def layers_of(name):
    """The catalogue of the world is written with fine layers, one's own files hold no optics."""
    without = {"stac": "smap", "local": "sentinel2"}.get(name)
    return {k: v for k, v in LAYERS.items() if k != without}


def own_files(folder):
    """Backscatter as noise in a dataset on a grid of its own, terrain as GeoTIFF, SMAP on EASE."""
    rng, grid = np.random.default_rng(3), Grid("EPSG:32614", 481_003.0, 4_029_004.0, 10, 200, 200)
    times = pd.to_datetime(["2019-06-11 12:30", "2019-06-15 12:30", "2019-06-19 12:30"])
    axes = {"time": times.to_numpy(), "y": grid.y_m, "x": grid.x_m}
    noise = rng.normal(-14, 2, (2, 3, 200, 200)).astype("f4")
    bands = {"VV": (tuple(axes), noise[0]), "VH": (tuple(axes), noise[1])}
    radar = xr.Dataset(bands, axes)
    raster(folder / "dem.tif", rng.normal(400, 20, (200, 200)).astype("f4"), grid)
    cell = grids.cover((-9.6e6, 4.2e6, -9.5e6, 4.4e6), "EPSG:6933", pixel_size_m=9000)
    axes = {"time": times.to_numpy(), "y": cell.y_m, "x": cell.x_m}
    ssm = rng.uniform(5, 25, (3, cell.height, cell.width)).astype("f4")
    smap = xr.DataArray(ssm, axes, dims=list(axes), name="ssm", attrs={"units": "mm"})
    return {
        "sentinel1": Layer(radar, crs="EPSG:32614", unit="dB"),
        "dem": Layer(folder / "dem.tif", unit="m"),
        "smap": Layer(smap, crs="EPSG:6933", dated_by="instant"),
    }


def archive_of(name, folder):
    if name == "earthengine":
        return open_archive(name, cache_dir=folder / "scenes")
    if name == "local":
        return open_archive(name, layers=own_files(folder))
    world = open_archive("synthetic", **WORLD)
    if name == "synthetic":
        return world
    place = {"sensor_id": "A", "station_id": "A", "latitude": 36.4, "longitude": -99.202}
    how = {"stations": pd.DataFrame([place]), "period": ("2019-06-11", "2019-06-21")}
    how |= {"sources": list(layers_of(name)), "size_px": 96, "progress": False}
    return open_archive("stac", catalogue=export_world(world, folder / "stac", **how))


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Each archive by name, and its cube, built once."""
    done = {}

    def get(name):
        if name not in done:
            folder = tmp_path_factory.mktemp(name)
            archive, layers = archive_of(name, folder), layers_of(name)
            cube = cubes.build(BOX, archive, folder / "cube", sources=layers, **OPTIONS)
            done[name] = archive, cube
        return done[name]

    return get


@pytest.fixture(params=ARCHIVES)
def built(request, opened):
    if request.param == "earthengine":
        request.getfixturevalue("earth_engine")
    return opened(request.param)


def nearest(archive, source, time, *, rank=0):
    """The nearest past scene over the box by plain comparison; a higher rank is an older one."""
    place = pd.DataFrame({"station_id": ["A"], "latitude": [36.4], "longitude": [-99.202]})
    row, at = sources.get(source), pd.Timestamp(time)
    first = at - pd.Timedelta(row.max_age.lower()) if not row.is_static else at
    table = archive.scenes(place, source, first, at + pd.Timedelta("1us"))
    table = table.sort_values("end", ascending=False)
    return table.iloc[rank] if rank < len(table) else None


def asked(archive, scene, bands, *, source, grid):
    """The chip of a whole grid in one piece, in bands' units, (band, row, col)."""
    row = sources.get(source)
    bands = tuple(bands or [band.name for band in row.bands])
    continuous = any(row.band(band).continuous for band in bands)
    time = scene.end.to_datetime64() if pd.notna(scene.end) else np.datetime64("NaT", "us")
    method = "bilinear" if continuous else "nearest"
    request = ChipRequest(
        source, str(scene.scene_id), "A", time, bands, grid, method, archive.version
    )
    [(_, chip)] = archive.chips([request])
    assert isinstance(chip, Chip), chip
    return {b: row.band(b).physical(v) for b, v in zip(bands, chip.values, strict=True)}


def test_every_layer_is_the_archives_own_chip_of_the_nearest_past_scene(built):
    """Tiles leave no seam: the whole grid in one chip holds what the tiles hold, and its age."""
    archive, cube = built
    seen = 0
    for source, bands in layers_of(archive.name).items():
        for k, time in enumerate(TIMES):
            scene = nearest(archive, source, time)
            if scene is None:
                assert cube[f"{source}_age_hours"][k].isnull().all()
                continue
            if f"{source}_age_hours" in cube:
                age = (pd.Timestamp(time) - scene.end) / pd.Timedelta("1h")
                np.testing.assert_allclose(cube[f"{source}_age_hours"][k], age, rtol=1e-6)
            for band, values in asked(
                archive, scene, bands, source=source, grid=grid_of(cube)
            ).items():
                layer = cube[f"{source}_{band}"]
                layer = layer if sources.get(source).is_static else layer[k]
                step = (
                    np.ravel(chips.packing_of(sources.get(source), [band]).scale)[0]
                    * sources.get(source).band(band).scale
                )
                np.testing.assert_array_equal(np.isnan(layer), np.isnan(values))
                steps_off = np.abs(layer.to_numpy() - values)[np.isfinite(values)] / step
                assert steps_off.max() < 1.1 and np.mean(steps_off > 0.51) < 0.002
                seen += 1
    assert seen >= 6


def test_a_pixels_shift_a_wrong_day_and_a_wrong_zone_show_as_numbers(built):
    """The mean difference to the right chip is a rounding; to a wrong one at least ten times it."""
    archive, cube = built
    grid, scene = grid_of(cube), nearest(archive, "sentinel1", TIMES[1])
    x, y = grids.transformer(grid.crs, "EPSG:32615").transform(grid.left_m, grid.top_m)
    layer = cube.sentinel1_VV[1].to_numpy()

    def off(values):
        return float(np.nanmean(np.abs(values - layer)))

    def vv(one, where):
        return asked(archive, one, ["VV"], source="sentinel1", grid=where)["VV"]

    older = nearest(archive, "sentinel1", TIMES[1], rank=1)
    rounding = off(vv(scene, grid))
    assert rounding < 0.006  # uniform in +-0.01 dB: 0.005
    assert off(vv(scene, dataclasses.replace(grid, left_m=grid.left_m + 10))) > 10 * rounding
    assert off(vv(older, grid)) > 10 * rounding
    elsewhere = dataclasses.replace(grid, crs="EPSG:32615", left_m=x, top_m=y)
    assert off(vv(scene, elsewhere)) > 10 * rounding


def test_a_cube_says_in_cf_what_and_where_it_is(built):
    archive, cube = built
    plain = xr.open_zarr(cube.encoding["source"])
    assert plain.sentinel1_VV.chunks and set(plain.data_vars) == set(cube.data_vars)
    assert cube.time.dtype == "datetime64[us]" and cube.time.values.tolist() == [
        pd.Timestamp(t) for t in TIMES
    ]
    assert plain.sentinel1_VV.attrs["units"] == "dB"
    assert plain.sentinel1_VV.attrs["grid_mapping"] == "spatial_ref"
    assert plain.x.attrs["standard_name"] == "projection_x_coordinate"
    assert plain.spatial_ref.attrs["grid_mapping_name"] == "transverse_mercator"
    assert cube.attrs["archive_version"] == archive.version and "history" not in cube.attrs
    assert ("comment" in cube.attrs) == (archive.name == "synthetic")
    if archive.name != "local":
        assert plain.sentinel2_QA60.attrs["flag_masks"] == [1024, 2048]


def test_the_plan_of_a_standing_cube_is_empty_and_an_estimate_takes_the_plan(built, tmp_path):
    archive, cube = built
    options = {k: v for k, v in OPTIONS.items() if k != "progress"}
    options["sources"] = layers_of(archive.name)
    requests = cubes.plan(BOX, archive, **options)
    standing = cubes.plan(BOX, archive, store=cube.encoding["source"], **options)
    assert len({r.request_hash for r in requests}) == len(requests) > 10 and not standing
    estimate = confirm(archive, requests, yes=True)
    assert (estimate is None) == (archive.name == "synthetic" or not hasattr(archive, "estimate"))


def test_a_coarse_product_on_ease_grid_nests_in_finer_pixels(tmp_path):
    """The middle one of nine pixels of 3 km has the centre, and so the value, of that of 9 km."""
    archive = open_archive("synthetic", **WORLD)
    how = {"sources": ["smap"], "times": ["2019-06-12"], "crs": "EPSG:6933", "progress": False}
    box = (-99.6, 36.2, -99.2, 36.6)
    nine = cubes.build(box, archive, tmp_path / "9", pixel_size_m=9000, **how)
    three = cubes.build(box, archive, tmp_path / "3", pixel_size_m=3000, **how)
    whole = nine.smap_ssm[0, 1:-1, 1:-1]  # the finer grid may end within a cell at the rim
    inner = three.smap_ssm[0].sel(x=whole.x, y=whole.y, method="nearest", tolerance=1.0)
    np.testing.assert_array_equal(inner, whole)
    assert np.unique(nine.smap_ssm).size > 4 and nine.smap_ssm.notnull().all()


def test_web_mercator_pixels_show_the_ground_that_utm_pixels_show(built, tmp_path):
    """Terrain at a place is the same in both; five pixels off it is not. A pixel is 8 m there."""
    archive, cube = built
    options = {**OPTIONS, "sources": ["dem"], "crs": "EPSG:3857"}
    mercator = cubes.build(BOX, archive, tmp_path / "c", **options)
    assert grid_of(mercator).crs == "EPSG:3857" and cubes.losses(mercator).empty
    ratio = mercator.sizes["x"] / cube.sizes["x"]
    assert ratio == pytest.approx(1 / np.cos(np.radians(36.4)), rel=0.04)
    to_utm = grids.transformer("EPSG:3857", grid_of(cube).crs).transform
    x, y = to_utm(*np.meshgrid(mercator.x, mercator.y))

    def off(dx):
        at = {"x": xr.Variable(("row", "col"), x + dx), "y": xr.Variable(("row", "col"), y)}
        there = cube.dem_elevation.interp(at, "nearest").to_numpy()
        return float(np.abs(there - mercator.dem_elevation.to_numpy())[2:-2, 9:-9].mean())

    assert off(0) < 0.6 * min(off(50), off(-50))


# ---- grids and regions ---------------------------------------------------------------------------


def test_the_global_ease_grids_have_their_published_rows_and_columns():
    """Brodzik et al. (2012), as corrected in 2014: 36, 9, 3 and 1 km, one within the other."""
    published = {36: (406, 964), 9: (1624, 3856), 3: (4872, 11568), 1: (14616, 34704)}
    assert {km: grids.ease2_shape(km) for km in published} == published
    world = grids.ease2_cover((-2e7, -2e7, 2e7, 2e7), pixel_size_m=36_000)
    assert (world.height, world.width) == (406, 964)
    assert world.bounds_m[2] == pytest.approx(-grids.EASE2_LEFT_M, abs=1e-3)
    assert grids.ease2_cover((0, 0, 1, 1), pixel_size_m=9008.055).pixel_size_m == 9008.055210146
    globe = cubes.region_of((-180, -85, 180, 85), pixel_size_m=36_000, crs="EPSG:6933")
    assert len(globe.tiles) * globe.tile_px**2 < 1.1 * 406 * 964


@pytest.mark.parametrize("km", [1, 3, 9])
def test_cells_of_a_region_nest_in_those_of_36_km(km):
    box = (-99.6, 36.2, -98.2, 37.6)
    coarse = cubes.region_of(box, pixel_size_m=36_000, crs="EPSG:6933").grid
    fine = cubes.region_of(box, pixel_size_m=1000 * km, crs="EPSG:6933").grid
    offset = (fine.left_m - coarse.left_m) / fine.pixel_size_m
    assert offset == pytest.approx(round(offset), abs=1e-4)
    assert coarse.pixel_size_m == pytest.approx(36 / km * fine.pixel_size_m, rel=1e-9)


@pytest.mark.parametrize(("lat", "lon", "length"), [(36.4, -99.2, 14), (-33.9, 151.2, 12)])
def test_a_quadkey_is_the_web_mercator_tile_that_holds_its_place(lat, lon, length):
    """Tile numbers by the formula of the slippy map; digits from their bits."""
    n = 2**length
    col = int((lon + 180) / 360 * n)
    row = int((1 - np.arcsinh(np.tan(np.radians(lat))) / np.pi) / 2 * n)
    quadkey = "".join(str((col >> b & 1) + 2 * (row >> b & 1)) for b in reversed(range(length)))
    region = cubes.region_of(quadkey, pixel_size_m=40_075_016.685578488 / n / 256)
    x, y = grids.transformer("EPSG:4326", "EPSG:3857").transform(lon, lat)
    left, bottom, right, top = region.grid.bounds_m
    assert left <= x < right and bottom < y <= top
    assert right - left == pytest.approx(40_075_016.685578488 / n)
    assert (region.grid.height, region.grid.width, region.grid.crs) == (256, 256, "EPSG:3857")
    assert [tile.name for tile in region.tiles] == ["r000c000"]
    assert cubes.region_of(quadkey, pixel_size_m=10, crs="EPSG:32614").grid.crs == "EPSG:32614"


def test_a_region_is_held_by_its_grid_and_by_its_tiles():
    region = cubes.region_of(BOX, pixel_size_m=10, tile_px=16)
    x, y = grids.transformer("EPSG:4326", region.grid.crs).transform(BOX[::2], BOX[1::2])
    left, bottom, right, top = region.grid.bounds_m
    assert left % 10 == top % 10 == 0 and region.grid.crs == "EPSG:32614"
    assert left <= min(x) and right >= max(x) and bottom <= min(y) and top >= max(y)
    assert (
        sum(t.part.height * t.part.width for t in region.tiles)
        == region.grid.height * region.grid.width
    )
    stations = region.stations
    assert stations.longitude.between(BOX[0], BOX[2]).all()
    assert stations.latitude.between(BOX[1], BOX[3]).all()


def test_one_region_has_many_names(tmp_path):
    """A box, a polygon, GeoJSON, its file and anything with a geometry interface: one grid."""
    polygon = shapely.box(*BOX)
    feature = {"type": "Feature", "properties": {}, "geometry": polygon.__geo_interface__}
    collection = {"type": "FeatureCollection", "features": [feature]}
    path = tmp_path / "field.geojson"
    path.write_text(json.dumps(collection))
    names = (BOX, polygon, polygon.__geo_interface__, feature, collection, path, str(path))
    assert len({cubes.region_of(name, pixel_size_m=10).grid for name in names}) == 1


def test_tiles_that_a_polygon_does_not_touch_are_not_asked_for(tmp_path):
    """A triangle fills half of its box; pixels whose centres lie in it are marked."""
    west, south, east, north = BOX
    triangle = shapely.Polygon([(west, south), (east, south), (west, north)])
    archive = Plain()
    cube = cubes.build(triangle, archive, tmp_path / "c", **PLAIN)
    whole = len(cubes.region_of(BOX, pixel_size_m=10, tile_px=16).tiles)
    assert 0.5 * whole < len({r.station_id for r in archive.asked}) < 0.8 * whole
    assert float(cube.inside.mean()) == pytest.approx(0.5, abs=0.05)
    assert cube.dem_elevation.where(cube.inside == 1).notnull().sum() == cube.inside.sum()
    assert cube.dem_elevation.isnull().any()


def test_across_the_antimeridian_a_region_is_one_piece():
    """Fiji, as a box and as GeoJSON cuts it, in the zone of its middle; EASE-Grid would be torn."""
    with pytest.warns(UserWarning, match="EPSG:32701 and EPSG:32760"):
        box = cubes.region_of((179.9, -17, -179.9, -16.8), pixel_size_m=100)
    halves = shapely.MultiPolygon([shapely.box(179.9, -17, 180, -16.8),
                                   shapely.box(-180, -17, -179.9, -16.8)])  # fmt: skip
    with pytest.warns(UserWarning, match="several UTM zones"):
        assert cubes.region_of(halves, pixel_size_m=100).grid.width == box.grid.width
    assert 200 < box.grid.width < 230  # 0.2 degrees are 21.3 km at 16.9 S
    assert (np.abs(box.stations.longitude) > 179.8).all()
    with pytest.raises(ContractError, match="torn"):
        cubes.region_of((179.9, -17, -179.9, -16.8), pixel_size_m=9000, crs="EPSG:6933")


def test_at_70_degrees_north_a_degree_is_38_km_wide():
    region = cubes.region_of((25.0, 70.0, 26.0, 70.1), pixel_size_m=100)
    assert region.grid.crs == "EPSG:32635"
    assert region.grid.width == pytest.approx(
        1.0 * 111_320 * np.cos(np.radians(70)) / 100, rel=0.02
    )
    ease = cubes.region_of((25.0, 70.0, 26.0, 70.1), pixel_size_m=9000, crs="EPSG:6933").grid
    assert (ease.height, ease.width) == (2, 12)  # 96 km wide, and over the edge of two rows


def test_a_region_over_two_zones_is_in_that_of_its_centre_with_a_warning():
    with pytest.warns(UserWarning, match="EPSG:32614 and EPSG:32615"):
        region = cubes.region_of((-96.4, 36.0, -95.9, 36.1), pixel_size_m=100)
    assert region.grid.crs == "EPSG:32614"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cubes.region_of((-96.4, 36.0, -95.9, 36.1), pixel_size_m=100, crs="EPSG:32615")


def test_a_region_smaller_than_a_pixel_is_one_pixel(tmp_path):
    cube = cubes.build((-99.2, 36.4, -99.19999, 36.40001), Plain(), tmp_path / "c", **PLAIN)
    assert dict(cube.sizes) == {"time": 2, "y": 1, "x": 1}
    assert cube.dem_elevation.notnull().all() and cubes.losses(cube).empty


BOW = shapely.Polygon([(-99.2, 36.4), (-99.1, 36.5), (-99.1, 36.4), (-99.2, 36.5)])


@pytest.mark.parametrize(
    ("where", "options", "words"),
    [
        (BOW, {}, "Self-intersection"),
        (shapely.Point(-99.2, 36.4), {}, "no extent"),
        ((-99.2, 36.4, -99.2, 36.5), {}, "no extent"),
        ((-99.2, 36.5, -99.1, 36.4), {}, "south"),
        ((500_000, 4_000_000, 510_000, 4_010_000), {}, "degrees"),
        ((-100, 30, -90, 31), {}, "EASE-Grid"),
        ((10, 84.5, 11, 85), {}, "EASE-Grid"),
        (shapely.box(-179, -17, 179, -16), {}, "antimeridian"),
        (BOX, {"crs": "EPSG:4326"}, "in metres"),
        (BOX, {"crs": "EPSG:2227"}, "US survey foot"),
        (BOX, {"crs": "EPSG:nothing"}, "no CRS"),
        (BOX, {"crs": "EPSG:4978"}, "Geocentric CRS"),
        (BOX, {"crs": "EPSG:5773"}, "Vertical CRS"),
        (BOX, {"crs": "EPSG:5556"}, "Compound CRS"),
        ((10, 86, 20, 87), {"crs": "EPSG:6933", "pixel_size_m": 9000}, "beyond the grid"),
        ((10, 80, 20, 86), {"crs": "EPSG:6933", "pixel_size_m": 9000}, "ends at 85.04"),
        (BOX, {"pixel_size_m": "10"}, "a number"),
        (BOX, {"pixel_size_m": None}, "a number"),
        (BOX, {"tile_px": 32.5}, "a whole one"),
        (BOX, {"crs": "EPSG:6933", "pixel_size_m": 5000}, "nests in none"),
        (BOX, {"pixel_size_m": 0}, "pixel_size_m"),
        (BOX, {"pixel_size_m": np.nan}, "pixel_size_m"),
        (BOX, {"tile_px": 0}, "tile_px"),
        ("0231", {}, "12 or 14"),
        ("no/such/file.geojson", {}, "cannot be read"),
        ({"type": "Feature"}, {}, "no GeoJSON"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}, {}, "no GeoJSON"),
        ((1, 2, 3), {}, "west, south, east, north"),
        (7, {}, "west, south, east, north"),
        ((np.nan, 36, -99, 37), {}, "extent|degrees|simple"),
    ],
)  # fmt: skip
def test_a_bad_region_is_refused_by_what_is_wrong_with_it(where, options, words):
    with pytest.raises(ContractError, match=words):
        cubes.region_of(where, **{"pixel_size_m": 10, **options})


# ---- what is asked and what is lost --------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"times": ["2019-06-11", "2019-06-10"]}, ParameterError, "increase"),
        ({"times": ["2019-06-11", "2019-06-11"]}, ParameterError, "1 repeated"),
        ({"times": []}, ParameterError, "increase"),
        ({"times": ["2019-06-11", None]}, ParameterError, "increase"),
        ({"times": None}, ParameterError, "dates"),
        ({"times": ["2019-06-11T00:00:00.0000001", "2019-06-11T00:00:00.0000002"]}, ParameterError,
         "1 repeated"),
        ({"times": [20190611]}, ParameterError, "numbers"),
        ({"times": ["2019-06-31"]}, ParameterError, "common calendar"),
        ({"times": [cftime.Datetime360Day(2019, 2, 30)]}, ParameterError, "common calendar"),
        ({"times": pd.DatetimeIndex(["2019-06-11"], tz="UTC")}, TimeZoneError, "naive"),
        ({"sources": []}, ParameterError, "at least one"),
        ({"sources": "sentinel1"}, ParameterError, "in a list"),
        ({"sources": ["sentinel9"]}, UnknownNameError, "sentinel9"),
        ({"sources": {"dem": ["depth"]}}, UnknownNameError, "depth"),
        ({"bounds": {"smap": "1D"}}, UnknownNameError, "smap"),
        ({"bounds": {"sentinel1": 3}}, BoundError, "sentinel1"),
        ({"bounds": "1D"}, ParameterError, "name sources"),
        ({"max_cloud_fraction": 0.3}, ParameterError, "name sources"),
        ({"max_cloud_fraction": {"smap": 0.3}}, UnknownNameError, "smap"),
        ({"max_cloud_fraction": {"sentinel1": None}}, UnitError, "0 to 1"),
        ({"max_cloud_fraction": {"sentinel1": "half"}}, UnitError, "half"),
        ({"pixel_size_m": "10"}, ContractError, "a number"),
    ],
)  # fmt: skip
def test_bad_times_sources_and_bounds_are_refused_before_anything_is_written(
    tmp_path, options, error, words
):
    with pytest.raises(error, match=words):
        cubes.build(BOX, Plain(), tmp_path / "c", **{**PLAIN, **options})
    assert not (tmp_path / "c").exists()


def test_a_layer_without_a_scene_is_there_and_its_loss_is_counted(tmp_path):
    """Of nothing at all, of nothing within the bound, and of chips that failed."""
    archive = Plain({"smap": Failure("out of order")}, without=("sentinel2",))
    options = {**PLAIN, "sources": ["sentinel1", "sentinel2", "smap", "dem"],
               "times": ["2019-06-10 05:00", "2019-06-11 03:00"],
               "bounds": {"sentinel1": "4h"}}  # fmt: skip
    cube = cubes.build(BOX, archive, tmp_path / "c", **options)
    tiles = len(cubes.region_of(BOX, pixel_size_m=10, tile_px=16).tiles)
    losses = cubes.losses(tmp_path / "c").set_index("source")
    assert losses["count"].to_dict() == {
        "sentinel1": tiles,
        "sentinel2": 2 * tiles,
        "smap": 2 * tiles,
    }
    assert losses.reason.to_dict() == {
        "sentinel1": "sentinel1: none within 4 h", "sentinel2": "sentinel2: none within 14 d",
        "smap": "chip failed: out of order",
    }  # fmt: skip
    assert cube.sentinel2_B4.isnull().all() and cube.smap_age_hours.isnull().all()
    assert cube.sentinel1_VV[0].isnull().all() and cube.sentinel1_VV[1].notnull().all()
    assert (cube.sentinel1_age_hours[1] == 3).all() and cube.sentinel1_age_hours[0].isnull().all()


def test_scenes_too_cloudy_to_be_used_are_lost_and_said_so(tmp_path):
    """An unknown cloud fraction fails a limit, as in the join."""
    options = {**PLAIN, "max_cloud_fraction": {"sentinel1": 0.3}}
    cube = cubes.build(BOX, Plain(), tmp_path / "c", **options)
    assert (
        cubes.losses(cube).reason[0] == "sentinel1: none within 7 d with cloud fraction below 0.3"
    )


def test_a_scene_is_fetched_once_however_many_times_use_it(tmp_path):
    archive = Plain()
    times = [f"2019-06-10 {hour:02d}:00" for hour in (1, 7, 13)]
    cube = cubes.build(BOX, archive, tmp_path / "c", **{**PLAIN, "times": times})
    tiles = {r.station_id for r in archive.asked}
    assert len(archive.asked) == 2 * len(tiles)
    assert np.ptp(cube.sentinel1_VV.to_numpy(), axis=0).max() == 0
    assert cube.sentinel1_age_hours[:, 0, 0].to_numpy().tolist() == [1, 7, 13]


def test_one_day_and_one_band_need_no_list_and_a_repeated_band_is_one(tmp_path):
    for k, (day, band) in enumerate(
        [("2019-06-10", "VV"), (pd.Timestamp("2019-06-10"), ["VV", "VV"]),
         (np.datetime64("2019-06-10"), ["VV"]), (pd.Timestamp("2019-06-10").date(), ("VV",))]
    ):  # fmt: skip
        options = {**PLAIN, "times": day, "sources": {"sentinel1": band}}
        cube = cubes.build(BOX, Plain(), tmp_path / f"{k}", **options)
        assert cube.sizes["time"] == 1 and cube.time.values[0] == np.datetime64("2019-06-10")
        assert {*cube.data_vars} == {"sentinel1_VV", "sentinel1_age_hours", "inside"}


def test_what_is_no_cube_is_said_to_be_none(tmp_path):
    (tmp_path / "zarr.json").write_text("[]")
    with pytest.raises(StoreError, match="No cube at"):
        cubes.open_cube(tmp_path)
    with pytest.raises(StoreError, match="No cube with its attributes"):
        cubes.losses(xr.Dataset())


def test_more_times_and_sources_ask_only_for_what_is_new(tmp_path):
    first, again, more = Plain(), Plain(), Plain()
    cubes.build(BOX, first, tmp_path / "c", **PLAIN)
    whole = tree(tmp_path / "c")
    cubes.build(BOX, again, tmp_path / "c", **PLAIN)
    assert not again.asked and tree(tmp_path / "c") == whole
    times = ["2019-06-10", "2019-06-11", "2019-06-12"]
    options = {**PLAIN, "times": times, "sources": {**PLAIN["sources"], "soilgrids": None}}
    cube = cubes.build(BOX, more, tmp_path / "c", **options)
    assert {(r.source, r.scene_id) for r in more.asked} == {
        ("sentinel1", "sentinel1_20190612"), ("soilgrids", "static"),
    }  # fmt: skip
    fresh = cubes.build(BOX, Plain(), tmp_path / "fresh", **options)
    xr.testing.assert_identical(cube.load(), fresh.load())


def test_a_cube_of_another_grid_or_no_cube_is_not_overwritten(tmp_path):
    cubes.build(BOX, Plain(), tmp_path / "c", **PLAIN)
    before = tree(tmp_path / "c")
    with pytest.raises(StoreError, match="another folder"):
        cubes.build(BOX, Plain(), tmp_path / "c", **{**PLAIN, "pixel_size_m": 20})
    assert tree(tmp_path / "c") == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(StoreError, match="thesis.txt"):
        cubes.build(BOX, Plain(), tmp_path / "mine", **PLAIN)
    shutil.copytree(tmp_path / "c" / "chips", tmp_path / "dataset" / "chips")
    (tmp_path / "dataset" / "chips" / "laid.json").unlink()
    with pytest.raises(StoreError, match="chips, which is no cube"):
        cubes.build(BOX, Plain(), tmp_path / "dataset", **PLAIN)
    with pytest.raises(StoreError, match="No cube"):
        cubes.open_cube(tmp_path / "mine")


# ---- kills, damage and memory --------------------------------------------------------------------


def tree(path):
    """The bytes of every file of a store but its lock."""
    files = [p for p in Path(path).rglob("*") if p.is_file() and p.name != ".build.lock"]
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in files}


KILLED = """
import sys
from tests import test_cubes as t
from tests.helpers_jobs import die
from soilkit.export.cubes import mosaic
from soilkit.export.chips import builder as chips_builder
chips_builder.SAVE_EVERY_S = mosaic.SAVE_EVERY_S = 0.0
kind, where = {"fetch": (t.Plain, "chips"), "lay": (mosaic._Mosaic, "_lay")}[sys.argv[1]]
usual, calls = getattr(kind, where), iter(range(int(sys.argv[2])))
if where == "_lay":
    def dying(*a, **k):
        next(calls, None) is None and die()
        return usual(*a, **k)
else:
    def dying(*a):
        for pair in usual(*a):
            next(calls, None) is None and die()
            yield pair
setattr(kind, where, dying)
t.cubes.build(t.BOX, t.Plain(), sys.argv[3], **t.PLAIN)
"""


@pytest.mark.parametrize(("where", "after"), [("fetch", 5), ("lay", 3), ("lay", 14)])
def test_a_killed_build_ends_with_the_bytes_of_an_undisturbed_one(tmp_path, capsys, where, after):
    command = [sys.executable, "-c", KILLED, where, str(after), str(tmp_path / "c")]
    assert subprocess.run(command, cwd=Path(__file__).parents[1]).returncode == 9
    with pytest.raises(StoreError, match="did not end"):
        cubes.open_cube(tmp_path / "c")
    archive = Plain()
    cubes.build(BOX, archive, tmp_path / "c", **PLAIN | {"progress": True})
    assert re.search(r"layers: 100%.*2/2 \[.*<.*source/s", capsys.readouterr().err)
    cubes.build(BOX, Plain(), tmp_path / "whole", **PLAIN)
    assert tree(tmp_path / "c") == tree(tmp_path / "whole")
    assert (where == "lay") == (not archive.asked)


def test_a_damaged_chunk_is_no_data_and_a_damaged_chip_is_fetched_again(tmp_path):
    cube = cubes.build(BOX, Plain(), tmp_path / "c", **PLAIN)
    good = tree(tmp_path / "c")
    chunk = tmp_path / "c" / "dem_elevation" / "c" / "0" / "0"
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)
    with pytest.raises(ValueError, match="(?i)checksum|crc"):
        cube.dem_elevation.load()
    chunk.write_bytes(good["dem_elevation/c/0/0"])
    shard = next((tmp_path / "c" / "chips" / "dem" / "values").glob("c.*"))
    shard.write_bytes(b"none")
    assert len(chips.verify(tmp_path / "c" / "chips")) == 1
    archive = Plain()
    cubes.build(BOX, archive, tmp_path / "c", **PLAIN)
    assert len(archive.asked) == 1 and tree(tmp_path / "c") == good


def test_memory_stays_flat_while_a_region_grows_16_times(tmp_path):
    """Peaks of Python's and numpy's memory: 16 times the tiles take less than half as much more."""
    options = {**PLAIN, "tile_px": 128, "times": ["2019-06-10"]}
    peaks, sizes = [], []
    for k, n in enumerate((2, 2, 8)):  # the first warms up
        box = (-99.2, 36.4, -99.2 + 0.0138 * n, 36.4 + 0.011 * n)
        tracemalloc.start()
        cube = cubes.build(box, Plain(), tmp_path / f"{k}", **options)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        sizes.append(cube.nbytes)
    assert sizes[2] > 14 * sizes[1] and sizes[2] > 5 * peaks[2]
    assert peaks[2] < 1.5 * peaks[1], peaks


# ---- real files ----------------------------------------------------------------------------------

DATA = Path(os.environ.get("SOILKIT_TEST_DATA") or "no-data")


def real(path):
    if not (DATA / path).exists():
        pytest.skip(f"no {path} in $SOILKIT_TEST_DATA")
    return DATA / path


def test_a_watershed_from_its_own_rasters(tmp_path):
    """Konza's Kings Creek: its area, its 15-day NDVI as the latest picture's pixels, its losses."""
    stack, boundary = real("kings_creek/ndvi_stack_int16_1e4.tif"), real(
        "kings_creek/kings_creek_boundary.geojson"
    )  # fmt: skip
    layers = {
        "ndvi_10m": Layer(stack, unit="stored"),
        "dem_3dep": Layer(real("kings_creek/kings_creek_elevation.tif"), unit="m"),
    }
    archive, days = open_archive("local", layers=layers), ["2023-01-01", "2023-07-15"]
    cube = cubes.build(
        boundary, archive, tmp_path / "c", sources=list(layers), times=days, pixel_size_m=10,
        progress=False,
    )  # fmt: skip
    outline = shapely.from_geojson(boundary.read_text())
    area_m2 = abs(pyproj.Geod(ellps="WGS84").geometry_area_perimeter(outline)[0])
    assert float(cube.inside.sum()) * 100 == pytest.approx(
        area_m2, rel=0.003
    )  # UTM: 0.9996 squared
    with rasterio.open(stack) as file:
        band = 1 + file.descriptions.index("2023-07-03")  # none from then to the 15th
        picture, place = file.read(band).astype(float), ~file.transform
    lon, lat = grids.transformer("EPSG:32614", "EPSG:4326").transform(*np.meshgrid(cube.x, cube.y))
    cols, rows = (np.floor(v).astype(int) for v in place * (lon, lat))
    raw = picture[rows.clip(0, 455), cols.clip(0, 513)]
    raw[(raw == -32768) | (raw == 0) | (cube.inside.to_numpy() == 0)] = np.nan
    ndvi = cube.ndvi_10m_NDVI[1].to_numpy()
    known = np.isfinite(raw) & np.isfinite(ndvi)
    assert known.sum() > 100_000 and np.corrcoef(raw[known], ndvi[known])[0, 1] > 0.97
    assert float(cube.ndvi_10m_age_hours[1].max()) == 11 * 24  # dated by the end of its day
    with rasterio.open(real("kings_creek/kings_creek_elevation.tif")) as file:
        heights = np.reshape([*file.sample(np.c_[lon.ravel(), lat.ravel()])], lon.shape)
        known = cube.dem_3dep_elevation.notnull().to_numpy() & (heights > 0)
    off_m = (cube.dem_3dep_elevation.to_numpy() - heights)[known]
    assert known.sum() > 100_000 and abs(off_m.mean()) < 0.02 and off_m.std() < 1
    assert cubes.losses(cube)["count"].tolist() == [4] and cube.ndvi_10m_NDVI[0].isnull().all()


def test_smap_over_western_australia_on_its_own_grid(tmp_path):
    """Cells of EASE-Grid 2.0 hold the file's own numbers, rounded to half a step."""
    with xr.open_dataset(real("cubes/smap_w_australia_2020.nc")) as file:
        data = file.rename(t="time").load()
    layer = Layer(data, bands={"soil_moisture_am": "sm"}, unit="m3 m-3")
    archive = open_archive("local", layers={"smap_l3_005": layer})
    cube = cubes.build(
        (116.2, -31.8, 121.8, -27.3), archive, tmp_path / "c", crs="EPSG:6933", progress=False,
        sources={"smap_l3_005": ["soil_moisture_am"]}, times=["2020-01-15"], pixel_size_m=9000,
    )  # fmt: skip
    lon, lat = grids.lonlat(grid_of(cube))
    at = {"lon": ("p", lon.ravel()), "lat": ("p", lat.ravel())}
    age_days = float(cube.smap_l3_005_age_hours.max()) / 24
    day = pd.Timestamp("2020-01-14") - pd.Timedelta(days=age_days)  # known when its day is over
    values = data.sm.sel(time=day).interp(at, method="nearest").to_numpy().reshape(lon.shape)
    moisture = cube.smap_l3_005_soil_moisture_am[0].to_numpy()
    known = np.isfinite(values) & np.isfinite(moisture)
    assert known.sum() > 1000 and (np.isfinite(values) == np.isfinite(moisture)).mean() > 0.99
    assert np.mean(np.abs(values - moisture)[known] < 0.0006) > 0.99


def test_a_mesonet_beside_a_watershed_is_a_layer_of_its_cube(tmp_path):
    """Kings Creek: rain and warmth of one station 4-8 km away, a field of equal pixels."""
    hours = pd.read_parquet(real("kings_creek/mesonet_ashland_hourly.parquet"))
    days = hours.set_index("TIMESTAMP").loc["2023-05-01":"2023-07-31"].resample("1D")
    table = pd.DataFrame({"pr": days["PRECIP"].sum(), "tmmx": 273.15 + days["TEMP2MAVG"].max()})
    axes = {"time": table.index.to_numpy(), "lat": [39.3, 38.9], "lon": [-96.8, -96.4]}
    fields = {
        name: (("time", "lat", "lon"), np.broadcast_to(v.to_numpy()[:, None, None], (len(v), 2, 2)))
        for name, v in table.items()
    }
    units = {"pr": "mm d-1", "tmmx": "K"}
    archive = open_archive("local", layers={"gridmet": Layer(xr.Dataset(fields, axes), unit=units)})
    cube = cubes.build(
        real("kings_creek/kings_creek_boundary.geojson"), archive, tmp_path / "c", progress=False,
        sources={"gridmet": ["pr", "tmmx"]}, times=["2023-07-05", "2023-07-06"], pixel_size_m=100,
    )  # fmt: skip
    for k, day in enumerate(("2023-07-04", "2023-07-05")):  # whole days that are over
        for name in units:
            layer = cube[f"gridmet_{name}"][k].to_numpy()
            assert np.nanmin(layer) == pytest.approx(table.loc[day, name], abs=0.02)
            assert np.nanmax(layer) == pytest.approx(table.loc[day, name], abs=0.02)
    assert cubes.losses(cube).empty

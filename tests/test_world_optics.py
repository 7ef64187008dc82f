"""Snow, lakes, Landsat, MODIS and HydroBlocks of the synthetic world obey what is published."""

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest

from soilkit import grids, sources
from soilkit.contracts import Grid
from soilkit.export.archives.synthetic import SyntheticArchive
from soilkit.world import World, schedule
from soilkit.world.sensors import composites, instruments, optics, radar

SUMMER = np.datetime64("2019-07-08T17:00:00", "us")
WINTER = np.datetime64("2019-01-20T17:00:00", "us")
SNOWY = (41.139, -94.1245)  # grass, forest and a lake under snow on that day
LAYERS = (*composites.MODIS, "smap_hydroblocks", "landsat8", "landsat9", "sentinel2")
# QA_PIXEL of clear, water, dilated, cloud, cirrus, shadow and snow (USGS, LSDS-1619, Table 6-3)
KNOWN_QA = {21824, 21952, 21762, 22280, 54596, 23888, 30048}
LAKES, FORESTS = (80,), (111, 114, 121, 124)


@pytest.fixture(scope="module")
def world():
    return World(seed=0, n_stations=8, start="2019-01-01", end="2020-01-01")


@pytest.fixture(scope="module")
def summer(world):
    return world.surface(SUMMER, grids.chip_grid(*SNOWY, size_px=64, pixel_size_m=30))


def with_all(surface, **changes):
    """A surface whose fields have one value each."""
    shape = surface.ndvi.shape
    filled = {k: np.full(shape, v, getattr(surface, k).dtype) for k, v in changes.items()}
    return dataclasses.replace(surface, **filled)


def reflectance(surface, **changes):
    """Mean reflectance of each band below the atmosphere."""
    made = optics.surface_reflectance(with_all(surface, **changes), seed=0)
    return dict(zip(instruments.OPTICAL_BANDS, made.mean(axis=(1, 2)), strict=True))


def ndvi_of(red, infrared):
    return (infrared - red) / (infrared + red)


# ---- snow and lakes ----------------------------------------------------------------------------


def test_dry_snow_is_bright_and_wet_snow_darker_in_the_infrared(summer):
    """World 1 showed bare ground, 0.108 in B3, under 41 mm of dry snow."""
    grass = {"land_cover": 30, "frozen": True, "ndvi": 0.2, "lai": 0.2}
    bare, dry, wet = (
        reflectance(summer, **grass, snow_cover=share, wet_snow=is_wet)
        for share, is_wet in ((0, False), (1, False), (1, True))
    )
    assert bare["B3"] < 0.15 and dry["B3"] > 0.8 and wet["B3"] > 0.7
    assert dry["B11"] < 0.2 and wet["B11"] < dry["B11"] / 2
    assert wet["B8"] < dry["B8"] - 0.1


def test_half_a_cover_of_snow_is_half_as_white(summer):
    grass = {"land_cover": 30, "wet_snow": False}
    none, half, full = (reflectance(summer, **grass, snow_cover=s)["B4"] for s in (0, 0.5, 1))
    assert half == pytest.approx((none + full) / 2, abs=0.01)


def test_trees_hide_snow_most_of_all_evergreen_ones(summer):
    shown = {
        code: optics.snow_share(with_all(summer, land_cover=code, snow_cover=1, lai=lai)).mean()
        for code, lai in ((30, 0.3), (124, 0.4), (114, 0.4), (111, 1.2))
    }
    assert shown[30] == 1
    assert 0.1 < shown[111] < shown[114] < shown[124] < 0.8


def test_a_lake_is_dark_until_it_freezes_under_snow(summer):
    lake = {"land_cover": 80, "wet_snow": False, "snow_cover": 1}
    open_water, ice = (reflectance(summer, **lake, frozen=frozen) for frozen in (False, True))
    assert open_water["B8"] == pytest.approx(instruments.WATER_REFLECTANCE[6])
    assert ice["B8"] > 0.8


def test_radar_sees_through_dry_snow_and_lakes_lie_at_the_noise_floor(summer):
    def vv_db(band="VV", **changes):
        flat = with_all(summer, slope_east=0, slope_north=0, **changes)
        angle = np.full(flat.ndvi.shape, np.deg2rad(38), np.float32)
        return 10 * np.log10(radar.sigma0(flat, angle, band=band)).mean()

    grass = {"land_cover": 30, "frozen": False}
    bare, dry, wet = (
        vv_db(**grass, snow_cover=s, snow_mm=40 * s, wet_snow=w)
        for s, w in ((0, False), (1, False), (1, True))
    )
    assert dry == bare and wet < bare - 3
    assert vv_db("VH", land_cover=80) < instruments.NOISE_FLOOR_DB - 3
    assert vv_db("VV", land_cover=80) < instruments.NOISE_FLOOR_DB + 3


# ---- Landsat ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def passes(world):
    """Landsat 8 and Sentinel-2 of one place, once a week."""
    grid = grids.chip_grid(*SNOWY, size_px=64, pixel_size_m=30)
    days = np.arange("2019-01-02T17", "2019-12-28", 7 * 24, dtype="datetime64[h]")
    days = days.astype("datetime64[us]")
    images = {n: np.stack([world.render(n, d, grid) for d in days])
              for n in ("landsat8", "sentinel2")}  # fmt: skip
    truth = [world.surface(day, grid) for day in days]
    return images, truth


def test_qa_pixel_holds_the_values_of_collection_2(passes):
    images, truth = passes
    flags = np.nan_to_num(images["landsat8"][:, 6], nan=1).astype(int)  # fill off the swath
    cloudy = images["sentinel2"][:, 9].astype(int) == optics.CLOUD_BIT
    assert set(np.unique(flags)) >= KNOWN_QA
    assert ((flags & 1 << 3 > 0) == cloudy)[flags != 1].all()
    snow = np.stack([optics.snow_share(s) for s in truth])
    seen, is_snow = flags & 0b1_1111 == 0, flags & 1 << 5 > 0
    assert is_snow[seen & (snow > 0.9)].mean() > 0.95
    assert is_snow[seen & (snow == 0)].mean() < 0.01
    lake = np.stack([s.land_cover == 80 for s in truth]) & (snow == 0) & seen
    assert (flags[lake] & 1 << 7 > 0).mean() > 0.9


def test_landsats_ndvi_agrees_with_sentinel_2s(passes):
    """On clear land: the atmosphere, which Level 1C keeps, lowers NDVI by less than 0.15."""
    images, truth = passes
    clear = (images["landsat8"][:, 6] == 21824) & (images["sentinel2"][:, 9] == 0)
    clear &= np.stack([(s.land_cover != 80) & (s.snow_cover < 0.01) for s in truth])
    rho = images["landsat8"] * 2.75e-5 - 0.2
    landsat = ndvi_of(rho[:, 2], rho[:, 3])[clear]
    top = ndvi_of(images["sentinel2"][:, 2], images["sentinel2"][:, 6])[clear]
    true = np.stack([s.ndvi for s in truth])[clear]
    assert np.corrcoef(landsat, top)[0, 1] > 0.97
    assert 0 < (landsat - top).mean() < 0.15
    assert np.abs(landsat - true).mean() < 0.10


def test_landsat_comes_at_ten_each_16_days_on_233_paths_and_landsat_9_eight_days_later():
    eight, nine = (
        [p for t in schedule.tracks_over(m, -98.0, latitude=38.0, side_m=1.0)
         for p in schedule.passes(t, start="2019-01-01", end="2020-01-01")]
        for m in (schedule.LANDSAT8, schedule.LANDSAT9)
    )  # fmt: skip
    ids = {p.scene_id + p.place_id(longitude=-98.0, latitude=38.0) for p in eight}
    assert 22 <= len(eight) <= 46
    assert all(re.fullmatch(r"LC08_0(27|28|29)03[34]_2019\d{4}", one) for one in ids)
    ends = sorted(p.end for p in eight if p.track == eight[0].track)
    assert set(np.diff(ends)) == {np.timedelta64(16 * 86_400, "s")}
    gaps = {
        (p.end - ends[0]) % (16 * schedule.DAY)
        for p in nine
        if p.track.orbit == eight[0].track.orbit
    }
    assert gaps == {8 * schedule.DAY}
    local = (ends[0] - ends[0].astype("datetime64[D]")) / np.timedelta64(1, "h") - 98 / 15
    assert 9.75 < local < 10.75


def test_the_archive_lists_landsats_scenes_with_the_clouds_of_their_chips(world):
    archive = SyntheticArchive(world=world)
    place = pd.DataFrame({"station_id": ["a"], "longitude": [-98.0], "latitude": [38.0]})
    table = archive.scenes(place, "landsat9", "2019-05-01", "2019-08-01")
    grid = grids.chip_grid(38.0, -98.0, size_px=86, pixel_size_m=30)
    shares = [
        (world.render("landsat9", np.datetime64(row.end), grid)[6].astype(int) & 0b1110 > 0).mean()
        for row in table[table.valid_fraction == 1].itertuples()
    ]
    listed = table.cloud_fraction[table.valid_fraction == 1]
    assert len(table) >= 5 and table.scene_id.is_unique
    np.testing.assert_allclose(listed, shares, atol=0.08)


@pytest.mark.parametrize("source", [*composites.MODIS, "smap_hydroblocks"])
def test_the_archive_lists_every_composite_by_its_calendar(world, source):
    archive = SyntheticArchive(world=world)
    place = pd.DataFrame({"station_id": ["a"], "longitude": [-98.0], "latitude": [38.0]})
    table = archive.scenes(place, source, "2019-03-01", "2019-05-01")
    cadence = pd.Timedelta(sources.get(source).cadence)
    assert (table.end.diff().dropna() == cadence).all()
    assert len(table) == pytest.approx(pd.Timedelta("61D") / cadence, abs=1)


# ---- MODIS --------------------------------------------------------------------------------------


def ease(size_m, n, *, first=(1500, 3955)):
    """A grid of whole 1 km pixels of the world's plane, split into pixels of ``size_m``."""
    left = grids.EASE2_LEFT_M + 1000.0 * 2 * first[1]
    return Grid(
        grids.EASE2_CRS, left, grids.EASE2_TOP_M - 1000.0 * 2 * (first[0] - 188), size_m, n, n
    )


def test_leaf_area_of_a_coarser_pixel_is_a_mean(world):
    """World 1 gave one 500 m pixel, whatever the grid's size."""
    fine, coarse = (
        world.render("modis_lai", SUMMER, g)[0] for g in (ease(500.0, 24), ease(1000.0, 12))
    )
    np.testing.assert_allclose(
        coarse, np.nanmean(fine.reshape(12, 2, 12, 2), axis=(1, 3)), rtol=1e-5
    )
    assert np.ptp(coarse) > 0


def test_vegetation_indices_follow_the_canopy_and_fall_under_snow(world):
    grid = ease(500.0, 24)
    ndvi, evi = world.render("modis_ndvi_500", SUMMER, grid) * 1e-4
    true = world.surface(SUMMER - np.timedelta64(10, "D"), grid)
    land = true.land_cover != 80
    assert np.corrcoef(ndvi[land], true.ndvi[land])[0, 1] > 0.8
    assert (evi[land] < ndvi[land]).mean() > 0.95
    snowy = grids.chip_grid(*SNOWY, size_px=8, pixel_size_m=500)
    after, later = (
        world.render("modis_ndvi_500", t, snowy)[0] for t in ("2019-02-06", "2019-06-01")
    )
    assert np.median(after) < 0.6 * np.median(later)


def test_surface_temperature_falls_where_bare_ground_is_moist(world):
    """World 1's knew season and canopy only. One day, one region, sparse canopies."""
    rng = np.random.default_rng(3)
    lon, lat = rng.uniform(-102.5, -101.5, 600), rng.uniform(36.5, 37.5, 600)
    pixels = composites.pixels_at(lon, lat, size_m=1000.0)
    day = [np.datetime64("2019-07-03")]
    lst = np.nanmean(composites.lst_c(world, pixels, starts=day, days=8), axis=0)
    ndvi = composites.ndvi(world, pixels, starts=day, days=8)[0]
    at = grids.transformer(grids.EASE2_CRS, "EPSG:4326").transform(*pixels.centres)
    wet = world.truth_at(
        np.array(["2019-07-06T17"], "datetime64[us]"), longitude=at[0], latitude=at[1]
    )[0]
    sparse = np.isfinite(lst) & (ndvi < 0.45)
    assert sparse.sum() > 100
    assert np.corrcoef(lst[sparse], wet[sparse])[0, 1] < -0.3


def test_clouds_hide_surface_temperature_half_the_days_and_few_weeks(world):
    grid = ease(1000.0, 4)
    days = np.arange("2019-01-02", "2019-12-30", 5, dtype="datetime64[D]")
    daily = np.stack([world.render("modis_lst_daily", d, grid)[0] for d in days])
    weekly = np.stack([world.render("modis_lst", d, grid) for d in days[::4]]) * 0.02
    assert 0.3 < np.isnan(daily).mean() < 0.75
    assert np.isnan(weekly).mean() < 0.1
    assert (np.nanmean(weekly[:, 0] - weekly[:, 1], axis=(1, 2)) > 3).mean() > 0.8  # day, night
    assert np.nanmin(daily) > 240 and np.nanmax(daily) < 335


def test_evapotranspiration_is_the_cells_shared_out_by_leaves(world):
    pixels = composites.pixels_at(np.full(1, -98.0), np.full(1, 38.0), size_m=500.0)
    first = schedule.modis("2019-01-05", "2019-12-27", length=8).start.astype("datetime64[D]")
    et = composites.et_mm(world, pixels, starts=first)[:, 0]
    rows, cols = grids.ease2_cell(-98.0, 38.0)
    series = world.cells(np.atleast_1d(rows), np.atleast_1d(cols))
    day = np.asarray(series.time).astype("datetime64[D]")
    true = [series.evaporation_mm[0, (day >= d) & (day < d + 8)].sum() for d in first]
    assert np.corrcoef(et, true)[0, 1] > 0.85
    assert et.min() > 0 and et.max() < 80


def test_the_years_last_composite_counts_its_days_only(world):
    """The last eight-day composite of 2019 has five days (27 to 31 December)."""
    pixels = composites.pixels_at([-98.0], [38.0], size_m=500.0)
    last, before = (
        composites.et_mm(world, pixels, starts=[np.datetime64(d)])[0, 0]
        for d in ("2019-12-27", "2019-12-19")
    )
    assert last < before


# ---- HydroBlocks --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_hydroblocks_is_7_to_15_percent_off_at_stations(seed):
    """Mean absolute error 0.06-0.09 m3 m-3 and R near 0.73 +- 0.13 (Vergopolan et al. 2021)."""
    world = World(seed, n_stations=16, start="2019-01-01", end="2020-01-01")
    table = world.stations().drop_duplicates("station_id")
    table = table[table.depth_to_m < 0.11]
    days = np.arange("2019-04-01", "2019-11-15", 18, dtype="datetime64[D]") + np.timedelta64(
        12, "h"
    )
    errors, r = [], []
    for row in table.itertuples():
        grid = grids.chip_grid(row.latitude, row.longitude, size_px=1, pixel_size_m=30)
        product = np.array([world.render("smap_hydroblocks", d, grid)[0, 0, 0] for d in days])
        probe = world.readings(row.sensor_id).set_index("time").soil_moisture_m3_m3.reindex(days)
        both = np.isfinite(product) & probe.notna().to_numpy()
        if both.sum() > 8 and probe.to_numpy()[both].std() > 0.01:
            errors.append(np.abs(product - probe.to_numpy())[both].mean())
            r.append(np.corrcoef(product[both], probe.to_numpy()[both])[0, 1])
    assert 0.06 <= np.mean(errors) <= 0.09
    assert 0.60 <= np.median(r) <= 0.86


def test_hydroblocks_answers_rain_late_and_has_no_value_on_lakes(world):
    grid = grids.chip_grid(*SNOWY, size_px=96, pixel_size_m=60)
    lake = world.surface(SUMMER, grid).land_cover == 80
    days = SUMMER + np.arange(0, 25) * np.timedelta64(1, "D")
    small = grids.chip_grid(SNOWY[0], SNOWY[1], size_px=8, pixel_size_m=480)
    product = np.array([np.nanmean(world.render("smap_hydroblocks", d, small)) for d in days])
    truth = np.array([world.truth(d, small).mean() for d in days])
    assert np.isnan(world.render("smap_hydroblocks", SUMMER, grid)[0][lake]).mean() > 0.85
    assert np.diff(product).std() < 0.8 * np.diff(truth).std()


# ---- every layer --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYERS)
def test_no_layer_knows_the_worlds_end_and_overlaps_agree(world, name):
    """Two worlds that share their first year render it alike, byte for byte."""
    longer = World(seed=0, n_stations=3, start="2019-01-01", end="2021-01-01")
    grid = grids.chip_grid(*SNOWY, size_px=24, pixel_size_m=30)
    inner = dataclasses.replace(grid, left_m=grid.left_m + 240, width=16)
    for time in (WINTER, np.datetime64("2019-12-28T18:00:00", "us")):
        image = world.render(name, time, grid)
        assert image.shape == (len(sources.get(name).bands), 24, 24) and image.dtype == np.float32
        assert image.tobytes() == world.render(name, time, grid).tobytes()
        assert image.tobytes() == longer.render(name, time, grid).tobytes()
        np.testing.assert_allclose(
            image[:, :, 8:], world.render(name, time, inner), rtol=2e-3, atol=2
        )


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("time", [WINTER, SUMMER])
def test_stored_values_are_valid_in_the_catalogue(world, name, time):
    image = world.render(name, time, grids.chip_grid(*SNOWY, size_px=32, pixel_size_m=160))
    for band, values in zip(sources.get(name).bands, image, strict=True):
        seen = np.isfinite(values)
        assert np.isfinite(band.valid(values))[seen].all(), band.name
    assert np.isfinite(image).any() or name == "modis_lst_daily"

"""The synthetic sensors obey their published forward models: sign, size, noise, scale."""

import dataclasses

import numpy as np
import pytest

from soilkit import grids, sources
from soilkit.contracts import Grid
from soilkit.errors import UnknownNameError
from soilkit.units import linear_from_db
from soilkit.world import World, schedule, sensors
from soilkit.world.sensors import (
    lattice,
    optics,
    radar,
)
from soilkit.world.sensors.radar import view

SUMMER = np.datetime64("2019-07-08T06:00:00", "us")
PLACE = (38.0, -98.0)
# Whoever changes a constant of the sensors makes another world, and says so here.


@pytest.fixture(scope="module")
def world():
    return World(seed=0, n_stations=24)


@pytest.fixture(scope="module")
def chip():
    return grids.chip_grid(*PLACE, size_px=64, pixel_size_m=10)


@pytest.fixture(scope="module")
def ground(world):
    """The ground of sixteen places over the world in July."""
    rng = np.random.default_rng(5)
    places = zip(rng.uniform(33, 43, 16), rng.uniform(-103, -93, 16), strict=True)
    chips = [grids.chip_grid(*place, size_px=8, pixel_size_m=160) for place in places]
    return [world.surface(SUMMER, grid) for grid in chips]


def flat(surface, **changes):
    """A surface of level open grassland, with some fields set to one value."""
    shape = surface.ndvi.shape
    plain = {
        "slope_east": 0.0, "slope_north": 0.0, "ndvi": 0.2, "vegetation_water_kg_m2": 0.0,
        "roughness_cm": 1.0, "soil_moisture_m3_m3": 0.2, "frozen": False, "wet_snow": False,
        "land_cover": 30,
    } | changes  # fmt: skip
    return dataclasses.replace(surface, **{k: np.full(shape, v) for k, v in plain.items()})


def vv_db(surface, *, incidence_deg=38.0, band="VV"):
    angle = np.full(surface.ndvi.shape, np.deg2rad(incidence_deg))
    return 10 * np.log10(radar.sigma0(surface, angle, band=band))


def vv_slope(surface):
    """dB per m3 m-3 at every pixel, by a step of 0.01."""
    wetter = dataclasses.replace(surface, soil_moisture_m3_m3=surface.soil_moisture_m3_m3 + 0.01)
    return (vv_db(wetter) - vv_db(surface)) / 0.01


# ---- radar -----------------------------------------------------------------------------------


def test_vv_rises_with_moisture_over_soil_and_fades_under_dense_vegetation(ground):
    """8-15 dB per m3 m-3 below an NDVI of 0.3, <= 3 above 0.7 (Baghdadi 2016, El Hajj 2019)."""
    ndvi = np.concatenate([s.ndvi.ravel() for s in ground])
    slope = np.concatenate([vv_slope(s).ravel() for s in ground])
    soil = np.concatenate([s.land_cover.ravel() != 50 for s in ground])

    assert 8 <= slope[soil & (ndvi < 0.3)].mean() <= 15
    assert slope[soil & (ndvi > 0.7)].mean() <= 3


@pytest.mark.parametrize("moisture", [0.05, 0.15, 0.25])
def test_vv_falls_with_incidence_angle(ground, moisture):
    """-0.05 to -0.20 dB a degree over soil (Baghdadi 2016); wetter soil falls faster."""
    bare = flat(ground[0], soil_moisture_m3_m3=moisture)

    fall = (vv_db(bare, incidence_deg=44) - vv_db(bare, incidence_deg=32)) / 12

    assert -0.20 <= fall.mean() <= -0.05


def test_vv_rises_with_roughness_and_darkens_when_frozen_or_under_wet_snow(ground):
    smooth, rough = (flat(ground[0], roughness_cm=r) for r in (0.6, 1.6))
    frozen, snow = (flat(ground[0], **{k: True}) for k in ("frozen", "wet_snow"))

    assert (vv_db(rough) > vv_db(smooth) + 1).all()
    assert (vv_db(frozen) < vv_db(flat(ground[0])) - 1).all()
    assert (vv_db(snow) < vv_db(flat(ground[0])) - 3).all()


def test_slopes_that_face_the_radar_are_brighter(ground):
    """A ray travelling east at 38 degrees meets a slope that rises eastwards more steeply."""
    towards, level, away = (
        radar.local_incidence(np.array([s]), 0.0, incidence_rad=0.663, look_azimuth_rad=np.pi / 2)
        for s in (0.1, 0.0, -0.1)
    )
    assert towards < level < away
    assert np.rad2deg(level - towards) == pytest.approx(np.rad2deg(np.arctan(0.1)), abs=1e-6)


def test_speckle_is_gamma_of_4_4_looks_correlated_over_20_m():
    """About 2.2 dB a pixel (ESA): for 4.4 looks, 4.34 sqrt(trigamma(4.4)) = 2.19."""
    field = radar.speckle(Grid("EPSG:32614", 500_000, 4e6, 10, 512, 512), 7)

    assert field.mean() == pytest.approx(1, abs=0.01)
    assert 1 / field.var() == pytest.approx(4.4, rel=0.05)
    assert (10 * np.log10(field)).std() == pytest.approx(2.2, abs=0.1)
    lag = [np.corrcoef(field[:, :-n].ravel(), field[:, n:].ravel())[0, 1] for n in (1, 3, 6)]
    assert lag[0] > 0.4
    assert abs(lag[1]) < 0.1 and abs(lag[2]) < 0.05


def test_speckle_at_160_m_is_the_mean_of_its_10_m_pixels():
    fine = radar.speckle(Grid("EPSG:32614", 500_000, 4e6, 10, 64, 64), 7)
    wide = radar.speckle(Grid("EPSG:32614", 500_000, 4e6, 160, 4, 4), 7)

    np.testing.assert_allclose(wide, fine.reshape(4, 16, 4, 16).mean(axis=(1, 3)), rtol=1e-6)


def test_water_is_as_dark_as_the_noise_floor_in_vh(ground):
    """-22 dB of noise are added in power: sigma0 of -28 dB reads as -21."""
    lake = flat(ground[0], land_cover=200)
    seen = view(schedule.SENTINEL1, lake.grid, time=SUMMER, default_incidence_deg=38)

    vh = radar.render(lake, seed=0, view=seen)[1]

    assert 10 * np.log10(linear_from_db(vh).mean()) == pytest.approx(-21.0, abs=1.0)


def test_radar_agrees_between_pixel_sizes_in_linear_power(world):
    """The mean power of 256 fine pixels is what a 160 m pixel sees; the mean of dB is not."""
    fine = grids.chip_grid(*PLACE, size_px=128, pixel_size_m=10)
    wide = grids.chip_grid(*PLACE, size_px=8, pixel_size_m=160)
    blocks = world.render("sentinel1", SUMMER, fine)[0].reshape(8, 16, 8, 16)

    mean_db = 10 * np.log10(linear_from_db(blocks).mean(axis=(1, 3)))
    difference = world.render("sentinel1", SUMMER, wide)[0] - mean_db

    assert np.abs(difference).max() < 1.0  # fields of different crops in one pixel
    assert np.square(difference).mean() ** 0.5 < 0.25
    assert abs(difference.mean()) < 0.1
    assert (blocks.mean(axis=(1, 3)) < mean_db - 0.3).all()


def test_outside_the_swath_there_is_nothing():
    """A footprint astride the near edge of a swath is covered by about half."""
    track = next(t for t in schedule.all_tracks(schedule.SENTINEL1) if t.direction == "ascending")
    longitude = np.linspace(-104, -92, 24_001)
    edge = track.distance_m(longitude, np.full_like(longitude, 38.0)) - schedule.SENTINEL1.near_m
    middle = float(longitude[np.abs(edge).argmin()])
    grid = grids.chip_grid(38.0, middle, size_px=64, pixel_size_m=40)
    end = next(schedule.passes(track, start="2019-06-01", end="2019-07-01")).end

    seen = view(schedule.SENTINEL1, grid, time=end, default_incidence_deg=38)

    assert 0.3 < seen.covered.mean() < 0.7
    assert not seen.covered[:, 0].any() and seen.covered[:, -1].all()


# ---- optics ----------------------------------------------------------------------------------


def test_red_saturates_near_0_20_and_the_shortwave_infrared_later():
    """Both darken (Lobell and Asner 2002): B4 has given 90 % of it by 0.20 m3 m-3, B12 has not."""
    moisture = np.array([0.02, 0.20, 0.40])
    for band, least, most in (("B4", 0.9, 1.0), ("B12", 0.4, 0.85)):
        dry, middle, wet = optics.soil_reflectance(moisture, band=band)
        assert dry > middle > wet
        assert least < (dry - middle) / (dry - wet) <= most


def test_greener_ground_has_a_higher_ndvi_at_the_sensor(world, chip):
    surface = world.surface(SUMMER, chip)
    ndvi = []
    for green in (0.2, 0.5, 0.8):
        red, infrared = optics.surface_reflectance(flat(surface, ndvi=green), seed=0)[[2, 6]]
        ndvi.append(float(((infrared - red) / (infrared + red)).mean()))
    assert ndvi == pytest.approx([0.2, 0.5, 0.8], abs=0.06)


def test_clouds_hide_the_ground_brightly_and_cast_shadows(world, chip):
    """QA60 flags opaque clouds with bit 10 and cirrus with bit 11, and nothing else."""
    days = np.arange("2019-06-01", "2019-08-01", dtype="datetime64[D]") + np.timedelta64(17, "h")
    images = np.stack([world.render("sentinel2", day, chip) for day in days[::4]])
    blue, bits = images[:, 0], images[:, -1].astype(int)

    assert set(np.unique(bits)) <= {0, optics.CLOUD_BIT, optics.CIRRUS_BIT}
    assert blue[bits == optics.CLOUD_BIT].min() > 4000
    assert np.median(blue[bits == 0]) < 2000
    assert blue[bits == 0].min() < 0.8 * np.median(blue[bits == 0])  # shadows


def test_rainy_days_are_cloudier(chip):
    days = np.arange("2019-01-01", "2020-01-01", dtype="datetime64[D]")

    dry, wet = (
        optics.sky(chip, days, seed=0, rain_mm=np.full(365, mm)).fraction().mean() for mm in (0, 15)
    )

    assert 0.25 < dry < 0.55
    assert wet > dry + 0.2


# ---- maps --------------------------------------------------------------------------------------


def test_modis_leaf_area_is_stored_times_ten_and_follows_the_ground(world):
    grid = grids.chip_grid(*PLACE, size_px=16, pixel_size_m=160)
    stored = world.render("modis_lai", SUMMER, grid)
    true = world.surface(SUMMER, grid).lai.mean()
    assert stored.mean() / 10 == pytest.approx(true, rel=0.25)


# ---- every source ------------------------------------------------------------------------------


SWATHS = ("smap_l3_005", "smap_l3_ancillary", "smap_sentinel1")
# Both worlds may be dry, of one climate, without a pass, or before a product's first scene.
MAY_AGREE = ("smap", "chirps", "imerg", "koeppen", "smap_l3_006", *SWATHS)


@pytest.mark.parametrize("name", sorted(set(sensors.SOURCES) & {s.name for s in sources.CATALOGUE}))
def test_a_source_renders_all_bands_of_the_catalogue_and_twice_the_same(world, name):
    grid = grids.chip_grid(*PLACE, size_px=8, pixel_size_m=160)
    wait = 60 if name in SWATHS else 1  # beyond the outage of summer 2019
    days = np.datetime64(SUMMER, "us") - np.arange(0, wait, 7) * np.timedelta64(1, "D")
    first, again = (world.render(name, days[0], grid) for _ in range(2))
    other = World(seed=1, n_stations=2).render(name, days[0], grid)

    assert first.dtype == np.float32
    assert first.shape == (len(sources.get(name).bands), 8, 8)
    if name != "smap_l3_006":
        known = [np.isfinite(world.render(name, day, grid)) for day in days]
        assert np.any(known) if name in SWATHS else known[0].all()
    assert first.tobytes() == again.tobytes()
    if name not in MAY_AGREE:
        assert first.tobytes() != other.tobytes()


@pytest.mark.parametrize("name", ["sentinel1", "sentinel2"])
def test_overlapping_chips_of_one_scene_see_the_same_ground(world, name):
    left = grids.chip_grid(*PLACE, size_px=32, pixel_size_m=10)
    right = dataclasses.replace(left, left_m=left.left_m + 160)

    first = world.render(name, SUMMER, left)[:, :, 16:]
    second = world.render(name, SUMMER, right)[:, :, :16]

    np.testing.assert_allclose(first, second, rtol=1e-3, atol=0.02 if name == "sentinel1" else 2)


def test_an_unknown_source_is_refused_by_name(world, chip):
    with pytest.raises(UnknownNameError, match="does not render 'palsar'.*sentinel1"):
        world.render("palsar", SUMMER, chip)


# ---- when --------------------------------------------------------------------------------------


def test_the_orbits_pass_at_their_local_times():
    """Sentinel-1 near 6 h and 18 h, Sentinel-2 near 10:30, mean local time at 98 W."""
    for mission, hours in ((schedule.SENTINEL1, {6, 18}), (schedule.SENTINEL2, {10, 11})):
        for track in schedule.tracks_over(mission, -98.0, latitude=38.0):
            found = next(schedule.passes(track, start="2019-06-01", end="2019-07-01"))
            local = found.end - np.timedelta64(392, "m")
            rounded = int((local - local.astype("datetime64[D]")) / np.timedelta64(1, "h") + 0.5)
            assert rounded in hours


def test_a_station_sees_every_track_each_12_days_by_either_satellite_in_6():
    track = schedule.tracks_over(schedule.SENTINEL1, -98.0, latitude=38.0)[0]
    ends = sorted(p.end for p in schedule.passes(track, start="2019-01-01", end="2020-01-01"))
    assert set(np.diff(ends)) == {np.timedelta64(6 * 86_400, "s")}
    assert len(ends) in (60, 61)


def test_hashed_noise_is_standard_normal_and_of_unit_variance_when_smoothed():
    rows, cols = np.arange(400)[:, None], np.arange(400)[None, :]
    white = lattice.normals(np.uint64(3), rows=rows, cols=cols)
    line = np.arange(0, 3e5, 700.0)
    smooth = lattice.smooth(3, (line, line), scale_m=1000)
    assert white.mean() == pytest.approx(0, abs=0.01)
    assert white.std() == pytest.approx(1, abs=0.01)
    assert smooth.std() == pytest.approx(1, abs=0.03)


def test_pairs_of_cells_are_those_of_unique_columns():
    rng = np.random.default_rng(0)
    rows, cols = rng.integers(-9, 9, (2, 500))
    cols[0], rows[0] = -(2**31), 2**30
    pairs, index = lattice.distinct(rows, cols)
    wanted, back = np.unique(np.stack([rows, cols]), axis=1, return_inverse=True)
    np.testing.assert_array_equal(pairs, wanted)
    np.testing.assert_array_equal(index, back.ravel())

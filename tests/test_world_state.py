"""The synthetic world's ground, weather, moisture and stations against what is known of real ones.

Every band stands beside its source. The numbers measured here are synthetic.
"""

import errno
import os
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.signal import lfilter

from soilkit import contracts, grids
from soilkit.errors import ContractError, StoreError, UnknownNameError
from soilkit.retention import from_texture, water_content
from soilkit.world import World, bucket, fields, noise, parameters
from soilkit.world.climate import Climate, koeppen_of
from soilkit.world.surface import skin_excess_c

FROZEN_HASH = "7064bd2997ee9384d28327a17869783c6e0cc83d29b1ec98a8ff0b76388e6974"
CHIP = grids.chip_grid(38.2, -98.4, size_px=256, pixel_size_m=10)
NOON = "2020-05-20 12:00"


@pytest.fixture(scope="module")
def world():
    return World(seed=0, n_stations=30)


@pytest.fixture(scope="module")
def days():
    return np.arange("2019-01-01T12", "2021-01-01T12", 24, dtype="datetime64[h]")


@pytest.fixture(scope="module")
def domain(world, days):
    """Daily truth at 70 points all over the domain, (day, point)."""
    rng = np.random.default_rng(1)
    longitude = rng.uniform(parameters.WEST + 0.5, parameters.EAST - 0.5, 70)
    latitude = rng.uniform(parameters.SOUTH + 0.5, parameters.NORTH - 0.5, 70)
    return world.truth_at(days, longitude=longitude, latitude=latitude)


def around(longitude, latitude, *, extent_m, n, seed=2):
    """Points spread over a square: longitudes and latitudes."""
    u, v = grids.transformer("EPSG:4326", grids.EASE2_CRS).transform(longitude, latitude)
    rng = np.random.default_rng(seed)
    shift = rng.uniform(-0.5, 0.5, (2, n)) * extent_m
    back = grids.transformer(grids.EASE2_CRS, "EPSG:4326")
    east, north = back.transform(u + shift[0], v + shift[1])
    return {"longitude": east, "latitude": north}


PLACES = ((-98.6, 36.3), (-95.0, 40.1), (-101.2, 38.3), (-94.2, 34.4), (-99.3, 42.2), (-102, 35))


# ---- what real soil moisture is like ------------------------------------------------------------


def spatial_spread(world, days, extent_m):
    """Standard deviations over 100 points and means, one a place and date."""
    found = []
    for longitude, latitude in PLACES:
        points = around(longitude, latitude, extent_m=extent_m, n=100)
        wet = world.truth_at(days[::45], **points)
        found.append(np.stack([wet.std(axis=1), wet.mean(axis=1)]))
    return np.concatenate(found, axis=1)


def test_moisture_varies_more_over_wider_extents(world, days):
    """0.036 within a field scale to 0.071 at 50 km (Famiglietti 2008); bands of about a fifth."""
    field, wide = (spatial_spread(world, days, extent)[0].mean() for extent in (800, 50_000))
    assert 0.029 < field < 0.043
    assert 0.057 < wide < 0.085


def test_spatial_spread_peaks_at_middling_moisture(world, days):
    """The peak lies at a mean of 0.17-0.19 (Famiglietti 2008): dry and wet fields are more even."""
    mean = np.arange(0.02, 0.45, 0.005)
    assert 0.17 <= mean[bucket.spread(mean).argmax()] <= 0.19
    spread, mean = spatial_spread(world, days, 800)
    middling = spread[(mean > 0.12) & (mean < 0.24)].mean()
    assert middling > spread[mean < 0.09].mean()
    assert middling > spread[mean > 0.30].mean()


def misfit(fall, tau):
    """Squared error of the best floor + depth exp(-t / tau)."""
    shape = np.stack([np.ones(len(fall)), np.exp(-np.arange(len(fall)) / tau)], axis=1)
    return ((shape @ np.linalg.lstsq(shape, fall, rcond=None)[0] - fall) ** 2).sum()


def drydown_days(wet):
    """E-folding times of falls of a week and more, fitted as floor + depth exp(-t / tau)."""
    taus = np.arange(1, 40, 0.5)
    falls: list[float] = []
    start = 0
    for stop in (np.flatnonzero(np.append(np.diff(wet) >= 0, True)) + 1).tolist():
        fall, start = wet[start:stop], stop
        if len(fall) >= 8 and fall[0] - fall[-1] > 0.02:
            shapes = [
                np.stack([np.ones(len(fall)), np.exp(-np.arange(len(fall)) / t)]) for t in taus
            ]
            fits = [np.linalg.lstsq(s.T, fall, rcond=None)[1] for s in shapes]
            falls.append(taus[int(np.argmin([f[0] if len(f) else np.inf for f in fits]))])
    return falls


def test_soil_dries_with_an_e_folding_of_five_to_fifteen_days(domain):
    """Stations dry with 5-15 d (Shellito 2016; McColl 2017): the middle fall lies well inside."""
    falls = np.concatenate([drydown_days(domain[:, k]) for k in range(0, 70, 3)])
    assert len(falls) > 80
    assert 5 <= np.median(falls) <= 15


def test_memory_and_spread_in_time_are_those_of_real_stations(domain):
    """94 US stations, 10-day means: lag-1 0.74, SD within 0.057, between 0.080; bands of a fifth.

    The truth has no probe offset: 0.03 of the spread between stations is added in quadrature.
    """
    ten = domain[:730].reshape(73, 10, -1).mean(axis=1)
    away = ten - ten.mean(axis=0)
    lag = ((away[1:] * away[:-1]).mean(axis=0) / (away**2).mean(axis=0)).mean()
    between = np.hypot(ten.mean(axis=0).std(), parameters.PROBE_OFFSET_SD)
    assert 0.64 < lag < 0.82
    assert 0.045 < ten.std(axis=0).mean() < 0.069
    assert 0.064 < between < 0.096


def test_a_point_follows_the_mean_of_its_36_km_pixel(world, days):
    """35 TxSON stations in one pixel: ubRMSD 0.024, R 0.92, SD of means 0.057 (offsets in)."""
    scores = []
    rng = np.random.default_rng(3)
    for longitude, latitude in PLACES[:4]:
        points = around(longitude, latitude, extent_m=36_000, n=35, seed=4)
        wet = world.truth_at(days, **points)
        wet = wet + parameters.PROBE_NOISE_SD * rng.standard_normal(wet.shape)
        mean = wet.mean(axis=1)
        apart = (wet - mean[:, None]).std(axis=0).mean()
        r = np.mean([np.corrcoef(one, mean)[0, 1] for one in wet.T])
        level = np.hypot(wet.mean(axis=0).std(ddof=1), parameters.PROBE_OFFSET_SD)
        scores.append((apart, r, level))
    apart, r, level = np.mean(scores, axis=0)
    assert 0.018 < apart < 0.031
    assert 0.86 < r < 0.96
    assert 0.045 < level < 0.070


# ---- one world, whatever the grid ---------------------------------------------------------------


def test_a_seed_makes_the_same_bytes_and_another_seed_another_world(world):
    again, other = World(seed=0, n_stations=5), World(seed=1, n_stations=5)
    assert world.truth(NOON, CHIP).tobytes() == again.truth(NOON, CHIP).tobytes()
    assert not np.allclose(world.truth(NOON, CHIP), other.truth(NOON, CHIP), atol=0.01)
    assert world.version == again.version != other.version


def test_a_cell_is_the_same_alone_and_among_many():
    """Cells are computed in batches; what else was asked for leaves no trace, not in one byte."""
    alone, many = World(seed=0, n_stations=1), World(seed=0, n_stations=1)
    rows, cols = np.array([395, 360, 391, 420]), np.array([868, 850, 871, 890])
    together = many.cells(rows, cols)
    one = alone.cells(rows[2:3], cols[2:3])
    for name in ("surface_m3_m3", "root_zone_m3_m3", "ndvi", "lai", "precipitation_mm"):
        assert getattr(together, name)[2].tobytes() == getattr(one, name)[0].tobytes()


def test_overlapping_grids_see_the_same_ground(world):
    """Shifted by 64 pixels, the common part agrees to a centimetre of interpolation."""
    shifted = contracts.Grid(CHIP.crs, CHIP.left_m + 640, CHIP.top_m, 10.0, 256, 256)
    here, there = world.truth(NOON, CHIP), world.truth(NOON, shifted)
    np.testing.assert_allclose(here[:, 64:], there[:, :-64], atol=2e-4)


def test_two_pixel_sizes_agree_after_averaging(world):
    coarse = contracts.Grid(CHIP.crs, CHIP.left_m, CHIP.top_m, 160.0, 16, 16)
    fine = world.truth(NOON, CHIP).reshape(16, 16, 16, 16).mean(axis=(1, 3))
    np.testing.assert_allclose(world.truth(NOON, coarse), fine, atol=1e-5)
    surface = world.surface(NOON, coarse)
    assert surface.ndvi.shape == surface.u_m.shape == (16, 16)
    np.testing.assert_allclose(surface.soil_moisture_m3_m3, fine, atol=1e-5)


def cell_grid(row, col, n):
    size = bucket.CELL_M
    left, top = grids.EASE2_LEFT_M + col * size, grids.EASE2_TOP_M - row * size
    return contracts.Grid(grids.EASE2_CRS, left, top, size / n, n, n)


def test_the_coarse_state_is_the_mean_of_the_fine_one(world):
    """Stated tolerance over a 9 km cell: 0.035 at worst, 0.012 root mean square, bias 0.004."""
    errors = []
    dates = np.arange("2019-01-20T12", "2020-12-20", 120 * 24, dtype="datetime64[h]")
    for longitude, latitude in PLACES:
        row, col = (int(i) for i in grids.ease2_cell(longitude, latitude))
        states = world._cells.states(dates, rows=[row], cols=[col])
        coarse = states[bucket.INDEX["surface"], :, 0]
        one_pixel = [world.truth(date, cell_grid(row, col, 1))[0, 0] for date in dates]
        np.testing.assert_allclose(one_pixel, coarse, atol=1e-6)
        fine = [world.truth(date, cell_grid(row, col, 20)).mean() for date in dates]
        errors.extend(fine - coarse)
    assert np.abs(errors).max() < 0.035
    assert np.sqrt(np.mean(np.square(errors))) < 0.012
    assert abs(np.mean(errors)) < 0.004


def test_a_mean_pattern_of_the_whole_domain_vanishes():
    """Fine patterns have no mean and unit spread, so that the coarse state may stand for them."""
    rng = np.random.default_rng(5)
    u = parameters.CENTRE_U_M + parameters.HALF_U_M * rng.uniform(-1, 1, 6000)
    v = parameters.CENTRE_V_M + parameters.HALF_V_M * rng.uniform(-1, 1, 6000)
    ground = fields.ground(0, u, v)
    pattern = fields.pattern(0, (u, v), ground=ground)
    assert abs(pattern.deviation.mean()) < 0.08
    assert 0.9 < pattern.deviation.std() < 1.1


def test_slopes_are_those_of_the_elevation(world):
    """Analytic slopes against finite differences of the rendered elevation, in real metres."""
    surface = world.surface(NOON, CHIP)
    height = surface.elevation_m.astype(float)
    east = np.gradient(height, 10.0, axis=1)[1:-1, 1:-1]
    north = -np.gradient(height, 10.0, axis=0)[1:-1, 1:-1]
    # the chip's north is turned by the meridian convergence, half a degree here
    assert np.corrcoef(east.ravel(), surface.slope_east[1:-1, 1:-1].ravel())[0, 1] > 0.995
    assert np.corrcoef(north.ravel(), surface.slope_north[1:-1, 1:-1].ravel())[0, 1] > 0.995


def test_noise_has_the_derivatives_that_it_claims():
    u, v = np.meshgrid(np.arange(40) * 5.0, np.arange(40) * 5.0)
    jet = noise.smooth_jet(noise.key(0, "t"), (u, v), scale_m=300)
    inner = (slice(1, -1), slice(1, -1))
    for found, line, axis in ((jet.du, jet.value, 1), (jet.dv, jet.value, 0)):
        np.testing.assert_allclose(
            np.gradient(line, 5.0, axis=axis)[inner], found[inner], atol=3e-6
        )
    np.testing.assert_allclose(np.gradient(jet.du, 5.0, axis=1)[inner], jet.duu[inner], atol=1e-6)


def test_noise_far_apart_equals_noise_close_by():
    """Points hashed one by one and points from a shared patch of lattice give the same bytes."""
    u, v = np.meshgrid(np.arange(30) * 10.0, np.arange(30) * 10.0)
    near = noise.smooth(7, (u, v), scale_m=40, zero_mean=True)
    far = noise.smooth(7, (np.append(u, 9e6), np.append(v, 8e6)), scale_m=40, zero_mean=True)
    assert near.ravel().tobytes() == far[:-1].tobytes()


# ---- four layers of water ------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_deeper_probes_follow_the_surface_as_real_ones_do(seed):
    """Of 130 US stations (ISMN, 2019-2021), median R of 5 cm to 10, 20, 50 cm: 0.94, 0.88, 0.67.

    An exponential filter lifts 50 cm to 0.82 and 20 cm to 0.92, with a T of 2-8 d there.
    """
    rng = np.random.default_rng(7)
    points = {"longitude": rng.uniform(-103, -93, 40), "latitude": rng.uniform(33, 43, 40)}
    days = np.arange("2019-01-01T12", "2020-01-01T12", 24, dtype="datetime64[h]")
    world = World(seed=seed, n_stations=1, end="2020-01-01")
    top, ten, twenty, fifty = (
        world.truth_at(days, **points, depth_m=depth) for depth in (0.05, 0.10, 0.20, 0.50)
    )

    def r(one, other):
        pairs = zip(one.T, other.T, strict=True)
        return np.median([np.corrcoef(a, b)[0, 1] for a, b in pairs])

    def filtered(wet, days):
        keep = np.exp(-1 / days)
        return lfilter([1 - keep], [1, -keep], wet - wet[0], axis=0)[30:]

    assert 0.90 < r(top, ten) < 0.97
    assert 0.83 < r(top, twenty) < 0.93
    assert 0.58 < r(top, fifty) < 0.76
    assert r(filtered(top, 4), twenty[30:]) > r(top[30:], twenty[30:])
    assert 0.72 < r(filtered(top, 15), fifty[30:]) < 0.92


def test_no_water_is_lost(world):
    """Rain = evaporation + drainage + what snow and the four layers gain, in every cell and day."""
    rng = np.random.default_rng(2)
    row, col = grids.ease2_cell(rng.uniform(-103, -93, 60), rng.uniform(33, 43, 60))
    cells = world.cells(row, col)
    layers = [cells.surface_m3_m3, cells.layer_2_m3_m3, cells.layer_3_m3_m3, cells.layer_4_m3_m3]
    thick_mm = parameters.LAYER_MM
    stored = sum(mm * wet for mm, wet in zip(thick_mm, layers, strict=True))
    gained = np.diff(stored + cells.snow_mm, axis=1)
    left = cells.precipitation_mm - cells.evaporation_mm - cells.drainage_mm
    dry = cells.irrigated_fraction == 0
    assert dry.sum() >= 3
    np.testing.assert_allclose(gained[dry], left[dry, :-1], atol=2e-3)
    whole = np.average(layers, axis=0, weights=thick_mm)
    np.testing.assert_allclose(whole, cells.root_zone_m3_m3, atol=1e-6)
    assert (cells.evaporation_mm >= 0).all() and (cells.drainage_mm >= -1e-6).all()
    assert (cells.evaporation_mm <= 1.2 * cells.pet_mm + 3).all()


def test_truth_of_a_span_is_the_mean_of_its_layers(world):
    spans = ((0, 0.05), (0.05, 0.15), (0.15, 0.40), (0.40, 1.0))
    layers = [world.truth(NOON, CHIP, depth_m=span) for span in spans]
    whole = world.truth(NOON, CHIP, depth_m=(0.0, 1.0))
    mixed = np.average(layers, axis=0, weights=parameters.LAYER_MM)
    assert np.abs(whole - mixed).mean() < 0.003  # the spread about the mean is not linear in it
    assert np.array_equal(world.truth(NOON, CHIP), layers[0])
    assert np.array_equal(world.truth(NOON, CHIP, depth_m=0.05), layers[0])
    assert np.array_equal(world.truth(NOON, CHIP, depth_m=0.10), layers[1])


@pytest.mark.parametrize("depth", [1.2, -0.1, (0.4, 0.1), (0.0, 2.0), (0.1, 0.2, 0.3), np.nan])
def test_a_depth_that_no_layer_has_is_refused_by_name(world, depth):
    with pytest.raises(ContractError, match="depth"):
        world.truth(NOON, CHIP, depth_m=depth)


def test_a_grid_of_degrees_is_refused_by_name(world):
    degrees = contracts.Grid("EPSG:4326", -98.4, 38.2, 0.001, 8, 8)
    for see in (world.truth, world.surface):
        with pytest.raises(ContractError, match="EPSG:4326 counts degrees"):
            see(NOON, degrees)


def test_porosity_is_the_saturated_water_content_of_the_retention_curve(world):
    """World 1's differed by 0.038 on average: suction was undefined in wet soil."""
    place = grids.project(CHIP, grids.EASE2_CRS)
    ground = fields.ground(0, *place)
    curve = fields.hydraulics(0, place, ground=ground).curve
    assert np.array_equal(curve.saturated, ground.porosity)
    by_texture = from_texture(
        ground.sand_percent, ground.clay_percent,
        bulk_density_g_cm3=ground.bulk_density_g_cm3, organic_percent=ground.organic_percent,
    ).saturated  # fmt: skip
    np.testing.assert_allclose(ground.porosity, by_texture)
    wettest = max(world.truth(day, CHIP).max() for day in ("2019-05-20", "2020-03-01", NOON))
    assert wettest < ground.porosity.max()
    assert (curve.n > 1).all() and (curve.alpha_per_cm > 0).all()


def test_two_worlds_that_share_their_first_year_are_alike():
    one, longer = (World(seed=0, n_stations=2, end=f"{year}-01-01") for year in (2020, 2021))
    later = World(seed=0, n_stations=2, start="2019-07-01", end="2020-01-01")
    when, place = "2019-11-05 12:00", {"longitude": -98.4, "latitude": 38.2}
    assert one.truth(when, CHIP).tobytes() == longer.truth(when, CHIP).tobytes()
    assert one.surface(when, CHIP).ndvi.tobytes() == longer.surface(when, CHIP).ndvi.tobytes()
    np.testing.assert_allclose(later.truth(when, CHIP), one.truth(when, CHIP), atol=2e-3)
    cell = [int(i) for i in grids.ease2_cell(**place)]
    assert one.cells(*cell).koeppen == longer.cells(*cell).koeppen


def test_skin_is_warmer_where_the_ground_is_bare_and_dry(world):
    """The trapezoid of Moran (1994): 15 C and more on dry bare soil, little under leaves."""
    filled = np.array([0.1, 0.9, 0.1, 0.9])
    ndvi = np.array([0.15, 0.15, 0.85, 0.85])
    dry_bare, wet_bare, dry_green, wet_green = skin_excess_c(0.9, ndvi=ndvi, filled=(filled,) * 2)
    assert dry_bare > 15 > wet_bare + 8
    assert dry_bare - wet_bare > 2 * (dry_green - wet_green) > 0
    assert skin_excess_c(0.0, ndvi=ndvi, filled=(filled,) * 2).max() < 0
    noon, night = (world.surface(f"2020-07-10 {hour}", CHIP) for hour in ("19:00", "09:00"))
    assert (noon.skin_temperature_c > noon.air_temperature_c).all()
    assert (night.skin_temperature_c < night.air_temperature_c).all()


def test_lakes_lie_on_the_land_and_no_station_in_them(world):
    rng = np.random.default_rng(5)
    u = parameters.CENTRE_U_M + parameters.HALF_U_M * rng.uniform(-1, 1, 20_000)
    v = parameters.CENTRE_V_M + parameters.HALF_V_M * rng.uniform(-1, 1, 20_000)
    lake = fields.ground(0, u, v).land_cover == fields.LAKE
    assert 0.004 < lake.mean() < 0.03
    assert not (world.network().place.ground.land_cover == fields.LAKE).any()


# ---- weather and vegetation ---------------------------------------------------------------------


def test_koeppen_of_normals_by_hand():
    """25 C summers, 0 C winters and even rain are Dfa; warmer Cfa; without rain a desert."""
    normals = {
        "latitude": 38.0, "wet_day_probability": 0.27, "wet_seasonality": 0.0,
        "season_amplitude_c": 12.5, "precipitation_mm": 900.0, "temperature_c": 12.0,
    }  # fmt: skip
    assert koeppen_of(Climate(**normals)) == "Dfa"
    assert koeppen_of(Climate(**normals | {"temperature_c": 14.0})) == "Cfa"
    assert koeppen_of(Climate(**normals | {"precipitation_mm": 90.0})) == "BWk"


def test_ndvi_lags_root_zone_moisture_by_weeks(world):
    """Greenness follows with two to four weeks (Ji and Peters 2003): grass west of 99 W, summer."""
    row, col = (int(i) for i in grids.ease2_cell(-101.3, 37.0))
    series = world.cells([row], [col])
    summer = np.isin(series.time.astype("datetime64[M]").astype(int) % 12, [5, 6, 7])

    def correlation(lag):
        green, root = series.ndvi[0, lag:], series.root_zone_m3_m3[0, : len(summer) - lag]
        return np.corrcoef(green[summer[lag:]], root[summer[lag:]])[0, 1]

    lags = np.arange(0, 60, 3)
    assert 9 <= lags[np.argmax([correlation(lag) for lag in lags])] <= 40


def test_a_time_outside_the_period_is_refused_by_name(world):
    with pytest.raises(ContractError, match="its period runs from 2018-10-03"):
        world.truth("2017-01-01", CHIP)


# ---- stations -----------------------------------------------------------------------------------


def test_stations_keep_their_contract_and_spread_out():
    """120 stations: five networks, many 2-degree blocks, several climates; a dense 36 km cell."""
    table = World(seed=0).stations()
    contracts.check(table, contracts.STATIONS)
    sites = table.drop_duplicates("station_id")
    blocks = set(zip(sites.latitude // 2, sites.longitude // 2, strict=True))
    assert len(sites) == 120
    assert len(blocks) >= 20
    assert sites.koeppen.str[:2].nunique() >= 3
    assert sites.land_cover.nunique() >= 5
    dense = sites[sites.network == "SYN-DENSE"]
    assert len(dense) >= 12
    row, col = grids.ease2_cell(dense.longitude, dense.latitude, pixel_size_km=36)
    assert len(set(zip(row, col, strict=True))) == 1


def place_of(row):
    return {"longitude": row.longitude, "latitude": row.latitude}


def test_a_station_agrees_with_the_truth_at_its_point(world):
    """Sound readings are the truth plus an offset and noise of 0.005 (Seyfried 2004)."""
    table, net = world.stations(), world.network()
    noises, offsets = [], []
    for k in np.flatnonzero((net.fault == "") & (table.depth_to_m < 0.06))[:12]:
        row = table.iloc[k]
        readings = world.readings(row.sensor_id)
        good = readings[(readings.flag == "G") & (readings.soil_moisture_m3_m3 > 0.02)]
        direct = world.truth_at(
            good.time.to_numpy()[::500], longitude=row.longitude, latitude=row.latitude
        )
        np.testing.assert_allclose(good.truth_m3_m3.to_numpy()[::500], direct[:, 0], atol=1e-5)
        error = good.soil_moisture_m3_m3 - good.truth_m3_m3
        noises.append(error.std())
        offsets.append(error.mean() - net.offset_m3_m3[k])
    assert np.abs(offsets).max() < 0.002
    assert np.mean(noises) == pytest.approx(0.005, abs=0.0006)


def test_probe_offsets_spread_by_three_hundredths():
    """Offset SD 0.03 (Seyfried 2004), and replicates at one station share most of it."""
    net = World(seed=3, n_stations=240).network()
    own = ~net.table.station_id.duplicated()
    assert net.offset_m3_m3[own].std() == pytest.approx(0.03, abs=0.004)


def test_a_surface_pixel_over_a_station_is_near_its_point_truth(world):
    row = world.stations().iloc[0]
    grid = grids.chip_grid(row.latitude, row.longitude, size_px=3, pixel_size_m=10)
    point = world.truth_at([np.datetime64(NOON)], longitude=row.longitude, latitude=row.latitude)[
        0, 0
    ]
    assert world.truth(NOON, grid)[1, 1] == pytest.approx(point, abs=0.01)


def test_an_unknown_sensor_is_refused(world):
    with pytest.raises(UnknownNameError, match="World.stations"):
        world.readings("NOWHERE__1__PROBE__0.00__0.05")


def test_the_archive_reads_with_the_ismn_package(tmp_path):
    """Networks, depths, values, flags and static variables survive ISMN's own reader."""
    ismn = pytest.importorskip("ismn.interface")
    world = World(seed=0, n_stations=12, start="2020-01-01", end="2020-03-01")
    path = world.write_ismn(tmp_path / "synthetic.zip")
    reader = ismn.ISMN_Interface(str(path), meta_path=str(tmp_path), parallel=False)
    table = world.stations()
    assert set(reader.collection.networks) == set(table.network)
    sensors = list(reader.collection.iter_sensors())
    assert len(sensors) == len(table)
    row = table.iloc[0]
    found = [
        s
        for n, s, sensor in sensors
        for s in [sensor]
        if sensor.metadata["station"].val == row.station
    ]
    mine = world.readings(row.sensor_id)
    theirs = found[0].read_data()
    assert len(theirs) == len(mine)
    np.testing.assert_allclose(theirs.soil_moisture, mine.soil_moisture_m3_m3, atol=6e-5)
    assert theirs.soil_moisture_flag.tolist() == mine.flag.tolist()
    assert found[0].metadata["climate_KG"].val == row.koeppen
    assert theirs.index[0] == pd.Timestamp(mine.time[0])


def test_the_archive_is_the_same_bytes_every_time(tmp_path):
    world = World(seed=0, n_stations=6, start="2020-01-01", end="2020-02-01")
    first, second = (world.write_ismn(tmp_path / name).read_bytes() for name in ("a.zip", "b.zip"))
    assert first == second
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.testzip() is None
        assert "Metadata.xml" in archive.namelist()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zip", "b.zip"]


def test_a_full_disk_costs_neither_the_old_archive_nor_leaves_half_a_new_one(tmp_path, monkeypatch):
    """The third member of the zip finds no space."""
    world = World(seed=0, n_stations=3, start="2020-01-01", end="2020-01-05")
    path = world.write_ismn(tmp_path / "a.zip")
    before, real, written = path.read_bytes(), zipfile.ZipFile.writestr, []

    def full(self, *args, **options):
        written.append(args[0])
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, *args, **options)

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(StoreError, match="The disk is full"):
        world.write_ismn(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]


def test_some_probes_are_stuck_or_broken_and_flagged():
    """Faults and frost carry the ISMN's flags; good readings are the great majority."""
    world = World(seed=0, n_stations=30, start="2019-01-01", end="2019-07-01")
    net = world.network()
    assert {"stuck", "broken"} <= set(net.fault)
    flags = pd.concat([world.readings(s).flag for s in net.table.sensor_id]).value_counts()
    assert {"G", "C02", "D01", "D06", "D09"} <= set(flags.index)
    assert flags["G"] / flags.sum() > 0.75


# ---- the frozen constants -----------------------------------------------------------------------


def test_constants_are_the_ones_that_were_frozen():
    """Another hash is another world: results of the old one do not carry over."""
    assert parameters.constants_hash() == FROZEN_HASH


def test_retention_curves_lie_inside_the_scatter_of_measured_soils():
    """Oklahoma Mesonet soils (MesoSoil 2.0): medians at 33 and 1500 kPa, and few values beyond."""
    path = Path(os.environ.get("SOILKIT_TEST_DATA") or "no-data") / "mesosoil/mesosoil_v2.parquet"
    if not path.exists():
        pytest.skip(f"{path} is not here: set SOILKIT_TEST_DATA")
    measured = pd.read_parquet(path)
    rng = np.random.default_rng(3)
    place = tuple(
        middle + half * rng.uniform(-1, 1, 3000)
        for middle, half in (
            (parameters.CENTRE_U_M, parameters.HALF_U_M),
            (parameters.CENTRE_V_M, parameters.HALF_V_M),
        )
    )
    for seed in (0, 1, 2):
        ground = fields.ground(seed, *place)
        soil = fields.hydraulics(seed, place, ground=ground)
        for suction_cm, column in ((330.0, "th33"), (15_300.0, "th1500")):
            held = water_content(suction_cm, soil.curve)
            low, middle, high = np.nanpercentile(measured[column], [1, 50, 99])
            assert abs(np.median(held) - middle) < 0.03
            assert np.mean((held > low) & (held < high)) > 0.97
        ks_cm_d = 24 * np.median(soil.saturated_conductivity_cm_h)
        assert 0.3 < ks_cm_d / measured["ks_cm_d"].median() < 4

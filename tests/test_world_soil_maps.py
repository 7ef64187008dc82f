"""Maps that stand still: how wrong they are, that each is one map, and what coarse pixels hold."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from soilkit import grids, retention, sources
from soilkit.contracts import Grid
from soilkit.world import World, climate, fields, schedule
from soilkit.world import parameters as p
from soilkit.world.sensors import SOURCES, soil_maps
from soilkit.world.sensors import instruments as c

DATA = Path(os.environ.get("SOILKIT_TEST_DATA") or "no-data")
SEEDS = (0, 1, 2)
PLACE = (38.0, -98.0)
MAPS = sorted(soil_maps.MAPS)
QUANTITIES = ("sand", "clay", "bulk_density_g_cm3")


def places(n, *, seed=0):
    """Places all over the world, (1, n) each: u_m, v_m."""
    u, v = np.random.default_rng(seed).uniform(-0.9, 0.9, (2, 1, n))
    return p.CENTRE_U_M + u * p.HALF_U_M, p.CENTRE_V_M + v * p.HALF_V_M


def truth(seed, place):
    ground = fields.ground(seed, *place)
    return {
        "sand": ground.sand_percent,
        "clay": ground.clay_percent,
        "bulk_density_g_cm3": ground.bulk_density_g_cm3,
    }


def errors(name, seed, place):
    at = tuple(soil_maps.map_unit(seed, place)[0]) if name == "gnatsgo" else place
    mapped, true = soil_maps.soil(name, seed, place=at), truth(seed, place)
    return {k: mapped[k] - true[k] for k in QUANTITIES}


def band(name, quantity, *, seed, place):
    names = [b.name for b in sources.get(name).bands]
    return soil_maps.MAPS[name].make(seed, place)[names.index(quantity)]


def shifted(grid, cols):
    return dataclasses.replace(grid, left_m=grid.left_m + cols * grid.pixel_size_m)


# ---- soil --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("soilgrids", 0.55, 0.75), ("polaris", 0.4, 0.7), ("solus100", 0.5, 0.7),
     ("gnatsgo", 0.4, 0.7)],
)  # fmt: skip
def test_maps_explain_as_much_of_texture_as_profiles_say(name, low, high, seed):
    """R2 of Hengl et al. (2017), Chaney et al. (2019) and Nauman et al. (2024)."""
    place = places(600, seed=seed)
    wrong, true = errors(name, seed, place), truth(seed, place)
    for quantity in ("sand", "clay"):
        r2 = 1 - np.square(wrong[quantity]).mean() / true[quantity].var()
        assert low <= r2 <= high, quantity


def test_polaris_is_wrong_where_soilgrids_is_not_and_survey_maps_are_wrong_together():
    """One survey lies under POLARIS, SOLUS100 and gNATSGO, profiles under SoilGrids."""
    names = ("soilgrids", "polaris", "solus100", "gnatsgo")
    wrong = [errors(name, 0, places(800))["sand"].ravel() for name in names]
    r = np.corrcoef(wrong)
    assert np.abs(r[0, 1:]).max() < 0.15
    assert r[1, 2] > 0.25 and r[1, 3] > 0.25
    assert np.corrcoef(wrong[1], errors("polaris", 1, places(800))["sand"].ravel())[0, 1] < 0.15


def test_depths_of_one_map_differ_less_than_two_maps():
    place = places(800)
    near, deep, other = (
        errors(name, 0, place)["sand"].ravel() for name in ("solus100", "solus100_30cm", "polaris")
    )
    assert 0.7 < np.corrcoef(near, deep)[0, 1] < 0.95
    assert np.corrcoef(near, other)[0, 1] < 0.6


def test_soil_stays_a_soil():
    """Fractions add to 100 %, curves begin at porosity and fall, logarithms are of base ten."""
    place = places(500)
    names = ("sand", "silt", "clay", "theta_s", "theta_r", "n", "lambda", "alpha", "hb", "om")
    at = {name: band("polaris", name, seed=0, place=place) for name in names}
    np.testing.assert_allclose(at["sand"] + at["silt"] + at["clay"], 100)
    assert (at["theta_r"] < at["theta_s"]).all() and (at["n"] > 1).all()
    np.testing.assert_allclose(at["hb"], -at["alpha"])
    np.testing.assert_allclose(at["lambda"], at["n"] - 1)
    organic = fields.ground(0, *place).organic_percent
    assert np.corrcoef(10 ** at["om"].ravel(), organic.ravel())[0, 1] > 0.5
    stored = soil_maps.MAPS["soilgrids"].make(0, place)
    np.testing.assert_allclose(stored[:3].sum(axis=0), 1000)
    assert 80 < stored[3].mean() < 200  # cg cm-3


def polaris_curves(seed, place):
    names = ("theta_r", "theta_s", "alpha", "n")
    residual, full, alpha, n = (band("polaris", k, seed=seed, place=place) for k in names)
    return retention.Retention(residual, full, 10**alpha / retention.CM_OF_KPA, n)


@pytest.mark.skipif(not (DATA / "mesosoil").is_dir(), reason="needs SOILKIT_TEST_DATA")
@pytest.mark.parametrize("seed", SEEDS)
def test_curves_lie_within_those_of_the_oklahoma_mesonet(seed):
    """Nine of ten, inside all that was measured down to 25 cm: water at two suctions, n, alpha."""
    real = pd.read_parquet(DATA / "mesosoil/mesosoil_v2.parquet").query("depth_cm <= 25")
    curve = polaris_curves(seed, places(800, seed=seed))
    held = {h: retention.water_content(cm, curve) for h, cm in (("th33", 330), ("th1500", 15_300))}
    alpha_per_kpa = np.asarray(curve.alpha_per_cm) * retention.CM_OF_KPA
    made = held | {"n": curve.n, "alpha_1_kPa": alpha_per_kpa}
    for name, values in made.items():
        low, high = np.percentile(values, (5, 95))
        assert real[name].min() <= low and high <= real[name].max(), name
    gap = np.median(held["th33"]) - np.median(held["th1500"])
    assert gap == pytest.approx((real["th33"] - real["th1500"]).median(), abs=0.04)


@pytest.mark.skipif(not (DATA / "soil_hydraulic").is_dir(), reason="needs SOILKIT_TEST_DATA")
def test_curves_spread_as_measured_ones_do():
    """Of Swiss layers as dense as the world's, most points lie within nine of ten curves."""
    real = pd.read_parquet(DATA / "soil_hydraulic/swissforestsoils.parquet")
    real = real.dropna(subset=["theta"]).query("1.15 < bulk_density < 1.65 and head >= 1")
    curve = polaris_curves(0, places(800))
    low, high = np.array([
        np.percentile(retention.water_content(100 * head, curve), (5, 95)) for head in real["head"]
    ]).T  # fmt: skip
    inside = (real["theta"] >= low - 0.02) & (real["theta"] <= high + 0.02)
    assert len(real) > 100 and inside.mean() > 0.6


def test_a_map_unit_has_one_value_and_lakes_have_none():
    grid = grids.chip_grid(*PLACE, size_px=128, pixel_size_m=30)
    stored = soil_maps.on_grid(soil_maps.MAPS["gnatsgo"], grid, seed=0)
    units = np.unique(stored[1][np.isfinite(stored[1])])
    assert 10 < len(units) < 120  # polygons of some 50 ha in 15 square kilometres
    same = stored[1][:, 1:] == stored[1][:, :-1]
    assert 0.85 < same.mean() < 0.995  # borders are few
    np.testing.assert_allclose(stored[1], 6 * stored[0], rtol=1e-5)

    place = places(4000)
    middle = soil_maps.map_unit(0, place)[0]
    lake = fields.ground(0, *middle).land_cover == 80
    assert lake.any()
    np.testing.assert_array_equal(np.isnan(band("gnatsgo", "aws0_30", seed=0, place=place)), lake)


def test_storage_breaks_at_the_borders_of_surveys():
    """Neighbouring units differ more across a county's border than within one."""
    u = np.arange(0, 12 * c.SURVEY_AREA_M, 3000.0)[None] + p.CENTRE_U_M - p.HALF_U_M
    stored = np.stack([
        band("gnatsgo", "aws0_30", seed=0, place=(u, np.full_like(u, p.CENTRE_V_M + k * 3000.0)))[0]
        for k in range(-40, 40)
    ])  # fmt: skip
    step = np.square(np.diff(np.log(stored), axis=1))
    middle = (u[0, 1:] + u[0, :-1]) / 2
    from_border = np.abs(middle / c.SURVEY_AREA_M - np.round(middle / c.SURVEY_AREA_M))
    assert np.nanmean(step[:, from_border < 0.04]) > 1.1 * np.nanmean(step[:, from_border > 0.1])


# ---- terrain -----------------------------------------------------------------------------------


def test_heights_are_as_wrong_as_their_makers_say():
    """3DEP 0.82 m RMSE (USGS 2024); MERIT 58 % within 2 m (Yamazaki et al. 2017)."""
    place = places(2000)
    wrong = {
        name: soil_maps.MAPS[name].make(0, place)[0] - fields.ground(0, *place).elevation_m
        for name in c.DEM_ERRORS_M
    }
    assert wrong["dem"].std() == pytest.approx(1.5, rel=0.1)
    assert np.sqrt(np.square(wrong["dem_3dep"]).mean()) == pytest.approx(0.82, rel=0.1)
    assert (np.abs(wrong["dem_merit"]) < 2).mean() == pytest.approx(0.58, abs=0.04)
    r = np.corrcoef([wrong[name].ravel() for name in ("dem", "dem_3dep", "dem_merit")])
    assert abs(r[0, 1]) < 0.1 < r[0, 2]  # one radar flew for NASADEM and MERIT


# ---- classes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("legend", "name", "accuracy"),
    [("nlcd", "nlcd_2019", 0.775), ("copernicus", "land_cover", 0.803), ("igbp", "", 0.736)],
)
def test_land_cover_is_as_right_as_its_validation_says(legend, name, accuracy, seed):
    """Wickham et al. (2023); Copernicus Global Land Service (2020); Sulla-Menashe et al. (2019)."""
    place = places(1500, seed=seed)
    layer = soil_maps.MAPS[name] if name else soil_maps.igbp(2019)
    mapped = layer.make(seed, place)[0]
    right = mapped == soil_maps.TRUE_CLASSES[legend](seed, place)
    assert right.mean() == pytest.approx(accuracy, abs=0.03)
    low, high = sources.get(name or "modis_land_cover").bands[0].valid_range
    assert low <= mapped.min() and mapped.max() <= high


def test_classes_are_those_of_the_legends():
    place = places(6000)
    nlcd = np.unique(soil_maps.MAPS["nlcd_2021"].make(0, place))
    assert set(nlcd) <= {11, 21, 22, 23, 24, 31, 41, 42, 43, 52, 71, 81, 82, 90, 95}
    assert {11, 21, 41, 42, 43, 52, 71, 81, 82} <= set(nlcd)
    igbp = np.unique(soil_maps.igbp(2019).make(0, place))
    assert set(igbp) <= set(range(1, 18)) and {7, 8, 10, 12, 14} <= set(igbp)


def test_errors_of_classes_come_in_patches():
    """Neighbours 30 m apart are wrong together; places 3 km apart are not."""
    u, v = places(1500)

    def wrong(shift):
        place = (u + shift, v)
        return soil_maps.MAPS["nlcd_2019"].make(0, place)[0] != soil_maps.nlcd_class(0, place)

    here = wrong(0.0)
    assert wrong(30.0)[here].mean() > 0.7
    assert wrong(3000.0)[here].mean() < 0.35


def test_epochs_and_years_of_one_map_hardly_differ():
    place = places(3000)
    years = [soil_maps.igbp(year).make(0, place) for year in (2018, 2019)]
    assert 0.005 < (years[0] != years[1]).mean() < 0.03
    epochs = [soil_maps.MAPS[f"nlcd_{year}"].make(0, place) for year in (2019, 2021)]
    assert 0.005 < (epochs[0] != epochs[1]).mean() < 0.05


def test_the_year_on_a_modis_map_is_the_last_that_has_ended():
    world = World(seed=0, n_stations=2, start="2018-01-01", end="2020-06-01")
    grid = grids.chip_grid(*PLACE, size_px=64, pixel_size_m=1000)
    before, after = (
        world.render("modis_land_cover", time, grid)
        for time in ("2019-12-31T23:59", "2020-01-01T00:00")
    )
    for year, image in ((2018, before), (2019, after)):
        expected = soil_maps.on_grid(soil_maps.igbp(year), grid, seed=0)
        assert image.tobytes() == expected.tobytes()
    assert before.tobytes() != after.tobytes()
    years = schedule.modis_land_cover("2019-01-01", "2020-01-02")
    assert years.scene_id.tolist() == ["2018_01_01", "2019_01_01"]
    assert years.end.astype("datetime64[D]").astype(str).tolist() == ["2019-01-01", "2020-01-01"]


def test_koeppen_codes_are_becks_and_mostly_the_climates_own():
    place = places(1500)
    codes = soil_maps.MAPS["koeppen"].make(0, place)[0]
    names = climate.koeppen_of(climate.climate(0, place))
    true = np.vectorize(c.KOEPPEN.get)(names)
    assert 0.8 < (codes == true).mean() < 0.98
    assert (c.KOEPPEN["BSk"], c.KOEPPEN["Cfa"], c.KOEPPEN["Dfa"]) == (7, 14, 25)


# ---- one map on any grid -----------------------------------------------------------------------


@pytest.mark.parametrize("name", MAPS)
def test_overlapping_grids_read_the_same_bytes(name):
    left = grids.chip_grid(*PLACE, size_px=48, pixel_size_m=40)
    first, second, again = (
        soil_maps.on_grid(soil_maps.MAPS[name], grid, seed=0)
        for grid in (left, shifted(left, 20), left)
    )
    assert first.dtype == np.float32
    assert first.shape == (len(sources.get(name).bands), 48, 48)
    assert first.tobytes() == again.tobytes()
    assert first[:, :, 20:].tobytes() == second[:, :, :-20].tobytes()


@pytest.mark.parametrize("name", MAPS)
def test_a_map_is_the_same_in_two_projections(name):
    """In world 1 the errors hung on the grid's own axes: two UTM zones had two SoilGrids."""
    lat, lon = 38.0, -96.0  # between zones 14 and 15
    images = []
    for crs in ("EPSG:32614", "EPSG:32615"):
        x, y = grids.transformer("EPSG:4326", crs).transform(lon, lat)
        point = Grid(crs, x - 5, y + 5, 10.0, 1, 1)
        images.append(soil_maps.on_grid(soil_maps.MAPS[name], point, seed=0))
    np.testing.assert_allclose(*images, rtol=1e-4)


@pytest.mark.parametrize(("name", "at"), [("soilgrids", 0), ("polaris", 0), ("dem", 0)])
def test_a_coarse_pixel_holds_a_mean(name, at):
    """In world 1 a 9 km pixel held one native pixel."""
    size = 9008.055210146
    coarse = Grid(grids.EASE2_CRS, p.CENTRE_U_M, p.CENTRE_V_M, size, 4, 4)
    fine = dataclasses.replace(coarse, pixel_size_m=size / 18, height=72, width=72)
    layer = soil_maps.MAPS[name]
    images = [soil_maps.on_grid(layer, grid, seed=0)[at] for grid in (coarse, fine)]
    blocks = images[1].reshape(4, 18, 4, 18)
    wrong = np.sqrt(np.square(images[0] - blocks.mean(axis=(1, 3))).mean())
    assert wrong < 0.45 * np.sqrt(blocks.var(axis=(1, 3)).mean())


def test_a_coarse_pixel_holds_the_commonest_class():
    coarse = Grid(grids.EASE2_CRS, p.CENTRE_U_M, p.CENTRE_V_M, 3000.0, 8, 8)
    fine = dataclasses.replace(coarse, pixel_size_m=100.0, height=240, width=240)
    layer = soil_maps.MAPS["land_cover"]
    few, many = (soil_maps.on_grid(layer, grid, seed=0)[0] for grid in (coarse, fine))
    blocks = many.reshape(8, 30, 8, 30).swapaxes(1, 2).reshape(8, 8, 900).astype(int)
    commonest = [[np.bincount(block).argmax() for block in row] for row in blocks]
    assert (few == commonest).mean() > max(0.75, (blocks[:, :, 465] == commonest).mean())


@pytest.mark.parametrize("name", MAPS)
def test_values_lie_in_the_catalogues_range(name):
    source = sources.get(name)
    for stored, one in zip(soil_maps.MAPS[name].make(0, places(1500)), source.bands, strict=True):
        known = stored[np.isfinite(stored)]
        assert len(known) and np.isfinite(one.valid(known)).all(), one.name


def test_maps_know_nothing_of_the_worlds_start_or_end():
    """In world 1 the pH of a place was that of the days which the world happened to keep."""
    worlds = [World(0, 2, "2019-01-01", end) for end in ("2020-01-01", "2021-01-01")]
    grid = grids.chip_grid(*PLACE, size_px=8, pixel_size_m=160)
    for name in MAPS:
        assert name in SOURCES
        first, second = (world.render(name, "2019-07-01", grid) for world in worlds)
        assert first.tobytes() == second.tobytes()


def test_seeds_make_other_maps():
    place = places(300)
    for name in MAPS:
        a, b = (soil_maps.MAPS[name].make(seed, place) for seed in (0, 1))
        assert (a != b).mean() > 0.02, name

"""SMAP of the synthetic world: two polarisations over 36 km, retrieved with other parameters."""

import numpy as np
import pandas as pd
import pytest

from soilkit import grids, sources
from soilkit.export.archives import SyntheticArchive
from soilkit.world import World, schedule
from soilkit.world.sensors import coarse, instruments
from soilkit.world.sensors.coarse import passive

BANDS = [band.name for band in sources.get("smap_l3_ancillary").bands]
YEAR = {"n_stations": 24, "start": "2019-01-01", "end": "2020-01-01"}


@pytest.fixture(scope="module")
def worlds():
    return {seed: World(seed=seed, **YEAR) for seed in (0, 1, 2)}


@pytest.fixture(scope="module")
def series(worlds):
    """The ancillary product at 40 cells of each world, and their truth."""
    rng = np.random.default_rng(2)
    rows, cols = grids.ease2_cell(rng.uniform(-103, -93, 40), rng.uniform(33, 43, 40))
    made = {}
    for seed, world in worlds.items():
        values = coarse.product(world, "smap_l3_ancillary", rows=rows, cols=cols).values
        fields = {name: values[:, :, k] for k, name in enumerate(BANDS)}
        made[seed] = fields, world.cells(rows, cols)
    return made


def scores(world, band):
    """Mean R and ubRMSE at the stations' uppermost probes."""
    stations = world.stations().query("depth_to_m <= 0.055").drop_duplicates("station_id")
    period = world.start, world.end
    table = SyntheticArchive(world=world).series(stations, "smap_l3_ancillary", *period)
    rows = []
    for station in stations.itertuples():
        probe = world.readings(station.sensor_id).query("flag == 'G'").set_index("time")
        seen = table[table.station_id == station.station_id].set_index("end")[band]
        both = pd.concat([seen, probe["soil_moisture_m3_m3"]], axis=1, join="inner").dropna()
        x, y = both.to_numpy(float).T
        if len(both) > 40 and y.std() > 0.01:
            rows.append((np.corrcoef(x, y)[0, 1], (x - y).std()))
    return np.mean(rows, axis=0)


def test_permittivity_rises_from_dry_soil_to_wet_and_clay_binds_water():
    moist = np.array([0.02, 0.1, 0.2, 0.3, 0.4])
    sandy, heavy = passive.mironov(moist, 5.0), passive.mironov(moist, 60.0)
    assert (np.diff(sandy) > 0).all()
    assert 2.5 < sandy[0] < 4 and 20 < sandy[-1] < 30
    assert (heavy[1:] < sandy[1:]).all()


def known_of(canopy, kelvin=295.0):
    one = np.ones((1, 1))
    soil = tuple(one * (a + 40 * s + 20 * k) for a, s, k in instruments.HALLIKAINEN)
    return passive.Ancillary(kelvin * one, one, soil, canopy, canopy)


@pytest.mark.parametrize("moisture", [0.05, 0.2, 0.4])
def test_both_algorithms_find_what_their_own_model_made(moisture):
    """With the retrieval's parameters true, DCA gets moisture and opacity, SCA-V moisture."""
    canopy = passive.Canopy(0.06, 0.0, np.full((1, 1), 0.2))
    known = known_of(canopy)
    a, b, square = known.soil
    smooth = passive.fresnel(a + b * moisture + square * moisture**2)
    tb = passive.brightness_temperature(smooth, canopy, kelvin=295.0, canopy_kelvin=295.0)
    assert passive.single_channel(tb[1], known)[0, 0] == pytest.approx(moisture, abs=1e-3)
    found, opacity = passive.dual_channel(tb, known)
    assert found[0, 0] == pytest.approx(moisture, abs=1e-3)
    assert opacity[0, 0] == pytest.approx(0.2, abs=1e-3)


def test_the_second_polarisation_tells_of_a_canopy_that_the_climatology_missed():
    """Under twice the opacity believed, DCA's moisture is nearer to the truth than SCA-V's."""
    known = known_of(passive.Canopy(0.06, 0.0, np.full((1, 1), 0.2)))
    a, b, square = known.soil
    smooth = passive.fresnel(a + b * 0.25 + square * 0.25**2)
    truth = passive.Canopy(0.06, 0.0, np.full((1, 1), 0.4))
    tb = passive.brightness_temperature(smooth, truth, kelvin=295.0, canopy_kelvin=295.0)
    dual, opacity = passive.dual_channel(tb, known)
    assert abs(dual - 0.25) < abs(passive.single_channel(tb[1], known) - 0.25)
    assert 0.2 < opacity[0, 0] < 0.4


def test_skin_water_averages_to_nothing_under_normal_rain():
    """World 1 took out the mean of its whole series, which knew the world's end."""
    rng = np.random.default_rng(0)
    rain = rng.exponential(8.0, (20, 4000)) * (rng.random((20, 4000)) < 0.25)
    counted = np.minimum(rain, instruments.SKIN_MOST_MM).mean()
    normal = np.full(20, counted / instruments.SKIN_SHARE * 365.25)
    warm = np.full(rain.shape, 20.0)
    skin = passive.skin_water(rain, normal, temperature_c=warm)
    assert abs(skin[:, 100:].mean()) < 0.003
    np.testing.assert_array_equal(
        passive.skin_water(rain[:, :900], normal, temperature_c=warm[:, :900]), skin[:, :900]
    )


def test_brightness_temperature_is_believable_and_h_below_v(series):
    for fields, _ in series.values():
        h, v = fields["tb_h_corrected"], fields["tb_v_corrected"]
        seen = np.isfinite(v)
        assert h[seen].min() > 130 and v[seen].max() < 300
        assert np.percentile(v[seen], 1) > 180 and np.percentile(v[seen], 99) < 290
        assert (h[seen] < v[seen]).mean() > 0.98


def test_the_antenna_sees_36_km(worlds):
    """Neighbouring cells share most of what is seen; world 1 saw each cell alone."""
    row, col = grids.ease2_cell(-98.0, 38.0)
    cells = {"rows": np.full(9, row), "cols": col + np.arange(9)}
    values = coarse.product(worlds[0], "smap_l3_ancillary", **cells).values
    tb = values[:, :, BANDS.index("tb_v_corrected")]
    tb = tb[:, np.isfinite(tb).all(axis=0)]
    true = worlds[0].cells(cells["rows"], cells["cols"]).surface_m3_m3
    assert np.diff(tb, axis=0).std() < 3.0
    _, _, weights = passive.footprint(
        grids.EASE2_TOP_M - (np.array([row]) + 0.5) * grids.EASE2_PIXEL_SIZE_M[9],
        grids.EASE2_LEFT_M + (np.array([col]) + 0.5) * grids.EASE2_PIXEL_SIZE_M[9],
    )
    power = weights.toarray().reshape(5, 5)
    assert power.sum() == pytest.approx(1)
    assert power[2, 4] / power[2, 2] == pytest.approx(0.5, abs=0.01)  # 18 km away: half the power
    assert np.isfinite(true).all()


@pytest.mark.parametrize("direction", ["descending", "ascending"])
def test_smap_passes_over_40_to_60_percent_of_days_and_repeats_after_eight(direction):
    days = np.arange(np.datetime64("2020-01-01"), np.datetime64("2020-02-26"))  # seven cycles
    place = np.linspace(-103, -93, 11), np.linspace(33, 43, 11)
    passed = schedule.smap_overpasses(days, place, direction=direction)
    assert ((passed.mean(axis=1) > 0.37) & (passed.mean(axis=1) < 0.6)).all()
    np.testing.assert_array_equal(passed[:, :-8], passed[:, 8:])


def test_no_retrieval_over_frozen_ground_and_doubt_under_dense_canopies(series):
    """Skipped retrievals are NaN while their brightness temperature stays."""
    for fields, _ in series.values():
        quality, surface = fields["retrieval_qual_flag"], fields["surface_flag"]
        seen = np.isfinite(quality)
        bits, quality = surface[seen].astype(int), quality[seen].astype(int)
        moisture = fields["soil_moisture_dca"][seen]
        assert np.isnan(moisture[quality == 7]).all() and (quality == 7).any()
        assert np.isfinite(moisture[quality != 7]).all()
        assert (quality[bits >> 10 & 1 == 1] & 1 == 1).all()  # dense vegetation
        assert np.isfinite(fields["tb_v_corrected"][seen]).all()
        assert 0.2 < (quality == 0).mean() < 0.95


@pytest.mark.parametrize("band", ["soil_moisture_scav", "soil_moisture_dca"])
def test_retrievals_score_as_at_scan_and_uscrn(worlds, band):
    """R 0.54-0.78, ubRMSE 0.042-0.069 (the ConvLSTM paper, Table 1)."""
    for world in worlds.values():
        r, ubrmse = scores(world, band)
        assert 0.54 <= r <= 0.78
        assert 0.042 <= ubrmse <= 0.069


def test_the_skin_dries_about_twice_as_fast_as_the_probes_layer(series):
    """In the five days after rain (Shellito 2016): all pairs of passes in dry spells."""
    fall = {"seen": 0.0, "true": 0.0}
    for fields, state in series.values():
        seen, true, rain = fields["soil_moisture_dca"], state.surface_m3_m3, state.precipitation_mm
        n = seen.shape[1] - 7
        dry = np.stack([rain[:, k : k + n] for k in range(1, 7)]).max(axis=0) < 0.5
        cell, day = np.nonzero((rain[:, :n] > 12) & dry & (state.temperature_c[:, :n] > 5))
        for first, last in ((1, 6), (1, 5), (2, 6), (2, 7)):
            change = seen[cell, day + first] - seen[cell, day + last]
            both = np.isfinite(change)
            fall["seen"] += change[both].sum()
            fall["true"] += (true[cell, day + first] - true[cell, day + last])[both].sum()
    assert 1.5 <= fall["seen"] / fall["true"] <= 2.5


@pytest.mark.parametrize("source", ["smap_l3_005", "smap_l3_ancillary"])
def test_a_longer_world_shares_the_first_year_byte_for_byte(worlds, source):
    """World 1's skin took out a mean that knew the world's end."""
    longer = World(seed=0, n_stations=24, start="2019-01-01", end="2020-04-01")
    rows, cols = grids.ease2_cell(np.array([-98.0, -95.0]), np.array([37.0, 40.0]))
    one, two = (coarse.product(w, source, rows=rows, cols=cols) for w in (worlds[0], longer))
    year = one.periods.end < np.datetime64("2020-01-01")
    n = int(year.sum())
    np.testing.assert_array_equal(one.values[:, :n], two.values[:, :n])


def test_overlapping_grids_render_the_same_bytes(worlds):
    time, size = np.datetime64("2019-06-02T13:00"), 9008.055210146
    row, col = grids.ease2_cell(-98.0, 38.0)

    def grid(top, left):
        x, y = grids.EASE2_LEFT_M + left * size, grids.EASE2_TOP_M - top * size
        return grids.Grid(grids.EASE2_CRS, float(x), float(y), size, 4, 4)

    one = worlds[0].render("smap_l3_005", time, grid(row, col))
    two = worlds[0].render("smap_l3_005", time, grid(row + 1, col + 2))
    np.testing.assert_array_equal(one[:, 1:, 2:], two[:, :3, :2])


def test_versions_five_and_six_share_one_calendar():
    """Version 5 ends where 6 begins (the Earth Engine collections)."""
    five, six = (
        schedule.CALENDARS[f"smap_l3_00{k}"]("2023-12-01", "2023-12-08").scene_id for k in (5, 6)
    )
    assert len(five) == 3 and len(six) == 4
    assert not set(five) & set(six)


def test_a_series_has_every_band_of_its_row(worlds):
    stations = worlds[0].stations().drop_duplicates("station_id").head(2)
    table = SyntheticArchive(world=worlds[0]).series(
        stations, "smap_l3_005", "2019-01-01", "2019-03-01"
    )
    bands = [band.name for band in sources.get("smap_l3_005").bands]
    assert list(table.columns[4:]) == bands
    assert table[bands].notna().any(axis=1).all()
    assert table["soil_moisture_am"].isna().any()  # frozen, or no morning pass


# ---- SMAP/Sentinel-1 -----------------------------------------------------------------------------


def test_one_kilometre_is_worse_than_nine_at_stations(worlds):
    """Lower R and higher ubRMSE at 1 km than SMAP's own (Das et al. 2019; Mohseni et al. 2022)."""
    rows = []
    for world in worlds.values():
        stations = world.stations().query("depth_to_m <= 0.055").drop_duplicates("station_id")
        stations, period = stations.head(7), (world.start, world.end)
        archive = SyntheticArchive(world=world)
        passes = archive.scenes(stations, "smap_sentinel1", *period)
        nine = archive.series(stations, "smap_l3_ancillary", *period)
        nine = nine.rename(columns={"end": "time"})[["station_id", "time", "soil_moisture_scav"]]
        for station in stations.itertuples():
            here = passes.query("station_id == @station.station_id and valid_fraction >= 1")
            table = pd.DataFrame({"time": here["end"].iloc[::2].to_numpy()})
            at = station.latitude, station.longitude
            grid = grids.chip_grid(*at, size_px=1, pixel_size_m=1000)
            table["km"] = [world.render("smap_sentinel1", t, grid)[0, 0, 0] for t in table["time"]]
            probe = world.readings(station.sensor_id).query("flag == 'G'").set_index("time")
            hours = table["time"].dt.floor("h")
            table["probe"] = probe["soil_moisture_m3_m3"].reindex(hours).to_numpy()
            same = nine[nine["station_id"] == station.station_id]
            tolerance = pd.Timedelta("3D")
            table = pd.merge_asof(table, same, on="time", tolerance=tolerance).dropna()
            fine, coarse_, probe = table[["km", "soil_moisture_scav", "probe"]].to_numpy(float).T
            if len(table) > 20 and coarse_.std() > 0.01:
                r = [np.corrcoef(x, probe)[0, 1] for x in (fine, coarse_)]
                rows.append((*r, (fine - probe).std(), (coarse_ - probe).std()))
    r_fine, r_coarse, error_fine, error_coarse = np.mean(rows, axis=0)
    assert r_fine < r_coarse
    assert 1.02 * error_coarse < error_fine < 1.5 * error_coarse


def test_three_kilometres_are_smoother_than_one_and_both_agree_over_nine(worlds):
    """The radar moves moisture about within SMAP's cell and adds none."""
    world, size = worlds[0], grids.EASE2_PIXEL_SIZE_M[9] / 9
    row, col = grids.ease2_cell(-98.0, 38.0)
    left, top = grids.EASE2_LEFT_M + 9 * col * size, grids.EASE2_TOP_M - 9 * row * size
    grid = grids.Grid(grids.EASE2_CRS, float(left), float(top), size, 9, 18)
    for day in np.arange(
        np.datetime64("2019-05-01T13:00", "us"), np.datetime64("2019-05-09"), np.timedelta64(1, "D")
    ):
        one, vv, vh, three = world.render("smap_sentinel1", day, grid)
        if np.isfinite(one).all():
            break
        assert day < np.datetime64("2019-05-08")
    assert three.std() < one.std()
    assert (vh < vv).mean() > 0.95 and 0.005 < np.median(vv) < 0.5  # linear power
    for half in (slice(0, 9), slice(9, 18)):
        assert one[:, half].mean() == pytest.approx(three[:, half].mean(), abs=0.02)
    part = grids.Grid(grids.EASE2_CRS, float(left + 3 * size), float(top - size), size, 4, 8)
    again = world.render("smap_sentinel1", day, part)
    np.testing.assert_array_equal(again[0], one[1:5, 3:11])

"""Features of chips and series are what a soil scientist would compute by hand."""

import numpy as np
import pandas as pd
import pytest

from soilkit import grids
from soilkit.contracts import Chip
from soilkit.errors import ContractError, SceneNotFoundError
from soilkit.export import features
from tests.helpers_archive import samples_table, stations_table

SAMPLES = samples_table(stations_table(2), passes=1)


class OneChip:
    """A store that gives the same chip everywhere and counts how often it is read."""

    def __init__(self, source, values, bands, *, pixel_size_m=10):
        size = values.shape[-1]
        grid = grids.chip_grid(38.0, -98.0, size_px=size, pixel_size_m=pixel_size_m)
        self.sources, self.reads = (source,), []
        self.chip = Chip(values.astype(np.float32), bands, grid)

    def read(self, *key):
        self.reads.append(key)
        return self.chip


def of(source, values, bands, **options):
    table = features.from_chips(SAMPLES, OneChip(source, np.asarray(values), bands, **options))
    return table.iloc[0]


def test_backscatter_is_averaged_in_linear_power():
    # half the pixels at -10 dB (0.1), half at -20 dB (0.01): mean 0.055, which is -12.6 dB, not -15
    vv = np.full((1, 256, 256), -10.0)
    vv[:, :, ::2] = -20.0
    row = of("sentinel1", vv, ("VV",))
    assert row["sentinel1_VV_mean_320m"] == pytest.approx(10 * np.log10(0.055), abs=1e-3)
    assert row["sentinel1_VV_std_320m"] == pytest.approx(5.0)


def test_a_circle_holds_what_lies_within_its_radius_of_the_station():
    step = np.zeros((1, 256, 256))
    row, col = np.mgrid[:256, :256] - 127.5
    step[0][np.hypot(row, col) * 10 <= 80] = 100.0
    found = of("dem", step, ("elevation",))
    assert found["dem_elevation_mean_80m"] == 100.0
    # the inner circle's share of the larger one is (80 / 320)^2
    assert found["dem_elevation_mean_320m"] == pytest.approx(100 / 16, rel=0.05)


def test_slope_is_the_angle_of_the_plane():
    east = np.broadcast_to(np.arange(256) * 1.0, (1, 256, 256))  # one metre in ten: 5.71 degrees
    row = of("dem", east, ("elevation",))
    assert row["dem_slope_mean_1280m"] == pytest.approx(np.degrees(np.arctan(0.1)), abs=1e-3)


def test_ndvi_and_bands_leave_out_cloudy_pixels_and_keep_unknown_ones():
    red, infrared = np.full((256, 256), 1000.0), np.full((256, 256), 3000.0)
    flags = np.zeros((256, 256))
    red[:, :128], infrared[:, :128], flags[:, :128] = 8000.0, 8000.0, 1024.0
    flags[:, 200:] = np.nan
    row = of("sentinel2", np.stack([red, infrared, flags]), ("B4", "B8", "QA60"))
    assert row["sentinel2_NDVI_mean_320m"] == pytest.approx(0.5)
    assert row["sentinel2_B4_mean_320m"] == pytest.approx(1000.0)
    assert not any("QA60" in name for name in row.index)


def test_a_wholly_cloudy_circle_has_no_value():
    cube = np.stack([np.full((64, 64), 8000.0), np.full((64, 64), 2048.0)])
    assert np.isnan(of("sentinel2", cube, ("B4", "QA60"))["sentinel2_B4_mean_320m"])


def test_classes_are_counted_and_never_averaged():
    classes = np.full((1, 16, 16), 40.0)
    classes[0, :, :6] = 111.0
    row = of("land_cover", classes, ("discrete_classification",), pixel_size_m=160)
    assert row["land_cover_discrete_classification_mode_1280m"] == 40.0


def test_radii_below_a_pixel_are_left_out():
    row = of("soilgrids", np.full((1, 16, 16), 300.0), ("sand",), pixel_size_m=160)
    assert [n for n in row.index if n.startswith("soilgrids")] == [
        "soilgrids_sand_mean_320m",
        "soilgrids_sand_mean_1280m",
    ]


def test_each_chip_is_read_once_and_given_to_its_samples():
    store = OneChip("dem", np.zeros((1, 32, 32)), ("elevation",))
    samples = samples_table(stations_table(2), passes=3)
    table = features.from_chips(samples, store)
    assert sorted(store.reads) == [("dem", "static", f"NET__S{i}") for i in (0, 1)]
    assert table["sample_id"].tolist() == samples["sample_id"].tolist()


def test_series_go_to_the_scene_that_the_join_chose():
    samples = SAMPLES.assign(smap_scene=["A", "B", "A"])
    series = pd.DataFrame(
        {
            "station_id": ["NET__S0", "NET__S0", "NET__S1"],
            "scene_id": ["A", "B", "A"],
            "ssm": [10.0, 12.0, 20.0],
        }
    )
    table = features.from_series(samples, series, "smap")
    assert table["smap_ssm"].tolist() == [10.0, 12.0, 20.0]
    shuffled = features.from_series(samples, series.iloc[::-1], "smap")
    pd.testing.assert_frame_equal(table, shuffled)
    with pytest.raises(SceneNotFoundError, match="A at NET__S1"):
        features.from_series(samples, series.iloc[:2], "smap")
    with pytest.raises(ContractError, match="gldas_scene"):
        features.from_series(samples, series, "gldas")


def test_a_sample_without_a_coarse_scene_has_no_value():
    samples = SAMPLES.assign(smap_scene=["A", None, None])
    series = pd.DataFrame({"station_id": ["NET__S0"], "scene_id": ["A"], "ssm": [10.0]})
    values = features.from_series(samples, series, "smap")["smap_ssm"]
    assert values[0] == 10.0 and values[1:].isna().all()


def test_the_season_is_a_circle():
    times = pd.to_datetime(["2020-01-01 00:00", "2020-12-31 23:59", "2020-07-01 00:00"])
    table = features.season(pd.DataFrame({"sample_id": list("abc"), "time": times}))
    new_year, new_years_eve, july = table[["season_sin", "season_cos"]].to_numpy()
    assert np.hypot(*(new_year - new_years_eve)) < 0.03
    assert np.hypot(*(new_year - july)) > 1.99


def test_features_stand_side_by_side_by_sample_and_not_by_row():
    left = pd.DataFrame({"sample_id": ["a", "b"], "x": [1.0, 2.0]})
    right = pd.DataFrame({"sample_id": ["b", "a"], "y": [20.0, 10.0]})
    assert features.combine(left, right)["y"].tolist() == [10.0, 20.0]
    with pytest.raises(ContractError, match="missing"):
        features.combine(left, right.iloc[:1])
    with pytest.raises(ContractError, match="x in both"):
        features.combine(left, left)

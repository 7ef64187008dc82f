"""A region cut around a station, its map held against the truth, and its pictures in place."""

import base64
import io

import matplotlib

matplotlib.use("agg")

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib import image
from matplotlib import pyplot as plt

from soilkit import grids
from soilkit.contracts import Chip, ChipRequest, Failure, Grid
from soilkit.errors import CheckpointError, ContractError, SceneNotFoundError
from soilkit.export import rasters
from soilkit.metrics import map_scores, ubrmse_difference
from soilkit.models import maps
from soilkit.models.inputs import Inputs, stored_statistics
from soilkit.models.maps import (
    Scene,
    map_grid,
    predict_map,
    region_chips,
)
from soilkit.models.xception_fusion import look
from soilkit.show import plots
from soilkit.show.plots.region_maps import true_colours

LATITUDE, LONGITUDE = 38.0, -98.0
INPUTS = Inputs(high=("sentinel1", "dem"), low=("soilgrids",), coarse=())


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def sample():
    return pd.DataFrame(
        {
            "sample_id": ["a_1"], "sensor_id": ["N__a__p"], "station_id": ["N__a"],
            "time": pd.to_datetime(["2020-06-01 12:00"]).astype("datetime64[us]"),
            "soil_moisture_m3_m3": [0.2], "sentinel1_scene": ["S1_x"],
            "sentinel1_age_hours": [0.5], "dem_scene": ["static"], "dem_age_hours": [np.nan],
            "soilgrids_scene": ["static"], "soilgrids_age_hours": [np.nan],
        }
    )  # fmt: skip


def stations():
    return pd.DataFrame({"station_id": ["N__a"], "latitude": [LATITUDE], "longitude": [LONGITUDE]})


class Eastings:
    """An archive whose every band holds the pixel's easting."""

    name, version = "eastings", "1"

    def __init__(self, *, without=()):
        self.without, self.asked = without, []

    def chips(self, requests):
        self.asked = list(requests)
        for request in self.asked:
            if request.source in self.without:
                yield request, Failure("its orbit passes elsewhere")
            else:
                yield request, eastings_chip(request)


def eastings_chip(request: ChipRequest) -> Chip:
    grid = request.grid
    shape = (len(request.bands), grid.height, grid.width)
    return Chip(np.broadcast_to(grid.x_m, shape).copy(), request.bands, grid)


def mapped(values, *, left=500_000.0, top=4_206_000.0, size=320.0):
    """A map of these values, through the code that makes maps."""
    height, width = values.shape
    crs = grids.utm_crs(LATITUDE, LONGITUDE)
    inset = (2560 - size) / 2
    side = Grid(
        crs, left - inset, top + inset, 10.0, 256 + 32 * (height - 1), 256 + 32 * (width - 1)
    )
    import torch

    class Known(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(()))

        def forward(self, high):
            return high[:, 0, 128, 128] * self.weight

    layer = np.zeros((1, side.height, side.width), np.float32)
    layer[0, 128::32, 128::32][:height, :width] = values
    return predict_map(Known(), Scene(side, {"high": layer}), look, progress=False)


# ---- the region -------------------------------------------------------------------------------


def test_a_region_is_the_stations_own_chip_cut_wider():
    """The middle 256 pixels of a region of 512 are, pixel by pixel, the station's chip."""
    found = region_chips(sample(), Eastings(), stations=stations(), inputs=INPUTS, size_px=512)
    chip = grids.chip_grid(LATITUDE, LONGITUDE, size_px=256, pixel_size_m=10)
    np.testing.assert_array_equal(found["dem"].values[0, 0, 128:384], chip.x_m)
    assert found["soilgrids"].values.shape == (4, 32, 32)
    assert found["soilgrids"].grid.bounds_m == found["dem"].grid.bounds_m
    assert list(found) == ["sentinel1", "dem", "soilgrids"]


def test_a_region_asks_for_the_scene_that_the_join_chose():
    """The radar scene of half an hour before the reading; layers without time have none."""
    archive = Eastings()
    region_chips(sample(), archive, stations=stations(), inputs=INPUTS, size_px=320)
    asked = {request.source: request for request in archive.asked}
    assert asked["sentinel1"].scene_id == "S1_x"
    assert asked["sentinel1"].time == np.datetime64("2020-06-01T11:30")
    assert np.isnat(asked["dem"].time)


def test_a_layer_that_does_not_come_is_named():
    archive = Eastings(without=("sentinel1",))
    with pytest.raises(SceneNotFoundError, match="No sentinel1 .* its orbit passes elsewhere"):
        region_chips(sample(), archive, stations=stations(), inputs=INPUTS, size_px=320)
    two = pd.concat([sample(), sample()])
    with pytest.raises(ContractError, match="one sample at a time, found 2"):
        region_chips(two, Eastings(), stations=stations(), inputs=INPUTS, size_px=320)


def test_coarse_inputs_are_scaled_by_what_the_checkpoint_carries():
    inputs = Inputs(high=(), low=(), coarse=("smap", "gldas"))
    statistics = {"smap.ssm": (0.2, 0.1), "gldas.SoilMoi0_10cm_inst": (0.3, 0.05)}
    kept = inputs.normalisation(statistics)
    assert stored_statistics(kept, inputs) == statistics
    assert stored_statistics({}, Inputs(coarse=())) == {}
    del kept["gldas.SoilMoi0_10cm_inst"]
    with pytest.raises(CheckpointError, match=r"of gldas\.SoilMoi0_10cm_inst"):
        stored_statistics(kept, inputs)


# ---- the scores -------------------------------------------------------------------------------


def truth(side=25, seed=0):
    return 0.2 + 0.04 * np.random.default_rng(seed).standard_normal((side, side))


def test_one_number_has_the_truths_own_spread_as_its_ubrmse():
    ground = truth()
    scores = map_scores(np.full(ground.shape, 0.15), ground)
    assert scores["ubrmse_m3_m3"] == pytest.approx(ground.std())
    assert scores["bias_m3_m3"] == pytest.approx(0.15 - ground.mean())
    assert np.isnan(scores["r"])


def test_rmse_is_bias_and_ubrmse_together():
    ground = truth()
    scores = map_scores(ground + 0.03 + 0.5 * (ground - ground.mean()), ground)
    parts = scores["bias_m3_m3"] ** 2 + scores["ubrmse_m3_m3"] ** 2
    assert scores["rmse_m3_m3"] ** 2 == pytest.approx(parts)
    assert scores["r"] == pytest.approx(1)


def test_unknown_cells_are_left_out():
    ground, guess = truth(), truth() + 0.1
    guess[:5] = np.nan
    scores = map_scores(guess, ground)
    assert (scores["n"], scores["bias_m3_m3"]) == (500, pytest.approx(0.1))
    with pytest.raises(ContractError, match="share no known cell"):
        map_scores(np.full((2, 2), np.nan), np.zeros((2, 2)))
    with pytest.raises(ContractError, match="Average the truth"):
        map_scores(np.zeros((2, 2)), np.zeros((4, 4)))


def test_fine_detail_counts_by_the_difference_of_ubrmse():
    """A map with half the detail leaves half the spread; the interval holds the value."""
    ground = truth()
    half = ground.mean() + 0.5 * (ground - ground.mean())
    flat = np.full(ground.shape, 0.4)
    gain = ubrmse_difference(half, flat, truth=ground, cell_size_m=320)
    assert gain["difference"] == pytest.approx(-0.5 * ground.std())
    assert gain["lower"] < gain["difference"] < gain["upper"] < 0
    assert gain["n_blocks"] == 9  # 8 km in blocks of about 2.56 km
    back = ubrmse_difference(flat, half, truth=ground, cell_size_m=320)
    assert back["difference"] == pytest.approx(-gain["difference"])
    same = ubrmse_difference(flat, flat - 0.1, truth=ground, cell_size_m=320)
    assert same["difference"] == pytest.approx(0, abs=1e-9)


def test_too_few_blocks_give_no_interval():
    gain = ubrmse_difference(truth(9), truth(9, 1), truth=truth(9, 2), cell_size_m=320)
    assert gain["n_blocks"] == 1
    assert np.isnan(gain["lower"])
    nothing = ubrmse_difference(np.full((9, 9), np.nan), truth(9), truth=truth(9), cell_size_m=320)
    assert nothing["n_blocks"] == 0 and np.isnan(nothing["difference"])
    finer = ubrmse_difference(
        truth(9), truth(9, 1), truth=truth(9, 2), cell_size_m=320, block_m=960, seed=1
    )
    assert finer["n_blocks"] == 9
    assert finer["lower"] < finer["difference"] < finer["upper"]


def test_smooth_errors_have_wider_intervals_than_cells_would_give():
    """Errors alike within a block: resampling cells would claim too much."""
    blocks = np.kron(np.random.default_rng(3).standard_normal((3, 3)), np.ones((8, 8)))
    ground, flat = 0.2 + 0.04 * blocks, np.full((24, 24), 0.2)
    noisy = ground + 0.04 * np.roll(blocks, 8, axis=0)
    coarse = ubrmse_difference(noisy, flat, truth=ground, cell_size_m=320)
    cells = ubrmse_difference(noisy, flat, truth=ground, cell_size_m=320, block_m=320)
    assert cells["n_blocks"] == 576
    assert coarse["upper"] - coarse["lower"] > 3 * (cells["upper"] - cells["lower"])


# ---- the pictures -----------------------------------------------------------------------------


def test_map_and_truth_share_one_scale_and_the_title_says_what_they_are():
    ground = truth(6).astype(np.float32)
    dataset = mapped(ground + 0.02)
    place = (LONGITUDE, LATITUDE)
    figure = plots.map_and_truth(dataset, ground, title="one moment (synthetic)", place=place)
    model, true, difference = (axis.images[0] for axis in figure.axes[:3])
    assert model.get_clim() == true.get_clim()
    assert difference.get_clim()[0] == -difference.get_clim()[1]
    np.testing.assert_allclose(difference.get_array(), 0.02, atol=1e-6)
    assert figure.get_suptitle() == "one moment (synthetic)"
    assert [axis.get_title() for axis in figure.axes[:3]] == ["model", "truth", "model − truth"]
    assert all("m³ m⁻³" in axis.get_ylabel() for axis in figure.axes[3:])
    assert figure.get_supxlabel() == "east of the station [km]"


def test_pictures_count_kilometres_from_the_place():
    dataset = mapped(truth(5))
    grid = map_grid(dataset)
    x, y = grid.x_m[0], grid.y_m[0]  # the centre of the north-west cell
    place = grids.transformer(grid.crs, "EPSG:4326").transform(x, y)
    figure = plots.map_and_truth(dataset, truth(5), place=place)
    assert figure.axes[0].images[0].get_extent() == pytest.approx([-0.16, 1.44, -1.44, 0.16])
    corner = plots.map_and_truth(dataset, truth(5))
    assert corner.axes[0].images[0].get_extent() == pytest.approx([0, 1.6, 0, 1.6])


def test_an_overlay_lies_where_the_map_lies():
    """The one wet cell is found in the picture at its own longitude and latitude."""
    values = np.zeros((20, 30), np.float32)
    values[4, 7] = 1.0
    values[0, 0] = np.nan
    grid = Grid(grids.utm_crs(LATITUDE, LONGITUDE), 500_000.0, 4_206_000.0, 320.0, 20, 30)
    picture = plots.overlay(values, grid, limits=(0, 1), cmap="gray")
    png = image.imread(io.BytesIO(base64.b64decode(picture.url.split(",")[1])))
    lon, lat = grids.transformer(grid.crs, "EPSG:4326").transform(grid.x_m[7], grid.y_m[4])
    there = grids.transformer("EPSG:4326", "EPSG:3857").transform
    (south, west), (north, east) = picture.bounds
    (left, right), (bottom, top) = there([west, east], [south, north])
    x, y = there(lon, lat)
    row = int((top - y) / (top - bottom) * png.shape[0])
    col = int((x - left) / (right - left) * png.shape[1])
    assert png[row, col].tolist() == [1, 1, 1, 1]
    assert (png[..., 0] > 0.5).mean() == pytest.approx(1 / 600, rel=0.3)
    assert png[2, 2, 3] == 0  # unknown is transparent
    assert picture.url.startswith("data:image/png;base64,")


def test_the_scale_is_common_and_round():
    assert plots.moisture_range(np.full(50, 0.123), np.full(50, 0.342)) == (0.12, 0.35)


def test_speckle_is_averaged_in_linear_power_for_the_eye():
    """Half the pixels at 0 dB and half at -30 dB look like 10 log10(0.5005) = -3 dB."""
    grid = Grid(grids.utm_crs(LATITUDE, LONGITUDE), 0.0, 0.0, 10.0, 16, 16)
    vv = np.where(np.arange(16) % 2, 0.0, -30.0)
    radar = Chip(np.broadcast_to(vv, (1, 16, 16)).copy(), ("VV",), grid)
    soil = Chip(np.full((1, 1, 1), 250.0), ("sand",), Grid(grid.crs, 0.0, 0.0, 160.0, 1, 1))
    figure = plots.region_panel({"sentinel1": radar, "soilgrids": soil}, title="synthetic")
    shown = figure.axes[0].images[0].get_array()
    assert shown.shape == (2, 2)
    np.testing.assert_allclose(shown, 10 * np.log10(0.5005))
    assert figure.axes[1].images[0].get_array().item() == 25.0  # g/kg to %
    assert "80 m means" in figure.axes[0].get_title()


def test_clouds_do_not_darken_the_ground():
    """A white cloud in a tenth of the chip leaves the stretch to the ground."""
    ground = np.linspace(500, 1500, 400).reshape(20, 20)
    flags = np.zeros((20, 20))
    flags[:2] = 1 << 10
    bands = np.where(flags > 0, 9000, ground)
    grid = Grid("EPSG:32614", 0.0, 0.0, 10.0, 20, 20)
    chip = Chip(np.stack([bands, bands, bands, flags]), ("B4", "B3", "B2", "QA60"), grid)
    (colour,) = true_colours([chip])
    assert colour[2:].max() == 1
    assert np.median(colour[2:]) == pytest.approx(0.5, abs=0.03)
    assert (colour[:2] == 1).all()


def test_a_map_file_answers_in_another_projection(tmp_path):
    """Asked in Web Mercator for the pixel at a cell's centre, the file gives that cell."""
    values = truth(6).astype(np.float32)
    dataset = mapped(values)
    maps.to_cog(dataset, tmp_path / "map.tif")
    grid = map_grid(dataset)
    x, y = grids.transformer(grid.crs, "EPSG:3857").transform(grid.x_m[4], grid.y_m[1])
    pixel = Grid("EPSG:3857", x - 5, y + 5, 10.0, 1, 1)
    read = rasters.read(tmp_path / "map.tif", pixel, resampling="nearest")
    assert read.item() == pytest.approx(values[1, 4])
    assert isinstance(dataset, xr.Dataset)

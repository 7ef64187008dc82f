"""Why a cell of a map is not to be believed, and how far its answers may be off."""

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from soilkit import grids
from soilkit.contracts import Grid
from soilkit.errors import ContractError
from soilkit.export import cubes
from soilkit.export.archives import open_archive
from soilkit.models.inputs import Inputs
from soilkit.models.maps import (
    Scene,
    predict_map,
    reason_shares,
    reasons_of,
    with_applicability,
    with_interval,
    with_validity,
)
from soilkit.models.maps.validity import REASONS, area_of
from soilkit.models.maps.windows import map_dataset
from soilkit.world import fields

CRS, CELLS = "EPSG:32614", Grid("EPSG:32614", 500_000.0, 4_000_000.0, 40.0, 2, 3)  # 4 x 4 pixels
PIXELS = Grid(CRS, 500_000.0, 4_000_000.0, 10.0, 8, 12)


def moment(**layers):
    """A cube of 8 x 12 pixels at one moment."""
    axes = {"y": PIXELS.y_m, "x": PIXELS.x_m}
    full = {n: (("y", "x"), np.broadcast_to(v, (8, 12))) for n, v in layers.items()}
    return xr.Dataset(full, axes)


def corner(value, other=0.0, *, rows=4, cols=4):
    """A value in the north-western pixels, another elsewhere."""
    values = np.full((8, 12), float(other))
    values[:rows, :cols] = value
    return values


def a_map(values=0.2):
    values = np.broadcast_to(np.float32(values), (2, 3)).copy()
    return map_dataset({"soil_moisture": (values, {})}, CELLS)


def test_the_share_of_each_cell_that_is_cloudy_or_outside():
    """Bit 10 of QA60 is cloud; unknown flags are no cloud; the outline leaves out two columns."""
    flags = corner(1024, rows=4, cols=6)
    flags[7, 11] = np.nan
    inside = np.ones((8, 12))
    inside[:, 10:] = 0
    reasons = reasons_of(moment(sentinel2_QA60=flags, inside=inside), CELLS)
    assert reasons["cloud"].tolist() == [[1, 0.5, 0], [0, 0, 0]]
    assert reasons["edge"].tolist() == [[0, 0, 0.5], [0, 0, 0.5]]
    assert set(reasons) == {"cloud", "edge"}


@pytest.mark.parametrize(
    ("green", "infrared", "shortwave", "reason"),
    [
        (0.06, 0.02, 0.01, "water"),  # MNDWI 0.71, dark infrared
        (0.80, 0.75, 0.08, "snow_or_frozen"),  # NDSI 0.82, bright
        (0.10, 0.25, 0.30, None),  # bare soil
        (0.06, 0.40, 0.15, None),  # canopy
    ],
)
def test_optics_tell_water_and_snow_from_land(green, infrared, shortwave, reason):
    layers = {"sentinel2_B3": green, "sentinel2_B8": infrared, "sentinel2_B11": shortwave}
    reasons = reasons_of(moment(**layers), CELLS)
    shares = {name: values.mean() for name, values in reasons.items()}
    assert shares == {name: float(name == reason) for name in ("snow_or_frozen", "water")}
    hidden = reasons_of(moment(**layers, sentinel2_QA60=1024.0), CELLS)  # under clouds no one knows
    assert hidden["water"].max() == hidden["snow_or_frozen"].max() == 0


@pytest.mark.parametrize(
    ("layer", "value", "reason"),
    [
        ("land_cover_discrete_classification", 80, "water"),
        ("land_cover_discrete_classification", 70, "snow_or_frozen"),
        ("nlcd_2021_landcover", 11, "water"),
        ("modis_land_cover_LC_Type1", 17, "water"),
        ("smap_l4_surface_temp", 270.0, "snow_or_frozen"),
        ("gridmet_tmmx", 272.0, "snow_or_frozen"),
    ],
)
def test_classes_and_frost_spoil_a_cell(layer, value, reason):
    reasons = reasons_of(moment(**{layer: corner(value, 300)}), CELLS)
    assert reasons[reason].tolist() == [[1, 0, 0], [0, 0, 0]]


def test_a_slope_steeper_than_the_radar_looks_lies_in_shadow():
    """At 38 degrees a slope of 45 degrees is laid over from one side; one of 30 never."""
    for rise, share in ((10.0, 1.0), (10 * np.tan(np.radians(30)), 0.0)):
        height = np.arange(12) * rise  # m over pixels of 10 m
        reasons = reasons_of(moment(dem_elevation=height, sentinel1_angle=38.0), CELLS)
        assert reasons["radar_shadow"].tolist() == [[share] * 3] * 2
    steep = reasons_of(moment(dem_elevation=np.arange(12) * 6.0, sentinel1_angle=62.0), CELLS)
    assert steep["radar_shadow"].min() == 1  # 31 degrees, in shadow beyond 28


def test_a_cell_of_one_pixel_has_no_slope():
    one = moment(dem_elevation=5.0, sentinel1_angle=38.0).isel(x=slice(1), y=slice(1))
    assert "radar_shadow" not in reasons_of(one, CELLS)


def test_bits_say_why_and_the_numbers_go():
    """Cloud over the first cell, an edge of half a cell that stays, no answer in the last cell."""
    values = np.full((2, 3), 0.2)
    values[1, 2] = np.nan
    cloud_share, edge_share = np.zeros((2, 2, 3))
    cloud_share[0, 0], edge_share[0] = 1, (0.6, 0.5, 0)
    reasons = {"cloud": cloud_share, "edge": edge_share}
    mapped = with_validity(a_map(values), [reasons, {"water": np.eye(2, 3)}])
    cloud, water, edge, none = (REASONS[n] for n in ("cloud", "water", "edge", "no_source"))
    assert mapped["validity"].values.tolist() == [[cloud | water | edge, 0, 0], [0, water, none]]
    assert np.isnan(mapped["soil_moisture"].values).tolist() == [[True, False, False]] + [
        [False, True, True]
    ]
    words = mapped["validity"].attrs
    assert words["flag_meanings"] == "edge cloud water no_source"
    assert words["flag_masks"].tolist() == [1, 2, 4, 64]
    assert words["not_checked"] == "snow_or_frozen radar_shadow outside_applicability"
    assert mapped["soil_moisture"].attrs["units"] == "m3 m-3"
    shares = reason_shares(mapped)
    assert shares.to_dict() == pytest.approx(
        {"valid": 0.5, "edge": 1 / 6, "cloud": 1 / 6, "water": 1 / 3, "no_source": 1 / 6}
    )


def test_the_width_is_that_of_stations_that_did_not_train():
    """Nine stations of one residual each, 0.01 to 0.09: 90 % want the largest; by hand 0.09."""
    residuals = np.arange(1, 10) / 100
    signs, names = np.resize([1, -1], 9), [f"n__{i}" for i in range(9)]
    table = pd.DataFrame({"predicted_m3_m3": 0.2 + residuals * signs, "station_id": names})
    table["observed_m3_m3"] = 0.2
    mapped = with_interval(a_map([[0.2, 0.05, np.nan]] * 2), table)
    assert mapped.attrs["interval_half_width_m3_m3"] == pytest.approx(0.09)
    np.testing.assert_allclose(mapped["soil_moisture_lower"][0], [0.11, 0.0, np.nan], atol=1e-6)
    np.testing.assert_allclose(mapped["soil_moisture_upper"][0], [0.29, 0.14, np.nan], atol=1e-6)
    with pytest.raises(ContractError, match="need 9 calibration groups"):
        with_interval(a_map(), table.iloc[:8])


class CentreMean(torch.nn.Module):
    """Answers with the mean of the first band's centre."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, high, low, coarse):
        return self.weight * high[:, 0, 112:144, 112:144].mean((1, 2))


def look(model, batch):
    return model(**batch), None


class Samples:
    """Centres of 320 m, cut from a scene's own windows: what ``ChipDataset`` gives."""

    inputs = Inputs(high=("sentinel1",), low=("soilgrids",), coarse=("smap",))
    crop_px = 32

    def __init__(self, scene, starts):
        self.scene, self.starts = scene, starts

    def __len__(self):
        return len(self.starts)

    def __getitem__(self, i):
        row, col = self.starts[i]
        high = self.scene.images["high"][:, row + 112 : row + 144, col + 112 : col + 144]
        r, c = row // 16 + 7, col // 16 + 7
        low = self.scene.images["low"][:, r : r + 2, c : c + 2]
        parts = {"high": high, "low": low, "coarse": self.scene.scalars["coarse"]}
        return {name: torch.from_numpy(np.nan_to_num(v)) for name, v in parts.items()}


@pytest.fixture(scope="module")
def scene():
    rng, grid = np.random.default_rng(0), Grid(CRS, 500_000.0, 4_000_000.0, 10.0, 352, 384)
    inputs = Samples.inputs
    high = rng.normal(size=(len(inputs.high), 352, 384)).astype(np.float32)
    high[0, 130, 130] = np.nan
    low = rng.normal(size=(len(inputs.low), 22, 24)).astype(np.float32)
    return Scene(grid, {"high": high, "low": low}, {"coarse": np.array([0.3], np.float32)},
                 {"low": 16})  # fmt: skip


def test_a_cell_whose_inputs_trained_the_model_is_inside(scene):
    """Windows of the map as training samples: their own cells lie at distance 0, others beyond."""
    starts = [(0, 0), (32, 64), (64, 128), (96, 32)]
    area = area_of(Samples(scene, starts), [0, 1, 2, 3])
    mapped = predict_map(CentreMean(), scene, look, progress=False)
    mapped = with_applicability(mapped, scene, area=area, names=Samples.inputs.names)
    index = mapped["applicability"].values
    assert [index[r // 32, c // 32] for r, c in starts] == pytest.approx([0] * 4, abs=1e-3)
    assert (index > 0.05).sum() == index.size - 4
    flagged = with_validity(mapped, [])["validity"].values == REASONS["outside_applicability"]
    assert (flagged == (index > 1)).all()


def test_a_scalar_that_never_varied_in_training_is_outside_wherever_it_differs(scene):
    area = area_of(Samples(scene, [(0, 0), (32, 64), (64, 128)]), [0, 1, 2])
    other = Scene(scene.grid, scene.images, {"coarse": np.array([0.4], np.float32)}, {"low": 16})
    mapped = predict_map(CentreMean(), other, look, progress=False)
    mapped = with_applicability(mapped, other, area=area, names=Samples.inputs.names)
    assert np.isinf(mapped["applicability"].values).all()
    flagged = with_interval(
        with_validity(mapped, []),
        pd.DataFrame({"predicted_m3_m3": 0.2, "observed_m3_m3": 0.1,
                      "station_id": [str(n) for n in range(9)]}),
    )  # fmt: skip
    assert np.isfinite(flagged["soil_moisture"]).all()  # kept, and flagged
    assert np.isnan(flagged["soil_moisture_lower"]).all()  # no width is promised there


def test_an_area_wants_the_cells_own_size(scene):
    samples = Samples(scene, [(0, 0), (32, 64)])
    samples.crop_px = 256
    with pytest.raises(ContractError, match="crops of 32 pixels, found 256"):
        area_of(samples, [0, 1])


def test_a_lake_of_the_world_is_water_and_its_shore_is_not(tmp_path):
    """The synthetic world knows where its lakes are; optics find them on a clear summer day."""
    archive = open_archive("synthetic", seed=0, n_stations=2, start="2019-05-01", end="2019-08-01")
    box = (-88.392, 38.244, -88.374, 38.252)  # half of it a lake
    cube = cubes.build(
        box, archive, tmp_path, sources={"sentinel2": ["B3", "B8", "B11", "QA60"]}, pixel_size_m=20,
        times=["2019-06-20"], bounds={"sentinel2": "30D"}, max_cloud_fraction={"sentinel2": 0.1},
        progress=False,
    )  # fmt: skip
    cells = Grid(
        "EPSG:32616", float(cube.x[0]) - 10, float(cube.y[0]) + 10, 20.0, *cube["inside"].shape
    )
    water = reasons_of(cube.isel(time=0).load(), cells)["water"] > 0.5
    x, y = np.meshgrid(cells.x_m, cells.y_m)
    ground = fields.ground(0, *grids.transformer(cells.crs, grids.EASE2_CRS).transform(x, y))
    lake = ground.land_cover == fields.LAKE
    assert 0.2 < lake.mean() < 0.8
    assert water[lake].mean() > 0.97 and water[~lake].mean() < 0.03

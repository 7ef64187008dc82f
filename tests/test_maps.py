"""Maps: each cell holds the model's own answer for its chip, at the chip's centre."""

import numpy as np
import pyproj
import pytest
import torch
import xarray as xr

from soilkit import sources
from soilkit.contracts import Chip, Grid
from soilkit.errors import ContractError
from soilkit.export import rasters
from soilkit.models import maps
from soilkit.models.inputs import Inputs
from soilkit.models.maps import Scene, map_grid, scene_of, to_cog
from soilkit.models.xception_fusion import XceptionFusion, look

torch.set_num_threads(1)
SIDE = 256 + 3 * 32  # four windows along, four down


def predict_map(model, scene, **options):
    return maps.predict_map(model, scene, look, **options)


def grid(side=SIDE, left=500_000.0, top=4_000_000.0):
    return Grid("EPSG:32614", left, top, 10.0, side, side)


def chip(values):
    return Chip(values, (), grid())


def random_scene(seed=0):
    rng = np.random.default_rng(seed)
    high = rng.normal(size=(3, SIDE, SIDE)).astype(np.float32)
    low = rng.normal(size=(2, SIDE // 16, SIDE // 16)).astype(np.float32)
    coarse = rng.normal(size=(2, 4, 4)).astype(np.float32)
    return Scene(grid(), {"high": high, "low": low}, {"coarse": coarse}, {"low": 16})


@pytest.fixture(scope="module")
def fusion():
    torch.manual_seed(0)
    model = XceptionFusion.preset("small", high_channels=3, low_channels=2, coarse=2)
    for norm in (m for m in model.modules() if hasattr(m, "running_mean")):
        norm.momentum = 1.0  # settle the batch norms at once; untrained, it depends on its input
    with torch.no_grad():
        model(torch.randn(8, 3, 256, 256), torch.randn(8, 2, 16, 16), torch.randn(8, 2))
    return model.eval()


class CentreMean(torch.nn.Module):
    """Answers with the mean of the four central pixels of the first band."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, high):
        return self.weight * high[:, 0, 127:129, 127:129].mean((1, 2))


def eastings(side=SIDE, left=500_000.0):
    return Scene(
        grid(side, left),
        {"high": np.broadcast_to(grid(side, left).x_m, (1, side, side)).copy()},
    )


def test_a_cell_holds_the_models_own_answer_for_the_chip_around_it(fusion):
    """Row 1, column 2 of the map is the window that starts 32 pixels south and 64 east."""
    scene = random_scene()
    mapped = predict_map(fusion, scene, batch_size=5, progress=False)
    assert mapped.soil_moisture.shape == (4, 4)
    high = torch.from_numpy(scene.images["high"][None, :, 32 : 32 + 256, 64 : 64 + 256])
    low = torch.from_numpy(scene.images["low"][None, :, 2 : 2 + 16, 4 : 4 + 16])
    # the window's centre is pixel (160, 192) of 352: 1.82 and 2.18 of the four coarse pixels
    coarse = torch.from_numpy(scene.scalars["coarse"][None, :, 1, 2])
    with torch.inference_mode():
        alone = fusion(high, low, coarse).item()
    assert mapped.soil_moisture.values[1, 2] == pytest.approx(alone, abs=1e-5)
    assert np.ptp(mapped.soil_moisture.values) > 1e-3


def test_cells_lie_where_the_windows_have_their_centres():
    """A model that answers with its centre's easting maps the eastings."""
    mapped = predict_map(CentreMean(), eastings(), progress=False)
    assert mapped.x.values.tolist() == [501280.0, 501600.0, 501920.0, 502240.0]
    assert mapped.y.values.tolist() == [3998720.0, 3998400.0, 3998080.0, 3997760.0]
    np.testing.assert_allclose(mapped.soil_moisture.values, np.tile(mapped.x.values, (4, 1)))


def test_a_shifted_scene_moves_the_map():
    """The same ground cut one stride further east gives the same values one column earlier."""
    first = predict_map(CentreMean(), eastings(), progress=False)
    second = predict_map(CentreMean(), eastings(left=500_320.0), progress=False)
    assert second.x.values[0] == first.x.values[1]
    shared = np.intersect1d(first.x, second.x)
    np.testing.assert_array_equal(
        first.soil_moisture.sel(x=shared), second.soil_moisture.sel(x=shared)
    )


def test_a_finer_stride_has_finer_cells():
    mapped = predict_map(CentreMean(), eastings(side=256 + 32), stride_m=160, progress=False)
    assert np.diff(mapped.x.values).tolist() == [160.0, 160.0]
    assert map_grid(mapped) == Grid("EPSG:32614", 501_200.0, 3_998_800.0, 160.0, 3, 3)


def test_windows_with_too_little_data_are_empty():
    """West of the middle everything is missing: only windows that are half full are answered."""
    scene = eastings()
    scene.images["high"][..., : 128 + 40] = np.nan  # windows from column 64 on see 152 of 256
    mapped = predict_map(CentreMean(), scene, progress=False)
    assert np.isnan(mapped.soil_moisture.values).all(axis=0).tolist() == [True, True, False, False]
    assert mapped.valid_fraction.values[0].tolist() == [88 / 256, 120 / 256, 152 / 256, 184 / 256]
    scene.images["high"][..., 110 : 128 + 40] = 1.0
    scene.images["high"][..., 127:129] = np.nan  # the centre of column 0: the middle of the range
    again = predict_map(CentreMean(), scene, progress=False)
    assert (again.soil_moisture.values[:, 0] == 0).all() and again.soil_moisture.notnull().all()


def test_coarse_scalars_may_hold_for_the_whole_region():
    model = XceptionFusion.preset("small", coarse=2).eval()
    known, unknown = (
        Scene(grid(), scalars={"coarse": np.array([0.1, second])}) for second in (0.2, np.nan)
    )
    mapped = predict_map(model, known, progress=False)
    assert np.ptp(mapped.soil_moisture.values) == pytest.approx(0, abs=1e-6)
    lost = predict_map(model, unknown, progress=False)
    assert lost.soil_moisture.isnull().all()


def test_the_map_carries_cf_metadata():
    mapped = predict_map(CentreMean(), eastings(side=256), progress=False)
    assert mapped.soil_moisture.attrs["units"] == "m3 m-3"
    assert mapped.soil_moisture.attrs["standard_name"] == (
        "volume_fraction_of_condensed_water_in_soil"
    )
    mapping = mapped[mapped.soil_moisture.attrs["grid_mapping"]]
    assert pyproj.CRS.from_wkt(mapping.attrs["crs_wkt"]) == pyproj.CRS("EPSG:32614")
    assert mapped.x.attrs["standard_name"] == "projection_x_coordinate"
    assert mapped.attrs["Conventions"].startswith("CF-")


def test_a_map_survives_netcdf(tmp_path):
    mapped = predict_map(CentreMean(), eastings(side=256 + 32), progress=False)
    mapped.to_netcdf(tmp_path / "map.nc")
    with xr.open_dataset(tmp_path / "map.nc") as read:
        np.testing.assert_array_equal(read.soil_moisture, mapped.soil_moisture)
        assert map_grid(read) == map_grid(mapped)


def test_strides_that_split_pixels_are_refused(fusion):
    with pytest.raises(ContractError, match="whole number of 160 m"):
        predict_map(fusion, random_scene(), stride_m=240, progress=False)
    with pytest.raises(ContractError, match="whole number of 10 m"):
        predict_map(CentreMean(), eastings(), stride_m=15, progress=False)


def test_scenes_that_do_not_fit_are_refused():
    with pytest.raises(ContractError, match="a window needs 256"):
        predict_map(CentreMean(), eastings(side=255), progress=False)
    with pytest.raises(ContractError, match="low layers have rows and columns"):
        Scene(grid(), {"low": np.zeros((2, 16, 16))}, ratios={"low": 16})


def test_a_cog_reads_back_in_the_right_place(tmp_path):
    """rasterio finds each cell's easting at that easting."""
    mapped = predict_map(CentreMean(), eastings(), progress=False)
    to_cog(mapped, tmp_path / "map.tif", tags={"data": "synthetic"})
    grid_read = rasters.grid_of(tmp_path / "map.tif")
    assert grid_read == map_grid(mapped)
    values = rasters.read(tmp_path / "map.tif", grid_read)[0]
    np.testing.assert_array_equal(values[0], grid_read.x_m)


def test_a_scene_is_normalised_as_in_training():
    """VV from -25 to 5 dB: -10 dB is the middle, 0; Sentinel-2 feeds B4 first; SMAP in m3 m-3."""
    inputs = Inputs(high=("sentinel1", "sentinel2"), low=("soilgrids",), coarse=("smap", "gldas"))
    sentinel2 = [band.name for band in sources.get("sentinel2").bands]
    layers = {
        "sentinel1": chip(np.full((3, SIDE, SIDE), -10.0)),
        "sentinel2": chip(
            np.stack([np.full((SIDE, SIDE), 100.0 * i) for i in range(len(sentinel2))])
        ),
        "soilgrids": chip(np.full((4, SIDE // 16, SIDE // 16), np.nan)),
        "smap": np.full((5, 5), 12.5),  # mm in 50 mm: 0.25
        "gldas": np.full((5, 5), 30.0),  # kg m-2 in 100 mm: 0.30
    }
    statistics = {"smap.ssm": (0.15, 0.1), "gldas.SoilMoi0_10cm_inst": (0.25, 0.05)}
    scene = scene_of(layers, inputs=inputs, statistics=statistics)
    vv = sources.get("sentinel1").band("VV").normalisation
    b4 = sources.get("sentinel2").band("B4").normalisation
    assert scene.images["high"].shape == (9, SIDE, SIDE)
    assert scene.images["high"][0, 0, 0] == pytest.approx(vv(np.array(-10.0)))
    assert scene.images["high"][3, 0, 0] == pytest.approx(
        b4(np.array(100.0 * sentinel2.index("B4")))
    )
    assert np.isnan(scene.images["low"]).all()
    np.testing.assert_allclose(scene.scalars["coarse"][:, 2, 2], [1.0, 1.0], rtol=1e-6)

    with pytest.raises(ContractError, match="lacks soilgrids, gldas"):
        del layers["soilgrids"], statistics["gldas.SoilMoi0_10cm_inst"]
        scene_of(layers, inputs=inputs, statistics=statistics)
    with pytest.raises(ContractError, match="at least one chip"):
        scene_of({"smap": 12.5}, inputs=Inputs((), (), ("smap",)), statistics={"smap.ssm": (0, 1)})


def test_coarse_layers_may_be_single_numbers():
    inputs = Inputs(high=(), low=(), coarse=("smap",))
    region = {"dem": chip(np.zeros((1, SIDE, SIDE))), "smap": 12.5}
    scene = scene_of(region, inputs=inputs, statistics={"smap.ssm": (0.25, 0.1)})
    assert scene.scalars["coarse"].tolist() == [0.0]

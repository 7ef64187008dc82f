"""Maps: each cell holds the model's own answer for its chip, at the chip's centre."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pyproj
import pytest
import torch
import xarray as xr

from soilkit import sources
from soilkit.contracts import Chip, Grid
from soilkit.errors import ContractError, UnknownNameError
from soilkit.export import rasters
from soilkit.models import maps
from soilkit.models.encoders import ENCODERS
from soilkit.models.inputs import Inputs
from soilkit.models.maps import Scene, map_grid, receptive_field, scene_of, to_cog, windows
from soilkit.models.xception_fusion import FusionConfig, XceptionFusion, look

torch.set_num_threads(1)
SIDE = 256 + 3 * 32  # four windows along, four down


def predict_map(model, scene, **options):
    return maps.predict_map(model, scene, look, **options)


def grid(side=SIDE, left=500_000.0, top=4_000_000.0):
    return Grid("EPSG:32614", left, top, 10.0, side, side)


def chip(values):
    return Chip(values, (), grid())


def random_scene(seed=0, *, height=SIDE, width=SIDE):
    rng = np.random.default_rng(seed)
    high = rng.normal(size=(3, height, width)).astype(np.float32)
    low = rng.normal(size=(2, height // 16, width // 16)).astype(np.float32)
    coarse = rng.normal(size=(2, 4, 4)).astype(np.float32)
    of_scene = Grid("EPSG:32614", 500_000.0, 4_000_000.0, 10.0, height, width)
    return Scene(of_scene, {"high": high, "low": low}, {"coarse": coarse}, {"low": 16})


def forget_neighbours(model):
    """Leave kernels nothing but their centre: padding can make no difference."""
    for layer in (m for m in model.modules() if isinstance(m, torch.nn.Conv2d)):
        middle = layer.kernel_size[0] // 2
        centre = layer.weight.detach()[:, :, middle, middle].clone()
        torch.nn.init.zeros_(layer.weight)
        layer.weight.detach()[:, :, middle, middle] = centre


def settled(is_pointwise: bool = False, **config):
    """An untrained model whose answers depend on its input, its batch norms settled at once."""
    torch.manual_seed(0)
    model = XceptionFusion(FusionConfig(preset="small", **config))
    if is_pointwise:
        forget_neighbours(model)
    for norm in (m for m in model.modules() if hasattr(m, "running_mean")):
        norm.momentum = 1.0
    sizes = {"high": (3, 256, 256), "low": (2, 16, 16), "coarse": (2,)}
    wanted = dict(zip(sizes, (model.config.high_channels, model.config.low_channels,
                              model.config.coarse), strict=True))  # fmt: skip
    with torch.no_grad():
        model(**{n: torch.randn(8, *sizes[n]) for n, channels in wanted.items() if channels})
    return model.eval()


ALL = {"high_channels": 3, "low_channels": 2, "coarse": 2}


@pytest.fixture(scope="module")
def fusion():
    return settled(**ALL)


class Opaque(torch.nn.Module):
    """A model of which nothing but its answers is known: every window by itself."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, **images):
        return self.model(**images)


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
    mapped = predict_map(fusion, scene, batch_size=3, coarse="nearest", progress=False)
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


def test_a_model_of_smaller_crops_has_smaller_windows():
    """Trained on 128 pixels: the window of a cell is 128 wide, and more cells fit the scene."""
    model, scene = settled(crop_px=128, **ALL), random_scene()
    mapped = predict_map(model, scene, coarse="nearest", progress=False)
    # 352 - 128 = 7 steps of 32; the first centre lies 640 m from the scene's edge
    assert mapped.soil_moisture.shape == (8, 8) and mapped.x.values[0] == 500_640.0
    high = torch.from_numpy(scene.images["high"][None, :, 32 : 32 + 128, 64 : 64 + 128])
    low = torch.from_numpy(scene.images["low"][None, :, 2 : 2 + 8, 4 : 4 + 8])
    coarse = torch.from_numpy(scene.scalars["coarse"][None, :, 1, 1])  # at pixel (96, 128) of 352
    with torch.inference_mode():
        alone = model(high, low, coarse).item()
    assert mapped.soil_moisture.values[1, 2] == pytest.approx(alone, abs=1e-5)
    apart = predict_map(Opaque(model), scene, coarse="nearest", progress=False)
    assert apart.sizes["x"] == 4  # of a model that tells no crop the paper's

    pointwise = settled(True, crop_px=128, **ALL)
    exact, dense = (
        predict_map(pointwise, scene, mode=m, progress=False) for m in ("exact", "dense")
    )
    np.testing.assert_allclose(dense.soil_moisture, exact.soil_moisture, atol=1e-6)


def test_a_margin_is_seen_and_not_mapped(fusion):
    """Two cells at each side left out: what remains is the middle of the whole map."""
    scene = random_scene(height=SIDE + 64, width=SIDE + 96)
    scene.images["high"][:, 150:, :230] = np.nan
    for mode in ("exact", "dense"):
        whole, inner = (
            predict_map(fusion, scene, mode=mode, margin=m, progress=False) for m in (0, 2)
        )
        assert inner.soil_moisture.shape == (2, 3)
        xr.testing.assert_allclose(
            inner.drop_attrs(), whole.isel(y=slice(2, -2), x=slice(2, -2)).drop_attrs(), atol=1e-6
        )
    few = inner.attrs["dense_deviation_n_cells"]
    assert few == int(inner.soil_moisture.notnull().sum()) < whole.attrs["dense_deviation_n_cells"]


# What windows share, and dense maps.


@pytest.mark.parametrize("encoder", ENCODERS)
def test_shared_first_layers_change_no_answer(encoder):
    """Windows by themselves and windows that share layers; a third of the cells are not asked."""
    model, scene = settled(encoder=encoder, **ALL), random_scene(width=SIDE + 32)
    scene.images["high"][:, 150:, :230] = np.nan
    shared = predict_map(model, scene, batch_size=3, progress=False).soil_moisture
    alone = predict_map(Opaque(model), scene, progress=False).soil_moisture
    is_shared = windows._shared(model, windows_of(model, scene)) is not None
    assert is_shared == (encoder != "local")  # whose squares share no pixel
    assert 0 < int(shared.isnull().sum()) < shared.size
    np.testing.assert_allclose(shared, alone, atol=1e-6)


def windows_of(model, scene, stride_m=320):
    return windows._Windows.of(scene, model, stride_m=stride_m, coarse="smooth")


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_feature_sees_its_receptive_field_and_no_further(encoder):
    """With positive weights the gradient reaches just the radius."""
    high, _ = ENCODERS[encoder]["small"]
    layers = high(1, drop_path_keep=1.0, momentum=0.1).double().eval().layers[:6]
    for weight in layers.parameters():
        torch.nn.init.constant_(weight, 0.1)
    field = receptive_field.receptive_field(layers)
    at = -(-2 * field.radius_px // field.stride_px)
    shape = 1, 1, 2 * at * field.stride_px, max(8, field.stride_px)
    image = torch.ones(*shape, dtype=torch.double, requires_grad=True)
    layers(image)[0, 0, at, 0].backward()
    seen = image.grad[0, 0].abs().sum(dim=1).nonzero().ravel() - at * field.stride_px
    assert max(-int(seen.min()), int(seen.max())) == field.radius_px


@pytest.mark.parametrize("encoder", ["xception", "mobilenet"])
@pytest.mark.parametrize("pooling", ["center", "average"])
def test_a_dense_map_is_the_exact_one_where_padding_makes_no_difference(encoder, pooling):
    """Every feature from its own pixel: what remains is that all is in its place."""
    model, scene = settled(True, encoder=encoder, pooling=pooling, **ALL), random_scene()
    scene.images["high"][:, 150:, :230] = np.nan
    scene.images["low"][1, 3:9, 3:9] = np.nan
    exact, dense = (predict_map(model, scene, mode=m, progress=False) for m in ("exact", "dense"))
    assert 0 < int(exact.soil_moisture.isnull().sum()) < exact.soil_moisture.size
    assert float(exact.soil_moisture.std()) > 1e-3
    np.testing.assert_allclose(dense.soil_moisture, exact.soil_moisture, atol=1e-6)
    xr.testing.assert_equal(dense.valid_fraction, exact.valid_fraction)
    assert dense.attrs["dense_deviation_m3_m3"] < 1e-6


@pytest.mark.parametrize(
    "config",
    [
        {"high_channels": 3}, {"low_channels": 2, "coarse": 2}, {"coarse": 2},
        {**ALL, "source_dropout": 0.2, "sources": ("a", "a", "b", "c", "c", "d", "e")},
    ],
    ids=["high only", "no high", "coarse only", "source dropout"],
)  # fmt: skip
def test_models_of_fewer_inputs_map_densely_too(config):
    model, scene = settled(True, **config), random_scene()
    layers = {"high": "high_channels", "low": "low_channels"}
    images = {n: v for n, v in scene.images.items() if layers[n] in config}
    numbers = {"coarse": np.array([0.3, -0.2])} if "coarse" in config else {}
    scene = Scene(scene.grid, images, numbers, {"low": 16})
    exact, dense = (predict_map(model, scene, mode=m, progress=False) for m in ("exact", "dense"))
    assert exact.soil_moisture.notnull().all()
    np.testing.assert_allclose(dense.soil_moisture, exact.soil_moisture, atol=1e-6)


def test_early_fusion_maps_densely_too():
    """Enlarged at once or window by window, low images differ only where a window's edge clamps."""
    model, scene = settled(True, fusion="early", **ALL), random_scene()
    scene.images["low"][:] = scene.images["low"][:, :1, :1]  # without slopes there is no clamping
    exact, dense = (predict_map(model, scene, mode=m, progress=False) for m in ("exact", "dense"))
    np.testing.assert_allclose(dense.soil_moisture, exact.soil_moisture, atol=1e-6)


def test_blocks_and_tiles_leave_no_seams(fusion, monkeypatch):
    """In one piece, and in blocks of two cells whose first layers run over tiles of 64 pixels."""
    scene = random_scene(height=256 + 32, width=256 + 40 * 32)
    whole = predict_map(fusion, scene, mode="dense", progress=False).soil_moisture
    monkeypatch.setattr(windows, "DENSE_BLOCK_PX", 16 * 32)
    monkeypatch.setattr(receptive_field, "TILE_PX", 64)
    pieces = predict_map(fusion, scene, mode="dense", progress=False).soil_moisture
    assert float(whole.std()) > 1e-3
    np.testing.assert_allclose(pieces, whole, atol=1e-5)


def test_a_tile_of_a_region_sees_what_the_dense_map_sees_there():
    """Of four by four cells the two by two in the middle, from a scene cut for them alone."""
    model = settled(high_channels=3)
    trained = SimpleNamespace(
        model=model, inputs=Inputs.of("sentinel1"), map=partial(predict_map, model)
    )
    recipe = maps.scene.Windows(trained, {"mode": "dense"})
    assert recipe.halo_m == (2560 - 320) / 2 + 12 * 320  # the features see 374 px, 12 cells
    side = 4 * 32 + 2 * round(recipe.halo_m / 10)
    scene = random_scene(height=side, width=side)
    whole = Scene(scene.grid, {"high": scene.images["high"]})
    tile = Scene(grid(side - 64), {"high": scene.images["high"][:, 32:-32, 32:-32]})
    (of_whole,), (of_tile,) = (
        recipe.answer([cut], Grid("EPSG:32614", 0.0, 0.0, 320.0, n, n))
        for cut, n in ((whole, 4), (tile, 2))
    )
    assert of_whole.soil_moisture.shape == (4, 4) and float(of_whole.soil_moisture.std()) > 1e-3
    np.testing.assert_allclose(
        of_tile.soil_moisture, of_whole.soil_moisture[1:3, 1:3], rtol=1e-5, atol=1e-6
    )


def test_a_dense_map_says_how_far_it_is_from_the_exact_one(fusion, caplog):
    """Of sixteen cells all are compared: the deviation is the maps' own difference."""
    scene = random_scene()
    exact = predict_map(fusion, scene, progress=False)
    with caplog.at_level("INFO"):
        dense = predict_map(fusion, scene, mode="dense", progress=False)
    rms = float(((dense.soil_moisture - exact.soil_moisture) ** 2).mean() ** 0.5)
    assert dense.attrs["dense_deviation_m3_m3"] == pytest.approx(rms, rel=1e-4) and rms > 1e-5
    assert dense.attrs["dense_deviation_n_cells"] == 16
    assert f"{rms:.4f} m3 m-3 (rms) from the exact one at 16 cells" in caplog.text
    assert "dense_deviation_m3_m3" not in exact.attrs
    assert map_grid(dense) == map_grid(exact)


def test_a_dense_map_has_coarser_cells_but_no_finer_ones(fusion):
    scene = random_scene()
    at_320 = predict_map(fusion, scene, mode="dense", progress=False).soil_moisture
    at_640 = predict_map(fusion, scene, mode="dense", stride_m=640, progress=False).soil_moisture
    np.testing.assert_allclose(at_640.values, at_320.values[::2, ::2], atol=1e-6)
    with pytest.raises(
        ContractError, match="160 m .* lies between the encoder's features, .* 320 m"
    ):
        predict_map(fusion, scene, mode="dense", stride_m=160, progress=False)


def test_what_cannot_be_mapped_so_is_refused_by_name(fusion):
    with pytest.raises(ContractError, match="CentreMean has no encoders"):
        predict_map(CentreMean(), eastings(), mode="dense", progress=False)
    with pytest.raises(UnknownNameError, match="No 'sliding'; there are exact and dense"):
        predict_map(fusion, random_scene(), mode="sliding", progress=False)
    with pytest.raises(UnknownNameError, match="No 'cubic'; there are smooth and nearest"):
        predict_map(fusion, random_scene(), coarse="cubic", progress=False)


def test_a_scene_without_a_valid_window_has_an_empty_dense_map(fusion):
    scene = random_scene()
    scene.images["high"][:] = np.nan
    mapped = predict_map(fusion, scene, mode="dense", progress=False)
    assert mapped.soil_moisture.isnull().all()
    assert mapped.attrs["dense_deviation_n_cells"] == 0


class FirstScalar(CentreMean):
    """Answers with its first scalar."""

    def forward(self, coarse):
        return self.weight * coarse[:, 0]


def test_coarse_rasters_are_smooth_in_space_or_draw_their_pixels():
    """A plane over four pixels east: smooth gives the plane back, nearest four steps of it.

    The pixels are 880 m wide, their centres at 440, 1320, 2200 and 3080 m; the first cell's centre
    lies at 1280 m, in the second pixel.
    """
    raster = np.broadcast_to([440.0, 1320.0, 2200.0, 3080.0], (1, 4, 4)).copy()
    scene = Scene(grid(), scalars={"coarse": raster})
    smooth, nearest = (
        predict_map(FirstScalar(), scene, coarse=how, progress=False).soil_moisture
        for how in ("smooth", "nearest")
    )
    np.testing.assert_allclose(smooth[0], [1280, 1600, 1920, 2240], rtol=1e-5)
    np.testing.assert_allclose(nearest[0], [1320, 1320, 2200, 2200])

    raster[0, :, 2] = np.nan  # beside it the only pixel that is known; in it nothing
    lost = predict_map(FirstScalar(), Scene(grid(), scalars={"coarse": raster}), progress=False)
    np.testing.assert_allclose(lost.soil_moisture[0, :2], [1280, 1320], rtol=1e-5)
    assert lost.soil_moisture[:, 2:].isnull().all()

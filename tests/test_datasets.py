"""Tensors hold what the catalogue promises, about the station, in an order that a seed decides."""

import numpy as np
import pandas as pd
import pytest
import torch

from soilkit import sources
from soilkit.errors import ContractError, SceneNotFoundError, UnknownNameError
from soilkit.export import chips
from soilkit.models.datasets import ChipDataset, make_loader, turning_px
from soilkit.models.inputs import INDICES, Inputs, coarse_statistics, coarse_values
from tests import helpers_archive
from tests.helpers_archive import FakeArchive, samples_table, stations_table

torch.set_num_threads(1)
STATIONS = stations_table(3)
SAMPLES = samples_table(STATIONS, passes=4)
FEATURES = pd.DataFrame(
    {
        "sample_id": SAMPLES["sample_id"],
        "smap_ssm": np.linspace(5, 20, len(SAMPLES)),
        "gldas_SoilMoi0_10cm_inst": np.linspace(10, 40, len(SAMPLES)),
    }
)

STATISTICS = {"smap.ssm": (0.2, 0.1), "gldas.SoilMoi0_10cm_inst": (0.3, 0.2)}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "chips.zarr"
    archive = FakeArchive(holes={"S1_3": 0.75})
    chips.build(SAMPLES, archive, path, stations=STATIONS, size_px=64, progress=False)
    return chips.open_store(path)


def dataset(store, **options):
    return ChipDataset(SAMPLES, FEATURES, store, **{"inputs": Inputs(), "crop_px": 32, **options})


def test_a_sample_has_ten_high_four_low_and_two_coarse_numbers(store):
    sample = dataset(store)[3]
    assert list(sample) == ["high", "low", "coarse", "moisture"]
    high, low, coarse, moisture = sample.values()
    assert (high.shape, low.shape, coarse.shape) == ((10, 32, 32), (4, 2, 2), (2,))
    assert high.dtype == low.dtype == coarse.dtype == moisture.dtype == torch.float32
    assert float(moisture) == pytest.approx(SAMPLES["soil_moisture_m3_m3"][3])


def test_channels_are_the_catalogues_normalisation_of_the_centre_crop(store):
    data = dataset(store)
    names = data.inputs.names
    for i in (0, 5):
        high = data[i]["high"].numpy()
        for name in data.inputs.high:
            source, band = name.split(".")
            chip = store.read(source, SAMPLES[f"{source}_scene"][i], SAMPLES["station_id"][i])
            rule = sources.get(source).band(band).normalisation
            expected = rule(chip.values[chip.bands.index(band), 16:48, 16:48])
            np.testing.assert_allclose(high[names.index(name)], expected, atol=1e-5)


def test_sentinel2_feeds_six_bands_red_first():
    names = [n for n in Inputs().names if n.startswith("sentinel2")]
    assert names == [f"sentinel2.{b}" for b in ("B4", "B3", "B2", "B8", "B11", "B12")]


def test_unknown_pixels_become_the_middle_of_the_range(store):
    i = SAMPLES.index[SAMPLES["sentinel1_scene"] == "S1_3"][0]
    radar = dataset(store)[i]["high"][:3]
    assert (radar == 0).all(dim=0).any() and torch.isfinite(radar).all()


def test_a_margin_for_rotation_keeps_the_station_in_the_middle(store):
    small, large = dataset(store), dataset(store, crop_px=46)
    assert large[0]["high"].shape == (10, 46, 46)
    np.testing.assert_array_equal(large[0]["high"][:, 7:-7, 7:-7], small[0]["high"])


def test_coarse_moisture_is_volumetric_before_it_is_standardised():
    values = coarse_values(FEATURES, Inputs())
    np.testing.assert_allclose(values[0], [5 / 50, 10 / 100])
    mean, std = coarse_statistics(FEATURES[:4], Inputs())["smap.ssm"]
    assert mean == pytest.approx(FEATURES["smap_ssm"][:4].mean() / 50)
    assert std == pytest.approx(FEATURES["smap_ssm"][:4].std(ddof=0) / 50)


def test_validation_is_standardised_by_training_statistics(store):
    statistics = STATISTICS
    data = dataset(store, statistics=statistics)
    np.testing.assert_allclose(data[0]["coarse"], [(0.1 - 0.2) / 0.1, (0.1 - 0.3) / 0.2], atol=1e-6)
    assert data.normalisation["smap.ssm"] == {"Standard": [0.2, 0.1]}
    assert data.normalisation["sentinel1.VV"] == {"Linear": [-25, 5]}


def test_features_are_matched_by_sample_and_not_by_row(store):
    shuffled = ChipDataset(SAMPLES, FEATURES.iloc[::-1], store, inputs=Inputs(), crop_px=32)
    np.testing.assert_array_equal(shuffled[2]["coarse"], dataset(store)[2]["coarse"])


def test_what_a_model_does_not_eat_is_absent(store):
    only_coarse = ChipDataset(SAMPLES, FEATURES, store, inputs=Inputs(high=(), low=()))
    batch = next(iter(make_loader(only_coarse, batch_size=4)))
    assert {name: tuple(part.shape) for name, part in batch.items()} == {
        "coarse": (4, 2),
        "moisture": (4,),
    }
    images = ChipDataset(SAMPLES, None, store, inputs=Inputs(coarse=()), crop_px=32)
    assert list(images[0]) == ["high", "low", "moisture"] and images.statistics == {}


def test_a_kept_crop_equals_a_read_one(store):
    kept, read = dataset(store, cache=True), dataset(store)
    for _ in range(2):
        for i in range(len(SAMPLES)):
            np.testing.assert_array_equal(kept[i]["high"], read[i]["high"])


def order(data, epoch, seed=3):
    loader = make_loader(data, batch_size=5, shuffle_seed=seed)
    loader.sampler.set_epoch(epoch)
    return torch.cat([batch["coarse"][:, 0] for batch in loader]).tolist()


def test_the_order_is_a_function_of_seed_and_epoch(store):
    data = dataset(store, inputs=Inputs(high=(), low=()))
    assert order(data, 1) == order(data, 1)
    assert order(data, 1) != order(data, 2)
    assert order(data, 1) != order(data, 1, seed=4)
    assert len(order(data, 0)) == len(data) // 5 * 5


def test_two_workers_give_what_one_process_gives(store):
    data = dataset(store)
    alone = list(make_loader(data, batch_size=4))
    shared = list(make_loader(data, batch_size=4, workers=2))
    assert len(alone) == len(shared) == 4
    for ours, theirs in zip(alone, shared, strict=True):
        assert ours.keys() == theirs.keys()
        for name, part in ours.items():
            np.testing.assert_array_equal(part, theirs[name])


def test_what_does_not_fit_is_named(store):
    with pytest.raises(ContractError, match="crop of 128"):
        dataset(store, crop_px=128)
    with pytest.raises(ContractError, match="low"):
        Inputs(high=("soilgrids",))
    with pytest.raises(ContractError, match="gldas_SoilMoi0_10cm_inst"):
        coarse = Inputs(high=(), low=())
        ChipDataset(SAMPLES, FEATURES[["sample_id", "smap_ssm"]], store, inputs=coarse)
    with pytest.raises(ContractError, match="lack 1"):
        ChipDataset(SAMPLES, FEATURES.iloc[1:], store, inputs=Inputs(), crop_px=32)
    with pytest.raises(SceneNotFoundError, match="S9"):
        ChipDataset(
            SAMPLES.assign(sentinel1_scene="S9"), FEATURES, store, inputs=Inputs(), crop_px=32
        )


def test_a_store_without_a_band_that_is_fed_is_refused(tmp_path):
    chips.build(
        SAMPLES,
        FakeArchive(),
        tmp_path / "c",
        stations=STATIONS,
        sources=["sentinel2"],
        bands={"sentinel2": ["B4"]},
        size_px=32,
        progress=False,
    )
    with pytest.raises(UnknownNameError, match="B12"):
        inputs = Inputs(high=("sentinel2",), low=(), coarse=())
        ChipDataset(SAMPLES, None, chips.open_store(tmp_path / "c"), inputs=inputs, crop_px=32)


def gaps(*rows):
    """The samples, without an optical scene in some rows: clouds for a fortnight."""
    samples = SAMPLES.assign(sentinel2_scene=SAMPLES["sentinel2_scene"].astype(object))
    samples.loc[list(rows), "sentinel2_scene"] = [None, ""][: len(rows)]
    return samples


def test_a_sample_without_a_scene_lacks_the_source_only_when_that_is_allowed(store):
    """NaN in all six optical bands and nowhere else; its neighbours are read as ever."""
    with pytest.raises(ContractError, match="2 of 16 samples have no sentinel2 scene"):
        ChipDataset(gaps(1, 5), FEATURES, store, inputs=Inputs(), crop_px=32)
    features = FEATURES.copy()
    features.loc[3, "smap_ssm"] = np.nan
    data = ChipDataset(gaps(1, 5), features, store, inputs=Inputs(), crop_px=32, allow_missing=True)
    whole = dataset(store, statistics=data.statistics)
    batch, expected = data.__getitems__([0, 1, 3, 5]), whole.__getitems__([0, 1, 3, 5])
    expected["high"][[1, 3], 3:9] = torch.nan
    expected["coarse"][2, 0] = torch.nan
    torch.testing.assert_close(batch, expected, equal_nan=True)


def test_an_unknown_scalar_is_its_mean_where_gaps_are_not_asked_for(store):
    features = FEATURES.copy()
    features.loc[3, "smap_ssm"] = np.nan
    data = ChipDataset(SAMPLES, features, store, inputs=Inputs(), crop_px=32)
    assert data[3]["coarse"][0] == 0


def test_a_scene_that_was_never_built_is_no_gap(store):
    with pytest.raises(SceneNotFoundError, match="S9"):
        ChipDataset(
            SAMPLES.assign(sentinel1_scene="S9"),
            FEATURES,
            store,
            inputs=Inputs(),
            crop_px=32,
            allow_missing=True,
        )


def test_a_withheld_source_is_absent_everywhere_and_need_not_exist(store):
    """What absence costs is measured on the same samples; neither store nor tables are asked."""
    samples = SAMPLES.drop(columns=["sentinel2_scene"])
    data = ChipDataset(
        samples,
        FEATURES.drop(columns=["smap_ssm"]),
        store,
        inputs=Inputs(low=("soilgrids", "modis_lai")),
        crop_px=32,
        statistics=STATISTICS,
        withhold=("sentinel2", "smap", "modis_lai"),
    )
    high, low, coarse, _ = data[0].values()
    assert high.isnan().flatten(1).any(1).tolist() == [False] * 3 + [True] * 6 + [False]
    assert low.isnan().all(2).all(1).tolist() == [False] * 4 + [True]
    assert coarse.isnan().tolist() == [True, False]
    assert data.normalisation["smap.ssm"] == {"Standard": [0.2, 0.1]}
    with pytest.raises(ContractError, match="landsat8 is no source of these inputs"):
        dataset(store, withhold=("landsat8",))


def test_a_dataset_without_a_source_is_refused_by_name(store):
    """All that is lacking at once: in the store, in the samples, in the features."""
    samples = SAMPLES.drop(columns=["sentinel2_scene"])
    features = FEATURES.drop(columns=["gldas_SoilMoi0_10cm_inst"])
    inputs = Inputs(low=("soilgrids", "modis_lai"))
    for options in ({}, {"allow_missing": True}):
        with pytest.raises(ContractError) as refused:
            ChipDataset(samples, features, store, inputs=inputs, crop_px=32, **options)
        for words in (
            "modis_lai (the store has chips of",
            "sentinel2 (the samples have no column sentinel2_scene)",
            "gldas.SoilMoi0_10cm_inst (no column gldas_SoilMoi0_10cm_inst",
            "withhold",
        ):
            assert words in str(refused.value)
        assert "sentinel1 (" not in str(refused.value)
    with pytest.raises(ContractError, match="smap.ssm .* not been handed"):
        ChipDataset(SAMPLES, None, store, inputs=Inputs(), crop_px=32)


def test_indices_are_made_of_the_reflectance_of_their_pixel(tmp_path, monkeypatch):
    """Table 18's further channels: NDVI and EVI beside the bands, from one reading of the chip."""
    for band, number in (("B2", 600.0), ("B4", 900.0), ("B8", 3000.0)):
        monkeypatch.setitem(helpers_archive.BASE, band, number)
    green = tmp_path / "green"
    chips.build(SAMPLES, FakeArchive(), green, stations=STATIONS, size_px=64, progress=False)
    store = chips.open_store(green)
    high = ("sentinel1", "sentinel2", "dem", "sentinel2.NDVI", "sentinel2.EVI")
    data = dataset(store, inputs=Inputs(high=high))
    assert data.inputs.channels == (12, 4, 2)
    assert data.inputs.names[8:12] == (
        "sentinel2.B12",
        "dem.elevation",
        "sentinel2.NDVI",
        "sentinel2.EVI",
    )
    chip = store.read("sentinel2", "S2_0", SAMPLES["station_id"][0])
    bands = dict(zip(chip.bands, chip.values[:, 16:48, 16:48] * 1e-4, strict=True))
    n, r, b = bands["B8"], bands["B4"], bands["B2"]
    found = data[0]["high"]
    np.testing.assert_allclose(found[10], (n - r) / (n + r), atol=1e-5)
    assert found[10].mean() == pytest.approx(0.54, abs=0.01)
    np.testing.assert_allclose(found[11], 2.5 * (n - r) / (n + 6 * r - 7.5 * b + 1), atol=1e-5)
    np.testing.assert_array_equal(found[:10], dataset(store)[0]["high"])
    assert data.normalisation["sentinel2.EVI"] == {"Index": [-1, 1]}


def test_an_index_of_nothing_or_of_bright_clouds_stays_in_its_range():
    ndvi, evi = (INDICES["sentinel2"][name] for name in ("NDVI", "EVI"))
    zero, bright = np.zeros(1), np.array([0.9])
    assert np.isnan(ndvi(zero, zero)).all()
    assert np.isnan(ndvi(np.array([np.nan]), bright)).all()
    # 2.5 x 0.3 / (0.9 + 3.6 - 5.4 + 1) = 7.5, far outside
    assert evi(bright, np.array([0.6]), np.array([0.72])) == 1


def test_one_band_of_a_source_is_an_input(store):
    data = dataset(store, inputs=Inputs(high=("dem", "sentinel1.VV"), low=("soilgrids.clay",)))
    whole = dataset(store)
    assert data.inputs.names[:3] == ("dem.elevation", "sentinel1.VV", "soilgrids.clay")
    np.testing.assert_array_equal(data[0]["high"], whole[0]["high"][[9, 0]])
    clay = whole.inputs.names[10:14].index("soilgrids.clay")
    np.testing.assert_array_equal(data[0]["low"][0], whole[0]["low"][clay])


def test_leaf_area_and_brightness_temperature_may_be_scalars():
    """Low-resolution sources at the station, and any band of a coarse one (Tables 18 and 19)."""
    inputs = Inputs((), (), ("modis_lai", "smap_l3_005.tb_v_corrected_am", "smap_l3_005"))
    features = pd.DataFrame(
        {
            "modis_lai_Lai": [20.0, 40.0],
            "smap_l3_005_tb_v_corrected_am": [250.0, 260.0],
            "smap_l3_005_soil_moisture_am": [0.2, 0.3],
        }
    )
    np.testing.assert_allclose(coarse_values(features, inputs), [[2, 250, 0.2], [4, 260, 0.3]])
    assert inputs.channel_sources == ("modis_lai", "smap_l3_005", "smap_l3_005")
    assert set(coarse_statistics(features, inputs)) == set(inputs.coarse)


def test_leaving_a_source_out_takes_all_its_channels():
    inputs = Inputs(high=("sentinel1", "sentinel2", "sentinel2.NDVI", "dem"))
    assert inputs.without("sentinel2", "smap", "gldas") == Inputs(("sentinel1", "dem"), coarse=())
    assert inputs.source_names == ("sentinel1", "sentinel2", "dem", "soilgrids", "smap", "gldas")
    with pytest.raises(ContractError, match="landsat8 is no source"):
        inputs.without("landsat8")


def test_inputs_that_no_network_should_eat_are_refused():
    with pytest.raises(ContractError, match="sentinel2.B4 stands twice"):
        Inputs(high=("sentinel2", "sentinel2.B4"))
    with pytest.raises(ContractError, match="classes or flags"):
        Inputs(high=("sentinel2.QA60",))
    with pytest.raises(UnknownNameError, match="B99"):
        Inputs(high=("sentinel2.B99",))
    with pytest.raises(ContractError, match="high resolution and cannot be a coarse"):
        Inputs(coarse=("sentinel1",))


@pytest.mark.parametrize("crop_px", [64, 128, 256, 512])
def test_a_store_too_small_for_a_crop_says_how_large_it_must_be(crop_px, store):
    """512 pixels serve any crop of 256 with its margin; these of 64 not even 64 with one."""
    reading = turning_px(crop_px)
    with pytest.raises(ContractError, match=rf"crop of {reading} .* of 64.*size_px={reading} or"):
        dataset(store, crop_px=reading)
    inputs = Inputs(high=(), coarse=())
    low_px = 2 * -(-crop_px // 16)  # twice the ground, even
    with pytest.raises(ContractError, match=f"crop of {low_px} .*size_px={16 * low_px} or"):
        dataset(store, inputs=inputs, crop_px=2 * crop_px)


@pytest.mark.slow
def test_workers_may_be_spawned_as_on_windows(store):
    data = dataset(store)
    loader = make_loader(data, batch_size=8, shuffle_seed=0, workers=1)
    loader.multiprocessing_context = "spawn"
    alone = make_loader(data, batch_size=8, shuffle_seed=0)
    for ours, theirs in zip(alone, loader, strict=True):
        np.testing.assert_array_equal(ours["high"], theirs["high"])

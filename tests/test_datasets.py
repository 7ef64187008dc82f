"""Tensors hold what the catalogue promises, about the station, in an order that a seed decides."""

import numpy as np
import pandas as pd
import pytest
import torch

from soilkit import chips, sources
from soilkit.datasets import ChipDataset, Inputs, coarse_statistics, coarse_values, make_loader
from soilkit.errors import ContractError, SceneNotFoundError, UnknownNameError
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


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "chips.zarr"
    archive = FakeArchive(holes={"S1_3": 0.75})
    chips.build(SAMPLES, archive, path, stations=STATIONS, size_px=64, progress=False)
    return chips.open_store(path)


def dataset(store, **options):
    return ChipDataset(SAMPLES, FEATURES, store, **{"inputs": Inputs(), "crop_px": 32, **options})


def test_a_sample_has_ten_high_four_low_and_two_coarse_numbers(store):
    high, low, coarse, moisture = dataset(store)[3]
    assert (high.shape, low.shape, coarse.shape) == ((10, 32, 32), (4, 2, 2), (2,))
    assert high.dtype == low.dtype == coarse.dtype == moisture.dtype == torch.float32
    assert float(moisture) == pytest.approx(SAMPLES["soil_moisture_m3_m3"][3])


def test_channels_are_the_catalogues_normalisation_of_the_centre_crop(store):
    data = dataset(store)
    names = data.inputs.names
    for i in (0, 5):
        high = data[i].high.numpy()
        for source in data.inputs.high:
            chip = store.read(source, SAMPLES[f"{source}_scene"][i], SAMPLES["station_id"][i])
            for band in Inputs.bands(source):
                rule = sources.get(source).band(band).normalisation
                expected = rule(chip.values[chip.bands.index(band), 16:48, 16:48])
                found = high[names.index(f"{source}.{band}")]
                np.testing.assert_allclose(found, expected, atol=1e-5)


def test_sentinel2_feeds_six_bands_red_first():
    names = [n for n in Inputs().names if n.startswith("sentinel2")]
    assert names == [f"sentinel2.{b}" for b in ("B4", "B3", "B2", "B8", "B11", "B12")]


def test_unknown_pixels_become_the_middle_of_the_range(store):
    i = SAMPLES.index[SAMPLES["sentinel1_scene"] == "S1_3"][0]
    radar = dataset(store)[i].high[:3]
    assert (radar == 0).all(dim=0).any() and torch.isfinite(radar).all()


def test_a_margin_for_rotation_keeps_the_station_in_the_middle(store):
    small, large = dataset(store), dataset(store, crop_px=46)
    assert large[0].high.shape == (10, 46, 46)
    np.testing.assert_array_equal(large[0].high[:, 7:-7, 7:-7], small[0].high)


def test_coarse_moisture_is_volumetric_before_it_is_standardised():
    values = coarse_values(FEATURES, Inputs())
    np.testing.assert_allclose(values[0], [5 / 50, 10 / 100])
    mask = np.arange(len(FEATURES)) < 4
    mean, std = coarse_statistics(FEATURES, Inputs(), mask=mask)["smap"]
    assert mean == pytest.approx(FEATURES["smap_ssm"][:4].mean() / 50)
    assert std == pytest.approx(FEATURES["smap_ssm"][:4].std(ddof=0) / 50)


def test_validation_is_standardised_by_training_statistics(store):
    statistics = {"smap": (0.2, 0.1), "gldas": (0.3, 0.2)}
    data = dataset(store, statistics=statistics)
    np.testing.assert_allclose(data[0].coarse, [(0.1 - 0.2) / 0.1, (0.1 - 0.3) / 0.2], atol=1e-6)
    assert data.normalisation["smap.ssm"] == {"Standard": [0.2, 0.1]}
    assert data.normalisation["sentinel1.VV"] == {"Linear": [-25, 5]}


def test_features_are_matched_by_sample_and_not_by_row(store):
    shuffled = ChipDataset(SAMPLES, FEATURES.iloc[::-1], store, inputs=Inputs(), crop_px=32)
    np.testing.assert_array_equal(shuffled[2].coarse, dataset(store)[2].coarse)


def test_what_a_model_does_not_eat_is_none(store):
    only_coarse = ChipDataset(SAMPLES, FEATURES, store, inputs=Inputs(high=(), low=()))
    batch = next(iter(make_loader(only_coarse, batch_size=4, shuffle=False)))
    assert batch.high is None and batch.low is None and batch.coarse.shape == (4, 2)
    images = ChipDataset(SAMPLES, None, store, inputs=Inputs(coarse=()), crop_px=32)
    assert images[0].coarse is None and images.statistics == {}


def test_a_kept_crop_equals_a_read_one(store):
    kept, read = dataset(store, cache=True), dataset(store)
    for _ in range(2):
        for i in range(len(SAMPLES)):
            np.testing.assert_array_equal(kept[i].high, read[i].high)


def order(data, epoch, seed=3, **options):
    generator = torch.Generator().manual_seed(seed)
    loader = make_loader(data, batch_size=5, shuffle=True, generator=generator, **options)
    loader.sampler.set_epoch(epoch)
    return torch.cat([batch.coarse[:, 0] for batch in loader]).tolist()


def test_the_order_is_a_function_of_seed_and_epoch(store):
    data = dataset(store, inputs=Inputs(high=(), low=()))
    assert order(data, 1) == order(data, 1)
    assert order(data, 1) != order(data, 2)
    assert order(data, 1) != order(data, 1, seed=4)
    assert len(order(data, 0)) == len(data) // 5 * 5


def test_two_workers_give_what_one_process_gives(store):
    data = dataset(store)
    alone = list(make_loader(data, batch_size=4, shuffle=False))
    shared = list(make_loader(data, batch_size=4, shuffle=False, workers=2))
    assert len(alone) == len(shared) == 4
    for ours, theirs in zip(alone, shared, strict=True):
        for left, right in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(left, right)


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
    with pytest.raises(ContractError, match="generator"):
        make_loader(dataset(store), batch_size=4, shuffle=True)
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


@pytest.mark.slow
def test_workers_may_be_spawned_as_on_windows(store):
    data = dataset(store)
    generator = torch.Generator().manual_seed(0)
    loader = make_loader(data, batch_size=8, shuffle=True, generator=generator, workers=1)
    loader.multiprocessing_context = "spawn"
    alone = make_loader(data, batch_size=8, shuffle=True, generator=generator)
    for ours, theirs in zip(alone, loader, strict=True):
        np.testing.assert_array_equal(ours.high, theirs.high)

"""DEEPSOIL: the network, its loss, what it refuses, and the system on a small invented world."""

import json
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyproj
import pytest
import shapely
import torch
import xarray as xr

from soilkit import contracts, grids, models, retention
from soilkit.errors import CheckpointError, ContractError, DivergedError, UnknownNameError
from soilkit.export import cubes
from soilkit.export.archives import open_archive
from soilkit.models import deepsoil, maps, training
from soilkit.models.deepsoil import DeepSoil, ScienceLoss, clusters, extents, field_maps, network

torch.set_num_threads(1)
LOAM = (0.078, 0.43, 0.36, 1.56)  # Carsel and Parrish (1988), alpha in kPa-1
CLAY = (0.068, 0.38, 0.08, 1.09)


def made_batch(n=2, channels=24, side=64, seed=0, soil=LOAM):
    """Tiles whose moisture follows two of their patchy maps; a probe in the middle of each."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.random((n, channels, side // 8, side // 8), np.float32))
    inputs = coarse.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)
    target = 0.1 + 0.2 * inputs[:, 0] + 0.05 * inputs[:, 1]
    weights, probe = torch.ones(n, side, side), torch.full((n, side, side), torch.nan)
    middle = slice(side // 2 - 2, side // 2 + 2)
    weights[:, middle, middle] = 16.0
    probe[:, side // 2, side // 2] = target[:, side // 2, side // 2] + 0.02
    maps = torch.tensor(soil)[None, :, None, None].expand(n, 4, side, side).clone()
    return {
        "inputs": inputs, "target": target, "valid": torch.ones(n, side, side, dtype=torch.bool),
        "weights": weights, "soil": maps, "probe": probe,
    }  # fmt: skip


def at(batch, share):
    """The batch when a share of the training is done."""
    return batch | {"share": torch.full((len(batch["target"]),), share)}


# ---- the network ---------------------------------------------------------------------------------


def test_the_papers_model_has_its_parameters():
    """12.9 million in the paper; 12,911,934 with blocks of three convolutions, normed."""
    n = models.count_parameters(DeepSoil.preset("paper", channels=75))
    assert n == 12_911_934
    assert abs(n - 12_911_934) / 12_911_934 < 0.001 and round(n / 1e6, 1) == 12.9


def test_the_latent_is_4_by_4_by_512():
    model = DeepSoil.preset("paper").eval()
    deep = torch.zeros(1, 75, 64, 64)
    for block in model.down:
        deep = block(deep)
    assert tuple(deep.shape) == (1, 512, 4, 4)


def test_low_level_maps_reach_the_last_layer_directly():
    """With the U-Net's part of the last layer at zero only those channels change the answer."""
    model = DeepSoil.preset("small", channels=24, low_level=(3, 5)).eval()
    torch.nn.init.ones_(model.last.weight)
    with torch.no_grad():
        model.last.weight[:, :-2] = 0
    maps = torch.rand(1, 24, 32, 32)
    for channel, changes in ((3, True), (5, True), (0, False)):
        other = maps.clone()
        other[:, channel] += 1
        assert torch.equal(model(maps), model(other)) != changes


def test_a_mask_is_a_channel_more():
    model = DeepSoil.preset("small", channels=24, mask=True).eval()
    maps, known = torch.rand(1, 24, 32, 32), torch.ones(1, 1, 32, 32)
    assert not torch.equal(model(maps, known), model(maps, 0 * known))
    with pytest.raises(ContractError, match="known"):
        model(maps)


@pytest.mark.parametrize(
    ("options", "word"),
    [({"name": "huge"}, "paper, small"), ({"name": "small", "channels": 3}, "low_level|Low-level")],
)
def test_a_size_that_is_not_there_is_named(options, word):
    with pytest.raises((UnknownNameError, ContractError), match=word):
        DeepSoil.preset(**options)


@pytest.mark.parametrize("shape", [(1, 23, 64, 64), (1, 24, 60, 64)])
def test_tiles_of_another_shape_are_refused(shape):
    with pytest.raises(ContractError, match="multiples of 16"):
        DeepSoil.preset("small", channels=24)(torch.zeros(shape))


def test_a_checkpoint_builds_the_model_that_wrote_it(tmp_path):
    model = DeepSoil.preset("small", channels=24, low_level=(3, 5), mask=True).eval()
    kept = training.Checkpoint(
        model.configuration, training.Provenance(), model.state_dict(), 1, 0.0
    )
    training.save_checkpoint(tmp_path / "m.pt", kept)
    again = DeepSoil.from_checkpoint(training.load_checkpoint(tmp_path / "m.pt"))
    maps, known = torch.rand(1, 24, 32, 32), torch.ones(1, 1, 32, 32)
    assert torch.equal(again(maps, known), model(maps, known))
    with pytest.raises(CheckpointError, match="no DeepSoil"):
        DeepSoil.from_checkpoint(training.Checkpoint({"widths": "x"}, kept.provenance, {}, 1, 0.0))


# ---- the loss ------------------------------------------------------------------------------------


def test_the_mse_weighs_pixels_and_divides_by_their_weights():
    # errors 0.1, 0.2, 0.3 and one invalid; weights 1, 16, 1: (0.01 + 16 * 0.04 + 0.09) / 18
    batch = {
        "target": torch.tensor([[[0.2, 0.2], [0.2, 0.2]]]),
        "valid": torch.tensor([[[True, True], [True, False]]]),
        "weights": torch.tensor([[[1.0, 16.0], [1.0, 1.0]]]),
    }
    predicted = torch.tensor([[[0.3, 0.4], [0.5, 9.0]]])
    loss = ScienceLoss(suction_of="none")(predicted, batch)
    assert loss.item() == pytest.approx((0.01 + 16 * 0.04 + 0.09) / 18)


def test_a_tile_with_gaps_counts_as_much_as_one_without():
    batch = made_batch(2)
    predicted = batch["target"] + torch.tensor([0.1, 0.3])[:, None, None]
    batch["valid"][1, 10:] = False
    loss = ScienceLoss(suction_of="none")(predicted, batch)
    assert loss.item() == pytest.approx((0.01 + 0.09) / 2, rel=1e-5)


def test_the_suction_term_by_hand():
    """Half of gamma: MSE 0.02^2, and Huber of the difference in pF in a typical soil's moisture."""
    batch = at(made_batch(1), 0.5)
    predicted = batch["target"] + 0.02
    curve = retention.Retention(0.078, 0.43, 0.36 / retention.CM_OF_KPA, 1.56)
    pf = [retention.pf(v.numpy().astype(float), curve) for v in (predicted, batch["target"])]
    weights = batch["weights"].numpy()
    squares = ((pf[0] - pf[1]) / 15) ** 2  # all below a decade, where Huber's is the square
    expected = 0.5 * 0.02**2 + 0.5 * (squares * weights).sum() / weights.sum()
    loss = ScienceLoss(suction_of="hydroblocks", n_steps=3)(predicted, batch)
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_probes_move_the_suction_term_and_not_the_mse():
    batch = at(made_batch(1), 0.99)
    on_target = batch["target"].clone()
    by_probe, by_model = (ScienceLoss(suction_of=w)(on_target, batch)
                          for w in ("probe", "hydroblocks"))  # fmt: skip
    assert by_model.item() == 0 and by_probe.item() > 0
    on_target[torch.isfinite(batch["probe"])] += 0.02  # what the probe reads
    moved = ScienceLoss(suction_of="probe", floor=0.0)(on_target, batch)
    assert moved.item() == pytest.approx(0, abs=1e-10)


def test_gamma_steps_down_to_its_floor():
    """Ten even steps from 1; the paper's end at 0 is an option, the MSE alone stays at 1."""
    shares = np.linspace(0, 0.999, 200)
    gammas = [ScienceLoss().gamma_at(s) for s in shares]
    assert gammas[0] == 1.0 and gammas[-1] == 0.05 and len(set(gammas)) == 10
    assert (np.diff(gammas) <= 0).all()
    assert ScienceLoss(floor=0.0).gamma_at(1.0) == 0.0
    assert ScienceLoss(suction_of="none").gamma_at(0.9) == 1.0


@pytest.mark.parametrize("soil", [LOAM, CLAY])
@pytest.mark.parametrize("moisture", [-0.3, 0.0, 0.069, 0.2, 0.379, 0.5, 2.0])
def test_loss_and_gradient_are_finite_beyond_both_ends_of_the_curve(soil, moisture):
    """And push a prediction towards the target wherever it is."""
    batch = at(made_batch(1, soil=soil), 0.99)
    predicted = torch.full_like(batch["target"], moisture).requires_grad_()
    loss = ScienceLoss(floor=0.0)(predicted, batch)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(predicted.grad).all()
    read = torch.where(torch.isfinite(batch["probe"]), batch["probe"], batch["target"])
    wrong = (moisture - read).abs() > 1e-3
    assert torch.equal(predicted.grad[wrong].sign(), (moisture - read)[wrong].sign())


def test_the_loss_has_the_gradient_of_its_differences():
    target = torch.tensor([[[0.12, 0.2], [0.25, 0.3]]], dtype=torch.float64)
    soil = torch.tensor(LOAM, dtype=torch.float64)[None, :, None, None].expand(1, 4, 2, 2)
    for start in (0.03, 0.2, 0.6):
        predicted = torch.full_like(target, start).requires_grad_()
        assert torch.autograd.gradcheck(
            lambda p: network.suction_term(p, target, soil=soil).sum(), predicted
        )


def test_the_printed_form_is_no_number_outside_of_the_curve_and_huge_in_clay():
    """Equation 4: NaN beyond saturation, 1e29 kPa in a dry clay; training refuses it by name."""
    batch = at(made_batch(1, soil=CLAY), 0.99)
    raw = ScienceLoss(form="raw")
    beyond = torch.full_like(batch["target"], 0.5)
    assert torch.isnan(raw(beyond, batch))
    assert raw(torch.full_like(beyond, 0.0690), batch) > 1e15
    model = DeepSoil.preset("small", channels=24, mean_label_m3_m3=0.5)
    with pytest.raises(DivergedError):
        training.fit(
            model, ([batch], [batch]), network.step_by(raw), network.look, progress=False,
            settings=training.Settings(steps=2, optimizer="adam", learning_rate=1e-3),
        )  # fmt: skip


@pytest.mark.parametrize(
    "soil", [(0.4, 0.3, 0.3, 1.5), (0.1, 0.4, 0.3, 1.0), (0.1, 0.4, 0.0, 1.5), 4 * (np.nan,)]
)
def test_soils_without_a_curve_are_left_out_of_the_suction_term(soil):
    batch = at(made_batch(1), 0.99)
    good = ScienceLoss()(batch["target"] + 0.1, batch)
    batch["soil"][:, :, :32] = torch.tensor(soil)[None, :, None, None]
    predicted = (batch["target"] + 0.1).requires_grad_()
    loss = ScienceLoss()(predicted, batch)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(predicted.grad).all()
    assert loss != good  # half of the tile no longer counts
    batch["soil"][:] = torch.tensor(soil)[None, :, None, None]
    assert ScienceLoss()(predicted, batch).item() == pytest.approx(0.05 * 0.01, rel=1e-4)


def test_a_loss_that_is_not_there_is_named():
    with pytest.raises(UnknownNameError, match="probe, hydroblocks, none"):
        ScienceLoss(suction_of="sensor")


@pytest.mark.parametrize("suction_of", ["none", "hydroblocks", "probe"])
def test_a_tiny_batch_is_learnt_by_heart(suction_of):
    """Sixty steps leave 0.02 m3 m-3 of the tiles' spread of 0.06."""
    torch.manual_seed(0)
    batch = at(made_batch(2, side=32), 0.5)
    model = DeepSoil.preset("small", channels=24, low_level=(0, 1), mean_label_m3_m3=0.225)
    model.dropout.p = 0.0
    history = training.fit(
        model, ([batch], [batch]), network.step_by(ScienceLoss(suction_of=suction_of)),
        network.look, progress=False, score=lambda p, o: float(np.abs(p - o[:, :1]).mean()),
        settings=training.Settings(
            steps=60, optimizer="adam", learning_rate=0.003, validate_every=20, weight_decay=0.0
        ),
    )  # fmt: skip
    assert batch["target"].std() > 0.055 and history["score"].iloc[-1] < 0.02


# ---- the system on invented extents --------------------------------------------------------------

NAMES = ("red", "NDVI", "polaris clay", "elevation", "SMAP", "gridmet pr")
FEW = tuple(c for name in NAMES for c in extents.CHANNELS if c.name == name)
DAYS = pd.to_datetime(["2019-06-12 12:00", "2019-06-13 12:00"])
PLACES = ((-97.5, 36.2), (-96.4, 36.9), (-95.3, 35.1))


def made_extent(place, seed):
    """Clay and NDVI by patches, rain by day; moisture follows them, HydroBlocks with an error."""
    rng = np.random.default_rng(seed)
    key = grids.quadkey_at(*place, length=14)
    left, top = (grids.quadkey_bounds(grids.quadkeys_around(key)[0])[k] for k in (0, 3))
    clay, green = (np.kron(rng.random((12, 12)), np.ones((16, 16))) for _ in range(2))
    rain = np.array([5.0, 40.0])[:, None, None]
    truth = 0.08 + 0.2 * clay + 0.05 * green + 0.002 * rain
    of_day = np.ones((2, 192, 192))
    smap = truth.mean((1, 2))[:, None, None] * of_day
    dated = {"landsat8_red": 0.3 * (1 - green) * of_day, "landsat8_NDVI": green * of_day,
             "gridmet_pr": rain * of_day, "smap_l3_005_soil_moisture_am": smap,
             extents.TARGET: truth + 0.02 * (clay - 0.5)}  # fmt: skip
    soil = dict(zip(extents.SOIL, (0.05, 0.45, -0.4, 1.5), strict=True))
    static = {"polaris_clay": 100 * clay, "dem_3dep_elevation": 300 + 100 * green}
    static |= {name: np.full((192, 192), value) for name, value in soil.items()}
    layers = {n: (("time", "y", "x"), v.astype("f4")) for n, v in dated.items()}
    layers |= {n: (("y", "x"), v.astype("f4")) for n, v in static.items()}
    layers["spatial_ref"] = ((), 0, pyproj.CRS("EPSG:3857").to_cf())
    size = field_maps.QuadkeyTiles.cell_m
    at = (np.arange(192) + 0.5) * size
    cube = xr.Dataset(layers, {"time": DAYS.as_unit("us"), "y": top - at, "x": left + at})
    return key, cube.assign_attrs(truth=truth)


@pytest.fixture(scope="module")
def stores():
    return dict(made_extent(place, k) for k, place in enumerate(PLACES))


@pytest.fixture(scope="module")
def stations():
    ids = {k: [f"N__{n}" for n in "ABC"] for k in ("sensor_id", "station_id", "station")}
    longitude, latitude = np.transpose(PLACES)
    words = dict.fromkeys(("land_cover", "koeppen", "texture"), "") | {"network": "N"}
    depths = {"elevation_m": 300.0, "depth_from_m": 0.0, "depth_to_m": 0.05}
    return pd.DataFrame(ids | {"latitude": latitude, "longitude": longitude} | words | depths)


@pytest.fixture(scope="module")
def samples(stations):
    table = stations.loc[stations.index.repeat(2), ["sensor_id", "station_id"]]
    table = table.assign(time=np.tile(DAYS.as_unit("us"), 3), soil_moisture_m3_m3=0.21)
    return table.assign(sample_id=[f"s{k}" for k in range(6)]).reset_index(drop=True)


@pytest.fixture(scope="module")
def tiles(stores, samples, stations):
    return extents.ExtentTiles(stores, samples, stations=stations, channels=FEW)


@pytest.fixture(scope="module")
def split(tiles):
    parts = dict(zip(tiles.stores, ("train", "validation", "test"), strict=True))
    return tiles.tiles["extent"].map(parts).to_numpy(str)


QUICK = {"epochs": 2, "batch_size": 6, "progress": False}


@pytest.fixture(scope="module")
def trained(tiles, split):
    return deepsoil.train(tiles, split, **QUICK)


def test_a_trained_system_answers_at_the_probes_and_comes_back(
    trained, tiles, samples, stations, split, tmp_path
):
    table = trained.predict(tiles, samples, stations=stations, split=split)
    contracts.check(table, contracts.PREDICTIONS)
    assert table["split"].tolist() == ["train"] * 2 + ["validation"] * 2 + ["test"] * 2
    place = tiles.readings.set_index("sample_id").loc["s3"]
    made = trained.tiles(tiles, [place["tile"]])[0]
    assert table["predicted_m3_m3"][3] == pytest.approx(made[place["row"], place["col"]])
    trained.save(tmp_path / "m.pt")
    again = deepsoil.load(tmp_path / "m.pt")
    assert np.array_equal(again.tiles(tiles, [0, 5]), trained.tiles(tiles, [0, 5]))
    assert again.name == "DEEPSOIL" and again._origin.inputs == NAMES
    assert again.layers == [*(c.layers[0] for c in FEW), extents.TARGET]


def test_a_file_of_another_system_is_refused(tmp_path):
    other = training.Checkpoint({"widths": "x"}, training.Provenance(), {}, 1, 0.0)
    training.save_checkpoint(tmp_path / "m.pt", other)
    with pytest.raises(CheckpointError, match="no DeepSoil"):
        deepsoil.load(tmp_path / "m.pt")


def test_the_daily_model_begins_where_the_monthly_one_ended(
    tiles, split, stores, samples, stations, monkeypatch
):
    """Its first weights are those that the months validated best with."""
    months = extents.ExtentTiles(stores, samples, stations=stations, channels=FEW, is_monthly=True)
    begun, ended, fitted = [], [], field_maps._fitted

    def noted(model, *arguments, **options):
        begun.append(model.state_dict()["last.weight"].clone())
        answer = fitted(model, *arguments, **options)
        ended.append(answer[1].weights["last.weight"])
        return answer

    monkeypatch.setattr(field_maps, "_fitted", noted)
    deepsoil.train(tiles, split, monthly=months, monthly_epochs=1, **QUICK)
    assert torch.equal(ended[0], begun[1]) and not torch.equal(begun[0], begun[1])


def test_gamma_falls_with_the_epochs(tiles):
    """The share of the training that is done is that of its epochs, also where a run resumes."""
    batches = field_maps.Batches(tiles, np.arange(12), batch_size=6, epochs=4, shuffles=True)
    batches.set_epoch(3)
    assert len(batches) == 2
    batch = next(iter(batches))
    assert batch["share"].flatten().tolist() == [0.75] * 6


def test_tiles_without_a_target_are_counted_and_never_learnt_from(tiles, stores, split):
    """Lakes, soils without a curve, targets beyond it, layers of NaN: training meets none of it."""
    key = next(iter(stores))
    cube = stores[key].copy(deep=True)
    cube[extents.TARGET][:, :64, :64] = np.nan
    cube[extents.TARGET][:, 64:70] = 0.03
    cube[extents.TARGET][:, 70:80] = 0.5
    cube["polaris_n"][:10] = 1.0
    cube["gridmet_pr"][:] = np.nan
    cube["landsat8_red"][:, 64:, :64] = np.nan
    spoilt = extents.ExtentTiles(stores | {key: cube}, channels=FEW)
    trained = deepsoil.train(spoilt, split, **QUICK)
    assert trained.counts["tiles without a target"] == 2
    assert trained.counts["pixels without a retention curve"] == 2 * 10 * 192
    assert trained.counts["targets below theta_r"] == 2 * 6 * 192
    assert trained.counts["targets above theta_s"] >= 2 * 10 * 192
    assert trained.counts["maps missing in all of a tile"] == 2 * (9 + 2)
    assert np.isfinite(trained.history["loss"]).all()
    assert all(torch.isfinite(w).all() for c in trained.checkpoints.values()
               for w in c.weights.values())  # fmt: skip


def test_maps_beyond_their_range_are_named(tiles, split):
    class Broken(extents.ExtentTiles):
        def __getitems__(self, indices):
            batch = super().__getitems__(indices)
            batch["inputs"][0, 2, 5, 5] = torch.nan
            return batch

    with pytest.raises(ContractError, match="polaris clay.*nan"):
        deepsoil.train(Broken(tiles.stores, channels=FEW), split, **QUICK)


def test_a_split_without_a_training_tile_is_named(tiles, split):
    with pytest.raises(ContractError, match="nothing to fit"):
        deepsoil.train(tiles, np.where(split == "train", "test", split), **QUICK)
    with pytest.raises(ContractError, match="5 labels for 54 tiles"):
        deepsoil.train(tiles, split[:5], **QUICK)


def test_a_map_is_its_tiles_side_by_side(trained, tiles, stores, split):
    """Nine tiles and two days; applicability says that the training extent is like itself."""
    key, cube = next(iter(stores.items()))
    area = field_maps.area_of(tiles, np.flatnonzero(split != "test"))
    mapped = trained.map(cube, area=area)
    rows = np.flatnonzero(tiles.tiles["extent"] == key)
    for row, made in zip(rows, trained.tiles(tiles, rows), strict=True):
        tile = tiles.tiles.loc[row]
        at = mapped["soil_moisture"][
            tile["step"], 64 * tile["row"] : 64 * tile["row"] + 64,
            64 * tile["col"] : 64 * tile["col"] + 64,
        ]  # fmt: skip
        np.testing.assert_allclose(at, made, atol=1e-3)  # kept as half-precision maps
    assert (mapped["applicability"] <= 1).mean() > 0.5
    assert mapped["validity"].dims == ("time", "y", "x")
    with pytest.raises(ContractError, match="multiples of 64"):
        trained.map(cube.isel(y=slice(0, 100)))


def made_clusters(tiles, keys):
    """A cluster about each of some extents, told by clay alone."""
    middle = clusters.features_of(tiles, keys)["polaris clay"].to_numpy()
    return clusters.Clusters(
        ("polaris clay",), np.ones(1), np.zeros(1), middle[:, None], abs(np.diff(middle)[0]), {}, {}
    )


def test_a_model_a_cluster_and_that_of_all_where_one_has_no_tile(tiles, split, tmp_path):
    """A tile on a centre is answered by its model; the file keeps the clusters; a map blends."""
    told = made_clusters(tiles, list(tiles.stores)[:2])
    trained = deepsoil.train(tiles, split, clusters=told, **QUICK)
    assert sorted(trained.checkpoints) == [field_maps.ALL, 0]
    assert trained.counts["clusters without a training tile"] == 1
    alone = deepsoil.TrainedDeepSoil({field_maps.ALL: trained.checkpoints[0]})
    np.testing.assert_allclose(trained.tiles(tiles, [4]), alone.tiles(tiles, [4]), atol=1e-6)
    trained.save(tmp_path / "m.pt")
    again = deepsoil.load(tmp_path / "m.pt")
    np.testing.assert_allclose(again.tiles(tiles, [40]), trained.tiles(tiles, [40]), atol=1e-6)
    assert np.isfinite(again.map(tiles.stores[list(tiles.stores)[2]])["soil_moisture"]).all()


def test_clusters_train_in_other_processes_as_they_do_here(tiles, split):
    """An executor's processes, or Dask's, get the tiles by pickle and read for themselves."""
    told = made_clusters(tiles, list(tiles.stores)[:2])
    both = np.where(split == "validation", "train", split)
    how = QUICK | {"epochs": 1, "clusters": told}
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as there:
        apart = deepsoil.train(tiles, both, client=there, **how)
    here = deepsoil.train(tiles, both, **how)
    assert sorted(apart.checkpoints) == [0, 1]
    np.testing.assert_allclose(apart.tiles(tiles, [4, 22]), here.tiles(tiles, [4, 22]), atol=1e-5)


def test_a_blend_of_equal_models_is_that_model(trained, tiles, stores):
    """With shares that vary from pixel to pixel, at the edges of a cube too."""
    key, cube = next(iter(stores.items()))
    (kept,) = trained.checkpoints.values()
    told = made_clusters(tiles, list(tiles.stores)[:2])
    both = deepsoil.TrainedDeepSoil({0: kept, 1: kept}, told)
    xr.testing.assert_allclose(both.map(cube), trained.map(cube), atol=1e-5)


def test_a_block_that_no_cluster_can_be_told_of_is_named(trained, tiles, stores):
    """Nothing is known of any of its tiles: not numpy's word for a bad index, but ours."""
    cube = next(iter(stores.values()))
    (kept,) = trained.checkpoints.values()
    parted = made_clusters(tiles, list(tiles.stores)[:2])
    both = deepsoil.TrainedDeepSoil({0: kept, 1: kept}, parted)
    with pytest.raises(ContractError, match="none of the features that clusters are made of"):
        both.map(xr.full_like(cube, np.nan, dtype=float))


def test_a_region_is_mapped_by_quadkeys_and_taken_up_again(tmp_path, monkeypatch):
    """Through the one door two tiles of two blocks of the world (synthetic), killed between them.

    The second run makes the block that lacks, the same bytes as a run that was not killed.
    """
    torch.manual_seed(0)
    model = DeepSoil.preset("small").eval()
    names = tuple(c.name for c in extents.CHANNELS)
    about = training.Provenance(names, {"name": "untrained"})
    kept = training.Checkpoint(model.configuration, about, model.state_dict(), 1, 0.0)
    trained = deepsoil.TrainedDeepSoil({field_maps.ALL: kept})
    key = grids.quadkey_at(*PLACES[0], length=12)
    _, _, right, top = grids.quadkey_bounds(key)
    to_degrees = grids.transformer("EPSG:3857", "EPSG:4326").transform
    (west, east), (south, north) = to_degrees((right - 900, right + 900), (top - 1500, top - 900))
    archive = open_archive("synthetic", seed=0, n_stations=1, start="2019-03-01", end="2019-07-01")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    where = {"archive": archive, "dates": [DAYS[0]], "progress": False}
    mapped = maps.predict_region(trained, (west, south, east, north), store=whole, **where)
    assert dict(mapped.sizes) == {"time": 1, "y": 64, "x": 128}
    (log,) = whole.glob("maps/*/*.tiles.json")
    assert [len(name) for name in json.loads(log.read_text())] == [12, 12]
    (store,) = whole.glob("cube_*")
    alone = trained.map(cubes.open_cube(store))["soil_moisture"][0].to_numpy()
    np.testing.assert_allclose(mapped["soil_moisture"][0], alone, atol=1e-6, equal_nan=True)

    moisture, calls = deepsoil.TrainedDeepSoil.moisture, []

    def dies(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return moisture(*arguments, **options)

    shutil.copytree(store, killed / store.name)
    monkeypatch.setattr(deepsoil.TrainedDeepSoil, "moisture", dies)
    with pytest.raises(KeyboardInterrupt):
        maps.predict_region(trained, (west, south, east, north), store=killed, **where)
    (log,) = killed.glob("maps/*/*.tiles.json")
    assert list(json.loads(log.read_text())) == [key]
    maps.predict_region(trained, (west, south, east, north), store=killed, **where)
    assert len(calls) == 3
    files = [path for path in (whole / "maps").rglob("*") if path.is_file()]
    assert len(files) > 10
    for path in files:
        assert path.read_bytes() == (killed / path.relative_to(whole)).read_bytes(), path.name

    maps.predict_region(trained, (west, south, east, north), store=killed, **where)
    assert len(calls) == 3  # finished: nothing is made again


def test_blocks_are_those_of_the_quadkeys_wherever_a_region_begins():
    """Blocks lie on multiples of 256 pixels of the world's map and fill the region once."""
    recipe = field_maps.QuadkeyTiles(SimpleNamespace(_origin=training.Provenance()), {})
    area = recipe.area((-97.5, 36.0, -97.3, 36.2), crs=None)
    seen = np.zeros((area.grid.height, area.grid.width), int)
    for block in area.tiles:
        left, bottom, right, top = grids.quadkey_bounds(block.name)
        west, south, east, north = block.part.bounds_m
        assert left - 1 < west < east < right + 1 and bottom - 1 < south < north < top + 1
        seen[block.rows, block.cols] += area.touched(block)
    assert (seen == 1).all() and len(area.tiles) > 4
    assert len({block.name for block in area.tiles}) == len(area.tiles)
    corner = area.grid.left_m, area.grid.top_m - 64 * area.grid.pixel_size_m
    line = shapely.box(corner[0] + 9, corner[1] + 9, corner[0] + 900, corner[1] + 99)
    few = replace(area, outline=line)
    assert [int(few.touched(block).sum()) for block in few.tiles] == [64 * 64]

"""The composite U-Net: its size, D, its loss, cubes with stations, and what it refuses."""

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyproj
import pytest
import torch
import xarray as xr

from soilkit import grids
from soilkit.contracts import PREDICTIONS, check
from soilkit.errors import CheckpointError, ContractError, UnitError, UnknownNameError
from soilkit.export import archives, cubes
from soilkit.models import composite_unet, maps, training
from soilkit.models.composite_unet import (
    COARSE,
    CompositeUNet,
    Patches,
    coarsened,
    composite_loss,
    step_by,
)
from soilkit.models.datasets import StationCube, coarse_cells, turned, whole_cells
from soilkit.world import World
from tests.benchmarks import smap_australia

LAYERS = ("smap_l3_ancillary_tb_v_corrected", "sentinel1_VV", "soilgrids_clay")
TIMES = np.array(["2019-06-01T12", "2019-06-04T12"], "datetime64[us]")
FIRST = (45 * 80, 9 * 800)  # row and column of the 1 km grid, whole cells


def cube_of(height=90, width=81, *, first=FIRST, crs=grids.EASE2_CRS):
    """Brightness by 9 km cells, backscatter by pixel, clay; the truth follows both and clay."""
    rng = np.random.default_rng(0)
    grid = grids.ease2_grid(*first, height=height, width=width, pixel_size_km=1)
    rows, cols = ((np.arange(n) + k) // 9 for n, k in zip((height, width), first, strict=True))
    wide = rng.normal(size=(2, rows.max() + 1, 1)) + rng.normal(size=(2, 1, cols.max() + 1))
    wide = wide[:, rows][:, :, cols]
    detail = rng.normal(size=(2, height, width))
    clay = rng.uniform(10, 40, (height, width))
    truth = 0.2 + 0.02 * wide + 0.02 * detail + 0.001 * (clay - 25)
    coarse = wide * 0.01 + 0.2  # with half of the true spread
    dated = dict(zip((*LAYERS[:2], COARSE, "truth"), (wide, detail, coarse, truth), strict=True))
    layers = {n: (("time", "y", "x"), v.astype("f4")) for n, v in dated.items()}
    layers["soilgrids_clay"] = (("y", "x"), clay.astype("f4"))
    layers["spatial_ref"] = ((), 0, pyproj.CRS(crs).to_cf())
    coords = {"time": TIMES, "y": grid.y_m, "x": grid.x_m}
    return xr.Dataset(layers, coords, {"comment": "Synthetic"})


def stations_on(cube, n=150, *, seed=1):
    """Stations at random pixels, two sensors at the first, and what they read of the truth."""
    rng = np.random.default_rng(seed)
    row, col = rng.integers(cube.sizes["y"], size=n), rng.integers(cube.sizes["x"], size=n)
    row[1], col[1] = row[0], col[0]
    to_degrees = grids.transformer(grids.EASE2_CRS, "EPSG:4326").transform
    longitude, latitude = to_degrees(cube["x"].to_numpy()[col], cube["y"].to_numpy()[row])
    names = np.array([f"N__S{k:03d}" for k in range(n)])
    stations = pd.DataFrame({
        "sensor_id": names, "station_id": names, "network": "N", "station": names,
        "latitude": latitude, "longitude": longitude,
    })  # fmt: skip
    parts = []
    for t, moment in enumerate(cube["time"].to_numpy()):
        values = cube["truth"].to_numpy()[t, row, col].astype(float)
        ids = [f"{name}_{t}" for name in names]
        part = {"sample_id": ids, "sensor_id": names, "station_id": names, "time": moment}
        parts.append(pd.DataFrame(part | {"soil_moisture_m3_m3": values}))
    return pd.concat(parts, ignore_index=True), stations


@pytest.fixture(scope="module")
def data():
    cube = cube_of()
    samples, stations = stations_on(cube)
    return StationCube.of(cube, samples, stations=stations)


@pytest.fixture(scope="module")
def split(data):
    number = data.samples["sensor_id"].str[-3:].astype(int)
    return pd.Series(np.where(number < 110, "train", "validation"), data.samples.index)


@pytest.fixture(scope="module")
def trained(data, split):
    options = {"layers": LAYERS, "epochs": 16, "batch_size": 2, "progress": False}
    return composite_unet.train(data, split, learning_rate=0.01, **options)


# ---- the network ---------------------------------------------------------------------------------


def test_the_network_has_the_papers_size():
    """31 layers and 53,057 parameters (the paper: 31 and 53,000), 256 pixels in, 252 scored."""
    model = CompositeUNet.preset("paper", channels=13)
    assert sum(p.numel() for p in model.parameters()) == 53_057
    assert model.n_layers == 31
    fine, coarse = model(torch.zeros(1, 13, 256, 256))
    assert (fine.shape, coarse.shape) == ((1, 252, 252), (1, 28, 28))
    assert len(composite_unet.LAYERS) + 1 == 12 + 1 == 13  # the mask of the radar


def test_a_preset_or_a_patch_that_does_not_exist_is_named():
    with pytest.raises(UnknownNameError, match="paper, small"):
        CompositeUNet.preset("large")
    with pytest.raises(ContractError, match="multiple of 9"):
        composite_unet.CompositeConfig(scored_px=250, margin_px=3)


# ---- D -------------------------------------------------------------------------------------------


def test_d_is_linear_and_keeps_a_constant_and_the_mean():
    a, b = torch.rand(2, 3, 36, 27, dtype=torch.float64)
    assert torch.allclose(coarsened(2 * a - 3 * b), 2 * coarsened(a) - 3 * coarsened(b))
    assert torch.allclose(coarsened(torch.full_like(a, 0.3)), torch.tensor(0.3).double())
    assert torch.allclose(coarsened(a).mean((1, 2)), a.mean((1, 2)))
    assert coarsened(a).shape == (3, 4, 3)


def test_d_does_not_look_at_invalid_pixels():
    """A lake of any number changes nothing; a constant stays; a cell of water alone is unknown."""
    a = torch.rand(1, 18, 18)
    valid = torch.ones_like(a)
    valid[:, :9, :9] = 0
    valid[:, 12, 12] = 0
    other = torch.where(valid > 0, a, 99.0)
    means = coarsened(a, valid)
    assert torch.isnan(means[0, 0, 0]) and torch.isfinite(means.flatten()[1:]).all()
    assert torch.allclose(means, coarsened(other, valid), equal_nan=True)
    flat = coarsened(torch.full_like(a, 0.25), valid).flatten()[1:]
    assert torch.allclose(flat, torch.tensor(0.25))


def test_d_of_the_worlds_truth_is_its_coarse_truth():
    """Within 0.01 m3 m-3 (root mean square) of what the world says of 9 km; shown, 0.005."""
    world = World(seed=3, n_stations=1, start="2019-06-01", end="2019-06-12")
    row, col = (int(n) for n in grids.ease2_cell(-98.0, 38.0))
    fine = grids.ease2_grid(9 * row, 9 * col, height=27, width=27, pixel_size_km=1)
    wide = grids.ease2_grid(row, col, height=3, width=3)
    at = "2019-06-10 12:00"
    means = coarsened(torch.from_numpy(world.truth(at, fine))[None])[0].numpy()
    error = means - world.truth(at, wide)
    assert np.sqrt(np.mean(error**2)) < 0.01
    assert np.abs(error).max() < 0.02


# ---- the loss ------------------------------------------------------------------------------------


def answers_and_targets(n=4):
    generator = torch.Generator().manual_seed(0)
    fine, stations = torch.rand(2, n, 18, 18, generator=generator)
    coarse, cells = torch.rand(2, n, 2, 2, generator=generator)
    stations = torch.where(torch.rand(n, 18, 18, generator=generator) < 0.02, stations, torch.nan)
    cells[0, 0, 0] = torch.nan
    return (fine, coarse), (stations, cells)


def test_the_three_readings_of_the_norms():
    """By hand: two stations off by 0.1 and 0.2, four cells off by 0.1."""
    fine, coarse = torch.zeros(1, 18, 18), torch.zeros(1, 2, 2)
    stations = torch.full((1, 18, 18), torch.nan)
    stations[0, 3, 3], stations[0, 4, 4] = 0.1, -0.2
    targets = stations, torch.full((1, 2, 2), 0.1)
    values = {n: composite_loss((fine, coarse), targets, alpha=0.5, norm=n).item()
              for n in composite_unet.NORMS}  # fmt: skip
    assert values["sum"] == pytest.approx(0.05 + 0.5 * 0.04)
    assert values["mean"] == pytest.approx(0.025 + 0.5 * 0.01)
    assert values["root"] == pytest.approx(0.05**0.5 + 0.5 * 0.2, abs=3e-4)
    with pytest.raises(UnknownNameError, match="sum, mean, root"):
        composite_loss((fine, coarse), targets, norm="median")


@pytest.mark.parametrize("norm", composite_unet.NORMS)
def test_the_loss_does_not_depend_on_how_a_batch_is_split(norm):
    answers, targets = answers_and_targets()
    whole = composite_loss(answers, targets, alpha=0.1, norm=norm)
    parts = [
        composite_loss(tuple(v[k] for v in answers), tuple(v[k] for v in targets),
                       alpha=0.1, norm=norm) * n / 4
        for k, n in ((slice(0, 1), 1), (slice(1, 4), 3))
    ]  # fmt: skip
    assert torch.allclose(whole, sum(parts))


@pytest.mark.parametrize("norm", composite_unet.NORMS)
def test_unknown_cells_contribute_nothing_and_their_gradient_is_zero(norm):
    """Nor does a patch without station break: its loss is that of its cells, finite."""
    (fine, coarse), (stations, cells) = answers_and_targets()
    stations[1] = torch.nan
    fine.requires_grad_()
    loss = composite_loss((fine, coarse), (stations, cells), alpha=0.0, norm=norm)
    loss.backward()
    assert torch.isfinite(fine.grad).all()
    assert (fine.grad[torch.isnan(stations)] == 0).all()
    assert (fine.grad[torch.isfinite(stations)] != 0).all()
    nothing = torch.full_like(stations, torch.nan), torch.full_like(cells, torch.nan)
    assert composite_loss((fine, coarse), nothing, norm=norm).item() == 0


# ---- a cube with stations ------------------------------------------------------------------------


def test_sensors_of_a_pixel_are_averaged_and_far_samples_left_out(data):
    """The first two stations share a pixel; a station elsewhere and a reading next month go."""
    samples, stations = stations_on(data.cube)
    samples.loc[0, "soil_moisture_m3_m3"], samples.loc[1, "soil_moisture_m3_m3"] = 0.1, 0.3
    twice = samples.iloc[[0]].assign(sample_id="again", soil_moisture_m3_m3=0.2)
    late = samples.iloc[[2]].assign(sample_id="late", time=pd.Timestamp("2019-08-01"))
    away = stations.iloc[[0]].assign(sensor_id="far", longitude=20.0)
    far = samples.iloc[[0]].assign(sample_id="far", sensor_id="far")
    every = pd.concat([samples, twice, late, far], ignore_index=True)
    some = StationCube.of(data.cube, every, stations=pd.concat([stations, away]))
    assert len(some.samples) == len(samples) + 1
    means = some.pixel_means(np.ones(len(some.samples), bool))
    assert means[tuple(some.places[0])] == pytest.approx((0.15 + 0.3) / 2)  # by sensor first
    assert some.features.loc[0, "soilgrids_clay"] == pytest.approx(
        data.cube["soilgrids_clay"].to_numpy()[tuple(some.places[0, 1:])]
    )


def test_a_sensor_at_two_places_is_refused_and_shared_pixels_are_told(data, caplog):
    """The first two stations share a pixel; then the third is said to stand elsewhere too."""
    samples, stations = stations_on(data.cube, 3)
    with caplog.at_level("INFO", logger="soilkit"):
        StationCube.of(data.cube, samples, stations=stations)
    assert "1 pixels hold several sensors" in caplog.text
    moved = stations.iloc[[2]].assign(latitude=stations["latitude"].iloc[2] + 0.1)
    with pytest.raises(ContractError, match="N__S002 stands at several places"):
        StationCube.of(data.cube, samples, stations=pd.concat([stations, moved]))


def test_patches_lay_the_domain_without_overlap_and_know_its_edge(data, split):
    """Every cell and label stands once; beyond the edge nothing is valid and nothing a target."""
    config = CompositeUNet.preset("small", channels=4).config
    statistics = dict.fromkeys(LAYERS, (0.0, 1.0))
    labels = {"train": data.pixel_means(split == "train")}
    patches = Patches(
        data.cube, layers=LAYERS, statistics=statistics, config=config, labels=labels, coarse=COARSE
    )
    parts = [patches.patch(i) for i in range(len(patches))]
    assert len(parts) == 2 * 2 * 2
    assert sum(torch.isfinite(p["train"]).sum() for p in parts) == len(labels["train"])
    assert sum(torch.isfinite(p["coarse"]).sum() for p in parts) == 2 * 10 * 9
    assert sum(p["valid"].sum() for p in parts) == 2 * 90 * 81
    assert all(torch.isfinite(p["images"]).all() for p in parts)
    assert parts[0]["images"].shape == (4, 88, 88)
    first, inner = parts[0]["images"][2, 8:80, 8:80], data.cube["soilgrids_clay"].to_numpy()
    assert np.array_equal(first, inner[:72, :72])


def test_a_gap_of_the_radar_is_told_by_the_mask(data):
    cube = data.cube.copy(deep=True)
    cube["sentinel1_VV"][0, :, :10] = np.nan
    config = CompositeUNet.preset("small", channels=4).config
    patches = Patches(cube, layers=LAYERS, statistics=dict.fromkeys(LAYERS, (0.0, 1.0)),
                      config=config)  # fmt: skip
    images = patches.patch(0)["images"]
    assert (images[3, :, :18] == 0).all() and (images[3, :, 18:] == 1).all()
    assert (images[1, :, :18] == 0).all()


def test_a_batch_is_turned_as_a_whole_and_every_way_occurs():
    """A label stays at its pixel of the image, a cell over its pixels."""
    image = torch.arange(324.0).reshape(1, 18, 18)
    batch = {"images": image[:, None], "train": image, "coarse": image[:, 4::9, 4::9]}
    ways = set()
    for seed in range(60):
        moved = turned(batch, generator=torch.Generator().manual_seed(seed))
        assert torch.equal(moved["images"][:, 0], moved["train"])
        assert torch.equal(moved["train"][:, 4::9, 4::9], moved["coarse"])
        ways.add(tuple(moved["train"][0, 0, :2].tolist()))
    assert len(ways) == 8


# ---- what is refused -----------------------------------------------------------------------------


def test_grids_that_do_not_nest_are_refused(data):
    shifted = data.cube.assign_coords(x=data.cube["x"] + 400.0)
    with pytest.raises(ContractError, match="nest in no 9 km cells"):
        whole_cells(shifted)
    with pytest.raises(ContractError, match="EPSG:32614"):
        whole_cells(cube_of(crs="EPSG:32614"))
    with pytest.raises(ContractError, match="no whole cell"):
        whole_cells(data.cube.isel(y=slice(3, 12)))


def test_a_cube_that_ends_within_a_cell_is_cut(data, split):
    ragged = data.cube.isel(y=slice(4, 88), x=slice(2, 80))
    assert dict(whole_cells(ragged).sizes) == {"time": 2, "y": 72, "x": 63}
    part = StationCube.of(ragged, data.samples, stations=data.stations)
    labels = split[data.samples["sample_id"].isin(part.samples["sample_id"])]
    with pytest.raises(ContractError, match="within a cell"):
        composite_unet.train(part, labels, layers=LAYERS, progress=False)


def test_a_coarse_target_in_other_units_or_shifted_is_refused(data):
    layer = data.cube[COARSE]
    with pytest.raises(UnitError, match="m3 m-3"):
        coarse_cells((layer * 100).rename("coarse"))
    with pytest.raises(ContractError, match="shifted"):
        coarse_cells(layer.roll(x=4).rename("coarse"))
    assert coarse_cells(layer).shape == (2, 10, 9)
    holed = layer.copy(deep=True)
    holed[0, 0, 0] = np.nan
    assert np.isnan(coarse_cells(holed)).sum() == 1


def test_labels_splits_and_layers_that_are_none_are_named(data, split):
    per_cent = data.samples.assign(soil_moisture_m3_m3=data.samples["soil_moisture_m3_m3"] * 100)
    wet = StationCube.of(data.cube, per_cent, stations=data.stations)
    with pytest.raises(UnitError, match="Labels reach"):
        composite_unet.train(wet, split, layers=LAYERS)
    with pytest.raises(ContractError, match="split has 3 labels"):
        composite_unet.train(data, split[:3], layers=LAYERS)
    with pytest.raises(ContractError, match="lacks dem_elevation"):
        composite_unet.train(data, split, layers=[*LAYERS, "dem_elevation"])


def test_no_station_learns_from_the_coarse_target_with_a_warning(data):
    alone = pd.Series("test", data.samples.index)
    options = {"layers": LAYERS, "epochs": 10, "progress": False, "learning_rate": 0.01}
    with pytest.warns(UserWarning, match="coarse target alone"):
        trained = composite_unet.train(data, alone, batch_size=2, **options)
    learnt = coarse_cells(trained.map(data.cube)["soil_moisture_9km"])
    assert np.corrcoef(learnt.ravel(), coarse_cells(data.cube[COARSE]).ravel())[0, 1] > 0.7
    with pytest.raises(ContractError, match="nothing to fit"):
        composite_unet.train(data, alone, alpha=0.0, **options)


# ---- the system ----------------------------------------------------------------------------------


def test_training_learns_detail_that_the_coarse_target_lacks(data, trained, split):
    """At stations kept aside the error is below that of the coarse product."""
    predictions = trained.predict(data)
    check(predictions, PREDICTIONS)
    aside = (split == "validation").to_numpy()
    observed = predictions["observed_m3_m3"].to_numpy()
    error = (predictions["predicted_m3_m3"] - observed)[aside]
    of_coarse = (data.features[COARSE] - observed)[aside]
    assert error.std() < 0.9 * of_coarse.std()
    assert predictions["split"].tolist() == split.tolist()
    curves = ["train_ubrmse_m3_m3", "validation_rmse_m3_m3"]
    assert trained.history[curves].notna().all(axis=None) and len(trained.history) == 16


def test_a_map_holds_both_scales_and_agrees_with_the_predictions(data, trained):
    """A cell's 9 km value is D of the 1 km values; unknown inputs leave no answer."""
    cube = data.cube.copy(deep=True)
    for name in LAYERS[:2]:
        cube[name][1, :9, :9] = np.nan
    mapped = trained.map(cube)
    assert dict(mapped.sizes) == {"time": 2, "y": 90, "x": 81}
    fine, wide = (mapped[n].to_numpy()[0] for n in ("soil_moisture", "soil_moisture_9km"))
    assert np.allclose(coarsened(torch.from_numpy(fine)[None])[0], wide[4::9, 4::9], atol=1e-6)
    blank = mapped["validity"].to_numpy()[1]
    assert (blank[:9, :9] == 64).all() and np.isnan(mapped["soil_moisture"][1, :9, :9]).all()
    at = tuple(data.places.T)
    first = data.places[:, 0] == 0
    predicted = trained.predict(data)["predicted_m3_m3"].to_numpy()
    assert np.allclose(mapped["soil_moisture"].to_numpy()[at][first], predicted[first], atol=1e-6)
    assert mapped.attrs["comment"] == "Synthetic"


def test_a_saved_model_answers_as_before(tmp_path, data, trained):
    trained.save(tmp_path / "model.pt")
    again = composite_unet.load(tmp_path / "model.pt")
    assert again.name == trained.name and again.layers == LAYERS
    kept = again.predict(data)["predicted_m3_m3"]
    assert np.array_equal(kept, trained.predict(data)["predicted_m3_m3"])
    (tmp_path / "other.pt").write_bytes(b"no checkpoint\n")
    with pytest.raises(CheckpointError):
        composite_unet.load(tmp_path / "other.pt")


def test_the_same_seed_gives_the_same_model_and_a_killed_run_goes_on(tmp_path, data, split):
    options = {"layers": LAYERS, "epochs": 2, "progress": False, "seed": 3}
    first = composite_unet.train(data, split, out_dir=tmp_path, **options)
    again = composite_unet.train(data, split, out_dir=tmp_path, **options)  # nothing left to do
    alone = composite_unet.train(data, split, **options)
    for other in (again, alone):
        for name, weights in first.checkpoint.weights.items():
            assert torch.equal(weights, other.checkpoint.weights[name])


def test_over_a_ridge_the_network_begins_with_a_line(data, split):
    """Truth here is a line of the layers, so the map is right before the network has learnt."""
    options = {"layers": LAYERS, "epochs": 1, "progress": False, "learning_rate": 1e-9}
    begun = composite_unet.train(data, split, over_ridge=True, **options)
    table = begun.predict(data)
    error = table["predicted_m3_m3"] - table["observed_m3_m3"]
    assert error.std() < 0.01 < 0.5 * table["observed_m3_m3"].std()
    assert begun.model.configuration["over_ridge"] and begun.model.slopes[:3].min() > 0.005
    with pytest.raises(ContractError, match="over_ridge"):
        alone = pd.Series("test", data.samples.index)
        composite_unet.train(data, alone, over_ridge=True, **options)


def test_a_batch_without_station_has_a_loss(data):
    model = CompositeUNet.preset("small", channels=4)
    config = model.config
    patches = Patches(
        data.cube, layers=LAYERS, statistics=dict.fromkeys(LAYERS, (0.0, 1.0)), config=config,
        labels={"train": pd.Series(dtype=float, index=pd.MultiIndex.from_arrays([[], [], []]))},
        coarse=COARSE,
    )  # fmt: skip
    loss = step_by(1e-3, "sum")(model, patches.__getitems__([0, 1]))
    loss.backward()
    assert loss.item() > 0 and all(torch.isfinite(p.grad).all() for p in model.parameters())


# ---- any region ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def of_a_region(tmp_path_factory):
    """An untrained model of two layers, and its map of 6 x 6 cells in tiles of 2 x 2."""
    layers = ("smap_l3_ancillary_tb_v_corrected", "soilgrids_clay")
    torch.manual_seed(0)
    model = CompositeUNet(composite_unet.CompositeConfig(2, (4, 4), scored_px=18, margin_px=2))
    torch.nn.init.normal_(model.last.weight, std=0.02)
    about = {layers[0]: (260.0, 10.0), layers[1]: (25.0, 10.0), "name": "U-Net"}
    provenance = training.Provenance(layers, about, "")
    checkpoint = training.Checkpoint(model.configuration, provenance, model.state_dict(), 0, 0.0)
    trained = composite_unet.TrainedComposite(model.eval(), checkpoint)
    archive = archives.open_archive("synthetic", seed=3, n_stations=1, start="2019-05-20",
                                    end="2019-06-12")  # fmt: skip
    row, col = (int(n) for n in grids.ease2_cell(-98.0, 38.0))
    left, bottom, right, top = grids.ease2_grid(row, col, height=6, width=6).bounds_m
    to_degrees = grids.transformer(grids.EASE2_CRS, "EPSG:4326").transform
    (west, east), (south, north) = to_degrees((left + 50, right - 50), (bottom + 50, top - 50))
    asked = {"region": (west, south, east, north), "archive": archive, "progress": False}
    asked |= {"dates": ["2019-06-06", "2019-06-08"]}
    store = tmp_path_factory.mktemp("region")
    return trained, asked, store, maps.predict_region(trained, store=store, **asked).load()


def test_a_region_is_mapped_in_whole_cells_as_its_cube_is(of_a_region):
    """A tile inside has the answer that ``map`` gives the cube; both scales are told."""
    trained, _, store, mapped = of_a_region
    assert dict(mapped.sizes) == {"time": 2, "y": 54, "x": 54}
    grid = maps.map_grid(mapped)
    assert (grid.left_m - grids.EASE2_LEFT_M) / grids.EASE2_PIXEL_SIZE_M[9] % 1 < 1e-6
    cube = cubes.open_cube(store / "cube_1000m").sel(y=mapped.y, x=mapped.x, method="nearest")
    alone = trained.map(cube.load())["soil_moisture"].to_numpy()[:, 18:36, 18:36]
    inner = mapped["soil_moisture"].to_numpy()[:, 18:36, 18:36]
    assert np.isfinite(inner).any() and inner[np.isfinite(inner)].std() > 1e-3
    assert np.allclose(inner, alone, atol=1e-6, equal_nan=True)
    wide = mapped["soil_moisture_9km"].to_numpy()[:, 18:36, 18:36]
    known = np.isfinite(wide)
    assert np.array_equal(known, np.isfinite(inner)) and np.allclose(
        wide[known].mean(), inner[known].mean(), atol=1e-4
    )
    assert ((mapped.validity == 0) == mapped.soil_moisture.notnull()).all()


def test_a_region_that_was_stopped_goes_on_by_tile(of_a_region, tmp_path, monkeypatch):
    """Stopped in the fourth tile, called again: only what lacked is made, and no byte differs."""
    trained, asked, store, _ = of_a_region
    shutil.copytree(store / "cube_1000m", tmp_path / "cube_1000m")
    made, answer = [], composite_unet.TrainedComposite.answer

    def counted(self, images):
        made.append(images)
        if len(made) == 4:
            raise KeyboardInterrupt
        return answer(self, images)

    monkeypatch.setattr(composite_unet.TrainedComposite, "answer", counted)
    with pytest.raises(KeyboardInterrupt):
        maps.predict_region(trained, store=tmp_path, **asked)
    maps.predict_region(trained, store=tmp_path, **asked)
    assert len(made) == 4 + 2 * 9 - 3
    files = [
        {p.relative_to(one): p.read_bytes() for p in (one / "maps").rglob("*") if p.is_file()}
        for one in (store, tmp_path)
    ]
    assert files[0] == files[1] and len(files[0]) > 2 * 9


def test_a_region_of_another_grid_is_refused(of_a_region, tmp_path):
    trained, asked, _, _ = of_a_region
    with pytest.raises(ContractError, match="EASE-Grid"):
        maps.predict_region(trained, store=tmp_path, cube_options={"crs": "EPSG:32614"}, **asked)
    with pytest.raises(ContractError, match="stride_m"):
        maps.predict_region(trained, store=tmp_path, stride_m=320, **asked)


# ---- real cells ----------------------------------------------------------------------------------


def smap_drawn(folder, *, shift_deg=0.0):
    """SMAP over Western Australia on whole cells of 1 km pixels, and what the file has."""
    path = Path(os.environ.get("SOILKIT_TEST_DATA") or "no-data") / "cubes/smap_w_australia_2020.nc"
    if not path.is_file():
        pytest.skip("no cubes/smap_w_australia_2020.nc in $SOILKIT_TEST_DATA")
    return smap_australia.drawn(path, folder, days=["2020-01-02", "2020-01-08"],
                                shift_deg=shift_deg)  # fmt: skip


def test_smap_of_western_australia_is_a_coarse_target(tmp_path):
    """Its cells come back from the pixels that they are drawn on, unknown where the file is; D
    stays among them, is unknown where they are, and the loss counts the others alone."""
    layer, expected = smap_drawn(tmp_path / "cube")
    cells = coarse_cells(layer)  # (time, row, col)
    known = np.isfinite(expected)
    assert 0.1 < known.mean() < 0.99 and known.sum() > 100
    assert np.array_equal(np.isfinite(cells), known)
    assert abs(cells - expected)[known].max() < 0.006  # half a step of the store
    fine = torch.from_numpy(layer.to_numpy())
    means = coarsened(fine.nan_to_num(), fine.isfinite()).numpy()
    assert np.array_equal(np.isfinite(means), known)
    assert means[known].min() >= cells[known].min() and means[known].max() <= cells[known].max()
    assert np.corrcoef(means[known], cells[known])[0, 1] > 0.9
    nothing = torch.full_like(fine, torch.nan)
    loss = composite_loss((fine, torch.from_numpy(means)), (nothing, torch.from_numpy(cells)),
                          alpha=1.0)  # fmt: skip
    assert loss.item() == pytest.approx(((means - cells)[known] ** 2).sum() / 2, rel=1e-4)


def test_smap_half_a_cell_off_is_no_coarse_target(tmp_path):
    layer, _ = smap_drawn(tmp_path / "cube", shift_deg=180 / 3856)  # of 3856 columns of 9 km
    with pytest.raises(ContractError, match="shifted"):
        coarse_cells(layer)

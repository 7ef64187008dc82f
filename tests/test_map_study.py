"""What a map can know: the local encoder, regions without stations, and how their scores meet."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from soilkit.models import maps
from soilkit.models.inputs import Inputs
from soilkit.models.xception_fusion import FusionConfig, XceptionFusion, look
from tests.benchmarks import map_study
from tests.benchmarks.map_study import MapStudy, MapTrial, Seen
from tests.test_maps import random_scene, settled

CONFIG = {"encoder": "local", "crop_px": 32}


def test_a_local_model_knows_its_own_square_alone():
    torch.manual_seed(0)
    model = XceptionFusion(FusionConfig(3, 2, 2, "small", **CONFIG)).eval()
    high, low, coarse = torch.randn(1, 3, 64, 64), torch.randn(1, 2, 4, 4), torch.randn(1, 2)
    features = model.high_encoder(high)
    assert features.shape == (1, 32, 2, 2)
    changed = high.clone()
    changed[..., :32, :32] += 1
    same = model.high_encoder(changed) == features
    assert same[..., 1].all() and same[..., 1, :].all() and not same[..., 0, 0].all()
    crop = {"high": high[..., :32, :32], "low": low[..., :2, :2]}
    assert model(**crop, coarse=coarse).shape == (1,)
    assert torch.allclose(crop["high"].mean((2, 3)), model.high_encoder.layers[0](high)[..., 0, 0])


def test_a_local_model_maps_the_same_exactly_and_densely():
    model = settled(high_channels=3, low_channels=2, coarse=2, **CONFIG)
    scene = random_scene()
    exact, dense = (
        maps.predict_map(model, scene, look, mode=mode, coarse="nearest", progress=False)
        for mode in ("exact", "dense")
    )
    assert exact.sizes["x"] == scene.grid.width // 32
    np.testing.assert_allclose(dense.soil_moisture, exact.soil_moisture, atol=1e-6)
    assert exact.soil_moisture.std() > 1e-4
    one = {"high": scene.images["high"][None, :, 32:64, 64:96]}
    one |= {"low": scene.images["low"][None, :, 2:4, 4:6]}
    row, col = (int(4 * px / scene.grid.width) for px in (48, 80))  # of four by four scalars
    at = scene.scalars["coarse"][None, :, row, col]
    batch = {n: torch.from_numpy(np.ascontiguousarray(v)) for n, v in one.items()}
    alone = model(**batch, coarse=torch.from_numpy(np.ascontiguousarray(at))).item()
    assert exact.soil_moisture[1, 2].item() == pytest.approx(alone, abs=1e-6)


@pytest.fixture
def region_file(tmp_path):
    rng, side = np.random.default_rng(0), map_study.SIDE_PX
    bands = {"sentinel1": 3, "sentinel2": 10, "dem": 1}
    arrays = {f"layer_{n}": rng.random((k, side, side)).astype("f4") for n, k in bands.items()}
    arrays["layer_soilgrids"] = rng.random((4, side // 16, side // 16)).astype("f4")
    arrays |= {"layer_smap": 12.0, "layer_gldas": 20.0}
    n = side // 32
    truth = np.arange(n * n, dtype=float).reshape(n, n)
    arrays |= {"truth": truth, "crs": "EPSG:32614", "corner": np.array([5e5, 4e6])}
    np.savez(tmp_path / "region.npz", **arrays)
    return tmp_path / "region.npz", arrays


@pytest.mark.parametrize("window_px", [32, 64, 128, 256])
def test_windows_of_any_size_have_their_centres_where_cells_do(region_file, window_px):
    path, arrays = region_file
    seen = Seen.read(path)
    scene = seen.scene(Inputs.of("sentinel1", "soilgrids"), window_px=window_px)
    first = scene.grid.left_m + 10 * window_px / 2  # of the first window, an easting
    assert (seen.cells.x_m[0] - first) % 320 == 0
    assert scene.images["low"].shape[-1] * 16 == scene.images["high"].shape[-1]
    inner = arrays["truth"][4:-4, 4:-4]
    np.testing.assert_array_equal(seen.truth, inner)
    means = map_study._cells(seen)
    values = arrays["layer_sentinel1"][0, 4 * 32 : 5 * 32, 4 * 32 : 5 * 32]
    rule = map_study.sources.get("sentinel1").band("VV").normalisation
    assert means["sentinel1.VV"][0] == pytest.approx(rule(values.astype(float)).mean(), rel=1e-4)


def test_stations_never_part():
    stations = np.repeat([f"S{k:03d}" for k in range(250)], 3)
    data = SimpleNamespace(samples=pd.DataFrame({"station_id": stations}))
    few, other, every = (
        map_study.labels_of(data, MapTrial("local", n_stations=n, seed=s))
        for n, s in ((24, 0), (24, 1), (0, 0))
    )
    for labels in (few, every):
        assert pd.Series(labels).groupby(stations).nunique().eq(1).all()
    assert np.unique(stations[few == "train"]).size == 24
    assert np.unique(stations[every == "train"]).size == 250 - 160
    assert set(stations[few == "train"]) != set(stations[other == "train"])
    for name in ("test", "validation"):
        assert set(stations[few == name]) == set(stations[other == name])


def made_up(model, explained, *, labels="stations", seed=0, modes=("exact",)):
    trial = MapTrial(model, labels, n_stations=72, seed=seed)
    scores = [[float(np.sqrt(e)), float(e)] for e in explained]
    stations = {"station_r": [0.7, 0.8], "station_ubrmse": [0.04, 0.05]}
    return trial, {"regions": dict.fromkeys(modes, scores), **stations, "n_stations": 72}


def test_yardsticks_are_means_over_seeds_with_intervals_over_regions():
    rng = np.random.default_rng(0)
    base = rng.uniform(0.2, 0.4, 50)
    rows = [
        made_up("trees", base), made_up("local", base + 0.1, modes=("exact", "dense")),
        made_up("local", base + 0.2, seed=1, modes=("exact", "dense")),
    ]  # fmt: skip
    table = map_study.yardsticks(rows).set_index("model")
    assert list(table.index) == [
        "trees on station labels", "local network, exact", "local network, dense",
    ]  # fmt: skip
    local = table.loc["local network, exact"]
    assert local["explained"] == pytest.approx(base.mean() + 0.15)
    half = 2.0096 * base.std(ddof=1) / np.sqrt(50)  # Student's t, 49 degrees of freedom
    assert local["upper"] - local["explained"] == pytest.approx(half, rel=1e-3)
    assert (local["n_seeds"], local["n_region_dates"]) == (2, 50)
    assert "synthetic" in local["data"]
    gains = map_study.gains(rows).set_index(["against", "metric"])
    gained = gains.loc[("trees on station labels", "explained")]
    assert gained[["lower", "upper"]].to_numpy(float) == pytest.approx([0.15, 0.15])


def test_a_study_says_what_is_due(tmp_path, monkeypatch):
    monkeypatch.setattr(map_study, "N_REGIONS", 9)
    study = MapStudy(tmp_path, seeds=(0,))
    names = [job.name for job in study.due()]
    assert len(names) == 9 + 3 + 3 * len(map_study.COUNTS)
    map_study.write_tables(study, tmp_path)
    assert not list(tmp_path.glob("*.csv"))


@pytest.mark.slow  # builds a small world's dataset and nine regions: minutes
def test_a_small_study_from_end_to_end(tmp_path, monkeypatch):
    small = map_study.Recipe("maps", n_stations=14, size_px=192, end="2019-07-01")
    monkeypatch.setattr(map_study, "RECIPE", small)
    for name, value in {"N_TEST": 3, "N_VALIDATION": 3, "N_REGIONS": 9, "DAYS": 90,
                        "COUNTS": (4,)}.items():  # fmt: skip
        monkeypatch.setattr(map_study, name, value)
    brief = {n: {**s, "steps": 4, "validate_every": 2} for n, s in map_study.TRAINED.items()}
    monkeypatch.setattr(map_study, "TRAINED", brief)
    study = MapStudy(tmp_path / "work", seeds=(0,), workers=0)
    study.run()
    map_study.write_tables(study, tmp_path)
    table = pd.read_csv(tmp_path / "yardsticks.csv")
    assert set(table["model"]) == set(map_study.NAMES.values())
    assert (table["n_region_dates"] == 5).all() and table["explained"].between(0, 1).all()
    assert not study.due()

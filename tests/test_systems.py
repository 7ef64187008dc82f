"""Every system trains, predicts, keeps itself and draws a map, in the same words."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from soilkit import contracts
from soilkit.contracts import Chip, Grid
from soilkit.errors import CheckpointError, ContractError, UnknownNameError
from soilkit.export import chips
from soilkit.metrics import splits
from soilkit.models import xception_fusion
from soilkit.models.tabular import SYSTEMS, Problem, load_trained
from tests.helpers_archive import FakeArchive, samples_table, stations_table
from tests.test_contending import made_up

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A dataset of ten stations: tables, two coarse scalars, chips of 256 pixels."""
    out = tmp_path_factory.mktemp("dataset")
    stations = stations_table(10)
    samples, _ = chips.build(
        samples_table(stations, passes=2), FakeArchive(), out / "chips.zarr",
        stations=stations, size_px=256, progress=False,
    )  # fmt: skip
    scalars = {"smap_ssm": (5, 20), "gldas_SoilMoi0_10cm_inst": (10, 40)}
    features = pd.DataFrame({n: np.linspace(*ends, len(samples)) for n, ends in scalars.items()})
    features.insert(0, "sample_id", samples["sample_id"].to_numpy())
    for name, table in (("stations", stations), ("samples", samples), ("features", features)):
        table.to_parquet(out / f"{name}.parquet", index=False)
    return out


def layer(source, n_bands, pixel_size_m, value):
    side = round(2880 / pixel_size_m)
    grid = Grid("EPSG:32614", 500_000.0, 4_000_000.0, pixel_size_m, side, side)
    return Chip(np.full((n_bands, side, side), value), (), grid)


def images(_):
    """A region of 2.88 km: two cells of 320 m along and down."""
    region = {"sentinel1": layer("sentinel1", 3, 10.0, -12.0), "dem": layer("dem", 1, 10.0, 300.0)}
    region |= {"sentinel2": layer("sentinel2", 10, 10.0, 900.0)}
    return region | {"soilgrids": layer("soilgrids", 4, 160.0, 250.0), "smap": 12.5, "gldas": 30.0}


def split_of(folder):
    samples, stations = (pd.read_parquet(folder / f"{n}.parquet") for n in ("samples", "stations"))
    return splits.by_station(samples, stations, seed=0)


class Fusion:
    """The fusion model on a dataset's folder."""

    def __init__(self, **options):
        self.options = {"preset": "small", "seed": 1, **options}
        self.load, self.cube = xception_fusion.load, images

    def train(self, folder, out_dir):
        """The data, their split and the trained model."""
        split = split_of(folder)
        trained = xception_fusion.train(folder, split, out_dir=out_dir, **self.options)
        return folder, split, trained


class Table:
    """A system of tables on rows that are made up."""

    def __init__(self, name, **options):
        self.name, self.options = name, {"preset": "small", "seed": 1, **options}
        self.load = partial(load_trained, allow_pickle="forest" in name)

    def train(self, _, out_dir):
        """The data, their split and the trained model."""
        strata = pd.DataFrame({"texture": np.where(np.arange(48) % 2, "Loam", "Sand")})
        problem = Problem(*made_up(n_stations=6, n_windows=8), strata)
        early = problem.samples["station_id"] < "SCAN/s4"
        split = pd.Series(np.where(early, "train", "test"))
        trained = SYSTEMS[self.name].train(problem, split, out_dir=out_dir, **self.options)
        return problem, split, trained

    def cube(self, problem):
        """A grid of 3 x 2 cells at two times with the values of samples."""
        dims, features = ("time", "y", "x"), problem.features.drop(columns="sample_id")
        values = {
            name: (dims, column.to_numpy().reshape(3, 2, 8).swapaxes(0, 2)[:2])
            for name, column in features.items()
        }
        values["texture"] = (("y", "x"), np.full((2, 3), "Loam"))
        times = pd.to_datetime(["2020-01-01", "2020-01-11"])
        where = {
            "latitude": (("y", "x"), np.full((2, 3), 35.0)),
            "longitude": (("y", "x"), np.full((2, 3), -100.0)),
        }
        axes = {"time": times, "y": [1.0, 0.0], "x": [0.0, 1.0, 2.0]}
        return xr.Dataset(values, axes | where)


CASES = {
    "fusion": Fusion(epochs=1, batch_size=4),
    "SMAP and GLDAS": Fusion(epochs=2, sources=("smap", "gldas")),
    "SMAP line": Table("SMAP line"),
    "dense ensemble": Table("dense ensemble", epochs=2),
    "prob ensemble": Table("prob ensemble", epochs=2),
    "wide and deep ensemble": Table("wide and deep ensemble", epochs=2),
    "two parts: nowcast": Table("two parts: nowcast"),
    "two parts: network": Table("two parts: network"),
    "forest: all": Table("forest: all", n_trees=5),
    "texture forest": Table("texture forest", n_trees=5),
}


@pytest.fixture(scope="module", params=CASES, ids=str)
def case(request, folder, tmp_path_factory):
    """A case, its data, their split and its trained model."""
    chosen, out = CASES[request.param], tmp_path_factory.mktemp("out")
    return chosen, *chosen.train(folder, out)


def test_predictions_keep_the_contract_and_hold_every_sample(case):
    _, data, split, trained = case
    samples = getattr(data, "samples", None)
    if samples is None:
        samples = pd.read_parquet(data / "samples.parquet")
    table = trained.predict(data)
    contracts.check(table, contracts.PREDICTIONS)
    assert table["sample_id"].astype(str).tolist() == samples["sample_id"].astype(str).tolist()
    assert table["split"].tolist() == list(split)
    assert set(table["model"]) == {trained.name}
    assert np.isfinite(table["predicted_m3_m3"]).all()


def test_a_loaded_model_says_the_same(case, tmp_path):
    """The labels of its training it may have forgotten."""
    chosen, data, _, trained = case
    trained.save(tmp_path / "kept" / "model.pt")
    again = chosen.load(tmp_path / "kept" / "model.pt")
    assert again.name == trained.name
    ours, theirs = (t.predict(data).drop(columns="split") for t in (again, trained))
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)


def test_a_map_has_moisture_with_its_unit_on_the_cubes_ground(case):
    chosen, data, _, trained = case
    moisture = trained.map(chosen.cube(data))["soil_moisture"]
    assert moisture.dims[-2:] == ("y", "x") and moisture.attrs["units"] == "m3 m-3"
    assert np.isfinite(moisture.values).all()


def test_the_same_seed_gives_the_same_predictions(case, folder, tmp_path):
    chosen, data, _, trained = case
    again = chosen.train(folder, tmp_path)[-1].predict(data)
    assert again["predicted_m3_m3"].equals(trained.predict(data)["predicted_m3_m3"])


def test_a_file_of_another_kind_is_refused(case, tmp_path):
    (tmp_path / "model.pt").write_bytes(b"no model")
    with pytest.raises(CheckpointError):
        case[0].load(tmp_path / "model.pt")


def test_a_split_of_other_samples_is_refused(folder):
    with pytest.raises(ContractError, match="[Ss]plit"):
        xception_fusion.train(folder, ["train"])


def test_a_fusion_model_remembers_how_much_it_was_shown(folder, tmp_path):
    """Trained on 640 m, it predicts and maps by windows of 640 m, also when it is loaded."""
    trained = Fusion(epochs=1, batch_size=4, crop_px=64).train(folder, None)[-1]
    trained.save(tmp_path / "model.pt")
    again = xception_fusion.load(tmp_path / "model.pt")
    assert again.model.config.crop_px == 64
    assert again.map(images(folder))["soil_moisture"].shape == (8, 8)  # (2880 - 640) / 320 + 1
    kept = again.checkpoint.configuration
    del kept["crop_px"]  # as of checkpoints before crops were kept: the paper's
    assert xception_fusion.XceptionFusion.from_checkpoint(again.checkpoint).config.crop_px == 256


def test_a_fusion_model_rounded_for_speed_draws_nearly_the_same_map(folder):
    trained = CASES["fusion"].train(folder, None)[-1]
    exact, rounded = (
        trained.map(images(folder), precision=precision, progress=False)["soil_moisture"]
        for precision in ("float32", "bfloat16")
    )
    np.testing.assert_allclose(rounded, exact, atol=0.02)
    with pytest.raises(UnknownNameError, match="No precision 'float16'"):
        trained.map(images(folder), precision="float16")

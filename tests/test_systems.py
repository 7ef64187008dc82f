"""Every system trains, predicts, keeps itself and draws a map, in the same words."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from soilkit import contracts
from soilkit.contracts import Chip, Grid
from soilkit.errors import CheckpointError, ContractError
from soilkit.export import chips
from soilkit.metrics import splits
from soilkit.models import xception_fusion
from tests.helpers_archive import FakeArchive, samples_table, stations_table

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


@dataclass(frozen=True)
class Case:
    """A system, what it is trained with, and a cube of (its data) to map."""

    system: Any
    options: dict[str, Any]
    cube: Any
    data: Any = None  # of the folder; None takes the folder itself

    def trained(self, folder, out_dir):
        data = folder if self.data is None else self.data(folder)
        return data, self.system.train(
            data, split_of(folder), preset="small", seed=1, out_dir=out_dir, **self.options
        )


def split_of(folder):
    samples, stations = (pd.read_parquet(folder / f"{n}.parquet") for n in ("samples", "stations"))
    return splits.by_station(samples, stations, seed=0)


CASES = {
    "fusion": Case(xception_fusion, {"epochs": 1, "batch_size": 4}, images),
    "SMAP and GLDAS": Case(xception_fusion, {"epochs": 2, "sources": ("smap", "gldas")}, images),
}


@pytest.fixture(scope="module", params=CASES, ids=str)
def case(request, folder, tmp_path_factory):
    """A case, its data, and its trained model."""
    chosen, out = CASES[request.param], tmp_path_factory.mktemp("out")
    return chosen, *chosen.trained(folder, out), out


def test_predictions_keep_the_contract_and_hold_every_sample(case, folder):
    _, data, trained, _ = case
    table, samples = trained.predict(data), pd.read_parquet(folder / "samples.parquet")
    contracts.check(table, contracts.PREDICTIONS)
    assert table["sample_id"].astype(str).tolist() == samples["sample_id"].astype(str).tolist()
    assert table["split"].tolist() == list(split_of(folder))
    assert set(table["model"]) == {trained.name}
    assert np.isfinite(table["predicted_m3_m3"]).all()


def test_a_loaded_model_says_the_same(case, tmp_path):
    """To the last digit; the labels of its training it has forgotten."""
    chosen, data, trained, _ = case
    trained.save(tmp_path / "model.pt")
    again = chosen.system.load(tmp_path / "model.pt")
    assert again.name == trained.name
    ours, theirs = again.predict(data), trained.predict(data)
    assert ours["predicted_m3_m3"].equals(theirs["predicted_m3_m3"])


def test_a_map_has_moisture_with_its_unit_on_the_cubes_ground(case, folder):
    chosen, data, trained, _ = case
    mapped = trained.map(chosen.cube(data))
    moisture = mapped["soil_moisture"]
    assert moisture.dims == ("y", "x") and moisture.attrs["units"] == "m3 m-3"
    assert np.isfinite(moisture.values).all()


def test_the_same_seed_gives_the_same_predictions(case, folder, tmp_path):
    chosen, data, trained, _ = case
    _, again = chosen.trained(folder, tmp_path)
    assert again.predict(data)["predicted_m3_m3"].equals(trained.predict(data)["predicted_m3_m3"])


def test_a_file_of_another_kind_is_refused(case, tmp_path):
    chosen, *_ = case
    (tmp_path / "model.pt").write_bytes(b"no model")
    with pytest.raises(CheckpointError):
        chosen.system.load(tmp_path / "model.pt")


def test_a_split_of_other_samples_is_refused(case, folder):
    chosen, data, *_ = case
    with pytest.raises(ContractError, match="[Ss]plit"):
        chosen.system.train(data, ["train"], preset="small", seed=0, out_dir=None)


def test_a_fusion_model_rounded_for_speed_draws_nearly_the_same_map(folder):
    _, trained = CASES["fusion"].trained(folder, None)
    exact, rounded = (
        trained.map(images(folder), precision=precision, progress=False)["soil_moisture"]
        for precision in ("float32", "bfloat16")
    )
    np.testing.assert_allclose(rounded, exact, atol=0.02)

"""A study ends with the same rows however it was interrupted, and tells what broke."""

import dataclasses
import errno
import json
import os

import numpy as np
import pandas as pd
import pytest
import torch

from soilkit import studies
from soilkit.errors import ContractError, StoreError, UnknownNameError
from soilkit.export import chips, ten_day_table
from soilkit.models import training
from tests.benchmarks import fusion_experiments, fusion_tables, fusion_trial
from tests.benchmarks.fusion_experiments import Experiment, Profile, Study, Variant
from tests.benchmarks.fusion_study import main
from tests.benchmarks.fusion_trial import Recipe, Trial
from tests.benchmarks.trials import Job, Rows, run
from tests.helpers_archive import FakeArchive, samples_table, stations_table
from tests.helpers_jobs import die

torch.set_num_threads(1)
PASSES = 14  # a sensor's score needs 13 samples
SCALARS = {"high": (), "low": ()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A dataset of 15 stations in as many 2-degree blocks, whose label follows SMAP."""
    out = tmp_path_factory.mktemp("dataset")
    stations = stations_table(15).assign(land_cover="Shrubs", texture="loam", koeppen="BSk")
    stations["longitude"] = -120.0 + 3 * (stations["longitude"] + 98.0) / 0.1
    samples = samples_table(stations, passes=PASSES)
    rng = np.random.default_rng(0)
    wet = rng.normal(0.25, 0.05, len(samples))
    samples["soil_moisture_m3_m3"] = wet
    archive = FakeArchive()
    samples, _ = chips.build(
        samples, archive, out / "chips.zarr", stations=stations, size_px=64, progress=False
    )
    features = pd.DataFrame(
        {
            "sample_id": samples["sample_id"],
            "smap_ssm": 50 * (samples["soil_moisture_m3_m3"] + rng.normal(0, 0.03, len(samples))),
            "gldas_SoilMoi0_10cm_inst": 100 * rng.normal(0.3, 0.05, len(samples)),
        }
    )
    for name, table in (("stations", stations), ("features", features), ("samples", samples)):
        table.to_parquet(out / f"{name}.parquet", index=False)
    return out


def profile(folder, **changes):
    base = Trial(recipe="here", crop_px=32, batch_size=8, steps=5, validations=5, **changes)
    return Profile(base, {"here": Recipe("here", folder=str(folder), label="analytic")})


def experiment(**variants):
    lines = {name: Variant(changes) for name, changes in variants.items()}
    return Experiment("two", "Two lines", next(iter(lines)), lines, n_seeds=1)


def study(folder, work, *experiments, **options):
    told = {"workers": 0, **options}
    return Study(tuple(experiments), profile(folder), work=work, **told)


def plain(row):
    """A row without the seconds, which no one can repeat."""
    return {k: v for k, v in row.items() if not k.endswith("seconds")}


PAIR = experiment(scalars=SCALARS, images={"high": ("dem",), "low": (), "coarse": ()})


def test_a_study_of_two_trials_ends_in_rows_and_tables(folder, tmp_path):
    """Two processes; every line has its scores, weights and curve."""
    found = study(folder, tmp_path, PAIR, workers=2).run()

    assert [row["status"] for row in found] == ["ok", "ok"]
    assert all(row["n_weights"] > 0 and row["flops"] > 0 for row in found)
    assert all(len(row["history"]) == 5 for row in found)
    evaluation = found[0]["evaluations"][0]
    assert evaluation["split"] == "validation"
    assert len(evaluation["sensors"]["r"]) >= 3


class Killed(BaseException):
    """Stands for a signal."""


def test_a_killed_study_ends_with_the_rows_of_an_undisturbed_one(folder, tmp_path, monkeypatch):
    """Killed within the second trial: the first is not run again, the second goes on."""
    pair = experiment(two=SCALARS, one=SCALARS | {"coarse": ("smap",)})
    whole = study(folder, tmp_path / "whole", pair).run()
    calls, train = [], training.fit

    def killed(model, loaders, step, look, **options):
        calls.append(model)
        if len(calls) == 2:
            left = iter(range(3))

            def dying(model, batch):
                if next(left, None) is None:
                    raise Killed
                return step(model, batch)

            return train(model, loaders, dying, look, **options)
        return train(model, loaders, step, look, **options)

    monkeypatch.setattr(training, "fit", killed)
    with pytest.raises(Killed):
        study(folder, tmp_path / "parted", pair).run()
    half = study(folder, tmp_path / "parted", pair)
    assert len(half.due()) == 1
    again = half.run()

    assert [plain(row) for row in again] == [plain(row) for row in whole]
    assert len(calls) == 3


def test_equal_trials_of_two_tables_are_run_once(folder, tmp_path):
    """The baseline of Table 16 is the last line of Table 9."""
    one = experiment(all=SCALARS)
    other = dataclasses.replace(one, name="another", variants={"baseline": Variant(SCALARS)})
    found = study(folder, tmp_path, one, other)

    assert len(found.run()) == 1
    assert [line.variant for line in found.lines] == ["all", "baseline"]


@pytest.mark.parametrize(
    "change", [{"steps": 6}, {"seed": 1}, {"loss": "mse"}, {"coarse": ("smap",)}, {"crop_px": 64}]
)
def test_a_changed_definition_is_a_new_trial(change):
    base = Trial()
    assert dataclasses.replace(base, **change).key("data") != base.key("data")
    assert base.key("other data") != base.key("data")
    assert dataclasses.replace(base, recipe="renamed").key("data") == base.key("data")


def test_a_broken_trial_is_a_row_and_stops_no_other(folder, tmp_path):
    """A source that the dataset lacks is refused by name; a learning rate may be too high."""
    lines = experiment(
        lai={"low": ("soilgrids", "modis_lai")},
        wild=SCALARS | {"learning_rate": 1e30, "optimizer": "sgd"},
        good=SCALARS,
    )
    lai, wild, good = study(folder, tmp_path, lines).run()

    assert "lacks modis_lai" in lai["status"]
    assert wild["status"].startswith("DivergedError")
    assert good["status"] == "ok"
    assert study(folder, tmp_path, lines).due() == []
    assert len(study(folder, tmp_path, lines, again=True).due()) == 2


def test_a_process_that_dies_leaves_a_row_that_says_so(tmp_path):
    rows = Rows(tmp_path)
    run([Job("dying", "a job that dies", die)], rows, workers=1)
    assert rows.read("dying")["status"] == "killed: its process ended with 9"


def test_the_test_split_is_predicted_only_when_asked_and_the_row_says_so(folder, tmp_path):
    lines = experiment(scalars=SCALARS)
    blind = study(folder, tmp_path, lines).run()[0]
    seen = study(folder, tmp_path, lines, look_at_test=True).run()[0]

    assert [e["split"] for e in blind["evaluations"]] == ["validation"]
    assert not blind["looked_at_test"] and seen["looked_at_test"]
    assert [e["split"] for e in seen["evaluations"]] == ["validation", "test"]
    assert seen["evaluations"][0] == blind["evaluations"][0]
    assert study(folder, tmp_path, lines, look_at_test=True).due() == []
    at_once = study(folder, tmp_path / "at once", lines, look_at_test=True).run()[0]
    assert plain(at_once) == plain(seen)


def test_a_product_is_scored_as_it_comes(folder, tmp_path):
    """SMAP here is the label with noise of 0.03; what the row says is what numpy says."""
    lines = experiment(smap=SCALARS | {"coarse": (), "product": "smap"})
    row = study(folder, tmp_path, lines).run()[0]
    data = fusion_trial.Data(folder)
    scores = pd.DataFrame(row["evaluations"][0]["sensors"]).set_index("sensor_id")
    sensor = scores.index[0]
    mine = data.samples["sensor_id"] == sensor
    smap = data.features.loc[mine, "smap_ssm"].to_numpy() / 50
    label = data.samples.loc[mine, "soil_moisture_m3_m3"].to_numpy()

    assert scores.loc[sensor, "r"] == pytest.approx(np.corrcoef(smap, label)[0, 1], abs=1e-6)
    assert scores.loc[sensor, "ubrmse_m3_m3"] == pytest.approx((smap - label).std(), abs=1e-6)
    assert row["n_weights"] == 0


def test_a_crop_larger_than_the_chips_is_refused_never_enlarged(folder, tmp_path):
    lines = experiment(large={"crop_px": 128, "low": (), "coarse": ()})
    assert "128 pixels does not fit" in study(folder, tmp_path, lines).run()[0]["status"]


def test_lines_whose_dataset_stands_nowhere_are_left_out_by_name(folder, tmp_path, caplog):
    """Table 21 without a dataset that is anchored on SMAP keeps its other half."""
    lines = experiment(here=SCALARS, there=SCALARS | {"recipe": "there"})
    asked = study(folder, tmp_path, lines)
    absent = Recipe("there", folder=str(tmp_path / "nowhere"))
    asked.profile = Profile(asked.profile.base, {**asked.profile.recipes, "there": absent})

    assert [line.variant for line in asked.plan()] == ["here"]
    assert "two, there" in caplog.text and "notebook 10" in caplog.text


def test_a_notebook_opens_the_study_that_was_run(folder, tmp_path):
    """What was run is read, never run again."""
    asked = {"only": ["table16"], "dataset": folder, "steps": 1, "seed": 0, "label": "analytic"}
    done = study(folder, tmp_path, dataclasses.replace(experiment(x=SCALARS), name="table16"))
    done.run()
    fusion_tables.write_study(done, tmp_path / "tables")
    found = studies.open_study(tmp_path / "tables", **asked)

    assert found["lines"]["variant"].tolist() == ["x"]


def test_a_notebook_tries_what_was_not_run(folder, tmp_path):
    """A product and two scalars are scored; a try without a dataset is refused by name."""
    asked = {"only": ["table21"], "steps": 1, "seed": 0, "label": "analytic"}
    with pytest.raises(ContractError, match="notebook 10"):
        studies.open_study(tmp_path, dataset=tmp_path / "none", **asked)
    found = studies.open_study(tmp_path, dataset=folder, **asked)
    table = studies.experiment_table(found, "table21").query("metric == 'r'")
    status = table.set_index("variant")["status"]

    assert set(found["trials"]["data"]) == {"analytic"} and (found["trials"]["steps"] <= 5).all()
    assert status[f"{fusion_experiments.COARSE_NN}, SMAP anchored"] == "no trial stands"
    assert (found["sensors"]["split"] == "validation").all() and len(found["sensors"]) >= 9


def test_a_damaged_row_is_named(tmp_path):
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(StoreError, match="x.json"):
        Rows(tmp_path).read("x")
    for text in ("[]", '{"format_version": 1}'):
        Rows(tmp_path).path("x").write_text(text)
        with pytest.raises(StoreError, match="x.json is damaged.*Delete it"):
            Rows(tmp_path).read("x")


def test_a_full_disk_is_named_and_leaves_what_stood(tmp_path, monkeypatch):
    rows = Rows(tmp_path)
    rows.write(Job("x", "x", dict))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StoreError, match="disk is full while writing .*x.json.*Free some space"):
        rows.write(Job("x", "x", dict), status="worse")
    assert rows.read("x")["status"] == "ok" and len(list(tmp_path.iterdir())) == 1


def test_a_damaged_dataset_is_named(tmp_path):
    for name in ("stations", "features", "samples"):
        pd.DataFrame({"sample_id": ["a"]}).to_parquet(tmp_path / f"{name}.parquet")
    (tmp_path / "features.parquet").write_bytes(b"PAR1 half")
    with pytest.raises(StoreError, match="features.parquet is damaged"):
        fusion_trial.Data(tmp_path)
    with pytest.raises(StoreError, match="features.parquet is damaged"):
        ten_day_table.read_dataset(tmp_path)


def test_a_folder_without_a_dataset_is_refused(tmp_path):
    with pytest.raises(ContractError, match="notebook 10"):
        fusion_trial.prepare(Recipe("mine", folder=str(tmp_path)), tmp_path)


def test_an_unknown_experiment_is_refused_with_the_list():
    with pytest.raises(UnknownNameError, match="table9"):
        fusion_experiments.chosen(["table99"])


def test_the_command_writes_the_tables_of_a_dataset_that_stands(folder, tmp_path):
    """The same command as for the world, on a folder of notebook 10 or 12."""
    words = [str(tmp_path / "out"), "--only", "table9", "--seeds", "0", "--workers", "0"]
    words += ["--dataset", str(folder), "--label", "analytic", "--steps", "2"]
    with pytest.MonkeyPatch.context() as patch:
        small = dataclasses.replace(fusion_experiments.PROFILES["small"], base=profile(folder).base)
        small = dataclasses.replace(small, base=dataclasses.replace(small.base, recipe="sentinel1"))
        patch.setitem(fusion_experiments.PROFILES, "small", small)
        main(words)
    table = pd.read_csv(tmp_path / "out" / "tables.csv")
    trials = pd.read_csv(tmp_path / "out" / "trials.csv")

    assert set(table["variant"]) == set(fusion_experiments.chosen(["table9"])[0].variants)
    assert table["ours"].notna().sum() == 21
    assert set(trials["status"]) == {"ok"} and set(trials["data"]) == {"analytic"}
    found = studies.read_study(tmp_path / "out")
    assert found["series"]["sensor_id"].nunique() >= 2
    assert set(found["strata"]["stratum"]) == {"land_cover", "texture", "koeppen", "network"}
    assert json.loads((next((tmp_path / "work").rglob("rows/*.json"))).read_text())["key"]

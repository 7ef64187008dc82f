"""Systems of tables: what they refuse, folds, and maps; tests/test_systems.py holds the rest."""

import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from soilkit.errors import CheckpointError, ContractError, LeakageError, UnknownNameError
from soilkit.models.tabular import SYSTEMS, Problem, load_trained
from soilkit.models.training.checkpoint import write_atomic
from tests.test_contending import made_up

QUICK = {"forest: all": {"n_trees": 5}, "texture forest": {"n_trees": 5}}


@pytest.fixture(scope="module")
def problem():
    data = made_up(n_stations=6, n_windows=8)
    strata = pd.DataFrame({"texture": np.where(np.arange(48) % 2, "Loam", "Sand")})
    return Problem(*data, strata)


def trained(problem, name, **settings):
    split = np.where(problem.samples["station_id"] < "SCAN/s4", "train", "test")
    settings = {"preset": "small"} | QUICK.get(name, {}) | settings
    return SYSTEMS[name].train(problem, pd.Series(split), **settings)


def test_no_file_runs_code_unasked(problem, tmp_path):
    path = tmp_path / "forest"
    trained(problem, "forest: all").save(path)
    with pytest.raises(CheckpointError, match="allow_pickle=True"):
        load_trained(path)
    path.write_bytes(pickle.dumps(print))
    with pytest.raises(CheckpointError, match="no soilkit table"):
        load_trained(path)


def test_files_of_other_kinds_and_versions_are_refused(problem, tmp_path):
    path = tmp_path / "file"
    with pytest.raises(CheckpointError, match="No soilkit table at"):
        load_trained(path)
    torch.save({"format_version": 1, "trained": {}}, path)
    with pytest.raises(CheckpointError, match="no soilkit table"):
        load_trained(path)
    trained(problem, "SMAP line").save(path)
    path.write_bytes(path.read_bytes().replace(b"table 3", b"table 99", 1))
    with pytest.raises(CheckpointError, match="format version 3: it begins with .*table 99"):
        load_trained(path)
    write_atomic(path, {"weights": 1}, kind="soilkit table", version=3)
    with pytest.raises(CheckpointError, match="holds a dict, no trained system"):
        load_trained(path)
    trained(problem, "forest: all").save(path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(CheckpointError, match="damaged"):
        load_trained(path, allow_pickle=True)


@pytest.mark.parametrize("name", ["dense ensemble", "forest: all"])
def test_no_flipped_bit_of_a_saved_system_loads_as_another(problem, tmp_path, name):
    """Nor is a damaged pickle ever handed to its reader, trusted or not."""
    path, draw = tmp_path / "model", np.random.default_rng(0)
    trained(problem, name).save(path)
    whole = path.read_bytes()
    for bit in draw.integers(0, 8 * len(whole), 50):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="damaged"):
            load_trained(path, allow_pickle=True)


def test_folds_that_part_a_station_want_a_leaky_system(problem):
    dealt = problem.random_folds("all")
    with pytest.raises(LeakageError, match="6 of 6 stations stand in two folds or more"):
        SYSTEMS["SMAP line"].train(problem, dealt)
    leaky = replace(SYSTEMS["SMAP line"], kind="leaky").train(problem, dealt)
    assert np.isfinite(leaky.predict(problem)["predicted_m3_m3"]).all()


def test_samples_of_folds_are_predicted_by_models_that_never_saw_them(problem):
    """Moisture of another world at a station moves its own prediction by nothing."""
    folds = problem.folds("all")
    line = SYSTEMS["SMAP line"]
    one = line.train(problem, folds, rows=problem.scored("all")).predict(problem)
    own = problem.samples["station_id"] == "SCAN/s2"
    other = problem.samples["soil_moisture_m3_m3"].mask(own, 0.9)
    changed = Problem(problem.stations, problem.samples.assign(soil_moisture_m3_m3=other),
                      problem.features)  # fmt: skip
    two = line.train(changed, folds).predict(changed)
    same = np.isclose(one["predicted_m3_m3"], two["predicted_m3_m3"])
    assert same[own].all() and not same[~own].all()
    assert set(one["split"]) == {"by block"}
    strange = problem.samples.assign(sample_id=problem.samples["sample_id"] + "x")
    with pytest.raises(ContractError, match="no sample asked stands in one"):
        line.train(problem, folds).predict(Problem(problem.stations, strange, problem.features))


def test_an_answer_is_the_same_whatever_other_rows_are_asked():
    """A mean is pulled by what all rows of its station say."""
    problem = Problem(*made_up(n_stations=16, n_windows=12))
    every = pd.Series(["train"] * len(problem.samples))
    system = SYSTEMS["two parts: nowcast"].train(problem, every, preset="small")
    assert system.supports["train"].pull > 0
    rows = np.arange(len(every)) % 3 == 0
    whole = system.predict(problem)
    pd.testing.assert_frame_equal(system.predict(problem, rows=rows), whole[rows])


def test_stations_alike_in_all_predictors_train_and_get_intervals():
    stations, samples, features = made_up(n_stations=12, n_windows=8)
    window = samples.groupby("station_id").cumcount()
    columns = features.columns.drop("sample_id")
    features[columns] = features[columns].groupby(window).transform("first")
    problem, every = Problem(stations, samples, features), pd.Series(["train"] * len(samples))
    system = SYSTEMS["two parts: nowcast"].train(problem, every, preset="small")
    table = system.predict(problem)
    assert np.isfinite(table[["predicted_m3_m3", "lower_m3_m3", "upper_m3_m3"]]).all(axis=None)


@pytest.mark.parametrize("name", ["SMAP line", "forest: all", "two parts: nowcast"])
def test_a_map_is_the_prediction_of_each_cell(problem, name):
    """Cells with the values of samples get the moisture of those samples."""
    one, dims = trained(problem, name), ("time", "y", "x")
    columns = [c for c in problem.features if c != "sample_id"]
    values = {c: (dims, problem.features[c].to_numpy().reshape(3, 2, 8).swapaxes(0, 2)[:2])
              for c in columns}  # fmt: skip
    times = pd.to_datetime(["2020-01-01", "2020-01-11"])
    where = {"latitude": (("y", "x"), np.full((2, 3), 35.0)),
             "longitude": (("y", "x"), np.full((2, 3), -100.0))}  # fmt: skip
    cube = xr.Dataset(values, {"time": times, "y": [1.0, 0.0], "x": [0.0, 1.0, 2.0], **where})
    made = one.map(cube)["soil_moisture"]
    assert made.dims == dims and made.shape == (2, 2, 3)
    assert np.isfinite(made).all()
    if name == "SMAP line":
        by_hand = one.predict(problem)["predicted_m3_m3"].to_numpy().reshape(3, 2, 8)
        np.testing.assert_allclose(made, by_hand.swapaxes(0, 2)[:2])


def test_a_strange_preset_and_missing_strata_are_refused(problem):
    with pytest.raises(UnknownNameError, match="'huge'"):
        trained(problem, "SMAP line", preset="huge")
    bare = Problem(problem.stations, problem.samples, problem.features)
    with pytest.raises(ContractError, match="--ismn"):
        trained(bare, "texture forest")


@pytest.mark.filterwarnings("ignore:the .*:UserWarning")
def test_intervals_widen_where_a_table_knows_less():
    """Few windows, missing predictors, another land: wider each, inside 0 and 1, and counted."""
    data = made_up(n_stations=24, n_windows=20)
    everything = Problem(*data)
    trains = everything.samples["station_id"].str[6:].astype(int) < 18
    split = pd.Series(np.where(trains, "train", "test"))
    one = SYSTEMS["two parts: retrospective"].train(everything, split, preset="small")

    def asked(samples, features):
        new = samples.assign(sample_id="new " + samples["sample_id"])
        problem = Problem(everything.stations, new, features.assign(sample_id=new["sample_id"]))
        with pytest.warns(UserWarning, match="rows asked") as caught:
            made = one.predict(problem)
        assert made[["lower_m3_m3", "predicted_m3_m3", "upper_m3_m3"]].stack().between(0, 1).all()
        return made["predicted_std_m3_m3"].mean(), str(caught[0].message)

    new = one.predict(everything)[~trains]
    lower, observed, upper = (new[f"{k}_m3_m3"] for k in ("lower", "observed", "upper"))
    rmse = np.sqrt(((new["predicted_m3_m3"] - observed) ** 2).mean())
    assert observed.between(lower, upper).mean() > 0.85
    assert (upper - lower).mean() < 7 * rmse  # of a normal error 3.3 hold 90 %
    samples, features = (t[~trains].reset_index(drop=True) for t in data[1:])
    first = np.arange(len(samples)) % 20 < 6
    whole, words = asked(samples, features)
    few, few_words = asked(*(t[first].reset_index(drop=True) for t in (samples, features)))
    gaps, _ = asked(samples, features.assign(sentinel1_VV=np.nan))
    strange, strange_words = asked(samples, features.assign(soil_field_capacity_pct=300.0))
    assert min(few, gaps, strange) > whole
    assert "24 lacking a predictor" in words
    assert "36 at a station with 15 windows or fewer" in few_words
    assert "120 unlike every training station" in strange_words


def test_predictors_of_another_table_at_the_same_station_give_context(problem):
    """Half of a series asked beside the other half is predicted as in the whole series."""
    one = trained(problem, "two parts: retrospective")
    late = problem.samples["time"] > problem.samples["time"].median()
    half, rest = (
        Problem(problem.stations, *(t[m].reset_index(drop=True) for t in
                                    (problem.samples, problem.features)))
        for m in (late, ~late)
    )  # fmt: skip
    whole = one.predict(problem)[late.to_numpy()]["predicted_m3_m3"].to_numpy()
    beside = one.predict(replace(half, context=rest))["predicted_m3_m3"].to_numpy()
    np.testing.assert_allclose(beside, whole)
    assert np.abs(one.predict(half)["predicted_m3_m3"].to_numpy() - whole).max() > 1e-3


def test_networks_state_no_negative_moisture(problem):
    """Far below every training value of SMAP there is dry soil, not less than none."""
    one = trained(problem, "dense ensemble", epochs=20)
    dry = problem.features.assign(smap_ssm=-80.0)
    made = one.predict(Problem(problem.stations, problem.samples, dry))
    assert made["predicted_m3_m3"].min() == 0.0


def test_an_ensemble_that_balances_strata_is_calibrated_on_rows_from_anywhere():
    data = made_up(n_stations=16, n_windows=16)
    strata = pd.DataFrame({"texture": np.where(np.arange(256) % 2, "Loam", "Sand")})
    problem = Problem(*data, strata)
    of_four = problem.samples["station_id"].str[6:].astype(int) < 4
    split = pd.Series(np.where(of_four, "test", "train"))
    model = SYSTEMS["dense ensemble"].train(problem, split, preset="small")
    asked = model.predict(problem)[of_four.to_numpy()].dropna(subset="predicted_m3_m3")
    assert len(asked) and (asked["lower_m3_m3"] < asked["upper_m3_m3"]).all()


def test_an_interval_is_as_many_standard_errors_as_the_system_says(problem):
    one = trained(problem, "prob ensemble")
    made = replace(one, n_std=0.5).predict(problem)
    half = made["upper_m3_m3"] - made["predicted_m3_m3"]
    np.testing.assert_allclose(half, 0.5 * made["predicted_std_m3_m3"], rtol=1e-5)

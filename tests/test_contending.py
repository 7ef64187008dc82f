"""The contest of tabular procedures, and the blend, on a few made-up stations."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.linear_model import LinearRegression

from soilkit.errors import ContractError, StoreError
from soilkit.export import ten_day_table
from soilkit.metrics import splits
from soilkit.models.tabular import systems, two_part
from soilkit.models.tabular.two_part import Blend, weigh
from soilkit.studies.contest import kept_means
from tests.benchmarks import contest as contending
from tests.benchmarks.contest import Contest

TREES, NETWORK = "extra trees: nowcast", "two parts: network"
LINE, FOREST = "SMAP line", contending.FOREST


def made_up(n_stations=12, n_windows=24, seed=0):
    """Stations 3 degrees apart whose moisture follows SMAP; every fifth window lacks radar."""
    rng = np.random.default_rng(seed)
    station, window = np.divmod(np.arange(n_stations * n_windows), n_windows)
    wet = rng.normal(size=len(station))
    soil = rng.uniform(10, 40, n_stations)
    name = pd.Series([f"SCAN/s{i}" for i in station])
    time = pd.Timestamp("2020-01-01") + pd.to_timedelta(10 * window, unit="D")
    samples = pd.DataFrame(
        {
            "sample_id": name + "_" + pd.Series(window).astype(str),
            "sensor_id": name,
            "station_id": name,
            "time": time.astype("datetime64[us]"),
            "soil_moisture_m3_m3": np.clip(0.005 * soil[station] + 0.05 * wet + 0.1, 0.01, 0.9),
            "label_days": 10.0,
        }
    )
    radar = np.where(window % 5 == 4, np.nan, -12 + wet + rng.normal(size=len(wet)))
    features = pd.DataFrame(
        {
            "sample_id": samples["sample_id"],
            "smap_ssm": 15 + 4 * wet + rng.normal(0, 1, len(wet)),
            "sentinel1_VV": radar,
            "soil_field_capacity_pct": soil[station],
        }
    )
    at = np.arange(n_stations)
    stations = pd.DataFrame(
        {
            "sensor_id": [f"SCAN/s{i}" for i in at],
            "station_id": [f"SCAN/s{i}" for i in at],
            "network": "SCAN",
            "station": [f"s{i}" for i in at],
            "latitude": 30.5 + 3 * (at % 4),
            "longitude": -100.5 + 3 * (at // 4),
            "elevation_m": 100.0,
            "depth_from_m": 0.0,
            "depth_to_m": 0.05,
            "land_cover": "",
            "koeppen": "",
            "texture": "",
        }
    )
    return ten_day_table.TabularDataset(stations, samples, features)


@pytest.fixture
def quick(monkeypatch):
    """Two folds, eight trees, two penalties and one distance, where procedures have more."""
    monkeypatch.setattr(splits, "folds", partial(two_folds, splits.folds))
    monkeypatch.setattr(systems, "TREES", {"paper": 8})
    monkeypatch.setattr(systems, "extra_trees", small_trees)
    monkeypatch.setattr(systems, "forest", lambda seed, n_trees, n_jobs=1: small_trees())
    monkeypatch.setattr(two_part, "PENALTIES", ("penalty", (100.0, 1000.0)))
    monkeypatch.setattr(two_part, "REACHES_KM", ("reach_km", (300.0,)))


def two_folds(folds, groups, *, n_folds=5, seed=0):
    return folds(groups, n_folds=2, seed=seed)


def small_trees(n_trees=8, seed=0):
    return ExtraTreesRegressor(8, min_samples_leaf=5, random_state=seed)


@pytest.fixture(scope="module")
def problem():
    return contending.problem_of(made_up())


def test_a_second_call_runs_nothing_and_a_lost_file_is_made_again(problem, tmp_path, quick):
    def contest():
        return Contest(problem, work=tmp_path, names=[LINE, FOREST], rows=["all"], seeds=[0, 1])

    assert contest().run() == 4
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert contest().run() == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    first = contest().results()
    contest().path(FOREST, "all", seed=1).unlink()
    assert [job.key for job in contest().due()] == ["forest_all__all__1"]
    assert contest().run() == 1
    for key, found in contest().results().items():
        pd.testing.assert_frame_equal(found, first[key])


@pytest.mark.parametrize(
    "name", [NETWORK, FOREST, pytest.param("blend: network", marks=pytest.mark.slow)]
)
def test_labels_of_a_test_block_move_no_prediction_of_it(problem, name, quick):
    procedure = contending.PROCEDURES[name]
    first = contending.predict_unseen(problem, procedure, rows="all", fold_seed=0)
    rows = first.index[first["fold"] == 0]
    samples = problem.samples.copy()
    shaken = np.random.default_rng(1).permutation(samples.loc[rows, "soil_moisture_m3_m3"])
    samples.loc[rows, "soil_moisture_m3_m3"] = shaken * 0.5
    again = replace(problem, samples=samples)
    second = contending.predict_unseen(again, procedure, rows="all", fold_seed=0)
    held_out = first.columns.drop("observed_m3_m3")
    pd.testing.assert_frame_equal(first.loc[rows, held_out], second.loc[rows, held_out])
    others = first.index.difference(rows)
    assert (first.loc[others, "predicted_m3_m3"] != second.loc[others, "predicted_m3_m3"]).any()


def test_a_fold_holds_whole_blocks_and_complete_rows_are_scored_alone(problem):
    found = contending.predict_unseen(
        problem, contending.PROCEDURES[LINE], rows="complete", fold_seed=3
    )
    assert found.index.equals(pd.Index(np.flatnonzero(problem.scored("complete"))))
    assert problem.features.loc[found.index, "sentinel1_VV"].notna().all()
    assert found["fold"].groupby(problem.at["block"].loc[found.index]).nunique().max() == 1


def test_every_labelled_row_of_training_blocks_trains_and_none_else(problem):
    seen = []

    class Spy(LinearRegression):
        def fit(self, X, y):
            seen.append(X.index)
            return super().fit(X.fillna(0.0), y)

        def predict(self, X):
            return super().predict(X.fillna(0.0))

    make = {"make": lambda _, **how: Spy(), "see": lambda p: ["smap_ssm", "sentinel1_VV"]}
    every = systems.TabularSystem("spy", **make)
    found = contending.predict_unseen(problem, every, rows="complete", fold_seed=0)
    for fold, trained in enumerate(seen):
        tested = set(problem.at["block"].loc[found.index[found["fold"] == fold]])
        allowed = ~problem.at["block"].isin(tested) & np.isfinite(problem.moisture)
        assert trained.equals(problem.at.index[allowed])


def test_scores_contrasts_and_their_means_are_written_and_kept(problem, tmp_path, quick):
    work, out = tmp_path / "work", tmp_path / "out"
    contest = Contest(problem, work=work, names=[FOREST, TREES], rows=["all"], seeds=[0, 1])
    contest.run()
    contending.write_tables(contest, out)
    study, pairs = (pd.read_csv(out / f"{name}.csv") for name in ("study", "contrasts"))
    assert study["fold_seed"].astype(str).tolist() == ["0", "1", "mean"] * 2
    one, two, mean = (study[study.procedure == TREES].iloc[i] for i in range(3))
    assert mean["r"] == pytest.approx((one["r"] + two["r"]) / 2, abs=1e-5)
    assert (mean["n_seeds"], mean["n_stations"]) == (2, 12)
    forest = study[(study.procedure == FOREST) & (study.fold_seed == "0")].iloc[0]
    pair = pairs[(pairs.metric == "r") & (pairs.fold_seed == "0")].iloc[0]
    assert pair["difference"] == pytest.approx(one["r"] - forest["r"], abs=2e-5)
    text = (out / "study.csv").read_text()
    for path in work.glob("*__1.parquet"):
        path.unlink()
    contending.write_tables(contest, out)
    assert (out / "study.csv").read_text() == text


def test_another_table_is_refused_by_the_folders_of_a_contest(problem, tmp_path):
    """Half of the stations would else stand in the csv beside procedures of all of them."""
    options = {"work": tmp_path / "work", "names": [LINE], "rows": ["all"], "seeds": [0]}
    contest = Contest(problem, **options)
    contest.run()
    contending.write_tables(contest, tmp_path / "out")
    half = Contest(contending.problem_of(made_up(6)), **options)
    with pytest.raises(StoreError, match="work holds results of other data.*another folder"):
        half.run()
    half.work = tmp_path / "other"
    half.run()
    with pytest.raises(StoreError, match="out holds results of other data"):
        contending.write_tables(half, tmp_path / "out")
    for folder in ("work", "out"):  # whose results they are is not known any more
        (tmp_path / folder / "data.json").unlink()
    with pytest.raises(StoreError, match="work holds results of other data .data.json.*missing"):
        contest.run()
    with pytest.raises(StoreError, match="out holds results of other data"):
        contending.write_tables(contest, tmp_path / "out")


def test_damaged_results_are_named(problem, tmp_path):
    contest = Contest(problem, work=tmp_path, names=[LINE], rows=["all"], seeds=[0])
    contest.run()
    path, out = contest.path(LINE, "all", seed=0), tmp_path / "out"
    whole = path.read_bytes()
    for damaged in (whole[:-9], whole[:60] + b"\xff" * 9 + whole[69:]):
        path.write_bytes(damaged)
        with pytest.raises(StoreError, match=f"{path.name} is damaged.*Delete it"):
            contending.write_tables(contest, out)
    for text in (b"\xff\xfe", b"", b'procedure\n"'):
        (out / "study.csv").write_bytes(text)
        with pytest.raises(StoreError, match="study.csv is damaged"):
            kept_means(out)
    (out / "data.json").write_text("{")
    with pytest.raises(StoreError, match="data.json is damaged"):
        contending.write_tables(contest, out)


def test_an_interval_is_judged_by_blocks_though_most_rows_stand_in_one(problem):
    """All 24 rows of one block are held and none of the three of another: half of the blocks."""
    rows = np.flatnonzero(problem.scored("all"))
    station = problem.at["sensor_id"].to_numpy()[rows]
    few = rows[(station == "SCAN/s0") | ((station == "SCAN/s1") & (np.arange(len(rows)) % 8 == 0))]
    observed = problem.moisture[few]
    half = np.where(problem.at["sensor_id"].to_numpy()[few] == "SCAN/s0", 0.1, -0.1)
    found = pd.DataFrame(
        {"predicted_m3_m3": observed, "lower_m3_m3": observed - half, "chosen": "",
         "upper_m3_m3": observed + half, "fold": 0, "observed_m3_m3": observed, "split": "test",
         "model": LINE, "network": "SCAN", "sensor_id": station[np.isin(rows, few)]},
        index=few,
    )  # fmt: skip
    table = problem.samples.loc[few, ["sample_id", "station_id", "time"]].join(found)
    told = contending.score(table, problem.at["block"])
    assert told["block_coverage_of_90"] == 0.5
    assert told["coverage_of_90"] == 24 / 27


def test_a_strange_name_and_missing_strata_are_refused(problem, tmp_path):
    with pytest.raises(ContractError, match="No procedure is called gradient"):
        Contest(problem, work=tmp_path, names=["gradient"])
    with pytest.raises(ContractError, match="--ismn"):
        contending.predict_unseen(
            problem, contending.PROCEDURES["dense ensemble"], rows="all", fold_seed=0
        )
    assert "dense ensemble" not in Contest(problem, work=tmp_path).names


def test_strata_come_from_the_archive_and_what_it_does_not_tell_is_unknown():
    data = made_up()
    archive = pd.DataFrame(
        {
            "network": "SCAN", "station": ["S-0", "S-0", "S1"], "texture": ["Loam", "Loam", ""],
            "koeppen": ["Cfa", "Cfa", "BSk"], "land_cover": ["Shrubs", "Shrubs", ""],
            "clay_percent": [20.0, 30.0, np.nan], "sand_percent": [40.0, 40.0, np.nan],
        }
    )  # fmt: skip
    strata = contending.problem_of(data, archive_stations=archive).strata
    told = strata.groupby(data.samples["station_id"].to_numpy()).first()
    assert told.loc["SCAN/s0"].tolist() == ["Loam", 25.0, 40.0, "Cfa", "Shrubs"]
    assert told.loc["SCAN/s1", ["texture", "koeppen"]].tolist() == ["unknown", "BSk"]
    assert told.loc["SCAN/s2", "texture"] == "unknown"
    assert np.isnan(told.loc["SCAN/s2", "clay"])


def test_a_useless_member_gets_about_no_weight_and_none_is_negative():
    rng = np.random.default_rng(0)
    stations, y = np.repeat(np.arange(10), 50), rng.normal(0.2, 0.05, 500)
    members = {
        "good": y + rng.normal(0, 0.02, 500),
        "useless": rng.normal(0.2, 0.05, 500),
        "against": 0.4 - y + rng.normal(0, 0.02, 500),
    }
    weights = weigh(pd.DataFrame(members), y, stations=stations, rows=np.ones(500))
    assert (weights >= 0).all()
    assert weights.sum() <= 1
    assert weights[0] > 0.8
    assert weights[1:].max() < 0.05


def test_weights_never_sum_to_more_than_one_though_members_move_too_little():
    y = np.sin(np.arange(100.0))
    weights = weigh(
        pd.DataFrame({"a": 0.3 * y, "b": 0.2 * y}), y, stations=np.zeros(100), rows=np.ones(100)
    )
    np.testing.assert_allclose(weights, [1, 0], atol=1e-3)


def test_a_blend_of_two_independent_errors_beats_both_of_its_members(problem):
    at, y = problem.at, problem.moisture
    rng = np.random.default_rng(3)
    X = pd.DataFrame({name: y + rng.normal(0, 0.03, len(y)) for name in ("a", "b")})

    class Sees(LinearRegression):
        def __init__(self, column="a"):
            super().__init__()
            self.column = column

        def fit(self, X, y):
            return super().fit(X[[self.column]], y)

        def predict(self, X):
            return super().predict(X[[self.column]])

    train = (at["block"].astype("category").cat.codes < 8).to_numpy()
    fitted = Blend([(name, Sees(name)) for name in ("a", "b")]).fit(
        X[train], y[train], at=at[train]
    )
    assert np.all(np.abs(np.array(list(fitted.weights_.values())) - 0.5) < 0.2)

    def rmse(predicted):
        return np.sqrt(np.mean((predicted - y[~train]) ** 2))

    alone = [rmse(member.predict(X[~train])) for _, member in fitted.members_]
    assert rmse(fitted.predict(X[~train], at=at[~train])) < min(alone)

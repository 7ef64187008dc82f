"""The report's sentences: grades that follow the facts, a checklist filled, cautions triggered."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from soilkit import metrics
from soilkit.constants import OK
from soilkit.export import ten_day_table
from soilkit.metrics import evaluation, splits
from soilkit.metrics.evaluation import grades
from soilkit.metrics.evaluation.grades import NO, PARTLY, UNKNOWN, YES
from soilkit.metrics.evaluation.records import Background, Calibration, Finding, NotAudited
from soilkit.metrics.evaluation.score_tables import calibration, errors
from soilkit.metrics.splits.checks import Claim
from soilkit.models.tabular import SmapLinear, cross_predict, forest

PROVENANCE = {"flags": "G only", "versions": "product 3", "upscaling": "none"}


def world(n_stations=30, n=60, *, split="by station"):
    """Stations far apart; ours errs by 0.02, SMAP by 0.05 m3 m-3 about a season and weather."""
    rng = np.random.default_rng(0)
    times = pd.date_range("2018-01-05", periods=n, freq="15D").astype("datetime64[us]")
    season = 0.04 * np.sin(2 * np.pi * times.day_of_year.to_numpy() / 365.25)
    rows, places = [], []
    for k in range(n_stations):
        name, network = f"S{k:02d}", ("A", "B")[k % 2]
        cover = ("Agriculture", "Shrubs")[k // 2 % 2]
        spot = {"latitude": 30.0 + 2.5 * (k % 6), "longitude": -120.0 + 2.5 * (k // 6)}
        ids = {"sensor_id": name, "station_id": name, "network": network}
        places.append(ids | spot | {"land_cover": cover, "depth_from_m": 0.0, "depth_to_m": 0.05})
        truth = rng.uniform(0.1, 0.35) + season + 0.03 * rng.standard_normal(n)
        for model, error in (("ours", 0.02), ("SMAP", 0.05)):
            values = {"sample_id": [f"{name}_{i}" for i in range(n)], **ids, "time": times}
            values |= {"observed_m3_m3": truth, "model": model, "split": split}
            values["predicted_m3_m3"] = truth + error * rng.standard_normal(n)
            rows.append(pd.DataFrame(values))
    return pd.concat(rows, ignore_index=True), pd.DataFrame(places)


def known(predictions, **more):
    once = predictions.drop_duplicates("sample_id")
    folds = pd.Series(once["station_id"].to_numpy(), index=once["sample_id"].to_numpy())
    names = predictions["split"].unique()
    return Background(folds=dict.fromkeys(names, folds), samples=once, **more)


@pytest.fixture(scope="module")
def tables():
    predictions, stations = world()
    predictions["predicted_std_m3_m3"] = predictions["model"].map({"ours": 0.02, "SMAP": 0.05})
    return predictions, stations


@pytest.fixture(scope="module")
def good(tables):
    predictions, stations = tables
    background = known(predictions, provenance=PROVENANCE)
    return evaluation.evaluate(predictions, stations, label="real soil", background=background)


@pytest.fixture(scope="module")
def shuffled(tables):
    """Our predictions dealt out anew among all samples."""
    predictions, stations = tables
    table = predictions.copy()
    ours = table["model"] == "ours"
    values = table.loc[ours, "predicted_m3_m3"].to_numpy()
    table.loc[ours, "predicted_m3_m3"] = np.random.default_rng(1).permutation(values)
    return evaluation.evaluate(table, stations, label="real soil", background=known(predictions))


def allowing(claim):
    """An audit that allows no more than this."""
    return NotAudited("test", "", claim)


def grade_of(ev):
    page = evaluation.verdict(ev)
    short = ("unseen", "smap", "season", "size", "when", "where", "regions", "spread", "distance")
    return dict(zip(short, page["grade"], strict=True)) | {"all": page.attrs["grade"]}


def test_a_good_model_at_unseen_places_is_trusted(good):
    found = grade_of(good)
    sure = ("unseen", "smap", "season", "size", "when", "where", "regions", "spread", "all")
    assert {name: found[name] for name in sure} == dict.fromkeys(sure, YES)
    assert found["distance"] == UNKNOWN, "no features were given"
    sentence = evaluation.sentence(good)
    assert sentence.startswith("ours on real soil: trust this map at places like those scored.")
    assert "Not known: distance from training." in sentence


def test_a_shuffled_prediction_is_not_trusted(shuffled):
    found = grade_of(shuffled)
    wrong = ("smap", "season", "size", "when", "where", "regions", "spread", "all")
    assert {name: found[name] for name in wrong} == dict.fromkeys(wrong, NO)
    assert "do not trust this map" in evaluation.sentence(shuffled)


@pytest.mark.parametrize(
    "claim", [Claim.RANDOM_ROWS, Claim.LEAKY, Claim.NOT_AUDITABLE, Claim.TIMES, Claim.SENSORS]
)
def test_no_other_split_passes_for_unseen_places(good, claim):
    """The same scores on a split that leaks, or that nobody knows, never get a yes."""
    page = evaluation.verdict(replace(good, weakest=allowing(claim)))
    assert YES not in page["grade"].tolist()
    assert page.attrs["grade"] == (UNKNOWN if claim == Claim.NOT_AUDITABLE else NO)
    if claim.is_leaky:
        assert set(page["grade"][1:]) <= {NO, UNKNOWN}
    first = page.iloc[0]
    assert first["grade"] == (UNKNOWN if claim == Claim.NOT_AUDITABLE else NO)


def test_unseen_stations_in_a_shared_pixel_are_partly_unseen(good):
    page = evaluation.verdict(replace(good, weakest=allowing(Claim.STATIONS)))
    assert page["grade"].iloc[0] == PARTLY and page.attrs["grade"] == PARTLY


def test_grades_follow_intervals_and_not_values(good):
    """A mean R surely above 0.5, above zero, of either sign, near zero, without an interval."""
    lines = good.overall.set_index(["model", "metric"])
    found = []
    for lower, upper in ((0.6, 0.95), (0.3, 0.95), (-0.1, 0.95), (-0.1, 0.3), (np.nan, np.nan)):
        lines.loc[("ours", "r"), ["mean", "mean_lower", "mean_upper"]] = [0.2, lower, upper]
        scores = good.scores.assign(r_lower=-0.1 if np.isnan(lower) else good.scores["r_lower"])
        ev = replace(good, overall=lines.reset_index(), scores=scores)
        found.append(grades.when(ev).grade)
    assert found == [YES, PARTLY, UNKNOWN, NO, UNKNOWN]


def test_a_gain_needs_holm(good):
    """Three scores whose own intervals leave zero out, and no adjusted p below 0.05."""
    table = good.comparison.assign(p_adjusted=0.06, better="")
    answer = grades.better_than(replace(good, comparison=table), "smap")
    assert answer.grade == UNKNOWN and answer.finding is Finding.UNDECIDED

    mixed = good.comparison.copy()
    mixed.loc[mixed["metric"] == "r", "better"] = mixed["model_b"]
    answer = grades.better_than(replace(good, comparison=mixed), "smap")
    assert answer.grade == PARTLY and answer.answer == "better in ubRMSE, RMSE and worse in R"


def test_losing_to_an_oracle_proves_nothing(shuffled):
    table = shuffled.comparison[shuffled.comparison["role"] == "climatology"]
    oracle = replace(shuffled, comparison=table.assign(role="oracle"))
    assert grades.than_climatology(shuffled).grade == NO
    assert grades.than_climatology(oracle).grade == UNKNOWN


def test_right_swings_at_wrong_levels_are_partly_right(tables, good):
    """0.1 m3 m-3 too wet everywhere: ubRMSE below the spread, RMSE above it."""
    predictions, stations = tables
    table = predictions[predictions["model"] == "ours"].copy()
    table["predicted_m3_m3"] += 0.1
    scores = metrics.station_scores(table)
    wet = replace(good, unseen=table.assign(given_split="test"), scores=scores)
    ev = replace(good, errors=errors(wet))
    assert grades.error_size(good).grade == YES and grades.error_size(ev).grade == PARTLY
    assert "|bias| quartiles 0.09" in grades.error_size(ev).evidence


def test_a_map_of_levels_alone_knows_where_in_part(good):
    table = good.spatial_mean.copy()
    table.loc[table["part"] == "dynamic", "lower"] = -0.1
    ev = replace(good, spatial_mean=table)
    assert grades.where(good).grade == YES and grades.where(ev).grade == PARTLY
    assert any("Not that the map moves rightly" in words for words in evaluation.cautions(ev))


def test_a_class_that_fails_is_named(tables):
    """Agriculture's predictions are noise: half of the stations, so it does not hold."""
    predictions, stations = tables
    table = predictions[predictions["model"] == "ours"].copy()
    farms = stations.loc[stations["land_cover"] == "Agriculture", "station_id"]
    bad = table["station_id"].isin(farms)
    table.loc[bad, "predicted_m3_m3"] = 0.2 + 0.06 * np.random.default_rng(2).standard_normal(
        bad.sum()
    )
    ev = evaluation.evaluate(table, stations, label="x", background=known(table))
    answer = grades.regions(ev)
    assert answer.grade == NO and "Agriculture (land cover)" in answer.answer
    assert "Shrubs" not in answer.answer


def test_a_spread_half_as_wide_is_not_true(tables, good):
    predictions, stations = tables
    table = predictions[predictions["model"] == "ours"]
    table = table.assign(predicted_std_m3_m3=0.01)
    narrow = replace(good, unseen=table.assign(given_split="test"))
    ev = replace(good, calibration=calibration(narrow))
    assert grades.uncertainty(good).grade == YES
    assert grades.uncertainty(ev).grade == NO
    assert any("stated uncertainty" in words for words in evaluation.cautions(ev))
    assert grades.uncertainty(replace(good, calibration=Calibration("none"))).grade == UNKNOWN


@pytest.mark.parametrize(
    "share, grade", [((0.95, 0.85, 1.0), YES), ((0.95, 0.7, 1.0), PARTLY), ((0.3, 0.2, 0.4), NO),
                     ((1.0, np.nan, np.nan), UNKNOWN)],
)  # fmt: skip
def test_inputs_unlike_training_lower_the_grade(good, share, grade):
    area = replace(good.applicability, status=OK, share_inside=share)
    assert grades.distance(replace(good, applicability=area)).grade == grade


def test_a_constant_prediction_knows_no_time(tables, good):
    predictions, stations = tables
    table = predictions[predictions["model"] == "ours"].assign(predicted_m3_m3=0.2)
    scores = metrics.station_scores(table)
    ev = replace(good, scores=scores, overall=metrics.summarize(scores, stations))
    assert grade_of(ev)["when"] == NO and grade_of(ev)["all"] == NO


def test_the_protocol_carries_what_was_told_and_what_was_lost(good):
    lines = evaluation.protocol(good).set_index("item")["value"]
    assert lines["flags"] == "G only" and lines["versions"] == "product 3"
    assert lines["places"].startswith("30 stations, 30 sensors, 2 networks, 30 blocks")
    assert lines["depth"] == "0 to 5 cm"
    assert lines["rows handed in"] == "3,600, of 2 models" and lines["rows scored"] == "3,600"
    assert lines["values"].startswith("raw: as predicted, not rescaled")


def test_the_checklist_is_filled_from_facts(good, shuffled):
    table = evaluation.checklist(good).set_index("part")
    assert set(table["status"]) <= {"done", "partly", "not done", "not applicable"}
    done = table.loc[["reference quality", "independence", "common samples"], "status"]
    assert (done == "done").all()
    untold = evaluation.checklist(shuffled).set_index("part")
    assert untold["status"]["reference quality"] == "not done"
    unknown = replace(good, weakest=allowing(Claim.NOT_AUDITABLE))
    assert evaluation.checklist(unknown).set_index("part")["status"]["independence"] == "not done"
    assert table["evidence"].str.endswith(".").all()


def test_the_stage_follows_places_and_time(good):
    """Thirty places apart over two years are stage 2; in fewer blocks or months they are 1."""
    assert evaluation.stage(good).number == 2
    near = good.stations.assign(latitude=30.5 + 0.1 * np.arange(30))
    assert evaluation.stage(replace(good, stations=near)).number == 1
    short = good.unseen[good.unseen["time"] < "2018-12-01"]
    assert evaluation.stage(replace(good, unseen=short)).number == 1
    assert evaluation.stage(replace(good, weakest=allowing(Claim.RANDOM_ROWS))).number == 0
    assert evaluation.stage(replace(good, label="synthetic")).number == 0


def test_cautions_stand_only_where_they_apply(good):
    words = "\n".join(evaluation.cautions(good))
    for absent in ("synthetic", "random rows", "one station", "less than one year", "No interval",
                   "constant"):  # fmt: skip
        assert absent not in words, absent
    assert "SMAP's 0.04 m3 m-3" in words

    summer = good.unseen[good.unseen["time"].dt.month.isin([6, 7, 8])]
    early = summer[summer["time"] < "2019-01-01"]
    words = "\n".join(evaluation.cautions(replace(good, unseen=early, label="Synthetic world")))
    assert "less than one year" in words and "DJF, MAM, SON" in words
    assert "Nothing about the real Earth" in words
    leaky = "\n".join(evaluation.cautions(replace(good, weakest=allowing(Claim.RANDOM_ROWS))))
    assert "so they measure memory" in leaky


def test_a_class_of_one_network_is_called_so(good):
    stations = good.stations.assign(land_cover=["Shrubs", "Agriculture"] * 15)
    words = [w for w in evaluation.cautions(replace(good, stations=stations)) if "100%" in w]
    assert len(words) == 2 and "15 stations are A's" in words[0] + words[1]


@pytest.fixture(scope="module")
def us_10day():
    """Notebook 24's road: a line through SMAP and a forest, by block and by random row."""
    folder = os.environ.get("SOILKIT_TEST_DATA")
    path = Path(folder or "absent") / "us_10day" / "matched_10day.parquet"
    if not path.exists():
        pytest.skip("real ten-day windows are not here: set SOILKIT_TEST_DATA")
    stations, samples, features = ten_day_table.with_season(ten_day_table.read_ten_day_table(path))
    columns = ten_day_table.predictor_sets(features)["all"]
    keep = features[columns].notna().all(axis=1) & samples["soil_moisture_m3_m3"].notna()
    keep &= samples["label_days"] >= 6
    samples, features = (table[keep].reset_index(drop=True) for table in (samples, features))
    places = stations.drop_duplicates("station_id").set_index("station_id")
    blocks = samples["station_id"].astype(str).map(splits.block_ids(places)).to_numpy()
    y, tables, folds = samples["soil_moisture_m3_m3"], [], {}
    models = {"forest: all": (forest(seed=0, n_trees=10), columns),
              "SMAP linear": (SmapLinear(), ["smap_ssm"])}  # fmt: skip
    for split, groups in (("by block", blocks), ("shuffled", np.arange(len(y)))):
        numbers = splits.folds(groups, seed=0)
        folds[split] = pd.Series(numbers, index=samples["sample_id"].to_numpy())
        for name, (model, eaten) in models.items():
            predicted = cross_predict(model, features[eaten], y=y, groups=groups, seed=0)
            tables.append(
                ten_day_table.predictions_table(
                    samples, stations, predicted=predicted, model=name, split=split
                )
            )
    background = Background(folds=folds, samples=samples, features=features,
                            coarse_columns=("smap_ssm",))  # fmt: skip
    return pd.concat(tables, ignore_index=True), stations, background


@pytest.mark.slow
def test_real_stations_by_block_are_unseen_and_random_rows_are_caught(us_10day):
    predictions, stations, background = us_10day
    how = {"label": "us_10day", "min_samples": 20, "background": background}

    both = evaluation.evaluate(predictions, stations, **how)
    leaky = evaluation.evaluate(predictions[predictions["split"] == "shuffled"], stations, **how)

    assert both.claim == "unseen places: no shared chip or coarse pixel"
    assert set(both.unseen["given_split"]) == {"by block"}
    assert leaky.claim == "random rows (leaky)"
    assert evaluation.verdict(leaky).attrs["grade"] == NO
    assert YES not in evaluation.verdict(leaky)["grade"].tolist()
    words = "\n".join(evaluation.cautions(both))
    assert "TxSON's 35 stations" in words and "10 pixels of smap_ssm (one series)" in words
    assert "'shuffled' mean anything: random rows (leaky)" in words
    assert evaluation.stage(both).number == 2

"""The first page in situations that could mislead: each answer matches its own interval."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from soilkit.metrics import evaluation
from soilkit.metrics.evaluation import grades
from soilkit.metrics.evaluation.grades import NO, PARTLY, UNKNOWN, YES
from soilkit.metrics.evaluation.records import Finding
from soilkit.metrics.splits.checks import Claim
from tests.test_evaluation_pages import allowing, grade_of, known, world


@pytest.fixture(scope="module")
def tables():
    return world()


@pytest.fixture(scope="module")
def good(tables):
    predictions, stations = tables
    return evaluation.evaluate(predictions, stations, label="x", background=known(predictions))


def judged(tables, change, **more):
    """The evaluation of our predictions, changed."""
    predictions, stations = tables
    table = predictions[predictions["model"] == "ours"].copy()
    table["predicted_m3_m3"] = change(table["predicted_m3_m3"], table)
    table = table.assign(**more)
    return evaluation.evaluate(table, stations, label="x", background=known(table))


@pytest.mark.parametrize(
    "above, grade, words",
    [("all static dynamic", YES, "which places are wet, and which wetter"),
     ("all dynamic", PARTLY, "not which are wet"), ("all static", PARTLY, "not which are today"),
     ("static dynamic", PARTLY, "not all"), ("dynamic", PARTLY, "not which are wet"),
     ("all", PARTLY, "not all of its parts"), ("", NO, "not shown to be right")],
)  # fmt: skip
def test_skill_in_space_is_claimed_part_by_part(good, above, grade, words):
    """A part whose interval holds zero, 0.00 (-0.52 to 0.53), is not claimed."""
    table = good.spatial_mean.copy()
    table["lower"] = np.where(table["part"].isin(above.split()), 0.1, -0.2)
    table["upper"] = 0.4
    answer = grades.where(replace(good, spatial_mean=table))
    assert answer.grade == grade and words in answer.answer
    wide = grades.where(replace(good, spatial_mean=table.assign(lower=-0.2, upper=0.8)))
    assert wide.grade == UNKNOWN and wide.finding is Finding.UNDECIDED


def test_classes_without_intervals_do_not_make_a_yes(good):
    """Of 120 stations' places in classes, a third stand in one that decides: nothing is known."""

    def grade_where(n_judged):
        strata = {}
        for by, table in good.strata.items():
            table = table.copy()
            if by in ("network", "land_cover") and n_judged < 4:
                names = sorted(table[by].unique())[: n_judged // 2]
                table.loc[~table[by].isin(names), ["mean_lower", "mean_upper"]] = np.nan
            strata[by] = table
        return grades.regions(replace(good, strata=strata)).grade

    assert [grade_where(4), grade_where(2), grade_where(0)] == [YES, PARTLY, UNKNOWN]


def test_an_interval_that_reaches_far_is_no_failure_of_a_class(good):
    """R 0.3 (-0.1 to 0.7) is undecided; R 0.0 (-0.1 to 0.1) has no skill."""
    table = good.strata["land_cover"].copy()
    farms = (table["land_cover"] == "Agriculture") & (table["metric"] == "r")
    farms &= table["model"] == "ours"
    found = []
    for upper in (0.7, 0.1):
        table.loc[farms, ["mean", "mean_lower", "mean_upper"]] = [0.0, -0.1, upper]
        ev = replace(good, strata=good.strata | {"land_cover": table})
        found.append("Agriculture" in "".join(grades.classes_apart(ev)["class"]))
    assert found == [False, True]


def test_the_hardest_climatology_decides(good):
    """A constant beside it is easily beaten, whatever stands first in the table."""
    own = good.comparison[good.comparison["role"] == "climatology"]
    easy, hard = own.assign(model_b="training mean"), own.assign(better="", p_adjusted=1.0)
    for order in ([easy, hard], [hard, easy]):
        table = pd.concat(order, ignore_index=True)
        answer = grades.than_climatology(replace(good, comparison=table))
        assert answer.grade == UNKNOWN and "training climatology" in answer.evidence
    lost = hard.assign(lower=np.nan, model_b="empty")
    table = pd.concat([lost, easy], ignore_index=True)
    assert grades.than_climatology(replace(good, comparison=table)).grade == YES


def test_removing_what_refutes_it_does_not_raise_a_grade(good):
    """Anomalies without skill cap skill in time; so do anomalies that nobody could score."""
    line = {"state": "anomaly: 35-day window", "model": "ours", "metric": "r", "mean": 0.0,
            "mean_lower": -0.1, "mean_upper": 0.1}  # fmt: skip
    refuted = replace(good, anomaly=pd.DataFrame([line]))
    after = line | {"state": "rescaled: line > anomaly: 70-day window"}
    assert grades.when(replace(good, anomaly=pd.DataFrame([after]))).grade == PARTLY
    season = line | {"state": "anomaly: 70-day climatology of its own other years (oracle)",
                     "mean": 0.3, "mean_lower": 0.2, "mean_upper": 0.4}  # fmt: skip
    own = grades.when(replace(good, anomaly=pd.DataFrame([line, season])))
    assert own.grade == YES and "from its own season 0.30" in own.evidence
    alone = good.comparison[~good.comparison["role"].isin(["climatology", "oracle"])]
    unscored = replace(good, comparison=alone, anomaly=good.anomaly[:0])
    assert grades.when(refuted).grade == PARTLY and grades.when(unscored).grade == PARTLY
    assert "may be the season's alone" in grades.when(unscored).answer
    assert grades.when(good).grade == YES, "its R is surely above the season's"


def test_an_error_near_the_spread_is_undecided_or_no_smaller(good):
    table = good.errors.set_index("metric")
    found = []
    for lower, upper in ((0.4, 0.6), (0.7, 1.1), (0.95, 1.02), (1.2, 1.5)):
        table.loc["ubrmse / sd", ["mean", "lower", "upper"]] = [1.0, lower, upper]
        found.append(grades.error_size(replace(good, errors=table.reset_index())).grade)
    assert found == [YES, UNKNOWN, NO, NO]


def test_right_swings_with_a_huge_bias_are_no_map_of_levels(tables):
    """R 0.9 and 0.2 m3 m-3 too wet: timing is trusted, values are not."""
    ev = judged(tables, lambda value, _: value + 0.2)
    words = evaluation.sentence(ev)
    assert grade_of(ev)["all"] == PARTLY and grade_of(ev)["when"] == YES
    assert "trust when it says wetter or drier, not how wet it says a place is" in words


def test_predictions_in_percent_are_not_trusted(tables):
    ev = judged(tables, lambda value, _: 100 * value)
    assert grade_of(ev)["all"] == NO
    assert "do not trust this map's values" in evaluation.sentence(ev)
    assert "skill in time" in evaluation.sentence(ev), "its order may serve as an index"
    assert any("outside 0 to 1 m3 m-3" in line for line in evaluation.cautions(ev))


def test_a_season_alone_is_no_map(tables):
    def season(_, table):
        return 0.22 + 0.04 * np.sin(2 * np.pi * table["time"].dt.day_of_year / 365.25)

    ev = judged(tables, season)
    assert grade_of(ev)["where"] == NO and grade_of(ev)["when"] == PARTLY
    assert grade_of(ev)["all"] != YES and "skill in time" not in _holds(ev)


def _holds(ev):
    words = evaluation.sentence(ev)
    return words.split("what holds:")[-1].split(".")[0] if "what holds:" in words else ""


def test_one_season_is_not_trusted_for_the_year(tables):
    """The same skill from March to August only."""
    predictions, stations = tables
    table = predictions[predictions["time"].dt.month.isin(range(3, 9))]
    table = table[table["station_id"].isin(stations["station_id"])]
    ev = evaluation.evaluate(table, stations, label="x", background=known(table))
    assert grade_of(ev)["when"] == YES and grade_of(ev)["all"] == PARTLY
    assert "less than the seasons of a year" in evaluation.sentence(ev)


def test_a_score_of_validation_is_not_wholly_unseen(tables):
    """Validation stations chose the checkpoint, whatever the audit of places says."""
    predictions, stations = tables
    chose = predictions["station_id"] < "S10"
    table = predictions.assign(split=chose.map({True: "validation", False: "test"}))
    ev = evaluation.evaluate(table, stations, label="x", background=known(table))
    first = evaluation.verdict(ev).iloc[0]
    assert first["grade"] == PARTLY and "33% of the samples are validation" in first["evidence"]
    assert any("chosen the model" in line for line in evaluation.cautions(ev))


def test_smap_alone_is_smap_and_a_network_that_eats_it_is_not(tables):
    predictions, stations = tables
    for name, own in (("SMAP L3", True), ("SMAP + GLDAS network", False)):
        table = predictions[predictions["model"] == "ours"].assign(model=name)
        ev = evaluation.evaluate(table, stations, label="x", main=name)
        found = grades.than_smap(ev)
        assert found.grade == UNKNOWN and found.answer.startswith("it is a") == own


def test_undecided_is_not_the_same_as_unknown(good):
    table = good.comparison.assign(p_adjusted=0.5, better="")
    words = evaluation.sentence(replace(good, comparison=table))
    assert "Not shown: gain over SMAP, gain over the season." in words
    assert "Not known: stated uncertainties, distance from training." in words


def test_nothing_is_done_on_the_checklist_without_evidence(good):
    """One sensor with a score, no interval, no common sample: none of it is called done."""

    def status(**changes):
        table = evaluation.checklist(replace(good, **changes)).set_index("part")
        return table["status"]

    scores, mean, pairs = good.scores.copy(), good.spatial_mean, good.comparison
    few = scores["sensor_id"] != scores["sensor_id"].iloc[0]
    scores.loc[few, ["r", "ubrmse_m3_m3_lower"]] = np.nan
    assert (status()[["metrics", "confidence intervals", "independence"]] == "done").all()
    thin = status(scores=scores, weakest=allowing(Claim.STATIONS))
    assert (thin[["metrics", "confidence intervals", "independence"]] == "partly").all()
    poor = good.scores.assign(n_effective=3.0)
    assert status(scores=poor)["sample size"] == "partly"
    assert status(spatial_mean=mean.assign(lower=np.nan))["spatial pattern"] == "partly"
    nothing = status(comparison=pairs.assign(lower=np.nan, n_samples=0))
    assert (nothing[["common samples", "other products"]] == "not done").all()
    assert status()["rescaling"] == "partly", "nobody said whether the values came rescaled"
    told = replace(good.background, provenance={"rescaling": "none"})
    assert status(background=told)["rescaling"] == "done"


def test_cautions_about_sizes_and_space_fit_their_figures(good):
    """No sensor above 0.04 cannot fail by it; departures without levels are said to be so."""
    fine = good.scores.assign(ubrmse_m3_m3=0.02)
    words = "\n".join(evaluation.cautions(replace(good, scores=fine)))
    assert "Not that all 30 sensors pass" in words and "0 of 30" not in words
    table = good.spatial_mean.copy()
    table.loc[table["part"] == "static", "lower"] = -0.5
    words = "\n".join(evaluation.cautions(replace(good, spatial_mean=table)))
    assert "Not that it tells wet places from dry ones" in words
    assert "Not that it tells" not in "\n".join(evaluation.cautions(good))


def test_a_short_rival_takes_no_sample_from_the_others(tables):
    """Twenty samples a sensor of a third model: the pair with SMAP keeps all of its own."""
    predictions, stations = tables
    short = predictions[predictions["model"] == "SMAP"].assign(model="short")
    short = short[short.groupby("sensor_id").cumcount() < 10]
    table = pd.concat([predictions, short], ignore_index=True)
    ev = evaluation.evaluate(table, stations, label="x", main="ours", background=known(predictions))
    lines = ev.comparison.set_index(["model_b", "metric"])
    assert lines.loc[("SMAP", "rmse_m3_m3"), "n_samples"] == 30 * 60
    assert grades.than_smap(ev).grade == YES
    assert lines.loc[("short", "r"), "status"] == "no sensor has 13 pairs of it"
    known_p = ev.comparison["p_value"].dropna()
    assert np.allclose(lines["p_adjusted"].dropna().min(), min(known_p.min() * len(known_p), 1))


def test_a_product_of_other_times_keeps_its_lines_and_the_checklist_is_not_done(tables):
    """Three hours later no sample is shared: four lines say so, and nothing is "done"."""
    predictions, stations = tables
    late = predictions[predictions["model"] == "SMAP"].assign(model="GLDAS")
    late = late.assign(
        time=late["time"] + pd.Timedelta("3h"), sample_id="late " + late["sample_id"].astype(str)
    )
    table = pd.concat([predictions, late], ignore_index=True)
    ev = evaluation.evaluate(table, stations, label="x", main="ours", background=known(table))
    lines = ev.comparison[ev.comparison["model_b"] == "GLDAS"]
    assert len(lines) == 4 and lines["difference"].isna().all()
    assert lines["status"].str.endswith("they share 0 of 1,800").all()
    items = evaluation.checklist(ev).set_index("part")
    assert items.loc["common samples", "status"] == "partly"
    assert "GLDAS: no sensor" in items.loc["common samples", "evidence"]
    assert "Not with GLDAS" in items.loc["other products", "evidence"]
    assert "all models predict" in ev.wins_by_class["status"].iloc[0]
    assert set(ev.comparison["metric"]) == {"r", "ubrmse_m3_m3", "rmse_m3_m3", "abs_bias_m3_m3"}


def test_a_rival_with_other_readings_is_named_and_the_rest_compared(tables):
    predictions, stations = tables
    odd = predictions[predictions["model"] == "SMAP"].assign(model="odd")
    odd = odd.assign(observed_m3_m3=odd["observed_m3_m3"] + 0.1)
    table = pd.concat([predictions, odd], ignore_index=True)
    ev = evaluation.evaluate(table, stations, label="x", main="ours", background=known(predictions))
    lines = ev.comparison.drop_duplicates("model_b").set_index("model_b")
    assert lines["better"].to_dict()["SMAP"] == "ours" and lines["better"]["odd"] == ""
    assert lines["n_samples"]["odd"] == 0 and "observ" in lines["status"]["odd"]


def test_fewer_stations_never_raise_the_grade(tables):
    """Errors as large as the spread: no with ten blocks, not more with four, two or one."""
    predictions, stations = tables
    noisy = predictions[predictions["model"] == "ours"].copy()
    noise = 0.06 * np.random.default_rng(3).standard_normal(len(noisy))
    noisy["predicted_m3_m3"] += noise
    found = []
    for n in (10, 4, 2, 1):
        part = noisy[noisy["station_id"].isin(stations["station_id"][:n])]
        ev = evaluation.evaluate(part, stations, label="x", background=known(part))
        found.append(grade_of(ev)["all"])
    assert found == [NO, UNKNOWN, UNKNOWN, UNKNOWN]


def test_unchecked_pixels_are_not_said_to_have_trained(tables):
    predictions, _ = tables
    ev = evaluation.evaluate(predictions, None, label="x", background=known(predictions))
    first = evaluation.verdict(ev).iloc[0]
    assert first["grade"] == PARTLY and "could not be checked" in first["answer"]
    assert "place of every scored station" in grades.than_climatology(ev).evidence


def test_one_impossible_prediction_is_no_question_of_units(tables):
    ev = judged(tables, lambda value, _: value.where(value.index != value.index[0], -0.01))
    words = "\n".join(evaluation.cautions(ev))
    assert "1 of 1,800 lie outside 0 to 1 m3 m-3." in words and "units right" not in words


def test_one_flat_desert_does_not_decide_the_size_of_errors(tables):
    """A place that varies by 0.0005 m3 m-3, missed by 0.02 like all others: 40 times its spread."""
    predictions, stations = tables
    table = predictions[predictions["model"] == "ours"].copy()
    flat = table["station_id"] == "S00"
    error = table["predicted_m3_m3"] - table["observed_m3_m3"]
    dry = 0.03 + 0.0005 * np.random.default_rng(0).standard_normal(flat.sum())
    table.loc[flat, "observed_m3_m3"] = dry
    table.loc[flat, "predicted_m3_m3"] = dry + error[flat]
    ev = evaluation.evaluate(table, stations, label="x", background=known(table))
    line = ev.errors.set_index("metric").loc["rmse / sd"]
    assert 0 < line["lower"] < line["upper"] < 1
    assert grades.error_size(ev).grade == YES
    sizes = ev.main_scores["rmse_m3_m3"]
    assert np.isclose(ev.errors["mean"].iloc[-1], sizes.mean()), "sizes keep the plain mean"

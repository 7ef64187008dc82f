"""The rules that turn intervals into yes, partly, no and unknown: one function a question.

No rule looks at a value without its interval; where there is no interval the grade is "unknown",
and the evidence says so. What an audit forbids caps every grade: on a leaky split nothing but the
first question has an answer, on one that cannot be audited nothing is better than "partly".
"""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from soilkit.evaluation import facts
from soilkit.evaluation.auditing import is_leaky
from soilkit.evaluation.records import NOT_AUDITABLE, OK, Evaluation, NotAudited, is_missing

YES, PARTLY, NO, UNKNOWN = "yes", "partly", "no", "unknown"
GOOD_R = 0.5  # a quarter of the variance
COMPARED = ("r", "ubrmse_m3_m3", "rmse_m3_m3")
SHOWN = {"r": "R", "ubrmse_m3_m3": "ubRMSE", "rmse_m3_m3": "RMSE"}
NEAR, FAR = 0.8, 0.5  # shares of predictions inside the area of applicability
TOO_SURE, NOMINAL = 0.8, 0.9  # coverage of a 90 % interval, below which it misleads


class Answer(NamedTuple):
    """One line of the first page."""

    question: str
    answer: str
    grade: str
    evidence: str


def capped(answer: Answer, evaluation: Evaluation) -> Answer:
    """The answer as far as the split lets it stand."""
    if is_leaky(evaluation.claim) and answer.grade in (YES, PARTLY):
        words = f"would be {answer.grade!r}, but the samples are no test: {answer.answer}"
        return answer._replace(answer=words, grade=UNKNOWN)
    if not evaluation.is_unseen and answer.grade == YES:
        known = evaluation.claim != NOT_AUDITABLE
        tail = "but at stations that also trained" if known else "if the places are unseen"
        words = f"{answer.answer}; {tail}"
        return answer._replace(answer=words, grade=PARTLY)
    return answer


def unseen(evaluation: Evaluation) -> Answer:
    """Yes: no shared chip or coarse pixel. Partly: unseen stations. No: whatever leaks."""
    claim = evaluation.claim
    question = "Were the scored places truly unseen?"
    if claim == NOT_AUDITABLE:
        grade, answer = UNKNOWN, "nobody said which stations trained"
    elif claim.startswith(("unseen places", "unseen networks")):
        grade, answer = YES, claim
    elif claim.startswith("unseen stations"):
        grade, answer = PARTLY, "stations yes, but their chips or coarse pixels also trained"
    else:
        grade, answer = NO, f"only {claim}" if claim.startswith("unseen") else claim
    words = []
    for row in evaluation.audit_table[evaluation.audit_table["is_scored"]].itertuples():
        audit = evaluation.audits[row.split]
        if isinstance(audit, NotAudited):
            words.append(f"{row.split}: {audit.reason}")
            continue
        far = audit.distance_shares
        near = f"; the nearest training station is {far['median_km']:.3g} km away" if far else ""
        checked = sum(check.status != "not checked" for check in audit.checks)
        words.append(f"{row.split}: {checked} checks made, {row.failed or 'none'} failed{near}")
    return Answer(question, answer, grade, ". ".join(words))


def better_than(evaluation: Evaluation, roles: tuple[str, ...], *, question: str) -> Answer:
    """Yes: better in one score and worse in none, by Holm. No: worse and never better.

    Partly: better in one, worse in another. Unknown: no pair, no interval, or undecided.
    """
    table = evaluation.comparison
    if not is_missing(table):
        rows = table[table["role"].isin(roles) & table["metric"].isin(COMPARED)]
        rows = rows[rows["model_b"] == rows["model_b"].iloc[0]] if len(rows) else rows
    if is_missing(table) or not len(rows):
        why = table["status"].iloc[0] if is_missing(table) else "it is not among the models"
        return Answer(question, "not compared", UNKNOWN, why)
    judged = rows[rows["lower"].notna()]
    if not len(judged):
        return Answer(question, "no interval", UNKNOWN, "; ".join(rows["status"].unique()))
    wins = judged.loc[judged["better"] == evaluation.main, "metric"].map(SHOWN).tolist()
    losses = judged.loc[judged["better"] == judged["model_b"], "metric"].map(SHOWN).tolist()
    grade = {(True, False): YES, (False, True): NO, (True, True): PARTLY}.get(
        (bool(wins), bool(losses)), UNKNOWN
    )
    said = [f"better in {', '.join(wins)}"] if wins else []
    said += [f"worse in {', '.join(losses)}"] if losses else []
    evidence = "; ".join(
        f"{SHOWN[row.metric]} {row.difference:+.3f} (95 %: "
        f"{facts.between(row.lower, row.upper, places=3)}, p by Holm {row.p_adjusted:.2g})"
        for row in judged.itertuples()
    )
    first = judged.iloc[0]
    where = (
        f" minus {first['model_b']} at {first['n_stations']} stations, {first['n_blocks']} blocks"
    )
    answer = " and ".join(said) or "undecided: every interval holds zero, or Holm takes it back"
    return Answer(question, answer, grade, evidence + where)


def than_climatology(evaluation: Evaluation) -> Answer:
    """As against any model; where only an oracle is there, it can be beaten but not lost to."""
    question = "Is it better than the season alone (a climatology)?"
    honest = better_than(evaluation, ("climatology",), question=question)
    oracle = better_than(evaluation, ("oracle",), question=question)
    if honest.answer != "not compared" or oracle.answer == "not compared":
        return honest
    words = f"{oracle.answer} than an oracle that knows the station's other years"
    grade = oracle.grade if oracle.grade == YES else UNKNOWN
    return oracle._replace(answer=words, grade=grade)


def error_size(evaluation: Evaluation) -> Answer:
    """Yes: ubRMSE and RMSE surely below the station's own spread. Partly: ubRMSE. No: neither."""
    question = "Is a typical error at a place smaller than what happens there?"
    table = evaluation.errors
    if is_missing(table):
        return Answer(question, "no error could be scored", UNKNOWN, table["status"].iloc[0])
    lines = table.set_index("metric")
    quarters = lines[["q25", "median", "q75"]]
    evidence = "; ".join(
        f"{word} quartiles {', '.join(f'{value:.3f}' for value in quarters.loc[name])}"
        for word, name in (("ubRMSE", "ubrmse_m3_m3"), ("|bias|", "bias size_m3_m3"),
                           ("RMSE", "rmse_m3_m3"))
    )  # fmt: skip
    ub, rms = lines.loc["ubrmse / sd"], lines.loc["rmse / sd"]
    evidence += (
        f" m3 m-3; ubRMSE is {facts.with_interval(ub['mean'], (ub.lower, ub.upper))} times and "
    )
    evidence += f"RMSE {facts.with_interval(rms['mean'], (rms.lower, rms.upper))} times the spread"
    typical = f"half of the places are within {lines['median']['rmse_m3_m3']:.3f} m3 m-3"
    if np.isnan(ub.lower):
        return Answer(question, f"{typical}; {ub.status}", UNKNOWN, evidence)
    if ub.upper >= 1:
        return Answer(question, "no: a station's own mean would do as well", NO, evidence)
    if not rms.upper < 1:
        return Answer(question, f"swings yes, levels no; {typical}", PARTLY, evidence)
    return Answer(question, typical, YES, evidence)


def when(evaluation: Evaluation) -> Answer:
    """Yes: mean R surely above 0.5, anomalies' not refuted. No: R not above zero. Else partly."""
    question = "Does it know when a place is wet (R in time)?"
    line = facts.main_of(evaluation, "r")
    if line is None or not line["n_sensors"]:
        return _without_r(question, evaluation)
    own = evaluation.main_scores
    sure, told = int((own["r_lower"] > 0).sum()), int(own["r_lower"].notna().sum())
    evidence = (
        f"mean R {facts.with_interval(line['mean'], (line['mean_lower'], line['mean_upper']))} "
    )
    evidence += f"over {line['n_sensors']} sensors; surely above zero at {sure} of {told}"
    if np.isnan(line["mean_lower"]):
        grade = PARTLY if told and sure == told else UNKNOWN
        answer = "at these places, yes" if grade == PARTLY else "too few places for an interval"
        return Answer(question, answer, grade, f"{evidence}; {line['status']}")
    beside = _anomaly(evaluation)
    if beside is None:
        evidence += "; beside the season it was not scored"
    else:
        ends = facts.with_interval(beside["mean"], (beside["mean_lower"], beside["mean_upper"]))
        evidence += f"; R of anomalies {ends}"
    if line["mean_lower"] <= 0:
        return Answer(question, "no: R is not shown to be above zero", NO, evidence)
    if beside is not None and beside["mean_lower"] <= 0:
        return Answer(question, "the season, but not what departs from it", PARTLY, evidence)
    if line["mean_lower"] <= GOOD_R:
        words = f"R is above zero, but not surely above {GOOD_R}"
        return Answer(question, words, PARTLY, evidence)
    return Answer(question, f"R is surely above {GOOD_R}", YES, evidence)


def _without_r(question: str, evaluation: Evaluation) -> Answer:
    """A prediction that never changes knows no time; otherwise nothing can be said."""
    own = evaluation.main_scores
    words = own.loc[own["rmse_m3_m3"].notna(), "status"].astype("str")
    if len(words) and (words == "constant prediction").all():
        never = f"at all {len(words)} sensors its prediction never changes"
        return Answer(question, "no: it says the same every day", NO, never)
    return Answer(question, "no R exists", UNKNOWN, facts.statuses(evaluation))


def _anomaly(evaluation: Evaluation) -> pd.Series | None:
    table = evaluation.anomaly
    if is_missing(table):
        return None
    window = table["state"].astype("str").str.contains("window")
    rows = table[window & (table["model"] == evaluation.main) & (table["metric"] == "r")]
    rows = rows[rows["mean_lower"].notna()]
    return rows.iloc[0] if len(rows) else None


def where(evaluation: Evaluation) -> Answer:
    """Yes: R across stations above zero, and of its dynamic part. Partly: one of them. No: none."""
    question = "Does it know where it is wet (R across stations at one date)?"
    table = evaluation.spatial_mean
    found: dict[str, Any] = {p: facts.row_of(table, model=evaluation.main, part=p)
             for p in ("all", "static", "dynamic")}  # fmt: skip
    if any(row is None for row in found.values()):
        why = table["status"].iloc[0] if is_missing(table) else "no date is scored"
        return Answer(question, "not scored", UNKNOWN, why)
    if np.isnan(found["all"]["lower"]):
        return Answer(question, "no interval", UNKNOWN, found["all"]["status"])
    evidence = "; ".join(
        f"{word} {facts.with_interval(found[p]['r'], (found[p]['lower'], found[p]['upper']))}"
        for p, word in (("all", "R"), ("static", "of places' means"), ("dynamic", "of departures"))
    )
    evidence += f"; mean of {found['all']['n_dates']} dates"
    level, moves = found["all"]["lower"] > 0, found["dynamic"]["lower"] > 0
    if level and moves:
        return Answer(question, "which places are wet, and which wetter than usual", YES, evidence)
    if level:
        return Answer(
            question, "which places are wet always, not which are today", PARTLY, evidence
        )
    if moves:
        return Answer(question, "which places are wetter than usual, not which are wet", PARTLY,
                      evidence)  # fmt: skip
    return Answer(question, "no: the pattern is not shown to be right", NO, evidence)


def regions(evaluation: Evaluation) -> Answer:
    """Yes: no class surely worse or without skill. No: such hold half of the stations."""
    question = "Does it hold across regions and classes of land?"
    n_judged, n = facts.n_judged_classes(evaluation), facts.sizes(evaluation)["stations"]
    if n_judged < 2:
        why = f"{n_judged} of {facts.n_classes(evaluation)} classes have an interval"
        return Answer(question, "too few classes can be judged", UNKNOWN, why)
    bad = facts.classes_apart(evaluation)
    evidence = f"{n_judged} of {facts.n_classes(evaluation)} classes have an interval"
    if not len(bad):
        return Answer(question, "no class is surely worse or without skill", YES, evidence)
    names = bad.drop_duplicates(["characteristic", "class"])
    largest = names.groupby("characteristic")["n_stations"].sum().max()
    words = ", ".join(f"{row[1]} ({row[0]})" for row in names.itertuples(index=False))
    evidence += "; " + "; ".join(f"{row[1]}: {row[3]}" for row in bad.itertuples(index=False))
    grade = NO if largest >= n / 2 else PARTLY
    return Answer(question, f"fails in {words}", grade, evidence)


def uncertainty(evaluation: Evaluation) -> Answer:
    """Yes: 50 and 90 % intervals cover that much. No: 90 % surely cover below 80 %. Else partly."""
    question = "Are its stated uncertainties true?"
    found = evaluation.calibration
    if found.status != OK:
        return Answer(question, "none are stated", UNKNOWN, found.status)
    table = found.reliability
    rows: dict[float, Any] = {
        level: facts.row_of(table, model=evaluation.main, kind="interval", nominal=level)
        for level in (0.5, NOMINAL)
    }
    if any(row is None or np.isnan(row["lower"]) for row in rows.values()):
        words = table.loc[table["model"] == evaluation.main, "status"].unique()
        return Answer(question, "no interval", UNKNOWN, "; ".join(words) or "none of this model")
    evidence = "; ".join(
        f"{level:.0%} intervals hold "
        f"{facts.with_interval(row['observed'], (row['lower'], row['upper']))} of the readings"
        for level, row in rows.items()
    )
    if all(bool(row["is_consistent"]) for row in rows.values()):
        return Answer(question, "they cover what they promise", YES, evidence)
    if rows[NOMINAL]["upper"] < TOO_SURE:
        return Answer(question, "no: far too sure of itself", NO, evidence)
    return Answer(question, "roughly: they are off, but not far", PARTLY, evidence)


def distance(evaluation: Evaluation) -> Answer:
    """Yes: surely 80 % of predictions inside the area of applicability. No: surely below half."""
    question = "Were its inputs like those that it learned from?"
    found = evaluation.applicability
    if found.status != OK:
        return Answer(question, "not known", UNKNOWN, found.status)
    share, lower, upper = found.share_inside
    evidence = f"share inside {facts.with_interval(share, (lower, upper))}; median dissimilarity "
    evidence += f"{found.median_index:.2f}, threshold {found.threshold:.2f}"
    if np.isnan(lower):
        return Answer(question, "too few places for an interval", UNKNOWN, evidence)
    answer = f"{share:.0%} of the predictions lie inside the area of applicability"
    grade = YES if lower >= NEAR else NO if upper < FAR else PARTLY
    return Answer(question, answer, grade, evidence)

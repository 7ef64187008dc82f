"""The rules that turn intervals into yes, partly, no and unknown: one function a question.

No rule looks at a value without its interval; where there is no interval the grade is "unknown",
and the evidence says so. What an audit forbids caps every grade: on a leaky split nothing but the
first question has an answer, on one that cannot be audited nothing is better than "partly".
"""

from typing import Any

import numpy as np
import pandas as pd

from soilkit.evaluation import facts
from soilkit.evaluation.answers import GOOD_R, NO, PARTLY, UNKNOWN, YES, Answer
from soilkit.evaluation.gains import beats_season_in_time
from soilkit.evaluation.records import NOT_AUDITABLE, OK, Evaluation, NotAudited, is_missing

SAME = 0.9  # an error surely above nine tenths of the spread is no smaller than it
HOLDS, TOO_FEW = 0.8, 0.5  # shares of stations that stand in classes that can be judged
NEAR, FAR = 0.8, 0.5  # shares of predictions inside the area of applicability
TOO_SURE, NOMINAL = 0.8, 0.9  # coverage of a 90 % interval, below which it misleads


def unseen(evaluation: Evaluation) -> Answer:
    """Yes: no shared chip or coarse pixel. Partly: unseen stations. No: whatever leaks."""
    claim = evaluation.claim
    question = "Were the scored places truly unseen?"
    if claim == NOT_AUDITABLE:
        grade, answer = UNKNOWN, "nobody said which stations trained"
    elif claim.startswith(("unseen places", "unseen networks")):
        grade, answer = YES, claim
    elif claim.startswith("unseen stations"):
        rows = evaluation.audit_table[evaluation.audit_table["is_scored"]]
        failed = rows["failed"].astype("str").str.len().gt(0).any()
        how = "also trained" if failed else "could not be checked"
        grade, answer = PARTLY, f"stations yes, but their chips or coarse pixels {how}"
    else:
        grade, answer = NO, f"only {claim}" if claim.startswith("unseen") else claim
    chosen = facts.validation_share(evaluation)
    if chosen and grade == YES:
        grade = PARTLY
    words = [f"{chosen:.0%} of the samples are validation: they may have chosen the model"]
    words = words if chosen else []
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


def error_size(evaluation: Evaluation) -> Answer:
    """Yes: ubRMSE and RMSE surely below the station's own spread. Partly: ubRMSE. No: neither.

    Unknown: whether ubRMSE is below the spread is left open by its interval.
    """
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
    if ub.upper >= 1 and ub.lower >= SAME:
        return Answer(question, "no: a station's own mean would do as well", NO, evidence)
    if ub.upper >= 1:
        return Answer(question, f"undecided: the interval holds 1; {typical}", UNKNOWN, evidence)
    if not rms.upper < 1:
        words = facts.LEVELS_WRONG if rms.lower >= 1 else "swings yes, levels undecided"
        return Answer(question, f"{words}; {typical}", PARTLY, evidence)
    return Answer(question, typical, YES, evidence)


def when(evaluation: Evaluation) -> Answer:
    """Yes: mean R surely above 0.5, and anomalies' above zero or R above a climatology's.

    No: R surely below 0.5, and not above zero. Unknown: the interval leaves both open.
    """
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
    ends = "not scored"
    if beside is not None:
        ends = facts.with_interval(beside["mean"], (beside["mean_lower"], beside["mean_upper"]))
    words, grade = _in_time(line, beside, evaluation)
    return Answer(question, words, grade, f"{evidence}; R of anomalies: {ends}")


def _in_time(line, beside, evaluation: Evaluation) -> tuple[str, str]:
    """The answer and its grade, from the interval of R and that of the anomalies' R, if any."""
    if line["mean_lower"] <= 0:
        if line["mean_upper"] < GOOD_R:
            return "no: R is not above zero", NO
        return "undecided: R's interval holds zero", UNKNOWN
    if beside is not None and beside["mean_lower"] <= 0:
        return "the season, but not what departs from it", PARTLY
    if line["mean_lower"] <= GOOD_R:
        return f"R is above zero, but not surely above {GOOD_R}", PARTLY
    if beside is None and not beats_season_in_time(evaluation):
        return f"R is surely above {GOOD_R}, but may be the season's alone", PARTLY
    return f"R is surely above {GOOD_R}", YES


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
    """Yes: R across stations above zero, that of places' means and that of departures too.

    Partly: some of the three. No: surely below 0.5 and none, or every place alike.
    """
    question = "Does it know where it is wet (R across stations at one date)?"
    table = evaluation.spatial_mean
    found: dict[str, Any] = {p: facts.row_of(table, model=evaluation.main, part=p)
             for p in ("all", "static", "dynamic")}  # fmt: skip
    if any(row is None for row in found.values()):
        why = table["status"].iloc[0] if is_missing(table) else "no date is scored"
        return Answer(question, "not scored", UNKNOWN, why)
    whole = found["all"]
    if str(whole["status"]).startswith("constant"):
        return Answer(question, "no: it shows every place alike", NO, whole["status"])
    if np.isnan(whole["lower"]):
        return Answer(question, "no interval", UNKNOWN, whole["status"])
    evidence = "; ".join(
        f"{word} {facts.with_interval(found[p]['r'], (found[p]['lower'], found[p]['upper']))}"
        for p, word in (("all", "R"), ("static", "of places' means"), ("dynamic", "of departures"))
    )
    evidence += f"; mean of {whole['n_dates']} dates"
    above = tuple(bool(found[p]["lower"] > 0) for p in ("all", "static", "dynamic"))
    return Answer(question, *_pattern(*above, may_be_good=whole["upper"] >= GOOD_R), evidence)


def _pattern(level: bool, static: bool, moves: bool, *, may_be_good: bool) -> tuple[str, str]:
    """The answer and its grade, from which of R and its two parts are surely above zero."""
    if level and static and moves:
        return "which places are wet, and which wetter than usual", YES
    if static and not moves:
        return "which places are wet always, not which are today", PARTLY
    if moves and not static:
        return "which places are wetter than usual, not which are wet", PARTLY
    if level or moves:
        return "something of the pattern, but not all of its parts", PARTLY
    if may_be_good:
        return "undecided: every interval holds zero", UNKNOWN
    return "no: the pattern is not shown to be right", NO


def regions(evaluation: Evaluation) -> Answer:
    """Yes: no class surely worse or without skill, and most stations stand in judged classes.

    No: bad classes hold half of the stations. Unknown: fewer than half stand in judged classes.
    """
    question = "Does it hold across regions and classes of land?"
    n_judged, n = facts.n_judged_classes(evaluation), facts.sizes(evaluation)["stations"]
    bad, share = facts.classes_apart(evaluation), facts.judged_share(evaluation)
    evidence = f"{n_judged} of {facts.n_classes(evaluation)} classes have an interval, and "
    evidence += f"{share:.0%} of the stations stand in one that decides"
    if not len(bad):
        if n_judged < 2 or share < TOO_FEW:
            return Answer(question, "too few classes can be judged", UNKNOWN, evidence)
        if share < HOLDS:
            words = "no class that can be judged fails, but too many cannot"
            return Answer(question, words, PARTLY, evidence)
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
    lacking = facts.unmeasured_share(evaluation)
    answer += f", {lacking:.0%} lack an input" if lacking >= 0.01 else ""
    grade = YES if lower >= NEAR else NO if upper < FAR else PARTLY
    return Answer(question, answer, grade, evidence)

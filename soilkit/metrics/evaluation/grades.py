"""The first page: nine questions, the rules that turn intervals into grades, and one sentence."""

import re
from typing import Any

import numpy as np
import pandas as pd

from soilkit.constants import OK
from soilkit.metrics import splits
from soilkit.metrics.anomalies import season_of
from soilkit.metrics.evaluation.records import (
    Answer,
    Evaluation,
    Finding,
    Grade,
    NotAudited,
    is_missing,
)
from soilkit.metrics.evaluation.rows import GIVEN
from soilkit.metrics.evaluation.score_tables import CONSTANT_ACROSS, WINDOW_STATE, role_of
from soilkit.metrics.scores import CONSTANT_PREDICTION
from soilkit.metrics.splits.checks import Claim
from soilkit.strata import MIN_STATIONS

VALIDATION = re.compile(r"^(?:val|valid|validation|dev)\b", re.IGNORECASE)
YEAR_DAYS = 365
ALPHA = 0.05
GOOD_R = 0.5  # a quarter of the variance
SAME = 0.9  # an error surely above nine tenths of the spread is no smaller than it
HOLDS, TOO_FEW = 0.8, 0.5  # shares of stations that stand in classes that can be judged
NEAR, FAR = 0.8, 0.5  # shares of predictions inside the area of applicability
TOO_SURE, NOMINAL = 0.8, 0.9  # coverage of a 90 % interval, below which it misleads
COMPARED = {"r": "R", "ubrmse_m3_m3": "ubRMSE", "rmse_m3_m3": "RMSE"}
YES, PARTLY, NO, UNKNOWN = Grade.YES, Grade.PARTLY, Grade.NO, Grade.UNKNOWN


def row_of(table: pd.DataFrame, **keys: Any) -> pd.Series | None:
    """The first row where every column has that value; None without one, or without a table."""
    if is_missing(table) or any(name not in table for name in keys):
        return None
    good = np.ones(len(table), bool)
    for name, value in keys.items():
        good &= (table[name] == value).to_numpy()
    return table[good].iloc[0] if good.any() else None


def between(lower: float, upper: float, *, places: int = 2) -> str:
    """ "0.61 to 0.72", or that there is no interval."""
    if not (np.isfinite(lower) and np.isfinite(upper)):
        return "no interval"
    return f"{lower:.{places}f} to {upper:.{places}f}"


def with_interval(value: float, lower: float, *, upper: float) -> str:
    """ "0.68 (95 %: 0.61 to 0.72)", "0.68 (no interval)", or "undefined" without a value."""
    if np.isnan(value):
        return "undefined"
    known = np.isfinite(lower) and np.isfinite(upper)
    return f"{value:.2f} ({'95 %: ' if known else ''}{between(lower, upper)})"


def estimate(row: pd.Series, name: str = "r") -> str:
    """A row's value with its interval, ``lower`` and ``upper`` being the row's only one or its."""
    ends = ("lower", "upper") if "lower" in row else (f"{name}_lower", f"{name}_upper")
    return with_interval(row[name], row[ends[0]], upper=row[ends[1]])


def pairs_of_main(evaluation: Evaluation) -> pd.DataFrame:
    """The rows of the main model that are scored."""
    return evaluation.unseen[evaluation.unseen["model"].astype("str") == evaluation.main]


def used_stations(evaluation: Evaluation) -> pd.DataFrame:
    """The rows of the stations table whose sensors are scored for the main model."""
    ids = set(pairs_of_main(evaluation)["sensor_id"].astype("str"))
    return evaluation.stations[evaluation.stations["sensor_id"].astype("str").isin(ids)]


def sizes(evaluation: Evaluation) -> dict[str, int]:
    """Counts of the main model's scored samples, sensors, stations, networks and blocks.

    ``blocks`` counts 2-degree blocks of stations with a known place.
    """
    rows, used = pairs_of_main(evaluation), used_stations(evaluation)
    places = used.drop_duplicates("station_id")
    places = places[places[["latitude", "longitude"]].notna().all(axis=1)]
    return {
        "samples": len(rows),
        "sensors": rows["sensor_id"].nunique(),
        "stations": rows["station_id"].nunique(),
        "networks": rows["network"].nunique(),
        "blocks": int(splits.block_ids(places).nunique()) if len(places) else 0,
        "located": len(places),
    }


def span_days(evaluation: Evaluation) -> float:
    """Days from the first to the last scored sample of the main model."""
    time = pairs_of_main(evaluation)["time"]
    return (time.max() - time.min()) / pd.Timedelta("1D") if len(time) else 0.0


def months_absent(evaluation: Evaluation) -> list[str]:
    """Of DJF, MAM, JJA and SON those without a scored sample."""
    rows = pairs_of_main(evaluation)
    if not len(rows):
        return []
    present = set(season_of(rows["time"], float("nan"))["months"])
    return [name for name in ("DJF", "MAM", "JJA", "SON") if name not in present]


def depths(evaluation: Evaluation) -> str:
    """The depths of the sensors in words."""
    spans = used_stations(evaluation)[["depth_from_m", "depth_to_m"]].dropna().drop_duplicates()
    words = [
        f"{100 * top:g} to {100 * end:g} cm" if top < end else f"{100 * top:g} cm"
        for top, end in spans.sort_values(["depth_to_m", "depth_from_m"]).to_numpy(float)
    ]
    return " · ".join(words) or "unknown"


def statuses(evaluation: Evaluation) -> str:
    """How many of the main model's sensors have which status."""
    words = evaluation.main_scores["status"].astype("str")
    words = words.map(lambda text: re.sub(r": [\d.]+ <", ", below", text))
    return " · ".join(f"{name}: {n}" for name, n in words.value_counts().items())


def main_of(evaluation: Evaluation, metric: str) -> pd.Series | None:
    """The main model's line of a metric in the overall summary."""
    return row_of(evaluation.overall, model=evaluation.main, metric=metric)


def strata_known(evaluation: Evaluation) -> dict[str, pd.DataFrame]:
    """The summaries by class, the seasons left out."""
    tables = evaluation.strata.items()
    return {by: table for by, table in tables if by != "season" and not is_missing(table)}


def class_scores(evaluation: Evaluation, metric: str = "r") -> pd.DataFrame:
    """The main model's summaries of all classes: ``characteristic``, ``class`` and their figures.

    With ``decides``: whether the interval of a mean R says anything, because it does not hold zero
    or ends below 0.5.
    """
    tables = [
        table[(table["model"] == evaluation.main) & (table["metric"] == metric)]
        .rename(columns={by: "class"})
        .assign(characteristic=by)
        for by, table in strata_known(evaluation).items()
    ]
    columns = ["characteristic", "class", "mean", "mean_lower", "mean_upper", "n_stations"]
    table = pd.concat(tables) if tables else pd.DataFrame(columns=columns)
    return table.assign(decides=(table["mean_lower"] > 0) | (table["mean_upper"] < GOOD_R))


def small_classes(evaluation: Evaluation) -> list[str]:
    """Classes below five stations, "Sand (texture, 2)"."""
    table = class_scores(evaluation, "rmse_m3_m3")
    small = table[
        (table["n_stations"] < MIN_STATIONS) & (table["class"].astype("str") != "unknown")
    ]
    columns = ["class", "characteristic", "n_stations"]
    return [f"{name} ({by}, {n})" for name, by, n in small[columns].itertuples(index=False)]


def n_classes(evaluation: Evaluation) -> int:
    """How many classes all strata have together, seasons left out."""
    return sum(table[by].nunique() for by, table in strata_known(evaluation).items())


def classes_apart(evaluation: Evaluation) -> pd.DataFrame:
    """Classes that are surely more than a tenth worse than the rest, or surely without skill.

    Without skill is a class whose mean R has an interval that holds zero and ends below 0.5.

    Returns
    -------
    DataFrame: ``characteristic, class, n_stations, why``
    """
    lines: list[tuple] = []
    classes = evaluation.failures.classes
    if not is_missing(classes):
        sure = (classes["verdict"] == "worse") & (classes["ratio_lower"] > 1)
        for row in classes[sure].itertuples():
            ends = between(row.ratio_lower, row.ratio_upper)
            why = f"ubRMSE {row.ratio:.2f} times the rest's (95 %: {ends})"
            # A namedtuple cannot have a field called "class".
            lines.append((row.characteristic, row.label.rstrip("*"), row.n_stations, why))
    table = class_scores(evaluation)
    for _, row in table[table["decides"] & (table["mean_lower"] <= 0)].iterrows():
        why = f"R {estimate(row, 'mean')}"
        lines.append((row["characteristic"], str(row["class"]), int(row["n_stations"]), why))
    return pd.DataFrame(lines, columns=["characteristic", "class", "n_stations", "why"])


def n_judged_classes(evaluation: Evaluation) -> int:
    """Classes whose mean R or ratio to the rest has an interval."""
    classes, table = evaluation.failures.classes, class_scores(evaluation)
    tables = [table[table["mean_lower"].notna()]]
    if not is_missing(classes):
        tables.append(classes[classes["ratio_lower"].notna()])
    return len({(t[0], str(t[1])) for rows in tables
                for t in zip(rows["characteristic"], rows["class"], strict=True)})  # fmt: skip


def judged_share(evaluation: Evaluation) -> float:
    """Share of stations, over all characteristics, in classes whose mean R decides something."""
    table = class_scores(evaluation)
    total = table["n_stations"].sum()
    return float(table.loc[table["decides"], "n_stations"].sum() / total) if total else 0.0


def validation_share(evaluation: Evaluation) -> float:
    """Share of the main model's scored samples whose split is called validation."""
    words = pairs_of_main(evaluation)[GIVEN].astype("str")
    return float(words.str.contains(VALIDATION).mean()) if len(words) else 0.0


def unseen(evaluation: Evaluation) -> Answer:
    """Yes: no shared chip or coarse pixel. Partly: unseen stations. No: whatever leaks."""
    question = "Were the scored places truly unseen?"
    level, scored = evaluation.level, evaluation.scored_splits
    grade, answer = NO, evaluation.claim
    if level is Claim.NOT_AUDITABLE:
        grade, answer = UNKNOWN, "nobody said which stations trained"
    elif level is Claim.STATIONS:
        failed = scored["failed"].astype("str").str.len().gt(0).any()
        why = "also trained" if failed else "could not be checked"
        grade, answer = PARTLY, f"stations yes, but their chips or coarse pixels {why}"
    elif level.is_unseen:
        grade = YES
    elif not level.is_leaky:
        answer = f"only {answer}"
    chosen, words = validation_share(evaluation), []
    if chosen:
        grade = PARTLY if grade is YES else grade
        words = [f"{chosen:.0%} of the samples are validation: they may have chosen the model"]
    for row in scored.itertuples():
        audit = evaluation.audits[row.split]
        if isinstance(audit, NotAudited):
            words.append(f"{row.split}: {audit.reason}")
            continue
        far = audit.distance_shares
        near = f"; the nearest training station is {far['median_km']:.3g} km away" if far else ""
        checked = sum(check.status != "not checked" for check in audit.checks)
        words.append(f"{row.split}: {checked} checks made, {row.failed or 'none'} failed{near}")
    return Answer(question, answer, grade, ". ".join(words))


# Is the model better than SMAP, and than the season alone: paired differences as answers.

HARDEST_FIRST = (NO, PARTLY, UNKNOWN, YES)


def better_than(evaluation: Evaluation, role: str, *, question: str) -> Answer:
    """Yes: better in one score and worse in none, by Holm. No: worse and never better.

    Partly: better in one, worse in another. Unknown: no pair, no interval, or undecided. Of
    several models of that role the one that is hardest to beat decides.
    """
    table, none = evaluation.comparison, Finding.NOT_COMPARED
    if is_missing(table):
        return Answer(question, none.value, UNKNOWN, table["status"].iloc[0], none)
    rows = table[(table["role"] == role) & table["metric"].isin(COMPARED)]
    if not len(rows):
        return Answer(question, none.value, UNKNOWN, "it is not among the models", none)
    judged = rows[rows["lower"].notna()]
    if not len(judged):
        return Answer(question, "no interval", UNKNOWN, "; ".join(rows["status"].unique()))
    answers = [
        _against(part, evaluation.main, question=question)
        for _, part in judged.groupby(judged["model_b"].astype("str"), sort=False)
    ]
    return min(answers, key=lambda answer: HARDEST_FIRST.index(answer.grade))


def _against(judged: pd.DataFrame, main: str, *, question: str) -> Answer:
    """The answer against one rival."""
    wins, losses = (
        judged.loc[judged["better"] == name, "metric"].map(COMPARED).tolist()
        for name in (main, judged["model_b"])
    )
    parts = {"better": wins, "worse": losses}
    words = " and ".join(f"{word} in {', '.join(m)}" for word, m in parts.items() if m)
    evidence = "; ".join(
        f"{COMPARED[row.metric]} {row.difference:+.3f} (95 %: "
        f"{between(row.lower, row.upper, places=3)}, p by Holm {row.p_adjusted:.2g})"
        for row in judged.itertuples()
    )
    first = judged.iloc[0]
    evidence += f" minus {first['model_b']} at {first['n_stations']} stations, "
    evidence += f"{first['n_blocks']} blocks"
    if not words:
        words = f"{Finding.UNDECIDED}: every interval holds zero, or Holm takes it back"
        return Answer(question, words, UNKNOWN, evidence, Finding.UNDECIDED)
    grade = PARTLY if wins and losses else YES if wins else NO
    return Answer(question, words, grade, evidence)


def than_smap(evaluation: Evaluation) -> Answer:
    """As against any model; a satellite product has nothing to gain over itself."""
    question = "Is it better than the satellite alone (SMAP)?"
    answer = better_than(evaluation, "smap", question=question)
    is_smap = role_of(evaluation.main, evaluation.options) == "smap"
    if answer.finding is Finding.NOT_COMPARED and is_smap:
        return Answer(question, "it is a satellite product itself", UNKNOWN, "nothing to compare")
    return answer


def than_climatology(evaluation: Evaluation) -> Answer:
    """As against any model; where only an oracle is there, it can be beaten but not lost to."""
    question = "Is it better than the season alone (a climatology)?"
    honest = better_than(evaluation, "climatology", question=question)
    oracle = better_than(evaluation, "oracle", question=question)
    if honest.finding is not Finding.NOT_COMPARED:
        return honest
    if oracle.finding is Finding.NOT_COMPARED:
        if is_missing(evaluation.comparison):
            return honest
        why = "no other year to learn a season from, and nobody said which samples trained"
        return honest._replace(evidence=why)
    words = f"{oracle.answer} (against an oracle that knows the station's other years)"
    return oracle._replace(answer=words, grade=YES if oracle.grade is YES else UNKNOWN)


def beats_season_in_time(evaluation: Evaluation) -> bool:
    """Whether R is surely above that of every climatology that has one."""
    table = evaluation.comparison
    if is_missing(table):
        return False
    rows = table[table["role"].isin(["climatology", "oracle"]) & (table["metric"] == "r")]
    rows = rows[rows["lower"].notna()]
    return len(rows) > 0 and bool((rows["better"] == evaluation.main).all())


# The rules that turn intervals into yes, partly, no and unknown: one function a question.


def _lead(finding: Finding, words: str) -> tuple[str, Finding]:
    return f"{finding}: {words}", finding


def error_size(evaluation: Evaluation) -> Answer:
    """Yes: ubRMSE and RMSE surely below the station's own spread. Partly: ubRMSE. No: neither.

    Unknown: whether ubRMSE is below the spread is left open by its interval.
    """
    question = "Is a typical error at a place smaller than what happens there?"
    table = evaluation.errors
    if is_missing(table):
        return Answer(question, "no error could be scored", UNKNOWN, table["status"].iloc[0])
    lines = table.set_index("metric")
    named = {"ubRMSE": "ubrmse_m3_m3", "|bias|": "bias size_m3_m3", "RMSE": "rmse_m3_m3"}
    quarters = lines[["q25", "median", "q75"]]
    evidence = "; ".join(
        f"{word} quartiles {', '.join(f'{value:.3f}' for value in quarters.loc[name])}"
        for word, name in named.items()
    )
    ub, rms = lines.loc["ubrmse / sd"], lines.loc["rmse / sd"]
    evidence += f" m3 m-3; ubRMSE is {estimate(ub, 'mean')} times and "
    evidence += f"RMSE {estimate(rms, 'mean')} times the spread"
    typical = f"half of the places are within {lines['median']['rmse_m3_m3']:.3f} m3 m-3"
    answer, finding, grade = typical, Finding.PLAIN, YES
    if np.isnan(ub.lower):
        answer, grade = f"{typical}; {ub.status}", UNKNOWN
    elif ub.upper >= 1 and ub.lower >= SAME:
        answer, finding = _lead(Finding.REFUTED, "a station's own mean would do as well")
        grade = NO
    elif ub.upper >= 1:
        answer, finding = _lead(Finding.UNDECIDED, f"the interval holds 1; {typical}")
        grade = UNKNOWN
    elif rms.lower >= 1:
        finding, grade = Finding.LEVELS_WRONG, PARTLY
        answer = f"{finding}; {typical}"
    elif not rms.upper < 1:
        answer, grade = f"swings yes, levels undecided; {typical}", PARTLY
    return Answer(question, answer, grade, evidence, finding)


def when(evaluation: Evaluation) -> Answer:
    """Yes: mean R surely above 0.5, and anomalies' above zero or R above a climatology's.

    No: R surely below 0.5, and not above zero. Unknown: the interval leaves both open.
    """
    question = "Does it know when a place is wet (R in time)?"
    line, scores = main_of(evaluation, "r"), evaluation.main_scores
    if line is None or not line["n_sensors"]:
        words = scores.loc[scores["rmse_m3_m3"].notna(), "status"].astype("str")
        if len(words) and (words == CONSTANT_PREDICTION).all():
            answer, finding = _lead(Finding.REFUTED, "it says the same every day")
            never = f"at all {len(words)} sensors its prediction never changes"
            return Answer(question, answer, NO, never, finding)
        return Answer(question, "no R exists", UNKNOWN, statuses(evaluation))
    sure, known = int((scores["r_lower"] > 0).sum()), int(scores["r_lower"].notna().sum())
    evidence = f"mean R {estimate(line, 'mean')} "
    evidence += f"over {line['n_sensors']} sensors; surely above zero at {sure} of {known}"
    if np.isnan(line["mean_lower"]):
        is_sure = bool(known) and sure == known
        answer = "at these places, yes" if is_sure else "too few places for an interval"
        grade = PARTLY if is_sure else UNKNOWN
        return Answer(question, answer, grade, f"{evidence}; {line['status']}")
    beside = _anomaly(evaluation)
    ends = "not scored" if beside is None else estimate(beside, "mean")
    words, grade, finding = _in_time(line, beside, evaluation)
    return Answer(question, words, grade, f"{evidence}; R of anomalies: {ends}", finding)


def _anomaly(evaluation: Evaluation) -> pd.Series | None:
    """The main model's R of anomalies against a moving window, if it has an interval."""
    keys = {"state": WINDOW_STATE, "model": evaluation.main, "metric": "r"}
    row = row_of(evaluation.anomaly, **keys)
    return None if row is None or np.isnan(row["mean_lower"]) else row


def _in_time(line, beside, evaluation: Evaluation) -> tuple[str, Grade, Finding]:
    """The answer, from the interval of R and that of the anomalies' R, if any."""
    if line["mean_lower"] <= 0:
        if line["mean_upper"] < GOOD_R:
            words, finding = _lead(Finding.REFUTED, "R is not above zero")
            return words, NO, finding
        words, finding = _lead(Finding.UNDECIDED, "R's interval holds zero")
        return words, UNKNOWN, finding
    grade = PARTLY
    if beside is not None and beside["mean_lower"] <= 0:
        words = "the season, but not what departs from it"
    elif line["mean_lower"] <= GOOD_R:
        words = f"R is above zero, but not surely above {GOOD_R}"
    elif beside is None and not beats_season_in_time(evaluation):
        words = f"R is surely above {GOOD_R}, but may be the season's alone"
    else:
        words, grade = f"R is surely above {GOOD_R}", YES
    return words, grade, Finding.PLAIN


PATTERNS: dict[
    tuple[bool, ...], tuple[str, Grade]
] = {  # which of R across stations, of places' means and of departures are above zero
    (True, True, True): ("which places are wet, and which wetter than usual", YES),
    (True, True, False): ("which places are wet always, not which are today", PARTLY),
    (False, True, False): ("which places are wet always, not which are today", PARTLY),
    (True, False, True): ("which places are wetter than usual, not which are wet", PARTLY),
    (False, False, True): ("which places are wetter than usual, not which are wet", PARTLY),
    (True, False, False): ("something of the pattern, but not all of its parts", PARTLY),
    (False, True, True): ("something of the pattern, but not all of its parts", PARTLY),
}


def where(evaluation: Evaluation) -> Answer:
    """Yes: R across stations above zero, that of places' means and that of departures too.

    Partly: some of the three. No: surely below 0.5 and none, or every place alike.
    """
    question = "Does it know where it is wet (R across stations at one date)?"
    table = evaluation.spatial_mean
    named = {"all": "R", "static": "of places' means", "dynamic": "of departures"}
    rows: dict[str, Any] = {p: row_of(table, model=evaluation.main, part=p) for p in named}
    if any(row is None for row in rows.values()):
        why = table["status"].iloc[0] if is_missing(table) else "no date is scored"
        return Answer(question, "not scored", UNKNOWN, why)
    whole = rows["all"]
    if whole["status"] == CONSTANT_ACROSS:
        answer, finding = _lead(Finding.REFUTED, "it shows every place alike")
        return Answer(question, answer, NO, whole["status"], finding)
    if np.isnan(whole["lower"]):
        return Answer(question, "no interval", UNKNOWN, whole["status"])
    evidence = "; ".join(f"{word} {estimate(rows[part])}" for part, word in named.items())
    evidence += f"; mean of {whole['n_dates']} dates"
    above = tuple(bool(row["lower"] > 0) for row in rows.values())  # all, static, dynamic
    if any(above):
        return Answer(question, *PATTERNS[above], evidence)
    if whole["upper"] >= GOOD_R:
        answer, finding = _lead(Finding.UNDECIDED, "every interval holds zero")
        return Answer(question, answer, UNKNOWN, evidence, finding)
    answer, finding = _lead(Finding.REFUTED, "the pattern is not shown to be right")
    return Answer(question, answer, NO, evidence, finding)


def regions(evaluation: Evaluation) -> Answer:
    """Yes: no class surely worse or without skill, and most stations stand in judged classes.

    No: bad classes hold half of the stations. Unknown: fewer than half stand in judged classes.
    """
    question = "Does it hold across regions and classes of land?"
    n_judged, share = n_judged_classes(evaluation), judged_share(evaluation)
    bad = classes_apart(evaluation)
    evidence = f"{n_judged} of {n_classes(evaluation)} classes have an interval, and "
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
    grade = NO if largest >= sizes(evaluation)["stations"] / 2 else PARTLY
    return Answer(question, f"fails in {words}", grade, evidence)


def uncertainty(evaluation: Evaluation) -> Answer:
    """Yes: 50 and 90 % intervals cover that much. No: 90 % surely cover below 80 %. Else partly."""
    question = "Are its stated uncertainties true?"
    if evaluation.calibration.status != OK:
        return Answer(question, "none are stated", UNKNOWN, evaluation.calibration.status)
    table = evaluation.calibration.reliability
    keys = {"model": evaluation.main, "kind": "interval"}
    rows: dict[float, Any] = {n: row_of(table, nominal=n, **keys) for n in (0.5, NOMINAL)}
    if any(row is None or np.isnan(row["lower"]) for row in rows.values()):
        words = table.loc[table["model"] == evaluation.main, "status"].unique()
        return Answer(question, "no interval", UNKNOWN, "; ".join(words) or "none of this model")
    evidence = "; ".join(
        f"{level:.0%} intervals hold {estimate(row, 'observed')} of the readings"
        for level, row in rows.items()
    )
    if all(bool(row["is_consistent"]) for row in rows.values()):
        return Answer(question, "they cover what they promise", YES, evidence)
    if rows[NOMINAL]["upper"] < TOO_SURE:
        answer, finding = _lead(Finding.REFUTED, "far too sure of itself")
        return Answer(question, answer, NO, evidence, finding)
    return Answer(question, "roughly: they are off, but not far", PARTLY, evidence)


def distance(evaluation: Evaluation) -> Answer:
    """Yes: surely 80 % of predictions inside the area of applicability. No: surely below half."""
    question = "Were its inputs like those that it learned from?"
    area = evaluation.applicability
    if area.status != OK:
        return Answer(question, "not known", UNKNOWN, area.status)
    share, lower, upper = area.share_inside
    evidence = f"share inside {with_interval(share, lower, upper=upper)}; median dissimilarity "
    evidence += f"{area.median_index:.2f}, threshold {area.threshold:.2f}"
    if np.isnan(lower):
        return Answer(question, "too few places for an interval", UNKNOWN, evidence)
    answer = f"{share:.0%} of the predictions lie inside the area of applicability"
    known = len(area.measured) > 0
    lacking = float(area.measured["dissimilarity_index"].isna().mean()) if known else 0.0
    answer += f", {lacking:.0%} lack an input" if lacking >= 0.01 else ""
    grade = YES if lower >= NEAR else NO if upper < FAR else PARTLY
    return Answer(question, answer, grade, evidence)


# The first page: nine questions, a grade each by documented rules, and one sentence.

QUESTIONS = {  # the rule, and what the sentence calls it
    "smap": (than_smap, "gain over SMAP"),
    "season": (than_climatology, "gain over the season"),
    "size": (error_size, "size of errors"),
    "when": (when, "skill in time"),
    "where": (where, "skill in space"),
    "regions": (regions, "classes and regions"),
    "spread": (uncertainty, "stated uncertainties"),
    "distance": (distance, "distance from training"),
}


def verdict(evaluation: Evaluation) -> pd.DataFrame:
    """Whether to trust the map, a question a line; rules stand in ``grades``, one function each.

    A grade comes from intervals, never from a value alone; without an interval it is "unknown".
    Where the split leaks only the first question keeps an answer, and where it cannot be audited
    no grade is better than "partly".

    Returns
    -------
    DataFrame: ``question, answer, grade`` ("yes", "partly", "no", "unknown"), ``evidence``. Its
    ``attrs`` hold the overall ``sentence`` and ``grade``
    """
    first = unseen(evaluation)
    rest = {name: _capped(rule(evaluation), evaluation) for name, (rule, _) in QUESTIONS.items()}
    table = pd.DataFrame([first, *rest.values()], columns=list(Answer._fields))
    table = table.drop(columns="finding").astype({"grade": "str"})
    # A yes also wants all seasons of a year.
    is_short = span_days(evaluation) < YEAR_DAYS - 15 or bool(months_absent(evaluation))
    grade, words = _overall(first, rest, is_short=is_short)
    name = f"{evaluation.main} on {evaluation.label}"
    table.attrs = {"grade": grade.value, "sentence": f"{name}: {words}"}
    return table


def _capped(answer: Answer, evaluation: Evaluation) -> Answer:
    """The answer as far as the split lets it stand."""
    if evaluation.level.is_leaky and answer.grade in (YES, PARTLY):
        words = f"would be '{answer.grade}', but the samples are no test: {answer.answer}"
        return answer._replace(answer=words, grade=UNKNOWN)
    if not evaluation.is_unseen and answer.grade is YES:
        known = evaluation.level is not Claim.NOT_AUDITABLE
        tail = "but at stations that also trained" if known else "if the places are unseen"
        return answer._replace(answer=f"{answer.answer}; {tail}", grade=PARTLY)
    return answer


def sentence(evaluation: Evaluation) -> str:
    """The one sentence of ``verdict``."""
    return str(verdict(evaluation).attrs["sentence"])


def _overall(first: Answer, rest: dict[str, Answer], *, is_short: bool) -> tuple[Grade, str]:
    """No: leaky, or time, errors or both skills refuted. Yes: unseen, in time, in size, not beaten.

    A yes also wants all seasons of a year.
    """
    grade = {name: answer.grade for name, answer in rest.items()}
    plain = {n: a.answer.removeprefix(f"{Finding.REFUTED}: ") for n, a in rest.items()}
    skill = {grade["when"], grade["where"]}
    if first.grade is NO:
        return NO, f"do not trust these scores for new places: {first.answer}."
    if grade["when"] is NO or skill <= {NO, UNKNOWN} and NO in skill:
        bad = [plain[name] for name in ("when", "where") if grade[name] is NO]
        return NO, f"do not trust this map: {'; '.join(bad)}."
    holds = ", ".join(QUESTIONS[name][1] for name in rest if grade[name] is YES)
    holds = f"what holds: {holds}" if holds else "nothing is shown without one"
    tail = _tail(rest, is_short=is_short)
    if grade["size"] is NO:
        return NO, f"do not trust this map's values: {plain['size']}; {holds}." + tail
    if UNKNOWN in (grade["when"], grade["size"]):
        words = "too little is scored to say whether to trust this map."
        if grade["when"] is not UNKNOWN:
            words = f"skill in time is shown at the places scored, but {words}"
        return UNKNOWN, words + tail
    if first.grade is UNKNOWN:
        words = "skill is shown, but not that it holds at places the model never saw."
        return UNKNOWN, words + tail
    good = {grade["when"], grade["size"]} == {YES} and NO not in grade.values() and not is_short
    if good and first.grade is YES and grade["regions"] is not UNKNOWN:
        return YES, "trust this map at places like those scored." + tail
    words = "trust this map with reservations"
    if rest["size"].finding is Finding.LEVELS_WRONG:
        words = "trust when it says wetter or drier, not how wet it says a place is"
    return PARTLY, f"{words}; {holds}." + tail


def _tail(rest: dict[str, Answer], *, is_short: bool) -> str:
    """What is against it, what was tried and stayed open, and what nobody could try."""
    parts: dict[str, list[str]] = {"Reservations": [], "Not shown": [], "Not known": []}
    for name, answer in rest.items():
        words = QUESTIONS[name][1]
        if answer.grade in (NO, PARTLY):
            parts["Reservations"].append(words)
        elif answer.grade is UNKNOWN:
            is_tried = answer.finding is Finding.UNDECIDED
            parts["Not shown" if is_tried else "Not known"].append(words)
    parts["Reservations"] += ["less than the seasons of a year"] if is_short else []
    return "".join(f" {word}: {', '.join(names)}." for word, names in parts.items() if names)

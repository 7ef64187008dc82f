"""The first page: nine questions, the rules that turn intervals into grades, and one sentence."""

import re
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from soilkit.constants import OK
from soilkit.metrics import splits
from soilkit.metrics.anomalies import ORACLE, WINDOW_DAYS, WINDOW_STATE, season_of
from soilkit.metrics.evaluation.records import (
    GIVEN,
    Evaluation,
    Finding,
    Grade,
    NotAudited,
    is_missing,
)
from soilkit.metrics.evaluation.score_tables import BY, CONSTANT_ACROSS, role_of
from soilkit.metrics.scores import CONSTANT_PREDICTION
from soilkit.metrics.splits.checks import Claim

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
REFUTED, UNDECIDED, NOT_COMPARED = Finding.REFUTED, Finding.UNDECIDED, Finding.NOT_COMPARED


class Answer(NamedTuple):
    """One line of the first page; other rules ask for its ``finding``."""

    grade: Grade
    words: str
    evidence: str
    finding: Finding = Finding.PLAIN

    @property
    def answer(self) -> str:
        """What the page says: the finding, then the words."""
        return f"{self.finding}{self.words}"


def _first(evidence: str, *cases: tuple) -> Answer:
    """The answer of the first case (condition, grade, words, finding) whose condition holds."""
    _, grade, words, *finding = next(case for case in cases if case[0])
    return Answer(grade, words, evidence, *finding)


def row_of(table: pd.DataFrame, **keys: Any) -> pd.Series | None:
    """The first row where every column has that value; None without one, or without a table."""
    if not set(keys) <= set(table.columns):
        return None
    for name, value in keys.items():
        table = table[table[name] == value]
    return table.iloc[0] if len(table) else None


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


def sizes(evaluation: Evaluation) -> dict[str, int]:
    """Counts of what is scored of the main model; of ``blocks``, those of ``located`` stations."""
    rows, places = evaluation.pairs, evaluation.used_stations.drop_duplicates("station_id")
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
    time = evaluation.pairs["time"]
    return (time.max() - time.min()) / pd.Timedelta("1D") if len(time) else 0.0


def months_absent(evaluation: Evaluation) -> list[str]:
    """Of DJF, MAM, JJA and SON those without a scored sample."""
    time = evaluation.pairs["time"]
    if not len(time):
        return []
    present = set(season_of(time, float("nan"))["months"])
    return [name for name in ("DJF", "MAM", "JJA", "SON") if name not in present]


def depths(evaluation: Evaluation) -> str:
    """The depths of the sensors in words."""
    spans = evaluation.used_stations[["depth_from_m", "depth_to_m"]].dropna().drop_duplicates()
    words = [
        f"{100 * top:g} to {100 * end:g} cm" if top < end else f"{100 * top:g} cm"
        for top, end in spans.sort_values(["depth_to_m", "depth_from_m"]).to_numpy(float)
    ]
    return " · ".join(words) or "unknown"


def statuses(evaluation: Evaluation) -> str:
    """How many of the main model's sensors have which status."""
    words = evaluation.main_scores["status"].astype("str")
    words = words.str.replace(r": [\d.]+ <", ", below", regex=True)
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

    An interval of a mean R ``decides`` something where it leaves out zero or ends below 0.5.
    """
    columns = ["characteristic", "class", "mean", "mean_lower", "mean_upper", "n_stations"]
    tables = [
        table[(table["model"] == evaluation.main) & (table["metric"] == metric)]
        .rename(columns={by: "class"})
        .assign(characteristic=by)
        for by, table in strata_known(evaluation).items()
    ]
    table = pd.concat(tables) if tables else pd.DataFrame(columns=columns)
    return table.assign(decides=(table["mean_lower"] > 0) | (table["mean_upper"] < GOOD_R))


def n_classes(evaluation: Evaluation) -> int:
    """How many classes all strata have together, seasons left out."""
    return sum(table[by].nunique() for by, table in strata_known(evaluation).items())


def classes_apart(evaluation: Evaluation) -> pd.DataFrame:
    """Classes that are surely more than a tenth worse than the rest, or surely without skill.

    Without skill is a class whose mean R has an interval that holds zero and ends below 0.5.
    """
    lines: list[tuple] = []
    classes, table = evaluation.failures.classes, class_scores(evaluation)
    if not is_missing(classes):
        sure = (classes["verdict"] == "worse") & (classes["ratio_lower"] > 1)
        for row in classes[sure].itertuples():
            ends = between(row.ratio_lower, row.ratio_upper)
            why = f"ubRMSE {row.ratio:.2f} times the rest's (95 %: {ends})"
            # A namedtuple cannot have a field called "class".
            lines.append((row.characteristic, row.label.rstrip("*"), row.n_stations, why))
    for _, row in table[table["decides"] & (table["mean_lower"] <= 0)].iterrows():
        why = f"R {estimate(row, 'mean')}"
        lines.append((row["characteristic"], str(row["class"]), int(row["n_stations"]), why))
    return pd.DataFrame(lines, columns=["characteristic", "class", "n_stations", "why"])


def n_judged_classes(evaluation: Evaluation) -> int:
    """Classes whose mean R or ratio to the rest has an interval."""
    classes, table = evaluation.failures.classes, class_scores(evaluation)
    judged = [table[table["mean_lower"].notna()]]
    judged += [] if is_missing(classes) else [classes[classes["ratio_lower"].notna()]]
    names = [rows[["characteristic", "class"]].astype("str") for rows in judged]
    return len(pd.concat(names).drop_duplicates())


def judged_share(evaluation: Evaluation) -> float:
    """Share of stations, over all characteristics, in classes whose mean R decides something."""
    table = class_scores(evaluation)
    total = table["n_stations"].sum()
    return float(table.loc[table["decides"], "n_stations"].sum() / total) if total else 0.0


def validation_share(evaluation: Evaluation) -> float:
    """Share of the main model's scored samples whose split is called validation."""
    words = evaluation.pairs[GIVEN].astype("str")
    return float(words.str.contains(VALIDATION).mean()) if len(words) else 0.0


def unseen(evaluation: Evaluation) -> Answer:
    """Yes: no shared chip or coarse pixel. Partly: unseen stations. No: whatever leaks."""
    level, scored = evaluation.level, evaluation.scored_splits
    chosen, lines = validation_share(evaluation), []
    if chosen:
        lines = [f"{chosen:.0%} of the samples are validation: they may have chosen the model"]
    for row in scored.itertuples():
        audit = evaluation.audits[row.split]
        if isinstance(audit, NotAudited):
            lines.append(f"{row.split}: {audit.reason}")
            continue
        far = audit.distance_shares
        near = "; nearest training station: least {least_km:.3g} km, median {median_km:.3g} km away"
        near = near.format_map(far) if far else ""
        checked = sum(check.status != "not checked" for check in audit.checks)
        lines.append(f"{row.split}: {checked} checks made, {row.failed or 'none'} failed{near}")
    why = "also trained" if scored["failed"].astype("str").ne("").any() else "could not be checked"
    stations = f"stations yes, but their chips or coarse pixels {why}"
    return _first(
        ". ".join(lines),
        (level is Claim.NOT_AUDITABLE, UNKNOWN, "nobody said which stations trained"),
        (level is Claim.STATIONS, PARTLY, stations),
        (level.is_unseen, PARTLY if chosen else YES, evaluation.claim),
        (level.is_leaky, NO, evaluation.claim),
        (True, NO, f"only {evaluation.claim}"),
    )


# Is the model better than SMAP, and than the season alone: paired differences as answers.

HARDEST_FIRST = (NO, PARTLY, UNKNOWN, YES)


def better_than(evaluation: Evaluation, role: str) -> Answer:
    """Yes: better in one score and worse in none, by Holm. No: worse and never better.

    Partly: better in one, worse in another. Unknown: no pair, no interval, or undecided. Of
    several models of that role the one that is hardest to beat decides.
    """
    table = evaluation.comparison
    if is_missing(table):
        return Answer(UNKNOWN, "", table["status"].iloc[0], NOT_COMPARED)
    rows = table[(table["role"] == role) & table["metric"].isin(COMPARED)]
    if not len(rows):
        return Answer(UNKNOWN, "", "it is not among the models", NOT_COMPARED)
    judged = rows[rows["lower"].notna()]
    if not len(judged):
        return Answer(UNKNOWN, "no interval", "; ".join(rows["status"].unique()))
    rivals = judged.groupby(judged["model_b"].astype("str"), sort=False)
    answers = [_against(part, evaluation.main) for _, part in rivals]
    return min(answers, key=lambda answer: HARDEST_FIRST.index(answer.grade))


def _against(judged: pd.DataFrame, main: str) -> Answer:
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
    return _first(
        evidence,
        (not words, UNKNOWN, "every interval holds zero, or Holm takes it back", UNDECIDED),
        (wins and losses, PARTLY, words),
        (True, YES if wins else NO, words),
    )


def than_smap(evaluation: Evaluation) -> Answer:
    """As against any model; a satellite product has nothing to gain over itself."""
    answer = better_than(evaluation, "smap")
    if answer.finding is NOT_COMPARED and role_of(evaluation.main) == "smap":
        return Answer(UNKNOWN, "it is a satellite product itself", "nothing to compare")
    return answer


def than_climatology(evaluation: Evaluation) -> Answer:
    """As against any model; where only an oracle is there, it can be beaten but not lost to."""
    honest, oracle = (better_than(evaluation, role) for role in ("climatology", "oracle"))
    if honest.finding is not NOT_COMPARED or is_missing(evaluation.comparison):
        return honest
    if oracle.finding is NOT_COMPARED:
        why = "no other year to learn a season from, and nobody said which samples trained"
        return honest._replace(evidence=why)
    words = f"{oracle.words} (against an oracle that knows the station's other years)"
    return oracle._replace(words=words, grade=YES if oracle.grade is YES else UNKNOWN)


def beats_season_in_time(evaluation: Evaluation) -> bool:
    """Whether R is surely above that of every climatology that has one."""
    rows = evaluation.comparison.reindex(columns=["role", "metric", "lower", "better"])
    rows = rows[rows["role"].isin(["climatology", "oracle"]) & (rows["metric"] == "r")]
    better = rows.loc[rows["lower"].notna(), "better"]
    return len(better) > 0 and bool((better == evaluation.main).all())


# The rules that turn intervals into yes, partly, no and unknown: one function a question.


def error_size(evaluation: Evaluation) -> Answer:
    """Yes: ubRMSE and RMSE surely below the station's own spread. Partly: ubRMSE. No: neither.

    Unknown: whether ubRMSE is below the spread is left open by its interval.
    """
    table = evaluation.errors
    if is_missing(table):
        return Answer(UNKNOWN, "no error could be scored", table["status"].iloc[0])
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
    same = ub.upper >= 1 and ub.lower >= SAME
    return _first(
        evidence,
        (np.isnan(ub.lower), UNKNOWN, f"{typical}; {ub.status}"),
        (same, NO, "a station's own mean would do as well", REFUTED),
        (ub.upper >= 1, UNKNOWN, f"the interval holds 1; {typical}", UNDECIDED),
        (rms.lower >= 1, PARTLY, typical, Finding.LEVELS_WRONG),
        (not rms.upper < 1, PARTLY, f"swings yes, levels undecided; {typical}"),
        (True, YES, typical),
    )


def when(evaluation: Evaluation) -> Answer:
    """Yes: mean R surely above 0.5, and anomalies' above zero or R above a climatology's.

    Anomalies are from the station's own season (its other years), or else from a moving window.
    No: R surely below 0.5, and not above zero. Unknown: the interval leaves both open.
    """
    line, scores = main_of(evaluation, "r"), evaluation.main_scores
    if line is None or not line["n_sensors"]:
        words = scores.loc[scores["rmse_m3_m3"].notna(), "status"].astype("str")
        if len(words) and (words == CONSTANT_PREDICTION).all():
            never = f"at all {len(words)} sensors its prediction never changes"
            return Answer(NO, "it says the same every day", never, REFUTED)
        return Answer(UNKNOWN, "no R exists", statuses(evaluation))
    sure, known = int((scores["r_lower"] > 0).sum()), int(scores["r_lower"].notna().sum())
    evidence = f"mean R {estimate(line, 'mean')} "
    evidence += f"over {line['n_sensors']} sensors; surely above zero at {sure} of {known}"
    lower, upper = line["mean_lower"], line["mean_upper"]
    if np.isnan(lower):
        return _first(
            f"{evidence}; {line['status']}",
            (known and sure == known, PARTLY, "at these places, yes"),
            (True, UNKNOWN, "too few places for an interval"),
        )
    beside, ends = _anomalies(evaluation)
    # What is left of a season in windows longer than 35 days has a correlation of its own.
    is_daily = beside is not None and f" {WINDOW_DAYS}-day" in beside["state"]
    unproved = not (is_daily or beats_season_in_time(evaluation))
    seasonal = beside is not None and beside["mean_lower"] <= 0
    return _first(
        f"{evidence}; R of anomalies {ends}",
        (lower <= 0 and upper < GOOD_R, NO, "R is not above zero", REFUTED),
        (lower <= 0, UNKNOWN, "R's interval holds zero", UNDECIDED),
        (seasonal, PARTLY, "the season, but not what departs from it"),
        (lower <= GOOD_R, PARTLY, f"R is above zero, but not surely above {GOOD_R}"),
        (unproved, PARTLY, f"R is surely above {GOOD_R}, but may be the season's alone"),
        (True, YES, f"R is surely above {GOOD_R}"),
    )


def _anomalies(evaluation: Evaluation) -> tuple[pd.Series | None, str]:
    """R of anomalies from the station's own season, else from a moving window, and its words."""
    states = evaluation.anomaly.reindex(columns=["state"])["state"].astype("str")
    for ending, words in ((ORACLE, "from its own season"), (WINDOW_STATE, "from a window")):
        of_state = evaluation.anomaly[states.str.endswith(ending)]
        row = row_of(of_state, model=evaluation.main, metric="r")
        if row is not None and np.isfinite(row["mean_lower"]):
            return row, f"{words} {estimate(row, 'mean')}"
    return None, "not scored"


ALWAYS = "which places are wet always, not which are today"
DEPARTURES = "which places are wetter than usual, not which are wet"
SOMETHING = "something of the pattern, but not all of its parts"
# Which of R across stations, of places' means and of departures are above zero.
PATTERNS: dict[tuple[bool, ...], tuple] = {
    (True, True, True): (YES, "which places are wet, and which wetter than usual"),
    (True, True, False): (PARTLY, ALWAYS),
    (False, True, False): (PARTLY, ALWAYS),
    (True, False, True): (PARTLY, DEPARTURES),
    (False, False, True): (PARTLY, DEPARTURES),
    (True, False, False): (PARTLY, SOMETHING),
    (False, True, True): (PARTLY, SOMETHING),
}


def where(evaluation: Evaluation) -> Answer:
    """Yes: R across stations above zero, that of places' means and that of departures too.

    Partly: some of the three. No: surely below 0.5 and none, or every place alike.
    """
    table = evaluation.spatial_mean
    named = {"all": "R", "static": "of places' means", "dynamic": "of departures"}
    rows: dict[str, Any] = {p: row_of(table, model=evaluation.main, part=p) for p in named}
    if any(row is None for row in rows.values()):
        why = table["status"].iloc[0] if is_missing(table) else "no date is scored"
        return Answer(UNKNOWN, "not scored", why)
    whole = rows["all"]
    if whole["status"] == CONSTANT_ACROSS:
        return Answer(NO, "it shows every place alike", whole["status"], REFUTED)
    if np.isnan(whole["lower"]):
        return Answer(UNKNOWN, "no interval", whole["status"])
    evidence = "; ".join(f"{word} {estimate(rows[part])}" for part, word in named.items())
    above = tuple(bool(row["lower"] > 0) for row in rows.values())  # all, static, dynamic
    return _first(
        f"{evidence}; mean of {whole['n_dates']} dates",
        (any(above), *PATTERNS.get(above, ())),
        (whole["upper"] >= GOOD_R, UNKNOWN, "every interval holds zero", UNDECIDED),
        (True, NO, "the pattern is not shown to be right", REFUTED),
    )


def regions(evaluation: Evaluation) -> Answer:
    """Yes: no class surely worse or without skill, and most stations stand in judged classes.

    No: bad classes hold half of the stations. Unknown: fewer than half stand in judged classes.
    """
    n_judged, share = n_judged_classes(evaluation), judged_share(evaluation)
    bad = classes_apart(evaluation)
    names = bad.drop_duplicates(["characteristic", "class"])
    words = ", ".join(f"{row[1]} ({BY[row[0]]})" for row in names.itertuples(index=False))
    largest = names.groupby("characteristic")["n_stations"].sum().max()
    half = sizes(evaluation)["stations"] / 2
    evidence = f"{n_judged} of {n_classes(evaluation)} classes have an interval, and "
    evidence += f"{share:.0%} of the stations stand in one that decides"
    evidence += "".join(f"; {row[1]}: {row[3]}" for row in bad.itertuples(index=False))
    return _first(
        evidence,
        (len(bad), NO if largest >= half else PARTLY, f"fails in {words}"),
        (n_judged < 2 or share < TOO_FEW, UNKNOWN, "too few classes can be judged"),
        (share < HOLDS, PARTLY, "no class that can be judged fails, but too many cannot"),
        (True, YES, "no class is surely worse or without skill"),
    )


def uncertainty(evaluation: Evaluation) -> Answer:
    """Yes: 50 and 90 % intervals cover that much. No: 90 % surely cover below 80 %. Else partly."""
    if evaluation.calibration.status != OK:
        return Answer(UNKNOWN, "none are stated", evaluation.calibration.status)
    table = evaluation.calibration.reliability
    keys = {"model": evaluation.main, "kind": "interval"}
    rows: dict[float, Any] = {n: row_of(table, nominal=n, **keys) for n in (0.5, NOMINAL)}
    if any(row is None or np.isnan(row["lower"]) for row in rows.values()):
        words = table.loc[table["model"] == evaluation.main, "status"].unique()
        return Answer(UNKNOWN, "no interval", "; ".join(words) or "none of this model")
    evidence = "; ".join(
        f"{level:.0%} intervals hold {estimate(row, 'observed')} of the readings"
        for level, row in rows.items()
    )
    is_true = all(bool(row["is_consistent"]) for row in rows.values())
    return _first(
        evidence,
        (is_true, YES, "they cover what they promise"),
        (rows[NOMINAL]["upper"] < TOO_SURE, NO, "far too sure of itself", REFUTED),
        (True, PARTLY, "roughly: they are off, but not far"),
    )


def distance(evaluation: Evaluation) -> Answer:
    """Yes: surely 80 % of predictions inside the area of applicability. No: surely below half."""
    area = evaluation.applicability
    if area.status != OK:
        return Answer(UNKNOWN, "not known", area.status)
    share, lower, upper = area.share_inside
    evidence = f"share inside {with_interval(share, lower, upper=upper)}; median dissimilarity "
    evidence += f"{area.median_index:.2f}, threshold {area.threshold:.2f}"
    if np.isnan(lower):
        return Answer(UNKNOWN, "too few places for an interval", evidence)
    words = f"{share:.0%} of the predictions lie inside the area of applicability"
    index = area.measured.get("dissimilarity_index", pd.Series(dtype=float))
    lacking = index.isna().sum() / max(len(index), 1)
    words += f", {lacking:.0%} lack an input" if lacking >= 0.01 else ""
    return Answer(YES if lower >= NEAR else NO if upper < FAR else PARTLY, words, evidence)


# The first page: nine questions, a grade each by documented rules, and one sentence.

UNSEEN = "Were the scored places truly unseen?"
QUESTIONS = {  # the rule, its question, and what the sentence calls it
    "smap": (than_smap, "Is it better than the satellite alone (SMAP)?", "gain over SMAP"),
    "season": (
        than_climatology, "Is it better than the season alone (a climatology)?",
        "gain over the season",
    ),
    "size": (
        error_size, "Is a typical error at a place smaller than what happens there?",
        "size of errors",
    ),
    "when": (when, "Does it know when a place is wet (R in time)?", "skill in time"),
    "where": (
        where, "Does it know where it is wet (R across stations at one date)?", "skill in space",
    ),
    "regions": (
        regions, "Does it hold across regions and classes of land?", "classes and regions",
    ),
    "spread": (uncertainty, "Are its stated uncertainties true?", "stated uncertainties"),
    "distance": (
        distance, "Were its inputs like those that it learned from?", "distance from training",
    ),
}  # fmt: skip


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
    rest = {name: _capped(rule(evaluation), evaluation) for name, (rule, *_) in QUESTIONS.items()}
    asked = [UNSEEN, *(question for _, question, _ in QUESTIONS.values())]
    table = pd.DataFrame(
        [
            (question, answer.answer, answer.grade.value, answer.evidence)
            for question, answer in zip(asked, [first, *rest.values()], strict=True)
        ],
        columns=["question", "answer", "grade", "evidence"],
    )
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
        return Answer(UNKNOWN, words, answer.evidence)
    if not evaluation.is_unseen and answer.grade is YES:
        known = evaluation.level is not Claim.NOT_AUDITABLE
        tail = "but at stations that also trained" if known else "if the places are unseen"
        return answer._replace(words=f"{answer.words}; {tail}", grade=PARTLY)
    return answer


def sentence(evaluation: Evaluation) -> str:
    """The one sentence of ``verdict``."""
    return str(verdict(evaluation).attrs["sentence"])


def _overall(first: Answer, rest: dict[str, Answer], *, is_short: bool) -> tuple[Grade, str]:
    """No: leaky, or time, errors or both skills refuted. Yes: unseen, in time, in size, not beaten.

    A yes also wants all seasons of a year.
    """
    grade = {name: answer.grade for name, answer in rest.items()}
    bad = [rest[name].words for name in ("when", "where") if grade[name] is NO]
    if first.grade is NO:
        return NO, f"do not trust these scores for new places: {first.answer}."
    if grade["when"] is NO or bad and grade["when"] is UNKNOWN:
        return NO, f"do not trust this map: {'; '.join(bad)}."
    holds = ", ".join(QUESTIONS[name][2] for name in rest if grade[name] is YES)
    holds = f"what holds: {holds}" if holds else "nothing is shown without one"
    good = {grade["when"], grade["size"]} == {YES} and NO not in grade.values() and not is_short
    good = good and first.grade is YES and grade["regions"] is not UNKNOWN
    levels_wrong = rest["size"].finding is Finding.LEVELS_WRONG
    open_size = "too little is scored to say whether to trust this map."
    no_size = f"do not trust this map's values: {rest['size'].words}; {holds}."
    wetter = f"trust when it says wetter or drier, not how wet it says a place is; {holds}."
    cases = (
        (grade["size"] is NO, NO, no_size),
        (grade["when"] is UNKNOWN, UNKNOWN, open_size),
        (grade["size"] is UNKNOWN, UNKNOWN,
         f"skill in time is shown at the places scored, but {open_size}"),
        (first.grade is UNKNOWN, UNKNOWN,
         "skill is shown, but not that it holds at places the model never saw."),
        (good, YES, "trust this map at places like those scored."),
        (levels_wrong, PARTLY, wetter),
        (True, PARTLY, f"trust this map with reservations; {holds}."),
    )  # fmt: skip
    overall = _first("", *cases)
    return overall.grade, overall.words + _tail(rest, is_short=is_short)


def _tail(rest: dict[str, Answer], *, is_short: bool) -> str:
    """What is against it, what was tried and stayed open, and what nobody could try."""
    parts: dict[str, list[str]] = {"Reservations": [], "Not shown": [], "Not known": []}
    for name, answer in rest.items():
        word = "Not shown" if answer.finding is UNDECIDED else "Not known"
        word = "Reservations" if answer.grade in (NO, PARTLY) else word
        if answer.grade is not YES:
            parts[word].append(QUESTIONS[name][2])
    parts["Reservations"] += ["less than the seasons of a year"] if is_short else []
    return "".join(f" {word}: {', '.join(names)}." for word, names in parts.items() if names)

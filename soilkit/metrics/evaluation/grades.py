"""The first page: figures, and the rules that turn intervals into yes, partly, no, unknown."""

import re
from typing import Any

import numpy as np
import pandas as pd

from soilkit.metrics import splits
from soilkit.metrics.anomalies import season_of
from soilkit.metrics.evaluation.records import (
    GOOD_R,
    NO,
    NOT_AUDITABLE,
    OK,
    PARTLY,
    UNKNOWN,
    YES,
    Answer,
    Evaluation,
    NotAudited,
    capped,
    is_missing,
)
from soilkit.metrics.evaluation.score_tables import role_of
from soilkit.strata import MIN_STATIONS

VALIDATION = re.compile(r"^(?:val|valid|validation|dev)\b", re.IGNORECASE)
YEAR_DAYS = 365
LEVELS_WRONG = "swings yes, levels no"


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


def with_interval(value: float, limits: tuple[float, float], *, places: int = 2) -> str:
    """ "0.68 (95 %: 0.61 to 0.72)", "0.68 (no interval)", or "undefined" without a value."""
    if np.isnan(value):
        return "undefined"
    ends = between(*limits, places=places)
    tail = f" (95 %: {ends})" if ends != "no interval" else " (no interval)"
    return f"{value:.{places}f}{tail}"


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


def is_short(evaluation: Evaluation) -> bool:
    """Whether the samples miss a season, or span less than a year."""
    return span_days(evaluation) < YEAR_DAYS - 15 or bool(months_absent(evaluation))


def depths(evaluation: Evaluation) -> str:
    """The depths of the sensors in words."""
    spans = used_stations(evaluation)[["depth_from_m", "depth_to_m"]].dropna().drop_duplicates()
    words = [
        f"{100 * top:g} to {100 * end:g} cm" if top < end else f"{100 * top:g} cm"
        for top, end in spans.sort_values(["depth_to_m", "depth_from_m"]).to_numpy(float)
    ]
    return " · ".join(words) or "unknown"


def small_classes(evaluation: Evaluation) -> list[str]:
    """Classes below five stations, "Sand (texture, 2)"."""
    found = []
    for by, table in evaluation.strata.items():
        if is_missing(table) or by == "season":
            continue
        own = table[(table["model"] == evaluation.main) & (table["metric"] == "rmse_m3_m3")]
        small = own[(own["n_stations"] < MIN_STATIONS) & (own[by].astype("str") != "unknown")]
        pairs = zip(small[by], small["n_stations"], strict=True)
        found += [f"{name} ({by}, {n})" for name, n in pairs]
    return found


def n_classes(evaluation: Evaluation) -> int:
    """How many classes all strata have together, seasons left out."""
    tables = [t for by, t in evaluation.strata.items() if by != "season" and not is_missing(t)]
    return sum(t[t.columns[2]].nunique() for t in tables)


def statuses(evaluation: Evaluation) -> str:
    """How many of the main model's sensors have which status."""
    words = evaluation.main_scores["status"].astype("str")
    words = words.map(lambda text: re.sub(r": [\d.]+ <", ", below", text))
    return " · ".join(f"{name}: {n}" for name, n in words.value_counts().items())


def main_of(evaluation: Evaluation, metric: str) -> pd.Series | None:
    """The main model's line of a metric in the overall summary."""
    return row_of(evaluation.overall, model=evaluation.main, metric=metric)


def classes_apart(evaluation: Evaluation) -> pd.DataFrame:
    """Classes that are surely more than a tenth worse than the rest, or surely without skill.

    Without skill is a class whose mean R has an interval that holds zero and ends below 0.5.

    Returns
    -------
    DataFrame: ``characteristic, class, n_stations, why``
    """
    found = []
    classes = evaluation.failures.classes
    if not is_missing(classes):
        sure = (classes["verdict"] == "worse") & (classes["ratio_lower"] > 1)
        for row in classes[sure].itertuples():
            ends = between(row.ratio_lower, row.ratio_upper)
            why = f"ubRMSE {row.ratio:.2f} times the rest's (95 %: {ends})"
            # A namedtuple cannot have a field called "class".
            found.append((row.characteristic, row.label.rstrip("*"), row.n_stations, why))
    for by, table in evaluation.strata.items():
        if is_missing(table) or by == "season":
            continue
        own = table[(table["model"] == evaluation.main) & (table["metric"] == "r")]
        for _, row in own[(own["mean_lower"] <= 0) & (own["mean_upper"] < GOOD_R)].iterrows():
            why = f"R {with_interval(row['mean'], (row['mean_lower'], row['mean_upper']))}"
            found.append((by, str(row[by]), int(row["n_stations"]), why))
    return pd.DataFrame(found, columns=["characteristic", "class", "n_stations", "why"])


def n_judged_classes(evaluation: Evaluation) -> int:
    """Classes whose mean R or ratio to the rest has an interval."""
    names = set()
    classes = evaluation.failures.classes
    if not is_missing(classes):
        good = classes[classes["ratio_lower"].notna()]
        names |= set(zip(good["characteristic"], good["class"].astype(str), strict=True))
    for by, table in evaluation.strata.items():
        if not is_missing(table) and by != "season":
            own = table[(table["model"] == evaluation.main) & (table["metric"] == "r")]
            good = own[own["mean_lower"].notna()]
            names |= {(by, str(name)) for name in good[by]}
    return len(names)


def judged_share(evaluation: Evaluation) -> float:
    """Share of stations, over all characteristics, in classes whose mean R decides something.

    An interval that holds zero and reaches 0.5 decides nothing.
    """
    judged = total = 0
    for by, table in evaluation.strata.items():
        if is_missing(table) or by == "season":
            continue
        own = table[(table["model"] == evaluation.main) & (table["metric"] == "r")]
        decides = (own["mean_lower"] > 0) | (own["mean_upper"] < GOOD_R)
        judged += int(own.loc[decides, "n_stations"].sum())
        total += int(own["n_stations"].sum())
    return judged / total if total else 0.0


def validation_share(evaluation: Evaluation) -> float:
    """Share of the main model's scored samples whose split is called validation."""
    words = pairs_of_main(evaluation)["given_split"].astype("str")
    return float(words.str.contains(VALIDATION).mean()) if len(words) else 0.0


def unmeasured_share(evaluation: Evaluation) -> float:
    """Share of predictions without a distance from training: an input lacks."""
    table = evaluation.applicability.measured
    return float(table["dissimilarity_index"].isna().mean()) if len(table) else 0.0


# Is the model better than SMAP, and than the season alone: paired differences as answers.

COMPARED = ("r", "ubrmse_m3_m3", "rmse_m3_m3")
SHOWN = {"r": "R", "ubrmse_m3_m3": "ubRMSE", "rmse_m3_m3": "RMSE"}
UNDECIDED = "undecided: every interval holds zero, or Holm takes it back"
NOT_COMPARED = "not compared"
HARDEST_FIRST = (NO, PARTLY, UNKNOWN, YES)


def better_than(evaluation: Evaluation, roles: tuple[str, ...], *, question: str) -> Answer:
    """Yes: better in one score and worse in none, by Holm. No: worse and never better.

    Partly: better in one, worse in another. Unknown: no pair, no interval, or undecided. Of
    several models of that role the one that is hardest to beat decides.
    """
    table = evaluation.comparison
    if is_missing(table):
        return Answer(question, NOT_COMPARED, UNKNOWN, table["status"].iloc[0])
    rows = table[table["role"].isin(roles) & table["metric"].isin(COMPARED)]
    if not len(rows):
        return Answer(question, NOT_COMPARED, UNKNOWN, "it is not among the models")
    judged = rows[rows["lower"].notna()]
    if not len(judged):
        return Answer(question, "no interval", UNKNOWN, "; ".join(rows["status"].unique()))
    found = [
        _against(part, evaluation.main, question=question)
        for _, part in judged.groupby(judged["model_b"].astype("str"), sort=False)
    ]
    return min(found, key=lambda answer: HARDEST_FIRST.index(answer.grade))


def _against(judged: pd.DataFrame, main: str, *, question: str) -> Answer:
    """The answer against one rival."""
    wins = judged.loc[judged["better"] == main, "metric"].map(SHOWN).tolist()
    losses = judged.loc[judged["better"] == judged["model_b"], "metric"].map(SHOWN).tolist()
    grade = {(True, False): YES, (False, True): NO, (True, True): PARTLY}.get(
        (bool(wins), bool(losses)), UNKNOWN
    )
    said = [f"better in {', '.join(wins)}"] if wins else []
    said += [f"worse in {', '.join(losses)}"] if losses else []
    evidence = "; ".join(
        f"{SHOWN[row.metric]} {row.difference:+.3f} (95 %: "
        f"{between(row.lower, row.upper, places=3)}, p by Holm {row.p_adjusted:.2g})"
        for row in judged.itertuples()
    )
    first = judged.iloc[0]
    where = (
        f" minus {first['model_b']} at {first['n_stations']} stations, {first['n_blocks']} blocks"
    )
    return Answer(question, " and ".join(said) or UNDECIDED, grade, evidence + where)


def than_smap(evaluation: Evaluation) -> Answer:
    """As against any model; a satellite product has nothing to gain over itself."""
    question = "Is it better than the satellite alone (SMAP)?"
    found = better_than(evaluation, ("smap",), question=question)
    if found.answer != NOT_COMPARED or role_of(evaluation.main, evaluation.options) != "smap":
        return found
    return found._replace(answer="it is a satellite product itself", evidence="nothing to compare")


def than_climatology(evaluation: Evaluation) -> Answer:
    """As against any model; where only an oracle is there, it can be beaten but not lost to."""
    question = "Is it better than the season alone (a climatology)?"
    honest = better_than(evaluation, ("climatology",), question=question)
    oracle = better_than(evaluation, ("oracle",), question=question)
    if honest.answer != NOT_COMPARED:
        return honest
    if oracle.answer == NOT_COMPARED:
        if is_missing(evaluation.comparison):
            return honest
        why = "no other year to learn a season from, and nobody said which samples trained"
        return honest._replace(evidence=why)
    words = f"{oracle.answer} (against an oracle that knows the station's other years)"
    grade = oracle.grade if oracle.grade == YES else UNKNOWN
    return oracle._replace(answer=words, grade=grade)


def beats_season_in_time(evaluation: Evaluation) -> bool:
    """Whether R is surely above that of every climatology that has one."""
    table = evaluation.comparison
    if is_missing(table):
        return False
    rows = table[table["role"].isin(["climatology", "oracle"]) & (table["metric"] == "r")]
    rows = rows[rows["lower"].notna()]
    return len(rows) > 0 and bool((rows["better"] == evaluation.main).all())


# The rules that turn intervals into yes, partly, no and unknown: one function a question.

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
    chosen = validation_share(evaluation)
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
    evidence += f" m3 m-3; ubRMSE is {with_interval(ub['mean'], (ub.lower, ub.upper))} times and "
    evidence += f"RMSE {with_interval(rms['mean'], (rms.lower, rms.upper))} times the spread"
    typical = f"half of the places are within {lines['median']['rmse_m3_m3']:.3f} m3 m-3"
    if np.isnan(ub.lower):
        return Answer(question, f"{typical}; {ub.status}", UNKNOWN, evidence)
    if ub.upper >= 1 and ub.lower >= SAME:
        return Answer(question, "no: a station's own mean would do as well", NO, evidence)
    if ub.upper >= 1:
        return Answer(question, f"undecided: the interval holds 1; {typical}", UNKNOWN, evidence)
    if not rms.upper < 1:
        words = LEVELS_WRONG if rms.lower >= 1 else "swings yes, levels undecided"
        return Answer(question, f"{words}; {typical}", PARTLY, evidence)
    return Answer(question, typical, YES, evidence)


def when(evaluation: Evaluation) -> Answer:
    """Yes: mean R surely above 0.5, and anomalies' above zero or R above a climatology's.

    No: R surely below 0.5, and not above zero. Unknown: the interval leaves both open.
    """
    question = "Does it know when a place is wet (R in time)?"
    line = main_of(evaluation, "r")
    if line is None or not line["n_sensors"]:
        return _without_r(question, evaluation)
    own = evaluation.main_scores
    sure, told = int((own["r_lower"] > 0).sum()), int(own["r_lower"].notna().sum())
    evidence = f"mean R {with_interval(line['mean'], (line['mean_lower'], line['mean_upper']))} "
    evidence += f"over {line['n_sensors']} sensors; surely above zero at {sure} of {told}"
    if np.isnan(line["mean_lower"]):
        grade = PARTLY if told and sure == told else UNKNOWN
        answer = "at these places, yes" if grade == PARTLY else "too few places for an interval"
        return Answer(question, answer, grade, f"{evidence}; {line['status']}")
    beside = _anomaly(evaluation)
    ends = "not scored"
    if beside is not None:
        ends = with_interval(beside["mean"], (beside["mean_lower"], beside["mean_upper"]))
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
    return Answer(question, "no R exists", UNKNOWN, statuses(evaluation))


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
    found: dict[str, Any] = {p: row_of(table, model=evaluation.main, part=p)
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
        f"{word} {with_interval(found[p]['r'], (found[p]['lower'], found[p]['upper']))}"
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
    n_judged, n = n_judged_classes(evaluation), sizes(evaluation)["stations"]
    bad, share = classes_apart(evaluation), judged_share(evaluation)
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
        level: row_of(table, model=evaluation.main, kind="interval", nominal=level)
        for level in (0.5, NOMINAL)
    }
    if any(row is None or np.isnan(row["lower"]) for row in rows.values()):
        words = table.loc[table["model"] == evaluation.main, "status"].unique()
        return Answer(question, "no interval", UNKNOWN, "; ".join(words) or "none of this model")
    evidence = "; ".join(
        f"{level:.0%} intervals hold "
        f"{with_interval(row['observed'], (row['lower'], row['upper']))} of the readings"
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
    evidence = f"share inside {with_interval(share, (lower, upper))}; median dissimilarity "
    evidence += f"{found.median_index:.2f}, threshold {found.threshold:.2f}"
    if np.isnan(lower):
        return Answer(question, "too few places for an interval", UNKNOWN, evidence)
    answer = f"{share:.0%} of the predictions lie inside the area of applicability"
    lacking = unmeasured_share(evaluation)
    answer += f", {lacking:.0%} lack an input" if lacking >= 0.01 else ""
    grade = YES if lower >= NEAR else NO if upper < FAR else PARTLY
    return Answer(question, answer, grade, evidence)


# The first page: nine questions, a grade each by documented rules, and one sentence.


def verdict(evaluation: Evaluation) -> pd.DataFrame:
    """Whether to trust the map, a question a line; rules stand in ``grades``, one function each.

    A grade comes from intervals, never from a value alone; without an interval it is "unknown".
    Where the split leaks only the first question keeps an answer, and where it cannot be audited
    no grade is better than "partly".

    Returns
    -------
    DataFrame: ``question, answer, grade`` ("yes", "partly", "no", "unknown"), ``evidence``. Its
    ``attrs`` hold the overall ``sentence`` and ``grade``

    Examples
    --------
    >>> [name.split()[0] for name in (YES, PARTLY, NO, UNKNOWN)]
    ['yes', 'partly', 'no', 'unknown']
    """
    first = unseen(evaluation)
    rest = {
        "smap": than_smap(evaluation),
        "season": than_climatology(evaluation),
        "size": error_size(evaluation),
        "when": when(evaluation),
        "where": where(evaluation),
        "regions": regions(evaluation),
        "spread": uncertainty(evaluation),
        "distance": distance(evaluation),
    }
    rest = {name: capped(answer, evaluation) for name, answer in rest.items()}
    table = pd.DataFrame([first, *rest.values()], columns=list(Answer._fields))
    grade, words = _overall(first, rest, is_short=is_short(evaluation))
    name = f"{evaluation.main} on {evaluation.label}"
    table.attrs = {"grade": grade, "sentence": f"{name}: {words}"}
    return table


def sentence(evaluation: Evaluation) -> str:
    """The one sentence of ``verdict``."""
    return str(verdict(evaluation).attrs["sentence"])


def _overall(first: Answer, rest: dict[str, Answer], *, is_short: bool) -> tuple[str, str]:
    """No: leaky, or time, errors or both skills refuted. Yes: unseen, in time, in size, not beaten.

    A yes also wants all seasons of a year.
    """
    grade = {name: answer.grade for name, answer in rest.items()}
    skill = {grade["when"], grade["where"]}
    if first.grade == NO:
        return NO, f"do not trust these scores for new places: {first.answer}."
    if grade["when"] == NO or skill <= {NO, UNKNOWN} and NO in skill:
        bad = [rest[name].answer for name in ("when", "where") if grade[name] == NO]
        return NO, f"do not trust this map: {'; '.join(bad).replace('no: ', '')}."
    tail = _tail(rest, is_short=is_short)
    if grade["size"] == NO:
        words = rest["size"].answer.removeprefix("no: ")
        return NO, f"do not trust this map's values: {words}; {_strength(rest)}." + tail
    if UNKNOWN in (grade["when"], grade["size"]):
        words = "too little is scored to say whether to trust this map."
        if grade["when"] != UNKNOWN:
            words = f"skill in time is shown at the places scored, but {words}"
        return UNKNOWN, words + tail
    if first.grade == UNKNOWN:
        words = "skill is shown, but not that it holds at places the model never saw."
        return UNKNOWN, words + tail
    good = {grade["when"], grade["size"]} == {YES} and NO not in grade.values() and not is_short
    if good and first.grade == YES and grade["regions"] != UNKNOWN:
        return YES, "trust this map at places like those scored." + tail
    words = "trust this map with reservations"
    if rest["size"].answer.startswith(LEVELS_WRONG):
        words = "trust when it says wetter or drier, not how wet it says a place is"
    return PARTLY, f"{words}; {_strength(rest)}." + tail


def _tail(rest: dict[str, Answer], *, is_short: bool) -> str:
    """What is against it, what was tried and stayed open, and what nobody could try."""
    weak = [_short(name) for name, answer in rest.items() if answer.grade in (NO, PARTLY)]
    weak += ["less than the seasons of a year"] if is_short else []
    open_ = [name for name, answer in rest.items() if answer.grade == UNKNOWN]
    tried = [_short(name) for name in open_ if rest[name].answer.startswith("undecided")]
    rest_ = [_short(name) for name in open_ if not rest[name].answer.startswith("undecided")]
    parts = {"Reservations": weak, "Not shown": tried, "Not known": rest_}
    return "".join(f" {word}: {', '.join(names)}." for word, names in parts.items() if names)


def _strength(rest: dict[str, Answer]) -> str:
    good = [_short(name) for name, answer in rest.items() if answer.grade == YES]
    return f"what holds: {', '.join(good)}" if good else "nothing is shown without one"


def _short(name: str) -> str:
    return {
        "smap": "gain over SMAP",
        "season": "gain over the season",
        "size": "size of errors",
        "when": "skill in time",
        "where": "skill in space",
        "regions": "classes and regions",
        "spread": "stated uncertainties",
        "distance": "distance from training",
    }[name]

"""Is the model better than SMAP, and than the season alone: paired differences as answers."""

import pandas as pd

from soilkit.evaluation import facts
from soilkit.evaluation.answers import NO, PARTLY, UNKNOWN, YES, Answer
from soilkit.evaluation.records import Evaluation, is_missing
from soilkit.evaluation.scoring import role_of

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
        f"{facts.between(row.lower, row.upper, places=3)}, p by Holm {row.p_adjusted:.2g})"
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

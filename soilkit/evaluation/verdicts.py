"""The first page: nine questions, a grade each by documented rules, and one sentence."""

import pandas as pd

from soilkit.evaluation import grades
from soilkit.evaluation.grades import NO, PARTLY, UNKNOWN, YES, Answer
from soilkit.evaluation.records import Evaluation

THAN_SMAP = "Is it better than the satellite alone (SMAP)?"


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
    first = grades.unseen(evaluation)
    rest = {
        "smap": _than_smap(evaluation),
        "season": grades.than_climatology(evaluation),
        "size": grades.error_size(evaluation),
        "when": grades.when(evaluation),
        "where": grades.where(evaluation),
        "regions": grades.regions(evaluation),
        "spread": grades.uncertainty(evaluation),
        "distance": grades.distance(evaluation),
    }
    rest = {name: grades.capped(answer, evaluation) for name, answer in rest.items()}
    table = pd.DataFrame([first, *rest.values()], columns=list(Answer._fields))
    grade, words = _overall(first, rest)
    name = f"{evaluation.main} on {evaluation.label}"
    table.attrs = {"grade": grade, "sentence": f"{name}: {words}"}
    return table


def sentence(evaluation: Evaluation) -> str:
    """The one sentence of ``verdict``."""
    return str(verdict(evaluation).attrs["sentence"])


def _than_smap(evaluation: Evaluation) -> Answer:
    found = grades.better_than(evaluation, ("smap",), question=THAN_SMAP)
    if found.answer != "not compared" or not evaluation.main.lower().startswith("smap"):
        return found
    return found._replace(answer="it is a satellite product itself", evidence="nothing to compare")


def _overall(first: Answer, rest: dict[str, Answer]) -> tuple[str, str]:
    """No: leaky, or neither time nor errors hold. Yes: unseen, in time, in size, not beaten."""
    grade = {name: answer.grade for name, answer in rest.items()}
    skill = {grade["when"], grade["where"]}
    weak = [_short(name) for name, g in grade.items() if g in (NO, PARTLY)]
    open_ = [_short(name) for name, g in grade.items() if g == UNKNOWN]
    if first.grade == NO:
        return NO, f"do not trust these scores for new places: {first.answer}."
    if grade["when"] == NO or skill <= {NO, UNKNOWN} and NO in skill:
        return NO, f"do not trust this map: {rest['when'].answer}; {rest['where'].answer}."
    tail = f" Reservations: {', '.join(weak)}." if weak else ""
    tail += f" Not known: {', '.join(open_)}." if open_ else ""
    if grade["when"] == UNKNOWN:
        return UNKNOWN, "too little is scored to say whether to trust this map." + tail
    if first.grade == UNKNOWN:
        words = "skill is shown, but not that it holds at places the model never saw."
        return UNKNOWN, words + tail
    good = {grade["when"], grade["size"]} == {YES} and NO not in grade.values()
    if good and first.grade == YES and grade["regions"] != UNKNOWN:
        return YES, "trust this map at places like those scored." + tail
    return PARTLY, f"trust this map with reservations; {_strength(rest)}." + tail


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

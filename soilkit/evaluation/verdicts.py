"""The first page: nine questions, a grade each by documented rules, and one sentence."""

import pandas as pd

from soilkit.evaluation import facts, gains, grades
from soilkit.evaluation.answers import NO, PARTLY, UNKNOWN, YES, Answer, capped
from soilkit.evaluation.records import Evaluation


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
        "smap": gains.than_smap(evaluation),
        "season": gains.than_climatology(evaluation),
        "size": grades.error_size(evaluation),
        "when": grades.when(evaluation),
        "where": grades.where(evaluation),
        "regions": grades.regions(evaluation),
        "spread": grades.uncertainty(evaluation),
        "distance": grades.distance(evaluation),
    }
    rest = {name: capped(answer, evaluation) for name, answer in rest.items()}
    table = pd.DataFrame([first, *rest.values()], columns=list(Answer._fields))
    grade, words = _overall(first, rest, is_short=facts.is_short(evaluation))
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
    if rest["size"].answer.startswith(facts.LEVELS_WRONG):
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

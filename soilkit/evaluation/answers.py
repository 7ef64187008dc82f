"""An answer of the first page, its grades, and how far a split lets it stand."""

from typing import NamedTuple

from soilkit.evaluation.auditing import is_leaky
from soilkit.evaluation.records import NOT_AUDITABLE, Evaluation

YES, PARTLY, NO, UNKNOWN = "yes", "partly", "no", "unknown"
GOOD_R = 0.5  # a quarter of the variance


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

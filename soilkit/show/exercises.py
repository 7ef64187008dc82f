"""Exercises of the notebooks that say themselves whether an answer is right."""

import math
from typing import Any

from IPython.display import Markdown, display

from soilkit.show.plots.style import escape


def check(answer: Any, truth: Any, *, hint: str, tolerance: float = 0.0) -> None:
    """Say whether an answer is right; while it is not, a hint.

    Parameters
    ----------
    answer : a number or a word; None: not yet answered
    truth : what the notebook's own tables say, so that it holds for any seed and number of stations
    hint : where to look
    tolerance : that a number may be off, in its own unit
    """
    if answer is None:
        verdict = "not answered yet"
    elif is_right(answer, truth, tolerance=tolerance):
        verdict = "right"
    else:
        verdict = f"{answer} is not it"
    words = "" if verdict == "right" else f" Hint: {escape(hint, markdown=True)}"
    said = Markdown(f"**{escape(verdict, markdown=True).capitalize()}.**{words}")
    known = {"exercise": verdict, "truth": str(truth), "tolerance": float(tolerance)}
    display(said, metadata={"soilkit": known})


def is_right(answer: Any, truth: Any, *, tolerance: float = 0.0) -> bool:
    """Whether words agree in any case, or numbers within a tolerance.

    Examples
    --------
    >>> is_right("Falls ", "falls"), is_right(150, 160.0, tolerance=20), is_right("160", 80)
    (True, True, False)
    """
    try:
        return math.isclose(float(answer), float(truth), rel_tol=1e-9, abs_tol=tolerance)
    except (TypeError, ValueError):
        return str(answer).strip().lower() == str(truth).strip().lower()

"""Asking before an export that costs something."""

from collections.abc import Callable, Sequence
from typing import Any

from soilkit.contracts import Archive, ChipRequest
from soilkit.errors import DeclinedError

QUESTION = "Go ahead? [y/N] "


def confirm(
    archive: Archive,
    requests: Sequence[ChipRequest],
    *,
    yes: bool = False,
    ask: Callable[[str], str] = input,
) -> Any:
    """Show what fetching the chips will cost, and ask before it is spent.

    An archive that costs nothing has no ``estimate``; then nothing is asked.

    Parameters
    ----------
    archive : Archive
    requests : list of ChipRequest, as from ``chips.plan``
    yes : whether the answer is yes already: for scripts, papermill and tests
    ask : shows a text and returns the answer; a notebook's or a terminal's ``input``

    Returns
    -------
    The archive's estimate, to be displayed; None where there is none or nothing to fetch.

    Raises
    ------
    DeclinedError
        When the answer is no, or there is nobody to ask.
    """
    if not requests or not hasattr(archive, "estimate"):
        return None
    estimate = archive.estimate(requests)
    if yes:
        return estimate
    try:
        answer = ask(f"{estimate}\n{QUESTION}")
    except Exception as error:  # no terminal: EOFError; no front end: Jupyter's own error
        raise DeclinedError(
            f"Fetching {len(requests):,} chips from {archive.name} has a cost, and there is nobody "
            f"to ask ({type(error).__name__}). Read the estimate, then pass yes=True:\n{estimate}"
        ) from error
    if answer.strip().lower() not in ("y", "yes"):
        raise DeclinedError(
            f"Nothing was asked of {archive.name}: the answer was {answer.strip() or 'no'!r}. "
            "Answer y, pass yes=True, or try a few chips first with chips.build(..., limit=200)."
        )
    return estimate

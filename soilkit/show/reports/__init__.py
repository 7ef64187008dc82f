"""Papermill runs of the notebooks, as reports that open with no network."""

from typing import Any

from soilkit.show.reports.runner import (
    check_parameters,
    external_loads,
    run,
    save_result,
    stamp,
    to_html,
)

__all__ = [
    "check_parameters",
    "evaluate_table",
    "external_loads",
    "run",
    "save_result",
    "stamp",
    "to_html",
]


def __getattr__(name: str) -> Any:
    """``evaluate_table``, whose module is a command too and is not imported before it is asked."""
    if name == "evaluate_table":
        from soilkit.show.reports.evaluate import evaluate_table

        return evaluate_table
    raise AttributeError(name)

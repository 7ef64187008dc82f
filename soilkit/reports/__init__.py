"""Papermill runs of the notebooks, as reports that open with no network."""

from soilkit.reports.foreign import evaluate_table
from soilkit.reports.offline import external_loads, to_html
from soilkit.reports.runner import check_parameters, run
from soilkit.reports.stamp import save_result, stamp

__all__ = [
    "check_parameters",
    "evaluate_table",
    "external_loads",
    "run",
    "save_result",
    "stamp",
    "to_html",
]

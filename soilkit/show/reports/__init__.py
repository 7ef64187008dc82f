"""Papermill runs of the notebooks, as reports that open with no network."""

from soilkit.show.reports.runner import (
    check_parameters,
    evaluate_table,
    external_loads,
    run,
    save_result,
    stamp,
    to_html,
)

"""Papermill runs of the notebooks, as reports that open with no network."""

from soilkit.show.reports.pages import external_loads as external_loads
from soilkit.show.reports.pages import to_html as to_html
from soilkit.show.reports.pages import to_pdf as to_pdf
from soilkit.show.reports.runner import check_parameters as check_parameters
from soilkit.show.reports.runner import data_card as data_card
from soilkit.show.reports.runner import evaluate_table as evaluate_table
from soilkit.show.reports.runner import model_card as model_card
from soilkit.show.reports.runner import run as run
from soilkit.show.reports.runner import save_result as save_result
from soilkit.show.reports.runner import stamp as stamp

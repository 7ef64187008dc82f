"""The station explorer in a real JupyterLab: a click on the map draws that station."""

import base64
import os
import shutil
from pathlib import Path

import pytest

from soilkit.show import reports
from tests.browser import lab

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
PICTURE = """
const image = document.querySelector('.jp-OutputArea .widget-image');
return image ? [image.src, image.naturalWidth] : ['', 0];
"""
MARKERS = "return document.querySelectorAll('.leaflet-interactive').length;"
CHOSEN = "return document.querySelector('.widget-dropdown select').selectedOptions[0].text;"
CLICK_ANOTHER = """
const red = 'rgb(215, 48, 31)';
const marks = [...document.querySelectorAll('.leaflet-interactive')];
const mark = marks.find(m => getComputedStyle(m).stroke !== red);
mark.dispatchEvent(new MouseEvent('click', {bubbles: true, view: window}));
"""


@pytest.mark.slow
@pytest.mark.skipif(lab.browser_paths() is None, reason="needs chromium and chromedriver")
def test_a_click_on_the_map_draws_that_station(tmp_path):
    """What the mouse picks, the list names and the picture shows; no cell of the notebook fails."""
    (tmp_path / "notebooks").mkdir()
    shutil.copy(NOTEBOOKS / "11_inspect_in_situ.ipynb", tmp_path / "notebooks")
    build = {"n_stations": 15, "start": "2019-03-01", "end": "2019-09-01"}
    data = {"out_dir": str(tmp_path / "data" / "synthetic")}
    reports.run(NOTEBOOKS / "10_build_dataset.ipynb", build | data, tmp_path / "report")

    with lab.server(tmp_path, tmp_path / "home") as address, lab.chromium() as window:
        lab.run_notebook(window, address, "notebooks/11_inspect_in_situ.ipynb")
        assert window.execute_script(MARKERS) == 15
        station, picture = window.execute_script(CHOSEN), window.execute_script(PICTURE)
        assert picture[1] > 300
        window.execute_script(CLICK_ANOTHER)
        lab.wait(
            lambda: window.execute_script(PICTURE)[0] != picture[0],
            seconds=60,
            what="a new picture",
        )
        assert window.execute_script(CHOSEN) != station
        _screenshot(window, os.environ.get("SOILKIT_SCREENSHOT"))


def _screenshot(window, path):
    """The explorer as a person sees it, for the README, where a path is asked for."""
    if path:
        explorer = window.execute_script("return document.querySelector('.leaflet-container');")
        window.execute_script("arguments[0].scrollIntoView({block: 'start'});", explorer)
        window.implicitly_wait(2)
        Path(path).write_bytes(base64.b64decode(window.get_screenshot_as_base64()))

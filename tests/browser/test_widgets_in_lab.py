"""Each notebook with something to move, in a real JupyterLab: run all, move it, see it move.

One server and one browser for all; a notebook runs once, with small parameters, and leaves its
tables to the next. ``SOILKIT_SCREENSHOTS=folder`` keeps a picture of each view.
"""

import shlex
import subprocess
from pathlib import Path

import nbformat
import pytest

from soilkit.show import reports
from tests.browser import lab

ROOT = Path(__file__).parents[2]
ROAD = {
    "00_start_here": {"n_stations": 12},
    "10_build_dataset": {"n_stations": 15, "start": "2019-03-01", "end": "2019-09-01"},
    "11_inspect_in_situ": {"n_pictures": 2},
    "20_train_xception_fusion": {"epochs": 1, "batch_size": 16},
    "31_evaluate_by_stratum": {},
    "40_map_a_region": {"n_stations": 15, "region_km": 2.6},
}
NEEDS = {
    "11_inspect_in_situ": ["10_build_dataset"], "20_train_xception_fusion": ["10_build_dataset"],
    "31_evaluate_by_stratum": ["10_build_dataset", "20_train_xception_fusion"],
    "40_map_a_region": ["10_build_dataset", "20_train_xception_fusion"],
}  # fmt: skip
PICTURES = """
return [...document.querySelectorAll('.widget-image')].map(i => i.naturalWidth ? i.src : '');
"""
WORDS = "return [...document.querySelectorAll('.widget-html')].map(e => e.textContent).join(' | ');"
DOTS = "[...document.querySelectorAll('.leaflet-interactive')].filter(e => e.getAttribute('stroke')"
DOTS += " === '#2b8cbe')"
OPENED = "return window.jupyterapp.shell.currentWidget.context.path;"
FOLDERS = "return [...document.querySelectorAll('.jp-DirListing-itemText')]"
FOLDERS += ".map(e => e.textContent);"
PRESS = """
[...document.querySelectorAll('button.jupyter-button')]
  .find(b => b.textContent.trim() === arguments[0]).click();
"""
# What either half of the split map shows, the clip of each, and a hand on the line between them.
SIDES = """
return Object.fromEntries(['left', 'right'].map(side =>
  [side, document.querySelector(`.leaflet-${side}-pane .leaflet-image-layer`)?.src]));
"""
CLIPS = (
    "return ['left', 'right'].map(s => document.querySelector(`.leaflet-${s}-pane`).style.clip);"
)
DIVIDE = """
const line = document.querySelector('.leaflet-sbs-range');
line.value = arguments[0];
line.dispatchEvent(new Event('input', {bubbles: true}));
"""
CHOOSE = """
const box = [...document.querySelectorAll('.widget-dropdown')]
  .find(b => b.querySelector('label').textContent === arguments[0]);
const list = box.querySelector('select');
list.selectedIndex = arguments[1];
list.dispatchEvent(new Event('change', {bubbles: true}));
return list.selectedOptions[0].text;
"""
pytestmark = [pytest.mark.browser, lab.needed]


class View:
    """The browser with a notebook that has run: what it shows, and hands to move it."""

    def __init__(self, window, folder):
        self.window, self.folder = window, folder

    @property
    def pictures(self):
        return self.window.execute_script(PICTURES)

    @property
    def words(self):
        return self.window.execute_script(WORDS)

    @property
    def sides(self):
        return self.window.execute_script(SIDES)

    @property
    def clips(self):
        return self.window.execute_script(CLIPS)

    def changes(self, act, *, what="pictures"):
        """Do something, and wait until the pictures or the words differ and the kernel is idle."""
        lab.settle(self.window)
        before = getattr(self, what)
        act()
        lab.wait(lambda: getattr(self, what) != before, seconds=300, what=f"other {what}")
        lab.settle(self.window)

    def key(self, slider, name):
        """Press a key on the n-th slider, as a hand without a mouse does."""
        from selenium.webdriver.common.keys import Keys

        handle = self.window.find_elements("css selector", ".noUi-handle")[slider]
        self.window.execute_script("arguments[0].scrollIntoView({block: 'center'});", handle)
        handle.send_keys(getattr(Keys, name))

    def click_map(self, right=0, down=0):
        """Click the map, pixels from its middle."""
        from selenium.webdriver import ActionChains

        field = self.window.find_element("css selector", ".leaflet-container")
        self.window.execute_script("arguments[0].scrollIntoView({block: 'center'});", field)
        ActionChains(self.window).move_to_element_with_offset(field, right, down).click().perform()

    def press(self, name):
        self.window.execute_script(PRESS, name)

    def choose(self, label, number):
        return self.window.execute_script(CHOOSE, label, number)

    def errors_as_a_page(self, stem):
        """Save the notebook, make its report, and open that with the network cut."""
        self.window.execute_async_script(lab.SAVE)
        page = self.folder / f"{stem}.html"
        notebook = nbformat.read(self.folder / "notebooks" / f"{stem}.ipynb", as_version=4)
        page.write_text(reports.to_html(notebook, stem), encoding="utf-8")
        return lab.errors_offline(self.window, page)


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    for stem, parameters in ROAD.items():
        lab.place_notebook(ROOT / "notebooks" / f"{stem}.ipynb", folder / "notebooks", parameters)
    ran = []
    with lab.server(folder, folder / "home") as address, lab.chromium() as window:

        def run(stem):
            for name in (*(n for n in NEEDS.get(stem, []) if n not in ran), stem):
                lab.run_notebook(window, address, f"notebooks/{name}.ipynb", seconds=1800)
                ran.append(name)
                if name != stem:
                    window.execute_async_script(lab.SHUT_DOWN)
            return View(window, folder)

        yield run


def test_make_lab_opens_notebook_00_beside_data_and_reports(tmp_path):
    """Its own command line, in a copy of the project's folders."""
    command = ["make", "-n", "--no-print-directory", "lab"]  # tests may themselves run in make
    words = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    words = shlex.split(words.replace("\\\n", " ").split(" jupyter lab ")[1])
    for name in ("data", "reports"):
        (tmp_path / name).mkdir()
    path = ROOT / "notebooks" / "00_start_here.ipynb"
    lab.place_notebook(path, tmp_path / "notebooks", {})
    with lab.server(tmp_path, tmp_path / "home", words=words), lab.chromium() as window:
        (page,) = (tmp_path / "home" / "runtime").glob("jpserver-*-open.html")
        window.get(page.as_uri())  # what the command opens in a browser of its own accord
        lab.wait(lambda: window.execute_script(lab.READY), seconds=300, what="the kernel")
        assert window.execute_script(OPENED) == "notebooks/00_start_here.ipynb"
        seen = ("data", "notebooks", "reports")
        lab.wait(lambda: {*seen} <= {*window.execute_script(FOLDERS)}, seconds=60, what=str(seen))


def test_a_click_on_the_world_and_a_key_on_the_day_draw_what_is_there(opened):
    view = opened("00_start_here")
    view.changes(lambda: view.click_map(120, -40))
    view.changes(lambda: view.key(0, "ARROW_RIGHT"))
    lab.screenshot(view.window, "world", ".leaflet-container")
    assert "or type one" in view.words
    assert view.errors_as_a_page("00_start_here") == []


def test_a_bound_of_the_join_moves_its_funnel_and_a_reading_says_its_fate(opened):
    view = opened("10_build_dataset")
    view.changes(lambda: view.key(0, "ARROW_RIGHT"), what="words")
    assert "within 2 h" in view.words and "within 1 h" not in view.words
    view.changes(lambda: view.key(-1, "END"), what="words")
    assert "dropped, " in view.words or "a sample, " in view.words
    view.changes(lambda: view.choose("sensor", 3))
    lab.screenshot(view.window, "join", ".widget-hslider")
    assert view.errors_as_a_page("10_build_dataset") == []


def test_a_click_on_a_dot_draws_that_station_and_the_list_says_its_name(opened):
    view = opened("11_inspect_in_situ")
    assert view.window.execute_script(f"return {DOTS}.length") == 15
    click = "dispatchEvent(new MouseEvent('click', {bubbles: true, view: window}))"
    view.changes(lambda: view.window.execute_script(f"{DOTS}[7].{click}"))
    view.changes(lambda: view.choose("station", 2))
    view.changes(lambda: view.key(0, "END"))
    assert all(view.pictures), "the record and the chips of its last sample"
    lab.screenshot(view.window, "stations", ".leaflet-container")
    lab.screenshot(view.window, "samples", ".widget-image")
    assert view.errors_as_a_page("11_inspect_in_situ") == []


def test_a_training_is_started_stopped_and_ends_beside_the_notebook(opened):
    view = opened("20_train_xception_fusion")
    assert "not running, 0 validations" in view.words
    view.press("start")
    lab.wait(lambda: "| running" in f"| {view.words}", seconds=120, what="a start")
    view.press("stop")
    lab.wait(lambda: "not running" in view.words, seconds=120, what="a stop")
    view.changes(lambda: view.press("resume" if ", 0 validations" not in view.words else "start"))
    lab.wait(lambda: "done" in view.words, seconds=900, what="the end of the training")
    lab.screenshot(view.window, "training", ".widget-image")
    assert view.errors_as_a_page("20_train_xception_fusion") == []


def test_stratum_and_metric_move_map_and_table(opened):
    view = opened("31_evaluate_by_stratum")
    view.changes(lambda: view.choose("metric", 1))
    view.changes(lambda: view.choose("class", 1))
    view.changes(lambda: view.choose("stratum", 1), what="words")
    lab.screenshot(view.window, "evaluation", ".widget-dropdown")
    assert view.errors_as_a_page("31_evaluate_by_stratum") == []


def test_the_maps_layer_and_the_cell_that_is_clicked_are_drawn(opened):
    view = opened("40_map_a_region")
    view.changes(lambda: view.click_map(60, 10))
    assert all(view.pictures), "colour bars and series"
    before = view.sides
    assert all(before.values())
    view.choose("layer", 1)  # the left one's
    lab.wait(lambda: view.sides["left"] != before["left"], seconds=300, what="a layer")
    assert view.sides["right"] == before["right"]
    middle = view.clips
    view.window.execute_script(DIVIDE, 0.25)
    lab.wait(lambda: view.clips != middle, seconds=60, what="another line between the sides")
    view.changes(lambda: view.choose("station", 2), what="words")  # its name
    lab.screenshot(view.window, "map", ".leaflet-container")
    assert view.errors_as_a_page("40_map_a_region") == []


PAGES = sorted((ROOT / "reports").rglob("*.html"))


@pytest.mark.skipif(not PAGES, reason="no page in reports/: make report first")
def test_no_page_of_the_reports_fails_with_the_network_cut():
    with lab.chromium() as window:
        errors = {str(page.relative_to(ROOT)): lab.errors_offline(window, page) for page in PAGES}
    assert not {name: lines for name, lines in errors.items() if lines}

"""A report's page in a real browser: axe-core finds nothing serious, nothing loads, all fits."""

import json
import shutil
import subprocess
import tarfile

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from soilkit.show import reports
from soilkit.show.reports.book import Book, Section, build, shelve
from tests.browser import lab

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(lab.browser_paths() is None, reason="needs chromium and chromedriver"),
]
CELLS = (
    'seed = 0\nout_dir = ""',
    "import hvplot, pandas as pd\nfrom soilkit.show import plots, reports",
    "rows = pd.DataFrame({'model': ['SMAP', 'fusion'], 'metric': 'r', 'value': [0.5, 0.7]})\n"
    "rows = rows.assign(lower=rows.value - 0.1, upper=rows.value + 0.1)\n"
    "rows = rows.assign(stratum='all', split='test')\n"
    "_ = plots.interval_dots(rows, title='Scores (synthetic)')",
    "asked = pd.DataFrame({'question': ['unseen?', 'better?', 'sure?'],\n"
    "                      'grade': ['yes', 'partly', 'unknown']})\n"
    "plots.show(asked, graded='grade', title='Grades')",
    "plots.readable(pd.DataFrame([range(30)]).add_prefix('a_long_head_'))",
    "plots.live(hvplot.hvPlot(rows)(x='lower', y='upper', kind='scatter', title='Ends'))",
    "import sys\nprint('a long line ' * 40)\nprint('a warning', file=sys.stderr)",
    "reports.save_result(out_dir, '99_page', scores=rows.assign(metric='r_block_mean'))",
)
ANSWER = "<details><summary>Answers</summary>\n\n1. `Forty-two`.\n</details>\n\n## Takeaway\n\nWet."
PROSE = ("# 99 · A page\n\n*Is it read?*", "## One\n\nA [link](#two).", "## Two", ANSWER)
AXE = """
const done = arguments[arguments.length - 1];
axe.run(document, {resultTypes: ['violations']}).then(r => done(r.violations
  .filter(v => ['serious', 'critical'].includes(v.impact))
  .map(v => [v.id, v.nodes.length, v.nodes[0].html.slice(0, 200), v.nodes[0].failureSummary])));
"""
WIDTHS = "return [document.documentElement.scrollWidth, window.innerWidth];"
ALTS = "return [...document.images].map(image => image.alt);"


@pytest.fixture(scope="module")
def axe(tmp_path_factory):
    """axe-core's script, by npm."""
    folder = tmp_path_factory.mktemp("axe")
    if shutil.which("npm") is None:
        pytest.skip("needs npm, which fetches axe-core")
    command = [shutil.which("npm"), "pack", "axe-core", "--silent"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    if done.returncode:
        pytest.skip(f"npm cannot fetch axe-core: {done.stderr[-200:]}")
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        return archive.extractfile("package/axe.min.js").read().decode()


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of one report: its page, its index, and the list of all reports."""
    folder = tmp_path_factory.mktemp("pages")
    prose, code = [new_markdown_cell(text) for text in PROSE], [*map(new_code_cell, CELLS)]
    code[0].metadata["tags"] = ["parameters"]
    cells = [prose[0], *code[:4], prose[1], *code[4:6], prose[2], *code[6:], prose[3]]
    nbformat.write(new_notebook(cells=cells), folder / "99_page.ipynb")
    build(Book("one", "One", "About.", (Section("99_page"),)), folder, folder / "reports")
    shelve(folder / "reports")
    return folder / "reports"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["one/99_page.html", "one/index.html", "index.html"])
def test_a_page_is_read_by_everyone_and_loads_nothing(built, axe, name, scheme):
    """Contrast, names, order, keyboard, by axe-core; no console error; it fits a phone."""
    with lab.chromium() as window:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        window.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        window.execute_cdp_cmd("Network.enable", {})
        phone = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
        offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
        window.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
        window.get((built / name).as_uri())
        errors = [e["message"] for e in window.get_log("browser") if e["level"] == "SEVERE"]
        loads = [json.loads(line["message"])["message"] for line in window.get_log("performance")]
        window.execute_script(axe)
        assert window.execute_async_script(AXE) == []
        window.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
        content, screen = window.execute_script(WIDTHS)
        alts = window.execute_script(ALTS)
    urls = [load["params"].get("request", {}).get("url", "") for load in loads]
    assert not errors and not [url for url in urls if url.startswith(("http", "ws", "ftp"))]
    assert content <= screen
    assert alts and all(alt.startswith("Scores (synthetic). Across: correlation R") for alt in alts)


def test_a_printed_page_opens_what_is_folded(built):
    """The PDF holds pages; its links, code and frames stay on the screen."""
    pdf = reports.to_pdf(built / "one" / "99_page.html")
    assert pdf.read_bytes().startswith(b"%PDF") and pdf.stat().st_size > 10_000

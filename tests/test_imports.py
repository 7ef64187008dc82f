"""What a browser's kernel lacks is imported where it is used, and no metric loads a model."""

import ast
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
ABSENT = ("isal", "ismn", "rasterio")
NOT_IN_A_BROWSER = (
    "torch", "rasterio", "isal", "ismn", "zarr", "papermill", "nbformat", "nbconvert", "netCDF4",
    "ipyleaflet", "leafmap", "bokeh", "hvplot", "holoviews", "pystac", "pystac_client", "ee",
    "distributed", "google_crc32c",
)  # fmt: skip
LIGHT = (
    "soilkit", "soilkit.export", "soilkit.export.insitu", "soilkit.export.tables",
    "soilkit.export.published", "soilkit.export.join", "soilkit.metrics",
    "soilkit.metrics.splits", "soilkit.metrics.evaluation", "soilkit.world", "soilkit.show.plots",
)  # fmt: skip
LIGHT_NOTEBOOKS = (
    "00_start_here", "10_build_dataset", "11_inspect_in_situ", "12_read_published_shards",
    "35_bring_your_own_predictions",
)  # fmt: skip


REFUSE = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""


def load(code: str, *, absent: tuple[str, ...]) -> None:
    """Run imports in a process of their own, as other tests have loaded everything.

    What is absent cannot be found: a None in its place would stop who asks ``"torch" in modules``.
    """
    words = REFUSE.format(absent=absent) + f"{code}\n"
    words += "sys.exit('torch is loaded' if sys.modules.get('torch') else 0)"
    answer = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("module", LIGHT)
def test_a_light_module_loads_where_the_heavy_ones_are_absent(module):
    load(f"import {module}", absent=ABSENT)


def test_a_wing_is_named_without_waiting_for_its_pictures():
    """``import soilkit.show`` draws nothing, so it loads nothing that draws."""
    load("import soilkit.show", absent=("matplotlib", "hvplot", "ipywidgets", "nbformat"))


def test_notebooks_of_tables_load_where_the_heavy_ones_are_absent():
    """Every import they make; a map or an archive asks for more only where it is used."""
    cells = [c for n in LIGHT_NOTEBOOKS for c in nbformat.read(NOTEBOOKS / f"{n}.ipynb", 4).cells]
    nodes = [n for c in cells if c.cell_type == "code" for n in ast.parse(c.source).body]
    imports = [ast.unparse(n) for n in nodes if isinstance(n, ast.Import | ast.ImportFrom)]
    load("\n".join(dict.fromkeys(imports)), absent=ABSENT)


@pytest.mark.parametrize("name", ["00_start_here"])
def test_a_light_notebook_runs_with_what_a_browser_has(name, tmp_path):
    """Every cell, stamp included, with no torch, no raster library, no store and no runner."""
    cells = [c.source for c in nbformat.read(NOTEBOOKS / f"{name}.ipynb", 4).cells[1:]
             if c.cell_type == "code"]  # fmt: skip
    small = f"out_dir, n_stations = {str(tmp_path)!r}, 4"
    code = "\n".join(["import matplotlib", "matplotlib.use('agg')", cells[0], small, *cells[1:]])
    load(code, absent=NOT_IN_A_BROWSER)
    assert (tmp_path / "results" / name / "stamp.yaml").exists()

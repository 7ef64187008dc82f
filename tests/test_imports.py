"""What a browser's kernel lacks is imported where it is used, and no metric loads a model."""

import ast
import runpy
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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
# What runs notebooks, and what draws maps and charts to move: seconds that no first cell may take.
LATER = ("papermill", "nbformat", "nbconvert", "hvplot", "bokeh", "leafmap", "ipyleaflet", "ee")
WITHOUT_NETWORKS = (
    "01_synthetic_world", "14_build_a_cube", "31_evaluate_by_stratum",
)  # fmt: skip
LATER_NETWORKS = ("20_train_xception_fusion", "23_convlstm_daily", "40_map_a_region")
LIGHT_NOTEBOOKS = (
    "00_start_here", "10_build_dataset", "11_inspect_in_situ", "12_read_published_shards",
    "13_choose_splits", "35_bring_your_own_predictions",
)  # fmt: skip


REFUSE = """
import sys
from importlib.machinery import PathFinder
find, absent = PathFinder.find_spec, {absent!r}
def find_spec(name, *where):
    return None if name.partition(".")[0] in absent else find(name, *where)
PathFinder.find_spec = find_spec
"""


def load(code: str, *, absent: tuple[str, ...], unloaded: tuple[str, ...] = ("torch",)) -> None:
    """Run imports in a process of their own, as other tests have loaded everything.

    What is absent cannot be found: a None in its place would stop who asks ``"torch" in modules``.
    """
    words = REFUSE.format(absent=absent) + f"{code}\n"
    words += f"sys.exit(' '.join(n for n in {unloaded!r} if n in sys.modules) or 0)"
    answer = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr


def imports_of(source: str) -> list[str]:
    nodes = ast.parse(source).body
    return [ast.unparse(n) for n in nodes if isinstance(n, ast.Import | ast.ImportFrom)]


def first_cell(notebook: str) -> str:
    """The cell of imports, which stands below the parameters."""
    cells = nbformat.read(NOTEBOOKS / notebook, 4).cells
    return [c.source for c in cells if c.cell_type == "code"][1]


@pytest.mark.parametrize("module", LIGHT)
def test_a_light_module_loads_where_the_heavy_ones_are_absent(module):
    load(f"import {module}", absent=ABSENT)


def test_a_wing_is_named_without_waiting_for_its_pictures():
    """``import soilkit.show`` draws nothing, so it loads nothing that draws."""
    load("import soilkit.show", absent=("matplotlib", "hvplot", "ipywidgets", "nbformat"))


def test_notebooks_of_tables_load_where_the_heavy_ones_are_absent():
    """Every import they make; a map or an archive asks for more only where it is used."""
    cells = [c for n in LIGHT_NOTEBOOKS for c in nbformat.read(NOTEBOOKS / f"{n}.ipynb", 4).cells]
    imports = [line for c in cells if c.cell_type == "code" for line in imports_of(c.source)]
    load("\n".join(dict.fromkeys(imports)), absent=(*ABSENT, "torch", "papermill"))


@pytest.mark.parametrize("name", ["00_start_here"])
def test_a_light_notebook_runs_with_what_a_browser_has(name, tmp_path):
    """Every cell, stamp included, with no torch, no raster library, no store and no runner."""
    cells = [c.source for c in nbformat.read(NOTEBOOKS / f"{name}.ipynb", 4).cells[1:]
             if c.cell_type == "code"]  # fmt: skip
    small = f"out_dir, n_stations = {str(tmp_path)!r}, 4"
    code = "\n".join(["import matplotlib", "matplotlib.use('agg')", cells[0], small, *cells[1:]])
    load(code, absent=NOT_IN_A_BROWSER)
    assert (tmp_path / "results" / name / "stamp.yaml").exists()


def with_needs(names):
    """Distributions and all that they ask for without an extra."""
    known, todo = set(), {*map(canonicalize_name, names)}
    while todo:
        name = todo.pop()
        known.add(name)
        needs = map(Requirement, metadata.requires(name) or [])
        asked = [n.name for n in needs if not n.marker or n.marker.evaluate({"extra": ""})]
        todo |= {*map(canonicalize_name, asked)} - known
    return known


def test_what_lite_installs_is_enough_for_the_imports_of_its_notebooks():
    """A package that its list forgets stops a browser's first cell, wherever it is installed."""
    lite = runpy.run_path(str(NOTEBOOKS.parent / "docs" / "lite.py"))
    known = with_needs(lite["PACKAGES"]) | {"soilkit", *with_needs(["ipython"])}
    owners = metadata.packages_distributions().items()
    absent = [top for top, names in owners if not known & {*map(canonicalize_name, names)}]
    paths = [NOTEBOOKS / f"{name}.ipynb" for name in lite["NOTEBOOKS"]]
    cells = [c.source for p in paths for c in nbformat.read(p, 4).cells if c.cell_type == "code"]
    load("\n".join(line for cell in cells for line in imports_of(cell)), absent=tuple(absent))


def test_no_first_cell_waits_for_what_a_later_cell_may_need():
    """Half a dozen seconds in a kernel, for a report that nobody has asked for yet."""
    notebooks = sorted(path.name for path in NOTEBOOKS.glob("*.ipynb"))
    cells = [first_cell(name) for name in notebooks]
    names = [line for cell in cells for line in imports_of(cell)]
    load("\n".join(dict.fromkeys(names)), absent=(), unloaded=LATER)


def test_no_first_cell_loads_torch_before_a_network_is_wanted():
    names = (*WITHOUT_NETWORKS, *LATER_NETWORKS, *LIGHT_NOTEBOOKS)
    cells = [first_cell(f"{name}.ipynb") for name in names]
    names = [line for cell in cells for line in imports_of(cell)]
    load("\n".join(dict.fromkeys(names)), absent=(), unloaded=("torch", *LATER))

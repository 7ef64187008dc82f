"""The house stands as it was drawn: floors, sizes, heavy dependencies, environment."""

import ast
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "soilkit"

# Modules in order: each may import those before it, and whatever stands inside its own sub-package.
FLOORS = {
    "words": ["_version", "units", "errors", "files", "contracts", "sources"],
    "science": [
        "grids", "retention", "strata", "splits", "join", "features", "antecedents", "metrics",
        "applicability", "evaluation", "world",
    ],
    "doors": ["rasters", "insitu", "foreign", "chips", "archives", "published"],
    "learning": ["datasets", "augment", "losses", "models", "training", "maps", "experiments"],
    "showing": ["plots", "widgets", "reports"],
}  # fmt: skip
SCIENCE = {"numpy", "pandas", "xarray", "scipy", "pyproj", "sklearn", "tqdm"}
DOORS = SCIENCE | {
    "pyarrow", "zarr", "rasterio", "ismn", "ee", "google", "googleapiclient", "requests",
    "pystac", "pystac_client", "dask", "distributed", "isal", "google_crc32c",
}  # fmt: skip
LEARNING = SCIENCE | {"torch"}
SHOWING = LEARNING | {
    "matplotlib", "hvplot", "holoviews", "ipywidgets", "leafmap", "ipyleaflet",
    "papermill", "nbformat", "nbconvert", "yaml", "IPython", "bokeh", "jinja2",
}  # fmt: skip
ALLOWED = {
    "words": {"numpy"},
    "science": SCIENCE,
    "doors": DOORS,
    "learning": LEARNING,
    "showing": SHOWING,
}
ONE_MODULE_EACH = [
    "pyarrow", "zarr", "rasterio", "ismn", "ee", "pystac", "pystac_client", "dask", "distributed",
    "isal", "google_crc32c",
]  # fmt: skip
ORDER = [name for floor in FLOORS.values() for name in floor]
MAX_LINES, MAX_BODY, MAX_PARAMETERS = 300, 30, 6
# The stable names of the public surface, and the call that torch gives a module.
STABLE = {
    "anchored_join", "read_ismn", "read_table", "read_stations", "station_scores", "fit",
    "build", "predict_map", "__init__", "scenes", "series", "render", "truth", "run",
    "read", "from_series", "forward", "plan",
}  # fmt: skip


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def top_name(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def floor_of(name):
    return next((floor for floor, names in FLOORS.items() if name in names), None)


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            if node.module == "soilkit":
                yield from (f"soilkit.{alias.name}" for alias in node.names)
            else:
                yield node.module


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_from_below_only(path):
    """Lower floors, earlier names of the same floor, or its own sub-package; nothing else."""
    me = top_name(path)
    if me == "__init__":
        return
    assert floor_of(me), f"{me} stands on no floor: add it to FLOORS"
    for name in imports(path):
        top, _, rest = name.partition(".")
        if top == "soilkit":
            other = rest.split(".")[0]
            if other and other != "__version__" and other != me:
                assert other in ORDER, f"{me} imports {name}, which stands on no floor"
                assert ORDER.index(other) < ORDER.index(me), f"{me} may not import {other}"
        elif top not in sys.stdlib_module_names:
            assert top in ALLOWED[floor_of(me)], f"{me} may not import {top}"


@pytest.mark.parametrize("package", ONE_MODULE_EACH)
def test_a_heavy_dependency_has_one_door(package):
    """Who wants to know how soilkit talks to rasterio reads one module."""
    doors = [p.name for p in modules() if any(n.split(".")[0] == package for n in imports(p))]
    assert len(doors) <= 1, doors


def functions():
    for path in [*modules()]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield path, node


def body_lines(node):
    first = node.body[0]
    has_doc = isinstance(first, ast.Expr) and isinstance(
        getattr(first, "value", None), ast.Constant
    )
    rest = node.body[1:] if has_doc else node.body
    return node.end_lineno - rest[0].lineno + 1 if rest else 0


def test_modules_and_functions_stay_small():
    """A module holds one idea, a function fits a glance."""
    long = [str(p) for p in modules() if len(p.read_text().splitlines()) > MAX_LINES]
    assert not long, long
    big = [f"{p.name}:{f.name}" for p, f in functions() if body_lines(f) > MAX_BODY]
    assert not big, big


def test_signatures_stay_small():
    """At most six parameters, keyword-only after the second, but for the stable names."""
    wrong = []
    for path, node in functions():
        args = node.args
        positional = [a for a in args.posonlyargs + args.args if a.arg not in ("self", "cls")]
        n = len(positional) + len(args.kwonlyargs)
        if node.name not in STABLE and n > MAX_PARAMETERS:
            wrong.append(f"{path.name}:{node.name} has {n} parameters")
        public = not node.name.startswith("_")
        if public and len(positional) > 2 and node.name not in STABLE:
            wrong.append(f"{path.name}:{node.name} takes more than two by position")
    assert not wrong, wrong


def test_the_environment_file_only_points_at_pyproject():
    """One list of dependencies: environment.yml adds python, pip and this very project."""
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    python, pip, nested = environment["dependencies"]
    assert python == f"python{project['requires-python']}"
    assert pip == "pip"
    assert nested == {"pip": ["-e .[dev]"]}
    assert "dev" in project["optional-dependencies"]


def test_pyproject_holds_lower_bounds_only():
    """A pin in pyproject would break the environment of whoever installs soilkit."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    assert all(">=" in line and "==" not in line and "<" not in line for line in wanted), wanted
    assert {"jupyterlab", "leafmap", "torch", "papermill"} <= {w.split(">=")[0] for w in wanted}


def test_make_targets_are_all_explained():
    """`make help` lists every target that the README names."""
    makefile = (ROOT / "Makefile").read_text()
    for target in ("help", "report", "test", "lab", "bench", "check"):
        assert (
            f"\n{target}:" in makefile and "##" in makefile.split(f"\n{target}:")[1].split("\n")[0]
        )

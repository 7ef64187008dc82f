"""The light notebooks as a site that needs no Python: ``python docs/lite.py build/lite``."""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat

ROOT = Path(__file__).parents[1]
NOTEBOOKS = (
    "00_start_here", "01_synthetic_world", "13_choose_splits", "35_bring_your_own_predictions",
)  # fmt: skip
TABLES = ("samples", "features", "stations")  # of notebook 10, for notebooks 13 and 35
PACKAGES = (
    "beautifulsoup4", "filelock", "ipywidgets", "jinja2", "matplotlib", "numpy", "pandas",
    "platformdirs", "pyarrow", "pyproj", "pyyaml", "requests", "scikit-learn", "scipy", "tqdm",
    "xarray",
)  # fmt: skip
BESIDE = ("comm", "filelock", "ipywidgets", "jupyterlab-widgets")  # that Pyodide does not hold
SETUP = f"""import piplite

await piplite.install({list(PACKAGES)!r})
await piplite.install("soilkit", deps=False)  # torch and rasterio do not run in a browser"""


def main() -> None:
    """Build the site: notebooks with a first cell that installs, and soilkit's wheel."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pyodide", help="archive or address of a whole Pyodide distribution")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        contents, wheels = Path(folder) / "contents", Path(folder) / "wheels"
        write_contents(contents)
        pip = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", wheels]
        call(*pip, "--constraint", ROOT / "constraints-ci.txt", ROOT, *BESIDE)
        words = ["--lite-dir", folder, "--contents", contents]
        words += [word for wheel in wheels.glob("*.whl") for word in ("--piplite-wheels", wheel)]
        words += ["--output-dir", options.out.resolve()]
        words += ["--pyodide", options.pyodide] if options.pyodide else []
        call("-m", "jupyter", "lite", "build", *words)


def write_contents(folder: Path) -> None:
    """The notebooks, and what notebook 10 left for them where it has run."""
    (folder / "notebooks").mkdir(parents=True)
    for name in NOTEBOOKS:
        notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", 4)
        notebook.cells.insert(1, nbformat.v4.new_code_cell(SETUP))
        nbformat.write(notebook, folder / "notebooks" / f"{name}.ipynb")
    for file in (ROOT / "data" / "synthetic" / f"{name}.parquet" for name in TABLES):
        if file.is_file():
            to = folder / "data" / "synthetic"
            to.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, to)


def call(*words: object) -> None:
    """Run this Python on some words; a failure ends the build."""
    subprocess.run([sys.executable, *map(str, words)], check=True)


if __name__ == "__main__":
    main()

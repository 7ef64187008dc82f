"""One notebook, checked parameters, one stamped report that opens with no network."""

import ast
import hashlib
import logging
import platform
import re
import shutil
from collections.abc import Mapping
from difflib import get_close_matches
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import soilkit
from soilkit import __version__
from soilkit.constants import MIN_SAMPLES
from soilkit.errors import ContractError, ParameterError
from soilkit.export import tables
from soilkit.files import write_text_whole, write_whole

LOG = logging.getLogger(__name__)
PACKAGES = ("numpy", "pandas", "xarray", "scikit-learn", "torch", "zarr", "ismn", "papermill")


def stamp(*, seed: int, data: dict[str, str | Path]) -> dict[str, Any]:
    """Versions, seed and one SHA-256 a named piece of data; no clock, so that equal runs are equal.

    Parameters
    ----------
    seed : int
    data : mapping of a name to a path (hashed here) or to a hash that its owner gives (a chip
        store's ``data_hash``, a world's ``version``)
    """
    versions = {"soilkit": __version__, "python": platform.python_version()}
    versions |= {name: version(name) for name in PACKAGES}
    hashes = {name: _hash(item) for name, item in data.items()}
    return {"seed": int(seed), "versions": versions, "data": hashes}


def _hash(item: str | Path) -> str:
    if not isinstance(item, Path) and (len(str(item)) > 255 or not Path(item).is_file()):
        return str(item)
    with Path(item).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_result(out_dir: str | Path, notebook: str, **results: Any) -> Path:
    """Write a notebook's small text results to ``out_dir/results/<notebook>/``, for the report.

    A table becomes ``<name>.csv``, a mapping ``<name>.yaml``.
    """
    folder = Path(out_dir) / "results" / notebook
    for name, result in results.items():
        is_mapping = isinstance(result, dict)
        text = as_yaml(result) if is_mapping else as_csv(result)
        write_text_whole(folder / f"{name}.{'yaml' if is_mapping else 'csv'}", text)
    return folder


def as_yaml(values: dict[str, Any]) -> str:
    """A mapping as the text that reports keep, in its own order."""
    import yaml

    return yaml.safe_dump(values, sort_keys=False)


def as_csv(table: Any) -> str:
    """A table as the text that reports keep: six digits, no index."""
    return table.to_csv(index=False, float_format="%.6g", lineterminator="\n")


# Executed notebooks to one HTML file that asks the network for nothing.

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
LINKS = ("a", "area")  # what a reader may follow; any other tag loads
LOADING = ("src", "srcset", "href", "xlink:href", "poster", "data")
ELSEWHERE = re.compile(r"^\s*(https?:)?//", re.IGNORECASE)
LOADING_STYLE = re.compile(
    r"""(?:url\(|@import)\s*['"]?\s*((?:https?:)?//[^'")\s]+)""", re.IGNORECASE
)
TEMPLATE = """
{%- extends 'index.html.j2' -%}
{%- block html_head_js_requirejs -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block jupyter_widgets -%}{%- endblock -%}
{% block input_group -%}
<details class="soilkit-code"><summary>code</summary>{{ super() }}</details>
{%- endblock input_group %}
{%- block html_head_css -%}
<style>
body { max-width: 62rem; margin: 0 auto; padding: 1rem 1.5rem; }
details.soilkit-code > summary { cursor: pointer; color: #777; font: 0.75rem sans-serif; }
.jp-RenderedHTMLCommon { overflow-x: auto; }
.jp-OutputPrompt, .jp-InputPrompt { display: none; }
.jp-RenderedHTMLCommon img, .jp-RenderedImage img { max-width: 100%; height: auto; }
</style>
{%- endblock -%}
"""


def external_loads(html: str) -> list[str]:
    """What a page would load from elsewhere: scripts, styles, images, frames; links do not count.

    Examples
    --------
    >>> external_loads('<a href="https://x.org">x</a><script src="https://x.org/a.js"></script>')
    ["<script src='https://x.org/a.js'>"]
    """
    from bs4 import BeautifulSoup

    page = BeautifulSoup(html, "html.parser")
    loads = [
        f"<{tag.name} {name}={tag[name]!r}>"
        for tag in page.find_all(lambda tag: tag.name not in LINKS)
        for name in LOADING
        if ELSEWHERE.match(str(tag.get(name, "")))
    ]
    styles = [str(tag["style"]) for tag in page.find_all(style=True)]
    styles += [tag.get_text() for tag in page.find_all("style")]
    return loads + [url for text in styles for url in LOADING_STYLE.findall(text)]


def _is_transient(output: dict) -> bool:
    """Whether an output means something only while the notebook runs: a widget, a progress bar."""
    if WIDGET_VIEW in output.get("data", {}):
        return True
    return output.get("name") == "stderr" and "%|" in "".join(output.get("text", ""))


def to_html(notebook: Any, title: str) -> str:
    """One self-contained HTML page of an executed notebook, code folded.

    Widgets and progress bars, which mean something only beside a running kernel, are left out:
    notebooks set a static picture beside each interactive view.

    Raises
    ------
    ValueError
        If the page would still load something from the network.
    """
    import nbformat
    from jinja2 import DictLoader
    from nbconvert import HTMLExporter

    page = nbformat.from_dict(notebook)
    page.metadata.pop("widgets", None)
    page.metadata["title"] = title
    for cell in page.cells:
        if cell.cell_type == "code":
            cell["outputs"] = [o for o in cell["outputs"] if not _is_transient(o)]
    name = "offline.html.j2"
    exporter = HTMLExporter(extra_loaders=[DictLoader({name: TEMPLATE})], template_file=name)
    html, _ = exporter.from_notebook_node(page)
    loads = external_loads(html)
    if loads:
        raise ValueError(
            f"{title} would load {len(loads)} things from the network, first {loads[0]}. "
            "Embed them, or show a static picture instead."
        )
    return html


# One notebook, checked parameters, one report.


def _cells(notebook: str | Path) -> list[Any]:
    import nbformat

    return nbformat.read(notebook, as_version=4).cells


def heading(notebook: str | Path) -> tuple[str, str]:
    """A notebook's title and the question under it."""
    lines = [line for line in _cells(notebook)[0].source.splitlines() if line.strip()]
    title, question, *_ = [*lines, "", ""]
    return title.lstrip("# ") or Path(notebook).stem, question.strip("*_ ")


def declared(notebook: str | Path) -> dict[str, Any]:
    """The notebook's parameters and their default values, from its ``parameters`` cell.

    Raises
    ------
    ParameterError
        If the notebook has no such cell, or a default is no plain literal (papermill would leave
        what is derived from it stale).
    """
    tagged = [c for c in _cells(notebook) if "parameters" in c.metadata.get("tags", [])]
    if not tagged:
        raise ParameterError(f"{Path(notebook).name} has no cell tagged 'parameters'.")
    defaults = {}
    for node in ast.parse(tagged[0].source).body:
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
            continue
        name = node.targets[0].id
        try:
            defaults[name] = ast.literal_eval(node.value)
        except ValueError as error:
            words = f"{Path(notebook).name}: the default of {name!r} is no plain literal."
            raise ParameterError(words) from error
    return defaults


def check_parameters(notebook: str | Path, parameters: dict[str, Any]) -> None:
    """Raise ``ParameterError`` for a parameter that the notebook lacks, or one of another type."""
    known, file = declared(notebook), Path(notebook).name
    for name, value in parameters.items():
        if name not in known:
            near = "".join(f" Did you mean {n!r}?" for n in get_close_matches(name, known, n=1))
            words = f"{file} has no parameter {name!r}; it has {', '.join(known)}.{near}"
            raise ParameterError(words)
        wanted, found = type(known[name]), type(value)
        allowed = (wanted, int) if wanted is float else (wanted,)
        if known[name] is not None and found not in allowed:
            raise ParameterError(
                f"{file}: {name!r} should be {wanted.__name__} (default {known[name]!r}), found "
                f"{found.__name__} {value!r}."
            )


def run(notebook: str | Path, parameters: dict[str, Any], out_dir: str | Path) -> Path:
    """Run a notebook with papermill and write its report; returns the path of the page.

    ``out_dir`` receives ``<notebook>.html``, which opens with no network, and a folder
    ``<notebook>/`` with ``parameters.yaml`` and the small text results (``stamp.yaml``,
    ``scores.csv``, ...) that the notebook saved under its own ``out_dir`` parameter (by default
    ``<out_dir>/work``). Nothing is left half-written.

    Raises
    ------
    ParameterError
        Before anything runs, for a parameter that does not exist or is of another type.
    papermill.PapermillExecutionError
        If a cell fails; the executed notebook is kept beside the report for reading.
    """
    import nbformat
    import papermill

    notebook, out_dir = Path(notebook), Path(out_dir).resolve()
    check_parameters(notebook, parameters)
    defaults, folder = declared(notebook), out_dir / notebook.stem
    work = {"out_dir": str(out_dir / "work")} if "out_dir" in defaults else {}
    parameters = work | parameters
    executed = out_dir / "work" / f"{notebook.stem}.executed.ipynb"
    for place in (executed.parent, folder):
        place.mkdir(parents=True, exist_ok=True)
    LOG.info("running %s with %s", notebook.name, parameters)
    papermill.execute_notebook(
        str(notebook), str(executed), parameters=parameters, kernel_name="python3",
        language="python", cwd=str(notebook.parent), request_save_on_cell_execute=False,
    )  # fmt: skip
    html = to_html(nbformat.read(executed, as_version=4), heading(notebook)[0])
    results = Path(str(parameters.get("out_dir", ""))) / "results" / notebook.stem
    if results.is_dir():
        shutil.copytree(results, folder, dirs_exist_ok=True)
    used = {name: _portable(value) for name, value in (defaults | parameters).items()}
    write_text_whole(folder / "parameters.yaml", as_yaml(dict(sorted(used.items()))))
    return write_text_whole(out_dir / f"{notebook.stem}.html", html)


def _portable(value: Any) -> Any:
    """Of an absolute path the last two parts: a report names data, not one machine."""
    is_absolute = isinstance(value, str) and Path(value).is_absolute()
    return "/".join(Path(value).parts[-2:]) if is_absolute else value


# Anybody's predictions table as the evaluation report of notebook 31.

NOTEBOOKS = Path(soilkit.__file__).resolve().parents[1] / "notebooks"  # of the repository
EVALUATION = NOTEBOOKS / "31_evaluate_by_stratum.ipynb"
BESIDE = ("folds", "features")  # what the model trained on, and what it eats
SHARED = ("station", "sensor", "network")  # columns that a list of stations may share


def evaluate_table(
    predictions: str | Path | pd.DataFrame,
    out_dir: str | Path,
    *,
    reading: Mapping[str, Any],
    stations: str | Path | pd.DataFrame | None = None,
    parameters: Mapping[str, Any] | None = None,
    notebook: str | Path | None = None,
) -> Path:
    """Read a predictions table, and run the evaluation notebook on it into one offline page.

    ``out_dir/work`` receives ``predictions.parquet``, ``stations.parquet`` and ``notes.csv``.

    Parameters
    ----------
    predictions : as in ``tables.read_predictions``, whose arguments stand in ``reading``:
        ``{"units": "m3 m-3", ...}``; and ``station_columns``, those of ``tables.read_stations``
    stations : as in ``tables.read_stations``; None: columns of the predictions, if it has any
    parameters : of the notebook, such as ``archive`` (the data's name, by default the file's)
    notebook : path of notebook 31; by default in the folder ``notebooks`` beside the package

    Raises
    ------
    SoilkitError
        Before anything runs: for a table or a list that cannot be read, a model that it lacks, too
        few samples, or a wrong parameter.
    papermill.PapermillExecutionError
        If the notebook fails.
    """
    page, given = Path(notebook or EVALUATION), dict(parameters or {})
    if isinstance(predictions, str | Path):
        given.setdefault("archive", Path(predictions).name.split(".")[0])
    work = Path(out_dir).resolve() / "work"
    paths = {name: str(work / f"{name}.parquet") for name in ("predictions", "stations")}
    paths["notes"] = str(work / "notes.csv")
    if not page.is_file():
        raise ParameterError(
            f"No evaluation notebook at {page}. It comes with soilkit's repository, not with an "
            "installed package: clone the repository and pass its path (--notebook)."
        )
    check_parameters(page, given | paths)
    for name in BESIDE:
        if given.get(name) and not Path(given[name]).is_file():
            raise ParameterError(f"No table of {name} at {given[name]}.")
    table, places, notes = _read(predictions, stations, reading)
    _refuse_too_few(table, given)
    write_whole(paths["predictions"], table.to_parquet)
    write_whole(paths["stations"], places.to_parquet)
    write_text_whole(paths["notes"], as_csv(notes))
    return run(page, given | paths, out_dir)


def _read(predictions, stations, reading):
    """Predictions and stations of their contracts, and what was noted about either."""
    options = dict(reading)
    columns = options.get("columns") or {}
    names = dict(options.pop("station_columns", None) or {})
    table, notes = tables.read_predictions(predictions, **options)
    for line in notes.itertuples():
        LOG.info("%s %s: %d rows, %s", line.status, line.column, line.n_rows, line.detail)
    if stations is None:  # the places may stand in the table itself, under the same names
        stations = predictions
        names = {name: columns[name] for name in SHARED if name in columns} | names
    decimal = options.get("decimal", ".")
    places, more = tables.read_stations(stations, table, columns=names, decimal=decimal)
    for line in more.itertuples():
        LOG.warning("%s: %d stations, %s", line.status, line.n_stations, line.detail)
    return table, places, pd.concat([notes, more], ignore_index=True)


def _refuse_too_few(table, given):
    """A table in which nothing can be scored has no report."""
    main, wanted = given.get("main") or "", given.get("min_samples", MIN_SAMPLES)
    models = list(table["model"].cat.categories)
    if main and main not in models:
        raise ContractError(f"main is {main!r}, and the models are {', '.join(models)}.")
    pair = np.isfinite(table["observed_m3_m3"]) & np.isfinite(table["predicted_m3_m3"])
    rows = table[pair & (table["model"] == main if main else True)]
    n = rows.groupby(["model", "split", "sensor_id"], observed=True).size()
    if n.max() < wanted or n.empty:
        raise ContractError(
            f"No sensor has {wanted} pairs of observed and predicted values; the best of "
            f"{table['sensor_id'].nunique()} has {0 if n.empty else n.max()}. Give a longer table, "
            "or lower min_samples."
        )

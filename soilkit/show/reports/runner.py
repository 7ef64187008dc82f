"""One notebook, checked parameters, one stamped report that opens with no network."""

import ast
import json
import logging
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from datetime import date
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import soilkit
from soilkit import __version__
from soilkit.constants import MIN_SAMPLES
from soilkit.errors import ContractError, ParameterError
from soilkit.export import tables
from soilkit.files import csv_text, sha256, write_text_whole, write_whole
from soilkit.metrics.evaluation.score_tables import main_model
from soilkit.show.reports.pages import to_html

LOG = logging.getLogger(__name__)
PACKAGES = ("numpy", "pandas", "xarray", "scikit-learn", "torch", "zarr", "ismn", "papermill")


def stamp(*, seed: int, data: dict[str, str | Path]) -> dict[str, Any]:
    """Versions, seed and one SHA-256 a named piece of data; no clock, so that equal runs are equal.

    Parameters
    ----------
    data : mapping of a name to a path (hashed here) or to a hash that its owner gives (a chip
        store's ``data_hash``, a world's ``version``)
    """
    versions = {"soilkit": __version__, "python": platform.python_version()}
    versions |= {name: _version(name) for name in PACKAGES}
    return {"seed": int(seed), "versions": versions, "data": {k: _hash(v) for k, v in data.items()}}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # a browser has no torch
        return "none"


def _hash(item: str | Path) -> str:
    if not isinstance(item, Path) and (len(str(item)) > 255 or not Path(item).is_file()):
        return str(item)
    return sha256(item)


def save_result(out_dir: str | Path, notebook: str, **results: Any) -> Path:
    """Write a notebook's small text results to ``out_dir/results/<notebook>/``, for the report.

    A table becomes ``<name>.csv``, a mapping ``<name>.yaml``.
    """
    folder = Path(out_dir) / "results" / notebook
    for name, result in results.items():
        kind, write = ("yaml", as_yaml) if isinstance(result, dict) else ("csv", csv_text)
        write_text_whole(folder / f"{name}.{kind}", write(result))
    return folder


def as_yaml(values: dict[str, Any]) -> str:
    """A mapping as the text that reports keep, in its own order."""
    import yaml

    return yaml.safe_dump(values, sort_keys=False)


# One notebook, checked parameters, one report.


def _cells(notebook: str | Path) -> list[Any]:
    import nbformat

    try:
        return nbformat.read(notebook, as_version=4).cells
    except Exception as error:  # the disk, json and nbformat raise whatever they like
        text = f"{notebook} cannot be read as a notebook ({type(error).__name__}: {error})."
        raise ParameterError(f"{text} Give the path of a whole .ipynb file.") from error


def heading(notebook: str | Path) -> tuple[str, str]:
    """A notebook's title and the question under it."""
    lines = [line for line in _cells(notebook)[0].source.splitlines() if line.strip()]
    title, question, *_ = [*lines, "", ""]
    return title.lstrip("# ") or Path(notebook).stem, question.strip("*_ ")


def declared(notebook: str | Path) -> dict[str, Any]:
    """The notebook's parameters and their default values, from its ``parameters`` cell.

    Raises ``ParameterError`` if the notebook has no such cell, a line of it is no Python, or a
    default is no plain literal (papermill would leave what is derived from it stale).
    """
    file = Path(notebook).name
    tagged = [c for c in _cells(notebook) if "parameters" in c.metadata.get("tags", [])]
    if not tagged:
        raise ParameterError(f"{file} has no cell tagged 'parameters'.")
    try:
        lines = ast.parse(tagged[0].source).body
    except (SyntaxError, ValueError, RecursionError) as error:
        line, text = getattr(error, "lineno", 1), getattr(error, "text", "") or str(error)
        raise ParameterError(
            f"{file}: line {line} of the parameters cell is no Python ({text.strip()!r}). Move "
            "magics (%, !) to a cell below."
        ) from error
    defaults: dict[str, Any] = {}
    for node in lines:
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_text or isinstance(node, ast.Import | ast.ImportFrom):
            continue
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            raise ParameterError(
                f"{file}: line {node.lineno} of the parameters cell, {ast.unparse(node)!r}, sets "
                "no name to a plain literal. Move it to a cell below."
            )
        value: Any = node.value
        for target in getattr(node, "targets", [getattr(node, "target", None)]):
            try:
                defaults[target.id] = _plain(ast.literal_eval(value))
            except (AttributeError, ValueError, TypeError) as error:
                words = f"{file}: the default of {ast.unparse(target)!r} is no plain literal."
                raise ParameterError(words) from error
    return defaults


def _plain(value: Any) -> Any:
    """A value as JSON holds it, however deep; TypeError or ValueError where it holds none such."""
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):  # JSON would make texts of numbers
            raise TypeError(value)
        return {_plain(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(one) for one in value]
    text = json.dumps(value, default=_leaf, allow_nan=False, ensure_ascii=False)
    text.encode()  # refuses half characters
    return json.loads(text)


def _leaf(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.path.abspath(value)
    if isinstance(value, np.datetime64):
        value = pd.Timestamp(value)
    if isinstance(value, date) and value is not pd.NaT:
        return value.isoformat()
    if isinstance(value, np.generic) and not isinstance(value, np.timedelta64):
        return value.item()
    raise TypeError(value)


def check_parameters(notebook: str | Path, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters as plain values, as JSON holds them.

    Paths (made absolute) and dates become text, numpy's numbers Python's, tuples and arrays lists.
    Raises ``ParameterError`` for a parameter that the notebook lacks, one of another type than its
    default, and a value that is not plain, however deep: a set, bytes, NaN.
    """
    known, file, plain = declared(notebook), Path(notebook).name, {}
    for name, value in dict(parameters or {}).items():
        if name not in known:
            words = f"{file} has no parameter {name!r}; it has {', '.join(known)}."
            near = [f" Did you mean {n!r}?" for n in get_close_matches(str(name), known, n=1)]
            raise ParameterError("".join([words, *near]))
        try:
            plain[name] = _plain(value)
        except (TypeError, ValueError, RecursionError) as error:
            raise ParameterError(
                f"{file}: {name!r} is {value!r}, which no notebook takes. Give text, finite "
                "numbers, True, False or None, or lists of them and dicts by text."
            ) from error
        wanted, given = type(known[name]), type(plain[name])
        allowed = (wanted, int) if wanted is float else (wanted,)
        if known[name] is not None and given not in allowed:
            raise ParameterError(
                f"{file}: {name!r} should be {wanted.__name__} (default {known[name]!r}), found "
                f"{type(value).__name__} {value!r}."
            )
    return plain


def run(
    notebook: str | Path, parameters: dict[str, Any], out_dir: str | Path, *, for_lab: bool = True,
    code: bool | None = None, up: str = "",
) -> Path:  # fmt: skip
    """Run a notebook with papermill and write its report; returns the path of the page.

    ``out_dir`` receives ``<notebook>.html``, which opens with no network, and a folder
    ``<notebook>/`` with ``parameters.yaml`` and the small text results (``stamp.yaml``,
    ``scores.csv``, ...) that the notebook saved under its own ``out_dir`` parameter (by default
    ``<out_dir>/work``). Nothing is left half-written. ``for_lab``, ``code`` and ``up`` are those of
    ``to_html``.

    Raises
    ------
    ParameterError
        Before anything runs, for a parameter that does not exist or is of another type.
    papermill.PapermillExecutionError
        If a cell fails; ``<notebook>.failed.html`` shows where and why.
    """
    import nbformat
    import papermill

    notebook, out_dir = Path(notebook), Path(out_dir).resolve()
    defaults, folder = declared(notebook), out_dir / notebook.stem
    work = {"out_dir": str(out_dir / "work")} if "out_dir" in defaults else {}
    parameters = work | check_parameters(notebook, parameters)
    executed = out_dir / "work" / f"{notebook.stem}.executed.ipynb"
    for place in (executed.parent, folder):
        place.mkdir(parents=True, exist_ok=True)
    shorten = _shortener([out_dir, notebook.parent], defaults | parameters)
    title = heading(notebook)[0] if for_lab else f"Evaluation: {parameters.get('archive', '')}"
    failure = out_dir / f"{notebook.stem}.failed.html"

    def page(**options: Any) -> str:
        made = nbformat.read(executed, as_version=4)
        _hide_places(made, shorten)
        return to_html(made, title, up=up, **options)

    LOG.info("running %s with %s", notebook.name, parameters)
    try:
        papermill.execute_notebook(
            str(notebook), str(executed), parameters=parameters, kernel_name="python3",
            language="python", cwd=str(notebook.parent), request_save_on_cell_execute=False,
        )  # fmt: skip
    except papermill.PapermillExecutionError:
        write_text_whole(failure, page())
        raise
    html = page(for_lab=for_lab, code=code)
    results = Path(str(parameters.get("out_dir", ""))) / "results" / notebook.stem
    if results.is_dir():
        shutil.copytree(results, folder, dirs_exist_ok=True)
    used = json.loads(shorten(json.dumps(defaults | parameters, sort_keys=True)))
    write_text_whole(folder / "parameters.yaml", as_yaml(used))
    failure.unlink(missing_ok=True)
    return write_text_whole(out_dir / f"{notebook.stem}.html", html)


def _shortener(folders: list[Path], parameters: dict[str, Any]) -> Callable[[str], str]:
    """What shortens absolute paths in a text: a report names data, no machine.

    Of parameters the last two parts stay, "~" stands for the home folder, "." for any other.
    """
    roots = [*map(str, folders), tempfile.gettempdir(), sys.prefix, os.getcwd()]
    short = {str(Path(root).resolve()): "." for root in roots} | dict.fromkeys(roots, ".")
    short[os.path.expanduser("~")] = "~"
    texts = map(json.loads, re.findall(r'"(?:[^"\\]|\\.)*"', json.dumps(parameters)))
    short |= {text: "/".join(Path(text).parts[-2:]) for text in texts if Path(text).is_absolute()}
    short = {json.dumps(place)[1:-1]: name for place, name in short.items()} | short
    places = sorted((p for p in short if len(Path(p).parts) > 1), key=len, reverse=True)
    # a base64 picture may hold "/tmp" too, among letters
    pattern = re.compile(rf"(?<![\w+/.-])(?:{'|'.join(map(re.escape, places))})(?![\w-])")
    return lambda text: pattern.sub(lambda place: short[place[0]], text)


def _hide_places(page: Any, shorten: Callable[[str], str]) -> None:
    for cell in page.cells:
        cell["source"] = shorten(cell["source"])
        for output in cell.get("outputs", []):
            output |= {"text": shorten(output["text"])} if "text" in output else {}
            texts = {k: v for k, v in output.get("data", {}).items() if k.startswith("text/")}
            output.get("data", {}).update({kind: shorten(text) for kind, text in texts.items()})


# Anybody's predictions table as the evaluation report of notebook 31.

NOTEBOOKS = Path(soilkit.__file__).resolve().parents[1] / "notebooks"  # of the repository
EVALUATION = NOTEBOOKS / "31_evaluate_by_stratum.ipynb"
BESIDE = ("folds", "features")  # what the model trained on, and what it eats
SHARED = ("station", "sensor", "network")  # columns that a list of stations may share


def evaluate_table(
    predictions: str | Path | pd.DataFrame, out_dir: str | Path, *, reading: Mapping[str, Any],
    stations: str | Path | pd.DataFrame | None = None, notebook: str | Path | None = None,
    parameters: Mapping[str, Any] | None = None, code: bool = False,
) -> Path:  # fmt: skip
    """Read a predictions table, run the evaluation notebook on it; the path of one offline page.

    ``out_dir/work`` receives ``predictions.parquet``, ``stations.parquet`` and ``notes.csv``.

    Parameters
    ----------
    predictions : as in ``tables.read_predictions``, whose arguments stand in ``reading``:
        ``{"units": "m3 m-3", ...}``; and ``station_columns``, those of ``tables.read_stations``
    stations : as in ``tables.read_stations``; None: columns of the predictions, if it has any
    parameters : of the notebook, such as ``archive`` (the data's name, by default the file's)
    notebook : path of notebook 31; by default in the folder ``notebooks`` beside the package
    code : whether the page ends with the code that made it

    Raises
    ------
    SoilkitError
        Before anything runs: for a table or a list that cannot be read, a model that it lacks, too
        few samples, or a wrong parameter.
    papermill.PapermillExecutionError
        If the notebook fails.
    """
    page, given = Path(notebook or EVALUATION), {**(parameters or {})}
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
    given = check_parameters(page, given | paths)
    for name in BESIDE:
        if given.get(name) and not Path(given[name]).is_file():
            raise ParameterError(f"No table of {name} at {given[name]}.")
    table, places, notes = _read(predictions, stations, reading)
    _refuse_too_few(table, given)
    write_whole(paths["predictions"], table.to_parquet)
    write_whole(paths["stations"], places.to_parquet)
    write_text_whole(paths["notes"], csv_text(notes))
    return run(page, given, out_dir, for_lab=False, code=code)


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
    for name in (main or None, *given.get("made_of", ())):
        main_model(table, name)
    pair = np.isfinite(table["observed_m3_m3"]) & np.isfinite(table["predicted_m3_m3"])
    rows = table[pair & (table["model"] == main if main else True)]
    n = rows.groupby(["model", "split", "sensor_id"], observed=True).size()
    if n.max() < wanted or n.empty:
        raise ContractError(
            f"No sensor has {wanted} pairs of observed and predicted values; the best of "
            f"{table['sensor_id'].nunique()} has {0 if n.empty else n.max()}. Give a longer table, "
            "or lower min_samples."
        )

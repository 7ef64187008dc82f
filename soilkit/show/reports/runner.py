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
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import Markdown

import soilkit
from soilkit import __version__, sources
from soilkit.constants import MIN_SAMPLES
from soilkit.errors import ContractError, ParameterError
from soilkit.export import tables
from soilkit.files import csv_text, read_table, sha256, write_text_whole, write_whole
from soilkit.metrics.evaluation.score_tables import main_model
from soilkit.show.plots.style import words
from soilkit.show.reports.pages import to_html
from soilkit.strata import MIN_STATIONS

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


# Cards: what a dataset and a trained model are, for whoever is handed the files alone.

NASA = "NASA's open data: free use, cite the product"
TERMS = {  # of use, by the beginning of a source's name; in situ data have the networks' own
    "sentinel": "free and open; write 'contains modified Copernicus Sentinel data' and the year",
    **dict.fromkeys(("smap_hydroblocks", "dem_3dep", "dem_merit"), "its maker's"),
    "soilgrids": "CC BY 4.0", "smap": NASA, "gldas": NASA, "dem": NASA, "modis": NASA,
}  # fmt: skip
ISMN_TERMS = (
    "In-situ data of ISMN are for scientific use, are not passed on, and are cited by ISMN's paper "
    "(Dorigo et al. 2021, doi:10.5194/hess-25-5749-2021) beside each network's own."
)
CARD_SCORES = ("r", "ubrmse_m3_m3", "rmse_m3_m3", "bias_m3_m3")
SOURCE_HEADS = ("product", "cite", "terms", "beware")
NETWORK_HEADS = ("network", "stations", "cite")
POOR_R, MOST_LISTED = 0.5, 3
MARKS = re.compile(r"[<>&|`*$\\\r\n]|](?=\()")  # that break a cell or obey; others stay readable
INVENTED = " Everything is synthetic: it is no evidence about, and of no use on, the real Earth."


def data_card(folder: str | Path, *, label: str) -> Markdown:
    """What the dataset in a folder of notebook 10 holds, shown and written to ``data_card.md``.

    Period, stations, losses by reason, sources and networks with their citations and terms, and
    what it is good for. ``label`` names the data; "synthetic" says so.
    """
    from soilkit.export import chips  # zarr is slow to load

    folder = Path(folder)
    samples, stations, drops = (
        read_table(folder / f"{name}.parquet") for name in ("samples", "stations", "drops")
    )
    store = chips.open_store(folder / "chips.zarr")
    archive, cited = store.manifest["archive"], store.manifest["networks"]
    lost = drops.groupby("reason", observed=True)["count"].sum().nlargest(MOST_LISTED)
    moisture = samples["soil_moisture_m3_m3"].quantile([0.05, 0.5, 0.95])
    classes = stations.groupby("land_cover", observed=True)["station_id"].nunique()
    few = sorted(set(classes[classes < MIN_STATIONS].index.astype(str)) - {""})
    facts = {
        "archive": f"{archive['name']}, version {archive['version']}",
        "chips": f"SHA-256 {store.data_hash}, by soilkit {__version__}",
        "samples": f"{len(samples):,}, {_period(samples)}, {_places(samples)}",
        "soil moisture, m³ m⁻³": "5 %, 50 %, 95 %: " + ", ".join(f"{q:.3f}" for q in moisture),
        "depth of the probes, m": f"{stations['depth_from_m'].min():g} to "
        f"{stations['depth_to_m'].max():g}",
        "readings without a sample": f"{int(drops['count'].sum()):,}; most of them: "
        + "; ".join(f"{reason} ({n:,})" for reason, n in lost.items()),
    }
    names = [c.removesuffix("_scene") for c in samples if c.endswith("_scene")]
    layers = [sources.get(name) for name in names]
    counts = stations.groupby("network", observed=True)["station_id"].nunique()
    networks = [(n, k, cited.get(str(n)) or "none listed") for n, k in counts.items()]
    limits = f" Fewer than {MIN_STATIONS} stations stand for: {', '.join(few)}." if len(few) else ""
    text = "\n\n".join((
        f"## Data card: {_inert(label)}", _pipes(("what", "value"), facts.items()),
        "### Sources", _pipes(SOURCE_HEADS, _source_rows(layers)),
        "### Networks", _pipes(NETWORK_HEADS, networks), ISMN_TERMS,
        "### Use", "For training and scoring models of surface soil moisture at places like these; "
        "not for other depths, and not for climates or land that no station here stands for."
        + limits + (INVENTED if label == "synthetic" else ""),
    ))  # fmt: skip
    write_text_whole(folder / "data_card.md", text + "\n")
    return Markdown(text)


def model_card(
    trained: Any, scores: pd.DataFrame, *, by_sensor: pd.DataFrame, samples: pd.DataFrame,
    path: str | Path, label: str, split: str = "test",
) -> Markdown:  # fmt: skip
    """What a trained model is and how it does at unseen stations, shown and written to ``path``.

    Parameters
    ----------
    trained : what a system's ``train`` returned, a network or a ``TrainedTable``
    scores : a scores table; the rows of its block means on ``split`` are printed
    by_sensor : from ``metrics.station_scores``, for where it fails
    samples : what taught it, or what its ``labels`` say which part of; of a network that no probe
        taught at least ``time``
    label : of the data; "synthetic" says so
    split : the unseen one
    """
    learnt, inputs = _learnt(trained, samples), _inputs(trained)
    at = _places(learnt) if "station_id" in learnt else "no probe: it is taught by products"
    facts = {"trained on": f"{label}: {len(learnt):,} samples, {_period(learnt)}, {at}"}
    facts |= {"eats": ", ".join(inputs)} | _sizes(trained)
    unseen = scores[(scores["model"] == trained.name) & (scores["split"] == split)]
    unseen = unseen.set_index("metric")
    lines = [
        (
            words(metric),
            f"{row.value:.3f}",
            f"{row.n:.0f}",
            f"{row.lower:.3f} to {row.upper:.3f}" if np.isfinite(row.lower) else "too few blocks",
        )
        for metric in CARD_SCORES
        for row in unseen.reindex([f"{metric}_block_mean"]).dropna(subset="value").itertuples()
    ]
    ours = by_sensor[(by_sensor["model"] == trained.name) & (by_sensor["split"] == split)]
    text = "\n\n".join((
        f"## Model card: {_inert(trained.name)}",
        _pipes(("what", "value"), facts.items()),
        "### Sources",
        _pipes(SOURCE_HEADS, _source_rows(_sources_of(getattr(trained, "layers", inputs)))),
        *_taught_by(learnt), "### Scores at unseen places, intervals over blocks",
        _pipes(("score", "value", "n", "95 %"), lines),
        "### Where it fails",
        _failures(ours),
        "### Use",
        "For surface soil moisture from these very inputs, at places and in seasons like those of "
        "its training; not for other depths, sensors or versions of a product, and not for the "
        "single reading: the scores above are means."
        + (INVENTED if label == "synthetic" else ""),
    ))  # fmt: skip
    write_text_whole(path, text + "\n")
    return Markdown(text)


def _failures(scores: pd.DataFrame) -> str:
    """Where a model of one row a sensor does worst, in a sentence or two."""
    scored = scores.dropna(subset="r")
    if scored.empty:
        return "No unseen sensor has the samples that a score of its own needs."
    n_poor, worst = (scored["r"] < POOR_R).sum(), scored.nsmallest(MOST_LISTED, "r")
    named = "; ".join(f"{s.sensor_id}, R {s.r:.2f}" for s in worst.itertuples())
    text = f"R is below {POOR_R} at {n_poor} of {len(scored)} unseen sensors with a score. "
    return f"{text}Lowest: {_inert(named)}."


def _learnt(trained: Any, samples: pd.DataFrame) -> pd.DataFrame:
    """The samples that trained: those so labelled, all of a fold, or all that are given."""
    if getattr(trained, "labels", None) is None:
        return samples
    part = samples["sample_id"].astype(str).map(trained.labels.rename(index=str))
    is_folded = bool(getattr(trained, "split_name", ""))
    return samples[(part.notna() if is_folded else part == "train").to_numpy()]


def _points(trained: Any) -> list[Any]:
    """The checkpoints of a network, of several where it has one a cluster; none of a table's."""
    if hasattr(trained, "columns"):
        return []
    return [*getattr(trained, "checkpoints", {"": getattr(trained, "checkpoint", None)}).values()]


def _inputs(trained: Any) -> list[str]:
    points = _points(trained)
    return [*(points[0].provenance.inputs if points else trained.columns)]


def _sizes(trained: Any) -> dict[str, str]:
    """How large a model is, what it was made with, and how it was chosen."""
    if not (points := _points(trained)):
        return {"made of": f"{trained.kind}, fitted {len(trained.models)} times"}
    point = points[0]
    n_weights = sum(tensor.numel() for one in points for tensor in one.weights.values())
    plain = {k: v for k, v in point.configuration.items() if isinstance(v, str | int | float)}
    return {
        "data": f"version or SHA-256 {point.provenance.data_hash or 'not kept'}",
        "size": f"{n_weights:,} numbers in weights and buffers",
        "configuration": ", ".join(f"{k} {v}" for k, v in plain.items()),
        "chosen": f"at step {point.step:,}, by a validation score of {point.score:.4f}",
    }


def _sources_of(inputs: Iterable[str]) -> list[sources.Source]:
    """The catalogue's rows of channels, layers or columns, by how their names begin."""
    by_name = {}
    for name in inputs:
        rows = [s for s in sources.CATALOGUE if re.match(rf"{re.escape(s.name)}(?![a-z0-9])", name)]
        if rows:
            row = max(rows, key=lambda s: len(s.name))
            by_name[row.name] = row
    return [*by_name.values()]


def _taught_by(learnt: pd.DataFrame) -> tuple[str, ...]:
    """The networks whose readings trained a model, and how each is cited."""
    if "sensor_id" not in learnt:
        return ()
    from soilkit.export import insitu

    station = learnt["station_id"].astype(str)
    network = learnt.get("network", station.str.partition("__")[0]).rename("network")
    counts = station.groupby(network).nunique()
    cited = insitu.citations(counts.reset_index())
    rows = [(name, n, cited[name] or "none listed") for name, n in counts.items()]
    return "### Networks", _pipes(NETWORK_HEADS, rows), ISMN_TERMS


def _inert(text: Any) -> str:
    """Text of the data that breaks no table and obeys nothing, and is still read in a file."""
    return MARKS.sub(lambda mark: f"&#{ord(mark[0])};", str(text))


def _pipes(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table of Markdown, its cells escaped."""
    cells = [[_inert(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *cells))


def _source_rows(rows: Iterable[sources.Source]) -> list[tuple[str, ...]]:
    return [(s.title, s.citation, _terms(s.name), s.trap) for s in rows]


def _period(samples: pd.DataFrame) -> str:
    return f"{samples['time'].min():%Y-%m-%d} to {samples['time'].max():%Y-%m-%d}"


def _places(samples: pd.DataFrame) -> str:
    return f"{samples['station_id'].nunique()} stations, {samples['sensor_id'].nunique()} sensors"


def _terms(name: str) -> str:
    return next((words for start, words in TERMS.items() if name.startswith(start)), "its maker's")


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
    title, _, rest = _cells(notebook)[0].source.strip().partition("\n")
    question = " ".join(rest.strip().split("\n\n")[0].split())
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

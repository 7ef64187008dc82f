"""``python -m soilkit.show.reports.evaluate table.csv --units "m3 m-3" --out reports/mine``.

Anybody's predictions table as the evaluation report of notebook 31."""

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from papermill import PapermillExecutionError

import soilkit
from soilkit import errors
from soilkit.constants import MIN_SAMPLES
from soilkit.errors import ContractError, ParameterError, SoilkitError
from soilkit.export import tables
from soilkit.files import write_text_whole, write_whole
from soilkit.show.reports import runner
from soilkit.show.reports.runner import as_csv

LOG = logging.getLogger(__name__)
EVALUATION = "31_evaluate_by_stratum.ipynb"
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

    ``out_dir/work`` receives ``predictions.parquet``, ``stations.parquet`` and ``notes.csv`` of
    those contracts, ``out_dir`` the page and the scores beside it.

    Parameters
    ----------
    predictions : as in ``tables.read_predictions``
    out_dir : folder of the report
    reading : arguments of ``tables.read_predictions``: ``{"units": "m3 m-3", ...}``; and
        ``station_columns``, the ``columns`` of ``tables.read_stations``
    stations : as in ``tables.read_stations``; None: columns of the predictions table itself,
        if it has any
    parameters : of the notebook, such as ``archive`` (the data's name, on every figure; by default
        that of the file), ``main``, ``folds``, ``features``, ``seed``,
        ``min_samples``
    notebook : path of notebook 31; by default in the folder ``notebooks`` beside the package

    Returns
    -------
    path of the HTML file

    Raises
    ------
    SoilkitError
        For a table or a list that cannot be read, a model that it lacks, too few samples, or an
        unknown parameter; before anything runs.
    papermill.PapermillExecutionError
        If the notebook fails.
    """
    page = Path(notebook) if notebook else notebook_folder() / EVALUATION
    told = dict(parameters or {})
    if isinstance(predictions, str | Path):
        told.setdefault("archive", Path(predictions).name.split(".")[0])
    work = Path(out_dir).resolve() / "work"
    names = {"predictions": "predictions.parquet", "stations": "stations.parquet"}
    paths = {name: str(work / file) for name, file in (names | {"notes": "notes.csv"}).items()}
    if not page.is_file():
        raise ParameterError(
            f"No evaluation notebook at {page}. It comes with soilkit's repository, not with an "
            "installed package: clone the repository and pass its path (--notebook)."
        )
    runner.check_parameters(page, told | paths)
    for name in BESIDE:
        if told.get(name) and not Path(told[name]).is_file():
            raise ParameterError(f"No table of {name} at {told[name]}.")
    table, places, notes = _read(predictions, stations, reading)
    _refuse_too_few(table, told)
    work.mkdir(parents=True, exist_ok=True)
    for part, name in ((table, "predictions"), (places, "stations")):
        write_whole(paths[name], part.to_parquet)
    write_text_whole(Path(paths["notes"]), as_csv(notes))
    return runner.run(page, told | paths, out_dir)


def notebook_folder() -> Path:
    """The folder ``notebooks`` of the repository that this package belongs to."""
    return Path(soilkit.__file__).resolve().parents[1] / "notebooks"


def _read(predictions, stations, reading):
    """Predictions and stations of their contracts, and what was noted about either."""
    options = dict(reading)
    columns, own = options.get("columns") or {}, dict(options.pop("station_columns", None) or {})
    table, notes = tables.read_predictions(predictions, **options)
    for line in notes.itertuples():
        LOG.info("%s %s: %d rows, %s", line.status, line.column, line.n_rows, line.detail)
    if stations is None:  # the places may stand in the table itself, under the same names
        stations = predictions
        own = {name: columns[name] for name in SHARED if name in columns} | own
    decimal = {"decimal": options["decimal"]} if "decimal" in options else {}
    places, more = tables.read_stations(stations, table, columns=own, **decimal)
    for line in more.itertuples():
        LOG.warning("%s: %d stations, %s", line.status, line.n_stations, line.detail)
    return table, places, pd.concat([notes, more], ignore_index=True)


def _refuse_too_few(table, told):
    """A table in which nothing can be scored has no report."""
    main, wanted = told.get("main") or "", told.get("min_samples", MIN_SAMPLES)
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


def failure(error: Any) -> tuple[str, str]:
    """The name and the first line of what a notebook's cell raised."""
    return error.ename, str(error.evalue).strip().split("\n")[0]


# ``python -m soilkit.reports.evaluate table.csv --units "m3 m-3" --out reports/mine``.

PAIRS: dict[str, Any] = {
    "nargs": "+", "action": "extend", "default": [], "metavar": "OURS=THEIRS",
}  # fmt: skip
ARGUMENTS: dict[str, dict[str, Any]] = {
    "predictions": {"help": "csv or parquet: station, time, observed, predicted are enough"},
    "--units": {
        "nargs": "+", "action": "extend", "required": True, "metavar": "UNIT",
        "help": "'m3 m-3', '%%' or 'mm in 50 mm'; or observed=... predicted=...",
    },
    "--out": {"type": Path, "required": True, "metavar": "FOLDER", "help": "of the report"},
    "--stations": {
        "metavar": "LIST",
        "help": "csv or parquet of stations, or an ISMN zip; else columns of the table itself",
    },
    "--columns": PAIRS | {"help": "station=site observed=sm_obs model==smap (== a constant)"},
    "--station-columns": PAIRS | {"help": "the same for the list of stations: latitude=y"},
    "--timezone": {"help": "zone of naive times: UTC, America/Chicago, Etc/GMT+6"},
    "--duplicates": {
        "choices": ("refuse", "first", "last", "mean"), "default": "refuse",
        "help": "which row of a sensor and time counts",
    },
    "--decimal": {"choices": (".", ","), "default": "."},
    "--name": {"help": "what the data are called, on every figure; by default as the file"},
    "--main": {"default": "", "help": "the model in the foreground; by default the first"},
    "--folds": {
        "metavar": "PARQUET", "help": "split, sample_id, fold: on what the model trained",
    },
    "--features": {"metavar": "PARQUET", "help": "sample_id and what the model eats"},
    "--seed": {"type": int, "default": 0, "help": "of the resampling"},
    "--min-samples": {"type": int, "help": "a sensor with fewer has no score"},
    "--notebook": {"type": Path, "help": "notebook 31, where it is not beside the package"},
}  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = argparse.ArgumentParser(
        prog="python -m soilkit.show.reports.evaluate",
        usage="%(prog)s predictions --units UNIT [UNIT ...] --out FOLDER [more, see --help]",
        description="Evaluate anybody's predictions table into one page that opens offline.",
        epilog="Example: python -m soilkit.show.reports.evaluate smap.csv "
        "--units observed='m3 m-3' "
        "predicted='mm in 50 mm' --timezone UTC --out reports/smap --name 'SMAP, my sites'",
    )
    for flag, details in ARGUMENTS.items():
        made.add_argument(flag, **details)
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Build one report; a wrong table or argument ends with one sentence and the code 2."""
    command = parser()
    options = command.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        page = evaluate_table(options.predictions, options.out, **_arguments(options))
    except PapermillExecutionError as error:
        name, words = failure(error)
        code = 2 if issubclass(getattr(errors, name, Exception), SoilkitError) else 1
        command.exit(code, f"error: the evaluation stopped: {name}: {words}\n")
    except (SoilkitError, OSError) as error:
        command.exit(2, f"error: {' '.join(str(error).split())}\n")
    sys.stdout.write(f"{page}\n")


def _arguments(options: argparse.Namespace) -> dict[str, Any]:
    by_column = any("=" in text for text in options.units)
    units = pairs(options.units, option="--units") if by_column else " ".join(options.units)
    reading = {
        "units": units,
        "columns": pairs(options.columns, option="--columns"),
        "station_columns": pairs(options.station_columns, option="--station-columns"),
        "timezone": options.timezone,
        "duplicates": options.duplicates,
        "decimal": options.decimal,
    }
    beside = {"folds": options.folds, "features": options.features}
    told = {
        "archive": options.name, "main": options.main or None,
        "seed": options.seed, "min_samples": options.min_samples,
        **{name: path and str(Path(path).resolve()) for name, path in beside.items()},
    }  # fmt: skip
    return {
        "reading": reading,
        "stations": options.stations,
        "parameters": {name: value for name, value in told.items() if value is not None},
        "notebook": options.notebook,
    }


def pairs(texts: Sequence[str], *, option: str) -> dict[str, str]:
    """``{"observed": "sm_obs"}`` of ``["observed=sm_obs"]``; only the first "=" parts.

    Raises
    ------
    ParameterError
        For a text without "=", and for a name that stands twice.

    Examples
    --------
    >>> pairs(["station=site", "model==smap"], option="--columns")
    {'station': 'site', 'model': '=smap'}
    """
    bare = [text for text in texts if "=" not in text]
    if bare:
        raise ParameterError(f"{option} takes pairs such as observed=sm_obs, found {bare[0]!r}.")
    found = dict(text.split("=", 1) for text in texts)
    if len(found) < len(texts):
        raise ParameterError(f"{option} names a quantity twice: {' '.join(texts)}.")
    return found


if __name__ == "__main__":
    main()

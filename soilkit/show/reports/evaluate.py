"""``python -m soilkit.show.reports.evaluate table.csv --units "m3 m-3" --out reports/mine``.

Anybody's predictions table as the evaluation report of notebook 31."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from papermill import PapermillExecutionError

from soilkit import errors
from soilkit.errors import ParameterError, SoilkitError
from soilkit.show.reports.runner import evaluate_table

PAIRS: dict[str, Any] = {
    "nargs": "+", "action": "extend", "default": [], "metavar": "OURS=THEIRS",
}  # fmt: skip
PARQUET: dict[str, Any] = {"metavar": "PARQUET", "type": lambda path: str(Path(path).resolve())}
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
    "--name": {"dest": "archive", "help": "of the data, on every figure; by default as the file"},
    "--main": {"help": "the model in the foreground; by default the first"},
    "--folds": PARQUET | {"help": "split, sample_id, fold: on what the model trained"},
    "--features": PARQUET | {"help": "sample_id and what the model eats"},
    "--seed": {"type": int, "default": 0, "help": "of the resampling"},
    "--min-samples": {"type": int, "help": "a sensor with fewer has no score"},
    "--notebook": {"type": Path, "help": "notebook 31, where it is not beside the package"},
}  # fmt: skip
READING = ("timezone", "duplicates", "decimal")
PARAMETERS = ("archive", "main", "seed", "min_samples", "folds", "features")


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = argparse.ArgumentParser(
        prog="python -m soilkit.show.reports.evaluate",
        usage="%(prog)s predictions --units UNIT [UNIT ...] --out FOLDER [more, see --help]",
        description="Evaluate anybody's predictions table into one page that opens offline.",
        epilog="Example: smap.csv --units observed='m3 m-3' predicted='mm in 50 mm' --out smap",
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
        name, (words, *_) = error.ename, str(error.evalue).strip().split("\n")
        code = 2 if issubclass(getattr(errors, name, Exception), SoilkitError) else 1
        command.exit(code, f"error: the evaluation stopped: {name}: {words}\n")
    except (SoilkitError, OSError) as error:
        command.exit(2, f"error: {' '.join(str(error).split())}\n")
    sys.stdout.write(f"{page}\n")


def _arguments(options: argparse.Namespace) -> dict[str, Any]:
    given = {name: value for name, value in vars(options).items() if value is not None}
    by_column = any("=" in text for text in options.units)
    reading = {name: given[name] for name in READING if name in given} | {
        "units": pairs(options.units, option="--units") if by_column else " ".join(options.units),
        "columns": pairs(options.columns, option="--columns"),
        "station_columns": pairs(options.station_columns, option="--station-columns"),
    }
    parameters = {name: given[name] for name in PARAMETERS if name in given}
    beside = {"stations": options.stations, "notebook": options.notebook}
    return {"reading": reading, "parameters": parameters, **beside}


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
    quantities = dict(text.split("=", 1) for text in texts)
    if len(quantities) < len(texts):
        raise ParameterError(f"{option} names a quantity twice: {' '.join(texts)}.")
    return quantities


if __name__ == "__main__":
    main()

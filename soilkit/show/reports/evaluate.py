"""``python -m soilkit.show.reports.evaluate table.csv --units "m3 m-3" --out reports/mine``.

Anybody's predictions table as the evaluation report of notebook 31, and its first screen."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import HTML

from soilkit import errors
from soilkit.errors import ParameterError, SoilkitError
from soilkit.metrics.evaluation import Evaluation, grades
from soilkit.metrics.points import METRICS
from soilkit.show.plots.style import GRADES, escape, readable
from soilkit.show.reports.pages import to_pdf
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
    "--made-of": PAIRS | {"help": "ours=sentinel1,ERA5 theirs=SMAP, for triple collocation"},
    "--provenance": PAIRS | {"help": "flags='G only' grid='9 km' version=R19, for the checklist"},
    "--seed": {"type": int, "default": 0, "help": "of the resampling"},
    "--min-samples": {"type": int, "help": "a sensor with fewer has no score"},
    "--code": {"action": "store_true", "help": "end the page with the code that made it"},
    "--pdf": {"action": "store_true", "help": "print the page with Chromium, too"},
    "--notebook": {"type": Path, "help": "notebook 31, where it is not beside the package"},
}  # fmt: skip
PARAMETERS = ("archive", "main", "seed", "min_samples", "folds", "features", "made_of",
              "provenance")  # fmt: skip


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
    from papermill import PapermillExecutionError  # here: a notebook's first cell need not wait

    command = parser()
    options = command.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        page = evaluate_table(
            options.predictions, options.out, code=options.code, **_arguments(options)
        )
        sys.stdout.write(f"{to_pdf(page)}\n" if options.pdf else "")
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
    reading = {n: given[n] for n in ("timezone", "duplicates", "decimal") if n in given} | {
        "units": pairs(options.units, option="--units") if by_column else " ".join(options.units),
        "columns": pairs(options.columns, option="--columns"),
        "station_columns": pairs(options.station_columns, option="--station-columns"),
    }
    made_of = pairs(options.made_of, option="--made-of", last=True)
    given["made_of"] = {name: words.split(",") for name, words in made_of.items()}
    given["provenance"] = pairs(options.provenance, option="--provenance")
    parameters = {name: given[name] for name in PARAMETERS if given.get(name, {}) != {}}
    beside = {name: given.get(name) for name in ("stations", "notebook")}
    return {"reading": reading, "parameters": parameters, **beside}


def pairs(texts: Sequence[str], *, option: str, last: bool = False) -> dict[str, str]:
    """``{"observed": "sm_obs"}`` of ``["observed=sm_obs"]``; the first "=" parts, or the ``last``.

    Raises ``ParameterError`` for a text without "=", and for a name that stands twice.

    Examples
    --------
    >>> pairs(["station=site", "model==smap"], option="--columns")
    {'station': 'site', 'model': '=smap'}
    """
    bare = [text for text in texts if "=" not in text]
    if bare:
        raise ParameterError(f"{option} takes pairs such as observed=sm_obs, found {bare[0]!r}.")
    quantities = dict(text.rsplit("=", 1) if last else text.split("=", 1) for text in texts)
    if len(quantities) < len(texts):
        raise ParameterError(f"{option} names a quantity twice: {' '.join(texts)}.")
    return quantities


# The first screen of an evaluation.

STYLE = """<style>
.first-screen h1 { font-size: 1.7rem; margin: 0 0 0.4rem; overflow-wrap: anywhere; }
.first-screen p { font-size: 1.05rem; line-height: 1.45; margin: 0.4rem 0; }
.first-screen .grade { color: white; border-radius: 0.3rem; padding: 0.1rem 0.6rem; }
.first-screen .figures { display: flex; flex-wrap: wrap; gap: 0.8rem; margin: 0.7rem 0; }
.first-screen .figures div { flex: 1 1 9rem; border: 1px solid #999; padding: 0.4rem 0.8rem; }
.first-screen .figures b { font-size: 1.6rem; line-height: 1.3; }
.first-screen .facts { font-size: 0.95rem; overflow-wrap: anywhere; }
</style>"""
FACTS = {"window": "period", "places": "stations", "beside it": "beside", "may be called": "split"}


def first_screen(evaluation: Evaluation, verdict: pd.DataFrame, *, protocol: pd.DataFrame) -> HTML:
    """The ``verdict`` with its figures; model, data, period, stations of the ``protocol``."""
    name, grade = f"{evaluation.main} on {evaluation.label}", verdict.attrs["grade"]
    words = verdict.attrs["sentence"].removeprefix(f"{name}: ")
    rows = [row for row in (grades.main_of(evaluation, m) for m in METRICS) if row is not None]
    boxes = readable(pd.DataFrame(rows).reset_index(drop=True), ["metric", "mean"], intervals=True)
    values = [value.rstrip(")").partition(" (") for value in boxes.iloc[:, 1]]
    divs = [
        f"<div><b>{value}</b><br>{metric}<br>{f'95 %: {ends}' if ends else 'no interval'}</div>"
        for metric, (value, _, ends) in zip(boxes.iloc[:, 0], values, strict=True)
    ]
    facts = protocol.set_index("item")["value"]
    lines = [f"<b>{word}:</b> {escape(facts[item])}" for item, word in FACTS.items()]
    return HTML(
        f"{STYLE}<div class='first-screen'><h1>{escape(name)}</h1>"
        f"<p><b class='grade' style='background: {GRADES[grade]}'>{grade}</b> "
        f"{escape(words[:1].upper() + words[1:])} <b>{escape(figures(evaluation))}</b></p>"
        f"<div class='figures'>{''.join(divs)}</div><p class='facts'>{'<br>'.join(lines)}</p></div>"
    )


def figures(evaluation: Evaluation) -> str:
    """The mean R in a sentence: where, at how many stations, and with which interval, if any."""
    row, at = grades.main_of(evaluation, "r"), f"at {grades.sizes(evaluation)['stations']}"
    if row is None or np.isnan(row["mean"]):
        return f"No R {at} stations: {grades.statuses(evaluation)}."
    if np.isnan(row["mean_lower"]):
        return f"R {row['mean']:.2f} {at} stations; too few for an interval over blocks."
    return f"R {grades.estimate(row, 'mean')} {at} stations."


if __name__ == "__main__":
    main()

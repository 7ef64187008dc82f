"""A study's tables as csv, written from its rows and read again by notebooks."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from soilkit.experiments import collecting, tables
from soilkit.experiments.definitions import FULL, RECIPES, Profile, chosen
from soilkit.experiments.recipes import Recipe
from soilkit.experiments.running import prediction_path
from soilkit.experiments.study import Study
from soilkit.experiments.trials import Trial

log = logging.getLogger(__name__)
SHOWN = ("table9", FULL)  # the line whose strata and time series are told
N_SERIES = 3
NAMES = ("lines", "trials", "sensors", "curves", "places", "tables", "strata", "sizes", "series")


def write_study(study: Study, out: Path) -> None:
    """Write what a study knows so far as csv tables, each whole or not at all.

    ``lines`` (line of a table and seed -> trial), ``trials`` (definition, status, size, time),
    ``sensors`` (scores), ``curves``, ``places``; and made of them ``tables`` (paper beside ours),
    ``sizes``, and of the full model ``strata`` and ``series`` (three sensors over time).
    """
    rows = study.rows()
    labels = {d.content_hash: study.profile.recipes[n].label for n, d in study.data.items()}
    found = {
        "lines": collecting.lines_table(study.lines),
        "trials": collecting.trials_table(rows, labels=labels),
        "sensors": collecting.sensors_table(rows),
        "curves": collecting.curves_table(rows),
        "places": collecting.places_of(study.data.values()),
    }
    if len(found["sensors"]):
        results = tables.Results(found["lines"], found["sensors"], found["places"])
        found["tables"] = tables.render(results, study.experiments)
        found["sizes"] = tables.sizes(found["trials"], found["lines"])
        if not results.scores(*SHOWN, split="validation", metric="r").empty:
            found["strata"] = tables.by_stratum(results, SHOWN[0], variant=SHOWN[1])
            found["series"] = _series(study, results)
    collecting.save(_numbered(found), out)


def _numbered(found: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The tables with each sensor's long name in ``places`` alone, and its number elsewhere."""
    places = found["places"].rename_axis("place").reset_index()
    number = places.set_index("sensor_id")["place"]
    sensors = found["sensors"].assign(place=found["sensors"]["sensor_id"].map(number))
    return found | {"places": places, "sensors": sensors.drop(columns="sensor_id")}


def _series(study: Study, results: tables.Results) -> pd.DataFrame:
    """Predictions at a sensor of low, middle and high R, the mean over seeds."""
    r = results.scores(*SHOWN, split="validation", metric="r").mean().sort_values()
    chosen = [r.index[i] for i in (np.linspace(0.25, 1, N_SERIES) * (len(r) - 1)).astype(int)]
    mine = [n for n in study.lines if (n.experiment, n.variant) == SHOWN]
    paths = [prediction_path(study.work, line.key, part="validation") for line in mine]
    parts = [pd.read_parquet(path) for path in paths if path.exists()]
    if not parts:
        return pd.DataFrame()
    table = pd.concat(parts)
    table = table[(table["withheld"] == "") & table["sensor_id"].isin(chosen)]
    keys = ["sample_id", "sensor_id", "station_id", "network", "time", "observed_m3_m3"]
    return table.groupby(keys, sort=True)["predicted_m3_m3"].mean().reset_index()


def read_study(folder: Path | str) -> dict[str, pd.DataFrame]:
    """The tables of ``write_study``, those that there are, by name.

    Examples
    --------
    >>> read_study("no such folder")
    {}
    """
    paths = {name: Path(folder) / f"{name}.csv" for name in NAMES}
    found = {name: pd.read_csv(path) for name, path in paths.items() if path.is_file()}
    if {"sensors", "places"} <= found.keys():
        names = found["places"].set_index("place")["sensor_id"]
        found["sensors"]["sensor_id"] = found["sensors"].pop("place").map(names)
    return found


def open_study(
    folder: Path | str, *, only: Sequence[str], dataset: Path | str, steps: int, seed: int
) -> dict[str, pd.DataFrame]:
    """The tables of a study that was run; else of a try: few steps on a dataset, one seed.

    A try shows the road, not a result: it trains ``steps`` steps on crops of 64 pixels, in
    ``dataset/study``. ``found["trials"]`` says how many steps each trial had.

    Parameters
    ----------
    folder : where ``write_study`` wrote
    only : experiments that must be in it
    dataset : folder of notebook 10
    steps, seed : of the try
    """
    found = read_study(folder)
    if "sensors" in found and set(only) <= set(found["lines"]["experiment"]):
        return found
    base = Trial(crop_px=64, batch_size=8, validations=2, steps=steps)
    recipes = {
        name: Recipe(name, folder=str(dataset) if recipe.anchor == "sentinel1" else "no-dataset")
        for name, recipe in RECIPES.items()
    }
    work = Path(dataset) / "study"
    study = Study(chosen(list(only)), Profile(base, recipes), work, workers=0, seeds=(seed,))
    study.run()
    write_study(study, work / "tables")
    return read_study(work / "tables")


def results_of(found: dict[str, pd.DataFrame]) -> tables.Results:
    """The tables of ``read_study``, indexed for questions."""
    return tables.Results(found["lines"], found["sensors"], found["places"])

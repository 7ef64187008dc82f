"""Tables as the paper prints them, its values beside ours: paper, ours, difference, interval."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from soilkit import strata
from soilkit.experiments.contrasts import aligned, mean_with_interval
from soilkit.experiments.definitions import Experiment
from soilkit.metrics.evaluation import literature

SCORES = ("r", "ubrmse_m3_m3", "rmse_m3_m3")
SAME, OPPOSITE, OPEN, ALONE = "as in the paper", "opposite", "not resolved", ""
SIZE_COLUMNS = ("n_weights", "flops", "steps", "seconds", "cpu_seconds")
STRATA = {"land_cover": 10, "texture": 11, "koeppen": 12}


class Results:
    """The collected tables of a study, indexed for questions.

    Parameters
    ----------
    lines, sensors, places : tables from ``collecting``
    """

    def __init__(self, lines: pd.DataFrame, sensors: pd.DataFrame, places: pd.DataFrame):
        text = {"withheld": "str"}
        self.lines = lines.fillna({"withheld": ""}).astype(text)
        self.sensors = sensors.fillna({"withheld": ""}).astype(text)
        self.places = places.drop_duplicates("sensor_id").set_index("sensor_id")

    def scores(self, experiment: str, variant: str, *, split: str, metric: str) -> pd.DataFrame:
        """Scores of one line, (seed, sensor); empty where no trial of it stands."""
        chosen = self.lines.query("experiment == @experiment and variant == @variant")
        found = chosen.merge(self.sensors[self.sensors["split"] == split], on=["key", "withheld"])
        if found.empty:
            return pd.DataFrame(dtype=float)
        return found.pivot(index="seed", columns="sensor_id", values=metric).astype(float)

    def mean(self, table: pd.DataFrame) -> dict:
        """Mean of scores or differences (seed, sensor) with its interval."""
        blocks = self.places["block"].reindex(table.columns).to_numpy()
        return mean_with_interval(table.to_numpy(), blocks)


def paper_beside_ours(
    results: Results, experiment: Experiment, *, split: str = "validation"
) -> pd.DataFrame:
    """A table of the paper with our scores and steps beside its own.

    A *step* is a line's score minus the reference line's. Ours is paired: on identical samples,
    sensors and seeds; its interval knows of places and of seeds (``contrasts``). The paper's has
    no interval. ``difference`` is our score minus the paper's: other data, no claim.

    Returns
    -------
    DataFrame, one row a line and metric: ``experiment, table, split, variant, metric, paper, ours,
    ours_lower, ours_upper, difference, paper_step, our_step, lower, upper, pattern, n_seeds,
    n_sensors, n_blocks, status``. ``pattern`` compares the steps' signs: "as in the paper" or
    "opposite" where our interval excludes 0, else "not resolved"; empty where the paper prints none
    """
    rows = []
    for metric in SCORES:
        for name in experiment.variants:
            found = _scores(results, experiment, name, (split, metric))
            rows.append({"split": split, "variant": name, "metric": metric, **found})
    table = pd.DataFrame(rows)
    table.insert(0, "experiment", experiment.name)
    table.insert(1, "table", experiment.table)
    return table


def _scores(results: Results, experiment: Experiment, name: str, what: tuple[str, str]) -> dict:
    split, metric = what
    asked = {"split": split, "metric": metric}
    ours = results.scores(experiment.name, name, **asked)
    reference = results.scores(experiment.name, experiment.reference_of(name), **asked)
    printed = printed_score(experiment, name, **asked)
    printed_step = printed - printed_score(experiment, experiment.reference_of(name), **asked)
    mean: dict[str, Any] = {"value": np.nan, "status": "no trial stands"}
    mean = results.mean(ours) if len(ours) else mean
    row = {
        "paper": printed,
        "ours": mean["value"],
        "ours_lower": mean.get("lower", np.nan),
        "ours_upper": mean.get("upper", np.nan),
        "difference": mean["value"] - printed,
    }
    if name == experiment.reference_of(name) or not len(ours) or not len(reference):
        return row | {**_NO_STEP, **_counts(mean)}
    first, second = _paired(ours, reference)
    step = results.mean(first - second)
    limits = {"lower": step["lower"], "upper": step["upper"]}
    told = {"paper_step": printed_step, "our_step": step["value"], **limits}
    return row | told | {"pattern": pattern(printed_step, limits=limits), **_counts(step)}


_STEP = ("paper_step", "our_step", "lower", "upper")
_NO_STEP: dict[str, Any] = {**dict.fromkeys(_STEP, np.nan), "pattern": ALONE}


def _paired(ours: pd.DataFrame, reference: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """At common seeds and sensors; a product has one row for every seed."""
    if len(ours) == 1 and len(reference) > 1:
        ours = pd.concat([ours] * len(reference)).set_axis(reference.index)
    return aligned(ours, reference)


def _counts(mean: dict) -> dict:
    return {name: mean.get(name, 0) for name in ("n_seeds", "n_sensors", "n_blocks", "status")}


def pattern(printed_step: float, *, limits: dict[str, float]) -> str:
    """Whether our step goes where the paper's goes."""
    if not np.isfinite(printed_step):
        return ALONE
    if not (limits["lower"] > 0 or limits["upper"] < 0):
        return OPEN
    return SAME if np.sign(limits["lower"] + limits["upper"]) == np.sign(printed_step) else OPPOSITE


def printed_score(experiment: Experiment, name: str, *, split: str, metric: str) -> float:
    """What the paper prints for a line, NaN where it prints none."""
    if experiment.table is None:
        return np.nan
    line = experiment.variants[name].printed or name
    table = literature.paper_table(experiment.table)
    anchor = experiment.variants[name].changes.get("recipe", "sentinel1")
    mine = (table["name"] == line) & (table["split"] == split)
    mine &= table["anchor"] == (anchor if anchor in set(table["anchor"]) else "sentinel1")
    return float(table.loc[mine, metric].iloc[0]) if mine.any() else np.nan


def by_stratum(
    results: Results, experiment: str, *, variant: str, split: str = "validation"
) -> pd.DataFrame:
    """One line's scores by land cover, texture, climate (Tables 10-12) and network.

    Returns
    -------
    DataFrame, one row a stratum, class and metric: ``stratum, class, name`` (the paper's, with its
    asterisk), ``metric, paper, ours, lower, upper, n_seeds, n_sensors, n_blocks, is_small`` (fewer
    than five of our stations) and ``status``
    """
    rows = []
    for metric in SCORES:
        ours = results.scores(experiment, variant, split=split, metric=metric)
        places = results.places.reindex(ours.columns)
        for stratum in (*STRATA, "network"):
            for name, sensors in places.groupby(stratum, observed=True).groups.items():
                mean = results.mean(ours[sensors])
                n_stations = places.loc[sensors, "station_id"].nunique()
                rows.append(
                    {"stratum": stratum, "class": name or "unknown", "metric": metric}
                    | _printed_class(stratum, str(name), metric, split)
                    | {"ours": mean["value"], "lower": mean["lower"], "upper": mean["upper"]}
                    | {"is_small": n_stations < strata.MIN_STATIONS, **_counts(mean)}
                )
    return pd.DataFrame(rows)


def _printed_class(stratum: str, name: str, metric: str, split: str) -> dict:
    if stratum not in STRATA:
        return {"name": name, "paper": np.nan}
    table = literature.paper_table(STRATA[stratum])
    mine = table[(table["class"] == name) & (table["split"] == split)]
    if mine.empty:
        return {"name": name, "paper": np.nan}
    return {"name": mine["name"].iloc[0], "paper": float(mine[metric].iloc[0])}


def sizes(trials: pd.DataFrame, lines: pd.DataFrame) -> pd.DataFrame:
    """Weights, operations of a forward pass and seconds of every line, the mean over its seeds."""
    table = lines.merge(trials[["key", *SIZE_COLUMNS]], on="key")
    keys = ["experiment", "variant"]
    return table.groupby(keys, sort=False)[list(SIZE_COLUMNS)].mean().reset_index()


def render(results: Results, experiments: Iterable[Experiment]) -> pd.DataFrame:
    """Every table of a study, one under the other; of the test, those whose lines all saw it."""
    parts = []
    for experiment in experiments:
        for split in ("validation", "test"):
            table = paper_beside_ours(results, experiment, split=split)
            if split == "validation" or table["ours"].notna().all():
                parts.append(table)
    return pd.concat(parts, ignore_index=True)

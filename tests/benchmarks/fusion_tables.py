"""A study's tables as the paper prints them: paper, ours, difference, interval."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from soilkit import strata
from soilkit.constants import MIN_CLUSTERS, OK
from soilkit.files import csv_text, read_table, write_text_whole
from soilkit.metrics import intervals, splits
from soilkit.metrics.evaluation import literature
from soilkit.studies import FULL, SAME
from tests.benchmarks.fusion_experiments import Experiment, Line, Study
from tests.benchmarks.fusion_trial import SENSOR_COLUMNS, Data, prediction_path

_NUMBERS = ("value", "lower", "upper", "se_blocks", "se_seeds")


def mean_with_interval(values: np.ndarray, blocks: np.ndarray) -> dict[str, Any]:
    """The mean over seeds and sensors, with an interval for other places and other seeds.

    Sensors stand in blocks whose errors go together, and every seed is one draw of weights and
    order, seen by all sensors: two ways of sampling that cross. The variance of the mean is the sum
    of that over blocks (of the seeds' mean) and that over seeds (of the sensors' mean), as in
    two-way clustering [1]_ without taking off what both count, which can only make the interval
    wider. Student's t has the degrees of freedom of such a sum [2]_, so that three seeds are not
    taken for a hundred.

    ``values`` are scores or differences (seed, sensor), a sensor with a NaN at a seed left out;
    ``blocks`` name the 2-degree block of each sensor. The dict has ``value, lower, upper,
    se_blocks, se_seeds, n_seeds, n_sensors, n_blocks, status``. One seed gives an interval over
    blocks alone, and its status says so; fewer than five blocks give none.

    References
    ----------
    .. [1] Cameron, Gelbach and Miller (2011), doi:10.1198/jbes.2010.07136
    .. [2] Satterthwaite (1946), doi:10.2307/3002019
    """
    values = np.atleast_2d(np.asarray(values, float))
    known = np.isfinite(values).all(axis=0)
    values, blocks = values[:, known], np.asarray(blocks)[known]
    n_seeds, n_sensors = values.shape
    n_blocks = len(set(blocks))
    counts = {"n_seeds": n_seeds, "n_sensors": n_sensors, "n_blocks": n_blocks}
    if not values.size:
        none: dict[str, Any] = dict.fromkeys(_NUMBERS, np.nan)
        return {**none, **counts, "status": "no sensor has this score at every seed"}
    se_blocks, _ = intervals.cluster_error(values.mean(axis=0), blocks)
    se_seeds = values.mean(axis=1).std(ddof=1) / np.sqrt(n_seeds) if n_seeds > 1 else 0.0
    lower = upper = np.nan
    if n_blocks >= MIN_CLUSTERS:
        variances = np.array([se_blocks, se_seeds]) ** 2
        freedom = np.array([n_blocks - 1, max(n_seeds - 1, 1)])
        weights = (variances**2 / freedom).sum()
        freedom = variances.sum() ** 2 / weights if weights > 0 else freedom.min()
        error = np.sqrt(variances.sum())
        lower, upper = intervals.student_interval(values.mean(), error, freedom=freedom)
    status = OK if n_seeds > 1 else "one seed: the interval is over blocks alone"
    return {
        "value": values.mean(), "lower": lower, "upper": upper,
        "se_blocks": se_blocks, "se_seeds": se_seeds if n_seeds > 1 else np.nan, **counts,
        "status": status if n_blocks >= MIN_CLUSTERS
        else f"no interval: fewer than {MIN_CLUSTERS} blocks",
    }  # fmt: skip


# Rows to tables: one line a trial, one line a trial and sensor, one line a validation.

KEPT = (
    "key", "status", "looked_at_test", "n_weights", "flops", "best_step", "seconds", "cpu_seconds",
)  # fmt: skip


def trials_table(rows: Iterable[dict[str, Any]], *, labels: dict[str, str]) -> pd.DataFrame:
    """One line a trial: its definition, how it ended, its size, and what ``data`` it learnt from.

    ``labels`` name the data by their content hash, such as "synthetic".
    """
    return pd.DataFrame(
        {name: row.get(name) for name in KEPT}
        | {"data": labels.get(row["data"], ""), "data_hash": row["data"][:16]}
        | {name: _flat(value) for name, value in row["definition"].items()}
        for row in rows
    )


def _flat(value: Any) -> Any:
    if isinstance(value, list):
        return " ".join("+".join(v) if isinstance(v, list) else v for v in value)
    return value


def sensors_table(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """One line a trial, split, set of withheld sources and sensor: ``n`` and the four scores."""
    columns = ["key", "split", "withheld", "sensor_id", *SENSOR_COLUMNS]
    parts = [
        pd.DataFrame({"key": row["key"], **evaluation, **evaluation["sensors"]}, columns=columns)
        for row in rows
        if row["status"] == OK
        for evaluation in row.get("evaluations", ())
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def curves_table(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """One line a trial and validation: ``step, learning_rate, loss, score``."""
    columns = ["key", "step", "learning_rate", "loss", "score"]
    parts = [pd.DataFrame(r["history"]).assign(key=r["key"]) for r in rows if r.get("history")]
    if not parts:
        return pd.DataFrame(columns=columns)
    return pd.concat(parts, ignore_index=True)[columns].astype({"step": int})


def places_of(datasets: Iterable[Data]) -> pd.DataFrame:
    """One line a sensor: station, network, place, block and the classes of Tables 10-12."""
    parts = []
    for data in datasets:
        named = literature.paper_strata(data.stations)
        parts.append(named.assign(block=splits.block_ids(named).to_numpy()))
    columns = ["sensor_id", "station_id", "network", "latitude", "longitude", "block"]
    table = pd.concat(parts, ignore_index=True)[[*columns, "land_cover", "texture", "koeppen"]]
    words = ("sensor_id", "station_id", "network", "block", "land_cover", "texture", "koeppen")
    return table.astype(dict.fromkeys(words, str)).drop_duplicates("sensor_id", ignore_index=True)


def lines_table(lines: Iterable[Line]) -> pd.DataFrame:
    """One line a line of a table and seed: which trial's key stands for it."""
    columns = ["experiment", "variant", "withheld", "seed", "key"]
    return pd.DataFrame(
        [(n.experiment, n.variant, "+".join(n.withheld), n.trial.seed, n.key) for n in lines],
        columns=columns,
    )


# Tables as the paper prints them, its values beside ours: paper, ours, difference, interval.

SCORES = ("r", "ubrmse_m3_m3", "rmse_m3_m3")
OPPOSITE, OPEN, ALONE = "opposite", "not resolved", ""
SIZE_COLUMNS = ("n_weights", "flops", "steps", "seconds", "cpu_seconds")
STRATA = {"land_cover": 10, "texture": 11, "koeppen": 12}


class Results:
    """``lines_table``, ``sensors_table`` and ``places_of`` of a study, indexed for questions."""

    def __init__(self, lines: pd.DataFrame, sensors: pd.DataFrame, places: pd.DataFrame):
        text = {"withheld": "str"}
        self.lines = lines.fillna({"withheld": ""}).astype(text)
        self.sensors = sensors.fillna({"withheld": ""}).astype(text)
        self.places = places.drop_duplicates("sensor_id").set_index("sensor_id")

    def scores(self, experiment: str, variant: str, *, split: str, metric: str) -> pd.DataFrame:
        """Scores of one line, (seed, sensor); empty where no trial of it stands."""
        chosen = self.lines.query("experiment == @experiment and variant == @variant")
        both = chosen.merge(self.sensors[self.sensors["split"] == split], on=["key", "withheld"])
        if both.empty:
            return pd.DataFrame(dtype=float)
        return both.pivot(index="seed", columns="sensor_id", values=metric).astype(float)

    def mean(self, table: pd.DataFrame) -> dict:
        """Mean of scores or differences (seed, sensor) with its interval."""
        blocks = self.places["block"].reindex(table.columns).to_numpy()
        return mean_with_interval(table.to_numpy(), blocks)


def paper_beside_ours(
    results: Results, experiment: Experiment, *, split: str = "validation"
) -> pd.DataFrame:
    """A table of the paper with our scores beside its own.

    The columns are those of ``soilkit.studies.experiment_table``, which reads what is written here;
    intervals are those of ``mean_with_interval``.
    """
    rows = [
        {"experiment": experiment.name, "table": experiment.table, "split": split, "variant": name}
        | {"metric": metric, **_scores(results, experiment, name, split=split, metric=metric)}
        for metric in SCORES
        for name in experiment.variants
    ]
    return pd.DataFrame(rows)


def _scores(results: Results, experiment: Experiment, name: str, **asked: str) -> dict:
    other = experiment.reference_of(name)
    ours, reference = (results.scores(experiment.name, n, **asked) for n in (name, other))
    printed = printed_score(experiment, name, **asked)
    printed_step = printed - printed_score(experiment, other, **asked)
    mean: dict[str, Any] = {"value": np.nan, "status": "no trial stands"}
    mean = results.mean(ours) if len(ours) else mean
    row = {
        "paper": printed,
        "ours": mean["value"],
        "ours_lower": mean.get("lower", np.nan),
        "ours_upper": mean.get("upper", np.nan),
        "difference": mean["value"] - printed,
        **dict.fromkeys(("paper_step", "our_step", "lower", "upper"), np.nan),
        "pattern": ALONE,
    }
    if name == other or not len(ours) or not len(reference):
        return row | _counts(mean)
    if len(ours) == 1 and len(reference) > 1:  # a product has one row for every seed
        ours = pd.concat([ours] * len(reference)).set_axis(reference.index)
    ours, reference = ours.align(reference, join="inner")
    step = results.mean(ours - reference)
    limits = {"lower": step["lower"], "upper": step["upper"]}
    steps = {"paper_step": printed_step, "our_step": step["value"], **limits}
    return row | steps | {"pattern": pattern(printed_step, limits=limits), **_counts(step)}


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

    One row a stratum, class and metric: ``stratum, class, name`` (the paper's, with its asterisk),
    ``metric, paper, ours, lower, upper, n_seeds, n_sensors, n_blocks, is_small`` (fewer than five
    of our stations) and ``status``.
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


# A study's tables as csv, written from its rows.

log = logging.getLogger(__name__)
SHOWN = ("table9", FULL)  # the line whose strata and time series are told
N_SERIES = 3


def write_study(study: Study, out: Path) -> None:
    """Write what a study knows so far as csv tables, each whole or not at all.

    ``lines`` (line of a table and seed -> trial), ``trials`` (definition, status, size, time),
    ``sensors`` (scores), ``curves``, ``places``; and made of them ``tables`` (paper beside ours),
    ``sizes``, and of the full model ``strata`` and ``series`` (three sensors over time).
    """
    rows = study.rows()
    labels = {d.content_hash: study.profile.recipes[n].label for n, d in study.data.items()}
    tables = {
        "lines": lines_table(study.lines),
        "trials": trials_table(rows, labels=labels),
        "sensors": sensors_table(rows),
        "curves": curves_table(rows),
        "places": places_of(study.data.values()),
    }
    results = Results(tables["lines"], tables["sensors"], tables["places"])
    tables["tables"] = render(results, study.experiments)
    tables["sizes"] = sizes(tables["trials"], tables["lines"])
    if not results.scores(*SHOWN, split="validation", metric="r").empty:
        tables["strata"] = by_stratum(results, SHOWN[0], variant=SHOWN[1])
        tables["series"] = _series(study, results)
    for name, table in _numbered(tables).items():
        write_text_whole(out / f"{name}.csv", csv_text(table))


def _numbered(tables: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The tables with each sensor's long name in ``places`` alone, and its number elsewhere."""
    places = tables["places"].rename_axis("place").reset_index()
    number = places.set_index("sensor_id")["place"]
    sensors = tables["sensors"].assign(place=tables["sensors"]["sensor_id"].map(number))
    return tables | {"places": places, "sensors": sensors.drop(columns="sensor_id")}


def _series(study: Study, results: Results) -> pd.DataFrame:
    """Predictions at a sensor of low, middle and high R, the mean over seeds."""
    r = results.scores(*SHOWN, split="validation", metric="r").mean().sort_values()
    chosen = [r.index[i] for i in (np.linspace(0.25, 1, N_SERIES) * (len(r) - 1)).astype(int)]
    mine = [n for n in study.lines if (n.experiment, n.variant) == SHOWN]
    paths = [prediction_path(study.work, line.key, part="validation") for line in mine]
    parts = [read_table(path) for path in paths if path.exists()]
    if not parts:
        return pd.DataFrame()
    table = pd.concat(parts)
    table = table[(table["withheld"] == "") & table["sensor_id"].isin(chosen)]
    keys = ["sample_id", "sensor_id", "station_id", "network", "time", "observed_m3_m3"]
    return table.groupby(keys, sort=True)["predicted_m3_m3"].mean().reset_index()

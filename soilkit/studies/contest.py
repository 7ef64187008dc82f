"""Tabular systems that predict the ten-day moisture of unseen blocks, side by side."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import r2_score

from soilkit import metrics
from soilkit.export import ten_day_table
from soilkit.files import read_whole
from soilkit.models.tabular.problem import COMPLETE, Problem
from soilkit.models.tabular.systems import LEAKY, SCORED, SYSTEMS, TabularSystem, TrainedTable

FOREST, UNSEEN = "forest: all", "unseen blocks"
MIN_WINDOWS = 20  # scored windows that give a station a score
MEASURES = ("r", "ubrmse_m3_m3", "rmse_m3_m3", "bias_m3_m3")


def problem_of(data: ten_day_table.TabularDataset, *, archive_stations=None) -> Problem:
    """The problem that a ten-day table poses, with strata where an archive's stations are given."""
    problem = Problem.of(ten_day_table.with_season(data))
    if archive_stations is None:
        return problem
    stations = ten_day_table.fill_statics(problem.stations, archive_stations)
    names = ["station_id", *(c for c in ten_day_table.CHARACTERISTICS if c != "ph")]
    classes = stations[names].replace(dict.fromkeys(ten_day_table.CLASSES, {"": "unknown"}))
    return replace(problem, strata=ten_day_table.by_sample(classes, problem.samples))


AT_RANDOM = replace(SYSTEMS[FOREST], name="forest: all, rows at random", kind=LEAKY)


def predict_unseen(
    problem: Problem, system: TabularSystem, *, rows=COMPLETE, fold_seed=0, split=UNSEEN, **options
) -> pd.DataFrame:
    """Predictions of scored rows by models, one a fold, that saw no label of their blocks.

    ``rows`` are "complete", "all", or a bool array (row,) of the rows that are scored;
    ``fold_seed`` deals the 2-degree blocks; ``options`` are those of ``TabularSystem.train``, whose
    errors may come. Beside the predictions stand ``fold`` and, in words, what was ``chosen`` inside
    training.
    """
    scored = problem.scored(rows)
    deal = problem.random_folds if system.kind == LEAKY else problem.folds
    folds = deal(scored, seed=fold_seed).rename(split)
    trained = system.train(problem, folds, rows=scored, **options)
    table = trained.predict(problem, rows=scored)
    fold = trained.parts_of(table)
    return table.assign(fold=fold, chosen=fold.map(trained.choices()["chosen"]))


def means(predictions: pd.DataFrame, *, min_windows: int = MIN_WINDOWS) -> pd.Series:
    """Means over stations with enough scored windows of R, ubRMSE, RMSE and bias.

    R of a constant prediction counts as 0. Beside them ``n_stations``, ``n_rows`` and the pooled R2
    of all rows, 1 - sum (o - p)^2 / sum (o - mean o)^2.
    """
    points = metrics.point_scores(predictions)
    points = points[points["n"] >= min_windows].fillna({"r": 0.0})
    known = predictions.dropna(subset=["observed_m3_m3"])
    table = points[list(MEASURES)].mean()
    table["n_stations"], table["n_rows"] = len(points), len(predictions)
    table["pooled R2"] = r2_score(known["observed_m3_m3"], known["predicted_m3_m3"])
    return table


def means_of(tables, *, min_windows: int = MIN_WINDOWS) -> pd.DataFrame:
    """The means of several predictions tables by name, a row each."""
    return pd.DataFrame({k: means(v, min_windows=min_windows) for k, v in tables.items()}).T


def paired(predictions: pd.DataFrame, pairs, *, stations: pd.DataFrame, **settings) -> pd.DataFrame:
    """Paired differences of some models of a table, a row for each (model, other, metric).

    ``settings`` are those of ``metrics.paired_difference``.
    """
    of_model = dict(list(predictions.groupby("model")))
    lines = [
        metrics.paired_difference(of_model[a], of_model[b], stations=stations, metric=m, **settings)
        for a, b, m in pairs
    ]
    return pd.DataFrame(lines).drop(columns="split", errors="ignore").reset_index(drop=True)


FOREST_INPUTS = {"forest: S1 + S2": "S1 + S2", "forest: SMAP": "SMAP"}


def lineup(problem: Problem, *, epochs: int = 60) -> dict[str, TabularSystem]:
    """The systems that notebook 24 sets side by side, those whose predictors the table has."""
    sets = ten_day_table.predictor_sets(problem.features)
    dense = replace(SYSTEMS["dense ensemble"], trains_on=SCORED, options={"epochs": epochs})
    see = {name: sets.get(f"{group} + static + season") for name, group in FOREST_INPUTS.items()}
    forests = {
        name: replace(SYSTEMS[FOREST], see=partial(_same, columns))
        for name, columns in see.items()
        if columns
    }
    side_by_side = {
        "SMAP linear": SYSTEMS["SMAP line"],
        **forests,
        FOREST: SYSTEMS[FOREST],
        "dense ensemble: all": dense,
        "two parts: nowcast": SYSTEMS["two parts: nowcast"],
        "two parts: retrospective": SYSTEMS["two parts: retrospective"],
        "two parts: retrospective with network": SYSTEMS["two parts: network"],
    }
    return {name: system.named(name) for name, system in side_by_side.items()}


def _same(columns: list[str], _: Problem) -> list[str]:
    return columns


def coverage_of_90(predictions: pd.DataFrame, blocks) -> tuple[float, float]:
    """The share of rows within their 90 % intervals, and the mean of blocks' shares.

    Intervals promise 90 % of a new block's rows. NaN where the model told none.
    """
    if "lower_m3_m3" not in predictions or predictions["lower_m3_m3"].isna().any():
        return np.nan, np.nan
    inside = predictions["observed_m3_m3"].between(
        predictions["lower_m3_m3"], predictions["upper_m3_m3"]
    )
    return float(inside.mean()), float(inside.groupby(np.asarray(blocks)).mean().mean())


def coverage(trained: TrainedTable, problem: Problem, *, predictions: pd.DataFrame) -> pd.Series:
    """Means over rows of what folds chose, and what the 90 % intervals hold."""
    fold = trained.parts_of(predictions)
    chosen = trained.choices()[["penalty", "reach_km"]].astype(float)
    held = coverage_of_90(predictions, problem.at["block"][predictions.index])
    names = ("coverage, mean of blocks", "coverage of rows")
    return pd.concat([chosen.loc[fold].mean(), pd.Series(held[::-1], names)])


def beside(baselines, *, ours, without, measures: list[str]) -> pd.DataFrame:
    """Published means beside ours, their difference, and ours without averaged class codes."""
    columns = {"baseline": pd.DataFrame(baselines, index=measures).T}
    columns["ours"] = means_of(ours)[measures]
    columns["difference"] = columns["ours"] - columns["baseline"]
    columns["without nlcd_mean"] = means_of(without)[measures]
    return pd.concat(columns, axis=1).rename_axis("model")


def spread_of_four(scores: pd.DataFrame) -> list[str]:
    """The sensors of the highest R, its upper and lower quartile, and the lowest."""
    ordered = scores.sort_values("r")["sensor_id"]
    ranks = np.round(np.array([1, 0.75, 0.25, 0]) * (len(ordered) - 1)).astype(int)
    return ordered.iloc[ranks].drop_duplicates().tolist() if len(ordered) else []


def flat(table: pd.DataFrame) -> pd.DataFrame:
    """A table as a csv holds it: named indices as columns, one line of heads."""
    heads = [" ".join(head) if isinstance(head, tuple) else head for head in table.columns]
    table = table.set_axis(heads, axis=1)
    return table.reset_index() if table.index.names != [None] else table


def kept_means(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What a contest kept: means over deals of each procedure, and its R less the forest's."""
    keys = ["rows", "procedure", "kind"]
    paths = [Path(folder) / f"{name}.csv" for name in ("study", "contrasts")]
    tables = [read_whole(path, pd.read_csv) for path in paths]
    scores, pairs = (table.query("fold_seed == 'mean'").set_index(keys) for table in tables)
    pairs = pairs[pairs["metric"] == "r"]
    wanted = [*MEASURES[:3], "block_coverage_of_90", "n_seeds"]
    return scores[wanted].join(pairs[["difference", "lower", "upper"]]), pairs

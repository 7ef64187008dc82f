"""``python -m soilkit.studies.contest reports/tabular_us_10day --table FILE --ismn FILE``.

Procedures that predict the ten-day moisture of unseen blocks, over several deals of the blocks.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.metrics import r2_score

from soilkit import metrics
from soilkit.constants import OK
from soilkit.errors import ContractError
from soilkit.export import insitu, ten_day_table
from soilkit.files import read_table, read_whole, sha256, write_table, write_whole
from soilkit.models.tabular import systems
from soilkit.models.tabular.problem import ALL, COMPLETE, Problem
from soilkit.models.tabular.systems import (
    LABELLED,
    LEAKY,
    NOWCAST,
    SCORED,
    SYSTEMS,
    TabularSystem,
    TrainedTable,
)
from soilkit.studies import Job, Rows, carry_out, claim, command_line, run, understood

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


def _now(problem: Problem) -> list[str]:
    return [name for name in problem.wide.names(NOWCAST) if name != "nlcd_mean"]


def _booster(_, *, preset, seed):
    """300 steps of 0.05; no early stopping, whose held-out rows would be neighbours of others."""
    return HistGradientBoostingRegressor(
        max_iter=300, learning_rate=0.05, early_stopping=False, random_state=seed
    )


def _extra_trees(_, *, preset, seed):
    return systems.extra_trees(systems.TREES[preset] // 3, seed=seed)


def _small_forest(_, *, preset, seed):
    return systems.forest(seed=seed, n_trees=systems.TREES[preset] // 3, n_jobs=1)


PROCEDURES = {
    one.name: one
    for one in (
        SYSTEMS["SMAP line"],
        SYSTEMS[FOREST],
        replace(
            SYSTEMS[FOREST],
            name="forest: all, nlcd_mean",
            see=lambda problem: [*problem.given, "nlcd_mean"],
        ),
        replace(SYSTEMS[FOREST], name="forest: all, every labelled row trains", trains_on=LABELLED),
        replace(SYSTEMS[FOREST], name="forest: all, rows at random", kind=LEAKY),
        replace(SYSTEMS["dense ensemble"], balances=True),
        replace(SYSTEMS["prob ensemble"], balances=True),
        SYSTEMS["wide and deep ensemble"],
        SYSTEMS["texture forest"],
        TabularSystem("boosting: nowcast", _booster, _now, NOWCAST),
        TabularSystem("extra trees: nowcast", _extra_trees, _now, NOWCAST),
        TabularSystem("forest: nowcast", _small_forest, _now, NOWCAST),
        *(system for name, system in SYSTEMS.items() if name.startswith(("two parts", "blend"))),
    )
}


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
    fold = table["sample_id"].map(trained.labels)
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


# Notebook 24: a few systems side by side.


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
    fold = predictions["sample_id"].map(trained.labels)
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


# The trials, each of which leaves a row and its predictions, and the tables of them.

SEEDS = (0, 1, 2, 3, 4)
ROWS = (COMPLETE, ALL)
KEYS = ["procedure", "kind", "rows", "fold_seed"]
MEAN = "mean"
DIGITS = 5


def run_trial(problem: Problem, name: str, *, rows: str, seed: int, path: Path) -> dict[str, Any]:
    """Train a procedure on one deal of the blocks and keep its predictions at ``path``."""
    table = predict_unseen(problem, PROCEDURES[name], rows=rows, fold_seed=seed)
    write_table(path, table, index=True)
    return {"n_rows": len(table)}


@dataclass
class Contest:
    """Procedures on one problem, resumable: what left its predictions is not run again.

    ``work`` is the folder of the predictions, one problem's alone; ``names`` are those of
    PROCEDURES, None takes all that the problem has strata for; ``rows`` are "complete", "all";
    ``seeds`` those of the folds. ``workers`` 0 runs the trials one by one in this process. What
    failed is run again only with ``again``.
    """

    problem: Problem
    work: Path
    names: Sequence[str] | None = None
    rows: Sequence[str] = ROWS
    seeds: Sequence[int] = SEEDS
    workers: int = 0
    again: bool = False

    def __post_init__(self) -> None:
        strange = [name for name in self.names or () if name not in PROCEDURES]
        if strange:
            raise ContractError(
                f"No procedure is called {', '.join(strange)}. Take some of: "
                f"{', '.join(PROCEDURES)}."
            )
        has_strata = self.problem.strata is not None
        able = [k for k, system in PROCEDURES.items() if has_strata or not system.balances]
        self.names = list(self.names or able)

    def claim(self, folder: Path) -> None:
        """Mark a folder as this problem's, as ``studies.claim`` does."""
        claim(folder, self.problem.samples, self.problem.features, self.problem.stations)

    @property
    def store(self) -> Rows:
        """The rows of all trials."""
        return Rows(self.work / "rows")

    def path(self, name: str, rows: str, *, seed: int | str) -> Path:
        """Where a procedure's predictions stand."""
        slug = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
        return self.work / f"{slug}__{rows}__{seed}.parquet"

    def due(self) -> list[Job]:
        """The trials without predictions, seed by seed, complete rows first."""
        jobs = []
        for rows, seed, name in product(self.rows, self.seeds, self.names or ()):
            path = self.path(name, rows, seed=seed)
            row = self.store.read(path.stem) or {"status": OK}
            if path.exists() or not (self.again or row["status"] == OK):
                continue
            work = partial(run_trial, self.problem, name, rows=rows, seed=seed, path=path)
            words = f"{list(PROCEDURES).index(name)} {name}, {rows} rows, fold seed {seed}"
            kind = PROCEDURES[name].kind
            definition = dict(zip(KEYS, (name, kind, rows, seed), strict=True))
            jobs.append(Job(path.stem, words, work, {"definition": definition}))
        return jobs

    def run(self) -> int:
        """Run what is due, unless ``work`` is another problem's; returns how many were run."""
        self.claim(self.work)
        jobs = self.due()
        run(jobs, self.store, workers=self.workers)
        return len(jobs)

    def results(self) -> dict[tuple[str, str, int], pd.DataFrame]:
        """Predictions by procedure, rows and fold seed, of all that was run."""
        return {
            (name, rows, int(path.stem.rpartition("__")[2])): read_table(path)
            for name, rows in product(PROCEDURES, ROWS)
            for path in sorted(self.work.glob(self.path(name, rows, seed="*").name))
        }


def score(predictions: pd.DataFrame, blocks: pd.Series) -> dict[str, float]:
    """The ``means`` of predictions, and what their 90 % intervals hold.

    Intervals promise 90 % of a new block's rows: ``block_coverage_of_90`` is the mean of blocks
    (a Series by the predictions' index), and ``coverage_of_90`` the share of rows, most of which
    stand in few dense blocks.
    """
    scores = means(predictions)
    held = coverage_of_90(predictions, blocks[predictions.index])
    return {
        **scores[list(MEASURES)].to_dict(),
        **dict(zip(("coverage_of_90", "block_coverage_of_90"), held, strict=True)),
        **scores[["n_stations", "n_rows"]].astype(int).to_dict(),
        "chosen": "; ".join(predictions.groupby("fold")["chosen"].first()).strip("; "),
    }


def contrast(problem: Problem, results, *, key: tuple[str, str, int]) -> list[dict]:
    """A procedure's paired differences from the forest on the same rows and folds, a measure each.

    Stations have twenty windows or more, and an R by both (a constant prediction has none);
    intervals of 95 % by drawing 2-degree blocks anew.
    """
    name, rows, seed = key
    reference = results.get((FOREST, rows, seed))
    if name == FOREST or reference is None:
        return []
    first = {"procedure": name, "kind": PROCEDURES[name].kind, "rows": rows, "fold_seed": str(seed)}
    wanted = ["mean_a", "mean_b", "difference", "lower", "upper", "share_a_higher"]
    wanted += ["block_difference", "block_lower", "block_upper", "n_stations", "n_blocks"]
    lines = []
    for measure in MEASURES[:3]:
        pair = metrics.paired_difference(
            results[key], reference, stations=problem.stations, metric=measure,
            min_samples=MIN_WINDOWS,
        )  # fmt: skip
        lines.append({**first, "metric": measure, **pair[wanted].to_dict()})
    return lines


def with_means(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """The table and, behind its fold seeds, the mean over them in a row of its own.

    The ends of an interval are averaged too: ``n_seeds`` tells over how many.
    """
    table = table[table["fold_seed"].astype(str) != MEAN]
    table = table.assign(fold_seed=table["fold_seed"].astype(str))
    by = [key for key in keys if key != "fold_seed"]
    mean = table.groupby(by, as_index=False).mean(numeric_only=True)
    size = table.groupby(by, as_index=False).size()["size"]
    both = pd.concat([table.assign(n_seeds=1), mean.assign(fold_seed=MEAN, n_seeds=size)])
    order = {"rows": list(ROWS), "procedure": list(PROCEDURES)}
    both = both.sort_values(
        [*order, "fold_seed"],
        key=lambda column: column.map(order[column.name].index) if column.name in order else column,
        kind="stable",
    )
    counts = [name for name in both if name.startswith("n_")]
    both[counts] = both[counts].round().astype("Int64")
    return both.drop(columns="n_seeds").assign(n_seeds=both["n_seeds"]).reset_index(drop=True)


def write_tables(contest: Contest, out: Path) -> None:
    """``study.csv`` and ``contrasts.csv`` in ``out``, from every file of predictions there is.

    An ``out`` of another problem is refused.
    """
    contest.claim(out)
    problem, results = contest.problem, contest.results()
    scored, pairs = [], []
    for (name, rows, seed), table in results.items():
        procedure = PROCEDURES[name]
        first = dict(zip(KEYS, (name, procedure.kind, rows, str(seed)), strict=True))
        trained = {"trains_on": procedure.trains_on}
        scored.append(first | trained | score(table, problem.at["block"]))
        pairs += contrast(problem, results, key=(name, rows, seed))
    for name, lines, keys in (
        ("study", scored, [*KEYS, "trains_on"]),
        ("contrasts", pairs, [*KEYS, "metric"]),
    ):
        if lines:
            path = out / f"{name}.csv"
            table = with_means(_kept(path, pd.DataFrame(lines), keys), keys).round(DIGITS)
            write_whole(path, table.set_index(keys[0]).to_csv)


def _kept(path: Path, table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """The table's lines, rounded, and those of the csv that it does not make anew."""
    table = table.round(DIGITS)
    if not path.exists():
        return table
    old = read_whole(path, partial(pd.read_csv, dtype={"fold_seed": str}))
    old = old.drop(columns="n_seeds", errors="ignore")
    if list(old.columns) != list(table.columns):
        return table
    old = old[old["procedure"].isin(PROCEDURES)].fillna({"chosen": ""})
    return pd.concat([table, old]).drop_duplicates(keys, keep="first")


def main(words: list[str] | None = None) -> None:
    """Run the contest that the command line describes."""
    parser = command_line("soilkit.studies.contest", __doc__)
    parser.add_argument("--table", type=Path, required=True, help="parquet of ten-day windows")
    parser.add_argument("--ismn", type=Path, help="in-situ archive that tells the strata")
    parser.add_argument("--rows", default=",".join(ROWS), help="complete, all or both")
    options = understood(parser, words)
    archive = options.ismn and insitu.read_stations(options.ismn, progress=False)
    data = ten_day_table.read_ten_day_table(options.table)
    by_number = {str(number): name for number, name in enumerate(PROCEDURES)}  # as of --list
    contest = Contest(
        problem_of(data, archive_stations=archive),
        options.work / "contest" / sha256(options.table)[:12],
        names=options.only and [by_number.get(name, name) for name in options.only],
        rows=[rows for rows in options.rows.split(",") if rows],
        seeds=options.seeds or SEEDS,
        workers=options.workers,
        again=options.again,
    )
    carry_out(contest, options, write=write_tables)


if __name__ == "__main__":
    main()

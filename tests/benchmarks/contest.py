"""``python -m tests.benchmarks.contest reports/tabular_us_10day --table FILE --ismn FILE``.

Procedures that predict the ten-day moisture of unseen blocks, over several deals of the blocks.
Each trial leaves a row and its predictions; the tables are made of them.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from sklearn.ensemble import HistGradientBoostingRegressor

from soilkit import metrics
from soilkit.constants import OK
from soilkit.errors import ContractError, StoreError
from soilkit.export import insitu, ten_day_table
from soilkit.files import read_table, read_whole, sha256, write_table, write_text_whole, write_whole
from soilkit.models.tabular import systems
from soilkit.models.tabular.problem import ALL, COMPLETE, Problem
from soilkit.models.tabular.systems import LABELLED, NOWCAST, SYSTEMS, TabularSystem
from soilkit.studies.contest import (
    AT_RANDOM,
    FOREST,
    MEASURES,
    MIN_WINDOWS,
    coverage_of_90,
    means,
    predict_unseen,
    problem_of,
)
from tests.benchmarks.trials import Job, Rows, carry_out, command_line, run, understood

RESULTS = ("study.csv", "contrasts.csv", "*.parquet", "rows/*.json")  # of tables that claim them


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
        AT_RANDOM,
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


def claim(folder: Path, *tables: Any) -> None:
    """Mark a folder as that of some tables, by their hash, so that no other's results mix in.

    Raises ``StoreError`` when it is another's.
    """
    digest = hashlib.sha256()
    for table in tables:
        digest.update(table.to_csv(index=False, float_format="%.9g").encode())
    path, ours = folder / "data.json", {"tables_sha256": digest.hexdigest()}
    if path.exists():
        theirs = read_whole(path, lambda path: json.loads(path.read_text("utf-8")))
    elif any(next(folder.glob(name), None) for name in RESULTS):
        theirs = f"{path.name}, which says of which, is missing"
    else:
        theirs = ours
        write_text_whole(path, json.dumps(ours))
    if theirs != ours:
        raise StoreError(
            f"{folder} holds results of other data ({theirs}); these are {ours}. Name another "
            "folder, or the table that it was made of."
        )


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
        """Mark a folder as this problem's, as the function ``claim`` does."""
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
    parser = command_line("tests.benchmarks.contest", __doc__)
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

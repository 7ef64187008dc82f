"""``python -m soilkit.experiments.contending reports/tabular_us_10day --table FILE --ismn FILE``.

Scores the procedures of ``procedures.PROCEDURES`` at stations of unseen 2-degree blocks. One file
of predictions a procedure, kind of rows and fold seed stays in the working folder; interrupt it
whenever you like and start it again: what was done is not done again. ``study.csv`` and
``contrasts.csv`` are written at the end, and when it is interrupted; rows of theirs that the
working folder does not hold are kept.
"""

import argparse
import hashlib
import logging
import re
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from soilkit import metrics
from soilkit.errors import ContractError
from soilkit.experiments import procedures
from soilkit.experiments.procedures import ALL, COMPLETE, FOREST, PROCEDURES, Problem
from soilkit.export import ten_day_table
from soilkit.files import write_whole

MIN_WINDOWS = 20  # scored windows that give a station a score
SEEDS = (0, 1, 2, 3, 4)
ROWS = (COMPLETE, ALL)
MEASURES = ("r", "ubrmse_m3_m3", "rmse_m3_m3", "bias_m3_m3")
KEYS = ["procedure", "kind", "rows", "fold_seed"]
MEAN = "mean"
DIGITS = 5
log = logging.getLogger("soilkit.experiments")


class Contest:
    """Procedures on one problem, resumable.

    Parameters
    ----------
    problem : Problem
    work : folder of the predictions; one problem's alone
    names : list of str, of PROCEDURES; None takes all that the problem has strata for
    rows : tuple of "complete", "all"
    seeds : tuple of int, of the folds
    """

    def __init__(self, problem: Problem, *, work: Path, names=None, rows=ROWS, seeds=SEEDS) -> None:
        strange = [name for name in names or () if name not in PROCEDURES]
        if strange:
            raise ContractError(
                f"No procedure is called {', '.join(strange)}. Take some of: "
                f"{', '.join(PROCEDURES)}."
            )
        able = [k for k, p in PROCEDURES.items() if not p.strata or problem.strata is not None]
        self.problem, self.work = problem, Path(work)
        self.names, self.rows, self.seeds = list(names or able), tuple(rows), tuple(seeds)

    def path(self, name: str, rows: str, *, seed: int) -> Path:
        """Where a procedure's predictions stand."""
        slug = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
        return self.work / f"{slug}__{rows}__{seed}.parquet"

    def due(self) -> list[tuple[str, str, int]]:
        """(procedure, rows, fold seed) not run yet, seed by seed, complete rows first."""
        wanted = [(n, r, s) for r, s, n in product(self.rows, self.seeds, self.names)]
        return [(n, r, s) for n, r, s in wanted if not self.path(n, r, seed=s).exists()]

    def run(self) -> int:
        """Run what is due; returns how many were run."""
        due = self.due()
        for number, (name, rows, seed) in enumerate(due, start=1):
            log.info("%d of %d: %s, %s rows, fold seed %d", number, len(due), name, rows, seed)
            procedure = PROCEDURES[name]
            found = procedures.predict_unseen(self.problem, procedure, rows=rows, seed=seed)
            path = self.path(name, rows, seed=seed)
            write_whole(path, found.rename_axis("row").reset_index().to_parquet)
        return len(due)

    def results(self) -> dict[tuple[str, str, int], pd.DataFrame]:
        """Predictions (scored row, ...) by procedure, rows and fold seed, of all that was run."""
        found = {}
        for name, rows in product(PROCEDURES, ROWS):
            pattern = self.path(name, rows, seed=0).name.replace("__0.", "__*.")
            for path in sorted(self.work.glob(pattern)):
                seed = int(path.stem.rpartition("__")[2])
                found[name, rows, seed] = pd.read_parquet(path).set_index("row")
        return found


def score(problem: Problem, name: str, *, found: pd.DataFrame) -> dict[str, float]:
    """Means over stations of R, ubRMSE, RMSE and bias, and what the 90 % intervals hold.

    A station has twenty scored windows or more; R of a constant prediction counts as 0. Intervals
    promise 90 % of a new block's rows: ``block_coverage_of_90`` is the mean of blocks, and
    ``coverage_of_90`` the share of rows, most of which stand in few dense blocks.
    """
    points = metrics.point_scores(as_table(problem, name, found=found))
    points = points[points["n"] >= MIN_WINDOWS].fillna({"r": 0.0})
    observed = problem.moisture[found.index]
    inside = (found["lower_m3_m3"] <= observed) & (observed <= found["upper_m3_m3"])
    told = found["lower_m3_m3"].notna()
    of_blocks = inside.groupby(problem.at["block"].to_numpy()[found.index]).mean()
    return {
        **points[list(MEASURES)].mean().to_dict(),
        "coverage_of_90": float(inside.mean()) if told.all() else np.nan,
        "block_coverage_of_90": float(of_blocks.mean()) if told.all() else np.nan,
        "n_stations": len(points),
        "n_rows": len(found),
        "chosen": "; ".join(found.groupby("fold")["chosen"].first()).strip("; "),
    }


def as_table(problem: Problem, name: str, *, found: pd.DataFrame) -> pd.DataFrame:
    """A procedure's rows as a table of predictions."""
    return ten_day_table.predictions_table(
        problem.samples.loc[found.index],
        problem.stations,
        predicted=found["predicted_m3_m3"],
        model=name,
        split="unseen blocks",
    )


def contrast(problem: Problem, results, *, key: tuple[str, str, int]) -> list[dict]:
    """A procedure's paired differences from the forest on the same rows and folds, a measure each.

    Stations have twenty windows or more, and an R by both (a constant prediction has none);
    intervals of 95 % by drawing 2-degree blocks anew.
    """
    name, rows, seed = key
    reference = results.get((FOREST, rows, seed))
    if name == FOREST or reference is None:
        return []
    a = as_table(problem, name, found=results[key])
    b = as_table(problem, FOREST, found=reference)
    first = {"procedure": name, "kind": PROCEDURES[name].kind, "rows": rows, "fold_seed": str(seed)}
    wanted = ["mean_a", "mean_b", "difference", "lower", "upper", "share_a_higher"]
    wanted += ["block_difference", "block_lower", "block_upper", "n_stations", "n_blocks"]
    lines = []
    for measure in MEASURES[:3]:
        pair = metrics.paired_difference(
            a, b, stations=problem.stations, metric=measure, min_samples=MIN_WINDOWS
        )
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
    both["_rows"] = both["rows"].map(ROWS.index)
    both["_procedure"] = both["procedure"].map(list(PROCEDURES).index)
    both = both.sort_values(["_rows", "_procedure", "fold_seed"], kind="stable")
    both = both.drop(columns=["_rows", "_procedure"])
    counts = [name for name in both if name.startswith("n_")]
    both[counts] = both[counts].round().astype("Int64")
    return both.drop(columns="n_seeds").assign(n_seeds=both["n_seeds"]).reset_index(drop=True)


def write_tables(contest: Contest, out: Path) -> None:
    """``study.csv`` and ``contrasts.csv`` in ``out``, from every file of predictions there is."""
    problem, results = contest.problem, contest.results()
    scored, pairs = [], []
    for key, found in results.items():
        first = dict(zip(KEYS, (key[0], PROCEDURES[key[0]].kind, key[1], str(key[2])), strict=True))
        trains = PROCEDURES[key[0]].trains_on
        scored.append({**first, "trains_on": trains} | score(problem, key[0], found=found))
        pairs += contrast(problem, results, key=key)
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
    old = pd.read_csv(path, dtype={"fold_seed": str}).drop(columns="n_seeds", errors="ignore")
    if list(old.columns) != list(table.columns):
        return table
    old = old[old["procedure"].isin(PROCEDURES)].fillna({"chosen": ""})
    return pd.concat([table, old]).drop_duplicates(keys, keep="first")


def arguments() -> argparse.ArgumentParser:
    """What the command understands."""
    parser = argparse.ArgumentParser(prog="soilkit.experiments.contending", description=__doc__)
    parser.add_argument("out", type=Path, help="folder of the csv tables")
    parser.add_argument("--table", type=Path, required=True, help="parquet of ten-day windows")
    parser.add_argument("--ismn", type=Path, help="in-situ archive that tells the strata")
    parser.add_argument("--work", type=Path, help="working folder (default: beside OUT, in work/)")
    parser.add_argument("--only", help="procedures by name or number of --list, apart by ;")
    parser.add_argument("--rows", default=",".join(ROWS), help="complete, all or both")
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)), help="fold seeds")
    parser.add_argument("--list", action="store_true", help="say what would run, and stop")
    return parser


def chosen(text: str | None) -> list[str] | None:
    """The procedures that ``--only`` names, apart by ";", or by number in PROCEDURES."""
    if text is None:
        return None
    every, words = list(PROCEDURES), [word.strip() for word in text.split(";")]
    known = {str(number): name for number, name in enumerate(every)}
    return [known.get(word, word) for word in words if word]


def main(words: list[str] | None = None) -> None:
    """Run the contest that the command line describes."""
    options = arguments().parse_args(words)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    work = options.work or options.out.parent / "work" / options.out.name
    digest = hashlib.sha256(options.table.read_bytes()).hexdigest()[:12]
    contest = Contest(
        procedures.read_problem(options.table, archive=options.ismn),
        work=work / "contending" / digest,
        names=chosen(options.only),
        rows=[rows for rows in options.rows.split(",") if rows],
        seeds=[int(seed) for seed in options.seeds.split(",")],
    )
    if options.list:
        for name, rows, seed in contest.due():
            log.info("%d %s, %s rows, seed %d", list(PROCEDURES).index(name), name, rows, seed)
        return
    try:
        contest.run()
    except KeyboardInterrupt:
        log.info("interrupted: start it again to go on")
    finally:
        write_tables(contest, options.out)
        log.info("tables in %s", options.out)


if __name__ == "__main__":
    main()

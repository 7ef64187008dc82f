"""``python -m soilkit.studies.contest reports/tabular_us_10day --table FILE --ismn FILE``.

Procedures that predict the ten-day moisture of unseen blocks, over several deals of the blocks."""

import argparse
import hashlib
import logging
import re
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.metrics import r2_score

from soilkit import metrics
from soilkit.errors import ContractError
from soilkit.export import insitu, ten_day_table
from soilkit.files import write_whole
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

FOREST, UNSEEN = "forest: all", "unseen blocks"
MIN_WINDOWS = 20  # scored windows that give a station a score
MEASURES = ("r", "ubrmse_m3_m3", "rmse_m3_m3", "bias_m3_m3")


def problem_of(data: ten_day_table.TabularDataset, *, archive_stations=None) -> Problem:
    """The problem that a ten-day table poses, with strata where an archive's stations are given."""
    problem = Problem.of(ten_day_table.with_season(data))
    if archive_stations is None:
        return problem
    classes = ten_day_table.station_strata(problem.stations, archive_stations)
    return replace(problem, strata=ten_day_table.by_sample(classes, problem.samples))


def read_problem(table: str | Path, *, archive: str | Path | None = None) -> Problem:
    """The problem of a parquet of ten-day windows and, for strata, an in-situ archive."""
    stations = None if archive is None else insitu.read_stations(archive, progress=False)
    return problem_of(ten_day_table.read_ten_day_table(table), archive_stations=stations)


def _now(problem: Problem) -> list[str]:
    return [name for name in problem.wide.names(NOWCAST) if name != "nlcd_mean"]


def _booster(_, *, preset, seed):
    """300 steps of 0.05; no early stopping, whose held-out rows would be neighbours of others."""
    return HistGradientBoostingRegressor(
        max_iter=300, learning_rate=0.05, early_stopping=False, random_state=seed
    )


def _sees(columns: list[str]):
    return lambda problem: columns


def _variant(name: str, **changes) -> TabularSystem:
    return replace(SYSTEMS[FOREST], name=name, **changes)


def _trees_of_now(name: str, make) -> TabularSystem:
    return TabularSystem(name, make, _now, kind=NOWCAST)


PROCEDURES = {
    one.name: one
    for one in (
        SYSTEMS["SMAP line"],
        SYSTEMS[FOREST],
        _variant("forest: all, nlcd_mean", see=lambda p: [*p.given, "nlcd_mean"]),
        _variant("forest: all, every labelled row trains", trains_on=LABELLED),
        _variant("forest: all, rows at random", kind=LEAKY),
        replace(SYSTEMS["dense ensemble"], balances=True),
        replace(SYSTEMS["prob ensemble"], balances=True),
        SYSTEMS["wide and deep ensemble"],
        SYSTEMS["texture forest"],
        _trees_of_now("boosting: nowcast", _booster),
        _trees_of_now(
            "extra trees: nowcast",
            lambda _, preset, seed: systems.extra_trees(systems.TREES[preset] // 3, seed=seed),
        ),
        _trees_of_now(
            "forest: nowcast",
            lambda _, preset, seed: systems.forest(seed=seed, n_trees=systems.TREES[preset] // 3),
        ),
        SYSTEMS["two parts: nowcast"],
        SYSTEMS["two parts: retrospective"],
        SYSTEMS["two parts: network"],
        SYSTEMS["blend: retrospective"],
        SYSTEMS["blend: network"],
    )
}


def train(
    problem: Problem, system: TabularSystem, *, rows=COMPLETE, fold_seed=0, split=UNSEEN, **options
) -> TrainedTable:
    """A system trained once a fold: each scored row has a model that saw no label of its blocks.

    Parameters
    ----------
    rows : "complete", "all", or bool array (row,) of the rows that are scored
    fold_seed : int, of the folds of 2-degree blocks
    split : str, what they are called
    options : of ``TabularSystem.train``

    Raises
    ------
    ContractError
        If it needs strata and there are none.
    """
    scored = problem.scored(rows)
    deal = problem.random_folds if system.kind == LEAKY else problem.folds
    folds = deal(scored, seed=fold_seed).rename(split)
    return system.train(problem, folds, rows=scored, **options)


def predict_unseen(problem: Problem, system: TabularSystem, *, rows=COMPLETE, **settings):
    """Predictions of scored rows, as of ``train``, with ``fold`` and ``chosen``, in words."""
    scored = problem.scored(rows)
    trained = train(problem, system, rows=scored, **settings)
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


def lineup(problem: Problem, *, epochs: int = 60) -> dict[str, TabularSystem]:
    """The systems that notebook 24 sets side by side, those whose predictors the table has."""
    sets = ten_day_table.predictor_sets(problem.features)
    forests = [
        replace(SYSTEMS[FOREST], name=f"forest: {name}", see=_sees(sets[group]))
        for name, group in (("S1 + S2", "S1 + S2 + static + season"),
                            ("SMAP", "SMAP + static + season"))
        if group in sets
    ]  # fmt: skip
    every = [
        replace(SYSTEMS["SMAP line"], name="SMAP linear"),
        *forests,
        SYSTEMS[FOREST],
        replace(
            SYSTEMS["dense ensemble"],
            name="dense ensemble: all",
            trains_on=SCORED,
            options={"epochs": epochs},
        ),
        SYSTEMS["two parts: nowcast"],
        SYSTEMS["two parts: retrospective"],
        replace(SYSTEMS["two parts: network"], name="two parts: retrospective with network"),
    ]
    return {one.name: one for one in every}


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
    chosen = trained.choices()[["penalty", "reach_km", "width"]].astype(float)
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
    tables = [pd.read_csv(Path(folder) / f"{name}.csv") for name in ("study", "contrasts")]
    scores, pairs = (table.query("fold_seed == 'mean'").set_index(keys) for table in tables)
    pairs = pairs[pairs["metric"] == "r"]
    wanted = [*MEASURES[:3], "block_coverage_of_90", "n_seeds"]
    return scores[wanted].join(pairs[["difference", "lower", "upper"]]), pairs


# The rows that were run, a file each, and the tables of them.

SEEDS = (0, 1, 2, 3, 4)
ROWS = (COMPLETE, ALL)
KEYS = ["procedure", "kind", "rows", "fold_seed"]
MEAN = "mean"
DIGITS = 5
log = logging.getLogger("soilkit.studies")


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
        able = [k for k, p in PROCEDURES.items() if not p.balances or problem.strata is not None]
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
            table = predict_unseen(self.problem, PROCEDURES[name], rows=rows, fold_seed=seed)
            write_whole(self.path(name, rows, seed=seed), table.to_parquet)
        return len(due)

    def results(self) -> dict[tuple[str, str, int], pd.DataFrame]:
        """Predictions by procedure, rows and fold seed, of all that was run."""
        tables = {}
        for name, rows in product(PROCEDURES, ROWS):
            pattern = self.path(name, rows, seed=0).name.replace("__0.", "__*.")
            for path in sorted(self.work.glob(pattern)):
                seed = int(path.stem.rpartition("__")[2])
                tables[name, rows, seed] = pd.read_parquet(path)
        return tables


def score(predictions: pd.DataFrame, blocks: pd.Series) -> dict[str, float]:
    """Means over stations of R, ubRMSE, RMSE and bias, and what the 90 % intervals hold.

    A station has twenty scored windows or more; R of a constant prediction counts as 0. Intervals
    promise 90 % of a new block's rows: ``block_coverage_of_90`` is the mean of blocks, and
    ``coverage_of_90`` the share of rows, most of which stand in few dense blocks.

    Parameters
    ----------
    predictions : of ``predict_unseen``
    blocks : Series by the predictions' index
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
    for (name, rows, seed), table in results.items():
        own = PROCEDURES[name]
        first = dict(zip(KEYS, (name, own.kind, rows, str(seed)), strict=True))
        trained = {"trains_on": own.trains_on}
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
    old = pd.read_csv(path, dtype={"fold_seed": str}).drop(columns="n_seeds", errors="ignore")
    if list(old.columns) != list(table.columns):
        return table
    old = old[old["procedure"].isin(PROCEDURES)].fillna({"chosen": ""})
    return pd.concat([table, old]).drop_duplicates(keys, keep="first")


def arguments() -> argparse.ArgumentParser:
    """What the command understands."""
    parser = argparse.ArgumentParser(prog="soilkit.studies.contest", description=__doc__)
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
        read_problem(options.table, archive=options.ismn),
        work=work / "contest" / digest,
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

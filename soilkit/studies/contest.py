"""``python -m soilkit.studies.contest reports/tabular_us_10day --table FILE --ismn FILE``.

Procedures that predict the ten-day moisture of unseen blocks, over several deals of the blocks."""

import argparse
import hashlib
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingRegressor
from sklearn.utils.validation import has_fit_parameter

from soilkit import metrics
from soilkit.errors import ContractError
from soilkit.export import antecedents, insitu, ten_day_table
from soilkit.files import write_whole
from soilkit.metrics import splits
from soilkit.models.tabular import (
    DenseEnsemble,
    ProbEnsemble,
    SmapLinear,
    TextureForest,
    WideDeepEnsemble,
    cross_folds,
    forest,
)
from soilkit.models.tabular import two_part as nested
from soilkit.models.tabular.blend import Blend, TreeDynamics
from soilkit.models.tabular.two_part import places, two_part

GIVEN, NOWCAST, RETROSPECTIVE = antecedents.GIVEN, antecedents.NOWCAST, antecedents.RETROSPECTIVE
NETWORK, LEAKY = "network", "leaky"
FOREST = "forest: all"
COMPLETE, ALL = "complete", "all"
LEAST_LABEL_DAYS = 6  # days with readings that make a window's label
NORMAL_90 = 1.645  # standard deviations that hold 90 % of a normal distribution
UNKNOWN = "unknown"
RAW = "raw_"  # a predictor as the table gives it, clouds and all


class Problem(NamedTuple):
    """Ten-day windows in one row order, and what procedures may be given about them.

    Attributes
    ----------
    samples, stations : tables of their contracts
    features : DataFrame (row, predictor) with context in time, without ``sample_id``
    columns : DataFrame, what each column is, as of ``antecedents.Widened``
    at : DataFrame (row, ...), places as of ``two_part.places``
    strata : DataFrame (row, characteristic), or None where no archive told them
    given : list of str, the table's own predictors
    """

    samples: pd.DataFrame
    stations: pd.DataFrame
    features: pd.DataFrame
    columns: pd.DataFrame
    at: pd.DataFrame
    strata: pd.DataFrame | None
    given: list[str]

    @property
    def moisture(self) -> np.ndarray:
        """Labels (row,), m3 m-3; NaN where there is none to train on."""
        y = self.samples["soil_moisture_m3_m3"].to_numpy(float)
        days = self.samples.get("label_days", pd.Series(np.inf, index=self.samples.index))
        return np.where(days.to_numpy(float) >= LEAST_LABEL_DAYS, y, np.nan)

    def scored(self, rows: str) -> np.ndarray:
        """Which rows (row,) are scored: "complete" ones have every given predictor, or "all"."""
        labelled = np.isfinite(self.moisture)
        if rows == ALL:
            return labelled
        return labelled & self.samples["complete"].to_numpy(bool)


def problem_of(data: ten_day_table.TabularDataset, *, archive_stations=None) -> Problem:
    """The problem that a ten-day table poses, with strata where an archive's stations are given."""
    stations, samples, features = ten_day_table.with_season(data)
    given = ten_day_table.predictor_sets(features)["all"]
    samples = samples.assign(complete=features[given].notna().all(axis=1).to_numpy())
    wide = antecedents.widen(samples, features)
    own = stations.drop_duplicates("station_id").set_index("station_id")
    blocks = samples["station_id"].astype(str).map(splits.block_ids(own)).to_numpy()
    at = places(samples, stations, blocks=blocks)
    strata = None
    if archive_stations is not None:
        told = station_strata(stations, archive_stations).set_index("station_id")
        strata = told.loc[samples["station_id"].astype(str)].reset_index(drop=True)
    raw = features[given].add_prefix(RAW).reset_index(drop=True)
    X = wide.features.drop(columns="sample_id").join(raw)
    return Problem(samples, stations, X, wide.columns, at, strata, given)


def read_problem(table: str | Path, *, archive: str | Path | None = None) -> Problem:
    """The problem of a parquet of ten-day windows and, for strata, an in-situ archive."""
    told = None if archive is None else insitu.read_stations(archive, progress=False)
    return problem_of(ten_day_table.read_ten_day_table(table), archive_stations=told)


def station_strata(stations: pd.DataFrame, archive_stations: pd.DataFrame) -> pd.DataFrame:
    """Texture, clay, sand, climate and land cover of stations, from an archive's statics.

    Clay and sand are percent by weight, NaN where unknown; an unknown class is "unknown". The
    archive tells no pH, so the paper's sixth member is left out.

    Returns
    -------
    DataFrame, one row a station: ``station_id, texture, clay, sand, koeppen, land_cover``
    """
    filled = ten_day_table.fill_statics(stations, archive_stations).drop_duplicates("station_id")
    keys = ten_day_table.station_keys(archive_stations)
    amounts = archive_stations[["clay_percent", "sand_percent"]].groupby(keys).mean()
    amounts = amounts.reindex(filled["station_id"].astype(str))
    names = ["station_id", "texture", "koeppen", "land_cover"]
    strata = filled[names].astype(str).replace("", UNKNOWN).reset_index(drop=True)
    strata.insert(2, "clay", amounts["clay_percent"].to_numpy())
    strata.insert(3, "sand", amounts["sand_percent"].to_numpy())
    return strata


@dataclass(frozen=True)
class Procedure:
    """A model, the columns that it sees, and the rows that train it.

    Attributes
    ----------
    kind : "given" (the window alone), "nowcast" (nothing after it), "retrospective" (the station's
        whole series of predictors), "network" (labels of other blocks at the same time too), or
        "leaky" (rows dealt out one by one: no test)
    make : the unfitted model of a problem
    see : the columns of a problem
    trains_on : "scored", rows of the kind that is scored, or "labelled", every labelled row
    strata : whether it needs them
    n_std : standard errors that should hold 90 %, where the model does not tell by ``width_``
    """

    kind: str
    make: Callable[[Problem], Any]
    see: Callable[[Problem], list[str]]
    trains_on: str = "labelled"
    strata: bool = False
    n_std: float = np.nan


def _given(problem: Problem) -> list[str]:
    return [RAW + name for name in problem.given]


def _all(problem: Problem) -> list[str]:
    return problem.columns["column"].tolist()


def _now(problem: Problem) -> list[str]:
    names = antecedents.Widened(problem.features, problem.columns).names(NOWCAST)
    return [name for name in names if name != "nlcd_mean"]


def extra_trees(n_trees: int = 100, *, seed: int = 0) -> ExtraTreesRegressor:
    """Extremely random trees, leaves of five rows, 30 % of predictors a split."""
    return ExtraTreesRegressor(
        n_trees, min_samples_leaf=5, max_features=0.3, n_jobs=1, random_state=seed
    )


def booster() -> HistGradientBoostingRegressor:
    """300 steps of 0.05; no early stopping, whose held-out rows would be neighbours of others."""
    return HistGradientBoostingRegressor(
        max_iter=300, learning_rate=0.05, early_stopping=False, random_state=0
    )


def two_parts(columns: pd.DataFrame, kind: str, *, network: bool = False, seed=0) -> nested.Chosen:
    """The two parts whose penalty, and reach with ``network``, inner folds choose; unfitted.

    Parameters
    ----------
    columns : ``columns`` of ``antecedents.Widened``
    kind : "nowcast" or "retrospective"
    network : whether probes elsewhere are asked too
    """
    stages = (nested.PENALTIES, nested.REACHES_KM) if network else (nested.PENALTIES,)
    return nested.Chosen(two_part(columns, kind), stages, seed=seed)


def blend(columns: pd.DataFrame, *, network: bool = False, n_trees: int = 100, seed=0) -> Blend:
    """Retrospective parts, and extremely random trees for the dynamics, weighed by inner folds.

    Parameters
    ----------
    columns : ``columns`` of ``antecedents.Widened``
    network : whether the ridge's part adds what probes elsewhere say at the same time
    n_trees : int; seed : int, of the trees and the inner folds
    """
    moving = TreeDynamics(two_part(columns, RETROSPECTIVE), extra_trees(n_trees, seed=seed))
    ridge = two_parts(columns, RETROSPECTIVE, network=network, seed=seed)
    return Blend([("two parts", ridge), ("trees", moving)], seed=seed)


def _ensemble(model) -> Procedure:
    return Procedure(GIVEN, lambda _: model(seed=0), _given, strata=True)


PROCEDURES = {
    "SMAP line": Procedure(GIVEN, lambda _: SmapLinear(), lambda _: [f"{RAW}smap_ssm"], "scored"),
    FOREST: Procedure(GIVEN, lambda _: forest(n_jobs=1), _given, "scored"),
    "forest: all, nlcd_mean": Procedure(
        GIVEN, lambda _: forest(n_jobs=1), lambda p: [*_given(p), "nlcd_mean"], "scored"
    ),
    "forest: all, every labelled row trains": Procedure(GIVEN, lambda _: forest(n_jobs=1), _given),
    "forest: all, rows at random": Procedure(LEAKY, lambda _: forest(n_jobs=1), _given, "scored"),
    "dense ensemble": _ensemble(DenseEnsemble),
    "prob ensemble": Procedure(
        GIVEN, lambda _: ProbEnsemble(seed=0), _given, strata=True, n_std=NORMAL_90
    ),
    "wide and deep ensemble": _ensemble(WideDeepEnsemble),
    "texture forest": _ensemble(TextureForest),
    "boosting: nowcast": Procedure(NOWCAST, lambda _: booster(), _now),
    "extra trees: nowcast": Procedure(NOWCAST, lambda _: extra_trees(), _now),
    "forest: nowcast": Procedure(NOWCAST, lambda _: forest(n_jobs=1, n_trees=100), _now),
    "two parts: nowcast": Procedure(NOWCAST, lambda p: two_parts(p.columns, NOWCAST), _all),
    "two parts: retrospective": Procedure(
        RETROSPECTIVE, lambda p: two_parts(p.columns, RETROSPECTIVE), _all
    ),
    "two parts: network": Procedure(
        NETWORK, lambda p: two_parts(p.columns, RETROSPECTIVE, network=True), _all
    ),
    "blend: retrospective": Procedure(RETROSPECTIVE, lambda p: blend(p.columns), _all),
    "blend: network": Procedure(NETWORK, lambda p: blend(p.columns, network=True), _all),
}


def predict_unseen(problem: Problem, procedure: Procedure, *, rows: str, seed: int) -> pd.DataFrame:
    """Each scored row predicted by a model that saw no label of its fold's blocks.

    Parameters
    ----------
    problem, procedure : Problem and Procedure
    rows : "complete" or "all"
    seed : int, of the folds of 2-degree blocks

    Returns
    -------
    DataFrame, one row a scored row in their order: ``fold, predicted_m3_m3``, ``lower_m3_m3`` and
    ``upper_m3_m3`` of 90 % (NaN where the procedure tells none) and ``chosen``, in words

    Raises
    ------
    ContractError
        If it needs strata and there are none.
    """
    if procedure.strata and problem.strata is None:
        raise ContractError("This procedure balances strata: name the in-situ archive (--ismn).")
    scored = np.flatnonzero(problem.scored(rows))
    blocks, labelled = problem.at["block"].to_numpy(), np.isfinite(problem.moisture)
    groups = None if procedure.kind == LEAKY else blocks[scored]
    folds = cross_folds(scored, groups=groups, seed=seed)
    parts = []
    for fold in np.unique(folds):
        test, train = scored[folds == fold], scored[folds != fold]
        if procedure.trains_on == "labelled":
            train = np.flatnonzero(labelled & np.isin(blocks, blocks[train]))
        part = _one_fold(problem, procedure, train=train, test=test)
        parts.append(part.assign(fold=int(fold)))
    return pd.concat(parts).loc[scored]


def _one_fold(problem: Problem, procedure: Procedure, *, train, test) -> pd.DataFrame:
    X, model = problem.features[procedure.see(problem)], procedure.make(problem)
    told = {"at": problem.at, "strata": problem.strata, "stations": problem.at["sensor_id"]}
    told = {name: table for name, table in told.items() if table is not None}
    fitting = {k: v.iloc[train] for k, v in told.items() if has_fit_parameter(model, k)}
    fitted = model.fit(X.iloc[train], problem.moisture[train], **fitting)
    knows = signature(fitted.predict).parameters
    asking = {k: v.iloc[test] for k, v in told.items() if k in knows}
    n_std = getattr(fitted, "width_", procedure.n_std)
    half = np.full(len(test), np.nan)
    if np.isfinite(n_std):
        predicted, std = fitted.predict(X.iloc[test], return_std=True, **asking)
        half = n_std * std
    else:
        predicted = fitted.predict(X.iloc[test], **asking)
    table = {
        "predicted_m3_m3": predicted,
        "lower_m3_m3": predicted - half,
        "upper_m3_m3": predicted + half,
        "chosen": choices(fitted),
    }
    return pd.DataFrame(table, index=test)


def choices(fitted) -> str:
    """What a fitted model chose inside its training rows, in words; "" where nothing."""
    if hasattr(fitted, "weights_") and isinstance(fitted.weights_, dict):
        return ", ".join(f"{name} {weight:.2f}" for name, weight in fitted.weights_.items())
    if isinstance(fitted, nested.Chosen):
        return f"penalty {fitted.model_.penalty:g}, reach {fitted.model_.reach_km:g} km"
    return ""


# ``python -m soilkit.experiments.contending reports/tabular_us_10day --table FILE --ismn FILE``.

MIN_WINDOWS = 20  # scored windows that give a station a score
SEEDS = (0, 1, 2, 3, 4)
ROWS = (COMPLETE, ALL)
MEASURES = ("r", "ubrmse_m3_m3", "rmse_m3_m3", "bias_m3_m3")
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
            found = predict_unseen(self.problem, procedure, rows=rows, seed=seed)
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

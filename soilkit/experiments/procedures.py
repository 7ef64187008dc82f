"""Procedures that predict the ten-day moisture of unseen blocks, each with what it may see.

None was tuned on the blocks that it is scored on: parameters are the models' own or stated here,
penalties, distances and weights of a blend are chosen by folds inside the training blocks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingRegressor
from sklearn.utils.validation import has_fit_parameter

from soilkit.errors import ContractError
from soilkit.export import antecedents, insitu, ten_day_table
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

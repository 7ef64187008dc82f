"""Systems of tables: what a model sees and trains on, its predictions, maps and files."""

import os
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from sklearn.ensemble import ExtraTreesRegressor

from soilkit.errors import CheckpointError, ContractError, UnknownNameError
from soilkit.export import antecedents, ten_day_table
from soilkit.models.tabular import ensembles, two_part
from soilkit.models.tabular.estimators import (
    ApiLinear,
    Scaling,
    SmapLinear,
    TextureForest,
    fit_rows,
    forest,
    refuse_parted,
    rows_for,
)
from soilkit.models.tabular.problem import Problem, problem_of_cube
from soilkit.models.tabular.support import NORMAL_90, Support, thin_support
from soilkit.models.training.checkpoint import read_plain, write_atomic
from soilkit.units import MAX_SOIL_MOISTURE_M3_M3

GIVEN, NOWCAST, RETROSPECTIVE = antecedents.GIVEN, antecedents.NOWCAST, antecedents.RETROSPECTIVE
NETWORK, LEAKY = "network", "leaky"
SCORED, LABELLED = "scored", "labelled"
NO_FOLD = (-1, "")


@dataclass(frozen=True)
class TabularSystem:
    """An estimator of tables as a system: the columns that it sees, and the rows that train it.

    Attributes
    ----------
    make : the unfitted estimator of a problem; keywords ``preset``, ``seed`` and options
    see : the columns of a problem
    kind : "given" (a row alone), "nowcast" (nothing after it), "retrospective" (the station's whole
        series of predictors), "network" (labels of other blocks at the same time too), or "leaky"
    trains_on : "scored", rows of the kind that is scored, or "labelled", every labelled row
    balances : whether it needs strata
    n_std : standard errors that should hold 90 %, of a model that tells them
    calibrated : whether its intervals come of their ``Support``
    options : of the estimator, unless ``train`` is told others
    """

    name: str
    make: Callable[..., Any]
    see: Callable[[Problem], list[str]] = attrgetter("given")
    kind: str = GIVEN
    trains_on: str = LABELLED
    balances: bool = False
    n_std: float = np.nan
    calibrated: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def train(
        self, data, split, *, preset="paper", seed=0, out_dir=None, rows=None, columns=None,
        **options,
    ) -> "TrainedTable":  # fmt: skip
        """Train on the samples labelled "train", or once a fold on the samples of the others.

        Raises ``ContractError`` if strata are needed and missing, or no row trains, and
        ``LeakageError`` if folds part a station, but for a system of kind "leaky".

        Parameters
        ----------
        data : dataset folder, tables of one (stations, samples, features), or ``Problem``
        split : Series (row,) of "train" and other labels; or the fold that holds each sample out,
            -1 for none: its name is that of the split
        preset : "paper" or "small"
        out_dir : folder that the model is saved to
        rows : bool array (row,), rows that are scored; None takes all with a label
        columns : predictors to see instead of the system's own
        options : of the estimator
        """
        problem = Problem.of(data)
        if preset not in ("paper", "small"):
            raise UnknownNameError(f"A preset is 'paper' or 'small', found {preset!r}.")
        if self.balances and problem.strata is None:
            raise ContractError(
                f"{self.name} balances strata: name the in-situ archive that tells them (--ismn)."
            )
        columns = list(columns or self.see(problem))
        X, y, values = _inputs(problem, self.kind, columns), problem.moisture, np.asarray(split)
        values = pd.Series(values, dtype=object)
        trains, dealt = np.isfinite(y), ~values.isin(NO_FOLD).to_numpy()
        if self.trains_on == SCORED and rows is not None:
            trains = trains & rows
        model = self.make(problem, preset=preset, seed=seed, **{**self.options, **options})
        by_fold, models, supports = not (values == "train").any(), {}, {}
        if by_fold and self.kind != LEAKY:
            refuse_parted(problem.samples["station_id"][dealt], values[dealt])
        for fold in sorted(set(values[dealt])) if by_fold else ["train"]:
            use = dealt & (values != fold) if by_fold else values == fold
            use = np.flatnonzero(use & trains)
            if not len(use):
                raise ContractError(f"No labelled sample is left to train {self.name} on.")
            models[fold] = fitted = fit_rows(model, X, y=y, rows=use, tables=problem.tables())
            if "n_jobs" in fitted.get_params():  # threads would add up trees in any order
                fitted.set_params(n_jobs=1)
            if self.calibrated:
                see = partial(_inputs, kind=self.kind, columns=columns)
                supports[fold] = Support.of(fitted, problem, inputs=see, use=use, kind=self.kind)
        name = str(getattr(split, "name", None) or "folds") if by_fold else ""
        of_sample = pd.Series(values.array, problem.samples["sample_id"].astype(str).array)
        trained = TrainedTable(
            self.name, self.kind, columns, models, of_sample, name, self.n_std, supports
        )
        if out_dir is not None:
            slug = re.sub(r"[^a-z0-9]+", "_", self.name.lower()).strip("_")
            trained.save(Path(out_dir) / f"{slug}.pt")
        return trained

    def named(self, name: str) -> "TabularSystem":
        """The same system under another name."""
        return replace(self, name=name)


@dataclass
class TrainedTable:
    """A trained system of tables.

    Attributes
    ----------
    columns : list of str, the predictors that it saw
    models : dict of fold, or "train", to the fitted estimator
    labels : Series (sample_id,) of parts or folds, the split that it was trained with
    split_name : str, the name of folds; "" for labels
    """

    name: str
    kind: str
    columns: list[str]
    models: dict[Any, Any]
    labels: pd.Series
    split_name: str = ""
    n_std: float = np.nan
    supports: dict[Any, Any] = field(default_factory=dict)

    def predict(self, data, *, rows=None) -> pd.DataFrame:
        """A predictions table of the samples, those of folds by models that never saw theirs.

        Beside the contract stand, where the model was calibrated, ``lower_m3_m3`` and
        ``upper_m3_m3``, which hold 90 % of a new block's rows. ``rows``, a bool array (row,), asks
        for some only. Raises ``ContractError`` if folds were trained and no sample stands in one.
        """
        problem = Problem.of(data)
        answers = pd.concat(
            [self._answer(problem, *part) for part in self._parts(problem, rows)]
        ).sort_index()
        samples = problem.samples.assign(soil_moisture_m3_m3=problem.moisture).loc[answers.index]
        labels = self.parts_of(problem.samples)[answers.index].astype(object).fillna("unknown")
        if "windows" in answers and (words := thin_support(answers[labels == "unknown"])):
            warnings.warn(f"{self.name}: {words}", stacklevel=2)
        table = ten_day_table.predictions_table(
            samples, problem.stations, predicted=answers["mean"], model=self.name,
            split=self.split_name or labels.astype(str),
            std=answers["std"] if answers["std"].notna().any() else None,
        )  # fmt: skip
        if answers["upper"].notna().all():
            ends = answers[["lower", "upper"]].clip(0.0, MAX_SOIL_MOISTURE_M3_M3)
            table[["lower_m3_m3", "upper_m3_m3"]] = ends.to_numpy()
        return table

    def parts_of(self, table: pd.DataFrame) -> pd.Series:
        """The part or fold (row,) that training saw the samples of a table in, NaN in none."""
        ids = table["sample_id"].astype(str)
        if len(ids) == len(self.labels) and (ids.array == self.labels.index.array).all():
            return self.labels.set_axis(ids.index)
        return ids.map(self.labels)

    def predict_members(self, data, *, rows=None) -> pd.DataFrame:
        """What each member of an ensemble says of the samples (row, member), m3 m-3."""
        problem, parts = Problem.of(data), []
        for X, asked, fitted, _ in self._parts(problem, rows):
            beside = rows_for(fitted.predict_members, problem.tables(), rows=asked)
            parts.append(fitted.predict_members(X.iloc[asked], **beside))
        return pd.concat(parts).sort_index()

    def choices(self) -> pd.DataFrame:
        """What was chosen inside training, one row a fold: ``chosen`` in words, and the numbers."""
        lines = {}
        for fold, fitted in self.models.items():
            line = {"chosen": chosen(fitted)}
            if isinstance(fitted, two_part.Chosen):
                line |= {k: getattr(fitted.model_, k) for k in ("penalty", "reach_km")}
            lines[fold] = line
        return pd.DataFrame(lines).T.rename_axis("fold")

    def map(self, cube: xr.Dataset) -> xr.Dataset:
        """Soil moisture of every cell of a cube whose variables are the predictors.

        A cell is a station without a probe, so that context in time works on a cube with times. The
        cube, (y, x) or (time, y, x), has a variable a predictor or characteristic, and
        ``latitude``, ``longitude`` (y, x), or ``x``, ``y`` [m] and ``crs`` with a ``code``. The
        Dataset has ``soil_moisture`` and, where the model states one, ``soil_moisture_std``, m3
        m-3.
        """
        if self.split_name:
            raise ContractError(f"{self.name} was trained once a fold; a map wants one model.")
        problem, dims = problem_of_cube(cube)
        made = self.predict(problem)
        shape, coords = tuple(cube.sizes[d] for d in dims), {d: cube.coords[d] for d in dims}
        names = {"predicted_m3_m3": "soil_moisture", "predicted_std_m3_m3": "soil_moisture_std"}
        maps = {
            new: (dims, made[old].to_numpy().reshape(shape), {"units": "m3 m-3"})
            for old, new in names.items()
            if old in made
        }
        return xr.Dataset(maps, coords, {"model": self.name})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model whole or not at all; ``load_trained`` reads it.

        Trees are scikit-learn's: only the same version of it is sure to read them. Raises
        ``StoreError`` when the disk refuses; what stood at ``path`` still stands.
        """
        plain = replace(self, labels=self.labels.to_dict())
        write_atomic(path, plain, kind=KIND, version=FORMAT_VERSION)

    def _parts(self, problem, rows):
        """Predictors, positions of rows, and the model that answers for them."""
        asked = np.ones(len(problem.samples), bool) if rows is None else np.asarray(rows)
        labels = self.parts_of(problem.samples).to_numpy()
        X, parts = _inputs(problem, self.kind, self.columns), []
        for fold, fitted in self.models.items():
            part = np.flatnonzero(asked & (labels == fold) if self.split_name else asked)
            parts += [(X, part, fitted, self.supports.get(fold))] if len(part) else []
        if not parts:
            raise ContractError(
                f"{self.name} was trained once a fold and no sample asked stands in one: "
                "give the data that it was trained with, or train it with labels."
            )
        return parts

    def _answer(self, problem, X, asked, fitted, support) -> pd.DataFrame:
        """Mean, standard error and 90 % interval (row,) of some rows, and their support."""
        rows = asked
        if support is not None:  # a station's mean is over all its rows, asked or not
            sensor = problem.at["sensor_id"]
            rows = np.flatnonzero(sensor.isin(sensor.iloc[asked]))
        X = X.iloc[rows]
        beside = rows_for(fitted.predict, problem.tables(), rows=rows)
        std = np.nan
        if np.isfinite(self.n_std):
            mean, std = fitted.predict(X, return_std=True, **beside)
        else:
            mean = fitted.predict(X, **beside)
        if support is not None:
            return support.answer(mean, problem, rows=rows).loc[asked]
        half = self.n_std * std
        ends = {"lower": mean - half, "upper": mean + half}
        return pd.DataFrame({"mean": mean, "std": std, **ends}, index=asked)


def _inputs(problem: Problem, kind: str, columns: list[str]) -> pd.DataFrame:
    table = problem.features if kind in (GIVEN, LEAKY) else problem.wide.features
    return table.reindex(columns=columns)


def chosen(fitted) -> str:
    """What a fitted model chose inside its training rows, in words; "" where nothing."""
    if isinstance(fitted, two_part.Blend):
        return ", ".join(f"{name} {weight:.2f}" for name, weight in fitted.weights_.items())
    if isinstance(fitted, two_part.Chosen):
        return f"penalty {fitted.model_.penalty:g}, reach {fitted.model_.reach_km:g} km"
    return ""


# The systems themselves.

TREES, MEMBERS = {"paper": 300, "small": 40}, {"paper": 3, "small": 2}


def extra_trees(n_trees: int = 100, *, seed: int = 0) -> ExtraTreesRegressor:
    """Extremely random trees, leaves of five rows, 30 % of predictors a split."""
    return ExtraTreesRegressor(
        n_trees, min_samples_leaf=5, max_features=0.3, n_jobs=1, random_state=seed
    )


def _forest(_, *, preset, seed, n_trees=None, n_jobs=2):
    return forest(seed=seed, n_trees=n_trees or TREES[preset], n_jobs=n_jobs)


def _network(kind):
    def make(_, *, preset, seed, **options):
        return kind(**{"n_members": MEMBERS[preset], "seed": seed} | options)

    return make


def _texture_forest(_, *, preset, seed, n_trees=None):
    return TextureForest(n_trees=n_trees or TREES[preset] // 3, seed=seed)


def _two_parts(kind: str, *, network: bool = False):
    """The two parts whose penalty, and reach with ``network``, inner folds choose.

    A small preset chooses nothing: it takes the middle value of each.
    """

    def make(problem, *, preset, seed):
        stages: list[Any] = [two_part.PENALTIES, two_part.REACHES_KM][: 1 + network]
        if preset == "small":
            stages = [(name, values[1:2]) for name, values in stages]
        return two_part.Chosen(two_part.two_part(problem.wide, kind), tuple(stages), seed=seed)

    return make


def _blend(*, network: bool = False):
    """Retrospective parts, and extremely random trees for the dynamics, weighed by inner folds."""

    def make(problem, *, preset, seed):
        ridge = _two_parts(RETROSPECTIVE, network=network)(problem, preset=preset, seed=seed)
        learner = extra_trees(TREES[preset] // 3, seed=seed)
        trees = two_part.two_part(problem.wide, RETROSPECTIVE, learner=learner)
        return two_part.Blend([("two parts", ridge), ("trees", trees)], seed=seed)

    return make


def _first_of_smap(problem: Problem) -> list[str]:
    return ten_day_table.predictor_sets(problem.features).get("SMAP", problem.given)[:1]


_of_series = partial(
    TabularSystem, see=lambda problem: problem.wide.columns["column"].tolist(), calibrated=True
)
SYSTEMS = {
    system.name: system
    for system in (
        TabularSystem(
            "SMAP line", lambda _, preset, seed: SmapLinear(), _first_of_smap, trains_on=SCORED
        ),
        TabularSystem("forest: all", _forest, trains_on=SCORED),
        TabularSystem("dense ensemble", _network(ensembles.DenseEnsemble), calibrated=True),
        TabularSystem("prob ensemble", _network(ensembles.ProbEnsemble), n_std=NORMAL_90),
        TabularSystem(
            "wide and deep ensemble", _network(ensembles.WideDeepEnsemble), balances=True
        ),
        TabularSystem("texture forest", _texture_forest, balances=True),
        _of_series("two parts: nowcast", _two_parts(NOWCAST), kind=NOWCAST),
        _of_series("two parts: retrospective", _two_parts(RETROSPECTIVE), kind=RETROSPECTIVE),
        _of_series("two parts: network", _two_parts(RETROSPECTIVE, network=True), kind=NETWORK),
        _of_series("blend: retrospective", _blend(), kind=RETROSPECTIVE),
        _of_series("blend: network", _blend(network=True), kind=NETWORK),
    )
}


# Trained systems on disk, as checkpoints are.

KIND, FORMAT_VERSION = "soilkit table", 3
# What a file may hold without running code: our own models, arrays and numbers.
SAFE: list[Any] = [
    TrainedTable, Support, ensembles.DenseEnsemble, ensembles.ProbEnsemble,
    ensembles.WideDeepEnsemble, ApiLinear, Scaling, SmapLinear, two_part.GapRidge,
    two_part.Neighbours, two_part.TwoPart, two_part.Chosen, np.ndarray, np.dtype,
    np.array(0).__reduce__()[0], np.int64(0).__reduce__()[0],
    *(type(np.dtype(kind)) for kind in (bool, int, float, object)),
]  # fmt: skip


def load_trained(path: str | os.PathLike[str], *, allow_pickle: bool = False) -> TrainedTable:
    """Read what ``TrainedTable.save`` wrote; it predicts as the saved one did.

    Raises ``CheckpointError`` when the file is absent, damaged, of another format version, or holds
    what is not allowed.

    Parameters
    ----------
    allow_pickle : bool, needed for trees, whose reading runs what the file holds; allow it only for
        files that you trust
    """
    with torch.serialization.safe_globals(SAFE):
        trained = read_plain(path, kind=KIND, version=FORMAT_VERSION, allow_pickle=allow_pickle)
    if not isinstance(trained, TrainedTable):
        raise CheckpointError(
            f"{path} holds a {type(trained).__name__}, no trained system of tables. Name a file of "
            "TrainedTable.save."
        )
    return replace(trained, labels=pd.Series(trained.labels, dtype=object))

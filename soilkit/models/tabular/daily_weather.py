"""Systems for daily moisture from weather alone, and every day predicted out of fold."""

from dataclasses import replace

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingRegressor

from soilkit import metrics
from soilkit.export.antecedents import CAPACITIES_MM
from soilkit.export.daily_table import DailyWeather
from soilkit.models.tabular.estimators import SEASON, ApiLinear, forest, refuse_parted
from soilkit.models.tabular.problem import Problem
from soilkit.models.tabular.systems import SCORED, TabularSystem
from soilkit.models.tabular.two_part import TwoPart

API, API_SEASON, CLIMATOLOGY = "API linear", "API and season", "training climatology"
BUCKET = "bucket linear"
BOOSTED, FOREST, TWO_PARTS, BLEND = "boosted trees", "forest", "two parts", "mean of three"
SPLIT = "by block"
SLOW = ("_mean_so_far", "dryness_so_far", "elevation_m")


def _boosted(_, *, preset, seed):
    return HistGradientBoostingRegressor(
        max_iter=200, learning_rate=0.05, min_samples_leaf=50, random_state=seed
    )


def _forest(_, *, preset, seed, n_trees=100):
    return forest(seed=seed, n_trees=n_trees, n_jobs=1)


def _two_parts(problem: Problem, *, preset, seed) -> TwoPart:
    """The climate so far and elevation tell level and spread, everything else dynamics."""
    names = predictors(problem.features)
    slow = tuple(c for c in names if c.endswith(SLOW))
    return TwoPart(tuple(c for c in names if c not in slow), slow, slow)


def _indices(problem: Problem) -> list[str]:
    return [c for c in problem.features if c.startswith("api_")] + SEASON


def _known(problem: Problem) -> list[str]:
    """Predictors with a value in some training row: a tree cannot split on what nobody knows."""
    return [c for c in predictors(problem.features) if problem.features[c].notna().any()]


# The yardstick, a harder one, the water balance alone, and what learns.
SYSTEMS = (
    TabularSystem(API, lambda _, **rest: ApiLinear(), _indices, trains_on=SCORED),
    TabularSystem(API_SEASON, lambda _, **rest: ApiLinear(season=True), _indices, trains_on=SCORED),
    TabularSystem(
        BUCKET, lambda _, **rest: ApiLinear(), lambda _: [f"bucket_{c:.0f}" for c in CAPACITIES_MM],
        trains_on=SCORED,
    ),
    TabularSystem(BOOSTED, _boosted, _known, trains_on=SCORED),
    TabularSystem(FOREST, _forest, _known, trains_on=SCORED),
    TabularSystem(TWO_PARTS, _two_parts, lambda p: predictors(p.features), trains_on=SCORED),
)  # fmt: skip


def predictors(features: pd.DataFrame) -> list[str]:
    """Every column that a model may see."""
    return [c for c in features if c != "sample_id"]


def block_folds(data: DailyWeather, *, n_folds: int = 5, seed: int = 0) -> pd.DataFrame:
    """Of each row the ``block`` of 2 degrees and the ``fold`` that holds the block out."""
    problem = Problem.of(data)
    every = np.ones(len(problem.samples), bool)
    fold = problem.folds(every, n_folds=n_folds, seed=seed)
    return pd.DataFrame({"block": problem.at["block"], "fold": fold})


def thinned(samples: pd.DataFrame, every_days: int) -> np.ndarray:
    """Each station's every so many-th day, staggered over stations: the rows that train."""
    day = samples["time"].to_numpy().astype("datetime64[D]").astype(int)
    return (day + pd.factorize(samples["station_id"])[0]) % every_days == 0


def predict_days(
    data: DailyWeather, folds: pd.DataFrame, *, every_days: int = 10, seed: int = 0, n_trees=100
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every day of every station, predicted by models that saw none of its block.

    All models train on the same thinned rows. The blend is the plain mean of boosted trees, forest
    and two parts. Raises ``LeakageError`` if a station stands in two folds.

    Returns
    -------
    predictions of all models, and a table of each fold: ``fold, train_stations, train_rows,
    test_stations, test_rows, decay``
    """
    problem, fold = Problem.of(data), folds["fold"]
    refuse_parted(data.samples["station_id"].astype(str), fold)
    of_days = thinned(data.samples, every_days)
    parts: dict[str, list] = {name: [] for name in (CLIMATOLOGY, *(s.name for s in SYSTEMS))}
    lines = []
    for number in np.unique(fold):
        test, decay = (fold == number).to_numpy(), np.nan
        train = ~test & of_days
        split = pd.Series(np.where(test, "test", "train"))
        seen = replace(problem, features=problem.features[train])
        for system in SYSTEMS:
            options = {"n_trees": n_trees} if system.name == FOREST else {}
            options["columns"] = system.see(seen)
            trained = system.train(problem, split, seed=seed, rows=of_days, **options)
            parts[system.name].append(trained.predict(problem, rows=test))
            if system.name == API:
                decay = int(trained.models["train"].column_.removeprefix("api_")) / 100
        asked = data.samples[test].assign(observed_m3_m3=np.nan, model="")
        season = metrics.training_climatology(asked, data.samples[train], model=CLIMATOLOGY)
        season = season["predicted_m3_m3"].to_numpy()
        parts[CLIMATOLOGY].append(parts[API][-1].assign(predicted_m3_m3=season, model=CLIMATOLOGY))
        counts = (data.samples.loc[rows, "station_id"].nunique() for rows in (train, test))
        lines.append((number, train.sum(), test.sum(), *counts, decay))
    tables = {k: pd.concat(part).sort_index().assign(split=SPLIT) for k, part in parts.items()}
    mean = np.mean([tables[k]["predicted_m3_m3"] for k in (BOOSTED, FOREST, TWO_PARTS)], axis=0)
    tables[BLEND] = tables[API].assign(predicted_m3_m3=mean, model=BLEND)
    columns = ["fold", "train_rows", "test_rows", "train_stations", "test_stations", "decay"]
    return pd.concat(tables, ignore_index=True), pd.DataFrame(lines, columns=columns)

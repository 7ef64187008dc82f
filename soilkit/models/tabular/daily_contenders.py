"""Who competes for daily moisture from weather, and how every day is predicted out of fold."""

from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.utils.validation import check_is_fitted

from soilkit import metrics
from soilkit.errors import ContractError, LeakageError
from soilkit.export import ten_day_table
from soilkit.export.antecedents import CAPACITIES_MM
from soilkit.export.daily_table import DailyWeather
from soilkit.metrics import splits
from soilkit.models.tabular.forests import cross_folds, forest
from soilkit.models.tabular.two_part import TwoPart, places
from soilkit.units import MAX_SOIL_MOISTURE_M3_M3

API, API_SEASON, CLIMATOLOGY = "API linear", "API and season", "training climatology"
BUCKET = "bucket linear"
BOOSTED, FOREST, TWO_PARTS, BLEND = "boosted trees", "forest", "two parts", "mean of three"
SPLIT = "by block"
SEASON = ["season_sin", "season_cos"]
SLOW = ("_mean_so_far", "dryness_so_far", "elevation_m")


class ApiLinear(RegressorMixin, BaseEstimator):
    """Moisture as a straight line of one antecedent precipitation index, the yardstick.

    Of the indices offered, one a decay, it takes that with the highest mean correlation within
    training stations; the line is least squares over all training rows.

    Parameters
    ----------
    season : bool; True adds the season and its products with the index, with slopes fitted within
        stations, so that wet places do not set how a place answers to rain: a harder yardstick

    Attributes
    ----------
    column_ : str, the index taken
    mean_r_ : Series, mean correlation within training stations by index
    """

    def __init__(self, season: bool = False) -> None:
        self.season = season

    def fit(self, X: pd.DataFrame, y, *, stations):
        """Fit on X (row, index or season), moisture y (row,) [m3 m-3] and station ids (row,)."""
        y, codes = np.asarray(y, dtype=float), pd.factorize(np.asarray(stations))[0]
        self.mean_r_ = pd.Series(
            {c: _mean_r(X[c].to_numpy(float), y, codes) for c in X if c not in SEASON}
        )
        if self.mean_r_.isna().all():
            raise ContractError("No index varies within a training station: no decay can be told.")
        self.column_ = str(self.mean_r_.idxmax())
        design = self._design(X)
        middle = design.mean(axis=0)
        moving, moist = design - middle, y - y.mean()
        if self.season:
            n = np.bincount(codes)
            means = [(np.bincount(codes, v) / n)[codes] for v in (*moving.T, moist)]
            moving, moist = moving - np.column_stack(means[:-1]), moist - means[-1]
        self.slope_ = np.linalg.lstsq(moving, moist)[0]
        self.intercept_ = float(y.mean() - middle @ self.slope_)
        return self

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """Moisture (row,), m3 m-3, between dry and pure water: a hurricane's rain is beyond."""
        check_is_fitted(self)
        moisture = self.intercept_ + self._design(X) @ self.slope_
        return np.clip(moisture, 0.0, MAX_SOIL_MOISTURE_M3_M3)

    def _design(self, X) -> np.ndarray:
        index = X[[self.column_]].to_numpy(float)
        if not self.season:
            return index
        circle = X[SEASON].to_numpy(float)
        return np.hstack([index, circle, index * circle])


def _mean_r(x, y, codes) -> float:
    n = np.maximum(np.bincount(codes), 1)
    dx, dy = (v - (np.bincount(codes, v) / n)[codes] for v in (x, y))
    both, of_x, of_y = (np.bincount(codes, v) for v in (dx * dy, dx * dx, dy * dy))
    there = (of_x > 1e-12) & (of_y > 1e-12)
    return float(np.mean(both[there] / np.sqrt(of_x * of_y)[there])) if there.any() else np.nan


def models(features: pd.DataFrame, *, seed: int = 0, n_trees: int = 100) -> dict[str, Any]:
    """The models, unfitted, by name; nothing in them was chosen on a score of theirs.

    ``BUCKET`` is the yardstick's line through one of the buckets: it shows how much of a gain is
    the water balance alone. Boosted trees are scikit-learn's histogram booster. The two parts take
    the climate so far and elevation for level and spread, everything else for dynamics.
    """
    own = [c for c in predictors(features) if c.endswith(SLOW)]
    moving = [c for c in predictors(features) if c not in own]
    boosted = HistGradientBoostingRegressor(
        max_iter=200, learning_rate=0.05, min_samples_leaf=50, random_state=seed
    )
    trees = forest(seed=seed, n_trees=n_trees, n_jobs=1)
    return {
        API: ApiLinear(),
        API_SEASON: ApiLinear(season=True),
        BUCKET: ApiLinear(),
        BOOSTED: boosted,
        FOREST: trees,
        TWO_PARTS: TwoPart(tuple(moving), tuple(own), tuple(own)),
    }


def predictors(features: pd.DataFrame) -> list[str]:
    """Every column that a model may see."""
    return [c for c in features if c != "sample_id"]


def block_folds(data: DailyWeather, *, n_folds: int = 5, seed: int = 0) -> pd.DataFrame:
    """Of each row the ``block`` of 2 degrees and the ``fold`` that holds the block out."""
    own = data.stations.set_index(data.stations["station_id"].astype(str))
    block = data.samples["station_id"].astype(str).map(splits.block_ids(own)).to_numpy()
    fold = cross_folds(np.zeros(len(block)), groups=block, n_folds=n_folds, seed=seed)
    return pd.DataFrame({"block": block, "fold": fold})


def thinned(samples: pd.DataFrame, every_days: int) -> np.ndarray:
    """Each station's every so many-th day, staggered over stations: the rows that train."""
    day = samples["time"].to_numpy().astype("datetime64[D]").astype(int)
    return (day + pd.factorize(samples["station_id"])[0]) % every_days == 0


def predict_days(
    data: DailyWeather, folds: pd.DataFrame, *, every_days: int = 10, seed: int = 0, n_trees=100
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every day of every station, predicted by models that saw none of its block.

    All models train on the same thinned rows. The blend is the plain mean of boosted trees, forest
    and two parts.

    Returns
    -------
    predictions of all models, and a table of each fold: ``fold, train_stations, train_rows,
    test_stations, test_rows, decay``

    Raises
    ------
    LeakageError
        If a station stands in two folds.
    """
    station = data.samples["station_id"].astype(str).to_numpy()
    parted = folds["fold"].groupby(station).nunique()
    if (parted > 1).any():
        raise LeakageError(
            f"{int((parted > 1).sum())} stations stand in two folds, so they train the model that "
            "predicts them. Deal out folds by block_folds."
        )
    at = places(data.samples, data.stations, blocks=folds["block"].to_numpy())
    of_days, fold = thinned(data.samples, every_days), folds["fold"].to_numpy()
    candidates = models(data.features, seed=seed, n_trees=n_trees)
    out = {name: np.full(len(station), np.nan) for name in (*candidates, CLIMATOLOGY)}
    told = []
    for number in np.unique(fold):
        test = fold == number
        train = ~test & of_days
        decay = _fill(out, candidates, data, rows=(train, test), at=at)
        counts = (pd.Series(station[k]).nunique() for k in (train, test))
        told.append((number, train.sum(), test.sum(), *counts, decay))
    out[BLEND] = np.mean([out[name] for name in (BOOSTED, FOREST, TWO_PARTS)], axis=0)
    columns = ["fold", "train_rows", "test_rows", "train_stations", "test_stations", "decay"]
    return _table(data, out), pd.DataFrame(told, columns=columns)


def _fill(out, candidates, data, *, rows, at) -> float:
    """Fit every model on training rows, write its predictions of test rows; the decay chosen."""
    train, test = rows
    y = data.samples["soil_moisture_m3_m3"].to_numpy()
    seen = data.features[predictors(data.features)]
    index = [c for c in seen if c.startswith("api_")] + SEASON
    buckets = [f"bucket_{c:.0f}" for c in CAPACITIES_MM]
    known = seen.columns[seen[train].notna().any()]  # a tree cannot split on what nobody knows
    station = data.samples["station_id"].to_numpy(str)
    decay = np.nan
    for name, model in candidates.items():
        fitted = clone(model)
        if isinstance(model, ApiLinear):
            offered = seen[buckets if name == BUCKET else index]
            fitted.fit(offered[train], y[train], stations=station[train])
            out[name][test] = fitted.predict(offered[test])
            if name == API:
                decay = int(fitted.column_.removeprefix("api_")) / 100
        elif name == TWO_PARTS:
            fitted.fit(seen[train], y[train], at=at[train])
            out[name][test] = fitted.predict(seen[test], at=at[test])
        else:
            fitted.fit(seen.loc[train, known], y[train])
            out[name][test] = fitted.predict(seen.loc[test, known])
    asked = data.samples[test].assign(observed_m3_m3=y[test], model="")
    season = metrics.training_climatology(asked, data.samples[train], model=CLIMATOLOGY)
    out[CLIMATOLOGY][test] = season["predicted_m3_m3"].to_numpy()
    return decay


def _table(data, out) -> pd.DataFrame:
    order = (CLIMATOLOGY, API, API_SEASON, BUCKET, BOOSTED, FOREST, TWO_PARTS, BLEND)
    parts = [
        ten_day_table.predictions_table(
            data.samples, data.stations, predicted=out[name], model=name, split=SPLIT
        )
        for name in order
    ]
    return pd.concat(parts, ignore_index=True)

"""What an estimator of tables takes; straight lines, forests, one forest a soil texture."""

import warnings
from collections.abc import Iterator, Mapping
from inspect import signature
from numbers import Number
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.ensemble import RandomForestRegressor
from sklearn.utils.validation import check_is_fitted, validate_data

from soilkit.errors import ContractError, LeakageError, UnitError
from soilkit.metrics import splits
from soilkit.metrics.points import pearson_r
from soilkit.units import MAX_SOIL_MOISTURE_M3_M3


class NanTolerant(RegressorMixin, BaseEstimator):
    """A regressor that takes NaN predictors and refuses infinite ones."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def _training_rows(self, X, y):
        """Checked predictors (row, predictor) and target (row,), floats; their names are recorded.

        Raises ``ContractError`` if a predictor is infinite, and ``UnitError`` if the target exceeds
        ``target_max``, as moisture in percent does.
        """
        X, y = validate_data(self, X, y, ensure_all_finite=False, y_numeric=True, dtype=np.float64)
        _refuse_infinite(self, X)
        limit = self.target_max
        if limit is not None and np.max(y) > limit:
            raise UnitError(
                f"The target reaches {np.max(y):.4g}; soil moisture in m3 m-3 stays below "
                f"{limit:g}. If it is percent, divide by 100; for another target set "
                "target_max=None."
            )
        return X, y

    def _new_rows(self, X) -> np.ndarray:
        """Checked predictors (row, predictor) of a fitted model, floats."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, ensure_all_finite=False, dtype=np.float64)
        _refuse_infinite(self, X)
        return X


def _column_names(model, chosen: np.ndarray) -> str:
    """The chosen predictors by name, or by number where a model knows no names."""
    names = getattr(model, "feature_names_in_", np.arange(len(chosen)))
    return ", ".join(str(name) for name in names[chosen])


def _refuse_infinite(model, X: np.ndarray) -> None:
    infinite = np.isinf(X)
    if infinite.any():
        raise ContractError(
            f"{int(infinite.sum())} values are infinity in predictor "
            f"{_column_names(model, infinite.any(axis=0))}. Write missing values as NaN."
        )


class Scaling(NamedTuple):
    """Training statistics (predictor,) that bring predictors to mean zero and deviation one.

    Attributes
    ----------
    center, scale : mean and standard deviation over the known values
    varies : bool; a predictor that never varied in training enters as zero ever after
    flagged : bool; missing in some training rows but not in all: an input of its own says so
    """

    center: np.ndarray
    scale: np.ndarray
    varies: np.ndarray
    flagged: np.ndarray

    @classmethod
    def of(cls, X: np.ndarray) -> "Scaling":
        """The statistics of training rows X (row, predictor)."""
        missing = np.isnan(X)
        known = ~missing.all(axis=0)
        center, spread = np.zeros(X.shape[1]), np.zeros(X.shape[1])
        center[known] = np.nanmean(X[:, known], axis=0)
        spread[known] = np.nanstd(X[:, known], axis=0)
        varies = spread > 1e-9 * np.abs(center)  # rounding gives a constant some deviation
        return cls(center, np.where(varies, spread, 1.0), varies, missing.any(axis=0) & known)

    def standard(self, X: np.ndarray) -> np.ndarray:
        """Predictors (row, predictor) in standard deviations; 0 where missing or constant."""
        return np.where(np.isnan(X) | ~self.varies, 0.0, (X - self.center) / self.scale)

    def inputs(self, X: np.ndarray) -> np.ndarray:
        """Network inputs (row, predictor + flag), float32."""
        flags = np.isnan(X[:, self.flagged])
        return np.hstack([self.standard(X), flags]).astype(np.float32)

    def warn_of_constants(self, model) -> None:
        """Tell which predictors are constant in training, and so have no effect."""
        constant = ~self.varies
        if constant.any():
            warnings.warn(
                f"{int(constant.sum())} of {len(constant)} predictors never vary in training and "
                f"have no effect: {_column_names(model, constant)}",
                stacklevel=4,
            )


# Classes of static characteristics, which members balance.

UNKNOWN = ""
# Numbers in these columns are codes of classes, not amounts.
CODED = ("texture", "koeppen", "land_cover")
N_BINS = 5  # classes that an amount among the strata falls into


def matching_strata(strata, X, *, columns=None) -> pd.DataFrame:
    """The strata as a table whose rows are those of X; with ``columns``, these alone.

    Raises ``ContractError`` if rows do not match, no column is there, or a wanted one is missing.
    """
    strata = pd.DataFrame(strata)
    if len(strata) != len(X):
        raise ContractError(
            f"strata has {len(strata)} rows for {len(X)} rows of predictors. "
            "Give the characteristics of each row, in the same order."
        )
    if isinstance(X, pd.DataFrame) and not X.index.equals(strata.index):
        raise ContractError(
            "strata and predictors have different indices. Reset both, or select the same rows."
        )
    lacking = [name for name in columns or () if name not in strata.columns]
    if lacking or not len(strata.columns):
        raise ContractError(
            f"strata lacks {', '.join(map(str, lacking)) or 'every characteristic'}; "
            f"it has {', '.join(map(str, strata.columns)) or 'no column'}."
        )
    return (strata if columns is None else strata[list(columns)]).rename(columns=str)


def learn_bins(strata: pd.DataFrame) -> dict[str, list[float] | None]:
    """Inner edges of equal-width bins for each column of amounts, None for a column of classes.

    Bins are of equal width between the least and the greatest value in training: bins of equal
    counts would leave nothing to balance. Columns named texture, koeppen or land_cover hold classes
    even where these are numbers.
    """
    edges: dict[str, list[float] | None] = {}
    for name, column in strata.items():
        edges[str(name)] = None
        if pd.api.types.is_numeric_dtype(column) and name not in CODED:
            known = column[np.isfinite(column)]
            low, high = (known.min(), known.max()) if len(known) else (0.0, 1.0)
            edges[str(name)] = np.linspace(low, high, N_BINS + 1)[1:-1].tolist()
    return edges


def as_classes(strata: pd.DataFrame, bins: Mapping[str, list[float] | None]) -> pd.DataFrame:
    """Class names (row, characteristic); an empty name where the characteristic is unknown."""
    classes = {}
    for name, edges in bins.items():
        column = strata[name]
        if edges is None:
            codes, values = pd.factorize(column, use_na_sentinel=True)
            names = [f"{v:g}" if isinstance(v, Number) else str(v) for v in values]
        else:
            values = column.to_numpy(float)
            codes = np.where(np.isfinite(values), np.searchsorted(edges, values, side="right"), -1)
            names = [str(k) for k in range(len(edges) + 1)]
        classes[name] = np.array([*names, UNKNOWN], dtype=object)[codes]  # code -1 is the last
    return pd.DataFrame(classes, index=strata.index)


# The yardsticks: straight lines, and the random forest of the ten-day baselines.

SEASON = ["season_sin", "season_cos"]


class SmapLinear(NanTolerant):
    """A straight line from the first predictor, a coarse product, to in-situ moisture.

    moisture = intercept_ + slope_ * x, by least squares over the training rows that have both. It
    corrects the product's unit and its mean wetness once for all stations, nothing more. A row
    without the product gets the training mean.

    Examples
    --------
    >>> line = SmapLinear().fit(np.array([[0.0], [10.0], [np.nan]]), np.array([0.1, 0.3, 0.2]))
    >>> line.predict(np.array([[5.0], [20.0], [np.nan]])).round(2)
    array([0.2, 0.5, 0.2])
    """

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True  # one column of many explains little
        return tags

    def fit(self, X, y):
        """Fit on X (row, predictor) and moisture y (row,), m3 m-3; returns itself."""
        X, y = validate_data(self, X, y, ensure_all_finite="allow-nan", y_numeric=True)
        product = X[:, 0].astype(float)
        known = np.isfinite(product)
        self.mean_ = float(np.mean(y))
        self.slope_, self.intercept_ = 0.0, self.mean_
        if known.any() and np.ptp(product[known]) > 0:
            self.slope_, self.intercept_ = map(float, np.polyfit(product[known], y[known], 1))
        return self

    def predict(self, X):
        """Moisture (row,), m3 m-3, of X (row, predictor)."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, ensure_all_finite="allow-nan")
        line = self.intercept_ + self.slope_ * X[:, 0].astype(float)
        return np.where(np.isfinite(line), line, self.mean_)


class ApiLinear(RegressorMixin, BaseEstimator):
    """Moisture as a straight line of one antecedent precipitation index, the daily yardstick.

    Of the indices offered, one a decay, it takes that with the highest mean correlation within
    training stations (``column_``); the line is least squares over all training rows. With
    ``season`` it adds the season and its products with the index, with slopes fitted within
    stations, so that wet places do not set how a place answers to rain: a harder yardstick.
    """

    def __init__(self, season: bool = False) -> None:
        self.season = season

    def fit(self, X: pd.DataFrame, y, *, stations):
        """Fit on X (row, index or season), moisture y (row,) [m3 m-3] and station ids (row,)."""
        y, codes = np.asarray(y, dtype=float), pd.factorize(np.asarray(stations))[0]
        indices = [c for c in X if c not in SEASON]
        mean_r = pd.Series({c: station_r(X[c], y, stations=codes).mean() for c in indices})
        if mean_r.isna().all():
            raise ContractError("No index varies within a training station: no decay can be told.")
        self.column_ = str(mean_r.idxmax())
        design = self._design(X)
        middle = design.mean(axis=0)
        both = pd.DataFrame(np.column_stack([design - middle, y - y.mean()]))
        if self.season:
            both -= both.groupby(codes).transform("mean")
        self.slope_ = np.linalg.lstsq(both.to_numpy()[:, :-1], both.to_numpy()[:, -1])[0]
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


def forest(*, seed: int = 0, n_trees: int = 300, n_jobs: int = 2) -> RandomForestRegressor:
    """The random forest of the ten-day baselines: leaves of three rows, 40 % of predictors a split.

    A missing predictor is sent to the side of each split where it served training best [1]_, so no
    row is dropped and nothing is imputed.

    References
    ----------
    .. [1] Twala et al. (2008), doi:10.1016/j.patrec.2008.01.010
    """
    return RandomForestRegressor(
        n_trees, min_samples_leaf=3, max_features=0.4, n_jobs=n_jobs, random_state=seed
    )


# One random forest for each soil texture class, averaged without weights.

TEXTURE, ALL = "texture", "all"
MIN_SITES = 2  # of a texture class with a forest of its own


class TextureForest(NanTolerant):
    """The random forest of Poehls et al. [1]_: a forest for each texture class, averaged equally.

    Balance comes from the average: what each class taught counts alike, however few its rows. A
    class with a single site joins the class whose mean predictors lie nearest (in standard
    deviations), and a warning says so. Where no class has two, one forest learns from all. Rows
    without a texture are a class of their own, as in the paper.

    Parameters
    ----------
    n_trees : int, of each forest
    n_jobs : int, processes' worth of threads
    target_max : float or None, m3 m-3; a larger target is refused, None takes any

    Attributes
    ----------
    member_names_ : list of str, the classes with a forest
    merged_ : dict of class to the class that it joined

    References
    ----------
    .. [1] Poehls et al. (2024), Downscaling Soil Moisture to Sub-km Resolutions with Simple Machine
       Learning Ensembles, section 3.1, after Abbaszadeh et al. (2019), doi:10.1029/2018WR023354
    """

    def __init__(
        self,
        n_trees: int = 100,
        n_jobs: int = 1,
        seed: int = 0,
        target_max: float | None = MAX_SOIL_MOISTURE_M3_M3,
    ) -> None:
        self.n_trees = n_trees
        self.n_jobs = n_jobs
        self.seed = seed
        self.target_max = target_max

    def fit(self, X, y, strata=None, *, stations=None):
        """Train a forest on the rows of each texture class; returns itself.

        X is (row, predictor), NaN where missing, y (row,) moisture, m3 m-3; ``strata`` has the
        column ``texture``; ``stations`` (row,) count sites, None counts each row as one. Raises
        ``ContractError`` if strata has no texture, or its rows are not those of X, or a value is
        infinite, and ``UnitError`` if the target exceeds ``target_max``, as moisture in percent
        does.
        """
        if strata is None:
            raise ContractError("A forest for each texture class needs strata with their texture.")
        values, y = self._training_rows(X, y)
        texture = as_classes(matching_strata(strata, X, columns=[TEXTURE]), {TEXTURE: None})
        scaling = Scaling.of(values)
        scaling.warn_of_constants(self)
        classes = texture[TEXTURE].replace(UNKNOWN, "unknown").reset_index(drop=True)
        stations = np.arange(len(classes)) if stations is None else np.asarray(stations)
        if len(stations) != len(classes):
            raise ContractError(f"stations has {len(stations)} entries for {len(classes)} rows.")
        sites = pd.Series(stations).groupby(classes).nunique()
        self.merged_ = _merges(classes, sites, inputs=scaling.inputs(values))
        classes = classes.replace(self.merged_)
        self.member_names_ = sorted(set(classes))
        seeds = np.random.SeedSequence(self.seed).generate_state(len(self.member_names_))
        self.members_ = []
        for name, seed in zip(self.member_names_, seeds, strict=True):
            rows = (classes == name).to_numpy()
            trees = forest(seed=int(seed), n_trees=self.n_trees, n_jobs=self.n_jobs)
            self.members_.append(trees.fit(values[rows], y[rows]))
        return self

    def predict(self, X, return_std: bool = False, *, strata=None):
        """Mean of the forests (row,), m3 m-3; with ``return_std`` their spread beside it.

        ``strata`` is not looked at: every forest predicts every row.
        """
        members = self.predict_members(X).to_numpy()  # (row, member)
        mean = members.mean(axis=1)
        return (mean, members.std(axis=1)) if return_std else mean

    def predict_members(self, X, *, strata=None) -> pd.DataFrame:
        """Moisture (row, member), m3 m-3, a column for each of ``member_names_``."""
        rows = self._new_rows(X)
        members = zip(self.member_names_, self.members_, strict=True)
        moisture = {name: trees.predict(rows) for name, trees in members}
        return pd.DataFrame(moisture, index=X.index if isinstance(X, pd.DataFrame) else None)


def _merges(classes: pd.Series, sites: pd.Series, *, inputs: np.ndarray) -> dict[str, str]:
    """The class that each class of too few sites joins, with a warning that counts."""
    small = sites.index[sites < MIN_SITES]
    if not len(small):
        return {}
    kept = sites.index.difference(small)
    centers = pd.DataFrame(inputs).groupby(classes).mean()
    merges = dict.fromkeys(sites.index, ALL)
    if len(kept):
        away = {s: ((centers.loc[kept] - centers.loc[s]) ** 2).sum(axis=1) for s in small}
        merges = {name: str(distance.idxmin()) for name, distance in away.items()}
    words = ", ".join(f"{a} ({sites[a]} sites) with {b}" for a, b in merges.items())
    warnings.warn(
        f"{len(small)} of {len(sites)} texture classes have fewer than {MIN_SITES} sites "
        f"and are merged: {words}",
        stacklevel=3,
    )
    return merges


# Cross-validation by groups: every row is predicted by a model that has seen none of its group.


def take(table, rows):
    """Rows of a DataFrame, Series or array by their positions."""
    return table.iloc[rows] if hasattr(table, "iloc") else np.asarray(table)[rows]


def rows_for(method, tables: Mapping[str, Any], *, rows) -> dict[str, Any]:
    """Of tables (row, ...) by name, such as ``strata``, the rows of those that a method takes."""
    takes = signature(method).parameters
    known = {name: table for name, table in tables.items() if table is not None and name in takes}
    return {name: take(table, rows) for name, table in known.items()}


def fit_rows(model, X, *, y, rows, tables: Mapping[str, Any]):
    """A copy of an estimator, trained on some rows (positions) and what it takes of the tables."""
    return clone(model).fit(take(X, rows), y[rows], **rows_for(model.fit, tables, rows=rows))


def fitted_folds(model, X, *, y, held_out, **tables) -> Iterator[tuple[np.ndarray, Any]]:
    """Each fold's rows, and a copy of the unfitted model trained on the other folds.

    ``X`` is (row, predictor), ``y`` (row,), m3 m-3, ``held_out`` (row,) the fold that holds each
    row out, as of ``metrics.splits.folds``; of ``tables`` (row, ...), such as ``strata``,
    ``stations`` or ``at``, a model gets what it takes.
    """
    for fold in np.unique(held_out):
        train = np.flatnonzero(held_out != fold)
        yield np.flatnonzero(held_out == fold), fit_rows(model, X, y=y, rows=train, tables=tables)


def cross_predict(
    model, X, *, y, groups=None, n_folds: int = 5, seed: int = 0, **tables
) -> np.ndarray:
    """Predict every row (row,), m3 m-3, by a copy of the model that has seen none of its group.

    Without groups rows are dealt out one by one: that split is leaky, as neighbours in time and
    place stand on both sides. ``model, X, y, tables`` are those of ``fitted_folds``, ``groups,
    n_folds, seed`` those of ``metrics.splits.folds``. Raises ``ContractError`` if there is one
    group only, so that nothing is left to train on, and ``LeakageError`` if a station of
    ``stations`` stands in two folds.
    """
    y = np.asarray(y, dtype=float)
    groups = np.arange(len(y)) if groups is None else groups
    held_out = splits.folds(groups, n_folds=n_folds, seed=seed)
    if tables.get("stations") is not None:
        refuse_parted(tables["stations"], held_out)
    predicted = np.full(len(y), np.nan)
    for test, fitted in fitted_folds(model, X, y=y, held_out=held_out, **tables):
        asked = rows_for(fitted.predict, tables, rows=test)
        predicted[test] = fitted.predict(take(X, test), **asked)
    return predicted


def refuse_parted(stations, folds) -> None:
    """Raise ``LeakageError`` if a station (row,) stands in two folds (row,)."""
    n_folds = pd.Series(np.asarray(folds)).groupby(np.asarray(stations)).nunique()
    parted = n_folds.index[n_folds > 1]
    if len(parted):
        raise LeakageError(
            f"{len(parted)} of {len(n_folds)} stations stand in two folds or more, so they train "
            f"the model that predicts them: {', '.join(map(str, parted[:5]))}. "
            "Deal out folds by groups=stations, or by blocks."
        )


def station_r(predicted, observed, *, stations) -> pd.Series:
    """Pearson's R of two series (row,) within each station, by name; NaN where one is constant."""
    codes, names = pd.factorize(np.asarray(stations))
    return pd.Series(pearson_r(observed, predicted, codes=codes), names)

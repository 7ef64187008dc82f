"""Choice inside training: candidates compete in inner folds of whole blocks, no test row seen."""

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.utils.validation import check_is_fitted

from soilkit.metrics.calibration import row_threshold
from soilkit.models.tabular.folds import cross_folds
from soilkit.models.two_part import block_weights, check_place

PENALTIES = ("penalty", (100.0, 300.0, 1000.0))
REACHES_KM = ("reach_km", (300.0, 600.0, 1000.0))
FEWEST_BLOCKS = 4  # below that nothing is chosen: the model keeps its own parameters
FEWEST_ROWS = 13  # of a station, for its correlation to count in the choice
COVERAGE = 0.9
LEAST_BLOCKS_FOR_INTERVALS = 10


class Chosen(RegressorMixin, BaseEstimator):
    """A ``TwoPart`` whose parameters are chosen by folds of blocks inside its training rows.

    Parameters are chosen one after the other: the value with the highest mean R over stations, a
    station weighing as its block's number of stations to the power -1/2. The held-out predictions
    of the chosen candidate then tell how far new stations lie off: ``level_error_`` and
    ``dynamic_error_`` of the fitted model come from them, and ``width_``, how many predicted
    standard errors hold 90 % of a new block's rows (split conformal by blocks).

    Parameters
    ----------
    model : unfitted TwoPart
    stages : tuple of (name of a parameter, values)
    n_folds : int
    seed : int, of the inner folds

    Attributes
    ----------
    model_ : the chosen one, fitted on all training rows
    choices_ : DataFrame, one row a candidate: ``parameter, value, r``
    held_out_ : array (row,), the chosen candidate's held-out prediction, m3 m-3
    width_ : float; NaN with fewer than ten blocks
    """

    def __init__(self, model, stages=(PENALTIES,), n_folds: int = 5, seed: int = 0) -> None:
        self.model = model
        self.stages = stages
        self.n_folds = n_folds
        self.seed = seed

    def fit(self, X, y, *, at):
        """Choose and train on rows X, y at their places, as of ``TwoPart``; returns itself."""
        at, y = check_place(at, len(X)), np.asarray(y, dtype=float)
        candidate, tried, best = clone(self.model), [], None
        self.held_out_, self.width_ = np.full(len(y), np.nan), np.nan
        if at["block"].nunique() >= FEWEST_BLOCKS:
            folds = cross_folds(y, groups=at["block"], n_folds=self.n_folds, seed=self.seed)
            for name, values in self.stages:
                models = [clone(candidate).set_params(**{name: value}) for value in values]
                found = [out_of_fold(one, X, y=y, at=at, folds=folds) for one in models]
                scores = [_mean_r(predicted, y, at) for predicted, _ in found]
                tried += [(name, *pair) for pair in zip(values, scores, strict=True)]
                winner = int(np.argmax(scores))
                candidate, best = models[winner], found[winner]
        self.choices_ = pd.DataFrame(tried, columns=["parameter", "value", "r"])
        self.model_ = clone(candidate).fit(X, y, at=at)
        if best is not None:
            self._calibrate(y, at=at, held_out=best)
        return self

    def predict(self, X, return_std: bool = False, *, at):
        """Moisture (row,), m3 m-3; with ``return_std`` its standard error for a new station."""
        check_is_fitted(self)
        return self.model_.predict(X, return_std, at=at)

    def _calibrate(self, y, *, at, held_out):
        """Errors of new stations, from held-out predictions and the spreads told with them."""
        self.held_out_, spread = held_out
        error = pd.Series(y - self.held_out_)
        offset = error.groupby(at["sensor_id"].to_numpy()).transform("mean")
        weights = block_weights(at["block"])
        moving = (error - offset) / spread
        self.model_.level_error_ = float(np.sqrt(np.average(offset**2, weights=weights)))
        self.model_.dynamic_error_ = float(np.sqrt(np.average(moving**2, weights=weights)))
        std = np.hypot(self.model_.level_error_, spread * self.model_.dynamic_error_)
        if at["block"].nunique() >= LEAST_BLOCKS_FOR_INTERVALS:
            blocks = at["block"].astype(str).to_numpy()
            self.width_ = float(row_threshold(np.abs(error) / std, blocks, coverage=COVERAGE))


def out_of_fold(model, X, *, y, at, folds) -> tuple[np.ndarray, np.ndarray]:
    """Prediction (row,) and predicted spread (row,) of each row by a copy that never saw its fold.

    Parameters
    ----------
    model : unfitted TwoPart
    X : DataFrame (row, predictor)
    y : array (row,), m3 m-3
    at : places (row, ...)
    folds : array (row,), the fold that holds each row out
    """
    predicted, spread = np.full(len(y), np.nan), np.full(len(y), np.nan)
    for fold in np.unique(folds):
        test = folds == fold
        fitted = clone(model).fit(X[~test], y[~test], at=at[~test])
        predicted[test] = fitted.predict(X[test], at=at[test])
        spread[test] = fitted.predicted_spread(X[test])
    return predicted, spread


def _mean_r(predicted: np.ndarray, y: np.ndarray, at: pd.DataFrame) -> float:
    """Mean correlation of stations with enough rows, dense blocks held down."""
    table = pd.DataFrame({"p": predicted, "o": y})
    scores, blocks = [], []
    for _, rows in at.groupby("sensor_id").indices.items():
        part = table.iloc[rows]
        if len(part) >= FEWEST_ROWS and part["p"].std() > 0 and part["o"].std() > 0:
            scores.append(np.corrcoef(part["p"], part["o"])[0, 1])
            blocks.append(at["block"].iloc[rows[0]])
    return float(np.average(scores, weights=block_weights(blocks))) if scores else 0.0


def predict_unseen(model, X, *, y, at, scored, seed: int = 0) -> pd.DataFrame:
    """Each scored row predicted by a copy trained on all labelled rows of other folds' blocks.

    Folds of blocks are those of ``cross_folds`` over the scored rows, so that another model's
    cross-validation on the same rows holds out the same blocks.

    Parameters
    ----------
    model : unfitted ``Chosen``
    X : DataFrame (row, predictor)
    y : array (row,), m3 m-3; NaN where there is no label to train on
    at : places (row, ...)
    scored : bool array (row,), rows to predict
    seed : int, of the folds

    Returns
    -------
    DataFrame, one row a scored row: ``predicted, std`` [m3 m-3], ``width`` and the choices made
    """
    y, blocks = np.asarray(y, dtype=float), at["block"].to_numpy()
    folds = cross_folds(y[scored], groups=blocks[scored], seed=seed)
    rows, parts = np.flatnonzero(scored), []
    for fold in np.unique(folds):
        test = rows[folds == fold]
        others = np.unique(blocks[rows[folds != fold]])
        train = np.isfinite(y) & np.isin(blocks, others)
        fitted = clone(model).fit(X[train], y[train], at=at[train])
        predicted, std = fitted.predict(X.iloc[test], True, at=at.iloc[test])
        part = pd.DataFrame({"predicted": predicted, "std": std, "width": fitted.width_}, test)
        chosen = {name: getattr(fitted.model_, name) for name in ("penalty", "reach_km")}
        parts.append(part.assign(fold=fold, **chosen))
    return pd.concat(parts).loc[rows]

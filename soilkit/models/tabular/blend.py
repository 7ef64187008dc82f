"""A weighted mean of unlike models, and trees that learn how a station moves."""

import numpy as np
import pandas as pd
from scipy.optimize import nnls
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from soilkit.metrics.calibration import row_threshold
from soilkit.models.tabular.forests import cross_folds
from soilkit.models.tabular.two_part import (
    COVERAGE,
    LEAST_BLOCKS_FOR_INTERVALS,
    block_weights,
    check_place,
    own_moments,
)
from soilkit.units import MAX_SOIL_MOISTURE_M3_M3

HELD = 1e3  # how much harder the sum of weights is held than the errors


class Blend(RegressorMixin, BaseEstimator):
    """Stacked models [1]_: m + sum w_k (p_k - m), w_k >= 0, sum w_k <= 1, m the training mean.

    The weights minimise the squared error of held-out predictions (folds of whole blocks inside the
    training rows) after each station's mean error is taken away: they judge how members move, as R
    and ubRMSE do. A station weighs as its block's number of rows to the power -1/2.

    Parameters
    ----------
    members : list of (name, unfitted estimator); one whose ``fit`` knows ``at`` is given it
    n_folds : int
    seed : int, of the inner folds

    Attributes
    ----------
    members_ : list of (name, estimator fitted on all training rows)
    weights_ : dict of name to weight
    held_out_ : DataFrame (row, member), held-out predictions, m3 m-3
    error_ : float, root mean square error of the blended held-out predictions, m3 m-3
    width_ : float, how many ``error_`` hold 90 % of a new block's rows; NaN below ten blocks. The
        weights have seen the errors that it comes from

    References
    ----------
    .. [1] Breiman (1996), doi:10.1007/BF00117832
    """

    def __init__(self, members, n_folds: int = 5, seed: int = 0) -> None:
        self.members = members
        self.n_folds = n_folds
        self.seed = seed

    def fit(self, X, y, *, at):
        """Weigh and train on rows X, y at their places, as of ``TwoPart``; returns itself."""
        at, y = check_place(at, len(X)), np.asarray(y, dtype=float)
        X = X.reset_index(drop=True)
        folds = cross_folds(y, groups=at["block"], n_folds=self.n_folds, seed=self.seed)
        held_out = {name: np.full(len(y), np.nan) for name, _ in self.members}
        for fold in np.unique(folds):
            test = folds == fold
            for name, member in self.members:
                fitted = _fit(member, X[~test], y=y[~test], at=at[~test])
                held_out[name][test] = _predict(fitted, X[test], at=at[test])
        self.held_out_ = pd.DataFrame(held_out)
        rows = block_weights(at["block"])
        weights = weigh(self.held_out_, y, stations=at["sensor_id"], rows=rows)
        self.weights_ = dict(zip(held_out, weights.tolist(), strict=True))
        self.mean_ = float(np.average(y, weights=rows))
        self.members_ = [(name, _fit(member, X, y=y, at=at)) for name, member in self.members]
        error = np.abs(self._mix(held_out) - y)
        self.error_, self.width_ = float(np.sqrt(np.average(error**2, weights=rows))), np.nan
        if at["block"].nunique() >= LEAST_BLOCKS_FOR_INTERVALS:
            blocks = at["block"].astype(str).to_numpy()
            self.width_ = float(row_threshold(error / self.error_, blocks, coverage=COVERAGE))
        return self

    def predict(self, X, return_std: bool = False, *, at):
        """Moisture (row,), m3 m-3; with ``return_std`` its standard error for a new station."""
        check_is_fitted(self)
        at = check_place(at, len(X))
        mixed = self._mix({name: _predict(one, X, at=at) for name, one in self.members_})
        return (mixed, np.full(len(mixed), self.error_)) if return_std else mixed

    def _mix(self, predicted) -> np.ndarray:
        away = [self.weights_[name] * (p - self.mean_) for name, p in predicted.items()]
        return np.clip(self.mean_ + np.sum(away, axis=0), 0.0, MAX_SOIL_MOISTURE_M3_M3)


def weigh(predicted, y, *, stations, rows) -> np.ndarray:
    """Weights (member,), none negative and one in sum at most, that move most like y.

    They minimise sum r (y' - P' w)^2, where ' takes a station's mean away.

    Parameters
    ----------
    predicted : DataFrame (row, member), held-out predictions P
    y : array (row,)
    stations : array (row,) of names
    rows : array (row,), weights r of rows

    Examples
    --------
    >>> told = pd.DataFrame({"right": [0.1, 0.2, 0.4], "idle": [0.2, 0.2, 0.2]})
    >>> weigh(told, [0.1, 0.2, 0.4], stations=["a", "a", "a"], rows=np.ones(3)).round(3)
    array([1., 0.])
    """
    both = pd.DataFrame(predicted).reset_index(drop=True).assign(_y=np.asarray(y, dtype=float))
    moving = (both - both.groupby(np.asarray(stations)).transform("mean")).to_numpy()
    moving = moving * np.sqrt(rows)[:, None]
    told, target = moving[:, :-1], moving[:, -1]
    hold = HELD * max(float(np.linalg.norm(moving)), 1e-12)
    rest = np.zeros(
        (len(told), 1)
    )  # one more unknown, what the sum leaves of one, explains nothing
    left = np.vstack([np.hstack([told, rest]), np.full((1, told.shape[1] + 1), hold)])
    weights = nnls(left, np.append(target, hold))[0][:-1]
    return weights / max(weights.sum(), 1.0)


class TreeDynamics(RegressorMixin, BaseEstimator):
    """Level and spread of a model in two parts, its dynamics by trees instead of a ridge.

    The trees learn every training station's own standardised moisture, a row weighing as its
    block's number of rows to the power -1/2.

    Parameters
    ----------
    parts : unfitted TwoPart, whose ``dynamic`` columns the trees see; its own dynamics are unused
    trees : unfitted regressor that takes NaN and ``sample_weight``
    """

    def __init__(self, parts, trees) -> None:
        self.parts = parts
        self.trees = trees

    def fit(self, X, y, *, at):
        """Train on rows X, y at their places, as of ``TwoPart``; returns itself."""
        at, y = check_place(at, len(X)), np.asarray(y, dtype=float)
        self.parts_ = clone(self.parts).fit(X, y, at=at)
        mean, std, known = own_moments(y, at)
        z = (y[known] - mean[known]) / std[known]
        moving = X[list(self.parts.dynamic)].to_numpy(float)[known]
        weights = block_weights(at["block"][known])
        self.trees_ = clone(self.trees).fit(moving, z, sample_weight=weights)
        return self

    def predict(self, X, *, at):
        """Moisture (row,), m3 m-3."""
        check_is_fitted(self)
        check_place(at, len(X))
        moving = self.trees_.predict(X[list(self.parts_.dynamic)].to_numpy(float))
        level = self.parts_.level_.predict(X[list(self.parts_.level)].to_numpy(float))
        moisture = level + self.parts_.predicted_spread(X) * moving
        return np.clip(moisture, 0.0, MAX_SOIL_MOISTURE_M3_M3)


def _fit(member, X, *, y, at):
    known = {"at": at} if has_fit_parameter(member, "at") else {}
    return clone(member).fit(X, y, **known)


def _predict(fitted, X, *, at) -> np.ndarray:
    known = {"at": at} if has_fit_parameter(fitted, "at") else {}
    return fitted.predict(X, **known)

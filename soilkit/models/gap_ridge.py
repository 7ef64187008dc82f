"""A ridge that takes gaps: the smallest model that a wide table of weak predictors allows."""

import warnings

import numpy as np
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from soilkit.errors import ContractError
from soilkit.models.tabular.inputs import NanTolerant

CLIP = 4.0  # standard deviations; a predictor beyond them counts as there


class GapRidge(NanTolerant):
    """Linear regression with a penalty on standardised predictors, winsorised, gaps at the mean.

    Minimises sum w (y - b0 - Z b)^2 + penalty |b|^2 with weights of mean one; Z is clipped at four
    training standard deviations (of rows, without weights), and a missing predictor is 0 there.

    Parameters
    ----------
    penalty : float, in rows

    Examples
    --------
    >>> line = GapRidge(penalty=1e-9).fit(np.array([[0.0], [1.0], [2.0]]), [0.0, 1.0, 2.0])
    >>> line.predict(np.array([[1.5], [np.nan]])).round(3)
    array([1.5, 1. ])
    """

    def __init__(self, penalty: float = 100.0) -> None:
        self.penalty = penalty

    def fit(self, X, y, sample_weight=None):
        """Fit on X (row, predictor), y (row,) and weights (row,); returns itself."""
        X, y = validate_data(
            self, X, y, ensure_all_finite="allow-nan", y_numeric=True, dtype=np.float64
        )
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if not weights.any():
            raise ContractError("All sample_weight are zero: nothing is left to train on.")
        weights = weights / weights.mean()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a column without any value: zero
            self.center_ = np.nan_to_num(np.nanmean(X, axis=0))
            scale = np.nan_to_num(np.nanstd(X, axis=0))
        self.scale_ = np.where(scale > 1e-9 * np.abs(self.center_), scale, np.inf)
        self.scale_[scale == 0] = np.inf  # a constant has no effect
        Z = self._standard(X)
        self.shift_, mean = np.average(Z, axis=0, weights=weights), np.average(y, weights=weights)
        Z = Z - self.shift_
        gram = (Z * weights[:, None]).T @ Z + self.penalty * np.eye(Z.shape[1])
        self.coef_ = np.linalg.solve(gram, Z.T @ (weights * (y - mean)))
        self.intercept_ = float(mean)
        return self

    def predict(self, X):
        """Prediction (row,) of X (row, predictor), in the unit of y."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, ensure_all_finite="allow-nan", dtype=np.float64)
        return self.intercept_ + (self._standard(X) - self.shift_) @ self.coef_

    def _standard(self, X: np.ndarray) -> np.ndarray:
        return np.clip(np.nan_to_num((X - self.center_) / self.scale_), -CLIP, CLIP)

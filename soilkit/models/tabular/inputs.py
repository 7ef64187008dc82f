"""What an estimator takes: predictors with gaps, a target in m3 m-3, and nothing infinite."""

import warnings
from typing import NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import validate_data

from soilkit.errors import ContractError, UnitError


class NanTolerant(RegressorMixin, BaseEstimator):
    """A regressor that takes NaN predictors and refuses infinite ones."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def training_rows(model, X, *, y):
    """Checked predictors (row, predictor) and target (row,) as floats; what they hold is recorded.

    Raises
    ------
    ContractError
        If a predictor is infinite.
    UnitError
        If the target exceeds ``model.target_max``, as moisture in percent does.
    """
    X, y = validate_data(model, X, y, ensure_all_finite=False, y_numeric=True, dtype=np.float64)
    _refuse_infinite(model, X)
    limit = model.target_max
    if limit is not None and np.max(y) > limit:
        raise UnitError(
            f"The target reaches {np.max(y):.4g}; soil moisture in m3 m-3 stays below {limit:g}. "
            "If it is percent, divide by 100; for another target set target_max=None."
        )
    return X, y


def new_rows(model, X) -> np.ndarray:
    """Checked predictors (row, predictor) of a fitted model, as floats."""
    X = validate_data(model, X, reset=False, ensure_all_finite=False, dtype=np.float64)
    _refuse_infinite(model, X)
    return X


def column_names(model, chosen: np.ndarray) -> str:
    """The chosen predictors by name, or by number where a model knows no names."""
    names = getattr(model, "feature_names_in_", np.arange(len(chosen)))
    return ", ".join(str(name) for name in names[chosen])


def _refuse_infinite(model, X: np.ndarray) -> None:
    infinite = np.isinf(X)
    if infinite.any():
        raise ContractError(
            f"{int(infinite.sum())} values are infinity in predictor "
            f"{column_names(model, infinite.any(axis=0))}. Write missing values as NaN."
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
        varies = np.zeros(X.shape[1], bool)  # rounding gives a constant some deviation
        varies[known] = np.nanmax(X[:, known], axis=0) > np.nanmin(X[:, known], axis=0)
        return cls(center, np.where(varies, spread, 1.0), varies, missing.any(axis=0) & known)

    def apply(self, X: np.ndarray) -> np.ndarray:
        """Network inputs (row, predictor + flag), float32."""
        scaled = np.where(np.isnan(X) | ~self.varies, 0.0, (X - self.center) / self.scale)
        return np.hstack([scaled, np.isnan(X[:, self.flagged])]).astype(np.float32)

    def warn_of_constants(self, model) -> None:
        """Tell which predictors are constant in training, and so have no effect."""
        constant = ~self.varies
        if constant.any():
            warnings.warn(
                f"{int(constant.sum())} of {len(constant)} predictors never vary in training and "
                f"have no effect: {column_names(model, constant)}",
                stacklevel=4,
            )

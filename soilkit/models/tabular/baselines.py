"""The yardsticks: a straight line through SMAP, and the random forest of the ten-day baselines."""

import numpy as np
from sklearn.ensemble import RandomForestRegressor
from sklearn.utils.validation import check_is_fitted, validate_data

from soilkit.models.tabular.inputs import NanTolerant


class SmapLinear(NanTolerant):
    """A straight line from one coarse product to in-situ moisture, the yardstick of every model.

    moisture = intercept_ + slope_ * x, by least squares over the training rows that have both. It
    corrects the product's unit and its mean wetness once for all stations, nothing more. A row
    without the product gets the training mean.

    Parameters
    ----------
    column : int, position of the product among the predictors

    Examples
    --------
    >>> line = SmapLinear().fit(np.array([[0.0], [10.0], [np.nan]]), np.array([0.1, 0.3, 0.2]))
    >>> line.predict(np.array([[5.0], [20.0], [np.nan]])).round(2)
    array([0.2, 0.5, 0.2])
    """

    def __init__(self, column: int = 0) -> None:
        self.column = column

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True  # one column of many explains little
        return tags

    def fit(self, X, y):
        """Fit on X (row, predictor) and moisture y (row,), m3 m-3; returns itself."""
        X, y = validate_data(self, X, y, ensure_all_finite="allow-nan", y_numeric=True)
        product = X[:, self.column].astype(float)
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
        line = self.intercept_ + self.slope_ * X[:, self.column].astype(float)
        return np.where(np.isfinite(line), line, self.mean_)


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

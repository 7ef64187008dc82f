"""Systems that learn from a table of predictors: one row a sample, one column a predictor.

All speak scikit-learn's estimator language and take rows with missing predictors (NaN) as they are:
about four in ten ten-day windows lack radar or optics, and their prediction is wanted all the same.
"""

from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.ensemble import RandomForestRegressor
from sklearn.model_selection import GroupKFold, KFold
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn

from soilkit.errors import ContractError


class _NanTolerant(RegressorMixin, BaseEstimator):
    """A regressor that takes NaN predictors and refuses infinite ones."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


class SmapLinear(_NanTolerant):
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


class DenseEnsemble(_NanTolerant):
    """A few small dense networks that differ in their initial weights; the mean is the prediction.

    Predictors and moisture are standardised with training statistics. A missing predictor counts as
    the training mean and raises a flag of its own, one more input column for each predictor that
    was ever missing in training. The form is the Dense ensemble of Poehls et al. [1]_, whose layer
    widths stand in a supplement that was not at hand: these are ours, chosen before any score.

    Parameters
    ----------
    n_members : int
    widths : tuple of int, units of the hidden layers
    epochs : int, passes over the training rows
    batch_size : int, rows
    learning_rate : float, at the start; it falls to zero along a half cosine
    weight_decay : float, decoupled (AdamW)
    dropout : float, probability in training
    seed : int

    References
    ----------
    .. [1] Poehls et al., Downscaling Soil Moisture to Sub-km Resolutions with Simple Machine
       Learning Ensembles, section 3.2
    """

    def __init__(
        self,
        n_members: int = 3,
        widths: tuple[int, ...] = (64, 32),
        epochs: int = 60,
        batch_size: int = 256,
        learning_rate: float = 3e-3,
        weight_decay: float = 1e-2,
        dropout: float = 0.1,
        seed: int = 0,
    ) -> None:
        self.n_members = n_members
        self.widths = widths
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.dropout = dropout
        self.seed = seed

    def fit(self, X, y):
        """Train the members on X (row, predictor) and moisture y (row,), m3 m-3; returns itself."""
        X, y = validate_data(
            self, X, y, ensure_all_finite="allow-nan", y_numeric=True, dtype=np.float64
        )
        self.center_ = _finite(np.nanmean, X)
        self.scale_ = _positive(_finite(np.nanstd, X))
        self.ever_missing_ = np.isnan(X).any(axis=0)
        self.y_mean_, self.y_std_ = float(np.mean(y)), float(_positive(np.array([np.std(y)]))[0])
        inputs = self._inputs(X)  # (row, predictor + flag)
        target = torch.as_tensor((y - self.y_mean_) / self.y_std_, dtype=torch.float32)
        seeds = np.random.SeedSequence(self.seed).generate_state(self.n_members)
        self.members_ = [self._train_member(inputs, target, int(seed)) for seed in seeds]
        return self

    def predict(self, X, return_std: bool = False):
        """Mean of the members (row,), m3 m-3; with ``return_std`` their spread beside it."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, ensure_all_finite="allow-nan", dtype=np.float64)
        inputs = self._inputs(X)
        with torch.inference_mode():
            outputs = torch.stack([member(inputs)[:, 0] for member in self.members_])
        moisture = outputs.double().numpy() * self.y_std_ + self.y_mean_  # (member, row)
        mean = moisture.mean(axis=0)
        return (mean, moisture.std(axis=0)) if return_std else mean

    def _inputs(self, X: np.ndarray) -> torch.Tensor:
        scaled = np.nan_to_num((X - self.center_) / self.scale_, nan=0.0)
        flags = np.isnan(X[:, self.ever_missing_])
        return torch.as_tensor(np.hstack([scaled, flags]), dtype=torch.float32)

    def _train_member(self, inputs: torch.Tensor, target: torch.Tensor, seed: int) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):  # layers and dropout draw from the global stream
            torch.manual_seed(seed)
            member = _network(inputs.shape[1], self.widths, self.dropout)
            optimizer = torch.optim.AdamW(
                member.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay
            )
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(self.epochs, 1))
            for _ in range(self.epochs):
                for rows in torch.randperm(len(target), generator=generator).split(self.batch_size):
                    error = nn.functional.mse_loss(member(inputs[rows])[:, 0], target[rows])
                    optimizer.zero_grad()
                    error.backward()
                    optimizer.step()
                schedule.step()
        return member.eval()


def _network(n_inputs: int, widths: tuple[int, ...], dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Linear(n_inputs, width), nn.SiLU(), nn.Dropout(dropout)]
        n_inputs = width
    return nn.Sequential(*layers, nn.Linear(n_inputs, 1))


def _finite(statistic: Any, X: np.ndarray) -> np.ndarray:
    """A column statistic over the known values; 0 for a column that has none."""
    known = ~np.isnan(X).all(axis=0)
    result = np.zeros(X.shape[1])
    result[known] = statistic(X[:, known], axis=0)
    return result


def _positive(scale: np.ndarray) -> np.ndarray:
    """The scale, or 1 where a column never changes."""
    return np.where(scale > 0, scale, 1.0)


def cross_folds(y, *, groups=None, n_folds: int = 5, seed: int = 0) -> np.ndarray:
    """Number of the fold that holds each row out; folds hold whole groups, dealt out by chance.

    Parameters
    ----------
    y : array (row,)
    groups : array (row,) of labels, for instance 2-degree blocks; None deals out single rows
    n_folds : int, at most; fewer groups than that are left out one at a time
    seed : int

    Returns
    -------
    array (row,) of int

    Raises
    ------
    ContractError
        If there is one group only, so that nothing is left to train on.

    Examples
    --------
    >>> folds = cross_folds(np.zeros(4), groups=["a", "a", "b", "b"])
    >>> folds[0] == folds[1], folds[0] == folds[2]
    (np.True_, np.False_)
    """
    kind = KFold if groups is None else GroupKFold
    n_groups = len(y) if groups is None else len(set(groups))
    if n_groups < 2:
        raise ContractError(
            f"Cross-validation needs two groups or more, found {n_groups} in {len(y)} rows. "
            "Take more stations, or smaller blocks."
        )
    folds = kind(min(n_folds, n_groups), shuffle=True, random_state=seed)
    held_out = np.full(len(y), -1)
    for number, (_, test) in enumerate(folds.split(np.zeros((len(y), 1)), y, groups)):
        held_out[test] = number
    return held_out


def cross_predict(model, X, *, y, groups=None, n_folds: int = 5, seed: int = 0) -> np.ndarray:
    """Predict every row by a copy of the model that has seen none of its group.

    Folds are those of ``cross_folds``. Without groups, rows are dealt out one by one: that split is
    leaky, as neighbours in time and place stand on both sides.

    Parameters
    ----------
    model : unfitted estimator
    X : DataFrame or array (row, predictor)
    y : array (row,), m3 m-3
    groups, n_folds, seed : as in ``cross_folds``

    Returns
    -------
    array (row,), m3 m-3

    Raises
    ------
    ContractError
        If there is one group only, so that nothing is left to train on.
    """
    X, y = np.asarray(X, dtype=float), np.asarray(y, dtype=float)
    held_out = cross_folds(y, groups=groups, n_folds=n_folds, seed=seed)
    predicted = np.full(len(y), np.nan)
    for fold in range(held_out.max() + 1):
        test = held_out == fold
        predicted[test] = clone(model).fit(X[~test], y[~test]).predict(X[test])
    return predicted

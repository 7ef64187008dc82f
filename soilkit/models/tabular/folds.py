"""Cross-validation by groups: every row is predicted by a model that has seen none of its group."""

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import GroupKFold, KFold

from soilkit.errors import ContractError


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

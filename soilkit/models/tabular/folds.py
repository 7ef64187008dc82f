"""Cross-validation by groups: every row is predicted by a model that has seen none of its group."""

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.model_selection import GroupKFold, KFold
from sklearn.utils.validation import has_fit_parameter

from soilkit.errors import ContractError, LeakageError


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
    held_out = cross_folds(y, groups=groups, n_folds=n_folds, seed=seed)
    return predict_folds(model, np.asarray(X, dtype=float), y=y, held_out=held_out)


def predict_folds(model, X, *, y, held_out, strata=None, stations=None) -> np.ndarray:
    """Predict every row by a copy of the model trained on the other folds, with its strata.

    Parameters
    ----------
    model : unfitted estimator
    X : DataFrame or array (row, predictor)
    y : array (row,), m3 m-3
    held_out : array (row,), the fold that holds each row out, as of ``cross_folds``
    strata : DataFrame (row, characteristic), given to ``fit`` and ``predict``; None for models that
        take none
    stations : array (row,) of station ids or None; given, no station may stand in two folds, and a
        model that counts sites is told them

    Returns
    -------
    array (row,), m3 m-3

    Raises
    ------
    LeakageError
        If a station stands in two folds.
    """
    y, held_out = np.asarray(y, dtype=float), np.asarray(held_out)
    if stations is not None:
        stations = np.asarray(stations)
        _refuse_parted(stations, held_out)
    predicted = np.full(len(y), np.nan)
    for fold in np.unique(held_out):
        test = held_out == fold
        fitting = {"strata": _rows(strata, ~test)} if strata is not None else {}
        if stations is not None and has_fit_parameter(model, "stations"):
            fitting["stations"] = stations[~test]
        fitted = clone(model).fit(_rows(X, ~test), y[~test], **fitting)
        asking = {"strata": _rows(strata, test)} if strata is not None else {}
        predicted[test] = fitted.predict(_rows(X, test), **asking)
    return predicted


def _rows(table, keep: np.ndarray):
    return table[keep] if isinstance(table, pd.DataFrame) else np.asarray(table)[keep]


def _refuse_parted(stations: np.ndarray, held_out: np.ndarray) -> None:
    folds = pd.Series(held_out).groupby(stations).nunique()
    parted = folds.index[folds > 1]
    if len(parted):
        raise LeakageError(
            f"{len(parted)} of {len(folds)} stations stand in two folds or more, so they train the "
            f"model that predicts them: {', '.join(map(str, parted[:5]))}. "
            "Deal out folds by groups=stations, or by blocks."
        )

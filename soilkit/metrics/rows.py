"""The contract of a predictions table, checked with little memory beside the table."""

import dataclasses

import numpy as np
import pandas as pd

from soilkit import contracts
from soilkit.metrics.groups import state_of

ROWS_AT_ONCE = 2**18
ODD = np.uint64(0x9E3779B97F4A7C15)  # spreads the small codes of names over all bits


def check_predictions(predictions: pd.DataFrame) -> None:
    """As ``contracts.check``, in eight bytes a row; a sample may stand once in every state.

    Rows are told apart by 64-bit hashes of their keys; only where two agree are the keys compared.

    Raises
    ------
    ContractError
    """
    key = (*contracts.PREDICTIONS.key, *state_of(predictions))
    contracts.check(predictions, dataclasses.replace(contracts.PREDICTIONS, key=()))
    hashes = _hashes(predictions, key)
    hashes.sort()
    if (hashes[1:] == hashes[:-1]).any():
        contracts.check(predictions, dataclasses.replace(contracts.PREDICTIONS, key=key))


def _hashes(predictions: pd.DataFrame, key: tuple[str, ...]) -> np.ndarray:
    """A number for the key of each row, (row,)."""
    hashes = np.zeros(len(predictions), np.uint64)
    for name in key:
        column = predictions[name]
        is_category = isinstance(column.dtype, pd.CategoricalDtype)
        if is_category:  # a missing name has the code -1, and so the last number
            names = np.append(_hashed(column.array.categories), np.uint64(0))
        for first in range(0, len(column), ROWS_AT_ONCE):
            part = slice(first, first + ROWS_AT_ONCE)
            own = names[column.array.codes[part]] if is_category else _hashed(column.iloc[part])
            hashes[part] = hashes[part] * ODD + own
    return hashes


def _hashed(names: pd.Series | pd.Index) -> np.ndarray:
    return pd.util.hash_array(names.to_numpy(object), categorize=False)

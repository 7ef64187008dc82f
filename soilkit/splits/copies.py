"""Series that are copies of each other, found by the values that they share."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.sparse import coo_array, triu

MIN_COMMON = 10  # common times below which likeness proves nothing
MIN_SHARE = 0.9  # of the common times, with the same value
MIN_DISTINCT = 5  # a dry spell at the sensor's floor is no copy
MOST_UNITS = 200  # a value that more units share at one time is a floor or a fill value
DECIMALS = 9
_CHUNK = 20_000  # pairs


def copied_series(units: np.ndarray, times, *, values: np.ndarray) -> np.ndarray:
    """Pairs of units whose series have the same values at the same times, int array (pair, 2).

    Two series are copies when at least ten common times exist, nine tenths of them with equal
    values, of which five and more are distinct. One value a unit and time is looked at. Time and
    memory grow with the pairs that share a value at a time, not with all pairs.

    Parameters
    ----------
    units : int array (row,), from 0
    times : array (row,) of datetimes or numbers
    values : float array (row,); others than finite numbers are left out

    Returns
    -------
    pairs of units, the smaller first, in order
    """
    table = pd.DataFrame({"unit": units, "time": times, "value": np.round(values, DECIMALS)})
    table = table[np.isfinite(table["value"])].drop_duplicates(["unit", "time"])
    if table.empty:
        return np.zeros((0, 2), np.int64)
    groups = table.groupby(["time", "value"], sort=False)
    table = table.assign(group=groups.ngroup(), size=groups["unit"].transform("size"))
    shared = table[(table["size"] > 1) & (table["size"] <= MOST_UNITS)]
    if shared.empty:
        return np.zeros((0, 2), np.int64)
    equal, group = _incidence(shared["unit"], shared["group"])
    pairs, n_equal = _likely(equal)
    present, _ = _incidence(table["unit"], table["time"])
    is_like = n_equal >= MIN_SHARE * _count(_common(present, pairs), np.arange(present.shape[1]))
    pairs = pairs[is_like]
    values = shared.drop_duplicates("group").set_index("group")["value"].loc[group].to_numpy()
    return pairs[_count(_common(equal, pairs), values) >= MIN_DISTINCT]


def _incidence(units: pd.Series, groups: pd.Series):
    """Sparse ones (unit, group), and which group each column is."""
    columns, names = pd.factorize(groups)
    shape = (int(units.max()) + 1, len(names))
    ones = np.ones(len(units), np.int32)
    return coo_array((ones, (units.to_numpy(), columns)), shape).tocsr(), names


def _likely(equal) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of units with ten equal values at equal times, and how many they have."""
    upper = triu(equal @ equal.T, k=1).tocoo()
    keep = upper.data >= MIN_COMMON
    row, col, n_equal = upper.row[keep], upper.col[keep], upper.data[keep]
    order = np.lexsort((col, row))
    return np.column_stack([row, col])[order].astype(np.int64), n_equal[order]


def _common(incidence, pairs: np.ndarray) -> Iterator:
    """What both of a pair have, sparse (pair, group), a chunk at a time."""
    for first in range(0, len(pairs), _CHUNK):
        part = pairs[first : first + _CHUNK]
        yield (incidence[part[:, 0]] * incidence[part[:, 1]]).tocoo()


def _count(chunks: Iterator, names: np.ndarray) -> np.ndarray:
    """Distinct names of the groups that each pair has, (pair,)."""
    codes, found = pd.factorize(names)
    counts = [np.zeros(0, np.int64)]
    for chunk in chunks:
        distinct = np.unique(chunk.row.astype(np.int64) * len(found) + codes[chunk.col])
        counts.append(np.bincount(distinct // len(found), minlength=chunk.shape[0]))
    return np.concatenate(counts)

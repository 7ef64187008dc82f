"""Predictions as sorted columns of floats, one contiguous run a model, split and sensor.

Where a table names the state of its values (raw, rescaled, an anomaly) in a column ``state``, each
state is a run of its own.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

KEYS = ["model", "split", "sensor_id"]
PLACES = ["station_id", "network"]
STATE = "state"


@dataclass(frozen=True)
class Groups:
    """Runs of rows, every row array (row,), every group array (group,); no group is empty.

    ``which`` is each group's row in the table of keys. ``hours`` counts from the earliest row, or
    is zero where time was not asked for.
    """

    observed: np.ndarray
    predicted: np.ndarray
    hours: np.ndarray
    counts: np.ndarray
    which: np.ndarray

    @property
    def starts(self) -> np.ndarray:
        """The first row of each group, (group,)."""
        return (np.cumsum(self.counts) - self.counts).astype(np.intp)

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Sums over each group, (group,)."""
        return np.add.reduceat(values, self.starts) if len(values) else np.zeros(0)

    def spread(self, per_group: np.ndarray) -> np.ndarray:
        """A group's value on each of its rows, (row,)."""
        return np.repeat(per_group, self.counts)

    def centred(self, values: np.ndarray) -> np.ndarray:
        """Deviations from each group's mean, (row,).

        The first value is taken off before the mean is: an offset of 1e4 then costs no digit,
        and a constant series gives exact zeros.
        """
        shifted = values - self.spread(values[self.starts])
        return shifted - self.spread(self.sum(shifted) / self.counts)

    def take(self, keep: np.ndarray) -> "Groups":
        """The groups where ``keep`` (group,) is true."""
        rows = self.spread(keep)
        return Groups(
            self.observed[rows],
            self.predicted[rows],
            self.hours[rows],
            self.counts[keep],
            self.which[keep],
        )


def state_of(table: pd.DataFrame) -> list[str]:
    """The column that names the state of a table's values, where it has one."""
    return [STATE] if STATE in table.columns else []


def _codes(column: pd.Series) -> tuple[np.ndarray, int]:
    """Small numbers for names, -1 for a missing one, and how many names there may be."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.codes.to_numpy(), len(column.cat.categories)
    codes, names = pd.factorize(column)
    return codes, len(names)


def _key_codes(predictions: pd.DataFrame) -> list[tuple[np.ndarray, int]]:
    return [_codes(predictions[key]) for key in KEYS + state_of(predictions)]


def _numbers(keys: list[tuple[np.ndarray, int]], rows: np.ndarray | slice) -> np.ndarray:
    """A number per row that is equal within a model, split, state and sensor."""
    number = np.zeros(len(keys[0][0][rows]), np.int64)
    for codes, n in keys:
        number = number * (n + 1) + codes[rows] + 1
    return number


def _group_numbers(predictions: pd.DataFrame) -> tuple[np.ndarray, int]:
    """A number per row from 0 on, in the order that groups appear in, and their count."""
    numbers, found = pd.factorize(_numbers(_key_codes(predictions), slice(None)))
    return numbers, len(found)


def _runs(keys: list[tuple[np.ndarray, int]], time: np.ndarray | None) -> np.ndarray | None:
    """The lengths of runs where the table holds each group as one, in time where asked, or None."""
    n_rows = len(keys[0][0])
    is_new = np.ones(n_rows, bool)
    is_new[1:] = np.logical_or.reduce([codes[1:] != codes[:-1] for codes, _ in keys])
    starts = np.flatnonzero(is_new)
    if len(np.unique(_numbers(keys, starts))) < len(starts):
        return None
    if time is not None and not ((time[1:] >= time[:-1]) | is_new[1:]).all():
        return None
    return np.diff(np.append(starts, n_rows))


def _order(predictions: pd.DataFrame, *, in_time: bool) -> tuple[np.ndarray | slice, np.ndarray]:
    """The rows group by group, and how many each has; no row moves in a sorted table."""
    time = predictions["time"].to_numpy() if in_time else None
    keys = _key_codes(predictions)
    counts = _runs(keys, time)
    if counts is not None:
        return slice(None), counts
    numbers, found = pd.factorize(_numbers(keys, slice(None)))
    # Small unsigned integers are sorted by radix, many times faster than by comparison.
    small = numbers.astype(np.min_scalar_type(max(len(found) - 1, 0)))
    counts = np.bincount(numbers, minlength=len(found))
    if time is None:
        return np.argsort(small, kind="stable"), counts
    by_time = np.argsort(time, kind="stable")
    return by_time[np.argsort(small[by_time], kind="stable")], counts


def group(predictions: pd.DataFrame, *, in_time: bool = True) -> tuple[pd.DataFrame, Groups]:
    """The table of keys (one row a model, split and sensor) and its groups of finite pairs.

    Rows whose observation or prediction is no finite number stay out of the groups; a sensor that
    has no others still has its row of keys. Within a group rows run in time if ``in_time``.
    """
    order, counts = _order(predictions, in_time=in_time)
    first = (np.cumsum(counts) - counts).astype(np.intp)
    if not isinstance(order, slice):
        first = order[first]
    names = KEYS + PLACES + state_of(predictions)
    keys = predictions[names].iloc[first].astype("str").reset_index(drop=True)
    observed = predictions["observed_m3_m3"].to_numpy(np.float64)[order]
    predicted = predictions["predicted_m3_m3"].to_numpy(np.float64)[order]
    hours = _hours(predictions["time"])[order] if in_time else np.zeros(len(observed))
    good = np.isfinite(observed) & np.isfinite(predicted)
    n = counts
    if not good.all():
        n = np.bincount(np.repeat(np.arange(len(counts)), counts)[good], minlength=len(counts))
        observed, predicted, hours = observed[good], predicted[good], hours[good]
    which = np.flatnonzero(n)
    return keys, Groups(observed, predicted, hours, n[which], which)


def rows_in_time(predictions: pd.DataFrame) -> tuple[np.ndarray, Groups]:
    """The places of the finite pairs in the table, (row,), as their groups run in time."""
    finite = np.isfinite(predictions["observed_m3_m3"].to_numpy(np.float64))
    finite &= np.isfinite(predictions["predicted_m3_m3"].to_numpy(np.float64))
    places = np.flatnonzero(finite)
    table = predictions.iloc[places]
    numbers, n_groups = _group_numbers(table)
    order = np.lexsort((table["time"].to_numpy(), numbers))
    groups = Groups(
        table["observed_m3_m3"].to_numpy(np.float64)[order],
        table["predicted_m3_m3"].to_numpy(np.float64)[order],
        _hours(table["time"])[order],
        np.bincount(numbers, minlength=n_groups),
        np.arange(n_groups),
    )
    return places[order], groups


def _hours(time: pd.Series) -> np.ndarray:
    if not len(time):
        return np.zeros(0)
    return (time.to_numpy() - time.min().to_datetime64()) / np.timedelta64(1, "h")

"""Predictions as sorted columns of floats, one contiguous run a model, split and sensor.

Where a table names the state of its values (raw, rescaled, an anomaly) in a column ``state``, each
state is a run of its own.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

KEYS = ["model", "split", "sensor_id"]
PLACES = ["station_id", "network"]
STATE = "state"
SERIES = ["observed_m3_m3", "predicted_m3_m3"]


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

    @cached_property
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
        return self.centre(values)[0]

    def centre(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same, and how far each group's mean lies from its first value, (group,)."""
        deviations = values - self.spread(values[self.starts])
        beyond_first = self.sum(deviations) / self.counts
        deviations -= self.spread(beyond_first)
        return deviations, beyond_first

    def take(self, keep: np.ndarray) -> "Groups":
        """The groups where ``keep`` (group,) is true."""
        if keep.all():
            return self
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
        return column.array.codes, len(column.array.categories)
    codes, names = pd.factorize(column)
    return codes, len(names)


def _key_codes(predictions: pd.DataFrame) -> list[tuple[np.ndarray, int]]:
    return [_codes(predictions[key]) for key in KEYS + state_of(predictions)]


def _numbers(keys: list[tuple[np.ndarray, int]], rows: np.ndarray | slice) -> np.ndarray:
    """A number per row that is equal within a model, split, state and sensor."""
    number = np.zeros(len(keys[0][0][rows]), np.int64)
    for codes, n in keys:
        number *= n + 1
        number += codes[rows]
        number += 1
    return number


def _group_numbers(keys: list[tuple[np.ndarray, int]]) -> tuple[np.ndarray, int]:
    """A number per row from 0 on, in the order that groups appear in, and their count."""
    numbers, found = pd.factorize(_numbers(keys, slice(None)))
    return numbers, len(found)


def _runs(keys: list[tuple[np.ndarray, int]]) -> np.ndarray | None:
    """The lengths of runs where the table holds each group as one, or None."""
    n_rows = len(keys[0][0])
    is_new = np.zeros(n_rows, bool)
    is_new[:1] = True
    for codes, _ in keys:
        is_new[1:] |= codes[1:] != codes[:-1]
    starts = np.flatnonzero(is_new)
    if len(np.unique(_numbers(keys, starts))) < len(starts):
        return None
    return np.diff(np.append(starts, n_rows))


def _order(predictions: pd.DataFrame) -> tuple[np.ndarray | slice, np.ndarray]:
    """The rows group by group, and how many each has; no row moves in a sorted table."""
    keys = _key_codes(predictions)
    counts = _runs(keys)
    if counts is not None:
        return slice(None), counts
    numbers, n_groups = _group_numbers(keys)
    counts = np.bincount(numbers, minlength=n_groups)
    # Small unsigned integers are sorted by radix, many times faster than by comparison.
    numbers = numbers.astype(np.min_scalar_type(max(n_groups - 1, 0)))
    return np.argsort(numbers, kind="stable"), counts


def group(predictions: pd.DataFrame, *, in_time: bool = True) -> tuple[pd.DataFrame, Groups]:
    """The table of keys (one row a model, split and sensor) and its groups of finite pairs.

    Rows whose observation or prediction is no finite number stay out of the groups; a sensor that
    has no others still has its row of keys. Within a group rows run in time if ``in_time``.
    """
    keys, parts = pieces(predictions, in_time=in_time)
    return keys, next(parts)


def pieces(
    predictions: pd.DataFrame, *, in_time: bool = True, most_rows: int | None = None
) -> tuple[pd.DataFrame, Iterator[Groups]]:
    """As ``group``, the groups by and by: as many at once as ``most_rows`` rows hold, or one.

    Only a piece's rows are copied, so a long table needs little beside itself, and small pieces
    stay in the processor's cache.
    """
    order, counts = _order(predictions)
    first = (np.cumsum(counts) - counts).astype(np.intp)
    keys = _key_table(predictions, first if isinstance(order, slice) else order[first])
    return keys, _cut(predictions, (order, counts), in_time=in_time, most_rows=most_rows)


def _key_table(predictions: pd.DataFrame, rows: np.ndarray) -> pd.DataFrame:
    """Keys and places of some rows, as text."""
    columns = {}
    for name in KEYS + PLACES + state_of(predictions):
        column = predictions[name]
        if isinstance(column.dtype, pd.CategoricalDtype):
            names = column.array.categories.astype("str").array
            columns[name] = names.take(column.array.codes[rows], allow_fill=True)
        else:
            columns[name] = column.iloc[rows].astype("str").array
    return pd.DataFrame(columns)


def _cut(predictions, where, *, in_time, most_rows):
    order, counts = where
    columns = [predictions[name].to_numpy(np.float64) for name in SERIES]
    time, start = None, np.datetime64(0, "us")
    if in_time and len(predictions):
        time, start = predictions["time"].to_numpy(), predictions["time"].min().to_datetime64()
    ends = np.append(0, np.cumsum(counts))
    for first, last in _bounds(ends, most_rows):
        rows = slice(ends[first], ends[last])
        if not isinstance(order, slice):
            rows = order[rows]
        series = [values[rows] for values in columns]
        if time is None:
            series.append(np.zeros(len(series[0])))
        else:
            series.append((time[rows] - start) / np.timedelta64(1, "h"))
            series = _in_time(series, counts[first:last])
        yield _finite(series, counts[first:last], first)


def _bounds(ends, most_rows):
    """First and last group of each piece, at least one piece."""
    n_groups = len(ends) - 1
    if most_rows is None or n_groups == 0:
        return [(0, n_groups)]
    firsts = [0]
    while firsts[-1] < n_groups:
        full = np.searchsorted(ends, ends[firsts[-1]] + most_rows, side="right") - 1
        firsts.append(max(int(full), firsts[-1] + 1))
    return itertools.pairwise(firsts)


def _in_time(series, counts):
    """Columns (observed, predicted, hours) whose rows run in time within each group."""
    hours = series[-1]
    rises = np.ones(len(hours), bool)
    rises[1:] = hours[1:] >= hours[:-1]
    rises[(np.cumsum(counts) - counts).astype(np.intp)] = True
    if rises.all():
        return series
    order = np.lexsort((hours, np.repeat(np.arange(len(counts)), counts)))
    return [values[order] for values in series]


def _finite(series, counts, first):
    """Groups of the finite pairs, their numbers counted from ``first``."""
    good = np.isfinite(series[0])
    good &= np.isfinite(series[1])
    if not good.all():
        number = np.repeat(np.arange(len(counts)), counts)
        counts = np.bincount(number[good], minlength=len(counts))
        series = [values[good] for values in series]
    which = np.flatnonzero(counts)
    observed, predicted, hours = series
    return Groups(observed, predicted, hours, counts[which], which + first)


def rows_in_time(predictions: pd.DataFrame) -> tuple[np.ndarray, Groups]:
    """The places of the finite pairs in the table, (row,), as their groups run in time."""
    finite = np.isfinite(predictions["observed_m3_m3"].to_numpy(np.float64))
    finite &= np.isfinite(predictions["predicted_m3_m3"].to_numpy(np.float64))
    places = np.flatnonzero(finite)
    table = predictions.iloc[places]
    numbers, n_groups = _group_numbers(_key_codes(table))
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

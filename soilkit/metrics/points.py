"""Predictions as sorted runs of floats, one a model, split and sensor, and their point scores."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from soilkit import contracts
from soilkit.constants import OK
from soilkit.errors import ContractError

KEYS = ["model", "split", "sensor_id"]
PLACES = ["station_id", "network"]
STATE = "state"
SERIES = ["observed_m3_m3", "predicted_m3_m3"]


@dataclass(frozen=True)
class Runs:
    """Arrays (row,) that hold one group after the other; ``counts`` is (group,), no zero."""

    counts: np.ndarray

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


@dataclass(frozen=True)
class Groups(Runs):
    """Runs of pairs, every row array (row,), every group array (group,).

    ``which`` is each group's row in the table of keys. ``hours`` counts from the earliest row, or
    is zero where time was not asked for; ``rows``, the places in the table, is then empty.
    """

    observed: np.ndarray
    predicted: np.ndarray
    hours: np.ndarray
    which: np.ndarray
    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, np.intp))

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
        kept = self.spread(keep)
        return Groups(
            self.counts[keep],
            self.observed[kept],
            self.predicted[kept],
            self.hours[kept],
            self.which[keep],
            self.rows[kept] if len(self.rows) else self.rows,
        )


def state_of(table: pd.DataFrame) -> list[str]:
    """The column that names the state of a table's values, where it has one."""
    return [STATE] if STATE in table.columns else []


def _key_codes(predictions: pd.DataFrame) -> list[tuple[np.ndarray, int]]:
    """Of each key, small numbers for its names, -1 for a missing one, and how many there may be."""
    found = []
    for key in KEYS + state_of(predictions):
        column = predictions[key]
        if isinstance(column.dtype, pd.CategoricalDtype):
            found.append((column.array.codes, len(column.array.categories)))
        else:
            codes, names = pd.factorize(column)
            found.append((codes, len(names)))
    return found


def _numbers(keys: list[tuple[np.ndarray, int]], rows: np.ndarray | slice) -> np.ndarray:
    """A number per row that is equal within a model, split, state and sensor."""
    number = np.zeros(len(keys[0][0][rows]), np.int64)
    for codes, n in keys:
        number *= n + 1
        number += codes[rows]
        number += 1
    return number


def _order(predictions: pd.DataFrame) -> tuple[np.ndarray | slice, np.ndarray]:
    """The rows group by group, and how many each has; no row moves in a sorted table."""
    keys = _key_codes(predictions)
    is_new = np.zeros(len(predictions), bool)
    is_new[:1] = True
    for codes, _ in keys:
        is_new[1:] |= codes[1:] != codes[:-1]
    starts = np.flatnonzero(is_new)
    if len(np.unique(_numbers(keys, starts))) == len(starts):
        return slice(None), np.diff(np.append(starts, len(predictions)))
    numbers, names = pd.factorize(_numbers(keys, slice(None)))
    counts = np.bincount(numbers, minlength=len(names))
    # Small unsigned integers are sorted by radix, many times faster than by comparison.
    numbers = numbers.astype(np.min_scalar_type(max(len(names) - 1, 0)))
    return np.argsort(numbers, kind="stable"), counts


def group(predictions: pd.DataFrame) -> tuple[pd.DataFrame, Groups]:
    """The table of keys (one row a model, split and sensor) and its groups of finite pairs.

    Rows whose observation or prediction is no finite number stay out of the groups; a sensor that
    has no others still has its row of keys. Within a group rows run in time.
    """
    keys, parts = pieces(predictions)
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
    return keys, _cut(predictions, order, counts=counts, in_time=in_time, most_rows=most_rows)


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


def _cut(predictions, order, *, counts, in_time, most_rows):
    columns = {name.split("_")[0]: predictions[name].to_numpy(np.float64) for name in SERIES}
    if in_time and len(predictions):
        time, start = predictions["time"].to_numpy(), predictions["time"].min().to_datetime64()
    ends = np.append(0, np.cumsum(counts))
    for first, last in _bounds(ends, most_rows):
        rows = slice(ends[first], ends[last])
        if not isinstance(order, slice):
            rows = order[rows]
        part = {name: values[rows] for name, values in columns.items()}
        n, sizes = len(part["observed"]), counts[first:last]
        if in_time:
            part["rows"] = np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows
            part["hours"] = (time[rows] - start) / np.timedelta64(1, "h") if n else np.zeros(0)
            part = _in_time(part, sizes)
        else:
            part["hours"] = np.zeros(n)
        good = np.isfinite(part["observed"])
        good &= np.isfinite(part["predicted"])
        if not good.all():
            number = np.repeat(np.arange(len(sizes)), sizes)
            sizes = np.bincount(number[good], minlength=len(sizes))
            part = {name: values[good] for name, values in part.items()}
        which = np.flatnonzero(sizes)
        yield Groups(counts=sizes[which], which=which + first, **part)


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


def _in_time(part, counts):
    """Columns whose rows run in time within each group."""
    hours = part["hours"]
    rises = np.ones(len(hours), bool)
    rises[1:] = hours[1:] >= hours[:-1]
    rises[(np.cumsum(counts) - counts).astype(np.intp)] = True
    if rises.all():
        return part
    order = np.lexsort((hours, np.repeat(np.arange(len(counts)), counts)))
    return {name: values[order] for name, values in part.items()}


# The contract of a predictions table, checked with little memory beside the table.

HASHED_AT_ONCE = 2**18
ODD = np.uint64(0x9E3779B97F4A7C15)  # spreads the small codes of names over all bits


def check_predictions(predictions: pd.DataFrame, *, one_state: bool = False) -> None:
    """As ``contracts.check``, in eight bytes a row; a sample may stand once in every state.

    Rows are told apart by 64-bit hashes of their keys; only where two agree are the keys compared.

    Raises
    ------
    ContractError
        When the table breaks its contract, or has several states where ``one_state`` is asked for.
    """
    key = (*contracts.PREDICTIONS.key, *state_of(predictions))
    contracts.check(predictions, dataclasses.replace(contracts.PREDICTIONS, key=()))
    hashes = _hashes(predictions, key)
    hashes.sort()
    if (hashes[1:] == hashes[:-1]).any():
        contracts.check(predictions, dataclasses.replace(contracts.PREDICTIONS, key=key))
    for name in state_of(predictions) if one_state else ():
        found = predictions[name].astype("str").unique()
        if len(found) > 1:
            raise ContractError(
                f"One state at a time can be changed, found {', '.join(found)}. Select one."
            )


def _hashes(predictions: pd.DataFrame, key: tuple[str, ...]) -> np.ndarray:
    """A number for the key of each row, (row,)."""
    hashes = np.zeros(len(predictions), np.uint64)
    for name in key:
        column = predictions[name]
        is_category = isinstance(column.dtype, pd.CategoricalDtype)
        if is_category:  # a missing name has the code -1, and so the last number
            names = np.append(_hashed(column.array.categories), np.uint64(0))
        for first in range(0, len(column), HASHED_AT_ONCE):
            part = slice(first, first + HASHED_AT_ONCE)
            of_names = names[column.array.codes[part]] if is_category else _hashed(column[part])
            hashes[part] = hashes[part] * ODD + of_names
    return hashes


def _hashed(names: pd.Series | pd.Index) -> np.ndarray:
    return pd.util.hash_array(names.to_numpy(object), categorize=False)


# Predictions whose values were changed name their state, and each lost row says why.

RAW = "raw"


def changed(
    predictions: pd.DataFrame, rows: np.ndarray, *, values: Iterable[np.ndarray], words, state: str
) -> pd.DataFrame:
    """The table with new values at ``rows``, its state, and a ``status`` for every row.

    Parameters
    ----------
    predictions : table of that contract, one state
    rows : array (row,), places in the table
    values : observed and predicted, (row,) each, NaN where there is none
    words : array (row,) of text, "ok" or why a row has no value
    state : what was done, appended to what the table says of itself

    Returns
    -------
    DataFrame as the predictions; rows that ``rows`` leaves out are NaN in both series
    """
    status = np.full(len(predictions), "no finite pair", object)
    status[rows] = words
    table = predictions.copy(deep=False)
    for name, of_rows in zip(SERIES, values, strict=True):
        column = np.full(len(table), np.nan)
        column[rows] = np.where(status[rows] == OK, of_rows, np.nan)
        table[name] = column
    before = table[STATE].astype("str") if STATE in table.columns else RAW
    table[STATE] = np.where(before == RAW, state, before + " > " + state)
    # A standard deviation belongs to the values that were predicted, not to what became of them.
    return table.assign(status=status).drop(columns="predicted_std_m3_m3", errors="ignore")


# The point scores, for all groups at once: the four, and others on request.

METRICS = ("r", "ubrmse_m3_m3", "rmse_m3_m3", "bias_m3_m3")
KGE = "kge_2012"  # what "kge" means: its bias and variability do not count one error twice
EXTRA_METRICS = ("spearman", "kge_2009", KGE)
ROWS_AT_ONCE = 2**16  # five series of them stay in a processor's cache


def correlation(xy, *, xx, yy):
    """Pearson's R from sums of products and squares of deviations; NaN where a series is constant.

    Parameters
    ----------
    xy, xx, yy : arrays of one shape: covariances and variances, all in one unit, or sums of them
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.clip(xy / (np.sqrt(xx) * np.sqrt(yy)), -1, 1)


def correlation_of_sums(sums):
    """Pearson's R from (6, ...): counts, sums of x and y, of their squares, and of x y.

    NaN where a variance is as small as what rounding leaves of a constant's.
    """
    n, x, y, xx, yy, xy = sums
    with np.errstate(invalid="ignore", divide="ignore"):
        var_x, var_y = xx / n - (x / n) ** 2, yy / n - (y / n) ** 2
        flat = (var_x <= 1e-12 * xx / n) | (var_y <= 1e-12 * yy / n)
        return np.where(flat, np.nan, correlation(xy / n - x / n * (y / n), xx=var_x, yy=var_y))


def pearson_r(x, y, *, codes=None):
    """Pearson's R of two series; with ``codes``, of each group of rows.

    Parameters
    ----------
    x, y : array (row,), finite
    codes : int array (row,), groups from 0 on

    Returns
    -------
    float, or array (group,); NaN where a series is constant

    Examples
    --------
    >>> float(pearson_r([0.1, 0.2, 0.3], [0.2, 0.2, 0.5]).round(3))
    0.866
    """
    number = np.zeros(len(x), np.intp) if codes is None else codes
    order = np.argsort(number, kind="stable")
    counts = np.bincount(number)
    x, y = (np.asarray(values, float)[order] for values in (x, y))
    which = np.flatnonzero(counts)
    runs = Groups(counts[which], x, y, np.zeros(len(x)), which)
    found = np.full(len(counts), np.nan)
    found[which] = _r(runs, x, y)
    return found if codes is not None else found[0] if len(found) else np.nan


def _r(groups: Groups, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = groups.centred(x), groups.centred(y)
    return correlation(groups.sum(x * y), xx=groups.sum(x * x), yy=groups.sum(y * y))


def metrics_of(table: pd.DataFrame) -> list[str]:
    """The metrics that a table of scores has, the four first."""
    return [name for name in METRICS + EXTRA_METRICS if name in table.columns]


def extra_names(metrics: Iterable[str], table: pd.DataFrame) -> list[str]:
    """The columns that ``metrics`` adds to the four; "kge" is Kling-Gupta's of 2012.

    Raises
    ------
    ContractError
        For an unknown name, or Kling-Gupta's score of anomalies, whose mean is no amount of water.
    """
    asked = [KGE if name == "kge" else name for name in metrics]
    unknown = [name for name in asked if name not in METRICS + EXTRA_METRICS]
    if unknown:
        raise ContractError(
            f"No metric {', '.join(unknown)}; there are {', '.join(METRICS + EXTRA_METRICS)}."
        )
    has_kge = any(name.startswith("kge") for name in asked) and STATE in table.columns
    if has_kge and any("anomaly" in str(state) for state in table[STATE].unique()):
        raise ContractError(
            "Kling-Gupta's score divides by the mean observation, and the mean of anomalies is "
            "about zero. Ask for it of absolute values only."
        )
    return [name for name in EXTRA_METRICS if name in asked]


def points(groups: Groups, names: Iterable[str] = ()) -> dict[str, np.ndarray]:
    """R, ubRMSE, RMSE and bias of each group, (group,), by two passes over the rows; and extras.

    With d = predicted - observed: bias = mean(d), ubRMSE = sqrt(mean((d - bias)2)) and RMSE =
    sqrt(mean(d2)), which is sqrt(ubRMSE2 + bias2) [1]_; R is Pearson's, "spearman" that of the
    ranks, NaN where either series is constant. Kling-Gupta's is 1 - sqrt((r - 1)2 +
    (variability - 1)2 + (beta - 1)2) with beta = mean(predicted) / mean(observed); the variability
    is the ratio of standard deviations in the form of 2009 [2]_, and that of coefficients of
    variation in the form of 2012 [3]_, which keeps a wet bias from counting twice. NaN where R is,
    or where a mean is zero.

    References
    ----------
    .. [1] Entekhabi et al. (2010), doi:10.1175/2010JHM1223.1
    .. [2] Gupta et al. (2009), doi:10.1016/j.jhydrol.2009.08.003
    .. [3] Kling et al. (2012), doi:10.1016/j.jhydrol.2012.01.011
    """
    n, starts = groups.counts, groups.starts
    (x, mean_x), (y, mean_y) = groups.centre(groups.observed), groups.centre(groups.predicted)
    bias = groups.predicted[starts] - groups.observed[starts] + (mean_y - mean_x)
    xx, yy, xy = (groups.sum(product) for product in (x * x, y * y, x * y))
    y -= x  # the centred difference
    y *= y
    scatter = groups.sum(y) / n
    found = {
        "r": correlation(xy, xx=xx, yy=yy),
        "ubrmse_m3_m3": np.sqrt(scatter),
        "rmse_m3_m3": np.sqrt(scatter + bias * bias),
        "bias_m3_m3": bias,
    }
    for name in names:
        if name == "spearman":
            number = groups.spread(np.arange(len(n)))
            series = (pd.Series(groups.observed), pd.Series(groups.predicted))
            ranks = (values.groupby(number).rank().to_numpy() for values in series)
            found[name] = _r(groups, *ranks)
        else:
            with np.errstate(invalid="ignore", divide="ignore"):
                beta = groups.sum(groups.predicted) / groups.sum(groups.observed)
                variability = np.sqrt(yy / xx) / (beta if name == KGE else 1)
                parts = (found["r"] - 1) ** 2 + (variability - 1) ** 2 + (beta - 1) ** 2
            found[name] = np.where(np.isfinite(parts), 1 - np.sqrt(parts), np.nan)
    return found


def point_scores(predictions: pd.DataFrame, *, metrics: Iterable[str] = ()) -> pd.DataFrame:
    """R, ubRMSE, RMSE, bias and n of every model, split and sensor, without intervals.

    Parameters
    ----------
    predictions : table of that contract
    metrics : further scores: "spearman", "kge" (Kling-Gupta of 2012) or "kge_2009"

    Returns
    -------
    DataFrame, one row a model, split and sensor; moisture scores in m3 m-3
    """
    names = extra_names(metrics, predictions)
    keys, parts = pieces(predictions, in_time=False, most_rows=ROWS_AT_ONCE)
    table = {name: np.full(len(keys), np.nan) for name in [*METRICS, *names]}
    table["n"] = np.zeros(len(keys), np.int64)
    for groups in parts:
        for name, values in {**points(groups, names), "n": groups.counts}.items():
            table[name][groups.which] = values
    return pd.concat([keys, pd.DataFrame(table)], axis=1)

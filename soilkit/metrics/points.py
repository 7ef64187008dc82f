"""Predictions as sorted runs of floats, one a model, split and sensor, and their point scores."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
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
    is zero where time was not asked for; ``rows`` are the places in the table.
    """

    observed: np.ndarray
    predicted: np.ndarray
    hours: np.ndarray
    which: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(cls, observed, predicted, *, codes: np.ndarray | None = None) -> "Groups":
        """Groups of finite pairs (row,) without a time, by numbers (row,) from 0 on; else one."""
        numbers = np.zeros(len(observed), np.intp) if codes is None else codes
        rows, counts = np.argsort(numbers, kind="stable"), np.bincount(numbers)
        x, y = (np.asarray(values, float)[rows] for values in (observed, predicted))
        which = np.flatnonzero(counts)
        return cls(counts[which], x, y, np.zeros(len(x)), which, rows)

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
        values = (self.observed[kept], self.predicted[kept], self.hours[kept])
        return Groups(self.counts[keep], *values, self.which[keep], self.rows[kept])


def state_of(table: pd.DataFrame) -> list[str]:
    """The column that names the state of a table's values, where it has one."""
    return [STATE] if STATE in table.columns else []


def require_columns(stations: pd.DataFrame, columns: Iterable[str]) -> None:
    """Raise ``ContractError`` unless the stations table has the columns."""
    lacking = [name for name in columns if name not in stations.columns]
    if lacking:
        raise ContractError(
            f"The stations table lacks {', '.join(lacking)}; it has "
            f"{', '.join(map(str, stations.columns))}."
        )


def of_stations(rows: pd.DataFrame, stations: pd.DataFrame, *, column: str, key="station_id"):
    """The stations' ``column`` at each row, a Series on its index; missing where none is known."""
    require_columns(stations, [column])
    known = stations.drop_duplicates(key)
    values = pd.Series(known[column].to_numpy(), known[key].astype("str"))
    return rows[key].astype("str").map(values)


def class_names(classes: pd.Series) -> pd.Series:
    """Classes as text without blanks around, "" where unknown."""
    return classes.astype(object).where(classes.notna(), "").astype(str).str.strip()


def _key_codes(predictions: pd.DataFrame) -> list[tuple[np.ndarray, int]]:
    """Of each key, small numbers for its names, -1 for a missing one, and how many there may be."""
    keys = []
    for key in KEYS + state_of(predictions):
        column = predictions[key]
        if isinstance(column.dtype, pd.CategoricalDtype):
            keys.append((column.array.codes, len(column.array.categories)))
        else:
            codes, names = pd.factorize(column)
            keys.append((codes, len(names)))
    return keys


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
    ends = np.append(0, np.cumsum(counts)).astype(np.intp)
    first = ends[:-1] if isinstance(order, slice) else order[ends[:-1]]
    keys = {}
    for name in KEYS + PLACES + state_of(predictions):
        column = predictions[name]
        if isinstance(column.dtype, pd.CategoricalDtype):
            names = column.array.categories.astype("str").array
            keys[name] = names.take(column.array.codes[first], allow_fill=True)
        else:
            keys[name] = column.iloc[first].astype("str").array
    return pd.DataFrame(keys), _cut(
        predictions, order, ends=ends, in_time=in_time, most_rows=most_rows
    )


def _cut(predictions, order, *, ends, in_time, most_rows):
    series = [predictions[name].to_numpy(np.float64) for name in SERIES]
    time = predictions["time"].to_numpy()
    start = predictions["time"].min().to_datetime64() if in_time and len(time) else None
    for first, last in _bounds(ends, most_rows):
        rows = slice(ends[first], ends[last])
        rows = rows if isinstance(order, slice) else order[rows]
        sizes = np.diff(ends[first : last + 1])
        x, y = (values[rows] for values in series)
        hours = places = np.broadcast_to(0, len(x))  # zeros that take no memory
        if start is not None:
            places = np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows
            hours = (time[rows] - start) / np.timedelta64(1, "h")
            x, y, hours, places = _in_time(hours, (x, y, hours, places), sizes=sizes)
        good = np.isfinite(x)
        good &= np.isfinite(y)
        if not good.all():
            number = np.repeat(np.arange(len(sizes)), sizes)
            sizes = np.bincount(number[good], minlength=len(sizes))
            x, y, hours, places = (values[good] for values in (x, y, hours, places))
        which = np.flatnonzero(sizes)
        yield Groups(sizes[which], x, y, hours, which + first, places)


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


def _in_time(hours, columns, *, sizes):
    """Columns whose rows run in time within each group."""
    rises = np.ones(len(hours), bool)
    rises[1:] = hours[1:] >= hours[:-1]
    rises[(np.cumsum(sizes) - sizes).astype(np.intp)] = True
    if rises.all():
        return columns
    order = np.lexsort((hours, np.repeat(np.arange(len(sizes)), sizes)))
    return [values[order] for values in columns]


# The contract of a predictions table, checked with little memory beside the table.

HASHED_AT_ONCE = 2**17


def check_predictions(predictions: pd.DataFrame, *, one_state: bool = False) -> None:
    """As ``contracts.check``, in eight bytes a row; a sample may stand once in every state.

    Rows are told apart by 64-bit hashes of their keys; only where two agree are the keys compared.
    Raises ``ContractError`` when the table breaks its contract, or has several states where
    ``one_state`` is asked for.
    """
    key = (*contracts.PREDICTIONS.key, *state_of(predictions))
    contracts.check(predictions, dataclasses.replace(contracts.PREDICTIONS, key=()))
    named, hashes = predictions[list(key)], np.zeros(len(predictions), np.uint64)
    for first in range(0, len(named), HASHED_AT_ONCE):
        part = slice(first, first + HASHED_AT_ONCE)
        hashes[part] = pd.util.hash_pandas_object(named[part], index=False, categorize=False)
    hashes.sort()
    if (hashes[1:] == hashes[:-1]).any():
        contracts.check(predictions, dataclasses.replace(contracts.PREDICTIONS, key=key))
    for name in state_of(predictions) if one_state else ():
        states = predictions[name].astype("str").unique()
        if len(states) > 1:
            raise ContractError(
                f"One state at a time can be changed, found {', '.join(states)}. Select one."
            )


# Predictions whose values were changed name their state, and each lost row says why.

RAW = "raw"


def changed(
    predictions: pd.DataFrame, rows: np.ndarray, *, values: Iterable[np.ndarray], words, state: str
) -> pd.DataFrame:
    """The table, of one state, with new values at ``rows`` and a ``status`` for every row.

    ``rows`` are places in the table, (row,), ``values`` observed and predicted there, ``words``
    "ok" or why a row has no value, and ``state`` what was done, appended to what the table says of
    itself. Rows that ``rows`` leaves out are NaN in both series.
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
    """Pearson's R from covariance and variances, or their sums; NaN where a series is constant."""
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
    """Pearson's R of two finite series (row,); with ``codes`` from 0 on, of each group of rows.

    NaN where a series is constant.

    Examples
    --------
    >>> float(pearson_r([0.1, 0.2, 0.3], [0.2, 0.2, 0.5]).round(3))
    0.866
    """
    groups = Groups.of(x, y, codes=codes)
    r = _r(groups, groups.observed, groups.predicted)
    if codes is None:
        return r[0] if len(r) else np.nan
    of_groups = np.full(np.max(codes, initial=-1) + 1, np.nan)
    of_groups[groups.which] = r
    return of_groups


def _r(groups: Groups, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = groups.centred(x), groups.centred(y)
    return correlation(groups.sum(x * y), xx=groups.sum(x * x), yy=groups.sum(y * y))


def metrics_of(table: pd.DataFrame) -> list[str]:
    """The metrics that a table of scores has, the four first."""
    return [name for name in METRICS + EXTRA_METRICS if name in table.columns]


def extra_names(metrics: Iterable[str], table: pd.DataFrame) -> list[str]:
    """The columns that ``metrics`` adds to the four; "kge" is Kling-Gupta's of 2012.

    Raises ``ContractError`` for an unknown name, or Kling-Gupta's score of anomalies, whose mean is
    no amount of water.
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
    scores = {
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
            scores[name] = _r(groups, *ranks)
        else:
            with np.errstate(invalid="ignore", divide="ignore"):
                beta = groups.sum(groups.predicted) / groups.sum(groups.observed)
                variability = np.sqrt(yy / xx) / (beta if name == KGE else 1)
                parts = (scores["r"] - 1) ** 2 + (variability - 1) ** 2 + (beta - 1) ** 2
            scores[name] = np.where(np.isfinite(parts), 1 - np.sqrt(parts), np.nan)
    return scores


def point_scores(predictions: pd.DataFrame, *, metrics: Iterable[str] = ()) -> pd.DataFrame:
    """R, ubRMSE, RMSE, bias [m3 m-3] and n of every model, split and sensor, without intervals.

    ``metrics`` are further scores: "spearman", "kge" (Kling-Gupta of 2012) or "kge_2009".
    """
    names = extra_names(metrics, predictions)
    keys, parts = pieces(predictions, in_time=False, most_rows=ROWS_AT_ONCE)
    table = {name: np.full(len(keys), np.nan) for name in [*METRICS, *names]}
    table["n"] = np.zeros(len(keys), np.int64)
    for groups in parts:
        for name, values in {**points(groups, names), "n": groups.counts}.items():
            table[name][groups.which] = values
    return pd.concat([keys, pd.DataFrame(table)], axis=1)

"""Predictions as sorted runs of floats, one a model, split and sensor, and their point scores."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from scipy import stats

from soilkit import contracts
from soilkit.errors import ContractError

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


# The contract of a predictions table, checked with little memory beside the table.

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


# Predictions whose values were changed name their state, and each lost row says why.

RAW = "raw"
OK = "ok"
NO_PAIR = "no finite pair"


def changed(
    predictions: pd.DataFrame, rows: np.ndarray, *, values: dict[str, np.ndarray], words, state: str
) -> pd.DataFrame:
    """The table with new values at ``rows``, its state, and a ``status`` for every row.

    Parameters
    ----------
    predictions : table of that contract, one state
    rows : array (row,), places in the table
    values : by column, array (row,), NaN where there is none
    words : array (row,) of text, "ok" or why a row has no value
    state : what was done, appended to what the table says of itself

    Returns
    -------
    DataFrame as the predictions; rows that ``rows`` leaves out are NaN in both series
    """
    status = np.full(len(predictions), NO_PAIR, object)
    status[rows] = words
    table = predictions.copy(deep=False)
    for name in ("observed_m3_m3", "predicted_m3_m3"):
        column = np.full(len(table), np.nan)
        column[rows] = np.where(status[rows] == OK, values[name], np.nan)
        table[name] = column
    before = table[STATE].astype("str") if STATE in table.columns else RAW
    table[STATE] = np.where(before == RAW, state, before + " > " + state)
    # A standard deviation belongs to the values that were predicted, not to what became of them.
    return table.assign(status=status).drop(columns="predicted_std_m3_m3", errors="ignore")


def check(predictions: pd.DataFrame) -> None:
    """Raise unless the table keeps its contract and holds one state.

    Raises
    ------
    ContractError
    """
    check_predictions(predictions)
    for name in state_of(predictions):
        found = predictions[name].astype("str").unique()
        if len(found) > 1:
            raise ContractError(
                f"One state at a time can be changed, found {', '.join(found)}. Select one."
            )


# Scores beside the four, for all groups at once: Spearman's R and two forms of Kling-Gupta's.


def ranks(groups: Groups, values: np.ndarray) -> np.ndarray:
    """The rank of each row within its group from 1 on, ties sharing their mean rank, (row,)."""
    number = groups.spread(np.arange(len(groups.counts)))
    order = np.lexsort((values, number))
    place = np.arange(len(values)) - groups.spread(groups.starts)  # of the rows in sorted order
    value = values[order]
    is_new = np.ones(len(values), bool)
    is_new[1:] = (value[1:] != value[:-1]) | (number[1:] != number[:-1])
    first = np.flatnonzero(is_new)
    lengths = np.diff(np.append(first, len(values)))
    found = np.empty(len(values))
    found[order] = np.repeat(place[first] + (lengths + 1) / 2, lengths)
    return found


def spearman(groups: Groups) -> np.ndarray:
    """Pearson's R of the ranks of each group, (group,); NaN where either series is constant."""
    x = groups.centred(ranks(groups, groups.observed))
    y = groups.centred(ranks(groups, groups.predicted))
    norm = np.sqrt(groups.sum(x * x)) * np.sqrt(groups.sum(y * y))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.clip(groups.sum(x * y) / norm, -1, 1)


def spearman_interval(
    rho: np.ndarray, n_effective: np.ndarray, *, confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """Fisher's interval, its variance widened by 1 + rho2 / 2 for ranks [1]_.

    References
    ----------
    .. [1] Bonett and Wright (2000), doi:10.1007/BF02294183
    """
    z = stats.norm.ppf((1 + confidence) / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        half = z * np.sqrt((1 + rho**2 / 2) / (n_effective - 3))
        return np.tanh(np.arctanh(rho) - half), np.tanh(np.arctanh(rho) + half)


def kling_gupta(groups: Groups, r: np.ndarray, *, form: int) -> np.ndarray:
    """1 - sqrt((r - 1)2 + (variability - 1)2 + (beta - 1)2) of each group, (group,).

    beta = mean(predicted) / mean(observed). The variability is the ratio of standard deviations in
    the form of 2009 [1]_, and that of coefficients of variation in the form of 2012 [2]_, which
    keeps a wet bias from counting twice. NaN where R is, or where a mean is zero.

    References
    ----------
    .. [1] Gupta et al. (2009), doi:10.1016/j.jhydrol.2009.08.003
    .. [2] Kling et al. (2012), doi:10.1016/j.jhydrol.2012.01.011
    """
    x, y = groups.centred(groups.observed), groups.centred(groups.predicted)
    with np.errstate(invalid="ignore", divide="ignore"):
        alpha = np.sqrt(groups.sum(y * y) / groups.sum(x * x))
        beta = groups.sum(groups.predicted) / groups.sum(groups.observed)
        variability = alpha if form == 2009 else alpha / beta
        score = 1 - np.sqrt((r - 1) ** 2 + (variability - 1) ** 2 + (beta - 1) ** 2)
    return np.where(np.isfinite(score), score, np.nan)


# The point scores, for all groups at once: the four, and others on request.

METRICS = ("r", "ubrmse_m3_m3", "rmse_m3_m3", "bias_m3_m3")
KGE = "kge_2012"  # what "kge" means: its bias and variability do not count one error twice
ROWS_AT_ONCE_POINTS = 2**16  # five series of them stay in a processor's cache
EXTRA_METRICS = ("spearman", "kge_2009", KGE)


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


def extra_points(groups: Groups, r: np.ndarray, *, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Spearman's R and Kling-Gupta's scores of each group by name, (group,)."""
    forms = {"kge_2009": 2009, "kge_2012": 2012}
    return {
        name: kling_gupta(groups, r, form=forms[name]) if name in forms else spearman(groups)
        for name in names
    }


def points(groups: Groups) -> dict[str, np.ndarray]:
    """R, ubRMSE, RMSE and bias of each group, (group,), by two passes over the rows.

    With d = predicted - observed: bias = mean(d), ubRMSE = sqrt(mean((d - bias)2)) and RMSE =
    sqrt(mean(d2)), which is sqrt(ubRMSE2 + bias2) [1]_; R is Pearson's, NaN where either series
    is constant.

    References
    ----------
    .. [1] Entekhabi et al. (2010), doi:10.1175/2010JHM1223.1
    """
    n, starts = groups.counts, groups.starts
    (x, mean_x), (y, mean_y) = groups.centre(groups.observed), groups.centre(groups.predicted)
    bias = groups.predicted[starts] - groups.observed[starts] + (mean_y - mean_x)
    xx, yy, xy = (groups.sum(product) for product in (x * x, y * y, x * y))
    with np.errstate(invalid="ignore", divide="ignore"):
        r = np.clip(xy / (np.sqrt(xx) * np.sqrt(yy)), -1, 1)
    y -= x  # the centred difference
    y *= y
    scatter = groups.sum(y) / n
    return {
        "r": r,
        "ubrmse_m3_m3": np.sqrt(scatter),
        "rmse_m3_m3": np.sqrt(scatter + bias * bias),
        "bias_m3_m3": bias,
    }


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
    keys, parts = pieces(predictions, in_time=False, most_rows=ROWS_AT_ONCE_POINTS)
    table = {name: np.full(len(keys), np.nan) for name in [*METRICS, *names]}
    table["n"] = np.zeros(len(keys), np.int64)
    for groups in parts:
        found = points(groups)
        found |= extra_points(groups, found["r"], names=names)
        for name, values in {**found, "n": groups.counts}.items():
            table[name][groups.which] = values
    return pd.concat([keys, pd.DataFrame(table)], axis=1)

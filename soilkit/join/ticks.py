"""Integer time for the join: every instant and bound in one tick, so that no comparison rounds."""

import contextlib
from datetime import timedelta
from typing import Any, cast

import numpy as np
import pandas as pd

from soilkit.errors import BoundError

NS_PER = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
MISSING = np.iinfo(np.int64).min  # how numpy stores NaT
NEVER = np.iinfo(np.int64).max
WORDS = (("d", 86_400 * 10**9), ("h", 3600 * 10**9), ("min", 60 * 10**9))


def unit_ns(times: np.ndarray) -> int:
    """The nanoseconds in one unit of a datetime64 array."""
    return NS_PER[np.datetime_data(times.dtype)[0]]


def to_ticks(times: np.ndarray, tick_ns: int) -> np.ndarray:
    """datetime64 as int64 ticks of ``tick_ns`` (1 or 1000) nanoseconds; NaT becomes ``MISSING``."""
    unit = "datetime64[ns]" if tick_ns == 1 else "datetime64[us]"
    return times.astype(unit, copy=False).view(np.int64)


def as_categorical(column: pd.Series) -> pd.Categorical:
    """A column of strings as codes and categories; a categorical one costs no pass and no copy."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return cast(pd.Categorical, column.array)
    return pd.Categorical(column)


def bound_ns(source: str, bound: Any) -> int:
    """A bound in nanoseconds; ``BoundError`` unless it is a positive length of time."""
    if isinstance(bound, str | timedelta) and not pd.isna(bound):
        with contextlib.suppress(ValueError):  # text that is no length stays what it is
            bound = pd.Timedelta(bound).asm8
    unit = np.datetime_data(bound.dtype)[0] if isinstance(bound, np.timedelta64) else "generic"
    if unit == "generic" or pd.isna(bound):
        raise BoundError(
            f"The bound of {source!r} should be a length of time, found {bound!r}. "
            "Give a pandas.Timedelta, for instance pandas.Timedelta('1h')."
        )
    fine = "ns" if unit in ("ns", "ps", "fs", "as") else "us"
    length = int(bound.astype(f"timedelta64[{fine}]").astype(np.int64)) * NS_PER[fine]
    if length <= 0:
        raise BoundError(
            f"The bound of {source!r} should be longer than zero, found {bound}: ages run over "
            "[0, bound), so no scene could pass. Give a positive pandas.Timedelta."
        )
    return length


def in_words(length_ns: int) -> str:
    """A length of time in its largest whole unit.

    Examples
    --------
    >>> in_words(3600 * 10**9), in_words(14 * 86_400 * 10**9), in_words(90 * 60 * 10**9)
    ('1 h', '14 d', '90 min')
    """
    for word, size in (*WORDS, *NS_PER.items()):
        if length_ns % size == 0:
            return f"{length_ns // size} {word}"
    raise AssertionError(f"{length_ns} ns is no whole number of nanoseconds")

"""Anomalies: what a series does beside its season, by a moving window or by other years."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from soilkit.errors import ContractError
from soilkit.metrics import states
from soilkit.metrics.groups import rows_in_time

WINDOW_DAYS = 35.0
MIN_VALUES = 10
MS_PER_HOUR = 3_600_000
YEAR_MS = round(365.2425 * 24 * MS_PER_HOUR)
ORACLE = "climatology of its own other years (oracle)"


def window_anomalies(
    predictions: pd.DataFrame,
    *,
    window_days: float = WINDOW_DAYS,
    min_values: int = MIN_VALUES,
) -> pd.DataFrame:
    """Observation and prediction less their means in a moving window about each sample [1]_.

    The window is centred in time, not in rows, and closed: |dt| <= window_days / 2, the sample
    itself included. Both means run over the same samples, those with a finite pair.

    Parameters
    ----------
    predictions : table of that contract
    window_days : float, days
    min_values : int, pairs that a window needs

    Returns
    -------
    DataFrame as the predictions, values being anomalies [m3 m-3]; ``state`` names them and
    ``status`` says "ok", or why a row has none and is NaN in both series

    Raises
    ------
    ContractError
        When the table breaks its contract, or the window has no length.

    References
    ----------
    .. [1] Gruber et al. (2020), doi:10.1016/j.rse.2020.111806
    """
    windows = _Windows.of(predictions, window_days=window_days, min_values=min_values)
    found = windows.means([0])
    words = np.where(
        found.n >= min_values, states.OK, f"fewer than {min_values} values in the window"
    )
    return windows.less(found, words=words, state=f"anomaly: {window_days:g}-day window")


def climatology_anomalies(
    predictions: pd.DataFrame,
    *,
    window_days: float = WINDOW_DAYS,
    min_values: int = MIN_VALUES,
    min_years: int = 1,
) -> pd.DataFrame:
    """Observation and prediction less their means at the same time of *other* years.

    The climatology of a sample is the mean of its sensor's values within window_days / 2 of the
    same time in every other year (365.2425 days on or back, and so on): the sample's own season
    never enters, and New Year parts nothing. It is made of the sensor's own observations, so at a
    station that the model never saw it is an oracle, and ``state`` says so.

    Parameters
    ----------
    predictions : table of that contract
    window_days : float, days
    min_values : int, pairs that the other years' windows need together
    min_years : int, other years that must hold one

    Returns
    -------
    DataFrame as from ``window_anomalies``

    Raises
    ------
    ContractError
        When the table breaks its contract, or the window is no part of a year.
    """
    windows = _Windows.of(predictions, window_days=window_days, min_values=min_values)
    found = windows.other_years()
    words = _words(found, min_values, min_years)
    return windows.less(found, words=words, state=f"anomaly: {window_days:g}-day {ORACLE}")


def climatology(
    predictions: pd.DataFrame,
    *,
    window_days: float = WINDOW_DAYS,
    min_values: int = MIN_VALUES,
    min_years: int = 1,
) -> pd.DataFrame:
    """The sensor's own observed climatology as a prediction: an oracle to compare models with.

    Parameters are those of ``climatology_anomalies``.

    Returns
    -------
    DataFrame as the predictions, the model named "climatology of its own other years (oracle)";
    ``status`` says why a row has no prediction, and is then NaN in both series

    Raises
    ------
    ContractError
        When the table breaks its contract or holds several models, or the window is no part of a
        year.
    """
    if predictions["model"].nunique() > 1:
        raise ContractError("A climatology follows one model's samples: select a model's rows.")
    windows = _Windows.of(predictions, window_days=window_days, min_values=min_values)
    found = windows.other_years()
    observed = windows.groups.observed
    mean = observed - windows.groups.centred(observed)
    values = {"observed_m3_m3": observed, "predicted_m3_m3": mean + found.observed}
    table = states.changed(
        predictions,
        windows.rows,
        values=values,
        words=_words(found, min_values, min_years),
        state=states.RAW,
    )
    before = predictions["state"] if "state" in predictions.columns else states.RAW
    return table.assign(model=ORACLE, state=before)


def _words(found, min_values, min_years):
    return np.select(
        [found.n_windows == 0, found.n_windows < min_years, found.n < min_values],
        ["no other year", f"fewer than {min_years} other years"]
        + [f"fewer than {min_values} values in other years"],
        default=states.OK,
    )


class _Means(NamedTuple):
    """Means over windows, each (row,), and of how many values and windows.

    The means are of deviations from the sensor's own mean: an offset then costs no digit.
    """

    n: np.ndarray
    n_windows: np.ndarray
    observed: np.ndarray
    predicted: np.ndarray


class _Windows:
    """Windows about the rows of all groups, found and summed without a loop over them."""

    def __init__(self, predictions: pd.DataFrame, window_days: float):
        self.table = predictions
        self.rows, self.groups = rows_in_time(predictions)
        self.half = round(window_days / 2 * 24 * MS_PER_HOUR)
        ms = predictions["time"].to_numpy()[self.rows].astype("datetime64[ms]").astype(np.int64)
        self.ms = ms - (ms.min() if len(ms) else 0) + 1
        self.length = int(self.ms.max(initial=0)) + 2  # of a group's time axis, ends included
        self.offset = self.groups.spread(np.arange(len(self.groups.counts))) * self.length

    @classmethod
    def of(cls, predictions: pd.DataFrame, *, window_days: float, min_values: int) -> "_Windows":
        states.check(predictions)
        if not 0 < window_days < 365 or min_values < 1:
            raise ContractError(
                "A window needs between 0 and 365 days and at least one value, found "
                f"{window_days} days and {min_values} values."
            )
        return cls(predictions, window_days)

    def other_years(self) -> _Means:
        """Means over the windows of every year but the row's own."""
        n_years = self.length // YEAR_MS + 1
        return self.means([k for k in range(-n_years, n_years + 1) if k])

    def means(self, years: list[int]) -> _Means:
        """Means over the windows at the same time so many years on, together."""
        n, n_windows = np.zeros((2, len(self.rows)), np.int64)
        sums = np.zeros((2, len(self.rows)))
        series = (self.groups.observed, self.groups.predicted)
        # Deviations from the group's mean keep the running sums small, and exact with them.
        runs = np.zeros((2, len(self.rows) + 1))
        np.cumsum([self.groups.centred(values) for values in series], axis=1, out=runs[:, 1:])
        for year in years:
            low, high = self._bounds(year * YEAR_MS)
            n += high - low
            n_windows += high > low
            sums += runs[:, high] - runs[:, low]
        with np.errstate(invalid="ignore", divide="ignore"):
            return _Means(n, n_windows, *(sums / n))

    def _bounds(self, shift):
        """The first row of each row's window and the one behind its last."""
        axis = self.offset + self.ms
        first = np.clip(self.ms + shift - self.half, 0, self.length - 1)
        last = np.clip(self.ms + shift + self.half, 0, self.length - 1)
        return (
            np.searchsorted(axis, self.offset + first, side="left"),
            np.searchsorted(axis, self.offset + last, side="right"),
        )

    def less(self, found: _Means, *, words: np.ndarray, state: str) -> pd.DataFrame:
        """The table of both series less these means."""
        values = {
            "observed_m3_m3": self.groups.centred(self.groups.observed) - found.observed,
            "predicted_m3_m3": self.groups.centred(self.groups.predicted) - found.predicted,
        }
        return states.changed(self.table, self.rows, values=values, words=words, state=state)

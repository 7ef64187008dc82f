"""Predictions on the scale of the observations, by a map that never saw the year it maps."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from soilkit.errors import ContractError
from soilkit.metrics import states
from soilkit.metrics.groups import rows_in_time

MIN_PAIRS = 20
PAIRS_PER_BIN, MAX_BINS = 20, 100


def rescale(
    predictions: pd.DataFrame, *, method: str = "mean_std", min_pairs: int = MIN_PAIRS
) -> pd.DataFrame:
    """Each sensor's predictions mapped to its observations, every year by a fit to its other years.

    "mean_std" gives the predictions the observations' mean and standard deviation; "linear" is the
    least-squares line of the observations on them; "cdf" joins equal percentiles of both by
    straight lines, one bin for every 20 pairs up to 100 of them [1]_ [2]_, and goes on along the
    end pieces outside. Years are calendar years. A map needs the sensor's own observations, so at a
    station that the model never saw it is an oracle, and ``state`` says so.

    Parameters
    ----------
    predictions : table of that contract
    method : "mean_std", "linear" or "cdf"
    min_pairs : int, finite pairs that the other years must hold; "cdf" needs 40 at least

    Returns
    -------
    DataFrame as the predictions, on the observations' scale [m3 m-3]; ``state`` names the method
    and ``status`` says "ok", or why a row has no value and is NaN in both series

    Raises
    ------
    ContractError
        When the table breaks its contract, or for another method or fewer than two pairs.

    References
    ----------
    .. [1] Reichle and Koster (2004), doi:10.1029/2004GL020938
    .. [2] Brocca et al. (2011), doi:10.1016/j.rse.2011.08.003
    """
    if method not in FITS or min_pairs < 2:
        raise ContractError(
            f"Rescaling needs one of {', '.join(FITS)} and min_pairs >= 2, "
            f"found {method!r} and {min_pairs}."
        )
    states.check(predictions)
    rows, groups = rows_in_time(predictions)
    years = predictions["time"].to_numpy()[rows].astype("datetime64[Y]").astype(np.int64)
    scaled, words = np.full(len(rows), np.nan), np.full(len(rows), states.OK, object)
    needed = max(min_pairs, 2 * PAIRS_PER_BIN) if method == "cdf" else min_pairs
    for start, n in zip(groups.starts, groups.counts, strict=True):
        part = slice(start, start + n)
        scaled[part], words[part] = _sensor(
            groups.predicted[part], groups.observed[part], years[part], FITS[method], needed
        )
    values = {"observed_m3_m3": groups.observed, "predicted_m3_m3": scaled}
    state = f"rescaled: {method} of its own other years (oracle)"
    return states.changed(predictions, rows, values=values, words=words, state=state)


def _sensor(x, y, years, fit, needed):
    """One sensor's predictions x on the scale of y, (row,), and a word for each."""
    scaled, words = np.full(len(x), np.nan), np.full(len(x), states.OK, object)
    for year in np.unique(years):
        own = years == year
        others = ~own
        n = int(others.sum())
        if not n:
            words[own] = "no other year"
        elif n < needed:
            words[own] = f"too few pairs in other years: {n} < {needed}"
        elif np.ptp(x[others]) == 0:
            words[own] = "constant prediction in other years"
        else:
            scaled[own], words[own] = fit(x[others], y[others], x[own])
    return scaled, words


def _mean_std(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, str]:
    """``new`` on the scale of ``y``: mean(y) + (new - mean(x)) std(y) / std(x)."""
    mean = x.mean()
    return y.mean() + (new - mean) * (y.std() / x.std()), states.OK


def _linear(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, str]:
    """``new`` on the least-squares line of y on x; a falling line would turn skill around."""
    mean = x.mean()
    deviations = x - mean
    slope = (deviations @ (y - y.mean())) / (deviations @ deviations)
    if slope <= 0:
        return np.full(len(new), np.nan), "no rising line in other years"
    return y.mean() + slope * (new - mean), states.OK


def _cdf(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, str]:
    """``new`` by straight lines between equal percentiles of x and y."""
    percents = np.linspace(0, 100, min(len(x) // PAIRS_PER_BIN, MAX_BINS) + 1)
    at, to = (np.percentile(values, percents, method="hazen") for values in (x, y))
    at, where = np.unique(at, return_inverse=True)
    to = np.bincount(where, to) / np.bincount(where)  # a tie goes to its percentiles' mean
    left = np.clip(np.searchsorted(at, new, side="right") - 1, 0, len(at) - 2)
    slope = np.diff(to) / np.diff(at)
    return to[left] + slope[left] * (new - at[left]), states.OK


FITS: dict[str, Callable] = {"mean_std": _mean_std, "linear": _linear, "cdf": _cdf}

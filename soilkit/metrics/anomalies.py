"""Anomalies, seasons, rescaling, and what a model has to beat."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from soilkit.constants import OK
from soilkit.errors import ContractError
from soilkit.metrics import points
from soilkit.metrics.points import check_predictions, group
from soilkit.metrics.scores import station_scores

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
    windows = _Windows(predictions, window_days=window_days, min_values=min_values)
    means = windows.means([0])
    few = f"fewer than {min_values} values in the window"
    words = np.where(means.n >= min_values, OK, few)
    return windows.less(means, words=words, state=f"anomaly: {window_days:g}-day window")


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
    windows = _Windows(predictions, window_days=window_days, min_values=min_values)
    means, words = windows.other_years(min_years)
    return windows.less(means, words=words, state=f"anomaly: {window_days:g}-day {ORACLE}")


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
    windows = _Windows(predictions, window_days=window_days, min_values=min_values)
    means, words = windows.other_years(min_years)
    observed = windows.groups.observed
    values = (observed, observed - windows.groups.centred(observed) + means.observed)
    table = points.changed(
        predictions, windows.groups.rows, values=values, words=words, state=points.RAW
    )
    before = predictions["state"] if "state" in predictions.columns else points.RAW
    return table.assign(model=ORACLE, state=before)


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

    def __init__(self, predictions: pd.DataFrame, *, window_days: float, min_values: int):
        check_predictions(predictions, one_state=True)
        if not 0 < window_days < 365 or min_values < 1:
            raise ContractError(
                "A window needs between 0 and 365 days and at least one value, found "
                f"{window_days} days and {min_values} values."
            )
        self.table, self.min_values = predictions, min_values
        _, self.groups = group(predictions)
        self.half = round(window_days / 2 * 24 * MS_PER_HOUR)
        times = predictions["time"].to_numpy()[self.groups.rows]
        ms = times.astype("datetime64[ms]").astype(np.int64)
        self.ms = ms - (ms.min() if len(ms) else 0) + 1
        self.length = int(self.ms.max(initial=0)) + 2  # of a group's time axis, ends included
        self.offset = self.groups.spread(np.arange(len(self.groups.counts))) * self.length

    def other_years(self, min_years: int) -> tuple[_Means, np.ndarray]:
        """Means over the windows of every year but the row's own, and a word for each row."""
        n_years = self.length // YEAR_MS + 1
        means = self.means([k for k in range(-n_years, n_years + 1) if k])
        words = np.select(
            [means.n_windows == 0, means.n_windows < min_years, means.n < self.min_values],
            ["no other year", f"fewer than {min_years} other years"]
            + [f"fewer than {self.min_values} values in other years"],
            default=OK,
        )
        return means, words

    def means(self, years: list[int]) -> _Means:
        """Means over the windows at the same time so many years on, together."""
        n, n_windows = np.zeros((2, len(self.ms)), np.int64)
        sums = np.zeros((2, len(self.ms)))
        series = (self.groups.observed, self.groups.predicted)
        # Deviations from the group's mean keep the running sums small, and exact with them.
        runs = np.zeros((2, len(self.ms) + 1))
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

    def less(self, means: _Means, *, words: np.ndarray, state: str) -> pd.DataFrame:
        """The table of both series less these means."""
        centred = self.groups.centred
        values = (
            centred(self.groups.observed) - means.observed,
            centred(self.groups.predicted) - means.predicted,
        )
        return points.changed(self.table, self.groups.rows, values=values, words=words, state=state)


# Predictions on the scale of the observations, by a map that never saw the year it maps.

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
    check_predictions(predictions, one_state=True)
    _, groups = group(predictions)
    years = predictions["time"].to_numpy()[groups.rows].astype("datetime64[Y]").astype(np.int64)
    scaled, words = np.full(len(years), np.nan), np.full(len(years), OK, object)
    needed = max(min_pairs, 2 * PAIRS_PER_BIN) if method == "cdf" else min_pairs
    for start, n in zip(groups.starts, groups.counts, strict=True):
        part = slice(start, start + n)
        x, y = groups.predicted[part], groups.observed[part]
        for year in np.unique(years[part]):
            others = years[part] != year
            where = start + np.flatnonzero(~others)
            words[where] = why = _why_none(x[others], needed)
            if why == OK:
                scaled[where], words[where] = FITS[method](x[others], y[others], x[~others])
    values = (groups.observed, scaled)
    state = f"rescaled: {method} of its own other years (oracle)"
    return points.changed(predictions, groups.rows, values=values, words=words, state=state)


def _why_none(x, needed):
    """Why the other years' predictions x allow no fit, or "ok"."""
    if not len(x):
        return "no other year"
    if len(x) < needed:
        return f"too few pairs in other years: {len(x)} < {needed}"
    return OK if np.ptp(x) > 0 else "constant prediction in other years"


def _mean_std(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, str]:
    """``new`` on the scale of ``y``: mean(y) + (new - mean(x)) std(y) / std(x)."""
    mean = x.mean()
    return y.mean() + (new - mean) * (y.std() / x.std()), OK


def _linear(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, str]:
    """``new`` on the least-squares line of y on x; a falling line would turn skill around."""
    mean = x.mean()
    deviations = x - mean
    slope = (deviations @ (y - y.mean())) / (deviations @ deviations)
    if slope <= 0:
        return np.full(len(new), np.nan), "no rising line in other years"
    return y.mean() + slope * (new - mean), OK


def _cdf(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, str]:
    """``new`` by straight lines between equal percentiles of x and y."""
    percents = np.linspace(0, 100, min(len(x) // PAIRS_PER_BIN, MAX_BINS) + 1)
    at, to = (np.percentile(values, percents, method="hazen") for values in (x, y))
    at, where = np.unique(at, return_inverse=True)
    to = np.bincount(where, to) / np.bincount(where)  # a tie goes to its percentiles' mean
    left = np.clip(np.searchsorted(at, new, side="right") - 1, 0, len(at) - 2)
    slope = np.diff(to) / np.diff(at)
    return to[left] + slope[left] * (new - at[left]), OK


FITS: dict[str, Callable] = {"mean_std": _mean_std, "linear": _linear, "cdf": _cdf}


# Scores by season, which the hemisphere turns around.

MONTHS = ("DJF", "MAM", "JJA", "SON")
NAMES = ["season", "months", "hemisphere"]
NORTH = ("winter", "spring", "summer", "autumn")


def season_of(time: pd.Series, latitude: pd.Series | float) -> pd.DataFrame:
    """The three months and the season of each row; south of the equator DJF is summer.

    Parameters
    ----------
    time : Series (row,), UTC
    latitude : Series (row,) or one float [WGS84 degrees]; NaN where unknown

    Returns
    -------
    DataFrame on the index of ``time``: ``months`` ("DJF", ...), ``hemisphere`` ("north", "south",
    "unknown") and ``season`` ("winter", ...; the months where the hemisphere is unknown)

    Examples
    --------
    >>> days = pd.Series(pd.to_datetime(["2020-01-15", "2020-07-15"]))
    >>> season_of(days, -30.0)["season"].tolist()
    ['summer', 'winter']
    """
    quarter = time.dt.month.to_numpy() % 12 // 3
    degrees = np.broadcast_to(np.asarray(latitude, float), quarter.shape)
    months = np.array(MONTHS)[quarter]
    season = np.array(NORTH)[np.where(degrees < 0, (quarter + 2) % 4, quarter)]
    hemisphere = np.select([degrees >= 0, degrees < 0], ["north", "south"], default="unknown")
    known = hemisphere != "unknown"
    return pd.DataFrame(
        {
            "months": months,
            "hemisphere": hemisphere,
            "season": np.where(known, season, months),
        },
        index=time.index,
        dtype="str",
    )


def season_scores(
    predictions: pd.DataFrame,
    stations: pd.DataFrame,
    **options: Any,
) -> pd.DataFrame:
    """``station_scores`` of every sensor in every season, all years of a season together.

    Within a season the memory is fitted in time, so the nine months between two of them are a long
    step and not a short one.

    Parameters
    ----------
    predictions : table of that contract
    stations : stations table, for latitudes
    **options : those of ``station_scores``

    Returns
    -------
    DataFrame as from ``station_scores``, one row a model, split, sensor and season, with
    ``season, months, hemisphere`` in front; ``summarize(..., by="season")`` makes the table

    Raises
    ------
    ContractError
        When a table breaks its contract.
    """
    if "latitude" not in stations.columns:
        raise ContractError(
            "Seasons need the stations' latitude; the table has "
            f"{', '.join(map(str, stations.columns))}."
        )
    places = stations.drop_duplicates("station_id")
    known = pd.Series(places["latitude"].to_numpy(float), places["station_id"].astype("str"))
    latitude = predictions["station_id"].astype("str").map(known).astype(float)
    seasons = season_of(predictions["time"], latitude)
    tables = [
        station_scores(predictions.iloc[rows], **options).assign(
            **dict(zip(NAMES, key, strict=True))
        )
        for key, rows in seasons.groupby(NAMES).indices.items()
    ] or [station_scores(predictions, **options).assign(**dict.fromkeys(NAMES, ""))]
    table = pd.concat(tables, ignore_index=True)
    return table[NAMES + [name for name in table.columns if name not in NAMES]]


# What a model has to beat at stations that it never saw: their season, known from elsewhere.

TRAINING_WINDOW_DAYS = 31
N_DAYS = 366
TARGETS = ("observed_m3_m3", "soil_moisture_m3_m3")


def training_climatology(
    predictions: pd.DataFrame, training: pd.DataFrame, *, model: str = "training climatology"
) -> pd.DataFrame:
    """The training stations' mean for the day of year: a season that knows no place.

    On each day of the year, the mean over stations of their values within 15 days, whatever the
    year; every station with a value there counts the same.

    Parameters
    ----------
    predictions : predictions table of one model, for its samples
    training : table with station_id, time and ``observed_m3_m3`` or ``soil_moisture_m3_m3``, whose
        stations are not those that are predicted
    model : name of the baseline

    Returns
    -------
    predictions table; NaN on days that no training value is near

    Raises
    ------
    ContractError
        When there is no training value, or several models are given.
    """
    column = next((c for c in TARGETS if c in training.columns), None)
    known = training[[]] if column is None else training[np.isfinite(training[column])]
    if known.empty:
        raise ContractError(
            f"A training baseline needs finite {' or '.join(TARGETS)} in the training table, "
            "found none."
        )
    if predictions["model"].nunique() > 1:
        raise ContractError("A baseline copies the samples of one model: select its rows first.")
    codes, names = pd.factorize(known["station_id"].astype("str"))
    shape = (len(names), N_DAYS)
    cell = codes * N_DAYS + known["time"].dt.dayofyear.to_numpy() - 1
    values = known[column].to_numpy(float)
    total = _window(np.bincount(cell, values, minlength=np.prod(shape)), shape)
    count = _window(np.bincount(cell, minlength=np.prod(shape)), shape)
    with np.errstate(invalid="ignore"):
        of_station = np.where(count > 0, total / np.maximum(count, 1), 0)  # (station, day)
        of_day = of_station.sum(axis=0) / (count > 0).sum(axis=0)
    kept = predictions.drop(columns="predicted_std_m3_m3", errors="ignore")
    wanted = predictions["time"].dt.dayofyear.to_numpy() - 1
    return kept.assign(predicted_m3_m3=of_day[wanted], model=model)


def _window(flat, shape):
    """Sums over a circular window of days, (station, day)."""
    half = TRAINING_WINDOW_DAYS // 2
    table = np.pad(flat.reshape(shape).astype(float), ((0, 0), (half, half)), mode="wrap")
    return np.lib.stride_tricks.sliding_window_view(table, TRAINING_WINDOW_DAYS, axis=1).sum(axis=2)

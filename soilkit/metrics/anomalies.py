"""Anomalies, seasons, rescaling, and what a model has to beat."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from soilkit.constants import OK
from soilkit.errors import ContractError
from soilkit.metrics import points
from soilkit.metrics.points import check_predictions, group, of_stations
from soilkit.metrics.scores import station_scores

WINDOW_DAYS, MIN_VALUES = 35, 10
WINDOW_STEPS, MIN_STEPS = 7, 5  # of a table too sparse for ten values in 35 days
WINDOW_STATE = "-day window"  # how the state of anomalies from a moving window ends
DAY_MS = 24 * 3_600_000
YEAR_MS = round(365.2425 * DAY_MS)
ORACLE = "climatology of its own other years (oracle)"


def window_anomalies(predictions: pd.DataFrame) -> pd.DataFrame:
    """Observation and prediction less their means in 35 days about each sample [1]_.

    The window is centred in time, not in rows, and closed: |dt| <= 17.5 days, the sample itself
    included. Both means run over the same samples, those with a finite pair; ten are needed. A
    table whose median step is so long that 35 days do not hold ten has windows of at least seven
    steps, 70 days of ten-day means, and needs five values. ``state`` names the anomalies [m3 m-3]
    and the days, and ``status`` says "ok", or why a row has none and is NaN in both series.

    References
    ----------
    .. [1] Gruber et al. (2020), doi:10.1016/j.rse.2020.111806
    """
    windows = _Windows(predictions)
    return windows.less(windows.means([0]), state=f"anomaly: {windows.days}{WINDOW_STATE}")


def climatology_anomalies(predictions: pd.DataFrame) -> pd.DataFrame:
    """Observation and prediction less their means at the same time of *other* years.

    The climatology of a sample is the mean of its sensor's values within the half of such a window
    of the same time in every other year (365.2425 days on or back, and so on): the sample's own
    season never enters, and New Year parts nothing. It is made of the sensor's own observations, so
    at a station that the model never saw it is an oracle, and ``state`` says so. The table is as
    from ``window_anomalies``.
    """
    windows = _Windows(predictions)
    return windows.less(windows.other_years(), state=f"anomaly: {windows.days}-day {ORACLE}")


def climatology(predictions: pd.DataFrame) -> pd.DataFrame:
    """The sensor's own observed climatology, of ``climatology_anomalies``, as a prediction.

    The model is named "climatology of its own other years (oracle)"; ``status`` says why a row has
    no prediction, and is then NaN in both series. Raises ``ContractError`` when the table breaks
    its contract or holds several models.
    """
    if predictions["model"].nunique() > 1:
        raise ContractError("A climatology follows one model's samples: select a model's rows.")
    windows = _Windows(predictions)
    means, observed = windows.other_years(), windows.groups.observed
    values = (observed, observed - windows.groups.centred(observed) + means.observed)
    table = windows.changed(values, means.words, state=points.RAW)
    before = predictions["state"] if "state" in predictions.columns else points.RAW
    return table.assign(model=ORACLE, state=before)


class _Means(NamedTuple):
    """Means over windows of deviations from the sensor's own mean, and why one lacks, (row,)."""

    observed: np.ndarray
    predicted: np.ndarray
    words: np.ndarray


class _Windows:
    """Windows about the rows of all groups, found and summed without a loop over them."""

    def __init__(self, predictions: pd.DataFrame):
        check_predictions(predictions, one_state=True)
        self.table = predictions
        _, self.groups = group(predictions)
        times = predictions["time"].to_numpy()[self.groups.rows]
        ms = times.astype("datetime64[ms]").astype(np.int64)
        steps = np.diff(ms)
        steps[self.groups.starts[1:] - 1] = 0
        step_days = np.median(steps[steps > 0]) / DAY_MS if (steps > 0).any() else 0
        is_sparse = step_days > WINDOW_DAYS / MIN_VALUES
        self.days = max(WINDOW_DAYS, round(WINDOW_STEPS * step_days)) if is_sparse else WINDOW_DAYS
        self.least = MIN_STEPS if is_sparse else MIN_VALUES
        self.half = self.days * DAY_MS // 2
        self.ms = ms - (ms.min() if len(ms) else 0) + 1
        self.length = int(self.ms.max(initial=0)) + 2  # of a group's time axis, ends included

    def other_years(self) -> _Means:
        """Means over the windows of every year but the row's own."""
        n_years = self.length // YEAR_MS + 1
        return self.means([k for k in range(-n_years, n_years + 1) if k])

    def means(self, years: list[int]) -> _Means:
        """Means over the windows at the same time so many years on, together."""
        series = (self.groups.observed, self.groups.predicted)
        # Deviations from the group's mean keep the running sums small, and exact with them.
        runs = np.zeros((2, len(self.ms) + 1))
        np.cumsum([self.groups.centred(values) for values in series], axis=1, out=runs[:, 1:])
        n, sums = np.zeros(len(self.ms), np.int64), np.zeros((2, len(self.ms)))
        offset = self.groups.spread(np.arange(len(self.groups.counts))) * self.length
        axis = offset + self.ms
        for year in years:
            first, last = (
                offset + np.clip(self.ms + year * YEAR_MS + side, 0, self.length - 1)
                for side in (-self.half, self.half)
            )
            low = np.searchsorted(axis, first, side="left")
            high = np.searchsorted(axis, last, side="right")
            n += high - low
            sums += runs[:, high] - runs[:, low]
        few = f"fewer than {self.least} values in " + ("the window", "other years")[any(years)]
        none = "no other year" if any(years) else few
        words = np.select([n == 0, n < self.least], [none, few], default=OK)
        with np.errstate(invalid="ignore", divide="ignore"):
            observed, predicted = sums / n
        return _Means(observed, predicted, words)

    def less(self, means: _Means, *, state: str) -> pd.DataFrame:
        """The table of both series less these means."""
        series = (self.groups.observed, self.groups.predicted)
        values = [self.groups.centred(v) - m for v, m in zip(series, means[:2], strict=True)]
        return self.changed(values, means.words, state=state)

    def changed(self, values, words: np.ndarray, *, state: str) -> pd.DataFrame:
        """The table with these values (observed, predicted) of the groups' rows."""
        rows = self.groups.rows
        return points.changed(self.table, rows, values=values, words=words, state=state)


# Predictions on the scale of the observations, by a map that never saw the year it maps.

METHODS = {"mean_std": "mean and standard deviation", "linear": "line", "cdf": "percentiles"}
PAIRS_PER_BIN, MAX_BINS = 20, 100
MIN_PAIRS, MIN_PAIRS_OF_CDF = 20, 2 * PAIRS_PER_BIN


def rescale(
    predictions: pd.DataFrame, *, method: str = "mean_std", in_sample: bool = False
) -> pd.DataFrame:
    """Each sensor's predictions mapped to its observations, every year by a fit to its other years.

    "mean_std" gives the predictions the observations' mean and standard deviation; "linear" is the
    least-squares line of the observations on them; "cdf" joins equal percentiles of both by
    straight lines, one bin for every 20 pairs up to 100 of them [1]_ [2]_, and goes on along the
    end pieces outside. Years are calendar years, of which the others must hold 20 pairs ("cdf":
    40). A map needs the sensor's own observations, so at a station that the model never saw it is
    an oracle; one fitted ``in_sample`` has seen the very values that it is scored on, as is usual
    in the literature. ``state`` says which. Raises ``ContractError`` when the table breaks its
    contract, or for another method.

    Parameters
    ----------
    method : "mean_std", "linear" or "cdf"
    in_sample : bool, one fit to all years of the sensor, the mapped one too

    Returns
    -------
    DataFrame as the predictions, on the observations' scale [m3 m-3]; ``state`` names the method
    and ``status`` says "ok", or why a row has no value and is NaN in both series

    References
    ----------
    .. [1] Reichle and Koster (2004), doi:10.1029/2004GL020938
    .. [2] Brocca et al. (2011), doi:10.1016/j.rse.2011.08.003
    """
    if method not in METHODS:
        raise ContractError(f"Rescaling is one of {', '.join(METHODS)}, found {method!r}.")
    check_predictions(predictions, one_state=True)
    _, groups = group(predictions)
    rows, fit = "other years", "of its own other years (oracle)"
    years = predictions["time"].to_numpy()[groups.rows].astype("datetime64[Y]").astype(np.int64)
    if in_sample:
        rows, fit, years = "sample", "in sample (fitted to what it scores)", np.zeros_like(years)
    scaled, words = np.full(len(years), np.nan), np.full(len(years), OK, object)
    for start, n in zip(groups.starts, groups.counts, strict=True):
        part = slice(start, start + n)
        x, y = groups.predicted[part], groups.observed[part]
        for year in np.unique(years[part]):
            mapped = years[part] == year
            fitted, rows_of = ~mapped | in_sample, start + np.flatnonzero(mapped)
            scaled[rows_of], words[rows_of] = _mapped(
                x[mapped], x[fitted], y[fitted], method=method, rows=rows
            )
    state, values = f"rescaled: {METHODS[method]} {fit}", (groups.observed, scaled)
    return points.changed(predictions, groups.rows, values=values, words=words, state=state)


def _mapped(new, x, y, *, method, rows):
    """``new`` by the map of x to observations y in some rows, (row,), and why there is none."""
    needed = MIN_PAIRS_OF_CDF if method == "cdf" else MIN_PAIRS
    if not len(x):
        return np.nan, "no other year"
    if len(x) < needed:
        return np.nan, f"too few pairs in {rows}: {len(x)} < {needed}"
    if np.ptp(x) == 0:
        return np.nan, f"constant prediction in {rows}"
    if method == "cdf":
        percents = np.linspace(0, 100, min(len(x) // PAIRS_PER_BIN, MAX_BINS) + 1)
        at, to = (np.percentile(values, percents, method="hazen") for values in (x, y))
        at, bin_of = np.unique(at, return_inverse=True)
        to = np.bincount(bin_of, to) / np.bincount(bin_of)  # a tie goes to its percentiles' mean
        left = np.clip(np.searchsorted(at, new, side="right") - 1, 0, len(at) - 2)
        slope = np.diff(to) / np.diff(at)
        return to[left] + slope[left] * (new - at[left]), OK
    deviations = x - x.mean()
    slope = y.std() / x.std()
    if method == "linear":
        slope = (deviations @ (y - y.mean())) / (deviations @ deviations)
        if slope <= 0:  # a falling line would turn skill around
            return np.nan, f"no rising line in {rows}"
    return y.mean() + slope * (new - x.mean()), OK


# Scores by season, which the hemisphere turns around.

MONTHS = ("DJF", "MAM", "JJA", "SON")
NAMES = ["season", "months", "hemisphere"]
NORTH = ("winter", "spring", "summer", "autumn")


def season_of(time: pd.Series, latitude: pd.Series | float) -> pd.DataFrame:
    """The three months and the season of each row; south of the equator DJF is summer.

    ``time`` is a Series (row,), UTC, ``latitude`` one too or a float [WGS84 degrees], NaN where
    unknown.

    Returns
    -------
    DataFrame on the index of ``time``: ``months`` ("DJF", ...), ``hemisphere`` ("north", "south",
    "unknown") and ``season`` ("winter", ...; the months where the hemisphere is unknown)
    """
    quarter = time.dt.month.to_numpy() % 12 // 3
    degrees = np.broadcast_to(np.asarray(latitude, float), quarter.shape)
    months = np.array(MONTHS)[quarter]
    hemisphere = np.select([degrees >= 0, degrees < 0], ["north", "south"], default="unknown")
    season = np.array(NORTH)[np.where(degrees < 0, (quarter + 2) % 4, quarter)]
    season = np.where(hemisphere == "unknown", months, season)
    columns = {"months": months, "hemisphere": hemisphere, "season": season}
    return pd.DataFrame(columns, index=time.index, dtype="str")


def season_scores(
    predictions: pd.DataFrame, stations: pd.DataFrame, **options: Any
) -> pd.DataFrame:
    """``station_scores`` of every sensor in every season, all years of a season together.

    Within a season the memory is fitted in time, so the nine months between two of them are a long
    step and not a short one. The stations give latitudes; ``options`` are those of
    ``station_scores``. In front of its columns stand ``season, months, hemisphere``;
    ``summarize(..., by="season")`` makes the table.
    """
    latitude = of_stations(predictions, stations, column="latitude").astype(float)
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
    year; every station with a value there counts the same. NaN on days that no training value is
    near. Raises ``ContractError`` when there is no training value, or several models are given.

    Parameters
    ----------
    predictions : predictions table of one model, for its samples
    training : table with station_id, time and ``observed_m3_m3`` or ``soil_moisture_m3_m3``, whose
        stations are not those that are predicted
    model : name of the baseline
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
    cell = codes * N_DAYS + known["time"].dt.dayofyear.to_numpy() - 1
    half, sums = TRAINING_WINDOW_DAYS // 2, []
    for weights in (known[column].to_numpy(float), None):
        table = np.bincount(cell, weights, len(names) * N_DAYS).reshape(-1, N_DAYS)
        table = np.pad(table.astype(float), ((0, 0), (half, half)), mode="wrap")
        windows = np.lib.stride_tricks.sliding_window_view(table, TRAINING_WINDOW_DAYS, axis=1)
        sums.append(windows.sum(axis=2))  # (station, day)
    total, count = sums
    with np.errstate(invalid="ignore"):
        of_station = np.where(count > 0, total / np.maximum(count, 1), 0)
        of_day = of_station.sum(axis=0) / (count > 0).sum(axis=0)
    kept = predictions.drop(columns="predicted_std_m3_m3", errors="ignore")
    wanted = predictions["time"].dt.dayofyear.to_numpy() - 1
    return kept.assign(predicted_m3_m3=of_day[wanted], model=model)

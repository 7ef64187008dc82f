"""Anomalies, seasons, rescaling, and what a model has to beat."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from soilkit import contracts
from soilkit.errors import ContractError
from soilkit.metrics import points
from soilkit.metrics.points import rows_in_time
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
    windows = _Windows.of(predictions, window_days=window_days, min_values=min_values)
    found = windows.means([0])
    words = np.where(
        found.n >= min_values, points.OK, f"fewer than {min_values} values in the window"
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
    table = points.changed(
        predictions,
        windows.rows,
        values=values,
        words=_words(found, min_values, min_years),
        state=points.RAW,
    )
    before = predictions["state"] if "state" in predictions.columns else points.RAW
    return table.assign(model=ORACLE, state=before)


def _words(found, min_values, min_years):
    return np.select(
        [found.n_windows == 0, found.n_windows < min_years, found.n < min_values],
        ["no other year", f"fewer than {min_years} other years"]
        + [f"fewer than {min_values} values in other years"],
        default=points.OK,
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
        points.check(predictions)
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
        return points.changed(self.table, self.rows, values=values, words=words, state=state)


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
    points.check(predictions)
    rows, groups = rows_in_time(predictions)
    years = predictions["time"].to_numpy()[rows].astype("datetime64[Y]").astype(np.int64)
    scaled, words = np.full(len(rows), np.nan), np.full(len(rows), points.OK, object)
    needed = max(min_pairs, 2 * PAIRS_PER_BIN) if method == "cdf" else min_pairs
    for start, n in zip(groups.starts, groups.counts, strict=True):
        part = slice(start, start + n)
        scaled[part], words[part] = _sensor(
            groups.predicted[part], groups.observed[part], years[part], FITS[method], needed
        )
    values = {"observed_m3_m3": groups.observed, "predicted_m3_m3": scaled}
    state = f"rescaled: {method} of its own other years (oracle)"
    return points.changed(predictions, rows, values=values, words=words, state=state)


def _sensor(x, y, years, fit, needed):
    """One sensor's predictions x on the scale of y, (row,), and a word for each."""
    scaled, words = np.full(len(x), np.nan), np.full(len(x), points.OK, object)
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
    return y.mean() + (new - mean) * (y.std() / x.std()), points.OK


def _linear(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, str]:
    """``new`` on the least-squares line of y on x; a falling line would turn skill around."""
    mean = x.mean()
    deviations = x - mean
    slope = (deviations @ (y - y.mean())) / (deviations @ deviations)
    if slope <= 0:
        return np.full(len(new), np.nan), "no rising line in other years"
    return y.mean() + slope * (new - mean), points.OK


def _cdf(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, str]:
    """``new`` by straight lines between equal percentiles of x and y."""
    percents = np.linspace(0, 100, min(len(x) // PAIRS_PER_BIN, MAX_BINS) + 1)
    at, to = (np.percentile(values, percents, method="hazen") for values in (x, y))
    at, where = np.unique(at, return_inverse=True)
    to = np.bincount(where, to) / np.bincount(where)  # a tie goes to its percentiles' mean
    left = np.clip(np.searchsorted(at, new, side="right") - 1, 0, len(at) - 2)
    slope = np.diff(to) / np.diff(at)
    return to[left] + slope[left] * (new - at[left]), points.OK


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
    by_station = pd.Series(
        places["latitude"].to_numpy(float), index=places["station_id"].astype("str")
    )
    latitude = predictions["station_id"].astype("str").map(by_station).astype(float)
    seasons = season_of(predictions["time"], latitude)
    tables = []
    for key, index in seasons.groupby(NAMES).indices.items():
        scores = station_scores(predictions.iloc[index], **options)
        tables.append(scores.assign(**dict(zip(NAMES, key, strict=True))))
    if not tables:
        return station_scores(predictions, **options).assign(**dict.fromkeys(NAMES, ""))
    table = pd.concat(tables, ignore_index=True)
    return table[NAMES + [name for name in table.columns if name not in NAMES]]


# A coarse product at its own times beside the same product as the join hands it to a model.

OWN_TIME = "at its own time"
AS_JOINED = "as joined"
TIME_UNIT = "datetime64[us]"


def at_own_time(
    series: pd.DataFrame,
    observations: pd.DataFrame,
    *,
    stations: pd.DataFrame,
    value: str,
    max_gap_hours: float = 1.0,
    model: str | None = None,
) -> pd.DataFrame:
    """Each value of a coarse series with the reading nearest in time to the middle of its interval.

    A value whose nearest reading lies further than ``max_gap_hours`` away keeps its row, its
    observation NaN; between two equally near the earlier is taken.

    Parameters
    ----------
    series : table with station_id, start, end [UTC] and ``value``, as ``Archive.series`` gives it
    observations : observations table; readings that are no finite number are left out
    stations : stations table (one row a sensor), which says whose sensors stand where
    value : column of ``series`` that holds moisture [m3 m-3]
    max_gap_hours : float, h, the bound included
    model : name of the predictions' model; the column's name where None

    Returns
    -------
    predictions table, one row a sensor and value of the series, ``split`` "all" and ``state`` "at
    its own time"; ``gap_hours`` is how far the reading lies behind (+) or before (-) the value, and
    ``status`` "ok" or why a row has no pair

    Raises
    ------
    ContractError
        When a table breaks its contract, or no bound is given.
    """
    _check(series, observations, value, max_gap_hours)
    sensors = stations[["sensor_id", "station_id", "network"]].astype("str")
    sensors = sensors.drop_duplicates("sensor_id")
    found = series[["station_id"]].astype("str").assign(
        time=_middles(series), predicted_m3_m3=series[value].to_numpy(float)
    )  # fmt: skip
    found = found.sort_values("time", kind="stable").merge(sensors, on="station_id")
    good = observations[np.isfinite(observations["soil_moisture_m3_m3"].to_numpy(float))]
    readings = pd.DataFrame(
        {
            "sensor_id": good["sensor_id"].astype("str"),
            "read": good["time"].astype(TIME_UNIT),
            "observed_m3_m3": good["soil_moisture_m3_m3"].astype(float),
        }
    ).sort_values("read", kind="stable")
    pairs = pd.merge_asof(
        found, readings, left_on="time", right_on="read", by="sensor_id", direction="nearest",
        tolerance=pd.Timedelta(max_gap_hours, "h"),
    )  # fmt: skip
    return _predictions(pairs, model or value)


def _check(series, observations, value, max_gap_hours):
    missing = [c for c in ("station_id", "start", "end", value) if c not in series.columns]
    if missing or not max_gap_hours >= 0:
        raise ContractError(
            "A series at its own time needs station_id, start, end, its value and a bound of zero "
            f"hours or more; missing {', '.join(missing) or 'nothing'}, bound {max_gap_hours}."
        )
    contracts.check(observations, contracts.OBSERVATIONS)


def _middles(series):
    start, end = (series[name].to_numpy().astype(TIME_UNIT) for name in ("start", "end"))
    return start + (end - start) // 2


def _predictions(pairs, model):
    has_value = np.isfinite(pairs["predicted_m3_m3"])
    status = np.where(has_value, "no reading within the bound", "no value in the series")
    status = np.where(has_value & pairs["observed_m3_m3"].notna(), "ok", status)
    gap = (pairs["read"] - pairs["time"]) / pd.Timedelta(1, "h")
    ids = pairs["sensor_id"] + "@" + pairs["time"].dt.strftime("%Y%m%dT%H%M%S.%f")
    table = pairs.drop(columns="read").assign(
        sample_id=ids, model=model, split="all", state=OWN_TIME, gap_hours=gap, status=status
    )
    return table.sort_values(["sensor_id", "time"], ignore_index=True)


def score_both_ways(
    own: pd.DataFrame,
    joined: pd.DataFrame,
    **options: Any,
) -> pd.DataFrame:
    """Scores of a coarse product at its own time and as joined, ``state`` telling them apart.

    As joined, a value up to days old stands beside a reading: what a model was given, and no
    verdict on the product. At its own time it is judged as its makers meant it.

    Parameters
    ----------
    own : from ``at_own_time``
    joined : predictions table whose predicted value is the product's, as the join chose it
    **options : those of ``station_scores``

    Returns
    -------
    DataFrame as from ``station_scores``, with ``state`` "at its own time" or "as joined"

    Raises
    ------
    ContractError
        When a table breaks its contract.
    """
    tables = [
        station_scores(own.assign(state=OWN_TIME), **options),
        station_scores(joined.assign(state=AS_JOINED), **options),
    ]
    return pd.concat(tables, ignore_index=True)


# What a model has to beat: coarse products, the training mean and the training climatology.

WINDOW_DAYS_BASELINES = 31
N_DAYS = 366
TARGETS = ("observed_m3_m3", "soil_moisture_m3_m3")


def product_baseline(
    predictions: pd.DataFrame,
    features: pd.DataFrame,
    *,
    column: str,
    model: str,
    units_per_m3_m3: float = 1.0,
) -> pd.DataFrame:
    """A coarse product as it comes, at the samples of ``predictions``.

    Parameters
    ----------
    predictions : predictions table of one model, for its samples, observations and split
    features : features table
    column : of the features, such as "smap_ssm"
    model : name of the baseline
    units_per_m3_m3 : float, of the column: 50 for SMAP's mm in 5 cm, 100 for GLDAS's kg m-2 in
        10 cm, 1 for m3 m-3

    Returns
    -------
    predictions table; samples without a value keep NaN, and stay out of every score

    Raises
    ------
    ContractError
        When the features lack the column or hold a sample twice.
    """
    if column not in features.columns:
        have = ", ".join(c for c in features.columns if c != "sample_id")
        raise ContractError(f"No feature {column!r} for a baseline; there are {have}.")
    values = pd.Series(
        features[column].to_numpy(float), index=features["sample_id"].astype("str").to_numpy()
    )
    if values.index.has_duplicates:
        raise ContractError("A sample stands twice in the features: a baseline needs one value.")
    found = values.reindex(predictions["sample_id"].astype("str")).to_numpy() / units_per_m3_m3
    return _like(predictions, found, model)


def training_mean(
    predictions: pd.DataFrame, training: pd.DataFrame, *, model: str = "training mean"
) -> pd.DataFrame:
    """One number everywhere: the mean of the training stations' means.

    Its R does not exist, and its status says "constant prediction"; its ubRMSE is the standard
    deviation within a station.

    Parameters
    ----------
    predictions : predictions table of one model, for its samples
    training : table with station_id and ``observed_m3_m3`` or ``soil_moisture_m3_m3``, whose
        stations are not those that are predicted
    model : name of the baseline

    Returns
    -------
    predictions table

    Raises
    ------
    ContractError
        When there is no training value.
    """
    known = _training(training)
    mean = known["value"].groupby(known["station_id"]).mean().mean()
    return _like(predictions, np.full(len(predictions), mean), model)


def training_climatology(
    predictions: pd.DataFrame, training: pd.DataFrame, *, model: str = "training climatology"
) -> pd.DataFrame:
    """The training stations' mean for the day of year: a season that knows no place.

    On each day of the year, the mean over stations of their values within 15 days, whatever the
    year; every station with a value there counts the same.

    Parameters
    ----------
    predictions, training, model : as for ``training_mean``; the training needs ``time``

    Returns
    -------
    predictions table; NaN on days that no training value is near

    Raises
    ------
    ContractError
        When there is no training value.
    """
    known = _training(training)
    codes, names = pd.factorize(known["station_id"])
    shape = (len(names), N_DAYS)
    cell = codes * N_DAYS + known["time"].dt.dayofyear.to_numpy() - 1
    total = _window(np.bincount(cell, known["value"], minlength=np.prod(shape)), shape)
    count = _window(np.bincount(cell, minlength=np.prod(shape)), shape)
    with np.errstate(invalid="ignore"):
        of_station = np.where(count > 0, total / np.maximum(count, 1), np.nan)  # (station, day)
        of_day = np.where(count > 0, of_station, 0).sum(axis=0) / (count > 0).sum(axis=0)
    wanted = predictions["time"].dt.dayofyear.to_numpy() - 1
    return _like(predictions, of_day[wanted], model)


def _window(flat, shape):
    """Sums over a circular window of days, (station, day)."""
    half = WINDOW_DAYS_BASELINES // 2
    table = flat.reshape(shape).astype(float)
    wrapped = np.concatenate([table[:, -half:], table, table[:, :half]], axis=1)
    return np.lib.stride_tricks.sliding_window_view(wrapped, WINDOW_DAYS_BASELINES, axis=1).sum(
        axis=2
    )


def _training(training):
    """The finite training values with their stations (and times), on an index of their own."""
    column = next((c for c in TARGETS if c in training.columns), None)
    if column is None or not np.isfinite(training[column].to_numpy(float)).any():
        raise ContractError(
            f"A training baseline needs finite {' or '.join(TARGETS)} in the training table, "
            "found none."
        )
    known = training.assign(value=training[column].astype(float))
    known = known[np.isfinite(known["value"])].reset_index(drop=True)
    return known.astype({"station_id": "str"})


def _like(predictions, values, model):
    if predictions["model"].nunique() > 1:
        raise ContractError("A baseline copies the samples of one model: select its rows first.")
    kept = predictions.drop(columns="predicted_std_m3_m3", errors="ignore")
    return kept.assign(predicted_m3_m3=np.asarray(values, float), model=model)

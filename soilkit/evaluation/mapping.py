"""Is the map right: skill across stations at fixed dates, its parts, and its mean over dates."""

from typing import Any

import numpy as np
import pandas as pd

from soilkit import metrics
from soilkit.evaluation.records import OK, Options, missing
from soilkit.evaluation.scoring import Places, attempt
from soilkit.metrics import bootstrap, jackknife
from soilkit.metrics.spatial import MIN_STATIONS, PARTS, VALUES, split_parts, station_dates

MEAN = ("model", "part", "r", "lower", "upper", "n_dates", "n_stations", "n_clusters", "status")


def date_length(unseen: pd.DataFrame, options: Options) -> str:
    """A day, or the step of the table where its stations are read less often."""
    if options.every:
        return options.every
    steps = unseen.sort_values("time").groupby(unseen["sensor_id"].astype("str"))["time"].diff()
    days = steps[steps > pd.Timedelta(0)].median() / pd.Timedelta("1D")
    return f"{max(int(round(days)), 1)}D" if np.isfinite(days) else "1D"


def in_space(unseen: pd.DataFrame, *, places: Places, options: Options) -> dict[str, pd.DataFrame]:
    """The three tables of skill in space: by date, its mean over dates, and all station-dates."""
    every = date_length(unseen, options)
    how: dict[str, Any] = {"places": places, "every": every}

    def parts():
        # One cluster left out may leave nothing: the status says so, a warning need not.
        with np.errstate(invalid="ignore", divide="ignore"):
            return metrics.spatial_parts(unseen, stations=places.or_none, every=every)

    return {
        "spatial": attempt(lambda: spatial(unseen, **how)),
        "spatial_mean": attempt(lambda: spatial_mean(unseen, **how)),
        "spatial_parts": attempt(parts),
    }


def spatial(unseen: pd.DataFrame, *, places: Places, every: str) -> pd.DataFrame:
    """``metrics.spatial_scores`` of the values, of their static and of their dynamic part."""
    found = [
        metrics.spatial_scores(unseen, stations=places.or_none, part=part, every=every).assign(
            part=part
        )
        for part in PARTS
    ]
    table = pd.concat(found, ignore_index=True)
    if table["r"].isna().all():
        n = int(table["n_stations"].max()) if len(table) else 0
        return missing(f"no date with {MIN_STATIONS} stations: the most is {n}")
    return table


def spatial_mean(unseen: pd.DataFrame, *, places: Places, every: str) -> pd.DataFrame:
    """The mean over dates of R across stations, with an interval that leaves blocks out.

    Dates are those with ten stations and more. The static part is each station's mean over them,
    so its R says whether wet places are shown wet; the dynamic part is what is left, so its R says
    whether the map shows *where* it is wetter than usual that day.
    """
    values = station_dates(unseen, every=every)
    values["cluster"] = bootstrap.clusters(values, places.or_none, kind=places.unit)
    rows = []
    for model, table in values.groupby("model", observed=True, sort=True):
        table = table[table.groupby("date")["station_id"].transform("size") >= MIN_STATIONS]
        n = {"n_dates": table["date"].nunique(), "n_stations": table["station_id"].nunique()}
        parts = dict.fromkeys(PARTS, table[VALUES])
        if len(table):
            parts["static"], parts["dynamic"] = split_parts(table[VALUES], table["station_id"])
        for part, chosen in parts.items():
            line = _mean_r(chosen.to_numpy(float), table["date"], table["cluster"])
            rows.append({"model": model, "part": part, **line, **n})
    return pd.DataFrame(rows, columns=list(MEAN))


def _mean_r(values: np.ndarray, date: pd.Series, cluster: pd.Series) -> dict:
    """Mean over dates of R across rows, and its limits by leaving clusters out."""
    when, dates = pd.factorize(date)
    code, names = pd.factorize(cluster)
    k = len(names)
    none = {"r": np.nan, "lower": np.nan, "upper": np.nan, "n_clusters": k}
    if not len(dates):
        return {**none, "status": f"no date with {MIN_STATIONS} stations"}
    x, y = (values - values.mean(axis=0)).T
    sums = np.zeros((6, k, len(dates)))
    for total, column in zip(sums, (np.ones(len(x)), x, y, x * x, y * y, x * y), strict=True):
        np.add.at(total, (code, when), column)
    whole = _r(sums.sum(axis=1))
    if np.isnan(whole).all():
        return {**none, "status": "constant across stations"}
    mean = np.nanmean(whole)
    if k < bootstrap.MIN_CLUSTERS:
        words = f"no interval: {k} clusters < {bootstrap.MIN_CLUSTERS}"
        return {**none, "r": mean, "status": words}
    without = _r(sums.sum(axis=1)[:, None] - sums)  # (cluster, date)
    with np.errstate(invalid="ignore"):
        left_out = np.nanmean(without, axis=1)
    lower, upper = jackknife.interval(
        np.array([mean]), left_out[:, None], present=np.ones((k, 1), bool), scale="r",
        confidence=0.95,
    )  # fmt: skip
    good = bool(np.isfinite(lower[0]))
    status = OK if good else "no interval: no score without one of the clusters"
    return {"r": mean, "lower": lower[0], "upper": upper[0], "n_clusters": k, "status": status}


def _r(sums: np.ndarray) -> np.ndarray:
    """R from counts, sums and sums of products, (6, ...); NaN where a series is constant."""
    n, x, y, xx, yy, xy = sums
    with np.errstate(invalid="ignore", divide="ignore"):
        var_x, var_y = xx / n - (x / n) ** 2, yy / n - (y / n) ** 2
        good = (var_x > 1e-12 * xx / n) & (var_y > 1e-12 * yy / n)
        r = (xy / n - x * y / n**2) / np.sqrt(np.where(good, var_x * var_y, np.nan))
    return np.clip(r, -1, 1)

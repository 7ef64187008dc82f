"""Ten-day labels of stations from hourly readings, and how far two tables of them agree."""

import numpy as np
import pandas as pd

from soilkit.insitu.names import plain

MAX_DEPTH_M = 0.0508  # two inches
HOURS_A_DAY_NEEDS = 12
DAYS_A_WINDOW = 10


def ten_day_labels(
    observations: pd.DataFrame,
    stations: pd.DataFrame,
    *,
    origin: str = "2019-01-01",
    max_depth_m: float = MAX_DEPTH_M,
    min_hours: int = HOURS_A_DAY_NEEDS,
) -> pd.DataFrame:
    """Mean soil moisture of each station in each window of ten days.

    Readings of flag "G" from sensors no deeper than ``max_depth_m``. A sensor's day is the mean of
    its readings and counts with at least ``min_hours`` of them; a station's day is the mean over
    its sensors; the label is the mean over the window's days.

    Parameters
    ----------
    observations, stations : DataFrame, as ``read_ismn`` and ``read_stations`` return them
    origin : text, UTC day from which windows are counted, forwards and backwards
    max_depth_m : float, m
    min_hours : int, readings that a sensor's day needs

    Returns
    -------
    DataFrame with ``key`` (NETWORK/station in lower-case letters and digits), ``station_id``,
        ``start`` (of the window), ``sm_insitu`` (m3 m-3), ``sm_days`` (days in the mean)
    """
    shallow = stations[stations["depth_to_m"] <= max_depth_m]
    per_sensor = _sensor_days(observations, shallow, min_hours=min_hours)
    per_sensor = per_sensor.merge(shallow[["sensor_id", "station_id"]], on="sensor_id")
    days = per_sensor.groupby(["station_id", "day"], as_index=False)["mean"].mean()
    first = np.datetime64(origin, "D").astype("int64")
    days["window"] = (days["day"] - first) // DAYS_A_WINDOW
    windows = days.groupby(["station_id", "window"], as_index=False)["mean"].agg(["mean", "count"])
    start = (windows["window"].to_numpy() * DAYS_A_WINDOW + first).astype("datetime64[D]")
    names = shallow.drop_duplicates("station_id").set_index("station_id")
    keys = {i: f"{n}/{plain(s)}" for i, n, s in names[["network", "station"]].itertuples()}
    return pd.DataFrame(
        {
            "key": windows["station_id"].map(keys).astype("str"),
            "station_id": windows["station_id"],
            "start": start.astype("datetime64[us]"),
            "sm_insitu": windows["mean"],
            "sm_days": windows["count"],
        }
    )


def _sensor_days(observations, shallow, *, min_hours: int) -> pd.DataFrame:
    """Sensor, day (since 1970) and mean of every sensor's day with enough good readings."""
    sensor = observations["sensor_id"].astype("category").cat
    is_shallow = sensor.categories.isin(shallow["sensor_id"])
    codes = sensor.codes.to_numpy()
    good = (observations["flag"] == "G").to_numpy() & (codes >= 0) & is_shallow[codes]
    hours = pd.DataFrame(
        {
            "sensor": codes[good],
            "day": observations["time"].to_numpy()[good].astype("datetime64[D]").astype("int64"),
            "value": observations["soil_moisture_m3_m3"].to_numpy(dtype="float64")[good],
        }
    )
    days = hours.groupby(["sensor", "day"])["value"].agg(["mean", "count"]).reset_index()
    days = days[days["count"] >= min_hours]
    return days.assign(sensor_id=sensor.categories.to_numpy()[days["sensor"]])


def compare_labels(labels: pd.DataFrame, published: pd.DataFrame, *, tolerance_m3_m3: float = 1e-3):
    """How far our labels agree with a published table of the same windows.

    Parameters
    ----------
    labels : DataFrame from ``ten_day_labels``
    published : DataFrame with ``key``, ``start``, ``sm_insitu``, ``sm_days`` (NaN = no label)
    tolerance_m3_m3 : float, windows differing by more are counted

    Returns
    -------
    DataFrame with ``what`` and ``value``: stations and windows compared, windows that one side
        lacks, pooled Pearson R, mean and largest absolute difference (m3 m-3), windows that
        differ, and how many of those rest on another number of days
    """
    both = _side_by_side(labels, published)
    theirs, ours = both["sm_insitu_published"], both["sm_insitu"]
    pair = both[theirs.notna() & ours.notna()]
    difference = (pair["sm_insitu"] - pair["sm_insitu_published"]).abs()
    differs = difference > tolerance_m3_m3
    other_days = pair["sm_days"] != pair["sm_days_published"]
    rows = {
        "stations compared": pair["key"].nunique(),
        "windows compared": len(pair),
        "windows only published": int((theirs.notna() & ours.isna()).sum()),
        "windows only here": int((theirs.isna() & ours.notna()).sum()),
        "pearson r": pair["sm_insitu"].corr(pair["sm_insitu_published"]),
        "mean absolute difference m3 m-3": difference.mean(),
        "largest absolute difference m3 m-3": difference.max(),
        f"windows that differ by more than {tolerance_m3_m3:g} m3 m-3": int(differs.sum()),
        "of those, with another number of days": int((differs & other_days).sum()),
        "windows with another number of days": int(other_days.sum()),
    }
    return pd.DataFrame({"what": list(rows), "value": list(rows.values())}, dtype="object")


def differing_windows(labels: pd.DataFrame, published: pd.DataFrame, *, tolerance_m3_m3=1e-3):
    """The windows behind ``compare_labels``'s counts: both values, both numbers of days.

    Parameters
    ----------
    labels, published, tolerance_m3_m3 : as in ``compare_labels``

    Returns
    -------
    DataFrame, the largest difference first; a window that one side lacks has NaN there
    """
    both = _side_by_side(labels, published)
    both["difference"] = both["sm_insitu"] - both["sm_insitu_published"]
    one_side = both["sm_insitu"].isna() != both["sm_insitu_published"].isna()
    chosen = both[one_side | (both["difference"].abs() > tolerance_m3_m3)]
    return chosen.sort_values("difference", key=abs, ascending=False, ignore_index=True)


def _side_by_side(labels: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """The published stations' and windows' labels beside ours."""
    theirs = published[["key", "start", "sm_insitu", "sm_days"]]
    within = labels["key"].isin(theirs["key"]) & labels["start"].between(
        theirs["start"].min(), theirs["start"].max()
    )
    ours = labels.loc[within, ["key", "start", "sm_insitu", "sm_days"]]
    return ours.merge(theirs, on=["key", "start"], how="outer", suffixes=("", "_published"))

"""A coarse product at its own times beside the same product as the join hands it to a model."""

from typing import Any

import numpy as np
import pandas as pd

from soilkit import contracts
from soilkit.errors import ContractError
from soilkit.metrics.stations import station_scores

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

"""Scores by season, which the hemisphere turns around."""

from typing import Any

import numpy as np
import pandas as pd

from soilkit.errors import ContractError
from soilkit.metrics.stations import station_scores

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

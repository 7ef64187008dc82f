"""Daily soil moisture of unseen stations from weather alone: the table and its drops.

The real table is SCAN's and SNOTEL's daily one (moisture in percent, precipitation, air and soil
temperature). No predictor is measured in the soil: soil temperature only tells frozen days, which
are dropped. Latitude enters through the sun's height, in potential evapotranspiration, alone.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from soilkit import grids, units
from soilkit.contracts import DROPS, FEATURES, SAMPLES, STATIONS, Archive, check
from soilkit.errors import ContractError, UnitError
from soilkit.models import daily_table, weather_features
from soilkit.world.sensors import composites

READINGS, PLACES = "scan_daily_2in.parquet", "scan_stations.csv"
NAME, NETWORK = "scan_snotel_daily", "SCAN/SNOTEL"
DEPTH_M = 0.0508  # two inches
METRES_PER_FOOT = 0.3048  # the list of stations gives feet
WETTEST_M3_M3 = 0.6
RAIN_DAYS, LEAST_RAIN_KNOWN = 90, 0.8
# Values outside are unknown; the wettest is above most records of a day, not above all.
BOUNDS = {
    "precip_mm": (0.0, 400.0), "tair_c": (-60.0, 55.0), "tmax_c": (-60.0, 60.0),
    "tmin_c": (-60.0, 50.0), "rh_pct": (0.0, 100.0), "st_2in": (-40.0, 70.0),
}  # fmt: skip
NEEDED = ("Date", "Station Id", "sm_2in", *BOUNDS)


class DailyWeather(NamedTuple):
    """Stations, samples and features in one row order; ``drops`` counts station-days that went.

    ``unknown`` counts single values that a physical bound turned to NaN: ``column, lower, upper,
    values, known``.
    """

    stations: pd.DataFrame
    samples: pd.DataFrame
    features: pd.DataFrame
    drops: pd.DataFrame
    unknown: pd.DataFrame


def read_folder(folder: str | Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Raw readings and stations of the folder with SCAN's and SNOTEL's daily table.

    Returns
    -------
    readings (as they are, percent), and stations: number, station, latitude, longitude, elevation_m

    Raises
    ------
    ContractError
        If a file or a column is missing.
    """
    paths = [Path(folder) / name for name in (READINGS, PLACES)]
    lacking = [path.name for path in paths if not path.is_file()]
    if lacking:
        raise ContractError(f"{folder} lacks {', '.join(lacking)}. Name the folder that has both.")
    readings = pd.read_parquet(paths[0])
    table = pd.read_csv(paths[1], sep=";", encoding="utf-8-sig")
    number = table["Name"].str.extract(r"\((\d+)\)\s*$")[0]
    return readings, pd.DataFrame(
        {
            "number": number.astype(int),
            "station": table["Name"].str.replace(r"\s*\(\d+\)\s*$", "", regex=True),
            "latitude": table["Lat"].astype(float),
            "longitude": table["Long"].astype(float),
            "elevation_m": table["Elv"].astype(float) * METRES_PER_FOOT,
        }
    )


def from_world(archive: Archive) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The same two tables from the synthetic archive, in the same units.

    Moisture is that of ``daily_table.build``, soil temperature its LST. Rain is the world's rain
    with errors; air temperature is that of the 9 km cell, with a range of 12 degrees C every day
    and humidity unknown, as the world has neither.
    """
    table = daily_table.build(archive)
    world: Any = archive.world  # type: ignore[attr-defined]
    places = table.stations.reset_index(drop=True)
    cells = composites.pixels_at(
        places["longitude"], places["latitude"], size_m=grids.EASE2_PIXEL_SIZE_M[9]
    )
    days, rain = composites.rain_mm(world, cells)
    air = np.asarray(world.cells(cells.rows, cells.cols).temperature_c)
    n = len(places)
    weather = {"station_id": np.repeat(places["station_id"].to_numpy(str), len(days)),
               "time": np.tile(days.astype("datetime64[us]"), n), "precip_mm": rain.ravel(),
               "tair_c": air.ravel()}  # fmt: skip
    moist = table.rows[["station_id", "time", "soil_moisture_m3_m3", "lst_c"]]
    rows = pd.DataFrame(weather).merge(moist, on=["station_id", "time"], how="left")
    numbers = pd.Series(np.arange(n), index=places["station_id"])
    rows = rows.assign(
        **{"Date": rows["time"], "Station Id": rows["station_id"].map(numbers)},
        sm_2in=100 * rows["soil_moisture_m3_m3"], st_2in=rows["lst_c"], rh_pct=np.nan,
        tmax_c=rows["tair_c"] + 6, tmin_c=rows["tair_c"] - 6,
    )  # fmt: skip
    own = places[["station", "latitude", "longitude", "elevation_m"]].assign(number=np.arange(n))
    return rows[list(NEEDED)], own


def prepare(readings: pd.DataFrame, places: pd.DataFrame) -> DailyWeather:
    """Stations, samples, features and drops from raw readings.

    Dropped and counted, in this order: moisture unknown, below 0 or above 0.6 m3 m-3, soil at or
    below 0 degrees C, soil temperature unknown, and days with rain unknown on more than a fifth of
    the 90 days up to them (among them the first of each record).

    Parameters
    ----------
    readings : one row a station and day, with the columns ``NEEDED``; moisture in percent
    places : stations, as ``read_folder`` gives them

    Raises
    ------
    ContractError
        If a column or a station is missing, or a station-day stands twice.
    UnitError
        If moisture is m3 m-3 already.
    """
    readings = _checked(readings, places)
    readings, unknown = _bounded(readings)
    stations = _stations(places, readings["Station Id"].unique())
    day = readings["Date"].to_numpy().astype("datetime64[D]")
    days = np.arange(day.min(), day.max() + 1)
    order = pd.Index(stations["number"])
    where = (day - days[0]).astype(int), order.get_indexer(readings["Station Id"])
    columns = ("precip_mm", "tair_c", "tmin_c", "tmax_c", "rh_pct")
    series = (_grid(readings[c], where, (len(days), len(order))) for c in columns)
    weather = weather_features.Weather(days, stations["latitude"].to_numpy(), *series)
    known = weather_features.past_share_known(weather.rain_mm, RAIN_DAYS)[where]
    kept, drops = _drops(readings, stations["sensor_id"].to_numpy(str)[where[1]], rain_known=known)
    rows, at = readings[kept].reset_index(drop=True), (where[0][kept], where[1][kept])
    samples = _samples(rows, stations["station_id"].to_numpy(str)[at[1]])
    made = weather_features.build(weather).items()
    table = pd.DataFrame({name: v[at].astype("float32") for name, v in made})
    table["elevation_m"] = stations["elevation_m"].to_numpy("float32")[at[1]]
    table.insert(0, "sample_id", samples["sample_id"])
    stations = stations.drop(columns="number")
    for part, schema in ((samples, SAMPLES), (table, FEATURES), (stations, STATIONS)):
        check(part, schema)
    return DailyWeather(stations, samples, table, drops, unknown)


def _checked(readings, places):
    lacking = [name for name in NEEDED if name not in readings]
    if lacking:
        raise ContractError(f"Readings lack {', '.join(lacking)}; they have {list(readings)}.")
    if readings["sm_2in"].max() <= units.MAX_SOIL_MOISTURE_M3_M3:
        raise UnitError(
            f"sm_2in reaches {readings['sm_2in'].max():.3g} only; wanted percent, which reaches "
            "tens. If it is m3 m-3, multiply by 100 first."
        )
    strange = set(readings["Station Id"]) - set(places["number"])
    twice = int(readings.duplicated(["Station Id", "Date"]).sum())
    if strange or twice:
        raise ContractError(
            f"{len(strange)} stations of the readings have no place ({sorted(strange)[:5]}), and "
            f"{twice} station-days stand twice. Complete the list, or keep one row a day."
        )
    return readings[list(NEEDED)].sort_values(["Station Id", "Date"]).reset_index(drop=True)


def _bounded(readings):
    """Readings with impossible weather unknown, and how many values that were."""
    told, changed = [], {}
    for name, (low, high) in BOUNDS.items():
        values = readings[name].astype(float)
        beyond = values.notna() & ~values.between(low, high)
        told.append((name, low, high, int(beyond.sum()), int(values.notna().sum())))
        changed[name] = values.mask(beyond)
    halves = (changed["tmax_c"] + changed["tmin_c"]) / 2
    changed["tair_c"] = changed["tair_c"].fillna(halves)
    unknown = pd.DataFrame(told, columns=["column", "lower", "upper", "values", "known"])
    return readings.assign(**changed), unknown


def _stations(places, numbers):
    table = places[places["number"].isin(numbers)].sort_values("number").reset_index(drop=True)
    ids = NETWORK + "/" + table["number"].astype(str)
    classes = dict.fromkeys(("land_cover", "koeppen", "texture"), "")
    table = table.assign(
        sensor_id=ids, station_id=ids, network=NETWORK, depth_from_m=DEPTH_M, depth_to_m=DEPTH_M,
        **classes,
    )  # fmt: skip
    return table.astype(dict.fromkeys(("station", "network", *classes), "str"))


def _grid(values, where, shape) -> np.ndarray:
    out = np.full(shape, np.nan)
    out[where] = values.to_numpy(float)
    return out


def _drops(readings, sensors, *, rain_known):
    """Which rows stay, and how many went at each sensor for each reason."""
    moisture = units.volumetric_from_percent(readings["sm_2in"].to_numpy(float))
    soil_c = readings["st_2in"].to_numpy()
    steps = (
        ("moisture unknown", np.isnan(moisture)),
        (f"moisture below 0 or above {WETTEST_M3_M3:g} m3 m-3",
         (moisture < 0) | (moisture > WETTEST_M3_M3)),
        ("soil frozen: at or below 0 degC", soil_c <= 0),
        ("soil temperature unknown", np.isnan(soil_c)),
        (f"rain unknown on more than a fifth of {RAIN_DAYS} days", rain_known < LEAST_RAIN_KNOWN),
    )  # fmt: skip
    kept, parts = np.ones(len(readings), bool), []
    for reason, gone in steps:
        count = pd.Series(sensors[kept & gone]).value_counts().rename_axis("sensor_id")
        parts.append(count.rename("count").reset_index().assign(source=NAME, reason=reason))
        kept &= ~gone
    drops = pd.concat(parts, ignore_index=True)[["sensor_id", "source", "reason", "count"]]
    drops = drops.astype({"sensor_id": "str", "source": "str", "reason": "str"})
    check(drops, DROPS)
    return kept, drops


def _samples(rows, ids):
    time = rows["Date"].astype("datetime64[us]")
    return pd.DataFrame(
        {
            "sample_id": ids + "_" + time.dt.strftime("%Y-%m-%d"),
            "sensor_id": ids,
            "station_id": ids,
            "time": time,
            "soil_moisture_m3_m3": units.volumetric_from_percent(rows["sm_2in"].to_numpy(float)),
        }
    )

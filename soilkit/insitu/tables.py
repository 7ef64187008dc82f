"""Plain tables of in-situ readings: core validation sites, mesonets, USCRN daily."""

import gzip
import logging
import zlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from soilkit.errors import ArchiveReadError, ContractError
from soilkit.insitu import names, rules

LOG = logging.getLogger("soilkit.insitu")
REQUIRED = ("station", "time", "soil_moisture", "latitude", "longitude")
DEFAULTS: dict[str, Any] = {
    "network": "=table",
    "sensor": "=probe",
    "depth_from_m": 0.05,
    "depth_to_m": None,  # as depth_from_m
    "flag": "=G",
    "elevation_m": np.nan,
    "land_cover": "=",
    "koeppen": "=",
    "texture": "=",
}
STATION_COLUMNS = [
    "sensor_id", "station_id", "network", "station", "latitude", "longitude", "elevation_m",
    "depth_from_m", "depth_to_m", "land_cover", "koeppen", "texture",
]  # fmt: skip
PARQUET_MAGIC, GZIP_MAGIC = b"PAR1", b"\x1f\x8b"
USCRN_DEPTHS_M = {5: 0.05, 10: 0.1, 20: 0.2, 50: 0.5, 100: 1.0}


def read_table(
    path: str | Path | pd.DataFrame,
    *,
    columns: Mapping[str, Any],
    units: str,
    timezone: str | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read a CSV or parquet table of readings, long or wide, through a mapping of its columns.

    ``columns`` says where each of our quantities stands: ``{"station": "site", ...}``.
    Needed: station, time, soil_moisture, latitude, longitude. Optional: network, sensor,
    depth_from_m, depth_to_m (default 0.05 m), flag (default "G"), elevation_m, land_cover, koeppen,
    texture. A number stands for itself, and a text after "=" too (``"network": "=KENASTER"``). A
    wide table has several columns of soil moisture, each with its depth in m or its (from, to):
    ``{"soil_moisture": {"sm_2in": 0.0508, "sm_8in": 0.2032}}``.

    Parameters
    ----------
    path : str, Path or DataFrame; times as datetimes or ISO 8601 text
    columns : mapping, as above
    units : "m3 m-3" or "percent", of soil moisture; it is checked against the values
    timezone : text, the zone of naive times: "UTC", "America/Chicago", "Etc/GMT+6", ...

    Returns
    -------
    stations, observations : DataFrame, as in ``contracts``; ``observations.attrs["counts"]`` holds
        the rows read, lost and kept

    Raises
    ------
    ContractError
        If the mapping lacks a quantity or names a column that the table lacks.
    UnitError
        For another unit, or values that look like the other one.
    TimeZoneError
        For naive times without ``timezone``.
    ArchiveReadError
        For a file that is no table, and for stations without coordinates.
    """
    table = path if isinstance(path, pd.DataFrame) else _load(Path(path))
    long = _long(table, columns)
    long["soil_moisture_m3_m3"] = rules.volumetric(long["soil_moisture_m3_m3"], units=units)
    long["time"], n_no_such_time = rules.to_utc(long["time"], timezone=timezone)
    stations = _stations(long)
    observations, counts = _observations(long)
    counts["lost: local time that does not exist or exists twice"] = n_no_such_time
    counts["lost: missing value"] -= n_no_such_time
    observations.attrs["counts"] = counts
    LOG.info("%s", ", ".join(f"{what} {rows:,}" for what, rows in counts.items() if rows))
    return stations, observations


def read_uscrn_daily(
    path: str | Path, *, max_depth_m: float = rules.DEFAULT_MAX_DEPTH_M
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read a table of USCRN daily means (parquet, gzipped or not), soil moisture in m3 m-3.

    A day is a day of local standard time; its mean is dated at the middle of that day, 12:00 local
    standard time, with the zone taken as the nearest hour of longitude / 15 degrees.

    Parameters
    ----------
    path : str or Path
    max_depth_m : float, m; of 0.05, 0.1, 0.2, 0.5 and 1.0

    Returns
    -------
    stations, observations : DataFrame, as in ``contracts``
    """
    table = _load(Path(path))
    offset = pd.to_timedelta((table["longitude"] / 15).round().fillna(0), unit="h")
    noon = pd.to_datetime(table["lst_date"]) + pd.Timedelta("12h")
    depths = {
        f"soil_moisture_{cm}_daily": depth for cm, depth in USCRN_DEPTHS_M.items()
        if depth <= max_depth_m
    }  # fmt: skip
    columns = {
        "network": "=USCRN",
        "station": "wban",
        "time": "time",
        "soil_moisture": depths,
        "latitude": "latitude",
        "longitude": "longitude",
        "sensor": "=daily-mean",
    }
    return read_table(
        table.assign(time=noon - offset), columns=columns, units="m3 m-3", timezone="UTC"
    )


def _load(path: Path) -> pd.DataFrame:
    """Parquet by its first bytes (whatever its name), gzipped or not; anything else as CSV."""
    if not path.is_file():
        raise ArchiveReadError(f"No table at {path}. Give a CSV or parquet file.")
    raw = path.read_bytes()
    try:
        if raw.startswith(GZIP_MAGIC):
            raw = gzip.decompress(raw)
        if raw.startswith(PARQUET_MAGIC):
            return pd.read_parquet(BytesIO(raw))
        return pd.read_csv(BytesIO(raw))
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise ArchiveReadError(
            f"{path.name} is neither a parquet nor a CSV table ({len(raw):,} bytes: {error}). "
            "It may be half downloaded: fetch it again."
        ) from error


def _long(table: pd.DataFrame, columns: Mapping[str, Any]) -> pd.DataFrame:
    """One row a reading, our names, still in the table's units and zone."""
    missing = [name for name in REQUIRED if name not in columns]
    foreign = [name for name in columns if name not in (*REQUIRED, *DEFAULTS)]
    if missing or foreign:
        raise ContractError(
            f"columns lacks {missing or 'nothing'}; unknown in it: {foreign or 'nothing'}. "
            f"Needed: {', '.join(REQUIRED)}; optional: {', '.join(DEFAULTS)}."
        )
    mapping = DEFAULTS | dict(columns)
    moisture = mapping.pop("soil_moisture")
    if not isinstance(moisture, Mapping):
        return _one_depth(table, mapping, column=moisture)
    parts = []
    for column, depth in moisture.items():
        start, end = depth if isinstance(depth, tuple) else (depth, depth)
        parts.append(
            _one_depth(table, mapping | {"depth_from_m": start, "depth_to_m": end}, column=column)
        )
    return pd.concat(parts, ignore_index=True)


def _one_depth(table: pd.DataFrame, mapping: dict[str, Any], *, column: str) -> pd.DataFrame:
    if mapping["depth_to_m"] is None:
        mapping = mapping | {"depth_to_m": mapping["depth_from_m"]}
    values = {name: _values(table, place) for name, place in mapping.items()}
    for name in ("network", "station", "sensor", "flag", "land_cover", "koeppen", "texture"):
        values[name] = pd.Series(values[name], index=table.index).fillna("").astype("str")
    long = pd.DataFrame(values, index=table.index)
    return long.assign(soil_moisture_m3_m3=pd.to_numeric(_values(table, column), errors="coerce"))


def _values(table: pd.DataFrame, place: Any) -> Any:
    """A column of the table, or a constant: a number, or a text after "="."""
    if not isinstance(place, str):
        return place
    if place.startswith("="):
        return place[1:]
    if place not in table.columns:
        raise ContractError(
            f"The table has no column {place!r}; it has {', '.join(map(str, table.columns))}. "
            f"If {place!r} is a constant, write '={place}'."
        )
    return table[place]


def _stations(long: pd.DataFrame) -> pd.DataFrame:
    """Give every row its sensor (column ``sensor_id``, in place) and return one row a sensor."""
    identity = ["network", "station", "sensor", "depth_from_m", "depth_to_m"]
    long["number"] = long.groupby(identity, sort=True, dropna=False).ngroup()
    stations = long.drop_duplicates("number").set_index("number").sort_index()
    stations["sensor_id"] = [
        names.sensor_id(row.network, row.station, instrument=row.sensor,
                        depth_m=(row.depth_from_m, row.depth_to_m))
        for row in stations.itertuples()
    ]  # fmt: skip
    stations["station_id"] = [
        names.station_id(row.network, row.station) for row in stations.itertuples()
    ]
    order = sorted(stations["sensor_id"])
    codes = stations["sensor_id"].map({name: code for code, name in enumerate(order)}).to_numpy()
    long["sensor_id"] = pd.Categorical.from_codes(codes[long["number"]], categories=order)
    floats = [c for c in STATION_COLUMNS if c.endswith(("_m", "itude"))]
    stations = stations[STATION_COLUMNS].astype(dict.fromkeys(floats, "float64"))
    stations = stations.sort_values("sensor_id", ignore_index=True)
    return rules.placed(stations, without_coordinates="raise")


def _observations(long: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """Tidy all sensors at once, and leave out what no soil can hold."""
    readings = long[["sensor_id", "time", "soil_moisture_m3_m3", "flag"]]
    tidied, lost = rules.tidy(readings, by="sensor_id")
    within = tidied["soil_moisture_m3_m3"].between(0, 1)
    kept = tidied[within].reset_index(drop=True)
    kept["flag"] = kept["flag"].astype("category")
    kept["soil_moisture_m3_m3"] = kept["soil_moisture_m3_m3"].astype("float32")
    kept["sensor_id"] = kept["sensor_id"].cat.remove_unused_categories()
    counts = {
        "input: readings": len(readings),
        "lost: missing value": lost["missing"],
        "lost: repeated time": lost["duplicate"],
        "lost: later reading of an hour": lost["sub_hourly"],
        "lost: value outside 0-1 m3 m-3": int((~within).sum()),
        "kept: readings": len(kept),
    }
    return kept, counts

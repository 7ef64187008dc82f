"""Anybody's csv or parquet as readings, stations or predictions, with every doubt named."""

import gzip
import logging
import zipfile
import zlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from soilkit import contracts
from soilkit.constants import MIN_SAMPLES
from soilkit.errors import ArchiveReadError, ContractError, ParameterError
from soilkit.export import columns as files
from soilkit.export import columns as values
from soilkit.export import insitu
from soilkit.export.insitu import ismn, rules

COLUMNS = ("status", "column", "n_rows", "n_dropped", "n_stations", "stations", "detail")
N_NAMES = 5


class Notes:
    """Findings in the order of the work; ``table`` has one row each."""

    def __init__(self) -> None:
        self.lines: list[dict] = []

    def add(self, status, detail, *, column="", rows=0, dropped=0, stations=()):
        """Note a finding; ``rows`` may be zero, for one about the table as a whole."""
        names = sorted({str(name) for name in stations})
        shown = ", ".join(names[:N_NAMES]) + (", ..." if len(names) > N_NAMES else "")
        line = (status, column, int(rows), int(dropped), len(names), shown, detail)
        self.lines.append(dict(zip(COLUMNS, line, strict=True)))

    def table(self) -> pd.DataFrame:
        """``status, column, n_rows, n_dropped, n_stations, stations`` (five names), ``detail``."""
        return pd.DataFrame(self.lines, columns=list(COLUMNS))


# A foreign table of predictions, read into the predictions contract or refused with a reason.

LOG = logging.getLogger(__name__)
DUPLICATES = ("refuse", "first", "last", "mean")
UNKNOWN_SPLIT = "unknown"  # a foreign file does not say what its model was trained on
TEXTS = ("sensor_id", "station_id", "network", "model", "split")


def read_predictions(
    path: str | Path | pd.DataFrame,
    *,
    units: str | Mapping[str, str],
    columns: Mapping[str, str] | None = None,
    timezone: str | None = None,
    duplicates: str = "refuse",
    decimal: str = ".",
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read anybody's predictions: station, time, observed and predicted are enough.

    Nothing is guessed that changes a score: units, time zone, and which of two repeated rows counts
    must be told. What can be derived (sample, sensor, network, model, split) is, and noted.

    Parameters
    ----------
    path : CSV (comma, semicolon or tab; UTF-8) or parquet, gzipped or not; or a DataFrame
    units : "m3 m-3", "%" or water in a layer, "mm in 50 mm"; or ``{"observed": ..., "predicted":
        ...}``; a std goes as predicted
    columns : ``{"station": "site", "model": "=smap-l3"}``: where our quantities stand, "=" before a
        constant. Needed: station, time, observed, predicted; optional: sensor, network, std,
        sample, model, split. Usual spellings are found by themselves, and noted.
    timezone : zone of naive times: "UTC", "America/Chicago", "Etc/GMT+6"
    duplicates : "refuse", or which row of a sensor and time stays: "first", "last", "mean"
    decimal : "." or ","

    Returns
    -------
    predictions : table of that contract
    notes : ``status, column, n_rows, n_dropped, n_stations, stations, detail``; the first line
        counts the rows read, and rows read = predictions + the sum of ``n_dropped``

    Raises
    ------
    ContractError
        Columns missing or ambiguous, text among numbers, decimal commas, duplicates, no rows.
    UnitError
        Values that look like the other unit.
    TimeZoneError
        Naive times of unknown zone, or zones in some rows only.
    ArchiveReadError
        No file, or none that is a table.
    """
    if duplicates not in DUPLICATES or decimal not in (".", ","):
        raise ParameterError(
            f"duplicates is one of {', '.join(DUPLICATES)} and decimal '.' or ',', found "
            f"{duplicates!r} and {decimal!r}."
        )
    notes = Notes()
    table, places = files.load(path, columns or {}, decimal=decimal)
    if not len(table):
        raise ContractError(f"The table has no rows; its columns are {', '.join(table.columns)}.")
    notes.add("read", f"{len(table.columns)} columns", rows=len(table))
    _note_places(places, columns or {}, notes)
    name = "foreign" if isinstance(path, pd.DataFrame) else Path(path).name.split(".")[0]
    found = _identified(table, places, name, notes)
    found = _measured(found, table, places, units=units, decimal=decimal, notes=notes)
    found["time"] = values.utc(table[places["time"]], timezone=timezone, notes=notes)
    found = _dropped(found, notes)
    found = _distinct(found, duplicates, has_sensor="sensor" in places, notes=notes)
    found = _finished(found, notes)
    contracts.check(found, contracts.PREDICTIONS)
    _note_series(found, notes)
    LOG.info("%s: %d rows of %d kept", name, len(found), len(table))
    return found, notes.table()


def _note_places(places, told, notes):
    for quantity, column in places.items():
        if quantity not in told:
            notes.add("column", f"taken as {quantity}", column=column)


def _identified(table, places, name, notes):
    """Text columns, those that lack derived from the others."""
    have = {}
    for quantity, place in places.items():
        if quantity in (*files.PREDICTED.numbers, "time"):
            continue
        constant = place.startswith("=")
        text = pd.Series(place[1:], index=table.index) if constant else table[place]
        have[quantity] = values.identifiers(text)
    if "station" not in have:
        parts = have["sensor"].str.split("__")
        have["station"] = parts.str[:2].str.join("__")
        notes.add("derived", "NETWORK__STATION of sensor_id", column="station_id")
    derived = {
        "sensor": (have["station"], "one sensor a station: station_id"),
        "network": _network(have["station"]),
        "model": (name, f"the file's name: {name}"),
        "split": (UNKNOWN_SPLIT, "whether these stations trained the model is not known"),
    }
    for quantity, (values_, detail) in derived.items():
        if quantity not in have:
            have[quantity] = values_
            column = quantity if quantity in ("network", "model", "split") else f"{quantity}_id"
            notes.add("derived", detail, column=column)
    names = {"station": "station_id", "sensor": "sensor_id", "sample": "sample_id"}
    return pd.DataFrame(have, index=table.index).rename(columns=names)


def _network(station):
    if station.str.contains("__", regex=False).all():
        return station.str.split("__").str[0], "the part of station_id before '__'"
    return "unknown", "no network is named: all stations count as one"


def _measured(found, table, places, *, units, decimal, notes):
    stations = found["station_id"].to_numpy(object)
    for what, column in (
        ("observed", "observed_m3_m3"),
        ("predicted", "predicted_m3_m3"),
        ("std", "predicted_std_m3_m3"),
    ):
        if what not in places:
            continue
        unit = (
            units if isinstance(units, str) else units.get("predicted" if what == "std" else what)
        )
        raw = values.numbers(table[places[what]], name=places[what], decimal=decimal)
        of = {"what": what, "stations": stations, "notes": notes}
        moisture = values.volumetric(values.tidy_numbers(raw, **of), units=unit, **of)
        if what == "std" and (moisture < 0).any():
            n = int((moisture < 0).sum())
            raise ContractError(f"The predicted std {places[what]!r} is negative in {n} rows.")
        if what != "std":
            moisture = values.outside(moisture, keep=what == "predicted", **of)
        found[column] = moisture
    return found


def _dropped(found, notes):
    """Without the rows that have no station or no time."""
    no_station, no_time = found["station_id"] == "", found["time"].isna()
    for status, bad in (("no station", no_station), ("no time", no_time & ~no_station)):
        if bad.any():
            notes.add(
                status, "rows left out", rows=bad.sum(), dropped=bad.sum(),
                stations=found.loc[bad & ~no_station, "station_id"],
            )  # fmt: skip
    kept = found[~no_station & ~no_time]
    if not len(kept):
        raise ContractError("No row has both a station and a time.")
    return kept.reset_index(drop=True)


def _distinct(found, duplicates, *, has_sensor, notes):
    """One row a model, split, sensor and time."""
    key = ["model", "split", "sensor_id", "time"]
    again = found.duplicated(key)
    if not again.any():
        return found
    numbers = [c for c in found.columns if c.endswith("_m3_m3")]
    n, n_apart = int(again.sum()), int(again.sum() - found.duplicated([*key, *numbers]).sum())
    first = found[again].iloc[0]
    if duplicates == "refuse":
        several = "" if has_sensor else " If stations have several sensors, name their column."
        raise ContractError(
            f"{n} rows repeat a sensor and time, {n_apart} of them with other values (first: "
            f"{first['sensor_id']} at {first['time']}).{several} Else say which row counts: "
            "duplicates='first', 'last' or 'mean'."
        )
    notes.add(
        "duplicate", f"{n_apart} with other values; kept: {duplicates}", rows=n, dropped=n,
        stations=found.loc[again, "station_id"],
    )  # fmt: skip
    if duplicates != "mean":
        return found[~found.duplicated(key, keep=duplicates)].reset_index(drop=True)
    means = found.groupby(key, sort=False)[numbers].mean().reset_index()
    return found[~again].drop(columns=numbers).merge(means, on=key, validate="one_to_one")


def _finished(found, notes):
    if "sample_id" not in found.columns:
        stamp = found["time"].dt.strftime("%Y-%m-%dT%H-%M-%S.%f")
        found["sample_id"] = found["sensor_id"] + "@" + stamp
        notes.add("derived", "sensor and time", column="sample_id")
    found = found.astype(dict.fromkeys(TEXTS, "category"))
    order = [c.name for c in contracts.PREDICTIONS.columns if c.name in found.columns]
    return found[order]


def _note_series(found, notes):
    """Sensors whose series cannot be scored as wished, and a table of one station only."""
    pair = np.isfinite(found["observed_m3_m3"]) & np.isfinite(found["predicted_m3_m3"])
    if not pair.all():
        notes.add(
            "no finite pair", "kept, but not scored", rows=(~pair).sum(),
            stations=found.loc[~pair, "station_id"],
        )  # fmt: skip
    key = [found[c].astype("str") for c in ("model", "split", "sensor_id")]
    for column in ("observed_m3_m3", "predicted_m3_m3"):
        series = found[column].where(pair).groupby(key)
        flat = (series.transform("max") == series.transform("min")) & pair
        flat &= series.transform("count") > 1
        if flat.any():
            notes.add(
                "constant series", "no correlation exists", column=column, rows=flat.sum(),
                stations=found.loc[flat, "station_id"],
            )  # fmt: skip
    n = pair.astype(int).groupby(key).transform("sum")
    few = n < MIN_SAMPLES
    if few.any():
        notes.add(
            "few samples", f"fewer than {MIN_SAMPLES} pairs: no score", rows=few.sum(),
            stations=found.loc[few, "station_id"],
        )  # fmt: skip
    _note_twins(found, notes)
    if found["station_id"].nunique() == 1:
        notes.add(
            "one station", "a series can be judged, a map or a model cannot", rows=len(found),
            stations=found["station_id"],
        )  # fmt: skip


def _note_twins(found, notes):
    """Stations whose names differ in capitals, blanks or dashes only are perhaps one."""
    ids = pd.Series(found["station_id"].cat.categories)
    bare = ids.str.casefold().str.replace(r"[\W_]+", "", regex=True)
    alike = ids[bare.duplicated(keep=False) & (bare != "")]
    if len(alike):
        notes.add(
            "perhaps one station", "names that differ in capitals, blanks or dashes only",
            column="station_id", rows=found["station_id"].isin(alike).sum(), stations=alike,
        )  # fmt: skip


# Where the stations of a foreign predictions table stand: a list, the table itself, or ISMN.

LISTED = {
    "latitude": "latitude", "longitude": "longitude", "elevation": "elevation_m",
    "depth_from": "depth_from_m", "depth_to": "depth_to_m", "land_cover": "land_cover",
    "koeppen": "koeppen", "texture": "texture",
}  # fmt: skip
NUMBERS = [LISTED[quantity] for quantity in files.PLACES.numbers]
NAMES = ("sensor", "station", "network")
CLASSES = ["land_cover", "koeppen", "texture"]
PLACE = ["latitude", "longitude"]
SAME_PLACE_DEG = 0.01  # about a kilometre: two rows of a station may round differently
FILL_BELOW = {"latitude": -99.0}  # -99.9 is a longitude, and -430 m the shore of the Dead Sea


def read_stations_list(
    path: str | Path | pd.DataFrame | None,
    predictions: pd.DataFrame,
    *,
    columns: Mapping[str, str] | None = None,
    decimal: str = ".",
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The stations table of a predictions table; what nobody says stays unknown, and is noted.

    A row is found by sensor_id, else station_id, else NETWORK__STATION; names are compared as they
    stand, never nearly. Unknown numbers are NaN, unknown classes empty.

    Parameters
    ----------
    path : CSV or parquet (one row a station or sensor, or the predictions file itself, if it
        carries latitude and longitude), an ISMN zip or folder, a DataFrame, or None: none known
    predictions : table of that contract, from ``read_predictions``
    columns : ``{"station": "site", "latitude": "y", ...}``. Needed: station or sensor; optional:
        latitude, longitude [WGS84 degrees], network, elevation, depth_from, depth_to [m],
        land_cover, koeppen, texture. Usual spellings are found by themselves.
    decimal : "." or ","

    Returns
    -------
    stations : table of that contract, one row a sensor of ``predictions``
    notes : as those of ``read_predictions``

    Raises
    ------
    ContractError
        Columns missing or ambiguous, text among numbers, coordinates that are none.
    ArchiveReadError
        No file, or none that is a table.
    """
    notes = Notes()
    stations = predictions[["sensor_id", "station_id", "network"]].astype("str")
    stations = stations.drop_duplicates("sensor_id").sort_values("sensor_id", ignore_index=True)
    stations["station"] = stations["station_id"].str.split("__").str[-1]
    listed = pd.DataFrame(columns=["key", *LISTED.values()])
    if path is not None:
        listed = _listed(path, columns or {}, decimal=decimal)
    stations = _joined(stations, listed, notes)
    _note_unknown(stations, listed, notes)
    contracts.check(stations, contracts.STATIONS)
    return stations, notes.table()


def _listed(path, columns, *, decimal):
    """Each row under each of its names (``key``), with what it says."""
    if not isinstance(path, pd.DataFrame) and _is_archive(Path(path)):
        known = insitu.read_stations(path, without_coordinates="drop", progress=False)
        named = [known.assign(key=known[name]) for name in ("sensor_id", "station_id")]
    else:
        table, places = files.load(path, columns, decimal=decimal, of=files.PLACES)
        known, names = _known(table, places, decimal=decimal)
        _refuse_no_places(known, places, names)
        named = [known.assign(key=key) for key in names]
    listed = pd.concat(named, ignore_index=True)[["key", *LISTED.values()]]
    return listed[listed["key"] != ""].drop_duplicates()


def _is_archive(path):
    return path.is_dir() or (path.is_file() and zipfile.is_zipfile(path))


def _known(table, places, *, decimal):
    """What each row says, and the names by which it may be looked up, the surest first."""
    known = pd.DataFrame(index=table.index)
    for quantity, name in LISTED.items():
        place = places.get(quantity)
        is_number = quantity in files.PLACES.numbers
        if place is None:
            known[name] = np.nan if is_number else ""
        elif is_number:
            column = _column(table, place)
            number = values.numbers(column, name=place, decimal=decimal)
            present = np.isfinite(number) & (number > FILL_BELOW.get(quantity, -999.0))
            known[name] = np.where(present, number, np.nan)
        else:
            known[name] = values.identifiers(_column(table, place))
    text = {q: values.identifiers(_column(table, places[q])) for q in NAMES if q in places}
    names = [text[q] for q in ("sensor", "station") if q in text]
    if "network" in text and "station" in text:
        whole = (text["network"] != "") & ~text["station"].str.contains("__", regex=False)
        names.append((text["network"] + "__" + text["station"]).where(whole, ""))
    known["longitude"] -= 360.0 * (known["longitude"] > 180)
    nowhere = (known[PLACE] == 0).all(axis=1) | known[PLACE].isna().any(axis=1)
    known.loc[nowhere, PLACE] = np.nan  # 0, 0 lies in the sea: a fill value
    return known, names


def _column(table, place):
    return pd.Series(place[1:], index=table.index) if place.startswith("=") else table[place]


def _refuse_no_places(known, places, names):
    one = [name for name in PLACE if name in places]
    if len(one) == 1:
        raise ContractError(
            f"The list has a {one[0]} ({places[one[0]]!r}) and no {(set(PLACE) - set(one)).pop()}. "
            "Name its column, or leave both out."
        )
    bad = (known["latitude"].abs() > 90) | (known["longitude"].abs() > 180)
    if bad.any():
        first = known[bad].iloc[0]
        raise ContractError(
            f"{bad.sum()} rows have no place on Earth, first {names[0][bad].iloc[0]!r}: latitude "
            f"{first['latitude']:g}, longitude {first['longitude']:g}. WGS84 degrees are wanted; "
            "perhaps the two are exchanged, or metres of a projection."
        )


def _one_row_each(listed, notes):
    """One row a key (the index); where its rows disagree, the value is unknown, and noted."""
    groups = listed.groupby("key", sort=False)
    found = groups.first()  # the first that is not missing
    texts = listed[CLASSES].replace("", None)
    found[CLASSES] = texts.groupby(listed["key"], sort=False).first().fillna("")
    apart = groups[NUMBERS].max() - groups[NUMBERS].min() > 0
    apart[PLACE] = groups[PLACE].max() - groups[PLACE].min() > SAME_PLACE_DEG
    apart[PLACE] = apart[PLACE].any(axis=1).to_numpy()[:, None].repeat(2, axis=1)
    apart[CLASSES] = texts.groupby(listed["key"], sort=False).nunique() > 1
    for column in apart.columns[apart.any()]:
        wrong = apart[column]
        found.loc[wrong, column] = "" if column in CLASSES else np.nan
        notes.add(
            "several values", "rows of the list disagree: taken as unknown", column=column,
            stations=found.index[wrong],
        )  # fmt: skip
    return found


def _joined(stations, listed, notes):
    """The stations with what the list says under the first of their names that it knows."""
    known = set(listed["key"])
    found = stations["sensor_id"].where(stations["sensor_id"].isin(known))
    for name in (stations["station_id"], stations["network"] + "__" + stations["station_id"]):
        found = found.fillna(name.where(name.isin(known)))
    rows = _one_row_each(listed[listed["key"].isin(found)], notes).reindex(found)
    for name in LISTED.values():
        told = pd.Series(rows[name].to_numpy(), dtype=object)
        stations[name] = told.fillna("").astype(str) if name in CLASSES else told.astype(float)
    return stations.assign(listed=found.notna())


def _note_unknown(stations, listed, notes):
    """Stations that the list lacks, and stations that it does not place."""
    absent, placed = ~stations.pop("listed"), stations["latitude"].notna()
    if absent.any() and len(listed):
        some = ", ".join(listed["key"].drop_duplicates().head(3))
        notes.add(
            "not in the list", f"the list has {some}, ...: write the names alike",
            stations=stations.loc[absent, "station_id"],
        )  # fmt: skip
    if not placed.all():
        notes.add(
            "unknown place", "no latitude and longitude: on no map, in no 2-degree block",
            stations=stations.loc[~placed, "station_id"],
        )  # fmt: skip


# Plain tables of in-situ readings: core validation sites, mesonets, USCRN daily.

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
        ismn.sensor_id(row.network, row.station, instrument=row.sensor,
                        depth_m=(row.depth_from_m, row.depth_to_m))
        for row in stations.itertuples()
    ]  # fmt: skip
    stations["station_id"] = [
        ismn.station_id(row.network, row.station) for row in stations.itertuples()
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

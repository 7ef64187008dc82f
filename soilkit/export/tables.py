"""Anybody's csv or parquet as readings, stations or predictions, with every doubt noted."""

import re
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from soilkit import contracts
from soilkit.constants import MIN_SAMPLES
from soilkit.errors import ContractError, ParameterError
from soilkit.export import insitu
from soilkit.export.insitu import columns as fields
from soilkit.export.insitu import ismn, rules
from soilkit.units import MAX_SOIL_MOISTURE_M3_M3

DUPLICATES = ("refuse", "first", "last", "mean")
MOISTURE = {name: fields.SPELLINGS[name][0] for name in ("observed", "predicted", "std")}
SITES = [column.name for column in contracts.STATIONS.columns]
SENSOR, PLACE, NUMBERS, CLASSES = SITES[:4], SITES[4:6], SITES[4:9], SITES[9:]
DEPTH_M = 0.05  # of readings whose depth nobody tells
NO_NETWORK = "?__"  # before the bare name of a list that names no network
TEXTS = ["sensor_id", "station_id", "network", "model", "split"]
IDS = {
    name: fields.SPELLINGS.get(name, (name,))[0]
    for name in ("station", "sensor", "sample", "network", "model", "split")
}
USCRN_DEPTHS_M = {5: 0.05, 10: 0.1, 20: 0.2, 50: 0.5, 100: 1.0}


def read_readings(
    path: fields.Source,
    *,
    columns: Mapping[str, Any],
    units: str,
    timezone: str | None = None,
    decimal: str = ".",
    flags: tuple[str, ...] | None = rules.DEFAULT_FLAGS,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Read anybody's readings of probes, long or wide, through a mapping of its columns.

    ``columns`` says where each quantity stands: ``{"station": "site", "time": "when", ...}``.
    Needed: station, time, soil_moisture, latitude, longitude; their usual spellings are found by
    themselves, and noted. Optional: network, sensor, depth_from_m, depth_to_m (default 0.05 m),
    flag (default "G"), elevation_m, land_cover, koeppen, texture. A number stands for itself, and a
    text after "=" too (``"network": "=KENASTER"``). A wide table has several columns of soil
    moisture, each with its depth in m or its (from, to): ``{"soil_moisture": {"sm_2in": 0.0508,
    "sm_8in": 0.2032}}``. Per sensor, the first good reading of each clock hour stays.

    Parameters
    ----------
    path, units, timezone, decimal : as in ``read_predictions``; one unit
    columns : mapping, as above
    flags : flags of good readings; others are left out, counted. ISMN's are known; of another kind,
        name the good ones, ``flags=("0",)``: they become "G". None: all are good.

    Returns
    -------
    stations, observations : tables of those contracts
    notes : as those of ``read_predictions``, in readings

    Raises
    ------
    ContractError, UnitError, TimeZoneError, ArchiveReadError, UnknownNameError
        As ``read_predictions``; and for a station that stands at several places, or at none, and
        for flags that ISMN does not know, unless ``flags`` says which are good.
    """
    notes = rules.Notes()
    table = fields.load(path, columns, of=fields.READINGS, decimal=decimal, notes=notes)
    moisture = table.places["soil_moisture"]
    depths = moisture if isinstance(moisture, Mapping) else {moisture: None}
    time = table.utc(timezone=timezone)
    parts = [_at_depth(table, *place, units).assign(time=time) for place in depths.items()]
    readings = _good(rules.checked(pd.concat(parts, ignore_index=True), notes), flags, notes)
    stations = _sensors(readings, notes)
    return stations, _observations(readings, stations["sensor_id"].tolist(), notes), notes.table()


def _at_depth(table: fields.Columns, column: str, depth, units) -> pd.DataFrame:
    """The readings of one column of soil moisture, each with its names and its site."""
    places = {"network": "=table", "sensor": "=probe", "flag": "=G", "depth_from": f"={DEPTH_M}"}
    places |= table.places | {"soil_moisture": column}
    if depth is not None:
        places |= {"depth_from": f"={depth[0]}", "depth_to": f"={depth[1]}"}
    places.setdefault("depth_to", places["depth_from"])
    table = replace(table, places=places)
    names = {name: table.text(name) for name in ("network", "station", "sensor", "flag")}
    part = table.sites().assign(**names)
    part["station_id"] = _each(part[["network", "station"]], ismn.station_id)
    part["sensor_id"] = _each(
        part[["network", "station", "sensor", "depth_from_m", "depth_to_m"]],
        lambda *row: ismn.sensor_id(*row[:2], instrument=row[2], depth_m=row[3:]),
    )
    sensors = part["sensor_id"]
    part["soil_moisture_m3_m3"] = table.moisture("soil_moisture", units=units, stations=sensors)
    return part.assign(station_id=part["station_id"].where(part["station"] != "", ""))


def _each(table: pd.DataFrame, function) -> np.ndarray:
    """A function of every row, called once for equal rows."""
    codes = table.groupby(list(table), sort=False, dropna=False).ngroup().to_numpy()
    rows = table[~pd.Series(codes, table.index).duplicated()]
    return np.array([function(*row) for row in rows.itertuples(index=False)], object)[codes]


def _good(readings: pd.DataFrame, flags, notes: rules.Notes) -> pd.DataFrame:
    """The readings of good flags that a soil can hold; the others win no hour."""
    flag = readings["flag"].map({f: rules.canonical_flag(f) for f in readings["flag"].unique()})
    unknown = "raise" if flags == rules.DEFAULT_FLAGS else "drop"
    accepted = rules.accepted_flags(flags, flag.unique(), unknown_flags=unknown)
    good, sensors = flag.isin(accepted), readings["sensor_id"]
    value = readings["soil_moisture_m3_m3"]
    for name in sorted(flag[~good].unique()):
        detail = f"{name or 'none'}: not among the good ones, left out"
        notes.mark("flag", detail, rows=flag == name, stations=sensors, dropped=True)
    outside = good & ((value < 0) | (value > MAX_SOIL_MOISTURE_M3_M3))
    status, detail = "impossible value", "outside 0-1 m3 m-3: left out"
    notes.mark(status, detail, rows=outside, stations=sensors, dropped=True)
    named = flag.map({name: name if rules.is_known(name) else "G" for name in accepted})
    return readings.assign(flag=named)[good & ~outside].reset_index(drop=True)


def _sensors(readings: pd.DataFrame, notes: rules.Notes) -> pd.DataFrame:
    """The stations table of readings; a station that stands at two places is refused."""
    sites = readings[[*SENSOR, *NUMBERS, *CLASSES]].drop_duplicates()
    rules.placed(sites.dropna(subset=PLACE), without_coordinates="raise")
    rows = _one_row_each(sites.rename(columns={"sensor_id": "key"}), notes)
    stations = sites[SENSOR].drop_duplicates().join(rows, on="sensor_id")
    contracts.check(stations[SITES], contracts.STATIONS)
    return rules.placed(stations[SITES].sort_values("sensor_id"), without_coordinates="raise")


def _observations(readings: pd.DataFrame, sensors: list[str], notes: rules.Notes) -> pd.DataFrame:
    """The first reading of each hour and sensor."""
    readings = readings[["sensor_id", "time", "soil_moisture_m3_m3", "flag"]]
    readings = readings.assign(sensor_id=pd.Categorical(readings["sensor_id"], sensors))
    kept, lost = rules.tidy(readings, by="sensor_id")
    for reason, n in lost.items():
        if n:
            notes.add(rules.LOST[reason], "left out", rows=n, dropped=n)
    kept["sensor_id"] = kept["sensor_id"].cat.remove_unused_categories()
    return kept.astype({"flag": "category", "soil_moisture_m3_m3": "float32"})


def read_uscrn_daily(
    path: str | Path, *, max_depth_m: float = rules.DEFAULT_MAX_DEPTH_M
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Read a table of USCRN daily means (parquet, gzipped or not), as of ``read_readings``.

    A day is a day of local standard time; its mean is dated at the middle of that day, 12:00 local
    standard time, with the zone taken as the nearest hour of longitude / 15 degrees.
    ``max_depth_m`` chooses of 0.05, 0.1, 0.2, 0.5 and 1.0 m.
    """
    names, metres = zip(*USCRN_DEPTHS_M.items(), strict=True)
    kept = rules.depth_accepted(metres, metres, max_depth_m=max_depth_m)
    depths = {f"soil_moisture_{names[i]}_daily": metres[i] for i in np.flatnonzero(kept)}
    columns = {"station": "wban", "time": "lst_date", "soil_moisture": depths}
    whole = fields.load(path, columns, of=fields.READINGS, decimal=".", notes=rules.Notes())
    east = (pd.Series(whole.numbers("longitude")) + 180) % 360 - 180
    offset = pd.to_timedelta((east / 15).round().fillna(0), unit="h")
    days = whole.utc(timezone="UTC")
    if (days != days.dt.floor("D"))[days.notna()].any():
        raise ContractError("lst_date should hold days of local standard time, found hours.")
    noon = days + pd.Timedelta("12h") - offset
    columns |= {"network": "=USCRN", "sensor": "=daily-mean"}
    table = whole.table.assign(lst_date=noon)
    return read_readings(table, columns=columns, units="m3 m-3", timezone="UTC")


def read_predictions(
    path: fields.Source,
    *,
    units: str | Mapping[str, str],
    timezone: str | None = None,
    columns: Mapping[str, str] | None = None,
    stations: pd.DataFrame | None = None,
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
    timezone : zone of naive times: "UTC", "America/Chicago", "Etc/GMT+6"
    columns : ``{"station": "site", "model": "=smap-l3"}``: where our quantities stand, "=" before a
        constant. Needed: station, time, observed, predicted; optional: sensor, network, std,
        sample, model, split. Usual spellings are found by themselves, and noted.
    stations : table of that contract; a bare name that one of its stations has becomes that
        station's ``station_id``, and names that it lacks are noted
    duplicates : "refuse", or which row of a sensor and time stays: "first", "last", "mean"
    decimal : "." or ","

    Returns
    -------
    predictions : table of that contract
    notes : ``status, column, n_rows, n_dropped, n_stations, stations, detail``; the line "read"
        counts the rows read, and rows read = predictions + the sum of ``n_dropped``

    Raises
    ------
    ContractError, UnitError, TimeZoneError, ArchiveReadError
        Columns missing or ambiguous, text among numbers, duplicates, no rows; values that look like
        another unit; naive times of unknown zone; no file, or none that is a table.
    """
    if duplicates not in DUPLICATES:
        raise ParameterError(f"duplicates is one of {', '.join(DUPLICATES)}, found {duplicates!r}.")
    notes = rules.Notes()
    source = fields.load(path, columns, of=fields.PREDICTIONS, decimal=decimal, notes=notes)
    name = "foreign" if isinstance(path, pd.DataFrame) else Path(path).name.split(".")[0]
    table = _named(source, stations, model=name)
    for quantity, column in MOISTURE.items():
        if quantity in source.places:
            key = quantity.replace("std", "predicted")
            unit = units.get(key) if isinstance(units, Mapping) else units
            table[column] = _scored(source, quantity, unit, table["station_id"])
    table = rules.checked(table.assign(time=source.utc(timezone=timezone)), notes)
    table = _distinct(table, duplicates, has_sensor="sensor" in source.places, notes=notes)
    if "sample_id" not in table.columns:
        stamp = table["time"].dt.strftime("%Y-%m-%dT%H-%M-%S.%f")
        table["sample_id"] = table["sensor_id"] + "@" + stamp
        notes.add("derived", "sensor and time", column="sample_id")
    table = table[[c.name for c in contracts.PREDICTIONS.columns if c.name in table.columns]]
    table = table.astype(dict.fromkeys(TEXTS, "category"))
    contracts.check(table, contracts.PREDICTIONS)
    _note_series(table, notes)
    return table, notes.table()


def _named(source: fields.Columns, stations: pd.DataFrame | None, *, model: str) -> pd.DataFrame:
    """Text columns, those that lack derived from the others."""
    table = pd.DataFrame(index=source.table.index)
    for quantity, column in IDS.items():
        if quantity in source.places:
            table[column] = source.text(quantity)

    def derive(column, values, *, detail):
        if column not in table:
            table[column] = values
            source.notes.add("derived", detail, column=column)

    if "station_id" not in table:
        ids = table["sensor_id"].str.split("__").str[:2].str.join("__")
        derive("station_id", ids, detail="NETWORK__STATION of sensor_id")
    if "network" in table:
        names = table["station_id"]
        table["station_id"] = _each(table[["station_id", "network"]], _whole_name)
        changed, detail = names != table["station_id"], "NETWORK__ is set before a station's name"
        source.notes.mark("network", detail, rows=changed, stations=names, column="station_id")
    if stations is not None:
        table["station_id"] = _listed_ids(table["station_id"], stations, source.notes)
    if "sensor_id" in table:  # a probe's name that several stations have is no id
        shared = table.groupby("sensor_id")["station_id"].transform("nunique") > 1
        table.loc[shared, "sensor_id"] = table["station_id"] + "__" + table["sensor_id"]
    derive("sensor_id", table["station_id"], detail="one sensor a station: station_id")
    if table["station_id"].str.contains("__", regex=False).all():
        network = table["station_id"].str.split("__").str[0]
        derive("network", network, detail="the part of station_id before '__'")
    derive("network", "unknown", detail="no network is named: all stations count as one")
    derive("model", model, detail=f"the file's name: {model}")
    derive("split", "unknown", detail="whether these stations trained the model is not known")
    return table


def _whole_name(name: str, network: str) -> str:
    """NETWORK__STATION, unless the network is unknown or stands in the name, by "__" or by "/"."""
    known = network not in ("", "unknown") and name != ""
    stands = "__" in name or re.match(rf"{re.escape(network)}[^0-9A-Za-z]", name)
    return ismn.station_id(network, name) if known and not stands else name


def _listed_ids(names: pd.Series, stations: pd.DataFrame, notes: rules.Notes) -> pd.Series:
    """The ``station_id`` of bare names that one station of the table has; others stay."""
    known = stations[["station_id", "station"]].astype("str").drop_duplicates("station_id")
    single = known[~known["station"].duplicated(keep=False)].set_index("station")["station_id"]
    ids = names.where(names.isin(known["station_id"]), names.map(single))
    detail = "no station of the table, or several, have this name"
    notes.mark("not in the list", detail, rows=ids.isna() & (names != ""), stations=names)
    return ids.fillna(names)


def _scored(source: fields.Columns, quantity: str, unit, stations) -> np.ndarray:
    """m3 m-3: outside 0-1 an observation becomes missing and a prediction stays, noted."""
    values = source.moisture(quantity, units=unit, stations=stations)
    if quantity == "std":
        if n := int((values < 0).sum()):
            raise ContractError(f"The std {source.places['std']!r} is negative in {n} rows.")
        return values
    outside = (values < 0) | (values > MAX_SOIL_MOISTURE_M3_M3)
    fate = "taken as missing" if quantity == "observed" else "scored as it stands"
    status, detail = "impossible value", f"outside 0-1 m3 m-3, {fate}"
    source.notes.mark(status, detail, rows=outside, stations=stations, column=quantity)
    return np.where(outside & (quantity == "observed"), np.nan, values)


def _distinct(table, duplicates, *, has_sensor, notes):
    """One row a model, split, sensor and time."""
    key = ["model", "split", "sensor_id", "time"]
    again = table.duplicated(key)
    if not again.any():
        return table
    numbers = [c for c in table.columns if c.endswith("_m3_m3")]
    n = int(again.sum())
    n_apart = n - int(table.duplicated([*key, *numbers]).sum())
    first = table[again].iloc[0]
    if duplicates == "refuse":
        several = "" if has_sensor else " If stations have several sensors, name their column."
        raise ContractError(
            f"{n} rows repeat a sensor and time, {n_apart} of them with other values (first: "
            f"{first['sensor_id']} at {first['time']}).{several} Else say which row counts: "
            f"duplicates={DUPLICATES[1:]}."
        )
    detail = f"{n_apart} with other values; kept: {duplicates}"
    notes.mark("duplicate", detail, rows=again, stations=table["station_id"], dropped=True)
    if duplicates != "mean":
        return table[~table.duplicated(key, keep=duplicates)].reset_index(drop=True)
    means = table.groupby(key, sort=False)[numbers].mean().reset_index()
    return table[~again].drop(columns=numbers).merge(means, on=key, validate="one_to_one")


def _note_series(table, notes):
    """Sensors whose series cannot be scored as wished, and names that are perhaps one."""
    stations = table["station_id"]
    pair = np.isfinite(table["observed_m3_m3"]) & np.isfinite(table["predicted_m3_m3"])
    notes.mark("no finite pair", "kept, but not scored", rows=~pair, stations=stations)
    key = [table[c].astype("str") for c in ("model", "split", "sensor_id")]
    for column in ("observed_m3_m3", "predicted_m3_m3"):
        series = table[column].where(pair).groupby(key)
        flat = (series.transform("max") == series.transform("min")) & pair
        flat &= series.transform("count") > 1
        detail = "no correlation exists"
        notes.mark("constant series", detail, rows=flat, stations=stations, column=column)
    few = pair.astype(int).groupby(key).transform("sum") < MIN_SAMPLES
    detail = f"fewer than {MIN_SAMPLES} pairs: no score"
    notes.mark("few samples", detail, rows=few, stations=stations)
    ids = pd.Series(stations.cat.categories)
    bare = ids.str.casefold().str.replace(r"[\W_]+", "", regex=True)
    alike = stations.isin(ids[bare.duplicated(keep=False) & (bare != "")])
    detail = "names that differ in capitals, blanks or dashes only"
    notes.mark("perhaps one station", detail, rows=alike, stations=stations, column="station_id")
    if stations.nunique() == 1:
        detail = "a series can be judged, a map or a model cannot"
        notes.add("one station", detail, rows=len(table), stations=stations.unique())


def read_stations(
    path: str | Path | pd.DataFrame | None,
    predictions: pd.DataFrame,
    *,
    columns: Mapping[str, str] | None = None,
    decimal: str = ".",
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The stations table of a predictions table; what nobody says stays unknown, and is noted.

    A row is found by sensor_id, else station_id, else NETWORK__STATION, else by the bare name where
    one station has it and the list names no network; names are compared as they stand, never
    nearly. Unknown numbers are NaN, unknown classes empty. Raises ``ContractError`` or
    ``ArchiveReadError`` as ``read_predictions``; and for coordinates that are none.

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
    """
    notes = rules.Notes()
    stations = predictions[["sensor_id", "station_id", "network"]].astype("str")
    stations = stations.drop_duplicates("sensor_id").sort_values("sensor_id", ignore_index=True)
    stations["station"] = stations["station_id"].str.split("__").str[-1]
    listed = pd.DataFrame(columns=["key", *NUMBERS, *CLASSES])
    if path is not None:
        listed = _listed(path, columns, decimal)
    known, bare = set(listed["key"]), stations["station"]
    single = stations.groupby("station")["station_id"].transform("nunique") == 1
    key = stations["sensor_id"].where(stations["sensor_id"].isin(known))
    for name in (
        stations["station_id"],
        stations["network"] + "__" + stations["station_id"],
        (NO_NETWORK + bare).where(single),
    ):
        key = key.fillna(name.where(name.isin(known)))
    rows = _one_row_each(listed[listed["key"].isin(key)], notes).reindex(key)
    stations[NUMBERS] = rows[NUMBERS].to_numpy(float)
    stations[CLASSES] = rows[CLASSES].fillna("").astype("str").to_numpy(object)
    ids = stations["station_id"]
    moved = ids.isin(contracts.apart(stations))
    detail = "its sensors stand apart: the place is taken as unknown"
    notes.mark("several values", detail, rows=moved, stations=ids, column="latitude")
    stations.loc[moved, PLACE] = np.nan
    unknown = stations["latitude"].isna()
    if len(listed) and key.isna().any():
        some = ", ".join(listed["key"].drop_duplicates().head(3))
        detail = f"the list has {some}, ...: write the names alike"
        notes.add("not in the list", detail, stations=ids[key.isna()])
    if unknown.any():
        detail = "no latitude and longitude: on no map, in no 2-degree block"
        notes.add("unknown place", detail, stations=ids[unknown])
    contracts.check(stations, contracts.STATIONS)
    return stations, notes.table()


def _listed(path, columns, decimal):
    """Each row of a list under each of its names (``key``), with what it says."""
    if isinstance(path, str | Path) and (
        Path(path).is_dir() or (Path(path).is_file() and zipfile.is_zipfile(path))
    ):
        sites = insitu.read_stations(path, without_coordinates="drop", progress=False)
        names = [sites["sensor_id"], sites["station_id"], sites["station"]]
    else:
        table = fields.load(path, columns, of=fields.STATIONS, decimal=decimal, notes=rules.Notes())
        names_of = {name: table.text(name) for name in fields.NAMES}
        sites = table.sites().assign(**names_of).drop_duplicates()
        station, sensor, network = (sites[name] for name in fields.NAMES)
        whole = pd.Series(_each(sites[["station", "network"]], _whole_name), sites.index)
        bare = (network == "") & (station != "") & ~station.str.contains("__", regex=False)
        names = [sensor, station, whole, (NO_NETWORK + station).where(bare, "")]
        names += [(name + "__" + sensor).where(sensor != "", "") for name in (station, whole)]
        known_by = station.where(station != "", sensor)
        sites = rules.checked(sites.assign(station=known_by), rules.Notes())
    sites = sites[[*NUMBERS, *CLASSES]]
    listed = pd.concat([sites.assign(key=name) for name in names], ignore_index=True)
    return listed[listed["key"] != ""].drop_duplicates()


def _one_row_each(listed, notes):
    """One row a key (the index); where its rows disagree, the value is unknown, and noted."""
    values = listed[["key", *NUMBERS, *CLASSES]].replace(dict.fromkeys(CLASSES, {"": None}))
    groups = values.groupby("key", sort=False)
    rows = groups.first()  # the first that is not missing
    apart = groups.nunique() > 1
    moved = contracts.apart(values.rename(columns={"key": "station_id"}))
    apart["latitude"] = apart["longitude"] = apart.index.isin(moved)
    for column in apart.columns[apart.any()]:
        detail = "rows of the list disagree: taken as unknown"
        names = [name.removeprefix(NO_NETWORK) for name in apart.index[apart[column]]]
        notes.add("several values", detail, column=column, stations=names)
    rows = rows.mask(apart).fillna(dict.fromkeys(CLASSES, ""))
    return rows.astype(dict.fromkeys(CLASSES, "str"))

"""Anybody's csv or parquet as readings, stations or predictions, with every doubt noted."""

import logging
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
from soilkit.export import columns as fields
from soilkit.export import insitu
from soilkit.export.columns import Columns
from soilkit.export.insitu import ismn, rules
from soilkit.export.insitu.rules import Notes
from soilkit.units import MAX_SOIL_MOISTURE_M3_M3

LOG = logging.getLogger(__name__)
DUPLICATES = ("refuse", "first", "last", "mean")
MOISTURE = {
    "observed": "observed_m3_m3", "predicted": "predicted_m3_m3", "std": "predicted_std_m3_m3",
}  # fmt: skip
PLACE, CLASSES = ["latitude", "longitude"], ["land_cover", "koeppen", "texture"]
NUMBERS = [*PLACE, "elevation_m", "depth_from_m", "depth_to_m"]
SAME_PLACE_DEG = 0.01  # about a kilometre: two rows of a station may round differently
DEPTH_M = 0.05  # of readings whose depth nobody tells
SENSOR = ["sensor_id", "station_id", "network", "station"]
TEXTS = ["sensor_id", "station_id", "network", "model", "split"]
IDS = {name: f"{name}_id" for name in ("station", "sensor", "sample")} | {
    name: name for name in ("network", "model", "split")
}
USCRN_DEPTHS_M = {5: 0.05, 10: 0.1, 20: 0.2, 50: 0.5, 100: 1.0}


def read_readings(
    path: str | Path | pd.DataFrame,
    *,
    columns: Mapping[str, Any],
    units: str,
    timezone: str | None = None,
    decimal: str = ".",
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Read anybody's readings of probes, long or wide, through a mapping of its columns.

    ``columns`` says where each quantity stands: ``{"station": "site", "time": "when", ...}``.
    Needed: station, time, soil_moisture, latitude, longitude; their usual spellings are found by
    themselves, and noted. Optional: network, sensor, depth_from_m, depth_to_m (default 0.05 m),
    flag (default "G"), elevation_m, land_cover, koeppen, texture. A number stands for itself, and a
    text after "=" too (``"network": "=KENASTER"``). A wide table has several columns of soil
    moisture, each with its depth in m or its (from, to): ``{"soil_moisture": {"sm_2in": 0.0508,
    "sm_8in": 0.2032}}``. Per sensor, the first reading of each clock hour stays.

    Parameters
    ----------
    path, units, timezone, decimal : as in ``read_predictions``; one unit
    columns : mapping, as above

    Returns
    -------
    stations, observations : tables of those contracts
    notes : as those of ``read_predictions``, in readings

    Raises
    ------
    ContractError, UnitError, TimeZoneError, ArchiveReadError
        As ``read_predictions``; and for a station that stands at several places, or at none.
    """
    notes = Notes()
    table = fields.load(path, columns, of=fields.READINGS, decimal=decimal, notes=notes)
    moisture = table.places["soil_moisture"]
    depths = moisture if isinstance(moisture, Mapping) else {moisture: None}
    time = table.utc(timezone=timezone)
    parts = [_at_depth(table, *place, units).assign(time=time) for place in depths.items()]
    readings = rules.checked(pd.concat(parts, ignore_index=True), notes)
    stations = _sensors(readings, notes)
    return stations, _observations(readings, stations["sensor_id"].tolist(), notes), notes.table()


def _at_depth(table: Columns, column: str, depth, units) -> pd.DataFrame:
    """The readings of one column of soil moisture, each with its names and its site."""
    places = {"network": "=table", "sensor": "=probe", "flag": "=G", "depth_from": f"={DEPTH_M}"}
    places |= table.places | {"soil_moisture": column}
    if depth is not None:
        start, end = depth if isinstance(depth, tuple) else (depth, depth)
        places |= {"depth_from": f"={start}", "depth_to": f"={end}"}
    places.setdefault("depth_to", places["depth_from"])
    table = replace(table, places=places)
    names = {name: table.text(name) for name in ("network", "station", "sensor", "flag")}
    moisture = table.moisture("soil_moisture", units=units, stations=names["station"])
    part = table.sites().assign(**names, soil_moisture_m3_m3=moisture)
    part["station_id"] = _each(part[["network", "station"]], ismn.station_id)
    part["sensor_id"] = _each(
        part[["network", "station", "sensor", "depth_from_m", "depth_to_m"]],
        lambda network, station, probe, *depth_m: ismn.sensor_id(
            network, station, instrument=probe, depth_m=depth_m
        ),
    )
    return part.assign(station_id=part["station_id"].where(part["station"] != "", ""))


def _each(table: pd.DataFrame, function) -> np.ndarray:
    """A function of every row, called once for equal rows."""
    codes = table.groupby(list(table), sort=False, dropna=False).ngroup().to_numpy()
    rows = table[~pd.Series(codes, table.index).duplicated()]
    return np.array([function(*row) for row in rows.itertuples(index=False)], object)[codes]


def _sensors(readings: pd.DataFrame, notes: Notes) -> pd.DataFrame:
    """The stations table of readings; a station that stands at two places is refused."""
    sites = readings[[*SENSOR, *NUMBERS, *CLASSES]].drop_duplicates()
    places = sites.groupby("station_id")[PLACE]
    spans = places.max() - places.min()
    apart = spans.index[(spans > SAME_PLACE_DEG).any(axis=1)]
    if len(apart):
        raise ContractError(
            f"{len(apart)} stations stand at several places, more than {SAME_PLACE_DEG} degrees "
            f"apart: {', '.join(apart[:10])}. Give each place a station of its own: scenes and "
            "neighbours are looked up where a station stands."
        )
    rows = _one_row_each(sites.rename(columns={"sensor_id": "key"}), notes)
    stations = sites[SENSOR].drop_duplicates().join(rows, on="sensor_id")
    stations = stations[[column.name for column in contracts.STATIONS.columns]]
    contracts.check(stations, contracts.STATIONS)
    return rules.placed(stations.sort_values("sensor_id"), without_coordinates="raise")


def _observations(readings: pd.DataFrame, sensors: list[str], notes: Notes) -> pd.DataFrame:
    """The first reading of each hour and sensor, without what no soil can hold."""
    readings = readings[["sensor_id", "time", "soil_moisture_m3_m3", "flag"]]
    readings = readings.assign(sensor_id=pd.Categorical(readings["sensor_id"], sensors))
    tidy, lost = rules.tidy(readings, by="sensor_id")
    for reason, n in lost.items():
        if n:
            notes.add(rules.LOST[reason], "left out", rows=n, dropped=n)
    outside = ~tidy["soil_moisture_m3_m3"].between(0, MAX_SOIL_MOISTURE_M3_M3)
    notes.mark(
        "impossible value", "outside 0-1 m3 m-3: left out", rows=outside,
        stations=tidy["sensor_id"], column="soil_moisture", dropped=True,
    )  # fmt: skip
    kept = tidy[~outside].reset_index(drop=True)
    kept["sensor_id"] = kept["sensor_id"].cat.remove_unused_categories()
    LOG.info("%d readings of %d kept", len(kept), len(readings))
    return kept.astype({"flag": "category", "soil_moisture_m3_m3": "float32"})


def read_uscrn_daily(
    path: str | Path, *, max_depth_m: float = rules.DEFAULT_MAX_DEPTH_M
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Read a table of USCRN daily means (parquet, gzipped or not), soil moisture in m3 m-3.

    A day is a day of local standard time; its mean is dated at the middle of that day, 12:00 local
    standard time, with the zone taken as the nearest hour of longitude / 15 degrees.

    Parameters
    ----------
    path : str or Path
    max_depth_m : float, m; of 0.05, 0.1, 0.2, 0.5 and 1.0

    Returns
    -------
    stations, observations, notes : as ``read_readings``
    """
    columns: dict[str, Any] = {"station": "wban", "time": "lst_date"}
    columns["soil_moisture"] = {
        f"soil_moisture_{cm}_daily": depth for cm, depth in USCRN_DEPTHS_M.items()
        if depth <= max_depth_m
    }  # fmt: skip
    whole = fields.load(path, columns, of=fields.READINGS, decimal=".", notes=Notes())
    offset = pd.to_timedelta((whole.table["longitude"] / 15).round().fillna(0), unit="h")
    noon = pd.to_datetime(whole.table["lst_date"]) + pd.Timedelta("12h")
    columns |= {"network": "=USCRN", "sensor": "=daily-mean"}
    return read_readings(
        whole.table.assign(lst_date=noon - offset), columns=columns, units="m3 m-3", timezone="UTC"
    )


def read_predictions(
    path: str | Path | pd.DataFrame,
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
    source = fields.load(path, columns, of=fields.PREDICTIONS, decimal=decimal, notes=notes)
    name = "foreign" if isinstance(path, pd.DataFrame) else Path(path).name.split(".")[0]
    table = _named(source, stations, model=name)
    for quantity, column in MOISTURE.items():
        if quantity in source.places:
            unit = (
                units if isinstance(units, str) else units.get(quantity.replace("std", "predicted"))
            )
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
    LOG.info("%s: %d rows of %d kept", name, len(table), len(source.table))
    return table, notes.table()


def _named(source: Columns, stations: pd.DataFrame | None, *, model: str) -> pd.DataFrame:
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
        _set_apart(table, source.notes)
    if stations is not None:
        table["station_id"] = _listed_ids(table["station_id"], stations, source.notes)
    derive("sensor_id", table["station_id"], detail="one sensor a station: station_id")
    if table["station_id"].str.contains("__", regex=False).all():
        network = table["station_id"].str.split("__").str[0]
        derive("network", network, detail="the part of station_id before '__'")
    derive("network", "unknown", detail="no network is named: all stations count as one")
    derive("model", model, detail=f"the file's name: {model}")
    derive("split", "unknown", detail="whether these stations trained the model is not known")
    return table


def _set_apart(table: pd.DataFrame, notes: Notes) -> None:
    """Give bare names that several networks use their network, in place."""
    for column in table.columns.intersection(["station_id", "sensor_id"]):
        bare = ~table[column].str.contains("__", regex=False) & (table["network"] != "")
        shared = bare & (table.groupby(column)["network"].transform("nunique") > 1)
        detail = "a name of several networks: NETWORK__ is set before it"
        notes.mark("same name", detail, rows=shared, stations=table[column], column=column)
        table.loc[shared, column] = table["network"] + "__" + table[column]


def _listed_ids(names: pd.Series, stations: pd.DataFrame, notes: Notes) -> pd.Series:
    """The ``station_id`` of bare names that one station of the table has; others stay."""
    known = stations[["station_id", "station"]].astype("str").drop_duplicates("station_id")
    single = known[~known["station"].duplicated(keep=False)].set_index("station")["station_id"]
    ids = names.where(names.isin(known["station_id"]), names.map(single))
    detail = "no station of the table, or several, have this name"
    notes.mark("not in the list", detail, rows=ids.isna() & (names != ""), stations=names)
    return ids.fillna(names)


def _scored(source: Columns, quantity: str, unit, stations) -> np.ndarray:
    """m3 m-3: outside 0-1 an observation becomes missing and a prediction stays, noted."""
    values = source.moisture(quantity, units=unit, stations=stations)
    if quantity == "std":
        if n := int((values < 0).sum()):
            raise ContractError(f"The std {source.places['std']!r} is negative in {n} rows.")
        return values
    outside = (values < 0) | (values > MAX_SOIL_MOISTURE_M3_M3)
    fate = "taken as missing" if quantity == "observed" else "scored as it stands"
    source.notes.mark(
        "impossible value", f"outside 0-1 m3 m-3, {fate}", rows=outside, stations=stations,
        column=quantity,
    )  # fmt: skip
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
            "duplicates='first', 'last' or 'mean'."
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
        notes.mark(
            "constant series", "no correlation exists", rows=flat, stations=stations, column=column
        )
    few = pair.astype(int).groupby(key).transform("sum") < MIN_SAMPLES
    notes.mark(
        "few samples", f"fewer than {MIN_SAMPLES} pairs: no score", rows=few, stations=stations
    )
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
    listed = pd.DataFrame(columns=["key", *NUMBERS, *CLASSES])
    if path is not None:
        listed = _listed(path, columns, decimal)
    known = set(listed["key"])
    key = stations["sensor_id"].where(stations["sensor_id"].isin(known))
    for name in (stations["station_id"], stations["network"] + "__" + stations["station_id"]):
        key = key.fillna(name.where(name.isin(known)))
    rows = _one_row_each(listed[listed["key"].isin(key)], notes).reindex(key)
    stations[NUMBERS] = rows[NUMBERS].to_numpy(float)
    stations[CLASSES] = rows[CLASSES].fillna("").astype("str").to_numpy(object)
    ids, unknown = stations["station_id"], stations["latitude"].isna()
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
    is_file = not isinstance(path, pd.DataFrame)
    if is_file and (Path(path).is_dir() or zipfile.is_zipfile(path)):
        sites = insitu.read_stations(path, without_coordinates="drop", progress=False)
        names = [sites["sensor_id"], sites["station_id"]]
    else:
        table = fields.load(path, columns, of=fields.STATIONS, decimal=decimal, notes=Notes())
        text = {q: table.text(q) for q in ("sensor", "station", "network") if q in table.places}
        names = [text[q] for q in ("sensor", "station") if q in text]
        sites = rules.checked(table.sites().assign(station=names[0]), Notes())
        if "network" in text and "station" in text:
            whole = (text["network"] != "") & ~text["station"].str.contains("__", regex=False)
            names.append((text["network"] + "__" + text["station"]).where(whole, ""))
    listed = pd.concat([sites.assign(key=name) for name in names], ignore_index=True)
    return listed[listed["key"] != ""].drop_duplicates()


def _one_row_each(listed, notes):
    """One row a key (the index); where its rows disagree, the value is unknown, and noted."""
    values = listed[["key", *NUMBERS, *CLASSES]].replace(dict.fromkeys(CLASSES, {"": None}))
    groups = values.groupby("key", sort=False)
    rows = groups.first()  # the first that is not missing
    spans = groups[PLACE].max() - groups[PLACE].min()
    apart = groups.nunique() > 1
    apart["latitude"] = apart["longitude"] = (spans > SAME_PLACE_DEG).any(axis=1)
    for column in apart.columns[apart.any()]:
        detail = "rows of the list disagree: taken as unknown"
        notes.add("several values", detail, column=column, stations=apart.index[apart[column]])
    rows = rows.mask(apart).fillna(dict.fromkeys(CLASSES, ""))
    return rows.astype(dict.fromkeys(CLASSES, "str"))

"""A foreign table of predictions, read into the predictions contract or refused with a reason."""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from soilkit import contracts
from soilkit.errors import ContractError, ParameterError
from soilkit.foreign import files, values
from soilkit.foreign.notes import Notes
from soilkit.metrics.stations import MIN_SAMPLES

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

"""Where the stations of a foreign predictions table stand: a list, the table itself, or ISMN."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from soilkit import contracts, insitu
from soilkit.errors import ContractError
from soilkit.foreign import files, values
from soilkit.foreign.notes import Notes

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

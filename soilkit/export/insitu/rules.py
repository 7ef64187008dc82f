"""The rules that decide which readings are used: flags, depth, units, one row an hour, UTC."""

import logging
from collections.abc import Iterable

import numpy as np
import pandas as pd

from soilkit import contracts
from soilkit.errors import ArchiveReadError, ContractError, ParameterError, UnknownNameError

LOG = logging.getLogger("soilkit.export.insitu")
DEFAULT_FLAGS = ("G", "C02", "C03", "C02,C03")
DEFAULT_MAX_DEPTH_M = 0.055  # two inches are 0.0508 m; nominal depths differ in the last digits
# https://ismn.earth/en/data/flag-overview/ (Dorigo et al., 2013, doi:10.2136/vzj2012.0097); "U" is
# the mark of archives older than the quality control.
KNOWN_FLAGS = {
    "G": "good", "M": "value missing", "U": "not checked (old archives)",
    "C01": "soil moisture below 0", "C02": "soil moisture above 0.60 m3 m-3",
    "C03": "soil moisture above saturation", "D01": "in-situ soil temperature below 0 degC",
    "D02": "in-situ air temperature below 0 degC", "D03": "GLDAS soil temperature below 0 degC",
    "D04": "rises without in-situ rain", "D05": "rises without GLDAS rain",
    "D06": "spike", "D07": "negative break", "D08": "positive break",
    "D09": "constant low values", "D10": "saturated plateau",
}  # fmt: skip
MISSING_BELOW = -99.0  # -9999, -999 and -99.9 all stand for "no value"
LOST = {
    "malformed": "malformed line", "missing": "missing value", "duplicate": "repeated time",
    "sub_hourly": "later reading of an hour",
}  # fmt: skip


def canonical_flag(flag: str) -> str:
    """One spelling for a combination of flags, "C02,C03" for "C03,C02" and "1" for "1.0"."""
    return ",".join(sorted({part.strip().removesuffix(".0") for part in flag.split(",")}))


def is_known(flag: str) -> bool:
    """Whether every part of a combination stands in ISMN's list."""
    return all(part in KNOWN_FLAGS for part in flag.split(","))


def accepted_flags(
    flags: Iterable[str] | None, present: Iterable[str], *, unknown_flags: str = "drop"
) -> tuple[str, ...]:
    """The accepted flags in one spelling; None accepts all that the archive holds (``present``).

    Raises ``UnknownNameError`` for a flag that neither ISMN's list nor the archive holds; and,
    unless ``unknown_flags`` is "drop", for flags of the archive that stand neither there nor among
    the accepted.
    """
    present = set(present)
    if flags is None:
        return tuple(sorted(present))
    if isinstance(flags, str):
        raise ParameterError(f"flags should be a tuple such as ({flags!r},), found {flags!r}.")
    wanted = tuple(dict.fromkeys(canonical_flag(flag) for flag in flags))
    words = ", ".join(f"{flag} ({meaning})" for flag, meaning in KNOWN_FLAGS.items())
    words = f"Known are {words}, and their combinations such as 'C02,C03'."
    unknown = [flag for flag in wanted if not is_known(flag) and flag not in present]
    if unknown:
        raise UnknownNameError(
            f"Unknown flags {', '.join(unknown)}. {words} Here are {', '.join(sorted(present))}."
        )
    unknown = sorted(flag for flag in present - set(wanted) if not is_known(flag))
    if unknown and unknown_flags != "drop":
        raise UnknownNameError(
            f"There are unknown flags {', '.join(map(repr, unknown))}. {words} Name good ones in "
            "flags=(...); a table's others are then left out, an archive's by unknown_flags='drop'."
        )
    return wanted


def depth_accepted(depth_from_m, depth_to_m, *, max_depth_m):
    """Whether sensors (sensor,) are surface ones: they begin at 0 or sit at one depth, [m].

    And they end no deeper than ``max_depth_m``.

    Examples
    --------
    >>> depth_accepted(np.array([0, 0.05, 0.02]), np.array([0.05, 0.0508, 0.05]), max_depth_m=0.055)
    array([ True, False, False])
    """
    if not isinstance(max_depth_m, int | float | np.number) or not max_depth_m >= 0:
        raise ParameterError(f"max_depth_m should be metres such as 0.05, found {max_depth_m!r}.")
    start, end = np.asarray(depth_from_m, float), np.asarray(depth_to_m, float)
    return ((start == 0) | (start == end)) & (start >= 0) & (end <= max_depth_m)


def tidy(readings: pd.DataFrame, *, by: str | None = None) -> tuple[pd.DataFrame, dict[str, int]]:
    """Sort readings in time and keep a sensor's first of each clock hour; count what goes.

    A missing value goes first, then a repeated time (the first row of the file stays), then the
    later rows of an hour: ISMN is hourly, and an hour that counts twice would weigh twice.
    ``by`` is the column that tells sensors apart (None: one sensor). Beside the readings stand the
    rows lost as ``missing``, ``duplicate`` and ``sub_hourly``.
    """
    sensor = [] if by is None else [by]
    value = readings["soil_moisture_m3_m3"]
    present = readings[value.notna() & (value > MISSING_BELOW) & readings["time"].notna()]
    present = present.sort_values([*sensor, "time"], kind="stable")
    distinct = present[~present.duplicated([*sensor, "time"])]
    hours = distinct[sensor].assign(hour=distinct["time"].dt.floor("h"))
    hourly = distinct[~hours.duplicated()]
    counts = -np.diff([len(part) for part in (readings, present, distinct, hourly)])
    lost = dict(zip(("missing", "duplicate", "sub_hourly"), counts.tolist(), strict=True))
    return hourly.reset_index(drop=True), lost


def placed(stations: pd.DataFrame, *, without_coordinates: str) -> pd.DataFrame:
    """The stations with one place each; "raise" names the others, "drop" leaves them out.

    Raises ``ArchiveReadError`` for stations without coordinates, and for those that stand at
    several places, by name.
    """
    if without_coordinates not in ("raise", "drop"):
        raise ParameterError(
            f"without_coordinates is 'raise' or 'drop', found {without_coordinates!r}."
        )
    known = stations["latitude"].notna() & stations["longitude"].notna()
    nowhere = sorted(stations.loc[~known, "station_id"].unique())
    moved = contracts.apart(stations)
    for names, fault in ((nowhere, "have no coordinates"), (moved, "stand at several places")):
        if names and without_coordinates == "raise":
            raise ArchiveReadError(
                f"{len(names)} stations {fault}: {', '.join(names[:10])}. Mend that at the source, "
                "or leave them out: their rows of a table, or without_coordinates='drop'."
            )
        if names:
            LOG.warning("left out: %d stations that %s: %s", len(names), fault, names[:10])
    return stations[known & ~stations["station_id"].isin(moved)].reset_index(drop=True)


# What every reader's rows must pass, and the notes of what was found on the way.

DEEPEST_M, SHALLOWEST_M = 10.0, 2.0  # a table of none but such depths is one in centimetres
N_NAMES = 5


class Notes:
    """Findings in the order of the work; ``table`` has one row each."""

    def __init__(self) -> None:
        self.lines: list[dict] = []

    def add(self, status, detail, *, column="", rows=0, dropped=0, stations=()):
        """Note a finding; ``rows`` may be zero, for one about the table as a whole."""
        names = sorted({str(name) for name in stations})
        shown = ", ".join(names[:N_NAMES]) + (", ..." if len(names) > N_NAMES else "")
        self.lines.append({
            "status": status, "column": column, "n_rows": int(rows), "n_dropped": int(dropped),
            "n_stations": len(names), "stations": shown, "detail": detail,
        })  # fmt: skip

    def mark(self, status, detail, *, rows, stations=None, column="", dropped=False):
        """Note the rows of a mask, if there are any, with their stations."""
        n = int(rows.sum())
        if n:
            names = () if stations is None else stations[rows].dropna().unique()
            self.add(status, detail, column=column, rows=n, dropped=n * dropped, stations=names)

    def table(self) -> pd.DataFrame:
        """``status, column, n_rows, n_dropped, n_stations, stations`` (five names), ``detail``."""
        columns = ("status", "column", "n_rows", "n_dropped", "n_stations", "stations", "detail")
        return pd.DataFrame(self.lines, columns=list(columns))


def checked(table: pd.DataFrame, notes: Notes) -> pd.DataFrame:
    """The rows of any reader: readings, predictions, lists of stations, ISMN's stations.

    Raises ``ContractError`` for a place that is not on Earth, depths below zero or in centimetres,
    and a table of which no row has a station and a time.
    """
    if "time" in table:
        table = _rows_with_station_and_time(table, notes)
    if "latitude" in table:
        table = _places_on_earth(table)
    if "depth_from_m" in table:
        _refuse_other_depths(table)
        unknown = table[["depth_from_m", "depth_to_m"]].isna().any(axis=1)
        detail = "kept, but chosen by no rule of depth"
        notes.mark("unknown depth", detail, rows=unknown, stations=table["station"])
    return table


def _rows_with_station_and_time(table, notes):
    no_station, no_time = table["station_id"] == "", table["time"].isna()
    stations = table["station_id"].where(~no_station)
    for status, rows in {"no station": no_station, "no time": no_time & ~no_station}.items():
        notes.mark(status, "rows left out", rows=rows, stations=stations, dropped=True)
    kept = table[~no_station & ~no_time]
    if not len(kept):
        raise ContractError("No row has both a station and a time.")
    return kept.reset_index(drop=True)


def _places_on_earth(table):
    """Longitudes from -180 up to 180, so that a place has one; half a place, and 0, 0, is none."""
    east = table["longitude"]
    bad = (table["latitude"].abs() > 90) | (east < -180) | (east > 360)
    if bad.any():
        first = table[bad].iloc[0]
        raise ContractError(
            f"{bad.sum()} rows have no place on Earth, first {first['station']!r}: latitude "
            f"{first['latitude']:g}, longitude {first['longitude']:g}. Give WGS84 degrees; perhaps "
            "the two are exchanged, or metres of a projection."
        )
    places = table[["latitude"]].assign(longitude=east.where(east < 180, east - 360))
    nowhere = (places == 0).all(axis=1) | places.isna().any(axis=1)
    return table.assign(**places.mask(nowhere))


def _refuse_other_depths(table):
    depths = table[["depth_from_m", "depth_to_m"]]
    bad = (depths < 0).any(axis=1) | (depths["depth_from_m"] > depths["depth_to_m"])
    if bad.any() or depths.max(axis=None) > DEEPEST_M or depths.min(axis=None) >= SHALLOWEST_M:
        first = table.loc[bad.idxmax() if bad.any() else depths["depth_to_m"].idxmax()]
        raise ContractError(
            f"Depths should be metres below the surface, positive, the upper one first; found "
            f"{first['depth_from_m']:g} to {first['depth_to_m']:g} at {first['station']!r}. Change "
            "their sign, or divide centimetres by 100."
        )

"""Columns of a table of any origin: which is what; their text, numbers, units, times, places."""

import gzip
import re
import unicodedata
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from soilkit.errors import ArchiveReadError, ContractError, TimeZoneError, UnitError
from soilkit.export.insitu import rules
from soilkit.export.insitu.rules import Notes
from soilkit.units import MAX_SOIL_MOISTURE_M3_M3


@dataclass(frozen=True)
class Quantities:
    """What a table may hold: spellings (lower case) that are taken without being told, and noted.

    ``needed`` must stand there (a sensor may stand for its station), ``numbers`` are no text, and
    ``varying`` cannot be a constant.
    """

    spellings: Mapping[str, tuple[str, ...]]
    needed: tuple[str, ...]
    numbers: tuple[str, ...]
    varying: tuple[str, ...]


NAMES = {
    "station": ("station_id", "station", "site_id", "site"),
    "sensor": ("sensor_id", "sensor"),
    "network": ("network",),
}
TIMES = ("time", "datetime", "timestamp", "date")
SITE_NUMBERS = ("latitude", "longitude", "elevation", "depth_from", "depth_to")
PREDICTIONS = Quantities(
    {
        **NAMES,
        "time": TIMES,
        "observed": ("observed_m3_m3", "observed", "observation", "obs", "insitu", "in_situ"),
        "predicted": ("predicted_m3_m3", "predicted", "prediction", "pred", "estimate"),
        "std": ("predicted_std_m3_m3", "predicted_std", "pred_std"),
        "sample": ("sample_id",),
        "model": ("model",),
        "split": ("split",),
    },
    needed=("station", "time", "observed", "predicted"),
    numbers=("observed", "predicted", "std"),
    varying=("time", "observed", "predicted", "std"),
)
STATIONS = Quantities(
    {
        **NAMES,
        "latitude": ("latitude", "lat"),
        "longitude": ("longitude", "lon", "long", "lng"),
        "elevation": ("elevation_m", "elevation"),
        "depth_from": ("depth_from_m",),
        "depth_to": ("depth_to_m",),
        "land_cover": ("land_cover", "landcover"),
        "koeppen": ("koeppen", "koppen"),
        "texture": ("texture",),
    },
    needed=("station",),
    numbers=SITE_NUMBERS,
    varying=("station", "latitude", "longitude"),
)
OPTIONAL = ("network", "sensor", "flag", *SITE_NUMBERS[2:], "land_cover", "koeppen", "texture")
READINGS = Quantities(
    {
        "station": NAMES["station"],
        "time": TIMES,
        "soil_moisture": ("soil_moisture_m3_m3", "soil_moisture"),
        "latitude": STATIONS.spellings["latitude"],
        "longitude": STATIONS.spellings["longitude"],
        **dict.fromkeys(OPTIONAL, ()),  # told only: they decide which readings are used
    },
    needed=("station", "time", "soil_moisture", "latitude", "longitude"),
    numbers=("soil_moisture", *SITE_NUMBERS),
    varying=("time", "soil_moisture"),
)
MISSING_WORDS = ("", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "none", "-")
PARQUET_MAGIC, GZIP_MAGIC = b"PAR1", b"\x1f\x8b"
UTF16_MAGICS = (b"\xff\xfe", b"\xfe\xff")  # what spreadsheets call "Unicode text"
OTHER_KINDS = {
    b"PK\x03\x04": "a zip or a spreadsheet (xlsx): save the sheet as 'CSV UTF-8', or unpack it",
    b"\xd0\xcf\x11\xe0": "an old spreadsheet (xls): save the sheet as 'CSV UTF-8'",
    b"\x89HDF": "a NetCDF or HDF5 file: read it with xarray and pass .to_dataframe()",
    b"CDF": "a NetCDF file: read it with xarray and pass .to_dataframe()",
}
UNITS = {"m3 m-3": 1.0, "percent": 0.01, "%": 0.01}
LAYER = re.compile(r"(?:mm|kg m-2) in (\d+(?:\.\d+)?) mm")
EPOCHS = {  # a time that is only a number: from, to, what it looks like
    (20_000, 80_000): ("days of a spreadsheet", "D", "1899-12-30"),
    (1e8, 4e9): ("seconds since 1970", "s", "1970-01-01"),
    (1e11, 4e12): ("milliseconds since 1970", "ms", "1970-01-01"),
}
OFFSET = r"\d:\d\d.*(?:Z|z|[+-]\d\d(?::?\d\d)?)$"
FILL_BELOW = {"latitude": -99.0}  # -99.9 is a longitude, and -430 m the shore of the Dead Sea


@dataclass
class Columns:
    """A table by quantity: ``places`` holds a column's name, or "=" and a constant, of each."""

    table: pd.DataFrame
    places: dict[str, Any]
    decimal: str
    notes: Notes

    def values(self, quantity: str) -> pd.Series:
        """The column as it stands, or its constant in every row."""
        place = self.places[quantity]
        if place.startswith("="):
            return pd.Series(place[1:], index=self.table.index)
        return self.table[place]

    def text(self, quantity: str) -> pd.Series:
        """Text without blanks around it, one spelling a letter (NFC), "" where there is none."""
        if quantity not in self.places:
            return pd.Series("", index=self.table.index)
        codes, spellings = pd.factorize(self.values(quantity))  # -1 where missing: the last below
        tidy = [unicodedata.normalize("NFC", str(text)).strip() for text in spellings]
        return pd.Series(np.array([*tidy, ""], dtype=object)[codes], index=self.table.index)

    def numbers(self, quantity: str) -> np.ndarray:
        """Floats; text that stands for nothing is NaN, any other text is refused with its rows."""
        if quantity not in self.places:
            return np.full(len(self.table), np.nan)
        column, name = self.values(quantity), self.places[quantity]
        if pd.api.types.is_bool_dtype(column):
            raise ContractError(f"Column {name!r} holds True and False, no numbers.")
        if pd.api.types.is_numeric_dtype(column):
            return column.to_numpy(float, na_value=np.nan)
        text = _stripped(column)
        plain = text.str.replace(",", ".", regex=False) if self.decimal == "," else text
        missing = text.isin(MISSING_WORDS)
        parsed = pd.to_numeric(plain.where(~missing, "nan"), errors="coerce")
        rows = text[parsed.isna() & ~missing]
        if len(rows):
            some = ", ".join(f"{value!r} in row {i + 1}" for i, value in rows.head(3).items())
            advice = "Remove it, or pass the DataFrame of pandas.read_csv(na_values=[...])."
            if rows.str.fullmatch(r"[-+]?\d*,\d+").all():
                advice = "These are decimal commas: pass decimal=','."
            raise ContractError(f"Column {name!r} holds text in {len(rows)} rows: {some}. {advice}")
        return parsed.to_numpy(float)

    def moisture(self, quantity: str, *, units: str | None, stations) -> np.ndarray:
        """m3 m-3, NaN for what is infinite or a fill value; another unit's values are refused."""
        scale, values = factor(units, what=quantity), self.numbers(quantity)
        infinite, fill = np.isinf(values), np.isfinite(values) & (values <= rules.MISSING_BELOW)
        for status, rows, detail in (
            ("infinite", infinite, "infinite values are taken as missing"),
            ("fill value", fill, "values of -99 and below mean missing"),
        ):
            self.notes.mark(status, detail, rows=rows, stations=stations, column=quantity)
        values = np.where(infinite | fill, np.nan, values)
        present = np.isfinite(values)
        if scale == 1:
            _refuse_percent(values[present], what=quantity, stations=stations[present])
            return values
        if present.any() and quantity != "std":
            some, places = values[present], stations[present]
            self._refuse_fractions(quantity, some, units=units, stations=places)
        detail = f"{units} divided by {1 / scale:g}, as told"
        self.notes.add("unit", detail, column=quantity, rows=present.sum())
        return values * scale

    def _refuse_fractions(self, quantity, values, *, units, stations):
        """Raise where percent or mm are m3 m-3, or more water than any soil holds."""
        scale = factor(units, what=quantity)
        if np.quantile(values, 0.99) <= 1:
            raise UnitError(
                f"{quantity} is said to be in {units}, but 99 % of its values are 1 or less "
                f"(median {np.median(values):.3g}). If they are m3 m-3, pass units='m3 m-3'."
            )
        if (values * scale > MAX_SOIL_MOISTURE_M3_M3).mean() > 0.5:
            raise UnitError(
                f"{quantity} is said to be in {units}, but more than half of its values exceed "
                f"{1 / scale:g} (median {np.median(values):.3g}), more than any soil holds. Look "
                "up its unit, or the thickness of its layer."
            )
        low = pd.Series(values).groupby(stations).transform("max").to_numpy() <= 1
        detail = f"said to be in {units}, but no value of these stations exceeds 1"
        self.notes.mark(
            "perhaps another unit", detail, rows=low, stations=stations, column=quantity
        )

    def utc(self, *, timezone: str | None) -> pd.Series:
        """Naive UTC ``datetime64[us]``; NaT, noted, for what no clock has."""
        times = _parsed(self.values("time"))
        if times.dt.tz is not None:
            detail, n = "offsets converted to UTC", times.notna().sum()
            self.notes.add("time zone", detail, column="time", rows=n)
        else:
            naive, times = times, _localized(times, timezone)
            if timezone != "UTC":
                detail = f"{timezone} converted to UTC"
                self.notes.add("time zone", detail, column="time", rows=len(times))
            if n := int((times.isna() & naive.notna()).sum()):
                detail = f"local times that {timezone} skips or has twice"
                self.notes.add("no such time", detail, column="time", rows=n)
        return times.dt.tz_convert("UTC").dt.tz_localize(None).astype("datetime64[us]")

    def sites(self) -> pd.DataFrame:
        """Latitude, longitude [degrees], elevation, depths [m] and classes; fill values are NaN."""
        sites = pd.DataFrame(index=self.table.index)
        for quantity in SITE_NUMBERS:
            number = self.numbers(quantity)
            present = np.isfinite(number) & (number > FILL_BELOW.get(quantity, -999.0))
            name = quantity if quantity.endswith("itude") else f"{quantity}_m"
            sites[name] = np.where(present, number, np.nan)
        for quantity in ("land_cover", "koeppen", "texture"):
            sites[quantity] = self.text(quantity)
        told = [name for name in ("latitude", "longitude") if name in self.places]
        if len(told) == 1:
            other = "longitude" if told == ["latitude"] else "latitude"
            raise ContractError(
                f"The list has a {told[0]} ({self.places[told[0]]!r}) and no {other}. Name its "
                "column, or leave both out."
            )
        return sites


def _stripped(column: pd.Series) -> pd.Series:
    return column.astype(object).where(column.notna(), "").astype(str).str.strip()


def factor(units: str | None, *, what: str) -> float:
    """What turns a unit into m3 m-3; mm of water need the thickness of their layer.

    Examples
    --------
    >>> factor("mm in 50 mm", what="predicted")
    0.02
    """
    layer = LAYER.fullmatch(units or "")
    if layer and float(layer[1]) > 0:
        return 1 / float(layer[1])
    if units not in UNITS:
        raise UnitError(
            f"units must be 'm3 m-3', '%' or water in a layer such as 'mm in 50 mm' or 'kg m-2 in "
            f"100 mm', found {units!r} for {what}. Look it up: it is not guessed."
        )
    return UNITS[units]


def _refuse_percent(values, *, what, stations):
    """Raise where most values of the table, or of one station, exceed 1 m3 m-3."""
    above = pd.Series(values > MAX_SOIL_MOISTURE_M3_M3)
    share = above.groupby(stations).mean()
    wrong = sorted(share.index[share > 0.5])
    if wrong or (len(above) and above.mean() > 0.5):
        raise UnitError(
            f"{what} should hold m3 m-3 (0-1), but more than half of the values exceed 1 at "
            f"{len(wrong)} of {len(share)} stations ({', '.join(map(str, wrong[:3]))}): they look "
            "like percent, or like mm of water. Pass units='%' or 'mm in 50 mm' (the layer's "
            "thickness) if all are, units={'observed': ..., 'predicted': ...} if one column is; "
            "repair single stations at the source."
        )


def _parsed(times: pd.Series) -> pd.Series:
    """Datetimes as they are, text as ISO 8601 (03/04/2020 has two meanings): all zoned, or none."""
    if pd.api.types.is_datetime64_any_dtype(times):
        return times
    text = _stripped(times)
    text = text.where(~text.isin(MISSING_WORDS), None)
    present = text.dropna()
    first = present.iloc[0] if len(present) else ""
    if re.fullmatch(r"\d+(\.\d+)?", first) and len(first.split(".")[0]) != 8:  # 20200131 is a date
        for (low, high), (kind, unit, zero) in EPOCHS.items():
            if low <= float(first) < high:  # its zero is not written in the file
                date = pd.Timestamp(zero) + pd.Timedelta(float(first), unit)
                raise ContractError(
                    f"Times should be ISO 8601, such as 2020-07-01 06:00; found {first}, which "
                    f"looks like {kind} ({date:%Y-%m-%d %H:%M} if counted from {zero}). Write them "
                    "as dates, yyyy-mm-dd hh:mm, and export the table again."
                )
    n_offset = int(present.str.contains(OFFSET).sum())
    if 0 < n_offset < len(present):
        raise TimeZoneError(
            f"{n_offset} of {len(present)} times carry an offset or Z, the others do not: their "
            "zone is unknown. Write all of them alike."
        )
    try:
        return pd.to_datetime(text, format="ISO8601", utc=n_offset > 0)
    except ValueError as error:
        raise ContractError(
            f"Times should be ISO 8601, such as 2020-07-01 06:00; found {first!r}: "
            f"{str(error).splitlines()[0]}. Convert them with pandas.to_datetime(..., format=...) "
            "and pass the DataFrame."
        ) from error


def _localized(times: pd.Series, timezone: str | None) -> pd.Series:
    """Naive times in their zone; those that it skips or has twice are NaT."""
    if timezone is None:
        raise TimeZoneError(
            f"The times are naive (first {times.iloc[0] if len(times) else 'none'}), so their zone "
            "is unknown. Pass timezone='UTC', or the local one: 'America/Chicago', 'Etc/GMT+6'."
        )
    try:
        return times.dt.tz_localize(str(timezone), ambiguous="NaT", nonexistent="NaT")
    except (KeyError, ValueError) as error:
        raise TimeZoneError(
            f"No time zone is called {timezone!r}; try 'America/Chicago'."
        ) from error


# Which column is what: files of any form, told names and known spellings.


def load(
    path: str | Path | pd.DataFrame,
    columns: Mapping[str, Any] | None,
    *,
    of: Quantities,
    decimal: str,
    notes: Notes,
) -> Columns:
    """Read a CSV (comma, semicolon or tab; UTF-8) or parquet, gzipped or not, or a DataFrame.

    Raises
    ------
    ArchiveReadError
        No file, or one that is no table; the error says what it looks like.
    ContractError
        Columns missing, ambiguous or twice; rows with more fields than the header; no rows.
    """
    # A number stands for itself, and "depth_to_m" for our "depth_to".
    told = {
        quantity.removesuffix("_m"): f"={place}" if isinstance(place, int | float) else place
        for quantity, place in (columns or {}).items()
    }
    table, places = _opened(path, told, of, decimal)
    if not len(table):
        raise ContractError(f"The table has no rows; its columns are {', '.join(table.columns)}.")
    moisture = places.get("soil_moisture")
    n_rows = len(table) * (len(moisture) if isinstance(moisture, Mapping) else 1)
    notes.add("read", f"{len(table.columns)} columns", rows=n_rows)
    for quantity, column in places.items():
        if quantity not in told:
            notes.add("column", f"taken as {quantity}", column=column)
    return Columns(table, places, decimal, notes)


def _opened(path, columns, of, decimal):
    if isinstance(path, pd.DataFrame):
        return _framed(path, columns, of)
    path = Path(path)
    if not path.is_file():
        raise ArchiveReadError(f"No table at {path}. Give a CSV or parquet file, or a DataFrame.")
    raw = path.read_bytes()
    try:
        raw = gzip.decompress(raw) if raw.startswith(GZIP_MAGIC) else raw
        if raw.startswith(PARQUET_MAGIC):
            return _framed(pd.read_parquet(BytesIO(raw)), columns, of)
        kinds = [kind for magic, kind in OTHER_KINDS.items() if raw.startswith(magic)]
        if kinds:
            raise ArchiveReadError(f"{path.name} is no CSV or parquet table, but {kinds[0]}.")
        if not raw.strip(b"\xef\xbb\xbf\r\n\t "):
            raise ArchiveReadError(
                f"{path.name} is empty ({len(raw):,} bytes): a header and rows are wanted. It may "
                "be half written or half copied: fetch it again."
            )
        text = raw.decode("utf-16").encode() if raw.startswith(UTF16_MAGICS) else raw
        return _csv(text, columns, of, decimal)
    except (ContractError, ArchiveReadError):
        raise
    except UnicodeDecodeError as error:
        raise ArchiveReadError(
            f"{path.name} is no UTF-8 text (byte {error.start}). Save it as 'CSV UTF-8', or read "
            "it with pandas.read_csv(encoding='cp1252') and pass the DataFrame."
        ) from error
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise ArchiveReadError(
            f"{path.name} is neither a parquet nor a regular UTF-8 CSV table ({len(raw):,} bytes: "
            f"{error}). It may be half downloaded: fetch it again, or read it with pandas and pass "
            "the DataFrame."
        ) from error


def _framed(table, columns, of):
    named = [name for name in table.index.names if name is not None]
    table = table.reset_index(drop=not named)
    table.columns = _tidy_names(table.columns)
    return table, locate(table.columns, columns, of=of)


def _csv(raw, columns, of, decimal):
    first = raw[:100_000].decode("utf-8-sig", errors="replace").lstrip().split("\n", 1)[0]
    separator = max((",", ";", "\t"), key=first.count)
    form: dict[str, Any] = {"sep": separator, "encoding": "utf-8-sig", "keep_default_na": False}
    header = _tidy_names(pd.read_csv(BytesIO(raw), header=None, nrows=1, dtype=str, **form).iloc[0])
    places = locate(header, columns, of=of)
    # Identifiers stay text: "007" is no 7, and a network may be called NA.
    texts = {places[q] for q in places if q not in of.numbers} & set(header)
    form |= {
        "header": 0, "names": header, "decimal": decimal, "low_memory": False,
        "dtype": dict.fromkeys(texts, "str"),
        "na_values": {name: list(MISSING_WORDS) for name in header if name not in texts},
    }  # fmt: skip
    table = pd.read_csv(BytesIO(raw), **form)
    numbered = [pd.RangeIndex(start, start + len(table)) for start in (0, 1)]
    if table.index.equals(numbered[0]):
        return table, places
    last = table.iloc[:, -table.index.nlevels :]
    if last.replace("", None).isna().all(axis=None):  # rows, not the header, end in a separator
        form["names"] = [*header, *(f"after the last {i}" for i in range(last.shape[1]))]
        return pd.read_csv(BytesIO(raw), **form)[header], places
    if table.index.equals(numbered[1]):  # row numbers without a name
        return table.reset_index(drop=True), places
    raise ContractError(
        f"The rows have more fields than the header's {len(header)}, separated by {separator!r}. "
        "Name every column; or, if decimal commas look like separators, write the file with ';' "
        "between columns and pass decimal=','."
    )


def _tidy_names(names):
    """Column names without blanks around them; two that are equal are refused."""
    tidy = [str(name).strip() or f"unnamed {i + 1}" for i, name in enumerate(names)]
    twice = sorted({name for name in tidy if tidy.count(name) > 1})
    if twice:
        raise ContractError(
            f"{len(twice)} column names stand there twice: {', '.join(twice)}. Rename one."
        )
    return tidy


def locate(have, columns: Mapping[str, Any], *, of: Quantities) -> dict[str, Any]:
    """The column of each quantity: as told, else by a known spelling; doubts are refused."""
    _refuse_mapping(list(have), columns, of)
    places = dict(columns)
    for quantity in (*of.needed, *of.spellings):
        if quantity in places:
            continue
        taken = {place for place in places.values() if isinstance(place, str)}
        known = of.spellings[quantity]
        candidates = [c for c in have if c.lower() in known and c not in taken]
        if known and "_" in known[0] and known[0] in candidates:
            candidates = [known[0]]  # our contract's name, with its unit or "id", is no doubt
        if len(candidates) > 1:
            raise ContractError(
                f"{quantity} may be any of {', '.join(candidates)}: "
                f"say which, columns={{'{quantity}': '{candidates[0]}'}}."
            )
        if candidates:
            places[quantity] = candidates[0]
    stands = {*places, *(["station"] if "sensor" in places else [])}
    lacks = [quantity for quantity in of.needed if quantity not in stands]
    if lacks:
        raise ContractError(
            f"The table lacks {len(lacks)} of the {len(of.needed)} columns that are needed: "
            f"{', '.join(lacks)}. Needed: {', '.join(of.needed)}; the table has {', '.join(have)}. "
            f"If one stands there under another name: columns={{'{lacks[0]}': 'its name', ...}}."
        )
    return places


def _refuse_mapping(have, columns, of):
    foreign = [name for name in columns if name not in of.spellings]
    places = ([place] if isinstance(place, str) else place for place in columns.values())
    named = [column for place in places for column in place]
    absent = [c for c in named if not c.startswith("=") and c not in have]
    constant = [q for q, place in columns.items() if q in of.varying and str(place)[:1] == "="]
    if foreign or absent or constant:
        hint = f" A constant is written '={absent[0]}'." if absent else ""
        raise ContractError(
            f"columns names unknown quantities: {', '.join(foreign) or 'none'}; absent columns: "
            f"{', '.join(absent) or 'none'}; constants that cannot be: "
            f"{', '.join(constant) or 'none'}. Quantities: {', '.join(of.spellings)}; "
            f"the table has {', '.join(have)}.{hint}"
        )

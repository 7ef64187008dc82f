"""Columns of a table of any origin: which is what; their text, numbers, units, times, places."""

import gzip
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO, StringIO
from numbers import Real
from pathlib import Path
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from soilkit import contracts, files
from soilkit.constants import MIN_SAMPLES
from soilkit.errors import ArchiveReadError, ContractError, ParameterError, TimeZoneError, UnitError
from soilkit.export.insitu import rules
from soilkit.units import MAX_SOIL_MOISTURE_M3_M3

# Where a quantity stands: spellings (lower case) that are taken without being told, and noted.
SPELLINGS = {
    "station": ("station_id", "station", "site_id", "site"), "sensor": ("sensor_id", "sensor"),
    "sample": ("sample_id",), "time": ("time", "datetime", "timestamp", "date"),
    "soil_moisture": ("soil_moisture_m3_m3", "soil_moisture"),
    "observed": ("observed_m3_m3", "observed", "observation", "obs", "insitu", "in_situ"),
    "predicted": ("predicted_m3_m3", "predicted", "prediction", "pred", "estimate"),
    "std": ("predicted_std_m3_m3", "predicted_std", "pred_std"),
    "latitude": ("latitude", "lat"), "longitude": ("longitude", "lon", "long", "lng"),
    "elevation": ("elevation_m", "elevation"),
    "depth_from": ("depth_from_m",), "depth_to": ("depth_to_m",),
    "land_cover": ("land_cover", "landcover"), "koeppen": ("koeppen", "koppen"),
}  # fmt: skip
NAMES = ("station", "sensor", "network")
SITE_NUMBERS = ("latitude", "longitude", "elevation", "depth_from", "depth_to")
NO_ZONES = ("posix", "right/", "localtime", "Factory")  # the machine's own, leap seconds, none
OF_SITES = (*SITE_NUMBERS[2:], "land_cover", "koeppen", "texture")


@dataclass(frozen=True)
class Quantities:
    """What a table holds: ``needed``, what it may, and ``only_named``, by the caller alone.

    ``varying`` cannot be a constant. A sensor that is found by itself is an id, which stands for
    its station.
    """

    needed: tuple[str, ...]
    may: tuple[str, ...]
    varying: tuple[str, ...]
    only_named: tuple[str, ...] = ()


PREDICTIONS = Quantities(
    needed=("station", "time", "observed", "predicted"),
    may=("sensor", "network", "std", "sample", "model", "split"),
    varying=("time", "observed", "predicted", "std"),
)
STATIONS = Quantities(
    needed=("station",), varying=("station", "latitude", "longitude"),
    may=("sensor", "network", "latitude", "longitude", *OF_SITES),
)  # fmt: skip
READINGS = Quantities(
    needed=("station", "time", "soil_moisture", "latitude", "longitude"),
    may=("network",), varying=("time", "soil_moisture"),
    only_named=("sensor", "flag", *OF_SITES),  # they decide which readings are used
)  # fmt: skip
Source: TypeAlias = str | Path | pd.DataFrame
MISSING_WORDS = ("", "NA", "N/A", "n/a", "NaN", "nan", "NAN", "NULL", "null", "None", "none", "-")
TOA5 = ('"TOA5"', "TOA5,")  # Campbell's loggers: origin, names, units, processing, then the rows
PARQUET_MAGIC, GZIP_MAGIC = b"PAR1", b"\x1f\x8b"
UTF16_MAGICS = (b"\xff\xfe", b"\xfe\xff")  # what spreadsheets call "Unicode text"
OTHER_KINDS = {
    b"PK\x03\x04": "a zip or a spreadsheet (xlsx): save the sheet as 'CSV UTF-8', or unpack it",
    b"\xd0\xcf\x11\xe0": "an old spreadsheet (xls): save the sheet as 'CSV UTF-8'",
    b"\x89HDF": "a NetCDF or HDF5 file: read it with xarray and pass .to_dataframe()",
    b"CDF": "a NetCDF file: read it with xarray and pass .to_dataframe()",
    **dict.fromkeys((GZIP_MAGIC, b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"), "packed: unpack it"),
}
UNITS = {"m3 m-3": 1.0, "percent": 0.01, "%": 0.01}
LAYER = re.compile(r"(?:mm|kg m-2) in ([0-9]+(?:\.[0-9]+)?) mm")
EPOCHS = {  # a time that is only a number: from, to, what it looks like
    (20_000, 80_000): ("days of a spreadsheet", "D", "1899-12-30"),
    (1e8, 4e9): ("seconds since 1970", "s", "1970-01-01"),
    (1e11, 4e12): ("milliseconds since 1970", "ms", "1970-01-01"),
}
ISO_TIME = r"(?:[0-9]{4}-[0-9]{1,2}(?:-[0-9]{1,2})?|[0-9]{8})(?:[T ][0-9].*)?"
FILL_TIME = r"-[0-9]+(?:\.[0-9]*)?|9{4,}(?:\.0*)?"  # what loggers and programs write for "none"
OFFSET = r"\d:\d\d.*(?:Z|z|[+-]\d\d(?::?\d\d)?)$"
# -99.9 is a longitude, and -430 m the shore of the Dead Sea
FILL_BELOW = {"latitude": -99.0, "depth_from": -99.0, "depth_to": -99.0}
# One bad reading of a probe does not make its station's unit another; a prediction is no reading.
LEAST_TO_JUDGE = {"soil_moisture": MIN_SAMPLES}
MOST_BYTES, MOST_EXPANSION = 2**27, 100  # of what a packed table holds; of its own size
MOST_MORE = 1000  # fields of a row without a name, each of which costs the parser dearly
MOST_ROWS, ROWS_A_BYTE = 10_000_000, 10  # of a parquet table, whose constants take no room


@dataclass
class Columns:
    """A table by quantity: ``places`` holds a column's name, or "=" and a constant, of each."""

    table: pd.DataFrame
    places: dict[str, Any]
    decimal: str
    notes: rules.Notes

    def values(self, quantity: str) -> pd.Series:
        """The column as it stands, or its constant in every row."""
        place = self.places[quantity]
        if place.startswith("="):
            return pd.Series(place[1:], index=self.table.index)
        return self.table[place]

    def text(self, quantity: str) -> pd.Series:
        """Text without blanks around it, one spelling a letter (NFC), "" where there is none.

        Whole numbers that gaps made floats are written without their decimals.
        """
        if quantity not in self.places:
            return pd.Series("", index=self.table.index)
        column = self.values(quantity)
        column = column.convert_dtypes() if column.dtype.kind == "f" else column
        codes, spellings = pd.factorize(_stripped(column))
        tidy = [unicodedata.normalize("NFC", text) for text in spellings]
        broken = [text for text in tidy if re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", text)]
        if broken:
            raise ContractError(
                f"{quantity}: {broken[0][:60]!r} holds a line break or what is no text. Perhaps a "
                "quotation mark lacks its second one."
            )
        return pd.Series(np.array(tidy, dtype=object)[codes], index=self.table.index)

    def numbers(self, quantity: str) -> np.ndarray:
        """Floats; text that stands for nothing is NaN, any other text is refused with its rows."""
        if quantity not in self.places:
            return np.full(len(self.table), np.nan)
        column = self.values(quantity)
        if column.dtype.kind in "iuf":
            return column.to_numpy(float, na_value=np.nan)
        text = _stripped(column)
        missing, plain = text.isin(MISSING_WORDS), text
        if self.decimal == ",":  # 1.234 may be a thousand, but not in a constant
            dotted = text.str.contains(".", regex=False) & (self.places[quantity][0] != "=")
            plain = text.str.replace(",", ".", regex=False).mask(dotted, "dotted")
        number = pd.to_numeric(plain.where(~missing, "nan"), errors="coerce").astype(float)
        rows = text[number.isna() & ~missing]
        if len(rows):
            some = ", ".join(f"{value!r} in row {i + 1}" for i, value in rows.head(3).items())
            advice = "Remove it, or pass the DataFrame of pandas.read_csv(na_values=[...])."
            if rows.str.fullmatch(r"[-+]?\d*,\d+").all():
                advice = "These are decimal commas, as with ';' between columns: pass decimal=','."
            raise ContractError(
                f"{quantity}: column {self.places[quantity]!r} holds text in {len(rows)} rows: "
                f"{some}. {advice}"
            )
        return number.to_numpy(float)

    def moisture(self, quantity: str, *, units: str | None, stations) -> np.ndarray:
        """m3 m-3, NaN for what is infinite or a fill value; another unit's values are refused."""
        scale, values = factor(units, quantity=quantity), self.numbers(quantity)
        infinite, fill = np.isinf(values), np.isfinite(values) & (values <= rules.MISSING_BELOW)
        for status, rows in {"infinite": infinite, "fill value": fill}.items():
            detail = "infinite values, and those of -99 and below, mean missing"
            self.notes.mark(status, detail, rows=rows, stations=stations, column=quantity)
        values = np.where(infinite | fill, np.nan, values)
        present = np.isfinite(values)
        some, places = values[present], stations[present]
        if scale == 1:
            _refuse_percent(some, quantity=quantity, stations=places)
            return values
        if len(some) and quantity != "std":
            self._refuse_fractions(quantity, some, units=units, stations=places)
        detail = f"{units} divided by {1 / scale:g}, as told"
        self.notes.add("unit", detail, column=quantity, rows=len(some))
        return values * scale

    def _refuse_fractions(self, quantity, values, *, units, stations):
        """Raise where percent or mm are m3 m-3, or more water than any soil holds."""
        scale = factor(units, quantity=quantity)
        if np.quantile(values, 0.99) <= 1:
            raise UnitError(
                f"{quantity} is said to be in {units}, but 99 % of its values are 1 or less "
                f"(median {np.median(values):.3g}). If they are m3 m-3, pass units='m3 m-3'."
            )
        if (values * scale > MAX_SOIL_MOISTURE_M3_M3).mean() > 0.5:
            raise UnitError(
                f"{quantity} is said to be in {units}, but more than half of its values exceed "
                f"{1 / scale:g}, which no soil holds. Look up its unit, or its layer's thickness."
            )
        station = pd.Series(values).groupby(stations.to_numpy())
        low = (station.transform("max") <= 1).to_numpy()
        wrong = stations[low & (station.transform("size") >= MIN_SAMPLES).to_numpy()].unique()
        if len(wrong):
            raise UnitError(
                f"{quantity} is said to be in {units}, but no value of {len(wrong)} stations "
                f"exceeds 1 ({', '.join(map(str, wrong[:10]))}): they look like m3 m-3. Multiply "
                f"theirs by {1 / scale:g}; to keep truly dry ones, divide the whole column by it "
                "and pass units='m3 m-3'."
            )
        status, detail = "perhaps another unit", "no value of these stations exceeds 1"
        self.notes.mark(status, detail, rows=low, stations=stations, column=quantity)

    def utc(self, *, timezone: str | None) -> pd.Series:
        """Naive UTC ``datetime64[us]``; NaT, noted, for what no clock or calendar of ours has."""
        times = _parsed(self.values("time"))
        zoned = times.dt.tz is not None
        if zoned:
            times = times.dt.tz_convert("UTC").dt.tz_localize(None)
        is_arrow = isinstance(times.dtype, pd.ArrowDtype)
        times = times.astype("datetime64[us]") if is_arrow else times
        possible = (times >= contracts.FIRST_DAY) & (times < contracts.LAST_DAY)
        detail, never = "before 1900 or after 2099: taken as missing", times.notna() & ~possible
        self.notes.mark("impossible time", detail, rows=never, column="time")
        times = times.where(possible).astype("datetime64[us]")
        if not zoned:
            naive, times = times, _localized(times, timezone)
            detail, lost = f"local times that {timezone} skips or has twice", times.isna()
            self.notes.mark("no such time", detail, rows=lost & naive.notna(), column="time")
        if zoned or timezone != "UTC":
            detail = f"{'offsets' if zoned else timezone} converted to UTC"
            self.notes.mark("time zone", detail, rows=times.notna(), column="time")
        return times

    def sites(self) -> pd.DataFrame:
        """Latitude, longitude [degrees], elevation, depths [m] and classes; fill values are NaN."""
        sites = pd.DataFrame(index=self.table.index)
        for quantity in SITE_NUMBERS:
            number = self.numbers(quantity)
            present = np.isfinite(number) & (number > FILL_BELOW.get(quantity, -999.0))
            present |= np.isinf(number) & quantity.startswith("depth")  # to be refused
            name = quantity if quantity.endswith("itude") else f"{quantity}_m"
            sites[name] = np.where(present, number, np.nan)
        for quantity in ("land_cover", "koeppen", "texture"):
            sites[quantity] = self.text(quantity)
        return sites


def _stripped(column: pd.Series) -> pd.Series:
    """Text without blanks around it, "" where there is none; bytes are UTF-8."""
    values = column.astype(object).where(column.notna(), "")
    text = [v.decode(errors="replace") if isinstance(v, bytes) else str(v) for v in values]
    return pd.Series([word.strip() for word in text], index=column.index, dtype=object)


def factor(units: str | None, *, quantity: str) -> float:
    """What turns a unit into m3 m-3: 0.02 of "mm in 50 mm", which need their layer's thickness."""
    layer = LAYER.fullmatch(units) if isinstance(units, str) else None
    if layer and 0 < float(layer[1]) < np.inf:
        return 1 / float(layer[1])
    if not isinstance(units, str) or units not in UNITS:
        raise UnitError(
            f"units must be 'm3 m-3', '%' or water in a layer such as 'mm in 50 mm' or 'kg m-2 in "
            f"100 mm', found {units!r} for {quantity}. Look it up: it is not guessed."
        )
    return UNITS[units]


def _refuse_percent(values, *, quantity, stations):
    """Raise where most values of the table, or of one station, exceed 1 m3 m-3."""
    above = pd.Series(values > MAX_SOIL_MOISTURE_M3_M3)
    shares = above.groupby(stations.to_numpy()).agg(["mean", "size"])
    judged = shares["size"] >= LEAST_TO_JUDGE.get(quantity, 1)
    wrong = sorted(map(str, shares.index[judged & (shares["mean"] > 0.5)]))
    if wrong or (len(above) and above.mean() > 0.5):
        names = ", ".join(wrong[:10]) or "no single one has enough to be judged"
        raise UnitError(
            f"{quantity} should hold m3 m-3 (0-1), but more than half of the values exceed 1 at "
            f"{len(wrong)} of {len(shares)} stations ({names}): they look like percent, or like mm "
            "of water. Pass units='%' or 'mm in 50 mm' (the layer) if all are, units={'observed': "
            "..., 'predicted': ...} if one column is; repair single stations at the source."
        )


def _parsed(times: pd.Series) -> pd.Series:
    """Datetimes as they are, text as ISO 8601 (03/04/2020 has two meanings): all zoned, or none."""
    if isinstance(times.dtype, pd.PeriodDtype):
        raise ContractError(
            f"Times should be instants, found periods ({times.dtype}). Say which instant of them "
            "is meant: table[...].dt.to_timestamp(how='start') or 'end'."
        )
    if pd.api.types.is_datetime64_any_dtype(times) and not str(times.dtype).startswith("date32"):
        return times
    text = _stripped(times)
    fill, missing = text.str.fullmatch(FILL_TIME), text.isin(MISSING_WORDS)
    _refuse_times(text[~(fill | missing | text.str.fullmatch(ISO_TIME))])
    present = text[~(fill | missing)]
    n_offset = int(present.str.contains(OFFSET).sum())
    if 0 < n_offset < len(present):
        raise TimeZoneError(
            f"{n_offset} of {len(present)} times carry an offset or Z, the others do not: their "
            "zone is unknown. Write all of them alike."
        )
    text = text.mask(fill, "0001-01-01").mask(missing, None)
    parsed = pd.to_datetime(text, format="ISO8601", utc=n_offset > 0, errors="coerce")
    _refuse_times(text[parsed.isna() & ~missing])
    return parsed


def _refuse_times(text: pd.Series) -> None:
    """Raise for text that is no time, with what its first looks like."""
    for row, first in text.head(1).items():
        advice = "Write dates, yyyy-mm-dd hh:mm, or pass a DataFrame with pandas.to_datetime(...)."
        for (low, high), (kind, unit, zero) in EPOCHS.items():
            if re.fullmatch(r"[0-9]+(?:\.[0-9]*)?", first) and low <= float(first) < high:
                date = pd.Timestamp(zero) + pd.Timedelta(float(first), unit)  # zero is not written
                looks = f"It looks like {kind} ({date:%Y-%m-%d %H:%M} if counted from {zero})."
                advice = f"{looks} {advice}"
        raise ContractError(
            "Times should be ISO 8601, such as 2020-07-01 06:00; found "
            f"{first[:60]!r} in row {row + 1}. {advice}"
        )


def _localized(times: pd.Series, timezone: str | None) -> pd.Series:
    """Naive times of a zone in UTC, naive; those that it skips or has twice are NaT."""
    if timezone is None:
        raise TimeZoneError(
            f"The times are naive (first {times.iloc[0] if len(times) else 'none'}), so their zone "
            "is unknown. Pass timezone='UTC', or the local one: 'America/Chicago', 'Etc/GMT+6'."
        )
    try:
        if str(timezone).startswith(NO_ZONES):
            raise KeyError(timezone)
        zone = ZoneInfo(timezone)
    except (KeyError, ValueError, OSError, TypeError, AttributeError) as error:
        raise TimeZoneError(
            f"No time zone is called {timezone!r}; try 'America/Chicago', or 'Etc/GMT+6' for six "
            "hours west of Greenwich."
        ) from error
    local = times.dt.tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
    return local.dt.tz_convert("UTC").dt.tz_localize(None)


# Which column is what: files of any form, told names and known spellings.


def load(
    path: Source, columns: Mapping | None, *, of: Quantities, decimal: str, notes: rules.Notes
) -> Columns:
    """The columns of a CSV (comma, semicolon or tab; UTF-8) or parquet, gzipped or not, or frame.

    Raises ``ArchiveReadError``, ``ContractError``, ``ParameterError``: no file, or no table;
    columns missing, ambiguous or twice; another ``decimal`` than these.
    """
    if decimal not in (".", ","):
        raise ParameterError(f"decimal is '.' or ',', found {decimal!r}.")
    table = _framed(path) if isinstance(path, pd.DataFrame) else _read(path)
    named = _named({} if columns is None else columns, list(table.columns), of)
    if not len(table):
        raise ContractError(f"The table has no rows; its columns are {', '.join(table.columns)}.")
    places = _located(table.columns, named, of)
    moisture = places.get("soil_moisture")
    n_rows = len(table) * (len(moisture) if isinstance(moisture, Mapping) else 1)
    notes.add("read", f"{len(table.columns)} columns", rows=n_rows)
    for quantity, column in places.items():
        if quantity not in named:
            notes.add("column", f"taken as {quantity}", column=column)
    return Columns(table, places, decimal, notes)


def _read(path: str | Path) -> pd.DataFrame:
    """The table of a file, told by its first bytes and not by its name."""
    raw = b""
    try:
        if not Path(path).is_file():
            raise ArchiveReadError(
                f"No table at {path}. Give a CSV or parquet file, or a DataFrame."
            )
        raw = Path(path).read_bytes()
        return _parsed_bytes(raw)
    except (ArchiveReadError, ContractError):
        raise
    except UnicodeDecodeError as error:
        reason = (
            f"no UTF-8 text (byte {error.start}), perhaps encoding='cp1252': save as 'CSV UTF-8'"
        )
    except Exception as error:  # also whatever a parser met in damaged bytes
        reason = str(error)
    raise ArchiveReadError(
        f"{Path(str(path)).name} ({len(raw):,} bytes) is neither a parquet nor a regular UTF-8 CSV "
        f"table: {reason}. Fetch it again, or read it with pandas and pass the DataFrame."
    )


def _parsed_bytes(raw: bytes) -> pd.DataFrame:
    if raw.startswith(GZIP_MAGIC):
        limit = max(MOST_BYTES, MOST_EXPANSION * len(raw))
        with gzip.open(BytesIO(raw)) as file:
            raw = file.read(limit + 1)
        if len(raw) > limit:
            raise ValueError(f"it unpacks to more than {limit:,} bytes, which no table does")
    if raw.startswith(PARQUET_MAGIC):
        limit = max(MOST_ROWS, ROWS_A_BYTE * len(raw))
        if (n_rows := len(pd.read_parquet(BytesIO(raw), columns=[]))) > limit:
            raise ValueError(f"it claims {n_rows:,} rows, more than {limit:,} for its size")
        return _framed(pd.read_parquet(BytesIO(raw)))
    kinds = [kind for magic, kind in OTHER_KINDS.items() if raw.startswith(magic)]
    if kinds:
        raise ValueError(f"it is {kinds[0]}")
    text = raw.decode("utf-16" if raw.startswith(UTF16_MAGICS) else "utf-8-sig")
    if not text.strip() or "\0" in text:
        raise ValueError("it is empty" if not text.strip() else "it holds NUL characters")
    table = _csv(text)
    return _framed(files.unquoted(table)) if "'" in text else table


def _framed(table: pd.DataFrame) -> pd.DataFrame:
    """A copy with plain row numbers and tidy names; named indices are columns."""
    named = [name for name in table.index.names if name is not None]
    table = table.reset_index(drop=not named, allow_duplicates=True)
    table.columns = _tidy_names(table.columns)
    return table


def _csv(text: str) -> pd.DataFrame:
    """A table of text: identifiers stay as they are written, numbers are parsed where used."""
    if text.startswith(TOA5):
        _, names, _, _, rows = text.split("\n", 4)
        text = f"{names}\n{rows}"
    first = text[:100_000].lstrip().split("\n", 1)[0]
    separator = max((",", ";", "\t"), key=first.count)
    form: dict[str, Any] = {"sep": separator, "dtype": str, "na_filter": False, "header": None}
    header = _tidy_names(pd.read_csv(StringIO(text), nrows=1, **form).iloc[0])
    form |= {"header": 0, "names": header}
    if max(line.count(separator) for line in text.split("\n")) > MOST_MORE + len(header):
        raise ContractError(
            f"A row has over {MOST_MORE} fields above the {len(header)} named. Mend its quotes."
        )
    table = pd.read_csv(StringIO(text), **form)
    if isinstance(table.index, pd.RangeIndex):
        return table
    n_more = table.index.nlevels
    last = table.iloc[:, -n_more:]
    # rows, not the header, end in a separator
    if n_more < len(header) and (last.fillna("") == "").all(axis=None):
        form["names"] = [*header, *(f"after the last {i}" for i in range(n_more))]
        return pd.read_csv(StringIO(text), **form)[header].reset_index(drop=True)
    numbered = [[str(start + i) for i in range(len(table))] for start in (0, 1)]
    if n_more == 1 and table.index.to_list() in numbered:  # row numbers without a name
        return table.reset_index(drop=True)
    raise ContractError(
        f"The rows have more fields than the header's {len(header)} ({', '.join(header[:8])}), "
        f"separated by {separator!r}. Name every column; or, if decimal commas look like "
        "separators, write the file with ';' between columns and pass decimal=','."
    )


def _tidy_names(names):
    """Column names without blanks around them; two that are equal are refused."""
    tidy = [str(name).strip() or f"unnamed {i + 1}" for i, name in enumerate(names)]
    twice = sorted(name for name, n in Counter(tidy).items() if n > 1)
    if twice:
        raise ContractError(
            f"{len(twice)} column names stand there twice: {', '.join(twice[:10])}. Rename one."
        )
    return tidy


def _named(columns, have, of: Quantities) -> dict[str, Any]:
    """The caller's places in our words: numbers are constants, "depth_to_m" is "depth_to"."""
    named: dict[str, Any] = {}
    odd, names = [], (*of.needed, *of.may, *of.only_named)
    for quantity, place in columns.items() if isinstance(columns, Mapping) else [(columns, None)]:
        name, known = str(quantity).removesuffix("_m"), isinstance(place, str)
        if isinstance(place, Real) and not isinstance(place, bool | np.bool_):
            place, known = f"={place}", True
        elif isinstance(place, Mapping) and of is READINGS and name == "soil_moisture":
            place = {c: d if isinstance(d, tuple | list) else (d, d) for c, d in place.items()}
            ends = [len(d) == 2 and all(isinstance(end, Real) for end in d) for d in place.values()]
            known = bool(ends) and all(ends)
        if name in names and name not in named and known:
            named[name] = place
        else:
            odd.append(f"{quantity}: {place!r}")
    places = ([place] if isinstance(place, str) else place for place in named.values())
    stated = [column for place in places for column in place]
    absent = [c for c in stated if not str(c).startswith("=") and c not in have]
    constant = [q for q, place in named.items() if q in of.varying and str(place)[:1] == "="]
    if odd or absent or constant:
        raise ContractError(
            f"columns holds what is no quantity or no place of one: {', '.join(odd) or 'nothing'}; "
            f"absent columns: {', '.join(map(str, absent)) or 'none'}; constants that cannot be: "
            f"{', '.join(constant) or 'none'}. Quantities: {', '.join(names)}; places: a column, a "
            "number, '=' and a constant, or of soil moisture {column: depth in m, or (from, to)}; "
            f"the table has {', '.join(have)}. A constant is written '={(absent or ['NAME'])[0]}'."
        )
    return named


def _located(have, columns: Mapping[str, Any], of: Quantities) -> dict[str, Any]:
    """The column of each quantity: as told, else by a known spelling; doubts are refused."""
    places = dict(columns)
    for quantity in (name for name in (*of.needed, *of.may) if name not in columns):
        taken = {place for place in places.values() if isinstance(place, str)}
        known = SPELLINGS.get(quantity, (quantity,))
        candidates = [c for c in have if c.lower() in known and c not in taken]
        if "_" in known[0] and known[0] in candidates:
            candidates = [known[0]]  # our contract's name, with its unit or "id", is no doubt
        if len(candidates) > 1:
            raise ContractError(
                f"{quantity} may be any of {', '.join(candidates)}: "
                f"say which, columns={{'{quantity}': '{candidates[0]}'}}."
            )
        if candidates:
            places[quantity] = candidates[0]
    stands = {*places, *(["station"] if "sensor" in places and "sensor" in of.may else [])}
    pair = () if stands.isdisjoint(SITE_NUMBERS[:2]) else SITE_NUMBERS[:2]  # half is no place
    needed = list(dict.fromkeys((*of.needed, *pair)))
    lacks = [quantity for quantity in needed if quantity not in stands]
    if lacks:
        raise ContractError(
            f"The table lacks {len(lacks)} of the {len(needed)} columns that are needed: "
            f"{', '.join(lacks)}. Needed: {', '.join(needed)}; the table has {', '.join(have)}. "
            f"If one stands there under another name: columns={{'{lacks[0]}': 'its name', ...}}."
        )
    return places

"""Columns of a table of any origin: which is what, and their numbers, units and times."""

import gzip
import re
import unicodedata
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd

from soilkit.errors import ArchiveReadError, ContractError, TimeZoneError, UnitError
from soilkit.export.insitu import rules
from soilkit.units import MAX_SOIL_MOISTURE_M3_M3


@dataclass(frozen=True)
class Quantities:
    """What a table may hold: spellings (lower case) taken without being told, each noted.

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
PREDICTED = Quantities(
    {
        **NAMES,
        "time": ("time", "datetime", "timestamp", "date"),
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
PLACES = Quantities(
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
    numbers=("latitude", "longitude", "elevation", "depth_from", "depth_to"),
    varying=("station", "latitude", "longitude"),
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


def load(
    path: str | Path | pd.DataFrame,
    columns: Mapping[str, str],
    *,
    decimal: str,
    of: Quantities = PREDICTED,
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The table as it stands, and the column (or "=constant") of each quantity it has."""
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
        _refuse_other_kinds(raw, path.name)
        if raw.startswith(UTF16_MAGICS):
            raw = raw.decode("utf-16").encode()
        return _csv(raw, columns, decimal=decimal, of=of)
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
            f"{error}). Read it with pandas and pass the DataFrame."
        ) from error


def _refuse_other_kinds(raw, name):
    if not raw.strip(b"\xef\xbb\xbf\r\n\t "):
        raise ArchiveReadError(
            f"{name} is empty ({len(raw):,} bytes): a header and rows are wanted. It may be half "
            "written or half copied: fetch it again."
        )
    for magic, kind in OTHER_KINDS.items():
        if raw.startswith(magic):
            raise ArchiveReadError(f"{name} is no CSV or parquet table, it looks like {kind}.")


def _framed(table, columns, of):
    named = [name for name in table.index.names if name is not None]
    table = table.reset_index(drop=not named)
    table.columns = _tidy_names(table.columns)
    return table, locate(table.columns, columns, of=of)


def _csv(raw, columns, *, decimal, of):
    first = raw[:100_000].decode("utf-8-sig", errors="replace").lstrip().split("\n", 1)[0]
    separator = max((",", ";", "\t"), key=first.count)
    how = {"sep": separator, "encoding": "utf-8-sig", "keep_default_na": False}
    header = _tidy_names(pd.read_csv(BytesIO(raw), header=None, nrows=1, dtype=str, **how).iloc[0])
    places = locate(header, columns, of=of)
    names = [places[q] for q in places if not places[q].startswith("=")]
    texts = [places[q] for q in places if q not in of.numbers and places[q] in names]
    # Identifiers stay text: "007" is no 7, and a network may be called NA.
    table = pd.read_csv(
        BytesIO(raw), header=0, names=header, decimal=decimal, low_memory=False, **how,
        dtype=dict.fromkeys(texts, "str"),
        na_values={name: list(MISSING_WORDS) for name in names if name not in texts},
    )  # fmt: skip
    if not isinstance(table.index, pd.RangeIndex):
        raise ContractError(
            f"The rows have more fields than the header's {len(header)}, separated by "
            f"{separator!r}. Decimal commas in a comma-separated file look like this: write it "
            "with ';' between columns and pass decimal=','."
        )
    return table, places


def _tidy_names(names):
    """Column names without blanks around them; two that are equal are refused."""
    tidy = [str(name).strip() or f"unnamed {i + 1}" for i, name in enumerate(names)]
    twice = sorted({name for name in tidy if tidy.count(name) > 1})
    if twice:
        raise ContractError(
            f"{len(twice)} column names stand there twice: {', '.join(twice)}. Nobody can tell "
            "which is meant: rename or remove one."
        )
    return tidy


def locate(have, columns: Mapping[str, str], *, of: Quantities = PREDICTED) -> dict[str, str]:
    """The column of each quantity: as told, else by a known spelling.

    Raises
    ------
    ContractError
        When a quantity is unknown, a named column absent, two columns may be meant, or a needed
        quantity stands nowhere.
    """
    _refuse_mapping(have, columns, of)
    places = dict(columns)
    for quantity in (*of.needed, *of.spellings):
        taken = set(places.values())
        found = [c for c in have if c.lower() in of.spellings[quantity] and c not in taken]
        if quantity in places or not found:
            continue
        own = of.spellings[quantity][0]
        if "_" in own and own in found:  # our contract's name, with its unit or "id", is no doubt
            found = [own]
        if len(found) > 1:
            raise ContractError(
                f"{quantity} may be any of {', '.join(found)}: "
                f"say which, columns={{'{quantity}': '{found[0]}'}}."
            )
        places[quantity] = found[0]
    lacks = [
        q for q in of.needed if q not in places and not (q == "station" and "sensor" in places)
    ]
    if lacks:
        raise ContractError(
            f"The table lacks {len(lacks)} of the {len(of.needed)} columns that are needed: "
            f"{', '.join(lacks)}. Needed: {', '.join(of.needed)}; the table has {', '.join(have)}. "
            f"If one stands there under another name: columns={{'{lacks[0]}': 'its name', ...}}."
        )
    return places


def _refuse_mapping(have, columns, of):
    foreign = [name for name in columns if name not in of.spellings]
    absent = [c for c in columns.values() if not c.startswith("=") and c not in have]
    constant = [q for q in columns if columns[q].startswith("=") and q in of.varying]
    if foreign or absent or constant:
        raise ContractError(
            f"columns names unknown quantities: {', '.join(foreign) or 'none'}; absent columns: "
            f"{', '.join(absent) or 'none'}; constants that cannot be: "
            f"{', '.join(constant) or 'none'}. Quantities: {', '.join(of.spellings)}; "
            f"the table has {', '.join(have)}."
        )


# The numbers and times of a foreign table: text, fill values, infinities, units, zones.

UNITS = {"m3 m-3": 1.0, "percent": 0.01, "%": 0.01}
LAYER = re.compile(r"(?:mm|kg m-2) in (\d+(?:\.\d+)?) mm")
NUMBER = re.compile(r"\d+(\.\d+)?")
EPOCHS = {  # a time that is only a number: from, to, what it looks like
    (20_000, 80_000): ("days of a spreadsheet", "D", "1899-12-30"),
    (1e8, 4e9): ("seconds since 1970", "s", "1970-01-01"),
    (1e11, 4e12): ("milliseconds since 1970", "ms", "1970-01-01"),
}
DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+")
OFFSET = re.compile(r"\d:\d\d.*(Z|z|[+-]\d\d(:?\d\d)?)$")


def identifiers(column: pd.Series) -> pd.Series:
    """Text without blanks around it, one spelling a letter (NFC), "" where there is none."""
    codes, spellings = pd.factorize(column)  # -1 where missing, so the last one below
    tidy = [unicodedata.normalize("NFC", str(text)).strip() for text in spellings]
    return pd.Series(np.array([*tidy, ""], dtype=object)[codes], index=column.index)


def numbers(column: pd.Series, *, name: str, decimal: str) -> np.ndarray:
    """Floats; text that stands for nothing is NaN, any other text is refused with its rows."""
    if pd.api.types.is_bool_dtype(column):
        raise ContractError(f"Column {name!r} holds True and False, not soil moisture.")
    if pd.api.types.is_numeric_dtype(column):
        return column.to_numpy(float, na_value=np.nan)
    text = column.astype(object).where(column.notna(), "").astype(str).str.strip()
    plain = text.str.replace(",", ".", regex=False) if decimal == "," else text
    found = pd.to_numeric(plain.where(~text.isin(MISSING_WORDS), "nan"), errors="coerce")
    bad = found.isna() & ~text.isin(MISSING_WORDS)
    if bad.any():
        rows = text[bad]
        some = ", ".join(f"{value!r} in row {i + 1}" for i, value in rows.head(3).items())
        commas = rows.map(lambda t: DECIMAL_COMMA.fullmatch(t) is not None).all()
        advice = (
            "These are decimal commas: pass decimal=','."
            if commas
            else "Remove the text, or read the table with pandas.read_csv(na_values=[...]) and "
            "pass the DataFrame."
        )
        raise ContractError(f"Column {name!r} holds text in {len(rows)} rows: {some}. {advice}")
    return found.to_numpy(float)


def tidy_numbers(values, *, what, stations, notes):
    """NaN for infinities and for fill values of -99 and below, each noted."""
    values = values.copy()
    for status, bad, detail in (
        ("infinite", np.isinf(values), "infinite values are taken as missing"),
        ("fill value", values <= rules.MISSING_BELOW, "values of -99 and below mean missing"),
    ):
        bad = bad & ~np.isnan(values)
        if bad.any():
            notes.add(status, detail, column=what, rows=bad.sum(), stations=stations[bad])
            values[bad] = np.nan
    return values


def volumetric(values, *, what, units, stations, notes):
    """m3 m-3 from the unit that the caller names; values that look like the other are refused."""
    scale = factor(units, what=what)
    present = np.isfinite(values)
    if scale == 1:
        refuse_percent(values, present, what=what, stations=stations)
    elif present.any() and what != "std":
        if np.quantile(values[present], 0.99) <= 1:
            raise UnitError(
                f"{what} is said to be in {units}, but 99 % of its values are 1 or less (median "
                f"{np.median(values[present]):.3g}). If they are m3 m-3, pass units='m3 m-3'."
            )
        if (values[present] * scale > MAX_SOIL_MOISTURE_M3_M3).mean() > 0.5:
            raise UnitError(
                f"{what} is said to be in {units}, but more than half of its values exceed "
                f"{1 / scale:g} (median {np.median(values[present]):.3g}), more than any soil "
                "holds. Look up its unit, or the thickness of its layer."
            )
        peak = pd.Series(values[present]).groupby(stations[present]).max()
        low = peak.index[peak <= 1]
        if len(low):
            notes.add(
                "perhaps another unit",
                f"said to be in {units}, but no value of these stations exceeds 1",
                column=what, rows=np.isin(stations[present], low).sum(), stations=low,
            )  # fmt: skip
    if scale != 1:
        detail = f"{units} divided by {1 / scale:g}, as told"
        notes.add("unit", detail, column=what, rows=present.sum())
    return values * scale


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


def refuse_percent(values, present, *, what, stations):
    """Raise ``UnitError`` where most values of the table, or of one station, exceed 1 m3 m-3."""
    above = pd.Series((values > MAX_SOIL_MOISTURE_M3_M3)[present])
    share = above.groupby(stations[present]).mean()
    wrong = sorted(share.index[share > 0.5])
    if wrong or (len(above) and above.mean() > 0.5):
        raise UnitError(
            f"{what} should hold m3 m-3 (0-1), but more than half of the values exceed 1 at "
            f"{len(wrong)} of {len(share)} stations ({', '.join(map(str, wrong[:3]))}): they look "
            "like percent, or like mm of water. Pass units='%' or 'mm in 50 mm' (the layer's "
            "thickness) if all are, units={'observed': ..., 'predicted': ...} if one column is; "
            "repair single stations at the source."
        )


def outside(values, *, what, stations, notes, keep):
    """Values outside 0-1 m3 m-3: an observation becomes missing, a prediction stays; noted."""
    bad = (values < 0) | (values > MAX_SOIL_MOISTURE_M3_M3)
    if not bad.any():
        return values
    detail = "outside 0-1 m3 m-3, " + ("scored as it stands" if keep else "taken as missing")
    notes.add("impossible value", detail, column=what, rows=bad.sum(), stations=stations[bad])
    return values if keep else np.where(bad, np.nan, values)


def utc(times: pd.Series, *, timezone: str | None, notes) -> pd.Series:
    """Naive UTC; a column that gives an offset in some rows only is refused."""
    n_offset = 0
    if getattr(times.dtype, "tz", None) is not None:
        n_offset = int(times.notna().sum())
    elif not pd.api.types.is_datetime64_any_dtype(times):
        text = times.astype(object).where(times.notna(), "").astype(str).str.strip()
        times = text.where(~text.isin(MISSING_WORDS), None)
        text = text[~text.isin(MISSING_WORDS)]
        _refuse_plain_numbers(text)
        n_offset = int(text.map(lambda t: OFFSET.search(t) is not None).sum())
        if 0 < n_offset < len(text):
            raise TimeZoneError(
                f"{n_offset} of {len(text)} times carry an offset or Z, the others do not: their "
                "zone is unknown. Write all of them alike."
            )
    moved, n_no_such_time = rules.to_utc(times, timezone=timezone)
    if n_offset:
        notes.add("time zone", "offsets converted to UTC", column="time", rows=n_offset)
    elif timezone != "UTC":
        notes.add("time zone", f"{timezone} converted to UTC", column="time", rows=len(times))
    if n_no_such_time:
        notes.add(
            "no such time", f"local times that {timezone} skips or has twice", column="time",
            rows=n_no_such_time,
        )  # fmt: skip
    return moved


def _refuse_plain_numbers(text):
    """Days of a spreadsheet, seconds since 1970: their zero is not written in the file."""
    if not len(text) or not NUMBER.fullmatch(text.iloc[0]):
        return
    for (low, high), (kind, unit, zero) in EPOCHS.items():
        first = float(text.iloc[0])
        if low <= first < high and len(text.iloc[0].split(".")[0]) != 8:  # 20200131 is a date
            date = pd.Timestamp(zero) + pd.Timedelta(first, unit)
            raise ContractError(
                f"Times should be ISO 8601, such as 2020-07-01 06:00; found {text.iloc[0]}, which "
                f"looks like {kind} ({date:%Y-%m-%d %H:%M} if counted from {zero}). Write them as "
                "dates, yyyy-mm-dd hh:mm, and export the table again."
            )

"""A csv or parquet of any origin, and which of its columns is what."""

import gzip
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pandas as pd

from soilkit.errors import ArchiveReadError, ContractError


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

"""A csv or parquet of any origin, and which of its columns is what."""

import gzip
import zlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import pandas as pd

from soilkit.errors import ArchiveReadError, ContractError

NEEDED = ("station", "time", "observed", "predicted")
OPTIONAL = ("sensor", "network", "std", "sample", "model", "split")
NUMBERS = ("observed", "predicted", "std")
# Spellings that are taken without being told, in lower case; each is noted.
SPELLINGS = {
    "station": ("station_id", "station", "site_id", "site"),
    "time": ("time", "datetime", "timestamp", "date"),
    "observed": ("observed_m3_m3", "observed", "observation", "obs", "insitu", "in_situ"),
    "predicted": ("predicted_m3_m3", "predicted", "prediction", "pred", "estimate"),
    "sensor": ("sensor_id", "sensor"),
    "network": ("network",),
    "std": ("predicted_std_m3_m3", "predicted_std", "pred_std"),
    "sample": ("sample_id",),
    "model": ("model",),
    "split": ("split",),
}
MISSING_WORDS = ("", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "none", "-")
PARQUET_MAGIC, GZIP_MAGIC = b"PAR1", b"\x1f\x8b"


def load(
    path: str | Path | pd.DataFrame, columns: Mapping[str, str], *, decimal: str
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The table as it stands, and the column (or "=constant") of each quantity it has."""
    if isinstance(path, pd.DataFrame):
        table = _with_index(path)
        return table, locate(table.columns, columns)
    path = Path(path)
    if not path.is_file():
        raise ArchiveReadError(f"No table at {path}. Give a CSV or parquet file, or a DataFrame.")
    raw = path.read_bytes()
    try:
        raw = gzip.decompress(raw) if raw.startswith(GZIP_MAGIC) else raw
        if raw.startswith(PARQUET_MAGIC):
            table = _with_index(pd.read_parquet(BytesIO(raw)))
            return table, locate(table.columns, columns)
        return _csv(raw, columns, decimal)
    except ContractError:
        raise
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise ArchiveReadError(
            f"{path.name} is neither a parquet nor a regular UTF-8 CSV table ({len(raw):,} bytes: "
            f"{error}). Read it with pandas and pass the DataFrame."
        ) from error


def _csv(raw, columns, decimal):
    first = raw[:100_000].decode("utf-8-sig", errors="replace").split("\n", 1)[0]
    separator = max((",", ";", "\t"), key=first.count)
    header = pd.read_csv(BytesIO(raw), sep=separator, nrows=0, encoding="utf-8-sig")
    places = locate(header.columns, columns)
    names = [places[q] for q in places if not places[q].startswith("=")]
    texts = [places[q] for q in places if q not in NUMBERS and places[q] in names]
    # Identifiers stay text: "007" is no 7, and a network may be called NA.
    table = pd.read_csv(
        BytesIO(raw), sep=separator, decimal=decimal, encoding="utf-8-sig", low_memory=False,
        dtype=dict.fromkeys(texts, "str"), keep_default_na=False,
        na_values={name: list(MISSING_WORDS) for name in names if name not in texts},
    )  # fmt: skip
    if not isinstance(table.index, pd.RangeIndex):
        raise ContractError(
            f"The rows have more fields than the header's {len(header.columns)}, separated by "
            f"{separator!r}. Decimal commas in a comma-separated file look like this: write it "
            "with ';' between columns and pass decimal=','."
        )
    return table, places


def _with_index(table):
    named = [name for name in table.index.names if name is not None]
    return table.reset_index() if named else table.reset_index(drop=True)


def locate(have, columns: Mapping[str, str]) -> dict[str, str]:
    """The column of each quantity: as told, else by a known spelling.

    Raises
    ------
    ContractError
        When a quantity is unknown, a named column absent, two columns may be meant, or a needed
        quantity stands nowhere.
    """
    have = [str(name) for name in have]
    _refuse_mapping(have, columns)
    places = dict(columns)
    for quantity in (*NEEDED, *OPTIONAL):
        taken = set(places.values())
        found = [c for c in have if c.lower() in SPELLINGS[quantity] and c not in taken]
        if quantity in places or not found:
            continue
        if len(found) > 1:
            raise ContractError(
                f"{quantity} may be any of {', '.join(found)}: "
                f"say which, columns={{'{quantity}': '{found[0]}'}}."
            )
        places[quantity] = found[0]
    missing = [q for q in NEEDED if q not in places and not (q == "station" and "sensor" in places)]
    if missing:
        raise ContractError(
            f"The table lacks {len(missing)} of the {len(NEEDED)} columns that are needed: "
            f"{', '.join(missing)}. Needed: {', '.join(NEEDED)}; the table has {', '.join(have)}. "
            f"If one stands there under another name: columns={{'{missing[0]}': 'its name', ...}}."
        )
    return places


def _refuse_mapping(have, columns):
    foreign = [name for name in columns if name not in (*NEEDED, *OPTIONAL)]
    absent = [c for c in columns.values() if not c.startswith("=") and c not in have]
    constant = [q for q in columns if columns[q].startswith("=") and q in ("time", *NUMBERS)]
    if foreign or absent or constant:
        raise ContractError(
            f"columns names unknown quantities: {', '.join(foreign) or 'none'}; absent columns: "
            f"{', '.join(absent) or 'none'}; constants that cannot be: "
            f"{', '.join(constant) or 'none'}. Quantities: {', '.join((*NEEDED, *OPTIONAL))}; "
            f"the table has {', '.join(have)}."
        )

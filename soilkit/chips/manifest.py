"""The store's own account: ``manifest.json`` for the whole, one parquet table a source."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from soilkit.contracts import FORMAT_VERSION, Grid
from soilkit.errors import StoreError
from soilkit.files import write_text_whole, write_whole

MANIFEST = "manifest.json"


@dataclass
class Entry:
    """What the store knows of one chip; ``data_sha256`` is empty where there are no pixels.

    ``reason`` says why, and ``permanent`` whether it is worth asking again.
    """

    scene_id: str
    station_id: str
    row: int
    request_hash: str = ""
    valid_fraction: float = 0.0
    data_sha256: str = ""
    reason: str = ""
    permanent: bool = False
    crs: str = ""
    left_m: float = np.nan
    top_m: float = np.nan
    pixel_size_m: float = np.nan

    @property
    def key(self) -> tuple[str, str]:
        """What tells a chip of one source from another."""
        return self.scene_id, self.station_id

    def grid(self, size_px: int) -> Grid:
        """Where the chip lies."""
        return Grid(self.crs, self.left_m, self.top_m, self.pixel_size_m, size_px, size_px)


class Ledger:
    """One source's entries by (scene_id, station_id), and the file where they rest."""

    def __init__(self, store: Path, source: str):
        self.path = store / f"index_{source}.parquet"
        self.entries: dict[tuple[str, str], Entry] = {}
        if self.path.exists():
            self.entries = {e.key: e for e in _entries(self.path)}

    def entry(self, scene_id: str, station_id: str) -> Entry:
        """The entry of that chip; a new one takes the next row."""
        key = (scene_id, station_id)
        return self.entries.setdefault(key, Entry(*key, row=len(self.entries)))

    def table(self) -> pd.DataFrame:
        """All entries, one a row of the array and in its order."""
        rows = sorted(self.entries.values(), key=lambda e: e.row)
        shape = [vars(e) for e in rows or [Entry("", "", 0)]]
        return pd.DataFrame(shape).iloc[: len(rows)]

    def save(self) -> None:
        """Write the table whole or not at all."""
        write_whole(self.path, self.table().to_parquet)


def _entries(path: Path) -> list[Entry]:
    try:
        return [Entry(**row) for row in pd.read_parquet(path).to_dict("records")]
    except (OSError, ValueError, TypeError) as error:  # pyarrow's errors are ValueErrors
        raise StoreError(
            f"{path} is damaged ({error}). Delete that file and call chips.build again: it fetches "
            f"the chips that only this file knew, those of {path.stem.removeprefix('index_')}."
        ) from error


def write_manifest(store: Path, content: dict[str, Any]) -> None:
    """Write ``manifest.json``; equal content gives equal bytes."""
    text = json.dumps({"format_version": FORMAT_VERSION, **content}, indent=1, sort_keys=True)
    write_text_whole(store / MANIFEST, text)


def read_manifest(store: Path) -> dict[str, Any]:
    """Read ``manifest.json``.

    Raises
    ------
    StoreError
        When there is none, it is no manifest, or it is of another format version.
    """
    try:
        content = json.loads((store / MANIFEST).read_text(encoding="utf-8"))
        version = content["format_version"]
    except FileNotFoundError as error:
        raise StoreError(
            f"No chip store at {store}: {MANIFEST} is missing. Build one with chips.build, or mend "
            "the path."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{store / MANIFEST} is damaged ({error}). Build the store again in a new folder."
        ) from error
    if version != FORMAT_VERSION:
        raise StoreError(
            f"{store} has format version {version}; this soilkit reads {FORMAT_VERSION}. "
            "Install the soilkit that wrote it, or build the store again."
        )
    return content


def sha256(packed: np.ndarray) -> str:
    """SHA-256 of a chip's packed integers, little-endian in C order, hex."""
    return hashlib.sha256(packed.astype("<i2").tobytes()).hexdigest()

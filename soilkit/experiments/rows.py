"""A row a trial, one JSON file each, written whole or not at all."""

import json
from pathlib import Path
from typing import Any

from soilkit.errors import StoreError
from soilkit.experiments.trials import FORMAT_VERSION
from soilkit.files import write_text_whole


def row_path(work: Path, key: str) -> Path:
    """Where the row of a trial stands."""
    return work / "rows" / f"{key}.json"


def read_row(work: Path, key: str) -> dict[str, Any] | None:
    """The row of a trial; None where it was not run, or with another format.

    Raises
    ------
    StoreError
        When the file is damaged.
    """
    path = row_path(work, key)
    if not path.exists():
        return None
    try:
        row = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise StoreError(
            f"{path} is damaged ({error}). Delete it: its trial runs again."
        ) from error
    return row if row.get("format_version") == FORMAT_VERSION else None


def write_row(work: Path, row: dict[str, Any]) -> None:
    """Keep a row."""
    write_text_whole(row_path(work, row["key"]), json.dumps(row, allow_nan=False))

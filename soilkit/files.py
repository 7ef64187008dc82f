"""Files that appear whole or not at all, and the folder of what can be made again."""

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from platformdirs import user_cache_path


def write_whole(path: str | os.PathLike[str], write: Callable[[Path], Any]) -> Path:
    """Let ``write`` fill a temporary file beside ``path``, then rename it.

    Where ``write`` fails, what stood at ``path`` still stands and nothing else is left; a process
    that is killed leaves ``.NAME.*.partial`` behind.

    Parameters
    ----------
    path : file to write; its folder is made
    write : is called with the temporary path

    Returns
    -------
    Path

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> write_whole(f"{folder}/a.txt", lambda path: path.write_text("whole")).read_text()
    'whole'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def write_text_whole(path: str | os.PathLike[str], text: str) -> Path:
    """Write a text in UTF-8, whole or not at all; lines end alike on every system."""
    return write_whole(path, lambda part: part.write_text(text, encoding="utf-8", newline="\n"))


def write_bytes_whole(path: str | os.PathLike[str], write: Callable[[BinaryIO], Any]) -> Path:
    """Let ``write`` fill an open binary file, whole or not at all, and wait for the disk."""

    def fill(part: Path) -> None:
        with part.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())

    return write_whole(path, fill)


def write_table(path: str | os.PathLike[str], table: Any) -> Path:
    """Write a DataFrame as parquet, without its index, whole or not at all."""
    return write_whole(path, lambda part: table.to_parquet(part, index=False))


def cache_folder() -> Path:
    """Where caches live: the environment variable SOILKIT_CACHE, else the user's cache folder."""
    return Path(os.environ.get("SOILKIT_CACHE") or user_cache_path("soilkit", appauthor=False))

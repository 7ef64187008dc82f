"""Files that appear whole or not at all, and the folder of what can be made again."""

import errno
import hashlib
import os
import platform
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, BinaryIO

from platformdirs import user_cache_path

from soilkit.errors import SoilkitError, StoreError


def write_whole(path: str | os.PathLike[str], write: Callable[[Path], Any]) -> Path:
    """Let ``write`` fill a temporary file beside ``path``, whose folder is made, then rename it.

    Where ``write`` fails, what stood at ``path`` still stands and nothing else is left; what a
    process that was killed leaves goes when the next one writes into the folder. Raises
    ``StoreError`` when the disk is full, or refuses the folder or the file.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _partial(path)
        try:
            write(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        if isinstance(error, SoilkitError):  # of ``write``: it says what to do
            raise
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        fault = "The disk is full while writing" if is_full else f"{error}: cannot write"
        raise StoreError(
            f"{fault} {path}: what stood there still stands. Free some space, or name another "
            "folder."
        ) from error
    return path


@contextmanager
def temporary_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A folder beside ``path`` that goes at the end; those of killed processes go before."""
    folder = _partial(Path(path))
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


HOST = re.sub(r"\W", "_", platform.node())
PARTIAL = r"\..+\.(?:(\w+)-(\d{1,9})-)?[0-9a-f]{32}\.partial"
LONGEST_RUN_S = 86_400  # after which what another machine has not touched is left over


def _partial(path: Path) -> Path:
    """A new name beside a path that tells who writes."""
    _clear(path.parent)
    return path.with_name(f".{path.name}.{HOST}-{os.getpid()}-{uuid.uuid4().hex}.partial")


@cache
def _clear(folder: Path) -> None:
    """Remove what processes that run no more began in a folder, once a process."""
    for path in folder.glob(".*.partial"):
        match = re.fullmatch(PARTIAL, path.name)
        with suppress(OSError):  # another one is faster, or it is another user's
            if match and _is_left_over(path, *match.groups()):
                (shutil.rmtree if path.is_dir() else os.unlink)(path)


def _is_left_over(path: Path, host: str, pid: str) -> bool:
    if host == HOST and os.name == "posix":
        try:
            os.kill(int(pid), 0)  # asks only whether it runs
        except ProcessLookupError:
            return True
        return False  # a sleeping machine's process goes on, however old its file is
    return time.time() - path.lstat().st_mtime > LONGEST_RUN_S


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


def write_table(path: str | os.PathLike[str], table: Any, *, index: bool = False) -> Path:
    """Write a DataFrame as parquet with checksums of its pages, whole or not at all."""
    options = {"index": index, "write_page_checksum": True}
    return write_whole(path, lambda part: table.to_parquet(part, **options))


def read_table(path: str | os.PathLike[str]) -> Any:
    """The DataFrame that ``write_table`` wrote, or any parquet file holds.

    Raises as ``read_whole``.
    """
    import pandas as pd  # the words import none

    return read_whole(path, partial(pd.read_parquet, page_checksum_verification=True))


def read_whole(path: str | os.PathLike[str], read: Callable[[Any], Any]) -> Any:
    """What ``read`` makes of a file.

    Raises ``StoreError`` when the file is absent, damaged, or cannot be read.
    """
    try:
        return read(path)
    except FileNotFoundError as error:
        raise StoreError(f"No file {path}. Mend the path, or make it again.") from error
    except MemoryError:
        raise
    except Exception as error:  # parsers raise whatever damage leads them to
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise StoreError(
            f"{path} is damaged, or cannot be read ({why}). Delete it and make it again, or fetch "
            "a copy."
        ) from error


def sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, hex."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# A cell that a spreadsheet may run, quoted or not: no number.
FORMULA = re.compile(r"'*(?![+-][\d.]+(?:[eE][+-]?\d+)?$)[=+\-@\t\r\n]")


def csv_text(table: Any) -> str:
    """A table as csv: six digits, no index, and no cell or head that a spreadsheet would run.

    Text that begins with ``= + - @`` or a break and is no number gets an apostrophe before it;
    ``read_csv`` takes it off.
    """
    quoted = _each_text(table, lambda text: f"'{text}")
    return quoted.to_csv(index=False, float_format="%.6g", lineterminator="\n")


def read_csv(path: str | os.PathLike[str]) -> Any:
    """The table that ``csv_text`` wrote; only an empty cell is missing, not a name like "NA"."""
    import pandas as pd

    return unquoted(pd.read_csv(path, keep_default_na=False, na_values=[""]))


def unquoted(table: Any) -> Any:
    """The table without the apostrophes that ``csv_text`` sets before what looks like a formula."""
    return _each_text(table, lambda text: text.removeprefix("'"))


def _each_text(table: Any, change: Callable[[str], str]) -> Any:
    """The table with each text that looks like a formula changed, in its heads too."""

    def cell(value: Any) -> Any:
        return change(value) if isinstance(value, str) and FORMULA.match(value) else value

    changed = table.rename(columns=cell)
    for i, kind in enumerate(table.dtypes):
        if kind.kind == "O":
            column = table.iloc[:, i]  # Series.map would make floats of whole numbers and None
            changed.isetitem(i, type(column)([*map(cell, column)], column.index, dtype=object))
    return changed


def cache_folder() -> Path:
    """Where caches live: the environment variable SOILKIT_CACHE, else the user's cache folder."""
    return Path(os.environ.get("SOILKIT_CACHE") or user_cache_path("soilkit", appauthor=False))

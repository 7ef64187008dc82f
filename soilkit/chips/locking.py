"""One builder a store: a lock that the system lets go of when its holder ends, however it ends."""

import contextlib
import errno
import sys
from collections.abc import Iterator
from io import BufferedRandom
from pathlib import Path

from soilkit.errors import StoreError

LOCK = ".build.lock"  # stays behind, empty; only a lock on it means anything
_HELD = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


@contextlib.contextmanager
def sole_builder(path: Path) -> Iterator[None]:
    """Make the folder of a store and hold it alone: two builds would give one row to two chips.

    A file system that knows no locks is trusted.

    Raises
    ------
    StoreError
        When another build or ``verify`` works on the store.
    """
    path.mkdir(parents=True, exist_ok=True)
    with (path / LOCK).open("a+b") as file:
        try:
            _lock(file)
        except OSError as error:
            if error.errno in _HELD:
                raise StoreError(
                    f"Another build, or chips.verify, is at work on {path}. Wait until it ends, or "
                    "build into another folder."
                ) from error
        yield


def _lock(file: BufferedRandom) -> None:
    if sys.platform == "win32":
        import msvcrt

        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

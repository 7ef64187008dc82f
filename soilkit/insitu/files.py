"""The members of an archive, zip or folder: their names, fingerprints and bytes."""

import hashlib
import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from zlib import error as ZlibError

from soilkit.errors import ArchiveReadError


@dataclass(frozen=True)
class Files:
    """An open archive: ``fingerprints`` maps each member to what tells its content apart."""

    path: Path
    fingerprints: dict[str, tuple[int, ...]]
    zip: zipfile.ZipFile | None

    def read(self, member: str) -> bytes:
        """The bytes of one member; a damaged one raises ``ArchiveReadError``."""
        try:
            if self.zip is not None:
                return self.zip.read(member)
            return (self.path / member).read_bytes()
        except (zipfile.BadZipFile, ZlibError, EOFError, OSError, RuntimeError) as error:
            raise ArchiveReadError(  # RuntimeError: encrypted, or compressed in an unknown way
                f"{self.path.name}: the member {member} is damaged or cannot be read ({error}). "
                "Download the archive again, or unpack it and give the folder."
            ) from error

    @property
    def content_hash(self) -> str:
        """SHA-256 over member names and fingerprints: a zip keeps it wherever it is moved."""
        text = json.dumps(sorted(self.fingerprints.items()))
        return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def open_files(path: str | Path) -> Iterator[Files]:
    """Open a zip (fingerprint: size and CRC) or a folder (size and time of change).

    Raises
    ------
    ArchiveReadError
        If nothing is there, or an empty, truncated or corrupt zip, or no ``.stm`` file in it.
    """
    path = Path(path)
    if not path.exists():
        raise ArchiveReadError(f"No archive at {path}. Give an ISMN zip or its unpacked folder.")
    if path.is_dir():
        yield _with_readings(Files(path, _folder(path), None))
        return
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        size = path.stat().st_size
        raise ArchiveReadError(
            f"{path.name} should be an ISMN zip, but it is no readable zip ({size:,} bytes: "
            f"{error}). It may be half downloaded: fetch it again, or give the unpacked folder."
        ) from error
    with archive:
        members: dict[str, tuple[int, ...]] = {
            i.filename: (i.file_size, i.CRC) for i in archive.infolist() if not i.is_dir()
        }
        yield _with_readings(Files(path, members, archive))


def _folder(path: Path) -> dict[str, tuple[int, ...]]:
    stats = ((p, p.stat()) for p in sorted(path.rglob("*")) if p.suffix in (".stm", ".csv"))
    return {p.relative_to(path).as_posix(): (s.st_size, s.st_mtime_ns) for p, s in stats}


def _with_readings(files: Files) -> Files:
    if not any(name.endswith(".stm") for name in files.fingerprints):
        raise ArchiveReadError(
            f"{files.path.name} holds no .stm file ({len(files.fingerprints)} files in all). "
            "Give an ISMN archive of 'header+values' or 'CEOP' format, zip or folder."
        )
    return files

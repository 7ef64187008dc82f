"""Gzip and TFRecord framing: records out of a stream, one at a time, and back.

A TFRecord is a length (u64), the masked CRC32C of that length (u32), the data, the masked CRC32C of
the data (u32), all little-endian [1]_. A shard is a gzip stream of records. This module alone talks
to isal, which inflates faster than zlib, and to google_crc32c.

References
----------
.. [1] TensorFlow, tensorflow/core/lib/io/record_writer.h
"""

import gzip
import logging
import os
import struct
import zlib
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
import numpy as np

from soilkit.errors import ShardError

log = logging.getLogger(__name__)
inflater: Any = gzip
_INFLATE_ERRORS: list[Any] = [zlib.error, gzip.BadGzipFile]
try:
    from isal import igzip, isal_zlib

    inflater = igzip
    _INFLATE_ERRORS.append(isal_zlib.error)
except ImportError:  # no wheel for this platform
    log.warning("isal is not installed: shards are inflated by zlib, at about half the speed")

# A published record holds 17 million numbers of one or two bytes, 24 MB; two of them are in memory
# at a time. Ten bytes a number, the most that the format can take, would make 173 MB.
MAX_RECORD_BYTES = 192 * 2**20
PIECE_BYTES = 2**18
WRITE_LEVEL = 1
_HEADER, _CRC = struct.Struct("<QI"), struct.Struct("<I")
_MASK_DELTA = 0xA282EAD8
_MAGIC = b"\x1f\x8b"
_AGAIN = "Fetch the file again (soilkit.published.download); the records before it are whole."


def crc32c(data: Any, value: int = 0) -> int:
    """CRC32C (Castagnoli) of some bytes, going on from ``value``.

    Examples
    --------
    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    return google_crc32c.extend(value, data)


def masked_crc32c(data: Any) -> int:
    """The CRC32C as TFRecords store it: rotated right by 15 bits, plus a constant."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


class RecordStream:
    """The records of a shard, inflated one ahead of the caller on a thread of its own.

    Two records are in memory, whatever the size of the shard: the caller's, and the next one. Their
    memory is used again, so a record's data hold until the next one is asked for.

    Parameters
    ----------
    path : path of a ``.tfrecord.gz`` file
    checksums : bool
        Compare the CRC32C of every record's data. That of its length is always compared: a wrong
        length would be believed for gigabytes.
    skip_damaged : bool
        Pass over records whose data fail their CRC32C, and note their numbers in ``damaged``.

    Raises
    ------
    ShardError
        While iterating: no gzip, an empty file, a stream or record that is cut or damaged.
    """

    def __init__(self, path: str | os.PathLike[str], *, checksums: bool, skip_damaged: bool):
        self.path, self.checksums, self.skip_damaged = Path(path), checksums, skip_damaged
        self.damaged: list[int] = []
        self._memory = [np.empty(0, np.uint8), np.empty(0, np.uint8)]

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield each record's number, from 0, and its data, uint8 (byte,)."""
        _check_head(self.path)
        with (
            inflater.open(self.path, "rb") as stream,
            closing(self._records(stream)) as records,
            ThreadPoolExecutor(1, thread_name_prefix="inflate") as pool,
        ):
            ahead = pool.submit(next, records, None)
            while (record := ahead.result()) is not None:
                ahead = pool.submit(next, records, None)
                yield record

    def _records(self, stream: BinaryIO) -> Generator[tuple[int, np.ndarray]]:
        number = 0
        while (header := self._read(stream, np.empty(_HEADER.size, np.uint8), number=number)).size:
            length = self._length(header.tobytes(), number=number)
            data = self._read(stream, self._room(length), number=number, whole=True)
            crc = self._read(stream, np.empty(_CRC.size, np.uint8), number=number, whole=True)
            if not self.checksums or masked_crc32c(data) == _CRC.unpack(crc.tobytes())[0]:
                yield number, data
                self._memory.reverse()  # the caller still reads what was yielded
            elif self.skip_damaged:
                self.damaged.append(number)
                log.warning("%s: record %d fails its checksum and is skipped", self.path, number)
            else:
                raise ShardError(
                    f"{self.path}: record {number} (counted from 0) fails its CRC32C checksum. "
                    f"{_AGAIN} Or pass damaged='skip' to leave such records out.",
                    record=number,
                )
            number += 1

    def _length(self, header: bytes, *, number: int) -> int:
        length, crc = _HEADER.unpack(header)
        if masked_crc32c(header[:8]) != crc:
            raise ShardError(
                f"{self.path}: the length of record {number} (counted from 0) fails its CRC32C "
                f"checksum, so no later record can be found. {_AGAIN} If this is record 0, the "
                "file may hold no TFRecords at all.",
                record=number,
            )
        if length > MAX_RECORD_BYTES:
            raise ShardError(
                f"{self.path}: record {number} (counted from 0) claims {length} bytes; one of the "
                f"published schema has at most {MAX_RECORD_BYTES}. Nothing was read.",
                record=number,
            )
        return length

    def _room(self, n_bytes: int) -> np.ndarray:
        if self._memory[0].size < n_bytes:
            self._memory[0] = np.empty(n_bytes, np.uint8)
        return self._memory[0][:n_bytes]

    def _read(
        self, stream: BinaryIO, out: np.ndarray, *, number: int, whole: bool = False
    ) -> np.ndarray:
        """Fill ``out``; nothing at the stream's end, unless it is wanted whole."""
        done = 0
        try:
            # Piece by piece: a gzip file reads into memory of its own before it fills ours.
            while done < out.size and (piece := stream.read(min(out.size - done, PIECE_BYTES))):
                out[done : done + len(piece)] = np.frombuffer(piece, np.uint8)
                done += len(piece)
        except EOFError as error:
            raise self._cut(number, "the gzip stream ends") from error
        except tuple(_INFLATE_ERRORS) as error:
            raise ShardError(
                f"{self.path}: the gzip stream is damaged in record {number} (counted from 0; "
                f"{error}). {_AGAIN}",
                record=number,
            ) from error
        if done < out.size and (whole or done):
            raise self._cut(number, "the TFRecord framing ends")
        return out[:done]

    def _cut(self, number: int, what: str) -> ShardError:
        return ShardError(
            f"{self.path} is truncated: {what} inside record {number} (counted from 0). {_AGAIN}",
            record=number,
        )


def _check_head(path: Path) -> None:
    try:
        with path.open("rb") as file:
            head = file.read(2)
    except OSError as error:
        raise ShardError(
            f"{path} cannot be opened ({error.strerror}); wanted a gzipped TFRecord file. Fetch "
            "one with soilkit.published.download.",
            record=0,
        ) from error
    if not head:
        raise ShardError(f"{path} is empty; wanted a gzipped TFRecord file. {_AGAIN}", record=0)
    if head != _MAGIC:
        raise ShardError(
            f"{path} is no gzip file: it begins with {head!r}, not {_MAGIC!r}. Published shards "
            "are gzipped TFRecords, data-00000-of-00500.tfrecord.gz and so on.",
            record=0,
        )


@contextmanager
def record_writer(path: str | os.PathLike[str]) -> Generator[Callable[[bytes], None]]:
    """Write records: yields ``put(data)``; the file appears whole at the end, or not at all."""
    path = Path(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with partial.open("wb") as file:
            name = {"filename": "", "mode": "wb", "fileobj": file, "mtime": 0}
            with _gzip_file(compresslevel=WRITE_LEVEL, **name) as stream:
                yield lambda data: _put(stream, data)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _gzip_file(**options: Any) -> Any:
    return (gzip.GzipFile if inflater is gzip else inflater.IGzipFile)(**options)


def _put(stream: Any, data: bytes) -> None:
    length = struct.pack("<Q", len(data))
    stream.write(length + _CRC.pack(masked_crc32c(length)))
    stream.write(data)
    stream.write(_CRC.pack(masked_crc32c(data)))

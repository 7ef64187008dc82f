"""Gzip, TFRecord framing and the protobuf wire format, as far as the shards need them."""

import errno
import gzip
import logging
import os
import struct
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
import numpy as np

from soilkit.errors import ShardError
from soilkit.files import write_whole

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
KINDS = {1: "bytes", 2: "float", 3: "int"}
_NUMBERS = {kind: number for number, kind in KINDS.items()}
_MAX_VARINT_BYTES = 10
_TWO_BYTES = 128  # integers from here on take two bytes or more

log = logging.getLogger(__name__)
# A published record holds 17 million numbers of one or two bytes, 24 MB, and one in a hundred
# features; two records are in memory at a time. What a hostile one may take is limited here, for a
# kilobyte of gzip holds a megabyte of zeros.
MAX_RECORD_BYTES = 64 * 2**20
MAX_SHARD_BYTES = 16 * 2**30  # a published one has 2 GB
MAX_LIST_BYTES = 11 * 512**2  # of an image's numbers, each with a tag of its own
MAX_FEATURES, MAX_PIECES, MAX_VALUES = 1024, 16, 256  # of messages that are read field by field
PIECE_BYTES = 2**18
WRITE_LEVEL = 1
_HEADER, _CRC = struct.Struct("<QI"), struct.Struct("<I")
_MASK_DELTA = 0xA282EAD8
_MAGIC = b"\x1f\x8b"
_AGAIN = (
    "Fetch the file again (soilkit.export.published.download); the records before it are whole."
)


class WireError(ValueError):
    """Bytes that are no message of the wanted type."""


@dataclass(frozen=True)
class Values:
    """One feature: its kind and its values, an int64 or float32 array or a list of bytes."""

    kind: str
    values: Any


# ---- reading -------------------------------------------------------------------------------------


def decode_example(
    data: np.ndarray, wanted: Callable[[str], bool] = lambda name: True
) -> dict[str, Values]:
    """The wanted features of a serialised Example, uint8 (byte,); of a name given twice the last.

    ``wanted`` is called with each feature's name. Raises ``WireError`` when the bytes are none.
    """
    pieces_of: dict[str, list[memoryview]] = {}
    for features in _parts(data.data, 1, MAX_PIECES):
        for entry in _parts(features, 1, MAX_FEATURES):
            name, pieces = _map_entry(entry, wanted)
            if wanted(name):
                pieces_of[name] = pieces
    return {name: _feature(pieces, name) for name, pieces in pieces_of.items()}


def _map_entry(entry: memoryview, wanted: Callable[[str], bool]) -> tuple[str, list[memoryview]]:
    name, pieces = "", []
    for number, wire, value in _fields(entry, MAX_PIECES):
        if wire == LENGTH and number == 1:
            try:
                name = bytes(value).decode()
            except UnicodeDecodeError as error:
                raise WireError("a feature's name is no UTF-8") from error
        elif wire == LENGTH and number == 2:
            pieces.append(value)
    return name, pieces


def _feature(pieces: Iterable[memoryview], name: str) -> Values:
    """A oneof: the last kind counts, and repeated messages of one kind are joined."""
    kind = ""
    lists: list[memoryview] = []
    for piece in pieces:
        for number, wire, value in _fields(piece, MAX_PIECES):
            if wire == LENGTH and number in KINDS:
                if KINDS[number] != kind:
                    kind, lists = KINDS[number], []
                lists.append(value)
    try:
        if sum(map(len, lists)) > MAX_LIST_BYTES:
            raise WireError(f"more than the {MAX_LIST_BYTES} bytes that an image can take")
        if kind == "int":
            return Values(kind, _joined([int_list(v) for v in lists]))
        if kind == "float":
            return Values(kind, _joined([float_list(v) for v in lists]))
        return Values(kind, [bytes(v) for one in lists for v in _parts(one, 1, MAX_VALUES)])
    except WireError as error:
        raise WireError(f"feature {name!r}: {error}") from error


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def int_list(view: memoryview) -> np.ndarray:
    """An Int64List's values, packed or not: uint8 where all lie in 0-255, int64 otherwise."""
    if len(view) and view[0] == LENGTH | 1 << 3:  # packed; nearly always in one piece
        length, start = _varint(view, 1)
        if start + length == len(view):
            return packed_ints(view[start:])
    elif len(view) and view[0] == VARINT | 1 << 3:
        # Tags and values alternate: were anything else among them, a tag would differ.
        both = packed_ints(view)
        if both.size % 2 == 0 and (both[::2] == (VARINT | 1 << 3)).all():
            return both[1::2]
    fields = _fields(view, MAX_VALUES)
    pieces = [_ints(wire, value) for number, wire, value in fields if number == 1]
    return _joined(pieces) if pieces else np.empty(0, np.int64)


def _ints(wire: int, value: Any) -> np.ndarray:
    if wire == LENGTH:
        return packed_ints(value).astype(np.int64)
    return np.array([value] if wire == VARINT else [], np.uint64).view(np.int64)


def packed_ints(view: memoryview | bytes) -> np.ndarray:
    """Varints one after the other: uint8 (value,) where all lie in 0-255, int64 otherwise.

    A byte from 128 to 255 is itself the first of the two bytes of its varint, and the second one is
    1: to read a list of bytes is to drop what follows each of them. Raises ``WireError`` when the
    last varint is cut, or one is longer than ten bytes.

    Examples
    --------
    >>> packed_ints(b"\\x05\\x80\\x01\\xff\\x01")
    array([  5, 128, 255], dtype=uint8)
    >>> packed_ints(b"\\xac\\x02")
    array([300])
    """
    data = np.frombuffer(view, np.uint8)
    more = data >= _TWO_BYTES
    if not data.size:
        return np.empty(0, np.uint8)
    if more[-1]:
        raise WireError("a list of integers ends inside one of them")
    second = more[:-1]
    if (second & (data[1:] != 1)).any():
        return _long_varints(data, more)
    first = np.empty(data.size, bool)
    first[0] = True
    np.logical_not(second, out=first[1:])
    return np.compress(first, data)  # three times as fast as data[first]


def _long_varints(data: np.ndarray, more: np.ndarray) -> np.ndarray:
    """Varints of any length, seven bits a byte, the lowest first: int64 (value,)."""
    last = np.flatnonzero(~more)
    start = np.concatenate([[0], last[:-1] + 1])
    n_bytes = last - start + 1
    longest = int(n_bytes.max())
    if longest > _MAX_VARINT_BYTES:
        raise WireError(f"an integer of {longest} bytes; the longest has {_MAX_VARINT_BYTES}")
    values = (data.take(start) & 0x7F).astype(np.uint64)
    for k in range(1, longest):
        byte = data.take(start + k, mode="clip") & np.where(n_bytes > k, np.uint8(0x7F), 0)
        values |= byte.astype(np.uint64) << np.uint64(7 * k)
    return values.view(np.int64)


def float_list(view: memoryview) -> np.ndarray:
    """A FloatList's values, packed or not: float32 (value,)."""
    pieces = []
    for number, wire, value in _fields(view, MAX_VALUES):
        if number == 1 and wire in (LENGTH, FIXED32):
            if len(value) % 4:
                raise WireError(f"a list of floats of {len(value)} bytes; wanted a multiple of 4")
            pieces.append(np.frombuffer(value, "<f4"))
    return _joined(pieces).astype(np.float32) if pieces else np.empty(0, np.float32)


def _parts(view: memoryview, wanted: int, most: int) -> Iterator[memoryview]:
    """The messages or bytes of one field number."""
    return (v for number, wire, v in _fields(view, most) if number == wanted and wire == LENGTH)


def _fields(view: memoryview, most: int) -> Iterator[tuple[int, int, Any]]:
    """Field number, wire type and value of each field: an int for varints, else its bytes."""
    at = n = 0
    while at < len(view):
        n += 1
        if n > most:
            raise WireError(f"a message of more than {most} fields")
        tag, at = _varint(view, at)
        number, wire = tag >> 3, tag & 7
        if wire == VARINT:
            value, at = _varint(view, at)
            yield number, wire, value
            continue
        if wire == LENGTH:
            length, at = _varint(view, at)
        elif wire in (FIXED32, FIXED64):
            length = 4 if wire == FIXED32 else 8
        else:
            raise WireError(f"a field of wire type {wire}, which no Example has")
        if at + length > len(view) or not number:
            raise WireError("a field that ends beyond its message")
        yield number, wire, view[at : at + length]
        at += length


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for k, byte in enumerate(view[at : at + _MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << 7 * k
        if byte < _TWO_BYTES:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at + k + 1
    raise WireError("an integer that does not end")


# ---- writing -------------------------------------------------------------------------------------


def encode_example(features: Mapping[str, Values]) -> bytes:
    """A serialised Example with packed lists, its features in the order given.

    Values of kind "int" are integer arrays, of "float" float arrays, of "bytes" lists of bytes.
    """
    entries = []
    for name, feature in features.items():
        if feature.kind == "bytes":
            body = b"".join(_field(1, value) for value in feature.values)
        elif feature.kind == "int":
            body = _field(1, pack_ints(np.asarray(feature.values).ravel()))
        else:
            body = _field(1, np.asarray(feature.values, "<f4").tobytes())
        message = _field(_NUMBERS[feature.kind], body)
        entries.append(_field(1, _field(1, name.encode()) + _field(2, message)))
    return _field(1, b"".join(entries))


def _field(number: int, body: bytes) -> bytes:
    return bytes([number << 3 | LENGTH]) + _length(len(body)) + body


def _length(value: int) -> bytes:
    out = bytearray()
    while value >= _TWO_BYTES:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def pack_ints(values: np.ndarray) -> bytes:
    """Integers (value,) as varints one after the other; negative ones take ten bytes."""
    if values.dtype == np.uint8:  # from 128 on with a second byte, which is 1
        both = np.stack([values, np.ones_like(values)], axis=1)  # (value, byte)
        return both[np.stack([values >= 0, values >= _TWO_BYTES], axis=1)].tobytes()
    distinct, which = np.unique(values.astype(np.int64).view(np.uint64), return_inverse=True)
    return b"".join(np.array([_length(n) for n in distinct.tolist()], object)[which])


# ---- gzip and TFRecord framing -------------------------------------------------------------------


@cache
def inflater() -> tuple[Any, Any, tuple[Any, ...]]:
    """Isa-l's gzip, its file class and its errors; the standard library's, half as fast, else."""
    try:
        from isal import igzip, isal_zlib
    except ImportError:  # no wheel for this platform, or a browser
        log.warning("isal is not installed: shards are inflated by zlib, at about half the speed")
        return gzip, gzip.GzipFile, (zlib.error, gzip.BadGzipFile)
    return igzip, igzip.IGzipFile, (zlib.error, gzip.BadGzipFile, isal_zlib.error)


Crc32c = google_crc32c.Checksum


def masked_crc32c(data: Any) -> int:
    """The CRC32C as TFRecords store it: rotated right by 15 bits, plus a constant."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


class RecordStream:
    """The records of a shard, inflated one ahead of the caller on a thread of its own.

    Two records are in memory, whatever the size of the shard: the caller's, and the next one. Their
    memory is used again, so a record's data hold until the next one is asked for. ``checksums``
    compares the CRC32C of every record's data; that of its length always is, for a wrong length
    would be believed for gigabytes. ``skip_damaged`` passes over records whose data fail it, noted
    in ``damaged``. Iterating raises ``ShardError`` for no gzip, an empty file, a stream or record
    that is cut or damaged.
    """

    def __init__(self, path: str | os.PathLike[str], *, checksums: bool, skip_damaged: bool):
        self.path, self.checksums, self.skip_damaged = Path(path), checksums, skip_damaged
        self.damaged: list[int] = []
        self._memory = [np.empty(0, np.uint8), np.empty(0, np.uint8)]

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield each record's number, from 0, and its data, uint8 (byte,)."""
        _check_head(self.path)
        with (
            inflater()[0].open(self.path, "rb") as stream,
            closing(self._records(stream)) as records,
            ThreadPoolExecutor(1, thread_name_prefix="inflate") as pool,
        ):
            ahead = pool.submit(next, records, None)
            while (record := ahead.result()) is not None:
                ahead = pool.submit(next, records, None)
                yield record

    def _records(self, stream: BinaryIO) -> Generator[tuple[int, np.ndarray]]:
        number = total = 0
        while (header := self._read(stream, np.empty(_HEADER.size, np.uint8), number=number)).size:
            length = self._length(header.tobytes(), number=number)
            total += length
            if total > MAX_SHARD_BYTES:
                raise self._error(number, f"ends beyond {MAX_SHARD_BYTES} bytes: no shard has more")
            if self._memory[0].size < length:
                self._memory[0] = np.empty(length, np.uint8)
            data = self._read(stream, self._memory[0][:length], number=number, whole=True)
            crc = self._read(stream, np.empty(_CRC.size, np.uint8), number=number, whole=True)
            if not self.checksums or masked_crc32c(data) == _CRC.unpack(crc.tobytes())[0]:
                yield number, data
                self._memory.reverse()  # the caller still reads what was yielded
            elif self.skip_damaged:
                self.damaged.append(number)
                log.warning("%s: record %d fails its checksum and is skipped", self.path, number)
            else:
                raise self._error(
                    number,
                    f"fails its CRC32C checksum. {_AGAIN} Or pass damaged='skip' to leave such "
                    "records out.",
                )
            number += 1

    def _length(self, header: bytes, *, number: int) -> int:
        length, crc = _HEADER.unpack(header)
        if masked_crc32c(header[:8]) != crc:
            raise self._error(
                number,
                "has a length that fails its CRC32C checksum, so no later record can be found. "
                f"{_AGAIN} If this is record 0, the file may hold no TFRecords at all.",
            )
        if length > MAX_RECORD_BYTES:
            raise self._error(
                number,
                f"claims {length} bytes; one of the published schema has at most "
                f"{MAX_RECORD_BYTES}. Nothing was read.",
            )
        return length

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
            raise self._error(number, f"is truncated: the gzip stream ends. {_AGAIN}") from error
        except inflater()[2] as error:
            words = f"lies where the gzip stream is damaged ({error}). {_AGAIN}"
            raise self._error(number, words) from error
        except OSError as error:
            raise self._error(number, f"cannot be read ({error}). Mend the disk.") from error
        if done < out.size and (whole or done):
            raise self._error(number, f"is truncated: the TFRecord framing ends. {_AGAIN}")
        return out[:done]

    def _error(self, number: int, words: str) -> ShardError:
        return ShardError(f"{self.path}: record {number} (counted from 0) {words}", record=number)


def _check_head(path: Path) -> None:
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise FileNotFoundError(errno.ENOENT, "no file")
        with path.open("rb") as file:
            head = file.read(2)
    except OSError as error:
        raise ShardError(
            f"{path} cannot be opened ({error.strerror}); wanted a gzipped TFRecord file. Fetch "
            "one with soilkit.export.published.download.",
            record=0,
        ) from error
    if head != _MAGIC:
        content = f"no gzip file: it begins with {head!r}, not {_MAGIC!r}" if head else "empty"
        raise ShardError(
            f"{path} is {content}. Published shards are gzipped TFRecords, "
            f"data-00000-of-00500.tfrecord.gz and so on. {_AGAIN}",
            record=0,
        )


def write_records(path: str | os.PathLike[str], records: Iterable[bytes]) -> int:
    """Write records, gzipped; the file appears whole, or not at all. Returns their number."""
    n = 0

    def write(part: Path) -> None:
        nonlocal n
        with part.open("wb") as file:
            name = {"filename": "", "mode": "wb", "fileobj": file, "mtime": 0}
            with inflater()[1](compresslevel=WRITE_LEVEL, **name) as stream:
                for record in records:
                    length = struct.pack("<Q", len(record))
                    stream.write(length + _CRC.pack(masked_crc32c(length)))
                    stream.write(record)
                    stream.write(_CRC.pack(masked_crc32c(record)))
                    n += 1

    write_whole(path, write)
    return n

"""The protobuf wire format of a ``tf.train.Example``, as far as the shards need it.

An Example maps a name to one list of bytes, of floats or of integers [1]_ [2]_. Decoding walks the
map and looks into the wanted features only; a list of integers is decoded at once by array
arithmetic, since an image is a list of 262,144 of them.

References
----------
.. [1] Protocol Buffers, "Encoding", https://protobuf.dev/programming-guides/encoding
.. [2] TensorFlow, tensorflow/core/example/example.proto and feature.proto
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
KINDS = {1: "bytes", 2: "float", 3: "int"}
_NUMBERS = {kind: number for number, kind in KINDS.items()}
_MAX_VARINT_BYTES = 10
_TWO_BYTES = 128  # integers from here on take two bytes or more


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
    """The wanted features of a serialised Example; of a repeated name the last one counts.

    Parameters
    ----------
    data : uint8 (byte,)
    wanted : called with each feature's name

    Raises
    ------
    WireError
        When the bytes are no Example.
    """
    found: dict[str, list[memoryview]] = {}
    for features in _parts(data.data, 1):
        for entry in _parts(features, 1):
            name, pieces = _map_entry(entry, wanted)
            if wanted(name):
                found[name] = pieces
    return {name: _feature(pieces, name) for name, pieces in found.items()}


def _map_entry(entry: memoryview, wanted: Callable[[str], bool]) -> tuple[str, list[memoryview]]:
    name, pieces = "", []
    for number, wire, value in _fields(entry):
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
        for number, wire, value in _fields(piece):
            if wire == LENGTH and number in KINDS:
                if KINDS[number] != kind:
                    kind, lists = KINDS[number], []
                lists.append(value)
    try:
        if kind == "int":
            return Values(kind, _joined([int_list(v) for v in lists]))
        if kind == "float":
            return Values(kind, _joined([float_list(v) for v in lists]))
        return Values(kind, [bytes(v) for one in lists for v in _parts(one, 1)])
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
    pieces = [_ints(wire, value) for number, wire, value in _fields(view) if number == 1]
    return _joined(pieces) if pieces else np.empty(0, np.int64)


def _ints(wire: int, value: Any) -> np.ndarray:
    if wire == LENGTH:
        return packed_ints(value).astype(np.int64)
    return np.array([value] if wire == VARINT else [], np.uint64).view(np.int64)


def packed_ints(view: memoryview | bytes) -> np.ndarray:
    """Varints one after the other: uint8 (value,) where all lie in 0-255, int64 otherwise.

    A byte from 128 to 255 is itself the first of the two bytes of its varint, and the second one is
    1: to read a list of bytes is to drop what follows each of them.

    Raises
    ------
    WireError
        When the last varint is cut, or one is longer than ten bytes.

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
    for number, wire, value in _fields(view):
        if number == 1 and wire in (LENGTH, FIXED32):
            if len(value) % 4:
                raise WireError(f"a list of floats of {len(value)} bytes; wanted a multiple of 4")
            pieces.append(np.frombuffer(value, "<f4"))
    return _joined(pieces).astype(np.float32) if pieces else np.empty(0, np.float32)


def _parts(view: memoryview, wanted: int) -> Iterator[memoryview]:
    """The messages or bytes of one field number."""
    return (v for number, wire, v in _fields(view) if number == wanted and wire == LENGTH)


def _fields(view: memoryview) -> Iterator[tuple[int, int, Any]]:
    """Field number, wire type and value of each field: an int for varints, else its bytes."""
    at = 0
    while at < len(view):
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
    """Integers (value,) as varints one after the other; negative ones take ten bytes.

    Examples
    --------
    >>> pack_ints(np.array([5, 128, 300]))
    b'\\x05\\x80\\x01\\xac\\x02'
    """
    if values.dtype == np.uint8:
        n_each = 1 + (values >= _TWO_BYTES).astype(np.intp)
        twice = np.repeat(values, n_each)  # the first of two bytes is the value itself
        twice[(np.cumsum(n_each) - 1)[n_each == 2]] = 1
        return twice.tobytes()
    rest = values.astype(np.int64).view(np.uint64)
    n_bytes = np.ones(rest.size, np.int64)
    for k in range(1, _MAX_VARINT_BYTES):
        longer = rest >> np.uint64(7 * k) > 0
        if not longer.any():
            break
        n_bytes += longer
    last = np.cumsum(n_bytes) - 1
    out = np.zeros(int(n_bytes.sum()), np.uint8)
    for k in range(int(n_bytes.max(initial=0))):
        at = np.flatnonzero(n_bytes > k)
        byte = (rest[at] >> np.uint64(7 * k) & np.uint64(0x7F)).astype(np.uint8)
        more = (n_bytes[at] > k + 1).astype(np.uint8) << 7
        out[last[at] - n_bytes[at] + 1 + k] = byte | more
    return out.tobytes()

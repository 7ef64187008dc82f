"""Seeded damage: to bytes, to text of rows and fields, to JSON, and zips."""

import copy
import gzip
import io
import json
import random
import zipfile

WORDS = [
    b"NaN", b"inf", b"-inf", b"1e400", b"1e38", b"-9999", b"", b"0", b"-0", b"99999999999999999999",
    b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\xe9", b'"', b"'", b"\r", b"\n\n", b",", b";", b"\t",
    b"1677-01-01", b"2262-05-01 00:00", b"9999-12-31", b"0001-01-01", b"2016-12-31T23:59:60Z",
    b"+25:00", b"{}", b"[]", b"null", b"None", b"true", b"-1", b"0x10", b"1_000", b"\xe2\x80\xae",
    b"\xf0\x9f\x92\xa7", b"2020-02-30", b"24:00", b"\xef\xbc\x90.2", b"0,231", b"12E3", b"007",
]  # fmt: skip
JSON_VALUES = [
    None, -1, 0, 10**30, 1.5, "x", "", [], {}, True, float("nan"), float("inf"), "../../x",
    "2020-13-01T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", [[1]], "\x00", [1, 2],
    {"type": "Point", "coordinates": [0, 0]}, {"type": "Polygon", "coordinates": []},
    [180, -91, -180, 91], "http://127.0.0.1:9/x.tif", 1e308, "é" * 300,
]  # fmt: skip
DELETED = object()


def damaged(data: bytes, rng: random.Random) -> bytes:
    """One to six kinds of damage, one after the other."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        rng.choice(KINDS)(changed, rng)
    return bytes(changed)


def damaged_inside(data: bytes, rng: random.Random) -> bytes:
    """Damage to what a gzip holds, or to its own bytes."""
    if data[:2] == b"\x1f\x8b" and rng.random() < 0.7:
        return gzip.compress(damaged(gzip.decompress(data), rng), mtime=0, compresslevel=1)
    return damaged(data, rng)


def _flip(data, rng):
    for _ in range(rng.choice((1, 1, 4, 32)) if data else 0):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _cut(data, rng):
    del data[rng.randrange(len(data) + 1) :]


def _behead(data, rng):
    del data[: rng.randrange(min(len(data), 200) + 1)]


def _hole(data, rng):
    start = rng.randrange(len(data) + 1)
    del data[start : start + rng.choice((1, 2, 8, 64, 512))]


def _word(data, rng):
    start = rng.randrange(len(data) + 1)
    data[start : start + rng.choice((0, 0, 3, 8))] = rng.choice(WORDS) * rng.choice((1, 1, 1, 3))


def _repeat(data, rng):
    start = rng.randrange(len(data) + 1)
    data[start:start] = data[start : start + rng.randrange(1, 200)] * rng.choice((1, 2, 10))


def _number(data, rng):
    start, width = rng.randrange(len(data) + 1), rng.choice((2, 4, 8))
    data[start : start + width] = rng.choice(
        (b"\xff" * width, b"\0" * width, b"\x7f" + b"\xff" * (width - 1), b"\1" * width)
    )


def _swap_lines(data, rng):
    lines = bytes(data).split(b"\n")
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[i], lines[j] = lines[j], lines[i]
    data[:] = b"\n".join(lines)


def _swap_fields(data, rng):
    lines = bytes(data).split(b"\n")
    i, mark = rng.randrange(len(lines)), rng.choice((b",", b";", b"\t", b" "))
    fields = lines[i].split(mark)
    fields[rng.randrange(len(fields))] = rng.choice((rng.choice(fields), rng.choice(WORDS)))
    lines[i] = mark.join(fields)
    data[:] = b"\n".join(lines)


def _new_line(data, rng):
    lines = bytes(data).split(b"\n")
    lines.insert(rng.randrange(len(lines)), rng.choice((b"x" * 10_000, b"," * 500, b"#", b"\xff")))
    data[:] = b"\n".join(lines)


KINDS = (
    _flip, _cut, _behead, _hole, _word, _repeat, _number, _swap_lines, _swap_fields, _new_line,
)  # fmt: skip


def damaged_json(text: bytes, rng: random.Random) -> bytes:
    """A well-formed JSON of which one or two values are others, or gone."""
    content = json.loads(text)
    for _ in range(rng.choice((1, 1, 2))):
        paths = [path for path in _paths(content) if path]
        if not paths:
            break
        *outer, last = rng.choice(paths)
        inner = content
        for key in outer:
            inner = inner[key]
        value = rng.choice([DELETED, *JSON_VALUES])
        if value is DELETED:
            del inner[last]
        else:
            inner[last] = copy.deepcopy(value)
    return json.dumps(content).encode()


def _paths(value, path=()):
    yield path
    inner = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    for key, one in inner:
        yield from _paths(one, (*path, key))


def zipped(members: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip of these members; a name may occur twice."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()

"""The chip store: packed zarr arrays, the manifest, chips by name and crops by row."""

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.registry import get_numcodec
from zarr.storage import MemoryStore

from soilkit.contracts import Chip, Grid
from soilkit.errors import ContractError, SceneNotFoundError, StoreError, UnknownNameError
from soilkit.files import write_text_whole, write_whole
from soilkit.sources import Band, Source

FORMAT_VERSION = 2
FILL = -32768  # no data
_LARGEST = 32767


@dataclass(frozen=True)
class Packing:
    """How one source's values become integers: ``scale`` is the step between two of them.

    Bands of one source may differ, where both are tuples, a number a band of (band, row, col).

    Examples
    --------
    >>> step = Packing(0.02)
    >>> step.unpack(step.pack(np.array([-12.3456, np.nan]))).round(2)
    array([-12.34,    nan], dtype=float32)
    """

    scale: float | tuple[float, ...]
    offset: float | tuple[float, ...] = 0.0

    @property
    def limits(self) -> tuple[float, float]:
        """The smallest and the largest value that fit, in any band."""
        scale, offset = self._numbers()
        return float((offset - scale * _LARGEST).min()), float((offset + scale * _LARGEST).max())

    def _numbers(self) -> tuple[np.ndarray, np.ndarray]:
        """Scale and offset as float64, (band, 1, 1) where bands differ."""
        scale, offset = np.asarray(self.scale, float), np.asarray(self.offset, float)
        return (scale[:, None, None], offset[:, None, None]) if scale.ndim else (scale, offset)

    @property
    def words(self) -> dict[str, Any]:
        """Scale and offset as JSON holds them."""
        numbers = {"scale_factor": self.scale, "add_offset": self.offset}
        return {k: [*v] if isinstance(v, tuple) else v for k, v in numbers.items()}

    def pack(self, values: np.ndarray) -> np.ndarray:
        """Integers of the same shape, int16; anything that is no finite number becomes ``FILL``.

        Raises ``ContractError`` when a value lies outside ``limits``.
        """
        finite, (scale, offset) = np.isfinite(values), self._numbers()
        steps = np.rint((values - offset) / scale)
        if bool((np.abs(steps) > _LARGEST)[finite].any()):
            low, high = self.limits
            worst = values[finite][np.abs(steps[finite]).argmax()]
            raise ContractError(f"value {worst:g} outside the store's {low:g} to {high:g}")
        return np.where(finite, steps, FILL).astype("<i2")

    def unpack(self, packed: np.ndarray) -> np.ndarray:
        """float32 of the same shape, NaN for ``FILL``."""
        scale, offset = (v.astype(np.float32) for v in self._numbers())
        values = packed.astype(np.float32) * scale + offset
        return np.where(packed == FILL, np.float32(np.nan), values)

    def table(self) -> np.ndarray:
        """Every packed integer's value, shape (65536,) float32, at index ``packed.view("u2")``."""
        return self.unpack(np.arange(65536).astype(np.uint16).view(np.int16))


_CLASSES = Packing(1.0)
_ANYTHING = Packing(0.01)


def packing_of(source: Source, bands: Iterable[str] | None = None) -> Packing:
    """The packing that a source's row states, else steps of 1 for classes and of 0.01.

    Coarse sources hold moistures beside temperatures: without a stated packing each of their
    ``bands`` (all: None) has the least of the steps 1, 2 and 5 x 10^n that holds its valid range.
    """
    if source.packing:
        return Packing(*source.packing)
    if source.resolution != "coarse":
        return _ANYTHING if any(band.continuous for band in source.bands) else _CLASSES
    names = [band.name for band in source.bands] if bands is None else bands
    steps, offsets = zip(*(_finest(source.band(name)) for name in names), strict=True)
    return Packing(steps, offsets)


def _finest(band: Band) -> tuple[float, float]:
    """Step and offset of a band by itself; classes have steps of 1."""
    low, high = band.stored_range
    least = (high - low) / (2 * _LARGEST)
    tens = np.floor(np.log10(least))
    step = next(float(f"{n}e{int(tens)}") for n in (1, 2, 5, 10) if n * 10**tens >= least)
    step = step if band.continuous else max(1.0, step)
    return step, round((low + high) / 2 / step) * step


# Everything that soilkit says to zarr: one array a source, one shard a scene.

INNER_PX = 128
_ABSENT = np.iinfo(np.uint64).max
_BLOSC = get_numcodec({"id": "blosc"})  # its bytes tell the decoder which compressor wrote them
_CHECKSUM_BYTES = 4


def inner_px(size_px: int) -> int:
    """The side of inner chunks: 128, or the largest divisor of the chip's side up to 256."""
    if size_px % INNER_PX == 0:
        return INNER_PX
    return max(n for n in range(1, min(size_px, 2 * INNER_PX) + 1) if size_px % n == 0)


@dataclass(frozen=True)
class Shards:
    """One source's array on disk, ``values[scene, band, y, x]``: where, and how large."""

    path: Path
    bands: int
    size_px: int

    def file(self, row: int) -> Path:
        """The shard of a scene."""
        return self.path / f"c.{row}.0.0.0"

    def create(self, *, packing: Packing, attributes: dict, store: Any = None) -> zarr.Array:
        """Make an empty array that knows its CF packing, at ``path`` or in a ``store`` of zarr."""
        side, inner = self.size_px, inner_px(self.size_px)
        cf = {**packing.words, "_FillValue": FILL}
        return zarr.create_array(
            self.path if store is None else store,
            shape=(0, self.bands, side, side), shards=(1, self.bands, side, side),
            chunks=(1, self.bands, inner, inner), dtype="int16", fill_value=FILL,
            compressors=[BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle")],
            chunk_key_encoding={"name": "default", "separator": "."},
            dimension_names=("scene", "band", "y", "x"), attributes={**cf, **attributes},
        )  # fmt: skip

    def is_described(self, *, packing: Packing, attributes: dict) -> bool:
        """Whether ``zarr.json`` says what ``create`` writes, but for the number of scenes."""
        wanted = self.create(packing=packing, attributes=attributes, store=MemoryStore())
        try:
            kept = zarr.open_array(self.path, mode="r")
            first, second = ({**a.metadata.to_dict(), "shape": a.shape[1:]} for a in (kept, wanted))
        except Exception:  # zarr raises whatever a damaged text leads it to
            return False
        return first == second

    def grow(self, scenes: int) -> zarr.Array:
        """The array, writable, with room for ``scenes``."""
        array = zarr.open_array(self.path, mode="r+")
        if array.shape[0] < scenes:
            array.resize((scenes, *array.shape[1:]))
        return array

    def read(self, row: int, *, crop_px: int | None = None) -> np.ndarray:
        """The centre of a scene, packed, (band, crop_px, crop_px) int16.

        Raises ``StoreError`` when the shard is absent or damaged.
        """
        crop = self.size_px if crop_px is None else crop_px
        try:
            with self.file(row).open("rb", buffering=0) as shard:
                return self._decode(shard, crop)
        except (OSError, ValueError, RuntimeError, IndexError) as error:
            raise StoreError(
                f"{self.file(row)} cannot be read ({error or type(error).__name__}). Run "
                "chips.verify on the store, then chips.build again: it fetches what is damaged."
            ) from error

    def _decode(self, shard: FileIO, crop: int) -> np.ndarray:
        inner = inner_px(self.size_px)
        per_side = self.size_px // inner
        first = (self.size_px - crop) // 2
        index_bytes = 16 * per_side**2  # offset and length of each inner chunk
        shard.seek(-index_bytes - _CHECKSUM_BYTES, os.SEEK_END)
        index = np.frombuffer(shard.read(index_bytes), "<u8").reshape(per_side, per_side, 2)
        out = np.empty((self.bands, crop, crop), dtype="<i2")
        touched = range(first // inner, -(-(first + crop) // inner))
        for i in touched:
            here_y, there_y = _overlap(i * inner, inner, first, crop)
            for j in touched:
                here_x, there_x = _overlap(j * inner, inner, first, crop)
                out[:, there_y, there_x] = self._chunk(shard, index[i, j])[:, here_y, here_x]
        return out

    def _chunk(self, shard: FileIO, place: np.ndarray) -> np.ndarray:
        inner = inner_px(self.size_px)
        if place[0] == _ABSENT:  # zarr leaves out a chunk that holds nothing but fill
            return np.full((self.bands, inner, inner), FILL, dtype="<i2")
        start, length = (int(n) for n in place)
        if start + length > shard.seek(0, os.SEEK_END):
            raise ValueError("an inner chunk ends beyond its shard")
        shard.seek(start)
        packed = shard.read(length)
        return np.frombuffer(_BLOSC.decode(packed), "<i2").reshape(self.bands, inner, inner)


def _overlap(start: int, length: int, first: int, crop: int) -> tuple[slice, slice]:
    """Where [start, start + length) meets [first, first + crop): in the chunk, and in the crop."""
    low, high = max(start, first), min(start + length, first + crop)
    return slice(low - start, high - start), slice(low - first, high - first)


def create_array(
    path: Path, shape: tuple[int, ...], *, chunks: tuple[int, ...], fill: np.generic, **words: Any
) -> zarr.Array:
    """A writable array of a cube, of the kind of ``fill``; every chunk carries its checksum.

    ``words`` are ``dimension_names`` and ``attributes``.
    """
    return zarr.create_array(
        path, shape=shape, chunks=chunks, dtype=fill.dtype, fill_value=fill, **words,
        compressors=[BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle"), Crc32cCodec()],
    )  # fmt: skip


def open_array(path: Path) -> zarr.Array:
    """An array of a cube, writable."""
    return zarr.open_array(path, mode="r+")


def consolidate(path: Path) -> None:
    """Gather what all arrays under a group say of themselves in it, for xarray to open at once."""
    with warnings.catch_warnings():  # zarr's, that version 3 has not settled how, and of our files
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(path)


def create_group(path: Path, attributes: dict) -> None:
    """Make a zarr group that tools find; an existing one keeps what it holds, unless damaged."""
    try:
        group = zarr.open_group(path, mode="a", attributes=attributes, zarr_format=3)
    except OSError:
        raise
    except Exception:  # zarr raises whatever a damaged text leads it to
        (path / "zarr.json").unlink(missing_ok=True)
        group = zarr.open_group(path, mode="a", attributes=attributes, zarr_format=3)
    if any(group.attrs.get(name) != value for name, value in attributes.items()):
        group.attrs.update(attributes)


def _places(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Each scene's EPSG code (scene,) and affine coefficients (scene, 6); 0 and NaN: unknown."""
    table = table.set_index("row")
    table = table.reindex(range(int(table.index.max()) + 1 if len(table) else 0))
    epsg = table["crs"].astype(str).str.extract(r"^EPSG:(\d+)$", expand=False).fillna("0")
    size, zero = table["pixel_size_m"], np.zeros(len(table))
    affine = [size, zero, table["left_m"], zero, -size, table["top_m"]]
    transforms = np.column_stack([np.asarray(v, dtype=float) for v in affine])
    return {"epsg": epsg.astype("int32").to_numpy(), "transform": transforms}


def places_stand(path: Path, table: pd.DataFrame) -> bool:
    """Whether the places beside a source's values are those of its index."""
    try:
        group: Any = zarr.open_group(path, mode="r")
        wanted = _places(table).items()
        return all(np.array_equal(group[k][:], v, equal_nan=True) for k, v in wanted)
    except Exception:  # zarr raises whatever a damaged text leads it to
        return not len(table)


def write_places(path: Path, table: pd.DataFrame) -> None:
    """Write the places of an index beside the values, for other readers, unless they stand."""
    if places_stand(path, table):
        return
    group = zarr.open_group(path, mode="r+")
    names = {"epsg": ("scene",), "transform": ("scene", "coefficient")}
    for name, data in _places(table).items():
        shutil.rmtree(path / name, ignore_errors=True)  # zarr would read what is damaged
        group.create_array(name, data=data, dimension_names=names[name])


# The store's own account: ``manifest.json`` for the whole, one parquet table a source.

MANIFEST = "manifest.json"
_WRITTEN_ANEW = "Call chips.build again with all sources: it is written anew, and the chips stay."
# What of a source's description its values hang on.
_DECISIVE = ("bands", "units", "size_px", "pixel_size_m", "scale_factor", "add_offset")


class DamagedError(StoreError):
    """A manifest is damaged: what it said can be told anew by the next build."""


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
    """One source's entries by (scene_id, station_id), and the file where they rest.

    An entry that does not match its checksum is an error, or forgotten with ``mends``, and its row
    free; ``damaged`` tells the keys of those.
    """

    def __init__(self, store: Path, source: str, *, mends: bool = False):
        self.path = store / f"index_{source}.parquet"
        entries = _entries(self.path) if self.path.exists() else []
        self.entries = {e.key: e for e, is_whole in entries if is_whole}
        self.damaged = [e.key for e, is_whole in entries if not is_whole]
        if self.damaged and not mends:
            raise StoreError(
                f"{self.path}: {len(self.damaged)} of {len(entries)} entries do not match their "
                f"checksum, such as {self.damaged[0]}. Run chips.verify on the store, then "
                "chips.build again: it fetches what is damaged."
            )
        used = {e.row for e in self.entries.values()}
        self._free = sorted(set(range(max(used, default=-1))) - used, reverse=True)

    def entry(self, scene_id: str, station_id: str) -> Entry:
        """The entry of that chip; a new one takes the next row."""
        key = (scene_id, station_id)
        if key not in self.entries:
            row = self._free.pop() if self._free else len(self.entries)
            self.entries[key] = Entry(*key, row=row)
        return self.entries[key]

    def table(self) -> pd.DataFrame:
        """All entries, one a row of the array and in its order."""
        rows = sorted(self.entries.values(), key=lambda e: e.row)
        shape = [vars(e) for e in rows or [Entry("", "", 0)]]
        return pd.DataFrame(shape).iloc[: len(rows)]

    def save(self) -> None:
        """Write the table, and a checksum of each entry, whole or not at all."""
        table = self.table()
        table["checksum"] = [_sha256(row) for row in table.to_dict("records")]
        write_whole(self.path, table.to_parquet)


def _entries(path: Path) -> list[tuple[Entry, bool]]:
    """The entries of a file, and whether each matches its checksum."""
    try:
        rows = pd.read_parquet(path).to_dict("records")
        sums = [row.pop("checksum") for row in rows]
        return [(Entry(**r), kept == _sha256(r)) for r, kept in zip(rows, sums, strict=True)]
    except (OSError, ValueError, TypeError, KeyError) as error:  # pyarrow's are ValueErrors
        raise StoreError(
            f"{path} is damaged ({error}). Delete that file and call chips.build again: it fetches "
            f"the chips that only this file knew, those of {path.stem.removeprefix('index_')}."
        ) from error


def write_manifest(store: Path, content: dict[str, Any]) -> None:
    """Write ``manifest.json`` with its own SHA-256; equal content gives equal bytes."""
    content = {"format_version": FORMAT_VERSION, **content}
    text = json.dumps(content | {"sha256": _sha256(content)}, indent=1, sort_keys=True)
    write_text_whole(store / MANIFEST, text)


def read_manifest(store: Path) -> dict[str, Any]:
    """Read ``manifest.json``.

    Raises ``StoreError`` when there is none, or it is of another format version, and
    ``DamagedError`` when it is no manifest, or does not match its SHA-256.
    """
    try:
        content = json.loads((store / MANIFEST).read_text(encoding="utf-8"))
        version = content["format_version"]
        is_whole = content.pop("sha256", "") == _sha256(content)
    except FileNotFoundError as error:
        raise StoreError(
            f"No chip store at {store}: {MANIFEST} is missing. Build one with chips.build, or mend "
            "the path."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedError(f"{store / MANIFEST} is damaged ({error}). {_WRITTEN_ANEW}") from error
    except OSError as error:
        raise StoreError(f"{store / MANIFEST} cannot be read ({error}). Mend the path.") from error
    if version != FORMAT_VERSION:
        raise StoreError(
            f"{store} has format version {version}; this soilkit reads {FORMAT_VERSION}. "
            "Install the soilkit that wrote it, or build the store again."
        )
    if not is_whole:
        raise DamagedError(f"{store / MANIFEST} does not match its SHA-256. {_WRITTEN_ANEW}")
    return content


def _sha256(plain: Any) -> str:
    """SHA-256 of plain values in one spelling, hex."""
    text = json.dumps(plain, sort_keys=True, default=np.generic.item)
    return hashlib.sha256(text.encode()).hexdigest()


def sha256(packed: np.ndarray) -> str:
    """SHA-256 of a chip's packed integers, little-endian in C order, hex."""
    return hashlib.sha256(packed.astype("<i2").tobytes()).hexdigest()


# Reading a store: chips by name for people, packed crops by row for loaders.


class ChipStore:
    """A store that is open for reading; it holds no open file and may be sent to other processes.

    ``manifest`` is the content of ``manifest.json``.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self.manifest: dict[str, Any] = read_manifest(self.path)
        self._ledgers: dict[str, Ledger] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "manifest": self.manifest, "_ledgers": {}}

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of the sources in the store."""
        return tuple(self.manifest["sources"])

    def bands(self, source: str) -> tuple[str, ...]:
        """The bands of a source, in the order of its chips."""
        return tuple(self._described(source)["bands"])

    def size_px(self, source: str) -> int:
        """The side of a source's chips, pixels."""
        return int(self._described(source)["size_px"])

    def packing(self, source: str) -> Packing:
        """How a source's integers become values."""
        described = self._described(source)
        numbers = (described[name] for name in ("scale_factor", "add_offset"))
        return Packing(*(tuple(n) if isinstance(n, list) else n for n in numbers))

    def index(self, source: str) -> pd.DataFrame:
        """One row a chip: scene_id, station_id, row, valid_fraction, data_sha256, reason, place."""
        return self._ledger(source).table()

    @cached_property
    def data_hash(self) -> str:
        """SHA-256 over chips, places, bands and packing, hex: equal for equal content."""
        parts: list[Any] = []
        for source in sorted(self.sources):
            described = self._described(source)
            parts.append([source, *(described[name] for name in _DECISIVE)])
            for key, e in sorted(self._ledger(source).entries.items()):
                parts.append([*key, e.data_sha256, e.crs, e.left_m, e.top_m, e.pixel_size_m])
        return _sha256(parts)

    def read(self, source: str, scene_id: str, station_id: str) -> Chip:
        """The chip of a scene at a station, in the source's stored values.

        Raises ``UnknownNameError`` for a source that the store lacks, ``SceneNotFoundError`` for a
        chip that it lacks, with the reason where it knows one, and ``StoreError`` for a damaged
        one.
        """
        row = int(self.rows(source, [scene_id], station_ids=[station_id])[0])
        entry = self._ledger(source).entries[(scene_id, station_id)]
        packed = self.shards(source).read(row)
        if sha256(packed) != entry.data_sha256:
            raise StoreError(
                f"{source} {scene_id} at {station_id} is damaged: its pixels do not match their "
                "checksum. Run chips.verify on the store, then chips.build again."
            )
        grid = entry.grid(self.size_px(source))
        return Chip(self.packing(source).unpack(packed), self.bands(source), grid)

    def rows(
        self, source: str, scene_ids: Iterable[str], *, station_ids: Iterable[str]
    ) -> np.ndarray:
        """Where chips lie in the source's array, (chip,) int64.

        Raises ``SceneNotFoundError``, naming the first chip that the store lacks.
        """
        entries = self._ledger(source).entries
        numbers = []
        for key in zip(map(str, scene_ids), map(str, station_ids), strict=True):
            entry = entries.get(key)
            if entry is None or not entry.data_sha256:
                why = entry.reason if entry else "never asked for"
                raise SceneNotFoundError(
                    f"{self.path} has no {source} chip of scene {key[0]} at {key[1]} ({why}). "
                    "Build it with chips.build, and use the samples that it returns."
                )
            numbers.append(entry.row)
        return np.array(numbers, dtype=np.int64)

    def shards(self, source: str) -> Shards:
        """The source's array, for packed crops by row."""
        described = self._described(source)
        values = self.path / source / "values"
        return Shards(values, len(described["bands"]), described["size_px"])

    def _described(self, source: str) -> dict[str, Any]:
        if source not in self.manifest["sources"]:
            raise UnknownNameError(
                f"{self.path} holds no chips of {source!r}; it has {', '.join(self.sources)}. "
                "Build it with that source."
            )
        return self.manifest["sources"][source]

    def _ledger(self, source: str) -> Ledger:
        self._described(source)
        if source not in self._ledgers:
            self._ledgers[source] = Ledger(self.path, source)
        return self._ledgers[source]


def open_store(path: str | os.PathLike[str]) -> ChipStore:
    """Open a store for reading; ``StoreError`` where it is absent, damaged or of other version."""
    return ChipStore(path)

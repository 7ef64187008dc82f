"""Everything that soilkit says to zarr: one array a source, one shard a scene.

Writing goes through zarr. Reading a crop goes straight to the shard's bytes: a shard ends in the
offsets of its inner chunks (zarr's ``sharding_indexed`` codec, index at the end), and reading those
needs no event loop, so that it is fast and safe in worker processes.
"""

import os
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import numpy as np
import zarr
from zarr.codecs import BloscCodec
from zarr.registry import get_numcodec

from soilkit.chips.packing import FILL, Packing
from soilkit.errors import StoreError

INNER_PX = 128
_ABSENT = np.iinfo(np.uint64).max
_BLOSC = get_numcodec({"id": "blosc"})  # its bytes tell the decoder which compressor wrote them
_CHECKSUM_BYTES = 4


def inner_px(size_px: int) -> int:
    """The side of inner chunks: 128, or the largest divisor of the chip's side up to 256.

    Examples
    --------
    >>> [inner_px(n) for n in (512, 256, 362, 16)]
    [128, 128, 181, 16]
    """
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

    def create(self, *, packing: Packing, attributes: dict) -> None:
        """Make an empty array that knows its CF packing."""
        side, inner = self.size_px, inner_px(self.size_px)
        cf = {"scale_factor": packing.scale, "add_offset": packing.offset, "_FillValue": FILL}
        zarr.create_array(
            self.path,
            shape=(0, self.bands, side, side),
            shards=(1, self.bands, side, side),
            chunks=(1, self.bands, inner, inner),
            dtype="int16",
            fill_value=FILL,
            compressors=[BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle")],
            chunk_key_encoding={"name": "default", "separator": "."},
            dimension_names=("scene", "band", "y", "x"),
            attributes={**cf, **attributes},
        )

    def grow(self, scenes: int) -> zarr.Array:
        """The array, writable, with room for ``scenes``."""
        try:
            array = zarr.open_array(self.path, mode="r+")
        except (ValueError, KeyError) as error:
            raise StoreError(
                f"{self.path / 'zarr.json'} is damaged ({error}). Delete that file and call "
                "chips.build again: the chips beside it stay."
            ) from error
        if array.shape[0] < scenes:
            array.resize((scenes, *array.shape[1:]))
        return array

    def read(self, row: int, *, crop_px: int | None = None) -> np.ndarray:
        """The centre of a scene, packed, (band, crop_px, crop_px) int16.

        Raises
        ------
        StoreError
            When the shard is absent or damaged.
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


def create_group(path: str | os.PathLike[str], attributes: dict) -> None:
    """Make a zarr group that tools find; an existing one keeps what it holds."""
    zarr.open_group(path, mode="a", attributes=attributes, zarr_format=3)


def write_places(path: Path, *, epsg: np.ndarray, transforms: np.ndarray) -> None:
    """Write each scene's CRS (scene,) and affine coefficients (scene, 6) beside the values."""
    group = zarr.open_group(path, mode="r+")
    names = {"epsg": ("scene",), "transform": ("scene", "coefficient")}
    for name, data in (("epsg", epsg.astype("int32")), ("transform", transforms)):
        group.create_array(name, data=data, dimension_names=names[name], overwrite=True)

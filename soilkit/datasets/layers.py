"""Packed crops to normalised tensors, by one look-up table a band."""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch.utils.data import get_worker_info

from soilkit import sources
from soilkit.chips import ChipStore, Packing
from soilkit.datasets.inputs import Inputs
from soilkit.errors import ContractError, UnknownNameError

STATIC = "static"
_KEPT_STATIC_CROPS = 512


class Layer:
    """One source's crops: which row each sample reads, and how integers become network numbers."""

    def __init__(self, store: ChipStore, source: str, samples, *, crop_px: int):
        have = store.bands(source)
        self.bands = [have.index(b) for b in _checked(store, source, have)]
        self.shards, self.crop_px = store.shards(source), crop_px
        if crop_px > self.shards.size_px:
            raise ContractError(
                f"A crop of {crop_px} pixels does not fit {source}'s chips of "
                f"{self.shards.size_px}. Lower crop_px, or build larger chips."
            )
        column = f"{source}_scene"
        scenes = samples[column] if column in samples else [STATIC] * len(samples)
        self.rows = store.rows(source, scenes, station_ids=samples["station_id"])
        self.keep = _KEPT_STATIC_CROPS if sources.get(source).is_static else 0
        self.tables = _tables(source, store.packing(source))
        self._kept: dict[int, np.ndarray] = {}

    def write(self, i: int, out: np.ndarray) -> None:
        """Fill ``out`` (band, row, col) float32 with sample ``i``, normalised."""
        packed = self._packed(int(self.rows[i]))
        for channel, (band, table) in enumerate(zip(self.bands, self.tables, strict=True)):
            np.take(table, packed[band].view("<u2"), out=out[channel], mode="clip")

    def _packed(self, row: int) -> np.ndarray:
        if row in self._kept:
            return self._kept[row]
        packed = self.shards.read(row, crop_px=self.crop_px)
        if len(self._kept) < self.keep:
            self._kept[row] = packed
        return packed


def _checked(store, source: str, have: Sequence[str]) -> tuple[str, ...]:
    wanted = Inputs.bands(source)
    absent = [b for b in wanted if b not in have]
    if absent:
        raise UnknownNameError(
            f"{store.path} holds of {source} the bands {', '.join(have)}; the inputs want "
            f"{', '.join(absent)} too. Build the store with them."
        )
    return wanted


@lru_cache(maxsize=64)
def _tables(source: str, packing: Packing) -> tuple[np.ndarray, ...]:
    """Per fed band the normalised value of every packed integer, (65536,) float32, unknown 0."""
    found = []
    for name in Inputs.bands(source):
        rule = sources.get(source).band(name).normalisation
        values = packing.table().astype(np.float64)
        scaled = values if rule is None else rule(values)
        found.append(np.nan_to_num(scaled, nan=0.0).astype(np.float32))
    return tuple(found)


def images(layers: list[Layer], indices: Sequence[int]) -> torch.Tensor | None:
    """The crops of some samples, normalised, (sample, channel, row, col); None without layers."""
    if not layers:
        return None
    sizes = [len(layer.bands) for layer in layers]
    side = layers[0].crop_px
    out = _empty((len(indices), sum(sizes), side, side))
    array = out.numpy()
    for n, i in enumerate(indices):
        first = 0
        for layer, size in zip(layers, sizes, strict=True):
            layer.write(i, array[n, first : first + size])
            first += size
    return out


def _empty(shape: tuple[int, ...]) -> torch.Tensor:
    """A float32 tensor; in a worker shared memory from the start, which saves a copy."""
    if get_worker_info() is None:
        return torch.empty(shape)
    storage = torch.UntypedStorage._new_shared(4 * math.prod(shape))
    return torch.empty(0).set_(storage).reshape(shape)

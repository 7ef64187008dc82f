"""Packed crops to normalised tensors, by one look-up table a band."""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch.utils.data import get_worker_info

from soilkit import sources
from soilkit.datasets.indices import INDICES, Index
from soilkit.datasets.inputs import Inputs, source_of
from soilkit.errors import ContractError, UnknownNameError
from soilkit.export.chips import ChipStore, Packing

STATIC = "static"
ABSENT = -1  # the row of a sample that lacks the source
_KEPT_STATIC_CROPS = 512


class Layer:
    """One source's crops: which row each sample reads, and how integers become network numbers.

    ``wanted`` maps channels of the network to bands or indices; a row below 0 is an absent chip.
    """

    def __init__(
        self, store: ChipStore, source: str, *, rows: np.ndarray, wanted: Mapping[int, str], crop_px
    ):
        self.rows, self.crop_px, self.channels = rows, crop_px, list(wanted)
        self.keep = _KEPT_STATIC_CROPS if sources.get(source).is_static else 0
        self._kept: dict[int, np.ndarray] = {}
        if (rows < 0).all():
            return  # nothing is ever read, so the store may lack the source
        self.shards = store.shards(source)
        _check_fit(source, crop_px, size_px=self.shards.size_px)
        have, packing = store.bands(source), store.packing(source)
        computed = INDICES.get(source, {})
        bands = {c: b for c, b in wanted.items() if b not in computed}
        indices = {c: computed[b] for c, b in wanted.items() if b in computed}
        needed = [*bands.values(), *(b for index in indices.values() for b in index.bands)]
        place = _places(store, source, have=have, needed=needed)
        self.bands = [(c, place[b], _table(source, b, packing=packing)) for c, b in bands.items()]
        self.indices = [(c, i, [place[b] for b in i.bands]) for c, i in indices.items()]
        self.reflectance = _physical(source, packing) if indices else None

    def write(self, i: int, out: np.ndarray) -> None:
        """Fill the source's channels of ``out`` (channel, row, col) float32 with sample ``i``."""
        row = int(self.rows[i])
        if row < 0:
            out[self.channels] = np.nan
            return
        packed = self._packed(row)
        for channel, band, table in self.bands:
            np.take(table, packed[band].view("<u2"), out=out[channel], mode="clip")
        for channel, index, bands in self.indices:
            out[channel] = self._index(index, packed[bands])

    def _index(self, index: Index, packed: np.ndarray) -> np.ndarray:
        assert self.reflectance is not None
        return np.nan_to_num(index(*self.reflectance[packed.view("<u2")]), nan=0.0)

    def _packed(self, row: int) -> np.ndarray:
        if row in self._kept:
            return self._kept[row]
        packed = self.shards.read(row, crop_px=self.crop_px)
        if len(self._kept) < self.keep:
            self._kept[row] = packed
        return packed


class Images:
    """The layers of one resolution, side by side in the order of the inputs."""

    def __init__(
        self,
        store: ChipStore,
        entries: Sequence[str],
        *,
        rows: Mapping[str, np.ndarray],
        crop_px: int,
        cache: bool,
    ):
        channels = [(source_of(entry), band) for entry in entries for band in Inputs.bands(entry)]
        self.shape = (len(channels), crop_px, crop_px)
        self.layers = []
        for source in dict.fromkeys(name for name, _ in channels):
            wanted = {c: band for c, (name, band) in enumerate(channels) if name == source}
            layer = Layer(store, source, rows=rows[source], wanted=wanted, crop_px=crop_px)
            layer.keep = len(layer.rows) if cache else layer.keep
            self.layers.append(layer)

    def batch(self, indices: Sequence[int]) -> torch.Tensor | None:
        """Crops of some samples, normalised, (sample, channel, row, col); None without layers."""
        if not self.layers:
            return None
        out = _empty((len(indices), *self.shape))
        array = out.numpy()
        for n, i in enumerate(indices):
            for layer in self.layers:
                layer.write(i, array[n])
        return out


def chip_rows(store: ChipStore, source: str, *, samples: Any, allow_missing: bool) -> np.ndarray:
    """The row of each sample's chip in the store, ``ABSENT`` where the sample names no scene.

    Raises
    ------
    ContractError
        When samples name no scene and ``allow_missing`` is false.
    SceneNotFoundError
        When the store lacks a chip of a scene that a sample names.
    """
    column = f"{source}_scene"
    if column not in samples:
        return store.rows(source, [STATIC] * len(samples), station_ids=samples["station_id"])
    scenes = samples[column].astype(object)
    named = (scenes.notna() & (scenes.astype(str) != "")).to_numpy()
    if not named.all() and not allow_missing:
        raise ContractError(
            f"{int((~named).sum())} of {len(named)} samples have no {source} scene. Leave these "
            "samples out, or pass allow_missing=True for a model with source dropout."
        )
    rows = np.full(len(samples), ABSENT, np.int64)
    stations = samples["station_id"][named]
    rows[named] = store.rows(source, scenes[named], station_ids=stations)
    return rows


def _check_fit(source: str, crop_px: int, *, size_px: int) -> None:
    if crop_px > size_px:
        low = sources.get(source).resolution == "low"
        size_m = crop_px * (160 if low else 10)
        raise ContractError(
            f"A crop of {crop_px} pixels does not fit {source}'s chips of {size_px}. Lower crop_px "
            f"(a margin for rotation counts), or build chips of size_px={size_m // 10} or more."
        )


def _places(store, source: str, *, have: Sequence[str], needed: Iterable[str]) -> dict[str, int]:
    absent = list(dict.fromkeys(b for b in needed if b not in have))
    if absent:
        raise UnknownNameError(
            f"{store.path} holds of {source} the bands {', '.join(have)}; the inputs want "
            f"{', '.join(absent)} too. Build the store with them."
        )
    return {band: n for n, band in enumerate(have)}


@lru_cache(maxsize=64)
def _table(source: str, band: str, *, packing: Packing) -> np.ndarray:
    """The normalised value of every packed integer, (65536,) float32, unknown 0."""
    rule = sources.get(source).band(band).normalisation
    values = packing.table().astype(np.float64)
    scaled = values if rule is None else rule(values)
    return np.nan_to_num(scaled, nan=0.0).astype(np.float32)


def _physical(source: str, packing: Packing) -> np.ndarray:
    """The physical value of every packed integer, (65536,) float32, unknown NaN."""
    band = next(b for b in sources.get(source).bands if b.continuous)
    return packing.table() * np.float32(band.scale) + np.float32(band.offset)


def _empty(shape: tuple[int, ...]) -> torch.Tensor:
    """A float32 tensor; in a worker shared memory from the start, which saves a copy."""
    if get_worker_info() is None:
        return torch.empty(shape)
    storage = torch.UntypedStorage._new_shared(4 * math.prod(shape))
    return torch.empty(0).set_(storage).reshape(shape)

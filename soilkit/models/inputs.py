"""Which sources a model eats, and how their numbers are brought to its range."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.data import get_worker_info

from soilkit import sources
from soilkit.errors import CheckpointError, ContractError, UnknownNameError
from soilkit.export.chips import ChipStore, Packing
from soilkit.sources import Band
from soilkit.units import normalised_difference


@dataclass(frozen=True)
class Index:
    """One number a pixel out of several bands' reflectance, held to [-1, 1].

    ``colours`` names the band of each argument of ``formula``.
    """

    colours: dict[str, str]
    formula: Callable[..., np.ndarray]

    @property
    def bands(self) -> list[str]:
        """The bands it is made of."""
        return list(self.colours.values())

    def __call__(self, *reflectance: np.ndarray) -> np.ndarray:
        """The index of the bands in their order; NaN where one is unknown, or nothing is seen."""
        with np.errstate(divide="ignore", invalid="ignore"):
            values = self.formula(*reflectance)
        return np.clip(np.where(np.isfinite(values), values, np.nan), -1, 1)


def _evi(infrared: np.ndarray, red: np.ndarray, blue: np.ndarray) -> np.ndarray:
    """Enhanced vegetation index, 2.5 (N - R) / (N + 6 R - 7.5 B + 1) [1]_.

    Its denominator passes zero where blue light is scattered strongly, as by clouds and, in
    reflectance at the top of the atmosphere, by haze: hence the limits of ``Index``.

    References
    ----------
    .. [1] Huete et al. (2002), doi:10.1016/S0034-4257(02)00096-2

    Examples
    --------
    >>> _evi(np.array([0.4]), np.array([0.1]), np.array([0.05])).round(3)
    array([0.462])
    """
    return 2.5 * (infrared - red) / (infrared + 6 * red - 7.5 * blue + 1)


_TWO = ("infrared", "red")
INDICES = {
    row.name: {
        "NDVI": Index({colour: row.colours[colour] for colour in _TWO}, normalised_difference),
        "EVI": Index({colour: row.colours[colour] for colour in (*_TWO, "blue")}, _evi),
    }
    for row in sources.CATALOGUE
    if row.colours
}


# Which sources a model eats, and how their numbers are brought to its range.

GROUPS = ("high", "low", "coarse")


def source_of(entry: str) -> str:
    """The source of an entry of ``Inputs``: "sentinel2" of "sentinel2.NDVI"."""
    return entry.partition(".")[0]


@dataclass(frozen=True)
class Inputs:
    """Which sources a model eats, in order; an empty group is not fed.

    An entry is a source, with the bands that the paper feeds, else all continuous ones; or one
    band of a source, as "smap_l3_005.tb_v_corrected_am"; or a vegetation index of
    ``datasets.INDICES``, as "sentinel2.NDVI". A coarse entry is one scalar, the source's first
    continuous band; a source of low resolution may be one too (its value at the station).

    The paper's further experiments [1]_: indices among the high and leaf area among the low images
    (Table 18), ``Inputs(("sentinel1", "dem"), (), ("smap",))`` for active-passive (Table 19); data
    anchored at SMAP (Table 21) differ in the samples, not in the inputs.

    Raises
    ------
    ContractError
        For a source of another resolution, a class or flag band, or a channel named twice.
    UnknownNameError
        For a source or band that does not exist.

    References
    ----------
    .. [1] Batchu et al. (2022), arXiv:2206.09649, Tables 3, 16, 18, 19 and 21

    Examples
    --------
    >>> inputs = Inputs(high=("sentinel1", "dem"), low=(), coarse=("smap",))
    >>> inputs.names
    ('sentinel1.VV', 'sentinel1.VH', 'sentinel1.angle', 'dem.elevation', 'smap.ssm')
    >>> inputs.channels
    (4, 0, 1)
    >>> Inputs().without("smap", "gldas") == Inputs(coarse=())
    True
    """

    high: tuple[str, ...] = ("sentinel1", "sentinel2", "dem")
    low: tuple[str, ...] = ("soilgrids",)
    coarse: tuple[str, ...] = ("smap", "gldas")

    def __post_init__(self) -> None:
        for group in GROUPS:
            object.__setattr__(self, group, tuple(getattr(self, group)))
            for entry in getattr(self, group):
                _check_entry(entry, group)
            names = self._names(group)
            twice = sorted({n for n in names if names.count(n) > 1})
            if twice:
                raise ContractError(
                    f"{', '.join(twice)} stands twice among the {group} inputs. Name it once."
                )

    @staticmethod
    def bands(entry: str) -> tuple[str, ...]:
        """The bands of a source that are fed, the paper's choice, else all continuous ones."""
        source, _, band = entry.partition(".")
        if band:
            return (band,)
        return sources.get(source).fed

    @property
    def channels(self) -> tuple[int, int, int]:
        """How many channels the high, the low and the coarse input have."""
        high, low, coarse = (len(self._names(group)) for group in GROUPS)
        return high, low, coarse

    @property
    def names(self) -> tuple[str, ...]:
        """``source.band`` of every channel, high, low, then coarse: what a checkpoint keeps."""
        return tuple(name for group in GROUPS for name in self._names(group))

    @property
    def channel_sources(self) -> tuple[str, ...]:
        """The source of every channel: what source dropout withholds together."""
        return tuple(source_of(name) for name in self.names)

    @property
    def source_names(self) -> tuple[str, ...]:
        """The distinct sources, in order."""
        return tuple(dict.fromkeys(self.channel_sources))

    def without(self, *source_names: str) -> "Inputs":
        """The same inputs but for all entries of some sources.

        Raises
        ------
        ContractError
            For a source that is not fed.
        """
        strange = sorted(set(source_names) - set(self.source_names))
        if strange:
            raise ContractError(
                f"{', '.join(strange)} is no source of these inputs, which are "
                f"{', '.join(self.source_names)}. Name some of them."
            )
        kept = ((e for e in getattr(self, g) if source_of(e) not in source_names) for g in GROUPS)
        return Inputs(*map(tuple, kept))

    @classmethod
    def of(cls, *entries: str) -> "Inputs":
        """Entries in their own groups, by the resolution of each source.

        Examples
        --------
        >>> Inputs.of("smap", "gldas") == Inputs(high=(), low=())
        True
        """
        groups = [sources.get(source_of(entry)).resolution for entry in entries]
        parts = ([e for e, g in zip(entries, groups, strict=True) if g == name] for name in GROUPS)
        return cls(*map(tuple, parts))

    @classmethod
    def from_checkpoint(cls, checkpoint: Any) -> "Inputs":
        """The inputs of the model in a checkpoint of ``XceptionFusion``."""
        config = checkpoint.configuration
        ends = np.cumsum([config["high_channels"], config["low_channels"], config["coarse"]])
        names = list(checkpoint.provenance.inputs)
        parts = (names[e - n : e] for e, n in zip(ends, np.diff(ends, prepend=0), strict=True))
        return cls(*(tuple(_entries(p, g)) for p, g in zip(parts, GROUPS, strict=True)))

    def normalisation(self, statistics: Mapping[str, Sequence[float]]) -> dict[str, Any]:
        """Plain numbers by channel: the catalogue's constants, and mean and std of coarse ones."""
        found: dict[str, Any] = {}
        for name in (*self._names("high"), *self._names("low")):
            source, _, band = name.partition(".")
            if band in INDICES.get(source, {}):
                found[name] = {"Index": [-1, 1]}
                continue
            rule = sources.get(source).band(band).normalisation
            found[name] = (
                {type(rule).__name__: list(vars(rule).values())} if rule else {"Stored": []}
            )
        for entry, name in zip(self.coarse, self._names("coarse"), strict=True):
            if entry in statistics:
                mean, std = statistics[entry]
                found[name] = {"Standard": [mean, std]}
        return found

    def _names(self, group: str) -> list[str]:
        entries = getattr(self, group)
        if group == "coarse":
            return [f"{source_of(e)}.{coarse_band(e).name}" for e in entries]
        return [f"{source_of(e)}.{band}" for e in entries for band in self.bands(e)]


def _check_entry(entry: str, group: str) -> None:
    source, _, band = entry.partition(".")
    found = sources.get(source).resolution
    if found != group and not (group == "coarse" and found == "low"):
        raise ContractError(
            f"{entry} is a source of {found} resolution and cannot be a {group} input. "
            f"Move it to Inputs({found}=...)."
        )
    is_index = group != "coarse" and band in INDICES.get(source, {})
    if band and not is_index and not sources.get(source).band(band).continuous:
        raise ContractError(
            f"{entry} holds classes or flags, which are no amounts. Feed a continuous band."
        )


def _entries(names: Sequence[str], group: str) -> list[str]:
    """Names of channels back to entries: a source where all its bands stand together."""
    found: list[str] = []
    names = list(names)
    while names:
        source = source_of(names[0])
        bands = (coarse_band(source).name,) if group == "coarse" else Inputs.bands(source)
        whole = [f"{source}.{band}" for band in bands]
        is_whole = names[: len(whole)] == whole
        found.append(source if is_whole else names[0])
        names = names[len(whole) if is_whole else 1 :]
    return found


def coarse_band(entry: str) -> Band:
    """The band that stands for a coarse source, or the one that the entry names."""
    source, _, band = entry.partition(".")
    if band:
        return sources.get(source).band(band)
    return next(b for b in sources.get(source).bands if b.continuous)


def coarse_values(features: pd.DataFrame, inputs: Inputs) -> np.ndarray:
    """Coarse scalars in m3 m-3, or in physical units where no layer's depth is known.

    Water depths are divided by their layer: SMAP's mm by 50, GLDAS's kg m-2 by 100 (seed 001, 2b3).

    Returns
    -------
    array (sample, source)

    Raises
    ------
    ContractError
        When the features lack a column.
    """
    columns = []
    for entry in inputs.coarse:
        band = coarse_band(entry)
        name = f"{source_of(entry)}_{band.name}"
        if name not in features.columns:
            raise ContractError(
                f"The features have no column {name}; they have {', '.join(features.columns)}. "
                "Make it with features.from_series, or leave the source out of the inputs."
            )
        stored = features[name].to_numpy(float)
        physical = stored * band.scale + band.offset
        columns.append(physical / band.layer_mm if band.layer_mm else physical)
    return np.column_stack(columns) if columns else np.empty((len(features), 0))


def coarse_statistics(
    features: pd.DataFrame, inputs: Inputs, *, mask: np.ndarray | None = None
) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of each coarse source over the training samples.

    Parameters
    ----------
    features : features table
    inputs : Inputs
    mask : array (sample,) of bool, true for training; None takes all

    Returns
    -------
    {entry of ``inputs.coarse``: (mean, std)} in the units of ``coarse_values``
    """
    values = coarse_values(features, inputs)
    values = values if mask is None else values[np.asarray(mask, dtype=bool)]
    found = {}
    for source, column in zip(inputs.coarse, values.T, strict=True):
        known = column[np.isfinite(column)]
        if len(known) < 2 or known.std() == 0:
            raise ContractError(
                f"{source} has {len(known)} known training values and no spread to standardise by. "
                "Check the mask, or leave the source out of the inputs."
            )
        found[source] = (float(known.mean()), float(known.std()))
    return found


def stored_statistics(
    normalisation: Mapping[str, Mapping[str, Any]], inputs: Inputs
) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of each coarse source, out of a checkpoint's normalisation.

    Parameters
    ----------
    normalisation : of a checkpoint: plain numbers by channel
    inputs : Inputs

    Raises
    ------
    CheckpointError
        When the checkpoint holds none for a source.

    Examples
    --------
    >>> stored_statistics({"smap.ssm": {"Standard": [0.2, 0.1]}}, Inputs((), (), ("smap",)))
    {'smap': (0.2, 0.1)}
    """
    found = {}
    for source, channel in zip(inputs.coarse, _coarse_channels(inputs), strict=True):
        pair = normalisation.get(channel, {}).get("Standard")
        if pair is None or not np.isfinite(pair).all():
            raise CheckpointError(
                f"The checkpoint holds no mean and standard deviation of {channel}; it normalises "
                f"{', '.join(normalisation) or 'nothing'}. Leave {source!r} out of the inputs, or "
                "train with it."
            )
        found[source] = (float(pair[0]), float(pair[1]))
    return found


def _coarse_channels(inputs: Inputs) -> tuple[str, ...]:
    return inputs.names[len(inputs.names) - len(inputs.coarse) :]


# Packed crops to normalised tensors, by one look-up table a band.

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

    def batch(self, indices: Sequence[int]) -> torch.Tensor:
        """Crops of some samples, normalised, (sample, channel, row, col)."""
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

"""Which sources a model eats, and how their numbers are brought to its range."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import torch

from soilkit import sources
from soilkit.constants import STATIC_SCENE
from soilkit.errors import CheckpointError, ContractError, UnknownNameError
from soilkit.export.chips import ChipStore, Packing
from soilkit.units import normalised_difference


@dataclass(frozen=True)
class Index:
    """One number a pixel out of several bands' reflectance, held to [-1, 1]."""

    bands: tuple[str, ...]
    formula: Callable[..., np.ndarray]

    def __call__(self, *reflectance: np.ndarray) -> np.ndarray:
        """The index of the bands in their order; NaN where one is unknown, or nothing is seen."""
        with np.errstate(divide="ignore", invalid="ignore"):
            values = self.formula(*reflectance)
        return np.clip(np.where(np.isfinite(values), values, np.nan), -1, 1)


def _evi(infrared, red, blue):
    """2.5 (N - R) / (N + 6 R - 7.5 B + 1): Huete et al. (2002), doi:10.1016/S0034-4257(02)00096-2.

    Its denominator passes zero where blue light is scattered strongly, as by clouds and, in
    reflectance at the top of the atmosphere, by haze: hence the limits of ``Index``.
    """
    return 2.5 * (infrared - red) / (infrared + 6 * red - 7.5 * blue + 1)


INDICES = {
    row.name: {
        "NDVI": Index((row.colours["infrared"], row.colours["red"]), normalised_difference),
        "EVI": Index((row.colours["infrared"], row.colours["red"], row.colours["blue"]), _evi),
    }
    for row in sources.CATALOGUE
    if row.colours
}


# Which sources a model eats.

GROUPS = ("high", "low", "coarse")


def source_of(name: str) -> str:
    """The source of a channel: "sentinel2" of "sentinel2.NDVI"."""
    return name.partition(".")[0]


def distinct_sources(names: Sequence[str]) -> tuple[str, ...]:
    """The sources of channels, each once, in order."""
    return tuple(dict.fromkeys(map(source_of, names)))


@dataclass(frozen=True)
class Inputs:
    """Which channels ``source.band`` a model eats, in order; an empty group is not fed.

    An entry may be a source, which stands for the bands that the paper feeds, else for all
    continuous ones; or one band of a source, as "smap_l3_005.tb_v_corrected_am"; or a vegetation
    index of ``INDICES``, as "sentinel2.NDVI". A coarse entry is one scalar, the source's first
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
            names = tuple(n for entry in getattr(self, group) for n in _channels(entry, group))
            twice = sorted({n for n in names if names.count(n) > 1})
            if twice:
                raise ContractError(
                    f"{', '.join(twice)} stands twice among the {group} inputs. Name it once."
                )
            object.__setattr__(self, group, names)

    @property
    def channels(self) -> tuple[int, int, int]:
        """How many channels the high, the low and the coarse input have."""
        return len(self.high), len(self.low), len(self.coarse)

    @property
    def names(self) -> tuple[str, ...]:
        """Every channel, high, low, then coarse: what a checkpoint keeps."""
        return (*self.high, *self.low, *self.coarse)

    @property
    def channel_sources(self) -> tuple[str, ...]:
        """The source of every channel: what source dropout withholds together."""
        return tuple(map(source_of, self.names))

    @property
    def image_sources(self) -> tuple[str, ...]:
        """The distinct sources of the images, in order."""
        return distinct_sources((*self.high, *self.low))

    @property
    def source_names(self) -> tuple[str, ...]:
        """The distinct sources, in order."""
        return distinct_sources(self.names)

    def without(self, *source_names: str) -> "Inputs":
        """The same inputs but for all channels of some sources.

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
        kept = ((n for n in getattr(self, g) if source_of(n) not in source_names) for g in GROUPS)
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
        config, names = checkpoint.configuration, checkpoint.provenance.inputs
        first_low = config["high_channels"]
        first_coarse = first_low + config["low_channels"]
        return cls(names[:first_low], names[first_low:first_coarse], names[first_coarse:])

    def normalisation(self, statistics: Mapping[str, Sequence[float]]) -> dict[str, Any]:
        """Plain numbers by channel: the catalogue's constants, and mean and std of coarse ones."""
        rules: dict[str, Any] = {}
        for name in (*self.high, *self.low):
            source, _, band = name.partition(".")
            if band in INDICES.get(source, {}):
                rules[name] = {"Index": [-1, 1]}
                continue
            rule = sources.get(source).band(band).normalisation
            rules[name] = {type(rule).__name__: [*vars(rule).values()]} if rule else {"Stored": []}
        known = [name for name in self.coarse if name in statistics]
        return rules | {name: {"Standard": [*statistics[name]]} for name in known}


def _channels(entry: str, group: str) -> list[str]:
    """The channels that an entry of a group stands for."""
    source, _, band = entry.partition(".")
    row = sources.get(source)
    if row.resolution != group and not (group == "coarse" and row.resolution == "low"):
        raise ContractError(
            f"{entry} is a source of {row.resolution} resolution and cannot be a {group} input. "
            f"Move it to Inputs({row.resolution}=...)."
        )
    if not band:
        first = [next(b.name for b in row.bands if b.continuous)]
        return [f"{source}.{b}" for b in (first if group == "coarse" else row.fed)]
    is_index = group != "coarse" and band in INDICES.get(source, {})
    if not is_index and not row.band(band).continuous:
        raise ContractError(
            f"{entry} holds classes or flags, which are no amounts. Feed a continuous band."
        )
    return [entry]


# Coarse scalars: columns of the features in moisture, standardised.


def coarse_column(name: str) -> str:
    """The column of a coarse channel among the features: "smap_ssm" of "smap.ssm"."""
    return name.replace(".", "_", 1)


def coarse_values(features: pd.DataFrame, inputs: Inputs) -> np.ndarray:
    """Coarse scalars (sample, channel), m3 m-3, or physical where no layer's depth is known.

    Water depths are divided by their layer: SMAP's mm by 50, GLDAS's kg m-2 by 100
    (Batchu et al., 2b3).
    Raises ``ContractError`` when the features lack a column.
    """
    columns = []
    for name in inputs.coarse:
        column = coarse_column(name)
        if column not in features.columns:
            raise ContractError(
                f"The features have no column {column}; they have {', '.join(features.columns)}. "
                "Make it with features.from_series, or leave the source out of the inputs."
            )
        source, _, band_name = name.partition(".")
        band = sources.get(source).band(band_name)
        physical = features[column].to_numpy(float) * band.scale + band.offset
        columns.append(physical / band.layer_mm if band.layer_mm else physical)
    return np.column_stack(columns) if columns else np.empty((len(features), 0))


def coarse_statistics(features: pd.DataFrame, inputs: Inputs) -> dict[str, tuple[float, float]]:
    """{coarse channel: (mean, standard deviation)} of the training samples' ``coarse_values``."""
    statistics = {}
    for name, column in zip(inputs.coarse, coarse_values(features, inputs).T, strict=True):
        known = column[np.isfinite(column)]
        if len(known) < 2 or known.std() == 0:
            raise ContractError(
                f"{name} has {len(known)} known training values and no spread to standardise by. "
                "Leave the source out of the inputs."
            )
        statistics[name] = (float(known.mean()), float(known.std()))
    return statistics


def stored_statistics(
    normalisation: Mapping[str, Mapping[str, Any]], inputs: Inputs
) -> dict[str, tuple[float, float]]:
    """``coarse_statistics`` out of a checkpoint's normalisation, plain numbers by channel.

    Raises ``CheckpointError`` when the checkpoint holds none for a channel.
    """
    statistics = {}
    for name in inputs.coarse:
        pair = normalisation.get(name, {}).get("Standard")
        if pair is None or not np.isfinite(pair).all():
            raise CheckpointError(
                f"The checkpoint holds no mean and standard deviation of {name}; it normalises "
                f"{', '.join(normalisation) or 'nothing'}. Leave the source out, or train with it."
            )
        statistics[name] = (float(pair[0]), float(pair[1]))
    return statistics


# Packed crops to normalised tensors, by one look-up table a band.

ABSENT = -1  # the row of a sample that lacks the source
_KEPT_STATIC_CROPS = 512


class Images:
    """The images of one resolution, the channels side by side in the order of the inputs.

    ``rows`` are each sample's rows in the store by source, below 0 for an absent chip.
    """

    def __init__(
        self,
        store: ChipStore,
        names: Sequence[str],
        *,
        rows: Mapping[str, np.ndarray],
        crop_px: int,
        cache: bool,
    ):
        self.shape = (len(names), crop_px, crop_px)
        self.layers = []
        for source in distinct_sources(names):
            bands = {c: n.partition(".")[2] for c, n in enumerate(names) if source_of(n) == source}
            layer = Layer(store, source, rows=rows[source], bands=bands, crop_px=crop_px)
            layer.keep = len(layer.rows) if cache else layer.keep
            self.layers.append(layer)

    def batch(self, indices: Sequence[int]) -> torch.Tensor:
        """Crops of some samples, normalised, (sample, channel, row, col)."""
        out = torch.empty((len(indices), *self.shape))
        array = out.numpy()
        for n, i in enumerate(indices):
            for layer in self.layers:
                layer.write(i, array[n])
        return out


class Layer:
    """One source's crops: which row each sample reads, and how integers become network numbers.

    ``bands`` are the bands or indices by the channel of the network that they fill.
    """

    def __init__(
        self, store: ChipStore, source: str, *, rows: np.ndarray, bands: Mapping[int, str], crop_px
    ):
        self.rows, self.crop_px, self.channels = rows, crop_px, list(bands)
        self.keep = _KEPT_STATIC_CROPS if sources.get(source).is_static else 0
        self._kept: dict[int, np.ndarray] = {}
        if (rows < 0).all():
            return  # nothing is ever read, so the store may lack the source
        self.shards = store.shards(source)
        _check_fit(source, crop_px, size_px=self.shards.size_px)
        packing, have = store.packing(source), {b: n for n, b in enumerate(store.bands(source))}
        computed = INDICES.get(source, {})
        needed = [n for b in bands.values() for n in (computed[b].bands if b in computed else [b])]
        absent = dict.fromkeys(b for b in needed if b not in have)
        if absent:
            raise UnknownNameError(
                f"{store.path} holds of {source} the bands {', '.join(have)}; the inputs want "
                f"{', '.join(absent)} too. Build the store with them."
            )
        self.bands = [
            (c, have[b], _table(source, b, packing=packing))
            for c, b in bands.items()
            if b not in computed
        ]
        self.indices = [
            (c, computed[b], [have[n] for n in computed[b].bands])
            for c, b in bands.items()
            if b in computed
        ]
        band = next(b for b in sources.get(source).bands if b.continuous)
        self.reflectance = packing.table() * np.float32(band.scale) + np.float32(band.offset)

    def write(self, i: int, out: np.ndarray) -> None:
        """Fill the source's channels of ``out`` (channel, row, col) float32 with sample ``i``."""
        row = int(self.rows[i])
        if row < 0:
            out[self.channels] = np.nan
            return
        packed = self._packed(row).view("<u2")
        for channel, band, table in self.bands:
            np.take(table, packed[band], out=out[channel], mode="clip")
        for channel, index, bands in self.indices:
            out[channel] = np.nan_to_num(index(*self.reflectance[packed[bands]]), nan=0.0)

    def _packed(self, row: int) -> np.ndarray:
        if row in self._kept:
            return self._kept[row]
        packed = self.shards.read(row, crop_px=self.crop_px)
        if len(self._kept) < self.keep:
            self._kept[row] = packed
        return packed


def chip_rows(store: ChipStore, source: str, *, samples: Any, allow_missing: bool) -> np.ndarray:
    """The row of each sample's chip in the store, ``ABSENT`` where the sample names no scene.

    Raises ``ContractError`` when samples name no scene and ``allow_missing`` is false, and
    ``SceneNotFoundError`` when the store lacks a chip of a scene that a sample names.
    """
    column = f"{source}_scene"
    if column not in samples:
        static = [STATIC_SCENE] * len(samples)
        return store.rows(source, static, station_ids=samples["station_id"])
    scenes = samples[column].astype(object)
    named = (scenes.notna() & (scenes.astype(str) != "")).to_numpy()
    if not named.all() and not allow_missing:
        raise ContractError(
            f"{int((~named).sum())} of {len(named)} samples have no {source} scene. Leave these "
            "samples out, or train with a source_dropout."
        )
    rows = np.full(len(samples), ABSENT, np.int64)
    stations = samples["station_id"][named]
    rows[named] = store.rows(source, scenes[named], station_ids=stations)
    return rows


def _check_fit(source: str, crop_px: int, *, size_px: int) -> None:
    if crop_px > size_px:
        size_m = crop_px * (160 if sources.get(source).resolution == "low" else 10)
        raise ContractError(
            f"A crop of {crop_px} pixels does not fit {source}'s chips of {size_px}. Lower crop_px "
            f"(a margin for rotation counts), or build chips of size_px={size_m // 10} or more."
        )


@lru_cache(maxsize=64)
def _table(source: str, band: str, *, packing: Packing) -> np.ndarray:
    """The normalised value of every packed integer, (65536,) float32, unknown 0."""
    rule = sources.get(source).band(band).normalisation
    values = packing.table().astype(np.float64)
    scaled = values if rule is None else rule(values)
    return np.nan_to_num(scaled, nan=0.0).astype(np.float32)

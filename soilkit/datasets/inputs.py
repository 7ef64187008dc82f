"""Which sources a model eats, and how their numbers are brought to its range."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from soilkit import sources
from soilkit.datasets.indices import INDICES
from soilkit.errors import ContractError
from soilkit.sources import Band

# The six bands of nine that the network eats, in its order (seed 001, Table 3).
FED = {"sentinel2": ("B4", "B3", "B2", "B8", "B11", "B12")}


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
        return FED.get(source) or tuple(b.name for b in sources.get(source).bands if b.continuous)

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
    def from_checkpoint(cls, checkpoint: Any) -> "Inputs":
        """The inputs of the model in a checkpoint of ``XceptionFusion``."""
        config = checkpoint.configuration
        ends = np.cumsum([config["high_channels"], config["low_channels"], config["coarse"]])
        names = list(checkpoint.inputs)
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

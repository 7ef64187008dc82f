"""Which sources a model eats, and how their numbers are brought to its range."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from soilkit import sources
from soilkit.errors import ContractError
from soilkit.sources import Band

# The six bands of nine that the network eats, in its order (seed 001, Table 3).
FED = {"sentinel2": ("B4", "B3", "B2", "B8", "B11", "B12")}


@dataclass(frozen=True)
class Inputs:
    """Which sources a model eats, in order; an empty group is not fed.

    Examples
    --------
    >>> inputs = Inputs(high=("sentinel1", "dem"), low=(), coarse=("smap",))
    >>> inputs.names
    ('sentinel1.VV', 'sentinel1.VH', 'sentinel1.angle', 'dem.elevation', 'smap.ssm')
    >>> inputs.channels
    (4, 0, 1)
    """

    high: tuple[str, ...] = ("sentinel1", "sentinel2", "dem")
    low: tuple[str, ...] = ("soilgrids",)
    coarse: tuple[str, ...] = ("smap", "gldas")

    def __post_init__(self) -> None:
        for group in ("high", "low", "coarse"):
            object.__setattr__(self, group, tuple(getattr(self, group)))
            for name in getattr(self, group):
                found = sources.get(name).resolution
                if found != group:
                    raise ContractError(
                        f"{name} is a source of {found} resolution and cannot be a {group} input. "
                        f"Move it to Inputs({found}=...)."
                    )

    @staticmethod
    def bands(source: str) -> tuple[str, ...]:
        """The bands of a source that are fed: the paper's choice, else all continuous ones."""
        row = sources.get(source)
        return FED.get(source) or tuple(b.name for b in row.bands if b.continuous)

    @property
    def channels(self) -> tuple[int, int, int]:
        """How many channels the high, the low and the coarse input have."""
        high, low = (sum(len(self.bands(s)) for s in g) for g in (self.high, self.low))
        return high, low, len(self.coarse)

    @property
    def names(self) -> tuple[str, ...]:
        """``source.band`` of every channel, high, low, then coarse: what a checkpoint keeps."""
        images = [f"{s}.{b}" for s in (*self.high, *self.low) for b in self.bands(s)]
        return (*images, *(f"{s}.{coarse_band(s).name}" for s in self.coarse))

    def normalisation(self, statistics: Mapping[str, Sequence[float]]) -> dict[str, Any]:
        """Plain numbers by channel: the catalogue's constants, and mean and std of coarse ones."""
        found: dict[str, Any] = {}
        for source in (*self.high, *self.low):
            for name in self.bands(source):
                rule = sources.get(source).band(name).normalisation
                found[f"{source}.{name}"] = {type(rule).__name__: list(vars(rule).values())}
        for source in self.coarse:
            mean, std = statistics[source]
            found[f"{source}.{coarse_band(source).name}"] = {"Standard": [mean, std]}
        return found


def coarse_band(source: str) -> Band:
    """The band that stands for a coarse source."""
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
    for source in inputs.coarse:
        band = coarse_band(source)
        name = f"{source}_{band.name}"
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
    {source: (mean, std)} in the units of ``coarse_values``
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

"""A region's layers, brought to what a model eats."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from soilkit import sources
from soilkit.contracts import Grid
from soilkit.datasets import INDICES, Inputs, coarse_band, coarse_values, source_of
from soilkit.errors import ContractError

LOW_PIXEL_RATIO = 16  # a 160 m pixel is 16 pixels of 10 m


@dataclass(frozen=True)
class Scene:
    """A region's layers, normalised as in training, NaN where there is none.

    Parameters
    ----------
    grid : Grid
        Of the high-resolution layers (10 m); also needed where there are none.
    high : array (band, row, col) or None
    low : array (band, row / 16, col / 16) or None
        160 m pixels from the same north-west corner.
    coarse : array (scalar,) or (scalar, row, col) or None
        One value for the region, or a raster of any pixel size over the grid's bounds, read at each
        window's centre.

    Raises
    ------
    ContractError
        When shapes and grid disagree.
    """

    grid: Grid
    high: np.ndarray | None = None
    low: np.ndarray | None = None
    coarse: np.ndarray | None = None

    def __post_init__(self) -> None:
        shape = (self.grid.height, self.grid.width)
        low_shape = tuple(-(-side // LOW_PIXEL_RATIO) for side in shape)
        for name, values, wanted in (("high", self.high, shape), ("low", self.low, low_shape)):
            if values is not None and values.shape[1:] != wanted:
                raise ContractError(
                    f"The scene's {name} layers have rows and columns {values.shape[1:]}; its grid "
                    f"of {shape} pixels wants {wanted}. Cut both over the same bounds."
                )


def scene_from_layers(
    layers: Mapping[str, np.ndarray],
    *,
    grid: Grid,
    inputs: Inputs,
    statistics: Mapping[str, Sequence[float]] | None = None,
) -> Scene:
    """Normalise what ``render`` or an archive returned, as ``ChipDataset`` does in training.

    Parameters
    ----------
    layers : {source: array}
        Stored values of each source that is fed: (band, row, col) with all bands of the catalogue,
        in its order. A coarse source may be one number, or (row, col), or (band, row, col).
    grid : Grid, of the high-resolution layers
    inputs : Inputs, those of the training
    statistics : {source: (mean, std)}, those of the training; needed with coarse sources

    Raises
    ------
    ContractError
        When a layer or a statistic is missing, or coarse rasters differ in shape.
    """
    missing = sorted(set(inputs.source_names) - layers.keys()) + sorted(
        set(inputs.coarse) - set(statistics or {})
    )
    if missing:
        raise ContractError(
            f"The scene lacks {', '.join(missing)} (a layer, or a coarse source's mean and std); "
            f"the inputs are {', '.join(inputs.names)}. Hand in all of them."
        )
    high, low = (_images(layers, names) for names in (inputs.high, inputs.low))
    return Scene(grid, high, low, _coarse(layers, inputs, statistics or {}))


def _images(layers: Mapping[str, np.ndarray], names: Sequence[str]) -> np.ndarray | None:
    found = []
    for entry in names:
        source = source_of(entry)
        for band in Inputs.bands(entry):
            found.append(_channel(layers[source], source, band=band).astype(np.float32))
    return np.stack(found) if found else None  # (band, row, col)


def _channel(layer: np.ndarray, source: str, *, band: str) -> np.ndarray:
    """One channel of a source's stored values, (row, col): a band normalised, or an index."""
    bands = sources.get(source).bands
    have = [b.name for b in bands]
    index = INDICES.get(source, {}).get(band)
    if index is not None:
        places = [have.index(b) for b in index.bands]
        return index(*(layer[p] * bands[p].scale + bands[p].offset for p in places))
    values = np.asarray(layer[have.index(band)], dtype=np.float64)
    rule = sources.get(source).band(band).normalisation
    return values if rule is None else rule(values)


def _scalar(layers, entry: str) -> np.ndarray:
    """One coarse entry, (row, col) or one number."""
    values = np.asarray(layers[source_of(entry)], dtype=float)
    if values.ndim < 3:
        return values
    have = [band.name for band in sources.get(source_of(entry)).bands]
    return values[have.index(coarse_band(entry).name)]


def _coarse(layers, inputs: Inputs, statistics) -> np.ndarray | None:
    if not inputs.coarse:
        return None
    rasters = [_scalar(layers, entry) for entry in inputs.coarse]
    if len({r.shape for r in rasters}) > 1:
        raise ContractError(
            f"The coarse layers have shapes {', '.join(str(r.shape) for r in rasters)}. "
            "Bring them to one grid over the scene's bounds, or hand in one number each."
        )
    columns = [name.replace(".", "_") for name in inputs.names[-len(inputs.coarse) :]]
    flat = pd.DataFrame({c: r.ravel() for c, r in zip(columns, rasters, strict=True)})
    mean, std = np.array([statistics[name] for name in inputs.coarse], dtype=float).T
    z = (coarse_values(flat, inputs) - mean) / std  # (pixel, source)
    return z.T.reshape(len(inputs.coarse), *rasters[0].shape).astype(np.float32)

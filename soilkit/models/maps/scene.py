"""A region's layers as a model eats them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from soilkit import sources
from soilkit.constants import PIXEL_RATIO
from soilkit.contracts import Archive, Chip, Grid
from soilkit.errors import ContractError, SceneNotFoundError
from soilkit.export.chips.requests import Planner
from soilkit.models.inputs import INDICES, Inputs, coarse_column, coarse_values


@dataclass(frozen=True)
class Scene:
    """A region's layers, normalised as in training, NaN where there is none.

    Parameters
    ----------
    grid : Grid of the finest layers (10 m); also needed where there are none
    images : {input: array (band, row, col)} on the grid, or coarser from the same NW corner
    scalars : {input: array (scalar,) or (scalar, row, col)}, one value for the region, or a raster
        of any pixel size over the grid's bounds, read at each window's centre
    ratios : {input: int}, how many of the grid's pixels make a side of one of an image's, else 1

    Raises
    ------
    ContractError
        When shapes and grid disagree.
    """

    grid: Grid
    images: Mapping[str, np.ndarray] = field(default_factory=dict)
    scalars: Mapping[str, np.ndarray] = field(default_factory=dict)
    ratios: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = (self.grid.height, self.grid.width)
        for name, values in self.images.items():
            wanted = tuple(-(-side // self.ratio(name)) for side in shape)
            if values.shape[1:] != wanted:
                raise ContractError(
                    f"The scene's {name} layers have rows and columns {values.shape[1:]}; its grid "
                    f"of {shape} pixels wants {wanted}. Cut both over the same bounds."
                )

    def ratio(self, name: str) -> int:
        """How many of the grid's pixels make a side of one of an image's."""
        return self.ratios.get(name, 1)


def scene_of(
    region: Mapping[str, Any],
    *,
    inputs: Inputs,
    statistics: Mapping[str, Sequence[float]] | None = None,
    grid: Grid | None = None,
) -> Scene:
    """Normalise a region's layers as ``ChipDataset`` does in training.

    Parameters
    ----------
    region : {source: layer}, a ``Chip`` of stored values with the bands that it names, or with all
        of the catalogue in its order; or for a coarse source a number, or array (row, col)
    inputs : Inputs, those of the training
    statistics : {coarse channel: (mean, std)}, those of the training
    grid : Grid of 10 m; by default that of the finest chip

    Raises
    ------
    ContractError
        When a layer or a statistic is missing, no layer is a chip, or coarse rasters differ in
        shape.
    """
    statistics = statistics or {}
    missing = sorted(set(inputs.source_names) - region.keys())
    missing += sorted(set(inputs.coarse) - statistics.keys())
    if missing:
        raise ContractError(
            f"The scene lacks {', '.join(missing)} (a layer, or a coarse channel's mean and std); "
            f"the inputs are {', '.join(inputs.names)}. Hand in all of them."
        )
    cut = [layer.grid for layer in region.values() if isinstance(layer, Chip)]
    if not cut and grid is None:
        raise ContractError("The region holds numbers only: hand at least one chip of 10 m pixels.")
    grid = grid or min(cut, key=lambda grid: grid.pixel_size_m)
    layers = {
        name: layer if isinstance(layer, Chip) else np.asarray(layer, float)
        for name, layer in region.items()
    }
    fed = {name: channels for name in ("high", "low") if (channels := getattr(inputs, name))}
    images = {
        name: np.stack([_channel(layers, channel) for channel in channels])  # (band, row, col)
        for name, channels in fed.items()
    }
    scalars = {"coarse": _coarse(layers, inputs, statistics)} if inputs.coarse else {}
    return Scene(grid, images, scalars, {"low": PIXEL_RATIO})


def _band(chip: Chip, source: str, band: str) -> np.ndarray:
    """A band of a chip, stored values (row, col) float64."""
    names = chip.bands or [b.name for b in sources.get(source).bands]
    return chip.values[names.index(band)].astype(float)


def _channel(layers: Mapping[str, Any], name: str) -> np.ndarray:
    """One channel of an image, (row, col) float32: a band normalised, or an index."""
    source, _, band = name.partition(".")
    row, chip = sources.get(source), layers[source]
    index = INDICES.get(source, {}).get(band)
    if index is not None:
        physical = [row.band(b).physical(_band(chip, source, b)) for b in index.bands]
        return index(*physical).astype(np.float32)
    values, rule = _band(chip, source, band), row.band(band).normalisation
    return (values if rule is None else rule(values)).astype(np.float32)


def _coarse(layers: Mapping[str, Any], inputs: Inputs, statistics) -> np.ndarray:
    """Standardised scalars (channel,), or rasters (channel, row, col)."""
    rasters = []
    for name in inputs.coarse:
        source, _, band = name.partition(".")
        layer = layers[source]
        rasters.append(_band(layer, source, band) if isinstance(layer, Chip) else layer)
    if len({r.shape for r in rasters}) > 1:
        raise ContractError(
            f"The coarse layers have shapes {', '.join(str(r.shape) for r in rasters)}. "
            "Bring them to one grid over the scene's bounds, or hand in one number each."
        )
    columns = map(coarse_column, inputs.coarse)
    flat = pd.DataFrame({c: r.ravel() for c, r in zip(columns, rasters, strict=True)})
    mean, std = np.transpose([statistics[name] for name in inputs.coarse])
    z = (coarse_values(flat, inputs) - mean) / std  # (pixel, channel)
    return z.T.reshape(len(inputs.coarse), *rasters[0].shape).astype(np.float32)


# The layers of a region around a station: the scenes that the join chose, cut wider.


def region_chips(
    sample: Any, archive: Archive, *, stations: Any, inputs: Inputs, size_px: int
) -> dict[str, Chip]:
    """The image layers around a sample's station, of the very scenes that the join chose for it.

    Parameters
    ----------
    sample : samples table of one row, joined with this archive
    archive, stations : those of the join; stations as of their contract
    inputs : Inputs, whose high and low sources are cut
    size_px : int, pixels of 10 m a side; low-resolution layers cover the same ground at 160 m

    Returns
    -------
    {source: Chip} with all bands of the catalogue, stored values

    Raises
    ------
    ContractError
        When the table holds another number of samples than one.
    SceneNotFoundError
        When the archive has no such chip; it says why.
    """
    if len(sample) != 1:
        raise ContractError(
            f"A region is cut for one sample at a time, found {len(sample)}. Hand one row."
        )
    planner = Planner(sample, stations, size_px=size_px, version=archive.version)
    wanted = {name: [b.name for b in sources.get(name).bands] for name in inputs.image_sources}
    cut = {}
    for request, answer in archive.chips(planner.requests(wanted)):
        if not isinstance(answer, Chip):
            raise SceneNotFoundError(
                f"No {request.source} over the region around {request.station_id}: "
                f"{answer.reason}. Choose another sample, or a smaller region."
            )
        cut[request.source] = answer
    return {name: cut[name] for name in inputs.image_sources}

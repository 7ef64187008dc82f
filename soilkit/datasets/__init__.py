"""Samples as tensors: normalised centre crops, coarse scalars and the label, shuffled by seed."""

from soilkit.datasets.chip_dataset import Batch, ChipDataset
from soilkit.datasets.indices import INDICES
from soilkit.datasets.inputs import (
    FED,
    Inputs,
    coarse_band,
    coarse_statistics,
    coarse_values,
    source_of,
)
from soilkit.datasets.loading import EpochOrder, make_loader

__all__ = [
    "FED",
    "INDICES",
    "Batch",
    "ChipDataset",
    "EpochOrder",
    "Inputs",
    "coarse_band",
    "coarse_statistics",
    "coarse_values",
    "make_loader",
    "source_of",
]

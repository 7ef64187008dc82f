"""Samples as tensors: normalised centre crops, coarse scalars and the label, shuffled by seed."""

from soilkit.datasets.chip_dataset import Batch, ChipDataset
from soilkit.datasets.inputs import FED, Inputs, coarse_statistics, coarse_values
from soilkit.datasets.loading import EpochOrder, make_loader

__all__ = [
    "FED",
    "Batch",
    "ChipDataset",
    "EpochOrder",
    "Inputs",
    "coarse_statistics",
    "coarse_values",
    "make_loader",
]

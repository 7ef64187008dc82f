"""A chip store and a samples table as a torch dataset."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset

from soilkit.chips import ChipStore
from soilkit.datasets.inputs import Inputs, coarse_statistics, coarse_values
from soilkit.datasets.layers import Layer, images
from soilkit.errors import ContractError

PIXEL_RATIO = 16  # 160 m over 10 m


class Batch(NamedTuple):
    """(B, Chigh, row, col), (B, Clow, row, col), (B, Ccoarse), (B,) m3 m-3; None where not fed."""

    high: torch.Tensor | None
    low: torch.Tensor | None
    coarse: torch.Tensor | None
    moisture: torch.Tensor

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on a device."""
        high, low, coarse = (
            None if t is None else t.to(device, non_blocking=True) for t in self[:3]
        )
        return Batch(high, low, coarse, self.moisture.to(device, non_blocking=True))


class ChipDataset(Dataset):
    """Samples of a chip store as (high, low, coarse, moisture), in the order of the table.

    High and low hold the centre of each chip, normalised by the catalogue; what is unknown becomes
    0, the middle of the range. A crop never leaves the centre, where the label was measured.

    Parameters
    ----------
    samples : samples table, as ``chips.build`` returned it
    features : features table with the coarse columns, matched by sample_id; None without coarse
    store : open chip store
    inputs : Inputs
    crop_px : int, pixels of 10 m a side; more than 256 leaves a margin for rotation
    statistics : from ``coarse_statistics`` of the *training* samples; None takes these samples
    cache : whether to keep packed crops in memory once read, for sets that fit

    Raises
    ------
    SceneNotFoundError
        When the store lacks a chip.
    ContractError
        When the crop is larger than the chips, or a table lacks what is fed.
    """

    def __init__(
        self,
        samples: pd.DataFrame,
        features: pd.DataFrame | None,
        store: ChipStore,
        *,
        inputs: Inputs,
        crop_px: int = 256,
        statistics: Mapping[str, Sequence[float]] | None = None,
        cache: bool = False,
    ):
        self.inputs, self.crop_px = inputs, crop_px
        self.sample_ids = samples["sample_id"].astype(str).to_numpy()
        self.moisture = samples["soil_moisture_m3_m3"].to_numpy(np.float32)
        self._high = [Layer(store, s, samples, crop_px=crop_px) for s in inputs.high]
        low_px = 2 * -(-crop_px // (2 * PIXEL_RATIO))
        self._low = [Layer(store, s, samples, crop_px=low_px) for s in inputs.low]
        for layer in (*self._high, *self._low):
            layer.keep = len(layer.rows) if cache else layer.keep
        self.statistics, self._coarse = self._standardised(features, statistics)

    def __len__(self) -> int:
        return len(self.sample_ids)

    def __getitem__(self, i: int) -> Batch:
        """One sample, as a batch without its first axis."""
        high, low, coarse = (None if t is None else t[0] for t in self.__getitems__([i])[:3])
        return Batch(high, low, coarse, torch.tensor(self.moisture[i]))

    def __getitems__(self, indices: list[int]) -> Batch:
        """A whole batch at once, each crop written straight into its place."""
        coarse = torch.from_numpy(self._coarse[indices]) if self.inputs.coarse else None
        moisture = torch.from_numpy(self.moisture[indices])
        return Batch(images(self._high, indices), images(self._low, indices), coarse, moisture)

    @property
    def normalisation(self) -> dict[str, Any]:
        """Plain numbers by channel, for the checkpoint."""
        return self.inputs.normalisation(self.statistics)

    def _standardised(self, features, statistics):
        if not self.inputs.coarse:
            return {}, np.empty((len(self), 0), np.float32)
        table = _matched(features, self.sample_ids)
        statistics = dict(statistics or coarse_statistics(table, self.inputs))
        pairs = np.array([statistics[s] for s in self.inputs.coarse])  # (source, mean and std)
        z = (coarse_values(table, self.inputs) - pairs[:, 0]) / pairs[:, 1]
        return statistics, np.nan_to_num(z).astype(np.float32)


def _matched(features, sample_ids) -> pd.DataFrame:
    if features is None:
        raise ContractError("Coarse inputs need a features table. Hand one, or Inputs(coarse=()).")
    rows = pd.Index(features["sample_id"].astype(str)).get_indexer(sample_ids)
    if (rows < 0).any():
        raise ContractError(
            f"The features lack {int((rows < 0).sum())} of the samples, such as "
            f"{sample_ids[int((rows < 0).argmax())]}. Make them from the same samples."
        )
    return features.iloc[rows]

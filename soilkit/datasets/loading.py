"""Batches in an order that is a function of a seed and an epoch."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from soilkit.datasets.chip_dataset import ChipDataset
from soilkit.errors import ContractError


class EpochOrder(Sampler[int]):
    """Indices of a dataset, the order of each epoch a function of (seed, epoch) alone."""

    def __init__(self, n: int, *, shuffle: bool, seed: int):
        self.n, self.shuffle, self.seed, self.epoch = n, shuffle, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next pass gives."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[int]:
        if not self.shuffle:
            return iter(range(self.n))
        words = np.random.SeedSequence([self.seed, self.epoch]).generate_state(1)
        generator = torch.Generator().manual_seed(int(words[0]))
        return iter(torch.randperm(self.n, generator=generator).tolist())


def make_loader(
    dataset: ChipDataset,
    *,
    batch_size: int,
    shuffle: bool,
    generator: torch.Generator | None = None,
    workers: int = 0,
) -> DataLoader:
    """A loader of whole batches; a shuffled one leaves the last, smaller batch out of each epoch.

    The order of an epoch is a function of the generator's initial seed and of
    ``loader.sampler.set_epoch(epoch)``, so that a resumed run meets the same batches.

    Parameters
    ----------
    dataset : ChipDataset
    batch_size : int
    shuffle : bool
    generator : torch.Generator, whose initial seed decides; required to shuffle
    workers : int, processes that read
    """
    if shuffle and generator is None:
        raise ContractError("A shuffled loader needs a generator. Hand torch.Generator() seeded.")
    seed = 0 if generator is None else generator.initial_seed()
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=EpochOrder(len(dataset), shuffle=shuffle, seed=seed),
        drop_last=shuffle and len(dataset) >= batch_size,
        num_workers=workers,
        collate_fn=_as_is,
        persistent_workers=workers > 0,
        generator=torch.Generator().manual_seed(seed),
    )


def _as_is(batch: Any) -> Any:
    return batch

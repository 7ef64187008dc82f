"""Several processes, one run, every batch shared; and what to do out of memory."""

import contextlib
import errno
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset

from soilkit.errors import ContractError

Batch = Mapping[str, torch.Tensor]  # named tensors (B, ...), one sample a first index
Answer = TypeVar("Answer")

# How allocators, libraries and the loader's workers say it, where the type of the error does not.
SHORTAGES = (
    "out of memory", "allocate memory", "bad_alloc", "ALLOC_FAILED", "unable to mmap", "Bus error",
    "is killed by signal: Killed",
)  # fmt: skip


@contextlib.contextmanager
def memory_advice() -> Iterator[None]:
    """Running out of memory, in whatever words, as a ``MemoryError`` that says what to change."""
    try:
        yield
    except (RuntimeError, OSError, MemoryError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        is_shortage = isinstance(error, torch.OutOfMemoryError | MemoryError)
        is_shortage |= getattr(error, "errno", None) == errno.ENOMEM
        if not is_shortage and not any(words in str(error) for words in SHORTAGES):
            raise
        raise MemoryError(
            f"A batch does not fit into memory ({reason}). Halve batch_size, halve crop_px, choose "
            'preset="small" or precision="bfloat16", or lower the loader\'s workers.'
        ) from error


def batch_size(batch: Batch) -> int:
    """How many samples a batch holds."""
    return len(next(iter(batch.values()), ()))


# Settings of a loader that its part in a process has too.
KEPT = (
    "num_workers", "collate_fn", "pin_memory", "timeout", "worker_init_fn",
    "multiprocessing_context", "prefetch_factor", "persistent_workers",
)  # fmt: skip


class Team:
    """The processes of ``torch.distributed``, or this one alone when it is not initialised."""

    def __init__(self) -> None:
        together = dist.is_available() and dist.is_initialized()
        self.rank, self.size = (dist.get_rank(), dist.get_world_size()) if together else (0, 1)

    @property
    def leads(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    @property
    def stream(self) -> tuple[int, ...]:
        """What parts this process's random numbers from the others'; nothing for the leader."""
        return (self.rank,) if self.rank else ()

    def wrap(self, model: torch.nn.Module) -> torch.nn.Module:
        """The model with the leader's weights, averaged gradients and batch norms over all samples.

        Raises ``ContractError`` for batch norms on the CPU, where torch cannot share them.
        """
        if self.size == 1:
            return model
        device = next(model.parameters()).device
        if device.type == "cpu" and any(isinstance(m, _BatchNorm) for m in model.modules()):
            raise ContractError(
                f"{type(model).__name__} has batch norms, which {self.size} processes share on "
                "GPUs only. Move the model to a GPU, or train in one process."
            )
        model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)
        devices = None if device.type == "cpu" else [device.index]
        return DistributedDataParallel(model, device_ids=devices)

    def pool(self, error: torch.Tensor, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean error of ``n`` samples here: what to descend, and the whole batch's mean.

        The processes' gradients are averaged, so parts of unequal size are weighted.
        """
        if self.size == 1:
            return error, error.detach()
        sums = torch.stack([error.detach().double() * n, error.new_tensor(n).double()])
        dist.all_reduce(sums)
        return error * float(n * self.size / sums[1]), sums[0] / sums[1]

    def gather(self, parts: list[np.ndarray]) -> list[np.ndarray]:
        """Whole batches, in the loader's order, from every process's parts of them."""
        if self.size == 1:
            return parts
        shares: list[Any] = [None] * self.size
        dist.all_gather_object(shares, parts)
        batches = []
        for b in range(len(shares[0])):
            pieces = [share[b] for share in shares if b < len(share)]
            whole = np.concatenate(pieces)
            for rank, piece in enumerate(pieces):
                whole[rank :: self.size] = piece
            batches.append(whole)
        return batches

    def from_leader(self, call: Callable[[], Answer]) -> Answer:
        """What the leader's call gives or raises, in every process."""
        if self.size == 1:
            return call()
        answer: list[Any] = [None]
        if self.leads:
            try:
                answer = [call()]
            except Exception as error:
                answer = [error]
        dist.broadcast_object_list(answer, src=0)
        if isinstance(answer[0], Exception):
            raise answer[0]
        return answer[0]

    def wait(self) -> None:
        """Go on when all have come here, so that what the leader wrote can be read."""
        if self.size > 1:
            dist.barrier()

    def share(self, loader: Any, *, every_step: bool) -> Any:
        """The loader, giving every ``size``-th sample of each batch, from the ``rank``-th on.

        Of a torch ``DataLoader`` only those samples are read; of other iterables the batches are
        cut. ``every_step`` refuses a batch that does not reach all processes: training needs each.
        """
        if self.size == 1:
            return loader
        if isinstance(getattr(loader, "sampler", None), DistributedSampler):
            raise ContractError(
                "The loader shares its samples by a DistributedSampler; fit does that itself. "
                "Hand the loader of the whole data, the same in every process."
            )
        is_indexed = isinstance(loader, DataLoader) and loader.batch_sampler is not None
        if not is_indexed or isinstance(loader.dataset, IterableDataset):
            return Parts(loader, self, every_step=every_step)
        kept = {name: getattr(loader, name) for name in KEPT}
        parts = Parts(loader.batch_sampler, self, every_step=every_step)
        return DataLoader(loader.dataset, batch_sampler=parts, **kept)


class Parts:
    """A process's part of each batch, or of each list of indices of a batch sampler."""

    def __init__(self, whole: Any, team: Team, *, every_step: bool):
        self.whole, self.team, self.every_step = whole, team, every_step

    def __len__(self) -> int:
        return len(self.whole)

    def __iter__(self) -> Iterator[Any]:
        rank, size = self.team.rank, self.team.size
        for batch in self.whole:
            n = batch_size(batch) if isinstance(batch, Mapping) else len(batch)
            if self.every_step and n < size:
                raise ContractError(
                    f"A training batch of {n} samples cannot be shared by {size} processes. "
                    "Raise batch_size, or give the loader drop_last=True."
                )
            if n <= rank:
                continue
            if isinstance(batch, Mapping):
                yield {name: part[rank::size] for name, part in batch.items()}
            else:
                yield batch[rank::size]

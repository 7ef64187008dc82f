"""Several processes, one run; what makes a step fast; and what to do out of memory."""

import contextlib
import errno
import logging
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset

from soilkit.errors import ContractError

Batch = Mapping[str, torch.Tensor]  # named tensors (B, ...), one sample a first index

# How allocators, libraries and the loader's workers say it, where the type of the error does not.
SAYINGS = (
    "out of memory",
    "allocate memory",
    "bad_alloc",
    "ALLOC_FAILED",
    "unable to mmap",
    "Bus error",
    "is killed by signal: Killed",
)


class MemoryAdvice:
    """Turns running out of memory into a ``MemoryError`` that names batch, preset, crop, precision.

    Used around a loop; ``batch`` is the one at work.
    """

    def __init__(self, model: torch.nn.Module, *, precision: str = "float32"):
        self.model, self.precision = model, precision
        self.batch: Batch = {}

    def __enter__(self) -> "MemoryAdvice":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None and is_shortage(error):
            raise MemoryError(self.message(error)) from error

    def message(self, error: BaseException) -> str:
        """What did not fit where, and what to change, the largest saving first."""
        device = next(self.model.parameters()).device
        reason = (str(error) or type(error).__name__).splitlines()[0]
        samples, crop_px = self._sizes()
        what = f"A batch of {samples}" if samples else "A batch"
        what += f" with crops of {crop_px} pixels" if crop_px else ""
        smaller = f" to {max(samples // 2, 1)}" if samples else ""
        advice = [f"Halve batch_size{smaller}"]
        if crop_px:
            advice.append(f"set crop_px={max(crop_px // 2, 1)} (a quarter of the pixels)")
        configuration = getattr(self.model, "configuration", {})
        if configuration.get("preset", "paper") != "small":
            advice.append('choose preset="small"')
        if self.precision == "float32":
            advice.append('choose precision="bfloat16"')
        if "worker" in reason or "mmap" in reason or "Bus error" in reason:
            advice.append("lower the loader's workers")
        return f"{what} does not fit into {_memory_of(device)} ({reason}). {', or '.join(advice)}."

    def _sizes(self) -> tuple[int, int]:
        """Samples of the batch at work and the side of its largest images; 0 where unknown."""
        sides = [part.shape[-1] for part in self.batch.values() if part.ndim == 4]
        return batch_size(self.batch), max(sides, default=0)


def batch_size(batch: Batch) -> int:
    """How many samples a batch holds."""
    return len(next(iter(batch.values()), ()))


def is_shortage(error: BaseException) -> bool:
    """Whether an error says that memory ran out, in whatever words."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(word in str(error) for word in SAYINGS)


def _memory_of(device: torch.device) -> str:
    if device.type != "cuda":
        return "this machine's memory"
    free, total = torch.cuda.mem_get_info(device)
    return f"the GPU's {total / 2**30:.1f} GiB, of which {free / 2**30:.1f} are free"


# What makes a step fast on the hardware at hand, each a choice of ``Settings``, none by default.

log = logging.getLogger("soilkit.models.training")


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Mixed precision where ``dtype`` is not float32."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def compiled(
    model: torch.nn.Module, *, mode: bool | str, device: torch.device
) -> Callable[..., torch.Tensor]:
    """The model through ``torch.compile``; itself where not wanted, or where nothing can compile.

    Parameters
    ----------
    model : module
    mode : False, True ("default"), or a mode of ``torch.compile`` such as "reduce-overhead", which
        replays CUDA graphs
    device : where the model is
    """
    if not mode or not can_compile(device.type):
        return model
    from torch._inductor import config as inductor

    inductor.fallback_random = True  # the same draws as uncompiled: a run may resume either way
    return torch.compile(model, mode="default" if mode is True else mode, dynamic=False)


@lru_cache(maxsize=4)
def can_compile(device_type: str) -> bool:
    """Whether ``torch.compile`` works: a C++ compiler for the CPU, Triton for a GPU.

    Tried once on a sum; where it fails a warning says why, and training goes on uncompiled.
    """
    try:
        torch.compile(_probe)(torch.ones(8, device=device_type))
    except Exception as error:  # whatever a toolchain may raise
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        log.warning(
            "torch.compile does not work here (%s): going on without. Install a C++ compiler "
            "(Triton for a GPU), or leave compile=False.",
            why,
        )
        return False
    return True


def _probe(x: torch.Tensor) -> torch.Tensor:
    return (x + 1).sum()


def move(device: torch.device, batch: Batch, *, channels_last: bool = False) -> Batch:
    """A batch's tensors on the device, images with the channels innermost where asked for."""
    return {n: _moved(part, device, channels_last=channels_last) for n, part in batch.items()}


def _moved(part: torch.Tensor, device: torch.device, *, channels_last: bool) -> torch.Tensor:
    if device.type == "cuda" and part.device.type == "cpu" and not part.is_pinned():
        part = part.pin_memory()  # only pinned memory is copied in the background
    part = part.to(device, non_blocking=True)
    if channels_last and part.ndim == 4:
        part = part.contiguous(memory_format=torch.channels_last)
    return part


def ahead(
    batches: Iterator[tuple[int, Any]], device: torch.device, *, channels_last: bool
) -> Iterator[tuple[int, Batch]]:
    """(step, batch on the device); on a GPU the next one travels while this one is learnt from."""
    if device.type != "cuda":
        for step, batch in batches:
            yield step, move(device, batch, channels_last=channels_last)
        return
    stream = torch.cuda.Stream(device)
    waiting = None
    for step, batch in batches:
        with torch.cuda.stream(stream):
            parts = move(device, batch, channels_last=channels_last)
            arrived = stream.record_event()
        if waiting is not None:
            yield _received(*waiting)
        waiting = (step, parts, arrived)
    if waiting is not None:
        yield _received(*waiting)


def _received(step, parts, arrived):
    """Let the computing stream wait for a batch, and the allocator know that it is in use there."""
    stream = torch.cuda.current_stream()
    stream.wait_event(arrived)
    for part in parts.values():
        part.record_stream(stream)
    return step, parts


# Several processes, one run: every batch shared, batch norms over the whole of it.

Found = TypeVar("Found")


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

    def share(self, loader: Any, *, every_step: bool) -> Any:
        """The loader, giving this process's part of every batch.

        ``every_step`` refuses a batch that does not reach all processes: training needs each.
        """
        if self.size == 1:
            return loader
        return Share(loader, rank=self.rank, size=self.size, every_step=every_step)

    def wrap(self, model: torch.nn.Module) -> torch.nn.Module:
        """The model with gradients averaged over the processes, weights those of the leader."""
        if self.size == 1:
            return model
        device = next(model.parameters()).device
        devices = [device.index] if device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=devices)

    def pool(self, error: torch.Tensor, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean error of ``n`` samples here: what to descend, and the whole batch's mean.

        The processes' gradients are averaged, so parts of unequal size are weighted.
        """
        if self.size == 1:
            return error, error.detach()
        sums = torch.stack([error.detach().double() * n, error.new_tensor(n).double()])
        dist.all_reduce(sums)
        whole = sums[0] / sums[1]
        return error * float(n * self.size / sums[1]), whole

    def gather(self, parts: list[np.ndarray]) -> list[np.ndarray]:
        """Whole batches, in the loader's order, from every process's parts of them."""
        if self.size == 1:
            return parts
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, parts)
        return [_interleaved(found, b) for b in range(len(found[0]))]

    def from_leader(self, call: Callable[[], Found]) -> Found:
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

    @contextlib.contextmanager
    def whole_batch_norms(self, model: torch.nn.Module) -> Iterator[None]:
        """Batch norms over the whole batch, for a while, without touching the model's weights."""
        if self.size == 1:
            yield
            return
        norms: list[Any] = [
            m for m in model.modules() if type(m) in (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)
        ]
        kinds: list[Any] = [type(norm) for norm in norms]
        for norm in norms:
            is_cuda = norm.running_mean.is_cuda
            kind: Any = torch.nn.SyncBatchNorm if is_cuda else WholeBatchNorm
            norm.__class__ = kind
            norm.process_group = None  # torch's reads it: all processes
        try:
            yield
        finally:
            for norm, kind in zip(norms, kinds, strict=True):
                norm.__class__ = kind
                del norm.process_group


def _interleaved(found: list[list[np.ndarray]], b: int) -> np.ndarray:
    parts = [mine[b] for mine in found if b < len(mine)]
    whole = np.empty((sum(map(len, parts)), *parts[0].shape[1:]), parts[0].dtype)
    for rank, part in enumerate(parts):
        whole[rank :: len(found)] = part
    return whole


class _Sum(torch.autograd.Function):
    """The sum over all processes; each one's gradient is the sum of all gradients."""

    @staticmethod
    def forward(ctx, x):  # noqa: ARG004
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx, gradient):  # noqa: ARG004
        return _Sum.forward(ctx, gradient)


class WholeBatchNorm(torch.nn.modules.batchnorm._BatchNorm):
    """Batch norm whose statistics are those of all processes' samples, on any device.

    Mean, then mean squared distance from it, each one sum over the processes; gradients flow back
    through both. torch's own ``SyncBatchNorm`` does this on GPUs only.
    """

    def _check_input_dim(self, input: torch.Tensor) -> None:
        """Any number of axes after the channels."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(B, channel, ...) -> the same shape."""
        if not self.training:
            return super().forward(input)
        axes = [axis for axis in range(input.ndim) if axis != 1]
        shape = [-1 if axis == 1 else 1 for axis in range(input.ndim)]
        x = input.float() if input.dtype in (torch.bfloat16, torch.float16) else input
        n = torch.full((1,), x.numel() / x.shape[1], dtype=x.dtype, device=x.device)
        sums = _Sum.apply(torch.cat([x.sum(axes), n]))
        n = sums[-1].detach()
        mean = sums[:-1] / n
        centred = x - mean.view(shape)
        variance = _Sum.apply(centred.square().sum(axes)) / n
        self._remember(mean.detach(), variance.detach() * n / (n - 1))
        scale = torch.rsqrt(variance + self.eps) * self.weight
        return (centred * scale.view(shape) + self.bias.view(shape)).to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        momentum = self.momentum
        if momentum is None:
            momentum = 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, momentum)  # type: ignore[union-attr]
        self.running_var.lerp_(variance, momentum)  # type: ignore[union-attr]


class Share:
    """Every ``size``-th sample of each batch of a loader, from the ``rank``-th on.

    Of a torch ``DataLoader`` only those samples are read; of other iterables the batches are cut.
    """

    def __init__(self, whole: Any, *, rank: int, size: int, every_step: bool):
        self.whole, self.rank, self.size, self.every_step = whole, rank, size, every_step
        self.part = self._rebuilt() if isinstance(whole, DataLoader) else None

    def __len__(self) -> int:
        return len(self.whole)

    def __iter__(self) -> Iterator[Any]:
        if self.part is not None:
            self.part.generator = self.whole.generator
            yield from self.part
            return
        for batch in self.whole:
            if self._reaches(batch_size(batch)):
                yield {name: part[self.rank :: self.size] for name, part in batch.items()}

    def indices(self) -> Iterator[list[Any]]:
        """This process's indices of each batch of the loader's sampler."""
        for batch in self.whole.batch_sampler:
            if self._reaches(len(batch)):
                yield batch[self.rank :: self.size]

    def _reaches(self, n: int) -> bool:
        if self.every_step and n < self.size:
            raise ContractError(
                f"A training batch of {n} samples cannot be shared by {self.size} processes. "
                "Raise batch_size, or give the loader drop_last=True."
            )
        return n > self.rank

    def _rebuilt(self) -> DataLoader | None:
        whole = self.whole
        if isinstance(whole.sampler, DistributedSampler):
            raise ContractError(
                "The loader shares its samples by a DistributedSampler; fit does that itself. "
                "Hand the loader of the whole data, the same in every process."
            )
        if isinstance(whole.dataset, IterableDataset) or whole.batch_sampler is None:
            return None
        return DataLoader(
            whole.dataset,
            batch_sampler=_Batches(self),
            num_workers=whole.num_workers,
            collate_fn=whole.collate_fn,
            pin_memory=whole.pin_memory,
            timeout=whole.timeout,
            worker_init_fn=whole.worker_init_fn,
            multiprocessing_context=whole.multiprocessing_context,
            prefetch_factor=whole.prefetch_factor,
            persistent_workers=whole.persistent_workers,
        )


class _Batches:
    """A share as the batch sampler of its own loader."""

    def __init__(self, share: Share):
        self.share = share

    def __len__(self) -> int:
        return len(self.share)

    def __iter__(self) -> Iterator[list[Any]]:
        return self.share.indices()

"""Out of memory: what was too large, and what to make smaller."""

import errno
from types import TracebackType
from typing import Any

import torch

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

    Used around a loop; ``batch`` is the one at work, a sequence (high, low, coarse, moisture).
    """

    def __init__(self, model: torch.nn.Module, *, precision: str = "float32"):
        self.model, self.precision = model, precision
        self.batch: Any = ()

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
        tensors = [part for part in self.batch if part is not None]
        sides = [part.shape[-1] for part in tensors if part.ndim == 4]
        return (len(tensors[0]) if tensors else 0), max(sides, default=0)


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

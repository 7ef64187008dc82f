"""What makes a step fast on the hardware at hand, each a choice of ``Settings``, none by default.

On a GPU batches travel while the step before them is computed, from pinned memory.
"""

import logging
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import torch

log = logging.getLogger("soilkit.training")


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


def move(device: torch.device, batch: Any, *, channels_last: bool = False) -> list[Any]:
    """A batch's tensors on the device, images with the channels innermost where asked for."""
    return [_moved(part, device, channels_last=channels_last) for part in batch]


def _moved(part, device: torch.device, *, channels_last: bool):
    if part is None:
        return None
    if device.type == "cuda" and part.device.type == "cpu" and not part.is_pinned():
        part = part.pin_memory()  # only pinned memory is copied in the background
    part = part.to(device, non_blocking=True)
    if channels_last and part.ndim == 4:
        part = part.contiguous(memory_format=torch.channels_last)
    return part


def ahead(
    batches: Iterator[tuple[int, Any]], device: torch.device, *, channels_last: bool
) -> Iterator[tuple[int, list[Any]]]:
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
    for part in parts:
        if part is not None:
            part.record_stream(stream)
    return step, parts

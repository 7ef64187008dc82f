"""The training loop, read once from top to bottom, and prediction."""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from soilkit.errors import ContractError
from soilkit.training.checkpoint import Provenance
from soilkit.training.run import Run, Settings

ORDER, NOISE, AUGMENTATION = range(3)  # streams of random numbers, each by (seed, epoch or step)


class Loaders(NamedTuple):
    """Batches (high, low, coarse, moisture), tensors or None: to learn from, and to choose by.

    A loader is a torch ``DataLoader``, or any sized iterable that gives the same batches each time.
    """

    train: Any
    validation: Any


def rmse(predicted: np.ndarray, observed: np.ndarray) -> float:
    """Root mean square error over all samples, the default validation score.

    Parameters
    ----------
    predicted, observed : array (sample,), m3 m-3

    Returns
    -------
    float, m3 m-3

    Examples
    --------
    >>> round(rmse(np.array([0.1, 0.3]), np.array([0.2, 0.2])), 3)
    0.1
    """
    return float(np.sqrt(np.mean((predicted - observed) ** 2)))


def fit(
    model: torch.nn.Module,
    loaders: Loaders | tuple[Any, Any],
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    *,
    settings: Settings,
    path: str | os.PathLike[str] | None = None,
    provenance: Provenance | None = None,
    augment: Callable[..., tuple[Any, Any]] | None = None,
    score: Callable[[np.ndarray, np.ndarray], float] = rmse,
    resume: bool = True,
    progress: bool = True,
) -> pd.DataFrame:
    """Train in place and leave the model with the weights that scored best on validation.

    All that is random in a step is a function of (seed, step), and the order of an epoch of
    (seed, epoch): a run that was killed and is called again ends with the same weights as one that
    was not.

    Parameters
    ----------
    model : module, (high, low, coarse) -> (B,) m3 m-3, on the device to train on
    loaders : train and validation
    loss : (predicted, observed) -> scalar; see ``soilkit.losses``
    settings : learning rate, steps, precision and the rest
    path : where the best checkpoint goes; ``<stem>.resume.pt`` beside it holds the run's state.
        None keeps everything in memory.
    provenance : what the data are, written into the checkpoint
    augment : (high, low, generator=) -> (high, low), such as ``soilkit.augment.Augment()``
    score : (predicted, observed) -> float on arrays of the validation set; lower is better
    resume : whether to go on from the state beside ``path``
    progress : whether to show a bar

    Returns
    -------
    DataFrame with step, epoch, learning_rate, loss (mean since the last row), score

    Raises
    ------
    DivergedError
        When the loss or the validation score is no finite number.
    CheckpointError
        When the state to resume is of another model, data or settings.
    MemoryError
        With advice, when a batch does not fit.
    """
    train, validation = loaders
    run = Run(model, settings, path=path, provenance=provenance)
    if resume:
        run.restore()
    device = next(model.parameters()).device
    bar = tqdm(total=settings.steps, initial=run.step, disable=not progress, unit="step")
    losses: list[float] = []
    with bar, _own_randomness(device), _memory_advice():
        for step, batch in _batches(train, settings, start=run.step):
            high, low, coarse, moisture = _to(device, batch)
            # (B, 10, 256, 256), (B, 4, 16, 16), (B, 2), (B,) m3 m-3
            if augment is not None:
                generator = _generator(settings.seed, step, stream=AUGMENTATION)
                high, low = augment(high, low, generator=generator)
            model.train()
            with _autocast(device, settings.dtype):
                predicted = model(high, low, coarse)
            error = loss(predicted.float(), moisture)
            run.learn(error, step)
            losses.append(error.item())
            bar.update()
            if run.step % settings.validate_every == 0 or run.step == settings.steps:
                result = score(*_predict(model, validation, dtype=settings.dtype))
                run.note(loss=float(np.mean(losses)), score=result, epoch=step // len(train))
                bar.set_postfix(loss=f"{np.mean(losses):.5f}", score=f"{result:.4f}")
                losses.clear()
    run.load_best()
    return pd.DataFrame(run.history)


def predict(
    model: torch.nn.Module, loader: Any, *, precision: str = "float32", progress: bool = False
) -> np.ndarray:
    """The model's answer for every sample of a loader, in its order.

    Parameters
    ----------
    model : module, (high, low, coarse) -> (B,) m3 m-3
    loader : batches (high, low, coarse, moisture), tensors or None; moisture is not looked at
    precision : "float32" or "bfloat16" (mixed)
    progress : whether to show a bar

    Returns
    -------
    array (sample,) float32, m3 m-3
    """
    bar = tqdm(loader, disable=not progress, unit="batch")
    with _memory_advice():
        return _predict(model, bar, dtype=Settings(precision=precision).dtype)[0]


def _predict(model, loader, *, dtype) -> tuple[np.ndarray, np.ndarray]:
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    predicted, observed = [], []
    with torch.inference_mode(), _autocast(device, dtype):
        for batch in loader:
            high, low, coarse, moisture = _to(device, batch)
            predicted.append(model(high, low, coarse).float().cpu())
            if moisture is not None:
                observed.append(moisture.cpu())
    model.train(was_training)
    if not predicted:
        raise ContractError("The loader gave no batch. Hand it at least one sample.")
    return torch.cat(predicted).numpy(), torch.cat(observed or predicted).numpy()


def _batches(loader: Any, settings: Settings, *, start: int) -> Iterator[tuple[int, Any]]:
    """(step, batch) from ``start`` on; batches that a resumed run has seen are read and skipped."""
    if not len(loader):
        raise ContractError(
            "The training loader has no whole batch. Lower batch_size, or bring more samples."
        )
    if start >= settings.steps:
        return
    for epoch in range(start // len(loader), -(-settings.steps // len(loader))):
        _order(loader, settings.seed, epoch)
        batches = iter(loader)
        first = epoch * len(loader)
        for step in range(first, min(first + len(loader), settings.steps)):
            torch.manual_seed(_mix(settings.seed, step, NOISE))
            batch = next(batches)
            if step >= start:
                yield step, batch


def _order(loader: Any, seed: int, epoch: int) -> None:
    """Make the loader's order in an epoch a function of (seed, epoch)."""
    holders: list[Any] = [loader, getattr(loader, "sampler", None)]
    for holder in holders:
        if hasattr(holder, "generator"):
            holder.generator = _generator(seed, epoch, stream=ORDER)
        if hasattr(holder, "set_epoch"):
            holder.set_epoch(epoch)


def _mix(*words: int) -> int:
    return int(np.random.SeedSequence(words).generate_state(1)[0])


def _generator(seed: int, index: int, *, stream: int) -> torch.Generator:
    return torch.Generator().manual_seed(_mix(seed, index, stream))


def _to(device: torch.device, batch: Any) -> list[Any]:
    return [None if part is None else part.to(device, non_blocking=True) for part in batch]


def _autocast(device: torch.device, dtype: torch.dtype):
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def _own_randomness(device: torch.device):
    """Seed dropout step by step without touching the caller's random state."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


@contextlib.contextmanager
def _memory_advice() -> Iterator[None]:
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        words = "out of memory", "allocate memory"
        if type(error) is RuntimeError and not any(word in str(error) for word in words):
            raise
        raise MemoryError(
            f"A batch does not fit into memory ({str(error).partition(chr(10))[0]}). Halve "
            'batch_size, or choose preset="small", or precision="bfloat16".'
        ) from error

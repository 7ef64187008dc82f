"""The training loop, read once from top to bottom, and prediction."""

import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from soilkit.errors import ContractError
from soilkit.training.acceleration import ahead, autocast, compiled, move
from soilkit.training.checkpoint import Provenance
from soilkit.training.memory import MemoryAdvice
from soilkit.training.parallel import Share, Team
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

    On several GPUs or machines the same script is started by ``torchrun --nproc-per-node=4`` after
    ``torch.distributed.init_process_group``: every process hands over the same loaders, whose batch
    is the batch of the whole run and is shared out; gradients and batch norms are those of the
    whole batch, and the first process alone writes (see ``soilkit.training.parallel``).

    Parameters
    ----------
    model : module, (high, low, coarse) -> (B,) m3 m-3, on the device to train on
    loaders : train and validation
    loss : (predicted, observed) -> scalar, a mean over samples; see ``soilkit.losses``
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
    team = Team()
    train, validation = (team.share(loaders[i], every_step=i == 0) for i in range(2))
    run = Run(model, settings, path=path, provenance=provenance, team=team)
    if resume:
        run.restore()
    device = next(model.parameters()).device
    bar = tqdm(total=settings.steps, initial=run.step, disable=not (progress and team.leads))
    advice = MemoryAdvice(model, precision=settings.precision)
    with bar, advice, _own_randomness(device), team.whole_batch_norms(model):
        forward = compiled(team.wrap(model), mode=settings.compile, device=device)
        batches = _batches(train, settings, start=run.step)
        for step, batch in ahead(batches, device, channels_last=settings.channels_last):
            advice.batch = high, low, coarse, moisture = batch
            # (B, 10, 256, 256), (B, 4, 16, 16), (B, 2), (B,) m3 m-3
            torch.manual_seed(_mix(settings.seed, step, NOISE, *team.stream))
            if augment is not None:
                generator = _generator(settings.seed, step, AUGMENTATION, *team.stream)
                high, low = augment(high, low, generator=generator)
            model.train()
            with autocast(device, settings.dtype):
                predicted = forward(high, low, coarse)
            run.learn(loss(predicted.float(), moisture), step, n=len(moisture))
            bar.update()
            if run.step % settings.validate_every == 0 or run.step == settings.steps:
                parts = _predict(model, validation, settings)
                result = score(*(np.concatenate(team.gather(part)) for part in parts))
                run.note(score=result, epoch=step // len(train))
                bar.set_postfix({k: f"{run.history[-1][k]:.4g}" for k in ("loss", "score")})
    run.finish()
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

    Raises
    ------
    ContractError
        When an answer is no finite number.
    MemoryError
        With advice, when a batch does not fit.
    """
    bar = tqdm(loader, disable=not progress, unit="batch")
    with MemoryAdvice(model, precision=precision):
        predicted = np.concatenate(_predict(model, bar, Settings(precision=precision))[0])
    unknown = ~np.isfinite(predicted)
    if unknown.any():
        raise ContractError(
            f"The model has no finite answer for {int(unknown.sum())} of {len(predicted)} samples, "
            f"the first of them number {int(unknown.argmax())}. Look for NaN in the inputs: only a "
            "model built with a source_dropout does without a source."
        )
    return predicted


def _predict(model, loader, settings: Settings) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Predicted and observed, batch by batch; where nothing was observed, the predicted again."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    predicted, observed = [], []
    with torch.inference_mode(), autocast(device, settings.dtype):
        for batch in loader:
            high, low, coarse, moisture = move(device, batch, channels_last=settings.channels_last)
            predicted.append(model(high, low, coarse).float().cpu().numpy())
            observed.append(predicted[-1] if moisture is None else moisture.cpu().numpy())
    model.train(was_training)
    if not predicted:
        raise ContractError("The loader gave no batch. Hand it at least one sample.")
    return predicted, observed


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
    """Make the loader's order in an epoch a function of (seed, epoch), alike in all processes."""
    loader = loader.whole if isinstance(loader, Share) else loader
    holders: list[Any] = [loader, getattr(loader, "sampler", None)]
    for holder in holders:
        if hasattr(holder, "generator"):
            holder.generator = _generator(seed, epoch, ORDER)
        if hasattr(holder, "set_epoch"):
            holder.set_epoch(epoch)


def _mix(*words: int) -> int:
    return int(np.random.SeedSequence(words).generate_state(1)[0])


def _generator(*words: int) -> torch.Generator:
    return torch.Generator().manual_seed(_mix(*words))


def _own_randomness(device: torch.device):
    """Seed dropout step by step without touching the caller's random state."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [])

"""The training loop, read once from top to bottom, its state, and prediction."""

import logging
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from soilkit.errors import CheckpointError, ContractError, DivergedError, ParameterError
from soilkit.models.training.checkpoint import (
    Checkpoint,
    Provenance,
    load_checkpoint,
    plain,
    read_plain,
    save_checkpoint,
    write_atomic,
)
from soilkit.models.training.parallel import Batch, Team, batch_size, memory_advice

log = logging.getLogger("soilkit.models.training")
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda weights, m, **rest: torch.optim.SGD(weights, lr=0.0, momentum=m, **rest),
    "adam": lambda weights, m, **rest: torch.optim.Adam(weights, lr=0.0, betas=(m, 0.999), **rest),
}
STEPS_BETWEEN_CHECKS_ON_GPU = 10  # reading the loss makes the GPU wait, so it is read in bulk


@dataclass(frozen=True)
class Settings:
    """How to train; the defaults are Table 7's stochastic gradient descent with momentum [1]_.

    The learning rate at step t of T is ``learning_rate`` (1 - t / T)^``power``. Weights shrink by
    ``weight_decay`` (1 - t / T)^``power`` of themselves a step, apart from the gradient (decoupled
    [2]_; torch's own SGD adds the decay to the gradient). Biases and batch norms do not decay.
    Every ``validate_every`` steps the model is scored and the run's state saved.

    Speed: ``precision`` is "float32" or "bfloat16" (mixed); ``compile`` fuses what stands between
    convolutions by ``torch.compile``, which needs a C++ compiler on the machine. Both change the
    last digits, so a run resumes only under the same ones.

    Labels vary by less than 0.1 m3 m-3, so gradients are small and SGD takes very many steps; for
    some hundred steps choose ``optimizer="adam"`` [3]_ (``momentum`` is then its beta 1) and a
    ``learning_rate`` of 0.003 to 0.01.

    References
    ----------
    .. [1] Batchu et al. (2022), arXiv:2206.09649, section 3b and Table 7
    .. [2] Loshchilov and Hutter (2019), arXiv:1711.05101, algorithm 1
    .. [3] Kingma and Ba (2015), arXiv:1412.6980

    Examples
    --------
    >>> settings = Settings(steps=100, learning_rate=0.1)
    >>> [round(settings.learning_rate_at(step), 4) for step in (0, 50, 100)]
    [0.1, 0.0536, 0.0]
    """

    steps: int = 600_000
    optimizer: str = "sgd"
    learning_rate: float = 0.05
    weight_decay: float = 5e-5
    momentum: float = 0.9
    power: float = 0.9
    precision: str = "float32"
    max_gradient_norm: float = math.inf
    validate_every: int = 1000
    seed: int = 0
    compile: bool = False

    def __post_init__(self) -> None:
        for name, choices in (("precision", PRECISIONS), ("optimizer", OPTIMIZERS)):
            if getattr(self, name) not in choices:
                raise ContractError(
                    f"No {name} {getattr(self, name)!r}: choose one of {', '.join(choices)}."
                )
        if not isinstance(self.compile, bool):
            raise ParameterError(f"compile is True or False; found {self.compile!r}.")
        if self.steps < 1 or self.validate_every < 1:
            raise ContractError(
                f"steps {self.steps} and validate_every {self.validate_every} must be at least 1."
            )

    def autocast(self, device: torch.device) -> torch.autocast:
        """Mixed precision where it is not float32."""
        dtype = PRECISIONS[self.precision]
        return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)

    def decay_at(self, step: int) -> float:
        """(1 - t / T)^power."""
        return (1 - step / self.steps) ** self.power

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of a step."""
        return self.learning_rate * self.decay_at(step)


class Run:
    """The state of a run of ``fit``; everything a resumed run needs is written by ``note``."""

    def __init__(
        self,
        model: torch.nn.Module,
        settings: Settings,
        *,
        path: str | os.PathLike[str] | None,
        provenance: Provenance | None,
        team: Team | None = None,
    ):
        self.model, self.settings, self.team = model, settings, team or Team()
        self.path = None if path is None else Path(path)
        self.provenance = provenance or Provenance()
        self.decaying: list[torch.Tensor] = [p for p in model.parameters() if p.ndim >= 2]
        self.is_on_gpu = all(p.is_cuda for p in model.parameters())
        fused = {"fused": True} if self.is_on_gpu else {}
        make = OPTIMIZERS[settings.optimizer]
        self.optimizer = make(model.parameters(), settings.momentum, **fused)
        self.step = 0
        self.losses: list[float] = []
        self.unread: list[tuple[int, torch.Tensor]] = []
        self.history: list[dict[str, float]] = []
        self.best: Checkpoint | None = None

    @property
    def resume_path(self) -> Path | None:
        """Where the run's state goes: ``fusion.resume.pt`` beside ``fusion.pt``."""
        return None if self.path is None else self.path.with_suffix(".resume.pt")

    @property
    def identity(self) -> dict[str, Any]:
        """What must be equal for a saved state to be this run's."""
        configuration = getattr(self.model, "configuration", {})
        settings, provenance = asdict(self.settings), asdict(self.provenance)
        return plain(
            {"settings": settings, "configuration": configuration, "provenance": provenance}
        )

    def learn(self, error: torch.Tensor, step: int, *, n_samples: int = 1) -> None:
        """One step down the gradient of the samples' mean error, at the step's rate.

        Raises ``DivergedError`` when the error is no finite number. On a CPU the weights stay as
        they were; a GPU tells some steps late, the checkpoint untouched.
        """
        error, whole = self.team.pool(error, n_samples)
        self.unread.append((step, whole))
        if not self.is_on_gpu or len(self.unread) >= STEPS_BETWEEN_CHECKS_ON_GPU:
            self._read_losses()
        settings = self.settings
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate_at(step)
        self.optimizer.zero_grad(set_to_none=True)
        error.backward()
        if math.isfinite(settings.max_gradient_norm):
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.max_gradient_norm)
        with torch.no_grad():
            shrink = 1 - settings.weight_decay * settings.decay_at(step)
            torch._foreach_mul_(self.decaying, shrink)
        self.optimizer.step()
        self.step = step + 1

    def note(self, *, score: float, epoch: int) -> None:
        """Add a row to the history, keep the best weights, save the state."""
        self._read_losses()
        loss = float(np.mean(self.losses))
        self.losses.clear()
        self._check_finite("validation score", score, self.step - 1)
        rate = self.settings.learning_rate_at(self.step)
        row = {"step": self.step, "epoch": epoch, "learning_rate": rate}
        self.history.append({**row, "loss": loss, "score": float(score)})
        weights = {k: v.detach().cpu().clone() for k, v in self.model.state_dict().items()}
        if self.best is None or score < self.best.score:
            configuration = getattr(self.model, "configuration", {})
            self.best = Checkpoint(configuration, self.provenance, weights, self.step, float(score))
            if self.path is not None and self.team.leads:
                save_checkpoint(self.path, self.best)
        if self.resume_path is not None and self.team.leads:
            state = {"optimizer": self.optimizer.state_dict(), "step": self.step}
            state |= {"weights": weights, "history": self.history, "identity": self.identity}
            write_atomic(self.resume_path, state)

    def restore(self) -> None:
        """Go on from the state beside ``path``, if there is one.

        Raises ``CheckpointError`` when it is another run's.
        """
        saved = self.team.from_leader(self._saved)
        if saved is None:
            return
        state, self.best = saved
        self.model.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.history = state["step"], state["history"]
        log.info("resumed %s at step %d of %d", self.path, self.step, self.settings.steps)

    def _saved(self) -> tuple[dict[str, Any], Checkpoint] | None:
        """This run's state and best checkpoint on disk, if there are any."""
        if self.path is None or self.resume_path is None:
            return None
        if not self.resume_path.exists():
            return None
        state = read_plain(self.resume_path)
        theirs = state.get("identity", {})
        for part, ours in self.identity.items():
            if theirs.get(part) != ours:
                raise CheckpointError(
                    f"{self.resume_path} is a run with {part} {theirs.get(part)}; this one has "
                    f"{ours}. Choose another path, or pass resume=False to start anew."
                )
        return state, load_checkpoint(self.path)

    def finish(self) -> None:
        """Give the model the weights that scored best, when all that is written can be read."""
        assert self.best is not None
        self.model.load_state_dict(self.best.weights)
        self.team.wait()

    def _read_losses(self) -> None:
        """The losses of the last steps as numbers, each of them finite."""
        if not self.unread:
            return
        values = torch.stack([loss for _, loss in self.unread]).tolist()
        for (step, _), value in zip(self.unread, values, strict=True):
            self._check_finite("loss", value, step)
        self.losses += values
        self.unread.clear()

    def _check_finite(self, name: str, value: float, step: int) -> None:
        if not math.isfinite(value):
            kept = f"kept at {self.path}" if self.path and self.best else "none was kept"
            raise DivergedError(
                f"The {name} is {value} at step {step}, learning rate "
                f"{self.settings.learning_rate_at(step):.2g} (best checkpoint: {kept}). Look for "
                "NaN in inputs and labels; else lower learning_rate or set max_gradient_norm=1."
            )


# The training loop, read once from top to bottom, and prediction.

ORDER, NOISE, AUGMENTATION = range(3)  # streams of random numbers, each by (seed, epoch or step)
Step = Callable[[Any, Batch], torch.Tensor]
Look = Callable[[Any, Batch], tuple[torch.Tensor, torch.Tensor | None]]


class Loaders(NamedTuple):
    """Batches, mappings of named tensors (B, ...): to learn from, and to choose by.

    A loader is a torch ``DataLoader``, or any sized iterable that gives the same batches each time.
    What a batch is called, ``step`` and ``look`` know; an input that is not fed is an absent name.
    """

    train: Any
    validation: Any


def rmse(predicted: np.ndarray, observed: np.ndarray) -> float:
    """Root mean square error of arrays (sample,), the default validation score."""
    return float(np.sqrt(np.mean((predicted - observed) ** 2)))


def fit(
    model: torch.nn.Module,
    loaders: Loaders | tuple[Any, Any],
    step: Step,
    look: Look,
    *,
    settings: Settings,
    path: str | os.PathLike[str] | None = None,
    provenance: Provenance | None = None,
    augment: Callable[..., Batch] | None = None,
    score: Callable[[np.ndarray, np.ndarray], float] = rmse,
    resume: bool = True,
    progress: bool = True,
) -> pd.DataFrame:
    """Train in place and leave the model with the weights that scored best on validation.

    All that is random in a step is a function of (seed, step), and the order of an epoch of
    (seed, epoch): a run that was killed and is called again ends with the same weights as one that
    was not.

    On several GPUs the same script is started by ``torchrun --nproc-per-node=4`` after
    ``torch.distributed.init_process_group``: every process hands over the same loaders, whose batch
    is the batch of the whole run and is shared out; gradients and batch norms are those of the
    whole batch, and the first process alone writes.

    Parameters
    ----------
    model : module, on the device to train on
    loaders : train and validation
    step : (model, batch) -> loss, a mean over the batch's samples, float32
    look : (model, batch) -> (predicted, observed), (B, ...) each, for the validation score
    settings : learning rate, steps, precision and the rest
    path : where the best checkpoint goes; ``<stem>.resume.pt`` beside it holds the run's state.
        None keeps everything in memory.
    provenance : what the data are, written into the checkpoint
    augment : (batch, generator=) -> batch, such as ``soilkit.models.datasets.Augment()``
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
    dropout = torch.random.fork_rng([device] if device.type == "cuda" else [])
    with bar, memory_advice(), dropout:  # the caller's random state stays as it was
        forward = team.wrap(model)
        if settings.compile:
            forward.compile(dynamic=False)
        for n, batch in _batches(train, settings, start=run.step, whole=loaders[0]):
            batch = _moved(batch, device)
            torch.manual_seed(_mix(settings.seed, n, NOISE, *team.stream))
            if augment is not None:
                generator = _generator(settings.seed, n, AUGMENTATION, *team.stream)
                batch = augment(batch, generator=generator)
            model.train()
            with settings.autocast(device):
                error = step(forward, batch)
            run.learn(error, n, n_samples=batch_size(batch))
            bar.update()
            if run.step % settings.validate_every == 0 or run.step == settings.steps:
                parts = _look(model, validation, look, settings)
                result = score(*(np.concatenate(team.gather(part)) for part in parts))
                run.note(score=result, epoch=n // len(train))
                bar.set_postfix({k: f"{run.history[-1][k]:.4g}" for k in ("loss", "score")})
    run.finish()
    return pd.DataFrame(run.history)


def predict(
    model: torch.nn.Module,
    loader: Any,
    look: Look,
    *,
    precision: str = "float32",
    progress: bool = False,
) -> np.ndarray:
    """The model's answer for every sample of a loader, in its order, (sample, ...) float32.

    ``look`` is (model, batch) -> (predicted, observed), whose second is left aside; ``precision``
    "float32" or "bfloat16" (mixed). Raises ``ContractError`` when an answer is no finite number,
    and ``MemoryError``, with advice, when a batch does not fit.
    """
    bar = tqdm(loader, disable=not progress, unit="batch")
    with memory_advice():
        predicted = np.concatenate(_look(model, bar, look, Settings(precision=precision))[0])
    unknown = ~np.isfinite(predicted).reshape(len(predicted), -1).all(axis=1)
    if unknown.any():
        raise ContractError(
            f"The model has no finite answer for {int(unknown.sum())} of {len(predicted)} samples, "
            f"the first of them number {int(unknown.argmax())}. Look for NaN in the inputs: only a "
            "model built with a source_dropout does without a source."
        )
    return predicted


def _look(model, loader, look: Look, settings: Settings) -> tuple[list[np.ndarray], ...]:
    """Predicted and observed, batch by batch; where nothing was observed, the predicted again."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    predicted, observed = [], []
    with torch.inference_mode(), settings.autocast(device):
        for batch in loader:
            answer, truth = look(model, _moved(batch, device))
            predicted.append(answer.float().cpu().numpy())
            observed.append(predicted[-1] if truth is None else truth.cpu().numpy())
    model.train(was_training)
    if not predicted:
        raise ContractError("The loader gave no batch. Hand it at least one sample.")
    return predicted, observed


def _moved(batch: Batch, device: torch.device) -> Batch:
    return {name: part.to(device, non_blocking=True) for name, part in batch.items()}


def _batches(loader, settings: Settings, *, start: int, whole) -> Iterator[tuple[int, Any]]:
    """(step, batch) from ``start`` on; batches that a resumed run has seen are read and skipped.

    ``whole`` is the loader before it was shared, whose order is alike in all processes.
    """
    if not len(loader):
        raise ContractError(
            "The training loader has no whole batch. Lower batch_size, or bring more samples."
        )
    if start >= settings.steps:
        return
    for epoch in range(start // len(loader), -(-settings.steps // len(loader))):
        _order(whole, settings.seed, epoch)
        if loader is not whole:  # its workers' random numbers too hang on seed and epoch
            loader.generator = getattr(whole, "generator", None)
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
            holder.generator = _generator(seed, epoch, ORDER)
        if hasattr(holder, "set_epoch"):
            holder.set_epoch(epoch)


def _mix(*words: int) -> int:
    return int(np.random.SeedSequence(words).generate_state(1)[0])


def _generator(*words: int) -> torch.Generator:
    return torch.Generator().manual_seed(_mix(*words))

"""One run's settings and state: optimizer, best weights, history, and what a kill must not lose."""

import glob
import logging
import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from soilkit.errors import CheckpointError, ContractError, DivergedError
from soilkit.training.checkpoint import (
    FORMAT_VERSION,
    Checkpoint,
    Provenance,
    load_checkpoint,
    plain,
    read_plain,
    save_checkpoint,
    write_atomic,
)
from soilkit.training.parallel import Team

log = logging.getLogger("soilkit.training")
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda weights, m, **how: torch.optim.SGD(weights, lr=0.0, momentum=m, **how),
    "adam": lambda weights, m, **how: torch.optim.Adam(weights, lr=0.0, betas=(m, 0.999), **how),
}
STEPS_BETWEEN_CHECKS_ON_GPU = 10  # reading the loss makes the GPU wait, so it is read in bulk


@dataclass(frozen=True)
class Settings:
    """How to train; the defaults are Table 7's stochastic gradient descent with momentum [1]_.

    The learning rate at step t of T is ``learning_rate`` (1 - t / T)^``power``. Weights shrink by
    ``weight_decay`` (1 - t / T)^``power`` of themselves a step, apart from the gradient (decoupled
    [2]_; torch's own SGD adds the decay to the gradient). Biases and batch norms do not decay.
    Every ``validate_every`` steps the model is scored and the run's state saved.

    Speed: ``precision`` is "float32" or "bfloat16" (mixed); ``channels_last`` lays out weights and
    images with the channels innermost; ``compile`` (True, or a mode of ``torch.compile`` such as
    "reduce-overhead") fuses what stands between convolutions, with a warning where nothing can
    compile. Each changes the last digits of a run, so a run resumes only under the same ones.

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
    channels_last: bool = False
    compile: bool | str = False

    def __post_init__(self) -> None:
        for name, choices in (("precision", PRECISIONS), ("optimizer", OPTIMIZERS)):
            if getattr(self, name) not in choices:
                raise ContractError(
                    f"No {name} {getattr(self, name)!r}: choose one of {', '.join(choices)}."
                )
        if self.steps < 1 or self.validate_every < 1:
            raise ContractError(
                f"steps {self.steps} and validate_every {self.validate_every} must be at least 1."
            )

    @property
    def dtype(self) -> torch.dtype:
        """The type of the forward pass under autocast."""
        return PRECISIONS[self.precision]

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
        if settings.channels_last:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
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
        settings = asdict(self.settings)
        for name in ("channels_last", "compile"):  # states from before there were these
            if not settings[name]:
                del settings[name]
        return plain(
            {
                "settings": settings,
                "configuration": getattr(self.model, "configuration", {}),
                "provenance": asdict(self.provenance),
            }
        )

    def learn(self, error: torch.Tensor, step: int, *, n: int = 1) -> None:
        """One step down the gradient of the mean error of ``n`` samples, at the step's rate.

        Raises
        ------
        DivergedError
            When the error is no finite number. On a CPU the weights stay as they were; a GPU tells
            some steps late, the checkpoint untouched.
        """
        error, whole = self.team.pool(error, n)
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
            write_atomic(self.resume_path, {"format_version": FORMAT_VERSION, **state})

    def restore(self) -> None:
        """Go on from the state beside ``path``, if there is one.

        Raises
        ------
        CheckpointError
            When it is another run's.
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
        for path in (self.path, self.resume_path):
            for half_written in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
                half_written.unlink(missing_ok=True)  # by a process that was killed
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

"""Training: one readable loop, and the checkpoints that it writes and reads."""

from soilkit.models.training.checkpoint import (
    Checkpoint,
    Provenance,
    load_checkpoint,
    save_checkpoint,
)
from soilkit.models.training.loop import Loaders, Look, Settings, Step, fit, predict, rmse

__all__ = [
    "Checkpoint", "Loaders", "Look", "Provenance", "Settings", "Step", "fit", "load_checkpoint",
    "predict", "rmse", "save_checkpoint",
]  # fmt: skip

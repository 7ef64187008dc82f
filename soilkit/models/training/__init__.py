"""Training: one readable loop, and the checkpoints that it writes and reads."""

from soilkit.models.training.checkpoint import (
    Checkpoint,
    Provenance,
    load_checkpoint,
    save_checkpoint,
)
from soilkit.models.training.loop import Loaders, Settings, fit, predict, rmse

__all__ = [
    "Checkpoint",
    "Loaders",
    "Provenance",
    "Settings",
    "fit",
    "load_checkpoint",
    "predict",
    "rmse",
    "save_checkpoint",
]

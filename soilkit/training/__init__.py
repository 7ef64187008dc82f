"""Training: one readable loop, and the checkpoints that it writes and reads."""

from soilkit.training.checkpoint import Checkpoint, Provenance, load_checkpoint, save_checkpoint
from soilkit.training.loop import Loaders, fit, predict, rmse
from soilkit.training.run import Settings

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

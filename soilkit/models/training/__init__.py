"""Training: one readable loop, and the checkpoints that it writes and reads."""

from soilkit.models.training.checkpoint import Checkpoint as Checkpoint
from soilkit.models.training.checkpoint import Provenance as Provenance
from soilkit.models.training.checkpoint import load_checkpoint as load_checkpoint
from soilkit.models.training.checkpoint import save_checkpoint as save_checkpoint
from soilkit.models.training.loop import Loaders as Loaders
from soilkit.models.training.loop import Look as Look
from soilkit.models.training.loop import Settings as Settings
from soilkit.models.training.loop import Step as Step
from soilkit.models.training.loop import fit as fit
from soilkit.models.training.loop import predict as predict
from soilkit.models.training.loop import rmse as rmse

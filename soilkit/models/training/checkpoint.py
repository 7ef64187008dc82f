"""Checkpoints: weights with all that is needed to use them rightly, read without running code."""

import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from soilkit.errors import CheckpointError, StoreError
from soilkit.files import write_bytes_whole

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Provenance:
    """What a model was trained on.

    ``inputs`` lists the sources (or bands) in the order in which the model eats them,
    ``normalisation`` holds plain numbers by band, ``data_hash`` names the store's content.
    """

    inputs: tuple[str, ...] = ()
    normalisation: dict[str, Any] = field(default_factory=dict)
    data_hash: str = ""


@dataclass(frozen=True)
class Checkpoint:
    """A trained model on disk: ``configuration`` rebuilds it, ``weights`` fill it.

    ``step`` and ``score`` tell when it was the best on validation, and how good.
    """

    configuration: dict[str, Any]
    provenance: Provenance
    weights: dict[str, torch.Tensor]
    step: int
    score: float
    format_version: int = FORMAT_VERSION

    def require(self, *, inputs: Sequence[str], data_hash: str | None = None) -> None:
        """Refuse other inputs, and other data where they are named.

        Raises
        ------
        CheckpointError
            Naming both sides.
        """
        ours = self.provenance
        if tuple(inputs) != ours.inputs:
            raise CheckpointError(
                f"The checkpoint was trained on {', '.join(ours.inputs) or 'no inputs'}; it is "
                f"handed {', '.join(inputs) or 'no inputs'}. Feed the same sources in that order, "
                "or train again."
            )
        if data_hash is not None and data_hash != ours.data_hash:
            raise CheckpointError(
                f"The checkpoint was trained on data {ours.data_hash or 'unknown'}; this is "
                f"{data_hash}. Rebuild that data, or train again."
            )


def save_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write a checkpoint whole or not at all.

    Raises
    ------
    StoreError
        When the disk refuses; what stood at ``path`` still stands.
    """
    content = vars(checkpoint) | vars(checkpoint.provenance)
    del content["provenance"]
    plain_names = ("configuration", "inputs", "normalisation")
    write_atomic(path, content | {name: plain(content[name]) for name in plain_names})


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint on the CPU without executing anything that it holds.

    Raises
    ------
    CheckpointError
        When the file is absent, damaged, holds code, or has another format version.
    """
    content = read_plain(path)
    missing = {"configuration", "inputs", "weights"} - content.keys()
    if missing:
        raise CheckpointError(
            f"{path} lacks {', '.join(sorted(missing))}: it is no model checkpoint. "
            "Name the file that training wrote, not the one beside it that resumes a run."
        )
    origin = (tuple(content.pop("inputs")), content.pop("normalisation"), content.pop("data_hash"))
    return Checkpoint(provenance=Provenance(*origin), **content)


def write_atomic(path: str | os.PathLike[str], content: dict[str, Any]) -> None:
    """Save plain values and tensors through a temporary file and a rename."""
    try:
        write_bytes_whole(path, partial(torch.save, content))
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        raise StoreError(
            f"Cannot write the checkpoint {path}: the disk is full or refuses it ({error}). What "
            "stood there before is untouched; free some space, or choose another folder."
        ) from error


def read_plain(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what ``write_atomic`` wrote, refusing code and other format versions."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"No checkpoint at {path}. Train first, or mend the path.") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(
            f"{path} is damaged, or holds more than plain values and tensors, which is never "
            f"loaded ({why}). Fetch or train it again."
        ) from error
    version = content.get("format_version") if isinstance(content, dict) else None
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format version {version}; this soilkit reads {FORMAT_VERSION}. "
            "Install the soilkit that wrote it, or train again."
        )
    return content


def plain(value: Any) -> Any:
    """The same value made of dicts, lists, strings and Python numbers only."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value.item() if hasattr(value, "item") else value

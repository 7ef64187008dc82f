"""Checkpoints: weights with all that is needed to use them rightly, read without running code."""

import hashlib
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch

from soilkit.errors import CheckpointError
from soilkit.files import write_bytes_whole

KIND, FORMAT_VERSION = "soilkit checkpoint", 2
FIELDS: dict[str, Any] = {
    "configuration": dict, "inputs": list, "normalisation": dict, "data_hash": str,
    "weights": dict, "step": int, "score": float,
}  # fmt: skip


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

    @classmethod
    def best(cls, model: Any, history: Any, *, provenance: Provenance) -> "Checkpoint":
        """What ``fit`` left in a model: the weights of the best row of its history."""
        row = history.loc[history["score"].idxmin()]
        weights = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
        where = int(row["step"]), float(row["score"])
        return cls(model.configuration, provenance, weights, *where)

    def rebuild(self, build: Callable[[dict[str, Any]], Any], *, system: str) -> Any:
        """The model that ``build`` makes of the configuration, filled, in evaluation mode.

        Raises ``CheckpointError`` when it holds another ``system``'s configuration or weights.
        """
        try:
            model = build(self.configuration)
            model.load_state_dict(self.weights)
        except Exception as error:  # a strange number or word fails wherever torch meets it
            raise CheckpointError(
                f"The checkpoint is no {system} (configuration {self.configuration}): {error} "
                "Build the model of the system that wrote it."
            ) from error
        return model.eval()

    def require(self, *, inputs: Sequence[str], data_hash: str | None = None) -> None:
        """Refuse other inputs, and other data where they are named.

        Raises ``CheckpointError`` naming both sides.
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

    Raises ``StoreError`` when the disk refuses; what stood at ``path`` still stands.
    """
    content = vars(checkpoint) | vars(checkpoint.provenance)
    del content["provenance"]
    plain_names = ("configuration", "inputs", "normalisation")
    write_atomic(path, content | {name: plain(content[name]) for name in plain_names})


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint on the CPU without executing anything that it holds.

    Raises ``CheckpointError`` when the file is absent, damaged, holds code, or has another format
    version.
    """
    content = read_plain(path)
    content = content if isinstance(content, dict) else {}
    wrong = [k for k, kind in FIELDS.items() if not isinstance(content.get(k), kind)]
    if wrong or not all(isinstance(w, torch.Tensor) for w in content["weights"].values()):
        raise CheckpointError(
            f"{path} lacks {', '.join(wrong) or 'tensors for weights'}: it is no model checkpoint. "
            "Name the file that training wrote, not the one beside it that resumes a run."
        )
    values = {name: content[name] for name in FIELDS}
    inputs = tuple(map(str, values.pop("inputs")))
    origin = (inputs, values.pop("normalisation"), values.pop("data_hash"))
    return Checkpoint(provenance=Provenance(*origin), **values)


def write_atomic(
    path: str | os.PathLike[str], content: Any, *, kind: str = KIND, version: int = FORMAT_VERSION
) -> None:
    """Save plain values and tensors whole or not at all, behind a line with their SHA-256.

    Raises ``StoreError`` when the disk refuses; what stood at ``path`` still stands.
    """

    def write(file: BinaryIO) -> None:
        held = io.BytesIO()
        torch.save(content, held)
        digest = hashlib.sha256(held.getbuffer()).hexdigest()
        file.write(f"{kind} {version} {digest}\n".encode())
        file.write(held.getbuffer())

    write_bytes_whole(path, write)


def read_plain(
    path: str | os.PathLike[str],
    *,
    kind: str = KIND,
    version: int = FORMAT_VERSION,
    allow_pickle: bool = False,
) -> Any:
    """Read what ``write_atomic`` wrote: not a bit of it differs, and no code runs unasked.

    Raises ``CheckpointError`` when the file is absent, damaged, of another kind or format version,
    or holds code.
    """
    try:
        head, _, body = Path(path).read_bytes().partition(b"\n")
    except FileNotFoundError as error:
        raise CheckpointError(f"No {kind} at {path}. Train first, or mend the path.") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error}). Mend the path.") from error
    mark, _, digest = head.rpartition(b" ")
    if mark != f"{kind} {version}".encode():
        raise CheckpointError(
            f"{path} is damaged, or no {kind} of format version {version}: it begins with "
            f"{head[:24]!r}. Install the soilkit that wrote it, or train again."
        )
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise CheckpointError(
            f"{path} is damaged: its content does not match its SHA-256. Fetch or train it again."
        )
    try:
        return torch.load(io.BytesIO(body), map_location="cpu", weights_only=not allow_pickle)
    except Exception as error:  # a pickle may raise whatever its classes do
        why = (str(error) or type(error).__name__).splitlines()[0]
        if not allow_pickle and "Unsupported global" in str(error):
            raise CheckpointError(
                f"{path} holds more than plain values and tensors, which may run code and is never "
                "loaded unasked. Trees of a file that you trust: load_trained(allow_pickle=True)."
            ) from error
        raise CheckpointError(
            f"{path} cannot be read here ({why}). Install the versions of torch and scikit-learn "
            "that wrote it, or train again."
        ) from error


def plain(value: Any) -> Any:
    """The same value made of dicts, lists, strings and Python numbers only."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value.item() if hasattr(value, "item") else value

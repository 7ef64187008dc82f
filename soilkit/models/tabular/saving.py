"""Fitted ensembles on disk: networks as plain values and tensors, forests as pickles."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from soilkit.errors import CheckpointError, StoreError
from soilkit.files import write_bytes_whole
from soilkit.models.tabular.inputs import Scaling
from soilkit.models.tabular.networks import DenseEnsemble, NetworkEnsemble, ProbEnsemble
from soilkit.models.tabular.textures import TextureForest
from soilkit.models.tabular.wide import WideDeepEnsemble

FORMAT_VERSION = 1
KINDS: dict[str, type[NetworkEnsemble]] = {
    kind.__name__: kind for kind in (DenseEnsemble, ProbEnsemble, WideDeepEnsemble)
}
ZIP_MARK = b"PK"
ARRAY = "soilkit array"  # the key of what was a numpy array
FOREST_MARK = b"soilkit forest "  # then the version and a line end, then the pickle


def save_ensemble(model: NetworkEnsemble | TextureForest, path: str | os.PathLike[str]) -> None:
    """Write a fitted ensemble whole or not at all.

    Networks are written as settings, names and tensors. A forest is scikit-learn's, whose own way
    of keeping is a pickle: only the same version of scikit-learn is sure to read it, and reading
    one runs what it holds.

    Raises
    ------
    StoreError
        When the disk refuses; what stood at ``path`` still stands.
    """
    check_is_fitted(model)
    if isinstance(model, TextureForest):
        mark = FOREST_MARK + b"%d\n" % FORMAT_VERSION

        def write(file: BinaryIO) -> None:
            file.write(mark)
            pickle.dump(model, file, protocol=pickle.HIGHEST_PROTOCOL)
    else:
        content = {
            "format_version": FORMAT_VERSION,
            "kind": type(model).__name__,
            "settings": model.get_params(),
            "fitted": {
                name: _plain(value) for name, value in vars(model).items() if name.endswith("_")
            },
        }

        def write(file: BinaryIO) -> None:
            torch.save(content, file)

    _write(Path(path), write)


def load_ensemble(
    path: str | os.PathLike[str], *, allow_pickle: bool = False
) -> NetworkEnsemble | TextureForest:
    """Read what ``save_ensemble`` wrote; it predicts as the saved one did.

    Parameters
    ----------
    allow_pickle : bool, needed for forests; allow it only for files that you trust

    Raises
    ------
    CheckpointError
        When the file is absent, damaged, of another format version, or a pickle not allowed.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.readline(len(FOREST_MARK) + 20)
            if start.startswith(FOREST_MARK):
                _check_version(path, start[len(FOREST_MARK) :].decode().strip())
                return _forest(path, file, allow_pickle=allow_pickle)
        if not start.startswith(ZIP_MARK):  # else torch would try a pickle of old
            raise CheckpointError(f"{path} is no saved ensemble. Name a file of save_ensemble.")
        return _networks(path)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"No ensemble at {path}. Save one first, or mend the path."
        ) from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError) as error:
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(
            f"{path} is damaged or no saved ensemble ({why}). Save it again."
        ) from error


def _forest(path: Path, file: BinaryIO, *, allow_pickle: bool) -> TextureForest:
    if not allow_pickle:
        raise CheckpointError(
            f"{path} holds a forest, a pickle that runs code when it is read. "
            "If you trust it, say allow_pickle=True."
        )
    return pickle.load(file)


def _networks(path: Path) -> NetworkEnsemble:
    content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, dict) or content.get("kind") not in KINDS:
        raise CheckpointError(f"{path} is no saved ensemble. Name a file of save_ensemble.")
    _check_version(path, str(content["format_version"]))
    model = KINDS[content["kind"]](**content["settings"])
    for name, value in content["fitted"].items():
        setattr(model, name, _restored(value))
    model.scaling_ = Scaling(*model.scaling_)
    return model


def _check_version(path: Path, version: str) -> None:
    if version != str(FORMAT_VERSION):
        raise CheckpointError(
            f"{path} has format version {version}; this soilkit reads {FORMAT_VERSION}. "
            "Install the soilkit that wrote it, or train again."
        )


def _plain(value: Any) -> Any:
    """The value without numpy: arrays become marked tensors, or marked lists where of names."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_plain(item) for item in value)
    if isinstance(value, np.ndarray):
        return {ARRAY: value.tolist() if value.dtype == object else torch.from_numpy(value)}
    return value


def _restored(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_restored(item) for item in value)
    if isinstance(value, dict) and set(value) != {ARRAY}:
        return {name: _restored(item) for name, item in value.items()}
    if isinstance(value, dict):
        held = value[ARRAY]
        return np.array(held, dtype=object) if isinstance(held, list) else held.numpy()
    return value


def _write(path: Path, write: Callable[[BinaryIO], None]) -> None:
    try:
        write_bytes_whole(path, write)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        raise StoreError(
            f"Cannot write the ensemble {path}: the disk is full or refuses it ({error}). "
            "What stood there before is untouched."
        ) from error

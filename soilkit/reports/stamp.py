"""What a result came from: versions, seed and the hash of its data."""

import hashlib
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from soilkit._version import __version__
from soilkit.files import write_text_whole

PACKAGES = ("numpy", "pandas", "xarray", "scikit-learn", "torch", "zarr", "ismn", "papermill")


def stamp(*, seed: int, data: dict[str, str | Path]) -> dict[str, Any]:
    """Versions, seed and one SHA-256 a named piece of data; no clock, so that equal runs are equal.

    Parameters
    ----------
    seed : int
    data : mapping of a name to a file (hashed here) or to a hash that its owner gives (a chip
        store's ``data_hash``, a world's ``version``)
    """
    versions = {"soilkit": __version__, "python": platform.python_version()}
    versions |= {name: version(name) for name in PACKAGES}
    return {
        "seed": int(seed),
        "versions": versions,
        "data": {name: _hash(item) for name, item in data.items()},
    }


def _hash(item: str | Path) -> str:
    path = Path(item)
    if not isinstance(item, Path) and (len(str(item)) > 255 or not path.is_file()):
        return str(item)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_result(out_dir: str | Path, notebook: str, **results: Any) -> Path:
    """Write a notebook's small text results to ``out_dir/results/<notebook>/``, for the report.

    A table becomes ``<name>.csv``, a mapping ``<name>.yaml``.
    """
    folder = Path(out_dir) / "results" / notebook
    folder.mkdir(parents=True, exist_ok=True)
    for name, result in results.items():
        if isinstance(result, dict):
            write_text_whole(folder / f"{name}.yaml", yaml.safe_dump(result, sort_keys=False))
        else:
            write_text_whole(folder / f"{name}.csv", as_csv(result))
    return folder


def as_csv(table: Any) -> str:
    """A table as the text that reports keep: six digits, no index."""
    return table.to_csv(index=False, float_format="%.6g", lineterminator="\n")

"""Where scenes, chips and coarse series come from: one door, several archives."""

import importlib
from typing import Any

from soilkit.archives.confirming import confirm
from soilkit.archives.gathering import all_scenes
from soilkit.archives.synthetic import SyntheticArchive
from soilkit.contracts import Archive
from soilkit.errors import UnknownNameError

__all__ = [
    "ARCHIVES",
    "Archive",
    "SyntheticArchive",
    "all_scenes",
    "confirm",
    "open_archive",
]

# Where each archive's class lives: its module is loaded when it is asked for, since the clients
# behind some of them take seconds to import.
ARCHIVES = {
    "synthetic": ("soilkit.archives.synthetic", "SyntheticArchive"),
    "earthengine": ("soilkit.archives.earthengine", "EarthEngineArchive"),
    "stac": ("soilkit.archives.stac", "StacArchive"),
}


def open_archive(name: str, **options: Any) -> Archive:
    """Open an archive by name.

    Parameters
    ----------
    name : "synthetic", "earthengine" or "stac"
    options
        Of the archive's class: see ``SyntheticArchive``, ``earthengine.EarthEngineArchive`` and
        ``stac.StacArchive``.

    Raises
    ------
    UnknownNameError
        For a name that is no archive.

    Examples
    --------
    >>> open_archive("synthetic", seed=0, n_stations=3).name
    'synthetic'
    """
    if name not in ARCHIVES:
        raise UnknownNameError(
            f"No archive is called {name!r}; choose one of {', '.join(map(repr, ARCHIVES))}. "
            "Published shards are no archive: see soilkit.published."
        )
    module, class_name = ARCHIVES[name]
    return getattr(importlib.import_module(module), class_name)(**options)

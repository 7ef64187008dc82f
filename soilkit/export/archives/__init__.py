"""Where scenes, chips and coarse series come from: one door, several archives."""

import importlib
from typing import Any

from soilkit.contracts import Archive
from soilkit.errors import UnknownNameError
from soilkit.export.archives.scenes import all_scenes as all_scenes
from soilkit.export.archives.scenes import confirm as confirm
from soilkit.export.archives.synthetic import SyntheticArchive as SyntheticArchive

# Where each archive's class lives: its module is loaded when it is asked for, since the clients
# behind some of them take seconds to import.
ARCHIVES = {
    "synthetic": ("soilkit.export.archives.synthetic", "SyntheticArchive"),
    "earthengine": ("soilkit.export.archives.earthengine", "EarthEngineArchive"),
    "stac": ("soilkit.export.archives.stac", "StacArchive"),
    "local": ("soilkit.export.archives.local", "LocalArchive"),
}


def open_archive(name: str, **options: Any) -> Archive:
    """Open an archive by name.

    ``name`` is "synthetic", "earthengine", "stac" or "local"; ``options`` are those of
    ``SyntheticArchive``, ``earthengine.EarthEngineArchive``, ``stac.StacArchive`` or
    ``local.LocalArchive``. Raises ``UnknownNameError`` for a name that is no archive.
    """
    if name not in ARCHIVES:
        raise UnknownNameError(
            f"No archive is called {name!r}; choose one of {', '.join(map(repr, ARCHIVES))}. "
            "Published shards are no archive: see soilkit.export.published."
        )
    module, class_name = ARCHIVES[name]
    return getattr(importlib.import_module(module), class_name)(**options)

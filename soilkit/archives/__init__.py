"""Where scenes, chips and coarse series come from: one door, several archives."""

from typing import Any

from soilkit.archives.synthetic import SyntheticArchive
from soilkit.contracts import Archive
from soilkit.errors import UnknownNameError

__all__ = ["Archive", "SyntheticArchive", "open_archive"]

NOT_BUILT = ("earthengine", "stac")


def open_archive(name: str, **options: Any) -> Archive:
    """Open an archive by name.

    Parameters
    ----------
    name : "synthetic"
    options
        Of the archive's class: for "synthetic" see ``SyntheticArchive``.

    Raises
    ------
    UnknownNameError
        For a name that is no archive, or one that this version does not build yet.

    Examples
    --------
    >>> open_archive("synthetic", seed=0, n_stations=3).name
    'synthetic'
    """
    if name in NOT_BUILT:
        raise UnknownNameError(
            f"The archive {name!r} is planned but not built in this version of soilkit. "
            "Open 'synthetic', which needs no account and no network."
        )
    if name != "synthetic":
        raise UnknownNameError(f"No archive is called {name!r}; there is 'synthetic'.")
    return SyntheticArchive(**options)

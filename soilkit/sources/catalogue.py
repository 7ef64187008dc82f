"""The catalogue's rows together, and the two questions asked of them."""

from collections.abc import Iterable

import numpy as np

from soilkit.errors import BoundError, UnknownNameError
from soilkit.sources.ground import GROUND
from soilkit.sources.imagery import IMAGERY
from soilkit.sources.model import Source
from soilkit.sources.moisture import MOISTURE
from soilkit.sources.vegetation import VEGETATION
from soilkit.sources.weather import WEATHER

CATALOGUE: tuple[Source, ...] = (*IMAGERY, *GROUND, *MOISTURE, *VEGETATION, *WEATHER)
_BY_NAME = {source.name: source for source in CATALOGUE}
MINUTES = {"m": 1, "h": 60, "D": 1440, "Y": 525_960}  # a year has 365.25 days


def get(name: str) -> Source:
    """The source of that name.

    Raises
    ------
    UnknownNameError
        With the names that there are.

    Examples
    --------
    >>> get("gldas").band("SoilMoi0_10cm_inst").unit
    'kg m-2'
    """
    if name not in _BY_NAME:
        raise UnknownNameError(
            f"No source is called {name!r}; the catalogue has {', '.join(sorted(_BY_NAME))}."
        )
    return _BY_NAME[name]


def duration(text: str) -> np.timedelta64:
    """A span of time from the catalogue's words: a whole number of m, h, D or Y (365.25 days).

    Returns
    -------
    numpy.timedelta64, whole minutes

    Examples
    --------
    >>> duration("14D") == np.timedelta64(14, "D"), duration("1Y") / np.timedelta64(1, "D")
    (np.True_, np.float64(365.25))
    """
    return np.timedelta64(int(text[:-1]) * MINUTES[text[-1]], "m")


def bounds(anchor: str, names: Iterable[str]) -> dict[str, np.timedelta64]:
    """The largest age of each source's scene for an anchored join, in the order of ``names``.

    Table 5 for the anchor "sentinel1", Table 20 for "smap" [1]_. The static layers' 50 years stand
    for "whenever": a join that matches them by station need not read the number.

    Raises
    ------
    UnknownNameError
        For a source or an anchor that the catalogue lacks.
    BoundError
        For a source without a published bound under this anchor.

    References
    ----------
    .. [1] Batchu et al. (2022), arXiv:2206.09649, Tables 5 and 20

    Examples
    --------
    >>> bounds("sentinel1", ["sentinel1", "smap"])
    {'sentinel1': np.timedelta64(60,'m'), 'smap': np.timedelta64(4320,'m')}
    """
    get(anchor)
    found = {}
    for name in names:
        max_age = get(name).max_age
        if anchor not in max_age:
            raise BoundError(
                f"{name} has no published bound for joins anchored at {anchor} "
                f"(it has {', '.join(max_age) or 'none'}). "
                f"Give one yourself: {{{name!r}: np.timedelta64(...)}}."
            )
        found[name] = duration(max_age[anchor])
    return found

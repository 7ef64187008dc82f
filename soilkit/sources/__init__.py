"""The catalogue of input layers: a row says everything about one, and a new layer is a new row."""

import re
from collections.abc import Iterable

import numpy as np

from soilkit.errors import BoundError, UnknownNameError
from soilkit.sources.coarse_fields import MODIS, MOISTURE, WEATHER
from soilkit.sources.fine_fields import GROUND, IMAGERY
from soilkit.sources.row import Band as Band
from soilkit.sources.row import Collection as Collection
from soilkit.sources.row import EarthEngine as EarthEngine
from soilkit.sources.row import Linear as Linear
from soilkit.sources.row import LogSigmoid as LogSigmoid
from soilkit.sources.row import Source as Source
from soilkit.sources.row import Stac as Stac
from soilkit.units import OF_ENDINGS

CATALOGUE: tuple[Source, ...] = (*IMAGERY, *GROUND, *MOISTURE, *MODIS, *WEATHER)
MINUTES = {"m": 1, "h": 60, "D": 1440, "Y": 525_960}  # a year has 365.25 days
ANCHOR_MAX_AGE = "1h"  # of an anchor's own scene
AROUND = {"mean": " within {} m", "std": ", spread within {} m", "mode": ", commonest within {} m"}
CHIP = re.compile(rf"(\w+)_({'|'.join(AROUND)})_(\d+)m")  # a statistic around a station
DERIVED = {"NDVI": "1", "slope": "°"}  # layers that chips give beside their bands


def get(name: str) -> Source:
    """The source of that name.

    Raises ``UnknownNameError`` with the names that there are.
    """
    for source in CATALOGUE:
        if source.name == name:
            return source
    raise UnknownNameError(
        f"No source is called {name!r}; the catalogue has "
        f"{', '.join(sorted(source.name for source in CATALOGUE))}."
    )


def described(name: str) -> tuple[str, str, Band | None]:
    """A column of numbers in words, its unit, and the band whose stored values it holds, if any.

    Examples
    --------
    >>> described("dem_slope_mean_80m"), described("rain_7d_mm")
    (('NASADEM slope within 80 m', '°', None), ('rain over 7 d', 'mm', None))
    """
    stem, kind, radius = m.groups() if (m := CHIP.fullmatch(name)) else (name, "", "")
    around = AROUND.get(kind, "").format(radius)
    for source in CATALOGUE:
        units_of = {band.name: OF_ENDINGS.get(band.unit, band.unit) for band in source.bands}
        layer = stem.removeprefix(f"{source.name}_")
        if layer != stem and (layer in units_of | DERIVED or layer != layer.lower()):
            words = f"{source.title.split()[0]} {layer.replace('_', ' ')}{around}"
            band = source.band(layer) if layer in units_of else None
            return words, (units_of | DERIVED).get(layer, ""), band
    ending = next((e for e in OF_ENDINGS if stem.endswith(f"_{e}")), "")
    words = re.sub(r"_(\d+)d(?=_)", r" over \1 d", stem).removesuffix(f"_{ending}")
    return words.replace("_", " ") + around, OF_ENDINGS.get(ending, ""), None


def duration(text: str) -> np.timedelta64:
    """A span of whole minutes from words: a number of m, h, D or Y (365.25 days)."""
    return np.timedelta64(int(text[:-1]) * MINUTES[text[-1]], "m")


def bounds(anchor: str, names: Iterable[str]) -> dict[str, np.timedelta64]:
    """The largest age of each source's scene for an anchored join, in the order of ``names``.

    An anchor's own scene is at most an hour old, the others' as their rows say. For the paper's
    sources these are Tables 5 (anchor "sentinel1") and 20 ("smap") [1]_; for others two revisits,
    or two lengths of a composite, whose age runs from its end. The static layers' 50 years stand
    for "whenever": a join that matches them by station need not read the number. Raises
    ``UnknownNameError`` for a source or an anchor that the catalogue lacks, and ``BoundError`` for
    an anchor without a time.

    References
    ----------
    .. [1] Batchu et al. (2022), arXiv:2206.09649, Tables 5 and 20

    Examples
    --------
    >>> bounds("sentinel1", ["sentinel1", "smap"])
    {'sentinel1': np.timedelta64(60,'m'), 'smap': np.timedelta64(4320,'m')}
    """
    if get(anchor).is_static:
        raise BoundError(f"{anchor} has no time, so nothing can be anchored at it.")
    return {
        name: duration(ANCHOR_MAX_AGE if name == anchor else get(name).max_age) for name in names
    }

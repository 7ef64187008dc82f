"""Which collections and assets of a STAC catalogue serve which source and band of soilkit."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from soilkit import sources
from soilkit.errors import ContractError, UnknownNameError

POWER, DECIBEL = "power", "dB"


@dataclass(frozen=True)
class Offer:
    """A collection that is known to serve a source; ``note`` says how it differs from the paper's.

    ``unit`` is "power" where backscatter is stored as linear power.
    """

    source: str
    collection: str
    note: str = ""
    unit: str = ""


RTC = "gamma nought, terrain-flattened, in linear power (converted to dB), without incidence angle"
GRD = "as delivered by the agency: uncalibrated amplitude in radar geometry, which is refused"
L2A = "Level-2A surface reflectance without QA60, not the paper's Level-1C"

# In order of preference. A collection named like the source itself always comes first.
OFFERS = (
    Offer("sentinel1", "sentinel-1-rtc", RTC, POWER),
    Offer("sentinel1", "sentinel-1-grd", GRD),
    Offer("sentinel2", "sentinel-2-l1c", "Level-1C without QA60"),
    Offer("sentinel2", "sentinel-2-c1-l2a", L2A),
    Offer("sentinel2", "sentinel-2-l2a", L2A),
    Offer("dem", "nasadem"),
    Offer("modis_lai", "modis-15A3H-061"),
    Offer("soilgrids", "soilgrids250m"),
    Offer("landsat8", "landsat-c2-l2", "Landsat 4 to 9 in one collection: filter by platform"),
)

# Other names of a band, as asset keys, band names or common names.
ALIASES: dict[tuple[str, str], tuple[str, ...]] = {
    ("sentinel2", "B2"): ("B02", "B02_10m", "blue"),
    ("sentinel2", "B3"): ("B03", "B03_10m", "green"),
    ("sentinel2", "B4"): ("B04", "B04_10m", "red"),
    ("sentinel2", "B5"): ("B05", "B05_20m", "rededge1", "rededge071"),
    ("sentinel2", "B6"): ("B06", "B06_20m", "rededge2", "rededge075"),
    ("sentinel2", "B7"): ("B07", "B07_20m", "rededge3", "rededge078"),
    ("sentinel2", "B8"): ("B08", "B08_10m", "nir"),
    ("sentinel2", "B11"): ("B11_20m", "swir16"),
    ("sentinel2", "B12"): ("B12_20m", "swir22"),
    ("sentinel1", "angle"): ("incidence_angle", "local_incidence_angle"),
    ("dem", "elevation"): ("data", "dem"),
    ("modis_lai", "Lai"): ("Lai_500m",),
    **{("soilgrids", band): (f"{band}_0-5cm_mean", f"{band}_0-5cm", f"{band}_mean")
       for band in ("sand", "silt", "clay", "bdod")},
}  # fmt: skip


@dataclass(frozen=True)
class Served:
    """How a catalogue serves one source: its collections, and assets that were named by hand."""

    source: str
    collections: tuple[str, ...]
    assets: Mapping[str, Any]
    unit: str = ""
    note: str = ""


@dataclass(frozen=True)
class Options:
    """What a user said of a catalogue, each by source: collections, assets, units."""

    collections: Mapping[str, str | Sequence[str]]
    assets: Mapping[str, Mapping[str, Any]]
    units: Mapping[str, str]


def plain(name: str) -> str:
    """A name in lower case without punctuation: "Sentinel-2 L2A" and "sentinel_2_l2a" are one."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def serve(found: Iterable[str], options: Options) -> dict[str, Served]:
    """The sources that a catalogue with these collections serves.

    Parameters
    ----------
    found : ids of the catalogue's collections
    options : Options, which outweigh what is known of collections

    Raises
    ------
    UnknownNameError
        When an option names a source, a band or a collection that does not exist.
    ContractError
        For a unit other than "power" and "dB".

    Examples
    --------
    >>> serve(["sentinel-2-l2a", "nasadem"], Options({}, {}, {}))["dem"].collections
    ('nasadem',)
    """
    found = list(found)
    _check(found, options)
    by_name: dict[str, list[str]] = {}
    for collection in found:
        by_name.setdefault(plain(collection), []).append(collection)
    served = {}
    for source in sources.CATALOGUE:
        named = options.collections.get(source.name)
        ids = (named,) if isinstance(named, str) else tuple(named or ())
        offers = [o for o in OFFERS if o.source == source.name and plain(o.collection) in by_name]
        if not ids and plain(source.name) in by_name:
            ids = tuple(by_name[plain(source.name)])
        elif not ids and offers:
            ids = tuple(by_name[plain(offers[0].collection)])
        if ids:
            served[source.name] = _served(source.name, ids, options)
    return served


def _served(source: str, ids: tuple[str, ...], options: Options) -> Served:
    known = [
        o for o in OFFERS if o.source == source and plain(o.collection) in {plain(i) for i in ids}
    ]
    unit = options.units.get(source) or next((o.unit for o in known), "")
    note = "; ".join(o.note for o in known if o.note)
    return Served(source, ids, options.assets.get(source, {}), unit, note)


def _check(found: Sequence[str], options: Options) -> None:
    for name in (*options.collections, *options.assets, *options.units):
        sources.get(name)
    for name, assets in options.assets.items():
        for band in assets:
            sources.get(name).band(band)
    for name, unit in options.units.items():
        if unit not in (POWER, DECIBEL):
            raise ContractError(
                f"units={{{name!r}: {unit!r}}}: backscatter is stored as 'power' or 'dB'."
            )
    for name, ids in options.collections.items():
        missing = sorted(({ids} if isinstance(ids, str) else set(ids)) - set(found))
        if missing:
            raise UnknownNameError(
                f"The catalogue has no collection {', '.join(map(repr, missing))} for {name}; "
                f"it has {', '.join(found) or 'none'}."
            )


def names_of(source: str, band: str) -> set[str]:
    """All that a band may be called, in plain letters."""
    return {plain(name) for name in (band, *ALIASES.get((source, band), ()))}


def find_asset(assets: Mapping[str, Any], band: str, *, served: Served) -> tuple[str, int] | None:
    """The asset key and the band's number in its file, from 1; None where no asset has the band.

    An asset of that name comes first, then one that lists a band of that name or common name.
    """
    chosen = served.assets.get(band)
    if chosen is not None:
        key, number = (chosen, 1) if isinstance(chosen, str) else chosen
        return (key, int(number)) if key in assets else None
    wanted = names_of(served.source, band)
    for key in sorted(assets, key=lambda k: plain(k) != plain(band)):
        if plain(key) in wanted:
            return key, _number(assets[key], wanted) or 1
    for key, asset in assets.items():
        number = _number(asset, wanted)
        if number:
            return key, number
    return None


def bands_of(asset: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What an asset says of each band of its file, the lists of STAC 1.0 and 1.1 merged."""
    lists = [asset.get(name) or [] for name in ("eo:bands", "raster:bands", "bands")]
    merged: list[dict[str, Any]] = [{} for _ in range(max(map(len, lists)))]
    for one in lists:
        for into, more in zip(merged, one, strict=False):
            into.update(more)
    return merged


def _number(asset: Mapping[str, Any], wanted: set[str]) -> int | None:
    for field in ("name", "eo:common_name", "common_name"):
        for n, band in enumerate(bands_of(asset), start=1):
            if plain(str(band.get(field, ""))) in wanted:
                return n
    return None

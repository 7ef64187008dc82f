"""Which collections and assets serve which source and band, and their values in stored units."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from soilkit import sources
from soilkit.contracts import ChipRequest, Grid
from soilkit.errors import CatalogueError, ContractError, SceneNotFoundError, UnknownNameError
from soilkit.export import rasters
from soilkit.export.archives.stac.items import Record
from soilkit.sources import Band, Source

POWER, DECIBEL = "power", "dB"
_NEAR_ONE = 1e-6


@dataclass(frozen=True)
class Options:
    """What a user said of a catalogue, each by source: collections, assets, units."""

    collections: Mapping[str, str | Sequence[str]]
    assets: Mapping[str, Mapping[str, Any]]
    units: Mapping[str, str]


@dataclass(frozen=True)
class Served:
    """How a catalogue serves one source: its collections, and assets that were named by hand."""

    source: str
    collections: tuple[str, ...]
    assets: Mapping[str, Any]
    unit: str = ""
    note: str = ""


def plain(name: str) -> str:
    """A name in lower case without punctuation: "Sentinel-2 L2A" and "sentinel_2_l2a" are one."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def serve(collections: Iterable[str], options: Options) -> dict[str, Served]:
    """The sources that a catalogue with these collections (their ids) serves.

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
    by_name: dict[str, list[str]] = {}
    for collection in collections:
        by_name.setdefault(plain(collection), []).append(collection)
    _check(options, [one for some in by_name.values() for one in some])
    served = {}
    for source in sources.CATALOGUE:
        name, usual_ones = source.name, source.stac.collections
        by_hand = options.collections.get(name, ())
        ids = (by_hand,) if isinstance(by_hand, str) else tuple(by_hand)
        usual = (by_name.get(plain(n)) for n in (name, *(one.id for one in usual_ones)))
        ids = ids or tuple(next(filter(None, usual), ()))
        known = [one for one in usual_ones if plain(one.id) in map(plain, ids)]
        if ids:
            unit = options.units.get(name) or next((one.unit for one in known), "")
            note = "; ".join(one.note for one in known if one.note)
            served[name] = Served(name, ids, options.assets.get(name, {}), unit, note)
    return served


def _check(options: Options, collections: Sequence[str]) -> None:
    for name in (*options.collections, *options.assets, *options.units):
        for band in options.assets.get(name, ()):
            sources.get(name).band(band)
        sources.get(name)
    for name, unit in options.units.items():
        if unit not in (POWER, DECIBEL):
            raise ContractError(
                f"units={{{name!r}: {unit!r}}}: backscatter is stored as 'power' or 'dB'."
            )
    for name, ids in options.collections.items():
        missing = sorted(({ids} if isinstance(ids, str) else set(ids)) - set(collections))
        if missing:
            raise UnknownNameError(
                f"The catalogue has no collection {', '.join(map(repr, missing))} for {name}; "
                f"it has {', '.join(collections) or 'none'}."
            )


def find_asset(assets: Mapping[str, Any], band: str, *, served: Served) -> tuple[str, int] | None:
    """The asset key and the band's number in its file, from 1; None where no asset has the band.

    An asset of that name comes first, then one that lists a band of that name or common name.
    """
    chosen = served.assets.get(band)
    if chosen is not None:
        key, number = (chosen, 1) if isinstance(chosen, str) else chosen
        return (key, int(number)) if key in assets else None
    names = {plain(name) for name in (band, *sources.get(served.source).band(band).aliases)}
    for key in sorted(assets, key=lambda k: plain(k) != plain(band)):
        if plain(key) in names:
            return key, _number(assets[key], names) or 1
    numbers = ((key, _number(asset, names)) for key, asset in assets.items())
    return next(((key, number) for key, number in numbers if number), None)


def bands_of(asset: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What an asset says of each band of its file, the lists of STAC 1.0 and 1.1 merged."""
    lists = [asset.get(name) or [] for name in ("eo:bands", "raster:bands", "bands")]
    merged: list[dict[str, Any]] = [{} for _ in range(max(map(len, lists)))]
    for one in lists:
        for into, more in zip(merged, one, strict=False):
            into.update(more)
    return merged


def _number(asset: Mapping[str, Any], names: set[str]) -> int | None:
    for key in ("name", "eo:common_name", "common_name"):
        for n, band in enumerate(bands_of(asset), start=1):
            if plain(str(band.get(key, ""))) in names:
                return n
    return None


# ---- values --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layer:
    """Where one band of an item lies, and how its file's numbers become stored values.

    stored = ``scale`` x number + ``offset``; None leaves both to the file's own tags.
    """

    band: Band
    href: str
    number: int
    scale: float | None
    offset: float
    nodata: float | None
    unit: str


@dataclass(frozen=True)
class Reader:
    """Reads items of one source.

    ``item_assets`` are the defaults of each collection's assets; ``sign`` turns an asset's address
    into one that may be opened.
    """

    served: Served
    item_assets: Mapping[str, Mapping[str, Any]]
    sign: Any = None

    @property
    def source(self) -> Source:
        """The source's row in the catalogue of sources."""
        return sources.get(self.served.source)

    def on_grid(self, records: Iterable[Record], request: ChipRequest) -> np.ndarray:
        """The items of a scene on the request's grid; a pixel is the first item's that knows it.

        Returns
        -------
        array (band, row, col) float32, stored values, NaN where no item has data

        Raises
        ------
        SceneNotFoundError
            When an item lacks an asset, or states of it what cannot be.
        CatalogueError
            When ``sign`` fails.
        StoreError
            When a file is absent, damaged or without a CRS.
        """
        grid, names = request.grid, list(request.bands)
        out = np.full((len(names), grid.height, grid.width), np.nan, dtype=np.float32)
        for record in records:
            for same in self._layers(record, [self.source.band(name) for name in names]):
                patch = rasters.cut(self._open(same[0]), grid, bands=[x.number for x in same])
                for layer, values in zip(same, _stored(patch, same), strict=True):
                    # classes, flags and pixels much larger than the chip are taken as they are
                    mixes = layer.band.continuous and self.source.resolution != "coarse"
                    way = request.resampling if mixes else "nearest"
                    warped = _warped(replace(patch, values=values[None]), layer, grid, way)
                    chip = out[names.index(layer.band.name)]
                    np.copyto(chip, warped, where=np.isnan(chip))
        return out

    def at_points(self, record: Record, points: np.ndarray) -> np.ndarray:
        """The pixels of an item that hold some points, (band, point), stored values."""
        bands = list(self.source.bands)
        out = np.full((len(bands), len(points)), np.nan, dtype=np.float32)
        for same in self._layers(record, bands):
            patch = rasters.sample(self._open(same[0]), points, bands=[x.number for x in same])
            for layer, values in zip(same, _stored(patch, same), strict=True):
                is_power = layer.unit == POWER and layer.band.unit == DECIBEL
                out[bands.index(layer.band)] = _decibel(values[:, 0]) if is_power else values[:, 0]
        return out

    def _layers(self, record: Record, bands: Sequence[Band]) -> list[list[Layer]]:
        """Where the bands of an item lie, file by file."""
        defaults = self.item_assets.get(record.collection, {})
        assets = {key: {**defaults.get(key, {}), **one} for key, one in record.assets.items()}
        files: dict[str, list[Layer]] = {}
        for band in bands:
            place = find_asset(assets, band.name, served=self.served)
            if place is None:
                raise SceneNotFoundError(
                    f"item {record.item_id} has no asset for {self.source.name} {band.name}; it "
                    f"has {', '.join(assets) or 'none'}"
                )
            asset, number = assets[place[0]], place[1]
            of_bands = bands_of(asset)
            words = {**asset, **(of_bands[number - 1] if number <= len(of_bands) else {})}
            try:
                scale, offset = _linear(words, record, source=self.source, band=band)
                nodata = words.get("nodata")
                if nodata is None and band.continuous:
                    nodata = self.source.stac.nodata  # many files do not state it
                nodata = None if nodata is None else float(nodata)
            except (TypeError, ValueError) as error:
                raise SceneNotFoundError(
                    f"item {record.item_id} states no number as scale, offset or nodata of asset "
                    f"{place[0]} ({error})"
                ) from error
            unit = DECIBEL if words.get("unit") == DECIBEL else self.served.unit
            layer = Layer(band, asset["href"], number, scale, offset, nodata, unit)
            files.setdefault(layer.href, []).append(layer)
        return list(files.values())

    def _open(self, layer: Layer) -> str:
        if self.sign is None:
            return layer.href
        try:
            return self.sign(layer.href)
        except Exception as error:  # the user's own function: most ask a service for a token
            raise CatalogueError(
                f"sign= could not sign {layer.href} ({type(error).__name__}: {error}). Check the "
                "service that it asks, and build again."
            ) from error


def _stored(patch: rasters.Patch, layers: Sequence[Layer]) -> np.ndarray:
    """Stored values on the file's own pixels; what an item calls no data becomes NaN."""
    out = np.empty_like(patch.values)
    for n, layer in enumerate(layers):
        values = patch.values[n]
        if layer.nodata is not None:
            values = np.where(values == np.float32(layer.nodata), np.float32(np.nan), values)
        scale, offset = (1.0 if layer.scale is None else layer.scale), layer.offset
        if layer.scale is None and (patch.scales[n], patch.offsets[n]) != (1.0, 0.0):
            scale, offset = _to_stored(patch.scales[n], patch.offsets[n], layer.band)
        out[n] = values * np.float32(scale) + np.float32(offset)
    return out


def _warped(patch: rasters.Patch, layer: Layer, grid: Grid, resampling: str) -> np.ndarray:
    """One band on a grid; backscatter is averaged in linear power, zeros of a border left out."""
    if layer.band.unit != DECIBEL:
        return patch.on_grid(grid, resampling=resampling)[0]
    power = patch.values
    if layer.unit != POWER:
        power = np.float32(10) ** (power / np.float32(10))
    power = np.where(power > 0, power, np.float32(np.nan))
    return _decibel(replace(patch, values=power).on_grid(grid, resampling=resampling)[0])


def _decibel(power: np.ndarray) -> np.ndarray:
    return np.float32(10) * np.log10(np.where(power > 0, power, np.float32(np.nan)))


def _linear(
    words: Mapping[str, Any], record: Record, *, source: Source, band: Band
) -> tuple[float | None, float]:
    """Scale and offset from a file's numbers to stored values; None where the item says nothing.

    Sentinel-2's numbers of baseline 04.00 and later are raised by 1,000, and few items say so.
    """
    raised = source.stac.raised if band.continuous else None
    scale, offset = (words.get(f"raster:{w}", words.get(w)) for w in ("scale", "offset"))
    about = record.properties
    is_lowered = bool(about.get("earthsearch:boa_offset_applied"))
    if scale is not None or offset is not None:
        offset = 0.0 if is_lowered and raised else float(offset or 0.0)
        return _to_stored(float(scale or 1.0), offset, band)
    if is_lowered or not raised:
        return None, 0.0
    try:
        baseline = float(about.get("s2:processing_baseline") or about["processing:version"])
    except (KeyError, TypeError, ValueError):
        return None, 0.0
    return None, raised[1] if baseline >= raised[0] else 0.0


def _to_stored(scale: float, offset: float, band: Band) -> tuple[float, float]:
    """From number -> physical value to number -> stored value of the band."""
    a, b = scale / band.scale, (offset - band.offset) / band.scale
    return (1.0 if abs(a - 1) < _NEAR_ONE else a), (0.0 if abs(b) < _NEAR_ONE else b)

"""Which collections and assets serve which source and band, and their values in stored units."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from soilkit import sources
from soilkit.contracts import ChipRequest
from soilkit.errors import CatalogueError, ContractError, SceneNotFoundError, UnknownNameError
from soilkit.export import rasters
from soilkit.export.archives.stac.item_search import Record
from soilkit.sources import Band, Collection, Source

POWER, DECIBEL = "power", "dB"
_NEAR_ONE = 1e-6


@dataclass(frozen=True)
class Served:
    """How a catalogue serves one source: its collections, and assets that were named by hand."""

    source: Source
    collections: tuple[str, ...]
    assets: Mapping[str, Any]
    unit: str = ""
    note: str = ""


def plain(name: str) -> str:
    """A name in lower case without punctuation: "Sentinel-2 L2A" and "sentinel_2_l2a" are one."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def serve(
    held: Sequence[str],
    *,
    collections: Mapping[str, str | Sequence[str]],
    assets: Mapping[str, Mapping[str, Any]],
    units: Mapping[str, str],
) -> dict[str, Served]:
    """The sources that a catalogue which holds these collections (their ids) serves.

    ``collections``, ``assets`` and ``units`` are what a user said of it, each by source.

    Raises
    ------
    UnknownNameError
        When an option names a source, a band or a collection that does not exist.
    ContractError
        For a unit other than "power" and "dB".

    Examples
    --------
    >>> serve(["sentinel-2-l2a", "nasadem"], collections={}, assets={}, units={})["dem"].collections
    ('nasadem',)
    """
    for name in (*collections, *assets, *units):
        for band in assets.get(name, ()):
            sources.get(name).band(band)
        sources.get(name)
    wrong = {name: unit for name, unit in units.items() if unit not in (POWER, DECIBEL)}
    if wrong:
        raise ContractError(f"units={wrong!r}: backscatter is stored as 'power' or 'dB'.")
    served = {}
    for source in sources.CATALOGUE:
        ids, known = _collections_of(source, held, by_hand=collections.get(source.name, ()))
        if ids:
            unit = units.get(source.name) or next((one.unit for one in known), "")
            note = "; ".join(one.note for one in known if one.note)
            served[source.name] = Served(source, ids, assets.get(source.name, {}), unit, note)
    return served


def _collections_of(
    source: Source, held: Sequence[str], *, by_hand: str | Sequence[str]
) -> tuple[tuple[str, ...], list[Collection]]:
    """The ids of the collections that serve a source, and what is known of them."""
    ids = (by_hand,) if isinstance(by_hand, str) else tuple(by_hand)
    missing = sorted(set(ids) - set(held))
    if missing:
        raise UnknownNameError(
            f"The catalogue has no collection {', '.join(map(repr, missing))} for {source.name}; "
            f"it has {', '.join(held) or 'none'}."
        )
    for name in (source.name, *(one.id for one in source.stac.collections)):
        ids = ids or tuple(one for one in held if plain(one) == plain(name))
    names = set(map(plain, ids))
    return ids, [one for one in source.stac.collections if plain(one.id) in names]


def find_asset(assets: Mapping[str, Any], band: str, *, served: Served) -> tuple[str, int] | None:
    """The asset key and the band's number in its file, from 1; None where no asset has the band.

    An asset of that name comes first, then one that lists a band of that name or common name.
    """
    chosen = served.assets.get(band)
    if chosen is not None:
        key, number = (chosen, 1) if isinstance(chosen, str) else chosen
        return (key, int(number)) if key in assets else None
    names = {plain(name) for name in (band, *served.source.band(band).aliases)}
    for key in sorted(assets, key=lambda key: plain(key) != plain(band)):
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

    def stored(self, values: np.ndarray, scale: float, *, offset: float) -> np.ndarray:
        """Numbers of a file with these tags as stored values, backscatter as linear power.

        What the item calls no data becomes NaN, as do the zeros of a radar image's border.
        """
        if self.nodata is not None:
            values = np.where(values == np.float32(self.nodata), np.float32(np.nan), values)
        a, b = (1.0 if self.scale is None else self.scale), self.offset
        if self.scale is None and (scale, offset) != (1.0, 0.0):
            a, b = _to_stored(scale, offset, band=self.band)
        values = values * np.float32(a) + np.float32(b)
        if self.band.unit != DECIBEL:
            return values
        power = values if self.unit == POWER else np.float32(10) ** (values / np.float32(10))
        return np.where(power > 0, power, np.float32(np.nan))

    def finished(self, values: np.ndarray) -> np.ndarray:
        """Averaged values as they are stored."""
        if self.band.unit != DECIBEL:
            return values
        return np.float32(10) * np.log10(np.where(values > 0, values, np.float32(np.nan)))


@dataclass(frozen=True)
class Reader:
    """Reads items of one source.

    ``item_assets`` are the defaults of each collection's assets; ``sign`` turns an asset's address
    into one that may be opened.
    """

    served: Served
    item_assets: Mapping[str, Mapping[str, Any]]
    sign: Any = None

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
        grid, source = request.grid, self.served.source
        chips = {
            name: np.full((grid.height, grid.width), np.nan, np.float32) for name in request.bands
        }
        for record in records:
            for layer, patch in self._patches(
                record, request.bands, lambda path, bands: rasters.cut(path, grid, bands=bands)
            ):
                # classes, flags and pixels much larger than the chip are taken as they are
                mixes = layer.band.continuous and source.resolution != "coarse"
                how = request.resampling if mixes else "nearest"
                values = layer.finished(patch.on_grid(grid, resampling=how)[0])
                chip = chips[layer.band.name]
                np.copyto(chip, values, where=np.isnan(chip))
        return np.stack(list(chips.values()))

    def at_points(self, record: Record, points: np.ndarray) -> np.ndarray:
        """The pixels of an item that hold some points, (band, point), stored values."""
        names = [band.name for band in self.served.source.bands]
        rows = {
            layer.band.name: layer.finished(patch.values[0, :, 0])
            for layer, patch in self._patches(
                record, names, lambda path, bands: rasters.sample(path, points, bands=bands)
            )
        }
        return np.stack([rows[name] for name in names])

    def _patches(
        self,
        record: Record,
        bands: Sequence[str],
        read: Callable[[str, list[int]], rasters.Patch],
    ) -> Iterator[tuple[Layer, rasters.Patch]]:
        """What an item's files hold of each band, file by file, as ``Layer.stored`` gives it."""
        files: dict[str, list[Layer]] = {}
        for name in bands:
            layer = self._layer(record, self.served.source.band(name))
            files.setdefault(layer.href, []).append(layer)
        for href, layers in files.items():
            patch = read(self._signed(href), [one.number for one in layers])
            tags = zip(layers, patch.values, patch.scales, patch.offsets, strict=True)
            for layer, values, scale, offset in tags:
                yield layer, replace(patch, values=layer.stored(values, scale, offset=offset)[None])

    def _layer(self, record: Record, band: Band) -> Layer:
        """Where a band of an item lies, by the item's words and its collection's defaults."""
        defaults = self.item_assets.get(record.item.get("collection") or "", {})
        of_item = record.item.get("assets") or {}
        assets = {key: {**defaults.get(key, {}), **one} for key, one in of_item.items()}
        place = find_asset(assets, band.name, served=self.served)
        if place is None:
            raise SceneNotFoundError(
                f"item {record.item_id} has no asset for {self.served.source.name} {band.name}; it "
                f"has {', '.join(assets) or 'none'}"
            )
        asset, number = assets[place[0]], place[1]
        of_bands = bands_of(asset)
        words = {**asset, **(of_bands[number - 1] if number <= len(of_bands) else {})}
        nodata = words.get("nodata")
        if nodata is None and band.continuous:
            nodata = self.served.source.stac.nodata  # many files do not state it
        try:
            scale, offset = _linear(words, record, source=self.served.source, band=band)
            nodata = None if nodata is None else float(nodata)
        except (TypeError, ValueError) as error:
            raise SceneNotFoundError(
                f"item {record.item_id} states no number as scale, offset or nodata of asset "
                f"{place[0]} ({error})"
            ) from error
        unit = DECIBEL if words.get("unit") == DECIBEL else self.served.unit
        return Layer(band, asset["href"], number, scale, offset, nodata, unit)

    def _signed(self, href: str) -> str:
        if self.sign is None:
            return href
        try:
            return self.sign(href)
        except Exception as error:  # the user's own function: most ask a service for a token
            raise CatalogueError(
                f"sign= could not sign {href} ({type(error).__name__}: {error}). Check the "
                "service that it asks, and build again."
            ) from error


def _linear(
    words: Mapping[str, Any], record: Record, *, source: Source, band: Band
) -> tuple[float | None, float]:
    """Scale and offset from a file's numbers to stored values; None where the item says nothing.

    Sentinel-2's numbers of baseline 04.00 and later are raised by 1,000, and few items say so.
    """
    raised = source.stac.raised if band.continuous else None
    scale, offset = (words.get(f"raster:{w}", words.get(w)) for w in ("scale", "offset"))
    about = record.item["properties"]
    is_lowered = bool(about.get("earthsearch:boa_offset_applied"))
    if scale is not None or offset is not None:
        offset = 0.0 if is_lowered and raised else float(offset or 0.0)
        return _to_stored(float(scale or 1.0), offset, band=band)
    if is_lowered or not raised:
        return None, 0.0
    try:
        baseline = float(about.get("s2:processing_baseline") or about["processing:version"])
    except (KeyError, TypeError, ValueError):
        return None, 0.0
    return None, raised[1] if baseline >= raised[0] else 0.0


def _to_stored(scale: float, offset: float, *, band: Band) -> tuple[float, float]:
    """From number -> physical value to number -> stored value of the band."""
    a, b = scale / band.scale, (offset - band.offset) / band.scale
    return (1.0 if abs(a - 1) < _NEAR_ONE else a), (0.0 if abs(b) < _NEAR_ONE else b)

"""Which collections and assets serve which source and band, and their values in stored units."""

import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import PurePath
from typing import Any

import numpy as np

from soilkit import sources
from soilkit.contracts import ChipRequest
from soilkit.errors import CatalogueError, ContractError, SceneNotFoundError, UnknownNameError
from soilkit.export import rasters
from soilkit.export.archives.stac.item_search import Record, plain
from soilkit.sources import Band, Collection, Source

log = logging.getLogger(__name__)
POWER, DECIBEL = "power", "dB"
_UNITS = {"db": DECIBEL, "power": POWER, "linear": POWER, "linearpower": POWER}
_YES = ("true", "1", "yes")
_NEAR_ONE = 1e-6
FINE_SCALE = 1e-3  # stored numbers of a finer step are large
RAISED_SINCE = np.datetime64("2022-01-25")  # when baseline 04.00 began, ESA (2022)
LAST_BASELINE = 90.0  # 99.99 is of test products and users' own
_BASELINE = re.compile(r"[A-Za-z]?(\d\d?)(?:\.(\d\d?)|(\d\d))?")  # 04.00, v05.11, N0400, 301
_BASELINE_FIELDS = ("processingbaseline", "procbaseline")  # of any extension
_BASELINE_IN_NAME = re.compile(r"_(N\d\d\.?\d\d)(?!\d)")  # of products and data strips
# Words of renderings: keys, roles, titles, types and files. JPEG 2000 is none.
_PICTURE = re.compile(
    r"\b(visual|overview|thumbnail|quick ?look|preview|browse|rendered|rendering|tci"
    r"|(true|natural|false) ?colou?r|jpe?g(?! 2000)|png|webp|gif)\b"
)
MOST_PIXELS_A_SIDE = 10  # of a source that a rendering's pixel may hold


@dataclass(frozen=True)
class Served:
    """How a catalogue serves one source: its collections, and assets that were named by hand."""

    source: Source
    collections: tuple[str, ...]
    assets: Mapping[str, Any]
    unit: str = ""
    note: str = ""


def serve(
    held: Sequence[str],
    *,
    collections: Mapping[str, str | Sequence[str]],
    assets: Mapping[str, Mapping[str, Any]],
    units: Mapping[str, str],
) -> dict[str, Served]:
    """The sources that a catalogue which holds these collections (their ids) serves.

    ``collections``, ``assets`` and ``units`` are what a user said of it, each by source. Raises
    ``UnknownNameError`` when one names a source, a band or a collection that does not exist, and
    ``ContractError`` for a unit other than "power" and "dB".
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

    An asset of that name comes first, then one that lists a band of that name or common name: data
    by its role, of few bands, of small pixels. A rendering is taken only where it is named by hand.
    """
    chosen = served.assets.get(band)
    if chosen is not None:
        key, number = (chosen, 1) if isinstance(chosen, str) else chosen
        return (key, int(number)) if key in assets else None
    wanted = served.source.band(band)
    names = {plain(name) for name in (band, *wanted.aliases)}
    is_picture = partial(is_rendering, source=served.source, band=wanted)
    data = {key: one for key, one in assets.items() if not is_picture(key, one)}
    for key in sorted(data, key=lambda key: plain(key) != plain(band)):
        if plain(key) in names:
            return key, _number(data[key], names) or 1
    listed = [(key, number) for key in data if (number := _number(data[key], names))]
    return min(listed, key=lambda place: _rank(data[place[0]]), default=None)


def _rank(asset: Mapping[str, Any]) -> tuple[bool, int, float]:
    is_data = re.search(r"\b(data|reflectance)\b", str(asset.get("roles")))
    return not is_data, len(bands_of(asset)), _pixel_m(asset)


def _pixel_m(asset: Mapping[str, Any]) -> float:
    sizes = (asset.get("gsd"), *(one.get("spatial_resolution") for one in bands_of(asset)))
    return next((float(one) for one in sizes if isinstance(one, int | float)), 0.0)


def is_rendering(key: str, asset: Mapping[str, Any], *, source: Source, band: Band) -> bool:
    """Whether an asset is a picture to look at, by its words, type, file or pixels."""
    suffix = PurePath(str(asset.get("href")).partition("?")[0]).suffix
    words = (key, suffix, *(asset.get(name) for name in ("roles", "title", "type")))
    if _PICTURE.search(re.sub(r"[^a-z0-9]+", " ", " ".join(map(str, words)).lower())):
        return True
    if not _is_imagery(source):
        return False
    of_bands = [{**asset, **one} for one in bands_of(asset) or [{}]]
    types = {str(one.get("data_type")) for one in of_bands if one.get("scale") in (None, 1)}
    is_coarse = _pixel_m(asset) > MOST_PIXELS_A_SIDE * source.pixel_size_m
    return is_coarse or any(_is_too_small(one, band) for one in types)


def _is_imagery(source: Source) -> bool:
    return source.resolution == "high" and not source.is_static


def _is_too_small(data_type: str, band: Band) -> bool:
    """Whether a band's numbers do not fit into a type, that of renderings."""
    low, high = band.stored_range
    return data_type == "uint8" and band.continuous and (low < 0 or high > 255)


def bands_of(asset: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What an asset says of each band of its file, the lists of STAC 1.0 and 1.1 merged."""
    said = (asset.get(name) for name in ("eo:bands", "raster:bands", "bands"))
    lists = [one for one in said if isinstance(one, list)]
    merged: list[dict[str, Any]] = [{} for _ in range(max(map(len, lists), default=0))]
    for one in lists:
        for into, more in zip(merged, one, strict=False):
            into.update(more if isinstance(more, dict) else {})
    return merged


def _number(asset: Mapping[str, Any], names: set[str]) -> int | None:
    bands = list(enumerate(bands_of(asset), start=1))
    is_counted = all(band.get("name") == f"b{n}" for n, band in bands)  # as rio-stac writes
    for key in ("name", "eo:common_name", "common_name")[is_counted:]:
        for n, band in bands:
            if plain(str(band.get(key, ""))) in names:
                return n
    return None


# ---- values --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layer:
    """Where one band of an item lies, and how its file's numbers become stored values.

    stored = ``scale`` x number + ``offset``; a scale of None leaves it to the file's own tags.
    ``name`` is that of item and asset, for messages.
    """

    source: Source
    band: Band
    name: str
    href: str
    number: int
    scale: float | None
    offset: float
    nodata: tuple[float, ...]
    unit: str

    def stored(self, patch: rasters.Patch, n: int) -> tuple[np.ndarray, str]:
        """Band ``n`` of a patch as stored values, backscatter as linear power.

        What the item calls no data becomes NaN, and so does all that lies outside the band's valid
        range, such as the zeros of a radar image's border; a text says so where nothing is left.
        Raises ``SceneNotFoundError`` for a rendering, and for numbers that must be of another unit
        than the source's.
        """
        values, tags = patch.values[n], (patch.scales[n], patch.offsets[n])
        values = np.where(np.isin(values, np.array(self.nodata, "f4")), np.float32(np.nan), values)
        is_bare = self.scale is None and tags == (1.0, 0.0)
        if reason := self._foreign(values, patch.dtypes[n], is_bare=is_bare):
            raise SceneNotFoundError(f"{self.name}: {reason}")
        a, b = (1.0 if self.scale is None else self.scale), self.offset
        if self.scale is None and not is_bare:
            a, b = _to_stored(*tags, band=self.band)
            b += 0.0 if tags[1] else self.offset  # of a baseline
        values = values * np.float32(a) + np.float32(b)
        if self.source.stac.raised:  # the harmonised collection has zeros where ground is dark
            is_dark = (values > self.source.stac.raised[1]) & (values < 0)
            values = np.where(is_dark, np.float32(0), values)
        if self.unit == POWER:
            values = self.finished(values)
        valid, known, reason = self.band.valid(values), values[np.isfinite(values)], ""
        if known.size and not np.isfinite(valid).any():
            low, high = self.band.stored_range
            reason = (
                f"{self.name}: all numbers lie outside the valid {low:g} to {high:g} of "
                f"{self.band.name}, from {known.min():g} to {known.max():g} once scaled. State the "
                "right scale, offset or unit, or name another asset by hand"
            )
        if self.band.unit == DECIBEL:
            valid = np.float32(10) ** (valid / np.float32(10))
        return valid, reason

    def _foreign(self, values: np.ndarray, data_type: str, *, is_bare: bool) -> str:
        """Why numbers cannot be the source's; bare are those for which nobody states a scale."""
        known, band = values[np.isfinite(values)], self.band
        if is_bare and _is_imagery(self.source) and _is_too_small(data_type, band):
            return f"a rendering of eight bits, no {band.name}; name another asset by hand"
        if known.size and band.unit == DECIBEL and self.unit != POWER and known.min() > 0:
            return (
                "no number is below zero, as decibels of ground are. Where it is linear power, say "
                f"so: units={{{self.source.name!r}: 'power'}}"
            )
        top = band.valid_range[1]
        known = known[(known <= top) | np.isfinite(band.valid(known))]  # codes stand beside either
        if not (known.size and known.max() <= top and (known % 1).any()):
            return ""
        if band.scale < FINE_SCALE or (is_bare and band.scale != 1):
            return (
                f"values up to {known.max():g} look physical; wanted the numbers that "
                f"{self.source.name} stores, (value - {band.offset:g}) / {band.scale:g}. If they "
                f"are such numbers, state their scale, {band.scale:g}, in the item"
            )
        return ""

    def finished(self, values: np.ndarray) -> np.ndarray:
        """Averaged values as they are stored."""
        if self.band.unit != DECIBEL:
            return values
        return np.float32(10) * np.log10(np.where(values > 0, values, np.float32(np.nan)))


@dataclass(frozen=True)
class Reader:
    """Reads items of one source.

    ``item_assets`` are the defaults of each collection's assets; ``sign`` turns an asset's address
    into one that may be opened; ``doubts`` gathers by source what may be wrong with its values.
    """

    served: Served
    item_assets: Mapping[str, Mapping[str, Any]]
    sign: Any = None
    doubts: dict[str, str] = field(default_factory=dict)

    def on_grid(self, records: Iterable[Record], request: ChipRequest) -> np.ndarray:
        """The items of a scene on the request's grid; a pixel is the first item's that knows it.

        The array (band, row, col) float32 holds stored values, NaN where no item has data. Raises
        ``SceneNotFoundError`` when an item lacks an asset, or states of it what cannot be,
        ``CatalogueError`` when ``sign`` fails, and ``StoreError`` when a file is absent, damaged or
        without a CRS.
        """
        grid, source = request.grid, self.served.source
        empty = np.full((grid.height, grid.width), np.nan, np.float32)
        chips = {name: empty.copy() for name in request.bands}
        lost: dict[str, str] = {}
        read = partial(rasters.cut, grid=grid)
        for record in records:
            for layer, patch in self._patches(record, request.bands, read=read, lost=lost):
                # classes, flags and pixels much larger than the chip are taken as they are
                mixes = layer.band.continuous and source.resolution != "coarse"
                method = request.resampling if mixes else "nearest"
                values = layer.finished(patch.on_grid(grid, resampling=method)[0])
                chip = chips[layer.band.name]
                np.copyto(chip, values, where=np.isnan(chip))
        self._check(chips, lost)
        return np.stack(list(chips.values()))

    def at_points(self, record: Record, points: np.ndarray) -> np.ndarray:
        """The pixels of an item that hold some points, (band, point), stored values."""
        names, lost = [band.name for band in self.served.source.bands], dict[str, str]()
        read = partial(rasters.sample, points=points)
        rows = {
            layer.band.name: layer.finished(patch.values[0, :, 0])
            for layer, patch in self._patches(record, names, read=read, lost=lost)
        }
        self._check(rows, lost)
        return np.stack([rows[name] for name in names])

    def _check(self, values: Mapping[str, np.ndarray], lost: Mapping[str, str]) -> None:
        """A composite may lack a band at a place, where a satellite's image lacks all or none."""
        reasons = [why for name, why in lost.items() if np.isnan(values[name]).all()]
        if reasons and (len(reasons) == len(values) or _is_imagery(self.served.source)):
            raise SceneNotFoundError("; ".join(reasons))

    def _patches(
        self,
        record: Record,
        bands: Sequence[str],
        *,
        read: Callable[..., rasters.Patch],
        lost: dict[str, str],
    ) -> Iterator[tuple[Layer, rasters.Patch]]:
        """What an item's files hold of each band, file by file, as ``Layer.stored`` gives it.

        ``lost`` gathers by band why nothing of it is left.
        """
        files: dict[str, list[Layer]] = {}
        for name in bands:
            layer = self._layer(record, self.served.source.band(name))
            files.setdefault(layer.href, []).append(layer)
        for href, layers in files.items():
            patch = read(self._signed(href), bands=[one.number for one in layers])
            for n, layer in enumerate(layers):
                values, reason = layer.stored(patch, n)
                lost |= {layer.band.name: reason} if reason else {}
                yield layer, replace(patch, values=values[None])

    def _layer(self, record: Record, band: Band) -> Layer:
        """Where a band of an item lies, by the item's words and its collection's defaults."""
        source, defaults = self.served.source, self.item_assets.get(record.item["collection"], {})
        of_item = record.item["assets"]
        assets = {key: {**defaults.get(key, {}), **one} for key, one in of_item.items()}
        place = find_asset(assets, band.name, served=self.served)
        if place is None:
            names = [f"{k} (a rendering)" if is_rendering(k, one, source=source, band=band) else k
                     for k, one in assets.items()]  # fmt: skip
            raise SceneNotFoundError(
                f"item {record.item_id} has no asset for {source.name} {band.name}; it has "
                f"{', '.join(names) or 'none'}"
            )
        asset, number = assets[place[0]], place[1]
        of_bands = bands_of(asset)
        words = {**asset, **(of_bands[number - 1] if number <= len(of_bands) else {})}
        # many files do not state what stands for no data, and some state another number
        fills = [words.get("nodata"), source.stac.nodata if band.continuous else None]
        try:
            scale, offset = self._linear(words, record, band=band)
            nodata = tuple(float(one) for one in fills if one is not None)
        except (TypeError, ValueError) as error:
            raise SceneNotFoundError(
                f"item {record.item_id} states no number as scale, offset or nodata of asset "
                f"{place[0]} ({error})"
            ) from error
        unit = _UNITS.get(plain(str(words.get("unit"))), self.served.unit)
        name = f"asset {place[0]} of item {record.item_id}"
        return Layer(source, band, name, asset["href"], number, scale, offset, nodata, unit)

    def _linear(
        self, words: Mapping[str, Any], record: Record, *, band: Band
    ) -> tuple[float | None, float]:
        """Scale and offset from a file's numbers to stored values; None leaves it to its tags.

        Sentinel-2's numbers of baseline 04.00 and later are raised by 1,000, and few items say so.
        """
        scale, offset = (_number_of(words, name) for name in ("scale", "offset"))
        if (scale or 1.0, offset or 0.0) == (1.0, 0.0):  # as written for files without tags
            scale = offset = None
        raised = self.served.source.stac.raised if band.continuous else None
        lowering = 0.0
        if raised and _is_lowered(record):
            offset = 0.0 if scale else None
        elif raised:
            lowering = self._lowering(record, offset, raised=raised)
        if scale is None and offset is None:
            return None, lowering
        a, b = _to_stored(scale or 1.0, offset or 0.0, band=band)
        if raised and b == raised[1] and record.start < RAISED_SINCE:
            # a collection's default, true of its later items
            b = 0.0 if (baseline_of(record.item) or raised[0]) < raised[0] else b
        return a, lowering if offset is None else b

    def _lowering(
        self, record: Record, offset: float | None, *, raised: tuple[float, float]
    ) -> float:
        """What to add to digital numbers, unless the item states an offset; doubts are noted."""
        baseline, is_late = baseline_of(record.item), bool(record.start >= RAISED_SINCE)
        is_raised = baseline is not None and baseline >= raised[0]
        words = ""
        if offset is None and is_late and not is_raised:
            words = "states no processing baseline of its time"
        elif offset == 0 and is_raised:
            words = f"states an offset of 0 beside processing baseline {baseline:05.2f}"
        name = self.served.source.name
        if words and name not in self.doubts:
            self.doubts[name] = (
                f"item {record.item_id} {words}; its numbers, taken as they are, may be raised"
            )
            log.warning("%s: %s", name, self.doubts[name])
        return raised[1] if is_raised else 0.0

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


def _number_of(words: Mapping[str, Any], name: str) -> float | None:
    value = words.get(f"raster:{name}", words.get(name))
    number = None if value is None else float(value)
    if number is not None and (not np.isfinite(number) or (name == "scale" and number == 0)):
        raise ValueError(f"{name} {number}")
    return number


def _is_lowered(record: Record) -> bool:
    """Whether an item says that the 1,000 are subtracted already."""
    said = record.item["properties"].items()
    return any(plain(k).endswith("boaoffsetapplied") and plain(str(v)) in _YES for k, v in said)


def baseline_of(item: Mapping[str, Any]) -> float | None:
    """The processing baseline of a Sentinel-2 item, by a property or a product's name in it.

    Examples
    --------
    >>> baseline_of({"id": "", "properties": {"processing:version": "v05.11"}, "assets": {}})
    5.11
    """
    said = item["properties"]
    stated = [value for key, value in said.items() if plain(key).endswith(_BASELINE_FIELDS)]
    hrefs = [one["href"] for one in item["assets"].values()]
    named = _BASELINE_IN_NAME.findall(json.dumps([item["id"], said, hrefs]))
    for text in (*stated, said.get("processing:version"), *named):
        parts = _BASELINE.fullmatch(str(text).strip())
        if parts and (number := float(f"{parts[1]}.{parts[2] or parts[3] or 0}")) < LAST_BASELINE:
            return number
    return None


def _to_stored(scale: float, offset: float, *, band: Band) -> tuple[float, float]:
    """From number -> physical value to number -> stored value of the band.

    A scale of one is no physical one where the source stores other numbers, and an offset beyond
    all physical values is one of numbers.
    """
    if band.scale != 1:
        scale = band.scale if scale == 1 else scale
        offset = offset * scale if abs(offset) > max(map(abs, band.valid_range)) else offset
    a, b = scale / band.scale, (offset - band.offset) / band.scale
    return (1.0 if abs(a - 1) < _NEAR_ONE else a), (0.0 if abs(b) < _NEAR_ONE else b)

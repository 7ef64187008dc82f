"""Assets to values in a source's stored units: on a chip's grid, or at points."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from soilkit import sources
from soilkit.contracts import ChipRequest, Grid
from soilkit.errors import CatalogueError, SceneNotFoundError
from soilkit.export import rasters
from soilkit.export.archives.stac import items
from soilkit.export.archives.stac.items import DECIBEL, POWER, Record, Served
from soilkit.sources import Band, Source

OFFSET_SINCE = 4.0  # the processing baseline of Sentinel-2 that raised all digital numbers
OFFSET_DN = -1000.0
_NEAR_ONE = 1e-6


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

    def layer(self, record: Record, band: Band) -> Layer:
        """Where a band of an item lies.

        Raises
        ------
        SceneNotFoundError
            When the item has no asset for the band, or tells of it what cannot be.
        """
        defaults = self.item_assets.get(record.collection, {})
        assets = {key: {**defaults.get(key, {}), **one} for key, one in record.assets.items()}
        found = items.find_asset(assets, band.name, served=self.served)
        if found is None:
            raise SceneNotFoundError(
                f"item {record.item_id} has no asset for {self.source.name} {band.name}; it has "
                f"{', '.join(assets) or 'none'}"
            )
        key, number = found
        told = items.bands_of(assets[key])
        about = {**assets[key], **(told[number - 1] if number <= len(told) else {})}
        try:
            scale, offset = _linear(about, record, source=self.source, band=band)
            nodata = _nodata(about, source=self.source, band=band)
        except (TypeError, ValueError) as error:
            raise SceneNotFoundError(
                f"item {record.item_id} states no number as scale, offset or nodata of asset "
                f"{key} ({error})"
            ) from error
        unit = DECIBEL if about.get("unit") == DECIBEL else self.served.unit
        return Layer(band, assets[key]["href"], number, scale, offset, nodata, unit)

    def on_grid(self, records: Iterable[Record], request: ChipRequest) -> np.ndarray:
        """The items of a scene on the request's grid, the first that knows a pixel telling it.

        Returns
        -------
        array (band, row, col) float32, stored values, NaN where no item has data

        Raises
        ------
        SceneNotFoundError
            When an item lacks an asset.
        CatalogueError
            When ``sign`` fails.
        StoreError
            When a file is absent, damaged or without a CRS.
        """
        grid = request.grid
        out = np.full((len(request.bands), grid.height, grid.width), np.nan, dtype=np.float32)
        names = list(request.bands)
        for record in records:
            layers = [self.layer(record, self.source.band(name)) for name in names]
            for same in _by_file(layers):
                patch = rasters.cut(self._open(same[0]), grid, bands=[x.number for x in same])
                for layer, values in zip(same, _stored(patch, same), strict=True):
                    found = _warped(layer, values, patch, (grid, self._way(layer, request)))
                    row = out[names.index(layer.band.name)]
                    np.copyto(row, found, where=np.isnan(row))
        return out

    def at_points(self, record: Record, points: np.ndarray) -> np.ndarray:
        """The pixels of an item that hold some points, (band, point), stored values."""
        bands = list(self.source.bands)
        out = np.full((len(bands), len(points)), np.nan, dtype=np.float32)
        layers = [self.layer(record, band) for band in bands]
        for same in _by_file(layers):
            patch = rasters.sample(self._open(same[0]), points, bands=[x.number for x in same])
            for layer, values in zip(same, _stored(patch, same), strict=True):
                power = layer.unit == POWER and layer.band.unit == DECIBEL
                out[bands.index(layer.band)] = _decibel(values[:, 0]) if power else values[:, 0]
        return out

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

    def _way(self, layer: Layer, request: ChipRequest) -> str:
        """Classes, flags and pixels much larger than the chip are taken as they are."""
        if not layer.band.continuous or self.source.resolution == "coarse":
            return "nearest"
        return request.resampling


def _by_file(layers: Sequence[Layer]) -> list[list[Layer]]:
    files: dict[str, list[Layer]] = {}
    for layer in layers:
        files.setdefault(layer.href, []).append(layer)
    return list(files.values())


def _stored(patch: rasters.Patch, layers: Sequence[Layer]) -> np.ndarray:
    """Stored values on the file's own pixels; what an item calls no data becomes NaN."""
    out = np.empty_like(patch.values)
    told = zip(layers, patch.values, patch.scales, patch.offsets, strict=True)
    for n, (layer, values, scale, offset) in enumerate(told):
        if layer.nodata is not None:
            values = np.where(values == np.float32(layer.nodata), np.float32(np.nan), values)
        if layer.scale is not None:
            out[n] = values * np.float32(layer.scale) + np.float32(layer.offset)
        elif (scale, offset) != (1.0, 0.0):
            a, b = _to_stored(scale, offset, layer.band)
            out[n] = values * np.float32(a) + np.float32(b)
        else:
            out[n] = values + np.float32(layer.offset)
    return out


def _warped(layer: Layer, values: np.ndarray, patch: rasters.Patch, how: tuple[Grid, str]):
    """One band on a grid; backscatter is averaged in linear power."""
    grid, way = how
    radar = layer.band.unit == DECIBEL
    if radar:
        power = values if layer.unit == POWER else np.float32(10) ** (values / np.float32(10))
        values = np.where(power > 0, power, np.float32(np.nan))  # some borders are filled with 0
    whole = rasters.Patch(values[None], patch.crs, patch.transform, (1.0,), (0.0,))
    found = whole.on_grid(grid, resampling=way)[0]
    return _decibel(found) if radar else found


def _decibel(power: np.ndarray) -> np.ndarray:
    return np.float32(10) * np.log10(np.where(power > 0, power, np.float32(np.nan)))


def _linear(
    about: Mapping[str, Any], record: Record, *, source: Source, band: Band
) -> tuple[float | None, float]:
    """Scale and offset from a file's numbers to stored values; None where the item says nothing."""
    scale, offset = (about.get(f"raster:{w}", about.get(w)) for w in ("scale", "offset"))
    optical = source.name == "sentinel2" and band.continuous
    if scale is None and offset is None:
        return None, OFFSET_DN if optical and _raised(record) else 0.0
    if optical and record.properties.get("earthsearch:boa_offset_applied"):
        offset = 0.0
    return _to_stored(float(scale or 1.0), float(offset or 0.0), band)


def _to_stored(scale: float, offset: float, band: Band) -> tuple[float, float]:
    """From number -> physical value to number -> stored value of the band."""
    a, b = scale / band.scale, (offset - band.offset) / band.scale
    return (1.0 if abs(a - 1) < _NEAR_ONE else a), (0.0 if abs(b) < _NEAR_ONE else b)


def _raised(record: Record) -> bool:
    """Whether a Sentinel-2 item's digital numbers carry the offset of baseline 04.00 and later."""
    words = (record.properties.get(key) for key in ("s2:processing_baseline", "processing:version"))
    said = next((str(word) for word in words if word), "")
    if record.properties.get("earthsearch:boa_offset_applied"):
        return False
    try:
        return float(said) >= OFFSET_SINCE
    except ValueError:
        return False


def _nodata(about: Mapping[str, Any], *, source: Source, band: Band) -> float | None:
    told = about.get("nodata")
    if told is None and source.name == "sentinel2" and band.continuous:
        return 0.0  # by the product's specification; many files do not tell
    return None if told is None else float(told)

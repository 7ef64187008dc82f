"""The images of a published record as chips of our sources, in stored units."""

import hashlib
from collections.abc import Iterator

import numpy as np

from soilkit import chips, sources
from soilkit.chips.requests import chip_size
from soilkit.contracts import Chip, ChipRequest, Grid
from soilkit.published import coding, schema
from soilkit.published.placing import cropped
from soilkit.published.shards import Sample
from soilkit.sources import Source

ORIGIN = ("published", "soil_moisture_retrieval")
PREFIX = {"sentinel1": "sentinel_1", "sentinel2": "sentinel_2", "dem": "nasa_dem",
          "soilgrids": "soil_grids_sand"}  # fmt: skip
STATIC = "static"
UNDATED = "undated"


def _features(source: Source) -> dict[str, str]:
    """The feature of each band that the shards hold, in the catalogue's order."""
    held = {schema.feature(n).band: n for n in schema.images_of(source.name)}
    return {band.name: held[band.name] for band in source.bands if band.name in held}


FEATURES: dict[str, dict[str, str]] = {name: _features(sources.get(name)) for name in PREFIX}
BANDS: dict[str, tuple[str, ...]] = {name: tuple(bands) for name, bands in FEATURES.items()}


def chips_of(
    sample: Sample, *, station_id: str, grid: Grid, size_px: int
) -> Iterator[tuple[ChipRequest, Chip]]:
    """A record's images as chips, one a source, cropped to ``size_px`` about the centre.

    A scene's id is its time and a digest of its place and pixels: equal images of a station are one
    scene however many records hold them, and different ones never stand for each other. Soil maps,
    published at 10 m, are averaged over blocks of 16 x 16 known pixels.

    Parameters
    ----------
    sample : Sample with the images of ``schema.MODEL_IMAGES``
    station_id : text
    grid : the 10 m grid of the images
    size_px : int, pixels of 10 m a side, a multiple of 32
    """
    inner = cropped(grid, size_px)
    edge = (grid.width - size_px) // 2
    window = np.s_[edge : edge + size_px, edge : edge + size_px]
    for name, features in FEATURES.items():
        source = sources.get(name)
        raw = {f: sample.images[f][window] for f in features.values()}
        request = _request(
            sample, source, raw=list(raw.values()), station_id=station_id, grid=inner
        )
        values = np.stack([coding.decode(f, image) for f, image in raw.items()])
        chip = Chip(_on_grid(values, source, request.grid), request.bands, request.grid)
        yield request, chip


def _request(
    sample: Sample, source: Source, *, raw: list[np.ndarray], station_id: str, grid: Grid
) -> ChipRequest:
    times = {} if source.is_static else sample.scene_times
    time = times.get(PREFIX[source.name], np.datetime64("NaT", "us"))
    size, pixel_m = chip_size(source, grid.width)
    place = Grid(grid.crs, grid.left_m, grid.top_m, pixel_m, size, size)
    return ChipRequest(
        source=source.name,
        scene_id=f"{_when(source, time)}_{_digest(raw, place)}",
        station_id=station_id,
        time=time,
        bands=BANDS[source.name],
        grid=place,
        resampling="as published" if pixel_m == grid.pixel_size_m else "mean of known pixels",
        version=ORIGIN[1],
    )


def _when(source: Source, time: np.datetime64) -> str:
    if source.is_static:
        return STATIC
    if np.isnat(time):
        return UNDATED
    return compact(time)


def compact(time: np.datetime64) -> str:
    """A time to the second without colons.

    Examples
    --------
    >>> compact(np.datetime64("2020-06-01T12:00:05"))
    '20200601T120005'
    """
    return str(time.astype("datetime64[s]")).replace("-", "").replace(":", "")


def _digest(raw: list[np.ndarray], grid: Grid) -> str:
    found = hashlib.blake2b(repr(grid).encode(), digest_size=6)
    for image in raw:
        found.update(np.ascontiguousarray(image).data)
    return found.hexdigest()


def _on_grid(values: np.ndarray, source: Source, grid: Grid) -> np.ndarray:
    """Values (band, row, col) on the source's own pixels, within what the store can hold."""
    n = values.shape[-1] // grid.width
    if n > 1:
        blocks = values.reshape(len(values), grid.height, n, grid.width, n)
        known = np.isfinite(blocks).sum(axis=(2, 4))  # (band, row, col)
        total = np.nansum(blocks, axis=(2, 4), dtype=np.float64)
        values = np.where(known > 0, total / np.maximum(known, 1), np.nan).astype(np.float32)
    # The bytes of bright optical pixels are saturated: 251 and more stand for any number upwards.
    low, high = chips.packing_of(source).limits
    return np.clip(values, low, high)

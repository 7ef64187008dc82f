"""Chips: the expression of a request's pixels, and the job that fetches them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from soilkit.archives.earthengine import service
from soilkit.archives.earthengine.connecting import ensure
from soilkit.archives.earthengine.expressions import rectangle
from soilkit.archives.earthengine.layers import SLICES, STATIC, TILES, Layer, layer
from soilkit.contracts import ChipRequest, Grid
from soilkit.sources import Source

# What stands for a masked pixel on the way: float32 holds it, and no band comes near it.
NODATA = -1e30
PER_DB = float(np.log(10) / 10)
SMALLEST_PX = 16  # a chip is not cut below this many pixels a side


@dataclass(frozen=True)
class Part:
    """Bands that lie in the same images and are resampled alike: (name here, name there)."""

    images: tuple[str, ...]
    bands: tuple[tuple[str, str], ...]
    smooth: bool
    power: bool


def expression(request: ChipRequest) -> Any:
    """The ee.Image of a request: its bands in their order, float32, masked pixels ``NODATA``."""
    ee = service.library()
    source, how = layer(request.source)
    parts = [_picture(part, how, request) for part in plan(source, how, request)]
    image = parts[0] if len(parts) == 1 else ee.Image.cat(parts)
    return image.select(list(request.bands)).toFloat().unmask(NODATA, False)


def encoded(request: ChipRequest) -> dict[str, Any]:
    """``expression`` as it travels; requests that differ in scene and place share the work."""
    if layer(request.source)[1].form == TILES:
        return service.encoded(expression(request))
    scenes = request.scene_id.split(SLICES)
    kind = (request.source, request.bands, request.resampling)
    text = _template(kind, len(scenes))
    for k, scene in enumerate(scenes):
        text = text.replace(f"<scene {k}>", json.dumps(scene)[1:-1])
    return json.loads(text)


@lru_cache(maxsize=256)
def _template(kind: tuple[str, tuple[str, ...], str], n_scenes: int) -> str:
    """The encoded expression of a kind of request, with gaps for its scenes."""
    name, bands, resampling = kind
    scenes = SLICES.join(f"<scene {k}>" for k in range(n_scenes))
    time, grid = np.datetime64("NaT", "us"), Grid("", 0, 0, 1, 0, 0)
    request = ChipRequest(name, scenes, "", time, bands, grid, resampling)
    return json.dumps(service.encoded(expression(request)))


def plan(source: Source, how: Layer, request: ChipRequest) -> list[Part]:
    """The parts of a chip: one for each set of images and kind of resampling.

    Coarse sources are never interpolated: a chip of theirs tells what their series tells.
    """
    smooth_too = request.resampling == "bilinear" and source.resolution != "coarse"
    groups: dict[tuple[tuple[str, ...], bool, bool], list[tuple[str, str]]] = {}
    for name in request.bands:
        key = (
            _images(source, how, scene_id=request.scene_id, band=name),
            smooth_too and source.band(name).continuous,
            name in how.power,
        )
        groups.setdefault(key, []).append((name, how.band.format(band=name)))
    return [Part(images, tuple(bands), *rest) for (images, *rest), bands in groups.items()]


def _images(source: Source, how: Layer, *, scene_id: str, band: str) -> tuple[str, ...]:
    if how.form in (STATIC, TILES):
        return (how.image.format(band=band),)
    return tuple(f"{source.asset}/{one}" for one in scene_id.split(SLICES))


def _picture(part: Part, how: Layer, request: ChipRequest) -> Any:
    """One image of a part's bands; several are laid over each other after the resampling."""
    ee = service.library()
    if how.form == TILES:
        tiles = ee.ImageCollection(part.images[0]).filterBounds(rectangle(request.grid))
        return tiles.map(lambda tile: _resampled(tile, part)).mosaic()
    images = [_resampled(ee.Image(one), part) for one in part.images]
    image = images[0] if len(images) == 1 else ee.ImageCollection.fromImages(images).mosaic()
    return image.log10().multiply(10) if part.power else image


def _resampled(image: Any, part: Part) -> Any:
    """The part's bands, dB as power, to be interpolated or not.

    The image stands left of every constant: the result keeps its projection, in which to
    interpolate; a constant's would be a degree wide.
    """
    here, there = zip(*part.bands, strict=True)
    image = image.select(list(there) if all(there) else [0], list(here))
    if part.power:
        image = image.multiply(PER_DB).exp()
    return image.resample("bilinear") if part.smooth else image


@dataclass(frozen=True)
class ChipJob:
    """Fetches a request's pixels; what is too large comes in quadrants; picklable."""

    project: str | None = None

    def __call__(self, item: ChipRequest) -> np.ndarray:
        """(band, row, col), float32, NaN where masked."""
        ensure(self.project)
        found = service.pixels(encoded(item), item.grid)
        values = np.stack([found[band] for band in item.bands]).astype(np.float32)
        values[values < NODATA / 10] = np.nan
        return values

    def split(self, item: ChipRequest) -> list[ChipRequest]:
        """The quadrants of the grid, row by row; none of a chip that is small already."""
        if min(item.grid.height, item.grid.width) < 2 * SMALLEST_PX:
            return []
        return [replace(item, grid=_window(item.grid, w)) for w in _windows(item.grid)]

    def merge(self, item: ChipRequest, parts: Sequence[np.ndarray]) -> np.ndarray:
        """The quadrants pasted together."""
        whole = np.empty((len(item.bands), item.grid.height, item.grid.width), np.float32)
        for (rows, cols), values in zip(_windows(item.grid), parts, strict=True):
            whole[:, rows, cols] = values
        return whole


def _windows(grid: Grid) -> list[tuple[slice, slice]]:
    middle, centre = grid.height // 2, grid.width // 2
    rows = slice(0, middle), slice(middle, grid.height)
    cols = slice(0, centre), slice(centre, grid.width)
    return [(row, col) for row in rows for col in cols]


def _window(grid: Grid, window: tuple[slice, slice]) -> Grid:
    rows, cols = window
    return replace(
        grid,
        left_m=grid.left_m + cols.start * grid.pixel_size_m,
        top_m=grid.top_m - rows.start * grid.pixel_size_m,
        height=rows.stop - rows.start,
        width=cols.stop - cols.start,
    )

"""What the service is asked: expressions of scenes, clouds, series and chips."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from soilkit import grids, sources
from soilkit.contracts import ChipRequest, Grid
from soilkit.errors import UnknownNameError
from soilkit.export.archives.earthengine.connection import connect, ee, pixels
from soilkit.sources import EarthEngine
from soilkit.sources.row import STATIC, TILES

SLICES = "+"  # joins the ids of the images that are one scene
SIDE_STEPS = 64  # points a side at which a footprint's mask and clouds are counted
CLEAR_SCORE = 0.6  # of cs_cdf, at and above which a pixel is clear: Pasquarella et al. (2023)
CLOUDY_PERCENT = 50  # of s2cloudless, above which a pixel is cloud
STAMPS = ["scene_id", "begin_ms", "end_ms"]
# What stands for a masked pixel on the way: float32 holds it, and no band comes near it.
NODATA = -1e30
PER_DB = float(np.log(10) / 10)
SMALLEST_PX = 16  # a chip is not cut below this many pixels a side


def layer(name: str) -> EarthEngine:
    """How Earth Engine holds a source of the catalogue.

    Raises ``UnknownNameError`` for a name that the catalogue lacks, or a source that Earth Engine
    lacks: it then says where that one lives.
    """
    source = sources.get(name)
    if source.earth_engine is None:
        raise UnknownNameError(f"Earth Engine has no {name!r}. {source.lives_at}")
    return source.earth_engine


@dataclass(frozen=True)
class Piece:
    """Images of a source that start in [start, end), over some places (longitude, latitude)."""

    source: str
    start: np.datetime64
    end: np.datetime64
    places: tuple[tuple[float, float], ...] = ()


def index(piece: Piece, *, footprint_m: float) -> Any:
    """Features with ``STAMPS``; at a place also orbit and the footprint's mean masks."""
    source, held = sources.get(piece.source), layer(piece.source)
    images = _images(piece)
    if not piece.places:
        return images.map(lambda image: ee.Feature(None, _stamps(image)))
    grid = footprint(piece.places[0], footprint_m)

    def feature(image: Any) -> Any:
        bands = {"valid": _known(image.select(held.valid_band or source.bands[0].name))}
        if source.cloud_band:
            flags = image.select(source.cloud_band.name)
            mask = sum(1 << bit for bit in source.cloud_band.cloud_bits)
            bands |= {"known": _known(flags), "cloud": flags.bitwiseAnd(mask).neq(0)}
        orbit = {"orbit": image.get("orbitProperties_pass")}
        return ee.Feature(None, _stamps(image) | orbit | _means(bands, grid))

    return images.filterBounds(_rectangle(grid)).map(feature)


def clouds(piece: Piece, ids: list[str], *, footprint_m: float) -> Any:
    """Features with the clouds of Sentinel-2 scenes after Cloud Score+ and s2cloudless."""
    grid = footprint(piece.places[0], footprint_m)
    score = sources.get("cloud_score_plus").asset
    probability = sources.get("s2_cloud_probability").asset
    images = _images(piece).filterBounds(_rectangle(grid))

    def feature(image: Any) -> Any:
        image = image.linkCollection(ee.ImageCollection(score), ["cs_cdf"])
        image = image.linkCollection(ee.ImageCollection(probability), ["probability"])
        scored, likely = image.select("cs_cdf"), image.select("probability")
        bands = {
            "score": scored.lt(CLEAR_SCORE),
            "score_known": _known(scored),
            "probability": likely.gt(CLOUDY_PERCENT),
            "probability_known": _known(likely),
        }
        return ee.Feature(None, _stamps(image) | _means(bands, grid))

    return images.filter(ee.Filter.inList("system:index", ids)).map(feature)


def unions(piece: Piece, scenes: list[str], *, footprint_m: float) -> Any:
    """Features with the footprint's mean mask under all images of each scene."""
    source, held = sources.get(piece.source), layer(piece.source)
    grid = footprint(piece.places[0], footprint_m)

    def feature(scene: str) -> Any:
        images = [ee.Image(f"{source.asset}/{one}") for one in scene.split(SLICES)]
        bands = [image.select(held.valid_band or source.bands[0].name) for image in images]
        valid = _known(ee.ImageCollection.fromImages(bands).mosaic())
        return ee.Feature(None, {"scene_id": scene} | _means({"valid": valid}, grid))

    return ee.FeatureCollection([feature(scene) for scene in scenes])


def values(piece: Piece, bands: Sequence[str]) -> Any:
    """Features with ``STAMPS`` and the native pixel of every place and band: ``v<place>_<band>``.

    Neither scale nor CRS is given: any lattice but the image's own could pick a neighbour.
    """

    def feature(image: Any) -> Any:
        properties, chosen = _stamps(image), image.select(list(bands))
        for k, place in enumerate(piece.places):
            pixel = chosen.reduceRegion(ee.Reducer.first(), ee.Geometry.Point(list(place)))
            properties |= {f"v{k}_{j}": pixel.get(band) for j, band in enumerate(bands)}
        return ee.Feature(None, properties)

    return _images(piece).map(feature)


def footprint(place: tuple[float, float], side_m: float) -> Grid:
    """The points over a place (longitude, latitude) at which a mask is counted."""
    longitude, latitude = place
    step_m = side_m / SIDE_STEPS
    return grids.chip_grid(latitude, longitude, size_px=SIDE_STEPS, pixel_size_m=step_m)


def _images(piece: Piece) -> Any:
    """The images of a source that start in the piece's span and are of the wanted kind."""
    source, held = sources.get(piece.source), layer(piece.source)
    span = (int(t.astype("datetime64[ms]").astype(np.int64)) for t in (piece.start, piece.end))
    images = ee.ImageCollection(source.asset).filterDate(*span)
    for name, wanted in held.equal:
        images = images.filter(ee.Filter.eq(name, wanted))
    for name, member in held.contains:
        images = images.filter(ee.Filter.listContains(name, member))
    return images


def _stamps(image: Any) -> dict[str, Any]:
    """Id and times of an image."""
    names = ("system:index", "system:time_start", "system:time_end")
    return {short: image.get(name) for short, name in zip(STAMPS, names, strict=True)}


def _known(band: Any) -> Any:
    """One where a band holds data, zero elsewhere, beyond the image's edge too."""
    return band.mask().unmask(0, False)


def _means(bands: dict[str, Any], grid: Grid) -> dict[str, Any]:
    """The mean of every band over its valid points of a grid."""
    means = ee.Image.cat([band.rename(name) for name, band in bands.items()]).reduceRegion(
        reducer=ee.Reducer.mean(),
        geometry=_rectangle(grid),
        crs=grid.crs,
        crsTransform=list(grid.transform),
    )
    return {name: means.get(name) for name in bands}


def _rectangle(grid: Grid) -> Any:
    """A grid's outline, straight in its own CRS."""
    return ee.Geometry.Rectangle(list(grid.bounds_m), grid.crs, False)


def chip(request: ChipRequest) -> Any:
    """The ee.Image of a request: its bands in their order, float32, masked pixels ``NODATA``.

    Bands that lie in one image and are resampled alike share the work. Coarse sources are never
    interpolated: a chip of theirs tells what their series tells.
    """
    source, held = sources.get(request.source), layer(request.source)
    bilinear = request.resampling == "bilinear" and source.resolution != "coarse"
    groups: dict[tuple[str, bool, bool], list[str]] = {}
    for name in request.bands:
        band = source.band(name)
        key = held.image.format(band=name), bilinear and band.continuous, band.unit == "dB"
        groups.setdefault(key, []).append(name)
    pictures = [
        _picture(request, asset, bands=bands, smooth=smooth, power=power)
        for (asset, smooth, power), bands in groups.items()
    ]
    image = pictures[0] if len(pictures) == 1 else ee.Image.cat(pictures)
    return image.select(list(request.bands)).toFloat().unmask(NODATA, False)


def _picture(
    request: ChipRequest, asset: str, *, bands: list[str], smooth: bool, power: bool
) -> Any:
    """One image of some bands, dB averaged as power; several are laid over each other.

    What lies outside a band's valid range is missing before it is blended into its neighbours.
    """
    held, source = layer(request.source), sources.get(request.source)
    there = [held.band.format(band=name) for name in bands]
    ranges = zip(*(source.band(name).stored_range for name in bands), strict=True)
    lowest, highest = (ee.Image.constant(list(limits)) for limits in ranges)

    def resampled(image: Any) -> Any:
        # The image stands left of every constant: the result keeps its projection, in which to
        # interpolate; a constant's would be a degree wide.
        image = image.select(there if all(there) else [0], bands)
        image = image.updateMask(image.gte(lowest).And(image.lte(highest)))
        image = image.multiply(PER_DB).exp() if power else image
        return image.resample("bilinear") if smooth else image

    if held.form == TILES:
        tiles = ee.ImageCollection(asset).filterBounds(_rectangle(request.grid))
        image = tiles.map(resampled).mosaic()
    else:
        scenes = request.scene_id.split(SLICES)
        names = [asset] if held.form == STATIC else [f"{asset}/{scene}" for scene in scenes]
        images = [resampled(ee.Image(name)) for name in names]
        image = images[0] if len(images) == 1 else ee.ImageCollection.fromImages(images).mosaic()
    return image.log10().multiply(10) if power else image


@dataclass(frozen=True)
class ChipJob:
    """Fetches a request's pixels; what is too large comes in quadrants; picklable."""

    project: str | None = None

    def __call__(self, item: ChipRequest) -> np.ndarray:
        """(band, row, col), float32, NaN where masked."""
        if not ee.data.is_initialized():  # a worker's process
            connect(self.project)
        values = pixels(chip(item), item.grid, bands=item.bands)
        values[values < NODATA / 10] = np.nan
        return values

    def split(self, item: ChipRequest) -> list[ChipRequest]:
        """The quadrants of the grid, row by row; none of a chip that is small already."""
        grid, middle, centre = item.grid, item.grid.height // 2, item.grid.width // 2
        if min(middle, centre) < SMALLEST_PX:
            return []
        parts = []
        for row, height in ((0, middle), (middle, grid.height - middle)):
            for col, width in ((0, centre), (centre, grid.width - centre)):
                left_m = grid.left_m + col * grid.pixel_size_m
                top_m = grid.top_m - row * grid.pixel_size_m
                part = replace(grid, left_m=left_m, top_m=top_m, height=height, width=width)
                parts.append(replace(item, grid=part))
        return parts

    def merge(self, item: ChipRequest, parts: Sequence[np.ndarray]) -> np.ndarray:
        """The quadrants pasted together."""
        north, south = np.concatenate(parts[:2], axis=2), np.concatenate(parts[2:], axis=2)
        return np.concatenate([north, south], axis=1)

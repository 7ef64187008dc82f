"""What the service is asked about scenes: expressions for the index, for clouds, for series.

Each is a collection of features without geometry, one an image. Nothing is joined or reprojected
there: stations meet scenes in the caller's own memory.
"""

from typing import Any

import numpy as np

from soilkit import grids
from soilkit.archives.earthengine.layers import SLICES, Layer, layer
from soilkit.archives.earthengine.pieces import Piece
from soilkit.archives.earthengine.service import library
from soilkit.contracts import Grid

SIDE_STEPS = 64  # points a side at which a footprint's mask and clouds are counted
CLEAR_SCORE = 0.6  # of cs_cdf, at and above which a pixel is clear: Pasquarella et al. (2023)
CLOUDY_PERCENT = 50  # of s2cloudless, above which a pixel is cloud
ID, BEGIN, END = "i", "b", "e"
VALID, KNOWN, CLOUD, ORBIT = "valid", "known", "cloud", "orbit"


def index(piece: Piece, *, footprint_m: float) -> Any:
    """Features with id, times and, at a place, orbit and the footprint's mean mask and clouds."""
    ee = library()
    _, how = layer(piece.source)
    chosen = collection(piece)
    if not piece.places:
        return chosen.map(lambda image: ee.Feature(None, stamps(image)))
    grid = footprint(piece.places[0], footprint_m)
    chosen = chosen.filterBounds(rectangle(grid))

    def feature(image: Any) -> Any:
        means = mean(masks(image, how), grid)
        told = {ORBIT: image.get("orbitProperties_pass"), VALID: means.get(VALID)}
        if how.cloud_bits[0]:
            told |= {KNOWN: means.get(KNOWN), CLOUD: means.get(CLOUD)}
        return ee.Feature(None, stamps(image) | told)

    return chosen.map(feature)


def clouds(piece: Piece, ids: list[str], *, footprint_m: float) -> Any:
    """Features with the clouds of Sentinel-2 scenes after Cloud Score+ and s2cloudless."""
    ee = library()
    grid = footprint(piece.places[0], footprint_m)
    score, probability = (layer(n)[0].asset for n in ("cloud_score_plus", "s2_cloud_probability"))
    chosen = collection(piece).filterBounds(rectangle(grid))
    chosen = chosen.filter(ee.Filter.inList("system:index", ids))

    def feature(image: Any) -> Any:
        image = image.linkCollection(ee.ImageCollection(score), ["cs_cdf"])
        image = image.linkCollection(ee.ImageCollection(probability), ["probability"])
        scored, likely = image.select("cs_cdf"), image.select("probability")
        bands = {
            "score": scored.lt(CLEAR_SCORE),
            "score_known": known(scored),
            "probability": likely.gt(CLOUDY_PERCENT),
            "probability_known": known(likely),
        }
        means = mean(named(bands), grid)
        return ee.Feature(None, {ID: image.get("system:index")} | {n: means.get(n) for n in bands})

    return chosen.map(feature)


def unions(piece: Piece, scenes: list[str], *, footprint_m: float) -> Any:
    """A list of the footprint's mean mask under all images of each scene."""
    ee = library()
    source, how = layer(piece.source)
    grid = footprint(piece.places[0], footprint_m)

    def valid(scene: str) -> Any:
        images = [ee.Image(f"{source.asset}/{one}") for one in scene.split(SLICES)]
        laid = ee.ImageCollection.fromImages([i.select(how.valid_band) for i in images]).mosaic()
        return mean(named({VALID: known(laid)}), grid).get(VALID)

    return ee.List([valid(scene) for scene in scenes])


def values(piece: Piece, bands: tuple[str, ...]) -> Any:
    """Features with id, times and the native pixel of every place and band: ``v<place>_<band>``.

    Neither scale nor CRS is given: any lattice but the image's own could pick a neighbour.
    """
    ee = library()

    def feature(image: Any) -> Any:
        told, chosen = stamps(image), image.select(list(bands))
        for k, place in enumerate(piece.places):
            pixel = chosen.reduceRegion(ee.Reducer.first(), ee.Geometry.Point(list(place)))
            told |= {f"v{k}_{j}": pixel.get(band) for j, band in enumerate(bands)}
        return ee.Feature(None, told)

    return collection(piece).map(feature)


def collection(piece: Piece) -> Any:
    """The images of a source that start in the piece's span and are of the wanted kind."""
    ee = library()
    source, how = layer(piece.source)
    span = (int(t.astype("datetime64[ms]").astype(np.int64)) for t in (piece.start, piece.end))
    chosen = ee.ImageCollection(source.asset).filterDate(*span)
    for name, wanted in how.equal.items():
        chosen = chosen.filter(ee.Filter.eq(name, wanted))
    for name, member in how.contains:
        chosen = chosen.filter(ee.Filter.listContains(name, member))
    return chosen


def stamps(image: Any) -> dict[str, Any]:
    """Id and times of an image."""
    names = {ID: "system:index", BEGIN: "system:time_start", END: "system:time_end"}
    return {short: image.get(name) for short, name in names.items()}


def masks(image: Any, how: Layer) -> Any:
    """Bands of zeros and ones: valid, and where flags tell of clouds, known and cloud."""
    if not how.valid_band:
        return named({VALID: known(image.select([0]))})
    bands = {VALID: known(image.select(how.valid_band))}
    flags, bits = how.cloud_bits
    if flags:
        flag = image.select(flags)
        bands |= {KNOWN: known(flag), CLOUD: flag.bitwiseAnd(sum(1 << bit for bit in bits)).neq(0)}
    return named(bands)


def known(band: Any) -> Any:
    """One where a band holds data, zero elsewhere, beyond the image's edge too."""
    return band.mask().unmask(0, False)


def named(bands: dict[str, Any]) -> Any:
    """One image of several, each under its name."""
    return library().Image.cat([band.rename(name) for name, band in bands.items()])


def mean(image: Any, grid: Grid) -> Any:
    """The mean of every band over the valid points of a grid: a dictionary."""
    ee = library()
    return image.reduceRegion(
        reducer=ee.Reducer.mean(),
        geometry=rectangle(grid),
        crs=grid.crs,
        crsTransform=list(grid.transform),
    )


def footprint(place: tuple[float, float], side_m: float) -> Grid:
    """The points over a place at which a mask is counted."""
    longitude, latitude = place
    step_m = side_m / SIDE_STEPS
    return grids.chip_grid(latitude, longitude, size_px=SIDE_STEPS, pixel_size_m=step_m)


def rectangle(grid: Grid) -> Any:
    """A grid's outline, straight in its own CRS."""
    return library().Geometry.Rectangle(list(grid.bounds_m), grid.crs, False)

"""What the service is asked: how it holds each source, scenes and series by the year, chips."""

import contextlib
import hashlib
import json
import logging
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from soilkit import grids, sources
from soilkit.contracts import ChipRequest, Grid
from soilkit.errors import BoundError, StoreError, TimeZoneError, UnknownNameError
from soilkit.export.archives.earthengine import connection
from soilkit.export.archives.earthengine.connection import ensure, library
from soilkit.export.archives.earthengine.executor import Fault, Job, Policy, ServiceError, run
from soilkit.files import write_whole
from soilkit.sources import EarthEngine, Source
from soilkit.sources.row import STATIC, TILES

DAY = np.timedelta64(1, "D")
SLICES = "+"  # joins the ids of the images that are one scene


def layer(name: str) -> tuple[Source, EarthEngine]:
    """A source of the catalogue and how Earth Engine holds it.

    Raises
    ------
    UnknownNameError
        For a name that the catalogue lacks, or a source that Earth Engine lacks: it then says
        where that one lives.
    """
    source = sources.get(name)
    if source.earth_engine is None:
        raise UnknownNameError(f"Earth Engine has no {name!r}. {source.lives_at}")
    return source, source.earth_engine


def cadence(source: Source) -> np.timedelta64:
    """The usual step between scenes, datetime units of microseconds."""
    return sources.duration(source.cadence).astype("timedelta64[us]")


def dated(source: Source, begin: np.ndarray, *, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Start and end of scenes from the two times that Earth Engine stamps on an image.

    What is instantaneous keeps its first stamp. A composite ends a cadence after its start; a later
    stamped end counts, an earlier one does not: some assets stamp the last day's beginning, and a
    scene that ends too early reads the future. Where a product restarts with the year, so does its
    last composite end with it, whatever is stamped.

    Parameters
    ----------
    source : Source
    begin, end : datetime64[us], (scene,), ``end`` NaT where there is none

    Examples
    --------
    >>> first = np.array(["2019-12-31"], "datetime64[us]")
    >>> [str(t[0])[:10] for t in dated(sources.get("modis_lai"), first, end=first)]
    ['2019-12-31', '2020-01-01']
    """
    stamped = np.where(np.isnat(end), begin, np.maximum(begin, end))
    if source.dated_by == "instant":
        return begin, stamped if source.sliced else begin
    step = cadence(source)
    if source.dated_by == "middle":
        return begin - step // 2, np.maximum(begin + step - step // 2, stamped)
    if layer(source.name)[1].new_year:
        next_year = (begin.astype("datetime64[Y]") + 1).astype("datetime64[us]")
        step = -(-step // DAY) * DAY  # a mean year ends before a leap year does
        return begin, np.minimum(begin + step, next_year)
    return begin, np.maximum(begin + step, stamped)


# Long questions in pieces of a year: each asked once, kept on disk, and asked for in parts.

log = logging.getLogger(__name__)
FORMAT_VERSION = 1
GROWING = np.timedelta64(90, "D")  # archives still receive scenes of the last weeks
HOUR = np.timedelta64(3_600_000_000, "us")
SHORTEST = np.timedelta64(2, "D")  # a piece is not halved below
BAR_AFTER_S = 3.0


@dataclass(frozen=True)
class Piece:
    """Images of a source that start in [start, end), over some places (longitude, latitude)."""

    source: str
    start: np.datetime64
    end: np.datetime64
    places: tuple[tuple[float, float], ...] = ()


def years(source: str, *, period: tuple[Any, Any]) -> list[tuple[np.datetime64, np.datetime64]]:
    """Spans of starts, cut at New Year, that hold every scene whose end lies in the period.

    An hour after the end finds the rest of a pass that began before it.
    """
    found = layer(source)[0]
    start, end = moments(period)
    if not start < end:
        return []
    back = HOUR if found.dated_by == "instant" else 2 * cadence(found)
    first: Any = start - back
    last: Any = end + (HOUR if found.sliced else 0 * HOUR)
    cuts = np.arange(first.astype("datetime64[Y]") + 1, last.astype("datetime64[Y]") + 1)
    edges = [first, *(c for c in cuts.astype("datetime64[us]") if first < c < last), last]
    return list(zip(edges[:-1], edges[1:], strict=True))


def moments(period: tuple[Any, Any]) -> tuple[np.datetime64, np.datetime64]:
    """Start and end of a period, UTC.

    Raises
    ------
    BoundError
        For what is no moment.
    TimeZoneError
        For a time with a zone.
    """
    found = []
    for name, given in zip(("start", "end"), period, strict=True):
        if getattr(given, "tzinfo", None) is not None:
            raise TimeZoneError(
                f"{name} carries the zone {given.tzinfo}; times are naive UTC. Convert with "
                ".tz_convert('UTC').tz_localize(None)."
            )
        try:
            moment = np.datetime64("NaT" if given is pd.NaT else given, "us")
        except (ValueError, TypeError):
            moment = np.datetime64("NaT")
        if np.isnat(moment):
            raise BoundError(f"{name} is a moment such as '2019-06-01', UTC; found {given!r}.")
        found.append(moment)
    return found[0], found[1]


class PieceJob:
    """A question about a piece; what asks for too much is asked for in halves of its time."""

    def split(self, item: Piece) -> list[Piece]:
        """The two halves, unless they would be shorter than two days."""
        middle = item.start + (item.end - item.start) // 2
        if middle - item.start < SHORTEST:
            return []
        return [replace(item, end=middle), replace(item, start=middle)]

    def merge(self, item: Piece, parts: list[pd.DataFrame]) -> pd.DataFrame:
        """The halves' rows, one after the other."""
        return pd.concat(parts, ignore_index=True)


class Shelf:
    """Answers on disk, each under the hash of everything that decides it; none without a folder."""

    def __init__(self, folder: str | os.PathLike[str] | None) -> None:
        self.folder = None if folder is None else Path(folder)

    def path(self, job: Any, piece: Piece) -> Path | None:
        """Where an answer is kept; None where it is not: scenes of the last weeks still arrive."""
        if self.folder is None or piece.end > np.datetime64("now", "us") - GROWING:
            return None
        return self._named(piece.source, repr(job), repr(piece))

    def whole(
        self, job: Any, pieces: Iterable[Piece], *, found: pd.DataFrame, period: tuple[Any, Any]
    ) -> Path | None:
        """Where the table made of many pieces is kept: one file is read a hundred times faster."""
        pieces = list(pieces)
        if not pieces or self.path(job, max(pieces, key=lambda piece: piece.end)) is None:
            return None
        span = [str(t) for t in moments(period)]
        return self._named(pieces[0].source, repr(job), *span, found.to_csv(index=False))

    def _named(self, source: str, *words: str) -> Path | None:
        if self.folder is None:
            return None
        found, how = layer(source)
        text = json.dumps([FORMAT_VERSION, repr(how), found.asset, *words])
        return self.folder / source / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.parquet"

    def read(self, path: Path | None) -> pd.DataFrame | None:
        """What is kept there; a damaged file counts as none."""
        if path is None or not path.exists():
            return None
        try:
            return pd.read_parquet(path)
        except Exception:  # the reader's own errors have no common base
            log.warning("%s is damaged; its scenes are asked for again.", path)
            return None

    def write(self, path: Path | None, table: pd.DataFrame) -> None:
        """Keep a table, whole or not at all."""
        if path is None:
            return
        with self._named_errors():
            write_whole(path, table.to_parquet)

    def open(self) -> None:
        """Make the folder and write to it once, before anything is asked that could not be kept."""
        if self.folder is not None:
            with self._named_errors():
                self.folder.mkdir(parents=True, exist_ok=True)
                tempfile.TemporaryFile(dir=self.folder).close()

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"The scene index cannot be kept in {self.folder} ({error}). What is there stays "
                "good: free some space, or name another cache_dir, and call again."
            ) from error


def collect(
    pieces: Iterable[Piece],
    job: Job[Piece, pd.DataFrame],
    *,
    shelf: Shelf,
    policy: Policy,
    login: Callable[[], Any],
) -> dict[Piece, pd.DataFrame]:
    """The table of every piece: from the shelf, or asked for after a login and put there.

    Raises
    ------
    ServiceError
        When pieces failed; what came is on the shelf, and the next call goes on there.
    StoreError
        When the shelf cannot be written.
    """
    paths = {piece: shelf.path(job, piece) for piece in pieces}
    kept = {piece: shelf.read(path) for piece, path in paths.items()}
    found = {piece: table for piece, table in kept.items() if table is not None}
    missing = [piece for piece in paths if piece not in found]
    if missing:
        shelf.open()
        login()
    faults: list[Fault] = []
    name = missing[0].source if missing else ""
    bar = tqdm(total=len(missing), desc=f"{name} index", unit="piece", delay=BAR_AFTER_S)
    running: Any = run(missing, job, policy=policy)
    with bar, contextlib.closing(running) as answers:  # an interruption stops its calls at once
        for piece, answer in answers:
            bar.update()
            if isinstance(answer, Fault):
                faults.append(answer)
                continue
            shelf.write(paths[piece], answer)
            found[piece] = answer
    if faults:
        raise _missed(faults, of=f"{len(paths)} pieces of {name}")
    return found


def _missed(faults: list[Fault], *, of: str) -> ServiceError:
    """The error of the pieces that failed; one that will fail again is named first."""
    first = min(faults, key=lambda fault: fault.retry)
    kinds = ", ".join(f"{kind} {n}" for kind, n in Counter(f.kind for f in faults).items())
    doctor = "" if first.retry else "look at the source with doctor.examine, then "
    reason = (
        f"{len(faults)} of {of} did not come ({kinds}: {first.reason}); {doctor}call again to ask "
        "for them alone."
    )
    return ServiceError(replace(first, reason=reason))


# What the service is asked about scenes: expressions for the index, for clouds, for series.

SIDE_STEPS = 64  # points a side at which a footprint's mask and clouds are counted
CLEAR_SCORE = 0.6  # of cs_cdf, at and above which a pixel is clear: Pasquarella et al. (2023)
CLOUDY_PERCENT = 50  # of s2cloudless, above which a pixel is cloud
ID, BEGIN, END = "i", "b", "e"
VALID, KNOWN, CLOUD, ORBIT_EXPRESSIONS = "valid", "known", "cloud", "orbit"


def index(piece: Piece, *, footprint_m: float) -> Any:
    """Features with id, times and, at a place, orbit and the footprint's mean mask and clouds."""
    ee = library()
    source = layer(piece.source)[0]
    chosen = collection(piece)
    if not piece.places:
        return chosen.map(lambda image: ee.Feature(None, stamps(image)))
    grid = footprint(piece.places[0], footprint_m)
    chosen = chosen.filterBounds(rectangle(grid))

    def feature(image: Any) -> Any:
        means = mean(masks(image, source), grid)
        told = {ORBIT_EXPRESSIONS: image.get("orbitProperties_pass"), VALID: means.get(VALID)}
        if source.cloud_band:
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
    source = layer(piece.source)[0]
    grid = footprint(piece.places[0], footprint_m)

    def valid(scene: str) -> Any:
        images = [ee.Image(f"{source.asset}/{one}") for one in scene.split(SLICES)]
        laid = ee.ImageCollection.fromImages(
            [i.select(valid_band(source)) for i in images]
        ).mosaic()
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
    for name, wanted in how.equal:
        chosen = chosen.filter(ee.Filter.eq(name, wanted))
    for name, member in how.contains:
        chosen = chosen.filter(ee.Filter.listContains(name, member))
    return chosen


def stamps(image: Any) -> dict[str, Any]:
    """Id and times of an image."""
    names = {ID: "system:index", BEGIN: "system:time_start", END: "system:time_end"}
    return {short: image.get(name) for short, name in names.items()}


def masks(image: Any, source: Source) -> Any:
    """Bands of zeros and ones: valid, and where flags tell of clouds, known and cloud."""
    bands = {VALID: known(image.select(valid_band(source)))}
    if source.cloud_band:
        flags = image.select(source.cloud_band.name)
        mask = sum(1 << bit for bit in source.cloud_band.cloud_bits)
        bands |= {KNOWN: known(flags), CLOUD: flags.bitwiseAnd(mask).neq(0)}
    return named(bands)


def valid_band(source: Source) -> str:
    """The band whose mask tells where a scene holds data."""
    return (source.earth_engine and source.earth_engine.valid_band) or source.bands[0].name


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


# Chips: the expression of a request's pixels, and the job that fetches them.

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
    ee = connection.library()
    source, how = layer(request.source)
    parts = [_picture(part, how, request) for part in plan(source, how, request)]
    image = parts[0] if len(parts) == 1 else ee.Image.cat(parts)
    return image.select(list(request.bands)).toFloat().unmask(NODATA, False)


def encoded(request: ChipRequest) -> dict[str, Any]:
    """``expression`` as it travels; requests that differ in scene and place share the work."""
    if layer(request.source)[1].form == TILES:
        return connection.encoded(expression(request))
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
    return json.dumps(connection.encoded(expression(request)))


def plan(source: Source, how: EarthEngine, request: ChipRequest) -> list[Part]:
    """The parts of a chip: one for each set of images and kind of resampling.

    Coarse sources are never interpolated: a chip of theirs tells what their series tells.
    """
    smooth_too = request.resampling == "bilinear" and source.resolution != "coarse"
    groups: dict[tuple[tuple[str, ...], bool, bool], list[tuple[str, str]]] = {}
    for name in request.bands:
        key = (
            _images(source, how, scene_id=request.scene_id, band=name),
            smooth_too and source.band(name).continuous,
            source.band(name).unit == "dB",
        )
        groups.setdefault(key, []).append((name, how.band.format(band=name)))
    return [Part(images, tuple(bands), *rest) for (images, *rest), bands in groups.items()]


def _images(source: Source, how: EarthEngine, *, scene_id: str, band: str) -> tuple[str, ...]:
    if how.form in (STATIC, TILES):
        return (how.image.format(band=band),)
    return tuple(f"{source.asset}/{one}" for one in scene_id.split(SLICES))


def _picture(part: Part, how: EarthEngine, request: ChipRequest) -> Any:
    """One image of a part's bands; several are laid over each other after the resampling."""
    ee = connection.library()
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
        found = connection.pixels(encoded(item), item.grid)
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

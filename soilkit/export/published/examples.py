"""What is kept of a published record: its place, its images as chips, its numbers."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from soilkit import grids, sources, units
from soilkit.contracts import Chip, ChipRequest, Grid
from soilkit.errors import ContractError
from soilkit.export import chips
from soilkit.export.chips.requests import chip_size
from soilkit.export.insitu import ismn
from soilkit.export.published import labels as labelling
from soilkit.export.published import schema
from soilkit.export.published.labels import Labels
from soilkit.export.published.schema import SIDE_PX
from soilkit.export.published.shards import Sample
from soilkit.sources import Source

PIXEL_M = 10.0
_SIDE_M = SIDE_PX * PIXEL_M
_SLACK_M = 2 * PIXEL_M  # a polygon through the outer pixels' centres is a pixel short
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


def grid_of(sample: Sample) -> tuple[Grid, bool]:
    """The 10 m grid of a record's images, and whether its polygon told it.

    The polygon's corners are eastings and northings in the record's UTM zone; their middle is the
    image's, to the metre (32-bit floats hold a northing to half a metre). That form is inferred:
    a polygon that does not enclose the sensor in a square of 5.12 km is passed over, and the image
    is taken to lie around the sensor, snapped to 10 m.

    Raises
    ------
    ContractError
        For a sensor outside all UTM zones.
    """
    around = grids.chip_grid(
        sample.latitude, sample.longitude, size_px=SIDE_PX, pixel_size_m=PIXEL_M
    )
    corners = _corners(sample.scalars.get("utm_easting_northing_image_polygon"))
    crs = _crs(sample.scalars.get("utm_zone"), sample.latitude)
    if corners is None or crs is None:
        return around, False
    low, high = corners.min(axis=0), corners.max(axis=0)
    x, y = grids.transformer("EPSG:4326", crs).transform(sample.longitude, sample.latitude)
    is_square = (np.abs(high - low - _SIDE_M) <= _SLACK_M).all()
    if not is_square or not ((low <= (x, y)) & ((x, y) <= high)).all():
        return around, False
    left, bottom = np.round((low + high) / 2) - _SIDE_M / 2
    return Grid(crs, float(left), float(bottom + _SIDE_M), PIXEL_M, SIDE_PX, SIDE_PX), True


def _corners(polygon: Any) -> np.ndarray | None:
    """Corners (corner, 2) of a polygon given as numbers or as a text of numbers."""
    if isinstance(polygon, list):
        polygon = " ".join(map(str, polygon))
    if isinstance(polygon, str):
        polygon = [float(word) for word in _NUMBER.findall(polygon)]
    numbers = np.asarray([] if polygon is None else polygon, float).ravel()
    if numbers.size < 4 or numbers.size % 2 or not np.isfinite(numbers).all():
        return None
    return numbers.reshape(-1, 2)


def _crs(zone: Any, latitude: float) -> str | None:
    """The EPSG code of a zone written "14", "14N", "UTM 14" or "EPSG:32614"; None where none is."""
    found = re.search(r"(?<!\d)(32[67])?([0-5]?\d|60)(?!\d)", str(zone))
    if found is None or not 1 <= int(found[2]) <= 60:
        return None
    return f"EPSG:{(32600 if latitude >= 0 else 32700) + int(found[2])}"


def cropped(grid: Grid, size_px: int) -> Grid:
    """The centre of a grid.

    Raises
    ------
    ContractError
        For a size that is larger, or no multiple of 32: chips at 160 m would not fit.
    """
    if size_px % 32 or not 0 < size_px <= grid.width:
        raise ContractError(
            f"Published images have {grid.width} pixels a side; wanted a multiple of 32 up to "
            f"that, so that pixels of 160 m cover the same ground. Found size_px={size_px}."
        )
    edge = (grid.width - size_px) // 2 * grid.pixel_size_m
    left, top = grid.left_m + edge, grid.top_m - edge
    return Grid(grid.crs, left, top, grid.pixel_size_m, size_px, size_px)


# The images of a published record as chips of our sources, in stored units.

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
        values = np.stack([schema.decode(f, image) for f, image in raw.items()])
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


# What is kept of a published record beside its images.

COARSE = {"smap": "smap", "gldas": "gldas"}  # our source, and its prefix in the shards
ALL_PREFIXES = PREFIX | COARSE
# A label called sm_0_5 is that of 0-5 cm; the other one, of a probe at 5 cm.
DEPTHS_M = {"sm_0_5": (0.0, 0.05), "sm_5_5": (0.05, 0.05)}


@dataclass
class Record:
    """One record: its label or why it has none, its place, and which scenes it was given."""

    outcome: str
    published_id: str = ""
    sensor_id: str = ""
    station_id: str = ""
    time: np.datetime64 = np.datetime64("NaT", "us")
    soil_moisture_m3_m3: float = np.nan
    flag: str = ""
    label: str = ""  # sm_0_5 or sm_5_5, where the shard holds it
    latitude: float = np.nan
    longitude: float = np.nan
    place_told: bool = False
    cloud_fraction: float = np.nan
    orbit: str = ""
    coarse: dict[str, float] = field(default_factory=dict)
    ages_hours: dict[str, float] = field(default_factory=dict)
    scenes: dict[str, str] = field(default_factory=dict)
    times: dict[str, np.datetime64] = field(default_factory=dict)

    @property
    def is_labelled(self) -> bool:
        """Whether the record can become a sample."""
        return self.outcome in (labelling.MERGED, labelling.IN_THE_SHARD)

    def note(self, request: ChipRequest) -> None:
        """Keep which scene a chip was."""
        self.scenes[request.source] = request.scene_id
        self.times[request.source] = request.time

    def row(self) -> dict[str, Any]:
        """The record as one row of a table."""
        plain = {k: v for k, v in vars(self).items() if not isinstance(v, dict)}
        for name in ALL_PREFIXES:
            plain[f"{name}_scene"] = self.scenes.get(name, "")
            plain[f"{name}_age_hours"] = self.ages_hours.get(name, np.nan)
            plain[f"{name}_time"] = self.times.get(name, np.datetime64("NaT", "us"))
        return plain | {f"{name}_value": self.coarse.get(name, np.nan) for name in COARSE}


def read_record(sample: Sample, labels: Labels | None) -> Record:
    """A record with its label, merged from ``labels`` where the shard holds none.

    A merged label takes the reading's own time, which is exact; the shard's is known to 66 s.
    """
    own = sample.soil_moisture_m3_m3
    record = Record(
        _unusable(sample) or labelling.NO_ARCHIVE,
        published_id=sample.sensor_id,
        time=sample.time,
        latitude=sample.latitude,
        longitude=sample.longitude,
        cloud_fraction=_number(sample.scalars.get("sentinel_2_cloud_percentage")) / 100,
        orbit=str(sample.scalars.get("sentinel_1_orbit_pass", "")),
        coarse=sample.coarse,
    )
    if record.outcome != labelling.NO_ARCHIVE:
        return record
    if np.isfinite(own):
        _take_own(record, sample, own)
    elif labels is not None:
        _merge(record, labels)
    _date(record, sample)
    return record


def _unusable(sample: Sample) -> str:
    """Why no label can make a sample of a record; empty where one can."""
    if np.isnat(sample.time):
        return labelling.NO_TIME
    try:
        grids.utm_crs(sample.latitude, sample.longitude)
    except ContractError:
        return labelling.NO_PLACE
    return ""


def _take_own(record: Record, sample: Sample, value: float) -> None:
    named = schema.parts(record.published_id)
    if named is None or not 0 < value <= units.MAX_SOIL_MOISTURE_M3_M3:
        record.outcome = schema.NOT_AN_ID if named is None else labelling.NOT_MOISTURE
        return
    network, station, probe = named
    which = next(n for n in DEPTHS_M if _number(sample.scalars.get(n)) == value)
    record.outcome, record.soil_moisture_m3_m3 = labelling.IN_THE_SHARD, value
    record.label = which
    record.station_id = ismn.station_id(network, station)
    record.sensor_id = ismn.sensor_id(network, station, instrument=probe, depth_m=DEPTHS_M[which])


def _merge(record: Record, labels: Labels) -> None:
    place = {"latitude": record.latitude, "longitude": record.longitude}
    found = labels.merge_one(record.published_id, record.time, **place)
    record.outcome, record.flag = str(found["outcome"]), str(found["flag"])
    if record.outcome == labelling.MERGED:
        record.soil_moisture_m3_m3 = float(found["soil_moisture_m3_m3"])
        record.time = found["insitu_time"]
        record.sensor_id = str(found["insitu_sensor_id"])
        record.station_id = labels.station_of[record.sensor_id]


def _date(record: Record, sample: Sample) -> None:
    """Ages of all dated sources, and the scenes of the coarse ones, which have no image."""
    ages, times = sample.ages_hours, sample.scene_times
    for name, prefix in ALL_PREFIXES.items():
        if not sources.get(name).is_static:
            record.ages_hours[name] = ages.get(prefix, np.nan)
    for name, prefix in COARSE.items():
        when = times.get(prefix, np.datetime64("NaT", "us"))
        if not np.isnat(when) and np.isfinite(record.coarse[name]):
            record.times[name] = when
            record.scenes[name] = compact(when)
        else:
            record.ages_hours[name] = np.nan


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return np.nan

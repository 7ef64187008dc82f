"""A published record as ours, its place, label and chips, and our samples as published records."""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from soilkit import contracts, grids, sources, units
from soilkit.contracts import Archive, Chip, ChipRequest, Grid
from soilkit.errors import ContractError
from soilkit.export import chips, features
from soilkit.export.chips.requests import chip_size
from soilkit.export.insitu import ismn
from soilkit.export.published import labels as labelling
from soilkit.export.published import schema
from soilkit.export.published.labels import Labels
from soilkit.export.published.schema import SIDE_PX
from soilkit.export.published.shards import Sample, write_shard

ORIGIN = ("published", "soil_moisture_retrieval")
PIXEL_SIZE_M = 10.0  # of every image, SoilGrids and land cover too
_SIDE_M = SIDE_PX * PIXEL_SIZE_M
_SLACK_M = 2 * PIXEL_SIZE_M  # a polygon through the outer pixels' centres is a pixel short
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_NO_TIME = np.datetime64("NaT", "us")

# Our sources and their prefixes in the shards: those that come as images, and the two scalars.
PREFIX = {"sentinel1": "sentinel_1", "sentinel2": "sentinel_2", "dem": "nasa_dem",
          "soilgrids": "soil_grids_sand"}  # fmt: skip
COARSE = {"smap": "smap", "gldas": "gldas"}
ALL_PREFIXES = PREFIX | COARSE
# The feature of each band that the shards hold, in the catalogue's order.
FEATURES: dict[str, dict[str, str]] = {
    name: {
        band.name: feature
        for band in sources.get(name).bands
        for feature in schema.images_of(name)
        if schema.feature(feature).band == band.name
    }
    for name in PREFIX
}
BANDS: dict[str, tuple[str, ...]] = {name: tuple(bands) for name, bands in FEATURES.items()}

# A label called sm_0_5 is that of 0-5 cm; the other one, of a probe at 5 cm.
DEPTHS_M = {"sm_0_5": (0.0, 0.05), "sm_5_5": (0.05, 0.05)}
# One record: its label or why it has none, its place, and which scenes it was given.
EMPTY: dict[str, Any] = {
    "outcome": "", "published_id": "", "sensor_id": "", "station_id": "", "time": _NO_TIME,
    "soil_moisture_m3_m3": np.nan, "flag": "", "label": "", "latitude": np.nan,
    "longitude": np.nan, "place_told": False, "cloud_fraction": np.nan, "orbit": "",
    **{f"{name}_scene": "" for name in ALL_PREFIXES},
    **{f"{name}_age_hours": np.nan for name in ALL_PREFIXES},
    **{f"{name}_time": _NO_TIME for name in ALL_PREFIXES},
    **{f"{name}_value": np.nan for name in COARSE},
}  # fmt: skip


# ---- place ---------------------------------------------------------------------------------------


def grid_of(sample: Sample) -> tuple[Grid, bool]:
    """The 10 m grid of a record's images, and whether its polygon told it.

    The polygon's corners are eastings and northings in the record's UTM zone; their middle is the
    image's, to the metre (32-bit floats hold a northing to half a metre). That form is inferred: a
    polygon that does not enclose the sensor in a square of 5.12 km is passed over, and the image is
    taken to lie around the sensor, snapped to 10 m. Raises ``ContractError`` for a sensor outside
    all UTM zones.
    """
    around = grids.chip_grid(
        sample.latitude, sample.longitude, size_px=SIDE_PX, pixel_size_m=PIXEL_SIZE_M
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
    grid = Grid(crs, float(left), float(bottom + _SIDE_M), PIXEL_SIZE_M, SIDE_PX, SIDE_PX)
    return grid, True


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
    match = re.search(r"(?<!\d)(32[67])?([0-5]?\d|60)(?!\d)", str(zone))
    if match is None or not 1 <= int(match[2]) <= 60:
        return None
    return f"EPSG:{(32600 if latitude >= 0 else 32700) + int(match[2])}"


# ---- images --------------------------------------------------------------------------------------


def chips_of(
    sample: Sample, *, station_id: str, grid: Grid, size_px: int
) -> Iterator[tuple[ChipRequest, Chip]]:
    """A record's images as chips, one a source, cropped to ``size_px`` about the centre.

    A scene's id is its time and a digest of its place and pixels: equal images of a station are one
    scene however many records hold them, and different ones never stand for each other. Soil maps,
    published at 10 m, are averaged over blocks of 16 x 16 known pixels. The sample has the images
    of ``schema.MODEL_IMAGES``, ``grid`` is their 10 m grid. Raises ``ContractError`` for a size
    that is larger, or no multiple of 32 pixels of 10 m: chips at 160 m would not fit.
    """
    if size_px % 32 or not 0 < size_px <= grid.width:
        raise ContractError(
            f"Published images have {grid.width} pixels a side; wanted a multiple of 32 up to "
            f"that, so that pixels of 160 m cover the same ground. Found size_px={size_px}."
        )
    edge = (grid.width - size_px) // 2
    window = np.s_[edge : edge + size_px, edge : edge + size_px]
    left_m, top_m = grid.left_m + edge * grid.pixel_size_m, grid.top_m - edge * grid.pixel_size_m
    for name, feature_of in FEATURES.items():
        source = sources.get(name)
        raw = {feature: sample.images[feature][window] for feature in feature_of.values()}
        size, pixel_m = chip_size(source, size_px)
        place = Grid(grid.crs, left_m, top_m, pixel_m, size, size)
        time = _NO_TIME if source.is_static else sample.scene_times.get(PREFIX[name], _NO_TIME)
        when = "static" if source.is_static else compact(time)
        request = ChipRequest(
            source=name, scene_id=f"{when}_{_digest(raw.values(), place)}", time=time,
            station_id=station_id, bands=BANDS[name], grid=place, version=ORIGIN[1],
            resampling="as published" if pixel_m == grid.pixel_size_m else "mean of known pixels",
        )  # fmt: skip
        values = _means(np.stack([schema.decode(f, image) for f, image in raw.items()]), size)
        # Bytes of bright optical pixels are saturated: 251 and more stand for any number upwards.
        values = np.clip(values, *chips.packing_of(source).limits)
        yield request, Chip(values, request.bands, place)


def compact(time: np.datetime64) -> str:
    """A time to the second without colons; "undated" where there is none."""
    if np.isnat(time):
        return "undated"
    return str(time.astype("datetime64[s]")).replace("-", "").replace(":", "")


def _digest(raw: Any, grid: Grid) -> str:
    digest = hashlib.blake2b(repr(grid).encode(), digest_size=6)
    for image in raw:
        digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def _means(values: np.ndarray, size: int) -> np.ndarray:
    """Means of the known pixels of blocks: (band, row, col) on ``size`` x ``size`` pixels."""
    n = values.shape[-1] // size
    if n == 1:
        return values
    blocks = values.reshape(len(values), size, n, size, n)
    known = np.isfinite(blocks).sum(axis=(2, 4))  # (band, row, col)
    total = np.nansum(blocks, axis=(2, 4), dtype=np.float64)
    return np.where(known > 0, total / np.maximum(known, 1), np.nan).astype(np.float32)


# ---- numbers -------------------------------------------------------------------------------------


def read_record(sample: Sample, labels: Labels | None) -> dict[str, Any]:
    """A record as a row of ``EMPTY``'s columns, its label merged where the shard holds none.

    A merged label takes the reading's own time, which is exact; the shard's is known to 66 s.
    """
    row = EMPTY | {
        "published_id": sample.sensor_id,
        "time": sample.time,
        "latitude": sample.latitude,
        "longitude": sample.longitude,
        "cloud_fraction": as_float(sample.scalars.get("sentinel_2_cloud_percentage")) / 100,
        "orbit": str(sample.scalars.get("sentinel_1_orbit_pass", "")),
        **{f"{name}_value": value for name, value in sample.coarse.items()},
    }
    if np.isnat(sample.time):
        return row | {"outcome": labelling.NO_TIME}
    try:
        grids.utm_crs(sample.latitude, sample.longitude)
    except ContractError:
        return row | {"outcome": labelling.NO_PLACE}
    return row | _label(sample, labels) | _dates(sample)


def _label(sample: Sample, labels: Labels | None) -> dict[str, Any]:
    value = sample.soil_moisture_m3_m3
    if np.isfinite(value):
        words = labelling.id_parts(sample.sensor_id)
        if words is None:
            return {"outcome": labelling.NOT_AN_ID}
        if not 0 < value <= units.MAX_SOIL_MOISTURE_M3_M3:
            return {"outcome": labelling.NOT_MOISTURE}
        network, station, probe = words
        which = next(n for n in DEPTHS_M if as_float(sample.scalars.get(n)) == value)
        return {
            "outcome": labelling.IN_THE_SHARD,
            "soil_moisture_m3_m3": value,
            "label": which,
            "station_id": ismn.station_id(network, station),
            "sensor_id": ismn.sensor_id(
                network, station, instrument=probe, depth_m=DEPTHS_M[which]
            ),
        }
    if labels is None:
        return {"outcome": labelling.NO_ARCHIVE}
    label = labels.find(
        sample.sensor_id, sample.time, latitude=sample.latitude, longitude=sample.longitude
    )
    if label.outcome != labelling.MERGED:
        return {"outcome": label.outcome, "flag": label.flag}
    return {
        "outcome": label.outcome,
        "flag": label.flag,
        "soil_moisture_m3_m3": float(label.soil_moisture_m3_m3),
        "time": label.insitu_time,
        "sensor_id": label.insitu_sensor_id,
        "station_id": labels.station_of[label.insitu_sensor_id],
    }


def _dates(sample: Sample) -> dict[str, Any]:
    """Ages of all dated sources, and the scenes of the coarse ones, which have no image."""
    ages, times = sample.ages_hours, sample.scene_times
    row: dict[str, Any] = {}
    for name, prefix in ALL_PREFIXES.items():
        if not sources.get(name).is_static:
            row[f"{name}_age_hours"] = ages.get(prefix, np.nan)
    for name, prefix in COARSE.items():
        time = times.get(prefix, _NO_TIME)
        if not np.isnat(time) and np.isfinite(sample.coarse[name]):
            row |= {f"{name}_time": time, f"{name}_scene": compact(time)}
        else:
            row[f"{name}_age_hours"] = np.nan
    return row


def as_float(value: Any) -> float:
    """A scalar as a number; NaN for what is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return np.nan


# ---- shards of an archive's samples: for tests, benchmarks and classrooms ------------------------

_US_PER_HOUR = 3_600_000_000
_COARSE_FEATURE = {"smap": "smap_sm", "gldas": "gldas_sm"}
_IMAGE_SOURCES = sorted({f.source for f in schema.FEATURES if f.kind == "image" and f.source})


def write_archive_shard(
    path: str | os.PathLike[str],
    samples: pd.DataFrame,
    *,
    archive: Archive,
    stations: pd.DataFrame,
    labelled: Iterable[str] = (),
) -> int:
    """Write what the publication would have exported of joined samples; returns how many.

    Images of 512 x 512 pixels of 10 m in bytes, SMAP and GLDAS in bytes, times as 32-bit floats of
    milliseconds, ``sensor_id`` without depths. The images of yearly statistics, of ASTER and the
    masks stay 0, and so do those of a chip that does not come. Chips and series come from
    ``archive``; the readings of the ``labelled`` networks, of which only some may be passed on, go
    into the shard.
    """
    contracts.check(samples, contracts.SAMPLES)
    contracts.check(stations, contracts.STATIONS)
    return write_shard(path, _exported(samples, archive, stations, labelled=frozenset(labelled)))


def _exported(
    samples: pd.DataFrame, archive: Archive, stations: pd.DataFrame, *, labelled: frozenset[str]
) -> Iterator[Sample]:
    places = stations.drop_duplicates("sensor_id").set_index("sensor_id")
    coarse = {
        source: _series(samples, archive, stations, source)
        for source in _COARSE_FEATURE
        if f"{source}_scene" in samples.columns
    }
    static: dict[str, dict[str, np.ndarray]] = {}  # images that stand still, of the last grid
    before: Grid | None = None
    for position, row in enumerate(samples.to_dict("records")):
        place = places.loc[row["sensor_id"]]
        grid = grids.chip_grid(
            place["latitude"], place["longitude"], size_px=schema.SIDE_PX, pixel_size_m=PIXEL_SIZE_M
        )
        if grid != before:
            before, static = grid, {}
        scalars = _place(place, grid) | _times(row)
        if place["network"] in labelled:
            name = "sm_0_5" if place["depth_from_m"] == 0 else "sm_5_5"
            scalars[name] = float(np.float32(row["soil_moisture_m3_m3"]))
        for source, values in coarse.items():
            name = _COARSE_FEATURE[source]
            scalars[name] = int(schema.encode(name, values[position]))
        images: dict[str, np.ndarray] = {}
        for source in _IMAGE_SOURCES:
            made = static.get(source) or _images(row, source, archive=archive, grid=grid)
            images |= made
            if sources.get(source).is_static:
                static[source] = made
        yield Sample(scalars, images)


def _series(
    samples: pd.DataFrame, archive: Archive, stations: pd.DataFrame, source: str
) -> np.ndarray:
    """The chosen value of each sample, stored units."""
    times = samples["time"] - pd.to_timedelta(samples[f"{source}_age_hours"], unit="h")
    day = pd.Timedelta("1D")
    series = archive.series(stations, source, times.min() - day, times.max() + day)
    table = features.from_series(samples, series, source)
    return table.drop(columns="sample_id").iloc[:, 0].to_numpy()


def _place(place: Any, grid: Grid) -> dict[str, Any]:
    left, bottom, right, top = grid.bounds_m
    corners = [left, bottom, right, bottom, right, top, left, top, left, bottom]
    return {
        "sensor_id": str(place.name).rsplit("__", 2)[0],
        "center_lat": float(place["latitude"]),
        "center_long": float(place["longitude"]),
        "size": schema.SIDE_PX,
        "utm_zone": f"{int(grid.crs[-2:])}{'N' if place['latitude'] >= 0 else 'S'}",
        "utm_easting_northing_image_polygon": np.array(corners, np.float32),
    }


def _times(row: Mapping[str, Any]) -> dict[str, float]:
    """Milliseconds since 1970 in 32-bit floats: of the reading, and of each dated source."""
    out = {"timestamp": _milliseconds(row["time"])}
    for source, prefix in ALL_PREFIXES.items():
        age_hours = row.get(f"{source}_age_hours", np.nan)
        if np.isfinite(age_hours):
            age = pd.Timedelta(hours=age_hours)
            out[f"{prefix}_timestamp"] = _milliseconds(row["time"] - age)
            out[f"{prefix}_time_millis_diff"] = float(np.float32(age.total_seconds() * 1000))
    return out


def _milliseconds(time: pd.Timestamp) -> float:
    return float(np.float32(np.datetime64(time, "ms").astype(np.int64)))


def _images(
    row: Mapping[str, Any], name: str, *, archive: Archive, grid: Grid
) -> dict[str, np.ndarray]:
    """A source's images of a sample as the shards store them; none without a scene or a chip."""
    scene = row.get(f"{name}_scene")
    if not (isinstance(scene, str) and scene):
        return {}
    feature_of = {schema.feature(n).band: n for n in schema.images_of(name)}
    bands = tuple(b.name for b in sources.get(name).bands if b.name in feature_of)
    age_hours, seen = row.get(f"{name}_age_hours", np.nan), pd.NaT
    if np.isfinite(age_hours):
        seen = row["time"] - pd.Timedelta(round(age_hours * _US_PER_HOUR), unit="us")
    request = ChipRequest(
        source=name, scene_id=scene, station_id=str(row["station_id"]), bands=bands, grid=grid,
        time=seen.to_datetime64().astype("datetime64[us]"), version=archive.version,
    )  # fmt: skip
    ((_, chip),) = archive.chips([request])
    if not isinstance(chip, Chip):
        return {}
    pairs = zip((feature_of[band] for band in bands), chip.values, strict=True)
    return {feature: schema.encode(feature, values) for feature, values in pairs}

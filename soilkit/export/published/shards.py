"""Published shards: fetched whole or not at all, read to samples, written back."""

import base64
import hashlib
import logging
import os
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import requests

from soilkit.errors import ContractError, DownloadError, ShardError, UnknownNameError
from soilkit.export import download as transfer
from soilkit.export.published import schema
from soilkit.export.published.schema import N_SHARDS, SHARD_NAME
from soilkit.export.published.wire import (
    Crc32c,
    RecordStream,
    Values,
    WireError,
    decode_example,
    encode_example,
    write_records,
)

LABELS = ("sm_0_5", "sm_5_5")  # the second where the first is 0 or absent
REQUIRED = ("sensor_id", "timestamp", "center_lat", "center_long")
_MS_PER_HOUR = 3_600_000
_STEP_HOURS = 132 / 3600  # two stamps of 131 s steps: their difference is known to one step
_MAX_MS = 1e14  # in the year 5138; beyond it no number is a time
_IMAGE_NAMES = frozenset(schema.IMAGES)
_NUMBERS = frozenset(
    (*REQUIRED[1:], *LABELS, "smap_sm", "gldas_sm")
    + tuple(f"{p}_{field}" for p in schema.DATED for field in ("timestamp", "time_millis_diff"))
)


@dataclass(frozen=True, eq=False)
class Sample:
    """One example of a shard.

    Attributes
    ----------
    scalars : everything but the images, as stored: text, numbers, or arrays and lists of them
    images : the images that were asked for, as stored: (512, 512) uint8, or int16 for elevation
    """

    scalars: Mapping[str, Any]
    images: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def sensor_id(self) -> str:
        """``NETWORK__STATION__SENSOR``: without the depth that our own ids carry."""
        return str(self.scalars["sensor_id"])

    @property
    def time(self) -> np.datetime64:
        """UTC, known to 66 s only: the shards keep milliseconds in 32-bit floats, 131 s apart."""
        return _moment(self.scalars["timestamp"])

    @property
    def latitude(self) -> float:
        """WGS84 degrees."""
        return float(self.scalars["center_lat"])

    @property
    def longitude(self) -> float:
        """WGS84 degrees."""
        return float(self.scalars["center_long"])

    @property
    def soil_moisture_m3_m3(self) -> float:
        """The label, m3 m-3: 0-5 cm, else 5-5 cm; NaN where both are absent or 0."""
        for name in LABELS:
            value = float(self.scalars.get(name, 0.0))
            if np.isfinite(value) and value != 0:
                return value
        return float("nan")

    @cached_property
    def bands(self) -> dict[str, np.ndarray]:
        """The images in stored units of ``schema.FEATURES``, (512, 512) float32, NaN = no data."""
        return {name: schema.decode(name, raw) for name, raw in self.images.items()}

    @property
    def coarse(self) -> dict[str, float]:
        """SMAP [mm] and GLDAS [kg m-2] at the sensor, NaN = no data."""
        return {
            source: float(schema.decode(name, float(self.scalars.get(name, 0))))
            for source, name in (("smap", "smap_sm"), ("gldas", "gldas_sm"))
        }

    @property
    def scene_times(self) -> dict[str, np.datetime64]:
        """When each source was seen, by its prefix in ``schema.DATED``, where that is told."""
        stamps = {p: self.scalars.get(f"{p}_timestamp") for p in schema.DATED}
        return {p: _moment(s) for p, s in stamps.items() if s is not None}

    @property
    def ages_hours(self) -> dict[str, float]:
        """How long before the reading each source was seen, h, by its prefix in ``schema.DATED``.

        From ``<source>_time_millis_diff`` where it is there, which is finer than the difference of
        two stamps. Its sign is not published and taken from the stamps: negative is an age only
        where they say that a source was seen after the reading.
        """
        stamps = {p: self.scalars.get(f"{p}_time_millis_diff") for p in schema.DATED}
        ages = {p: abs(float(ms)) / _MS_PER_HOUR for p, ms in stamps.items() if ms is not None}
        for prefix, then in self.scene_times.items():
            apart = float((self.time - then) / np.timedelta64(1, "s")) / 3600
            if apart < -_STEP_HOURS:
                ages[prefix] = apart
            else:
                ages.setdefault(prefix, max(apart, 0.0))
        return ages


def _moment(milliseconds: Any) -> np.datetime64:
    value = float(milliseconds)
    if not 0 < value < _MAX_MS:
        return np.datetime64("NaT", "us")
    return np.datetime64(round(value), "ms").astype("datetime64[us]")


class ShardReader:
    """Iterates over a shard's samples; made by ``read_shard``.

    ``damaged`` are the numbers of the records left out so far, with ``damaged="skip"``.
    """

    def __init__(self, stream: RecordStream, images: tuple[str, ...]):
        self.damaged: list[int] = stream.damaged
        # It does not know the reader: one that is dropped half-way closes its file at once.
        self._samples = _read(stream, images)

    def __iter__(self) -> Iterator[Sample]:
        return self

    def __next__(self) -> Sample:
        return next(self._samples)

    def close(self) -> None:
        """Let go of the file before the shard's end."""
        self._samples.close()


def _read(stream: RecordStream, images: tuple[str, ...]) -> Generator[Sample]:
    names = frozenset(images)
    for number, data in stream:
        try:
            features = decode_example(data, lambda n: n in names or n not in _IMAGE_NAMES)
            yield _sample(features, images)
        except (WireError, ShardError) as error:
            place = f"{stream.path}: record {number} (counted from 0)"
            raise ShardError(f"{place}: {error}", record=number) from error


def read_shard(
    path: str | os.PathLike[str],
    *,
    features: Iterable[str] | None = None,
    checksums: bool = True,
    damaged: str = "raise",
) -> ShardReader:
    """The samples of a published shard, one at a time; never more than two records in memory.

    Parameters
    ----------
    path : path of a ``data-00000-of-00500.tfrecord.gz``
    features : names of the images to decode (``schema.IMAGES``, ``schema.images_of``); None takes
        the 17 that the published model eats. Scalars always come
    checksums : bool, whether to compare the CRC32C of each record's data
    damaged : "raise" or "skip", what to do with a record that fails it

    Raises
    ------
    ShardError
        While iterating, with the number of the record: a file that is empty, cut, damaged, no gzip
        or of another schema. The samples before it were whole.
    UnknownNameError
        For a feature that the schema has not.

    References
    ----------
    .. [1] Batchu et al. (2022), arXiv:2206.09649; data under CC-BY 4.0
    """
    images = schema.MODEL_IMAGES if features is None else tuple(features)
    for name in images:
        if schema.feature(name).kind != "image":
            raise UnknownNameError(f"{name} is no image; scalars come without being asked for.")
    if damaged not in ("raise", "skip"):
        raise UnknownNameError(f"damaged should be 'raise' or 'skip', found {damaged!r}.")
    stream = RecordStream(path, checksums=checksums, skip_damaged=damaged == "skip")
    return ShardReader(stream, images)


def _sample(features: Mapping[str, Values], images: tuple[str, ...]) -> Sample:
    full = {name: values for name, values in features.items() if len(values.values)}
    missing = [name for name in (*REQUIRED, *images) if name not in full]
    if missing:
        some = ", ".join(sorted(full)[:8]) or "no feature"
        raise ShardError(
            f"another schema: it lacks {len(missing)} of the wanted features, "
            f"{', '.join(missing)}; it has {some}. Wanted an example of soil_moisture_retrieval; "
            "leave images that it has not out of features=."
        )
    scalars = {n: _scalar(v) for n, v in full.items() if n not in _IMAGE_NAMES}
    for name in _NUMBERS & scalars.keys():
        if not isinstance(scalars[name], int | float):
            raise ShardError(f"another schema: {name} should be one number, is {scalars[name]!r}.")
    return Sample(scalars, {name: _square(name, full[name]) for name in images})


def _scalar(values: Values) -> Any:
    """Text, an int or a float where there is one; else a list of texts or an array."""
    if values.kind == "bytes":
        texts = [v.decode("utf-8", errors="replace") for v in values.values]
        return texts[0] if len(texts) == 1 else texts
    if values.values.size == 1:
        return values.values[0].item()
    return values.values.astype(np.int64 if values.kind == "int" else np.float32)


def _square(name: str, values: Values) -> np.ndarray:
    side = schema.SIDE_PX
    if values.kind != "int" or len(values.values) != side * side:
        raise ShardError(
            f"another schema: image {name} should be {side * side} integers, is "
            f"{len(values.values)} of kind {values.kind}."
        )
    pixels = values.values
    if pixels.dtype != np.uint8:
        kind = np.iinfo(np.int16)
        if pixels.min() < kind.min or pixels.max() > kind.max:
            raise ShardError(
                f"image {name} holds {pixels.min()} to {pixels.max()}, beyond 16 bits."
            )
        pixels = pixels.astype(np.int16)
    return pixels.reshape(side, side)  # (row, col)


def write_shard(path: str | os.PathLike[str], samples: Iterable[Sample]) -> int:
    """Write samples as a shard of the published schema; returns how many.

    There are 66 images, gzip and checksums; images that a sample lacks are written as 0, which says
    no data. The same samples give the same bytes. The file appears whole, or not at all. Raises
    ``ContractError`` for an image of another shape or name, or a sample without its id, time or
    place.
    """
    return write_records(path, (encode_example(_features(sample)) for sample in samples))


_NOTHING = np.zeros(schema.SIDE_PX**2, np.uint8)


def _features(sample: Sample) -> dict[str, Values]:
    lacking = [name for name in REQUIRED if name not in sample.scalars]
    if lacking:
        raise ContractError(f"A sample of a shard needs {', '.join(lacking)} among its scalars.")
    for name, image in sample.images.items():
        if name not in _IMAGE_NAMES or np.shape(image) != (schema.SIDE_PX, schema.SIDE_PX):
            raise ContractError(
                f"Image {name!r} {np.shape(image)} is none of the schema's 66, which have "
                f"{schema.SIDE_PX} x {schema.SIDE_PX} pixels."
            )
    scalars = {n: _values(v) for n, v in sample.scalars.items() if n not in _IMAGE_NAMES}
    images = {n: Values("int", sample.images.get(n, _NOTHING)) for n in schema.IMAGES}
    return {name: (scalars | images)[name] for name in sorted(scalars | images)}


def _values(scalar: Any) -> Values:
    if isinstance(scalar, str | bytes) or (isinstance(scalar, list) and scalar):
        texts = scalar if isinstance(scalar, list) else [scalar]
        return Values("bytes", [t.encode() if isinstance(t, str) else t for t in texts])
    array = np.atleast_1d(np.asarray(scalar))
    return Values("int" if array.dtype.kind in "iub" else "float", array)


# ---- fetching: resumed where it broke off, verified, whole or not there --------------------------

log = logging.getLogger(__name__)

MAX_FILE_BYTES = 8 * 2**30  # a published shard has less than 2 GB
BASE_URL = "https://storage.googleapis.com/eoscience-public/soil_moisture_retrieval_data"


def download(
    folder: str | os.PathLike[str],
    *,
    shards: int | Iterable[int] = 1,
    base_url: str = BASE_URL,
    attempts: int = 5,
    progress: bool = True,
) -> list[Path]:
    """Fetch shards of the published dataset (CC-BY 4.0); about 1 TB in all, so take a few.

    What is there already is not fetched again; what broke off goes on where it stopped, also in a
    later call. A file appears under its name once its size and its checksum, where the server tells
    them, are right.

    Parameters
    ----------
    folder : where to put them; made if it is not there
    shards : int, how many, from the first one; or which, from 0 to 499
    base_url : str, the folder that serves ``data-00000-of-00500.tfrecord.gz`` and so on
    attempts : int, how often to try each file before giving up, with growing pauses

    Returns
    -------
    list of Path, in the order asked for

    Raises
    ------
    DownloadError
        When a file is not there, the network stays away, what came is damaged each time or larger
        than any shard, or the folder cannot be written.
    UnknownNameError
        For a shard number that does not exist.
    """
    numbers = list(range(shards)) if isinstance(shards, int) else [int(n) for n in shards]
    if wrong := [n for n in numbers if not 0 <= n < N_SHARDS]:
        raise UnknownNameError(
            f"There is no shard {wrong[0]}: they are numbered 0 to {N_SHARDS - 1}."
        )
    paths = [Path(folder) / SHARD_NAME.format(n) for n in numbers]
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with requests.Session() as session:
            # Bytes as they are stored; the files are gzip, and are not to be unpacked on the way.
            session.headers["Accept-Encoding"] = "gzip"
            for path in paths:
                if not path.exists():
                    url = f"{base_url.rstrip('/')}/{path.name}"
                    transfer.fetch(
                        session, url, path=path, attempts=attempts, progress=progress,
                        fault_of=_fault, most_bytes=MAX_FILE_BYTES,
                    )  # fmt: skip
    except OSError as error:
        if isinstance(error, DownloadError):
            raise
        raise DownloadError(
            f"{folder} cannot be written ({error}). Free some space, or name another folder; what "
            "came is kept."
        ) from error
    return paths


def _fault(part: Path, headers: Mapping[str, str]) -> str:
    """What is wrong with a file that came whole; empty where nothing is."""
    if not _is_gzip(part):
        return "what came is no gzip file (a login page of the network, perhaps)"
    return _wrong_hash(part, headers.get("x-goog-hash", ""))


def _is_gzip(path: Path) -> bool:
    if not path.exists():
        return False
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _wrong_hash(path: Path, stated: str) -> str:
    """What differs from the server's CRC32C, or else its MD5; nothing where both are unknown."""
    hashes = dict(one.split("=", 1) for one in stated.replace(" ", "").split(",") if "=" in one)
    name = next((n for n in ("crc32c", "md5") if n in hashes), "")
    if not name:
        log.warning("%s: the server gives no checksum; only the size was compared", path.name)
        return ""
    digest = Crc32c() if name == "crc32c" else hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(transfer.CHUNK_BYTES):
            digest.update(piece)
    computed = base64.b64encode(digest.digest()).decode()
    return "" if computed == hashes[name] else f"its {name} is {computed}, wanted {hashes[name]}"

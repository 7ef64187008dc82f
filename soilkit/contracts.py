"""What crosses the inner borders: table schemas, grids, chips, and the protocols of the wings.

A table is a pandas DataFrame; this module names its columns, kinds and units, and ``check`` refuses
one that differs. Nothing here imports pandas: a table is anything with ``columns`` and ``[name]``.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from soilkit.errors import ContractError

FORMAT_VERSION = 1
FIRST_DAY, LAST_DAY = np.datetime64("1900-01-01"), np.datetime64("2100-01-01")  # else a fill value
SAME_PLACE_DEG = 0.01  # about a kilometre: two rows of a station may round differently


@dataclass(frozen=True)
class Column:
    """A column of ``kind`` "string", "float", "int", "bool" or "time", ``within`` two values."""

    name: str
    kind: str
    unit: str = ""
    required: bool = True
    within: tuple[Any, Any] | None = None


@dataclass(frozen=True)
class Table:
    """The columns of a table and the ones that together tell its rows apart."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()


def _columns(kind: str, *names: str, **details: Any) -> tuple[Column, ...]:
    return tuple(Column(name, kind, **details) for name in names)


_TIME = _columns("time", "time", unit="UTC", within=(FIRST_DAY, LAST_DAY))
STATIONS = Table(
    "stations",
    _columns("string", "sensor_id", "station_id", "network", "station")
    + _columns("float", "latitude", unit="degrees", within=(-90, 90))
    + _columns("float", "longitude", unit="degrees", within=(-180, 180))
    + _columns("float", "elevation_m", unit="m")
    + _columns("float", "depth_from_m", "depth_to_m", unit="m", within=(0, 10))
    + _columns("string", "land_cover", "koeppen", "texture"),
    key=("sensor_id",),
)
_OF_PLACES = ("station_id", "latitude", "longitude")
PLACES = Table("stations", tuple(c for c in STATIONS.columns if c.name in _OF_PLACES))
OBSERVATIONS = Table(
    "observations",
    _columns("string", "sensor_id")
    + _TIME
    + _columns("float", "soil_moisture_m3_m3", unit="m3 m-3")
    + _columns("string", "flag"),
    key=("sensor_id", "time"),
)
SCENES = Table(
    "scenes",
    _columns("string", "source", "scene_id", "station_id")
    + _columns("time", "start", "end", unit="UTC")
    + _columns("float", "cloud_fraction", unit="1")
    + _columns("string", "orbit")
    + _columns("float", "valid_fraction", unit="1"),
    key=("source", "scene_id", "station_id"),
)
SAMPLES = Table(
    "samples",
    _columns("string", "sample_id", "sensor_id", "station_id")
    + _TIME
    + _columns("float", "soil_moisture_m3_m3", unit="m3 m-3"),
    key=("sample_id",),
)
DROPS = Table(
    "drops", _columns("string", "sensor_id", "source", "reason") + (Column("count", "int"),)
)
FEATURES = Table("features", _columns("string", "sample_id"), key=("sample_id",))
PREDICTIONS = Table(
    "predictions",
    _columns("string", "sample_id", "sensor_id", "station_id", "network")
    + _TIME
    + _columns("float", "observed_m3_m3", "predicted_m3_m3", unit="m3 m-3")
    + _columns("float", "predicted_std_m3_m3", unit="m3 m-3", required=False)
    + _columns("string", "model", "split"),
    key=("model", "split", "sample_id"),
)
SCORES = Table(
    "scores",
    _columns("string", "model", "split", "metric")
    + _columns("float", "value", "lower", "upper", "n", "n_effective")
    + _columns("string", "status"),
)


def _kind(dtype: Any) -> str:
    if str(dtype) in ("category", "str", "string", "object"):
        return "string"
    letter = np.dtype(dtype).kind if not hasattr(dtype, "numpy_dtype") else dtype.numpy_dtype.kind
    return {"f": "float", "i": "int", "u": "int", "b": "bool", "M": "time"}.get(letter, letter)


def check(table: Any, schema: Table) -> None:
    """Raise ``ContractError`` unless ``table`` has the columns, kinds and unique key of ``schema``.

    A time must be naive ``datetime64``; an int stands for a float. More columns are welcome.
    Places are on Earth, times between 1900 and 2100, or missing.
    """
    missing = [c.name for c in schema.columns if c.required and c.name not in table.columns]
    if missing:
        raise ContractError(
            f"The {schema.name} table lacks {', '.join(missing)}; "
            f"it has {', '.join(table.columns)}."
        )
    for column in schema.columns:
        if column.name in table.columns:
            _check_column(table[column.name], column, schema.name)
    if schema.key and bool(table.duplicated(list(schema.key)).any()):
        n = int(table.duplicated(list(schema.key)).sum())
        raise ContractError(
            f"The {schema.name} table repeats {n} of its keys ({', '.join(schema.key)}). "
            "Remove the duplicates, or give each row its own id."
        )


def _check_column(values: Any, column: Column, table_name: str) -> None:
    dtype = values.dtype
    if getattr(dtype, "tz", None) is not None:
        raise ContractError(
            f"{table_name}.{column.name} carries the zone {dtype.tz}; tables hold naive UTC. "
            "Convert with .dt.tz_convert('UTC').dt.tz_localize(None)."
        )
    kind = _kind(dtype)
    if kind != column.kind and not (column.kind == "float" and kind == "int"):
        raise ContractError(
            f"{table_name}.{column.name} should be {column.kind}"
            f"{f' [{column.unit}]' if column.unit else ''}, found {dtype}."
        )
    if column.within is not None:
        low, high = column.within
        outside = (values < low) | (values > high)
        if bool(outside.any()):
            raise ContractError(
                f"{table_name}.{column.name} should lie between {low} and {high} [{column.unit}], "
                f"found {values[outside].iloc[0]} in {int(outside.sum())} rows. Mend these rows."
            )


def apart(stations: Any) -> list[str]:
    """The names of stations that stand at several places, sorted; unknown places are none."""
    places = stations.groupby("station_id", observed=True)[["latitude", "longitude"]]
    spans = places.max() - places.min()
    spans["longitude"] = np.minimum(spans["longitude"], 360 - spans["longitude"])
    return sorted(map(str, spans.index[(spans > SAME_PLACE_DEG).any(axis=1)]))


@dataclass(frozen=True)
class Grid:
    """A north-up pixel grid in a projected CRS.

    ``left_m`` and ``top_m`` are the outer edges of the north-west pixel, in metres of ``crs``.
    """

    crs: str
    left_m: float
    top_m: float
    pixel_size_m: float
    height: int
    width: int

    @property
    def transform(self) -> tuple[float, float, float, float, float, float]:
        """The affine coefficients (a, b, c, d, e, f): x = a col + c, y = e row + f, in metres."""
        return (self.pixel_size_m, 0.0, self.left_m, 0.0, -self.pixel_size_m, self.top_m)

    @property
    def x_m(self) -> np.ndarray:
        """Eastings of pixel centres, shape (col,), m."""
        return self.left_m + (np.arange(self.width) + 0.5) * self.pixel_size_m

    @property
    def y_m(self) -> np.ndarray:
        """Northings of pixel centres, north first, shape (row,), m."""
        return self.top_m - (np.arange(self.height) + 0.5) * self.pixel_size_m

    @property
    def bounds_m(self) -> tuple[float, float, float, float]:
        """(left, bottom, right, top), m."""
        return (
            self.left_m,
            self.top_m - self.height * self.pixel_size_m,
            self.left_m + self.width * self.pixel_size_m,
            self.top_m,
        )


@dataclass(frozen=True)
class ChipRequest:
    """One chip to fetch: a scene of a source, cut on a grid.

    ``time`` is the scene's end (UTC; NaT for a static source); ``version`` names the collection or
    the world, so that data from another one never passes for this one.
    """

    source: str
    scene_id: str
    station_id: str
    time: np.datetime64
    bands: tuple[str, ...]
    grid: Grid
    resampling: str = "bilinear"
    version: str = ""

    @property
    def request_hash(self) -> str:
        """SHA-256 over everything that decides the chip's values, hex."""
        grid = self.grid
        words = [self.source, self.scene_id, str(self.time), list(self.bands), self.resampling]
        place = [grid.crs, grid.left_m, grid.top_m, grid.pixel_size_m, grid.height, grid.width]
        text = json.dumps([FORMAT_VERSION, words, place, self.version])
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Chip:
    """The pixels of one request: ``values`` (band, row, col), float32, stored units, NaN = none."""

    values: np.ndarray
    bands: tuple[str, ...]
    grid: Grid

    @property
    def valid_fraction(self) -> float:
        """The fraction of pixels where every band is finite, 0-1."""
        return float(np.isfinite(self.values).all(axis=0).mean())


@dataclass(frozen=True)
class Failure:
    """Why a chip did not come; a permanent one is never asked for again."""

    reason: str
    permanent: bool = True


class Archive(Protocol):
    """Where scenes, chips and coarse series come from. Every archive passes the same tests.

    ``stations`` is a stations table (one row a sensor; places are taken once per ``station_id``);
    ``start`` and ``end`` bound the scenes' end times, half-open, UTC.
    """

    name: str
    version: str

    def scenes(self, stations: Any, source: str, start: Any, end: Any) -> Any:
        """The scenes table of one source over the stations; one row a scene and station."""
        ...

    def chips(
        self, requests: Iterable[ChipRequest]
    ) -> Iterator[tuple[ChipRequest, Chip | Failure]]:
        """Yield every request once with its chip or its failure, in any order."""
        ...

    def series(self, stations: Any, source: str, start: Any, end: Any) -> Any:
        """``station_id``, ``scene_id``, ``start``, ``end`` and one column a band, stored values."""
        ...


class Trained(Protocol):
    """What a system's ``train`` and ``load`` give: a model that answers for samples and for maps.

    ``predict`` takes the data that ``train`` took, or other data of that form, and gives a
    ``PREDICTIONS`` table of all samples: ``model`` is ``name``; ``split`` is the label handed in,
    else that of the training in the same session, else "unknown"; ``predicted_std_m3_m3`` stands
    where the model states one.
    ``map`` gives ``soil_moisture`` (y, x) m3 m-3 with CF metadata. ``save`` writes what ``load``
    reads; no code is executed by that.
    """

    @property
    def name(self) -> str:
        """What tables and pictures call the model."""
        ...

    def predict(self, data: Any, split: Any = None) -> Any:
        """A predictions table of every sample of the data, a pandas DataFrame."""
        ...

    def map(self, cube: Any) -> Any:
        """Soil moisture of every cell of a region, an xarray Dataset."""
        ...

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model whole or not at all."""
        ...


class System(Protocol):
    """A way to soil moisture, one module (or object) each: train on data, or load what was saved.

    ``data`` is a dataset folder (stations, samples and features as parquet, ``chips.zarr``), or for
    systems of tables such tables; ``split`` is a label for each sample, "train", "validation" or
    "test", in the order of the samples; ``preset`` is "small" or "paper". A run with an ``out_dir``
    that was interrupted goes on there.
    """

    def train(
        self, data: Any, split: Any, *, preset: str, seed: int,
        out_dir: str | os.PathLike[str] | None, **options: Any,
    ) -> Trained:  # fmt: skip
        """Learn from the training samples, choose by the validation samples."""
        ...

    def load(self, path: str | os.PathLike[str]) -> Trained:
        """The model that ``Trained.save`` wrote."""
        ...

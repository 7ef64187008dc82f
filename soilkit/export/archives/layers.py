"""Where the numbers of the user's own files lie and what they mean: pixels, times, units."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyproj

from soilkit import grids, sources, units
from soilkit.contracts import Grid
from soilkit.errors import ContractError, DependencyError, UnitError, UnknownNameError
from soilkit.export import rasters
from soilkit.sources import Band, Source

US, DEGREES = "datetime64[us]", "EPSG:4326"
DATED_BY = ("instant", "day", "start", "middle", "end")
STORED = "stored"  # the unit of numbers as the catalogue stores them
MOST_NUMBERS = 2**25  # of a series that are read at once
KERNEL_PX = 2  # pixels beyond a grid's border that interpolation reaches
UNEVEN = 0.02  # of a step, by which coordinates of single precision may be off
_HDF = dict.fromkeys((".nc", ".nc4", ".cdf", ".h5", ".hdf5", ".he5"), "netcdf4")
_GRIB = dict.fromkeys((".grib", ".grib2", ".grb", ".grb2"), "cfgrib")
ENGINES = {**_HDF, **_GRIB, ".zarr": "zarr"}  # any other file is opened as a raster
COLUMNS, ROWS = ("lon", "longitude", "x", "easting"), ("lat", "latitude", "y", "northing")
FILL_INDEX = 60_000  # 65534 stands where there was no retrieval
DATE = re.compile(
    r"(?<!\d)((?:19|20)\d\d)[-_.]?(0[1-9]|1[0-2])[-_.]?([0-2]\d|3[01])"
    r"(?:[T_.-]?([01]\d|2[0-3]):?([0-5]\d):?([0-5]\d)?)?(?!\d)"
)


@dataclass(frozen=True)
class Layout:
    """How a product's own files hold a source.

    ``variables`` and ``flags`` (bits of quality) are "group/name" by band.
    """

    variables: Mapping[str, str]
    unit: str = ""
    flags: Mapping[str, str] = field(default_factory=dict)
    crs: str = ""


_L3 = "Soil_Moisture_Retrieval_Data_{}/{}"


def _smap_l3(name: str) -> Layout:
    """The enhanced Level 3: a group each for the morning and the evening, which repeats "_pm"."""
    fields, flags = {}, {}
    for band in sources.get(name).bands:
        half = "PM" if band.name.endswith("_pm") else "AM"
        ending = "_pm" if half == "PM" else ""
        fields[band.name] = _L3.format(half, re.sub("_[ap]m$", "", band.name) + ending)
        flags[band.name] = _L3.format(half, f"retrieval_qual_flag{ending}")
    return Layout(fields, flags=flags)


LAYOUTS = {
    **{name: _smap_l3(name) for name in ("smap_l3_005", "smap_l3_006", "smap_l3_ancillary")},
    "smap_l4": Layout(
        {b.name: f"Geophysical_Data/{b.name}" for b in sources.get("smap_l4").bands},
        crs=grids.EASE2_CRS,
    ),
    "smap_hydroblocks": Layout({"soil_moisture": "SMAPHB_SM"}, unit="m3 m-3"),
}


@dataclass(frozen=True)
class Layer:
    """The user's own values of a catalogue source: where they lie and what they mean.

    Attributes
    ----------
    files : a path or pattern such as "smap/*.h5", several of them, or an xarray object
    bands : {band: variable, "group/variable", or a raster's band by number or name}; by default
        those of the product's own layout (``LAYOUTS``), else of the band's name or alias
    unit : of the numbers once a file's scale and offset are applied, or {band: unit}; by default
        what the files say. "stored" are numbers as the catalogue stores them
    dates : a pattern of file names such as "ndvi_%Y%j.tif", or one time a file (of a single file:
        an image), UTC; by default the time coordinate, band descriptions that are dates, or the
        date in the file's name
    dated_by : what a stamp is: "instant", "day" (the whole of it, UTC), "start", "middle" or "end";
        by default as the source's row says, and "day" where all are dates without an hour
    crs : where arrays do not say; coordinates called lat and lon are WGS84 degrees
    flag_bits : bits of the quality flag that make a value none; 1 keeps what SMAP recommends
    """

    files: Any
    bands: Mapping[str, Any] = field(default_factory=dict)
    unit: str | Mapping[str, str] = ""
    dates: str | Sequence[Any] = ()
    dated_by: str = ""
    crs: str = ""
    flag_bits: int = 0

    def __post_init__(self) -> None:
        if self.dated_by not in ("", *DATED_BY):
            raise UnknownNameError(f"dated_by is one of {DATED_BY}, not {self.dated_by!r}.")
        if not isinstance(self.dates, str):
            try:
                object.__setattr__(self, "dates", tuple(np.array(list(self.dates), US)))
            except (TypeError, ValueError) as error:
                raise ContractError(f"dates={self.dates!r} are no times: {error}") from error

    def of_file(self, number: int, n_files: int) -> "Layer":
        """The layer of one of its files: of several dates the file's."""
        is_shared = isinstance(self.dates, str) or n_files == 1
        if not is_shared and len(self.dates) not in (0, n_files):
            raise ContractError(f"{len(self.dates)} dates are named for {n_files} files: one each")
        return self if is_shared else replace(self, dates=self.dates[number : number + 1])


@dataclass(frozen=True)
class Lattice:
    """Evenly spaced pixels: ``left`` and ``top`` are the outer edges of the first column and row.

    Steps may be negative. A lattice in degrees that goes round the Earth has no edge.
    """

    crs: str
    left: float
    top: float
    dx: float
    dy: float
    height: int
    width: int

    def place(self, points: np.ndarray, crs: str = DEGREES) -> np.ndarray:
        """Column and row of points (point, 2), fractions of pixels, (2, point)."""
        x, y = (np.asarray(v, float) for v in grids.transformer(crs, self.crs).transform(*points.T))
        if grids.in_degrees(self.crs):  # the turn that the middle is in
            middle = self.left + self.width * self.dx / 2
            x = middle + (x - middle + 180) % 360 - 180
        return np.stack([(x - self.left) / self.dx, (y - self.top) / self.dy])

    def holds(self, points: np.ndarray) -> np.ndarray:
        """Whether points (point, 2), longitude and latitude, lie on it."""
        col, row = self.place(points)
        return (col >= 0) & (col < self.width) & (row >= 0) & (row < self.height)

    def window(self, grid: Grid) -> tuple[np.ndarray, np.ndarray, str, tuple[float, ...]] | None:
        """Rows and columns under a grid, and the CRS and affine that they lie in; None if none."""
        left, bottom, right, top = grid.bounds_m
        x, y = np.meshgrid(np.linspace(left, right, 21), np.linspace(bottom, top, 21))
        col, row = self.place(np.stack([x.ravel(), y.ravel()], axis=1), grid.crs)
        if not (np.isfinite(col).all() and np.isfinite(row).all()):
            return None
        crs, origin, is_round = self.crs, self.left, False
        if crs == DEGREES:  # longitudes from the grid's own meridian: no cut runs through it
            turn = 360 / abs(self.dx)
            col = col[0] + (col - col[0] + turn / 2) % turn - turn / 2
            meridian = self.left + float(col.mean()) * self.dx
            origin, is_round = self.left - meridian, abs(self.width - turn) < 0.5
            crs = f"+proj=longlat +datum=WGS84 +pm={(meridian + 180) % 360 - 180:.9f}"
        reach = KERNEL_PX + max(np.ptp(col), np.ptp(row)) / min(grid.width, grid.height)
        rows = _clipped(row, reach, self.height)
        cols = _clipped(col, reach, self.width, is_round=is_round)
        if not (len(rows) and len(cols)):
            return None
        x_edge, y_edge = origin + int(cols[0]) * self.dx, self.top + int(rows[0]) * self.dy
        return rows, cols % self.width, crs, (self.dx, 0.0, x_edge, 0.0, self.dy, y_edge)


def _clipped(place: np.ndarray, reach: float, size: int, *, is_round: bool = False) -> np.ndarray:
    first, last = int(np.floor(place.min() - reach)), int(np.ceil(place.max() + reach))
    if is_round:
        return np.arange(first, min(last, first + size))
    return np.arange(max(first, 0), min(last, size))


class Arrays:
    """The variables of one NetCDF, HDF5, GRIB or Zarr file, or of an xarray object."""

    def __init__(self, place: Any, row: Source, layer: Layer) -> None:
        self.place, self.layout = place, LAYOUTS.get(row.name, Layout({}))
        self._bits, self._names = layer.flag_bits, self._found(row, layer)
        variables = {band: self._variable(name) for band, name in self._names.items()}
        first = next(iter(variables.values()))
        self.lattice, self._dims = self._located(first, layer)
        clocks = [d for d in first.dims if "time" in type(first.indexes.get(d)).__name__.lower()]
        self._time = next((d for d in clocks if d not in self._dims), "")
        for d in first.dims:
            if d not in (*self._dims, self._time) and first.sizes[d] > 1:
                raise ContractError(f"it has {first.sizes[d]} values along {d!r}: choose one first")
        self.times = _times(first, self._time)
        self.linear = {
            b: _to_stored(row.band(b), layer, stated=v.attrs.get("units") or self.layout.unit)
            for b, v in variables.items()
        }

    def _found(self, row: Source, layer: Layer) -> dict[str, str]:
        """The variable of each band that the file holds."""
        if layer.bands:
            return {row.band(band).name: str(variable) for band, variable in layer.bands.items()}
        of_layout = {b: v for b, v in self.layout.variables.items() if self._has(v)}
        held = list(map(str, _dataset(self.place, "").data_vars))
        plain = {b.name: v for b in row.bands for v in (b.name, *b.aliases) if v in held}
        # without groups an evening's name is the same in both, and a morning's is not
        return max(of_layout, plain, key=len) or _absent(row, held)

    def _has(self, name: str) -> bool:
        try:
            return self._variable(name) is not None
        except (UnknownNameError, OSError):
            return False

    def _variable(self, name: str) -> Any:
        group, _, variable = name.rpartition("/")
        dataset = _dataset(self.place, group)
        if variable not in dataset:
            raise UnknownNameError(
                f"it has no variable {name}; it has {', '.join(dataset) or None}"
            )
        return dataset[variable]

    def _located(self, data: Any, layer: Layer) -> tuple[Lattice, tuple[Any, Any]]:
        """Where the pixels lie, and the names of their dimensions, rows first."""
        root = _dataset(self.place, "")
        if data.ndim < 2:
            raise ContractError(f"{data.name} has the dimensions {data.dims}: no image")
        y, x = (
            next((d for d in data.dims if str(d).lower() in some), None) for some in (ROWS, COLUMNS)
        )
        rows, cols = ((data if d in data.coords else root).coords.get(d) for d in (y, x))
        if rows is None or cols is None:
            y, x = data.dims[-2:]
            return self._ease(data.sizes[y], data.sizes[x]), (y, x)
        crs = _crs_of(data, root, x, layer.crs) or self.layout.crs
        if not crs:
            raise ContractError(f"nobody says what {x} and {y} are: name it, crs='EPSG:...'")
        on_ease = _on_ease(cols.to_numpy(), rows.to_numpy()) if crs == DEGREES else None
        if on_ease:
            return on_ease, (y, x)
        (left, dx), (top, dy) = _even(cols), _even(rows)
        return Lattice(crs, left, top, dx, dy, data.sizes[y], data.sizes[x]), (y, x)

    def _ease(self, height: int, width: int) -> Lattice:
        """Arrays without axes: a global EASE-Grid 2.0, or the part of it that their indices say."""
        for km in grids.EASE2_PIXEL_SIZE_M:
            if grids.ease2_shape(km) == (height, width):
                return _on(grids.ease2_grid(0, 0, height=height, width=width, pixel_size_km=km))
        group, first = next(iter(self._names.values())).rpartition("/")[0], []
        for axis, word in enumerate(("row", "column")):
            name = f"{group}/EASE_{word}_index{'_pm' if group.endswith('_PM') else ''}"
            if not self._has(name):
                raise ContractError(
                    "its pixels lie on no evenly spaced axes (their coordinates are of two "
                    "dimensions, or absent): regrid it first"
                )
            index = self._variable(name).to_numpy().astype(float)
            index = index - np.expand_dims(np.arange(index.shape[axis]), 1 - axis)
            offsets = np.unique(index[np.isfinite(index) & (index < FILL_INDEX)])
            if len(offsets) != 1:
                raise ContractError(f"its {name} does not nest in one EASE-Grid 2.0 of 9 km")
            first.append(int(offsets[0]))
        return _on(grids.ease2_grid(first[0], first[1], height=height, width=width))

    def cut(self, band: str, grid: Grid, *, image: int) -> rasters.Patch | None:
        """What a band holds under a grid; None where nothing."""
        window = self.lattice.window(grid)
        if window is None:
            return None
        rows, cols, crs, affine = window
        values = self._read(band, slice(image, image + 1), rows, cols)
        return rasters.Patch.of(values, crs, transform=affine)

    def at(self, band: str, points: np.ndarray, *, images: np.ndarray) -> np.ndarray:
        """The pixels that hold points of the lattice, (image, point)."""
        col, row = np.floor(self.lattice.place(points)).astype(int)
        rows, cols = (np.arange(v.min(), v.max() + 1) for v in (row, col))
        step = max(1, MOST_NUMBERS // (len(rows) * len(cols)))
        out = np.empty((len(images), len(points)), "f4")
        for first in range(0, int(images.max()) + 1, step):
            here = (images >= first) & (images < first + step)
            if here.any():
                span = slice(images[here].min(), images[here].max() + 1)
                block = self._read(band, span, rows, cols)
                out[here] = block[images[here] - span.start][:, row - rows[0], col - cols[0]]
        return out

    def _read(self, band: str, images: slice, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        values = self._block(self._names[band], images, rows, cols).astype("f4")
        flag = self.layout.flags.get(band)
        if self._bits and flag:
            flags = self._block(flag, images, rows, cols).astype(float)
            is_bad = ~np.isfinite(flags) | (np.nan_to_num(flags).astype(int) & self._bits > 0)
            values = np.where(is_bad, np.float32(np.nan), values)
        return values

    def _block(self, name: str, images: slice, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """A part of a variable, (image, row, col)."""
        data = self._variable(name)
        y, x = self._dims if set(self._dims) <= set(data.dims) else data.dims[-2:]
        if (data.sizes[y], data.sizes[x]) != (self.lattice.height, self.lattice.width):
            raise ContractError(f"{name} has another shape than {next(iter(self._names.values()))}")
        is_one_run = cols[-1] - cols[0] == len(cols) - 1
        where: dict[Any, Any] = dict.fromkeys(data.dims, 0)
        where |= {y: slice(rows[0], rows[-1] + 1)} | ({self._time: images} if self._time else {})
        where[x] = slice(cols[0], cols[-1] + 1) if is_one_run else cols
        part = data.isel(where).transpose(..., y, x).to_numpy()
        return part if self._time else part[None]


class Raster:
    """One GeoTIFF or other raster: the bands of one moment, or a stack of one band in time."""

    def __init__(self, place: str, row: Source, layer: Layer) -> None:
        self.place, self.times = place, np.empty(0, US)
        head = rasters.header(place)
        dates = [date_in(name, whole=True) for name in head.names]
        is_listed = not isinstance(layer.dates, str) and len(layer.dates) == len(dates) > 1
        self._is_stack = len(dates) > 1 and (is_listed or not np.isnat(dates).any())
        if self._is_stack:
            self.times = np.array(layer.dates if is_listed else dates, US)
            self._numbers = {next(iter(layer.bands), row.bands[0].name): 1}
        else:
            self._numbers = _numbered(head.names, row, layer)
        self.lattice = Lattice(*head.place)
        self.linear = {}
        for band, n in self._numbers.items():
            a, b = _to_stored(row.band(band), layer, stated=head.units[n - 1])
            self.linear[band] = a * head.scales[n - 1], a * head.offsets[n - 1] + b

    def cut(self, band: str, grid: Grid, *, image: int) -> rasters.Patch:
        """What a band holds under a grid."""
        number = image + 1 if self._is_stack else self._numbers[band]
        return rasters.cut(self.place, grid, bands=[number])

    def at(self, band: str, points: np.ndarray, *, images: np.ndarray) -> np.ndarray:
        """The pixels that hold points, (image, point)."""
        numbers = images + 1 if self._is_stack else np.full(len(images), self._numbers[band])
        return rasters.sample(self.place, points, bands=numbers.tolist()).values[:, :, 0]


# ---- what files say ------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _opened(path: str, group: str, changed_ns: int) -> Any:
    """A file's group; ``changed_ns`` tells its states apart."""
    import xarray as xr

    engine: Any = ENGINES[Path(path).suffix.lower()]
    if engine == "cfgrib" and find_spec("cfgrib") is None:
        raise DependencyError("GRIB needs a reader of its own: pip install cfgrib")
    options: Any = {"group": group} if group else {}
    return xr.open_dataset(path, engine=engine, decode_timedelta=False, **options)


def _dataset(place: Any, group: str) -> Any:
    return _opened(place, group, os.stat(place).st_mtime_ns) if isinstance(place, str) else place


def _on(grid: Grid) -> Lattice:
    size = grid.pixel_size_m
    return Lattice(grid.crs, grid.left_m, grid.top_m, size, -size, grid.height, grid.width)


def _absent(row: Source, held: Iterable[str]) -> Any:
    wanted = ", ".join(band.name for band in row.bands)
    have = ", ".join(filter(None, held)) or "nothing with a name"
    raise UnknownNameError(f"it has none of {wanted}; it has {have}. Name them: bands={{...}}")


def _crs_of(data: Any, root: Any, x: Any, named: str) -> str:
    """The named CRS, else CF's grid mapping, else by the coordinates' names; empty if unknown."""
    mapping = data.attrs.get("grid_mapping") or data.encoding.get("grid_mapping") or "spatial_ref"
    attributes = root[mapping].attrs if mapping in root.variables else {}
    is_told = not attributes.keys().isdisjoint(("crs_wkt", "spatial_ref", "grid_mapping_name"))
    try:
        crs = pyproj.CRS(named) if named else pyproj.CRS.from_cf(attributes) if is_told else None
    except pyproj.exceptions.CRSError as error:
        raise ContractError(f"{named or attributes} is no CRS: name it, crs='EPSG:...'") from error
    if crs is None or (crs.is_geographic and crs.to_epsg() in (4326, None)):
        return DEGREES if crs is not None or str(x).lower().startswith("lon") else ""
    return crs.to_string()


def _on_ease(longitude: np.ndarray, latitude: np.ndarray) -> Lattice | None:
    """The part of an EASE-Grid 2.0 whose cells have these centres, if there is one: of a global one
    of ours, or where degrees are uneven of any other, such as SMOS's 25 km."""
    project = grids.transformer(DEGREES, grids.EASE2_CRS).transform
    x, y = project(longitude, 0 * longitude)[0], project(0 * latitude, latitude)[1]
    n, m, down = len(y), len(x), 1 if y[0] >= y[-1] else -1
    for size in grids.EASE2_PIXEL_SIZE_M.values():
        col, row = (x - grids.EASE2_LEFT_M) / size - 0.5, (grids.EASE2_TOP_M - y) / size - 0.5
        c, r = round(col[0]), round(row[0])
        off = abs(col - c - np.arange(m)), abs(row - r - down * np.arange(n))
        if max(map(np.max, off)) < UNEVEN:
            edges = grids.EASE2_LEFT_M + c * size, grids.EASE2_TOP_M - (r + (down < 0)) * size
            return Lattice(grids.EASE2_CRS, *edges, size, -down * size, n, m)
    if _is_even(latitude) or not (_is_even(x) and _is_even(y)):
        return None
    dx, dy = float(x[-1] - x[0]) / (m - 1), float(y[-1] - y[0]) / (n - 1)
    return Lattice(grids.EASE2_CRS, float(x[0]) - dx / 2, float(y[0]) - dy / 2, dx, dy, n, m)


def _even(axis: Any) -> tuple[float, float]:
    """The outer edge of the first pixel along an axis, and the step."""
    values = axis.to_numpy().astype(float)
    if str(axis.name).lower().startswith("lon"):
        values = np.unwrap(values, period=360)
    if axis.attrs.get("units") in ("km", "rad", "radian"):
        raise ContractError(f"{axis.name} is in {axis.attrs['units']}: turn it into metres first")
    if not _is_even(values):
        ends = sorted(np.diff(values))[:1] + sorted(np.diff(values))[1:][-1:]
        steps = " to ".join(f"{v:g}" for v in ends) or "none"
        raise ContractError(f"{axis.name} is not evenly spaced (steps: {steps}): regrid it first")
    step = float(values[-1] - values[0]) / (len(values) - 1)
    return float(values[0]) - step / 2, step


def _is_even(values: np.ndarray) -> bool:
    """Whether coordinates lie on a line, and more than one of them."""
    steps = np.diff(values)
    return len(steps) > 0 and bool(steps.all()) and np.ptp(steps) <= 2 * UNEVEN * abs(steps.mean())


def _times(data: Any, dim: Any) -> np.ndarray:
    """The times along a dimension, or the one of a single image; of a forecast those it is for."""
    dims = (dim,) if dim else ()
    axes = [data.coords.get(name) for name in ("valid_time", dim or "time")]
    axis = next((one for one in axes if one is not None and one.dims == dims), None)
    if axis is None or axis.dtype.kind not in "MO":
        return np.empty(0, US)
    if axis.dtype.kind == "O":
        raise ContractError(
            f"its times are of the calendar {axis.dt.calendar!r}, whose days are none of ours: "
            "convert them first (xarray's convert_calendar)"
        )
    return axis.to_numpy().astype(US).reshape(-1)


def _to_stored(band: Band, layer: Layer, *, stated: str) -> tuple[float, float]:
    """Factor and summand from a file's number, of the unit that it states, to a stored value."""
    unit = layer.unit if isinstance(layer.unit, str) else layer.unit.get(band.name, "")
    unit = unit or stated
    if unit == STORED or not band.continuous:
        return 1.0, 0.0
    if not unit:
        raise UnitError(f"nobody says what {band.name} is in. Name it, such as unit='m3 m-3'")
    a, b = units.conversion(unit, band.unit, layer_mm=band.layer_mm)
    return a / band.scale, (b - band.offset) / band.scale


def date_in(text: str, *, whole: bool = False) -> np.datetime64:
    """The date in a text, or that it is; NaT where none."""
    match = DATE.fullmatch(text.strip()) if whole else DATE.search(text)
    parts: Any = [int(v) for v in match.groups(default="0")] if match else []
    try:
        return np.datetime64(datetime(*parts), "us")
    except (TypeError, ValueError):
        return np.datetime64("NaT", "us")


def _numbered(held: Sequence[str], row: Source, layer: Layer) -> dict[str, int]:
    """The number, from 1, of the raster's band that holds each of the source's."""
    names = {band.name: (band.name, *band.aliases) for band in row.bands}
    if layer.bands:
        names = {row.band(b).name: (v,) for b, v in layer.bands.items()}
    counted = {n: n for n in range(1, len(held) + 1)}
    at: dict[Any, int] = {held[n - 1]: n for n in reversed(counted)} | counted
    numbers = {b: at[v] for b, some in names.items() for v in reversed(some) if v in at}
    if not numbers and not layer.bands and len(held) == len(names) == 1:
        numbers = dict.fromkeys(names, 1)
    if not numbers or (layer.bands and len(numbers) < len(names)):
        _absent(row, held)
    return numbers

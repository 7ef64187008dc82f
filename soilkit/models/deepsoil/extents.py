"""Extents of DEEPSOIL: 3 x 3 quadkey tiles about a station, their 75 maps and what is known."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch.utils.data import Dataset

from soilkit import grids, units
from soilkit import sources as catalogue
from soilkit.contracts import PLACES, Archive, check
from soilkit.errors import ContractError
from soilkit.export import cubes
from soilkit.export.features import cloudy
from soilkit.models.datasets import StationCube

TILE_PX, EXTENT_TILES = 64, 3  # pixels a side of a tile, tiles a side of an extent
EXTENT_PX = TILE_PX * EXTENT_TILES
QUADKEY_DIGITS, COARSE_DIGITS = 14, 12  # of a tile, and of the larger one that coarse layers fill
MISSING = -1.0
KELVIN = (240, 325)


# ---- the 75 maps ---------------------------------------------------------------------------------


class Channel(NamedTuple):
    """A map as the network eats it.

    Attributes
    ----------
    name : str
    layers : names in a cube, of which the first that is there is taken
    low, high : physical values that become 0 and 1, in the layer's unit
    code : of a class that is 1 where the layer has it and 0 elsewhere; else None
    """

    name: str
    layers: tuple[str, ...]
    low: float = 0.0
    high: float = 1.0
    code: int | None = None


def _classes(title: str, layers: tuple[str, ...], codes: Iterable[int]) -> list[Channel]:
    return [Channel(f"{title} {code}", layers, code=code) for code in codes]


def _plain(source: str, **ranges: tuple[float, float]) -> list[Channel]:
    return [Channel(f"{source} {b}", (f"{source}_{b}",), *span) for b, span in ranges.items()]


NLCD_CLASSES = (11, 12, 21, 22, 23, 24, 31, 41, 42, 43, 52, 71, 81, 82, 90, 95)  # of the 48 states
_LANDSAT = {"blue": "SR_B2", "green": "SR_B3", "red": "SR_B4", "infrared": "SR_B5"}
_SMAP = ("smap_l3_005_soil_moisture_am", "smap_l3_006_soil_moisture_am",
         "smap_l3_ancillary_soil_moisture_dca")  # fmt: skip
LOW_LEVEL = tuple(range(21))  # Landsat, NDVI and land cover, which the last layer sees once more
CHANNELS: tuple[Channel, ...] = (
    *(Channel(c, (f"landsat8_{c}", f"landsat9_{c}"), 0.0, 0.6) for c in _LANDSAT),
    Channel("NDVI", ("landsat8_NDVI", "landsat9_NDVI"), -0.2, 1.0),
    *_classes("NLCD", ("nlcd_2019_landcover", "nlcd_2021_landcover"), NLCD_CLASSES),
    *_plain("gnatsgo", aws0_5=(0, 20), tk0_5a=(0, 5)),
    *_plain("gnatsgo_derived", available_water_content=(0, 0.4), field_capacity=(0, 0.6),
            porosity=(0.2, 0.8)),
    *_plain("polaris", silt=(0, 100), clay=(0, 100), sand=(0, 100), bd=(0.6, 2.0),
            theta_r=(0, 0.25), om=(-1.5, 1.5), ksat=(-3, 2)),
    *_classes("Koeppen", ("koeppen_class",), range(1, 31)),
    Channel("elevation", ("dem_3dep_elevation", "dem_elevation"), -100, 4000),
    *_plain("modis_lai", Lai=(0, 7)),
    Channel("SMAP", _SMAP, 0.0, 0.6),
    *_plain("gridmet", pr=(0, 100), tmmn=KELVIN, tmmx=KELVIN, rmin=(0, 100), rmax=(0, 100),
            srad=(0, 400), vs=(0, 15), vpd=(0, 6), eto=(0, 15)),
)  # fmt: skip  # section 2.1 and Table 3; the ranges are ours
SOIL = ("polaris_theta_r", "polaris_theta_s", "polaris_alpha", "polaris_n")
TARGET = "smap_hydroblocks_soil_moisture"
SOURCES: dict[str, list[str] | None] = {
    "landsat8": [*_LANDSAT.values(), "QA_PIXEL"], "nlcd_2019": None,
    "gnatsgo": ["aws0_5", "tk0_5a"], "gnatsgo_derived": None,
    "polaris": ["silt", "clay", "sand", "bd", "theta_r", "om", "ksat", "theta_s", "alpha", "n"],
    "koeppen": None, "dem_3dep": None, "modis_lai": None, "smap_l3_005": ["soil_moisture_am"],
    "gridmet": None, "smap_hydroblocks": None,
}  # fmt: skip  # of 2019; name smap_l3_006 since December 2023, and no target after 2019
MAX_CLOUD = {"landsat8": 0.7, "landsat9": 0.7}  # what clouds hide of the rest is filled


@dataclass(frozen=True)
class Maps:
    """The maps of a cube in [0, 1], missing -1.

    Attributes
    ----------
    static : array (channel, row, col), those without a time
    dated : array (time, channel, row, col), the others
    is_dated : bool (channel,), which of all channels the second ones are
    ages_hours : array (time, dated channel), median age of what is shown, h, NaN where nothing is
    outside : pixels by layer whose class the legend lacks; they are missing
    """

    static: np.ndarray
    dated: np.ndarray
    is_dated: np.ndarray
    ages_hours: np.ndarray
    outside: Counter[str]

    def at(self, step: int, *, rows: slice = slice(None), cols: slice = slice(None)) -> np.ndarray:
        """All channels at a moment and in a part of the pixels, float32 (channel, row, col)."""
        static, dated = self.static[:, rows, cols], self.dated[step, :, rows, cols]
        every = np.empty((len(self.is_dated), *static.shape[1:]), np.float32)
        every[~self.is_dated], every[self.is_dated] = static, dated
        return every

    def astype(self, dtype: Any) -> "Maps":
        """The same with values of another type, such as half as many bytes."""
        parts = self.static.astype(dtype), self.dated.astype(dtype)
        return Maps(*parts, self.is_dated, self.ages_hours, self.outside)


def known(inputs: np.ndarray) -> np.ndarray:
    """Where all maps (..., channel, row, col) are known, float32 (..., 1, row, col)."""
    return (inputs != MISSING).all(axis=-3, keepdims=True).astype(np.float32)


def maps_of(
    cube: xr.Dataset,
    *,
    channels: Sequence[Channel] = CHANNELS,
    ranges: Mapping[str, tuple[float, float]] | None = None,
) -> Maps:
    """The maps of a cube as the network eats them [1]_.

    Values are scaled to [0, 1] and clipped there, classes one-hot, what is missing -1. A gap of a
    dated layer is filled by the nearest earlier moment of the cube within the age that the
    catalogue allows its source. (The paper takes the nearest in time, later ones too, which a map
    of today cannot.) Clouds are gaps.

    Parameters
    ----------
    cube : of ``cubes.build``, with the layers of all channels; ``build_extents`` makes them
    channels : Channel, those that are fed, in order
    ranges : {channel: (low, high)}, as of ``training_ranges``, in place of the channels' own

    Raises
    ------
    ContractError
        When the cube lacks a layer, by name; when all classes of a layer are strange to the legend.

    References
    ----------
    .. [1] Khandelwal et al. (2024), doi:10.1145/3678717.3691261, section 3.1
    """
    cube, spans = prepared(cube), dict(ranges or {})
    names = [layer_of(cube, channel) for channel in channels]
    layers = {name: _filled(cube, name) for name in dict.fromkeys(names)}
    legends: dict[str, list[int]] = {}
    for name, channel in zip(names, channels, strict=True):
        if channel.code is not None:
            legends.setdefault(name, []).append(channel.code)
    outside = Counter({n: _outside(n, layers[n][0], codes) for n, codes in legends.items()})
    scaled = [
        _scaled(layers[name][0], channel, legends.get(name, []), spans.get(channel.name))
        for name, channel in zip(names, channels, strict=True)
    ]
    is_dated = np.array([values.ndim == 3 for values in scaled])
    ages = [age for _, age in (layers[name] for name in names) if age is not None]
    shape, n = (cube.sizes["y"], cube.sizes["x"]), cube.sizes["time"]
    static, dated = ([v for v in scaled if v.ndim == ndim] for ndim in (2, 3))
    return Maps(
        np.stack(static) if static else np.empty((0, *shape), np.float32),
        np.stack(dated, axis=1) if dated else np.empty((n, 0, *shape), np.float32),
        is_dated, np.stack(ages, axis=1) if ages else np.empty((n, 0)), +outside,
    )  # fmt: skip


def layer_of(cube: xr.Dataset, channel: Channel) -> str:
    """The layer of a prepared cube that a channel is made of; ``ContractError`` when it is none."""
    for name in channel.layers:
        if name in cube:
            return name
    raise ContractError(
        f"The cube lacks {' or '.join(channel.layers)}, which {channel.name!r} is made of; it has "
        f"{', '.join(map(str, cube))}. Build it with this source, or leave the channel out by "
        "channels=."
    )


def prepared(cube: xr.Dataset) -> xr.Dataset:
    """A cube with Landsat's colours and NDVI as layers of their own, NaN under clouds."""
    layers = {}
    for name in ("landsat8", "landsat9"):
        band = catalogue.get(name).cloud_band
        if band is None or f"{name}_{band.name}" not in cube or f"{name}_red" in cube:
            continue
        flags = cube[f"{name}_{band.name}"]
        clear = np.isfinite(flags.to_numpy()) & ~cloudy(flags.to_numpy(), band)
        for colour, stored in _LANDSAT.items():
            layers[f"{name}_{colour}"] = cube[f"{name}_{stored}"].where(clear)
        infrared, red = (layers[f"{name}_{colour}"] for colour in ("infrared", "red"))
        layers[f"{name}_NDVI"] = units.normalised_difference(infrared, red)
    return cube.assign(layers)


def monthly(cube: xr.Dataset) -> xr.Dataset:
    """A cube of the means over calendar months, of what each pixel and layer has of them.

    The paper's first model learns from them. Clouds are left out before; a month is stamped with
    its beginning, and its ages are means too.
    """
    cube = prepared(cube)
    dated = [name for name in cube.data_vars if "time" in cube[name].dims]
    fixed = cube.drop_vars([*dated, "time"])
    return fixed.merge(cube[dated].resample(time="MS").mean(), compat="override")


def training_ranges(
    stores: Iterable[xr.Dataset | str | os.PathLike[str]],
    *,
    channels: Sequence[Channel] = CHANNELS,
) -> dict[str, tuple[float, float]]:
    """The least and largest value of each continuous channel in cubes of *training* extents.

    What is known nowhere, or has one value alone, keeps the channel's own range.
    """
    ends: dict[str, list[float]] = {}
    for store in stores:
        cube = prepared(opened(store))
        for channel in channels:
            if channel.code is None:
                values = cube[layer_of(cube, channel)].to_numpy()
                if np.isfinite(values).any():
                    part = [float(np.nanmin(values)), float(np.nanmax(values))]
                    ends[channel.name] = ends.get(channel.name, []) + part
    spans = {name: (min(values), max(values)) for name, values in ends.items()}
    return {name: (low, high) for name, (low, high) in spans.items() if high > low}


def opened(store: xr.Dataset | str | os.PathLike[str]) -> xr.Dataset:
    """A cube, opened where it is a folder."""
    return store if isinstance(store, xr.Dataset) else cubes.open_cube(store)


def _scaled(
    values: np.ndarray, channel: Channel, legend: list[int], span: tuple[float, float] | None
) -> np.ndarray:
    """A layer in [0, 1], or 1 where a class of the legend is the channel's; missing -1."""
    if channel.code is None:
        low, high = span or (channel.low, channel.high)
        scaled = np.clip((values - low) / (high - low), 0, 1)
    else:
        scaled = np.where(np.isin(values, legend), values == channel.code, np.nan)
    return np.where(np.isfinite(scaled), scaled, MISSING).astype(np.float32)


def _outside(name: str, values: np.ndarray, legend: list[int]) -> int:
    """How many pixels have a class that the legend lacks; an error where all have."""
    strange, seen = np.isfinite(values) & ~np.isin(values, legend), np.isfinite(values)
    if strange.any() and strange.sum() == seen.sum():
        codes = ", ".join(f"{code:g}" for code in np.unique(values[strange])[:6])
        raise ContractError(
            f"{name} holds the classes {codes} only, none of its legend. Is it another product's "
            "land cover, or an older numbering? Give channels with its codes."
        )
    return int(strange.sum())


def _filled(cube: xr.Dataset, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """A layer, and where it is dated its gaps filled by the past, and its median age by moment."""
    if "time" not in cube[name].dims:
        return cube[name].transpose("y", "x").to_numpy(), None
    source = _source_of(name)
    values = cube[name].transpose("time", "y", "x").to_numpy().astype(np.float32)
    hours = np.diff(cube["time"].to_numpy()) / np.timedelta64(1, "h")
    age = np.zeros_like(values)
    if (ages := f"{source.name}_age_hours") in cube:
        age = cube[ages].transpose("time", "y", "x").to_numpy().astype(np.float32)
    longest = catalogue.duration(source.max_age) / np.timedelta64(1, "h")
    for k, passed in enumerate(hours, start=1):
        carried = age[k - 1] + np.float32(passed)
        gap = np.isnan(values[k]) & (carried <= longest)
        values[k], age[k] = np.where(gap, values[k - 1], values[k]), np.where(gap, carried, age[k])
    shown = [one[np.isfinite(one_values)] for one, one_values in zip(age, values, strict=True)]
    return values, np.array([np.median(one) if len(one) else np.nan for one in shown])


@lru_cache
def _source_of(layer: str) -> catalogue.Source:
    """The source of a cube's layer: the one with the longest name that the layer's begins with."""
    fit = [source for source in catalogue.CATALOGUE if layer.startswith(f"{source.name}_")]
    return max(fit, key=lambda source: len(source.name))


# ---- extents -------------------------------------------------------------------------------------


def extent_keys(stations: pd.DataFrame) -> pd.Series:
    """The quadkey of 14 digits of the tile that each station stands in, by ``station_id``.

    It names the extent in whose middle the tile lies.
    """
    check(stations, PLACES)
    places = stations.drop_duplicates("station_id")
    keys = [
        grids.quadkey_at(longitude, latitude, length=QUADKEY_DIGITS)
        for longitude, latitude in zip(places["longitude"], places["latitude"], strict=True)
    ]
    return pd.Series(keys, places["station_id"].astype(str), name="quadkey", dtype=object)


def extent_box(quadkey: str) -> tuple[float, float, float, float]:
    """(west, south, east, north) of the extent about a tile, WGS84 degrees.

    Raises ``ContractError`` for a quadkey of another length than 14, and at the map's edge.
    """
    if len(quadkey) != QUADKEY_DIGITS:
        raise ContractError(
            f"The tile in an extent's middle has a quadkey of {QUADKEY_DIGITS} digits, found "
            f"{len(quadkey)} in {quadkey!r}. grids.quadkey_at gives it for a place."
        )
    around = grids.quadkeys_around(quadkey)
    left, _, _, top = grids.quadkey_bounds(around[0])
    _, bottom, right, _ = grids.quadkey_bounds(around[-1])
    to_degrees = grids.transformer(grids.WEB_MERCATOR_CRS, "EPSG:4326")
    (west, east), (south, north) = to_degrees.transform((left, right), (bottom, top))
    return west, south, east, north


def build_extents(
    stations: pd.DataFrame,
    archive: Archive,
    *,
    folder: str | os.PathLike[str],
    times: Any,
    sources: Mapping[str, Sequence[str] | None] = SOURCES,
    progress: bool = True,
) -> dict[str, Path]:
    """The layers about each station as cubes of 192 x 192 pixels, tiles of 64 by their quadkeys.

    A tile of 14 digits has, at 38 degrees of latitude, 64 pixels of 30 m; it is as wide in degrees
    everywhere. Stations in one tile share an extent. The cube of an extent lies under the 12 digits
    of its coarse tile, ``folder/<12 digits>/<14 digits>``, so that a part of a country is a folder.
    Call it again to go on, or to add times: what stands is not asked for again.

    Parameters
    ----------
    times : dates or moments, naive UTC, of all stations, or a mapping of them by station
    sources : of ``cubes.build``

    Returns
    -------
    {quadkey: folder of the cube}
    """
    by_station = isinstance(times, Mapping)
    wanted: dict[str, list[Any]] = {}
    for station, key in extent_keys(stations).items():
        wanted.setdefault(key, []).extend(times[station] if by_station else pd.Index(times))
    stores = {key: Path(folder) / key[:COARSE_DIGITS] / key for key in sorted(wanted)}
    for key, store in stores.items():
        left, _, right, _ = grids.quadkey_bounds(key)
        cubes.build(
            extent_box(key), archive, store, sources=sources, crs=grids.WEB_MERCATOR_CRS,
            times=pd.DatetimeIndex(wanted[key]).unique().sort_values(),
            pixel_size_m=(right - left) / TILE_PX, tile_px=EXTENT_PX, progress=progress,
            max_cloud_fraction={k: v for k, v in MAX_CLOUD.items() if k in sources},
        )  # fmt: skip
    return stores


# ---- tiles as batches ----------------------------------------------------------------------------

KEPT_EXTENTS = 64  # about 20 MB each with ten moments
NEAR_WEIGHT, NEAR_PX = 10.0, 4  # of the 16 pixels about a probe; the paper gives no number


class ExtentTiles(Dataset):
    """Tiles of extents at their moments, with target, soil and readings.

    A batch holds ``inputs`` (B, channel, row, col) in [0, 1], missing -1; ``known`` (B, 1, row,
    col), 1 where all maps are; ``target`` (B, row, col), m3 m-3, 0 where not ``valid``; ``weights``
    (B, row, col), more for the 4 x 4 pixels about a probe; ``soil`` (B, 4, row, col), theta_r,
    theta_s, alpha [kPa-1] and n of POLARIS, 0 where unknown, which makes no curve; and ``probe``
    (B, row, col), what sensors read in a pixel on average, NaN where there is none. Nothing but
    ``probe`` is ever NaN.

    Attributes
    ----------
    tiles : a row a tile and moment: extent, quadkey, time, step, row and col (of the tile in its
        extent), valid_fraction of the target, n_probes with a reading
    readings : a row a sample and tile that it lies in: sample_id, tile (row of ``tiles``), row and
        col of the pixel in it; the tile in an extent's middle first

    Parameters
    ----------
    stores : {quadkey: cube or its folder}
    samples, stations : tables of those contracts; what is to be learnt from, and no other: a probe
        of the test part may stand in an extent of the training part
    channels, ranges : of ``maps_of``
    target : layer of the target; "" takes the readings themselves
    near_weight : of the pixels about a probe, against 1 elsewhere
    is_monthly : whether moments are calendar months, and all of them means
    """

    def __init__(
        self,
        stores: Mapping[str, xr.Dataset | str | os.PathLike[str]],
        samples: pd.DataFrame | None = None,
        *,
        stations: pd.DataFrame | None = None,
        channels: Sequence[Channel] = CHANNELS,
        ranges: Mapping[str, tuple[float, float]] | None = None,
        target: str = TARGET,
        near_weight: float = NEAR_WEIGHT,
        is_monthly: bool = False,
    ):
        if (samples is None) != (stations is None):
            raise ContractError("Samples come with the stations table that places them, or not.")
        self.stores, self.channels, self.ranges = dict(stores), tuple(channels), ranges
        self.target, self.near_weight, self.is_monthly = target, near_weight, is_monthly
        self._probes = self._placed(samples, stations)
        self._keep()

    def _keep(self) -> None:
        self.extent = lru_cache(KEPT_EXTENTS)(self.read)
        self.cube = lru_cache(KEPT_EXTENTS)(self._cube)

    def __getstate__(self) -> dict[str, Any]:
        """All but what was read: another process reads for itself."""
        return {k: v for k, v in self.__dict__.items() if k not in ("extent", "cube")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._keep()

    def __len__(self) -> int:
        return len(self.tiles)

    def __getitems__(self, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        """A whole batch."""
        parts = [self.tile(i) for i in indices]
        return {n: torch.from_numpy(np.stack([part[n] for part in parts])) for n in parts[0]}

    def tile(self, i: int) -> dict[str, np.ndarray]:
        """One tile as a batch without its first axis."""
        key, step, row, col = self.tiles.loc[i, ["extent", "step", "row", "col"]]
        extent = self.extent(key)
        rows, cols = (slice(n * TILE_PX, (n + 1) * TILE_PX) for n in (row, col))
        here = (..., rows, cols)
        inputs = extent["maps"].at(step, rows=rows, cols=cols)
        probe = extent["probe"][step][here]
        target = probe if not self.target else extent["target"][step][here]
        valid = np.isfinite(target)
        return {
            "inputs": inputs, "known": known(inputs), "valid": valid,
            "target": np.where(valid, target, np.float32(0)), "weights": extent["weights"][here],
            "soil": extent["soil"][here], "probe": probe,
        }  # fmt: skip

    @cached_property
    def tiles(self) -> pd.DataFrame:
        """A row a tile and moment."""
        parts = []
        for key in self.stores:
            cube, probe = self.cube(key), self._drawn(key)
            valid = np.isfinite(_target(cube, self.target)) if self.target else np.isfinite(probe)
            shares, n_probes = (
                _by_tile(valid).mean((2, 4)),
                _by_tile(np.isfinite(probe)).sum((2, 4)),
            )
            step, row, col = (part.ravel() for part in np.indices(shares.shape))
            names = np.array(grids.quadkeys_around(key), object)
            parts.append(pd.DataFrame({
                "extent": key, "quadkey": names[row * EXTENT_TILES + col],
                "time": cube["time"].to_numpy()[step], "step": step, "row": row, "col": col,
                "valid_fraction": shares.ravel(), "n_probes": n_probes.ravel(),
            }))  # fmt: skip
        return pd.concat(parts, ignore_index=True)

    @cached_property
    def readings(self) -> pd.DataFrame:
        """A row a sample and tile that it lies in."""
        keys = ["extent", "step", "row", "col"]
        numbers = self.tiles.reset_index(names="tile")[["tile", *keys]]
        parts = [
            table.assign(extent=key, row=table["y"] // TILE_PX, col=table["x"] // TILE_PX)
            for key, table in self._probes.items()
        ]
        if not parts:
            return pd.DataFrame(columns=["sample_id", "tile", "row", "col"])
        table = pd.concat(parts).merge(numbers, on=keys)
        off = (table["row"] - 1).abs() + (table["col"] - 1).abs()
        table = table.iloc[np.argsort(off.to_numpy(), kind="stable")]
        table = table.assign(row=table["y"] % TILE_PX, col=table["x"] % TILE_PX)
        return table[["sample_id", "tile", "row", "col"]].reset_index(drop=True)

    def read(self, key: str) -> dict[str, Any]:
        """An extent from its store; ``extent`` keeps it."""
        cube = self.cube(key).compute()
        soil = [cube[name].to_numpy() if name in cube else np.zeros(_shape(cube)) for name in SOIL]
        soil[2] = 10.0 ** soil[2]  # stored as a logarithm
        maps = maps_of(cube, channels=self.channels, ranges=self.ranges).astype(np.float16)
        target = _target(cube, self.target) if self.target else None
        return {
            "maps": maps, "target": target, "probe": self._drawn(key), "weights": self._near(key),
            "soil": np.nan_to_num(np.stack(soil)).astype(np.float32),
        }  # fmt: skip

    def _cube(self, key: str) -> xr.Dataset:
        cube = opened(self.stores[key])
        if _shape(cube) != (EXTENT_PX, EXTENT_PX):
            raise ContractError(
                f"The cube of {key} has {cube.sizes['y']} x {cube.sizes['x']} pixels; an extent "
                f"has {EXTENT_PX} x {EXTENT_PX}. Make it by build_extents."
            )
        return monthly(cube) if self.is_monthly else cube

    def _placed(self, samples, stations) -> dict[str, pd.DataFrame]:
        """Samples by extent: sample_id, sensor, moisture, step, y and x of their pixels."""
        if samples is None or not len(samples):
            return {}
        tile_of, placed = extent_keys(stations), {}
        tile_of = tile_of[tile_of.index.isin(samples["station_id"].astype(str))]
        for key in self.stores:
            near = tile_of.index[tile_of.isin(grids.quadkeys_around(key))]
            part = samples[samples["station_id"].astype(str).isin(near)]
            if not len(part):
                continue
            cube = opened(self.stores[key])
            on = StationCube.of(cube, part, stations=stations)
            steps = on.places[:, 0]
            if self.is_monthly:
                months = cube["time"].to_numpy().astype("datetime64[M]")
                steps = np.searchsorted(np.unique(months), months)[steps]
            placed[key] = pd.DataFrame({
                "sample_id": on.samples["sample_id"].astype(str),
                "sensor_id": on.samples["sensor_id"].astype(str),
                "moisture": on.samples["soil_moisture_m3_m3"].astype(float),
                "step": steps, "y": on.places[:, 1], "x": on.places[:, 2],
            })  # fmt: skip
        return placed

    def _drawn(self, key: str) -> np.ndarray:
        """Readings in their pixels, (time, row, col) float32, NaN where there is none."""
        cube = self.cube(key)
        drawn = np.full((cube.sizes["time"], *_shape(cube)), np.nan, np.float32)
        if key in self._probes:
            table = self._probes[key].dropna(subset=["moisture"])
            place = ["step", "y", "x"]
            means = table.groupby([*place, "sensor_id"])["moisture"].mean().groupby(place).mean()
            drawn[tuple(means.index.get_level_values(n).to_numpy(int) for n in place)] = means
        return drawn

    def _near(self, key: str) -> np.ndarray:
        """Weights (row, col): more for the 4 x 4 pixels that hold a probe in their middle."""
        weights = np.ones((EXTENT_PX, EXTENT_PX), np.float32)
        if key in self._probes:
            for y, x in self._probes[key][["y", "x"]].drop_duplicates().to_numpy():
                top, left = max(y - NEAR_PX // 2 + 1, 0), max(x - NEAR_PX // 2 + 1, 0)
                weights[top : y + NEAR_PX // 2 + 1, left : x + NEAR_PX // 2 + 1] = self.near_weight
        return weights


def _shape(cube: xr.Dataset) -> tuple[int, int]:
    return cube.sizes["y"], cube.sizes["x"]


def _target(cube: xr.Dataset, name: str) -> np.ndarray:
    """A layer of moisture, (time, row, col), NaN where it is none of 0 to 1 m3 m-3."""
    values = cube[name].transpose("time", "y", "x").to_numpy().astype(np.float32)
    return np.where((values >= 0) & (values <= 1), values, np.float32("nan"))


def _by_tile(values: np.ndarray) -> np.ndarray:
    """(time, row, col) of an extent as (time, tile row, row, tile col, col)."""
    n, side = EXTENT_TILES, TILE_PX
    return values.reshape(len(values), n, side, n, side)

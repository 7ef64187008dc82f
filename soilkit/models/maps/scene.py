"""A region's layers as a model eats them."""

import pickle
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy.ndimage import uniform_filter

from soilkit import sources
from soilkit.constants import HIGH_PIXEL_M, PIXEL_RATIO
from soilkit.contracts import Archive, Chip, Grid
from soilkit.errors import CatalogueError, ContractError, UnknownNameError
from soilkit.export import cubes
from soilkit.export.archives import all_scenes
from soilkit.export.cubes.regions import Region
from soilkit.models.inputs import INDICES, Inputs, coarse_column, coarse_values, distinct_sources
from soilkit.models.maps.receptive_field import dense_reach_px, window_px


@dataclass(frozen=True)
class Scene:
    """A region's layers, normalised as in training, NaN where there is none.

    Parameters
    ----------
    grid : Grid of the finest layers (10 m); also needed where there are none
    images : {input: array (band, row, col)} on the grid, or coarser from the same NW corner
    scalars : {input: array (scalar,) or (scalar, row, col)}, one value for the region, or a raster
        of any pixel size over the grid's bounds, read at each window's centre
    ratios : {input: int}, how many of the grid's pixels make a side of one of an image's, else 1

    Raises
    ------
    ContractError
        When shapes and grid disagree.
    """

    grid: Grid
    images: Mapping[str, np.ndarray] = field(default_factory=dict)
    scalars: Mapping[str, np.ndarray] = field(default_factory=dict)
    ratios: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = (self.grid.height, self.grid.width)
        for name, values in self.images.items():
            wanted = tuple(-(-side // self.ratio(name)) for side in shape)
            if values.shape[1:] != wanted:
                raise ContractError(
                    f"The scene's {name} layers have rows and columns {values.shape[1:]}; its grid "
                    f"of {shape} pixels wants {wanted}. Cut both over the same bounds."
                )

    def ratio(self, name: str) -> int:
        """How many of the grid's pixels make a side of one of an image's."""
        return self.ratios.get(name, 1)


def scene_of(
    region: Mapping[str, Any],
    *,
    inputs: Inputs,
    statistics: Mapping[str, Sequence[float]] | None = None,
    grid: Grid | None = None,
) -> Scene:
    """Normalise a region's layers as ``ChipDataset`` does in training.

    Parameters
    ----------
    region : {source: layer}, a ``Chip`` of stored values with the bands that it names, or with all
        of the catalogue in its order; or for a coarse source a number, or array (row, col)
    inputs : Inputs, those of the training
    statistics : {coarse channel: (mean, std)}, those of the training
    grid : Grid of 10 m; by default that of the finest chip

    Raises
    ------
    ContractError
        When a layer or a statistic is missing, no layer is a chip, or coarse rasters differ in
        shape.
    """
    statistics = statistics or {}
    missing = sorted(set(inputs.source_names) - region.keys())
    missing += sorted(set(inputs.coarse) - statistics.keys())
    if missing:
        raise ContractError(
            f"The scene lacks {', '.join(missing)} (a layer, or a coarse channel's mean and std); "
            f"the inputs are {', '.join(inputs.names)}. Hand in all of them."
        )
    cut = [layer.grid for layer in region.values() if isinstance(layer, Chip)]
    if not cut and grid is None:
        raise ContractError("The region holds numbers only: hand at least one chip of 10 m pixels.")
    grid = grid or min(cut, key=lambda grid: grid.pixel_size_m)
    layers = {
        name: layer if isinstance(layer, Chip) else np.asarray(layer, float)
        for name, layer in region.items()
    }
    fed = {name: channels for name in ("high", "low") if (channels := getattr(inputs, name))}
    images = {
        name: np.stack([_channel(layers, channel) for channel in channels])  # (band, row, col)
        for name, channels in fed.items()
    }
    scalars = {"coarse": _coarse(layers, inputs, statistics)} if inputs.coarse else {}
    return Scene(grid, images, scalars, {"low": PIXEL_RATIO})


def _band(chip: Chip, source: str, band: str) -> np.ndarray:
    """A band of a chip, stored values (row, col) float64."""
    names = chip.bands or [b.name for b in sources.get(source).bands]
    return chip.values[names.index(band)].astype(float)


def _channel(layers: Mapping[str, Any], name: str) -> np.ndarray:
    """One channel of an image, (row, col) float32: a band normalised, or an index."""
    source, _, band = name.partition(".")
    row, chip = sources.get(source), layers[source]
    index = INDICES.get(source, {}).get(band)
    if index is not None:
        physical = [row.band(b).physical(_band(chip, source, b)) for b in index.bands]
        return index(*physical).astype(np.float32)
    values, rule = _band(chip, source, band), row.band(band).normalisation
    return (values if rule is None else rule(values)).astype(np.float32)


def _coarse(layers: Mapping[str, Any], inputs: Inputs, statistics) -> np.ndarray:
    """Standardised scalars (channel,), or rasters (channel, row, col)."""
    rasters = []
    for name in inputs.coarse:
        source, _, band = name.partition(".")
        layer = layers[source]
        rasters.append(_band(layer, source, band) if isinstance(layer, Chip) else layer)
    if len({r.shape for r in rasters}) > 1:
        raise ContractError(
            f"The coarse layers have shapes {', '.join(str(r.shape) for r in rasters)}. "
            "Bring them to one grid over the scene's bounds, or hand in one number each."
        )
    columns = map(coarse_column, inputs.coarse)
    flat = pd.DataFrame({c: r.ravel() for c, r in zip(columns, rasters, strict=True)})
    mean, std = np.transpose([statistics[name] for name in inputs.coarse])
    z = (coarse_values(flat, inputs) - mean) / std  # (pixel, channel)
    return z.T.reshape(len(inputs.coarse), *rasters[0].shape).astype(np.float32)


# ---- what a model eats of a region, by way of cubes ----------------------------------------------

WIDE_PIXEL_M = HIGH_PIXEL_M * PIXEL_RATIO  # of low-resolution and coarse layers
TILE_CELLS = 32  # a side: with its halo a scene of some 1250 pixels, a hundred megabytes
ANCHOR = "sentinel1"
CLEAR = {"sentinel2": 0.3}  # Batchu et al. (2022), Table 5
LISTED = np.timedelta64(45, "D")  # an archive without a scene in so long has none of a source
DAY, NOON = np.timedelta64(1, "D"), np.timedelta64(12, "h")
PASS_SLACK = pd.Timedelta("1min")  # slices of a pass over other tiles may end a little later


def about(cells: Grid, halo_m: float, *, pixel_size_m: float) -> Grid:
    """The grid of finer pixels over cells and a halo."""
    height, width = (
        round((n * cells.pixel_size_m + 2 * halo_m) / pixel_size_m)
        for n in (cells.height, cells.width)
    )
    return Grid(cells.crs, cells.left_m - halo_m, cells.top_m + halo_m, pixel_size_m, height, width)


def on_grid(values: Any, grid: Grid) -> Any:
    """What a cube, or a layer of one, holds at the pixel centres of a grid, NaN beyond it."""
    x = values["x"].to_numpy()
    half_m = 0.501 * (abs(x[1] - x[0]) if len(x) > 1 else grid.pixel_size_m)
    return values.reindex(y=grid.y_m, x=grid.x_m, method="nearest", tolerance=half_m)


def stored_chip(
    cube: Any, name: str, *, bands: Sequence[str], grid: Grid, is_smooth: bool = False
) -> Chip:
    """A source's bands of a cube on a grid, stored values as of the archive's chips.

    ``is_smooth`` draws the surface between the centres of the source's own pixels.
    """
    row, images = sources.get(name), []
    for band in map(row.band, bands):
        values = cube[f"{name}_{band.name}"]
        if is_smooth:
            side_px = round(row.pixel_size_m / WIDE_PIXEL_M)
            values = values.copy(data=box_mean(values.to_numpy(), side_px))
        images.append((on_grid(values, grid).to_numpy() - band.offset) / band.scale)
    return Chip(np.stack(images), tuple(bands), grid)


def box_mean(values: np.ndarray, side_px: int) -> np.ndarray:
    """Mean of what is known in a square about each pixel; unknown pixels stay so.

    Of pixels drawn as squares of ``side_px`` this is the bilinear surface between their centres.
    """
    known = np.isfinite(values)
    total, weight = (
        uniform_filter(part, side_px, mode="nearest")
        for part in (np.where(known, values, 0.0), known.astype(float))
    )
    return np.where(known, total / np.where(known, weight, 1.0), np.nan)


class RegionInputs(ABC):
    """Base of how a model is mapped: the layers that it eats, their times and its cells."""

    cell_m: float
    anchor = ANCHOR  # whose last pass dates a day's map
    masks: Mapping[str, Sequence[str]] = {}  # bands that tell where a map is not valid
    is_series = False  # whether a cell's moments are predicted together

    @property
    @abstractmethod
    def bands(self) -> dict[float, dict[str, list[str]]]:
        """The bands of each source, by the pixel size of the cube that holds them."""

    @property
    @abstractmethod
    def fingerprint(self) -> bytes:
        """What the maps hang on beside the layers."""

    @abstractmethod
    def reach_m(self, size: float) -> float:
        """How far about the cells a cube is wanted."""

    @abstractmethod
    def prepare(self, cuts: Mapping[float, Any], cells: Grid, *, moment: Any) -> Any:
        """The layers about a tile's cells at a moment, as the model eats them."""

    @abstractmethod
    def answer(self, eaten: Sequence[Any], cells: Grid) -> list[Any]:
        """The maps of a tile's moments."""

    def size_m(self, name: str) -> float:
        """The pixel size of the cube that holds a source."""
        return HIGH_PIXEL_M if sources.get(name).resolution == "high" else WIDE_PIXEL_M

    @property
    def wanted(self) -> dict[float, dict[str, list[str]]]:
        """The bands and those of the masks."""
        wanted = {size: {k: list(v) for k, v in some.items()} for size, some in self.bands.items()}
        for name, bands in self.masks.items():
            have = wanted.setdefault(self.size_m(name), {}).setdefault(name, [])
            have += [band for band in bands if band not in have]
        return wanted

    @property
    def names(self) -> list[str]:
        """The sources."""
        return [name for some in self.wanted.values() for name in some]

    @property
    def limits(self) -> dict[str, dict[str, Any]]:
        """Bounds and cloud limits of the cubes, as in training."""
        dated = [name for name in self.names if not sources.get(name).is_static]
        clear = {name: limit for name, limit in CLEAR.items() if name in dated}
        return {"bounds": sources.bounds(self.anchor, dated), "max_cloud_fraction": clear}

    def area(self, region: Any, *, crs: str | None) -> Region:
        """The region's cells."""
        return cubes.region_of(region, pixel_size_m=self.cell_m, crs=crs, tile_px=TILE_CELLS)

    def moments(self, archive: Archive, area: Region, *, days: np.ndarray) -> pd.DatetimeIndex:
        """When dates are mapped: after their last pass, else at noon; other moments are kept.

        Raises
        ------
        CatalogueError
            Where the archive has no scene of a source at any time near the days.
        """
        _require(archive, area, self.names, days=days)
        moments = []
        for day in days:
            first, passes = day.astype("datetime64[D]"), pd.DataFrame()
            if self.anchor in self.names and first == day:
                passes = all_scenes(
                    archive, area.stations, sources=[self.anchor], start=first, end=first + DAY
                )
            noon = first + NOON if first == day else day
            last = (passes["end"].max() + PASS_SLACK).ceil("10min") if len(passes) else noon
            moments.append(last)
        return pd.DatetimeIndex(np.unique(np.array(moments, "datetime64[us]")))

    def cube_times(self, moments: pd.DatetimeIndex) -> pd.DatetimeIndex:
        """The moments of the cubes."""
        return moments

    def at(self, cube: Any, moment: Any) -> Any:
        """What of a cube tells of a moment."""
        return cube.sel(time=moment) if "time" in cube.dims else cube


def _require(archive: Archive, area: Region, names: Sequence[str], *, days: np.ndarray) -> None:
    place, lacking = area.stations.iloc[[len(area.tiles) // 2]], []
    for name in names:
        row = sources.get(name)
        back = LISTED if row.is_static else max(LISTED, sources.duration(row.max_age))
        try:
            scenes: Any = archive.scenes(place, name, days[0] - back, days[-1] + DAY)
        except UnknownNameError:
            scenes = ()
        if not len(scenes):
            lacking.append(name)
    if lacking:
        raise CatalogueError(
            f"The archive {archive.name!r} has no {', '.join(lacking)} over the region near "
            f"{str(days[0])[:10]} to {str(days[-1])[:10]}; the model eats {', '.join(names)}. Open "
            "an archive that has them, or map by a model that was trained without."
        )


class Windows(RegionInputs):
    """How a model of windows is mapped: its layers, the grid of its cells, a scene a tile."""

    def __init__(self, trained: Any, options: Mapping[str, Any]):
        self.trained, self.inputs = trained, trained.inputs
        self.options = {"stride_m": 320.0, "progress": False, **options}
        self.is_smooth = self.options.pop("resampling", "nearest") == "smooth"
        self.cell_m = float(self.options["stride_m"])
        self.unit_m = WIDE_PIXEL_M if self.inputs.low else HIGH_PIXEL_M
        if not self.cell_m > 0 or self.cell_m % self.unit_m:
            raise ContractError(
                f"A stride of {self.cell_m:g} m is no whole number of the {self.unit_m:g} m pixels "
                "of the model's images. Choose such a stride, for instance 320 m."
            )
        is_dense = self.options.get("mode") == "dense"
        sight_m = dense_reach_px(trained.model) * HIGH_PIXEL_M if is_dense else 0
        self.margin = int(np.ceil(sight_m / self.cell_m))  # cells about a tile's that are not kept
        window_m = window_px(trained.model) * HIGH_PIXEL_M
        self.halo_m = (window_m - self.cell_m) / 2 + self.margin * self.cell_m

    @cached_property
    def bands(self) -> dict[float, dict[str, list[str]]]:
        """The bands of each source, by the pixel size of the cube that holds them."""
        wanted: dict[float, dict[str, list[str]]] = {}
        for size, names in (
            (HIGH_PIXEL_M, self.inputs.high),
            (WIDE_PIXEL_M, (*self.inputs.low, *self.inputs.coarse)),
        ):
            for source, _, band in (name.partition(".") for name in names):
                index = INDICES.get(source, {}).get(band)
                some = wanted.setdefault(size, {}).setdefault(source, [])
                some += [b for b in (index.bands if index else [band]) if b not in some]
        return wanted

    def reach_m(self, size: float) -> float:
        """How far about the cells a cube is wanted."""
        if size == HIGH_PIXEL_M or self.unit_m == size and not self.smoothing_m:
            return self.halo_m
        return self.halo_m + self.smoothing_m + WIDE_PIXEL_M

    @cached_property
    def smoothing_m(self) -> float:
        """Half a pixel of the coarsest source, where it is to be smoothed."""
        names = distinct_sources(self.inputs.coarse) if self.is_smooth else ()
        return max((_whole(sources.get(n).pixel_size_m / 2) for n in names), default=0.0)

    def area(self, region: Any, *, crs: str | None) -> Region:
        """The region's cells: their windows begin on whole pixels of every image."""
        area = super().area(region, crs=crs)
        grid, off_m = area.grid, self.halo_m % self.unit_m
        if not off_m:
            return area
        west_m, sides = self.unit_m - off_m, (grid.height + 1, grid.width + 1)
        left, top = grid.left_m - west_m, grid.top_m + west_m
        grid = Grid(grid.crs, left, top, grid.pixel_size_m, *sides)
        return replace(area, grid=grid)

    @cached_property
    def fingerprint(self) -> bytes:
        """What the maps hang on beside the layers."""
        weights = {n: t.cpu().numpy() for n, t in self.trained.checkpoint.weights.items()}
        return pickle.dumps((weights, self.trained.statistics, self.options, self.is_smooth))

    def prepare(self, cuts: Mapping[float, Any], cells: Grid, *, moment: Any) -> Scene:
        """The layers about a tile's cells, as the model eats them."""
        fine, region = about(cells, self.halo_m, pixel_size_m=HIGH_PIXEL_M), {}
        for size, some in self.bands.items():
            for name, bands in some.items():
                pixel_m = size if name in self.inputs.image_sources else self.unit_m
                grid = about(cells, self.halo_m, pixel_size_m=pixel_m)
                is_smooth = self.is_smooth and name not in self.inputs.image_sources
                region[name] = stored_chip(
                    cuts[size], name, bands=bands, grid=grid, is_smooth=is_smooth
                )
        return scene_of(region, inputs=self.inputs, statistics=self.trained.statistics, grid=fine)

    def answer(self, scenes: Sequence[Scene], cells: Grid) -> list[Any]:
        """The map of each moment's scene."""
        return [self.trained.map(scene, margin=self.margin, **self.options) for scene in scenes]


def _whole(length_m: float) -> float:
    return float(np.ceil(length_m / WIDE_PIXEL_M) * WIDE_PIXEL_M)

"""A chip store and a samples table as batches of named tensors, shuffled by seed."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Sampler

from soilkit import grids, sources
from soilkit.constants import CROP_PX, PIXEL_RATIO
from soilkit.contracts import SAMPLES, Grid, check
from soilkit.errors import ContractError, UnitError
from soilkit.export.chips import ChipStore
from soilkit.models.inputs import (
    ABSENT,
    Images,
    Inputs,
    chip_rows,
    coarse_column,
    coarse_statistics,
    coarse_values,
    source_of,
)

log = logging.getLogger(__name__)


class ChipDataset(Dataset):
    """Samples of a chip store as named tensors, in the order of the table.

    A batch holds high (B, channel, row, col), low (the same at 160 m), coarse (B, channel) and
    moisture (B,) m3 m-3; what is not fed has no name in it. Images are the centre of each chip,
    where the label was measured, normalised by the catalogue; what is unknown becomes 0, the middle
    of the range.

    An absent source is NaN in all of its channels, which a model with source dropout accepts.

    Parameters
    ----------
    samples : samples table, as ``chips.build`` returned it
    features : features table with the coarse columns, matched by sample_id; None without coarse
    store : open chip store
    inputs : Inputs
    crop_px : int, pixels of 10 m a side; ``turning_px`` gives a crop's margin for rotation
    statistics : ``coarse_statistics`` of the *training* samples; None takes these samples
    cache : whether to keep packed crops in memory once read, for sets that fit
    allow_missing : whether a sample with an empty ``<source>_scene``, or no coarse value, lacks the
        source; else such samples are refused, and an unknown coarse value becomes its mean
    withhold : sources that every sample lacks, whatever the tables hold; they are never read

    Raises
    ------
    SceneNotFoundError
        When the store lacks a chip that a sample names.
    ContractError
        When the dataset lacks a source, by name; when the crop is larger than the chips.
    """

    def __init__(
        self,
        samples: pd.DataFrame,
        features: pd.DataFrame | None,
        store: ChipStore,
        *,
        inputs: Inputs,
        crop_px: int = CROP_PX,
        statistics: Mapping[str, Sequence[float]] | None = None,
        cache: bool = False,
        allow_missing: bool = False,
        withhold: Sequence[str] = (),
    ):
        self.inputs, self.crop_px, self.withheld = inputs, crop_px, tuple(withhold)
        _check_sources(samples, features, store=store, inputs=inputs.without(*withhold))
        self.sample_ids = samples["sample_id"].astype(str).to_numpy()
        self.moisture = samples["soil_moisture_m3_m3"].to_numpy(np.float32)
        rows = {
            source: np.full(len(samples), ABSENT)
            if source in self.withheld
            else chip_rows(store, source, samples=samples, allow_missing=allow_missing)
            for source in inputs.image_sources
        }
        low_px = 2 * -(-crop_px // (2 * PIXEL_RATIO))
        self._images = {
            name: Images(store, channels, rows=rows, crop_px=side, cache=cache)
            for name, channels, side in (
                ("high", inputs.high, crop_px),
                ("low", inputs.low, low_px),
            )
        }
        self.statistics, coarse = self._standardised(features, statistics)
        self._coarse = coarse if allow_missing else np.nan_to_num(coarse)
        self._coarse[:, [source_of(name) in self.withheld for name in inputs.coarse]] = np.nan

    def __len__(self) -> int:
        return len(self.sample_ids)

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        """One sample, as a batch without its first axis."""
        return {name: part[0] for name, part in self.__getitems__([i]).items()}

    def __getitems__(self, indices: list[int]) -> dict[str, torch.Tensor]:
        """A whole batch at once, each crop written straight into its place."""
        batch = {name: i.batch(indices) for name, i in self._images.items() if i.layers}
        if self.inputs.coarse:
            batch["coarse"] = torch.from_numpy(self._coarse[indices])
        return {**batch, "moisture": torch.from_numpy(self.moisture[indices])}

    @property
    def normalisation(self) -> dict[str, Any]:
        """Plain numbers by channel, for the checkpoint."""
        return self.inputs.normalisation(self.statistics)

    def _standardised(self, features, statistics):
        """Statistics by coarse channel, and standardised scalars (sample, channel), NaN unknown."""
        z = np.full((len(self), len(self.inputs.coarse)), np.nan, np.float32)
        fed = self.inputs.without(*self.withheld)
        if not fed.coarse:
            return dict(statistics or {}), z
        table = _matched(features, self.sample_ids)
        statistics = dict(statistics or coarse_statistics(table, fed))
        mean, std = np.transpose([statistics[name] for name in fed.coarse])
        columns = [self.inputs.coarse.index(name) for name in fed.coarse]
        z[:, columns] = (coarse_values(table, fed) - mean) / std
        return statistics, z


def _check_sources(samples, features, *, store, inputs: Inputs) -> None:
    """Refuse a dataset that lacks a source, naming all of them and where they were looked for."""
    lacking = []
    for source in inputs.image_sources:
        if source not in store.sources:
            lacking.append(f"{source} (the store has chips of {', '.join(store.sources)})")
        elif f"{source}_scene" not in samples and not sources.get(source).is_static:
            lacking.append(f"{source} (the samples have no column {source}_scene)")
    columns = () if features is None else features.columns
    for name in inputs.coarse:
        if coarse_column(name) not in columns:
            has = ", ".join(columns) or "not been handed"
            lacking.append(f"{name} (no column {coarse_column(name)} in the features: {has})")
    if lacking:
        raise ContractError(
            f"The dataset lacks {'; '.join(lacking)}. Build it with them, leave them out by "
            "Inputs.without, or pass withhold= for a model with source dropout."
        )


def _matched(features, sample_ids) -> pd.DataFrame:
    rows = pd.Index(features["sample_id"].astype(str)).get_indexer(sample_ids)
    if (rows < 0).any():
        raise ContractError(
            f"The features lack {int((rows < 0).sum())} of the samples, such as "
            f"{sample_ids[int((rows < 0).argmax())]}. Make them from the same samples."
        )
    return features.iloc[rows]


# Batches in an order that is a function of a seed and an epoch.


class EpochOrder(Sampler[int]):
    """Shuffled indices of a dataset, the order of each epoch a function of (seed, epoch) alone."""

    def __init__(self, n: int, *, seed: int):
        self.n, self.seed, self.epoch = n, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next pass gives."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[int]:
        words = np.random.SeedSequence([self.seed, self.epoch]).generate_state(1)
        generator = torch.Generator().manual_seed(int(words[0]))
        return iter(torch.randperm(self.n, generator=generator).tolist())


def make_loader(
    dataset: Any, *, batch_size: int, shuffle_seed: int | None = None, workers: int = 0
) -> DataLoader:
    """A loader of whole batches; a shuffled one leaves the last, smaller batch out of each epoch.

    The order of an epoch is a function of ``shuffle_seed`` (None: the dataset's own order) and of
    ``loader.sampler.set_epoch(epoch)``, so that a resumed run meets the same batches. ``workers``
    are processes that read.
    """
    is_shuffled = shuffle_seed is not None
    return DataLoader(
        dataset, batch_size, num_workers=workers, persistent_workers=workers > 0, collate_fn=_as_is,
        sampler=None if shuffle_seed is None else EpochOrder(len(dataset), seed=shuffle_seed),
        drop_last=is_shuffled and len(dataset) >= batch_size,
        generator=torch.Generator().manual_seed(shuffle_seed or 0),
    )  # fmt: skip


def _as_is(batch: Any) -> Any:
    return batch


# ---- Table 6's augmentations: affine maps about the chip's centre, alike for both images ---------
#
# The label belongs to the centre, so the centre never moves. No band needs special care when a chip
# turns: the radar's incidence angle, like backscatter and reflectance, is a number at a place and
# not a direction in the image. (A band that were an azimuth or an aspect would have to turn too.)
#
# A whole batch moves at once, on the device that holds it; the maps are drawn on the processor, so
# that a seed gives the same ones everywhere. A band that is NaN throughout (an absent source) stays
# so.


def image_sides(crop_px: int) -> dict[str, int]:
    """Sides of a window's images over the same ground, pixels of 10 m and of 160 m.

    Raises ``ContractError`` when the crop is no whole number of 160 m pixels.
    """
    if crop_px < 1 or crop_px % PIXEL_RATIO:
        raise ContractError(
            f"A crop of {crop_px} pixels of 10 m is no whole number of 160 m pixels. Choose a "
            f"multiple of {PIXEL_RATIO}, such as 64, 128, 256 or 512."
        )
    return {"high": crop_px, "low": crop_px // PIXEL_RATIO}


def turning_px(crop_px: int) -> int:
    """Side of the square to read so that a crop finds all of its ground however it turns, pixels.

    sqrt(2) times the crop, to the nearest even number; shears reach a little further and are
    continued by reflection.

    Examples
    --------
    >>> [turning_px(side) for side in (64, 128, 256, 512)]
    [90, 182, 362, 724]
    """
    return 2 * round(crop_px * math.sqrt(2) / 2)


@dataclass(frozen=True)
class Augment:
    """Rotate, flip and shear a batch at random, then crop its centre [1]_.

    Table 6: rotation by up to 180 degrees either way with probability 0.8, each flip with 0.5, each
    shear by up to 9 degrees with 0.3, drawn anew for each sample. Images larger than the crop (362
    and 23 pixels for 256 and 16) hold what turns into the corners; a chip of just the crop's size
    is continued by reflection.

    Parameters
    ----------
    crops : {image of the batch: side of its crop, pixels}, all over the same ground
    rotate, flip, shear : float, probabilities
    max_rotation_deg, max_shear_deg : float, degrees

    References
    ----------
    .. [1] Batchu et al. (2022), arXiv:2206.09649, section 3b2, Table 6

    Examples
    --------
    >>> batch = {"high": torch.rand(2, 10, 362, 362), "low": torch.rand(2, 4, 23, 23)}
    >>> batch = Augment()(batch, generator=torch.Generator().manual_seed(0))
    >>> batch["high"].shape, batch["low"].shape
    (torch.Size([2, 10, 256, 256]), torch.Size([2, 4, 16, 16]))
    """

    crops: Mapping[str, int] = field(default_factory=lambda: image_sides(CROP_PX))
    rotate: float = 0.8
    flip: float = 0.5
    shear: float = 0.3
    max_rotation_deg: float = 180.0
    max_shear_deg: float = 9.0

    def __call__(
        self, batch: Mapping[str, torch.Tensor], *, generator: torch.Generator
    ) -> dict[str, torch.Tensor]:
        """The batch with all images (B, band, row, col) of each sample moved by the same map."""
        images = {name: batch[name] for name in self.crops if name in batch}
        if not images:
            return dict(batch)
        first = next(iter(images.values()))
        matrices = self.draw(len(first), generator=generator).to(first.device)
        moved = {n: warp(i, matrices, size_px=self.crops[n]) for n, i in images.items()}
        return {**batch, **moved}

    def draw(self, n: int, *, generator: torch.Generator) -> torch.Tensor:
        """Draw ``n`` maps (n, 2, 2) from offsets (x east, y south) in the output to the input's."""

        def happens(probability):
            return torch.rand(n, generator=generator) < probability

        def angle_rad(probability, limit_deg):
            deg = (2 * torch.rand(n, generator=generator) - 1) * limit_deg
            return torch.deg2rad(deg) * happens(probability)

        def flipped():
            return 1 - 2.0 * happens(self.flip)

        turn = angle_rad(self.rotate, self.max_rotation_deg)
        shear_x = angle_rad(self.shear, self.max_shear_deg).tan()
        shear_y = angle_rad(self.shear, self.max_shear_deg).tan()
        zero, one = torch.zeros(n), torch.ones(n)
        rotation = _matrices(turn.cos(), -turn.sin(), turn.sin(), turn.cos())
        flips = _matrices(flipped(), zero, zero, flipped())
        sheared = _matrices(one, shear_x, zero, one) @ _matrices(one, zero, shear_y, one)
        return rotation @ flips @ sheared  # (n, 2, 2)


def turned(
    batch: Mapping[str, torch.Tensor], *, generator: torch.Generator
) -> dict[str, torch.Tensor]:
    """A batch of square images (..., row, col), all turned and mirrored alike, one way of eight."""
    turns, is_mirrored = divmod(int(torch.randint(8, (1,), generator=generator)), 2)
    images = {name: torch.rot90(values, turns, (-2, -1)) for name, values in batch.items()}
    return {name: values.mT if is_mirrored else values for name, values in images.items()}


def _matrices(a, b, c, d):
    return torch.stack([a, b, c, d], dim=-1).reshape(-1, 2, 2)


def warp(images: torch.Tensor, matrices: torch.Tensor, *, size_px: int) -> torch.Tensor:
    """Sample square images (B, band, row, col) bilinearly by maps (B, 2, 2) about their centre.

    out(p) = in(M p), p the offset from the centre in pixels; reflection outside the image. The
    output is (B, band, size_px, size_px).
    """
    scale = size_px / images.shape[-1]  # the sampler counts in half sides, of output and of input
    # Half precision could not tell neighbouring pixels' coordinates apart.
    theta = functional.pad(matrices * scale, (0, 1)).to(images.device)  # (B, 2, 3), no shift
    shape = [len(images), images.shape[1], size_px, size_px]
    grid = functional.affine_grid(theta, shape, align_corners=False)
    moved = functional.grid_sample(
        images.to(grid.dtype), grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
    return moved.to(images.dtype)


# ---- a cube with stations on it ------------------------------------------------------------------

SAME_MOMENT = np.timedelta64(12, "h")


@dataclass(frozen=True)
class StationCube:
    """A cube and the readings of stations that stand on it, which a model of images trains on.

    Attributes
    ----------
    cube : of ``cubes.build``, dims (time, y, x)
    samples : those on the cube: at its moments within twelve hours, inside its pixels
    stations : table of that contract
    places : array (row, 3) int, time step, row and column of each sample
    grid : Grid of the pixels
    """

    cube: xr.Dataset
    samples: pd.DataFrame
    stations: pd.DataFrame
    places: np.ndarray
    grid: Grid

    @classmethod
    def of(
        cls, cube: xr.Dataset, samples: pd.DataFrame, *, stations: pd.DataFrame
    ) -> "StationCube":
        """Put samples on a cube; those beyond it are left out, and the log counts them.

        The log also counts pixels with several sensors, of which ``pixel_means`` are taken. Raises
        ``ContractError`` for tables that are none, a sensor at two places, or a cube without times.
        """
        check(samples, SAMPLES)
        grid, moments = cube_grid(cube), cube["time"].to_numpy().astype("datetime64[us]")
        sensors = stations.drop_duplicates(["sensor_id", "longitude", "latitude"])
        if (twice := sensors["sensor_id"].duplicated()).any():
            raise ContractError(
                f"{sensors['sensor_id'][twice].iloc[0]} stands at several places in the stations "
                "table; wanted one row a sensor. Drop the others, or give them names of their own."
            )
        at = sensors.set_index(sensors["sensor_id"].astype(str))[["longitude", "latitude"]]
        at = at.reindex(samples["sensor_id"].astype(str)).to_numpy(float)
        x_m, y_m = grids.transformer("EPSG:4326", grid.crs).transform(*at.T)
        times = samples["time"].to_numpy().astype("datetime64[us]")
        step = abs(times[:, None] - moments).argmin(axis=1) if len(times) else np.zeros(0, int)
        row = np.floor((grid.top_m - np.asarray(y_m)) / grid.pixel_size_m)
        col = np.floor((np.asarray(x_m) - grid.left_m) / grid.pixel_size_m)
        on = (row >= 0) & (row < grid.height) & (col >= 0) & (col < grid.width)
        on &= abs(times - moments[step]) <= SAME_MOMENT
        if not on.all():
            log.info("%d of %d samples lie beyond the cube", (~on).sum(), len(on))
        places = np.stack([step[on], row[on].astype(int), col[on].astype(int)], axis=1)
        sensor = samples["sensor_id"].astype(str)[on].to_numpy()
        by_pixel = pd.Series(sensor).groupby([places[:, 1], places[:, 2]]).nunique()
        if (by_pixel > 1).any():
            log.info("%d pixels hold several sensors and take their mean", (by_pixel > 1).sum())
        return cls(cube, samples[on].reset_index(drop=True), stations, places, grid)

    @cached_property
    def features(self) -> pd.DataFrame:
        """The layers at the samples' pixels, a features table in their order."""
        names = [n for n in map(str, self.cube) if {"y", "x"} <= set(self.cube[n].dims)]
        names = [n for n in names if n != "inside" and not n.endswith("_age_hours")]
        axes = zip(("time", "y", "x"), self.places.T, strict=True)
        index = {axis: xr.DataArray(at, dims="sample") for axis, at in axes}
        values = self.cube[names].isel(index).load()
        table = pd.DataFrame({n: values[n].to_numpy() for n in names}, self.samples.index)
        return table.assign(sample_id=self.samples["sample_id"])

    def pixel_means(self, rows: np.ndarray) -> pd.Series:
        """Mean moisture over a pixel's sensors [m3 m-3], by (step, row, col).

        Each sensor's readings of a moment are averaged first. ``rows`` (row,) bool are the samples
        that count; readings without a value do not.
        """
        keys = ["step", "row", "col"]
        table = pd.DataFrame(self.places, columns=keys, index=self.samples.index)
        table["sensor"] = self.samples["sensor_id"].astype(str)
        table["moisture"] = self.samples["soil_moisture_m3_m3"].astype(float)
        table = table[np.asarray(rows, bool)].dropna()
        return table.groupby([*keys, "sensor"])["moisture"].mean().groupby(keys).mean()


def cube_grid(cube: xr.Dataset) -> Grid:
    """The pixels of a cube as ``cubes.build`` lays them. Raises ``ContractError`` for no cube."""
    words = cube["spatial_ref"].attrs if "spatial_ref" in cube.variables else {}
    lacks = [n for n in ("time", "y", "x") if n not in cube.dims] + ["crs_wkt"] * (not words)
    if lacks or min(cube.sizes["y"], cube.sizes["x"]) < 2:
        raise ContractError(
            f"A cube has pixels (time, y, x) and spatial_ref; of these lacks "
            f"{', '.join(lacks) or 'a second row or column'}. Hand in what cubes.build made."
        )
    x_m, y_m = cube["x"].to_numpy(), cube["y"].to_numpy()
    size_m = float(x_m[-1] - x_m[0]) / (len(x_m) - 1)
    left_m, top_m = float(x_m[0]) - size_m / 2, float(y_m[0]) + size_m / 2
    return Grid(grids.in_metres(words["crs_wkt"]), left_m, top_m, size_m, len(y_m), len(x_m))


CELL_PX = 9  # pixels of 1 km on a side of a cell of 9 km
UNEQUAL = 1e-3  # m3 m-3, between the pixels of one coarse cell


def whole_cells(cube: xr.Dataset) -> xr.Dataset:
    """The part of a cube of 1 km that is made of whole cells of 9 km, read when computed.

    Raises ``ContractError`` when its pixels are no 1 km EASE-Grid 2.0, which nests in that of 9 km,
    or hold no whole cell.
    """
    grid, km = cube_grid(cube), grids.EASE2_PIXEL_SIZE_M[1]
    left, top = (grid.left_m - grids.EASE2_LEFT_M) / km, (grids.EASE2_TOP_M - grid.top_m) / km
    on_net = np.allclose([left, top], np.round([left, top]), atol=0.01)
    if grid.crs != grids.EASE2_CRS or abs(grid.pixel_size_m - km) > 0.01 or not on_net:
        raise ContractError(
            f"Pixels of {grid.pixel_size_m:.2f} m in {grid.crs}, {left % 1:.2f} and {top % 1:.2f} "
            "off the net, nest in no 9 km cells; wanted the 1 km EASE-Grid 2.0: cubes.build(..., "
            f'pixel_size_m=1000, crs="{grids.EASE2_CRS}").'
        )
    first_row, first_col = -round(top) % CELL_PX, -round(left) % CELL_PX
    height, width = ((n - n % CELL_PX) for n in (grid.height - first_row, grid.width - first_col))
    if min(height, width) < CELL_PX:
        raise ContractError(
            f"A cube of {grid.height} x {grid.width} pixels holds no whole cell of {CELL_PX} x "
            f"{CELL_PX}. Take a region of some 30 km at least."
        )
    rows = slice(first_row, first_row + height)
    return cube.isel(y=rows, x=slice(first_col, first_col + width))


def coarse_cells(layer: xr.DataArray) -> np.ndarray:
    """The values of 9 km cells drawn on whole cells of 1 km pixels, (..., row / 9, col / 9).

    Raises ``UnitError`` for values that are no m3 m-3, and ``ContractError`` where cells' pixels
    differ among themselves: the layer is shifted against the cells, or of another grid.
    """
    values = layer.to_numpy()
    top = np.nanmax(values, initial=0.0)
    if top > 1 or np.nanmin(values, initial=0.0) < 0:
        raise UnitError(
            f"{layer.name} reaches from {np.nanmin(values):g} to {top:g}: wanted m3 m-3, 0 to 1. "
            "Convert it (per cent / 100; mm or kg m-2 / the layer's depth in mm)."
        )
    rows, cols = (n // CELL_PX for n in values.shape[-2:])
    blocks = values.reshape(*values.shape[:-2], rows, CELL_PX, cols, CELL_PX)
    spread = blocks.max(axis=(-3, -1)) - blocks.min(axis=(-3, -1))
    differ = np.mean(spread[np.isfinite(spread)] > UNEQUAL) if np.isfinite(spread).any() else 0.0
    if differ > 0.05:
        raise ContractError(
            f"In {differ:.0%} of the 9 km cells the pixels of {layer.name} differ: it is shifted "
            "against the cells, or lies on another grid. Take it on the 9 km EASE-Grid 2.0, "
            "nearest pixel, or average it first: .coarsen(y=9, x=9).mean()."
        )
    return blocks.mean(axis=(-3, -1))  # a cell that is unknown in part stays unknown

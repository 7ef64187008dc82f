"""The system: tiles of 75 maps and what is known of their moisture become daily maps at 30 m."""

import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from scipy.ndimage import distance_transform_edt

from soilkit import grids, sources
from soilkit.contracts import Grid
from soilkit.errors import ContractError, UnknownNameError
from soilkit.export import cubes, ten_day_table
from soilkit.export.cubes.regions import Region, Tile
from soilkit.metrics.evaluation import applicability
from soilkit.models import inference, training
from soilkit.models.datasets import cube_grid, turned
from soilkit.models.deepsoil.clusters import Clusters, features_of_maps, on_pixels
from soilkit.models.deepsoil.extents import (
    CHANNELS,
    COARSE_DIGITS,
    LOW_LEVEL,
    MAX_CLOUD,
    QUADKEY_DIGITS,
    SOURCES,
    TARGET,
    TILE_PX,
    ExtentTiles,
    Maps,
    known,
    maps_of,
)
from soilkit.models.deepsoil.network import DeepSoil, ScienceLoss, has_curve, look, step_by
from soilkit.models.maps.scene import RegionInputs, about, on_grid
from soilkit.models.maps.validity import APPLICABILITY, dissimilarity, reasons_of, with_validity
from soilkit.models.maps.windows import map_dataset

TRAIN, VALIDATION = "train", "validation"
LOW_LEVEL_NAMES = [CHANNELS[k].name for k in LOW_LEVEL]
DATED = {
    f"{row.name}_{layer}" for row in sources.CATALOGUE if not row.is_static
    for layer in (*(band.name for band in row.bands), "age_hours")
}  # fmt: skip
ALL = -1  # the number of the model of all clusters
AT_ONCE = 32  # tiles that are predicted together
BLOCK_PX = TILE_PX * 2 ** (QUADKEY_DIGITS - COARSE_DIGITS)  # mapped, read and kept together
FAULTS = (
    "tiles without a target", "pixels without a retention curve", "targets below theta_r",
    "targets above theta_s", "maps missing in all of a tile",
)  # fmt: skip


# ---- batches -------------------------------------------------------------------------------------


class Batches:
    """Batches of some tiles of ``ExtentTiles``, with the share of the training that is done."""

    def __init__(
        self,
        data: Any,
        rows: np.ndarray,
        *,
        batch_size: int,
        epochs: int = 1,
        shuffles: bool = False,
    ):
        self.data, self.rows, self.epochs = data, np.asarray(rows, int), epochs
        self.batch_size, self.share = min(batch_size, max(len(rows), 1)), 0.0
        if shuffles:
            self.generator = torch.Generator()

    def set_epoch(self, epoch: int) -> None:
        """Tell which pass over the tiles comes next."""
        self.share = epoch / self.epochs

    def __len__(self) -> int:
        if hasattr(self, "generator"):
            return len(self.rows) // self.batch_size
        return -(-len(self.rows) // self.batch_size)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        order = self.rows
        if hasattr(self, "generator"):
            order = order[torch.randperm(len(order), generator=self.generator).numpy()]
        for k in range(len(self)):
            some = order[k * self.batch_size : (k + 1) * self.batch_size]
            batch = self.data.__getitems__(some.tolist())
            yield batch | {"share": torch.full((len(some), 1, 1), self.share)}


def faults(data: Any, rows: np.ndarray) -> tuple[np.ndarray, dict[str, int]]:
    """The rows that can be learnt from, and what was counted on the way.

    Raises ``ContractError`` for maps with NaN or beyond [0, 1] and -1, naming the first.
    """
    usable, counts = [rows[:0]], dict.fromkeys(FAULTS, 0)
    for some in (rows[k : k + AT_ONCE] for k in range(0, len(rows), AT_ONCE)):
        batch = data.__getitems__(some.tolist())
        inputs = batch["inputs"]
        strange = ~((inputs >= 0) & (inputs <= 1) | (inputs == -1))
        if strange.any():
            tile, channel, row, col = strange.nonzero()[0].tolist()
            at = data.tiles.iloc[some[tile]]
            raise ContractError(
                f"The map {data.channels[channel].name!r} of tile {at['quadkey']} on {at['time']} "
                f"holds {inputs[tile, channel, row, col]:g}: wanted numbers in [0, 1], missing as "
                "-1. Make it by maps_of."
            )
        valid = batch["valid"] & torch.isfinite(batch["target"])
        has_target = (valid | torch.isfinite(batch["probe"])).flatten(1).any(1)
        usable.append(some[has_target.numpy()])
        target, (theta_r, theta_s) = batch["target"], batch["soil"].unbind(1)[:2]
        curve = has_curve(batch["soil"])
        faults = (~has_target, ~curve, valid & curve & (target < theta_r),
                 valid & curve & (target > theta_s), (inputs == -1).all(-1).all(-1))  # fmt: skip
        for name, where in zip(FAULTS, faults, strict=True):
            counts[name] += int(where.sum())
    return np.concatenate(usable), counts


# ---- training ------------------------------------------------------------------------------------


class Errors:
    """The validation score of ``training.fit``; ``rows`` keep errors against maps and probes."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def __call__(self, predicted: np.ndarray, observed: np.ndarray) -> float:
        """Mean of the MAE against the target maps and at the probes, m3 m-3, as far as known."""
        error = np.abs(predicted - observed)  # (sample, 2, row, col)
        known = np.isfinite(error)
        n = known.sum(axis=(0, 2, 3))
        sums = np.where(known, error, 0).sum(axis=(0, 2, 3), dtype=float)
        of_map, of_probe = np.where(n > 0, sums / np.maximum(n, 1), np.nan)
        self.rows.append({"map_mae_m3_m3": of_map, "probe_mae_m3_m3": of_probe})
        return float(np.nanmean([of_map, of_probe]))


def train(
    data: ExtentTiles,
    split: Any,
    *,
    preset: str = "small",
    seed: int = 0,
    out_dir: str | os.PathLike[str] | None = None,
    monthly: ExtentTiles | None = None,
    loss: Any = None,
    name: str = "DEEPSOIL",
    clusters: Clusters | None = None,
    epochs: int = 20,
    monthly_epochs: int = 5,
    batch_size: int = 16,
    client: Any = None,
    progress: bool = True,
    **options: Any,
) -> "TrainedDeepSoil":
    """Train on tiles, first on their months, then on days; the weights that validate best are kept.

    The monthly model learns from all tiles; the daily ones begin with its weights: one for all, or
    with ``clusters`` one for the tiles of each [1]_. A cluster without a training tile has none;
    the model of all stands in for it and is counted. A run with an ``out_dir`` that was interrupted
    goes on there.

    Parameters
    ----------
    data : tiles and days
    split : labels (tile,) of ``data.tiles``, "train", "validation" or "test"
    preset : "small" or "paper"
    seed : of the weights and the order
    out_dir : the best checkpoints go to ``checkpoints/deepsoil_*.pt`` in it
    monthly : the same extents with ``is_monthly``; without them the daily model starts from nothing
    loss : (predicted, batch) -> scalar; by default ``ScienceLoss()``
    name : what tables call the model
    clusters : of ``clusters.fit``, for a model a cluster
    epochs, monthly_epochs : passes over the training tiles, by day and by month
    batch_size : tiles
    client : of Dask, or an executor of processes, that trains the clusters at once
    options : ``mask``, whether a channel tells which pixels are known, and of ``training.Settings``

    Raises
    ------
    ContractError
        For a split of another length or without a training tile that has a target, and for maps
        that are not scaled.

    References
    ----------
    .. [1] Khandelwal et al. (2024), doi:10.1145/3678717.3691261, section 3
    """
    parts, counts = _parts(data, split)
    names = [channel.name for channel in data.channels]
    low = tuple(k for k, n in enumerate(names) if n in LOW_LEVEL_NAMES)
    mask = {"mask": options.pop("mask", False)}
    torch.manual_seed(seed)
    model = DeepSoil.preset(
        preset, channels=len(names), low_level=low, mean_label_m3_m3=_mean(data, parts[0]), **mask
    )
    loss = ScienceLoss() if loss is None else loss
    about = training.Provenance(tuple(names), {"name": name, "loss": repr(loss)})
    shared = {"loss": loss, "batch_size": batch_size, "seed": seed, "provenance": about,
              "progress": progress, "options": options, "out_dir": out_dir}  # fmt: skip
    if monthly is not None:
        of_month, _ = _parts(monthly, _labels_of(monthly, data, split))
        warm = _fitted(model, monthly, of_month, epochs=monthly_epochs, stem="monthly", **shared)
        model = warm[0]
    groups = {ALL: parts}
    if clusters is not None:
        nearest = clusters.nearest(data)
        groups = {int(k): (learn, choose) for k in np.unique(nearest[parts[0]])
                  for learn, choose in [[rows[nearest[rows] == k] for rows in parts]]}  # fmt: skip
        counts["clusters without a training tile"] = clusters.n - len(groups)
        groups |= {ALL: parts} if len(groups) < clusters.n else {}
    call = _here if client is None else client.submit
    futures = {
        k: call(_fitted, model, data, rows, epochs=epochs, stem=_stem(k), **shared)
        for k, rows in groups.items()
    }
    answers = {k: future.result() for k, future in futures.items()}
    histories = [history.assign(cluster=k) for k, (_, _, history) in answers.items()]
    kept = {k: checkpoint for k, (_, checkpoint, _) in answers.items()}
    whole = pd.concat(histories, ignore_index=True)
    return TrainedDeepSoil(kept, clusters, whole, pd.Series(counts))


def _parts(data: ExtentTiles, split: Any) -> tuple[tuple[np.ndarray, np.ndarray], dict[str, int]]:
    """The rows to learn from and to choose by, and what was counted on the way."""
    labels = np.asarray(split, dtype=str)
    if len(labels) != len(data.tiles):
        raise ContractError(
            f"The split has {len(labels)} labels for {len(data.tiles)} tiles. Make it of "
            "data.tiles."
        )
    learn, counts = faults(data, np.flatnonzero(labels == TRAIN))
    choose, _ = faults(data, np.flatnonzero(labels == VALIDATION))
    if not len(learn):
        raise ContractError(
            f"None of {int((labels == TRAIN).sum())} tiles labelled {TRAIN!r} has a valid target "
            "or a probe: nothing to fit. Label others, or bring HydroBlocks for them."
        )
    return (learn, choose), counts


def _labels_of(monthly: ExtentTiles, data: ExtentTiles, split: Any) -> np.ndarray:
    """Labels of monthly tiles: that of all days of the tile, none where they differ."""
    of_day = pd.Series(np.asarray(split, str)).groupby(data.tiles["quadkey"].to_numpy())
    label = of_day.first().where(of_day.nunique() == 1, "")
    return label.reindex(monthly.tiles["quadkey"]).fillna("").to_numpy(str)


def _mean(data: ExtentTiles, rows: np.ndarray) -> float:
    """The mean target of some tiles, m3 m-3."""
    first = data.__getitems__(rows[:AT_ONCE].tolist())
    return float(first["target"][first["valid"]].mean()) if first["valid"].any() else 0.2


def _stem(cluster: int) -> str:
    return "daily" if cluster == ALL else f"cluster_{cluster}"


def _here(work: Any, *arguments: Any, **options: Any) -> Future:
    """What an executor's ``submit`` gives, done at once in this process."""
    done: Future = Future()
    done.set_result(work(*arguments, **options))
    return done


def _fitted(
    model: DeepSoil, data: ExtentTiles, parts: Sequence[np.ndarray], *, loss: Any, epochs: int,
    stem: str, out_dir: Any, options: Mapping[str, Any], **shared: Any,
) -> tuple[DeepSoil, training.Checkpoint, pd.DataFrame]:  # fmt: skip
    """A copy of a model trained on the first rows and chosen by the second, and its history."""
    fresh = DeepSoil(model.config)
    fresh.load_state_dict(model.state_dict())
    learn, choose = parts[0], parts[1] if len(parts[1]) else parts[0]
    size, provenance = shared["batch_size"], shared["provenance"]
    loaders = training.Loaders(
        Batches(data, learn, batch_size=size, epochs=epochs, shuffles=True),
        Batches(data, choose, batch_size=size),
    )
    a_pass, errors = len(loaders.train), Errors()
    settings: dict[str, Any] = {
        "steps": epochs * a_pass, "validate_every": a_pass, "seed": shared["seed"],
        "optimizer": "adam", "learning_rate": 2e-3, "max_gradient_norm": 1.0,
    }  # fmt: skip
    path = None if out_dir is None else Path(out_dir) / "checkpoints" / f"deepsoil_{stem}.pt"
    history = training.fit(
        fresh, loaders, step_by(loss), look, settings=training.Settings(**{**settings, **options}),
        path=path, provenance=provenance, augment=turned, score=errors, progress=shared["progress"],
    )  # fmt: skip
    seen = pd.DataFrame(errors.rows, history.index[len(history) - len(errors.rows) :])
    checkpoint = training.Checkpoint.best(fresh, history, provenance=provenance)
    return fresh, checkpoint, history.join(seen)


# ---- what is trained -----------------------------------------------------------------------------


def load(path: str | os.PathLike[str]) -> "TrainedDeepSoil":
    """What ``TrainedDeepSoil.save`` wrote; ``CheckpointError`` when it is another system's."""
    whole = training.load_checkpoint(path)
    parts: dict[int, dict[str, torch.Tensor]] = {}
    for name, weights in whole.weights.items():
        number, _, rest = name.partition(".")
        if number.lstrip("-").isdigit():
            parts.setdefault(int(number), {})[rest] = weights
    kept = {k: replace(whole, weights=weights) for k, weights in parts.items()}
    if not kept:
        DeepSoil.from_checkpoint(whole)  # says what it is
    held = whole.provenance.normalisation.get("clusters")
    return TrainedDeepSoil(kept, None if held is None else Clusters.of(held))


@dataclass(frozen=True)
class TrainedDeepSoil:
    """Trained models by cluster; ``history`` and ``counts`` are known where it was trained.

    ``ALL`` is the number of the model of all tiles, alone or for clusters without one.
    """

    checkpoints: Mapping[int, training.Checkpoint]
    clusters: Clusters | None = None
    history: pd.DataFrame | None = None
    counts: pd.Series | None = None

    @cached_property
    def models(self) -> dict[int, Any]:
        """The models, batch norms folded, laid out for speed."""
        made: dict[int, Any] = {
            k: inference.folded(DeepSoil.from_checkpoint(one))
            for k, one in self.checkpoints.items()
        }
        return {k: one.to(memory_format=torch.channels_last) for k, one in made.items()}

    @property
    def _origin(self) -> training.Provenance:
        return next(iter(self.checkpoints.values())).provenance

    @property
    def name(self) -> str:
        """What tables call it."""
        return str(self._origin.normalisation["name"])

    @property
    def layers(self) -> list[str]:
        """The layers of a cube that its maps and their target are made of."""
        return [c.layers[0] for c in CHANNELS if c.name in self._origin.inputs] + [TARGET]

    def moisture(
        self, inputs: torch.Tensor, *, known: torch.Tensor | None = None, shares: Any = None
    ) -> np.ndarray:
        """Moisture (B, row, col), m3 m-3, of maps (B, channel, row, col).

        ``shares`` (B, cluster) or (B, row, col, cluster) are the weights of the clusters' models,
        which sum to 1.
        """
        fed = inputs.contiguous(memory_format=torch.channels_last)
        known = known if next(iter(self.checkpoints.values())).configuration["mask"] else None
        with torch.inference_mode():
            if shares is None:
                return self.models[ALL](fed, known).numpy()
            shares = shares.reshape(len(fed), *(shares.shape[1:-1] or (1, 1)), -1).astype(
                np.float32
            )
            mixed = np.zeros((len(fed), *fed.shape[2:]), np.float32)
            for k in range(shares.shape[-1]):
                some = (shares[..., k] > 0).any((1, 2))
                if some.any():
                    model = self.models[k if k in self.models else ALL]
                    part = model(fed[some], None if known is None else known[some]).numpy()
                    mixed[some] += shares[some, ..., k] * part
        return mixed

    def tiles(self, data: ExtentTiles, rows: Any = None) -> np.ndarray:
        """Moisture of some tiles of ``data`` (all), (tile, row, col), m3 m-3."""
        rows = np.arange(len(data.tiles)) if rows is None else np.asarray(rows)
        shares = None if self.clusters is None else self.clusters.shares(data)
        made = [np.empty((0, TILE_PX, TILE_PX), np.float32)]
        for some in (rows[k : k + AT_ONCE] for k in range(0, len(rows), AT_ONCE)):
            batch = data.__getitems__(some.tolist())
            blend = None if shares is None else shares[some]
            made.append(self.moisture(batch["inputs"], known=batch["known"], shares=blend))
        return np.concatenate(made)

    def predict(
        self, data: ExtentTiles, samples: pd.DataFrame, *, stations: pd.DataFrame, split: Any
    ) -> pd.DataFrame:
        """A predictions table of the samples that lie in tiles of ``data``, at their pixels.

        A sample in several extents is answered in the one about its own station. ``split`` is one
        label, or labels (tile,).
        """
        places = data.readings.drop_duplicates("sample_id").set_index("sample_id")
        ids = samples["sample_id"].astype(str)
        samples = samples[ids.isin(places.index).to_numpy()].reset_index(drop=True)
        at = places.loc[samples["sample_id"].astype(str)]
        rows, which = np.unique(at["tile"], return_inverse=True)
        made = self.tiles(data, rows)[which, at["row"], at["col"]]
        labels = np.broadcast_to(np.asarray(split, str), len(data.tiles))
        return ten_day_table.predictions_table(
            samples.astype({"soil_moisture_m3_m3": float}), stations, predicted=made,
            model=self.name, split=labels[at["tile"]],
        )  # fmt: skip

    def map(self, cube: xr.Dataset, *, area: Any = None) -> xr.Dataset:
        """Moisture of a cube's moments, (time, y, x), m3 m-3, tile by tile from its north-west.

        ``soil_moisture``, ``validity`` and, with an ``area`` of ``area_of``, ``applicability``.
        Raises ``ContractError`` for a cube that is no whole number of tiles, or lacks a layer.
        """
        grid, recipe = cube_grid(cube), self.region_inputs({} if area is None else {"area": area})
        if grid.height % TILE_PX or grid.width % TILE_PX:
            raise ContractError(
                f"The cube has {grid.height} x {grid.width} pixels: wanted multiples of {TILE_PX}. "
                "Build it of quadkeys of 14 digits, or map a region by maps.predict_region."
            )
        maps = []
        for moment in cube["time"].to_numpy():
            at = recipe.at(cube, moment).drop_vars("spatial_ref", errors="ignore")
            layers: dict[str, np.ndarray] = {}
            for block in _blocks(grid):
                around = about(block.part, recipe.reach_m(0), pixel_size_m=grid.pixel_size_m)
                cut = {0.0: on_grid(at, around).load()}
                eaten = recipe.prepare(cut, block.part, moment=moment)
                for name, part in recipe.layers(*eaten).items():
                    whole = layers.setdefault(name, np.empty((grid.height, grid.width), np.float32))
                    whole[block.rows, block.cols] = part
            drawn = {name: (values, recipe.made[name]) for name, values in layers.items()}
            mapped = map_dataset(drawn, grid, title=f"Soil moisture by {self.name}")
            maps.append(with_validity(mapped, [reasons_of(at, grid)]))
        return xr.concat(
            maps, pd.Index(cube["time"], name="time"), data_vars=[*layers, "validity"],
            coords="minimal", compat="override", join="override", combine_attrs="override",
        )  # fmt: skip

    def region_inputs(self, options: Mapping[str, Any]) -> "QuadkeyTiles":
        """How ``maps.predict_region`` maps it; ``options`` are ``area`` of ``area_of``."""
        return QuadkeyTiles(self, options)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all models, their configuration, layers and clusters whole or not at all."""
        first = next(iter(self.checkpoints.values()))
        weights = {f"{k}.{name}": tensor for k, one in self.checkpoints.items()
                   for name, tensor in one.weights.items()}  # fmt: skip
        held = {} if self.clusters is None else {"clusters": self.clusters.plain()}
        about = replace(self._origin, normalisation=self._origin.normalisation | held)
        training.save_checkpoint(path, replace(first, weights=weights, provenance=about))


# ---- regions, by way of cubes --------------------------------------------------------------------


def area_of(data: ExtentTiles, rows: np.ndarray) -> applicability.Area:
    """The area of applicability: the means of each map over the training tiles ``rows``."""
    means = [_means(data.__getitems__([row])["inputs"][0].numpy(), data.channels) for row in rows]
    table = pd.concat(means, ignore_index=True)
    groups = data.tiles["extent"].to_numpy()[rows]
    return applicability.fit(table, predictors=list(table), groups=groups)


def _means(inputs: np.ndarray, channels: Sequence[Any]) -> pd.DataFrame:
    """The mean of what is known of each map (channel, row, col), one row, 0 where nothing is."""
    known = inputs >= 0
    means = np.where(known, inputs, 0).sum((1, 2)) / np.maximum(known.sum((1, 2)), 1)
    return pd.DataFrame([means], columns=[channel.name for channel in channels])


class QuadkeyTiles(RegionInputs):
    """How a DEEPSOIL is mapped: Web-Mercator tiles of 64 pixels, by blocks named by their quadkeys.

    A tile is answered from its own ground, as in training, so that a run that is taken up again, or
    a neighbouring region's, gives the same tile. Blocks of 4 x 4 tiles are read, scaled, predicted
    and kept together: of a tile alone most of the time would go into opening its layers.
    """

    cell_m = 2 * grids.WEB_MERCATOR_EDGE_M / 2**QUADKEY_DIGITS / TILE_PX

    def __init__(self, trained: TrainedDeepSoil, options: Mapping[str, Any]):
        if strange := sorted(set(options) - {"area"}):
            raise UnknownNameError(f"A DEEPSOIL is mapped with area; found {', '.join(strange)}.")
        self.trained, self.applicable = trained, options.get("area")
        self.made: dict[str, Mapping[str, str]] = {"soil_moisture": {}}
        if self.applicable is not None:
            self.made["applicability"] = APPLICABILITY
        self.channels = [c for c in CHANNELS if c.name in trained._origin.inputs]

    def size_m(self, name: str) -> float:
        """The pixel size of the one cube."""
        return self.cell_m

    @property
    def bands(self) -> dict[float, dict[str, list[str]]]:
        """The bands of each source but the target's."""
        wanted = {name: bands for name, bands in SOURCES.items() if not TARGET.startswith(name)}
        every = {n: [b.name for b in sources.get(n).bands] for n in wanted}
        return {self.cell_m: {n: list(bands or every[n]) for n, bands in wanted.items()}}

    @property
    def limits(self) -> dict[str, dict[str, Any]]:
        """Ages as the catalogue says, clouds as in training."""
        return {
            "bounds": {},
            "max_cloud_fraction": {n: v for n, v in MAX_CLOUD.items() if n in self.names},
        }

    @cached_property
    def fingerprint(self) -> bytes:
        """What the maps hang on beside the layers."""
        weights = {f"{k}.{n}": t.numpy() for k, one in self.trained.checkpoints.items()
                   for n, t in one.weights.items()}  # fmt: skip
        return pickle.dumps((weights, self.applicable, self.trained.clusters))

    def reach_m(self, size: float) -> float:
        """How far about the cells a cube is wanted: a tile, where clusters' models are blended."""
        return 0.0 if self.trained.clusters is None else TILE_PX * self.cell_m

    def area(self, region: Any, *, crs: str | None) -> Region:
        """The tiles that the region touches, all of their ground."""
        side_m = TILE_PX * self.cell_m
        rough = cubes.region_of(region, pixel_size_m=side_m, crs=grids.WEB_MERCATOR_CRS)
        sides = TILE_PX * rough.grid.height, TILE_PX * rough.grid.width
        grid = Grid(rough.grid.crs, rough.grid.left_m, rough.grid.top_m, self.cell_m, *sides)
        return QuadkeyRegion(grid, BLOCK_PX, rough.outline, rough.degrees)

    def prepare(
        self, cuts: Mapping[float, xr.Dataset], cells: Grid, *, moment: Any
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """A block's maps (channel, row, col) and shares of clusters (cluster, row, col)."""
        (cut,) = cuts.values()
        dated = [name for name in cut.data_vars if name in DATED]
        one = cut.drop_vars("time", errors="ignore")
        one = one.assign({n: one[n].expand_dims(time=[moment]) for n in dated})
        maps = maps_of(one, channels=self.channels)
        n = round(self.reach_m(0) / self.cell_m)
        rows, cols = slice(n, n + cells.height), slice(n, n + cells.width)
        shares = None if self.trained.clusters is None else self._shares(maps, moment)
        return maps.at(0, rows=rows, cols=cols), None if shares is None else shares[:, rows, cols]

    def _shares(self, maps: Maps, moment: Any) -> np.ndarray:
        """Shares of the clusters (cluster, row, col), between the middles of tiles."""
        clusters: Any = self.trained.clusters
        sides = [n // TILE_PX for n in maps.static.shape[1:]]
        cuts = [slice(k * TILE_PX, (k + 1) * TILE_PX) for k in range(max(sides))]
        rows = [
            features_of_maps(
                replace(maps, static=maps.static[:, y, x], dated=maps.dated[:, :, y, x]),
                self.channels, times=np.array([moment]),
            ) for y in cuts[:sides[0]] for x in cuts[:sides[1]]
        ]  # fmt: skip
        table = pd.DataFrame(rows).reindex(columns=list(clusters.features))
        unknown = table.isna().all(axis=1).to_numpy().reshape(sides)
        if not unknown.all():  # beyond the layers: as the nearest tile that is known
            nearest = distance_transform_edt(unknown, return_distances=False, return_indices=True)
            table = table.iloc[np.ravel_multi_index(tuple(nearest), tuple(sides)).ravel()]
        return np.moveaxis(on_pixels(clusters.shares_of(table).reshape(*sides, -1), TILE_PX), -1, 0)

    def layers(self, maps: np.ndarray, shares: np.ndarray | None) -> dict[str, np.ndarray]:
        """What is made of a block's maps, (row, col) each, tile by tile."""
        tiles, shape = _tiles(maps), np.array(maps.shape[1:]) // TILE_PX
        blend = None if shares is None else np.moveaxis(_tiles(shares), 1, -1)
        fed, mask = torch.from_numpy(tiles), torch.from_numpy(known(tiles))
        moisture = self.trained.moisture(fed, known=mask, shares=blend)
        drawn = moisture.reshape(*shape, TILE_PX, TILE_PX).swapaxes(1, 2).reshape(maps.shape[1:])
        made = {"soil_moisture": drawn}
        if self.applicable is not None:
            means = pd.concat([_means(tile, self.channels) for tile in tiles])
            index = dissimilarity(self.applicable, means).reshape(shape)
            made["applicability"] = np.kron(index, np.ones((TILE_PX, TILE_PX))).astype(np.float32)
        return made

    def answer(self, eaten: Sequence[Any], cells: Grid) -> list[xr.Dataset]:
        """The map of each moment."""
        made = [self.layers(*one) for one in eaten]
        return [map_dataset({n: (v, self.made[n]) for n, v in one.items()}, cells) for one in made]


class QuadkeyRegion(Region):
    """A region of Web-Mercator blocks of 4 x 4 tiles that are called by their quadkeys."""

    @cached_property
    def tiles(self) -> list[Tile]:
        """The blocks that the outline touches, cut at the grid's rim, row by row from the north."""
        grid, edge_m = self.grid, grids.WEB_MERCATOR_EDGE_M
        to_degrees = grids.transformer(grid.crs, "EPSG:4326").transform
        from_corner = edge_m - grid.top_m, edge_m + grid.left_m
        first = [-round(length / grid.pixel_size_m) % BLOCK_PX for length in from_corner]
        tiles = []
        for block in _blocks(grid, first=first):
            left, bottom, right, top = block.part.bounds_m
            longitude, latitude = to_degrees((left + right) / 2, (bottom + top) / 2)
            key = grids.quadkey_at(longitude, latitude, length=COARSE_DIGITS)
            tiles.append(replace(block, name=key))
        return [tile for tile in tiles if self.touched(tile).any()]

    def touched(self, tile: Tile) -> np.ndarray:
        """The pixels of the tiles that the outline touches: the network is fed whole ones."""
        touched = np.zeros((tile.part.height, tile.part.width), dtype=bool)
        for one in Region(tile.part, TILE_PX, self.outline, self.degrees).tiles:
            touched[one.rows, one.cols] = True
        return touched


def _blocks(grid: Grid, *, first: Sequence[int] = (0, 0)) -> Iterator[Tile]:
    """Blocks of a grid, cut at its rim; one of them begins at the row and column ``first``."""
    rows_cols = [
        [slice(max(k, 0), min(k + BLOCK_PX, n)) for k in range(at - BLOCK_PX, n, BLOCK_PX)
         if k + BLOCK_PX > 0] for at, n in zip(first, (grid.height, grid.width), strict=True)
    ]  # fmt: skip
    for rows, cols in product(*rows_cols):
        west_m, north_m = (k.start * grid.pixel_size_m for k in (cols, rows))
        left_m, top_m = grid.left_m + west_m, grid.top_m - north_m
        sides = rows.stop - rows.start, cols.stop - cols.start
        part = Grid(grid.crs, left_m, top_m, grid.pixel_size_m, *sides)
        yield Tile("", rows, cols, part, part)


def _tiles(layers: np.ndarray) -> np.ndarray:
    """Layers of a block (layer, row, col) as its tiles, (tile, layer, row, col)."""
    n, height, width = layers.shape
    split = layers.reshape(n, height // TILE_PX, TILE_PX, width // TILE_PX, TILE_PX)
    return split.transpose(1, 3, 0, 2, 4).reshape(-1, n, TILE_PX, TILE_PX)

"""Patches of a cube, a model trained on stations and a coarse analysis at once, its maps."""

import os
import pickle
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from sklearn.linear_model import Ridge
from torch import nn
from torch.utils.data import Dataset, Subset

from soilkit import grids, sources
from soilkit.contracts import Grid
from soilkit.errors import ContractError, UnitError
from soilkit.export import cubes, ten_day_table
from soilkit.export.cubes.regions import Region
from soilkit.models import training
from soilkit.models.composite_unet.unet import (
    CompositeConfig,
    CompositeUNet,
    coarsened,
    composite_loss,
)
from soilkit.models.datasets import (
    CELL_PX,
    StationCube,
    coarse_cells,
    cube_grid,
    make_loader,
    turned,
    whole_cells,
)
from soilkit.models.maps.scene import RegionInputs

SOURCES: dict[str, list[str]] = {
    "smap_l3_ancillary": ["tb_h_corrected", "tb_v_corrected", "vegetation_water_content"],
    "sentinel1": ["VV", "VH", "angle"], "geos5_lst": ["surface_temperature"],
    "soilgrids": ["clay", "bdod"], "modis_land_cover": ["LC_Type1"], "dem": ["elevation"],
    "imerg": ["precipitation"],
}  # fmt: skip  # what the paper lists (section 4.1); IMERG is the GPM mission's rain
LAYERS = tuple(f"{source}_{band}" for source, bands in SOURCES.items() for band in bands)
COARSE = "smap_l4_sm_surface"
RADAR = "sentinel1_VV"  # where it is known the last channel is 1
WATER = ("modis_land_cover_LC_Type1", 17)


# ---- patches of a cube ---------------------------------------------------------------------------

KEPT_PATCHES = 256  # of the paper's size about a gigabyte


class Patches(Dataset):
    """Patches of a cube at its moments: images, valid pixels, coarse values and stations.

    A batch holds ``images`` (B, channel, row, col), normalised, 0 where unknown, with the margin;
    of the scored part ``valid`` (B, row, col), ``coarse`` (B, row / 9, col / 9) and, by part of the
    split, ``train`` and ``validation`` (B, row, col), NaN where there is none. Beyond the domain's
    edge images go on as their last pixel, nothing is valid and there are no targets.

    Parameters
    ----------
    cube : of whole cells
    layers : those that are fed; where the radar is among them a mask of it follows
    statistics : {layer: (mean, standard deviation)}
    config : CompositeConfig
    labels : {part: mean moisture by (step, row, col)}
    coarse : layer of the coarse target, "" for none
    """

    def __init__(
        self, cube: xr.Dataset, *, layers: Sequence[str],
        statistics: Mapping[str, Sequence[float]], config: CompositeConfig,
        labels: Mapping[str, pd.Series] | None = None, coarse: str = "",
    ):  # fmt: skip
        self.cube, self.layers, self.config = cube, tuple(layers), config
        self.statistics = statistics
        self.labels = dict(labels or {})
        self.coarse = coarse_cells(cube[coarse].transpose("time", "y", "x")) if coarse else None
        axes = (range(0, cube.sizes[d], config.scored_px) for d in ("y", "x"))
        self.corners = list(product(range(cube.sizes["time"]), *axes))
        self.patch = lru_cache(KEPT_PATCHES)(self.read)

    def __len__(self) -> int:
        return len(self.corners)

    def __getitems__(self, indices: list[int]) -> dict[str, torch.Tensor]:
        """A whole batch."""
        parts = [self.patch(i) for i in indices]
        return {name: torch.stack([part[name] for part in parts]) for name in parts[0]}

    def with_station(self) -> list[int]:
        """The numbers of the patches in which any label lies."""
        side, keys = self.config.scored_px, [k for part in self.labels.values() for k in part.index]
        places = {(t, row - row % side, col - col % side) for t, row, col in keys}
        return [i for i, corner in enumerate(self.corners) if corner in places]

    def read(self, i: int) -> dict[str, torch.Tensor]:
        """A patch from the cube; ``patch`` keeps it."""
        t, top, left = self.corners[i]
        side, margin, n = self.config.scored_px, self.config.margin_px, self.config.patch_px
        sizes = self.cube.sizes["y"], self.cube.sizes["x"]
        rows, cols = (np.arange(at - margin, at - margin + n) for at in (top, left))
        near = {d: np.clip(v, 0, s - 1) for d, v, s in zip("yx", (rows, cols), sizes, strict=True)}
        at = self.cube.isel({"time": t, **near})
        inner = slice(margin, margin + side)
        inside = (rows[inner] < sizes[0])[:, None] & (cols[inner] < sizes[1])
        inside = inside & _land(at)[inner, inner]
        patch = {"images": _images(at, self.layers, statistics=self.statistics), "valid": inside}
        if self.coarse is not None:
            held, cells = np.full(2 * [side // CELL_PX], np.nan), side // CELL_PX
            r, c = top // CELL_PX, left // CELL_PX
            some = self.coarse[t, r : r + cells, c : c + cells]
            held[: some.shape[0], : some.shape[1]] = some
            patch["coarse"] = held
        for name, series in self.labels.items():
            patch[name] = _drawn(series, (t, top, left), side)
        return {k: torch.from_numpy(np.asarray(v, np.float32)) for k, v in patch.items()}


def _images(
    at: xr.Dataset, layers: Sequence[str], *, statistics: Mapping[str, Sequence[float]]
) -> np.ndarray:
    """What the model sees of a cube at one moment, (channel, row, col), 0 where unknown."""
    known = np.stack([at[name].to_numpy() for name in layers]).astype(np.float32)
    mean, std = np.transpose([statistics[n] for n in layers])[..., None, None]
    images = np.nan_to_num((known - mean) / std)
    if RADAR not in layers:
        return images
    return np.concatenate([images, np.isfinite(known[[layers.index(RADAR)]])])


def _land(at: xr.Dataset) -> np.ndarray:
    """Which pixels are no water, (row, col), as far as a land cover tells."""
    layer, water = WATER
    if layer not in at:
        return np.ones((at.sizes["y"], at.sizes["x"]), bool)
    return at[layer].to_numpy() != water


def _drawn(series: pd.Series, corner: tuple[int, int, int], side: int) -> np.ndarray:
    """Values by (step, row, col) in a patch, (row, col), NaN where there is none."""
    step, row, col = (series.index.get_level_values(k).to_numpy(int) for k in range(3))
    rows, cols = row - corner[1], col - corner[2]
    here = (step == corner[0]) & (rows >= 0) & (rows < side) & (cols >= 0) & (cols < side)
    drawn = np.full((side, side), np.nan)
    drawn[rows[here], cols[here]] = series.to_numpy()[here]
    return drawn


# ---- the system ----------------------------------------------------------------------------------

TRAIN, VALIDATION = "train", "validation"
RIDGE_PENALTY = 10.0  # of normalised channels, in rows


def step_by(alpha: float, norm: str) -> training.Step:
    """The step that ``training.fit`` takes: the composite loss of a batch in float32."""

    def step(model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        fine, coarse = (v.float() for v in model(batch["images"], batch["valid"]))
        targets = batch[TRAIN], batch.get("coarse", torch.full_like(coarse, torch.nan))
        return composite_loss((fine, coarse), targets, alpha=alpha, norm=norm)

    return step


def look(model: Any, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """The model's answer and what was observed at pixels with stations, (n, part), m3 m-3."""
    fine = model(batch["images"], batch["valid"])[0]
    observed = torch.stack([batch[TRAIN], batch[VALIDATION]], dim=-1)
    known = torch.isfinite(observed).any(-1)
    return fine[known][:, None].expand(-1, 2), observed[known]


def look_coarse(model: Any, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """The same of coarse cells (n, 1), where there is no station to choose by."""
    coarse = model(batch["images"], batch["valid"])[1]
    known = torch.isfinite(batch["coarse"] + coarse)
    return coarse[known][:, None], batch["coarse"][known][:, None]


class Curves:
    """The validation score of ``training.fit``; ``rows`` keep both parts' errors (Fig. 2)."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def __call__(self, predicted: np.ndarray, observed: np.ndarray) -> float:
        """RMSE over the last part (n, part) that has a label, m3 m-3."""
        row, rmse = dict[str, float](), np.nan
        for k in range(observed.shape[1]):
            error = (predicted - observed)[:, k]
            error = error[np.isfinite(error)].astype(float)
            if len(error):
                name, rmse = (TRAIN, VALIDATION)[k], float(np.sqrt(np.mean(error**2)))
                row |= {f"{name}_rmse_m3_m3": rmse, f"{name}_ubrmse_m3_m3": float(error.std())}
        self.rows.append(row)
        return rmse


def train(
    data: StationCube,
    split: Any,
    *,
    preset: str = "small",
    seed: int = 0,
    out_dir: str | os.PathLike[str] | None = None,
    name: str = "Composite U-Net",
    layers: Sequence[str] = LAYERS,
    coarse: str = COARSE,
    alpha: float = 1e-3,
    norm: str = "sum",
    over_ridge: bool = False,
    epochs: int = 30,
    batch_size: int = 4,
    progress: bool = True,
    **options: Any,
) -> "TrainedComposite":
    """Train on a cube with stations and keep the weights that validate best.

    Inputs and coarse values are used all over the cube, at the stations of other parts too: both
    are known wherever a map is made. Labels are means over a pixel's sensors of the same part.

    Parameters
    ----------
    data : StationCube, of whole cells
    split : labels (sample,), "train", "validation" or "test"
    preset : "small" or "paper"
    seed : of the weights and the order
    out_dir : the best checkpoint goes to ``checkpoints/composite_unet.pt`` in it
    name : what tables call the model
    layers : what is fed; where the radar is among them a mask of it follows by itself
    coarse : layer of the coarse target, "" for none
    alpha, norm : of ``composite_loss``
    over_ridge : whether the network adds to a ridge of the channels at the training stations
    epochs : passes over all patches
    batch_size : patches
    progress : whether to show a bar
    options : of ``training.Settings``

    Raises
    ------
    ContractError
        For a split of another length, a cube that lacks a layer, is not of whole cells or whose
        coarse layer is shifted, and without any target.
    UnitError
        For labels or coarse values that are no m3 m-3.
    """
    cube, parts = data.cube, _labels(data, np.asarray(split, dtype=str))
    coarse = coarse if alpha > 0 else ""
    _check(cube, [*layers, *([coarse] if coarse else [])])
    if not len(parts[TRAIN]) and not coarse:
        raise ContractError("No station trains and there is no coarse target: nothing to fit.")
    if over_ridge and not len(parts[TRAIN]):
        raise ContractError("No station trains: a ridge has nothing to fit. Leave out over_ridge.")
    if not len(parts[TRAIN]):
        warnings.warn("No station trains: the model learns from the coarse target alone, its bias "
                      "included.", stacklevel=2)  # fmt: skip
    torch.manual_seed(seed)
    labels = parts[TRAIN] if len(parts[TRAIN]) else cube[coarse]
    channels, mean = len(layers) + (RADAR in layers), float(labels.mean())
    model = CompositeUNet.preset(
        preset, channels=channels, mean_label_m3_m3=mean, over_ridge=over_ridge
    )
    statistics = {n: (float(cube[n].mean()), float(cube[n].std()) or 1.0) for n in layers}
    patches = Patches(
        cube, layers=layers, statistics=statistics, config=model.config, labels=parts, coarse=coarse
    )
    with_station = patches.with_station()
    if over_ridge:
        _fit_ridge(model, [patches.patch(i) for i in with_station])
    loaders = training.Loaders(
        make_loader(patches, batch_size=min(batch_size, len(patches)), shuffle_seed=seed),
        make_loader(Subset(patches, with_station or range(len(patches))), batch_size=batch_size),
    )
    a_pass, curves = len(loaders.train), Curves()
    schedule: dict[str, Any] = {"steps": epochs * a_pass, "validate_every": a_pass, "seed": seed}
    schedule |= {"optimizer": "adam", "learning_rate": 3e-3, "weight_decay": 0.01}
    about = {**statistics, "name": name}, str(cube.attrs.get("archive_version", ""))
    provenance = training.Provenance(tuple(layers), *about)
    history = training.fit(
        model, loaders, step_by(alpha, norm), look if with_station else look_coarse,
        settings=training.Settings(**schedule | options), score=curves, progress=progress,
        path=None if out_dir is None else Path(out_dir) / "checkpoints" / "composite_unet.pt",
        provenance=provenance, augment=turned,
    )  # fmt: skip
    checkpoint = training.Checkpoint.best(model, history, provenance=provenance)
    seen = pd.DataFrame(curves.rows, history.index[len(history) - len(curves.rows) :])
    known = pd.Series(np.asarray(split, str), data.samples["sample_id"].astype(str))
    return TrainedComposite(model.eval(), checkpoint, history.join(seen), known)


def _fit_ridge(model: CompositeUNet, patches: Sequence[Mapping[str, torch.Tensor]]) -> None:
    """Give a model the slopes and the level of a ridge at the training stations."""
    first, side = model.config.margin_px, model.config.scored_px
    rows, labels = [], []
    for patch in patches:
        inner = patch["images"][:, first : first + side, first : first + side]
        known = torch.isfinite(patch[TRAIN])
        rows.append(inner[:, known].T)
        labels.append(patch[TRAIN][known])
    line = Ridge(RIDGE_PENALTY).fit(torch.cat(rows).numpy(), torch.cat(labels).numpy())
    with torch.no_grad():
        model.slopes.copy_(torch.from_numpy(line.coef_))
        nn.init.constant_(model.last.bias, float(line.intercept_))  # type: ignore[arg-type]


def _labels(data: StationCube, labels: np.ndarray) -> dict[str, pd.Series]:
    """Mean moisture by (step, row, col) of the parts that are learnt from and chosen by."""
    if len(labels) != (n := len(data.samples)):
        words = "Make it of data.samples, which leaves out what lies beyond the cube."
        raise ContractError(f"The split has {len(labels)} labels for {n} samples. {words}")
    if (top := data.samples["soil_moisture_m3_m3"].max()) > 1:
        raise UnitError(f"Labels reach {top:g}: wanted m3 m-3, 0 to 1. Convert the readings.")
    return {part: data.pixel_means(labels == part) for part in (TRAIN, VALIDATION)}


def _check(cube: xr.Dataset, layers: Sequence[str]) -> None:
    lacks = [name for name in layers if name not in cube]
    if lacks:
        raise ContractError(
            f"The cube lacks {', '.join(lacks)}; it has {', '.join(map(str, cube))}. Build it with "
            "their sources, or leave them out by layers=."
        )
    if dict(whole_cells(cube).sizes) != dict(cube.sizes):
        raise ContractError(
            f"The cube of {cube.sizes['y']} x {cube.sizes['x']} pixels begins or ends within a "
            "cell of 9 km. Cut it first by whole_cells(cube)."
        )


def load(path: str | os.PathLike[str]) -> "TrainedComposite":
    """The model that ``TrainedComposite.save`` wrote; ``CheckpointError`` when it is none."""
    checkpoint = training.load_checkpoint(path)
    return TrainedComposite(CompositeUNet.from_checkpoint(checkpoint), checkpoint)


@dataclass(frozen=True)
class TrainedComposite:
    """A trained model; ``history`` and ``labels`` are known where it was trained."""

    model: CompositeUNet
    checkpoint: training.Checkpoint
    history: pd.DataFrame | None = None
    labels: pd.Series | None = None

    @property
    def name(self) -> str:
        """What tables call the model."""
        return str(self.checkpoint.provenance.normalisation["name"])

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that are fed."""
        return self.checkpoint.provenance.inputs

    @property
    def statistics(self) -> dict[str, Any]:
        """Mean and standard deviation of each layer."""
        return {n: self.checkpoint.provenance.normalisation[n] for n in self.layers}

    def region_inputs(self, options: Mapping[str, Any]) -> "PatchInputs":
        """How ``maps.predict_region`` maps the model."""
        return PatchInputs(self, options)

    def answer(self, images: torch.Tensor) -> np.ndarray:
        """Moisture of the scored part of a patch (channel, row, col), (row, col) m3 m-3."""
        with torch.inference_mode():
            return self.model(images[None])[0][0].numpy()

    def scales(self, fine: np.ndarray, land: np.ndarray) -> dict[str, Any]:
        """A map at 1 km, and its D drawn on the same pixels, with attributes."""
        valid = torch.from_numpy(land & np.isfinite(fine))[None]
        wide = coarsened(torch.from_numpy(np.nan_to_num(fine))[None], valid)[0].numpy()
        wide = wide.repeat(CELL_PX, axis=0).repeat(CELL_PX, axis=1)
        of_cell = {"long_name": "soil moisture, means over 9 km", "units": "m3 m-3"}
        return {"soil_moisture": (fine, {}), "soil_moisture_9km": (wide, of_cell)}

    def predict(self, data: StationCube, split: Any = None) -> pd.DataFrame:
        """A predictions table of the samples of a cube, at their 1 km pixels.

        ``split`` (sample,) are labels; None takes those of the training, else "unknown".
        """
        if split is None:
            known = pd.Series(dtype=str) if self.labels is None else self.labels
            split = known.reindex(data.samples["sample_id"].astype(str)).fillna("unknown")
        predicted = np.full(len(data.samples), np.nan)
        for t in np.unique(data.places[:, 0]):
            rows = data.places[:, 0] == t
            _, row, col = data.places[rows].T
            predicted[rows] = self._moment(data.cube.isel(time=[t]))[row, col]
        return ten_day_table.predictions_table(
            data.samples.astype({"soil_moisture_m3_m3": float}), data.stations,
            predicted=predicted, model=self.name, split=np.asarray(split, str),
        )  # fmt: skip

    def map(self, cube: xr.Dataset) -> xr.Dataset:
        """Soil moisture of a cube of whole cells, (time, y, x), m3 m-3, one moment at a time.

        ``soil_moisture`` at 1 km, ``soil_moisture_9km``, its D drawn on the same pixels, and
        ``validity`` as of other maps. Raises ``ContractError`` for a cube that lacks a layer or is
        not of whole cells.
        """
        from soilkit.models.maps.validity import reasons_of, with_validity
        from soilkit.models.maps.windows import map_dataset

        _check(cube, self.layers)
        grid, maps = cube_grid(cube), []
        for t in range(cube.sizes["time"]):
            at = cube.isel(time=[t])
            fine, flat = self._moment(at), at.isel(time=0).drop_vars(["spatial_ref", "time"],
                                                                     errors="ignore")  # fmt: skip
            mapped = map_dataset(
                self.scales(fine, _land(flat)), grid, title=f"Soil moisture by {self.name}"
            )
            maps.append(with_validity(mapped, [reasons_of(flat, grid)]))
        layers = ["soil_moisture", "soil_moisture_9km", "validity"]
        whole = xr.concat(
            maps, pd.Index(cube["time"], name="time"), data_vars=layers,
            coords="minimal", compat="override", join="override", combine_attrs="override",
        )  # fmt: skip
        return whole.assign_attrs({k: cube.attrs[k] for k in ("comment",) if k in cube.attrs})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights, configuration, layers and normalisation whole or not at all."""
        training.save_checkpoint(path, self.checkpoint)

    def _moment(self, cube: xr.Dataset) -> np.ndarray:
        """Moisture at 1 km of a cube of one moment, (row, col), NaN without any dated layer."""
        patches = Patches(
            cube, layers=self.layers, statistics=self.statistics, config=self.model.config
        )
        side = self.model.config.scored_px
        sizes = cube.sizes["y"], cube.sizes["x"]
        fine = np.empty([-(-n // side) * side for n in sizes], np.float32)
        for i, (_, top, left) in enumerate(patches.corners):
            images = patches.read(i)["images"]
            fine[top : top + side, left : left + side] = self.answer(images)
        known = _known(cube.isel(time=0), self.layers)
        return np.where(known, fine[: sizes[0], : sizes[1]], np.float32("nan"))


def _known(at: xr.Dataset, layers: Sequence[str]) -> np.ndarray:
    """Where any dated layer has a value, (row, col)."""
    static = tuple(f"{row.name}_" for row in sources.CATALOGUE if row.is_static)
    dated = [name for name in layers if not name.startswith(static)]
    return np.any([np.isfinite(at[name].to_numpy()) for name in dated], axis=0)


# ---- any region ----------------------------------------------------------------------------------

KM = grids.EASE2_PIXEL_SIZE_M[1]


class PatchInputs(RegionInputs):
    """How ``maps.predict_region`` maps the model: patches of whole cells of the EASE-Grid 2.0.

    A tile is one patch, whose margin is real ground; D is that of the patch, as in training.
    """

    cell_m, anchor = 1000.0, "smap_l3_ancillary"

    def __init__(self, trained: TrainedComposite, options: Mapping[str, Any]):
        if options:
            raise ContractError(
                f"A map of the composite U-Net has no option {', '.join(options)}. Leave it out."
            )
        self.trained, self.config = trained, trained.model.config

    @property
    def bands(self) -> dict[float, dict[str, list[str]]]:
        """The bands of each source, all on pixels of 1 km."""
        layers = self.trained.layers
        of = {row.name: [b.name for b in row.bands if f"{row.name}_{b.name}" in layers]
              for row in sources.CATALOGUE}  # fmt: skip
        return {self.cell_m: {name: bands for name, bands in of.items() if bands}}

    def size_m(self, name: str) -> float:
        """Masks lie on the same pixels."""
        return self.cell_m

    @property
    def fingerprint(self) -> bytes:
        """Weights and normalisation."""
        weights = {n: t.cpu().numpy() for n, t in self.trained.checkpoint.weights.items()}
        return pickle.dumps((weights, self.trained.statistics, self.trained.model.configuration))

    def reach_m(self, size: float) -> float:
        """The margin."""
        return self.config.margin_px * KM

    def area(self, region: Any, *, crs: str | None) -> Region:
        """Whole cells of 9 km that the region touches, in tiles of a patch.

        Raises ``ContractError`` for another CRS than the EASE-Grid's.
        """
        if crs not in (None, grids.EASE2_CRS):
            raise ContractError(
                f"The model knows the 1 km EASE-Grid 2.0, {grids.EASE2_CRS}, and not {crs}. Leave "
                "crs out of cube_options."
            )
        wide = cubes.region_of(region, pixel_size_m=CELL_PX * self.cell_m, crs=grids.EASE2_CRS)
        height, width = (n * CELL_PX for n in (wide.grid.height, wide.grid.width))
        grid = Grid(wide.grid.crs, wide.grid.left_m, wide.grid.top_m, KM, height, width)
        return replace(wide, grid=grid, tile_px=self.config.scored_px)

    def prepare(self, cuts: Mapping[float, Any], cells: Grid, *, moment: Any) -> Any:
        """What the model sees of a tile and its margin, its land, and where anything is known."""
        at, n = cuts[self.cell_m], self.config.patch_px
        images = _images(at, self.trained.layers, statistics=self.trained.statistics)
        short = [(0, n - side) for side in images.shape[1:]]
        images = np.pad(images, [(0, 0), *short], mode="edge")  # as beyond a cube's last pixel
        first = self.config.margin_px
        inner = slice(first, first + cells.height), slice(first, first + cells.width)
        known = _known(at, self.trained.layers)
        return torch.from_numpy(images.astype(np.float32)), _land(at)[inner], known[inner]

    def answer(self, eaten: Sequence[Any], cells: Grid) -> list[Any]:
        """The tile at each moment."""
        from soilkit.models.maps.windows import map_dataset

        maps = []
        for images, land, known in eaten:
            fine = self.trained.answer(images)[: cells.height, : cells.width]
            fine = np.where(known, fine, np.float32("nan"))
            maps.append(map_dataset(self.trained.scales(fine, land), cells))
        return maps

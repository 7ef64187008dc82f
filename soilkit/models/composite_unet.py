"""Seed 002: a small U-Net of 1 km inputs that obeys stations and a coarse analysis at once."""

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import nn
from torch.nn import functional
from torch.utils.data import Dataset, Subset

from soilkit.errors import ContractError, UnitError, UnknownNameError
from soilkit.export import ten_day_table
from soilkit.models import training
from soilkit.models.datasets import (
    CELL_PX,
    StationCube,
    coarse_cells,
    cube_grid,
    make_loader,
    turned,
    whole_cells,
)

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
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"widths": (8, 8, 16, 24, 24), "scored_px": 252, "margin_px": 2},
    "small": {"widths": (8, 8, 16, 16), "scored_px": 72, "margin_px": 8},
}


# ---- the network ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class CompositeConfig:
    """What a model eats and its size.

    ``widths`` of its levels, each half as fine as the last. Patches are ``scored_px`` [1 km] on a
    side, whole cells of 9 km, and a margin all round that is seen and not scored.
    """

    channels: int = 13
    widths: tuple[int, ...] = PRESETS["paper"]["widths"]
    scored_px: int = 252
    margin_px: int = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))
        step = 2 ** (len(self.widths) - 1)
        if self.scored_px % CELL_PX or self.patch_px % step:
            raise ContractError(
                f"Patches of {self.scored_px} and twice {self.margin_px} pixels: the scored part "
                f"should be a multiple of {CELL_PX}, the whole one of {step}, as 252 and 2, or 72 "
                "and 4."
            )

    @property
    def patch_px(self) -> int:
        """Pixels on a side of what the model sees."""
        return self.scored_px + 2 * self.margin_px


LEAK = 0.1  # the paper names no activation; of eight plain ReLUs at 1 km all may die in some steps


class Join(nn.Module):
    """Channels of the coarser level beside those that were kept, (B, channel, row, col)."""

    def forward(self, deep: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """Both in one tensor."""
        return torch.cat([deep, kept], dim=1)


def _pair(channels: int, width: int) -> nn.Sequential:
    convolutions = (nn.Conv2d(n, width, 3, padding=1) for n in (channels, width))
    return nn.Sequential(*(part for one in convolutions for part in (one, nn.LeakyReLU(LEAK))))


class CompositeUNet(nn.Module):
    """Soil moisture at 1 km and its low-passed means at 9 km, from thirteen channels [1]_.

    Levels of two 3 x 3 convolutions, maxima over 2 x 2 between them; on the way up bilinear
    enlargement, what the level kept, two convolutions; a 1 x 1 convolution at the end. The paper
    gives 31 layers and 53,000 parameters and speaks of 3-D convolutions "over modalities", without
    widths. With widths 8, 8, 16, 24, 24 and all channels of a place mixed by each convolution,
    layers (convolutions, pools, enlargements, joins) are 31 and parameters 53,057. The output is
    not bounded.

    Parameters
    ----------
    config : CompositeConfig
    mean_label_m3_m3 : float, m3 m-3, the output before any training

    References
    ----------
    .. [1] Tsagkatakis, Moghaddam and Tsakalides, Soil moisture retrieval using in situ and data
       simulation regularized deep learning models, section 3

    Examples
    --------
    >>> model = CompositeUNet.preset("paper", channels=13)
    >>> model.n_layers, sum(p.numel() for p in model.parameters())
    (31, 53057)
    >>> fine, coarse = model(torch.zeros(1, 13, 256, 256))
    >>> tuple(fine.shape), tuple(coarse.shape)
    ((1, 252, 252), (1, 28, 28))
    """

    def __init__(self, config: CompositeConfig, *, mean_label_m3_m3: float = 0.2):
        super().__init__()
        self.config, widths = config, config.widths
        self.down = nn.ModuleList(_pair(*pair) for pair in pairwise((config.channels, *widths)))
        self.pools = nn.ModuleList(nn.MaxPool2d(2) for _ in widths[1:])
        enlarge = partial(nn.Upsample, scale_factor=2, mode="bilinear", align_corners=False)
        self.enlarge = nn.ModuleList(enlarge() for _ in widths[1:])
        self.joins = nn.ModuleList(Join() for _ in widths[1:])
        deep_to_fine = [*pairwise(widths[::-1])]
        self.up = nn.ModuleList(_pair(deep + kept, kept) for deep, kept in deep_to_fine)
        self.last = nn.Conv2d(widths[0], 1, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, a=LEAK)
        nn.init.normal_(self.last.weight, std=0.01)
        nn.init.constant_(self.last.bias, mean_label_m3_m3)  # type: ignore[arg-type]

    @classmethod
    def preset(
        cls, name: str, *, channels: int = 13, mean_label_m3_m3: float = 0.2
    ) -> "CompositeUNet":
        """A model of the size ``name``; ``UnknownNameError`` for one that does not exist."""
        if name not in PRESETS:
            raise UnknownNameError(f"No preset {name!r}; there are {', '.join(PRESETS)}. Name one.")
        config = CompositeConfig(channels, **PRESETS[name])
        return cls(config, mean_label_m3_m3=mean_label_m3_m3)

    @classmethod
    def from_checkpoint(cls, checkpoint: training.Checkpoint) -> "CompositeUNet":
        """The model that ``training.load_checkpoint`` read, in evaluation mode.

        Raises ``CheckpointError`` when it holds another system's configuration or weights.
        """
        return checkpoint.rebuild(
            lambda values: cls(CompositeConfig(**values)), system="CompositeUNet"
        )

    @property
    def configuration(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return asdict(self.config)

    @property
    def n_layers(self) -> int:
        """Convolutions, pools, enlargements and joins."""
        kinds = (nn.Conv2d, nn.MaxPool2d, nn.Upsample, Join)
        return sum(isinstance(layer, kinds) for layer in self.modules())

    def forward(
        self, images: torch.Tensor, valid: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Moisture at 1 km (B, row, col) and at 9 km (B, row / 9, col / 9), m3 m-3.

        Parameters
        ----------
        images : tensor (B, channel, row, col), normalised, the margin all round
        valid : tensor (B, row, col) of the scored part: pixels that the means at 9 km are over
        """
        kept, deep = [], images
        for i, level in enumerate(self.down):
            deep = level(self.pools[i - 1](deep) if i else deep)
            kept.append(deep)
        levels = zip(self.enlarge, self.joins, self.up, kept[-2::-1], strict=True)
        for enlarge, join, level, skip in levels:
            deep = level(join(enlarge(deep), skip))
        margin = self.config.margin_px
        height, width = deep.shape[-2:]
        fine = self.last(deep)[:, 0, margin : height - margin, margin : width - margin]
        return fine, coarsened(fine, valid)


# ---- D, from 1 km to 9 km ------------------------------------------------------------------------

LOW_PASS_PX = 2.0  # standard deviation of the Gaussian; the paper gives none


def coarsened(fine: torch.Tensor, valid: torch.Tensor | None = None) -> torch.Tensor:
    """D: a Gaussian low-pass, then means over 9 x 9 pixels, both over valid pixels only.

    ``fine`` and ``valid`` (0 or 1; None takes all) are (B, row, col), multiples of nine. D is
    linear; a constant stays; with all pixels valid the mean stays too, because beyond the edge the
    image goes on as its mirror. A cell without a valid pixel is NaN.
    """
    weight = torch.ones_like(fine) if valid is None else valid.to(fine.dtype)
    spread = _low_pass(weight)
    smooth = _low_pass(fine * weight) / torch.where(spread > 0, spread, 1.0)
    total, n = (functional.avg_pool2d(v[:, None], CELL_PX)[:, 0] for v in (smooth * weight, weight))
    return torch.where(n > 0, total / torch.where(n > 0, n, 1.0), torch.nan)


def _low_pass(values: torch.Tensor) -> torch.Tensor:
    reach = min(round(3 * LOW_PASS_PX), *values.shape[-2:])
    at = torch.arange(-reach, reach + 1, dtype=values.dtype, device=values.device)
    kernel = torch.exp(-0.5 * (at / LOW_PASS_PX) ** 2)
    kernel = kernel / kernel.sum()
    for axis in (-2, -1):
        n = values.shape[axis]
        first, last = values.narrow(axis, 0, reach), values.narrow(axis, n - reach, reach)
        padded = torch.cat([first.flip(axis), values, last.flip(axis)], dim=axis)[:, None]
        shape = (1, 1, -1, 1) if axis == -2 else (1, 1, 1, -1)
        values = functional.conv2d(padded, kernel.reshape(shape))[:, 0]
    return values


# ---- the composite loss --------------------------------------------------------------------------

TINY = 1e-4  # m3 m-3: rounds off the root's tip, where it has no slope


NORMS: dict[str, Callable[..., torch.Tensor]] = {  # of a patch's squares, and of their number
    "sum": lambda squares, n: squares,
    "mean": lambda squares, n: squares / n.clamp(min=1),
    "root": lambda squares, n: squares / ((squares + TINY**2).sqrt() + TINY),
}


def composite_loss(
    answers: tuple[torch.Tensor, torch.Tensor],
    targets: tuple[torch.Tensor, torch.Tensor],
    *,
    alpha: float = 1e-3,
    norm: str = "sum",
) -> torch.Tensor:
    """L = L1 + alpha L2, the mean over a batch's patches [1]_.

    L1 = ||P(Y) - P(S)||^2 over pixels with stations, L2 = ||Z - D(Y)||^2 over coarse cells, each on
    its own grid. The paper's equations 1 and 2 can be read in three ways:

    - "sum", as they stand: squares are summed. A patch of 784 cells and two stations then gives the
      cells, at alpha = 1e-3, 0.4 of the stations' weight; the more stations, the less.
    - "mean": mean squared errors, as libraries compute them. At alpha = 1e-3 the cells, whatever
      their number, have a thousandth of the stations' weight, next to none.
    - "root": norms without their squares. The gradient of each part does not shrink with its error,
      and cells weigh as the root of their number: 0.028 times their root mean square error.

    The loss of a patch hangs on this patch alone, so it does not matter how a batch is split. A
    pixel without station and a cell without coarse value contribute nothing; a patch without
    station has L1 = 0.

    Parameters
    ----------
    answers : of the model: tensors (B, row, col) and (B, row / 9, col / 9), m3 m-3
    targets : stations and coarse values of the same shapes, NaN where there are none
    alpha : weight of the coarse cells
    norm : "sum", "mean" or "root"

    References
    ----------
    .. [1] Tsagkatakis, Moghaddam and Tsakalides, equations 1 to 3
    """
    if norm not in NORMS:
        raise UnknownNameError(f"No norm {norm!r}; there are {', '.join(NORMS)}. Name one.")
    parts = []
    for answer, target in zip(answers, targets, strict=True):
        known = torch.isfinite(target) & torch.isfinite(answer)
        error = torch.where(known, answer, 0.0) - torch.where(known, target, 0.0)
        parts.append(NORMS[norm]((error**2).flatten(1).sum(1), known.flatten(1).sum(1)))
    return (parts[0] + alpha * parts[1]).mean()


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
        self.mean, self.std = np.transpose([statistics[n] for n in layers])[..., None, None]
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
        known = np.stack([at[name].to_numpy() for name in self.layers]).astype(np.float32)
        images = np.nan_to_num((known - self.mean) / self.std)
        if RADAR in self.layers:
            seen = np.isfinite(known[self.layers.index(RADAR)])
            images = np.concatenate([images, seen[None]])
        inner = slice(margin, margin + side)
        inside = (rows[inner] < sizes[0])[:, None] & (cols[inner] < sizes[1])
        inside = inside & _land(at)[inner, inner]
        patch = {"images": images, "valid": inside}
        if self.coarse is not None:
            held, cells = np.full(2 * [side // CELL_PX], np.nan), side // CELL_PX
            r, c = top // CELL_PX, left // CELL_PX
            some = self.coarse[t, r : r + cells, c : c + cells]
            held[: some.shape[0], : some.shape[1]] = some
            patch["coarse"] = held
        for name, series in self.labels.items():
            patch[name] = _drawn(series, (t, top, left), side)
        return {k: torch.from_numpy(np.asarray(v, np.float32)) for k, v in patch.items()}


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
    if not len(parts[TRAIN]):
        warnings.warn("No station trains: the model learns from the coarse target alone, its bias "
                      "included.", stacklevel=2)  # fmt: skip
    torch.manual_seed(seed)
    labels = parts[TRAIN] if len(parts[TRAIN]) else cube[coarse]
    channels, mean = len(layers) + (RADAR in layers), float(labels.mean())
    model = CompositeUNet.preset(preset, channels=channels, mean_label_m3_m3=mean)
    statistics = {n: (float(cube[n].mean()), float(cube[n].std()) or 1.0) for n in layers}
    patches = Patches(
        cube, layers=layers, statistics=statistics, config=model.config, labels=parts, coarse=coarse
    )
    with_station = patches.with_station()
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
            fine = self._moment(at)
            land = torch.from_numpy(_land(at.isel(time=0)))[None].float()
            wide = coarsened(torch.from_numpy(fine)[None], land)[0].numpy()
            wide = wide.repeat(CELL_PX, axis=0).repeat(CELL_PX, axis=1)
            of_cell = {"long_name": "soil moisture, means over 9 km", "units": "m3 m-3"}
            layers = {"soil_moisture": (fine, {}), "soil_moisture_9km": (wide, of_cell)}
            flat = at.isel(time=0).drop_vars(["spatial_ref", "time"], errors="ignore")
            mapped = map_dataset(layers, grid, title=f"Soil moisture by {self.name}")
            maps.append(with_validity(mapped, [reasons_of(flat, grid)]))
        whole = xr.concat(
            maps, pd.Index(cube["time"], name="time"), data_vars=[*layers, "validity"],
            coords="minimal", compat="override", join="override", combine_attrs="override",
        )  # fmt: skip
        return whole.assign_attrs({k: cube.attrs[k] for k in ("comment",) if k in cube.attrs})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights, configuration, layers and normalisation whole or not at all."""
        training.save_checkpoint(path, self.checkpoint)

    def _moment(self, cube: xr.Dataset) -> np.ndarray:
        """Moisture at 1 km of a cube of one moment, (row, col), NaN without any dated layer."""
        statistics = {n: self.checkpoint.provenance.normalisation[n] for n in self.layers}
        patches = Patches(cube, layers=self.layers, statistics=statistics, config=self.model.config)
        side = self.model.config.scored_px
        sizes = cube.sizes["y"], cube.sizes["x"]
        fine = np.empty([-(-n // side) * side for n in sizes], np.float32)
        with torch.inference_mode():
            for i, (_, top, left) in enumerate(patches.corners):
                answer, _ = self.model(patches.read(i)["images"][None])
                fine[top : top + side, left : left + side] = answer[0].numpy()
        dated = [n for n in self.layers if "time" in cube[n].dims]
        known = np.any([np.isfinite(cube[n].to_numpy()[0]) for n in dated], axis=0)
        return np.where(known, fine[: sizes[0], : sizes[1]], np.float32("nan"))

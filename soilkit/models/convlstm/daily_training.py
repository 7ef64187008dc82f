"""Training of the system: sequences of patches, two teachers, and the area that they cover."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import xarray as xr

from soilkit.errors import ContractError
from soilkit.metrics.evaluation import applicability
from soilkit.models import training
from soilkit.models.convlstm.daily_moisture import (
    DEPTHS,
    Scale,
    TrainedConvLSTM,
    _daily,
    _images,
    _seen_by_smap,
    predictors,
    teachers_of,
)
from soilkit.models.convlstm.gap_filter import ContinuousFilter, train_filter
from soilkit.models.convlstm.recurrent import ConvLSTM, ConvLSTMConfig, TeacherLoss

CARRIED_DAYS, CARRIED_SCORED = 30, 20  # of a training sequence without a look-back: the last count
AREA_ROWS, AREA_DAYS = 5_000, 10  # cells' days that an area is made of; days that go together


class _Patches:
    """Batches of sequences of patches: ``days``, ``level`` and ``timing`` of the days that count.

    A sequence with ``labelled`` days that count is taken where a teacher of the level knows a cell
    on one of them; others are counted. ``generator`` shuffles them, where there is one.
    """

    def __init__(
        self, images: np.ndarray, teachers: Mapping[str, np.ndarray], *, labelled: np.ndarray,
        config: ConvLSTMConfig, patch_px: int, batch_size: int, shuffles: bool = False,
    ):  # fmt: skip
        self.images, self.teachers, self.batch_size = images, teachers, batch_size
        self.length = config.lookback_days or min(CARRIED_DAYS, len(images))
        self.n_scored = 1 if config.lookback_days else min(CARRIED_SCORED, self.length)
        if shuffles:
            self.generator = torch.Generator()
        sides = [min(patch_px, side) for side in images.shape[2:]]
        corners = [_starts(n, side) for n, side in zip(images.shape[2:], sides, strict=True)]
        self.sides, self.places, self.n_empty = sides, [], 0
        stride = 1 if config.lookback_days else self.n_scored
        last = len(images) - 1
        for day in sorted({*range(self.length - 1, last, stride), last}):
            for row, col in ((r, c) for r in corners[0] for c in corners[1]):
                if not self._cut(labelled, day, row, col).any():
                    continue
                if np.isfinite(self._cut(teachers["level"], day, row, col)).any():
                    self.places.append((day, row, col))
                else:
                    self.n_empty += 1

    def _cut(self, values, day, row, col, *, n_days=None):
        first = day + 1 - (n_days or self.n_scored)
        return values[first : day + 1, ..., row : row + self.sides[0], col : col + self.sides[1]]

    def __len__(self) -> int:
        return -(-len(self.places) // self.batch_size)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        order = np.arange(len(self.places))
        if hasattr(self, "generator"):
            order = torch.randperm(len(order), generator=self.generator).numpy()
        for first in range(0, len(order), self.batch_size):
            some = [self.places[k] for k in order[first : first + self.batch_size]]
            batch = {"days": [self._cut(self.images, *p, n_days=self.length) for p in some]}
            batch |= {n: [self._cut(v, *p) for p in some] for n, v in self.teachers.items()}
            yield {name: torch.from_numpy(np.stack(part)) for name, part in batch.items()}


def _starts(n: int, side: int) -> list[int]:
    """Where patches of a side begin so that they cover n cells; the last may overlap."""
    return sorted({*range(0, n - side + 1, side), n - side})


def look(model: Any, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Moisture of the days that count, (B, day, row, col), and both teachers' (B, day, 2, ...)."""
    both = torch.stack([batch["level"], batch["timing"]], dim=2)
    return model(batch["days"])[:, -batch["level"].shape[1] :], both


def step_by(loss: TeacherLoss) -> training.Step:
    """The step that ``training.fit`` takes."""

    def step(model, batch):
        predicted, both = look(model, batch)
        return loss(predicted, both[:, :, 0], timing=both[:, :, 1])

    return step


def train(
    data: xr.Dataset,
    split: Any,
    *,
    preset: str = "small",
    seed: int = 0,
    out_dir: str | os.PathLike[str] | None = None,
    depth: str = "surface",
    scenario: int = 2,
    loss: TeacherLoss | None = None,
    epochs: int = 6,
    batch_size: int = 16,
    patch_px: int = 16,
    gaps: ContinuousFilter | None = None,
    progress: bool = True,
    **options: Any,
) -> TrainedConvLSTM:
    """Train on a cube's training days and cells, and keep the weights that validate best.

    Gaps of what SMAP sees are filled by a filter that learns on the training part first. A run with
    an ``out_dir`` that was interrupted goes on there.

    Parameters
    ----------
    data : cube of ``cubes.build`` with ``sources_of`` the depth; days that lack are counted
    split : labels "train", "validation" or "test", of days (time,) or of cells (y, x)
    preset : "small" or "paper"
    out_dir : the best checkpoint goes to ``checkpoints/<depth>_<scenario>.pt`` in it
    depth : "surface" or "subsurface"
    scenario : of the paper's Table 2; ``predictors`` says what each eats
    loss : the surface's beta is 1, the subsurface's 0, unless one is given
    epochs : passes over the training sequences
    patch_px : side of the patches, cells
    gaps : the filter of a model of the same split, to spare its training
    options : ``activation``, ``peepholes``, ``lookback_days``, ``causal`` of ``ConvLSTMConfig``,
        ``names`` of other predictors, and fields of ``training.Settings``

    Raises
    ------
    ContractError, UnitError, ParameterError
        For a cube that lacks layers, teachers or days in order.
    """
    names = tuple(options.pop("names", None) or predictors(depth, scenario))
    loss = loss or TeacherLoss(beta=DEPTHS[depth].beta)
    config = ConvLSTMConfig(len(names), preset, target=DEPTHS[depth].level)
    chosen = {k: options.pop(k) for k in tuple(options) if k in vars(config)}
    config = replace(config, **chosen)
    learn = gaps or partial(train_filter, seed=seed)
    ready = _prepare(data, split, names=names, config=config, depth=depth, gaps=learn)
    parts = {
        part: _Patches(
            ready.images, ready.teachers[part], labelled=ready.labels == part, config=config,
            patch_px=patch_px, batch_size=batch_size, shuffles=part == "train",
        ) for part in ("train", "validation")
    }  # fmt: skip
    for part, patches in parts.items():
        if not patches.places:
            raise ContractError(
                f"No sequence of {patches.length} days of the part {part!r} has a target on its "
                "last day. Label more days so, or bring the teacher's."
            )
    torch.manual_seed(seed)
    mean = float(np.nanmean(ready.teachers["train"]["level"]))
    model = ConvLSTM(config, mean_label_m3_m3=mean)
    n_steps = len(parts["train"])
    settings: dict[str, Any] = {
        "optimizer": "adam", "learning_rate": 0.005, "weight_decay": 0.0, "seed": seed,
        "steps": epochs * n_steps, "validate_every": n_steps, "max_gradient_norm": 1.0,
    }  # fmt: skip
    provenance = training.Provenance(names, ready.normalisation, _hash_of(data))
    folder = None if out_dir is None else Path(out_dir) / "checkpoints"
    history = training.fit(
        model, training.Loaders(parts["train"], parts["validation"]), step_by(loss), look,
        settings=training.Settings(**settings | options), provenance=provenance,
        path=None if folder is None else folder / f"{depth}_{scenario}.pt", progress=progress,
        score=lambda p, o: float(step_by(loss)(lambda _: torch.as_tensor(p), _as_batch(o))),
    )  # fmt: skip
    kept = training.Checkpoint.best(model, history, provenance=provenance)
    counts = ready.counts | {f"empty patches, {n}": p.n_empty for n, p in parts.items()}
    return TrainedConvLSTM(model.eval(), ready.filter, kept, history, pd.Series(counts))


def _as_batch(both: np.ndarray) -> dict[str, torch.Tensor]:
    level, timing = (torch.as_tensor(both[:, :, k]) for k in (0, 1))
    return {"days": level, "level": level, "timing": timing}


class _Ready(NamedTuple):
    images: np.ndarray  # (time, channel, row, col), normalised, without NaN
    labels: np.ndarray  # (time, row, col)
    teachers: dict[str, dict[str, np.ndarray]]  # by part: level and timing (time, row, col)
    filter: ContinuousFilter
    normalisation: dict[str, Any]
    counts: dict[str, int]


def _prepare(
    data: xr.Dataset, split: Any, *, names: tuple[str, ...], config: ConvLSTMConfig, depth: str,
    gaps: ContinuousFilter | Callable[..., ContinuousFilter],
) -> _Ready:  # fmt: skip
    """What is trained on: a cube's images without gaps, and its teachers by part."""
    layers = dict.fromkeys([*names, *DEPTHS[depth][:2]])
    cube, n_lacking = _daily(data, list(layers))
    shape = tuple(cube.sizes[d] for d in ("time", "y", "x"))
    labels = _labels(split, data, cube)
    level, timing = teachers_of(cube, depth)
    images = _images(cube, names)
    labels = np.broadcast_to(labels, shape)
    learns = labels == "train"
    scale = Scale.of(images, names, learns=learns)
    images = scale(images)
    dated = _seen_by_smap(names)
    series = images[:, dated].transpose(2, 3, 0, 1).reshape(-1, shape[0], len(dated))
    rows = learns.any(axis=0).ravel(), learns.any(axis=(1, 2))
    model = gaps
    if not isinstance(model, ContinuousFilter):
        model = model(series[rows[0]][:, rows[1]], cube["time"].values[rows[1]])
    n_gaps = int(np.isnan(series).any(axis=2).sum())
    filled = model.fill(series, cube["time"].values, causal=config.causal)
    images[:, dated] = filled.reshape(*shape[1:], shape[0], -1).transpose(2, 3, 0, 1)
    counts = {"days that lacked": n_lacking, "cell days with a gap": n_gaps}
    counts["cell days without another layer"] = int(np.isnan(images).any(axis=1).sum())
    np.nan_to_num(images, copy=False)  # of other layers: the training mean
    parts = {
        part: {"level": np.where(labels == part, level, np.nan).astype(np.float32),
               "timing": np.where(labels == part, timing, np.nan).astype(np.float32)}
        for part in ("train", "validation")
    }  # fmt: skip
    numbers = {n: [float(m), float(s)] for n, m, s in zip(*scale, strict=True)}
    return _Ready(images, labels, parts, model, numbers, counts)


def _labels(split: Any, data: xr.Dataset, cube: xr.Dataset) -> np.ndarray:
    """Labels that broadcast to (time, y, x); days that lacked have none."""
    labels = np.asarray(split, dtype=str)
    if labels.shape == (data.sizes["time"],):
        of_day = pd.Series(labels, index=data["time"].values).reindex(cube["time"].values)
        return of_day.fillna("").to_numpy(str)[:, None, None]
    if labels.shape == (cube.sizes["y"], cube.sizes["x"]):
        return labels[None]
    raise ContractError(
        f"The split has the shape {labels.shape}; wanted labels of {data.sizes['time']} days or "
        f"of {cube.sizes['y']} x {cube.sizes['x']} cells. Make it of this cube."
    )


def _hash_of(cube: xr.Dataset) -> str:
    words = [cube.attrs.get(k, "") for k in ("archive", "archive_version", "region")]
    words += [str(cube[d].values.tolist()) for d in ("time", "y", "x")]
    return hashlib.sha256(repr(words).encode()).hexdigest()


def training_area(trained: TrainedConvLSTM, data: xr.Dataset, *, split: Any) -> applicability.Area:
    """The area of applicability of a model, for its ``map``, from its training cells and days.

    The predictors are the channels of a cell and day as the network eats them, gaps filled: where
    they differ from those of every training day, or cell, the network extrapolates. The threshold
    holds spans of ten days apart, as later days are.

    Parameters
    ----------
    trained : what ``train`` or ``load`` returned
    data, split : as ``train`` took them

    Raises
    ------
    ContractError
        When nothing is labelled "train", or as ``applicability.fit``.
    """
    cube, _ = _daily(data, trained.scale.names)
    learns = _labels(split, data, cube) == "train"
    if not learns.any():
        raise ContractError("No day or cell is labelled train: hand in the split of the training.")
    images = np.stack([image for image, _ in trained._filled(cube)])  # (day, channel, row, col)
    learns = np.broadcast_to(learns, (len(images), *images.shape[2:]))
    day, row, col = np.nonzero(learns)
    some = np.random.default_rng(0).permutation(len(day))[:AREA_ROWS]
    rows = images[day[some], :, row[some], col[some]]
    table = pd.DataFrame(rows, columns=list(trained.scale.names))
    return applicability.fit(
        table, predictors=trained.scale.names, groups=(day[some] // AREA_DAYS).tolist()
    )

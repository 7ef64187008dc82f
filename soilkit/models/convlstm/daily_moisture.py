"""The system: a cube of what SMAP sees and what two teachers say becomes moisture a day."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import xarray as xr

from soilkit import grids, sources, units
from soilkit.errors import ContractError, UnitError, UnknownNameError
from soilkit.export import cubes, ten_day_table
from soilkit.models import training
from soilkit.models.convlstm.gap_filter import ContinuousFilter, gaps_of, train_filter
from soilkit.models.convlstm.recurrent import ConvLSTM, ConvLSTMConfig, TeacherLoss
from soilkit.models.maps.validity import FREEZING_K, REASONS

SMAP = "smap_l3_ancillary"
ANCILLARY = (
    "tb_h_corrected", "tb_v_corrected", "albedo", "surface_temperature", "roughness_coefficient",
    "vegetation_opacity", "vegetation_water_content",
)  # fmt: skip
SOIL = ("sandtotal", "silttotal", "claytotal", "bd")
SURFACE_ESTIMATE = "soil_moisture_surface"
DAYS_AT_ONCE = 32  # that are read from a cube
CARRIED_DAYS, CARRIED_SCORED = 30, 20  # of a training sequence without a look-back: the last count


class Depth(NamedTuple):
    """Teachers of a depth, names of layers of a cube, and the soil map that belongs to it."""

    level: str
    timing: str
    soil: str
    beta: float


# Table 2. The text gives the subsurface the RMSE alone, the table R of the same teacher as well.
DEPTHS = {
    "surface": Depth("nldas2_noah_SoilM_0_10cm", f"{SMAP}_soil_moisture_dca", "solus100", 1.0),
    "subsurface": Depth(
        "nldas2_noah_SoilM_10_40cm", "nldas2_noah_SoilM_10_40cm", "solus100_30cm", 0.0
    ),
}


def predictors(depth: str, scenario: int) -> tuple[str, ...]:
    """The layers that a model of a depth eats in one of the paper's two scenarios (Table 2) [1]_.

    References
    ----------
    .. [1] Rabiei et al. (2024), doi:10.20944/preprints202412.1356.v1

    Examples
    --------
    >>> [len(predictors(*c)) for c in (("surface", 1), ("surface", 2), ("subsurface", 2))]
    [7, 11, 12]
    """
    if depth not in DEPTHS or scenario not in (1, 2):
        raise UnknownNameError(
            f"No scenario {scenario!r} of the depth {depth!r}: depths are {', '.join(DEPTHS)}, "
            "scenarios 1 and 2."
        )
    names = tuple(f"{SMAP}_{name}" for name in ANCILLARY)
    if (depth, scenario) != ("surface", 1):
        names += tuple(f"{DEPTHS[depth].soil}_{name}" for name in SOIL)
    return names + ((SURFACE_ESTIMATE,) if (depth, scenario) == ("subsurface", 2) else ())


def sources_of(*depths: str) -> dict[str, list[str]]:
    """What ``cubes.build`` is to fetch for models of these depths, teachers included."""
    wanted = [f"{SMAP}_{name}" for name in (*ANCILLARY, "soil_moisture_dca")]
    for depth in depths:
        wanted += [*predictors(depth, 2), DEPTHS[depth].level]
    bands: dict[str, list[str]] = {}
    for source in sources.CATALOGUE:
        some = [b.name for b in source.bands if f"{source.name}_{b.name}" in wanted]
        bands |= {source.name: some} if some else {}
    return bands


def split_days(times: Any, *, shares: Sequence[float] = (0.6, 0.2, 0.2)) -> np.ndarray:
    """ "train", then "validation", then "test": labels of days (time,) by their order [1]_.

    References
    ----------
    .. [1] Rabiei et al. (2024), section 2.4: 2018-2020, 2021, 2022

    Examples
    --------
    >>> split_days(pd.date_range("2019-01-01", periods=5)).tolist()
    ['train', 'train', 'train', 'validation', 'test']
    """
    ends = np.cumsum(shares)[:2]
    part = np.searchsorted(np.round(ends * len(times)), np.arange(len(times)), side="right")
    return np.array(["train", "validation", "test"])[part]


# A cube, checked, day by day.


def _daily(cube: xr.Dataset, names: Sequence[str]) -> tuple[xr.Dataset, int]:
    """The layers of every day from the first to the last, and how many days were lacking."""
    absent = [name for name in names if name not in cube]
    if absent:
        raise ContractError(
            f"The cube lacks {', '.join(absent)}. Build it with convlstm.sources_of, or assign "
            "the layer; an estimate of the surface is the map of a model trained for it."
        )
    times = pd.DatetimeIndex(cubes.moments_of(cube["time"].values))
    if not (times - times[0] == (times.floor("D") - times[0].floor("D"))).all():
        raise ContractError(
            "The cube's moments differ in their hours; wanted one a day, always at the same hour. "
            "Choose them by cube.sel(time=...)."
        )
    every = pd.date_range(times[0], times[-1], freq="D").as_unit("us")
    dated = cube[list(names)]
    if len(every) > len(times):
        dated = dated.reindex(time=every)
    return dated, len(every) - len(times)


def teachers_of(cube: xr.Dataset, depth: str) -> tuple[np.ndarray, np.ndarray]:
    """Level and timing, (time, row, col) float32 m3 m-3, of a depth's teachers; NaN where unknown.

    Raises
    ------
    UnitError
        For a layer without a unit, or with values that are no m3 m-3.
    ContractError
        For a teacher that is absent everywhere, or one of the level that never changes.
    """
    level, timing = (_in_m3_m3(cube, name) for name in DEPTHS[depth][:2])
    if np.nanstd(level) < 1e-6:
        raise ContractError(
            f"{DEPTHS[depth].level} is {np.nanmean(level):.3g} m3 m-3 everywhere and always: a "
            "constant teaches nothing. Look for a fill value, or take another teacher."
        )
    return level, timing


def _in_m3_m3(cube: xr.Dataset, name: str) -> np.ndarray:
    layer = cube[name]
    bands = {f"{row.name}_{band.name}": band for row in sources.CATALOGUE for band in row.bands}
    unit = layer.attrs.get("units")
    if unit is None:
        raise UnitError(f"{name} has no unit. Say cube['{name}'].attrs['units'] = 'kg m-2' or so.")
    layer_mm = bands[name].layer_mm if name in bands else None
    factor, summand = units.conversion(unit, "m3 m-3", layer_mm=layer_mm)
    values = layer.transpose("time", "y", "x").to_numpy().astype(np.float32) * factor + summand
    known = np.isfinite(values)
    if not known.any():
        raise ContractError(
            f"{name} is unknown everywhere and always: the model would have no teacher. Bring days "
            "that have it, or leave its part out of the loss (alpha or beta of 0)."
        )
    if (typical := np.median(values[known])) > units.MAX_SOIL_MOISTURE_M3_M3:
        raise UnitError(
            f"{name} is {typical:.3g} in the middle and says {unit}: no soil holds more than 1 m3 "
            "m-3. Set its units to 'kg m-2' if it counts water in a layer."
        )
    return values.astype(np.float32)


class Scale(NamedTuple):
    """Names of channels, and what each is normalised by, (channel,)."""

    names: tuple[str, ...]
    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def of(cls, images: np.ndarray, names: Sequence[str], *, learns: np.ndarray) -> Scale:
        """Means and deviations of images (time, channel, row, col) where ``learns``."""
        rows = [images[:, k][learns] for k in range(len(names))]
        lacking = [n for n, row in zip(names, rows, strict=True) if not np.isfinite(row).any()]
        if lacking:
            raise ContractError(
                f"{', '.join(lacking)} is unknown on all training days and cells. Leave it out, "
                "or train where it is known."
            )
        mean, std = (np.array([f(row) for row in rows]) for f in (np.nanmean, np.nanstd))
        return cls(tuple(names), mean, np.where(std > 1e-6, std, 1.0))

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Normalised images (time, channel, row, col), float32."""
        shape = (1, -1, 1, 1)
        normal = (images - self.mean.reshape(shape)) / self.std.reshape(shape)
        return normal.astype(np.float32)


def _images(cube: xr.Dataset, names: Sequence[str], days: slice = slice(None)) -> np.ndarray:
    """Layers of some days as stored numbers, (time, channel, row, col), static ones repeated."""
    some = cube[list(names)].isel(time=days)
    n_days = some.sizes["time"]
    layers = [
        some[name].transpose("time", "y", "x").to_numpy() if "time" in some[name].dims
        else np.repeat(some[name].transpose("y", "x").to_numpy()[None], n_days, axis=0)
        for name in names
    ]  # fmt: skip
    return np.stack(layers, axis=1).astype(np.float32)


def _seen_by_smap(names: Sequence[str]) -> list[int]:
    """The channels that come with an overpass and have gaps between them."""
    return [k for k, name in enumerate(names) if name.startswith(SMAP)]


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


FILTER = "filter."  # before the names of its weights in a file


def load(path: str | os.PathLike[str]) -> TrainedConvLSTM:
    """What ``TrainedConvLSTM.save`` wrote.

    Raises
    ------
    CheckpointError
        When the file is absent, damaged, holds code, or another system's model.
    """
    checkpoint = training.load_checkpoint(path)
    held = {k.removeprefix(FILTER): v for k, v in checkpoint.weights.items() if FILTER in k}
    plain = {k: v for k, v in checkpoint.weights.items() if FILTER not in k}
    checkpoint = replace(checkpoint, weights=plain)
    model = ConvLSTM.from_checkpoint(checkpoint)
    n_dated = held["decoder.bias"].numel() if held else 0
    gaps = ContinuousFilter(n_dated)
    gaps.load_state_dict(held)
    return TrainedConvLSTM(model, gaps.eval(), checkpoint)


@dataclass(frozen=True)
class TrainedConvLSTM:
    """A trained ConvLSTM and the filter of its gaps; ``counts`` tell what training left out."""

    model: ConvLSTM
    filter: ContinuousFilter
    checkpoint: training.Checkpoint
    history: pd.DataFrame | None = None
    counts: pd.Series | None = None

    @property
    def scale(self) -> Scale:
        """The channels and what they are normalised by."""
        names, numbers = self.checkpoint.provenance.inputs, self.checkpoint.provenance.normalisation
        return Scale(names, *np.array([numbers[name] for name in names]).T)

    @property
    def depth(self) -> str:
        """ "surface" or "subsurface"."""
        return next(n for n, d in DEPTHS.items() if d.level == self.model.config.target)

    @property
    def name(self) -> str:
        """What tables call the model."""
        scenario = 2 if self.scale.names == predictors(self.depth, 2) else 1
        ahead = "" if self.model.config.causal else ", looks ahead"
        return f"ConvLSTM, {self.depth}, scenario {scenario}{ahead}"

    def stream(self, cube: xr.Dataset) -> Iterator[tuple[pd.Timestamp, np.ndarray, np.ndarray]]:
        """Day by day: time, moisture (row, col) m3 m-3, and whether a cell was ever seen.

        The state of filter and network is carried from one day to the next: memory does not grow
        with the days. A model whose gaps were filled from both sides reads the whole cube first.
        """
        daily, _ = _daily(cube, self.scale.names)
        seen = np.zeros((daily.sizes["y"], daily.sizes["x"]), dtype=bool)
        lookback, memory = self.model.config.lookback_days, None
        days: list[torch.Tensor] = []
        times = pd.DatetimeIndex(daily["time"].values)
        for time, (image, known) in zip(times, self._filled(daily), strict=True):
            seen = seen | known
            with torch.inference_mode():
                if lookback:
                    days = [*days, torch.from_numpy(image)][-lookback:]
                    moisture = self.model(torch.stack(days)[None])[0, -1]
                else:
                    one = torch.from_numpy(image)[None, None]
                    told, memory = self.model.advance(one, memory)
                    moisture = told[0, 0]
            yield time, moisture.numpy(), seen

    def _filled(self, daily: xr.Dataset) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Images (channel, row, col) without gaps, and where the day itself was seen."""
        scale = self.scale
        dated = _seen_by_smap(scale.names)
        n_days, causal = daily.sizes["time"], self.model.config.causal
        size = DAYS_AT_ONCE if causal else n_days
        gaps, belief = gaps_of(daily["time"].values).tolist(), None
        for first in range(0, n_days, size):
            images = scale(_images(daily, scale.names, slice(first, first + size)))
            series = images[:, dated].transpose(0, 2, 3, 1)  # (day, row, col, channel)
            known = np.isfinite(series).any(axis=3)
            flat = torch.from_numpy(series.reshape(len(series), -1, len(dated)))
            with torch.inference_mode():
                if causal:
                    for k, values in enumerate(flat):
                        belief = belief or self.filter.prior(len(values))
                        belief = self.filter.foresee(belief, gaps[first + k])
                        observed, error = self.filter.read(values)
                        belief = self.filter.update(belief, observed, error=error)
                        told, _ = self.filter.decode(belief)
                        flat[k] = torch.where(torch.isfinite(values), values, told)
                    filled = flat.numpy()
                else:
                    both = self.filter.fill(
                        flat.transpose(0, 1).numpy(), daily["time"].values, causal=False
                    )
                    filled = both.transpose(1, 0, 2)
            images[:, dated] = filled.reshape(series.shape).transpose(0, 3, 1, 2)
            yield from zip(np.nan_to_num(images), known, strict=True)

    def map(self, cube: xr.Dataset) -> xr.Dataset:
        """Moisture of every cell and day: ``soil_moisture`` [m3 m-3] and ``validity``, its bits.

        Of the reasons of ``maps`` those that the layers tell of: outside of the region, a frozen
        surface, and no overpass yet; there the moisture is unknown.
        """
        kept = list(self.stream(cube))
        times, moisture, seen = (np.stack(part) for part in zip(*kept, strict=True))
        flags = np.where(seen, 0, REASONS["no_source"]).astype(np.uint8)
        daily, _ = _daily(cube, self.scale.names)
        kelvin = f"{SMAP}_surface_temperature"
        if kelvin in daily:
            frozen = daily[kelvin].transpose("time", "y", "x").to_numpy() < FREEZING_K
            flags |= np.where(frozen, REASONS["snow_or_frozen"], 0).astype(np.uint8)
        if "inside" in cube:
            outside = cube["inside"].transpose("y", "x").to_numpy() == 0
            flags |= np.where(outside, REASONS["edge"], 0).astype(np.uint8)
        named = ["edge", "snow_or_frozen", "no_source"]
        words = {"flag_masks": np.array([REASONS[n] for n in named], np.uint8),
                 "flag_meanings": " ".join(named)}  # fmt: skip
        dims = ("time", "y", "x")
        values = np.where(flags == 0, moisture, np.nan).astype(np.float32)
        layers = {"soil_moisture": (dims, values, {"units": "m3 m-3"}),
                  "validity": (dims, flags, words)}  # fmt: skip
        coords = {"time": times.astype("datetime64[us]"), "y": cube["y"], "x": cube["x"]}
        if "spatial_ref" in cube.coords:
            coords["spatial_ref"] = cube["spatial_ref"]
        return xr.Dataset(layers, coords, {"model": self.name})

    def predict(
        self, data: xr.Dataset, stations: pd.DataFrame, *, observations: pd.DataFrame | None = None,
        split: Any = "unknown",
    ) -> pd.DataFrame:  # fmt: skip
        """A predictions table of the stations on a cube, one row a sensor and day.

        Parameters
        ----------
        data : cube
        stations : of the contract, the sensors that are wanted
        observations : of the contract; a day's mean of at least twelve readings is what is observed
        split : one label, or one a day of the cube
        """
        mapped = self.map(data)
        return station_rows(
            mapped["soil_moisture"], stations, observations=observations, model=self.name,
            split=pd.Series(split, index=data["time"].values),
        )  # fmt: skip

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights, filter, configuration, channels and normalisation whole or not at all."""
        weights = {f"{FILTER}{k}": v for k, v in self.filter.state_dict().items()}
        kept = replace(self.checkpoint, weights=self.checkpoint.weights | weights)
        training.save_checkpoint(path, kept)


def station_rows(
    field: xr.DataArray, stations: pd.DataFrame, *, observations: pd.DataFrame | None, model: str,
    split: pd.Series,
) -> pd.DataFrame:  # fmt: skip
    """A predictions table of a field (time, y, x), m3 m-3, at the cells that sensors lie in.

    A row is a sensor and day with a value of the field; sensors beyond the field have none. A day
    of the field is the one that ends at its time, or holds it. ``split`` is by time.
    """
    half = float(abs(field["x"][1] - field["x"][0])) / 2
    is_placed = "spatial_ref" in field.coords
    crs = field["spatial_ref"].attrs["crs_wkt"] if is_placed else grids.EASE2_CRS
    there = grids.transformer("EPSG:4326", crs)
    x_m, y_m = there.transform(stations["longitude"].to_numpy(), stations["latitude"].to_numpy())
    cells = [np.abs(field[d].values[:, None] - at) for d, at in (("y", y_m), ("x", x_m))]
    inside = (cells[0].min(axis=0) <= half) & (cells[1].min(axis=0) <= half)
    if not inside.any():
        raise ContractError(
            f"None of {len(stations)} sensors lies on the cube. Build it around the stations."
        )
    sensors = stations[inside].reset_index(drop=True)
    row, col = (c.argmin(axis=0)[inside] for c in cells)
    values = field.transpose("time", "y", "x").values[:, row, col]  # (time, sensor)
    day = (pd.DatetimeIndex(field["time"].values) - pd.Timedelta("1us")).floor("D")
    k, s = np.nonzero(np.isfinite(values))
    rows = sensors.loc[s, ["sensor_id", "station_id", "network"]].reset_index(drop=True)
    rows["time"] = day[k].as_unit("us")
    rows["sample_id"] = rows["sensor_id"].astype(str) + rows["time"].dt.strftime("_%Y%m%d")
    rows["soil_moisture_m3_m3"] = np.nan
    if observations is not None:
        daily = ten_day_table.daily_means(observations).astype({"sensor_id": str})
        known = daily.set_index(["sensor_id", "time"])["soil_moisture_m3_m3"]
        keys = pd.MultiIndex.from_frame(rows[["sensor_id", "time"]].astype({"sensor_id": str}))
        rows["soil_moisture_m3_m3"] = known.reindex(keys).to_numpy(float)
    labels = split.reindex(field["time"].values).fillna("unknown").to_numpy(str)[k]
    return ten_day_table.predictions_table(
        rows, sensors, predicted=values[k, s], model=model, split=labels
    )

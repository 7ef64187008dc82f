"""Two Xception encoders, two fusion heads, one moisture at the centre (Batchu et al. 2023)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional

from soilkit.constants import CROP_PX, PIXEL_RATIO
from soilkit.errors import ContractError, UnknownNameError
from soilkit.export import chips, ten_day_table
from soilkit.models import datasets, inference, training
from soilkit.models.datasets import Augment, image_sides, turning_px
from soilkit.models.encoders import BATCH_NORM_EPSILON, ENCODERS, POOLING, Presence, enlarge
from soilkit.models.inputs import Inputs, distinct_sources, stored_statistics
from soilkit.models.training.loop import PRECISIONS

# Of the encoders and batch norms; "small" is for a laptop and some hundred steps.
PRESETS = {
    "paper": {"drop_path_keep": 0.6, "momentum": 0.01},  # Table 7
    "small": {"drop_path_keep": 0.8, "momentum": 0.1},
}
HEAD1 = ((128, 0.5), (64, 0.5), (1, 0.6))  # (width, keep probability of its dropout)
HEAD2 = ((8, 0.9), (1, 0.9))
# (predicted, observed) -> mean over the batch. Huber's delta of 0.4 m3 m-3 is Table 7's: labels lie
# between 0 and about 0.6, so hardly an error passes it, and it is half the squared error with a
# guard against outputs that run away early. Its gradient is then half that of "mse" and about the
# error times that of "mae": a learning rate that fits one loss need not fit another.
LOSSES: dict[str, Callable[..., torch.Tensor]] = {
    "huber": partial(functional.huber_loss, delta=0.4),
    "mse": functional.mse_loss,
    "mae": functional.l1_loss,
}
CHOICES: dict[str, Mapping[str, Any]] = {
    "preset": PRESETS,
    "encoder": ENCODERS,
    "pooling": POOLING,
    "fusion": dict.fromkeys(("late", "early")),
}
OPTIONS = ("encoder", "pooling", "fusion", "source_dropout")


def _chosen(known: Mapping[str, Any], name: str, option: str) -> Any:
    if name not in known:
        raise UnknownNameError(f"No {option} {name!r}; there are {', '.join(known)}. Name one.")
    return known[name]


@dataclass(frozen=True)
class FusionConfig:
    """What a model eats and how: channels of each input (0 = no such input), preset, options.

    ``encoder`` is "xception", "resnet", "mobilenet" or "local" (squares of 320 m, each alone);
    ``pooling`` "center" or "average"; ``fusion`` "late" (an encoder for each resolution) or "early"
    (low-resolution images enlarged and stacked with the high ones). With a ``source_dropout`` the
    model accepts that a source is
    absent and, in training, withholds each with that probability; it needs ``sources``, the source
    of every channel, high, low, then coarse. ``crop_px``, pixels of 10 m, is the side of what it is
    trained on: its windows on a map; configurations that tell none are of the paper's.
    """

    high_channels: int = 0
    low_channels: int = 0
    coarse: int = 0
    preset: str = "paper"
    encoder: str = "xception"
    pooling: str = "center"
    fusion: str = "late"
    source_dropout: float | None = None
    sources: tuple[str, ...] = ()
    crop_px: int = CROP_PX

    def __post_init__(self) -> None:
        object.__setattr__(self, "sources", tuple(self.sources))

    @property
    def is_early(self) -> bool:
        """Whether both resolutions share one encoder."""
        return bool(self.fusion == "early" and self.high_channels and self.low_channels)

    @property
    def image_sources(self) -> tuple[str, ...]:
        """The distinct sources of the images, where channels are named."""
        return tuple(dict.fromkeys(self.sources[: self.high_channels + self.low_channels]))

    def check(self) -> None:
        """Refuse what no model can be built of, as ``XceptionFusion`` says."""
        for option, known in CHOICES.items():
            _chosen(known, getattr(self, option), option)
        channels = self.high_channels + self.low_channels + self.coarse
        if not channels:
            raise ContractError(
                "The model has no input: high_channels, low_channels and coarse are all 0. "
                "Set at least one of them."
            )
        rate = self.source_dropout
        if rate is not None and (len(self.sources) != channels or not 0 <= rate < 1):
            raise ContractError(
                f"A source dropout of {rate:g} over {channels} channels, {len(self.sources)} of "
                "them with a source: it wants a probability in [0, 1) and the source of every "
                "channel. Build the model with XceptionFusion.for_inputs."
            )


def fusion_head(
    channels: int, blocks: Iterable[tuple[int, float]], *, momentum: float
) -> nn.Sequential:
    """Blocks of [dropout, linear, batch norm, Swish], the last one only [dropout, linear].

    (B, channels) -> (B, last width); ``blocks`` are (width, keep probability).
    """
    layers: list[nn.Module] = []
    for width, keep in blocks:
        norm = nn.BatchNorm1d(width, eps=BATCH_NORM_EPSILON, momentum=momentum)
        layers += [nn.Dropout(1 - keep), nn.Linear(channels, width), norm, nn.SiLU()]
        channels = width
    return nn.Sequential(*layers[:-2])


# The model.

OUTPUT_SPREAD_M3_M3 = 0.1  # how far an untrained model's output strays from the mean label


class XceptionFusion(nn.Module):
    """Soil moisture at a chip's centre from images, soil maps and coarse products [1]_.

    Embeddings of the two encoders, pooled around the centre, meet in head 1; its one output meets
    the coarse scalars in head 2. A model without coarse scalars ends at head 1; one without images
    is head 2 on the scalars alone. The output is not bounded, as in the paper.

    Early fusion, which the paper weighed and left for its wasted compute, concatenates the
    low-resolution images, enlarged bilinearly to 10 m, with the high-resolution ones before one
    encoder; of the coarse scalars the paper says nothing there, so they meet head 2 as always.

    A model with source dropout takes NaN for an absent source, sample by sample: learnt values
    stand in for its channels, and both heads see flags of what is known (`Presence`).

    Strided convolutions look at every other pixel from the first on: of the paper's even number of
    pixels the pooled features look at a place some 11 pixels (110 m) north-west of the station, in
    the low-resolution images 4.5 pixels (720 m).

    Parameters
    ----------
    config : FusionConfig
    mean_label_m3_m3 : float, m3 m-3
        The output before any training: the training set's mean label saves the first epochs.

    Raises
    ------
    ContractError
        When nothing is left to eat, or the source dropout does not know the channels' sources.
    UnknownNameError
        For a preset or an option that does not exist.

    References
    ----------
    .. [1] Batchu et al. (2022), arXiv:2206.09649, section 3a, Fig. 8-10, Table 7

    Examples
    --------
    >>> model = XceptionFusion.preset("small", high_channels=10, low_channels=4, coarse=2).eval()
    >>> model(torch.zeros(3, 10, 256, 256), torch.zeros(3, 4, 16, 16), torch.zeros(3, 2)).shape
    torch.Size([3])
    """

    def __init__(self, config: FusionConfig, *, mean_label_m3_m3: float = 0.2):
        super().__init__()
        config.check()
        widths = PRESETS[config.preset]
        self.config = config
        self.pool = POOLING[config.pooling]
        self.presence = self.high_encoder = self.low_encoder = self.head1 = self.head2 = None
        high, low = ENCODERS[config.encoder][config.preset]
        embedded, momentum = 0, widths["momentum"]
        if config.source_dropout is not None:
            self.presence = Presence(config.sources, rate=config.source_dropout)
        if config.high_channels:
            self.high_encoder = high(
                config.high_channels + config.low_channels * config.is_early, **widths
            )
            embedded += self.high_encoder.out_channels
        if config.low_channels and not config.is_early:
            self.low_encoder = low(config.low_channels, **widths)
            embedded += self.low_encoder.out_channels
        if embedded:
            entering = embedded + len(config.image_sources)
            self.head1 = fusion_head(entering, HEAD1, momentum=momentum)
        if config.coarse:
            entering = config.coarse + bool(embedded) + len(set(config.sources))
            self.head2 = fusion_head(entering, HEAD2, momentum=momentum)
        self._initialise(mean_label_m3_m3)

    def _initialise(self, mean_label_m3_m3: float) -> None:
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        head = self.head1 if self.head2 is None else self.head2
        last: Any = head[-1]  # type: ignore[index]
        nn.init.normal_(last.weight, std=OUTPUT_SPREAD_M3_M3 / last.in_features**0.5)
        nn.init.constant_(last.bias, mean_label_m3_m3)

    @classmethod
    def preset(cls, name: str, *, mean_label_m3_m3: float = 0.2, **channels: Any) -> XceptionFusion:
        """A model of the size ``name``; ``channels`` are high_channels, low_channels and coarse."""
        return cls(FusionConfig(preset=name, **channels), mean_label_m3_m3=mean_label_m3_m3)

    @classmethod
    def for_inputs(
        cls, inputs: Any, *, preset: str = "paper", mean_label_m3_m3: float = 0.2, **options: Any
    ) -> XceptionFusion:
        """A model of what ``Inputs`` name; ``options`` as in ``FusionConfig``."""
        if options.get("source_dropout") is not None:
            options = {"sources": inputs.channel_sources, **options}
        high, low, coarse = inputs.channels
        config = FusionConfig(high, low, coarse, preset, **options)
        return cls(config, mean_label_m3_m3=mean_label_m3_m3)

    @classmethod
    def from_checkpoint(cls, checkpoint: Any) -> XceptionFusion:
        """The model that ``training.load_checkpoint`` read, in evaluation mode.

        Raises
        ------
        CheckpointError
            When the checkpoint holds another system's configuration or weights.
        """
        return checkpoint.rebuild(
            lambda values: cls(replace(FusionConfig(), **values)), system="XceptionFusion"
        )

    @property
    def configuration(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return asdict(self.config)

    def forward(
        self,
        high: torch.Tensor | None = None,
        low: torch.Tensor | None = None,
        coarse: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Soil moisture at the centre, (B,) m3 m-3.

        Parameters
        ----------
        high : tensor (B, high_channels, 256, 256) or None, normalised
        low : tensor (B, low_channels, 16, 16) or None, normalised
        coarse : tensor (B, coarse) or None, normalised

        Other crops are squares too, a pixel of ``low`` for 16 of ``high``. With source dropout NaN
        is absent; without it a NaN stays one.

        Raises
        ------
        ContractError
            When an input is missing, has other channels, or was not foreseen.
        """
        inputs = {"high": high, "low": low, "coarse": coarse}
        wanted = (self.config.high_channels, self.config.low_channels, self.config.coarse)
        for (name, value), channels in zip(inputs.items(), wanted, strict=True):
            handed = 0 if value is None else value.shape[1]
            if handed != channels:
                raise ContractError(
                    f"The model was built for {channels} {name} channels and was handed {handed}. "
                    "Build it for the dataset's inputs, or feed the ones it was built for."
                )
        fed = {name: value for name, value in inputs.items() if value is not None}
        known = None
        if self.presence is not None:
            filled, known = self.presence(list(fed.values()))
            fed = dict(zip(fed, filled, strict=True))
        images = self.stack({name: image for name, image in fed.items() if name != "coarse"})
        pooled = [self.pool(encoder(images[name])) for name, encoder in self.encoders.items()]
        return self.answer(pooled, coarse=fed.get("coarse"), known=known)

    @property
    def encoders(self) -> dict[str, Any]:
        """The encoder of each image, high before low."""
        both = {"high": self.high_encoder, "low": self.low_encoder}
        return {name: encoder for name, encoder in both.items() if encoder is not None}

    def stack(self, images: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The images as the encoders take them: with early fusion both in one."""
        if not self.config.is_early:
            return images
        low_px = enlarge(images["low"], shape=images["high"].shape[-2:])
        return {"high": torch.cat([images["high"], low_px], dim=1)}

    def answer(
        self,
        pooled: Sequence[torch.Tensor],
        *,
        coarse: torch.Tensor | None = None,
        known: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Soil moisture (B,) m3 m-3 by the heads.

        Parameters
        ----------
        pooled : tensors (B, depth), the pooled features of each of ``encoders``
        coarse : tensor (B, coarse) or None, normalised
        known : tensor (B, source) of 0 and 1 for a model with source dropout; None = all are known
        """
        parts = list(pooled)
        first = parts[0] if coarse is None else coarse
        flags: list[torch.Tensor] = []  # one tensor or none
        if self.presence is not None:
            every = first.new_ones(len(first), len(self.presence.names))
            flags = [every if known is None else known]
        if self.head1 is not None:
            seen = [flag[:, : len(self.config.image_sources)] for flag in flags]
            parts = [self.head1(torch.cat([*parts, *seen], dim=1))]  # (B, 1)
        if self.head2 is not None and coarse is not None:
            parts = [self.head2(torch.cat([*parts, coarse, *flags], dim=1))]
        return parts[0].squeeze(1)

    def example(self, *, crop_px: int | None = None) -> dict[str, torch.Tensor]:
        """Inputs of one sample by name, without numbers: what ``size_table`` counts over."""
        config, sides = self.config, image_sides(crop_px or self.config.crop_px)
        shapes = {
            "high": (config.high_channels, sides["high"], sides["high"]),
            "low": (config.low_channels, sides["low"], sides["low"]),
            "coarse": (config.coarse,),
        }
        return {n: torch.empty(1, *s, device="meta") for n, s in shapes.items() if s[0]}


# A batch of the fusion model: high, low and coarse where they are fed, and moisture.


def look(model: Any, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The model's answer and what was observed, (B,) m3 m-3; None where the batch tells none."""
    return model(**{n: t for n, t in batch.items() if n != "moisture"}), batch.get("moisture")


def step_by(loss: Callable[..., torch.Tensor]) -> training.Step:
    """The step that ``training.fit`` takes: the loss of a batch in float32."""

    def step(model, batch):
        return loss(look(model, batch)[0].float(), batch["moisture"])

    return step


# The system: model, loss, step and loaders meet the one loop.

PREDICTED_PIXELS = 64 * CROP_PX**2  # of a batch that is only predicted
KEPT_PIXELS = 1000 * CROP_PX**2  # crops of smaller datasets stay in memory


def train(
    data: str | os.PathLike[str],
    split: Any,
    *,
    preset: str = "small",
    seed: int = 0,
    out_dir: str | os.PathLike[str] | None = None,
    name: str = "",
    sources: Sequence[str] = Inputs().source_names,
    epochs: int = 6,
    batch_size: int = 32,
    crop_px: int = CROP_PX,
    loss: str = "huber",
    progress: bool = True,
    **options: Any,
) -> TrainedFusion:
    """Train on a dataset's training samples and keep the weights that validate best.

    A run with an ``out_dir`` that was interrupted goes on there, at its last validation.

    Parameters
    ----------
    data : folder with stations, samples and features as parquet, and ``chips.zarr``
    split : labels (sample,), "train", "validation" or "test", in the order of the samples
    preset : "small" or "paper"
    seed : of the weights, the order and the augmentations
    out_dir : the best checkpoint goes to ``checkpoints/<name>.pt`` in it; None keeps it in memory
    name : of the checkpoint; empty takes the sources
    sources : what the model eats, as the entries of ``Inputs``; each finds its own resolution
    epochs : passes over the training samples
    batch_size : at most; a quarter of a small dataset
    crop_px : side of what the model sees, pixels of 10 m; larger chips leave room to turn it
    loss : "huber", "mse" or "mae"
    progress : whether to show a bar
    options : ``encoder``, ``pooling``, ``fusion`` and ``source_dropout`` of ``FusionConfig``; other
        fields of ``training.Settings``, such as ``optimizer``, ``learning_rate`` or ``steps``

    Raises
    ------
    ContractError
        When the dataset lacks a source, or the split has another length.
    CheckpointError
        When another run's state stands in ``out_dir``.
    """
    tables, store = _read(data)
    inputs, labels = Inputs.of(*sources), np.asarray(split, dtype=str)
    if len(labels) != len(tables.samples):
        raise ContractError(
            f"The split has {len(labels)} labels for {len(tables.samples)} samples. Make it of "
            "the samples of this dataset."
        )
    has_images = bool(inputs.high or inputs.low)
    allow_missing = options.get("source_dropout") is not None
    make = partial(_chip_dataset, tables, store, inputs=inputs, allow_missing=allow_missing)
    room_px = _room_px(store, inputs, crop_px) if has_images else crop_px
    learnt = make(labels == "train", crop_px=room_px)
    chosen = make(labels == "validation", crop_px=crop_px, statistics=learnt.statistics)
    size = min(batch_size, max(2, len(learnt) // 4))
    loaders = training.Loaders(
        datasets.make_loader(learnt, batch_size=size, shuffle_seed=seed),
        _in_order(chosen, crop_px),
    )
    torch.manual_seed(seed)
    model = XceptionFusion.for_inputs(
        inputs,
        preset=preset,
        mean_label_m3_m3=float(learnt.moisture.mean()),
        crop_px=crop_px,
        **{option: options.pop(option) for option in OPTIONS if option in options},
    ).to(_device())
    a_pass = len(loaders.train)
    schedule = {"steps": epochs * a_pass, "validate_every": max(a_pass, 1), "seed": seed}
    provenance = training.Provenance(inputs.names, learnt.normalisation, store.data_hash)
    file_name = f"{name or _slug(inputs)}.pt"
    history = training.fit(
        model, loaders, step_by(_chosen(LOSSES, loss, "loss")), look, provenance=provenance,
        settings=training.Settings(**schedule | options), progress=progress,
        path=None if out_dir is None else Path(out_dir) / "checkpoints" / file_name,
        augment=Augment(image_sides(crop_px)) if has_images else None,
    )  # fmt: skip
    checkpoint = training.Checkpoint.best(model, history, provenance=provenance)
    known = pd.Series(labels, index=tables.samples["sample_id"].astype(str))
    return TrainedFusion(model.eval(), checkpoint, history, known)


def load(path: str | os.PathLike[str]) -> TrainedFusion:
    """The model that ``TrainedFusion.save`` or a training's checkpoint holds.

    Raises
    ------
    CheckpointError
        When the file is absent, damaged, holds code, or another system's model.
    """
    checkpoint = training.load_checkpoint(path)
    return TrainedFusion(XceptionFusion.from_checkpoint(checkpoint).to(_device()), checkpoint)


@dataclass(frozen=True)
class TrainedFusion:
    """A trained fusion model; ``history`` and ``labels`` are known where it was trained."""

    model: XceptionFusion
    checkpoint: training.Checkpoint
    history: pd.DataFrame | None = None
    labels: pd.Series | None = None

    @property
    def inputs(self) -> Inputs:
        """What the model eats."""
        return Inputs.from_checkpoint(self.checkpoint)

    @property
    def name(self) -> str:
        """What tables call the model, by its sources."""
        if self.inputs == Inputs() and self.model.config.encoder != "local":
            return "Xception fusion"
        if self.inputs.high or self.inputs.low:
            kind = "local network" if self.model.config.encoder == "local" else "Xception fusion"
            return f"{kind} of {', '.join(self.inputs.source_names)}"
        return f"{' + '.join(name.upper() for name in self.inputs.source_names)} network"

    @property
    def statistics(self) -> dict[str, tuple[float, float]]:
        """Mean and standard deviation of each coarse input in training."""
        return stored_statistics(self.checkpoint.provenance.normalisation, self.inputs)

    def predict(
        self,
        data: str | os.PathLike[str],
        split: Any = None,
        *,
        part: str | None = None,
        withhold: Sequence[str] = (),
    ) -> pd.DataFrame:
        """A predictions table of a dataset folder, by crops as of the training.

        Parameters
        ----------
        data : folder, as of ``train``
        split : labels (sample,); None takes those of the training, else "unknown"
        part : the label of the samples that are predicted; None predicts all
        withhold : sources that every sample is made to lack, for a model with source dropout
        """
        tables, store = _read(data)
        if split is None:
            known = pd.Series(dtype=str) if self.labels is None else self.labels
            split = known.reindex(tables.samples["sample_id"].astype(str)).fillna("unknown")
        labels, crop_px = np.asarray(split, dtype=str), self.model.config.crop_px
        rows = np.ones(len(labels), bool) if part is None else labels == part
        dataset = _chip_dataset(
            tables, store, rows, inputs=self.inputs, crop_px=crop_px, statistics=self.statistics,
            allow_missing=self.model.config.source_dropout is not None, withhold=withhold,
        )  # fmt: skip
        return ten_day_table.predictions_table(
            tables.samples[rows].astype({"soil_moisture_m3_m3": float}),
            tables.stations,
            predicted=training.predict(self.model, _in_order(dataset, crop_px), look),
            model=self.name,
            split=labels[rows],
        )

    def map(
        self, cube: Any, *, precision: str = "float32", area: Any = None,
        **options: Any,
    ) -> Any:  # fmt: skip
        """Soil moisture of a region's cells of 320 m, an xarray Dataset.

        Parameters
        ----------
        cube : {source: Chip, or one number for the region}, or a ``maps.Scene``
        precision : "float32", or "bfloat16": encoders rounded, faster where the processor
            multiplies such numbers; batch norms are folded in both
        area : of ``maps.training_area``, for ``applicability``
        options : of ``maps.predict_map``: ``mode``, ``stride_m``, ``batch_size``, ``coarse`` ...

        Raises
        ------
        ContractError
            When the region lacks a source or is smaller than a window.
        UnknownNameError
            For another precision.
        """
        from soilkit.models import maps

        _chosen(PRECISIONS, precision, "precision")
        if not isinstance(cube, maps.Scene):
            cube = maps.scene_of(cube, inputs=self.inputs, statistics=self.statistics)
        model = inference.for_inference(self.model, precision=precision)
        mapped = maps.predict_map(model, cube, look, **options)
        if area is None:
            return mapped
        return maps.with_applicability(mapped, cube, area=area, names=self.inputs.names)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights, configuration, sources and normalisation whole or not at all."""
        training.save_checkpoint(path, self.checkpoint)


def _read(folder) -> tuple[ten_day_table.TabularDataset, chips.ChipStore]:
    folder = Path(folder)
    return ten_day_table.read_dataset(folder), chips.open_store(folder / "chips.zarr")


def _chip_dataset(tables, store, rows: np.ndarray, **options) -> datasets.ChipDataset:
    keep = len(rows) * options["crop_px"] ** 2 < KEPT_PIXELS
    return datasets.ChipDataset(tables.samples[rows], tables.features, store, cache=keep, **options)


def _room_px(store: chips.ChipStore, inputs: Inputs, crop_px: int) -> int:
    """How much of the chips is read so that a crop finds its ground however it turns, pixels."""
    ratio = 1 if inputs.high else PIXEL_RATIO
    known = set(distinct_sources(inputs.high or inputs.low)) & set(store.sources)
    return max(crop_px, min([turning_px(crop_px), *(ratio * store.size_px(s) for s in known)]))


def _in_order(dataset: datasets.ChipDataset, crop_px: int):
    size = min(256, max(1, PREDICTED_PIXELS // crop_px**2))
    return datasets.make_loader(dataset, batch_size=size)


def _slug(inputs: Inputs) -> str:
    return "fusion" if inputs == Inputs() else "_".join(inputs.source_names)


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"

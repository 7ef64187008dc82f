"""Seed 001: two Xception encoders, two fusion heads, one soil moisture at the chip's centre."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import pandas as pd
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from soilkit.constants import PIXEL_RATIO
from soilkit.errors import CheckpointError, ContractError, UnknownNameError
from soilkit.models import losses
from soilkit.models.encoders import (
    BATCH_NORM_EPSILON,
    MOBILENET_V2,
    POOLING,
    RESNET_18,
    RESNET_50,
    XCEPTION_41,
    XCEPTION_65,
    XCEPTION_STEM,
    Block,
    EncoderTable,
    MobileNetEncoder,
    MobileNetTable,
    ResNetEncoder,
    ResNetTable,
    Stem,
    XceptionEncoder,
)

Table = EncoderTable | ResNetTable | MobileNetTable


@dataclass(frozen=True)
class Preset:
    """All that a model's size hangs on: Xception's tables, heads and their keep probabilities."""

    high: EncoderTable
    low: EncoderTable
    head1: tuple[int, ...] = (128, 64, 1)
    head1_keep: tuple[float, ...] = (0.5, 0.5, 0.6)
    head2: tuple[int, ...] = (8, 1)
    head2_keep: tuple[float, ...] = (0.9, 0.9)
    drop_path_keep: float = 0.6
    batch_norm_momentum: float = 0.01


SMALL_HIGH = (
    Block((32, 32, 32), skip="conv", stride=2),
    Block((64, 64, 64), skip="conv", stride=2),
    Block((128, 128, 128), skip="conv", stride=2),
    Block((128, 128, 128), skip="sum", stride=1, repeat=2),
    Block((128, 128, 192), skip="none", stride=1, inner_activation=True),
)
SMALL_LOW = (
    Block((32, 32, 32), skip="conv", stride=2),
    Block((48, 48, 48), skip="conv", stride=2),
    Block((64, 64, 64), skip="conv", stride=2),
    Block((64, 64, 64), skip="none", stride=1, inner_activation=True),
)
PRESETS = {
    # Table 7 of the paper; the depth multiplier is not published: a quarter is our choice.
    "paper": Preset(
        high=EncoderTable(XCEPTION_STEM, XCEPTION_65, output_stride=32),
        low=EncoderTable(XCEPTION_STEM, XCEPTION_41, output_stride=16, depth_multiplier=0.25),
    ),
    # For a laptop and some hundred steps: fewer and narrower rows, milder drop path.
    "small": Preset(
        high=EncoderTable((Stem(16, kernel=5, stride=4),), SMALL_HIGH, output_stride=32),
        low=EncoderTable((Stem(16, kernel=3, stride=2),), SMALL_LOW, output_stride=16),
        drop_path_keep=0.8,
        batch_norm_momentum=0.1,
    ),
}
# (high, low) by preset. The paper names the alternatives without sizes: the usual 50 layers, the
# usual width, and a quarter of it for the low-resolution images, as for Xception, are our choice;
# the small ones have about as many weights as the small Xception.
ENCODERS: dict[str, dict[str, tuple[Table, Table]]] = {
    "xception": {name: (size.high, size.low) for name, size in PRESETS.items()},
    "resnet": {
        "paper": (
            ResNetTable(RESNET_50, bottleneck=True),
            ResNetTable(RESNET_50, bottleneck=True, output_stride=16, depth_multiplier=0.25),
        ),
        "small": (
            ResNetTable(RESNET_18, bottleneck=False, depth_multiplier=0.125),
            ResNetTable(RESNET_18, bottleneck=False, output_stride=16, depth_multiplier=0.125),
        ),
    },
    "mobilenet": {
        "paper": (
            MobileNetTable(MOBILENET_V2),
            MobileNetTable(MOBILENET_V2, output_stride=16, depth_multiplier=0.25),
        ),
        "small": (
            MobileNetTable(MOBILENET_V2, depth_multiplier=0.25),
            MobileNetTable(MOBILENET_V2, output_stride=16, depth_multiplier=0.125),
        ),
    },
}
_BUILDERS: dict[type, type[nn.Module]] = {
    EncoderTable: XceptionEncoder,
    ResNetTable: ResNetEncoder,
    MobileNetTable: MobileNetEncoder,
}


def build_encoder(
    channels: int, table: Table, *, drop_path_keep: float, momentum: float
) -> nn.Module:
    """The encoder of a table, for images of so many channels."""
    build = _BUILDERS[type(table)]
    return build(channels, table, drop_path_keep=drop_path_keep, momentum=momentum)


# What a fusion model eats and how, its heads, and low resolution brought to high.

FUSIONS = ("late", "early")
ALWAYS_WRITTEN = ("high_channels", "low_channels", "coarse", "preset")


@dataclass(frozen=True)
class FusionConfig:
    """What a model eats and how: channels of each input (0 = no such input), preset, options.

    ``encoder`` is "xception", "resnet" or "mobilenet"; ``pooling`` "center" or "average";
    ``fusion`` "late" (an encoder for each resolution) or "early" (low-resolution images enlarged
    and stacked with the high ones). With a ``source_dropout`` the model accepts that a source is
    absent and, in training, withholds each with that probability; it needs ``sources``, the source
    of every channel, high, low, then coarse.

    ``is_aligned`` adds a row and a column of pixels in the south-east. A strided convolution looks
    at every other pixel from the first on: of an even number of pixels it looks at those in the
    north-west, and after five of them the pooled features look at a place some 11 pixels (110 m)
    from the station, in the low-resolution images 4.5 pixels (720 m). With an odd number they look
    at the station. The paper's images are even, hence the default.
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
    is_aligned: bool = False

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

    def plain(self) -> dict[str, Any]:
        """Plain values for a checkpoint; options at their default are left out.

        A model without options is written as it was before there were any.
        """
        default = {f.name: f.default for f in fields(self) if f.name not in ALWAYS_WRITTEN}
        return {k: v for k, v in asdict(self).items() if k not in default or v != default[k]}

    def check(self) -> None:
        """Refuse what no model can be built of.

        Raises
        ------
        UnknownNameError
            For a preset or an option that does not exist.
        ContractError
            When nothing is left to eat, or the source dropout does not know the channels' sources.
        """
        choices = ("preset", PRESETS), ("encoder", ENCODERS), ("pooling", POOLING)
        for name, known in (*choices, ("fusion", FUSIONS)):
            if getattr(self, name) not in known:
                raise UnknownNameError(
                    f"No {name} {getattr(self, name)!r}; there are {', '.join(known)}. "
                    "Name one of them."
                )
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
    channels: int, widths: Iterable[int], *, keeps: Iterable[float], momentum: float
) -> nn.Sequential:
    """Blocks of [dropout, linear, batch norm, Swish], the last one only [dropout, linear].

    (B, channels) -> (B, last of ``widths``); ``keeps`` are keep probabilities, one a block.
    """
    layers: list[nn.Module] = []
    for width, keep in zip(widths, keeps, strict=True):
        norm = nn.BatchNorm1d(width, eps=BATCH_NORM_EPSILON, momentum=momentum)
        layers += [nn.Dropout(1 - keep), nn.Linear(channels, width), norm, nn.SiLU()]
        channels = width
    return nn.Sequential(*layers[:-2])


def enlarge(low: torch.Tensor, *, size_px: int) -> torch.Tensor:
    """Low-resolution images at the high ones' 10 m, bilinear, the same ground about the centre.

    (B, channel, row, col) -> (B, channel, size_px, size_px)
    """
    fine = functional.interpolate(
        low, scale_factor=PIXEL_RATIO, mode="bilinear", align_corners=False
    )
    edge = (fine.shape[-1] - size_px) // 2
    return fine[..., edge : edge + size_px, edge : edge + size_px]


def align(images: torch.Tensor) -> torch.Tensor:
    """Images with their last row and column repeated: strided convolutions then keep the centre.

    (B, channel, row, col) -> (B, channel, row + 1, col + 1)
    """
    return functional.pad(images, (0, 1, 0, 1), mode="replicate")


# Sources that may be absent: what stands in for their channels, and flags that say so.


class Presence(nn.Module):
    """Replaces absent sources by learnt values and says which ones are known.

    A source is absent from a sample where any of its numbers there is NaN; each of its channels
    then holds one learnt value (0, the middle of the range, before training), so that nothing of
    its pixels is left. In training each known source is withheld with probability ``rate`` [1]_,
    but never all of a sample: the model learns to do without any.

    Parameters
    ----------
    sources : the source of each channel of the images and scalars, in their order
    rate : probability that training withholds a source

    References
    ----------
    .. [1] Neverova et al. (2016), doi:10.1109/TPAMI.2015.2461544 (ModDrop)

    Examples
    --------
    >>> presence = Presence(["sentinel1", "smap"], rate=0.0)
    >>> high, coarse = torch.full((1, 1, 2, 2), float("nan")), torch.ones(1, 1)
    >>> (high, coarse), known = presence([high, coarse])
    >>> high.flatten().tolist(), coarse.tolist(), known.tolist()
    ([0.0, 0.0, 0.0, 0.0], [[1.0]], [[0.0, 1.0]])
    """

    members: torch.Tensor

    def __init__(self, sources: Sequence[str], *, rate: float):
        super().__init__()
        self.names = tuple(dict.fromkeys(sources))
        self.rate = rate
        members = [[float(source == name) for name in self.names] for source in sources]
        self.register_buffer("members", torch.tensor(members), persistent=False)
        self.stand_in = nn.Parameter(torch.zeros(len(sources)))

    def forward(
        self, groups: Sequence[torch.Tensor | None]
    ) -> tuple[list[torch.Tensor | None], torch.Tensor]:
        """The groups without NaN, and what is known, (B, source) of 0 and 1.

        Parameters
        ----------
        groups : tensors (B, channel, row, col) or (B, channel), or None; NaN is absent
        """
        found = [group for group in groups if group is not None]
        sums = [group.flatten(2).sum(2) if group.ndim == 4 else group for group in found]
        unknown = torch.cat(sums, dim=1).isnan().to(self.members.dtype)  # (B, channel)
        known = (unknown @ self.members) == 0  # (B, source)
        if self.training and self.rate:
            kept = known & (torch.rand(known.shape, device=known.device) >= self.rate)
            known = torch.where(kept.any(dim=1, keepdim=True), kept, known)
        flags = known.to(self.members.dtype)
        shown = (flags @ self.members.T) > 0  # (B, channel)
        filled: list[torch.Tensor | None] = []
        first = 0
        for group in groups:
            if group is None:
                filled.append(None)
                continue
            these = slice(first, first + group.shape[1])
            shape = (-1, group.shape[1], *(1,) * (group.ndim - 2))
            stand_in = self.stand_in[these].to(group.dtype).view(shape)
            filled.append(torch.where(shown[:, these].view(shape), group, stand_in))
            first += group.shape[1]
        return filled, flags


# Seed 001: two Xception encoders, two fusion heads, one soil moisture at the chip's centre.

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
        size = PRESETS[config.preset]
        self.config = config
        self.pool = POOLING[config.pooling]
        self.presence = self.high_encoder = self.low_encoder = self.head1 = self.head2 = None
        momentum = size.batch_norm_momentum
        how = {"drop_path_keep": size.drop_path_keep, "momentum": momentum}
        high, low = ENCODERS[config.encoder][config.preset]
        embedded = 0
        if config.source_dropout is not None:
            self.presence = Presence(config.sources, rate=config.source_dropout)
        if config.high_channels:
            channels = config.high_channels + config.low_channels * config.is_early
            self.high_encoder = build_encoder(channels, high, **how)
            embedded += high.out_channels
        if config.low_channels and not config.is_early:
            self.low_encoder = build_encoder(config.low_channels, low, **how)
            embedded += low.out_channels
        if embedded:
            entering = embedded + len(config.image_sources)
            self.head1 = fusion_head(entering, size.head1, keeps=size.head1_keep, momentum=momentum)
        if config.coarse:
            entering = config.coarse + bool(embedded) + len(set(config.sources))
            self.head2 = fusion_head(entering, size.head2, keeps=size.head2_keep, momentum=momentum)
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
    def preset(
        cls,
        name: str,
        *,
        high_channels: int = 0,
        low_channels: int = 0,
        coarse: int = 0,
        mean_label_m3_m3: float = 0.2,
    ) -> XceptionFusion:
        """A model of the size ``name``, "paper" or "small"."""
        config = FusionConfig(high_channels, low_channels, coarse, name)
        return cls(config, mean_label_m3_m3=mean_label_m3_m3)

    @classmethod
    def for_inputs(
        cls, inputs: Any, *, preset: str = "paper", mean_label_m3_m3: float = 0.2, **options: Any
    ) -> XceptionFusion:
        """A model of what ``datasets.Inputs`` names; ``options`` as in ``FusionConfig``.

        Examples
        --------
        >>> from soilkit.models.inputs import Inputs
        >>> model = XceptionFusion.for_inputs(Inputs(), preset="small", encoder="resnet")
        >>> model.config.high_channels, model.config.encoder
        (10, 'resnet')
        """
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
        try:
            model = cls(replace(FusionConfig(), **checkpoint.configuration))
            model.load_state_dict(checkpoint.weights)
        except (TypeError, RuntimeError) as error:
            raise CheckpointError(
                f"The checkpoint is no XceptionFusion (configuration {checkpoint.configuration}): "
                f"{error} Build the model of the system that wrote it."
            ) from error
        return model.eval()

    @property
    def configuration(self) -> dict[str, Any]:
        """The configuration as plain values, for a checkpoint; options at their default left out.

        A model without options is written as it was before there were any.
        """
        return self.config.plain()

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
        self._check(high=high, low=low, coarse=coarse)
        flags: list[torch.Tensor] = []  # (B, source), one tensor or none
        if self.presence is not None:
            (high, low, coarse), known = self.presence([high, low, coarse])
            flags = [known]
        if self.config.is_early:
            assert high is not None and low is not None
            high, low = torch.cat([high, enlarge(low, size_px=high.shape[-1])], dim=1), None
        parts = [
            self.pool(encoder(align(images) if self.config.is_aligned else images))
            for encoder, images in ((self.high_encoder, high), (self.low_encoder, low))
            if encoder is not None and images is not None
        ]
        if self.head1 is not None:
            seen = [known[:, : len(self.config.image_sources)] for known in flags]
            parts = [self.head1(torch.cat([*parts, *seen], dim=1))]  # (B, 1)
        if self.head2 is not None:
            assert coarse is not None
            parts = [self.head2(torch.cat([*parts, coarse, *flags], dim=1))]
        return parts[0].squeeze(1)

    def example(self, *, crop_px: int = 256) -> dict[str, torch.Tensor]:
        """Inputs of one sample by name, without numbers: what ``size_table`` counts over.

        Raises
        ------
        ContractError
            When the crop is no whole number of 160 m pixels.
        """
        if crop_px < 1 or crop_px % PIXEL_RATIO:
            raise ContractError(
                f"A crop of {crop_px} pixels is no whole number of 160 m pixels. Choose a multiple "
                f"of {PIXEL_RATIO}, such as 256."
            )
        config, low_px = self.config, crop_px // PIXEL_RATIO
        shapes = {
            "high": (config.high_channels, crop_px, crop_px),
            "low": (config.low_channels, low_px, low_px),
            "coarse": (config.coarse,),
        }
        return {n: torch.empty(1, *s, device="meta") for n, s in shapes.items() if s[0]}

    def _check(self, **inputs: torch.Tensor | None) -> None:
        wanted = (self.config.high_channels, self.config.low_channels, self.config.coarse)
        for channels, (name, value) in zip(wanted, inputs.items(), strict=True):
            found = 0 if value is None else value.shape[1]
            if found != channels:
                raise ContractError(
                    f"The model was built for {channels} {name} channels and was handed {found}. "
                    "Build it for the dataset's inputs, or feed the ones it was built for."
                )


# A batch of the fusion model: high, low and coarse where they are fed, and moisture.


def look(model: Any, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The model's answer and what was observed, (B,) m3 m-3; None where the batch tells none."""
    return model(**{n: t for n, t in batch.items() if n != "moisture"}), batch.get("moisture")


def step_by(loss: losses.Loss) -> Callable[[Any, Mapping[str, torch.Tensor]], torch.Tensor]:
    """The step that ``training.fit`` takes: the loss of a batch in float32."""

    def step(model, batch):
        return loss(look(model, batch)[0].float(), batch["moisture"])

    return step


# How large a model is and how much it computes, without computing anything.


def count_parameters(model: nn.Module) -> int:
    """How many numbers training adjusts.

    Examples
    --------
    >>> count_parameters(nn.Linear(3, 2))
    8
    """
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def count_flops(model: XceptionFusion, *, crop_px: int = 256) -> int:
    """Floating-point operations of one sample's forward pass, a multiplication and an addition = 2.

    Convolutions and linear layers count; norms, activations and pooling, a few percent, do not. A
    training step costs about three times as much a sample.

    Parameters
    ----------
    model : XceptionFusion
    crop_px : int, pixels of 10 m a side

    Raises
    ------
    ContractError
        When the crop is no whole number of 160 m pixels.
    """
    return int(size_table(model, model.example(crop_px=crop_px))["flops"].iloc[-1])


def size_table(model: nn.Module, example: Mapping[str, torch.Tensor]) -> pd.DataFrame:
    """Parameters and FLOPs of each part of a model, and in all.

    Parameters
    ----------
    model : module
    example : what its forward pass takes by name, such as ``XceptionFusion.example()``

    Returns
    -------
    DataFrame with part ("high_encoder", ..., "total"), parameters, flops (as ``count_flops``)
    """
    bare = copy.deepcopy(model).to("meta").eval()  # shapes without numbers
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        bare(**{name: tensor.to("meta") for name, tensor in example.items()})
    counts = counter.get_flop_counts()
    name = type(bare).__name__
    rows = [
        (part, count_parameters(module), sum(counts.get(f"{name}.{part}", {}).values()))
        for part, module in bare.named_children()
    ]
    rows.append(("total", count_parameters(bare), counter.get_total_flops()))
    return pd.DataFrame(rows, columns=["part", "parameters", "flops"])

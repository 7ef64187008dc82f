"""What a fusion model eats and how, its heads, and low resolution brought to high."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from soilkit.errors import ContractError, UnknownNameError
from soilkit.models.presets import ENCODERS, PRESETS
from soilkit.models.xception import BATCH_NORM_EPSILON, POOLING

LOW_PIXEL_RATIO = 16  # a 160 m pixel is 16 pixels of 10 m
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
        low, scale_factor=LOW_PIXEL_RATIO, mode="bilinear", align_corners=False
    )
    edge = (fine.shape[-1] - size_px) // 2
    return fine[..., edge : edge + size_px, edge : edge + size_px]


def align(images: torch.Tensor) -> torch.Tensor:
    """Images with their last row and column repeated: strided convolutions then keep the centre.

    (B, channel, row, col) -> (B, channel, row + 1, col + 1)
    """
    return functional.pad(images, (0, 1, 0, 1), mode="replicate")

"""Seed 001: two Xception encoders, two fusion heads, one soil moisture at the chip's centre."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn

from soilkit.errors import CheckpointError, ContractError, UnknownNameError
from soilkit.models.xception import (
    BATCH_NORM_EPSILON,
    XCEPTION_41,
    XCEPTION_65,
    XCEPTION_STEM,
    Block,
    EncoderTable,
    Stem,
    XceptionEncoder,
    pool_center,
)

OUTPUT_SPREAD_M3_M3 = 0.1  # how far an untrained model's output strays from the mean label


@dataclass(frozen=True)
class Preset:
    """All that a model's size hangs on: encoder tables, heads and their keep probabilities."""

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


@dataclass(frozen=True)
class FusionConfig:
    """What a model eats: channels of each encoder (0 = no such encoder), coarse scalars, preset."""

    high_channels: int = 0
    low_channels: int = 0
    coarse: int = 0
    preset: str = "paper"


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


class XceptionFusion(nn.Module):
    """Soil moisture at a chip's centre from images, soil maps and coarse products [1]_.

    Embeddings of the two encoders, pooled around the centre, meet in head 1; its one output meets
    the coarse scalars in head 2. A model without coarse scalars ends at head 1; one without images
    is head 2 on the scalars alone. The output is not bounded, as in the paper.

    Parameters
    ----------
    config : FusionConfig
    mean_label_m3_m3 : float, m3 m-3
        The output before any training: the training set's mean label saves the first epochs.

    Raises
    ------
    ContractError
        When nothing is left to eat.
    UnknownNameError
        For a preset that does not exist.

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
        size = _preset(config)
        self.config = config
        keep, momentum = size.drop_path_keep, size.batch_norm_momentum
        self.high_encoder = self.low_encoder = self.head1 = self.head2 = None
        embedded = 0
        if config.high_channels:
            self.high_encoder = XceptionEncoder(
                config.high_channels, size.high, drop_path_keep=keep, momentum=momentum
            )
            embedded += size.high.out_channels
        if config.low_channels:
            self.low_encoder = XceptionEncoder(
                config.low_channels, size.low, drop_path_keep=keep, momentum=momentum
            )
            embedded += size.low.out_channels
        if embedded:
            self.head1 = fusion_head(embedded, size.head1, keeps=size.head1_keep, momentum=momentum)
        if config.coarse:
            entering = config.coarse + bool(embedded)
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
        """The configuration as plain values, for a checkpoint."""
        return asdict(self.config)

    def forward(
        self,
        high: torch.Tensor | None,
        low: torch.Tensor | None = None,
        coarse: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Soil moisture at the centre, (B,) m3 m-3.

        Parameters
        ----------
        high : tensor (B, high_channels, 256, 256) or None, normalised
        low : tensor (B, low_channels, 16, 16) or None, normalised
        coarse : tensor (B, coarse) or None, normalised

        Raises
        ------
        ContractError
            When an input is missing, has other channels, or was not foreseen.
        """
        self._check(high=high, low=low, coarse=coarse)
        embeddings = [
            pool_center(encoder(images))
            for encoder, images in ((self.high_encoder, high), (self.low_encoder, low))
            if encoder is not None
        ]
        out = coarse
        if self.head1 is not None:
            out = self.head1(torch.cat(embeddings, dim=1))  # (B, 1)
            if coarse is not None:
                out = torch.cat([out, coarse], dim=1)  # (B, 1 + coarse)
        if self.head2 is not None:
            out = self.head2(out)
        assert out is not None
        return out.squeeze(1)

    def _check(self, **inputs: torch.Tensor | None) -> None:
        wanted = (self.config.high_channels, self.config.low_channels, self.config.coarse)
        for channels, (name, value) in zip(wanted, inputs.items(), strict=True):
            found = 0 if value is None else value.shape[1]
            if found != channels:
                raise ContractError(
                    f"The model was built for {channels} {name} channels and was handed {found}. "
                    "Build it for the dataset's inputs, or feed the ones it was built for."
                )


def _preset(config: FusionConfig) -> Preset:
    if config.preset not in PRESETS:
        raise UnknownNameError(
            f"No preset {config.preset!r}; there are {', '.join(PRESETS)}. Name one of them."
        )
    if not (config.high_channels or config.low_channels or config.coarse):
        raise ContractError(
            "The model has no input: high_channels, low_channels and coarse are all 0. "
            "Set at least one of them."
        )
    return PRESETS[config.preset]

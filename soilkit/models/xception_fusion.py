"""Seed 001: two Xception encoders, two fusion heads, one soil moisture at the chip's centre."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from soilkit.errors import CheckpointError, ContractError
from soilkit.models.fusion import FusionConfig, align, enlarge, fusion_head
from soilkit.models.presence import Presence
from soilkit.models.presets import ENCODERS, PRESETS, build_encoder
from soilkit.models.xception import POOLING

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
        >>> from soilkit.datasets import Inputs
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

    def _check(self, **inputs: torch.Tensor | None) -> None:
        wanted = (self.config.high_channels, self.config.low_channels, self.config.coarse)
        for channels, (name, value) in zip(wanted, inputs.items(), strict=True):
            found = 0 if value is None else value.shape[1]
            if found != channels:
                raise ContractError(
                    f"The model was built for {channels} {name} channels and was handed {found}. "
                    "Build it for the dataset's inputs, or feed the ones it was built for."
                )

"""A small U-Net at 1 km, its means at 9 km, and the loss that both scales share."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from soilkit.errors import ContractError, UnknownNameError
from soilkit.models import training
from soilkit.models.datasets import CELL_PX

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"widths": (8, 8, 16, 24, 24), "scored_px": 252, "margin_px": 2},
    "small": {"widths": (8, 8, 16, 16), "scored_px": 72, "margin_px": 8},
}


@dataclass(frozen=True)
class CompositeConfig:
    """What a model eats and its size.

    ``widths`` of its levels, each half as fine as the last. Patches are ``scored_px`` [1 km] on a
    side, whole cells of 9 km, and a margin all round that is seen and not scored. ``over_ridge``
    adds the network to a line of the channels.
    """

    channels: int = 13
    widths: tuple[int, ...] = PRESETS["paper"]["widths"]
    scored_px: int = 252
    margin_px: int = 2
    over_ridge: bool = False

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

    Over a ridge (ours, decision 021), slopes by channel are added that ``train`` fits to its
    stations and does not train further: where the network knows nothing it leaves a line.

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

    slopes: torch.Tensor

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
        if config.over_ridge:
            self.register_buffer("slopes", torch.zeros(config.channels))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, a=LEAK)
        nn.init.normal_(self.last.weight, std=0.0 if config.over_ridge else 0.01)
        nn.init.constant_(self.last.bias, mean_label_m3_m3)  # type: ignore[arg-type]

    @classmethod
    def preset(
        cls, name: str, *, channels: int = 13, mean_label_m3_m3: float = 0.2,
        over_ridge: bool = False,
    ) -> "CompositeUNet":  # fmt: skip
        """A model of the size ``name``; ``UnknownNameError`` for one that does not exist."""
        if name not in PRESETS:
            raise UnknownNameError(f"No preset {name!r}; there are {', '.join(PRESETS)}. Name one.")
        config = CompositeConfig(channels, over_ridge=over_ridge, **PRESETS[name])
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
        fine = self.last(deep)[:, 0]
        if self.config.over_ridge:
            fine = fine + torch.einsum("bcyx,c->byx", images, self.slopes)
        fine = fine[:, margin : height - margin, margin : width - margin]
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

"""How far encoders see, and what overlapping windows share because of it.

A feature far enough from a window's border is the same in every window over its place. An encoder's
first layers see so little that most of their features are shared, exactly; all its layers together
see further than a window is wide, so that features shared over a scene differ from the windows' own
where those see padding and the scene goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from soilkit.constants import CROP_PX
from soilkit.models.encoders import Encoder

SEEING = nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d
EDGE_PX = 16  # layers are shared between windows while their edge, made anew, is no wider
EARLY_RADIUS_PX = 64  # the layers that run tile by tile: they hold the largest features
TILE_PX = 512  # of a tile's features none is larger than what an allocator keeps


@dataclass(frozen=True)
class ReceptiveField:
    """What one feature sees: ``radius_px`` about its centre; centres ``stride_px`` apart."""

    stride_px: int
    radius_px: int

    @property
    def edge(self) -> int:
        """How many features from a northern or western border see across it.

        From the others, which begin a stride further from their features, ``radius // stride`` do.
        """
        return -(-self.radius_px // self.stride_px)

    @property
    def edge_px(self) -> int:
        """The edge in pixels, a whole number of strides."""
        return self.edge * self.stride_px


def receptive_field(layers: Iterable[nn.Module]) -> ReceptiveField:
    """The receptive field of convolutions and maxima in a row, each padded by half its kernel.

    Means are not padded: one sees its kernel to the south and east of where it begins.

    r = sum over layers of d (k - 1) / 2 * (the strides before), with kernel k and dilation d [1]_.
    Skips see no more than the branch beside them.

    References
    ----------
    .. [1] Araujo et al. (2019), doi:10.23915/distill.00021

    Examples
    --------
    >>> receptive_field([nn.Conv2d(3, 8, 5, stride=4, padding=2), nn.Conv2d(8, 8, 3, padding=1)])
    ReceptiveField(stride_px=4, radius_px=6)
    """
    stride, radius = 1, 0
    for layer in layers:
        for name, part in layer.named_modules():
            if isinstance(part, SEEING) and not name.startswith("skip"):
                dilation = getattr(part, "dilation", 1)
                kernel, dilation, step = map(_side, (part.kernel_size, dilation, part.stride))
                reach = (
                    kernel - 1 if isinstance(part, nn.AvgPool2d) else dilation * (kernel - 1) // 2
                )
                radius += reach * stride
                stride *= step
    return ReceptiveField(stride, radius)


def dense_reach_px(model: Any) -> int:
    """How far beyond its windows a dense map of a fusion model looks, pixels of 10 m."""
    high = model.encoders.get("high")
    return 0 if high is None else receptive_field(high.layers).edge_px


def window_px(model: Any) -> int:
    """The side of what a model was trained on, pixels of 10 m; the paper's where it tells none."""
    return getattr(getattr(model, "config", None), "crop_px", CROP_PX)


def _side(size: Any) -> int:
    return size[0] if isinstance(size, tuple) else size


def split(
    encoder: Encoder, fits: Callable[[ReceptiveField], bool]
) -> tuple[Encoder, Encoder] | None:
    """The longest beginning of an encoder whose receptive field fits, and what follows it.

    Both share the encoder's weights; None where nothing fits.
    """
    layers = list(encoder.layers)
    fitting = [n for n in range(1, len(layers)) if fits(receptive_field(layers[:n]))]
    if not fitting:
        return None
    parts = layers[: fitting[-1]], layers[fitting[-1] :]
    first, last = (type(encoder)(part, out_channels=encoder.out_channels) for part in parts)
    return first, last


def stacked(image: torch.Tensor, lefts: Sequence[int], *, width: int) -> torch.Tensor:
    """Parts of an image by their first columns, (1, C, row, col) -> (n, C, row, width)."""
    pixels = image[0].permute(1, 2, 0)  # (row, col, C)
    return torch.stack([pixels[:, left : left + width] for left in lefts]).permute(0, 3, 1, 2)


class Windows:
    """Windows of an image: what an encoder's first layers say of each, exactly.

    They run once over the image. Only what lies at a window's four sides, where the window sees
    padding and the image goes on, is made anew: the columns of its left and right for all windows
    above one another at once, the rows of its top and bottom for all windows beside one another.

    Parameters
    ----------
    first : Encoder, the layers
    image : tensor (1, C, row, col)
    lefts : first columns of the windows, pixels
    side_px : of a window, a whole number of features
    """

    def __init__(self, first: Encoder, image: torch.Tensor, *, lefts: Sequence[int], side_px: int):
        self.first, self.lefts, self.side_px = first, lefts, side_px
        field = receptive_field(first.layers)
        self.stride, self.begin = field.stride_px, field.edge
        self.end = field.radius_px // self.stride
        self.width = (self.begin + self.end) * self.stride  # features enough that some see no cut
        starts = [*lefts, *(left + side_px - self.width for left in lefts)]
        sides = stacked(image, starts, width=self.width)
        self.sheets = [(part, first(part)) for part in (image, sides)]

    def row(self, top: int, columns: Sequence[int]) -> torch.Tensor:
        """Features (window, c, side / s, side / s) of the windows from a row, in some columns.

        ``columns`` count along ``lefts``.
        """
        whole, sides = (self._strip(*sheet, top=top) for sheet in self.sheets)
        n, side = len(self.lefts), self.side_px // self.stride
        lefts = [self.lefts[k] // self.stride for k in columns]
        features = stacked(whole, lefts, width=side)
        features[..., : self.begin] = sides[columns, ..., : self.begin]
        features[..., side - self.end :] = sides[[n + k for k in columns], ..., self.begin :]
        return features

    def _strip(self, image: torch.Tensor, features: torch.Tensor, *, top: int) -> torch.Tensor:
        """Features of the rows of pixels from the top of a window to its bottom."""
        side, bottom = self.side_px // self.stride, top + self.side_px
        strip = features[..., top // self.stride : top // self.stride + side, :].clone()
        above, below = (
            self.first(image[..., start : start + self.width, :])
            for start in (top, bottom - self.width)
        )
        strip[..., : self.begin, :] = above[..., : self.begin, :]
        strip[..., side - self.end :, :] = below[..., self.begin :, :]
        return strip


class DenseEncoder:
    """An encoder once over a large image, its first layers tile by tile with what they see around.

    Parameters
    ----------
    encoder : Encoder
    """

    def __init__(self, encoder: Encoder):
        self.field = receptive_field(encoder.layers)
        parts = split(encoder, lambda field: field.radius_px <= EARLY_RADIUS_PX)
        self.early: Encoder | None = parts[0] if parts else None
        self.late: Encoder = parts[1] if parts else encoder

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Features (1, c, row / s, col / s) of an image (1, C, row, col)."""
        return self.late(image if self.early is None else in_tiles(self.early, image))


def in_tiles(encoder: Encoder, image: torch.Tensor) -> torch.Tensor:
    """What an encoder says of an image, (1, C, row, col) -> (1, c, row / s, col / s), tile by tile.

    Each tile is cut with all that its features see, so that none knows of its tile.
    """
    field = receptive_field(encoder.layers)
    stride, edge_px, sides = field.stride_px, field.edge_px, image.shape[-2:]
    corners = [
        (top, left) for top in range(0, sides[0], TILE_PX) for left in range(0, sides[1], TILE_PX)
    ]
    features: torch.Tensor | None = None
    for corner in corners:
        starts = [max(at - edge_px, 0) for at in corner]
        around = tuple(
            slice(a, at + TILE_PX + edge_px) for a, at in zip(starts, corner, strict=True)
        )
        tile = encoder(image[..., around[0], around[1]])
        row, col = ((at - a) // stride for a, at in zip(starts, corner, strict=True))
        n = TILE_PX // stride
        tile = tile[..., row : row + n, col : col + n]
        if features is None:
            shape = [1, tile.shape[1], *(-(-side // stride) for side in sides)]
            features = tile.new_empty(shape).contiguous(memory_format=torch.channels_last)
        row, col = (at // stride for at in corner)
        features[..., row : row + tile.shape[-2], col : col + tile.shape[-1]] = tile
    assert features is not None
    return features


def pooled(
    features: torch.Tensor, pool: Callable[[torch.Tensor], torch.Tensor], *, side: int, step: int
) -> torch.Tensor:
    """The pooling of every square of features, as a convolution.

    Parameters
    ----------
    features : tensor (1, depth, row, col)
    pool : linear, (B, depth, side, side) -> (B, depth), alike for each depth
    side, step : int, features

    Returns
    -------
    tensor (row, col, depth) of the squares that start every ``step`` features
    """
    each = torch.eye(side * side).reshape(-1, 1, side, side)  # a square for each of its features
    weights = pool(each).reshape(1, 1, side, side).to(features)
    maps = functional.conv2d(features.transpose(0, 1), weights, stride=step)  # (depth, 1, row, col)
    return maps[:, 0].permute(1, 2, 0)

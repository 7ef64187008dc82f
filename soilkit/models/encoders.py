"""Image encoders, modified aligned Xception, ResNet and MobileNet-V2; what stands before them."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from soilkit.constants import PIXEL_RATIO

MIN_DEPTH = 8  # a depth multiplier never leaves fewer channels than this
BATCH_NORM_EPSILON = 1e-3


class Encoder(nn.Module):
    """Images to features, (B, channels, row, col) -> (B, out_channels, row / s, col / s)."""

    def __init__(self, layers: Iterable[nn.Module], *, out_channels: int):
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.out_channels = out_channels
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features of images."""
        return self.layers(images.contiguous(memory_format=torch.channels_last))


class Residual(nn.Module):
    """y = skip(x) + branch(x) d / keep, with d ~ Bernoulli(keep) per sample in training [1]_.

    Drop path, or stochastic depth; d / keep = 1 otherwise. Without a skip y = branch(x). An
    encoder's block l of L has keep = 1 - (l / L) (1 - ``drop_path_keep``), the rule of linear
    decay, because the first blocks feed all later ones.

    References
    ----------
    .. [1] Huang et al. (2016), doi:10.1007/978-3-319-46493-0_39
    """

    def __init__(
        self, branch: nn.Module, skip: nn.Module | None, *, keep: float, is_rectified: bool = False
    ):
        super().__init__()
        self.branch, self.skip, self.keep, self.is_rectified = branch, skip, keep, is_rectified

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add the branch to the skip, where there is one."""
        branch = self.branch(x)
        if self.skip is None:
            return branch
        if self.training and self.keep < 1:
            kept = torch.rand(len(branch), 1, 1, 1, device=branch.device) < self.keep
            branch = branch * (kept.to(branch.dtype) / self.keep)
        whole = self.skip(x) + branch
        return torch.relu(whole) if self.is_rectified else whole


def scaled(channels: int, multiplier: float) -> int:
    """Channels after a depth multiplier, never fewer than ``MIN_DEPTH``."""
    return max(round(channels * multiplier), MIN_DEPTH)


def conv_norm(
    channels: int, depth: int, *, momentum: float, kernel: int = 1, dilation: int = 1, **more: int
) -> list[nn.Module]:
    """A convolution that keeps the size but for its stride, and its batch norm."""
    around: dict[str, Any] = {"padding": dilation * (kernel // 2), "dilation": dilation, **more}
    conv = nn.Conv2d(channels, depth, kernel, bias=False, **around)
    return [conv, nn.BatchNorm2d(depth, eps=BATCH_NORM_EPSILON, momentum=momentum)]


def plan(
    strides: Iterable[int], *, reached: int, output_stride: int = 32, drop_path_keep: float
) -> Iterator[tuple[int, int, float]]:
    """Stride, dilation and keep of each block: strides past the output stride become dilation.

    ``reached`` is the stride of what comes before the blocks.

    Examples
    --------
    >>> list(plan([2, 2, 1], reached=8, output_stride=16, drop_path_keep=1.0))
    [(2, 1, 1.0), (1, 1, 1.0), (1, 2, 1.0)]
    """
    strides, dilation = list(strides), 1
    for n, stride in enumerate(strides, start=1):
        keep = 1 - (n / len(strides)) * (1 - drop_path_keep)
        if reached < output_stride:
            reached *= stride
            yield stride, dilation, keep
        else:
            yield 1, dilation, keep
            dilation *= stride


# Xception, as DeepLab v3+ modified it.


@dataclass(frozen=True)
class Block:
    """One row of the table: three separable convolutions and what goes around them.

    ``skip`` is "conv" (1x1 convolution and batch norm), "sum" (identity) or "none"; the last of the
    three convolutions carries ``stride``; ``inner_activation`` puts a ReLU after every batch norm
    instead of one before every separable convolution; ``repeat`` stacks the row.
    """

    depths: tuple[int, int, int]
    skip: str
    stride: int
    repeat: int = 1
    inner_activation: bool = False


XCEPTION_STEM = ((32, 3, 2), (64, 3, 1))  # (depth, kernel, stride)
ENTRY_FLOW = (
    Block((128, 128, 128), skip="conv", stride=2),
    Block((256, 256, 256), skip="conv", stride=2),
    Block((728, 728, 728), skip="conv", stride=2),
)
EXIT_FLOW = (
    Block((728, 1024, 1024), skip="conv", stride=2),
    Block((1536, 1536, 2048), skip="none", stride=1, inner_activation=True),
)
XCEPTION_65 = (*ENTRY_FLOW, Block((728, 728, 728), skip="sum", stride=1, repeat=16), *EXIT_FLOW)
XCEPTION_41 = (*ENTRY_FLOW, Block((728, 728, 728), skip="sum", stride=1, repeat=8), *EXIT_FLOW)
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


class SeparableConv(nn.Module):
    """Depthwise 3x3 and pointwise 1x1 convolution, a batch norm after each [1]_.

    (B, channels, row, col) -> (B, depth, row / stride, col / stride).

    References
    ----------
    .. [1] Chen et al. (2018), doi:10.1007/978-3-030-01234-2_49, section 3.2 and Fig. 4
    """

    def __init__(self, channels, depth, *, stride, dilation, inner_activation, momentum):
        super().__init__()
        around = {"kernel": 3, "stride": stride, "dilation": dilation, "groups": channels}
        pair = conv_norm(channels, channels, momentum=momentum, **around)
        self.depthwise, self.depthwise_norm = pair
        self.pointwise, self.pointwise_norm = conv_norm(channels, depth, momentum=momentum)
        self.inner_activation = inner_activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Filter each channel in space, then mix the channels."""
        if not self.inner_activation:
            x = torch.relu(x)
        x = self.depthwise_norm(self.depthwise(x))
        if self.inner_activation:
            x = torch.relu(x)
        x = self.pointwise_norm(self.pointwise(x))
        return torch.relu(x) if self.inner_activation else x


def xception(
    channels: int, *, stem: Iterable[tuple[int, int, int]], blocks: Iterable[Block],
    depth_multiplier: float = 1.0, momentum: float, **strides: Any,
) -> Encoder:  # fmt: skip
    """Chollet's Xception [1]_ as modified by DeepLab v3+ [2]_.

    Strided separable convolutions instead of pooling, a batch norm after every depthwise one.
    ``strides`` are ``output_stride`` and ``drop_path_keep`` of ``plan``, here and below.

    References
    ----------
    .. [1] Chollet (2017), doi:10.1109/CVPR.2017.195
    .. [2] Chen et al. (2018), doi:10.1007/978-3-030-01234-2_49
    """
    layers: list[nn.Module] = []
    for depth, kernel, stride in stem:
        depth = scaled(depth, depth_multiplier)
        layers += conv_norm(channels, depth, kernel=kernel, stride=stride, momentum=momentum)
        layers.append(nn.ReLU())
        channels = depth
    rows = [row for row in blocks for _ in range(row.repeat)]
    reached = math.prod(stride for _, _, stride in stem)
    steps = plan([row.stride for row in rows], reached=reached, **strides)
    for row, (stride, dilation, keep) in zip(rows, steps, strict=True):
        widths = (channels, *(scaled(depth, depth_multiplier) for depth in row.depths))
        options = {"momentum": momentum, "dilation": dilation}
        options["inner_activation"] = row.inner_activation
        branch = [
            SeparableConv(widths[i], widths[i + 1], stride=stride if i == 2 else 1, **options)
            for i in range(3)
        ]
        skip: nn.Module | None = nn.Identity() if row.skip == "sum" else None
        if row.skip == "conv":
            skip = nn.Sequential(*conv_norm(channels, widths[-1], stride=stride, momentum=momentum))
        layers.append(Residual(nn.Sequential(*branch), skip, keep=keep))
        channels = widths[-1]
    return Encoder(layers, out_channels=channels)


# Residual networks of 18 and 50 layers: the plain alternative.

RESNET_18 = ((64, 2), (128, 2), (256, 2), (512, 2))  # (depth, blocks) of each stage
RESNET_50 = ((64, 3), (128, 4), (256, 6), (512, 3))
BOTTLENECK = 4  # a bottleneck block ends in four times the channels of its 3x3 convolution


def resnet(
    channels: int, *, stages: Iterable[tuple[int, int]], bottleneck: bool,
    depth_multiplier: float = 1.0, momentum: float, **strides: Any,
) -> Encoder:  # fmt: skip
    """A 7x7 convolution and a maximum, both strided, then stages of residual blocks [1]_.

    Every stage after the first is strided by 2, on the (first) 3x3 convolution; the skip is a 1x1
    convolution and batch norm where the shape changes.

    References
    ----------
    .. [1] He et al. (2016), doi:10.1109/CVPR.2016.90
    """
    width = scaled(64, depth_multiplier)
    layers = conv_norm(channels, width, kernel=7, stride=2, momentum=momentum)
    layers += [nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1)]
    rows = [
        (depth, 2 if i and not k else 1) for i, (depth, n) in enumerate(stages) for k in range(n)
    ]
    steps = plan([stride for _, stride in rows], reached=4, **strides)
    for (depth, _), (stride, dilation, keep) in zip(rows, steps, strict=True):
        depth = scaled(depth, depth_multiplier)
        out = depth * (BOTTLENECK if bottleneck else 1)
        norm = partial(conv_norm, momentum=momentum)
        strided = partial(norm, depth=depth, kernel=3, stride=stride, dilation=dilation)
        if bottleneck:
            branch = [*norm(width, depth), nn.ReLU(), *strided(depth), nn.ReLU()]
            branch += norm(depth, out)
        else:
            branch = [*strided(width), nn.ReLU()]
            branch += norm(depth, depth, kernel=3, dilation=dilation)
        skip: nn.Module = nn.Identity()
        if stride > 1 or width != out:
            # Thinned out first: torch 2.13's gradient of a strided 1x1 convolution from 8 to 16
            # channels (channels-last, on the CPU) writes past its memory.
            skip = nn.Sequential(nn.MaxPool2d(1, stride), *norm(width, out))
        layers.append(Residual(nn.Sequential(*branch), skip, keep=keep, is_rectified=True))
        width = out
    return Encoder(layers, out_channels=width)


# MobileNet-V2: inverted residuals, the cheapest alternative.

MOBILENET_V2 = (  # (expansion, depth, repeats, stride)
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
    (6, 320, 1, 1),
)  # fmt: skip


def mobilenet(
    channels: int, *, depth_multiplier: float = 1.0, momentum: float, **strides: Any
) -> Encoder:
    """Inverted residuals: widen by 1x1, filter each channel by 3x3, narrow without activation [1]_.

    The last 1x1 convolution shrinks with the depth multiplier too, unlike the original's, which
    kept it wide for a thousand classes.

    References
    ----------
    .. [1] Sandler et al. (2018), doi:10.1109/CVPR.2018.00474
    """
    norm = partial(conv_norm, momentum=momentum)
    width, last = (scaled(depth, depth_multiplier) for depth in (32, 1280))
    layers = [*norm(channels, width, kernel=3, stride=2), nn.ReLU6()]
    rows = [
        (expansion, depth, stride if k == 0 else 1)
        for expansion, depth, repeats, stride in MOBILENET_V2
        for k in range(repeats)
    ]
    steps = plan([stride for _, _, stride in rows], reached=2, **strides)
    for (expansion, depth, _), (stride, dilation, keep) in zip(rows, steps, strict=True):
        depth, wide = scaled(depth, depth_multiplier), width * expansion
        branch = [*norm(width, wide), nn.ReLU6()] if expansion > 1 else []
        branch += norm(wide, wide, kernel=3, stride=stride, dilation=dilation, groups=wide)
        branch += [nn.ReLU6(), *norm(wide, depth)]
        skip = nn.Identity() if stride == 1 and width == depth else None
        layers.append(Residual(nn.Sequential(*branch), skip, keep=keep))
        width = depth
    return Encoder([*layers, *norm(width, last), nn.ReLU6()], out_channels=last)


LOCAL_WIDTHS = (64, 32)


def local(channels: int, *, side: int, momentum: float, **_: float) -> Encoder:
    """The means over squares of ``side`` pixels, 320 m, and a network on each square alone.

    What a probe of some centimetres tells of 2.56 km is little and of its own field much: from few
    stations such a model learns more than one that may look anywhere (``reports/maps``). Trained on
    crops of one square, 32 pixels of 10 m, it answers for that square; ``side`` is of an image's
    own pixels: 32 of 10 m, 2 of 160 m.
    """
    layers: list[nn.Module] = [nn.AvgPool2d(side)]
    for width in LOCAL_WIDTHS:
        layers += [*conv_norm(channels, width, momentum=momentum), nn.SiLU()]
        channels = width
    return Encoder(layers, out_channels=channels)


# (high, low) by encoder and preset, each called with channels, drop_path_keep and momentum. The
# paper gives Xception's tables (Table 7) but neither the depth multiplier of the low-resolution
# one (a quarter is our choice) nor sizes for the alternatives: the usual 50 layers, the usual
# width and the same quarter are our choice. The small ones have about as many weights each.
Build = Callable[..., Encoder]
_XCEPTION = partial(xception, stem=XCEPTION_STEM)
_RESNET_50 = partial(resnet, stages=RESNET_50, bottleneck=True)
_RESNET_18 = partial(resnet, stages=RESNET_18, bottleneck=False, depth_multiplier=0.125)
_LOCAL = partial(local, side=32)
ENCODERS: dict[str, dict[str, tuple[Build, Build]]] = {
    "xception": {
        "paper": (
            partial(_XCEPTION, blocks=XCEPTION_65, output_stride=32),
            partial(_XCEPTION, blocks=XCEPTION_41, output_stride=16, depth_multiplier=0.25),
        ),
        "small": (
            partial(xception, stem=((16, 5, 4),), blocks=SMALL_HIGH, output_stride=32),
            partial(xception, stem=((16, 3, 2),), blocks=SMALL_LOW, output_stride=16),
        ),
    },
    "resnet": {
        "paper": (_RESNET_50, partial(_RESNET_50, output_stride=16, depth_multiplier=0.25)),
        "small": (_RESNET_18, partial(_RESNET_18, output_stride=16)),
    },
    "mobilenet": {
        "paper": (mobilenet, partial(mobilenet, output_stride=16, depth_multiplier=0.25)),
        "small": (
            partial(mobilenet, depth_multiplier=0.25),
            partial(mobilenet, output_stride=16, depth_multiplier=0.125),
        ),
    },
    "local": dict.fromkeys(("paper", "small"), (_LOCAL, partial(local, side=32 // PIXEL_RATIO))),
}

# What stands before the encoders: images of one size, and sources that may be absent.


def enlarge(low: torch.Tensor, *, shape: Sequence[int]) -> torch.Tensor:
    """Low-resolution images at the high ones' 10 m, bilinear, the same ground about the centre.

    (B, channel, row, col) -> (B, channel, *shape)
    """
    fine = functional.interpolate(
        low, scale_factor=PIXEL_RATIO, mode="bilinear", align_corners=False
    )
    top, left = ((have - want) // 2 for have, want in zip(fine.shape[-2:], shape, strict=True))
    return fine[..., top : top + shape[0], left : left + shape[1]]


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
    """

    members: torch.Tensor

    def __init__(self, sources: Sequence[str], *, rate: float):
        super().__init__()
        self.names = tuple(dict.fromkeys(sources))
        self.rate = rate
        members = [[float(source == name) for name in self.names] for source in sources]
        self.register_buffer("members", torch.tensor(members), persistent=False)
        self.stand_in = nn.Parameter(torch.zeros(len(sources)))

    def forward(self, groups: Sequence[torch.Tensor]) -> tuple[list[torch.Tensor], torch.Tensor]:
        """The groups without NaN, and what is known, (B, source) of 0 and 1.

        Parameters
        ----------
        groups : tensors (B, channel, row, col) or (B, channel); NaN is absent
        """
        sums = [group.flatten(2).sum(2) if group.ndim == 4 else group for group in groups]
        unknown = torch.cat(sums, dim=1).isnan().to(self.members.dtype)  # (B, channel)
        known = (unknown @ self.members) == 0  # (B, source)
        if self.training and self.rate:
            kept = known & (torch.rand(known.shape, device=known.device) >= self.rate)
            known = torch.where(kept.any(dim=1, keepdim=True), kept, known)
        flags = known.to(self.members.dtype)
        shown = (flags @ self.members.T) > 0  # (B, channel)
        sizes = [group.shape[1] for group in groups]
        parts = zip(groups, shown.split(sizes, dim=1), self.stand_in.split(sizes), strict=True)
        filled = []
        for group, is_shown, stand_in in parts:
            shape = (-1, group.shape[1], *(1,) * (group.ndim - 2))
            value = stand_in.to(group.dtype).view(shape)
            filled.append(torch.where(is_shown.view(shape), group, value))
        return filled, flags


# Pooling of features to an embedding.

SIGMA_FRACTION = 0.25  # of the side, 640 m of 2,560 m: the paper draws weights without numbers


def center_weights(height: int, width: int) -> torch.Tensor:
    """Gaussian weights around the centre that sum to 1, shape (row, col), as in Fig. 9.

    w ~ exp(-((r / (s height))^2 + (c / (s width))^2) / 2), with r and c the distance from the
    centre in cells and s = ``SIGMA_FRACTION``.

    Examples
    --------
    >>> center_weights(1, 1)
    tensor([[1.]])
    >>> center_weights(8, 8).sum().round(decimals=5), center_weights(8, 8).argmax() // 8
    (tensor(1.), tensor(3))
    """
    row = (torch.arange(height) - (height - 1) / 2) / (SIGMA_FRACTION * height)
    col = (torch.arange(width) - (width - 1) / 2) / (SIGMA_FRACTION * width)
    weights = torch.exp(-(row[:, None] ** 2 + col[None, :] ** 2) / 2)
    return weights / weights.sum()


def pool_center(features: torch.Tensor) -> torch.Tensor:
    """Centre-weighted global pooling, (B, depth, row, col) -> (B, depth)."""
    weights = center_weights(*features.shape[-2:]).to(features)
    return torch.einsum("bdrc,rc->bd", features, weights)


def pool_average(features: torch.Tensor) -> torch.Tensor:
    """Plain average, (B, depth, row, col) -> (B, depth): Fig. 9's other half."""
    return features.mean(dim=(-2, -1))


POOLING = {"center": pool_center, "average": pool_average}

"""Image encoders: modified aligned Xception, ResNet and MobileNet-V2."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

MIN_DEPTH = 8  # a depth multiplier never leaves fewer channels than this
BATCH_NORM_EPSILON = 1e-3


@dataclass(frozen=True)
class Stem:
    """A plain convolution before the blocks: convolution, batch norm, ReLU."""

    depth: int
    kernel: int
    stride: int


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


@dataclass(frozen=True)
class EncoderTable:
    """An encoder, row by row; strides past ``output_stride`` become dilation."""

    stem: tuple[Stem, ...]
    blocks: tuple[Block, ...]
    output_stride: int
    depth_multiplier: float = 1.0

    def depth(self, channels: int) -> int:
        """A row's channels after the depth multiplier."""
        return scaled_depth(channels, self.depth_multiplier)

    @property
    def out_channels(self) -> int:
        """Channels of the features."""
        return self.depth(self.blocks[-1].depths[-1])


XCEPTION_STEM = (Stem(32, kernel=3, stride=2), Stem(64, kernel=3, stride=1))
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


def scaled_depth(channels: int, multiplier: float) -> int:
    """Channels after a depth multiplier, never fewer than ``MIN_DEPTH``."""
    return max(round(channels * multiplier), MIN_DEPTH)


def batch_norm(channels: int, momentum: float) -> nn.BatchNorm2d:
    """The batch norm of all encoders."""
    return nn.BatchNorm2d(channels, eps=BATCH_NORM_EPSILON, momentum=momentum)


def drop_path(branch: torch.Tensor, keep: float) -> torch.Tensor:
    """A branch times d / keep, d ~ Bernoulli(keep) per sample, (B, depth, row, col) [1]_.

    References
    ----------
    .. [1] Huang et al. (2016), doi:10.1007/978-3-319-46493-0_39
    """
    kept = torch.rand(len(branch), 1, 1, 1, device=branch.device) < keep
    return branch * (kept.to(branch.dtype) / keep)


def dilated(
    strides: Iterable[int], *, reached: int, output_stride: int
) -> Iterator[tuple[int, int]]:
    """Stride and dilation of each block: strides past the output stride become dilation.

    ``reached`` is the stride of what comes before the blocks.

    Examples
    --------
    >>> list(dilated([2, 2, 1], reached=8, output_stride=16))
    [(2, 1), (1, 1), (1, 2)]
    """
    dilation = 1
    for stride in strides:
        if reached < output_stride:
            reached *= stride
            yield stride, dilation
        else:
            yield 1, dilation
            dilation *= stride


class SeparableConv(nn.Module):
    """Depthwise 3x3 and pointwise 1x1 convolution, a batch norm after each [1]_.

    (B, channels, row, col) -> (B, depth, row / stride, col / stride).

    References
    ----------
    .. [1] Chen et al. (2018), doi:10.1007/978-3-030-01234-2_49, section 3.2 and Fig. 4
    """

    def __init__(self, channels, depth, *, stride=1, dilation=1, inner_activation, momentum):
        super().__init__()
        self.depthwise = nn.Conv2d(
            channels, channels, 3, stride, dilation, dilation, groups=channels, bias=False
        )
        self.depthwise_norm = batch_norm(channels, momentum)
        self.pointwise = nn.Conv2d(channels, depth, 1, bias=False)
        self.pointwise_norm = batch_norm(depth, momentum)
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


class XceptionBlock(nn.Module):
    """Three separable convolutions beside a skip, the branch dropped at random in training.

    y = skip(x) + branch(x) d / keep, with d ~ Bernoulli(keep) per sample in training (drop path,
    stochastic depth [1]_) and y = skip(x) + branch(x) otherwise.

    References
    ----------
    .. [1] Huang et al. (2016), doi:10.1007/978-3-319-46493-0_39
    """

    def __init__(self, channels, depths, *, row: Block, stride, dilation, keep, momentum):
        super().__init__()
        widths = (channels, *depths)
        self.branch = nn.Sequential(
            *(
                SeparableConv(
                    widths[i],
                    widths[i + 1],
                    stride=stride if i == 2 else 1,
                    dilation=dilation,
                    inner_activation=row.inner_activation,
                    momentum=momentum,
                )
                for i in range(3)
            )
        )
        self.skip: nn.Module | None = None
        if row.skip == "conv":
            shortcut = nn.Conv2d(channels, depths[-1], 1, stride, bias=False)
            self.skip = nn.Sequential(shortcut, batch_norm(depths[-1], momentum))
        elif row.skip == "sum":
            self.skip = nn.Identity()
        self.keep = keep

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add the branch to the skip, where there is one."""
        branch = self.branch(x)
        if self.skip is None:
            return branch
        if self.training and self.keep < 1:
            branch = drop_path(branch, self.keep)
        return self.skip(x) + branch


def _plan(table: EncoderTable) -> Iterator[tuple[Block, int, int]]:
    """Each single block with its stride and dilation, under the table's output stride."""
    rows = [row for row in table.blocks for _ in range(row.repeat)]
    steps = dilated(
        [row.stride for row in rows],
        reached=math.prod(stem.stride for stem in table.stem),
        output_stride=table.output_stride,
    )
    for row, (stride, dilation) in zip(rows, steps, strict=True):
        yield row, stride, dilation


class XceptionEncoder(nn.Module):
    """Images to features, (B, channels, row, col) -> (B, depth, row / stride, col / stride).

    Chollet's Xception [1]_ as modified by DeepLab v3+ [2]_: strided separable convolutions instead
    of pooling and a batch norm after every depthwise convolution. Drop path keeps block l of L with
    1 - (l / L) (1 - ``drop_path_keep``): the rule of linear decay [3]_, because the first blocks
    feed all later ones.

    References
    ----------
    .. [1] Chollet (2017), doi:10.1109/CVPR.2017.195
    .. [2] Chen et al. (2018), doi:10.1007/978-3-030-01234-2_49
    .. [3] Huang et al. (2016), doi:10.1007/978-3-319-46493-0_39
    """

    def __init__(self, channels: int, table: EncoderTable, *, drop_path_keep: float, momentum):
        super().__init__()
        layers: list[nn.Module] = []
        for stem in table.stem:
            depth = table.depth(stem.depth)
            conv = nn.Conv2d(
                channels, depth, stem.kernel, stem.stride, stem.kernel // 2, bias=False
            )
            layers += [conv, batch_norm(depth, momentum), nn.ReLU()]
            channels = depth
        plan = list(_plan(table))
        for i, (row, stride, dilation) in enumerate(plan, start=1):
            depths = [table.depth(d) for d in row.depths]
            keep = 1 - (i / len(plan)) * (1 - drop_path_keep)
            layers.append(
                XceptionBlock(
                    channels,
                    depths,
                    row=row,
                    stride=stride,
                    dilation=dilation,
                    keep=keep,
                    momentum=momentum,
                )
            )
            channels = depths[-1]
        self.layers = nn.Sequential(*layers)
        self.out_channels = channels
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features of images."""
        return self.layers(images.contiguous(memory_format=torch.channels_last))


def center_weights(height: int, width: int, *, sigma_fraction: float = 0.25) -> torch.Tensor:
    """Gaussian weights around the centre that sum to 1, shape (row, col).

    w ~ exp(-((r / (s height))^2 + (c / (s width))^2) / 2), with r and c the distance from the
    centre in cells and s = ``sigma_fraction``. The paper draws such weights (its Fig. 9) without
    numbers; a quarter of the side (640 m of 2,560 m) is our choice.

    Examples
    --------
    >>> center_weights(1, 1)
    tensor([[1.]])
    >>> center_weights(8, 8).sum().round(decimals=5), center_weights(8, 8).argmax() // 8
    (tensor(1.), tensor(3))
    """
    row = (torch.arange(height) - (height - 1) / 2) / (sigma_fraction * height)
    col = (torch.arange(width) - (width - 1) / 2) / (sigma_fraction * width)
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


# Residual networks of 18 and 50 layers as encoders: the plain alternative to Xception.

BOTTLENECK = 4  # a bottleneck block ends in four times the channels of its 3x3 convolution
STEM_STRIDE = 4


@dataclass(frozen=True)
class ResNetTable:
    """A residual encoder: ``stages`` of (depth, blocks), every stage after the first strided by 2.

    Strides past ``output_stride`` become dilation.
    """

    stages: tuple[tuple[int, int], ...]
    bottleneck: bool
    output_stride: int = 32
    stem_depth: int = 64
    depth_multiplier: float = 1.0

    def depth(self, channels: int) -> int:
        """Channels after the depth multiplier."""
        return scaled_depth(channels, self.depth_multiplier)

    @property
    def out_channels(self) -> int:
        """Channels of the features."""
        return self.depth(self.stages[-1][0]) * (BOTTLENECK if self.bottleneck else 1)


RESNET_18 = ((64, 2), (128, 2), (256, 2), (512, 2))
RESNET_50 = ((64, 3), (128, 4), (256, 6), (512, 3))


def conv_norm(
    channels: int, depth: int, *, kernel: int, momentum: float, stride: int = 1, dilation: int = 1
) -> list[nn.Module]:
    """A convolution that keeps the size but for its stride, and its batch norm."""
    padding = dilation * (kernel // 2)
    conv = nn.Conv2d(channels, depth, kernel, stride, padding, dilation, bias=False)
    return [conv, batch_norm(depth, momentum)]


class ResidualBlock(nn.Module):
    """y = ReLU(skip(x) + branch(x)): two 3x3 convolutions, or 1x1, 3x3 and 1x1 around a bottleneck.

    The stride sits on the (first) 3x3 convolution; the skip is a 1x1 convolution and batch norm
    where the shape changes. The branch is dropped at random in training, as in Xception's blocks.
    """

    def __init__(self, channels, depth, *, stride, dilation, bottleneck, **how: Any):
        super().__init__()
        momentum, self.keep = how["momentum"], how["keep"]
        strided = {"kernel": 3, "stride": stride, "dilation": dilation, "momentum": momentum}
        if bottleneck:
            out = depth * BOTTLENECK
            layers = [*conv_norm(channels, depth, kernel=1, momentum=momentum), nn.ReLU()]
            layers += [*conv_norm(depth, depth, **strided), nn.ReLU()]
            layers += conv_norm(depth, out, kernel=1, momentum=momentum)
        else:
            out = depth
            layers = [*conv_norm(channels, depth, **strided), nn.ReLU()]
            layers += conv_norm(depth, depth, **(strided | {"stride": 1}))
        self.branch = nn.Sequential(*layers)
        self.skip: nn.Module = nn.Identity()
        if stride > 1 or channels != out:
            # Thinned out first: torch 2.13's gradient of a strided 1x1 convolution from 8 to 16
            # channels (channels-last, on the CPU) writes past its memory.
            shortcut = conv_norm(channels, out, kernel=1, momentum=momentum)
            self.skip = nn.Sequential(nn.MaxPool2d(1, stride), *shortcut)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add the branch to the skip."""
        branch = self.branch(x)
        if self.training and self.keep < 1:
            branch = drop_path(branch, self.keep)
        return torch.relu(self.skip(x) + branch)


class ResNetEncoder(nn.Module):
    """Images to features, (B, channels, row, col) -> (B, depth, row / stride, col / stride) [1]_.

    A 7x7 convolution and a maximum, both strided, then the stages. Drop path falls linearly with
    depth to ``drop_path_keep``.

    References
    ----------
    .. [1] He et al. (2016), doi:10.1109/CVPR.2016.90
    """

    def __init__(self, channels: int, table: ResNetTable, *, drop_path_keep: float, momentum):
        super().__init__()
        depth = table.depth(table.stem_depth)
        layers = conv_norm(channels, depth, kernel=7, stride=2, momentum=momentum)
        layers += [nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1)]
        rows = [(d, i, k) for i, (d, n) in enumerate(table.stages) for k in range(n)]
        strides = [2 if stage and not k else 1 for _, stage, k in rows]
        steps = dilated(strides, reached=STEM_STRIDE, output_stride=table.output_stride)
        for n, ((row, _, _), (stride, dilation)) in enumerate(zip(rows, steps, strict=True), 1):
            block = ResidualBlock(
                depth,
                table.depth(row),
                stride=stride,
                dilation=dilation,
                bottleneck=table.bottleneck,
                keep=1 - n / len(rows) * (1 - drop_path_keep),
                momentum=momentum,
            )
            layers.append(block)
            depth = table.depth(row) * (BOTTLENECK if table.bottleneck else 1)
        self.layers = nn.Sequential(*layers)
        self.out_channels = depth
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features of images."""
        return self.layers(images.contiguous(memory_format=torch.channels_last))


# MobileNet-V2 as an encoder: inverted residuals, the cheapest alternative to Xception.


@dataclass(frozen=True)
class MobileNetTable:
    """An encoder of inverted residuals; ``rows`` are (expansion, depth, repeats, stride).

    Strides past ``output_stride`` become dilation. The last 1x1 convolution shrinks with the depth
    multiplier too, unlike the original's, which kept it wide for a thousand classes.
    """

    rows: tuple[tuple[int, int, int, int], ...]
    output_stride: int = 32
    stem_depth: int = 32
    last_depth: int = 1280
    depth_multiplier: float = 1.0

    def depth(self, channels: int) -> int:
        """Channels after the depth multiplier."""
        return scaled_depth(channels, self.depth_multiplier)

    @property
    def out_channels(self) -> int:
        """Channels of the features."""
        return self.depth(self.last_depth)


MOBILENET_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class InvertedResidual(nn.Module):
    """Widen by 1x1, filter each channel by 3x3, narrow by 1x1 without activation.

    Added to the input where the shape stays, the branch dropped at random in training.
    """

    def __init__(self, channels, depth, *, expansion, step, keep, momentum):
        super().__init__()
        stride, dilation = step
        wide = channels * expansion
        layers: list[nn.Module] = []
        if expansion > 1:
            layers += [nn.Conv2d(channels, wide, 1, bias=False), batch_norm(wide, momentum)]
            layers.append(nn.ReLU6())
        filtered = nn.Conv2d(wide, wide, 3, stride, dilation, dilation, groups=wide, bias=False)
        layers += [filtered, batch_norm(wide, momentum), nn.ReLU6()]
        layers += [nn.Conv2d(wide, depth, 1, bias=False), batch_norm(depth, momentum)]
        self.branch = nn.Sequential(*layers)
        self.is_residual = stride == 1 and channels == depth
        self.keep = keep

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add the branch to the input where that is possible."""
        branch = self.branch(x)
        if not self.is_residual:
            return branch
        if self.training and self.keep < 1:
            branch = drop_path(branch, self.keep)
        return x + branch


class MobileNetEncoder(nn.Module):
    """Images to features, (B, channels, row, col) -> (B, depth, row / stride, col / stride) [1]_.

    Drop path falls linearly with depth to ``drop_path_keep``.

    References
    ----------
    .. [1] Sandler et al. (2018), doi:10.1109/CVPR.2018.00474
    """

    def __init__(self, channels: int, table: MobileNetTable, *, drop_path_keep: float, momentum):
        super().__init__()
        depth = table.depth(table.stem_depth)
        stem = nn.Conv2d(channels, depth, 3, stride=2, padding=1, bias=False)
        layers: list[nn.Module] = [stem, batch_norm(depth, momentum), nn.ReLU6()]
        rows = [
            (expansion, table.depth(row), stride if k == 0 else 1)
            for expansion, row, repeats, stride in table.rows
            for k in range(repeats)
        ]
        steps = dilated([r[2] for r in rows], reached=2, output_stride=table.output_stride)
        for n, ((expansion, row, _), step) in enumerate(zip(rows, steps, strict=True), start=1):
            keep = 1 - n / len(rows) * (1 - drop_path_keep)
            block = InvertedResidual(
                depth, row, expansion=expansion, step=step, keep=keep, momentum=momentum
            )
            layers.append(block)
            depth = row
        last = nn.Conv2d(depth, table.out_channels, 1, bias=False)
        layers += [last, batch_norm(table.out_channels, momentum), nn.ReLU6()]
        self.layers = nn.Sequential(*layers)
        self.out_channels = table.out_channels
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features of images."""
        return self.layers(images.contiguous(memory_format=torch.channels_last))

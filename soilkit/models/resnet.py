"""Residual networks of 18 and 50 layers as encoders: the plain alternative to Xception."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from soilkit.models.xception import batch_norm, dilated, drop_path, scaled_depth

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

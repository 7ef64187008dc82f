"""MobileNet-V2 as an encoder: inverted residuals, the cheapest alternative to Xception."""

from dataclasses import dataclass

import torch
from torch import nn

from soilkit.models.xception import batch_norm, dilated, drop_path, scaled_depth


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

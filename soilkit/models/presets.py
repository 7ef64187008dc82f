"""All that a fusion model's size hangs on: encoder tables, heads, keep probabilities."""

from dataclasses import dataclass

from torch import nn

from soilkit.models.mobilenet import MOBILENET_V2, MobileNetEncoder, MobileNetTable
from soilkit.models.resnet import RESNET_18, RESNET_50, ResNetEncoder, ResNetTable
from soilkit.models.xception import (
    XCEPTION_41,
    XCEPTION_65,
    XCEPTION_STEM,
    Block,
    EncoderTable,
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

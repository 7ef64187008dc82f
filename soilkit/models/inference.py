"""How large a model is, and the same model made fast: batch norms folded, half the bits."""

import copy
import logging
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import pandas as pd
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval
from torch.utils.flop_counter import FlopCounterMode

from soilkit.models.encoders import Encoder

_log = logging.getLogger(__name__)


def count_parameters(model: nn.Module) -> int:
    """How many numbers training adjusts.

    Examples
    --------
    >>> count_parameters(nn.Linear(3, 2))
    8
    """
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def count_flops(model: Any, *, crop_px: int | None = None) -> int:
    """Floating-point operations of one sample's forward pass, a multiplication and an addition = 2.

    Convolutions and linear layers count; norms, activations and pooling, a few percent, do not. A
    training step costs about three times as much a sample.

    Parameters
    ----------
    model : XceptionFusion
    crop_px : int, pixels of 10 m a side, a multiple of 16; by default the model's
    """
    return int(size_table(model, model.example(crop_px=crop_px))["flops"].iloc[-1])


def size_table(model: nn.Module, example: Mapping[str, torch.Tensor]) -> pd.DataFrame:
    """Parameters and FLOPs of each part of a model, and in all.

    Parameters
    ----------
    model : module
    example : what its forward pass takes by name, such as ``XceptionFusion.example()``

    Returns
    -------
    DataFrame with part ("high_encoder", ..., "total"), parameters, flops (as ``count_flops``)
    """
    bare = copy.deepcopy(model).to("meta").eval()  # shapes without numbers
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        bare(**{name: tensor.to("meta") for name, tensor in example.items()})
    counts = counter.get_flop_counts()
    name = type(bare).__name__
    rows = [
        (part, count_parameters(module), sum(counts.get(f"{name}.{part}", {}).values()))
        for part, module in bare.named_children()
    ]
    rows.append(("total", count_parameters(bare), counter.get_total_flops()))
    return pd.DataFrame(rows, columns=["part", "parameters", "flops"])


def folded(model: nn.Module) -> nn.Module:
    """A copy for inference, each batch norm folded into the layer before it.

    Folded are neighbours in an ``nn.Sequential`` and pairs named ``name``, ``name_norm``; any other
    batch norm stays. The numbers are made in float64, so that only their last rounding differs. The
    copy gives what ``model.eval()`` gives, in fewer passes over memory, and cannot be trained
    further.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4)).eval()
    >>> x = torch.randn(2, 3, 5, 5)
    >>> folded(model)[1], torch.allclose(folded(model)(x), model(x), atol=1e-6)
    (Identity(), True)
    """
    dtype = next(model.parameters()).dtype
    model = copy.deepcopy(model).eval().double()
    for parent in model.modules():
        for (name, layer), (norm_name, norm) in pairwise(list(parent.named_children())):
            is_pair = isinstance(parent, nn.Sequential) or norm_name == f"{name}_norm"
            if not (is_pair and isinstance(norm, nn.modules.batchnorm._BatchNorm)):
                continue
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                is_turned = isinstance(layer, nn.ConvTranspose2d)
                setattr(parent, name, fuse_conv_bn_eval(layer, norm, transpose=is_turned))
            elif isinstance(layer, nn.Linear):
                setattr(parent, name, fuse_linear_bn_eval(layer, norm))
            else:
                continue
            setattr(parent, norm_name, nn.Identity())
    return model.to(dtype).requires_grad_(requires_grad=False)


def for_inference(model: nn.Module, *, precision: str = "bfloat16") -> nn.Module:
    """A fusion model ``folded``, its encoders laid out for speed and rounded to bfloat16.

    Pooling and heads stay in float32: they cost nothing and keep what averages out of the rounding.
    How far answers move hangs on the weights: compare a few before maps are made so. Where the
    processor has no such numbers torch's reference kernels are slower than float32, and a warning
    says so. With the precision "float32" nothing is rounded.
    """
    fast: Any = folded(model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if precision == "float32":
        return fast
    if not has_bfloat16(next(model.parameters()).device):
        _log.warning(
            "This processor multiplies no bfloat16: torch falls back to its reference kernels, "
            "slower than float32. Choose the precision float32."
        )
    for name, child in list(fast.named_children()):
        if isinstance(child, Encoder):
            setattr(fast, name, Rounded(child.layers, out_channels=child.out_channels))
    return fast


def has_bfloat16(device: torch.device) -> bool:
    """Whether convolutions in bfloat16 are the processor's own here, not a reference in software.

    Examples
    --------
    >>> isinstance(has_bfloat16(torch.device("cpu")), bool)
    True
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


class Rounded(Encoder):
    """An encoder in bfloat16 that eats and gives float32."""

    def __init__(self, layers: Iterable[nn.Module], *, out_channels: int):
        super().__init__(layers, out_channels=out_channels)
        self.to(torch.bfloat16)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features of images, rounded on the way."""
        return super().forward(images.to(torch.bfloat16)).float()

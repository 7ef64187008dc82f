"""How large a model is, and the same model made fast: batch norms folded, half the bits."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(model: nn.Module) -> int:
    """How many numbers training adjusts.

    Examples
    --------
    >>> count_parameters(nn.Linear(3, 2))
    8
    """
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def count_flops(model: Any, *, crop_px: int = 256) -> int:
    """Floating-point operations of one sample's forward pass, a multiplication and an addition = 2.

    Convolutions and linear layers count; norms, activations and pooling, a few percent, do not. A
    training step costs about three times as much a sample.

    Parameters
    ----------
    model : XceptionFusion
    crop_px : int, pixels of 10 m a side

    Raises
    ------
    ContractError
        When the crop is no whole number of 160 m pixels.
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


# Batch norms folded into what stands before them, half the bits.

NORM = "_norm"  # ``depthwise_norm`` normalises ``depthwise``, as in Xception's blocks
Layer = nn.Conv2d | nn.Linear
LAYERS, NORMS = (nn.Conv2d, nn.Linear), (nn.BatchNorm1d, nn.BatchNorm2d)


def folded(model: nn.Module) -> nn.Module:
    """A copy for inference, each batch norm folded into the layer before it.

    y = g (w x + b - m) / s + h, with s = sqrt(v + eps), is w' x + b' of w' = w g / s and
    b' = (b - m) g / s + h; m and v are the running mean and variance, g and h the learnt scale and
    shift. Folded are neighbours in an ``nn.Sequential`` and pairs named ``name``, ``name_norm``;
    any other batch norm stays. The numbers are made in float64, so that only their last rounding
    differs. The copy gives what ``model.eval()`` gives, in fewer passes over memory, and cannot be
    trained further.

    Parameters
    ----------
    model : module, left as it is

    Returns
    -------
    module of the same class, in evaluation mode

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4)).eval()
    >>> x = torch.randn(2, 3, 5, 5)
    >>> folded(model)[1], torch.allclose(folded(model)(x), model(x), atol=1e-6)
    (Identity(), True)
    """
    model = copy.deepcopy(model).eval()
    for parent, name, norm_name in list(_pairs(model)):
        layer, norm = getattr(parent, name), getattr(parent, norm_name)
        setattr(parent, name, _fold(layer, norm))
        setattr(parent, norm_name, nn.Identity())
    return model.requires_grad_(requires_grad=False)


def for_inference(model: nn.Module, *, precision: str = "bfloat16") -> nn.Module:
    """``folded``, laid out and rounded for speed: channels innermost, encoders in bfloat16.

    A fusion model's pooling and heads stay in float32: they cost nothing and keep what averages out
    of the rounding. ``torch.compile(for_inference(encoder))`` fuses the rest and is worth its
    minute for many batches. How far answers move hangs on the weights: compare a few before maps
    are made so.

    Parameters
    ----------
    model : a fusion model, or an encoder; left as it is
    precision : "float32" or "bfloat16"

    Returns
    -------
    module in evaluation mode, eating and giving float32
    """
    found: Any = folded(model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if precision == "float32":
        return found
    encoders = [name for name, child in found.named_children() if hasattr(child, "out_channels")]
    for name in encoders:
        setattr(found, name, Rounded(getattr(found, name)))
    return found if encoders else Rounded(found)


class Rounded(nn.Module):
    """A model of images in bfloat16 that eats and gives float32."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model.to(torch.bfloat16)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The model's answer to the images, rounded on the way."""
        return self.model(images.to(torch.bfloat16)).float()


def _pairs(model: nn.Module) -> Iterator[tuple[nn.Module, str, str]]:
    """(parent, name of a layer, name of its batch norm)."""
    for parent in model.modules():
        names = list(parent._modules)
        if isinstance(parent, nn.Sequential):
            candidates = list(zip(names, names[1:], strict=False))
        else:
            candidates = [(name, name + NORM) for name in names if name + NORM in names]
        for name, norm_name in candidates:
            layer, norm = getattr(parent, name), getattr(parent, norm_name)
            if isinstance(layer, LAYERS) and isinstance(norm, NORMS):
                yield parent, name, norm_name


def _fold(layer: Layer, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> Layer:
    assert norm.running_mean is not None and norm.running_var is not None
    scale = torch.rsqrt(norm.running_var.double() + norm.eps) * norm.weight.double()
    bias = torch.zeros_like(scale) if layer.bias is None else layer.bias.double()
    shift = (bias - norm.running_mean.double()) * scale + norm.bias.double()
    wide = scale.view(-1, *[1] * (layer.weight.ndim - 1))
    like = layer.weight
    with torch.no_grad():
        layer.weight = nn.Parameter((layer.weight.double() * wide).to(like))
        layer.bias = nn.Parameter(shift.to(like))
    return layer

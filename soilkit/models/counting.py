"""How large a model is and how much it computes, without computing anything."""

import copy
from typing import Any

import pandas as pd
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from soilkit.errors import ContractError
from soilkit.models.fusion import LOW_PIXEL_RATIO


def count_parameters(model: nn.Module) -> int:
    """How many numbers training adjusts.

    Examples
    --------
    >>> count_parameters(nn.Linear(3, 2))
    8
    """
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def count_flops(model: nn.Module, *, crop_px: int = 256) -> int:
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
    return int(size_table(model, crop_px=crop_px)["flops"].iloc[-1])


def size_table(model: Any, *, crop_px: int = 256) -> pd.DataFrame:
    """Parameters and FLOPs of each part of a fusion model, and in all.

    Returns
    -------
    DataFrame with part ("high_encoder", ..., "total"), parameters, flops (as ``count_flops``)
    """
    if crop_px < 1 or crop_px % LOW_PIXEL_RATIO:
        raise ContractError(
            f"A crop of {crop_px} pixels is no whole number of 160 m pixels. Choose a multiple of "
            f"{LOW_PIXEL_RATIO}, such as 256."
        )
    config = model.config
    bare = copy.deepcopy(model).to("meta").eval()  # shapes without numbers
    low_px = crop_px // LOW_PIXEL_RATIO
    shapes = (config.high_channels, crop_px, crop_px), (config.low_channels, low_px, low_px)
    inputs = [torch.empty(1, *s, device="meta") if s[0] else None for s in shapes]
    inputs.append(torch.empty(1, config.coarse, device="meta") if config.coarse else None)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        bare(*inputs)
    counts = counter.get_flop_counts()
    name = type(bare).__name__
    rows = [
        (part, count_parameters(module), sum(counts.get(f"{name}.{part}", {}).values()))
        for part, module in bare.named_children()
    ]
    rows.append(("total", count_parameters(bare), counter.get_total_flops()))
    return pd.DataFrame(rows, columns=["part", "parameters", "flops"])

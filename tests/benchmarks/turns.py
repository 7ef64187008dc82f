"""Timing of rivals in turn, so that what else the machine does falls on all of them alike."""

import statistics
import time

import torch


def in_turn(rivals, *, rounds):
    """Median seconds of each named call over some rounds, after one call each that is not timed."""
    seconds = {name: [] for name in rivals}
    for turn in range(rounds + 1):
        for name, call in rivals.items():
            start = time.perf_counter()
            call()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in seconds.items()}


def matmul_flops_per_s(dtype, *, device="cpu", side=2048, repeats=10):
    """The rate that a large square matrix product reaches here, a multiply and an add = 2."""
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    best = min(in_turn({str(k): lambda: a @ b}, rounds=1)[str(k)] for k in range(repeats))
    return 2 * side**3 / best


def plain_layout(model):
    """The model as PyTorch makes one: channels outermost, nothing rearranged on the way in."""
    model = model.to(memory_format=torch.contiguous_format)
    for encoder in (model.high_encoder, model.low_encoder):
        if encoder is not None:
            encoder.forward = encoder.layers.forward
    return model

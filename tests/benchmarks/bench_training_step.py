"""A CPU's training step of the full model: mixed precision and channels-last against eager float32.

``--compile`` adds torch.compile, which takes minutes before the first step.
"""

import os
import sys

import torch
from torch.nn import functional

from soilkit.models import count_flops
from soilkit.models.training import Settings
from soilkit.models.xception_fusion import XceptionFusion
from tests.benchmarks.turns import in_turn, matmul_flops_per_s, plain_layout

BATCH, ROUNDS, REQUIRED = 8, 5, 2.5
CPU = torch.device("cpu")


def full_model():
    """The paper's model with all its inputs, the same weights each time."""
    torch.manual_seed(0)
    return XceptionFusion.preset("paper", high_channels=10, low_channels=4, coarse=2)


def stepper(model, forward, precision):
    """One forward and backward pass on a fixed batch."""
    high, low = torch.randn(BATCH, 10, 256, 256), torch.randn(BATCH, 4, 16, 16)
    coarse, moisture = torch.randn(BATCH, 2), torch.rand(BATCH)

    def step():
        model.zero_grad(set_to_none=True)
        with Settings(precision=precision).autocast(CPU):
            predicted = forward(high, low, coarse)
        functional.huber_loss(predicted.float(), moisture).backward()

    return step


def main():
    """Print one line: images a second, and the share of what the machine's products reach."""
    torch.set_num_threads(os.cpu_count() or 1)
    eager, ours = plain_layout(full_model()), full_model()
    rivals = {
        "ours": stepper(ours, ours, "bfloat16"),
        "eager": stepper(eager, eager, "float32"),
    }
    if "--compile" in sys.argv:
        fused = full_model()
        forward = torch.compile(fused, dynamic=False)
        rivals["compiled"] = stepper(fused, forward, "bfloat16")
    seconds = in_turn(rivals, rounds=ROUNDS)
    best = min(seconds[name] for name in ("ours", "compiled") if name in seconds)
    flops = 3 * BATCH * count_flops(ours)
    share = flops / best / matmul_flops_per_s(torch.bfloat16)
    extra = f" (compiled {BATCH / seconds['compiled']:.2f})" if "compiled" in seconds else ""
    print(
        f"training step, full model, batch {BATCH}, CPU | "
        f"ours {BATCH / seconds['ours']:.2f}{extra} images/s | "
        f"eager float32 {BATCH / seconds['eager']:.2f} images/s | "
        f"ratio {seconds['eager'] / best:.2f}, required {REQUIRED} | "
        f"{share:.0%} of this machine's bfloat16 matmul rate, "
        f"load {os.getloadavg()[0] if hasattr(os, 'getloadavg') else -1:.1f}"
    )


if __name__ == "__main__":
    main()

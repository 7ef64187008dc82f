"""A GPU's training step of the full model at the paper's batch of 64; says so where there is none.

Eager and compiled, in bfloat16 and channels-last, with the fused SGD of ``fit``. Prints the largest
parts of a step when less than the wanted share of the card's measured matmul rate is reached.
"""

import torch
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from soilkit.models import count_flops
from soilkit.models.training import Settings
from soilkit.models.training.loop import Run
from soilkit.models.xception_fusion import XceptionFusion
from tests.benchmarks.turns import in_turn, matmul_flops_per_s

BATCH, ROUNDS, PAPER_STEPS, REQUIRED_SHARE = 64, 20, 600_000, 0.35
MODES = {"eager": None, "compiled": "default", "CUDA graphs": "reduce-overhead"}


def stepper(mode, device):
    """A whole step of ``fit`` on a fixed batch, by the run's own optimizer."""
    torch.manual_seed(0)
    model = XceptionFusion.preset("paper", high_channels=10, low_channels=4, coarse=2).to(device)
    settings = Settings(precision="bfloat16")
    run = Run(model, settings, path=None, provenance=None)
    forward = torch.compile(model, mode=mode, dynamic=False) if mode else model
    sizes = (10, 256, 256), (4, 16, 16), (2,)
    inputs = [torch.randn(BATCH, *size, device=device) for size in sizes]
    inputs = [x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x for x in inputs]
    moisture = torch.rand(BATCH, device=device)

    def step():
        with settings.autocast(device):
            predicted = forward(*inputs)
        run.learn(functional.huber_loss(predicted.float(), moisture), run.step)

    return step, count_flops(model)


def main():
    """Print one line a way of running, and the profile of the best where it falls short."""
    name = f"training step, full model, batch {BATCH}, GPU"
    if not torch.cuda.is_available():
        print(f"{name} | not measured: no GPU on this machine")
        return
    device = torch.device("cuda", torch.cuda.current_device())
    peak = matmul_flops_per_s(torch.bfloat16, device=device, side=8192)
    shares = {}
    for label, mode in MODES.items():
        torch.cuda.reset_peak_memory_stats()
        step, flops = stepper(mode, device)
        for _ in range(3):
            step()
        seconds = in_turn({label: step}, rounds=ROUNDS)[label]
        shares[label] = (3 * BATCH * flops / seconds / peak, step)
        print(
            f"{name}, {label} on {torch.cuda.get_device_name()} | ours {BATCH / seconds:.0f} "
            f"images/s | measured bfloat16 matmul {peak / 1e12:.0f} TFLOP/s | "
            f"ratio {shares[label][0]:.3f}, required {REQUIRED_SHARE} | peak memory "
            f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB | the paper's {PAPER_STEPS:,} "
            f"steps {PAPER_STEPS * seconds / 3600:.1f} h"
        )
    share, step = max(shares.values(), key=lambda found: found[0])
    if share < REQUIRED_SHARE:
        with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as profiled:
            step()
            torch.cuda.synchronize()
        table = profiled.key_averages().table(sort_by="self_cuda_time_total", row_limit=15)
        print(f"where a step goes:\n{table}")


if __name__ == "__main__":
    main()

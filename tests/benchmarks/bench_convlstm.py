"""ConvLSTM on a CPU: one convolution for four gates against one a gate, and a year of 100 x 100.

``--compile`` adds torch.compile, which takes minutes before the first step.
"""

import sys
import time

import torch
from torch import nn

from soilkit.models.convlstm import ConvLSTM
from tests.benchmarks.turns import in_turn
from tests.test_convlstm import PerGate

BATCH, DAYS, SIDE, ROUNDS, REQUIRED = 8, 3, 16, 3, 2.0
YEAR_DAYS, YEAR_SIDE, TRIED_DAYS, SECONDS_ALLOWED = 365, 100, 4, 60


class Plain(nn.Module):
    """The same model, cells as one writes them first, torch's own layout."""

    def __init__(self, model):
        super().__init__()
        self.cells = nn.ModuleList(PerGate(layer) for layer in model.layers)
        self.norms, self.attention = model.norms, model.attention
        self.output = model.output

    def forward(self, days):  # (B, day, channels, row, col)
        images = days.transpose(0, 1)
        for k, (cell, norm) in enumerate(zip(self.cells, self.norms, strict=True)):
            images = norm(cell(images).flatten(0, 1))
            if str(k + 1) in self.attention:
                images = self.attention[str(k + 1)](images)
            images = images.unflatten(0, days.shape[1::-1])
        return (
            self.output(images.flatten(0, 1))[:, 0].unflatten(0, days.shape[1::-1]).transpose(0, 1)
        )


def stepper(model, days):
    """One pass forward and one backward."""

    def step():
        model.zero_grad(set_to_none=True)
        model(days).square().mean().backward()

    return step


def times_faster(preset):
    """One line: forward and backward of patches, ours against a convolution a gate."""
    torch.manual_seed(0)
    ours = ConvLSTM.preset(preset, channels=7).eval()
    plain = Plain(ours).to(memory_format=torch.contiguous_format).eval()
    days = torch.randn(BATCH, DAYS, 7, SIDE, SIDE)
    apart = float((ours(days) - plain(days)).abs().max().detach())
    rivals = {"ours": stepper(ours, days), "plain": stepper(plain, days)}
    if "--compile" in sys.argv:
        rivals["compiled"] = stepper(torch.compile(ours, dynamic=False), days)
    seconds = in_turn(rivals, rounds=ROUNDS)
    best = min(seconds["ours"], seconds.get("compiled", seconds["ours"]))
    compiled = f" (compiled {seconds['compiled']:.3f} s)" if "compiled" in seconds else ""
    print(
        f"ConvLSTM {preset}, {BATCH} patches of {DAYS} days, forward and backward | "
        f"ours {seconds['ours']:.3f} s{compiled} | a convolution a gate {seconds['plain']:.3f} s | "
        f"ratio {seconds['plain'] / best:.2f}, required {REQUIRED} | apart by {apart:.0e}"
    )


def year(preset):
    """One line: seconds for a year of 100 x 100 cells, state carried, from a few days."""
    model, memory = ConvLSTM.preset(preset, channels=7).eval(), None
    day = torch.randn(1, 1, 7, YEAR_SIDE, YEAR_SIDE)
    with torch.inference_mode():
        _, memory = model.advance(day, memory)
        start, cpu = time.perf_counter(), time.process_time()
        for _ in range(TRIED_DAYS):
            _, memory = model.advance(day, memory)
    a_day, cpu = (
        (now - then) / TRIED_DAYS
        for now, then in ((time.perf_counter(), start), (time.process_time(), cpu))
    )
    print(
        f"ConvLSTM {preset}, a year of {YEAR_SIDE} x {YEAR_SIDE} cells, state carried | "
        f"{YEAR_DAYS * a_day:.0f} s on {torch.get_num_threads()} threads "
        f"({YEAR_DAYS * cpu:.0f} s of processor), allowed {SECONDS_ALLOWED} on two"
    )


def main():
    """Print two lines a preset."""
    for preset in ("small", "paper"):
        times_faster(preset)
        year(preset)


if __name__ == "__main__":
    main()

"""ConvLSTM on a CPU: one convolution for four gates against one a gate, and a year of 100 x 100.

``--compile`` adds torch.compile, which takes minutes before the first step. Forward and backward,
the plain cell does the same multiplications, and most of the time of the paper preset is theirs:
fewer and larger convolutions are 1.3 to 1.4 times faster, and that is all. Of the small preset,
a step of the gates that is compiled (11 s of processor before the first) takes 40 ms where ours
takes 39, a backward pass of our own 40. By tiles the paper preset would take 0.55 s for 0.64, and
0.83 of the plain cell, at the price of gradients rounded to 1e-5: they are used without gradients
alone, where they make a year 1.7 times faster.
"""

import sys
import time

import torch
from torch import nn

from soilkit.models.convlstm import ConvLSTM, recurrent
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


def carried(preset, *, tiled_from_px):
    """Seconds and seconds of processor a day of 100 x 100 cells, and the last day's answer."""
    torch.manual_seed(0)
    recurrent.TILED_FROM_PX, memory = tiled_from_px, None
    model = ConvLSTM.preset(preset, channels=7)
    for norm in model.norms:
        norm.momentum = 1.0  # one pass sets the norms: signals reach the last layer
    with torch.no_grad():
        model(torch.randn(2, 2, 7, 16, 16))
    model.eval()
    days = torch.randn(2 + TRIED_DAYS, 1, 1, 7, YEAR_SIDE, YEAR_SIDE)
    with torch.inference_mode():
        for day in days[:2]:
            _, memory = model.advance(day, memory)
        start, cpu = time.perf_counter(), time.process_time()
        for day in days[2:]:
            told, memory = model.advance(day, memory)
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    return wall / TRIED_DAYS, cpu / TRIED_DAYS, told


def year(preset):
    """One line: seconds for a year of 100 x 100 cells, state carried, from a few days."""
    least = recurrent.TILED_FROM_PX
    _, plain_cpu, plain = carried(preset, tiled_from_px=YEAR_SIDE + 1)
    wall, cpu, told = carried(preset, tiled_from_px=least)
    print(
        f"ConvLSTM {preset}, a year of {YEAR_SIDE} x {YEAR_SIDE} cells, state carried | "
        f"{YEAR_DAYS * wall:.0f} s on {torch.get_num_threads()} threads "
        f"({YEAR_DAYS * cpu:.0f} s of processor; {YEAR_DAYS * plain_cpu:.0f} s without tiles, "
        f"apart by {float((told - plain).abs().max()):.0e}), allowed {SECONDS_ALLOWED} on two"
    )


def main():
    """Print two lines a preset."""
    for preset in ("small", "paper"):
        times_faster(preset)
        year(preset)


if __name__ == "__main__":
    main()

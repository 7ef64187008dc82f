"""DEEPSOIL on one thread of a CPU: inference and a training step against eager float32.

Seconds are those of the processor, so that other work on the machine counts little. ``--compile``
adds torch.compile, which takes minutes before the first call.
"""

import copy
import statistics
import sys
import tempfile
import time

import torch
from torch import nn

from soilkit.export.archives import open_archive
from soilkit.models import deepsoil, inference
from soilkit.models.deepsoil.network import step_by

TILES, ROUNDS, WARM_STEPS = 8, 3, 6
INFERENCE_REQUIRED, TRAINING_REQUIRED, MAE_ALLOWED, RENDER_ALLOWED_S = 4.0, 2.5, 0.01, 3.0


def processor_seconds(rivals):
    """Median seconds of the processor of each call, in turn, after one that is not counted."""
    seconds = {name: [] for name in rivals}
    for turn in range(ROUNDS + 1):
        for name, call in rivals.items():
            start = time.process_time()
            call()
            if turn:
                seconds[name].append(time.process_time() - start)
    return {name: statistics.median(found) for name, found in seconds.items()}


def rate_of_products(side=1024):
    """Floating-point operations a second of the processor in a large matrix product."""
    a, b = torch.randn(2, side, side)
    return 2 * side**3 / processor_seconds({"product": lambda: a @ b})["product"]


def batch():
    """Tiles of noise with a target that follows some of their maps."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand((TILES, 75, 64, 64), generator=generator)
    target = 0.1 + 0.2 * inputs[:, 5:9].mean(1) + 0.1 * inputs[:, 70]
    soil = torch.tensor([0.08, 0.45, 0.1, 1.35])[:, None, None].expand(TILES, 4, 64, 64)
    words = {"valid": torch.ones_like(target, dtype=torch.bool), "soil": soil.contiguous()}
    probe = torch.where(torch.arange(64) == 32, target, torch.nan)
    share = torch.full((TILES, 1, 1), 0.5)
    return {"inputs": inputs, "target": target, "weights": torch.ones_like(target),
            "probe": probe, "share": share, **words}  # fmt: skip


def a_step(model, tiles, *, precision=torch.float32):
    """One step of training, forward, backward and Adam."""
    optimizer, step = torch.optim.Adam(model.parameters(), 1e-3), step_by(deepsoil.ScienceLoss())

    def call():
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            error = step(model, tiles)
        optimizer.zero_grad(set_to_none=True)
        error.backward()
        optimizer.step()

    return call


class Half(nn.Module):
    """A model whose maps and weights are bfloat16; its answer is float32."""

    def __init__(self, model):
        super().__init__()
        self.model = model.to(torch.bfloat16)

    def forward(self, inputs):
        return self.model(inputs.to(torch.bfloat16)).float()


def predicting(tiles):
    """One line a rival: prediction, its ratio to eager float32 and how far its MAE moves."""
    torch.manual_seed(0)
    model = deepsoil.DeepSoil.preset("paper")
    learn = a_step(model, tiles)
    for _ in range(WARM_STEPS):  # so that norms and answers are those of a model that has learnt
        learn()
    model.eval()
    wide = tiles["inputs"].contiguous(memory_format=torch.channels_last)
    short = inference.folded(model)
    fast = copy.deepcopy(short).to(memory_format=torch.channels_last)
    rivals = {
        "eager float32": (model, tiles["inputs"]), "norms folded": (short, tiles["inputs"]),
        "folded, channels last (as maps)": (fast, wide),
        "the same in bfloat16": (Half(copy.deepcopy(fast)), wide),
    }  # fmt: skip
    if not inference.has_bfloat16(torch.device("cpu")):
        rivals.pop("the same in bfloat16")
    if "--compile" in sys.argv:
        rivals["folded, channels last, compiled"] = torch.compile(fast, dynamic=False), wide
    with torch.inference_mode():
        seconds = processor_seconds({n: lambda m=m, x=x: m(x) for n, (m, x) in rivals.items()})
        maes = {n: float((m(x) - tiles["target"]).abs().mean()) for n, (m, x) in rivals.items()}
    peer, mae = seconds["eager float32"], maes["eager float32"]
    flops = TILES * inference.size_table(model, {"inputs": tiles["inputs"][:1]})["flops"].iloc[-1]
    print(
        f"DEEPSOIL paper, eager float32 | {flops / peer / 1e9:.0f} billion operations a second | "
        f"a matrix product {rate_of_products() / 1e9:.0f} | so float32 can win "
        f"{rate_of_products() * peer / flops:.1f} times at most"
    )
    for name, found in seconds.items():
        moved = abs(maes[name] / mae - 1)
        print(
            f"DEEPSOIL paper, {TILES} tiles, {name} | {found:.3f} s | eager float32 {peer:.3f} s | "
            f"ratio {peer / found:.2f}, required {INFERENCE_REQUIRED} | MAE moves by {moved:.2%}, "
            f"allowed {MAE_ALLOWED:.0%}"
        )


def learning(tiles):
    """One line a rival: a step of training and its ratio to eager float32."""
    torch.manual_seed(0)
    model = deepsoil.DeepSoil.preset("paper")
    wide = {**tiles, "inputs": tiles["inputs"].contiguous(memory_format=torch.channels_last)}
    laid = [copy.deepcopy(model).to(memory_format=torch.channels_last) for _ in range(2)]
    rivals = {
        "eager float32": a_step(copy.deepcopy(model), tiles),
        "channels last": a_step(laid[0], wide),
        "channels last, bfloat16": a_step(laid[1], wide, precision=torch.bfloat16),
    }
    if not inference.has_bfloat16(torch.device("cpu")):
        rivals.pop("channels last, bfloat16")
    if "--compile" in sys.argv:
        fused = copy.deepcopy(model).to(memory_format=torch.channels_last)
        rivals["channels last, compiled"] = a_step(torch.compile(fused, dynamic=False), wide)
    seconds = processor_seconds(rivals)
    peer = seconds["eager float32"]
    for name, found in seconds.items():
        print(
            f"DEEPSOIL paper, a training step of {TILES} tiles, {name} | {found:.3f} s | eager "
            f"float32 {peer:.3f} s | ratio {peer / found:.2f}, required {TRAINING_REQUIRED}"
        )


def rendering():
    """One line: an extent of the synthetic world with all 75 maps, target and soil."""
    world = {"seed": 0, "n_stations": 4, "start": "2019-04-01", "end": "2019-08-01"}
    archive = open_archive("synthetic", **world)
    stations, seconds = archive.world.stations().drop_duplicates("station_id"), []
    with tempfile.TemporaryDirectory() as folder:
        for station in stations["station_id"]:
            start = time.process_time()
            one = stations[stations["station_id"] == station]
            deepsoil.build_extents(
                one, archive, folder=folder, times=["2019-06-20 18:00"], progress=False
            )
            seconds.append(time.process_time() - start)
    print(
        f"an extent of the synthetic world, 192 x 192 pixels, 75 maps, target and soil | "
        f"{statistics.median(seconds):.2f} s of processor, {min(seconds):.2f} at best of "
        f"{len(seconds)} places, allowed {RENDER_ALLOWED_S:g}"
    )


def main():
    """Print a line a rival."""
    torch.set_num_threads(1)
    if not inference.has_bfloat16(torch.device("cpu")):
        print("this processor multiplies no bfloat16; torch's reference kernels are left out")
    tiles = batch()
    predicting(tiles)
    learning(tiles)
    rendering()


if __name__ == "__main__":
    main()

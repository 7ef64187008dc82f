"""DEEPSOIL on one thread of a CPU: inference, a training step and maps against eager float32.

Seconds are those of the processor, so that other work on the machine counts little. ``--compile``
adds torch.compile, which takes minutes before the first call; ``--int8`` static quantisation (all
of the network is convolutions, for which torch has no dynamic one). ``--network`` stops after the
network alone. Maps of 1, 4 and 16 extents are made
each in a process of its own (``--extents N``); their layers are drawn by the synthetic world once
and repeated over the tiles of cubes, since the door is what is timed.
"""

import copy
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import pandas as pd
import torch
from torch import nn
from torch.ao.quantization import get_default_qconfig_mapping, quantize_fx

from soilkit import grids
from soilkit.export import cubes
from soilkit.export.archives import open_archive
from soilkit.models import deepsoil, inference, maps, training
from soilkit.models.deepsoil import field_maps
from soilkit.models.deepsoil.network import N_LOW_LEVEL, step_by

TILES, ROUNDS, WARM_STEPS = 8, 3, 6
INFERENCE_REQUIRED, TRAINING_REQUIRED, MAE_ALLOWED, RENDER_ALLOWED_S = 4.0, 2.5, 0.01, 3.0
EXTENTS, DAYS = (1, 4, 16), 3  # of maps
STATES = {"Oklahoma": (24_849, 11_930), "California": (35_097, 38_100)}  # pixels, of the paper


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


class Bare(nn.Module):
    """A folded model's layers without its checks, which cannot be traced."""

    def __init__(self, model):
        super().__init__()
        self.down, self.up, self.last = model.down, model.up, model.last

    def forward(self, inputs):
        deep, kept = inputs, []
        for block in self.down:
            deep = block(deep)
            kept.append(deep)
        for block, skip in zip(self.up, (*kept[-2::-1], None), strict=True):
            deep = block(deep)
            deep = deep if skip is None else torch.cat([deep, skip], dim=1)
        return self.last(torch.cat([deep, inputs[:, :N_LOW_LEVEL]], dim=1))[:, 0]


def in_int8(model, inputs):
    """A folded model with weights and maps in eight bits, their ranges those of ``inputs``."""
    mapping = get_default_qconfig_mapping("x86")
    watched = quantize_fx.prepare_fx(Bare(copy.deepcopy(model)).eval(), mapping, (inputs,))
    with torch.inference_mode():
        watched(inputs)
    return quantize_fx.convert_fx(watched)


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
    if "--int8" in sys.argv:
        rivals["folded, int8"] = in_int8(short, tiles["inputs"]), wide
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
    return peer / TILES


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


class Repeated:
    """The synthetic archive whose chips are drawn once a source and size."""

    def __init__(self, archive):
        self.archive, self.drawn = archive, {}

    def __getattr__(self, name):
        return getattr(self.archive, name)

    def chips(self, requests):
        """The first chip of its kind for every request."""
        for request in requests:
            kind = request.source, request.grid.height, request.grid.width
            if kind not in self.drawn:
                ((_, self.drawn[kind]),) = self.archive.chips([request])
            yield request, self.drawn[kind]


def untrained():
    """The paper's network with the weights that it begins with."""
    torch.manual_seed(0)
    model = deepsoil.DeepSoil.preset("paper").eval()
    about = training.Provenance(tuple(c.name for c in deepsoil.CHANNELS), {"name": "untrained"})
    kept = training.Checkpoint(model.configuration, about, model.state_dict(), 1, 0.0)
    return deepsoil.TrainedDeepSoil({field_maps.ALL: kept})


def a_map(n_extents):
    """Map square extents through the one door; a line of JSON: seconds, tiles, megabytes."""
    torch.set_num_threads(1)
    left, _, _, top = grids.quadkey_bounds(grids.quadkey_at(-97.5, 36.2, length=12))
    side_m = round(n_extents**0.5) * 3 * field_maps.TILE_PX * field_maps.QuadkeyTiles.cell_m
    to_degrees = grids.transformer(grids.WEB_MERCATOR_CRS, "EPSG:4326").transform
    (west, east), (south, north) = to_degrees(
        (left + 9, left + side_m - 9), (top - side_m + 9, top - 9)
    )
    world = {"seed": 0, "n_stations": 1, "start": "2019-03-01", "end": "2019-09-01"}
    archive, build, spent = Repeated(open_archive("synthetic", **world)), cubes.build, []

    def timed(*arguments, **options):
        start = time.process_time()
        cube = build(*arguments, **options)
        spent.append(time.process_time() - start)
        return cube

    cubes.build = timed
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        mapped = maps.predict_region(
            untrained(), (west, south, east, north), archive=archive, store=folder,
            dates=pd.date_range("2019-06-12 12:00", periods=DAYS), progress=False,
        )  # fmt: skip
    seconds = time.process_time() - start - sum(spent)
    tiles = mapped["soil_moisture"].size / field_maps.TILE_PX**2
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "laid": sum(spent), "tiles": tiles, "peak": peak}))


def mapping(eager_s):
    """A line a size of region, and the hours that whole states would take."""
    for n in EXTENTS:
        command = [sys.executable, "-m", "tests.benchmarks.bench_deepsoil", "--extents", str(n)]
        made = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        one = json.loads(made.splitlines()[-1])
        each_s = one["seconds"] / one["tiles"]
        print(
            f"DEEPSOIL paper, maps of {n} extents on {DAYS} days, {one['tiles']:.0f} tiles in all, "
            f"through the one door | "
            f"{1000 * each_s:.0f} ms a tile and day without laying its layers "
            f"({1000 * one['laid'] / one['tiles']:.0f} ms) | eager float32, the network alone on "
            f"one tile of {TILES}, {1000 * eager_s:.0f} ms | peak memory {one['peak']:.0f} MB"
        )
    for state, (rows, cols) in STATES.items():
        tiles = rows * cols / field_maps.TILE_PX**2
        print(
            f"DEEPSOIL paper, a day of {state}, {rows:,} x {cols:,} pixels, extrapolated from "
            f"{one['tiles']:.0f} tiles | {tiles * each_s / 3600:.1f} h of one core through the "
            f"door, layers at hand | eager float32, the network alone, "
            f"{tiles * eager_s / 3600:.1f} h"
        )


def main():
    """Print a line a rival."""
    torch.set_num_threads(1)
    if not inference.has_bfloat16(torch.device("cpu")):
        print("this processor multiplies no bfloat16; torch's reference kernels are left out")
    tiles = batch()
    eager_s = predicting(tiles)
    learning(tiles)
    if "--network" in sys.argv:
        return
    rendering()
    mapping(eager_s)


if __name__ == "__main__":
    a_map(int(sys.argv[-1])) if "--extents" in sys.argv else main()

"""Maps of the small fusion model: windows one by one, exact, and dense; time, error, memory.

Time on fields without meaning; with one thread it is the processor's, which other work on the
machine hardly lengthens. Error against the truth of the synthetic world, by a model that learnt on
the same ground. One by one is the model as trained, in float32, over a sample of windows, scaled.
"""

import argparse
import os
import resource
import subprocess
import sys
import time

import numpy as np
import torch
from torch.nn import functional

from soilkit import sources
from soilkit.contracts import Chip, Grid
from soilkit.models import maps, xception_fusion
from soilkit.models.inference import for_inference, has_bfloat16
from soilkit.models.inputs import Inputs
from soilkit.models.maps import receptive_field
from soilkit.models.xception_fusion import XceptionFusion, look
from soilkit.world import World

SIDE, SAMPLE, ROUNDS = 2048, 32, 2
TRUTH_SIDE, STEPS, BATCH = 1024, 150, 16
WHEN = "2019-06-15T12:00"
EXACT_REQUIRED, DENSE_REQUIRED, CHANGE_REQUIRED, MEMORY_REQUIRED_GB = 6, 40, 0.02, 4
CHANNELS = {"high": 10, "low": 4}


def grid_of(side):
    """A square of the synthetic world's plains."""
    return Grid("EPSG:32614", 500_000.0, 4_200_000.0, 10.0, side, side)


def fields(side, seed=0):
    """A scene of smooth random fields with noise."""
    rng, images = np.random.default_rng(seed), {}
    for name, bands in CHANNELS.items():
        n = side if name == "high" else side // 16
        images[name] = np.empty((bands, n, n), np.float32)
        for band in images[name]:  # one at a time: what is held beside the scene is measured
            rng.standard_normal(out=band, dtype=np.float32)
            band *= 0.3
            smooth = rng.standard_normal((16, 16), dtype=np.float32)
            band += np.kron(smooth, np.ones((n // 16, n // 16), np.float32))
    return maps.Scene(grid_of(side), images, {"coarse": rng.normal(size=(2, 4, 4))}, {"low": 16})


def settled(seed=0):
    """An untrained small model whose batch norms have seen such fields."""
    torch.manual_seed(seed)
    model = XceptionFusion.preset("small", high_channels=10, low_channels=4, coarse=2)
    with torch.no_grad():
        for _ in range(4):
            model(torch.randn(8, 10, 256, 256), torch.randn(8, 4, 16, 16), torch.randn(8, 2))
    return model.eval()


def one_by_one(model, scene, cells):
    """The paper's way, some windows of the scene."""
    side = scene.grid.height - 256
    with torch.inference_mode():
        for at in np.random.default_rng(0).integers(0, side // 32 + 1, (cells, 2)) * 32:
            (row, col), (top, left) = at, at // 16
            high = scene.images["high"][:, row : row + 256, col : col + 256]
            low = scene.images["low"][:, top : top + 16, left : left + 16]
            images = [torch.from_numpy(image[None].copy()) for image in (high, low)]
            model(*images, torch.zeros(1, 2))


def speed(side, threads):
    """One line: how long a cell takes each way, and the ratios."""
    scene, model = fields(side), settled()
    small = fields(512)
    fast, rounded = (for_inference(model, precision=p) for p in ("float32", "bfloat16"))
    n, n_small = ((s.grid.height // 32 - 7) ** 2 for s in (scene, small))
    ways = {
        "one by one": (lambda: one_by_one(model, scene, SAMPLE), SAMPLE),
        "exact": (lambda: maps.predict_map(fast, scene, look, progress=False), n),
        "exact bfloat16": (lambda: maps.predict_map(rounded, small, look, progress=False), n_small),
        "dense": (lambda: maps.predict_map(fast, scene, look, mode="dense", progress=False), n),
    }
    clock, unit = (time.process_time, "CPU ms") if threads == 1 else (time.perf_counter, "ms")
    best = {}
    for _ in range(ROUNDS):
        for name, (way, cells) in ways.items():
            start = clock()
            way()
            best[name] = min(best.get(name, np.inf), 1e3 * (clock() - start) / cells)
    told = " | ".join(f"{name} {ms:.2f} {unit}" for name, ms in best.items())
    ratio = {name: best["one by one"] / ms for name, ms in best.items()}
    native = "native" if has_bfloat16(torch.device("cpu")) else "torch's reference kernels"
    print(
        f"maps, small model, {side} x {side} px, {n} cells, {threads} threads, per cell | {told} | "
        f"ratio exact {ratio['exact']:.1f}, required {EXACT_REQUIRED} | "
        f"dense {ratio['dense']:.1f}, required {DENSE_REQUIRED} | "
        f"one by one over {SAMPLE} windows, scaled"
    )
    print(
        f"maps, bfloat16 on this processor: {native} | exact bfloat16 against float32 "
        f"{best['exact'] / best['exact bfloat16']:.2f} times as fast, over {n_small} cells"
    )


def ground(inputs=None, *, side=TRUTH_SIDE, statistics=None):
    """A scene of the synthetic world, and its truth (row, col) at 160 m."""
    world, fine = World(0, 8, "2019-01-01", "2020-01-01"), grid_of(side)
    wide = Grid(fine.crs, fine.left_m, fine.top_m, 160.0, side // 16, side // 16)
    inputs = inputs or Inputs(high=("sentinel1", "sentinel2", "dem"), low=("soilgrids",), coarse=())
    layers = {}
    for name in inputs.source_names:
        grid = fine if sources.get(name).resolution == "high" else wide
        layers[name] = Chip(world.render(name, np.datetime64(WHEN), grid), (), grid)
    scene = maps.scene_of(layers, inputs=inputs, statistics=statistics, grid=fine)
    return scene, world.truth(np.datetime64(WHEN), wide)


def learnt(scene, truth, *, steps=STEPS):
    """A small model that has learnt the truth of the central 320 m from windows of the scene."""
    torch.manual_seed(0)
    model = XceptionFusion.preset(
        "small", high_channels=len(scene.images["high"]), low_channels=len(scene.images["low"]),
        mean_label_m3_m3=float(truth.mean()),
    )  # fmt: skip
    optimizer, rng = torch.optim.Adam(model.parameters(), lr=2e-3), np.random.default_rng(0)
    last = scene.grid.height // 16 - 16
    for _ in range(steps):
        corners = rng.integers(0, last + 1, (BATCH, 2))
        high, low, moisture = zip(
            *(window(scene, truth, *corner) for corner in corners), strict=True
        )
        optimizer.zero_grad()
        predicted = model(torch.stack(high), torch.stack(low))
        functional.mse_loss(predicted, torch.tensor(moisture)).backward()
        optimizer.step()
    return model.eval()


def window(scene, truth, row, col):
    """High and low images of a window by its corner in pixels of 160 m, and its truth."""
    high = scene.images["high"][:, 16 * row : 16 * row + 256, 16 * col : 16 * col + 256]
    low = scene.images["low"][:, row : row + 16, col : col + 16]
    images = [torch.from_numpy(np.nan_to_num(image, nan=0.0)) for image in (high, low)]
    return *images, float(truth[row + 7 : row + 9, col + 7 : col + 9].mean())


def error(checkpoint="", *, side=TRUTH_SIDE):
    """One line: RMSE against truth of the exact map, and by how much others change it.

    A checkpoint of a fusion model learnt at stations, such as notebook 20's, is asked on ground
    that it has not seen; without one a model learns the truth of the scene itself.
    """
    if checkpoint:
        trained = xception_fusion.load(checkpoint)
        model = trained.model
        scene, truth = ground(trained.inputs, side=side, statistics=trained.statistics)
        learnt_from = "stations elsewhere"
    else:
        scene, truth = ground(side=side)
        model, learnt_from = learnt(scene, truth), "this ground"
    inset, n = receptive_field.window_px(model) // 32 - 1, side // 16
    inner = truth[inset : n - inset, inset : n - inset]
    cells = inner.reshape(len(inner) // 2, 2, len(inner) // 2, 2).mean(axis=(1, 3))
    ways = {"exact": ("float32", "exact"), "dense": ("float32", "dense")}
    if not checkpoint or has_bfloat16(torch.device("cpu")):  # else large maps take hours
        ways = {"bfloat16": ("bfloat16", "exact"), **ways}
    rmse = {}
    for name, (precision, mode) in ways.items():
        fast = for_inference(model, precision=precision)
        mapped = maps.predict_map(fast, scene, look, mode=mode, progress=False)
        rmse[name] = float(((mapped.soil_moisture - cells) ** 2).mean() ** 0.5)
    change = {name: value / rmse["exact"] - 1 for name, value in rmse.items()}
    print(
        f"maps, RMSE against truth, synthetic, learnt from {learnt_from}, {side} px, {cells.size} "
        f"cells, SD of truth {cells.std():.4f} | exact {rmse.pop('exact'):.4f} m3 m-3 | "
        f"{', '.join(f'{name} {change[name]:+.1%}' for name in rmse)}, required "
        f"{CHANGE_REQUIRED:.0%} either way | dense from exact "
        f"{mapped.attrs['dense_deviation_m3_m3']:.4f} m3 m-3 rms"
    )


def peak(side):
    """Print the largest resident memory of a dense map in GB, above that of the scene."""
    scene, model = fields(side), for_inference(settled(), precision="float32")
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    maps.predict_map(model, scene, look, mode="dense", progress=False)
    seconds = time.process_time() - start
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held
    print(f"{grown * 1024 / 1e9:.2f} {seconds:.2f}")


def memory(side, threads):
    """One line: memory of dense maps of two sizes, and how time grows with area."""
    figures = []
    for n in (side, 2 * side):
        command = [sys.executable, "-m", "tests.benchmarks.bench_maps", "--peak", "--side", str(n),
                   "--threads", str(threads)]  # fmt: skip
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        figures.append([float(figure) for figure in told.split()])
    (small_gb, small_s), (large_gb, large_s) = figures
    print(
        f"maps, dense, beside the scene's own memory | {side} px {small_gb:.2f} GB, {small_s:.1f} "
        f"CPU s | {2 * side} px {large_gb:.2f} GB, {large_s:.1f} CPU s | required "
        f"{MEMORY_REQUIRED_GB} GB | time for four times the area {large_s / small_s:.1f}"
    )


def main():
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=SIDE, help="pixels of 10 m")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--peak", action="store_true", help="only the memory of one dense map")
    parser.add_argument("--checkpoint", default="", help="only the error of this fusion model")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak:
        peak(options.side)
        return
    if options.checkpoint:
        error(options.checkpoint, side=options.side)
        return
    speed(options.side, options.threads)
    error()
    memory(options.side, options.threads)


if __name__ == "__main__":
    main()

"""The loader alone against what training consumes here: crops with a margin for rotation."""

import os
import tempfile

import numpy as np
import torch
from torch.nn import functional

from soilkit.export import chips
from soilkit.models.datasets import Augment, ChipDataset, make_loader
from soilkit.models.training import Settings
from soilkit.models.xception_fusion import XceptionFusion
from tests.benchmarks.bench_chip_reading import INPUTS, NoisyArchive, rate
from tests.benchmarks.turns import in_turn
from tests.helpers_archive import samples_table, stations_table

BATCH, CROP, WORKERS, READ, REQUIRED = 32, 362, 2, 800, 2.0


def consumed_per_s(preset, device):
    """Images a second of a training step on 256-crops, the faster of both precisions."""
    torch.manual_seed(0)
    model = XceptionFusion.preset(preset, high_channels=10).to(device)
    batch = 8 if preset == "paper" and device.type == "cpu" else BATCH
    high, moisture = torch.randn(batch, 10, CROP, CROP, device=device), torch.rand(batch)
    moisture, generator = moisture.to(device), torch.Generator().manual_seed(0)

    def step(precision):
        turned = Augment()({"high": high}, generator=generator)["high"]
        model.zero_grad(set_to_none=True)
        with Settings(precision=precision).autocast(device):
            predicted = model(turned)
        functional.huber_loss(predicted.float(), moisture).backward()

    rivals = {p: lambda p=p: step(p) for p in ("float32", "bfloat16")}
    return batch / min(in_turn(rivals, rounds=3).values())


def main():
    """Print one line a preset."""
    torch.set_num_threads(os.cpu_count() or 1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    stations = stations_table(4)
    samples = samples_table(stations, passes=30)
    samples["sentinel2_scene"] = "S2_" + (np.arange(len(samples)) // len(stations)).astype(str)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/chips.zarr"
        how = {"stations": stations, "size_px": 512, "progress": False}
        samples, _ = chips.build(samples, NoisyArchive(), path, **how)
        dataset = ChipDataset(samples, None, chips.open_store(path), inputs=INPUTS, crop_px=CROP)
        loader = make_loader(dataset, batch_size=BATCH, shuffle_seed=0, workers=WORKERS)
        ours = rate(loader, READ)
    for preset in ("small", "paper"):
        peer = consumed_per_s(preset, device)
        print(
            f"loader alone, {CROP}-crops of 10 bands, {WORKERS} workers | ours {ours:.0f}/s | "
            f"training step with augmentation, preset {preset}, {device.type} {peer:.1f}/s | "
            f"ratio {ours / peer:.1f}, required {REQUIRED}"
        )


if __name__ == "__main__":
    main()

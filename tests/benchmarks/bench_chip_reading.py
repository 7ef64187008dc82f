"""Shuffled normalised 256-crops of ten bands: two workers of ours against zarr and numpy, plainly.

The peer is the loop that one writes first: open each source with zarr, slice the crop, unpack,
normalise with numpy, in the same two worker processes and from the same warm store.
"""

import tempfile
import time

import numpy as np
import torch
import zarr
from torch.utils.data import DataLoader, Dataset

from soilkit import sources
from soilkit.contracts import Chip
from soilkit.export import chips
from soilkit.models.datasets import ChipDataset, make_loader
from soilkit.models.inputs import Inputs
from tests.helpers_archive import FakeArchive, analytic, samples_table, stations_table

INPUTS = Inputs(coarse=(), low=())
WORKERS, BATCH, CROP = 2, 16, 256
NOISE = {"VV": 2.2, "VH": 2.2, "angle": 0.0, "elevation": 0.0, "QA60": 0.0}


class NoisyArchive(FakeArchive):
    """Analytic chips with speckle and texture, which compress as badly as real ones."""

    def chips(self, requests):
        rng = np.random.default_rng(0)
        for request in requests:
            sd = np.array([NOISE.get(b, 300.0) for b in request.bands])[:, None, None]
            values = analytic(request)
            values = values + rng.normal(size=values.shape) * sd
            yield request, Chip(values.astype(np.float32), request.bands, request.grid)


class Naive(Dataset):
    """What one writes first."""

    def __init__(self, samples, store):
        self.samples, self.store = samples, store

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, i):
        sample, parts = self.samples.iloc[i], []
        for name in INPUTS.image_sources:
            row = self.store.rows(
                name, [sample[f"{name}_scene"]], station_ids=[sample["station_id"]]
            )
            array = zarr.open_array(self.store.path / name / "values", mode="r")
            first = (array.shape[-1] - CROP) // 2
            window = slice(first, first + CROP)
            values = self.store.packing(name).unpack(array[int(row[0]), :, window, window])
            for band in sources.get(name).fed:
                rule = sources.get(name).band(band).normalisation
                parts.append(np.nan_to_num(rule(values[self.store.bands(name).index(band)])))
        return torch.from_numpy(np.stack(parts).astype(np.float32))


def rate(loader, n):
    """Samples a second over ``n`` samples, the workers' start not counted."""
    batches = iter(loader)
    seen, start = len(_images(next(batches))), time.perf_counter()
    first = seen
    while seen < n:
        batch = next(batches, None)
        if batch is None:
            batches = iter(loader)
            continue
        seen += len(_images(batch))
    return (seen - first) / (time.perf_counter() - start)


def _images(batch):
    return batch if isinstance(batch, torch.Tensor) else batch["high"]


def compare(folder, *, size_px, passes, n):
    """(ours, peer) in crops a second, and whether both give the same tensors."""
    stations = stations_table(4)
    samples = samples_table(stations, passes=passes)
    samples["sentinel2_scene"] = "S2_" + (np.arange(len(samples)) // len(stations)).astype(str)
    path = f"{folder}/{size_px}.zarr"
    samples, _ = chips.build(
        samples, NoisyArchive(), path, stations=stations, size_px=size_px, progress=False
    )
    dataset = ChipDataset(samples, None, chips.open_store(path), inputs=INPUTS, crop_px=CROP)
    naive = Naive(samples, chips.open_store(path))
    equal = all(np.allclose(dataset[i]["high"], naive[i], atol=1e-5) for i in (0, len(samples) - 1))
    generator = torch.Generator().manual_seed(0)
    ours = make_loader(dataset, batch_size=BATCH, shuffle_seed=0, workers=WORKERS)
    peer = DataLoader(
        naive, BATCH, shuffle=True, generator=generator, num_workers=WORKERS, drop_last=True
    )
    return rate(ours, n), rate(peer, max(n // 10, 4 * BATCH)), equal


def main():
    """One line for 512-pixel chips and one for 256."""
    torch.set_num_threads(1)
    for size_px in (512, 256):
        with tempfile.TemporaryDirectory() as folder:
            ours, peer, equal = compare(folder, size_px=size_px, passes=30, n=1600)
        print(
            f"chip reading, shuffled 256-crops of 10 bands from {size_px}-px chips, 2 workers | "
            f"ours {ours:.0f}/s | zarr + numpy {peer:.0f}/s | ratio {ours / peer:.0f} | "
            f"equal results {'yes' if equal else 'NO'}"
        )


if __name__ == "__main__":
    main()

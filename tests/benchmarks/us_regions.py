"""Fine detail of SMAP that was hidden behind its means: what comes back at regions left out.

``python -m tests.benchmarks.us_regions NPZ CSV`` reads ``us_regions7x7/regions7x7_10day.npz``: ten
regions, 109 windows of ten days, Sentinel-1, Sentinel-2 and the SMAP analysis of some 10 km on
7 x 7 pixels. Of each image the first 6 x 6 pixels make four coarse cells of 3 x 3. Models see the
cells' means and the other bands, learn from cells alone in nine regions, and are scored in the
tenth at the hidden pixels, all with the cells' means kept. Drawn threefold, three pixels are nine,
so that the composite U-Net and its D stand as they are.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from soilkit.files import csv_text, write_text_whole
from soilkit.metrics import intervals
from soilkit.models import training
from soilkit.models.composite_unet import (
    CompositeConfig,
    CompositeUNet,
    composite_loss,
)
from soilkit.models.tabular.two_part import GapRidge

SIDE, TIMES = 3, 3  # pixels of a cell, and how often each is drawn
LAYER_MM = 50.0
EPOCHS, BATCH = 12, 64


def means(fine):
    """Means over 3 x 3 pixels, (..., 6, 6) -> (..., 2, 2)."""
    return fine.reshape(*fine.shape[:-2], 2, SIDE, 2, SIDE).mean(axis=(-3, -1))


def steps(cells):
    """Cells drawn on their pixels."""
    return cells.repeat(SIDE, axis=-2).repeat(SIDE, axis=-1)


def bilinear(cells):
    """The surface between the centres of four cells, going on beyond them, its means kept."""
    at = (np.arange(2 * SIDE) - (SIDE - 1) / 2) / SIDE  # centres at 0 and 1
    low, high = np.stack([1 - at, at])
    rows = cells[..., :1, :] * low[:, None] + cells[..., 1:, :] * high[:, None]
    return rows[..., :1] * low + rows[..., 1:] * high


def kept(answer, cells):
    """An answer whose cells' means are set right."""
    return answer + steps(cells - means(answer))


def ridge(bands, cells, *, train, test):
    """A ridge of the cells' means, applied to the pixels."""
    wide = means(bands)  # (region, time, band, 2, 2)
    n = bands.shape[2]
    rows = np.moveaxis(wide[train], 2, -1).reshape(-1, n)
    fitted = GapRidge(penalty=100.0).fit(rows, cells[train].ravel())
    pixels = np.moveaxis(bands[test], 1, -1)
    return fitted.predict(pixels.reshape(-1, n)).reshape(pixels.shape[:-1])


class Batches:
    """All images of some regions, in an order of their own each epoch, the same by seed."""

    def __init__(self, images, cells, *, seed, shuffled):
        self.images, self.cells, self.shuffled = images, cells, shuffled
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch):
        """Choose the epoch that the next pass gives."""
        self.epoch = epoch

    def __len__(self):
        return -(-len(self.images) // BATCH)

    def __iter__(self):
        order = np.arange(len(self.images))
        if self.shuffled:
            np.random.default_rng([self.seed, self.epoch]).shuffle(order)
        for part in np.array_split(order, len(self)):
            yield {"images": self.images[part], "coarse": self.cells[part]}


def step(model, batch):
    """The coarse part of the composite loss: there is no station."""
    fine, coarse = model(batch["images"])
    return composite_loss((fine, coarse), (torch.full_like(fine, torch.nan), batch["coarse"]),
                          alpha=1.0)  # fmt: skip


def look(model, batch):
    """The model's cells and the observed ones."""
    return model(batch["images"])[1], batch["coarse"]


def unet(images, cells, *, train, test, validation, seed):
    """The composite U-Net, taught by cells alone."""
    mean = images[train].mean(axis=(0, 1, 3, 4), keepdims=True)
    std = images[train].std(axis=(0, 1, 3, 4), keepdims=True)
    z = ((images - mean) / std).repeat(TIMES, axis=-2).repeat(TIMES, axis=-1)
    z, target = torch.from_numpy(z).float(), torch.from_numpy(cells).float()
    loaders = [
        Batches(z[part].flatten(0, 1), target[part].flatten(0, 1), seed=seed, shuffled=k == 0)
        for k, part in enumerate((train, validation))
    ]
    torch.manual_seed(seed)
    side = 2 * SIDE * TIMES
    config = CompositeConfig(images.shape[2], (16, 16), scored_px=side, margin_px=0)
    model = CompositeUNet(config, mean_label_m3_m3=float(cells[train].mean()))
    settings = training.Settings(
        steps=EPOCHS * len(loaders[0]), validate_every=len(loaders[0]), optimizer="adam",
        learning_rate=3e-3, weight_decay=0.0, seed=seed,
    )  # fmt: skip
    training.fit(model, loaders, step, look, settings=settings, progress=False)
    with torch.inference_mode():
        fine = model.eval()(z[test])[0]
    return fine.reshape(-1, 2 * SIDE, TIMES, 2 * SIDE, TIMES).mean((2, 4)).numpy()


def main(source, target):
    """Score every region left out and write the means over regions."""
    torch.set_num_threads(1)
    x = np.load(source)["x"][..., :6, :6].astype(float)
    fine = x[:, :, -1] / LAYER_MM
    cells = means(fine)
    seen = x[:, :, :-1]
    known = np.isfinite(seen)
    bands = np.concatenate([seen, bilinear(cells)[:, :, None]], axis=2)
    filled = np.concatenate(
        [np.where(known, seen, np.nanmean(seen, axis=(0, 1, 3, 4), keepdims=True)),
         bilinear(cells)[:, :, None], known[:, :, [13]]], axis=2,
    )  # fmt: skip
    rows = []
    for test in range(len(x)):
        others = [k for k in range(len(x)) if k != test]
        validation, train = others[:1], others[1:]
        of_ridge = ridge(bands, cells, train=others, test=test)
        of_unet = unet(filled, cells, train=train, test=test, validation=validation, seed=0)
        answers = {
            "cells as they are": steps(cells[test]), "bilinear": bilinear(cells[test]),
            "ridge of the cells, means kept": kept(of_ridge, cells[test]),
            "composite U-Net, means kept": kept(of_unet, cells[test]),
        }  # fmt: skip
        hidden = fine[test] - steps(cells[test])
        for name, answer in answers.items():
            detail = answer - steps(cells[test])
            rmse = np.sqrt(np.mean((detail - hidden) ** 2))
            r = np.corrcoef(detail.ravel(), hidden.ravel())[0, 1] if detail.std() > 0 else np.nan
            rows.append({"region": test, "model": name, "rmse_m3_m3": rmse, "r": r})
    table = pd.DataFrame(rows)
    base = table[table["model"] == "bilinear"].set_index("region")["rmse_m3_m3"]
    table["rmse less bilinear_m3_m3"] = table["rmse_m3_m3"] - table["region"].map(base)
    lines = []
    for model, part in table.groupby("model", sort=False):
        for metric in ("rmse_m3_m3", "rmse less bilinear_m3_m3", "r"):
            some = part.dropna(subset=[metric])
            found = intervals.mean_of_means(some[metric], some["region"])
            lines.append({"model": model, "metric": metric, **found})
    lines = pd.DataFrame(lines).rename(columns={"n_blocks": "n_regions"})
    write_text_whole(Path(target), csv_text(lines))
    return lines


if __name__ == "__main__":
    sys.stdout.write(main(*sys.argv[1:]).round(4).to_string() + "\n")

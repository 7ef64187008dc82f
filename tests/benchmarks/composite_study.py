"""What the composite-loss paper leaves open, on squares of the synthetic world.

``python -m tests.benchmarks.composite_study FOLDER reports/composite_1km`` lays a square of 72 km
into each of nine blocks of two degrees (thirteen channels at 1 km on two days of three Junes
and of a September), keeps it in FOLDER, and runs ``TRIALS`` for some seeds. A seed leaves a third
of the squares out, strews sensors in pairs over the others, deals the blocks with sensors 70:30
and trains; scored is the map of the squares left out, pixel by pixel, where there is neither a
sensor nor a coarse target. Every three seeds each square is left out once. A trial appends its
rows to ``open_questions.csv`` (a row a trial, block and month) and ``open_questions_trials.csv``
(validation, seconds, spectra); what stands there is not run again. ``open_questions_gains.csv``
holds paired differences with intervals over the blocks.
"""

import argparse
import resource
import sys
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import xarray as xr
from sklearn.ensemble import ExtraTreesRegressor
from torch import nn
from torch.nn import functional

from soilkit import grids
from soilkit.contracts import Grid
from soilkit.export import archives, cubes
from soilkit.files import csv_text, write_text_whole
from soilkit.metrics import intervals, splits
from soilkit.models import composite_unet, training
from soilkit.models.composite_unet import LAYERS, CompositeConfig, CompositeUNet, coarsened
from soilkit.models.datasets import CELL_PX, coarse_cells, cube_grid, turned, whole_cells
from soilkit.models.tabular.two_part import GapRidge
from soilkit.world import surface

LONGITUDES, LATITUDES = (-103, -101, -97), (35, 37, 39)  # centres of blocks of two degrees
CELLS, SIDE, MARGIN = 8, 72, 8  # cells of 9 km a side, pixels of 1 km, and what is seen around
MONTHS = ("2017-06", "2018-06", "2019-06", "2018-09")
SOURCES = {name: list(bands) for name, bands in composite_unet.SOURCES.items()}
SOURCES["smap_l3_ancillary"] += ["soil_moisture_dca"]
SOURCES |= {"smap_sentinel1": ["soil_moisture_1km"], "smap_l4": ["sm_surface"]}
BOUNDS = {"sentinel1": "12D", "smap_sentinel1": "12D", "imerg": "6h"}
PRODUCTS = {
    "SMAP, 9 km": "smap_l3_ancillary_soil_moisture_dca",
    "SMAP/Sentinel-1, 1 km": "smap_sentinel1_soil_moisture_1km",
    "SMAP L4, 9 km": composite_unet.COARSE,
}
FIELDS = {"and L4": PRODUCTS["SMAP L4, 9 km"], "and SMAP": PRODUCTS["SMAP, 9 km"]}
CHANNELS = *LAYERS, "sentinel1_mask"
POOL = 40  # pairs of sensors a square, of which a trial draws
OFFSET, NOISE = 0.03, 0.005  # m3 m-3, of a probe (Seyfried 2004)
IRRIGATED = 0.25  # the least share of a pixel's fields
EDGES_KM = (2, 4, 9, 18, 36, 72)  # wavelengths of the spectra
FOLDS, BATCH = 3, 4


# ---- the squares ---------------------------------------------------------------------------------


def days_of(archive, place):
    """Two days of each month on which SMAP came by."""
    days = []
    for month in MONTHS:
        first = pd.Timestamp(month)
        seen = archive.series(place, "smap_l3_ancillary", first, first + pd.Timedelta("29D"))
        ends = seen.dropna(subset=["tb_v_corrected"])["end"].to_numpy()
        days += [ends[len(ends) // 4], ends[3 * len(ends) // 4]]
    return np.sort(np.array(days, "datetime64[us]"))


def square(archive, folder, *, longitude, latitude):
    """Layers, products, truth and a pool of readings of one square, kept in the folder."""
    path = folder / f"square_{longitude}_{latitude}.npz"
    if path.exists():
        return dict(np.load(path))
    row, col = (int(n) - CELLS // 2 for n in grids.ease2_cell(longitude, latitude))
    left, bottom, right, top = grids.ease2_grid(row, col, height=CELLS, width=CELLS).bounds_m
    to_degrees = grids.transformer(grids.EASE2_CRS, "EPSG:4326").transform
    (west, east), (south, north) = to_degrees((left + 50, right - 50), (bottom + 50, top - 50))
    place = pd.DataFrame({"station_id": ["a"], "latitude": [latitude], "longitude": [longitude]})
    cube = cubes.build(
        (west, south, east, north), archive, folder / f"cube_{longitude}_{latitude}.zarr",
        sources=SOURCES, times=days_of(archive, place), pixel_size_m=1000, crs=grids.EASE2_CRS,
        tile_px=SIDE, bounds=BOUNDS, progress=False,
    )  # fmt: skip
    cube = whole_cells(cube).load()
    grid, times = cube_grid(cube), cube["time"].to_numpy()
    shape = len(times), SIDE, SIDE
    held = {name: np.broadcast_to(cube[name].to_numpy(), shape).astype(np.float32)
            for name in (*LAYERS, *PRODUCTS.values())}  # fmt: skip
    fine = Grid(grid.crs, grid.left_m, grid.top_m, grid.pixel_size_m / 4, 4 * SIDE, 4 * SIDE)
    fields = surface.place(archive.world.seed, fine).ground.irrigated
    held["irrigated"] = np.reshape(fields, (SIDE, 4, SIDE, 4)).mean(axis=(1, 3))
    held["truth"] = np.stack([archive.world.truth(at, grid) for at in times])
    held |= pool(archive.world, grid, times)
    np.savez(path.with_suffix(".part.npz"), times=times, **held)
    path.with_suffix(".part.npz").rename(path)
    return dict(np.load(path))


def pool(world, grid, times):
    """Pairs of sensors within some 1.5 km, the pixels that they stand on and their readings."""
    rng = world.rng("pairs of sensors", round(grid.left_m), round(grid.top_m))
    at_px = np.repeat(rng.uniform(2, SIDE - 2, (POOL, 2)), 2, axis=0)
    at_px += rng.uniform(-1.5, 1.5, at_px.shape)
    row, col = at_px.T
    x_m, y_m = grid.left_m + col * grid.pixel_size_m, grid.top_m - row * grid.pixel_size_m
    degrees = grids.transformer(grids.EASE2_CRS, "EPSG:4326").transform(x_m, y_m)
    wet = world.truth_at(times, longitude=degrees[0], latitude=degrees[1])
    errors = rng.normal(0, OFFSET, len(at_px)) + rng.normal(0, NOISE, wet.shape)
    return {"row": row.astype(int), "col": col.astype(int), "read": (wet + errors).clip(0.01, 0.6)}


class Squares:
    """All squares in memory: arrays (square, moment, row, col) by name, and z, normalised."""

    def __init__(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        period = {"start": "2015-12-20", "end": "2019-10-01"}
        self.archive = archives.open_archive("synthetic", seed=0, n_stations=1, **period)
        places = list(product(LONGITUDES, LATITUDES))
        parts = [square(self.archive, folder, longitude=x, latitude=y) for x, y in places]
        self.of = {name: np.stack([part[name] for part in parts]) for name in parts[0]}
        at = pd.DataFrame(places, columns=["longitude", "latitude"])
        self.blocks = splits.block_ids(at).to_numpy()
        self.is_june = pd.DatetimeIndex(self.of["times"].ravel()).month == 6
        self.is_june = np.reshape(self.is_june, self.of["times"].shape)
        layers = np.stack([self.of[name] for name in LAYERS], axis=2)  # (square, moment, layer, ..)
        mean, std = (f(layers, axis=(0, 1, 3, 4), keepdims=True) for f in (np.nanmean, np.nanstd))
        radar = np.isfinite(self.of[composite_unet.RADAR])[:, :, None]
        z = np.nan_to_num((layers - mean) / std).astype(np.float32)
        self.z = np.concatenate([z, radar.astype(np.float32)], axis=2)
        name, water = composite_unet.WATER
        self.land = self.of[name] != water
        cells = [coarse_cells(named(self.of[PRODUCTS["SMAP L4, 9 km"]][k])) for k in range(len(at))]
        self.coarse = np.stack(cells).astype(np.float32)  # (square, moment, 8, 8)


def named(values):
    """An array as the layer of a cube."""
    return xr.DataArray(values, dims=("time", "y", "x"), name="coarse")


# ---- stations and who trains ---------------------------------------------------------------------


def sensors_of(squares, seed, *, n):
    """Pairs of sensors drawn over the squares that are not left out, a table."""
    fold = splits.folds(squares.blocks, n_folds=FOLDS, seed=seed // FOLDS)
    seen = np.flatnonzero(fold != seed % FOLDS)
    rng = np.random.default_rng(seed)  # fewer sensors are the first of more
    order, pairs = (
        rng.permutation(seen),
        rng.permuted(np.tile(np.arange(POOL), (len(fold), 1)), axis=1),
    )
    sites = [(k, pairs[k, turn]) for turn in range(POOL) for k in order]
    rows = [(k, 2 * pair + side) for k, pair in sites for side in (0, 1)][:n]
    table = pd.DataFrame(rows, columns=["square", "sensor"])
    at = table["square"].to_numpy(), table["sensor"].to_numpy()
    table["row"], table["col"] = (squares.of[name][at] for name in ("row", "col"))
    return table, np.flatnonzero(fold == seed % FOLDS)


def dealt(table, by, *, seed):
    """Which sensors train, 70 of 100 sensors, cells or blocks; at least one of two stays aside."""
    cell = table["row"] // CELL_PX * CELLS + table["col"] // CELL_PX
    groups = {"sensor": table.index, "cell": table["square"] * CELLS**2 + cell,
              "block": table["square"]}[by]  # fmt: skip
    names = np.random.default_rng([seed, 1]).permutation(np.unique(groups))
    aside = names[: max(1, round(0.3 * len(names)))]
    return ~np.isin(groups, aside)


def drawn(squares, table, rows, *, moments):
    """Labels of some sensors on the pixels, (square, moment, row, col), NaN where there is none."""
    shape = squares.of["truth"].shape
    total, number = np.zeros(shape), np.zeros(shape)
    some = table[rows]
    at = some["square"].to_numpy()[:, None], np.arange(shape[1])
    at = *at, some["row"].to_numpy()[:, None], some["col"].to_numpy()[:, None]
    read = squares.of["read"].transpose(0, 2, 1)[some["square"], some["sensor"]]
    np.add.at(total, at, read)
    np.add.at(number, at, 1)
    labels = np.where(number > 0, total / np.maximum(number, 1), np.nan)
    return np.where(moments[:, :, None, None], labels, np.nan)


# ---- networks ------------------------------------------------------------------------------------


class Volumes(nn.Module):
    """A U-Net of as many weights, with 3 x 3 x 3 convolutions over modalities, rows and columns.

    All three axes are pooled and enlarged; the last layer sees each modality's features apart.
    """

    def __init__(self, widths, channels, *, mean_label_m3_m3):
        super().__init__()

        def pair(n, width):
            layers = (nn.Conv3d(k, width, 3, padding=1) for k in (n, width))
            return nn.Sequential(*(p for one in layers for p in (one, nn.LeakyReLU(0.1))))

        self.down = nn.ModuleList(pair(*two) for two in pairwise((1, *widths)))
        self.up = nn.ModuleList(pair(a + b, b) for a, b in pairwise(widths[::-1]))
        self.last = nn.Conv2d(widths[0] * channels, 1, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv3d):
                nn.init.kaiming_normal_(layer.weight, a=0.1)
        nn.init.normal_(self.last.weight, std=0.01)
        nn.init.constant_(self.last.bias, mean_label_m3_m3)

    def forward(self, images, valid=None):
        """Moisture at 1 km and its D."""
        kept, deep = [], images[:, None]
        for i, level in enumerate(self.down):
            deep = level(functional.max_pool3d(deep, 2, ceil_mode=True) if i else deep)
            kept.append(deep)
        for level, skip in zip(self.up, kept[-2::-1], strict=True):
            wide = functional.interpolate(
                deep, size=skip.shape[2:], mode="trilinear", align_corners=False
            )
            deep = level(torch.cat([wide, skip], dim=1))  # (B, width, modality, row, col)
        inner = slice(MARGIN, MARGIN + SIDE)
        fine = self.last(deep.flatten(1, 2))[:, 0, inner, inner]
        return fine, coarsened(fine, valid)


class Over(nn.Module):
    """A network that adds to a field, the last of the images."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images, valid=None):
        """Moisture at 1 km and its D."""
        inner = slice(MARGIN, MARGIN + SIDE)
        fine = self.model(images[:, :-1])[0] + images[:, -1, inner, inner]
        return fine, coarsened(fine, valid)


def network(kind, channels, *, mean):
    """A network by name; "over" starts at zero."""
    if kind == "3-D":
        return Volumes((2, 4, 8, 15), channels, mean_label_m3_m3=mean)
    small = composite_unet.PRESETS["small"]
    if kind == "over":
        return Over(CompositeUNet(CompositeConfig(channels - 1, **small), mean_label_m3_m3=0.0))
    return CompositeUNet(CompositeConfig(channels, **small), mean_label_m3_m3=mean)


def deviations(alpha):
    """The composite loss, the cells' mean over a patch taken off both sides."""

    def step(model, batch):
        fine, coarse = model(batch["images"], batch["valid"])
        off = (coarse - batch["coarse"]).nanmean(dim=(1, 2), keepdim=True)
        targets = batch["train"], batch["coarse"] + off
        return composite_unet.composite_loss((fine, coarse), targets, alpha=alpha, norm="sum")

    return step


class Batches:
    """Patches by number, in an order that is a function of seed and epoch."""

    def __init__(self, arrays, *, seed=None):
        self.arrays, self.seed, self.epoch = arrays, seed, 0
        self.n = len(arrays["images"])

    def set_epoch(self, epoch):
        """Choose the epoch that the next pass gives."""
        self.epoch = epoch

    def __len__(self):
        return self.n // BATCH if self.seed is not None else -(-self.n // BATCH)

    def __iter__(self):
        order = np.arange(self.n)
        if self.seed is not None:
            np.random.default_rng([self.seed, self.epoch]).shuffle(order)
        for k in range(len(self)):
            some = order[k * BATCH : (k + 1) * BATCH]
            yield {name: values[some] for name, values in self.arrays.items()}


# ---- a trial -------------------------------------------------------------------------------------

PLAIN = {"alpha": 1e-3, "norm": "sum", "n": 80, "by": "block", "bias": 0.0, "without": "",
         "months": "June", "kind": "2-D", "base": "", "fed": "", "tested": False, "members": 1,
         "epochs": 12, "deviations": False, "rates": (3e-3,), "shrunk": False}  # fmt: skip
RATES = (1e-3, 3e-3, 1e-2)  # of which validation chooses where a trial says so
PENALTIES = (10.0, 30.0, 100.0, 300.0)  # likewise, each seen square left out in turn
ALPHAS = (0.0, 1e-4, 1e-2, 0.1, 1.0, 10.0)  # beside the paper's 1e-3
STATIC = ("dem", "soilgrids", "modis_land_cover")  # by these a network may know its squares
TRIALS = {"paper": {}}
TRIALS |= {f"alpha {alpha:g}": {"alpha": alpha} for alpha in ALPHAS}
TRIALS |= {f"norm {norm}": {"norm": norm} for norm in ("mean", "root")}
for number in (5, 20, 320):
    TRIALS |= {f"{number} sensors": {"n": number},
               f"{number} sensors, alpha 0": {"n": number, "alpha": 0.0}}  # fmt: skip
TRIALS |= {f"biased, alpha {alpha:g}": {"bias": 0.05, "alpha": alpha} for alpha in (1e-3, 0.1, 10)}
TRIALS |= {f"without {word}": {"without": word} for word in ("sentinel1", "imerg")}
TRIALS |= {f"by {by}": {"by": by} for by in ("sensor", "cell")}
TRIALS |= {"June and September": {"months": "both"}, "September": {"months": "September"}}
TRIALS |= {"3-D": {"kind": "3-D"}, "3-D, rate chosen": {"kind": "3-D", "rates": RATES},
           "rate chosen": {"rates": RATES}}  # fmt: skip
TRIALS |= {
    "over the ridge": {"kind": "over", "base": "ridge"},
    "over the line of L4": {"kind": "over", "base": "SMAP L4, 9 km"},
    "L4 fed": {"fed": "SMAP L4, 9 km"},
    "L4 fed, over the ridge": {"kind": "over", "base": "ridge and L4", "fed": "SMAP L4, 9 km"},
    "over SMAP": {"kind": "over", "base": "SMAP, 9 km"},
    "over the ridge and SMAP": {"kind": "over", "base": "ridge and SMAP"},
    "over the chosen ridge and SMAP": {
        "kind": "over",
        "base": "chosen ridge and SMAP",
        "shrunk": True,
    },
    "dated layers": {"without": STATIC},
    "dated layers, over the dated ridge": {
        "without": STATIC,
        "kind": "over",
        "base": "dated ridge",
    },
    "dated layers, over the dated ridge and SMAP": {
        "without": STATIC,
        "kind": "over",
        "base": "dated ridge and SMAP",
    },
    "deviations": {"deviations": True},
    "deviations, alpha 0.1": {"deviations": True, "alpha": 0.1},
    "coarse of the tested too": {"tested": True},
    "three members": {"members": 3},
}


class Case:
    """A seed's sensors and squares with the options of a trial."""

    def __init__(self, squares, seed, options):
        self.squares, self.seed, self.options = squares, seed, PLAIN | options
        table, self.test = sensors_of(squares, seed, n=self.options["n"])
        trains = dealt(table, self.options["by"], seed=seed)
        june = squares.is_june
        moments = {"June": june, "September": ~june, "both": np.ones_like(june)}
        self.moments = moments[self.options["months"]]
        self.labels = {
            part: drawn(squares, table, rows, moments=self.moments)
            for part, rows in (("train", trains), ("validation", ~trains))
        }

    def rows(self, parts):
        """Labels of some parts and where they stand, for models of single pixels."""
        both = self.labels[parts[0]]
        for part in parts[1:]:
            both = np.where(np.isfinite(both), both, self.labels[part])
        known = np.isfinite(both)
        return known, both[known]

    def of_pixels(self, name, *, parts=("train", "validation")):
        """A rival's map (square, moment, row, col): a product, its line, a ridge or trees.

        No epoch is chosen for a rival, so it learns from both parts; what a network builds on
        learns from the first alone.
        """
        held, (known, labels) = self.squares.of, self.rows(parts)
        if name.endswith("as it is"):
            return held[PRODUCTS[name.removesuffix(", as it is")]]
        if name in PRODUCTS:
            value = held[PRODUCTS[name]]
            good = np.isfinite(value[known])
            slope, level = np.polyfit(value[known][good], labels[good], 1)
            return level + slope * value
        kept = [k for k, layer in enumerate(CHANNELS)
                if not ("dated" in name and layer.startswith(STATIC))]  # fmt: skip
        parts = [np.moveaxis(self.squares.z[:, :, kept], 2, -1)]
        parts += [held[layer][..., None] for word, layer in FIELDS.items() if name.endswith(word)]
        z = np.concatenate(parts, axis=-1)
        model = GapRidge(penalty=10.0)
        if name.startswith("chosen"):
            model = GapRidge(penalty=best_penalty(z[known], labels, np.nonzero(known)[0]))
        if name.startswith("trees"):
            model = ExtraTreesRegressor(200, min_samples_leaf=5, random_state=self.seed)
        model.fit(z[known], labels)
        return model.predict(z.reshape(-1, z.shape[-1])).reshape(z.shape[:-1])

    def images(self):
        """What a network sees, (square, moment, channel, row, col), the edge going on."""
        gone = self.options["without"]
        kept = [k for k, layer in enumerate(CHANNELS) if not gone or not layer.startswith(gone)]
        parts = [self.squares.z[:, :, kept]]
        if self.options["fed"]:
            field = self.squares.of[PRODUCTS[self.options["fed"]]]
            parts.append(((field - field.mean()) / field.std())[:, :, None])
        if self.options["base"]:
            base = self.of_pixels(self.options["base"], parts=("train",))
            parts.append(base[:, :, None])
        images = np.concatenate(parts, axis=2).astype(np.float32)
        return np.pad(images, [(0, 0)] * 3 + [(MARGIN, MARGIN)] * 2, mode="edge")

    def batches(self, images):
        """Batches to learn from and to choose by."""
        coarse = self.squares.coarse + np.float32(self.options["bias"])
        named = {"images": images, "coarse": coarse, "valid": self.squares.land, **self.labels}
        chosen = self.moments.copy()
        if not self.options["tested"]:
            chosen[self.test] = False
        aside = np.isfinite(self.labels["validation"]).any(axis=(2, 3))
        return [
            Batches({k: torch.from_numpy(np.asarray(v[some], np.float32))
                     for k, v in named.items()}, seed=seed)
            for some, seed in ((chosen, self.seed), (aside, None))
        ]  # fmt: skip

    def network(self):
        """The map of the squares left out by a trained network, and how training went."""
        options, images = self.options, self.images()
        maps, rows = [], []
        for member in range(options["members"]):
            tries = [self.trained(images, rate, seed=100 * member + self.seed)
                     for rate in options["rates"]]  # fmt: skip
            model, row = min(tries, key=lambda one: one[1]["validation_rmse_m3_m3"])
            rows.append(row)
            maps.append(mapped(model, images if options["shrunk"] else images[self.test]))
        row = pd.DataFrame(rows).mean().to_dict()
        if not options["shrunk"]:
            return np.mean(maps, axis=0), row
        fine, row["share"] = self.shrunk(np.mean(maps, axis=0))
        return fine, row

    def trained(self, images, rate, *, seed):
        """A network trained at a rate, and its errors at the epoch that validates best."""
        options, (train, validation) = self.options, self.batches(images)
        alpha, mean = options["alpha"], float(np.nanmean(self.labels["train"]))
        step = deviations(alpha) if options["deviations"] else composite_unet.step_by(
            alpha, options["norm"])  # fmt: skip
        torch.manual_seed(seed)
        model = network(options["kind"], images.shape[2], mean=mean)
        if options["kind"] != "3-D":
            model = model.to(memory_format=torch.channels_last)  # a quarter faster
        settings = training.Settings(
            steps=options["epochs"] * len(train), validate_every=len(train), optimizer="adam",
            learning_rate=rate, weight_decay=0.01, seed=seed,
        )  # fmt: skip
        curves = composite_unet.Curves()
        history = training.fit(
            model, (train, validation), step, composite_unet.look, settings=settings,
            score=curves, augment=turned, progress=False,
        )  # fmt: skip
        best = int(history["score"].idxmin())
        return model, {"best_epoch": best + 1, "rate": rate, **curves.rows[best]}

    def shrunk(self, fine):
        """The field refitted to all seen sensors, and the share of what a network adds to it.

        The share is the slope of the validation sensors' errors on what the network adds, 0 to 1.
        """
        added = fine - self.of_pixels(self.options["base"], parts=("train",))
        known = np.isfinite(self.labels["validation"])
        error = self.labels["validation"][known] - (fine - added)[known]
        covariance = np.cov(added[known], error)
        share = float(np.clip(covariance[0, 1] / covariance[0, 0], 0, 1))
        return (self.of_pixels(self.options["base"]) + share * added)[self.test], share


def best_penalty(z, labels, square):
    """The penalty of the ridge that errs least at squares left out in turn, of ``PENALTIES``."""

    def spread_of(penalty):
        errors = np.empty(len(labels))
        for out in (square == one for one in np.unique(square)):
            model = GapRidge(penalty=penalty).fit(z[~out], labels[~out])
            errors[out] = model.predict(z[out]) - labels[out]
        return errors.std()

    return min(PENALTIES, key=spread_of)


def mapped(model, images):
    """A network's maps (square, moment, row, col) of images."""
    with torch.inference_mode():
        some = torch.from_numpy(images).flatten(0, 1)
        fine = torch.cat([model.eval()(part)[0] for part in some.split(BATCH)])
    return fine.reshape(*images.shape[:2], SIDE, SIDE).numpy()


# ---- scores --------------------------------------------------------------------------------------


def detail(values, good):
    """What a 9 km cell's mean leaves, (n, row, col), 0 where it is not counted."""
    cells = values.reshape(-1, CELLS, CELL_PX, CELLS, CELL_PX)
    weight = good.reshape(cells.shape)
    total = np.where(weight, cells, 0).sum(axis=(2, 4), keepdims=True)
    mean = total / np.maximum(weight.sum(axis=(2, 4), keepdims=True), 1)
    return np.where(weight, cells - mean, 0).reshape(values.shape)


def correlation(a, b):
    """Pearson's R, NaN for what has no detail."""
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 1e-6 else np.nan


def scores(squares, k, predicted, *, moments):
    """Errors of a square's map (moment, row, col) against the truth, and its detail."""
    truth, predicted = squares.of["truth"][k][moments], predicted[moments]
    good = squares.land[k][moments] & np.isfinite(predicted)
    for name in PRODUCTS.values():
        good &= np.isfinite(squares.of[name][k][moments])
    error = np.where(good, predicted - truth, np.nan)
    wet = np.broadcast_to(squares.of["irrigated"][k] >= IRRIGATED, good.shape) & good
    two = [detail(v, good) for v in (np.nan_to_num(predicted), truth)]
    by_day = [np.corrcoef(p[g], t[g])[0, 1] for p, t, g in zip(predicted, truth, good, strict=True)]
    mean = float(np.nanmean(error))
    return {
        "n_px": int(good.sum()), "bias_m3_m3": mean, "mse": float(np.nanmean(error**2)),
        "ubrmse_m3_m3": float(np.nanstd(error)), "r": float(np.mean(by_day)),
        "detail_r": correlation(two[0][good], two[1][good]),
        "detail_sd_ratio": float(two[0][good].std() / two[1][good].std()),
        "detail_skill": float(1 - np.mean((two[0] - two[1])[good] ** 2) / two[1][good].var()),
        "n_irrigated": int(wet.sum()),
        "bias_irrigated_m3_m3": float(error[wet].mean()) if wet.any() else np.nan,
    }  # fmt: skip


def spectra(squares, test, predicted):
    """Power over the truth's and correlation with it, by bands of wavelength, in June."""
    window = np.hanning(SIDE)[:, None] * np.hanning(SIDE)
    sums = np.zeros((3, SIDE, SIDE // 2 + 1))
    for k, fine in zip(test, predicted, strict=True):
        june = squares.is_june[k]
        pairs = zip(fine[june], squares.of["truth"][k][june], squares.land[k][june], strict=True)
        for one, truth, land in pairs:
            land = land & np.isfinite(one)
            a, b = (np.fft.rfft2(np.where(land, v - v[land].mean(), 0) * window)
                    for v in (one, truth))  # fmt: skip
            sums += np.stack([abs(a) ** 2, abs(b) ** 2, (a * b.conj()).real])
    per_km = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE))
    row = {}
    for short, long in pairwise(EDGES_KM):
        mine, theirs, cross = sums[:, (per_km > 1 / long) & (per_km <= 1 / short)].sum(axis=1)
        row[f"power_{short}_{long}_km"] = mine / theirs
        row[f"coherence_{short}_{long}_km"] = cross / np.sqrt(mine * theirs)
    return row


RIVALS = [*(f"{name}, as it is" for name in PRODUCTS), *PRODUCTS, "ridge", "ridge and L4",
          "ridge and SMAP", "chosen ridge and SMAP", "dated ridge", "dated ridge and SMAP", "trees",
          "trees and L4"]  # fmt: skip


def cpu_s():
    """Seconds of the processor so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def run(squares, name, seed):
    """Rows by block and month, and the row of the trial."""
    began = cpu_s()
    if name in TRIALS:
        case = Case(squares, seed, TRIALS[name])
        predicted, about = case.network()
    else:
        case, about = Case(squares, seed, {}), {}
        predicted = case.of_pixels(name)[case.test]
    rows = []
    for k, fine in zip(case.test, predicted, strict=True):
        for month, moments in (("June", squares.is_june[k]), ("September", ~squares.is_june[k])):
            row = {"trial": name, "seed": seed, "block": squares.blocks[k], "month": month}
            rows.append(row | scores(squares, k, fine, moments=moments))
    trial = {"trial": name, "seed": seed, **about, "cpu_s": cpu_s() - began}
    return rows, trial | spectra(squares, case.test, predicted)


def append(path, rows):
    """Rows at the end of a csv, whole or not at all."""
    old = [pd.read_csv(path)] if path.exists() else []
    table = pd.concat([*old, pd.DataFrame(rows)], ignore_index=True)
    columns = table.select_dtypes(float).columns
    table[columns] = table[columns].map(lambda v: float(f"{v:.5g}"))
    write_text_whole(path, csv_text(table))


# ---- paired differences --------------------------------------------------------------------------

AGAINST = {name: "paper" for name in TRIALS if name != "paper"}
AGAINST |= {f"{n} sensors": f"{n} sensors, alpha 0" for n in (5, 20, 320)}
AGAINST |= {"biased, alpha 0.1": "alpha 0.1", "biased, alpha 10": "alpha 10"}
AGAINST |= {"3-D, rate chosen": "rate chosen"}
AGAINST |= dict.fromkeys(RIVALS, "SMAP, 9 km") | {"paper": "SMAP, 9 km"}
BASES = {name: of["base"] for name, of in TRIALS.items() if of.get("base")}  # what is added to
METRICS = ("ubrmse_m3_m3", "bias_m3_m3", "r", "detail_r", "detail_skill", "bias_irrigated_m3_m3")


def spread(blocks):
    """ubRMSE of all blocks together, whose biases differ, from rows of bias and mean square."""
    return np.sqrt(blocks["mse"].mean() - blocks["bias_m3_m3"].mean() ** 2)


def together(mine, theirs=None):
    """``spread`` with its interval by leaving out a block at a time, or the paired difference."""

    def value(kept):
        less = 0.0 if theirs is None else spread(theirs.loc[kept])
        return spread(mine.loc[kept]) - less

    blocks = mine.index if theirs is None else mine.index.intersection(theirs.index)
    left_out = np.array([[value(blocks.drop(one))] for one in blocks])
    scale = "spread" if theirs is None else "mean"
    whole = value(blocks)
    (lower,), (upper,) = intervals.jackknife([whole], left_out, scale=scale)
    return {"value": whole, "lower": lower, "upper": upper, "n_blocks": len(blocks)}


def gains(table):
    """Values over blocks and paired differences, each block's seeds averaged first.

    A difference is over the seeds that both have.
    """
    seeds_of = table.groupby("trial")["seed"].agg(set)
    lines = []

    def of(trial, month, seeds):
        rows = table[(table["trial"] == trial) & (table["month"] == month)]
        return rows[rows["seed"].isin(seeds)].groupby("block")[[*METRICS, "mse"]].mean()

    for trial, month in product(table["trial"].unique(), ("June", "September")):
        others = ["", *([AGAINST[trial]] if trial in AGAINST else [])]
        others += ["ridge", "SMAP, 9 km"] if trial in TRIALS and month == "June" else []
        others += [BASES[trial]] if trial in BASES else []
        for other in dict.fromkeys(others):
            if other and (other not in seeds_of or other == trial):
                continue
            seeds = seeds_of[trial] & seeds_of[other or trial]
            mine, theirs = of(trial, month, seeds), of(other, month, seeds) if other else None
            line = {"trial": trial, "less": other, "month": month, "n_seeds": len(seeds)}
            found = together(mine, theirs)
            lines.append(line | {"metric": "pooled_ubrmse_m3_m3"} | found)
            for metric in METRICS if month == "June" and other != "ridge" else METRICS[:2]:
                values = (mine[metric] - (theirs[metric] if other else 0.0)).dropna()
                found = intervals.mean_of_means(values, values.index)
                lines.append(line | {"metric": metric} | found)
    return pd.DataFrame(lines)


def main(argv):
    """Run what has not been run yet, trial by trial."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the squares go here")
    parser.add_argument("out_dir", type=Path, help="the csv files stand here")
    parser.add_argument("--seeds", type=int, default=FOLDS)
    parser.add_argument("--minutes", type=float, default=np.inf, help="of the processor, at most")
    parser.add_argument("--only", nargs="*", help="trials by name")
    asked = parser.parse_args(argv)
    torch.set_num_threads(1)
    squares = Squares(asked.folder)
    path, about = (asked.out_dir / f"open_questions{n}.csv" for n in ("", "_trials"))
    done = set()
    if about.exists():
        done = set(pd.read_csv(about)[["trial", "seed"]].itertuples(index=False, name=None))
    for name, seed in product(asked.only or [*RIVALS, *TRIALS], range(asked.seeds)):
        if (name, seed) in done or cpu_s() > 60 * asked.minutes:
            continue
        rows, trial = run(squares, name, seed)
        append(path, rows)
        append(about, [trial])
    lines = gains(pd.read_csv(path))
    columns = lines.select_dtypes(float).columns
    lines[columns] = lines[columns].round(5)
    write_text_whole(path.with_name("open_questions_gains.csv"), csv_text(lines))
    return lines


if __name__ == "__main__":
    table = main(sys.argv[1:])
    table = table[(table["month"] == "June") & (table["metric"] == "ubrmse_m3_m3")]
    sys.stdout.write(table.round(4).to_string() + "\n")

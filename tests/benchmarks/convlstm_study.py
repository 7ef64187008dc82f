"""``python -m tests.benchmarks.convlstm_study reports/convlstm``: what Rabiei et al. leave open.

On the synthetic world, whose truth is known: tiles of 6 x 6 cells of 9 km, one in each of 25 blocks
of 2 degrees. Of the five folds each hides five blocks from training and validates on five others;
a network learns on the first 60 % of the days and is scored on the last 20 % of the hidden blocks.
A fold is a seed, so that every block is scored once. ``open_questions.csv`` holds a row a trial and
block, appended as trials end: a study that was interrupted goes on. ``open_questions_gains.csv``
holds paired differences over the blocks; the tables that are kept are of folds 0 to 2. Only probes
of training and validation blocks are ever fitted or chosen by; truth scores.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import product as pairs_of
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr

from soilkit import grids, sources
from soilkit.files import write_bytes_whole, write_whole
from soilkit.metrics.intervals import mean_of_means
from soilkit.metrics.splits import block_ids
from soilkit.models import convlstm
from soilkit.models.convlstm import DEPTHS, SURFACE_ESTIMATE, TeacherLoss
from soilkit.world import World
from soilkit.world.sensors import coarse
from tests.benchmarks.depths import MEMORIES_DAYS, exponential_filter

SIDE, N_TILES, N_FOLDS = 6, 25, 5
START, END = "2019-04-01", "2019-10-31"
N_PROBES, OFFSET_M3_M3, NOISE_M3_M3 = 6, 0.02, 0.01  # a tile; errors of a probe
PROBE_M = {"surface": 0.05, "subsurface": 0.25}
SPAN_M = {"surface": (0.0, 0.05), "subsurface": (0.10, 0.40)}  # whose truth scores
SMAP = "smap_l3_ancillary"
LEAST_DAYS = 13
DAY = np.timedelta64(1, "D")


# The world: a cube whose tiles lie below each other, probes, and truth.


def corners() -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the upper left EASE-Grid cell of each tile, and blocks' names (tile,)."""
    lat, lon = np.array(list(pairs_of(range(33, 44, 2), range(-103, -92, 2)))).T
    some = np.random.default_rng(0).permutation(len(lat))[:N_TILES]
    places = pd.DataFrame({"latitude": lat[some], "longitude": lon[some]})
    at = np.stack(grids.ease2_cell(places["longitude"].to_numpy(), places["latitude"].to_numpy()))
    return at - SIDE // 2, block_ids(places).to_numpy(str)


def daily_layers(world: World, source: str, corner: np.ndarray, days: Any) -> dict[str, np.ndarray]:
    """Bands of a coarse product in a tile, (day, row, col): the latest of each day, stored."""
    row, col = (at + np.arange(SIDE) for at in corner)
    grid = grids.ease2_grid(*map(int, corner), height=SIDE, width=SIDE)
    lon, lat = grids.project(grid, "EPSG:4326")
    cells = coarse.cells(source, lon, latitude=lat) if source != SMAP else np.meshgrid(
        row, col, indexing="ij"
    )  # fmt: skip
    series = coarse.product(world, source, rows=cells[0].ravel(), cols=cells[1].ravel())
    ends = np.asarray(series.periods.end, "datetime64[us]")
    last = np.searchsorted(ends, days, side="right") - 1
    values = np.where((ends[last] > days - DAY)[:, None], series.values[:, last], np.nan)
    bands = [band.name for row in sources.CATALOGUE if row.name == source for band in row.bands]
    images = values.transpose(2, 1, 0).reshape(len(bands), len(days), SIDE, SIDE)
    return {f"{source}_{band}": image for band, image in zip(bands, images, strict=True)}


def tile_of(world: World, corner: np.ndarray, days: Any, *, number: int) -> dict[str, np.ndarray]:
    """All layers of a tile, its true soil, truth and probes, as arrays."""
    grid = grids.ease2_grid(*map(int, corner), height=SIDE, width=SIDE)
    noon = days - DAY // 2
    layers: dict[str, np.ndarray] = {}
    for source in (SMAP, "nldas2_noah"):
        layers |= daily_layers(world, source, corner, days)
    rows, cols = (at + np.arange(SIDE) for at in corner)
    cells = world.cells(*(m.ravel() for m in np.meshgrid(rows, cols, indexing="ij")))
    true = {"sandtotal": cells.sand_percent, "claytotal": cells.clay_percent,
            "silttotal": 100 - cells.sand_percent - cells.clay_percent,
            "bd": cells.bulk_density_g_cm3}  # fmt: skip
    for source in ("solus100", "solus100_30cm"):
        seen = world.render(source, noon[0], grid)
        bands = ("sandtotal", "silttotal", "claytotal", "bd")
        layers |= {f"{source}_{band}": image for band, image in zip(bands, seen, strict=True)}
        layers |= {f"true {source}_{b}": true[b].reshape(SIDE, SIDE) for b in bands}
    rng = np.random.default_rng([1, number])
    cell = rng.integers(0, SIDE, (2, N_PROBES))
    lon, lat = grids.transformer(grid.crs, "EPSG:4326").transform(
        grid.x_m[cell[1]] + rng.uniform(-4000, 4000, N_PROBES),
        grid.y_m[cell[0]] + rng.uniform(-4000, 4000, N_PROBES),
    )
    layers["probe cells"] = cell
    tests = convlstm.split_days(days) == "test"
    for depth, span in SPAN_M.items():
        layers[f"truth {depth}"] = np.stack(
            [world.truth(t, grid, depth_m=span) for t in noon[tests]]
        )
        wet = world.truth_at(noon, longitude=lon, latitude=lat, depth_m=PROBE_M[depth])
        offset = rng.normal(0, OFFSET_M3_M3, N_PROBES)
        layers[f"probes {depth}"] = wet + offset + rng.normal(0, NOISE_M3_M3, wet.shape)
    return layers


def build(path: Path) -> dict[str, np.ndarray]:
    """Layers of all tiles, (tile, ...), kept at ``path``."""
    if not path.exists():
        days = pd.date_range(START, END).to_numpy("datetime64[us]")
        world = World(seed=0, n_stations=1, start="2019-03-01", end="2019-11-15")
        parts = [tile_of(world, corner, days, number=k) for k, corner in enumerate(corners()[0].T)]
        whole = {name: np.stack([part[name] for part in parts]) for name in parts[0]}
        whole = {n: v.astype(np.float32) if v.dtype.kind == "f" else v for n, v in whole.items()}
        write_bytes_whole(path, lambda file: np.savez(file, **whole))
    with np.load(path) as kept:
        return dict(kept)


@dataclass(frozen=True)
class Tiles:
    """What the study knows: layers (tile, ...) by name, days, blocks."""

    layers: Mapping[str, np.ndarray]
    days: np.ndarray = field(
        default_factory=lambda: pd.date_range(START, END).to_numpy("datetime64[us]")
    )

    @cached_property
    def blocks(self) -> np.ndarray:
        return corners()[1]

    @cached_property
    def parts(self) -> np.ndarray:
        return convlstm.split_days(self.days)

    def cube(self) -> xr.Dataset:
        """Predictors and teachers, tiles below each other."""
        catalogue = {f"{s.name}_{b.name}": b for s in sources.CATALOGUE for b in s.bands}
        names = {*convlstm.predictors("surface", 2), *convlstm.predictors("subsurface", 1)}
        names |= {d.level for d in DEPTHS.values()} | {d.timing for d in DEPTHS.values()}
        made = {n: self.stacked(self.layers[n]) for n in sorted(names)}
        layers = {n: (dims, v, {"units": catalogue[n].unit}) for n, (dims, v) in made.items()}
        y = 4_000_000 - 9000.0 * np.arange(SIDE * len(self.blocks))
        x = 9000.0 * np.arange(SIDE)
        return xr.Dataset(layers, {"time": self.days, "y": y, "x": x})

    @staticmethod
    def stacked(values: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
        """Dims and values, tiles (tile, [day,] row, col) below each other."""
        if values.ndim == 3:
            return ("y", "x"), values.reshape(-1, SIDE)
        return ("time", "y", "x"), values.transpose(1, 0, 2, 3).reshape(values.shape[1], -1, SIDE)

    def fold(self, seed: int) -> np.ndarray:
        """ "train", "validation" or "test" of each tile; every tile is tested in one of 5 folds."""
        number = np.arange(len(self.blocks)) % N_FOLDS
        hidden = [number == (seed + k) % N_FOLDS for k in (0, 1)]
        return np.select(hidden, ["test", "validation"], "train")

    def teacher(self, name: str) -> np.ndarray:
        """A teacher's moisture, (day, tile, row, col) m3 m-3."""
        band = next(b for s in sources.CATALOGUE for b in s.bands if f"{s.name}_{b.name}" == name)
        return self.layers[name].swapaxes(0, 1) / (band.layer_mm or 1)

    def at_probes(self, values: np.ndarray) -> np.ndarray:
        """A field (day, tile, row, col) at the cells of the probes, (day, tile, probe)."""
        row, col = self.layers["probe cells"].transpose(1, 0, 2)  # (tile, probe)
        return values[:, np.arange(len(row))[:, None], row, col]

    def probes(self, depth: str) -> np.ndarray:
        """Readings (day, tile, probe), m3 m-3."""
        return self.layers[f"probes {depth}"].swapaxes(0, 1)


# Estimates of the whole cube, (day, tile, row, col).


def held(values: np.ndarray) -> np.ndarray:
    """The latest known value of each cell."""
    flat = values.reshape(len(values), -1)
    return convlstm.RIVALS["the latest value"](flat.T).T.reshape(values.shape)


def merged(tiles: Tiles, fields: list[np.ndarray], *, seed: int) -> np.ndarray:
    """Fields as a line fits them to the probes of training blocks on training days."""
    learns = np.ix_(tiles.parts == "train", tiles.fold(seed) == "train")
    at = np.stack([np.ones_like(fields[0]), *fields], axis=-1)
    known = np.stack([tiles.at_probes(f) for f in at.transpose(4, 0, 1, 2, 3)], axis=-1)[learns]
    wanted = tiles.probes("surface")[learns]
    ok = np.isfinite(known).all(axis=-1) & np.isfinite(wanted)
    weights = np.linalg.lstsq(known[ok], wanted[ok], rcond=None)[0]
    return (at @ weights).astype(np.float32)


def filtered(tiles: Tiles, surface: np.ndarray, *, seed: int) -> np.ndarray:
    """The exponential filter of a surface estimate: T and a line are fitted at training probes."""
    learns = np.ix_(tiles.parts == "train", tiles.fold(seed) == "train")
    wanted = tiles.probes("subsurface")[learns]
    at = np.arange(len(tiles.days))
    best_r, best = -np.inf, surface
    for memory in MEMORIES_DAYS:
        index = exponential_filter(surface, at, memory_days=memory)
        known = tiles.at_probes(index)[learns]
        r = np.nanmean(correlation(known.reshape(len(known), -1), wanted.reshape(len(known), -1)))
        if r > best_r:
            line = np.polyfit(known.ravel(), wanted.ravel(), 1)
            best_r, best = r, np.polyval(line, index)
    return best


def estimated(
    trained: convlstm.TrainedConvLSTM, cube: xr.Dataset, *, wanted: np.ndarray
) -> np.ndarray:
    """What a network says of the ``wanted`` days and tiles (day, tile), NaN of others.

    Tiles do not see each other.
    """
    shape, names = (cube.sizes["time"], cube.sizes["y"], SIDE), trained.scale.names
    images = np.stack([np.broadcast_to(cube[n].to_numpy(), shape) for n in names], axis=1)
    images = trained.scale(images)
    dated = [k for k, name in enumerate(names) if name.startswith(SMAP)]
    series = images[:, dated].transpose(2, 3, 0, 1).reshape(-1, shape[0], len(dated))
    filled = trained.filter.fill(series, cube["time"].values)
    images[:, dated] = filled.reshape(*shape[1:], shape[0], -1).transpose(2, 3, 0, 1)
    parts = np.nan_to_num(images).reshape(shape[0], len(names), -1, SIDE, SIDE).swapaxes(1, 2)
    tiles = wanted.any(axis=0)
    days = torch.from_numpy(parts[:, tiles])  # (day, tile, channel, row, col)
    told = np.full((*wanted.shape, SIDE, SIDE), np.nan, np.float32)
    length, memory = trained.model.config.lookback_days, None
    with torch.inference_mode():
        for k in range(len(days)):
            if not length:
                answer, memory = trained.model.advance(days[k][:, None], memory)
            elif wanted[k].any():
                answer = trained.model(days[max(0, k + 1 - length) : k + 1].transpose(0, 1))
            else:
                continue
            told[k, tiles] = answer[:, -1].numpy()
    return told


# Scores by block.


def correlation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pearson's R of each column over the days that both know; NaN below thirteen."""
    ok = np.isfinite(x) & np.isfinite(y)
    n = ok.sum(axis=0)
    x, y = (
        np.where(ok, v - np.sum(np.where(ok, v, 0), axis=0) / np.maximum(n, 1), 0) for v in (x, y)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (x * y).sum(axis=0) / np.sqrt((x**2).sum(axis=0) * (y**2).sum(axis=0))
    return np.where(n >= LEAST_DAYS, r, np.nan)


def block_scores(predicted: np.ndarray, observed: np.ndarray) -> dict[str, float]:
    """Scores of one block, columns being cells or probes, (day, column): R a column and pooled."""
    error = np.where(np.isfinite(observed), predicted - observed, np.nan)
    few = np.isfinite(error).sum(axis=0) < LEAST_DAYS
    error[:, few] = np.nan
    if few.all():
        return {}
    flat = [np.where(np.isfinite(error), v, np.nan).reshape(-1, 1) for v in (predicted, observed)]
    return {
        "r": float(np.nanmean(correlation(predicted, observed))),
        "pooled_r": float(correlation(*flat)[0]),
        "rmse_m3_m3": float(np.sqrt(np.nanmean(error**2))),
        "ubrmse_m3_m3": float(np.nanmean(np.nanstd(error[:, ~few], axis=0))),
        "bias_m3_m3": float(np.nanmean(error)),
    }


def rows_of(tiles: Tiles, values: np.ndarray, *, depth: str, **about: Any) -> list[dict[str, Any]]:
    """A row a block: hidden blocks and test days against the truth, validation against probes."""
    fold, rows = tiles.fold(about["seed"]), []
    tests, validates = (tiles.parts == part for part in ("test", "validation"))
    sensed = tiles.at_probes(values)
    for k, part in enumerate(fold):
        if part == "test":
            truth = tiles.layers[f"truth {depth}"][k].reshape(tests.sum(), -1)
            scores = block_scores(values[tests, k].reshape(tests.sum(), -1), truth)
        elif part == "validation":
            scores = block_scores(sensed[validates, k], tiles.probes(depth)[validates, k])
        else:
            continue
        if scores:
            rows.append({**about, "part": part, "block": tiles.blocks[k], **scores})
    return rows


# What is asked.

AS_IS, CARRIED, DEEP = "as in the paper, sound loss", "state carried", "25 cm, scenario 2"
BOTH = "NLDAS-2 and the latest DCA as inputs"
MERGE, STUDENT_MERGE = "least-squares merge of the teachers", "merge of student and teachers"
OURS = "ours, chosen on validation blocks"
PAPER = {"epochs": 2, "batch_size": 16, "patch_px": SIDE, "progress": False}
LONG = {"lookback_days": 0, "epochs": 5, "batch_size": 2}


@dataclass(frozen=True)
class Variant:
    """One change: options of ``convlstm.train``, of its cube, and of what it is measured by."""

    question: str
    reference: str = AS_IS
    options: Mapping[str, Any] = field(default_factory=dict)
    change: str = ""


def _loss(**options: Any) -> dict[str, Any]:
    return {"loss": TeacherLoss(**options)}


OWN = "improvement"
LEARNT_FROM = (AS_IS, "merge as the level")  # other estimates are made of these on all days
VARIANTS = {
    AS_IS: Variant("reference"),
    "beta 0": Variant("a: beta", options=_loss(beta=0.0)),
    "loss as printed": Variant("b: loss", options=_loss(form="printed")),
    "days split, block known": Variant("c: split", change="days"),
    "true soil maps": Variant("d: soil maps", change="true"),
    "shuffled soil maps": Variant("d: soil maps", change="shuffled"),
    "no soil maps": Variant("d: soil maps", options={"scenario": 1}),
    DEEP: Variant("e: subsurface", DEEP, {"depth": "subsurface"}, "surface estimate"),
    "look-back 1": Variant("f: look-back", options={"lookback_days": 1}),
    "peepholes": Variant("h: peepholes", options={"peepholes": True}),
    "merge as the level": Variant(OWN, change="merge"),
    "merge as the level, teachers as inputs": Variant(OWN, change="merge, inputs"),
    "merge as the level, beta 0": Variant(OWN, options=_loss(beta=0.0), change="merge"),
    "merge and probes as the level": Variant(OWN, change="probes"),
    BOTH: Variant(OWN, change="inputs"),
    "look-back 10": Variant("f: look-back", options={"lookback_days": 10}),
    CARRIED: Variant("f: look-back", options=LONG),
    "state carried, r a cell": Variant("g: r", CARRIED, {**LONG, **_loss(pooled=False)}),
    "twice the epochs": Variant("training", options={"epochs": 4}),
    "beta 0.05": Variant("a: beta", options=_loss(beta=0.05)),
    "25 cm, scenario 1": Variant("e: subsurface", DEEP, {"depth": "subsurface", "scenario": 1}),
}  # fmt: skip
LINES = {  # estimates that no network of their own makes: question, depth, reference
    "NLDAS-2": ("i: teachers", "surface", AS_IS), "latest DCA": ("i: teachers", "surface", AS_IS),
    "DCA, its days": ("i: teachers", "surface", "student, days of DCA"),
    MERGE: ("i: teachers", "surface", AS_IS), "student, days of DCA": ("reference", "surface", ""),
    STUDENT_MERGE: (OWN, "surface", AS_IS),
    "merge of ours and teachers": (OWN, "surface", AS_IS),
    "NLDAS-2, 10-40 cm": ("e: subsurface", "subsurface", DEEP),
    "exponential filter of the estimate": ("e: subsurface", "subsurface", DEEP),
}  # fmt: skip


@dataclass
class Study:
    """Trials whose rows are missing, and the estimates (day, tile, row, col) that they leave."""

    out: Path
    work: Path

    @cached_property
    def tiles(self) -> Tiles:
        return Tiles(build(self.work / "world.npz"))

    @property
    def path(self) -> Path:
        return self.out / "open_questions.csv"

    def rows(self) -> pd.DataFrame:
        """Every row so far."""
        return pd.read_csv(self.path) if self.path.exists() else pd.DataFrame(
            columns=["variant", "seed", "part"]
        )  # fmt: skip

    def append(self, rows: list[dict[str, Any]]) -> None:
        """Add the rows of a trial."""
        whole = pd.concat([self.rows(), pd.DataFrame(rows).round(4)], ignore_index=True)
        write_whole(self.path, partial(whole.to_csv, index=False))

    def kept(self, name: str, seed: int, make: Callable[[], np.ndarray]) -> np.ndarray:
        """An estimate from the working folder, or made and kept there."""
        path = self.work / f"{name.replace(' ', '_').replace(',', '')}_{seed}.npy"
        if not path.exists():
            values = make().astype(np.float32)
            write_bytes_whole(path, lambda file: np.save(file, values))
        return np.load(path)

    def cube(self, variant: Variant, seed: int) -> xr.Dataset:
        """The cube as a variant changes it."""
        tiles, cube, level = self.tiles, self.tiles.cube(), DEPTHS["surface"].level
        below = lambda v: tiles.stacked(v.swapaxes(0, 1))  # noqa: E731
        soil = [n for n in cube if str(n).startswith("solus100")]
        if variant.change == "true":
            return cube.assign({n: tiles.stacked(tiles.layers[f"true {n}"]) for n in soil})
        if variant.change == "shuffled":
            order, source = np.random.default_rng(seed).permutation(N_TILES), np.empty(N_TILES, int)
            source[order] = np.roll(order, 1)  # no tile keeps its own
            return cube.assign({n: tiles.stacked(tiles.layers[n][source]) for n in soil})
        if variant.change == "surface estimate":
            return cube.assign({SURFACE_ESTIMATE: below(self.estimate(AS_IS, seed))})
        if "inputs" in variant.change:
            both = {"input_nldas": tiles.teacher(level), "input_dca": self.latest_dca()}
            cube = cube.assign({n: below(v) for n, v in both.items()})
        if variant.change in ("merge", "merge, inputs", "probes"):
            taught = self.merge(seed).copy()
            if variant.change == "probes":
                taught = self.with_probes(taught)
            dims, values = below(taught)
            cube = cube.assign({level: (dims, values, {"units": "m3 m-3"})})
        return cube

    def latest_dca(self) -> np.ndarray:
        return held(self.tiles.teacher(DEPTHS["surface"].timing))

    def merge(self, seed: int) -> np.ndarray:
        fields = [self.tiles.teacher(DEPTHS["surface"].level), self.latest_dca()]
        return merged(self.tiles, fields, seed=seed)

    def with_probes(self, taught: np.ndarray) -> np.ndarray:
        """A teacher that says what probes read, in the cells that hold them."""
        row, col = self.tiles.layers["probe cells"].transpose(1, 0, 2)
        for k, p in pairs_of(range(len(row)), range(N_PROBES)):
            taught[:, k, row[k, p], col[k, p]] = self.tiles.probes("surface")[:, k, p]
        return taught

    def filter(self, seed: int, cube: xr.Dataset, split: np.ndarray) -> convlstm.ContinuousFilter:
        """The filter of a fold's gaps, learnt once."""
        path = self.work / f"filter_{seed}.pt"
        model = convlstm.ContinuousFilter(len(convlstm.predictors("surface", 1)))
        if path.exists():
            model.load_state_dict(torch.load(path, weights_only=True))
            return model.eval()
        names = convlstm.predictors("surface", 1)
        images = np.stack([cube[n].to_numpy() for n in names], axis=-1)[
            :, (split == "train").all(axis=1)
        ]
        images = (images - np.nanmean(images, axis=(0, 1, 2))) / np.nanstd(images, axis=(0, 1, 2))
        series = images.reshape(len(images), -1, len(names)).transpose(1, 0, 2).astype(np.float32)
        model = convlstm.train_filter(series, cube["time"].values, seed=seed)
        torch.save(model.state_dict(), path)
        return model

    def train(self, variant: Variant, seed: int) -> np.ndarray:
        """A network of a fold, and what it says."""
        tiles, whole, options = self.tiles, self.cube(variant, seed), {**PAPER, **variant.options}
        fold = tiles.fold(seed)
        labels = np.repeat(np.repeat(fold, SIDE)[:, None], SIDE, axis=1)
        if variant.change in ("inputs", "merge, inputs"):
            options["names"] = (*convlstm.predictors("surface", 2), "input_nldas", "input_dca")
        used, days = fold != "test", tiles.parts == "train"
        learnt = whole.isel(time=days, y=np.repeat(used, SIDE))
        gaps = self.filter(seed, learnt, labels[np.repeat(used, SIDE)])
        split: Any = labels[np.repeat(used, SIDE)]
        if variant.change == "days":  # as many blocks, those that are scored among them
            trains = np.flatnonzero(fold == "train")[
                : (fold == "train").sum() - (fold == "test").sum()
            ]
            rows = np.repeat(np.isin(np.arange(len(fold)), trains) | (fold == "test"), SIDE)
            learnt = whole.isel(time=tiles.parts != "test", y=rows)
            split = tiles.parts[tiles.parts != "test"]
        trained = convlstm.train(learnt, split, seed=seed, gaps=gaps, **options)
        scored = (tiles.parts != "train")[:, None] & (fold != "train")
        return estimated(
            trained, whole, wanted=scored | (variant in map(VARIANTS.get, LEARNT_FROM))
        )

    def estimate(self, name: str, seed: int) -> np.ndarray:
        """What a variant or a line says, (day, tile, row, col)."""
        tiles, surface = self.tiles, DEPTHS["surface"]
        if name in VARIANTS:
            return self.kept(name, seed, lambda: self.train(VARIANTS[name], seed))
        dca, level = tiles.teacher(surface.timing), tiles.teacher(surface.level)
        if name == "student, days of DCA":
            return np.where(np.isfinite(dca), self.estimate(AS_IS, seed), np.nan)
        if name in (STUDENT_MERGE, "merge of ours and teachers"):
            student = AS_IS if name == STUDENT_MERGE else "merge as the level"
            fields = [self.estimate(student, seed), level, self.latest_dca()]
            return merged(tiles, fields, seed=seed)
        if name == "exponential filter of the estimate":
            return filtered(tiles, self.estimate(AS_IS, seed), seed=seed)
        simple: dict[str, Callable[[], np.ndarray]] = {
            "NLDAS-2": lambda: level, "DCA, its days": lambda: dca, "latest DCA": self.latest_dca,
            MERGE: lambda: self.merge(seed),
            "NLDAS-2, 10-40 cm": lambda: tiles.teacher(DEPTHS["subsurface"].level),
        }  # fmt: skip
        return simple[name]()

    def run(self, names: list[str], seeds: list[int]) -> None:
        """Do what is due, variant by variant."""
        for name, seed in pairs_of(names, seeds):
            rows = self.rows()
            if ((rows["variant"] == name) & (rows["seed"] == seed)).any():
                continue
            start = time.process_time()
            depth = (
                LINES[name][1] if name in LINES else VARIANTS[name].options.get("depth", "surface")
            )
            question = LINES[name][0] if name in LINES else VARIANTS[name].question
            values = self.estimate(name, seed)
            about = {"question": question, "variant": name, "seed": seed}
            new = rows_of(self.tiles, values, depth=depth, **about)
            seconds = round(time.process_time() - start, 1)
            self.append([row | {"cpu_s": seconds} for row in new])
            print(f"{name}, seed {seed}: {seconds} s of processor", flush=True)


# What the rows say.

MEASURES = ("r", "pooled_r", "rmse_m3_m3", "ubrmse_m3_m3", "bias_m3_m3")


def with_choice(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows, and those of the improvement that each fold chose by RMSE at its validation probes."""
    own = rows[rows["question"] == OWN]
    validated = own[own["part"] == "validation"].groupby(["seed", "variant"])["rmse_m3_m3"].mean()
    if validated.empty:
        return rows
    best = validated.groupby("seed").idxmin()
    taken = pd.concat([own[(own["seed"] == s) & (own["variant"] == v)] for s, v in best])
    taken = taken.assign(question="improvement, chosen", chose=taken["variant"], variant=OURS)
    return pd.concat([rows, taken], ignore_index=True)


def references() -> list[tuple[str, str, str]]:
    """Question, variant and what it is measured by."""
    pairs = [(v.question, name, v.reference) for name, v in VARIANTS.items() if name != v.reference]
    pairs += [(question, name, of) for name, (question, _, of) in LINES.items() if of]
    rivals = (AS_IS, MERGE, "NLDAS-2", "latest DCA")
    pairs += [("improvement, chosen", OURS, rival) for rival in rivals]
    pairs += [(OWN, name, MERGE) for name, v in VARIANTS.items() if v.question == OWN]
    pairs += [(OWN, name, MERGE) for name, line in LINES.items() if line[0] == OWN]
    return [p for p in pairs if p[1] != p[2]]


def gains(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over hidden blocks, and paired differences, with 95 % intervals over blocks."""
    rows = with_choice(rows)
    tests = rows[rows["part"] == "test"]
    by = tests.groupby(["variant", "block"])[list(MEASURES)].mean()
    lines = []
    for question, variant, reference in [
        ("level", n, "") for n in by.index.unique("variant")
    ] + references():
        if variant not in by.index or (reference and reference not in by.index):
            continue
        for metric in MEASURES:
            values = by.loc[variant, metric]
            if metric == "bias_m3_m3" and reference:
                continue
            if reference:
                values = (values - by.loc[reference, metric]).dropna()
            line = mean_of_means(values.to_numpy(), values.index)
            lines.append({"question": question, "variant": variant, "less": reference,
                          "metric": metric, **line})  # fmt: skip
    return pd.DataFrame(lines)


def main(words: list[str] | None = None) -> None:
    """Run what is due and write both tables; a name of ``--only`` is a variant."""
    parser = argparse.ArgumentParser(prog="tests.benchmarks.convlstm_study", description=__doc__)
    parser.add_argument("out", type=Path, help="folder of the csv tables")
    parser.add_argument("--work", type=Path, help="folder of the world and the estimates")
    parser.add_argument("--only", help="variants, apart by ;")
    parser.add_argument("--seeds", default="0,1,2,3,4", help="folds, such as 0,1")
    options = parser.parse_args(words)
    work = options.work or options.out.parent / "work" / options.out.name
    work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    study = Study(options.out, work)
    names = options.only.split(";") if options.only else [*VARIANTS, *LINES]
    study.run(names, [int(seed) for seed in options.seeds.split(",")])
    write_whole(options.out / "open_questions_gains.csv",
                partial(gains(study.rows()).round(4).to_csv, index=False))  # fmt: skip


if __name__ == "__main__":
    main()

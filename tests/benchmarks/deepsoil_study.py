"""``python -m tests.benchmarks.deepsoil_study reports/deepsoil``: what DEEPSOIL leaves open.

Synthetic throughout. Eighty places, four in each of twenty blocks of two degrees, and up to 240
more that only teach, five days of 2019; the probe of a place reads the world's truth at its point
with an offset of its own. Each of five seeds hides four other blocks, so that together all are
unseen once; errors are paired by block. All networks take as many steps, of squares of 32 pixels
about the probes, and are asked square by square: asked for whole tiles, what they saw of their
squares' edges misleads them. What a constant and trees on single pixels make of the same tiles
stands beside them, since differences between networks that know no more than a constant say
nothing. Rows are kept one a trial in the working folder (``--work``) and never made twice: start it
again to go on, ``--only`` and ``--seeds`` choose what is made now, and the tables hold all that
stands.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.ensemble import HistGradientBoostingRegressor
from tqdm import tqdm

from soilkit import grids, retention
from soilkit.constants import OK
from soilkit.contracts import Grid
from soilkit.export import archives, cubes
from soilkit.files import csv_text, write_text_whole
from soilkit.metrics import intervals
from soilkit.models.deepsoil import ScienceLoss, clusters, extents, field_maps, network
from soilkit.world import fields
from tests.benchmarks.trials import Job, Rows, carry_out, command_line, key_of, run, understood

WEST, SOUTH, SIZE_DEG, ACROSS, UP = -103.0, 34.0, 2.0, 5, 4  # blocks
PER_BLOCK, N_SEEDS = 4, 5
N_PLACES = ACROSS * UP * PER_BLOCK
DAYS = ("2019-04-12", "2019-05-20", "2019-06-24", "2019-08-01", "2019-09-10")
OFFSET_M3_M3, NOISE_M3_M3 = 0.03, 0.005  # Seyfried (2004)
CROP_PX, TILE_PX = 32, extents.TILE_PX
PIXEL_M = field_maps.QuadkeyTiles.cell_m


# ---- places --------------------------------------------------------------------------------------


def places(rounds: int = 1) -> pd.DataFrame:
    """Station, longitude, latitude and block of two degrees; four places a block in each round."""
    rows = []
    for k in range(rounds * N_PLACES):
        if k % N_PLACES == 0:
            rng = np.random.default_rng([20, k // N_PLACES] if k else 20)
        block = k % N_PLACES // PER_BLOCK
        x, y = rng.uniform(0.1, 1.9, 2) + SIZE_DEG * np.array([block % ACROSS, block // ACROSS])
        at = {"longitude": WEST + x, "latitude": SOUTH + y}
        rows.append({"station_id": f"S{k:03d}", **at, "block": block})
    return pd.DataFrame(rows)


def is_asked(table: pd.DataFrame) -> np.ndarray:
    """The rows of places of the first round; those of later ones only teach."""
    return (table["station_id"].str[1:].astype(int) < N_PLACES).to_numpy()


def render(folder: Path, rounds: int = 1) -> list[Path]:
    """The tile of each place in a file of its own, where it is not there."""
    archive = archives.open_archive(
        "synthetic", seed=0, n_stations=1, start="2018-12-20", end="2019-09-20"
    )
    times = pd.DatetimeIndex(DAYS) + pd.Timedelta("12h")
    made = []
    for place in tqdm(list(places(rounds).itertuples()), desc="places"):
        path = folder / "tiles" / f"{place.station_id}.npz"
        made.append(path)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path.with_suffix(".part.npz"), **_tile(archive, place, times, folder))
            path.with_suffix(".part.npz").rename(path)
    return made


def _tile(archive: Any, place: Any, times: pd.DatetimeIndex, folder: Path) -> dict[str, Any]:
    """Maps, target, truth, soils and readings of a place."""
    key = grids.quadkey_at(place.longitude, place.latitude, length=extents.QUADKEY_DIGITS)
    cube = cubes.build(
        key, archive, folder / "cubes" / key, sources=extents.SOURCES, times=times,
        pixel_size_m=PIXEL_M, tile_px=TILE_PX, max_cloud_fraction={"landsat8": 0.7}, progress=False,
    ).load()  # fmt: skip
    grid = grids.quadkey_grid(key, pixel_size_m=PIXEL_M)
    x, y = grids.transformer("EPSG:4326", grid.crs).transform(place.longitude, place.latitude)
    at = {"row": int((grid.top_m - y) / PIXEL_M), "col": int((x - grid.left_m) / PIXEL_M)}
    maps = extents.maps_of(cube)
    rng = np.random.default_rng([20, int(place.station_id[1:])])
    point = {"longitude": [place.longitude], "latitude": [place.latitude]}
    wet = archive.world.truth_at(times.to_numpy(), **point)[:, 0]
    noise = NOISE_M3_M3 * rng.standard_normal(len(wet))
    mapped = np.stack([cube[name].to_numpy() for name in extents.SOIL])
    mapped[2] = 10.0 ** mapped[2]
    return at | {
        "inputs": np.stack([maps.at(k) for k in range(len(times))]).astype(np.float16),
        "target": cube[extents.TARGET].to_numpy().astype(np.float32),
        "truth": np.stack([archive.world.truth(t, grid) for t in times]),
        "mapped soil": np.nan_to_num(mapped).astype(np.float32),
        "true soil": true_soil(grid),
        "reading": (wet + OFFSET_M3_M3 * rng.standard_normal() + noise).clip(0.004, 0.6),
        "smap": cube["smap_l3_005_soil_moisture_am"].to_numpy()[:, at["row"], at["col"]],
    }


def true_soil(grid: Grid) -> np.ndarray:
    """theta_r, theta_s, alpha [kPa-1] and n of the world's own ground, (4, row, col)."""
    place = grids.project(grid, grids.EASE2_CRS)
    curve = fields.hydraulics(0, place, ground=fields.ground(0, *place)).curve
    alpha = curve.alpha_per_cm * retention.CM_OF_KPA
    parts = np.broadcast_arrays(curve.residual, curve.saturated, alpha, curve.n)
    return np.stack(parts).astype(np.float32)


IS_DATED = np.array([
    k < 5 or c.name.startswith(("modis", "SMAP", "gridmet"))
    for k, c in enumerate(extents.CHANNELS)
])  # fmt: skip
PROBE_PX = 2  # half the side of the square that a probe stands for where it is all that is known


@dataclass
class Tiles:
    """The tiles of all places and days, as ``ExtentTiles`` gives them.

    Attributes
    ----------
    places : DataFrame of the places that are held
    held : arrays of the places' files, stacked (place, ...)
    soil : "true soil", "mapped soil" or "one soil"
    crop_px : side of the square about the probe that is given
    without : names of channels that are told as missing
    probe_weight : of the 16 pixels about a probe
    probes : "beside" the maps' targets, where they replace one pixel, "alone", or "" for neither
    told : array (place, cluster) that is 1 for a place's cluster, channels more
    taught : "target", HydroBlocks, or "truth", which only this world knows
    """

    places: pd.DataFrame
    held: Mapping[str, np.ndarray]
    soil: str = "true soil"
    crop_px: int = TILE_PX
    without: tuple[str, ...] = ()
    probe_weight: float = extents.NEAR_WEIGHT
    probes: str = ""
    told: np.ndarray | None = None
    taught: str = "target"

    @property
    def channels(self) -> list[extents.Channel]:
        """The paper's 75, and one a cluster that is told."""
        n = 0 if self.told is None else self.told.shape[1]
        return [*extents.CHANNELS, *(extents.Channel(f"cluster {k}", ()) for k in range(n))]

    @property
    def tiles(self) -> pd.DataFrame:
        """A row a place and day."""
        n = len(DAYS)
        table = self.places.loc[self.places.index.repeat(n)].reset_index(drop=True)
        name, day = table["station_id"], np.arange(len(table)) % n
        days = np.tile(pd.DatetimeIndex(DAYS), len(self.places))
        return table.assign(quadkey=name, extent=name, time=days, day=day, step=day, n_probes=1)

    @property
    def stores(self) -> dict[str, int]:
        """The number of each place, which is an extent of one tile."""
        return {name: k for k, name in enumerate(self.places["station_id"])}

    def extent(self, key: str) -> dict[str, Any]:
        """The maps of a place, as ``clusters`` looks at them."""
        inputs = self.held["inputs"][self.stores[key]]
        static, dated = inputs[0, ~IS_DATED], inputs[:, IS_DATED]
        return {"maps": extents.Maps(static, dated, IS_DATED, np.empty((0, 0)), Counter())}

    def __getitems__(self, rows: Sequence[int]) -> dict[str, torch.Tensor]:
        """A batch."""
        parts = [self._tile(*divmod(row, len(DAYS))) for row in rows]
        return {n: torch.from_numpy(np.stack([part[n] for part in parts])) for n in parts[0]}

    def corner(self, place: int) -> tuple[int, int]:
        """The first row and column of a place's crop."""
        middle = self.held["row"][place], self.held["col"][place]
        return tuple(int(np.clip(m - self.crop_px // 2, 0, TILE_PX - self.crop_px)) for m in middle)

    def _tile(self, place: int, day: int) -> dict[str, np.ndarray]:
        held, (top, left) = self.held, self.corner(place)
        row, col = held["row"][place] - top, held["col"][place] - left
        side = self.crop_px, self.crop_px
        here = (..., slice(top, top + self.crop_px), slice(left, left + self.crop_px))
        probe, weights = np.full(side, np.nan, np.float32), np.ones(side, np.float32)
        probe[row, col] = held["reading"][place, day]
        weights[max(row - 1, 0) : row + 3, max(col - 1, 0) : col + 3] = self.probe_weight
        target = held[self.taught][place, day][here]
        if self.probes:
            target = np.where(np.isfinite(probe), probe, target)
        if self.probes == "alone":
            near = [slice(max(k - PROBE_PX + 1, 0), k + PROBE_PX + 1) for k in (row, col)]
            target = np.full(side, np.nan, np.float32)
            target[tuple(near)] = held["reading"][place, day]
        inputs = held["inputs"][place, day][here].astype(np.float32)
        for k, channel in enumerate(extents.CHANNELS):
            if channel.name in self.without:
                inputs[k] = extents.MISSING
        if self.told is not None:
            flags = np.float32(self.told[place])[:, None, None]
            inputs = np.concatenate([inputs, np.broadcast_to(flags, (flags.size, *side))])
        soil = np.array(network.LOAM, np.float32)[:, None, None]
        soil = soil if self.soil == "one soil" else held[self.soil][place][here]
        return {"inputs": inputs, "known": extents.known(inputs), "valid": np.isfinite(target),
                "target": np.nan_to_num(target), "weights": weights,
                "soil": np.broadcast_to(soil, (4, *side)).copy(), "probe": probe}  # fmt: skip


@lru_cache(1)
def read(folder: Path, rounds: int = 1) -> Tiles:
    """What ``render`` wrote, of the places that are whole."""
    table = places(rounds)
    paths = [folder / "tiles" / f"{name}.npz" for name in table["station_id"]]
    there = np.array([path.exists() for path in paths])
    files = [np.load(path) for path, is_there in zip(paths, there, strict=True) if is_there]
    held = {name: np.stack([file[name] for file in files]) for name in files[0]}
    return Tiles(table[there].reset_index(drop=True), held)


# ---- trials --------------------------------------------------------------------------------------


def slope_term(predicted: torch.Tensor, target: torch.Tensor, *, soil: torch.Tensor) -> Any:
    """Squared errors of moisture by the squared slope of the curve at the target, no suction."""
    curve = network._curve(soil)
    ends = (retention.pf(target + step, curve) for step in (0.002, -0.002))
    slope = (next(ends) - next(ends)) / 0.004
    return (predicted - target) ** 2 * slope**2 * network.MOISTURE_OF_PF**2


network.FORMS["slope"] = slope_term
EPOCHS, BATCH, RATE = 10, 8, 8e-3
AT_THE_END = 10**9  # steps between validations: weights are the last ones, not the best ones
SHOWN_DAY = 2  # on which training places are looked at; the others on all days
PLAIN, SUCTION = ScienceLoss(suction_of="none"), ScienceLoss(suction_of="hydroblocks")
VARIANTS: dict[str, tuple[ScienceLoss, dict[str, Any]]] = {
    "MSE": (PLAIN, {}),
    "suction, true soil": (SUCTION, {}),
    "suction, one soil": (SUCTION, {"soil": "one soil"}),
    "squared slope, true soil": (replace(SUCTION, form="slope"), {}),
    "suction of probes": (ScienceLoss(suction_of="probe"), {}),
    "MSE, without SMAP": (PLAIN, {"without": ("SMAP",)}),
    "probes as targets of the MSE": (PLAIN, {"probes": "beside"}),
    "suction of probes, weight 1000": (ScienceLoss(suction_of="probe"), {"probe_weight": 1000.0}),
    "suction, mapped soil": (SUCTION, {"soil": "mapped soil"}),
    "MSE, probes alone": (PLAIN, {"probes": "alone"}),
    "MSE, taught by the truth": (PLAIN, {"taught": "truth"}),
}
CLUSTERED = (  # of the MSE; in two parts: first a net of all, then one a cluster from its weights
    "one net, told the cluster", "a net a cluster, equal samples", "a net a cluster, equal steps",
    "one net, in two parts", "a net a cluster, in two parts",
)  # fmt: skip
NUMBERS = range(2, 9)  # of clusters, of which silhouettes choose
BASES = ("constant", "trees", "trees, probes alone")
COUNTS, TRAIN_PLACES = (5, 20), 52  # places that train, beside all of the first round
MORE_COUNTS, MORE_COUNTED = (104, 208), ("MSE", "trees")  # with those of two and four rounds
COUNTED = ("MSE", "trees", "MSE, probes alone", "trees, probes alone")
SPLITS, SPLIT = ("random samples", "random extents"), ("MSE", "constant")
PIXELS = 16  # of a tile that trees learn from


def labels_of(tiles: Tiles, seed: int, *, n_places: int = 0, split: str = "blocks") -> np.ndarray:
    """Labels (tile,): four blocks test and three choose; or shares as large at random.

    "random samples" are the paper's; "random extents" keep the days of a place together.
    """
    table = tiles.tiles
    turn = np.roll(np.random.default_rng(7).permutation(ACROSS * UP), -4 * seed)
    parts = {**dict.fromkeys(turn[:4], "test"), **dict.fromkeys(turn[4:7], "validation")}
    label = table["block"].map(parts).fillna("train").to_numpy(str)
    label = np.where(is_asked(table) | (label == "train"), label, "")
    rng = np.random.default_rng([7, seed])
    if split == "random samples":
        return rng.permutation(label)
    if split == "random extents":
        return np.repeat(rng.permutation(label[:: len(DAYS)]), len(DAYS))
    if n_places:
        train = table.loc[label == "train", "station_id"].unique()
        some = np.random.default_rng([8, seed]).choice(train, n_places, replace=False)
        label = np.where((label == "train") & ~table["station_id"].isin(some), "", label)
    return label


def rounds_of(n_places: int) -> int:
    """How many rounds of places hold as many that train."""
    return max(-(-n_places // TRAIN_PLACES), 1)


def trial(
    folder: Path, *, variant: str, seed: int, n_places: int = 0, split: str = "blocks"
) -> Any:
    """Train and tell errors by part, measure and block."""
    torch.set_num_threads(1)
    whole = read(folder, rounds_of(n_places))
    label = labels_of(whole, seed, n_places=n_places, split=split)
    if variant in BASES:
        answer, about = base(whole, label, variant=variant, seed=seed), {}
    else:
        answer, about = trained(whole, label, variant=variant, seed=seed)
    table, errors = whole.tiles, []
    for part in ("train", "test"):
        is_shown = (label == part) & ((part == "test") | (table["day"] == SHOWN_DAY))
        rows = np.flatnonzero(is_shown & is_asked(table))
        for row, moisture in zip(rows, answer(rows), strict=True):
            place = {"part": part, "block": int(table["block"][row])}
            errors += [place | {"measure": m, "error": e} for m, e in _errors(whole, row, moisture)]
    means = pd.DataFrame(errors).groupby(["part", "block", "measure"])["error"].mean().reset_index()
    return about | {"errors": means.to_dict("records")}


Answer = Callable[[np.ndarray], Iterator[np.ndarray]]  # moisture (row, col) of each of some tiles


def trained(
    whole: Tiles, label: np.ndarray, *, variant: str, seed: int
) -> tuple[Answer, dict[str, Any]]:
    """What a network makes of tiles, all variants after as many steps; and the clusters' sizes."""
    loss, options = VARIANTS.get(variant, (PLAIN, {}))
    learn = np.flatnonzero(label == "train")
    n_steps = EPOCHS * (260 // BATCH)
    how: dict[str, Any] = {"epochs": -(-n_steps // max(len(learn) // BATCH, 1))}  # at least
    about: dict[str, Any] = {}
    whole = replace(whole, **options)
    if "cluster" in variant:
        extents_seen = whole.tiles["extent"].iloc[learn]
        found = clusters.fit(whole, extents_seen, numbers=NUMBERS, seed=seed)
        nearest = found.nearest(whole)[:: len(DAYS)]
        about["places by cluster"] = np.bincount(found.nearest(whole)[learn]).tolist()
        if "told" in variant:
            whole = replace(whole, told=np.eye(found.n)[nearest])
        else:
            how["clusters"] = found
    if "equal steps" in variant:
        how["epochs"] *= how["clusters"].n
    data = replace(whole, crop_px=CROP_PX)
    if "two parts" in variant:
        first = how["epochs"] // 2
        how |= {"monthly": data, "monthly_epochs": first, "epochs": how["epochs"] - first}
    made = field_maps.train(
        data, label, loss=loss, seed=seed, batch_size=BATCH, learning_rate=RATE,
        validate_every=AT_THE_END, progress=False, **how,
    )  # fmt: skip
    return partial(by_squares, made, whole), about


def by_squares(made: Any, whole: Tiles, rows: np.ndarray) -> Iterator[np.ndarray]:
    """Moisture of tiles, each asked for square by square, of the size that was learnt from."""
    n = TILE_PX // CROP_PX
    shares = None if made.clusters is None else np.repeat(made.clusters.shares(whole), n * n, 0)
    for row in rows:
        inputs = whole.__getitems__([row])["inputs"][0]
        parts = inputs.unfold(1, CROP_PX, CROP_PX).unfold(2, CROP_PX, CROP_PX)
        parts = parts.permute(1, 2, 0, 3, 4).flatten(0, 1)  # (square, channel, row, col)
        blend = None if shares is None else shares[n * n * row : n * n * (row + 1)]
        squares = made.moisture(parts, shares=blend).reshape(n, n, CROP_PX, CROP_PX)
        yield squares.swapaxes(1, 2).reshape(TILE_PX, TILE_PX)


def base(whole: Tiles, label: np.ndarray, *, variant: str, seed: int) -> Answer:
    """What trees on single pixels, or the median target, make of tiles."""
    rng, held = np.random.default_rng([9, seed]), whole.held
    inputs, target = [], []
    for place, day in (divmod(row, len(DAYS)) for row in np.flatnonzero(label == "train")):
        if "probes" in variant:
            at = (held["row"][[place]], held["col"][[place]])
            target.append(held["reading"][[place], day])
        else:
            at = tuple(rng.integers(0, TILE_PX, (2, PIXELS)))
            target.append(held["target"][place, day][at])
        inputs.append(held["inputs"][place, day][(slice(None), *at)].T)
    learn, known = np.concatenate(inputs).astype(np.float32), np.concatenate(target)
    is_known = np.isfinite(known)
    learn, known = learn[is_known], known[is_known]
    if variant == "constant":
        middle = np.full((TILE_PX, TILE_PX), np.median(known), np.float32)
        return lambda rows: iter([middle] * len(rows))
    trees = HistGradientBoostingRegressor(
        learning_rate=0.05, max_leaf_nodes=8, min_samples_leaf=min(20, len(known) // 8),
        max_iter=100, early_stopping=False, random_state=seed,
    ).fit(learn, known)  # fmt: skip

    def answer(rows: np.ndarray) -> Iterator[np.ndarray]:
        for row in rows:
            maps = whole.__getitems__([row])["inputs"][0].flatten(1).T.numpy()
            yield trees.predict(maps).reshape(TILE_PX, TILE_PX)

    return answer


PATTERN = "r with the truth within a tile"


def _errors(whole: Tiles, row: int, moisture: np.ndarray) -> list[tuple[str, float]]:
    """Absolute errors of a tile: against its target, its reading, and the truth by distance."""
    place, day = divmod(row, len(DAYS))
    held = whole.held
    r, c = held["row"][place], held["col"][place]
    away_m = np.hypot(*(np.indices(moisture.shape) - np.array([r, c])[:, None, None]))
    away_m = away_m * PIXEL_M * np.cos(np.radians(whole.places["latitude"][place]))
    error = np.abs(moisture - held["truth"][place, day])
    of_target = np.abs(moisture - held["target"][place, day])
    rings = {"truth, 0 m": away_m == 0, "truth, 30-300 m": (away_m > 20) & (away_m <= 300),
             "truth, beyond 1 km": away_m > 1000, "truth": away_m >= 0}  # fmt: skip
    told = [(name, float(error[ring].mean())) for name, ring in rings.items() if ring.any()]
    dry = held["truth"][place, day] < 0.15
    told += [("truth, dry pixels", float(error[dry].mean()))] if dry.any() else []
    told.append(("target", float(np.nanmean(of_target))))
    if np.ptp(moisture) > 0:
        alike = np.corrcoef(moisture.ravel(), held["truth"][place, day].ravel())[0, 1]
        told += [(PATTERN, float(alike))] if np.isfinite(alike) else []
    return [*told, ("reading", float(abs(moisture[r, c] - held["reading"][place, day])))]


# ---- the study -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Study:
    """Trials in the order of the questions, and their tables."""

    options: Any

    @property
    def rows(self) -> Rows:
        """Where the trials' rows lie."""
        return Rows(self.options.work / "rows")

    @property
    def jobs(self) -> list[Job]:
        """All trials of the study, the first question first."""
        asked = [{"variant": v} for v in (*BASES, *VARIANTS, *CLUSTERED)]
        asked += [{"variant": v, "split": k} for v in SPLIT for k in SPLITS]
        asked += [{"variant": v, "n_places": n} for v in COUNTED for n in COUNTS]
        asked += [{"variant": v, "n_places": n} for v in MORE_COUNTED for n in MORE_COUNTS]
        every = [one | {"seed": seed} for seed in range(N_SEEDS) for one in asked]
        how, work = (EPOCHS, BATCH, RATE, "equal steps, by squares"), self.options.work
        return [
            Job(key_of(one, *how), str(one), partial(trial, work, **one), {"definition": one})
            for one in every
        ]

    def is_chosen(self, job: Job) -> bool:
        """Whether the command asks for a trial; the tables hold all that were ever run."""
        one, wanted = job.about["definition"], self.options
        names = {one["variant"], f"{one['variant']}, {one.get('n_places', 0)} places"}
        return (not wanted.only or not names.isdisjoint(wanted.only)) and (
            wanted.seeds is None or one["seed"] in wanted.seeds
        )

    def due(self) -> list[Job]:
        """Those chosen whose rows are missing, or failed and asked for again."""
        chosen = [job for job in self.jobs if self.is_chosen(job)]
        rows = {job.key: self.rows.read(job.key) for job in chosen}
        again = self.options.again
        return [j for j in chosen if (row := rows[j.key]) is None
                or again and row["status"] != OK]  # fmt: skip

    def run(self) -> None:
        """Render what is missing, then run what is due."""
        due = self.due()
        most = max((job.about["definition"].get("n_places", 0) for job in due), default=0)
        render(self.options.work, rounds_of(most))
        run(due, self.rows, workers=self.options.workers)


def fill_values(folder: Path) -> list[dict[str, Any]]:
    """The MAE of products at the readings, and SMAP's when shares of its values are fills of -1."""
    tiles = read(folder)
    held, block = tiles.held, np.repeat(tiles.places["block"].to_numpy(), len(DAYS))
    reading, at = held["reading"].ravel(), np.arange(len(tiles.places))
    target = held["target"][at, :, held["row"], held["col"]].ravel()
    told = {"HydroBlocks": np.abs(target - reading)}
    error = np.abs(held["smap"].ravel() - reading)
    for share in (0.0, 0.05, 0.1, 0.17):
        mixed = (1 - share) * error + share * (1 + reading)
        told[f"SMAP, {share:.0%} fill values of -1"] = mixed
    about = {"n_places": len(tiles.places), "split": "none", "part": "all", "measure": "reading"}
    return [
        {"variant": name}
        | about
        | intervals.mean_of_means(e[np.isfinite(e)], block[np.isfinite(e)])
        for name, e in told.items()
    ]


KEYS = ["variant", "n_places", "split", "part", "measure"]
PAIRED = ["part", "measure", "seed", "block"]
BESIDE = {  # what a variant is set against beside the MSE
    "MSE": "trees", "MSE, probes alone": "trees, probes alone",
    "suction, true soil": "suction, one soil", "suction, mapped soil": "suction, one soil",
    "suction of probes": "probes as targets of the MSE",
}  # fmt: skip


def write(study: Study, out: Path) -> None:
    """The errors of all trials, and how they differ from the MSE's and from another's."""
    read_rows = [study.rows.read(job.key) for job in study.jobs]
    told = [row for row in read_rows if row and row["status"] == OK]
    plain = {"n_places": 0, "split": "blocks"}
    table = pd.DataFrame([plain | row["definition"] | one for row in told for one in row["errors"]])
    by_kind = {names: some.set_index(PAIRED)["error"]
               for names, some in table.groupby(["variant", "n_places", "split"])}  # fmt: skip
    lines, gains = [], []
    for names, some in table.groupby(KEYS, sort=False):
        about = dict(zip(KEYS, names, strict=True))
        found = intervals.mean_of_means(some["error"], some["block"])
        lines.append(about | found | {"n_seeds": some["seed"].nunique()})
        if about["split"] != "blocks":
            continue
        others = {"MSE": ("MSE", 0, "blocks")}
        if name := BESIDE.get(about["variant"]):
            others[name] = (name, about["n_places"], "blocks")
        for words, key in others.items():
            if key in by_kind and key != names[:3]:
                at = pd.MultiIndex.from_frame(some[PAIRED])
                less = pd.Series(some["error"].to_numpy() - by_kind[key].reindex(at).to_numpy())
                both = less.notna().to_numpy()
                gain = intervals.mean_of_means(less[both], some["block"].to_numpy()[both])
                gains.append(about | {"against": words} | gain)
    lines += fill_values(study.options.work)
    for name, rows in (("open_questions", lines), ("open_questions_gains", gains)):
        ready = pd.DataFrame(rows).assign(data="synthetic").round(5)
        ready["unit"] = np.where(ready["measure"] == PATTERN, "1", "m3 m-3")
        write_text_whole(out / f"{name}.csv", csv_text(ready))


if __name__ == "__main__":
    parser = command_line("deepsoil_study", __doc__)
    told = understood(parser, sys.argv[1:])
    carry_out(Study(told), told, write=write)

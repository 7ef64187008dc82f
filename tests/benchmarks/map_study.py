"""What a map can know: models of the same stations' labels against the truth of unseen regions.

``python -m tests.benchmarks.map_study reports/maps`` takes some two hours on two cores; interrupt
it whenever you like, and start it again. Truth between stations is known in the synthetic world
alone, so every number here is synthetic.
"""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from soilkit import grids, sources
from soilkit.constants import HIGH_PIXEL_M, MIN_SAMPLES, OK
from soilkit.contracts import Chip, Grid
from soilkit.export import archives, features, join, ten_day_table
from soilkit.export.chips.requests import Planner
from soilkit.files import csv_text, read_table, write_bytes_whole, write_table, write_text_whole
from soilkit.metrics import intervals, map_scores, point_scores
from soilkit.models import maps, xception_fusion
from soilkit.models.datasets import ChipDataset
from soilkit.models.inputs import Inputs
from soilkit.models.maps import validity
from soilkit.models.tabular.estimators import forest
from soilkit.world import World, fields, parameters
from tests.benchmarks.fusion_trial import CLEAR, EARLIER, Data, Recipe, prepare
from tests.benchmarks.trials import Job, Rows, carry_out, command_line, key_of, run, understood

log = logging.getLogger("soilkit.studies.map_study")

RECIPE = Recipe("maps", n_stations=760)
N_TEST, N_VALIDATION = 100, 60  # stations; the others are for training
COUNTS = (24, 72, 200, 0)  # stations trained on; 0: all that there are
SEEDS, N_COSTLY = (
    (0, 1, 2, 3, 4),
    3,
)  # of the weights and the stations drawn; the fusion's first ones
N_REGIONS, PERIOD, ELSEWHERE = 90, 9, 4  # four of nine regions are not reported on
SIDE_PX, CELL_PX, RIM = 768, validity.CENTRE_PX, 4  # of a region; cells at its rim are not scored
APART_KM = 15.0  # of a region from every station
MARCH, DAYS = np.datetime64("2019-03-01"), 245  # when regions are seen: not in winter
RADAR_OPTICS = Inputs(high=("sentinel1", "sentinel2"), low=(), coarse=())
EATEN = ("sentinel1", "sentinel2", "dem", "soilgrids", "smap", "gldas")
LOCAL = ("sentinel1", "sentinel2", "smap", "gldas")  # static layers overfit some dozens of places
ADAM = {"optimizer": "adam", "weight_decay": 0.01}
TRAINED: dict[str, dict[str, Any]] = {
    "fusion": ADAM | {
        "sources": EATEN, "crop_px": 128, "steps": 300, "validate_every": 60,
        "learning_rate": 0.002, "batch_size": 32,
    },
    "local": ADAM | {
        "sources": LOCAL, "crop_px": CELL_PX, "steps": 2000, "validate_every": 200,
        "learning_rate": 0.003, "batch_size": 64, "encoder": "local",
    },
}  # fmt: skip
STATION, TRUTH, REGIONS = "stations", "true means", "regions"  # where labels come from
NAMES = {
    ("trees", REGIONS, "exact"): "trees on dense truth of other regions",
    ("trees", TRUTH, "exact"): "trees on true 320 m means about stations",
    ("local", TRUTH, "exact"): "local network on true 320 m means about stations",
    ("trees", STATION, "exact"): "trees on station labels",
    ("fusion", STATION, "exact"): "fusion, exact",
    ("fusion", STATION, "dense"): "fusion, dense",
    ("local", STATION, "exact"): "local network, exact",
    ("local", STATION, "dense"): "local network, dense",
}
Row = dict[str, Any]


@dataclass(frozen=True)
class MapTrial:
    """A model, the labels that it learns from, how many stations they stand at, and its seed."""

    model: str
    labels: str = STATION
    n_stations: int = 0
    seed: int = 0


def trials(seeds: tuple[int, ...] = SEEDS) -> list[MapTrial]:
    """All trials: each model of stations by their number, and what the inputs hold at most."""
    by_number = [
        MapTrial(model, STATION, n_stations, seed)
        for model in ("local", "trees", "fusion")
        for seed in (seeds[:N_COSTLY] if model == "fusion" else seeds)
        for n_stations in COUNTS
    ]
    limits = [MapTrial("trees", REGIONS), MapTrial("trees", TRUTH), MapTrial("local", TRUTH)]
    return limits + by_number


# ---- regions that no station stands in -----------------------------------------------------------


def _place(world: World, rng: np.random.Generator) -> tuple[float, float]:
    """Longitude and latitude of a place on land, away from every station."""
    stations, to_ease = world.stations(), grids.transformer("EPSG:4326", grids.EASE2_CRS)
    u_m, v_m = to_ease.transform(stations["longitude"].to_numpy(), stations["latitude"].to_numpy())
    while True:
        west, south = parameters.WEST, parameters.SOUTH
        longitude = west + (parameters.EAST - west) * rng.uniform(0.04, 0.96)
        latitude = south + (parameters.NORTH - south) * rng.uniform(0.04, 0.96)
        at = to_ease.transform(longitude, latitude)
        away_km = np.hypot(u_m - at[0], v_m - at[1]).min() / 1000
        cover = fields.ground(world.seed, *map(np.atleast_1d, at)).land_cover
        if away_km > APART_KM and cover[0] != fields.LAKE:
            return longitude, latitude


def _moment(archive: Any, station: pd.DataFrame, day: np.datetime64) -> pd.DataFrame | None:
    """The scenes joined to a moment after the last pass before a day; None where one is lacking."""
    span = {"start": day - EARLIER - EARLIER, "end": day + np.timedelta64(1, "D")}
    scenes = archives.all_scenes(archive, station, sources=EATEN, **span)
    passes = scenes.loc[scenes["source"] == "sentinel1", "end"]
    if passes.empty:
        return None
    time = np.array([passes.max() + pd.Timedelta("10min")], "datetime64[us]")
    bounds = {n: pd.Timedelta(v) for n, v in sources.bounds("sentinel1", EATEN).items()}
    joined = join.latest_scenes(
        station[["station_id"]].assign(time=time), scenes, bounds=bounds, max_cloud_fraction=CLEAR
    )
    lacking = joined[[f"{name}_scene" for name in EATEN]].isna().any(axis=None)
    return None if lacking else joined.assign(sample_id="region", sensor_id="region")


def render_region(number: int, path: Path) -> Row:
    """Write a region's layers, as the archive answers them, and its truth by cells of 320 m."""
    options = ("seed", "n_stations", "start", "end", "revisit_days")
    archive: Any = archives.open_archive("synthetic", **{n: getattr(RECIPE, n) for n in options})
    rng, joined = np.random.default_rng([7, number]), None
    while joined is None:
        longitude, latitude = _place(archive.world, rng)
        place = {"station_id": ["region"], "longitude": [longitude], "latitude": [latitude]}
        day = MARCH + np.timedelta64(int(rng.integers(DAYS)), "D")
        joined = _moment(archive, pd.DataFrame(place), day)
    images = Inputs.of(*EATEN).image_sources
    planner = Planner(joined, pd.DataFrame(place), size_px=SIDE_PX, version=archive.version)
    bands = {name: [band.name for band in sources.get(name).bands] for name in images}
    layers = {asked.source: chip for asked, chip in archive.chips(planner.requests(bands))}
    time, grid = joined["time"].iloc[0], layers["sentinel1"].grid
    arrays: dict[str, Any] = {f"layer_{name}": chip.values for name, chip in layers.items()}
    for name in ("smap", "gldas"):
        series = archive.series(pd.DataFrame(place), name, time - EARLIER, time + EARLIER)
        arrays[f"layer_{name}"] = features.from_series(joined, series, name).iloc[0, 1]
    n = SIDE_PX // CELL_PX
    truth = archive.world.truth(time, grid).reshape(n, CELL_PX, n, CELL_PX)  # (row, y, col, x)
    cells = Grid(grid.crs, grid.left_m, grid.top_m, CELL_PX * HIGH_PIXEL_M, n, n)
    is_lake = archive.world.surface(time, cells).land_cover == fields.LAKE
    arrays |= {"truth": np.where(is_lake, np.nan, truth.mean(axis=(1, 3)))}
    arrays |= {"crs": grid.crs, "corner": np.array([grid.left_m, grid.top_m])}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_whole(path, lambda file: np.savez(file, **arrays))
    return {"longitude": longitude, "latitude": latitude, "time": str(time)}


@dataclass(frozen=True)
class Seen:
    """A region as it was written: its layers, and the truth (row, col) m3 m-3 of scored cells."""

    layers: Mapping[str, Any]
    truth: np.ndarray
    cells: Grid

    @classmethod
    def read(cls, path: Path) -> "Seen":
        """The region of a file."""
        with np.load(path) as file:
            arrays = dict(file)
        left_m, top_m = map(float, arrays["corner"])
        layers: dict[str, Any] = {}
        for name in EATEN:
            values = arrays[f"layer_{name}"]
            bands = tuple(band.name for band in sources.get(name).bands)
            if values.ndim:
                pixel_m = SIDE_PX * HIGH_PIXEL_M / values.shape[1]
                grid = Grid(str(arrays["crs"]), left_m, top_m, pixel_m, *values.shape[1:])
                layers[name] = Chip(values, bands, grid)
            else:
                layers[name] = float(values)
        inner, cell_m = slice(RIM, -RIM), CELL_PX * HIGH_PIXEL_M
        truth, rim_m = arrays["truth"][inner, inner], RIM * cell_m
        cells = Grid(str(arrays["crs"]), left_m + rim_m, top_m - rim_m, float(cell_m), *truth.shape)
        return cls(layers, truth, cells)

    def scene(
        self, inputs: Inputs, *, statistics: Any = None, window_px: int = CELL_PX
    ) -> maps.Scene:
        """The layers as a model eats them, cut so that windows' centres are those of cells."""
        scene = maps.scene_of(self.layers, inputs=inputs, statistics=statistics)
        off = (CELL_PX - window_px) // 2 % CELL_PX
        if not off:
            return scene
        images = {}
        for name, values in scene.images.items():
            edge = off // scene.ratio(name)
            images[name] = values[:, edge:-edge, edge:-edge]
        side, off_m = SIDE_PX - 2 * off, off * HIGH_PIXEL_M
        old = scene.grid
        grid = Grid(old.crs, old.left_m + off_m, old.top_m - off_m, old.pixel_size_m, side, side)
        return maps.Scene(grid, images, scene.scalars, scene.ratios)


# ---- a trial -------------------------------------------------------------------------------------


def labels_of(data: Data, trial: MapTrial) -> np.ndarray:
    """ "train", "validation", "test" or "unused" of each sample, by whole stations."""
    stations = data.samples["station_id"].astype(str).to_numpy()
    order = np.random.default_rng(0).permutation(np.unique(stations))
    test, validation = order[:N_TEST], order[N_TEST : N_TEST + N_VALIDATION]
    training = np.random.default_rng(trial.seed).permutation(order[N_TEST + N_VALIDATION :])
    labels = np.full(len(stations), "unused", dtype="<U10")
    chosen = {"test": test, "validation": validation, "train": training[: trial.n_stations or None]}
    for name, some in chosen.items():
        labels[np.isin(stations, some)] = name
    return labels


def true_labels(folder: Path) -> Path:
    """The dataset with the truth of the 320 m about each station as its labels, made beside it."""
    place = folder.with_name(f"{folder.name}-true")
    if (place / "samples.parquet").exists():
        return place
    place.mkdir(exist_ok=True)
    data, world = Data(folder), World(seed=RECIPE.seed, start=RECIPE.start, end=RECIPE.end)
    stations = data.stations.drop_duplicates("station_id").set_index("station_id")
    moisture = np.empty(len(data.samples))
    for station, rows in data.samples.groupby("station_id", observed=True).indices.items():
        at = stations.loc[station]
        grid = grids.chip_grid(at["latitude"], at["longitude"], size_px=CELL_PX, pixel_size_m=10)
        for row in rows:
            moisture[row] = world.truth(data.samples["time"].iloc[row], grid).mean()
    if not (place / "chips.zarr").exists():
        (place / "chips.zarr").symlink_to(folder / "chips.zarr", target_is_directory=True)
    for name in ("stations", "features"):
        write_table(place / f"{name}.parquet", getattr(data, name))
    samples = data.samples.assign(soil_moisture_m3_m3=moisture.astype(np.float32))
    write_table(place / "samples.parquet", samples)
    return place


def run_map_trial(trial: MapTrial, *, folder: Path, regions: Path) -> Row:
    """R and the share explained of every reported region, and the scores at test stations."""
    torch.set_num_threads(1)
    place = true_labels(folder) if trial.labels == TRUTH else folder
    answer = _trees if trial.model == "trees" else _network
    return answer(trial, place, regions)


def _reported(regions: Path) -> list[int]:
    return [k for k in range(N_REGIONS) if k % PERIOD >= ELSEWHERE]


def _score(moisture: np.ndarray, seen: Seen) -> list[float]:
    scores = map_scores(moisture, seen.truth)
    return [round(float(np.nan_to_num(scores[name])), 5) for name in ("r", "explained")]


def _network(trial: MapTrial, folder: Path, regions: Path) -> Row:
    labels = labels_of(Data(folder), trial)
    trained = xception_fusion.train(
        folder, labels, seed=trial.seed, progress=False, **TRAINED[trial.model]
    )
    scores: dict[str, list] = {"exact": [], "dense": []}
    for number in _reported(regions):
        seen = Seen.read(regions / f"{number:03d}.npz")
        window_px = trained.model.config.crop_px
        scene = seen.scene(trained.inputs, statistics=trained.statistics, window_px=window_px)
        for mode, rows in scores.items():
            mapped = trained.map(scene, mode=mode, progress=False)["soil_moisture"]
            cells = {"x": seen.cells.x_m, "y": seen.cells.y_m}
            rows.append(_score(mapped.sel(**cells, method="nearest", tolerance=1).values, seen))
    table = trained.predict(folder, labels, part="test")
    return {"regions": scores, **_at_stations(table), "n_stations": _n_stations(folder, labels)}


def _trees(trial: MapTrial, folder: Path, regions: Path) -> Row:
    data = Data(folder)
    path, labels = folder / "centre_means.parquet", labels_of(data, trial)
    if not path.exists():
        dataset = ChipDataset(
            data.samples, None, data.store, inputs=RADAR_OPTICS, crop_px=validity.CENTRE_PX
        )
        write_table(path, validity.centre_means(dataset))
    X, y = read_table(path), data.samples["soil_moisture_m3_m3"].to_numpy(float)
    rows = labels == "train"
    training = X[rows], y[rows]
    if trial.labels == REGIONS:
        training = _dense_truth(regions)
    model = forest(seed=trial.seed, n_trees=100, n_jobs=1).fit(*training)
    scores = []
    for number in _reported(regions):
        seen = Seen.read(regions / f"{number:03d}.npz")
        scores.append(_score(model.predict(_cells(seen)).reshape(seen.truth.shape), seen))
    test = labels == "test"
    predicted = ten_day_table.predictions_table(
        data.samples[test].astype({"soil_moisture_m3_m3": float}), data.stations,
        predicted=model.predict(X[test]), model="trees", split="test",
    )  # fmt: skip
    n_stations = 0 if trial.labels == REGIONS else _n_stations(folder, labels)
    return {"regions": {"exact": scores}, **_at_stations(predicted), "n_stations": n_stations}


def _cells(seen: Seen) -> pd.DataFrame:
    return validity.cell_means(seen.scene(RADAR_OPTICS), seen.cells, names=RADAR_OPTICS.names)


def _dense_truth(regions: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """Every cell of the regions that are not reported on, with its truth."""
    others = sorted(set(range(N_REGIONS)) - set(_reported(regions)))
    all_seen = [Seen.read(regions / f"{number:03d}.npz") for number in others]
    X = pd.concat([_cells(seen) for seen in all_seen], ignore_index=True)
    y = np.concatenate([seen.truth.ravel() for seen in all_seen])
    return X[np.isfinite(y)], y[np.isfinite(y)]


def _n_stations(folder: Path, labels: np.ndarray) -> int:
    return Data(folder).samples["station_id"][labels == "train"].nunique()


def _at_stations(table: pd.DataFrame) -> Row:
    scores = point_scores(table)
    scores = scores[scores["n"] >= MIN_SAMPLES].sort_values("sensor_id")
    columns = {"station_r": scores["r"].round(5), "station_ubrmse": scores["ubrmse_m3_m3"].round(6)}
    return {name: column.fillna(0.0).tolist() for name, column in columns.items()}


# ---- the study -----------------------------------------------------------------------------------


@dataclass
class MapStudy:
    """The regions and the trials, resumable; ``work`` holds the dataset, regions and rows."""

    work: Path
    seeds: tuple[int, ...] = SEEDS
    workers: int = 2
    again: bool = False

    @property
    def store(self) -> Rows:
        """The rows of the trials."""
        return Rows(self.work / "rows")

    def key(self, trial: MapTrial) -> str:
        """Names a trial on its data."""
        settings = {n: list(v) if isinstance(v, tuple) else v
                    for n, v in TRAINED.get(trial.model, {}).items()}  # fmt: skip
        world = [RECIPE.definition, parameters.constants_hash()]
        return key_of(world, asdict(trial), settings)

    def due(self) -> list[Job]:
        """The regions, then the trials, whose files are missing."""
        folder, regions = RECIPE.place(self.work), self.work / "regions"
        jobs = []
        for number in range(N_REGIONS):
            path = regions / f"{number:03d}.npz"
            if not path.exists():
                about = {"definition": {"region": number}}
                work = partial(render_region, number, path)
                jobs.append(Job(f"region-{number:03d}", f"region {number}", work, about))
        for trial in trials(self.seeds):
            row = self.store.read(self.key(trial))
            if row is None or (self.again and row["status"] != OK):
                work = partial(run_map_trial, trial, folder=folder, regions=regions)
                jobs.append(
                    Job(self.key(trial), str(trial), work, {"definition": asdict(trial)}, 10)
                )
        return jobs

    def run(self) -> None:
        """Run what is missing: the dataset, the regions, then the trials."""
        prepare(RECIPE, self.work)
        jobs = self.due()
        for some in ([j for j in jobs if j.cost == 1], [j for j in jobs if j.cost > 1]):
            run(some, self.store, workers=self.workers)

    def rows(self) -> list[tuple[MapTrial, Row]]:
        """The trials that succeeded, each with its row."""
        both = ((trial, self.store.read(self.key(trial))) for trial in trials(self.seeds))
        return [(trial, row) for trial, row in both if row and row["status"] == OK]


def mean_scores(rows: list[tuple[MapTrial, Row]]) -> dict[tuple[str, int], dict[str, np.ndarray]]:
    """Means over the seeds, by model and number of stations.

    ``r`` and ``explained`` (region,), ``station_r`` and ``station_ubrmse`` (sensor,), ``seeds``.
    """
    each: dict[tuple[str, int], list[dict[str, np.ndarray]]] = {}
    for trial, row in rows:
        for mode, scores in row["regions"].items():
            name = NAMES.get((trial.model, trial.labels, mode))
            if name is None:
                continue
            r, explained = np.transpose(scores)
            one = {"r": r, "explained": explained}
            one |= {n: np.array(row[n]) for n in ("station_r", "station_ubrmse")}
            each.setdefault((name, row["n_stations"]), []).append(one)
    means: dict[tuple[str, int], dict[str, np.ndarray]] = {}
    for key, some in each.items():
        means[key] = {name: np.mean([one[name] for one in some], axis=0) for name in some[0]}
        means[key]["seeds"] = np.array(len(some))
    return means


def yardsticks(rows: list[tuple[MapTrial, Row]]) -> pd.DataFrame:
    """One row a model and number of stations; intervals of 95 % over regions.

    ``explained`` (with ``lower``, ``upper``) is the share of a region's spatial variance at 320 m
    that the map explains, R squared; ``temporal_r`` and ``temporal_ubrmse_m3_m3`` are means over
    sensors of unseen stations.
    """
    lines = []
    for (model, n_stations), one in mean_scores(rows).items():
        r, explained = (_over(one[name]) for name in ("r", "explained"))
        line = {"model": model, "n_stations": n_stations, "n_region_dates": len(one["r"])}
        line |= {"spatial_r": r[0], "spatial_r_lower": r[1], "spatial_r_upper": r[2]}
        line |= dict(zip(("explained", "lower", "upper"), explained, strict=True))
        line |= {"temporal_r": one["station_r"].mean()}
        line |= {"temporal_ubrmse_m3_m3": one["station_ubrmse"].mean()}
        line |= {"n_seeds": int(one["seeds"]), "data": RECIPE.label}
        lines.append(line)
    order = list(dict.fromkeys(NAMES.values()))
    table = pd.DataFrame(lines)
    table = table.assign(_at=table["model"].map(order.index)).sort_values(["_at", "n_stations"])
    return table.drop(columns="_at").reset_index(drop=True)


AGAINST = (
    ("local network, exact", "trees on station labels"), ("local network, exact", "fusion, exact"),
    ("local network, dense", "local network, exact"), ("fusion, dense", "fusion, exact"),
)  # fmt: skip


def gains(rows: list[tuple[MapTrial, Row]]) -> pd.DataFrame:
    """What a model gains over another of the same stations, paired by region or sensor."""
    means, lines = mean_scores(rows), []
    for (model, n_stations), one in means.items():
        for better, other in AGAINST:
            if model != better or (other, n_stations) not in means:
                continue
            for name in ("r", "explained", "station_r", "station_ubrmse"):
                value, lower, upper = _over(one[name] - means[other, n_stations][name])
                line = {"model": model, "against": other, "n_stations": n_stations, "metric": name}
                lines.append({**line, "difference": value, "lower": lower, "upper": upper})
    return pd.DataFrame(lines)


def _over(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and its interval over whole regions (or sensors)."""
    mean = intervals.mean_of_means(values, np.arange(len(values)))
    return mean["value"], mean["lower"], mean["upper"]


def write_tables(study: MapStudy, out: Path) -> None:
    """``yardsticks.csv`` and ``yardstick_gains.csv`` of what was run."""
    rows = study.rows()
    if not rows:
        log.info("no trial has succeeded yet")
        return
    for name, table in (("yardsticks", yardsticks(rows)), ("yardstick_gains", gains(rows))):
        write_text_whole(out / f"{name}.csv", csv_text(table.round(4)))


def main(words: list[str] | None = None) -> None:
    """Run the study that the command line describes."""
    options = understood(command_line("tests.benchmarks.map_study", __doc__), words)
    study = MapStudy(
        options.work, options.seeds or SEEDS, workers=options.workers, again=options.again
    )
    carry_out(study, options, write=write_tables)


if __name__ == "__main__":
    main()

"""One trial of the fusion model: the data that it learns from, training, prediction, scores."""

import hashlib
import json
import logging
import os
import time
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from soilkit import metrics, sources
from soilkit.errors import ContractError
from soilkit.export import archives, chips, features, insitu, join
from soilkit.export.chips import ChipStore
from soilkit.files import write_whole
from soilkit.metrics import scores as stations
from soilkit.metrics import splits
from soilkit.models import augment, datasets, losses, training, xception_fusion
from soilkit.models.inputs import FED, Inputs, coarse_values
from soilkit.models.xception_fusion import XceptionFusion
from soilkit.studies.trials import FORMAT_VERSION, Trial

log = logging.getLogger(__name__)
TABLES = ("stations", "features", "drops", "samples")  # samples last: then the dataset is whole
EARLIER = pd.Timedelta("20D")  # scenes before the first reading that may still be joined to it
_CLEAR = {"sentinel2": 0.3}  # seed 001, 2b1
ALL = ("sentinel1", "sentinel2", "dem", "soilgrids", "modis_lai", "smap", "gldas")


@dataclass(frozen=True)
class Recipe:
    """How a dataset is made from the synthetic world, or where one stands already.

    ``folder`` holds the tables and ``chips.zarr`` that notebook 10 or 12 wrote (real or published
    imagery); then the other fields mean nothing. ``label`` names the data in every table.
    """

    name: str
    folder: str = ""
    label: str = "synthetic"
    seed: int = 0
    n_stations: int = 300
    start: str = "2019-01-01"
    end: str = "2020-01-01"
    revisit_days: int = 12
    size_px: int = 192  # room to turn a crop of 128
    anchor: str = "sentinel1"
    sources: tuple[str, ...] = ALL

    @property
    def definition(self) -> dict:
        """What the data hang on, as plain values."""
        fields = {"folder": self.folder, "label": self.label} if self.folder else asdict(self)
        return json.loads(json.dumps({k: v for k, v in fields.items() if k != "name"}))

    def place(self, work: Path) -> Path:
        """The folder of the dataset; another definition has another folder."""
        if self.folder:
            return Path(self.folder)
        words = json.dumps(self.definition, sort_keys=True)
        return work / "data" / f"{self.name}-{hashlib.sha256(words.encode()).hexdigest()[:8]}"


def prepare(recipe: Recipe, work: str | os.PathLike[str]) -> Path:
    """The recipe's folder, built when it is not whole; an interrupted build goes on.

    Raises
    ------
    ContractError
        When a recipe names a folder that holds no dataset.
    """
    place = recipe.place(Path(work))
    if (place / "samples.parquet").exists():
        return place
    if recipe.folder:
        raise ContractError(
            f"{place} holds no samples.parquet, so no dataset. Build one there with notebook 10 "
            "(an archive) or 12 (published shards), or leave the folder out for the world."
        )
    log.info("building the dataset %s: %d stations", place.name, recipe.n_stations)
    place.mkdir(parents=True, exist_ok=True)
    _build(recipe, place)
    return place


def _build(recipe: Recipe, out: Path) -> None:
    """The road of notebook 10: readings, scenes, anchored join, chips, coarse scalars."""
    world = archives.open_archive(
        "synthetic",
        seed=recipe.seed,
        n_stations=recipe.n_stations,
        start=recipe.start,
        end=recipe.end,
        revisit_days=recipe.revisit_days,
    )
    stations, readings = _in_situ(world, out)
    readings = readings[readings["time"].between(recipe.start, recipe.end, inclusive="left")]
    span = {"start": pd.Timestamp(recipe.start) - EARLIER, "end": pd.Timestamp(recipe.end)}
    scenes = archives.all_scenes(world, stations, sources=recipe.sources, **span)
    joined = _join(recipe, readings, scenes=scenes, stations=stations)
    coarse = [s for s in recipe.sources if sources.get(s).resolution == "coarse"]
    samples, lost = chips.build(
        joined.samples,
        world,
        out / "chips.zarr",
        stations=stations,
        sources=[s for s in recipe.sources if s not in coarse],
        bands=FED,
        size_px=recipe.size_px,
    )
    series = {s: world.series(stations, s, span["start"], span["end"]) for s in coarse}
    scalars = [features.from_series(samples, table, s) for s, table in series.items()]
    if not scalars:
        scalars = [samples[["sample_id"]]]
    drops = pd.concat([joined.drops, lost], ignore_index=True)
    predictors = features.combine(*scalars)
    _write(out, stations=stations, features=predictors, drops=drops, samples=samples)


def _join(recipe: Recipe, readings, *, scenes, stations) -> join.JoinResult:
    bounds = sources.bounds(recipe.anchor, recipe.sources)
    return join.anchored_join(
        readings,
        scenes,
        stations,
        bounds={name: pd.Timedelta(age) for name, age in bounds.items()},
        anchor=recipe.anchor,
        max_cloud_fraction=_CLEAR if "sentinel2" in recipe.sources else None,
    )


def _in_situ(world, out: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    archive = out / "ismn.zip"
    if not archive.exists():
        world.world.write_ismn(archive)
    stations = insitu.read_stations(archive, cache_dir=out / "cache")
    return stations, insitu.read_ismn(archive, cache_dir=out / "cache")


def _write(out: Path, **tables: pd.DataFrame) -> None:
    for name in TABLES:
        write_whole(out / f"{name}.parquet", partial(tables[name].to_parquet, index=False))


class Data:
    """A dataset folder, read: stations, samples, features, chips, and a hash of all of it."""

    def __init__(self, folder: str | os.PathLike[str]):
        self.folder = Path(folder)
        self.stations, self.features, self.samples = (
            pd.read_parquet(self.folder / f"{name}.parquet")
            for name in ("stations", "features", "samples")
        )

    @cached_property
    def store(self) -> ChipStore:
        """The chips, open for reading."""
        return chips.open_store(self.folder / "chips.zarr")

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 over stations, samples, features and chips, hex."""
        digest = hashlib.sha256(self.store.data_hash.encode())
        for table in (self.stations, self.samples, self.features):
            plain = table.astype({c: "str" for c in table.columns if table[c].dtype == "category"})
            digest.update(plain.to_csv(index=False, float_format="%.9g").encode())
        return digest.hexdigest()


# One trial from its definition to its row: train, choose by validation, predict, score.

OK = "ok"
_SETTINGS = ("optimizer", "learning_rate", "weight_decay", "precision", "seed")
_OPTIONS = ("encoder", "pooling", "fusion", "source_dropout")
SCORED = ("validation", "test")
EVALUATION_PIXELS = 64 * 256**2  # of a batch that is only predicted
SENSOR_COLUMNS = ("n", "r", "ubrmse_m3_m3", "rmse_m3_m3", "bias_m3_m3")


def run_trial(trial: Trial, data: Data, *, work: Path, look_at_test: bool = False) -> dict:
    """Train one trial and score it; what goes wrong is its row's status, never an exception.

    The checkpoint and the predictions of all its samples stay in ``work``; a trial that was
    killed is taken up at its last validation. The test split is predicted only when
    ``look_at_test`` says so, and the row tells.

    Returns
    -------
    dict, the row as plain values: ``key, status, definition, data, looked_at_test``, then where
    it went well ``n_weights, flops, seconds, best_step, history, evaluations``
    """
    row: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "key": trial.key(data.content_hash),
        "status": OK,
        "definition": trial.definition,
        "data": data.content_hash,
        "looked_at_test": look_at_test,
    }
    started, worked = time.perf_counter(), time.process_time()
    try:
        row |= _train_and_score(trial, data, work, look_at_test)
    except Exception as error:
        log.exception("trial %s", row["key"])
        row["status"] = f"{type(error).__name__}: {error}"
    cpu_seconds = round(time.process_time() - worked, 1)
    return row | {"seconds": round(time.perf_counter() - started, 1), "cpu_seconds": cpu_seconds}


def _train_and_score(trial: Trial, data: Data, work: Path, look_at_test: bool) -> dict:
    require_sources(trial, data)
    session = Session(trial, data)
    model, told = None, {"n_weights": 0, "flops": 0, "best_step": 0, "history": []}
    if not trial.product:
        model, told = session.train(_checkpoint(trial, data, work))
    parts = SCORED if look_at_test else SCORED[:1]
    return told | {"evaluations": _evaluate(session, model, parts=parts, work=work)}


def look_at_test(row: dict, trial: Trial, *, data: Data, work: Path) -> dict:
    """The row of a trained trial with its test scores, from the weights that it left."""
    started = time.perf_counter()
    try:
        session = Session(trial, data)
        model = None if trial.product else session.restore(_checkpoint(trial, data, work))
        found = _evaluate(session, model, parts=SCORED[1:], work=work)
    except Exception as error:
        log.exception("test of trial %s", row["key"])
        return row | {"status": f"{type(error).__name__} at the test: {error}"}
    seconds = round(row["seconds"] + time.perf_counter() - started, 1)
    evaluations = [*row["evaluations"], *found]
    return row | {"looked_at_test": True, "seconds": seconds, "evaluations": evaluations}


def _checkpoint(trial: Trial, data: Data, work: Path) -> Path:
    return work / "checkpoints" / f"{trial.key(data.content_hash)}.pt"


def prediction_path(work: Path, key: str, *, part: str) -> Path:
    """Where a trial's predictions of one part of the split stay."""
    return work / "predictions" / f"{key}-{part}.parquet"


def _evaluate(session: "Session", model, *, parts: tuple[str, ...], work: Path) -> list[dict]:
    """Scores of some parts of the split, whose predictions go to ``work/predictions``."""
    found = []
    for part in parts:
        tables = [
            session.table(part, session.predict(model, part, withheld=absent), withheld=absent)
            for absent in ((), *session.trial.withheld)
        ]
        everything = pd.concat(tables, ignore_index=True)
        path = prediction_path(work, session.key, part=part)
        write_whole(path, everything.to_parquet)
        found += [_evaluation(table) for table in tables]
    return found


def require_sources(trial: Trial, data: Data) -> None:
    """Refuse, by name, a source that the dataset lacks.

    Raises
    ------
    ContractError
    """
    have = {*data.store.sources, *(c.partition("_")[0] for c in data.features.columns)}
    lacking = [s for s in trial.sources if s not in have]
    if lacking:
        raise ContractError(
            f"The dataset in {data.folder.name} holds no {', '.join(lacking)}; it has "
            f"{', '.join(data.store.sources)} as images. Build it with that source, or leave the "
            "experiment out."
        )


class Session:
    """A trial and its data, split into training, validation and test."""

    def __init__(self, trial: Trial, data: Data):
        self.trial, self.data = trial, data
        self.split = splits.by_station(
            data.samples, data.stations, seed=trial.split_seed
        ).to_numpy()
        self.features = data.features.set_index("sample_id")
        self.statistics: Any = None

    @property
    def key(self) -> str:
        """Names the trial on its data."""
        return self.trial.key(self.data.content_hash)

    def part(self, name: str) -> pd.DataFrame:
        """The samples of one part of the split."""
        return self.data.samples[self.split == name]

    def train(self, path: Path) -> tuple[XceptionFusion, dict]:
        """A model with its best weights, and what the row says of it."""
        trial, train = self.trial, self._dataset("train", turning=self.trial.has_images)
        self.statistics = train.statistics
        model = _model(trial, float(train.moisture.mean()))
        validation = self._in_order(self._dataset("validation"))
        about = train.normalisation, self.data.content_hash
        history = training.fit(
            model,
            training.Loaders(self._shuffled(train), validation),
            losses.by_name(trial.loss),
            settings=_settings(trial),
            augment=augment.Augment.for_crop(trial.crop_px) if trial.has_images else None,
            path=path,
            provenance=training.Provenance(trial.inputs.names, *about),
            progress=False,
        )
        best = history.loc[history["score"].idxmin()]
        return model, {
            "n_weights": xception_fusion.count_parameters(model),
            "flops": xception_fusion.count_flops(model, crop_px=trial.crop_px),
            "best_step": int(best["step"]),
            "history": history.astype(float).round(9).to_dict("records"),
        }

    def restore(self, path: Path) -> XceptionFusion:
        """The model whose best weights an earlier call left at ``path``."""
        self.statistics = self._dataset("train").statistics
        checkpoint = training.load_checkpoint(path)
        checkpoint.require(inputs=self.trial.inputs.names, data_hash=self.data.content_hash)
        return XceptionFusion.from_checkpoint(checkpoint).to(_device())

    def predict(self, model, part: str, *, withheld: tuple[str, ...] = ()) -> np.ndarray:
        """What the model, or the product as it comes, says of a part, (sample,) m3 m-3."""
        if model is not None:
            return training.predict(model, self._in_order(self._dataset(part, withheld=withheld)))
        inputs = Inputs(high=(), low=(), coarse=(self.trial.product,))
        rows = self.features.loc[self.part(part)["sample_id"].astype(str)]
        return coarse_values(rows, inputs)[:, 0]

    def table(self, part: str, predicted: np.ndarray, *, withheld: tuple[str, ...]):
        """A predictions table, with the sources that were absent."""
        chosen = self.part(part)
        network = self.data.stations.drop_duplicates("station_id").set_index("station_id")
        table = chosen[["sample_id", "sensor_id", "station_id", "time"]].astype(
            {"sample_id": "str", "sensor_id": "str", "station_id": "str"}
        )
        table["network"] = table["station_id"].map(network["network"].astype("str")).to_numpy()
        table["observed_m3_m3"] = chosen["soil_moisture_m3_m3"].astype(float)
        table["predicted_m3_m3"] = np.asarray(predicted, float)
        return table.assign(model=self.key, split=part, withheld="+".join(withheld))

    def _dataset(self, part, *, turning=False, withheld=()):
        trial = self.trial
        wanted = augment.turning_px(trial.crop_px) if turning else trial.crop_px
        sizes = [self.data.store.size_px(s.partition(".")[0]) for s in trial.high]
        return datasets.ChipDataset(
            self.part(part),
            self.data.features,
            self.data.store,
            inputs=trial.inputs,
            crop_px=max(trial.crop_px, min([wanted, *sizes])),
            statistics=self.statistics,
            withhold=withheld,
        )

    def _shuffled(self, dataset):
        size = min(self.trial.batch_size, max(2, len(dataset) // 4))
        order = torch.Generator().manual_seed(self.trial.seed)
        return datasets.make_loader(dataset, batch_size=size, shuffle=True, generator=order)

    def _in_order(self, dataset):
        size = min(256, max(1, EVALUATION_PIXELS // self.trial.crop_px**2))
        return datasets.make_loader(dataset, batch_size=size, shuffle=False)


def _model(trial: Trial, mean_label_m3_m3: float) -> XceptionFusion:
    """A fresh model, the same for the same seed."""
    torch.manual_seed(trial.seed)
    model = XceptionFusion.for_inputs(
        trial.inputs,
        preset=trial.preset,
        mean_label_m3_m3=mean_label_m3_m3,
        **{name: getattr(trial, name) for name in _OPTIONS},
    )
    return model.to(_device())


def _settings(trial: Trial) -> training.Settings:
    return training.Settings(
        steps=trial.steps,
        validate_every=max(1, -(-trial.steps // trial.validations)),
        **{name: getattr(trial, name) for name in _SETTINGS},
    )


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _evaluation(table: pd.DataFrame) -> dict:
    """Scores of every sensor with enough samples, column by column."""
    scores = metrics.point_scores(table)
    scores = scores[scores["n"] >= stations.MIN_SAMPLES].sort_values("sensor_id")
    columns = {name: [_plain(v) for v in scores[name]] for name in SENSOR_COLUMNS}
    sensors = {"sensor_id": scores["sensor_id"].astype(str).tolist(), **columns}
    return {
        "split": table["split"].iloc[0],
        "withheld": table["withheld"].iloc[0],
        "n_samples": len(table),
        "sensors": sensors,
    }


def _plain(value: float) -> float | None:
    """Seven digits; JSON knows no NaN."""
    return float(f"{value:.7g}") if np.isfinite(value) else None


def one_thread() -> None:
    """Leave the other cores to the other trials."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)

"""One trial of the fusion model: the data that it learns from, training, prediction, scores."""

import hashlib
import json
import logging
import os
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from soilkit import metrics, sources
from soilkit.constants import MIN_SAMPLES
from soilkit.errors import ContractError
from soilkit.export import archives, chips, features, insitu, join
from soilkit.export.chips import ChipStore
from soilkit.files import write_whole
from soilkit.metrics import splits
from soilkit.models import augment, datasets, inference, losses, training, xception_fusion
from soilkit.models.inputs import Inputs, coarse_values
from soilkit.models.xception_fusion import XceptionFusion
from soilkit.studies import key_of

log = logging.getLogger(__name__)
EARLIER = pd.Timedelta("20D")  # scenes before the first reading that may still be joined to it
CLEAR = {"sentinel2": 0.3}  # seed 001, 2b1: the cloudiest scene that is joined
ALL = ("sentinel1", "sentinel2", "dem", "soilgrids", "modis_lai", "smap", "gldas")


@dataclass(frozen=True)
class Trial:
    """A model, its inputs, its training and its seed; equal trials of two tables are run once.

    ``product`` names a coarse source that is scored as it comes, without training. ``withheld``
    lists sets of sources that are absent in further evaluations of the same weights.
    """

    recipe: str = "sentinel1"
    high: tuple[str, ...] = ("sentinel1", "dem", "sentinel2")
    low: tuple[str, ...] = ("soilgrids",)
    coarse: tuple[str, ...] = ("smap", "gldas")
    product: str = ""
    preset: str = "small"
    crop_px: int = 128
    encoder: str = "xception"
    pooling: str = "center"
    fusion: str = "late"
    source_dropout: float | None = None
    withheld: tuple[tuple[str, ...], ...] = ()
    loss: str = "huber"
    steps: int = 300
    batch_size: int = 32
    validations: int = 5
    optimizer: str = "adam"
    learning_rate: float = 0.002
    weight_decay: float = 0.01
    precision: str = "float32"
    seed: int = 0
    split_seed: int = 0

    @property
    def inputs(self) -> Inputs:
        """What the model eats."""
        return Inputs(self.high, self.low, self.coarse)

    @property
    def has_images(self) -> bool:
        """Whether an encoder is trained."""
        return bool(self.high or self.low)

    @property
    def sources(self) -> tuple[str, ...]:
        """Every source that the trial needs, once."""
        names = (*self.high, *self.low, *self.coarse, *((self.product,) if self.product else ()))
        return tuple(dict.fromkeys(name.partition(".")[0] for name in names))

    @property
    def definition(self) -> dict[str, Any]:
        """All fields as plain values, as they stand in a row."""
        return json.loads(json.dumps(asdict(self)))

    def key(self, content_hash: str) -> str:
        """Names the trial on these data, whatever the recipe that made them is called."""
        return key_of(content_hash, {k: v for k, v in self.definition.items() if k != "recipe"})


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
    for name, table in _made(recipe, place).items():
        write_whole(place / f"{name}.parquet", partial(table.to_parquet, index=False))
    return place


def _made(recipe: Recipe, out: Path) -> dict[str, pd.DataFrame]:
    """Readings, scenes, anchored join, chips, coarse scalars: the tables; samples are the last."""
    options = ("seed", "n_stations", "start", "end", "revisit_days")
    world: Any = archives.open_archive(
        "synthetic", **{name: getattr(recipe, name) for name in options}
    )
    zipped = out / "ismn.zip"
    if not zipped.exists():
        world.world.write_ismn(zipped)
    stations = insitu.read_stations(zipped, cache_dir=out / "cache")
    readings = insitu.read_ismn(zipped, cache_dir=out / "cache")
    readings = readings[readings["time"].between(recipe.start, recipe.end, inclusive="left")]
    span = {"start": pd.Timestamp(recipe.start) - EARLIER, "end": pd.Timestamp(recipe.end)}
    scenes = archives.all_scenes(world, stations, sources=recipe.sources, **span)
    bounds = sources.bounds(recipe.anchor, recipe.sources)
    joined = join.anchored_join(
        readings,
        scenes,
        stations,
        bounds={name: pd.Timedelta(age) for name, age in bounds.items()},
        anchor=recipe.anchor,
        max_cloud_fraction=CLEAR if "sentinel2" in recipe.sources else None,
    )
    coarse = [s for s in recipe.sources if sources.get(s).resolution == "coarse"]
    imagery = [s for s in recipe.sources if s not in coarse]
    samples, lost = chips.build(
        joined.samples,
        world,
        out / "chips.zarr",
        stations=stations,
        sources=imagery,
        bands={s: sources.get(s).fed for s in imagery if sources.get(s).fed},
        size_px=recipe.size_px,
    )
    series = {s: world.series(stations, s, span["start"], span["end"]) for s in coarse}
    scalars = [features.from_series(samples, table, s) for s, table in series.items()]
    return {
        "stations": stations,
        "features": features.combine(*(scalars or [samples[["sample_id"]]])),
        "drops": pd.concat([joined.drops, lost], ignore_index=True),
        "samples": samples,
    }


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

SETTINGS = ("optimizer", "learning_rate", "weight_decay", "precision", "seed")
OPTIONS = ("encoder", "pooling", "fusion", "source_dropout")
SCORED = ("validation", "test")
EVALUATION_PIXELS = 64 * 256**2  # of a batch that is only predicted
SENSOR_COLUMNS = ("n", "r", "ubrmse_m3_m3", "rmse_m3_m3", "bias_m3_m3")


def run_trial(
    trial: Trial, folder: Path, *, work: Path, row: dict[str, Any], look_at_test: bool
) -> dict[str, Any]:
    """Train one trial and score it; one that is trained is only looked at on the test split.

    The checkpoint and the predictions of all its samples stay in ``work``; a trial that was
    killed is taken up at its last validation. The test split is predicted only when
    ``look_at_test`` says so, and the row tells.

    Parameters
    ----------
    row : of the trained trial, or empty

    Returns
    -------
    dict of plain values: ``n_weights, flops, best_step, history, evaluations, looked_at_test``

    Raises
    ------
    ContractError
        When the dataset lacks a source that the trial needs.
    """
    os.environ["OMP_NUM_THREADS"] = "1"  # the other cores are for the other trials
    torch.set_num_threads(1)
    session = Session(trial, Data(folder))
    path = work / "checkpoints" / f"{session.key}.pt"
    told: dict[str, Any] = {"n_weights": 0, "flops": 0, "best_step": 0, "history": []}
    told |= {name: row[name] for name in told if name in row}
    model, parts = None, SCORED if look_at_test else SCORED[:1]
    if row:
        model, parts = None if trial.product else session.restore(path), SCORED[1:]
    elif not trial.product:
        model, told = session.train(path)
    evaluations = list(row.get("evaluations", ()))
    for part in parts:
        tables = [session.table(model, part, withheld=w) for w in ((), *trial.withheld)]
        everything = pd.concat(tables, ignore_index=True)
        write_whole(prediction_path(work, session.key, part=part), everything.to_parquet)
        evaluations += [_evaluation(table) for table in tables]
    return told | {"evaluations": evaluations, "looked_at_test": look_at_test}


def prediction_path(work: Path, key: str, *, part: str) -> Path:
    """Where a trial's predictions of one part of the split stay."""
    return work / "predictions" / f"{key}-{part}.parquet"


class Session:
    """A trial and its data, split into training, validation and test."""

    def __init__(self, trial: Trial, data: Data):
        have = {*data.store.sources, *(c.partition("_")[0] for c in data.features.columns)}
        lacking = [s for s in trial.sources if s not in have]
        if lacking:
            raise ContractError(
                f"The dataset in {data.folder.name} holds no {', '.join(lacking)}; it has "
                f"{', '.join(data.store.sources)} as images. Build it with that source, or leave "
                "the experiment out."
            )
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
        torch.manual_seed(trial.seed)
        options = {name: getattr(trial, name) for name in OPTIONS} | {"preset": trial.preset}
        model = XceptionFusion.for_inputs(
            trial.inputs, mean_label_m3_m3=float(train.moisture.mean()), **options
        ).to(_device())
        validation = self._in_order(self._dataset("validation"))
        about = train.normalisation, self.data.content_hash
        history = training.fit(
            model,
            training.Loaders(self._shuffled(train), validation),
            xception_fusion.step_by(losses.by_name(trial.loss)),
            xception_fusion.look,
            settings=training.Settings(
                steps=trial.steps,
                validate_every=max(1, -(-trial.steps // trial.validations)),
                **{name: getattr(trial, name) for name in SETTINGS},
            ),
            augment=augment.Augment.for_crop(trial.crop_px) if trial.has_images else None,
            path=path,
            provenance=training.Provenance(trial.inputs.names, *about),
            progress=False,
        )
        best = history.loc[history["score"].idxmin()]
        return model, {
            "n_weights": inference.count_parameters(model),
            "flops": inference.count_flops(model, crop_px=trial.crop_px),
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
            loader = self._in_order(self._dataset(part, withheld=withheld))
            return training.predict(model, loader, xception_fusion.look)
        inputs = Inputs(high=(), low=(), coarse=(self.trial.product,))
        rows = self.features.loc[self.part(part)["sample_id"].astype(str)]
        return coarse_values(rows, inputs)[:, 0]

    def table(self, model, part: str, *, withheld: tuple[str, ...]) -> pd.DataFrame:
        """The predictions table of a part, with the sources that were absent."""
        predicted, chosen = self.predict(model, part, withheld=withheld), self.part(part)
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


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _evaluation(table: pd.DataFrame) -> dict:
    """Scores of every sensor with enough samples, column by column."""
    scores = metrics.point_scores(table)
    scores = scores[scores["n"] >= MIN_SAMPLES].sort_values("sensor_id")
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

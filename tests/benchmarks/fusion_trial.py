"""One trial of the fusion model: the data that it learns from, training, prediction, scores."""

import hashlib
import json
import logging
import os
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from soilkit import metrics, sources
from soilkit.constants import MIN_SAMPLES
from soilkit.errors import ContractError
from soilkit.export import archives, chips, features, insitu, join, ten_day_table
from soilkit.export.chips import ChipStore
from soilkit.files import read_table, write_table
from soilkit.metrics import splits
from soilkit.models import inference, xception_fusion
from soilkit.models.inputs import Inputs, coarse_values
from soilkit.world.parameters import CODE_VERSION
from tests.benchmarks.trials import key_of

log = logging.getLogger(__name__)
EARLIER = pd.Timedelta("20D")  # scenes before the first reading that may still be joined to it
CLEAR = {"sentinel2": 0.3}  # Batchu et al., 2b1: the cloudiest scene that is joined
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
    def has_images(self) -> bool:
        """Whether an encoder is trained."""
        return bool(self.high or self.low)

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
    label: str = f"synthetic, world {CODE_VERSION}"
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

    Raises ``ContractError`` when a recipe names a folder that holds no dataset.
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
        write_table(place / f"{name}.parquet", table)
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
        readings, scenes, stations, anchor=recipe.anchor,
        bounds={name: pd.Timedelta(age) for name, age in bounds.items()},
        max_cloud_fraction=CLEAR if "sentinel2" in recipe.sources else None,
    )  # fmt: skip
    coarse = [s for s in recipe.sources if sources.get(s).resolution == "coarse"]
    imagery = [s for s in recipe.sources if s not in coarse]
    samples, lost = chips.build(
        joined.samples, world, out / "chips.zarr", stations=stations, sources=imagery,
        bands={s: sources.get(s).fed for s in imagery if sources.get(s).fed},
        size_px=recipe.size_px,
    )  # fmt: skip
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
            read_table(self.folder / f"{name}.parquet")
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

SETTINGS = (
    "preset", "crop_px", "encoder", "pooling", "fusion", "source_dropout", "loss", "steps",
    "batch_size", "optimizer", "learning_rate", "weight_decay", "precision", "seed",
)  # fmt: skip
SCORED = ("validation", "test")
SENSOR_COLUMNS = ("n", "r", "ubrmse_m3_m3", "rmse_m3_m3", "bias_m3_m3")


def run_trial(
    trial: Trial, folder: Path, *, work: Path, row: dict[str, Any], look_at_test: bool
) -> dict[str, Any]:
    """Train one trial and score it; one that is trained is only looked at on the test split.

    The checkpoint and the predictions of all its samples stay in ``work``; a trial that was killed
    is taken up at its last validation. The test split is predicted only when ``look_at_test`` says
    so, and the row tells. ``row`` is the trained trial's, or empty; the new one has ``n_weights,
    flops, best_step, history, evaluations, looked_at_test`` as plain values.
    """
    os.environ["OMP_NUM_THREADS"] = "1"  # the other cores are for the other trials
    torch.set_num_threads(1)
    data = Data(folder)
    key = trial.key(data.content_hash)
    split = splits.by_station(data.samples, data.stations, seed=trial.split_seed).to_numpy()
    result: dict[str, Any] = {"n_weights": 0, "flops": 0, "best_step": 0, "history": []}
    result |= {name: row[name] for name in result if name in row}
    trained, parts = None, SCORED if look_at_test else SCORED[:1]
    if row:
        path = work / "checkpoints" / f"{key}.pt"
        trained, parts = None if trial.product else xception_fusion.load(path), SCORED[1:]
    elif not trial.product:
        trained = _trained(trial, folder, split, out_dir=work, name=key)
        result = _about(trained, trial)
    evaluations = list(row.get("evaluations", ()))
    for part in parts:
        tables = []
        for withheld in ((), *trial.withheld):
            if trained is None:
                table = _product_table(trial.product, data, split, part=part)
            else:
                table = trained.predict(folder, split, part=part, withhold=withheld)
            tables.append(table.assign(model=key, withheld="+".join(withheld)))
        everything = pd.concat(tables, ignore_index=True)
        write_table(prediction_path(work, key, part=part), everything, index=True)
        evaluations += [_evaluation(table) for table in tables]
    return result | {"evaluations": evaluations, "looked_at_test": look_at_test}


def prediction_path(work: Path, key: str, *, part: str) -> Path:
    """Where a trial's predictions of one part of the split stay."""
    return work / "predictions" / f"{key}-{part}.parquet"


def _trained(trial: Trial, folder: Path, split, **place) -> xception_fusion.TrainedFusion:
    settings = {name: getattr(trial, name) for name in SETTINGS}
    settings["validate_every"] = max(1, -(-trial.steps // trial.validations))
    fed = (*trial.high, *trial.low, *trial.coarse)
    return xception_fusion.train(folder, split, sources=fed, progress=False, **settings, **place)


def _about(trained: xception_fusion.TrainedFusion, trial: Trial) -> dict[str, Any]:
    """What the row says of a model that was trained here."""
    assert trained.history is not None
    return {
        "n_weights": inference.count_parameters(trained.model),
        "flops": inference.count_flops(trained.model),
        "best_step": trained.checkpoint.step,
        "history": trained.history.astype(float).round(9).to_dict("records"),
    }


def _product_table(product: str, data: Data, split, *, part: str) -> pd.DataFrame:
    """What a coarse product says as it comes."""
    samples = data.samples[split == part]
    scalars = data.features.set_index("sample_id").loc[samples["sample_id"].astype(str)]
    predicted = coarse_values(scalars, Inputs((), (), (product,)))[:, 0]
    samples = samples.astype({"soil_moisture_m3_m3": float})
    return ten_day_table.predictions_table(
        samples, data.stations, predicted=predicted, model=product, split=part
    )


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

"""One trial from its definition to its row: train, choose by validation, predict, score."""

import logging
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from soilkit import metrics
from soilkit.errors import ContractError
from soilkit.experiments.recipes import Data
from soilkit.experiments.trials import FORMAT_VERSION, Trial
from soilkit.files import write_whole
from soilkit.metrics import scores as stations
from soilkit.metrics import splits
from soilkit.models import augment, datasets, losses, training, xception_fusion
from soilkit.models.inputs import Inputs, coarse_values
from soilkit.models.xception_fusion import XceptionFusion

log = logging.getLogger(__name__)
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

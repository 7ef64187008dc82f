"""Settings of DEEPSOIL's training, searched by successive halving, on synthetic tiles.

``python -m tests.benchmarks.deepsoil_search FOLDER OUT`` takes the tiles that ``deepsoil_study``
renders in FOLDER (of those that are there) and writes ``OUT/search.csv``. The paper searches by
Hyperband, which is this halving begun with several numbers of candidates; scikit-learn's
``HalvingRandomSearchCV`` does it once: nine candidates for one pass over the tiles, the better
third for three passes, the best for nine. They are judged by the validation blocks of seed 0. The
winner and the settings that stand then train for nine passes with two other seeds and other blocks
hidden: a winner is confirmed where it wins on validation blocks that it was not chosen by.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import loguniform
from sklearn.base import BaseEstimator
from sklearn.experimental import enable_halving_search_cv  # noqa: F401  # it brings the next one
from sklearn.model_selection import HalvingRandomSearchCV, PredefinedSplit

from soilkit.files import csv_text, write_text_whole
from soilkit.models.deepsoil import ScienceLoss, field_maps
from tests.benchmarks import deepsoil_study as study

CANDIDATES, MOST_EPOCHS, FACTOR, SEED, OTHERS = 9, 9, 3, 0, (1, 2)
CHOICES = {
    "learning_rate": loguniform(5e-4, 2e-2), "batch_size": [4, 8, 16], "floor": [0.05, 0.3, 0.6],
    "suction_of": ["none", "probe", "hydroblocks"],
}  # fmt: skip
STANDING = {"learning_rate": 2e-3, "batch_size": 8, "floor": 0.05, "suction_of": "probe"}


class TileNetwork(BaseEstimator):
    """A small DEEPSOIL that is fitted to numbered tiles and scored on others."""

    def __init__(self, tiles, learning_rate, batch_size, floor, suction_of, epochs, seed=SEED):
        self.tiles, self.learning_rate, self.batch_size = tiles, learning_rate, batch_size
        self.floor, self.suction_of, self.epochs, self.seed = floor, suction_of, epochs, seed

    def fit(self, rows, target=None):
        """Train on the tiles of these numbers (n, 1)."""
        label = np.full(len(self.tiles.tiles), "")
        label = label.astype("U10")
        label[np.ravel(rows)] = "train"
        self.trained_ = field_maps.train(
            replace(self.tiles, crop_px=study.CROP_PX), label, seed=self.seed, epochs=self.epochs,
            loss=ScienceLoss(self.suction_of, floor=self.floor), batch_size=self.batch_size,
            learning_rate=self.learning_rate, validate_every=study.AT_THE_END, progress=False,
        )  # fmt: skip
        return self

    def score(self, rows, target=None):
        """Minus the mean of the errors at the probes and against the target's map, m3 m-3."""
        made = study.by_squares(self.trained_, self.tiles, np.ravel(rows))
        found = pd.DataFrame([
            dict(study._errors(self.tiles, row, moisture))
            for row, moisture in zip(np.ravel(rows), made, strict=True)
        ])  # fmt: skip
        return -float(found[["reading", "target"]].mean().mean())


def confirmed(tiles, best):
    """The winner and the settings that stand, on validation blocks of seeds that chose neither."""
    rows = []
    for seed in OTHERS:
        label = study.labels_of(tiles, seed)
        for settings in (best, STANDING):
            model = TileNetwork(tiles, **settings, epochs=MOST_EPOCHS, seed=seed)
            model.fit(np.flatnonzero(label == "train"))
            error = -model.score(np.flatnonzero(label == "validation"))
            line = {**settings, "epochs": MOST_EPOCHS, "part": "validation, again"}
            rows.append({**line, "error_m3_m3": error, "seed": seed})
    return pd.DataFrame(rows)


def main(folder, out):
    """Search, then ask again of the winner and of what stands."""
    torch.set_num_threads(1)
    tiles = study.read(Path(folder))
    label = study.labels_of(tiles, SEED)
    rows = np.flatnonzero(np.isin(label, ("train", "validation")))[:, None]
    part = PredefinedSplit(np.where(label[rows[:, 0]] == "validation", 0, -1))
    search = HalvingRandomSearchCV(
        TileNetwork(tiles, **STANDING, epochs=1), CHOICES, n_candidates=CANDIDATES, factor=FACTOR,
        resource="epochs", min_resources=1, max_resources=MOST_EPOCHS, cv=part, refit=False,
        random_state=SEED, error_score="raise",
    )  # fmt: skip
    search.fit(rows, np.zeros(len(rows)))
    found = pd.DataFrame(search.cv_results_)
    names = list(CHOICES)
    table = found[[f"param_{name}" for name in names]].set_axis(names, axis=1)
    table = table.assign(
        epochs=found["n_resources"], part="validation", error_m3_m3=-found["mean_test_score"]
    )
    best = {name: search.best_params_[name] for name in names}
    table = pd.concat([table.assign(seed=SEED), confirmed(tiles, best)], ignore_index=True)
    write_text_whole(Path(out) / "search.csv", csv_text(table.assign(data="synthetic")))
    return table


if __name__ == "__main__":
    sys.stdout.write(main(*sys.argv[1:]).round(4).to_string() + "\n")

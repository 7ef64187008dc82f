"""Tables through the ensembles: rows predicted, rows learned, a map's cells, and files on disk.

``--scale 0.1`` takes a tenth of all rows, for a first look; the requirements hold at scale 1.
"""

import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor
from threadpoolctl import threadpool_limits

from soilkit.models.tabular import DenseEnsemble, TextureForest
from soilkit.models.tabular.systems import TrainedTable

TEST_ROWS, TRAIN_ROWS, FOREST_ROWS, CELLS = 130_000, 500_000, 50_000, 1_500_000
TEXTURES, TREES = 10, 100
WIDTHS, MEMBERS, CORES = (64, 32), 7, 2
REQUIRED_RATIO, REQUIRED_MB, REQUIRED_FIT_S, REQUIRED_MAP_S = 10, 1.1, 180, 10


def made_up(n_rows, seed=0):
    """Nine predictors, moisture that follows three of them, and the six characteristics."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, 9))
    y = 0.2 + 0.05 * np.tanh(X[:, 0] + 0.5 * X[:, 1] * X[:, 2]) + rng.normal(0, 0.03, n_rows)
    amounts = {name: rng.uniform(0, 60, n_rows) for name in ("clay", "sand", "ph")}
    sizes = {"texture": TEXTURES, "koeppen": 17, "land_cover": 13}
    classes = {name: rng.integers(0, k, n_rows).astype(str) for name, k in sizes.items()}
    return X, y, pd.DataFrame(classes | amounts)


def timed(call):
    """Seconds of one call, and what it returned."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def file_mb(model, folder):
    """Size of a saved model, MB."""
    path = Path(folder) / type(model).__name__
    TrainedTable(path.name, "given", [], {"train": model}, pd.Series(dtype=str)).save(path)
    return path.stat().st_size / 1e6


def one_thread_each(scale):
    """Dense against the forest of each texture: seconds of prediction, size of the file."""
    X, y, strata = made_up(int(FOREST_ROWS * scale))
    dense = DenseEnsemble(widths=WIDTHS, epochs=1).fit(X, y, strata=strata)
    forest = TextureForest(n_trees=TREES, n_jobs=CORES).fit(X, y, strata)
    for member in forest.members_:
        member.n_jobs = 1
    new = made_up(int(TEST_ROWS * scale), seed=1)[0]
    dense.predict(new)
    with threadpool_limits(1):
        ours = min(timed(lambda: dense.predict(new))[0] for _ in range(5))
        theirs = timed(lambda: forest.predict(new))[0]
    with tempfile.TemporaryDirectory() as folder:
        sizes = [file_mb(model, folder) for model in (dense, forest)]
    print(
        f"predict {len(new):,} rows, one thread | Dense of {MEMBERS} {ours:.2f} s, "
        f"{sizes[0]:.2f} MB (required {REQUIRED_MB}) | {TEXTURES} forests of {TREES} trees from "
        f"{len(y):,} rows {theirs:.1f} s, {sizes[1]:.0f} MB | ratio {theirs / ours:.0f}, "
        f"required {REQUIRED_RATIO}"
    )


def training_and_map(scale):
    """Dense of seven members against scikit-learn's network of the same widths and epochs."""
    X, y, strata = made_up(int(TRAIN_ROWS * scale))
    model = DenseEnsemble(widths=WIDTHS)
    model.max_rows_seen = int(model.max_rows_seen * scale)  # as many epochs at every scale
    ours, dense = timed(lambda: model.fit(X, y, strata=strata))
    peer = MLPRegressor(
        hidden_layer_sizes=WIDTHS, batch_size=dense.batch_size_, max_iter=dense.epochs_, tol=0.0,
        n_iter_no_change=dense.epochs_ + 1, random_state=0,
    )  # fmt: skip
    with threadpool_limits(CORES), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # as many epochs as ours, no more
        one = timed(lambda: peer.fit(X, y))[0]
    print(
        f"train Dense of {MEMBERS} on {len(y):,} rows, {dense.epochs_} epochs of batches of "
        f"{dense.batch_size_} | ours on one thread {ours:.0f} s (required {REQUIRED_FIT_S}) | "
        f"{MEMBERS} MLPRegressor fits on {CORES} {MEMBERS * one:.0f} s (one timed) | "
        f"ratio {MEMBERS * one / ours:.1f}"
    )
    cells = made_up(int(CELLS * scale), seed=2)[0]
    mapping = timed(lambda: dense.predict(cells, return_std=True))[0]
    with threadpool_limits(CORES):
        theirs = timed(lambda: [peer.predict(cells) for _ in range(MEMBERS)])[0]
    print(
        f"map of {len(cells):,} cells, mean and spread | ours on one thread {mapping:.1f} s "
        f"(required {REQUIRED_MAP_S}) | {MEMBERS} MLPRegressor predictions on {CORES} "
        f"{theirs:.1f} s | "
        f"ratio {theirs / mapping:.1f}"
    )


def main():
    """Print three lines: prediction and files, training, a map."""
    scale = float(sys.argv[sys.argv.index("--scale") + 1]) if "--scale" in sys.argv else 1.0
    one_thread_each(scale)
    training_and_map(scale)


if __name__ == "__main__":
    main()

"""How far inputs lie from training data: the dissimilarity index and its threshold."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from soilkit.errors import ContractError

EXACT_ROWS = 5_000  # above, the mean distance is that of as many rows drawn at random
MOST_SEARCHES = 10_000  # above, the threshold is that of as many training rows drawn at random
ALL_CORES = -1
MAX_NEIGHBOURS = 512  # larger groups are searched around, one tree without each
CHUNK_VALUES = 4_000_000  # of distances held at once: 32 MB
WHISKER = 1.5  # interquartile ranges above the upper quartile


@dataclass(frozen=True)
class Area:
    """The area of applicability of a model trained on one table.

    Attributes
    ----------
    predictors : columns that distances are made of, (predictor,)
    centre, scale : training means and standard deviations, (predictor,), units of the predictors
    weights : (predictor,), dimensionless
    mean_distance : mean distance between training rows in standardised, weighted units
    threshold : the largest dissimilarity index inside the area
    training_index : the index of training rows against rows of other groups, (row,); of 10,000
        rows drawn at random where there are more
    constants : predictors that never varied in training, with their value; no distance knows them
    n_left_out : training rows with a missing predictor
    """

    predictors: tuple[str, ...]
    centre: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    mean_distance: float
    threshold: float
    training_index: np.ndarray
    constants: Mapping[str, float]
    n_left_out: int
    tree: cKDTree

    def measure(self, table: pd.DataFrame, *, density: bool = False) -> pd.DataFrame:
        """How far each row's inputs lie from the training rows.

        The dissimilarity index is the distance to the nearest training row over the mean distance
        between training rows [1]_. The density counts the training rows within the threshold [2]_.

        Parameters
        ----------
        table : predictors as in training, one row a prediction
        density : whether to count near training rows too

        Returns
        -------
        DataFrame on the table's index: ``dissimilarity_index`` (dimensionless, NaN where a
        predictor is missing), ``is_inside``, ``status`` ("inside", "outside", "missing: ...",
        "unseen value: ..." where a predictor differs that never varied in training), and
        ``n_near`` where density is asked for (-1 where a predictor is missing)

        References
        ----------
        .. [1] Meyer and Pebesma (2021), doi:10.1111/2041-210X.13650
        .. [2] Schumacher et al. (2025), doi:10.5194/gmd-18-10185-2025
        """
        raw = _values(table, self.predictors)
        index, near = np.full(len(table), np.nan), np.full(len(table), -1)
        for rows in _chunks(np.flatnonzero(np.isfinite(raw).all(axis=1)), len(self.predictors)):
            points = (raw[rows] - self.centre) / self.scale * self.weights
            index[rows] = self.tree.query(points, workers=ALL_CORES)[0] / self.mean_distance
            if density:
                reach = self.threshold * self.mean_distance
                near[rows] = self.tree.query_ball_point(
                    points, reach, return_length=True, workers=ALL_CORES
                )
        status = self._status(table, raw, index=index)
        found = pd.DataFrame(
            {"dissimilarity_index": index, "is_inside": status == "inside", "status": status},
            index=table.index,
        )
        return found.assign(n_near=near) if density else found

    def _status(self, table: pd.DataFrame, raw: np.ndarray, *, index: np.ndarray) -> np.ndarray:
        status = np.where(index <= self.threshold, "inside", "outside").astype(object)
        constants = _values(table, tuple(self.constants))
        differs = constants != np.array(list(self.constants.values()))  # (row, constant)
        names = np.array([*self.predictors, *self.constants], dtype=object)
        missing = ~np.isfinite(np.column_stack([raw, constants]))
        _write(status, differs, words="unseen value", names=names[len(self.predictors) :])
        _write(status, missing, words="missing", names=names)
        return status


def fit(
    training: pd.DataFrame,
    *,
    predictors: Sequence[str],
    groups: Sequence | None = None,
    weights: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Area:
    """The area of applicability of a model that was trained on these rows [1]_.

    Predictors are standardised by their training mean and standard deviation and multiplied by
    their weights. The threshold is the upper whisker of the training rows' own indices, each
    against rows of other groups: the largest that is no more than 1.5 interquartile ranges above
    the upper quartile.

    Parameters
    ----------
    training : one row a training sample; rows that lack a predictor are left out and counted
    predictors : columns that the model eats
    groups : per row, the folds, blocks or stations that the cross-validation keeps apart; without
        them every row stands alone, a station's rows lie close to each other, and the area comes
        out too small for a model judged at unseen stations
    weights : importance of each predictor in the model, from zero on (negative ones count as
        zero); None = all alike
    seed : draws the rows that the mean distance (5,000) and the threshold (10,000) are made of,
        where there are more; every row is searched for the nearest either way

    Raises
    ------
    ContractError
        When columns are absent or constant, weights are missing or zero, or there is one group.

    References
    ----------
    .. [1] Meyer and Pebesma (2021), doi:10.1111/2041-210X.13650
    """
    raw, apart = _complete(training, predictors, groups)
    weight = _weights(predictors, weights)
    scale = raw.std(axis=0, ddof=1)
    varies = np.ptp(raw, axis=0) > 0
    used = varies & (weight > 0)
    if not used.any():
        raise ContractError("No predictor with a weight varies in training: no distance exists.")
    raw_used, centre, scale = raw[:, used], raw[:, used].mean(axis=0), scale[used]
    points = (raw_used - centre) / scale * weight[used]
    tree = cKDTree(points)
    rng = np.random.default_rng(seed)
    mean_distance = _mean_distance(points[_drawn(len(points), EXACT_ROWS, rng)])
    searched = _drawn(len(points), MOST_SEARCHES, rng)
    index = _nearest_elsewhere(tree, points, groups=apart, rows=searched) / mean_distance
    still = np.flatnonzero(~varies & (weight > 0)).tolist()
    constants = {predictors[k]: float(raw[0, k]) for k in still}
    return Area(
        tuple(np.array(predictors, dtype=object)[used]), centre, scale, weight[used],
        mean_distance, _upper_whisker(index), index,
        constants,
        len(training) - len(raw), tree,
    )  # fmt: skip


def _values(table: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    """Columns as floats, (row, predictor)."""
    absent = [name for name in names if name not in table]
    if absent:
        raise ContractError(
            f"No predictors {', '.join(map(str, absent))} in the table; it has "
            f"{', '.join(map(str, table.columns))}."
        )
    return np.array([table[name].to_numpy(float) for name in names]).T.reshape(
        len(table), len(names)
    )


def _write(status: np.ndarray, flags: np.ndarray, *, words: str, names: np.ndarray) -> None:
    """Names of the flagged columns into the status of each flagged row."""
    patterns, which = np.unique(flags, axis=0, return_inverse=True)
    texts = [f"{words}: {', '.join(map(str, names[pattern]))}" for pattern in patterns]
    flagged = flags.any(axis=1)
    status[flagged] = np.array(texts, dtype=object)[which.ravel()[flagged]]


def _complete(training: pd.DataFrame, predictors, groups) -> tuple[np.ndarray, np.ndarray | None]:
    raw = _values(training, predictors)
    good = np.isfinite(raw).all(axis=1)
    if good.sum() < 3:
        raise ContractError(
            f"An area needs 3 training rows with all predictors and more; found {good.sum()} of "
            f"{len(raw)}. Leave out the predictor that is missing most."
        )
    if groups is None:
        return raw[good], None
    if len(groups) != len(training):
        raise ContractError(f"{len(groups)} groups for {len(training)} training rows.")
    codes = pd.factorize(np.asarray(groups, dtype=object)[good].astype(str))[0]
    if codes.max() == 0:
        raise ContractError("One group alone has no others to be far from; give two and more.")
    return raw[good], codes


def _weights(predictors: Sequence[str], weights: Mapping[str, float] | None) -> np.ndarray:
    if weights is None:
        return np.ones(len(predictors))
    lost = [name for name in predictors if not np.isfinite(weights.get(name, np.nan))]
    if lost:
        raise ContractError(f"No finite weight for {', '.join(map(str, lost))}.")
    return np.maximum([float(weights[name]) for name in predictors], 0.0)


def _chunks(rows: np.ndarray, width: int) -> Iterator[np.ndarray]:
    step = max(CHUNK_VALUES // max(width, 1), 1)
    for first in range(0, len(rows), step):
        yield rows[first : first + step]


def _drawn(n: int, most: int, rng: np.random.Generator) -> np.ndarray:
    """All row numbers, or ``most`` of them at random, in order."""
    return np.arange(n) if n <= most else np.sort(rng.choice(n, most, replace=False))


def _mean_distance(points: np.ndarray) -> float:
    """Mean distance between two different rows."""
    n = len(points)
    parts = (cdist(points[rows], points).sum() for rows in _chunks(np.arange(n), n))
    return float(sum(parts) / (n * (n - 1)))


def _nearest_elsewhere(
    tree: cKDTree, points: np.ndarray, *, groups: np.ndarray | None, rows: np.ndarray
) -> np.ndarray:
    """Distance of each of ``rows`` to the nearest row of another group, (rows,)."""
    if groups is None:
        return tree.query(points[rows], k=[2], workers=ALL_CORES)[0][:, 0]
    sizes, own = np.bincount(groups), groups[rows]
    nearest = np.full(len(rows), np.inf)
    for large in np.flatnonzero(sizes > MAX_NEIGHBOURS):
        others = cKDTree(points[groups != large])
        nearest[own == large] = others.query(points[rows[own == large]], workers=ALL_CORES)[0]
    left, k = np.flatnonzero(sizes[own] <= MAX_NEIGHBOURS), 2
    while len(left):
        # A group of m rows cannot fill m + 1 places, so this ends.
        k = min(4 * k, MAX_NEIGHBOURS + 1, len(points))
        for part in _chunks(left, k):
            distance, found = tree.query(points[rows[part]], k=k, workers=ALL_CORES)  # (row, near)
            foreign = groups[found] != own[part][:, None]
            first = foreign.argmax(axis=1)[:, None]
            hit = np.take_along_axis(distance, first, axis=1)[:, 0]
            nearest[part] = np.where(foreign.any(axis=1), hit, np.inf)
        left = left[np.isinf(nearest[left])]
    return nearest


def _upper_whisker(values: np.ndarray) -> float:
    low, high = np.quantile(values, [0.25, 0.75])
    return float(values[values <= high + WHISKER * (high - low)].max())

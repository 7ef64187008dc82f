"""How far inputs lie from training data: the dissimilarity index and its threshold."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from soilkit.errors import ContractError

EXACT_ROWS = 5_000  # above, the mean distance is that of as many rows drawn at random
MOST_SEARCHES = 4_000  # above, the threshold is that of as many training rows drawn at random
ALL_CORES = -1
TILE = (256, 2048)  # rows by training rows whose distances stay in a cache: 4 MB
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
    training_index : the index of training rows against rows of other groups, (row,); of 4,000
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
    seed : draws the rows that the mean distance (5,000) and the threshold (4,000) are made of,
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
    index = _nearest_elsewhere(points, groups=apart, rows=searched) / mean_distance
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
    codes = pd.factorize(pd.Series(groups).array[good], use_na_sentinel=False)[0]
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
    points: np.ndarray, *, groups: np.ndarray | None, rows: np.ndarray
) -> np.ndarray:
    """Distance of each of ``rows`` to the nearest row of another group, (rows,).

    All pairs are looked at, a tile of products at a time: in tens of dimensions, and past the
    hundreds of rows of its own station that lie close to a row, no tree is faster.
    """
    groups = np.arange(len(points)) if groups is None else groups
    order = np.argsort(groups, kind="stable")
    sorted_groups, left = groups[order], np.argsort(groups[rows], kind="stable")
    asked, own = points[rows[left]], groups[rows[left]]
    # |p - q|^2 less |p|^2, which does not decide who is nearest to p.
    factors = np.column_stack([-2 * asked, np.ones(len(asked))])
    least, nearest = np.full(len(rows), np.inf), np.zeros(len(rows), np.intp)
    for first in range(0, len(points), TILE[1]):
        there = order[first : first + TILE[1]]
        q = points[there]
        others = np.vstack([q.T, np.einsum("ij,ij->i", q, q)])  # (predictor + 1, row)
        codes = sorted_groups[first : first + TILE[1]]
        for begin in range(0, len(rows), TILE[0]):
            part = slice(begin, begin + TILE[0])
            squares = factors[part] @ others
            _forbid(squares, own[part], codes)
            found = squares.argmin(axis=1)
            value = squares[np.arange(len(found)), found]
            closer = value < least[part]
            least[part] = np.where(closer, value, least[part])
            nearest[part] = np.where(closer, there[found], nearest[part])
    distance = np.empty(len(rows))
    distance[left] = np.sqrt(((asked - points[nearest]) ** 2).sum(axis=1))
    return distance


def _forbid(squares: np.ndarray, own: np.ndarray, codes: np.ndarray) -> None:
    """Write infinity where a row, (row,), and a column, both sorted by group, are of one group."""
    low, high = np.searchsorted(own, [codes[0], codes[-1] + 1])
    for group in np.unique(own[low:high]):
        row, column = (slice(*np.searchsorted(c, [group, group + 1])) for c in (own, codes))
        squares[row, column] = np.inf


def _upper_whisker(values: np.ndarray) -> float:
    low, high = np.quantile(values, [0.25, 0.75])
    return float(values[values <= high + WHISKER * (high - low)].max())

"""How far inputs lie from training data, what skill is there, and places by their traits."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from soilkit.errors import ContractError
from soilkit.metrics import intervals
from soilkit.metrics.intervals import (
    MIN_CLUSTERS,
    SCALES,
    cluster_sums,
    cluster_weights,
    clusters,
    limits,
    ratio_draws,
    scale_of,
    student_interval,
)
from soilkit.metrics.points import correlation_of_sums
from soilkit.metrics.scores import OK
from soilkit.metrics.spatial import ERRORS, require_columns, site_means

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


# Skill as a function of the distance from training data.

MIN_PAIRS = 3
SIDES = ("inside", "outside", "unseen value", "missing")
N_OUTSIDE = 2  # bins


def skill_by_dissimilarity(
    predictions: pd.DataFrame,
    measured: pd.DataFrame,
    *,
    clusters: Sequence,
    n_bins: int = 5,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """RMSE and R of predictions by their distance from training data, with intervals.

    Predictions inside the area are sorted into bins of equal numbers by their index, and so are
    those outside into two. R is over all pairs of a bin, so it mixes places and times.
    Intervals are Student's from the spread of log(RMSE) and arctanh(R) when whole clusters are
    drawn with replacement: with normal errors that go together in 40 clusters, intervals of 95 %
    held the true RMSE in 92 % of simulations, with 10 clusters in 89 %. Below five there is none.

    Parameters
    ----------
    predictions : table of that contract
    measured : what ``Area.measure`` says of each prediction, on the same index
    clusters : per prediction, what errors go together in: 2-degree blocks, networks or stations
    n_bins : inside the area
    confidence : of the intervals
    seed : of the draws

    Returns
    -------
    DataFrame, a row a model, split, side and bin ("all", then "1", "2" ...): index_from, index_to,
    n, n_clusters, rmse_m3_m3 and r with _lower and _upper, status ("ok" or what is lacking)

    Raises
    ------
    ContractError
        When measured or clusters do not belong to the predictions.
    """
    if not measured.index.equals(predictions.index) or len(clusters) != len(predictions):
        raise ContractError(
            "Measured distances and clusters need one row a prediction, on the same index; found "
            f"{len(measured)} and {len(clusters)} for {len(predictions)} predictions."
        )
    table = pd.DataFrame(
        {
            "observed": predictions["observed_m3_m3"].to_numpy(float),
            "predicted": predictions["predicted_m3_m3"].to_numpy(float),
            "cluster": pd.factorize(np.asarray(clusters, dtype=object).astype(str))[0],
            "index": measured["dissimilarity_index"].to_numpy(float),
            "side": measured["status"].astype("str").str.split(":").str[0].to_numpy(),
        }
    )
    keys = [name for name in ("model", "split") if name in predictions]
    for name in keys:
        table[name] = predictions[name].astype("str").to_numpy()
    rows = []
    for key, part in table.groupby(keys, sort=True) if keys else [((), table)]:
        for words, one in _bins(part, n_bins=n_bins):
            scores = _scores(one, confidence=confidence, seed=seed)
            rows.append(dict(zip(keys, key, strict=True)) | words | scores)
    return pd.DataFrame(rows)


def _bins(table: pd.DataFrame, *, n_bins: int) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Name and rows of each side as a whole and of its bins."""
    for side in SIDES:
        rows = table[table["side"] == side]
        if rows.empty:
            continue
        yield _words(side, "all", rows["index"]), rows
        n = {"inside": n_bins, "outside": N_OUTSIDE}.get(side, 0)
        if not n:
            continue
        edges = np.quantile(rows["index"], np.linspace(0, 1, n + 1)[1:-1])
        which = np.searchsorted(edges, rows["index"], side="left")
        for number in np.unique(which):
            one = rows[which == number]
            yield _words(side, str(number + 1), one["index"]), one


def _words(side: str, name: str, index: pd.Series) -> dict[str, Any]:
    return {"side": side, "bin": name, "index_from": index.min(), "index_to": index.max()}


def _scores(rows: pd.DataFrame, *, confidence: float, seed: int) -> dict[str, Any]:
    """RMSE and R with their intervals, and what is lacking."""
    x, y = rows["observed"].to_numpy(), rows["predicted"].to_numpy()
    good = np.isfinite(x) & np.isfinite(y)
    x, y, cluster = x[good], y[good], pd.factorize(rows["cluster"].to_numpy()[good])[0]
    k = int(cluster.max()) + 1 if len(cluster) else 0
    found: dict[str, Any] = {"n": len(x), "n_clusters": k} | dict.fromkeys(_COLUMNS, np.nan)
    if len(x) < MIN_PAIRS:
        return found | {"status": f"fewer than {MIN_PAIRS} pairs"}
    dx, dy = x - x.mean(), y - y.mean()
    sums = cluster_sums(
        np.column_stack([(y - x) ** 2, np.ones(len(x)), dx, dy, dx * dx, dy * dy, dx * dy]), cluster
    )  # (cluster, 7)
    found |= dict(zip(_SCORES, map(float, _from_sums(sums.sum(axis=0))), strict=True))
    status = OK if np.isfinite(found["r"]) else "no R: a series is constant"
    if k < MIN_CLUSTERS:
        return found | {"status": f"no interval: fewer than {MIN_CLUSTERS} clusters"}
    draws = cluster_weights(k, np.random.default_rng(seed)) @ sums
    for name, drawn in zip(_SCORES, _from_sums(draws), strict=True):
        there = SCALES[scale_of(name)][0]
        with np.errstate(divide="ignore"):
            middle, moved = there(found[name]), there(drawn)
        if np.isinf(middle):
            status = f"no interval of {name}: it is at its limit"
        elif np.isfinite(middle):
            error = np.sqrt(k / (k - 1)) * moved[np.isfinite(moved)].std()
            found[f"{name}_lower"], found[f"{name}_upper"] = student_interval(
                found[name], error, freedom=k - 1, scale=scale_of(name), confidence=confidence
            )
    return found | {"status": status}


_SCORES = ("rmse_m3_m3", "r")
_COLUMNS = tuple(f"{name}{end}" for name in _SCORES for end in ("", "_lower", "_upper"))


def _from_sums(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """RMSE and R of sums (..., 7): of squared errors, then what R is made of."""
    square, n, *of_r = np.moveaxis(sums, -1, 0)
    return np.sqrt(square / n), correlation_of_sums((n, *of_r))


# Places by their static traits in two dimensions, with the failures marked among them.

WORST_SHARE = 0.25


@dataclass(frozen=True)
class TraitSpace:
    """Three tables ready for plotting.

    ``places``: one row a station: ``station_id``, ``pc1, pc2, ...`` (NaN where a trait is unknown),
    ``<column>_z`` (standardised), ``value``, ``baseline_value``, ``failed`` (None without a
    score) and ``status``. ``loadings``: one row a column: ``column, trait, pc1, ...``, its ``mean``
    and ``std``, ``failed_z`` (mean over failed stations, in standard deviations) with
    ``failed_z_lower, failed_z_upper``, ``n_failed`` and ``status``. ``explained``: ``component,
    variance, share, cumulative``.
    """

    places: pd.DataFrame
    loadings: pd.DataFrame
    explained: pd.DataFrame


def trait_space(
    station_scores: pd.DataFrame,
    stations: pd.DataFrame,
    *,
    traits: Iterable[str],
    metric: str = "ubrmse_m3_m3",
    baseline: pd.DataFrame | None = None,
    seed: int = 0,
) -> TraitSpace:
    """Principal components of static traits over all stations, failures marked, after [1]_.

    Numbers are standardised; a text trait enters as one column a class, (1 - p) / sqrt(p) inside
    and -sqrt(p) outside a class of share p, so that classes and numbers weigh alike [2]_. A station
    failed where its score is worse than the baseline's (the paper's: than SMAP's), or without a
    baseline where it is in the worst quarter. Stations lacking a trait are left out by status, and
    constant traits too.

    Parameters
    ----------
    station_scores : from ``station_scores``, one model and split
    stations : stations table with the columns ``traits``; all of it makes the space
    traits : columns, numbers or text
    metric : a score's name
    baseline : ``station_scores`` of the model to beat
    seed : int, of the intervals over 2-degree blocks

    Raises
    ------
    ContractError
        For several models, missing columns, or fewer than three stations with every trait.

    References
    ----------
    .. [1] Poehls et al. (2024), SSRN 4743411, section 4.5, Fig. 13 and Table 5
    .. [2] Pages (2014), Multiple Factor Analysis by Example Using R, chapter 3
    """
    traits = list(traits)
    require_columns(stations, traits)
    known = stations.drop_duplicates("station_id").reset_index(drop=True)
    columns, complete = _columns(known, traits)
    z, mean, std = _standardised(columns, complete)
    variance, axes = _components(z[complete])
    places = pd.DataFrame({"station_id": known["station_id"].astype("str")})
    for k in range(min(2, len(variance))):
        places[f"pc{k + 1}"] = z @ axes[k]
    places[[f"{name}_z" for _, name in columns.columns]] = z
    places = places.assign(**_failed(places["station_id"], station_scores, metric, baseline))
    places["status"] = np.select(
        [~complete, places["value"].isna().to_numpy(), places["failed"].isna().to_numpy()],
        ["unknown trait", "no score", "no baseline score"],
        default=OK,
    )
    loadings = pd.DataFrame(
        {"column": [name for _, name in columns.columns], "trait": [t for t, _ in columns.columns]}
    )
    for k in range(min(2, len(variance))):
        loadings[f"pc{k + 1}"] = axes[k]
    loadings = loadings.assign(mean=mean, std=std, **_contrast(places, z, stations, seed))
    loadings.loc[std == 0, "status"] = "constant: no part in it"
    return TraitSpace(places, loadings, _explained(variance))


def _columns(known, traits):
    """Numeric columns (trait, name), text as classes, and which stations have every trait."""
    parts, complete = {}, np.ones(len(known), bool)
    for trait in traits:
        if pd.api.types.is_numeric_dtype(known[trait]):
            parts[(trait, trait)] = known[trait].astype(float)
            complete &= np.isfinite(known[trait].astype(float)).to_numpy()
        else:
            text = known[trait].astype(object).where(known[trait].notna(), "").astype(str)
            complete &= (text.str.strip() != "").to_numpy()
            for name in sorted(set(text[complete])):
                parts[(trait, f"{trait}={name}")] = (text == name).astype(float)
    if complete.sum() < 3:
        n = int(complete.sum())
        raise ContractError(f"Components need three stations with every trait, found {n}.")
    table = pd.DataFrame(parts)
    table.columns = pd.MultiIndex.from_tuples(parts)
    return table, complete


def _standardised(columns, complete):
    """z (station, column), NaN where incomplete; means and standard deviations over the rest."""
    values = columns.to_numpy(float)
    kept = values[complete]
    mean, std = kept.mean(axis=0), kept.std(axis=0)
    is_class = np.array([trait != name for trait, name in columns.columns])
    scale = np.where(is_class, np.sqrt(np.abs(mean)), std)
    constant = np.ptp(kept, axis=0) == 0
    std = np.where(constant, 0.0, std)
    z = (values - mean) / np.where(constant | (scale == 0), 1, scale)
    z[:, constant] = 0
    z[~complete] = np.nan
    return z, mean, std


def _components(z):
    """Variances (component,) and axes (component, column), each with its largest part positive."""
    _, singular, axes = np.linalg.svd(z - z.mean(axis=0), full_matrices=False)
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1)
    return singular**2 / len(z), axes * np.sign(largest)


def _explained(variance):
    share = variance / variance.sum() if variance.sum() > 0 else np.zeros(len(variance))
    return pd.DataFrame(
        {"component": np.arange(1, len(variance) + 1), "variance": variance, "share": share,
         "cumulative": np.cumsum(share)}
    )  # fmt: skip


def _failed(station_ids, scores, metric, baseline):
    value = station_ids.map(_one(scores, metric))
    sign = 1 if metric in ERRORS else -1
    if baseline is None:
        rank = (-sign * value).rank(method="first")
        failed = rank <= np.ceil(WORST_SHARE * value.notna().sum())
        return {"value": value, "baseline_value": np.nan,
                "failed": failed.where(value.notna(), None).astype("boolean")}  # fmt: skip
    other = station_ids.map(_one(baseline, metric))
    both = value.notna() & other.notna()
    failed = (sign * value > sign * other).where(both, None).astype("boolean")
    return {"value": value, "baseline_value": other, "failed": failed}


def _one(scores, metric):
    sites = site_means(scores, metric=metric)
    kinds = sites[["model", "split"]].drop_duplicates()
    if len(kinds) != 1:
        found = "; ".join(f"{m}, {s}" for m, s in kinds.to_numpy()) or "none with a score"
        raise ContractError(f"One model in one split is wanted, found {found}. Select its rows.")
    return sites.set_index("station_id")["value"]


def _contrast(places, z, stations, seed):
    """Mean of each standardised column over the failed stations, with limits over blocks."""
    failed = places["failed"].fillna(False).to_numpy(bool) & np.isfinite(z).all(axis=1)
    lower = upper = mean = np.full(z.shape[1], np.nan)
    status = "no failed station in this space"
    if failed.any():
        mean = z[failed].mean(axis=0)
        cluster = clusters(places[failed], stations)
        k = len(set(cluster))
        status = f"no interval: {k} blocks < {intervals.MIN_CLUSTERS}"
        if k >= intervals.MIN_CLUSTERS:
            rng = np.random.default_rng(seed)
            ones = np.ones((failed.sum(), 1))
            draws = ratio_draws(z[failed], ones, cluster=cluster, rng=rng)
            lower, upper = limits(draws, n_clusters=k)
            status = OK
    return {
        "failed_z": mean, "failed_z_lower": lower, "failed_z_upper": upper,
        "n_failed": int(failed.sum()), "status": status,
    }  # fmt: skip

"""How far inputs lie from training data, what skill is there, and places by their traits."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist

from soilkit.errors import ContractError
from soilkit.metrics.intervals import (
    MIN_CLUSTERS,
    SCALES,
    cluster_sums,
    cluster_weights,
    clusters,
    few_clusters,
    limits,
    ratio_draws,
    scale_of,
    student_interval,
)
from soilkit.metrics.points import correlation_of_sums, require_columns
from soilkit.metrics.scores import OK
from soilkit.metrics.spatial.station_fields import site_means

EXACT_ROWS = 5_000  # above, the mean distance is that of as many rows drawn at random
MOST_SEARCHES = 4_000  # above, the threshold is that of as many training rows drawn at random
ALL_CORES = -1
CHUNK_VALUES = 4_000_000  # of distances held at once: 32 MB
WHISKER = 1.5  # interquartile ranges above the upper quartile


@dataclass(frozen=True)
class Area:
    """The area of applicability of a model trained on one table.

    Attributes
    ----------
    predictors : columns that distances are made of
    constants : predictors that never varied in training, with their value; no distance knows them
    centre, scale : training means and standard deviations, (predictor,), units of the predictors
    mean_distance : mean distance between training rows in standardised units
    threshold : the largest dissimilarity index inside the area
    training_index : the index of training rows against rows of other groups, (row,); of 4,000
        rows drawn at random where there are more
    """

    predictors: tuple[str, ...]
    constants: Mapping[str, float]
    centre: np.ndarray
    scale: np.ndarray
    mean_distance: float
    threshold: float
    training_index: np.ndarray
    tree: cKDTree

    def measure(self, table: pd.DataFrame) -> pd.DataFrame:
        """How far each row's inputs lie from the training rows.

        The dissimilarity index is the distance to the nearest training row over the mean distance
        between training rows (Meyer and Pebesma, 2021, doi:10.1111/2041-210X.13650). On the table's
        index stand ``dissimilarity_index`` (dimensionless, NaN where a predictor is missing),
        ``is_inside`` and ``status`` ("inside", "outside", "missing: ...", "unseen value: ..." where
        a predictor differs that never varied in training).
        """
        raw, still = _values(table, self.predictors), _values(table, list(self.constants))
        index, complete = np.full(len(table), np.nan), np.isfinite(raw).all(axis=1)
        points = (raw[complete] - self.centre) / self.scale
        index[complete] = self.tree.query(points, workers=ALL_CORES)[0] / self.mean_distance
        status = np.where(index <= self.threshold, "inside", "outside").astype(object)
        missing = ~np.isfinite(np.column_stack([raw, still]))
        differs = still != np.array(list(self.constants.values()))  # (row, constant)
        _write(status, differs, words="unseen value", names=self.constants)
        _write(status, missing, words="missing", names=[*self.predictors, *self.constants])
        columns = {"dissimilarity_index": index, "is_inside": status == "inside", "status": status}
        return pd.DataFrame(columns, index=table.index)


def fit(
    training: pd.DataFrame,
    *,
    predictors: Sequence[str],
    groups: Sequence | None = None,
    seed: int = 0,
) -> Area:
    """The area of applicability of a model that was trained on these rows [1]_.

    Predictors are standardised by their training mean and standard deviation. The threshold is the
    upper whisker of the training rows' own indices, each against rows of other groups: the largest
    that is no more than 1.5 interquartile ranges above the upper quartile. Raises ``ContractError``
    when columns are absent or all constant, three rows lack, or there is one group.

    Parameters
    ----------
    training : one row a training sample; rows that lack a predictor are left out
    predictors : columns that the model eats
    groups : per row, the folds, blocks or stations that the cross-validation keeps apart; without
        them the area comes out too small for a model judged at unseen stations
    seed : draws the rows that the mean distance (5,000) and the threshold (4,000) are made of

    References
    ----------
    .. [1] Meyer and Pebesma (2021), doi:10.1111/2041-210X.13650
    """
    raw, codes = _complete(training, predictors, groups)
    varies = np.ptp(raw, axis=0) > 0
    if not varies.any():
        raise ContractError("No predictor varies in training: no distance exists.")
    moving = raw[:, varies]
    centre, scale = moving.mean(axis=0), moving.std(axis=0, ddof=1)
    points, rng = (moving - centre) / scale, np.random.default_rng(seed)
    mean_distance = float(pdist(points[_drawn(len(points), EXACT_ROWS, rng)]).mean())
    searched = _drawn(len(points), MOST_SEARCHES, rng)
    index = _nearest_elsewhere(points, groups=codes, rows=searched) / mean_distance
    low, high = np.quantile(index, [0.25, 0.75])
    threshold = float(index[index <= high + WHISKER * (high - low)].max())
    names = np.array(predictors, dtype=object)
    constants = dict(zip(names[~varies], raw[0, ~varies].tolist(), strict=True))
    return Area(
        tuple(names[varies]), constants, centre, scale, mean_distance, threshold, index,
        cKDTree(points),
    )  # fmt: skip


def _values(table: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    """Columns as floats, (row, predictor)."""
    absent = [name for name in names if name not in table]
    if absent:
        raise ContractError(
            f"No predictors {', '.join(map(str, absent))} in the table; it has "
            f"{', '.join(map(str, table.columns))}."
        )
    return table[list(names)].to_numpy(float)


def _write(status: np.ndarray, flags: np.ndarray, *, words: str, names: Iterable[str]) -> None:
    """Names of the flagged columns into the status of each flagged row."""
    flagged = flags.any(axis=1)
    listed = flags[flagged].astype(object) @ np.array([f", {n}" for n in names], dtype=object)
    status[flagged] = [f"{words}: {text[2:]}" for text in listed]


def _complete(training: pd.DataFrame, predictors, groups) -> tuple[np.ndarray, np.ndarray]:
    """Rows with every predictor, (row, predictor), and the number of each one's group, (row,)."""
    raw = _values(training, predictors)
    good = np.isfinite(raw).all(axis=1)
    if good.sum() < 3:
        raise ContractError(
            f"An area needs 3 training rows with all predictors and more; found {good.sum()} of "
            f"{len(raw)}. Leave out the predictor that is missing most."
        )
    groups = np.arange(len(raw)) if groups is None else groups
    if len(groups) != len(raw):
        raise ContractError(f"{len(groups)} groups for {len(raw)} training rows.")
    codes = pd.factorize(pd.Series(groups).array[good], use_na_sentinel=False)[0]
    if codes.max() == 0:
        raise ContractError("One group alone has no others to be far from; give two and more.")
    return raw[good], codes


def _drawn(n: int, most: int, rng: np.random.Generator) -> np.ndarray:
    """All row numbers, or ``most`` of them at random, in order."""
    return np.arange(n) if n <= most else np.sort(rng.choice(n, most, replace=False))


def _nearest_elsewhere(points: np.ndarray, *, groups: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Distance of each of ``rows`` to the nearest of another group; no tree is faster here."""
    squares = np.einsum("ij,ij->i", points, points)
    step, nearest = max(CHUNK_VALUES // len(points), 1), []
    for part in np.split(rows, range(step, len(rows), step)):
        # |p - q|^2 less |p|^2, which does not decide who is nearest to p: (part, row)
        far = (-2 * points[part]) @ points.T
        far += squares
        far[groups[part][:, None] == groups] = np.inf
        nearest.append(far.argmin(axis=1))
    return np.linalg.norm(points[rows] - points[np.concatenate(nearest)], axis=1)


# Skill as a function of the distance from training data.

MIN_PAIRS = 3
SIDES = ("inside", "outside", "unseen value", "missing")
N_OUTSIDE = 2  # bins
SKILLS = ("rmse_m3_m3", "r")


def skill_by_dissimilarity(
    predictions: pd.DataFrame,
    measured: pd.DataFrame,
    *,
    clusters: Sequence,
    n_bins: int = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """RMSE and R of predictions by their distance from training data, with 95 % intervals.

    Predictions inside the area are sorted into bins of equal numbers by their index, and so are
    those outside into two. R is over all pairs of a bin, so it mixes places and times. Intervals
    are Student's from the spread of log(RMSE) and arctanh(R) when whole clusters are drawn with
    replacement; in simulations those of 95 % held the true RMSE in 92 % with 40 clusters, in 89 %
    with 10. Below five there is none.

    ``measured`` is what ``Area.measure`` says of each prediction, on the same index, ``clusters``
    what errors go together in (2-degree blocks, networks or stations); else ``ContractError`` is
    raised.

    Returns
    -------
    DataFrame, a row a model, split, side and bin ("all", then "1", "2" ...): index_from, index_to,
    n, n_clusters, rmse_m3_m3 and r with _lower and _upper, status ("ok" or what is lacking)
    """
    if not measured.index.equals(predictions.index) or len(clusters) != len(predictions):
        raise ContractError(
            "Measured distances and clusters need one row a prediction, on the same index; found "
            f"{len(measured)} and {len(clusters)} for {len(predictions)} predictions."
        )
    side = measured["status"].astype("str").str.split(":").str[0]
    keys = {
        "model": predictions["model"].astype("str"), "split": predictions["split"].astype("str"),
        "side": pd.Categorical(side, SIDES),
    }  # fmt: skip
    table = predictions[["observed_m3_m3", "predicted_m3_m3"]].astype(float).assign(
        **keys, cluster=np.asarray(clusters).astype(str), index=measured["dissimilarity_index"]
    )  # fmt: skip
    rows = []
    for key, part in table.groupby(list(keys), observed=True):
        bins, n = [("all", part)], {"inside": n_bins, "outside": N_OUTSIDE}.get(key[2], 0)
        if n:
            edges = np.quantile(part["index"], np.linspace(0, 1, n + 1)[1:-1])
            bins += part.groupby(np.searchsorted(edges, part["index"]) + 1)
        for name, one in bins:
            ends = {"index_from": one["index"].min(), "index_to": one["index"].max()}
            words = dict(zip(keys, key, strict=True)) | {"bin": str(name)}
            rows.append(words | ends | _scores(one, seed=seed))
    return pd.DataFrame(rows)


def _scores(rows: pd.DataFrame, *, seed: int) -> dict[str, Any]:
    """RMSE and R with their intervals, and what is lacking."""
    x, y = rows["observed_m3_m3"].to_numpy(), rows["predicted_m3_m3"].to_numpy()
    good = np.isfinite(x) & np.isfinite(y)
    x, y, cluster = x[good], y[good], rows["cluster"].to_numpy()[good]
    k = pd.Series(cluster).nunique()
    ends = [f"{name}{end}" for name in SKILLS for end in ("", "_lower", "_upper")]
    skill: dict[str, Any] = {"n": len(x), "n_clusters": k} | dict.fromkeys(ends, np.nan)
    if len(x) < MIN_PAIRS:
        return skill | {"status": f"fewer than {MIN_PAIRS} pairs"}
    dx, dy = x - x.mean(), y - y.mean()
    columns = [(y - x) ** 2, np.ones(len(x)), dx, dy, dx * dx, dy * dy, dx * dy]
    sums = cluster_sums(np.column_stack(columns), cluster)  # (cluster, 7)
    skill |= dict(zip(SKILLS, map(float, _from_sums(sums.sum(axis=0))), strict=True))
    status = OK if np.isfinite(skill["r"]) else "no R: a series is constant"
    if k < MIN_CLUSTERS:
        return skill | {"status": f"no interval: fewer than {MIN_CLUSTERS} clusters"}
    draws = cluster_weights(k, np.random.default_rng(seed)) @ sums
    for name, drawn in zip(SKILLS, _from_sums(draws), strict=True):
        scale = scale_of(name)
        with np.errstate(divide="ignore"):
            middle, moved = SCALES[scale][0](skill[name]), SCALES[scale][0](drawn)
        if np.isinf(middle):
            status = f"no interval of {name}: it is at its limit"
        elif np.isfinite(middle):
            error = np.sqrt(k / (k - 1)) * moved[np.isfinite(moved)].std()
            skill[f"{name}_lower"], skill[f"{name}_upper"] = student_interval(
                skill[name], error, freedom=k - 1, scale=scale
            )
    return skill | {"status": status}


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
    baseline: pd.DataFrame | None = None,
    seed: int = 0,
) -> TraitSpace:
    """Principal components of static traits over all stations, failures marked, after [1]_.

    Numbers are standardised; a text trait enters as one column a class, (1 - p) / sqrt(p) inside
    and -sqrt(p) outside a class of share p, so that classes and numbers weigh alike [2]_. A station
    failed where its ubRMSE is above the baseline's (the paper's: SMAP's), or without a baseline
    where it is in the worst quarter. Stations lacking a trait are left out by status, and constant
    traits too. Raises ``ContractError`` for several models, missing columns, or fewer than three
    stations with every trait.

    Parameters
    ----------
    station_scores : from ``station_scores``, one model and split
    stations : stations table with the columns ``traits``; all of it makes the space
    traits : columns, numbers or text
    baseline : ``station_scores`` of the model to beat
    seed : int, of the intervals over 2-degree blocks

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
    _, singular, axes = np.linalg.svd(z[complete] - z[complete].mean(axis=0), full_matrices=False)
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1)
    axes, variance = axes * np.sign(largest), singular**2 / complete.sum()
    places = pd.DataFrame({"station_id": known["station_id"].astype("str")})
    loadings = columns.columns.to_frame(index=False)[["column", "trait"]]
    for k in range(min(2, len(variance))):
        places[f"pc{k + 1}"], loadings[f"pc{k + 1}"] = z @ axes[k], axes[k]
    places[[f"{name}_z" for name in loadings["column"]]] = z
    places = places.assign(**_failed(places["station_id"], station_scores, baseline))
    lacking = [~complete, places["value"].isna(), places["failed"].isna().astype(bool)]
    words = ["unknown trait", "no score", "no baseline score"]
    places["status"] = np.select(lacking, words, default=OK)
    loadings = loadings.assign(mean=mean, std=std, **_contrast(places, z, stations, seed))
    loadings.loc[std == 0, "status"] = "constant: no part in it"
    share = variance / variance.sum() if variance.sum() > 0 else np.zeros(len(variance))
    explained = {"variance": variance, "share": share, "cumulative": np.cumsum(share)}
    number = {"component": np.arange(1, len(variance) + 1)}
    return TraitSpace(places, loadings, pd.DataFrame(number | explained))


def _columns(known: pd.DataFrame, traits: list[str]) -> tuple[pd.DataFrame, np.ndarray]:
    """Numeric columns (trait, column), text as classes, and which stations have every trait."""
    parts, complete = {}, np.ones(len(known), bool)
    for trait in traits:
        if pd.api.types.is_numeric_dtype(known[trait]):
            parts[trait, trait] = known[trait].astype(float)
            complete &= np.isfinite(known[trait].astype(float)).to_numpy()
            continue
        text = known[trait].astype(object).where(known[trait].notna(), "").astype(str)
        complete &= (text.str.strip() != "").to_numpy()
        for name in sorted(set(text[complete])):
            parts[trait, f"{trait}={name}"] = (text == name).astype(float)
    if complete.sum() < 3:
        n = int(complete.sum())
        raise ContractError(f"Components need three stations with every trait, found {n}.")
    table = pd.DataFrame(parts)
    table.columns = pd.MultiIndex.from_tuples(parts, names=["trait", "column"])
    return table, complete


def _standardised(columns, complete):
    """z (station, column), NaN where incomplete; means and standard deviations over the rest."""
    values = columns.to_numpy(float)
    kept = values[complete]
    constant = np.ptp(kept, axis=0) == 0
    mean, std = kept.mean(axis=0), np.where(constant, 0.0, kept.std(axis=0))
    is_class = np.array([trait != name for trait, name in columns.columns])
    scale = np.where(is_class, np.sqrt(np.abs(mean)), std)
    z = (values - mean) / np.where(constant | (scale == 0), 1, scale)
    z[:, constant] = 0
    z[~complete] = np.nan
    return z, mean, std


def _failed(station_ids, scores, baseline) -> dict[str, Any]:
    """The ubRMSE of each station and of the baseline there, and whether it failed."""
    value = station_ids.map(_one(scores))
    if baseline is None:
        other = np.nan
        failed, known = value.rank(ascending=False, method="first"), value.notna()
        failed = failed <= np.ceil(WORST_SHARE * known.sum())
    else:
        other = station_ids.map(_one(baseline))
        failed, known = value > other, value.notna() & other.notna()
    failed = failed.where(known, None).astype("boolean")
    return {"value": value, "baseline_value": other, "failed": failed}


def _one(scores):
    sites = site_means(scores, metric="ubrmse_m3_m3")
    kinds = sites[["model", "split"]].drop_duplicates()
    if len(kinds) != 1:
        kinds = "; ".join(f"{m}, {s}" for m, s in kinds.to_numpy()) or "none with a score"
        raise ContractError(f"One model in one split is wanted, found {kinds}. Select its rows.")
    return sites.set_index("station_id")["value"]


def _contrast(places, z, stations, seed) -> dict[str, Any]:
    """Mean of each standardised column over the failed stations, with limits over blocks."""
    failed = places["failed"].fillna(False).to_numpy(bool) & np.isfinite(z).all(axis=1)
    lower = upper = mean = np.full(z.shape[1], np.nan)
    status = "no failed station in this space"
    if failed.any():
        mean, cluster = z[failed].mean(axis=0), clusters(places[failed], stations)
        k = len(set(cluster))
        status = few_clusters(k, "block")
        if status == OK:
            rng = np.random.default_rng(seed)
            draws = ratio_draws(z[failed], np.ones((len(cluster), 1)), cluster=cluster, rng=rng)
            lower, upper = limits(draws, n_clusters=k)
    return {
        "failed_z": mean, "failed_z_lower": lower, "failed_z_upper": upper,
        "n_failed": int(failed.sum()), "status": status,
    }  # fmt: skip

"""Models on the same samples: paired differences, many at once, and who wins where."""

import itertools
from collections.abc import Iterable

import numpy as np
import pandas as pd

from soilkit import strata
from soilkit.constants import CONFIDENCE, MIN_CLUSTERS, MIN_SAMPLES, OK
from soilkit.errors import ContractError
from soilkit.metrics import intervals
from soilkit.metrics.points import METRICS, class_names, of_stations, point_scores, require_columns

SAME_OBSERVATION_M3_M3 = 1e-6
# A difference of biases is one of their sizes, and is called so.
DIFFERENCES = {name: name.replace("bias", "abs_bias") for name in METRICS}


def paired_difference(
    predictions_a: pd.DataFrame,
    predictions_b: pd.DataFrame,
    *,
    stations: pd.DataFrame,
    metric: str = "r",
    min_samples: int = MIN_SAMPLES,
    seed: int = 0,
) -> pd.Series:
    """The mean difference a - b of a sensor's score on identical samples, with 95 % intervals.

    Only samples that both predict are scored. ``lower`` and ``upper`` come from a bootstrap over
    2-degree blocks; ``block_difference`` is the mean of the blocks' mean differences with Student's
    interval, for networks so dense that they would decide the mean. For the bias the difference is
    of absolute values, and ``metric`` then reads "abs_bias_m3_m3"; below zero, a is better, as for
    both errors, and above zero for R. Raises ``ContractError`` for an unknown metric, several
    models in one table, repeated samples, or samples whose observations differ.

    Parameters
    ----------
    predictions_a, predictions_b : predictions tables of one model each
    metric : one of "r", "ubrmse_m3_m3", "rmse_m3_m3", "bias_m3_m3"
    min_samples : int, common samples that a sensor needs

    Returns
    -------
    Series: ``metric, model_a, model_b, mean_a, mean_b, difference, lower, upper, share_a_higher,
    block_difference, block_lower, block_upper, n_samples, n_sensors, n_stations, n_blocks, status``
    """
    check_metrics([metric])
    names = [model_of(table) for table in (predictions_a, predictions_b)]
    a, b = common_samples([predictions_a, predictions_b])
    pair = _pair(point_scores(a), point_scores(b), metric, min_samples=min_samples)
    difference = (pair["a"] - pair["b"]).to_numpy(float)
    cluster = intervals.clusters(pair, stations, kind="block")
    of_blocks = intervals.mean_of_means(difference, cluster)
    (lower, upper), _ = intervals.mean_and_median(difference, cluster, seed=seed)
    few = of_blocks["n_blocks"] < MIN_CLUSTERS
    line = {
        "metric": DIFFERENCES[metric], "model_a": names[0], "model_b": names[1],
        "mean_a": pair["a"].mean(), "mean_b": pair["b"].mean(),
        "difference": difference.mean() if len(pair) else np.nan,
        "lower": lower, "upper": upper,
        "share_a_higher": float((difference > 0).mean()) if len(pair) else np.nan,
        "block_difference": of_blocks["value"],
        "block_lower": of_blocks["lower"], "block_upper": of_blocks["upper"],
        **_counts(pair), "n_blocks": of_blocks["n_blocks"],
        "status": f"no interval: fewer than {MIN_CLUSTERS} blocks" if few else OK,
    }  # fmt: skip
    return pd.Series(line, name=metric)


def _pair(scores_a, scores_b, metric, *, min_samples=MIN_SAMPLES):
    """The sensors that have this score in both, as columns a and b; of the bias, its size."""
    pair = scores_a.assign(a=scores_a[metric], b=scores_b[metric])
    if metric == "bias_m3_m3":
        pair = pair.assign(a=pair["a"].abs(), b=pair["b"].abs())
    return pair[(pair["n"] >= min_samples) & pair["a"].notna() & pair["b"].notna()]


def _counts(pair):
    return {
        "n_samples": int(pair["n"].sum()),
        "n_sensors": len(pair),
        "n_stations": pair["station_id"].nunique(),
    }


def model_of(predictions: pd.DataFrame) -> str:
    """The one model of a predictions table; ``ContractError`` where there are more or none."""
    names = predictions["model"].astype("str").unique()
    if len(names) != 1:
        raise ContractError(
            f"A paired difference compares one model with one other, found {', '.join(names)} in "
            "one table. Select a model's rows first."
        )
    return str(names[0])


def common_samples(tables: Iterable[pd.DataFrame]) -> list[pd.DataFrame]:
    """Of each table, one model's, the rows that all predict with finite pairs, in one order.

    Every table has the first one's observations and keys, ``model`` and ``split`` left empty, so
    that a sensor's scores stand on the same line. Raises ``ContractError`` when a sample stands
    twice in a table, or has another observation in another.
    """
    keyed = [_finite(table) for table in tables]
    shared = keyed[0].index
    for table in keyed[1:]:
        shared = shared.intersection(table.index)
    first = keyed[0].loc[shared].assign(model="", split="")
    for other in keyed[1:]:
        apart = (first["observed_m3_m3"] - other.loc[shared, "observed_m3_m3"]).abs()
        if n_apart := int((apart > SAME_OBSERVATION_M3_M3).sum()):
            raise ContractError(
                f"{n_apart} samples have another observation in the other table (up to "
                f"{apart.max():.3g} m3 m-3 apart): the sample_ids do not mean the same."
            )
    return [first.assign(predicted_m3_m3=table.loc[shared, "predicted_m3_m3"]) for table in keyed]


def _finite(table):
    keyed = table.set_index(table["sample_id"].astype("str"))
    if keyed.index.has_duplicates:
        raise ContractError("A sample stands twice in one model's predictions: select a split.")
    finite = np.isfinite(keyed["observed_m3_m3"]) & np.isfinite(keyed["predicted_m3_m3"])
    return keyed[finite.to_numpy()]


def check_metrics(names: Iterable[str]) -> None:
    """Raise ``ContractError`` for a name that is none of the four metrics."""
    for metric in names:
        if metric not in METRICS:
            raise ContractError(f"No metric {metric!r}; there are {', '.join(METRICS)}.")


# Many comparisons at once: p-values that keep their promise for the whole family.


def adjust(p_values):
    """Holm's adjusted p-values of a family, at most 1; NaN is no test and does not count.

    They keep the family-wise error rate under any dependence: Holm (1979), Scandinavian Journal of
    Statistics 6, 65-70.
    """
    p = np.array(p_values, float)
    order = np.argsort(p, kind="stable")[: np.isfinite(p).sum()]  # NaN stands last
    p[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1)
    return p


# One model against several others on the same samples, sensor by sensor and over blocks.

N_DRAWS = 9999  # the smallest p-value is one in ten thousand
COMPARISON = [
    "metric", "model_a", "model_b", "mean_a", "mean_b", "difference", "lower", "upper", "p_value",
    "p_adjusted", "better", "n_samples", "n_sensors", "n_stations", "n_blocks", "status",
]  # fmt: skip


def compare(
    a: pd.DataFrame,
    others: pd.DataFrame | Iterable[pd.DataFrame],
    *,
    stations: pd.DataFrame,
    metrics: Iterable[str] = METRICS,
    seed: int = 0,
) -> pd.DataFrame:
    """One model against several others, on the samples that all of them predict.

    A line's difference a - b is the mean over sensors (for the bias of absolute values, and
    ``metric`` reads "abs_bias_m3_m3"; above zero a is better for R, below zero for the errors).
    Whole 2-degree blocks are drawn anew, and each draw's deviation from the difference is divided
    by its own error, robust to blocks [1]_: t* = (d* - d) / s*. The p-value is the share of |t*|
    that reach |d / s|, one added above and below; the 95 % interval is d -+ s times the 95 %
    quantile of |t*|, so that the two agree. Such an interval is wider than ``paired_difference``'s
    percentiles where blocks are few, and keeps its rate there. Adjusted p-values have all lines for
    their family; intervals hold line by line. Raises ``ContractError`` for an unknown metric, a
    model without rows or named twice, repeated samples, or samples whose observations differ.

    Parameters
    ----------
    a : predictions table of one model
    others : predictions tables, or one table, of the other models
    metrics : of "r", "ubrmse_m3_m3", "rmse_m3_m3", "bias_m3_m3"

    Returns
    -------
    DataFrame, one row a metric and other model: ``metric, model_a, model_b, mean_a, mean_b,
    difference, lower, upper, p_value, p_adjusted, better`` (a model's name where the adjusted
    p-value is below 0.05, else empty), ``n_samples, n_sensors, n_stations, n_blocks, status``.
    Sensors need thirteen common samples and the score in both models

    References
    ----------
    .. [1] Hall and Wilson (1991), doi:10.2307/2532163; Cameron, Gelbach and Miller (2008),
       doi:10.1162/rest.90.3.414
    """
    metrics = tuple(metrics)
    check_metrics(metrics)
    tables = {model_of(a): a}
    for table in [others] if isinstance(others, pd.DataFrame) else others:
        for name, part in table.groupby(table["model"].astype("str"), sort=False):
            if name in tables:
                raise ContractError(f"Model {name!r} is given twice: rename one, or leave it out.")
            tables[str(name)] = part
    if len(tables) < 2:
        raise ContractError("A comparison needs at least one other model, found none.")
    first, *names = tables
    common = common_samples(tables.values())
    scores = dict(zip(tables, map(point_scores, common), strict=True))
    few = f"no sensor has this score in both with {MIN_SAMPLES} common samples"
    few += f"; they share {len(common[0]):,} of {min(map(len, tables.values())):,}"
    rows = [
        {"metric": DIFFERENCES[metric], "model_a": first, "model_b": other}
        | _line(_pair(scores[first], scores[other], metric), stations, seed, few=few)
        for metric in metrics
        for other in names
    ]
    return with_better(pd.DataFrame(rows))


def with_better(lines: pd.DataFrame) -> pd.DataFrame:
    """Lines of one family of comparisons, with adjusted p-values and the better model's name."""
    is_first = lines["difference"].gt(0) == (lines["metric"] == "r")
    name = lines["model_a"].where(is_first, lines["model_b"])
    p_adjusted = adjust(lines["p_value"])
    better = name.where(p_adjusted < 1 - CONFIDENCE, "")
    return lines.assign(p_adjusted=p_adjusted, better=better)[COMPARISON]


def _line(pair, stations, seed, *, few):
    difference = (pair["a"] - pair["b"]).to_numpy(float)
    cluster = intervals.clusters(pair, stations, kind="block")
    n_blocks = len(set(cluster))
    test, status = dict.fromkeys(("lower", "upper", "p_value"), np.nan), OK
    if not len(pair):
        status = few
    elif n_blocks < MIN_CLUSTERS:
        status = f"no test: {n_blocks} blocks < {MIN_CLUSTERS}"
    else:
        test, status = studentized(difference, cluster, rng=np.random.default_rng(seed))
    return {
        "mean_a": pair["a"].mean(), "mean_b": pair["b"].mean(),
        "difference": difference.mean() if len(pair) else np.nan,
        **test, **_counts(pair), "n_blocks": n_blocks, "status": status,
    }  # fmt: skip


def studentized(values, cluster, *, rng, n_draws=N_DRAWS):
    """Interval and p-value against a mean of zero by the studentised bootstrap over whole clusters.

    ``values`` and ``cluster``, at least five names, are (sensor,); returns a dict of ``lower``,
    ``upper`` and ``p_value``, and the status.
    """
    mean, (error, k) = values.mean(), intervals.cluster_error(values, cluster)
    if error <= 1e-12 * np.abs(values).max():
        if mean == 0:
            return {"lower": 0.0, "upper": 0.0, "p_value": 1.0}, "the scores are identical"
        none = dict.fromkeys(("lower", "upper", "p_value"), np.nan)
        return none, "no test: the difference is the same in every block"
    columns = np.stack([values - mean, np.ones(len(values))], axis=1)
    excess, sizes = intervals.cluster_sums(columns, cluster).T  # (cluster,)
    moments = np.stack([excess, sizes, excess**2, excess * sizes, sizes**2], axis=1)
    draws = intervals.cluster_weights(k, rng, n_draws=n_draws) @ moments
    total, n, squares, cross, sizes_squared = draws.T  # (draw,)
    shift = total / n
    squares = squares - 2 * shift * cross + shift**2 * sizes_squared
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(total) / np.sqrt(k / (k - 1) * np.maximum(squares, 0))
    t = np.where(np.isnan(t), np.inf, t)  # one cluster drawn throughout has no error of its own
    reach = np.quantile(t, CONFIDENCE, method="higher") * error
    p_value = (1 + (t >= np.abs(mean) / error).sum()) / (1 + n_draws)
    return {"lower": mean - reach, "upper": mean + reach, "p_value": p_value}, OK


# Who wins where: stations won by each model, and wins that every class of land counts alike.

CLASSES = ("texture", "land_cover", "koeppen")  # Poehls et al.'s three categorical characteristics


def site_scores(
    predictions: pd.DataFrame | Iterable[pd.DataFrame], *, metrics: Iterable[str] = METRICS
) -> pd.DataFrame:
    """Every model's score at every station, on the samples that all models predict.

    A station's score is the mean over its sensors; of the bias, the mean of absolute values. A
    sensor counts where every model has the score on thirteen common samples, so that all are judged
    on the same series; a model that has it nowhere, such as R of a constant, takes no part. Raises
    ``ContractError`` for one model only, an unknown metric, repeated samples or unequal
    observations.

    Parameters
    ----------
    predictions : one table of several models, or several tables; each model in one split
    metrics : of "r", "ubrmse_m3_m3", "rmse_m3_m3", "bias_m3_m3"

    Returns
    -------
    DataFrame, one row a metric and station, ``metric, station_id, n_sensors`` and one column a
    model (NaN where it takes no part); stations where one of the others has no score are absent,
    and the table's ``attrs`` say how many: ``{"n_stations": ..., "unscored": {metric: count}}``
    """
    metrics = tuple(metrics)
    check_metrics(metrics)
    given = [predictions] if isinstance(predictions, pd.DataFrame) else list(predictions)
    table = pd.concat(given, ignore_index=True)
    parts = {str(m): part for m, part in table.groupby(table["model"].astype("str"), sort=False)}
    if len(parts) < 2:
        raise ContractError(f"Wins need at least two models, found {', '.join(parts) or 'none'}.")
    scores = [point_scores(part) for part in common_samples(parts.values())]
    tables = [_sites(scores, list(parts), metric) for metric in metrics]
    n_stations = table["station_id"].nunique()
    sites = pd.concat(tables, ignore_index=True)
    unscored = {m: n_stations - len(part) for m, part in zip(metrics, tables, strict=True)}
    sites.attrs = {"n_stations": n_stations, "unscored": unscored}
    return sites


def _sites(scores, names, metric):
    values = pd.DataFrame({name: s[metric] for name, s in zip(names, scores, strict=True)})
    values = values.abs() if metric == "bias_m3_m3" else values
    enough = scores[0]["n"] >= MIN_SAMPLES
    scored = values.loc[:, values[enough].notna().any()]
    values = scored if scored.shape[1] > 1 else values
    keep = values.notna().all(axis=1) & enough
    by_site = values[keep].groupby(scores[0].loc[keep, "station_id"].to_numpy(str))
    table = by_site.mean().reindex(columns=names).rename_axis("station_id").reset_index()
    table.insert(1, "n_sensors", by_site.size().to_numpy())
    table.insert(0, "metric", metric)
    return table


def win_counts(sites: pd.DataFrame) -> pd.DataFrame:
    """Each pair of models head to head: on how many stations each is the better one [1]_.

    Of ``site_scores`` one row a metric and pair: ``metric, model_a, model_b, wins_a, wins_b, ties,
    n_stations``.

    References
    ----------
    .. [1] Poehls et al. (2024), SSRN 4743411, section 4.3 and Fig. 12a
    """
    rows = []
    for metric, part in sites.groupby("metric", sort=False):
        better = _better_values(part, metric)
        for a, b in itertools.combinations(better, 2):
            wins_a, wins_b = int((better[a] > better[b]).sum()), int((better[a] < better[b]).sum())
            rows.append((metric, a, b, wins_a, wins_b, len(part) - wins_a - wins_b, len(part)))
    columns = ["metric", "model_a", "model_b", "wins_a", "wins_b", "ties", "n_stations"]
    return pd.DataFrame(rows, columns=columns)


def class_points(
    sites: pd.DataFrame, stations: pd.DataFrame, *, by: Iterable[str] = CLASSES
) -> pd.DataFrame:
    """Points of each model in each class of land, normalised so that every class weighs the same.

    As in the paper's Fig. 15 [1]_: (a) on each station of a class, the model that outperforms every
    other gets one point; (b) a class's points are divided by the highest of them, so that its top
    performer has one. What the paper leaves open is read so: a class is one value of one
    characteristic ("Loam" of texture), since section 5 normalises "for each texture/land
    cover/Koeppen class"; a tie for the first place is shared out in equal parts; the bias counts by
    its size; a station of unknown class counts in none; climate classes are as the stations table
    spells them (three letters in the paper's Table 1; cut them beforehand for two). With two models
    it is the head-to-head contest of Fig. 17. Raises ``ContractError`` when the stations lack a
    characteristic.

    Parameters
    ----------
    sites : from ``site_scores``
    stations : stations table with the columns ``by``
    by : columns, the characteristics

    Returns
    -------
    DataFrame, one row a metric, characteristic, class and model: ``metric, characteristic, class,
    model, points, normalized, n_stations, is_small`` (fewer than five stations)

    References
    ----------
    .. [1] Poehls et al. (2024), SSRN 4743411, sections 4.3 and 5, Figs. 12b, 15 and 17
    """
    by = tuple(by)
    require_columns(stations, by)
    rows = []
    for metric, part in sites.groupby("metric", sort=False):
        # A point for the first place; a tie shares it.
        better = _better_values(part, metric)
        top = better.eq(better.max(axis=1), axis=0)
        top = top.div(top.sum(axis=1), axis=0)
        for characteristic in by:
            classes = class_names(of_stations(part, stations, column=characteristic))
            for name, points in top.groupby(classes):
                total = points.sum()
                rows += [
                    (metric, characteristic, name, model, p, p / total.max(), len(points))
                    for model, p in total.items() if name
                ]  # fmt: skip
    columns = ["metric", "characteristic", "class", "model", "points", "normalized", "n_stations"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(is_small=table["n_stations"] < strata.MIN_STATIONS)


def _better_values(sites, metric):
    """Values (station, model) of the models that have one, signed so that more is better."""
    models = [c for c in sites.columns if c not in ("metric", "station_id", "n_sensors")]
    return sites[models].dropna(axis=1, how="all") * (1 if metric == "r" else -1)


def normalized_wins(points: pd.DataFrame, *, include_small: bool = True) -> pd.DataFrame:
    """Normalised points of ``class_points`` over all classes: the paper's fair contest, Fig. 15c.

    One row a metric and model: ``metric, model, total, share`` (of the classes, which is the most
    that a model can have), ``n_classes``. The paper counts a class of one station like one of
    fifty; ``include_small`` False leaves small ones out.
    """
    counted = points if include_small else points[~points["is_small"]]
    by_model = counted.groupby(["metric", "model"], sort=False)["normalized"]
    table = by_model.agg(total="sum", n_classes="size").reset_index()
    table["share"] = table["total"] / table["n_classes"]
    return table[["metric", "model", "total", "share", "n_classes"]]

"""Scores of every sensor with intervals, their summary by stratum, and the long table."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy import stats

from soilkit import contracts, strata
from soilkit.errors import ContractError
from soilkit.metrics import intervals
from soilkit.metrics import points as extra
from soilkit.metrics.intervals import Steps, correlation_size, effective_size, error_sizes, lines
from soilkit.metrics.points import (
    METRICS,
    ROWS_AT_ONCE_POINTS,
    Groups,
    check_predictions,
    extra_names,
    extra_points,
    metrics_of,
    pieces,
    points,
    state_of,
)

MIN_SAMPLES = 13  # seed 001, 4a
MIN_EFFECTIVE = 5.0
OK = "ok"
R_INTERVALS = ("product", "gruber")
COLUMNS = [f"{metric}{end}" for metric in METRICS for end in ("", "_lower", "_upper")]


def station_scores(
    predictions: pd.DataFrame,
    *,
    min_samples: int = MIN_SAMPLES,
    confidence: float = 0.95,
    metrics: Iterable[str] = (),
    r_interval: str = "product",
) -> pd.DataFrame:
    """R, ubRMSE, RMSE and bias of every sensor, with intervals that know about autocorrelation.

    With d = predicted - observed, and lag-1 correlations rho fitted in time as exp(-dt / tau),
    n_effective is n (1 - rho_x rho_y) / (1 + rho_x rho_y) [1]_ and R's interval is Fisher's, with
    that product form taken apart by signal and error (``sizes.correlation_size``); the bias's is
    Student's with n (1 - rho_d) / (1 + rho_d), and those of ubRMSE and RMSE are chi-square's with
    n (1 - rho_d^2) / (1 + rho_d^2), where rho_d is half a standard error above what was fitted;
    with fewer errors where these are seen to have a slow part (``sizes.error_sizes``).

    Coverage measured on synthetic series stands in ``reports/coverage/coverage.csv``. Two limits
    show there: below some ten effective errors, and where half the noise is a drift that neither
    series shows, intervals of 95 % hold about nine in ten, of fewer than 320 rows as few as seven.

    Parameters
    ----------
    predictions : table of that contract; rows without a finite pair are left out
    min_samples : int, fewer pairs give no score
    confidence : float, of each interval alone
    metrics : further scores: "spearman", with the interval of Bonett and Wright at R's effective
        size; "kge" (Kling-Gupta of 2012) and "kge_2009", which have no analytic interval
    r_interval : "product", or "gruber": Fisher's with n (1 - rho) / (1 + rho) pairs, where rho is
        the geometric mean of rho_x and rho_y, and n_effective is that number [2]_; wider

    Returns
    -------
    DataFrame, one row a model, split and sensor: ``model, split, sensor_id, station_id, network``,
    then ``r`` and ``ubrmse_m3_m3, rmse_m3_m3, bias_m3_m3``, each with ``_lower`` and ``_upper``,
    then ``n``, ``n_effective`` (R's; the bias's where R does not exist) and ``status``: "ok", or
    why a score or an interval is missing. A score stands wherever it is no NaN. Further scores
    stand before ``n``; a column ``state`` of the predictions is kept, each state scored apart.

    Raises
    ------
    ContractError
        When the table breaks its contract, or an argument its range.

    References
    ----------
    .. [1] Bartlett (1935), doi:10.2307/2342284
    .. [2] Gruber et al. (2020), doi:10.1016/j.rse.2020.111806
    """
    check_predictions(predictions)
    if min_samples < 2 or not 0 < confidence < 1:
        raise ContractError(
            "Scores need min_samples >= 2 and a confidence between 0 and 1, "
            f"found {min_samples} and {confidence}."
        )
    if r_interval not in R_INTERVALS:
        raise ContractError(f"r_interval is one of {', '.join(R_INTERVALS)}, found {r_interval!r}.")
    names = extra_names(metrics, predictions)
    keys, parts = pieces(predictions, most_rows=ROWS_AT_ONCE_POINTS)
    values = {name: np.full(len(keys), np.nan) for name in [*COLUMNS, *_columns(names)]}
    values |= {"n": np.zeros(len(keys), np.int64), "n_effective": np.full(len(keys), np.nan)}
    values["status"] = np.full(len(keys), "", object)
    for groups in parts:
        values["n"][groups.which] = groups.counts
        scored = groups.take(groups.counts >= min_samples)
        if len(scored.counts):
            found = _scores(scored, confidence, names=names, r_interval=r_interval)
            for name, column in found.items():
                values[name][scored.which] = column
    few = [f"too few samples: {k} < {min_samples}" for k in values["n"]]
    values["status"] = np.where(values["n"] < min_samples, few, values["status"])
    table = keys.assign(**values)
    order = ["model", "split", "sensor_id", *state_of(predictions)]
    return table.sort_values(order, ignore_index=True)


def _columns(names):
    ends = {"spearman": ("", "_lower", "_upper")}
    return [f"{name}{end}" for name in names for end in ends.get(name, ("",))]


def _scores(
    groups: Groups, confidence: float, *, names: Iterable[str] = (), r_interval: str = "product"
) -> dict[str, np.ndarray]:
    found = points(groups)
    r, ubrmse, rmse, bias = (found[metric] for metric in METRICS)
    steps = Steps.of(groups)
    both = lines(groups, steps=steps)
    n_r, limits_of_r = _pairs(groups, steps, r, (both, confidence, r_interval))
    n_mean, *of_errors = error_sizes(groups, steps=steps, both=both)
    n_effective = np.where(np.isnan(n_r), n_mean, n_r)
    sizes = {"n_mean": of_errors[0], "n_square": of_errors[1], "confidence": confidence}
    limits = {
        "r": limits_of_r,
        "ubrmse_m3_m3": intervals.of_ubrmse(ubrmse, **sizes),
        "rmse_m3_m3": intervals.of_rmse(rmse, bias, **sizes),
        "bias_m3_m3": intervals.of_bias(
            bias, ubrmse, n_effective=of_errors[0], confidence=confidence
        ),
    }
    found |= extra_points(groups, r, names=names)
    if "spearman" in found:
        limits["spearman"] = extra.spearman_interval(found["spearman"], n_r, confidence=confidence)
    enough_pairs = n_effective >= MIN_EFFECTIVE
    enough_errors = enough_pairs & (n_mean >= MIN_EFFECTIVE)
    for metric, (lower, upper) in limits.items():
        enough = enough_pairs if metric in ("r", "spearman") else enough_errors
        found[f"{metric}_lower"] = np.where(enough, lower, np.nan)
        found[f"{metric}_upper"] = np.where(enough, upper, np.nan)
    status = _status(groups, n_effective, n_mean)
    for name in (name for name in names if name.startswith("kge")):
        status = np.where(np.isnan(found[name]) & (status == OK), f"no {name}: zero mean", status)
    return {**found, "n_effective": n_effective, "status": status}


def _pairs(groups, steps, r, how):
    """The number of independent pairs, and the limits of R, (group,) each."""
    both, confidence, r_interval = how
    rate = both[0].signal_rate + both[1].signal_rate
    if r_interval == "gruber":
        n_r = effective_size(rate / 2, steps)
        return n_r, intervals.of_r(r, n_r, confidence=confidence)
    pairs = np.maximum(correlation_size(both, groups=groups, steps=steps), 2)
    return effective_size(rate, steps), intervals.of_r_like(r, pairs, confidence=confidence)


def _status(groups, n_effective, n_mean):
    flat_x = groups.sum(np.abs(groups.centred(groups.observed))) == 0
    flat_y = groups.sum(np.abs(groups.centred(groups.predicted))) == 0
    few = n_effective < MIN_EFFECTIVE
    few_errors = n_mean < MIN_EFFECTIVE
    words = [f"too few effective samples: {k:.1f} < {MIN_EFFECTIVE:g}" for k in n_effective]
    errors = [f"too few effective errors: {k:.1f} < {MIN_EFFECTIVE:g}" for k in n_mean]
    return np.select(
        [flat_x & flat_y, flat_x, flat_y, few, few_errors],
        ["constant observation and prediction", "constant observation", "constant prediction"]
        + [np.array(words, dtype=object), np.array(errors, dtype=object)],
        default=OK,
    )


# From sensors to one line: means, medians and quartiles by stratum, and means of block means.

UNKNOWN = "unknown"
SUMMARY = (
    "mean", "mean_lower", "mean_upper", "median", "median_lower", "median_upper", "q25", "q75",
    "n_sensors", "n_stations", "n_clusters", "is_small", "status",
)  # fmt: skip
BLOCK_MEANS = ("value", "lower", "upper", "n_blocks", "n_stations", "status")


def summarize(
    station_scores: pd.DataFrame,
    stations: pd.DataFrame | None = None,
    *,
    by: str | None = None,
    clusters: str | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean, median and quartiles over sensors, with intervals that resample whole clusters.

    Sensors enter where their score is a number. Intervals of mean and median are percentiles of a
    bootstrap over 2-degree blocks where stations are given, else over networks; fewer than five
    clusters give none, and the status says so.

    Parameters
    ----------
    station_scores : from ``station_scores``
    stations : stations table, for places and strata
    by : column of either table that makes the strata; "koeppen" is cut to two letters
    clusters : "block" or "network"
    confidence : float
    seed : int

    Returns
    -------
    DataFrame, one row a model, split, class of ``by`` and metric: ``mean, mean_lower, mean_upper,
    median, median_lower, median_upper, q25, q75, n_sensors, n_stations, n_clusters, is_small``
    (fewer than five stations) and ``status``

    Raises
    ------
    ContractError
        When no table has the column ``by``, or clusters need stations that are not given.
    """
    kind = clusters or ("network" if stations is None else "block")
    table = station_scores.assign(_cluster=intervals.clusters(station_scores, stations, kind=kind))
    keys = ["model", "split", *state_of(table)]
    if by is not None and by not in keys:
        table[by] = classes_of(station_scores, stations, by=by)
        keys.append(by)
    rows = []
    for key, part in table.groupby(keys, observed=True, sort=True):
        for metric in metrics_of(table):
            rng = np.random.default_rng(seed)  # the same draws for every line: comparable
            row = _line(part, metric, confidence=confidence, rng=rng, kind=kind)
            rows.append({**dict(zip(keys, key, strict=True)), "metric": metric, **row})
    return pd.DataFrame(rows, columns=[*keys, "metric", *SUMMARY])


def classes_of(scores, stations, *, by):
    if stations is not None and by in stations.columns:
        known = stations.drop_duplicates("sensor_id")
        column = pd.Series(known[by].to_numpy(), index=known["sensor_id"].astype("str"))
        classes = scores["sensor_id"].astype("str").map(column)
    elif by in scores.columns:
        classes = scores[by]
    else:
        have = ", ".join(() if stations is None else stations.columns)
        raise ContractError(
            f"No column {by!r} to stratify by: the stations have {have or 'no table here'}. "
            "Add the column to the stations table."
        )
    names = classes.astype(object).where(classes.notna(), "").astype(str)
    if by == "koeppen":
        names = pd.Series(strata.koeppen_pair(names), index=names.index)
    return names.where(names.str.strip() != "", UNKNOWN)


def _line(part, metric, *, confidence, rng, kind):
    found = part[part[metric].notna()]
    values, n_stations = found[metric].to_numpy(float), found["station_id"].nunique()
    row = dict.fromkeys(("mean", "median", "q25", "q75"), np.nan)
    ends = ((np.nan, np.nan), (np.nan, np.nan))
    if len(values):
        q25, median, q75 = np.quantile(values, [0.25, 0.5, 0.75])
        row = {"mean": values.mean(), "median": median, "q25": q25, "q75": q75}
        ends = intervals.intervals(
            values, found["_cluster"].to_numpy(), confidence=confidence, rng=rng
        )
    n_clusters = found["_cluster"].nunique()
    return {
        "mean": row["mean"],
        "mean_lower": ends[0][0],
        "mean_upper": ends[0][1],
        "median": row["median"],
        "median_lower": ends[1][0],
        "median_upper": ends[1][1],
        "q25": row["q25"],
        "q75": row["q75"],
        "n_sensors": len(values),
        "n_stations": n_stations,
        "n_clusters": n_clusters,
        "is_small": n_stations < strata.MIN_STATIONS,
        "status": _status_aggregate(len(values), n_clusters, kind),
    }


def _status_aggregate(n, n_clusters, kind):
    if not n:
        return "no sensor has this score"
    if n_clusters < intervals.MIN_CLUSTERS:
        return f"no interval: {n_clusters} {kind}s < {intervals.MIN_CLUSTERS}"
    return OK


def block_means(
    scores: pd.DataFrame, stations: pd.DataFrame, *, confidence: float = 0.95
) -> pd.DataFrame:
    """The mean of 2-degree blocks' means: what a dense network counts is one place.

    Each block's sensors are averaged first; the interval is Student's over the blocks' means.

    Parameters
    ----------
    scores : from ``station_scores``
    stations : stations table, for places
    confidence : float

    Returns
    -------
    DataFrame, one row a model, split and metric: ``value, lower, upper, n_blocks, n_stations`` and
    ``status``; fewer than five blocks give no interval
    """
    table = scores.assign(_cluster=intervals.clusters(scores, stations, kind="block"))
    rows = []
    keys = ["model", "split", *state_of(table)]
    for key, part in table.groupby(keys, observed=True, sort=True):
        for metric in metrics_of(table):
            found = part[part[metric].notna()]
            line = mean_of_means(found[metric], found["_cluster"], confidence=confidence)
            line["n_stations"] = found["station_id"].nunique()
            line["status"] = _status_aggregate(len(found), line["n_blocks"], "block")
            rows.append({**dict(zip(keys, key, strict=True)), "metric": metric, **line})
    return pd.DataFrame(rows, columns=[*keys, "metric", *BLOCK_MEANS])


def mean_of_means(values, cluster, *, confidence):
    """The mean of the clusters' means with Student's interval over them."""
    means = pd.Series(np.asarray(values, float)).groupby(np.asarray(cluster)).mean().to_numpy()
    k = len(means)
    value = means.mean() if k else np.nan
    half = np.nan
    if k >= intervals.MIN_CLUSTERS:
        half = stats.t.ppf((1 + confidence) / 2, k - 1) * means.std(ddof=1) / np.sqrt(k)
    return {"value": value, "lower": value - half, "upper": value + half, "n_blocks": k}


# Scores in the long form of ``scores.csv``.

VALUES = ["metric", "value", "lower", "upper", "n", "n_effective", "status"]


def to_scores_table(*tables: pd.DataFrame) -> pd.DataFrame:
    """Any of this package's tables as rows of the SCORES contract, one below the other.

    Scores of sensors keep their metric's name; summaries give ``<metric>_mean`` and
    ``<metric>_median``, block means ``<metric>_block_mean``. ``n`` counts samples for a sensor and
    stations for an aggregate; ``n_effective`` is the sensor's, or the number of clusters.

    Parameters
    ----------
    *tables : from ``station_scores``, ``summarize`` or ``block_means``

    Returns
    -------
    DataFrame of that contract; stratum columns that a table lacks are empty text
    """
    long = pd.concat([_long(table) for table in tables], ignore_index=True)
    words = [name for name in long.columns if name not in VALUES]
    long[words] = long[words].astype(object).fillna("").astype("str")
    kinds = dict.fromkeys(VALUES[1:-1], float) | dict.fromkeys(("metric", "status"), "str")
    long = long[[*words, *VALUES]].astype(kinds)
    contracts.check(long, contracts.SCORES)
    return long


def _long(table):
    if "r_lower" in table.columns:
        return _of_sensors(table)
    if "n_blocks" in table.columns:
        return _of_blocks(table)
    return pd.concat([_of_summary(table, "mean"), _of_summary(table, "median")])


def _of_sensors(table):
    keys = table[["model", "split", *state_of(table), "network", "station_id", "sensor_id"]]
    parts = []
    for metric in metrics_of(table):
        part = keys.assign(
            metric=metric,
            value=table[metric],
            lower=table.get(f"{metric}_lower", np.nan),
            upper=table.get(f"{metric}_upper", np.nan),
            n=table["n"].astype(float),
            n_effective=table["n_effective"],
            status=_status_of(table, metric),
        )
        parts.append(part)
    return pd.concat(parts)


def _status_of(table, metric):
    if f"{metric}_lower" in table.columns:
        return table["status"]
    return table["status"].where(table["status"] != OK, "no interval: no analytic form")


def _of_summary(table, statistic):
    strata = list(table.columns[: list(table.columns).index("metric")])
    return table[strata].assign(
        metric=table["metric"] + f"_{statistic}",
        value=table[statistic],
        lower=table[f"{statistic}_lower"],
        upper=table[f"{statistic}_upper"],
        n=table["n_stations"].astype(float),
        n_effective=table["n_clusters"].astype(float),
        status=table["status"],
    )


def _of_blocks(table):
    return table[["model", "split", *state_of(table)]].assign(
        metric=table["metric"] + "_block_mean",
        value=table["value"],
        lower=table["lower"],
        upper=table["upper"],
        n=table["n_stations"].astype(float),
        n_effective=table["n_blocks"].astype(float),
        status=table["status"],
    )

"""Scores of every sensor with intervals, their summary by stratum, and the long table."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from soilkit import contracts, strata
from soilkit.constants import CONFIDENCE, MIN_SAMPLES, OK
from soilkit.errors import ContractError
from soilkit.metrics import intervals
from soilkit.metrics.intervals import Steps, effective_size, student_interval
from soilkit.metrics.points import (
    METRICS,
    ROWS_AT_ONCE,
    Groups,
    check_predictions,
    extra_names,
    metrics_of,
    pieces,
    points,
    state_of,
)

MIN_EFFECTIVE = 5.0
R_INTERVALS = ("product", "gruber")
WITH_INTERVAL = (*METRICS, "spearman")


def station_scores(
    predictions: pd.DataFrame,
    *,
    min_samples: int = MIN_SAMPLES,
    confidence: float = CONFIDENCE,
    metrics: Iterable[str] = (),
    r_interval: str = "product",
) -> pd.DataFrame:
    """R, ubRMSE, RMSE and bias of every sensor, with intervals that know about autocorrelation.

    With d = predicted - observed, and lag-1 correlations rho fitted in time as exp(-dt / tau),
    n_effective is n (1 - rho_x rho_y) / (1 + rho_x rho_y) [1]_ and R's interval is Fisher's, with
    that product form taken apart by signal and error (``intervals.correlation_size``); the bias's
    is Student's with n (1 - rho_d) / (1 + rho_d), those of ubRMSE and RMSE are chi-square's with
    n (1 - rho_d^2) / (1 + rho_d^2), where rho_d is half a standard error above what was fitted;
    with fewer errors where these are seen to have a slow part (``intervals.error_sizes``).

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
    keys, parts = pieces(predictions, most_rows=ROWS_AT_ONCE)
    columns = [
        f"{name}{end}"
        for name in (*METRICS, *names)
        for end in (("", "_lower", "_upper") if name in WITH_INTERVAL else ("",))
    ]
    values = {name: np.full(len(keys), np.nan) for name in columns}
    values |= {"n": np.zeros(len(keys), np.int64), "n_effective": np.full(len(keys), np.nan)}
    values["status"] = np.full(len(keys), "", object)
    for groups in parts:
        values["n"][groups.which] = groups.counts
        scored = groups.take(groups.counts >= min_samples)
        if len(scored.counts):
            scores = _scores(scored, confidence, names=names, r_interval=r_interval)
            for name, column in scores.items():
                values[name][scored.which] = column
    few = [f"too few samples: {k} < {min_samples}" for k in values["n"]]
    values["status"] = np.where(values["n"] < min_samples, few, values["status"])
    order = ["model", "split", "sensor_id", *state_of(predictions)]
    return keys.assign(**values).sort_values(order, ignore_index=True)


def _scores(
    groups: Groups, confidence: float, *, names: Iterable[str], r_interval: str
) -> dict[str, np.ndarray]:
    found = points(groups, names)
    r, ubrmse, rmse, bias = (found[metric] for metric in METRICS)
    steps = Steps.of(groups)
    both = intervals.lines(groups, steps=steps)
    rate = both[0].signal_rate + both[1].signal_rate
    if r_interval == "gruber":
        n_r = effective_size(rate / 2, steps)
        of_r = intervals.of_r(r, n_r, confidence=confidence)
    else:
        # For independent pairs, within 3 % of Fisher's z / sqrt(n - 3) from n = 13 on; Student's
        # t because the variance 1 / n is itself estimated.
        n_r = effective_size(rate, steps)
        n = np.maximum(intervals.correlation_size(both, groups=groups, steps=steps), 2)
        of_r = student_interval(r, 1 / np.sqrt(n), freedom=n - 1, scale="r", confidence=confidence)
    n_error, n_mean, n_square = intervals.error_sizes(groups, steps=steps, both=both)
    n_effective = np.where(np.isnan(n_r), n_error, n_r)
    sizes = {"n_mean": n_mean, "n_square": n_square, "confidence": confidence}
    error = ubrmse / np.sqrt(n_mean - 1)
    limits = {
        "r": of_r,
        "ubrmse_m3_m3": intervals.of_ubrmse(ubrmse, **sizes),
        "rmse_m3_m3": intervals.of_rmse(rmse, bias, **sizes),
        "bias_m3_m3": student_interval(bias, error, freedom=n_mean - 1, confidence=confidence),
    }
    if "spearman" in found:
        rho = found["spearman"]
        widened = 1 + rho**2 / 2  # for ranks: Bonett and Wright (2000), doi:10.1007/BF02294183
        limits["spearman"] = intervals.of_r(rho, n_r, confidence=confidence, variance=widened)
    enough_pairs = n_effective >= MIN_EFFECTIVE
    enough_errors = enough_pairs & (n_error >= MIN_EFFECTIVE)
    for metric, ends in limits.items():
        enough = enough_pairs if metric in ("r", "spearman") else enough_errors
        for end, values in zip(("lower", "upper"), ends, strict=True):
            found[f"{metric}_{end}"] = np.where(enough, values, np.nan)
    status = _status(groups, n_effective, n_error)
    for name in (name for name in names if name.startswith("kge")):
        status = np.where(np.isnan(found[name]) & (status == OK), f"no {name}: zero mean", status)
    return {**found, "n_effective": n_effective, "status": status}


def _status(groups, n_effective, n_error):
    flat_x = groups.sum(np.abs(groups.centred(groups.observed))) == 0
    flat_y = groups.sum(np.abs(groups.centred(groups.predicted))) == 0
    few = [f"too few effective samples: {k:.1f} < {MIN_EFFECTIVE:g}" for k in n_effective]
    few_errors = [f"too few effective errors: {k:.1f} < {MIN_EFFECTIVE:g}" for k in n_error]
    return np.select(
        [flat_x & flat_y, flat_x, flat_y, n_effective < MIN_EFFECTIVE, n_error < MIN_EFFECTIVE],
        ["constant observation and prediction", "constant observation", "constant prediction"]
        + [np.array(few, dtype=object), np.array(few_errors, dtype=object)],
        default=OK,
    )


# From sensors to one line: means, medians and quartiles by stratum, and means of block means.

UNKNOWN = "unknown"


def summarize(
    station_scores: pd.DataFrame,
    stations: pd.DataFrame | None = None,
    *,
    by: str | None = None,
    clusters: str | None = None,
    confidence: float = CONFIDENCE,
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

    def line(scored, metric):
        values, cluster = scored[metric].to_numpy(float), scored["_cluster"].to_numpy()
        rng = np.random.default_rng(seed)  # the same draws for every line: comparable
        mean, median = intervals.mean_and_median(values, cluster, confidence=confidence, rng=rng)
        q25, middle, q75 = np.quantile(values, [0.25, 0.5, 0.75]) if len(values) else [np.nan] * 3
        n_stations, n_clusters = scored["station_id"].nunique(), scored["_cluster"].nunique()
        return {
            "mean": values.mean() if len(values) else np.nan,
            "mean_lower": mean[0], "mean_upper": mean[1],
            "median": middle, "median_lower": median[0], "median_upper": median[1],
            "q25": q25, "q75": q75, "n_sensors": len(values), "n_stations": n_stations,
            "n_clusters": n_clusters, "is_small": n_stations < strata.MIN_STATIONS,
            "status": _status_of_many(scored, n_clusters, kind),
        }  # fmt: skip

    return _lines(table, keys, line)


def _lines(table, keys, line):
    """A row a group of ``keys`` and metric: ``line`` of the sensors that have the score."""
    rows = [
        dict(zip(keys, key, strict=True)) | {"metric": metric} | line(scored, metric)
        for key, part in table.groupby(keys, observed=True, sort=True)
        for metric in metrics_of(table)
        for scored in [part[part[metric].notna()]]
    ]
    columns = [*keys, "metric", *line(table[:0], METRICS[0])]
    return pd.DataFrame(rows, columns=columns)


def _status_of_many(scored, n_clusters, kind):
    return intervals.few_clusters(n_clusters, kind) if len(scored) else "no sensor has this score"


def classes_of(scores, stations, *, by):
    """The class of each row in the stations' column ``by``, or the scores' own; text."""
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


def block_means(
    scores: pd.DataFrame, stations: pd.DataFrame, *, confidence: float = CONFIDENCE
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

    def line(scored, metric):
        means = intervals.mean_of_means(scored[metric], scored["_cluster"], confidence=confidence)
        status = _status_of_many(scored, means["n_blocks"], "block")
        return means | {"n_stations": scored["station_id"].nunique(), "status": status}

    return _lines(table, ["model", "split", *state_of(table)], line)


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
    long = pd.concat([part for table in tables for part in _long(table)], ignore_index=True)
    words = [name for name in long.columns if name not in VALUES]
    long[words] = long[words].astype(object).fillna("").astype("str")
    kinds = dict.fromkeys(VALUES[1:-1], float) | dict.fromkeys(("metric", "status"), "str")
    long = long[[*words, *VALUES]].astype(kinds)
    contracts.check(long, contracts.SCORES)
    return long


def _long(table):
    """The long rows of one table, a part a metric or statistic."""
    if "r_lower" in table.columns:
        names = ["model", "split", *state_of(table), "network", "station_id", "sensor_id"]
        without = table["status"].where(table["status"] != OK, "no interval: no analytic form")
        for metric in metrics_of(table):
            columns = [metric, f"{metric}_lower", f"{metric}_upper", "n", "n_effective"]
            status = table["status"] if columns[1] in table.columns else without
            yield _part(table, names, columns, metric=metric, status=status)
        return
    names = list(table.columns[: list(table.columns).index("metric")])
    if "n_blocks" in table.columns:
        kinds = {"_block_mean": ["value", "lower", "upper", "n_stations", "n_blocks"]}
    else:
        kinds = {
            f"_{name}": [name, f"{name}_lower", f"{name}_upper", "n_stations", "n_clusters"]
            for name in ("mean", "median")
        }
    for kind, columns in kinds.items():
        yield _part(table, names, columns, metric=table["metric"] + kind, status=table["status"])


def _part(table, names, columns, **words):
    values = {
        name: table.get(column, np.nan) for name, column in zip(VALUES[1:-1], columns, strict=True)
    }
    return table[names].assign(**values, **words)

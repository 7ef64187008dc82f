"""One model against several others on the same samples, sensor by sensor and over blocks."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from soilkit.errors import ContractError
from soilkit.metrics import bootstrap, multiplicity
from soilkit.metrics.paired import CONFIDENCE, check_metrics, common_samples, model_of
from soilkit.metrics.points import METRICS, point_scores
from soilkit.metrics.stations import MIN_SAMPLES, OK

CHUNK = 1000
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
    correction: str | None = "holm",
    seed: int = 0,
) -> pd.DataFrame:
    """One model against several others, on the samples that all of them predict.

    A line's difference a - b is the mean over sensors (of absolute values for the bias; above
    zero a is better for R, below zero for the errors). Whole 2-degree blocks are drawn anew, and
    each draw's deviation from the difference is divided by its own error, robust to blocks [1]_:
    t* = (d* - d) / s*. The p-value is the share of |t*| that reach |d / s|, one added above and
    below; the 95 % interval is d -+ s times the 95 % quantile of |t*|, so that the two agree. Such
    an interval is wider than ``paired_difference``'s percentiles where blocks are few, and keeps
    its rate there. Adjusted p-values have all lines for their family; intervals hold line by line.

    Parameters
    ----------
    a : predictions table of one model
    others : predictions tables, or one table, of the other models
    stations : stations table, for places
    metrics : of "r", "ubrmse_m3_m3", "rmse_m3_m3", "bias_m3_m3"
    correction : "holm" (family-wise error), "bh" (false discoveries) or None
    seed : int

    Returns
    -------
    DataFrame, one row a metric and other model: ``metric, model_a, model_b, mean_a, mean_b,
    difference, lower, upper, p_value, p_adjusted, better`` (a model's name where the adjusted
    p-value is below 0.05, else empty), ``n_samples, n_sensors, n_stations, n_blocks, status``.
    Sensors need thirteen common samples and the score in both models

    Raises
    ------
    ContractError
        For an unknown metric, a model without rows or named twice, repeated samples, or samples
        whose observations differ.
    UnknownNameError
        For another correction.

    References
    ----------
    .. [1] Hall and Wilson (1991), doi:10.2307/2532163; Cameron, Gelbach and Miller (2008),
       doi:10.1162/rest.90.3.414
    """
    metrics = tuple(metrics)
    check_metrics(metrics)
    multiplicity.adjust([], correction)
    tables = _by_model(a, others)
    names = list(tables)
    common = dict(zip(names, common_samples(tables.values()), strict=True))
    scores = {name: point_scores(table) for name, table in common.items()}
    rows = []
    for metric in metrics:
        for other in names[1:]:
            pair = _pair(scores[names[0]], scores[other], metric)
            line = _line(pair, stations, seed)
            rows.append({"metric": metric, "model_a": names[0], "model_b": other, **line})
    table = pd.DataFrame(rows)
    table["p_adjusted"] = multiplicity.adjust(table["p_value"], correction)
    table["better"] = _better(table)
    return table[COMPARISON]


def _by_model(a, others):
    given = [others] if isinstance(others, pd.DataFrame) else list(others)
    tables = {model_of(a): a}
    for table in given:
        for name, part in table.groupby(table["model"].astype("str"), sort=False):
            if name in tables:
                raise ContractError(f"Model {name!r} is given twice: rename one, or leave it out.")
            tables[str(name)] = part
    if len(tables) < 2:
        raise ContractError("A comparison needs at least one other model, found none.")
    return tables


def _pair(scores_a, scores_b, metric):
    """The sensors that have this score in both, as columns a and b."""
    pair = scores_a.assign(a=scores_a[metric], b=scores_b[metric])
    if metric == "bias_m3_m3":
        pair = pair.assign(a=pair["a"].abs(), b=pair["b"].abs())
    return pair[(pair["n"] >= MIN_SAMPLES) & pair["a"].notna() & pair["b"].notna()]


def _line(pair, stations, seed):
    difference = (pair["a"] - pair["b"]).to_numpy(float)
    cluster = bootstrap.clusters(pair, stations, kind="block")
    n_blocks = len(set(cluster))
    found, status = {"lower": np.nan, "upper": np.nan, "p_value": np.nan}, OK
    if not len(pair):
        status = f"no sensor has this score in both with {MIN_SAMPLES} common samples"
    elif n_blocks < bootstrap.MIN_CLUSTERS:
        status = f"no test: {n_blocks} blocks < {bootstrap.MIN_CLUSTERS}"
    else:
        found, status = studentized(difference, cluster, rng=np.random.default_rng(seed))
    return {
        "mean_a": pair["a"].mean(),
        "mean_b": pair["b"].mean(),
        "difference": difference.mean() if len(pair) else np.nan,
        **found,
        "n_samples": int(pair["n"].sum()),
        "n_sensors": len(pair),
        "n_stations": pair["station_id"].nunique(),
        "n_blocks": n_blocks,
        "status": status,
    }


def studentized(values, cluster, *, rng, n_resamples=N_DRAWS):
    """Interval and p-value of a mean by the studentised bootstrap over whole clusters.

    Parameters
    ----------
    values : array (sensor,)
    cluster : array (sensor,), at least five names
    rng : numpy.random.Generator
    n_resamples : int

    Returns
    -------
    (dict of ``lower``, ``upper``, ``p_value`` against a mean of zero; status)
    """
    codes, names = pd.factorize(cluster)
    k, mean = len(names), values.mean()
    sizes = np.bincount(codes).astype(float)  # (cluster,)
    excess = np.bincount(codes, values - mean)  # (cluster,)
    error = np.sqrt(k / (k - 1) * (excess**2).sum()) / len(values)
    if error <= 1e-12 * np.abs(values).max():
        if mean == 0:
            return {"lower": 0.0, "upper": 0.0, "p_value": 1.0}, "the scores are identical"
        none = dict.fromkeys(("lower", "upper", "p_value"), np.nan)
        return none, "no test: the difference is the same in every block"
    t = _t_of_draws(excess, sizes, rng=rng, n_resamples=n_resamples)
    reach = np.quantile(t, CONFIDENCE, method="higher") * error
    p_value = (1 + (t >= np.abs(mean) / error).sum()) / (1 + n_resamples)
    return {"lower": mean - reach, "upper": mean + reach, "p_value": p_value}, OK


def _t_of_draws(excess, sizes, *, rng, n_resamples):
    """Each draw's |t| about the mean, (draw,), from sums and sizes of the clusters (cluster,)."""
    k = len(sizes)
    moments = np.stack([excess, sizes, excess**2, excess * sizes, sizes**2], axis=1)
    found = []
    for first in range(0, n_resamples, CHUNK):  # all draws at once would fill the memory
        n_draws = min(CHUNK, n_resamples - first)
        cells = rng.integers(0, k, (n_draws, k)) + k * np.arange(n_draws)[:, None]
        weights = np.bincount(cells.ravel(), minlength=n_draws * k).reshape(n_draws, k)
        total, n, squares, cross, sizes_squared = (weights.astype(float) @ moments).T  # (draw,)
        shift = total / n
        squares = squares - 2 * shift * cross + shift**2 * sizes_squared
        with np.errstate(divide="ignore", invalid="ignore"):
            found.append(np.abs(total) / np.sqrt(k / (k - 1) * np.maximum(squares, 0)))
    t = np.concatenate(found)
    return np.where(np.isnan(t), np.inf, t)  # one cluster drawn throughout has no error of its own


def _better(table):
    """The name of the better model where the adjusted p-value tells them apart."""
    higher = np.where(table["metric"] == "r", 1, -1) * table["difference"]
    name = np.where(higher > 0, table["model_a"], table["model_b"])
    return np.where(table["p_adjusted"] < 1 - CONFIDENCE, name, "")


def sensor_differences(
    a: pd.DataFrame,
    b: pd.DataFrame,
    *,
    metrics: Iterable[str] = METRICS,
    min_samples: int = MIN_SAMPLES,
) -> pd.DataFrame:
    """Where is one model better: both scores of every sensor on its identical samples.

    Parameters
    ----------
    a, b : predictions tables of one model each
    metrics : of the four
    min_samples : int, common samples that a sensor needs

    Returns
    -------
    DataFrame, one row a metric and sensor of either table: ``metric, sensor_id, station_id,
    network, value_a, value_b, difference`` (a - b, of absolute values for the bias), ``better`` (a
    model's name; empty for a tie), ``n`` and ``status``: "ok", or why there is no difference

    Raises
    ------
    ContractError
        As ``compare``.
    """
    metrics = tuple(metrics)
    check_metrics(metrics)
    names = [model_of(a), model_of(b)]
    pair = common_samples([a, b])
    keys = ["sensor_id", "station_id", "network"]
    either = pd.concat([a[keys], b[keys]]).astype("str").drop_duplicates("sensor_id")
    scores = [point_scores(t).set_index("sensor_id").reindex(either["sensor_id"]) for t in pair]
    n = scores[0]["n"].fillna(0).to_numpy(int)
    why = _why_none(pair, either["sensor_id"], names)
    why = np.where(
        n < min_samples, [f"too few common samples: {k} < {min_samples}" for k in n], why
    )
    parts = [
        either.assign(metric=metric, n=n, **_values(scores, metric, why, names))
        for metric in metrics
    ]
    columns = ["metric", *keys, "value_a", "value_b", "difference", "better", "n", "status"]
    return pd.concat(parts)[columns].sort_values(["metric", "sensor_id"], ignore_index=True)


def _values(scores, metric, why, names):
    x, y = (table[metric].to_numpy(float) for table in scores)
    if metric == "bias_m3_m3":
        x, y = np.abs(x), np.abs(y)
    few = np.char.startswith(why.astype(str), "too few")
    x, y = np.where(few, np.nan, x), np.where(few, np.nan, y)
    higher = (x - y) * (1 if metric == "r" else -1)
    return {
        "value_a": x,
        "value_b": y,
        "difference": x - y,
        "better": np.select([higher > 0, higher < 0], names, default=""),
        "status": np.where(np.isnan(higher), why, OK),
    }


def _why_none(pair, sensors, names):
    """Why a sensor has no R on its common samples: a series that does not vary."""
    words = np.full(len(sensors), "constant observation", object)
    for table, name in zip(pair, names, strict=True):
        by_sensor = table.groupby(table["sensor_id"].astype("str"))
        values = by_sensor["predicted_m3_m3"]
        flat = (values.max() == values.min()).reindex(sensors, fill_value=False).to_numpy(bool)
        words[flat] = f"constant prediction of {name}"
    return words

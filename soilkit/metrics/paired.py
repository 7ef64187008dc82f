"""Models on the same samples: is one better, beyond what the choice of places explains?"""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from soilkit.errors import ContractError
from soilkit.metrics import bootstrap
from soilkit.metrics.aggregate import mean_of_means
from soilkit.metrics.points import METRICS, point_scores
from soilkit.metrics.stations import MIN_SAMPLES, OK

CONFIDENCE = 0.95
SAME_OBSERVATION_M3_M3 = 1e-6


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
    of absolute values; below zero, a is better, as for both errors, and above zero for R.

    Parameters
    ----------
    predictions_a, predictions_b : predictions tables of one model each
    stations : stations table, for places
    metric : one of "r", "ubrmse_m3_m3", "rmse_m3_m3", "bias_m3_m3"
    min_samples : int, common samples that a sensor needs
    seed : int

    Returns
    -------
    Series: ``metric, model_a, model_b, mean_a, mean_b, difference, lower, upper, share_a_higher,
    block_difference, block_lower, block_upper, n_samples, n_sensors, n_stations, n_blocks, status``

    Raises
    ------
    ContractError
        For an unknown metric, several models in one table, repeated samples, or samples whose
        observations differ.
    """
    check_metrics([metric])
    names = {
        "metric": metric,
        "model_a": model_of(predictions_a),
        "model_b": model_of(predictions_b),
    }
    a, b = common_samples([predictions_a, predictions_b])
    scores = point_scores(a).assign(b=point_scores(b)[metric]).rename(columns={metric: "a"})
    scores = scores[(scores["n"] >= min_samples) & scores["a"].notna() & scores["b"].notna()]
    if metric == "bias_m3_m3":
        scores = scores.assign(a=scores["a"].abs(), b=scores["b"].abs())
    return pd.Series({"metric": metric, **names, **_compare(scores, stations, seed)}, name=metric)


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
    that a sensor's scores stand on the same line.

    Raises
    ------
    ContractError
        When a sample stands twice in a table, or has another observation in another.
    """
    keyed = [_finite(table) for table in tables]
    shared = keyed[0].index
    for table in keyed[1:]:
        shared = shared.intersection(table.index)
    first = keyed[0].loc[shared].assign(model="", split="")
    found = [first]
    for table in keyed[1:]:
        other = table.loc[shared]
        _check_observations(first["observed_m3_m3"], other["observed_m3_m3"])
        found.append(first.assign(predicted_m3_m3=other["predicted_m3_m3"]))
    return found


def _finite(table):
    keyed = table.set_index(table["sample_id"].astype("str"))
    if keyed.index.has_duplicates:
        raise ContractError("A sample stands twice in one model's predictions: select a split.")
    finite = np.isfinite(keyed["observed_m3_m3"]) & np.isfinite(keyed["predicted_m3_m3"])
    return keyed[finite.to_numpy()]


def _check_observations(ours, theirs):
    apart = np.abs(ours.to_numpy(float) - theirs.to_numpy(float))
    n_apart = int((apart > SAME_OBSERVATION_M3_M3).sum())
    if n_apart:
        raise ContractError(
            f"{n_apart} samples have another observation in the other table (up to "
            f"{apart.max():.3g} m3 m-3 apart): the sample_ids do not mean the same."
        )


def check_metrics(names: Iterable[str]) -> None:
    """Raise ``ContractError`` for a name that is none of the four metrics."""
    for metric in names:
        if metric not in METRICS:
            raise ContractError(f"No metric {metric!r}; there are {', '.join(METRICS)}.")


def _compare(scores, stations, seed):
    difference = (scores["a"] - scores["b"]).to_numpy(float)
    cluster = bootstrap.clusters(scores, stations, kind="block")
    means = mean_of_means(difference, cluster, confidence=CONFIDENCE)
    (lower, upper), _ = bootstrap.intervals(
        difference, cluster, confidence=CONFIDENCE, rng=np.random.default_rng(seed)
    )
    few = means["n_blocks"] < bootstrap.MIN_CLUSTERS
    n = len(difference)
    return {
        "mean_a": scores["a"].mean(),
        "mean_b": scores["b"].mean(),
        "difference": difference.mean() if n else np.nan,
        "lower": lower,
        "upper": upper,
        "share_a_higher": float((difference > 0).mean()) if n else np.nan,
        "block_difference": means["value"],
        "block_lower": means["lower"],
        "block_upper": means["upper"],
        "n_samples": int(scores["n"].sum()),
        "n_sensors": n,
        "n_stations": scores["station_id"].nunique(),
        "n_blocks": means["n_blocks"],
        "status": f"no interval: fewer than {bootstrap.MIN_CLUSTERS} blocks" if few else OK,
    }

"""Scores of every sensor with intervals that know about its memory."""

import dataclasses
from collections.abc import Iterable

import numpy as np
import pandas as pd

from soilkit import contracts
from soilkit.errors import ContractError
from soilkit.metrics import extra, intervals
from soilkit.metrics.groups import Groups, group, state_of
from soilkit.metrics.memory import Steps, effective_size, memory_hours
from soilkit.metrics.points import METRICS, extra_names, extra_points, points

MIN_SAMPLES = 13  # seed 001, 4a
MIN_EFFECTIVE = 5.0
OK = "ok"
COLUMNS = [f"{metric}{end}" for metric in METRICS for end in ("", "_lower", "_upper")]


def station_scores(
    predictions: pd.DataFrame,
    *,
    min_samples: int = MIN_SAMPLES,
    confidence: float = 0.95,
    metrics: Iterable[str] = (),
) -> pd.DataFrame:
    """R, ubRMSE, RMSE and bias of every sensor, with intervals that know about autocorrelation.

    With d = predicted - observed, and lag-1 correlations rho fitted in time as exp(-dt / tau), R's
    interval is Fisher's with n (1 - rho_x rho_y) / (1 + rho_x rho_y) pairs [1]_, the bias's is
    Student's with n (1 - rho_d) / (1 + rho_d), and those of ubRMSE and RMSE are chi-square's with
    n (1 - rho_d^2) / (1 + rho_d^2).

    Parameters
    ----------
    predictions : table of that contract; rows without a finite pair are left out
    min_samples : int, fewer pairs give no score
    confidence : float, of each interval alone
    metrics : further scores: "spearman", with the interval of Bonett and Wright at R's effective
        size; "kge" (Kling-Gupta of 2012) and "kge_2009", which have no analytic interval

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
    """
    key = (*contracts.PREDICTIONS.key, *state_of(predictions))
    contracts.check(predictions, dataclasses.replace(contracts.PREDICTIONS, key=key))
    if min_samples < 2 or not 0 < confidence < 1:
        raise ContractError(
            "Scores need min_samples >= 2 and a confidence between 0 and 1, "
            f"found {min_samples} and {confidence}."
        )
    keys, groups = group(predictions)
    n = np.zeros(len(keys), np.int64)
    n[groups.which] = groups.counts
    scored = groups.take(groups.counts >= min_samples)
    names = extra_names(metrics, predictions)
    values = _scores(scored, confidence, names=names) if len(scored.counts) else {}
    table = keys.assign(**dict.fromkeys([*COLUMNS, *_columns(names)], np.nan))
    table = table.assign(n=n, n_effective=np.nan)
    table["status"] = [f"too few samples: {k} < {min_samples}" for k in n]
    for name, column in values.items():
        filled = table[name].to_numpy(copy=True)
        filled[scored.which] = column
        table[name] = filled
    order = ["model", "split", "sensor_id", *state_of(predictions)]
    return table.sort_values(order, ignore_index=True)


def _columns(names):
    ends = {"spearman": ("", "_lower", "_upper")}
    return [f"{name}{end}" for name in names for end in ends.get(name, ("",))]


def _scores(
    groups: Groups, confidence: float, *, names: Iterable[str] = ()
) -> dict[str, np.ndarray]:
    found = points(groups)
    n_r, n_mean, n_square = _effective_sizes(groups)
    n_effective = np.where(np.isnan(n_r), n_mean, n_r)
    r, ubrmse, rmse, bias = (found[metric] for metric in METRICS)
    sizes = {"n_mean": n_mean, "n_square": n_square, "confidence": confidence}
    limits = {
        "r": intervals.of_r(r, n_r, confidence=confidence),
        "ubrmse_m3_m3": intervals.of_ubrmse(ubrmse, **sizes),
        "rmse_m3_m3": intervals.of_rmse(rmse, bias, **sizes),
        "bias_m3_m3": intervals.of_bias(bias, ubrmse, n_effective=n_mean, confidence=confidence),
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


def _effective_sizes(groups: Groups) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Independent pairs for R, for a mean of differences, and for a mean of their squares."""
    steps = Steps.of(groups)
    rate_x, rate_y, rate_d = (
        1 / memory_hours(groups.centred(series), steps)
        for series in (groups.observed, groups.predicted, groups.predicted - groups.observed)
    )
    return (
        effective_size(rate_x + rate_y, steps),
        effective_size(rate_d, steps),
        effective_size(2 * rate_d, steps),
    )


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

"""Scores of every sensor with intervals that know about its memory."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from soilkit.errors import ContractError
from soilkit.metrics import extra, intervals
from soilkit.metrics.groups import Groups, pieces, state_of
from soilkit.metrics.memory import Steps, effective_size
from soilkit.metrics.points import METRICS, ROWS_AT_ONCE, extra_names, extra_points, points
from soilkit.metrics.rows import check_predictions
from soilkit.metrics.sizes import correlation_size, error_sizes, lines

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
    keys, parts = pieces(predictions, most_rows=ROWS_AT_ONCE)
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

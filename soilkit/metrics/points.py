"""The point scores, for all groups at once: the four, and others on request."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from soilkit.errors import ContractError
from soilkit.metrics import extra
from soilkit.metrics.groups import STATE, Groups, pieces

METRICS = ("r", "ubrmse_m3_m3", "rmse_m3_m3", "bias_m3_m3")
KGE = "kge_2012"  # what "kge" means: its bias and variability do not count one error twice
ROWS_AT_ONCE = 2**16  # five series of them stay in a processor's cache
EXTRA_METRICS = ("spearman", "kge_2009", KGE)


def metrics_of(table: pd.DataFrame) -> list[str]:
    """The metrics that a table of scores has, the four first."""
    return [name for name in METRICS + EXTRA_METRICS if name in table.columns]


def extra_names(metrics: Iterable[str], table: pd.DataFrame) -> list[str]:
    """The columns that ``metrics`` adds to the four; "kge" is Kling-Gupta's of 2012.

    Raises
    ------
    ContractError
        For an unknown name, or Kling-Gupta's score of anomalies, whose mean is no amount of water.
    """
    asked = [KGE if name == "kge" else name for name in metrics]
    unknown = [name for name in asked if name not in METRICS + EXTRA_METRICS]
    if unknown:
        raise ContractError(
            f"No metric {', '.join(unknown)}; there are {', '.join(METRICS + EXTRA_METRICS)}."
        )
    has_kge = any(name.startswith("kge") for name in asked) and STATE in table.columns
    if has_kge and any("anomaly" in str(state) for state in table[STATE].unique()):
        raise ContractError(
            "Kling-Gupta's score divides by the mean observation, and the mean of anomalies is "
            "about zero. Ask for it of absolute values only."
        )
    return [name for name in EXTRA_METRICS if name in asked]


def extra_points(groups: Groups, r: np.ndarray, *, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Spearman's R and Kling-Gupta's scores of each group by name, (group,)."""
    forms = {"kge_2009": 2009, "kge_2012": 2012}
    return {
        name: extra.kling_gupta(groups, r, form=forms[name])
        if name in forms
        else extra.spearman(groups)
        for name in names
    }


def points(groups: Groups) -> dict[str, np.ndarray]:
    """R, ubRMSE, RMSE and bias of each group, (group,), by two passes over the rows.

    With d = predicted - observed: bias = mean(d), ubRMSE = sqrt(mean((d - bias)2)) and RMSE =
    sqrt(mean(d2)), which is sqrt(ubRMSE2 + bias2) [1]_; R is Pearson's, NaN where either series
    is constant.

    References
    ----------
    .. [1] Entekhabi et al. (2010), doi:10.1175/2010JHM1223.1
    """
    n, starts = groups.counts, groups.starts
    (x, mean_x), (y, mean_y) = groups.centre(groups.observed), groups.centre(groups.predicted)
    bias = groups.predicted[starts] - groups.observed[starts] + (mean_y - mean_x)
    xx, yy, xy = (groups.sum(product) for product in (x * x, y * y, x * y))
    with np.errstate(invalid="ignore", divide="ignore"):
        r = np.clip(xy / (np.sqrt(xx) * np.sqrt(yy)), -1, 1)
    y -= x  # the centred difference
    y *= y
    scatter = groups.sum(y) / n
    return {
        "r": r,
        "ubrmse_m3_m3": np.sqrt(scatter),
        "rmse_m3_m3": np.sqrt(scatter + bias * bias),
        "bias_m3_m3": bias,
    }


def point_scores(predictions: pd.DataFrame, *, metrics: Iterable[str] = ()) -> pd.DataFrame:
    """R, ubRMSE, RMSE, bias and n of every model, split and sensor, without intervals.

    Parameters
    ----------
    predictions : table of that contract
    metrics : further scores: "spearman", "kge" (Kling-Gupta of 2012) or "kge_2009"

    Returns
    -------
    DataFrame, one row a model, split and sensor; moisture scores in m3 m-3
    """
    names = extra_names(metrics, predictions)
    keys, parts = pieces(predictions, in_time=False, most_rows=ROWS_AT_ONCE)
    table = {name: np.full(len(keys), np.nan) for name in [*METRICS, *names]}
    table["n"] = np.zeros(len(keys), np.int64)
    for groups in parts:
        found = points(groups)
        found |= extra_points(groups, found["r"], names=names)
        for name, values in {**found, "n": groups.counts}.items():
            table[name][groups.which] = values
    return pd.concat([keys, pd.DataFrame(table)], axis=1)

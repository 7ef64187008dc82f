"""The four point scores, for all groups at once."""

import numpy as np
import pandas as pd

from soilkit.metrics.groups import Groups, group

METRICS = ("r", "ubrmse_m3_m3", "rmse_m3_m3", "bias_m3_m3")


def points(groups: Groups) -> dict[str, np.ndarray]:
    """R, ubRMSE, RMSE and bias of each group, (group,), by two passes over the rows.

    With d = predicted - observed: bias = mean(d), RMSE = sqrt(mean(d2)), ubRMSE =
    sqrt(mean((d - bias)2)) [1]_; R is Pearson's, NaN where either series is constant.

    References
    ----------
    .. [1] Entekhabi et al. (2010), doi:10.1175/2010JHM1223.1
    """
    n = groups.counts
    x, y = groups.centred(groups.observed), groups.centred(groups.predicted)
    difference = groups.predicted - groups.observed
    scatter = y - x  # the centred difference
    norm = np.sqrt(groups.sum(x * x)) * np.sqrt(groups.sum(y * y))
    with np.errstate(invalid="ignore", divide="ignore"):
        r = np.clip(groups.sum(x * y) / norm, -1, 1)
    return {
        "r": r,
        "ubrmse_m3_m3": np.sqrt(groups.sum(scatter * scatter) / n),
        "rmse_m3_m3": np.sqrt(groups.sum(difference * difference) / n),
        "bias_m3_m3": groups.sum(difference) / n,
    }


def point_scores(predictions: pd.DataFrame) -> pd.DataFrame:
    """R, ubRMSE, RMSE, bias and n of every model, split and sensor, without intervals.

    Parameters
    ----------
    predictions : table of that contract

    Returns
    -------
    DataFrame, one row a model, split and sensor; moisture scores in m3 m-3
    """
    keys, groups = group(predictions, in_time=False)
    table = keys.assign(**dict.fromkeys(METRICS, np.nan), n=0)
    for name, values in {**points(groups), "n": groups.counts}.items():
        column = table[name].to_numpy(copy=True)
        column[groups.which] = values
        table[name] = column
    return table

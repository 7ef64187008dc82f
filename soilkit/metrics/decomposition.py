"""The pooled error of many stations, parted exactly into bias, places and days."""

import numpy as np
import pandas as pd

from soilkit.metrics import bootstrap, jackknife
from soilkit.metrics.groups import state_of
from soilkit.metrics.spatial import CONFIDENCE, VALUES, clusters_of, split_parts, station_dates
from soilkit.metrics.states import OK

QUANTITIES = (
    "rmse_m3_m3", "bias_m3_m3", "ubrmse_static_m3_m3", "ubrmse_dynamic_m3_m3",
    "r", "r_static", "r_dynamic",
)  # fmt: skip


def spatial_parts(
    predictions: pd.DataFrame,
    *,
    stations: pd.DataFrame | None = None,
    every: str = "1D",
) -> pd.DataFrame:
    """The error and R of all station-dates, its static part (places) apart from its dynamic (days).

    With d the error of a station on a date, m its mean at that station and M the mean of all,
    sum d2 = N M2 + sum (m - M)2 + sum (d - m)2, every sum over the station-dates; so, exactly,
    RMSE2 = bias2 + ubRMSE_static2 + ubRMSE_dynamic2. ``r_static`` is R across stations' means,
    weighted by their dates; ``r_dynamic`` is R of the deviations from them; the covariance and both
    variances of the pool are the sums of the two parts'. Intervals leave out 2-degree
    blocks where stations are given, else networks, one at a time; fewer than five give none.

    Parameters
    ----------
    predictions : table of that contract; rows without a finite pair are left out
    stations : stations table, for places
    every : length of a date, as pandas writes it: "1D", "10D"; counted from 1970-01-01

    Returns
    -------
    DataFrame, one row a model, split and ``metric`` (rmse_m3_m3, bias_m3_m3, ubrmse_static_m3_m3,
    ubrmse_dynamic_m3_m3, r, r_static, r_dynamic): ``value, lower, upper, n_station_dates,
    n_stations, n_clusters, status``

    Raises
    ------
    ContractError
        When the table breaks its contract, or a date has no length.
    """
    values = station_dates(predictions, every=every)
    values["_cluster"] = clusters_of(values, stations)
    keys = ["model", "split", *state_of(values)]
    tables = [
        _lines(part).assign(**dict(zip(keys, key, strict=True)))
        for key, part in values.groupby(keys, observed=True, sort=True)
    ]
    columns = [*keys, "metric", "value", "lower", "upper"]
    columns += ["n_station_dates", "n_stations", "n_clusters", "status"]
    if not tables:
        return pd.DataFrame(columns=columns)
    return pd.concat(tables, ignore_index=True)[columns]


def _lines(values):
    code, names = pd.factorize(values["_cluster"])
    k = len(names)
    sums, offset = _sums(values, code, k)
    whole = sums.sum(axis=1)
    found = np.array(_quantities(whole, offset))
    lower, upper = _limits(found, _quantities(whole[:, None] - sums, offset), k)
    status = np.full(len(found), OK, object)
    status[np.isnan(lower)] = "no interval: no score without one of the clusters"
    if k < bootstrap.MIN_CLUSTERS:
        status[:] = f"no interval: {k} clusters < {bootstrap.MIN_CLUSTERS}"
    status[np.isnan(found)] = "constant"
    table = pd.DataFrame({"metric": QUANTITIES, "value": found, "lower": lower, "upper": upper})
    return table.assign(
        n_station_dates=len(values),
        n_stations=values["station_id"].nunique(),
        n_clusters=k,
        status=status,
    )


def _limits(found, left_out, k):
    """Limits of every quantity, 2 x (quantity,)."""
    limits = np.full((2, len(found)), np.nan)
    if k < bootstrap.MIN_CLUSTERS:
        return limits
    for i, name in enumerate(QUANTITIES):
        scale = "mean" if name.startswith("bias") else "spread" if "rmse" in name else "r"
        limits[:, i] = np.ravel(
            jackknife.interval(
                found[i],
                left_out[i],
                present=np.ones(k, bool),
                scale=scale,
                confidence=CONFIDENCE,
            )
        )
    return limits


def _sums(values, code, k):
    """Sums of each cluster, (13, cluster), and the mean error that was taken off before."""
    first = values[VALUES].iloc[0]
    shifted = values[VALUES] - first
    means = shifted.mean()
    static, dynamic = split_parts(shifted - means, values["station_id"])
    (sx, sy), (dx, dy) = static.to_numpy().T, dynamic.to_numpy().T
    se, de = sy - sx, dy - dx
    error = np.diff(values[VALUES].to_numpy(float), axis=1).ravel()
    products = (sx, sy, se, sx * sx, sy * sy, sx * sy, se * se, dx * dx, dy * dy, dx * dy, de * de)
    rows = (np.ones(len(error)), *products, error * error)
    sums = np.array([np.bincount(code, row, minlength=k) for row in rows])
    offset = (first + means).to_numpy() @ [-1, 1]
    return sums, offset


def _quantities(sums, offset):
    """The values of QUANTITIES from sums (13, ...)."""
    sx, sy, se, sxx, syy, sxy, see, dxx, dyy, dxy, dee, square = sums[1:] / sums[0]
    var_x, var_y, cov = sxx - sx**2, syy - sy**2, sxy - sx * sy
    with np.errstate(invalid="ignore", divide="ignore"):
        return (
            np.sqrt(square),
            se + offset,
            np.sqrt(np.maximum(see - se**2, 0)),
            np.sqrt(dee),
            _ratio(cov + dxy, var_x + dxx, var_y + dyy),
            _ratio(cov, var_x, var_y),
            _ratio(dxy, dxx, dyy),
        )


def _ratio(cov, var_x, var_y):
    """R; NaN where a variance is nothing beside rounding."""
    flat = np.minimum(var_x, var_y) <= 1e-24
    return np.where(flat, np.nan, np.clip(cov / np.sqrt(var_x * var_y), -1, 1))

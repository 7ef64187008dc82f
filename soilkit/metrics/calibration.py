"""Does a predicted spread mean what it says: PIT, CRPS, reliability, conformal widths."""

import math
from fractions import Fraction

import numpy as np
import pandas as pd
from scipy import special

from soilkit import contracts, strata
from soilkit.constants import MIN_SAMPLES, OK
from soilkit.errors import ContractError
from soilkit.metrics.intervals import clusters, few_clusters, limits, ratio_draws

KEYS = ["model", "split"]
PLACES = ["sensor_id", "station_id", "network"]


def forecast_rows(predictions: pd.DataFrame) -> pd.DataFrame:
    """PIT, CRPS, spread and error of every row, its forecast a normal distribution.

    The PIT is the probability that the forecast gave to values below the observation; the CRPS is d
    (2 Phi(z) - 1) + s (2 phi(z) - 1 / sqrt(pi)), d = observed - predicted, s the std, z = d / s
    [1]_; the absolute error where s is zero. Raises ``ContractError`` without
    ``predicted_std_m3_m3``, or for a negative one.

    Returns
    -------
    DataFrame, the rows in their order: ``model, split, sensor_id, station_id, network``, ``pit``,
    ``crps_m3_m3``, ``spread_m3_m3`` (the std), ``error_m3_m3`` (predicted - observed) and
    ``status``

    References
    ----------
    .. [1] Gneiting and Raftery (2007), doi:10.1198/016214506000001437, equation 21
    """
    contracts.check(predictions, contracts.PREDICTIONS)
    if "predicted_std_m3_m3" not in predictions.columns:
        raise ContractError(
            "The predictions lack predicted_std_m3_m3, which calibration needs; there are "
            f"{', '.join(predictions.columns)}."
        )
    names = ["observed_m3_m3", "predicted_m3_m3", "predicted_std_m3_m3"]
    observed, predicted, std = predictions[names].to_numpy(float).T
    if n := int((std < 0).sum()):
        raise ContractError(f"predicted_std_m3_m3 is negative in {n} rows: is it a variance?")
    has_pair, has_spread = np.isfinite(observed) & np.isfinite(predicted), np.isfinite(std)
    ok = has_pair & has_spread
    values = np.full((3, len(predictions)), np.nan)
    values[:, ok] = *_pit_and_crps(observed[ok], predicted[ok], std=std[ok]), std[ok]
    table = predictions[KEYS + PLACES].reset_index(drop=True)
    table[["pit", "crps_m3_m3", "spread_m3_m3"]] = values.T
    table["error_m3_m3"] = np.where(has_pair, predicted - observed, np.nan)
    words = ["no finite pair", "no predicted spread"]
    return table.assign(status=np.select([~has_pair, ~has_spread], words, default=OK))


def _pit_and_crps(observed, predicted, *, std):
    """Of normal forecasts (row,); without spread z is infinite, or zero where it is right."""
    d = observed - predicted
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where((d == 0) & (std == 0), 0.0, d / std)
    pit = special.ndtr(z)
    with np.errstate(under="ignore"):
        bell = 2 * np.exp(-np.minimum(z * z, 1e3) / 2) / np.sqrt(2 * np.pi)
    return pit, d * (2 * pit - 1) + std * (bell - 1 / np.sqrt(np.pi))


# Reliability, spread against skill: means over sensors, drawn anew by cluster.

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def reliability(
    rows: pd.DataFrame,
    *,
    levels: tuple[float, ...] = LEVELS,
    stations: pd.DataFrame | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Nominal against observed coverage, of central intervals and of quantiles.

    ``kind`` "interval": the share of observations inside the central interval of that level;
    "quantile": the share at or below the quantile. Both are means over sensors with at least 13
    usable rows of ``forecast_rows``, so that a long record counts no more than a short one;
    intervals resample whole 2-degree blocks (networks without stations). Levels lie between 0 and
    1.

    Returns
    -------
    DataFrame: ``model, split, kind, nominal, observed, lower, upper``, ``is_consistent`` (the
    interval holds the nominal level), ``n, n_left_out, n_sensors, n_stations, n_clusters,
    is_small, status``
    """
    at = np.asarray(levels, float)
    if not ((at > 0) & (at < 1)).all():
        raise ContractError(f"Nominal levels lie between 0 and 1, found {tuple(levels)}.")
    labels = {"kind": np.repeat(["interval", "quantile"], len(at)), "nominal": np.tile(at, 2)}
    heads = [*KEYS, *labels, "observed", "lower", "upper", "is_consistent"]
    parts = []
    for (model, split), part in rows.groupby(KEYS, observed=True, sort=True):
        pit = part["pit"].to_numpy()[:, None]
        held = np.hstack([np.abs(2 * pit - 1) <= at, pit <= at]).astype(float)
        means = _sensor_means(part, held, stations=stations, seed=seed)
        parts.append(means.assign(model=model, split=split, **labels))
    if not parts:
        return pd.DataFrame(columns=heads)
    table = pd.concat(parts, ignore_index=True)
    consistent = table["nominal"].between(table["lower"], table["upper"])
    consistent = consistent.where(table["lower"].notna(), None).astype("boolean")
    table = table.assign(is_consistent=consistent)
    return table[[*heads, *(name for name in table.columns if name not in heads)]]


def spread_skill(
    rows: pd.DataFrame, *, stations: pd.DataFrame | None = None, n_bins: int = 10, seed: int = 0
) -> pd.DataFrame:
    """Root mean square error against root mean square spread, in bins of equally many rows.

    A calibrated spread lies on the 1:1 line in every bin [1]_: ``ratio`` = RMSE / spread is 1,
    above 1 where the model is too sure. The interval of the ratio resamples whole clusters. Columns
    are ``model, split, bin, spread_m3_m3, rmse_m3_m3, ratio, ratio_lower, ratio_upper, n,
    n_stations, n_clusters, status``.

    References
    ----------
    .. [1] Fortin et al. (2014), doi:10.1175/JHM-D-14-0008.1
    """
    lines = []
    for key, part in rows.groupby(KEYS, observed=True, sort=True):
        part = part[part["status"] == OK]
        n_parts = min(n_bins, part["spread_m3_m3"].nunique())
        rank = part["spread_m3_m3"].rank(method="average") - 0.5
        numbers = np.floor(rank * n_parts / max(len(part), 1)).astype(int)
        for number, rows_of in part.groupby(numbers.to_numpy(), sort=True):
            line = _bin(rows_of, stations, seed)
            lines.append(dict(zip(KEYS, key, strict=True)) | {"bin": int(number) + 1} | line)
    names = ["spread_m3_m3", "rmse_m3_m3", "ratio", "ratio_lower", "ratio_upper"]
    counts = ["n", "n_stations", "n_clusters", "status"]
    return pd.DataFrame(lines, columns=[*KEYS, "bin", *names, *counts])


def _sensor_means(part, values, *, stations, seed):
    """Means over sensors of each column of ``values`` (row, column), with limits and counts."""
    ok = (part["status"] == OK).to_numpy()
    codes, _ = pd.factorize(part["sensor_id"].astype("str")[ok])
    n = np.bincount(codes)
    sums = np.stack([np.bincount(codes, v, minlength=len(n)) for v in values[ok].T], axis=1)
    first = np.unique(codes, return_index=True)[1]
    sensors = part[ok].iloc[first][n >= MIN_SAMPLES]
    means = (sums / n[:, None])[n >= MIN_SAMPLES]  # (sensor, column)
    cluster = clusters(sensors, stations)
    n_stations, n_clusters = sensors["station_id"].nunique(), len(set(cluster))
    observed = lower = upper = np.full(values.shape[1], np.nan)
    status = f"no sensor with {MIN_SAMPLES} usable rows"
    if len(sensors):
        observed, status = means.mean(axis=0), _status(n_stations, n_clusters)
    if status == OK:
        rng = np.random.default_rng(seed)
        draws = ratio_draws(means, np.ones((len(means), 1)), cluster=cluster, rng=rng)
        lower, upper = limits(draws, n_clusters=n_clusters)
    n_used = int(n[n >= MIN_SAMPLES].sum())
    return pd.DataFrame(
        {
            "observed": observed, "lower": lower, "upper": upper, "n": n_used,
            "n_left_out": len(part) - n_used, "n_sensors": len(sensors),
            "n_stations": n_stations, "n_clusters": n_clusters,
            "is_small": n_stations < strata.MIN_STATIONS, "status": status,
        }
    )  # fmt: skip


def _status(n_stations, n_clusters):
    if n_stations < strata.MIN_STATIONS:
        return f"no interval: {n_stations} stations < {strata.MIN_STATIONS}"
    return few_clusters(n_clusters)


def _bin(rows, stations, seed):
    cluster = clusters(rows, stations)
    error2, spread2 = rows["error_m3_m3"].to_numpy() ** 2, rows["spread_m3_m3"].to_numpy() ** 2
    n_stations, n_clusters = rows["station_id"].nunique(), len(set(cluster))
    rng = np.random.default_rng(seed)
    draws = ratio_draws(error2, spread2, cluster=cluster, rng=rng)
    (lower,), (upper,) = np.sqrt(limits(draws, n_clusters=n_clusters))
    spread, rmse = np.sqrt(spread2.mean()), np.sqrt(error2.mean())
    status = _status(n_stations, n_clusters)
    if status == OK and not np.isfinite(lower):
        status = "no ratio: the spread is zero"
    return {
        "spread_m3_m3": spread, "rmse_m3_m3": rmse, "ratio": rmse / spread if spread else np.nan,
        "ratio_lower": lower, "ratio_upper": upper, "n": len(rows),
        "n_stations": n_stations, "n_clusters": n_clusters, "status": status,
    }  # fmt: skip


# Split-conformal widths for stations never seen: whole stations are exchangeable, rows not.


def row_threshold(scores, groups, *, coverage):
    """The score below which a random reading of a new group lies with probability ``coverage``.

    The ``coverage`` quantile of all scores, each weighing 1 / ((K + 1) N_k) in a group of N_k
    readings, with the missing 1 / (K + 1) at infinity [1]_.

    Parameters
    ----------
    scores : array (row,)
    groups : array (row,), names
    coverage : float

    References
    ----------
    .. [1] Lee, Barber and Willett (2023), arXiv:2306.06342, equation 4
    """
    codes, names = pd.factorize(np.asarray(groups))
    if not 0 < coverage < 1:
        raise ContractError(f"A coverage lies between 0 and 1, found {coverage}.")
    exact = Fraction(str(coverage))
    wanted = math.ceil(exact / (1 - exact))
    if len(names) < wanted:
        raise ContractError(
            f"Intervals of {coverage:.0%} for unseen groups need {wanted} calibration "
            f"groups with a finite residual, found {len(names)}. Ask for less, or hold out more "
            "stations."
        )
    order = np.argsort(scores, kind="stable")
    weights = 1 / np.bincount(codes)[codes][order] / (len(names) + 1)
    # Sums of weights carry rounding: an exact hit must count as one.
    return np.asarray(scores)[order][np.argmax(np.cumsum(weights) >= coverage - 1e-12)]

"""Forecasts with a spread against what was observed: PIT and CRPS of every row."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import special, stats

from soilkit import contracts
from soilkit.errors import ContractError
from soilkit.metrics.stations import OK

NO_PAIR, NO_SPREAD = "no finite pair", "no predicted spread"
KEYS = ["model", "split"]
PLACES = ["sensor_id", "station_id", "network"]


def crps_gaussian(observed, predicted, *, std):
    """Continuous ranked probability score of a normal distribution, same unit as its arguments.

    d (2 Phi(z) - 1) + s (2 phi(z) - 1 / sqrt(pi)), d = observed - predicted, z = d / s [1]_; the
    absolute error where s is zero.

    References
    ----------
    .. [1] Gneiting and Raftery (2007), doi:10.1198/016214506000001437, equation 21

    Examples
    --------
    >>> crps_gaussian(np.array([0.3]), np.array([0.2]), std=np.array([0.0]))
    array([0.1])
    """
    d = np.asarray(observed, float) - predicted
    z = _z(d, std)
    with np.errstate(under="ignore"):
        bell = 2 * np.exp(-np.minimum(z * z, 1e3) / 2) / np.sqrt(2 * np.pi)
    return d * (2 * special.ndtr(z) - 1) + std * (bell - 1 / np.sqrt(np.pi))


def crps_quantiles(observed, quantiles, *, levels):
    """CRPS as twice the quantile loss integrated over the levels [1]_, same unit.

    Each level stands for the levels nearer to it than to its neighbours, so K levels at
    (k - 1/2) / K weigh alike; few levels score a coarse forecast, and the tails beyond the
    outermost level count as that level.

    Parameters
    ----------
    observed : array (row,)
    quantiles : array (row, level), rising along levels
    levels : array (level,), in (0, 1), rising

    References
    ----------
    .. [1] Gneiting and Ranjan (2011), doi:10.1198/jbes.2010.08110, equation 8
    """
    levels = np.asarray(levels, float)
    edges = np.concatenate([[0.0], (levels[1:] + levels[:-1]) / 2, [1.0]])
    d = np.asarray(observed, float)[:, None] - quantiles  # (row, level)
    return (2 * np.maximum(levels * d, (levels - 1) * d)) @ np.diff(edges)


def pit_gaussian(observed, predicted, *, std):
    """Probability that the forecast gave to values below the observation, 0-1.

    A forecast without spread puts all of it on one side, or half where it is exactly right.
    """
    return special.ndtr(_z(np.asarray(observed, float) - predicted, std))


def pit_quantiles(observed, quantiles, *, levels, rng):
    """Probability integral transform of a forecast known at some quantiles only, 0-1.

    Drawn uniformly between the levels around the observation [1]_: exactly uniform for a
    calibrated forecast, whatever lies between and beyond its quantiles.

    Parameters
    ----------
    observed : array (row,)
    quantiles : array (row, level), rising along levels
    levels : array (level,), in (0, 1), rising
    rng : numpy.random.Generator

    References
    ----------
    .. [1] Czado, Gneiting and Held (2009), doi:10.1111/j.1541-0420.2009.01191.x
    """
    edges = np.concatenate([[0.0], np.asarray(levels, float), [1.0]])
    bin_of = (np.asarray(observed, float)[:, None] > quantiles).sum(axis=1)
    return rng.uniform(edges[bin_of], edges[bin_of + 1])


def forecast_rows(
    predictions: pd.DataFrame, *, quantiles: Mapping[float, str] | None = None, seed: int = 0
) -> pd.DataFrame:
    """PIT, CRPS, spread and error of every row, from its predicted std or its quantiles.

    Parameters
    ----------
    predictions : table of that contract with ``predicted_std_m3_m3``, or with quantile columns
    quantiles : {level: column} such as ``{0.05: "q05", 0.5: "q50", 0.95: "q95"}``, m3 m-3
    seed : int, for the PIT between quantiles

    Returns
    -------
    DataFrame, the rows in their order: ``model, split, sensor_id, station_id, network``, ``pit``,
    ``crps_m3_m3``, ``spread_m3_m3`` (the std; of quantiles the outermost distance, as the std of a
    normal distribution that has it), ``error_m3_m3`` (predicted - observed) and ``status``

    Raises
    ------
    ContractError
        Without a spread column, for a negative std, for quantiles that cross.
    """
    contracts.check(predictions, contracts.PREDICTIONS)
    observed = predictions["observed_m3_m3"].to_numpy(float)
    predicted = predictions["predicted_m3_m3"].to_numpy(float)
    levels, spread = _spread(predictions, quantiles)  # (row, level) or (row, 1)
    has_pair = np.isfinite(observed) & np.isfinite(predicted)
    has_spread = np.isfinite(spread).all(axis=1)
    ok = has_pair & has_spread
    values = np.full((3, len(predictions)), np.nan)
    x, y, s = observed[ok], predicted[ok], spread[ok]
    if levels is None:
        std = s[:, 0]
        values[:, ok] = pit_gaussian(x, y, std=std), crps_gaussian(x, y, std=std), std
    else:
        rng = np.random.default_rng(seed)
        std = (s[:, -1] - s[:, 0]) / np.diff(stats.norm.ppf(levels[[0, -1]]))
        pits = pit_quantiles(x, s, levels=levels, rng=rng)
        values[:, ok] = pits, crps_quantiles(x, s, levels=levels), std
    table = predictions[KEYS + PLACES].reset_index(drop=True)
    table[["pit", "crps_m3_m3", "spread_m3_m3"]] = values.T
    table["error_m3_m3"] = np.where(has_pair, predicted - observed, np.nan)
    table["status"] = np.select([~has_pair, ~has_spread], [NO_PAIR, NO_SPREAD], default=OK)
    return table


def _z(d, std):
    """d / std; of a forecast without spread minus or plus infinity, or zero where it is right."""
    with np.errstate(divide="ignore", invalid="ignore"):
        z = d / np.asarray(std, float)
    return np.where((d == 0) & (np.asarray(std) == 0), 0.0, z)


def _spread(predictions, quantiles):
    """Levels (None for a std) and the columns that tell the spread, (row, column)."""
    names = ["predicted_std_m3_m3"] if quantiles is None else list(quantiles.values())
    missing = [name for name in names if name not in predictions.columns]
    if missing:
        raise ContractError(
            f"The predictions lack {', '.join(missing)}. Calibration needs predicted_std_m3_m3, or "
            f"quantiles={{0.05: 'q05', ...}}; there are {', '.join(predictions.columns)}."
        )
    values = predictions[names].to_numpy(float)
    if quantiles is None:
        n = int((values < 0).sum())
        if n:
            raise ContractError(f"predicted_std_m3_m3 is negative in {n} rows: is it a variance?")
        return None, values
    levels = np.array(list(quantiles), float)
    if len(levels) < 2 or levels.min() <= 0 or levels.max() >= 1 or (np.diff(levels) <= 0).any():
        raise ContractError(f"Two or more levels in (0, 1), rising, are needed; found {levels}.")
    n = int((np.diff(values, axis=1) < 0).any(axis=1).sum())
    if n:
        raise ContractError(f"The quantiles cross in {n} rows. Sort each row's quantiles first.")
    return levels, values

"""What came before: temporal context of predictors, station by station, from predictors alone.

Two kinds are kept apart. A *nowcast* column uses the time of its row and earlier ones; a
*retrospective* column uses the station's whole series. No column uses soil moisture, so a station
without a probe has all of them.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from soilkit import contracts
from soilkit.errors import ContractError
from soilkit.features import DAYS_PER_YEAR

GIVEN, NOWCAST, RETROSPECTIVE = "given", "nowcast", "retrospective"
CLOUD_B2 = 2500.0  # stored L1C number, reflectance 0.25: brighter blue is cloud or snow
REFLECTANCE_PER_NUMBER = 1e-4
LEAST_WEIGHT = 1e-3  # a mean of known values with less weight than this is unknown
FEW = 5.0  # windows that halve trust in a deviation from a short past
# Normalised differences (first - second) / (first + second) of Sentinel-2 bands.
INDICES = {
    "NDVI": ("B8", "B4"),
    "NDMI": ("B8A", "B11"),
    "NBR": ("B8A", "B12"),
    "MNDWI": ("B3", "B11"),
}
# The series that get context, where a table has them, and their units.
SERIES = (
    {"smap_ssm": "mm", "sentinel1_VV": "dB", "sentinel1_VH": "dB", "sentinel1_ratio": "dB"}
    | {f"sentinel2_{name}": "1" for name in (*INDICES, "STR")}
    | {f"sentinel2_{band}": "stored number" for band in ("B4", "B11", "B12")}
)
PAST_DAYS = (10, 30, 90)  # half-lives of running means
NEAR_DAYS = (8, 20, 45)  # standard deviations of two-sided means
SEASON_DAYS = 20.0  # the same on the circle of the year
MEANINGS = {
    "past{}": (NOWCAST, "mean of past and present, weight 2^(-age / {} days)"),
    "previous": (NOWCAST, "mean of the strict past, weight 2^(-age / 3 days)"),
    "change": (NOWCAST, "x minus the mean of the strict past, weight 2^(-age / 10 days)"),
    "mean_so_far": (NOWCAST, "plain mean of past and present"),
    "std_so_far": (NOWCAST, "standard deviation of past and present"),
    "above": (NOWCAST, "x minus the plain mean so far"),
    "rank": (NOWCAST, "(x - mean so far) / deviation so far, times n / (n + 5)"),
    "station_mean": (RETROSPECTIVE, "the station's mean"),
    "station_std": (RETROSPECTIVE, "the station's standard deviation"),
    "z": (RETROSPECTIVE, "(x - mean) / std of the station"),
    "near{}": (RETROSPECTIVE, "z averaged about the time, Gaussian of {} days"),
    "coming": (RETROSPECTIVE, "z of the strict future, weight 2^(-time ahead / 5 days)"),
    "z_past{}": (RETROSPECTIVE, "z of past and present, weight 2^(-age / {} days)"),
    "z_previous": (RETROSPECTIVE, "z of the strict past, weight 2^(-age / 3 days)"),
    "z_season": (RETROSPECTIVE, "z averaged over the same season of all years, Gaussian of 20 d"),
    "z_unusual": (RETROSPECTIVE, "z minus z_season"),
}  # fmt: skip


class Widened(NamedTuple):
    """Features with context, in the samples' row order, and what each column is.

    ``columns`` has ``column``, ``kind`` ("given", "nowcast" or "retrospective"), ``unit`` and
    ``meaning``.
    """

    features: pd.DataFrame
    columns: pd.DataFrame

    def names(self, kind: str) -> list[str]:
        """Columns that a model of this kind may see; a retrospective one may see all."""
        seen = {NOWCAST: [GIVEN, NOWCAST], RETROSPECTIVE: [GIVEN, NOWCAST, RETROSPECTIVE]}
        if kind not in seen:
            raise ContractError(f"A kind is {NOWCAST!r} or {RETROSPECTIVE!r}, found {kind!r}.")
        return self.columns.loc[self.columns["kind"].isin(seen[kind]), "column"].tolist()


def widen(samples: pd.DataFrame, features: pd.DataFrame) -> Widened:
    """Cloud-free optics and indices, and the context in time of each series at its station.

    Each series x of ``SERIES`` that the table has gives the columns ``x_<suffix>`` of ``MEANINGS``,
    averages over known values only: a gap is filled by what is known near it, and stays NaN where
    nothing is.

    Parameters
    ----------
    samples : table with sample_id, station_id and time
    features : table with sample_id and one column a predictor, in the samples' row order

    Returns
    -------
    Widened

    Raises
    ------
    ContractError
        If the features' rows are not those of the samples.
    """
    if features["sample_id"].astype(str).tolist() != samples["sample_id"].astype(str).tolist():
        raise ContractError("Features and samples differ in their rows. Give both in one order.")
    features = features.reset_index(drop=True)
    base = derived(without_clouds(features))
    given = set(features.columns)
    told = [(c, GIVEN if c in given else NOWCAST, SERIES.get(c, ""), "of the same time")
            for c in base.columns.drop("sample_id")]  # fmt: skip
    series = [name for name in SERIES if name in base]
    context = _by_station(samples, base[series].to_numpy(float))
    new = {f"{x}_{suffix}": v[:, i] for suffix, v in context.items() for i, x in enumerate(series)}
    told += [_tell(x, suffix) for suffix in context for x in series]
    table = pd.concat([base, pd.DataFrame(new, index=base.index)], axis=1)
    contracts.check(table, contracts.FEATURES)
    return Widened(table, pd.DataFrame(told, columns=["column", "kind", "unit", "meaning"]))


def without_clouds(features: pd.DataFrame) -> pd.DataFrame:
    """Features with Sentinel-2 unknown where its blue band says cloud or snow."""
    if "sentinel2_B2" not in features:
        return features
    optics = [c for c in features if c.startswith("sentinel2_")]
    cloudy = features["sentinel2_B2"] > CLOUD_B2
    return features.assign(**{c: features[c].astype(float).mask(cloudy) for c in optics})


def derived(features: pd.DataFrame) -> pd.DataFrame:
    """Features with indices of the same time, where their bands are there.

    NDVI, NDMI, NBR and MNDWI are normalised differences; STR is the shortwave transformed
    reflectance (1 - R)^2 / (2 R) of B12 [1]_, linear in surface moisture; the radar ratio is
    VH - VV, dB.

    References
    ----------
    .. [1] Sadeghi et al. (2015), doi:10.1016/j.rse.2015.04.007
    """
    new = {}
    for name, (first, second) in INDICES.items():
        a, b = (features.get(f"sentinel2_{band}") for band in (first, second))
        if a is not None and b is not None:
            new[f"sentinel2_{name}"] = (a - b) / (a + b).where(a + b > 0)
    if "sentinel2_B12" in features:
        reflectance = features["sentinel2_B12"].clip(lower=1) * REFLECTANCE_PER_NUMBER
        new["sentinel2_STR"] = (1 - reflectance) ** 2 / (2 * reflectance)
    if {"sentinel1_VV", "sentinel1_VH"} <= set(features):
        new["sentinel1_ratio"] = features["sentinel1_VH"] - features["sentinel1_VV"]
    return features.assign(**{name: v for name, v in new.items() if name not in features})


def antecedent_precipitation(precipitation_mm, *, days=None, retention: float = 0.9) -> np.ndarray:
    """Antecedent precipitation index API(t) = retention^(days since) API(t - 1) + P(t), mm.

    A bucket that loses a fixed share a day [1]_. An unknown day counts as dry.

    Parameters
    ----------
    precipitation_mm : array (time, ...), in order of time
    days : array (time,), day numbers; None means one a day
    retention : float, share kept a day

    Returns
    -------
    array (time, ...), mm

    References
    ----------
    .. [1] Kohler and Linsley (1951), Weather Bureau Research Paper 34

    Examples
    --------
    >>> antecedent_precipitation([10.0, 0.0, 1.0], retention=0.5)
    array([10. ,  5. ,  3.5])
    """
    rain = np.nan_to_num(np.asarray(precipitation_mm, dtype=float))
    days = np.arange(len(rain)) if days is None else np.asarray(days, dtype=float)
    kept = retention ** np.diff(days, prepend=days[:1])
    index, store = np.zeros_like(rain), np.zeros(rain.shape[1:])
    for i in range(len(rain)):
        store = kept[i] * store + rain[i]
        index[i] = store
    return index


def _by_station(samples: pd.DataFrame, values: np.ndarray) -> dict[str, np.ndarray]:
    """Context (row, series) by suffix; a time that stands twice at a station counts once."""
    station = samples["station_id"].astype(str).to_numpy()
    days = samples["time"].to_numpy().astype("datetime64[s]").astype(float) / 86_400
    out: dict[str, np.ndarray] = {}
    for rows in pd.Series(np.arange(len(station))).groupby(station).indices.values():
        times, first, back = np.unique(days[rows], return_index=True, return_inverse=True)
        now, later = (
            _nowcast(values[rows[first]], times),
            _retrospective(values[rows[first]], times),
        )
        for suffix, part in (now | later).items():
            out.setdefault(suffix, np.full(values.shape, np.nan))[rows] = part[back]
    return out


def _nowcast(x: np.ndarray, days: np.ndarray) -> dict[str, np.ndarray]:
    """x (time, series); column t uses rows up to t only."""
    age = days[:, None] - days[None, :]  # (time, earlier time)
    past, strict = (age >= 0).astype(float), (age > 0).astype(float)
    out = {f"past{h}": _mean(past * _decay(age, h), x) for h in PAST_DAYS}
    mean, n = _mean(past, x), past @ np.isfinite(x)
    spread = np.sqrt(np.maximum(_mean(past, x**2) - mean**2, 0))
    with np.errstate(invalid="ignore", divide="ignore"):
        rank = np.where(spread > 0, (x - mean) / spread, np.where(np.isfinite(x), 0.0, np.nan))
    return out | {
        "previous": _mean(strict * _decay(age, 3), x),
        "change": x - _mean(strict * _decay(age, 10), x),
        "mean_so_far": mean,
        "std_so_far": spread,
        "above": x - mean,
        "rank": rank * n / (n + FEW),
    }


def _retrospective(x: np.ndarray, days: np.ndarray) -> dict[str, np.ndarray]:
    """x (time, series); every column may use the whole series."""
    age = days[:, None] - days[None, :]
    past, strict, ahead = age >= 0, age > 0, age < 0
    mean = _mean(np.ones_like(age), x)
    std = np.sqrt(_mean(np.ones_like(age), (x - mean) ** 2))
    z = (x - mean) / np.where(std > 1e-6, std, np.nan)
    apart = np.abs(age) % DAYS_PER_YEAR
    season = _mean(_bell(np.minimum(apart, DAYS_PER_YEAR - apart), SEASON_DAYS), z)
    return (
        {"station_mean": mean, "station_std": std, "z": z}
        | {f"near{h}": _mean(_bell(age, h), z) for h in NEAR_DAYS}
        | {"coming": _mean(ahead * _decay(-age, 5), z)}
        | {f"z_past{h}": _mean(past * _decay(age, h), z) for h in PAST_DAYS[:2]}
        | {"z_previous": _mean(strict * _decay(age, 3), z)}
        | {"z_season": season, "z_unusual": z - season}
    )


def _decay(age: np.ndarray, half_life: float) -> np.ndarray:
    return 0.5 ** (np.maximum(age, 0) / half_life)


def _bell(age: np.ndarray, sigma: float) -> np.ndarray:
    return np.exp(-0.5 * (age / sigma) ** 2)


def _mean(weights: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Weighted means (time, series) over known values, weights (time, other time)."""
    known = np.isfinite(x)
    total = weights @ known
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > LEAST_WEIGHT, weights @ np.where(known, x, 0.0) / total, np.nan)


def _tell(series: str, suffix: str) -> tuple[str, str, str, str]:
    stem = suffix.rstrip("0123456789")
    kind, meaning = MEANINGS.get(suffix) or MEANINGS[stem + "{}"]
    plain = kind == NOWCAST and suffix != "rank" or suffix.startswith("station_")
    unit = SERIES[series] if plain else "1"
    return f"{series}_{suffix}", kind, unit, meaning.format(suffix[len(stem) :])

"""What came before: temporal context of predictors and of weather, station by station."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from soilkit import contracts, units
from soilkit.errors import ContractError
from soilkit.export.features import DAYS_PER_YEAR, season_point

GIVEN, NOWCAST, RETROSPECTIVE = "given", "nowcast", "retrospective"
CLOUD_B2 = 2500.0  # stored L1C number, reflectance 0.25: brighter blue is cloud or snow
REFLECTANCE_PER_NUMBER = 1e-4
LEAST_WEIGHT = 1e-3  # a mean of known values with less weight than this is unknown
FEW = 5.0  # windows that halve trust in a deviation from a short past
# Normalised differences (first - second) / (first + second) of Sentinel-2 bands.
INDICES = {
    "NDVI": ("B8", "B4"), "NDMI": ("B8A", "B11"), "NBR": ("B8A", "B12"), "MNDWI": ("B3", "B11"),
}  # fmt: skip
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
    averages over known values only, NaN where nothing is known near. ``samples`` have sample_id,
    station_id and time; ``features`` stand in their row order, or ``ContractError`` is raised.
    """
    if features["sample_id"].astype(str).tolist() != samples["sample_id"].astype(str).tolist():
        raise ContractError("Features and samples differ in their rows. Give both in one order.")
    features = features.reset_index(drop=True)
    base = derived(without_clouds(features))
    given = set(features.columns)
    meanings = [(c, GIVEN if c in given else NOWCAST, SERIES.get(c, ""), "of the same time")
                for c in base.columns.drop("sample_id")]  # fmt: skip
    series = [name for name in SERIES if name in base]
    context = _by_station(samples, base[series].to_numpy(float))
    new = {f"{x}_{suffix}": v[:, i] for suffix, v in context.items() for i, x in enumerate(series)}
    meanings += [_meaning(x, suffix) for suffix in context for x in series]
    table = pd.concat([base, pd.DataFrame(new, index=base.index)], axis=1)
    contracts.check(table, contracts.FEATURES)
    return Widened(table, pd.DataFrame(meanings, columns=["column", "kind", "unit", "meaning"]))


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
            new[f"sentinel2_{name}"] = units.normalised_difference(a, b)
    if "sentinel2_B12" in features:
        reflectance = features["sentinel2_B12"].clip(lower=1) * REFLECTANCE_PER_NUMBER
        new["sentinel2_STR"] = (1 - reflectance) ** 2 / (2 * reflectance)
    if {"sentinel1_VV", "sentinel1_VH"} <= set(features):
        new["sentinel1_ratio"] = features["sentinel1_VH"] - features["sentinel1_VV"]
    return features.assign(**{name: v for name, v in new.items() if name not in features})


def antecedent_precipitation(precipitation_mm, *, retention: float) -> np.ndarray:
    """Antecedent precipitation index (day, ...), API(t) = retention API(t - 1) + P(t), mm.

    A bucket that keeps the share ``retention`` a day [1]_. An unknown day counts as dry.

    References
    ----------
    .. [1] Kohler and Linsley (1951), Weather Bureau Research Paper 34

    Examples
    --------
    >>> antecedent_precipitation([10.0, 0.0, 1.0], retention=0.5)
    array([10. ,  5. ,  3.5])
    """
    from scipy.signal import lfilter  # here: it takes as long to load as pandas

    rain = np.nan_to_num(np.asarray(precipitation_mm, dtype=float))
    return lfilter([1.0], [1.0, -retention], rain, axis=0)


def _by_station(samples: pd.DataFrame, values: np.ndarray) -> dict[str, np.ndarray]:
    """Context (row, series) by suffix; a time that stands twice at a station counts once."""
    station = samples["station_id"].astype(str).to_numpy()
    days = samples["time"].to_numpy().astype("datetime64[s]").astype(float) / 86_400
    out: dict[str, np.ndarray] = {}
    for rows in pd.Series(np.arange(len(station))).groupby(station).indices.values():
        times, first, back = np.unique(days[rows], return_index=True, return_inverse=True)
        series = values[rows[first]]
        for suffix, part in (_nowcast(series, times) | _retrospective(series, times)).items():
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
        "mean_so_far": mean, "std_so_far": spread, "above": x - mean, "rank": rank * n / (n + FEW),
    }  # fmt: skip


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


def _meaning(series: str, suffix: str) -> tuple[str, str, str, str]:
    stem = suffix.rstrip("0123456789")
    kind, meaning = MEANINGS.get(suffix) or MEANINGS[stem + "{}"]
    plain = kind == NOWCAST and suffix != "rank" or suffix.startswith("station_")
    unit = SERIES[series] if plain else "1"
    return f"{series}_{suffix}", kind, unit, meaning.format(suffix[len(stem) :])


# Weather of the past as predictors: what fell, what the air asked for, what a bucket kept.

RETENTIONS = (0.70, 0.80, 0.85, 0.90, 0.93, 0.95, 0.97, 0.98, 0.99)  # of the index, a day
SUM_DAYS = (3, 7, 14, 30, 90)
CAPACITIES_MM = (20.0, 60.0, 150.0)
LEAST_KNOWN = 0.8  # of a window's days, for its mean to be known
LEAST_DAYS = 292  # four fifths of a year, for a mean so far to tell a climate
SNOW_BELOW_C, MELT_MM_C = 1.0, 3.0  # degree-day snow: ours, within the usual ranges
LATENT_HEAT_MJ_KG, SOLAR_MJ_M2_MIN = 2.45, 0.0820
WET_MM = 2.0  # a day with as much rain ends a dry spell


class Weather(NamedTuple):
    """Daily weather (day, station), NaN where unknown, of ``days`` (day,) at ``latitude``."""

    days: np.ndarray
    latitude: np.ndarray
    rain_mm: np.ndarray
    mean_c: np.ndarray
    low_c: np.ndarray
    high_c: np.ndarray
    humidity_percent: np.ndarray


def extraterrestrial_mm(day_of_year, latitude) -> np.ndarray:
    """Solar radiation above the air as the water it could evaporate, mm d-1, (day, station).

    Of the day of year (day,) and the latitude (station,), degrees: Allen et al. (1998), FAO
    Irrigation and Drainage Paper 56, equations 20 to 25.

    Examples
    --------
    >>> extraterrestrial_mm(np.array([246]), np.array([-20.0])).round(1)  # FAO-56, example 8
    array([[13.1]])
    """
    angle = 2 * np.pi * np.asarray(day_of_year, dtype=float)[:, None] / 365
    at = np.radians(np.asarray(latitude, dtype=float))[None, :]
    tilt = 0.409 * np.sin(angle - 1.39)
    sunset = np.arccos(np.clip(-np.tan(at) * np.tan(tilt), -1, 1))
    height = sunset * np.sin(at) * np.sin(tilt) + np.cos(at) * np.cos(tilt) * np.sin(sunset)
    distance = 1 + 0.033 * np.cos(angle)
    return 24 * 60 / np.pi * SOLAR_MJ_M2_MIN * distance * height / LATENT_HEAT_MJ_KG


def hargreaves_mm(mean_c, range_c, *, radiation_mm) -> np.ndarray:
    """Potential evapotranspiration 0.0023 Ra (T + 17.8) sqrt(Tmax - Tmin), mm d-1, not below 0.

    Of air temperature, its daily range [degrees C] and ``extraterrestrial_mm``: Hargreaves and
    Samani (1985), doi:10.13031/2013.26773.

    Examples
    --------
    >>> hargreaves_mm(20.0, 16.0, radiation_mm=10.0).round(3)
    np.float64(3.478)
    """
    spread = np.sqrt(np.maximum(range_c, 0))
    return np.maximum(0.0023 * radiation_mm * (mean_c + 17.8) * spread, 0)


def snowpack(rain_mm, mean_c) -> tuple[np.ndarray, np.ndarray]:
    """A degree-day snowpack: water held as snow, and rain plus melt of each day, mm.

    Below 1 degree C what falls is kept; above 0 degrees C up to 3 mm melt a degree and day.
    Unknown weather neither falls nor melts.
    """
    fall, warm = np.nan_to_num(rain_mm), np.nan_to_num(mean_c)
    snow = np.where(np.isfinite(mean_c) & (mean_c < SNOW_BELOW_C), fall, 0.0)
    melting = MELT_MM_C * np.maximum(warm, 0)
    held, water = np.zeros_like(fall), fall - snow
    store = np.zeros(fall.shape[1])
    for t in range(len(fall)):
        store = store + snow[t]
        melt = np.minimum(store, melting[t])
        store = store - melt
        held[t] = store
        water[t] += melt
    return held, water


def bucket(water_mm, demand_mm, *, capacity_mm: float) -> np.ndarray:
    """Filling (0 to 1) of a bucket that rain and melt fill and evapotranspiration empties.

    It loses demand times its filling a day, and spills what exceeds its capacity. It starts half
    full. An unknown demand is the last known one.
    """
    water = np.nan_to_num(water_mm)
    demand = pd.DataFrame(demand_mm).ffill().fillna(0.0).to_numpy()
    filling, out = np.full(water.shape[1], 0.5), np.zeros_like(water)
    for t in range(len(water)):
        filling = filling * np.exp(-demand[t] / capacity_mm) + water[t] / capacity_mm
        filling = np.minimum(filling, 1.0)
        out[t] = filling
    return out


def past_mean(values, days: int) -> np.ndarray:
    """Mean of a day and the ``days`` - 1 before it; NaN where too few of them are known."""
    least = int(np.ceil(LEAST_KNOWN * days))
    return pd.DataFrame(values).rolling(days, min_periods=least).mean().to_numpy()


def mean_so_far(values) -> np.ndarray:
    """Mean of a day and all before it; NaN until 292 days are known."""
    return pd.DataFrame(values).expanding(LEAST_DAYS).mean().to_numpy()


def build(weather: Weather) -> dict[str, np.ndarray]:
    """Every predictor (day, station) that weather gives, by name.

    Rain (today's, sums, antecedent precipitation indices, days since 2 mm fell), air temperature
    (mean, range, warm degree-days), humidity, demand of the air, a snowpack, three buckets, the
    climate so far (means of at least 292 days), and three series less their mean so far.
    """
    rain, mean = weather.rain_mm, weather.mean_c
    day_of_year = pd.DatetimeIndex(weather.days).dayofyear.to_numpy()
    radiation = extraterrestrial_mm(day_of_year, weather.latitude)
    spread = weather.high_c - weather.low_c
    demand = hargreaves_mm(mean, spread, radiation_mm=radiation)
    held, water = snowpack(rain, mean)
    indices = {f"api_{round(100 * k)}": antecedent_precipitation(rain, retention=k)
               for k in RETENTIONS}  # fmt: skip
    out = {"rain_mm": rain, **indices, "dry_days": _days_since(rain >= WET_MM)}
    out |= {f"rain_{n}d_mm": n * past_mean(rain, n) for n in SUM_DAYS}
    out |= {"air_c": mean, "air_range_c": spread, "demand_mm": demand}
    out |= {"snow_mm": held, "water_mm": water, "water_7d_mm": 7 * past_mean(water, 7)}
    out |= {f"air_{n}d_c": past_mean(mean, n) for n in (7, 30)}
    out["degree_days_30"] = 30 * past_mean(np.maximum(mean, 0), 30)
    out |= {f"humidity_{n}d_percent": past_mean(weather.humidity_percent, n) for n in (1, 7, 30)}
    out |= {f"demand_{n}d_mm": n * past_mean(demand, n) for n in (7, 30, 90)}
    out |= {f"surplus_{n}d_mm": n * past_mean(rain - demand, n) for n in (30, 90)}
    out |= {f"bucket_{c:.0f}": bucket(water, demand, capacity_mm=c) for c in CAPACITIES_MM}
    climate = {"rain": rain, "air": mean, "air_range": spread, "demand": demand, "bucket_60":
               out["bucket_60"], "humidity": weather.humidity_percent, "snow": held}  # fmt: skip
    out |= {f"{name}_mean_so_far": mean_so_far(v) for name, v in climate.items()}
    out["dryness_so_far"] = out["demand_mean_so_far"] / np.maximum(out["rain_mean_so_far"], 0.05)
    for name in ("bucket_20", "bucket_60", "air_7d_c"):
        out[f"{name}_above"] = out[name] - mean_so_far(out[name])
    return out | season_point(np.broadcast_to(weather.days[:, None], rain.shape))


def _days_since(event: np.ndarray) -> np.ndarray:
    """Days since an event (day, station), at most 60, and 60 where none was."""
    at = np.arange(len(event))[:, None]
    last = np.maximum.accumulate(np.where(event, at, -60), axis=0)
    return np.minimum(at - last, 60).astype(float)

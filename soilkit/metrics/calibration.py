"""Does a predicted spread mean what it says: PIT, CRPS, reliability, conformal intervals."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import pandas as pd
from scipy import special, stats

from soilkit import contracts, strata
from soilkit.errors import ContractError
from soilkit.metrics import intervals as bootstrap
from soilkit.metrics.intervals import cluster_names, limits, ratio_draws
from soilkit.metrics.scores import MIN_SAMPLES, OK, classes_of

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


# Does a predicted spread mean what it says: reliability, sharpness, spread against skill.

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def reliability(
    rows: pd.DataFrame,
    *,
    levels: tuple[float, ...] = LEVELS,
    stations: pd.DataFrame | None = None,
    by: str | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Nominal against observed coverage, of central intervals and of quantiles, by stratum.

    ``kind`` "interval": the share of observations inside the central interval of that level;
    "quantile": the share at or below the quantile. Both are means over sensors with at least 13
    usable rows, so that a long record counts no more than a short one; intervals resample whole
    2-degree blocks (networks without stations). From quantile columns only the levels that they
    have are forecasts; ask for those.

    Parameters
    ----------
    rows : from ``forecast_rows``
    levels : nominal levels, 0-1
    stations : stations table, for places and strata
    by : column of either table that makes the strata
    seed : int

    Returns
    -------
    DataFrame: ``model, split``, the stratum, ``kind, nominal, observed, lower, upper``,
    ``is_consistent`` (the interval holds the nominal level), ``n, n_left_out, n_sensors,
    n_stations, n_clusters, is_small, status``
    """
    levels_ = np.asarray(levels, float)
    if not ((levels_ > 0) & (levels_ < 1)).all():
        raise ContractError(f"Nominal levels lie between 0 and 1, found {tuple(levels)}.")
    parts = []
    for head, part in _strata(rows, stations, by):
        pit = part["pit"].to_numpy()[:, None]
        inside = np.abs(2 * pit - 1) <= levels_  # (row, level)
        values = np.hstack([inside, pit <= levels_]).astype(float)
        line = _sensor_means(part, values, stations=stations, seed=seed)
        line["kind"] = ["interval"] * len(levels_) + ["quantile"] * len(levels_)
        line["nominal"] = np.tile(levels_, 2)
        held = (line["lower"] <= line["nominal"]) & (line["nominal"] <= line["upper"])
        line["is_consistent"] = held.where(line["lower"].notna(), None).astype("boolean")
        parts.append(line.assign(**head))
    first = [*KEYS, *([by] if by else []), "kind", "nominal", "observed", "lower", "upper"]
    return _stacked(parts, [*first, "is_consistent"])


def sharpness(
    rows: pd.DataFrame,
    *,
    stations: pd.DataFrame | None = None,
    by: str | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """CRPS, spread, error and their ratio by stratum, with intervals over clusters.

    ``metric`` is "crps_m3_m3", "spread_m3_m3" (smaller is sharper; worth something only where
    ``reliability`` holds), "pit_mean" (1/2 when unbiased) and "pit_variance" about 1/2 (1/12 when
    calibrated, more when overconfident). Means over sensors with at least 13 usable rows.

    Returns
    -------
    DataFrame: ``model, split``, the stratum, ``metric, observed, lower, upper`` and the columns
    that count, as in ``reliability``
    """
    parts = []
    for head, part in _strata(rows, stations, by):
        pit = part["pit"].to_numpy()
        columns = part["crps_m3_m3"], part["spread_m3_m3"], pit, (pit - 0.5) ** 2
        line = _sensor_means(part, np.column_stack(columns), stations=stations, seed=seed)
        line["metric"] = ["crps_m3_m3", "spread_m3_m3", "pit_mean", "pit_variance"]
        parts.append(line.assign(**head))
    return _stacked(parts, [*KEYS, *([by] if by else []), "metric", "observed", "lower", "upper"])


def spread_skill(
    rows: pd.DataFrame, *, stations: pd.DataFrame | None = None, n_bins: int = 10, seed: int = 0
) -> pd.DataFrame:
    """Root mean square error against root mean square spread, in bins of equally many rows.

    A calibrated spread lies on the 1:1 line in every bin [1]_: ``ratio`` = RMSE / spread is 1,
    above 1 where the model is too sure. The interval of the ratio resamples whole clusters.

    Returns
    -------
    DataFrame: ``model, split, bin, spread_m3_m3, rmse_m3_m3, ratio, ratio_lower, ratio_upper, n,
    n_stations, n_clusters, status``

    References
    ----------
    .. [1] Fortin et al. (2014), doi:10.1175/JHM-D-14-0008.1
    """
    lines = []
    for head, part in _strata(rows, stations, None):
        part = part[part["status"] == OK]
        n_parts = min(n_bins, part["spread_m3_m3"].nunique())
        rank = part["spread_m3_m3"].rank(method="average") - 0.5
        numbers = np.floor(rank * n_parts / max(len(part), 1)).astype(int)
        for number, rows_of in part.groupby(numbers.to_numpy(), sort=True):
            line = _bin(rows_of, stations, seed)
            lines.append({**head, "bin": int(number) + 1, **line})
    names = ["spread_m3_m3", "rmse_m3_m3", "ratio", "ratio_lower", "ratio_upper"]
    counts = ["n", "n_stations", "n_clusters", "status"]
    return pd.DataFrame(lines, columns=[*KEYS, "bin", *names, *counts])


def interval_coverage(
    intervals: pd.DataFrame,
    *,
    nominal: float,
    stations: pd.DataFrame | None = None,
    by: str | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Coverage, width and interval score of ``lower_m3_m3`` to ``upper_m3_m3``, by stratum.

    ``metric`` is "coverage", "covered_sensors" (the share of sensors with at least ``nominal`` of
    their readings inside), "width_m3_m3" and "interval_score_m3_m3": the width plus 2 / (1 -
    nominal) times the distance of what lies outside [1]_. Means over sensors with at least 13
    usable rows.

    Parameters
    ----------
    intervals : predictions table with ``lower_m3_m3`` and ``upper_m3_m3``, as from
        ``conformal.apply``
    nominal : float, 0-1
    stations, by, seed : as in ``reliability``

    Returns
    -------
    DataFrame: ``model, split``, the stratum, ``metric, observed, lower, upper`` and the columns
    that count, as in ``reliability``

    References
    ----------
    .. [1] Gneiting and Raftery (2007), doi:10.1198/016214506000001437, equation 43
    """
    if not 0 < nominal < 1:
        raise ContractError(f"A nominal level lies between 0 and 1, found {nominal}.")
    names = ["observed_m3_m3", "lower_m3_m3", "upper_m3_m3"]
    x, low, high = intervals[names].to_numpy(float).T
    ok = np.isfinite(x) & np.isfinite(low) & np.isfinite(high)
    inside = ((low <= x) & (x <= high)).astype(float)
    share = pd.Series(np.where(ok, inside, np.nan)).groupby(
        [intervals[key].to_numpy() for key in (*KEYS, "sensor_id")]
    )
    kept = share.transform("mean").to_numpy() >= nominal
    score = high - low + 2 / (1 - nominal) * (np.maximum(low - x, 0) + np.maximum(x - high, 0))
    columns = ["coverage", "covered_sensors", "width_m3_m3", "interval_score_m3_m3"]
    rows = intervals.reset_index(drop=True).assign(status=np.where(ok, OK, "no interval or pair"))
    rows[columns] = np.column_stack([inside, kept, high - low, score])
    parts = []
    for head, part in _strata(rows, stations, by):
        line = _sensor_means(part, part[columns].to_numpy(float), stations=stations, seed=seed)
        parts.append(line.assign(**head, metric=columns))
    return _stacked(parts, [*KEYS, *([by] if by else []), "metric", "observed", "lower", "upper"])


def _strata(rows, stations, by):
    keys = list(KEYS)
    if by is not None and by not in keys:
        rows = rows.assign(**{by: classes_of(rows, stations, by=by).to_numpy()})
        keys.append(by)
    for key, part in rows.groupby(keys, observed=True, sort=True):
        yield dict(zip(keys, key, strict=True)), part


def _sensor_means(part, values, *, stations, seed):
    """Means over sensors of each column of ``values`` (row, column), with limits and counts."""
    ok = (part["status"] == OK).to_numpy()
    codes, _ = pd.factorize(part["sensor_id"].astype("str")[ok])
    n = np.bincount(codes)
    sums = np.stack([np.bincount(codes, v, minlength=len(n)) for v in values[ok].T], axis=1)
    first = np.unique(codes, return_index=True)[1]
    sensors = part[ok].iloc[first][n >= MIN_SAMPLES]
    means = (sums / n[:, None])[n >= MIN_SAMPLES]  # (sensor, column)
    cluster = cluster_names(sensors, stations)
    n_stations, n_clusters = sensors["station_id"].nunique(), len(set(cluster))
    lower = upper = np.full(values.shape[1], np.nan)
    status = _status(n_stations, n_clusters, len(sensors))
    if status == OK:
        rng = np.random.default_rng(seed)
        draws = ratio_draws(means, np.ones((len(means), 1)), cluster=cluster, rng=rng)
        lower, upper = limits(draws, n_clusters=n_clusters)
    n_used = int(n[n >= MIN_SAMPLES].sum())
    return pd.DataFrame(
        {
            "observed": means.mean(axis=0) if len(means) else np.full(values.shape[1], np.nan),
            "lower": lower, "upper": upper, "n": n_used, "n_left_out": len(part) - n_used,
            "n_sensors": len(sensors), "n_stations": n_stations, "n_clusters": n_clusters,
            "is_small": n_stations < strata.MIN_STATIONS, "status": status,
        }
    )  # fmt: skip


def _status(n_stations, n_clusters, n_sensors):
    if not n_sensors:
        return f"no sensor with {MIN_SAMPLES} usable rows"
    if n_stations < strata.MIN_STATIONS:
        return f"no interval: {n_stations} stations < {strata.MIN_STATIONS}"
    if n_clusters < bootstrap.MIN_CLUSTERS:
        return f"no interval: {n_clusters} clusters < {bootstrap.MIN_CLUSTERS}"
    return OK


def _bin(rows, stations, seed):
    cluster = cluster_names(rows, stations)
    error2, spread2 = rows["error_m3_m3"].to_numpy() ** 2, rows["spread_m3_m3"].to_numpy() ** 2
    rng = np.random.default_rng(seed)
    draws = ratio_draws(error2[:, None], spread2[:, None], cluster=cluster, rng=rng)
    lower, upper = np.sqrt(limits(draws, n_clusters=len(set(cluster))))
    spread, rmse = np.sqrt(spread2.mean()), np.sqrt(error2.mean())
    n_stations, n_clusters = rows["station_id"].nunique(), len(set(cluster))
    status = OK if np.isfinite(lower[0]) else _status(n_stations, n_clusters, 1)
    if status == OK and not np.isfinite(lower[0]):
        status = "no ratio: the spread is zero"
    return {
        "spread_m3_m3": spread, "rmse_m3_m3": rmse, "ratio": rmse / spread if spread else np.nan,
        "ratio_lower": lower[0], "ratio_upper": upper[0], "n": len(rows),
        "n_stations": n_stations, "n_clusters": n_clusters, "status": status,
    }  # fmt: skip


def _stacked(parts, first):
    if not parts:
        return pd.DataFrame(columns=first)
    table = pd.concat(parts, ignore_index=True)
    return table[[*first, *(name for name in table.columns if name not in first)]]


# Split-conformal intervals for stations never seen: whole stations are exchangeable, rows not.

NO_PREDICTION = "no prediction"
GUARANTEES = ("row", "station")


@dataclass(frozen=True)
class Conformal:
    """What ``fit`` learned: half-widths are ``threshold`` m3 m-3, or that many predicted std.

    ``str()`` says what is promised, for whom, and what is not.
    """

    model: str
    coverage: float
    guarantee: str
    share_of_stations: float
    threshold: float
    is_normalised: bool
    n_groups: int
    n_rows: int
    calibration_groups: frozenset[str] = field(repr=False)
    group_of: Mapping[str, str] | None = field(repr=False, default=None)

    def __str__(self) -> str:
        if self.guarantee == "row":
            promise = (
                f"a random reading of a new group lies inside with probability >= {self.coverage:g}"
                ", averaged over groups and over calibration sets; a single station may be covered "
                "far less or more"
            )
        else:
            promise = (
                f"with probability >= {self.share_of_stations:g} a new group has at least "
                f"{self.coverage:g} of its readings inside; no promise for the rest"
            )
        return (
            f"From {self.n_rows} readings of {self.n_groups} groups: {promise}. It holds if new "
            "groups are drawn as the calibration groups were (same kind of places, seasons and "
            "record lengths) and none of them trained the model; not for another continent or a "
            "later climate."
        )


def fit(
    calibration: pd.DataFrame,
    *,
    coverage: float = 0.9,
    guarantee: str = "row",
    share_of_stations: float = 0.9,
    groups: pd.Series | None = None,
    training_stations: Iterable[str] = (),
) -> Conformal:
    """Calibrate symmetric intervals on stations that neither trained the model nor test it.

    The score of a reading is abs(observed - predicted), divided by ``predicted_std_m3_m3`` where
    the table has it. Guarantee "row" weighs every group alike and adds one group of infinite
    scores (hierarchical conformal prediction [1]_); "station" takes each group's own quantile
    first, and a conformal quantile of those ([2]_ pools two layers alike); with ``coverage=1`` that
    is each group's largest score. Rows of one station are never taken for exchangeable with rows of
    another: the usual row-wise quantile covers too little.

    Parameters
    ----------
    calibration : predictions table of one model
    coverage : float, share of readings inside
    guarantee : "row" or "station"
    share_of_stations : float, for "station" only
    groups : Series by station_id (such as ``splits.chip_groups``, or blocks): stations that are
        not independent stay in one group; it names the new stations too. None: each station alone
    training_stations : station_ids that trained the model; none may calibrate

    Raises
    ------
    ContractError
        For several models, leaked stations, or too few groups for that coverage.

    References
    ----------
    .. [1] Lee, Barber and Willett (2023), arXiv:2306.06342
    .. [2] Dunn, Wasserman and Ramdas (2023), doi:10.1080/01621459.2022.2060112
    """
    contracts.check(calibration, contracts.PREDICTIONS)
    model = _one_model(calibration)
    group = _groups(calibration, None if groups is None else _mapping(groups))
    trained = _groups_of(training_stations, groups)
    _refuse_shared(trained & set(group), "trained the model and calibrate it")
    is_normalised = "predicted_std_m3_m3" in calibration.columns
    scores = _scores(calibration, is_normalised)
    usable = ~np.isnan(scores)
    scores, group = scores[usable], group[usable]
    if guarantee == "row":
        threshold = row_threshold(scores, group, coverage=coverage)
    elif guarantee == "station":
        threshold = station_threshold(scores, group, coverage=coverage, share=share_of_stations)
    else:
        raise ContractError(f"A guarantee is one of {', '.join(GUARANTEES)}; found {guarantee!r}.")
    if not np.isfinite(threshold):
        n = int(np.isinf(scores).sum())
        raise ContractError(f"No finite interval: {n} wrong predictions have a std of zero.")
    return Conformal(
        model, coverage, guarantee, share_of_stations, threshold, is_normalised,
        len(set(group)), len(scores), frozenset(group),
        None if groups is None else _mapping(groups),
    )  # fmt: skip


def apply(conformal: Conformal, predictions: pd.DataFrame) -> pd.DataFrame:
    """Intervals for the predictions at new stations.

    Parameters
    ----------
    conformal : from ``fit``
    predictions : predictions table of the same model; observations may be unknown

    Returns
    -------
    DataFrame: the table with ``lower_m3_m3``, ``upper_m3_m3`` and ``interval_status`` ("ok", or
    why there is none)

    Raises
    ------
    ContractError
        For another model, or stations whose group calibrated the intervals.
    """
    contracts.check(predictions, contracts.PREDICTIONS)
    model = _one_model(predictions)
    if model != conformal.model:
        raise ContractError(f"Calibrated for {conformal.model!r}, found predictions of {model!r}.")
    group = _groups(predictions, conformal.group_of)
    _refuse_shared(set(group) & conformal.calibration_groups, "calibrated these intervals")
    predicted = predictions["predicted_m3_m3"].to_numpy(float)
    half = np.full(len(predictions), conformal.threshold)
    if conformal.is_normalised:
        half = conformal.threshold * _std(predictions)
    lower, upper = predicted - half, predicted + half
    missing = [~np.isfinite(predicted), ~np.isfinite(half)]
    none = missing[0] | missing[1]
    return predictions.assign(
        lower_m3_m3=np.where(none, np.nan, lower),
        upper_m3_m3=np.where(none, np.nan, upper),
        interval_status=np.select(missing, [NO_PREDICTION, NO_SPREAD], default=OK),
    )


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

    Examples
    --------
    >>> float(row_threshold(np.arange(4.0), np.array(["a", "a", "a", "b"]), coverage=0.5))
    3.0
    """
    codes, names = pd.factorize(np.asarray(groups))
    _need_groups(len(names), Fraction(str(coverage)) / (1 - Fraction(str(coverage))), coverage)
    order = np.argsort(scores, kind="stable")
    weights = 1 / np.bincount(codes)[codes][order] / (len(names) + 1)
    # Sums of weights carry rounding: an exact hit must count as one.
    return np.asarray(scores)[order][np.argmax(np.cumsum(weights) >= coverage - 1e-12)]


def station_threshold(scores, groups, *, coverage, share):
    """The score that ``coverage`` of a new group's readings stay below, in ``share`` of groups.

    The ceil(share (K + 1))-th smallest of the groups' own quantiles, each the ceil(coverage
    N_k)-th smallest score of its group.

    Parameters
    ----------
    scores : array (row,)
    groups : array (row,), names
    coverage, share : float

    Examples
    --------
    >>> float(station_threshold(np.arange(4.0), np.array(list("aabb")), coverage=1, share=0.5))
    3.0
    """
    if not 0 < coverage <= 1:
        raise ContractError(f"A share of readings lies above 0 and up to 1, found {coverage}.")
    by_group = pd.Series(np.asarray(scores, float)).groupby(np.asarray(groups))
    wanted = Fraction(str(coverage))
    own = sorted(np.sort(part)[-int(-wanted * len(part) // 1) - 1] for _, part in by_group)
    exact = Fraction(str(share))
    _need_groups(len(own), exact / (1 - exact) if share < 1 else Fraction(0), share)
    return own[int(-(-exact * (len(own) + 1) // 1)) - 1]


def _need_groups(n, wanted, share):
    if not 0 < share < 1:
        raise ContractError(f"A coverage lies between 0 and 1, found {share}.")
    if n < wanted:
        raise ContractError(
            f"Intervals of {share:.0%} for unseen groups need {int(-(-wanted // 1))} calibration "
            f"groups with a finite residual, found {n}. Ask for less, or hold out more stations."
        )


def _scores(predictions, is_normalised):
    """Absolute residuals, over the predicted std if normalised; NaN where one is missing."""
    residual = np.abs(
        predictions["observed_m3_m3"].to_numpy(float)
        - predictions["predicted_m3_m3"].to_numpy(float)
    )
    residual = np.where(np.isfinite(residual), residual, np.nan)
    if not is_normalised:
        return residual
    std = _std(predictions)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = residual / std
    return np.where((residual == 0) & (std == 0), 0.0, ratio)


def _std(predictions):
    if "predicted_std_m3_m3" not in predictions.columns:
        raise ContractError("Calibrated in predicted_std_m3_m3, which these predictions lack.")
    std = predictions["predicted_std_m3_m3"].to_numpy(float)
    if (std < 0).any():
        raise ContractError(f"predicted_std_m3_m3 is negative in {int((std < 0).sum())} rows.")
    return np.where(np.isfinite(std), std, np.nan)


def _one_model(predictions):
    names = predictions["model"].astype("str").unique()
    if len(names) != 1:
        found = ", ".join(names) or "no rows"
        raise ContractError(f"Intervals belong to one model, found {found}. Select its rows first.")
    return str(names[0])


def _mapping(groups):
    return {str(station): str(group) for station, group in groups.items()}


def _groups(predictions, group_of):
    stations = predictions["station_id"].astype("str")
    if group_of is None:
        return stations.to_numpy(object)
    found = stations.map(group_of)
    if found.isna().any():
        lost = ", ".join(sorted(set(stations[found.isna()]))[:3])
        raise ContractError(f"groups names no group for {lost}. Give every station its group.")
    return found.to_numpy(object)


def _groups_of(station_ids, groups):
    names = {str(name) for name in station_ids}
    if groups is None:
        return names
    return {group for station, group in _mapping(groups).items() if station in names}


def _refuse_shared(shared, what):
    if shared:
        some = ", ".join(sorted(map(str, shared))[:3])
        raise ContractError(
            f"{len(shared)} groups {what} ({some}). The guarantee is void: training, calibration "
            "and test need stations of their own."
        )

"""Skill across stations, the parts of an error, and where a model fails."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from soilkit import contracts, sources, strata
from soilkit.constants import MIN_CLUSTERS, OK
from soilkit.errors import ContractError
from soilkit.metrics.intervals import (
    clusters,
    few_clusters,
    jackknife,
    limits,
    ratio_draws,
    scale_of,
)
from soilkit.metrics.points import (
    METRICS,
    SERIES,
    Groups,
    class_names,
    correlation,
    correlation_of_sums,
    of_stations,
    points,
    require_columns,
    state_of,
)

MIN_STATIONS = 10
PARTS = ("all", "static", "dynamic")
LOST = "no interval: no score without one of the clusters"


def spatial_scores(
    predictions: pd.DataFrame,
    *,
    stations: pd.DataFrame | None = None,
    part: str = "all",
    every: str = "1D",
) -> pd.DataFrame:
    """R, ubRMSE, RMSE and bias across the stations of each date: is the *map* right that day?

    A station counts once a date, with the mean of its pairs. Each value is the station's mean over
    the scored dates, its static part, plus the date's deviation from it, its dynamic part; either
    can be scored alone. R's interval leaves out 2-degree blocks where stations are given, else
    networks, one at a time; fewer than five at a date give none. A date needs ten stations.

    Parameters
    ----------
    predictions : table of that contract; rows without a finite pair are left out
    part : "all", "static" or "dynamic"
    every : length of a date, as pandas writes it: "1D", "10D"; counted from 1970-01-01

    Returns
    -------
    DataFrame, one row a model, split and date: ``date`` (its start), ``r, r_lower, r_upper,
    ubrmse_m3_m3, rmse_m3_m3, bias_m3_m3, n_stations, n_clusters`` and ``status``: "ok", or why a
    score or an interval is missing
    """
    if part not in PARTS:
        raise ContractError(f"Spatial scores are of {', '.join(PARTS)}, found {part!r}.")
    values = station_dates(predictions, stations, every=every)
    first = ["date", "r", "r_lower", "r_upper", *METRICS[1:], "n_stations", "n_clusters", "status"]
    return _by_model(values, first, lambda rows: _scores_of_dates(rows, part))


def _by_model(values, columns, table_of):
    """The tables of each model and split, one below the other, their keys in front."""
    keys = ["model", "split", *state_of(values)]
    tables = [
        table_of(rows).assign(**dict(zip(keys, key, strict=True)))
        for key, rows in values.groupby(keys, observed=True, sort=True)
    ]
    columns = [*keys, *columns]
    if not tables:
        return pd.DataFrame(columns=columns)
    return pd.concat(tables, ignore_index=True)[columns]


def station_dates(
    predictions: pd.DataFrame, stations: pd.DataFrame | None, *, every: str = "1D", kind: str = ""
) -> pd.DataFrame:
    """The mean pair of every station and date, of each model and split, with its ``cluster``."""
    contracts.check(predictions, contracts.PREDICTIONS)
    length = pd.Timedelta(every)
    if length <= pd.Timedelta(0):
        raise ContractError(f"A date needs a positive length, found {every!r}.")
    table = predictions[np.isfinite(predictions[SERIES].to_numpy(float)).all(axis=1)]
    keys = ["model", "split", *state_of(table), "date", "station_id"]
    grouped = table.assign(date=table["time"].dt.floor(length)).groupby(keys, observed=True)
    table = grouped.agg({**dict.fromkeys(SERIES, "mean"), "network": "first"}).reset_index()
    return table.assign(cluster=clusters(table, stations, kind=kind))


def split_parts(values: pd.DataFrame, station_id: pd.Series) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Each row's static part, its station's mean, and what is left, its dynamic part."""
    number = pd.factorize(station_id)[0]
    # The first value is taken off before the mean is: a constant station has exact zeros.
    shifted = values - values.groupby(number).transform("first")
    dynamic = shifted - shifted.groupby(number).transform("mean")
    return values - dynamic, dynamic


def date_sums(values: np.ndarray, date: pd.Series, *, cluster: pd.Series) -> np.ndarray:
    """What R is made of, ``correlation_of_sums``, for each cluster and date: (6, cluster, date).

    ``values`` are pairs (row, 2), best centred; dates stand in the order that they appear in.
    """
    (number, dates), (code, names) = pd.factorize(date), pd.factorize(cluster)
    shape, (x, y) = (len(names), len(dates)), np.asarray(values, float).T
    cell = code * shape[1] + number
    columns = (np.ones(len(x)), x, y, x * x, y * y, x * y)
    return np.array([np.bincount(cell, c, np.prod(shape)).reshape(shape) for c in columns])


def without_each(sums: np.ndarray) -> np.ndarray:
    """Totals of sums (value, cluster, ...) without one cluster at a time, same shape."""
    return sums.sum(axis=1)[:, None] - sums


def _scores_of_dates(rows, part):
    """One model's dates; ``rows`` run by date."""
    dates = rows.groupby("date")
    table = pd.DataFrame({"n_stations": dates.size(), "n_clusters": dates["cluster"].nunique()})
    kept = rows[dates["station_id"].transform("size") >= MIN_STATIONS]
    values = kept[SERIES] - kept[SERIES[0]].iloc[:1].sum()  # an offset costs no digit
    static, dynamic = split_parts(values, kept["station_id"])
    x, y = {"all": values, "static": static, "dynamic": dynamic}[part].to_numpy(float).T
    number, scored = pd.factorize(kept["date"])
    groups = Groups.of(x, y, codes=number)
    scores = pd.DataFrame(points(groups), index=scored)
    centred = np.column_stack([groups.centred(x), groups.centred(y)])
    sums = date_sums(centred, kept["date"], cluster=kept["cluster"])
    scores["r_lower"], scores["r_upper"] = jackknife(
        correlation_of_sums(sums.sum(axis=1)), correlation_of_sums(without_each(sums)),
        present=sums[0] > 0, scale="r",
    )  # fmt: skip
    table = table.join(scores)
    table.loc[table["r"].isna(), ["r_lower", "r_upper"]] = np.nan
    n, few = table["n_stations"], [few_clusters(k) for k in table["n_clusters"]]
    table["status"] = np.select(
        [n < MIN_STATIONS, table["r"].isna(), table["n_clusters"] < MIN_CLUSTERS]
        + [table["r_lower"].isna()],
        [[f"too few stations: {i} < {MIN_STATIONS}" for i in n], "constant across stations", few]
        + [LOST],
        default=OK,
    )
    return table.rename_axis("date").reset_index()


# The pooled error of many stations, parted exactly into bias, places and days.

QUANTITIES = (
    "rmse_m3_m3", "bias_m3_m3", "ubrmse_static_m3_m3", "ubrmse_dynamic_m3_m3",
    "r", "r_static", "r_dynamic",
)  # fmt: skip


def spatial_parts(
    predictions: pd.DataFrame, *, stations: pd.DataFrame | None = None, every: str = "1D"
) -> pd.DataFrame:
    """The error and R of all station-dates, its static part (places) apart from its dynamic (days).

    With d the error of a station on a date, m its mean at that station and M the mean of all, sum
    d2 = N M2 + sum (m - M)2 + sum (d - m)2, every sum over the station-dates; so, exactly, RMSE2 =
    bias2 + ubRMSE_static2 + ubRMSE_dynamic2. ``r_static`` is R across stations' means, weighted by
    their dates; ``r_dynamic`` is R of the deviations from them; the covariance and both variances
    of the pool are the sums of the two parts'. Intervals leave out 2-degree blocks where stations
    are given, else networks, one at a time; fewer than five give none.

    Parameters
    ----------
    predictions : table of that contract; rows without a finite pair are left out
    every : length of a date, as pandas writes it: "1D", "10D"; counted from 1970-01-01

    Returns
    -------
    DataFrame, one row a model, split and ``metric`` (rmse_m3_m3, bias_m3_m3, ubrmse_static_m3_m3,
    ubrmse_dynamic_m3_m3, r, r_static, r_dynamic): ``value, lower, upper, n_station_dates,
    n_stations, n_clusters, status``
    """
    values = station_dates(predictions, stations, every=every)
    first = ["metric", "value", "lower", "upper"]
    counts = ["n_station_dates", "n_stations", "n_clusters", "status"]
    return _by_model(values, [*first, *counts], _parts_of_error)


def _parts_of_error(values):
    """One line a quantity, of one model's station-dates."""
    sums, offset = _sums(values)
    k = sums.shape[1]
    values_of, left_out = (_quantities(s, offset) for s in (sums.sum(axis=1), without_each(sums)))
    rows = []
    for name, value, without in zip(QUANTITIES, values_of, left_out, strict=True):
        lower, upper = jackknife(value, without, scale=scale_of(name))
        status = "constant" if np.isnan(value) else few_clusters(k)
        status = LOST if status == OK and np.isnan(lower) else status
        rows.append((name, float(value), float(lower), float(upper), status))
    table = pd.DataFrame(rows, columns=["metric", "value", "lower", "upper", "status"])
    n_stations = values["station_id"].nunique()
    return table.assign(n_station_dates=len(values), n_stations=n_stations, n_clusters=k)


def _sums(values):
    """Sums of each cluster, (13, cluster), and the mean error that was taken off before."""
    first = values[SERIES].iloc[0]
    shifted = values[SERIES] - first
    means = shifted.mean()
    static, dynamic = split_parts(shifted - means, values["station_id"])
    (sx, sy), (dx, dy) = static.to_numpy().T, dynamic.to_numpy().T
    se, de = sy - sx, dy - dx
    error = np.diff(values[SERIES].to_numpy(float), axis=1).ravel()
    products = (sx, sy, se, sx * sx, sy * sy, sx * sy, se * se, dx * dx, dy * dy, dx * dy, de * de)
    code, names = pd.factorize(values["cluster"])
    rows = (np.ones(len(error)), *products, error * error)
    sums = np.array([np.bincount(code, row, minlength=len(names)) for row in rows])
    return sums, (first + means).to_numpy() @ [-1, 1]


def _quantities(sums, offset):
    """The values of QUANTITIES from sums (13, ...)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        sx, sy, se, sxx, syy, sxy, see, dxx, dyy, dxy, dee, square = sums[1:] / sums[0]
        var_x, var_y, cov = sxx - sx**2, syy - sy**2, sxy - sx * sy
        # A variance that is nothing beside rounding is none.
        kinds = (cov + dxy, var_x + dxx, var_y + dyy), (cov, var_x, var_y), (dxy, dxx, dyy)
        rs = [
            np.where(np.minimum(a, b) > 1e-24, correlation(c, xx=a, yy=b), np.nan)
            for c, a, b in kinds
        ]
        spreads = np.sqrt(np.maximum(see - se**2, 0)), np.sqrt(dee)
        return np.sqrt(square), se + offset, *spreads, *rs


# Where a model fails: classes of land against other stations, models against each other.

CLASSES = ("texture", "land_cover", "koeppen")
ERRORS = ("ubrmse_m3_m3", "rmse_m3_m3", "bias_m3_m3")  # of other scores, more is better
THRESHOLD = 0.1  # Poehls et al., 4.4


def site_means(station_scores: pd.DataFrame, *, metric: str) -> pd.DataFrame:
    """A station's mean over its sensors that have the score; of the bias, over its size.

    The table has ``model, split, station_id, network, value, n_sensors``. Raises ``ContractError``
    when the scores lack the metric, or hold several states.
    """
    states = sorted(set(station_scores["state"].astype("str"))) if "state" in station_scores else []
    if len(states) > 1:
        raise ContractError(f"Scores of several states ({', '.join(states)}): select one of them.")
    if metric not in station_scores.columns:
        have = ", ".join(c for c in station_scores if f"{c}_lower" in station_scores.columns)
        raise ContractError(f"The scores have no {metric!r}; they have {have}.")
    value = station_scores[metric].abs() if metric == "bias_m3_m3" else station_scores[metric]
    scored = station_scores.assign(value=value)[value.notna()]
    keys = ["model", "split", "station_id", "network"]
    by_site = scored.astype(dict.fromkeys(keys, "str")).groupby(keys)["value"]
    return by_site.agg(value="mean", n_sensors="size").reset_index()


def class_differences(
    station_scores: pd.DataFrame,
    stations: pd.DataFrame,
    *,
    metric: str = "ubrmse_m3_m3",
    by: Iterable[str] = CLASSES,
    seed: int = 0,
) -> pd.DataFrame:
    """Each class of land against all other stations: better or worse by more than 10 % [1]_?

    ``ratio`` is the mean of the class's stations over the mean of the rest; its interval resamples
    whole 2-degree blocks. Intervals are not adjusted for the number of classes: of twenty, one
    excludes 1 by chance.

    Parameters
    ----------
    station_scores : from ``station_scores``
    stations : stations table with the columns ``by``, and places
    metric : a score's name
    by : columns of ``stations``; unknown classes are left out of every class, not of the rest

    Returns
    -------
    DataFrame: ``model, split, characteristic, class, label`` (with an asterisk below five
    stations), ``metric, mean, rest_mean, ratio, ratio_lower, ratio_upper, verdict`` ("better",
    "worse", "alike", or "" without a ratio), ``is_certain`` (the interval excludes 1),
    ``n_stations, n_rest, n_clusters, is_small, status``

    References
    ----------
    .. [1] Poehls et al. (2024), SSRN 4743411, section 4.4
    """
    parts = []
    scored = site_means(station_scores, metric=metric)
    for (model, split), sites in scored.groupby(["model", "split"]):
        values, cluster = sites["value"].to_numpy()[:, None], clusters(sites, stations)
        for characteristic in by:
            names, member = _membership(sites, stations, characteristic)
            table = _ratios(
                values, values, member=member, other=~member, cluster=cluster, seed=seed
            )
            words = {"model": model, "split": split, "metric": metric, "class": names}
            parts.append(table.assign(**words, characteristic=characteristic))
    return _judged(parts, reference="rest")


def class_preferences(
    station_scores: pd.DataFrame,
    stations: pd.DataFrame,
    *,
    metric: str = "ubrmse_m3_m3",
    by: Iterable[str] = CLASSES,
    seed: int = 0,
) -> pd.DataFrame:
    """Each model on each class of land against the mean of all models there: Table 4 of [1]_.

    Only stations where every model has the score are compared. The table is as from
    ``class_differences``, with ``models_mean`` for ``rest_mean``. Raises ``ContractError`` for one
    model only, or one model in several splits.

    References
    ----------
    .. [1] Poehls et al. (2024), SSRN 4743411, section 4.4
    """
    sites = site_means(station_scores, metric=metric)
    if sites.duplicated(["model", "station_id"]).any():
        raise ContractError("A model stands in several splits: select one before comparing.")
    wide = sites.pivot(index=["station_id", "network"], columns="model", values="value").dropna()
    if len(wide.columns) < 2:
        raise ContractError(f"Preferences need two models or more, found {len(wide.columns)}.")
    places = wide.index.to_frame(index=False)
    cluster, average = clusters(places, stations), wide.mean(axis=1).to_numpy()[:, None]
    splits = sites.groupby("model")["split"].agg(lambda names: ", ".join(sorted(set(names))))
    parts = []
    for characteristic in by:
        names, member = _membership(places, stations, characteristic)
        for model in wide.columns:
            values = wide[model].to_numpy()[:, None]
            table = _ratios(
                values, average, member=member, other=member, cluster=cluster, seed=seed
            ).drop(columns="n_other")
            words = {"model": model, "split": splits[model], "metric": metric, "class": names}
            parts.append(table.assign(**words, characteristic=characteristic))
    return _judged(parts, reference="models")


def _membership(sites, stations, characteristic):
    """The classes' names and who is in each, (station, class)."""
    text = class_names(of_stations(sites, stations, column=characteristic))
    names = sorted(set(text) - {""})
    return names, text.to_numpy(object)[:, None] == np.array(names, dtype=object)[None, :]


def _ratios(values, other_values, *, member, other, cluster, seed):
    """Means of classes over means of others with limits; arrays (station, class)."""
    pair = []
    for v, m in ((values, member), (other_values, other)):
        # One seed for both, so that a resample draws the same clusters above and below.
        rng = np.random.default_rng(seed)
        pair.append(ratio_draws(v * m, m.astype(float), cluster=cluster, rng=rng))
    n, n_other = member.sum(axis=0), other.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean, other_mean = (values * member).sum(0) / n, (other_values * other).sum(0) / n_other
        ratio = np.where(other_mean > 0, mean / other_mean, np.nan)
        draws = np.where((pair[1] > 0) & np.isfinite(ratio), pair[0] / pair[1], np.nan)
    n_clusters = [len(set(cluster[column])) for column in member.T]
    ends = [limits(d, n_clusters=k) for d, k in zip(draws.T[:, :, None], n_clusters, strict=True)]
    lower, upper = np.reshape(ends, (-1, 2)).T
    return pd.DataFrame(
        {"mean": mean, "other_mean": other_mean, "ratio": ratio, "ratio_lower": lower,
         "ratio_upper": upper, "n_stations": n, "n_other": n_other, "n_clusters": n_clusters}
    )  # fmt: skip


def _judged(parts, *, reference):
    first = ["model", "split", "characteristic", "class", "label", "metric", "mean",
             f"{reference}_mean", "ratio", "ratio_lower", "ratio_upper", "verdict",
             "is_certain"]  # fmt: skip
    if not parts:
        return pd.DataFrame(columns=first)
    table = pd.concat(parts, ignore_index=True)
    table = table.rename(columns={"other_mean": f"{reference}_mean", "n_other": f"n_{reference}"})
    higher, lower = table["ratio"] >= 1 + THRESHOLD, table["ratio"] <= 1 - THRESHOLD
    worse, better = (higher, lower) if table["metric"].isin(ERRORS).all() else (lower, higher)
    verdict = np.select([worse, better, table["ratio"].notna()], ["worse", "better", "alike"], "")
    certain = (table["ratio_lower"] > 1) | (table["ratio_upper"] < 1)
    table = table.assign(
        label=strata.mark_small(table["class"], table["n_stations"]),
        verdict=verdict,
        is_certain=certain.where(table["ratio_lower"].notna(), None).astype("boolean"),
        is_small=table["n_stations"] < strata.MIN_STATIONS,
        status=[_status(row, reference) for _, row in table.iterrows()],
    )
    last = [c for c in (f"n_{reference}", "n_clusters") if c in table.columns]
    return table[[*first, "n_stations", *last, "is_small", "status"]]


def _status(row, reference):
    if not np.isfinite(row["ratio"]):
        return f"no ratio: the mean of the {reference} is {row[f'{reference}_mean']:.3g}"
    if row["n_stations"] < strata.MIN_STATIONS:
        return f"no interval: {row['n_stations']:.0f} stations < {strata.MIN_STATIONS}"
    if not np.isfinite(row["ratio_lower"]):
        return f"no interval: fewer than {MIN_CLUSTERS} blocks in the class or outside"
    return OK


# The worst stations of a model: which series to look at, and what sets the places apart.

N_FACTS = 3
COLUMNS = (
    "model", "split", "rank", "station_id", "network", "metric", "value", "sensor_ids",
    "sensor_id", "sensor_value", "lower", "upper", "n", "n_effective", "status",
)  # fmt: skip


def worst_stations(
    station_scores: pd.DataFrame,
    stations: pd.DataFrame,
    *,
    metric: str = "ubrmse_m3_m3",
    traits: Iterable[str] = (),
    n: int = 10,
) -> pd.DataFrame:
    """The worst stations of each model, with the sensors to plot and what sets the places apart.

    Stations rank by the mean over their sensors of ``metric``, the name of a score; ``traits`` are
    numeric columns of ``stations``; ``n`` counts stations a model.

    Returns
    -------
    DataFrame: ``model, split, rank, station_id, network, metric, value, sensor_ids`` (all scored
    ones, ";" between), then of the worst sensor ``sensor_id, sensor_value, lower, upper, n,
    n_effective, status``, then each trait with its ``<trait>_percentile`` among the scored
    stations (0-100, half of the ties below), and ``facts``: the most extreme traits in words
    """
    traits = list(traits)
    require_columns(stations, traits)
    known = stations.drop_duplicates("station_id")
    known = known.set_index(known["station_id"].astype("str"))[traits].astype(float)
    sign = -1 if metric in ERRORS else 1
    keys = ["model", "split", "station_id"]
    sensors = _worst_sensors(station_scores, metric, sign)
    parts = []
    for _, part in site_means(station_scores, metric=metric).groupby(keys[:2]):
        part = part.reset_index(drop=True)
        values = known.reindex(part["station_id"]).reset_index(drop=True)
        ranks = 100 * (values.rank(method="average") - 0.5) / values.notna().sum()
        worst = pd.concat([part, values, ranks.add_suffix("_percentile")], axis=1)
        worst = worst.assign(_score=sign * part["value"])
        worst = worst.sort_values(["_score", "station_id"], ignore_index=True)[:n]
        worst = worst.assign(metric=metric, rank=worst.index + 1)
        parts.append(worst.merge(sensors, on=keys, how="left", validate="one_to_one"))
    columns = [*COLUMNS, *(f"{t}{end}" for t in traits for end in ("", "_percentile")), "facts"]
    if not parts:
        return pd.DataFrame(columns=columns)
    table = pd.concat(parts, ignore_index=True)
    return table.assign(facts=[_facts(row, traits) for _, row in table.iterrows()])[columns]


def _worst_sensors(scores, metric, sign):
    """Of each model's station: its scored sensors, and the worst one's line."""
    size = scores[metric].abs() if metric == "bias_m3_m3" else scores[metric]
    keys = ["model", "split", "station_id"]
    scored = scores.assign(_score=sign * size)[size.notna()]
    scored = scored.astype(dict.fromkeys([*keys, "sensor_id"], "str"))
    ids = scored.groupby(keys)["sensor_id"].agg(lambda names: ";".join(sorted(names)))
    names = {metric: "sensor_value", f"{metric}_lower": "lower", f"{metric}_upper": "upper"}
    worst = scored.sort_values(["_score", "sensor_id"]).drop_duplicates(keys)
    worst = worst[[*keys, "sensor_id", *names, "n", "n_effective", "status"]].rename(columns=names)
    return worst.merge(ids.rename("sensor_ids").reset_index(), on=keys)


def _facts(row, traits):
    """The traits farthest from the middle, worst first, and a warning of a short series."""
    far = {t: abs(row[f"{t}_percentile"] - 50) for t in traits}
    known = [t for t in traits if np.isfinite(far[t])]
    words = [
        f"{_in_words(t, row[t])} (percentile {row[f'{t}_percentile']:.0f})"
        for t in sorted(known, key=far.__getitem__, reverse=True)[:N_FACTS]
    ]
    if unknown := [t for t in traits if t not in known]:
        words.append(f"unknown: {', '.join(t.replace('_', ' ') for t in unknown)}")
    worth = f", worth {row['n_effective']:.0f}" if np.isfinite(row["n_effective"]) else ""
    return "; ".join([f"n {row['n']:.0f}{worth}", *words])


def _in_words(trait, value):
    """A trait with its unit: "SoilGrids sand within 320 m 22.3 %"; a chip's mean is stored."""
    words, unit, band = sources.described(trait)
    value = value if band is None else band.physical(value)
    return f"{words} {float(f'{value:.3g}'):g}{unit if unit == '°' else f' {unit}'}".rstrip()

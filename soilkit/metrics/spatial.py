"""Skill across stations, the parts of an error, and where a model fails."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from soilkit import contracts, strata
from soilkit.errors import ContractError
from soilkit.metrics import intervals
from soilkit.metrics.intervals import cluster_names, limits, ratio_draws
from soilkit.metrics.points import METRICS, OK, Groups, points, state_of

MIN_STATIONS = 10
CONFIDENCE = 0.95
PARTS = ("all", "static", "dynamic")
VALUES = ["observed_m3_m3", "predicted_m3_m3"]


def spatial_scores(
    predictions: pd.DataFrame,
    *,
    stations: pd.DataFrame | None = None,
    part: str = "all",
    min_stations: int = MIN_STATIONS,
    every: str = "1D",
) -> pd.DataFrame:
    """R, ubRMSE, RMSE and bias across the stations of each date: is the *map* right that day?

    A station counts once a date, with the mean of its pairs. Each value is the station's mean over
    the scored dates, its static part, plus the date's deviation from it, its dynamic part; either
    can be scored alone. R's interval leaves out 2-degree blocks where stations are
    given, else networks, one at a time; fewer than five at a date give none.

    Parameters
    ----------
    predictions : table of that contract; rows without a finite pair are left out
    stations : stations table, for places
    part : "all", "static" or "dynamic"
    min_stations : int, that a date needs
    every : length of a date, as pandas writes it: "1D", "10D"; counted from 1970-01-01

    Returns
    -------
    DataFrame, one row a model, split and date: ``date`` (its start), ``r, r_lower, r_upper,
    ubrmse_m3_m3, rmse_m3_m3, bias_m3_m3, n_stations, n_clusters`` and ``status``: "ok", or why a
    score or an interval is missing

    Raises
    ------
    ContractError
        When the table breaks its contract, or an argument its range.
    """
    if part not in PARTS or min_stations < 3:
        raise ContractError(
            f"Spatial scores are of {', '.join(PARTS)} and need min_stations >= 3, "
            f"found {part!r} and {min_stations}."
        )
    values = station_dates(predictions, every=every)
    keys = ["model", "split", *state_of(values)]
    values["_cluster"] = clusters_of(values, stations)
    tables = [
        _scores_of_dates(rows, part, min_stations).assign(**dict(zip(keys, key, strict=True)))
        for key, rows in values.groupby(keys, observed=True, sort=True)
    ]
    columns = [*keys, "date", "r", "r_lower", "r_upper", *METRICS[1:]]
    columns += ["n_stations", "n_clusters", "status"]
    if not tables:
        return pd.DataFrame(columns=columns)
    return pd.concat(tables, ignore_index=True)[columns]


def station_dates(predictions: pd.DataFrame, *, every: str = "1D") -> pd.DataFrame:
    """The mean pair of every station and date, of each model and split."""
    contracts.check(predictions, contracts.PREDICTIONS)
    length = pd.Timedelta(every)
    if length <= pd.Timedelta(0):
        raise ContractError(f"A date needs a positive length, found {every!r}.")
    finite = np.isfinite(predictions[VALUES].to_numpy(float)).all(axis=1)
    table = predictions[finite]
    keys = ["model", "split", *state_of(table), "date", "station_id"]
    table = table.assign(date=table["time"].dt.floor(length))
    grouped = table.groupby(keys, observed=True, sort=True)
    return grouped.agg({**dict.fromkeys(VALUES, "mean"), "network": "first"}).reset_index()


def split_parts(values: pd.DataFrame, station_id: pd.Series) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Each row's static part, its station's mean, and what is left, its dynamic part."""
    number = pd.factorize(station_id)[0]
    # The first value is taken off before the mean is: a constant station has exact zeros.
    shifted = values - values.groupby(number).transform("first")
    dynamic = shifted - shifted.groupby(number).transform("mean")
    return values - dynamic, dynamic


def clusters_of(values: pd.DataFrame, stations: pd.DataFrame | None) -> np.ndarray:
    """The 2-degree block of each row where stations are given, else its network."""
    return intervals.clusters(values, stations, kind="network" if stations is None else "block")


def _scores_of_dates(rows, part, min_stations):
    """One model's dates; ``rows`` run by date."""
    dates = rows.groupby("date")
    table = pd.DataFrame({"n_stations": dates.size(), "n_clusters": dates["_cluster"].nunique()})
    kept = rows[dates["station_id"].transform("size") >= min_stations]
    values = kept[VALUES] - kept[VALUES[0]].iloc[:1].sum()  # an offset costs no digit
    static, dynamic = split_parts(values, kept["station_id"])
    chosen = {"all": values, "static": static, "dynamic": dynamic}[part]
    number, scored = pd.factorize(kept["date"])
    x, y = chosen.to_numpy(float).T
    groups = Groups(x, y, np.zeros(len(x)), np.bincount(number), np.arange(len(scored)))
    found = pd.DataFrame(points(groups), index=scored)
    found["r_lower"], found["r_upper"] = _limits(groups, number, kept["_cluster"])
    table = table.join(found)
    few = table["n_clusters"] < intervals.MIN_CLUSTERS
    table.loc[few | table["r"].isna(), ["r_lower", "r_upper"]] = np.nan
    table["status"] = _status(table, min_stations, few)
    return table.rename_axis("date").reset_index()


def _limits(groups, number, cluster):
    """Limits of each date's R by leaving clusters out, 2 x (date,)."""
    code, names = pd.factorize(cluster)
    n_dates, k = len(groups.counts), len(names)
    x, y = groups.centred(groups.observed), groups.centred(groups.predicted)
    sums = np.zeros((6, k, n_dates))
    for total, values in zip(sums, (np.ones(len(x)), x, y, x * x, y * y, x * y), strict=True):
        np.add.at(total, (code, number), values)
    whole = sums.sum(axis=1)
    return intervals.interval(
        _r_of(whole),
        _r_of(whole[:, None] - sums),
        present=sums[0] > 0,
        scale="r",
        confidence=CONFIDENCE,
    )


def _r_of(sums):
    """R from counts, sums and sums of products, (6, ...); NaN where a draw is constant."""
    n, x, y, xx, yy, xy = sums
    with np.errstate(invalid="ignore", divide="ignore"):
        var_x, var_y = xx / n - (x / n) ** 2, yy / n - (y / n) ** 2
        r = (xy / n - x / n * (y / n)) / np.sqrt(var_x * var_y)
    return np.clip(r, -1, 1)


def _status(table, min_stations, few):
    few = few.to_numpy()
    words = np.full(len(table), OK, object)
    n, k = table["n_stations"].to_numpy(), table["n_clusters"].to_numpy()
    words[few] = [f"no interval: {i} clusters < {intervals.MIN_CLUSTERS}" for i in k[few]]
    lost = ~few & table["r_lower"].isna().to_numpy()
    words[lost] = "no interval: no score without one of the clusters"
    words[table["r"].isna()] = "constant across stations"
    short = n < min_stations
    words[short] = [f"too few stations: {i} < {min_stations}" for i in n[short]]
    return words


# The pooled error of many stations, parted exactly into bias, places and days.

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
    lower, upper = _limits_decomposition(found, _quantities(whole[:, None] - sums, offset), k)
    status = np.full(len(found), OK, object)
    status[np.isnan(lower)] = "no interval: no score without one of the clusters"
    if k < intervals.MIN_CLUSTERS:
        status[:] = f"no interval: {k} clusters < {intervals.MIN_CLUSTERS}"
    status[np.isnan(found)] = "constant"
    table = pd.DataFrame({"metric": QUANTITIES, "value": found, "lower": lower, "upper": upper})
    return table.assign(
        n_station_dates=len(values),
        n_stations=values["station_id"].nunique(),
        n_clusters=k,
        status=status,
    )


def _limits_decomposition(found, left_out, k):
    """Limits of every quantity, 2 x (quantity,)."""
    limits = np.full((2, len(found)), np.nan)
    if k < intervals.MIN_CLUSTERS:
        return limits
    for i, name in enumerate(QUANTITIES):
        scale = "mean" if name.startswith("bias") else "spread" if "rmse" in name else "r"
        limits[:, i] = np.ravel(
            intervals.interval(
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


# Where a model fails: classes of land against other stations, models against each other.

CLASSES = ("texture", "land_cover", "koeppen")
ERRORS = ("ubrmse_m3_m3", "rmse_m3_m3", "bias_m3_m3")  # of other scores, more is better
THRESHOLD = 0.1  # seed 004, 4.4


def site_means(station_scores: pd.DataFrame, *, metric: str) -> pd.DataFrame:
    """A station's mean over its sensors that have the score; of the bias, over its size.

    Returns
    -------
    DataFrame: ``model, split, station_id, network, value, n_sensors``

    Raises
    ------
    ContractError
        When the scores lack the metric.
    """
    states = sorted(set(station_scores["state"].astype("str"))) if "state" in station_scores else []
    if len(states) > 1:
        raise ContractError(f"Scores of several states ({', '.join(states)}): select one of them.")
    if metric not in station_scores.columns:
        have = ", ".join(c for c in station_scores if f"{c}_lower" in station_scores.columns)
        raise ContractError(f"The scores have no {metric!r}; they have {have}.")
    value = station_scores[metric].abs() if metric == "bias_m3_m3" else station_scores[metric]
    found = station_scores.assign(value=value)[value.notna()]
    keys = ["model", "split", "station_id", "network"]
    by_site = found.astype(dict.fromkeys(keys, "str")).groupby(keys)["value"]
    return by_site.agg(value="mean", n_sensors="size").reset_index()


def require_columns(stations, columns):
    """Raise ``ContractError`` unless the stations table has the columns."""
    missing = [name for name in columns if name not in stations.columns]
    if missing:
        raise ContractError(
            f"The stations table lacks {', '.join(missing)}; it has "
            f"{', '.join(map(str, stations.columns))}."
        )


def class_differences(
    station_scores: pd.DataFrame,
    stations: pd.DataFrame,
    *,
    metric: str = "ubrmse_m3_m3",
    by: Iterable[str] = CLASSES,
    threshold: float = THRESHOLD,
    seed: int = 0,
) -> pd.DataFrame:
    """Each class of land against all other stations: better or worse by more than ``threshold``?

    ``ratio`` is the mean of the class's stations over the mean of the rest; its interval resamples
    whole 2-degree blocks. Intervals are not adjusted for the number of classes: of twenty, one
    excludes 1 by chance.

    Parameters
    ----------
    station_scores : from ``station_scores``
    stations : stations table with the columns ``by``, and places
    metric : a score's name
    by : columns of ``stations``; unknown classes are left out of every class, not of the rest
    threshold : float, 0.1 as in [1]_
    seed : int

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
    for (model, split), sites in site_means(station_scores, metric=metric).groupby(
        ["model", "split"]
    ):
        values = sites["value"].to_numpy()[:, None]
        cluster = cluster_names(sites, stations)
        for characteristic in by:
            names, member = _membership(sites, stations, characteristic)
            table = _ratios(values, member, others=(values, ~member), cluster=cluster, seed=seed)
            table = table.rename(columns={"other_mean": "rest_mean", "n_other": "n_rest"})
            table.insert(0, "class", names)
            parts.append(
                table.assign(model=model, split=split, characteristic=characteristic, metric=metric)
            )
    return _judged(parts, metric, threshold, reference="rest")


def class_preferences(
    station_scores: pd.DataFrame,
    stations: pd.DataFrame,
    *,
    metric: str = "ubrmse_m3_m3",
    by: Iterable[str] = CLASSES,
    threshold: float = THRESHOLD,
    seed: int = 0,
) -> pd.DataFrame:
    """Each model on each class of land against the mean of all models there: Table 4 of [1]_.

    Only stations where every model has the score are compared.

    Returns
    -------
    DataFrame, as from ``class_differences`` with ``models_mean`` for ``rest_mean``

    Raises
    ------
    ContractError
        For one model only, or one model in several splits.

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
    cluster, average = cluster_names(places, stations), wide.mean(axis=1).to_numpy()[:, None]
    parts = []
    for characteristic in by:
        names, member = _membership(places, stations, characteristic)
        for model in wide.columns:
            values = wide[model].to_numpy()[:, None]
            table = _ratios(values, member, others=(average, member), cluster=cluster, seed=seed)
            table = table.rename(columns={"other_mean": "models_mean"}).drop(columns="n_other")
            table.insert(0, "class", names)
            split = ", ".join(sorted(set(sites.loc[sites["model"] == model, "split"])))
            parts.append(
                table.assign(model=model, split=split, characteristic=characteristic, metric=metric)
            )
    return _judged(parts, metric, threshold, reference="models")


def _membership(sites, stations, characteristic):
    """The classes' names and who is in each, (station, class)."""
    require_columns(stations, [characteristic])
    known = stations.drop_duplicates("station_id")
    column = pd.Series(known[characteristic].to_numpy(), index=known["station_id"].astype("str"))
    classes = sites["station_id"].astype("str").map(column).astype(object)
    text = classes.where(classes.notna(), "").astype(str).str.strip()
    names = sorted(set(text) - {""})
    return names, text.to_numpy(object)[:, None] == np.array(names, dtype=object)[None, :]


def _ratios(values, member, *, others, cluster, seed):
    """Means of classes over means of others with limits; arrays (station, class)."""
    other_values, other_member = others
    pair = []
    for v, m in ((values, member), (other_values, other_member)):
        # One seed for both, so that a resample draws the same clusters above and below.
        rng = np.random.default_rng(seed)
        pair.append(ratio_draws(v * m, m.astype(float), cluster=cluster, rng=rng))
    n, n_other = member.sum(axis=0), other_member.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean, other_mean = (values * member).sum(0) / n, (other_values * other_member).sum(0)
        other_mean = other_mean / n_other
        ratio = np.where(other_mean > 0, mean / other_mean, np.nan)
        draws = np.where(pair[1] > 0, pair[0] / pair[1], np.nan)
    n_clusters = [len(set(cluster[column])) for column in member.T]
    ends = [
        limits(column, n_clusters=k) if np.isfinite(r) else np.full((2, 1), np.nan)
        for column, k, r in zip(draws.T[:, :, None], n_clusters, ratio, strict=True)
    ]
    lower, upper = np.reshape(ends, (-1, 2)).T
    return pd.DataFrame(
        {"mean": mean, "other_mean": other_mean, "ratio": ratio, "ratio_lower": lower,
         "ratio_upper": upper, "n_stations": n, "n_other": n_other, "n_clusters": n_clusters}
    )  # fmt: skip


def _judged(parts, metric, threshold, *, reference):
    first = ["model", "split", "characteristic", "class", "label", "metric", "mean",
             f"{reference}_mean", "ratio", "ratio_lower", "ratio_upper", "verdict",
             "is_certain"]  # fmt: skip
    if not parts:
        return pd.DataFrame(columns=first)
    table = pd.concat(parts, ignore_index=True)
    higher, lower = table["ratio"] >= 1 + threshold, table["ratio"] <= 1 - threshold
    worse, better = (higher, lower) if metric in ERRORS else (lower, higher)
    verdict = np.select([worse, better, table["ratio"].notna()], ["worse", "better", "alike"], "")
    certain = (table["ratio_lower"] > 1) | (table["ratio_upper"] < 1)
    small = table["n_stations"] < strata.MIN_STATIONS
    table = table.assign(
        label=strata.mark_small(table["class"], table["n_stations"]),
        verdict=verdict,
        is_certain=certain.where(table["ratio_lower"].notna(), None).astype("boolean"),
        is_small=small,
        status=[_status_failures(row, reference) for _, row in table.iterrows()],
    )
    return table[[*first, *(name for name in table.columns if name not in first)]]


def _status_failures(row, reference):
    if not np.isfinite(row["ratio"]):
        return f"no ratio: the mean of the {reference} is {row[f'{reference}_mean']:.3g}"
    if row["n_stations"] < strata.MIN_STATIONS:
        return f"no interval: {row['n_stations']:.0f} stations < {strata.MIN_STATIONS}"
    if not np.isfinite(row["ratio_lower"]):
        return f"no interval: fewer than {intervals.MIN_CLUSTERS} blocks in the class or outside"
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

    Parameters
    ----------
    station_scores : from ``station_scores``
    stations : stations table, with the columns ``traits``
    metric : a score's name; stations rank by the mean over their sensors
    traits : numeric columns of ``stations``
    n : int, stations a model

    Returns
    -------
    DataFrame: ``model, split, rank, station_id, network, metric, value, sensor_ids`` (all scored
    ones, ";" between), then of the worst sensor ``sensor_id, sensor_value, lower, upper, n,
    n_effective, status``, then each trait with its ``<trait>_percentile`` among the scored
    stations (0-100, half of the ties below), and ``facts``: the most extreme traits in words
    """
    traits = list(traits)
    require_columns(stations, traits)
    sites = site_means(station_scores, metric=metric)
    known = stations.drop_duplicates("station_id")
    known = known.set_index(known["station_id"].astype("str"))[traits].astype(float)
    sign = 1 if metric in ERRORS else -1
    parts = []
    for (model, split), part in sites.groupby(["model", "split"]):
        values = known.reindex(part["station_id"])
        n_known = values.notna().sum()
        percentiles = 100 * (values.rank(method="average") - 0.5) / n_known
        table = pd.concat(
            [part.reset_index(drop=True), values.reset_index(drop=True)]
            + [percentiles.add_suffix("_percentile").reset_index(drop=True)],
            axis=1,
        )
        order = np.lexsort([table["station_id"], -sign * table["value"]])[:n]
        table = table.iloc[order].reset_index(drop=True)
        mine = station_scores["model"].astype("str").eq(model) & station_scores["split"].astype(
            "str"
        ).eq(split)
        sensors = _worst_sensors(station_scores[mine], metric, sign)
        table = table.merge(sensors, on="station_id", how="left", validate="one_to_one")
        parts.append(table.assign(rank=np.arange(1, len(table) + 1), metric=metric))
    columns = [*COLUMNS, *(f"{t}{end}" for t in traits for end in ("", "_percentile")), "facts"]
    if not parts:
        return pd.DataFrame(columns=columns)
    found = pd.concat(parts, ignore_index=True)
    return found.assign(facts=[_facts(row, traits) for _, row in found.iterrows()])[columns]


def _worst_sensors(scores, metric, sign):
    """Of each station: its scored sensors, and the worst one's line."""
    size = scores[metric].abs() if metric == "bias_m3_m3" else scores[metric]
    found = scores.assign(_badness=sign * size)[size.notna()]
    found = found.astype({"station_id": "str", "sensor_id": "str"})
    found = found.sort_values(["_badness", "sensor_id"], ascending=[False, True])
    ids = found.groupby("station_id")["sensor_id"].agg(lambda names: ";".join(sorted(names)))
    names = {metric: "sensor_value", f"{metric}_lower": "lower", f"{metric}_upper": "upper"}
    columns = ["station_id", "sensor_id", *names, "n", "n_effective", "status"]
    worst = found.drop_duplicates("station_id")[columns].rename(columns=names)
    return worst.merge(ids.rename("sensor_ids").reset_index(), on="station_id")


def _facts(row, traits):
    """The traits farthest from the middle, worst first, and a warning of a short series."""
    known = [t for t in traits if np.isfinite(row[f"{t}_percentile"])]
    far = sorted(known, key=lambda t: -abs(row[f"{t}_percentile"] - 50))[:N_FACTS]
    words = [f"{t} {row[t]:.3g} (percentile {row[f'{t}_percentile']:.0f})" for t in far]
    unknown = [t for t in traits if t not in known]
    if unknown:
        words.append(f"unknown: {', '.join(unknown)}")
    n_effective = row["n_effective"]
    worth = f", worth {n_effective:.0f}" if np.isfinite(n_effective) else ""
    return "; ".join([f"n {row['n']:.0f}{worth}", *words])

"""Skill across stations at one date beside skill in time at one station, and their two parts."""

import numpy as np
import pandas as pd

from soilkit import contracts
from soilkit.errors import ContractError
from soilkit.metrics import bootstrap, jackknife
from soilkit.metrics.groups import Groups, state_of
from soilkit.metrics.points import METRICS, points
from soilkit.metrics.states import OK

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
    return bootstrap.clusters(values, stations, kind="network" if stations is None else "block")


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
    few = table["n_clusters"] < bootstrap.MIN_CLUSTERS
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
    return jackknife.interval(
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
    words[few] = [f"no interval: {i} clusters < {bootstrap.MIN_CLUSTERS}" for i in k[few]]
    lost = ~few & table["r_lower"].isna().to_numpy()
    words[lost] = "no interval: no score without one of the clusters"
    words[table["r"].isna()] = "constant across stations"
    short = n < min_stations
    words[short] = [f"too few stations: {i} < {min_stations}" for i in n[short]]
    return words

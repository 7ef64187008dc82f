"""The worst stations of a model: which series to look at, and what sets the places apart."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from soilkit.metrics.failures import ERRORS, require_columns, site_means

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

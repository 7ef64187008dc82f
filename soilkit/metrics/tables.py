"""Scores in the long form of ``scores.csv``."""

import numpy as np
import pandas as pd

from soilkit import contracts
from soilkit.metrics.groups import state_of
from soilkit.metrics.points import metrics_of
from soilkit.metrics.stations import OK

VALUES = ["metric", "value", "lower", "upper", "n", "n_effective", "status"]


def to_scores_table(*tables: pd.DataFrame) -> pd.DataFrame:
    """Any of this package's tables as rows of the SCORES contract, one below the other.

    Scores of sensors keep their metric's name; summaries give ``<metric>_mean`` and
    ``<metric>_median``, block means ``<metric>_block_mean``. ``n`` counts samples for a sensor and
    stations for an aggregate; ``n_effective`` is the sensor's, or the number of clusters.

    Parameters
    ----------
    *tables : from ``station_scores``, ``summarize`` or ``block_means``

    Returns
    -------
    DataFrame of that contract; stratum columns that a table lacks are empty text
    """
    long = pd.concat([_long(table) for table in tables], ignore_index=True)
    words = [name for name in long.columns if name not in VALUES]
    long[words] = long[words].astype(object).fillna("").astype("str")
    kinds = dict.fromkeys(VALUES[1:-1], float) | dict.fromkeys(("metric", "status"), "str")
    long = long[[*words, *VALUES]].astype(kinds)
    contracts.check(long, contracts.SCORES)
    return long


def _long(table):
    if "r_lower" in table.columns:
        return _of_sensors(table)
    if "n_blocks" in table.columns:
        return _of_blocks(table)
    return pd.concat([_of_summary(table, "mean"), _of_summary(table, "median")])


def _of_sensors(table):
    keys = table[["model", "split", *state_of(table), "network", "station_id", "sensor_id"]]
    parts = []
    for metric in metrics_of(table):
        part = keys.assign(
            metric=metric,
            value=table[metric],
            lower=table.get(f"{metric}_lower", np.nan),
            upper=table.get(f"{metric}_upper", np.nan),
            n=table["n"].astype(float),
            n_effective=table["n_effective"],
            status=_status_of(table, metric),
        )
        parts.append(part)
    return pd.concat(parts)


def _status_of(table, metric):
    if f"{metric}_lower" in table.columns:
        return table["status"]
    return table["status"].where(table["status"] != OK, "no interval: no analytic form")


def _of_summary(table, statistic):
    strata = list(table.columns[: list(table.columns).index("metric")])
    return table[strata].assign(
        metric=table["metric"] + f"_{statistic}",
        value=table[statistic],
        lower=table[f"{statistic}_lower"],
        upper=table[f"{statistic}_upper"],
        n=table["n_stations"].astype(float),
        n_effective=table["n_clusters"].astype(float),
        status=table["status"],
    )


def _of_blocks(table):
    return table[["model", "split", *state_of(table)]].assign(
        metric=table["metric"] + "_block_mean",
        value=table["value"],
        lower=table["lower"],
        upper=table["upper"],
        n=table["n_stations"].astype(float),
        n_effective=table["n_blocks"].astype(float),
        status=table["status"],
    )

"""What others have scored at the same networks: Tables 13 and 14 of Batchu et al. (2022)."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from soilkit import strata
from soilkit.errors import ContractError, UnknownNameError

VALUES_FILE = Path(__file__).with_name("literature_001.csv")
METRICS = ("r", "ubrmse_m3_m3")
NO_WORK = "no work at this network"


def literature_table(metric: str) -> pd.DataFrame:
    """Scores of eleven works, SMAP, GLDAS and the paper's own model by network [1]_.

    The text that these rows were read from has lost the tables' columns. A value stands where its
    place in the text or the list of works (Table 8) leaves one possibility; the other cells, which
    the paper fills, are empty here. ``asterisk`` is the paper's: ``*`` in-situ data of other
    years, ``**`` models for one region each, ``***`` readings of one sensor on both sides of the
    split. Works differ in years, sampling and the averaging of sensors: no rigorous comparison.

    Parameters
    ----------
    metric : "r" (Table 13) or "ubrmse_m3_m3" (Table 14)

    Returns
    -------
    DataFrame, one row a network and work: ``table, network, work, citation, product, period,
    split_type, statistic`` (over sensors: "mean" or "median"), ``metric, value`` [1 or m3 m-3],
    ``asterisk, note`` (why a value is missing)

    Raises
    ------
    UnknownNameError
        For another metric.

    References
    ----------
    .. [1] Batchu et al. (2022), arXiv:2206.09649, Tables 8, 13 and 14

    Examples
    --------
    >>> table = literature_table("r")
    >>> table[table["network"] == "AMMA-CATCH"][["work", "value"]].to_numpy().tolist()[:4]
    [['Batchu et al.', 0.93], ['SMAP', 0.876], ['GLDAS', 0.872], ['Kerr et al.', 0.77]]
    """
    if metric not in METRICS:
        raise UnknownNameError(f"No literature on {metric!r}; there is {' and '.join(METRICS)}.")
    words = dict.fromkeys(("asterisk", "note", "period"), "str")
    rows = pd.read_csv(VALUES_FILE, comment="#", dtype=words, keep_default_na=False, na_values={
        "value": [""]})  # fmt: skip
    return rows[rows["metric"] == metric].reset_index(drop=True)


def beside_literature(result: pd.DataFrame) -> pd.DataFrame:
    """Our scores by network with every known score of the literature beside them.

    A mean stands beside a mean, a median beside a median. The difference is between works, not
    paired: other samples, other years, often other sensors.

    Parameters
    ----------
    result : from ``station_scores``, or from ``summarize(..., by="network")``

    Returns
    -------
    DataFrame, one row a model, split, network, metric and work: ``model, split, network, metric,
    value, n_sensors, n_stations, is_small`` (fewer than five stations), then ``work, citation,
    product, period, split_type, statistic, asterisk, literature_value, difference`` (value -
    literature_value) and ``status``: "ok", "no work at this network", or that no sensor of ours
    has the score. Networks match whatever their case and punctuation

    Raises
    ------
    ContractError
        When the result is neither kind of table.
    """
    ours = _by_network(result)
    known = pd.concat([literature_table(metric) for metric in METRICS], ignore_index=True)
    known = known[known["value"].notna()].rename(columns={"value": "literature_value"})
    known["_key"] = known["network"].map(_key)
    ours["_key"] = ours["network"].map(_key)
    table = ours.merge(known.drop(columns="network"), how="left", on=["_key", "metric"])
    table["value"] = np.where(table["statistic"] == "median", table["median"], table["mean"])
    table["difference"] = table["value"] - table["literature_value"]
    table["status"] = np.select(
        [table["value"].isna(), table["literature_value"].isna()],
        ["no sensor has this score", NO_WORK],
        default="ok",
    )
    words = ["work", "citation", "product", "period", "split_type", "statistic", "asterisk"]
    table[words] = table[words].astype(object).fillna("")
    columns = ["model", "split", "network", "metric", "value", "n_sensors", "n_stations"]
    return table[
        [*columns, "is_small", *words, "literature_value", "difference", "status"]
    ].reset_index(drop=True)


def _key(network):
    return re.sub(r"[^a-z0-9]", "", str(network).lower())


def _by_network(result):
    """Mean and median over sensors of each model, split, network and metric, in long form."""
    keys = ["model", "split", "network"]
    counts = ["mean", "median", "n_sensors", "n_stations", "is_small"]
    if {*keys, "metric", *counts} <= set(result.columns):
        return result[result["metric"].isin(METRICS)][[*keys, "metric", *counts]].copy()
    if not {*keys, "sensor_id", "station_id", *METRICS} <= set(result.columns):
        raise ContractError(
            "Literature stands beside a table from station_scores, or from summarize with "
            f"by='network'; found the columns {', '.join(map(str, result.columns))}."
        )
    parts = []
    for metric in METRICS:
        found = result.assign(station_id=result["station_id"].where(result[metric].notna()))
        part = found.groupby(keys, observed=True, sort=True).agg(
            mean=(metric, "mean"),
            median=(metric, "median"),
            n_sensors=(metric, "count"),
            n_stations=("station_id", "nunique"),
        )
        parts.append(part.reset_index().assign(metric=metric))
    table = pd.concat(parts, ignore_index=True)
    return table.assign(is_small=table["n_stations"] < strata.MIN_STATIONS)

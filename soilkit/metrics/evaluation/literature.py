"""What others have scored: Tables 13 and 14 of Batchu et al. (2022), and both papers' own."""

from pathlib import Path

import numpy as np
import pandas as pd

from soilkit import strata
from soilkit.constants import OK
from soilkit.errors import ContractError, UnknownNameError

FOLDER = Path(__file__).parent
METRICS = ("r", "ubrmse_m3_m3")
NO_WORK = "no work at this network"


def literature_table(metric: str) -> pd.DataFrame:
    """Scores of eleven works, SMAP, GLDAS and the paper's own model by network [1]_.

    The text that these rows were read from has lost the tables' columns. A value stands where its
    place in the text or the list of works (Table 8) leaves one possibility; the other cells, which
    the paper fills, are empty here. ``asterisk`` is the paper's: ``*`` in-situ data of other years,
    ``**`` models for one region each, ``***`` readings of one sensor on both sides of the split.
    Works differ in years, sampling and averaging: no rigorous comparison. ``metric`` is "r" (Table
    13) or "ubrmse_m3_m3" (Table 14); ``UnknownNameError`` for another.

    Returns
    -------
    DataFrame, one row a network and work: ``table, network, work, citation, product, period,
    split_type, statistic`` (over sensors: "mean" or "median"), ``metric, value`` [1 or m3 m-3],
    ``asterisk, note`` (why a value is missing)

    References
    ----------
    .. [1] Batchu et al. (2022), arXiv:2206.09649, Tables 8, 13 and 14
    """
    if metric not in METRICS:
        raise UnknownNameError(f"No literature on {metric!r}; there is {' and '.join(METRICS)}.")
    rows = pd.read_csv(
        FOLDER / "literature_001.csv",
        comment="#",
        dtype=dict.fromkeys(("asterisk", "note", "period"), "str"),
        keep_default_na=False,
        na_values={"value": [""]},
    )
    return rows[rows["metric"] == metric].reset_index(drop=True)


def beside_literature(scores: pd.DataFrame) -> pd.DataFrame:
    """Our scores by network with every known score of the literature beside them.

    A mean stands beside a mean, a median beside a median. The difference is between works, not
    paired: other samples, other years, often other sensors. ``scores`` are from ``station_scores``;
    ``ContractError`` for a table without their columns.

    Returns
    -------
    DataFrame, one row a model, split, network, metric and work: ``value, n_sensors, n_stations,
    is_small`` (fewer than five stations), then the work's columns, ``literature_value, difference``
    (value - literature_value) and ``status``. Networks match whatever their case and punctuation
    """
    keys = ["model", "split", "network"]
    if lacking := {*keys, "station_id", *METRICS} - set(scores.columns):
        raise ContractError(
            "Literature stands beside a table from station_scores; this one lacks "
            f"{', '.join(sorted(lacking))}. Give the sensors' scores, not their means."
        )
    ours = scores.melt([*keys, "station_id"], METRICS, var_name="metric")
    ours["station_id"] = ours["station_id"].where(ours["value"].notna())
    ours = ours.groupby(["metric", *keys], observed=True).agg(
        mean=("value", "mean"),
        median=("value", "median"),
        n_sensors=("value", "count"),
        n_stations=("station_id", "nunique"),
    )
    works = pd.concat([literature_table(metric) for metric in METRICS], ignore_index=True)
    works = works[works["value"].notna()].rename(columns={"value": "literature_value"})
    for names in (ours := ours.reset_index(), works):  # whatever their case and punctuation
        plain = names["network"].astype("str").str.lower()
        names["key"] = plain.str.replace(r"[^a-z0-9]", "", regex=True)
    table = ours.merge(works.drop(columns="network"), how="left", on=["key", "metric"])
    table["is_small"] = table["n_stations"] < strata.MIN_STATIONS
    table["value"] = np.where(table["statistic"] == "median", table["median"], table["mean"])
    table["difference"] = table["value"] - table["literature_value"]
    absent = [table["value"].isna(), table["literature_value"].isna()]
    table["status"] = np.select(absent, ["no sensor has this score", NO_WORK], default=OK)
    words = ["work", "citation", "product", "period", "split_type", "statistic", "asterisk"]
    table[words] = table[words].astype(object).fillna("")
    counts = ["value", "n_sensors", "n_stations", "is_small"]
    return table[[*keys, "metric", *counts, *words, "literature_value", "difference", "status"]]


def paper_table(number: int) -> pd.DataFrame:
    """A table of scores that Batchu et al. print [1]_.

    Means over sensors with at least 13 samples; the strata are of the full model's validation
    split. These are scores at real stations and stand beside others', never for them. Raises
    ``UnknownNameError`` for another table.

    Parameters
    ----------
    number : 9 (which sources), 10 (land cover), 11 (texture), 12 (climate), 15 (input size), 16
        (one source left out), 18 (NDVI, EVI and LAI added), 19 (active and passive) or 21 (anchor)

    Returns
    -------
    DataFrame, one row a class (or experiment) and split: ``name`` as printed, with its asterisk
    where there are fewer than five sensors; ``class``, the same without ornament, Koeppen's two
    letters, or the model that the name stands for; ``stratum, split``; ``r`` [1], ``ubrmse_m3_m3,
    rmse_m3_m3`` [m3 m-3], NaN where the paper prints none; ``n_samples`` of the split, NaN where
    the paper does not tell; ``anchor``, the source that readings were joined to; ``is_small``

    References
    ----------
    .. [1] Batchu et al. (2022), arXiv:2206.09649
    """
    chosen = _printed("paper_001.csv", number)
    return chosen.assign(is_small=chosen["name"].str.endswith("*"))


def ensembles_table(number: int) -> pd.DataFrame:
    """A table of scores that Poehls et al. print for their ensembles of simple models [1]_.

    Means over real stations: they stand beside others', never for them. A cell that the text at
    hand has lost is NaN; the file's head says which and why. Raises ``UnknownNameError`` for
    another table.

    Parameters
    ----------
    number : 2 (Little Washita), 3 (Fort Cobb), 4 (classes where one model deviates by 10 % or more
        from the mean of all), 6 (validation and ten-fold cross-validation) or 7 (members)

    Returns
    -------
    DataFrame, one row a model (and member, class or data set): ``dataset, model`` (Dense, Prob,
    WDL, RF, SMAP), ``n_stations``, and those of ``member, characteristic, class, r`` [1],
    ``ubrmse_m3_m3, bias_m3_m3`` [m3 m-3], ``r_ratio, ubrmse_ratio`` [1] that the table has

    References
    ----------
    .. [1] Poehls et al. (2024), SSRN 4743411
    """
    chosen = _printed("paper_004.csv", number)
    always = ["dataset", "model", "n_stations"]
    kept = [c for c in chosen.columns if c in always or chosen[c].notna().any()]
    return chosen[kept].assign(member=chosen["member"].fillna("")) if "member" in kept else chosen


def _printed(file: str, number: int) -> pd.DataFrame:
    """The rows of one table in a file of printed values, without their number."""
    rows = pd.read_csv(FOLDER / file, comment="#")
    if number not in set(rows["table"]):
        have = ", ".join(map(str, sorted(set(rows["table"]))))
        raise UnknownNameError(f"No table {number} of that paper here; there are {have}.")
    return rows[rows["table"] == number].drop(columns="table").reset_index(drop=True)


def paper_strata(stations: pd.DataFrame) -> pd.DataFrame:
    """Stations with land cover, texture and two letters of climate as the paper's Tables 10-12.

    Land cover comes as a name or a Copernicus code; empty where unknown.

    Examples
    --------
    >>> table = pd.DataFrame({"land_cover": ["Shrubs"], "texture": ["loam"], "koeppen": ["BSk"]})
    >>> paper_strata(table).iloc[0].tolist()
    ['Shrubs', 'Loam', 'BS']
    """
    return stations.assign(
        land_cover=strata.land_cover_class(stations["land_cover"]),
        texture=stations["texture"].astype(object).fillna("").astype(str).str.capitalize(),
        koeppen=strata.koeppen_pair(stations["koeppen"]),
    )

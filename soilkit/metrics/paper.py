"""The scores that Batchu et al. (2022) print, and station classes under the names of its tables."""

from pathlib import Path

import pandas as pd

from soilkit import strata
from soilkit.errors import UnknownNameError

VALUES_FILE = Path(__file__).with_name("paper_001.csv")


def paper_table(number: int) -> pd.DataFrame:
    """A table of scores that Batchu et al. print [1]_.

    Table 9 (which sources), 10 (land cover), 11 (texture), 12 (climate), 15 (input size), 16 (one
    source left out), 18 (NDVI, EVI and LAI added), 19 (active and passive radar) or 21 (the anchor
    of the join). Means over sensors with at least 13 samples; the strata are of the full model's
    validation split. These are scores at real stations and stand beside others', never for them.

    Parameters
    ----------
    number : int, 9-12, 15, 16, 18, 19 or 21

    Returns
    -------
    DataFrame, one row a class (or experiment) and split: ``name`` as printed, with its asterisk
    where there are fewer than five sensors; ``class``, the same without ornament, Koeppen's two
    letters, or the model that the name stands for; ``stratum, split``; ``r`` [1], ``ubrmse_m3_m3,
    rmse_m3_m3`` [m3 m-3], NaN where the paper prints none; ``n_samples`` of the split, NaN where
    the paper does not tell; ``anchor``, the source that readings were joined to; ``is_small``

    Raises
    ------
    UnknownNameError
        For another table.

    References
    ----------
    .. [1] Batchu et al. (2022), arXiv:2206.09649

    Examples
    --------
    >>> paper_table(10)[["name", "r"]].iloc[[4, 5]].to_numpy().tolist()
    [['Shrubs', 0.775], ['Bareground*', 0.725]]
    """
    chosen = printed_rows(VALUES_FILE, number)
    return chosen.assign(is_small=chosen["name"].str.endswith("*"))


def printed_rows(values: Path, number: int) -> pd.DataFrame:
    """The rows of one table in a file of printed values, without their number.

    Raises
    ------
    UnknownNameError
        When the file does not hold the table.
    """
    rows = pd.read_csv(values, comment="#")
    if number not in set(rows["table"]):
        have = ", ".join(str(n) for n in sorted(set(rows["table"])))
        raise UnknownNameError(f"No table {number} of that paper here; there are {have}.")
    return rows[rows["table"] == number].drop(columns="table").reset_index(drop=True)


def paper_strata(stations: pd.DataFrame) -> pd.DataFrame:
    """Stations with land cover, texture and climate under the names of the paper's Tables 10-12.

    Parameters
    ----------
    stations : stations table; its land cover is a name, or a Copernicus code

    Returns
    -------
    the table with ``land_cover``, ``texture`` and two-letter ``koeppen``; empty where unknown

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

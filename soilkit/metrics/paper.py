"""The scores that Batchu et al. (2022) print, and station classes under the names of its tables."""

from pathlib import Path

import pandas as pd

from soilkit import strata
from soilkit.errors import UnknownNameError

VALUES_FILE = Path(__file__).with_name("paper_001.csv")

# ESA CCI land-cover codes, which ISMN's static variables hold (Defourny et al. 2017, CCI-LC Product
# User Guide v2), to the paper's groups. "Closed to open" forest says not which of its two it is.
CCI_NAMES = {
    **dict.fromkeys((10, 11, 12, 20, 30), "Agriculture"),
    **dict.fromkeys((40, 110, 130), "Vegetation"),
    **dict.fromkeys((50, 60, 70, 80, 90, 100), "Forest, closed to open"),
    **dict.fromkeys((61, 71, 81), "Closed forest"),
    **dict.fromkeys((62, 72, 82), "Open forest"),
    **dict.fromkeys((120, 121, 122), "Shrubs"),
    **dict.fromkeys((150, 151, 152, 153, 200, 201, 202), "Bareground"),
    **dict.fromkeys((160, 170, 180), "Wetland"),
    190: "Built-up",
    **dict.fromkeys((140, 210, 220), "Other"),
}
LEGENDS = {"cci": CCI_NAMES, "copernicus": strata.LAND_COVER_NAMES}


def paper_table(number: int) -> pd.DataFrame:
    """Table 9 (overall), 10 (land cover), 11 (texture) or 12 (climate) of Batchu et al. [1]_.

    Means over sensors with at least 13 samples; the strata are of the full model's validation
    split. These are scores at real stations and stand beside others', never for them.

    Parameters
    ----------
    number : int, 9-12

    Returns
    -------
    DataFrame, one row a class (or experiment) and split: ``name`` as printed, with its asterisk
    where there are fewer than five sensors; ``class``, the same without ornament, Koeppen's two
    letters; ``stratum, split``; ``r`` [1], ``ubrmse_m3_m3, rmse_m3_m3`` [m3 m-3], NaN where the
    paper prints none; ``is_small``

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
    rows = pd.read_csv(VALUES_FILE, comment="#")
    if number not in set(rows["table"]):
        raise UnknownNameError(f"No table {number} here; there are 9, 10, 11 and 12.")
    chosen = rows[rows["table"] == number].drop(columns="table").reset_index(drop=True)
    return chosen.assign(is_small=chosen["name"].str.endswith("*"))


def paper_strata(stations: pd.DataFrame, *, legend: str = "cci") -> pd.DataFrame:
    """Stations with land cover, texture and climate under the names of the paper's Tables 10-12.

    Parameters
    ----------
    stations : stations table; land cover as codes of ``legend``, or as words, which stay
    legend : "cci" (ISMN's codes) or "copernicus"; one code means different things in the two

    Returns
    -------
    the table with ``land_cover``, ``texture`` and two-letter ``koeppen``; empty where unknown

    Raises
    ------
    UnknownNameError
        For another legend.

    Examples
    --------
    >>> table = pd.DataFrame({"land_cover": ["20"], "texture": ["loam"], "koeppen": ["BSk"]})
    >>> paper_strata(table).iloc[0].tolist()
    ['Agriculture', 'Loam', 'BS']
    >>> paper_strata(table, legend="copernicus").iloc[0].tolist()
    ['Shrubs', 'Loam', 'BS']
    """
    if legend not in LEGENDS:
        raise UnknownNameError(f"No legend {legend!r}; there are {', '.join(LEGENDS)}.")
    codes = pd.to_numeric(stations["land_cover"], errors="coerce")
    words = stations["land_cover"].astype(object).where(codes.isna(), "").fillna("").astype(str)
    named = codes.map(LEGENDS[legend]).astype(object)
    return stations.assign(
        land_cover=named.where(codes.notna() & named.notna(), words).astype(str),
        texture=stations["texture"].astype(object).fillna("").astype(str).str.capitalize(),
        koeppen=strata.koeppen_pair(stations["koeppen"]),
    )

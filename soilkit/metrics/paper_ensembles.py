"""The scores that Poehls et al. (2024) print for their ensembles of simple models."""

from pathlib import Path

import pandas as pd

from soilkit.metrics.paper import printed_rows

VALUES_FILE = Path(__file__).with_name("paper_004.csv")


def ensembles_table(number: int) -> pd.DataFrame:
    """A table of scores that Poehls et al. print [1]_.

    Table 2 (Little Washita), 3 (Fort Cobb), 4 (classes where one model deviates by 10 % or more
    from the mean of all), 6 (validation and ten-fold cross-validation) or 7 (members). Means over
    real stations: they stand beside others', never for them. A cell that the text at hand has lost
    is NaN; the file's head says which and why.

    Parameters
    ----------
    number : int, 2, 3, 4, 6 or 7

    Returns
    -------
    DataFrame, one row a model (and member, class or data set): ``dataset, model`` (Dense, Prob,
    WDL, RF, SMAP), ``n_stations``, and those of ``member, characteristic, class, r`` [1],
    ``ubrmse_m3_m3, bias_m3_m3`` [m3 m-3], ``r_ratio, ubrmse_ratio`` [1] that the table has

    Raises
    ------
    UnknownNameError
        For another table.

    References
    ----------
    .. [1] Poehls et al. (2024), SSRN 4743411

    Examples
    --------
    >>> table = ensembles_table(6)
    >>> table[(table["model"] == "Dense")][["dataset", "r"]].to_numpy().tolist()
    [['validation', 0.632], ['cross-validation', 0.639]]
    """
    chosen = printed_rows(VALUES_FILE, number)
    always = ["dataset", "model", "n_stations"]
    kept = [c for c in chosen.columns if c in always or chosen[c].notna().any()]
    return chosen[kept].assign(member=chosen["member"].fillna("")) if "member" in kept else chosen

"""Predictions whose values were changed name their state, and each lost row says why."""

import numpy as np
import pandas as pd

from soilkit.errors import ContractError
from soilkit.metrics.groups import STATE, state_of
from soilkit.metrics.rows import check_predictions

RAW = "raw"
OK = "ok"
NO_PAIR = "no finite pair"


def changed(
    predictions: pd.DataFrame, rows: np.ndarray, *, values: dict[str, np.ndarray], words, state: str
) -> pd.DataFrame:
    """The table with new values at ``rows``, its state, and a ``status`` for every row.

    Parameters
    ----------
    predictions : table of that contract, one state
    rows : array (row,), places in the table
    values : by column, array (row,), NaN where there is none
    words : array (row,) of text, "ok" or why a row has no value
    state : what was done, appended to what the table says of itself

    Returns
    -------
    DataFrame as the predictions; rows that ``rows`` leaves out are NaN in both series
    """
    status = np.full(len(predictions), NO_PAIR, object)
    status[rows] = words
    table = predictions.copy(deep=False)
    for name in ("observed_m3_m3", "predicted_m3_m3"):
        column = np.full(len(table), np.nan)
        column[rows] = np.where(status[rows] == OK, values[name], np.nan)
        table[name] = column
    before = table[STATE].astype("str") if STATE in table.columns else RAW
    table[STATE] = np.where(before == RAW, state, before + " > " + state)
    # A standard deviation belongs to the values that were predicted, not to what became of them.
    return table.assign(status=status).drop(columns="predicted_std_m3_m3", errors="ignore")


def check(predictions: pd.DataFrame) -> None:
    """Raise unless the table keeps its contract and holds one state.

    Raises
    ------
    ContractError
    """
    check_predictions(predictions)
    for name in state_of(predictions):
        found = predictions[name].astype("str").unique()
        if len(found) > 1:
            raise ContractError(
                f"One state at a time can be changed, found {', '.join(found)}. Select one."
            )

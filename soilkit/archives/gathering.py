"""One scenes table of several sources, however many rows it has."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from soilkit import contracts
from soilkit.contracts import Archive


def all_scenes(
    archive: Archive, stations: pd.DataFrame, *, sources: Iterable[str], start: Any, end: Any
) -> pd.DataFrame:
    """The scenes of several sources over the stations, source after source (contract SCENES).

    Names stay dictionary-encoded, which ``pandas.concat`` gives up where their dictionaries differ:
    six years of three-hourly fields over 1,300 stations are 23 million rows.

    Parameters
    ----------
    archive : Archive
    stations : stations table
    sources : names
    start, end : datetime64 or text, UTC; scenes whose end lies in [start, end)

    Raises
    ------
    UnknownNameError
        For a source that the archive lacks.
    """
    tables = [archive.scenes(stations, name, start, end) for name in sources]
    columns = {}
    for column in contracts.SCENES.columns:
        parts = [table.pop(column.name) for table in tables]  # each is freed once it is copied
        columns[column.name] = _joined(parts) if parts else pd.Series(dtype=object)
    return pd.DataFrame(columns, copy=False)


def _joined(parts: list[pd.Series]) -> Any:
    if all(isinstance(part.dtype, pd.CategoricalDtype) for part in parts):
        return pd.api.types.union_categoricals(parts)
    return np.concatenate([part.to_numpy() for part in parts])

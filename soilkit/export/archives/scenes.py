"""What every archive shares: where stations stand, one scenes table, and a confirmation."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from soilkit import contracts
from soilkit.contracts import Archive, ChipRequest
from soilkit.errors import ContractError, DeclinedError


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


# Where stations stand, once each: what every archive asks of a stations table.


def places(stations: pd.DataFrame) -> pd.DataFrame:
    """One row a station: ``station_id``, ``longitude``, ``latitude``.

    Raises
    ------
    ContractError
        Where the table lacks a column, or a station its coordinates.
    """
    columns = ["station_id", "longitude", "latitude"]
    lacking = set(columns) - set(getattr(stations, "columns", ()))
    if lacking:
        raise ContractError(
            f"A stations table has the columns {', '.join(columns)}; this "
            f"{type(stations).__name__} lacks {', '.join(sorted(lacking))}."
        )
    found = stations[columns].drop_duplicates("station_id").reset_index(drop=True)
    lost = found.station_id[~np.isfinite(found[columns[1:]].to_numpy(float)).all(axis=1)]
    if len(lost):
        raise ContractError(
            f"{len(lost)} stations have no coordinates, {lost.iloc[0]} the first: "
            "give them, or leave these stations out."
        )
    return found.astype({"station_id": str, "longitude": float, "latitude": float})


# Asking before an export that costs something.

QUESTION = "Go ahead? [y/N] "


def confirm(
    archive: Archive,
    requests: Sequence[ChipRequest],
    *,
    yes: bool = False,
    ask: Callable[[str], str] = input,
) -> Any:
    """Show what fetching the chips will cost, and ask before it is spent.

    An archive that costs nothing has no ``estimate``; then nothing is asked.

    Parameters
    ----------
    archive : Archive
    requests : list of ChipRequest, as from ``chips.plan``
    yes : whether the answer is yes already: for scripts, papermill and tests
    ask : shows a text and returns the answer; a notebook's or a terminal's ``input``

    Returns
    -------
    The archive's estimate, to be displayed; None where there is none or nothing to fetch.

    Raises
    ------
    DeclinedError
        When the answer is no, or there is nobody to ask.
    """
    if not requests or not hasattr(archive, "estimate"):
        return None
    estimate = archive.estimate(requests)
    if yes:
        return estimate
    try:
        answer = ask(f"{estimate}\n{QUESTION}")
    except Exception as error:  # no terminal: EOFError; no front end: Jupyter's own error
        raise DeclinedError(
            f"Fetching {len(requests):,} chips from {archive.name} has a cost, and there is nobody "
            f"to ask ({type(error).__name__}). Read the estimate, then pass yes=True:\n{estimate}"
        ) from error
    if answer.strip().lower() not in ("y", "yes"):
        raise DeclinedError(
            f"Nothing was asked of {archive.name}: the answer was {answer.strip() or 'no'!r}. "
            "Answer y, pass yes=True, or try a few chips first with chips.build(..., limit=200)."
        )
    return estimate

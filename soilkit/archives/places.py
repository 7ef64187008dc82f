"""Where stations stand, once each: what every archive asks of a stations table."""

import numpy as np
import pandas as pd

from soilkit.errors import ContractError


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

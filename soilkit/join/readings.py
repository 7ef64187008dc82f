"""The readings' side of the join: one sorted slice of times a sensor, without a copy."""

import logging
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from soilkit import contracts
from soilkit.errors import ContractError, UnknownNameError
from soilkit.join.ticks import MISSING, as_categorical, unit_ns

logger = logging.getLogger(__name__)

NEEDED = ("sensor_id", "time", "soil_moisture_m3_m3")
# The key is checked along with the order below: pandas' own check would copy the table.
OBSERVATIONS = replace(
    contracts.OBSERVATIONS,
    columns=tuple(c for c in contracts.OBSERVATIONS.columns if c.name in NEEDED),
    key=(),
)
STATIONS = replace(
    contracts.STATIONS,
    columns=tuple(c for c in contracts.STATIONS.columns if c.name in ("sensor_id", "station_id")),
)
CHUNK_ROWS = 1 << 18


class OutOfOrder(Exception):
    """A slice of readings is not sorted by time; never leaves the join."""


@dataclass(frozen=True)
class Readings:
    """Observations as slices, one a sensor: rows ``starts[i]`` to ``starts[i + 1]``.

    ``steps`` (reading,) are the times as int64 in their own unit of ``step_ns`` nanoseconds, a
    view where the table allows; ``sensors`` and ``stations`` (slice,) index ``sensor_ids`` and
    the join's station ids.
    """

    table: pd.DataFrame
    steps: np.ndarray
    step_ns: int
    starts: np.ndarray
    sensors: np.ndarray
    stations: np.ndarray
    sensor_ids: pd.Index

    @property
    def counts(self) -> np.ndarray:
        """Readings in each slice, shape (slice,)."""
        return np.diff(self.starts)


def slice_readings(
    observations: pd.DataFrame, stations: pd.DataFrame, *, station_ids: pd.Index
) -> Readings:
    """Observations cut into slices of one sensor; scattered ones are sorted, which costs a copy.

    The order within a slice is checked by ``check_order`` where the slice is searched: reading it
    just before the search leaves it in the processor's cache, and the search is then almost free.

    Raises
    ------
    ContractError
        A column is missing or of another kind, a sensor or time is missing, or a sensor holds two
        readings of one time.
    UnknownNameError
        A sensor that the stations table does not have.
    """
    contracts.check(observations, OBSERVATIONS)
    codes, steps, starts = _columns(observations)
    if len(np.unique(codes[starts[:-1]])) < len(starts) - 1:
        observations = sort_readings(observations)
        codes, steps, starts = _columns(observations)
    sensor_ids = as_categorical(observations["sensor_id"]).categories
    sensors = codes[starts[:-1]]
    if (sensors < 0).any() or (steps[starts[:-1]] == MISSING).any():
        raise _missing()
    return Readings(
        table=observations,
        steps=steps,
        step_ns=unit_ns(observations["time"].to_numpy()[:0]),
        starts=starts,
        sensors=sensors,
        stations=_stations_of(sensor_ids.take(sensors), stations, station_ids=station_ids),
        sensor_ids=sensor_ids,
    )


def _columns(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    codes = as_categorical(table["sensor_id"]).codes
    return codes, table["time"].to_numpy().view(np.int64), _starts(codes)


def _starts(codes: np.ndarray) -> np.ndarray:
    """Where runs of one code begin, and the length at the end."""
    cuts = [np.zeros(min(1, len(codes)), dtype=np.int64)]
    for low in range(1, len(codes), CHUNK_ROWS):
        high = min(low + CHUNK_ROWS, len(codes))
        cuts.append(low + np.flatnonzero(codes[low:high] != codes[low - 1 : high - 1]))
    return np.append(np.concatenate(cuts), len(codes))


def check_order(steps: np.ndarray) -> None:
    """Raise ``OutOfOrder`` unless the times of one slice increase strictly."""
    for low in range(1, len(steps), CHUNK_ROWS):
        high = min(low + CHUNK_ROWS, len(steps))
        if not (steps[low:high] > steps[low - 1 : high - 1]).all():
            raise OutOfOrder


def sort_readings(observations: pd.DataFrame) -> pd.DataFrame:
    """A copy sorted by sensor and time; ``ContractError`` where a key is missing or repeats."""
    logger.info("observations are not sorted by sensor and time: sorting a copy")
    if bool(observations[["sensor_id", "time"]].isna().any(axis=None)):
        raise _missing()
    ordered = observations.sort_values(["sensor_id", "time"], ignore_index=True)
    repeated = ordered.duplicated(["sensor_id", "time"])
    if bool(repeated.any()):
        first = ordered[repeated].iloc[0]
        raise ContractError(
            f"The observations table repeats {int(repeated.sum())} of its keys, the first at "
            f"{first.sensor_id}, {first.time}: which of two readings of one time is meant cannot "
            "be told. Drop the duplicates."
        )
    return ordered


def _missing() -> ContractError:
    return ContractError(
        "The observations table has rows without a sensor_id or a time. Drop these rows first."
    )


def _stations_of(sensors: pd.Index, stations: pd.DataFrame, *, station_ids: pd.Index) -> np.ndarray:
    """The position in ``station_ids`` of each sensor's station, shape (sensor,)."""
    rows = pd.Index(stations["sensor_id"].astype(str)).get_indexer(sensors.astype(str))
    unknown = sensors[rows < 0].astype(str)
    if len(unknown):
        raise UnknownNameError(
            f"The stations table lacks {len(unknown)} sensors of the observations, for instance "
            f"{', '.join(unknown[:3])}. Add their rows, or leave these readings out."
        )
    return station_ids.get_indexer(stations["station_id"].astype(str))[rows]

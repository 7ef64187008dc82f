"""The join's two products as tables: samples, and drops counted by sensor and reason."""

import numpy as np
import pandas as pd

from soilkit.join.choose import Chosen
from soilkit.join.readings import Readings
from soilkit.join.timelines import SceneTable, Timeline

HOUR_NS = 3600 * 10**9


class DropCounts:
    """Collects how many readings of each slice were dropped, and why."""

    def __init__(self, readings: Readings) -> None:
        self._readings = readings
        self._parts: list[tuple[str, str, np.ndarray]] = []

    def add(self, source: str, reason: str, *, counts: np.ndarray) -> None:
        """Note the ``counts`` (slice,) of readings dropped for one reason."""
        self._parts.append((source, reason, counts))

    def table(self) -> pd.DataFrame:
        """Table DROPS: one row a sensor and reason with a count above zero, by sensor."""
        counts = np.stack([part[2] for part in self._parts], axis=1)  # (slice, reason)
        where, which = np.nonzero(counts)
        sources = pd.Index(dict.fromkeys(part[0] for part in self._parts))
        reasons = pd.Index([part[1] for part in self._parts])
        source_of = sources.get_indexer([part[0] for part in self._parts])
        sensors, ids = self._readings.sensors[where], self._readings.sensor_ids
        return pd.DataFrame(
            {
                "sensor_id": pd.Categorical.from_codes(sensors, ids),
                "source": pd.Categorical.from_codes(source_of[which], sources),
                "reason": pd.Categorical.from_codes(which, reasons),
                "count": counts[where, which],
            }
        )


def make_samples(
    readings: Readings,
    chosen: Chosen,
    *,
    table: SceneTable,
    lines: dict[str, Timeline],
    tick_ns: int,
) -> pd.DataFrame:
    """Table SAMPLES with the scene and age of each source of ``lines``, in the readings' order."""
    observed = readings.table
    time = observed["time"].to_numpy()[chosen.rows].astype("datetime64[us]")
    sensors = np.repeat(readings.sensors, chosen.counts)
    stations = np.repeat(readings.stations, chosen.counts)
    moisture = observed["soil_moisture_m3_m3"].to_numpy()[chosen.rows]
    columns = {
        "sample_id": _sample_ids(sensors, time, ids=readings.sensor_ids),
        "sensor_id": pd.Categorical.from_codes(sensors, readings.sensor_ids),
        "station_id": pd.Categorical.from_codes(stations, table.station_ids),
        "time": time,
        "soil_moisture_m3_m3": moisture,
    }
    for source, line in lines.items():
        position = chosen.found[source]
        columns[f"{source}_scene"] = _scene_column(line.scenes[position], table.scene_ids)
        age = (chosen.ticks - line.times[position]) * (tick_ns / HOUR_NS)
        columns[f"{source}_age_hours"] = np.full(len(age), np.nan) if line.is_static else age
    return pd.DataFrame(columns)


def _scene_column(codes: np.ndarray, scene_ids: pd.Index) -> pd.Categorical:
    """Scene ids as categories of their own: a source's column does not list another's scenes."""
    used = np.zeros(len(scene_ids), dtype=bool)
    used[codes] = True
    if used.all():
        return pd.Categorical.from_codes(codes, scene_ids)
    renumbered = np.cumsum(used, dtype=np.int32) - 1
    return pd.Categorical.from_codes(renumbered[codes], scene_ids[used])


def _sample_ids(sensors: np.ndarray, time: np.ndarray, *, ids: pd.Index) -> pd.Series:
    """``<sensor_id>@<time>``, the time compact as 20200601T130000, with decimals if it has any."""
    which, instants = pd.factorize(time)
    whole = instants.astype("datetime64[s]")
    rest_us = (instants - whole).astype("timedelta64[us]").astype(np.int64)
    words = pd.Series(np.datetime_as_string(whole, unit="s").astype(object), dtype="str")
    words = "@" + words.str.replace("-", "").str.replace(":", "")
    if rest_us.any():
        decimals = [f".{micro:06d}" if micro else "" for micro in rest_us.tolist()]
        words = words + pd.Series(decimals, dtype="str")
    names = pd.Series(ids.astype(str), dtype="str").take(sensors).reset_index(drop=True)
    return names + words.take(which).reset_index(drop=True)

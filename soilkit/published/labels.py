"""In-situ labels for published records: by network, station, probe and time, with every miss told.

The shards hold labels of SMAP's core sites only; the others come from the user's own ISMN archive.
What cannot be told apart is counted and left without a label, never guessed.
"""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from soilkit import insitu
from soilkit.contracts import OBSERVATIONS, STATIONS, Column, Table, check
from soilkit.insitu import rules
from soilkit.published import naming
from soilkit.published.naming import Meaning, Names

TOLERANCE_S = 180  # of a reading's time: published times are float32 milliseconds, 131 s apart
AGREE_M3_M3 = 0.005  # a probe's noise (Seyfried and Murdock, 2004, doi:10.2136/sssaj2004.4010)

MERGED = "merged"
IN_THE_SHARD = "label in the shard"
NO_READING = "no reading within 3 min"
MANY_READINGS = "readings within 3 min disagree"
FLAGGED = "reading flagged "
NO_ARCHIVE = "no label in the shard, and no in-situ archive given"
DAMAGED = "record fails its checksum"
RECORDS = Table(
    "records",
    (
        Column("sensor_id", "string"),
        Column("time", "time", "UTC"),
        Column("soil_moisture_m3_m3", "float", "m3 m-3"),
        Column("latitude", "float", "degrees"),
        Column("longitude", "float", "degrees"),
    ),
)

# What the script published with the shards does in each case: it ignores flags and the probe's
# name, and takes the first station and the first probe at 0.05 m that fit.
PAPER_DOES = {
    MERGED: "merges",
    IN_THE_SHARD: "keeps",
    FLAGGED: "merges the flagged reading",
    naming.MANY_PROBES: "merges the first probe",
    naming.MANY_STATIONS: "merges the first station",
    naming.ELSEWHERE: "merges",
    naming.NO_PROBE: "merges another probe, if one stands at 0.05 m",
    MANY_READINGS: "value failure",
    naming.NOT_AN_ID: "value failure",
    NO_ARCHIVE: "needs the archive too",
    DAMAGED: "stops",
}
PAPER_MISSES = "look-up failure"
AMBIGUOUS = (naming.MANY_PROBES, naming.MANY_STATIONS, MANY_READINGS)


class Labels:
    """The readings of an in-situ archive, ready to be merged into published records.

    Parameters
    ----------
    stations : stations table
    observations : observations table with *all* flags, so that a flagged reading is told from none
    flags : tuple of text, the flags accepted; None accepts all
    max_distance_m : float, m; a station of the right name that stands farther off is another place
    """

    def __init__(
        self,
        stations: pd.DataFrame,
        observations: pd.DataFrame,
        *,
        flags: tuple[str, ...] | None = rules.DEFAULT_FLAGS,
        max_distance_m: float = naming.MAX_DISTANCE_M,
    ) -> None:
        check(stations, STATIONS)
        check(observations, replace(OBSERVATIONS, key=()))  # a key's check costs gigabytes
        if not isinstance(observations["flag"].dtype, pd.CategoricalDtype):
            observations = observations.astype({"sensor_id": "category", "flag": "category"})
        accepted = observations["flag"].cat.categories.isin(
            rules.accepted_flags(flags, observations["flag"].cat.categories)
        )
        good = accepted[observations["flag"].cat.codes.to_numpy()]
        self.stations = stations
        self.station_of = dict(
            stations[["sensor_id", "station_id"]].astype(str).itertuples(index=False, name=None)
        )
        self.fingerprint = _fingerprint(stations, observations, good)
        self._names = Names(stations, max_distance_m=max_distance_m)
        self._meanings: dict[tuple[str, float, float], Meaning] = {}
        self._good = _Readings(observations, good)
        self._flagged = _Readings(observations, ~good)

    @classmethod
    def from_ismn(
        cls,
        path: str | Path,
        *,
        flags: tuple[str, ...] | None = rules.DEFAULT_FLAGS,
        cache_dir: str | Path | None = None,
        progress: bool = True,
    ) -> "Labels":
        """The labels of an ISMN archive, zip or folder; some 30 bytes a surface reading in memory.

        Parameters
        ----------
        path, cache_dir, progress : as in ``insitu.read_ismn``
        flags : tuple of text, the flags accepted; None accepts all
        """
        how: dict[str, Any] = {"cache_dir": cache_dir, "progress": progress}
        stations = insitu.read_stations(path, without_coordinates="drop", **how)
        observations = insitu.read_ismn(path, flags=None, **how)
        return cls(stations, observations, flags=flags)

    def merge(self, records: pd.DataFrame) -> pd.DataFrame:
        """A label, or the reason why there is none, for every record.

        The reading is the archive's own: exactly one sensor that the id can mean, and the reading
        nearest to the record's time among those within 3 minutes, if they agree within a probe's
        noise of 0.005 m3 m-3.

        Parameters
        ----------
        records : DataFrame of ``sensor_id`` (NETWORK__STATION__SENSOR), ``time`` (UTC),
            ``soil_moisture_m3_m3`` (NaN where the shard has none), ``latitude``, ``longitude``

        Returns
        -------
        DataFrame, a row a record in its order: ``outcome`` ("merged", "label in the shard", or the
            reason), ``soil_moisture_m3_m3``, ``insitu_sensor_id`` (of the sensor that the id
            means, "" where none), ``insitu_time`` and ``flag`` of the reading found, accepted or
            not (NaT and "" where none)

        Raises
        ------
        ContractError
            If a column is missing.
        """
        check(records, RECORDS)
        known = records["soil_moisture_m3_m3"].notna().to_numpy()
        meanings = [
            Meaning(reason=IN_THE_SHARD) if has else self._meaning(*row)
            for has, *row in zip(
                known, *(records[c] for c in ("sensor_id", "latitude", "longitude")), strict=True
            )
        ]
        sensors = np.array([m.sensor_id for m in meanings], dtype=object)
        out = pd.DataFrame(
            {
                "outcome": np.array([m.reason for m in meanings], dtype=object),
                "soil_moisture_m3_m3": records["soil_moisture_m3_m3"].to_numpy(np.float32),
                "insitu_sensor_id": sensors,
            }
        )
        time = records["time"].to_numpy().astype("datetime64[us]")
        return _settled(out, self._good.near(sensors, time), self._flagged.near(sensors, time))

    def _meaning(self, sensor_id: str, latitude: float, longitude: float) -> Meaning:
        key = (str(sensor_id), float(latitude), float(longitude))
        if key not in self._meanings:
            self._meanings[key] = self._names.find(key[0], latitude=key[1], longitude=key[2])
        return self._meanings[key]


def _fingerprint(stations: pd.DataFrame, observations: pd.DataFrame, good: np.ndarray) -> str:
    """What tells these labels from others: sensors and their places, accepted readings."""
    digest = hashlib.sha256(stations.to_csv(index=False).encode())
    for column in ("time", "soil_moisture_m3_m3"):
        digest.update(np.ascontiguousarray(observations[column].to_numpy()).view(np.uint8).data)
    digest.update(np.packbits(good).data)
    return digest.hexdigest()


def _settled(out: pd.DataFrame, good: pd.DataFrame, flagged: pd.DataFrame) -> pd.DataFrame:
    """The outcome of every record whose sensor was found: its reading, or why there is none."""
    sought = (out["outcome"] == "").to_numpy()
    found = sought & (good["n"] > 0).to_numpy()
    apart = found & (good["spread"] > AGREE_M3_M3).to_numpy()
    merged = found & ~apart
    bad = sought & ~found & (flagged["n"] > 0).to_numpy()
    out.loc[merged, "outcome"] = MERGED
    out.loc[apart, "outcome"] = MANY_READINGS
    out.loc[bad, "outcome"] = FLAGGED + flagged.loc[bad, "flag"].astype(str)
    out.loc[sought & ~found & ~bad, "outcome"] = NO_READING
    out.loc[merged, "soil_moisture_m3_m3"] = good.loc[merged, "value"]
    out["insitu_time"] = good["time"].where(merged, flagged["time"].where(bad))
    out["flag"] = good["flag"].where(merged, flagged["flag"].where(bad, ""))
    return out


class _Readings:
    """Some of the readings, sensor by sensor, for look-ups in time."""

    def __init__(self, observations: pd.DataFrame, chosen: np.ndarray):
        rows = observations[chosen]
        sensor = rows["sensor_id"].cat
        codes = sensor.codes.to_numpy()
        time = rows["time"].to_numpy().astype("datetime64[us]").view("int64")
        if not bool(((np.diff(codes) > 0) | ((np.diff(codes) == 0) & (np.diff(time) >= 0))).all()):
            order = np.lexsort((time, codes))
            rows, codes, time = rows.iloc[order], codes[order], time[order]
        self._time = time
        self._value = rows["soil_moisture_m3_m3"].to_numpy(np.float32)
        self._flag = rows["flag"].cat.codes.to_numpy()
        self._flags = rows["flag"].cat.categories.to_numpy(dtype=object)
        edges = np.searchsorted(codes, np.arange(len(sensor.categories) + 1))
        self._slices = {
            str(name): (int(a), int(b))
            for name, a, b in zip(sensor.categories, edges[:-1], edges[1:], strict=True)
        }

    def near(self, sensors: np.ndarray, time: np.ndarray) -> pd.DataFrame:
        """For each (sensor, time): readings within the tolerance, the nearest one, their spread."""
        instant = time.view("int64")
        first, last = np.zeros(len(time), int), np.zeros(len(time), int)
        for sensor, rows in pd.Series(range(len(sensors))).groupby(sensors):
            start, stop = self._slices.get(str(sensor), (0, 0))
            there, at = self._time[start:stop], instant[rows]
            tolerance = TOLERANCE_S * 1_000_000
            first[rows] = start + np.searchsorted(there, at - tolerance, side="left")
            last[rows] = start + np.searchsorted(there, at + tolerance, side="right")
        nearest, spread = self._nearest(first, last, instant)
        found = last > first
        table = pd.DataFrame({"n": last - first, "spread": spread})
        table["value"] = np.where(found, _take(self._value, nearest), np.nan).astype(np.float32)
        when = _take(self._time, nearest).astype("datetime64[us]")
        table["time"] = np.where(found, when, np.datetime64("NaT", "us"))
        flags = _take(self._flag, nearest)
        table["flag"] = np.where(found, _take(self._flags, flags), "")
        return table

    def _nearest(
        self, first: np.ndarray, last: np.ndarray, instant: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The row of the reading nearest in time, and the range of values, of each window."""
        nearest, spread = first.copy(), np.zeros(len(first))
        for i in np.flatnonzero(last - first > 1):  # rare: the archive is hourly
            window = slice(first[i], last[i])
            nearest[i] = first[i] + np.abs(self._time[window] - instant[i]).argmin()
            spread[i] = np.ptp(self._value[window])
        return nearest, spread


def _take(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """``values[rows]``; rows beyond the end, which nobody reads, give the last; none give zeros."""
    if len(values) == 0:
        return np.zeros(len(rows), values.dtype)
    return values[np.minimum(rows, len(values) - 1)]


def count(merged: pd.DataFrame, sensor_ids: pd.Series) -> pd.DataFrame:
    """What was merged, what was not and why, by network.

    Parameters
    ----------
    merged : DataFrame, as ``Labels.merge`` gave it
    sensor_ids : Series, the records' published ids in the same order

    Returns
    -------
    DataFrame with ``network``, ``outcome``, ``records``, ``sensors`` and ``paper_script``: what the
        script that was published with the shards does in that case; the records add up to all
    """
    ids = sensor_ids.astype(str).reset_index(drop=True)
    table = pd.DataFrame({"network": ids.str.split("__").str[0], "sensor": ids})
    table["outcome"] = merged["outcome"].to_numpy()
    counts = table.groupby(["network", "outcome"])["sensor"].agg(records="size", sensors="nunique")
    counts = counts.reset_index()
    counts["paper_script"] = [_paper_does(outcome) for outcome in counts["outcome"]]
    return counts


def _paper_does(outcome: str) -> str:
    return PAPER_DOES.get(FLAGGED if outcome.startswith(FLAGGED) else outcome, PAPER_MISSES)


def beside_the_paper(counts: pd.DataFrame) -> pd.DataFrame:
    """The counts beside those that the published script's README gives for all 500 shards.

    The script ignores flags and the probe's name; here flags are applied and nothing is guessed.

    Returns
    -------
    DataFrame with ``what``, ``records`` (here) and ``paper_script_500_shards`` (text)
    """
    mine = counts.groupby("outcome")["records"].sum()
    done = int(mine.get(MERGED, 0)) + int(mine.get(IN_THE_SHARD, 0))
    flagged = int(mine[mine.index.str.startswith(FLAGGED)].sum())
    unclear = int(mine[mine.index.isin(AMBIGUOUS)].sum())
    rows = [
        ("labelled, in the shard or merged", done, "about 110,000 successes"),
        ("reading flagged", flagged, "flags ignored: among the successes"),
        ("ambiguous", unclear, "first one taken: among the successes"),
        ("not found", int(mine.sum()) - done - flagged - unclear, "< 750 look-up failures"),
    ]
    return pd.DataFrame(rows, columns=["what", "records", "paper_script_500_shards"])

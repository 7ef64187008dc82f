"""In-situ labels for published records: by network, station, probe and time, with every miss told.

The shards hold labels of SMAP's core sites only; the others come from the user's own ISMN archive.
What cannot be told apart is counted and left without a label, never guessed.
"""

import hashlib
from collections.abc import Sequence
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
from soilkit.published.readings import Readings

MERGED = "merged"
IN_THE_SHARD = "label in the shard"
NO_READING = "no reading within 3 min"
MANY_READINGS = "readings within 3 min disagree"
FLAGGED = "reading flagged "
NOT_MOISTURE = "label in the shard is no soil moisture"
NO_TIME = "record has no time"
NO_PLACE = "record has no place in a UTM zone"
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
    NOT_MOISTURE: "keeps",
    NO_TIME: "value failure",
    NO_PLACE: "keeps or merges",
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
        self.stations = stations
        self.station_of = dict(
            stations[["sensor_id", "station_id"]].astype(str).itertuples(index=False, name=None)
        )
        self._names = Names(stations, max_distance_m=max_distance_m)
        self._meanings: dict[tuple[str, float, float], Meaning] = {}
        self._readings = Readings(observations, flags=flags)
        self.fingerprint = _fingerprint(stations, self._readings, max_distance_m)

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
        own = records["soil_moisture_m3_m3"].to_numpy(np.float32)
        asked = zip(records["sensor_id"], records["latitude"], records["longitude"], strict=True)
        meanings = [
            Meaning(reason=IN_THE_SHARD) if has else self._meaning(*place)
            for has, place in zip(np.isfinite(own), asked, strict=True)
        ]
        found = self._found(meanings, records["time"].to_numpy().astype("datetime64[us]"))
        value = np.where(found["outcome"] == IN_THE_SHARD, own, found["soil_moisture_m3_m3"])
        return pd.DataFrame(found | {"soil_moisture_m3_m3": value})

    def merge_one(
        self, sensor_id: str, time: np.datetime64, *, latitude: float, longitude: float
    ) -> dict[str, Any]:
        """What ``merge`` finds for a single record without a label, for streams: its columns."""
        meaning = self._meaning(sensor_id, latitude, longitude)
        found = self._found([meaning], np.array([time], "datetime64[us]"))
        return {name: values[0] for name, values in found.items()}

    def _meaning(self, sensor_id: str, latitude: float, longitude: float) -> Meaning:
        key = (str(sensor_id), float(latitude), float(longitude))
        if key not in self._meanings:
            self._meanings[key] = self._names.find(key[0], latitude=key[1], longitude=key[2])
        return self._meanings[key]

    def _found(self, meanings: Sequence[Meaning], time: np.ndarray) -> dict[str, np.ndarray]:
        """Outcome and reading for sensors that an id means, or does not, at some times."""
        sensors = np.array([m.sensor_id for m in meanings], dtype=object)
        near = self._readings.near(sensors, time)
        outcome = np.array([m.reason for m in meanings], dtype=object)
        sought = outcome == ""
        outcome[sought & ~near.is_found] = NO_READING
        rejected = near.is_found & ~near.is_accepted
        outcome[rejected] = FLAGGED + near.flag[rejected]
        outcome[near.is_accepted] = np.where(near.is_unclear, MANY_READINGS, MERGED)[
            near.is_accepted
        ]
        merged = outcome == MERGED
        told = merged | rejected
        return {
            "outcome": outcome,
            "soil_moisture_m3_m3": np.where(merged, near.value, np.float32(np.nan)),
            "insitu_sensor_id": sensors,
            "insitu_time": np.where(told, near.time, np.datetime64("NaT", "us")),
            "flag": np.where(told, near.flag, ""),
        }


def _fingerprint(stations: pd.DataFrame, readings: Readings, max_distance_m: float) -> str:
    """What tells these labels from others: sensors and their places, accepted readings."""
    digest = hashlib.sha256(f"{max_distance_m}\n{stations.to_csv(index=False)}".encode())
    digest.update(np.ascontiguousarray(readings.time_us).data)
    digest.update(np.ascontiguousarray(readings.value).data)
    digest.update(np.packbits(readings.is_accepted).data)
    return digest.hexdigest()


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

"""In-situ labels for published records: by network, station, probe and time, with every miss."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from soilkit.contracts import OBSERVATIONS, STATIONS, Column, Table, check
from soilkit.export import insitu
from soilkit.export.insitu import rules
from soilkit.export.published import schema
from soilkit.export.published.schema import Meaning, Names

TOLERANCE_S = 180  # of a reading's time: published times are float32 milliseconds, 131 s apart
AGREE_M3_M3 = 0.005  # a probe's noise (Seyfried and Murdock, 2004, doi:10.2136/sssaj2004.4010)
_TOLERANCE_US = TOLERANCE_S * 1_000_000
_NO_TIME = np.datetime64("NaT", "us")


class Nearest(NamedTuple):
    """For each (sensor, time) the reading nearest in time, accepted ones first; arrays (record,).

    ``is_found`` where there is one, ``is_accepted`` where its flag is, ``is_unclear`` where the
    accepted ones within the tolerance differ by more than a probe's noise. ``value`` [m3 m-3],
    ``time`` and ``flag`` are NaN, NaT and "" where none is found.
    """

    is_found: np.ndarray
    is_accepted: np.ndarray
    is_unclear: np.ndarray
    value: np.ndarray
    time: np.ndarray
    flag: np.ndarray


class Readings:
    """The readings of an observations table, sensor by sensor.

    Parameters
    ----------
    observations : observations table, ``sensor_id`` and ``flag`` categorical
    flags : tuple of text, the flags accepted; None accepts all
    """

    def __init__(self, observations: pd.DataFrame, *, flags: tuple[str, ...] | None):
        observations = _sorted(observations)
        sensor, flag = observations["sensor_id"].cat, observations["flag"].cat
        self.time_us = observations["time"].to_numpy().astype("datetime64[us]", copy=False)
        self.time_us = self.time_us.view("int64")
        self.value = observations["soil_moisture_m3_m3"].to_numpy(np.float32)
        self._flags = np.array([*flag.categories.astype(str), ""], dtype=object)
        self._flag = flag.codes.to_numpy()
        accepted = flag.categories.isin(rules.accepted_flags(flags, flag.categories))
        self.is_accepted = np.append(accepted, False)[self._flag]
        codes = sensor.codes.to_numpy()
        edges = np.searchsorted(codes, np.arange(len(sensor.categories) + 1))
        self._slices = {
            str(name): (int(start), int(stop))
            for name, start, stop in zip(sensor.categories, edges[:-1], edges[1:], strict=True)
        }

    def near(self, sensors: np.ndarray, time: np.ndarray) -> Nearest:
        """The reading of each sensor nearest to each time, within 3 minutes.

        Parameters
        ----------
        sensors : array (record,) of text; "" or an unknown one has no reading
        time : array (record,) of datetime64[us]
        """
        n, instant = len(time), time.view("int64")
        first, last = np.zeros(n, np.intp), np.zeros(n, np.intp)
        names, which = np.unique(sensors.astype(str), return_inverse=True)
        order = np.argsort(which, kind="stable")
        for name, rows in zip(names, np.split(order, _borders(which[order])), strict=True):
            start, stop = self._slices.get(str(name), (0, 0))
            there, at = self.time_us[start:stop], instant[rows]
            first[rows] = start + np.searchsorted(there, at - _TOLERANCE_US, side="left")
            last[rows] = start + np.searchsorted(there, at + _TOLERANCE_US, side="right")
        return self._nearest(first, last, instant)

    def _nearest(self, first: np.ndarray, last: np.ndarray, instant: np.ndarray) -> Nearest:
        is_found = last > first
        row, is_unclear = first.copy(), np.zeros(len(first), bool)
        for i in np.flatnonzero(last - first > 1):  # rare: the archive is hourly
            rows = np.arange(first[i], last[i])
            good = rows[self.is_accepted[rows]]
            rows = good if len(good) else rows
            row[i] = rows[np.abs(self.time_us[rows] - instant[i]).argmin()]
            is_unclear[i] = len(good) and np.ptp(self.value[good]) > AGREE_M3_M3
        row = row[is_found]

        def spread(values: np.ndarray, nothing: object) -> np.ndarray:
            out = np.full(len(is_found), nothing, dtype=values.dtype)
            out[is_found] = values
            return out

        return Nearest(
            is_found,
            spread(self.is_accepted[row], False),
            is_unclear,
            spread(self.value[row], np.nan),
            spread(self.time_us[row].view("datetime64[us]"), _NO_TIME),
            spread(self._flags[self._flag[row]], ""),
        )


def _borders(sorted_codes: np.ndarray) -> np.ndarray:
    """Where each code but the first begins."""
    return np.flatnonzero(np.diff(sorted_codes)) + 1


def _sorted(observations: pd.DataFrame) -> pd.DataFrame:
    """The table by sensor and time; the same one where it is already."""
    if not all(
        isinstance(observations[c].dtype, pd.CategoricalDtype) for c in ("sensor_id", "flag")
    ):
        observations = observations.astype({"sensor_id": "category", "flag": "category"})
    codes = observations["sensor_id"].cat.codes.to_numpy()
    time = observations["time"].to_numpy()
    later = time[1:] >= time[:-1]
    if bool(((codes[1:] > codes[:-1]) | ((codes[1:] == codes[:-1]) & later)).all()):
        return observations
    return observations.iloc[np.lexsort((time, codes))]


# In-situ labels for published records: by network, station, probe and time, with every miss told.

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
    schema.MANY_PROBES: "merges the first probe",
    schema.MANY_STATIONS: "merges the first station",
    schema.ELSEWHERE: "merges",
    schema.NO_PROBE: "merges another probe, if one stands at 0.05 m",
    MANY_READINGS: "value failure",
    schema.NOT_AN_ID: "value failure",
    NO_ARCHIVE: "needs the archive too",
    NOT_MOISTURE: "keeps",
    NO_TIME: "value failure",
    NO_PLACE: "keeps or merges",
    DAMAGED: "stops",
}
PAPER_MISSES = "look-up failure"
AMBIGUOUS = (schema.MANY_PROBES, schema.MANY_STATIONS, MANY_READINGS)


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
        max_distance_m: float = schema.MAX_DISTANCE_M,
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

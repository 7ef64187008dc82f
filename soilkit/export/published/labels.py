"""In-situ labels for published records: the one reading that a record means, or why none."""

import hashlib
import re
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from soilkit.contracts import OBSERVATIONS, STATIONS, Column, Table, check
from soilkit.export import insitu
from soilkit.export.insitu import rules
from soilkit.export.insitu.ismn import plain

TOLERANCE = np.timedelta64(180, "s")  # published times are float32 milliseconds, 131 s apart
AGREE_M3_M3 = 0.005  # a probe's noise (Seyfried and Murdock, 2004, doi:10.2136/sssaj2004.4010)
MAX_DISTANCE_M = 1280.0  # half of the 2.56 km that models see: beyond it the probe is off the image
LABEL_DEPTH_M = (0.045, 0.055)  # where a 5 cm reading ends; two inches are 0.0508 m
METRES_PER_DEGREE = 111_195.0

MERGED = "merged"
IN_THE_SHARD = "label in the shard"
NOT_AN_ID = "sensor_id is not NETWORK__STATION__SENSOR"
NO_NETWORK = "network absent"
NO_STATION = "station absent"
ELSEWHERE = "station stands elsewhere"
NO_PROBE = "probe absent at 5 cm"
MANY_STATIONS = "several stations fit"
MANY_PROBES = "several probes or depths fit"
NO_READING = "no reading within 3 min"
MANY_READINGS = "readings within 3 min disagree"
FLAGGED = "reading flagged "
NOT_MOISTURE = "label in the shard is no soil moisture"
NO_TIME = "record has no time"
NO_PLACE = "record has no place in a UTM zone"
NO_ARCHIVE = "no label in the shard, and no in-situ archive given"
DAMAGED = "record fails its checksum"
AMBIGUOUS = (MANY_PROBES, MANY_STATIONS, MANY_READINGS)
RECORDS = Table(
    "records",
    (Column("sensor_id", "string"), Column("time", "time", "UTC"),
     Column("soil_moisture_m3_m3", "float", "m3 m-3"),
     Column("latitude", "float", "degrees"), Column("longitude", "float", "degrees")),
)  # fmt: skip

# What the script published with the shards does in each case: it ignores flags and the probe's
# name, and takes the first station and the first probe at 0.05 m that fit.
PAPER_DOES = {
    MERGED: "merges",
    IN_THE_SHARD: "keeps",
    FLAGGED: "merges the flagged reading",
    MANY_PROBES: "merges the first probe",
    MANY_STATIONS: "merges the first station",
    ELSEWHERE: "merges",
    NO_PROBE: "merges another probe, if one stands at 0.05 m",
    MANY_READINGS: "value failure",
    NOT_AN_ID: "value failure",
    NO_ARCHIVE: "needs the archive too",
    NOT_MOISTURE: "keeps",
    NO_TIME: "value failure",
    NO_PLACE: "keeps or merges",
    DAMAGED: "stops",
}
PAPER_MISSES = "look-up failure"

_TWIN = re.compile(r"~\d+$")  # the mark of the second of two equal file names
_BORDER = re.compile(r"[-_ ]")
_NO_TIME = np.datetime64("NaT", "us")


@dataclass(frozen=True)
class Label:
    """What a record's id and time lead to.

    ``insitu_sensor_id`` is the sensor that the id means, "" where none or several; ``insitu_time``
    and ``flag`` are those of its nearest reading, accepted or not.
    """

    outcome: str
    soil_moisture_m3_m3: float = float("nan")
    insitu_sensor_id: str = ""
    insitu_time: np.datetime64 = _NO_TIME
    flag: str = ""


def id_parts(sensor_id: str) -> tuple[str, str, str] | None:
    """Network, station and sensor of a published id; None where it is none.

    Examples
    --------
    >>> id_parts("FR_Aqui__fraye__ThetaProbe-ML2X")
    ('FR_Aqui', 'fraye', 'ThetaProbe-ML2X')
    """
    words = sensor_id.split("__")
    return (words[0], words[1], words[2]) if len(words) == 3 and all(words) else None


class Labels:
    """The readings of an in-situ archive, ready to be merged into published records.

    The observations hold *all* flags, so that a flagged reading is told from none; ``flags`` are
    those accepted, None accepts all.
    """

    def __init__(
        self,
        stations: pd.DataFrame,
        observations: pd.DataFrame,
        *,
        flags: tuple[str, ...] | None = rules.DEFAULT_FLAGS,
    ) -> None:
        check(stations, STATIONS)
        check(observations, replace(OBSERVATIONS, key=()))  # a key's check costs gigabytes
        self.stations = stations
        self.station_of = dict(
            stations[["sensor_id", "station_id"]].astype(str).itertuples(index=False, name=None)
        )
        places = stations.drop_duplicates("station_id")
        networks = places["network"].astype(str).map(plain)
        self._places = {str(key): rows for key, rows in places.groupby(networks)}
        self._probes = stations[stations["depth_to_m"].between(*LABEL_DEPTH_M)]
        self._sensors: dict[tuple[str, float, float], Label] = {}
        self._read(observations, flags)

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

        ``path``, ``cache_dir`` and ``progress`` are those of ``insitu.read_ismn``; ``flags`` None
        accepts all.
        """
        reading: dict[str, Any] = {"cache_dir": cache_dir, "progress": progress}
        stations = insitu.read_stations(path, without_coordinates="drop", **reading)
        return cls(stations, insitu.read_ismn(path, flags=None, **reading), flags=flags)

    def _read(self, observations: pd.DataFrame, flags: tuple[str, ...] | None) -> None:
        """Keep the readings by sensor and time."""
        table = observations.astype({"sensor_id": "category", "flag": "category"})
        codes, time = table["sensor_id"].cat.codes.to_numpy(), table["time"].to_numpy()
        step = np.diff(codes)
        if not ((step > 0) | (step == 0) & (time[1:] >= time[:-1])).all():
            table = table.iloc[np.lexsort((time, codes))]
        names, codes = table["sensor_id"].cat.categories, table["sensor_id"].cat.codes
        edges = np.searchsorted(codes, np.arange(len(names) + 1))
        self._rows = {
            str(name): slice(*pair)
            for name, pair in zip(names, zip(edges[:-1], edges[1:], strict=True), strict=True)
        }
        self._time = table["time"].to_numpy().astype("datetime64[us]", copy=False)
        self._value = table["soil_moisture_m3_m3"].to_numpy(np.float32)
        kinds = table["flag"].cat.categories.astype(str)
        self._flags, self._flag = [*kinds, ""], table["flag"].cat.codes.to_numpy()
        accepted = kinds.isin(rules.accepted_flags(flags, kinds))
        self._is_accepted = np.append(accepted, False)[self._flag]
        digest = hashlib.sha256(self.stations.to_csv(index=False).encode())
        for array in (self._time.view("int64"), self._value, np.packbits(self._is_accepted)):
            digest.update(np.ascontiguousarray(array).data)
        self.fingerprint = digest.hexdigest()  # tells these labels from others

    def merge(self, records: pd.DataFrame) -> pd.DataFrame:
        """A ``Label``, or the reason why there is none, of every record, a row each in their order.

        Records have ``sensor_id`` (NETWORK__STATION__SENSOR), ``time`` (UTC),
        ``soil_moisture_m3_m3`` (NaN where the shard has none), ``latitude`` and ``longitude``, or
        raise ``ContractError``.
        """
        check(records, RECORDS)
        labels = [
            Label(IN_THE_SHARD, row.soil_moisture_m3_m3)
            if np.isfinite(row.soil_moisture_m3_m3)
            else self.find(row.sensor_id, row.time, latitude=row.latitude, longitude=row.longitude)
            for row in records.itertuples(index=False)
        ]
        return pd.DataFrame(labels, columns=[f.name for f in fields(Label)])

    def find(
        self, sensor_id: str, time: np.datetime64, *, latitude: float, longitude: float
    ) -> Label:
        """The label of one record that holds none.

        The reading is the archive's own: exactly one sensor that the id can mean, and the reading
        nearest to the record's time among those within 3 minutes, if they agree within a probe's
        noise of 0.005 m3 m-3.
        """
        key = (str(sensor_id), float(latitude), float(longitude))
        if key not in self._sensors:
            self._sensors[key] = self._sensor(*key)
        meant = self._sensors[key]
        if meant.outcome:
            return meant
        start = (rows := self._rows.get(meant.insitu_sensor_id, slice(0, 0))).start
        there, at = self._time[rows], pd.Timestamp(time).to_datetime64()
        first = start + np.searchsorted(there, at - TOLERANCE, side="left")
        last = start + np.searchsorted(there, at + TOLERANCE, side="right")
        if first == last:
            return replace(meant, outcome=NO_READING)
        near = np.arange(first, last)
        good = near[self._is_accepted[near]]
        near = good if len(good) else near
        row = near[np.abs(self._time[near] - at).argmin()]
        flag = self._flags[self._flag[row]]
        label = replace(meant, outcome=MERGED, insitu_time=self._time[row], flag=flag)
        if not len(good):
            return replace(label, outcome=FLAGGED + flag)
        if np.ptp(self._value[good]) > AGREE_M3_M3:
            return replace(meant, outcome=MANY_READINGS)
        return replace(label, soil_moisture_m3_m3=self._value[row])

    def _sensor(self, sensor_id: str, latitude: float, longitude: float) -> Label:
        """The one sensor that an id means, or why there is none: a label without a reading.

        Network and station agree in letters and digits; where no station does, one that holds every
        part of the published name and is known to stand there may be it. The probe is the one of
        that name, else those whose names go on from it ("SMP1" and "SMP1-A"). Where two fit, none
        is taken. A place of NaN trusts the name alone.
        """
        words = id_parts(sensor_id)
        if words is None:
            return Label(NOT_AN_ID)
        network, station, probe = words
        places = self._places.get(plain(network))
        if places is None:
            return Label(NO_NETWORK)
        far_m = _distance_m(places, latitude, longitude)
        names = places["station"].astype(str)
        fits = names.map(plain) == plain(station)
        if fits.any():
            near = places[fits & ~(far_m > MAX_DISTANCE_M)]
        else:
            near = places[_holds_parts(names, station) & (far_m <= MAX_DISTANCE_M)]
        if len(near) != 1:
            missing = ELSEWHERE if fits.any() else NO_STATION
            return Label(MANY_STATIONS if len(near) else missing)
        probes = self._probes[self._probes["station_id"] == near["station_id"].iloc[0]]
        named = {s: _TWIN.sub("", s.split("__")[2]) for s in probes["sensor_id"].astype(str)}
        same = [s for s, name in named.items() if plain(name) == plain(probe)]
        same = same or [s for s, name in named.items() if _goes_on(name, probe)]
        if len(same) == 1:
            return Label("", insitu_sensor_id=same[0])
        return Label(MANY_PROBES if same else NO_PROBE)


def _holds_parts(names: pd.Series, station: str) -> np.ndarray:
    """Which names hold every part of a published one, as its own script compares them."""
    words = [word for word in station.split("_") if word]
    return np.array([all(w in n or w in n.replace("-", "") for w in words) for n in names], bool)


def _goes_on(probe: str, wanted: str) -> bool:
    """Whether a name is the wanted one and more words, as in "SMP1" and "SMP1-A"."""
    words, start = (_BORDER.split(name.lower()) for name in (probe, wanted))
    return len(words) > len(start) and words[: len(start)] == start


def _distance_m(places: pd.DataFrame, latitude: float, longitude: float) -> pd.Series:
    """How far each station stands from a point [m]; NaN where either is unknown."""
    north = (places["latitude"] - latitude) * METRES_PER_DEGREE
    east = (places["longitude"] - longitude) * METRES_PER_DEGREE * np.cos(np.radians(latitude))
    return np.hypot(north, east)


def count(merged: pd.DataFrame, sensor_ids: pd.Series) -> pd.DataFrame:
    """What was merged, what was not and why, by network.

    ``merged`` has the ``outcome`` of ``Labels.merge``, ``sensor_ids`` are the records' published
    ids in the same order.

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
    kinds = [FLAGGED if o.startswith(FLAGGED) else o for o in counts["outcome"]]
    return counts.assign(paper_script=[PAPER_DOES.get(kind, PAPER_MISSES) for kind in kinds])


def beside_the_paper(counts: pd.DataFrame) -> pd.DataFrame:
    """``what``, ``records`` and ``paper_script_500_shards``, which its README tells in words.

    The script ignores flags and the probe's name; here flags are applied and nothing is guessed.
    """
    ours = counts.groupby("outcome")["records"].sum()
    labelled = int(ours[ours.index.isin((MERGED, IN_THE_SHARD))].sum())
    flagged = int(ours[ours.index.str.startswith(FLAGGED)].sum())
    unclear = int(ours[ours.index.isin(AMBIGUOUS)].sum())
    rows = [
        ("labelled, in the shard or merged", labelled, "about 110,000 successes"),
        ("reading flagged", flagged, "flags ignored: among the successes"),
        ("ambiguous", unclear, "first one taken: among the successes"),
        ("not found", int(ours.sum()) - labelled - flagged - unclear, "< 750 look-up failures"),
    ]
    return pd.DataFrame(rows, columns=["what", "records", "paper_script_500_shards"])

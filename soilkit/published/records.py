"""What is kept of a published record beside its images."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from soilkit import grids, sources, units
from soilkit.contracts import ChipRequest
from soilkit.errors import ContractError
from soilkit.insitu import names
from soilkit.published import labels as labelling
from soilkit.published import naming
from soilkit.published.images import PREFIX, compact
from soilkit.published.labels import Labels
from soilkit.published.shards import Sample

COARSE = {"smap": "smap", "gldas": "gldas"}  # our source, and its prefix in the shards
ALL_PREFIXES = PREFIX | COARSE
# A label called sm_0_5 is that of 0-5 cm; the other one, of a probe at 5 cm.
DEPTHS_M = {"sm_0_5": (0.0, 0.05), "sm_5_5": (0.05, 0.05)}


@dataclass
class Record:
    """One record: its label or why it has none, its place, and which scenes it was given."""

    outcome: str
    published_id: str = ""
    sensor_id: str = ""
    station_id: str = ""
    time: np.datetime64 = np.datetime64("NaT", "us")
    soil_moisture_m3_m3: float = np.nan
    flag: str = ""
    label: str = ""  # sm_0_5 or sm_5_5, where the shard holds it
    latitude: float = np.nan
    longitude: float = np.nan
    place_told: bool = False
    cloud_fraction: float = np.nan
    orbit: str = ""
    coarse: dict[str, float] = field(default_factory=dict)
    ages_hours: dict[str, float] = field(default_factory=dict)
    scenes: dict[str, str] = field(default_factory=dict)
    times: dict[str, np.datetime64] = field(default_factory=dict)

    @property
    def is_labelled(self) -> bool:
        """Whether the record can become a sample."""
        return self.outcome in (labelling.MERGED, labelling.IN_THE_SHARD)

    def note(self, request: ChipRequest) -> None:
        """Keep which scene a chip was."""
        self.scenes[request.source] = request.scene_id
        self.times[request.source] = request.time

    def row(self) -> dict[str, Any]:
        """The record as one row of a table."""
        plain = {k: v for k, v in vars(self).items() if not isinstance(v, dict)}
        for name in ALL_PREFIXES:
            plain[f"{name}_scene"] = self.scenes.get(name, "")
            plain[f"{name}_age_hours"] = self.ages_hours.get(name, np.nan)
            plain[f"{name}_time"] = self.times.get(name, np.datetime64("NaT", "us"))
        return plain | {f"{name}_value": self.coarse.get(name, np.nan) for name in COARSE}


def read_record(sample: Sample, labels: Labels | None) -> Record:
    """A record with its label, merged from ``labels`` where the shard holds none.

    A merged label takes the reading's own time, which is exact; the shard's is known to 66 s.
    """
    own = sample.soil_moisture_m3_m3
    record = Record(
        _unusable(sample) or labelling.NO_ARCHIVE,
        published_id=sample.sensor_id,
        time=sample.time,
        latitude=sample.latitude,
        longitude=sample.longitude,
        cloud_fraction=_number(sample.scalars.get("sentinel_2_cloud_percentage")) / 100,
        orbit=str(sample.scalars.get("sentinel_1_orbit_pass", "")),
        coarse=sample.coarse,
    )
    if record.outcome != labelling.NO_ARCHIVE:
        return record
    if np.isfinite(own):
        _take_own(record, sample, own)
    elif labels is not None:
        _merge(record, labels)
    _date(record, sample)
    return record


def _unusable(sample: Sample) -> str:
    """Why no label can make a sample of a record; empty where one can."""
    if np.isnat(sample.time):
        return labelling.NO_TIME
    try:
        grids.utm_crs(sample.latitude, sample.longitude)
    except ContractError:
        return labelling.NO_PLACE
    return ""


def _take_own(record: Record, sample: Sample, value: float) -> None:
    named = naming.parts(record.published_id)
    if named is None or not 0 < value <= units.MAX_SOIL_MOISTURE_M3_M3:
        record.outcome = naming.NOT_AN_ID if named is None else labelling.NOT_MOISTURE
        return
    network, station, probe = named
    which = next(n for n in DEPTHS_M if _number(sample.scalars.get(n)) == value)
    record.outcome, record.soil_moisture_m3_m3 = labelling.IN_THE_SHARD, value
    record.label = which
    record.station_id = names.station_id(network, station)
    record.sensor_id = names.sensor_id(network, station, instrument=probe, depth_m=DEPTHS_M[which])


def _merge(record: Record, labels: Labels) -> None:
    place = {"latitude": record.latitude, "longitude": record.longitude}
    found = labels.merge_one(record.published_id, record.time, **place)
    record.outcome, record.flag = str(found["outcome"]), str(found["flag"])
    if record.outcome == labelling.MERGED:
        record.soil_moisture_m3_m3 = float(found["soil_moisture_m3_m3"])
        record.time = found["insitu_time"]
        record.sensor_id = str(found["insitu_sensor_id"])
        record.station_id = labels.station_of[record.sensor_id]


def _date(record: Record, sample: Sample) -> None:
    """Ages of all dated sources, and the scenes of the coarse ones, which have no image."""
    ages, times = sample.ages_hours, sample.scene_times
    for name, prefix in ALL_PREFIXES.items():
        if not sources.get(name).is_static:
            record.ages_hours[name] = ages.get(prefix, np.nan)
    for name, prefix in COARSE.items():
        when = times.get(prefix, np.datetime64("NaT", "us"))
        if not np.isnat(when) and np.isfinite(record.coarse[name]):
            record.times[name] = when
            record.scenes[name] = compact(when)
        else:
            record.ages_hours[name] = np.nan


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return np.nan

"""Records of all shards to the tables of a dataset: what stands, what was dropped and why."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd

from soilkit import contracts, sources
from soilkit.chips.manifest import Entry, Ledger
from soilkit.chips.requests import settle
from soilkit.files import write_whole
from soilkit.published import labels as labelling
from soilkit.published.images import BANDS
from soilkit.published.records import ALL_PREFIXES, COARSE, DEPTHS_M, Record

Ledgers = Mapping[str, Mapping[tuple[str, str], Entry]]
LATE = "seen after the reading"
REPEATED = "repeats a record of the same sensor and time"
KEPT = (labelling.MERGED, labelling.IN_THE_SHARD)


@dataclass
class Dataset:
    """The tables of a converted dataset, and how its records came by their labels.

    ``label_counts`` is ``labels.count`` of all records; ``places_inferred`` the number of labelled
    records whose polygon did not tell where the image lies.
    """

    stations: pd.DataFrame
    observations: pd.DataFrame
    scenes: pd.DataFrame
    drops: pd.DataFrame
    features: pd.DataFrame
    samples: pd.DataFrame
    label_counts: pd.DataFrame
    places_inferred: int = 0

    @property
    def n_records(self) -> int:
        """All records: samples and counted drops."""
        return len(self.samples) + int(self.drops["count"].sum())


def records_table(records: Sequence[Record]) -> pd.DataFrame:
    """Records as a table whose columns have the same kinds however many there are."""
    table = pd.DataFrame([record.row() for record in [*records, Record("")]])
    kinds = {c: "datetime64[us]" for c in table.columns if c == "time" or c.endswith("_time")}
    return table.astype(kinds).iloc[:-1]


def ledgers_of(store: Path) -> Ledgers:
    """What the store knows of each chip; nothing where there is none."""
    return {name: Ledger(store, name).entries for name in BANDS}


def all_stand(table: pd.DataFrame, ledgers: Ledgers) -> bool:
    """Whether the store has, or never will have, every chip that a shard's records name."""
    rows = table[table["outcome"].isin(KEPT)]
    for name, entries in ledgers.items():
        for key in zip(rows[f"{name}_scene"], rows["station_id"], strict=True):
            entry = entries.get(key)
            if entry is None or not (entry.data_sha256 or entry.permanent):
                return False
    return True


def assemble(
    records: pd.DataFrame,
    *,
    stations: pd.DataFrame | None,
    ledgers: Ledgers,
    min_valid_fraction: float,
) -> Dataset:
    """The tables of a dataset; every record is a sample or a counted drop.

    Parameters
    ----------
    records : table of ``records_table``
    stations : stations table of the in-situ archive, if there is one
    ledgers : what the store knows of each chip
    min_valid_fraction : float, 0-1, of a chip's pixels, below which a sample is dropped
    """
    labelled = records[records["outcome"].isin(KEPT)].sort_values(
        ["sensor_id", "time"], kind="stable", ignore_index=True
    )
    rows, spare = _parted(labelled)
    samples, chip_drops = settle(
        _samples(rows),
        ledgers,
        chosen=[sources.get(name) for name in BANDS],
        min_valid_fraction=min_valid_fraction,
    )
    unlabelled = records[~records["outcome"].isin(KEPT)]
    drops = [
        _drops(unlabelled["published_id"], "label", unlabelled["outcome"]),
        spare,
        chip_drops,
    ]
    dataset = Dataset(
        stations=_stations(rows, stations),
        observations=_observations(rows),
        scenes=_scenes(rows, ledgers),
        drops=pd.concat(drops, ignore_index=True),
        features=_features(rows, samples),
        samples=samples,
        label_counts=labelling.count(records, records["published_id"]),
        places_inferred=int((~labelled["place_told"].astype(bool)).sum()),
    )
    for name in ("stations", "observations", "scenes", "drops", "features", "samples"):
        contracts.check(getattr(dataset, name), getattr(contracts, name.upper()))
    return dataset


def _samples(rows: pd.DataFrame) -> pd.DataFrame:
    columns = ["sensor_id", "station_id", "time", "soil_moisture_m3_m3"]
    table = rows[columns].assign(sample_id=_sample_ids(rows))[["sample_id", *columns]]
    for name in ALL_PREFIXES:
        scene, age = f"{name}_scene", f"{name}_age_hours"
        table[scene] = rows[scene].where(rows[scene] != "", None).astype("category")
        table[age] = rows[age]
    return table


def _sample_ids(rows: pd.DataFrame) -> pd.Series:
    return rows["sensor_id"].astype("str") + rows["time"].dt.strftime("@%Y%m%dT%H%M%S")


def _parted(labelled: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The records that become samples, and drops of those that repeat one or see the future."""
    repeats, late = labelled.duplicated(["sensor_id", "time"]), _late(labelled)
    ahead = ~repeats & (late != "")
    drops = [
        _drops(labelled["sensor_id"][repeats], "record", REPEATED),
        _drops(labelled["sensor_id"][ahead], late[ahead], LATE),
    ]
    rows = labelled[~repeats & ~ahead].reset_index(drop=True)
    return rows, pd.concat(drops, ignore_index=True)


def _late(rows: pd.DataFrame) -> pd.Series:
    """The first source of each record that was seen after its reading; empty where none was."""
    late = pd.Series("", index=rows.index, dtype="str")
    for name in ALL_PREFIXES:
        late[(rows[f"{name}_age_hours"] < 0) & (late == "")] = name
    return late


def _drops(sensor_ids: pd.Series, source: pd.Series | str, reason: pd.Series | str) -> pd.DataFrame:
    table = pd.DataFrame({"sensor_id": sensor_ids.astype("str"), "source": source})
    table["reason"] = reason
    counts = table.groupby(["sensor_id", "source", "reason"]).size().rename("count")
    return counts.reset_index().astype({"source": "str", "reason": "str"})


def _features(rows: pd.DataFrame, samples: pd.DataFrame) -> pd.DataFrame:
    """SMAP [mm] and GLDAS [kg m-2] of each sample; NaN where the shard has none."""
    table = pd.DataFrame({"sample_id": _sample_ids(rows)})
    for name in COARSE:
        table[f"{name}_{sources.get(name).bands[0].name}"] = rows[f"{name}_value"]
    return samples[["sample_id"]].merge(table, on="sample_id", how="left")


def _observations(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[["sensor_id", "time", "soil_moisture_m3_m3", "flag"]].astype({"flag": "str"})


def _scenes(rows: pd.DataFrame, ledgers: Ledgers) -> pd.DataFrame:
    """Each scene of each station once, instantaneous: the shards give one stamp a source."""
    parts = []
    for name in ALL_PREFIXES:
        table = rows.drop_duplicates(["station_id", f"{name}_scene"])
        table = table[table[f"{name}_scene"] != ""]
        part = pd.DataFrame({"source": name, "scene_id": table[f"{name}_scene"]})
        part["station_id"] = table["station_id"]
        part["start"] = part["end"] = table[f"{name}_time"]
        part["cloud_fraction"] = table["cloud_fraction"] if name == "sentinel2" else np.nan
        part["orbit"] = table["orbit"] if name == "sentinel1" else ""
        known = ledgers.get(name, {})
        keys = zip(part["scene_id"], part["station_id"], strict=True)
        part["valid_fraction"] = [known[k].valid_fraction if k in known else np.nan for k in keys]
        parts.append(part)
    return pd.concat(parts, ignore_index=True).astype({"source": "str", "orbit": "str"})


def _stations(rows: pd.DataFrame, archive: pd.DataFrame | None) -> pd.DataFrame:
    """The archive's rows of the sensors used; for others what the shards tell: little."""
    used = rows.drop_duplicates("sensor_id")
    known = [] if archive is None else [archive[archive["sensor_id"].isin(used["sensor_id"])]]
    alone = used[~used["sensor_id"].isin(known[0]["sensor_id"])] if known else used
    named = [name.split("__") for name in alone["published_id"]]
    depths = [DEPTHS_M[name] for name in alone["label"]]
    table = alone[["sensor_id", "station_id", "latitude", "longitude"]].assign(
        network=[name[0] for name in named],
        station=[name[1] for name in named],
        elevation_m=np.nan,
        depth_from_m=[depth[0] for depth in depths],
        depth_to_m=[depth[1] for depth in depths],
        **dict.fromkeys(("land_cover", "koeppen", "texture"), ""),
    )
    own = table[[column.name for column in contracts.STATIONS.columns]]
    own = own.astype({c.name: "str" for c in contracts.STATIONS.columns if c.kind == "string"})
    own = own.astype({c.name: "float64" for c in contracts.STATIONS.columns if c.kind == "float"})
    return pd.concat([*known, own] if len(own) or not known else known, ignore_index=True)


def write(dataset: Dataset, out_dir: str | os.PathLike[str]) -> None:
    """Write the tables, each whole; samples last: where they stand, the dataset is whole."""
    for name in _table_names():
        table = getattr(dataset, name)
        write_whole(
            Path(out_dir) / f"{name}.parquet",
            lambda path, table=table: table.to_parquet(path, index=False),  # type: ignore[misc]
        )


def _table_names() -> Iterable[str]:
    names = [f.name for f in fields(Dataset) if f.name not in ("samples", "places_inferred")]
    return (*names, "samples")

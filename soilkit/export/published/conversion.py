"""Published shards to the tables and chips that every other road gives: one pass a shard."""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from soilkit import contracts, sources
from soilkit.contracts import FORMAT_VERSION, Chip, ChipRequest
from soilkit.errors import ShardError, StoreError
from soilkit.export import chips, insitu
from soilkit.export.chips.builder import sole_builder
from soilkit.export.chips.requests import settle
from soilkit.export.chips.store import Entry, Ledger
from soilkit.export.published import examples as images
from soilkit.export.published import labels as labelling
from soilkit.export.published import schema
from soilkit.export.published.examples import (
    ALL_PREFIXES,
    BANDS,
    COARSE,
    DEPTHS_M,
    EMPTY,
    grid_of,
    read_record,
)
from soilkit.export.published.labels import Labels
from soilkit.export.published.shards import read_shard
from soilkit.files import read_table, write_table

log = logging.getLogger(__name__)
Ledgers = Mapping[str, Mapping[tuple[str, str], Entry]]
SHARD_GLOB = "*.tfrecord.gz"
STORE = "chips.zarr"
LATE = "seen after the reading"
REPEATED = "repeats a record of the same sensor and time"
KEPT = (labelling.MERGED, labelling.IN_THE_SHARD)
TABLES = ("stations", "observations", "scenes", "drops", "features", "label_counts", "samples")


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


def to_dataset(
    shards: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    out_dir: str | os.PathLike[str],
    *,
    labels: Labels | None = None,
    size_px: int = schema.SIDE_PX,
    min_valid_fraction: float = 0.8,
    progress: bool = True,
) -> Dataset:
    """Convert shards to samples, chips and the tables beside them, each shard read once.

    Every record of every shard is a sample or a counted drop. A record with a label, its own or one
    of ``labels``, gives its chips to the store; a scene is stored once a station. Interrupt it
    whenever you like: the next call goes on with the first shard that was not read whole, and reads
    one again whose chips were found damaged by ``chips.verify``. A shard that is cut or of another
    schema costs no other shard: it is named when the others are done.

    Parameters
    ----------
    shards : a folder of ``*.tfrecord.gz``, or paths
    out_dir : folder of the tables and of ``chips.zarr``, made when absent
    labels : Labels, readings of an in-situ archive; None uses labels that the shards hold alone
    size_px : int, pixels of 10 m a side that are kept, a multiple of 32: models see 256, 512 is all
    min_valid_fraction : float, 0-1, of a chip's pixels, below which a sample is dropped

    Returns
    -------
    Dataset

    Raises
    ------
    ShardError
        If there is no shard, or some could not be read to their end; all others are converted.
    ContractError
        For a ``size_px`` that is no multiple of 32.
    StoreError
        As ``chips.build``, and when ``out_dir`` cannot be written.
    """
    paths, out = shard_paths(shards), Path(out_dir)
    with sole_builder(out):
        return _converted(paths, _Job(out, labels, size_px, progress), min_valid_fraction)


def _converted(paths: list[Path], job: "_Job", min_valid_fraction: float) -> Dataset:
    """The dataset of some shards, each read unless that was done before."""
    parts, broken = [], []
    for path in tqdm(paths, disable=not job.progress, desc="shards", unit="shard"):
        try:
            parts.append(job.table(path))
        except ShardError as error:
            log.error("%s", error)
            broken.append(error)
    if broken:
        raise ShardError(
            f"{len(broken)} of {len(paths)} shards cannot be read to their end; the others are "
            f"converted. Fetch these again, or leave them out, and call again. {broken[0]}"
        ) from broken[0]
    dataset = _assemble(
        pd.concat(parts, ignore_index=True),
        stations=None if job.labels is None else job.labels.stations,
        ledgers=job.add(()),
        min_valid_fraction=min_valid_fraction,
    )
    for name in TABLES:  # samples last: where they stand, the dataset is whole
        write_table(job.out / f"{name}.parquet", getattr(dataset, name))
    return dataset


def shard_paths(shards: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The shards of a folder, sorted, or the paths given; ``ShardError`` where there is none."""
    if isinstance(shards, str | os.PathLike):
        folder = Path(shards)
        paths = sorted(folder.glob(SHARD_GLOB)) if folder.is_dir() else [folder]
    else:
        folder, paths = Path(), [Path(p) for p in shards]
    absent = [p for p in paths if not p.is_file()]
    if absent or not paths:
        absence = f"no file {absent[0]}" if absent else f"no {SHARD_GLOB} in {folder}"
        raise ShardError(
            f"There is {absence}. Fetch shards with soilkit.export.published.download first."
        )
    return paths


@dataclass
class _Job:
    """One conversion: where it goes, and what decides its result."""

    out: Path
    labels: Labels | None
    size_px: int
    progress: bool

    def __post_init__(self) -> None:
        self._before = {name: Ledger(self.out / STORE, name, mends=True).entries for name in BANDS}
        fingerprint = self.labels and self.labels.fingerprint
        self._settings = json.dumps([FORMAT_VERSION, self.size_px, fingerprint])

    def add(self, pairs: Iterable[tuple[ChipRequest, Chip]]) -> Ledgers:
        """Put chips into the store; what it knows of all."""
        cited = {} if self.labels is None else insitu.citations(self.labels.stations)
        facts: dict[str, Any] = {"origin": images.ORIGIN, "bands": images.BANDS, "citations": cited}
        return chips.add(pairs, self.out / STORE, size_px=self.size_px, **facts)

    def table(self, path: Path) -> pd.DataFrame:
        """The records of a shard, one row each, read from the shard unless that was done before."""
        kept = self.out / "shards" / f"{path.name.split('.')[0]}-{self._key(path)}.parquet"
        with contextlib.suppress(StoreError, KeyError):  # absent or damaged: made anew
            if self._all_stand(table := read_table(kept)[list(EMPTY)]):
                return table
        rows: list[dict[str, Any]] = []
        with contextlib.closing(self._chips(path, rows)) as pairs:
            self.add(pairs)  # the chips are on disk before their table is
        table = pd.DataFrame([*rows, EMPTY])  # the columns are of one kind however many there are
        times = {c: "datetime64[us]" for c in table.columns if c == "time" or c.endswith("_time")}
        table = table.astype(times).iloc[:-1]
        write_table(kept, table)
        return table

    def _all_stand(self, table: pd.DataFrame) -> bool:
        """Whether the store has, or never will have, every chip that a shard's records name."""
        rows = table[table["outcome"].isin(KEPT)]
        for name, entries in self._before.items():
            for key in zip(rows[f"{name}_scene"], rows["station_id"], strict=True):
                entry = entries.get(key)
                if entry is None or not (entry.data_sha256 or entry.permanent):
                    return False
        return True

    def _key(self, path: Path) -> str:
        """What tells this shard and these settings from others: size, and gzip's own checksum."""
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - 8, 0))
            words = f"{self._settings} {path.name} {size} {file.read().hex()}"
        return hashlib.sha256(words.encode()).hexdigest()[:12]

    def _chips(self, path: Path, rows: list[dict[str, Any]]) -> Generator[tuple[ChipRequest, Chip]]:
        """The chips of a shard's labelled records; notes every record on the way."""
        with contextlib.closing(read_shard(path, damaged="skip")) as reader:
            for sample in tqdm(
                reader, disable=not self.progress, desc=path.name, unit="record", leave=False
            ):
                row = read_record(sample, self.labels)
                rows.append(row)
                if row["outcome"] not in KEPT:
                    continue
                grid, row["place_told"] = grid_of(sample)
                for request, chip in images.chips_of(
                    sample, station_id=row["station_id"], grid=grid, size_px=self.size_px
                ):
                    row[f"{request.source}_scene"] = request.scene_id
                    row[f"{request.source}_time"] = request.time
                    yield request, chip
        rows.extend(EMPTY | {"outcome": labelling.DAMAGED} for _ in reader.damaged)


# ---- the tables ----------------------------------------------------------------------------------


def _assemble(
    records: pd.DataFrame,
    *,
    stations: pd.DataFrame | None,
    ledgers: Ledgers,
    min_valid_fraction: float,
) -> Dataset:
    """The tables of a dataset; every record is a sample or a counted drop."""
    has_label = records["outcome"].isin(KEPT)
    labelled = records[has_label].sort_values(
        ["sensor_id", "time"], kind="stable", ignore_index=True
    )
    repeats = labelled.duplicated(["sensor_id", "time"])
    ahead = labelled[[f"{name}_age_hours" for name in ALL_PREFIXES]].to_numpy() < 0
    late = ~repeats & ahead.any(axis=1)
    first_late = pd.Series(np.array(list(ALL_PREFIXES))[ahead.argmax(axis=1)])
    rows = labelled[~repeats & ~late].reset_index(drop=True)
    ids = rows["sensor_id"].astype("str") + rows["time"].dt.strftime("@%Y%m%dT%H%M%S")
    samples, chip_drops = settle(
        _samples(rows, ids), ledgers, names=BANDS, min_valid_fraction=min_valid_fraction
    )
    unlabelled = records[~has_label]
    drops = [
        _drops(unlabelled["published_id"], "label", unlabelled["outcome"]),
        _drops(labelled["sensor_id"][repeats], "record", REPEATED),
        _drops(labelled["sensor_id"][late], first_late[late], LATE),
        chip_drops,
    ]
    # SMAP [mm] and GLDAS [kg m-2] of each sample; NaN where the shard has none
    coarse = {f"{n}_{sources.get(n).bands[0].name}": rows[f"{n}_value"] for n in COARSE}
    features = pd.DataFrame({"sample_id": ids} | coarse)
    dataset = Dataset(
        stations=_stations(rows, stations),
        observations=rows[["sensor_id", "time", "soil_moisture_m3_m3", "flag"]].astype(
            {"flag": "str"}
        ),
        scenes=_scenes(rows, ledgers),
        drops=pd.concat(drops, ignore_index=True),
        features=samples[["sample_id"]].merge(features, on="sample_id", how="left"),
        samples=samples,
        label_counts=labelling.count(records, records["published_id"]),
        places_inferred=int((~labelled["place_told"].astype(bool)).sum()),
    )
    for name in set(TABLES) - {"label_counts"}:
        contracts.check(getattr(dataset, name), getattr(contracts, name.upper()))
    return dataset


def _samples(rows: pd.DataFrame, ids: pd.Series) -> pd.DataFrame:
    columns = ["sensor_id", "station_id", "time", "soil_moisture_m3_m3"]
    table = rows[columns].assign(sample_id=ids)[["sample_id", *columns]]
    for name in ALL_PREFIXES:
        scene, age = f"{name}_scene", f"{name}_age_hours"
        table[scene] = rows[scene].where(rows[scene] != "", None).astype("category")
        table[age] = rows[age]
    return table


def _drops(sensor_ids: pd.Series, source: pd.Series | str, reason: pd.Series | str) -> pd.DataFrame:
    table = pd.DataFrame({"sensor_id": sensor_ids.astype("str"), "source": source})
    table["reason"] = reason
    counts = table.groupby(["sensor_id", "source", "reason"]).size().rename("count")
    return counts.reset_index().astype({"source": "str", "reason": "str"})


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
    table = alone[["sensor_id", "station_id", "latitude", "longitude"]].assign(
        network=[name.split("__")[0] for name in alone["published_id"]],
        station=[name.split("__")[1] for name in alone["published_id"]],
        elevation_m=np.nan,
        depth_from_m=[DEPTHS_M[name][0] for name in alone["label"]],
        depth_to_m=[DEPTHS_M[name][1] for name in alone["label"]],
        **dict.fromkeys(("land_cover", "koeppen", "texture"), ""),
    )
    columns = contracts.STATIONS.columns
    kinds = {c.name: {"string": "str", "float": "float64"}[c.kind] for c in columns}
    table = table[list(kinds)].astype(kinds)
    return pd.concat([*known, table] if len(table) or not known else known, ignore_index=True)

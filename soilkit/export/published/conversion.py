"""Published shards to the tables and chips of every other road, and shards of an archive."""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from soilkit import contracts, grids, sources
from soilkit.contracts import FORMAT_VERSION, Archive, Chip, ChipRequest, Grid
from soilkit.errors import ShardError, StoreError
from soilkit.export import chips, features, insitu
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
    Record,
    grid_of,
    read_record,
)
from soilkit.export.published.labels import Labels
from soilkit.export.published.shards import Sample, read_shard, write_shard
from soilkit.files import write_whole

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


# Published shards to the tables and chips that every other road gives: one pass a shard.

log = logging.getLogger(__name__)
SHARD_GLOB = "*.tfrecord.gz"
STORE = "chips.zarr"


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
    labels : Labels, optional
        Readings of an in-situ archive; without it only labels that the shards hold are used.
    size_px : int
        Pixels of 10 m a side that are kept, a multiple of 32: 256 is what models see, 512 all.
    min_valid_fraction : float, 0-1, of a chip's pixels, below which a sample is dropped
    progress : whether to show a bar

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
    _make(out / "shards")
    job = _Job(out, labels, size_px, progress)
    parts, broken = [], []
    for path in tqdm(paths, disable=not progress, desc="shards", unit="shard"):
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
    dataset = assemble(
        pd.concat(parts, ignore_index=True),
        stations=None if labels is None else labels.stations,
        ledgers=job.add(()),
        min_valid_fraction=min_valid_fraction,
    )
    write(dataset, out)
    return dataset


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"The folder {folder} cannot be made ({error}). Name an out_dir in a place that you "
            "may write to."
        ) from error


def shard_paths(
    shards: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
) -> list[Path]:
    """The shards of a folder, sorted, or the paths given.

    Raises
    ------
    ShardError
        When there is none, or one of the paths is no file.
    """
    if isinstance(shards, str | os.PathLike):
        folder = Path(shards)
        paths = sorted(folder.glob(SHARD_GLOB)) if folder.is_dir() else [folder]
    else:
        folder, paths = Path(), [Path(p) for p in shards]
    absent = [p for p in paths if not p.is_file()]
    if absent or not paths:
        what = f"no file {absent[0]}" if absent else f"no {SHARD_GLOB} in {folder}"
        raise ShardError(
            f"There is {what}. Fetch shards with soilkit.export.published.download first."
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
        whose = {} if self.labels is None else insitu.citations(self.labels.stations)
        self._before = ledgers_of(self.out / STORE)
        self._citations: dict[str, str] = whose
        told = [FORMAT_VERSION, self.size_px, self.labels and self.labels.fingerprint]
        self._settings = json.dumps(told)

    def add(self, pairs: Iterable[tuple[ChipRequest, Chip]]) -> Ledgers:
        """Put chips into the store; what it knows of all."""
        return chips.add(
            pairs,
            self.out / STORE,
            origin=images.ORIGIN,
            bands=images.BANDS,
            size_px=self.size_px,
            citations=self._citations,
        )

    def table(self, path: Path) -> pd.DataFrame:
        """The records of a shard, one row each, read from the shard unless that was done before."""
        kept = self.out / "shards" / f"{path.name.split('.')[0]}-{self._key(path)}.parquet"
        if kept.exists():
            table = pd.read_parquet(kept)
            if all_stand(table, self._before):
                return table
        records: list[Record] = []
        with contextlib.closing(self._chips(path, records)) as pairs:
            self.add(pairs)  # the chips are on disk before their table is
        table = records_table(records)
        write_whole(kept, lambda part: table.to_parquet(part, index=False))
        return table

    def _key(self, path: Path) -> str:
        """What tells this shard and these settings from others: size, and gzip's own checksum."""
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - 8, 0))
            words = f"{self._settings} {path.name} {size} {file.read().hex()}"
        return hashlib.sha256(words.encode()).hexdigest()[:12]

    def _chips(self, path: Path, records: list[Record]) -> Generator[tuple[ChipRequest, Chip]]:
        """The chips of a shard's labelled records; notes every record on the way."""
        reader = read_shard(path, damaged="skip")
        try:
            for sample in tqdm(
                reader, disable=not self.progress, desc=path.name, unit="record", leave=False
            ):
                record = read_record(sample, self.labels)
                records.append(record)
                if not record.is_labelled:
                    continue
                grid, record.place_told = grid_of(sample)
                for request, chip in images.chips_of(
                    sample, station_id=record.station_id, grid=grid, size_px=self.size_px
                ):
                    record.note(request)
                    yield request, chip
        finally:
            reader.close()
        records.extend(Record(outcome=labelling.DAMAGED) for _ in reader.damaged)


# Shards of the published schema made from an archive: for tests, benchmarks and classrooms.

PIXEL_SIZE_M = 10.0  # of every image, SoilGrids and land cover too
_US_PER_HOUR = 3_600_000_000
_PREFIX = {"sentinel1": "sentinel_1", "sentinel2": "sentinel_2", "smap": "smap", "gldas": "gldas"}
_COARSE = {"smap": "smap_sm", "gldas": "gldas_sm"}


def write_archive_shard(
    path: str | os.PathLike[str],
    samples: pd.DataFrame,
    *,
    archive: Archive,
    stations: pd.DataFrame,
    labelled: Iterable[str] = (),
) -> int:
    """Write a joined samples table as a published shard (see ``samples_from_archive``).

    Returns
    -------
    int
        How many samples were written.
    """
    made = samples_from_archive(samples, archive, stations=stations, labelled=labelled)
    return write_shard(path, made)


def samples_from_archive(
    samples: pd.DataFrame, archive: Archive, *, stations: pd.DataFrame, labelled: Iterable[str] = ()
) -> Iterator[Sample]:
    """What the publication would have exported of a joined samples table.

    Images of 512 x 512 pixels of 10 m in bytes, SMAP and GLDAS in bytes, times as 32-bit floats of
    milliseconds, ``sensor_id`` without depths. The images of yearly statistics, of ASTER and the
    masks are left out. A chip that does not come leaves its images out too.

    Parameters
    ----------
    samples : table SAMPLES with ``<source>_scene`` and ``<source>_age_hours``
    archive : where chips and series come from
    stations : table STATIONS
    labelled : names of networks
        Those whose readings go into the shard, as only some may be passed on; the others' labels
        are absent.

    Yields
    ------
    Sample
        In the order of the table.
    """
    contracts.check(samples, contracts.SAMPLES)
    contracts.check(stations, contracts.STATIONS)
    places = stations.drop_duplicates("sensor_id").set_index("sensor_id")
    coarse = {source: _series(samples, archive, stations, source) for source in _COARSE}
    networks, standing = frozenset(labelled), _Standing(archive)
    for position, row in enumerate(samples.to_dict("records")):
        place = places.loc[row["sensor_id"]]
        grid = _grid(place)
        scalars = _place(place, grid) | _times(row)
        scalars |= _label(row, place) if place["network"] in networks else {}
        values = {s: column[position] for s, column in coarse.items() if column is not None}
        scalars |= {_COARSE[s]: int(schema.encode(_COARSE[s], v)) for s, v in values.items()}
        yield Sample(scalars, standing.images(row, grid))


def _series(
    samples: pd.DataFrame, archive: Archive, stations: pd.DataFrame, source: str
) -> np.ndarray | None:
    """The chosen value of each sample, stored units; None where the join left the source out."""
    if f"{source}_scene" not in samples.columns:
        return None
    times = samples["time"] - pd.to_timedelta(samples[f"{source}_age_hours"], unit="h")
    day = pd.Timedelta("1D")
    series = archive.series(stations, source, times.min() - day, times.max() + day)
    table = features.from_series(samples, series, source)
    return table.drop(columns="sample_id").iloc[:, 0].to_numpy()


def _grid(place: Any) -> Grid:
    return grids.chip_grid(
        place["latitude"], place["longitude"], size_px=schema.SIDE_PX, pixel_size_m=PIXEL_SIZE_M
    )


def _place(place: Any, grid: Grid) -> dict[str, Any]:
    left, bottom, right, top = grid.bounds_m
    corners = [left, bottom, right, bottom, right, top, left, top, left, bottom]
    zone = int(grid.crs[-2:])
    return {
        "sensor_id": str(place.name).rsplit("__", 2)[0],
        "center_lat": float(place["latitude"]),
        "center_long": float(place["longitude"]),
        "size": schema.SIDE_PX,
        "utm_zone": f"{zone}{'N' if place['latitude'] >= 0 else 'S'}",
        "utm_easting_northing_image_polygon": np.array(corners, np.float32),
    }


def _label(row: Mapping[str, Any], place: Any) -> dict[str, float]:
    name = "sm_0_5" if place["depth_from_m"] == 0 else "sm_5_5"
    return {name: float(np.float32(row["soil_moisture_m3_m3"]))}


def _times(row: Mapping[str, Any]) -> dict[str, float]:
    """Milliseconds since 1970 in 32-bit floats: of the reading, and of each dated source."""
    out = {"timestamp": _milliseconds(row["time"])}
    for source, prefix in _PREFIX.items():
        age_hours = row.get(f"{source}_age_hours", np.nan)
        if np.isfinite(age_hours):
            age = pd.Timedelta(hours=age_hours)
            out[f"{prefix}_timestamp"] = _milliseconds(row["time"] - age)
            out[f"{prefix}_time_millis_diff"] = float(np.float32(age.total_seconds() * 1000))
    return out


def _milliseconds(time: pd.Timestamp) -> float:
    return float(np.float32(np.datetime64(time, "ms").astype(np.int64)))


class _Standing:
    """Asks an archive for a sample's chips; layers that stand still are asked for once a grid."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.kept: dict[str, dict[str, np.ndarray]] = {}
        self.grid: Grid | None = None

    def images(self, row: Mapping[str, Any], grid: Grid) -> dict[str, np.ndarray]:
        """The images of every source that the sample has a scene of, as the shards store them."""
        if grid != self.grid:
            self.grid, self.kept = grid, {}
        made: dict[str, np.ndarray] = {}
        for name in sorted({f.source for f in schema.FEATURES if f.kind == "image" and f.source}):
            if name in self.kept:
                made |= self.kept[name]
            elif isinstance(row.get(f"{name}_scene"), str) and row[f"{name}_scene"]:
                found = self._chip(row, sources.get(name), grid)
                made |= found
                if sources.get(name).is_static:
                    self.kept[name] = found
        return made

    def _chip(
        self, row: Mapping[str, Any], source: sources.Source, grid: Grid
    ) -> dict[str, np.ndarray]:
        wanted = {schema.feature(n).band: n for n in schema.images_of(source.name)}
        bands = tuple(b.name for b in source.bands if b.name in wanted)
        age_hours = row.get(f"{source.name}_age_hours", np.nan)
        seen = pd.NaT
        if np.isfinite(age_hours):
            seen = row["time"] - pd.Timedelta(round(age_hours * _US_PER_HOUR), unit="us")
        request = ChipRequest(
            source=source.name,
            scene_id=row[f"{source.name}_scene"],
            station_id=str(row["station_id"]),
            time=seen.to_datetime64().astype("datetime64[us]"),
            bands=bands,
            grid=grid,
            version=self.archive.version,
        )
        ((_, chip),) = self.archive.chips([request])
        if not isinstance(chip, Chip):
            return {}
        return {
            wanted[b]: schema.encode(wanted[b], v) for b, v in zip(bands, chip.values, strict=True)
        }

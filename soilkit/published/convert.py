"""Published shards to the tables and chips that every other road gives: one pass a shard.

out/chips.zarr      Sentinel-1, Sentinel-2 and elevation at 10 m, soil maps at 160 m
out/*.parquet       stations, observations, scenes, drops, features, samples
out/shards/         one table a shard that was read whole, so that none is read twice
"""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from soilkit import chips, insitu
from soilkit.contracts import FORMAT_VERSION, Chip, ChipRequest
from soilkit.errors import ShardError, StoreError
from soilkit.files import write_whole
from soilkit.published import assembling, images, schema
from soilkit.published import labels as labelling
from soilkit.published.assembling import Dataset
from soilkit.published.labels import Labels
from soilkit.published.placing import grid_of
from soilkit.published.records import Record, read_record
from soilkit.published.shards import read_shard

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
    dataset = assembling.assemble(
        pd.concat(parts, ignore_index=True),
        stations=None if labels is None else labels.stations,
        ledgers=job.add(()),
        min_valid_fraction=min_valid_fraction,
    )
    assembling.write(dataset, out)
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
        raise ShardError(f"There is {what}. Fetch shards with soilkit.published.download first.")
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
        self._before = assembling.ledgers_of(self.out / STORE)
        self._citations: dict[str, str] = whose
        told = [FORMAT_VERSION, self.size_px, self.labels and self.labels.fingerprint]
        self._settings = json.dumps(told)

    def add(self, pairs: Iterable[tuple[ChipRequest, Chip]]) -> assembling.Ledgers:
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
            if assembling.all_stand(table, self._before):
                return table
        records: list[Record] = []
        with contextlib.closing(self._chips(path, records)) as pairs:
            self.add(pairs)  # the chips are on disk before their table is
        table = assembling.records_table(records)
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

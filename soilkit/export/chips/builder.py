"""Building a store: ask for what is missing, write each chip whole, and lose nothing on the way."""

import contextlib
import errno
import logging
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from io import BufferedRandom
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from soilkit import contracts, sources
from soilkit import sources as catalogue
from soilkit.contracts import Archive, Chip, ChipRequest, Failure
from soilkit.errors import ContractError, ParameterError, StoreError
from soilkit.export.chips import store
from soilkit.export.chips.requests import Planner, chip_size, chip_sources, settle
from soilkit.export.chips.store import (
    MANIFEST,
    ChipStore,
    Entry,
    Ledger,
    Shards,
    create_group,
    open_store,
    packing_of,
    sha256,
    write_places,
)
from soilkit.sources import Source


def band_names(source: Source, names: Sequence[str] | None) -> list[str]:
    """The bands to keep: those named, checked, else all of the source."""
    return [source.band(n).name for n in names] if names else [b.name for b in source.bands]


def describe(source: Source, bands: list[str], *, size_px: int) -> dict[str, Any]:
    """What the manifest says of a source."""
    size, pixel_m = chip_size(source, size_px)
    step = packing_of(source)
    return {
        "bands": bands,
        "units": [source.band(b).unit for b in bands],
        "resolution": source.resolution,
        "size_px": size,
        "pixel_size_m": pixel_m,
        "scale_factor": step.scale,
        "add_offset": step.offset,
        "citation": source.citation,
    }


def networks(stations: pd.DataFrame, citations: Mapping[str, str]) -> dict[str, str]:
    """Each network of the stations and how to cite it, empty where nobody said."""
    return {name: citations.get(name, "") for name in sorted(set(stations["network"].astype(str)))}


def plain(value: Any) -> Any:
    """The same value made of what JSON knows."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value if isinstance(value, (bool, int, float, type(None))) else str(value)


def prepare(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Make the store, or check that the one there is of the same kind and add the new sources."""
    create_group(path, {})
    if (path / store.MANIFEST).exists():
        content = _merged(path, store.read_manifest(path), content)
    for name, d in content["sources"].items():
        shards = Shards(path / name / "values", len(d["bands"]), d["size_px"])
        create_group(path / name, {"bands": d["bands"], "resolution": d["resolution"]})
        for left_over in shards.path.glob("*.partial"):  # of a build that was killed
            left_over.unlink()
        if not (shards.path / "zarr.json").exists():
            kept = {"bands": d["bands"], "units": d["units"]}
            shards.create(packing=packing_of(sources.get(name)), attributes=kept)
    store.write_manifest(path, content)
    return content


def _merged(path: Path, old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    theirs = {name: d for name, d in old["sources"].items() if name in new["sources"]}
    ours = {name: new["sources"][name] for name in theirs}
    for what, had, want in (
        ("archive", old["archive"], new["archive"]),
        ("size_px", old["size_px"], new["size_px"]),
        ("sources", theirs, ours),
    ):
        if had != want:
            raise StoreError(
                f"{path} was built with {what} {had}; this build has {want}. "
                "Choose another folder for it, or build with what is there."
            )
    merged = {**old, **new, "sources": {**old["sources"], **new["sources"]}}
    merged["networks"] = {**old["networks"], **{k: v for k, v in new["networks"].items() if v}}
    merged["networks"] = {**new["networks"], **merged["networks"]}
    return merged


# One builder a store: a lock that the system lets go of when its holder ends, however it ends.

LOCK = ".build.lock"  # stays behind, empty; only a lock on it means anything
_HELD = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


@contextlib.contextmanager
def sole_builder(path: Path) -> Iterator[None]:
    """Make the folder of a store and hold it alone: two builds would give one row to two chips.

    A file system that knows no locks is trusted.

    Raises
    ------
    StoreError
        When another build or ``verify`` works on the store.
    """
    path.mkdir(parents=True, exist_ok=True)
    with (path / LOCK).open("a+b") as file:
        try:
            _lock(file)
        except OSError as error:
            if error.errno in _HELD:
                raise StoreError(
                    f"Another build, or chips.verify, is at work on {path}. Wait until it ends, or "
                    "build into another folder."
                ) from error
        yield


def _lock(file: BufferedRandom) -> None:
    if sys.platform == "win32":
        import msvcrt

        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


# Writing chips: each one whole, and the ledgers true to what lies on disk.

SAVE_EVERY_S = 5.0
Answer = tuple[ChipRequest, Chip | Failure]


class Writer:
    """Puts chips into the arrays and keeps the ledgers true to them."""

    def __init__(self, path: Path, described: dict[str, Any], requests: list[ChipRequest]):
        self.ledgers, self.shards = _open(path, described)
        self.path = path
        self.missing = _missing(requests, self.ledgers, self.shards)
        self.arrays = {
            name: self.shards[name].grow(len(self.ledgers[name].entries))
            for name in dict.fromkeys(r.source for r in self.missing)
        }

    def fetch(self, archive: Archive, *, progress: bool) -> None:
        """Ask for the missing chips and write them as they come, saving the ledgers on the way."""
        asked = {r.request_hash: r for r in self.missing}
        clock = _SaveClock()
        try:
            bar = tqdm(total=len(asked), disable=not progress, unit="chip", desc="chips")
            failures: Counter[str] = Counter()
            with bar, _closed(archive.chips(self.missing) if asked else iter(())) as answers:
                for request, answer in answers:
                    if asked.pop(request.request_hash, None) is None:
                        continue  # answered twice, or never asked
                    failed = self._put(request, answer)
                    if failed is not None:
                        failures[failed.reason.split(":")[0][:40]] += 1
                        bar.set_postfix(failures, refresh=False)
                    bar.update()
                    clock.run(self._save)
            for request in asked.values():
                self._put(request, Failure("the archive gave no answer", permanent=False))
        except BaseException:
            with contextlib.suppress(OSError):  # the first error is the one to report
                self._save()
            raise
        self._save()

    def take(self, answers: Iterable[Answer]) -> None:
        """Write chips as they come unless they stand, saving the ledgers on the way."""
        clock = _SaveClock()
        try:
            for request, answer in answers:
                if not _stands(request, self.ledgers, self.shards):
                    self._make_room(request)
                    self._put(request, answer)
                    clock.run(self._save)
        except BaseException:
            with contextlib.suppress(OSError):  # the first error is the one to report
                self._save()
            raise
        self._save()

    def _make_room(self, request: ChipRequest) -> None:
        """Let the array hold the request's row."""
        name = request.source
        row = self.ledgers[name].entry(request.scene_id, request.station_id).row
        array = self.arrays.get(name)
        if array is None:
            self.arrays[name] = self.shards[name].grow(row + 1)
        elif array.shape[0] <= row:
            array.resize((row + 1, *array.shape[1:]))

    def _put(self, request: ChipRequest, answer: Chip | Failure) -> Failure | None:
        """Write what came, or note why nothing did and return that."""
        ledger = self.ledgers[request.source]
        old = ledger.entry(request.scene_id, request.station_id)
        grid = request.grid
        place = (grid.crs, grid.left_m, grid.top_m, grid.pixel_size_m)
        new = Entry(*old.key, old.row, request.request_hash)
        new.crs, new.left_m, new.top_m, new.pixel_size_m = place
        # zarr would read what stands there, damaged or not, to merge it with what comes
        self.shards[request.source].file(old.row).unlink(missing_ok=True)
        failure = answer if isinstance(answer, Failure) else self._write(request, answer, new)
        if failure is not None:
            failure = replace(failure, reason=_kind(failure.reason, request))
            new.reason, new.permanent = failure.reason, failure.permanent
        ledger.entries[new.key] = new
        return failure

    def _write(self, request: ChipRequest, chip: Chip, entry: Entry) -> Failure | None:
        source = sources.get(request.source)
        wanted = (len(request.bands), request.grid.height, request.grid.width)
        if chip.values.shape != wanted:
            raise ContractError(
                f"{request.source} {request.scene_id} at {request.station_id}: wanted a chip of "
                f"shape {wanted}, found {chip.values.shape}. The archive must cut on the request's "
                "grid and hold its bands."
            )
        entry.valid_fraction = _valid_fraction(chip, source)
        if entry.valid_fraction == 0:
            return Failure("empty")
        try:
            packed = packing_of(source).pack(chip.values)
        except ContractError:  # the value differs from chip to chip, the reason does not
            low, high = packing_of(source).limits
            return Failure(f"values outside the store's {low:g} to {high:g}")
        self.arrays[request.source][entry.row] = packed
        entry.data_sha256 = sha256(packed)
        return None

    def _save(self) -> None:
        for name in self.arrays:
            ledger = self.ledgers[name]
            ledger.save()
            table = ledger.table()
            epsg = table["crs"].str.extract(r"^EPSG:(\d+)$", expand=False).fillna("0").astype(int)
            write_places(self.path / name, epsg=epsg.to_numpy(), transforms=_transforms(table))


class _SaveClock:
    """Saves every few seconds, and never for more than a twentieth of the time."""

    def __init__(self) -> None:
        self._due = time.monotonic() + SAVE_EVERY_S

    def run(self, save: Callable[[], None]) -> None:
        """Save if it is time."""
        start = time.monotonic()
        if start > self._due:
            save()
            done = time.monotonic()
            self._due = done + max(SAVE_EVERY_S, 20 * (done - start))


@contextlib.contextmanager
def _closed(answers: Iterator[Answer]) -> Iterator[Iterator[Answer]]:
    """Close a generator at once when the build stops, so that nothing is asked for in vain."""
    try:
        yield answers
    finally:
        if isinstance(answers, Generator):
            answers.close()


def missing(
    path: Path, requests: list[ChipRequest], *, described: dict[str, Any]
) -> list[ChipRequest]:
    """The requests that the store at ``path`` cannot answer and might yet get."""
    return _missing(requests, *_open(path, described))


def _open(path: Path, described: dict[str, Any]) -> tuple[dict[str, Ledger], dict[str, Shards]]:
    ledgers = {name: Ledger(path, name) for name in described}
    shards = {
        name: Shards(path / name / "values", len(d["bands"]), d["size_px"])
        for name, d in described.items()
    }
    return ledgers, shards


def _missing(
    requests: list[ChipRequest], ledgers: dict[str, Ledger], shards: dict[str, Shards]
) -> list[ChipRequest]:
    return [r for r in requests if not _stands(r, ledgers, shards)]


def _stands(request: ChipRequest, ledgers: dict[str, Ledger], shards: dict[str, Shards]) -> bool:
    entry = ledgers[request.source].entry(request.scene_id, request.station_id)
    if entry.request_hash != request.request_hash:
        return False
    if entry.data_sha256:
        return shards[request.source].file(entry.row).exists()
    return entry.permanent


def _kind(reason: str, request: ChipRequest) -> str:
    """A reason that counts with its like: the index row holds the scene and the station already."""
    gaps = dict.fromkeys(request.scene_id.split("+"), "<scene>")
    gaps |= {request.scene_id: "<scene>", request.station_id: "<station>"}
    gaps[str(request.time)] = "<time>"
    for words in sorted(filter(None, gaps), key=len, reverse=True):
        reason = re.sub(rf"(?<!\w){re.escape(words)}(?!\w)", gaps[words], reason)
    return reason


def _transforms(table: pd.DataFrame) -> np.ndarray:
    size, zero = table["pixel_size_m"], np.zeros(len(table))
    parts = [size, zero, table["left_m"], zero, -size, table["top_m"]]
    return np.column_stack([np.asarray(p, dtype=float) for p in parts])  # (scene, 6)


def _valid_fraction(chip: Chip, source: Source) -> float:
    counted = [i for i, b in enumerate(chip.bands) if source.band(b).continuous]
    values = chip.values[counted] if counted else chip.values
    return float(np.isfinite(values).all(axis=0).mean())


# Building a store: ask for what is missing, write each chip whole, and lose nothing on the way.

log = logging.getLogger(__name__)
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
DAMAGED = "damaged on disk"


def build(
    samples: pd.DataFrame,
    archive: Archive,
    store: str | os.PathLike[str],
    *,
    stations: pd.DataFrame,
    sources: Iterable[str] | None = None,
    size_px: int = 512,
    bands: Mapping[str, Sequence[str]] | None = None,
    min_valid_fraction: float = 0.8,
    citations: Mapping[str, str] | None = None,
    limit: int | None = None,
    progress: bool = True,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Fetch every chip that the samples need and the store lacks; say which samples then stand.

    Rows in = samples + drops, always. A build that was interrupted goes on where it stopped when it
    is called again. A chip is judged by the fraction of its pixels where all continuous bands are
    known (a masked cloud flag is unknown, no hole); what is empty or failed is noted and dropped.

    Parameters
    ----------
    samples : samples table with ``<source>_scene`` and ``<source>_age_hours``
    archive : where chips come from
    store : folder of the zarr store, made when absent
    stations : stations table: places and networks
    sources : names; None takes all ``<source>_scene`` columns. Coarse ones are series, not chips.
    size_px : int, pixels of 10 m a side; low-resolution sources cover the same ground at 160 m
    bands : bands by source; all of them where it says nothing
    min_valid_fraction : float, 0-1, below which a sample is dropped
    citations : how to cite each network, kept in the manifest
    limit : int, optional
        Ask for so many chips at most, those of samples from all over the table: a trial before a
        long export. Samples whose chips were not asked for are dropped as "not fetched"; the next
        build without a limit asks for the rest.
    progress : whether to show a bar

    Returns
    -------
    samples, drops : tables

    Raises
    ------
    ContractError
        When a table does not hold what it promises.
    ParameterError
        For a limit that is no whole number from zero on.
    StoreError
        When the disk is full (what was written stays good), the store is of another kind or in
        the hands of another build, or its folder cannot be made.
    """
    contracts.check(samples, contracts.SAMPLES)
    _check_limit(limit)
    chosen = chip_sources(samples, sources)
    wanted = {s.name: band_names(s, (bands or {}).get(s.name)) for s in chosen}
    path = Path(store)
    content: dict = {
        "archive": {"name": archive.name, "version": archive.version},
        "size_px": size_px,
    }
    content["sources"] = {s.name: describe(s, wanted[s.name], size_px=size_px) for s in chosen}
    content["networks"] = networks(stations, citations or {})
    content["join"] = {str(k): plain(v) for k, v in samples.attrs.items()}
    planner = Planner(samples, stations, size_px=size_px, version=archive.version)
    requests = planner.all_requests(chosen, wanted)
    with _full_disk_is_named(path), _held(path):
        described = prepare(path, content)
        writer = Writer(path, described["sources"], requests)
        if limit is not None:
            writer.missing = planner.spread(writer.missing, limit=limit)
        writer.fetch(archive, progress=progress)
    ledgers = {name: ledger.entries for name, ledger in writer.ledgers.items()}
    return settle(samples, ledgers, chosen=chosen, min_valid_fraction=min_valid_fraction)


def plan(
    samples: pd.DataFrame,
    archive: Archive,
    *,
    stations: pd.DataFrame,
    sources: Iterable[str] | None = None,
    size_px: int = 512,
    bands: Mapping[str, Sequence[str]] | None = None,
    store: str | os.PathLike[str] | None = None,
) -> list[ChipRequest]:
    """The chips that ``build`` would ask for, without asking.

    Parameters
    ----------
    samples, archive, stations, sources, size_px, bands
        As in ``build``.
    store : folder, optional
        Leave out what stands there, and what is known never to come.

    Raises
    ------
    ContractError
        When a table does not hold what it promises.
    """
    contracts.check(samples, contracts.SAMPLES)
    chosen = chip_sources(samples, sources)
    wanted = {s.name: band_names(s, (bands or {}).get(s.name)) for s in chosen}
    planner = Planner(samples, stations, size_px=size_px, version=archive.version)
    requests = planner.all_requests(chosen, wanted)
    if store is None or not (Path(store) / MANIFEST).exists():
        return requests
    described = {s.name: describe(s, wanted[s.name], size_px=size_px) for s in chosen}
    return missing(Path(store), requests, described=described)


def add(
    pairs: Iterable[tuple[ChipRequest, Chip | Failure]],
    store: str | os.PathLike[str],
    *,
    origin: tuple[str, str],
    bands: Mapping[str, Sequence[str]],
    size_px: int,
    citations: Mapping[str, str] | None = None,
) -> dict[str, Mapping[tuple[str, str], Entry]]:
    """Put chips into a store as they come, for data that cannot be asked for chip by chip.

    What stands already is passed over. An interruption leaves every chip in the index whole.

    Parameters
    ----------
    pairs : requests with their chips or failures, read once and never held
    store : folder of the zarr store, made when absent
    origin : name and version of where the chips come from, as an archive would give them
    bands : bands by source; these sources are in the store, and no others come
    size_px : int, pixels of 10 m a side; low-resolution sources cover the same ground at 160 m
    citations : how to cite each network, kept in the manifest

    Returns
    -------
    What the store knows of each chip by source, and by scene and station

    Raises
    ------
    StoreError
        As ``build``.
    """
    name, version = origin
    content: dict = {"archive": {"name": name, "version": version}, "size_px": size_px, "join": {}}
    content["sources"] = {
        s: describe(catalogue.get(s), list(names), size_px=size_px) for s, names in bands.items()
    }
    content["networks"] = dict(citations or {})
    path = Path(store)
    with _full_disk_is_named(path), _held(path):
        writer = Writer(path, prepare(path, content)["sources"], [])
        writer.take(pairs)
    return {name: ledger.entries for name, ledger in writer.ledgers.items()}


def _check_limit(limit: int | None) -> None:
    if limit is not None and not (isinstance(limit, Integral) and limit >= 0):
        raise ParameterError(
            f"limit is how many chips to ask for at most: None or a whole number from 0 on; found "
            f"{limit!r}."
        )


@contextlib.contextmanager
def _full_disk_is_named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        raise StoreError(
            f"The disk is full while writing {path}. Every chip in its index is whole; free some "
            "space and call chips.build again: it goes on where it stopped."
        ) from error


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(sole_builder(path))
        except OSError as error:
            if isinstance(error, StoreError) or error.errno in _DISK_FULL:
                raise
            raise StoreError(
                f"The folder {path} of the store cannot be made or written ({error}). Name a "
                "folder in a place that you may write to."
            ) from error
        yield


def verify(store: str | os.PathLike[str], *, progress: bool = False) -> pd.DataFrame:
    """Read every chip, compare it with its SHA-256, and mark what differs to be fetched again.

    Returns
    -------
    DataFrame with source, scene_id, station_id and reason of each damaged chip; the next
    ``build`` rebuilds them.

    Raises
    ------
    StoreError
        When there is no store, or one of another format version, or a build is at work on a
        damaged one.
    """
    chips, damaged = open_store(store), []
    for name in chips.sources:
        found = _damaged(chips, name, progress=progress)
        if found:
            log.warning("%s: %d damaged chips of %s", chips.path, len(found), name)
            _mark(chips, name, found)
        damaged += [(name, *entry.key, DAMAGED) for entry in found]
    return pd.DataFrame(damaged, columns=["source", "scene_id", "station_id", "reason"])


def _damaged(chips: ChipStore, name: str, *, progress: bool) -> list[Entry]:
    kept = [e for e in Ledger(chips.path, name).entries.values() if e.data_sha256]
    found = []
    for entry in tqdm(kept, disable=not progress, desc=name, unit="chip"):
        with contextlib.suppress(StoreError):
            if sha256(chips.shards(name).read(entry.row)) == entry.data_sha256:
                continue
        found.append(entry)
    return found


def _mark(chips: ChipStore, name: str, found: list[Entry]) -> None:
    """Have the chips fetched again; a store without damage is only read, not held."""
    with _held(chips.path):
        ledger = Ledger(chips.path, name)
        for entry in found:
            mine = ledger.entries[entry.key]
            mine.data_sha256, mine.reason, mine.permanent = "", DAMAGED, False
        ledger.save()

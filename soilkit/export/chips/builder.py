"""Building a store: ask for what is missing, write each chip whole, and lose nothing on the way."""

import contextlib
import errno
import json
import logging
import os
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from soilkit import contracts
from soilkit import sources as catalogue
from soilkit.contracts import Archive, Chip, ChipRequest, Failure
from soilkit.errors import ContractError, ParameterError, StoreError
from soilkit.export.chips.requests import Planner, chip_size, chip_sources, settle
from soilkit.export.chips.store import (
    MANIFEST,
    DamagedError,
    Entry,
    Ledger,
    Shards,
    create_group,
    open_store,
    packing_of,
    places_stand,
    read_manifest,
    sha256,
    write_manifest,
    write_places,
)

log = logging.getLogger(__name__)
Answer = tuple[ChipRequest, Chip | Failure]
LOCK = ".build.lock"  # what it holds means nothing: only a lock on it does
SAVE_EVERY_S = 5.0
DAMAGED = "damaged on disk"
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
# What a file system without locks answers: it is trusted.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.EIO)


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
    limit : int or None, how many chips to ask for at most, those of samples from all over the
        table: a trial before a long export; other samples are dropped as "not fetched"

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
    if limit is not None and not (isinstance(limit, Integral) and limit >= 0):
        raise ParameterError(
            f"limit is how many chips to ask for at most: None or a whole number from 0 on; found "
            f"{limit!r}."
        )
    path, networks = Path(store), sorted(set(stations["network"].astype(str)))
    described = _described(samples, sources, bands=bands, size_px=size_px)
    planner = Planner(samples, stations, size_px=size_px, version=archive.version)
    requests = planner.requests({name: d["bands"] for name, d in described.items()})
    content = {
        "archive": {"name": archive.name, "version": archive.version},
        "size_px": size_px, "sources": described,
        "networks": {name: (citations or {}).get(name, "") for name in networks},
        "join": json.loads(json.dumps({str(k): v for k, v in samples.attrs.items()}, default=str)),
    }  # fmt: skip
    with sole_builder(path):
        writer = Writer(path, prepare(path, content)["sources"])
        missing = [r for r in requests if not writer.stands(r)]
        if limit is not None:
            missing = planner.spread(missing, limit=limit)
        writer.fetch(missing, archive, progress=progress)
    return settle(samples, writer.entries, names=described, min_valid_fraction=min_valid_fraction)


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
    samples, archive, stations, sources, size_px, bands : as in ``build``
    store : folder or None; what stands there, or is known never to come, is left out
    """
    described = _described(samples, sources, bands=bands, size_px=size_px)
    planner = Planner(samples, stations, size_px=size_px, version=archive.version)
    requests = planner.requests({name: d["bands"] for name, d in described.items()})
    if store is None or not (Path(store) / MANIFEST).exists():
        return requests
    standing = Writer(Path(store), described)
    return [r for r in requests if not standing.stands(r)]


def add(
    pairs: Iterable[Answer],
    store: str | os.PathLike[str],
    *,
    origin: tuple[str, str],
    bands: Mapping[str, Sequence[str]],
    size_px: int,
    citations: Mapping[str, str] | None = None,
) -> dict[str, Mapping[tuple[str, str], Entry]]:
    """Put chips into a store as they come, for data that cannot be asked for chip by chip.

    What stands already is passed over. An interruption leaves every chip in the index whole.
    ``pairs`` are requests with their chips or failures, read once and never held; ``origin`` is
    name and version of where they come from, as an archive would give them; ``bands`` are those of
    each source, and no other source comes. ``store, size_px, citations`` and errors are those of
    ``build``. Returns what the store knows of each chip by source, and by scene and station.
    """
    content = {
        "archive": {"name": origin[0], "version": origin[1]},
        "size_px": size_px,
        "sources": {name: describe(name, b, size_px=size_px) for name, b in bands.items()},
        "networks": dict(citations or {}), "join": {},
    }  # fmt: skip
    path = Path(store)
    with sole_builder(path):
        writer = Writer(path, prepare(path, content)["sources"])
        writer.take(pairs)
    return writer.entries


def verify(store: str | os.PathLike[str], *, progress: bool = False) -> pd.DataFrame:
    """Compare all that a store holds with its checksums, and mark what differs.

    The table has source, scene_id, station_id and reason of each damaged chip or index entry, or no
    scene where the description or the places of an array are damaged; the next ``build`` mends all
    of them. Raises ``StoreError`` when there is no store, or one of another format version, its
    manifest is damaged, or a build is at work on a damaged one.
    """
    chips, rows = open_store(store), []
    for name, d in chips.manifest["sources"].items():
        ledger, shards = Ledger(chips.path, name, mends=True), chips.shards(name)
        kept = [e for e in ledger.entries.values() if e.data_sha256]
        damaged = []
        for entry in tqdm(kept, disable=not progress, desc=name, unit="chip"):
            with contextlib.suppress(StoreError):
                if sha256(shards.read(entry.row)) == entry.data_sha256:
                    continue
            damaged.append(entry.key)
        rows += [(name, *key, DAMAGED) for key in damaged]
        rows += [(name, *key, "index entry damaged") for key in ledger.damaged]
        if not shards.is_described(**_description(name, d)):
            rows.append((name, "", "", "description of the array damaged"))
        if not places_stand(chips.path / name, ledger.table()):
            rows.append((name, "", "", "places of the chips damaged"))
        if damaged or ledger.damaged:  # a store without damage is only read, not held
            log.warning("%s: %d damaged chips of %s", chips.path, len(damaged), name)
            with sole_builder(chips.path):
                ledger = Ledger(chips.path, name, mends=True)
                for key in damaged:
                    entry = ledger.entries[key]
                    entry.data_sha256, entry.reason, entry.permanent = "", DAMAGED, False
                ledger.save()
    return pd.DataFrame(rows, columns=["source", "scene_id", "station_id", "reason"])


@contextlib.contextmanager
def sole_builder(path: Path) -> Iterator[None]:
    """Make the folder of a store and hold it alone: two builds would give one row to two chips.

    The system lets go of the lock when its holder ends, however it ends. A file system that knows
    no locks is trusted. Raises ``StoreError`` when another build or ``verify`` works on the store,
    its folder cannot be made, or the disk is full, be it while locking.
    """
    with contextlib.ExitStack() as stack:
        try:
            path.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(NotImplementedError):
                stack.enter_context(FileLock(path / LOCK, timeout=0))
        except Timeout as error:
            raise StoreError(
                f"Another build, or chips.verify, is at work on {path}. Wait until it ends, or "
                "build into another folder."
            ) from error
        except OSError as error:
            if error.errno in _DISK_FULL:
                raise _full(path) from error
            if error.errno not in _NO_LOCKS:
                raise StoreError(
                    f"The folder {path} cannot be made or written ({error}). Name a "
                    "folder in a place that you may write to."
                ) from error
        try:
            yield
        except OSError as error:
            if error.errno not in _DISK_FULL:
                raise
            raise _full(path) from error


def _full(path: Path) -> StoreError:
    return StoreError(
        f"The disk is full while writing {path}. Every chip in its index is whole; free some "
        "space and call chips.build again: it goes on where it stopped."
    )


# ---- what the manifest says ----------------------------------------------------------------------


def _described(
    samples: pd.DataFrame,
    names: Iterable[str] | None,
    *,
    bands: Mapping[str, Sequence[str]] | None,
    size_px: int,
) -> dict[str, dict[str, Any]]:
    """What the manifest says of each source that comes as chips."""
    contracts.check(samples, contracts.SAMPLES)
    return {
        source.name: describe(source.name, (bands or {}).get(source.name), size_px=size_px)
        for source in chip_sources(samples, names)
    }


def describe(
    name: str, bands: Sequence[str] | None, *, size_px: int, pixel_size_m: float | None = None
) -> dict[str, Any]:
    """What the manifest says of a source and some of its bands, or all.

    Without a pixel size, ``size_px`` counts pixels of 10 m, and coarser sources have fewer.
    """
    source = catalogue.get(name)
    kept = [source.band(band) for band in bands or [band.name for band in source.bands]]
    size, pixel_m = (size_px, pixel_size_m) if pixel_size_m else chip_size(source, size_px)
    packing = packing_of(source, [band.name for band in kept])
    return {
        "bands": [band.name for band in kept], "units": [band.unit for band in kept],
        "resolution": source.resolution, "size_px": size, "pixel_size_m": pixel_m,
        **packing.words, "citation": source.citation,
    }  # fmt: skip


def prepare(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Make the store, or check that the one there is of the same kind and add the new sources."""
    for left_over in path.rglob("*.partial"):  # of a build that was killed
        left_over.unlink(missing_ok=True)
    create_group(path, {})
    if (path / MANIFEST).exists():
        try:
            content = _merged(path, read_manifest(path), content)
        except DamagedError as error:
            log.warning("%s", error)
    for name, d in content["sources"].items():
        shards = Shards(path / name / "values", len(d["bands"]), d["size_px"])
        create_group(path / name, {"bands": d["bands"], "resolution": d["resolution"]})
        if not shards.is_described(**_description(name, d)):
            (shards.path / "zarr.json").unlink(missing_ok=True)  # the chips beside it stay
            shards.create(**_description(name, d))
    write_manifest(path, content)
    return content


def _description(name: str, described: dict[str, Any]) -> dict[str, Any]:
    """What the array of a source says of itself."""
    attributes = {key: described[key] for key in ("bands", "units")}
    packing = packing_of(catalogue.get(name), described["bands"])
    return {"packing": packing, "attributes": attributes}


def _merged(path: Path, old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    common = old["sources"].keys() & new["sources"].keys()
    for setting in ("archive", "size_px", "sources"):
        had, want = old[setting], new[setting]
        if setting == "sources":
            had, want = ({name: d[name] for name in sorted(common)} for d in (had, want))
        if had != want:
            raise StoreError(
                f"{path} was built with {setting} {had}; this build has {want}. "
                "Choose another folder for it, or build with what is there."
            )
    cited = {name: words for name, words in new["networks"].items() if words}
    return {
        **new,
        "sources": {**old["sources"], **new["sources"]},
        "networks": {**new["networks"], **old["networks"], **cited},
    }


# ---- writing chips: each one whole, and the ledgers true to what lies on disk --------------------


class Writer:
    """Puts chips into the arrays of a store and keeps the ledgers true to them."""

    def __init__(self, path: Path, described: dict[str, Any]):
        self.path = path
        self.ledgers = {name: Ledger(path, name, mends=True) for name in described}
        self.shards = {
            name: Shards(path / name / "values", len(d["bands"]), d["size_px"])
            for name, d in described.items()
        }
        self.arrays: dict[str, Any] = {}
        whole = {n: one for n, one in self.ledgers.items() if one.path.exists() and not one.damaged}
        self._saved = {name: dict(one.entries) for name, one in whole.items()}
        self._save_at = time.monotonic() + SAVE_EVERY_S

    @property
    def entries(self) -> dict[str, Mapping[tuple[str, str], Entry]]:
        """What the store knows of each chip by source, and by scene and station."""
        return {name: ledger.entries for name, ledger in self.ledgers.items()}

    def stands(self, request: ChipRequest) -> bool:
        """Whether the store answers the request, or knows that nothing ever will."""
        entry = self.ledgers[request.source].entry(request.scene_id, request.station_id)
        if entry.request_hash != request.request_hash:
            return False
        if entry.data_sha256:
            return self.shards[request.source].file(entry.row).exists()
        return entry.permanent

    def fetch(self, missing: list[ChipRequest], archive: Archive, *, progress: bool) -> None:
        """Ask for chips and write them as they come, saving the ledgers on the way."""
        asked = {r.request_hash: r for r in missing}
        failures: Counter[str] = Counter()
        for name in dict.fromkeys(r.source for r in missing):
            self._make_room(name)
        with self._saving(), contextlib.ExitStack() as stack:
            bar = tqdm(total=len(asked), disable=not progress, unit="chip", desc="chips")
            answers = archive.chips(missing) if asked else iter(())
            stack.enter_context(bar)
            if hasattr(answers, "close"):  # at once, so that nothing is asked for in vain
                stack.callback(answers.close)
            for request, answer in answers:
                if asked.pop(request.request_hash, None) is None:
                    continue  # answered twice, or never asked
                failure = self._put(request, answer)
                if failure is not None:
                    failures[failure.reason.split(":")[0][:40]] += 1
                    bar.set_postfix(failures, refresh=False)
                bar.update()
                self._save_if_due()
            for request in asked.values():
                self._put(request, Failure("the archive gave no answer", permanent=False))

    def take(self, answers: Iterable[Answer]) -> None:
        """Write chips as they come unless they stand, saving the ledgers on the way."""
        with self._saving():
            for request, answer in answers:
                if not self.stands(request):
                    self._make_room(request.source)
                    self._put(request, answer)
                    self._save_if_due()

    def _make_room(self, name: str) -> None:
        """Let the array hold all rows of its ledger."""
        scenes = len(self.ledgers[name].entries)
        if name not in self.arrays:
            self.arrays[name] = self.shards[name].grow(scenes)
        elif self.arrays[name].shape[0] < scenes:
            self.arrays[name].resize((scenes, *self.arrays[name].shape[1:]))

    def _put(self, request: ChipRequest, answer: Chip | Failure) -> Failure | None:
        """Write what came, or note why nothing did and return that."""
        ledger, grid = self.ledgers[request.source], request.grid
        old = ledger.entry(request.scene_id, request.station_id)
        new = Entry(*old.key, old.row, request.request_hash)
        new.crs, new.left_m, new.top_m = grid.crs, grid.left_m, grid.top_m
        new.pixel_size_m = grid.pixel_size_m
        # zarr would read what stands there, damaged or not, to merge it with what comes
        self.shards[request.source].file(old.row).unlink(missing_ok=True)
        failure = answer if isinstance(answer, Failure) else self._write(request, answer, new)
        if failure is not None:
            failure = replace(failure, reason=_kind(failure.reason, request))
            new.reason, new.permanent = failure.reason, failure.permanent
        ledger.entries[new.key] = new
        return failure

    def _write(self, request: ChipRequest, chip: Chip, entry: Entry) -> Failure | None:
        source = catalogue.get(request.source)
        wanted = (len(request.bands), request.grid.height, request.grid.width)
        if chip.values.shape != wanted:
            raise ContractError(
                f"{request.source} {request.scene_id} at {request.station_id}: wanted a chip of "
                f"shape {wanted}, found {chip.values.shape}. The archive must cut on the request's "
                "grid and hold its bands."
            )
        continuous = [i for i, b in enumerate(chip.bands) if source.band(b).continuous]
        known = np.isfinite(chip.values[continuous] if continuous else chip.values)
        is_coarse = source.resolution == "coarse"  # of a cube, where SMAP's mornings lack evenings
        entry.valid_fraction = float((known.any(axis=0) if is_coarse else known.all(axis=0)).mean())
        if entry.valid_fraction == 0:
            return Failure("empty")
        packing = packing_of(source, request.bands)
        try:
            packed = packing.pack(chip.values)
        except ContractError:  # the value differs from chip to chip, the reason does not
            low, high = packing.limits
            return Failure(f"values outside the store's {low:g} to {high:g}")
        self.arrays[request.source][entry.row] = packed
        entry.data_sha256 = sha256(packed)
        return None

    @contextlib.contextmanager
    def _saving(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            with contextlib.suppress(OSError):  # the first error is the one to report
                self._save()
            raise
        self._save()

    def _save_if_due(self) -> None:
        """Save every few seconds, and never for more than a twentieth of the time."""
        start = time.monotonic()
        if start > self._save_at:
            self._save()
            done = time.monotonic()
            self._save_at = done + max(SAVE_EVERY_S, 20 * (done - start))

    def _save(self) -> None:
        for name, ledger in self.ledgers.items():
            self._make_room(name)
            if ledger.entries != self._saved.get(name):
                ledger.save()
                self._saved[name] = dict(ledger.entries)
            write_places(self.path / name, ledger.table())


def _kind(reason: str, request: ChipRequest) -> str:
    """A reason that counts with its like: the index row holds the scene and the station already."""
    gaps = dict.fromkeys(request.scene_id.split("+"), "<scene>")
    gaps |= {request.scene_id: "<scene>", request.station_id: "<station>"}
    gaps[str(request.time)] = "<time>"
    for words in sorted(filter(None, gaps), key=len, reverse=True):
        reason = re.sub(rf"(?<!\w){re.escape(words)}(?!\w)", gaps[words], reason)
    return reason

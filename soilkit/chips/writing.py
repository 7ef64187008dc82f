"""Writing chips: each one whole, and the ledgers true to what lies on disk."""

import contextlib
import re
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from soilkit import sources
from soilkit.chips.arrays import Shards, write_places
from soilkit.chips.manifest import Entry, Ledger, sha256
from soilkit.chips.packing import packing_of
from soilkit.contracts import Archive, Chip, ChipRequest, Failure
from soilkit.errors import ContractError
from soilkit.sources import Source

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

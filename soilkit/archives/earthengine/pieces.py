"""Long questions in pieces of a year: each asked once, kept on disk, and asked for in parts."""

import contextlib
import hashlib
import json
import logging
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from soilkit.archives.earthengine import layers
from soilkit.archives.earthengine.faults import Fault, ServiceError
from soilkit.archives.earthengine.work import Job, Policy, run
from soilkit.errors import BoundError, StoreError, TimeZoneError
from soilkit.files import write_whole

log = logging.getLogger(__name__)
FORMAT_VERSION = 1
GROWING = np.timedelta64(90, "D")  # archives still receive scenes of the last weeks
HOUR = np.timedelta64(3_600_000_000, "us")
SHORTEST = np.timedelta64(2, "D")  # a piece is not halved below
BAR_AFTER_S = 3.0


@dataclass(frozen=True)
class Piece:
    """Images of a source that start in [start, end), over some places (longitude, latitude)."""

    source: str
    start: np.datetime64
    end: np.datetime64
    places: tuple[tuple[float, float], ...] = ()


def years(source: str, *, period: tuple[Any, Any]) -> list[tuple[np.datetime64, np.datetime64]]:
    """Spans of starts, cut at New Year, that hold every scene whose end lies in the period.

    An hour after the end finds the rest of a pass that began before it.
    """
    found, how = layers.layer(source)
    start, end = moments(period)
    if not start < end:
        return []
    back = HOUR if found.dated_by == "instant" else 2 * layers.cadence(found)
    first: Any = start - back
    last: Any = end + (HOUR if how.slices else 0 * HOUR)
    cuts = np.arange(first.astype("datetime64[Y]") + 1, last.astype("datetime64[Y]") + 1)
    edges = [first, *(c for c in cuts.astype("datetime64[us]") if first < c < last), last]
    return list(zip(edges[:-1], edges[1:], strict=True))


def moments(period: tuple[Any, Any]) -> tuple[np.datetime64, np.datetime64]:
    """Start and end of a period, UTC.

    Raises
    ------
    BoundError
        For what is no moment.
    TimeZoneError
        For a time with a zone.
    """
    found = []
    for name, given in zip(("start", "end"), period, strict=True):
        if getattr(given, "tzinfo", None) is not None:
            raise TimeZoneError(
                f"{name} carries the zone {given.tzinfo}; times are naive UTC. Convert with "
                ".tz_convert('UTC').tz_localize(None)."
            )
        try:
            moment = np.datetime64("NaT" if given is pd.NaT else given, "us")
        except (ValueError, TypeError):
            moment = np.datetime64("NaT")
        if np.isnat(moment):
            raise BoundError(f"{name} is a moment such as '2019-06-01', UTC; found {given!r}.")
        found.append(moment)
    return found[0], found[1]


class PieceJob:
    """A question about a piece; what asks for too much is asked for in halves of its time."""

    def split(self, item: Piece) -> list[Piece]:
        """The two halves, unless they would be shorter than two days."""
        middle = item.start + (item.end - item.start) // 2
        if middle - item.start < SHORTEST:
            return []
        return [replace(item, end=middle), replace(item, start=middle)]

    def merge(self, item: Piece, parts: list[pd.DataFrame]) -> pd.DataFrame:
        """The halves' rows, one after the other."""
        return pd.concat(parts, ignore_index=True)


class Shelf:
    """Answers on disk, each under the hash of everything that decides it; none without a folder."""

    def __init__(self, folder: str | os.PathLike[str] | None) -> None:
        self.folder = None if folder is None else Path(folder)

    def path(self, job: Any, piece: Piece) -> Path | None:
        """Where an answer is kept; None where it is not: scenes of the last weeks still arrive."""
        if self.folder is None or piece.end > np.datetime64("now", "us") - GROWING:
            return None
        return self._named(piece.source, repr(job), repr(piece))

    def whole(
        self, job: Any, pieces: Iterable[Piece], *, found: pd.DataFrame, period: tuple[Any, Any]
    ) -> Path | None:
        """Where the table made of many pieces is kept: one file is read a hundred times faster."""
        pieces = list(pieces)
        if not pieces or self.path(job, max(pieces, key=lambda piece: piece.end)) is None:
            return None
        span = [str(t) for t in moments(period)]
        return self._named(pieces[0].source, repr(job), *span, found.to_csv(index=False))

    def _named(self, source: str, *words: str) -> Path | None:
        if self.folder is None:
            return None
        found, how = layers.layer(source)
        text = json.dumps([FORMAT_VERSION, repr(how), found.asset, *words])
        return self.folder / source / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.parquet"

    def read(self, path: Path | None) -> pd.DataFrame | None:
        """What is kept there; a damaged file counts as none."""
        if path is None or not path.exists():
            return None
        try:
            return pd.read_parquet(path)
        except Exception:  # the reader's own errors have no common base
            log.warning("%s is damaged; its scenes are asked for again.", path)
            return None

    def write(self, path: Path | None, table: pd.DataFrame) -> None:
        """Keep a table, whole or not at all."""
        if path is None:
            return
        with self._named_errors():
            write_whole(path, table.to_parquet)

    def open(self) -> None:
        """Make the folder and write to it once, before anything is asked that could not be kept."""
        if self.folder is not None:
            with self._named_errors():
                self.folder.mkdir(parents=True, exist_ok=True)
                tempfile.TemporaryFile(dir=self.folder).close()

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"The scene index cannot be kept in {self.folder} ({error}). What is there stays "
                "good: free some space, or name another cache_dir, and call again."
            ) from error


def collect(
    pieces: Iterable[Piece],
    job: Job[Piece, pd.DataFrame],
    *,
    shelf: Shelf,
    policy: Policy,
    login: Callable[[], Any],
) -> dict[Piece, pd.DataFrame]:
    """The table of every piece: from the shelf, or asked for after a login and put there.

    Raises
    ------
    ServiceError
        When pieces failed; what came is on the shelf, and the next call goes on there.
    StoreError
        When the shelf cannot be written.
    """
    paths = {piece: shelf.path(job, piece) for piece in pieces}
    kept = {piece: shelf.read(path) for piece, path in paths.items()}
    found = {piece: table for piece, table in kept.items() if table is not None}
    missing = [piece for piece in paths if piece not in found]
    if missing:
        shelf.open()
        login()
    faults: list[Fault] = []
    name = missing[0].source if missing else ""
    bar = tqdm(total=len(missing), desc=f"{name} index", unit="piece", delay=BAR_AFTER_S)
    running: Any = run(missing, job, policy=policy)
    with bar, contextlib.closing(running) as answers:  # an interruption stops its calls at once
        for piece, answer in answers:
            bar.update()
            if isinstance(answer, Fault):
                faults.append(answer)
                continue
            shelf.write(paths[piece], answer)
            found[piece] = answer
    if faults:
        raise _missed(faults, of=f"{len(paths)} pieces of {name}")
    return found


def _missed(faults: list[Fault], *, of: str) -> ServiceError:
    """The error of the pieces that failed; one that will fail again is named first."""
    first = min(faults, key=lambda fault: fault.retry)
    kinds = ", ".join(f"{kind} {n}" for kind, n in Counter(f.kind for f in faults).items())
    doctor = "" if first.retry else "look at the source with doctor.examine, then "
    reason = (
        f"{len(faults)} of {of} did not come ({kinds}: {first.reason}); {doctor}call again to ask "
        "for them alone."
    )
    return ServiceError(replace(first, reason=reason))

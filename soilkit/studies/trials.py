"""Resumable trials: what decides one, a row file each, each in a process of its own."""

import contextlib
import hashlib
import json
import logging
import multiprocessing
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from soilkit.errors import StoreError
from soilkit.files import write_text_whole
from soilkit.models.inputs import Inputs

FORMAT_VERSION = 1  # raised when the same definition would give other numbers
NOT_DECISIVE = ("recipe",)  # the data count by their hash, whatever the recipe is called


@dataclass(frozen=True)
class Trial:
    """A model, its inputs, its training and its seed; equal trials of two tables are run once.

    ``product`` names a coarse source that is scored as it comes, without training. ``withheld``
    lists sets of sources that are absent in further evaluations of the same weights.
    """

    recipe: str = "sentinel1"
    high: tuple[str, ...] = ("sentinel1", "dem", "sentinel2")
    low: tuple[str, ...] = ("soilgrids",)
    coarse: tuple[str, ...] = ("smap", "gldas")
    product: str = ""
    preset: str = "small"
    crop_px: int = 128
    encoder: str = "xception"
    pooling: str = "center"
    fusion: str = "late"
    source_dropout: float | None = None
    withheld: tuple[tuple[str, ...], ...] = ()
    loss: str = "huber"
    steps: int = 300
    batch_size: int = 32
    validations: int = 5
    optimizer: str = "adam"
    learning_rate: float = 0.002
    weight_decay: float = 0.01
    precision: str = "float32"
    seed: int = 0
    split_seed: int = 0

    @property
    def inputs(self) -> Inputs:
        """What the model eats."""
        return Inputs(self.high, self.low, self.coarse)

    @property
    def has_images(self) -> bool:
        """Whether an encoder is trained."""
        return bool(self.high or self.low)

    @property
    def sources(self) -> tuple[str, ...]:
        """Every source that the trial needs, once."""
        names = (*self.high, *self.low, *self.coarse, *((self.product,) if self.product else ()))
        return tuple(dict.fromkeys(name.partition(".")[0] for name in names))

    @property
    def definition(self) -> dict[str, Any]:
        """All fields as plain values, as they stand in a row."""
        return json.loads(json.dumps(asdict(self)))

    def key(self, content_hash: str) -> str:
        """Names the trial on these data: 16 hex digits."""
        decisive = {k: v for k, v in self.definition.items() if k not in NOT_DECISIVE}
        words = [FORMAT_VERSION, content_hash, decisive]
        return hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()[:16]

    def with_(self, **changes: Any) -> "Trial":
        """The same trial but for these fields."""
        return replace(self, **changes)


# A row a trial, one JSON file each, written whole or not at all.


def row_path(work: Path, key: str) -> Path:
    """Where the row of a trial stands."""
    return work / "rows" / f"{key}.json"


def read_row(work: Path, key: str) -> dict[str, Any] | None:
    """The row of a trial; None where it was not run, or with another format.

    Raises
    ------
    StoreError
        When the file is damaged.
    """
    path = row_path(work, key)
    if not path.exists():
        return None
    try:
        row = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise StoreError(
            f"{path} is damaged ({error}). Delete it: its trial runs again."
        ) from error
    return row if row.get("format_version") == FORMAT_VERSION else None


def write_row(work: Path, row: dict[str, Any]) -> None:
    """Keep a row."""
    write_text_whole(row_path(work, row["key"]), json.dumps(row, allow_nan=False))


# Jobs in processes of their own: a job that dies costs no other one anything.

log = logging.getLogger(__name__)
POLL_S = 0.2


class Progress:
    """Says after every job how it ended and how long the others will take."""

    def __init__(self, jobs: Sequence[Any], *, work: Path):
        self.work, self.total, self.n_done = work, len(jobs), 0
        self.left = sum(job.cost for job in jobs)
        self.done, self.started = 0.0, time.monotonic()

    def note(self, job: Any) -> None:
        """Count a job that ended."""
        self.n_done += 1
        self.left, self.done = self.left - job.cost, self.done + job.cost
        pace = (time.monotonic() - self.started) / max(self.done, 1e-9)
        row = read_row(self.work, job.key) or {"status": "no row", "seconds": 0}
        log.info(
            "[%d/%d] %s seed %d: %s in %.0f s, about %s left",
            self.n_done, self.total, job.key, job.trial.seed, row["status"], row["seconds"],
            _clock(pace * self.left),
        )  # fmt: skip


def _clock(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def run_all(jobs: Sequence[Any], *, workers: int, progress: Progress) -> None:
    """Run picklable jobs, ``workers`` at a time, each in a fresh process; 0: here, one by one.

    A job is called without arguments; ``job.broke(why)`` is called here when its process died.
    Leaving early, by an interrupt too, ends the processes that run.
    """
    if workers == 0:
        for job in jobs:
            job()
            progress.note(job)
        return
    context = multiprocessing.get_context("spawn")
    waiting = deque(jobs)
    running: dict[Any, Any] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                job = waiting.popleft()
                process = context.Process(target=job, daemon=True)
                process.start()
                running[process] = job
            for process in [p for p in running if not p.is_alive()]:
                process.join()
                job = running.pop(process)
                if process.exitcode != 0:
                    job.broke(f"killed: its process ended with {process.exitcode}")
                progress.note(job)
            time.sleep(POLL_S)
    finally:
        for process in running:
            process.terminate()
            with contextlib.suppress(Exception):
                process.join(timeout=10)

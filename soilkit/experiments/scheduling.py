"""Jobs in processes of their own: a job that dies costs no other one anything."""

import contextlib
import logging
import multiprocessing
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from soilkit.experiments import rows

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
        row = rows.read_row(self.work, job.key) or {"status": "no row", "seconds": 0}
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

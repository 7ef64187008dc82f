"""Resumable trials: a definition gives a key, a key a row file, and each runs in a process alone.

A study, of whatever models, is a list of ``Job``; ``run`` does those whose rows are missing.
"""

import argparse
import contextlib
import hashlib
import json
import logging
import multiprocessing
import re
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from soilkit.constants import OK
from soilkit.files import read_whole, write_text_whole

FORMAT_VERSION = 1  # raised when the same definition would give other numbers
POLL_S = 0.2
log = logging.getLogger("soilkit.studies")


def key_of(*decisive: Any) -> str:
    """Names a trial by all that decides its numbers, plain values: 16 hex digits."""
    words = json.dumps([FORMAT_VERSION, *decisive], sort_keys=True)
    return hashlib.sha256(words.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Job:
    """A trial to run.

    Attributes
    ----------
    key : names its row file
    name : what the log calls it
    work : called without arguments, in a fresh process (so it must pickle); returns what the row
        tells beyond ``about``, plain values
    about : fields of the row however the trial ends, its ``definition`` among them; seconds in it
        are added to
    cost : how long it takes, in any unit that the other jobs share
    """

    key: str
    name: str
    work: Callable[[], Mapping[str, Any]]
    about: Mapping[str, Any] = field(default_factory=dict)
    cost: float = 1.0


def _read_row(path: Path) -> dict[str, Any]:
    row = json.loads(path.read_text("utf-8"))
    return {"status": row["status"], **row}


class Rows:
    """A folder of rows, one JSON file a trial, each written whole or not at all."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)

    def path(self, key: str) -> Path:
        """Where the row of a trial stands."""
        return self.folder / f"{key}.json"

    def read(self, key: str) -> dict[str, Any] | None:
        """The row of a trial; None where it was not run, or with another format.

        Raises ``StoreError`` when the file is damaged.
        """
        path = self.path(key)
        if not path.exists():
            return None
        row = read_whole(path, _read_row)
        return row if row.get("format_version") == FORMAT_VERSION else None

    def write(self, job: Job, *, status: str = OK, **result: Any) -> None:
        """Keep how a job ended."""
        row = {"format_version": FORMAT_VERSION, "key": job.key, "seconds": 0.0, "cpu_seconds": 0.0}
        row |= {**job.about, **result, "status": status}
        for name in ("seconds", "cpu_seconds"):
            row[name] = round(job.about.get(name, 0.0) + result.get(name, 0.0), 1)
        write_text_whole(self.path(job.key), json.dumps(row, allow_nan=False))


def do(job: Job, rows: Rows) -> None:
    """Run a job here; what goes wrong is its row's status, never an exception."""
    started, worked = time.perf_counter(), time.process_time()
    result: Mapping[str, Any] = {}
    try:
        result, status = job.work(), OK
    except Exception as error:
        log.exception("trial %s", job.key)
        status = f"{type(error).__name__}: {error}"
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - worked
    rows.write(job, status=status, **result, seconds=seconds, cpu_seconds=cpu_seconds)


def run(jobs: Sequence[Job], rows: Rows, *, workers: int = 0) -> None:
    """Do all jobs, ``workers`` at a time, each in a fresh process; 0: here, one by one.

    A job that dies costs no other one anything: its row says so. Interrupt it whenever you like;
    the processes that run are ended, and the jobs whose rows are missing are there to be run again.
    """
    left, started = sum(job.cost for job in jobs), time.monotonic()
    whole = left
    for number, job in enumerate(_ended(jobs, rows, workers), start=1):
        left -= job.cost
        pace = (time.monotonic() - started) / max(whole - left, 1e-9)
        row = rows.read(job.key) or {"status": "no row", "seconds": 0}
        log.info(
            "[%d/%d] %s: %s in %.0f s, about %.0f min left",
            number, len(jobs), job.name, row["status"], row["seconds"], pace * left / 60,
        )  # fmt: skip


def _ended(jobs: Sequence[Job], rows: Rows, workers: int):
    """Jobs in the order in which they end."""
    if workers == 0:
        for job in jobs:
            do(job, rows)
            yield job
        return
    context, waiting = multiprocessing.get_context("spawn"), deque(jobs)
    running: dict[Any, Job] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                process = context.Process(target=do, args=(waiting[0], rows), daemon=True)
                process.start()
                running[process] = waiting.popleft()
            for process in [p for p in running if not p.is_alive()]:
                process.join()
                job = running.pop(process)
                if process.exitcode != 0:
                    why = f"killed: its process ended with {process.exitcode}"
                    rows.write(job, status=why)
                yield job
            time.sleep(POLL_S)
    finally:
        for process in running:
            process.terminate()
            with contextlib.suppress(Exception):
                process.join(timeout=10)


# What the command of every study understands and does.


def command_line(prog: str, about: str | None) -> argparse.ArgumentParser:
    """The arguments that all studies share."""
    parser = argparse.ArgumentParser(prog=prog, description=about)
    parser.add_argument("out", type=Path, help="folder of the csv tables")
    parser.add_argument("--work", type=Path, help="working folder (default: beside OUT, in work/)")
    parser.add_argument("--only", type=_names, help="what to run by name, apart by , or ;")
    parser.add_argument("--seeds", type=_numbers, help="seeds, such as 0,1")
    parser.add_argument("--workers", type=int, default=2, help="processes (default 2; 0: none)")
    parser.add_argument("--again", action="store_true", help="run failed trials again")
    parser.add_argument("--list", action="store_true", help="say what would run, and stop")
    return parser


def _names(text: str) -> list[str]:
    return [name.strip() for name in re.split(r";|,(?! )", text) if name.strip()]


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))


def understood(parser: argparse.ArgumentParser, words: list[str] | None) -> argparse.Namespace:
    """The options that the words give, the working folder among them; the log is shown."""
    options = parser.parse_args(words)
    options.work = options.work or options.out.parent / "work" / options.out.name
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    return options


def carry_out(study: Any, options: argparse.Namespace, *, write: Callable[[Any, Path], None]):
    """List what a study has due, or run it; its tables are written also where it is interrupted."""
    if options.list:
        for job in study.due():
            log.info("%s: %s", job.name, job.about["definition"])
        return
    try:
        study.run()
    except KeyboardInterrupt:
        log.info("interrupted: start it again to go on")
    finally:
        write(study, options.out)
        log.info("tables in %s", options.out)

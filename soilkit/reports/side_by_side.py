"""Several reports at a time, each in a process of its own."""

import logging
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from soilkit.reports.book import Book, build

LOG_FORMAT = "%(levelname)s %(name)s: %(message)s"


def build_all(books: Sequence[Book], *, notebooks: Path, reports: Path, workers: int) -> list[Path]:
    """Build reports side by side, each in a process of its own; their index pages, in order.

    One that fails does not stop the others; its error is raised when they are done.
    """
    if workers < 2 or len(books) < 2:
        return [build(book, notebooks, reports) for book in books]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _begin, (workers,)) as pool:
        built = [pool.submit(build, book, notebooks, reports) for book in books]
    return [future.result() for future in built]


def speak() -> None:
    """Log progress, here and in every process of a report."""
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)


def _begin(workers: int) -> None:
    """Share the cores among the reports: threads that outnumber them wait for one another."""
    speak()
    cores = os.cpu_count() or 1
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // workers)))

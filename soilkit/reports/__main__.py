"""``python -m soilkit.reports notebooks reports``: every report of this project, two at a time."""

import argparse
import logging
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from soilkit.reports.book import Book, build
from soilkit.reports.books import REAL, all_books

LOG_FORMAT = "%(levelname)s %(name)s: %(message)s"


def build_all(books: Sequence[Book], *, notebooks: Path, reports: Path, workers: int) -> list[Path]:
    """Build reports side by side, each in a process of its own; their index pages, in order.

    One that fails does not stop the others; its error is raised when they are done.
    """
    if workers < 2 or len(books) < 2:
        return [build(book, notebooks, reports) for book in books]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _speak) as pool:
        built = [pool.submit(build, book, notebooks, reports) for book in books]
    return [future.result() for future in built]


def _speak() -> None:
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)


def main() -> None:
    """Build the reports; the real ones only where their data are at hand."""
    data = Path(os.environ.get("SOILKIT_TEST_DATA") or "no-data")
    books = {book.name: book for book in all_books(data)}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", type=Path)
    parser.add_argument("reports", type=Path)
    parser.add_argument("--only", choices=sorted(books), help="build one report only")
    parser.add_argument("--workers", type=int, default=2, help="reports at a time (default 2)")
    options = parser.parse_args()
    _speak()
    log = logging.getLogger("soilkit.reports")
    for name in REAL:
        if not (data / name).is_dir():
            log.warning("SOILKIT_TEST_DATA holds no %s: the report on it is left out", name)
    chosen = [books[options.only]] if options.only else list(books.values())
    folders = {"notebooks": options.notebooks, "reports": options.reports}
    for index in build_all(chosen, **folders, workers=options.workers):
        log.info("report: %s", index)


if __name__ == "__main__":
    main()

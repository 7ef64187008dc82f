"""``python -m soilkit.show.reports notebooks reports``: every report, two at a time."""

import argparse
import logging
import os
from pathlib import Path

from soilkit.show.reports import book as side_by_side
from soilkit.show.reports.book import REAL, all_books


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
    side_by_side.speak()
    log = logging.getLogger("soilkit.show.reports")
    for name in REAL:
        if not (data / name).is_dir():
            log.warning("SOILKIT_TEST_DATA holds no %s: the report on it is left out", name)
    chosen = [books[options.only]] if options.only else list(books.values())
    folders = {"notebooks": options.notebooks, "reports": options.reports}
    for index in side_by_side.build_all(chosen, **folders, workers=options.workers):
        log.info("report: %s", index)


if __name__ == "__main__":
    main()

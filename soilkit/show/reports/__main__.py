"""``python -m soilkit.show.reports notebooks reports``: every report, two at a time."""

import argparse
import logging
from pathlib import Path

from soilkit.show.reports import book as side_by_side
from soilkit.show.reports.book import BOOKS, real_data


def main() -> None:
    """Build the reports; the real ones only where their data are at hand."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", type=Path)
    parser.add_argument("reports", type=Path)
    parser.add_argument("--only", choices=[b.name for b in BOOKS], help="build one report only")
    parser.add_argument("--workers", type=int, default=2, help="reports at a time (default 2)")
    options = parser.parse_args()
    side_by_side.speak()
    log = logging.getLogger("soilkit.show.reports")
    chosen = [book for book in BOOKS if options.only in (None, book.name)]
    for book in chosen:
        if not (real_data() / book.needs).is_dir() and book.needs:
            log.warning("SOILKIT_TEST_DATA holds no %s: its report is left out", book.needs)
            chosen = [each for each in chosen if each is not book]
    folders = {"notebooks": options.notebooks, "reports": options.reports}
    for index in side_by_side.build_all(chosen, **folders, workers=options.workers):
        log.info("report: %s", index)


if __name__ == "__main__":
    main()

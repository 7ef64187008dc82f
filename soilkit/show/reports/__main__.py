"""``python -m soilkit.show.reports notebooks reports``: every report, two at a time."""

import argparse
import logging
from pathlib import Path

from soilkit.show.reports.book import BOOKS, build_all, real_data, speak


def main() -> None:
    """Build the reports; the real ones only where their data are at hand."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", type=Path)
    parser.add_argument("reports", type=Path)
    parser.add_argument("--only", choices=[b.name for b in BOOKS], help="build one report only")
    parser.add_argument("--workers", type=int, default=2, help="reports at a time (default 2)")
    options = vars(parser.parse_args())
    speak()
    log, only = logging.getLogger("soilkit.show.reports"), options.pop("only")
    chosen = [book for book in BOOKS if only in (None, book.name)]
    lacking = [book for book in chosen if book.needs and not (real_data() / book.needs).is_dir()]
    for book in lacking:
        log.warning("SOILKIT_TEST_DATA holds no %s: its report is left out", book.needs)
    ready = [book for book in chosen if book not in lacking]
    for index in build_all(ready, **options):
        log.info("report: %s", index)


if __name__ == "__main__":
    main()

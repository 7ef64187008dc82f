"""``python -m soilkit.show.reports notebooks reports``: every report, two at a time.

``python -m soilkit.show.reports notebooks/13_choose_splits.ipynb reports/seeds --sweep rows.csv``
runs one notebook once for every row of a table of parameters."""

import argparse
import logging
from pathlib import Path

from soilkit.show.reports.book import BOOKS, build_all, real_data, speak, sweep


def main() -> None:
    """Build the reports; the real ones only where their data are at hand."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", type=Path, help="their folder; with --sweep one of them")
    parser.add_argument("reports", type=Path)
    parser.add_argument("--only", choices=[b.name for b in BOOKS], help="build one report only")
    parser.add_argument("--workers", type=int, default=2, help="reports at a time (default 2)")
    parser.add_argument("--code", choices=("end", "off"), default="end", help="of the notebooks")
    parser.add_argument("--pdf", action="store_true", help="print each page with Chromium, too")
    parser.add_argument(
        "--sweep", type=Path, metavar="CSV", help="a row a run, a column a parameter"
    )
    options = vars(parser.parse_args())
    speak()
    log, only, rows = (
        logging.getLogger("soilkit.show.reports"),
        options.pop("only"),
        options.pop("sweep"),
    )
    if rows is not None:
        notebook, out_dir = options["notebooks"], options["reports"]
        log.info("summary: %s", sweep(notebook, rows, out_dir=out_dir, workers=options["workers"]))
        return
    chosen = [book for book in BOOKS if only in (None, book.name)]
    lacking = [book for book in chosen if book.needs and not (real_data() / book.needs).is_dir()]
    for book in lacking:
        log.warning("SOILKIT_TEST_DATA holds no %s: its report is left out", book.needs)
    ready = [book for book in chosen if book not in lacking]
    for index in build_all(ready, **options | {"code": options["code"] == "end"}):
        log.info("report: %s", index)


if __name__ == "__main__":
    main()

"""``python -m soilkit.show.reports notebooks reports``: every report, two at a time.

``python -m soilkit.show.reports notebooks/40_map_a_region.ipynb reports/mine -p n_stations=12``
runs one notebook; with ``--sweep rows.csv`` once for every row of a table of parameters."""

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

from soilkit.errors import ParameterError
from soilkit.show.reports.book import BOOKS, build_all, real_data, speak, sweep
from soilkit.show.reports.pages import to_pdf
from soilkit.show.reports.runner import run


def main() -> None:
    """Build the reports, the real ones only where their data are at hand; or run one notebook."""
    parser = argparse.ArgumentParser(prog="python -m soilkit.show.reports", description=__doc__)
    parser.add_argument("notebooks", type=Path, help="their folder, or one of them")
    parser.add_argument("reports", type=Path, help="the folder that receives the pages")
    parser.add_argument("--only", choices=[b.name for b in BOOKS], help="build one report only")
    parser.add_argument("--workers", type=int, default=2, help="reports at a time (default 2)")
    parser.add_argument("--code", choices=("end", "off"), default="end", help="of the notebooks")
    parser.add_argument("--pdf", action="store_true", help="print each page with Chromium, too")
    parser.add_argument(
        "--sweep", type=Path, metavar="CSV", help="a row a run, a column a parameter"
    )
    parser.add_argument(
        "-p", "--parameters", nargs="+", action="extend", default=[], metavar="NAME=VALUE",
        help="of one notebook, values as YAML: n_stations=12 'region=[-99.2, 36.4, -99.1, 36.5]'",
    )  # fmt: skip
    options = vars(parser.parse_args())
    speak()
    log, only = logging.getLogger("soilkit.show.reports"), options.pop("only")
    rows, pairs = options.pop("sweep"), options.pop("parameters")
    notebook, out_dir = options["notebooks"], options["reports"]
    if rows is not None:
        log.info("summary: %s", sweep(notebook, rows, out_dir=out_dir, workers=options["workers"]))
        return
    if notebook.suffix == ".ipynb":
        try:
            code, given = options["code"] == "end", dict(map(parameter, pairs))
            page = run(notebook, given, out_dir, code=code)
        except ParameterError as error:
            sys.exit(str(error))
        log.info("report: %s", to_pdf(page) if options["pdf"] else page)
        return
    chosen = [book for book in BOOKS if only in (None, book.name)]
    lacking = [book for book in chosen if book.needs and not (real_data() / book.needs).is_dir()]
    for book in lacking:
        log.warning("SOILKIT_TEST_DATA holds no %s: its report is left out", book.needs)
    ready = [book for book in chosen if book not in lacking]
    for index in build_all(ready, **options | {"code": options["code"] == "end"}):
        log.info("report: %s", index)


def parameter(pair: str) -> tuple[str, Any]:
    """A notebook's parameter from "name=value", the value as YAML.

    Files are named from where the command is called, notebooks run elsewhere: ``out_dir`` and what
    exists become absolute. Raises ``ParameterError`` where there is no "=" or no YAML.
    """
    import yaml

    name, equals, text = pair.partition("=")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ParameterError(f"-p {pair!r}: {text!r} is no YAML ({error}).") from error
    if not equals:
        raise ParameterError(f"-p {pair!r}: write NAME=VALUE, like n_stations=12.")
    return name, "" if value is None else value if name == "archive" else _placed(value, name)


def _placed(value: Any, name: str) -> Any:
    if isinstance(value, list):
        return [_placed(one, name) for one in value]
    if isinstance(value, dict):
        return {key: _placed(one, name) for key, one in value.items()}
    is_place = isinstance(value, str) and value and (name == "out_dir" or Path(value).exists())
    return str(Path(value).resolve()) if is_place else value


if __name__ == "__main__":
    main()

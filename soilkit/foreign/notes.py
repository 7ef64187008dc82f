"""What was done to a foreign table, one line a finding."""

import pandas as pd

COLUMNS = ("status", "column", "n_rows", "n_dropped", "n_stations", "stations", "detail")
N_NAMES = 5


class Notes:
    """Findings in the order of the work; ``table`` has one row each."""

    def __init__(self) -> None:
        self.lines: list[dict] = []

    def add(self, status, detail, *, column="", rows=0, dropped=0, stations=()):
        """Note a finding; ``rows`` may be zero, for one about the table as a whole."""
        names = sorted({str(name) for name in stations})
        shown = ", ".join(names[:N_NAMES]) + (", ..." if len(names) > N_NAMES else "")
        line = (status, column, int(rows), int(dropped), len(names), shown, detail)
        self.lines.append(dict(zip(COLUMNS, line, strict=True)))

    def table(self) -> pd.DataFrame:
        """``status, column, n_rows, n_dropped, n_stations, stations`` (five names), ``detail``."""
        return pd.DataFrame(self.lines, columns=list(COLUMNS))

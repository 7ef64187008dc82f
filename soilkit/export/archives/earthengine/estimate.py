"""What an export will cost, before anything is asked: requests, bytes, minutes, EECU-hours."""

import html
import math
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from soilkit.contracts import ChipRequest
from soilkit.errors import ContractError
from soilkit.export.archives.earthengine.executor import Policy

# developers.google.com/earth-engine/guides/usage ("Earth Engine quotas")
REQUESTS_A_SECOND = 100
# "Total request size must be less than or equal to 50331648 bytes", uncompressed
PAYLOAD_BYTES = 48 * 2**20
# .../guides/noncommercial_tiers ("Noncommercial tiers"): a month, since 2026-04-27
TIERS = "Community 150, Contributor 1,000, Partner 100,000"
BYTES_A_VALUE = 4  # chips travel as float32
# Nobody publishes these for chips; two orders of magnitude say how little is known.
ASSUMED_SECONDS = 3.0
ASSUMED_EECU_SECONDS = (0.1, 10.0)


@dataclass(frozen=True)
class Trial:
    """What a trial has shown, for example ``chips.build(..., limit=200)``.

    Attributes
    ----------
    requests : how many the trial asked
    wall_s : how long it took, at the concurrency of the export, s
    eecu_seconds : its compute, as the project's metrics page tells it; None where unknown
    """

    requests: int
    wall_s: float
    eecu_seconds: float | None = None

    def __post_init__(self) -> None:
        numbers = (self.wall_s, self.eecu_seconds or 0.0)
        if self.requests < 1 or not all(math.isfinite(n) and n >= 0 for n in numbers):
            raise ContractError(
                f"A trial has at least one request and finite times from zero on; found {self}."
            )


@dataclass(frozen=True)
class Estimate:
    """The cost of fetching chips; printed as a table in a terminal and in a notebook.

    Attributes
    ----------
    by_source : DataFrame, one row a source: ``chips``, ``requests`` (a large chip takes several),
        ``bytes`` before compression
    minutes : at the policy's concurrency
    eecu_hours_low, eecu_hours_high : compute, a range
    basis : where the minutes and the range come from
    """

    by_source: pd.DataFrame
    minutes: float
    eecu_hours_low: float
    eecu_hours_high: float
    basis: str

    @property
    def requests(self) -> int:
        """Calls of the service."""
        return int(self.by_source["requests"].sum())

    def table(self) -> pd.DataFrame:
        """As text, the total last: source, chips, requests, uncompressed."""
        rows = pd.concat([self.by_source, self.by_source.sum().to_frame("total").T])
        table = rows[["chips", "requests"]].map("{:,}".format)
        table = table.assign(uncompressed=rows["bytes"].map(_size))
        return table.rename_axis("source").reset_index()

    def _words(self) -> str:
        low, high = _hours(self.eecu_hours_low), _hours(self.eecu_hours_high)
        hours = low if low == high else f"{low} to {high}"
        return (
            f"time     about {_duration(self.minutes)}\n"
            f"compute  {hours} EECU-hours\n"
            f"basis    {self.basis}"
        )

    def __str__(self) -> str:
        return f"{self.table().to_string(index=False)}\n{self._words()}"

    def _repr_html_(self) -> str:
        words = html.escape(self._words()).replace("\n", "<br>")
        return f"{self.table().to_html(index=False, border=0)}<p>{words}</p>"


def estimate_cost(
    requests: Iterable[ChipRequest], *, policy: Policy, trial: Trial | None = None
) -> Estimate:
    """What fetching these chips will cost.

    The policy's concurrency decides the minutes; a trial's measured times and compute stand instead
    of assumptions.

    Examples
    --------
    >>> estimate_cost([], policy=Policy()).requests
    0
    """
    rows = [
        (r.source, BYTES_A_VALUE * len(r.bands) * r.grid.height * r.grid.width) for r in requests
    ]
    sizes = pd.DataFrame(rows, columns=["source", "bytes"]).astype({"bytes": "int64"})
    sizes = sizes.assign(chips=1, requests=[parts(size) for size in sizes["bytes"]])
    by_source = sizes.groupby("source")[["chips", "requests", "bytes"]].sum().astype("int64")
    n = int(by_source["requests"].sum())
    seconds, (low, high) = ASSUMED_SECONDS, ASSUMED_EECU_SECONDS
    if trial:
        seconds = trial.wall_s * min(policy.concurrency, trial.requests) / trial.requests
    if trial and trial.eecu_seconds is not None:
        low = high = trial.eecu_seconds / trial.requests
    source = f"as in your trial of {trial.requests:,} requests" if trial else "assumed"
    compute = (
        f"{low:.2g} EECU-seconds a request ({source})"
        if low == high
        else f"{low:g} to {high:g} EECU-seconds a request is assumed, not known: no figure for "
        "chips is published. Try chips.build(..., limit=200), then read the EECU-seconds used "
        "from the project's Metrics Explorer"
    )
    return Estimate(
        by_source=by_source,
        minutes=max(n * seconds / policy.concurrency, n / REQUESTS_A_SECOND) / 60,
        eecu_hours_low=n * low / 3600,
        eecu_hours_high=n * high / 3600,
        basis=f"{policy.concurrency} requests at once, {seconds:.2g} s each ({source}); "
        f"chips only: the scene index comes on top; {compute}; "
        f"noncommercial quota in EECU-hours a month: {TIERS}.",
    )


def parts(size_bytes: int) -> int:
    """Requests for one chip: quartered until each part is within the payload limit.

    Examples
    --------
    >>> parts(4 * 10 * 512**2), parts(4 * 10 * 2048**2)
    (1, 4)
    """
    n = 1
    while size_bytes > n * PAYLOAD_BYTES:
        n *= 4
    return n


def _hours(hours: float) -> str:
    return f"{float(f'{hours:.2g}'):,.12g}"  # two digits, and never 2.8e+02


def _size(n_bytes: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 999.5:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:,.3g} TB" if n_bytes < 999.5 else f"{n_bytes:,.0f} TB"


def _duration(minutes: float) -> str:
    if minutes < 1:
        return "a minute"
    if minutes < 100:
        return f"{minutes:.0f} minutes"
    hours = minutes / 60
    return f"{hours:.0f} hours" if hours < 72 else f"{hours / 24:.0f} days"

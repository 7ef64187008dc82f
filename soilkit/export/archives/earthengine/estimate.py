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
TIERS = {"Community": 150, "Contributor": 1_000, "Partner": 100_000}
BYTES_A_VALUE = 4  # chips travel as float32
# Nobody publishes these for chips; two orders of magnitude say how little is known.
ASSUMED_SECONDS = 3.0
ASSUMED_EECU_SECONDS = (0.1, 10.0)


@dataclass(frozen=True)
class Measured:
    """What a trial has shown, for example ``chips.build(..., limit=200)``.

    Attributes
    ----------
    requests : how many the trial asked
    seconds_a_request : from asking to having, one request, s
    eecu_seconds_a_request : compute, as the project's metrics page tells it; None where unknown

    Examples
    --------
    >>> Measured.from_trial(200, 25.0, policy=Policy(concurrency=32)).seconds_a_request
    4.0
    """

    requests: int
    seconds_a_request: float
    eecu_seconds_a_request: float | None = None

    def __post_init__(self) -> None:
        numbers = (self.requests, self.seconds_a_request, self.eecu_seconds_a_request or 0.0)
        if self.requests < 1 or not all(math.isfinite(n) and n >= 0 for n in numbers):
            raise ContractError(
                f"A trial has at least one request and finite times from zero on; found {self}."
            )

    @classmethod
    def from_trial(
        cls,
        requests: int,
        wall_s: float,
        *,
        policy: Policy,
        eecu_seconds: float | None = None,
    ) -> "Measured":
        """From a trial's totals: its requests, wall time [s] and, if known, EECU-seconds."""
        if requests < 1:
            raise ContractError(f"A trial has at least one request; found {requests}.")
        at_once = min(policy.concurrency, requests)
        eecu = None if eecu_seconds is None else eecu_seconds / requests
        return cls(requests, wall_s * at_once / requests, eecu)


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

    @property
    def bytes(self) -> int:
        """Pixels before compression."""
        return int(self.by_source["bytes"].sum())

    def table(self) -> pd.DataFrame:
        """As text, the total last: source, chips, requests, uncompressed."""
        rows = pd.concat([self.by_source, self.by_source.sum().to_frame("total").T])
        table = rows[["chips", "requests"]].map("{:,}".format)
        table = table.assign(uncompressed=rows["bytes"].map(_size))
        return table.rename_axis("source").reset_index()

    def words(self) -> dict[str, str]:
        """Time, compute and basis."""
        low, high = _hours(self.eecu_hours_low), _hours(self.eecu_hours_high)
        return {
            "time": f"about {_duration(self.minutes)}",
            "compute": f"{low} EECU-hours" if low == high else f"{low} to {high} EECU-hours",
            "basis": self.basis,
        }

    def __str__(self) -> str:
        table = self.table()
        width = int(table["source"].str.len().max())
        table["source"] = table["source"].str.ljust(width)
        words = [f"{name:7}  {said}" for name, said in self.words().items()]
        head = table.rename(columns={"source": "source".ljust(width)})
        return "\n".join([head.to_string(index=False), *words])

    def _repr_html_(self) -> str:
        words = "".join(
            f"<p><b>{n}</b> {html.escape(said)}</p>" for n, said in self.words().items()
        )
        return self.table().to_html(index=False, border=0) + "".join(words)


def estimate(
    requests: Iterable[ChipRequest],
    *,
    policy: Policy | None = None,
    measured: Measured | None = None,
) -> Estimate:
    """What fetching these chips will cost.

    Parameters
    ----------
    requests : iterable of ChipRequest, as from ``chips.plan``
    policy : Policy, optional
        Its concurrency decides the minutes.
    measured : Measured, optional
        A trial's times and compute instead of assumptions.

    References
    ----------
    .. [1] developers.google.com/earth-engine/guides: usage, noncommercial_tiers, cost_controls

    Examples
    --------
    >>> estimate([]).requests
    0
    """
    policy = policy or Policy()
    rows = [
        (r.source, BYTES_A_VALUE * len(r.bands) * r.grid.height * r.grid.width) for r in requests
    ]
    sizes = pd.DataFrame(rows, columns=["source", "bytes"]).astype({"bytes": "int64"})
    sizes = sizes.assign(chips=1, requests=[parts(size) for size in sizes["bytes"]])
    by_source = sizes.groupby("source")[["chips", "requests", "bytes"]].sum().astype("int64")
    n = int(by_source["requests"].sum())
    seconds = measured.seconds_a_request if measured else ASSUMED_SECONDS
    low, high = _eecu_seconds(measured)
    return Estimate(
        by_source=by_source,
        minutes=max(n * seconds / policy.concurrency, n / REQUESTS_A_SECOND) / 60,
        eecu_hours_low=n * low / 3600,
        eecu_hours_high=n * high / 3600,
        basis=_basis(policy, measured),
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


def _eecu_seconds(measured: Measured | None) -> tuple[float, float]:
    if measured is None or measured.eecu_seconds_a_request is None:
        return ASSUMED_EECU_SECONDS
    return measured.eecu_seconds_a_request, measured.eecu_seconds_a_request


def _basis(policy: Policy, measured: Measured | None) -> str:
    """In words: what was measured, what is assumed, and what to hold the range against."""
    trial = f"as in your trial of {measured.requests:,} requests" if measured else ""
    seconds = measured.seconds_a_request if measured else ASSUMED_SECONDS
    words = [
        f"{policy.concurrency} requests at once, {seconds:.2g} s each ({trial or 'assumed'})",
        "chips only: the scene index comes on top",
    ]
    low, high = _eecu_seconds(measured)
    if low == high:
        words.append(f"{low:.2g} EECU-seconds a request ({trial})")
    else:
        words.append(
            f"{low:g} to {high:g} EECU-seconds a request is assumed, not known: no figure for "
            "chips is published. Try chips.build(..., limit=200), then read the EECU-seconds used "
            "from the project's Metrics Explorer"
        )
    tiers = ", ".join(f"{name} {hours:,}" for name, hours in TIERS.items())
    words.append(f"noncommercial quota in EECU-hours a month: {tiers}")
    return "; ".join(words) + "."


def _hours(hours: float) -> str:
    return f"{hours:.2g}" if hours < 10 else f"{round(hours, 1 - len(str(int(hours))) + 1):,.0f}"


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

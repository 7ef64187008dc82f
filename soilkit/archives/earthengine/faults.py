"""Why a request to the service failed, and what that asks for: patience, parts, or an end."""

import re
from dataclasses import dataclass

from soilkit.errors import ContractError, SoilkitError

RETRIED = frozenset({"quota", "server", "deadline", "network", "truncated"})
KINDS = RETRIED | {"memory", "permission", "missing", "request"}

# What the service says with status 400 (or another) that the status alone does not tell.
TOO_LARGE = re.compile(
    r"memory limit|memory capacity|must be less than or equal to \d+ bytes|is too large|payload",
    re.IGNORECASE,
)
TIMED_OUT = re.compile(r"timed out|deadline exceeded", re.IGNORECASE)
RATE = re.compile(r"too many (requests|concurrent)|quota exceeded|rate ?limit", re.IGNORECASE)
# Spent until tomorrow, or until somebody raises it: waiting a minute is no help.
SPENT = re.compile(r"custom quota|daily_eecu_usage_time", re.IGNORECASE)
DAY_S = 86_400.0
NOT_FOUND = re.compile(r"not found|does not exist", re.IGNORECASE)


@dataclass(frozen=True)
class Fault:
    """Why one request failed.

    Attributes
    ----------
    kind : one of ``KINDS``
    reason : the service's own words
    retry : whether the same request may succeed later
    split : whether parts of it may succeed now
    retry_after_s : what the service asked us to wait, s
    """

    kind: str
    reason: str
    retry: bool
    split: bool = False
    retry_after_s: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ContractError(
                f"A fault is one of {', '.join(sorted(KINDS))}; found {self.kind!r}."
            )

    def __str__(self) -> str:
        return f"{self.kind}: {self.reason}"


class ServiceError(SoilkitError):
    """One call of the service failed; ``fault`` says how."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault = fault


def fault_of_status(status: int, message: str, *, retry_after_s: float | None = None) -> Fault:
    """Classify an HTTP status that is no success, with the service's message.

    The messages are those of the pages "Debugging guide" and "Cost controls" [1]_.

    References
    ----------
    .. [1] developers.google.com/earth-engine/guides/debugging, .../guides/cost_controls

    Examples
    --------
    >>> fault_of_status(429, "Too Many Requests").retry
    True
    >>> fault_of_status(400, "User memory limit exceeded.").split
    True
    >>> str(fault_of_status(400, "Image.select: no band B99."))
    'request: Image.select: no band B99.'
    """
    kind, split = _kind(status, message)
    if SPENT.search(message):
        kind, split, retry_after_s = "quota", False, DAY_S
    return Fault(kind, message, kind in RETRIED, split, retry_after_s)


def _kind(status: int, message: str) -> tuple[str, bool]:
    """The fault's kind, and whether parts may succeed."""
    if status == 429:
        return "quota", False
    if status in (408, 504):
        return "deadline", False
    if status >= 500:
        return "server", False
    if status == 413 or TOO_LARGE.search(message):
        return "memory", True
    if TIMED_OUT.search(message):
        return "deadline", True
    if RATE.search(message):
        return "quota", False
    if status in (401, 403):
        return "permission", False
    if status in (404, 410) or NOT_FOUND.search(message):
        return "missing", False
    return "request", False

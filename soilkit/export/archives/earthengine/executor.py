"""Retries, back-off and quota: ask a service with limits for many things, losing nothing."""

import contextlib
import logging
import queue
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from soilkit.errors import ContractError, DependencyError, SoilkitError

log = logging.getLogger(__name__)

# https://developers.google.com/earth-engine/guides/usage: concurrent interactive requests a project
SERVICE_LIMIT = 40
LONGEST_RETRY_AFTER_S = 600.0
CLOSING_S = 5.0  # how long an interrupted run waits for the calls that are in flight
AHEAD = 1.5  # items held at once, as a multiple of the concurrency: results are megabytes each
RETRIED = frozenset({"quota", "server", "deadline", "network", "damaged"})
KINDS = RETRIED | {"memory", "permission", "missing", "request"}

# What Google's JSON error object calls the request's fault (aip.dev/193): those alone are final. An
# answer of a proxy or a gateway has none; ABORTED, CANCELLED, ALREADY_EXISTS, and whatever stands
# with a status of 429 or 5xx (UNIMPLEMENTED, too), say nothing about the next time.
_FINAL = {
    **dict.fromkeys(("INVALID_ARGUMENT", "FAILED_PRECONDITION", "OUT_OF_RANGE"), "request"),
    **dict.fromkeys(("PERMISSION_DENIED", "UNAUTHENTICATED"), "permission"),
    "NOT_FOUND": "missing",
}
_STATUSES = {429: "quota", 408: "deadline", 504: "deadline"}
# What status and words of such an error say: kind, whether parts may succeed.
_WORDS = (
    ("memory", True, r"^413|memory (limit|capacity)|equal to \d+ bytes|is too large|payload"),
    ("deadline", True, r"timed out|deadline exceeded"),
    ("quota", False, r"too many (requests|concurrent)|quota exceeded|rate ?limit"),
    ("missing", False, r"^400 .*(not found|does not exist)"),
)
# Spent until tomorrow, or until somebody raises it: waiting a minute is no help.
_SPENT = re.compile(r"custom quota|daily_eecu_usage_time", re.IGNORECASE)
DAY_S = 86_400.0


@dataclass(frozen=True)
class Fault:
    """Why one request failed.

    Attributes
    ----------
    kind : one of ``KINDS``
    reason : the service's own words
    split : whether parts of the request may succeed now
    retry_after_s : what the service asked us to wait, s
    """

    kind: str
    reason: str
    split: bool = False
    retry_after_s: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            known = ", ".join(sorted(KINDS))
            raise ContractError(f"A fault is one of {known}; found {self.kind!r}.")

    @property
    def retry(self) -> bool:
        """Whether the same request may succeed later."""
        return self.kind in RETRIED

    @property
    def waits_long(self) -> bool:
        """Whether the service wants to be left alone for longer than a run may wait."""
        return (self.retry_after_s or 0) > LONGEST_RETRY_AFTER_S

    def __str__(self) -> str:
        return f"{self.kind}: {self.reason}"


class ServiceError(SoilkitError):
    """One call of the service failed; ``fault`` says how."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault = fault


def fault_of_status(
    status: int, message: str, *, name: str = "", retry_after_s: float | None = None
) -> Fault:
    """Classify an HTTP status that is no success, with the service's message [1]_.

    ``name`` is the ``status`` of Google's JSON error object, empty for an answer without one.

    References
    ----------
    .. [1] developers.google.com/earth-engine/guides/debugging, .../guides/cost_controls

    Examples
    --------
    >>> fault_of_status(404, "nginx").retry
    True
    >>> fault_of_status(400, "User memory limit exceeded.", name="INVALID_ARGUMENT").split
    True
    >>> str(fault_of_status(400, "Image.select: no band B99.", name="INVALID_ARGUMENT"))
    'request: Image.select: no band B99.'
    """
    if _SPENT.search(message):
        return Fault("quota", message, retry_after_s=DAY_S)
    if name not in _FINAL or status in _STATUSES or status >= 500:
        kind = _STATUSES.get(status, "server")
        return Fault(kind, message, status == 413, retry_after_s)
    for kind, split, words in _WORDS:
        if re.search(words, f"{status} {message}", re.IGNORECASE | re.DOTALL):
            return Fault(kind, message, split, retry_after_s)
    return Fault(_FINAL[name], message, retry_after_s=retry_after_s)


@dataclass(frozen=True)
class Policy:
    """How hard and how long a service is asked.

    Attributes
    ----------
    concurrency : calls in flight at once, over all runs of the process
    attempts : calls made for one item (or part of one) before it counts as failed
    first_wait_s, longest_wait_s : back-off before the second call and at most, s; the wait is
        drawn uniformly from zero to first_wait_s x 2^(failures - 1), on top of Retry-After
    deadline_s : what one call may take to its last byte, s; kept by the job's transport
    service_limit : the largest concurrency that the service grants the project
    """

    concurrency: int = 32
    attempts: int = 8
    first_wait_s: float = 1.0
    longest_wait_s: float = 64.0
    deadline_s: float = 120.0
    service_limit: int = SERVICE_LIMIT

    def __post_init__(self) -> None:
        if not 1 <= self.concurrency <= self.service_limit:
            raise ContractError(
                f"concurrency lies in 1-{self.service_limit}, found {self.concurrency}: Earth "
                f"Engine refuses more than {SERVICE_LIMIT} requests at once. If your project's "
                "limit was raised, say so with service_limit."
            )
        if self.attempts < 1:
            raise ContractError(f"attempts is at least 1, found {self.attempts}.")


class Stopped(Exception):
    """The run was closed while this item waited."""


class RateLimit:
    """Counts the calls in flight of a process, and withholds slots while the service is crowded.

    A quota fault halves the slots, a success gives one back: many faults at once slow everybody
    down to one call at a time, and a good minute undoes it.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.in_flight = 0
        self.withheld = 0

    @contextlib.contextmanager
    def slot(self, concurrency: int, stop: threading.Event) -> Iterator[None]:
        """Hold one of ``concurrency`` slots, waiting for it until ``stop`` is set."""
        with self._changed:
            while not stop.is_set() and self.in_flight >= max(1, concurrency - self.withheld):
                self._changed.wait(0.1)
            self.in_flight += 1
        kind = "unknown"
        try:
            yield
            kind = "success"
        except ServiceError as error:
            kind = error.fault.kind
            raise
        finally:
            with self._changed:
                self.in_flight -= 1
                if kind == "quota":
                    slots = max(1, concurrency - self.withheld)
                    self.withheld = max(self.withheld, concurrency - max(1, slots // 2))
                elif kind == "success":
                    self.withheld = max(0, self.withheld - 1)
                self._changed.notify(2)


RATE_LIMIT = RateLimit()  # of this process: the service counts the project's calls, not a run's


def ask(
    item: Any, job: Any, *, policy: Policy, slot: Callable[[], Any], stop: Any, rng: Any
) -> Any:
    """The result for one item, or the ``Fault`` that ended its attempts.

    An item that is too large is asked for in parts, each with attempts of its own; the first part
    that fails fails the whole. Waits are full jitter [1]_.

    ``slot`` makes the context of one call; ``stop``, the event of a run that was closed, raises
    ``Stopped`` instead of asking or waiting on.

    References
    ----------
    .. [1] Brooker (2015), Exponential Backoff And Jitter, AWS Architecture Blog
    """
    for failures in range(1, policy.attempts + 1):
        try:
            with slot():
                if stop.is_set():
                    raise Stopped
                return job(item)
        except ServiceError as error:
            fault = error.fault
        parts = job.split(item) if fault.split else []
        if len(parts) > 1:
            results = []
            for part in parts:
                results.append(ask(part, job, policy=policy, slot=slot, stop=stop, rng=rng))
                if isinstance(results[-1], Fault):
                    return results[-1]
            return job.merge(item, results)
        if not fault.retry or fault.waits_long:
            return fault
        if failures < policy.attempts:
            ceiling_s = min(policy.longest_wait_s, policy.first_wait_s * 2.0 ** (failures - 1))
            wait_s = (fault.retry_after_s or 0.0) + float(rng.uniform(0.0, ceiling_s))
            log.debug("%s: asked again in %.3f s (failure %d)", fault, wait_s, failures)
            if stop.wait(wait_s):
                raise Stopped
    return replace(fault, reason=f"{fault.reason} ({policy.attempts} attempts)")


def run(
    items: Iterable[Any], job: Any, *, policy: Policy | None = None, client: Any = None, seed=0
) -> Iterator[tuple[Any, Any]]:
    """Yield every item once, with its result or the ``Fault`` that ended it, in any order.

    Items are drawn in the caller's thread as slots come free, never more than ``AHEAD`` times the
    concurrency at once. Closing the iterator, or an exception in its consumer, begins no further
    call.

    Parameters
    ----------
    job : asks for an item once; raises ``ServiceError``. Its ``split(item)`` gives the parts of an
        item that asked for too much (none where it cannot be split), ``merge(item, results)`` puts
        theirs together. Called in several threads, or pickled to workers that have a login.
    client : asks on a Dask cluster: at most ``policy.concurrency`` calls are in flight over all of
        its workers and all runs of that concurrency
    seed : of the back-off's jitter

    Raises
    ------
    ServiceError
        For a refused login and a spent quota: were the fault yielded, an expired token would mark
        a night's items as refused for good. Whatever else a job raises is a bug, and ends the run.
    DependencyError
        For a client without the package ``distributed``.
    """
    policy = policy or Policy()
    pool: _Threads | _Cluster
    pool = _Threads(job, policy, seed) if client is None else _Cluster(job, policy, seed, client)
    waiting, drawn, held = enumerate(items), True, 0
    ahead = max(2, int(AHEAD * policy.concurrency))
    try:
        while drawn or held:
            if drawn and held < ahead:
                numbered = next(waiting, None)
                drawn = numbered is not None
                if numbered is not None:
                    pool.submit(*numbered)
                    held += 1
            if held and (pool.ready() or not drawn or held >= ahead):
                item, answer = pool.take()
                held -= 1
                if isinstance(answer, Fault) and (answer.kind == "permission" or answer.waits_long):
                    raise ServiceError(answer)
                yield item, answer
    finally:
        pool.close()


class _Threads:
    """A daemon thread an item, so that a hung call never keeps the interpreter alive."""

    def __init__(self, job: Any, policy: Policy, seed: int) -> None:
        self._seed, self._stop = seed, threading.Event()
        slot = partial(RATE_LIMIT.slot, policy.concurrency, self._stop)
        self._ask = partial(ask, job=job, policy=policy, slot=slot, stop=self._stop)
        self._done: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def submit(self, number: int, item: Any) -> None:
        name = f"soilkit-request-{number}"
        thread = threading.Thread(target=self._work, name=name, args=(number, item), daemon=True)
        self._threads = [one for one in self._threads if one.is_alive()]
        self._threads.append(thread)
        thread.start()

    def ready(self) -> bool:
        return not self._done.empty()

    def take(self) -> tuple[Any, Any]:
        while True:  # Windows does not interrupt a wait without end by Ctrl-C
            with contextlib.suppress(queue.Empty):
                item, answer = self._done.get(timeout=0.2)
                if isinstance(answer, BaseException):
                    raise answer
                return item, answer

    def close(self) -> None:
        """Begin nothing more, end every wait, and give the calls in flight a moment to end."""
        self._stop.set()
        until = time.monotonic() + CLOSING_S
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _work(self, number: int, item: Any) -> None:
        try:
            answer = self._ask(item, rng=np.random.default_rng([self._seed, number]))
        except BaseException as error:
            answer = error
        self._done.put((item, answer))


class _Cluster:
    """Tasks on Dask workers, with one semaphore around the service's quota."""

    def __init__(self, job: Any, policy: Policy, seed: int, client: Any) -> None:
        try:
            import distributed
        except ImportError as error:
            raise DependencyError(
                "A Dask cluster needs the package distributed, which is not installed: "
                "pip install soilkit[cluster]. Without it, leave client away: threads of this "
                "process then ask."
            ) from error
        self._client, self._task = client, (job, policy, seed)
        self._semaphore = distributed.Semaphore(
            max_leases=policy.concurrency, name=f"soilkit-requests-{policy.concurrency}"
        )
        self._stop = distributed.Event(client=client)
        self._done = distributed.as_completed()
        self._lost = distributed.scheduler.KilledWorker
        self._items: dict[Any, Any] = {}  # by future

    def submit(self, number: int, item: Any) -> None:
        future = self._client.submit(
            _ask_on_worker, number, item, *self._task, self._semaphore, self._stop, pure=False
        )
        self._items[future] = item
        self._done.add(future)

    def ready(self) -> bool:
        return bool(self._done.has_ready())

    def take(self) -> tuple[Any, Any]:
        """An item with its answer; a lost worker is worth another try."""
        future = next(self._done)
        item = self._items.pop(future)
        try:
            return item, future.result()
        except self._lost as error:
            return item, Fault("network", f"a worker of the cluster was lost: {error}")

    def close(self) -> None:
        self._stop.set()
        self._client.cancel(list(self._items))


def _ask_on_worker(
    number: int, item: Any, job: Any, policy: Policy, seed: int, semaphore: Any, stop: Any
) -> Any:
    """One item to its end, or None once the run was closed."""
    rng = np.random.default_rng([seed, number])
    with contextlib.suppress(Stopped):
        return ask(item, job, policy=policy, slot=lambda: semaphore, stop=stop, rng=rng)

"""Ask a service with limits for many things: bounded, patient, losing nothing, on many machines."""

import logging
import queue
import re
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np

from soilkit.errors import ContractError, DependencyError, SoilkitError

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


# How many calls of this process are in flight, and fewer while the service is crowded.


class Stopped(Exception):
    """The run was closed while this item waited."""


class Gate:
    """Counts the calls in flight of a process, and withholds places while the service is crowded.

    A quota fault halves the places, a success gives one back: many faults at once slow everybody
    down to one call at a time, and a good minute undoes it.
    """

    def __init__(self) -> None:
        self._free = threading.Condition()
        self.in_flight = 0
        self.withheld = 0

    @contextmanager
    def place(self, concurrency: int, stop: threading.Event) -> Iterator[None]:
        """Hold one of ``concurrency`` places; raises ``Stopped`` once ``stop`` is set."""
        with self._free:
            while not stop.is_set() and self.in_flight >= max(1, concurrency - self.withheld):
                self._free.wait(1.0)
            if stop.is_set():
                raise Stopped
            self.in_flight += 1
        try:
            yield
        finally:
            with self._free:
                self.in_flight -= 1
                self._free.notify()

    def told(self, kind: str, concurrency: int) -> None:
        """Withhold places after a quota fault, give one back after a success."""
        with self._free:
            if kind == "quota":
                places = max(1, concurrency - self.withheld)
                self.withheld = max(self.withheld, concurrency - max(1, places // 2))
            elif not kind:
                self.withheld = max(0, self.withheld - 1)
                self._free.notify()

    def wake(self) -> None:
        """Let all who wait look at their stop again."""
        with self._free:
            self._free.notify_all()


GATE = Gate()  # of this process: the service counts the project's calls, not a run's


# Ask a service with limits for many things: bounded, patient with it, and losing nothing.

log = logging.getLogger(__name__)

# https://developers.google.com/earth-engine/guides/usage: concurrent interactive requests a project
SERVICE_LIMIT = 40
LONGEST_RETRY_AFTER_S = 600.0
AHEAD = 1.5  # items held at once, as a multiple of the concurrency: results are megabytes each

T = TypeVar("T")
R = TypeVar("R")


class Job(Protocol[T, R]):
    """One request to the service; picklable, so that it can travel to another machine."""

    def __call__(self, item: T) -> R:
        """Ask once; raises ``ServiceError``."""
        ...

    def split(self, item: T) -> list[T]:
        """The parts of an item that asked for too much; empty when it cannot be split."""
        ...

    def merge(self, item: T, parts: list[R]) -> R:
        """The item's result from those of its parts, in the order of ``split``."""
        ...


@dataclass(frozen=True)
class Policy:
    """How hard and how long a service is asked.

    Attributes
    ----------
    concurrency : calls in flight at once, over all runs of the process
    attempts : calls made for one item (or part of one) before it counts as failed
    first_wait_s, longest_wait_s : back-off before the second call and at most, s; the wait is
        drawn uniformly from zero to first_wait_s x 2^(failures - 1), never less than Retry-After
    deadline_s : what one call may take, s; kept by the job's transport
    closing_s : how long an interrupted run waits for the calls that are in flight, s
    service_limit : the largest concurrency that the service grants the project
    """

    concurrency: int = 32
    attempts: int = 8
    first_wait_s: float = 1.0
    longest_wait_s: float = 64.0
    deadline_s: float = 120.0
    closing_s: float = 5.0
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


class Line(Protocol):
    """Where an item waits: for its turn with the service, and between its attempts."""

    def turn(self) -> AbstractContextManager[Any]:
        """Hold one of the places in flight; raises ``Stopped``."""
        ...

    def rest(self, seconds: float) -> None:
        """Wait; raises ``Stopped``."""
        ...

    def told(self, kind: str) -> None:
        """Hear how a call ended: a fault's kind, or nothing."""
        ...


def ask(item: T, job: Job[T, R], *, policy: Policy, line: Line, rng: Any) -> R | Fault:
    """Ask for one item until it is there, is refused for good, or has run out of attempts.

    An item that is too large is asked for in parts, each with attempts of its own; the first part
    that fails fails the whole.
    """
    failures = 0
    while True:
        try:
            with line.turn():
                result = job(item)
        except ServiceError as error:
            fault = error.fault
        else:
            line.told("")
            return result
        line.told(fault.kind)
        failures += 1
        parts = job.split(item) if fault.split else []
        if len(parts) > 1:
            return _ask_parts(item, parts, job, policy=policy, line=line, rng=rng)
        if not fault.retry or (fault.retry_after_s or 0) > LONGEST_RETRY_AFTER_S:
            return fault
        if failures == policy.attempts:
            return replace(fault, reason=f"{fault.reason} ({failures} attempts)")
        wait_s = waiting_s(fault, failures, policy=policy, rng=rng)
        log.debug("%s: asked again in %.3f s (failure %d)", fault, wait_s, failures)
        line.rest(wait_s)


def _ask_parts(
    item: T, parts: list[T], job: Job[T, R], *, policy: Policy, line: Line, rng: Any
) -> R | Fault:
    results: list[R] = []
    for part in parts:
        result = ask(part, job, policy=policy, line=line, rng=rng)
        if isinstance(result, Fault):
            return result
        results.append(result)
    return job.merge(item, results)


def refuse_all(answer: Any) -> None:
    """Raise ``ServiceError`` for a refused login or a spent quota: the next item would fare alike.

    Were it yielded, an expired token would mark a night's chips as refused for good, and each of
    the rest would be asked for in vain.
    """
    if not isinstance(answer, Fault):
        return
    if answer.kind == "permission" or (answer.retry_after_s or 0) > LONGEST_RETRY_AFTER_S:
        raise ServiceError(answer)


def waiting_s(fault: Fault, failures: int, *, policy: Policy, rng: Any) -> float:
    """Back-off with full jitter [1]_, on top of what the service asked for, s.

    References
    ----------
    .. [1] Brooker (2015), Exponential Backoff And Jitter, AWS Architecture Blog
    """
    ceiling_s = min(policy.longest_wait_s, policy.first_wait_s * 2.0 ** (failures - 1))
    return (fault.retry_after_s or 0.0) + float(rng.uniform(0.0, ceiling_s))


class _ThreadLine:
    """A thread's ``Line``: places of the process's gate, rests that a closing run cuts short."""

    def __init__(self, policy: Policy, stop: threading.Event) -> None:
        self._policy, self._stop = policy, stop

    def turn(self) -> AbstractContextManager[Any]:
        return GATE.place(self._policy.concurrency, self._stop)

    def rest(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise Stopped

    def told(self, kind: str) -> None:
        GATE.told(kind, self._policy.concurrency)


class _Crew:
    """The threads of one run: daemons, so that a hung call never keeps the interpreter alive."""

    def __init__(self, job: Job[Any, Any], policy: Policy, seed: int) -> None:
        self._job, self._policy, self._seed = job, policy, seed
        self._stop = threading.Event()
        self._bug: BaseException | None = None
        self._todo: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def give(self, number: int, item: Any) -> None:
        """Hand out one item, to a new thread while there may be more."""
        self._todo.put((number, item))
        if len(self._threads) < self._policy.concurrency:
            name = f"soilkit-request-{len(self._threads)}"
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def take(self, *, wait: bool) -> tuple[Any, Any] | None:
        """A finished item with its answer, if there is one; raises what was no service's fault."""
        while True:
            try:
                # Windows does not interrupt a wait without end by Ctrl-C.
                found = self._done.get(wait, timeout=0.2)
            except queue.Empty:
                found = None
            if self._bug is not None:
                raise self._bug
            if found is not None or not wait:
                return found

    def close(self) -> None:
        """Begin nothing more, end every wait, and give the calls in flight a moment to end."""
        self._stop.set()
        GATE.wake()
        for _ in self._threads:
            self._todo.put(None)
        until = time.monotonic() + self._policy.closing_s
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _work(self) -> None:
        line = _ThreadLine(self._policy, self._stop)
        while (task := self._todo.get()) is not None and not self._stop.is_set():
            number, item = task
            rng = np.random.default_rng([self._seed, number])
            try:
                answer = ask(item, self._job, policy=self._policy, line=line, rng=rng)
                refuse_all(answer)
            except Stopped:
                return
            except BaseException as bug:
                self._bug = bug
                self._stop.set()
                self._done.put(None)
                return
            self._done.put((item, answer))


def run(
    items: Iterable[T], job: Job[T, R], *, policy: Policy | None = None, seed: int = 0
) -> Iterator[tuple[T, R | Fault]]:
    """Yield every item once, with its result or the fault that ended it, in any order.

    Items are drawn as places come free, never more than ``AHEAD`` times the concurrency at once.
    Closing the iterator, or an exception in its consumer, begins no further call.

    Parameters
    ----------
    items : iterable, drawn in the caller's thread
    job : Job
        Called in several threads at once.
    policy : Policy, optional
    seed : int
        Of the back-off's jitter.

    Yields
    ------
    item, result or Fault

    Raises
    ------
    ServiceError
        For a fault of kind "permission" (an expired token, a project without the API), and where
        the service wants to be left alone for longer than ``LONGEST_RETRY_AFTER_S`` (a spent
        quota).
    Exception
        Whatever else the job raises: a bug. Both end the run.
    """
    policy = policy or Policy()
    crew, ahead = _Crew(job, policy, seed), max(2, int(AHEAD * policy.concurrency))
    source, drawn, held = enumerate(items), True, 0
    try:
        while drawn or held:
            if drawn and held < ahead:
                task = next(source, None)
                drawn = task is not None
                if task is not None:
                    crew.give(*task)
                    held += 1
            if held and (found := crew.take(wait=not drawn or held >= ahead)) is not None:
                held -= 1
                yield found
    finally:
        crew.close()


# The same requests on many machines: Dask workers, one semaphore around the service's quota.


def run_on_dask(
    items: Iterable[T],
    job: Job[T, R],
    *,
    client: Any,
    policy: Policy | None = None,
    seed: int = 0,
) -> Iterator[tuple[T, R | Fault]]:
    """Yield every item once, with its result or the fault that ended it, in any order.

    As ``work.run``, on a Dask cluster: splits, attempts and back-off happen on the workers, and at
    most ``policy.concurrency`` calls are in flight over all of them and over all runs of that
    concurrency. A service that is crowded slows each item down, not the whole cluster.

    Parameters
    ----------
    items : iterable, drawn in the caller's thread
    job : Job
        Pickled; each worker needs its login.
    client : distributed.Client
    policy : Policy, optional
    seed : int
        Of the back-off's jitter.

    Raises
    ------
    DependencyError
        When ``distributed`` is not installed.
    ServiceError
        For a refused login, which ends the run.
    """
    try:
        import distributed
    except ImportError as error:
        raise DependencyError(
            "A Dask cluster needs the package distributed, which is not installed: "
            "pip install soilkit[cluster]. Without it, leave client away: threads of this "
            "process then ask."
        ) from error
    return _results(distributed, enumerate(items), (job, policy or Policy(), seed), client=client)


def _results(
    distributed: Any, source: Iterator[tuple[int, Any]], task: tuple[Any, ...], *, client: Any
) -> Iterator[tuple[Any, Any]]:
    policy, drawn = task[1], True
    held: dict[Any, Any] = {}  # item by future
    ahead = max(2, int(AHEAD * policy.concurrency))
    places = distributed.Semaphore(
        max_leases=policy.concurrency, name=f"soilkit-requests-{policy.concurrency}"
    )
    stop = distributed.Event(client=client)
    done = distributed.as_completed()
    try:
        while drawn or held:
            if drawn and len(held) < ahead:
                numbered = next(source, None)
                drawn = numbered is not None
                if numbered is not None:
                    future = client.submit(_ask_there, numbered, task, (places, stop), pure=False)
                    held[future] = numbered[1]
                    done.add(future)
            if held and (done.has_ready() or not drawn or len(held) >= ahead):
                future = next(done)
                answer = _answer(distributed, future)
                yield held.pop(future), answer
    finally:
        stop.set()
        client.cancel(list(held))


def _answer(distributed: Any, future: Any) -> Any:
    """A future's answer; a lost worker is worth another try, any other exception is a bug."""
    try:
        answer = future.result()
    except distributed.scheduler.KilledWorker as error:
        return Fault("network", f"a worker of the cluster was lost: {error}", retry=True)
    refuse_all(answer)
    return answer


def _ask_there(numbered: tuple[int, Any], task: tuple[Any, ...], lines: tuple[Any, Any]) -> Any:
    """On a worker: one item to its end, or None once the run was closed."""
    number, item = numbered
    job, policy, seed = task
    rng = np.random.default_rng([seed, number])
    try:
        return ask(item, job, policy=policy, line=_ClusterLine(*lines), rng=rng)
    except Stopped:
        return None


class _ClusterLine:
    """A worker's ``Line``: the cluster's semaphore, and rests that a closed run cuts short."""

    def __init__(self, places: Any, stop: Any) -> None:
        self._places, self._stop = places, stop

    @contextmanager
    def turn(self) -> Iterator[None]:
        with self._places:
            if self._stop.is_set():
                raise Stopped
            yield

    def rest(self, seconds: float) -> None:
        if self._stop.wait(timeout=seconds):
            raise Stopped

    def told(self, kind: str) -> None:
        """Each item backs off for itself."""

"""The same requests on many machines: Dask workers, one semaphore around the service's quota."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from soilkit.archives.earthengine.faults import Fault
from soilkit.archives.earthengine.gate import Stopped
from soilkit.archives.earthengine.work import AHEAD, Job, Policy, ask, refuse_all
from soilkit.errors import DependencyError

T = TypeVar("T")
R = TypeVar("R")


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

"""How many calls of this process are in flight, and fewer while the service is crowded."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


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

"""Which readings stay: the anchor's choice first, then one look-up a source for the survivors."""

from dataclasses import dataclass

import numpy as np

from soilkit.join.readings import Readings, check_order
from soilkit.join.ticks import NEVER
from soilkit.join.timelines import Timeline


@dataclass(frozen=True)
class Chosen:
    """Readings that stay, in slices of one sensor each: ``starts[i]`` to ``starts[i + 1]``.

    ``rows`` (sample,) are rows of the observations, ``ticks`` (sample,) their times, ``stations``
    (slice,) positions of stations, ``found`` positions (sample,) in each source's timeline.
    """

    rows: np.ndarray
    ticks: np.ndarray
    starts: np.ndarray
    stations: np.ndarray
    found: dict[str, np.ndarray]

    @property
    def counts(self) -> np.ndarray:
        """Readings that stay in each slice, shape (slice,)."""
        return np.diff(self.starts)


def choose_anchor(
    readings: Readings, line: Timeline, *, source: str, bound: int, tick_ns: int
) -> tuple[Chosen, np.ndarray]:
    """The closest reading of every sensor and anchor scene, found from the scenes' side.

    Scene i is the nearest past one for the times in [t_i, min(t_i + bound, t_i+1)); the first
    reading in that window is its closest. Returns these and, per slice, how many readings lie in
    any window. Raises ``OutOfOrder`` where a slice is not sorted.
    """
    edges = _windows(line, bound=bound, ticks_per_step=readings.step_ns // tick_ns)
    rows, scenes = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    kept, in_bound = np.zeros((2, len(readings.stations)), dtype=np.int64)
    for i, station in enumerate(readings.stations.tolist()):
        start, stop = readings.starts[i], readings.starts[i + 1]
        low, high = line.first[station], line.first[station + 1]
        steps = readings.steps[start:stop]  # int64 searched for int64: equal dtypes, no copy
        check_order(steps)
        first, after = steps.searchsorted(edges[low:high].ravel()).reshape(-1, 2).T
        hit = np.flatnonzero(after > first)
        rows.append(start + first[hit])
        scenes.append(low + hit)
        kept[i], in_bound[i] = len(hit), (after - first).sum()
    chosen_rows = np.concatenate(rows)
    ticks = readings.steps[chosen_rows] * (readings.step_ns // tick_ns)
    starts = np.append(0, np.cumsum(kept))
    found = {source: np.concatenate(scenes)}
    return Chosen(chosen_rows, ticks, starts, readings.stations, found), in_bound


def _windows(line: Timeline, *, bound: int, ticks_per_step: int) -> np.ndarray:
    """When each scene's window opens and closes, shape (scene, 2), in the readings' own unit.

    A reading in whole steps is at or after a tick exactly if it is at or after the next whole step,
    so both edges round up and nothing is lost to a coarser unit.
    """
    following = np.append(line.times[1:], NEVER)
    occupied = np.diff(line.first) > 0
    following[line.first[1:][occupied] - 1] = NEVER
    room = np.minimum(line.times, NEVER - bound)
    closes = np.minimum(room + bound, following)
    return -(-np.stack((line.times, closes), axis=1) // ticks_per_step)  # (scene, edge), sorted


def look_up(chosen: Chosen, line: Timeline, *, source: str, bound: int) -> Chosen:
    """The readings of ``chosen`` that have a scene of another source, with its position."""
    position = line.latest(
        chosen.ticks, stations=chosen.stations, starts=chosen.starts, bound=bound
    )
    stays = position >= 0
    before = np.append(0, np.cumsum(stays))
    found = {**chosen.found, source: position}
    return Chosen(
        rows=chosen.rows[stays],
        ticks=chosen.ticks[stays],
        starts=before[chosen.starts],
        stations=chosen.stations,
        found={name: values[stays] for name, values in found.items()},
    )

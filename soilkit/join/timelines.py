"""The scenes' side of the join: one timeline a source, sorted by station and time, ties settled."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from soilkit import contracts
from soilkit.errors import ContractError, UnknownNameError
from soilkit.join.ticks import MISSING, as_categorical, to_ticks

# The key is checked below, where the repeated ids are named.
SCENES = replace(
    contracts.SCENES,
    columns=tuple(c for c in contracts.SCENES.columns if c.name != "orbit"),
    key=(),
)

Rows = np.ndarray | slice


@dataclass(frozen=True)
class SceneTable:
    """A scenes table as codes and ticks, one entry a row.

    ``stations`` are positions in the join's station ids (-1: none of them); ``times`` the ticks
    that ages run from, ``MISSING`` for static scenes; ``names`` the words of ``sources`` codes.
    """

    sources: np.ndarray
    scenes: np.ndarray
    stations: np.ndarray
    times: np.ndarray
    cloud_fraction: np.ndarray
    valid_fraction: np.ndarray
    names: pd.Index
    scene_ids: pd.Index
    station_ids: pd.Index


@dataclass(frozen=True)
class Timeline:
    """The scenes of one source: those of station i are ``first[i]`` to ``first[i + 1]``.

    ``times`` (scene,) are ticks, strictly increasing within a station; ``scenes`` (scene,) are
    codes of scene ids. A static source holds at most one scene a station.
    """

    times: np.ndarray
    scenes: np.ndarray
    first: np.ndarray
    is_static: bool

    def latest(
        self, ticks: np.ndarray, *, stations: np.ndarray, starts: np.ndarray, bound: int
    ) -> np.ndarray:
        """Position of the nearest past scene younger than ``bound`` ticks, -1 for none.

        ``ticks`` (reading,) come in slices ``starts`` (slice + 1,) of one station each.
        """
        found = np.full(len(ticks), -1, dtype=np.int64)
        for i, station in enumerate(stations.tolist()):
            here = slice(starts[i], starts[i + 1])
            low, high = self.first[station], self.first[station + 1]
            if self.is_static:
                found[here] = low if high > low else -1
            elif high > low:
                past = np.searchsorted(self.times[low:high], ticks[here], side="right") - 1
                young = (past >= 0) & (ticks[here] - self.times[low + past] < bound)
                found[here] = np.where(young, low + past, -1)
        return found


def index_scenes(
    scenes: pd.DataFrame, *, station_ids: pd.Index, causal: str, tick_ns: int
) -> SceneTable:
    """A table of kind SCENES checked further and turned into codes and ticks.

    Raises
    ------
    ContractError
        An id repeats or is missing, or a scene ends before it starts.
    """
    source, scene, place = (
        as_categorical(scenes[name]) for name in ("source", "scene_id", "station_id")
    )
    _check_keys(scenes, tuple(c.codes for c in (source, place, scene)))
    start, end = (to_ticks(scenes[name].to_numpy(), tick_ns) for name in ("start", "end"))
    wrong = (start > end) | ((start == MISSING) != (end == MISSING))
    if wrong.any():
        raise ContractError(
            f"{int(wrong.sum())} scenes end before they start or have one of the two times only, "
            f"for instance {scenes['scene_id'].iloc[int(wrong.argmax())]}. A static layer has "
            "neither time, an instantaneous scene has equal ones."
        )
    positions = station_ids.get_indexer(place.categories.astype(str)).astype(np.int32)
    return SceneTable(
        sources=source.codes,
        scenes=scene.codes,
        stations=positions[place.codes],
        times=end if causal == "end" else start,
        cloud_fraction=scenes["cloud_fraction"].to_numpy(),
        valid_fraction=scenes["valid_fraction"].to_numpy(),
        names=source.categories,
        scene_ids=scene.categories,
        station_ids=station_ids,
    )


def _check_keys(scenes: pd.DataFrame, codes: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    if any((code < 0).any() for code in codes):
        raise ContractError("The scenes table has rows without a source, scene_id or station_id.")
    key = np.zeros(len(scenes), dtype=np.int64)
    for code in codes:
        key *= int(code.max(initial=0)) + 1
        key += code
    ordered = np.sort(key)  # a hash table of 26 million keys would take a gigabyte
    if (ordered[1:] != ordered[:-1]).all():
        return
    repeated = scenes[pd.Series(key).duplicated().to_numpy()]
    named = [f"{r.source} {r.scene_id} at {r.station_id}" for r in repeated.head(3).itertuples()]
    raise ContractError(
        f"The scenes table repeats {len(repeated)} of its keys (source, scene_id, station_id): "
        f"{'; '.join(named)}{'; ...' if len(repeated) > 3 else ''}. Remove the duplicates."
    )


def timeline(
    table: SceneTable, source: str, *, n_stations: int, max_cloud_fraction: float | None
) -> Timeline:
    """The scenes of one source that a reading may choose, at most one for a station and time.

    Of equal times the higher ``valid_fraction`` stays (unknown last), then the smaller
    ``scene_id``. With ``max_cloud_fraction`` only scenes known to lie below it stay.
    """
    mine = table.sources == table.names.get_loc(source)
    undated = mine & (table.times == MISSING)
    if undated.any() and not (undated == mine).all():
        raise ContractError(
            f"{int(undated.sum())} of {int(mine.sum())} {source!r} scenes have no time: a source "
            "is either static (no scene has a time) or dated (all have). Fill in or remove these "
            "rows."
        )
    usable = mine & (table.stations >= 0)
    if max_cloud_fraction is not None:
        usable &= table.cloud_fraction < max_cloud_fraction  # unknown, NaN, compares as false
    rows = _settle(table, _sort(table, _rows(usable)))
    first = np.searchsorted(table.stations[rows], np.arange(n_stations + 1))
    return Timeline(
        times=table.times[rows],
        scenes=table.scenes[rows],
        first=first,
        is_static=bool(undated.any()),
    )


def _rows(usable: np.ndarray) -> Rows:
    """Which rows are usable: a slice where they follow each other, so that nothing is copied."""
    first, n = int(usable.argmax()) if len(usable) else 0, int(usable.sum())
    if usable[first : first + n].all():
        return slice(first, first + n)
    return np.flatnonzero(usable)


def _listed(rows: Rows) -> np.ndarray:
    return np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows


def _sort(table: SceneTable, rows: Rows) -> Rows:
    """Rows by station and time; most archives list them so already."""
    times, stations = table.times[rows], table.stations[rows]
    onward = (stations[1:] == stations[:-1]) & (times[1:] >= times[:-1])
    if (onward | (stations[1:] > stations[:-1])).all():
        return rows
    return _listed(rows)[np.lexsort((times, stations))]


def _settle(table: SceneTable, rows: Rows) -> Rows:
    """Of rows sorted by station and time, the best one of each station and time."""
    times, stations = table.times[rows], table.stations[rows]
    repeats = np.zeros(len(times), dtype=bool)
    repeats[1:] = (times[1:] == times[:-1]) & (stations[1:] == stations[:-1])
    if not repeats.any():
        return rows
    rows = _listed(rows).copy()
    tied = repeats | np.append(repeats[1:], False)
    rivals = rows[tied]
    rank = pd.factorize(table.scene_ids.take(table.scenes[rivals]).astype(str), sort=True)[0]
    invalid = np.where(
        np.isnan(table.valid_fraction[rivals]), np.inf, -table.valid_fraction[rivals]
    )
    rows[tied] = rivals[np.lexsort((rank, invalid, times[tied], stations[tied]))]
    return rows[~repeats]


def check_sources(table: SceneTable, wanted: Iterable[str]) -> None:
    """Raise ``UnknownNameError`` for a source without rows that is no category either."""
    for source in wanted:
        if source not in table.names:
            raise UnknownNameError(
                f"The scenes table has no {source!r} scene; it has "
                f"{', '.join(map(str, table.names)) or 'no rows at all'}. Index that source, or "
                "leave it out of the bounds."
            )

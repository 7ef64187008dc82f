"""The anchored join: which past scene of every source goes with which in-situ reading."""

import contextlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import pandas as pd

from soilkit import contracts
from soilkit.errors import BoundError, ContractError, UnitError, UnknownNameError

NS_PER = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
MISSING = np.iinfo(np.int64).min  # how numpy stores NaT
NEVER = np.iinfo(np.int64).max
WORDS = (("d", 86_400 * 10**9), ("h", 3600 * 10**9), ("min", 60 * 10**9))


def unit_ns(times: np.ndarray) -> int:
    """The nanoseconds in one unit of a datetime64 array."""
    return NS_PER[np.datetime_data(times.dtype)[0]]


def to_ticks(times: np.ndarray, tick_ns: int) -> np.ndarray:
    """datetime64 as int64 ticks of ``tick_ns`` (1 or 1000) nanoseconds; NaT becomes ``MISSING``."""
    unit = "datetime64[ns]" if tick_ns == 1 else "datetime64[us]"
    return times.astype(unit, copy=False).view(np.int64)


def as_categorical(column: pd.Series) -> pd.Categorical:
    """A column of strings as codes and categories; a categorical one costs no pass and no copy."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return cast(pd.Categorical, column.array)
    return pd.Categorical(column)


def bound_ns(source: str, bound: Any) -> int:
    """A bound in nanoseconds; ``BoundError`` unless it is a positive length of time."""
    if isinstance(bound, str | timedelta) and not pd.isna(bound):
        with contextlib.suppress(ValueError):  # text that is no length stays what it is
            bound = pd.Timedelta(bound).asm8
    unit = np.datetime_data(bound.dtype)[0] if isinstance(bound, np.timedelta64) else "generic"
    if unit == "generic" or pd.isna(bound):
        raise BoundError(
            f"The bound of {source!r} should be a length of time, found {bound!r}. "
            "Give a pandas.Timedelta, for instance pandas.Timedelta('1h')."
        )
    fine = "ns" if unit in ("ns", "ps", "fs", "as") else "us"
    length = int(bound.astype(f"timedelta64[{fine}]").astype(np.int64)) * NS_PER[fine]
    if length <= 0:
        raise BoundError(
            f"The bound of {source!r} should be longer than zero, found {bound}: ages run over "
            "[0, bound), so no scene could pass. Give a positive pandas.Timedelta."
        )
    return length


def in_words(length_ns: int) -> str:
    """A length of time in its largest whole unit.

    Examples
    --------
    >>> in_words(3600 * 10**9), in_words(14 * 86_400 * 10**9), in_words(90 * 60 * 10**9)
    ('1 h', '14 d', '90 min')
    """
    for word, size in (*WORDS, *NS_PER.items()):
        if length_ns % size == 0:
            return f"{length_ns // size} {word}"
    raise AssertionError(f"{length_ns} ns is no whole number of nanoseconds")


# The readings' side of the join: one sorted slice of times a sensor, without a copy.

logger = logging.getLogger(__name__)

NEEDED = ("sensor_id", "time", "soil_moisture_m3_m3")
# The key is checked along with the order below: pandas' own check would copy the table.
OBSERVATIONS = replace(
    contracts.OBSERVATIONS,
    columns=tuple(c for c in contracts.OBSERVATIONS.columns if c.name in NEEDED),
    key=(),
)
STATIONS = replace(
    contracts.STATIONS,
    columns=tuple(c for c in contracts.STATIONS.columns if c.name in ("sensor_id", "station_id")),
)
CHUNK_ROWS = 1 << 18


class OutOfOrder(Exception):
    """A slice of readings is not sorted by time; never leaves the join."""


@dataclass(frozen=True)
class Readings:
    """Observations as slices, one a sensor: rows ``starts[i]`` to ``starts[i + 1]``.

    ``steps`` (reading,) are the times as int64 in their own unit of ``step_ns`` nanoseconds, a
    view where the table allows; ``sensors`` and ``stations`` (slice,) index ``sensor_ids`` and
    the join's station ids.
    """

    table: pd.DataFrame
    steps: np.ndarray
    step_ns: int
    starts: np.ndarray
    sensors: np.ndarray
    stations: np.ndarray
    sensor_ids: pd.Index

    @property
    def counts(self) -> np.ndarray:
        """Readings in each slice, shape (slice,)."""
        return np.diff(self.starts)


def slice_readings(
    observations: pd.DataFrame, stations: pd.DataFrame, *, station_ids: pd.Index
) -> Readings:
    """Observations cut into slices of one sensor; scattered ones are sorted, which costs a copy.

    The order within a slice is checked by ``check_order`` where the slice is searched: reading it
    just before the search leaves it in the processor's cache, and the search is then almost free.

    Raises
    ------
    ContractError
        A column is missing or of another kind, a sensor or time is missing, or a sensor holds two
        readings of one time.
    UnknownNameError
        A sensor that the stations table does not have.
    """
    contracts.check(observations, OBSERVATIONS)
    codes, steps, starts = _columns(observations)
    if len(np.unique(codes[starts[:-1]])) < len(starts) - 1:
        observations = sort_readings(observations)
        codes, steps, starts = _columns(observations)
    sensor_ids = as_categorical(observations["sensor_id"]).categories
    sensors = codes[starts[:-1]]
    if (sensors < 0).any() or (steps[starts[:-1]] == MISSING).any():
        raise _missing()
    return Readings(
        table=observations,
        steps=steps,
        step_ns=unit_ns(observations["time"].to_numpy()[:0]),
        starts=starts,
        sensors=sensors,
        stations=_stations_of(sensor_ids.take(sensors), stations, station_ids=station_ids),
        sensor_ids=sensor_ids,
    )


def _columns(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    codes = as_categorical(table["sensor_id"]).codes
    return codes, table["time"].to_numpy().view(np.int64), _starts(codes)


def _starts(codes: np.ndarray) -> np.ndarray:
    """Where runs of one code begin, and the length at the end."""
    cuts = [np.zeros(min(1, len(codes)), dtype=np.int64)]
    for low in range(1, len(codes), CHUNK_ROWS):
        high = min(low + CHUNK_ROWS, len(codes))
        cuts.append(low + np.flatnonzero(codes[low:high] != codes[low - 1 : high - 1]))
    return np.append(np.concatenate(cuts), len(codes))


def check_order(steps: np.ndarray) -> None:
    """Raise ``OutOfOrder`` unless the times of one slice increase strictly."""
    for low in range(1, len(steps), CHUNK_ROWS):
        high = min(low + CHUNK_ROWS, len(steps))
        if not (steps[low:high] > steps[low - 1 : high - 1]).all():
            raise OutOfOrder


def sort_readings(observations: pd.DataFrame) -> pd.DataFrame:
    """A copy sorted by sensor and time; ``ContractError`` where a key is missing or repeats."""
    logger.info("observations are not sorted by sensor and time: sorting a copy")
    if bool(observations[["sensor_id", "time"]].isna().any(axis=None)):
        raise _missing()
    ordered = observations.sort_values(["sensor_id", "time"], ignore_index=True)
    repeated = ordered.duplicated(["sensor_id", "time"])
    if bool(repeated.any()):
        first = ordered[repeated].iloc[0]
        raise ContractError(
            f"The observations table repeats {int(repeated.sum())} of its keys, the first at "
            f"{first.sensor_id}, {first.time}: which of two readings of one time is meant cannot "
            "be told. Drop the duplicates."
        )
    return ordered


def _missing() -> ContractError:
    return ContractError(
        "The observations table has rows without a sensor_id or a time. Drop these rows first."
    )


def _stations_of(sensors: pd.Index, stations: pd.DataFrame, *, station_ids: pd.Index) -> np.ndarray:
    """The position in ``station_ids`` of each sensor's station, shape (sensor,)."""
    rows = pd.Index(stations["sensor_id"].astype(str)).get_indexer(sensors.astype(str))
    unknown = sensors[rows < 0].astype(str)
    if len(unknown):
        raise UnknownNameError(
            f"The stations table lacks {len(unknown)} sensors of the observations, for instance "
            f"{', '.join(unknown[:3])}. Add their rows, or leave these readings out."
        )
    return station_ids.get_indexer(stations["station_id"].astype(str))[rows]


# The scenes' side of the join: one timeline a source, sorted by station and time, ties settled.

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


# Which readings stay: the anchor's choice first, then one look-up a source for the survivors.


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


# The join's two products as tables: samples, and drops counted by sensor and reason.

HOUR_NS = 3600 * 10**9


class DropCounts:
    """Collects how many readings of each slice were dropped, and why."""

    def __init__(self, readings: Readings) -> None:
        self._readings = readings
        self._parts: list[tuple[str, str, np.ndarray]] = []

    def add(self, source: str, reason: str, *, counts: np.ndarray) -> None:
        """Note the ``counts`` (slice,) of readings dropped for one reason."""
        self._parts.append((source, reason, counts))

    def table(self) -> pd.DataFrame:
        """Table DROPS: one row a sensor and reason with a count above zero, by sensor."""
        counts = np.stack([part[2] for part in self._parts], axis=1)  # (slice, reason)
        where, which = np.nonzero(counts)
        sources = pd.Index(dict.fromkeys(part[0] for part in self._parts))
        reasons = pd.Index([part[1] for part in self._parts])
        source_of = sources.get_indexer([part[0] for part in self._parts])
        sensors, ids = self._readings.sensors[where], self._readings.sensor_ids
        return pd.DataFrame(
            {
                "sensor_id": pd.Categorical.from_codes(sensors, ids),
                "source": pd.Categorical.from_codes(source_of[which], sources),
                "reason": pd.Categorical.from_codes(which, reasons),
                "count": counts[where, which],
            }
        )


def make_samples(
    readings: Readings,
    chosen: Chosen,
    *,
    table: SceneTable,
    lines: dict[str, Timeline],
    tick_ns: int,
) -> pd.DataFrame:
    """Table SAMPLES with the scene and age of each source of ``lines``, in the readings' order."""
    observed = readings.table
    time = observed["time"].to_numpy()[chosen.rows].astype("datetime64[us]")
    sensors = np.repeat(readings.sensors, chosen.counts)
    stations = np.repeat(readings.stations, chosen.counts)
    moisture = observed["soil_moisture_m3_m3"].to_numpy()[chosen.rows]
    columns = {
        "sample_id": _sample_ids(sensors, time, ids=readings.sensor_ids),
        "sensor_id": pd.Categorical.from_codes(sensors, readings.sensor_ids),
        "station_id": pd.Categorical.from_codes(stations, table.station_ids),
        "time": time,
        "soil_moisture_m3_m3": moisture,
    }
    for source, line in lines.items():
        position = chosen.found[source]
        columns[f"{source}_scene"] = _scene_column(line.scenes[position], table.scene_ids)
        age = (chosen.ticks - line.times[position]) * (tick_ns / HOUR_NS)
        columns[f"{source}_age_hours"] = np.full(len(age), np.nan) if line.is_static else age
    return pd.DataFrame(columns)


def _scene_column(codes: np.ndarray, scene_ids: pd.Index) -> pd.Categorical:
    """Scene ids as categories of their own: a source's column does not list another's scenes."""
    used = np.zeros(len(scene_ids), dtype=bool)
    used[codes] = True
    if used.all():
        return pd.Categorical.from_codes(codes, scene_ids)
    renumbered = np.cumsum(used, dtype=np.int32) - 1
    return pd.Categorical.from_codes(renumbered[codes], scene_ids[used])


def _sample_ids(sensors: np.ndarray, time: np.ndarray, *, ids: pd.Index) -> pd.Series:
    """``<sensor_id>@<time>``, the time compact as 20200601T130000, with decimals if it has any."""
    which, instants = pd.factorize(time)
    whole = instants.astype("datetime64[s]")
    rest_us = (instants - whole).astype("timedelta64[us]").astype(np.int64)
    words = pd.Series(np.datetime_as_string(whole, unit="s").astype(object), dtype="str")
    words = "@" + words.str.replace("-", "").str.replace(":", "")
    if rest_us.any():
        decimals = [f".{micro:06d}" if micro else "" for micro in rest_us.tolist()]
        words = words + pd.Series(decimals, dtype="str")
    names = pd.Series(ids.astype(str), dtype="str").take(sensors).reset_index(drop=True)
    return names + words.take(which).reset_index(drop=True)


# The anchored join: which past scene of every source goes with which in-situ reading.

NOT_CLOSEST = "another reading is closer to the scene"


class JoinResult(NamedTuple):
    """The samples of a join and the readings that it dropped, counted by sensor and reason."""

    samples: pd.DataFrame
    drops: pd.DataFrame

    @property
    def manifest(self) -> dict[str, Any]:
        """The rules of this join, in plain words; kept in ``samples.attrs["join"]``."""
        return self.samples.attrs["join"]


@dataclass(frozen=True)
class _Rules:
    """The arguments of a join, checked: bounds in ns by source, cloud limits by source."""

    anchor: str
    causal: str
    bounds_ns: dict[str, int]
    max_cloud_fraction: dict[str, float]

    def reason(self, source: str) -> str:
        limit = self.max_cloud_fraction.get(source)
        clouds = "" if limit is None else f" with cloud fraction below {limit:g}"
        return f"{source}: none within {in_words(self.bounds_ns[source])}{clouds}"

    def manifest(self) -> dict[str, Any]:
        return {
            "anchor": self.anchor,
            "causal": self.causal,
            "reads_the_future": self.causal == "start",
            "bounds": {name: in_words(length) for name, length in self.bounds_ns.items()},
            "max_cloud_fraction": dict(self.max_cloud_fraction),
        }


def anchored_join(
    observations: pd.DataFrame,
    scenes: pd.DataFrame,
    stations: pd.DataFrame,
    *,
    bounds: Mapping[str, Any],
    anchor: str = "sentinel1",
    causal: Literal["end", "start"] = "end",
    max_cloud_fraction: Mapping[str, float] | None = None,
) -> JoinResult:
    """Match every reading with the nearest past scene of each source, the anchor's first [1]_.

    Every reading chooses its nearest anchor scene of age in [0, bound); of a sensor's readings that
    chose one scene only the closest in time stays. The other sources of ``bounds`` are then looked
    up, in their order, for the readings that stayed; a reading lost there is not replaced. Scenes
    of equal age: the higher ``valid_fraction`` wins (unknown last), then the smaller ``scene_id``.
    A source whose scenes have no time is static and matched by station, whatever its bound.

    Parameters
    ----------
    observations : table OBSERVATIONS
        Best sorted by sensor and time: others are sorted first, which costs a copy.
    scenes : table SCENES
        Rows of other sources and of other stations are left alone.
    stations : table STATIONS
    bounds : {source: pandas.Timedelta}
        The sources to match and the age that their scenes stay below.
    anchor : str
        A dated source of ``bounds``.
    causal : "end" or "start"
        The end of the scene that ages run from. "start" reads a composite before it is complete,
        that is, the future; it is offered for comparison with the paper and marks the manifest.
    max_cloud_fraction : {source: float}, 1
        Scenes of the source must be known to lie below it.

    Returns
    -------
    JoinResult
        ``samples`` (table SAMPLES with ``<source>_scene`` and ``<source>_age_hours`` [h], NaN for
        static sources, in the order of the readings) and ``drops`` (table DROPS). Rows in are the
        samples plus the sum of ``drops["count"]``.

    Raises
    ------
    BoundError
        A bound that is zero, negative or no length of time.
    ContractError
        A table differs from its contract, repeats a key, or the anchor is static.
    UnitError
        A cloud fraction outside 0-1.
    UnknownNameError
        An anchor or cloud limit without a bound, a source without scenes, a sensor without a
        station, a ``causal`` that is neither "end" nor "start".

    References
    ----------
    .. [1] Batchu et al. (2022), arXiv:2206.09649, section 2b, Tables 5 and 20
    """
    rules = _check_rules(bounds, anchor, causal=causal, max_cloud=max_cloud_fraction or {})
    contracts.check(stations, STATIONS)
    station_ids = pd.Index(stations["station_id"].astype(str).unique())
    contracts.check(scenes, SCENES)
    readings = slice_readings(observations, stations, station_ids=station_ids)
    tick_ns = _tick_ns(observations, scenes)
    table = index_scenes(scenes, station_ids=station_ids, causal=causal, tick_ns=tick_ns)
    check_sources(table, rules.bounds_ns)
    try:
        return _join(readings, table, rules, n_stations=len(station_ids), tick_ns=tick_ns)
    except OutOfOrder:
        ordered = sort_readings(observations)
    readings = slice_readings(ordered, stations, station_ids=station_ids)
    return _join(readings, table, rules, n_stations=len(station_ids), tick_ns=tick_ns)


def _join(
    readings: Readings, table: SceneTable, rules: _Rules, *, n_stations: int, tick_ns: int
) -> JoinResult:
    drops = DropCounts(readings)
    lines = {rules.anchor: _line(table, rules, rules.anchor, n_stations=n_stations)}
    if lines[rules.anchor].is_static:
        raise ContractError(
            f"The anchor {rules.anchor!r} is static: its scenes have no time to start from. "
            "Anchor the join on a dated source."
        )
    bound = -(-rules.bounds_ns[rules.anchor] // tick_ns)
    chosen, in_bound = choose_anchor(
        readings, lines[rules.anchor], source=rules.anchor, bound=bound, tick_ns=tick_ns
    )
    drops.add(rules.anchor, rules.reason(rules.anchor), counts=readings.counts - in_bound)
    drops.add(rules.anchor, f"{rules.anchor}: {NOT_CLOSEST}", counts=in_bound - chosen.counts)
    for source, length_ns in rules.bounds_ns.items():
        if source != rules.anchor:
            line = lines[source] = _line(table, rules, source, n_stations=n_stations)
            before = chosen.counts
            chosen = look_up(chosen, line, source=source, bound=-(-length_ns // tick_ns))
            reason = f"{source}: none at the station" if line.is_static else rules.reason(source)
            drops.add(source, reason, counts=before - chosen.counts)
    lines = {source: lines[source] for source in rules.bounds_ns}
    samples = make_samples(readings, chosen, table=table, lines=lines, tick_ns=tick_ns)
    samples.attrs["join"] = rules.manifest()
    return JoinResult(samples, drops.table())


def _line(table: SceneTable, rules: _Rules, source: str, *, n_stations: int) -> Timeline:
    limit = rules.max_cloud_fraction.get(source)
    return timeline(table, source, n_stations=n_stations, max_cloud_fraction=limit)


def _tick_ns(observations: pd.DataFrame, scenes: pd.DataFrame) -> int:
    """Nanoseconds where any table holds them, microseconds otherwise."""
    times = (observations["time"], scenes["start"], scenes["end"])
    return min(1000, *(unit_ns(column.to_numpy()) for column in times))


def _check_rules(
    bounds: Mapping[str, Any], anchor: str, *, causal: str, max_cloud: Mapping[str, float]
) -> _Rules:
    if causal not in ("end", "start"):
        raise UnknownNameError(f"causal should be 'end' or 'start', found {causal!r}.")
    for name in (anchor, *max_cloud):
        if name not in bounds:
            raise UnknownNameError(
                f"{name!r} has no bound; bounds are given for {', '.join(bounds) or 'no source'}. "
                "Add its bound, or name one of these."
            )
    for name, limit in max_cloud.items():
        if not 0 <= limit <= 1:
            raise UnitError(
                f"max_cloud_fraction of {name!r} should lie in 0-1, found {limit}. "
                "Divide a percentage by 100."
            )
    lengths = {name: bound_ns(name, bound) for name, bound in bounds.items()}
    return _Rules(anchor, causal, lengths, {k: float(v) for k, v in max_cloud.items()})

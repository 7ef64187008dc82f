"""The anchored join: which past scene of every source goes with which in-situ reading."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import pandas as pd

from soilkit import contracts
from soilkit.errors import BoundError, ContractError, UnitError, UnknownNameError

MISSING = np.iinfo(np.int64).min  # how numpy stores NaT
NEVER = np.iinfo(np.int64).max
HOUR_US = 3600 * 10**6
UNITS_US = {"d": 24 * HOUR_US, "h": HOUR_US, "min": 60 * 10**6, "s": 10**6, "ms": 1000, "us": 1}
CHUNK_ROWS = 1 << 18
NOT_CLOSEST = "another reading is closer to the scene"

# The columns that are read. Keys are checked along with the order: pandas' own check would copy a
# table of readings, and hash millions of scenes. Times are judged at the ends of sorted slices.
_READ = ("sensor_id", "station_id", "time", "soil_moisture_m3_m3")
ENDS, STATIONS = (
    replace(table, columns=tuple(c for c in table.columns if c.name in _READ))
    for table in (replace(contracts.OBSERVATIONS, key=()), contracts.STATIONS)
)
OBSERVATIONS = replace(ENDS, columns=tuple(replace(c, within=None) for c in ENDS.columns))
_PLACE_AND_TIME = (contracts.Column("station_id", "string"), contracts.Column("time", "time"))
MOMENTS = contracts.Table("moments", _PLACE_AND_TIME)
_SCENE_COLUMNS = tuple(c for c in contracts.SCENES.columns if c.name != "orbit")
SCENES = replace(contracts.SCENES, columns=_SCENE_COLUMNS, key=())


def to_us(times: pd.Series) -> np.ndarray:
    """Times as int64 microseconds, a view where they are stored so; NaT becomes ``MISSING``."""
    return times.to_numpy().astype("datetime64[us]", copy=False).view(np.int64)


def as_categorical(column: pd.Series) -> pd.Categorical:
    """A column of strings as codes and categories; a categorical one costs no pass and no copy."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return cast(pd.Categorical, column.array)
    return pd.Categorical(column)


# ---- the readings: one sorted slice of times a sensor, without a copy ----------------------------


@dataclass(frozen=True)
class Readings:
    """Observations as slices, one a sensor: rows ``starts[i]`` to ``starts[i + 1]``.

    ``ticks`` (reading,) are the times in microseconds; ``sensors`` and ``stations`` (slice,) index
    ``sensor_ids`` and the join's station ids.
    """

    table: pd.DataFrame
    ticks: np.ndarray
    starts: np.ndarray
    sensors: np.ndarray
    stations: np.ndarray
    sensor_ids: pd.Index


def slice_readings(
    observations: pd.DataFrame, stations: pd.DataFrame, *, station_ids: pd.Index
) -> Readings:
    """Observations cut into slices of one sensor; unsorted ones are sorted, which costs a copy."""
    contracts.check(observations, OBSERVATIONS)
    starts, is_sorted = _slices(observations)
    if not is_sorted:
        observations = _sorted(observations)
        starts, _ = _slices(observations)
    codes, ticks = as_categorical(observations["sensor_id"]), to_us(observations["time"])
    sensors = codes.codes[starts[:-1]]
    if (sensors < 0).any() or (ticks[starts[:-1]] == MISSING).any():
        raise ContractError(
            "The observations table has rows without a sensor_id or a time. Drop these rows first."
        )
    contracts.check(observations.iloc[np.concatenate((starts[:-1], starts[1:] - 1))], ENDS)
    return Readings(
        table=observations,
        ticks=ticks,
        starts=starts,
        sensors=sensors,
        stations=_stations_of(codes.categories.take(sensors), stations, station_ids=station_ids),
        sensor_ids=codes.categories,
    )


def _slices(table: pd.DataFrame) -> tuple[np.ndarray, bool]:
    """Where runs of one sensor begin, the length at the end, and whether all is sorted.

    Piece by piece, so that what is compared stays in the processor's cache.
    """
    codes, ticks = as_categorical(table["sensor_id"]).codes, to_us(table["time"])
    starts, is_sorted = [np.zeros(min(1, len(codes)), dtype=np.int64)], True
    for low in range(1, len(codes), CHUNK_ROWS):
        here, before = slice(low, low + CHUNK_ROWS), slice(low - 1, low - 1 + CHUNK_ROWS)
        begins = codes[here] != codes[before][: len(codes[here])]
        later = ticks[here] > ticks[before][: len(begins)]
        is_sorted &= bool((later | begins).all())
        starts.append(low + np.flatnonzero(begins))
    starts.append(np.array([len(codes)]))
    cuts = np.concatenate(starts)
    return cuts, is_sorted and len(np.unique(codes[cuts[:-1]])) == len(cuts) - 1


def _sorted(observations: pd.DataFrame) -> pd.DataFrame:
    """A copy sorted by sensor and time; ``ContractError`` where a key is missing or repeats."""
    keys = ["sensor_id", "time"]
    ordered = observations.sort_values(keys, ignore_index=True, na_position="first")
    known = ordered.dropna(subset=keys)
    repeated = known[known.duplicated(keys)]
    if len(repeated):
        first = repeated.iloc[0]
        raise ContractError(
            f"The observations table repeats {len(repeated)} of its keys, the first at "
            f"{first.sensor_id}, {first.time}: which one is meant cannot be told. Drop the others."
        )
    return ordered


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


# ---- the scenes: one timeline a source, sorted by station and time, ties settled -----------------


@dataclass(frozen=True)
class Timeline:
    """The scenes of one source: those of station i are ``first[i]`` to ``first[i + 1]``.

    ``times`` (scene,) are microseconds, strictly increasing within a station; ``scenes`` (scene,)
    are codes of scene ids. A static source holds at most one scene a station.
    """

    times: np.ndarray
    scenes: np.ndarray
    first: np.ndarray
    is_static: bool

    def windows(self, bound_us: int) -> np.ndarray:
        """When readings begin and cease to have each scene as their nearest past, (scene, 2)."""
        following = np.append(self.times[1:], NEVER)
        following[self.first[1:][np.diff(self.first) > 0] - 1] = NEVER  # a station's last
        closes = np.minimum(self.times, NEVER - bound_us) + bound_us
        return np.stack((self.times, np.minimum(closes, following)), axis=1)

    def latest(self, ticks: np.ndarray, stations: np.ndarray, *, bound_us: int) -> np.ndarray:
        """Position of each reading's nearest past scene younger than the bound, -1 for none."""
        if self.is_static:
            return np.where(np.diff(self.first)[stations] > 0, self.first[stations], -1)
        position = np.full(len(ticks), -1)
        for station, rows in pd.Series(ticks).groupby(stations).indices.items():
            low, high = self.first[station : station + 2]
            if high > low:
                past = np.searchsorted(self.times[low:high], ticks[rows], side="right") - 1
                young = (past >= 0) & (ticks[rows] - self.times[low + past] < bound_us)
                position[rows] = np.where(young, low + past, -1)
        return position


@dataclass(frozen=True)
class SceneTable:
    """A scenes table as codes and microseconds, one entry a row.

    ``stations`` are positions in the join's station ids (-1: none of them); ``times`` those that
    ages run from, ``MISSING`` for static scenes.
    """

    table: pd.DataFrame
    sources: pd.Categorical
    scenes: pd.Categorical
    stations: np.ndarray
    times: np.ndarray
    n_stations: int

    def timeline(self, source: str, max_cloud_fraction: float | None) -> Timeline:
        """The scenes of one source that a reading may choose, at most one for a station and time.

        With ``max_cloud_fraction`` only scenes known to lie below it stay.
        """
        if source not in self.sources.categories:
            raise UnknownNameError(
                f"The scenes table has no {source!r} scene; it has "
                f"{', '.join(map(str, self.sources.categories)) or 'no rows at all'}. Index that "
                "source, or leave it out of the bounds."
            )
        mine = self.sources.codes == self.sources.categories.get_loc(source)
        undated = mine & (self.times == MISSING)
        if undated.any() and not (undated == mine).all():
            raise ContractError(
                f"{int(undated.sum())} of {int(mine.sum())} {source!r} scenes have no time: all of "
                "a static source have none, all of a dated one have. Fill in or remove these rows."
            )
        mine &= self.stations >= 0
        if max_cloud_fraction is not None:  # unknown, NaN, compares as false
            mine &= self.table["cloud_fraction"].to_numpy() < max_cloud_fraction
        rows = self._settled(np.flatnonzero(mine))
        first = np.searchsorted(self.stations[rows], np.arange(self.n_stations + 1))
        return Timeline(self.times[rows], self.scenes.codes[rows], first, bool(undated.any()))

    def _settled(self, rows: np.ndarray) -> np.ndarray:
        """Rows by station and time; of one station and time the best, as ``anchored_join`` says."""
        times, stations = self.times[rows], self.stations[rows]
        onward = (stations[1:] == stations[:-1]) & (times[1:] >= times[:-1])
        if not (onward | (stations[1:] > stations[:-1])).all():
            rows = rows[np.lexsort((times, stations))]
            times, stations = self.times[rows], self.stations[rows]
        repeats = np.zeros(len(rows), dtype=bool)
        repeats[1:] = (times[1:] == times[:-1]) & (stations[1:] == stations[:-1])
        tied = repeats | np.append(repeats[1:], False)
        rivals = rows[tied]
        names = self.scenes.categories.take(self.scenes.codes[rivals]).astype(str)
        valid = self.table["valid_fraction"].to_numpy()[rivals]
        invalid = np.where(np.isnan(valid), np.inf, -valid)
        rank = pd.factorize(names, sort=True)[0]
        rows[tied] = rivals[np.lexsort((rank, invalid, times[tied], stations[tied]))]
        return rows[~repeats]


def index_scenes(scenes: pd.DataFrame, *, station_ids: pd.Index, causal: str) -> SceneTable:
    """A table of kind SCENES, its keys and times checked, as codes and microseconds."""
    contracts.check(scenes, SCENES)
    source, place, scene = (
        as_categorical(scenes[name]) for name in ("source", "station_id", "scene_id")
    )
    _check_keys(scenes, (source, place, scene))
    start, end = to_us(scenes["start"]), to_us(scenes["end"])
    wrong = (start > end) | ((start == MISSING) != (end == MISSING))
    if wrong.any():
        raise ContractError(
            f"{int(wrong.sum())} scenes end before they start or have one time only, such as "
            f"{scenes['scene_id'].iloc[int(wrong.argmax())]}. Give both, equal ones, or neither."
        )
    positions = station_ids.get_indexer(place.categories.astype(str)).astype(np.int32)
    times = end if causal == "end" else start
    return SceneTable(scenes, source, scene, positions[place.codes], times, len(station_ids))


def _check_keys(scenes: pd.DataFrame, columns: tuple[pd.Categorical, ...]) -> None:
    key = np.zeros(len(scenes), dtype=np.int64)
    for column in columns:
        if (column.codes < 0).any():
            raise ContractError(
                "The scenes table has rows without a source, scene_id or station_id."
            )
        key *= len(column.categories)
        key += column.codes
    ordered = np.sort(key)  # a hash table of 26 million keys would take a gigabyte
    if (ordered[1:] == ordered[:-1]).any():
        repeated = scenes[pd.Series(key).duplicated().to_numpy()]
        first = repeated.iloc[0]
        raise ContractError(
            f"The scenes table repeats {len(repeated)} of its keys (source, scene_id, station_id), "
            f"the first {first.source} {first.scene_id} at {first.station_id}. Drop the others."
        )


# ---- which readings stay: the anchor's choice, then one look-up a source for the survivors -------


def choose_anchor(
    readings: Readings, line: Timeline, *, anchor: str, bound_us: int
) -> tuple[pd.DataFrame, np.ndarray]:
    """The closest reading of every sensor and anchor scene, found from the scenes' side.

    The first reading in a scene's window is its closest. Returns one row a reading that stays,
    ``row`` of the observations, ``slice`` and ``<anchor>_scene``, a position in the timeline; and
    how many readings of each slice lie in any window, shape (slice,).
    """
    edges = line.windows(bound_us)
    none = np.zeros(0, dtype=np.int64)
    rows, scenes = [none], [none]
    kept, in_bound = np.zeros((2, len(readings.stations)), dtype=np.int64)
    for i, station in enumerate(readings.stations.tolist()):
        start, stop = readings.starts[i : i + 2]
        low, high = line.first[station : station + 2]
        ticks = readings.ticks[start:stop]  # int64 searched for int64: equal dtypes, no copy
        first, after = ticks.searchsorted(edges[low:high].ravel()).reshape(-1, 2).T
        hit = np.flatnonzero(after > first)
        rows.append(start + first[hit])
        scenes.append(low + hit)
        kept[i], in_bound[i] = len(hit), (after - first).sum()
    columns = {"row": np.concatenate(rows), "slice": np.repeat(np.arange(len(kept)), kept)}
    return pd.DataFrame(columns | {f"{anchor}_scene": np.concatenate(scenes)}), in_bound


@dataclass(frozen=True)
class JoinTables:
    """A join's tables, checked and sorted once for however many bounds are tried on them.

    ``station_ids`` are what the stations of readings and scenes index.
    """

    readings: Readings
    scenes: SceneTable
    station_ids: pd.Index

    @classmethod
    def of(
        cls, observations: pd.DataFrame, scenes: pd.DataFrame, *, stations: pd.DataFrame,
        causal: Literal["end", "start"] = "end",
    ) -> "JoinTables":  # fmt: skip
        """Tables of those contracts; raises as ``anchored_join`` does."""
        contracts.check(stations, STATIONS)
        station_ids = pd.Index(stations["station_id"].astype(str).unique())
        readings = slice_readings(observations, stations, station_ids=station_ids)
        indexed = index_scenes(scenes, station_ids=station_ids, causal=causal)
        return cls(readings, indexed, station_ids)

    def match(
        self, bounds_us: Mapping[str, int], limits: Mapping[str, float], *, anchor: str
    ) -> tuple[pd.DataFrame, dict[str, Timeline], list[tuple[str, str, np.ndarray]]]:
        """Readings that stay, as ``choose_anchor`` gives them; timelines; losses of each slice."""
        lines = {source: self.scenes.timeline(source, limits.get(source)) for source in bounds_us}
        if lines[anchor].is_static:
            raise ContractError(
                f"The anchor {anchor!r} is static: its scenes have no time to start from. Anchor "
                "the join on a dated source."
            )
        readings, n_slices = self.readings, len(self.readings.stations)
        chosen, in_bound = choose_anchor(
            readings, lines[anchor], anchor=anchor, bound_us=bounds_us[anchor]
        )
        kept = np.bincount(chosen["slice"], minlength=n_slices)
        reason = _reason(anchor, bounds_us[anchor], limit=limits.get(anchor))
        lost = [
            (anchor, reason, np.diff(readings.starts) - in_bound),
            (anchor, f"{anchor}: {NOT_CLOSEST}", in_bound - kept),
        ]
        for source in (name for name in lines if name != anchor):
            ticks, places = readings.ticks[chosen["row"]], readings.stations[chosen["slice"]]
            position = lines[source].latest(ticks, places, bound_us=bounds_us[source])
            gone = np.bincount(chosen["slice"][position < 0], minlength=n_slices)
            reason = _reason(source, bounds_us[source], limit=limits.get(source))
            is_static = lines[source].is_static
            lost.append((source, f"{source}: none at the station" if is_static else reason, gone))
            chosen = chosen.assign(**{f"{source}_scene": position})[position >= 0]
        return chosen, lines, lost

    def losses(
        self, bounds: Mapping[str, Any], *, anchor: str = "sentinel1",
        max_cloud_fraction: Mapping[str, float] | None = None,
    ) -> tuple[pd.DataFrame, pd.DataFrame]:  # fmt: skip
        """A row a reading that would become a sample, and the drops: a join's counts alone."""
        limits = _limits(max_cloud_fraction)
        bounds_us = _checked(bounds, (anchor, *limits), causal="end", limits=limits)
        chosen, _, lost = self.match(bounds_us, limits, anchor=anchor)
        return chosen, _drops(self.readings, lost)


class JoinResult(NamedTuple):
    """The samples of a join and the readings that it dropped, counted by sensor and reason."""

    samples: pd.DataFrame
    drops: pd.DataFrame

    @property
    def manifest(self) -> dict[str, Any]:
        """The rules of this join, in plain words; kept in ``samples.attrs["join"]``."""
        return self.samples.attrs["join"]


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
    A source whose scenes have no time is static and matched by station, whatever its bound. Times
    count in whole microseconds.

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
    BoundError, UnitError
        A bound that is zero, negative or no length of time; a cloud fraction outside 0-1.
    ContractError
        A table differs from its contract, repeats a key, or the anchor is static.
    UnknownNameError
        An anchor or cloud limit without a bound, a source without scenes, a sensor without a
        station, a ``causal`` that is neither "end" nor "start".

    References
    ----------
    .. [1] Batchu et al. (2022), arXiv:2206.09649, section 2b, Tables 5 and 20
    """
    limits = _limits(max_cloud_fraction)
    bounds_us = _checked(bounds, (anchor, *limits), causal=causal, limits=limits)
    tables = JoinTables.of(observations, scenes, stations=stations, causal=causal)
    chosen, lines, lost = tables.match(bounds_us, limits, anchor=anchor)
    samples = _samples(tables, chosen, lines=lines)
    samples.attrs["join"] = {
        "anchor": anchor, "causal": causal, "reads_the_future": causal == "start",
        "bounds": {source: in_words(length) for source, length in bounds_us.items()},
        "max_cloud_fraction": limits,
    }  # fmt: skip
    return JoinResult(samples, _drops(tables.readings, lost))


def fate_of(
    time: Any, observations: pd.DataFrame, *, scenes: pd.DataFrame, stations: pd.DataFrame,
    bounds: Mapping[str, Any], anchor: str = "sentinel1",
    max_cloud_fraction: Mapping[str, float] | None = None,
) -> str:  # fmt: skip
    """What ``anchored_join`` makes of one reading, in words: its scenes, or why it is dropped.

    Parameters
    ----------
    time : of the reading, naive UTC
    observations : table OBSERVATIONS of that reading's sensor
    scenes, stations, bounds, anchor, max_cloud_fraction : as for ``anchored_join``

    Raises
    ------
    UnknownNameError
        Where the sensor has no reading of that time.
    """
    clouds = dict(max_cloud_fraction or {})
    of_anchor = {source: most for source, most in clouds.items() if source == anchor}
    reading = observations[observations["time"] == time]
    if len(reading) != 1:
        raise UnknownNameError(f"Wanted one reading of {time}, found {len(reading)}.")
    joined = partial(anchored_join, scenes=scenes, stations=stations, anchor=anchor)
    rivals = joined(observations, bounds={anchor: bounds[anchor]}, max_cloud_fraction=of_anchor)
    alone = joined(reading, bounds=bounds, max_cloud_fraction=clouds)
    is_closest = bool((rivals.samples["time"] == time).any())
    if len(alone.drops) and (is_closest or alone.drops["source"].iloc[0] == anchor):
        return f"dropped, {alone.drops['reason'].iloc[0]}"
    if not is_closest:
        return f"dropped, {anchor}: {NOT_CLOSEST}"
    ages = alone.samples.filter(like="_age_hours").iloc[0].dropna()
    words = (f"{name.removesuffix('_age_hours')} {age:.1f} h old" for name, age in ages.items())
    return f"a sample, {', '.join(words)}"


def latest_scenes(
    moments: pd.DataFrame,
    scenes: pd.DataFrame,
    *,
    bounds: Mapping[str, Any],
    max_cloud_fraction: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """The nearest past scene of each source at places and times without a reading.

    The rules, options and errors are those of ``anchored_join``, without an anchor: no row is
    dropped, and a source of ``bounds`` may lack scenes. To ``moments`` (``station_id`` and
    ``time``, naive UTC) are added ``<source>_scene`` (missing: none) and ``<source>_age_hours``
    [h]; ``attrs["reasons"]`` says by source why there may be none.
    """
    limits = _limits(max_cloud_fraction)
    bounds_us = _checked(bounds, limits, causal="end", limits=limits)
    contracts.check(moments, MOMENTS)
    stations, ticks = as_categorical(moments["station_id"]), to_us(moments["time"])
    if (stations.codes < 0).any():
        raise ContractError("The moments table has rows without a station_id. Drop them first.")
    station_ids = pd.Index(stations.categories.astype(str))
    table = index_scenes(scenes, station_ids=station_ids, causal="end")
    columns, reasons = {}, {}
    for source, length_us in bounds_us.items():
        position, line = np.full(len(ticks), -1), None
        if source in table.sources.categories:
            line = table.timeline(source, limits.get(source))
            position = line.latest(ticks, stations.codes, bound_us=length_us)
        known = position >= 0
        codes, age = np.full(len(ticks), -1), np.full(len(ticks), np.nan)
        if line is not None:
            codes[known] = line.scenes[position[known]]
            if not line.is_static:
                age[known] = (ticks[known] - line.times[position[known]]) * (1 / HOUR_US)
        scene = pd.Categorical.from_codes(codes, table.scenes.categories)
        columns[f"{source}_scene"] = scene.remove_unused_categories()
        columns[f"{source}_age_hours"] = age
        reasons[source] = _reason(source, length_us, limit=limits.get(source))
    joined = moments.assign(**columns)
    joined.attrs["reasons"] = reasons
    return joined


def _limits(fractions: Mapping[str, Any] | None) -> dict[str, float]:
    try:
        return {name: float(limit) for name, limit in (fractions or {}).items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise UnitError(
            "max_cloud_fraction should give a number from 0 to 1 by source, as {'sentinel2': 0.3}; "
            f"found {fractions!r}."
        ) from error


def _checked(
    bounds: Mapping[str, Any], names: Iterable[str], *, causal: str, limits: Mapping[str, float]
) -> dict[str, int]:
    """The bounds in microseconds, once all rules of a join are known to make sense."""
    if causal not in ("end", "start"):
        raise UnknownNameError(f"causal should be 'end' or 'start', found {causal!r}.")
    for name in names:
        if name not in bounds:
            raise UnknownNameError(
                f"{name!r} has no bound; bounds are given for {', '.join(bounds) or 'no source'}. "
                "Add its bound, or name one of these."
            )
    for name, limit in limits.items():
        if not 0 <= limit <= 1:
            raise UnitError(
                f"max_cloud_fraction of {name!r} should lie in 0-1, found {limit}. "
                "Divide a percentage by 100."
            )
    return {name: bound_us(name, bound) for name, bound in bounds.items()}


def bound_us(source: str, bound: Any) -> int:
    """A bound in microseconds; ``BoundError`` for anything but a length of time above zero."""
    is_length = isinstance(bound, str | timedelta | np.timedelta64)
    # A number alone, numpy's "5 generic time units" too, would be nanoseconds.
    is_length &= re.fullmatch("(?!.*generic).*[A-Za-z:].*", str(bound)) is not None
    try:
        length = pd.Timedelta(bound) if is_length else pd.NaT
    except ValueError:  # text that is no length, or one too long
        length = pd.NaT
    if not length > pd.Timedelta(0):  # NaT compares as false
        raise BoundError(
            f"The bound of {source!r} should be a length of time above zero, found {bound!r}: ages "
            "run over [0, bound). Give a pandas.Timedelta, for instance pandas.Timedelta('1h')."
        )
    return -(-length // pd.Timedelta(1, "us"))


def _reason(source: str, bound_us: int, *, limit: float | None) -> str:
    clouds = "" if limit is None else f" with cloud fraction below {limit:g}"
    return f"{source}: none within {in_words(bound_us)}{clouds}"


def in_words(length_us: int) -> str:
    """A length of time in its largest whole unit."""
    word = next(word for word, size in UNITS_US.items() if length_us % size == 0)
    return f"{length_us // UNITS_US[word]} {word}"


# ---- the two products ----------------------------------------------------------------------------


def _samples(
    tables: JoinTables, chosen: pd.DataFrame, *, lines: Mapping[str, Timeline]
) -> pd.DataFrame:
    """Table SAMPLES with the scene and age of each source of ``lines``, in the readings' order."""
    readings, station_ids = tables.readings, tables.station_ids
    rows = chosen["row"].to_numpy()
    time = readings.ticks[rows].view("datetime64[us]")
    sensors, stations = (v[chosen["slice"]] for v in (readings.sensors, readings.stations))
    columns = {
        "sample_id": _sample_ids(sensors, time, ids=readings.sensor_ids),
        "sensor_id": pd.Categorical.from_codes(sensors, readings.sensor_ids),
        "station_id": pd.Categorical.from_codes(stations, station_ids),
        "time": time,
        "soil_moisture_m3_m3": readings.table["soil_moisture_m3_m3"].to_numpy()[rows],
    }
    for source, line in lines.items():
        position = chosen[f"{source}_scene"].to_numpy()
        scene = pd.Categorical.from_codes(line.scenes[position], tables.scenes.scenes.categories)
        columns[f"{source}_scene"] = scene.remove_unused_categories()
        age = (readings.ticks[rows] - line.times[position]) * (1 / HOUR_US)
        columns[f"{source}_age_hours"] = np.full(len(rows), np.nan) if line.is_static else age
    return pd.DataFrame(columns)


def _sample_ids(sensors: np.ndarray, time: np.ndarray, *, ids: pd.Index) -> pd.Series:
    """``<sensor_id>@<time>``, the time compact as 20200601T130000, with decimals if it has any."""
    which, instants = pd.factorize(time)
    words = pd.Series(np.datetime_as_string(instants, unit="us").astype(object), dtype="str").str
    words = "@" + words.replace("-", "").str.replace(":", "").str.removesuffix(".000000")
    names = pd.Series(ids.astype(str), dtype="str").take(sensors).reset_index(drop=True)
    return names + words.take(which).reset_index(drop=True)


def _drops(readings: Readings, lost: list[tuple[str, str, np.ndarray]]) -> pd.DataFrame:
    """Table DROPS from (source, reason, readings of each slice): a row a count above zero."""
    names, reasons, counts = zip(*lost, strict=True)
    count = np.stack(counts, axis=1)  # (slice, reason)
    at, which = np.nonzero(count)
    sources = pd.Index(dict.fromkeys(names))
    columns = {
        "sensor_id": pd.Categorical.from_codes(readings.sensors[at], readings.sensor_ids),
        "source": pd.Categorical.from_codes(sources.get_indexer(names)[which], sources),
        "reason": pd.Categorical.from_codes(which, pd.Index(reasons)),
        "count": count[at, which],
    }
    return pd.DataFrame(columns)

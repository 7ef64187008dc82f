"""The anchored join: which past scene of every source goes with which in-situ reading.

Time arithmetic only. It begins with the few anchor scenes and searches them in the many readings,
then looks up the other sources for the surviving readings alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import pandas as pd

from soilkit import contracts
from soilkit.errors import ContractError, UnitError, UnknownNameError
from soilkit.join.assemble import DropCounts, make_samples
from soilkit.join.choose import choose_anchor, look_up
from soilkit.join.readings import STATIONS, OutOfOrder, Readings, slice_readings, sort_readings
from soilkit.join.ticks import bound_ns, in_words, unit_ns
from soilkit.join.timelines import (
    SCENES,
    SceneTable,
    Timeline,
    check_sources,
    index_scenes,
    timeline,
)

__all__ = ["JoinResult", "anchored_join"]

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

"""The dataset doctor: does Earth Engine still hold what the catalogue says?

It compares the catalogue with pinned facts about every asset: whether it exists, its bands, its
dates, and what replaced it. ``refresh`` reads the facts anew from the service.
"""

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from soilkit import sources
from soilkit.archives.earthengine.facts import Facts, assets_of, load_facts, refresh, save_facts
from soilkit.errors import BoundError, DatasetError
from soilkit.sources import Source

__all__ = ["examine", "load_facts", "refresh", "require", "save_facts"]

log = logging.getLogger(__name__)

REFRESH = "Read it anew: doctor.refresh(service.metadata)."
Period = tuple[np.datetime64 | None, np.datetime64 | None]


class Finding(NamedTuple):
    """One row of the doctor's table."""

    source: str
    asset: str
    status: str
    what: str
    advice: str
    blocks: bool


def examine(
    names: Iterable[str] | Mapping[str, Collection[str]] | None = None,
    *,
    start: Any = None,
    end: Any = None,
    facts: Facts | None = None,
) -> pd.DataFrame:
    """Compare sources of the catalogue with what is known about their assets.

    Parameters
    ----------
    names : iterable of str, or mapping from str to names of bands, optional
        Sources, or sources with the bands that are wanted of them; all of all by default.
    start, end : datetime64 or text, UTC, optional
        The requested period, half-open. Without it every end is reported, whenever it was.
    facts : Facts, optional
        From ``refresh`` or ``load_facts``; the pinned ones by default.

    Returns
    -------
    DataFrame
        One row or more a source: ``source``, ``asset``, ``status`` ("ok", "deprecated", "renamed",
        "ended", "begins later", "band missing", "not in earth engine" or "unknown"), ``what`` was
        found, ``advice``, and whether it ``blocks`` an export of the source.

    Raises
    ------
    UnknownNameError
        For a source that the catalogue lacks.
    BoundError
        For a period that ends before it starts.

    Examples
    --------
    >>> examine(["smap"]).status.tolist()
    ['deprecated', 'ended']
    """
    known = load_facts() if facts is None else facts
    period = _period(start, end)
    wanted = [s.name for s in sources.CATALOGUE] if names is None else list(names)
    bands = dict(names) if isinstance(names, Mapping) else {}
    chosen = [(sources.get(name), bands.get(name)) for name in wanted]
    rows = [row for source, some in chosen for row in _of_source(source, some, known, period)]
    return pd.DataFrame(rows, columns=list(Finding._fields))


def require(
    names: Iterable[str] | Mapping[str, Collection[str]],
    *,
    start: Any = None,
    end: Any = None,
    facts: Facts | None = None,
) -> None:
    """Examine before an export: raise for what blocks it, warn of the rest in the log.

    Raises
    ------
    DatasetError
        Naming every asset that is gone, lacks a band or has nothing in the period, and what to do.
    """
    table = examine(names, start=start, end=end, facts=facts)
    for row in table[~table.blocks & (table.status != "ok")].itertuples():
        log.warning("%s (%s): %s. %s", row.source, row.asset, row.what, row.advice)
    blocking = table[table.blocks]
    if len(blocking):
        lines = [f"{r.source}: {r.status}: {r.what}. {r.advice}" for r in blocking.itertuples()]
        raise DatasetError(
            f"Earth Engine cannot serve {blocking.source.nunique()} of the sources:\n"
            + "\n".join(lines)
        )


def _period(start: Any, end: Any) -> Period:
    first, last = (None if t is None else np.datetime64(t, "D") for t in (start, end))
    if first is not None and last is not None and not first <= last:
        raise BoundError(f"The period ends before it starts: {start} to {end}.")
    return first, last


def _of_source(
    source: Source, wanted: Collection[str] | None, facts: Facts, period: Period
) -> Iterator[Finding]:
    if not source.asset:
        what = "Earth Engine does not hold it"
        yield Finding(source.name, "", "not in earth engine", what, source.lives_at, True)
        return
    for asset, bands in assets_of(source.name, wanted).items():
        fact = facts.get(asset)
        if fact is None:
            what = "no fact is pinned about this asset"
            yield Finding(source.name, asset, "unknown", what, REFRESH, False)
            continue
        found = list(_of_asset(source, fact, bands=bands, period=period))
        for status, what, advice, blocks in found or [_ok(source, asset, facts=facts)]:
            doubt = fact["uncertain"]
            what += f"; not verified: {', '.join(doubt)}" if doubt else ""
            yield Finding(source.name, asset, status, what, advice, blocks)


def _of_asset(
    source: Source, fact: Mapping[str, Any], *, bands: list[str], period: Period
) -> Iterator[tuple[str, str, str, bool]]:
    """What is wrong with one asset: status, what, advice, whether it blocks."""
    successor = _successor(source, fact)
    if not fact["exists"]:
        status = "renamed" if fact["successor"] else "not in earth engine"
        blocks = "exists" not in fact["uncertain"]
        yield status, f"the asset was gone on {fact['taken']}", successor or REFRESH, blocks
        return
    lacking = [band for band in bands if fact["bands"] and band not in fact["bands"]]
    if lacking:
        what = f"no band {', '.join(lacking)} among {', '.join(fact['bands'])}"
        advice = f"See {fact['page']}; leave the band out, or correct the catalogue."
        yield "band missing", what, advice, "bands" not in fact["uncertain"]
    if fact["deprecated"]:
        yield "deprecated", "Earth Engine has superseded it", successor or REFRESH, False
    if not source.is_static:
        yield from _of_dates(fact, successor, period)


def _of_dates(
    fact: Mapping[str, Any], successor: str, period: Period
) -> Iterator[tuple[str, str, str, bool]]:
    start, end = period
    ends = np.datetime64(fact["ends"]) if fact["ends"] else None
    if ends is not None and (end is None or ends < end):
        nothing = bool(start is not None and ends <= start)
        what = f"ended on {ends}" + (f", before {start}" if nothing else "")
        yield "ended", what, successor or "Choose an earlier period.", nothing
    begins = np.datetime64(fact["begins"]) if fact["begins"] else None
    if begins is not None and start is not None and begins > start:
        nothing = bool(end is not None and begins >= end)
        what = f"begins on {begins}" + (f", not before {end}" if nothing else f", after {start}")
        yield "begins later", what, "Choose a later period.", nothing


def _ok(source: Source, asset: str, *, facts: Facts) -> tuple[str, str, str, bool]:
    """An asset without a finding: fine, or merely not known to be anything else."""
    fact = facts[asset]
    if "exists" in fact["uncertain"]:
        return "unknown", "nothing is known against it", REFRESH, False
    words = [f"seen on {fact['taken']}"]
    if not source.is_static:
        words.append(f"{fact['begins'] or 'unknown'} to {fact['ends'] or 'now'}")
        if fact["begins"] and source.begins and fact["begins"] != source.begins:
            words.append(f"the catalogue says from {source.begins}")
    old = [name for name, other in facts.items() if other["successor"] == asset]
    replaced = [name for name in old if facts[name]["deprecated"]]
    words += [f"replaces {', '.join(replaced)}, which is deprecated"] if replaced else []
    return "ok", "; ".join(words), "", False


def _successor(source: Source, fact: Mapping[str, Any]) -> str:
    """Where to turn: the asset's successor, and the catalogue's source for it."""
    asset = fact["successor"]
    if not asset:
        return ""
    name = next((s.name for s in sources.CATALOGUE if asset == s.asset), source.successor)
    return f"Its successor is {asset}" + (f", here {name!r}." if name else ".")

"""The dataset doctor: does Earth Engine still hold what the catalogue says?"""

import json
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from importlib import resources
from typing import Any

import numpy as np
import pandas as pd

from soilkit import sources
from soilkit.errors import BoundError, DatasetError
from soilkit.export.archives.earthengine.connection import call, ee
from soilkit.export.archives.earthengine.executor import ServiceError
from soilkit.export.archives.earthengine.expressions import layer
from soilkit.sources import Source

log = logging.getLogger(__name__)

REFRESH = "Read it anew: connect(), then doctor.refresh()."
STILL_GROWING = np.timedelta64(500, "D")  # yearly products come more than a year late
COLUMNS = ["source", "asset", "status", "what", "advice", "blocks"]

# An asset's facts by its id: exists, type, bands, begins, ends, deprecated, successor, page, taken,
# uncertain, from.
Facts = dict[str, dict[str, Any]]
Period = tuple[np.datetime64 | None, np.datetime64 | None]
Finding = tuple[str, str, str, bool]  # status, what, advice, whether it blocks an export


def load_facts() -> Facts:
    """The pinned facts."""
    pinned = resources.files("soilkit.export.archives.earthengine") / "facts.json"
    return json.loads(pinned.read_text(encoding="utf-8"))["assets"]


def assets_of(name: str, wanted: Collection[str] | None = None) -> dict[str, list[str]]:
    """The Earth Engine assets of a source, or of some bands, each with what is read from it.

    An image with a single band is read whatever that is called: it has an empty list.

    Examples
    --------
    >>> assets_of("sentinel1")
    {'COPERNICUS/S1_GRD': ['VV', 'VH', 'angle']}
    """
    held, source = layer(name), sources.get(name)
    assets: dict[str, list[str]] = {}
    for band in source.bands:
        if wanted is None or band.name in wanted:
            bands = assets.setdefault(held.image.format(band=band.name), [])
            bands += [held.band.format(band=band.name)] if held.band else []
    return assets


def refresh(names: Iterable[str] | None = None) -> Facts:
    """Facts of sources (of all by default) read anew from the service.

    What it does not tell stays as it was, and is named; an asset that is missing has ``exists``
    false.
    """
    facts = load_facts()
    wanted = [s.name for s in sources.CATALOGUE if s.asset] if names is None else names
    unread = []
    for asset in dict.fromkeys(asset for name in wanted for asset in assets_of(name)):
        try:
            metadata = call(ee.data.getAsset, asset)
        except ServiceError as error:
            if error.fault.kind != "missing":
                unread.append(f"{asset} ({error.fault})")
                continue
            metadata = {"exists": False}
        facts[asset] = _fact(metadata, facts.get(asset, {}))
    if unread:
        log.warning("Not read anew, kept as they were: %s", ", ".join(unread))
    return facts


def _fact(metadata: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    """An asset's facts: what the service tells, over what was known."""
    begins, ends = _dates(metadata)
    read = {
        "exists": metadata.get("exists", True),
        "type": metadata.get("type"),
        "bands": [band["id"] for band in metadata.get("bands", ())] or None,
        "begins": begins,
        "ends": ends,
    }
    new = {key: value for key, value in read.items() if value is not None}
    blank = dict.fromkeys(["type", "begins", "ends", "successor", "page"], "")
    whole = {**blank, "bands": [], "deprecated": False, **old, **new}
    # Whether it is deprecated, its successor and its page are not the service's to tell.
    kept = [k for k in (*read, "deprecated", "successor", "page") if k not in new and k in old]
    kept_words = f"kept from {old.get('taken', 'before')}: {', '.join(kept) or 'nothing'}"
    return whole | {
        "taken": str(np.datetime64("today")),
        "uncertain": [key for key in old.get("uncertain", []) if key not in new],
        "from": f"the service; {kept_words}",
    }


def _dates(metadata: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """ISO days of the first and after the last image; empty for an end that still moves."""
    period = metadata.get("properties", {}).get("date_range")
    if period:
        first, last = (np.datetime64(int(ms), "ms") for ms in period)
    elif metadata.get("startTime") and metadata.get("endTime"):
        first, last = (np.datetime64(metadata[k].rstrip("Z")) for k in ("startTime", "endTime"))
    else:
        return None, None
    after = last.astype("datetime64[D]") + 1
    ended = np.datetime64("today") - after > STILL_GROWING
    return str(first.astype("datetime64[D]")), str(after) if ended else ""


def examine(
    names: Iterable[str] | Mapping[str, Collection[str]] | None = None,
    *,
    start: Any = None,
    end: Any = None,
    facts: Facts | None = None,
) -> pd.DataFrame:
    """Compare sources of the catalogue with what is known about their assets.

    Raises ``UnknownNameError`` or ``BoundError`` for a source that the catalogue lacks, and for a
    period that ends before it starts.

    Parameters
    ----------
    names : sources, or a mapping of sources to the bands that are wanted of them; all by default
    start, end : the requested period, half-open. Without it every end is reported, whenever it was.
    facts : from ``refresh``; the pinned ones by default

    Returns
    -------
    DataFrame
        One row or more a source: ``source``, ``asset``, ``status`` ("ok", "deprecated", "renamed",
        "ended", "begins later", "band missing", "not in earth engine" or "unknown"), ``what`` was
        found, ``advice``, and whether it ``blocks`` an export of the source.

    Examples
    --------
    >>> examine(["smap"]).status.tolist()
    ['deprecated', 'ended']
    """
    facts = load_facts() if facts is None else facts
    first, last = (None if t is None else np.datetime64(t, "D") for t in (start, end))
    if first is not None and last is not None and not first <= last:
        raise BoundError(f"The period ends before it starts: {start} to {end}.")
    bands = names if isinstance(names, Mapping) else {}
    rows: list[tuple[Any, ...]] = []
    for name in [s.name for s in sources.CATALOGUE] if names is None else names:
        source = sources.get(name)
        if not source.asset:
            finding = "Earth Engine does not hold it"
            rows.append((name, "", "not in earth engine", finding, source.lives_at, True))
            continue
        for asset, there in assets_of(name, bands.get(name)).items():
            findings = _of_asset(source, asset, bands=there, facts=facts, period=(first, last))
            rows += [(name, asset, *finding) for finding in findings]
    return pd.DataFrame(rows, columns=COLUMNS)


def require(
    names: Iterable[str] | Mapping[str, Collection[str]], *, start: Any = None, end: Any = None
) -> None:
    """Examine before an export: raise for what blocks it, warn of the rest in the log.

    Raises ``DatasetError``, naming every asset that is gone, lacks a band or has nothing in the
    period, and what to do.
    """
    table = examine(names, start=start, end=end)
    for row in table[~table.blocks & (table.status != "ok")].itertuples():
        log.warning("%s (%s): %s. %s", row.source, row.asset, row.what, row.advice)
    blocking = table[table.blocks]
    if len(blocking):
        lines = [f"{r.source}: {r.status}: {r.what}. {r.advice}" for r in blocking.itertuples()]
        raise DatasetError(
            f"Earth Engine cannot serve {blocking.source.nunique()} of the sources:\n"
            + "\n".join(lines)
        )


def _of_asset(
    source: Source, asset: str, *, bands: list[str], facts: Facts, period: Period
) -> list[Finding]:
    """What is wrong with one asset, or that it is fine; and what of it was never verified."""
    fact = facts.get(asset)
    if fact is None:
        return [("unknown", "no fact is pinned about this asset", REFRESH, False)]
    findings = list(_faults(source, fact, bands=bands, period=period))
    doubt = f"; not verified: {', '.join(fact['uncertain'])}" if fact["uncertain"] else ""
    return [
        (status, fault + doubt, advice, blocks)
        for status, fault, advice, blocks in findings or [_ok(source, asset, facts=facts)]
    ]


def _faults(
    source: Source, fact: Mapping[str, Any], *, bands: list[str], period: Period
) -> Iterator[Finding]:
    successor = fact["successor"]
    if successor:
        names = [s.name for s in sources.CATALOGUE if s.asset == successor]
        name = next(iter(names), source.successor)
        successor = f"Its successor is {successor}" + (f", here {name!r}." if name else ".")
    if not fact["exists"]:
        status = "renamed" if successor else "not in earth engine"
        blocks = "exists" not in fact["uncertain"]
        yield status, f"the asset was gone on {fact['taken']}", successor or REFRESH, blocks
        return
    lacking = [band for band in bands if fact["bands"] and band not in fact["bands"]]
    if lacking:
        fault = f"no band {', '.join(lacking)} among {', '.join(fact['bands'])}"
        advice = f"See {fact['page']}; leave the band out, or correct the catalogue."
        yield "band missing", fault, advice, "bands" not in fact["uncertain"]
    if fact["deprecated"]:
        yield "deprecated", "Earth Engine has superseded it", successor or REFRESH, False
    if not source.is_static:
        yield from _faults_of_dates(fact, successor, period)


def _faults_of_dates(fact: Mapping[str, Any], successor: str, period: Period) -> Iterator[Finding]:
    start, end = period
    ends = np.datetime64(fact["ends"]) if fact["ends"] else None
    if ends is not None and (end is None or ends < end):
        nothing = bool(start is not None and ends <= start)
        fault = f"ended on {ends}" + (f", before {start}" if nothing else "")
        yield "ended", fault, successor or "Choose an earlier period.", nothing
    begins = np.datetime64(fact["begins"]) if fact["begins"] else None
    if begins is not None and start is not None and begins > start:
        nothing = bool(end is not None and begins >= end)
        fault = f"begins on {begins}" + (f", not before {end}" if nothing else f", after {start}")
        yield "begins later", fault, "Choose a later period.", nothing


def _ok(source: Source, asset: str, *, facts: Facts) -> Finding:
    """An asset without a fault: fine, or merely not known to be anything else."""
    fact = facts[asset]
    if "exists" in fact["uncertain"]:
        return "unknown", "nothing is known against it", REFRESH, False
    words = [f"seen on {fact['taken']}"]
    if not source.is_static:
        words.append(f"{fact['begins'] or 'unknown'} to {fact['ends'] or 'now'}")
        if fact["begins"] and source.begins and fact["begins"] != source.begins:
            words.append(f"the catalogue says from {source.begins}")
    old = [k for k, other in facts.items() if other["successor"] == asset and other["deprecated"]]
    words += [f"replaces {', '.join(old)}, which is deprecated"] if old else []
    return "ok", "; ".join(words), "", False

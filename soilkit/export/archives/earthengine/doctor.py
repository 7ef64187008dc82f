"""The dataset doctor: does Earth Engine still hold what the catalogue says?"""

import json
import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from soilkit import sources
from soilkit.errors import BoundError, DatasetError, StoreError
from soilkit.export.archives.earthengine.executor import ServiceError
from soilkit.export.archives.earthengine.expressions import layer
from soilkit.files import write_text_whole
from soilkit.sources import Source

log = logging.getLogger(__name__)

FORMAT_VERSION = 1
ABOUT = (
    "What soilkit relies on of each Earth Engine asset, with the day and the page that it was read "
    "from. Facts named under 'uncertain' were not seen there. Dates are ISO, ends exclusive, empty "
    "for what still grows."
)
STILL_GROWING = np.timedelta64(500, "D")  # yearly products come more than a year late
NOT_TOLD = ("deprecated", "successor", "page")  # the service has no word for these

# An asset's facts by its id: exists, type, bands, begins, ends, deprecated, successor, page, taken,
# uncertain, from.
Facts = dict[str, dict[str, Any]]


def load_facts(path: str | os.PathLike[str] | None = None) -> Facts:
    """The pinned facts, or those that ``save_facts`` wrote.

    Raises
    ------
    StoreError
        For a file of another format.
    """
    pinned = resources.files("soilkit.export.archives.earthengine") / "facts.json"
    text = (pinned if path is None else Path(path)).read_text(encoding="utf-8")
    content = json.loads(text)
    found = content.get("format_version") if isinstance(content, dict) else None
    if found != FORMAT_VERSION:
        raise StoreError(
            f"{path or pinned} holds facts of format {found}, wanted {FORMAT_VERSION}. "
            "Write it anew with doctor.refresh and doctor.save_facts."
        )
    return content["assets"]


def save_facts(facts: Facts, path: str | os.PathLike[str]) -> None:
    """Write facts whole or not at all, for ``load_facts``."""
    content = {"about": ABOUT, "format_version": FORMAT_VERSION, "assets": facts}
    write_text_whole(path, json.dumps(content, indent=1))


def assets_of(name: str, wanted: Collection[str] | None = None) -> dict[str, list[str]]:
    """The Earth Engine assets of a source, or of some bands, each with what is read from it.

    An image with a single band is read whatever that is called: it has an empty list.

    Examples
    --------
    >>> assets_of("sentinel1")
    {'COPERNICUS/S1_GRD': ['VV', 'VH', 'angle']}
    """
    source, how = layer(name)
    found: dict[str, list[str]] = {}
    for band in source.bands:
        if wanted is not None and band.name not in wanted:
            continue
        bands = found.setdefault(how.image.format(band=band.name), [])
        if how.band:
            bands.append(how.band.format(band=band.name))
    return found


def refresh(
    describe: Callable[[str], Mapping[str, Any]],
    names: Iterable[str] | None = None,
    *,
    facts: Facts | None = None,
) -> Facts:
    """Facts read anew from the service; what it does not tell stays as it was, and is named.

    Parameters
    ----------
    describe : callable
        From an asset's id to its metadata as ``ee.data.getAsset`` gives it, for example
        ``service.metadata``; ``bands``, a list of mappings with an ``id``, may be added to a
        collection's. Raises ``ServiceError``.
    names : iterable of str, optional
        Sources; all that Earth Engine has by default.
    facts : Facts, optional
        The ones to start from; the pinned ones by default.

    Returns
    -------
    Facts
        An asset that is missing has ``exists`` false; one that could not be read is as it was.
    """
    found = dict(load_facts() if facts is None else facts)
    wanted = [s.name for s in sources.CATALOGUE if s.asset] if names is None else names
    unread = []
    for asset in dict.fromkeys(asset for name in wanted for asset in assets_of(name)):
        try:
            told = describe(asset)
        except ServiceError as error:
            if error.fault.kind != "missing":
                unread.append(f"{asset} ({error.fault})")
                continue
            told = {"exists": False}
        found[asset] = _fact(told, found.get(asset, {}))
    if unread:
        log.warning("Not read anew, kept as they were: %s", ", ".join(unread))
    return found


def _fact(told: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    """An asset's facts: what was told, over what was known."""
    today = np.datetime64("today")
    begins, ends = _dates(told, today)
    read = {
        "exists": told.get("exists", True),
        "type": told.get("type"),
        "bands": [band["id"] for band in told["bands"]] if told.get("bands") else None,
        "begins": begins,
        "ends": ends,
    }
    new = {key: value for key, value in read.items() if value is not None}
    kept = [key for key in (*read, *NOT_TOLD) if key not in new and key in old]
    blank = {"type": "", "bands": [], "begins": "", "ends": "", "deprecated": False}
    source = f"the service; kept from {old.get('taken', 'before')}: {', '.join(kept) or 'nothing'}"
    return {
        **blank,
        "successor": "",
        "page": "",
        **old,
        **new,
        "taken": str(today),
        "uncertain": [key for key in old.get("uncertain", []) if key not in new],
        "from": source,
    }


def _dates(told: Mapping[str, Any], today: np.datetime64) -> tuple[str | None, str | None]:
    """ISO days of the first and after the last image; empty for an end that still moves."""
    period = told.get("properties", {}).get("date_range")
    if period:
        first, last = (np.datetime64(int(ms), "ms") for ms in period)
    elif told.get("startTime") and told.get("endTime"):
        first, last = (np.datetime64(told[key].rstrip("Z")) for key in ("startTime", "endTime"))
    else:
        return None, None
    after = last.astype("datetime64[D]") + 1
    return str(first.astype("datetime64[D]")), str(after) if today - after > STILL_GROWING else ""


# The dataset doctor: does Earth Engine still hold what the catalogue says?

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

"""The few facts that we rely on about each Earth Engine asset: pinned, and read anew."""

import json
import logging
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from soilkit import sources
from soilkit.archives.earthengine.faults import ServiceError
from soilkit.archives.earthengine.layers import layer
from soilkit.errors import StoreError
from soilkit.files import write_text_whole

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
    pinned = resources.files("soilkit.archives.earthengine") / "facts.json"
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

"""Building a store: ask for what is missing, write each chip whole, and lose nothing on the way."""

import contextlib
import errno
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Integral
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from soilkit import contracts
from soilkit import sources as catalogue
from soilkit.chips.describing import band_names, describe, networks, plain, prepare
from soilkit.chips.locking import sole_builder
from soilkit.chips.manifest import MANIFEST, Entry, Ledger, sha256
from soilkit.chips.requests import Planner, chip_sources, settle
from soilkit.chips.store import ChipStore, open_store
from soilkit.chips.writing import Writer, missing
from soilkit.contracts import Archive, Chip, ChipRequest, Failure
from soilkit.errors import ParameterError, StoreError

log = logging.getLogger(__name__)
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
DAMAGED = "damaged on disk"


def build(
    samples: pd.DataFrame,
    archive: Archive,
    store: str | os.PathLike[str],
    *,
    stations: pd.DataFrame,
    sources: Iterable[str] | None = None,
    size_px: int = 512,
    bands: Mapping[str, Sequence[str]] | None = None,
    min_valid_fraction: float = 0.8,
    citations: Mapping[str, str] | None = None,
    limit: int | None = None,
    progress: bool = True,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Fetch every chip that the samples need and the store lacks; say which samples then stand.

    Rows in = samples + drops, always. A build that was interrupted goes on where it stopped when it
    is called again. A chip is judged by the fraction of its pixels where all continuous bands are
    known (a masked cloud flag is unknown, no hole); what is empty or failed is noted and dropped.

    Parameters
    ----------
    samples : samples table with ``<source>_scene`` and ``<source>_age_hours``
    archive : where chips come from
    store : folder of the zarr store, made when absent
    stations : stations table: places and networks
    sources : names; None takes all ``<source>_scene`` columns. Coarse ones are series, not chips.
    size_px : int, pixels of 10 m a side; low-resolution sources cover the same ground at 160 m
    bands : bands by source; all of them where it says nothing
    min_valid_fraction : float, 0-1, below which a sample is dropped
    citations : how to cite each network, kept in the manifest
    limit : int, optional
        Ask for so many chips at most, those of samples from all over the table: a trial before a
        long export. Samples whose chips were not asked for are dropped as "not fetched"; the next
        build without a limit asks for the rest.
    progress : whether to show a bar

    Returns
    -------
    samples, drops : tables

    Raises
    ------
    ContractError
        When a table does not hold what it promises.
    ParameterError
        For a limit that is no whole number from zero on.
    StoreError
        When the disk is full (what was written stays good), the store is of another kind or in
        the hands of another build, or its folder cannot be made.
    """
    contracts.check(samples, contracts.SAMPLES)
    _check_limit(limit)
    chosen = chip_sources(samples, sources)
    wanted = {s.name: band_names(s, (bands or {}).get(s.name)) for s in chosen}
    path = Path(store)
    content: dict = {
        "archive": {"name": archive.name, "version": archive.version},
        "size_px": size_px,
    }
    content["sources"] = {s.name: describe(s, wanted[s.name], size_px=size_px) for s in chosen}
    content["networks"] = networks(stations, citations or {})
    content["join"] = {str(k): plain(v) for k, v in samples.attrs.items()}
    planner = Planner(samples, stations, size_px=size_px, version=archive.version)
    requests = planner.all_requests(chosen, wanted)
    with _full_disk_is_named(path), _held(path):
        described = prepare(path, content)
        writer = Writer(path, described["sources"], requests)
        if limit is not None:
            writer.missing = planner.spread(writer.missing, limit=limit)
        writer.fetch(archive, progress=progress)
    ledgers = {name: ledger.entries for name, ledger in writer.ledgers.items()}
    return settle(samples, ledgers, chosen=chosen, min_valid_fraction=min_valid_fraction)


def plan(
    samples: pd.DataFrame,
    archive: Archive,
    *,
    stations: pd.DataFrame,
    sources: Iterable[str] | None = None,
    size_px: int = 512,
    bands: Mapping[str, Sequence[str]] | None = None,
    store: str | os.PathLike[str] | None = None,
) -> list[ChipRequest]:
    """The chips that ``build`` would ask for, without asking.

    Parameters
    ----------
    samples, archive, stations, sources, size_px, bands
        As in ``build``.
    store : folder, optional
        Leave out what stands there, and what is known never to come.

    Raises
    ------
    ContractError
        When a table does not hold what it promises.
    """
    contracts.check(samples, contracts.SAMPLES)
    chosen = chip_sources(samples, sources)
    wanted = {s.name: band_names(s, (bands or {}).get(s.name)) for s in chosen}
    planner = Planner(samples, stations, size_px=size_px, version=archive.version)
    requests = planner.all_requests(chosen, wanted)
    if store is None or not (Path(store) / MANIFEST).exists():
        return requests
    described = {s.name: describe(s, wanted[s.name], size_px=size_px) for s in chosen}
    return missing(Path(store), requests, described=described)


def add(
    pairs: Iterable[tuple[ChipRequest, Chip | Failure]],
    store: str | os.PathLike[str],
    *,
    origin: tuple[str, str],
    bands: Mapping[str, Sequence[str]],
    size_px: int,
    citations: Mapping[str, str] | None = None,
) -> dict[str, Mapping[tuple[str, str], Entry]]:
    """Put chips into a store as they come, for data that cannot be asked for chip by chip.

    What stands already is passed over. An interruption leaves every chip in the index whole.

    Parameters
    ----------
    pairs : requests with their chips or failures, read once and never held
    store : folder of the zarr store, made when absent
    origin : name and version of where the chips come from, as an archive would give them
    bands : bands by source; these sources are in the store, and no others come
    size_px : int, pixels of 10 m a side; low-resolution sources cover the same ground at 160 m
    citations : how to cite each network, kept in the manifest

    Returns
    -------
    What the store knows of each chip by source, and by scene and station

    Raises
    ------
    StoreError
        As ``build``.
    """
    name, version = origin
    content: dict = {"archive": {"name": name, "version": version}, "size_px": size_px, "join": {}}
    content["sources"] = {
        s: describe(catalogue.get(s), list(names), size_px=size_px) for s, names in bands.items()
    }
    content["networks"] = dict(citations or {})
    path = Path(store)
    with _full_disk_is_named(path), _held(path):
        writer = Writer(path, prepare(path, content)["sources"], [])
        writer.take(pairs)
    return {name: ledger.entries for name, ledger in writer.ledgers.items()}


def _check_limit(limit: int | None) -> None:
    if limit is not None and not (isinstance(limit, Integral) and limit >= 0):
        raise ParameterError(
            f"limit is how many chips to ask for at most: None or a whole number from 0 on; found "
            f"{limit!r}."
        )


@contextlib.contextmanager
def _full_disk_is_named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        raise StoreError(
            f"The disk is full while writing {path}. Every chip in its index is whole; free some "
            "space and call chips.build again: it goes on where it stopped."
        ) from error


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(sole_builder(path))
        except OSError as error:
            if isinstance(error, StoreError) or error.errno in _DISK_FULL:
                raise
            raise StoreError(
                f"The folder {path} of the store cannot be made or written ({error}). Name a "
                "folder in a place that you may write to."
            ) from error
        yield


def verify(store: str | os.PathLike[str], *, progress: bool = False) -> pd.DataFrame:
    """Read every chip, compare it with its SHA-256, and mark what differs to be fetched again.

    Returns
    -------
    DataFrame with source, scene_id, station_id and reason of each damaged chip; the next
    ``build`` rebuilds them.

    Raises
    ------
    StoreError
        When there is no store, or one of another format version, or a build is at work on a
        damaged one.
    """
    chips, damaged = open_store(store), []
    for name in chips.sources:
        found = _damaged(chips, name, progress=progress)
        if found:
            log.warning("%s: %d damaged chips of %s", chips.path, len(found), name)
            _mark(chips, name, found)
        damaged += [(name, *entry.key, DAMAGED) for entry in found]
    return pd.DataFrame(damaged, columns=["source", "scene_id", "station_id", "reason"])


def _damaged(chips: ChipStore, name: str, *, progress: bool) -> list[Entry]:
    kept = [e for e in Ledger(chips.path, name).entries.values() if e.data_sha256]
    found = []
    for entry in tqdm(kept, disable=not progress, desc=name, unit="chip"):
        with contextlib.suppress(StoreError):
            if sha256(chips.shards(name).read(entry.row)) == entry.data_sha256:
                continue
        found.append(entry)
    return found


def _mark(chips: ChipStore, name: str, found: list[Entry]) -> None:
    """Have the chips fetched again; a store without damage is only read, not held."""
    with _held(chips.path):
        ledger = Ledger(chips.path, name)
        for entry in found:
            mine = ledger.entries[entry.key]
            mine.data_sha256, mine.reason, mine.permanent = "", DAMAGED, False
        ledger.save()

"""Reading a store: chips by name for people, packed crops by row for loaders."""

import hashlib
import os
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from soilkit.chips.arrays import Shards
from soilkit.chips.manifest import Ledger, read_manifest, sha256
from soilkit.chips.packing import Packing
from soilkit.contracts import Chip
from soilkit.errors import SceneNotFoundError, StoreError, UnknownNameError


class ChipStore:
    """A store that is open for reading; it holds no open file and may be sent to other processes.

    Attributes
    ----------
    path : Path
    manifest : dict, the content of ``manifest.json``
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self.manifest: dict[str, Any] = read_manifest(self.path)
        self._ledgers: dict[str, Ledger] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "manifest": self.manifest, "_ledgers": {}}

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of the sources in the store."""
        return tuple(self.manifest["sources"])

    def bands(self, source: str) -> tuple[str, ...]:
        """The bands of a source, in the order of its chips."""
        return tuple(self._described(source)["bands"])

    def size_px(self, source: str) -> int:
        """The side of a source's chips, pixels."""
        return int(self._described(source)["size_px"])

    def packing(self, source: str) -> Packing:
        """How a source's integers become values."""
        described = self._described(source)
        return Packing(described["scale_factor"], described["add_offset"])

    def index(self, source: str) -> pd.DataFrame:
        """One row a chip: scene_id, station_id, row, valid_fraction, data_sha256, reason, place."""
        return self._ledger(source).table()

    @cached_property
    def data_hash(self) -> str:
        """SHA-256 over what all chips hold, hex: equal for equal content in any order."""
        digest = hashlib.sha256()
        for source in sorted(self.sources):
            entries = self._ledger(source).entries
            for key in sorted(entries):
                entry = entries[key]
                digest.update("\n".join((source, *key, entry.data_sha256, "")).encode())
        return digest.hexdigest()

    def read(self, source: str, scene_id: str, station_id: str) -> Chip:
        """The chip of a scene at a station, in the source's stored values.

        Raises
        ------
        UnknownNameError
            For a source that the store lacks.
        SceneNotFoundError
            For a chip that the store lacks, with the reason where it knows one.
        StoreError
            For a damaged one.
        """
        row = int(self.rows(source, [scene_id], station_ids=[station_id])[0])
        entry = self._ledger(source).entries[(scene_id, station_id)]
        packed = self.shards(source).read(row)
        if sha256(packed) != entry.data_sha256:
            raise StoreError(
                f"{source} {scene_id} at {station_id} is damaged: its pixels do not match their "
                "checksum. Run chips.verify on the store, then chips.build again."
            )
        grid = entry.grid(self.size_px(source))
        return Chip(self.packing(source).unpack(packed), self.bands(source), grid)

    def rows(
        self, source: str, scene_ids: Iterable[str], *, station_ids: Iterable[str]
    ) -> np.ndarray:
        """Where chips lie in the source's array, (chip,) int64.

        Raises
        ------
        SceneNotFoundError
            Naming the first chip that the store lacks.
        """
        entries = self._ledger(source).entries
        found = []
        for key in zip(map(str, scene_ids), map(str, station_ids), strict=True):
            entry = entries.get(key)
            if entry is None or not entry.data_sha256:
                why = entry.reason if entry else "never asked for"
                raise SceneNotFoundError(
                    f"{self.path} has no {source} chip of scene {key[0]} at {key[1]} ({why}). "
                    "Build it with chips.build, and use the samples that it returns."
                )
            found.append(entry.row)
        return np.array(found, dtype=np.int64)

    def shards(self, source: str) -> Shards:
        """The source's array, for packed crops by row."""
        described = self._described(source)
        where = self.path / source / "values"
        return Shards(where, len(described["bands"]), described["size_px"])

    def _described(self, source: str) -> dict[str, Any]:
        if source not in self.manifest["sources"]:
            raise UnknownNameError(
                f"{self.path} holds no chips of {source!r}; it has {', '.join(self.sources)}. "
                "Build it with that source."
            )
        return self.manifest["sources"][source]

    def _ledger(self, source: str) -> Ledger:
        self._described(source)
        if source not in self._ledgers:
            self._ledgers[source] = Ledger(self.path, source)
        return self._ledgers[source]


def open_store(path: str | os.PathLike[str]) -> ChipStore:
    """Open a store for reading.

    Raises
    ------
    StoreError
        When there is none, or it is damaged or of another format version.
    """
    return ChipStore(path)

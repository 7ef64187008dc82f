"""What every kind of STAC catalogue is asked for, and how its items are kept."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import numpy as np

from soilkit.archives.stac.geometry import Box
from soilkit.files import write_text_whole

Item = dict[str, Any]


class Shelf(Protocol):
    """Items by place and time, or by id; items are GeoJSON with absolute links to their assets."""

    catalogue_id: str
    collections: Mapping[str, Mapping[str, Any]]

    def fingerprint(self) -> str:
        """What decides the data, as far as the catalogue can tell."""
        ...

    def search(
        self, collections: Sequence[str], *, box: Box, period: tuple[Any, Any] | None
    ) -> list[Item]:
        """Items that may meet a box (degrees) and a period (UTC); some more do no harm."""
        ...

    def fetch(self, collections: Sequence[str], ids: Sequence[str]) -> list[Item]:
        """Items by id; those that do not exist are left out."""
        ...


class KeptItems:
    """A static catalogue's items in memory, or an API's items of this session and of a cache."""

    def __init__(self, items: Iterable[Item] = (), *, folder: Path | None = None) -> None:
        self._items: dict[tuple[str, str], Item] = {}
        self._folder = folder
        self.add(items)

    def add(self, items: Iterable[Item]) -> None:
        """Keep items, on disk too where there is a folder."""
        for item in items:
            key = (str(item.get("collection") or ""), str(item["id"]))
            if key not in self._items and self._folder:
                _write(self._path(key), item)
            self._items[key] = item

    def get(self, collections: Sequence[str], item_id: str) -> Item | None:
        """The item of that id in one of the collections."""
        for collection in collections:
            key = (collection, item_id)
            path = self._path(key)
            if key not in self._items and path and path.exists():
                self._items[key] = json.loads(path.read_text(encoding="utf-8"))
            if key in self._items:
                return self._items[key]
        return None

    def __iter__(self):
        return iter(self._items.values())

    def _path(self, key: tuple[str, str]) -> Path | None:
        if self._folder is None:
            return None
        return self._folder / quote(key[0] or "_", safe="") / f"{quote(key[1], safe='')}.json"


def _write(path: Path | None, item: Item) -> None:
    if path is not None:
        write_text_whole(path, json.dumps(item))


def boxes(items: Iterable[Item]) -> np.ndarray:
    """Bounding boxes, (item, 4): west, south, east, north; the whole Earth where unknown."""
    found = [item.get("bbox") or (-180, -90, 180, 90) for item in items]
    return np.array([(*b[:2], *b[len(b) // 2 :][:2]) for b in found], dtype=float).reshape(-1, 4)


def digest(words: Any) -> str:
    """Twelve letters that change when any of the words does."""
    text = json.dumps(words, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]

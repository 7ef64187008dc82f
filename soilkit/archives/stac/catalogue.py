"""All of pystac: a static catalogue on disk, read whole when it is first needed."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from soilkit.archives.stac.geometry import Box, spans
from soilkit.archives.stac.shelf import Item, KeptItems, boxes
from soilkit.errors import CatalogueError

ROOT = "catalog.json"
_BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError)  # what pystac lets through
_DATES = ("datetime", "start_datetime", "end_datetime", "updated")


class StaticCatalogue:
    """A catalogue of files: ``catalog.json``, its collections and their items.

    Raises
    ------
    CatalogueError
        When there is no catalogue, or one of its files is absent or broken.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = _root(Path(path))
        root = _read(self.path)
        self.catalogue_id = str(root.id)
        self._found = list(_walk(root, str(self.path), met=set()))
        self.collections: Mapping[str, Mapping[str, Any]] = {
            **{str(item["collection"]): {} for kind, item in self._found if kind == "item"},
            **{str(one["id"]): one for kind, one in self._found if kind == "collection"},
        }

    @cached_property
    def _items(self) -> dict[str, list[Item]]:
        by_collection: dict[str, list[Item]] = {}
        for kind, item in self._found:
            if kind == "item":
                by_collection.setdefault(str(item["collection"]), []).append(item)
        return by_collection

    @cached_property
    def _boxes(self) -> dict[str, np.ndarray]:
        return {name: boxes(items) for name, items in self._items.items()}

    @cached_property
    def _by_id(self) -> KeptItems:
        return KeptItems(item for items in self._items.values() for item in items)

    def fingerprint(self) -> str:
        """The ids and times of all items."""
        rows = [
            [item["collection"], item["id"], *(item["properties"].get(d) for d in _DATES)]
            for items in self._items.values()
            for item in items
        ]
        return json.dumps(sorted(rows, key=str))

    def search(
        self, collections: Sequence[str], *, box: Box, period: tuple[Any, Any] | None
    ) -> list[Item]:
        """Items whose bounding box meets the box, whatever their time."""
        found: list[Item] = []
        for name in collections:
            west, south, east, north = self._boxes.get(name, np.empty((0, 4))).T
            in_line = west > east  # across 180 degrees
            for first, last in spans(box):
                in_line |= (west <= last) & (east >= first)
            near = in_line & (south <= box[3]) & (north >= box[1])
            found += [self._items[name][i] for i in np.flatnonzero(near)]
        return found

    def fetch(self, collections: Sequence[str], ids: Sequence[str]) -> list[Item]:
        """Items by id."""
        found = (self._by_id.get(collections, one) for one in ids)
        return [item for item in found if item is not None]


def _root(path: Path) -> Path:
    file = path / ROOT if path.is_dir() else path
    if not file.is_file():
        raise CatalogueError(
            f"There is no STAC catalogue at {path}: wanted a {ROOT}, or the folder that holds it. "
            "Give the file's path when it is named otherwise, or an API's address (https://...)."
        )
    return file


def _broken(path: str, error: Exception) -> CatalogueError:
    first = error.__cause__ or error
    said = str(first).splitlines()[0] if str(first) else ""
    return CatalogueError(
        f"{path} cannot be read as STAC ({type(first).__name__}: {said}). Repair or remove this "
        "file and the link to it."
    )


def _read(path: Path) -> Any:
    import pystac

    try:
        found = pystac.read_file(str(path))
        if not isinstance(found, pystac.Catalog):
            raise ValueError("it is an item, no catalogue")
        return found
    except (*_BROKEN, pystac.STACError, pystac.STACTypeError) as error:
        raise _broken(str(path), error) from error


def _walk(catalogue: Any, path: str, *, met: set[str]) -> Iterator[tuple[str, Item]]:
    """Every collection and item below a catalogue once, in the order of its links.

    Items are read without the catalogue that links to them: pystac searches all its links for each.
    """
    import pystac

    if isinstance(catalogue, pystac.Collection):
        yield "collection", catalogue.to_dict(include_self_link=False, transform_hrefs=False)
    met.add(path)
    for link in catalogue.get_links():
        if link.rel not in ("item", "child"):
            continue
        href = pystac.utils.make_absolute_href(str(link.href), path)
        if href in met:
            continue  # linked to twice, or a way back
        met.add(href)
        try:
            found = _item(href) if link.rel == "item" else pystac.read_file(href)
            plain = _plain(found, catalogue) if link.rel == "item" else {}
        except (*_BROKEN, pystac.STACError, pystac.STACTypeError) as error:
            raise _broken(href, error) from error
        if link.rel == "item":
            yield "item", plain
        else:
            yield from _walk(found, href, met=met)


def _item(href: str) -> Any:
    """An item of any version; without a copy of its words, of which a catalogue has many."""
    import pystac

    words = pystac.StacIO.default().read_json(href)
    return pystac.Item.from_dict(words, href=href, migrate=True, preserve_dict=False)


def _plain(item: Any, parent: Any) -> Item:
    """An item as GeoJSON, in the collection or else the catalogue that links to it."""
    assets = {
        key: {**asset.to_dict(), "href": asset.get_absolute_href() or asset.href}
        for key, asset in item.assets.items()
    }
    return {
        "id": item.id,
        "collection": item.collection_id or parent.id,
        "geometry": item.geometry,
        "bbox": item.bbox,
        "properties": item.properties,
        "assets": assets,
    }

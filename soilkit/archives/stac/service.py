"""All of pystac-client: a STAC API, asked by place and time."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from soilkit.archives.stac.geometry import Box
from soilkit.archives.stac.shelf import Item, KeptItems
from soilkit.errors import CatalogueError

PAGE = 100  # items a page; most services allow more, some break on it
IDS_A_SEARCH = 50


class Service:
    """A STAC API; what it was once asked for is not asked again.

    Parameters
    ----------
    url : address of the API's root
    headers : sent with every request, such as an API key
    timeout_s : float, s, for one request
    folder : where items are kept for other sessions

    Raises
    ------
    CatalogueError
        When the service cannot be reached or is none.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
        folder: Path | None = None,
    ) -> None:
        from pystac_client import Client

        self.url, self.timeout_s = url, timeout_s
        self._kept = KeptItems(folder=folder)
        try:
            self._client = Client.open(url, headers=dict(headers or {}), timeout=timeout_s)
            self.catalogue_id = str(self._client.id)
            self.collections: Mapping[str, Mapping[str, Any]] = {
                one.id: one.to_dict(include_self_link=False, transform_hrefs=False)
                for one in self._client.get_collections()
            }
        except Exception as error:  # pystac-client hands on whatever json or requests raised
            raise self._unreachable("its collections", error) from error
        if not self._client.get_links("search"):
            raise CatalogueError(
                f"{url} is no API: it has no link to a search. Download a static catalogue with "
                "its assets, and give the path of its catalog.json."
            )

    def fingerprint(self) -> str:
        """The address: nobody can list a whole service."""
        return self.url

    def search(
        self, collections: Sequence[str], *, box: Box, period: tuple[Any, Any] | None
    ) -> list[Item]:
        """Items that meet the box and the period, page by page."""
        words: dict[str, Any] = {"collections": list(collections), "bbox": list(box)}
        if period is not None:
            words["datetime"] = "/".join(f"{np.datetime64(t, 's')}Z" for t in period)
        return self._ask(words)

    def fetch(self, collections: Sequence[str], ids: Sequence[str]) -> list[Item]:
        """Items by id, from what is kept or else from the service, some at a time."""
        missing = [one for one in ids if self._kept.get(collections, one) is None]
        for first in range(0, len(missing), IDS_A_SEARCH):
            some = missing[first : first + IDS_A_SEARCH]
            self._ask({"collections": list(collections), "ids": some})
        found = (self._kept.get(collections, one) for one in ids)
        return [item for item in found if item is not None]

    def _ask(self, words: dict[str, Any]) -> list[Item]:
        try:
            search = self._client.search(limit=PAGE, **words)
            found = list(_absolute(search.items_as_dicts()))
        except Exception as error:  # see above
            raise self._unreachable(f"{', '.join(words['collections'])}", error) from error
        self._kept.add(found)
        return found

    def _unreachable(self, what: str, error: Exception) -> CatalogueError:
        said = str(error).strip().splitlines()[0] if str(error).strip() else ""
        return CatalogueError(
            f"The STAC service {self.url} did not answer when asked for {what} "
            f"({type(error).__name__}: {said[:300]}). Wanted an answer within {self.timeout_s:g} s:"
            " check the address and the network, then try again."
        )


def _absolute(items: Iterable[Item]) -> Iterable[Item]:
    """Items whose assets can be opened: links are relative to the item's own address."""
    from urllib.parse import urljoin

    for item in items:
        base = next((k["href"] for k in item.get("links", []) if k.get("rel") == "self"), "")
        assets = {
            key: {**asset, "href": urljoin(base, asset["href"])}
            for key, asset in (item.get("assets") or {}).items()
            if asset.get("href")
        }
        yield {**item, "assets": assets}

"""What an exported item, collection and catalogue say of themselves, as STAC 1.1 JSON."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial import ConvexHull, QhullError

from soilkit import grids, sources
from soilkit.archives.stac.shelf import digest
from soilkit.contracts import Grid
from soilkit.files import write_text_whole
from soilkit.sources import Source

STAC_VERSION = "1.1.0"
EXTENSIONS = [
    f"https://stac-extensions.github.io/{name}/schema.json"
    for name in ("eo/v1.1.0", "sat/v1.0.0", "sar/v1.0.0", "projection/v2.0.0")
]
SYNTHETIC = "Synthetic: made by the soilkit world, no observation of the real Earth."
PROVIDERS = [{"name": "soilkit synthetic", "roles": ["producer"], "description": SYNTHETIC}]
GEOTIFF = "image/tiff; application=geotiff; profile=cloud-optimized"


def slug(name: str) -> str:
    """A name that may stand in a file name and tells its owner; other names give other slugs.

    Examples
    --------
    >>> slug("TxSON__CR200-1"), slug("A__b c")
    ('TxSON__CR200-1', 'A__b-c-e4efc978')
    """
    clean = re.sub(r"[^A-Za-z0-9._-]", "-", name)
    return clean if clean == name else f"{clean}-{digest(name)[:8]}"


def footprint(known: np.ndarray, grid: Grid) -> dict[str, Any]:
    """The polygon around the pixels that have data, longitude and latitude.

    ``known`` is (row, col) bool. A swath's edge is straight over a chip, so that the convex hull
    of its pixels is where they are.
    """
    rows = np.flatnonzero(known.any(axis=1))
    first = known[rows].argmax(axis=1)
    last = known.shape[1] - known[rows, ::-1].argmax(axis=1)  # one beyond the last known pixel
    corners = np.concatenate([[rows + i, cols] for i in (0, 1) for cols in (first, last)], axis=1).T
    try:
        corners = corners[ConvexHull(corners).vertices]  # counter-clockwise in (row, col)
    except QhullError:
        corners = np.array([[0, 0], [grid.height, 0], [grid.height, grid.width], [0, grid.width]])
    x = grid.left_m + corners[:, 1] * grid.pixel_size_m
    y = grid.top_m - corners[:, 0] * grid.pixel_size_m
    ring = np.stack(grids.transformer(grid.crs, "EPSG:4326").transform(x, y), axis=1)
    (ax, ay), (bx, by) = ring[1] - ring[0], ring[2] - ring[1]
    if ax * by < ay * bx:
        ring = ring[::-1]  # GeoJSON rings run counter-clockwise
    vertices = np.round(np.vstack([ring, ring[:1]]), 7).tolist()
    return {"type": "Polygon", "coordinates": [vertices]}


def item(
    item_id: str, source: Source, *, row: Any, place: tuple[Mapping, Grid], assets: Mapping
) -> dict[str, Any]:
    """One item.

    Parameters
    ----------
    item_id : str
    source : Source
    row : a row of the scenes table
    place : (geometry, grid) of its pixels
    assets : {key: asset}
    """
    area, grid = place
    ring = np.array(area["coordinates"][0])
    links = [("root", "../catalog.json"), ("parent", "./collection.json")]
    links += [("collection", "./collection.json")]
    return {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": EXTENSIONS,
        "id": item_id,
        "collection": source.name,
        "geometry": area,
        "bbox": [*ring.min(axis=0).tolist(), *ring.max(axis=0).tolist()],
        "properties": {**_times(row), **_imaging(row, source), **_projection(grid)},
        "links": [{"rel": rel, "href": href, "type": "application/json"} for rel, href in links],
        "assets": dict(assets),
    }


def _times(row: Any) -> dict[str, Any]:
    start, end = (f"{pd.Timestamp(t).isoformat()}Z" for t in (row.start, row.end))
    return {"datetime": end, "start_datetime": start, "end_datetime": end}


def _imaging(row: Any, source: Source) -> dict[str, Any]:
    words = {
        "title": f"Synthetic {source.title}",
        "soilkit:scene_id": str(row.scene_id),
        "soilkit:synthetic": True,
    }
    if source.name == "sentinel1":
        words |= {"sar:instrument_mode": "IW", "sar:polarizations": ["VV", "VH"]}
        words |= {"sar:product_type": "GRD", "sar:frequency_band": "C"}
        words["platform"] = f"sentinel-{str(row.scene_id)[1:3].lower()}"
    if row.orbit:
        words["sat:orbit_state"] = str(row.orbit)
    if np.isfinite(row.cloud_fraction):
        words["eo:cloud_cover"] = 100 * float(row.cloud_fraction)
    return words


def _projection(grid: Grid) -> dict[str, Any]:
    transform = [grid.transform[k] for k in range(6)]
    return {
        "proj:code": grid.crs,
        "proj:shape": [grid.height, grid.width],
        "proj:transform": transform,
    }


def asset(href: str, bands: Sequence[Any], *, nodata: Any, dtype: str) -> dict[str, Any]:
    """One file with its bands in their order."""
    return {
        "href": href,
        "type": GEOTIFF,
        "roles": ["data"],
        "title": SYNTHETIC,
        "data_type": dtype,
        "nodata": "nan" if isinstance(nodata, float) and np.isnan(nodata) else nodata,
        "bands": [{"name": band.name, "unit": band.unit} for band in bands],
    }


def write_collection(folder: Path, name: str) -> None:
    """Write ``collection.json`` over all items that stand in its folder."""
    found = sorted(p for p in folder.glob("*.json") if p.name != "collection.json")
    read = [json.loads(path.read_text(encoding="utf-8")) for path in found]
    corners = np.array([one["bbox"] for one in read])
    times = sorted(one["properties"][f"{end}_datetime"] for one in read for end in ("start", "end"))
    source = sources.get(name)
    links = [
        {"rel": "root", "href": "../catalog.json"},
        {"rel": "parent", "href": "../catalog.json"},
    ]
    links += [{"rel": "item", "href": f"./{path.name}"} for path in found]
    box = [*corners[:, :2].min(axis=0).tolist(), *corners[:, 2:].max(axis=0).tolist()]
    words = {
        "type": "Collection",
        "stac_version": STAC_VERSION,
        "id": name,
        "title": f"Synthetic {source.title}",
        "description": f"{SYNTHETIC} In the manner of {source.asset or source.title}.",
        "license": "CC0-1.0",
        "providers": PROVIDERS,
        "extent": {
            "spatial": {"bbox": [box]},
            "temporal": {"interval": [[times[0], times[-1]]]},
        },
        "links": links,
    }
    write_json(folder / "collection.json", words)


def write_catalogue(folder: Path, *, catalogue_id: str) -> Path:
    """Write ``catalog.json`` over all collections in the folder."""
    found = sorted(folder.glob("*/collection.json"))
    words = {
        "type": "Catalog",
        "stac_version": STAC_VERSION,
        "id": catalogue_id,
        "title": "Synthetic soilkit world",
        "description": SYNTHETIC,
        "links": [{"rel": "root", "href": "./catalog.json"}]
        + [{"rel": "child", "href": f"./{path.parent.name}/collection.json"} for path in found],
    }
    path = folder / "catalog.json"
    write_json(path, words)
    return path


def write_json(path: Path, words: Mapping[str, Any]) -> None:
    """Write a file whole or not at all."""
    write_text_whole(path, json.dumps(words, indent=1))

"""The synthetic world as a static STAC catalogue of cloud-optimised GeoTIFFs."""

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial import ConvexHull, QhullError
from tqdm.auto import tqdm

from soilkit import grids, sources
from soilkit.contracts import Chip, ChipRequest, Grid
from soilkit.errors import StoreError
from soilkit.export import rasters
from soilkit.export.archives.stac.catalogue import digest
from soilkit.export.archives.synthetic import SyntheticArchive
from soilkit.export.chips.requests import chip_size
from soilkit.files import write_text_whole
from soilkit.sources import Source
from soilkit.world import World
from soilkit.world.sensors import coarse as products

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


# The synthetic world as a static STAC catalogue of cloud-optimised GeoTIFFs.

log = logging.getLogger(__name__)
SETTINGS = "export.json"
ANCHOR = "sentinel1"
READING_AGE = np.timedelta64(1, "h")  # how old an anchor may be when it is read
MARGIN_M = 160
# What each source's numbers are: everything else is float32 with NaN for no data.
KINDS = {
    "sentinel2": ("uint16", 0),
    "modis_lai": ("uint8", 255),
    "land_cover": ("uint8", 255),
    "QA60": ("uint16", 65535),
}


@dataclass(frozen=True)
class Layout:
    """What is exported, and on which pixels.

    Parameters
    ----------
    sources : names of synthetic sources
    size_px : int, pixels of 10 m a side of the chips that will be cut; files are a little larger
    every : bool
        All time steps; by default only those that a join anchored on Sentinel-1 can use.
    crs : a projected CRS such as "EPSG:32615" for all imagery, on a grid half a pixel off; by
        default each station's UTM zone, on the grid of its chips
    """

    sources: tuple[str, ...] = (
        "sentinel1", "sentinel2", "dem", "soilgrids", "smap", "gldas", "modis_lai",
    )  # fmt: skip
    size_px: int = 256
    every: bool = False
    crs: str | None = None

    def grid(self, place: Any, source: Source) -> Grid:
        """The pixels of a station's files: those of its chips and a margin."""
        size, pixel_m = chip_size(source, self.size_px)
        size += 2 * int(MARGIN_M / pixel_m)
        latitude, longitude = float(place.latitude), float(place.longitude)
        grid = grids.chip_grid(latitude, longitude, size_px=size, pixel_size_m=pixel_m)
        if self.crs is None:
            return grid
        x, y = grids.transformer("EPSG:4326", self.crs).transform(longitude, latitude)
        half = size * pixel_m / 2 + pixel_m / 2
        left, top = (round(v / pixel_m) * pixel_m for v in (x - half, y + half))
        return Grid(self.crs, left + pixel_m / 2, top + pixel_m / 2, pixel_m, size + 1, size + 1)


def export_world(
    archive: SyntheticArchive | World,
    folder: str | os.PathLike[str],
    *,
    stations: pd.DataFrame,
    period: tuple[Any, Any],
    layout: Layout | None = None,
    progress: bool = True,
) -> Path:
    """Write what the synthetic satellites saw of some stations as a static STAC catalogue.

    One collection a source, one item a scene and station (coarse products: one a time step, known
    around the stations), its values as the source stores them. Call it again to go on where it
    stopped, or to add stations, sources and time.

    Parameters
    ----------
    archive : SyntheticArchive, with the revisit that is wanted, or World
    folder : where the catalogue goes
    stations : stations table
    period : (start, end) of the anchor scenes, UTC; other sources reach back by their bounds
    layout : Layout
    progress : whether to show a bar

    Returns
    -------
    path of ``catalog.json``, for ``StacArchive``

    Raises
    ------
    StoreError
        When the folder holds an export of another world or layout.

    Examples
    --------
    ``export_world(archive, "stac", stations=stations, period=("2019-03-01", "2019-07-01"))``
    """
    archive = SyntheticArchive(world=archive) if isinstance(archive, World) else archive
    layout, folder = layout or Layout(), Path(folder)
    _claim(folder, archive, layout)
    work = _Work(archive, folder, stations.drop_duplicates("station_id"), layout)
    jobs = [job for name in layout.sources for job in work.jobs(sources.get(name), period)]
    for job in tqdm(jobs, disable=not progress, unit="item", desc="export"):
        job()
    for name in layout.sources:
        if any((folder / name).glob("*.tif")):
            write_collection(folder / name, name)
    return write_catalogue(folder, catalogue_id=f"soilkit-{archive.world.version}")


def _claim(folder: Path, archive: SyntheticArchive, layout: Layout) -> None:
    """Let only exports of one world on one grid into a folder."""
    mine = {"world": archive.version, "size_px": layout.size_px, "crs": layout.crs}
    path = folder / SETTINGS
    folder.mkdir(parents=True, exist_ok=True)
    if path.exists():
        theirs = json.loads(path.read_text(encoding="utf-8"))
        if theirs != mine:
            raise StoreError(
                f"{folder} holds an export of {theirs}; this one is of {mine}. Choose another "
                "folder, or delete the old export."
            )
    write_json(path, mine)


@dataclass(frozen=True)
class _Work:
    archive: SyntheticArchive
    folder: Path
    places: pd.DataFrame
    layout: Layout

    def jobs(self, source: Source, period: tuple[Any, Any]) -> Iterator[Any]:
        """Functions without arguments, each writing one item that does not stand yet."""
        (self.folder / source.name).mkdir(exist_ok=True)
        table = self._wanted(source, period)
        if source.resolution == "coarse":
            coarse = _Coarse(self, source)
            for row in table.drop_duplicates("scene_id").itertuples():
                if not self._stands(source, str(row.scene_id)):
                    yield lambda row=row: coarse.write(row)
            return
        by_id = {str(place.station_id): place for place in self.places.itertuples()}
        for row in table.sort_values(["station_id", "end"]).itertuples():
            item_id = f"{row.scene_id}_{slug(str(row.station_id))}"
            if not self._stands(source, item_id):
                place = by_id[str(row.station_id)]
                yield lambda row=row, place=place, i=item_id: self._write(i, source, row, place)

    def _stands(self, source: Source, item_id: str) -> bool:
        return (self.folder / source.name / f"{item_id}.json").exists()

    def _wanted(self, source: Source, period: tuple[Any, Any]) -> pd.DataFrame:
        """The scenes that are exported: all of the period, or those near the anchor's."""
        start = pd.Timestamp(period[0]) - pd.Timedelta(READING_AGE)  # the first reading looks back
        end = pd.Timestamp(period[1])
        if source.is_static or source.name == ANCHOR or self.layout.every:
            return self.archive.scenes(self.places, source.name, start, end)
        age = sources.bounds(ANCHOR, [source.name])[source.name]
        table = self.archive.scenes(self.places, source.name, start - age, end + READING_AGE)
        anchors = self.archive.scenes(self.places, ANCHOR, start, end)
        kept = []
        for station, rows in table.groupby("station_id", observed=True):
            times = np.sort(anchors.end[anchors.station_id == station].to_numpy())
            ends = rows.end.to_numpy()
            after = np.searchsorted(times, ends - READING_AGE)  # the first anchor read after it
            near = np.append(times, np.datetime64("NaT"))[after] - ends < age
            kept.append(rows[near])
        return pd.concat(kept) if kept else table

    def _write(self, item_id: str, source: Source, row: Any, place: Any) -> None:
        grid = self.layout.grid(place, source)
        names = tuple(band.name for band in source.bands)
        time = row.end.to_datetime64() if pd.notna(row.end) else np.datetime64("NaT", "us")
        asked = ChipRequest(source.name, str(row.scene_id), str(row.station_id), time, names, grid)
        [(_, chip)] = self.archive.chips([asked])
        if isinstance(chip, Chip):
            self.put(item_id, source, row=row, values=chip.values, grid=grid)
        else:
            log.warning("%s of %s: %s", source.name, row.station_id, chip.reason)

    def put(
        self, item_id: str, source: Source, *, row: Any, values: np.ndarray, grid: Grid
    ) -> None:
        """Write files first, the item last: where it stands, all of it stands."""
        if source.is_static:
            moment = pd.Timestamp(self.archive.world.start)
            row = row._replace(start=moment, end=moment)
        folder = self.folder / source.name
        assets: dict[str, Any] = {}
        kinds = [KINDS.get(b.name, KINDS.get(source.name, ("float32", None))) for b in source.bands]
        for dtype, nodata in dict.fromkeys(kinds):
            mine = [n for n, kind in enumerate(kinds) if kind == (dtype, nodata)]
            bands = [source.bands[n] for n in mine]
            key = "data" if not assets else bands[0].name
            href = f"{item_id}.tif" if not assets else f"{item_id}_{key}.tif"
            rasters.write_cog(
                folder / href,
                _as_stored(values[mine], dtype, nodata),
                grid=grid,
                names=[band.name for band in bands],
                tags={"data": SYNTHETIC, "scene_id": str(row.scene_id)},
            )
            told = np.nan if nodata is None else nodata
            assets[key] = asset(f"./{href}", bands, nodata=told, dtype=dtype)
        area = footprint(np.isfinite(values).any(axis=0), grid)
        words = item(item_id, source, row=row, place=(area, grid), assets=assets)
        write_json(folder / f"{item_id}.json", words)


def _as_stored(values: np.ndarray, dtype: str, nodata: int | None) -> np.ndarray:
    if nodata is None:
        return values.astype(dtype)
    hidden = ~np.isfinite(values)
    numbers = np.where(hidden, nodata, np.rint(values)).astype(dtype)
    return np.ma.MaskedArray(numbers, mask=hidden, fill_value=nodata)


class _Coarse:
    """A coarse product on its own pixels, known around the stations."""

    def __init__(self, work: _Work, source: Source) -> None:
        self.work, self.source = work, source
        self.grid, at = _native(source, work.places)
        x, y = self.grid.x_m[at[1]], self.grid.y_m[at[0]]
        longitude, latitude = grids.transformer(self.grid.crs, "EPSG:4326").transform(x, y)
        cells = products.cells(source.name, longitude, latitude=latitude)
        found = products.product(work.archive.world, source.name, rows=cells[0], cols=cells[1])
        self.at, self.values = at, found.values
        self.column = {str(name): n for n, name in enumerate(found.periods.scene_id)}

    def write(self, row: Any) -> None:
        """One time step."""
        values = np.full((1, self.grid.height, self.grid.width), np.nan, dtype=np.float32)
        values[0, self.at[0], self.at[1]] = self.values[:, self.column[str(row.scene_id)]]
        place = {"row": row, "values": values, "grid": self.grid}
        self.work.put(str(row.scene_id), self.source, **place)


def _native(source: Source, places: pd.DataFrame) -> tuple[Grid, tuple[np.ndarray, np.ndarray]]:
    """The product's own grid around the stations, and the pixels next to one: (rows, cols)."""
    if source.name == "gldas":
        crs, left, top, size = "EPSG:4326", -180.0, 90.0, products.GLDAS_CELL_DEG
    else:
        crs, left, top = grids.EASE2_CRS, grids.EASE2_LEFT_M, grids.EASE2_TOP_M
        size = grids.EASE2_PIXEL_SIZE_M[9]
    lonlat = places.longitude.to_numpy(float), places.latitude.to_numpy(float)
    x, y = grids.transformer("EPSG:4326", crs).transform(*lonlat)
    row, col = (np.floor(v / size).astype(int) for v in (top - np.asarray(y), np.asarray(x) - left))
    around = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)])
    near = np.unique((np.stack([row, col], axis=1)[:, None] + around).reshape(-1, 2), axis=0)
    first, last = near.min(axis=0), near.max(axis=0)
    height, width = (last - first + 1).tolist()
    origin = left + first[1] * size, top - first[0] * size
    rows, cols = (near - first).T
    return Grid(crs, *origin, size, height, width), (rows, cols)

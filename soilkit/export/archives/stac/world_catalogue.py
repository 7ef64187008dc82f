"""The synthetic world as a static STAC catalogue of cloud-optimised GeoTIFFs."""

import argparse
import json
import logging
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial import ConvexHull
from tqdm.auto import tqdm

from soilkit import grids
from soilkit import sources as catalogue
from soilkit.contracts import Chip, ChipRequest, Grid
from soilkit.errors import StoreError
from soilkit.export import insitu, rasters
from soilkit.export.archives.stac.item_search import ROOT, digest
from soilkit.export.archives.synthetic import SyntheticArchive
from soilkit.export.chips.requests import chip_size
from soilkit.files import write_text_whole
from soilkit.sources import Source
from soilkit.world import World
from soilkit.world.sensors import coarse as products

log = logging.getLogger(__name__)
SOURCES = ("sentinel1", "sentinel2", "dem", "soilgrids", "smap", "gldas", "modis_lai")
ANCHOR = "sentinel1"
READING_AGE = np.timedelta64(1, "h")  # how old an anchor may be when it is read
MARGIN_M = 160  # files are so much larger than the chips that will be cut
SYNTHETIC = "Synthetic: made by the soilkit world, no observation of the real Earth."
PROVIDER = {"name": "soilkit synthetic", "roles": ["producer"], "description": SYNTHETIC}
STAC_VERSION = "1.1.0"
SETTINGS, COLLECTION = "export.json", "collection.json"
# What each source's numbers are: everything else is float32 with NaN for no data.
KINDS = {
    "sentinel2": ("uint16", 0),
    "modis_lai": ("uint8", 255),
    "land_cover": ("uint8", 255),
    "QA60": ("uint16", 65535),
}
EXTENSIONS = [
    f"https://stac-extensions.github.io/{name}/schema.json"
    for name in ("eo/v1.1.0", "sat/v1.0.0", "sar/v1.0.0", "projection/v2.0.0")
]
Pixels = tuple[np.ndarray | None, Grid]  # (band, row, col) and where they lie


def export_world(
    archive: SyntheticArchive | World,
    folder: str | os.PathLike[str],
    *,
    stations: pd.DataFrame,
    period: tuple[Any, Any],
    sources: Sequence[str] = SOURCES,
    size_px: int = 256,
    every: bool = False,
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
    sources : names of synthetic sources
    size_px : int, pixels of 10 m a side of the chips that will be cut
    every : all time steps; by default only those that a join anchored on Sentinel-1 can use
    progress : whether to show a bar

    Returns
    -------
    path of ``catalog.json``, for ``StacArchive``

    Raises
    ------
    StoreError
        When the folder holds an export of another world or chip size.
    """
    archive = SyntheticArchive(world=archive) if isinstance(archive, World) else archive
    folder, places = Path(folder), stations.drop_duplicates("station_id")
    _claim(folder, {"world": archive.version, "size_px": size_px})
    for source in map(catalogue.get, sources):
        rows = _wanted(archive, source, places=places, period=period, every=every)
        rows = _without_standing(rows, source, folder / source.name)
        if source.resolution == "coarse":
            pixels_of = _coarse_pixels(archive, source, places)
        else:
            pixels_of = _chip_pixels(archive, source, places, size_px=size_px)
        for row in tqdm(rows.itertuples(), source.name, len(rows), disable=not progress):
            values, grid = pixels_of(row)
            if values is not None:
                moments = (archive.world.start,) * 2 if source.is_static else (row.start, row.end)
                item = _item(source, row, moments=moments, values=values, grid=grid)
                _write_files(folder / source.name, source, item, values=values, grid=grid)
    return _write_catalogue(folder, f"soilkit-{archive.world.version}")


def _claim(folder: Path, settings: dict[str, Any]) -> None:
    """Let only exports of one world and chip size into a folder."""
    path = folder / SETTINGS
    if path.exists() and (standing := json.loads(path.read_text(encoding="utf-8"))) != settings:
        raise StoreError(
            f"{folder} holds an export of {standing}; this one is of {settings}. Choose another "
            "folder, or delete the old export."
        )
    _write_json(path, settings)


def _wanted(
    archive: SyntheticArchive,
    source: Source,
    *,
    places: pd.DataFrame,
    period: tuple[Any, Any],
    every: bool,
) -> pd.DataFrame:
    """The scenes that are exported: all of the period, or those near the anchor's."""
    start = pd.Timestamp(period[0]) - pd.Timedelta(READING_AGE)  # the first reading looks back
    end = pd.Timestamp(period[1])
    if source.is_static or source.name == ANCHOR or every:
        return archive.scenes(places, source.name, start, end)
    age = catalogue.bounds(ANCHOR, [source.name])[source.name]
    table = archive.scenes(places, source.name, start - age, end + READING_AGE)
    anchors = archive.scenes(places, ANCHOR, start, end)
    near = [table.iloc[:0]]
    for station, rows in table.groupby("station_id", observed=True):
        times = np.sort(anchors.end[anchors.station_id == station].to_numpy())
        ends = rows.end.to_numpy()
        after = np.searchsorted(times, ends - READING_AGE)  # the first anchor read after it
        near.append(rows[np.append(times, np.datetime64("NaT"))[after] - ends < age])
    return pd.concat(near)


def _without_standing(table: pd.DataFrame, source: Source, folder: Path) -> pd.DataFrame:
    """The scenes whose items do not stand yet, with their ``item_id``."""
    if source.resolution == "coarse":
        table = table.drop_duplicates("scene_id")
        ids = table.scene_id.astype(str).tolist()
    else:
        table = table.sort_values(["station_id", "end"])
        names = zip(table.scene_id, table.station_id.astype(str), strict=True)
        ids = [f"{scene}_{slug(station)}" for scene, station in names]
    stands = np.array([(folder / f"{one}.json").exists() for one in ids], dtype=bool)
    return table.assign(item_id=ids)[~stands]


def slug(name: str) -> str:
    """A name that may stand in a file name and tells its owner; other names give other slugs.

    Examples
    --------
    >>> slug("TxSON__CR200-1"), slug("A__b c")
    ('TxSON__CR200-1', 'A__b-c-e4efc978')
    """
    clean = re.sub(r"[^A-Za-z0-9._-]", "-", name)
    return clean if clean == name else f"{clean}-{digest(name)[:8]}"


# ---- pixels of a scene ---------------------------------------------------------------------------


def file_grid(latitude: float, longitude: float, *, source: Source, size_px: int) -> Grid:
    """The pixels of a station's files: those of its chips and a margin."""
    size, pixel_m = chip_size(source, size_px)
    size += 2 * int(MARGIN_M / pixel_m)
    return grids.chip_grid(latitude, longitude, size_px=size, pixel_size_m=pixel_m)


def _chip_pixels(
    archive: SyntheticArchive, source: Source, places: pd.DataFrame, *, size_px: int
) -> Callable[[Any], Pixels]:
    names = tuple(band.name for band in source.bands)
    lat_lon = places.set_index("station_id")[["latitude", "longitude"]].astype(float)

    def pixels(row: Any) -> Pixels:
        latitude, longitude = lat_lon.loc[row.station_id]
        grid = file_grid(latitude, longitude, source=source, size_px=size_px)
        time, station = row.end.to_datetime64(), str(row.station_id)
        request = ChipRequest(source.name, str(row.scene_id), station, time, names, grid)
        [(_, chip)] = archive.chips([request])
        if isinstance(chip, Chip):
            return chip.values, grid
        log.warning("%s of %s: %s", source.name, station, chip.reason)
        return None, grid

    return pixels


def _coarse_pixels(
    archive: SyntheticArchive, source: Source, places: pd.DataFrame
) -> Callable[[Any], Pixels]:
    """A product on its own pixels, known around the stations."""
    crs, left, top = grids.EASE2_CRS, grids.EASE2_LEFT_M, grids.EASE2_TOP_M
    size = grids.EASE2_PIXEL_SIZE_M[9]
    if source.name == "gldas":
        crs, left, top, size = "EPSG:4326", -180.0, 90.0, products.GLDAS_CELL_DEG
    lon_lat = places.longitude.to_numpy(float), places.latitude.to_numpy(float)
    x, y = (np.asarray(v) for v in grids.transformer("EPSG:4326", crs).transform(*lon_lat))
    cells = np.stack([np.floor((top - y) / size), np.floor((x - left) / size)], axis=1).astype(int)
    around = np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1]), axis=-1).reshape(-1, 2)
    near = np.unique((cells[:, None] + around).reshape(-1, 2), axis=0)
    first = near.min(axis=0)
    height, width = (near.max(axis=0) - first + 1).tolist()
    grid = Grid(crs, left + first[1] * size, top - first[0] * size, size, height, width)
    rows, cols = (near - first).T
    to_lon_lat = grids.transformer(crs, "EPSG:4326").transform
    longitude, latitude = to_lon_lat(grid.x_m[cols], grid.y_m[rows])
    of_product = products.cells(source.name, longitude, latitude=latitude)
    product = products.product(archive.world, source.name, rows=of_product[0], cols=of_product[1])
    step = {str(name): n for n, name in enumerate(product.periods.scene_id)}

    def pixels(row: Any) -> Pixels:
        values = np.full((1, height, width), np.nan, dtype=np.float32)
        values[0, rows, cols] = product.values[:, step[str(row.scene_id)]]
        return values, grid

    return pixels


# ---- items and files -----------------------------------------------------------------------------


def _item(source: Source, row: Any, *, moments: tuple, values: np.ndarray, grid: Grid) -> dict:
    start, end = (f"{pd.Timestamp(moment).isoformat()}Z" for moment in moments)
    words: dict[str, Any] = {
        "title": f"Synthetic {source.title}",
        "soilkit:scene_id": str(row.scene_id),
        "soilkit:synthetic": True,
        "proj:code": grid.crs,
        "proj:shape": [grid.height, grid.width],
        "proj:transform": list(grid.transform),
    }
    if source.name == ANCHOR:
        words |= {"sar:instrument_mode": "IW", "sar:polarizations": ["VV", "VH"]}
        words |= {"sar:product_type": "GRD", "sar:frequency_band": "C"}
        words["platform"] = f"sentinel-{str(row.scene_id)[1:3].lower()}"
    if row.orbit:
        words["sat:orbit_state"] = str(row.orbit)
    if np.isfinite(row.cloud_fraction):
        words["eo:cloud_cover"] = 100 * float(row.cloud_fraction)
    ring = _footprint(np.isfinite(values).any(axis=0), grid)
    return {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": EXTENSIONS,
        "id": row.item_id,
        "collection": source.name,
        "geometry": {"type": "Polygon", "coordinates": [ring.tolist()]},
        "bbox": [*ring.min(axis=0).tolist(), *ring.max(axis=0).tolist()],
        "properties": {"datetime": end, "start_datetime": start, "end_datetime": end, **words},
        "links": _links(root=f"../{ROOT}", parent=COLLECTION, collection=COLLECTION),
        "assets": {},
    }


def _footprint(known: np.ndarray, grid: Grid) -> np.ndarray:
    """The ring around the pixels that have data, (vertex, 2) longitude and latitude.

    A swath's edge is straight over a chip, so that the convex hull of its pixels, (row, col) bool,
    is where they are.
    """
    known = known if known.any() else np.ones_like(known)
    rows = np.flatnonzero(known.any(axis=1))
    first = known[rows].argmax(axis=1)
    beyond = known.shape[1] - known[rows, ::-1].argmax(axis=1)
    x = np.concatenate([first, first, beyond, beyond])
    corners = np.stack([x, -np.tile([*rows, *(rows + 1)], 2)], axis=1)
    corners = corners[ConvexHull(corners).vertices]  # counter-clockwise, as GeoJSON wants it
    x, y = ((grid.left_m, grid.top_m) + corners * grid.pixel_size_m).T
    ring = np.stack(grids.transformer(grid.crs, "EPSG:4326").transform(x, y), axis=1)
    return np.round([*ring, ring[0]], 7)


def _write_files(folder: Path, source: Source, item: dict, *, values: np.ndarray, grid: Grid):
    """Write a file for each kind of number, the item last: where it stands, all of it stands."""
    kinds = [KINDS.get(b.name, KINDS.get(source.name, ("float32", None))) for b in source.bands]
    for n, (dtype, nodata) in enumerate(dict.fromkeys(kinds)):
        numbers = [k for k, kind in enumerate(kinds) if kind == (dtype, nodata)]
        bands = [source.bands[k] for k in numbers]
        stored, hidden = values[numbers], ~np.isfinite(values[numbers])
        if nodata is not None:
            filled = np.where(hidden, nodata, np.rint(stored)).astype(dtype)
            stored = np.ma.MaskedArray(filled, mask=hidden, fill_value=nodata)
        key = bands[0].name if n else "data"
        href = f"{item['id']}_{key}.tif" if n else f"{item['id']}.tif"
        rasters.write_cog(
            folder / href,
            stored.astype(dtype),
            grid=grid,
            names=[band.name for band in bands],
            tags={"data": SYNTHETIC, "scene_id": item["properties"]["soilkit:scene_id"]},
        )
        item["assets"][key] = {
            "href": f"./{href}",
            "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            "roles": ["data"],
            "title": SYNTHETIC,
            "data_type": dtype,
            "nodata": "nan" if nodata is None else nodata,
            "bands": [{"name": band.name, "unit": band.unit} for band in bands],
        }
    _write_json(folder / f"{item['id']}.json", item)


def _write_catalogue(folder: Path, catalogue_id: str) -> Path:
    """Write ``collection.json`` over the items of each folder, and ``catalog.json`` over these."""
    names = []
    for path in sorted(one for one in folder.iterdir() if one.is_dir()):
        files = sorted(one for one in path.glob("*.json") if one.name != COLLECTION)
        if not files:
            continue
        names.append(path.name)
        read = [json.loads(one.read_text(encoding="utf-8")) for one in files]
        corners, times = (
            np.array([one["bbox"] for one in read]),
            [one["properties"] for one in read],
        )
        box = [*corners[:, :2].min(axis=0).tolist(), *corners[:, 2:].max(axis=0).tolist()]
        span = [min(t["start_datetime"] for t in times), max(t["end_datetime"] for t in times)]
        source = catalogue.get(path.name)
        collection = {
            "type": "Collection",
            "stac_version": STAC_VERSION,
            "id": source.name,
            "title": f"Synthetic {source.title}",
            "description": f"{SYNTHETIC} In the manner of {source.asset or source.title}.",
            "license": "CC0-1.0",
            "providers": [PROVIDER],
            "extent": {"spatial": {"bbox": [box]}, "temporal": {"interval": [span]}},
            "links": _links(root=f"../{ROOT}", parent=f"../{ROOT}")
            + [link for one in files for link in _links(item=f"./{one.name}")],
        }
        _write_json(path / COLLECTION, collection)
    root = {
        "type": "Catalog",
        "stac_version": STAC_VERSION,
        "id": catalogue_id,
        "title": "Synthetic soilkit world",
        "description": SYNTHETIC,
        "links": [link for name in names for link in _links(child=f"./{name}/{COLLECTION}")],
    }
    _write_json(folder / ROOT, root)
    return folder / ROOT


def _links(**targets: str) -> list[dict[str, str]]:
    return [{"rel": rel, "href": href, "type": "application/json"} for rel, href in targets.items()]


def _write_json(path: Path, words: dict[str, Any]) -> None:
    write_text_whole(path, json.dumps(words, indent=1))


def main(arguments: Sequence[str] | None = None) -> None:
    """``python -m soilkit.export.archives.stac.world_catalogue FOLDER``: readings and catalogue."""
    reader = argparse.ArgumentParser(prog="world_catalogue", description=__doc__)
    reader.add_argument("folder", type=Path)
    reader.add_argument("--stations", type=int, default=4)
    reader.add_argument("--start", default="2019-05-01")
    reader.add_argument("--end", default="2019-07-01")
    reader.add_argument("--seed", type=int, default=0)
    given = reader.parse_args(arguments)
    given.folder.mkdir(parents=True, exist_ok=True)
    span = {"start": given.start, "end": given.end}
    archive = SyntheticArchive(seed=given.seed, n_stations=given.stations, **span)
    readings = archive.world.write_ismn(given.folder / "ismn_synthetic.zip")
    period = given.start, given.end
    export_world(archive, given.folder, stations=insitu.read_stations(readings), period=period)


if __name__ == "__main__":
    main()

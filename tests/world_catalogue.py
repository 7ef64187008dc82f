"""The synthetic world as a static STAC catalogue of cloud-optimised GeoTIFFs."""

import argparse
import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
from scipy.spatial import ConvexHull
from tqdm.auto import tqdm

from soilkit import grids
from soilkit import sources as catalogue
from soilkit.contracts import Chip, ChipRequest, Grid
from soilkit.errors import StoreError
from soilkit.export import insitu, rasters
from soilkit.export.archives.stac.item_search import ROOT
from soilkit.export.archives.synthetic import SyntheticArchive
from soilkit.export.chips.requests import chip_size
from soilkit.files import write_text_whole
from soilkit.sources import Source
from soilkit.world.sensors.coarse import GLDAS_CELL_DEG

log = logging.getLogger(__name__)
SOURCES = ("sentinel1", "sentinel2", "dem", "soilgrids", "smap", "gldas", "modis_lai")
ANCHOR = "sentinel1"
READING_AGE = np.timedelta64(1, "h")  # how old an anchor may be when it is read
MARGIN_M = 160  # files are so much larger than the chips that will be cut
SYNTHETIC = "Synthetic: made by the soilkit world, no observation of the real Earth."
PROVIDER = {"name": "soilkit synthetic", "roles": ["producer"], "description": SYNTHETIC}
STAC_VERSION = "1.1.0"
SETTINGS, COLLECTION = "export.json", "collection.json"
FORMAT = 2  # of an export: raised when what it holds would differ
EXTENSIONS = [
    f"https://stac-extensions.github.io/{name}/schema.json"
    for name in ("eo/v1.1.0", "sat/v1.0.0", "sar/v1.0.0", "projection/v2.0.0")
]
Pixels = tuple[np.ndarray | None, Grid]  # (band, row, col) and where they lie


def export_world(
    archive: SyntheticArchive,
    folder: str | os.PathLike[str],
    *,
    stations: pd.DataFrame,
    period: tuple[Any, Any],
    sources: Sequence[str] = SOURCES,
    size_px: int = 256,
    progress: bool = True,
) -> Path:
    """Write what the synthetic satellites saw of some stations as a static STAC catalogue.

    One collection a source, one item a scene and station (coarse products: one a time step, known
    at the stations), values as the source stores them, float32, NaN where there is no data. Call it
    again to go on where it stopped, or to add stations, sources and time.

    Parameters
    ----------
    archive : SyntheticArchive, with the revisit that is wanted
    period : (start, end) of the anchor scenes, UTC; other sources reach back by their bounds
    size_px : int, pixels of 10 m a side of the chips that will be cut

    Returns
    -------
    path of ``catalog.json``, for ``StacArchive``

    Raises
    ------
    StoreError
        When the folder holds an export of another world, chip size or format, or the disk refuses.
    """
    folder, places = Path(folder), stations.drop_duplicates("station_id")
    settings = {"format": FORMAT, "world": archive.version, "size_px": size_px}
    standing = folder / SETTINGS
    if standing.exists() and (other := _read_json(standing)) != settings:
        raise StoreError(
            f"{folder} holds an export of {other}; this one is of {settings}. Choose another "
            "folder, or delete the old export."
        )
    _write_json(standing, settings)
    for source in map(catalogue.get, sources):
        rows = _missing(archive, source, folder / source.name, places=places, period=period)
        if source.resolution == "coarse":
            pixels_of = _coarse_pixels(archive, source, places)
        else:
            pixels_of = _chip_pixels(archive, source, places, size_px=size_px)
        for row in tqdm(rows.itertuples(), source.name, len(rows), disable=not progress):
            values, grid = pixels_of(row)
            if values is not None:
                moments = (archive.world.start,) * 2 if source.is_static else (row.start, row.end)
                item = _item(source, row, moments=moments, values=values, grid=grid)
                tags = {"data": SYNTHETIC, "scene_id": str(row.scene_id)}
                place, names = folder / source.name, [band.name for band in source.bands]
                rasters.write_cog(
                    place / f"{row.item_id}.tif", values, grid=grid, names=names, tags=tags
                )
                # the item last: where it stands, all of it stands
                _write_json(place / f"{row.item_id}.json", item)
    return _write_catalogue(folder, f"soilkit-{archive.world.version}")


def _missing(
    archive: SyntheticArchive,
    source: Source,
    folder: Path,
    *,
    places: pd.DataFrame,
    period: tuple[Any, Any],
) -> pd.DataFrame:
    """The scenes that a join anchored on Sentinel-1 may use and whose items do not stand yet."""
    start, end = pd.Timestamp(period[0]) - READING_AGE, pd.Timestamp(period[1])
    if source.name == ANCHOR or source.is_static:
        table = archive.scenes(places, source.name, start, end)
    else:  # young enough when the first anchor after it is read, up to an hour later
        age = catalogue.bounds(ANCHOR, [source.name])[source.name]
        table = archive.scenes(places, source.name, start - age, end + READING_AGE)
        table = table.assign(read=table.end - READING_AGE).sort_values("read", kind="stable")
        anchors = archive.scenes(places, ANCHOR, start, end)[["station_id", "end"]]
        anchors = anchors.rename(columns={"end": "anchor_end"}).sort_values("anchor_end")
        on = {"left_on": "read", "right_on": "anchor_end", "by": "station_id"}
        table = pd.merge_asof(
            table.astype({"station_id": str}),
            anchors.astype({"station_id": str}),
            direction="forward",
            **on,
        )
        table = table[table.anchor_end - table.end < age]
    ids = table.scene_id.astype(str)
    if source.resolution == "coarse":
        table = table.assign(item_id=ids).drop_duplicates("scene_id")
    else:
        names = [quote(station, safe="") for station in table.station_id.astype(str)]
        table = table.assign(item_id=ids + "_" + names).sort_values(["station_id", "end"])
    return table[[not (folder / f"{one}.json").exists() for one in table.item_id]]


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
    """A product on its own pixels, known where a station stands."""
    crs, left, top = grids.EASE2_CRS, grids.EASE2_LEFT_M, grids.EASE2_TOP_M
    size = grids.EASE2_PIXEL_SIZE_M[9]
    if source.name == "gldas":
        crs, left, top, size = "EPSG:4326", -180.0, 90.0, GLDAS_CELL_DEG
    lon_lat = places.longitude.to_numpy(float), places.latitude.to_numpy(float)
    x, y = (np.asarray(v) for v in grids.transformer("EPSG:4326", crs).transform(*lon_lat))
    cells = np.stack([np.floor((top - y) / size), np.floor((x - left) / size)], axis=1).astype(int)
    first = cells.min(axis=0)
    height, width = (cells.max(axis=0) - first + 1).tolist()
    grid = Grid(crs, left + first[1] * size, top - first[0] * size, size, height, width)
    cell_of = dict(zip(places.station_id.astype(str), (cells - first).tolist(), strict=True))
    series = archive.series(places, source.name, archive.world.start, archive.world.end)
    by_scene = series.groupby(series.scene_id.astype(str))

    def pixels(row: Any) -> Pixels:
        values = np.full((1, height, width), np.nan, dtype=np.float32)
        known = by_scene.get_group(str(row.scene_id))
        at = np.array([cell_of[station] for station in known.station_id])
        values[0, at[:, 0], at[:, 1]] = known[source.bands[0].name]
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
    data = {
        "href": f"./{row.item_id}.tif",
        "type": "image/tiff; application=geotiff; profile=cloud-optimized",
        "roles": ["data"],
        "title": SYNTHETIC,
        "data_type": "float32",
        "nodata": "nan",
        "bands": [{"name": band.name, "unit": band.unit} for band in source.bands],
    }
    return {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": EXTENSIONS,
        "id": row.item_id,
        "collection": source.name,
        "geometry": {"type": "Polygon", "coordinates": [ring.tolist()]},
        "bbox": [*ring.min(axis=0).tolist(), *ring.max(axis=0).tolist()],
        "properties": {"datetime": end, "start_datetime": start, "end_datetime": end, **words},
        "links": [_link("collection", COLLECTION)],
        "assets": {"data": data},
    }


def _footprint(known: np.ndarray, grid: Grid) -> np.ndarray:
    """The ring around the pixels that have data, (row, col) bool, in degrees, (vertex, 2).

    A swath's edge is straight over a chip, so that their convex hull is where they are.
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


def _write_catalogue(folder: Path, catalogue_id: str) -> Path:
    """Write ``collection.json`` over the items of each folder, and ``catalog.json`` over these."""
    children = []
    for path in sorted(one for one in folder.iterdir() if one.is_dir()):
        files = sorted(one for one in path.glob("*.json") if one.name != COLLECTION)
        if not files:
            continue
        items = [_read_json(one) for one in files]
        boxes, times = [one["bbox"] for one in items], [one["properties"] for one in items]
        box = [*np.min(boxes, axis=0).tolist()[:2], *np.max(boxes, axis=0).tolist()[2:]]
        span = [min(t["start_datetime"] for t in times), max(t["end_datetime"] for t in times)]
        source = catalogue.get(path.name)
        collection = {
            "type": "Collection",
            "id": source.name,
            "title": f"Synthetic {source.title}",
            "description": f"{SYNTHETIC} In the manner of {source.asset or source.title}.",
            "license": "CC0-1.0",
            "providers": [PROVIDER],
            "extent": {"spatial": {"bbox": [box]}, "temporal": {"interval": [span]}},
            "links": [_link("root", f"../{ROOT}"), *(_link("item", one.name) for one in files)],
        }
        _write_json(path / COLLECTION, collection | {"stac_version": STAC_VERSION})
        children.append(_link("child", f"{path.name}/{COLLECTION}"))
    root = {
        "type": "Catalog",
        "stac_version": STAC_VERSION,
        "id": catalogue_id,
        "title": "Synthetic soilkit world",
        "description": SYNTHETIC,
        "links": children,
    }
    _write_json(folder / ROOT, root)
    return folder / ROOT


def _link(rel: str, href: str) -> dict[str, str]:
    return {"rel": rel, "href": f"./{href}", "type": "application/json"}


def _write_json(path: Path, words: dict[str, Any]) -> None:
    write_text_whole(path, json.dumps(words, indent=1))


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} is damaged ({error}). Delete it, and export again.") from error


def main(arguments: Sequence[str] | None = None) -> None:
    """``python -m tests.world_catalogue FOLDER``: catalogue, readings (ISMN zip, csv), a field."""
    reader = argparse.ArgumentParser(prog="world_catalogue", description=__doc__)
    reader.add_argument("folder", type=Path)
    options = {"stations": 4, "start": "2019-05-01", "end": "2019-07-01", "seed": 0}
    for name, default in options.items():
        reader.add_argument(f"--{name}", type=type(default), default=default)
    given = reader.parse_args(arguments)
    given.folder.mkdir(parents=True, exist_ok=True)
    start, end = given.start, given.end
    archive = SyntheticArchive(seed=given.seed, n_stations=given.stations, start=start, end=end)
    readings = archive.world.write_ismn(given.folder / "ismn_synthetic.zip")
    stations = insitu.read_stations(readings)
    write_probes(given.folder / "probes.csv", readings, stations=stations)
    write_field(given.folder / "field.geojson", stations.iloc[0])
    export_world(archive, given.folder, stations=stations, period=(start, end))


def write_probes(path: Path, readings: Path, *, stations: pd.DataFrame) -> None:
    """The surface readings as a group's own csv: local times, per cent, its own column names."""
    sites = stations.drop_duplicates("station_id", keep="first").set_index("sensor_id")
    table = insitu.read_ismn(readings).astype({"sensor_id": str})
    table = table.join(sites[["station", "latitude", "longitude"]], on="sensor_id", how="inner")
    local = table["time"].dt.tz_localize("UTC").dt.tz_convert("America/Chicago")
    columns = {"site": table["station"], "when": local.dt.strftime("%Y-%m-%d %H:%M:%S%z")}
    columns |= {"vwc": (100 * table["soil_moisture_m3_m3"].astype(float)).round(2)}
    columns |= {"lat": table["latitude"], "lon": table["longitude"]}
    pd.DataFrame(columns).to_csv(path, index=False)


def write_field(path: Path, station: pd.Series, *, side_km: float = 1.3) -> None:
    """A polygon of five corners about a station, as GeoJSON."""
    east, north = np.array([(-1, -1), (1, -1), (1, 0.4), (0.2, 1), (-1, 1), (-1, -1)]).T
    half = side_km / 2 / 111.32  # degrees of latitude
    x = station.longitude + east * half / np.cos(np.radians(station.latitude))
    ring = np.column_stack([x, station.latitude + north * half]).round(6).tolist()
    geometry = {"type": "Polygon", "coordinates": [ring]}
    feature = {"type": "Feature", "properties": {"note": SYNTHETIC}, "geometry": geometry}
    write_text_whole(path, json.dumps(feature))


if __name__ == "__main__":
    main()

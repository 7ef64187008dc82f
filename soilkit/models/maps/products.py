"""A map as files that others open: cloud-optimised GeoTIFFs, a zarr store and a STAC Item."""

import json
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from soilkit import grids
from soilkit.contracts import Grid
from soilkit.errors import ContractError, StoreError
from soilkit.export import rasters
from soilkit.export.chips.store import consolidate
from soilkit.files import temporary_folder, write_text_whole
from soilkit.models.maps.windows import DEVIATION, DEVIATION_N, map_grid

MOISTURE, VALIDITY = "soil_moisture", "validity"
CHUNK_PX = 512  # a side of a zarr chunk, as of a block of the GeoTIFF
STAC_VERSION = "1.1.0"
EXTENSIONS = (
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/raster/v2.0.0/schema.json",
)
COG_TYPE = "image/tiff; application=geotiff; profile=cloud-optimized"
ZARR_TYPE = "application/vnd.zarr; version=3"
EDGE_POINTS = 9  # of a side of the outline, which bends in longitude and latitude


def save(
    dataset: xr.Dataset, folder: str | os.PathLike[str], *, name: str = "map",
    times: Sequence[Any] = (), archive: str = "", tags: Mapping[str, str] | None = None,
) -> dict[str, Path]:  # fmt: skip
    """Write a map as GeoTIFFs, zarr and a STAC Item that points at them, each whole or not at all.

    A date has a file of numbers (``NAME_DATE.tif``: soil moisture first, then its standard
    deviation, applicability and ages, whatever the map has) and one of flags
    (``NAME_DATE_validity.tif``). ``NAME.zarr`` holds all dates with CF attributes and opens with
    ``xarray.open_zarr``; ``NAME.json`` is the Item.

    Parameters
    ----------
    dataset : map of (y, x) or (time, y, x)
    folder : is made where it is not there
    name : begins the names of all files, and is the Item's id
    times : the moments of a map of (y, x); one of (time, y, x) knows its own
    archive : where the inputs came from, the Item's ``soilkit:archive``
    tags : more properties of the GeoTIFFs, such as the model or the data's hash

    Returns
    -------
    dict of paths: "item", "zarr", and "DATE" and "DATE_validity" of each date

    Raises
    ------
    ContractError
        When the dataset is no map, or has no date or too many.
    StoreError
        When the disk refuses.
    """
    folder, grid = Path(folder), map_grid(dataset)
    if MOISTURE not in dataset:
        have = ", ".join(map(str, dataset.data_vars))
        raise ContractError(f"A map has {MOISTURE!r}; this one has {have}. Name its estimate so.")
    moments = _moments(dataset, times)
    paths: dict[str, Path] = {"zarr": folder / f"{name}.zarr"}
    for key, moment in moments.items():
        at = dataset if "time" not in dataset.dims else dataset.sel(time=moment)
        about = {"time": f"{moment:%Y-%m-%dT%H:%M:%SZ}", "archive": archive, **(tags or {})}
        numbers = [n for n in _layers(at) if at[n].dtype.kind == "f"]
        for ending, layers in (("", numbers), (f"_{VALIDITY}", [VALIDITY])):
            if layers[0] in at:
                paths[key + ending] = folder / f"{name}_{key}{ending}.tif"
                to_cog(at, paths[key + ending], variables=layers, tags=about)
    _to_zarr(dataset, paths["zarr"])
    assets = _assets(dataset, paths, grid)
    paths["item"] = folder / f"{name}.json"
    item = _item(dataset, name, times=list(moments.values()), assets=assets, archive=archive)
    write_text_whole(paths["item"], json.dumps(item, indent=1, ensure_ascii=False) + "\n")
    return paths


def to_cog(
    dataset: xr.Dataset,
    path: str | os.PathLike[str],
    *,
    variables: Sequence[str] = (MOISTURE,),
    tags: Mapping[str, str] | None = None,
) -> None:
    """Write layers of one moment as a cloud-optimised GeoTIFF, a named band with its unit each.

    NaN is no data; flags have none, and their meanings stand among the tags. ``tags`` are those of
    the file, such as the model or the data's hash; the map's title, what it says of being
    synthetic and how far a dense one is from the exact one go with them.

    Raises
    ------
    ContractError
        When the dataset is no map of one moment, or lacks a variable.
    StoreError
        When the disk refuses.
    """
    lacks = [name for name in variables if name not in dataset]
    wrong = [name for name in variables if name in dataset and dataset[name].dims != ("y", "x")]
    if lacks or wrong:
        raise ContractError(
            f"A GeoTIFF holds layers of (y, x); of {', '.join(variables)} the map lacks "
            f"{', '.join(lacks) or 'none'}, and {', '.join(wrong) or 'none'} have other dimensions."
            " Name other variables, or choose a moment by dataset.sel(time=...)."
        )
    layers = [dataset[name] for name in variables]
    words = ("title", "comment", DEVIATION, DEVIATION_N)
    about = {key: str(dataset.attrs[key]) for key in words if key in dataset.attrs}
    for layer in layers:
        masks = [str(int(bit)) for bit in np.atleast_1d(layer.attrs.get("flag_masks", []))]
        about |= {"flag_masks": " ".join(masks)} if masks else {}
        about |= {"flag_meanings": layer.attrs["flag_meanings"]} if masks else {}
    rasters.write_cog(
        path, np.stack([layer.values for layer in layers]), grid=map_grid(dataset),
        names=list(variables), units=[str(layer.attrs.get("units", "1")) for layer in layers],
        tags={key: value for key, value in (about | dict(tags or {})).items() if value},
    )  # fmt: skip


def _item(
    dataset: xr.Dataset, name: str, *, times: Sequence[pd.Timestamp],
    assets: Mapping[str, Mapping[str, Any]], archive: str = "",
) -> dict[str, Any]:  # fmt: skip
    """A map as a STAC Item: where, when, in which projection, and its files.

    Parameters
    ----------
    dataset : map of (y, x) or (time, y, x)
    name : the Item's id
    times : the map's moments, UTC
    assets : {key: asset} with addresses relative to the Item's file
    archive : where the inputs came from

    References
    ----------
    .. [1] STAC Item 1.1.0, with the extensions Projection 2.0.0 and Raster 2.0.0,
       https://github.com/radiantearth/stac-spec
    """
    grid = map_grid(dataset)
    bbox, geometry = _outline(grid)
    first, last = (f"{pd.Timestamp(end):%Y-%m-%dT%H:%M:%SZ}" for end in (min(times), max(times)))
    properties: dict[str, Any] = {"datetime": first if len(times) == 1 else None}
    if len(times) > 1:
        properties |= {"start_datetime": first, "end_datetime": last}
    title, comment = (str(dataset.attrs.get(key, "")) for key in ("title", "comment"))
    properties |= {
        "title": title or name,
        "description": comment or "Surface soil moisture, about 0-5 cm.",
        "gsd": grid.pixel_size_m,
        "soilkit:archive": archive,
        "proj:code": grid.crs if grid.crs.upper().startswith("EPSG:") else None,
        "proj:shape": [grid.height, grid.width],
        "proj:transform": [*grid.transform, 0.0, 0.0, 1.0],
        "proj:bbox": list(grid.bounds_m),
    }
    properties |= {f"soilkit:{k}": dataset.attrs[k] for k in (DEVIATION, DEVIATION_N)
                   if dataset.attrs.get(DEVIATION_N)}  # fmt: skip
    if properties["proj:code"] is None:
        properties["proj:wkt2"] = grid.crs
    return {
        "type": "Feature", "stac_version": STAC_VERSION, "stac_extensions": list(EXTENSIONS),
        "id": name, "bbox": bbox, "geometry": geometry, "properties": properties, "links": [],
        "assets": {key: dict(asset) for key, asset in assets.items()},
    }  # fmt: skip


def _moments(dataset: xr.Dataset, times: Sequence[Any]) -> dict[str, pd.Timestamp]:
    """The map's moments by the words that name their files; hours only where a day has several."""
    known = np.atleast_1d(dataset["time"].values) if "time" in dataset.coords else list(times)
    moments = [pd.Timestamp(moment) for moment in known]
    if not moments or ("time" not in dataset.dims and len(moments) > 1):
        raise ContractError(
            f"A map is saved with its dates: this one of {dict(dataset.sizes)} came with "
            f"{len(moments)}. Give the moment of a map of (y, x) as times=[...], or a map of "
            "(time, y, x)."
        )
    days = [f"{moment:%Y-%m-%d}" for moment in moments]
    pattern = "%Y-%m-%d" if len(set(days)) == len(days) else "%Y-%m-%dT%H%M%S"
    return {moment.strftime(pattern): moment for moment in moments}


def _layers(at: xr.Dataset) -> list[str]:
    """The layers of one moment, soil moisture first."""
    names = [str(name) for name in at.data_vars if at[name].dims == ("y", "x")]
    return sorted(names, key=lambda name: name != MOISTURE)


def _to_zarr(dataset: xr.Dataset, path: Path) -> None:
    """The whole map as a zarr store, which appears or does not."""
    chunk = {"y": CHUNK_PX, "x": CHUNK_PX, "time": 1}
    encoding: dict[str, Any] = {}
    for name, layer in dataset.data_vars.items():
        if layer.ndim >= 2:
            sides = (min(chunk.get(str(n), size), size) for n, size in layer.sizes.items())
            encoding[str(name)] = {"chunks": tuple(sides)}
    plain = dataset.drop_encoding()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(path) as part:
            plain.to_zarr(part / "new", zarr_format=3, consolidated=False, encoding=encoding)
            consolidate(part / "new")
            if path.exists():
                os.replace(path, part / "old")
            os.replace(part / "new", path)
    except OSError as error:
        raise StoreError(
            f"Cannot write {path} ({error}). Free some space, or choose another folder."
        ) from error


def _assets(dataset: xr.Dataset, paths: Mapping[str, Path], grid: Grid) -> dict[str, Any]:
    assets: dict[str, Any] = {}
    for key, path in paths.items():
        if key == "zarr":
            about = {"type": ZARR_TYPE, "title": "all layers and dates", "roles": ["data"]}
            assets[key] = {"href": f"./{path.name}", **about}
            continue
        is_flags = key.endswith(f"_{VALIDITY}")
        at = dataset.isel(time=0) if "time" in dataset.dims else dataset
        names = [VALIDITY] if is_flags else [n for n in _layers(at) if at[n].dtype.kind == "f"]
        words = "reasons not to believe the map, bits" if is_flags else "soil moisture"
        assets[key] = {
            "href": f"./{path.name}", "type": COG_TYPE,
            "title": f"{words}, {key.removesuffix(f'_{VALIDITY}')}",
            "roles": ["metadata", "data-mask"] if is_flags else ["data"],
            "bands": list(map(partial(_band, at, grid=grid), names)),
        }  # fmt: skip
    return assets


def _band(at: xr.Dataset, name: str, *, grid: Grid) -> dict[str, Any]:
    layer = at[name]
    band: dict[str, Any] = {
        "name": name,
        "description": str(layer.attrs.get("long_name", name.replace("_", " "))),
        "data_type": str(layer.dtype),
        "unit": str(layer.attrs.get("units", "1")),
        "raster:sampling": "area",
        "raster:spatial_resolution": grid.pixel_size_m,
    }
    if layer.dtype.kind == "f":
        band["nodata"] = "nan"
    meanings = layer.attrs.get("flag_meanings")
    if meanings:
        bits = np.atleast_1d(layer.attrs["flag_masks"])
        pairs = zip(bits, str(meanings).split(), strict=True)
        band["description"] += ": 0 valid, " + ", ".join(f"{int(b)} {word}" for b, word in pairs)
    return band


def _outline(grid: Grid) -> tuple[list[float], dict[str, Any]]:
    """Bounding box and polygon in WGS84 degrees; at the antimeridian two boxes, west > east [1]_.

    References
    ----------
    .. [1] RFC 7946, sections 3.1.9 and 5.2
    """
    left, bottom, right, top = grid.bounds_m
    along, up = np.linspace(left, right, EDGE_POINTS), np.linspace(bottom, top, EDGE_POINTS)
    n = EDGE_POINTS - 1
    x = np.concatenate([along[:n], np.full(n, right), along[:0:-1], np.full(n, left)])
    y = np.concatenate([np.full(n, bottom), up[:n], np.full(n, top), up[:0:-1]])
    degrees = np.round(grids.transformer(grid.crs, "EPSG:4326").transform(x, y), 7)  # (2, point)
    longitude, latitude = degrees
    south, north = float(latitude.min()), float(latitude.max())
    if np.ptp(longitude) <= 180:
        ring = degrees.T.tolist()
        box = [float(longitude.min()), south, float(longitude.max()), north]
        return box, {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
    west, east = float(longitude[longitude > 0].min()), float(longitude[longitude <= 0].max())
    boxes = [
        [[[w, south], [e, south], [e, north], [w, north], [w, south]]]
        for w, e in ((west, 180.0), (-180.0, east))
    ]
    return [west, south, east, north], {"type": "MultiPolygon", "coordinates": boxes}

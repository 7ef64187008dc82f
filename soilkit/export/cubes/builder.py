"""Building a cube: its tiles are stations, its days their readings, and the rest is join and chips.

The chips of all tiles lie in a chip store, ``chips`` inside the cube; what is laid side by side
from them can always be laid again.
"""

import hashlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyproj
import xarray as xr
from tqdm.auto import tqdm

from soilkit import sources as catalogue
from soilkit import strata
from soilkit.contracts import Archive, ChipRequest, Grid
from soilkit.errors import ParameterError, StoreError, TimeZoneError, UnknownNameError
from soilkit.export.archives import all_scenes
from soilkit.export.chips.builder import SAVE_EVERY_S, Writer, describe, prepare, sole_builder
from soilkit.export.chips.requests import Planner, fault, scene_ids
from soilkit.export.chips.store import (
    FILL,
    Entry,
    consolidate,
    create_array,
    create_group,
    open_array,
    packing_of,
    sha256,
)
from soilkit.export.cubes.regions import TILE_PX, Region, Tile, region_of
from soilkit.export.join import bound_us, latest_scenes
from soilkit.files import write_text_whole
from soilkit.sources import Band, Source

FORMAT_VERSION = 1
CHIPS, PROGRESS = "chips", "chips/laid.json"  # zarr warns of strange files beside its arrays
# Images of passes are listed over a tile's centre and hang together over about so much ground.
WIDEST_TILE_M = 100_000.0
TIME_UNIT = "microseconds since 1970-01-01"
INSIDE = {"long_name": "whether the pixel's centre lies in the region", "flag_values": [0, 1],
          "flag_meanings": "outside inside"}  # fmt: skip
ON_GRID = {"grid_mapping": "spatial_ref", "coordinates": "spatial_ref"}
Sources = Sequence[str] | Mapping[str, Sequence[str] | None]


def build(
    region: Any,
    archive: Archive,
    store: str | os.PathLike[str],
    *,
    sources: Sources,
    times: Any,
    pixel_size_m: float,
    crs: str | None = None,
    bounds: Mapping[str, Any] | None = None,
    max_cloud_fraction: Mapping[str, float] | None = None,
    tile_px: int | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Fetch the layers of a region and lay them side by side, one zarr store for all of it.

    At every time each tile takes the nearest past scene of a source within its bound, by the rules
    of ``join.anchored_join``. Layers are ``<source>_<band>``, (time, y, x) in the band's unit with
    ``<source>_age_hours``, or (y, x) where static; ``inside`` marks the region within its grid.
    A build that was interrupted goes on where it stopped when it is called again, and later times
    or other sources may be given: chips that stand are not asked for again.

    Parameters
    ----------
    region, pixel_size_m, crs, tile_px : as in ``regions.region_of``; tiles without ``tile_px`` have
        256 pixels a side, and at most 100 km where a source comes in passes, since a tile takes the
        scenes over its centre
    archive : where scenes and chips come from
    store : folder of the cube, made when absent; its chips lie in ``chips`` inside
    sources : names, or a mapping of names to some of their bands (None: all)
    times : dates or moments, naive UTC, increasing; a date is its first moment
    bounds : how old a scene may be, by source ("14D"); else as the catalogue says
    max_cloud_fraction : by source: scenes must be known to lie below it

    Returns
    -------
    Dataset, read when computed; what is missing is counted in ``losses``

    Raises
    ------
    ContractError
        For a region that is none; see ``regions.region_of``.
    ParameterError, TimeZoneError
        For times that do not increase, are none, or carry a zone; for no source.
    UnknownNameError
        For a source, a band or a bound that is not known.
    StoreError
        When the store is no cube, or one of another grid, archive or packing; as ``chips.build``.
    """
    path, bands, days = Path(store), _bands(sources), _days(times)
    area = region_of(
        region, pixel_size_m=pixel_size_m, crs=crs, tile_px=tile_px or _tile_px(bands, pixel_size_m)
    )
    limits = {"bounds": bounds, "max_cloud_fraction": max_cloud_fraction}
    moments = _latest(area, archive, bands=bands, days=days, **limits)
    if path.exists() and any(path.iterdir()) and not (path / CHIPS).is_dir():
        raise StoreError(f"{path} holds something else than a cube. Name another folder.")
    size_m, planner = area.grid.pixel_size_m, _TilePlanner(moments, area, archive.version)
    content = {
        "archive": {"name": archive.name, "version": archive.version}, "size_px": area.tile_px,
        "sources": {
            name: describe(name, some, size_px=area.tile_px, pixel_size_m=size_m)
            for name, some in bands.items()
        },
        "networks": {}, "join": {},
    }  # fmt: skip
    with sole_builder(path / CHIPS):
        _prepare_arrays(path, area, days=days, bands=bands)
        writer = Writer(path / CHIPS, prepare(path / CHIPS, content)["sources"])
        missing = [r for r in planner.requests(bands) if not writer.stands(r)]
        writer.fetch(missing, archive, progress=progress)
        mosaic = _Mosaic(path, area, writer)
        steps = tqdm(_steps(moments, days, bands), "layers", disable=not progress, unit="step")
        lost = sum((mosaic.take(step) for step in steps), Counter())
        create_group(path, _attributes(area, archive, bands=bands, lost=lost))
        consolidate(path)
        mosaic.save()
    return open_cube(path)


def plan(
    region: Any,
    archive: Archive,
    *,
    sources: Sources,
    times: Any,
    pixel_size_m: float,
    crs: str | None = None,
    bounds: Mapping[str, Any] | None = None,
    max_cloud_fraction: Mapping[str, float] | None = None,
    tile_px: int | None = None,
    store: str | os.PathLike[str] | None = None,
) -> list[ChipRequest]:
    """The chips that ``build`` would ask for, for ``archives.confirm`` and an archive's estimate.

    Parameters
    ----------
    store : folder or None; what stands there, or is known never to come, is left out
    region, archive, sources, times, pixel_size_m, crs, bounds, max_cloud_fraction, tile_px : as in
        ``build``, and so are the errors
    """
    bands = _bands(sources)
    area = region_of(
        region, pixel_size_m=pixel_size_m, crs=crs, tile_px=tile_px or _tile_px(bands, pixel_size_m)
    )
    limits = {"bounds": bounds, "max_cloud_fraction": max_cloud_fraction}
    moments = _latest(area, archive, bands=bands, days=_days(times), **limits)
    requests = _TilePlanner(moments, area, archive.version).requests(bands)
    if store is None or not (Path(store) / CHIPS).is_dir():
        return requests
    described = {name: describe(name, some, size_px=area.tile_px) for name, some in bands.items()}
    standing = Writer(Path(store) / CHIPS, described)
    return [request for request in requests if not standing.stands(request)]


def open_cube(store: str | os.PathLike[str]) -> xr.Dataset:
    """Open a cube that ``build`` wrote, to be read when computed; times in microseconds.

    Raises
    ------
    StoreError
        When there is none, its build did not end, or it is of another format version.
    """
    path = Path(store)
    if not (path / PROGRESS).exists():
        raise StoreError(f"No cube at {path}. Build one with cubes.build, or mend the path.")
    times = xr.coders.CFDatetimeCoder(time_unit="us")
    cube = xr.open_zarr(path, decode_times=times)
    version = cube.attrs.get("format_version")
    if version != FORMAT_VERSION:
        why = "its build did not end" if version is None else f"it has format version {version}"
        raise StoreError(
            f"{path} is no whole cube: {why}. Call cubes.build again with its options."
        )
    return cube


def losses(cube: xr.Dataset | str | os.PathLike[str]) -> pd.DataFrame:
    """What a cube lacks: source, reason and count, of tiles times moments (static: of tiles)."""
    opened = cube if isinstance(cube, xr.Dataset) else open_cube(cube)
    rows = json.loads(opened.attrs["losses"])
    table = pd.DataFrame(rows, columns=["source", "reason", "count"])
    return table.astype({"source": "str", "reason": "str", "count": "int64"})


# ---- what is wanted ------------------------------------------------------------------------------


def _bands(names: Sources) -> dict[str, list[str]]:
    """The wanted bands of each source."""
    if isinstance(names, str) or not names:
        raise ParameterError(f"sources should name at least one source in a list, found {names!r}.")
    given = names if isinstance(names, Mapping) else dict.fromkeys(names)
    rows = {name: catalogue.get(name) for name in given}
    return {
        name: [row.band(b).name for b in given[name] or [band.name for band in row.bands]]
        for name, row in rows.items()
    }


def _days(times: Any) -> np.ndarray:
    """Moments as datetime64[us], strictly increasing."""
    try:
        index = pd.Index([times] if isinstance(times, str) else times)
        if index.dtype.kind in "biuf":  # numbers would be nanoseconds
            raise TypeError("numbers without a unit")
        index = pd.DatetimeIndex(index)
    except (TypeError, ValueError) as error:  # a calendar of 360 days among them
        raise ParameterError(
            f"times should be dates of the common calendar, found {str(times)[:80]} ({error})."
        ) from error
    if index.tz is not None:
        raise TimeZoneError(
            f"times carry the zone {index.tz}; wanted naive UTC. Convert them with "
            ".tz_convert('UTC').tz_localize(None)."
        )
    if not len(index) or index.hasnans or not (index.is_monotonic_increasing and index.is_unique):
        raise ParameterError(
            f"times should be at least one and increase, each once; found {len(index)} with "
            f"{int(index.duplicated().sum())} repeated. Sort them, for instance with "
            "pandas.DatetimeIndex(times).unique().sort_values()."
        )
    return index.to_numpy().astype("datetime64[us]")


def _tile_px(bands: Mapping[str, Any], pixel_size_m: float) -> int:
    rows = map(catalogue.get, bands)
    if any(row.resolution == "high" and not row.is_static for row in rows):
        return max(1, min(TILE_PX, int(WIDEST_TILE_M // pixel_size_m)))
    return TILE_PX


def _latest(
    area: Region,
    archive: Archive,
    *,
    bands: Mapping[str, Any],
    days: np.ndarray,
    bounds: Mapping[str, Any] | None,
    max_cloud_fraction: Mapping[str, float] | None,
) -> pd.DataFrame:
    """Every tile at every moment, tile by tile, with the scene and age of each source."""
    for name in (*(bounds or {}), *(max_cloud_fraction or {})):
        if name not in bands:
            raise UnknownNameError(
                f"A bound or a cloud limit is given for {name!r}, which is none of the sources "
                f"{', '.join(bands)}. Add it to the sources, or take the limit away."
            )
    stations, n = area.stations, len(days)
    tiles = pd.Categorical(stations["station_id"].repeat(n), stations["station_id"])
    moments = pd.DataFrame({"station_id": tiles, "time": np.tile(days, len(stations))})
    after, reasons = days[-1] + np.timedelta64(1, "us"), {}
    for name in bands:
        source = catalogue.get(name)
        bound = {name: (bounds or {}).get(name, catalogue.duration(source.max_age))}
        limit = {k: v for k, v in (max_cloud_fraction or {}).items() if k == name}
        oldest = np.timedelta64(bound_us(name, bound[name]), "us")
        first = days[0] if source.is_static else days[0] - oldest
        scenes = all_scenes(archive, stations, sources=[name], start=first, end=after)
        moments = latest_scenes(moments, scenes, bounds=bound, max_cloud_fraction=limit)
        reasons[name] = moments.attrs["reasons"][name]
    moments.attrs["reasons"] = reasons
    return moments


class _TilePlanner(Planner):
    """The chips of tiles: each on its own part of the region's grid."""

    def __init__(self, moments: pd.DataFrame, area: Region, version: str):
        super().__init__(moments, area.stations, size_px=area.tile_px, version=version)
        self._of_tiles = {tile.name: tile.grid for tile in area.tiles}

    def grid(self, station_id: str, source: Source) -> Grid:
        """The tile's grid, whatever the source's own pixels."""
        return self._of_tiles[station_id]


# ---- laying chips side by side -------------------------------------------------------------------


@dataclass(frozen=True)
class _Step:
    """One source at one moment (``at``; None: static): each tile's scene, reason if none, age."""

    source: str
    at: int | None
    label: str
    scenes: np.ndarray
    ages: np.ndarray
    reason: str


def _steps(moments: pd.DataFrame, days: np.ndarray, names: Iterable[str]) -> list[_Step]:
    """All layers of a cube, source by source and moment by moment."""
    steps = []
    for source in map(catalogue.get, names):
        scenes = scene_ids(moments, source).to_numpy().reshape(-1, len(days))  # (tile, time)
        ages = moments[f"{source.name}_age_hours"].to_numpy().reshape(-1, len(days))
        labels = np.datetime_as_string(days)
        for k in range(1 if source.is_static else len(days)):
            at, label = (
                (None, source.name) if source.is_static else (k, f"{source.name} {labels[k]}")
            )
            reason = moments.attrs["reasons"][source.name]
            steps.append(_Step(source.name, at, label, scenes[:, k], ages[:, k], reason))
    return steps


class _Mosaic:
    """Lays the chips of a region's tiles into the arrays, and remembers which by their digest."""

    def __init__(self, path: Path, area: Region, writer: Writer):
        self.path, self.area, self.writer = path, area, writer
        self.content = json.loads((path / PROGRESS).read_text(encoding="utf-8"))
        self._arrays: dict[str, Any] = {}
        self._save_at = time.monotonic() + SAVE_EVERY_S

    def take(self, step: _Step) -> Counter[tuple[str, str]]:
        """Lay one source at one moment unless it lies; what it lacks by source and reason."""
        known, names = self.writer.entries[step.source], [tile.name for tile in self.area.tiles]
        entries = [known.get(key) for key in zip(step.scenes, names, strict=True)]
        digest = _digest([[n, e and e.data_sha256, repr(age)] for n, e, age in
                          zip(names, entries, step.ages.tolist(), strict=True)])  # fmt: skip
        if self.content["digests"].get(step.label) != digest:
            self._unfinish()
            for tile, entry, age in zip(self.area.tiles, entries, step.ages, strict=True):
                self._lay(step, tile, entry=entry, age=age)
            self.content["digests"][step.label] = digest
            if time.monotonic() > self._save_at:
                self.save()
        reasons = [fault(entry, 0.0) if entry else step.reason for entry in entries]
        return Counter((step.source, reason) for reason in reasons if reason)

    def _lay(self, step: _Step, tile: Tile, *, entry: Entry | None, age: float) -> None:
        """One tile of one source: its pixels, or fill where there are none."""
        where = (*(() if step.at is None else (step.at,)), tile.rows, tile.cols)
        shards, (height, width) = self.writer.shards[step.source], tile.shape
        bands = self.content["layout"]["sources"][step.source]
        packed = np.full((len(bands), height, width), FILL, dtype="<i2")
        if entry and entry.data_sha256:
            whole = shards.read(entry.row)
            if sha256(whole) != entry.data_sha256:
                raise StoreError(
                    f"{step.source} {entry.scene_id} of tile {tile.name} is damaged. Run "
                    f"chips.verify on {self.path / CHIPS}, then cubes.build again."
                )
            packed = whole[:, :height, :width]
        for band, values in zip(bands, packed, strict=True):
            self._array(f"{step.source}_{band}")[where] = values
        if step.at is not None:
            shown = age if entry and entry.data_sha256 else np.nan
            self._array(f"{step.source}_age_hours")[where] = np.float32(shown)

    def _array(self, name: str) -> Any:
        if name not in self._arrays:
            self._arrays[name] = open_array(self.path / name)
        return self._arrays[name]

    def _unfinish(self) -> None:
        """Take the words of a whole cube off one that changes."""
        if not self._arrays:
            (self.path / "zarr.json").unlink(missing_ok=True)
            create_group(self.path, {})

    def save(self) -> None:
        """Keep what lies, whole or not at all."""
        write_text_whole(self.path / PROGRESS, json.dumps(self.content, sort_keys=True, indent=1))
        self._save_at = time.monotonic() + SAVE_EVERY_S


def _digest(plain: Any) -> str:
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()


# ---- what the arrays say of themselves: CF-1.11 --------------------------------------------------


def _prepare_arrays(
    path: Path, area: Region, *, days: np.ndarray, bands: Mapping[str, list[str]]
) -> None:
    """Make the empty arrays of a cube, unless those of the same layout stand."""
    place = {"grid": list(vars(area.grid).values()), "tile_px": area.tile_px}
    layout = {**place, "outline": area.outline.wkt, "format_version": FORMAT_VERSION,
              "times": np.datetime_as_string(days).tolist(), "sources": bands}  # fmt: skip
    try:
        old = json.loads((path / PROGRESS).read_text(encoding="utf-8"))["layout"]
    except (OSError, ValueError, KeyError, TypeError):  # none, or damaged: laid anew
        old = None
    if old == layout:
        return
    if old is not None and any(old.get(key) != value for key, value in place.items()):
        raise StoreError(
            f"{path} is a cube of the grid {old.get('grid')} in tiles of {old.get('tile_px')}; "
            f"wanted {place['grid']} in tiles of {area.tile_px}. Choose another folder."
        )
    (path / PROGRESS).unlink(missing_ok=True)
    for array in path.glob("*/zarr.json"):
        if array.parent.name != CHIPS:
            shutil.rmtree(array.parent)
    (path / "zarr.json").unlink(missing_ok=True)
    create_group(path, {})
    _create_coordinates(path, area, days)
    for name, some in bands.items():
        _create_layers(path, area, catalogue.get(name), bands=some, n_times=len(days))
    write_text_whole(path / PROGRESS, json.dumps({"layout": layout, "digests": {}}))


def _create_coordinates(path: Path, area: Region, days: np.ndarray) -> None:
    grid = area.grid
    axis = {f"{a}": {"standard_name": f"projection_{a}_coordinate", "units": "m", "axis": a.upper()}
            for a in "xy"}  # fmt: skip
    clock = {"standard_name": "time", "units": TIME_UNIT, "calendar": "proleptic_gregorian",
             "axis": "T"}  # fmt: skip
    for name, values, words in (
        ("time", days.view(np.int64), clock), ("y", grid.y_m, axis["y"]), ("x", grid.x_m, axis["x"])
    ):  # fmt: skip
        array = create_array(
            path / name, values.shape, chunks=values.shape, fill=values.dtype.type(0),
            dimension_names=[name], attributes=words,
        )  # fmt: skip
        array[:] = values
    a, b, c, d, e, f = grid.transform
    words = {
        **pyproj.CRS.from_user_input(grid.crs).to_cf(),
        "GeoTransform": f"{c} {a} {b} {f} {d} {e}",
    }
    create_array(path / "spatial_ref", (), chunks=(), fill=np.int64(0), attributes=words)
    inside = create_array(
        path / "inside", (grid.height, grid.width), chunks=_chunks(area), fill=np.int8(0),
        dimension_names=["y", "x"], attributes={**INSIDE, **ON_GRID},
    )  # fmt: skip
    for tile in area.tiles:
        inside[tile.rows, tile.cols] = area.inside(tile).astype(np.int8)


def _create_layers(
    path: Path, area: Region, source: Source, *, bands: list[str], n_times: int
) -> None:
    shape: tuple[int, ...] = (area.grid.height, area.grid.width)
    chunks, dims = _chunks(area), ["y", "x"]
    if not source.is_static:
        shape, chunks, dims = (n_times, *shape), (1, *chunks), ["time", *dims]
        words = {"long_name": f"age of {source.title}", "units": "h", **ON_GRID}
        create_array(
            path / f"{source.name}_age_hours", shape, chunks=chunks, fill=np.float32(np.nan),
            dimension_names=dims, attributes=words,
        )  # fmt: skip
    for band in map(source.band, bands):
        create_array(
            path / f"{source.name}_{band.name}", shape, chunks=chunks, fill=np.int16(FILL),
            dimension_names=dims, attributes=_words(source, band),
        )  # fmt: skip


def _chunks(area: Region) -> tuple[int, ...]:
    return min(area.tile_px, area.grid.height), min(area.tile_px, area.grid.width)


def _words(source: Source, band: Band) -> dict[str, Any]:
    """The attributes of a band: physical = (packed x step + offset) x band scale + band offset."""
    packing, unit = packing_of(source), "1" if band.unit in ("class", "bits") else band.unit
    words: dict[str, Any] = {"long_name": f"{source.title}: {band.name}", "units": unit}
    words |= {"_FillValue": FILL, **ON_GRID}
    scale, offset = packing.scale * band.scale, packing.offset * band.scale + band.offset
    words |= {"scale_factor": scale} if scale != 1 else {}
    words |= {"add_offset": offset} if offset else {}
    if band.cloud_bits:
        words["flag_masks"] = [1 << bit for bit in band.cloud_bits]
        words["flag_meanings"] = " ".join(f"cloud_bit_{bit}" for bit in band.cloud_bits)
    if source.name == "land_cover":
        words["flag_values"] = list(strata.LAND_COVER_NAMES)
        names = strata.LAND_COVER_NAMES.values()
        words["flag_meanings"] = " ".join(name.replace(" ", "_") for name in names)
    return words


def _attributes(
    area: Region, archive: Archive, *, bands: Mapping[str, Any], lost: Mapping[tuple[str, str], int]
) -> dict[str, Any]:
    """What the whole cube says of itself; no clock enters."""
    rows = [{"source": s, "reason": r, "count": n} for (s, r), n in sorted(lost.items())]
    is_synthetic = archive.name == "synthetic"
    words = {"comment": "Synthetic: no observation of the real Earth."} if is_synthetic else {}
    return {
        "Conventions": "CF-1.11", **words,
        "title": f"{'Synthetic layers' if is_synthetic else 'Layers'} of a region on one grid",
        "source": "; ".join(catalogue.get(name).title for name in bands),
        "references": "; ".join(catalogue.get(name).citation for name in bands),
        "archive": archive.name, "archive_version": archive.version,
        "region": area.degrees.wkt, "losses": json.dumps(rows),
        "format_version": FORMAT_VERSION,
    }  # fmt: skip

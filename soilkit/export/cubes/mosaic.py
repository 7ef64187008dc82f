"""Building a cube: its tiles are stations, its days their readings, and the rest is join and chips.

The chips of all tiles lie in a chip store, ``chips`` inside the cube; what is laid side by side
from them can always be laid again.
"""

import datetime
import hashlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
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
from soilkit.export.chips import FILL, packing_of
from soilkit.export.chips.builder import SAVE_EVERY_S, Writer, describe, prepare, sole_builder
from soilkit.export.chips.requests import Planner, fault, scene_ids
from soilkit.export.chips.store import (
    MANIFEST,
    Entry,
    consolidate,
    create_array,
    create_group,
    open_array,
)
from soilkit.export.chips.store import sha256 as sha256_of
from soilkit.export.cubes.regions import TILE_PX, Tile, region_of
from soilkit.export.join import bound_us, latest_scenes
from soilkit.files import write_text_whole
from soilkit.sources import Band, Source

FORMAT_VERSION = 1
CHIPS, LAID = "chips", "chips/laid.json"  # zarr warns of strange files beside its arrays
# Images of passes are listed over a tile's centre and hang together over about so much ground.
WIDEST_TILE_M = 100_000.0
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
    ``<source>_age_hours``, or (y, x) where static; ``inside`` marks the region. Call it again to go
    on where a build stopped, or to add times and sources: chips that stand are not asked for again.

    Parameters
    ----------
    region, pixel_size_m, crs, tile_px : as in ``regions.region_of``; by default tiles have 256
        pixels a side, and at most 100 km where a source comes in passes, those over a tile's centre
    store : folder of the cube, made when absent
    sources : names, or a mapping of names to some of their bands (None: all)
    times : dates or moments, naive UTC, increasing; a date is its first moment
    bounds : how old a scene may be, by source ("14D"); else as the catalogue says
    max_cloud_fraction : by source: scenes must be known to lie below it

    Returns
    -------
    Dataset, read when computed; ``losses`` counts what it lacks

    Raises
    ------
    ContractError, ParameterError, TimeZoneError, BoundError, UnknownNameError
        For a region, times, bounds, sources or bands that are none, before anything is written.
    StoreError
        When the store is no cube, or one of another grid or archive; as ``chips.build``.
    """
    wanted = _Plan(
        region, archive, sources=sources, times=times, pixel_size_m=pixel_size_m, crs=crs,
        bounds=bounds, max_cloud_fraction=max_cloud_fraction, tile_px=tile_px,
    )  # fmt: skip
    path = Path(store)
    strange = [p.name for p in path.glob("*") if p.name != CHIPS or (p / MANIFEST).exists()]
    if strange and not (path / LAID).exists():
        raise StoreError(f"{path} holds {strange[0]}, which is no cube. Name another folder.")
    content = {
        "archive": {"name": archive.name, "version": archive.version}, "size_px": wanted.size_px,
        "sources": wanted.described, "networks": {}, "join": {},
    }  # fmt: skip
    with sole_builder(path / CHIPS):
        _create_arrays(path, wanted)
        writer = Writer(path / CHIPS, prepare(path / CHIPS, content)["sources"])
        missing = [r for r in wanted.requests(wanted.bands) if not writer.stands(r)]
        writer.fetch(missing, archive, progress=progress)
        mosaic, lost = _Mosaic(path, wanted, writer), Counter[tuple[str, str]]()
        for name in tqdm(wanted.bands, "layers", disable=not progress, unit="source"):
            lost += mosaic.take(catalogue.get(name))
        create_group(path, _attributes(wanted, archive, lost))
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
    """The chips that ``build`` would ask for, for ``archives.confirm``; its parameters and errors.

    What stands in a ``store``, or is known never to come, is left out.
    """
    wanted = _Plan(
        region, archive, sources=sources, times=times, pixel_size_m=pixel_size_m, crs=crs,
        bounds=bounds, max_cloud_fraction=max_cloud_fraction, tile_px=tile_px,
    )  # fmt: skip
    requests = wanted.requests(wanted.bands)
    if store is None or not (Path(store) / CHIPS).is_dir():
        return requests
    standing = Writer(Path(store) / CHIPS, wanted.described)
    return [request for request in requests if not standing.stands(request)]


def open_cube(store: str | os.PathLike[str], *, chunks: Any = "auto") -> xr.Dataset:
    """Open a cube that ``build`` wrote, to be read when computed; times in microseconds.

    ``chunks`` is xarray's: with None a part is read by ``load`` as it is cut, without Dask. Raises
    ``StoreError`` when there is none, its build did not end, or it is of another format version.
    """
    path = Path(store)
    try:
        words = json.loads((path / "zarr.json").read_text(encoding="utf-8"))["attributes"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"No cube at {path} ({error}). Mend the path, or build one.") from error
    version = words.get("format_version", "none: its build did not end")
    if version != FORMAT_VERSION:
        raise StoreError(
            f"{path} should be a cube of format version {FORMAT_VERSION}, found {version}. Call "
            "cubes.build again with its options."
        )
    clock = xr.coders.CFDatetimeCoder(time_unit="us")
    return xr.open_zarr(path, decode_times=clock, chunks=chunks)


def losses(cube: xr.Dataset | str | os.PathLike[str]) -> pd.DataFrame:
    """What a cube lacks: source, reason and count, of tiles times moments (static: of tiles)."""
    opened = cube if isinstance(cube, xr.Dataset) else open_cube(cube)
    if "losses" not in opened.attrs:
        raise StoreError("No cube with its attributes. Hand what cubes.open_cube gives, or a path.")
    rows = json.loads(opened.attrs["losses"])
    return pd.DataFrame(rows, columns=["source", "reason", "count"])


# ---- what is wanted ------------------------------------------------------------------------------


class _Plan(Planner):
    """The tiles of a region at some times, each with the scenes it takes and their requests.

    ``samples`` holds them tile by tile, ``scenes`` and ``ages`` of a source are (tile, time).
    """

    def __init__(
        self, region: Any, archive: Archive, *, sources: Sources, times: Any, pixel_size_m: float,
        crs: str | None, bounds: Mapping[str, Any] | None,
        max_cloud_fraction: Mapping[str, float] | None, tile_px: int | None,
    ):  # fmt: skip
        self.bands, self.days = _bands(sources), moments_of(times)
        rows = [catalogue.get(name) for name in self.bands]
        passes = any(row.resolution == "high" and not row.is_static for row in rows)
        self.area = region_of(
            region, pixel_size_m=pixel_size_m, crs=crs,
            tile_px=TILE_PX if tile_px is None else tile_px,
            widest_m=WIDEST_TILE_M if passes and tile_px is None else np.inf,
        )  # fmt: skip
        self.tiles, stations = self.area.tiles, self.area.stations
        tiles = pd.Categorical(stations["station_id"].repeat(len(self.days)))
        moments = {"station_id": tiles, "time": np.tile(self.days, len(stations))}
        size_px = self.area.tile_px
        super().__init__(pd.DataFrame(moments), stations, size_px=size_px, version=archive.version)
        self.reasons: dict[str, str] = {}
        self._choose(archive, stations, bounds=bounds or {}, limits=max_cloud_fraction or {})
        self._tile_grids = {tile.name: tile.grid for tile in self.tiles}
        size_m = self.area.grid.pixel_size_m
        self.described = {
            name: describe(name, some, size_px=size_px, pixel_size_m=size_m)
            for name, some in self.bands.items()
        }

    def grid(self, station_id: str, source: Source) -> Grid:
        """The tile's grid, whatever the source's own pixels."""
        return self._tile_grids[station_id]

    def scenes(self, source: Source) -> tuple[np.ndarray, np.ndarray]:
        """The scene of a source, empty where there is none, and its age in hours: (tile, time)."""
        columns = scene_ids(self.samples, source), self.samples[f"{source.name}_age_hours"]
        scenes, ages = (column.to_numpy().reshape(-1, len(self.days)) for column in columns)
        return scenes, ages

    def _choose(
        self, archive: Archive, stations: pd.DataFrame, *, bounds: Mapping[str, Any],
        limits: Mapping[str, float],
    ) -> None:  # fmt: skip
        if not (isinstance(bounds, Mapping) and isinstance(limits, Mapping)):
            raise ParameterError(
                "bounds and max_cloud_fraction should name sources, as in {'sentinel2': '10D'} and "
                f"{{'sentinel2': 0.3}}; found {bounds!r} and {limits!r}."
            )
        strange = [name for name in (*bounds, *limits) if name not in self.bands]
        if strange:
            raise UnknownNameError(
                f"A bound or cloud limit is given for {strange[0]!r}, none of the sources "
                f"{', '.join(self.bands)}. Add it to the sources, or take the limit away."
            )
        rows = [catalogue.get(name) for name in self.bands]
        ages = {row.name: bounds.get(row.name, catalogue.duration(row.max_age)) for row in rows}
        lengths = {name: np.timedelta64(bound_us(name, age), "us") for name, age in ages.items()}
        after = self.days[-1] + np.timedelta64(1, "us")
        for row in rows:
            start = self.days[0] - (np.timedelta64(0) if row.is_static else lengths[row.name])
            scenes = all_scenes(archive, stations, sources=[row.name], start=start, end=after)
            bound, limit = ({k: v for k, v in d.items() if k == row.name} for d in (ages, limits))
            self.samples = latest_scenes(
                self.samples, scenes, bounds=bound, max_cloud_fraction=limit
            )
            self.reasons |= self.samples.attrs["reasons"]


def _bands(names: Sources) -> dict[str, list[str]]:
    """The wanted bands of each source."""
    if isinstance(names, str) or not names:
        raise ParameterError(f"sources should name at least one source in a list, found {names!r}.")
    given: Mapping[str, Any] = names if isinstance(names, Mapping) else dict.fromkeys(names)
    bands = {}
    for name, some in given.items():
        row, some = catalogue.get(name), [some] if isinstance(some, str) else some
        bands[name] = [row.band(b).name for b in dict.fromkeys(some or (b.name for b in row.bands))]
    return bands


def moments_of(times: Any) -> np.ndarray:
    """Dates or moments as naive UTC datetime64[us], strictly increasing.

    Raises ``ParameterError`` or ``TimeZoneError`` for what is no such list.
    """
    try:
        is_one = isinstance(times, str | datetime.date | np.datetime64)
        index = pd.Index([times] if is_one else times)
        if index.dtype.kind in "biuf" and len(index):  # numbers would be nanoseconds
            raise TypeError("numbers without a unit")
        index = pd.DatetimeIndex(index).as_unit("us")
    except (TypeError, ValueError) as error:  # a calendar of 360 days among them
        raise ParameterError(
            f"times should be dates of the common calendar, found {str(times)[:80]} ({error})."
        ) from error
    if index.tz is not None:
        how = ".tz_convert('UTC').tz_localize(None)"
        raise TimeZoneError(f"times carry the zone {index.tz}; wanted naive UTC: use {how}.")
    if not len(index) or index.hasnans or not (index.is_monotonic_increasing and index.is_unique):
        raise ParameterError(
            f"times should be at least one and increase, each once; found {len(index)} with "
            f"{index.duplicated().sum()} repeated and {index.isna().sum()} missing. Sort and drop "
            "what repeats."
        )
    return index.to_numpy()


# ---- laying chips side by side -------------------------------------------------------------------


class _Mosaic:
    """Lays the chips of tiles into the arrays, and remembers by digests what lies there."""

    def __init__(self, path: Path, plan: _Plan, writer: Writer):
        self.path, self.plan, self.writer = path, plan, writer
        self.content = json.loads((path / LAID).read_text(encoding="utf-8"))
        self._arrays: dict[str, Any] = {}
        self._save_at = time.monotonic() + SAVE_EVERY_S

    def take(self, source: Source) -> Counter[tuple[str, str]]:
        """Lay a source at every moment unless it lies; what it lacks by source and reason."""
        known, lost = self.writer.entries[source.name], Counter[tuple[str, str]]()
        scenes, ages = self.plan.scenes(source)
        names = [tile.name for tile in self.plan.tiles]
        for k in range(1 if source.is_static else len(self.plan.days)):
            entries = [known.get(key) for key in zip(scenes[:, k], names, strict=True)]
            chips = [e and e.data_sha256 for e in entries]
            rows = [*zip(names, chips, ages[:, k].tolist(), strict=True)]
            digest = hashlib.sha256(repr(rows).encode()).hexdigest()
            label = source.name if source.is_static else f"{source.name} {self.plan.days[k]}"
            if self.content["digests"].get(label) != digest:
                for tile, entry, age in zip(self.plan.tiles, entries, ages[:, k], strict=True):
                    self._lay(source, tile, entry=entry, at=() if source.is_static else (k, age))
                self.content["digests"][label] = digest
                if time.monotonic() > self._save_at:
                    self.save()
            reasons = [fault(e, 0.0) if e else self.plan.reasons[source.name] for e in entries]
            lost.update((source.name, reason) for reason in reasons if reason)
        return lost

    def _lay(self, source: Source, tile: Tile, *, entry: Entry | None, at: tuple) -> None:
        """One tile at a moment and age, or none of both: its pixels, or fill for want of them."""
        bands, part = self.plan.bands[source.name], tile.part
        where, packed = (*at[:1], tile.rows, tile.cols), np.full(len(bands), FILL, dtype="<i2")
        if entry and entry.data_sha256:
            packed = self.writer.shards[source.name].read(entry.row)
            if sha256_of(packed) != entry.data_sha256:
                raise StoreError(
                    f"{source.name} {entry.scene_id} of tile {tile.name} is damaged. Run "
                    f"chips.verify on {self.path / CHIPS}, then cubes.build again."
                )
            packed = packed[:, : part.height, : part.width]
        for band, values in zip(bands, packed, strict=True):
            self._array(f"{source.name}_{band}")[where] = values
        for age in at[1:]:
            shown = age if entry and entry.data_sha256 else np.nan
            self._array(f"{source.name}_age_hours")[where] = np.float32(shown)

    def _array(self, name: str) -> Any:
        if not self._arrays:  # what changes is no whole cube until all is laid
            (self.path / "zarr.json").unlink(missing_ok=True)
            create_group(self.path, {})
        if name not in self._arrays:
            self._arrays[name] = open_array(self.path / name)
        return self._arrays[name]

    def save(self) -> None:
        """Keep what lies, whole or not at all."""
        write_text_whole(self.path / LAID, json.dumps(self.content, sort_keys=True, indent=1))
        self._save_at = time.monotonic() + SAVE_EVERY_S


# ---- what the arrays say of themselves: CF-1.11 --------------------------------------------------


def _create_arrays(path: Path, plan: _Plan) -> None:
    """Make the empty arrays of a cube, unless those of the same layout stand."""
    place = {"grid": list(vars(plan.area.grid).values()), "tile_px": plan.size_px}
    times = np.datetime_as_string(plan.days).tolist()
    layout = {**place, "outline": plan.area.outline.wkt, "times": times, "sources": plan.bands}
    try:
        old = json.loads((path / LAID).read_text(encoding="utf-8"))["layout"]
    except (OSError, ValueError, KeyError, TypeError):  # none, or damaged: laid anew
        old = layout | {"times": []}
    if old == layout:
        return
    if any(old.get(key) != value for key, value in place.items()):
        raise StoreError(
            f"{path} is a cube of the grid {old.get('grid')} in tiles of {old.get('tile_px')}; "
            f"wanted {place['grid']} in tiles of {plan.size_px}. Choose another folder."
        )
    write_text_whole(path / LAID, json.dumps({"layout": place}))
    (path / "zarr.json").unlink(missing_ok=True)
    for array in path.glob("*/zarr.json"):
        if array.parent.name != CHIPS:
            shutil.rmtree(array.parent)
    create_group(path, {})
    height, width, side = plan.area.grid.height, plan.area.grid.width, plan.size_px
    sizes = {"time": (len(plan.days), 1), "y": (height, min(side, height)),
             "x": (width, min(side, width))}  # fmt: skip
    for name, dims, fill, words in _layers(plan):
        shape = tuple(sizes[d][0] for d in dims)
        chunks = shape if name in dims else tuple(sizes[d][1] for d in dims)
        words = {"dimension_names": dims, "attributes": words}
        create_array(path / name, shape, chunks=chunks, fill=fill, **words)
    _fill_coordinates(path, plan)
    write_text_whole(path / LAID, json.dumps({"layout": layout, "digests": {}}))


def _layers(plan: _Plan) -> Iterator[tuple[str, tuple[str, ...], np.generic, dict[str, Any]]]:
    """Each array of a cube: its name, dimensions, fill and attributes."""
    clock = {"standard_name": "time", "units": "microseconds since 1970-01-01",
             "calendar": "proleptic_gregorian"}  # fmt: skip
    yield "time", ("time",), np.int64(0), clock
    for axis in ("y", "x"):
        words = {"standard_name": f"projection_{axis}_coordinate", "units": "m"}
        yield axis, (axis,), np.float64(0), words
    (a, b, c, d, e, f), crs = plan.area.grid.transform, pyproj.CRS(plan.area.grid.crs)
    words = {**crs.to_cf(), "GeoTransform": f"{c} {a} {b} {f} {d} {e}"}
    yield "spatial_ref", (), np.int64(0), words
    words = {"long_name": "pixel centre in the region", "flag_meanings": "outside inside"}
    yield "inside", ("y", "x"), np.int8(0), {**words, "flag_values": [0, 1], **ON_GRID}
    for source, names in zip(map(catalogue.get, plan.bands), plan.bands.values(), strict=True):
        dims = ("y", "x") if source.is_static else ("time", "y", "x")
        if not source.is_static:
            words = {"long_name": f"age of {source.title}", "units": "h", **ON_GRID}
            yield f"{source.name}_age_hours", dims, np.float32(np.nan), words
        for band in map(source.band, names):
            yield f"{source.name}_{band.name}", dims, np.int16(FILL), _words(source, band)


def _fill_coordinates(path: Path, plan: _Plan) -> None:
    grid = plan.area.grid
    for name, values in (("time", plan.days.view(np.int64)), ("y", grid.y_m), ("x", grid.x_m)):
        open_array(path / name)[:] = values
    inside = open_array(path / "inside")
    for tile in plan.tiles:
        inside[tile.rows, tile.cols] = plan.area.inside(tile).astype(np.int8)


def _words(source: Source, band: Band) -> dict[str, Any]:
    """The attributes of a band: physical = (packed x step + offset) x band scale + band offset."""
    packing, unit = packing_of(source, [band.name]), band.unit
    words: dict[str, Any] = {"long_name": f"{source.title}: {band.name}", "units": unit}
    words |= {"units": "1"} if unit in ("class", "bits") else {}
    step, middle = (np.ravel(v)[0].item() for v in (packing.scale, packing.offset))
    scale, offset = step * band.scale, middle * band.scale + band.offset
    words |= {"scale_factor": scale} if scale != 1 else {}
    words |= {"add_offset": offset} if offset else {}
    if band.cloud_bits:
        words["flag_masks"] = [1 << bit for bit in band.cloud_bits]
        words["flag_meanings"] = " ".join(f"cloud_bit_{bit}" for bit in band.cloud_bits)
    if source.name == "land_cover":
        names = [name.replace(" ", "_") for name in strata.LAND_COVER_NAMES.values()]
        words["flag_values"] = list(strata.LAND_COVER_NAMES)
        words["flag_meanings"] = " ".join(names)
    return {**words, "_FillValue": FILL, **ON_GRID}


def _attributes(plan: _Plan, archive: Archive, lost: Counter[tuple[str, str]]) -> dict[str, Any]:
    """What the whole cube says of itself; no clock enters."""
    rows = [{"source": s, "reason": r, "count": n} for (s, r), n in sorted(lost.items())]
    is_synthetic, sources = archive.name == "synthetic", [catalogue.get(n) for n in plan.bands]
    words = {"comment": "Synthetic: no observation of the real Earth."} if is_synthetic else {}
    return {
        "Conventions": "CF-1.11", **words,
        "title": f"{'Synthetic layers' if is_synthetic else 'Layers'} of a region on one grid",
        "source": "; ".join(source.title for source in sources),
        "references": "; ".join(source.citation for source in sources),
        "archive": archive.name, "archive_version": archive.version,
        "region": plan.area.degrees.wkt, "losses": json.dumps(rows),
        "format_version": FORMAT_VERSION,
    }  # fmt: skip

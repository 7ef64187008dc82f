"""Any region, dates and archive to a map: cubes, tiles with a halo, and a store to go on in."""

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from tqdm.auto import tqdm

from soilkit import sources as catalogue
from soilkit.constants import CROP_PX, HIGH_PIXEL_M, PIXEL_RATIO
from soilkit.contracts import Archive, Chip, Grid
from soilkit.errors import CatalogueError, ContractError, UnknownNameError
from soilkit.export import cubes
from soilkit.export.archives import all_scenes
from soilkit.export.chips.builder import sole_builder
from soilkit.export.cubes.regions import Region, Tile
from soilkit.files import write_text_whole
from soilkit.models.inputs import INDICES, distinct_sources
from soilkit.models.maps.scene import Scene, scene_of
from soilkit.models.maps.table_map import box_mean
from soilkit.models.maps.windows import map_dataset

WIDE_PIXEL_M = HIGH_PIXEL_M * PIXEL_RATIO  # of low-resolution and coarse layers
TILE_CELLS = 32  # a side: with its halo a scene of some 1250 pixels, a hundred megabytes
ANCHOR = "sentinel1"
CLEAR = {"sentinel2": 0.3}  # Batchu et al. (2022), Table 5
LISTED = np.timedelta64(45, "D")  # an archive without a scene in so long has none of a source
PASS_SLACK = pd.Timedelta("1min")  # slices of a pass over other tiles may end a little later
NOON = np.timedelta64(12, "h")
EDGE, NO_SOURCE = 1, 64
FLAGS = {
    1: "edge", 2: "cloud", 4: "water", 8: "snow_or_frozen", 16: "radar_shadow",
    32: "outside_applicability", 64: "no_source",
}  # fmt: skip
Cuts = Mapping[float, xr.Dataset]  # by pixel size [m], one moment of each cube about a tile


def predict_region(
    trained: Any,
    archive: Archive,
    region: Any,
    *,
    dates: Any,
    store: str | os.PathLike[str],
    cube_options: Mapping[str, Any] | None = None,
    client: Any = None,
    progress: bool = True,
    **options: Any,
) -> xr.Dataset:
    """Soil moisture of a region on some dates, by a trained model, from any archive.

    The layers come by ``cubes.build``, bounds and cloud limits as in training (Table 5 of [1]_).
    Cells are those that the region touches, on multiples of their size, so that maps of
    neighbouring regions fit. A tile of cells is predicted from its own ground and a halo of half a
    window, and is kept with a digest of what it was made of: call it again to go on where a run
    stopped, and only tiles whose layers or model have changed are made anew.

    Parameters
    ----------
    trained : what a fusion's ``train`` or ``load`` returned
    archive : any that has the model's sources
    region : as in ``cubes.region_of``: a box in degrees, GeoJSON, a geometry, a quadkey
    dates : dates or moments, naive UTC, increasing. A date is the moment after its last pass of
        Sentinel-1, where the model eats that and there was one, else its noon
    store : folder of the cubes and of the finished tiles
    cube_options : of ``cubes.build``: ``bounds``, ``max_cloud_fraction``, ``crs``, ``tile_px``
    client : of Dask, or an executor of processes; it shares the file system of ``store``
    progress : bool
    options : of the model's ``map``: ``stride_m``, ``precision`` ...; ``resampling="smooth"``
        draws coarse inputs as a surface between the centres of their pixels

    Returns
    -------
    Dataset (time, y, x), read when computed: ``soil_moisture``, m3 m-3, what else the model states,
    ``<source>_age_hours`` at the cells' centres, and ``validity``, 0 or bits that say why there is
    no value; ``cubes.losses`` counts the scenes that lack

    Raises
    ------
    CatalogueError
        When the archive lacks a source of the model.
    ContractError, ParameterError, StoreError, UnknownNameError
        For a stride that does not fit; as ``cubes.build``.

    References
    ----------
    .. [1] Batchu et al. (2022), arXiv:2206.09649
    """
    recipe, cube_options = Windows(trained, options), dict(cube_options or {})
    area = recipe.area(region, crs=cube_options.pop("crs", None))
    days, names = cubes.moments_of(dates), [n for some in recipe.bands.values() for n in some]
    _require(archive, area, names, days=days)
    moments = _moments(archive, area, names, days=days)
    folder = Path(store)
    built = _build(recipe, archive, area, moments=moments, folder=folder, options=cube_options,
                   progress=progress)  # fmt: skip
    lost = pd.concat([cubes.losses(cube) for cube in built.values()], ignore_index=True)
    paths = {size: _cube_path(folder, size) for size in built}
    work = Work(recipe, area, paths)
    with sole_builder(folder / "maps"):
        kept = {t: _Kept(folder / "maps", t, work) for t in moments.tolist()}
        jobs = [(tile, t) for t in moments.tolist() for tile in area.tiles]
        known = [kept[t].digests.get(tile.name) for tile, t in jobs]
        answers = _answers(work, jobs, known=known, client=client)
        bar = tqdm(answers, "tiles", total=len(jobs), disable=not progress)
        for (tile, t), (digest, mapped) in zip(jobs, bar, strict=True):
            if mapped is not None:
                kept[t].write(tile, mapped, digest=digest)
    return _series([one.open() for one in kept.values()], moments).assign_attrs(
        _attributes(trained, archive, area, lost=lost)
    )


# ---- what a model eats, and how a tile of cells becomes its map ----------------------------------


class Windows:
    """How a model of windows is mapped: its layers, the grid of its cells, a scene a tile."""

    def __init__(self, trained: Any, options: Mapping[str, Any]):
        self.trained, self.inputs = trained, trained.inputs
        self.options = {"stride_m": 320.0, "progress": False, **options}
        self.is_smooth = self.options.pop("resampling", "nearest") == "smooth"
        self.cell_m = float(self.options["stride_m"])
        self.unit_m = WIDE_PIXEL_M if self.inputs.low else HIGH_PIXEL_M
        if not self.cell_m > 0 or self.cell_m % self.unit_m:
            raise ContractError(
                f"A stride of {self.cell_m:g} m is no whole number of the {self.unit_m:g} m pixels "
                "of the model's images. Choose such a stride, for instance 320 m."
            )
        self.halo_m = (CROP_PX * HIGH_PIXEL_M - self.cell_m) / 2

    @cached_property
    def bands(self) -> dict[float, dict[str, list[str]]]:
        """The bands of each source, by the pixel size of the cube that holds them."""
        wanted: dict[float, dict[str, list[str]]] = {}
        for size, names in (
            (HIGH_PIXEL_M, self.inputs.high),
            (WIDE_PIXEL_M, (*self.inputs.low, *self.inputs.coarse)),
        ):
            for source, _, band in (name.partition(".") for name in names):
                index = INDICES.get(source, {}).get(band)
                some = wanted.setdefault(size, {}).setdefault(source, [])
                some += [b for b in (index.bands if index else [band]) if b not in some]
        return wanted

    def reach_m(self, size: float) -> float:
        """How far about the cells a cube is wanted."""
        return self.halo_m + (self.smoothing_m if size == WIDE_PIXEL_M else 0.0)

    @cached_property
    def smoothing_m(self) -> float:
        """Half a pixel of the coarsest source, where it is to be smoothed."""
        names = distinct_sources(self.inputs.coarse) if self.is_smooth else ()
        return max((_whole(catalogue.get(n).pixel_size_m / 2) for n in names), default=0.0)

    def area(self, region: Any, *, crs: str | None) -> Region:
        """The region's cells: their windows begin on whole pixels of every image."""
        area = cubes.region_of(region, pixel_size_m=self.cell_m, crs=crs, tile_px=TILE_CELLS)
        grid, off_m = area.grid, self.halo_m % self.unit_m
        if not off_m:
            return area
        west_m, sides = self.unit_m - off_m, (grid.height + 1, grid.width + 1)
        left, top = grid.left_m - west_m, grid.top_m + west_m
        grid = Grid(grid.crs, left, top, grid.pixel_size_m, *sides)
        return replace(area, grid=grid)

    def prepare(self, cuts: Cuts, cells: Grid) -> Scene:
        """The layers about a tile's cells, as the model eats them."""
        fine, region = _about(cells, self.halo_m, pixel_size_m=HIGH_PIXEL_M), {}
        for size, some in self.bands.items():
            for name, bands in some.items():
                pixel_m = size if name in self.inputs.image_sources else self.unit_m
                grid = _about(cells, self.halo_m, pixel_size_m=pixel_m)
                region[name] = self._chip(cuts[size], name, bands=bands, grid=grid)
        return scene_of(region, inputs=self.inputs, statistics=self.trained.statistics, grid=fine)

    def answer(self, scene: Scene) -> xr.Dataset:
        """The map of a scene."""
        return self.trained.map(scene, **self.options)

    def _chip(self, cut: xr.Dataset, name: str, *, bands: Sequence[str], grid: Grid) -> Chip:
        """A source's stored values on a grid."""
        row, images = catalogue.get(name), []
        is_smooth = self.is_smooth and name in distinct_sources(self.inputs.coarse)
        for band in map(row.band, bands):
            values = cut[f"{name}_{band.name}"]
            if is_smooth:
                side_px = round(row.pixel_size_m / WIDE_PIXEL_M)
                values = values.copy(data=box_mean(values.to_numpy(), side_px))
            images.append((_on(values, grid).to_numpy() - band.offset) / band.scale)
        return Chip(np.stack(images), tuple(bands), grid)


def _whole(length_m: float) -> float:
    return float(np.ceil(length_m / WIDE_PIXEL_M) * WIDE_PIXEL_M)


def _about(cells: Grid, halo_m: float, *, pixel_size_m: float) -> Grid:
    """The grid of finer pixels over cells and a halo."""
    height, width = (
        round((n * cells.pixel_size_m + 2 * halo_m) / pixel_size_m)
        for n in (cells.height, cells.width)
    )
    left, top = cells.left_m - halo_m, cells.top_m + halo_m
    return Grid(cells.crs, left, top, pixel_size_m, height, width)


def _on(values: xr.Dataset | xr.DataArray, grid: Grid) -> Any:
    """What lies at the pixel centres of a grid, NaN beyond a cube's own."""
    half_m = 0.51 * abs(float(values["x"][-1] - values["x"][0])) / max(values.sizes["x"] - 1, 1)
    return values.reindex(y=grid.y_m, x=grid.x_m, method="nearest", tolerance=half_m or None)


# ---- the layers ----------------------------------------------------------------------------------


def _require(archive: Archive, area: Region, names: Sequence[str], *, days: np.ndarray) -> None:
    """Refuse an archive that has no scene of a source, at any time near the days."""
    place, lacking = area.stations.iloc[[len(area.tiles) // 2]], []
    for name in names:
        row = catalogue.get(name)
        back = LISTED if row.is_static else max(LISTED, catalogue.duration(row.max_age))
        try:
            scenes = archive.scenes(place, name, days[0] - back, days[-1] + np.timedelta64(1, "D"))
        except UnknownNameError:
            scenes = ()
        if not len(scenes):
            lacking.append(name)
    if lacking:
        raise CatalogueError(
            f"The archive {archive.name!r} has no {', '.join(lacking)} over the region from "
            f"{days[0] - LISTED:.10} to {days[-1]:.10}; the model eats {', '.join(names)}. Open an "
            "archive that has them, or map by a model that was trained without."
        )


def _moments(
    archive: Archive, area: Region, names: Sequence[str], *, days: np.ndarray
) -> pd.DatetimeIndex:
    """When dates are mapped: after their last pass, else at noon; other moments are kept."""
    moments = []
    for day in days:
        first = day.astype("datetime64[D]")
        if first != day:
            moments.append(day)
            continue
        passes: Any = ()
        if ANCHOR in names:
            after = first + np.timedelta64(1, "D")
            passes = all_scenes(archive, area.stations, sources=[ANCHOR], start=first, end=after)
        moments.append(
            (passes["end"].max() + PASS_SLACK).ceil("10min") if len(passes) else first + NOON
        )
    return pd.DatetimeIndex(np.unique(np.array(moments, "datetime64[us]")))


def _build(
    recipe: Windows, archive: Archive, area: Region, *, moments: pd.DatetimeIndex, folder: Path,
    options: Mapping[str, Any], progress: bool,
) -> dict[float, xr.Dataset]:  # fmt: skip
    """A cube for each pixel size, on nested grids about the cells."""
    names = [name for some in recipe.bands.values() for name in some]
    dated = [name for name in names if not catalogue.get(name).is_static]
    limits = {
        "bounds": catalogue.bounds(ANCHOR, dated) | dict(options.get("bounds") or {}),
        "max_cloud_fraction": {k: v for k, v in CLEAR.items() if k in names}
        | dict(options.get("max_cloud_fraction") or {}),
    }
    strange = {k for limit in limits.values() for k in limit} - set(names)
    if strange:
        raise UnknownNameError(
            f"A bound or cloud limit is given for {', '.join(sorted(strange))}; the model eats "
            f"{', '.join(names)}. Take it away."
        )
    return {
        size: cubes.build(
            area.around(recipe.reach_m(size)), archive, _cube_path(folder, size), sources=some,
            times=moments, pixel_size_m=size, crs=area.grid.crs, progress=progress,
            tile_px=options.get("tile_px"),
            **{key: {k: v for k, v in limit.items() if k in some} for key, limit in limits.items()},
        )
        for size, some in recipe.bands.items()
    }  # fmt: skip


def _cube_path(folder: Path, size: float) -> Path:
    return folder / f"cube_{size:g}m"


# ---- tiles ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """Predicts a tile at a moment, in this process or another."""

    recipe: Windows
    area: Region
    paths: Mapping[float, Path]

    @cached_property
    def key(self) -> str:
        """Digest of the model, its options and the cells."""
        weights = {n: t.numpy() for n, t in self.recipe.trained.checkpoint.weights.items()}
        content = (weights, self.recipe.trained.statistics, self.recipe.options, self.area.grid)
        words = (self.recipe.is_smooth, self.area.tile_px, self.area.outline.wkt)
        return hashlib.sha256(pickle.dumps((content, words))).hexdigest()

    def __call__(self, tile: Tile, moment: Any, known: str | None) -> tuple[str, Any]:
        """The digest of a tile and its map, None where the digest is the known one."""
        cells, digest = tile.part, hashlib.sha256(self.key.encode())
        cuts = {size: self._cut(size, cells, moment) for size in self.paths}
        for cut in cuts.values():
            for name in sorted(cut.data_vars):
                digest.update(name.encode() + np.ascontiguousarray(cut[name].to_numpy()).tobytes())
        if digest.hexdigest() == known:
            return digest.hexdigest(), None
        mapped = self.recipe.answer(self.recipe.prepare(cuts, cells))
        return digest.hexdigest(), _finished(mapped, cuts, cells, touched=self.area.touched(tile))

    def _cut(self, size: float, cells: Grid, moment: Any) -> xr.Dataset:
        """A cube about a tile, at a moment, in memory."""
        cube = cubes.open_cube(self.paths[size])
        cube = cube.sel(time=moment) if "time" in cube.dims else cube
        cube = cube.drop_vars(["inside", "spatial_ref"], errors="ignore")
        about = _about(cells, self.recipe.reach_m(size), pixel_size_m=size)
        return _on(cube, about).load()


def _finished(
    mapped: xr.Dataset, cuts: Cuts, cells: Grid, *, touched: np.ndarray
) -> xr.Dataset:  # fmt: skip
    """A tile's map with ages and validity, empty outside the region."""
    names = [name for name in mapped.data_vars if mapped[name].dims == ("y", "x")]
    mapped = mapped.assign({name: mapped[name].where(touched) for name in names})
    for cut in cuts.values():
        for name in (n for n in cut.data_vars if n.endswith("_age_hours")):
            ages = _on(cut[name], cells).to_numpy().astype(np.float32)
            attrs = {"units": "h", "long_name": cut[name].attrs.get("long_name", "age")}
            mapped[name] = ("y", "x"), np.where(touched, ages, np.nan), {**attrs, **ON_MAP}
    mapped["validity"] = ("y", "x"), _validity(mapped, touched=touched), VALIDITY
    return mapped


ON_MAP = {"grid_mapping": "crs"}
VALIDITY = {
    "long_name": "why there is no value", "flag_masks": np.array([*FLAGS], np.uint8),
    "flag_meanings": " ".join(FLAGS.values()), **ON_MAP,
}  # fmt: skip


def _validity(mapped: xr.Dataset, *, touched: np.ndarray) -> np.ndarray:
    """Flags (row, col) uint8: outside the region, or without what the model eats."""
    is_empty = mapped["soil_moisture"].isnull().to_numpy()
    flags = np.where(touched, 0, EDGE) | np.where(touched & is_empty, NO_SOURCE, 0)
    return flags.astype(np.uint8)


def _answers(
    work: Work, jobs: list[tuple[Tile, Any]], *, known: list[str | None], client: Any
) -> Iterator[tuple[str, Any]]:
    """What the work gives for each job, in their order."""
    if client is None:
        for (tile, moment), digest in zip(jobs, known, strict=True):
            yield work(tile, moment, digest)
        return
    futures = [client.submit(work, *job, d) for job, d in zip(jobs, known, strict=True)]
    for future in futures:
        yield future.result()


# ---- what is kept --------------------------------------------------------------------------------


class _Kept:
    """The map of one moment on disk, with the digests of its finished tiles."""

    def __init__(self, folder: Path, moment: pd.Timestamp, work: Work):
        name = f"{pd.Timestamp(moment):%Y%m%dT%H%M%S}"
        self.path, self.log, self.work = folder / f"{name}.zarr", folder / f"{name}.json", work
        try:
            content = json.loads(self.log.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # none, or damaged: made anew
            content = {}
        self.digests: dict[str, str] = content["tiles"] if content.get("key") == work.key else {}

    def write(self, tile: Tile, mapped: xr.Dataset, *, digest: str) -> None:
        """Keep a tile, and only then its digest."""
        if not self.digests:
            self._create(mapped)
        place = {"y": tile.rows, "x": tile.cols}
        mapped.drop_vars(["crs", "x", "y"]).to_zarr(self.path, region=place, consolidated=False)
        self.digests[tile.name] = digest
        content = {"key": self.work.key, "tiles": self.digests}
        write_text_whole(self.log, json.dumps(content, sort_keys=True, indent=1))

    def open(self) -> xr.Dataset:
        """The map, read when computed."""
        return xr.open_zarr(self.path, consolidated=False)

    def _create(self, mapped: xr.Dataset) -> None:
        """An empty map of all cells with the variables of a tile's."""
        shutil.rmtree(self.path, ignore_errors=True)
        grid, side = self.work.area.grid, self.work.area.tile_px
        layers, chunks = {}, {"y": min(side, grid.height), "x": min(side, grid.width)}
        for name in (n for n in mapped.data_vars if mapped[n].dims == ("y", "x")):
            kind = mapped[name].dtype
            fill = np.array(np.nan if kind.kind == "f" else EDGE, kind)
            empty = np.broadcast_to(fill, (grid.height, grid.width))
            layers[name] = empty, mapped[name].attrs
        encoding = {name: {"chunks": (*chunks.values(),)} for name in layers}
        whole = map_dataset(layers, grid).chunk(chunks)
        whole.to_zarr(self.path, mode="w", consolidated=False, encoding=encoding)


def _series(maps: list[xr.Dataset], moments: pd.DatetimeIndex) -> xr.Dataset:
    """Maps of one grid side by side in time."""
    layers = [name for name in maps[0].data_vars if maps[0][name].dims == ("y", "x")]
    time = pd.DatetimeIndex(moments, name="time")
    return xr.concat(
        maps, time, data_vars=layers, coords="minimal", compat="override", join="override",
        combine_attrs="override",
    ).set_coords("crs").reset_coords("crs")  # fmt: skip


def _attributes(
    trained: Any, archive: Archive, area: Region, *, lost: pd.DataFrame
) -> dict[str, Any]:
    """What a map says of itself; no clock enters."""
    is_synthetic = archive.name == "synthetic"
    words = {"comment": "Synthetic: no observation of the real Earth."} if is_synthetic else {}
    return {
        "title": f"Soil moisture by {trained.name}{', synthetic' if is_synthetic else ''}", **words,
        "archive": archive.name, "archive_version": archive.version,
        "region": area.degrees.wkt, "losses": json.dumps(lost.to_dict("records")),
    }  # fmt: skip

"""Any region, dates and archive to a map: cubes, tiles with a halo, and a store to go on in."""

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from tqdm.auto import tqdm

from soilkit.contracts import Archive, ChipRequest, Grid
from soilkit.errors import ContractError, UnknownNameError
from soilkit.export import cubes, daily_table
from soilkit.export.chips.builder import sole_builder
from soilkit.export.cubes.regions import Region, Tile
from soilkit.files import write_text_whole
from soilkit.models.maps import validity
from soilkit.models.maps.scene import RegionInputs, Windows, about, on_grid
from soilkit.models.maps.table_map import DailyRows, Rows
from soilkit.models.maps.windows import DEVIATION, DEVIATION_N, joint_deviation, map_dataset


def predict_region(
    trained: Any,
    region: Any,
    *,
    archive: Archive,
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
    trained : what a fusion's, the composite U-Net's or DEEPSOIL's ``train`` or ``load`` gave; a
        ``TrainedTable``, of features of a built dataset or of the daily table; or an estimator that
        was fitted on a DataFrame of them
    region : as in ``cubes.region_of``: a box in degrees, GeoJSON, a geometry, a quadkey
    archive : any that has the model's sources
    dates : dates or moments, naive UTC, increasing. A date is the moment after its last pass of
        Sentinel-1, where the model eats that and there was one, else its noon
    store : folder of the cubes and of the finished tiles
    cube_options : of ``cubes.build``: ``bounds``, ``max_cloud_fraction``, ``crs``, ``tile_px``; and
        ``masks``, further bands by source that ``validity`` is to know of, such as
        ``{"sentinel2": ["QA60"], "land_cover": ["discrete_classification"]}``
    client : of Dask, or an executor of processes; it shares the file system of ``store``
    progress : bool
    options : of the model's ``map``: ``stride_m``, ``precision`` ...; ``resampling="smooth"``
        draws coarse inputs as a surface between the centres of their pixels

    Returns
    -------
    Dataset (time, y, x), read when computed: ``soil_moisture``, m3 m-3, what else the model states,
    ``<source>_age_hours`` at the cells' centres, and ``validity``, 0 or bits that say why there is
    no value; ``cubes.losses`` counts the scenes that lack. Of a dense map the attributes
    ``dense_deviation_m3_m3`` and ``dense_deviation_n_cells`` are those of all its tiles together

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
    plan, folder = _Plan(trained, archive, region, dates, cube_options, options), Path(store)
    built = {
        size: cubes.build(where, archive, folder / name, progress=progress, **wanted)
        for size, name, where, wanted in plan.cubes()
    }
    recipe, area, moments = plan.recipe, plan.area, plan.moments
    lost = pd.concat([cubes.losses(cube) for cube in built.values()], ignore_index=True)
    work = Work(recipe, area, {size: folder / name for size, name, *_ in plan.cubes()})
    together = [moments.tolist()] if recipe.is_series else [[t] for t in moments.tolist()]
    jobs = [(tile, some) for some in together for tile in area.tiles]
    with sole_builder(folder / "maps"):
        kept = {t: _Kept(folder / "maps" / work.key[:16], t, work) for t in moments.tolist()}
        known = [{kept[t].digest(tile) for t in some} for tile, some in jobs]
        answers = _answers(work, jobs, known=known, client=client)
        bar = tqdm(answers, "tiles", total=len(jobs), disable=not progress)
        for (tile, some), (digest, maps) in zip(jobs, bar, strict=True):
            for t, mapped in zip(some, maps, strict=False):
                kept[t].write(tile, mapped, digest=digest)
    deviations = (part for one in kept.values() for part in one.tiles.values())
    attributes = _attributes(trained, archive, area, lost=lost) | joint_deviation(deviations)
    return _series([one.open() for one in kept.values()], moments).assign_attrs(attributes)


def plan_region(
    trained: Any,
    region: Any,
    *,
    archive: Archive,
    dates: Any,
    store: str | os.PathLike[str] | None = None,
    cube_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> list[ChipRequest]:
    """The chips that ``predict_region`` would ask for, for ``archives.confirm``.

    Its parameters and errors; what stands in a ``store`` is left out.
    """
    plan, requests = _Plan(trained, archive, region, dates, cube_options, options), []
    for _, name, where, wanted in plan.cubes():
        folder = None if store is None else Path(store) / name
        requests += cubes.plan(where, archive, store=folder, **wanted)
    return requests


class _Plan:
    """What a map is made of: how its model eats, its cells and moments, and the cubes for them."""

    def __init__(self, trained, archive, region, dates, cube_options, options):
        self.options = dict(cube_options or {})
        self.recipe = recipe_of(trained, options)
        self.recipe.masks = dict(self.options.pop("masks", {}))
        self.area = self.recipe.area(region, crs=self.options.pop("crs", None))
        days = cubes.moments_of(dates)
        self.moments = self.recipe.moments(archive, self.area, days=days)

    def cubes(self) -> Iterator[tuple[float, str, Any, dict[str, Any]]]:
        """Of each cube its pixel size, folder, region and options: nested grids about the cells."""
        recipe, names = self.recipe, set(self.recipe.names)
        limits = {
            key: {**rule, **(self.options.get(key) or {})} for key, rule in recipe.limits.items()
        }
        strange = sorted({k for limit in limits.values() for k in limit} - names)
        if strange:
            raise UnknownNameError(
                f"A bound or cloud limit is given for {', '.join(strange)}; the model eats "
                f"{', '.join(recipe.names)}. Take it away."
            )
        times, crs = recipe.cube_times(self.moments), self.area.grid.crs
        for size, some in recipe.wanted.items():
            wanted = {"sources": some, "times": times, "pixel_size_m": size, "crs": crs}
            wanted |= {k: {n: v for n, v in d.items() if n in some} for k, d in limits.items()}
            wanted["tile_px"] = self.options.get("tile_px")
            yield size, f"cube_{size:g}m", self.area.around(recipe.reach_m(size)), wanted


def recipe_of(trained: Any, options: Mapping[str, Any]) -> RegionInputs:
    """How a model is mapped: as it says itself, by windows, the daily table, or features."""
    if hasattr(trained, "region_inputs"):
        return trained.region_inputs(options)
    if hasattr(trained, "inputs"):
        return Windows(trained, options)
    columns = getattr(trained, "columns", getattr(trained, "feature_names_in_", None))
    if columns is None:
        raise ContractError(
            f"A {type(trained).__name__} does not tell what it eats: wanted a trained fusion, a "
            "trained system of tables, or an estimator that was fitted on a DataFrame."
        )
    kind = DailyRows if set(columns) <= set(daily_table.PREDICTORS) else Rows
    return kind(trained, list(columns), options)


# ---- tiles ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """Predicts a tile at a moment, in this process or another."""

    recipe: RegionInputs
    area: Region
    paths: Mapping[float, Path]

    def __getstate__(self) -> dict[str, Any]:
        """Without what a process opened or found out for itself."""
        return {name: getattr(self, name) for name in ("recipe", "area", "paths")}

    @cached_property
    def cubes(self) -> dict[float, xr.Dataset]:
        """The cubes, open."""
        return {size: cubes.open_cube(path, chunks=None) for size, path in self.paths.items()}

    @cached_property
    def key(self) -> str:
        """Digest of the model, its options and the cells."""
        words = (self.area.grid, self.area.tile_px, self.area.outline.wkt)
        return hashlib.sha256(self.recipe.fingerprint + pickle.dumps(words)).hexdigest()

    def __call__(
        self, tile: Tile, moments: Sequence[Any], known: set[str | None]
    ) -> tuple[str, list[xr.Dataset]]:
        """The digest of a tile, and its map at each moment; none where the digest is known."""
        cells, digest = tile.part, hashlib.sha256(self.key.encode())
        eaten, cuts = [], []
        for moment in moments:
            cut = {size: self._cut(size, cells, moment) for size in self.paths}
            for one in cut.values():
                for name in sorted(map(str, one.data_vars)):
                    values = np.ascontiguousarray(one[name].to_numpy())
                    digest.update(name.encode() + values.tobytes())
            eaten.append(self.recipe.prepare(cut, cells, moment=moment))
            flat = [one for one in cut.values() if "time" not in one.dims]
            cuts.append((_ages(flat, cells), [validity.reasons_of(one, cells) for one in flat]))
        if known == {digest.hexdigest()}:
            return digest.hexdigest(), []
        touched, maps = self.area.touched(tile), []
        for mapped, (ages, reasons) in zip(self.recipe.answer(eaten, cells), cuts, strict=True):
            mapped = mapped.assign(ages)
            layers = [name for name in mapped.data_vars if mapped[name].dims == ("y", "x")]
            mapped = mapped.assign({name: mapped[name].where(touched) for name in layers})
            edge = {"edge": (~touched).astype(float)}
            maps.append(validity.with_validity(mapped, [edge, *reasons]))
        return digest.hexdigest(), maps

    def _cut(self, size: float, cells: Grid, moment: Any) -> xr.Dataset:
        """A cube about a tile, at a moment, in memory."""
        cube = self.recipe.at(self.cubes[size], moment)
        cube = cube.drop_vars(["inside", "spatial_ref"], errors="ignore")
        x_m = cube["x"].to_numpy()[:2]
        pixel_m = float(x_m[1] - x_m[0]) if len(x_m) > 1 else size  # of an EASE-Grid more than size
        grid = about(cells, self.recipe.reach_m(size), pixel_size_m=pixel_m)
        left, bottom, right, top = np.add(grid.bounds_m, np.multiply(pixel_m, (-1, -1, 1, 1)))
        near = cube.sel(y=slice(top, bottom), x=slice(left, right))  # read as it lies
        return on_grid(near.load(), grid)


def _ages(cuts: Sequence[xr.Dataset], cells: Grid) -> dict[str, Any]:
    """The age of each dated source at the cells' centres."""
    ages = {}
    for cut in cuts:
        for name in (n for n in map(str, cut.data_vars) if n.endswith("_age_hours")):
            values = on_grid(cut[name], cells).to_numpy().astype(np.float32)
            attrs = {"units": "h", "long_name": cut[name].attrs["long_name"], "grid_mapping": "crs"}
            ages[name] = ("y", "x"), values, attrs
    return ages


def _answers(
    work: Work, jobs: list[tuple[Tile, Any]], *, known: list[set[str | None]], client: Any
) -> Iterator[tuple[str, list[xr.Dataset]]]:
    """What the work gives for each job, in their order."""
    if client is None:
        for job, digests in zip(jobs, known, strict=True):
            yield work(*job, digests)
        return
    futures = [client.submit(work, *job, d) for job, d in zip(jobs, known, strict=True)]
    for future in futures:
        yield future.result()


# ---- what is kept --------------------------------------------------------------------------------


class _Kept:
    """The map of one moment on disk, with what is known of its finished tiles."""

    def __init__(self, folder: Path, moment: pd.Timestamp, work: Work):
        name = f"{pd.Timestamp(moment):%Y%m%dT%H%M%S}"
        self.path, self.log, self.work = (
            folder / f"{name}.zarr",
            folder / f"{name}.tiles.json",
            work,
        )
        try:
            content = json.loads(self.log.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # none, or damaged: made anew
            content = {}
        self.tiles: dict[str, dict[str, Any]] = content

    def digest(self, tile: Tile) -> str | None:
        """Of what a finished tile was made."""
        return self.tiles.get(tile.name, {}).get("digest")

    def write(self, tile: Tile, mapped: xr.Dataset, *, digest: str) -> None:
        """Keep a tile, and only then its digest and how far it is from an exact one."""
        if not self.tiles:
            self._create(mapped)
        place = {"y": tile.rows, "x": tile.cols}
        mapped.drop_vars(["crs", "x", "y"]).to_zarr(self.path, region=place, consolidated=False)
        dense = {n: v for n, v in mapped.attrs.items() if n in (DEVIATION, DEVIATION_N)}
        self.tiles[tile.name] = {"digest": digest, **dense}
        write_text_whole(self.log, json.dumps(self.tiles, sort_keys=True, indent=1))

    def open(self) -> xr.Dataset:
        """The map, read when computed."""
        return xr.open_zarr(self.path, consolidated=False)

    def _create(self, mapped: xr.Dataset) -> None:
        """An empty map of all cells with the variables of a tile's."""
        shutil.rmtree(self.path, ignore_errors=True)
        grid, side = self.work.area.grid, self.work.area.tile_px
        layers, chunks = {}, {"y": min(side, grid.height), "x": min(side, grid.width)}
        for name in (n for n in map(str, mapped.data_vars) if mapped[n].dims == ("y", "x")):
            kind = mapped[name].dtype
            fill = np.array(np.nan if kind.kind == "f" else validity.REASONS["edge"], kind)
            empty = np.broadcast_to(fill, (grid.height, grid.width))
            layers[name] = empty, mapped[name].attrs
        encoding = {name: {"chunks": (*chunks.values(),)} for name in layers}
        whole = map_dataset(layers, grid).chunk(chunks)
        whole.to_zarr(self.path, mode="w", consolidated=False, encoding=encoding)


def _series(maps: list[xr.Dataset], moments: pd.DatetimeIndex) -> xr.Dataset:
    """Maps of one grid side by side in time."""
    layers = [name for name in maps[0].data_vars if maps[0][name].dims == ("y", "x")]
    layers.sort(key=lambda name: (not str(name).startswith("soil_moisture"), name))
    maps = [one[[*layers, "crs"]] for one in maps]
    time = pd.DatetimeIndex(moments, name="time")
    return xr.concat(
        maps, time, data_vars=layers, coords="minimal", compat="override", join="override",
        combine_attrs="override",
    )  # fmt: skip


def _attributes(
    trained: Any, archive: Archive, area: Region, *, lost: pd.DataFrame
) -> dict[str, Any]:
    """What a map says of itself; no clock enters."""
    is_synthetic = archive.name == "synthetic"
    name = getattr(trained, "name", type(trained).__name__)
    words = {"comment": "Synthetic: no observation of the real Earth."} if is_synthetic else {}
    return {
        "title": f"Soil moisture by {name}{', synthetic' if is_synthetic else ''}", **words,
        "archive": archive.name, "archive_version": archive.version,
        "region": area.degrees.wkt, "losses": json.dumps(lost.to_dict("records")),
    }  # fmt: skip

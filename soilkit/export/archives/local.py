"""The user's own files as an archive: NetCDF, HDF5, GRIB, Zarr, GeoTIFF and xarray objects."""

import glob
import hashlib
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from soilkit import grids, sources, units
from soilkit.constants import CHIP_SIDE_M
from soilkit.contracts import Chip, ChipRequest, Failure
from soilkit.errors import CatalogueError, ContractError, SoilkitError, UnknownNameError
from soilkit.export.archives import scenes as tables
from soilkit.export.archives.layers import ENGINES, LAYOUTS, US, Arrays, Layout, Raster, date_in
from soilkit.export.archives.layers import Layer as Layer
from soilkit.sources import Band, Source

log = logging.getLogger(__name__)
POINTS_A_SIDE = 9  # at which a footprint's cover is counted
SAME_MOMENT = np.timedelta64(1, "s")  # a time that went through ages comes back rounded


@dataclass
class Holding:
    """A layer's files that can be used, and its images: one a moment, in pieces (file, image)."""

    row: Source
    files: list[Any]
    images: pd.DataFrame
    pieces: list[list[tuple[int, int]]]

    def inside(self, start: Any, end: Any) -> np.ndarray:
        """The numbers of the images whose end lies in [start, end); of a static layer all."""
        ends = self.images["end"].to_numpy()
        is_inside = (ends >= np.datetime64(start, "us")) & (ends < np.datetime64(end, "us"))
        return np.flatnonzero(is_inside | self.row.is_static)

    def number(self, request: ChipRequest) -> int | None:
        """The number of a request's image."""
        is_later = abs(self.images["end"] - request.time) > SAME_MOMENT  # of NaT false
        is_it = (self.images["scene_id"] == request.scene_id) & ~is_later
        return int(is_it.argmax()) if is_it.any() else None

    def on_grid(self, k: int, band: Band, *, request: ChipRequest) -> tuple[np.ndarray, str]:
        """An image's band on the request's grid, stored values, and why nothing of it is left."""
        grid = request.grid
        out, reason = np.full((grid.height, grid.width), np.nan, "f4"), ""
        mixes = band.continuous and self.row.resolution != "coarse"
        for n, image in self.pieces[k]:
            one = self.files[n]
            if band.name not in one.linear:
                reason = f"{one.place} has no {band.name}"
                continue
            patch = one.cut(band.name, grid, image=image)
            if patch is None:
                continue
            stored = _stored(patch.values[0], one.linear[band.name])
            valid = band.valid(stored)
            known = stored[np.isfinite(stored)]
            if known.size and not np.isfinite(valid).any():
                reason = (
                    f"all numbers lie outside the valid {band.stored_range[0]:g} to "
                    f"{band.stored_range[1]:g} of {band.name}, from {known.min():g} to "
                    f"{known.max():g}: state the right unit of {one.place}"
                )
            power = units.linear_from_db(valid) if band.unit == "dB" else valid
            method = request.resampling if mixes else "nearest"
            values = replace(patch, values=power[None]).on_grid(grid, resampling=method)[0]
            values = units.db_from_linear(values) if band.unit == "dB" else values
            np.copyto(out, values, where=np.isnan(out))
        return out, reason


def _stored(numbers: np.ndarray, linear: tuple[float, float]) -> np.ndarray:
    return (numbers * np.float32(linear[0]) + np.float32(linear[1])).astype("f4")


def _stamps(one: Any, row: Source, dates: str | Sequence[Any]) -> np.ndarray:
    """The times of a file's images, NaT for a static layer; ``dates`` go before what it says."""
    if row.is_static:
        return np.array(["NaT"], US)
    name = Path(one.place).name if isinstance(one.place, str) else ""
    if dates and isinstance(dates, str):
        dates = [datetime.strptime(name, dates)]
    times = np.array(dates or (one.times if len(one.times) else [date_in(name)]), US)
    if len(times) != max(1, len(one.times)):
        raise ContractError(f"{len(times)} dates are named for its {max(1, len(one.times))} images")
    if np.isnat(times).all():
        raise ContractError("it has no time: name one a file, or a pattern of names, as dates=")
    return times


def _holding(row: Source, layer: Layer, files: list[Any], parts: pd.DataFrame) -> Holding:
    """One image a moment, in order of time; of a date without an hour the whole day."""
    scenes = parts.groupby("stamp", dropna=False)
    pieces = [[*zip(some.file, some.image, strict=True)] for _, some in scenes[["file", "image"]]]
    if row.is_static:
        return Holding(row, files, tables.static_image(), pieces)
    times = np.array([stamp for stamp, _ in scenes], US)
    is_bare = row.cadence.endswith("D") and (times == times.astype("datetime64[D]")).all()
    by = layer.dated_by or ("day" if is_bare and row.dated_by in ("instant", "middle") else "")
    names = [re.sub(r"[-:.]", "", str(t).removesuffix(".000000")) for t in times]
    images = tables.interval(row, times, dated_by=by).assign(scene_id=names)
    return Holding(row, files, images, pieces)


def _listed(files: Any, row: Source) -> list[Any]:
    """Paths, as text, and datasets, in order."""
    if hasattr(files, "dims"):
        is_bare = not hasattr(files, "data_vars")
        return [files.to_dataset(name=files.name or row.bands[0].name) if is_bare else files]
    if isinstance(files, Iterable) and not isinstance(files, str) and len(files := list(files)):
        return [one for some in files for one in _listed(some, row)]
    if not isinstance(files, str | os.PathLike):
        raise ContractError(f"{row.name}: files are paths or xarray objects, found {files!r}.")
    text = os.path.expanduser(files)
    if os.path.exists(text) and (os.path.isfile(text) or text.endswith(".zarr")):
        return [text]
    matching = sorted(glob.glob(text, recursive=True)) if not os.path.isdir(text) else []
    if not matching:
        raise CatalogueError(
            f"{row.name}: no file is called {text}. Name files, or a pattern such as 'smap/*.h5'."
        )
    return matching


def _fingerprint(place: Any) -> list[str]:
    """What tells one state of a file from another: name, size and time of change; of an xarray
    object in memory its content, on Dask, where that may be large, the name of its graph."""
    if isinstance(place, str):
        parts = sorted(Path(place).rglob("*")) if os.path.isdir(place) else [Path(place)]
        states = [(part.name, part.stat()) for part in parts]
        return [f"{name} {state.st_size} {state.st_mtime_ns}" for name, state in states]
    content = hashlib.sha256()
    for name, one in sorted(place.variables.items(), key=lambda pair: str(pair[0])):
        content.update(f"{name}{one.dims}{one.shape}{one.attrs}".encode())
        content.update(one.data.name.encode() if one.chunks else one.to_numpy().tobytes())
    return [content.hexdigest()]


class LocalArchive:
    """Scenes, chips and series from the user's own files, mapped to sources of the catalogue.

    Files of one moment are tiles of one scene; a pixel is the first one's that knows it. A file
    that cannot be used is left out by name (``left_out``). Values out of a band's valid range are
    none before anything is resampled: bilinearly, backscatter in linear power, classes and coarse
    products by the nearest pixel. ``version`` hashes the options and each file's name, size and
    time of change, so a touched file is another version.

    Parameters
    ----------
    layers : {source: Layer}; bare files or an xarray object stand for ``Layer(files)``, and a
        dictionary, as parameters of a notebook can be, for ``Layer(**dictionary)``
    footprint_m : float, m
        Side of the square around a station that a scene must touch, and whose covered part is
        ``valid_fraction``; for a cube the side of its tiles, or those at the files' edge are lost.

    Raises
    ------
    UnknownNameError
        For a source, band or variable that does not exist.
    UnitError
        Where no unit is known, or it cannot be turned into the source's.
    CatalogueError, ContractError, DependencyError
        Where none of a layer's files can be used: the first one's reason.
    """

    name = "local"

    def __init__(self, layers: Mapping[str, Any], *, footprint_m: float = CHIP_SIDE_M) -> None:
        self.footprint_m, self._lost = float(footprint_m), list[tuple[str, str, str]]()
        words: list[Any] = []
        self._held = {}
        for name, given in layers.items():
            given = given if isinstance(given, Layer | dict) else {"files": given}
            try:
                layer = given if isinstance(given, Layer) else Layer(**given)
            except TypeError as error:
                raise ContractError(f"{name}: {error}") from error
            row = sources.get(name)
            places = _listed(layer.files, row)
            self._held[name] = self._hold(row, layer, places)
            words += [name, replace(layer, files=""), *map(_fingerprint, places)]
        self.version = f"local-{hashlib.sha256(repr(words).encode()).hexdigest()[:12]}"

    @property
    def left_out(self) -> pd.DataFrame:
        """What was met and could not be used: ``source``, ``file``, ``reason``."""
        return pd.DataFrame(self._lost, columns=["source", "file", "reason"])

    def _lose(self, source: str, place: Any, reason: str) -> None:
        name = place if isinstance(place, str) else "an xarray object"
        self._lost.append((source, name, reason))
        log.warning("%s: %s left out: %s", source, name, reason)

    def _hold(self, row: Source, layer: Layer, places: list[Any]) -> Holding:
        """The files that can be used, and their images by time."""
        files, parts, errors = list[Any](), list[pd.DataFrame](), list[Exception]()
        for band in () if isinstance(layer.unit, str) else layer.unit:
            row.band(band)
        if layer.flag_bits and not LAYOUTS.get(row.name, Layout({})).flags:
            raise ContractError(f"{row.name} has no flags that flag_bits= could ask: mask it first")
        for n, place in enumerate(places):
            is_array = not isinstance(place, str) or Path(place).suffix.lower() in ENGINES
            kind: Any = Arrays if is_array else Raster
            try:
                words = layer.of_file(n, len(places))
                one = kind(place, row, words)
                stamps = _stamps(one, row, words.dates)
            except Exception as error:  # what no reader understands costs one file
                errors.append(error)
                self._lose(row.name, place, str(error) or type(error).__name__)
                continue
            part = pd.DataFrame({"stamp": stamps, "file": len(files), "image": range(len(stamps))})
            is_lost = part.stamp.duplicated() | (part.stamp.isna() & (not row.is_static))
            if is_lost.any():
                self._lose(row.name, place, f"{is_lost.sum()} images have no time of their own")
            files.append(one)
            parts.append(part[~is_lost])
        if not files:
            kind = type(errors[0]) if isinstance(errors[0], SoilkitError) else CatalogueError
            _, first, reason = self._lost[-len(places)]
            raise kind(
                f"{row.name}: none of {len(places)} files can be used; {first}: {reason}"
            ) from errors[0]
        return _holding(row, layer, files, pd.concat(parts))

    def _known(self, source: str) -> Holding:
        if source not in self._held:
            raise UnknownNameError(
                f"The local archive has no {source!r}; it has {', '.join(self._held) or 'nothing'}."
                " Name its files in layers={...}."
            )
        return self._held[source]

    def scenes(self, stations: pd.DataFrame, source: str, start: Any, end: Any) -> pd.DataFrame:
        """Scenes of one source over the stations whose end lies in [start, end) (contract SCENES).

        Raises ``UnknownNameError`` for a source without files.
        """
        held, places = self._known(source), tables.places_of(stations)
        inside = held.inside(start, end)
        step_m = self.footprint_m / POINTS_A_SIDE
        nets = [
            grids.lonlat(grids.chip_grid(lat, lon, size_px=POINTS_A_SIDE, pixel_size_m=step_m))
            for lat, lon in zip(places.latitude, places.longitude, strict=True)
        ]
        points = np.array(nets).reshape(-1, 2, POINTS_A_SIDE**2).transpose(0, 2, 1).reshape(-1, 2)
        covers = {
            lattice: lattice.holds(points).reshape(len(places), -1).mean(axis=1)
            for lattice in {held.files[n].lattice for k in inside for n, _ in held.pieces[k]}
        }
        of_images = [[covers[held.files[n].lattice] for n, _ in held.pieces[k]] for k in inside]
        images = held.images.iloc[inside].reset_index(drop=True)
        table = tables.scenes_everywhere(source, images, places=places)
        table["valid_fraction"] = np.array([np.max(some, axis=0) for some in of_images]).T.ravel()
        return table[table.valid_fraction > 0].reset_index(drop=True)

    def chips(
        self, requests: Iterable[ChipRequest]
    ) -> Iterator[tuple[ChipRequest, Chip | Failure]]:
        """Yield every request with its chip or its failure, scene by scene."""
        for request in sorted(requests, key=lambda r: (r.source, r.scene_id)):
            try:
                answer = self._chip(request)
            except Exception as error:  # of a reader: the file may be mended
                answer = Failure(f"{request.scene_id}: {error}", permanent=False)
            yield request, answer

    def _chip(self, request: ChipRequest) -> Chip | Failure:
        if request.source not in self._held:
            return Failure(f"the local archive has no layer {request.source!r}")
        held = self._held[request.source]
        if reason := tables.refusal(request, self.version):
            return Failure(reason)
        if (k := held.number(request)) is None:
            return Failure(f"no scene {request.scene_id} at {request.time}")
        bands, reasons = [], list[str]()
        for name in request.bands:
            values, reason = held.on_grid(k, held.row.band(name), request=request)
            bands.append(values)
            reasons += [reason] if reason and not np.isfinite(values).any() else []
        if len(reasons) == len(bands):
            return Failure("; ".join(reasons))
        return tables.chip_of(request, np.stack(bands))

    def series(self, stations: pd.DataFrame, source: str, start: Any, end: Any) -> pd.DataFrame:
        """A coarse product at the stations: ``station_id``, ``scene_id``, ``start``, ``end`` and
        one column a band, stored values of the pixel that holds the station.

        Raises ``UnknownNameError`` for a source without a series, or without files.
        """
        held, places = self._known(source), tables.places_of(stations)
        if held.row.is_static or held.row.resolution == "high":
            raise UnknownNameError(f"There is no series of {source!r}: ask for its chips.")
        inside, bands = held.inside(start, end), held.row.bands
        points = places[["longitude", "latitude"]].to_numpy(float)
        values = np.full((len(places), len(inside), len(bands)), np.nan, "f4")
        wanted = pd.DataFrame(
            [(n, i, c) for c, k in enumerate(inside) for n, i in held.pieces[k]],
            columns=["file", "image", "column"],
        )
        for n, some in wanted.groupby("file"):
            one = held.files[n]
            here = np.flatnonzero(one.lattice.holds(points))
            try:
                for b, band in enumerate(bands if len(here) else ()):
                    if band.name in one.linear:
                        numbers = one.at(band.name, points[here], images=some.image.to_numpy()).T
                        stored = band.valid(_stored(numbers, one.linear[band.name]))
                        where = (here[:, None], some.column.to_numpy(), b)
                        values[where] = np.where(np.isnan(values[where]), stored, values[where])
            except Exception as error:  # of a reader
                self._lose(source, one.place, str(error))
        images = held.images.iloc[inside].reset_index(drop=True)
        return tables.series_table(images, values, places=places, bands=[b.name for b in bands])

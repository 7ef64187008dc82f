"""Shards of the published schema made from an archive: for tests, benchmarks and classrooms."""

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from soilkit import contracts, features, grids, sources
from soilkit.contracts import Archive, Chip, ChipRequest, Grid
from soilkit.published import coding, schema
from soilkit.published.shards import Sample, write_shard

PIXEL_SIZE_M = 10.0  # of every image, SoilGrids and land cover too
_US_PER_HOUR = 3_600_000_000
_PREFIX = {"sentinel1": "sentinel_1", "sentinel2": "sentinel_2", "smap": "smap", "gldas": "gldas"}
_COARSE = {"smap": "smap_sm", "gldas": "gldas_sm"}


def write_archive_shard(
    path: str | os.PathLike[str],
    samples: pd.DataFrame,
    *,
    archive: Archive,
    stations: pd.DataFrame,
    labelled: Iterable[str] = (),
) -> int:
    """Write a joined samples table as a published shard (see ``samples_from_archive``).

    Returns
    -------
    int
        How many samples were written.
    """
    made = samples_from_archive(samples, archive, stations=stations, labelled=labelled)
    return write_shard(path, made)


def samples_from_archive(
    samples: pd.DataFrame, archive: Archive, *, stations: pd.DataFrame, labelled: Iterable[str] = ()
) -> Iterator[Sample]:
    """What the publication would have exported of a joined samples table.

    Images of 512 x 512 pixels of 10 m in bytes, SMAP and GLDAS in bytes, times as 32-bit floats of
    milliseconds, ``sensor_id`` without depths. The images of yearly statistics, of ASTER and the
    masks are left out. A chip that does not come leaves its images out too.

    Parameters
    ----------
    samples : table SAMPLES with ``<source>_scene`` and ``<source>_age_hours``
    archive : where chips and series come from
    stations : table STATIONS
    labelled : names of networks
        Those whose readings go into the shard, as only some may be passed on; the others' labels
        are absent.

    Yields
    ------
    Sample
        In the order of the table.
    """
    contracts.check(samples, contracts.SAMPLES)
    contracts.check(stations, contracts.STATIONS)
    places = stations.drop_duplicates("sensor_id").set_index("sensor_id")
    coarse = {source: _series(samples, archive, stations, source) for source in _COARSE}
    networks, standing = frozenset(labelled), _Standing(archive)
    for position, row in enumerate(samples.to_dict("records")):
        place = places.loc[row["sensor_id"]]
        grid = _grid(place)
        scalars = _place(place, grid) | _times(row)
        scalars |= _label(row, place) if place["network"] in networks else {}
        values = {s: column[position] for s, column in coarse.items() if column is not None}
        scalars |= {_COARSE[s]: int(coding.encode(_COARSE[s], v)) for s, v in values.items()}
        yield Sample(scalars, standing.images(row, grid))


def _series(
    samples: pd.DataFrame, archive: Archive, stations: pd.DataFrame, source: str
) -> np.ndarray | None:
    """The chosen value of each sample, stored units; None where the join left the source out."""
    if f"{source}_scene" not in samples.columns:
        return None
    times = samples["time"] - pd.to_timedelta(samples[f"{source}_age_hours"], unit="h")
    day = pd.Timedelta("1D")
    series = archive.series(stations, source, times.min() - day, times.max() + day)
    table = features.from_series(samples, series, source)
    return table.drop(columns="sample_id").iloc[:, 0].to_numpy()


def _grid(place: Any) -> Grid:
    return grids.chip_grid(
        place["latitude"], place["longitude"], size_px=schema.SIDE_PX, pixel_size_m=PIXEL_SIZE_M
    )


def _place(place: Any, grid: Grid) -> dict[str, Any]:
    left, bottom, right, top = grid.bounds_m
    corners = [left, bottom, right, bottom, right, top, left, top, left, bottom]
    zone = int(grid.crs[-2:])
    return {
        "sensor_id": str(place.name).rsplit("__", 2)[0],
        "center_lat": float(place["latitude"]),
        "center_long": float(place["longitude"]),
        "size": schema.SIDE_PX,
        "utm_zone": f"{zone}{'N' if place['latitude'] >= 0 else 'S'}",
        "utm_easting_northing_image_polygon": np.array(corners, np.float32),
    }


def _label(row: Mapping[str, Any], place: Any) -> dict[str, float]:
    name = "sm_0_5" if place["depth_from_m"] == 0 else "sm_5_5"
    return {name: float(np.float32(row["soil_moisture_m3_m3"]))}


def _times(row: Mapping[str, Any]) -> dict[str, float]:
    """Milliseconds since 1970 in 32-bit floats: of the reading, and of each dated source."""
    out = {"timestamp": _milliseconds(row["time"])}
    for source, prefix in _PREFIX.items():
        age_hours = row.get(f"{source}_age_hours", np.nan)
        if np.isfinite(age_hours):
            age = pd.Timedelta(hours=age_hours)
            out[f"{prefix}_timestamp"] = _milliseconds(row["time"] - age)
            out[f"{prefix}_time_millis_diff"] = float(np.float32(age.total_seconds() * 1000))
    return out


def _milliseconds(time: pd.Timestamp) -> float:
    return float(np.float32(np.datetime64(time, "ms").astype(np.int64)))


class _Standing:
    """Asks an archive for a sample's chips; layers that stand still are asked for once a grid."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.kept: dict[str, dict[str, np.ndarray]] = {}
        self.grid: Grid | None = None

    def images(self, row: Mapping[str, Any], grid: Grid) -> dict[str, np.ndarray]:
        """The images of every source that the sample has a scene of, as the shards store them."""
        if grid != self.grid:
            self.grid, self.kept = grid, {}
        made: dict[str, np.ndarray] = {}
        for name in sorted({f.source for f in schema.FEATURES if f.kind == "image" and f.source}):
            if name in self.kept:
                made |= self.kept[name]
            elif isinstance(row.get(f"{name}_scene"), str) and row[f"{name}_scene"]:
                found = self._chip(row, sources.get(name), grid)
                made |= found
                if sources.get(name).is_static:
                    self.kept[name] = found
        return made

    def _chip(
        self, row: Mapping[str, Any], source: sources.Source, grid: Grid
    ) -> dict[str, np.ndarray]:
        wanted = {schema.feature(n).band: n for n in schema.images_of(source.name)}
        bands = tuple(b.name for b in source.bands if b.name in wanted)
        age_hours = row.get(f"{source.name}_age_hours", np.nan)
        seen = pd.NaT
        if np.isfinite(age_hours):
            seen = row["time"] - pd.Timedelta(round(age_hours * _US_PER_HOUR), unit="us")
        request = ChipRequest(
            source=source.name,
            scene_id=row[f"{source.name}_scene"],
            station_id=str(row["station_id"]),
            time=seen.to_datetime64().astype("datetime64[us]"),
            bands=bands,
            grid=grid,
            version=self.archive.version,
        )
        ((_, chip),) = self.archive.chips([request])
        if not isinstance(chip, Chip):
            return {}
        return {
            wanted[b]: coding.encode(wanted[b], v) for b, v in zip(bands, chip.values, strict=True)
        }

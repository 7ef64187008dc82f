"""The paper's size from a local scene table: 1300 stations, 6 years, six sources, hourly readings.

The scene index lies on disk as the Earth Engine archive keeps it (invented passes of Sentinel-1 and
-2, the calendars of SMAP and GLDAS). Timed: from these files through ``all_scenes`` to the joined
samples. The first call, which puts together a file a station and year, is told beside. The peer
joins the same scenes, in memory already, with one ``pandas.merge_asof`` a source.
``SOILKIT_BENCH_STATIONS`` makes it smaller.
"""

import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from soilkit import sources
from soilkit.export.archives import all_scenes
from soilkit.export.archives.earthengine import EarthEngineArchive, scene_index
from soilkit.export.archives.earthengine.expressions import Piece
from soilkit.export.archives.earthengine.scene_index import IndexJob, ScenesCache, years
from soilkit.export.join import anchored_join
from tests.benchmarks.bench_join import readings

N_STATIONS = int(os.environ.get("SOILKIT_BENCH_STATIONS", 1300))
YEARS = 6
START, END = np.datetime64("2015-01-01", "us"), np.datetime64("2021-01-01", "us")
BEGIN = START - np.timedelta64(20, "D")
NAMES = ("sentinel1", "sentinel2", "smap", "gldas", "dem", "soilgrids")
FOOTPRINT_M = 2560.0
EVERY_DAYS = {"sentinel1": 3.0, "sentinel2": 2.5}  # with overlapping tracks


def stations_table() -> pd.DataFrame:
    """Stations over a country, one sensor each, as ``readings`` names them."""
    _, stations = readings(N_STATIONS, N_STATIONS)
    rng = np.random.default_rng(0)
    return stations.assign(
        latitude=rng.uniform(31, 48, N_STATIONS).round(4),
        longitude=rng.uniform(-120, -78, N_STATIONS).round(4),
    )


def compact(time: np.datetime64) -> str:
    """A moment as the names of scenes spell it."""
    return str(time)[:19].replace("-", "").replace(":", "")


def calendar(piece: Piece) -> pd.DataFrame:
    """The images of a global product in a piece."""
    source = sources.get(piece.source)
    midnight = piece.start.astype("datetime64[D]").astype("datetime64[us]")
    stamps = np.arange(midnight, piece.end, scene_index.cadence(source))
    stamps = stamps[stamps >= piece.start]
    ids = [f"{piece.source}_{compact(t)}" for t in stamps]
    stamps_ms = stamps.astype("datetime64[ms]").astype(float)
    rows = {"scene_id": ids, "begin_ms": stamps_ms, "end_ms": stamps_ms}
    return scene_index.dated(source, pd.DataFrame(rows))


def passes(piece: Piece, *, rng: np.random.Generator) -> pd.DataFrame:
    """Invented scenes of a piece: a table as ``IndexJob`` answers."""
    if not piece.places:
        return calendar(piece)
    span_us = (piece.end - piece.start).astype(int)
    n = int(span_us / 86_400e6 / EVERY_DAYS[piece.source])
    at = piece.start + np.sort(rng.integers(0, span_us, n)).astype("timedelta64[us]")
    clouds = rng.random(n) if piece.source == "sentinel2" else np.full(n, np.nan)
    prefix = "S1A_IW_GRDH_1SDV_" if piece.source == "sentinel1" else ""
    ids = [
        f"{prefix}{str(t)[:19].replace('-', '').replace(':', '')}_{rng.integers(1e6):06d}"
        for t in at
    ]
    return pd.DataFrame(
        {
            "scene_id": pd.Series(ids, dtype="str"), "start": at, "end": at,
            "orbit": pd.Series(["ascending"] * n, dtype="str"),
            "valid_fraction": np.ones(n), "cloud_fraction": clouds,
        }
    )  # fmt: skip


def fill(cache: ScenesCache, stations: pd.DataFrame) -> int:
    """Put the whole index on disk; how many pieces it has."""
    rng, count = np.random.default_rng(1), 0
    job = IndexJob(FOOTPRINT_M)
    for name in ("sentinel1", "sentinel2", "smap", "gldas"):
        spans = years(name, period=(BEGIN, END))
        every = name in EVERY_DAYS
        places = [((r.longitude, r.latitude),) for r in stations.itertuples()] if every else [()]
        for place in places:
            for start, end in spans:
                piece = Piece(name, start, end, place)
                path = cache.path(name, end, repr(job), repr(piece))
                cache.write(path, passes(piece, rng=rng))
                count += 1
    return count


def by_pandas(observations, scenes, bounds) -> int:
    """Readings that find every source, by one merge_asof a source over all stations."""
    left = observations.assign(station_id=observations["sensor_id"].astype(str).str[:10])
    left = left[["station_id", "time"]].sort_values("time")
    for name in ("sentinel1", "sentinel2", "smap", "gldas"):
        right = scenes[scenes["source"] == name].rename(columns={"end": f"{name}_end"})
        if name == "sentinel2":
            right = right[right["cloud_fraction"] < 0.3]
        right = right[["station_id", f"{name}_end"]].astype({"station_id": str})
        left = pd.merge_asof(
            left, right.sort_values(f"{name}_end"), left_on="time", right_on=f"{name}_end",
            by="station_id", tolerance=bounds[name] - pd.Timedelta("1us"),
        )  # fmt: skip
        left = left[left[f"{name}_end"].notna()]
    return len(left.drop_duplicates(["station_id", "sentinel1_end"]))


def first_call(archive: EarthEngineArchive, stations: pd.DataFrame) -> None:
    """Put the pieces together, as the call that has just fetched the last of them does."""
    for name in EVERY_DAYS:
        archive.scenes(stations, name, BEGIN, END)


def main() -> None:
    """Print one line: the whole road from files to samples, beside pandas on the same scenes."""
    stations = stations_table()
    observations, _ = readings(N_STATIONS * YEARS * 8766, N_STATIONS)  # ends within the six years
    bounds = {n: pd.Timedelta(a) for n, a in sources.bounds("sentinel1", NAMES).items()}
    with tempfile.TemporaryDirectory() as folder:
        n_pieces = fill(ScenesCache(folder), stations)
        archive = EarthEngineArchive(cache_dir=folder, footprint_m=FOOTPRINT_M)
        begun = time.perf_counter()
        first_call(archive, stations)
        first = time.perf_counter() - begun
        begun = time.perf_counter()
        scenes = all_scenes(archive, stations, sources=NAMES, start=BEGIN, end=END)
        indexed = time.perf_counter() - begun
        result = anchored_join(
            observations, scenes, stations, bounds=bounds, max_cloud_fraction={"sentinel2": 0.3}
        )
        own = time.perf_counter() - begun
        size_mb = sum(f.stat().st_size for f in Path(folder).rglob("*.table")) / 1e6
    resident_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    assert len(observations) == len(result.samples) + result.drops["count"].sum()
    begun = time.perf_counter()
    expected = by_pandas(observations, scenes, bounds)
    peer = time.perf_counter() - begun
    print(
        f"index + join {len(scenes) / 1e6:.1f} M scene rows ({n_pieces} files, {size_mb:.0f} MB), "
        f"{len(observations) / 1e6:.0f} M readings, {N_STATIONS} stations x {YEARS} years | "
        f"ours {own:.1f} s (index {indexed:.1f} s; {first:.0f} s when put together from its "
        f"pieces), {resident_gb:.1f} GB resident at most | "
        f"merge_asof a source (scenes in memory) {peer:.1f} s | ratio {peer / own:.1f} | "
        f"equal results {'yes' if expected == len(result.samples) else 'NO'}"
    )


if __name__ == "__main__":
    main()

"""The anchored join against one global ``pandas.merge_asof(by=)`` and polars' ``join_asof``.

65 million hourly readings of 1300 stations and a Sentinel-1 scene every 6 to 12 days (invented
times). All start from the tables as the contracts have them: sorted by sensor and time, categorical
keys. merge_asof demands one order of time over all sensors, so its sort counts; polars searches by
integer code, is told to skip its checks, and then picks the closest reading of each scene, which
counts too. The search alone is shown beside for both. Ours is timed whole, from tables to samples
and drops, with checks. Each takes its shortest time of several. ``SOILKIT_BENCH_ROWS`` makes it
smaller.
"""

import gc
import os
import resource
import time
import tracemalloc

import numpy as np
import pandas as pd

from soilkit.export.join import JoinResult, anchored_join

N_ROWS = int(float(os.environ.get("SOILKIT_BENCH_ROWS", 65e6)))
N_STATIONS = 1300
HOUR_US = 3600 * 10**6
EPOCH_US = int(np.datetime64("2015-01-01", "us").astype(np.int64))
BOUND = pd.Timedelta("1h")


def readings(n_rows: int, n_stations: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Hourly observations, sorted by sensor and time, and their stations, one sensor each."""
    hours = n_rows // n_stations
    times = np.empty(hours * n_stations, dtype=np.int64)
    times.reshape(n_stations, hours)[:] = EPOCH_US + np.arange(hours) * HOUR_US
    names = pd.Index([f"NET__S{i:04d}__probe__0.05__0.05" for i in range(n_stations)], dtype="str")
    codes = np.repeat(np.arange(n_stations, dtype=np.int16), hours)
    flags = pd.Categorical.from_codes(np.zeros(len(codes), np.int8), ["G"])
    observations = pd.DataFrame(
        {
            "sensor_id": pd.Categorical.from_codes(codes, names),
            "time": times.view("datetime64[us]"),
            "soil_moisture_m3_m3": np.full(len(codes), 0.2, dtype=np.float32),
            "flag": flags,
        },
        copy=False,
    )
    stations = pd.DataFrame({"sensor_id": names, "station_id": [n[:10] for n in names]})
    return observations, stations


def radar_scenes(n_stations: int, hours: int, *, rng: np.random.Generator) -> pd.DataFrame:
    """Sentinel-1 scenes every 6 to 12 days a station, at any microsecond, sorted by station."""
    every_us = rng.integers(6 * 24 * HOUR_US, 12 * 24 * HOUR_US, n_stations)
    counts = hours * HOUR_US // every_us
    place = np.repeat(np.arange(n_stations), counts)
    number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    jitter_us = rng.integers(0, 24 * HOUR_US, len(place))
    ids = [f"NET__S{i:04d}" for i in range(n_stations)]
    end = (EPOCH_US + number * every_us[place] + jitter_us).view("datetime64[us]")
    return pd.DataFrame(
        {
            "source": pd.Categorical(["sentinel1"]).take(np.zeros(len(end), int)),
            "scene_id": pd.Categorical([f"S1_{i:07d}" for i in range(len(end))]),
            "station_id": pd.Categorical.from_codes(place, ids),
            "start": end,
            "end": end,
            "cloud_fraction": np.nan,
            "orbit": pd.Categorical([""]).take(np.zeros(len(end), int)),
            "valid_fraction": np.nan,
        }
    )  # fmt: skip


def clock(work, *, repeats: int = 1):
    """The result of ``work()`` and its shortest time, s."""
    best = np.inf
    for _ in range(repeats):
        gc.collect()
        begun = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - begun)
    return result, best


def ours(observations, scenes, stations) -> JoinResult:
    return anchored_join(observations, scenes, stations, bounds={"sentinel1": BOUND})


def closest(scene: np.ndarray, station: np.ndarray, times: np.ndarray) -> set:
    """The first (station, scene, time) of each matched scene, from one entry a matched reading."""
    found = pd.DataFrame({"scene": scene, "station": station, "time": times})
    return set(found.groupby("scene")[["station", "time"]].min().itertuples(name=None))


def by_pandas(observations: pd.DataFrame, scenes: pd.DataFrame):
    """One global merge_asof by sensor; its tolerance includes the edge, hence one us less.

    It demands readings sorted by time over all sensors, so that sort is part of its work; the
    search alone is clocked too.
    """
    names = observations["sensor_id"].cat.categories
    place = scenes["station_id"].cat.codes.to_numpy()
    right = pd.DataFrame(
        {
            "sensor_id": pd.Categorical.from_codes(place, names),
            "time": scenes["end"].to_numpy(),
            "scene": np.arange(len(scenes), dtype=np.int32),
        }
    ).sort_values("time", ignore_index=True)
    tolerance = BOUND - pd.Timedelta("1us")
    left, sorting = clock(lambda: observations[["sensor_id", "time"]].sort_values("time"))
    found, searching = clock(
        lambda: pd.merge_asof(left, right, on="time", by="sensor_id", tolerance=tolerance),
        repeats=2,
    )
    found = found[found["scene"].notna()]
    station = found["sensor_id"].cat.codes.to_numpy().astype(int)
    times = found["time"].to_numpy().astype(np.int64)
    return closest(found["scene"].to_numpy().astype(int), station, times), sorting, searching


def by_polars(observations: pd.DataFrame, scenes: pd.DataFrame):
    """join_asof by station over tables sorted by station and time, its better case of the two."""
    import polars as pl

    left = pl.DataFrame(
        {
            "station": observations["sensor_id"].cat.codes.to_numpy(),
            "time": observations["time"].to_numpy(),
        }
    ).with_columns(pl.col("time").set_sorted())
    right = pl.DataFrame(
        {
            "station": scenes["station_id"].cat.codes.to_numpy().astype(np.int16),
            "time": scenes["end"].to_numpy(),
            "scene": np.arange(len(scenes), dtype=np.int32),
        }
    ).sort("station", "time")
    options = {"by": "station", "on": "time", "check_sortedness": False}
    tolerance = (BOUND - pd.Timedelta("1us")).to_pytimedelta()
    found, seconds = clock(
        lambda: left.join_asof(right, strategy="backward", tolerance=tolerance, **options),
        repeats=4,
    )
    hit, choosing = clock(
        lambda: (
            found.filter(pl.col("scene").is_not_null())
            .group_by("scene")
            .agg(pl.col("station").first(), pl.col("time").min())
        ),
        repeats=4,
    )
    scene, station = hit["scene"].to_numpy(), hit["station"].to_numpy()
    times = hit["time"].to_numpy().astype(np.int64)
    return closest(scene.astype(int), station.astype(int), times), choosing, seconds


def as_set(samples: pd.DataFrame, scenes: pd.DataFrame) -> set:
    """Our samples in the peers' words."""
    scene = scenes["scene_id"].cat.categories.get_indexer(samples["sentinel1_scene"].astype(str))
    station = samples["sensor_id"].cat.codes.to_numpy().astype(int)
    return closest(scene, station, samples["time"].to_numpy().astype(np.int64))


def table_bytes(*tables: pd.DataFrame) -> int:
    """The memory that tables hold, bytes."""
    return int(sum(table.memory_usage(index=False, deep=True).sum() for table in tables))


def extra_bytes(work) -> int:
    """The most memory that ``work()`` holds beyond what stood before, bytes (tracemalloc).

    Arrow's own pool is invisible to tracemalloc; the resident growth beside it holds that too.
    """
    gc.collect()
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def main() -> None:
    """Print one line a peer."""
    observations, stations = readings(N_ROWS, N_STATIONS)
    hours = len(observations) // N_STATIONS
    scenes = radar_scenes(N_STATIONS, hours, rng=np.random.default_rng(0))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result, own = clock(lambda: ours(observations, scenes, stations), repeats=7)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    share = extra_bytes(lambda: ours(observations, scenes, stations))
    held = table_bytes(observations, scenes)
    memory = f"extra memory {share / held:.1%} traced, {grown / held:.1%} resident"
    found = as_set(result.samples, scenes)
    del result
    name = f"join {len(observations) / 1e6:.1f} M rows x {N_STATIONS} stations"
    for peer, run in (("polars.join_asof", by_polars), ("pandas.merge_asof", by_pandas)):
        expected, more, searching = run(observations, scenes)
        seconds = more + searching
        equal = "yes" if expected == found else "NO"
        print(
            f"{name} | ours {own:.2f} s, {memory} | {peer} {seconds:.1f} s "
            f"(search alone {searching:.1f} s) | ratio {seconds / own:.1f} "
            f"(search alone {searching / own:.1f}) | equal results {equal}",
            flush=True,
        )
        gc.collect()


if __name__ == "__main__":
    main()

"""The anchored join's cost from 1e6 to 1e8 hourly rows at one number of rows a station."""

import gc

import numpy as np

from tests.benchmarks import bench_join

ROWS_PER_STATION = 50_000
SIZES = (1_000_000, 10_000_000, 100_000_000)


def main() -> None:
    """Print the time at each size and the exponent of its growth, 1 being linear."""
    seconds = []
    for n_rows in SIZES:
        n_stations = n_rows // ROWS_PER_STATION
        observations, stations = bench_join.readings(n_rows, n_stations)
        scenes = bench_join.radar_scenes(n_stations, ROWS_PER_STATION, rng=np.random.default_rng(0))
        _, best = bench_join.clock(
            lambda o=observations, s=scenes, p=stations: bench_join.ours(o, s, p), repeats=3
        )
        seconds.append(best)
        del observations, scenes, stations
        gc.collect()
    exponent = np.log(seconds[-1] / seconds[0]) / np.log(SIZES[-1] / SIZES[0])
    times = ", ".join(f"{n:.0e} rows {s:.3f} s" for n, s in zip(SIZES, seconds, strict=True))
    linear = seconds[0] * SIZES[-1] / SIZES[0]
    print(
        f"join scaling | ours {times} | linear from the first {linear:.3f} s | "
        f"ratio {linear / seconds[-1]:.1f} | growth exponent {exponent:.2f} (linear is 1)"
    )


if __name__ == "__main__":
    main()

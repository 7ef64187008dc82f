"""Memory that scores of 10,000 stations / 50 million samples take, each in a process of its own.

The table is sorted, or its rows stand in time and so mix the sensors. The peak is the process's
largest resident memory while the scores are made, input included.
"""

import argparse
import subprocess
import sys
import threading
import time

import numpy as np
import pandas as pd
import psutil

from soilkit import metrics

N_STATIONS, N_SAMPLES, N_ID_ROWS = 10_000, 50_000_000, 1_000_000
SCORES = {"point": metrics.point_scores, "station": metrics.station_scores}
START, HOUR = np.datetime64("2015-01-01", "us"), np.timedelta64(1, "h")


def make_predictions(rng, *, n_samples, is_sorted):
    """Synthetic predictions of sensors with equally long hourly series, every name a category."""
    n_each = n_samples // N_STATIONS
    place, hour = np.divmod(np.arange(n_samples, dtype=np.int32), n_each)
    if not is_sorted:
        hour, place = np.divmod(np.arange(n_samples, dtype=np.int32), N_STATIONS)
    names = pd.Index([f"NET__S{i:05d}__P__0__5" for i in range(N_STATIONS)])
    ids = pd.Categorical.from_codes(place.astype(np.int16), names)
    zeros = np.zeros(n_samples, np.int8)
    words = {"network": "NET", "model": "m", "split": "test"}
    observed, predicted = rng.random(n_samples), rng.random(n_samples)
    observed *= 0.6
    predicted *= 0.18
    predicted += 0.7 * observed
    firsts = range(0, n_samples, N_ID_ROWS)  # by and by: all ids as objects take gigabytes
    parts = [np.arange(k, min(k + N_ID_ROWS, n_samples)).astype(str) for k in firsts]
    return pd.DataFrame(
        {
            "sample_id": pd.concat([pd.Series(part, dtype="str") for part in parts]).array,
            "sensor_id": ids,
            "station_id": ids,
            "time": START + hour * HOUR,
            "observed_m3_m3": observed,
            "predicted_m3_m3": predicted,
            **{name: pd.Categorical.from_codes(zeros, [word]) for name, word in words.items()},
        },
        copy=False,
    )


def peak_bytes(function):
    """The largest resident memory while the function runs, looked at every 5 ms, and seconds."""
    process, done, found = psutil.Process(), threading.Event(), [0]

    def watch():
        while not done.wait(0.005):
            found[0] = max(found[0], process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    function()
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    return found[0], seconds


def measure(which, order, n_samples):
    """Print one line about one kind of scores and one order of rows."""
    before = psutil.Process().memory_info().rss
    table = make_predictions(
        np.random.default_rng(0), n_samples=n_samples, is_sorted=order == "sorted"
    )
    size = int(table.memory_usage(index=False, deep=True).sum())
    held = psutil.Process().memory_info().rss
    peak, seconds = peak_bytes(lambda: SCORES[which](table))
    print(
        f"{which} scores {N_STATIONS} stations x {n_samples / 1e6:.0f} M samples (synthetic), "
        f"{order} | input {size / 1e9:.2f} GB (resident {(held - before) / 1e9:.2f}) | "
        f"above it {(peak - held) / 1e9:.2f} GB | "
        f"together {1 + (peak - held) / size:.2f} x the input | {seconds:.0f} s"
    )


def main():
    """One process for each kind of scores and each order of rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-samples", type=int, default=N_SAMPLES)
    parser.add_argument("--only", nargs=2, metavar=("SCORES", "ORDER"))
    options = parser.parse_args()
    if options.only:
        measure(*options.only, options.n_samples)
        return
    for which in SCORES:
        for order in ("sorted", "in time"):
            command = [sys.executable, "-m", "tests.benchmarks.bench_point_scores_memory"]
            command += ["--n-samples", str(options.n_samples), "--only", which, order]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()

"""The second read of an ISMN archive: ours from the parquet cache, ismn's with its metadata csv."""

import contextlib
import io
import logging
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from soilkit.export import insitu

WANTED_RATIO = 40
ROUNDS = 4  # both take turns, so that a busy machine slows both alike


def second_reads(archive, folder):
    """Seconds of ours and ismn's first and best second reads, and what each read."""
    first = {}
    best = {"ours": float("inf"), "ismn": float("inf")}
    result = {}
    readers = {"ours": read_ours, "ismn": read_peer}
    for name, reader in readers.items():
        first[name], _ = timed(reader, archive, folder / name)
    for _ in range(ROUNDS):
        for name in ("ours", "ours", "ismn", "ours", "ours"):
            result.pop(name, None)
            seconds, result[name] = timed(readers[name], archive, folder / name)
            best[name] = min(best[name], seconds)
    return first, best, result


def read_ours(archive, folder):
    return insitu.read_ismn(archive, cache_dir=folder, progress=False)


def read_peer(archive, folder):
    """ismn's own read: its interface from the metadata csv, then every sensor's series."""
    from ismn.interface import ISMN_Interface

    with contextlib.redirect_stdout(io.StringIO()):
        archive_reader = ISMN_Interface(archive, meta_path=folder)
    sensors = archive_reader.collection.iter_sensors(variable="soil_moisture")
    return [sensor.read_data() for _, _, sensor in sensors]


def timed(function, *args, **kwargs):
    start = time.perf_counter()
    result = function(*args, **kwargs)
    return time.perf_counter() - start, result


def same_readings(observations, series):
    """Whether both hold the same hours and the same values of accepted readings."""
    value = np.concatenate([s["soil_moisture"].to_numpy() for s in series])
    flag = np.concatenate([s["soil_moisture_flag"].to_numpy(dtype=object) for s in series])
    hours = np.concatenate([s.index.to_numpy().astype("datetime64[us]") for s in series])
    good = np.isin(flag, ("G", "C02", "C03", "C02,C03"))
    one, other = observations["time"].to_numpy(), hours[good]
    moisture = observations["soil_moisture_m3_m3"].to_numpy()
    return (
        len(one) == len(other)
        and np.array_equal(np.sort(one), np.sort(other))
        and np.array_equal(np.sort(moisture), np.sort(value[good].astype("float32")))
    )


def main():
    data = os.environ.get("SOILKIT_TEST_DATA")
    archive = Path(data or "") / "ismn" / "ismn_us_header_2019_2021.zip"
    if not data or not archive.exists():
        print("insitu second read | skipped: SOILKIT_TEST_DATA holds no ISMN archive")
        return
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        first, best, result = second_reads(archive, Path(folder))
    observations, series = result["ours"], result["ismn"]
    ratio = best["ismn"] / best["ours"]
    same = "yes" if same_readings(observations, series) else "NO"
    print(
        f"insitu second read {len(observations) / 1e6:.1f} M readings of {len(series)} sensors "
        f"(wanted ratio {WANTED_RATIO}) | ours {best['ours']:.3f} s (first {first['ours']:.1f} s) "
        f"| ismn {best['ismn']:.2f} s (first {first['ismn']:.1f} s) | ratio {ratio:.0f} "
        f"| equal results {same}"
    )


if __name__ == "__main__":
    main()

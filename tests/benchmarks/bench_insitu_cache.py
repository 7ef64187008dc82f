"""The second read of an ISMN archive: ours from the parquet cache, ismn's with its metadata csv."""

import contextlib
import io
import logging
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from soilkit import insitu

WANTED_RATIO = 40
REPEATS = 5


def ours(archive, folder):
    """Seconds of the first read, the best second read, and its readings."""
    first, observations = timed(insitu.read_ismn, archive, cache_dir=folder, progress=False)
    seconds = []
    for _ in range(REPEATS):
        second, observations = timed(insitu.read_ismn, archive, cache_dir=folder)
        seconds.append(second)
    return first, min(seconds), observations


def peer(archive, folder):
    """Seconds of ismn's own first and second read of every sensor, and what it read."""
    from ismn.interface import ISMN_Interface

    def read():
        with contextlib.redirect_stdout(io.StringIO()):
            archive_reader = ISMN_Interface(archive, meta_path=folder)
        sensors = archive_reader.collection.iter_sensors(variable="soil_moisture")
        return [sensor.read_data() for _, _, sensor in sensors]

    first, _ = timed(read)
    seconds = []
    for _ in range(2):
        second, series = timed(read)
        seconds.append(second)
    return first, min(seconds), series


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
        our_first, our_second, observations = ours(archive, Path(folder) / "ours")
        peer_first, peer_second, series = peer(archive, Path(folder) / "peer")
    ratio = peer_second / our_second
    same = "yes" if same_readings(observations, series) else "NO"
    print(
        f"insitu second read {len(observations) / 1e6:.1f} M readings of {len(series)} sensors "
        f"(wanted ratio {WANTED_RATIO}) | ours {our_second:.3f} s (first {our_first:.1f} s) "
        f"| ismn {peer_second:.2f} s (first {peer_first:.1f} s) | ratio {ratio:.0f} "
        f"| equal results {same}"
    )


if __name__ == "__main__":
    main()

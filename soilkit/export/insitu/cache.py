"""The parquet cache of an in-situ archive: built once, sensor by sensor, then read in part.

A cache is a folder named by the archive's content and this format's version::

    observations.parquet   time, soil_moisture_m3_m3 (float32), flag: a row group a sensor
    sensors.parquet        one row a sensor: the stations table, its row group, what was lost
    tallies.parquet        one row a sensor (its row in the table above) and flag: readings, and
                           those below 0 and above 1
    unreadable.parquet     one row a file that gave no reading, and why
    sha256.json            the SHA-256 of each of them, compared before it is read
"""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from soilkit.errors import ArchiveReadError, StoreError
from soilkit.files import cache_folder, sha256, temporary_folder
from soilkit.units import MAX_SOIL_MOISTURE_M3_M3

FORMAT_VERSION = 5
DIGESTS = "sha256.json"
SENSORS_AT_A_TIME = 64  # of row groups in memory while some are read
TABLES = ("sensors", "tallies", "unreadable")
SCHEMA = pa.schema(
    [
        pa.field("time", pa.timestamp("us"), nullable=False),
        pa.field("soil_moisture_m3_m3", pa.float32(), nullable=False),
        pa.field("flag", pa.dictionary(pa.int16(), pa.string()), nullable=False),
    ]
)
LOSSES = ("lines", "malformed", "missing", "duplicate", "sub_hourly")


def folder_of(content_hash: str, *, cache_dir: str | Path | None) -> Path:
    """The cache folder of an archive's content; it exists only when it is complete."""
    root = Path(cache_dir) if cache_dir is not None else cache_folder()
    return root / f"insitu-v{FORMAT_VERSION}-{content_hash[:20]}"


def build(folder: Path, sensors: Iterable[Any], unreadable: list[dict[str, str]]) -> None:
    """Write a cache beside its place and move it there in one step.

    ``sensors`` have ``attributes``, ``readings`` and ``lost`` and are read one at a time; once they
    are, ``unreadable`` is complete. Raises ``ArchiveReadError`` if no sensor came, and
    ``StoreError`` if the cache cannot be written; nothing half-written stays.
    """
    try:
        with temporary_folder(folder) as partial:
            done = partial / "done"
            done.mkdir()
            _write(done, sensors, unreadable)
            try:
                os.replace(done, folder)
            except OSError:
                if not folder.exists():  # another process was faster: its content is the same
                    raise
    except OSError as error:
        raise StoreError(
            f"The cache {folder} cannot be written ({error}). Free some space there, or name "
            "another folder with cache_dir=... or the environment variable SOILKIT_CACHE."
        ) from error


def _write(folder: Path, sensors: Iterable[Any], unreadable: list[dict[str, str]]) -> None:
    rows: list[dict[str, Any]] = []
    tallies: list[pd.DataFrame] = []
    n_groups = 0
    with pq.ParquetWriter(
        folder / "observations.parquet", SCHEMA, compression="lz4", use_dictionary=["flag"],
        column_encoding={"time": "DELTA_BINARY_PACKED", "soil_moisture_m3_m3": "PLAIN"},
    ) as writer:  # fmt: skip
        for sensor in sensors:
            readings, group = sensor.readings, -1
            if len(readings):
                table = pa.Table.from_pandas(
                    readings.astype({"flag": "category"}), schema=SCHEMA, preserve_index=False
                )
                writer.write_table(table, row_group_size=len(table))
                group, n_groups = n_groups, n_groups + 1
            tallies.append(_tally(readings).assign(sensor=len(rows)))
            lost = {name: sensor.lost.get(name, 0) for name in LOSSES}
            rows.append(sensor.attributes | lost | {"row_group": group, "n_rows": len(readings)})
    if not rows:
        reasons = "; ".join(f"{u['file']}: {u['reason']}" for u in unreadable[:3])
        raise ArchiveReadError(f"The archive holds no readable soil moisture sensor. {reasons}")
    lost_files = pd.DataFrame(unreadable, columns=["file", "reason"], dtype="str")
    tables = pd.DataFrame(rows), pd.concat(tallies, ignore_index=True), lost_files
    for name, table in zip(TABLES, tables, strict=True):
        table.to_parquet(folder / f"{name}.parquet", index=False)
    digests = {path.name: sha256(path) for path in folder.iterdir()}
    (folder / DIGESTS).write_text(json.dumps(digests), encoding="utf-8")


def _tally(readings: pd.DataFrame) -> pd.DataFrame:
    value = readings["soil_moisture_m3_m3"]
    outside = pd.DataFrame({
        "n": 1, "n_below_0": (value < 0) * 1, "n_above_1": (value > MAX_SOIL_MOISTURE_M3_M3) * 1
    })  # fmt: skip
    return outside.groupby(readings["flag"].astype("str")).sum().reset_index()


@contextmanager
def _readable(folder: Path, *names: str) -> Iterator[list[Path]]:
    """The paths of some tables, whose bytes are those that were written."""
    try:
        digests = json.loads((folder / DIGESTS).read_text(encoding="utf-8"))
        paths = [folder / f"{name}.parquet" for name in names]
        for path in paths:
            if sha256(path) != digests[path.name]:
                raise ValueError(f"{path.name} has changed since it was written")
        yield paths
    except Exception as error:  # whatever damaged bytes lead to
        raise StoreError(
            f"The cache {folder} is damaged ({error}). Delete that folder; it is made again."
        ) from error


def read_tables(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The small tables of a cache: sensors, tallies, unreadable files."""
    with _readable(folder, *TABLES) as paths:
        sensors, tallies, unreadable = (
            pq.read_table(path, use_threads=False).to_pandas() for path in paths
        )
    return sensors, tallies, unreadable


def read_observations(
    folder: Path, sensors: pd.DataFrame, *, flags: tuple[str, ...]
) -> pd.DataFrame:
    """The readings of some sensors that carry one of some flags and lie in [0, 1] m3 m-3.

    Memory: the result, plus the readings of 64 sensors at a time. ``sensors`` are rows of
    ``read_tables``'s, in the order wanted, with ``n_accepted``, the number of such readings;
    ``flags`` are the categories of the result's ``flag``.
    """
    sensors = sensors[sensors["n_accepted"] > 0]
    groups, total, stop = sensors["row_group"].tolist(), int(sensors["n_accepted"].sum()), 0
    dtypes = ("datetime64[us]", "float32", np.min_scalar_type(-max(len(flags), 1)))
    columns = [np.empty(total, dtype) for dtype in dtypes]
    with (
        _readable(folder, "observations") as paths,
        pq.ParquetFile(*paths, memory_map=True) as file,
    ):
        for first in range(0, len(groups), SENSORS_AT_A_TIME):
            part = file.read_row_groups(groups[first : first + SENSORS_AT_A_TIME])
            parts = _accepted(part.unify_dictionaries(), flags)
            start, stop = stop, stop + len(parts[0])
            for column, values in zip(columns, parts, strict=True):
                column[start:stop] = values
    codes = np.arange(len(sensors), dtype=np.min_scalar_type(-max(len(sensors), 1)))
    codes = np.repeat(codes, sensors["n_accepted"])
    table = {
        "sensor_id": pd.Categorical.from_codes(codes, categories=sensors["sensor_id"].tolist()),
        "time": columns[0], "soil_moisture_m3_m3": columns[1],
        "flag": pd.Categorical.from_codes(columns[2], categories=list(flags)),
    }  # fmt: skip
    return pd.DataFrame(table, copy=False)


def _accepted(table: pa.Table, flags: tuple[str, ...]) -> tuple[np.ndarray, ...]:
    """Times, values and flag codes of the rows that are accepted."""
    time, value = (table.column(name).to_numpy() for name in SCHEMA.names[:2])
    flag = table.column("flag").combine_chunks()
    here = [flags.index(f) if f in flags else -1 for f in flag.dictionary.to_pylist()]
    codes = np.array(here, "int16").take(flag.indices.to_numpy())
    keep = (codes >= 0) & (value >= 0) & (value <= MAX_SOIL_MOISTURE_M3_M3)
    return (time, value, codes) if keep.all() else (time[keep], value[keep], codes[keep])

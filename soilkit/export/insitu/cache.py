"""The parquet cache of an in-situ archive: built once, station by station, then read in part.

A cache is a folder named by the archive's content and this format's version::

    observations.parquet   sensor_id, time, soil_moisture_m3_m3 (float32), flag: all of them
    sensors.parquet        one row a sensor: the stations table, its rows above, what was lost
    tallies.parquet        one row a sensor (its row in the table above) and flag: readings, and
                           those below 0 and above 1
    unreadable.parquet     one row a file that gave no reading, and why

Row groups hold whole sensors, shallow and deep ones apart, so that a read touches what it needs.
"""

import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from soilkit.errors import ArchiveReadError, StoreError
from soilkit.units import MAX_SOIL_MOISTURE_M3_M3

FORMAT_VERSION = 2
ROWS_PER_GROUP = 1_000_000  # about 20 MB while it waits
SHALLOW_M = 0.1
TABLES = ("sensors", "tallies", "unreadable")
SCHEMA = pa.schema(
    [
        pa.field("sensor_id", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("time", pa.timestamp("us"), nullable=False),
        pa.field("soil_moisture_m3_m3", pa.float32(), nullable=False),
        pa.field("flag", pa.dictionary(pa.int16(), pa.string()), nullable=False),
    ]
)
LOSSES = ("lines", "malformed", "missing", "duplicate", "sub_hourly")


def default_folder() -> Path:
    """Where caches live: ``SOILKIT_CACHE``, or the platform's folder for what can be made again."""
    if os.environ.get("SOILKIT_CACHE"):
        return Path(os.environ["SOILKIT_CACHE"])
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "soilkit"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "soilkit"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "soilkit"


def folder_of(content_hash: str, *, cache_dir: str | Path | None) -> Path:
    """The cache folder of an archive's content; it exists only when it is complete."""
    root = Path(cache_dir) if cache_dir is not None else default_folder()
    return root / f"insitu-v{FORMAT_VERSION}-{content_hash[:20]}"


def build(folder: Path, sensors: Iterable[Any], unreadable: list[dict[str, str]]) -> None:
    """Write a cache beside its place and move it there in one step.

    Parameters
    ----------
    folder : Path, the cache folder
    sensors : iterable of objects with ``attributes``, ``readings``, ``lost``, read one at a time
    unreadable : list of ``file`` and ``reason``, complete once ``sensors`` is exhausted

    Raises
    ------
    ArchiveReadError
        If no sensor came.
    StoreError
        If the cache cannot be written; nothing half-written stays.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder.parent) as partial:
            _write(Path(partial), sensors, unreadable)
            _move_into_place(Path(partial), folder)
    except OSError as error:
        raise StoreError(
            f"The cache {folder} cannot be written ({error}). Free some space there and in "
            f"{tempfile.gettempdir()}, or name another folder with cache_dir=... or the "
            "environment variable SOILKIT_CACHE."
        ) from error


def _move_into_place(partial: Path, folder: Path) -> None:
    done = partial / "done"
    done.mkdir()
    for file in list(partial.glob("*.parquet")):
        file.rename(done / file.name)
    try:
        os.replace(done, folder)
    except OSError:
        if not folder.exists():  # another process was faster: its content is the same
            raise


def _write(partial: Path, sensors: Iterable[Any], unreadable: list[dict[str, str]]) -> None:
    rows: list[dict[str, Any]] = []
    tallies: list[pd.DataFrame] = []
    with pq.ParquetWriter(
        partial / "observations.parquet",
        SCHEMA,
        compression="lz4",
        use_dictionary=["sensor_id", "flag"],
        column_encoding={"time": "DELTA_BINARY_PACKED", "soil_moisture_m3_m3": "PLAIN"},
    ) as writer:
        groups = _RowGroups(writer)
        for sensor in sensors:
            place = groups.add(sensor) if len(sensor.readings) else (-1, 0, 0)
            tallies.append(_tally(sensor, number=len(rows)))
            rows.append(_sensor_row(sensor, place))
        groups.flush()
    if not rows:
        reasons = "; ".join(f"{u['file']}: {u['reason']}" for u in unreadable[:3])
        raise ArchiveReadError(f"The archive holds no readable soil moisture sensor. {reasons}")
    for row in rows:
        row["row_group"] = groups.numbers.get(row["row_group"], -1)
    tables = (
        pd.DataFrame(rows),
        pd.concat(tallies, ignore_index=True),
        pd.DataFrame(unreadable, columns=["file", "reason"], dtype="str"),
    )
    for name, table in zip(TABLES, tables, strict=True):
        table.to_parquet(partial / f"{name}.parquet", index=False)


class _RowGroups:
    """Collects whole sensors, shallow and deep apart, and writes a row group when enough wait."""

    def __init__(self, writer: pq.ParquetWriter):
        self.writer = writer
        self.waiting: dict[bool, list[Any]] = {True: [], False: []}
        self.tickets = {True: 0, False: 1}
        self.numbers: dict[int, int] = {}  # ticket of a group -> its number in the file

    def add(self, sensor: Any) -> tuple[int, int, int]:
        """Take a sensor; returns its group's ticket, first row and number of rows."""
        shallow = sensor.attributes["depth_to_m"] <= SHALLOW_M
        waiting, ticket = self.waiting[shallow], self.tickets[shallow]
        first = sum(len(other.readings) for other in waiting)
        waiting.append(sensor)
        if first + len(sensor.readings) >= ROWS_PER_GROUP:
            self._write(shallow)
        return ticket, first, len(sensor.readings)

    def flush(self) -> None:
        """Write what still waits."""
        for shallow in (True, False):
            if self.waiting[shallow]:
                self._write(shallow)

    def _write(self, shallow: bool) -> None:
        sensors, self.waiting[shallow] = self.waiting[shallow], []
        ids = [sensor.attributes["sensor_id"] for sensor in sensors]
        codes = np.repeat(np.arange(len(ids), dtype="int32"), [len(s.readings) for s in sensors])
        readings = pd.concat([sensor.readings for sensor in sensors], ignore_index=True)
        flags, names = pd.factorize(readings["flag"], sort=True)
        columns = [
            pa.DictionaryArray.from_arrays(codes, pa.array(ids, pa.string())),
            pa.array(readings["time"].to_numpy().astype("datetime64[us]")),
            pa.array(readings["soil_moisture_m3_m3"].to_numpy(dtype="float32")),
            pa.DictionaryArray.from_arrays(flags.astype("int16"), pa.array(names, pa.string())),
        ]
        table = pa.Table.from_arrays(columns, schema=SCHEMA)
        self.writer.write_table(table, row_group_size=len(table))
        self.numbers[self.tickets[shallow]] = len(self.numbers)
        self.tickets[shallow] = max(self.tickets.values()) + 1


def _sensor_row(sensor: Any, place: tuple[int, int, int]) -> dict[str, Any]:
    row_group, first_row, n_rows = place
    lost = {name: sensor.lost.get(name, 0) for name in LOSSES}
    return sensor.attributes | lost | {
        "row_group": row_group,
        "first_row": first_row,
        "n_rows": n_rows,
    }  # fmt: skip


def _tally(sensor: Any, *, number: int) -> pd.DataFrame:
    value = sensor.readings["soil_moisture_m3_m3"]
    outside = pd.DataFrame(
        {
            "flag": sensor.readings["flag"].astype("str"),
            "n": 1,
            "n_below_0": (value < 0).astype("int64"),
            "n_above_1": (value > MAX_SOIL_MOISTURE_M3_M3).astype("int64"),
        }
    )
    tally = outside.groupby("flag", as_index=False).sum()
    tally.insert(0, "sensor", number)
    return tally


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise StoreError(
            f"The cache {folder} is damaged ({error}). Delete that folder; it is made again."
        ) from error


def read_tables(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The small tables of a cache: sensors, tallies, unreadable files."""
    with _readable(folder):
        sensors, tallies, unreadable = (
            pq.read_table(folder / f"{name}.parquet", use_threads=False).to_pandas()
            for name in TABLES
        )
    return sensors, tallies, unreadable


def read_observations(
    folder: Path, sensors: pd.DataFrame, *, flags: tuple[str, ...]
) -> pd.DataFrame:
    """The readings of some sensors that carry one of some flags and lie in [0, 1] m3 m-3.

    Memory: the result, plus one row group (about 1 M rows) at a time.

    Parameters
    ----------
    folder : Path, a cache
    sensors : DataFrame of ``read_tables``'s sensors, in the order wanted, with ``n_accepted``
        readings and ``n_outside`` more whose value is outside [0, 1]
    flags : tuple of text, the categories of the result's ``flag``
    """
    sensors = sensors[sensors["n_accepted"] > 0]
    stops = sensors["n_accepted"].to_numpy().cumsum()
    total = int(stops[-1]) if len(stops) else 0
    columns = (
        np.empty(total, "datetime64[us]"),
        np.empty(total, "float32"),
        np.empty(total, np.min_scalar_type(-max(len(flags), 1))),
    )
    sensors = sensors.assign(start=stops - sensors["n_accepted"].to_numpy())
    all_within = not sensors["n_outside"].any()
    with (
        _readable(folder),
        pq.ParquetFile(folder / "observations.parquet", memory_map=True) as file,
    ):
        for group, members in sensors.groupby("row_group"):
            _fill(columns, _read_group(file, int(group), flags, all_within=all_within), members)
    codes = np.arange(len(sensors), dtype=np.min_scalar_type(-max(len(sensors), 1)))
    return pd.DataFrame(
        {
            "sensor_id": pd.Categorical.from_codes(
                np.repeat(codes, sensors["n_accepted"]), categories=sensors["sensor_id"].tolist()
            ),
            "time": columns[0],
            "soil_moisture_m3_m3": columns[1],
            "flag": pd.Categorical.from_codes(columns[2], categories=list(flags)),
        },
        copy=False,
    )


def _read_group(file: pq.ParquetFile, group: int, flags: tuple[str, ...], *, all_within: bool):
    """Times, values, flag codes and, where not every row is accepted, which are."""
    time, value, flag = file.read_row_group(group, columns=SCHEMA.names[1:]).columns
    value = value.combine_chunks().to_numpy()
    stored = flag.unify_dictionaries().combine_chunks()
    here = [flags.index(f) if f in flags else -1 for f in stored.dictionary.to_pylist()]
    if len(here) == 1:
        codes = np.broadcast_to(np.int16(here[0]), len(value))
    else:
        codes = np.array(here, "int16").take(stored.indices.to_numpy())
    keep = None if min(here) >= 0 else codes >= 0
    if not all_within:
        within = (value >= 0) & (value <= MAX_SOIL_MOISTURE_M3_M3)
        keep = within if keep is None else keep & within
    return time.combine_chunks().to_numpy(), value, codes, keep


def _fill(columns, group, members: pd.DataFrame) -> None:
    *parts, keep = group
    places = members[["first_row", "n_rows", "start", "n_accepted"]].to_numpy()
    for first, n, start, n_accepted in places:
        chosen = slice(first, first + n)
        if keep is not None:
            chosen = first + np.flatnonzero(keep[chosen])
        for column, part in zip(columns, parts, strict=True):
            column[start : start + n_accepted] = part[chosen]

"""ISMN archives to stations and observations, and what became of every line.

Between stands a cache, built once, sensor by sensor, then read in part: a folder named by the
archive's content and the format's version::

    observations.parquet   time, soil_moisture_m3_m3 (float32), flag: a row group a sensor
    sensors.parquet        one row a sensor: the stations table, its row group, what was lost
    tallies.parquet        one row a sensor (its row in the table above) and flag: readings, and
                           those below 0 and above 1
    unreadable.parquet     one row a file that gave no reading, and why
    sha256.json            the SHA-256 of each of them, compared before it is read
"""

import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from soilkit import contracts, strata
from soilkit.constants import MIN_SAMPLES
from soilkit.errors import ArchiveReadError, ParameterError, StoreError, UnitError
from soilkit.export.insitu import ismn, rules
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


def write_cache(folder: Path, sensors: Iterable[Any], *, unreadable: list[dict[str, str]]) -> None:
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


STATION_COLUMNS = [c.name for c in contracts.STATIONS.columns] + [*ismn.SOIL_PARTS.values()]


class Selection(NamedTuple):
    """The tables of a cache, split by depth and, within the depth rule, by flag."""

    sensors: pd.DataFrame
    is_near: np.ndarray  # (sensor,)
    used: pd.DataFrame  # tallies of accepted flags, with n_outside
    refused: pd.DataFrame  # tallies of the others
    unreadable: pd.DataFrame
    accepted: tuple[str, ...]  # flags, in one spelling

    @classmethod
    def of(cls, folder: Path, *, flags, max_depth_m: float, unknown_flags: str = "drop"):
        """What these rules choose of a cache."""
        sensors, tallies, unreadable = read_tables(folder)
        present = tallies["flag"].unique()
        accepted = rules.accepted_flags(flags, present, unknown_flags=unknown_flags)
        is_near = rules.depth_accepted(
            sensors["depth_from_m"], sensors["depth_to_m"], max_depth_m=max_depth_m
        )
        tallies["n_outside"] = tallies["n_below_0"] + tallies["n_above_1"]
        tallies = tallies[is_near[tallies["sensor"]]]
        is_used = tallies["flag"].isin(accepted)
        return cls(sensors, is_near, tallies[is_used], tallies[~is_used], unreadable, accepted)

    def wanted(self) -> pd.DataFrame:
        """The sensors within the depth rule, by id, with ``n_accepted`` readings.

        Raises ``UnitError`` for a network most of whose accepted values, 13 or more, exceed 1 m3
        m-3: it shares one unit. One such sensor alone is broken; its name goes to the log.
        """
        sums = self.used.groupby("sensor")[["n", "n_above_1", "n_outside"]].sum()
        table = self.sensors.join(sums)[self.is_near].fillna(dict.fromkeys(sums, 0))
        share = table["n_above_1"] / table["n"].clip(lower=1)
        for network, rows in table.groupby("network"):
            n = rows["n"].sum()
            above = rows["n_above_1"].sum() / max(n, 1)
            if above > 0.5 and n >= MIN_SAMPLES:
                worst = rows.loc[share[rows.index].idxmax(), "sensor_id"]
                raise UnitError(
                    f"{network} (sensor {worst}) should hold m3 m-3 (0-1), but {above:.0%} of its "
                    "values exceed 1: they look like percent. Divide by 100, or read a table with "
                    "tables.read_readings(..., units='percent')."
                )
        for name in table.loc[share > 0.5, "sensor_id"]:
            rules.LOG.warning("%s: most values exceed 1; they are left out and counted", name)
        table["n_accepted"] = (table["n"] - table["n_outside"]).astype("int64")
        return table.sort_values("sensor_id", ignore_index=True)

    def counts(self) -> pd.DataFrame:
        """One row for each fate of a line: ``step``, ``what``, ``sensors``, ``rows``."""
        near, deep = self.sensors[self.is_near], self.sensors[~self.is_near]
        kept = self.used["n"] - self.used["n_outside"]
        words = {flag: "" if rules.is_known(flag) else " (unknown to ISMN)"
                 for flag in self.refused["flag"]}  # fmt: skip
        refused = self.refused.groupby("flag")["n"]
        fates = [
            ("input", "lines of soil moisture files", self.sensors["lines"]),
            ("lost", "other depth", deep["lines"]),
            *(("lost", fate, near[column]) for column, fate in rules.LOST.items()),
            *(("lost", f"flag {flag}{words[flag]}", n) for flag, n in refused),
            ("lost", "value outside 0-1 m3 m-3", self.used["n_outside"]),
            *(("kept", f"flag {flag}", n) for flag, n in kept.groupby(self.used["flag"])),
        ]
        rows = [(step, fate, (n > 0).sum(), n.sum()) for step, fate, n in fates]
        nowhere = near["latitude"].isna() | near["longitude"].isna()
        moved = near["station_id"].isin(contracts.apart(near))
        rows += [
            ("note", "no static variables", (~near["has_static_variables"]).sum(), 0),
            ("note", "no coordinates", nowhere.sum(), near.loc[nowhere, "n_rows"].sum()),
            ("note", "stations at several places", moved.sum(), near.loc[moved, "n_rows"].sum()),
            ("note", "no reading at all", (near["n_rows"] == 0).sum(), 0),
            ("note", "unreadable files", len(self.unreadable), 0),
        ]
        table = pd.DataFrame(rows, columns=["step", "what", "sensors", "rows"])
        shown = (table["sensors"] > 0) | (table["step"] == "input")
        return table[shown].reset_index(drop=True)


def read_ismn(
    path: str | Path,
    *,
    flags: tuple[str, ...] | None = rules.DEFAULT_FLAGS,
    max_depth_m: float = rules.DEFAULT_MAX_DEPTH_M,
    cache_dir: str | Path | None = None,
    unknown_flags: str = "raise",
    progress: bool = True,
) -> pd.DataFrame:
    """Read the surface soil moisture of an ISMN archive, zip or folder, CEOP or header+values.

    The first read streams the archive into a parquet cache, station by station; later ones, with
    any flags and depth, read that. The cache is keyed by the archive's content. Per sensor, the
    first reading of each clock hour stays. A reading outside [0, 1] m3 m-3 is left out and counted.

    Parameters
    ----------
    flags : tuple of text, ISMN flags accepted; a combination such as "C02,C03" is one flag; None
        accepts all that the archive holds
    max_depth_m : float, m; sensors that begin at 0 or sit at one depth, and end no deeper than this
    cache_dir : str or Path, where caches are kept (default: ``SOILKIT_CACHE`` or the user's cache)
    unknown_flags : "raise", or "drop" to leave readings of flags that no list explains out, counted

    Returns
    -------
    observations : DataFrame, sorted by ``sensor_id`` (category) and ``time`` (naive UTC,
        datetime64[us]), with ``soil_moisture_m3_m3`` (float32, m3 m-3) and ``flag`` (category);
        ``attrs["counts"]`` holds the rows by fate, as ``read_counts`` does in full

    Raises
    ------
    ArchiveReadError
        For an empty or corrupt zip, or one without a readable soil moisture sensor.
    UnknownNameError
        For a flag that ISMN does not know, asked for or found.
    UnitError
        For a network whose values look like percent.
    """
    if unknown_flags not in ("raise", "drop"):
        raise ParameterError(f"unknown_flags is 'raise' or 'drop', found {unknown_flags!r}.")

    def select(folder):
        chosen = Selection.of(
            folder, flags=flags, max_depth_m=max_depth_m, unknown_flags=unknown_flags
        )
        kept = read_observations(folder, chosen.wanted(), flags=chosen.accepted)
        return kept, chosen.counts()

    observations, counts = _from_cache(path, select, cache_dir=cache_dir, progress=progress)
    numbers = counts["rows"].where(counts["step"] != "note", counts["sensors"])
    names = counts["step"] + ": " + counts["what"]
    observations.attrs["counts"] = dict(zip(names, numbers.tolist(), strict=True))
    lost = counts[(counts["step"] == "lost") & (counts["rows"] > 0)]
    fates = ", ".join(f"{row.rows:,} {row.what}" for row in lost.itertuples())
    rules.LOG.log(
        logging.INFO if len(observations) else logging.WARNING,
        "%s: %s readings kept; lost: %s",
        Path(path).name, f"{len(observations):,}", fates or "none",
    )  # fmt: skip
    return observations


def read_stations(
    path: str | Path,
    *,
    max_depth_m: float = rules.DEFAULT_MAX_DEPTH_M,
    cache_dir: str | Path | None = None,
    without_coordinates: str = "raise",
    progress: bool = True,
) -> pd.DataFrame:
    """The stations table of an ISMN archive: one row a sensor within the depth rule.

    Texture is the USDA class of ISMN's sand, silt and clay; ``land_cover`` the name in
    ``strata.CCI_NAMES`` of the newest ESA CCI code (2010); ``koeppen`` the three-letter class; each
    "" where the archive has no static variables. Raises ``ArchiveReadError`` as ``read_ismn``, and
    for stations without coordinates or at several places, by name.

    Parameters
    ----------
    max_depth_m : float, m; as in ``read_ismn``
    cache_dir : str or Path, as in ``read_ismn``
    without_coordinates : "raise", or "drop" to leave out sensors that nobody can place on a map

    Returns
    -------
    stations : DataFrame of the ``contracts.STATIONS`` columns and ``sand_percent``,
        ``silt_percent``, ``clay_percent`` (% weight, NaN = unknown), sorted by ``sensor_id``
    """
    sensors, _, _ = _from_cache(path, read_tables, cache_dir=cache_dir, progress=progress)
    near = rules.depth_accepted(
        sensors["depth_from_m"], sensors["depth_to_m"], max_depth_m=max_depth_m
    )
    n_bare = int((~sensors.loc[near, "has_static_variables"]).sum())
    if n_bare:
        rules.LOG.warning(
            "%s: %d of %d sensors have no static variables; their land cover, climate and texture "
            "are unknown",
            Path(path).name, n_bare, int(near.sum()),
        )  # fmt: skip
    stations = sensors.loc[near, STATION_COLUMNS].sort_values("sensor_id", ignore_index=True)
    stations["land_cover"] = strata.land_cover_class(stations["land_cover"], legend="cci")
    stations = rules.checked(stations, rules.Notes())
    return rules.placed(stations, without_coordinates=without_coordinates)


def read_counts(
    path: str | Path,
    *,
    flags: tuple[str, ...] | None = rules.DEFAULT_FLAGS,
    max_depth_m: float = rules.DEFAULT_MAX_DEPTH_M,
    cache_dir: str | Path | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """What became of every line of an archive under these flags and this depth of ``read_ismn``.

    The table has ``step`` ("input", "lost", "kept", "note"), ``what``, ``sensors`` and ``rows``;
    rows of input = rows lost + rows kept.
    """

    def count(folder):
        return Selection.of(folder, flags=flags, max_depth_m=max_depth_m).counts()

    return _from_cache(path, count, cache_dir=cache_dir, progress=progress)


def _from_cache(path, use, *, cache_dir, progress):
    """What ``use`` makes of the archive's cache folder, which is built if absent or damaged."""
    with ismn.open_files(path) as files:
        folder = folder_of(files.content_hash, cache_dir=cache_dir)
        if folder.exists():
            try:
                return use(folder)
            except StoreError as error:
                rules.LOG.warning("%s", error)
                shutil.rmtree(folder, ignore_errors=True)
        unreadable: list[dict[str, str]] = []
        sensors = ismn.stream(files, unreadable, beside=folder, progress=progress)
        write_cache(folder, sensors, unreadable=unreadable)
    return use(folder)

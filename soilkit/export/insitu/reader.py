"""ISMN archives to stations and observations through a cache, and what became of every line."""

import logging
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from soilkit import contracts, strata
from soilkit.constants import MIN_SAMPLES
from soilkit.errors import ParameterError, StoreError, UnitError
from soilkit.export.insitu import cache, ismn, rules

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
        sensors, tallies, unreadable = cache.read_tables(folder)
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
    path : str or Path, the zip or the folder
    flags : tuple of text, ISMN flags accepted; a combination such as "C02,C03" is one flag; None
        accepts all that the archive holds
    max_depth_m : float, m; sensors that begin at 0 or sit at one depth, and end no deeper than this
    cache_dir : str or Path, where caches are kept (default: ``SOILKIT_CACHE`` or the user's cache)
    unknown_flags : "raise", or "drop" to leave readings of flags that no list explains out, counted
    progress : bool, show a progress bar while the cache is built

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
        kept = cache.read_observations(folder, chosen.wanted(), flags=chosen.accepted)
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
    "" where the archive has no static variables.

    Parameters
    ----------
    path : str or Path, the zip or the folder
    max_depth_m : float, m; as in ``read_ismn``
    cache_dir : str or Path, as in ``read_ismn``
    without_coordinates : "raise", or "drop" to leave out sensors that nobody can place on a map
    progress : bool, show a progress bar while the cache is built

    Returns
    -------
    stations : DataFrame of the ``contracts.STATIONS`` columns and ``sand_percent``,
        ``silt_percent``, ``clay_percent`` (% weight, NaN = unknown), sorted by ``sensor_id``

    Raises
    ------
    ArchiveReadError
        As ``read_ismn``, and for stations without coordinates or at several places, by name.
    """
    sensors, _, _ = _from_cache(path, cache.read_tables, cache_dir=cache_dir, progress=progress)
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
        folder = cache.folder_of(files.content_hash, cache_dir=cache_dir)
        if folder.exists():
            try:
                return use(folder)
            except StoreError as error:
                rules.LOG.warning("%s", error)
                shutil.rmtree(folder, ignore_errors=True)
        unreadable: list[dict[str, str]] = []
        cache.build(
            folder, ismn.stream(files, unreadable, beside=folder, progress=progress), unreadable
        )
    return use(folder)

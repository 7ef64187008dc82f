"""ISMN archives to stations and observations through a cache, and what became of every line."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from soilkit import strata
from soilkit.errors import ParameterError
from soilkit.export.insitu import cache, ismn, rules
from soilkit.export.insitu.ismn import open_files

LOG = logging.getLogger("soilkit.export.insitu")
OUTSIDE = "value outside 0-1 m3 m-3"
OTHER_DEPTH = "other depth"


def accepted_rows(sensors, tallies, *, flags, max_depth_m) -> pd.DataFrame:
    """The sensors within the depth rule, by id, with ``n_accepted`` readings, ``n_outside`` more.

    Parameters
    ----------
    sensors, tallies : DataFrame, the cache's tables
    flags : tuple of text
    max_depth_m : float, m

    Raises
    ------
    UnitError
        For a network most of whose accepted values exceed 1 m3 m-3.
    """
    used = tallies[_carries(tallies, flags)]
    n, below, above = (
        np.bincount(used["sensor"], used[name], minlength=len(sensors)).astype("int64")
        for name in ("n", "n_below_0", "n_above_1")
    )
    near = _is_near(sensors, max_depth_m)
    _refuse_percent(
        sensors["sensor_id"].where(near), sensors["network"], n=n * near, above=above * near
    )
    table = sensors.assign(n_accepted=n - below - above, n_outside=below + above)
    return table[near].sort_values("sensor_id", ignore_index=True)


def _refuse_percent(sensor_id: pd.Series, network: pd.Series, *, n, above) -> None:
    """A network shares one unit: most of it above 1 is percent, one such sensor alone is broken."""
    if not above.any():
        return
    share = above / np.maximum(n, 1)
    for name, rows in pd.DataFrame({"n": n, "above": above}).groupby(network).sum().iterrows():
        worst = sensor_id.iloc[int(np.where(network == name, share, -1).argmax())]
        rules.refuse_percent(
            rows["above"] / max(rows["n"], 1), where=f"The network {name} (such as sensor {worst})"
        )
    for name in sensor_id[share > 0.5]:
        LOG.warning("%s: most values exceed 1 m3 m-3; they are left out and counted", name)


def tally_counts(sensors, tallies, *, unreadable, flags, max_depth_m) -> pd.DataFrame:
    """One row for each fate of a line; rows of "input" = rows of "lost" + rows of "kept".

    Parameters
    ----------
    sensors, tallies, unreadable : DataFrame, the cache's tables
    flags : tuple of text
    max_depth_m : float, m

    Returns
    -------
    DataFrame with ``step``, ``what``, ``sensors``, ``rows``
    """
    is_near = _is_near(sensors, max_depth_m)
    near, deep = sensors[is_near], sensors[~is_near]
    tallies = tallies[is_near[tallies["sensor"]]]
    carried = _carries(tallies, flags)
    used, others = tallies[carried], tallies[~carried]
    outside = used["n_below_0"] + used["n_above_1"]
    rows = [("input", "lines of soil moisture files", len(sensors), sensors["lines"].sum())]
    rows.append(("lost", OTHER_DEPTH, len(deep), deep["lines"].sum()))
    for column, what in rules.LOST.items():
        rows.append(("lost", what, (near[column] > 0).sum(), near[column].sum()))
    for flag, of_flag in others.groupby("flag"):
        known = "" if rules.is_known(flag) else " (unknown to ISMN)"
        rows.append(("lost", f"flag {flag}{known}", len(of_flag), of_flag["n"].sum()))
    rows.append(("lost", OUTSIDE, (outside > 0).sum(), outside.sum()))
    for flag, of_flag in used.assign(kept=used["n"] - outside).groupby("flag")["kept"]:
        rows.append(("kept", f"flag {flag}", (of_flag > 0).sum(), of_flag.sum()))
    return _table(rows + _notes(near, unreadable))


def _notes(near: pd.DataFrame, unreadable: pd.DataFrame) -> list[tuple[str, str, int, int]]:
    nowhere = near["latitude"].isna() | near["longitude"].isna()
    silent = near["n_rows"] == 0
    return [
        ("note", "no static variables", (~near["has_static_variables"]).sum(), 0),
        ("note", "no coordinates", nowhere.sum(), near.loc[nowhere, "n_rows"].sum()),
        ("note", "no reading at all", silent.sum(), 0),
        ("note", "unreadable files", len(unreadable), 0),
    ]


def _table(rows) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["step", "what", "sensors", "rows"])
    table[["sensors", "rows"]] = table[["sensors", "rows"]].astype("int64")
    shown = (table["rows"] > 0) | (table["sensors"] > 0) | (table["step"] == "input")
    return table[shown].reset_index(drop=True)


def _is_near(sensors: pd.DataFrame, max_depth_m: float) -> np.ndarray:
    return rules.depth_accepted(
        sensors["depth_from_m"], sensors["depth_to_m"], max_depth_m=max_depth_m
    )


def _carries(tallies: pd.DataFrame, flags) -> np.ndarray:
    return np.isin(tallies["flag"].to_numpy(dtype=object), flags)


def as_dict(table: pd.DataFrame) -> dict[str, int]:
    """``{"kept: flag G": rows, ...}``: plain, so that it survives in ``DataFrame.attrs``."""
    names = table["step"] + ": " + table["what"]
    rows = np.where(table["step"] == "note", table["sensors"], table["rows"])
    return dict(zip(names, rows.tolist(), strict=True))


def log(table: pd.DataFrame, *, name: str) -> None:
    """One line in the log; a warning where nothing was kept."""
    kept = table.loc[table["step"] == "kept", "rows"].sum()
    fates = ", ".join(
        f"{row.rows:,} {row.what}" for row in table.itertuples() if row.step == "lost" and row.rows
    )
    level = logging.INFO if kept else logging.WARNING
    LOG.log(level, "%s: %s readings kept; lost: %s", name, f"{kept:,}", fates or "none")


# ISMN archives to the stations and observations tables, through a cache of their content.

STATION_COLUMNS = [
    "sensor_id", "station_id", "network", "station", "latitude", "longitude", "elevation_m",
    "depth_from_m", "depth_to_m", "land_cover", "koeppen", "texture",
    "sand_percent", "silt_percent", "clay_percent",
]  # fmt: skip


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
    folder = _cached(path, cache_dir=cache_dir, progress=progress)
    sensors, tallies, unreadable = cache.read_tables(folder)
    found = tallies["flag"].unique().tolist()
    accepted = rules.accepted_flags(flags, found)
    if unknown_flags == "raise":
        rules.refuse_unknown_flags(found, accepted)
    counts = tally_counts(
        sensors, tallies, unreadable=unreadable, flags=accepted, max_depth_m=max_depth_m
    )
    wanted = accepted_rows(sensors, tallies, flags=accepted, max_depth_m=max_depth_m)
    observations = cache.read_observations(folder, wanted, flags=accepted)
    observations.attrs["counts"] = as_dict(counts)
    log(counts, name=Path(path).name)
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
        As ``read_ismn``, and for stations without coordinates, by name.
    """
    folder = _cached(path, cache_dir=cache_dir, progress=progress)
    sensors, _, _ = cache.read_tables(folder)
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
    return rules.placed(stations, without_coordinates=without_coordinates)


def read_counts(
    path: str | Path,
    *,
    flags: tuple[str, ...] | None = rules.DEFAULT_FLAGS,
    max_depth_m: float = rules.DEFAULT_MAX_DEPTH_M,
    cache_dir: str | Path | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """What became of every line of an archive under these flags and this depth.

    Parameters
    ----------
    path, flags, max_depth_m, cache_dir, progress : as in ``read_ismn``

    Returns
    -------
    counts : DataFrame, ``step`` ("input", "lost", "kept", "note"), ``what``, ``sensors``, ``rows``;
        rows of input = rows lost + rows kept
    """
    folder = _cached(path, cache_dir=cache_dir, progress=progress)
    sensors, tallies, unreadable = cache.read_tables(folder)
    accepted = rules.accepted_flags(flags, tallies["flag"].unique())
    return tally_counts(
        sensors, tallies, unreadable=unreadable, flags=accepted, max_depth_m=max_depth_m
    )


def _cached(path: str | Path, *, cache_dir: str | Path | None, progress: bool) -> Path:
    """The cache folder of an archive, built if it is not there."""
    with open_files(path) as files:
        folder = cache.folder_of(files.content_hash, cache_dir=cache_dir)
        if folder.exists():
            return folder
        unreadable: list[dict[str, str]] = []

        def sensors():
            for item in ismn.stream(files, progress=progress):
                if isinstance(item, ismn.Unreadable):
                    unreadable.append({"file": item.member, "reason": item.reason})
                else:
                    yield item

        cache.build(folder, sensors(), unreadable)
    return folder

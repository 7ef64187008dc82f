"""ISMN archives through the ``ismn`` package, one sensor at a time and never more in memory."""

import logging
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from ismn.base import IsmnRoot
from ismn.const import CITATIONS
from ismn.filehandlers import DataFile, StaticMetaFile
from ismn.meta import Depth, MetaData
from tqdm.auto import tqdm

from soilkit.insitu import names, rules, stm
from soilkit.insitu.files import Files
from soilkit.strata import texture_class

LOG = logging.getLogger("soilkit.insitu")
SOIL_MOISTURE = "sm"
# ismn's names of static variables, and ours.
SOIL_PARTS = {
    "sand_fraction": "sand_percent",
    "silt_fraction": "silt_percent",
    "clay_fraction": "clay_percent",
}
NO_WORD = ("", "unknown", "nan", "masked")  # "masked": the climate map has no land there
LAND_COVER = ("lc_2010", "lc_2005", "lc_2000")  # ESA CCI codes, the newest first
KOEPPEN = ("climate_KG", "climate_insitu")
NO_VALUE = (-9999.0, -999.0, -999.9, -99.9)
NO_ELEVATION = -500.0  # the Dead Sea's shore lies at -430 m
FOLDER = Path("network", "station")


@dataclass(frozen=True)
class Sensor:
    """One sensor: its row of the stations table, its tidy readings, and what was lost."""

    attributes: dict[str, Any]
    readings: pd.DataFrame
    lost: dict[str, int]


@dataclass(frozen=True)
class Unreadable:
    """A soil moisture file that gave no reading, and why."""

    member: str
    reason: str


def stream(files: Files, *, progress: bool = True) -> Iterator[Sensor | Unreadable]:
    """Every soil moisture file of the archive once, station by station."""
    described, foreign = _described(files)
    yield from (Unreadable(m, "its name is not ISMN's 'separate files' pattern") for m in foreign)
    ids = names.unique_sensor_ids(described)
    stations: dict[tuple[str, str], list[names.FileName]] = defaultdict(list)
    for file in described:
        stations[file.network, file.station].append(file)
    statics = _statics(files)
    for key in tqdm(
        sorted(stations), desc="reading stations", disable=not progress, unit="station"
    ):
        members = sorted(stations[key], key=lambda f: ids[f.member])
        yield from _station(files, members, ids=ids, statics=statics)


def _described(files: Files) -> tuple[list[names.FileName], list[str]]:
    described, foreign = [], []
    for member in sorted(files.fingerprints):
        if not member.endswith(".stm"):
            continue
        file = names.parse(member)
        if file is None:
            foreign.append(member)
        elif file.variable == SOIL_MOISTURE:
            described.append(file)
    return described, foreign


def _statics(files: Files) -> dict[PurePosixPath, list[str]]:
    """The static variable tables by folder."""
    tables = defaultdict(list)
    for member in sorted(files.fingerprints):
        if member.endswith("_static_variables.csv"):
            tables[PurePosixPath(member).parent].append(member)
    return tables


def _station(files: Files, members, *, ids, statics) -> Iterator[Sensor | Unreadable]:
    with tempfile.TemporaryDirectory(prefix="soilkit-") as folder:
        root = IsmnRoot(folder)
        (root.path / FOLDER).mkdir(parents=True)
        static = _static_variables(files, members[0], statics, root)
        for file in members:
            yield _sensor(files, file, root, sensor_id=ids[file.member], static=static)


def _static_variables(files: Files, file, statics, root: IsmnRoot) -> MetaData | None:
    """The station's static variables as ismn reads them; None where there are none."""
    tables = statics.get(PurePosixPath(file.member).parent, [])
    same = [table for table in tables if f"_{file.station}_static" in table]
    if not same:
        return None
    (root.path / FOLDER / "static_variables.csv").write_bytes(files.read(same[0]))
    try:
        return StaticMetaFile(root, FOLDER / "static_variables.csv").metadata
    except Exception as error:  # ismn passes on whatever pandas met in a damaged table
        LOG.warning("%s: static variables are not readable (%r)", same[0], error)
        return None


def _sensor(files: Files, file, root: IsmnRoot, *, sensor_id, static) -> Sensor | Unreadable:
    text = stm.clean(files.read(file.member))
    if text is None:
        return _unreadable(file, "it is neither of CEOP nor of header+values format")
    if text.n_malformed == text.n_rows:
        return _unreadable(file, f"none of its {text.n_rows} lines is well formed")
    if text.n_malformed:
        LOG.warning(
            "%s: %d of %d lines are malformed and skipped, the first: %r",
            file.member, text.n_malformed, text.n_rows, text.first_malformed,
        )  # fmt: skip
    path = _unpacked(file, root, text.text)  # a full disk here is no fault of the file
    try:
        metadata, readings = _through_ismn(root, path)
    except MemoryError:
        raise
    except Exception as error:  # ismn raises IOError, ValueError, IndexError and pandas' own
        return _unreadable(file, f"ismn cannot read it ({error!r:.200})")
    readings, lost = rules.tidy(readings)
    attributes = {
        "sensor_id": sensor_id,
        **_identity(file, metadata),
        **_surroundings(metadata, static, file),
        "has_static_variables": static is not None,
    }
    return Sensor(
        attributes, readings, {"lines": text.n_rows, "malformed": text.n_malformed} | lost
    )


def _unreadable(file: names.FileName, reason: str) -> Unreadable:
    LOG.warning("%s is skipped: %s", file.member, reason)
    return Unreadable(file.member, reason)


def _unpacked(file: names.FileName, root: IsmnRoot, text: bytes) -> Path:
    """Where the file's text was written, under a name that is spelt so that ismn can split it."""
    depths = f"{file.depth_from_m:.6f}_{file.depth_to_m:.6f}"
    words = (file.network, file.network, file.station, file.variable, depths, file.instrument)
    parts = [part.replace("_", "-") for part in words]
    parts[4] = depths
    name = "_".join(parts) + "_20000101_20000101.stm"
    path = FOLDER / re.sub(r'[\\/:*?"<>|]', "-", name)  # what some file system forbids
    (root.path / path).write_bytes(text)
    return path


def _through_ismn(root: IsmnRoot, path: Path):
    """ismn's metadata and series of one file."""
    source = DataFile(root, path)
    series = source.read_data()
    (root.path / path).unlink()
    readings = pd.DataFrame(
        {
            "time": series.index.to_numpy().astype("datetime64[us]"),
            "soil_moisture_m3_m3": series["soil_moisture"].to_numpy(dtype="float32"),
            "flag": rules.canonical_flags(series["soil_moisture_flag"].to_numpy(dtype=object)),
        }
    )
    return source.metadata, readings


def _identity(file: names.FileName, metadata: MetaData) -> dict[str, Any]:
    """Who and where; depths come from the file's name, which has more digits than its header."""
    place = {name: _number(metadata, name) for name in ("latitude", "longitude", "elevation")}
    known = abs(place["latitude"]) <= 90 and abs(place["longitude"]) <= 360
    return {
        "station_id": names.station_id(file.network, file.station),
        "network": file.network,
        "station": file.station,
        "latitude": place["latitude"] if known else np.nan,
        "longitude": place["longitude"] - 360 * (place["longitude"] > 180) if known else np.nan,
        "elevation_m": place["elevation"] if place["elevation"] > NO_ELEVATION else np.nan,
        "depth_from_m": file.depth_from_m,
        "depth_to_m": file.depth_to_m,
    }


def _surroundings(metadata: MetaData, static: MetaData | None, file) -> dict[str, Any]:
    """Land cover (ESA CCI code), climate and texture; "" and NaN where ISMN knows none."""
    empty = dict.fromkeys(("land_cover", "koeppen", "texture"), "")
    if static is None:
        return empty | dict.fromkeys(SOIL_PARTS.values(), np.nan)
    merged = metadata.merge(static, exclude_empty=False)
    best = merged.best_meta_for_depth(Depth(file.depth_from_m, file.depth_to_m))
    soil = {ours: _number(best, theirs) for theirs, ours in SOIL_PARTS.items()}
    sand, silt, clay = soil.values()
    codes = [_number(best, name) for name in LAND_COVER]
    land_cover = next((str(int(code)) for code in codes if np.isfinite(code)), "")
    return {
        "land_cover": land_cover,
        "koeppen": next((text for text in (_text(best, name) for name in KOEPPEN) if text), ""),
        "texture": str(texture_class(sand, silt, clay=clay)),
        **soil,
    }


def _value(metadata: MetaData, name: str) -> Any:
    found = metadata[name] if name in metadata.keys() else None  # noqa: SIM118, SIM401 no dict
    return getattr(found[0] if isinstance(found, list) and found else found, "val", None)


def _number(metadata: MetaData, name: str) -> float:
    """The value as a number; NaN where it is absent, a word, or one of ISMN's marks of absence."""
    try:
        number = float(_value(metadata, name))
    except (TypeError, ValueError):
        return np.nan
    return np.nan if number in NO_VALUE else number


def _text(metadata: MetaData, name: str) -> str:
    value = _value(metadata, name)
    return value if isinstance(value, str) and value.lower() not in NO_WORD else ""


def references(networks: list[str]) -> dict[str, str]:
    """What ``ismn`` says of how to cite each network; "" where it knows none."""
    return {name: "; ".join(CITATIONS.get(name, [])) for name in networks}

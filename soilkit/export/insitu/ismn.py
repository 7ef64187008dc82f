"""ISMN archives through the ``ismn`` package: members, names, lines, one sensor at a time."""

import hashlib
import json
import logging
import re
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from zlib import error as ZlibError

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from soilkit.errors import ArchiveReadError
from soilkit.export.insitu import rules
from soilkit.strata import texture_class

if TYPE_CHECKING:  # ismn is slow to load, and what lacks it reads everything else
    from ismn.base import IsmnRoot
    from ismn.meta import MetaData


@dataclass(frozen=True)
class Files:
    """An open archive: ``fingerprints`` maps each member to what tells its content apart."""

    path: Path
    fingerprints: dict[str, tuple[int, ...]]
    zip: zipfile.ZipFile | None

    def read(self, member: str) -> bytes:
        """The bytes of one member; a damaged one raises ``ArchiveReadError``."""
        try:
            if self.zip is not None:
                return self.zip.read(member)
            return (self.path / member).read_bytes()
        except (zipfile.BadZipFile, ZlibError, EOFError, OSError, RuntimeError) as error:
            raise ArchiveReadError(  # RuntimeError: encrypted, or compressed in an unknown way
                f"{self.path.name}: the member {member} is damaged or cannot be read ({error}). "
                "Download the archive again, or unpack it and give the folder."
            ) from error

    @property
    def content_hash(self) -> str:
        """SHA-256 over member names and fingerprints: a zip keeps it wherever it is moved."""
        text = json.dumps(sorted(self.fingerprints.items()))
        return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def open_files(path: str | Path) -> Iterator[Files]:
    """Open a zip (fingerprint: size and CRC) or a folder (size and time of change).

    Raises
    ------
    ArchiveReadError
        If nothing is there, or an empty, truncated or corrupt zip, or no ``.stm`` file in it.
    """
    path = Path(path)
    if not path.exists():
        raise ArchiveReadError(f"No archive at {path}. Give an ISMN zip or its unpacked folder.")
    if path.is_dir():
        yield _with_readings(Files(path, _folder(path), None))
        return
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        size = path.stat().st_size
        raise ArchiveReadError(
            f"{path.name} should be an ISMN zip, but it is no readable zip ({size:,} bytes: "
            f"{error}). It may be half downloaded: fetch it again, or give the unpacked folder."
        ) from error
    with archive:
        members: dict[str, tuple[int, ...]] = {
            i.filename: (i.file_size, i.CRC) for i in archive.infolist() if not i.is_dir()
        }
        yield _with_readings(Files(path, members, archive))


def _folder(path: Path) -> dict[str, tuple[int, ...]]:
    stats = ((p, p.stat()) for p in sorted(path.rglob("*")) if p.suffix in (".stm", ".csv"))
    return {p.relative_to(path).as_posix(): (s.st_size, s.st_mtime_ns) for p, s in stats}


def _with_readings(files: Files) -> Files:
    if not any(name.endswith(".stm") for name in files.fingerprints):
        raise ArchiveReadError(
            f"{files.path.name} holds no .stm file ({len(files.fingerprints)} files in all). "
            "Give an ISMN archive of 'header+values' or 'CEOP' format, zip or folder."
        )
    return files


# What an ISMN file's name and folder say: network, station, probe, depth; unique sensor ids.

FILE_NAME = re.compile(
    r"^(?P<cse>[^_]+)_(?P<network>.+)_(?P<station>[^_]+)_(?P<variable>[a-z]+)_"
    r"(?P<depth_from>-?\d+\.\d+)_(?P<depth_to>-?\d+\.\d+)_(?P<instrument>.+)_\d{8}_\d{8}\.stm$"
)


@dataclass(frozen=True)
class FileName:
    """One ``.stm`` file as its path describes it; depths in m, as many digits as the name has."""

    member: str
    network: str
    station: str
    variable: str
    instrument: str
    depth_from_m: float
    depth_to_m: float

    @property
    def station_id(self) -> str:
        """``NETWORK__STATION``."""
        return f"{self.network}__{self.station}"


def station_id(network: str, station: str) -> str:
    """``NETWORK__STATION``, safe as a part of a file name.

    Examples
    --------
    >>> station_id("SCAN", "AdamsRanch#1")
    'SCAN__AdamsRanch#1'
    """
    return _safe(f"{network}__{station}")


def sensor_id(network: str, station: str, *, instrument: str, depth_m: tuple[float, float]) -> str:
    """``NETWORK__STATION__SENSOR__FROM__TO``, depths in m with two digits or more.

    Examples
    --------
    >>> sensor_id("ARM", "Byron", instrument="Hydraprobe-W", depth_m=(0.05, 0.0508))
    'ARM__Byron__Hydraprobe-W__0.05__0.0508'
    """
    start, end = (_digits(depth) for depth in depth_m)
    return _safe(f"{network}__{station}__{instrument}__{start}__{end}")


def parse(member: str) -> FileName | None:
    """The description of one archive member, or None where the name is not ISMN's.

    The network is the name of the parent folder that spells the file's own network ("FR_Aqui" for
    "FR-Aqui"), so archives with or without station folders and extra top folders agree.

    Examples
    --------
    >>> parse("FR_Aqui/fraye/FR-Aqui_FR-Aqui_fraye_sm_0.05_0.05_ML2X_20100101_20101231.stm").network
    'FR_Aqui'
    """
    path = PurePosixPath(member)
    found = FILE_NAME.match(path.name)
    if found is None:
        return None
    network = found["network"]
    folders = [f for f in path.parts[:-1] if plain(f) == plain(network)]
    return FileName(
        member=member,
        network=folders[0] if folders else network,
        station=found["station"],
        variable=found["variable"],
        instrument=found["instrument"],
        depth_from_m=float(found["depth_from"]),
        depth_to_m=float(found["depth_to"]),
    )


def unique_sensor_ids(files: Iterable[FileName]) -> dict[str, str]:
    """A sensor id for each member; the second of two equal ones gets ``~2`` after its probe.

    Members are numbered in the order of their paths, so the same archive gives the same ids.
    """
    same = defaultdict(list)
    for file in sorted(files, key=lambda f: f.member):
        same[_sensor_id(file, "")].append(file)
    return {
        file.member: _sensor_id(file, f"~{n}" if n > 1 else "")
        for twins in same.values()
        for n, file in enumerate(twins, start=1)
    }


def plain(name: str) -> str:
    """Lower-case letters and digits only: the spelling in which two archives agree.

    Examples
    --------
    >>> plain("Tucson-11-W")
    'tucson11w'
    """
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _sensor_id(file: FileName, suffix: str) -> str:
    return sensor_id(
        file.network,
        file.station,
        instrument=file.instrument + suffix,
        depth_m=(file.depth_from_m, file.depth_to_m),
    )


def _digits(depth_m: float) -> str:
    """Two digits, and up to four more where the depth has them: 0.05, 0.0508."""
    whole, part = f"{depth_m:.6f}".split(".")
    return f"{whole}.{part.rstrip('0').ljust(2, '0')}"


def _safe(text: str) -> str:
    return re.sub(r'[\\/:*?"<>|\s]+', "-", text)


# The lines of a .stm file: which are well formed, in both of ISMN's formats and all line ends.

TIME = (
    rb"\d{4}/(?:0[1-9]|1[0-2])/(?:0[1-9]|[12]\d|3[01])[ \t]+(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d)?"
)
VALUE = rb"(?:[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[nN][aA][nN])"
FLAG = rb"[A-Z]\d{0,2}(?:,[A-Z]\d{0,2})*"
REST = rb"(?:[ \t][^\n]*)?$"
HEADER_VALUES_ROW = re.compile(
    rb"^[ \t]*(" + TIME + rb"[ \t]+" + VALUE + rb"[ \t]+" + FLAG + rb")" + REST, re.MULTILINE
)
CEOP_ROW = re.compile(
    rb"^[ \t]*(" + TIME + rb"[ \t]+" + TIME + rb"[ \t]+(?:\S+[ \t]+){8}" + VALUE + rb"[ \t]+" + FLAG
    + rb")" + REST,
    re.MULTILINE,
)  # fmt: skip
NO_PROVIDER_FLAG = b" -"  # the provider's own flag may be missing or many words; it is not used
HEADER_WORDS, HEADER_COORDINATES = 8, slice(3, 6)
CEOP_COORDINATES = slice(7, 10)


@dataclass(frozen=True)
class CleanText:
    """A .stm file without its malformed lines, one line end, no provider flags."""

    text: bytes
    n_rows: int
    n_malformed: int
    first_malformed: str


def clean(raw: bytes) -> CleanText | None:
    """Keep the well-formed rows; None where the first line is of neither format."""
    lines = [line for line in raw.replace(b"\r", b"\n").split(b"\n") if line.strip()]
    if not lines:
        return None
    text = b"\n".join(lines)
    if CEOP_ROW.match(lines[0]):
        rows, wanted, head = _real_days(CEOP_ROW.findall(text)), len(lines), []
        rows[:1] = [_with_numbers(row, CEOP_COORDINATES) for row in rows[:1]]
        pattern = CEOP_ROW
    else:
        words = lines[0].split()
        if len(words) < HEADER_WORDS or re.match(rb"\d{4}/", words[0]):
            return None
        head = [_with_numbers(lines[0], HEADER_COORDINATES)]
        rows, wanted = _real_days(HEADER_VALUES_ROW.findall(text)), len(lines) - 1
        pattern = HEADER_VALUES_ROW
    n_malformed = wanted - len(rows)
    first = _first_malformed(lines[len(head) :], pattern) if n_malformed else ""
    body = [row + NO_PROVIDER_FLAG for row in rows]
    return CleanText(b"\n".join(head + body) + b"\n", wanted, n_malformed, first)


def _real_days(rows: list[bytes]) -> list[bytes]:
    """Drop rows of days that no calendar has, such as 2019/02/30."""
    impossible = {day for day in {row[:10] for row in rows} if not _is_day(day)}
    return [row for row in rows if row[:10] not in impossible] if impossible else rows


def _is_day(day: bytes) -> bool:
    try:
        datetime.strptime(day.decode(), "%Y/%m/%d")
    except ValueError:
        return False
    return True


def _with_numbers(line: bytes, places: slice) -> bytes:
    """Make a missing coordinate, however it is spelt, "nan", and the line ASCII."""
    words = line.decode("ascii", "replace").replace("\ufffd", "_").split()
    words[places] = [word if _is_number(word) else "nan" for word in words[places]]
    return " ".join(words).encode()


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _first_malformed(lines: list[bytes], pattern: re.Pattern[bytes]) -> str:
    for line in lines:
        found = pattern.match(line)
        if found is None or not _is_day(found[1][:10]):
            return line.decode("ascii", "replace")[:80]
    return ""


# ISMN archives through the ``ismn`` package, one sensor at a time and never more in memory.

LOG = logging.getLogger("soilkit.export.insitu")
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
    ids = unique_sensor_ids(described)
    stations: dict[tuple[str, str], list[FileName]] = defaultdict(list)
    for file in described:
        stations[file.network, file.station].append(file)
    statics = _statics(files)
    for key in tqdm(
        sorted(stations), desc="reading stations", disable=not progress, unit="station"
    ):
        members = sorted(stations[key], key=lambda f: ids[f.member])
        yield from _station(files, members, ids=ids, statics=statics)


def _described(files: Files) -> tuple[list[FileName], list[str]]:
    described, foreign = [], []
    for member in sorted(files.fingerprints):
        if not member.endswith(".stm"):
            continue
        file = parse(member)
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
    from ismn.base import IsmnRoot

    with tempfile.TemporaryDirectory(prefix="soilkit-") as folder:
        root = IsmnRoot(folder)
        (root.path / FOLDER).mkdir(parents=True)
        static = _static_variables(files, members[0], statics, root)
        for file in members:
            yield _sensor(files, file, root, sensor_id=ids[file.member], static=static)


def _static_variables(files: Files, file, statics, root: "IsmnRoot") -> "MetaData | None":
    """The station's static variables as ismn reads them; None where there are none."""
    tables = statics.get(PurePosixPath(file.member).parent, [])
    same = [table for table in tables if f"_{file.station}_static" in table]
    if not same:
        return None
    from ismn.filehandlers import StaticMetaFile

    (root.path / FOLDER / "static_variables.csv").write_bytes(files.read(same[0]))
    try:
        return StaticMetaFile(root, FOLDER / "static_variables.csv").metadata
    except Exception as error:  # ismn passes on whatever pandas met in a damaged table
        LOG.warning("%s: static variables are not readable (%r)", same[0], error)
        return None


def _sensor(files: Files, file, root: "IsmnRoot", *, sensor_id, static) -> Sensor | Unreadable:
    text = clean(files.read(file.member))
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


def _unreadable(file: FileName, reason: str) -> Unreadable:
    LOG.warning("%s is skipped: %s", file.member, reason)
    return Unreadable(file.member, reason)


def _unpacked(file: FileName, root: "IsmnRoot", text: bytes) -> Path:
    """Where the file's text was written, under a name that is spelt so that ismn can split it."""
    depths = f"{file.depth_from_m:.6f}_{file.depth_to_m:.6f}"
    words = (file.network, file.network, file.station, file.variable, depths, file.instrument)
    parts = [part.replace("_", "-") for part in words]
    parts[4] = depths
    name = "_".join(parts) + "_20000101_20000101.stm"
    path = FOLDER / re.sub(r'[\\/:*?"<>|]', "-", name)  # what some file system forbids
    (root.path / path).write_bytes(text)
    return path


def _through_ismn(root: "IsmnRoot", path: Path):
    """ismn's metadata and series of one file."""
    from ismn.filehandlers import DataFile

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


def _identity(file: FileName, metadata: "MetaData") -> dict[str, Any]:
    """Who and where; depths come from the file's name, which has more digits than its header."""
    place = {name: _number(metadata, name) for name in ("latitude", "longitude", "elevation")}
    known = abs(place["latitude"]) <= 90 and abs(place["longitude"]) <= 360
    return {
        "station_id": station_id(file.network, file.station),
        "network": file.network,
        "station": file.station,
        "latitude": place["latitude"] if known else np.nan,
        "longitude": place["longitude"] - 360 * (place["longitude"] > 180) if known else np.nan,
        "elevation_m": place["elevation"] if place["elevation"] > NO_ELEVATION else np.nan,
        "depth_from_m": file.depth_from_m,
        "depth_to_m": file.depth_to_m,
    }


def _surroundings(metadata: "MetaData", static: "MetaData | None", file) -> dict[str, Any]:
    """Land cover (ESA CCI code), climate and texture; "" and NaN where ISMN knows none."""
    empty = dict.fromkeys(("land_cover", "koeppen", "texture"), "")
    if static is None:
        return empty | dict.fromkeys(SOIL_PARTS.values(), np.nan)
    from ismn.meta import Depth

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


def _value(metadata: "MetaData", name: str) -> Any:
    found = metadata[name] if name in metadata.keys() else None  # noqa: SIM118, SIM401 no dict
    return getattr(found[0] if isinstance(found, list) and found else found, "val", None)


def _number(metadata: "MetaData", name: str) -> float:
    """The value as a number; NaN where it is absent, a word, or one of ISMN's marks of absence."""
    try:
        number = float(_value(metadata, name))
    except (TypeError, ValueError):
        return np.nan
    return np.nan if number in NO_VALUE else number


def _text(metadata: "MetaData", name: str) -> str:
    value = _value(metadata, name)
    return value if isinstance(value, str) and value.lower() not in NO_WORD else ""


def citations(stations: pd.DataFrame) -> dict[str, str]:
    """How to cite each network of a stations table, as the ``ismn`` package lists it.

    ISMN's terms ask for the network's own reference beside ISMN's.

    Parameters
    ----------
    stations : stations table

    Returns
    -------
    {network: reference}, sorted by name; "" where ``ismn`` lists none

    Examples
    --------
    >>> citations(pd.DataFrame({"network": ["USCRN", "OWN"]}))["USCRN"][:12]
    'Bell, J. E.,'
    """
    from ismn.const import CITATIONS  # ismn is slow to load

    networks = sorted(set(stations["network"].astype(str)))
    return {name: "; ".join(CITATIONS.get(name, [])) for name in networks}

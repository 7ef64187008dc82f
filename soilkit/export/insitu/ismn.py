"""ISMN archives: members, names, lines, and one sensor at a time."""

import hashlib
import json
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from io import BytesIO, StringIO
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import requests
from requests.adapters import HTTPAdapter
from tqdm.auto import tqdm

from soilkit import contracts
from soilkit.errors import ArchiveReadError, ConnectError
from soilkit.export.insitu import rules
from soilkit.files import temporary_folder
from soilkit.strata import texture_class

if TYPE_CHECKING:  # ismn is slow to load, and what lacks it reads everything else
    from ismn.meta import MetaData


MOST_BYTES = 2**26  # of a member: forty years of hours in CEOP's long lines are 38 MB


class _Patient(HTTPAdapter):
    """The package asks without a deadline, so a silent portal would hold it for good."""

    def send(self, *words: Any, **options: Any) -> Any:
        return super().send(*words, **options | {"timeout": options.get("timeout") or 60})


def portal_session(user: str, password: str, *, base_url: str) -> tuple[requests.Session, str]:
    """A session that is logged in at the ISMN's portal by the package's own client, and the address
    of the archive; ``ConnectError`` where the portal does not answer."""
    from ismn.download import ISMNDownloader

    client = ISMNDownloader(user, password)
    client.LOGIN_URL, address = (
        one.replace(client.BASE_URL, base_url) for one in (client.LOGIN_URL, client.DOWNLOAD_URL)
    )
    for scheme in ("http://", "https://"):
        client.session.mount(scheme, _Patient())
    try:
        with redirect_stdout(StringIO()):  # it prints, a part of its token too
            client._login(client._get_csrf_token())
    except (requests.RequestException, KeyError, RuntimeError) as error:
        raise ConnectError(
            f"{base_url} does not let us log in ({type(error).__name__}: {error}). Check the "
            "network and your account, and try again."
        ) from error
    return client.session, address


@dataclass(frozen=True)
class Files:
    """An open archive: ``fingerprints`` maps each member to what tells its content apart."""

    path: Path
    fingerprints: dict[str, tuple[int, int]]
    zip: zipfile.ZipFile | None

    def read(self, member: str) -> bytes:
        """The bytes of one member; a damaged or too large one raises ``ArchiveReadError``."""
        size = self.fingerprints[member][0]
        try:
            if size > MOST_BYTES:
                raise ValueError(f"{size:,} bytes, more than the {MOST_BYTES:,} of any sensor")
            if self.zip is not None:
                if self.zip.namelist().count(member) > 1:
                    raise ValueError("its name stands there twice")
                return self.zip.read(member)
            if not (self.path / member).is_file():
                raise OSError("it is no regular file")
            return (self.path / member).read_bytes()
        except Exception as error:  # zip files raise what their compressors do; encrypted, unknown
            raise ArchiveReadError(
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

    Raises ``ArchiveReadError`` if nothing is there, or an empty, truncated or corrupt zip, or no
    ``.stm`` file in it.
    """
    path = Path(path)
    if not path.is_dir() and not path.is_file():
        raise ArchiveReadError(f"No archive at {path}. Give an ISMN zip or its unpacked folder.")
    with ExitStack() as stack:
        archive = None
        if path.is_dir():
            stats = {p: p.lstat() for p in path.rglob("*") if p.suffix.lower() in (".stm", ".csv")}
            stats |= {p: p.stat() for p in stats if p.is_file()}  # not of links to nothing
            members = {
                p.relative_to(path).as_posix(): (s.st_size, s.st_mtime_ns) for p, s in stats.items()
            }
        else:
            try:
                archive = stack.enter_context(zipfile.ZipFile(path))
                infos = [info for info in archive.infolist() if not info.is_dir()]
            except Exception as error:  # also what a damaged directory of members makes of it
                raise ArchiveReadError(
                    f"{path.name} is no readable zip ({path.stat().st_size:,} bytes: {error}). It "
                    "may be half downloaded: fetch it again, or give the unpacked folder."
                ) from error
            members = {info.filename: (info.file_size, info.CRC) for info in infos}
        if not any(name.lower().endswith(".stm") for name in members):
            raise ArchiveReadError(
                f"{path.name} holds no .stm file ({len(members)} files in all). Give an ISMN "
                "archive of 'header+values' or 'CEOP' format, zip or folder (or a sheet as CSV)."
            )
        yield Files(path, members, archive)


# What an ISMN file's name and folder say: network, station, probe, depth; unique sensor ids.

FILE_NAME = re.compile(
    r"^(?P<cse>[^_]+)_(?P<network>.+)_(?P<station>[^_]+)_(?P<variable>[a-z]+)_"
    r"(?P<depth_from>-?\d+\.\d+)_(?P<depth_to>-?\d+\.\d+)_(?P<instrument>.+)_\d{8}_\d{8}\.(?i:stm)$"
)


class FileName(NamedTuple):
    """One ``.stm`` file as its path describes it; depths in m, as many digits as the name has."""

    member: str
    network: str
    station: str
    variable: str
    instrument: str
    depth_from_m: float
    depth_to_m: float


def station_id(network: str, station: str) -> str:
    """``NETWORK__STATION``, safe as a part of a file name."""
    return _safe(f"{network}__{station}")


def sensor_id(network: str, station: str, *, instrument: str, depth_m: tuple[float, float]) -> str:
    """``NETWORK__STATION__SENSOR__FROM__TO``, depths in m with two digits or more.

    Examples
    --------
    >>> sensor_id("ARM", "Byron", instrument="Hydraprobe-W", depth_m=(0.05, 0.0508))
    'ARM__Byron__Hydraprobe-W__0.05__0.0508'
    """
    digits = [f"{depth:.6f}".rstrip("0").partition(".") for depth in depth_m]
    start, end = (f"{whole}.{part:0<2}" for whole, _, part in digits)
    return _safe(f"{network}__{station}__{instrument}__{start}__{end}")


def parse(member: str) -> FileName | None:
    """The description of one archive member, or None where the name is not ISMN's.

    The network is the name of the parent folder that spells the file's own network ("FR_Aqui" for
    "FR-Aqui"), so archives with or without station folders and extra top folders agree.
    """
    *folders, name = PurePosixPath(member).parts
    match = FILE_NAME.match(name)
    if match is None or not member.isprintable():  # a name that is no UTF-8 is not printable
        return None
    _, network, station, variable, depth_from, depth_to, instrument = match.groups()
    network = next((f for f in folders if plain(f) == plain(network)), network)
    depths = float(depth_from), float(depth_to)
    return FileName(member, network, station, variable, instrument, *depths)


def unique_sensor_ids(names: Iterable[FileName]) -> dict[str, str]:
    """A sensor id for each member; the second of two equal ones gets ``~2`` after its probe.

    Members are numbered in the order of their paths, so the same archive gives the same ids.
    """
    ids: dict[str, str] = {}
    twins: dict[str, int] = defaultdict(int)
    for name in sorted(names):
        *place, _, probe, start, end = name[1:]
        first_id = sensor_id(*place, instrument=probe, depth_m=(start, end))
        twins[first_id] += 1
        if twins[first_id] > 1:
            probe = f"{probe}~{twins[first_id]}"
        ids[name.member] = sensor_id(*place, instrument=probe, depth_m=(start, end))
    return ids


def plain(name: str) -> str:
    """Lower-case letters and digits only, the spelling in which two archives agree."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _safe(text: str) -> str:
    return re.sub(r'[\\/:*?"<>|\s]+', "-", text)


# The lines of a .stm file, in both of ISMN's formats and all line ends.

TIME = rb"\d{4}/\d\d/\d\d[ \t]+(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d)?"
VALUE = rb"(?:[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[nN][aA][nN])"
FLAG = rb"[A-Z]\d{0,2}(?:,[A-Z]\d{0,2})*"
TAIL = rb"(" + VALUE + rb"[ \t]+" + FLAG + rb")(?:[ \t][^\n]*)?$"  # the provider's flag is not used
HEADER_VALUES_ROW = re.compile(rb"^[ \t]*(" + TIME + rb")[ \t]+" + TAIL, re.MULTILINE)
CEOP_ROW = re.compile(
    rb"^[ \t]*(" + TIME + rb")[ \t]+" + TIME + rb"[ \t]+(?:\S+[ \t]+){8}" + TAIL, re.MULTILINE
)
LINE = re.compile(rb"^[^\S\n]*\S.*", re.MULTILINE)  # that is not blank
HEADER_WORDS = 8
# ismn's names of static variables, and ours.
SOIL_PARTS = {f"{part}_fraction": f"{part}_percent" for part in ("sand", "silt", "clay")}
NO_WORD = ("", "unknown", "nan", "masked")  # "masked": the climate map has no land there
LAND_COVER = ("lc_2010", "lc_2005", "lc_2000")  # ESA CCI codes, the newest first
KOEPPEN = ("climate_KG", "climate_insitu")
NO_VALUE = (-9999.0, -999.0, -999.9, -99.9)
NO_ELEVATION = -500.0  # the Dead Sea's shore lies at -430 m


@dataclass(frozen=True)
class Sensor:
    """One sensor: its row of the stations table, its tidy readings, and what was lost."""

    attributes: dict[str, Any]
    readings: pd.DataFrame
    lost: dict[str, int]


def stream(
    files: Files, unreadable: list[dict[str, str]], *, beside: Path, progress: bool = True
) -> Iterator[Sensor]:
    """Every soil moisture sensor of the archive once, station by station.

    A file that gives no reading is appended to ``unreadable`` as its ``file`` and ``reason``.
    What ismn must read from a disk is laid beside a path for a moment.
    """

    def skip(member, reason):
        name = member.encode(errors="backslashreplace").decode()
        rules.LOG.warning("%s is skipped: %s", name, reason)
        unreadable.append({"file": name, "reason": str(reason)})

    names: list[FileName] = []
    statics: dict[PurePosixPath, list[str]] = defaultdict(list)
    for member in sorted(files.fingerprints):
        described = parse(member)
        if member.endswith("_static_variables.csv"):
            statics[PurePosixPath(member).parent].append(member)
        elif member.lower().endswith(".stm") and described is None:
            skip(member, "its name is not ISMN's 'separate files' pattern")
        elif described is not None and described.variable == "sm":
            names.append(described)
    ids = unique_sensor_ids(names)
    stations: dict[tuple[str, str], list[FileName]] = defaultdict(list)
    for name in sorted(names, key=lambda n: ids[n.member]):
        stations[name.network, name.station].append(name)
    for key in tqdm(
        sorted(stations), desc="reading stations", disable=not progress, unit="station"
    ):
        first = stations[key][0]
        tables = statics[PurePosixPath(first.member).parent]
        same = [table for table in tables if f"_{first.station}_static" in table]
        static = _static_variables(files, same[0], beside) if same else None
        for name in stations[key]:
            try:
                raw = files.read(name.member)
                sensor = _sensor(raw, name, sensor_id=ids[name.member], static=static)
            except (ValueError, ArithmeticError, LookupError) as error:
                skip(name.member, error)
            else:
                yield sensor


def _static_variables(files: Files, member: str, beside: Path) -> "MetaData | None":
    """A station's static variables as ismn reads them; None where it cannot."""
    from ismn.filehandlers import StaticMetaFile

    with temporary_folder(beside) as folder:
        table = folder / "static_variables.csv"
        try:
            table.write_bytes(files.read(member))
            return StaticMetaFile(folder, table.name).metadata
        except OSError:  # a full disk is no fault of the archive's
            raise
        except Exception as error:  # ismn passes on whatever pandas met in a damaged table
            rules.LOG.warning("%s: static variables are not readable (%r)", member, error)
            return None


def _sensor(raw: bytes, name: FileName, *, sensor_id: str, static: "MetaData | None") -> Sensor:
    """The sensor of a file's text; ValueError says why there is none."""
    text = raw.replace(b"\r", b"\n").lstrip()  # whole, for a list of short lines is much larger
    head, _, rest = text.partition(b"\n")
    first = head.split(maxsplit=HEADER_WORDS + 2)
    if CEOP_ROW.match(head):
        row, place = CEOP_ROW, first[7:10]
    elif len(first) >= HEADER_WORDS and not re.match(rb"\d{4}/", first[0]):
        row, place, text = HEADER_VALUES_ROW, first[3:6], rest
    else:
        raise ValueError("it is neither of CEOP nor of header+values format")
    readings = _readings(row.findall(text))
    n_lines = sum(1 for _ in LINE.finditer(text))
    n_malformed = n_lines - len(readings)
    if not len(readings):
        raise ValueError(f"none of its {n_lines} lines is well formed")
    if n_malformed:
        lines = (match[0] for match in LINE.finditer(text))
        first_one = next((line[:80] for line in lines if not row.match(line)), b"no such day")
        rules.LOG.warning(
            "%s: %d of %d lines are malformed and skipped, such as %r",
            name.member, n_malformed, n_lines, first_one.decode("ascii", "replace"),
        )  # fmt: skip
    attributes = {"sensor_id": sensor_id, **_identity(name, place), **_surroundings(name, static)}
    readings, lost = rules.tidy(readings)
    return Sensor(attributes, readings, {"lines": n_lines, "malformed": n_malformed} | lost)


def _readings(rows: list[tuple[bytes, bytes]]) -> pd.DataFrame:
    """Time, value and flag of matched rows, without days of no calendar (2019/02/30) or age."""
    if not rows:
        return pd.DataFrame()
    text = b"\n".join(time + b" " + rest for time, rest in rows).replace(b"/", b"-")
    names = ["day", "hour", "soil_moisture_m3_m3", "flag"]
    table = pd.read_csv(BytesIO(text), sep=r"\s+", names=names, dtype={"flag": "str"})
    time = pd.to_datetime(table["day"] + " " + table["hour"], format="ISO8601", errors="coerce")
    flags = {flag: rules.canonical_flag(flag) for flag in table["flag"].unique()}
    readings = pd.DataFrame({
        "time": time.astype("datetime64[us]"),
        "soil_moisture_m3_m3": table["soil_moisture_m3_m3"].astype("float32"),
        "flag": table["flag"].map(flags),
    })  # fmt: skip
    possible = (time >= contracts.FIRST_DAY) & (time < contracts.LAST_DAY)
    return readings[possible]


def _identity(name: FileName, place: list[bytes]) -> dict[str, Any]:
    """Who and where; depths come from the file's name, which has more digits than its header."""
    latitude, longitude, elevation = (_number(word) for word in place)
    known = abs(latitude) <= 90 and -180 <= longitude <= 360
    return {
        "station_id": station_id(name.network, name.station),
        "network": name.network, "station": name.station,
        "latitude": latitude if known else np.nan,
        "longitude": longitude - 360 * (longitude >= 180) if known else np.nan,
        "elevation_m": elevation if elevation > NO_ELEVATION else np.nan,
        "depth_from_m": name.depth_from_m, "depth_to_m": name.depth_to_m,
    }  # fmt: skip


def _surroundings(name: FileName, static: "MetaData | None") -> dict[str, Any]:
    """Land cover (ESA CCI code), climate and texture; "" and NaN where ISMN knows none."""
    values: dict[str, Any] = {}
    if static is not None:
        from ismn.meta import Depth

        best = static.best_meta_for_depth(Depth(name.depth_from_m, name.depth_to_m))
        values = {variable.name: variable.val for variable in best}
    soil = {ours: _number(values.get(theirs)) for theirs, ours in SOIL_PARTS.items()}
    sand, silt, clay = soil.values()
    codes = [_number(values.get(variable)) for variable in LAND_COVER]
    climates = [text for text in map(values.get, KOEPPEN) if isinstance(text, str)]
    return {
        "land_cover": next((str(int(code)) for code in codes if np.isfinite(code)), ""),
        "koeppen": next((text for text in climates if text.lower() not in NO_WORD), ""),
        "texture": str(texture_class(sand, silt, clay=clay)),
        **soil,
        "has_static_variables": static is not None,
    }


def _number(value: Any) -> float:
    """The value as a number; NaN where it is absent, a word, or one of ISMN's marks of absence."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return np.nan
    return np.nan if number in NO_VALUE else number


def citations(stations: pd.DataFrame) -> dict[str, str]:
    """How to cite each network of a stations table, by name, as the ``ismn`` package lists it.

    ISMN's terms ask for the network's own reference beside ISMN's; "" where ``ismn`` lists none.
    """
    from ismn.const import CITATIONS  # ismn is slow to load

    networks = sorted(set(stations["network"].astype(str)))
    return {name: "; ".join(CITATIONS.get(name, [])) for name in networks}

"""What an ISMN file's name and folder say: network, station, probe, depth; unique sensor ids."""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

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

"""Fetch published shards: resumed where they broke off, verified, whole or not there."""

import base64
import hashlib
import logging
import os
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import requests
from tqdm.auto import tqdm

from soilkit.errors import DownloadError, UnknownNameError
from soilkit.published.framing import crc32c
from soilkit.published.schema import N_SHARDS, SHARD_NAME

log = logging.getLogger(__name__)

BASE_URL = "https://storage.googleapis.com/eoscience-public/soil_moisture_retrieval_data"
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 30.0
TIMEOUT_S = (10, 60)  # to connect, and between two pieces
CHUNK_BYTES = 2**16  # what a cut connection can lose
_RETRIED = {408, 429, 500, 502, 503, 504}


def download(
    folder: str | os.PathLike[str],
    *,
    shards: int | Iterable[int] = 1,
    base_url: str = BASE_URL,
    attempts: int = 5,
    progress: bool = True,
) -> list[Path]:
    """Fetch shards of the published dataset (CC-BY 4.0); about 1 TB in all, so take a few.

    What is there already is not fetched again; what broke off goes on where it stopped, also in a
    later call. A file appears under its name once its size and its checksum, where the server tells
    them, are right.

    Parameters
    ----------
    folder : where to put them; made if it is not there
    shards : int or numbers
        How many, from the first one; or which, from 0 to 499.
    base_url : str
        The folder that serves ``data-00000-of-00500.tfrecord.gz`` and so on.
    attempts : int
        How often to try each file before giving up, with growing pauses.
    progress : bool
        Show a bar for each file.

    Returns
    -------
    list of Path, in the order asked for

    Raises
    ------
    DownloadError
        When a file is not there, the network stays away, or what came is damaged each time.
    UnknownNameError
        For a shard number that does not exist.
    """
    numbers = list(range(shards)) if isinstance(shards, int) else [int(n) for n in shards]
    wrong = [n for n in numbers if not 0 <= n < N_SHARDS]
    if wrong:
        raise UnknownNameError(
            f"There is no shard {wrong[0]}: they are numbered 0 to {N_SHARDS - 1}."
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / SHARD_NAME.format(n) for n in numbers]
    with requests.Session() as session:
        # Bytes as they are stored; the files are gzip, and are not to be unpacked on the way.
        session.headers["Accept-Encoding"] = "gzip"
        for path in paths:
            if not path.exists():
                url = f"{base_url.rstrip('/')}/{path.name}"
                _fetch(_Transfer(session, url, path, progress), attempts)
    return paths


@dataclass
class _Broken(Exception):
    """One attempt failed in a way that another may not."""

    reason: str
    wait_s: float | None = None  # what the server asked for


@dataclass
class _Promise:
    """What the server says of the whole file; empty where it says nothing."""

    size: int | None
    hashes: dict[str, str]


@dataclass
class _Transfer:
    session: requests.Session
    url: str
    path: Path
    progress: bool

    @property
    def part(self) -> Path:
        return self.path.with_name(f"{self.path.name}.part")

    @property
    def have(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0


def _fetch(transfer: _Transfer, attempts: int) -> None:
    reason = "no attempt was allowed"
    for attempt in range(attempts):
        try:
            promise = _transfer(transfer)
            _verify(transfer.part, promise)
        except _Broken as broken:
            reason = broken.reason
            log.warning("%s: %s (attempt %d of %d)", transfer.url, reason, attempt + 1, attempts)
            if attempt + 1 < attempts:
                wait_s = min(FIRST_WAIT_S * 2**attempt, LONGEST_WAIT_S) * random.uniform(0.5, 1)
                time.sleep(wait_s if broken.wait_s is None else broken.wait_s)
        else:
            os.replace(transfer.part, transfer.path)
            return
    kept = f"{transfer.have} bytes are kept in {transfer.part}" if transfer.have else "Nothing came"
    raise DownloadError(
        f"{transfer.url} could not be fetched in {attempts} attempts: {reason}. {kept}; call "
        "download again when the network is back: it goes on from there."
    )


def _transfer(transfer: _Transfer) -> _Promise:
    """One request for what is missing, appended to the partial file."""
    have = transfer.have
    wanted = {"Range": f"bytes={have}-"} if have else {}
    try:
        with transfer.session.get(
            transfer.url, headers=wanted, stream=True, timeout=TIMEOUT_S
        ) as answer:
            _check_status(answer, transfer)
            start = _start(answer, have)
            promise = _promise(answer)
            if answer.status_code != 416:
                _append(answer, transfer, start=start, size=promise.size)
    except requests.RequestException as error:
        raise _Broken(f"the connection failed ({error})") from error
    return promise


def _check_status(answer: requests.Response, transfer: _Transfer) -> None:
    status = answer.status_code
    if status in _RETRIED:
        after = answer.headers.get("Retry-After", "")
        wait_s = min(float(after), LONGEST_WAIT_S) if after.isdigit() else None
        raise _Broken(f"the server answered {status} {answer.reason}", wait_s)
    if status not in (200, 206, 416):
        raise DownloadError(
            f"{transfer.url}: the server answered {status} {answer.reason}. Open the address in a "
            "browser: if the dataset has moved, give its new place as base_url=."
        )


def _start(answer: requests.Response, have: int) -> int:
    """From which byte on the answer goes: 0 where the server sends the whole file anyway."""
    if answer.status_code == 200:
        return 0
    said = answer.headers.get("Content-Range", "").removeprefix("bytes ")
    first = said.split("-")[0]
    if answer.status_code == 206 and first != str(have):
        raise _Broken(f"bytes from {have} on were wanted, {said or 'unnamed ones'} came")
    return have


def _promise(answer: requests.Response) -> _Promise:
    total = answer.headers.get("Content-Range", "").rpartition("/")[2]
    length = answer.headers.get("Content-Length", "") if answer.status_code == 200 else ""
    size = int(total) if total.isdigit() else int(length) if length.isdigit() else None
    said = answer.headers.get("x-goog-hash", "").replace(" ", "").split(",")
    hashes = dict(one.split("=", 1) for one in said if "=" in one)
    return _Promise(size, hashes)


def _append(
    answer: requests.Response, transfer: _Transfer, *, start: int, size: int | None
) -> None:
    answer.raw.headers.pop("Content-Encoding", None)  # or requests would unpack the gzip
    bar = tqdm(
        total=size, initial=start, unit="B", unit_scale=True, desc=transfer.path.name,
        disable=not transfer.progress,
    )  # fmt: skip
    with transfer.part.open("r+b" if transfer.part.exists() else "w+b") as file, bar:
        file.seek(start)
        file.truncate()
        for piece in answer.iter_content(CHUNK_BYTES):
            file.write(piece)
            bar.update(len(piece))


def _verify(part: Path, promise: _Promise) -> None:
    """Raise ``_Broken`` unless the file is what the server promised; a wrong one is removed."""
    found = part.stat().st_size if part.exists() else 0
    if promise.size is not None and found < promise.size:
        raise _Broken(f"it broke off at {found} of {promise.size} bytes")
    fault = ""
    if promise.size is not None and found > promise.size:
        fault = f"{found} bytes came, the server holds {promise.size}"
    elif not _is_gzip(part):
        fault = "what came is no gzip file (a login page of the network, perhaps)"
    else:
        fault = _wrong_hash(part, promise.hashes)
    if fault:
        part.unlink(missing_ok=True)  # none of it can be trusted
        raise _Broken(fault)


def _is_gzip(path: Path) -> bool:
    if not path.exists():
        return False
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _wrong_hash(path: Path, hashes: dict[str, str]) -> str:
    """What differs from the server's CRC32C, or else its MD5; nothing where both are unknown."""
    name = next((n for n in ("crc32c", "md5") if n in hashes), "")
    if not name:
        log.warning("%s: the server gives no checksum; only the size was compared", path.name)
        return ""
    crc, md5 = 0, hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(CHUNK_BYTES):
            if name == "crc32c":
                crc = crc32c(piece, crc)
            else:
                md5.update(piece)
    digest = crc.to_bytes(4, "big") if name == "crc32c" else md5.digest()
    found = base64.b64encode(digest).decode()
    return "" if found == hashes[name] else f"its {name} is {found}, wanted {hashes[name]}"

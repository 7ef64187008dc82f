"""Files fetched whole or not at all; ``python -m soilkit.export.download ismn`` is a command."""

import argparse
import logging
import os
import random
import shutil
import sys
import time
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import requests
from tqdm.auto import tqdm

from soilkit.errors import ConnectError, DownloadError, SoilkitError, UnknownNameError
from soilkit.files import write_whole

log = logging.getLogger(__name__)
ISMN_URL = "https://ismn.earth"
ISMN_WHOLE = "ismn_archive.zip"  # every network, as the portal sends it
ATTEMPTS = 5
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 30.0
TIMEOUT_S = (10, 60)  # to connect, and between two pieces
CHUNK_BYTES = 2**16  # what a cut connection can lose
ISMN_MOST_BYTES = 2**38  # a fuse for a server that never ends
_RETRIED = {408, 429, 500, 502, 503, 504}


class _Broken(Exception):
    """One attempt failed in a way that another may not; ``wait_s`` is what the server asked for."""

    def __init__(self, reason: str, wait_s: float | None = None):
        super().__init__(reason)
        self.wait_s = wait_s


def fetch(
    session: requests.Session,
    url: str,
    *,
    path: Path,
    attempts: int,
    progress: bool,
    fault_of: Callable[[Path, Mapping[str, str]], str],
    most_bytes: int,
) -> None:
    """Fetch a file whole or not at all; what broke off goes on where it stopped.

    ``fault_of`` says what is wrong with a file of the promised size (its path, the answer's
    headers), or nothing; of more than ``most_bytes`` nothing is kept. Pauses between attempts grow,
    or are those that the server asks for. Raises ``DownloadError`` when the server refuses, or no
    attempt brings the whole file.
    """
    part = path.with_name(f"{path.name}.part")
    reason = "no attempt was allowed"
    for attempt in range(1, attempts + 1):
        try:
            headers = _transfer(session, url, part=part, progress=progress, most_bytes=most_bytes)
            _verify(part, headers, fault_of)
        except (_Broken, requests.RequestException) as broken:
            known = isinstance(broken, _Broken)
            reason = str(broken) if known else f"the connection failed ({broken})"
            log.warning("%s: %s (attempt %d of %d)", url, reason, attempt, attempts)
            wait_s = min(FIRST_WAIT_S * 2 ** (attempt - 1), LONGEST_WAIT_S)
            wait_s *= random.uniform(0.5, 1)
            asked_s = broken.wait_s if isinstance(broken, _Broken) else None
            if attempt < attempts:
                time.sleep(wait_s if asked_s is None else asked_s)
        else:
            os.replace(part, path)
            return
    have = _size(part)
    kept = f"{have} bytes are kept in {part}" if have else "Nothing came"
    raise DownloadError(
        f"{url} could not be fetched in {attempts} attempts: {reason}. {kept}; call download again "
        "when the network is back: it goes on from there."
    )


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _transfer(
    session: requests.Session, url: str, *, part: Path, progress: bool, most_bytes: int
) -> Mapping[str, str]:
    """One request for what is missing, appended to the partial file; the answer's headers."""
    have = _size(part)
    wanted = {"Range": f"bytes={have}-"} if have else {}
    with session.get(url, headers=wanted, stream=True, timeout=TIMEOUT_S) as answer:
        status, headers = answer.status_code, answer.headers
        if status in _RETRIED:
            after = headers.get("Retry-After", "")
            wait_s = min(float(after), LONGEST_WAIT_S) if after.isdigit() else None
            raise _Broken(f"the server answered {status} {answer.reason}", wait_s)
        if status not in (200, 206, 416):
            raise DownloadError(
                f"{url}: the server answered {status} {answer.reason}. Open the address in a "
                "browser: if the dataset has moved, give its new place as base_url=."
            )
        came = headers.get("Content-Range", "").removeprefix("bytes ")
        if status == 206 and came.split("-")[0] != str(have):
            raise _Broken(f"bytes from {have} on were wanted, {came or 'unnamed ones'} came")
        if status == 416:  # the partial file is as long as the whole one, or longer
            headers.pop("Content-Length", None)  # the error message's
        else:
            start = 0 if status == 200 else have  # some servers send the whole file anyway
            _append(answer, part, start=start, progress=progress, most_bytes=most_bytes)
        return headers


def _append(
    answer: requests.Response, part: Path, *, start: int, progress: bool, most_bytes: int
) -> None:
    answer.raw.headers.pop("Content-Encoding", None)  # or requests would unpack the gzip
    promised = _promised_size(answer.headers)
    bar = tqdm(
        total=promised, initial=start, unit="B", unit_scale=True, desc=part.stem,
        disable=not progress,
    )  # fmt: skip
    with part.open("r+b" if part.exists() else "w+b") as file, bar:
        file.seek(start)
        file.truncate()
        for piece in answer.iter_content(CHUNK_BYTES):
            if max(promised or 0, file.tell() + len(piece)) > most_bytes:
                file.truncate(0)
                raise DownloadError(
                    f"{answer.url} sends more than {most_bytes} bytes, which is no file of this "
                    "kind. Name the right server as base_url=."
                )
            file.write(piece)
            bar.update(len(piece))


def _promised_size(headers: Mapping[str, str]) -> int | None:
    """The size of the whole file, bytes, where the server tells it."""
    whole = headers.get("Content-Range", "").rpartition("/")[2] or headers.get("Content-Length", "")
    return int(whole) if whole.isdigit() else None


def _verify(
    part: Path, headers: Mapping[str, str], fault_of: Callable[[Path, Mapping[str, str]], str]
) -> None:
    """Raise ``_Broken`` unless the file is what the server promised; a wrong one is removed."""
    size, promised = _size(part), _promised_size(headers)
    if promised is not None and size < promised:
        raise _Broken(f"it broke off at {size} of {promised} bytes")
    if promised is not None and size > promised:
        fault = f"{size} bytes came, the server holds {promised}"
    else:
        fault = fault_of(part, headers)
    if fault:
        part.unlink(missing_ok=True)  # none of it can be trusted
        raise _Broken(fault)


def ismn_archive(
    folder: str | os.PathLike[str],
    *,
    user: str,
    password: str,
    networks: str | Iterable[str] = (),
    base_url: str = ISMN_URL,
    attempts: int = ATTEMPTS,
    progress: bool = True,
) -> Path:
    """Fetch the ISMN's archive with one's own account, and cut networks out of it.

    The portal serves all networks as one file of many GB, ``ismn_archive.zip``: it is kept in
    ``folder``, goes on where it broke off, and is not fetched again for other networks. Log-in and
    address are those of the package ``ismn``.

    Parameters
    ----------
    folder : where to put the files; made if it is not there
    user, password : of an account at ismn.earth, whose terms forbid to pass the data on
    networks : such as "SCAN", or several of them; none keeps the whole archive only
    base_url, attempts, progress : the portal, how often to try, whether to show a bar

    Returns
    -------
    Path of ``ismn_SCAN_USCRN.zip``, which ``read_ismn`` reads, or of the whole archive

    Raises
    ------
    ConnectError
        When the portal cannot be reached or refuses the account.
    DownloadError
        When the archive does not come whole, or is damaged.
    UnknownNameError
        For a network that the archive lacks.
    """
    from soilkit.export.insitu.ismn import portal_session

    whole = Path(folder) / ISMN_WHOLE
    if not whole.exists():
        whole.parent.mkdir(parents=True, exist_ok=True)
        session, url = portal_session(user, password, base_url=base_url)
        with session:
            fetch(session, url, path=whole, attempts=attempts, progress=progress, fault_of=_no_zip,
                  most_bytes=ISMN_MOST_BYTES)  # fmt: skip
    names = sorted({networks} if isinstance(networks, str) else set(networks))
    return _subset(whole, names) if names else whole


def _no_zip(part: Path, headers: Mapping[str, str]) -> str:
    if "html" in headers.get("Content-Type", ""):
        part.unlink()
        raise ConnectError(
            "The ISMN's portal sent a page instead of data: it refused the account. Check "
            "ISMN_USER and ISMN_PASSWORD, and accept the terms of use once in a browser."
        )
    return "" if zipfile.is_zipfile(part) else "what came is no whole zip file"


def _subset(whole: Path, networks: list[str]) -> Path:
    """A zip of some networks and of the files that belong to none, beside the whole one."""
    path = whole.with_name(f"ismn_{'_'.join(networks)}.zip")
    try:
        with zipfile.ZipFile(whole) as source:
            held = {name.partition("/")[0] for name in source.namelist() if "/" in name}
            if absent := [name for name in networks if name not in held]:
                raise UnknownNameError(
                    f"The archive has no network {', '.join(absent)}; it has "
                    f"{', '.join(sorted(held))}."
                )

            def write(part: Path) -> None:
                with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as target:
                    for one in source.infolist():
                        top, _, inner = one.filename.partition("/")
                        if not one.is_dir() and (top in networks or not inner):
                            with source.open(one) as data, target.open(one, "w") as copy:
                                shutil.copyfileobj(data, copy)

            return write_whole(path, write)
    except (zipfile.BadZipFile, zipfile.zlib.error) as error:  # type: ignore[attr-defined]
        raise DownloadError(
            f"{whole} is damaged ({error}): remove it and run the download again."
        ) from error


def main(words: Sequence[str] | None = None) -> int:
    """The command: 0 where the file stands, 1 with a reason on the error stream."""
    parser = argparse.ArgumentParser(
        prog="python -m soilkit.export.download",
        description="Fetch in-situ archives with your own account (ISMN_USER, ISMN_PASSWORD).",
    )
    parser.add_argument("archive", choices=["ismn"])
    parser.add_argument("--network", nargs="+", default=[], help="such as SCAN; default all")
    parser.add_argument("--out", required=True, help="folder of the files")
    parser.add_argument("--base-url", default=ISMN_URL, help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    account = [os.environ.get(name, "") for name in ("ISMN_USER", "ISMN_PASSWORD")]
    try:
        if not all(account) and not (Path(given.out) / ISMN_WHOLE).exists():
            raise ConnectError(
                "Name your account at https://ismn.earth (free, for research) in the environment: "
                "ISMN_USER and ISMN_PASSWORD."
            )
        path = ismn_archive(
            given.out, user=account[0], password=account[1], networks=given.network,
            base_url=given.base_url,
        )  # fmt: skip
    except (SoilkitError, OSError) as error:  # of the folder, or a full disk
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

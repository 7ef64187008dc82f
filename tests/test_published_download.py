"""Fetching shards from a loopback server that breaks off, lies, or knows no ranges."""

import base64
import gzip
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import google_crc32c
import numpy as np
import pytest

from soilkit.errors import DownloadError, UnknownNameError
from soilkit.export import download as transfer
from soilkit.export.published import download, shards

SHARD = gzip.compress(np.random.default_rng(0).bytes(3_000_000), 1)
NAME = "data-00000-of-00500.tfrecord.gz"


def goog_hash(data, *, names=("crc32c", "md5")):
    """The header with which Google's storage tells the checksums of the whole object."""
    values = {
        "crc32c": google_crc32c.value(data).to_bytes(4, "big"),
        "md5": hashlib.md5(data, usedforsecurity=False).digest(),
    }
    return ",".join(f"{n}={base64.b64encode(values[n]).decode()}" for n in names)


class Server(ThreadingHTTPServer):
    """Serves ``data`` under any name; the first requests fail as ``faults`` tells.

    A fault is a status to answer, a number of bytes after which to hang up, or "lie": as many
    bytes as the shard has, but others.
    """

    daemon_threads = True

    def __init__(self, *, data=SHARD, faults=(), ranges=True, headers=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.data, self.faults, self.ranges = data, list(faults), ranges
        self.extra = {"x-goog-hash": goog_hash(data)} if headers is None else headers
        self.asked = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/shards/"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *words):
        pass

    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append((self.path, wanted))
        fault = server.faults.pop(0) if server.faults else None
        if isinstance(fault, int) and 400 <= fault < 600:
            return self.answer(fault, b"no", {"Retry-After": "0"})
        start = int(wanted.split("=")[1].rstrip("-")) if wanted and server.ranges else 0
        total = len(server.data)
        if start >= total:
            beyond = {"Content-Range": f"bytes */{total}"}
            return self.answer(416, b"<Error>beyond the end</Error>", beyond)
        body = server.data[start:]
        if fault == "lie":
            body = body[:2] + bytes(len(body) - 2)
        headers = dict(server.extra)
        if wanted and server.ranges:
            headers["Content-Range"] = f"bytes {start}-{total - 1}/{total}"
        hang_up = fault if isinstance(fault, int) else None
        return self.answer(206 if wanted and server.ranges else 200, body, headers, hang_up)

    def answer(self, status, body, headers, hang_up=None):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:hang_up])
        self.close_connection = self.close_connection or hang_up is not None


@pytest.fixture
def serve(monkeypatch):
    """Start servers; pauses between attempts are noted in ``serve.pauses``, not waited for."""
    running, pauses = [], []
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(transfer.time, "sleep", pauses.append)

    def start(**options):
        server = Server(**options)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        running.append(server)
        return server

    start.pauses = pauses
    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def fetch(server, folder, **options):
    return download(folder, base_url=server.url, progress=False, **options)


def test_a_number_of_shards_arrives_under_its_names(serve, tmp_path):
    """Three of them, each once; a second call asks for nothing."""
    server = serve()
    paths = fetch(server, tmp_path / "new", shards=3)
    assert [p.name for p in paths] == [f"data-0000{k}-of-00500.tfrecord.gz" for k in range(3)]
    assert all(p.read_bytes() == SHARD for p in paths)
    assert [path for path, _ in server.asked] == [f"/shards/{p.name}" for p in paths]
    assert fetch(server, tmp_path / "new", shards=range(1, 3)) == paths[1:]
    assert len(server.asked) == 3
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [p.name for p in paths]


def test_shards_beyond_the_500_are_refused_before_anything_is_asked(tmp_path):
    for wrong in (range(499, 501), 501, [-1]):
        with pytest.raises(UnknownNameError, match="numbered 0 to 499"):
            download(tmp_path, shards=wrong)


def test_a_cut_connection_goes_on_where_it_broke(serve, tmp_path):
    """Hung up after 1 MB and again after half of another: three requests, little twice."""
    server = serve(faults=[1_000_000, 500_000])
    (path,) = fetch(server, tmp_path)
    assert path.read_bytes() == SHARD
    starts = [0 if r is None else int(r[6:-1]) for _, r in server.asked]
    assert starts == [0, pytest.approx(1_000_000, abs=2**16), pytest.approx(1_500_000, abs=2**17)]
    assert len(serve.pauses) == 2
    assert 0.5 <= serve.pauses[0] <= 1 <= serve.pauses[1] <= 2


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(serve, tmp_path):
    server = serve(faults=[1_000_000, 503])
    with pytest.raises(DownloadError, match=r"2 attempts: the server answered 503.* are kept in"):
        fetch(server, tmp_path, attempts=2)
    assert not (tmp_path / NAME).exists() and (tmp_path / f"{NAME}.part").stat().st_size > 0
    (path,) = fetch(server, tmp_path, attempts=1)
    assert path.read_bytes() == SHARD and server.asked[-1][1] is not None
    assert not (tmp_path / f"{NAME}.part").exists()


def test_a_part_that_is_whole_is_only_verified(serve, tmp_path):
    """Broken off between the last byte and the renaming: the server has nothing more to send."""
    server = serve()
    (tmp_path / f"{NAME}.part").write_bytes(SHARD)
    server.extra = {}
    (path,) = fetch(server, tmp_path)
    assert path.read_bytes() == SHARD and len(server.asked) == 1


def test_a_part_longer_than_the_file_is_thrown_away(serve, tmp_path):
    server = serve()
    (tmp_path / f"{NAME}.part").write_bytes(SHARD + b"more")
    (path,) = fetch(server, tmp_path)
    assert path.read_bytes() == SHARD and [r is None for _, r in server.asked] == [False, True]


def test_a_server_that_ignores_ranges_starts_from_the_front(serve, tmp_path):
    """It answers 200 with the whole file; appended to the part it would be a wrong one."""
    server = serve(ranges=False, faults=[1_000_000])
    (path,) = fetch(server, tmp_path)
    assert path.read_bytes() == SHARD and server.asked[1][1].startswith("bytes=")
    (tmp_path / f"{NAME.replace('00000', '00001', 1)}.part").write_bytes(SHARD + b"more")
    assert fetch(server, tmp_path, shards=[1])[0].read_bytes() == SHARD
    assert len(server.asked) == 3


@pytest.mark.parametrize("names", [("crc32c", "md5"), ("md5",)])
def test_a_wrong_checksum_is_fetched_again_from_the_front(serve, tmp_path, names):
    server = serve(faults=["lie"], headers={"x-goog-hash": goog_hash(SHARD, names=names)})
    (path,) = fetch(server, tmp_path)
    assert path.read_bytes() == SHARD and [r for _, r in server.asked] == [None, None]


def test_a_part_of_another_version_is_found_by_the_checksum(serve, tmp_path):
    """The rest of a new file on the front of an old one has the right size and is wrong."""
    server = serve()
    (tmp_path / f"{NAME}.part").write_bytes(SHARD[:2] + bytes(999_998))
    (path,) = fetch(server, tmp_path)
    assert path.read_bytes() == SHARD and [r is None for _, r in server.asked] == [False, True]


def test_a_checksum_that_is_never_right_ends_without_a_file(serve, tmp_path):
    server = serve(headers={"x-goog-hash": goog_hash(b"another file")})
    with pytest.raises(DownloadError, match=r"2 attempts: its crc32c is .*, wanted .*Nothing came"):
        fetch(server, tmp_path, attempts=2)
    assert list(tmp_path.iterdir()) == []


def test_without_a_checksum_size_and_kind_are_compared(serve, tmp_path, caplog):
    """A captive portal answers 200 with a page; that is no shard."""
    server = serve(headers={})
    assert fetch(server, tmp_path)[0].read_bytes() == SHARD
    assert "no checksum" in caplog.text
    portal = serve(data=b"<html>Please log in</html>", headers={})
    with pytest.raises(DownloadError, match="login page"):
        fetch(portal, tmp_path, shards=[1], attempts=1)


def test_bytes_are_kept_as_they_are_stored(serve, tmp_path):
    """A server that labels the gzip as an encoding does not get it unpacked."""
    server = serve(headers={"Content-Encoding": "gzip", "x-goog-hash": goog_hash(SHARD)})
    assert fetch(server, tmp_path)[0].read_bytes() == SHARD


def test_what_is_larger_than_any_shard_is_not_kept(serve, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "MAX_FILE_BYTES", len(SHARD) - 1)
    with pytest.raises(DownloadError, match="sends more than .* no file of this kind"):
        fetch(serve(), tmp_path)
    assert not sum(path.stat().st_size for path in tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_named(serve, tmp_path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(DownloadError, match="mine cannot be written.*another folder"):
        fetch(serve(), tmp_path / "mine")


def test_a_missing_file_is_not_asked_for_twice(serve, tmp_path):
    server = serve(faults=[404] * 9)
    with pytest.raises(DownloadError, match="answered 404 Not Found.*base_url="):
        fetch(server, tmp_path)
    assert len(server.asked) == 1 and not serve.pauses


def test_a_busy_server_is_given_the_time_it_asks_for(serve, tmp_path):
    server = serve(faults=[429, 503])
    assert fetch(server, tmp_path)[0].read_bytes() == SHARD
    assert serve.pauses == [0.0, 0.0]  # Retry-After: 0


def test_without_a_network_the_error_says_so(serve, tmp_path):
    server = serve()
    server.shutdown()
    server.server_close()
    with pytest.raises(DownloadError, match="connection failed .*call download again when the net"):
        fetch(server, tmp_path, attempts=3)
    assert len(serve.pauses) == 2 and list(tmp_path.iterdir()) == []


def test_a_bar_shows_what_is_there_and_what_comes(serve, tmp_path, capsys):
    server = serve(faults=[1_000_000])
    download(tmp_path, base_url=server.url)
    shown = capsys.readouterr().err
    assert NAME in shown and "100%" in shown

"""The ISMN's archive from a loopback portal: log-in, broken connections, networks, damage."""

import io
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from soilkit.errors import ConnectError, DownloadError, UnknownNameError
from soilkit.export import download

ACCOUNT = {"user": "me", "password": "secret"}
TOKEN, SESSION = "token-of-the-form", "session-of-me"


def archive_bytes():
    """Three networks of one incompressible file each, and the files that belong to none."""
    rng, out = np.random.default_rng(0), io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for network in ("SCAN", "USCRN", "TxSON"):
            file.writestr(f"{network}/Place/{network}_sm_0.05.stm", rng.bytes(300_000))
        file.writestr("Metadata.xml", "<xml/>")
        file.writestr("Readme.txt", "terms")
    return out.getvalue()


WHOLE = archive_bytes()


class Portal(BaseHTTPRequestHandler):
    """The ISMN's pages as the package asks for them; a fault is the bytes before it hangs up."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *words):
        pass

    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append((self.path, wanted))
        if self.path.endswith("/login/"):
            return self.answer(b"a form", {"Set-Cookie": f"csrftoken={TOKEN}; Path=/"})
        if f"sessionid={SESSION}" not in self.headers.get("Cookie", ""):
            return self.answer(b"log in, please", {"Content-Type": "text/html"})
        start = int(wanted.split("=")[1].rstrip("-")) if wanted else 0
        total = len(server.data)
        span = {"Content-Range": f"bytes {start}-{total - 1}/{total}"} if wanted else {}
        fault = server.faults.pop(0) if server.faults else None
        return self.answer(server.data[start:], span, status=206 if wanted else 200, most=fault)

    def do_POST(self):
        words = self.rfile.read(int(self.headers["Content-Length"])).decode()
        is_me = "login=me" in words and "password=secret" in words and TOKEN in words
        cookie = {"Set-Cookie": f"sessionid={SESSION}; Path=/"} if is_me else {}
        self.answer(b"a page", {"Content-Type": "text/html", **cookie})  # 200 even when refused

    def answer(self, body, headers, *, status=200, most=None):
        self.send_response(status)
        for name, value in {"Content-Type": "application/zip", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:most])
        self.close_connection = self.close_connection or most is not None


@pytest.fixture
def portal(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Portal)
    server.daemon_threads, server.handle_error = True, lambda *words: None  # broken pipes
    server.data, server.faults, server.asked = WHOLE, [], []
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def fetch(portal, folder, **options):
    options = {**ACCOUNT, "base_url": portal.url, "progress": False, **options}
    return download.ismn_archive(folder, **options)


def test_networks_are_cut_out_of_the_one_archive_that_there_is(portal, tmp_path, capsys):
    """SCAN with the files of no network; another one later asks the portal for nothing."""
    path = fetch(portal, tmp_path / "new", networks=["SCAN"])
    assert path.name == "ismn_SCAN.zip"
    with zipfile.ZipFile(path) as file, zipfile.ZipFile(io.BytesIO(WHOLE)) as whole:
        assert file.namelist() == ["SCAN/Place/SCAN_sm_0.05.stm", "Metadata.xml", "Readme.txt"]
        assert all(file.read(name) == whole.read(name) for name in file.namelist())
    asked = len(portal.asked)
    assert fetch(portal, tmp_path / "new", networks=["USCRN", "TxSON"]).exists()
    assert fetch(portal, tmp_path / "new", networks="SCAN") == path  # one name is no six letters
    assert fetch(portal, tmp_path / "new").read_bytes() == WHOLE
    assert len(portal.asked) == asked
    assert TOKEN[:10] not in capsys.readouterr().out  # the package would print it


def test_a_broken_connection_goes_on_where_it_stopped(portal, tmp_path):
    """Hung up twice, and in a later call: no byte under the name before all have come."""
    portal.faults = [200_000, 300_000]
    with pytest.raises(DownloadError, match="broke off|connection failed"):
        fetch(portal, tmp_path, attempts=1)
    assert [p.name for p in tmp_path.iterdir()] == ["ismn_archive.zip.part"]
    assert fetch(portal, tmp_path).read_bytes() == WHOLE
    ranges = [wanted for path, wanted in portal.asked if "download_archive" in path]
    starts = [int(one.split("=")[1].rstrip("-")) for one in ranges[1:]]
    assert ranges[0] is None
    assert 100_000 < starts[0] <= 200_000 < starts[1] <= 500_000


def test_a_refused_account_is_no_archive(portal, tmp_path):
    """The portal answers 200 and a page: nothing may stand under the archive's name."""
    with pytest.raises(ConnectError, match="refused the account"):
        fetch(portal, tmp_path, password="wrong")
    assert not list(tmp_path.iterdir())


def test_an_unknown_network_is_answered_with_the_known_ones(portal, tmp_path):
    with pytest.raises(UnknownNameError, match="no network SCANN; it has SCAN, TxSON, USCRN"):
        fetch(portal, tmp_path, networks=["SCANN", "SCAN"])
    assert [p.name for p in tmp_path.iterdir()] == ["ismn_archive.zip"]


def test_damage_is_named_and_leaves_no_half_file(portal, tmp_path):
    """A flipped byte inside SCAN's file: its checksum tells, and USCRN is still to be had."""
    damaged = bytearray(WHOLE)
    damaged[150_000] ^= 1
    portal.data = bytes(damaged)
    with pytest.raises(DownloadError, match="damaged.*remove it"):
        fetch(portal, tmp_path, networks=["SCAN"])
    assert [p.name for p in tmp_path.iterdir()] == ["ismn_archive.zip"]
    assert fetch(portal, tmp_path, networks=["USCRN"]).exists()


def test_a_portal_that_is_away_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(ConnectError, match="does not let us log in"):
        download.ismn_archive(tmp_path, **ACCOUNT, base_url="http://127.0.0.1:9")


def test_the_command_takes_its_account_from_the_environment(portal, tmp_path, monkeypatch, capsys):
    """Without one it says what to set; with one it prints the file's path."""
    words = ["ismn", "--network", "SCAN", "--out", str(tmp_path), "--base-url", portal.url]
    monkeypatch.delenv("ISMN_USER", raising=False)
    assert download.main(words) == 1
    assert "ISMN_USER and ISMN_PASSWORD" in capsys.readouterr().err
    (tmp_path / "file").touch()
    monkeypatch.setenv("ISMN_USER", "me"), monkeypatch.setenv("ISMN_PASSWORD", "secret")
    assert download.main([*words, "--out", str(tmp_path / "file")]) == 1  # no traceback
    assert "File exists" in capsys.readouterr().err
    monkeypatch.setenv("ISMN_USER", "me")
    monkeypatch.setenv("ISMN_PASSWORD", "secret")
    assert download.main(words) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "ismn_SCAN.zip")

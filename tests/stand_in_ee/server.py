"""The loopback HTTP server: answers the methods that soilkit uses, injects faults, counts."""

import hashlib
import io
import json
import re
import select
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import numpy as np

from tests.stand_in_ee import answers
from tests.stand_in_ee.errors import Answer
from tests.stand_in_ee.faults import (
    ANSWERS,
    BODIES,
    BROKEN,
    CONCURRENT,
    ODD_JSON,
    PAGE,
    PAGES,
    Counters,
    Faults,
)
from tests.stand_in_ee.rasters import Earth
from tests.stand_in_ee.signatures import resource

PROJECT = r"/v1(?:alpha|beta)?/projects/[^/]+"
COMPUTE = re.compile(PROJECT + r"/(image:computePixels|table:computeFeatures|value:compute)")
ALGORITHMS = re.compile(PROJECT + r"/algorithms")
ASSET = re.compile(r"/v1(?:alpha|beta)?/(projects/[^/]+/assets/.+)")
PRIVATE = "/_stand_in/"


def digest(*parts) -> str:
    """A name for a request that does not depend on the order of its keys."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:24]


class StandIn:
    """A stand-in Earth Engine on a free port of the loopback, answering until ``close``.

    Attributes
    ----------
    url : str
    faults : Faults
    counters : Counters
    earth : Earth
    """

    def __init__(self, port: int = 0):
        self.faults, self.counters, self.earth = Faults(), Counters(), Earth()
        self.pages = answers.Pages()
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.stand_in = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def reset(self) -> None:
        """No faults, nothing taken from the Earth, counters at zero."""
        self.faults.reset()
        self.earth.reset()
        self.counters.reset()
        self.pages.clear()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def wait(self) -> None:
        """Until the server is closed."""
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256
    stand_in: StandIn

    def handle_error(self, request, client_address):
        """A client that goes away in the middle is its own business."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format, *args):
        pass

    @property
    def home(self) -> StandIn:
        return self.server.stand_in

    def do_GET(self):
        self._serve(b"")

    def do_POST(self):
        self._serve(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def _serve(self, raw: bytes) -> None:
        path = unquote(urlsplit(self.path).path)
        if path.startswith(PRIVATE):
            self._send(*self._private(path.removeprefix(PRIVATE), raw))
            return
        method = self._method(path)
        try:
            body = json.loads(raw) if raw else {}
        except ValueError:
            body = {}
        key = digest(method, path if method == "assets:get" else "", _essence(body))
        arrived = time.monotonic()
        in_flight = self.home.counters.arrive(method, _is_gone)
        fault = self.home.faults.choose(method, key)
        if fault == "stall":
            self._stall()
            return
        try:
            code, kind, content, headers = self._answer(method, path, body, fault, in_flight)
            if method in self.home.faults.methods:
                time.sleep(max(0.0, arrived + self.home.faults.latency_s - time.monotonic()))
        finally:
            self.home.counters.leave()
        self._deliver(fault, (code, kind, content, headers), method=method, key=key)

    def _method(self, path: str) -> str:
        if path == "/$discovery/rest":
            return "discovery"
        if found := COMPUTE.fullmatch(path):
            return found[1]
        if ALGORITHMS.fullmatch(path):
            return "algorithms"
        return "assets:get" if ASSET.fullmatch(path) and self.command == "GET" else "unknown"

    def _answer(self, method, path, body, fault, in_flight):
        """Code, content type, content and headers."""
        faults = self.home.faults
        try:
            limit = faults.limit_in_flight
            if limit is not None and in_flight > limit:
                raise CONCURRENT
            if fault in ANSWERS:
                raise ANSWERS[fault]
            if fault in PAGES:
                return PAGES[fault], "text/html", PAGE, {"Location": "/sign-in"}
            if fault in ODD_JSON:
                return 400, "application/json", ODD_JSON[fault], {}
            if method == "image:computePixels":
                content = answers.compute_pixels(body, self.home.earth, faults)
                if fault in BODIES:
                    content = BODIES[fault](np.load(io.BytesIO(content)))
                return 200, "application/octet-stream", content, {}
            return 200, "application/json", self._json(method, path, body), {}
        except Answer as error:
            wait = faults.retry_after_s
            headers = {"Retry-After": f"{wait:g}"} if wait and error.code in (429, 503) else {}
            return error.code, "application/json", json.dumps(error.body).encode(), headers
        except Exception as error:  # a fault of the stand-in itself: say so, and do not hang
            broken = Answer(f"The stand-in broke: {type(error).__name__}: {error}", 400)
            return 400, "application/json", json.dumps(broken.body).encode(), {}

    def _json(self, method: str, path: str, body: dict) -> bytes:
        if method == "discovery":
            return resource("cloud_api_discovery_document.json")
        if method == "algorithms":
            return resource("algorithms.json")
        earth = self.home.earth
        if method == "table:computeFeatures":
            key = digest(body.get("expression"))
            made = self.home.pages.compute_features(body, earth, key)
        elif method == "value:compute":
            answers.check_fields(body, ("expression", "workloadTag"))
            made = {
                "result": answers.to_json(answers.Evaluation(body["expression"], earth).result())
            }
        elif method == "assets:get":
            made = answers.get_asset(ASSET.fullmatch(path)[1], earth)
        else:
            raise Answer(f"The stand-in has no method {self.command} {path}.", 404)
        return json.dumps(made, allow_nan=False).encode()

    def _deliver(self, fault, answer, *, method: str, key: str) -> None:
        code, kind, content, headers = answer
        counters = self.home.counters
        if fault in BROKEN:
            counters.answer(0, fault)
            self._break_off(fault, kind, content)
            return
        counters.answer(code, fault)
        if code == 200 and method == "image:computePixels":
            counters.deliver(key)
        self._send(code, kind, content, headers)

    def _send(self, code: int, kind: str, content: bytes, headers: dict) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name, value)
        self._headers_buffer.append(b"\r\n")
        head = b"".join(self._headers_buffer)
        self._headers_buffer = []
        self.wfile.write(head + content)

    def _break_off(self, fault: str, kind: str, content: bytes) -> None:
        self.close_connection = True
        if fault == "reset":
            return
        half = content[: len(content) // 2]
        self.send_response(200)
        if fault == "huge header":
            self.send_header("X", "x" * 100_000)
        if fault == "trickle head":
            self.flush_headers()
            self._trickle(b"X: ")
            return
        self.send_header("Content-Type", kind)
        if fault != "cut_chunk":
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if fault == "trickle":
                self._trickle(b"")
            self.wfile.write(half)
        else:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(f"{len(content):x}\r\n".encode() + half)

    def _trickle(self, first: bytes) -> None:
        """A byte every tenth of a second, for as long as a stall lasts."""
        until = time.monotonic() + self.home.faults.stall_s
        self.wfile.write(first)
        while time.monotonic() < until:
            self.wfile.write(b"0")
            time.sleep(0.1)

    def _stall(self) -> None:
        """Say nothing until the client gives up, or for as long as a stall lasts."""
        self.close_connection = True
        counters = self.home.counters
        counters.answer(0, "stall")
        counters.stall(self.connection)
        until = time.monotonic() + self.home.faults.stall_s
        while time.monotonic() < until and not _is_gone(self.connection):
            time.sleep(0.02)
        counters.leave(self.connection)

    def _private(self, what: str, raw: bytes):
        home, body = self.home, json.loads(raw) if raw else {}
        try:
            if what == "faults":
                home.faults.set(**body)
            elif what == "earth":
                home.earth.removed.update(body.get("removed", ()))
                home.earth.blank.update(body.get("blank", ()))
                home.pages.clear()
            elif what == "reset":
                home.reset()
            elif what != "counters":
                return 404, "application/json", b"{}", {}
        except ValueError as error:
            return 400, "application/json", json.dumps({"error": str(error)}).encode(), {}
        return 200, "application/json", json.dumps(home.counters.snapshot()).encode(), {}


def _essence(body: dict) -> dict:
    return {key: value for key, value in body.items() if key != "workloadTag"}


def _is_gone(connection: socket.socket) -> bool:
    """Whether the other side has closed a connection."""
    try:
        readable, _, _ = select.select([connection], [], [], 0)
        return bool(readable) and not connection.recv(1, socket.MSG_PEEK)
    except (OSError, ValueError):
        return True

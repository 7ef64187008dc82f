"""What goes wrong, and what was measured."""

import dataclasses
import io
import threading
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from tests.stand_in_ee.errors import Answer
from tests.stand_in_ee.fields import draw

MEMORY = "User memory limit exceeded."
COMPUTING = ("image:computePixels", "table:computeFeatures", "value:compute")
ANSWERS = {
    "400": Answer("Image.select: the stand-in refuses this request for good.", 400),
    "401": Answer(
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login "
        "cookie or other valid authentication credential. See "
        "https://developers.google.com/identity/sign-in/web/devconsole-project.",
        401,
    ),
    "403": Answer(
        "Earth Engine API has not been used in project 123456789012 before or it is disabled. "
        "Enable it by visiting https://console.developers.google.com/apis/api/"
        "earthengine.googleapis.com/overview?project=123456789012 then retry. If you enabled this "
        "API recently, wait a few minutes for the action to propagate to our systems and retry.",
        403,
    ),
    "409": Answer("The operation was aborted.", 409),
    "499": Answer("The operation was cancelled.", 499),
    "429": Answer(
        "Quota exceeded for quota metric 'Number of read requests' and limit 'Number of read "
        "requests per minute per user' of service 'earthengine.googleapis.com' for consumer "
        "'project_number:123456789012'.",
        429,
    ),
    "500": Answer("An internal error has occurred", 500),
    "503": Answer("The service is currently unavailable.", 503),
    "memory": Answer(MEMORY, 400),
    "too_large": Answer(
        "Total request size (56623104 bytes) must be less than or equal to 50331648 bytes.", 400
    ),
}
# No answer, or not all of it, or a byte at a time, or a header without end.
BROKEN = ("stall", "truncate", "cut_chunk", "reset", "trickle", "trickle head", "huge header")
# What stands between us and the service answers in its place: a page, without the service's JSON.
CODES = (302, 400, 403, 404, 407, 409, 412, 413, 418, 421, 425, 499, 502)
PAGES = {f"page {code}": code for code in CODES}
PAGE = b"<html><style>b {}</style><h1>Not \xc3\xbc here</h1><hr>nginx</html>"
# Answers with 200 and the status of no error; JSON that is none of Google's.
ODD_JSON = {"text": b'{"error": "bad"}', "number": b'{"error": {"message": 5}}', "list": b"[1, 2]"}


def _saved(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def _as(array: np.ndarray, kind: str, suffix: str = "") -> bytes:
    return _saved(array.astype([(name + suffix, kind) for name in array.dtype.names]))


def _headed(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


# What is no array of what was asked for, made of what is.
BODIES = {
    "other bands": lambda array: _as(array, "f4", "x"),
    "other dtype": lambda array: _as(array, "i2"),
    "no bands": lambda array: _saved(np.zeros(array.shape, "f4")),
    "other shape": lambda array: _saved(array[1:]),
    "objects": lambda array: _saved(np.array([{}], object)),
    "half": lambda array: _saved(array)[: array.nbytes // 2],
    "more": lambda array: _saved(array) + b"0",
    "nothing": lambda array: b"",
    "page": lambda array: PAGE,
    "terabytes": lambda array: _headed(
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776,)}\n"
    ),
    "brackets": lambda array: _headed("(" * 9000 + "\n"),
}
CONCURRENT = Answer("Too many concurrent requests: the limit is 40.", 429)


@dataclass
class Faults:
    """What the server does wrong; every field may be set at any time.

    Attributes
    ----------
    rate : dict
        Share of the requests by kind: a word of ``ANSWERS``, ``BROKEN``, ``PAGES`` and so on. Drawn
        from ``seed``, the request and how often it came before, not from the order of arrival.
    script : list
        Kinds (None: no fault) for the next requests, one after the other, before ``rate``.
    methods : tuple
        The methods that ``rate`` and ``script`` concern.
    permanent : float
        Share of the distinct requests that are answered 400 each time.
    latency_s, stall_s : float
        From a request of ``methods`` to its answer, at least; how long a stall lasts.
    memory_limit_px : int or None
        Pixels (width x height) above which computePixels runs out of memory.
    limit_in_flight : int or None
        Requests at once above which the server answers 429.
    retry_after_s : float or None
        The header of answers 429 and 503.
    every_request : str
        A kind ("401", "403") for whatever comes, initialisation included.
    """

    rate: dict = field(default_factory=dict)
    script: list = field(default_factory=list)
    seed: int = 0
    methods: tuple = COMPUTING
    permanent: float = 0.0
    latency_s: float = 0.0
    stall_s: float = 30.0
    memory_limit_px: int | None = None
    limit_in_flight: int | None = None
    retry_after_s: float | None = None
    every_request: str = ""

    def __post_init__(self):
        self._lock = threading.Lock()
        self._attempts: Counter = Counter()

    def set(self, **changes) -> None:
        """Set some fields; refused where one does not exist or a kind is unknown."""
        known = {f.name for f in dataclasses.fields(self)}
        if unknown := set(changes) - known:
            raise ValueError(f"No such fault: {sorted(unknown)}; there are {sorted(known)}.")
        kinds = {*changes.get("rate", {}), *changes.get("script", []), changes.get("every_request")}
        if unknown := kinds - {*ANSWERS, *BROKEN, *PAGES, *ODD_JSON, *BODIES, None, ""}:
            raise ValueError(f"No such kind of fault: {sorted(unknown)}.")
        for name, value in changes.items():
            setattr(self, name, value)

    def reset(self) -> None:
        """Nothing goes wrong from here on."""
        for f in dataclasses.fields(self):
            default = f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
            setattr(self, f.name, default)
        with self._lock:
            self._attempts.clear()

    def choose(self, method: str, key: str) -> str | None:
        """The kind of fault that this request meets, None for none."""
        if self.every_request:
            return self.every_request
        if method not in self.methods:
            return None
        if self.permanent and draw(self.seed, "permanent", key) < self.permanent:
            return "400"
        with self._lock:
            if self.script:
                return self.script.pop(0)
            self._attempts[key] += 1
            attempt = self._attempts[key]
        chance = draw(self.seed, key, attempt)
        for kind, share in self.rate.items():
            if chance < share:
                return kind
            chance -= share
        return None


class Counters:
    """What the server has seen; read ``snapshot()``."""

    def __init__(self):
        self._lock = threading.Lock()
        self._stalled: set = set()
        self.reset()

    def reset(self) -> None:
        """Begin anew; requests in flight stay counted as such."""
        with self._lock:
            self.requests, self.answers, self.faults = Counter(), Counter(), Counter()
            self.pixels: Counter = Counter()
            self.most_in_flight = 0
            self.in_flight = getattr(self, "in_flight", 0)

    def arrive(self, method: str, is_gone) -> int:
        """Count a request in; ``is_gone(socket)`` tells of stalled clients that gave up."""
        with self._lock:
            for socket in [s for s in self._stalled if is_gone(s)]:
                self._stalled.remove(socket)
                self.in_flight -= 1
            self.requests[method] += 1
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            return self.in_flight

    def stall(self, socket) -> None:
        with self._lock:
            self._stalled.add(socket)

    def leave(self, socket=None) -> None:
        """Count a request out; a stalled one once only."""
        with self._lock:
            if socket is not None:
                if socket not in self._stalled:
                    return
                self._stalled.remove(socket)
            self.in_flight -= 1

    def answer(self, code: int, fault: str | None = None) -> None:
        with self._lock:
            self.answers[str(code)] += 1
            if fault:
                self.faults[fault] += 1

    def deliver(self, key: str) -> None:
        with self._lock:
            self.pixels[key] += 1

    def snapshot(self) -> dict:
        """``requests`` by method, ``answers`` by code (0: none came whole), injected ``faults`` by
        kind, ``most_in_flight``, ``pixels``: how often each distinct request for pixels was
        answered with pixels."""
        with self._lock:
            return {
                "requests": dict(self.requests),
                "answers": dict(self.answers),
                "faults": dict(self.faults),
                "pixels": dict(self.pixels),
                "most_in_flight": self.most_in_flight,
                "in_flight": self.in_flight,
            }

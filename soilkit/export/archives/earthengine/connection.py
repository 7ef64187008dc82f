"""The one door to Earth Engine's client: logging in, its calls, and its errors as faults."""

import http.client
import io
import json
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ee
import numpy as np
import pandas as pd
from google.auth import exceptions as auth
from googleapiclient.errors import HttpError
from requests import Session, TooManyRedirects
from requests.adapters import HTTPAdapter

from soilkit.contracts import Grid
from soilkit.errors import ConnectError
from soilkit.export.archives.earthengine.executor import (
    DAY_S,
    Fault,
    Policy,
    ServiceError,
    fault_of_status,
)

log = logging.getLogger(__name__)
_LOGIN = threading.Lock()
LATEST_MS = 1e13  # since 1970, in the year 2286
_CLOCK = threading.local()  # until when the request that this thread has sent may take
_MARKUP = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.DOTALL)

# What to do where an error says such words; the first that matches.
_ADVICE = (
    (
        r"no project found",
        "Earth Engine needs a Google Cloud project: name yours with connect(project='...') or in "
        "the environment variable EARTHENGINE_PROJECT.",
    ),
    (
        r"has not been used in project|SERVICE_DISABLED|not (signed up|registered)",
        "The project {project} may not use Earth Engine: enable the API at "
        "https://console.cloud.google.com/apis/library/earthengine.googleapis.com and register "
        "the project at https://console.cloud.google.com/earth-engine.",
    ),
    (
        r"not have (the )?required permission|USER_PROJECT_DENIED|PERMISSION.DENIED"
        r"|project.*(not found|invalid|does not exist)|CONSUMER_INVALID",
        "This account may not use the project {project}: check its name, or ask its owner for the "
        "roles 'Earth Engine Resource Viewer' and 'Service Usage Consumer'.",
    ),
    (
        r"RefreshError|invalid_grant|expired|revoked|invalid authentication",
        "The Earth Engine login was refused, as when it expired or was revoked: run `earthengine "
        "authenticate --force` (or renew the service account's key) and try again.",
    ),
    (
        r"Please authorize|DefaultCredentialsError|earthengine authenticate",
        "No Earth Engine login was found: run `earthengine authenticate` once on this machine, or, "
        "for a service account, point GOOGLE_APPLICATION_CREDENTIALS to its key file.",
    ),
    (
        r"TransportError|ConnectionError|Timeout|ServerNotFound|Max retries|OSError",
        "Earth Engine cannot be reached: check the network connection and the proxy settings "
        "(HTTPS_PROXY), then try again.",
    ),
)


def features(expression: Any, columns: list[str]) -> pd.DataFrame:
    """Properties of every feature of an ee.FeatureCollection, or of mapped images: a row each.

    All but ids and orbits are numbers; one that is absent or null is NaN. Raises ``ServiceError``.
    """
    numbers = dict.fromkeys((name for name in columns if name not in ("scene_id", "orbit")), float)

    def ask(asked: dict[str, Any]) -> pd.DataFrame:
        table = ee.data.computeFeatures(asked).reindex(columns=columns).astype(numbers)
        nameless = table.filter(["scene_id", "begin_ms"]).isna().any(axis=None)
        if nameless or (table.filter(like="_ms").abs() > LATEST_MS).any(axis=None):
            raise ValueError("an image without a name or a time")
        return table

    return call(ask, {"expression": expression, "fileFormat": "PANDAS_DATAFRAME"})


def pixels(expression: Any, grid: Grid, *, bands: Sequence[str]) -> np.ndarray:
    """The pixels of an ee.Image of floating bands on a grid: (band, row, col), float32.

    Masked pixels read 0, so ``unmask`` first. Raises ``ServiceError``, of kind "damaged" where the
    body is not an array of these bands and the grid's shape.
    """
    names = ("scaleX", "shearX", "translateX", "shearY", "scaleY", "translateY")
    affine = dict(zip(names, grid.transform, strict=True))
    size = {"width": grid.width, "height": grid.height}
    on_grid = {"crsCode": grid.crs, "dimensions": size, "affineTransform": affine}
    asked = {"expression": expression, "fileFormat": "NPY", "grid": on_grid}
    body = call(ee.data.computePixels, asked)
    stream = io.BytesIO(body)
    try:
        image = np.load(stream, allow_pickle=False)
        kinds = {image.dtype[name].kind for name in image.dtype.names or ()}
        layout = image.dtype.names, image.shape, kinds, stream.read()
        if layout != (tuple(bands), (grid.height, grid.width), {"f"}, b""):
            raise ValueError(f"shape {image.shape}, {image.dtype}")
    except Exception as error:  # numpy's reader of foreign bytes has no common base
        wanted = f"{grid.height} x {grid.width} floating values of {', '.join(bands)}"
        got = f"{len(body)} bytes, {_words(error)}"
        raise ServiceError(Fault("damaged", f"wanted {wanted}; found {got[:300]}")) from error
    return np.stack([image[name] for name in bands]).astype(np.float32)


def call(ask: Callable[[Any], Any], argument: Any) -> Any:
    """What a method of the client answers; raises ``ServiceError`` where it fails."""
    try:
        return ask(argument)
    except Exception as error:  # whatever a foreign answer makes of the client
        raise ServiceError(fault_of(error)) from error


def fault_of(error: Exception) -> Fault:
    """The fault behind an exception of the client.

    The client turns every HTTP error into an ``EEException`` that carries the message alone: the
    status is read from the error that it was raised in the handling of.
    """
    for cause in (error, error.__cause__, error.__context__):
        if isinstance(cause, HttpError):
            return _fault_of_http(cause, error)
    said = _words(error)
    if isinstance(error, auth.GoogleAuthError):
        if isinstance(error, auth.TransportError) or error.retryable:
            return Fault("network", f"no answer from the login: {said}")
        return Fault("permission", f"the login was refused: {advice(error)}")
    if isinstance(error, TooManyRedirects):
        return Fault("network", "sent elsewhere (a redirect), as by a network's sign-in page")
    if isinstance(error, TimeoutError) or "timed out" in said:
        return Fault("deadline", f"no whole answer in time: {said}")
    if isinstance(error, OSError):  # of requests and urllib3, too
        return Fault("network", said)
    kind = type(error).__name__
    return Fault("damaged", f"no answer that the client can read: {kind}: {said}")


def _fault_of_http(cause: Any, error: BaseException) -> Fault:
    """The fault of an HTTP status, where Google's JSON names its kind, or where it is another's."""
    status = int(cause.resp.status)
    try:
        answer = json.loads(cause.content)["error"]
        name, said = str(answer["status"]), str(answer["message"]).strip()
    except (ValueError, LookupError, TypeError):
        page = cause.content.decode(errors="replace")
        name, said = "", _words(_MARKUP.sub(" ", page))[:200]
    if not name or not said:
        said = f"HTTP {status} {http.client.responses.get(status, '')}: {said or 'no word'}"
    wait = cause.resp.get("retry-after", "")  # a date is not waited for
    wait_s = float(wait) if re.fullmatch(r"\d+(\.\d+)?", wait) else None
    fault = fault_of_status(status, said, name=name, retry_after_s=wait_s)
    return replace(fault, reason=advice(error)) if fault.kind == "permission" else fault


def _words(said: object) -> str:
    """An error in one line, less the address and the token of the request."""
    text = re.sub(r"(with url: |requesting |Bearer |ya29\.)\S+", r"\1...", str(said))
    return " ".join(text.split())


def advice(error: BaseException, project: str | None = None) -> str:
    """What to do about a failed login, with the error's own words behind."""
    said = _words(error)
    kinds = " ".join(kind.__name__ for kind in type(error).__mro__)
    for words, cure in _ADVICE:
        if re.search(words, f"{said} {kinds}", re.IGNORECASE | re.DOTALL):
            return f"{cure.format(project=project or 'in use')} ({said[:300]})"
    return f"Earth Engine does not let us in; its own words say why: {said[:500]}"


def connect(
    project: str | None = None,
    *,
    service_account_key: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    credentials: Any = None,
    policy: Policy | None = None,
) -> str:
    """Log in to Earth Engine, once; a client that is logged in already is taken as it is.

    The login comes from the first of: ``credentials``; ``service_account_key``; a service
    account's key file in ``GOOGLE_APPLICATION_CREDENTIALS``; what ``earthengine authenticate``
    stored; Google's application default credentials. In a notebook with somebody in front of it
    (Colab, JupyterLab) a login is offered when there is none; never in CI, papermill or a script.
    The project comes from ``project``, ``EARTHENGINE_PROJECT``, ``GOOGLE_CLOUD_PROJECT`` or the
    login.

    The client's own retries are turned off, since they hide why a call failed; each call gets a
    deadline, and the connections suffice for the calls in flight. Returns the project in use;
    raises ``ConnectError``, which says in one sentence what to do.

    Parameters
    ----------
    project : a Google Cloud project with the Earth Engine API enabled
    service_account_key : path, JSON text or mapping, optional
    credentials : google.auth.credentials.Credentials, optional
    policy : its deadline and concurrency
    """
    policy = policy or Policy()
    with _LOGIN:
        state, known = ee.data._get_state(), ee.data.is_initialized()
        named = map(os.environ.get, ("EARTHENGINE_PROJECT", "GOOGLE_CLOUD_PROJECT"))
        wanted = next(filter(None, (project, *named)), None)
        try:
            if known:
                wanted = state.cloud_api_user_project
                _fit(policy)  # another deadline has the client ask for its methods again
            else:
                login = credentials or _login(service_account_key)
                wanted = wanted or getattr(login, "project_id", None)
                state.deadline_ms, state.max_retries = int(policy.deadline_s * 1000), 1
                _fit(policy)
                ee.Initialize(credentials=login, project=wanted)
            ee.data.setMaxRetries(0)
        except Exception as error:
            if not known:
                ee.Reset()
            if isinstance(error, ConnectError):
                raise
            raise ConnectError(advice(error, wanted)) from error
        used = str(ee.data._get_state().cloud_api_user_project)
    if known and project and project != used:
        log.warning(
            "Earth Engine is in use with the project %s already; %s is not looked at. "
            "Restart Python to change it.", used, project,
        )  # fmt: skip
    return used


def _login(key: Any) -> Any:
    key = key or _key_file()
    if key:
        return _service_account(key)
    try:
        return ee.data.get_persistent_credentials()
    except ee.EEException as error:
        if Path(ee.oauth.get_credentials_path()).exists():
            raise ee.EEException("the stored login is refused: expired or revoked") from error
        if not _somebody_is_there():
            raise
    ee.Authenticate()
    return ee.data.get_persistent_credentials()


def _service_account(key: Any) -> Any:
    text = json.dumps(dict(key)) if isinstance(key, Mapping) else os.fspath(key)
    named = {"key_data": text} if text.lstrip().startswith("{") else {"key_file": text}
    try:
        return ee.ServiceAccountCredentials(**named)
    except Exception as error:  # of the client, the login library or the cipher
        raise ConnectError(
            "The service account's key cannot be read: hand the path or the text of the JSON key "
            f"file that Google Cloud gave you. ({error})"
        ) from error


def _key_file() -> str:
    """The service account's key file that the environment names; stored logins do not count.

    Google's library would rank it behind the login that ``earthengine authenticate`` stored.
    """
    path = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS", "")
    try:
        kind = json.loads(Path(path).read_text(encoding="utf-8")).get("type")
    except (OSError, ValueError, AttributeError):
        return path  # whose reading then fails with the reason
    return path if kind == "service_account" else ""


def _somebody_is_there() -> bool:
    """Whether a person sits before a notebook and can answer: not in CI, papermill or a script."""
    if os.environ.get("CI"):
        return False
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    answers = getattr(getattr(shell, "kernel", None), "_allow_stdin", False)
    return "google.colab" in sys.modules or bool(answers)


def _fit(policy: Policy) -> None:
    """A deadline, no redirects, and as many connections as calls in flight."""
    state, n, deadline_ms = ee.data._get_state(), policy.concurrency, int(policy.deadline_s * 1000)
    session: Any = state.requests_session or Session()
    state.requests_session = session
    session.max_redirects = 0  # the service sends nobody elsewhere: another answers in its place
    adapter = session.get_adapter("https://")
    if not isinstance(adapter, _Adapter) or adapter._pool_maxsize < n:
        for scheme in ("https://", "http://"):
            session.mount(scheme, _Adapter(pool_connections=n, pool_maxsize=n))
    if state.deadline_ms != deadline_ms:
        ee.data.setDeadline(deadline_ms)


class _Adapter(HTTPAdapter):
    """Sends requests whose timeout holds to the answer's last byte.

    A socket's timeout alone begins anew with every byte that trickles in.
    """

    def send(self, *args: Any, **options: Any) -> Any:
        _CLOCK.until = time.monotonic() + (options.get("timeout") or DAY_S)
        return super().send(*args, **options)

    def get_connection_with_tls_context(self, *args: Any, **options: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **options)
        if pool.ConnectionCls.response_class is not _TimedResponse:
            timed = {"response_class": _TimedResponse}
            pool.ConnectionCls = type("Connection", (pool.ConnectionCls,), timed)
        return pool


class _TimedResponse(http.client.HTTPResponse):
    """Receives until the clock of the thread that asked has run down."""

    def __init__(self, sock: Any, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        raw: Any = self.fp.raw
        receive, until = raw.readinto, _CLOCK.until

        def readinto(buffer: Any) -> int:
            left_s = until - time.monotonic()
            if left_s <= 0:
                raise TimeoutError("timed out")
            sock.settimeout(left_s)
            return receive(buffer)

        raw.readinto = readinto

"""The one door to Earth Engine's client: logging in, its calls, and its errors as faults."""

import http.client
import io
import json
import logging
import os
import re
import sys
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from soilkit.contracts import Grid
from soilkit.errors import ConnectError
from soilkit.export.archives.earthengine.executor import (
    Fault,
    Policy,
    ServiceError,
    fault_of_status,
)

_NO_PROJECT = (
    "Earth Engine needs a Google Cloud project: name yours with connect(project='...') or in the "
    "environment variable EARTHENGINE_PROJECT."
)
_NO_API = (
    "The project {project} may not use Earth Engine: enable the API at "
    "https://console.cloud.google.com/apis/library/earthengine.googleapis.com and register the "
    "project at https://console.cloud.google.com/earth-engine."
)
_NO_RIGHT = (
    "This account may not use the project {project}: check its name, or ask its owner for the "
    "roles 'Earth Engine Resource Viewer' and 'Service Usage Consumer'."
)
_NO_LOGIN = (
    "No Earth Engine login was found: run `earthengine authenticate` once on this machine, or, "
    "for a service account, point GOOGLE_APPLICATION_CREDENTIALS to its key file."
)
_EXPIRED = (
    "The Earth Engine login was refused, as when it expired or was revoked: run `earthengine "
    "authenticate --force` (or renew the service account's key) and try again."
)
_NO_NETWORK = (
    "Earth Engine cannot be reached: check the network connection and the proxy settings "
    "(HTTPS_PROXY), then try again."
)
# Which words of an error call for which advice; the first that matches.
_ADVICE = (
    (r"no project found", _NO_PROJECT),
    (r"has not been used in project|SERVICE_DISABLED|not (signed up|registered)", _NO_API),
    (r"not have (the )?required permission|USER_PROJECT_DENIED|PERMISSION_DENIED", _NO_RIGHT),
    (r"project.*(not found|invalid|does not exist)|CONSUMER_INVALID", _NO_RIGHT),
    (r"RefreshError|invalid_grant|expired|revoked|invalid authentication", _EXPIRED),
    (r"Please authorize|DefaultCredentialsError|earthengine authenticate", _NO_LOGIN),
    (r"TransportError|ConnectionError|Timeout|ServerNotFound|Max retries|OSError", _NO_NETWORK),
)  # fmt: skip


def advice(error: BaseException, project: str | None = None) -> str:
    """What to do about a failed login, with the error's own words behind."""
    said = " ".join(str(error).split())
    kinds = " ".join(kind.__name__ for kind in type(error).__mro__)
    for words, what in _ADVICE:
        if re.search(words, f"{said} {kinds}", re.IGNORECASE | re.DOTALL):
            return f"{what.format(project=project or 'in use')} ({said[:300]})"
    return f"Earth Engine does not let us in; its own words say why: {said[:500]}"


# The one door to Earth Engine's client: its calls, and their errors as faults.

PAGE_ROWS = 1000
_BROKEN = ("IncompleteRead", "prematurely", "decompress", "InvalidChunkLength")


def library() -> Any:
    """The Earth Engine client, loaded when first asked for (it takes seconds)."""
    import ee

    return ee


def features(expression: Any) -> list[dict[str, Any]]:
    """The properties of every feature of a collection, page by page.

    Parameters
    ----------
    expression : ee.FeatureCollection, or an ee.ImageCollection mapped to features

    Raises
    ------
    ServiceError
    """
    return [row for page in _pages(expression) for row in page]


def _pages(expression: Any) -> Iterator[list[dict[str, Any]]]:
    asked = {"expression": expression, "pageSize": PAGE_ROWS}
    while True:
        page = _call(library().data.computeFeatures, asked)
        yield [feature.get("properties") or {} for feature in page.get("features", [])]
        token = page.get("nextPageToken")
        if not token:
            return
        asked = asked | {"pageToken": token}


def pixels(expression: Any, grid: Grid) -> np.ndarray:
    """The pixels of an image on a grid.

    Parameters
    ----------
    expression : ee.Image, or what ``encoded`` makes of one
    grid : Grid

    Returns
    -------
    structured array (row, col), one field a band; masked pixels read 0, so ``unmask`` first

    Raises
    ------
    ServiceError
        Of kind "truncated" where the body is not an array of the grid's shape.
    """
    if not isinstance(expression, dict):
        expression = encoded(expression)
    asked = {"expression": expression, "fileFormat": "NPY", "grid": _pixel_grid(grid)}
    body = _call(_compute_pixels, asked)
    try:
        found = np.load(io.BytesIO(body), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ServiceError(Fault("truncated", f"{len(body)} bytes, no array", True)) from error
    if found.shape != (grid.height, grid.width):
        wanted = (grid.height, grid.width)
        raise ServiceError(Fault("truncated", f"wanted {wanted}, found {found.shape}", True))
    return found


def encoded(expression: Any) -> dict[str, Any]:
    """An expression as it travels: JSON."""
    return library().serializer.encode(expression)


def _compute_pixels(asked: dict[str, Any]) -> bytes:
    """``ee.data.computePixels``, less what it repeats for every call of thousands.

    It encodes the expression and builds the method anew: a third of the time that a call costs the
    client, which shows at 300 calls a second.
    """
    data = library().data
    tag = data.getWorkloadTag()
    asked = asked | {"workloadTag": tag} if tag else asked
    images = _images(data._get_state().cloud_api_resource_raw)
    call = images.computePixels(project=data._get_projects_path(), body=asked)
    return data._execute_cloud_call(call)


@lru_cache(maxsize=1)
def _images(resource: Any) -> Any:
    return resource.projects().image()


def _pixel_grid(grid: Grid) -> dict[str, Any]:
    a, b, c, d, e, f = grid.transform
    return {
        "crsCode": grid.crs,
        "dimensions": {"width": grid.width, "height": grid.height},
        "affineTransform": {
            "scaleX": a, "shearX": b, "translateX": c, "shearY": d, "scaleY": e, "translateY": f,
        },
    }  # fmt: skip


def metadata(asset: str) -> dict[str, Any]:
    """What the service tells about an asset: type, bands, dates, properties.

    Raises
    ------
    ServiceError
    """
    return _call(library().data.getAsset, asset)


def value(expression: Any) -> Any:
    """The value of an expression, once; not for pixels or tables.

    Raises
    ------
    ServiceError
    """
    return _call(library().data.computeValue, expression)


def _call(ask: Callable[[Any], Any], asked: Any) -> Any:
    try:
        return ask(asked)
    except Exception as error:
        fault = fault_of(error)
        if fault is None:
            raise
        raise ServiceError(fault) from error


def fault_of(error: BaseException) -> Fault | None:
    """The fault behind an exception of the client; None for a bug of ours.

    The client turns every HTTP error into an ``EEException`` that carries the message alone: the
    status is read from the error that it was raised in the handling of.
    """
    from google.auth import exceptions as auth

    ee = library()
    if (refused := _refused(error)) is not None:
        return refused
    if isinstance(error, auth.GoogleAuthError):
        if isinstance(error, auth.TransportError) or error.retryable:
            return Fault("network", f"no answer from the login: {error}", True)
        return Fault("permission", f"the login was refused: {advice(error)}", False)
    if isinstance(error, TimeoutError) or "timed out" in str(error):
        return Fault("deadline", f"no answer in time: {error}", True)
    if isinstance(error, http.client.HTTPException | json.JSONDecodeError | UnicodeError):
        return Fault("truncated", str(error), True)
    if isinstance(error, zlib.error) or any(word in str(error) for word in _BROKEN):
        return Fault("truncated", str(error), True)
    if isinstance(error, OSError):  # of requests and urllib3, too
        return Fault("network", str(error), True)
    if isinstance(error, ee.EEException):
        return Fault("request", str(error), False)
    return None


def _refused(error: BaseException) -> Fault | None:
    """The fault of an HTTP status, where there is one behind the exception."""
    from googleapiclient.errors import HttpError

    for found in (error, error.__cause__, error.__context__):
        if isinstance(found, HttpError):
            said = found._get_reason().strip() or f"HTTP {found.resp.status}"
            status, wait_s = int(found.resp.status), _wait_s(found.resp)
            fault = fault_of_status(status, said, retry_after_s=wait_s)
            return replace(fault, reason=advice(error)) if fault.kind == "permission" else fault
    return None


def _wait_s(response: Any) -> float | None:
    try:
        return float(response.get("retry-after"))
    except (TypeError, ValueError):
        return None


# Logging in to Earth Engine once, wherever the code runs, or saying what to do.

log = logging.getLogger(__name__)
_LOCK = threading.Lock()
_BAD_KEY = (
    "The service account's key cannot be read: hand the path or the text of the JSON key file "
    "that Google Cloud gave you."
)


def connect(
    project: str | None = None,
    *,
    service_account_key: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    credentials: Any = None,
    policy: Policy | None = None,
    url: str | None = None,
) -> str:
    """Log in to Earth Engine, once; a client that is logged in already is taken as it is.

    The login comes from the first of: ``credentials``; ``service_account_key``; a service
    account's key file in ``GOOGLE_APPLICATION_CREDENTIALS``; what ``earthengine authenticate``
    stored; Google's application default credentials. In a notebook with somebody in front of it
    (Colab, JupyterLab) a login is offered when there is none; never in CI, papermill or a script.
    The project comes from ``project``, ``EARTHENGINE_PROJECT``, ``GOOGLE_CLOUD_PROJECT`` or the
    login.

    The client's own retries are turned off, since they hide why a call failed; each call gets a
    deadline, and the connections suffice for the calls in flight.

    Parameters
    ----------
    project : str, optional
        A Google Cloud project with the Earth Engine API enabled.
    service_account_key : path, JSON text or mapping, optional
    credentials : google.auth.credentials.Credentials, optional
    policy : Policy, optional
        Its deadline and concurrency.
    url : str, optional
        Of the service, where it is not Google's.

    Returns
    -------
    str
        The project in use.

    Raises
    ------
    ConnectError
        Says in one sentence what to do.
    """
    ee, policy = library(), policy or Policy()
    with _LOCK:
        if ee.data.is_initialized():
            if project and project != _project(ee):
                log.warning(
                    "Earth Engine is in use with the project %s already; %s is not looked at. "
                    "Restart Python to change it.", _project(ee), project,
                )  # fmt: skip
            try:
                _fit(ee, policy)  # another deadline has the client ask for its methods again
            except Exception as error:
                raise ConnectError(advice(error, _project(ee))) from error
            return _project(ee)
        wanted = project or _environment("EARTHENGINE_PROJECT", "GOOGLE_CLOUD_PROJECT")
        try:
            login = credentials or _login(ee, service_account_key)
            wanted = wanted or getattr(login, "project_id", None)
            _initialize(ee, {"credentials": login, "project": wanted, "url": url}, policy)
        except Exception as error:
            ee.Reset()
            if isinstance(error, ConnectError):
                raise
            raise ConnectError(advice(error, wanted)) from error
        return _project(ee)


def ensure(project: str | None = None, *, policy: Policy | None = None) -> None:
    """``connect`` where nobody has yet, as in a worker's process."""
    if not library().data.is_initialized():
        connect(project, policy=policy)


def _login(ee: Any, key: Any) -> Any:
    key = key or _key_file()
    if key is not None:
        return _service_account(ee, key)
    try:
        return ee.data.get_persistent_credentials()
    except ee.EEException as error:
        if Path(ee.oauth.get_credentials_path()).exists():
            raise ee.EEException("the stored login is refused: expired or revoked") from error
        if not somebody_is_there():
            raise
    ee.Authenticate()
    return ee.data.get_persistent_credentials()


def _service_account(ee: Any, key: Any) -> Any:
    if isinstance(key, Mapping):
        key = json.dumps(dict(key))
    text = os.fspath(key)
    named = {"key_data": text} if text.lstrip().startswith("{") else {"key_file": text}
    try:
        return ee.ServiceAccountCredentials(**named)
    except Exception as error:  # of the client, the login library or the cipher
        raise ConnectError(f"{_BAD_KEY} ({error})") from error


def _key_file() -> str | None:
    """The service account's key file that the environment names; stored logins do not count.

    Google's library would rank it behind the login that ``earthengine authenticate`` stored.
    """
    path = _environment("GOOGLE_APPLICATION_CREDENTIALS")
    if path is None:
        return None
    try:
        kind = json.loads(Path(path).read_text(encoding="utf-8")).get("type")
    except (OSError, ValueError, AttributeError):
        return path  # whose reading then fails with the reason
    return path if kind == "service_account" else None


def _environment(*names: str) -> str | None:
    return next((os.environ[name] for name in names if os.environ.get(name)), None)


def somebody_is_there() -> bool:
    """Whether a person sits before a notebook and can answer: not in CI, papermill or a script."""
    if os.environ.get("CI"):
        return False
    if "google.colab" in sys.modules:
        return True
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return bool(getattr(getattr(shell, "kernel", None), "_allow_stdin", False))


def _initialize(ee: Any, options: dict[str, Any], policy: Policy) -> None:
    state = ee.data._get_state()
    state.deadline_ms = int(policy.deadline_s * 1000)
    state.max_retries = 1
    ee.Initialize(**options)
    _fit(ee, policy)


def _fit(ee: Any, policy: Policy) -> None:
    """Own retries off, a deadline, and as many connections as calls in flight."""
    from requests.adapters import HTTPAdapter

    ee.data.setMaxRetries(0)
    state, n = ee.data._get_state(), policy.concurrency
    old = state.requests_session.get_adapter("https://")
    if getattr(old, "_pool_maxsize", 0) < n:
        for scheme in ("https://", "http://"):
            state.requests_session.mount(scheme, HTTPAdapter(pool_connections=n, pool_maxsize=n))
    if state.deadline_ms != int(policy.deadline_s * 1000):
        ee.data.setDeadline(int(policy.deadline_s * 1000))


def _project(ee: Any) -> str:
    return str(ee.data._get_state().cloud_api_user_project)

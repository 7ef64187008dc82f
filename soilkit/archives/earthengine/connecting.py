"""Logging in to Earth Engine once, wherever the code runs, or saying what to do."""

import json
import logging
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from soilkit.archives.earthengine.advising import advice
from soilkit.archives.earthengine.service import library
from soilkit.archives.earthengine.work import Policy
from soilkit.errors import ConnectError

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

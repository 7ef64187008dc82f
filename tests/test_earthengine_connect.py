"""Logging in to Earth Engine: once, everywhere, and with one sentence when it fails."""

import json
import logging
import sys
import time
import types
from functools import partial
from unittest import mock

import pytest

from soilkit.errors import ConnectError
from soilkit.export.archives import open_archive
from soilkit.export.archives.earthengine import Policy, connection
from tests.stand_in_ee.fixtures import PROJECT

ACCOUNT = {
    "type": "service_account",
    "client_email": "robot@stand-in-project.iam.gserviceaccount.com",
    "token_uri": "http://127.0.0.1:9/token",
    "project_id": "robots-project",
    "private_key_id": "1",
}
UNDONE = ("EARTHENGINE_PROJECT", "GOOGLE_CLOUD_PROJECT", "GOOGLE_APPLICATION_CREDENTIALS")


@pytest.fixture
def logged_out(earth_engine, monkeypatch, tmp_path):
    """The client without a login, in a home without one, and nothing in the environment."""
    earth_engine.Reset()
    for name in UNDONE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setattr(earth_engine.deprecation, "_FetchDataCatalogStac", dict)
    yield earth_engine
    earth_engine.Reset()  # the next test's fixture logs in again


@pytest.fixture(scope="module")
def key_text():
    """A service account's key; nobody answers at its token address."""
    rsa = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.rsa")
    from cryptography.hazmat.primitives import serialization

    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return json.dumps(ACCOUNT | {"private_key": pem.decode()})


def connect(project=None, *, url=None, **options):
    """Connect to Google, or to a service at another address."""
    ee = connection.ee
    with mock.patch.object(ee, "Initialize", partial(ee.Initialize, url=url)):
        return connection.connect(project, **options)


def anonymous():
    from google.auth.credentials import AnonymousCredentials

    return AnonymousCredentials()


def test_connecting_sets_deadline_pool_and_no_retries_of_the_client_s_own(logged_out, stand_in):
    """The client's retries would hide the status codes that the policy goes by."""
    policy = Policy(concurrency=24, deadline_s=7.0)
    used = connect("a-project", credentials=anonymous(), url=stand_in.url, policy=policy)
    state = logged_out.data._get_state()
    assert used == "a-project"
    assert state.max_retries == 0 and state.deadline_ms == 7000
    assert state.requests_session.get_adapter(stand_in.url)._pool_maxsize == 24


def test_a_client_that_is_logged_in_is_taken_as_it_is(earth_engine, stand_in, caplog):
    """A notebook's own ee.Initialize stays; another project asked for is told, not taken."""
    before = stand_in.counters.snapshot()["requests"].get("algorithms", 0)
    with caplog.at_level(logging.WARNING, logger="soilkit"):
        assert connect() == PROJECT
        assert connect("another-project") == PROJECT
    assert "another-project is not looked at" in caplog.text
    asked = stand_in.counters.snapshot()["requests"]
    assert asked.get("algorithms", 0) == before  # as a new ee.Initialize would
    assert earth_engine.data._get_state().max_retries == 0
    connect()
    assert stand_in.counters.snapshot()["requests"] == asked  # a second time costs nothing


@pytest.mark.parametrize("how", ["text", "mapping", "file", "environment"])
def test_a_service_account_logs_in_by_its_key(logged_out, monkeypatch, tmp_path, key_text, how):
    """Its project is taken from the key; the key in the environment goes before a stored login."""
    path = tmp_path / "key.json"
    path.write_text(key_text)
    stored = tmp_path / ".config" / "earthengine" / "credentials"
    stored.parent.mkdir(parents=True)
    stored.write_text(json.dumps({"refresh_token": "of-a-person", "project": "a-person-s"}))
    seen = {}
    monkeypatch.setattr(logged_out, "Initialize", lambda url, **options: seen.update(options))
    monkeypatch.setattr(connection, "_fit", lambda policy: None)
    if how == "environment":
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
        connect()
    else:
        keys = {"text": key_text, "mapping": json.loads(key_text), "file": path}
        connect(service_account_key=keys[how])
    assert seen["credentials"].service_account_email == ACCOUNT["client_email"]
    assert seen["project"] == "robots-project"
    monkeypatch.setenv("EARTHENGINE_PROJECT", "named-project")
    connect(service_account_key=key_text)
    assert seen["project"] == "named-project"


@pytest.mark.parametrize("key", ["nowhere.json", "{}", '{"type": "service_account"}'])
def test_a_key_that_cannot_be_read_is_said_to_be_none(logged_out, key):
    with pytest.raises(ConnectError, match="service account's key cannot be read"):
        connect("a-project", service_account_key=key)


def test_without_a_login_the_way_to_one_is_named(logged_out):
    with pytest.raises(ConnectError, match="earthengine authenticate.*GOOGLE_APPLICATION_CRED"):
        connect("a-project")
    with pytest.raises(ConnectError, match="No Earth Engine login was found"):
        open_archive("earthengine", project="a-project").connect()


def test_an_expired_login_is_told_from_none(logged_out, monkeypatch, stand_in):
    """As a refresh token that was revoked: stored, but refused by Google."""
    from google.auth.exceptions import RefreshError

    def revoked(*_):
        raise RefreshError("invalid_grant: Token has been expired or revoked.")

    credentials = anonymous()
    monkeypatch.setattr(credentials, "before_request", revoked)
    with pytest.raises(ConnectError, match="authenticate --force"):
        connect("a-project", credentials=credentials, url=stand_in.url)


def test_a_stored_login_that_google_refuses_is_called_expired(logged_out, monkeypatch, tmp_path):
    stored = tmp_path / ".config" / "earthengine" / "credentials"
    stored.parent.mkdir(parents=True)
    stored.write_text(json.dumps({"refresh_token": "old", "project": "a-project"}))
    monkeypatch.setattr(logged_out.oauth, "is_valid_credentials", lambda credentials: False)
    with pytest.raises(ConnectError, match="expired or was revoked"):
        connect()


def test_a_login_without_a_project_asks_for_one(logged_out, stand_in):
    with pytest.raises(ConnectError, match=r"connect\(project='...'\)"):
        connect(credentials=anonymous(), url=stand_in.url)


def test_a_project_without_the_api_is_told_where_to_enable_it(logged_out, stand_in):
    stand_in.faults.set(every_request="403")
    with pytest.raises(ConnectError, match="a-project may not use Earth Engine: enable the API"):
        connect("a-project", credentials=anonymous(), url=stand_in.url)
    assert not logged_out.data.is_initialized()


def test_a_login_that_expired_since_is_told_where_another_deadline_is_set(earth_engine, stand_in):
    """The client asks for its methods again then: Google's own error would come through."""
    connect(policy=Policy(deadline_s=5.0))
    stand_in.faults.set(every_request="403")
    with pytest.raises(ConnectError, match="enable the API"):
        connect(policy=Policy(deadline_s=6.0))
    stand_in.reset()
    assert connect(policy=Policy(deadline_s=7.0)) == "stand-in-project"


def test_without_a_network_the_network_is_named(logged_out):
    with pytest.raises(ConnectError, match="cannot be reached: check the network"):
        connect("a-project", credentials=anonymous(), url="http://127.0.0.1:9")


def test_a_login_that_trickles_in_ends_at_the_deadline(logged_out, stand_in):
    stand_in.faults.set(every_request="trickle", stall_s=20)
    begun = time.monotonic()
    with pytest.raises(ConnectError, match="cannot be reached"):
        connect("p", credentials=anonymous(), url=stand_in.url, policy=Policy(deadline_s=0.5))
    assert time.monotonic() - begun < 8


def test_after_a_failure_the_next_attempt_starts_afresh(logged_out, stand_in):
    stand_in.faults.set(every_request="403")
    with pytest.raises(ConnectError):
        connect("a-project", credentials=anonymous(), url=stand_in.url)
    stand_in.reset()
    assert connect("b-project", credentials=anonymous(), url=stand_in.url) == "b-project"


@pytest.mark.parametrize(
    "ci, colab, stdin, there",
    [
        ("", False, True, True),  # JupyterLab
        ("", False, False, False),  # papermill: a kernel that nobody answers for
        ("", True, False, True),  # Colab asks in its own window
        ("true", True, True, False),  # CI
        ("", False, None, False),  # a script
    ],
)
def test_a_login_is_offered_only_where_somebody_answers(
    logged_out, monkeypatch, ci, colab, stdin, there
):
    shell = types.SimpleNamespace(kernel=types.SimpleNamespace(_allow_stdin=stdin))
    ipython = types.SimpleNamespace(get_ipython=lambda: None if stdin is None else shell)
    monkeypatch.setenv("CI", ci)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    if colab:
        monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    offered = []
    monkeypatch.setattr(logged_out, "Authenticate", lambda: offered.append(1))
    with pytest.raises(ConnectError, match="No Earth Engine login"):
        connect("a-project")
    assert bool(offered) == there

"""Where tests meet the stand-in: fixtures, and what another process needs to connect to it.

The one place that touches the client: ``initialise`` silences the client's look-up of deprecated
assets, the only call that does not go to the given address.
"""

import json
import os
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.stand_in_ee.server import StandIn

PROJECT = "stand-in-project"
ROOT = Path(__file__).parents[2]
URL_VARIABLE = "SOILKIT_STAND_IN_EE"
START_UP = """\
import sys
sys.path.insert(0, {root!r})
from tests.stand_in_ee.fixtures import initialise
initialise({url!r})
"""


def initialise(url: str, project: str = PROJECT, credentials=None) -> None:
    """Initialise the client of this process against a stand-in, anonymously unless told else."""
    import ee
    from google.auth.credentials import AnonymousCredentials

    ee.deprecation._FetchDataCatalogStac = dict
    ee.Initialize(credentials or AnonymousCredentials(), project=project, url=url)


def initialise_from_environment() -> None:
    """The same in a process that was started with ``stand_in_environment``'s variables."""
    initialise(os.environ[URL_VARIABLE])


@contextmanager
def stand_in_environment(tmp_path, url: str | None = None):
    """Environment variables under which every IPython kernel finds ``ee`` initialised.

    Without ``url`` a server is started for the time of the context. Yields the variables: all of
    this process's, and ``IPYTHONDIR`` with a profile whose start-up initialises the client.
    """
    server = None if url else StandIn()
    url = url or server.url
    start_up = Path(tmp_path) / "ipython" / "profile_default" / "startup"
    start_up.mkdir(parents=True, exist_ok=True)
    (start_up / "00-stand-in.py").write_text(START_UP.format(root=str(ROOT), url=url))
    try:
        yield {**os.environ, "IPYTHONDIR": str(Path(tmp_path) / "ipython"), URL_VARIABLE: url}
    finally:
        if server is not None:
            server.close()


class Process:
    """A stand-in in a process of its own, asked over its private paths."""

    def __init__(self, **faults):
        command = [sys.executable, "-m", "tests.stand_in_ee", "--faults", json.dumps(faults)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"The stand-in did not start: {' '.join(command)}")
        self.url = json.loads(line)["url"]

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_) -> None:
        self._process.stdin.close()  # the server ends with its standard input
        self._process.wait(timeout=10)
        self._process.stdout.close()

    def ask(self, what: str, **body) -> dict:
        """POST to a private path ("faults", "earth", "reset", "counters"); the counters."""
        data = json.dumps(body).encode()
        with urllib.request.urlopen(f"{self.url}/_stand_in/{what}", data, timeout=10) as answer:
            return json.load(answer)

    def counters(self) -> dict:
        """``Counters.snapshot()`` of the other process."""
        return self.ask("counters")


@pytest.fixture(scope="session")
def stand_in_server():
    """The session's server; tests take ``stand_in``, which is reset for each."""
    server = StandIn()
    yield server
    server.close()


@pytest.fixture
def stand_in(stand_in_server):
    """A stand-in Earth Engine with ``url``, ``faults``, ``counters``, ``earth``; all is well."""
    stand_in_server.reset()
    yield stand_in_server
    stand_in_server.reset()


@pytest.fixture(scope="session")
def _initialised(stand_in_server):
    import ee

    look_up = ee.deprecation._FetchDataCatalogStac
    initialise(stand_in_server.url)
    yield ee
    ee.Reset()
    ee.deprecation._FetchDataCatalogStac = look_up


@pytest.fixture
def earth_engine(_initialised, stand_in):
    """The client's module ``ee``, initialised against ``stand_in``."""
    ee = _initialised
    if not ee.data.is_initialized() or ee.data._get_state().cloud_api_base_url != stand_in.url:
        initialise(stand_in.url)
    return ee

"""Fixtures that several test files share."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # before numpy and torch: the cores belong to the workers
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from tests.stand_in_ee.fixtures import (  # noqa: F401
    _initialised,
    earth_engine,
    stand_in,
    stand_in_server,
)

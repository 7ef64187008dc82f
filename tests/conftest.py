"""Fixtures that several test files share."""

from tests.stand_in_ee.fixtures import (  # noqa: F401
    _initialised,
    earth_engine,
    stand_in,
    stand_in_server,
)

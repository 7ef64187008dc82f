"""A thousand damaged files: each is read, or refused by an error that names it."""

import pytest

from tests.fuzz.__main__ import faults, run
from tests.fuzz.targets import SHARES


@pytest.mark.parametrize("target", SHARES, ids=lambda target: target.__name__)
def test_damage_is_read_or_refused(target):
    tallies = run(10 * SHARES[target], seed=1, only=(target.__name__,))
    assert tallies[target.__name__].outcomes.total() == 10 * SHARES[target]
    assert not faults(tallies)

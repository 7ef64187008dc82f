"""Nobody's quota is spent unasked."""

import pytest

from soilkit.errors import DeclinedError
from soilkit.export import archives
from tests.helpers_archive import FakeArchive


class CostlyArchive(FakeArchive):
    def estimate(self, requests):
        return f"{len(requests)} chips, 3 EECU-hours"


def refuse(question):
    raise EOFError


def test_an_archive_without_a_price_is_not_asked_about():
    assert archives.confirm(FakeArchive(), ["a", "b"], ask=refuse) is None
    assert archives.confirm(CostlyArchive(), [], ask=refuse) is None


@pytest.mark.parametrize("answer", ["y", "Yes", " YES "])
def test_the_estimate_is_shown_before_the_answer_counts(answer):
    shown = []
    estimate = archives.confirm(
        CostlyArchive(), ["a", "b"], ask=lambda text: shown.append(text) or answer
    )
    assert estimate == "2 chips, 3 EECU-hours" and estimate in shown[0]


@pytest.mark.parametrize("answer", ["", "n", "later"])
def test_anything_but_yes_asks_nothing_of_the_archive(answer):
    archive = CostlyArchive()
    with pytest.raises(DeclinedError, match="Nothing was asked of fake"):
        archives.confirm(archive, ["a"], ask=lambda _: answer)
    assert archive.asked == []


def test_without_anybody_to_ask_the_error_carries_the_estimate_and_the_way_on():
    with pytest.raises(DeclinedError, match=r"yes=True:\n1 chips, 3 EECU-hours"):
        archives.confirm(CostlyArchive(), ["a"], ask=refuse)
    assert archives.confirm(CostlyArchive(), ["a"], ask=refuse, yes=True)

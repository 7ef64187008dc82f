"""The real ISMN portal with one's own account; never run by default.

    ISMN_USER=me ISMN_PASSWORD=... python -m pytest -m live tests/live/test_ismn_live.py

Logs in and fetches the first bytes of the archive, not its many GB: what fails here is news about
the portal.
"""

import os

import pytest
import requests

from soilkit.export.download import ISMN_URL
from soilkit.export.insitu.ismn import portal_session

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(
        not (os.environ.get("ISMN_USER") and os.environ.get("ISMN_PASSWORD")),
        reason="needs ISMN_USER and ISMN_PASSWORD; see the module's docstring",
    ),
]


def first_bytes(user, password):
    session, url = portal_session(user, password, base_url=ISMN_URL)
    with session.get(url, headers={"Range": "bytes=0-1023"}, stream=True, timeout=60) as answer:
        return answer.headers, next(answer.iter_content(1024))


def test_the_portal_sends_a_zip_to_an_account():
    headers, data = first_bytes(os.environ["ISMN_USER"], os.environ["ISMN_PASSWORD"])
    assert data[:4] == b"PK\x03\x04", headers


def test_the_portal_sends_a_page_to_a_stranger():
    """What the command takes for a refused account."""
    try:
        headers, data = first_bytes("nobody", "wrong")
    except requests.RequestException as error:
        pytest.skip(f"the portal is away ({error})")
    assert "html" in headers.get("Content-Type", "") and data[:2] != b"PK"

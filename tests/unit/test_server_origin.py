"""Only pages of the server itself may speak to its live feed."""

from __future__ import annotations

import pytest

from physicsrunner.server.origin import is_own


@pytest.mark.parametrize(
    ("origin", "host", "own"),
    [
        (None, "flow.example.org", True),
        ("", "flow.example.org", True),
        ("https://flow.example.org", "flow.example.org", True),
        ("https://flow.example.org", "flow.example.org:443", True),
        ("http://127.0.0.1:3011", "127.0.0.1:3011", True),
        ("http://[::1]:3011", "[::1]:3011", True),
        ("https://FLOW.example.org", "flow.example.org", True),
        ("https://evil.example.org", "flow.example.org", False),
        ("https://flow.example.org:8443", "flow.example.org", False),
        ("https://flow.example.org.evil.org", "flow.example.org", False),
        ("null", "flow.example.org", False),
        ("file://", "", False),
        ("https://", "", False),
        ("https://a:port", "a", False),
    ],
)
def test_a_foreign_page_is_refused(origin: str | None, host: str, own: bool) -> None:
    """Host and port of the page are those of the request."""
    assert is_own(origin, {"HTTP_HOST": host}) is own

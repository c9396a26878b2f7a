"""
Which pages a browser may let speak to the live feed: those of this server alone.

Promises: the page's host and port must be those that the request was made to; https is judged as
http is, and a reverse proxy's header is not needed (it passes ``Host`` on). Programs send no
origin, or the server's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}


def is_own(origin: str | None, environ: Mapping[str, Any]) -> bool:
    """Say whether *origin* is a page of the host that the request names (WSGI's environ)."""
    if not origin:
        return True
    try:
        page = urlsplit(origin)
        asked = urlsplit(f"{page.scheme}://{environ.get('HTTP_HOST', '')}")
        return (
            page.scheme in _PORTS
            and bool(page.hostname)
            and (page.hostname, page.port or _PORTS[page.scheme])
            == (asked.hostname, asked.port or _PORTS[page.scheme])
        )
    except ValueError:  # a port that is no number
        return False

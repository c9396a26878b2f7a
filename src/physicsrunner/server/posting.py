"""
One POST to an address that somebody else has named.

Promises: it ends in time, whatever the other side does (connects and says nothing, sends a header a
minute); nothing but the first line of the answer is read; no redirection is followed. The name is
looked up once, every address is checked, and the connection goes to a checked one: a name that
means another address a moment later leads nowhere else.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import socket
import ssl
from collections.abc import Mapping
from typing import Final
from urllib.parse import SplitResult, urlsplit

from physicsrunner.errors import InvalidRequest, NotTaken
from physicsrunner.service.outbox import check_address

_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3})(?:[ \r\n]|$)")
_LINE: Final = 4096  # bytes of an answer's first line
_PORTS: Final = {"http": 80, "https": 443}


async def post(
    url: str, headers: Mapping[str, str], body: bytes, *, timeout_s: float, private: bool
) -> int:
    """
    Send *body* to *url* and return the status of the answer, 200 to 299.

    Raises
    ------
    NotTaken
        If it was anything else, or there was no answer within *timeout_s* seconds.
    """
    try:
        status = await asyncio.wait_for(_posted(url, headers, body, private), timeout_s)
    except asyncio.TimeoutError:
        raise NotTaken(f"no answer within {timeout_s:g} s") from None
    except InvalidRequest as error:
        raise NotTaken(str(error)) from None
    except ssl.SSLError as error:
        raise NotTaken(f"TLS: {error.reason or error}") from None
    except (OSError, EOFError, ValueError) as error:
        raise NotTaken(f"no connection: {error or type(error).__name__}") from None
    if not 200 <= status < 300:
        raise NotTaken(f"answered {status}")
    return status


async def _posted(url: str, headers: Mapping[str, str], body: bytes, private: bool) -> int:
    parts = urlsplit(url)
    address, port = await _address(parts, private)
    secure = ssl.create_default_context() if parts.scheme == "https" else None
    reader, writer = await asyncio.open_connection(
        address,
        port,
        ssl=secure,
        server_hostname=parts.hostname if secure is not None else None,
        limit=_LINE,
    )
    try:
        writer.write(_request(parts, headers, body))
        await writer.drain()
        line = await reader.readline()
    finally:
        # Nothing more is wanted of the other side, also not a goodbye.
        with contextlib.suppress(RuntimeError):
            writer.transport.abort()
    found = _STATUS.match(line)
    if found is None:
        raise EOFError("the answer is no HTTP")
    return int(found[1])


async def _address(parts: SplitResult, private: bool) -> tuple[str, int]:
    port = parts.port or _PORTS[parts.scheme]
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    addresses = [str(item[4][0]) for item in found]
    for address in addresses:
        check_address(ipaddress.ip_address(address.partition("%")[0]), private=private)
    return addresses[0], port


def _request(parts: SplitResult, headers: Mapping[str, str], body: bytes) -> bytes:
    target = parts.path or "/"
    if parts.query:
        target += f"?{parts.query}"
    lines = [
        f"POST {target} HTTP/1.1",
        f"Host: {parts.netloc}",
        "Connection: close",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "User-Agent: physicsrunner",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body

"""
Who a caller of a door is: by a token, or on this machine the person whom the setting names.

Some of the documents that these doors serve know no tokens. Where the operator has named a person
(``door_user``; `physicsrunner up` names its admin), a caller without a token acts as that one, if
everything says that it is a program or a page of this machine: both ends of the line are loopback
addresses, no proxy has passed the request on, ``Host``, and ``Origin`` where there is one, name
this machine, and no browser says that a page of another site asks. Without ``Host`` a page of
anywhere could have its name lead here. A proxy of this machine that adds no header looks like a
program of this machine: where ``trusted_proxies`` names one, nobody is let in without a token.

Promises: a token that is given is what counts, also when it is wrong; nobody is ever let in who is
not one of our people, and not disabled.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

from anyio import to_thread
from starlette.requests import HTTPConnection

from physicsrunner.errors import NotAuthenticated
from physicsrunner.server.auth import authenticated
from physicsrunner.service.access import AccessService, Identity
from physicsrunner.service.services import Services

#: What proxies add, besides all that begins with `_FORWARDED`.
_ADDED: Final = frozenset(
    {"forwarded", "via", "x-real-ip", "cf-connecting-ip", "true-client-ip", "x-client-ip"}
)
_FORWARDED: Final = "x-forwarded-"
_WANTED: Final = "Authorization: Bearer <token>"

#: What finds the token in a request: its headers to the token.
FindToken = Callable[[Mapping[str, str]], "str | None"]


def bearer(headers: Mapping[str, str]) -> str | None:
    """Return the token of ``Authorization: Bearer``; None if there is none."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() or None if kind.lower() == "bearer" else None


class DoorAccess:
    """Says who calls, for every door alike."""

    def __init__(self, services: Services, wanted: str = _WANTED) -> None:
        """*wanted* is the header that brings the token, for those who sent none."""
        self._access: AccessService = services.access
        self._user = services.options.local_user
        self._named = services.options.door_user is not None
        self._pages = services.options.cors_origins
        self._needed = f"there is no token; send {wanted}"

    async def of_request(
        self, request: HTTPConnection, find: FindToken = bearer, *, token: str | None = None
    ) -> Identity:
        """
        Return who makes an HTTP request or opens a WebSocket; raise `NotAuthenticated`.

        *token* is one that came by another way than the headers.
        """
        origin = None if request.client is None else request.client.host[:64]
        given = token or find(request.headers)
        if given is not None:
            return await authenticated(self._access, given, origin)
        if not self._named or not _is_of_this_machine(request.scope):
            raise NotAuthenticated(self._needed)
        if self._user is None:
            strange = "the setting trusted_proxies names a proxy"
        else:
            strange = self._strange(request.headers)
        if strange:
            raise NotAuthenticated(f"{self._needed} (door_user does not count here: {strange})")
        return await self._local(origin)

    async def of_line(self, token: str | None, peer: str, local: str) -> Identity:
        """Return who speaks on a bare TCP line from address *peer* to *local*."""
        if token is not None:
            return await authenticated(self._access, token, peer)
        if not is_loopback(peer) or not is_loopback(local):
            raise NotAuthenticated(self._needed)
        return await self._local(peer)

    def _strange(self, headers: Mapping[str, str]) -> str:
        """Return what says that the request comes from elsewhere; nothing: it is of here."""
        for name in headers:
            if name in _ADDED or name.startswith(_FORWARDED):
                return f"a proxy has passed the request on, it has the header {name[:40]}"
        if not _is_loopback_url(f"http://{headers.get('host', '')}"):
            return "Host does not name this machine"
        origin = headers.get("origin")
        if origin is None:  # as of an image or a link; a browser says at least whose
            site = headers.get("sec-fetch-site", "").strip().lower()
            return "Sec-Fetch-Site says that a page of another site asks" * (site == "cross-site")
        if origin in self._pages or _is_loopback_url(origin):
            return ""
        return "Origin names a page of elsewhere that cors_origins does not name"

    async def _local(self, origin: str | None) -> Identity:
        if self._user is None:
            raise NotAuthenticated(self._needed)
        known = self._access.persons.recall(self._user, origin)
        if known is not None:
            return known
        return await to_thread.run_sync(self._access.persons.get, self._user, origin)


def caller(
    services: Services, find: FindToken = bearer
) -> Callable[[HTTPConnection], Awaitable[Identity]]:
    """Return the dependency that says who calls, for `auth.Permission`."""
    access = DoorAccess(services)

    async def known(request: HTTPConnection) -> Identity:
        return await access.of_request(request, find)

    # FastAPI reads the annotation, which is a text here, where this function was made.
    known.__annotations__["request"] = HTTPConnection
    return known


def is_loopback(host: str) -> bool:
    """Say whether *host* is an address, or the name, of this machine that nobody else reaches."""
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _is_of_this_machine(scope: Mapping[str, object]) -> bool:
    ends = (scope.get("client"), scope.get("server"))
    return all(isinstance(end, (tuple, list)) and is_loopback(str(end[0])) for end in ends)


def _is_loopback_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and is_loopback(parts.hostname or "")

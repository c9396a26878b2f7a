"""
From a token to a `CurrentUser`: by the server's key, or by asking the server.

Promises: nothing of a token is believed before it is verified. With the key nobody is asked: that
is quick, works without the server, and knows nothing of projects, nor of what was revoked or
changed since the token was made. The server knows; its answer is remembered for `remember_s`
seconds. A token is never logged.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from physicsrunner.errors import NotAuthenticated, ServerUnavailable, UsageError
from physicsrunner.middlewares.user import CurrentUser
from physicsrunner.wire import rest, tokens

_MOST: Final = 10_000  # answers remembered
_ASK_S: Final = 10.0


@dataclass
class Verifier:
    """How tokens are verified, and what roles give."""

    look_up: Callable[[str], CurrentUser]
    roles: Mapping[str, Iterable[str]] = field(default_factory=dict)


_CONFIGURED: list[Verifier] = []


def configure(
    *,
    key: str | None = None,
    key_file: str | Path | None = None,
    server: str | None = None,
    roles: Mapping[str, Iterable[str]] | None = None,
    remember_s: float = 10.0,
    now: Callable[[], float] = time.time,
) -> None:
    """
    Say how the guards of this process verify tokens. Call it once, before the first request.

    Parameters
    ----------
    key, key_file
        The server's signing key, or the file with it (DATA/secret.key). Whoever has it can make
        tokens: it is for applications beside the server.
    server
        The server's address: it is asked for every token that is not remembered.
    roles
        What each role gives of the application's own permissions, such as
        ``{"user": ["resource:read"], "operator": ["resource:*"]}``.
    remember_s
        How long an answer of the server is believed.

    Raises
    ------
    UsageError
        Unless exactly one of *key*, *key_file* and *server* is given.
    """
    given = [value for value in (key, key_file, server) if value is not None]
    if len(given) != 1:
        raise UsageError("configure takes one of key, key_file and server")
    if server is not None:
        asking = _Asking(server, remember_s, now)
        made = Verifier(asking.look_up, roles or {})
    else:
        secret = key if key is not None else Path(str(key_file)).read_text().strip()
        made = Verifier(_by_key(secret, now), roles or {})
    _CONFIGURED[:] = [made]


def verifier() -> Verifier:
    """Return what `configure` said; `UsageError` where it was not called."""
    if not _CONFIGURED:
        raise UsageError("call physicsrunner.middlewares.configure(server=URL) first")
    return _CONFIGURED[0]


def _by_key(key: str, now: Callable[[], float]) -> Callable[[str], CurrentUser]:
    if len(key) < 32:
        raise UsageError("that is no key; it lies in DATA/secret.key")

    def look_up(token: str) -> CurrentUser:
        claims = tokens.verify(key, token, now=now())
        if claims.kind == "enroll":
            raise NotAuthenticated("a one-time token is good for an agent alone")
        return CurrentUser(
            name=_name(claims.kind, claims.subject),
            kind=claims.kind,
            role=claims.role,
            scopes=None if claims.scopes is None else frozenset(claims.scopes),
            project=claims.project,
            run=claims.run,
            expires=claims.expires,
        )

    return look_up


class _Asking:
    """Asks the server who bears a token. Thread-safe."""

    def __init__(self, server: str, remember_s: float, now: Callable[[], float]) -> None:
        self._url = server.rstrip("/") + rest.WHOAMI
        self._remember_s = remember_s
        self._now = now
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, CurrentUser]] = {}

    def look_up(self, token: str) -> CurrentUser:
        name = hashlib.sha256(token.encode()).hexdigest()  # no tokens lie about in memory
        now = self._now()
        found = self._known.get(name)
        if found is not None and 0 <= now - found[0] < self._remember_s:
            if found[1].expires is not None and now > found[1].expires:
                raise NotAuthenticated("the token has expired")
            return found[1]
        user = _user_of(_asked(self._url, token))
        with self._lock:
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[name] = (now, user)
        return user


def _asked(url: str, token: str) -> Mapping[str, Any]:
    import requests

    try:
        answer = requests.get(
            url, headers={"Authorization": f"Bearer {token}"}, timeout=_ASK_S, auth=_as_it_is
        )
    except requests.RequestException as error:
        raise ServerUnavailable(f"nobody says whose token it is: {type(error).__name__}") from None
    if answer.status_code in (401, 403):
        raise NotAuthenticated("the token is not good")
    if answer.status_code != 200:
        raise ServerUnavailable(f"the server answered {answer.status_code} to whose token it is")
    found = answer.json()
    if not isinstance(found, dict) or not found.get("subject") or found.get("kind") == "enroll":
        raise NotAuthenticated("the token is not good")
    return found


def _as_it_is(request: Any) -> Any:
    return request  # or a ~/.netrc would put its password in the place of the token


def _name(kind: str, subject: str) -> str:
    """Return how the bearer is called: a machine never as a person, whatever somebody called it."""
    return subject if kind == "user" else f"agent:{subject}"


def _user_of(found: Mapping[str, Any]) -> CurrentUser:
    scopes = found.get("scopes")
    return CurrentUser(
        name=_name(str(found.get("kind", "user")), str(found["subject"])),
        kind=str(found.get("kind", "user")),
        role=found.get("role"),
        projects=dict(found.get("projects") or {}),
        scopes=None if scopes is None else frozenset(scopes),
        project=found.get("project"),
        run=found.get("run"),
        expires=found.get("expires"),
    )

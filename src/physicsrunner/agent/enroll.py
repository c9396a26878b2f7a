"""
How an agent becomes known to its server, and stays so: ``WORK/agent.json``.

Promises: a one-time token is exchanged once for the agent's own, which is kept with mode 0600; an
answer that was lost is asked for again with the same nonce and costs nothing. A kept token needs
no server to start with: what is unfinished can be taken up while the server is away. A server that
moved to another address is recognised by its taking the token. No token is ever in a message.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import jwt

from physicsrunner.client.http import Http
from physicsrunner.core.retry import Backoff
from physicsrunner.errors import (
    AgentRefused,
    Conflict,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    PhysicsRunnerError,
    StorageFull,
)
from physicsrunner.wire import rest
from physicsrunner.wire.codec import decode, encode
from physicsrunner.wire.messages import Enrolled, Enrollment

KEPT: Final = "agent.json"
_MAKE_ONE: Final = "make a one-time token with `physicsrunner agents enroll`"


@dataclass(frozen=True)
class Credentials:
    """Who the agent is, and to whom."""

    server: str
    name: str
    token: str | None = field(default=None, repr=False)
    nonce: str | None = field(default=None, repr=False)  #: of an enrollment under way


@dataclass(frozen=True)
class Asked:
    """What the command was given."""

    server: str
    name: str | None = None
    token: str | None = field(default=None, repr=False)  #: to be used as it is
    enroll_token: str | None = field(default=None, repr=False)


def credentials(
    work: Path,
    asked: Asked,
    host: Mapping[str, Any],
    *,
    stopped: Callable[[float], bool],
    random: Callable[[], float],
    log: logging.Logger,
) -> Credentials | None:
    """
    Return who the agent is, enrolling it if need be; None when it was stopped meanwhile.

    Parameters
    ----------
    stopped
        Waits so many seconds; says whether the agent is to end.

    Raises
    ------
    AgentRefused
        There is no token, or the server does not take it.
    """
    if asked.token:
        name = asked.name or subject_of(asked.token) or socket.gethostname()
        return Credentials(asked.server, name, asked.token)
    kept = read(work)
    if kept is not None and kept.token:
        known = _known(work, kept, asked, log)
        if known is not None:
            return known
    if not asked.enroll_token:
        raise AgentRefused(f"there is no token for {asked.server} in {work}: {_MAKE_ONE}")
    return _enroll(work, kept, asked, host, stopped=stopped, random=random, log=log)


def read(work: Path) -> Credentials | None:
    """Return what an earlier start kept."""
    path = work / KEPT
    try:
        return decode(Credentials, json.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, PhysicsRunnerError) as error:
        raise AgentRefused(f"{path} cannot be read ({error}); {_MAKE_ONE}") from None


def kind_of(token: str) -> str | None:
    """Return what kind of token it says it is. Whether it is good, the server says."""
    kind = _claims(token).get("kind")
    return kind if isinstance(kind, str) else None


def subject_of(token: str) -> str | None:
    """Return the name in an agent's token."""
    name = _claims(token).get("sub")
    return name if kind_of(token) == "agent" and isinstance(name, str) else None


def _claims(token: str) -> Mapping[str, Any]:
    try:
        claims: Mapping[str, Any] = jwt.decode(token, options={"verify_signature": False})
    except jwt.InvalidTokenError:
        return {}
    return claims


def _known(work: Path, kept: Credentials, asked: Asked, log: logging.Logger) -> Credentials | None:
    """Return what was kept, if it is still good or nobody can say; None: enroll again."""
    if asked.name and asked.name != kept.name:
        raise AgentRefused(
            f"{work} belongs to agent {kept.name}, not {asked.name}: give each agent a --work"
        )
    moved = kept.server != asked.server
    here = replace(kept, server=asked.server)
    if not moved and not asked.enroll_token:
        return here
    try:
        _whoami(here)
    except (NotAuthenticated, NotAllowed):
        if not moved and asked.enroll_token:
            log.info("the server takes the kept token no more: enrolling again")
            return None
        raise AgentRefused(
            f"{work} belongs to agent {kept.name} of {kept.server}, and {asked.server} does not "
            "take its token: give an agent of another server a --work of its own"
        ) from None
    except PhysicsRunnerError as error:
        log.info("going on with the token of %s: %s", work / KEPT, error)
        return here
    if moved:
        log.info("the server has moved from %s to %s", kept.server, asked.server)
        _write(work, here)
    return here


def _whoami(who: Credentials) -> None:
    http = Http(who.server, who.token)
    try:
        http.value("GET", rest.WHOAMI)
    finally:
        http.close()


def _enroll(
    work: Path,
    kept: Credentials | None,
    asked: Asked,
    host: Mapping[str, Any],
    *,
    stopped: Callable[[float], bool],
    random: Callable[[], float],
    log: logging.Logger,
) -> Credentials | None:
    name = asked.name or (kept.name if kept else None) or socket.gethostname()
    begun = Credentials(asked.server, name, nonce=uuid.uuid4().hex)
    if kept is not None and not kept.token and (kept.server, kept.name) == (asked.server, name):
        begun = replace(begun, nonce=kept.nonce or begun.nonce)  # an answer may have been lost
    _write(work, begun)
    message = Enrollment(name, begun.nonce or "", dict(host))
    backoff, tries = Backoff(base=0.5, cap=15.0), 0
    http = Http(asked.server, asked.enroll_token)
    try:
        while True:
            try:
                answer = http.value("POST", rest.ENROLL, json=encode(message))
                enrolled = decode(Enrolled, answer)
                break
            except (NotAuthenticated, NotAllowed, NotFound, Conflict) as error:
                raise AgentRefused(f"{asked.server} did not enroll agent {name}: {error}") from None
            except PhysicsRunnerError as error:
                if not error.retryable:
                    raise
                tries += 1
                log.info("waiting for the server to enroll: %s", error)
                if stopped(backoff.wait(tries, random=random)):
                    return None
    finally:
        http.close()
    found = Credentials(asked.server, enrolled.name, enrolled.token)
    _write(work, found)
    log.info("enrolled as %s", found.name)
    return found


def _write(work: Path, who: Credentials) -> None:
    path = work / KEPT
    temporary = path.with_name(f".{KEPT}.part")
    try:
        temporary.unlink(missing_ok=True)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(asdict(who), file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise StorageFull(f"{path} cannot be written: {error.strerror or error}") from error

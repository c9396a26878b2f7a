"""
Tickets: one file each, for somebody who sends no token, for some minutes.

Promises: a ticket is given to who may read the file, and is good for that file alone, of that
attempt or of that version of a model. When it is used its person must still be there and may still
have to read the file; after `LIFETIME_S` it is good for nothing.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from physicsrunner.core.paths import check_path
from physicsrunner.errors import NotFound
from physicsrunner.service.access import AccessService, Identity
from physicsrunner.service.files import FileService
from physicsrunner.service.models import ModelService
from physicsrunner.service.runs import RunService
from physicsrunner.wire import tickets
from physicsrunner.wire.tickets import Ticket

LIFETIME_S: Final = 300.0


@dataclass(frozen=True)
class Issued:
    """A ticket that was just made."""

    text: str
    path: str  #: of the file
    expires: float  #: POSIX seconds


@dataclass(frozen=True)
class Opened:
    """The file that a ticket leads to."""

    local: Path
    path: str  #: as its run or model has it
    sha256: str | None = None  #: of a sealed file


@dataclass(frozen=True)
class Member:
    """The file of a model that a ticket leads to: packed, in its bundle."""

    bundle: Path
    name: str
    size: int  #: bytes, unpacked
    tag: str  #: the same for the same bytes


class TicketService:
    """Gives and takes tickets. Thread-safe."""

    def __init__(
        self,
        access: AccessService,
        files: FileService,
        runs: RunService,
        models: ModelService,
        key: str,
        *,
        now: Callable[[], float],
    ) -> None:
        self._access = access
        self._files = files
        self._runs = runs
        self._models = models
        self._key = key
        self._now = now

    def of_file(
        self, identity: Identity, run: str, path: str, attempt: int | None = None
    ) -> Issued:
        """Return a ticket for a file of a run: of *attempt*, the published one, or the latest."""
        found = self._runs.get(identity, run)
        number = attempt or found.published_attempt or found.attempt
        if not number:
            raise NotFound(f"run {found.number} has no files: nobody has carried it out")
        self._files.stat(identity, found.id, path, number)
        return self._issued(identity, path, run=found.id, attempt=number)

    def of_model(self, identity: Identity, model: str, version: str, path: str) -> Issued:
        """Return a ticket for a file of a model's bundle."""
        row = self._models.usable(identity, model, version)
        _member(self._models.content(row.version), path)
        return self._issued(identity, path, model=row.id, version=row.version)

    def open(self, text: str, origin: str | None = None) -> Opened | Member:
        """
        Return the file that a ticket is for.

        Raises
        ------
        NotAuthenticated, TokenExpired
            If it is none of ours, or its time is over.
        NotFound
            If the file is there no more.
        """
        ticket = tickets.verify(self._key, text, now=self._now())
        identity = self._bearer(ticket, origin)
        if ticket.model is not None and ticket.version is not None:
            self._models.usable(identity, ticket.model, ticket.version)
            bundle = self._models.content(ticket.version)
            found = _member(bundle, ticket.path)
            return Member(bundle, found.filename, found.file_size, _tag(ticket.version, found))
        run = ticket.run or ""
        local = self._files.path(identity, run, ticket.path, ticket.attempt)
        sha256 = self._files.stat(identity, run, ticket.path, ticket.attempt).sha256
        return Opened(local, ticket.path, sha256)

    def _issued(
        self,
        identity: Identity,
        path: str,
        *,
        run: str | None = None,
        attempt: int | None = None,
        model: str | None = None,
        version: str | None = None,
    ) -> Issued:
        ticket = Ticket(
            identity.kind,
            identity.subject,
            self._now() + LIFETIME_S,
            path,
            run,
            attempt,
            model,
            version,
            identity.run,
            identity.attempt,
        )
        return Issued(tickets.issue(self._key, ticket), path, ticket.expires)

    def _bearer(self, ticket: Ticket, origin: str | None) -> Identity:
        if ticket.bearer == "user":
            return self._access.persons.get(ticket.subject, origin)
        return Identity(
            ticket.bearer,
            ticket.subject,
            run=ticket.of_run,
            attempt=ticket.of_attempt,
            origin=origin,
        )


def _tag(version: str, found: zipfile.ZipInfo) -> str:
    return f"{version}-{found.CRC:08x}"


def _member(bundle: Path, path: str) -> zipfile.ZipInfo:
    """Return the file *path* of a bundle; raise `NotFound` or `UnsafePath`."""
    wanted = check_path(path)
    with zipfile.ZipFile(bundle) as archive:
        for info in archive.infolist():
            if not info.is_dir() and info.filename == wanted:
                return info
    raise NotFound(f"the model has no file {path!r}")

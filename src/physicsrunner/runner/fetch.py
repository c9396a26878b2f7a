"""
Fetching one file from the server to disk.

Promises: the file appears at its place only when it is whole and verified (size and SHA-256 where
they are known); a transfer that was cut, also by a kill of this process, goes on where it was;
memory stays bounded. It gives up after `patience_s` seconds without any new byte.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from physicsrunner.core.retry import Backoff
from physicsrunner.errors import (
    DigestMismatch,
    PhysicsRunnerError,
    ServerUnavailable,
    StorageFull,
)

_CHUNK = 1024 * 1024


class Stopped(PhysicsRunnerError):
    """The run was asked to stop while something was waited for."""

    code = "cancelled"
    exit_code = 3
    what_to_do = "Nothing: it was asked for."


class Fetches(Protocol):
    """The part of an uplink that is needed here."""

    def fetch(self, url: str, *, offset: int = 0) -> Any:
        """Open the file at *url* from *offset* on."""
        ...


@dataclass(frozen=True)
class Patience:
    """How tries are repeated: the clock, the chance and the limit, as arguments."""

    now: Callable[[], float]
    sleep: Callable[[float], None]
    random: Callable[[], float]
    stopped: Callable[[], bool]
    patience_s: float
    on_wait: Callable[[Exception], None] | None = None  #: hears why something is waited for
    passing: tuple[type[PhysicsRunnerError], ...] = (ServerUnavailable,)  #: tried again
    backoff: Backoff = field(default_factory=lambda: Backoff(base=0.2, cap=15.0))

    def repeat(self, action: Callable[[], Any], *, moved: Callable[[], int] = lambda: 0) -> Any:
        """
        Call *action* until it answers; return its answer.

        Only errors that are `passing` are tried again, until *patience_s* have passed since the
        last try for which ``moved()`` had grown.
        """
        tries, since, before = 0, self.now(), moved()
        while True:
            if self.stopped():
                raise Stopped("stopped on request")
            try:
                return action()
            except self.passing as error:
                if moved() > before:
                    tries, since, before = 0, self.now(), moved()
                tries += 1
                wait = self.backoff.wait(
                    tries, random=self.random, retry_after=getattr(error, "retry_after", None)
                )
                if self.now() + wait - since > self.patience_s:
                    raise
                if self.on_wait is not None:
                    self.on_wait(error)
                self._pause(wait)

    def _pause(self, seconds: float) -> None:
        """Sleep in short pieces, so that a request to stop is heard."""
        until = self.now() + seconds
        while not self.stopped() and (left := until - self.now()) > 0:
            self.sleep(min(left, 0.2))


def fetch_file(
    uplink: Fetches,
    url: str,
    target: Path,
    *,
    part: Path,
    size: int | None,
    sha256: str | None,
    patience: Patience,
) -> str:
    """
    Fetch *url* into *target* by way of *part*; return the SHA-256.

    Raises
    ------
    DigestMismatch
        What came is not what was announced, twice.
    ServerUnavailable, Stopped, StorageFull
        As their names say; *part* stays, and the next call goes on from it.
    """
    part.parent.mkdir(parents=True, exist_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    for last in (False, True):
        transfer = _Transfer(uplink, url, part, size)
        patience.repeat(transfer.go, moved=transfer.position)
        digest = transfer.digest.hexdigest()
        problem = _problem(transfer.offset, digest, size, sha256)
        if problem is None:
            part.replace(target)
            return digest
        part.unlink(missing_ok=True)
        if last:
            raise DigestMismatch(f"{target.name}: {problem}")
    raise AssertionError("unreachable")


class _Transfer:
    """One file on its way; `go` may be called again after it failed."""

    def __init__(self, uplink: Fetches, url: str, part: Path, size: int | None) -> None:
        self._uplink = uplink
        self._url = url
        self._part = part
        self._size = size
        self.digest = hashlib.sha256()
        self.offset = 0
        self._read_part()

    def _read_part(self) -> None:
        if not self._part.exists():
            return
        # Without a size to reach, nobody could tell a whole part from a cut one.
        if self._size is None or self._part.stat().st_size > self._size:
            self._part.unlink()
            return
        with self._part.open("rb") as file:
            while data := file.read(_CHUNK):
                self.digest.update(data)
                self.offset += len(data)

    def position(self) -> int:
        """Return how many bytes have come."""
        return self.offset

    def go(self) -> None:
        """Fetch from where it stands to the end."""
        if self._size is not None and self.offset >= self._size:
            self._part.touch()
            return
        with self._uplink.fetch(self._url, offset=self.offset) as chunks, self._open() as out:
            for data in chunks:
                self._write(out, data)
                self.digest.update(data)
                self.offset += len(data)
        if self._size is not None and self.offset < self._size:
            raise ServerUnavailable(f"{self._url} ended at byte {self.offset} of {self._size}")

    def _open(self) -> IO[bytes]:
        try:
            # Unbuffered: what is counted is in the file, also when the next write fails.
            out = self._part.open("ab", buffering=0)
            out.truncate(self.offset)
        except OSError as error:
            raise StorageFull(f"cannot write {self._part}: {error}") from error
        return out

    def _write(self, out: IO[bytes], data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[out.write(view) :]
        except OSError as error:
            raise StorageFull(f"cannot write {self._part}: {error}") from error


def _problem(offset: int, digest: str, size: int | None, sha256: str | None) -> str | None:
    if size is not None and offset != size:
        return f"{offset} bytes came, {size} were announced"
    if sha256 and digest != sha256:
        return f"its SHA-256 is {digest}, announced was {sha256}"
    return None

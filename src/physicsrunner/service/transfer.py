"""
One append or write of a frame: its bytes, as they come, into the spool.

Promises:

- Bytes that the server has already are compared, not written again: a repeat after a lost answer is
  success, other bytes are `OffsetMismatch`.
- A sealed file is unsealed in the store before its first byte changes.
- Whoever began later on the same file wins: the rest of the earlier one is refused, so that a frame
  that hangs in a half-open line can never write over what came after it.
- After an error the rest of the operation's bytes is skipped, and ``end`` says what is stored.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

from physicsrunner.errors import (
    InvalidRequest,
    OffsetMismatch,
    PhysicsRunnerError,
    ServerUnavailable,
)
from physicsrunner.service.attempts import AttemptFiles
from physicsrunner.service.tails import LOGS, Tails
from physicsrunner.store.direct import DirectFile, open_direct
from physicsrunner.store.spool import SpoolFile, translated
from physicsrunner.wire.messages import SyncOp, SyncResult

_LARGE: Final = 8 * 1024 * 1024  # bytes of an operation that is written past the page cache


def superseded(path: str) -> ServerUnavailable:
    """Return the error of an operation that a later one on the same file overtook."""
    return ServerUnavailable(f"{path}: another request writes it now; ask what is stored")


def failed(error: PhysicsRunnerError, offset: int) -> SyncResult:
    """Return the result of an operation that *error* ended with *offset* bytes stored."""
    return SyncResult(offset=offset, error=error.code, detail=str(error), retryable=error.retryable)


class Transfer:
    """The bytes of one operation on one file."""

    def __init__(
        self,
        attempt: AttemptFiles,
        file: SpoolFile,
        op: SyncOp,
        owner: object,
        tails: Tails,
        *,
        amend: bool,
    ) -> None:
        self._attempt = attempt
        self._file = file
        self._owner = owner
        self._tails = tails
        self._amend = amend
        self._descriptor: int | None = None
        self._writing = False
        self._direct: DirectFile | None = None
        self._size = 0
        self._error: PhysicsRunnerError | None = None
        self._position = 0
        self._large = False
        self._compare_to = 0  # bytes before this are stored already and must be the same
        try:
            self._begin(op)
        except PhysicsRunnerError as error:
            self._error = error

    def take(self, data: memoryview) -> None:
        """Take the next bytes; skip them if the operation has failed."""
        if self._error is not None:
            return
        try:
            rest = self._compared(data)
            if rest:
                self._write(rest)
        except PhysicsRunnerError as error:
            self._error = error

    def end(self) -> SyncResult:
        """Let go of the file; return what became of the operation."""
        stored = max(self._size, self._position)
        self._end_direct()
        if self._error is not None:
            with suppress(PhysicsRunnerError):
                stored = self._file.size() or 0
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        return SyncResult(stored) if self._error is None else failed(self._error, stored)

    def _begin(self, op: SyncOp) -> None:
        offset = op.offset
        if offset is None or offset < 0 or op.length is None:
            raise InvalidRequest(f"{op.op} needs offset and length, not under 0")
        self._position = offset
        self._descriptor = self._file.open(create=offset == 0)
        if self._descriptor is not None:
            self._size = os.fstat(self._descriptor).st_size
        if offset > self._size:
            self._position = 0
            raise OffsetMismatch(f"{op.path}: {self._size} bytes are stored, not {offset}")
        if op.op == "append":
            self._compare_to = self._size
        self._large = op.length >= _LARGE and not op.path.startswith(LOGS)

    def _compared(self, data: memoryview) -> memoryview:
        """Compare what is stored already; return the rest."""
        count = min(len(data), self._compare_to - self._position)
        if count <= 0:
            return data
        if os.pread(self._opened(), count, self._position) != data[:count]:
            self._position = 0
            raise OffsetMismatch(f"{self._file.path}: other bytes are stored there already")
        self._position += count
        return data[count:]

    def _write(self, data: memoryview) -> None:
        file, descriptor = self._file, self._opened()
        if not self._writing:
            self._start_writing()
        with file.lock:
            if file.owner is not self._owner:
                raise superseded(file.path)
            if not self._writing:
                self._writing = True
                file.follow(self._size, self._position)
                # Not into the middle of a file: its cached pages and direct writes do not mix.
                if self._large and self._position == self._size:
                    self._direct = open_direct(file.local, descriptor, self._position)
            file.write(descriptor, data, self._position, direct=self._direct)
        self._tails.wrote(self._attempt, file, self._position, data)
        self._position += len(data)

    def _end_direct(self) -> None:
        """Store what is still in the buffer, unless another operation has the file now."""
        direct, self._direct = self._direct, None
        if direct is None:
            return
        with self._file.lock:
            try:
                if self._file.owner is self._owner:
                    with translated(self._file.path):
                        direct.close()
                else:
                    direct.drop()
                    raise superseded(self._file.path)
            except PhysicsRunnerError as error:
                if self._file.owner is self._owner:
                    self._file.digest = None
                self._error = self._error or error

    def _opened(self) -> int:
        if self._descriptor is None:
            raise ServerUnavailable(f"{self._file.path}: the file is not open")
        return self._descriptor

    def _start_writing(self) -> None:
        with self._attempt.lock:
            if self._file.owner is not self._owner:
                raise superseded(self._file.path)
            self._attempt.unseal(self._file.path, amend=self._amend)

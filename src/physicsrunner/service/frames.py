"""
A frame on its way into the spool: operations in order, bytes as they come.

Promises:

- One result for each operation, in order, also when some fail. A failing operation's bytes are
  skipped, the rest goes on.
- Memory is bounded by the pieces that are fed.
- What is sealed in a frame is flushed to the disk by one group commit, then written to the store in
  one transaction with one event for each attempt, and only then answered. What the frame reports
  may be part of that transaction; should it fail, the seals stand all the same.
- A body that was cut leaves the bytes that came; nothing of it is sealed.

A writer is used by one thread at a time, for one frame.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Final

from physicsrunner.core.paths import check_path
from physicsrunner.errors import (
    BadFrame,
    DigestMismatch,
    InvalidRequest,
    NotFound,
    OffsetMismatch,
    PhysicsRunnerError,
)
from physicsrunner.service.attempts import AttemptFiles, OpenAttempts, Taking
from physicsrunner.service.tails import Tails
from physicsrunner.service.transfer import Transfer, failed, superseded
from physicsrunner.store.base import FileRow
from physicsrunner.store.flush import Flusher
from physicsrunner.store.rows import Actor
from physicsrunner.store.spool import SpoolFile, translated
from physicsrunner.wire import live
from physicsrunner.wire.live import Event
from physicsrunner.wire.messages import SyncOp, SyncResult

_LISTED: Final = 100  # files that a seal event names; it counts them all
_CARRIES: Final = ("append", "write")

#: (run, attempt) -> the attempt's files, or why the caller may not write there.
Targets = Mapping[tuple[str, int], AttemptFiles | PhysicsRunnerError]


@dataclass(frozen=True)
class _Seal:
    """A file whose digest was right and that waits for the group commit."""

    place: int
    attempt: AttemptFiles
    file: SpoolFile
    version: int
    row: FileRow


class FrameWriter:
    """Carries out the operations of one frame. `finish` or `abort` must be called."""

    def __init__(
        self,
        ops: Sequence[SyncOp],
        targets: Targets,
        *,
        attempts: OpenAttempts,
        flusher: Flusher,
        tails: Tails,
        now: Callable[[], float],
        amend: bool = False,
        by: Actor | None = None,
    ) -> None:
        self._ops = ops
        self._by = by  # named for what is sealed
        self._amend = amend  # sealed files of a published attempt may change
        self._targets = targets
        self._attempts = attempts
        self._flusher = flusher
        self._tails = tails
        self._now = now
        self._results: list[SyncResult] = []
        self._transfer: Transfer | None = None
        self._left = 0  # bytes of the present operation that have not come
        self._error: PhysicsRunnerError = InvalidRequest("no operation")  # while bytes are skipped
        self._touched: dict[int, tuple[AttemptFiles, set[str]]] = {}
        self._seals: list[_Seal] = []
        self._done = False

    def feed(self, data: bytes) -> None:
        """
        Take the next raw bytes of the frame; they must not change afterwards.

        Raises
        ------
        BadFrame
            If there are more bytes than the operations announce.
        """
        view = memoryview(data)
        while view:
            if self._left == 0:
                self._advance()
                if self._left == 0:
                    raise BadFrame("the frame has more bytes than its operations announce")
            piece = view[: self._left]
            view = view[len(piece) :]
            self._left -= len(piece)
            if self._transfer is not None:
                self._transfer.take(piece)
            if self._left == 0:
                self._end_transfer()
                self._advance()

    def finish(self, taking: Taking | None = None) -> list[SyncResult]:
        """Carry out what is left, commit the seals, with *taking* if can be; return the results."""
        self._advance()
        if self._left or len(self._results) < len(self._ops):
            missing, self._left = self._left, 0
            self.abort()
            raise BadFrame(f"the frame ends {missing} bytes early")
        try:
            self._commit(taking)
        finally:
            self._close()
        return self._results

    def abort(self) -> None:
        """Give up: the body was cut. Bytes that came stay, nothing is sealed."""
        if self._transfer is not None:
            self._transfer.end()
            self._transfer = None
        self._close()

    def _advance(self) -> None:
        """Carry out operations until one waits for bytes."""
        while self._left == 0 and len(self._results) < len(self._ops):
            op = self._ops[len(self._results)]
            carries = op.op in _CARRIES
            try:
                attempt = self._target(op)
                if carries:
                    file = self._take(attempt, op.path)
                    self._transfer = Transfer(
                        attempt, file, op, self, self._tails, amend=self._amend
                    )
                else:
                    self._results.append(self._carry_out(attempt, op))
            except PhysicsRunnerError as error:
                if not carries or not op.length:
                    self._results.append(failed(error, 0))
                    continue
                self._error = error
            if carries:
                self._left = op.length or 0
                if self._left == 0:
                    self._end_transfer()

    def _end_transfer(self) -> None:
        if self._transfer is None:
            self._results.append(failed(self._error, 0))
            return
        self._results.append(self._transfer.end())
        self._transfer = None

    def _target(self, op: SyncOp) -> AttemptFiles:
        target = self._targets[op.run, op.attempt]
        if isinstance(target, PhysicsRunnerError):
            raise target
        return target

    def _take(self, attempt: AttemptFiles, path: str) -> SpoolFile:
        with attempt.lock:
            return self._took(attempt, path)

    def _took(self, attempt: AttemptFiles, path: str) -> SpoolFile:
        file = attempt.take(path, self)
        self._touched.setdefault(id(attempt), (attempt, set()))[1].add(path)
        return file

    def _carry_out(self, attempt: AttemptFiles, op: SyncOp) -> SyncResult:
        if op.op == "seal":
            return self._seal(attempt, op)
        if op.op == "truncate":
            return self._truncate(attempt, op)
        if op.op == "remove":
            return self._remove(attempt, op)
        if op.op == "rename":
            return self._rename(attempt, op)
        raise InvalidRequest(f"{op.op!r} is no operation")

    def _truncate(self, attempt: AttemptFiles, op: SyncOp) -> SyncResult:
        size = _size(op)
        with attempt.lock:
            file = self._took(attempt, op.path)
            with file.lock:
                stored = file.size() or 0
                if size > stored:
                    return failed(OffsetMismatch(f"{op.path}: {stored} bytes are stored"), stored)
                if size < stored:
                    attempt.unseal(op.path, amend=self._amend)
                    file.truncate(size)
        return SyncResult(size)

    def _seal(self, attempt: AttemptFiles, op: SyncOp) -> SyncResult:
        size, sha256 = _size(op), (op.sha256 or "").lower()
        with attempt.lock:
            file = self._took(attempt, op.path)
            row = attempt.row(op.path)
            version = file.version
        stored = file.size()
        if stored is None and size == 0:
            descriptor = file.open(create=True)
            if descriptor is not None:
                os.close(descriptor)
            stored = 0
        if stored != size:
            detail = f"{op.path}: {stored or 0} bytes are stored, not {size}"
            return failed(OffsetMismatch(detail), stored or 0)
        if row is not None and (row.size, row.sha256) == (size, sha256):
            return SyncResult(size, sealed=True)
        found = file.seal_digest(size)
        if found != sha256:
            detail = f"{op.path}: the stored bytes have SHA-256 {found}"
            return failed(DigestMismatch(detail), size)
        if file.version != version or file.owner is not self:
            return failed(superseded(op.path), size)
        place = len(self._results)
        self._seals.append(_Seal(place, attempt, file, version, FileRow(op.path, size, found)))
        return SyncResult(size, sealed=True)

    def _remove(self, attempt: AttemptFiles, op: SyncOp) -> SyncResult:
        with attempt.lock:
            self._forget(attempt, op.path)
        return SyncResult(0)

    def _forget(self, attempt: AttemptFiles, path: str) -> None:
        """Take a file away; what was sealed is kept aside."""
        file = self._took(attempt, path)
        with file.lock:
            sealed = attempt.row(path) is not None
            attempt.unseal(path, removed_at=self._now(), amend=self._amend)
            file.version += 1
            file.digest = None
            attempt.spool.remove(attempt.run, attempt.attempt, path, keep=sealed)

    def _rename(self, attempt: AttemptFiles, op: SyncOp) -> SyncResult:
        to = check_path(op.to or "")
        with attempt.lock:
            source, target = self._took(attempt, op.path), self._took(attempt, to)
            size = source.size()
            if size is None or source is target:
                # A repeat finds the file under its new name.
                stored = target.size()
                if stored is None:
                    raise NotFound(f"there is no file {op.path!r} to rename")
                return SyncResult(stored, sealed=attempt.row(to) is not None)
            attempt.check_change(op.path, amend=self._amend)
            if target.size() is not None:
                self._forget(attempt, to)
            row = attempt.row(op.path)
            attempt.unseal(op.path, amend=self._amend)
            with source.lock, target.lock:
                attempt.spool.rename(attempt.run, attempt.attempt, op.path, to)
                source.version += 1
                target.version += 1
                target.digest, source.digest = source.digest, None
            if row is not None:
                moved = FileRow(to, row.size, row.sha256)
                place = len(self._results)
                self._seals.append(_Seal(place, attempt, target, target.version, moved))
        return SyncResult(size, sealed=row is not None)

    def _commit(self, taking: Taking | None) -> None:
        if not self._seals:
            return
        try:
            with translated("flush"):
                self._flusher.flush(self._standing())
        except PhysicsRunnerError as error:
            self._fail(self._seals, error)
            return
        by_attempt: dict[AttemptFiles, list[_Seal]] = {}
        for seal in self._seals:
            by_attempt.setdefault(seal.attempt, []).append(seal)
        ending = None if taking is None else self._held_for(taking)
        if ending is None:
            taking = None
        try:
            self._commit_attempts(by_attempt, taking, ending or ())
        except PhysicsRunnerError as error:
            if len(by_attempt) == 1 and taking is None:
                self._fail(self._seals, error)
                return
            for attempt, seals in by_attempt.items():  # what one fails of harms no other
                try:
                    self._commit_attempts({attempt: seals})
                except PhysicsRunnerError as its_own:
                    self._fail(seals, its_own)

    def _held_for(self, taking: Taking) -> list[AttemptFiles] | None:
        """Return the attempts that *taking* wants to be held; None: one of them is not ours."""
        wanted = [self._targets.get(key) for key in taking.ending]
        ours = [target for target in wanted if isinstance(target, AttemptFiles)]
        return ours if len(ours) == len(wanted) else None

    def _standing(self) -> list[str]:
        """Return the files to flush: those that nobody has changed again."""
        return [
            seal.file.name
            for seal in self._seals
            if seal.file.version == seal.version and seal.file.owner is self
        ]

    def _commit_attempts(
        self,
        by_attempt: Mapping[AttemptFiles, Sequence[_Seal]],
        taking: Taking | None = None,
        ending: Collection[AttemptFiles] = (),
    ) -> None:
        rows: dict[AttemptFiles, list[FileRow]] = {}
        with ExitStack() as locked:
            for attempt in sorted({*by_attempt, *ending}, key=lambda one: (one.run, one.attempt)):
                locked.enter_context(attempt.lock)
            for attempt in ending:
                locked.callback(attempt.refresh_for_others)
            for attempt, seals in by_attempt.items():
                standing = {
                    seal.row.path: seal.row
                    for seal in seals
                    # It is stored where only what came after it has failed.
                    if self._stands(seal) and attempt.row(seal.row.path) != seal.row
                }
                if standing:
                    rows[attempt] = list(standing.values())
            if rows:
                events = [_sealed(attempt, some, self._now()) for attempt, some in rows.items()]
                take = None if taking is None else partial(taking.take, self._results)
                self._attempts.seal(rows, events, self._by, take)

    def _stands(self, seal: _Seal) -> bool:
        """Say whether a file may be sealed: no other frame took it, and this one left it so."""
        if seal.file.owner is not self:
            self._fail([seal], superseded(seal.row.path))
            return False
        if seal.file.version != seal.version:
            self._results[seal.place] = SyncResult(seal.row.size)
            return False
        return True

    def _fail(self, seals: Sequence[_Seal], error: PhysicsRunnerError) -> None:
        for seal in seals:
            self._results[seal.place] = failed(error, seal.row.size)

    def _close(self) -> None:
        if self._done:
            return
        self._done = True
        self._tails.flush()
        for attempt, paths in self._touched.values():
            with attempt.lock:
                attempt.release(paths, self)
        for target in self._targets.values():
            if isinstance(target, AttemptFiles):
                self._attempts.leave(target)


def _size(op: SyncOp) -> int:
    if op.size is None or op.size < 0:
        raise InvalidRequest(f"{op.op} needs a size, not under 0")
    return op.size


def _sealed(attempt: AttemptFiles, rows: Sequence[FileRow], now: float) -> Event:
    listed = [{"path": row.path, "size": row.size, "sha256": row.sha256} for row in rows]
    return Event(
        type=live.SEALED,
        run=attempt.run,
        attempt=attempt.attempt,
        project=attempt.project,
        time=now,
        data={
            "simulation_id": attempt.run,
            "number": attempt.number,
            "count": len(rows),
            "bytes": sum(row.size for row in rows),
            "files": listed[:_LISTED],
        },
    )

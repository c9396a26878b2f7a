"""
The files of runs: frames in, files out.

Promises: who may write is checked once for each attempt of a frame; bytes of an attempt that lost
its lease are taken too (they lie under their own attempt and harm nobody); what is said to be
sealed is on the disk, and what is sealed and published stays as it is. Reading shows the published
attempt, or else the latest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from physicsrunner.core.lease import is_holder
from physicsrunner.core.run import RunSummary
from physicsrunner.errors import BadFrame, InvalidRequest, NotFound, PhysicsRunnerError
from physicsrunner.service.access import AccessService, Identity
from physicsrunner.service.attempts import AttemptFiles, OpenAttempts
from physicsrunner.service.feed import Feed
from physicsrunner.service.frames import FrameWriter
from physicsrunner.service.masks import Masks
from physicsrunner.service.reports import MAX_UNSEALED
from physicsrunner.service.tails import Tails
from physicsrunner.store.base import FileRow, Store
from physicsrunner.store.spool import Spool
from physicsrunner.wire.messages import BlockHashes, StoredFile, SyncOp

Files = list[StoredFile]  # inside the class, `list` is the method
_Key = tuple[str, int]  # run and attempt

MIN_BLOCK: Final = 4 * 1024
MAX_BLOCK: Final = 64 * 1024 * 1024


class FileService:
    """Artifacts. Thread-safe."""

    def __init__(
        self,
        store: Store,
        access: AccessService,
        spool: Spool,
        feed: Feed,
        masks: Masks,
        *,
        now: Callable[[], float],
    ) -> None:
        self.masks = masks  #: for who shows logs
        self._store = store
        self._access = access
        self._spool = spool
        self._feed = feed
        self._now = now
        self._attempts = OpenAttempts(store, spool)
        self.on_first: Callable[[str], None] = _ignore  #: told a run of which files begin to come

    def open_frame(
        self, identity: Identity, ops: Sequence[SyncOp], *, amend: bool = False
    ) -> FrameWriter:
        """
        Begin a frame of *ops*. ``finish`` or ``abort`` of the writer must be called.

        Operations on attempts that are not the caller's are answered by their error. *amend* is
        for a wire on which files grow after the run has ended: it may change published files.
        """
        if any((op.length or 0) < 0 for op in ops):
            raise BadFrame("an operation has a negative length")
        paths: dict[_Key, list[str]] = {}
        for op in ops:
            paths.setdefault((op.run, op.attempt), []).append(op.path)
        targets = self._targets(identity, paths)
        return FrameWriter(
            ops,
            targets,
            attempts=self._attempts,
            flusher=self._spool.flusher,
            tails=Tails(self._feed, self.masks, self._now),
            now=self._now,
            amend=amend,
            by=identity.actor,
        )

    def _targets(
        self, identity: Identity, paths: Mapping[_Key, Sequence[str]]
    ) -> dict[_Key, AttemptFiles | PhysicsRunnerError]:
        """Return the attempts that have *paths*, each entered, or why the caller may not write."""
        entered = {key: self._attempts.enter(*key, refresh=False) for key in paths}
        refused: dict[_Key, PhysicsRunnerError] = {}
        try:
            # Read after they were entered: who publishes one later tells whoever has entered it.
            runs = self._summaries({run for run, _ in paths})
            for key, target in entered.items():
                try:
                    self._admit(identity, target, runs.get(key[0]), paths[key])
                except PhysicsRunnerError as error:
                    refused[key] = error
        except BaseException:
            for target in entered.values():
                self._attempts.leave(target)
            raise
        for key in refused:
            self._attempts.leave(entered[key])
        return {**entered, **refused}

    def _summaries(self, runs: Collection[str]) -> Mapping[str, RunSummary]:
        """Return what the store says of *runs*, asked once; what it has no word of is left out."""
        try:
            return self._store.summaries([run for run in runs if run.isascii() and "\0" not in run])
        except PhysicsRunnerError:
            return {}  # each is asked for by itself, and is answered its error

    def _admit(
        self,
        identity: Identity,
        target: AttemptFiles,
        run: RunSummary | None,
        paths: Sequence[str],
    ) -> None:
        """Raise if the caller may not write to *target*; make it ready for *paths*."""
        if (
            run is None
            or identity.kind != "agent"
            or run.claimed
            or not is_holder(run, target.attempt, identity.subject)
        ):
            self._access.holder(identity, target.run, target.attempt, "files:write")
        if not target.known:
            target.known = True
            self.on_first(target.run)
        with target.lock:
            if run is None:
                target.refresh()
            else:
                target.learn(run)
            target.prefetch(path for path in paths if _is_text(path))

    def stored(self, identity: Identity, run: str, attempt: int) -> Files:
        """Return all files of an attempt with their offsets, sorted by path."""
        self._access.require(identity, "files:read", run)
        if self._store.attempt(run, attempt) is None:
            raise NotFound(f"there is no attempt {attempt} of run {run}")
        return sorted(self._files(run, attempt), key=lambda file: file.path)

    def blocks(
        self, identity: Identity, run: str, attempt: int, path: str, block_size: int
    ) -> BlockHashes:
        """Return the SHA-256 of each block of a stored file."""
        self._access.require(identity, "files:read", run)
        if not MIN_BLOCK <= block_size <= MAX_BLOCK:
            raise InvalidRequest(f"block_size must lie in {MIN_BLOCK} to {MAX_BLOCK} bytes")
        if self._store.attempt(run, attempt) is None:
            raise NotFound(f"there is no attempt {attempt} of run {run}")
        hashes, size = self._spool.blocks(run, attempt, path, block_size)
        return BlockHashes(path, size, block_size, hashes)

    def list(self, identity: Identity, run: str | int, attempt: int | None = None) -> Files:
        """Return the files of a run, sorted: of *attempt*, the published one, or the latest."""
        summary, number = self._shown(identity, run, attempt)
        return sorted(self._files(summary.id, number), key=lambda file: file.path)

    def path(
        self, identity: Identity, run: str | int, path: str, attempt: int | None = None
    ) -> Path:
        """Return where a file of a run lies, to read; raise `NotFound` or `UnsafePath`."""
        summary, number = self._shown(identity, run, attempt)
        return self._spool.existing(summary.id, number, path)

    def place(self, run: RunSummary, path: str) -> Path:
        """Return where a file of *run*, which the caller was shown, lies if it is there."""
        return self._spool.local(run.id, run.published_attempt or run.attempt, path)

    def names(self, runs: Sequence[RunSummary], folder: str) -> Sequence[Sequence[str]]:
        """
        Return the names of the files in one folder of each of *runs*, which the caller was shown.

        The database is not asked: so many lists can be leafed through.
        """
        return [
            self._spool.names(run.id, run.published_attempt or run.attempt, folder) for run in runs
        ]

    def stat(
        self, identity: Identity, run: str | int, path: str, attempt: int | None = None
    ) -> StoredFile:
        """Return size, seal and SHA-256 of one file of a run; raise `NotFound`."""
        summary, number = self._shown(identity, run, attempt)
        size = self._spool.existing(summary.id, number, path).stat().st_size
        row = self._store.sealed(summary.id, number, [path]).get(path)
        return _stored(path, size, row)

    @contextmanager
    def completing(self, attempts: Collection[tuple[str, int]]) -> Iterator[None]:
        """
        Hold the seals of *attempts* as they are while their runs are recorded as completed.

        Otherwise a file could be opened again between the look at the seals and the record.
        """
        with ExitStack() as held:
            for run, attempt in sorted(set(attempts)):  # in one order, so that nobody deadlocks
                target = self._attempts.enter(run, attempt, refresh=False)
                held.callback(self._attempts.leave, target)
                held.enter_context(target.lock)
                held.callback(target.refresh_for_others)
            yield

    def unsealed(self, run: str, attempt: int) -> Sequence[str]:
        """
        Return the paths of an attempt's files that are not sealed, sorted, at most 1,001.

        Inside `completing` what is remembered of them is asked, not the store.
        """
        # Whoever records the end holds its files as they are: what is remembered of them is so.
        target = self._attempts.held(run, attempt)
        if target is not None and target.is_sealed():
            return []
        if not self._spool.has(run, attempt):
            return []
        rows = self._store.sealed(run, attempt) if target is None else target.all_rows()
        found = (file.path for file in self._files(run, attempt, rows) if not file.sealed)
        return sorted(path for path, _ in zip(found, range(MAX_UNSEALED + 1), strict=False))

    def _files(
        self, run: str, attempt: int, rows: Mapping[str, FileRow] | None = None
    ) -> Iterator[StoredFile]:
        if rows is None:
            rows = self._store.sealed(run, attempt)
        for path, size in self._spool.files(run, attempt):
            yield _stored(path, size, rows.get(path))

    def _shown(
        self, identity: Identity, run: str | int, attempt: int | None
    ) -> tuple[RunSummary, int]:
        key = int(run) if isinstance(run, str) and run.isdecimal() and len(run) < 18 else run
        summary = self._store.summary(key)
        if summary is None:
            raise NotFound(f"there is no run {run}")
        self._access.require(identity, "files:read", summary, asked=run)
        return summary, attempt or summary.published_attempt or summary.attempt


def _ignore(_run: str) -> None:
    """Do nothing."""


def _is_text(path: str) -> bool:
    """Say whether a database can be asked for *path*; what cannot is refused by its operation."""
    try:
        return path.isascii() or bool(path.encode())
    except UnicodeEncodeError:
        return False


def _stored(path: str, size: int, row: FileRow | None) -> StoredFile:
    sealed = row is not None and row.size == size
    return StoredFile(path, size, sealed, row.sha256 if row is not None and sealed else None)

"""A server in memory that keeps the promises of the sync endpoint, and faults on demand."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from physicsrunner.client.body import FileSlice
from physicsrunner.client.uplink import ALL_OPERATIONS, Outgoing
from physicsrunner.errors import ServerUnavailable
from physicsrunner.wire.messages import BlockHashes, StoredFile, SyncOp, SyncResult


@dataclass
class Spooled:
    """One stored file."""

    data: bytearray = field(default_factory=bytearray)
    sealed: str | None = None


@dataclass
class ModelServer:
    """
    Keeps what is sent, by (run, attempt) and path.

    ``fault`` is asked before every call and returns None or one of: "away" (nothing happens),
    "lost" (carried out, the answer is lost), or a number of operations after which it is cut, in
    the middle of the next one's bytes.
    """

    operations: frozenset[str] = ALL_OPERATIONS
    fault: Callable[[str], str | int | None] = lambda _: None
    files_of: dict[tuple[str, int], dict[str, Spooled]] = field(default_factory=dict)
    bytes_received: int = 0
    frames: list[list[SyncOp]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    # -- the uplink ------------------------------------------------------------------------------

    def files(self, run: str, attempt: int) -> dict[str, StoredFile]:
        fault = self.fault("files")
        if fault is not None:
            raise ServerUnavailable("model: away")
        with self.lock:
            return {
                path: StoredFile(path, len(file.data), file.sealed is not None, file.sealed)
                for path, file in self._spool(run, attempt).items()
            }

    def blocks(self, run: str, attempt: int, path: str, block_size: int) -> BlockHashes:
        if self.fault("blocks") is not None:
            raise ServerUnavailable("model: away")
        with self.lock:
            file = self._spool(run, attempt).get(path, Spooled())
            data = bytes(file.data)
        hashes = [
            hashlib.sha256(data[at : at + block_size]).hexdigest()
            for at in range(0, len(data), block_size)
        ]
        return BlockHashes(path, len(data), block_size, hashes)

    def send(self, batch: Sequence[Outgoing]) -> list[SyncResult]:
        fault = self.fault("send")
        if fault == "away":
            raise ServerUnavailable("model: away")
        results: list[SyncResult] = []
        with self.lock:
            self.frames.append([item.op for item in batch])
            for index, item in enumerate(batch):
                cut = isinstance(fault, int) and index >= fault
                results.append(self._carry_out(item, cut=cut))
                if cut:
                    raise ServerUnavailable("model: cut")
        if fault == "lost":
            raise ServerUnavailable("model: the answer is lost")
        return results

    # -- the spool -------------------------------------------------------------------------------

    def content(self, run: str, attempt: int) -> dict[str, bytes]:
        """Return all stored bytes, by path."""
        return {path: bytes(file.data) for path, file in self._spool(run, attempt).items()}

    def unsealed(self, run: str, attempt: int) -> list[str]:
        """Return the paths that are not sealed by the SHA-256 of what is stored."""
        return [
            path
            for path, file in self._spool(run, attempt).items()
            if file.sealed != hashlib.sha256(file.data).hexdigest()
        ]

    def _spool(self, run: str, attempt: int) -> dict[str, Spooled]:
        return self.files_of.setdefault((run, attempt), {})

    def _carry_out(self, item: Outgoing, *, cut: bool) -> SyncResult:
        op, spool = item.op, self._spool(item.op.run, item.op.attempt)
        assert op.op in self.operations, f"{op.op} was sent and is not offered"
        if op.op in ("append", "write"):
            data, short = _bytes_of(item)
            self.bytes_received += len(data)
            if cut:
                data = data[: len(data) // 2]
            result = self._put(spool, op, data)
            if short and result.error is None:
                return SyncResult(result.offset, error="source_changed", retryable=True)
            return result
        if cut:
            return SyncResult(0)
        if op.op == "remove":
            spool.pop(op.path, None)
            return SyncResult(0)
        if op.op == "seal":
            return self._seal(spool, op)
        file = spool.get(op.path)
        if file is None:
            return SyncResult(0, error="not_found", detail=f"no file {op.path}")
        if op.op == "rename":
            assert op.to is not None
            if op.to in spool:
                return SyncResult(len(file.data), error="conflict", detail="the target is there")
            spool[op.to] = spool.pop(op.path)
            return SyncResult(len(file.data))
        assert op.size is not None
        if op.size > len(file.data):
            return SyncResult(len(file.data), error="offset_mismatch")
        del file.data[op.size :]
        file.sealed = None
        return SyncResult(len(file.data))

    def _put(self, spool: dict[str, Spooled], op: SyncOp, data: bytes) -> SyncResult:
        assert op.offset is not None
        # A folder cannot be where a file is, nor the other way round. (A wire that cannot remove
        # keeps files under names of its own, without folders.)
        for path in spool if "remove" in self.operations else ():
            if path.startswith(op.path + "/") or op.path.startswith(path + "/"):
                return SyncResult(0, error="conflict", detail=f"{path} is in the way")
        file = spool.get(op.path)
        if file is None:
            if op.offset:
                return SyncResult(0, error="offset_mismatch")
            file = spool[op.path] = Spooled()
        stored = file.data
        if "write" not in self.operations and op.offset == 0:
            stored.clear()
        if op.offset > len(stored):
            return SyncResult(len(stored), error="offset_mismatch")
        end = op.offset + len(data)
        if op.op == "append" and op.offset < len(stored):
            both = min(end, len(stored))
            if stored[op.offset : both] != data[: both - op.offset]:
                return SyncResult(len(stored), error="offset_mismatch")
            data, at = data[both - op.offset :], len(stored)
            if not data:
                return SyncResult(len(stored))
        else:
            at = op.offset
        stored[at : at + len(data)] = data
        file.sealed = None
        return SyncResult(len(stored))

    def _seal(self, spool: dict[str, Spooled], op: SyncOp) -> SyncResult:
        file = spool.get(op.path)
        if file is None and op.size == 0:
            file = spool[op.path] = Spooled()
        size = len(file.data) if file is not None else 0
        if file is None or size != op.size:
            return SyncResult(size, error="offset_mismatch")
        if hashlib.sha256(file.data).hexdigest() != op.sha256:
            return SyncResult(size, error="digest_mismatch")
        file.sealed = op.sha256
        return SyncResult(size, sealed=True)


def _bytes_of(item: Outgoing) -> tuple[bytes, bool]:
    op = item.op
    assert op.length is not None
    assert op.offset is not None
    assert item.source is not None, "an uplink may need the file"
    if item.data is not None:
        assert len(item.data) == op.length
        return bytes(item.data), False
    part = FileSlice(item.source, op.offset, op.length)
    data = b"".join(bytes(piece) for piece in _pieces(part))
    assert len(data) == op.length
    return data, part.short


def _pieces(part: FileSlice) -> Iterator[memoryview]:
    yield from part.pieces()

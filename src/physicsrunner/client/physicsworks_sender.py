"""
The bytes of one run on their way to a PhysicsWorks server.

Promises:

- ``storage/append`` has no offset. When its answer is lost, nobody knows whether the bytes are
  there: the file begins anew under a fresh stored name, so nothing is doubled and nothing missing.
- ``storage/chunks`` has an index. Its chunks are sent again where an answer was lost, and go on
  where a call failed. A file of an exact multiple of 5 MiB ends with one empty chunk.
- A file is sealed only when each of its bytes was answered with success and the SHA-256 of what
  was sent is the one that the caller named.

Any thread may call, for one file one at a time: only the order of appends says where their bytes
belong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from physicsrunner.client.physicsworks_files import (
    RESULT,
    SentFile,
    SentFiles,
    kind_of,
    known_name,
    read_range,
)
from physicsrunner.client.physicsworks_http import PhysicsWorksHttp, Unanswered
from physicsrunner.client.uplink import Outgoing
from physicsrunner.errors import PhysicsRunnerError, ServerUnavailable
from physicsrunner.wire import physicsworks as wire
from physicsrunner.wire.messages import SyncOp, SyncResult


class Sender:
    """
    Carries out operations on the files of one run.

    Parameters
    ----------
    metadata
        Returns what goes with a file of this known name (project, owner, run).
    """

    def __init__(
        self,
        http: PhysicsWorksHttp,
        sent: SentFiles,
        metadata: Callable[[str], Mapping[str, Any]],
    ) -> None:
        self.changed: set[str] = set()  #: arrays of the run document that are to be sent
        self._http = http
        self._sent = sent
        self._metadata_of = metadata

    def apply(self, item: Outgoing) -> SyncResult:
        """Carry out one operation; `Unanswered` means: ask what is stored, and go on."""
        op, file = item.op, self._sent.get(item.op.path)
        with file.lock:
            return self._carry_out(op, file, item)

    def _carry_out(self, op: SyncOp, file: SentFile, item: Outgoing) -> SyncResult:
        try:
            if op.op == "append":
                return self._append_live(file, item) if file.live else _hold(file, item)
            if op.op == "seal":
                return self._seal_live(file, op) if file.live else self._seal_result(file, op)
            return self._change(file, op)
        except ServerUnavailable:
            raise
        except PhysicsRunnerError as error:
            return SyncResult(file.offset, error=error.code, detail=str(error))
        except OSError as error:  # the source went away or cannot be read
            detail = f"{op.path}: {error}"
            return SyncResult(file.offset, error="source_changed", detail=detail, retryable=True)

    def _append_live(self, file: SentFile, item: Outgoing) -> SyncResult:
        """Append to a log, plot or medium; every piece is one request."""
        op = item.op
        if op.offset == 0 and file.offset:
            self._restart(file)  # it was rewritten
        if op.offset != file.offset:
            return SyncResult(file.offset, error="offset_mismatch")
        if file.offset and not file.hash_known(item.source):
            self._restart(file)
            return SyncResult(0, error="offset_mismatch", detail="its head is another one now")
        end = file.offset + (op.length or 0)
        self._sent.unseal(file)
        for piece in _pieces(item):
            self._append(file, piece)
        if file.offset != end:
            detail = f"{op.path} is shorter than it was"
            return SyncResult(file.offset, error="source_changed", detail=detail, retryable=True)
        return SyncResult(file.offset)

    def _append(self, file: SentFile, piece: bytes) -> None:
        fields = {
            "filename": file.stored,
            "isNew": not file.created,
            "isAscii": kind_of(file.path) != "media" and _is_text(piece),
            "metadata": self._metadata_of(known_name(file.path)),
        }
        try:
            self._post(wire.APPEND, fields, piece)
        except Unanswered as error:
            if error.taken:
                # Nobody knows whether these bytes are there: once more would double them.
                self._restart(file)
            raise
        file.hasher.update(piece)
        file.offset += len(piece)
        if not file.created:
            file.created = True
            self.changed.add(kind_of(file.path))

    def _seal_live(self, file: SentFile, op: SyncOp) -> SyncResult:
        if file.sealed is not None and file.sealed == op.sha256:
            return SyncResult(file.offset, sealed=True)
        if file.offset != op.size:
            return SyncResult(file.offset, error="offset_mismatch")
        if not file.created:
            self._append(file, b"")
        if file.hasher is None or file.hasher.hexdigest() != op.sha256:
            self._restart(file)
            return SyncResult(0, error="digest_mismatch", detail="it is sent anew")
        self._sent.seal(file, file.hasher.hexdigest())
        return SyncResult(file.offset, sealed=True)

    def _seal_result(self, file: SentFile, op: SyncOp) -> SyncResult:
        """Send a whole file in chunks. A call that failed goes on where it stood."""
        if file.sealed is not None and file.sealed == op.sha256:
            return SyncResult(file.offset, sealed=True)
        if file.offset != op.size:
            return SyncResult(file.offset, error="offset_mismatch")
        if file.source is None and len(file.held) != op.size:
            # Remembered from before a restart, and it is another file now: nobody has its bytes.
            file.restart()
            return SyncResult(0, error="digest_mismatch", detail="it is sent anew")
        wanted = (op.size, op.sha256 or "")
        if file.target != wanted:
            file.restart_chunks()
            file.target = wanted
        for index in range(file.next_chunk, op.size // wire.CHUNK_SIZE + 1):
            self._chunk(file, index, op.size)
        if file.hasher.hexdigest() != op.sha256:
            file.restart()
            return SyncResult(0, error="digest_mismatch", detail="it is sent anew")
        file.created = True
        self._sent.seal(file, wanted[1])
        self.changed.update((RESULT, "graphics"))
        return SyncResult(file.offset, sealed=True)

    def _chunk(self, file: SentFile, index: int, size: int) -> None:
        start = index * wire.CHUNK_SIZE
        length = min(wire.CHUNK_SIZE, size - start)
        if file.source is not None:
            data = b"".join(read_range(file.source, start, length, length or 1))
        else:
            data = bytes(file.held[start : start + length])
        if len(data) != length:
            raise OSError(f"it is shorter than its {size} bytes")
        fields = {
            "filename": file.stored,
            "fileSize": size,
            "chunkIndex": index,
            "metadata": self._metadata_of(known_name(file.path)),
        }
        self._post(wire.CHUNKS, fields, data)
        file.hasher.update(data)
        file.next_chunk = index + 1

    def _change(self, file: SentFile, op: SyncOp) -> SyncResult:
        """Carry out remove and truncate: our books change, and the run document."""
        if op.op == "remove":
            self._sent.remove(op.path)
            self._touch(op.path)
            return SyncResult(0)
        if op.op == "truncate":
            if op.size != file.offset:
                self._restart(file)
            wrong = None if op.size == file.offset else "offset_mismatch"
            return SyncResult(file.offset, error=wrong)
        self._restart(file)
        return SyncResult(0, error="offset_mismatch", detail=f"this wire has no {op.op}")

    def _restart(self, file: SentFile) -> None:
        file.restart()
        file.held = bytearray()
        self._touch(file.path)

    def _touch(self, path: str) -> None:
        kind = kind_of(path)
        self.changed.update((kind, "graphics") if kind == RESULT else (kind,))

    def _post(self, path: str, fields: Mapping[str, Any], data: bytes) -> None:
        body = wire.encode_form(fields, data)
        self._http.call("POST", path, body=body, content_type=wire.FORM_TYPE)


def _hold(file: SentFile, item: Outgoing) -> SyncResult:
    """Take note of a result's bytes; they are sent when the file is whole (`seal`)."""
    op = item.op
    if op.offset == 0:
        file.offset, file.held = 0, bytearray()  # the first bytes, or it was rewritten
    if op.offset != file.offset:
        return SyncResult(file.offset, error="offset_mismatch")
    if file.sealed is not None or file.created:
        offset = file.offset
        file.restart()  # it went on growing after it was sent: a new stored file
        file.offset = offset
    if item.source is not None:
        file.source = item.source
    elif item.data is not None:
        file.held += item.data
    file.offset += op.length or 0
    return SyncResult(file.offset)


def _pieces(item: Outgoing) -> Iterator[bytes]:
    length, step = item.op.length or 0, wire.CHUNK_SIZE
    if item.data is not None:
        for start in range(0, length, step):
            yield bytes(item.data[start : start + step])
    elif item.source is not None:
        yield from read_range(item.source, item.op.offset or 0, length, step)


def _is_text(piece: bytes) -> bool:
    # A server may decode what is called ASCII; a piece that ends inside a character must not be.
    try:
        piece.decode()
    except UnicodeDecodeError:
        return False
    return True

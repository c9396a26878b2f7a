"""
The native wire, seen from a runner or an agent (contracts: docs/protocol.md).

Promises those of `client.uplink.Uplink`, and:

- `set_token` may be called at any time; requests begun later carry the new token.
- An attempt's token that has expired is exchanged once, and the request is made again with the
  fresh one.
- A frame is read from its files while it is sent; it is compressed when that is faster.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

from physicsrunner.client.body import Body, FileSlice
from physicsrunner.client.compress import MIN_BODY, SAMPLE, LineSpeed, compressed, encodings, pays
from physicsrunner.client.http import READ_S, Http
from physicsrunner.client.uplink import ALL_OPERATIONS, Buffer, Outgoing
from physicsrunner.errors import (
    InvalidRequest,
    NotAuthenticated,
    NotFound,
    ServerUnavailable,
    TokenExpired,
)
from physicsrunner.wire import rest
from physicsrunner.wire.codec import decode, encode
from physicsrunner.wire.frames import encode_frame
from physicsrunner.wire.messages import (
    PROTOCOL_VERSION,
    BlockHashes,
    HeldLease,
    LeaseGrant,
    RenewalAnswer,
    Renewals,
    Report,
    ReportAnswer,
    StoredFile,
    SyncOp,
    SyncResult,
)

T = TypeVar("T")
#: A disk that flushes slower than this is not waited for.
_SLOWEST_DISK: Final = 20e6  # bytes a second
SOURCE_CHANGED: Final = "source_changed"


class NativeUplink:
    """
    Our server, as the runners of one machine see it.

    Parameters
    ----------
    base
        The server's address.
    token
        An attempt's token, an agent's, or a user's (who delivers an offline run).
    agent
        The agent's id, for renewals with an agent's token.
    """

    operations = ALL_OPERATIONS

    def __init__(self, base: str, token: str | None, *, agent: str | None = None) -> None:
        self.http = Http(base, token)
        self._agent = agent
        self._exchange = threading.Lock()
        self._speed = LineSpeed()
        self._encodings = list(encodings())

    @property
    def token(self) -> str | None:
        """The token that requests carry now."""
        return self.http.token

    def set_token(self, token: str) -> None:
        """Use *token* from now on (a renewal brought a fresh one)."""
        self.http.token = token

    def attempt(self, run: str, attempt: int) -> LeaseGrant:
        """Return what this attempt is to do."""
        return decode(LeaseGrant, self._value("GET", rest.attempt(run, attempt)))

    @contextmanager
    def fetch(self, url: str, *, offset: int = 0) -> Iterator[Iterator[bytes]]:
        """
        Open the file at *url* from byte *offset* on; iterate over its bytes.

        A server that answers with the whole file in spite of the range has its first *offset*
        bytes passed over.
        """
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        headers["Accept-Encoding"] = "identity"
        response = self._once_more(
            lambda: self.http.request("GET", url, headers=headers, stream=True)
        )
        with response:
            skip = offset if response.status_code != 206 else 0
            yield _past(self.http.pieces(response), skip)

    def files(self, run: str, attempt: int) -> Mapping[str, StoredFile]:
        """Return what the server has stored of this attempt, by path."""
        answer = self._value("GET", rest.attempt_files(run, attempt))
        stored = [decode(StoredFile, item) for item in _data(answer)]
        return {file.path: file for file in stored}

    def blocks(self, run: str, attempt: int, path: str, block_size: int) -> BlockHashes:
        """Return the hashes of a stored file's blocks."""
        answer = self._value(
            "GET",
            rest.attempt_blocks(run, attempt),
            params={"path": path, "block_size": block_size},
            read_s=600.0,  # the server reads the whole file
        )
        return decode(BlockHashes, answer)

    def send(self, batch: Sequence[Outgoing]) -> Sequence[SyncResult]:
        """Carry out the operations in order; the answer has one result for each."""
        return self.send_with(batch, ())[0]

    def send_with(
        self, batch: Sequence[Outgoing], reports: Sequence[Report]
    ) -> tuple[Sequence[SyncResult], Sequence[ReportAnswer | None]]:
        """
        Carry out the operations, then report: one result for each, and one answer.

        A report is not heard when an operation on its attempt failed, or by an older server: its
        answer is None.
        """
        try:
            frame = _Frame(batch, reports)
        except UnicodeEncodeError:  # half a character in a text: a report by itself can say that
            frame = _Frame(batch)
        while True:
            try:
                answer = self._once_more(lambda: self._post(frame))
                break
            except InvalidRequest:
                if not frame.encoding:
                    raise
                # A server without this encoding: never again, and this frame in another way.
                if frame.encoding in self._encodings:
                    self._encodings.remove(frame.encoding)
        results = [_result(item) for item in _data(answer, "results")]
        if len(results) != len(batch):
            raise ServerUnavailable(f"{len(results)} results for {len(batch)} operations")
        heard = answer.get("reports") if isinstance(answer, dict) else None
        if not isinstance(heard, list) or len(heard) != len(reports):
            heard = [None] * len(reports)
        said = [None if item is None else decode(ReportAnswer, item) for item in heard]
        return frame.distrust(results), said

    def report(self, reports: Sequence[Report]) -> Sequence[ReportAnswer]:
        """Report what became of attempts."""
        body = {"reports": [encode(_finite(report)) for report in reports]}
        answer = self._value("POST", rest.REPORTS, json=body)
        return [decode(ReportAnswer, item) for item in _data(answer)]

    def renew(self, leases: Sequence[HeldLease]) -> Sequence[RenewalAnswer]:
        """Keep the leases; learn commands."""
        body = encode(Renewals(leases=list(leases), agent=self._agent))
        answer = self._value("PUT", rest.LEASES, json=body)
        return [decode(RenewalAnswer, item) for item in _data(answer)]

    def claim(self, request: Mapping[str, Any]) -> LeaseGrant:
        """Create a run (``claim`` is in *request*) whose attempt 1 is leased to the caller."""
        answer = self._value("POST", rest.SIMULATIONS, json=dict(request))
        return decode(LeaseGrant, answer.get("lease") if isinstance(answer, dict) else answer)

    def upload_bundle(self, path: Path, name: str) -> dict[str, Any]:
        """Store the model zip at *path* under *name*; return ``{id, version, ...}``."""
        size = path.stat().st_size
        zipped = FileSlice(path, 0, size)
        answer = self._value(
            "POST",
            rest.MODELS,
            params={"name": name},
            body=Body(lambda: iter([zipped]), size),
            headers={"Content-Type": "application/zip"},
            read_s=READ_S + size / _SLOWEST_DISK,
        )
        return dict(answer)

    def store_input(self, path: Path, sha256: str) -> None:
        """Store the file at *path*, whose hash is *sha256*, once for all runs."""
        where = f"{rest.UPLOADS}/{sha256}"
        try:
            self._once_more(lambda: self.http.request("HEAD", where))
        except NotFound:
            size = path.stat().st_size
            piece = FileSlice(path, 0, size)
            self._once_more(
                lambda: self.http.request(
                    "PUT",
                    where,
                    body=Body(lambda: iter([piece]), size),
                    headers={"Content-Type": "application/octet-stream"},
                    read_s=READ_S + size / _SLOWEST_DISK,
                )
            )

    def close(self) -> None:
        """Release connections."""
        self.http.close()

    def _value(self, method: str, path: str, **kwargs: Any) -> Any:
        return self._once_more(lambda: self.http.value(method, path, **kwargs))

    def _once_more(self, call: Callable[[], T]) -> T:
        """Make *call*; when its token had expired, exchange it and make the call again."""
        used = self.token
        try:
            return call()
        except TokenExpired:
            with self._exchange:
                if self.token == used:  # nobody brought a fresh one meanwhile
                    self._renew_token(used)
            return call()

    def _renew_token(self, expired: str | None) -> None:
        answer = self.http.value("POST", rest.TOKEN_EXCHANGE, token=expired)
        token = answer.get("token") if isinstance(answer, dict) else None
        if not token:
            raise NotAuthenticated("the server exchanged no token")
        self.set_token(token)

    def _post(self, frame: _Frame) -> Any:
        frame.encoding = self._encoding(frame)
        headers = {"Content-Type": "application/octet-stream"}
        body: Body | Iterator[bytes]
        if frame.encoding:
            headers["Content-Encoding"] = frame.encoding
            packed = 0

            def counted(pieces: Iterator[bytes]) -> Iterator[bytes]:
                nonlocal packed
                for piece in pieces:
                    packed += len(piece)
                    yield piece

            body = counted(compressed(frame.pieces(split=True), frame.encoding))
        else:
            packed = frame.size
            body = Body(frame.pieces, frame.size)
        start = time.perf_counter()
        answer = self.http.value(
            "POST",
            rest.SYNC,
            body=body,
            headers=headers,
            read_s=READ_S + (frame.size + frame.sealed_bytes) / _SLOWEST_DISK,
        )
        took = time.perf_counter() - start
        if frame.encoding:
            self._speed.compressed(frame.size, took)
        self._speed.measured(packed, took)
        return answer

    def _encoding(self, frame: _Frame) -> str | None:
        if frame.size < MIN_BODY or not self._encodings or not self._speed.worth_trying():
            return None
        encoding = self._encodings[0]
        return encoding if pays(frame.sample(), encoding, self._speed.rate) else None


class _Frame:
    """A batch as a body: the manifest, then the operations' bytes. Can be sent again."""

    def __init__(self, batch: Sequence[Outgoing], reports: Sequence[Report] = ()) -> None:
        self.batch = batch
        self.encoding: str | None = None
        self._parts: list[Buffer | FileSlice | None] = [_part(item) for item in batch]
        manifest: dict[str, Any] = {
            "v": PROTOCOL_VERSION,
            "ops": [_operation(item.op) for item in batch],
        }
        if reports:
            manifest["reports"] = [encode(_finite(report)) for report in reports]
        self._manifest = encode_frame(manifest)
        self.size = len(self._manifest) + sum(len(part) for part in self._parts if part)
        #: bytes that the server may have to read again before it answers
        self.sealed_bytes = sum(item.op.size or 0 for item in batch if item.op.op == "seal")

    def pieces(self, *, split: bool = False) -> Iterator[Any]:
        """Iterate over the body. *split*: files come as bytes, not as `FileSlice`."""
        small = bytearray(self._manifest)
        for part in self._parts:
            if part is None or not len(part):
                continue
            if isinstance(part, FileSlice):
                if small:
                    yield small
                    small = bytearray()
                if split:
                    yield from part.pieces()
                else:
                    yield part
            elif len(part) > 256 * 1024:
                if small:
                    yield small
                    small = bytearray()
                yield part
            else:
                # Many small files go out in few writes.
                small += part
                if len(small) > 512 * 1024:
                    yield small
                    small = bytearray()
        if small:
            yield small

    def sample(self) -> bytes:
        """Return some of the bytes, to try how well they compress."""
        out = bytearray()
        for part in self._parts:
            if len(out) >= SAMPLE:
                break
            if isinstance(part, FileSlice):
                middle = part.offset + part.length // 2
                length = min(SAMPLE, part.offset + part.length - middle)
                for piece in FileSlice(part.path, middle, length).pieces():
                    out += piece
            elif part:
                out += memoryview(part)[: SAMPLE - len(out)]
        return bytes(out)

    def distrust(self, results: Sequence[SyncResult]) -> Sequence[SyncResult]:
        """Return *results* with those of files that became shorter marked as not to be trusted."""
        return [
            SyncResult(offset=result.offset, error=SOURCE_CHANGED, retryable=True)
            if isinstance(part, FileSlice) and part.short and result.error is None
            else result
            for part, result in zip(self._parts, results, strict=True)
        ]


def _operation(op: SyncOp) -> dict[str, Any]:
    """Do what `encode` does, for one of thousands in a frame."""
    return {name: value for name, value in op.__dict__.items() if value is not None}


def _result(item: Any) -> SyncResult:
    """Do what `decode` does, for one of thousands in an answer; of a refusal it decodes all."""
    if type(item) is dict and "error" not in item:
        offset, sealed = item.get("offset"), item.get("sealed", False)
        if type(offset) is int and type(sealed) is bool:
            return SyncResult(offset, sealed)
    return decode(SyncResult, item)


def _part(item: Outgoing) -> Buffer | FileSlice | None:
    if not item.op.length:
        return None
    if item.data is not None:
        return item.data
    if item.source is None or item.op.offset is None:
        raise InvalidRequest(f"{item.op.op} of {item.op.path} has no bytes and no source")
    return FileSlice(item.source, item.op.offset, item.op.length)


def _finite(report: Report) -> Report:
    """Leave out numbers that JSON has no word for: a percentage that is none says nothing."""
    return replace(
        report,
        progress=_number(report.progress),
        eta_s=_number(report.eta_s),
        time=_number(report.time),
    )


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _past(pieces: Iterator[bytes], skip: int) -> Iterator[bytes]:
    for piece in pieces:
        if skip < len(piece):
            yield piece[skip:] if skip else piece
        skip = max(0, skip - len(piece))


def _data(answer: Any, key: str = "data") -> list[Any]:
    """Return the list of an answer, bare or under its key."""
    value = answer.get(key) if isinstance(answer, dict) else answer
    if not isinstance(value, list):
        raise ServerUnavailable("the answer is not what this version of physicsrunner expects")
    return value

"""
Taking in a sync frame: bytes as they come, in whatever pieces, to the file service.

Promises: the manifest is read first, and the frame is refused before any content when the
manifest, the sum of its lengths or an operation is not acceptable; content goes on to the file
service piece by piece and is never collected; when the body is cut, the bytes that arrived stay
(`abort`). Nothing here is asynchronous: `take` blocks and is called in a worker thread, by one
thread at a time.

What a frame reports comes after its operations, in the transaction of its seals where there are
any: a report is taken when all operations on its attempt went well, and is otherwise not heard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol

from physicsrunner.core.state import RunState
from physicsrunner.errors import BadFrame, InvalidRequest, PhysicsRunnerError, TooLarge
from physicsrunner.server.decoding import Decoder
from physicsrunner.service.attempts import Taking
from physicsrunner.store.rows import Sealed
from physicsrunner.wire.codec import decode
from physicsrunner.wire.frames import LENGTH, MAX_MANIFEST, FrameDecoder, FrameError
from physicsrunner.wire.messages import (
    OPERATIONS,
    PROTOCOL_VERSION,
    Report,
    ReportAnswer,
    Reports,
    SyncOp,
    SyncResult,
)
from physicsrunner.wire.reading import loads

MAX_OPS: Final = 100_000
_MOST_MARKS: Final = 16 * MAX_OPS  # an operation has 13 to 15
_WITH_BYTES: Final = frozenset({"append", "write"})


class Writer(Protocol):
    """What the file service gives for the operations of one frame."""

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the frame's content."""
        ...

    def finish(self, taking: Taking | None = None) -> Sequence[SyncResult]:
        """Carry out what is left, make it durable, with *taking* if it can be; answer."""
        ...

    def abort(self) -> None:
        """The rest will not come; what has been written stays."""
        ...


class Hearing(Protocol):
    """What takes reports, and keeps with them what is sealed."""

    def __call__(
        self, reports: Sequence[Report], sealed: Sealed | None = None, /
    ) -> Sequence[ReportAnswer]:
        """Take *reports*; return one answer for each."""
        ...


class Intake:
    """
    One frame on its way in.

    Parameters
    ----------
    open_frame
        Called once with the operations, when the manifest is complete.
    decoder
        Of the body's Content-Encoding.
    limit
        The most raw bytes that the operations may carry.
    report
        Takes what the frame reports.
    """

    def __init__(
        self,
        open_frame: Callable[[list[SyncOp]], Writer],
        decoder: Decoder,
        *,
        limit: int,
        report: Hearing | None = None,
    ) -> None:
        #: one for each report, in order; None: it was not heard, and may be made by itself
        self.answers: list[ReportAnswer | None] = []
        self._report = report
        self._ops: list[SyncOp] = []
        self._reports: list[Report] = []
        self._open = open_frame
        self._decoder = decoder
        self._limit = limit
        self._frame = FrameDecoder(loads=partial(loads, most=_MOST_MARKS))
        self._writer: Writer | None = None
        self._before = LENGTH.size + MAX_MANIFEST  # raw bytes that may come before it is open
        self._left = 0

    def take(self, pieces: Iterable[bytes]) -> None:
        """Take the next pieces of the body, as they came over the line."""
        for piece in pieces:
            for raw in self._decoder.feed(piece):
                self._raw(raw)

    def finish(self) -> Sequence[SyncResult]:
        """End the frame: every operation is carried out, durable and answered."""
        self._decoder.finish()
        if self._writer is None:
            raise BadFrame("the body ends inside the manifest")
        if self._left:
            self.abort()
            raise BadFrame(f"the body ends {self._left} bytes before its manifest says")
        if not self._reports or self._report is None:
            results = self._writer.finish()
            self._writer = None  # what was carried out is not given up any more
            return results
        take = partial(self._take, self._report)
        completed = (each for each in self._reports if each.state is RunState.COMPLETED)
        results = self._writer.finish(Taking({(r.run, r.attempt) for r in completed}, take))
        self._writer = None
        if not self.answers:
            try:
                take(results)
            except PhysicsRunnerError:
                # The operations stand. Whoever reports by itself is told why.
                self.answers = [None for _ in self._reports]
        return results

    def abort(self) -> None:
        """Give up: the body was cut. Bytes that arrived stay. May be called at any time."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.abort()

    def _take(
        self, report: Hearing, results: Sequence[SyncResult], sealed: Sealed | None = None
    ) -> bool:
        """Hear the reports of attempts that went well; say whether *sealed* was kept with them."""
        done = zip(self._ops, results, strict=True)
        failed = {(op.run, op.attempt) for op, result in done if result.error is not None}
        heard = [each for each in self._reports if (each.run, each.attempt) not in failed]
        answers = iter(report(heard, sealed) if heard else ())
        self.answers = [
            None if (each.run, each.attempt) in failed else next(answers) for each in self._reports
        ]
        return bool(heard)

    def _raw(self, data: bytes) -> None:
        if self._writer is None:
            self._before -= len(data)
            value = self._frame.feed(data)
            if value is None:
                if self._before < 0:
                    raise FrameError("the manifest is over the limit")
                return
            ops = self._ops = manifest(value)
            if "reports" in value:
                self._reports = decode(Reports, value).reports
            self._left = sum(op.length or 0 for op in ops)
            if self._left > self._limit:
                raise TooLarge(f"a frame of {self._left} bytes is over the limit of {self._limit}")
            self._writer = self._open(ops)
            data = self._frame.rest
            self._frame.rest = b""
        if not data:
            return
        if len(data) > self._left:
            raise BadFrame(f"the body is {len(data) - self._left} bytes longer than its manifest")
        self._left -= len(data)
        self._writer.feed(data)


def manifest(value: Any) -> list[SyncOp]:
    """
    Return the operations of a frame's manifest, or raise `BadFrame`.

    Written out by hand: a frame of 10,000 small files has 20,000 operations, and the general
    decoder (`wire.codec`) would cost more than writing the files does.
    """
    if not isinstance(value, Mapping) or value.get("v") != PROTOCOL_VERSION:
        raise BadFrame(f"the manifest is not {{v: {PROTOCOL_VERSION}, ops: [...]}}")
    items = value.get("ops")
    if not isinstance(items, list) or len(items) > MAX_OPS:
        raise BadFrame(f"the manifest's ops is not a list of at most {MAX_OPS} operations")
    return [_operation(item, index) for index, item in enumerate(items)]


def _operation(item: Any, index: int) -> SyncOp:
    try:
        op = SyncOp(
            run=item["run"],
            attempt=item["attempt"],
            path=item["path"],
            op=item["op"],
            offset=item.get("offset"),
            length=item.get("length"),
            size=item.get("size"),
            sha256=item.get("sha256"),
            to=item.get("to"),
        )
    except (KeyError, TypeError, AttributeError):
        raise BadFrame(f"ops[{index}] lacks one of run, attempt, path, op") from None
    if op.op not in OPERATIONS:
        raise BadFrame(f"ops[{index}]: op is none of {', '.join(OPERATIONS)}")
    texts = type(op.run) is str and type(op.path) is str
    if not (texts and _text(op.sha256) and _text(op.to)):
        raise BadFrame(f"ops[{index}]: run, path, sha256 and to are texts")
    # Not by isinstance: JSON's true and false are ints to Python.
    numbers = type(op.attempt) is int and op.attempt >= 0
    if not (numbers and _number(op.offset) and _number(op.length) and _number(op.size)):
        raise BadFrame(f"ops[{index}]: attempt, offset, length and size are whole numbers, >= 0")
    if op.op in _WITH_BYTES:
        if op.offset is None or op.length is None:
            raise BadFrame(f"ops[{index}]: {op.op} needs offset and length")
    elif op.length:
        raise BadFrame(f"ops[{index}]: {op.op} carries no bytes")
    return op


def _text(value: object) -> bool:
    return value is None or type(value) is str


def _number(value: object) -> bool:
    return value is None or (type(value) is int and value >= 0)


def parse_failure(error: Exception) -> InvalidRequest | None:
    """Return what an error of decoding means for the sender; None: it is not the sender's."""
    if isinstance(error, FrameError):
        return BadFrame(str(error))
    if isinstance(error, RecursionError):
        return BadFrame("the manifest is nested too deeply")
    return None

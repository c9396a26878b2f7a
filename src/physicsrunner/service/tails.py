"""
What viewers see of bytes as they arrive: log text, series points, and which files grew.

Promises: an event goes out after its bytes are written, in their order, and never holds them up
for long: of a large piece of log only the end is shown (``offset`` says where the text begins, so a
viewer sees the gap and can fetch it). Text is decoded as UTF-8 across pieces; what is not becomes
U+FFFD. A line of the series file that is no point is left out. Nothing here is logged. The values
of a run's secrets are covered (`service.masks`).
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable
from typing import Any, Final

from physicsrunner.errors import PhysicsRunnerError
from physicsrunner.service.attempts import AttemptFiles
from physicsrunner.service.feed import Feed
from physicsrunner.service.masks import Mask, Masks
from physicsrunner.store.spool import SpoolFile
from physicsrunner.wire import live
from physicsrunner.wire.live import Event

LOGS: Final = "logs/"
SERIES_FILE: Final = "metadata/series.jsonl"
TEXT: Final = 64 * 1024  # bytes of log in one event
POINTS: Final = 1000  # in one event
LINE: Final = 64 * 1024  # bytes of an unfinished line that are kept
PATHS: Final = 1000  # in one event
EVERY_S: Final = 1.0


class _Tail:
    """How far a file was shown, and the unfinished end of it."""

    __slots__ = ("decoder", "hidden", "offset", "rest", "shown")

    def __init__(self) -> None:
        self.offset = -1
        self.rest = b""
        self.shown = 0  # up to here, where secrets are to be covered
        self.hidden: _Tail | None = None  # of the bytes as they are, before they are covered
        self.decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def seek(self, offset: int) -> None:
        if offset != self.offset:
            self.decoder.reset()
            self.rest = b""


class Tails:
    """The live events of one frame."""

    def __init__(self, feed: Feed, masks: Masks, now: Callable[[], float]) -> None:
        self._feed = feed
        self._masks = masks
        self._now = now
        self._grown: dict[int, tuple[AttemptFiles, dict[str, int]]] = {}
        self._last = now()

    def wrote(self, attempt: AttemptFiles, file: SpoolFile, offset: int, data: memoryview) -> None:
        """Tell viewers of *data*, which is stored at *offset*."""
        if file.path == SERIES_FILE:
            self._series(attempt, file, offset, data)
        elif file.path.startswith(LOGS):
            self._log(attempt, file, offset, data)
        else:
            _, paths = self._grown.setdefault(id(attempt), (attempt, {}))
            if len(paths) < PATHS:
                paths[file.path] = offset + len(data)
            if self._now() - self._last >= EVERY_S:
                self.flush()

    def flush(self) -> None:
        """Tell which files grew since the last time."""
        self._last = self._now()
        grown, self._grown = self._grown, {}
        for attempt, paths in grown.values():
            files = [{"path": path, "size": size} for path, size in paths.items()]
            self._publish(attempt, live.FILES, {"files": files})

    def _log(self, attempt: AttemptFiles, file: SpoolFile, offset: int, data: memoryview) -> None:
        try:
            mask = self._masks.of(attempt.run)
        except PhysicsRunnerError:
            return  # what is secret in it cannot be told: reading the log says why
        if mask is not None:
            offset, data = _covered(mask, file, offset, data)
        shown = data[-TEXT:]
        start = offset + len(data) - len(shown)
        tail = _tail(file)
        tail.seek(start)
        text = tail.decoder.decode(bytes(shown))
        tail.offset = offset + len(data)
        if text:
            self._publish(attempt, live.LOG, {"path": file.path, "offset": start, "text": text})

    def _series(
        self, attempt: AttemptFiles, file: SpoolFile, offset: int, data: memoryview
    ) -> None:
        tail = _tail(file)
        tail.seek(offset)
        tail.offset = offset + len(data)
        *lines, tail.rest = (tail.rest + bytes(data)).split(b"\n")
        tail.rest = tail.rest if len(tail.rest) <= LINE else b""
        points = [point for line in lines if (point := _point(line)) is not None]
        for start in range(0, len(points), POINTS):
            self._publish(attempt, live.SERIES, {"points": points[start : start + POINTS]})

    def _publish(self, attempt: AttemptFiles, kind: str, data: dict[str, Any]) -> None:
        said = {"simulation_id": attempt.run, "number": attempt.number, **data}
        event = Event(kind, attempt.run, attempt.attempt, attempt.project, self._now(), said)
        self._feed.publish([event])


def _covered(mask: Mask, file: SpoolFile, offset: int, data: memoryview) -> tuple[int, memoryview]:
    """Return what may be shown now, and where it begins: the start of a value waits for its end."""
    tail = _hidden(file)
    if offset != tail.offset:
        tail.shown, tail.rest = offset, _before(file, offset, mask.reach)
    tail.offset = offset + len(data)
    raw = tail.rest + bytes(data)
    first = tail.offset - len(raw)
    end = len(raw) - mask.begun(raw)
    start, shown = tail.shown, mask.covered(raw)[tail.shown - first : end]
    tail.rest, tail.shown = raw[end:], max(start, first + end)
    return start, memoryview(shown)


def _before(file: SpoolFile, offset: int, length: int) -> bytes:
    """Return at most *length* bytes that are stored before *offset*: a value may begin there."""
    start = max(0, offset - length)
    try:
        with file.local.open("rb") as stored:
            stored.seek(start)
            return stored.read(offset - start)
    except OSError:
        return b""


def _hidden(file: SpoolFile) -> _Tail:
    """Return what is kept of the bytes of a file of which not all may be shown."""
    tail = _tail(file)
    if tail.hidden is None:
        tail.hidden = _Tail()
    return tail.hidden


def _tail(file: SpoolFile) -> _Tail:
    if not isinstance(file.tail, _Tail):
        file.tail = _Tail()
    return file.tail


def _point(line: bytes) -> dict[str, Any] | None:
    try:
        # A residual that diverged is shown as a text: JSON has no word for it.
        point = json.loads(line, parse_constant=str)
    except (ValueError, RecursionError):
        return None
    return point if isinstance(point, dict) and "series" in point else None

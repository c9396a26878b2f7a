"""
The journal of an attempt: what is done, one JSON object a line, only ever appended to.

Promises:

- What `note` wrote is on disk when it returns (unless ``sync=False``, or many journals share
  their flush), so that a runner that was killed, or whose machine lost power, goes on where it
  was. What it wrote ``later`` is there with the next note: a kill before that forgets it.
- A torn last line, of a write that a kill cut, is as if it had not been written; the next line is
  written after a line end of its own.
- `read` never fails on what it does not understand: unknown events are of a newer version.
- Who has noted something has the file open until `close`, and is the only one who writes to it
  (`lock`). One that only reads has nothing open.

It holds no token and no secret.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from physicsrunner.core.stages import Stage
from physicsrunner.core.state import RunState
from physicsrunner.errors import InvalidRequest, StorageFull
from physicsrunner.wire.codec import decode, encode
from physicsrunner.wire.messages import Failure

#: `json.dumps` makes one for every line.
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True)
class Outcome:
    """How the program ended; it stands from then on, whatever becomes of its files."""

    state: RunState
    exit_code: int | None = None
    error: Failure | None = None
    time: float | None = None  #: POSIX seconds


@dataclass(frozen=True)
class History:
    """What a journal says."""

    run: str | None = None
    attempt: int | None = None
    begun: float | None = None  #: POSIX seconds; when the attempt began the first time
    stages: dict[Stage, float] = field(default_factory=dict)  #: seconds of each stage that is done
    program: str | None = None  #: native id
    started: float | None = None  #: POSIX seconds; when the program was started
    paused_s: float = 0.0  #: how long it was paused, in the pauses that are over
    paused_since: float | None = None  #: POSIX seconds; it is paused
    stop_reason: str | None = None  #: cancelled, timeout, lease_lost, silent, handed_back
    stop_time: float | None = None
    outcome: Outcome | None = None
    reported: bool = False  #: the server knows the outcome
    finished: bool = False  #: the last stage is done
    kept: bool = False  #: it was finished without sending its files, as was asked
    delivered: bool = False  #: all files are sealed on the server, and it knows the outcome
    wire: str | None = None
    name: str | None = None
    named: bool = False  #: the server knows the run under this id


class Journal:
    """
    Append to and read the journal at *path*. One runner at a time (`lock`), one thread at a time.

    Parameters
    ----------
    flush
        Brings the file to the disk soon, where many journals share that; None: `note` waits for it.
    """

    def __init__(
        self,
        path: Path,
        now: Callable[[], float],
        *,
        flush: Callable[[Path], None] | None = None,
    ) -> None:
        self._path = path
        self._name = str(path)
        self._flush = flush
        self._now = now
        self._known: tuple[int, History] | None = None  # what the file says that is so long
        self._later: list[tuple[bytes, dict[str, Any]]] = []  # lines that wait for the next note
        self._whole = -1  # the size at which the file ends with a line's end
        self._file: int | None = None  # open since the first note

    def note(
        self,
        event: str,
        *,
        at: float | None = None,
        sync: bool = True,
        later: bool = False,
        **fields: Any,
    ) -> None:
        """
        Append one event.

        Parameters
        ----------
        at
            When it happened, POSIX seconds; None: now.
        sync
            It must outlive the machine's crash, as must all before it. Whatever a restart may do
            again without harm need not: to outlive this process, writing is enough, and a busy
            disk takes a tenth of a second for each.
        later
            A restart that does not find it does the same again, without harm and soon done: it is
            written together with the next note.

        Raises
        ------
        StorageFull
            It cannot be written.
        """
        record = {"event": event, "time": self._now() if at is None else at, **encode(fields)}
        line = _ENCODER.encode(record).encode() + b"\n"
        known, self._known = self._known, None
        if later:
            self._later.append((line, record))
            size = None if known is None else known[0]
        else:
            size = self._write(line, None if known is None else known[0], sync)
        if known is not None and size is not None:
            self._known = (size, _apply(known[1], record))

    def read(self) -> History:
        """Return what the journal says; an empty history where there is none."""
        if self._known is not None and self._file is not None:
            return self._known[1]  # nobody else writes
        try:
            size = os.stat(self._name).st_size  # noqa: PTH116 (asked for at every step)
        except OSError:
            size = 0
        if self._known is not None and self._known[0] == size:
            return self._known[1]
        history = History()
        for record in self._records():
            history = _apply(history, record)
        for _, record in self._later:
            history = _apply(history, record)
        self._known = (size, history)
        return history

    def close(self) -> None:
        """
        Write what waits for a next note, none may come, and close the file.

        Raises
        ------
        StorageFull
            It cannot be written. The file is closed.
        """
        try:
            if self._later:
                line, _ = self._later.pop()
                self._write(line, None, sync=False)
        finally:
            self._let_go()

    def set_aside(self) -> None:
        """Rename the journal of a finished attempt, so that the next one begins anew."""
        self._let_go()
        self._known = None
        self._later.clear()
        for number in range(1, 1_000_000):
            aside = self._path.with_name(f"journal.{number}.jsonl")
            if not aside.exists():
                self._path.rename(aside)
                return

    def _write(self, line: bytes, known: int | None, sync: bool) -> int | None:
        """Write what waits and *line*; return the size, if it was *known* bytes before."""
        lines = b"".join([*(early for early, _ in self._later), line])
        try:
            before, after = self._append(lines, sync and self._flush is None)
        except OSError as error:
            self._let_go()  # who cannot begin does not come to its end
            raise StorageFull(f"cannot write {self._path}: {error}") from error
        self._later.clear()
        if sync and self._flush is not None:
            self._flush(self._path)
        return after if known == before else None

    def _append(self, lines: bytes, sync: bool) -> tuple[int, int]:
        """Return the file's size before and after."""
        file, found = self._opened()
        size = found.st_size
        if size not in (0, self._whole) and os.pread(file, 1, size - 1) != b"\n":
            lines = b"\n" + lines
        left = memoryview(lines)
        while left:
            left = left[os.write(file, left) :]
        if sync:
            os.fsync(file)
            if not size:
                _sync_folder(self._path.parent)
        self._whole = size + len(lines)
        return size, self._whole

    def _opened(self) -> tuple[int, os.stat_result]:
        """Return the file, and what it is."""
        if self._file is not None:
            found = os.fstat(self._file)
            if found.st_nlink:
                return self._file, found
            self._let_go()  # it was removed: what is written there would be nowhere
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(self._name, flags, 0o644)
        return self._file, os.fstat(self._file)

    def _let_go(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def _records(self) -> Iterator[dict[str, Any]]:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return
        for line in data.split(b"\n"):
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict) and isinstance(record.get("event"), str):
                yield record


def _with(history: History, **changes: Any) -> History:
    """Return *history* with *changes*, as `dataclasses.replace` does: ten times in a short run."""
    changed = object.__new__(History)
    changed.__dict__.update(history.__dict__)
    changed.__dict__.update(changes)
    return changed


def _apply(history: History, record: dict[str, Any]) -> History:
    handler = _EVENTS.get(record["event"])
    try:
        return history if handler is None else handler(history, record)
    except (KeyError, ValueError, TypeError, InvalidRequest):
        return history


def _begun(history: History, record: dict[str, Any]) -> History:
    return _with(
        history,
        run=record["run"],
        attempt=record["attempt"],
        begun=history.begun or record["time"],
        wire=record.get("wire"),
        name=record.get("name") or history.name,
    )


def _named(history: History, record: dict[str, Any]) -> History:
    return _with(history, run=record["run"], name=record.get("name") or history.name, named=True)


def _stage_done(history: History, record: dict[str, Any]) -> History:
    stages = {**history.stages, Stage(record["stage"]): float(record["seconds"])}
    return _with(history, stages=stages)


def _paused(history: History, record: dict[str, Any]) -> History:
    return _with(history, paused_since=history.paused_since or float(record["time"]))


def _resumed(history: History, record: dict[str, Any]) -> History:
    if history.paused_since is None:
        return history
    pause = max(0.0, float(record["time"]) - history.paused_since)
    return _with(history, paused_s=history.paused_s + pause, paused_since=None)


def _outcome(history: History, record: dict[str, Any]) -> History:
    error = record.get("error")
    outcome = Outcome(
        state=RunState(record["state"]),
        exit_code=record.get("exit_code"),
        error=decode(Failure, error) if error else None,
        time=record["time"],
    )
    return _with(history, outcome=outcome, reported=False, delivered=False)


_EVENTS: dict[str, Callable[[History, dict[str, Any]], History]] = {
    "begun": _begun,
    "named": _named,
    "stage_done": _stage_done,
    "program": lambda history, record: _with(
        history, program=record["native_id"], started=record["started"]
    ),
    "paused": _paused,
    "resumed": _resumed,
    "stopping": lambda history, record: _with(
        history, stop_reason=record["reason"], stop_time=record["time"]
    ),
    "again": lambda history, record: _with(
        history,
        stages={k: v for k, v in history.stages.items() if k.value not in record["stages"]},
        finished=False,
    ),
    "outcome": _outcome,
    "reported": lambda history, _: _with(history, reported=True),
    "delivered": lambda history, _: _with(history, delivered=True),
    "finished": lambda history, record: _with(
        history, finished=True, kept=bool(record.get("kept"))
    ),
}


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

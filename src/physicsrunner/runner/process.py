"""
Watching over one program: until it ends, or is asked to stop and then made to.

Promises:

- The end of the program is noticed at once.
- A stop goes: stop file, then after the grace time SIGTERM to its process group, then after the
  same time SIGKILL. When `supervise` returns, no process of the program is left.
- Times are counted from what the journal says, so that a runner that was killed in between goes on
  where it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from physicsrunner.engines.base import EngineStatus, NativeId, Phase
from physicsrunner.runner.context import Attempt
from physicsrunner.runner.environment import CONFIG_NAME, read_config
from physicsrunner.runner.stop import CANCELLED, TIMEOUT

_LOOK_S: Final = 0.25  # between two looks at requests to stop, while the program runs
_ABORT_S: Final = 1.0  # between two looks at config.json


@dataclass
class _Stopping:
    """How far a stop has gone."""

    since: float
    terminated: bool = False


def supervise(attempt: Attempt, native_id: NativeId, started: float) -> tuple[bool, EngineStatus]:
    """
    Wait until the program has ended, and stop it when that is asked for.

    Parameters
    ----------
    started
        When it was started, POSIX seconds: its time limit counts from there.

    Returns
    -------
    tuple of bool and EngineStatus
        Whether it had been asked to stop before it ended, and how it ended.
    """
    stopping = _resumed(attempt)
    abort = _AbortKey(attempt)
    while True:
        try:
            status = attempt.engine.wait(native_id, _next_look(attempt, stopping, started))
        except KeyboardInterrupt:
            if attempt.stop.asked():
                raise  # asked twice: leave it running, a later start goes on with it
            attempt.stop.ask(CANCELLED)
            continue
        if status.phase not in (Phase.RUNNING, Phase.WAITING, Phase.UNKNOWN):
            break
        if stopping is None:
            stopping = _begin_stop(attempt, started, abort)
        elif _go_on_stopping(attempt, native_id, stopping):
            status = attempt.engine.poll([native_id])[native_id]
            break
    attempt.engine.cancel(native_id)  # children that outlived it
    return stopping is not None, status


def _resumed(attempt: Attempt) -> _Stopping | None:
    reason, since = attempt.history.stop_reason, attempt.history.stop_time
    if reason is None or since is None:
        return None
    attempt.stop.ask(reason)
    return _Stopping(since)


def _next_look(attempt: Attempt, stopping: _Stopping | None, started: float) -> float:
    now = attempt.clock.now()
    limit = attempt.limits.time_s
    if stopping is not None:
        grace = attempt.limits.stop_grace_s
        due = stopping.since + grace * (2 if stopping.terminated else 1)
    elif limit is not None:
        due = started + limit
    else:
        return _LOOK_S
    return min(_LOOK_S, max(0.0, due - now))


def _begin_stop(attempt: Attempt, started: float, abort: _AbortKey) -> _Stopping | None:
    now = attempt.clock.now()
    limit = attempt.limits.time_s
    if limit is not None and now >= started + limit:
        attempt.stop.ask(TIMEOUT)
    elif abort.asked(now):
        attempt.stop.ask(CANCELLED)
    reason = attempt.stop.reason
    if reason is None:
        return None
    attempt.log.info("asking the program to stop: %s", reason)
    attempt.journal.note("stopping", reason=reason)
    try:
        attempt.folder.stop_file.write_text(f"{reason}\n", "utf-8")
    except OSError as error:
        attempt.log.warning("cannot write the stop file: %s", error)
    return _Stopping(now)


def _go_on_stopping(attempt: Attempt, native_id: NativeId, stopping: _Stopping) -> bool:
    """Take the next step when it is due; True when the program has been killed."""
    grace = attempt.limits.stop_grace_s
    waited = attempt.clock.now() - stopping.since
    if waited >= 2 * grace:
        attempt.log.warning("the program did not end on SIGTERM: killing it")
        attempt.engine.cancel(native_id)
        return True
    if waited >= grace and not stopping.terminated:
        attempt.log.info("sending SIGTERM to the program's process group")
        attempt.engine.terminate(native_id)
        stopping.terminated = True
    return False


class _AbortKey:
    """A truthy ``abort`` that appears in config.json; looked at once a second, when it changed."""

    def __init__(self, attempt: Attempt) -> None:
        paths = {str(attempt.folder.scripts / CONFIG_NAME), attempt.config.path or ""}
        self._stamps: dict[str, int] = {path: _stamp(path) for path in sorted(paths) if path}
        self._next = attempt.clock.now() + _ABORT_S
        self._asked = any(read_config(path).get("abort") for path in self._stamps)

    def asked(self, now: float) -> bool:
        """Say whether an abort was asked for."""
        if now < self._next or self._asked:
            return self._asked
        self._next = now + _ABORT_S
        for path, before in self._stamps.items():
            stamp = _stamp(path)
            if stamp != before:
                self._stamps[path] = stamp
                self._asked = self._asked or bool(read_config(path).get("abort"))
        return self._asked


def _stamp(path: str) -> int:
    try:
        return Path(path).stat().st_mtime_ns
    except OSError:
        return 0

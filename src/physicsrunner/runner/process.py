"""
Watching over one program: until it ends, is paused, or is asked to stop and then made to.

Promises:

- The end of the program is noticed at once, and whoever waits for it costs nothing meanwhile.
- A stop goes: the program is woken if it is paused, then stop file, then after the grace time
  SIGTERM to its process group, then after the same time SIGKILL. When `supervise` returns, no
  process of the program is left.
- The time limit stands still while the program is paused. Times are counted from what the journal
  says, so that a runner that was killed in between goes on where it was, and a program that was
  paused then is still known as paused.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from physicsrunner.core.state import RunState
from physicsrunner.engines.base import EngineStatus, NativeId, Phase
from physicsrunner.runner.context import Attempt
from physicsrunner.runner.environment import CONFIG_NAME, read_config
from physicsrunner.runner.silence import Silence
from physicsrunner.runner.stop import CANCELLED, SILENT, TIMEOUT

_LOOK_S: Final = 0.25  # between two looks at a caller's own wish to stop
_ABORT_S: Final = 1.0  # between two looks at config.json
_SURE_S: Final = 60.0  # between two looks at a program whose end nobody told
_OVER: Final = frozenset({Phase.ENDED, Phase.LOST})


@dataclass
class _Stopping:
    """How far a stop has gone."""

    since: float
    terminated: bool = False


def supervise(attempt: Attempt, native_id: NativeId, started: float) -> tuple[bool, EngineStatus]:
    """
    Wait until the program has ended; pause it and stop it when that is asked for.

    Parameters
    ----------
    started
        When it was started, POSIX seconds: its time limit counts from there.

    Returns
    -------
    tuple of bool and EngineStatus
        Whether it had been asked to stop before it ended, and how it ended.
    """
    supervision = _Supervision(attempt, native_id, started)
    attempt.engine.notify(native_id, supervision.ended)
    try:
        status = supervision.until_end()
    finally:
        attempt.engine.forget(native_id)
    attempt.engine.cancel(native_id)  # children that outlived it
    return supervision.stopping is not None, status


class _Supervision:
    """One program, and what is to be done about it."""

    def __init__(self, attempt: Attempt, native_id: NativeId, started: float) -> None:
        self._attempt = attempt
        self._native_id = native_id
        self._started = started
        self._over = threading.Event()
        # An agent speaks the native wire, whose server is asked instead.
        self._abort = _AbortKey(attempt) if attempt.station.alone else None
        self._silence = Silence(attempt, started)
        self._paused_s = attempt.history.paused_s
        self._paused_since = attempt.history.paused_since
        self._sure = attempt.clock.now() + _SURE_S
        self.stopping = _resumed(attempt)
        if self._paused_since is not None:
            attempt.stop.pause(True)
            self._suspend()

    def ended(self) -> None:
        """Hear of the program's end."""
        self._over.set()
        self._attempt.stop.wake()

    def until_end(self) -> EngineStatus:
        """Wait for the program's end, doing meanwhile what is asked for."""
        engine, stop = self._attempt.engine, self._attempt.stop
        while True:
            try:
                stop.wait(self._next_look())
            except KeyboardInterrupt:
                if stop.asked():
                    raise  # asked twice: leave it running, a later start goes on with it
                stop.ask(CANCELLED)
            now = self._attempt.clock.now()
            if self._over.is_set() or now >= self._sure:
                self._over.clear()
                self._sure = now + _SURE_S
                status = engine.poll([self._native_id])[self._native_id]
                if status.phase in _OVER:
                    return status
            if self._attempt.watchers is not None:
                self._attempt.watchers.look(now)
            if self.stopping is None:
                self._heed(now)
            elif self._go_on_stopping(now):
                return engine.poll([self._native_id])[self._native_id]

    def _next_look(self) -> float:
        now = self._attempt.clock.now()
        times = [self._sure]
        if self._attempt.watchers is not None and self._attempt.watchers.due is not None:
            times.append(self._attempt.watchers.due)
        if self.stopping is not None:
            grace = self._attempt.limits.stop_grace_s
            times.append(self.stopping.since + grace * (2 if self.stopping.terminated else 1))
        else:
            if self._attempt.stop.must_look:
                times.append(now + _LOOK_S)
            if self._abort is not None:
                times.append(self._abort.next)
            if self._paused_since is None:
                times += [due for due in (self._limit(), self._silence.due()) if due is not None]
        return max(0.0, min(times) - now)

    def _limit(self) -> float | None:
        """Return when the program's time is up; None: never, as things stand."""
        limit = self._attempt.limits.time_s
        if limit is None or self._paused_since is not None:
            return None
        return self._started + limit + self._paused_s

    def _heed(self, now: float) -> None:
        attempt, stop = self._attempt, self._attempt.stop
        due = self._limit()
        if due is not None and now >= due:
            stop.ask(TIMEOUT)
        elif self._abort is not None and self._abort.asked(now):
            stop.ask(CANCELLED)
        elif self._paused_since is None and self._silence.look(now):
            stop.ask(SILENT)
        if stop.reason is not None:
            self._begin_stop(stop.reason, now)
        elif stop.pausing and self._paused_since is None:
            # On disk first: a program that nobody knows as paused would never go on.
            self._paused_since = now
            attempt.journal.note("paused", at=now, sync=False)
            self._suspend()
        elif not stop.pausing and self._paused_since is not None:
            self._resume(now)
            attempt.log.info("the program goes on")
            attempt.reporter.state(RunState.RUNNING)

    def _suspend(self) -> None:
        self._attempt.engine.suspend(self._native_id)
        self._attempt.log.info("the program is paused")
        self._attempt.reporter.state(RunState.PAUSED)

    def _resume(self, now: float) -> None:
        if self._paused_since is None:
            return
        self._attempt.engine.resume(self._native_id)
        woken = max(now, self._attempt.clock.now())  # it stood still until here
        self._attempt.journal.note("resumed", at=woken, sync=False)
        self._paused_s += max(0.0, woken - self._paused_since)
        self._paused_since = None
        self._silence.restart(woken)

    def _begin_stop(self, reason: str, now: float) -> None:
        attempt = self._attempt
        attempt.log.info("asking the program to stop: %s", reason)
        attempt.journal.note("stopping", at=now, reason=reason)
        try:
            attempt.folder.stop_file.write_text(f"{reason}\n", "utf-8")
        except OSError as error:
            attempt.log.warning("cannot write the stop file: %s", error)
        self._resume(now)
        self.stopping = _Stopping(now)

    def _go_on_stopping(self, now: float) -> bool:
        """Take the next step when it is due; True when the program has been killed."""
        attempt, stopping = self._attempt, self.stopping
        if stopping is None:
            return False
        self._resume(now)  # the runner may have been killed between the reason and the signal
        grace = attempt.limits.stop_grace_s
        waited = now - stopping.since
        if waited >= 2 * grace:
            attempt.log.warning("the program did not end on SIGTERM: killing it")
            attempt.engine.cancel(self._native_id)
            return True
        if waited >= grace and not stopping.terminated:
            attempt.log.info("sending SIGTERM to the program's process group")
            attempt.engine.terminate(self._native_id)
            stopping.terminated = True
        return False


def _resumed(attempt: Attempt) -> _Stopping | None:
    """Return the stop that an earlier runner had begun."""
    reason, since = attempt.history.stop_reason, attempt.history.stop_time
    if reason is None or since is None:
        return None
    attempt.stop.ask(reason)
    return _Stopping(since)


class _AbortKey:
    """A truthy ``abort`` that appears in config.json; looked at when it has changed."""

    def __init__(self, attempt: Attempt) -> None:
        paths = {str(attempt.folder.scripts / CONFIG_NAME), attempt.config.path or ""}
        self._stamps: dict[str, int] = {path: _stamp(path) for path in sorted(paths) if path}
        self.next = attempt.clock.now() + _ABORT_S  #: when it is looked at again
        self._asked = any(read_config(path).get("abort") for path in self._stamps)

    def asked(self, now: float) -> bool:
        """Say whether an abort was asked for."""
        if self._asked or now < self.next:
            return self._asked
        self.next = now + _ABORT_S
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

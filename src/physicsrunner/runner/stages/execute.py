"""
Stage execute: main.py, once.

Promises: a program that runs already, or has run, is never started again, whatever became of the
runner that started it: its native id stands in the journal, and its control folder can be claimed
only once. Its exit code decides the outcome, which is on disk before anything else is done.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from physicsrunner.core.state import RunState
from physicsrunner.engines.base import EngineStatus, NativeId, Phase
from physicsrunner.errors import ConfigError
from physicsrunner.runner.context import Attempt
from physicsrunner.runner.environment import program
from physicsrunner.runner.fetch import Stopped
from physicsrunner.runner.journal import Outcome
from physicsrunner.runner.place import PATIENCE_S
from physicsrunner.runner.process import supervise
from physicsrunner.runner.stop import CANCELLED, HAND_BACK, LEASE_LOST, SILENT, TIMEOUT
from physicsrunner.wire.messages import Failure

_TAIL: Final = 1 << 16  # bytes of the log that are searched for its last line


def run(attempt: Attempt) -> None:
    """Start main.py or go on with it; wait for its end; keep the outcome."""
    native_id, started = _running(attempt) or _start(attempt)
    if attempt.history.paused_since is None:
        attempt.reporter.state(RunState.RUNNING)
    stopped, status = supervise(attempt, native_id, started)
    outcome = judge(attempt, status, attempt.stop.reason if stopped else None)
    attempt.log.info("main.py ended: %s, exit code %s", outcome.state.value, outcome.exit_code)
    record(attempt, outcome)


def record(attempt: Attempt, outcome: Outcome) -> None:
    """Make *outcome* the attempt's, on disk first."""
    if outcome.error is not None:
        message = attempt.log_file.redact(outcome.error.message)
        outcome = replace(outcome, error=replace(outcome.error, message=message))
    attempt.journal.note(
        "outcome", state=outcome.state, exit_code=outcome.exit_code, error=outcome.error
    )
    attempt.outcome = outcome


def judge(attempt: Attempt, status: EngineStatus, reason: str | None) -> Outcome:
    """Return what the program's end means; *reason* is why it was asked to stop."""
    now, code = attempt.clock.now(), status.exit_code
    if reason == CANCELLED:
        return Outcome(RunState.CANCELLED, code, Failure(CANCELLED, "stopped on request"), now)
    if reason == TIMEOUT:
        limit = attempt.limits.time_s
        text = f"main.py was stopped after its time limit of {limit:g} s"
        return Outcome(RunState.TIMEOUT, code, Failure(TIMEOUT, text), now)
    if reason == SILENT:
        limit = attempt.limits.silence_s
        text = f"main.py was stopped: it had written nothing for {limit:g} s"
        return Outcome(RunState.TIMEOUT, code, Failure(SILENT, text), now)
    if reason == HAND_BACK:
        text = "handed back before its end: another attempt carries the run out"
        return Outcome(RunState.RETRYING, code, Failure(HAND_BACK, text), now)
    if reason == LEASE_LOST:
        text = "this attempt's lease went to another runner"
        return Outcome(RunState.FAILED, code, Failure(LEASE_LOST, text), now)
    if status.phase is Phase.LOST:
        text = "main.py vanished without an exit status (was the machine restarted?)"
        return Outcome(RunState.FAILED, None, Failure("program_lost", text), now)
    if code == 0:
        return Outcome(RunState.COMPLETED, 0, None, now)
    text = f"{attempt.main_script.name} ended {_how(code)}"
    last = _last_line(attempt.folder.main_log, attempt.log_file.redact)
    return Outcome(
        RunState.FAILED,
        code,
        Failure("program_failed", f"{text}; its log ends: {last}" if last else text),
        now,
    )


def _running(attempt: Attempt) -> tuple[NativeId, float] | None:
    history = attempt.history
    if history.program is not None:
        attempt.log.info("going on with the program that was started before")
        return NativeId(history.program), history.started or attempt.clock.now()
    found = attempt.engine.find(_control(attempt))
    if found is None:
        return None
    started = attempt.engine.began(found)  # killed between the start and the journal
    attempt.journal.note("program", native_id=found, started=started)
    return found, started


def _start(attempt: Attempt) -> tuple[NativeId, float]:
    if not attempt.main_script.is_file():
        raise ConfigError(
            f"there is no {attempt.main_script}: put main.py into scripts/, or name the archive "
            "that holds it by 'scriptsArchive' in config.json"
        )
    _await_place(attempt)
    if attempt.stop.asked():
        raise Stopped("stopped on request before main.py was started")
    attempt.folder.stop_file.unlink(missing_ok=True)
    started = attempt.clock.now()
    native_id = attempt.engine.submit(program(attempt))
    attempt.journal.note("program", native_id=native_id, started=started)
    return native_id, started


def _await_place(attempt: Attempt) -> None:
    """Wait for the place of the program; give the run back when that takes long."""
    place = attempt.place
    if place is None or place.taken:
        return
    place.when_taken(attempt.stop.wake)
    until = time.monotonic() + PATIENCE_S  # whatever becomes of the wall clock
    while not place.taken and not attempt.stop.asked():
        left = until - time.monotonic()
        if left > 0:
            attempt.stop.wait(left)
        elif place.give_up():
            attempt.stop.ask(HAND_BACK)
    attempt.stop.wake()  # a pause that was asked for meanwhile is for who follows the program


def _control(attempt: Attempt) -> Path:
    return attempt.folder.control / "program"


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        try:
            return f"by signal {-code} ({signal.Signals(-code).name})"
        except ValueError:
            return f"by signal {-code}"
    return f"with exit code {code}"


def _last_line(log: Path, redact: Callable[[str], str]) -> str:
    try:
        with log.open("rb") as file:
            begin = max(0, file.seek(0, 2) - _TAIL)
            file.seek(begin)
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    # Before anything is cut: half a secret would not be known as one. Nor is the first line whole.
    lines = redact(text).splitlines()[1 if begin else 0 :]
    return next((line.strip() for line in reversed(lines) if line.strip()), "")[:300]

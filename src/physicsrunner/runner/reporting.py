"""
What the runner says of its attempt while it goes on: to the server, and to the caller.

Promises: nothing here ever blocks the program or the stages; the server hears of progress at most
ten times a second, and always of the latest; state changes are sent in order and kept until the
server has them. Commands and lost leases in its answers reach the attempt's `StopRequest`.

The final report is not sent here but by `deliver`, which waits for its answer; what is still kept
here goes out before it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from physicsrunner.client.uplink import Uplink
from physicsrunner.core.retry import Backoff
from physicsrunner.core.state import RunState
from physicsrunner.errors import PhysicsRunnerError
from physicsrunner.runner.stop import CANCELLED, LEASE_LOST, Clock, StopRequest
from physicsrunner.wire.messages import Report, ReportAnswer

_BETWEEN_S: Final = 0.1


@dataclass(frozen=True)
class Progress:
    """What `run_solver` hands to ``on_progress``."""

    run: str
    attempt: int
    state: RunState
    stage: str | None = None
    progress: float | None = None  #: percent, 0 to 100
    label: str | None = None
    eta_s: float | None = None


class Reporter:
    """Reports of one attempt. Any thread may call; one thread sends."""

    def __init__(
        self,
        run: str,
        attempt: int,
        *,
        clock: Clock,
        stop: StopRequest,
        log: logging.Logger,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self._progress = Progress(run, attempt, RunState.PREPARING)
        self._clock = clock
        self._stop = stop
        self._log = log
        self._on_progress = on_progress
        self._guard = threading.Condition()
        self._states: list[Report] = []
        self._latest: Report | None = None
        self._uplink: Uplink | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        self._backoff = Backoff(base=0.25, cap=15.0)

    def rename(self, run: str, attempt: int) -> None:
        """Set the ids, once they are known; before `start`."""
        self._progress = replace(self._progress, run=run, attempt=attempt)

    def start(self, uplink: Uplink) -> None:
        """Begin to send to *uplink*."""
        with self._guard:
            if self._thread is not None or self._closed:
                return
            self._uplink = uplink
            self._thread = threading.Thread(target=self._send_all, name="reports", daemon=True)
        self._thread.start()

    def stage(self, name: str) -> None:
        """Say which stage it is in."""
        self._say(stage=name)

    def status(self, progress: float | None, label: str | None, eta_s: float | None = None) -> None:
        """Say how far it is; None says nothing new."""
        self._say(progress=progress, label=label, eta_s=eta_s)

    def state(self, state: RunState) -> None:
        """Say that the run is now in *state*."""
        with self._guard:
            if self._progress.state is state:
                return
            self._progress = replace(self._progress, state=state)
            now = self._clock.now()
            report = Report(self._progress.run, self._progress.attempt, state=state, time=now)
            self._states.append(report)
            self._guard.notify()
        self._tell()

    def close(self) -> list[Report]:
        """Stop sending; return the reports that the server does not have, oldest first."""
        with self._guard:
            self._closed = True
            self._guard.notify()
        if self._thread is not None:
            self._thread.join(timeout=30.0)
        left = [*self._states, *([self._latest] if self._latest else [])]
        self._states, self._latest = [], None
        return left

    def heed(self, commands: list[str], error: str | None) -> None:
        """Do what an answer of the server asks for."""
        if "cancel" in commands:
            self._stop.ask(CANCELLED)
        if error == "lease_lost":
            self._stop.ask(LEASE_LOST)

    def _say(
        self,
        *,
        stage: str | None = None,
        progress: float | None = None,
        label: str | None = None,
        eta_s: float | None = None,
    ) -> None:
        given = {"stage": stage, "progress": progress, "label": label, "eta_s": eta_s}
        said = {key: value for key, value in given.items() if value is not None}
        with self._guard:
            before = self._progress
            self._progress = replace(before, **said)  # type: ignore[arg-type]
            if self._progress == before:
                return
            latest = self._latest or Report(before.run, before.attempt)
            self._latest = replace(latest, **said, time=self._clock.now())  # type: ignore[arg-type]
            self._guard.notify()
        self._tell()

    def _tell(self) -> None:
        if self._on_progress is None:
            return
        try:
            self._on_progress(self._progress)
        except Exception:
            # The caller's own code: its fault must not end the run.
            self._log.exception("on_progress failed")

    def _send_all(self) -> None:
        tries = 0
        while True:
            batch = self._take()
            if not batch:
                return
            try:
                assert self._uplink is not None  # noqa: S101 (set before the thread starts)
                answers = self._uplink.report(batch)
            except PhysicsRunnerError as error:
                tries += 1
                self._log.info("a report was not delivered: %s", error)
                self._put_back(batch if error.retryable else batch[:0])
                wait = self._backoff.wait(
                    tries,
                    random=self._clock.random,
                    retry_after=getattr(error, "retry_after", None),
                )
            else:
                tries = 0
                self._heed_all(answers)
                wait = _BETWEEN_S
            with self._guard:
                self._guard.wait_for(lambda: self._closed, timeout=wait)

    def _take(self) -> list[Report]:
        """Wait for something to say; nothing means: closed."""
        with self._guard:
            self._guard.wait_for(lambda: self._closed or self._states or self._latest)
            if self._closed:
                return []
            batch = [*self._states, *([self._latest] if self._latest else [])]
            self._states, self._latest = [], None
            return batch

    def _put_back(self, batch: list[Report]) -> None:
        with self._guard:
            self._states = [report for report in batch if report.state] + self._states
            last = batch[-1] if batch and batch[-1].state is None else None
            if last is not None and self._latest is None:
                self._latest = last

    def _heed_all(self, answers: object) -> None:
        for answer in answers if isinstance(answers, (list, tuple)) else ():
            if isinstance(answer, ReportAnswer):
                # A run that cannot be running is over there: nobody waits for this program.
                over = answer.error == "illegal_transition"
                self.heed(answer.commands, "lease_lost" if over else answer.error)
                if answer.error:
                    self._log.warning("a report was refused: %s", answer.detail or answer.error)

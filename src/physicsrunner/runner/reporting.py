"""
What the runner says of its attempt while it goes on: to the server, and to the caller.

Promises: nothing here ever blocks the program or the stages; the server hears of progress at most
ten times a second, and always of the latest; state changes are sent in order and kept until the
server has them. Commands and lost leases in its answers reach the attempt's `StopRequest`; from a
lost lease on nothing more is reported. Values that are secret are not in what is said.

`reports.ReportSender` sends, for this attempt and all others. The final report is sent by
`deliver`, which waits for its answer; what is still kept here goes out before it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from physicsrunner.core.records import changed
from physicsrunner.core.state import RunState
from physicsrunner.errors import PhysicsRunnerError
from physicsrunner.runner.stop import CANCELLED, LEASE_LOST, Clock, StopRequest
from physicsrunner.wire.messages import Report, ReportAnswer

if TYPE_CHECKING:
    from physicsrunner.runner.reports import ReportSender


_NO_STEP: Final = ("", "solver")  # what a main.py says that does not name its step
_LONGEST_STEP: Final = 32  # characters
_LONGEST_S: Final = 1.0  # that first words wait


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
    """Reports of one attempt. Any thread may call; none waits."""

    def __init__(
        self,
        run: str,
        attempt: int,
        *,
        clock: Clock,
        stop: StopRequest,
        log: logging.Logger,
        on_progress: Callable[[Progress], None] | None = None,
        redact: Callable[[str], str] = lambda text: text,
    ) -> None:
        self._progress = Progress(run, attempt, RunState.PREPARING)
        self._clock = clock
        self._stop = stop
        self._log = log
        self._on_progress = on_progress
        self._guard = threading.Condition()
        self._states: list[Report] = []
        self._latest: Report | None = None
        self._redact = redact
        self._sender: ReportSender | None = None
        self._on_its_way = False
        self._closed = False
        self._fenced = False
        self._not_before = float("-inf")  # the first words wait: many attempts end soon
        self._heard: RunState | None = None

    @property
    def fenced(self) -> bool:
        """Whether the lease is another's: nothing more is reported then."""
        return self._fenced or self._stop.reason == LEASE_LOST

    def rename(self, run: str, attempt: int) -> None:
        """Set the ids, once they are known; before `start`."""
        self._progress = replace(self._progress, run=run, attempt=attempt)

    def start(self, sender: ReportSender, after: float = 0.0) -> None:
        """Begin to send by *sender*, in *after* seconds."""
        with self._guard:
            if self._sender is not None or self._closed:
                return
            self._sender = sender
            self._not_before = self._clock.now() + after
        sender.wake(self, after)

    @property
    def heard(self) -> RunState | None:
        """The state that the server has named last."""
        return self._heard

    @property
    def present(self) -> Progress:
        """What was said last."""
        return self._progress

    def stage(self, name: str) -> None:
        """Say which stage it is in."""
        self._say(stage=name)

    def status(
        self,
        progress: float | None,
        label: str | None,
        eta_s: float | None = None,
        *,
        step: str = "",
    ) -> None:
        """Say how far it is; None says nothing new. A *step* that main.py names is its stage."""
        label = None if label is None else self._redact(label)
        stage = None if step in _NO_STEP else self._redact(step)[:_LONGEST_STEP]
        self._say(stage=stage, progress=progress, label=label, eta_s=eta_s)

    def silent(self, silent: bool) -> None:
        """Say that the program has written nothing for long, or that it writes again."""
        with self._guard:
            now = self._clock.now()
            report = Report(self._progress.run, self._progress.attempt, silent=silent, time=now)
            self._states.append(report)
        self._wake()

    def state(self, state: RunState) -> None:
        """Say that the run is now in *state*."""
        with self._guard:
            if self._progress.state is state:
                return
            self._progress = replace(self._progress, state=state)
            now = self._clock.now()
            report = Report(self._progress.run, self._progress.attempt, state=state, time=now)
            self._states.append(report)
        self._wake()
        self._tell()

    def close(self) -> list[Report]:
        """Stop sending; return the reports that the server does not have, oldest first."""
        with self._guard:
            self._closed = True
            sender = self._sender
        if sender is not None:
            sender.forget(self)
        with self._guard:
            self._guard.wait_for(lambda: not self._on_its_way, timeout=60.0)
            left = self._left()
            return [] if self.fenced else left

    def heed(self, commands: Sequence[str], error: str | None) -> None:
        """Do what an answer of the server asks for."""
        if "cancel" in commands:
            self._stop.ask(CANCELLED)
        if "pause" in commands:
            self._stop.pause(True)
        elif "resume" in commands:
            self._stop.pause(False)
        if error == "lease_lost":
            self._stop.ask(LEASE_LOST)
            with self._guard:
                self._fenced = True
                self._left()

    # -- what the sender calls -------------------------------------------------------------------

    def take(self) -> list[Report]:
        """Give what there is to say, oldest first."""
        with self._guard:
            if self._closed or self.fenced:
                return []
            said = self._left()
            self._on_its_way = bool(said)
            return said

    def answered(self, answers: Sequence[ReportAnswer]) -> None:
        """Heed the answers."""
        for answer in answers:
            # A run that cannot be running is over there: nobody waits for this program.
            over = answer.error == "illegal_transition"
            self.heed(answer.commands, "lease_lost" if over else answer.error)
            self._heard = answer.state
            if answer.error:
                self._log.warning("a report was refused: %s", answer.detail or answer.error)
        self._landed()

    def put_back(self, reports: Sequence[Report], error: PhysicsRunnerError) -> None:
        """Keep *reports* for the next time, unless the server refused them."""
        self._log.info("a report was not delivered: %s", error)
        with self._guard:
            if error.retryable and not self.fenced:
                self._states = [report for report in reports if _stays(report)] + self._states
                last = reports[-1] if reports and not _stays(reports[-1]) else None
                if last is not None and self._latest is None:
                    self._latest = last
        self._landed()
        self._wake()

    def _left(self) -> list[Report]:
        left = [*self._states, *([self._latest] if self._latest else [])]
        self._states, self._latest = [], None
        return left

    def _landed(self) -> None:
        with self._guard:
            self._on_its_way = False
            self._guard.notify_all()

    def _wake(self) -> None:
        sender = self._sender
        if sender is not None and not (self._closed or self.fenced):
            sender.wake(self, self._later())

    def _later(self) -> float:
        # A clock that was set back must not hold us.
        left = self._not_before - self._clock.now()
        return left if 0.0 < left < _LONGEST_S else 0.0

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
            self._progress = changed(before, **said)
            if self._progress == before:
                return
            waits = self._latest is not None  # and so does the sender, for its time
            latest = self._latest or Report(before.run, before.attempt)
            self._latest = changed(latest, **said, time=self._clock.now())
        if not waits:
            self._wake()
        self._tell()

    def _tell(self) -> None:
        if self._on_progress is None:
            return
        try:
            self._on_progress(self._progress)
        except Exception:
            # The caller's own code: its fault must not end the run.
            self._log.exception("on_progress failed")


def _stays(report: Report) -> bool:
    """Say whether *report* must arrive; of the others the latest is enough."""
    return report.state is not None or report.silent is not None

"""
One sender for the reports of all attempts of a process.

Promises:

- One request carries what all attempts have to say: the states of each in order, and the latest
  of what changes all the time. A first word goes when its speaker says; the more there is to say,
  the longer the pause before the next request (never more than a few seconds).
- What the server does not take for now is handed back and sent again, with growing waits.
- `ask` is answered by the server: the end of an attempt goes with whatever else waits, at once.
- A request that is refused as a whole is made again for each attempt alone: the fault of one is
  not the others'.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from physicsrunner.client.uplink import Uplink
from physicsrunner.core.retry import Backoff
from physicsrunner.errors import PhysicsRunnerError, ServerUnavailable
from physicsrunner.wire.messages import Report, ReportAnswer

BETWEEN_S: Final = 0.1  #: between two requests that carry only progress
LONGEST_S: Final = 5.0
MOST: Final = 500  #: reports in one request
_LINGER_S: Final = 0.004  #: for others that end together with one
_SHARE: Final = 4.0  #: pauses for so many times as long as the request took


class Speaker(Protocol):
    """One attempt that has something to say."""

    def take(self) -> list[Report]:
        """Give what there is to say, oldest first; `answered` or `put_back` follows."""
        ...

    def answered(self, answers: Sequence[ReportAnswer]) -> None:
        """Hear the server's answers to what was taken, in order."""
        ...

    def put_back(self, reports: Sequence[Report], error: PhysicsRunnerError) -> None:
        """Have again what was taken: the server did not take it."""
        ...


@dataclass
class _Asked:
    """Reports whose sender waits for the answer."""

    reports: Sequence[Report]
    done: threading.Event = field(default_factory=threading.Event)
    answers: Sequence[ReportAnswer] = ()
    error: PhysicsRunnerError | None = None

    def take(self) -> list[Report]:
        return list(self.reports)

    def answered(self, answers: Sequence[ReportAnswer]) -> None:
        self.answers = answers
        self.done.set()

    def put_back(self, reports: Sequence[Report], error: PhysicsRunnerError) -> None:
        del reports  # whoever asked has them
        self.error = error
        self.done.set()


class ReportSender:
    """Sends the reports of attempts to one server. Any thread may call; one thread sends."""

    def __init__(
        self,
        uplink: Uplink,
        *,
        random: Callable[[], float],
        now: Callable[[], float] = time.monotonic,
        log: logging.Logger | None = None,
    ) -> None:
        self._uplink = uplink
        self._random = random
        self._now = now
        self._log = log or logging.getLogger(__name__)
        self._guard = threading.Condition()
        self._waiting: dict[int, Speaker] = {}
        self._asked: list[_Asked] = []
        self._backoff = Backoff(base=0.25, cap=15.0)
        self._tries = 0
        self._next = float("-inf")
        self._due = float("inf")  # when the first of those that wait wants to be heard
        self._closed = False
        self._thread: threading.Thread | None = None
        self.least_s = BETWEEN_S  #: the rhythm that the server asks for

    def wake(self, speaker: Speaker, after: float = 0.0) -> None:
        """Ask *speaker* what it has to say when it is time, in *after* seconds at the earliest."""
        due = self._now() + after
        with self._guard:
            if self._closed:
                return
            sooner = due < self._due
            self._waiting[id(speaker)] = speaker
            self._begin()
            if sooner:
                self._due = due
                self._guard.notify()

    def forget(self, speaker: Speaker) -> None:
        """Ask *speaker* no more."""
        with self._guard:
            self._waiting.pop(id(speaker), None)
            if not self._waiting:
                # The time of one that has gone would pass for an earlier one than the next wants.
                self._due = float("inf")

    def ask(self, reports: Sequence[Report]) -> Sequence[ReportAnswer]:
        """
        Send *reports* now; return their answers.

        Raises
        ------
        PhysicsRunnerError
            As `Uplink.report` does; it is one try.
        """
        asked = _Asked(reports)
        with self._guard:
            if self._closed:
                raise ServerUnavailable("reports are sent no more: the runner is closing")
            self._asked.append(asked)
            self._begin()
            self._guard.notify()
        asked.done.wait()
        if asked.error is not None:
            raise asked.error
        return asked.answers

    def close(self) -> None:
        """Stop sending; a request that is on its way is waited for."""
        with self._guard:
            self._closed = True
            self._guard.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=60.0)
        with self._guard:
            left, self._asked = self._asked, []
            self._waiting.clear()
        for asked in left:
            asked.put_back([], ServerUnavailable("reports are sent no more"))

    # -- the thread ------------------------------------------------------------------------------

    def _begin(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name="reports", daemon=True)
            self._thread.start()

    def _loop(self) -> None:
        while True:
            turn = self._turn()
            if turn is None:
                return
            began = self._now()
            away: PhysicsRunnerError | None = None
            for parts in _portions(turn):
                if away is None:
                    away = self._post(parts)
                else:
                    _hand_back(parts, away)
                if away is not None and not away.retryable:
                    away = None  # an answer, about these alone
            if away is None:
                took = self._now() - began
                self._tries = 0
                self._next = self._now() + min(LONGEST_S, max(self.least_s, _SHARE * took))

    def _turn(self) -> list[Speaker] | None:
        """Wait for something to say and for its time; None when closed."""
        with self._guard:
            while not self._closed and not self._asked:
                left = max(self._next, self._due) - self._now() if self._waiting else None
                if left is not None and left <= 0:
                    break
                self._guard.wait(left)
            if len(self._asked) == 1 and not self._closed:
                self._guard.wait(_LINGER_S)
            if self._closed:
                return None
            speakers: list[Speaker] = [*self._waiting.values(), *self._asked]
            self._waiting, self._asked, self._due = {}, [], float("inf")
            return speakers

    def _post(self, parts: Sequence[tuple[Speaker, list[Report]]]) -> PhysicsRunnerError | None:
        reports = [report for _, said in parts for report in said]
        try:
            answers = self._uplink.report(reports)
            if len(answers) != len(reports):
                raise ServerUnavailable(f"{len(answers)} answers to {len(reports)} reports")
        except PhysicsRunnerError as error:
            if not error.retryable and len(parts) > 1:
                # One of them spoils it, or all: each for itself.
                failures = [self._post([part]) for part in parts]
                return next((failure for failure in failures if failure is not None), None)
            self._failed(error, parts)
            return error
        except Exception as error:
            self._log.exception("reports were not sent")
            failure = ServerUnavailable(f"{type(error).__name__}: {error}")
            self._failed(failure, parts)
            return failure
        at = 0
        for speaker, said in parts:
            speaker.answered(answers[at : at + len(said)])
            at += len(said)
        return None

    def _failed(
        self, error: PhysicsRunnerError, parts: Sequence[tuple[Speaker, list[Report]]]
    ) -> None:
        self._tries += 1
        self._next = self._now() + self._backoff.wait(
            self._tries, random=self._random, retry_after=getattr(error, "retry_after", None)
        )
        _hand_back(parts, error)


def _hand_back(parts: Sequence[tuple[Speaker, list[Report]]], error: PhysicsRunnerError) -> None:
    for speaker, said in parts:
        speaker.put_back(said, error)


def _portions(speakers: Sequence[Speaker]) -> list[list[tuple[Speaker, list[Report]]]]:
    """Return what *speakers* say, in portions for one request each."""
    portions: list[list[tuple[Speaker, list[Report]]]] = [[]]
    count = 0
    for speaker in speakers:
        said = speaker.take()
        if not said:
            continue
        if count and count + len(said) > MOST:
            portions.append([])
            count = 0
        portions[-1].append((speaker, said))
        count += len(said)
    return [portion for portion in portions if portion]

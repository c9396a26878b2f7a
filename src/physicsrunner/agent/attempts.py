"""
The attempts of this agent: those under way, each in a thread of its own, and those whose files
wait for the server.

Promises: an attempt is carried out once at a time; one that fails in whatever way ends neither the
agent nor the others; what was not delivered stays, is leased to us as long as the server says so,
and is tried again. What was lost to another agent is reported by nobody.

It decides nothing about when to ask for work, and makes no request.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from physicsrunner.agent.adopt import Terms, Work, finish, has_program, terms_in, terms_of
from physicsrunner.agent.places import AgentPlace, Places
from physicsrunner.agent.spares import Spares
from physicsrunner.errors import NotFound, PhysicsRunnerError, StorageFull
from physicsrunner.runner.place import Place
from physicsrunner.runner.result import RunResult
from physicsrunner.wire.messages import HeldLease, LeaseGrant, RenewalAnswer

REDELIVER_S: Final = 60.0  #: between two tries to deliver what could not be delivered


class Control(Protocol):
    """What can be asked of an attempt under way, from any thread, any number of times."""

    def cancel(self) -> None:
        """Stop the program; the run ends cancelled."""

    def pause(self) -> None:
        """Stop the clock of the program and the program."""

    def resume(self) -> None:
        """Let it go on."""

    def lease_lost(self) -> None:
        """Stop the program, report nothing more, deliver its files."""

    def hand_back(self) -> None:
        """Stop the program and give the run back to the queue, uncounted."""

    def token(self, token: str) -> None:
        """Take a fresh token of the attempt."""


class CarryOut(Protocol):
    """Carries out attempts (`agent.carry.Runner`)."""

    def start(self) -> None:
        """Make ready what attempts share."""

    def rhythm(self, flush_s: float) -> None:
        """Send what changed in one file no more often than that."""

    def close(self) -> None:
        """End what attempts share; no program."""

    def control(self) -> Any:
        """Return the control of an attempt that is about to begin."""
        ...

    def __call__(
        self,
        work: Work,
        control: Any,
        grant: LeaseGrant | None,
        place: Place,
        /,
    ) -> RunResult:
        """
        Return what became of it; raise if it cannot even begin.

        Its program starts when *place* is taken, which is left when only its files are on the way.
        """
        ...


@dataclass
class Held:
    """One attempt of ours."""

    work: Work
    terms: Terms
    control: Control
    place: AgentPlace
    thread: threading.Thread | None = None  #: None: its files wait
    due: float = 0.0  #: when to try again to deliver them
    lost: bool = False  #: it is another's, or will be


class Attempts:
    """All attempts of one agent. Thread-safe."""

    def __init__(
        self,
        carry: CarryOut,
        places: Places,
        *,
        prepare: Callable[[LeaseGrant], object],
        on_full: Callable[[LeaseGrant, StorageFull], None],
        on_end: Callable[[], None],
        is_gone: Callable[[Work], bool],
        now: Callable[[], float],
        log: logging.Logger,
        keep: bool = False,
        spares: Spares | None = None,
    ) -> None:
        self._carry = carry
        self._places = places
        self._prepare = prepare
        self._on_full = on_full
        self._on_end = on_end
        self._is_gone = is_gone
        self._now = now
        self._log = log
        self._keep = keep
        self._spares = spares
        self._guard = threading.RLock()
        self._held: dict[tuple[str, int], Held] = {}
        self._unsaid: dict[tuple[str, int], str] = {}

    # -- what there is -------------------------------------------------------------------------

    def running(self) -> int:
        """Return how many are under way."""
        with self._guard:
            return sum(held.thread is not None for held in self._held.values())

    def stopping(self) -> int:
        """Return how many are being stopped because they are another's."""
        with self._guard:
            return sum(held.lost and held.thread is not None for held in self._held.values())

    def waiting(self) -> list[Work]:
        """Return those whose files wait for the server."""
        with self._guard:
            return [held.work for held in self._held.values() if held.thread is None]

    def leases(self) -> list[HeldLease]:
        """Return the leases to keep."""
        with self._guard:
            return [HeldLease(*key) for key, held in self._held.items() if not held.lost]

    def due(self) -> list[Work]:
        """Return those whose files wait and should be tried now."""
        now = self._now()
        with self._guard:
            waiting = [held for held in self._held.values() if held.thread is None]
            return [held.work for held in waiting if held.due <= now]

    # -- beginning and ending ------------------------------------------------------------------

    def begin(self, work: Work, grant: LeaseGrant | None = None) -> bool:
        """
        Carry *work* out in a thread, which first makes its folder if it was just granted.

        False when that is going on, or not due yet.
        """
        with self._guard:
            held = self._held.get(work.key)
            if held is not None and (held.thread is not None or held.due > self._now()):
                return False
            terms = terms_of(work) if grant is None else terms_in(grant)
            # A program of before runs already; it takes what it takes. What was only leased waits.
            runs = grant is None and has_program(work)
            place = self._places.enter(terms.resources, at_once=runs)
            fresh = Held(work, terms, self._carry.control(), place)
            if held is not None and held.lost:
                fresh.lost = True
                fresh.control.lease_lost()
            name = f"attempt {work.run[:8]}/{work.attempt}"
            fresh.thread = threading.Thread(
                target=self._run, args=(fresh, grant), name=name, daemon=True
            )
            self._held[work.key] = fresh
        fresh.thread.start()
        return True

    def join(self, timeout: float) -> None:
        """Wait for the threads of attempts that have ended."""
        with self._guard:
            threads = [held.thread for held in self._held.values() if held.thread]
        for thread in threads:
            thread.join(timeout)

    def _run(self, held: Held, grant: LeaseGrant | None) -> None:
        try:
            outcome = self._carried_out(held, grant)
            with self._guard:
                if outcome is None:
                    held.due = self._now() + REDELIVER_S
                    held.thread = None
                else:
                    self._held.pop(held.work.key, None)
        finally:
            held.place.over()
            self._on_end()

    def _carried_out(self, held: Held, grant: LeaseGrant | None) -> RunResult | str | None:
        """Carry one out; None: it must be tried again."""
        work = held.work
        try:
            if grant is not None and not self._made(grant):
                return "given back"
            result = self._carry(work, held.control, grant, held.place)
        except NotFound as error:
            return self._gone(held, str(error))
        except PhysicsRunnerError as error:
            self._log.error(
                "run %s, attempt %d: %s (%s)", work.run, work.attempt, error, error.what_to_do
            )
            return None
        except Exception:
            # One run that we cannot handle must not end the agent, nor all those after it.
            self._log.exception("run %s, attempt %d", work.run, work.attempt)
            return None
        if not result.delivered and self._is_gone(work):
            return self._gone(held, "the server knows it no more")
        if not result.delivered:
            self._log.warning(
                "run %s is %s; its files wait in %s", work.run, result.state.value, work.root
            )
            return None
        self._log.info("run %s, attempt %d: %s", work.run, work.attempt, result.state.value)
        # Warnings name files that could not be sent; their only copy is here.
        remove = not self._keep and not result.warnings
        return self._finished(held, result.state.value, remove=remove)

    def _made(self, grant: LeaseGrant) -> bool:
        """Make the work folder; False when there is no room for it."""
        try:
            self._prepare(grant)
        except StorageFull as error:
            self._on_full(grant, error)
            return False
        return True

    def _gone(self, held: Held, why: str) -> str:
        work = held.work
        self._log.error(
            "run %s, attempt %d: %s; the run may have been deleted: its files stay in %s",
            work.run,
            work.attempt,
            why,
            work.root,
        )
        return self._finished(held, "not_found", remove=False)

    def _finished(self, held: Held, outcome: str, *, remove: bool) -> str:
        try:
            finish(held.work, outcome, remove=remove, spares=self._spares)
        except OSError as error:
            self._log.error("%s cannot be closed: %s", held.work.root, error)
        return outcome

    # -- what is asked of them -----------------------------------------------------------------

    def command(self, run: str, attempt: int, command: str) -> None:
        """Hand a command of the server to its attempt; unknown ones are of a newer server."""
        held = self._held.get((run, attempt))
        if held is None or held.thread is None or held.lost:
            return
        if command == "cancel":
            held.control.cancel()
        elif command == "pause":
            held.control.pause()
        elif command == "resume":
            held.control.resume()

    def answered(self, answers: Sequence[RenewalAnswer]) -> None:
        """Take what a heartbeat brought: tokens, commands, lost leases."""
        for answer in answers:
            held = self._held.get((answer.run, answer.attempt))
            if held is None:
                continue
            if answer.error is not None:
                self._lost(held, answer.error)
                continue
            if answer.token:
                held.control.token(answer.token)
            for command in answer.commands:
                self.command(answer.run, answer.attempt, command)

    def contact_lost(
        self, why: str = "no contact beyond the grace time", *, everything: bool = False
    ) -> None:
        """Stop what others are given: nobody answered for so long, or the server refuses us."""
        for held in list(self._held.values()):
            if (everything or held.terms.stop_when_lost) and not held.lost:
                self._lost(held, why)
                with self._guard:
                    self._unsaid[held.work.key] = why

    def unsaid(self) -> dict[tuple[str, int], str]:
        """Return the attempts that we stopped for want of contact, and why: no server knows it."""
        with self._guard:
            return {
                key: why
                for key, why in self._unsaid.items()
                if key not in self._held or self._held[key].thread is None
            }

    def said(self, key: tuple[str, int]) -> None:
        """Note that the server knows."""
        with self._guard:
            self._unsaid.pop(key, None)

    def contact_back(self) -> None:
        """The server answers again: what waits may go at once."""
        with self._guard:
            for held in self._held.values():
                held.due = 0.0

    def hand_back(self) -> None:
        """Stop every program and give the runs back."""
        for held in list(self._held.values()):
            if held.thread is not None and not held.lost:
                held.control.hand_back()

    def _lost(self, held: Held, why: str) -> None:
        with self._guard:
            if held.lost:
                return
            held.lost = True
        work = held.work
        self._log.warning(
            "run %s, attempt %d is no longer ours (%s): its program is stopped, its files are sent",
            work.run,
            work.attempt,
            why,
        )
        held.control.lease_lost()

"""
The agent: leases runs from a server and carries out many at once, in one process.

Promises: what an earlier agent process left unfinished is taken up again, all of it at once, before
new work is leased; a server that is away is waited for; nothing of a run is lost with the agent,
its work folder has all of it. However the process ends, no program is stopped by that, and the
next agent on this work folder takes it up again.

It never imports the server. One loop a file: `acquire` asks for work, `heartbeat` keeps what is
leased, `wake` listens, `attempts` carries out, `adopt` knows the work folders; here they are put
together.
"""

from __future__ import annotations

import fcntl
import logging
import os
import random as chance
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from physicsrunner.agent.acquire import BATCH, POLL_S, Acquirer
from physicsrunner.agent.adopt import Work, has_program, place_of, prepare, sweep, unfinished
from physicsrunner.agent.attempts import REDELIVER_S, Attempts, CarryOut
from physicsrunner.agent.contact import Contact, boot_clock
from physicsrunner.agent.drain import OnTerm
from physicsrunner.agent.enroll import Credentials
from physicsrunner.agent.heartbeat import ACTIVE, Heartbeat
from physicsrunner.agent.notify import Notifier
from physicsrunner.agent.places import Places
from physicsrunner.agent.resources import Machine
from physicsrunner.agent.spares import Spares
from physicsrunner.agent.wake import Wake
from physicsrunner.client.http import Http
from physicsrunner.core.retry import LOST_CONTACT
from physicsrunner.core.state import RunState
from physicsrunner.errors import (
    AgentRefused,
    ConfigError,
    NotFound,
    PhysicsRunnerError,
    StorageFull,
    WorkDirLocked,
)
from physicsrunner.runner.watch import is_network
from physicsrunner.wire import rest
from physicsrunner.wire.codec import encode
from physicsrunner.wire.messages import Failure, LeaseGrant, Report

_CONTACT: Final = "contact.json"
_REFUSED_S: Final = 10.0  # until the next question, after one that was refused
_STOP_S: Final = 60.0  # for programs that others are given, when the server refuses us


class Agent:
    """
    One agent of one server, on one folder.

    Parameters
    ----------
    who
        The server, the agent's name, and its token.
    work
        The folder of the work folders. One agent process at a time uses it (`locked`).
    machine
        What it offers.
    http
        The connections of this process to the server, with the agent's token. It is not closed.
    carry_out
        Carries out one attempt.
    poll_s
        Seconds between two questions for work when nothing wakes the agent.
    idle_s
        End after so many seconds without anything to do; None: never.
    keep
        Keep work folders whose files are all on the server.
    """

    def __init__(
        self,
        who: Credentials,
        work: Path,
        machine: Machine,
        *,
        http: Http,
        carry_out: CarryOut,
        poll_s: float = POLL_S,
        idle_s: float | None = None,
        keep: bool = False,
        notifier: Notifier | None = None,
        now: Callable[[], float] = boot_clock,
        random: Callable[[], float] = chance.random,
        log: logging.Logger | None = None,
    ) -> None:
        self.name = who.name
        self.work = work.absolute()
        self._who = who
        self._machine = machine
        self._idle_s = idle_s
        self._notifier = notifier or Notifier()
        self._now = now
        self._log = log or logging.getLogger(__name__)
        self._http = http
        self._carry = carry_out
        self._woken = threading.Event()
        self._draining = threading.Event()
        self._rest_until = 0.0
        self._busy = now()  # when there was something to do
        self._how = OnTerm.FINISH
        self._spares = Spares(str(self.work))
        self.places = Places(machine, now, self._woken.set)
        self.attempts = Attempts(
            carry_out,
            self.places,
            prepare=lambda grant: prepare(self.work, grant, who.server, self._spares),
            on_full=self._full,
            on_end=self._woken.set,
            is_gone=self._is_gone,
            now=now,
            log=self._log,
            keep=keep,
            spares=self._spares,
        )
        self.contact = Contact(self.work / _CONTACT, now=now)
        self._acquirer = Acquirer(
            http, self.name, machine, random=random, log=self._log, poll_s=poll_s
        )
        self._heartbeat = self._make_heartbeat(random)
        self._wake = self._make_wake()

    def drain(self, how: OnTerm = OnTerm.FINISH) -> None:
        """Take no more work, and end when nothing runs. From any thread, not a signal handler."""
        self._how = how
        self._draining.set()
        if how is OnTerm.HAND_BACK:
            self.attempts.hand_back()
        self._heartbeat.poke()
        self._woken.set()

    def run(self) -> None:
        """
        Work until `drain`, or until there was nothing to do for so long.

        Raises
        ------
        AgentRefused
            The server takes this agent no more.
        """
        try:
            self._carry.start()
            self._take_up()
            if self._draining.is_set():  # asked for before there was anything to ask
                self.drain(self._how)
            self._heartbeat.start()
            self._wake.start()
            self._notifier.ready(f"{self.name} at {self._who.server}")
            while not self._over():
                self._once()
        finally:
            self._notifier.stopping("ending")
            self._draining.set()
            self._wake.close()
            self._heartbeat.close()
            self._carry.close()
            self._spares.close()

    def _make_heartbeat(self, random: Callable[[], float]) -> Heartbeat:
        return Heartbeat(
            self._http,
            self.name,
            self._machine,
            self.attempts,
            self.places,
            self.contact,
            draining=self._draining.is_set,
            on_news=self._woken.set,
            on_rhythm=self._carry.rhythm,
            now=self._now,
            random=random,
            log=self._log,
        )

    def _make_wake(self) -> Wake:
        return Wake(
            self._who.server,
            self._who.token or "",
            self.name,
            self._log,
            on_work=self._woken.set,
            on_command=self.attempts.command,
            on_news=self._heartbeat.poke,
        )

    def _take_up(self) -> None:
        """Go on with all that an earlier process left, at once."""
        sweep(self.work)
        if not is_network(self.work):  # what is removed there may come back under another name
            self._spares.start()
        # What runs comes before what waited for it.
        for work in sorted(unfinished(self.work, self._log), key=has_program, reverse=True):
            self._log.info("taking up run %s, attempt %d again", work.run, work.attempt)
            self.attempts.begin(work)

    def _over(self) -> bool:
        if self._heartbeat.refused is not None:
            self._give_up(self._heartbeat.refused)
        running = self.attempts.running()
        waiting = self.attempts.waiting()
        if running or waiting:
            self._busy = self._now()
        if self._draining.is_set() and not running:
            for work in waiting:
                self._log.warning("%s is delivered at the next start", work.root)
            return True
        idle = self._now() - self._busy
        if self._idle_s is not None and idle >= self._idle_s:
            self._log.info("nothing to do for %.0f s: ending", idle)
            return True
        return False

    def _once(self) -> None:
        """Do what is due, then wait for news."""
        self._woken.clear()
        wait = self._acquirer.wait_s()
        if self.contact.answering:
            self._say_what_was_stopped()
            for work in self.attempts.due():
                self.attempts.begin(work)
        if self._wants_work() and self._take_work():
            return  # there may be more
        if self._idle_s is not None:
            wait = min(wait, max(0.05, self._busy + self._idle_s - self._now()))
        if self._notifier.watchdog_s is not None and self._heartbeat.healthy:
            self._notifier.alive(f"{self.attempts.running()} runs at {self._who.server}")
            wait = min(wait, self._notifier.watchdog_s / 3.0)
        self._woken.wait(wait)

    def _wants_work(self) -> bool:
        return (
            not self._draining.is_set()
            and self._heartbeat.state == ACTIVE
            and self._rest_until <= self._now()
        )

    def _take_work(self) -> bool:
        """Ask for work and begin it; True when more may wait and there is room for it."""
        if self.places.offer()[1] <= 0:
            return False
        self._draining.wait(self._acquirer.pause_s())
        free, slots = self.places.offer()
        if slots <= 0 or free.cpu_cores <= 0.0:
            return False
        try:
            grants = self._acquirer.acquire(free, slots, self.attempts.leases())
        except PhysicsRunnerError as error:
            # Whether the server takes us no more, the heartbeat finds out.
            self._log.error("asking for work: %s; again in %.0f s", error, _REFUSED_S)
            self._rest_until = self._now() + _REFUSED_S
            self._heartbeat.poke()
            return False
        if self._draining.is_set():  # asked for meanwhile
            for grant in grants:
                self._give_back(grant)
            return False
        begun = sum(self._begin(grant) for grant in grants)
        if self._draining.is_set() and self._how is OnTerm.HAND_BACK:
            self.attempts.hand_back()  # asked for while they were begun
        if begun:
            self._busy = self._now()
        return begun == len(grants) == min(slots, BATCH)

    def _begin(self, grant: LeaseGrant) -> bool:
        """Carry out what was granted; False when that is going on."""
        begun = self.attempts.begin(place_of(self.work, grant), grant)
        if begun:
            self._log.info("run %s (number %d), attempt %d", grant.run, grant.number, grant.attempt)
        return begun

    def _full(self, grant: LeaseGrant, error: StorageFull) -> None:
        self._log.error("%s; asking for no work for %.0f s", error, REDELIVER_S)
        self._rest_until = self._now() + REDELIVER_S
        self._give_back(grant)

    def _give_back(self, grant: LeaseGrant) -> None:
        report = Report(grant.run, grant.attempt, hand_back=True)
        try:
            self._report(report)
        except PhysicsRunnerError as error:
            self._log.error("run %s could not be given back: %s", grant.run, error)

    def _say_what_was_stopped(self) -> None:
        """
        Tell the server, which answers again, of the programs that we stopped without it.

        Nobody has to wait until it gives them up itself. If it has, it takes no notice.
        """
        for key, why in self.attempts.unsaid().items():
            failure = Failure(LOST_CONTACT, f"{self.name} stopped it: {why}")
            try:
                self._report(Report(*key, state=RunState.FAILED, error=failure))
            except PhysicsRunnerError as error:
                self._log.warning("run %s: what became of it is said later: %s", key[0], error)
                return
            self.attempts.said(key)

    def _is_gone(self, work: Work) -> bool:
        """Say whether the server, asked for the attempt's files, knows it no more."""
        try:
            self._http.value("GET", rest.attempt_files(work.run, work.attempt))
        except NotFound:
            return True
        except PhysicsRunnerError:
            return False  # nobody can say now
        return False

    def _report(self, report: Report) -> None:
        self._http.value("POST", rest.REPORTS, json={"reports": [encode(report)]})

    def _give_up(self, error: PhysicsRunnerError) -> None:
        """
        Stop what others will be given, and say that it is over with this server.

        One that was removed holds nothing any more: its runs are others' or have failed, all of
        them. Without its token alone it may still come back to those that wait for it.
        """
        removed = isinstance(error, AgentRefused)
        self.attempts.contact_lost("the server takes this agent no more", everything=removed)
        until = self._now() + _STOP_S
        while self.attempts.stopping() and self._now() < until:
            self._woken.clear()
            self._woken.wait(1.0)
        running = self.attempts.running()
        left = f"; programs left running: {running}" if running else ""
        raise AgentRefused(
            f"{self._who.server} takes agent {self.name} no more ({error}){left}"
        ) from error


@contextmanager
def locked(work: Path) -> Iterator[None]:
    """
    Make the folder *work* and hold it for one agent.

    Raises
    ------
    WorkDirLocked
        Another agent uses it.
    ConfigError
        It cannot be used.
    """
    try:
        work.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(work / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"the work folder {work} cannot be used: {error.strerror}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            other = os.pread(handle, 32, 0).decode(errors="replace").strip() or "unknown"
            raise WorkDirLocked(
                f"the agent with pid {other} uses {work}: give each agent a --work of its own"
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)

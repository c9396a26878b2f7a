"""
The agent: leases runs from a server and carries them out, one at a time.

Promises: what an earlier agent process left unfinished is taken up again before new work is
leased; a server that is away is waited for; nothing of a run is lost with the agent, its work
folder has all of it. `stop` makes it take no more work; an attempt under way goes on, and when the
process ends all the same, the next agent on this work folder takes it up again.

It never imports the server. One loop a file: `acquire` asks for work, `wake` listens for it,
`adopt` knows the work folders; here they are put together. Many runs at once will be a pool in
`_carry_out`.
"""

from __future__ import annotations

import fcntl
import logging
import os
import platform
import random as chance
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from physicsrunner.agent.acquire import POLL_S, Acquirer
from physicsrunner.agent.adopt import Work, finish, prepare, unfinished
from physicsrunner.agent.wake import Wake
from physicsrunner.client.http import Http
from physicsrunner.errors import PhysicsRunnerError, WorkDirLocked
from physicsrunner.runner.result import RunResult
from physicsrunner.wire.messages import LeaseRequest, Resources

REDELIVER_S: Final = 60.0  #: between two tries to deliver what could not be delivered


class CarryOut(Protocol):
    """Carries out the attempt in one work folder (`agent.carry.Runner`)."""

    def __call__(self, work: Work, stop: threading.Event) -> RunResult:
        """Return what became of it; cancel it when *stop* is set; raise if it cannot even begin."""
        ...


class Agent:
    """
    One agent of one server, on one folder.

    Parameters
    ----------
    server_url, token
        The server, and an agent's token for it.
    work
        The folder of the work folders. One agent process at a time uses it.
    name
        The agent's id; it must stay the same from one start to the next.
    poll_s
        Seconds between two questions for work when nothing wakes the agent.
    keep
        Keep work folders whose files are all on the server.
    """

    def __init__(
        self,
        server_url: str,
        token: str,
        work: Path,
        *,
        carry_out: CarryOut,
        name: str | None = None,
        poll_s: float = POLL_S,
        keep: bool = False,
        now: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = chance.random,
        log: logging.Logger | None = None,
    ) -> None:
        self.name = name or socket.gethostname()
        self.work = work.absolute()
        self._server = server_url.rstrip("/")
        self._token = token
        self._carry = carry_out
        self._keep = keep
        self._now = now
        self._log = log or logging.getLogger(__name__)
        self._http = Http(self._server, token)
        request = LeaseRequest(self.name, free=_resources(), max=1, host=_host())
        self._acquirer = Acquirer(self._http, request, random=random, poll_s=poll_s)
        self._stopping = threading.Event()
        self._woken = threading.Event()
        self._wake = Wake(
            self._server,
            token,
            self.name,
            self._log,
            on_work=self._woken.set,
            on_cancel=self._cancel,
        )
        self._running: dict[tuple[str, int], threading.Event] = {}
        self._later: dict[Path, float] = {}  # work folder -> when to try its delivery again

    def stop(self) -> None:
        """Take no more work. May be called from any thread and in a signal handler."""
        self._stopping.set()
        self._woken.set()

    def run(self) -> None:
        """Work until `stop`."""
        self.work.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _locked(self.work):
            try:
                self._take_up()
                while not self._stopping.is_set():
                    self._once()
            finally:
                self._wake.close()
                self._http.close()

    def _take_up(self) -> None:
        for work in unfinished(self.work):
            if self._stopping.is_set():
                return
            self._log.info("taking up run %s, attempt %d again", work.run, work.attempt)
            self._carry_out(work)

    def _once(self) -> None:
        """Ask for work; carry it out, or wait."""
        self._wake.start()
        self._woken.clear()
        began = False
        for grant in self._acquirer.acquire():
            work = prepare(self.work, grant, self._server)
            # One that could not even begin is leased to us again at once: not in a tight loop.
            if self._later.get(work.root, 0.0) > self._now():
                continue
            began = True
            self._log.info("run %s (number %d), attempt %d", grant.run, grant.number, grant.attempt)
            self._carry_out(work)
        if not began and not self._stopping.is_set():
            self._deliver_late()
            self._woken.wait(self._acquirer.wait_s())

    def _deliver_late(self) -> None:
        """Try again what could not be delivered, when it is time and the server answers."""
        if not self._acquirer.contact:
            return
        due = {root for root, when in self._later.items() if when <= self._now()}
        if due:
            for work in unfinished(self.work):
                if work.root in due and not self._stopping.is_set():
                    self._carry_out(work)

    def _cancel(self, run: str, attempt: int) -> None:
        """Stop an attempt now; its own renewal would hear of the request later."""
        stop = self._running.get((run, attempt))
        if stop is not None:
            stop.set()

    def _carry_out(self, work: Work) -> None:
        stop = self._running[work.run, work.attempt] = threading.Event()
        try:
            result = self._carry(work, stop)
        except PhysicsRunnerError as error:
            self._log.error("run %s, attempt %d: %s", work.run, work.attempt, error)
            self._later[work.root] = self._now() + REDELIVER_S
            return
        except Exception:
            # One run that we cannot handle must not end the agent, nor all those after it.
            self._log.exception("run %s, attempt %d", work.run, work.attempt)
            self._later[work.root] = self._now() + REDELIVER_S
            return
        finally:
            del self._running[work.run, work.attempt]
        if not result.delivered:
            self._log.warning(
                "run %s is %s; its files wait in %s", work.run, result.state, work.root
            )
            self._later[work.root] = self._now() + REDELIVER_S
            return
        self._later.pop(work.root, None)
        self._log.info("run %s is %s", work.run, result.state)
        # Warnings name files that could not be sent; their only copy is here.
        finish(work, result.state.value, remove=not self._keep and not result.warnings)


def _resources() -> Resources:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return Resources(cpu_cores=float(os.cpu_count() or 1), memory_gb=round(memory, 1))


def _host() -> dict[str, str]:
    return {
        "hostname": socket.gethostname(),
        "system": platform.system(),
        "machine": platform.machine(),
        "python": platform.python_version(),
    }


@contextmanager
def _locked(work: Path) -> Iterator[None]:
    handle = os.open(work / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            other = os.pread(handle, 32, 0).decode(errors="replace").strip() or "unknown"
            raise WorkDirLocked(f"the agent with pid {other} uses {work}") from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)

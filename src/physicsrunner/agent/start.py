"""
An agent from its settings: locked folder, machine, token, loops; what both commands start.

Promises: `end` may be called at any moment, also before the agent is enrolled.
"""

from __future__ import annotations

import gc
import logging
import random as chance
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from physicsrunner.agent.acquire import POLL_S
from physicsrunner.agent.agent import Agent, locked
from physicsrunner.agent.carry import Runner
from physicsrunner.agent.drain import OnTerm
from physicsrunner.agent.enroll import Asked, credentials
from physicsrunner.agent.notify import Notifier
from physicsrunner.agent.resources import look
from physicsrunner.client.native import NativeUplink

_STACK: Final = 1 << 20  # bytes: attempts are threads, and there may be hundreds


#: Objects made between two looks for rings of garbage, and how often older ones are looked at.
_GARBAGE: Final = (10_000, 20, 10)


def _settle() -> None:
    """Tell the interpreter that what is loaded now stays: it is looked at for garbage no more."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GARBAGE)


@dataclass(frozen=True)
class Settings:
    """All that an agent can be told."""

    server: str
    work: Path
    name: str | None = None
    token: str | None = field(default=None, repr=False)
    enroll_token: str | None = field(default=None, repr=False)
    cache: Path | None = None
    slots: int | None = None
    cores: float | None = None
    memory_gb: float | None = None
    gpus: int | None = None
    labels: tuple[str, ...] = ()
    poll_s: float = POLL_S
    idle_s: float | None = None
    keep: bool = False


class Process:
    """The agent of this process."""

    def __init__(
        self, settings: Settings, *, log: logging.Logger, notifier: Notifier | None = None
    ) -> None:
        self._settings = settings
        self._log = log
        self._notifier = notifier
        self._ending = threading.Event()
        self._how = OnTerm.FINISH
        self._guard = threading.Lock()
        self._agent: Agent | None = None

    def end(self, how: OnTerm) -> None:
        """Take no more work, and end as *how* says. From any thread, not a signal handler."""
        with self._guard:
            self._how = how
            self._ending.set()
            agent = self._agent
        if agent is not None:
            agent.drain(how)

    @property
    def running(self) -> int:
        """How many attempts are under way."""
        agent = self._agent
        return 0 if agent is None else agent.attempts.running()

    def run(self) -> None:
        """Be an agent until `end`."""
        settings = self._settings
        work = settings.work.expanduser().absolute()
        threading.stack_size(_STACK)
        with locked(work):
            machine = look(
                work,
                slots=settings.slots,
                cores=settings.cores,
                memory_gb=settings.memory_gb,
                gpus=settings.gpus,
                labels=list(settings.labels),
            )
            asked = Asked(settings.server, settings.name, settings.token, settings.enroll_token)
            who = credentials(
                work,
                asked,
                machine.host,
                stopped=self._ending.wait,
                random=chance.random,
                log=self._log,
            )
            if who is None:
                return
            uplink = NativeUplink(who.server, who.token, agent=who.name)
            runner = Runner(uplink, work, settings.cache)
            try:
                agent = Agent(
                    who,
                    work,
                    machine,
                    http=uplink.http,
                    carry_out=runner,
                    poll_s=settings.poll_s,
                    idle_s=settings.idle_s,
                    keep=settings.keep,
                    notifier=self._notifier,
                    log=self._log,
                )
                with self._guard:
                    self._agent = agent
                if self._ending.is_set():
                    agent.drain(self._how)
                runner.start()
                _settle()
                agent.run()
            finally:
                uplink.close()

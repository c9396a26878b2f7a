"""
What the stages of one attempt share.

One `Attempt` is one attempt of one run, in one work folder, in one call of `carry_out`. There may
be hundreds in a process; what they share is in their `Station`. Whoever keeps the leases of many
attempts hands answers and wishes to `Attempt.heed`, `set_token` and `hand_back`, from any thread.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from physicsrunner.client.uplink import Uplink
from physicsrunner.core.stages import StagePlan
from physicsrunner.core.state import RunState
from physicsrunner.engines.local import LocalEngine
from physicsrunner.runner.journal import History, Journal, Outcome
from physicsrunner.runner.logs import AttemptLog
from physicsrunner.runner.place import Place
from physicsrunner.runner.reporting import Reporter
from physicsrunner.runner.result import Delivery
from physicsrunner.runner.station import Station
from physicsrunner.runner.stop import HAND_BACK, Clock, StopRequest
from physicsrunner.runner.workdir import WorkFolder
from physicsrunner.wire.documents import Case, RunnerConfig
from physicsrunner.wire.messages import LeaseGrant, Limits, Result

if TYPE_CHECKING:
    from physicsrunner.runner.stages.watch import Watchers


@dataclass
class Attempt:
    """One attempt under way."""

    config: RunnerConfig
    folder: WorkFolder
    plan: StagePlan
    clock: Clock
    journal: Journal
    history: History
    stop: StopRequest
    log: logging.Logger
    log_file: AttemptLog
    reporter: Reporter
    station: Station
    run: str
    number: int  #: of the attempt, from 1
    renew: bool = True  #: this attempt keeps its own lease (an agent does it for many)
    cache: Path | None = None  #: folder of the input cache
    grant: LeaseGrant | None = None
    fresh: bool = False  #: it began now for the first time: the server can have no file of it
    watched_for_more: bool = False  #: somebody waits for the program to write something
    granted: bool = False  #: the lease was handed in: it need not be asked for
    place: Place | None = None  #: what its program takes of what others want too
    case: Case = field(default_factory=Case)
    outcome: Outcome | None = None
    results: tuple[Result, ...] = ()
    delivery: Delivery | None = None
    watchers: Watchers | None = None
    warnings: list[str] = field(default_factory=list)

    # -- for whoever keeps its lease -------------------------------------------------------------

    def heed(self, commands: Sequence[str], error: str | None = None) -> None:
        """
        Do what an answer of the server asks for.

        Parameters
        ----------
        commands
            cancel, pause, resume.
        error
            ``lease_lost``: the program is stopped and nothing more reported; files are delivered.
        """
        self.reporter.heed(commands, error)

    def set_token(self, token: str) -> None:
        """Take a fresh token of this attempt."""
        from physicsrunner.runner.attach import set_token

        set_token(self, token)

    def hand_back(self) -> None:
        """Stop the program and give the run back: another attempt may carry it out."""
        self.stop.ask(HAND_BACK)

    @property
    def state(self) -> RunState:
        """Where it stands: preparing, running, paused."""
        return self.reporter.present.state

    # -- for its stages --------------------------------------------------------------------------

    @property
    def uplink(self) -> Uplink | None:
        """The server; None: offline."""
        return self.station.uplink

    @property
    def engine(self) -> LocalEngine:
        """Where the program runs."""
        return self.station.engine

    @property
    def limits(self) -> Limits:
        """The limits that hold: of the lease, else of config.json, else of the case."""
        granted = self.grant.limits if self.grant else Limits()
        for limits in (granted, self.config.limits, self.case.limits):
            if limits is not None and limits != Limits():
                return limits
        return Limits()

    @property
    def name(self) -> str:
        """What people call the run."""
        given = (self.grant.name if self.grant else None) or self.config.name or self.case.name
        return given or self.history.name or self.folder.root.name

    @cached_property
    def main_script(self) -> Path:
        """The program."""
        return self.folder.scripts / Path(self.config.main_script or "main.py").name

    def warn(self, message: str) -> None:
        """Keep *message* for the result and the log."""
        message = self.log_file.redact(message)
        if message not in self.warnings:
            self.warnings.append(message)
        self.log.warning(message)

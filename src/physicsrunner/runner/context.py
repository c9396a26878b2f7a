"""
What the stages of one attempt share.

One `Attempt` is one attempt of one run, in one work folder, in one call of `carry_out`. There may
be hundreds in a process; they share nothing.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from physicsrunner.client.uplink import Uplink
from physicsrunner.core.stages import StagePlan
from physicsrunner.engines.local import LocalEngine
from physicsrunner.runner.journal import History, Journal, Outcome
from physicsrunner.runner.logs import AttemptLog
from physicsrunner.runner.reporting import Reporter
from physicsrunner.runner.result import Delivery
from physicsrunner.runner.stop import Clock, StopRequest
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
    engine: LocalEngine
    uplink: Uplink | None
    run: str
    number: int  #: of the attempt, from 1
    renew: bool = True  #: this attempt keeps its own lease (an agent does it for many)
    cache: Path | None = None  #: folder of the input cache
    grant: LeaseGrant | None = None
    case: Case = field(default_factory=Case)
    outcome: Outcome | None = None
    results: tuple[Result, ...] = ()
    delivery: Delivery | None = None
    watchers: Watchers | None = None
    warnings: list[str] = field(default_factory=list)

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

    @property
    def main_script(self) -> Path:
        """The program."""
        return self.folder.scripts / Path(self.config.main_script or "main.py").name

    def warn(self, message: str) -> None:
        """Keep *message* for the result and the log."""
        if message not in self.warnings:
            self.warnings.append(message)
        self.log.warning(message)

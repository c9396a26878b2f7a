"""
Opening an attempt: what an earlier start in its folder left, and what the stages will need.

Promises:

- What of an earlier start still counts is decided here, once, from the journal. What does not
  count is put aside under another name, never deleted.
- What was opened is closed again, with its followers, reports and log, whatever happens.
- Nothing is fetched, started or sent.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from physicsrunner.client.uplink import Uplink
from physicsrunner.core.stages import Stage, StagePlan
from physicsrunner.errors import ConfigError, StorageFull
from physicsrunner.runner.attach import hide_secrets, kept_grant, use_token
from physicsrunner.runner.context import Attempt
from physicsrunner.runner.journal import History, Journal
from physicsrunner.runner.logs import AttemptLog
from physicsrunner.runner.reporting import Progress, Reporter
from physicsrunner.runner.station import Station
from physicsrunner.runner.stop import Clock, StopRequest
from physicsrunner.runner.workdir import WorkFolder, ensure
from physicsrunner.wire.documents import NATIVE, PHYSICSWORKS, RunnerConfig
from physicsrunner.wire.messages import LeaseGrant


def work_folder(config: RunnerConfig) -> WorkFolder:
    """
    Return the work folder of *config*; its control folder is there.

    Raises
    ------
    ConfigError
        It cannot be used.
    """
    folder = WorkFolder(Path(config.work_dir).absolute())
    try:
        ensure(folder.control)
    except OSError as error:
        raise ConfigError(
            f"the work folder {folder.root} (workDir) cannot be used: {error}"
        ) from error
    return folder


@contextmanager
def station_of(
    shared: Station | None, folder: WorkFolder, uplink: Uplink | None, clock: Clock
) -> Iterator[Station]:
    """Give what the attempts share, or what this one has for itself."""
    if shared is not None:
        yield shared
        return
    station = Station(
        folder.root, uplink, alone=True, now=clock.now, sleep=clock.sleep, random=clock.random
    )
    try:
        yield station
    finally:
        station.close()


def is_over(config: RunnerConfig, history: History) -> bool:
    """
    Say whether the next start in this folder is a new run.

    A run whose id somebody gave (the native wire) is the same run for ever; without an id, and on
    the PhysicsWorks wire, every start after a finished one is a run of its own. (What is finished
    but not delivered over that wire is delivered first.)
    """
    if not history.finished or config.run == history.run:
        return False
    # An end that the server does not know yet is delivered before anything new begins.
    return config.wire != PHYSICSWORKS or history.delivered or history.kept


@dataclass(frozen=True)
class Opening:
    """One start of an attempt, under the lock of its work folder."""

    config: RunnerConfig
    folder: WorkFolder
    journal: Journal
    plan: StagePlan
    clock: Clock
    station: Station

    def prepare(self, *, explicit: bool) -> None:
        """
        Decide what of an earlier start in this folder still counts.

        Parameters
        ----------
        explicit
            Somebody named the stage to begin with: what is finished is done again from there.
        """
        config, history = self.config, self.journal.read()
        other = config.run is not None and history.run not in (None, config.run)
        other = other or (config.wire == NATIVE and history.attempt not in (None, config.attempt))
        if other or (is_over(config, history) and not explicit):
            self._set_aside()
        elif explicit and history.finished:
            again = [stage.value for stage in self.plan.stages]
            if Stage.EXECUTE in self.plan.stages:
                self._set_aside()
            else:
                self.journal.note("again", stages=again)

    @contextmanager
    def attempt(
        self,
        on_progress: Callable[[Progress], None] | None = None,
        stop: threading.Event | StopRequest | None = None,
        *,
        debug: bool = False,
        granted: LeaseGrant | None = None,
    ) -> Iterator[Attempt]:
        """
        Give the attempt that the stages share; the station knows it meanwhile.

        What lies here of a lease is *granted*, if that is given: whoever was granted many attempts
        has written it just now.
        """
        history = self.journal.read()
        run = history.run or self.config.run or str(uuid.uuid4())
        log = AttemptLog(f"physicsrunner.{run}", debug=debug, token=self.config.token)
        attempt = self._attempt(run, history, log, on_progress, stop)
        station = self.station
        attempt.granted = granted is not None
        if station.uplink is not None:
            kept = granted if granted is not None and self.folder.lease.exists() else None
            attempt.grant = kept or kept_grant(self.folder, run)
        if station.alone:
            station.log = attempt.log
        if attempt.grant is not None:
            hide_secrets(attempt, attempt.grant)
            use_token(attempt, attempt.grant.token)
        station.attempts[attempt.run, attempt.number] = attempt
        try:
            yield attempt
        finally:
            station.attempts.pop((attempt.run, attempt.number), None)
            try:
                if attempt.watchers is not None:
                    attempt.watchers.close()
            finally:
                attempt.reporter.close()
                with suppress(StorageFull):  # what waits there is done again without harm
                    self.journal.close()
                log.close()

    def _attempt(
        self,
        run: str,
        before: History,
        log: AttemptLog,
        on_progress: Callable[[Progress], None] | None,
        stop: threading.Event | StopRequest | None,
    ) -> Attempt:
        """Note the beginning in the journal, and make the attempt."""
        config, station = self.config, self.station
        number = before.attempt or config.attempt
        if config.path and not station.alone and self.folder.lies_there(config.path):
            station.flush(Path(config.path))  # whoever finds the journal finds what it is of
        self.journal.note("begun", run=run, attempt=number, wire=config.wire, name=config.name)
        history = self.journal.read()
        stop = stop if isinstance(stop, StopRequest) else StopRequest(stop)
        log.open(self.folder.debug / "runner.log")
        first = before.run is None and config.run is not None
        return Attempt(
            config=config,
            folder=self.folder,
            plan=self.plan,
            clock=self.clock,
            journal=self.journal,
            history=history,
            stop=stop,
            log=log.logger,
            log_file=log,
            reporter=Reporter(
                run,
                number,
                clock=self.clock,
                stop=stop,
                log=log.logger,
                on_progress=on_progress,
                redact=log.redact,
            ),
            station=station,
            run=run,
            number=number,
            outcome=history.outcome,
            fresh=first and not station.alone,
        )

    def _set_aside(self) -> None:
        """Keep what an earlier run left in the control folder under another name."""
        control = self.folder.control
        for path in (control / "program", control / "follow.json"):
            if path.exists():
                path.rename(path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}"))
        self.journal.set_aside()

"""
One attempt of one run, from its work folder to its result.

Promises:

- The stages are a table; each is timed; each can be begun again after this process was killed, and
  what the journal says is done is not done again. main.py is started once.
- Whatever goes wrong before or in main.py is the outcome; whatever goes wrong after it is a
  warning. The files are sent in every case.
- Nothing of the process is touched: no working directory, no signal handlers, no environment.
"""

from __future__ import annotations

import random as chance
import stat
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Final

from physicsrunner.client.uplink import Uplink
from physicsrunner.core.stages import Stage, StagePlan, plan
from physicsrunner.core.state import RunState
from physicsrunner.engines.base import EngineStatus, Phase
from physicsrunner.errors import PhysicsRunnerError
from physicsrunner.runner.attach import hide_secrets, kept_grant, take_grant, use_token
from physicsrunner.runner.context import Attempt
from physicsrunner.runner.fetch import Stopped
from physicsrunner.runner.journal import History, Journal, Outcome
from physicsrunner.runner.lock import WorkLock
from physicsrunner.runner.logs import AttemptLog
from physicsrunner.runner.reporting import Progress, Reporter
from physicsrunner.runner.result import RunResult, StageTime
from physicsrunner.runner.stages import download, execute, init, postprocess, watch
from physicsrunner.runner.station import Station
from physicsrunner.runner.stop import Clock, StopRequest
from physicsrunner.runner.workdir import WorkFolder
from physicsrunner.wire.documents import NATIVE, PHYSICSWORKS, RunnerConfig
from physicsrunner.wire.messages import Failure, LeaseGrant

#: What each stage does. The order is `Stage`'s.
STAGES: Final[Mapping[Stage, Callable[[Attempt], None]]] = MappingProxyType(
    {
        Stage.INIT: init.run,
        Stage.DOWNLOAD: download.run,
        Stage.WATCH: watch.run,
        Stage.EXECUTE: execute.run,
        Stage.POSTPROCESS: postprocess.run,
    }
)
#: Stages that live in this process only: a restart always does them again.
_EVERY_TIME: Final = frozenset({Stage.INIT, Stage.WATCH})


def carry_out(
    config: RunnerConfig,
    *,
    uplink: Uplink | None,
    now: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
    random: Callable[[], float] = chance.random,
    on_progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | StopRequest | None = None,
    starting_stage: str | None = None,
    skip_stages: str | Iterable[str] = (),
    debug_mode: bool = False,
    renew: bool = True,
    cache: Path | None = None,
    shared: Station | None = None,
    grant: LeaseGrant | None = None,
) -> RunResult:
    """
    Carry out one attempt, or go on with it.

    Parameters
    ----------
    config
        What to do, and where.
    uplink
        The server; None: offline, or that of *shared*. It is not closed.
    now, sleep, random
        POSIX seconds; seconds; a float in [0, 1).
    on_progress
        Called with a `Progress` at every change, from several threads.
    stop
        Set it to cancel the run; a `StopRequest` takes every wish, also before the attempt begins.
    starting_stage, skip_stages
        Names of stages (`core.stages`).
    renew
        False when somebody else (an agent) renews the lease.
    cache
        Folder of the input cache; None: the user's.
    shared
        What this attempt shares with others of the process, their server among it; None: nothing.
    grant
        Its lease, when that is known: it is not asked for then.

    Raises
    ------
    WorkDirLocked
        Another runner works in this folder.
    UsageError
        A stage's name is unknown, or the work folder cannot be used.
    """
    stages = plan(starting_stage, skip_stages)
    folder = WorkFolder(Path(config.work_dir).absolute())
    clock = Clock(now, sleep, random)
    try:
        folder.control.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(folder, error) from error
    with WorkLock(folder.lock):
        journal = Journal(folder.journal, now, flush=None if shared is None else shared.flush)
        _prepare(config, folder, journal, stages, explicit=bool(starting_stage))
        with (
            _station(shared, folder, uplink, clock) as station,
            _opened(
                config, folder, journal, stages, clock, station, on_progress, stop, debug_mode
            ) as attempt,
        ):
            attempt.renew = renew
            attempt.cache = cache
            if grant is not None:
                take_grant(attempt, grant)
                attempt.granted = True
            return _run(attempt)


@contextmanager
def _station(
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


def _prepare(
    config: RunnerConfig,
    folder: WorkFolder,
    journal: Journal,
    stages: StagePlan,
    *,
    explicit: bool,
) -> None:
    """Decide what of an earlier start in this folder still counts."""
    history = journal.read()
    other = config.run is not None and history.run not in (None, config.run)
    other = other or (config.wire == NATIVE and history.attempt not in (None, config.attempt))
    if other or (is_over(config, history) and not explicit):
        _set_aside(folder, journal)
    elif explicit and history.finished:
        again = [stage.value for stage in stages.stages]
        if Stage.EXECUTE in stages.stages:
            _set_aside(folder, journal)
        else:
            journal.note("again", stages=again)


def _set_aside(folder: WorkFolder, journal: Journal) -> None:
    """Keep what an earlier run left in the control folder under another name."""
    for path in (folder.control / "program", folder.control / "follow.json"):
        if path.exists():
            path.rename(path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}"))
    journal.set_aside()


@contextmanager
def _opened(
    config: RunnerConfig,
    folder: WorkFolder,
    journal: Journal,
    stages: StagePlan,
    clock: Clock,
    station: Station,
    on_progress: Callable[[Progress], None] | None,
    outside: threading.Event | StopRequest | None,
    debug: bool,
) -> Iterator[Attempt]:
    history = journal.read()
    fresh = history.run is None
    run = history.run or config.run or str(uuid.uuid4())
    number = history.attempt or config.attempt
    journal.note("begun", run=run, attempt=number, wire=config.wire, name=config.name)
    history = journal.read()
    stop = outside if isinstance(outside, StopRequest) else StopRequest(outside)
    log = AttemptLog(f"physicsrunner.{run}", debug=debug, token=config.token)
    log.open(folder.debug / "runner.log")
    reporter = Reporter(
        run,
        number,
        clock=clock,
        stop=stop,
        log=log.logger,
        on_progress=on_progress,
        redact=log.redact,
    )
    if station.alone:
        station.log = log.logger
    attempt = Attempt(
        config=config,
        folder=folder,
        plan=stages,
        clock=clock,
        journal=journal,
        history=history,
        stop=stop,
        log=log.logger,
        log_file=log,
        reporter=reporter,
        station=station,
        run=run,
        number=number,
        grant=kept_grant(folder, run) if station.uplink is not None else None,
        outcome=history.outcome,
        fresh=fresh and config.run is not None and not station.alone,
    )
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
            reporter.close()
            log.close()


def _run(attempt: Attempt) -> RunResult:
    if _is_done(attempt):
        from physicsrunner.runner.post import results

        attempt.log.info("this run is finished already")
        attempt.results = results.collect(attempt)
        return _result(attempt, tuple(_recorded(attempt)))
    times = [_stage(attempt, stage) for stage in Stage]
    finished = Stage.POSTPROCESS in attempt.plan.stages
    if finished:
        attempt.journal.note("finished", sync=False, kept=not attempt.plan.upload)
    return _result(attempt, tuple(times))


def _is_done(attempt: Attempt) -> bool:
    history = attempt.history
    nothing_to_send = attempt.uplink is None or not attempt.plan.upload
    return history.finished and (history.delivered or nothing_to_send)


def _recorded(attempt: Attempt) -> Iterator[StageTime]:
    for stage in Stage:
        seconds = attempt.history.stages.get(stage)
        yield StageTime(stage.value, seconds or 0.0, skipped=seconds is None)


def _stage(attempt: Attempt, stage: Stage) -> StageTime:
    """Do one stage, unless it is skipped, done already, or the outcome stands."""
    if stage not in attempt.plan.stages:
        _take_for_granted(attempt, stage)
        return StageTime(stage.value, 0.0, skipped=True)
    done = attempt.history.stages.get(stage)
    if stage not in _EVERY_TIME and (done is not None or _needless(attempt, stage)):
        if stage is Stage.POSTPROCESS and not attempt.history.delivered:
            pass  # what is made is made again, and the delivery goes on
        else:
            _take_for_granted(attempt, stage)
            return StageTime(stage.value, done or 0.0, skipped=done is None)
    began = time.perf_counter()
    attempt.reporter.stage(stage.value)
    try:
        STAGES[stage](attempt)
    except Exception as error:
        _failed(attempt, stage, error)
    else:
        seconds = time.perf_counter() - began
        attempt.journal.note("stage_done", sync=False, stage=stage, seconds=seconds)
    attempt.history = attempt.journal.read()
    seconds = time.perf_counter() - began
    attempt.log.info("stage %s: %.3f s", stage.value, seconds)
    return StageTime(stage.value, seconds)


def _needless(attempt: Attempt, stage: Stage) -> bool:
    """Say whether there is nothing left to fetch or run for."""
    return attempt.outcome is not None and stage in (Stage.DOWNLOAD, Stage.EXECUTE)


def _take_for_granted(attempt: Attempt, stage: Stage) -> None:
    """What later stages need of one that is not done now."""
    if stage is Stage.INIT:
        attempt.folder.create()
    elif stage is Stage.DOWNLOAD:
        try:
            download.read_case(attempt)
        except PhysicsRunnerError as error:
            attempt.warn(str(error))
    elif stage is Stage.EXECUTE and attempt.outcome is None:
        execute.record(attempt, Outcome(RunState.COMPLETED, time=attempt.clock.now()))
        attempt.history = attempt.journal.read()


def _failed(attempt: Attempt, stage: Stage, error: Exception) -> None:
    """Make an error of a stage the outcome, unless there is one already."""
    expected = isinstance(error, (PhysicsRunnerError, OSError))
    attempt.log.error("stage %s failed: %s", stage.value, error, exc_info=not expected)
    if attempt.outcome is not None or stage is Stage.WATCH:
        attempt.warn(f"stage {stage.value} failed: {error}")
        return
    if stage is Stage.INIT and isinstance(error, PhysicsRunnerError):
        raise error
    reason = attempt.stop.reason if isinstance(error, Stopped) else None
    if reason is not None:
        status = EngineStatus(Phase.WAITING)
        outcome = execute.judge(attempt, status, reason)
    else:
        code = error.code if isinstance(error, PhysicsRunnerError) else "internal"
        text = str(error) if expected else f"{type(error).__name__}: {error}"
        outcome = Outcome(RunState.FAILED, None, Failure(code, f"{stage.value}: {text}"))
    execute.record(attempt, outcome)


def _result(attempt: Attempt, stages: tuple[StageTime, ...]) -> RunResult:
    outcome = attempt.outcome or Outcome(RunState.COMPLETED)
    delivery = attempt.delivery
    delivered = attempt.history.delivered if delivery is None else delivery.delivered
    if delivery is not None and delivery.delivered:
        files, size = delivery.files, delivery.bytes
    else:
        files, size = _count(attempt.folder)
    if attempt.uplink is not None and not delivered and attempt.plan.upload:
        why = delivery.error if delivery and delivery.error else "files still wait"
        attempt.warn(
            f"not delivered yet ({why}); nothing is lost: run "
            f"`physicsrunner sync {attempt.folder.root}`"
        )
    return RunResult(
        run=attempt.run,
        attempt=attempt.number,
        state=outcome.state,
        exit_code=outcome.exit_code,
        stages=stages,
        files=files,
        bytes=size,
        results=attempt.results,
        error=outcome.error,
        delivered=delivered,
        work_dir=str(attempt.folder.root),
        warnings=tuple(attempt.warnings),
    )


def _count(folder: WorkFolder) -> tuple[int, int]:
    files = size = 0
    for top in folder.followed:
        for path in top.rglob("*"):
            with suppress(OSError):  # gone again
                found = path.lstat()
                if stat.S_ISREG(found.st_mode):
                    files += 1
                    size += found.st_size
    return files, size


def _unusable(folder: WorkFolder, error: OSError) -> PhysicsRunnerError:
    from physicsrunner.errors import ConfigError

    return ConfigError(f"the work folder {folder.root} (workDir) cannot be used: {error}")

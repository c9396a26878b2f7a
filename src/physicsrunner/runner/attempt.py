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

import logging
import random as chance
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Final

from physicsrunner.client.uplink import Uplink
from physicsrunner.core.stages import Stage, plan
from physicsrunner.core.state import RunState
from physicsrunner.engines.base import EngineStatus, Phase
from physicsrunner.errors import PhysicsRunnerError
from physicsrunner.runner.attach import take_grant
from physicsrunner.runner.context import Attempt
from physicsrunner.runner.fetch import Stopped
from physicsrunner.runner.journal import Journal, Outcome
from physicsrunner.runner.lock import WorkLock
from physicsrunner.runner.opening import Opening, station_of, work_folder
from physicsrunner.runner.place import Place
from physicsrunner.runner.reporting import Progress
from physicsrunner.runner.result import RunResult, StageTime
from physicsrunner.runner.stages import download, execute, init, postprocess, watch
from physicsrunner.runner.station import Station
from physicsrunner.runner.stop import Clock, StopRequest
from physicsrunner.runner.workdir import WorkFolder
from physicsrunner.wire.documents import RunnerConfig
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
_WORTH_A_LINE_S: Final = 0.02


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
    place: Place | None = None,
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
    renew, cache
        False when an agent renews the lease; folder of the input cache (None: the user's).
    shared
        What this attempt shares with others of the process, their server among it; None: nothing.
    grant, place
        Its lease, when that is known and need not be asked for; what its program waits for.

    Raises
    ------
    WorkDirLocked
        Another runner works in this folder.
    UsageError
        A stage's name is unknown, or the work folder cannot be used.
    """
    stages = plan(starting_stage, skip_stages)
    folder, clock = work_folder(config), Clock(now, sleep, random)
    with WorkLock(folder.lock), station_of(shared, folder, uplink, clock) as station:
        journal = Journal(folder.journal, now, flush=None if shared is None else shared.flush)
        opening = Opening(config, folder, journal, stages, clock, station)
        opening.prepare(explicit=bool(starting_stage))
        with opening.attempt(on_progress, stop, debug=debug_mode, granted=grant) as attempt:
            attempt.renew, attempt.cache, attempt.place = renew, cache, place
            if grant is not None:
                take_grant(attempt, grant)
            return _run(attempt)


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
        attempt.journal.note("stage_done", later=True, stage=stage, seconds=seconds)
    attempt.history = attempt.journal.read()
    seconds = time.perf_counter() - began
    # All times are in the journal; of many attempts the log has those that took long. After the
    # delivery it is removed with all the rest.
    over = attempt.delivery is not None and attempt.delivery.delivered
    told = attempt.station.alone or (seconds >= _WORTH_A_LINE_S and not over)
    attempt.log.log(
        logging.INFO if told else logging.DEBUG, "stage %s: %.3f s", stage.value, seconds
    )
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

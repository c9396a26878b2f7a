"""What a caller of `run_solver` gets back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from physicsrunner.core.state import RunState
from physicsrunner.wire.messages import Failure, Report, ReportAnswer, Result


@dataclass(frozen=True)
class StageTime:
    """How long one stage took."""

    stage: str
    seconds: float
    skipped: bool = False


@dataclass(frozen=True)
class Delivery:
    """What became of an attempt's files."""

    delivered: bool  #: every file is sealed on the server
    files: int = 0  #: sealed
    bytes: int = 0  #: of the sealed files
    pending: tuple[str, ...] = ()  #: paths not sealed yet (at most 1,000)
    skipped: tuple[tuple[str, str], ...] = ()  #: (path, reason): links out of the folder, sockets
    error: str | None = None  #: why it is not delivered


@dataclass
class LastWords:
    """What an attempt has to report when all its files are sealed."""

    say: Callable[[], Sequence[Report]]  #: asked when no file of it will take long
    answers: Sequence[ReportAnswer] = ()  #: of the server, if it heard them with the last files


@dataclass(frozen=True)
class RunResult:
    """
    The outcome of one attempt. Truthy when the run completed.

    `delivered` is False when files or the report still wait in the work folder;
    ``physicsrunner sync WORKDIR`` delivers them.
    """

    run: str
    attempt: int
    state: RunState
    exit_code: int | None = None  #: main.py's; a signal n is -n
    stages: tuple[StageTime, ...] = ()
    files: int = 0
    bytes: int = 0
    results: tuple[Result, ...] = ()
    error: Failure | None = None
    delivered: bool = False
    work_dir: str = ""
    warnings: tuple[str, ...] = field(default=())

    def __bool__(self) -> bool:
        return self.state is RunState.COMPLETED

"""
What an engine promises. `LocalEngine` keeps it; Slurm, PBS, Kubernetes and containers follow.

Promises that every implementation is tested for (tests/contract/test_engine.py):

- `submit` returns at once with a native id from which, after a kill of this process, `poll` and
  `cancel` of a new one go on (re-adoption). The id names the program for ever: a recycled pid is
  never taken for it.
- The exit status is kept on disk: `poll` tells it whenever it is asked, also after a restart.
- `cancel` leaves no process of the program behind, and is silent when it has ended; also of a
  program that is suspended.
- `suspend` stops a program where it is and `resume` lets it go on; both may be repeated, and are
  silent when it has ended. A program stays suspended whatever becomes of this process.
- `notify` tells of the end of a program, once, soon, and also when it had ended before.

An engine knows nothing of runs, servers or stages.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import NewType, Protocol

NativeId = NewType("NativeId", str)


class Phase(str, Enum):
    """Where a program stands."""

    WAITING = "waiting"  #: the engine has it and has not started it
    RUNNING = "running"
    ENDED = "ended"
    UNKNOWN = "unknown"  #: the engine cannot tell just now; never taken for an end
    LOST = "lost"  #: it is gone and left no exit status (power, kill -9 of shim and all)


@dataclass(frozen=True)
class EngineStatus:
    """How one program is doing."""

    phase: Phase
    exit_code: int | None = None  #: a signal n is -n; None while it runs or when it is lost


@dataclass(frozen=True)
class Program:
    """What to run, where, and where its output goes."""

    argv: Sequence[str]
    cwd: Path
    environment: Mapping[str, str]
    stdout: Path  #: appended to
    stderr: Path  #: appended to; the same path as stdout: interleaved
    control: Path  #: a folder of its own for pid and exit status files


class Engine(Protocol):
    """One place to run programs."""

    def submit(self, program: Program) -> NativeId:
        """Start *program*; return at once with the engine's name of it."""
        ...

    def poll(self, ids: Collection[NativeId]) -> Mapping[NativeId, EngineStatus]:
        """Say how all *ids* are doing, in one question to the engine."""
        ...

    def notify(self, native_id: NativeId, on_end: Callable[[], None]) -> None:
        """Call *on_end*, from a thread of the engine's, when the program has ended."""
        ...

    def forget(self, native_id: NativeId) -> None:
        """Tell nobody of the program's end any more."""
        ...

    def suspend(self, native_id: NativeId) -> None:
        """Stop the program where it is (SIGSTOP to its process group)."""
        ...

    def resume(self, native_id: NativeId) -> None:
        """Let the program go on (SIGCONT)."""
        ...

    def terminate(self, native_id: NativeId) -> None:
        """Ask the program to end (SIGTERM to its process group). Silent when it has ended."""
        ...

    def cancel(self, native_id: NativeId) -> None:
        """End the program now, with all its processes. Silent when it has ended."""
        ...

    def close(self) -> None:
        """End the engine's threads; no program."""
        ...

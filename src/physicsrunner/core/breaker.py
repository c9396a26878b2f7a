"""
The circuit breaker of an agent: when runs keep failing at start, the machine is at fault.

Pure. A run that fails before its main.py was started counts; one whose main.py was started sets the
count back to nothing. What failed after that is the program's own affair, and so is a run that no
machine could have started: one bad model must not take one agent after another away.
"""

from __future__ import annotations

from typing import Final

LIMIT: Final = 5  #: failures at start, in a row, after which an agent is given no more runs

#: The run is to blame: the server has not got its files, or they are bad.
_OF_THE_RUN: Final = frozenset({"not_found", "unsafe_archive", "unsafe_path", "too_large"})


def counts(code: str | None) -> bool:
    """Say whether a failure at start with this error code speaks against the machine."""
    return code not in _OF_THE_RUN


def is_open(failures: int) -> bool:
    """Say whether an agent with so many failures at start, in a row, is to be paused."""
    return failures >= LIMIT


def reason(failures: int, last: str | None) -> str:
    """Return why the agent is paused, in words; *last* is what its last failure said."""
    said = f"{failures} runs in a row failed before main.py was started"
    return f"{said}; the last one: {last}" if last else said

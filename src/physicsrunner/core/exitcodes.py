"""
Exit codes of the command line: one table, for code, help and docs.

A run's state decides: completed 0, failed 1, cancelled 3, timeout 4. Errors of the commands
themselves carry theirs in `errors` (2 usage, 5 not authenticated or allowed, 6 not found,
7 server unavailable, 8 storage full).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from physicsrunner.core.state import RunState

EXIT_CODES: Final[Mapping[int, str]] = MappingProxyType(
    {
        0: "completed",
        1: "failed: main.py or a stage failed, or an unexpected error",
        2: "usage: the command, the configuration or the request is wrong",
        3: "cancelled",
        4: "timeout: the time limit ended the run",
        5: "not authenticated, or not allowed",
        6: "not found",
        7: "the server is not available",
        8: "no space left where something had to be stored",
    }
)

_BY_STATE: Final[Mapping[RunState, int]] = MappingProxyType(
    {RunState.COMPLETED: 0, RunState.CANCELLED: 3, RunState.TIMEOUT: 4}
)


def exit_code(state: RunState) -> int:
    """Return the exit code of a command that carried out a run which ended as *state*."""
    return _BY_STATE.get(state, 1)

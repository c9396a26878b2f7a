"""What a work folder alone tells of its program, without the runner that started it."""

from __future__ import annotations

from pathlib import Path

from physicsrunner.engines.base import EngineStatus, Phase
from physicsrunner.engines.local import LocalEngine


def program_status(work: Path) -> EngineStatus:
    """Return how the program of the work folder *work* is doing; waiting: it has not begun."""
    engine = LocalEngine()
    found = engine.find(work / ".physicsrunner" / "program")
    return EngineStatus(Phase.WAITING) if found is None else engine.poll([found])[found]

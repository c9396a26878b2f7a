"""``python -m runner``: another name of ``python -m physicsrunner``."""

from __future__ import annotations

from physicsrunner import RunResult, run_solver

__all__ = ["RunResult", "run_solver"]

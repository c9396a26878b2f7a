"""physicsrunner: give it a main.py; it runs it anywhere, shows it live, and loses nothing."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from physicsrunner.client.client import Client as Client
    from physicsrunner.core.state import RunState as RunState
    from physicsrunner.errors import PhysicsRunnerError as PhysicsRunnerError
    from physicsrunner.runner.api import run_solver as run_solver
    from physicsrunner.runner.result import RunResult as RunResult

__version__ = "0.1.0"

#: Public name -> its module. Loaded when first used, so that importing the package costs nothing.
_HOMES = {
    "Client": "physicsrunner.client.client",
    "PhysicsRunnerError": "physicsrunner.errors",
    "RunResult": "physicsrunner.runner.result",
    "RunState": "physicsrunner.core.state",
    "run_solver": "physicsrunner.runner.api",
}

__all__ = ["Client", "PhysicsRunnerError", "RunResult", "RunState", "__version__", "run_solver"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'physicsrunner' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

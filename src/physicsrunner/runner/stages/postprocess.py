"""
Stage postprocess: what is made of main.py's files, and their delivery.

Promises: repeatable from its start; no step can change the outcome of the run: what fails here is
a warning. Partial results of a run that failed, was cancelled or timed out are kept and sent too.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from physicsrunner.core.stages import Stage
from physicsrunner.errors import PhysicsRunnerError
from physicsrunner.runner.context import Attempt
from physicsrunner.runner.deliver import deliver_attempt
from physicsrunner.runner.result import StageTime
from physicsrunner.wire.documents import PHYSICSWORKS


def run(attempt: Attempt) -> None:
    """Collect results, make archives and records, send everything, report the end."""
    for name, step in _STEPS:
        try:
            step(attempt)
        except (PhysicsRunnerError, OSError, ValueError) as error:
            attempt.warn(f"{name} failed: {error}")
        except Exception as error:
            # A fault of ours in one step must not keep the files from being sent.
            attempt.warn(f"{name} failed: {type(error).__name__}: {error}")
            attempt.log.exception("%s failed", name)
    deliver_attempt(attempt)


# Each step imports what it needs: `watch` loads these modules while main.py runs.


def _collect_results(attempt: Attempt) -> None:
    from physicsrunner.runner.post import results

    attempt.results = results.collect(attempt)


def _settle(attempt: Attempt) -> None:
    if attempt.watchers is not None:
        attempt.watchers.settle()


def _make_archives(attempt: Attempt) -> None:
    from physicsrunner.runner.post import archives

    left = None
    if attempt.watchers is not None:
        left, attempt.watchers.left = attempt.watchers.left, None
    archives.geometry_archives(attempt.folder, left)


def _render(attempt: Attempt) -> None:
    if attempt.case.render:
        from physicsrunner.runner.post import render

        render.render(attempt)


def _make_downloadable(attempt: Attempt) -> None:
    wanted = attempt.case.downloadable
    if wanted is None and attempt.config.wire == PHYSICSWORKS:
        wanted = _solver_config(attempt).get("downloadable")
    if wanted:
        from physicsrunner.runner.post import archives

        archives.downloadable(attempt.folder, wanted)


def _solver_config(attempt: Attempt) -> dict[str, Any]:
    try:
        text = (attempt.folder.inputs / "solverConfig.json").read_text("utf-8")
        document = json.loads(text)
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _write_records(attempt: Attempt) -> None:
    from physicsrunner.runner.post import provenance

    times = [
        StageTime(stage.value, seconds)
        for stage, seconds in attempt.history.stages.items()
        if stage is not Stage.POSTPROCESS
    ]
    provenance.write(attempt, times)


_STEPS: Final[tuple[tuple[str, Callable[[Attempt], None]], ...]] = (
    ("reading what main.py left", _settle),
    ("reading the results", _collect_results),
    ("archiving geometry", _make_archives),
    ("rendering", _render),
    ("making the downloadable zip", _make_downloadable),
    ("writing the records", _write_records),
)

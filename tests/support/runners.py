"""The runner as a process of its own, stopped at a chosen moment so that it can be killed there."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.support.processes import Processes, Started
from tests.support.wait import wait_until

# Blocks before or after a stage, or after the program was started and before that is written down.
_BLOCK = """
import pathlib, sys, threading
from types import MappingProxyType
from physicsrunner.core.stages import Stage
from physicsrunner.engines.local import LocalEngine
from physicsrunner.runner import attempt as module

when, where, mark = sys.argv[1].partition(":")[0], sys.argv[1].partition(":")[2], sys.argv[2]

def block():
    pathlib.Path(mark).touch()
    threading.Event().wait()

stages = dict(module.STAGES)
if when == "submitted":
    submit = LocalEngine.submit
    def submit_and_block(engine, program):
        submit(engine, program)
        block()
    LocalEngine.submit = submit_and_block
else:
    stage = Stage(where)
    inner = stages[stage]
    def run(attempt):
        if when == "after":
            inner(attempt)
        block()
    stages[stage] = run
    module.STAGES = MappingProxyType(stages)
from physicsrunner.runner.api import main
sys.exit(main(sys.argv[3:]))
"""
_PLAIN = "import sys; from physicsrunner.runner.api import main; sys.exit(main())"


def start_runner(processes: Processes, config: Path, *arguments: str) -> Started:
    """Start the runner on *config*."""
    argv = [sys.executable, "-c", _PLAIN, f"--configPath={config}", *arguments]
    return processes.start(argv, name="runner")


def killed_runner(processes: Processes, config: Path, moment: str) -> None:
    """Run until *moment* (``before:STAGE``, ``after:STAGE``, ``submitted``), then kill -9."""
    mark = config.parent / f"reached-{moment.replace(':', '-')}"
    argv = [sys.executable, "-c", _BLOCK, moment, str(mark), f"--configPath={config}"]
    started = processes.start(argv, name="runner")
    wait_until(lambda: mark.exists() or not started.alive, timeout=60.0, on_timeout=started.story)
    assert started.alive, started.story()
    started.kill()


def journal(root: Path) -> list[dict[str, Any]]:
    """Return the journal's lines."""
    text = (root / ".physicsrunner" / "journal.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines() if line]


def outcome(root: Path) -> dict[str, Any]:
    """Return the last outcome that the journal has."""
    return [record for record in journal(root) if record["event"] == "outcome"][-1]

"""kill -9 of the runner at the worst moments: main.py runs once, and nothing is lost."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from physicsrunner import run_solver
from physicsrunner.core.state import RunState
from physicsrunner.engines.base import Phase
from tests.support.cases import make_work_folder
from tests.support.processes import Processes
from tests.support.programs import program_status
from tests.support.runners import journal, killed_runner, outcome, start_runner
from tests.support.wait import wait_until

# Says that it runs, and goes on only when it is told to.
MAIN = """
    with open(outputs / "count", "a") as count:
        count.write("x")
    print("line before", flush=True)
    (outputs / "started").touch()
    while not (inputs / "go").exists():
        time.sleep(0.01)
    print("line after")
    (files / "field.bin").write_bytes(bytes(range(256)) * 1000)
    (outputs / "results.csv").write_text("answer\\n42\\n")
"""
MOMENTS = [
    "before:init",
    "after:init",
    "before:download",
    "after:download",
    "before:watch",
    "after:watch",
    "before:execute",
    "submitted",
    "after:execute",
    "before:postprocess",
    "after:postprocess",
]


def check_whole(root: Path) -> None:
    """Everything of the run is there, once."""
    assert (root / "outputs/count").read_text() == "x"
    assert (root / "outputs/logs/main.log").read_text() == "line before\nline after\n"
    assert (root / "outputs/files/field.bin").read_bytes() == bytes(range(256)) * 1000
    assert outcome(root)["state"] == "completed"
    assert json.loads((root / "outputs/results.json").read_text()) == {"answer": 42}
    assert json.loads((root / "metadata/run_metadata.json").read_text())["exit_code"] == 0
    assert len({record["run"] for record in journal(root) if record["event"] == "begun"}) == 1


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_runner_that_was_killed_goes_on_where_it_was(
    tmp_path: Path, processes: Processes, moment: str
) -> None:
    """Killed in any stage and started again, main.py has run once and the results are whole."""
    root = tmp_path / "work"
    config = make_work_folder(root, MAIN)
    (root / "inputs").mkdir()
    (root / "inputs/go").touch()
    killed_runner(processes, config, moment)
    result = run_solver(config)
    assert (result.state, result.exit_code) == (RunState.COMPLETED, 0)
    check_whole(root)


def test_a_program_outlives_its_runner_and_is_adopted(tmp_path: Path, processes: Processes) -> None:
    """While main.py lives it is adopted, its log goes on, its exit code is known."""
    root = tmp_path / "work"
    config = make_work_folder(root, MAIN)
    first = start_runner(processes, config)
    wait_until(lambda: (root / "outputs/started").exists(), timeout=30.0, on_timeout=first.story)
    first.kill()
    second = start_runner(processes, config)
    wait_until(
        lambda: "going on with the program" in (root / "debug/runner.log").read_text(),
        timeout=30.0,
        on_timeout=second.story,
    )
    (root / "inputs/go").touch()
    assert second.wait() == 0, second.story()
    check_whole(root)


def test_a_program_that_ended_while_no_runner_was_there(
    tmp_path: Path, processes: Processes
) -> None:
    """Its exit status was kept by the shim: the next runner only finishes."""
    root = tmp_path / "work"
    config = make_work_folder(root, MAIN)
    first = start_runner(processes, config)
    wait_until(lambda: (root / "outputs/started").exists(), timeout=30.0, on_timeout=first.story)
    first.kill()
    (root / "inputs/go").touch()
    wait_until(lambda: program_status(root).phase is Phase.ENDED, timeout=30.0)
    assert run_solver(config)
    check_whole(root)


def test_the_program_and_its_shim_are_killed(tmp_path: Path, processes: Processes) -> None:
    """kill -9 of everything but the runner is a failed run with its partial results."""
    root = tmp_path / "work"
    config = make_work_folder(root, MAIN)
    runner = start_runner(processes, config)
    wait_until(lambda: (root / "outputs/started").exists(), timeout=30.0, on_timeout=runner.story)
    import os

    for pid in processes.marked():
        if pid != runner.pid:
            os.kill(pid, signal.SIGKILL)
    assert runner.wait() == 1
    assert outcome(root)["state"] == "failed"
    assert (root / "outputs/logs/main.log").read_text().startswith("line before\n")


def test_main_py_alone_is_killed(tmp_path: Path, processes: Processes) -> None:
    """kill -9 of main.py is a failed run that names the signal."""
    root = tmp_path / "work"
    config = make_work_folder(root, "import signal; os.kill(os.getpid(), signal.SIGKILL)")
    runner = start_runner(processes, config)
    assert runner.wait() == 1
    assert outcome(root)["exit_code"] == -9
    assert "SIGKILL" in runner.output()

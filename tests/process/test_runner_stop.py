"""Stopping a program: stop file, SIGTERM, SIGKILL, and no orphan left."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from physicsrunner import RunResult, run_solver
from physicsrunner.core.state import RunState
from tests.support.cases import make_work_folder
from tests.support.processes import Processes
from tests.support.runners import outcome, start_runner
from tests.support.wait import wait_until

GRACE = {"stop_grace_s": 0.4}
READY = "(outputs / 'ready').touch()\n"


class Background:
    """`run_solver` in a thread."""

    def __init__(self, config: Path) -> None:
        self.stop = threading.Event()
        self.result: RunResult | None = None
        self.ready = config.parent / "outputs" / "ready"
        self._thread = threading.Thread(target=self._run, args=(config,))
        self._thread.start()

    def _run(self, config: Path) -> None:
        self.result = run_solver(config, stop=self.stop)

    def stopped(self) -> RunResult:
        """Ask it to stop once main.py is ready; return the result."""
        wait_until(self.ready.exists, timeout=30.0)
        self.stop.set()
        return self.end()

    def end(self) -> RunResult:
        self._thread.join(timeout=60.0)
        assert self.result is not None
        return self.result


def living(root: Path) -> list[str]:
    """Return the command lines of living processes of the run in *root*."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if f"PHYSICSRUNNER_WORK_DIR={root}\0".encode() in (entry / "environ").read_bytes():
                found.append((entry / "cmdline").read_text())
        except OSError:
            continue
    return [command for command in found if command]


def test_a_program_that_looks_for_the_stop_file_ends_itself(tmp_path: Path) -> None:
    """The stop file comes first; what main.py writes on its way out is kept."""
    main = READY + (
        "while not os.path.exists(os.environ['PHYSICSRUNNER_STOP_FILE']):\n"
        "    time.sleep(0.01)\n"
        "(files / 'checkpoint').write_text('saved')\n"
    )
    run = Background(make_work_folder(tmp_path, main, limits={"stop_grace_s": 20.0}))
    result = run.stopped()
    assert (result.state, result.exit_code) == (RunState.CANCELLED, 0)
    assert (tmp_path / "outputs/files/checkpoint").read_text() == "saved"


def test_sigterm_comes_after_the_stop_file(tmp_path: Path) -> None:
    """A program that knows nothing of stop files gets SIGTERM after the grace time."""
    main = "print('waiting', flush=True)\n" + READY + "time.sleep(600)\n"
    result = Background(make_work_folder(tmp_path, main, limits=GRACE)).stopped()
    assert (result.state, result.exit_code) == (RunState.CANCELLED, -15)
    assert "waiting" in (tmp_path / "outputs/logs/main.log").read_text()
    assert not living(tmp_path)


def test_a_program_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    """SIGKILL follows after the same time again."""
    main = (
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        + READY
        + "time.sleep(600)\n"
    )
    result = Background(make_work_folder(tmp_path, main, limits=GRACE)).stopped()
    assert (result.state, result.exit_code) == (RunState.CANCELLED, -9)
    assert not living(tmp_path)


def test_double_forked_children_do_not_survive(tmp_path: Path) -> None:
    """Children that left group, session and parent are found and killed."""
    main = (
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
        "        (outputs / 'ready').touch()\n        time.sleep(600)\n    os._exit(0)\n"
        "time.sleep(600)\n"
    )
    run = Background(make_work_folder(tmp_path, main, limits=GRACE))
    wait_until(run.ready.exists, timeout=30.0)
    assert len(living(tmp_path)) >= 3
    assert run.stopped().state is RunState.CANCELLED
    assert not living(tmp_path)


def test_a_program_that_ends_well_leaves_no_children(tmp_path: Path) -> None:
    """A daemon that main.py leaves behind ends with the run, which completed."""
    main = "if os.fork() == 0:\n    os.setsid()\n    time.sleep(600)\n"
    result = run_solver(make_work_folder(tmp_path, main))
    assert result.state is RunState.COMPLETED
    assert not living(tmp_path)


def test_the_time_limit_ends_the_run(tmp_path: Path) -> None:
    """Its state is timeout, its partial results are kept."""
    main = "(files / 'part').write_text('half')\ntime.sleep(600)\n"
    config = make_work_folder(tmp_path, main, limits={"time_s": 2.5, "stop_grace_s": 0.3})
    result = run_solver(config)
    assert result.state is RunState.TIMEOUT
    assert result.error is not None
    assert "2.5 s" in result.error.message
    assert (tmp_path / "outputs/files/part").read_text() == "half"


def test_a_stop_that_was_begun_goes_on_after_a_kill(tmp_path: Path, processes: Processes) -> None:
    """The runner is killed while it stops main.py; the next one finishes the stop."""
    main = (
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        + READY
        + "time.sleep(600)\n"
    )
    limits = {"time_s": 0.5, "stop_grace_s": 3.0}
    config = make_work_folder(tmp_path / "w", main, limits=limits)
    runner = start_runner(processes, config)
    wait_until((tmp_path / "w/stop.request").exists, timeout=30.0, on_timeout=runner.story)
    runner.kill()
    result = run_solver(config)
    assert (result.state, result.exit_code) == (RunState.TIMEOUT, -9)
    assert not living(tmp_path / "w")


@pytest.mark.parametrize("which", ["config.json", "scripts/config.json"])
def test_abort_in_config_json_stops_the_run(
    tmp_path: Path, processes: Processes, which: str
) -> None:
    """A truthy ``abort`` that appears while the run goes on cancels it."""
    root = tmp_path / "w"
    config = make_work_folder(root, READY + "time.sleep(600)\n", limits=GRACE)
    runner = start_runner(processes, config)
    wait_until((root / "outputs/ready").exists, timeout=30.0, on_timeout=runner.story)
    document = json.loads((root / which).read_text())
    (root / which).write_text(json.dumps({**document, "abort": True}))
    assert runner.wait() == 3, runner.story()
    assert outcome(root)["state"] == "cancelled"


def test_output_without_end_costs_no_memory(tmp_path: Path, processes: Processes) -> None:
    """200 MB of standard output go to the log whole, and past the runner's memory."""
    main = "block = b'x' * 99 + b'\\n'\nfor _ in range(200):\n    os.write(1, block * 10_000)\n"
    root = tmp_path / "w"
    runner = start_runner(processes, make_work_folder(root, main))
    peak = 0

    def ended() -> bool:
        nonlocal peak
        try:
            status = Path(f"/proc/{runner.pid}/status").read_text()
            peak = max([peak, *(int(s.split()[1]) for s in status.splitlines() if "VmHWM" in s)])
        except OSError:
            pass
        return not runner.alive

    wait_until(ended, timeout=120.0, on_timeout=runner.story)
    assert runner.wait() == 0, runner.story()
    assert (root / "outputs/logs/main.log").stat().st_size == 200_000_000
    assert peak < 150 * 1024, f"{peak} KiB"


def test_a_run_of_the_same_name_elsewhere_is_left_alone(tmp_path: Path) -> None:
    """Ids that people choose may meet on one machine: each run ends only its own processes."""
    main = READY + "while not (inputs / 'go').exists():\n    time.sleep(0.02)\n"
    other = Background(make_work_folder(tmp_path / "a", main, run="same"))
    wait_until(other.ready.exists, timeout=30.0)
    assert run_solver(make_work_folder(tmp_path / "b", "pass", run="same"))
    (tmp_path / "a/inputs/go").touch()
    assert other.end().state is RunState.COMPLETED

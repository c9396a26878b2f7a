"""Pause and resume: the program stands still, the clock too, whoever is killed meanwhile."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.cases import make_work_folder
from tests.support.processes import Processes, Started
from tests.support.runners import journal, outcome
from tests.support.wait import wait_until

# A runner whose server asks for what stands in the file `commands`, and keeps what it is told.
RUNNER = """
import json, pathlib, sys
from physicsrunner.runner.api import load_config
from physicsrunner.runner.attempt import carry_out
from physicsrunner.wire.messages import LeaseGrant, Limits, RenewalAnswer, ReportAnswer

root, limits = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2])

class Server:
    def attempt(self, run, attempt):
        return LeaseGrant(run, attempt, 7, "named", 0.0, 0.05, "token", limits=Limits(**limits))
    def renew(self, leases):
        commands = (root / "commands").read_text().split()
        return [RenewalAnswer(lease.run, lease.attempt, commands=commands) for lease in leases]
    def report(self, reports):
        with open(root / "told", "a") as told:
            told.writelines(f"{report.state}\\n" for report in reports if report.state)
        return [ReportAnswer(report.run, report.attempt) for report in reports]
    def close(self):
        pass

result = carry_out(load_config(root / "config.json"), uplink=Server(), skip_stages="upload")
print(result.state, result.error)
"""
COUNT = """
    with open(outputs / "count", "a") as count:
        count.write("x")
    number = 0
    while not (work / "stop.request").exists() and not (inputs / "go").exists():
        number += 1
        (outputs / "number").write_text(str(number))
        time.sleep(0.01)
"""


class Paused:
    """One run that can be paused."""

    def __init__(self, root: Path, processes: Processes, **limits: float) -> None:
        self.root = root
        self.limits = json.dumps({"stop_grace_s": 5.0, **limits})
        keys: dict[str, Any] = {"server": "http://127.0.0.1:9", "run": "r-1", "attempt": 1}
        make_work_folder(root, COUNT, token="token", **keys)
        self.processes = processes
        self.ask("")

    def start(self) -> Started:
        argv = [sys.executable, "-c", RUNNER, str(self.root), self.limits]
        return self.processes.start(argv, name="runner")

    def ask(self, commands: str) -> None:
        new = self.root / "commands.new"
        new.write_text(commands)
        new.rename(self.root / "commands")

    @property
    def told(self) -> list[str]:
        path = self.root / "told"
        return path.read_text().split() if path.exists() else []

    def number(self) -> int:
        path = self.root / "outputs/number"
        return int((path.read_text() if path.exists() else "") or 0)

    def moves(self) -> None:
        """Wait until the program goes on."""
        before = self.number()
        wait_until(lambda: self.number() > before + 3, timeout=30.0)

    def pause(self) -> int:
        """Have it paused; return the number at which it stands."""
        self.ask("pause")
        wait_until(lambda: "paused" in self.told[-1:], timeout=30.0, on_timeout=lambda: self.told)
        return self.number()


def test_paused_across_kills_of_the_runner(tmp_path: Path, processes: Processes) -> None:
    """A runner that is started again knows the pause; the program goes on when it is asked to."""
    run = Paused(tmp_path, processes)
    first = run.start()
    wait_until(lambda: run.number() > 3, timeout=30.0, on_timeout=first.story)
    stands = run.pause()
    first.kill()
    second = run.start()
    wait_until(lambda: run.told.count("paused") == 2, timeout=30.0, on_timeout=second.story)
    second.kill()
    assert run.number() <= stands + 1  # one write may have been under way
    third = run.start()
    wait_until(lambda: run.told.count("paused") == 3, timeout=30.0, on_timeout=third.story)
    run.ask("resume")
    run.moves()
    (tmp_path / "inputs/go").touch()
    assert third.wait() == 0, third.story()
    assert outcome(tmp_path)["state"] == "completed"
    assert (tmp_path / "outputs/count").read_text() == "x"
    assert run.told[:2] == ["running", "paused"]
    assert run.told[-2:] == ["running", "completed"]


def test_the_time_limit_stands_still(tmp_path: Path, processes: Processes) -> None:
    """A pause that is longer than the limit times nothing out, whoever is killed meanwhile."""
    run = Paused(tmp_path, processes, time_s=6.0)
    first = run.start()
    wait_until(lambda: run.number() > 3, timeout=30.0, on_timeout=first.story)
    run.pause()
    first.kill()
    paused = next(record["time"] for record in journal(tmp_path) if record["event"] == "paused")
    second = run.start()
    wait_until(lambda: run.told.count("paused") == 2, timeout=30.0, on_timeout=second.story)
    wait_until(lambda: _age(tmp_path) > paused + 6.5, timeout=30.0, interval=0.1)
    assert second.alive, second.story()
    run.ask("resume")
    run.moves()
    assert second.wait() == 0  # the limit holds for the time in which it runs
    assert outcome(tmp_path)["state"] == "timeout"
    records = {record["event"]: record["time"] for record in journal(tmp_path)}
    started = next(each["started"] for each in journal(tmp_path) if each["event"] == "program")
    ran = records["stopping"] - started - (records["resumed"] - records["paused"])
    assert round(ran, 6) >= 6.0  # times of today in a float know no more digits


def _age(root: Path) -> float:
    """Return the time on the clock of the file system."""
    mark = root / "now"
    mark.touch()
    mark.write_text("")
    return mark.stat().st_mtime


@pytest.mark.parametrize("killed", [False, True])
def test_a_cancel_wakes_a_paused_program(
    tmp_path: Path, processes: Processes, killed: bool
) -> None:
    """It is given the chance to end by itself, as if it had not been paused."""
    run = Paused(tmp_path, processes)
    runner = run.start()
    wait_until(lambda: run.number() > 3, timeout=30.0, on_timeout=runner.story)
    run.pause()
    if killed:
        runner.kill()
        runner = run.start()
    run.ask("cancel pause")
    assert runner.wait() == 0, runner.story()
    ended = outcome(tmp_path)
    assert (ended["state"], ended["exit_code"]) == ("cancelled", 0)

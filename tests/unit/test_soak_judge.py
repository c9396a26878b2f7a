"""The judge of the soak sees what is wrong: each kind of damage, made on purpose."""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.processes import Processes
from tests.support.wait import wait_until

BENCHMARKS = Path(__file__).resolve().parents[2] / "scripts" / "benchmarks"
RUN = "6f1c0d5e-0a7b-4d0e-9a53-3a1f5b0c2d11"
DATA = b"data of attempt 2"
SHA256 = hashlib.sha256(DATA).hexdigest()


class Field:
    """A field with one run: its first attempt was lost, the second completed."""

    def __init__(self, folder: Path) -> None:
        self.truth = folder
        note = {"attempt": 2, "digests": {"part-0.bin": SHA256}}
        (folder / f"{RUN}-2.json").write_text(json.dumps(note))
        self.document: dict[str, Any] = {"id": RUN, "number": 7, "status": "completed"}
        self.attempts = [{"attempt": 1, "state": "failed"}, {"attempt": 2, "state": "completed"}]
        path = "outputs/data_files/part-0.bin"
        self.files: list[dict[str, Any]] = [{"path": path, "sealed": True, "sha256": SHA256}]
        self.events = [{"type": "simulation/requested"}, {"type": "simulation/completed"}]

    def call(self, _method: str, path: str) -> Any:
        """Answer as the server would."""
        if path.endswith("/attempts"):
            return {"data": self.attempts}
        if "/artifacts" in path:
            return {"data": self.files}
        return {"data": self.events} if "/events" in path else self.document


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The judge's module, for whom the server gives the bytes that were written."""
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    module = importlib.import_module("soak_judge")
    monkeypatch.setattr(module, "_fetched", lambda *_: SHA256)
    yield module
    for name in ("soak_judge", "soak_field"):
        sys.modules.pop(name, None)


@pytest.fixture
def field(tmp_path: Path) -> Field:
    """A field in which all is well."""
    return Field(tmp_path)


def wrong(judge: Any, field: Field, kind: str = "writes") -> str:
    """Return what the judge has to say."""
    return "\n".join(judge.judge(field, {RUN: kind})[0])


def test_a_good_run_is_not_blamed(judge: Any, field: Field) -> None:
    """Nothing is said of a run that is as it must be, and it is counted."""
    problems, told = judge.judge(field, {RUN: "writes"})
    assert problems == []
    assert told["completed"] == told["attempt failed"] == 1


def test_each_damage_is_named(judge: Any, tmp_path: Path) -> None:
    """Not ended, ended twice, other bytes, a missing, a foreign and an open file."""

    def damaged(**changes: Any) -> str:
        field = Field(tmp_path)
        for name, value in changes.items():
            setattr(field, name, value)
        return wrong(judge, field)

    good = Field(tmp_path)
    assert "is running, not completed" in damaged(document={**good.document, "status": "running"})
    twice = [{"attempt": n, "state": "completed"} for n in (1, 2)]
    assert "2 attempts completed" in damaged(attempts=twice)
    open_ = [{"attempt": 1, "state": "running"}, good.attempts[1]]
    assert "attempts [1] have no end" in damaged(attempts=open_)
    assert "2 events simulation/completed" in damaged(events=good.events + good.events[1:])
    assert "part-0.bin is not there" in damaged(files=[])
    assert "not " + SHA256 in damaged(files=[{**good.files[0], "sha256": "0" * 64}])
    assert "sealed: False" in damaged(files=[{**good.files[0], "sealed": False}])
    foreign = {**good.files[0], "path": "outputs/data_files/part-1.bin"}
    assert "part-1.bin is not of the published attempt 2" in damaged(files=[*good.files, foreign])


def test_a_run_that_completed_without_its_program_is_named(judge: Any, field: Field) -> None:
    """The record says completed, main.py has noted nothing."""
    (field.truth / f"{RUN}-2.json").unlink()
    assert "main.py noted nothing" in wrong(judge, field)


def test_a_run_that_had_to_fail_must_not_complete(judge: Any, field: Field) -> None:
    """A program that ends with 3 whatever happens."""
    assert "is completed, not failed" in wrong(judge, field, "fails")


def test_leaks_are_named(judge: Any) -> None:
    """More open files or threads than a pool keeps."""
    before = {"server": (20, 10), "agent-0": (30, 12)}
    assert judge.leaks(before, before) == []
    told = judge.leaks(before, {"server": (50, 10), "agent-0": (30, 40)})
    assert told == [
        "server has 50 open files, 20 at the start",
        "agent-0 has 40 threads, 12 at the start",
    ]
    assert judge.connections(17) == []
    assert judge.connections(30) == ["server keeps 30 connections to its database"]


def test_open_files_of_runs_that_have_ended_are_named(judge: Any) -> None:
    """One is enough; what is no run's, the database and the like, may stay open."""
    opened = {"server": [f"/s/data/simulations/{RUN}/attempts/1/logs/main.log", "/s/data/x.db"]}
    assert judge.held({"agent-0": ["/s/work-0/agent.lock"]}, [RUN]) == []
    assert judge.held(opened, [RUN]) == [f"server still has {opened['server'][0]} open"]


def test_an_agent_that_had_to_be_killed_is_named(judge: Any) -> None:
    """Each ends by itself, with 0, when it is asked to."""
    good, bad = (SimpleNamespace(log=f"/s/agent-{n}.log", returncode=-9 * n) for n in (0, 1))
    assert judge.ends([good]) == []
    assert judge.ends([good, bad]) == ["agent-1.log: the agent ended with -9 when it was stopped"]


def test_what_is_left_over_is_seen(judge: Any, tmp_path: Path) -> None:
    """A program that runs on, a child that nobody has waited for, and a file below the folder."""
    field = importlib.import_module("soak_field").Field.__new__(judge.Field)
    field.place = tmp_path
    field.processes = Processes(tmp_path)
    argv = [sys.executable, "-c", "import time; time.sleep(600)"]
    field.server = field.processes.start(argv)
    field.agents = []
    stray = field.processes.start(argv)
    opened = field.open_files()
    assert [Path(name).parent for name in opened["server"]] == [tmp_path, tmp_path]
    wait_until(lambda: len(field.left_over()) == 1, on_timeout=field.left_over)
    stray.stop()
    assert field.left_over() == []
    script = "import os, time; print(os.fork() or os._exit(0), flush=True); time.sleep(600)"
    field.server = field.processes.start([sys.executable, "-c", script])
    wait_until(lambda: any("waited" in text for text in field.left_over()))
    field.processes.close()

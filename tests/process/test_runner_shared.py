"""Many attempts in one process, by one station: kept apart, stopped, handed back, fenced."""

from __future__ import annotations

import json
import resource
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from physicsrunner.core.state import RunState
from physicsrunner.runner.api import load_config
from physicsrunner.runner.attempt import carry_out
from physicsrunner.runner.stop import StopRequest
from physicsrunner.wire.messages import (
    LeaseGrant,
    Limits,
)
from tests.support.cases import make_work_folder
from tests.support.crowd import WAIT, Crowd, crowd_in
from tests.support.wait import wait_until


@pytest.fixture
def crowd(tmp_path: Path) -> Iterator[Crowd]:
    with crowd_in(tmp_path) as made:
        yield made


def test_thirty_attempts_are_kept_apart(crowd: Crowd) -> None:
    """Each has its own lines, states and files, live and at the end; they share all threads."""
    main = WAIT.replace('"begun"', 'f"begun {work.parent.name}"')
    names = [f"run-{number}" for number in range(30)]
    ends = [crowd.begin(name, main) for name in names]
    for name in names:
        crowd.begun(name)
        seen = f"begun {name}\n"
        crowd.until_sent(name, seen)
        assert crowd.station.attempts[name, 1].state is RunState.RUNNING
    own = [t.name for t in threading.enumerate() if not t.name.startswith("ThreadPoolExecutor")]
    assert len(own) < 16, own
    for name in names:
        (crowd.root / name / "1/inputs/go").touch()
    for name, end in zip(names, ends, strict=True):
        result = end.result(60.0)
        assert result.delivered, result
        assert crowd.sent(name, "logs/main.log") == f"begun {name}\nended\n"
        assert (name, "logs/main.log") in crowd.server.sealed
        assert crowd.server.states(name) == [RunState.RUNNING, RunState.RUNNING, "completed"]
    assert not crowd.station.attempts


def test_a_lost_lease_fences_one_attempt(crowd: Crowd) -> None:
    """Its program is stopped, nothing more is reported, its files are delivered; others go on."""
    lost, other = crowd.begin("lost"), crowd.begin("other")
    crowd.begun("lost")
    crowd.begun("other")
    wait_until(lambda: crowd.server.states("lost"))
    before = len([report for report in crowd.server.reports if report.run == "lost"])
    crowd.station.attempts["lost", 1].heed([], "lease_lost")
    result = lost.result(30.0)
    assert result.error is not None
    assert result.error.code == "lease_lost"
    assert result.delivered
    assert crowd.sent("lost", "logs/main.log") == "begun\nended\n"
    assert len([report for report in crowd.server.reports if report.run == "lost"]) == before
    assert not other.done()
    (crowd.root / "other/1/inputs/go").touch()
    assert other.result(30.0)


def test_a_run_is_handed_back(crowd: Crowd) -> None:
    """The program is stopped; the server hears that another may carry it out, and of no end."""
    end = crowd.begin("run")
    crowd.begun("run")
    crowd.station.attempts["run", 1].hand_back()
    result = end.result(30.0)
    assert result.state is RunState.RETRYING
    assert result.delivered
    last = crowd.server.reports[-1]
    assert (last.hand_back, last.state) == (True, None)
    assert set(crowd.server.states("run")) == {RunState.RUNNING}
    assert crowd.sent("run", "logs/main.log") == "begun\nended\n"


def test_what_the_server_tries_again_is_delivered(crowd: Crowd) -> None:
    """A final report that is answered with ``retrying`` leaves nothing to do."""
    crowd.server.answer = {"state": RunState.RETRYING}
    result = crowd.begin("run", "raise SystemExit(3)").result(30.0)
    assert (result.state, result.exit_code) == (RunState.FAILED, 3)
    assert result.delivered


def test_silence_is_told_and_so_is_its_end(crowd: Crowd) -> None:
    """Once each; the program is not stopped for it."""
    main = WAIT.replace('"ended"', '"more"') + "    wait_for('end')\n"
    end = crowd.begin("run", main, limits=Limits(silence_s=0.6, stop_grace_s=5.0))
    crowd.begun("run")

    def told() -> list[bool]:
        return [r.silent for r in crowd.server.reports if r.silent is not None]

    # A program that is slow to begin is silent, too, and that is over when it speaks.
    wait_until(lambda: told()[-1:] == [True])
    before = len(told())
    (crowd.root / "run/1/inputs/go").touch()
    wait_until(lambda: told()[before : before + 1] == [False])
    assert all(first is not second for first, second in pairwise(told()))
    (crowd.root / "run/1/end").touch()
    assert end.result(30.0)


def test_a_silent_program_is_stopped_when_that_is_asked(crowd: Crowd) -> None:
    """The run is timed out, and says why; a pause is no silence."""
    limits = Limits(silence_s=3.0, stop_when_silent=True, stop_grace_s=5.0)
    end = crowd.begin("run", limits=limits)
    crowd.begun("run")
    crowd.station.attempts["run", 1].heed(["pause"])
    wait_until(lambda: RunState.PAUSED in crowd.server.states("run"))
    crowd.station.attempts["run", 1].heed(["resume"])
    result = end.result(30.0)
    assert result.state is RunState.TIMEOUT
    assert result.error is not None
    assert result.error.code == "silent"


def test_secrets_are_shown_nowhere(crowd: Crowd) -> None:
    """main.py has the value; log, reports, errors, provenance and config.json have ***."""
    main = """
        import os
        secret = os.environ["PASSWORD"]
        (outputs / "state.txt").write_text(f"running 50 with {secret}\\n")
        (work / "seen").write_text(secret)
        print("error:", secret, flush=True)
        wait_for("go")
        raise SystemExit(3)
    """
    value = 'sesame "4711"'
    end = crowd.begin("run", main, environment={"PASSWORD": value}, secrets=["PASSWORD"])
    work = crowd.root / "run/1"
    wait_until(lambda: (work / "seen").exists(), timeout=30.0)
    wait_until(lambda: any(r.label for r in crowd.server.reports), timeout=20.0)
    (work / "go").touch()
    result = end.result(30.0)
    assert (work / "seen").read_text() == value
    assert result.error is not None
    assert result.error.message.endswith("error: ***")
    shown = [work / "config.json", work / "scripts/config.json", *work.glob("metadata/*.json")]
    shown += [*work.glob("debug/*"), *work.glob(".physicsrunner/*.jsonl")]
    for path in shown:
        assert "4711" not in path.read_text(), path
    assert "4711" not in json.dumps([str(report) for report in crowd.server.reports])


def test_a_secret_is_hidden_before_its_line_is_cut(crowd: Crowd) -> None:
    """What ends a run is told by 300 characters of its log: half a secret is not among them."""
    main = """
        import os
        print("x" * 290, os.environ["PASSWORD"], flush=True)
        raise SystemExit(3)
    """
    end = crowd.begin("run", main, environment={"PASSWORD": "sesame-4711"}, secrets=["PASSWORD"])
    error = end.result(30.0).error
    assert error is not None
    assert error.message.endswith("x ***")


def test_what_an_earlier_agent_left_there_is_found(crowd: Crowd) -> None:
    """A new attempt is taken for one that nothing was sent of; when that is wrong, it is mended."""
    crowd.server.strict = True
    crowd.server.files_of["run"] = {"outputs/old": b"old", "logs/main.log": b"begun, long ago"}
    (crowd.root / "run/1/inputs").mkdir(parents=True)
    end = crowd.begin("run")
    (crowd.root / "run/1/inputs/go").touch()
    result = end.result(60.0)
    assert result.delivered, result
    assert crowd.sent("run", "logs/main.log") == "begun\nended\n"
    assert "outputs/old" not in crowd.server.files_of["run"]


def test_what_an_attempt_is_of_is_flushed_before_what_it_does(
    crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Power may be lost: config.json, without which nobody takes the attempt up, goes first."""
    flushed: list[Path] = []
    monkeypatch.setattr(crowd.station, "flush", flushed.append)
    end = crowd.begin("run")
    crowd.begun("run")
    crowd.stops["run"].ask("cancelled")
    assert end.result(30.0).state is RunState.CANCELLED
    folder = crowd.root / "run/1"
    assert list(dict.fromkeys(flushed)) == [
        folder / "config.json",
        folder / ".physicsrunner/journal.jsonl",
    ]


def test_programs_keep_the_limit_of_open_files(tmp_path: Path) -> None:
    """The process makes room for many attempts; select() in a solver must not see that."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, before[1]))
    try:
        with crowd_in(tmp_path) as crowd:
            assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(16_384, before[1])
            main = """
                import resource
                print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
            """
            assert crowd.begin("run", main).result(30.0)
            assert crowd.sent("run", "logs/main.log") == "1024\n"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_an_attempt_is_taken_up_by_the_next_station(tmp_path: Path) -> None:
    """The program went on while nobody was there; what it wrote meanwhile is delivered."""
    folder = tmp_path / "run/1"
    keys: dict[str, Any] = {"server": "http://127.0.0.1:9", "run": "run", "attempt": 1}
    make_work_folder(folder, WAIT, token="run-token", **keys)
    config = load_config(folder / "config.json")
    started = _started_elsewhere(config, folder)
    assert not started
    with crowd_in(tmp_path) as crowd:
        end = crowd.begin("run")
        (folder / "inputs/go").touch()
        assert end.result(30.0)
        assert crowd.sent("run", "logs/main.log") == "begun\nended\n"


def _started_elsewhere(config: Any, folder: Path) -> bool:
    """Have a station begin the attempt, and leave it as a kill would: the program goes on."""
    from physicsrunner.engines.base import NativeId
    from physicsrunner.runner.journal import Journal

    with crowd_in(folder.parent.parent) as first:
        grant = LeaseGrant("run", 1, 7, "run", 0.0, 60.0, "run-token")
        stop = _Interrupting(_raise)
        with pytest.raises(KeyboardInterrupt):
            carry_out(
                config, uplink=None, stop=stop, renew=False, shared=first.station, grant=grant
            )
        program = Journal(folder / ".physicsrunner/journal.jsonl", lambda: 0.0).read().program
        assert program is not None
        status = first.station.engine.poll([NativeId(program)])
        return status[NativeId(program)].exit_code is not None


def _raise() -> None:
    raise KeyboardInterrupt


class _Interrupting(StopRequest):
    """Ends the wait for the program as two Ctrl-C do."""

    def __init__(self, interrupt: Callable[[], None]) -> None:
        super().__init__()
        self._interrupt = interrupt

    def wait(self, seconds: float | None) -> None:
        del seconds
        self.ask("interrupted")
        self._interrupt()

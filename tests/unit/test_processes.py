"""Facts about processes, asked of real ones."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from physicsrunner.engines.local import TAG
from physicsrunner.engines.processes import ProcessId, began_at, outside, own_id, tagged
from physicsrunner.engines.sweeps import Sweeps

WAITS = "import os, sys; print(os.getpid(), flush=True); sys.stdin.read()"
#: Starts one like it in its own session.
PARENT = f"import os, subprocess; subprocess.run([{sys.executable!r}, '-c', {WAITS!r}])"


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    """Keep programs that end with the test."""
    programs: list[subprocess.Popen[str]] = []
    yield programs
    for program in programs:
        program.communicate()


def start(programs: list[subprocess.Popen[str]], code: str, tag: str) -> tuple[int, int]:
    """Start *code* as the leader of a session; return its pid and the one that it prints."""
    program = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, TAG: tag},
        start_new_session=True,
    )
    programs.append(program)
    assert program.stdout is not None
    return program.pid, int(program.stdout.readline())


def test_what_is_in_a_known_session_is_left_out(started: list[subprocess.Popen[str]]) -> None:
    """Leader and members of a session go, this process stays, and a pid without a process goes."""
    leader, member = start(started, PARENT, "outside")
    assert leader != member
    every = [leader, member, os.getpid(), 2**22 + 1]
    assert list(outside(every, {leader})) == [os.getpid()]
    assert list(outside(every, ())) == [leader, member, os.getpid()]


def test_a_look_finds_one_program_beside_another(
    started: list[subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What carries the tag is found, and sessions that are left out are not looked at."""
    mine, my_child = start(started, PARENT, "look-mine")
    other, _ = start(started, WAITS, "look-other")
    # However long the starts have taken, all these count as young.
    monkeypatch.setattr(
        "physicsrunner.engines.sweeps.pids_since", lambda _: [mine, my_child, other]
    )
    (since,) = (each for each in tagged(TAG, "look-mine") if each.pid == mine)
    sweeps = Sweeps(TAG)
    found = sweeps.find("look-mine", since, {other})
    assert {process.pid for process in found} == {mine, my_child}
    assert not sweeps.find("look-mine", since, {mine, other})


def test_when_a_process_began() -> None:
    """It is told from its name alone; not of one that ran before the machine's last start."""
    before = time.time()
    own = own_id()
    at = began_at(own)
    assert at is not None
    assert before - 86_400 < at <= time.time()
    older = began_at(ProcessId(own.pid, own.start - 5 * os.sysconf("SC_CLK_TCK"), own.boot))
    assert older is not None
    assert at - older == pytest.approx(5.0, abs=0.5)
    assert began_at(ProcessId(own.pid, own.start, "00000000")) is None

"""What every engine promises (`engines.base`), tested on each engine that there is."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from physicsrunner.engines.base import Engine, EngineStatus, NativeId, Phase, Program
from physicsrunner.engines.local import TAG, LocalEngine
from physicsrunner.engines.processes import tagged
from tests.support.wait import wait_until

ENGINES: dict[str, Callable[[], Engine]] = {"local": LocalEngine}
ENDED = (Phase.ENDED, Phase.LOST)


class Bench:
    """Programs of one test, on one engine."""

    def __init__(self, make: Callable[[], Engine], folder: Path) -> None:
        self.make = make
        self.engine = make()
        self.folder = folder
        self.count = 0
        self.tags: list[str] = []

    def program(self, code: str) -> Program:
        self.count += 1
        tag = f"test-{os.getpid()}-{self.folder.name}-{self.count}"
        self.tags.append(tag)
        return Program(
            argv=(sys.executable, "-c", code),
            cwd=self.folder,
            environment={**os.environ, TAG: tag},
            stdout=self.folder / f"out-{self.count}.log",
            stderr=self.folder / f"out-{self.count}.log",
            control=self.folder / f"control {self.count}",
        )

    def start(self, code: str) -> NativeId:
        return self.engine.submit(self.program(code))

    def status(self, native_id: NativeId, engine: Engine | None = None) -> EngineStatus:
        return (engine or self.engine).poll([native_id])[native_id]

    def ended(self, native_id: NativeId, engine: Engine | None = None) -> EngineStatus:
        def look() -> EngineStatus | None:
            status = self.status(native_id, engine)
            return status if status.phase in ENDED else None

        found = wait_until(look, timeout=60.0)
        assert found is not None
        return found

    def text(self, number: int = 1) -> str:
        return (self.folder / f"out-{number}.log").read_text()

    def living(self) -> list[int]:
        return [process.pid for tag in self.tags for process in tagged(TAG, tag)]


@pytest.fixture(params=sorted(ENGINES))
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(ENGINES[request.param], tmp_path)
    yield made
    made.engine.close()
    left = made.living()
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, f"programs outlived the test: {left}"


def test_the_exit_code_is_told_whenever_it_is_asked(bench: Bench) -> None:
    """Exit code 7 is exit code 7, now, again, and to another process."""
    native_id = bench.start("raise SystemExit(7)")
    assert bench.ended(native_id) == EngineStatus(Phase.ENDED, 7)
    assert bench.status(native_id) == EngineStatus(Phase.ENDED, 7)
    assert bench.status(native_id, bench.make()) == EngineStatus(Phase.ENDED, 7)


def test_output_goes_to_the_log_as_it_comes(bench: Bench) -> None:
    """A line that was printed is in the file while the program runs; the file is appended to."""
    (bench.folder / "out-1.log").write_text("before\n")
    code = "import sys,time; print('one', flush=True); sys.stderr.write('two\\n'); time.sleep(60)"
    native_id = bench.start(code)
    wait_until(lambda: bench.text() == "before\none\ntwo\n", on_timeout=bench.text)
    assert bench.status(native_id).phase is Phase.RUNNING
    bench.engine.cancel(native_id)


def test_a_signal_is_minus_its_number(bench: Bench) -> None:
    """A program that a signal ended has that signal's negative number as its exit code."""
    native_id = bench.start("import os,signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert bench.ended(native_id).exit_code == -signal.SIGSEGV


def test_terminate_lets_the_program_end_itself(bench: Bench) -> None:
    """SIGTERM reaches the program, whose own exit code counts."""
    code = (
        "import signal,sys,time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(5));"
        "print('ready', flush=True); time.sleep(60)"
    )
    native_id = bench.start(code)
    wait_until(lambda: "ready" in bench.text())
    bench.engine.terminate(native_id)
    assert bench.ended(native_id).exit_code == 5


def test_a_program_that_ignores_sigterm_is_killed_by_cancel(bench: Bench) -> None:
    """`cancel` ends what `terminate` cannot."""
    code = (
        "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print('ready', flush=True); time.sleep(60)"
    )
    native_id = bench.start(code)
    wait_until(lambda: "ready" in bench.text())
    bench.engine.terminate(native_id)
    assert bench.status(native_id).phase is Phase.RUNNING
    bench.engine.cancel(native_id)
    assert bench.status(native_id) == EngineStatus(Phase.ENDED, -signal.SIGKILL)


def test_cancel_finds_children_that_left_the_group(bench: Bench) -> None:
    """A double-forked child in a session of its own does not survive its program's cancel."""
    code = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print("grandchild", flush=True)
        time.sleep(600)
    os._exit(0)
time.sleep(600)
"""
    native_id = bench.start(code)
    wait_until(lambda: "grandchild" in bench.text())
    assert len(bench.living()) >= 3  # shim, program, grandchild
    bench.engine.cancel(native_id)
    assert not bench.living()


def test_cancel_of_an_ended_program_is_silent_and_ends_what_it_left(bench: Bench) -> None:
    """A child that outlived its program is found after the program's end too."""
    code = """
import os, time
if os.fork() == 0:
    os.setsid()
    time.sleep(600)
"""
    native_id = bench.start(code)
    assert bench.ended(native_id).exit_code == 0
    assert len(bench.living()) == 1
    bench.engine.cancel(native_id)
    bench.engine.cancel(native_id)
    assert not bench.living()
    assert bench.status(native_id).exit_code == 0


def test_another_process_goes_on_with_a_program(bench: Bench) -> None:
    """The native id is enough for a new engine to poll, to end and to tell the end."""
    native_id = bench.start("import time; print('ready', flush=True); time.sleep(600)")
    wait_until(lambda: "ready" in bench.text())
    other = bench.make()
    assert bench.status(native_id, other).phase is Phase.RUNNING
    other.terminate(native_id)
    assert bench.ended(native_id, other).exit_code == -signal.SIGTERM


def test_a_program_is_started_once_however_often_it_is_submitted(bench: Bench) -> None:
    """A repeated submit, of this process or of another one, gives the same id."""
    program = bench.program("import os; os.write(1, b'ran\\n')")
    first = bench.engine.submit(program)
    assert bench.make().submit(program) == first
    bench.ended(first)
    assert bench.make().submit(program) == first
    assert bench.text() == "ran\n"


def test_a_killed_shim_and_program_are_lost(bench: Bench) -> None:
    """Without an exit status the program is lost, never ended with some code."""
    native_id = bench.start("import time; print('ready', flush=True); time.sleep(600)")
    wait_until(lambda: "ready" in bench.text())
    for pid in sorted(bench.living()):  # the shim, which is older, first
        os.kill(pid, signal.SIGKILL)
    assert bench.ended(native_id) == EngineStatus(Phase.LOST)
    bench.engine.cancel(native_id)


def test_a_recycled_pid_is_never_taken_for_the_program(bench: Bench) -> None:
    """The id of a process that was started at another time means nobody."""
    engine = bench.engine
    assert isinstance(engine, LocalEngine)
    control = bench.folder / "control"
    control.mkdir()
    mine = f"{os.getpid()}:1:{'x' * 8}:{control}"
    assert bench.status(NativeId(mine)).phase is Phase.LOST
    engine.terminate(NativeId(mine))
    engine.cancel(NativeId(mine))  # this process survives it


def test_many_are_asked_in_one_question(bench: Bench) -> None:
    """`poll` answers for all ids that it was asked for."""
    ids = [bench.start(f"raise SystemExit({code})") for code in range(3)]
    wait_until(lambda: all(s.phase is Phase.ENDED for s in bench.engine.poll(ids).values()))
    assert [bench.engine.poll(ids)[native_id].exit_code for native_id in ids] == [0, 1, 2]


def test_a_program_that_is_not_there_ends_with_127(bench: Bench) -> None:
    """The log says why, and the exit code is the shell's."""
    program = bench.program("")
    missing = Program(**{**vars(program), "argv": ("/nowhere/to be found",)})
    native_id = bench.engine.submit(missing)
    assert bench.ended(native_id).exit_code == 127
    assert "/nowhere/to be found" in bench.text()


COUNT = """
import itertools, sys, time
for number in itertools.count():
    print(number, flush=True)
    time.sleep(0.01)
"""


def stopped(bench: Bench) -> bool:
    """Say whether every process of the bench's programs is stopped."""
    states = []
    for pid in bench.living():
        text = Path(f"/proc/{pid}/stat").read_text()
        states.append(text.rpartition(")")[2].split()[0])
    return bool(states) and set(states) == {"T"}


def test_a_suspended_program_stands_still_until_it_is_resumed(bench: Bench) -> None:
    """It writes nothing, also when another process of ours asks; then it goes on where it was."""
    native_id = bench.start(COUNT)
    wait_until(lambda: "3" in bench.text())
    bench.engine.suspend(native_id)
    bench.engine.suspend(native_id)  # a repeat is nothing
    wait_until(lambda: stopped(bench))
    other, seen = bench.make(), bench.text()
    assert bench.status(native_id, other).phase is Phase.RUNNING
    assert bench.text() == seen
    other.resume(native_id)
    other.resume(native_id)
    wait_until(lambda: len(bench.text()) > len(seen) + 10)
    assert bench.text().startswith(seen)
    bench.engine.cancel(native_id)


@pytest.mark.parametrize("end", ["cancel", "terminate"])
def test_a_suspended_program_can_be_ended(bench: Bench, end: str) -> None:
    """Cancel ends it and keeps its status; a request to end reaches it."""
    native_id = bench.start(COUNT)
    wait_until(lambda: "3" in bench.text())
    bench.engine.suspend(native_id)
    wait_until(lambda: stopped(bench))
    getattr(bench.engine, end)(native_id)
    expected = signal.SIGKILL if end == "cancel" else signal.SIGTERM
    assert bench.ended(native_id) == EngineStatus(Phase.ENDED, -expected)
    bench.engine.suspend(native_id)  # silent, for it has ended
    bench.engine.resume(native_id)


def test_the_end_of_a_program_is_told_once(bench: Bench) -> None:
    """Soon after it, to each who asked; also to who asks when it is over; not to who forgot."""
    told: list[str] = []
    gate = bench.folder / "gate"
    wait = f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)"
    first, second = bench.start(wait), bench.start(wait)
    bench.engine.notify(first, lambda: told.append("first"))
    bench.engine.notify(second, lambda: told.append("second"))
    bench.engine.forget(second)
    gate.touch()
    assert bench.ended(first).exit_code == bench.ended(second).exit_code == 0
    wait_until(lambda: told)
    bench.engine.notify(second, lambda: told.append("late"))
    wait_until(lambda: "late" in told)
    bench.engine.close()
    assert told == ["first", "late"]

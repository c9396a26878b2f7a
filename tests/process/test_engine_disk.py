"""The disk is full when a program ends: its exit status is there all the same."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from physicsrunner.engines.base import EngineStatus, Phase, Program
from physicsrunner.engines.local import TAG, LocalEngine
from tests.support.disk import SmallDisk
from tests.support.wait import wait_until

#: Writes until no byte and no file finds room, and ends with a status of its own.
FILL = """
import os, sys
folder = sys.argv[1]
for size in (65536, 4096, 1):
    try:
        with open(os.path.join(folder, f"filler {size}"), "wb", buffering=0) as file:
            while True:
                file.write(bytes(size))
    except OSError:
        pass
print("full", flush=True)
sys.exit(7)
"""
#: Keeps hold of the file that the status goes into, tells its size, and ends with three digits.
LOOK = """
import os, sys
file = os.path.join(sys.argv[1], "pid")
os.link(file, os.path.join(os.path.dirname(sys.argv[1]), "before"))
print(os.path.getsize(file))
sys.exit(137)
"""


@pytest.fixture
def engine() -> Iterator[LocalEngine]:
    made = LocalEngine()
    yield made
    made.close()


def status_after(engine: LocalEngine, control: Path, logs: Path, code: str) -> EngineStatus:
    """Carry out *code* with *control* as its control folder; return how it ended."""
    program = Program(
        argv=(sys.executable, "-c", code, str(control)),
        cwd=logs,
        environment={**os.environ, TAG: f"full-{os.getpid()}-{logs.name}"},
        stdout=logs / "out.log",
        stderr=logs / "out.log",
        control=control,
    )
    native_id = engine.submit(program)

    def ended() -> EngineStatus | None:
        status = engine.poll([native_id])[native_id]
        return None if status.phase is Phase.RUNNING else status

    found = wait_until(ended, timeout=60, on_timeout=(logs / "out.log").read_text)
    assert found is not None
    again = LocalEngine()  # another process would find the same
    assert again.poll([native_id]) == {native_id: found}
    again.close()
    return found


def test_the_exit_status_of_a_program_that_filled_the_disk(
    engine: LocalEngine, tmp_path: Path
) -> None:
    """Its control folder is on the disk without a byte of room; what was kept free takes it."""
    disk = SmallDisk(tmp_path / "disk", 2)
    try:
        control = disk.folder / "control"
        assert status_after(engine, control, tmp_path, FILL) == EngineStatus(Phase.ENDED, 7)
        with pytest.raises(OSError, match="No space left"):  # else nothing was tested
            (control / "more").write_bytes(b"x")
    finally:
        disk.close()


def test_the_exit_status_takes_no_byte_more(engine: LocalEngine, tmp_path: Path) -> None:
    """The same without a disk of one's own: it is written where its place was kept, and only it."""
    control, before = tmp_path / "control", tmp_path / "before"
    assert status_after(engine, control, tmp_path, LOOK) == EngineStatus(Phase.ENDED, -9)
    assert before.samefile(control / "pid"), "another file was put in its place"
    assert before.stat().st_size == int((tmp_path / "out.log").read_text())
    assert [entry.name for entry in control.iterdir()] == ["pid"]

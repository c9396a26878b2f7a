"""The lock of a work folder."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from pathlib import Path

import pytest

from physicsrunner.engines.processes import ProcessId, own_id
from physicsrunner.errors import WorkDirLocked
from physicsrunner.runner.lock import WorkLock


def test_one_at_a_time_also_in_one_process(tmp_path: Path) -> None:
    """The second is refused at once and named the first's pid; afterwards it is free."""
    path = tmp_path / "w" / ".physicsrunner" / "lock"
    with WorkLock(path), pytest.raises(WorkDirLocked, match=f"pid {os.getpid()} on"):
        WorkLock(path).acquire()
    with WorkLock(path):
        assert path.read_text().split()[0] == str(os.getpid())


def test_a_stale_lock_is_taken_over(tmp_path: Path) -> None:
    """What a runner that was killed left in the file stops nobody."""
    path = tmp_path / "lock"
    path.write_text(f"{own_id()} {socket.gethostname()}\n")
    with WorkLock(path):
        pass


@pytest.mark.parametrize(
    ("holder", "free"),
    [
        (own_id(), False),
        (ProcessId(os.getpid(), 1, own_id().boot), True),  # a recycled pid
        (ProcessId(2**22 + 1, 5, own_id().boot), True),  # gone
        (ProcessId(os.getpid(), own_id().start, "00000000"), True),  # before a restart
    ],
)
def test_without_flock_the_named_process_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, holder: ProcessId, free: bool
) -> None:
    """pid, start time and boot must all be those of a living process."""

    def no_flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "no locks here")

    monkeypatch.setattr(fcntl, "flock", no_flock)
    path = tmp_path / "lock"
    path.write_text(f"{holder} {socket.gethostname()}\n")
    if free:
        with WorkLock(path):
            pass
    else:
        with pytest.raises(WorkDirLocked):
            WorkLock(path).acquire()

"""The journal: what was noted is there, and what was torn is not."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from physicsrunner.core.stages import Stage
from physicsrunner.core.state import RunState
from physicsrunner.errors import StorageFull
from physicsrunner.runner.journal import History, Journal
from physicsrunner.wire.messages import Failure


def full(path: Path) -> Journal:
    """Return a journal of a whole attempt."""
    times = iter(range(100))
    journal = Journal(path, lambda: float(next(times)))
    journal.note("begun", run="r", attempt=2, wire="offline", name="wing")
    journal.note("stage_done", stage=Stage.INIT, seconds=0.5)
    journal.note("program", native_id="1:2:3:/c", started=7.0)
    journal.note("stopping", reason="timeout")
    failure = Failure("timeout", "too long")
    journal.note("outcome", state=RunState.TIMEOUT, exit_code=-15, error=failure)
    journal.note("delivered")
    journal.note("finished", kept=False)
    return journal


def test_a_pause_lasts_from_when_to_when_it_was_decided(tmp_path: Path) -> None:
    """Not from and to when that was written, which may be much later; also for a later start."""
    times = iter([100.0, 100.0, 101.0, 105.0, 109.0])
    journal = Journal(tmp_path / "j", lambda: next(times))
    journal.note("begun", run="r", attempt=1, wire="offline")
    journal.note("paused", at=10.0)
    journal.note("resumed", at=14.5)
    journal.note("stopping", at=20.0, reason="timeout")
    for found in (journal.read(), Journal(tmp_path / "j", lambda: 0.0).read()):
        assert (found.paused_s, found.paused_since, found.stop_time) == (4.5, None, 20.0)


def test_a_history_is_read_back(tmp_path: Path) -> None:
    """Every event has its effect."""
    history = full(tmp_path / "j").read()
    assert (history.run, history.attempt, history.begun, history.name) == ("r", 2, 0.0, "wing")
    assert history.stages == {Stage.INIT: 0.5}
    assert (history.program, history.started) == ("1:2:3:/c", 7.0)
    assert (history.stop_reason, history.stop_time) == ("timeout", 3.0)
    assert history.outcome is not None
    assert history.outcome.state is RunState.TIMEOUT
    assert history.outcome.error == Failure("timeout", "too long")
    assert history.delivered
    assert history.finished


def test_no_journal_is_an_empty_history(tmp_path: Path) -> None:
    """A folder without a journal has no past."""
    assert Journal(tmp_path / "none", lambda: 0.0).read() == History()


@settings(deadline=None, max_examples=50)
@given(cut=st.integers(min_value=0, max_value=2000))
def test_a_torn_journal_is_one_that_ended_earlier(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    """Cut anywhere, it reads as its whole lines, and goes on with whole lines."""
    path = tmp_path_factory.mktemp("j") / "j"
    full(path)
    data = path.read_bytes()[:cut]
    path.write_bytes(data)
    journal = Journal(path, lambda: 99.0)
    whole = data.count(b"\n")
    assert (journal.read().run == "r") == (whole >= 1 or data.endswith(b"}"))
    journal.note("stage_done", stage=Stage.WATCH, seconds=1.0)
    assert journal.read().stages[Stage.WATCH] == 1.0


def test_events_of_a_newer_version_are_passed_over(tmp_path: Path) -> None:
    """Unknown events, and known ones with other fields, do no harm."""
    path = tmp_path / "j"
    journal = full(path)
    before = journal.read()
    with path.open("a") as file:
        file.write('{"event": "teleported"}\n[1]\n{"event": "stage_done", "stage": "x"}\n')
    assert journal.read() == before


def test_a_journal_set_aside_begins_anew(tmp_path: Path) -> None:
    """The old one is kept under another name."""
    journal = full(tmp_path / "journal.jsonl")
    journal.set_aside()
    assert journal.read() == History()
    assert (tmp_path / "journal.1.jsonl").exists()


def test_a_journal_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    """The error is ours and names the file."""
    with pytest.raises(StorageFull, match="journal"):
        Journal(tmp_path / "no" / "journal", lambda: 0.0).note("begun", run="r", attempt=1)


def test_what_may_wait_is_written_with_the_next_note(tmp_path: Path) -> None:
    """A later note counts at once here, and for others from the next note or the end on."""
    path = tmp_path / "j"
    journal = Journal(path, lambda: 1.0)
    journal.note("begun", run="r", attempt=1)
    journal.note("stage_done", later=True, stage=Stage.INIT, seconds=0.5)
    assert journal.read().stages == {Stage.INIT: 0.5}
    assert Journal(path, lambda: 1.0).read().stages == {}
    with path.open("ab") as file:
        file.write(b'{"event": "torn')  # somebody's write was cut meanwhile
    assert journal.read().stages == {Stage.INIT: 0.5}
    journal.note("program", native_id="1:2:3:/c", started=7.0)
    after = Journal(path, lambda: 1.0).read()
    assert (after.stages, after.program) == ({Stage.INIT: 0.5}, "1:2:3:/c")
    journal.note("reported", later=True)
    journal.note("delivered", later=True)
    journal.close()
    after = Journal(path, lambda: 1.0).read()
    assert (after.reported, after.delivered) == (True, True)
    assert journal.read() == after


def open_files(folder: Path) -> list[str]:
    """Return the files of *folder* that this process has open."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found.append(str(entry.readlink()))
    return [name for name in found if name.startswith(f"{folder}/")]


def test_one_file_is_open_from_the_first_note_to_the_end(tmp_path: Path) -> None:
    """However many notes: also those that wait are in it when it is closed."""
    path = tmp_path / "j"
    journal = Journal(path, lambda: 1.0)
    journal.read()
    assert open_files(tmp_path) == []
    for stage in Stage:
        journal.note("stage_done", stage=stage, seconds=0.5)
        assert open_files(tmp_path) == [str(path)]
    journal.note("finished", later=True, kept=False)
    journal.close()
    assert open_files(tmp_path) == []
    assert Journal(path, lambda: 1.0).read().finished
    journal.close()


def test_what_is_noted_after_the_journal_was_put_aside_is_in_the_new_one(tmp_path: Path) -> None:
    """The file that was open is not gone on with under its other name."""
    journal = full(tmp_path / "journal.jsonl")
    before = (tmp_path / "journal.jsonl").read_bytes()
    journal.set_aside()
    journal.note("begun", run="s", attempt=1)
    journal.close()
    assert (tmp_path / "journal.1.jsonl").read_bytes() == before
    assert Journal(tmp_path / "journal.jsonl", lambda: 0.0).read().run == "s"


def test_a_note_is_never_written_to_a_file_that_was_removed(tmp_path: Path) -> None:
    """Somebody removed it: it is begun anew; its folder, too: that is said, and nothing is open."""
    (tmp_path / "c").mkdir()
    journal = full(tmp_path / "c" / "j")
    (tmp_path / "c" / "j").unlink()
    journal.note("begun", run="s", attempt=1)
    assert Journal(tmp_path / "c" / "j", lambda: 0.0).read().run == "s"
    (tmp_path / "c" / "j").unlink()
    (tmp_path / "c").rmdir()
    with pytest.raises(StorageFull, match="cannot write"):
        journal.note("delivered")
    assert open_files(tmp_path) == []


def test_a_full_disk_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt that could not begin is tried again, for as long as the disk is full."""
    journal = Journal(tmp_path / "j", lambda: 1.0)

    def full_disk(_descriptor: int, _data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full_disk)
        with pytest.raises(StorageFull, match="No space left"):
            journal.note("begun", run="r", attempt=1)
    assert open_files(tmp_path) == []
    journal.note("begun", run="r", attempt=1)
    assert journal.read().run == "r"
    journal.close()

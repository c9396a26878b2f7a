"""When the journals of attempts are brought to the disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from physicsrunner.runner.flush import DELAY_S, Flusher


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def flusher(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flusher]:
    """Give one without its thread: the tests take what is due."""
    monkeypatch.setattr(Flusher, "_loop", lambda _: None)
    made = Flusher(now=clock.now)
    yield made
    made.close()


def test_each_file_is_due_a_while_after_its_first_line(clock: Clock, flusher: Flusher) -> None:
    """A later line does not put it off, and a file that came later waits its own time."""
    first, second = Path("first"), Path("second")
    flusher.soon(first)
    clock.time += 0.5 * DELAY_S
    flusher.soon(second)
    flusher.soon(first)
    assert flusher.due() == []
    clock.time += 0.5 * DELAY_S
    assert flusher.due() == [first]
    assert flusher.due() == []
    clock.time += 0.5 * DELAY_S
    assert flusher.due() == [second]


def test_what_is_written_after_its_flush_is_flushed_again(clock: Clock, flusher: Flusher) -> None:
    """A file that was flushed waits anew for its next line."""
    flusher.soon(Path("a"))
    clock.time += DELAY_S
    assert flusher.due() == [Path("a")]
    flusher.soon(Path("a"))
    assert flusher.due() == []
    clock.time += DELAY_S
    assert flusher.due() == [Path("a")]


def test_at_the_end_all_are_due(flusher: Flusher) -> None:
    """Whoever closes it leaves nothing that waits."""
    flusher.soon(Path("a"))
    flusher.soon(Path("b"))
    flusher.close()
    assert flusher.due() == [Path("a"), Path("b")]


def test_a_closed_flusher_has_flushed(tmp_path: Path) -> None:
    """With its thread: what waits is flushed before `close` returns, and what is gone is not."""
    made = Flusher()
    (tmp_path / "there").write_text("a line")
    made.soon(tmp_path / "there")
    made.soon(tmp_path / "gone")
    made.close()
    assert made.due() == []

"""Progress that waits to be written: shown at once, written seldom, and of many more seldom."""

from __future__ import annotations

from physicsrunner.core.run import RunSummary
from physicsrunner.core.state import RunState
from physicsrunner.service.progress import LONGEST_S, ROWS, ProgressBook


def running(number: int) -> RunSummary:
    return RunSummary(f"r{number}", number, "n", "ada", 0.0, 0.0, RunState.RUNNING, attempt=1)


def test_the_progress_of_few_is_written_every_second() -> None:
    """What comes in between waits, and is shown."""
    book, run = ProgressBook(), running(1)

    assert book.put(run.id, 1, {"progress_percent": 1.0}, 10.0)
    assert book.take(run, 10.0) == {"progress_percent": 1.0}
    assert not book.put(run.id, 1, {"progress_percent": 2.0}, 10.5)
    assert book.due(10.9) == []
    assert book.due(11.0) == [run.id]
    assert book.overlay(run).progress_percent == 2.0
    assert book.put(run.id, 1, {"label": "x"}, 11.0)
    assert book.take(run, 11.0) == {"progress_percent": 2.0, "label": "x"}


def test_the_progress_of_many_is_written_together_and_less_often() -> None:
    """No report writes; the clock loop finds so many rows a second that a database has rest."""
    book = ProgressBook()
    runs = [running(number) for number in range(5 * ROWS)]
    for run in runs:
        book.take(run, 10.0)

    assert not any(book.put(run.id, 1, {"progress_percent": 1.0}, 12.0) for run in runs)
    assert book.due(14.9) == []
    assert sorted(book.due(15.0)) == sorted(run.id for run in runs)
    assert all(book.overlay(run).progress_percent == 1.0 for run in runs)


def test_progress_never_waits_for_long() -> None:
    """However many runs there are, what they say is written within a bound."""
    book = ProgressBook()
    for number in range(20 * ROWS):
        book.take(running(number), 10.0)
    book.put("r1", 1, {"progress_percent": 1.0}, 10.0)

    assert book.due(10.0 + LONGEST_S) == ["r1"]

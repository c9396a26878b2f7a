"""What works beside one program (`runner.stages.watch`)."""

from __future__ import annotations

import threading
from pathlib import Path
from unittest.mock import Mock

import pytest

from physicsrunner.runner.stages import watch
from physicsrunner.runner.workdir import WorkFolder


def test_two_threads_that_hear_of_the_first_output_follow_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Watch and scan may both be first; two followers would count every point twice."""
    folder = WorkFolder(tmp_path)
    both = threading.Barrier(2)
    made: list[Mock] = []

    def any_output(_outputs: Path) -> bool:
        both.wait(30)  # neither has made one by now
        return True

    def make() -> Mock:
        made.append(Mock())
        return made[-1]

    monkeypatch.setattr(watch, "_any_output", any_output)
    watchers = watch.Watchers(Mock(folder=folder, watched_for_more=False))
    monkeypatch.setattr(watchers, "_make_follower", make)
    threads = [
        threading.Thread(target=watchers._changed, args=(frozenset({folder.outputs}),))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(made) == 1


def test_a_short_attempt_of_an_agent_is_not_followed(tmp_path: Path) -> None:
    """What is over before the first look needs no watch; all of it is sent in the end."""
    station = Mock(alone=False, attempts={})
    attempt = Mock(folder=WorkFolder(tmp_path), station=station, uplink=None)
    attempt.clock.now.return_value = 1000.0
    watchers = watch.Watchers(attempt)
    watchers.start()
    due = watchers.due
    assert due is not None
    assert 1000.0 < due < 1001.0
    watchers.look(1000.0)
    watchers.settle()
    watchers.look(due)
    station.watch.assert_not_called()


@pytest.mark.parametrize("later", [0.1, -3600.0])
def test_an_attempt_that_goes_on_is_followed(tmp_path: Path, later: float) -> None:
    """From the first look on, also when the clock was set back meanwhile."""
    station = Mock(alone=False, attempts={})
    attempt = Mock(folder=WorkFolder(tmp_path), station=station, uplink=None)
    attempt.clock.now.return_value = 1000.0
    watchers = watch.Watchers(attempt)
    watchers.start()
    watchers.look(1000.0 + later)
    watchers.look(1000.0 + later)
    station.watch.return_value.add.assert_called_once()

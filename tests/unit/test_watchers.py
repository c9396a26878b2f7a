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

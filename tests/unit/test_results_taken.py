"""Which results of a run go into its record."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from physicsrunner.runner.post.results import MOST, collect


@pytest.mark.parametrize(("count", "taken"), [(3, 1), (MOST + 1, 0)])
def test_results_that_no_report_can_carry_stay_in_their_file(
    tmp_path: Path, count: int, taken: int
) -> None:
    """The end of a run must arrive, whatever main.py calls its results."""
    text = json.dumps({"table": [0] * count})
    (tmp_path / "results.json").write_text(text)
    warned: list[str] = []
    attempt: Any = SimpleNamespace(
        folder=SimpleNamespace(outputs=tmp_path),
        log_file=SimpleNamespace(redact=str),
        warn=warned.append,
    )
    assert len(collect(attempt)) == taken
    assert len(warned) == 1 - taken
    assert (tmp_path / "results.json").read_text() == text

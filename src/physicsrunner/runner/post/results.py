"""
The run's results, from results.csv and results.json of outputs/.

A results.json is made where main.py left only the table; one that it wrote is never touched. Values
of secret variables stand as ``***`` in what is returned: it is shown to whoever may see the run.
Results of more values than a server takes in a report are left out of the record: with them the
report of the run's end would never be taken. The file has them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from physicsrunner.core.results import read_results
from physicsrunner.runner.context import Attempt
from physicsrunner.wire.codec import encode
from physicsrunner.wire.messages import Result
from physicsrunner.wire.reading import MOST_MARKS, marks

MOST: Final = MOST_MARKS // 2  #: marks of the results in a report, which says more besides


def collect(attempt: Attempt) -> tuple[Result, ...]:
    """Return what main.py calls its results; what cannot be read becomes a warning."""
    outputs = attempt.folder.outputs
    table, document = _text(f"{outputs}/results.csv"), _text(f"{outputs}/results.json")
    problems: list[str] = []
    redact = attempt.log_file.redact
    found = tuple(
        Result(
            redact(item.name),
            _shown(item.value, redact),
            item.type,
            None if item.unit is None else redact(item.unit),
        )
        for item in read_results(table, document, problems=problems)
    )
    for problem in problems:
        attempt.warn(problem)
    if found and document is None:
        _write(outputs / "results.json", found)
    if marks(json.dumps(encode(found)).encode()) > MOST:
        attempt.warn(
            "the results have too many values for the run's record: they are in the file alone"
        )
        return ()
    return found


def _shown(value: Any, redact: Callable[[str], str]) -> Any:
    """Return a JSON value with *redact* done to every text in it."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {redact(name): _shown(item, redact) for name, item in value.items()}
    if isinstance(value, list):
        return [_shown(item, redact) for item in value]
    return value


def _text(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            return file.read()
    except OSError:
        return None


def _write(path: Path, results: tuple[Result, ...]) -> None:
    document: dict[str, Any] = {
        result.name: ({"value": result.value, "unit": result.unit} if result.unit else result.value)
        for result in results
    }
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")

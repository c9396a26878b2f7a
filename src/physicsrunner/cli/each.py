"""
One request for each of several runs: ``cancel 7 9``, ``pause 17-116``.

Promises: what goes wrong for one run is said and does not keep the others from their turn; the
exit code is then that of the first mistake. A server that is not there ends it at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final

import click

from physicsrunner.cli.command import Invocation
from physicsrunner.cli.door import tell
from physicsrunner.errors import (
    NotAuthenticated,
    PhysicsRunnerError,
    ServerUnavailable,
    UsageError,
)

_MOST: Final = 10_000  # runs by one command
_RANGE: Final = re.compile(r"(\d{1,15})-(\d{1,15})")
#: The argument of all commands that take several runs.
runs_argument: Final = click.argument("runs", metavar="RUN...", nargs=-1, required=True)


def named(runs: Iterable[str]) -> list[str]:
    """
    Return each run once, with ranges of numbers spread out.

    Examples
    --------
    >>> named(["3", "5-7", "6", "0b0c8f4e-6f0a-4c39-a4f6-1a2f5a3c1d77"])
    ['3', '5', '6', '7', '0b0c8f4e-6f0a-4c39-a4f6-1a2f5a3c1d77']
    """
    found: dict[str, None] = {}
    for text in runs:
        match = _RANGE.fullmatch(text.strip())
        if match is None:
            found[text] = None
            continue
        first, last = int(match[1]), int(match[2])
        if not 0 <= last - first < _MOST:
            raise UsageError(f"{text}: a range goes up, and names at most {_MOST} runs")
        found.update(dict.fromkeys(str(number) for number in range(first, last + 1)))
    return list(found)


def each_run(
    call: Invocation,
    runs: Iterable[str],
    ask: Callable[[str], dict[str, Any]],
    told: Callable[[dict[str, Any]], str],
) -> int:
    """
    Ask for each run and tell what became of it; return the exit code.

    Parameters
    ----------
    ask
        Makes the request and returns the answer.
    told
        What the answer means, in a few words.
    """
    answers, code = [], 0
    for run in named(runs):
        try:
            answer = ask(run)
        except (ServerUnavailable, NotAuthenticated):
            raise
        except PhysicsRunnerError as error:
            answers.append({"run": run, "error": str(error), "code": error.code})
            failed = tell(error, as_json=call.as_json, debug=call.debug)
            code = code or failed
            continue
        answers.append(answer)
        if not call.as_json:
            call.screen.text(f"run {run}: {told(answer)}")
    if call.as_json:
        call.screen.document({"data": answers})
    return code

"""``physicsrunner retry``: run ended runs again."""

from __future__ import annotations

from typing import Any

from physicsrunner.cli.command import Invocation, make_command
from physicsrunner.cli.each import each_run, runs_argument


@make_command("retry")
@runs_argument
def command(call: Invocation, runs: tuple[str, ...]) -> int:
    """
    Queue a new run with all that each ended RUN was given.

    RUN is a number, an id, or a range of numbers such as 17-116. The old run stays as it is; the
    new one says which it repeats.
    """
    with call.client() as client:
        # One after the other: the new runs stand in the queue in the order in which they are made.
        return each_run(call, runs, client.retry, _told, at_once=1)


def _told(answer: dict[str, Any]) -> str:
    return f"again as run {answer['number']}, {answer['status']}"

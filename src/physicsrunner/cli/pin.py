"""``physicsrunner pin``: keep runs for ever."""

from __future__ import annotations

from typing import Any

from physicsrunner.cli.command import Invocation, make_command
from physicsrunner.cli.each import each_run, runs_argument


@make_command("pin")
@runs_argument
def command(call: Invocation, runs: tuple[str, ...]) -> int:
    """
    Keep runs and their files: nobody and no retention deletes them until they are unpinned.

    RUN is a number, an id, or a range of numbers such as 17-116.
    """
    with call.client() as client:
        return each_run(call, runs, client.pin, _told)


def _told(_answer: dict[str, Any]) -> str:
    return "pinned"

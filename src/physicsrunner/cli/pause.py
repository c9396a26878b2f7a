"""``physicsrunner pause``: hold runs that wait, stop programs where they are."""

from __future__ import annotations

from typing import Any

from physicsrunner.cli.command import Invocation, make_command
from physicsrunner.cli.each import each_run, runs_argument


@make_command("pause")
@runs_argument
def command(call: Invocation, runs: tuple[str, ...]) -> int:
    """
    Hold runs that wait; stop running programs where they are.

    RUN is a number, an id, or a range of numbers such as 17-116. A program is stopped by SIGSTOP:
    it keeps its memory, and the clock of its time limit stands still. `physicsrunner resume` lets
    it go on.
    """
    with call.client() as client:
        return each_run(call, runs, client.pause, _told)


def _told(answer: dict[str, Any]) -> str:
    if answer.get("held"):
        return "held: it is not handed out until it is resumed"
    return "paused" if answer["status"] == "paused" else "asked to pause"

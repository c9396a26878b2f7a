"""``physicsrunner resume``: let paused and held runs go on."""

from __future__ import annotations

from typing import Any

from physicsrunner.cli.command import Invocation, make_command
from physicsrunner.cli.each import each_run, runs_argument


@make_command("resume")
@runs_argument
def command(call: Invocation, runs: tuple[str, ...]) -> int:
    """
    Let paused programs go on where they were, and held runs be handed out.

    RUN is a number, an id, or a range of numbers such as 17-116.
    """
    with call.client() as client:
        return each_run(call, runs, client.resume, _told)


def _told(answer: dict[str, Any]) -> str:
    status = str(answer["status"])
    return "asked to go on" if status == "paused" else status

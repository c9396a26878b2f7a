"""``physicsrunner unpin``: keep runs no longer."""

from __future__ import annotations

from typing import Any

from physicsrunner.cli.command import Invocation, make_command
from physicsrunner.cli.each import each_run, runs_argument


@make_command("unpin")
@runs_argument
def command(call: Invocation, runs: tuple[str, ...]) -> int:
    """
    Let pinned runs be deleted again.

    RUN is a number, an id, or a range of numbers such as 17-116.
    """
    with call.client() as client:
        return each_run(call, runs, client.unpin, _told)


def _told(_answer: dict[str, Any]) -> str:
    return "pinned no longer"

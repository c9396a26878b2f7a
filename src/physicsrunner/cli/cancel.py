"""``physicsrunner cancel``: ask runs to stop."""

from __future__ import annotations

from typing import Any

import click

from physicsrunner.cli.command import Invocation, make_command
from physicsrunner.cli.each import each_run, runs_argument

_ENDED = ("completed", "failed", "timeout")


@make_command("cancel")
@runs_argument
@click.option("-w", "--wait", is_flag=True, help="Wait until they have stopped.")
@click.option(
    "--force", is_flag=True, help="Where the agent cannot be reached: count it as stopped at once."
)
def command(call: Invocation, runs: tuple[str, ...], wait: bool, force: bool) -> int:
    """
    Ask runs to stop. RUN is a number, an id, or a range of numbers such as 17-116.

    main.py sees a stop file first, then SIGTERM, then SIGKILL; what it wrote is kept. The state is
    `cancelled` when the program has really stopped.
    """
    with call.client() as client:

        def ask(run: str) -> dict[str, Any]:
            answer = client.cancel(run, force=force)
            if wait:
                ended = client.wait(answer["id"])
                answer = {name: ended[name] for name in answer if name in ended}
            return answer

        return each_run(call, runs, ask, _told)


def _told(answer: dict[str, Any]) -> str:
    status = answer["status"]
    if status == "cancelled":
        return "cancelled"
    if status in _ENDED:
        return f"had ended before: {status}"
    if answer.get("unreachable"):
        return "asked to stop, and its agent cannot be reached; --force counts it as stopped"
    return "asked to stop"

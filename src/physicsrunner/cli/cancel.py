"""``physicsrunner cancel``: ask runs to stop."""

from __future__ import annotations

import click

from physicsrunner.cli.command import Invocation, make_command


@make_command("cancel")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option("-w", "--wait", is_flag=True, help="Wait until they have stopped.")
def command(call: Invocation, runs: tuple[str, ...], wait: bool) -> None:
    """
    Ask runs to stop.

    main.py sees a stop file first, then SIGTERM, then SIGKILL; what it wrote is kept. The state is
    `cancelled` when the program has really stopped.
    """
    answers = []
    with call.client() as client:
        for run in runs:
            answer = client.cancel(run)
            if wait:
                ended = client.wait(answer["id"])
                answer = {key: ended.get(key) for key in ("id", "status", "cancel_requested")}
            answers.append(answer)
            if not call.as_json:
                told = "asked to stop" if answer["status"] != "cancelled" else "cancelled"
                if answer["status"] in ("completed", "failed", "timeout"):
                    told = f"had ended before: {answer['status']}"
                call.screen.text(f"run {run}: {told}")
    if call.as_json:
        call.screen.document({"data": answers})

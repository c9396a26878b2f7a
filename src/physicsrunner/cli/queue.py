"""``physicsrunner queue``: what waits, for what, and who works."""

from __future__ import annotations

from collections import Counter
from typing import Any

from physicsrunner.cli.command import Invocation, make_command
from physicsrunner.cli.tables import Column, count, seconds
from physicsrunner.core.run import PRIORITIES
from physicsrunner.core.state import TERMINAL, RunState

_WAITING = (
    Column("RUN", right=True),
    Column("PRIORITY", spare=True),
    Column("NAME", shrink=True),
    Column("WAITS", right=True, spare=True),
    Column("WHY", shrink=True),
)


@make_command("queue")
def command(call: Invocation) -> None:
    """
    Show how the queue stands: how many runs are in which state, what waits longest and why.

    `physicsrunner list --status queued` lists all that wait.
    """
    with call.client() as client:
        answer = client.queue()
    if call.as_json:
        call.screen.document(answer)
        return
    call.screen.text(_counted(answer["counts"]))
    if answer.get("max_concurrent_runs") is not None:
        call.screen.text(f"at most {count(answer['max_concurrent_runs'], 'run')} at once")
    call.screen.text(_agents(answer["agents"]))
    waiting = answer["next"]
    if waiting:
        call.screen.text()
        call.screen.table(_WAITING, [_row(run) for run in waiting])
        hidden = answer["waiting"] - len(waiting)
        if hidden > 0:
            call.screen.note(f"{hidden} more wait behind them")


def _counted(counts: dict[str, int]) -> str:
    """Return how many runs are in which state: those that are on their way, then the others."""
    order = [state for state in RunState if state not in TERMINAL]
    order += [state for state in RunState if state in TERMINAL]
    told = [f"{counts[state]} {state.value}" for state in order if counts.get(state)]
    return ", ".join(told) or "no runs"


def _agents(agents: list[dict[str, Any]]) -> str:
    if not agents:
        return "no agents; `physicsrunner agent` starts one"
    states = Counter(str(agent["state"]) for agent in agents)
    busy = sum(agent["active"] for agent in agents)
    slots = sum(agent["slots"] for agent in agents)
    told = ", ".join(f"{number} {state}" for state, number in states.most_common())
    # Not "of": what only waits for its files to arrive takes no slot.
    return f"{count(len(agents), 'agent')} ({told}), {count(busy, 'run')} at {count(slots, 'slot')}"


def _row(run: dict[str, Any]) -> list[str]:
    words = {number: word for word, number in PRIORITIES.items()}
    return [
        str(run["number"]),
        words.get(run["priority"], str(run["priority"])),
        run.get("name", ""),
        seconds(run["waits_s"]),
        str(run["reason"]).removeprefix("waiting: "),
    ]

"""``physicsrunner queue``: what waits, for what, and who works."""

from __future__ import annotations

import time
from typing import Any

from physicsrunner.cli.command import Invocation, make_command
from physicsrunner.cli.list import state_words
from physicsrunner.cli.tables import Column, ago, count, printable
from physicsrunner.core.state import TERMINAL, RunState

_WAITING = (
    Column("RUN", right=True),
    Column("STATE"),
    Column("NAME", shrink=True),
    Column("WAITS", spare=True),
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
    counts = answer.get("counts") or {}
    call.screen.text(_counted(counts))
    limit = answer.get("max_concurrent_runs")
    if limit is not None:
        call.screen.text(f"at most {count(limit, 'run')} at once")
    call.screen.text(_agents(answer.get("agents") or {}))
    waiting = answer.get("waiting") or []
    if waiting:
        call.screen.text()
        call.screen.table(_WAITING, [_row(run, time.time()) for run in waiting])
        hidden = sum(counts.get(state, 0) for state in ("queued", "retrying")) - len(waiting)
        if hidden > 0:
            call.screen.note(f"{hidden} more wait behind them")


def _counted(counts: dict[str, int]) -> str:
    """Return how many runs are in which state: those that are on their way, then the others."""
    order = [state for state in RunState if state not in TERMINAL]
    order += [state for state in RunState if state in TERMINAL]
    told = [f"{counts[state]} {state.value}" for state in order if counts.get(state)]
    return ", ".join(told) or "no runs"


def _agents(agents: dict[str, Any]) -> str:
    if not agents.get("known"):
        return "no agents; `physicsrunner agent` starts one"
    told = [f"{number} {word}" for word, number in agents.items() if word != "known" and number]
    return f"{count(agents['known'], 'agent')}: {', '.join(told)}"


def _row(run: dict[str, Any], now: float) -> list[str]:
    why = str(run.get("reason") or "").removeprefix("waiting: ")
    return [
        str(run["number"]),
        state_words(run),
        run.get("name", ""),
        ago(run.get("created_at"), now).removesuffix(" ago"),
        printable(why),
    ]

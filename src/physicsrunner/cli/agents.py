"""`physicsrunner agents`: the machines that carry out runs."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from physicsrunner.cli.command import Invocation, make_command
from physicsrunner.cli.tables import Column, ago
from physicsrunner.errors import UsageError

if TYPE_CHECKING:
    from physicsrunner.client.client import Client

_COLUMNS: Final = (
    Column("AGENT", shrink=True),
    Column("STATE"),
    Column("RUNS", right=True),
    Column("SLOTS", right=True),
    Column("CORES", right=True),
    Column("MEMORY", right=True, spare=True),
    Column("GPUS", right=True, spare=True),
    Column("SEEN"),
    Column("LABELS", shrink=True, spare=True),
    Column("WHY", shrink=True),
)
_ACTIONS: Final = ("list", "enroll", "drain", "resume", "remove")


@make_command("agents")
@click.argument("action", type=click.Choice(_ACTIONS), default="list")
@click.argument("name", required=False)
@click.option("--force", is_flag=True, help="With remove: also one that still holds runs.")
def command(call: Invocation, action: str, name: str | None, force: bool) -> None:
    """
    List the agents; enroll, drain, resume or remove one.

    \b
    physicsrunner agents                list them
    physicsrunner agents enroll [NAME]  make a one-time token for a new one
    physicsrunner agents drain NAME     no more work; it finishes what it has
    physicsrunner agents resume NAME    work again, drained or paused
    physicsrunner agents remove NAME    forget it and refuse its token
    """
    if name is None and action not in ("list", "enroll"):
        raise UsageError(f"which agent? physicsrunner agents {action} NAME")
    with call.client() as client:
        if action == "list":
            _list(call, client, name)
        elif action == "enroll":
            _enroll(call, client, name)
        else:
            _change(call, client, action, name or "", force)


def _list(call: Invocation, client: Client, name: str | None) -> None:
    agents = client.agents() if name is None else [client.agent(name)]
    if call.as_json:
        call.screen.document({"data": agents})
        return
    if not agents:
        call.screen.note("no agents; `physicsrunner agents enroll` makes a token for one")
        return
    now = time.time()
    call.screen.table(_COLUMNS, [_row(agent, now) for agent in agents])


def _row(agent: Mapping[str, Any], now: float) -> list[str]:
    has = agent.get("resources") or {}
    return [
        str(agent.get("name", "")),
        str(agent.get("state", "")),
        str(agent.get("active", "")),
        str(agent.get("slots", "")),
        _amount(has.get("cpu_cores")),
        f"{_amount(has.get('memory_gb'))} GB" if has.get("memory_gb") else "",
        _amount(has.get("gpu_count")),
        ago(agent.get("last_seen"), now),
        ",".join(agent.get("labels") or []),
        str(agent.get("reason") or ""),
    ]


def _amount(value: object) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else ""


def _enroll(call: Invocation, client: Client, name: str | None) -> None:
    made = client.enroll_token(name)
    if call.as_json:
        call.screen.document(made)
        return
    call.screen.text(str(made["token"]))
    called = f" --name {shlex.quote(name)}" if name else ""
    call.screen.note(
        "for one agent, once, within the hour; on its machine:\n"
        f"  physicsrunner agent --server {client.url}{called} --enroll-token TOKEN"
    )


def _change(call: Invocation, client: Client, action: str, name: str, force: bool) -> None:
    if action == "remove":
        answer = client.remove_agent(name, force=force)
    elif action == "drain":
        answer = client.drain_agent(name)
    else:
        answer = client.resume_agent(name)
    if call.as_json:
        call.screen.document(answer)
        return
    told = {
        "drain": "is given no more work; it finishes what it has",
        "resume": "is given work again",
        "remove": "is removed, and its token is refused",
    }[action]
    call.screen.text(f"{name} {told}")

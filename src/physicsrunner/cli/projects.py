"""``physicsrunner projects``: projects and their members."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from physicsrunner.cli.command import Invocation, make_command
from physicsrunner.cli.tables import Column
from physicsrunner.core.permissions import ROLES
from physicsrunner.errors import UsageError

if TYPE_CHECKING:
    from physicsrunner.client.client import Client

_COLUMNS: Final = (
    Column("PROJECT", shrink=True),
    Column("NAME", shrink=True),
    Column("MY ROLE"),
    Column("AT ONCE", right=True),
    Column("BY", shrink=True, spare=True),
)
_MEMBERS: Final = (Column("MEMBER", shrink=True), Column("ROLE"))
_ACTIONS: Final = ("list", "add", "change", "members", "join", "leave")


@make_command("projects")
@click.argument("action", type=click.Choice(_ACTIONS), default="list")
@click.argument("project", required=False)
@click.argument("user", required=False)
@click.option("--role", type=click.Choice(ROLES), default="user", show_default=True)
@click.option("--title", help="What people call it.")
@click.option(
    "--max-concurrent-runs",
    type=click.IntRange(0),
    help="Runs of it at the same time; 0: any number.",
)
def command(
    call: Invocation,
    action: str,
    project: str | None,
    user: str | None,
    role: str,
    title: str | None,
    max_concurrent_runs: int | None,
) -> None:
    """
    List the projects; make or change one; its members.

    \b
    physicsrunner projects                            list them
    physicsrunner projects add ID                     make one; you are its admin
    physicsrunner projects change ID                  --title, --max-concurrent-runs
    physicsrunner projects members ID                 who may work in it
    physicsrunner projects join ID USER --role user   make somebody a member
    physicsrunner projects leave ID USER              take somebody out
    """
    if action != "list" and project is None:
        raise UsageError(f"which project? physicsrunner projects {action} ID")
    if action in ("join", "leave") and user is None:
        raise UsageError(f"who? physicsrunner projects {action} {project} USER")
    with call.client() as client:
        if action == "list":
            _list(call, client)
            return
        if action == "members":
            _members(call, client, project or "")
            return
        answer, told = _carried_out(
            client, action, project or "", user or "", role, title, max_concurrent_runs
        )
    if call.as_json:
        call.screen.document(answer)
    else:
        call.screen.text(told)


def _list(call: Invocation, client: Client) -> None:
    projects = client.projects()
    if call.as_json:
        call.screen.document({"data": projects})
    elif not projects:
        call.screen.note("no projects; `physicsrunner projects add ID` makes one")
    else:
        call.screen.table(_COLUMNS, [_row(item) for item in projects])


def _row(project: dict[str, Any]) -> list[str]:
    names = ("id", "name", "role", "max_concurrent_runs", "created_by")
    return [str(project.get(name) or "") for name in names]


def _members(call: Invocation, client: Client, project: str) -> None:
    members = client.members(project)
    if call.as_json:
        call.screen.document({"data": members})
    else:
        call.screen.table(_MEMBERS, [[item["user"], item["role"]] for item in members])


def _carried_out(
    client: Client,
    action: str,
    project: str,
    user: str,
    role: str,
    title: str | None,
    cap: int | None,
) -> tuple[dict[str, Any], str]:
    """Carry out a change; return the server's answer and what is to be said."""
    if action == "join":
        return client.set_member(project, user, role), f"{user} is {role} in {project}"
    if action == "leave":
        return client.remove_member(project, user), f"{user} is no longer in {project}"
    if action == "add":
        made = client.add_project(project, name=title, max_concurrent_runs=cap or None)
        return made, f"{project} made; you are its admin"
    changes: dict[str, Any] = {} if title is None else {"name": title}
    if cap is not None:
        changes["max_concurrent_runs"] = cap or None
    if not changes:
        raise UsageError("change what? --title or --max-concurrent-runs")
    return client.change_project(project, **changes), f"{project} changed"

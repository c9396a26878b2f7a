"""``physicsrunner users``: the people of a server."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from physicsrunner.cli.command import Invocation, make_command
from physicsrunner.cli.tables import Column, ago
from physicsrunner.core.permissions import ROLES
from physicsrunner.errors import UsageError

if TYPE_CHECKING:
    from physicsrunner.client.client import Client

_COLUMNS: Final = (
    Column("USER", shrink=True),
    Column("ROLE"),
    Column("STATE"),
    Column("LOGGED IN"),
    Column("MADE", spare=True),
)
_ACTIONS: Final = ("list", "add", "passwd", "role", "disable", "enable", "unlock")


@make_command("users")
@click.argument("action", type=click.Choice(_ACTIONS), default="list")
@click.argument("name", required=False)
@click.option("--role", type=click.Choice([*ROLES, "none"]), help="For the whole server.")
@click.option("--no-password", is_flag=True, help="add: logs in by token alone.")
def command(
    call: Invocation, action: str, name: str | None, role: str | None, no_password: bool
) -> None:
    """
    List the people; make or change one.

    \b
    physicsrunner users                        list them
    physicsrunner users add NAME [--role R]    make one; asks for a password
    physicsrunner users passwd NAME            set a password
    physicsrunner users role NAME --role R     change the role; none: by projects alone
    physicsrunner users disable NAME           refuse all their tokens at once
    physicsrunner users enable NAME            let them in again
    physicsrunner users unlock NAME            lift a lock-out
    """
    if action != "list" and name is None:
        raise UsageError(f"which user? physicsrunner users {action} NAME")
    if action == "role" and role is None:
        raise UsageError("which role? --role viewer, user, operator, admin or none")
    with call.client() as client:
        if action == "list":
            _list(call, client)
        else:
            _change(call, client, action, name or "", role, no_password)


def _list(call: Invocation, client: Client) -> None:
    users = client.users()
    if call.as_json:
        call.screen.document({"data": users})
        return
    now = time.time()
    call.screen.table(_COLUMNS, [_row(user, now) for user in users])


def _row(user: Mapping[str, Any], now: float) -> list[str]:
    state = "disabled" if user.get("disabled") else "locked out" if user.get("locked") else ""
    return [
        str(user["name"]),
        str(user.get("role") or "by projects"),
        state or ("" if user.get("has_password") else "by token alone"),
        ago(user.get("last_login"), now),
        ago(user.get("created_at"), now),
    ]


def _change(
    call: Invocation,
    client: Client,
    action: str,
    name: str,
    role: str | None,
    no_password: bool,
) -> None:
    wide = None if role == "none" else role
    if action == "add":
        secret = None if no_password else password(f"password of {name}", twice=True)
        answer = client.add_user(name, role=wide, password=secret)
    elif action == "passwd":
        mine = client.whoami().get("subject") == name and not no_password
        old = password("old password") if mine and sys.stdin.isatty() else None
        client.set_password(name, password(f"new password of {name}", twice=True), old=old)
        answer = {"name": name}
    elif action == "role":
        answer = client.change_user(name, role=wide)
    elif action == "unlock":
        answer = client.change_user(name, unlock=True)
    else:
        answer = client.change_user(name, disabled=action == "disable")
    if call.as_json:
        call.screen.document(answer)
        return
    told = {
        "add": f"made, with {'no role but what projects give' if wide is None else f'role {wide}'}",
        "passwd": "has a new password; other logins have ended",
        "role": f"has {'no role but what projects give' if wide is None else f'role {wide}'}",
        "disable": "is disabled; all tokens are refused",
        "enable": "is let in again",
        "unlock": "is no longer locked out",
    }[action]
    call.screen.text(f"{name} {told}")


def password(what: str, *, twice: bool = False) -> str:
    """Ask for a password without showing it; without a terminal it is standard input's line."""
    if sys.stdin.isatty():
        return str(click.prompt(what, hide_input=True, confirmation_prompt=twice, err=True))
    line = sys.stdin.readline().rstrip("\r\n")
    if not line:
        raise UsageError(f"there is no {what} on standard input")
    return line

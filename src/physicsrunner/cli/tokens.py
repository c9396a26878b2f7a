"""``physicsrunner tokens``: tokens of people."""

from __future__ import annotations

import datetime as dt
import time
from typing import TYPE_CHECKING, Any, Final

import click

from physicsrunner.cli.command import Amount, Invocation, make_command
from physicsrunner.cli.tables import Column, ago
from physicsrunner.errors import UsageError

if TYPE_CHECKING:
    from physicsrunner.client.client import Client

_COLUMNS: Final = (
    Column("ID"),
    Column("NAME", shrink=True),
    Column("OF", shrink=True),
    Column("MAY", shrink=True),
    Column("EXPIRES"),
    Column("USED"),
    Column("FROM", spare=True),
)
_ACTIONS: Final = ("list", "make", "revoke")
_DAY_S: Final = 86_400.0


@make_command("tokens")
@click.argument("action", type=click.Choice(_ACTIONS), default="list")
@click.argument("name", required=False)
@click.option("--user", help="Of somebody else (admin).")
@click.option("--scope", "scopes", multiple=True, help="Confine it to this permission; repeatable.")
@click.option("--project", help="Confine it to this project.")
@click.option("--days", type=Amount(0, 3650, min_open=True), help="It expires then.")
def command(
    call: Invocation,
    action: str,
    name: str | None,
    user: str | None,
    scopes: tuple[str, ...],
    project: str | None,
    days: float | None,
) -> None:
    """
    List your tokens; make or revoke one.

    \b
    physicsrunner tokens                 list them, with their last use
    physicsrunner tokens make NAME       make one; it is shown once
    physicsrunner tokens revoke ID       refuse it from now on
    """
    if action != "list" and not name:
        what = "what is it for? physicsrunner tokens make NAME"
        raise UsageError(what if action == "make" else "which? physicsrunner tokens revoke ID")
    with call.client() as client:
        if action == "list":
            _list(call, client, user)
        elif action == "revoke":
            client.revoke_token(name or "")
            if call.as_json:
                call.screen.document({"id": name, "revoked": True})
            else:
                call.screen.text(f"{name} is refused from now on")
        else:
            made = client.make_token(
                name or "",
                user=user,
                scopes=list(scopes) or None,
                project=project,
                lifetime_s=None if days is None else days * _DAY_S,
            )
            call.screen.document(made) if call.as_json else call.screen.text(str(made["token"]))


def _list(call: Invocation, client: Client, user: str | None) -> None:
    tokens = client.tokens(user)
    if call.as_json:
        call.screen.document({"data": tokens})
        return
    now = time.time()
    call.screen.table(_COLUMNS, [_row(token, now) for token in tokens])


def _row(token: dict[str, Any], now: float) -> list[str]:
    may = ",".join(token.get("scopes") or ()) or ("all" if token["kind"] == "user" else "")
    if token.get("project_id"):
        may = f"{may} in {token['project_id']}".strip()
    expires = token.get("expires_at")
    day = "" if expires is None else dt.datetime.fromtimestamp(expires).astimezone().isoformat(" ")
    return [
        token["id"],
        token["name"] if token["kind"] == "user" else f"{token['name']} ({token['kind']})",
        token["subject"],
        may,
        day[:16] or "never",
        ago(token.get("last_used_at"), now) or "never",
        token.get("last_used_from") or "",
    ]

"""``physicsrunner webhooks``: where a server sends its events."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import click

from physicsrunner.cli.command import Invocation, make_command
from physicsrunner.cli.tables import Column, ago
from physicsrunner.errors import NotTaken, UsageError

if TYPE_CHECKING:
    from physicsrunner.client.events import Webhooks

_COLUMNS: Final = (
    Column("ID"),
    Column("URL", shrink=True),
    Column("TYPES", shrink=True),
    Column("PROJECT", spare=True),
    Column("STATE"),
    Column("UP TO", right=True),
    Column("LAST ERROR", shrink=True, spare=True),
)
_DEAD: Final = (
    Column("LETTER", right=True),
    Column("EVENT", right=True),
    Column("TYPE", shrink=True),
    Column("TRIES", right=True),
    Column("WHEN"),
    Column("ERROR", shrink=True),
)
_ACTIONS: Final = ("list", "add", "remove", "test", "dead", "pause", "resume")


@make_command("webhooks")
@click.argument("action", type=click.Choice(_ACTIONS), default="list")
@click.argument("what", metavar="[URL|ID]", required=False)
@click.option("-t", "--type", "types", multiple=True, help="add: types such as 'simulation/*'.")
@click.option("--project", help="add: only what concerns this project.")
@click.option("--secret", help="add: the secret that signs; default: one is made.")
@click.option("--send", is_flag=True, help="dead: send all dead letters again.")
def command(
    call: Invocation,
    action: str,
    what: str | None,
    types: tuple[str, ...],
    project: str | None,
    secret: str | None,
    send: bool,
) -> None:
    """
    Have events sent to addresses by HTTP; list, try and remove them.

    \b
    physicsrunner webhooks                    list them
    physicsrunner webhooks add URL            make one; prints the secret, once
    physicsrunner webhooks test ID            send a test event now
    physicsrunner webhooks dead ID [--send]   what was not taken
    physicsrunner webhooks pause|resume ID    send nothing for a while
    physicsrunner webhooks remove ID
    """
    from physicsrunner.client.events import Webhooks

    if what is None and action != "list":
        raise UsageError(f"physicsrunner webhooks {action} {'URL' if action == 'add' else 'ID'}")
    with call.client() as client:
        hooks = Webhooks(client)
        if action == "list":
            _list(call, hooks)
        elif action == "add":
            _add(call, hooks, what or "", types, project, secret)
        elif action == "test":
            _test(call, hooks, what or "")
        elif action == "dead":
            _dead(call, hooks, what or "", send)
        elif action == "remove":
            hooks.remove(what or "")
            _tell(call, {"id": what}, f"{what} is removed")
        else:
            changed = hooks.change(what or "", active=action == "resume")
            _tell(call, changed, f"{what} is {'active' if changed['active'] else 'paused'}")


def _tell(call: Invocation, document: Any, text: str) -> None:
    if call.as_json:
        call.screen.document(document)
    else:
        call.screen.text(text)


def _list(call: Invocation, hooks: Webhooks) -> None:
    found = hooks.list()
    if call.as_json:
        call.screen.document({"data": found})
    elif not found:
        call.screen.note("no webhooks; `physicsrunner webhooks add URL` makes one")
    else:
        call.screen.table(_COLUMNS, [_row(hook) for hook in found])


def _row(hook: dict[str, Any]) -> list[str]:
    failures = hook.get("failures") or 0
    state = "active" if hook.get("active") else "paused"
    return [
        str(hook["id"]),
        str(hook["url"]),
        ",".join(hook.get("types") or []) or "all",
        str(hook.get("project_id") or ""),
        f"failing ({failures})" if failures and hook.get("active") else state,
        str(hook.get("cursor", "")),
        str(hook.get("last_error") or ""),
    ]


def _add(
    call: Invocation,
    hooks: Webhooks,
    url: str,
    types: tuple[str, ...],
    project: str | None,
    secret: str | None,
) -> None:
    made = hooks.add(url, types=list(types) or None, project_id=project, secret=secret)
    if call.as_json:
        call.screen.document(made)
        return
    call.screen.text(str(made["id"]))
    call.screen.note(f"secret: {made['secret']}\nit is not shown again; it signs the requests")


def _test(call: Invocation, hooks: Webhooks, webhook: str) -> None:
    outcome = hooks.test(webhook)
    if not outcome["taken"]:
        raise NotTaken(str(outcome["error"]))
    _tell(call, outcome, f"taken: {outcome['status']}, {outcome['seconds']:.2f} s")


def _dead(call: Invocation, hooks: Webhooks, webhook: str, send: bool) -> None:
    letters: list[dict[str, Any]] = []
    while page := hooks.dead(webhook, letters[-1]["id"] if letters else 0):
        letters += page
    if not send:
        _show_dead(call, letters)
        return
    outcomes = [{**letter, **hooks.send_again(webhook, letter["id"])} for letter in letters]
    missed = [item for item in outcomes if not item["taken"]]
    _tell(call, {"data": outcomes}, f"{len(outcomes) - len(missed)} of {len(outcomes)} were taken")
    if missed:
        raise NotTaken(str(missed[0]["error"]))


def _show_dead(call: Invocation, letters: list[dict[str, Any]]) -> None:
    if call.as_json:
        call.screen.document({"data": letters})
        return
    if not letters:
        call.screen.note("no dead letters")
        return
    now = time.time()
    rows = [
        [
            str(letter["id"]),
            str(letter["event"]),
            str(letter.get("type") or "(gone)"),
            str(letter["tries"]),
            ago(letter["time"], now),
            str(letter["error"]),
        ]
        for letter in letters
    ]
    call.screen.table(_DEAD, rows)

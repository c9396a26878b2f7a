"""``physicsrunner audit``: every change with who, what, from where and when."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from physicsrunner.cli.command import Invocation, make_command
from physicsrunner.cli.tables import Column

if TYPE_CHECKING:
    from physicsrunner.client.client import Client

_COLUMNS: Final = (
    Column("ID", right=True),
    Column("WHEN"),
    Column("WHO", shrink=True),
    Column("FROM"),
    Column("WHAT"),
    Column("OF", shrink=True),
)
_PAGE: Final = 1000


@make_command("audit")
@click.option("--actor", help="What one person did; an agent is agent:NAME.")
@click.option("--type", "kind", help="Such as token/revoked, or token/*.")
@click.option("--after", default=0, type=click.IntRange(0), help="Entries behind this id.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1))
@click.option("--all", "everything", is_flag=True, help="All of them, whatever --limit says.")
def command(
    call: Invocation,
    actor: str | None,
    kind: str | None,
    after: int,
    limit: int,
    everything: bool,
) -> None:
    """Show the audit in the order of the log; --json writes one entry a line."""
    with call.client() as client:
        entries = _entries(client, actor, kind, after, None if everything else limit)
        if call.as_json:
            for entry in entries:
                call.screen.raw(json.dumps(entry) + "\n")
            return
        call.screen.table(_COLUMNS, [_row(entry) for entry in entries])


def _entries(
    client: Client, actor: str | None, kind: str | None, after: int, limit: int | None
) -> Iterator[dict[str, Any]]:
    left = limit
    while left is None or left > 0:
        size = _PAGE if left is None else min(left, _PAGE)
        page = client.audit(after=after, actor=actor, kind=kind, limit=size)
        yield from page
        if len(page) < size:
            return
        after = page[-1]["id"]
        left = None if left is None else left - len(page)


def _row(entry: dict[str, Any]) -> list[str]:
    when = dt.datetime.fromtimestamp(entry["time"]).astimezone().isoformat(" ", "seconds")
    data = entry.get("data") or {}
    of = entry.get("run") or data.get("user") or data.get("subject") or entry.get("project") or ""
    return [
        str(entry["id"]),
        when[:19],
        entry.get("actor") or "the server",
        entry.get("origin") or "",
        entry["type"],
        str(of),
    ]

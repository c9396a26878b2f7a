"""``physicsrunner events``: the log of a server."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import click

from physicsrunner.cli.command import Invocation, make_command

if TYPE_CHECKING:
    from physicsrunner.wire.live import Event

_LAST: Final = 100  # ids


@make_command("events")
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens, until Ctrl-C.")
@click.option("-r", "--run", help="Only of this run: its number or id.")
@click.option("--project", help="Only of this project.")
@click.option(
    "-t", "--type", "types", multiple=True, help="Only of this type, such as 'simulation/*'."
)
@click.option("--after", type=click.IntRange(0), help="Only behind this event's id; 0: from first.")
def command(
    call: Invocation,
    follow: bool,
    run: str | None,
    project: str | None,
    types: tuple[str, ...],
    after: int | None,
) -> None:
    """
    List the logged events, the oldest first.

    Without --after: those of --run, or else the latest. With --json each event is a line of its
    own; its id is the --after with which to go on.
    """
    from physicsrunner.client.events import EventLog

    with call.client() as client:
        log = EventLog(client, after=after or 0, run=run, project=project, types=types)
        if after is None and run is None:
            log.next = max(0, log.newest() - _LAST)
        _show(call, log.follow() if follow else log.rest())


def _show(call: Invocation, events: Iterable[Event]) -> None:
    some = False
    for event in events:
        some = True
        if call.as_json:
            call.screen.line(event.envelope())
        else:
            call.screen.text(_line(event))
    if not some and not call.as_json:
        call.screen.note("no events")


def _line(event: Event) -> str:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.time))
    number = event.data.get("number")
    of = f"run {number}" if number is not None else event.run or event.data.get("agent") or ""
    words = [f"{event.id or '':>8}", when, f"{event.type:<28}", str(of)]
    if event.attempt is not None and event.attempt > 1:
        words.append(f"try {event.attempt}")
    said = [event.data.get(name) for name in ("agent", "error_message", "reason")]
    words += [str(text) for text in said if text is not None and str(text) != str(of)]
    return "  ".join(words).rstrip()

"""``physicsrunner series``: the live series of a run, as an overview or point by point."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import click

from physicsrunner.cli.command import Invocation, make_command
from physicsrunner.cli.tables import Column, number
from physicsrunner.errors import NotFound

if TYPE_CHECKING:
    from physicsrunner.client.client import Client


@make_command("series")
@click.argument("run")
@click.argument("names", nargs=-1, metavar="[NAME]...")
def command(call: Invocation, run: str, names: tuple[str, ...]) -> None:
    """
    Show the series of RUN: residuals, temperatures, whatever it tells while it goes on.

    Without NAME one line a series; with names, or patterns such as 'residual/*', their points.
    With --json always the points.
    """
    with call.client() as client:
        points = [point for point in _points(client, run) if _wanted(point, names)]
    if names and not points:
        raise NotFound(f"run {run} has no series {' or '.join(names)}")
    if call.as_json:
        call.screen.document({"data": points, "total": len(points)})
    elif names:
        _list_points(call, points)
    elif points:
        _list_series(call, points)
    else:
        call.screen.note("no series")


def _points(client: Client, run: str) -> Iterator[dict[str, Any]]:
    line = 0
    while True:
        points, following = client.series(run, line)
        yield from points
        if following <= line:
            return
        line = following


def _wanted(point: dict[str, Any], names: Iterable[str]) -> bool:
    name = point["series"]
    return not names or any(name == wanted or fnmatchcase(name, wanted) for wanted in names)


def _list_series(call: Invocation, points: Iterable[dict[str, Any]]) -> None:
    last: dict[str, dict[str, Any]] = {}
    counts: dict[str, int] = {}
    for point in points:
        name = point["series"]
        last[name] = point
        counts[name] = counts.get(name, 0) + 1
    columns = [
        Column("SERIES", shrink=True),
        Column("POINTS", right=True),
        Column("LAST", right=True),
        Column("UNIT"),
        Column("AT"),
    ]
    rows = [
        [name, str(counts[name]), number(point["y"]), point.get("unit") or "", _place(point)]
        for name, point in last.items()
    ]
    call.screen.table(columns, rows)


def _list_points(call: Invocation, points: Iterable[dict[str, Any]]) -> None:
    columns = [Column("SERIES", shrink=True), Column("AT"), Column("VALUE"), Column("UNIT")]
    rows = [
        [point["series"], _place(point), number(point["y"]), point.get("unit") or ""]
        for point in points
    ]
    call.screen.table(columns, rows)


def _place(point: dict[str, Any]) -> str:
    return f"{point.get('x_name') or 'x'} {number(point['x'])}"

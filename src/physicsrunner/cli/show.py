"""``physicsrunner show``: one run, as it stands or live."""

from __future__ import annotations

import time
from typing import Any

import click

from physicsrunner.cli.command import Invocation, make_command
from physicsrunner.cli.list import duration, state_words
from physicsrunner.cli.tables import Column, ago, number, seconds


@make_command("show")
@click.argument("run")
@click.option("-f", "--follow", is_flag=True, help="Stay and show it live, until it has ended.")
def command(call: Invocation, run: str, follow: bool) -> int:
    """
    Show one run: where it stands, its parameters and its results.

    RUN is its number or its id. With --follow the exit code is the run's.
    """
    with call.client() as client:
        document = client.get(run)
        if follow:
            from physicsrunner.cli.follow import exit_code, follow_run

            document = follow_run(call, client, document)
            show(call, document)
            return exit_code(document)
        show(call, document)
        return 0


def show(call: Invocation, run: dict[str, Any]) -> None:
    """Write a run document for a person, or as JSON."""
    screen = call.screen
    if call.as_json:
        screen.document(run)
        return
    now = time.time()
    progress = f"{run.get('progress_percent', 0):.0f} %"
    facts = [
        ("state", f"{state_words(run)}, {progress}"),
        ("doing", run.get("label") or ""),
        ("error", run.get("error_message") or ""),
        ("exit code", "" if run.get("exit_code") is None else str(run["exit_code"])),
        ("created", f"{ago(run.get('created_at'), now)} by {run.get('created_by', '')}"),
        ("took", seconds(duration(run, now))),
        ("left", seconds(run.get("eta_seconds"))),
        ("agent", f"{run['agent']}, attempt {run['attempt']}" if run.get("agent") else ""),
        ("tags", ", ".join(run.get("tags") or [])),
        ("id", run["id"]),
    ]
    screen.text(f"run {run['number']}: {run.get('name', '')}")
    screen.table(
        [Column("", right=False), Column("", shrink=True)],
        [["  " + name, value] for name, value in facts if value],
    )
    parameters = (run.get("parameters") or {}).get("inputs") or {}
    if parameters:
        screen.text()
        rows = [["  " + name, number(value)] for name, value in parameters.items()]
        screen.table([Column("  PARAMETER"), Column("VALUE", shrink=True)], rows)
    results = run.get("results") or []
    if results:
        screen.text()
        result_table(call, results, indent="  ")


def result_table(call: Invocation, results: list[dict[str, Any]], *, indent: str = "") -> None:
    """Write results as a table."""
    rows = [
        [indent + str(item["name"]), number(item["value"]), item.get("unit") or ""]
        for item in results
    ]
    columns = [
        Column(indent + "RESULT", shrink=True),
        Column("VALUE", shrink=True),
        Column("UNIT"),
    ]
    call.screen.table(columns, rows)

"""``physicsrunner results``: the results of a run, alone."""

from __future__ import annotations

import click

from physicsrunner.cli.command import Invocation, make_command
from physicsrunner.cli.show import result_table


@make_command("results")
@click.argument("run")
def command(call: Invocation, run: str) -> None:
    """
    List the results of RUN: what main.py gave by solver.result, results.json or results.csv.

    With --json values keep all their digits.
    """
    with call.client() as client:
        results = client.results(run)
    if call.as_json:
        call.screen.document({"data": results, "total": len(results)})
    elif results:
        result_table(call, results)
    else:
        call.screen.note("no results; a run has them once main.py has ended")

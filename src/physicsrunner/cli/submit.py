"""``physicsrunner submit``: queue a case on a server, once or many times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from physicsrunner.cli.command import Invocation, make_command
from physicsrunner.cli.wanted import options_of, run_options
from physicsrunner.errors import UsageError

if TYPE_CHECKING:
    from physicsrunner.client.case import CaseFolder
    from physicsrunner.client.client import Client


@make_command("submit")
@click.argument("case", type=click.Path(path_type=Path))
@click.option(
    "-p",
    "--parameter",
    "parameters",
    metavar="NAME=VALUE",
    multiple=True,
    help="A value in place of the case's default; may be given more than once.",
)
@click.option("--name", help="What to call the run; default: the case's name.")
@click.option("--tag", "tags", multiple=True, help="A word to find it by.")
@click.option(
    "--batch",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="One run for each set of parameters in it: JSON lines, a YAML list, or CSV with a head.",
)
@click.option("--count", type=click.IntRange(1, 1_000_000), help="So many runs, all the same.")
@click.option("--study", help="The study they belong to, by name or id; made when there is none.")
@click.option(
    "--max-concurrent",
    type=click.IntRange(1),
    metavar="N",
    help="At most N runs of a new study at once.",
)
@run_options
@click.option("-f", "--follow", is_flag=True, help="Stay and show it live, until it has ended.")
def command(
    call: Invocation,
    /,
    case: Path,
    parameters: tuple[str, ...],
    name: str | None,
    tags: tuple[str, ...],
    batch: Path | None,
    count: int | None,
    study: str | None,
    max_concurrent: int | None,
    follow: bool,
    **given: Any,
) -> int:
    """
    Queue CASE on the server: a folder with a main.py, or a zip of one.

    Inputs go up once, whatever the number of runs that use them. With --follow the exit code is
    the run's.
    """
    from physicsrunner.client.case import parse_parameters, read_case

    found = read_case(case)
    values = parse_parameters(parameters)
    sets = _sets(batch, count, values)
    if sets is not None and follow:
        raise UsageError("--follow shows one run; `physicsrunner list` shows how many stand")
    if max_concurrent is not None and study is None:
        raise UsageError("--max-concurrent needs --study NAME")
    # A wrong name is told before anything is sent.
    for one in [values] if sets is None else sets:
        found.parameters(one)
    _check_series(found)
    options = options_of(given)
    with call.client() as client:
        key = _study(call, client, study, given["project"], max_concurrent)
        options = replace(options, study=key)
        if sets is not None:
            with call.screen.progress() as progress:
                answer = client.submit_many(
                    found, sets, name=name, tags=tags, options=options, on_bytes=progress.bytes
                )
            return _queued_many(call, answer, study)
        with call.screen.progress() as progress:
            document = client.submit(
                found, values, name=name, tags=tags, options=options, on_bytes=progress.bytes
            )
        return _follow(call, client, document) if follow else _queued(call, document)


def _sets(
    batch: Path | None, count: int | None, values: Mapping[str, Any]
) -> list[dict[str, Any]] | None:
    """Return the parameters of each run; None: there is one run, and no batch."""
    if batch is not None and count is not None:
        raise UsageError("--batch says how many runs there are; leave --count out")
    if batch is not None:
        from physicsrunner.client.sets import read_sets

        return [{**values, **one} for one in read_sets(batch)]
    return None if count is None else [dict(values)] * count


def _check_series(case: CaseFolder) -> None:
    if case.document.series:
        from physicsrunner.runner.rules import rules_for

        rules_for(case.document.series, f"{case.name}: case file")


def _study(
    call: Invocation, client: Client, name: str | None, project: str | None, limit: int | None
) -> str | None:
    """Return the id of the study of that name, made where there is none."""
    if name is None:
        return None
    found = client.study(name, project=project, max_concurrent_runs=limit)
    if limit is not None and found.get("max_concurrent_runs") != limit:
        known = found.get("max_concurrent_runs")
        told = "no limit" if known is None else f"a limit of {known}"
        call.screen.note(f"study {found['name']} is there already, with {told}: it stays")
    return str(found["id"])


def _queued(call: Invocation, document: dict[str, Any]) -> int:
    if call.as_json:
        call.screen.document(document)
        return 0
    call.screen.text(f"run {document['number']}: {document['name']}, {document['status']}")
    call.screen.note(f"watch it: physicsrunner show {document['number']} --follow")
    return 0


def _queued_many(call: Invocation, answer: dict[str, Any], study: str | None) -> int:
    if call.as_json:
        call.screen.document(answer)
        return 0
    first, last = answer["first"], answer["last"]
    whose = f" of study {study}" if study else ""
    if answer["count"] == 1:
        call.screen.text(f"run {first}{whose}: queued")
    elif last - first + 1 == answer["count"]:
        call.screen.text(f"runs {first}-{last}{whose}: {answer['count']} queued")
    else:  # others queued between our requests
        call.screen.text(f"{answer['count']} runs between {first} and {last}{whose}: queued")
    look = f"--study {answer['study']}" if answer.get("study") else "--status queued"
    call.screen.note(f"see them: physicsrunner list {look}; physicsrunner queue")
    return 0


def _follow(call: Invocation, client: Client, document: dict[str, Any]) -> int:
    from physicsrunner.cli.follow import exit_code, follow_run
    from physicsrunner.cli.show import show

    call.screen.note(f"run {document['number']}: {document['name']}")
    document = follow_run(call, client, document)
    show(call, client, document)
    return exit_code(document)

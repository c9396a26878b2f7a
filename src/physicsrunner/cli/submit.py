"""``physicsrunner submit``: queue a case on a server."""

from __future__ import annotations

from pathlib import Path

import click

from physicsrunner.cli.command import Invocation, make_command, time_limit


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
@time_limit
@click.option("-f", "--follow", is_flag=True, help="Stay and show it live, until it has ended.")
def command(
    call: Invocation,
    case: Path,
    parameters: tuple[str, ...],
    name: str | None,
    tags: tuple[str, ...],
    timeout: float | None,
    follow: bool,
) -> int:
    """
    Queue CASE on the server: a folder with a main.py, or a zip of one.

    Inputs go up once, whatever the number of runs that use them. With --follow the exit code is
    the run's.
    """
    from physicsrunner.client.case import parse_parameters, read_case

    found = read_case(case)
    values = parse_parameters(parameters)
    # A wrong name is told before anything is sent.
    found.parameters(values)
    if found.document.series:
        from physicsrunner.runner.rules import rules_for

        rules_for(found.document.series, f"{found.name}: case file")
    configuration = {} if timeout is None else {"timeout_minutes": timeout}
    with call.client() as client:
        with call.screen.progress() as progress:
            document = client.submit(
                found,
                values,
                name=name,
                tags=tags,
                configuration=configuration,
                on_bytes=progress.bytes,
            )
        if follow:
            from physicsrunner.cli.follow import exit_code, follow_run
            from physicsrunner.cli.show import show

            call.screen.note(f"run {document['number']}: {document['name']}")
            document = follow_run(call, client, document)
            show(call, document)
            return exit_code(document)
    if call.as_json:
        call.screen.document(document)
        return 0
    call.screen.text(f"run {document['number']}: {document['name']}, {document['status']}")
    call.screen.note(f"watch it: physicsrunner show {document['number']} --follow")
    return 0

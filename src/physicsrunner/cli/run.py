"""``physicsrunner run``: carry out a case here."""

from __future__ import annotations

from pathlib import Path

import click

from physicsrunner.cli.command import Invocation, make_command, time_limit
from physicsrunner.errors import UsageError


@make_command("run")
@click.argument("case", type=click.Path(path_type=Path), required=False)
@click.option(
    "-p",
    "--parameter",
    "parameters",
    metavar="NAME=VALUE",
    multiple=True,
    help="A value in place of the case's default; may be given more than once.",
)
@click.option(
    "-w",
    "--work-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="The run's folder; default: a new one below ./runs. A run in it that was cut off goes on.",
)
@click.option("--name", help="What to call the run; default: the case's name.")
@time_limit
@click.option(
    "--configPath",
    "--config",
    "config",
    type=click.Path(path_type=Path),
    help="Carry out the run of this config.json (or YAML) instead of a case.",
)
@click.option("--startingStage", "starting_stage", metavar="STAGE", help="Begin with this stage.")
@click.option(
    "--skipStages", "skip_stages", default="", metavar="STAGES", help="Leave these out (a,b)."
)
@click.option("--debugMode", "debug_mode", is_flag=True, help="Log everything to standard error.")
def command(
    call: Invocation,
    case: Path | None,
    parameters: tuple[str, ...],
    work_dir: Path | None,
    name: str | None,
    timeout: float | None,
    config: Path | None,
    starting_stage: str | None,
    skip_stages: str,
    debug_mode: bool,
) -> int:
    """
    Carry out CASE here: a folder with a main.py, a script, or a zip.

    No server is needed. With --host the run is shown and kept there while it goes on; when that
    server does not answer, the run goes on all the same and `physicsrunner sync` delivers it later.
    Ctrl-C asks main.py to stop, a second one ends it at once.
    """
    from physicsrunner.cli.local import run_config

    if (case is None) == (config is None):
        raise UsageError("give a case folder, or --configPath FILE")
    if config is None and case is not None:
        config = _prepared(call, case, parameters, work_dir, name, timeout)
    elif parameters or work_dir or name or timeout or call.host:
        raise UsageError("with --configPath everything else stands in that file")
    assert config is not None  # noqa: S101 -- one of the two was given
    return run_config(
        call, config, starting_stage=starting_stage, skip_stages=skip_stages, debug=debug_mode
    )


def _prepared(
    call: Invocation,
    case: Path,
    parameters: tuple[str, ...],
    work_dir: Path | None,
    name: str | None,
    timeout: float | None,
) -> Path:
    from physicsrunner.cli.prepare import new_folder, prepare
    from physicsrunner.client.case import parse_parameters, read_case

    found = read_case(case)
    values = found.parameters(parse_parameters(parameters))
    return prepare(
        found,
        work_dir or new_folder(found, call.settings.work),
        values,
        name=name,
        server=call.server if call.host else None,
        token=call.needed_token() if call.host else None,
        time_s=None if timeout is None else 60.0 * timeout,
    )

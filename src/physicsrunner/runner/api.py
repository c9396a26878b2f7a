"""
`run_solver`: the runner as a function, and the command line that calls it.

Promises: without arguments it reads the command line; it returns a `RunResult` whatever became of
the program, and raises only for a configuration or a call that is wrong. Modules of a wire are
imported only when that wire is spoken.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from physicsrunner.core.exitcodes import exit_code
from physicsrunner.errors import ConfigError, PhysicsRunnerError, UsageError
from physicsrunner.runner.attempt import carry_out
from physicsrunner.runner.journal import History, Journal
from physicsrunner.runner.opening import is_over
from physicsrunner.runner.reporting import Progress
from physicsrunner.runner.result import RunResult
from physicsrunner.runner.workdir import WorkFolder
from physicsrunner.wire.documents import NATIVE, OFFLINE, PHYSICSWORKS, RunnerConfig, parse_config

if TYPE_CHECKING:
    import argparse

    from physicsrunner.client.uplink import Uplink


def run_solver(
    config_path: str | os.PathLike[str] | None = None,
    debug_mode: bool = False,
    starting_stage: str | None = None,
    skip_stages: str | Iterable[str] = (),
    on_progress: Callable[[Progress], None] | None = None,
    *,
    stop: threading.Event | None = None,
    argv: Sequence[str] | None = None,
) -> RunResult:
    """
    Carry out the run that a configuration file describes.

    Parameters
    ----------
    config_path
        config.json or YAML. None: the command line is read (``--configPath`` and its kin).
    debug_mode
        Log everything, also to standard error.
    starting_stage, skip_stages
        Names of stages; a comma list or a list. See `physicsrunner.core.stages`.
    on_progress
        Called with a `Progress` at every change.
    stop
        Set it to cancel the run.
    argv
        The command line; None: this process's own.

    Returns
    -------
    RunResult, true in a condition when the run completed.

    Raises
    ------
    ConfigError, WorkDirLocked
        The configuration is wrong; another runner works in its folder.
    """
    if config_path is None:
        options = parse_arguments(sys.argv[1:] if argv is None else argv)
        config_path = options.configPath
        debug_mode = debug_mode or options.debugMode
        starting_stage = starting_stage or options.startingStage
        skip_stages = skip_stages or options.skipStages
    config = load_config(config_path)
    uplink = connect(config)
    try:
        return carry_out(
            config,
            uplink=uplink,
            now=time.time,
            sleep=time.sleep,
            random=random.random,
            on_progress=on_progress,
            stop=stop,
            starting_stage=starting_stage,
            skip_stages=skip_stages,
            debug_mode=debug_mode,
        )
    finally:
        if uplink is not None:
            uplink.close()


def deliver_folder(
    work_dir: str | os.PathLike[str],
    *,
    server: str | None = None,
    token: str | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
) -> RunResult:
    """
    Deliver what a run left in its work folder (``physicsrunner sync WORKDIR``).

    Parameters
    ----------
    work_dir
        The work folder. May be given again and again; what the server has is not sent twice.
    server, token
        Where to; None: as the run was configured. A run that was carried out without a server is
        created there under its own id, which needs a user's token.

    Raises
    ------
    UsageError
        There is no run in the folder, it has not ended, or no server is known.
    """
    folder = WorkFolder(Path(work_dir).absolute())
    history = Journal(folder.journal, time.time).read()
    if history.run is None:
        raise UsageError(f"there is no run in {folder.root}")
    if history.outcome is None:
        raise UsageError(
            f"the run in {folder.root} has not ended; going on with it (`physicsrunner run "
            "--configPath=...`) delivers it too"
        )
    config = _config_of(folder, history)
    if server is not None:
        config = replace(config, wire=NATIVE, server=server, token=token or config.token)
    elif token is not None:
        config = replace(config, token=token)
    if config.wire == OFFLINE:
        raise UsageError(f"the run in {folder.root} has no server; name one (--host URL)")
    if config.wire == NATIVE:
        config = replace(config, run=history.run, attempt=history.attempt or 1)
    uplink = connect(config)
    try:
        return carry_out(config, uplink=uplink, on_progress=on_progress, stop=stop)
    finally:
        if uplink is not None:
            uplink.close()


def _config_of(folder: WorkFolder, history: History) -> RunnerConfig:
    kept = folder.kept_config()
    if kept is None:
        return RunnerConfig(str(folder.root), run=history.run)
    return replace(load_config(kept), work_dir=str(folder.root))


def load_config(path: str | os.PathLike[str]) -> RunnerConfig:
    """Read a configuration file; a relative workDir counts from the file's folder."""
    file = Path(path)
    try:
        text = file.read_text("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"there is no configuration file {file}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read as UTF-8 text: {error}") from error
    config = parse_config(text, str(file))
    root = file.absolute().parent
    work = Path(config.work_dir).expanduser()
    return replace(
        config, work_dir=str(Path(os.path.normpath(root / work))), path=str(root / file.name)
    )


def connect(config: RunnerConfig) -> Uplink | None:
    """Return the server that *config* names, over the wire that it names; None: offline."""
    if config.wire == OFFLINE:
        return None
    if config.wire == NATIVE:
        from physicsrunner.client.native import NativeUplink

        return NativeUplink(config.server or "", config.token)
    return _physicsworks(config)


def _physicsworks(config: RunnerConfig) -> Uplink:
    from physicsrunner.client.physicsworks import PhysicsWorksTarget, PhysicsWorksUplink

    folder = WorkFolder(Path(config.work_dir).absolute())
    history = Journal(folder.journal, time.time).read()
    over = is_over(config, history)
    resource = config.resource or {}
    known = None if over else history.run if history.named else resource.get("id")
    folder.control.mkdir(parents=True, exist_ok=True)
    ledger = folder.control / "physicsworks.jsonl"
    if over:
        ledger.unlink(missing_ok=True)
    target = PhysicsWorksTarget(
        project=config.project or "",
        simulation=config.simulation or "",
        owner=config.owner,
        job=config.job,
        inputs_archive=config.inputs_archive is not None,
        run=None if known is None else str(known),
    )
    return PhysicsWorksUplink(
        config.host or "", config.token or "", target, now=time.time, ledger=ledger
    )


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Read the runner's own options; a wrong one is a `UsageError`."""
    import argparse

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> Any:
            raise UsageError(f"{message}\n{self.format_usage().strip()}")

    parser = Parser(prog="python -m physicsrunner", description="Carry out one run in five stages.")
    parser.add_argument("--configPath", required=True, help="config.json or YAML")
    parser.add_argument("--startingStage", default=None, help="the first stage that is done")
    parser.add_argument("--skipStages", default="", help="stages to leave out, comma-separated")
    parser.add_argument("--debugMode", action="store_true", help="log everything")
    return parser.parse_args(list(argv))


def main(argv: Sequence[str] | None = None, *, stop: threading.Event | None = None) -> int:
    """Run the command line; print what went wrong to standard error; return the exit code."""
    try:
        result = run_solver(argv=argv, stop=stop)
    except PhysicsRunnerError as error:
        print(f"error: {error}\n{error.what_to_do}", file=sys.stderr)
        return error.exit_code
    report(result)
    return exit_code(result.state)


def report(result: RunResult) -> None:
    """Print the warnings, and why a run did not complete, to standard error."""
    for warning in result.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if not result and result.error is not None:
        print(f"{result.state.value}: {result.error.message}", file=sys.stderr)


__all__ = ["PHYSICSWORKS", "connect", "load_config", "main", "report", "run_solver"]

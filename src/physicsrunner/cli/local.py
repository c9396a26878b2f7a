"""
A run carried out in this process, with its progress on the screen.

Promises: the first Ctrl-C or SIGTERM asks the program to stop and waits for it and for its files;
the second ends it at once. Either way no process of the run is left, and what it wrote is kept.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from physicsrunner.cli.follow import LiveNumbers
from physicsrunner.cli.tables import Column, count, number, printable, seconds, size
from physicsrunner.core.exitcodes import exit_code
from physicsrunner.core.state import RunState
from physicsrunner.runner.api import load_config, run_solver
from physicsrunner.runner.workdir import WorkFolder
from physicsrunner.wire.codec import encode

if TYPE_CHECKING:
    from physicsrunner.cli.invocation import Invocation
    from physicsrunner.cli.screen import Progress
    from physicsrunner.runner.reporting import Progress as Told
    from physicsrunner.runner.result import RunResult

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_TAIL: Final = 15  # lines of the log that are shown of a run that failed


def carry_out_here(
    call: Invocation,
    config: Path,
    *,
    starting_stage: str | None = None,
    skip_stages: str = "",
    debug: bool = False,
) -> RunResult:
    """Carry out the run of *config*, live; return its result. Nothing is written to stdout."""
    with watched(call, Path(load_config(config).work_dir)) as (on_progress, stop):
        return run_solver(
            config,
            debug_mode=debug,
            starting_stage=starting_stage,
            skip_stages=skip_stages,
            on_progress=on_progress,
            stop=stop,
        )


def run_config(
    call: Invocation,
    config: Path,
    *,
    starting_stage: str | None = None,
    skip_stages: str = "",
    debug: bool = False,
) -> int:
    """Carry out the run of *config*, tell what became of it, and return the exit code."""
    began = time.monotonic()
    result = carry_out_here(
        call, config, starting_stage=starting_stage, skip_stages=skip_stages, debug=debug
    )
    return tell(call, result, seconds_taken=time.monotonic() - began)


@contextmanager
def watched(
    call: Invocation, root: Path
) -> Iterator[tuple[Callable[[Told], None], threading.Event]]:
    """
    Give what to tell of the run in the folder *root*, and the event that asks it to stop.

    A second signal ends its program and raises KeyboardInterrupt.
    """
    folder = WorkFolder(root.absolute())
    stop = threading.Event()
    try:
        with call.screen.progress() as progress, _signals(stop, progress.say):
            yield _Display(progress, folder).told, stop
    except KeyboardInterrupt:
        _end_program(folder)
        call.screen.note(f"ended at once; what it wrote is in {folder.root}")
        raise


def document_of(result: RunResult, seconds_taken: float) -> dict[str, Any]:
    """Return a result as it is shown with ``--json``."""
    code = exit_code(result.state)
    return {**encode(result), "seconds": round(seconds_taken, 3), "exit": code}


def tell(call: Invocation, result: RunResult, *, seconds_taken: float, quiet: bool = False) -> int:
    """
    Write what became of a run; return the exit code that it means.

    *quiet*: only the warnings, and why it failed.
    """
    screen = call.screen
    for warning in result.warnings:
        screen.note(f"warning: {warning}")
    code = exit_code(result.state)
    if result.error is not None and not result:
        _tell_failure(call, result)
    if quiet:
        return code
    if call.as_json:
        screen.document(document_of(result, seconds_taken))
        return code
    folder = os.path.relpath(result.work_dir)
    folder = result.work_dir if folder.startswith("..") else folder
    screen.text(
        f"{result.state} after {seconds(seconds_taken)}: "
        f"{count(result.files, 'file')}, {size(result.bytes)}, in {folder}"
        f"{', delivered' if result.delivered else ''}"
    )
    if result.results:
        rows = [["  " + item.name, number(item.value), item.unit or ""] for item in result.results]
        columns = [Column("  RESULT", shrink=True), Column("VALUE", shrink=True), Column("UNIT")]
        screen.table(columns, rows)
    return code


class _Display:
    """Draws what the runner tells; called from several threads."""

    def __init__(self, progress: Progress, folder: WorkFolder) -> None:
        self._progress = progress
        self._series = folder.series_file
        self._offset = 0
        self._numbers = LiveNumbers()
        self._lock = threading.Lock()

    def told(self, told: Told) -> None:
        fraction = None if told.progress is None else told.progress / 100.0
        words = [told.label or told.stage or str(told.state)]
        if told.eta_s:
            words.append(f"{seconds(told.eta_s)} left")
        with self._lock:
            self._read_series()
            self._progress.show(fraction, "   ".join([*words, self._numbers.text()]).rstrip())

    def _read_series(self) -> None:
        try:
            with self._series.open("rb") as file:
                file.seek(self._offset)
                data = file.read(1 << 20)
        except OSError:
            return
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines()[-64:]:
            try:
                self._numbers.take([json.loads(line)])
            except ValueError:
                continue


@contextmanager
def _signals(stop: threading.Event, note: Callable[[str], None]) -> Iterator[None]:
    """Turn the first signal into a stop, the second into KeyboardInterrupt."""

    def handler(*_: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        # Not from here: the interrupted code may hold the stream or the lock of the progress line.
        text = "stopping: main.py is asked to end; once more ends it at once"
        threading.Thread(target=note, args=(text,), daemon=True).start()

    before = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number_, old in before.items():
            signal.signal(number_, old)


def _end_program(folder: WorkFolder) -> None:
    from physicsrunner.engines.base import NativeId
    from physicsrunner.engines.local import LocalEngine
    from physicsrunner.runner.journal import Journal

    program = Journal(folder.journal, time.time).read().program
    if program is not None:
        LocalEngine(time.sleep).cancel(NativeId(program))


def _tell_failure(call: Invocation, result: RunResult) -> None:
    log = WorkFolder(Path(result.work_dir)).main_log
    try:
        with log.open(encoding="utf-8", errors="replace") as file:
            lines = list(deque(file, _TAIL))
    except OSError:
        lines = []
    if lines and result.state is not RunState.CANCELLED:
        call.screen.note(f"the end of {log}:")
        for line in lines:
            call.screen.note("  " + printable(line.rstrip("\n")))
    if result.error is not None:
        call.screen.note(f"{result.state}: {result.error.message}")

"""
state.txt: the structured line ``YYYY-MM-DD HH:MM:SS,progress,message,step,status``.

Promises: one line is one write at the end of the file, so that lines of several processes never
mix. A line break in a message becomes a space: it would end the line.
"""

from __future__ import annotations

import math
import os
import time
from enum import Enum

from physicsrunner.solver import environment


class StepStatus(Enum):
    """Where a step stands."""

    PENDING = "pending"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"


def append_status(
    outputs_dir: str,
    progress: float,
    message: str,
    step: str = "",
    status: StepStatus | str = StepStatus.RUNNING,
) -> None:
    """Append one status line to state.txt in *outputs_dir*; *progress* in percent, as it is."""
    word = status.value if isinstance(status, StepStatus) else str(status)
    moment = time.strftime("%Y-%m-%d %H:%M:%S")
    append_line(f"{outputs_dir}/state.txt", f"{moment},{progress},{message},{step},{word}")


def append_line(path: str, line: str) -> None:
    """Append *line* and its end to the file at *path*, in one write."""
    data = " ".join(line.splitlines()).encode("utf-8", "replace") + b"\n"
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        while data:
            data = data[os.write(file, data) :]
    finally:
        os.close(file)


def progress(
    percent: float,
    message: str = "",
    step: str = "solver",
    status: StepStatus | str = StepStatus.RUNNING,
) -> None:
    """
    Say how far the whole run is.

    Parameters
    ----------
    percent
        0 to 100, of the whole run; written as it is (values outside are cut to the range).
    message
        What is going on, for people.
    step
        What main.py does now, in a word: shown as the run's stage, unless it is ``solver``.

    Raises
    ------
    ValueError
        If *percent* is not a number.
    """
    value = float(percent)
    if math.isnan(value):
        raise ValueError("progress must be a number from 0 to 100, not nan")
    value = min(100.0, max(0.0, round(value, 2)))
    shown = int(value) if value == int(value) else value
    append_status(str(environment.outputs_dir()), shown, message, step, status)


def update_solver_progress(
    progress: int,
    message: str = "Running solver",
    step: str = "solver",
    status: StepStatus = StepStatus.RUNNING,
    outputs_path: str = "",
) -> None:
    """
    Say how far main.py's own part is: 0 to 100 become 10 to 90 of the whole run, as published.

    Silent when there is no run and no *outputs_path*. New scripts say `progress`, which writes
    what it is told.
    """
    folder = outputs_path or environment.published("OUTPUTS_DIR")
    if not folder:
        return
    append_status(folder, int(10 + progress * 0.8), message, step, status)
    print(f"Progress: {progress}% - {message}")

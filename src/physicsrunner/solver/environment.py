"""
Where a main.py runs: its folders and files. The only reader of the environment in this package.

Promises:

- Inside a run the folders are those that the runner names (``PHYSICSRUNNER_OUTPUTS_DIR`` or
  ``PHYSICSWORKS_OUTPUTS_DIR``, ...); by hand, those of ``--inputsPath``, ``--outputsPath`` and
  ``--rawPath`` on the command line; otherwise ``./inputs``, ``./outputs`` and ``./raw``, and one
  line on standard error says so.
- Folders below outputs are made when they are asked for. Nothing is ever deleted.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path

_FOLDERS = {"INPUTS_DIR": "inputs", "OUTPUTS_DIR": "outputs", "RAW_DIR": "raw", "WORK_DIR": "."}


def named(name: str) -> str | None:
    """Return the variable PHYSICSRUNNER_*name* or PHYSICSWORKS_*name*; None when unset."""
    return os.environ.get(f"PHYSICSRUNNER_{name}") or os.environ.get(f"PHYSICSWORKS_{name}") or None


def published(name: str) -> str | None:
    """Return PHYSICSWORKS_*name*, as the published helpers read it, else PHYSICSRUNNER_*name*."""
    return os.environ.get(f"PHYSICSWORKS_{name}") or os.environ.get(f"PHYSICSRUNNER_{name}") or None


def in_run() -> bool:
    """Tell whether a runner started this program."""
    return named("OUTPUTS_DIR") is not None


def inputs_dir() -> Path:
    """Return the folder with parameters and other inputs."""
    return _folder("INPUTS_DIR", "--inputsPath")


def outputs_dir() -> Path:
    """Return the folder that results go to; made if it is not there."""
    return _made(_folder("OUTPUTS_DIR", "--outputsPath"))


def raw_dir() -> Path:
    """Return the folder with meshes and other raw data."""
    return _folder("RAW_DIR", "--rawPath")


def work_dir() -> Path:
    """Return the work folder, which holds inputs, outputs, raw and scripts."""
    work = named("WORK_DIR")
    return Path(work) if work else _folder("OUTPUTS_DIR", "--outputsPath").absolute().parent


def files_dir() -> Path:
    """Return the folder for result files (fields, tables); made if it is not there."""
    return _made(outputs_dir() / "files")


def graphics_dir() -> Path:
    """Return the folder for geometry to look at; made if it is not there."""
    return _made(outputs_dir() / "graphics")


def logs_dir() -> Path:
    """Return the folder for logs, which are shown live; made if it is not there."""
    return _made(outputs_dir() / "logs")


def media_dir() -> Path:
    """Return the folder for pictures, films and PDFs; made if it is not there."""
    return _made(outputs_dir() / "media")


def plots_dir() -> Path:
    """Return the folder for plots and their CSV files; made if it is not there."""
    return _made(outputs_dir() / "plots")


# The names of the arguments that main.py is called with.
inputs_path = inputs_dir
outputs_path = outputs_dir
raw_path = raw_dir


def scratch_dir(target: Path) -> Path:
    """Return a folder for half-written files: on the disk of *target*, and not followed."""
    control = Path(named("WORK_DIR") or target) / ".physicsrunner"
    try:
        same_disk = control.stat().st_dev == target.stat().st_dev
    except OSError:
        same_disk = False
    return control if same_disk else target


def stop_requested() -> bool:
    """Tell whether someone asked this run to stop. Cheap: ask once in each iteration."""
    stop_file = named("STOP_FILE")
    if stop_file is None and not in_run():
        return False
    return os.path.exists(stop_file or work_dir() / "stop.request")  # noqa: PTH110 - 1 us, not 5


def _folder(name: str, option: str) -> Path:
    given = named(name) or _argument(option)
    if given:
        return Path(given)
    folder = Path.cwd() / _FOLDERS[name]
    _note(str(folder), _FOLDERS[name])
    return folder


def _argument(option: str) -> str | None:
    arguments = sys.argv[1:]
    for position, argument in enumerate(arguments):
        if argument.startswith(f"{option}="):
            return argument.partition("=")[2] or None
        if argument == option and position + 1 < len(arguments):
            return arguments[position + 1]
    return None


@cache
def _note(folder: str, name: str) -> None:
    print(f"physicsrunner: not started by a runner; {name} are in {folder}", file=sys.stderr)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder

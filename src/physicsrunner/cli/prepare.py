"""
A work folder for a case that is carried out here.

Promises: the case folder is only read. A folder that holds something else is never written to; one
that holds an unfinished run of ours is gone on with, under the same run id.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
import uuid
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from physicsrunner.client.case import CaseFolder
from physicsrunner.errors import ConfigError, UsageError
from physicsrunner.runner.archive import extract
from physicsrunner.runner.journal import History, Journal
from physicsrunner.runner.workdir import WorkFolder

CONFIG = "config.json"


def new_folder(case: CaseFolder, below: Path) -> Path:
    """Return a folder for a new run of *case* below the folder *below*; it is not made yet."""
    slug = re.sub(r"[^\w.-]+", "-", case.name).strip("-.") or "run"
    return below / f"{slug[:60]}-{uuid.uuid4().hex[:6]}"


def history_of(folder: Path) -> History:
    """Return what the journal of a work folder says; an empty history where there is none."""
    return Journal(WorkFolder(folder.absolute()).journal, time.time).read()


def prepare(
    case: CaseFolder,
    folder: Path,
    parameters: Mapping[str, Any],
    *,
    name: str | None = None,
    server: str | None = None,
    token: str | None = None,
    time_s: float | None = None,
) -> Path:
    """
    Lay out *folder* for a run of *case* and return the path of its config.json.

    Parameters
    ----------
    parameters
        All values, as `CaseFolder.parameters` gives them.
    server, token
        The server that the run is delivered to while it runs; None: offline.
    time_s
        Limit of main.py in seconds, in place of the case's.

    Raises
    ------
    UsageError
        If *folder* holds a finished run, or something that is no run.
    """
    run = _run_of(folder)
    work = WorkFolder(folder.absolute())
    work.create()
    _copy(case, work)
    document: dict[str, Any] = {
        "workDir": str(work.root),
        "name": name or case.name,
        "run": run,
        "attempt": 1,
        "parameters": dict(parameters),
    }
    if time_s is not None:
        document["limits"] = {"time_s": time_s}
    if server is not None:
        document |= {"server": server, "token": token or ""}
    config = work.root / CONFIG
    _write_private(config, json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    return config


def _run_of(folder: Path) -> str:
    """Return the id of the unfinished run in *folder*, or a new one for an empty folder."""
    if not folder.exists() or not any(folder.iterdir()):
        return str(uuid.uuid4())
    if not (folder / CONFIG).is_file():
        raise UsageError(f"{folder} is not empty and holds no run; give a new folder")
    history = history_of(folder)
    if history.finished:
        raise UsageError(f"{folder} holds a run that has ended; give a new folder")
    try:
        known = json.loads((folder / CONFIG).read_text("utf-8")).get("run")
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(f"{folder / CONFIG} cannot be read: {error}") from None
    return str(history.run or known or uuid.uuid4())


def _copy(case: CaseFolder, work: WorkFolder) -> None:
    if case.archive is not None:
        if not zipfile.is_zipfile(case.archive):
            raise UsageError(f"{case.archive} is no zip")
        extract(case.archive, work.scripts)
    for file in case.model:
        _copy_file(file.path, work.scripts / file.name)
    for file in case.inputs:
        top = work.root if file.name.startswith("raw/") else work.inputs
        _copy_file(file.path, top / file.name)


def _copy_file(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)


def _write_private(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.part")
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)

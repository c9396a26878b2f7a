"""
A folder for each job: ``job_000001/`` with meta.json, result_manifest.json and what the job left.

Promises: ``meta.json`` is there from the moment the job is; when it says that the job has ended,
``result_manifest.json`` and the artifacts are there. The artifacts are copies: whoever changes them
there changes nothing that the server keeps. What could not be written, or was cut short by a crash,
is found by `begin`, and may be tried again any number of times: what is there already is not
written twice. The folder of a job that was deleted goes. A folder that another server made is moved
aside, never written to. Files are whole or not there.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any, Final

from physicsrunner.core.run import MAX_LIMIT, RunFilter
from physicsrunner.core.state import TERMINAL
from physicsrunner.errors import NotFound
from physicsrunner.server.bodies import dumps
from physicsrunner.server.doors.shakescenario import jobs
from physicsrunner.server.doors.words import word
from physicsrunner.service.access import Identity
from physicsrunner.service.services import Services
from physicsrunner.wire import live

_OURS: Final = Identity("user", jobs.DOOR, "admin")  # the server itself, which only reads

_LOG = logging.getLogger(__name__)


class Folders:
    """The folders of all jobs below *root*. One thread at a time calls it."""

    def __init__(self, services: Services, root: Path) -> None:
        self._runs = services.runs
        self._files = services.files
        self._root = root
        self._numbers: dict[str, int] = {}  #: run -> job, of all folders here
        self._bare: set[str] = set()  #: runs whose folders are ours, though no meta.json may say so

    def begin(self) -> list[str]:
        """
        Return the runs whose folders are not as the server knows them.

        A crash, or a full disk before it, may have kept them from being written, or from going.
        """
        self._root.mkdir(parents=True, exist_ok=True)
        stale = self._written()
        offset, found = 0, []
        while True:
            wanted = RunFilter(door=jobs.DOOR, limit=MAX_LIMIT, offset=offset, sort="number")
            page = self._runs.list(_OURS, wanted).runs
            for run in page:
                known = stale.pop(run.id, None) == word(jobs.DOOR, run)
                if not known or run.status not in TERMINAL:
                    found.append(run.id)
            if len(page) < MAX_LIMIT:
                break
            offset += len(page)
        for run_id in stale:
            told = self._runs.events(_OURS, run_id)
            if any(event.type == live.DELETED for event in told):  # else it is another server's
                found.append(run_id)
        return found

    def refresh(self, run_id: str) -> None:
        """Write the folder of one run as it is now, or remove it with its run."""
        try:
            run = self._runs.get(_OURS, run_id)
        except NotFound:
            self._remove(run_id)
            return
        if run.door != jobs.DOOR:
            return
        folder = self._folder(run.number, run.id)
        self._numbers[run.id] = run.number
        self._bare.add(run.id)
        begun = self._root / ".part"  # no artifact has this name
        if run.status not in TERMINAL:
            job = jobs.whole(run, ())
        else:
            files = self._files.list(_OURS, run.id)
            job = jobs.whole(run, files)
            for file in files:
                if Path(file.path).parts[0] not in (jobs.META, jobs.MANIFEST):  # those are ours
                    _copy(self._files.path(_OURS, run.id, file.path), folder / file.path, begun)
            _write(folder / jobs.MANIFEST, jobs.manifest(job), begun)
        _write(folder / jobs.META, jobs.meta(job, run.id), begun)
        self._bare.discard(run.id)

    def _written(self) -> dict[str, str]:
        """Return the status that each folder's meta.json says, by the run."""
        found = {}
        for path in sorted(self._root.glob(f"job_*/{jobs.META}")):
            said = _read(path)
            if path.parent.name == jobs.folder_of(said["id"]):
                found[said["run"]] = said["status"]
                self._numbers[said["run"]] = said["id"]
        return found

    def _folder(self, number: int, run_id: str) -> Path:
        """Return the folder of a job, made; move aside what is there of somebody else."""
        folder = self._root / jobs.folder_of(number)
        if folder.is_dir() and any(folder.iterdir()):
            other = _read(folder / jobs.META)["run"]
            if not self._is_ours(other, run_id):
                aside = _free(folder.with_name(f"{folder.name}.{other[:8] or 'other'}"))
                folder.rename(aside)
                _LOG.warning("%s is of another server: it is now %s", folder, aside.name)
        folder.mkdir(exist_ok=True)
        return folder

    def _remove(self, run_id: str) -> None:
        number = self._numbers.get(run_id)
        if number is None:
            return
        folder = self._root / jobs.folder_of(number)
        if folder.is_dir() and self._is_ours(_read(folder / jobs.META)["run"], run_id):
            self._bare.add(run_id)  # its meta.json may go first
            shutil.rmtree(folder)
        del self._numbers[run_id]
        self._bare.discard(run_id)

    def _is_ours(self, said: str, run_id: str) -> bool:
        """Say whether a folder whose meta.json says the run *said* is that of *run_id*."""
        return said == run_id or (not said and run_id in self._bare)


def _read(path: Path) -> dict[str, Any]:
    """Return what a meta.json says; of one that is not ours, nothing that fits."""
    nothing = {"id": 0, "run": "", "status": ""}
    try:
        said = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return nothing
    ours = isinstance(said, dict) and type(said.get("id")) is int
    ours = ours and all(isinstance(said.get(key), str) for key in ("run", "status"))
    return said if ours else nothing


def _write(path: Path, value: Any, begun: Path) -> None:
    data = dumps(value) + b"\n"
    if path.exists() and path.read_bytes() == data:
        return
    try:
        with begun.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        begun.replace(path)
    except BaseException:
        begun.unlink(missing_ok=True)
        raise


def _copy(source: Path, target: Path, begun: Path) -> None:
    """Have *target* hold what *source* does; it is written as *begun* until it is whole."""
    if target.exists() and _is_copy(source.stat(), target.stat()):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copy2(source, begun)
        with begun.open("rb") as file:
            os.fsync(file.fileno())
        begun.replace(target)
    except BaseException:
        begun.unlink(missing_ok=True)
        raise


def _is_copy(one: os.stat_result, other: os.stat_result) -> bool:
    if (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino):
        return False  # the file itself, under a second name
    return (one.st_size, one.st_mtime_ns) == (other.st_size, other.st_mtime_ns)


def _free(path: Path) -> Path:
    """Return *path*, or it with the first number at which nothing is."""
    tried, number = path, 1
    while tried.exists():
        number += 1
        tried = path.with_name(f"{path.name}.{number}")
    return tried

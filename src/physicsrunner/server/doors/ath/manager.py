"""
The use cases of the acoustics door, each a few calls of the services.

Promises: a job is a run of the door's model, in the door's study, which lets so many run at once as
the operator decided, first come first served; its mesh is an input, kept once by its content; the
rest of its request is its parameters, whole. Nothing is kept here.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from physicsrunner.core.lease import FAIL
from physicsrunner.core.run import InputFile, NewRun, RunFilter, RunRecord, RunSummary
from physicsrunner.core.state import TERMINAL
from physicsrunner.errors import Conflict, NotFound, PhysicsRunnerError
from physicsrunner.server.doors.ath import jobs
from physicsrunner.server.doors.ath.payload import MESH, Solve, name_of
from physicsrunner.server.doors.words import states_of, word
from physicsrunner.service import asked
from physicsrunner.service.identity import Identity
from physicsrunner.service.services import Services
from physicsrunner.service.studies import of_door

#: Where a job's mesh lies for main.py, below ``inputs/``.
MESH_INPUT: Final = "mesh.json"
FOLDER: Final = "outputs/data_files"  #: what main.py left in ``outputs/files``
#: How the names of main.py's results and of its mesh end there.
RESULTS: Final = "results.json"
ARTIFACT: Final = ".msh"
_MESH_END: Final = b"$EndElements"
_PAGE: Final = 1000
_PIECE: Final = 1024 * 1024


class WrongState(Conflict):
    """A job is not in a state in which this can be done."""

    status_hint = 400  # as clients of the document know it


@dataclass(frozen=True)
class Artifact:
    """A file of a job."""

    name: str
    path: Path
    sha256: str | None


class JobManager:
    """Jobs in the words of the document. Thread-safe."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def solve(self, who: Identity, wanted: Solve) -> str:
        """Put a job into the queue; return its id."""
        model = self._services.packaged.model(who, self._services.options.ath_model)
        run = self._services.runs.create(
            who,
            NewRun(
                model_id=model.id,
                model_version=model.version,
                name=name_of(wanted.label, wanted.fields),
                description=jobs.described(wanted.fields),
                parameters={**model.parameters, **wanted.fields},
                configuration={
                    "on_lost_contact": FAIL,
                    jobs.DOOR: {"fields": list(wanted.names)},
                },
                inputs=[] if wanted.mesh is None else [self._kept(who, wanted.mesh)],
                study_id=of_door(jobs.DOOR),
                door=jobs.DOOR,
            ),
        )
        return run.id

    def _kept(self, who: Identity, mesh: bytes) -> InputFile:
        handle, name = tempfile.mkstemp(dir=self._services.scratch, prefix="mesh-")
        path = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(mesh)
            sha256 = hashlib.sha256(mesh).hexdigest()
            return InputFile(MESH_INPUT, sha256, self._services.runs.store_input(who, sha256, path))
        finally:
            path.unlink(missing_ok=True)

    def status(self, who: Identity, job: str) -> dict[str, Any]:
        """Return where a job stands."""
        return jobs.status(self._found(who, job))

    def show(self, who: Identity, job: str) -> dict[str, Any]:
        """Return a job as lists show it, and its configuration but for the mesh."""
        run = self._services.runs.get(who, _key(job))
        return {**self._items([run])[0], "config": jobs.config(run)}

    def stop(self, who: Identity, job: str) -> str:
        """
        Stop a job; return its state, which is ``cancelled``. Stopped twice, it is stopped.

        Raises
        ------
        WrongState
            If it has ended otherwise.
        """
        run = self._found(who, job)
        state = word(jobs.DOOR, run)
        if state not in (jobs.COMPLETE, jobs.ERROR):
            state = word(jobs.DOOR, self._services.runs.cancel(who, run.id))
        if state != jobs.CANCELLED:
            raise WrongState(f"job {run.id} cannot be stopped: its status is {state}")
        return state

    def label(self, who: Identity, job: str, label: str | None) -> dict[str, Any]:
        """Give a job another label, or none; return it as lists show it."""
        run = self._services.runs.get(who, _key(job))
        if run.door == jobs.DOOR:
            name = name_of(label, jobs.config(run))
            description: str | None = jobs.relabelled(run, label)
        else:
            name, description = label or "run", run.description
        return self._items([self._services.runs.rename(who, run.id, name, description)])[0]

    def delete(self, who: Identity, job: str) -> str:
        """Delete a job that has ended, or was stopped and has not ended yet; return its id."""
        return self._services.runs.delete(who, _key(job), abandon=True).id

    # -- files ---------------------------------------------------------------------------------

    def results(self, who: Identity, job: str) -> Artifact:
        """
        Return the file of results of a job that is complete.

        Raises
        ------
        WrongState
            If it is not complete.
        NotFound
            If its main.py left none.
        """
        run = self._found(who, job)
        state = word(jobs.DOOR, run)
        if state != jobs.COMPLETE:
            raise WrongState(f"job {run.id} has no results: its status is {state}")
        return self._file(who, run, RESULTS)

    def mesh(self, who: Identity, job: str) -> Artifact:
        """Return the mesh that a job's main.py left, also while it goes on."""
        run = self._found(who, job)
        found = self._file(who, run, ARTIFACT)
        if not _is_whole(run, found.path):
            raise NotFound(f"the mesh of job {run.id} is still on its way")
        return found

    def _file(self, who: Identity, run: RunSummary, ending: str) -> Artifact:
        files = self._services.files
        name = _named(files.names([run], FOLDER)[0], ending)
        if name is None:
            raise NotFound(f"job {run.id} left no file *{ending} in outputs/files")
        path = f"{FOLDER}/{name}"
        return Artifact(name, files.path(who, run.id, path), files.stat(who, run.id, path).sha256)

    # -- lists ---------------------------------------------------------------------------------

    def page(
        self, who: Identity, status: str, limit: int, offset: int, *, every: bool
    ) -> tuple[list[dict[str, Any]], int]:
        """Return a page of jobs, the newest first, and how many there are in all."""
        names = [name.strip() for name in status.split(",") if name.strip()]
        wanted = RunFilter(
            status=states_of(jobs.DOOR, names),
            asked_is_cancelled=True,
            door=None if every else jobs.DOOR,
            limit=limit,
            offset=offset,
        )
        page = self._services.runs.list(who, wanted)
        return self._items(page.runs), page.total

    def _items(self, runs: Sequence[RunSummary]) -> list[dict[str, Any]]:
        """Return runs as items; which files they have is asked of the disk alone."""
        folders = self._services.files.names(runs, FOLDER)
        return [
            jobs.item(
                run,
                results=_named(names, RESULTS) is not None,
                mesh=self._has_mesh(run, _named(names, ARTIFACT)),
            )
            for run, names in zip(runs, folders, strict=True)
        ]

    def _has_mesh(self, run: RunSummary, name: str | None) -> bool:
        if name is None or run.status in TERMINAL:
            return name is not None
        return _is_whole(run, self._services.files.place(run, f"{FOLDER}/{name}"))

    def export(self, who: Identity, *, every: bool) -> Iterator[bytes]:
        """Return the pieces of a JSON document of all jobs, with what was sent for each."""
        ids: list[str] = []  # of the runs alone: there may be very many
        wanted = RunFilter(door=None if every else jobs.DOOR, limit=_PAGE, sort="created_at")
        while len(ids) % _PAGE == 0:
            page = self._services.runs.list(who, replace(wanted, offset=len(ids))).runs
            if not page:
                break
            ids += [run.id for run in page]
        return self._exported(who, ids)

    def _exported(self, who: Identity, ids: Sequence[str]) -> Iterator[bytes]:
        """Yield the pieces; an error goes through, so that the answer is cut off and not short."""
        yield b'{"items":['
        begun = False
        for job in ids:
            try:
                run = self._services.runs.get(who, job)
            except NotFound:
                continue  # deleted since
            yield b"," if begun else b""
            begun = True
            yield from self._one(who, run)
        yield b"]}"

    def _one(self, who: Identity, run: RunRecord) -> Iterator[bytes]:
        item = json.dumps(self._items([run])[0])
        config = jobs.config(run)
        yield item[:-1].encode() + b', "config": {'
        for place, name in enumerate(config):
            yield (", " if place else "").encode() + json.dumps(name).encode() + b": "
            if name == MESH and run.inputs:
                yield from self._mesh_of(who, run)
            else:
                yield json.dumps(config[name]).encode()
        yield b"}}"

    def _mesh_of(self, who: Identity, run: RunRecord) -> Iterator[bytes]:
        """Yield a job's mesh, which is JSON already; null where it is gone."""
        sha256 = next((one["sha256"] for one in run.inputs if one["path"] == MESH_INPUT), "")
        try:
            file = self._services.runs.input_path(who, sha256, run.id).open("rb")
        except (PhysicsRunnerError, OSError):
            yield b"null"
            return
        with file:
            while piece := file.read(_PIECE):
                yield piece

    def _found(self, who: Identity, job: str) -> RunSummary:
        return self._services.runs.summary(who, _key(job))


def _key(job: str) -> str:
    """Return the id that *job* is; whatever can be none is not there."""
    try:
        return asked.run_id(job)
    except PhysicsRunnerError:
        raise NotFound(f"there is no job {job[:60]!r}") from None


def _named(names: Sequence[str], ending: str) -> str | None:
    """Return the first of *names* that ends so; one that is nothing but *ending* goes first."""
    found = [name for name in names if name.endswith(ending)]
    return min(found, key=lambda name: (name != ending, name), default=None)


def _is_whole(run: RunSummary, mesh: Path) -> bool:
    """Say whether *mesh* has come to its end; while its program runs, its last line says so."""
    if run.status in TERMINAL:
        return True
    try:
        with mesh.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 64))
            return file.read().rstrip().endswith(_MESH_END)
    except OSError:
        return False
